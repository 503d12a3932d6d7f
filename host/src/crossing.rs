//! What a system call costs on a platform: leaving the guest and coming back, without anything in between.

use std::sync::Arc;
use std::time::{Duration, Instant};

use varve_core::abi::PAGE_SIZE;
use varve_core::machine::{Backing, FrameNo, Prot, Regs, SpaceId, Trap};
use varve_core::port::Memory as _;

use crate::backings::Backings;
use crate::memory::MemoryFile;
use crate::platform::{GuestThread as _, Platform, PlatformError, failed};

const CODE_AT: u64 = 0x40_0000;
/// `syscall`, and back to it.
const CODE: [u8; 4] = [0x0f, 0x05, 0xeb, 0xfc];
/// System calls in one round, and rounds: the best round counts, as the machine may be busy.
const CALLS: u32 = 64;
const ROUNDS: u32 = 8;
const SPACE: SpaceId = SpaceId(0);

/// Makes a platform and measures one system call on it.
///
/// # Errors
/// The platform does not work here; the error says why.
pub fn crossing<P: Platform>(
    make: impl FnOnce(Arc<Backings>) -> Result<P, PlatformError>,
) -> Result<Duration, PlatformError> {
    let mut memory = MemoryFile::new(1).map_err(failed("guest memory"))?;
    memory.write(0, &CODE);
    let fd = memory.fd().try_clone_to_owned();
    let fd = fd.map_err(failed("guest memory"))?;
    let platform = make(Arc::new(Backings::new(fd, Vec::new())))?;
    platform.create_space(SPACE)?;
    let code = Backing::Memory(FrameNo(0));
    platform.map(SPACE, CODE_AT, PAGE_SIZE, code, Prot::READ | Prot::EXEC)?;
    platform.flush()?;
    // On a thread of its own, as guests are run.
    std::thread::scope(|scope| {
        let measured = std::thread::Builder::new()
            .spawn_scoped(scope, || measure(&platform))
            .map_err(failed("a thread"))?;
        let died = |_| PlatformError::Bug("the thread that measures panicked".into());
        measured.join().map_err(died)?
    })
}

fn measure<P: Platform>(platform: &P) -> Result<Duration, PlatformError> {
    let mut thread = platform.new_thread(SPACE)?;
    let mut regs = Regs {
        rip: CODE_AT,
        cs: 0x33,
        ss: 0x2b,
        eflags: 0x202,
        ..Regs::default()
    };
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        for _ in 0..CALLS {
            // The result of the call, as the kernel would set it.
            regs.rax = 0;
            let trap = thread.run(&mut regs)?;
            if trap != Trap::Syscall {
                return Err(PlatformError::Host(format!(
                    "a system call gave {trap:?} at {:#x}",
                    regs.rip
                )));
            }
        }
        best = best.min(begun.elapsed() / CALLS);
    }
    Ok(best)
}
