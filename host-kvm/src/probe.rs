//! Whether guests run as they should, and what it costs to leave them: a few instructions in a new virtual
//! machine.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use varve_core::machine::{Access, Regs, Trap};
use varve_host::{GuestThread, PlatformError};

use crate::area::USER_CODE;
use crate::thread::Thread;
use crate::{Sandbox, Space};

const CODE_AT: u64 = 0x1_0000;
/// `syscall`, and back to it.
const SYSCALL: u64 = CODE_AT;
/// `ud2`.
const UNDEFINED: u64 = CODE_AT + 4;
/// `mov rax, [NOWHERE]`.
const LOAD: u64 = CODE_AT + 6;
/// `out 0x10, al`: the port of the system call stub.
const PORT: u64 = CODE_AT + 14;
/// `rdtsc; shl rdx, 32; or rdx, rax; syscall`.
const COUNTER: u64 = CODE_AT + 16;
const NOWHERE: u64 = 0x2000;

#[rustfmt::skip]
const CODE: [u8; 27] = [
    0x0f, 0x05, 0xeb, 0xfc,
    0x0f, 0x0b,
    0x48, 0x8b, 0x04, 0x25, 0x00, 0x20, 0x00, 0x00,
    0xe6, 0x10,
    0x0f, 0x31, 0x48, 0xc1, 0xe2, 0x20, 0x48, 0x09, 0xc2, 0x0f, 0x05,
];

/// Times that a guest reads its counter between two looks of ours at the host's.
const COUNTER_READS: u32 = 3;
/// System calls that are timed; the fastest counts, as the machine may be busy.
const ROUNDS: u32 = 12;

/// What the instructions told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    /// Time of one system call there and back.
    pub crossing: Duration,
    /// Guests read the host's time stamp counter.
    pub counter: bool,
}

/// Runs the instructions.
///
/// # Errors
/// What did not happen as it should.
pub(crate) fn probe(sandbox: &Arc<Sandbox>) -> Result<Found, PlatformError> {
    let code = sandbox
        .memory()
        .create_with_code(&sandbox.vm, CODE_AT, &CODE)?;
    let space = Arc::new(Space {
        root: code.0,
        ran: AtomicBool::new(false),
    });
    let result = run(sandbox, space);
    // Another thread will run the program.
    sandbox.pool.drop_free();
    sandbox.memory().drop_with_code(code);
    result
}

fn run(sandbox: &Arc<Sandbox>, space: Arc<Space>) -> Result<Found, PlatformError> {
    let mut thread = Thread::new(sandbox.clone(), space);
    let start = |rip| Regs {
        rip,
        rax: 0x1234,
        rbx: 0x5678,
        cs: u64::from(USER_CODE),
        eflags: 0x202,
        ..Regs::default()
    };
    let mut regs = start(SYSCALL);
    let trap = thread.run(&mut regs)?;
    let found = (trap, regs.rip, regs.orig_rax, regs.rbx);
    if found != (Trap::Syscall, SYSCALL + 2, 0x1234, 0x5678) {
        return Err(PlatformError::Host(format!("a system call: {found:x?}")));
    }
    if !thread.entered_stub_in_user_mode() {
        sandbox.close_stub_port(&thread);
    }
    let mut expect = |what: &str, rip: u64, trap: Trap| -> Result<(), PlatformError> {
        let mut regs = start(rip);
        let found = thread.run(&mut regs)?;
        let matches = match (found, trap) {
            (Trap::Exception(found), Trap::Exception(trap)) => found.signal == trap.signal,
            (found, trap) => found == trap,
        };
        match matches && (regs.rip, regs.rbx) == (rip, 0x5678) {
            true => Ok(()),
            false => Err(PlatformError::Host(format!(
                "{what}: {found:?} at {:#x}",
                regs.rip
            ))),
        }
    };
    expect(
        "an undefined instruction",
        UNDEFINED,
        exception(libc::SIGILL),
    )?;
    let fault = Trap::Fault {
        addr: NOWHERE,
        access: Some(Access::Read),
    };
    expect("a page fault", LOAD, fault)?;
    expect("a port instruction", PORT, exception(libc::SIGSEGV))?;
    let mut fastest = Duration::MAX;
    let mut regs = start(SYSCALL);
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        thread.run(&mut regs)?;
        fastest = fastest.min(begun.elapsed());
    }
    let mut shared = true;
    for _ in 0..COUNTER_READS {
        let mut regs = start(COUNTER);
        let before = varve_host::counter();
        thread.run(&mut regs)?;
        shared &= (before..=varve_host::counter()).contains(&regs.rdx);
    }
    Ok(Found {
        crossing: fastest,
        counter: shared,
    })
}

fn exception(signal: i32) -> Trap {
    Trap::Exception(varve_core::machine::Exception {
        signal: signal as u8,
        code: 0,
        addr: 0,
    })
}
