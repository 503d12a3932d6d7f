//! seccomp(2) on the in-memory host: modes, filters, what they do to calls and threads.

mod guest;

use guest::*;
use varve_core::machine::ThreadId;

const PRCTL: u64 = 157;
const SECCOMP: u64 = 317;
const SET_STRICT: u64 = 0;
const SET_FILTER: u64 = 1;
const TSYNC: u64 = 1;
const PR_SET_NO_NEW_PRIVS: u64 = 38;
const EACCES: i64 = 13;
const ENOMEM: i64 = 12;
const SIGSYS: u32 = 31;
const HANDLER: u64 = 0x5000;
const KILL_PROCESS: u32 = 0x8000_0000;
const KILL_THREAD: u32 = 0;
const TRAP: u32 = 0x0003_0000;
const ERRNO: u32 = 0x0005_0000;
const ALLOW: u32 = 0x7fff_0000;

fn no_new_privs(m: &mut Guests, thread: ThreadId) {
    let args = [PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0];
    assert_eq!(call(m, thread, PRCTL, &args), 0);
}

/// Installs instructions of code, jumps and constant.
fn install(m: &mut Guests, thread: ThreadId, insns: &[(u16, u8, u8, u32)], flags: u64) -> i64 {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&(insns.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&(DATA + 16).to_le_bytes());
    for (code, jt, jf, k) in insns {
        bytes.extend_from_slice(&code.to_le_bytes());
        bytes.extend_from_slice(&[*jt, *jf]);
        bytes.extend_from_slice(&k.to_le_bytes());
    }
    m.poke(thread, DATA, &bytes).unwrap();
    call(m, thread, SECCOMP, &[SET_FILTER, flags, DATA])
}

/// A filter with an answer for one call.
fn on(m: &mut Guests, thread: ThreadId, number: u64, value: u32, flags: u64) -> i64 {
    let insns = [
        (0x20, 0, 0, 0),
        (0x15, 0, 1, number as u32),
        (6, 0, 0, value),
        (6, 0, 0, ALLOW),
    ];
    install(m, thread, &insns, flags)
}

#[test]
fn the_strictest_filter_decides_and_children_keep_all() {
    let mut m = boot();
    let init = m.first();
    assert_eq!(on(&mut m, init, GETPPID, ALLOW, 0), -EACCES);
    no_new_privs(&mut m, init);
    assert_eq!(on(&mut m, init, GETPPID, ERRNO | 5, 0), 0);
    assert_eq!(on(&mut m, init, GETPPID, ALLOW, 0), 0);
    assert_eq!(call(&mut m, init, GETPPID, &[]), -5);
    assert_eq!(on(&mut m, init, GETPPID, ERRNO | 6, 0), 0);
    assert_eq!(call(&mut m, init, GETPPID, &[]), -6);
    let child = fork(&mut m, init);
    assert_eq!(call(&mut m, child, GETPPID, &[]), -6);
    assert_eq!(on(&mut m, child, GETPPID, TRAP | 7, 0), 0);
    sigaction(&mut m, child, SIGSYS, HANDLER, SA_SIGINFO, 0);
    m.call(child, GETPPID, &[]);
    let regs = m.threads[&child].regs;
    assert_eq!(regs.rip, HANDLER);
    assert_eq!(word(&mut m, child, regs.rsi + 4), 7, "si_errno");
    assert_eq!(
        word(&mut m, child, regs.rsi + 24),
        GETPPID as u32,
        "si_syscall"
    );
    gone(&mut m, child, EXIT_GROUP, &[0]);
    assert_eq!(
        call(&mut m, init, GETPPID, &[]),
        -6,
        "the parent has its own"
    );
}

#[test]
fn killing_ends_a_thread_or_all_of_them() {
    let mut m = boot();
    let init = m.first();
    no_new_privs(&mut m, init);
    let child = fork(&mut m, init);
    let pid = m.result(init).unwrap() as u64;
    let other = thread(&mut m, child);
    assert_eq!(on(&mut m, child, GETPPID, KILL_THREAD, TSYNC), 0);
    assert_eq!(on(&mut m, child, GETSID, KILL_PROCESS, TSYNC), 0);
    gone(&mut m, other, GETPPID, &[]);
    assert!(m.threads.contains_key(&child));
    gone(&mut m, child, GETSID, &[0]);
    assert_eq!(call(&mut m, init, WAIT4, &[pid, DATA, 0, 0]), pid as i64);
    assert_eq!(word(&mut m, init, DATA), SIGSYS);
}

#[test]
fn strict_mode_leaves_four_calls() {
    let mut m = boot();
    let init = m.first();
    let child = fork(&mut m, init);
    let pid = m.result(init).unwrap() as u64;
    assert_eq!(call(&mut m, child, SECCOMP, &[SET_STRICT, 0, 0]), 0);
    assert_eq!(call(&mut m, child, 1, &[99, DATA, 0]), -9, "write");
    gone(&mut m, child, GETPID, &[]);
    assert_eq!(call(&mut m, init, WAIT4, &[pid, DATA, 0, 0]), pid as i64);
    assert_eq!(word(&mut m, init, DATA), 9);
}

#[test]
fn filters_are_bounded_for_a_task() {
    let mut m = boot();
    let init = m.first();
    no_new_privs(&mut m, init);
    let allow = vec![(6, 0, 0, ALLOW); 400];
    let mut count = 0;
    let refused = loop {
        match install(&mut m, init, &allow, 0) {
            0 => count += 1,
            errno => break errno,
        }
    };
    assert_eq!((count, refused), (81, -ENOMEM), "81 * 404 - 4 <= 32768");
    assert_eq!(call(&mut m, init, GETPPID, &[]), 0);
}

#[test]
fn threads_with_filters_of_their_own_do_not_follow() {
    let mut m = boot();
    let init = m.first();
    no_new_privs(&mut m, init);
    let other = thread(&mut m, init);
    let tid = i64::from(word(&mut m, init, TID));
    assert_eq!(on(&mut m, other, GETSID, ERRNO | 1, 0), 0);
    assert_eq!(on(&mut m, init, GETPPID, ERRNO | 2, TSYNC), tid);
    assert_eq!(call(&mut m, init, GETPPID, &[]), 0, "nothing was done");
    assert_eq!(on(&mut m, init, GETPPID, ERRNO | 2, TSYNC | 16), -ESRCH);
}
