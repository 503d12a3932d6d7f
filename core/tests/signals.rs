//! Signals on the in-memory host: sending, masks, frames, restart, job control.

mod guest;

use guest::*;
use varve_core::event::{ExitStatus, Input, Output};
use varve_core::machine::{Access, Exception, Regs, ThreadId, Trap};

const SIGINT: u32 = 2;
const SIGFPE: u32 = 8;
const SIGKILL: u32 = 9;
const SIGUSR1: u32 = 10;
const SIGSEGV: u32 = 11;
const SIGUSR2: u32 = 12;
const SIGTERM: u32 = 15;
const SIGCONT: u32 = 18;
const SIGSTOP: u32 = 19;
const SIGTSTP: u32 = 20;
const SIGRT: u32 = 34;
const HANDLER: u64 = 0x5000;
const READ: u64 = 0;
const PIPE: u64 = 22;
const NANOSLEEP: u64 = 35;

/// Offsets in a signal frame (asm/sigcontext.h, asm/ucontext.h).
const UC_FLAGS: u64 = 8;
const UC_STACK: u64 = 24;
const MC: u64 = 48;
const MC_RDI: u64 = MC + 64;
const MC_RAX: u64 = MC + 104;
const MC_RSP: u64 = MC + 120;
const MC_RIP: u64 = MC + 128;
const MC_CS: u64 = MC + 144;
const MC_TRAPNO: u64 = MC + 160;
const MC_CR2: u64 = MC + 176;
const MC_FPSTATE: u64 = MC + 184;
const UC_SIGMASK: u64 = MC + 256;
const INFO: u64 = UC_SIGMASK + 8;

fn regs(m: &Guests, thread: ThreadId) -> Regs {
    m.threads[&thread].regs
}

fn mask(m: &mut Guests, thread: ThreadId, how: u64, set: u64) {
    m.poke(thread, SIG, &set.to_le_bytes()).unwrap();
    assert_eq!(call(m, thread, SIGPROCMASK, &[how, SIG, 0, 8]), 0);
}

fn bit(signal: u32) -> u64 {
    1 << (signal - 1)
}

/// Comes back from a handler.
fn sigreturn(m: &mut Guests, thread: ThreadId) {
    // The handler has returned to the restorer: the return address is off the stack.
    let mut now = regs(m, thread);
    now.rsp += 8;
    m.threads.get_mut(&thread).unwrap().regs = now;
    m.call(thread, SIGRETURN, &[]);
    m.kernel.check().unwrap();
}

#[test]
fn a_handler_gets_a_frame_as_linux_lays_it_out() {
    let mut m = boot();
    let init = m.first();
    sigaction(&mut m, init, SIGUSR1, HANDLER, SA_SIGINFO, bit(SIGUSR2));
    mask(&mut m, init, 2, bit(SIGINT));
    let before = regs(&m, init);
    m.call(init, KILL, &[1, u64::from(SIGUSR1)]);
    m.kernel.check().unwrap();
    let now = regs(&m, init);
    let frame = now.rsp;
    assert_eq!(now.rip, HANDLER);
    assert_eq!(
        (now.rdi, now.rsi, now.rdx, now.rax),
        (10, frame + INFO, frame + UC_FLAGS, 0)
    );
    assert_eq!(frame % 16, 8, "as after a call");
    assert!(frame < before.rsp - 128, "the red zone stays");
    assert_eq!(long(&mut m, init, frame), RESTORER);
    assert_eq!(long(&mut m, init, frame + UC_FLAGS), 7);
    assert_eq!(
        long(&mut m, init, frame + UC_STACK + 8) as u32,
        2,
        "SS_DISABLE"
    );
    assert_eq!(
        long(&mut m, init, frame + MC_RDI),
        1,
        "the first argument of kill"
    );
    assert_eq!(long(&mut m, init, frame + MC_RAX), 0, "its result");
    assert_eq!(long(&mut m, init, frame + MC_RSP), before.rsp);
    assert_eq!(long(&mut m, init, frame + MC_RIP), before.rip);
    assert_eq!(long(&mut m, init, frame + MC_CS), 0x33 | 0x2b << 48);
    assert_eq!(long(&mut m, init, frame + UC_SIGMASK), bit(SIGINT));
    assert_eq!(word(&mut m, init, frame + INFO), SIGUSR1);
    assert_eq!(word(&mut m, init, frame + INFO + 8), 0, "SI_USER");
    assert_eq!(word(&mut m, init, frame + INFO + 16), 1, "si_pid");
    let fpstate = long(&mut m, init, frame + MC_FPSTATE);
    assert_eq!(fpstate % 64, 0);
    assert!(fpstate >= frame + INFO + 128);
    assert_eq!(
        word(&mut m, init, fpstate + 464),
        0x4650_5853,
        "FP_XSTATE_MAGIC1"
    );
    assert_eq!(word(&mut m, init, fpstate + 468), 836);
    assert_eq!(long(&mut m, init, fpstate + 472), 7, "x87, SSE, AVX");
    assert_eq!(word(&mut m, init, fpstate + 480), 832);
    assert_eq!(
        word(&mut m, init, fpstate + 832),
        0x4650_5845,
        "FP_XSTATE_MAGIC2"
    );
    // In the handler: its signal and sa_mask are blocked too.
    call(&mut m, init, SIGPROCMASK, &[0, 0, DATA, 8]);
    assert_eq!(
        long(&mut m, init, DATA),
        bit(SIGINT) | bit(SIGUSR1) | bit(SIGUSR2)
    );
    sigreturn(&mut m, init);
    let after = regs(&m, init);
    assert_eq!(
        (after.rip, after.rsp, after.rax, after.rdi),
        (before.rip, before.rsp, 0, 1)
    );
    call(&mut m, init, SIGPROCMASK, &[0, 0, DATA, 8]);
    assert_eq!(long(&mut m, init, DATA), bit(SIGINT));
}

#[test]
fn floating_point_state_comes_back() {
    let mut m = boot();
    let init = m.first();
    sigaction(&mut m, init, SIGUSR1, HANDLER, 0, 0);
    use varve_core::port::Xstate;
    let mut state = vec![0u8; 832];
    state[160] = 0x5a; // xmm0
    state[512] = 3;
    m.host.xstate.write(init, &state).unwrap();
    m.call(init, KILL, &[1, u64::from(SIGUSR1)]);
    let mut fresh = vec![1u8; 832];
    m.host.xstate.read(init, &mut fresh);
    assert_eq!(fresh[160], 0, "a handler starts with fresh state");
    sigreturn(&mut m, init);
    m.host.xstate.read(init, &mut fresh);
    assert_eq!((fresh[160], fresh[512]), (0x5a, 3));
}

#[test]
fn a_damaged_frame_is_a_segmentation_fault() {
    for (offset, value) in [(MC_CS, 0u64), (MC_CS, 0x23), (MC_RIP, 0x8000_0000_0000)] {
        let mut m = boot();
        let init = m.first();
        let child = fork(&mut m, init);
        sigaction(&mut m, child, SIGUSR1, HANDLER, 0, 0);
        m.call(child, KILL, &[2, u64::from(SIGUSR1)]);
        let frame = regs(&m, child).rsp;
        m.poke(child, frame + offset, &value.to_le_bytes()).unwrap();
        let mut now = regs(&m, child);
        now.rsp += 8;
        m.threads.get_mut(&child).unwrap().regs = now;
        gone(&mut m, child, SIGRETURN, &[]);
        call(&mut m, init, WAIT4, &[ANY, DATA, 0, 0]);
        assert_eq!(word(&mut m, init, DATA), SIGSEGV);
    }
}

#[test]
fn no_room_for_a_frame_is_deadly() {
    let mut m = boot();
    let init = m.first();
    let child = fork(&mut m, init);
    sigaction(&mut m, child, SIGUSR1, HANDLER, 0, 0);
    m.threads.get_mut(&child).unwrap().regs.rsp = 64;
    gone(&mut m, child, KILL, &[2, u64::from(SIGUSR1)]);
    call(&mut m, init, WAIT4, &[ANY, DATA, 0, 0]);
    assert_eq!(word(&mut m, init, DATA), SIGSEGV);
}

#[test]
fn the_alternate_stack_is_used_when_asked_for() {
    const STACK: u64 = DATA + 0x8000;
    let mut m = boot();
    let init = m.first();
    let stack = |flags: u64, size: u64| -> Vec<u8> {
        [STACK, flags, size]
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect()
    };
    m.poke(init, SIG, &stack(0, 1024)).unwrap();
    assert_eq!(call(&mut m, init, SIGALTSTACK, &[SIG, 0]), -12);
    m.poke(init, SIG, &stack(8, 0x4000)).unwrap();
    assert_eq!(call(&mut m, init, SIGALTSTACK, &[SIG, 0]), -EINVAL);
    m.poke(init, SIG, &stack(0, 0x4000)).unwrap();
    assert_eq!(call(&mut m, init, SIGALTSTACK, &[SIG, 0]), 0);
    sigaction(&mut m, init, SIGUSR1, HANDLER, SA_ONSTACK, 0);
    let before = regs(&m, init).rsp;
    m.call(init, KILL, &[1, u64::from(SIGUSR1)]);
    let frame = regs(&m, init).rsp;
    assert!((STACK..STACK + 0x4000).contains(&frame));
    assert_eq!(long(&mut m, init, frame + MC_RSP), before);
    assert_eq!(call(&mut m, init, SIGALTSTACK, &[0, DATA]), 0);
    assert_eq!(word(&mut m, init, DATA + 8), 1, "SS_ONSTACK");
    m.poke(init, SIG, &stack(2, 0)).unwrap();
    assert_eq!(
        call(&mut m, init, SIGALTSTACK, &[SIG, 0]),
        -EPERM,
        "while it is in use"
    );
    sigreturn(&mut m, init);
    assert_eq!(regs(&m, init).rsp, before);
}

#[test]
fn an_interrupted_call_is_restarted_or_fails() {
    for (flags, restarts) in [(SA_RESTART, true), (0, false)] {
        let mut m = boot();
        let init = m.first();
        sigaction(&mut m, init, SIGCHLD, HANDLER, flags, 0);
        assert_eq!(call(&mut m, init, PIPE, &[DATA]), 0);
        let fd = u64::from(word(&mut m, init, DATA));
        let child = fork(&mut m, init);
        let rip = regs(&m, init).rip;
        parks(&mut m, init, READ, &[fd, DATA, 16]);
        gone(&mut m, child, EXIT, &[0]);
        let frame = regs(&m, init).rsp;
        assert_eq!(regs(&m, init).rip, HANDLER);
        let (rax, back) = (
            long(&mut m, init, frame + MC_RAX),
            long(&mut m, init, frame + MC_RIP),
        );
        match restarts {
            true => assert_eq!((rax, back), (READ, rip.wrapping_sub(2))),
            false => assert_eq!((rax as i64, back), (-EINTR, rip)),
        }
    }
}

#[test]
fn a_signal_without_a_handler_does_not_disturb_a_call() {
    let mut m = boot();
    let init = m.first();
    let child = fork(&mut m, init);
    m.poke(
        init,
        DATA,
        &[2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    )
    .unwrap();
    parks(&mut m, init, NANOSLEEP, &[DATA, 0]);
    m.advance(1_000_000_000);
    gone(&mut m, child, EXIT, &[0]);
    assert_eq!(m.result(init), None, "SIGCHLD does nothing by default");
    m.advance(900_000_000);
    assert_eq!(m.result(init), None);
    m.advance(200_000_000);
    assert_eq!(m.result(init), Some(0), "the sleep was not longer for it");
}

#[test]
fn sleeping_ends_with_a_handler() {
    let mut m = boot();
    let init = m.first();
    sigaction(&mut m, init, SIGCHLD, HANDLER, SA_RESTART, 0);
    let child = fork(&mut m, init);
    m.poke(
        init,
        DATA,
        &[2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    )
    .unwrap();
    parks(&mut m, init, NANOSLEEP, &[DATA, 0]);
    gone(&mut m, child, EXIT, &[0]);
    let frame = regs(&m, init).rsp;
    assert_eq!(long(&mut m, init, frame + MC_RAX) as i64, -EINTR);
}

/// A signal comes while the host has written already but not said so: nothing may be written twice.
#[test]
fn a_signal_during_a_write_of_the_host_waits_for_its_end() {
    const WRITE: u64 = 1;
    let mut m = boot();
    let init = m.first();
    sigaction(&mut m, init, SIGCHLD, HANDLER, SA_RESTART, 0);
    let child = fork(&mut m, init);
    m.poke(init, DATA, b"once").unwrap();
    m.stalled = true;
    parks(&mut m, init, WRITE, &[1, DATA, 4]);
    gone(&mut m, child, EXIT, &[0]);
    assert_eq!(m.result(init), None, "the write is still under way");
    m.stalled = false;
    m.serve();
    m.kernel.check().unwrap();
    let frame = regs(&m, init).rsp;
    assert_eq!(regs(&m, init).rip, HANDLER);
    assert_eq!(long(&mut m, init, frame + MC_RAX), 4);
    assert_eq!(m.written[1], b"once");
    // A read that got nothing is restarted.
    sigreturn(&mut m, init);
    let child = fork(&mut m, init);
    parks(&mut m, init, READ, &[0, DATA, 4]);
    gone(&mut m, child, EXIT, &[0]);
    let frame = regs(&m, init).rsp;
    assert_eq!(long(&mut m, init, frame + MC_RAX), READ);
}

#[test]
fn pause_and_sigsuspend_end_with_a_handler_alone() {
    let mut m = boot();
    let init = m.first();
    let child = fork(&mut m, init);
    sigaction(&mut m, child, SIGUSR1, HANDLER, SA_RESTART, 0);
    mask(&mut m, child, 0, bit(SIGUSR1));
    m.poke(child, SIG, &bit(SIGUSR2).to_le_bytes()).unwrap();
    parks(&mut m, child, SIGSUSPEND, &[SIG, 8]);
    assert_eq!(call(&mut m, init, KILL, &[2, 17]), 0);
    assert_eq!(m.result(child), None, "SIGCHLD is ignored");
    assert_eq!(call(&mut m, init, KILL, &[2, u64::from(SIGUSR1)]), 0);
    let frame = regs(&m, child).rsp;
    assert_eq!(regs(&m, child).rip, HANDLER);
    assert_eq!(long(&mut m, child, frame + MC_RAX) as i64, -EINTR);
    assert_eq!(
        long(&mut m, child, frame + UC_SIGMASK),
        bit(SIGUSR1),
        "the mask before the call"
    );
    call(&mut m, child, SIGPROCMASK, &[0, 0, DATA, 8]);
    assert_eq!(long(&mut m, child, DATA), bit(SIGUSR1) | bit(SIGUSR2));
    sigreturn(&mut m, child);
    call(&mut m, child, SIGPROCMASK, &[0, 0, DATA, 8]);
    assert_eq!(long(&mut m, child, DATA), bit(SIGUSR1));
    parks(&mut m, child, PAUSE, &[]);
    call(&mut m, init, KILL, &[2, u64::from(SIGTERM)]);
    assert!(!m.threads.contains_key(&child));
}

#[test]
fn standard_signals_wait_once_and_real_time_signals_queue() {
    let mut m = boot();
    let init = m.first();
    mask(&mut m, init, 0, bit(SIGUSR1) | bit(SIGRT) | bit(SIGRT + 1));
    for _ in 0..3 {
        assert_eq!(call(&mut m, init, KILL, &[1, u64::from(SIGUSR1)]), 0);
        assert_eq!(call(&mut m, init, KILL, &[1, u64::from(SIGRT + 1)]), 0);
    }
    for value in [5u64, 6] {
        let mut info = [0u8; 128];
        info[8..12].copy_from_slice(&(-1i32).to_le_bytes());
        info[24..32].copy_from_slice(&value.to_le_bytes());
        m.poke(init, SIG, &info).unwrap();
        assert_eq!(
            call(&mut m, init, SIGQUEUEINFO, &[1, u64::from(SIGRT), SIG]),
            0
        );
    }
    assert_eq!(call(&mut m, init, SIGPENDING, &[DATA, 8]), 0);
    assert_eq!(
        long(&mut m, init, DATA),
        bit(SIGUSR1) | bit(SIGRT) | bit(SIGRT + 1)
    );
    m.poke(init, SIG, &u64::MAX.to_le_bytes()).unwrap();
    m.poke(init, TID, &[0; 16]).unwrap();
    let mut got = vec![];
    loop {
        let signal = call(&mut m, init, SIGTIMEDWAIT, &[SIG, DATA, TID, 8]);
        if signal < 0 {
            assert_eq!(signal, -EAGAIN);
            break;
        }
        got.push((signal as u32, word(&mut m, init, DATA + 24)));
    }
    assert_eq!(
        got,
        [
            (SIGUSR1, 0),
            (SIGRT, 5),
            (SIGRT, 6),
            (SIGRT + 1, 0),
            (SIGRT + 1, 0),
            (SIGRT + 1, 0)
        ]
    );
}

#[test]
fn sigtimedwait_takes_blocked_signals_and_times_out() {
    let mut m = boot();
    let init = m.first();
    let child = fork(&mut m, init);
    mask(&mut m, init, 0, bit(SIGUSR1));
    m.poke(init, SIG, &bit(SIGUSR1).to_le_bytes()).unwrap();
    parks(&mut m, init, SIGTIMEDWAIT, &[SIG, DATA, 0, 8]);
    assert_eq!(call(&mut m, child, KILL, &[1, u64::from(SIGUSR1)]), 0);
    assert_eq!(m.result(init), Some(i64::from(SIGUSR1)));
    assert_eq!(word(&mut m, init, DATA + 16), 2, "si_pid");
    m.poke(init, TID, &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
        .unwrap();
    parks(&mut m, init, SIGTIMEDWAIT, &[SIG, DATA, TID, 8]);
    m.advance(1_100_000_000);
    assert_eq!(m.result(init), Some(-EAGAIN));
}

#[test]
fn the_first_process_is_not_killed_from_inside() {
    let mut m = boot();
    let init = m.first();
    let child = fork(&mut m, init);
    for signal in [SIGTERM, SIGKILL, SIGSTOP, SIGRT] {
        assert_eq!(call(&mut m, init, KILL, &[1, u64::from(signal)]), 0);
        assert_eq!(call(&mut m, child, KILL, &[1, u64::from(signal)]), 0);
    }
    assert_eq!(call(&mut m, init, GETPID, &[]), 1);
    m.input(Input::Signal {
        signal: SIGTERM as u8,
    });
    m.serve();
    assert_eq!(
        m.exit,
        Some(ExitStatus::Signaled(SIGTERM as u8)),
        "but from outside"
    );
}

#[test]
fn its_own_fault_kills_even_the_first_process() {
    let mut m = boot();
    let init = m.first();
    let now = regs(&m, init);
    let trap = Trap::Fault {
        addr: 8,
        access: Some(Access::Read),
    };
    m.trap(init, now, trap);
    assert_eq!(m.exit, Some(ExitStatus::Signaled(SIGSEGV as u8)));
}

#[test]
fn a_fault_tells_its_handler_where() {
    let mut m = boot();
    let init = m.first();
    sigaction(&mut m, init, SIGSEGV, HANDLER, SA_SIGINFO, 0);
    sigaction(&mut m, init, SIGFPE, HANDLER, SA_SIGINFO | SA_NODEFER, 0);
    let now = regs(&m, init);
    m.trap(
        init,
        now,
        Trap::Fault {
            addr: 0x1234,
            access: Some(Access::Write),
        },
    );
    let frame = regs(&m, init).rsp;
    assert_eq!(word(&mut m, init, frame + INFO), SIGSEGV);
    assert_eq!(word(&mut m, init, frame + INFO + 8), 1, "SEGV_MAPERR");
    assert_eq!(long(&mut m, init, frame + INFO + 16), 0x1234);
    assert_eq!(long(&mut m, init, frame + MC_CR2), 0x1234);
    assert_eq!(long(&mut m, init, frame + MC_TRAPNO), 14);
    let divide = Exception {
        signal: SIGFPE as u8,
        code: 1,
        addr: 0x77,
    };
    let now = regs(&m, init);
    m.trap(init, now, Trap::Exception(divide));
    let frame = regs(&m, init).rsp;
    assert_eq!(word(&mut m, init, frame + INFO), SIGFPE);
    assert_eq!(long(&mut m, init, frame + INFO + 16), 0x77);
    assert_eq!(long(&mut m, init, frame + MC_TRAPNO), 0);
    // A second fault in the handler of the first, whose signal is blocked now, is deadly.
    let now = regs(&m, init);
    m.trap(
        init,
        now,
        Trap::Fault {
            addr: 0x1234,
            access: Some(Access::Write),
        },
    );
    assert_eq!(m.exit, Some(ExitStatus::Signaled(SIGSEGV as u8)));
}

#[test]
fn a_running_thread_is_interrupted() {
    let mut m = boot();
    let init = m.first();
    let child = fork(&mut m, init);
    m.tick = 1;
    m.call(init, KILL, &[2, u64::from(SIGKILL)]);
    assert!(
        !m.threads.contains_key(&child),
        "it spins, and is killed all the same"
    );
    let interrupts = |m: &Guests| {
        m.log
            .iter()
            .filter(|(_, input)| {
                matches!(
                    input,
                    Input::Trap {
                        trap: Trap::Interrupted,
                        ..
                    }
                )
            })
            .count()
    };
    assert_eq!(interrupts(&m), 1);
    call(&mut m, init, WAIT4, &[ANY, DATA, 0, 0]);
    assert_eq!(word(&mut m, init, DATA), SIGKILL);
}

#[test]
fn processes_are_stopped_and_continued() {
    let mut m = boot();
    let init = m.first();
    sigaction(&mut m, init, SIGCHLD, SIG_DFL, SA_NOCLDSTOP, 0);
    let child = fork(&mut m, init);
    let other = thread(&mut m, child);
    parks(&mut m, other, PAUSE, &[]);
    assert_eq!(
        call(&mut m, init, WAIT4, &[ANY, DATA, WNOHANG | WUNTRACED, 0]),
        0
    );
    assert_eq!(call(&mut m, init, KILL, &[2, u64::from(SIGSTOP)]), 0);
    assert!(!m.threads[&child].runs);
    assert_eq!(
        call(&mut m, init, WAIT4, &[ANY, DATA, WNOHANG | WUNTRACED, 0]),
        2
    );
    assert_eq!(word(&mut m, init, DATA), SIGSTOP << 8 | 0x7f);
    assert_eq!(
        call(&mut m, init, WAIT4, &[ANY, DATA, WNOHANG | WUNTRACED, 0]),
        0,
        "told once"
    );
    // Other signals wait until it goes on.
    sigaction(&mut m, init, SIGCHLD, SIG_DFL, 0, 0);
    assert_eq!(call(&mut m, init, KILL, &[2, u64::from(SIGTERM)]), 0);
    assert!(m.threads.contains_key(&child));
    assert_eq!(call(&mut m, init, KILL, &[2, u64::from(SIGCONT)]), 0);
    for thread in [child, other] {
        assert!(!m.threads.contains_key(&thread), "SIGTERM was waiting");
    }
    assert_eq!(call(&mut m, init, WAIT4, &[ANY, DATA, WCONTINUED, 0]), 2);
    assert_eq!(word(&mut m, init, DATA), SIGTERM);
}

#[test]
fn a_stopped_process_goes_on_or_dies() {
    let mut m = boot();
    let init = m.first();
    let child = fork(&mut m, init);
    let other = fork(&mut m, init);
    call(&mut m, init, KILL, &[2, u64::from(SIGSTOP)]);
    assert_eq!(call(&mut m, init, KILL, &[2, u64::from(SIGCONT)]), 0);
    assert!(m.threads[&child].runs);
    assert_eq!(call(&mut m, init, WAIT4, &[ANY, DATA, WCONTINUED, 0]), 2);
    assert_eq!(word(&mut m, init, DATA), 0xffff);
    call(&mut m, init, KILL, &[3, u64::from(SIGSTOP)]);
    call(&mut m, init, KILL, &[3, u64::from(SIGKILL)]);
    assert!(!m.threads.contains_key(&other));
    assert_eq!(call(&mut m, init, WAIT4, &[3, DATA, 0, 0]), 3);
    assert_eq!(word(&mut m, init, DATA), SIGKILL);
}

#[test]
fn terminal_stops_spare_orphaned_groups() {
    let mut m = boot();
    let init = m.first();
    let child = fork(&mut m, init);
    // In the group of the first process, whose parent is nobody, it has no shell to continue it.
    call(&mut m, init, KILL, &[2, u64::from(SIGTSTP)]);
    assert!(m.threads[&child].runs);
    call(&mut m, init, SETPGID, &[2, 2]);
    call(&mut m, init, KILL, &[2, u64::from(SIGTSTP)]);
    assert!(!m.threads[&child].runs);
}

#[test]
fn a_group_that_loses_its_shell_is_hung_up() {
    let mut m = boot();
    let init = m.first();
    let shell = fork(&mut m, init);
    call(&mut m, shell, SETSID, &[]);
    let job = fork(&mut m, shell);
    call(&mut m, shell, SETPGID, &[3, 3]);
    call(&mut m, shell, KILL, &[3, u64::from(SIGSTOP)]);
    gone(&mut m, shell, EXIT, &[0]);
    assert!(!m.threads.contains_key(&job), "SIGHUP");
    call(&mut m, init, WAIT4, &[3, DATA, 0, 0]);
    assert_eq!(word(&mut m, init, DATA), 1);
}

#[test]
fn a_deadly_signal_ends_all_threads() {
    let mut m = boot();
    let init = m.first();
    let child = fork(&mut m, init);
    let one = thread(&mut m, child);
    let two = thread(&mut m, child);
    parks(&mut m, one, PAUSE, &[]);
    let tid = call(&mut m, two, GETTID, &[]) as u64;
    call(&mut m, init, TGKILL, &[2, tid, u64::from(SIGINT)]);
    for thread in [child, one, two] {
        assert!(!m.threads.contains_key(&thread));
    }
    call(&mut m, init, WAIT4, &[ANY, DATA, 0, 0]);
    assert_eq!(word(&mut m, init, DATA), SIGINT);
}

#[test]
fn a_process_signal_finds_a_thread_that_takes_it() {
    let mut m = boot();
    let init = m.first();
    sigaction(&mut m, init, SIGUSR1, HANDLER, 0, 0);
    let other = thread(&mut m, init);
    mask(&mut m, init, 0, bit(SIGUSR1));
    call(&mut m, init, KILL, &[1, u64::from(SIGUSR1)]);
    assert_eq!(regs(&m, other).rip, HANDLER);
    // A thread that blocks it later passes it on.
    let third = thread(&mut m, init);
    parks(&mut m, third, PAUSE, &[]);
    assert_eq!(m.result(third), None);
}

#[test]
fn reset_handlers_run_once() {
    let mut m = boot();
    let init = m.first();
    sigaction(&mut m, init, SIGUSR1, HANDLER, SA_RESETHAND | SA_NODEFER, 0);
    m.call(init, KILL, &[1, u64::from(SIGUSR1)]);
    assert_eq!(regs(&m, init).rip, HANDLER);
    call(&mut m, init, SIGPROCMASK, &[0, 0, DATA, 8]);
    assert_eq!(long(&mut m, init, DATA), 0);
    assert_eq!(
        call(&mut m, init, SIGACTION, &[u64::from(SIGUSR1), 0, DATA, 8]),
        0
    );
    assert_eq!(long(&mut m, init, DATA), SIG_DFL);
}

#[test]
fn signal_calls_refuse_what_linux_refuses() {
    let mut m = boot();
    let init = m.first();
    assert_eq!(call(&mut m, init, SIGACTION, &[0, 0, 0, 8]), -EINVAL);
    assert_eq!(call(&mut m, init, SIGACTION, &[65, 0, 0, 8]), -EINVAL);
    assert_eq!(call(&mut m, init, SIGACTION, &[9, SIG, 0, 8]), -EINVAL);
    assert_eq!(call(&mut m, init, SIGACTION, &[9, 0, DATA, 8]), 0);
    assert_eq!(call(&mut m, init, SIGACTION, &[10, 0, 0, 4]), -EINVAL);
    assert_eq!(call(&mut m, init, SIGACTION, &[10, 8, 0, 8]), -EFAULT);
    assert_eq!(call(&mut m, init, SIGPROCMASK, &[9, SIG, 0, 8]), -EINVAL);
    assert_eq!(
        call(&mut m, init, SIGPROCMASK, &[9, 0, 0, 8]),
        0,
        "how counts only with a set"
    );
    assert_eq!(call(&mut m, init, KILL, &[1, 65]), -EINVAL);
    assert_eq!(call(&mut m, init, KILL, &[99, 65]), -ESRCH);
    assert_eq!(call(&mut m, init, KILL, &[-99i64 as u64, 0]), -ESRCH);
    assert_eq!(call(&mut m, init, KILL, &[u64::MAX, 0]), -ESRCH);
    assert_eq!(call(&mut m, init, TKILL, &[0, 0]), -EINVAL);
    assert_eq!(call(&mut m, init, TGKILL, &[2, 1, 0]), -ESRCH);
    assert_eq!(call(&mut m, init, TGKILL, &[1, 0, 0]), -EINVAL);
    // SIGKILL and SIGSTOP cannot be blocked.
    mask(&mut m, init, 2, u64::MAX);
    call(&mut m, init, SIGPROCMASK, &[0, 0, DATA, 8]);
    assert_eq!(long(&mut m, init, DATA), !(bit(SIGKILL) | bit(SIGSTOP)));
}

#[test]
fn interruptions_are_asked_for_once() {
    let mut m = boot();
    let init = m.first();
    let child = fork(&mut m, init);
    mask(&mut m, child, 2, 0);
    sigaction(&mut m, child, SIGUSR1, HANDLER, 0, 0);
    let mut now = regs(&m, init);
    (now.orig_rax, now.rdi, now.rsi) = (KILL, 2, u64::from(SIGUSR1));
    m.threads.get_mut(&init).unwrap().runs = false;
    m.input(Input::Trap {
        thread: init,
        regs: now,
        trap: Trap::Syscall,
    });
    assert!(m.last.contains(&Output::Interrupt(child)));
    m.threads.get_mut(&init).unwrap().runs = false;
    m.input(Input::Trap {
        thread: init,
        regs: now,
        trap: Trap::Syscall,
    });
    assert!(!m.last.contains(&Output::Interrupt(child)));
}

/// What the first process passes over because it is the first one is said once for each signal; what others
/// send it, too.
#[test]
fn the_first_process_says_what_it_ignores() {
    const TERM: u64 = 15;
    const ABRT: u64 = 6;
    const CHLD: u64 = 17;
    let mut m = boot();
    let t = m.first();
    let told = |m: &Guests, what: &str| {
        let lines = m.lines.iter().filter(|line| line.contains(what));
        lines.count()
    };
    for signal in [TERM, TERM, ABRT, CHLD] {
        assert_eq!(call(&mut m, t, KILL, &[1, signal]), 0);
    }
    assert_eq!(told(&m, "the first process ignores SIGTERM"), 1);
    assert_eq!(told(&m, "the first process ignores SIGABRT"), 1);
    // Nobody acts on this one.
    assert_eq!(told(&m, "SIGCHLD"), 0);
    let child = fork(&mut m, t);
    assert_eq!(call(&mut m, child, KILL, &[1, 10]), 0);
    assert_eq!(told(&m, "the first process ignores SIGUSR1"), 1);
    assert_eq!(told(&m, "the first process ignores"), 3);
}
