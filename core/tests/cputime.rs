//! Processor time on the in-memory host: what threads run, and what expires by it.

mod guest;

use guest::*;
use varve_core::event::ExitStatus;
use varve_core::machine::ThreadId;

const MMAP: u64 = 9;
const MUNMAP: u64 = 11;
const NANOSLEEP: u64 = 35;
const GETITIMER: u64 = 36;
const SETITIMER: u64 = 38;
const GETRUSAGE: u64 = 98;
const TIMES: u64 = 100;
const SETRLIMIT: u64 = 160;
const TIMER_CREATE: u64 = 222;
const TIMER_SETTIME: u64 = 223;
const CLOCK_GETTIME: u64 = 228;
const CLOCK_NANOSLEEP: u64 = 230;
const ITIMER_VIRTUAL: u64 = 1;
const ITIMER_PROF: u64 = 2;
const CLOCK_PROCESS: u64 = 2;
const CLOCK_THREAD: u64 = 3;
const RLIMIT_CPU: u64 = 0;
const SIGXCPU: u32 = 24;
const SIGVTALRM: u32 = 26;
const SIGPROF: u32 = 27;
const HANDLER: u64 = 0x5000;
const MS: u64 = 1_000_000;

/// Time passes only when a test lets it.
fn exact() -> Guests {
    let mut m = boot();
    m.tick = 0;
    m
}

fn words(m: &mut Guests, thread: ThreadId, words: &[u64]) {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    m.poke(thread, DATA, &bytes).unwrap();
}

/// Milliseconds on a clock, as the calling thread sees it.
fn clock(m: &mut Guests, thread: ThreadId, clock: u64) -> u64 {
    assert_eq!(call(m, thread, CLOCK_GETTIME, &[clock, DATA]), 0);
    (long(m, thread, DATA) * 1000 * MS + long(m, thread, DATA + 8)) / MS
}

#[test]
fn time_passes_for_those_that_run() {
    let mut m = exact();
    let init = m.first();
    let other = thread(&mut m, init);
    m.advance(10 * MS);
    assert_eq!(clock(&mut m, init, CLOCK_THREAD), 10);
    assert_eq!(clock(&mut m, init, CLOCK_PROCESS), 20, "the other one runs");
    parks(&mut m, other, PAUSE, &[]);
    m.advance(10 * MS);
    assert_eq!(clock(&mut m, init, CLOCK_THREAD), 20);
    assert_eq!(clock(&mut m, init, CLOCK_PROCESS), 30);
    m.kernel.check().unwrap();
}

/// User and system time of a `struct rusage` in nanoseconds.
fn used(m: &mut Guests, thread: ThreadId, at: u64) -> [u64; 2] {
    [0, 16].map(|field| {
        long(m, thread, at + field) * 1000 * MS + long(m, thread, at + field + 8) * 1000
    })
}

#[test]
fn what_the_kernel_does_for_a_thread_is_system_time() {
    let mut m = exact();
    let init = m.first();
    // Two microseconds to go in and out, and three of work in the kernel.
    (m.tick, m.spent) = (2000, 3000);
    for _ in 0..1000 {
        call(&mut m, init, GETPID, &[]);
    }
    m.advance(10 * MS);
    assert_eq!(call(&mut m, init, GETRUSAGE, &[0, DATA]), 0);
    let [user, system] = used(&mut m, init, DATA);
    assert!((10 * MS..10 * MS + 10_000).contains(&user), "{user}");
    assert!(
        (5 * MS - 10_000..5 * MS + 10_000).contains(&system),
        "{system}"
    );
    let all = clock(&mut m, init, CLOCK_PROCESS);
    assert_eq!(all, 15, "the clock counts both");
    assert_eq!(call(&mut m, init, TIMES, &[DATA]), 1);
    assert_eq!(
        [long(&mut m, init, DATA), long(&mut m, init, DATA + 8)],
        [1, 0]
    );
    m.kernel.check().unwrap();
}

#[test]
fn a_child_that_was_waited_for_leaves_all_that_it_used() {
    let mut m = exact();
    let init = m.first();
    let child = fork(&mut m, init);
    let pid = m.result(init).unwrap();
    let area = call(&mut m, child, MMAP, &[0, 8 << 20, 3, 0x22, u64::MAX, 0]) as u64;
    for page in 0..2048 {
        m.poke(child, area + page * 4096, b"x").unwrap();
    }
    assert_eq!(call(&mut m, child, MUNMAP, &[area, 8 << 20]), 0);
    m.advance(20 * MS);
    (m.tick, m.spent) = (1000, 4000);
    for _ in 0..1000 {
        call(&mut m, child, GETPID, &[]);
    }
    gone(&mut m, child, EXIT_GROUP, &[0]);
    assert_eq!(call(&mut m, init, GETRUSAGE, &[u64::MAX, DATA]), 0);
    assert_eq!(
        used(&mut m, init, DATA),
        [0, 0],
        "not before it was waited for"
    );
    assert_eq!(call(&mut m, init, WAIT4, &[pid as u64, 0, 0, DATA]), pid);
    let waited = m.peek(init, DATA, 144).unwrap();
    assert_eq!(call(&mut m, init, GETRUSAGE, &[u64::MAX, DATA]), 0);
    assert_eq!(m.peek(init, DATA, 144).unwrap(), waited);
    let [user, system] = used(&mut m, init, DATA);
    assert!((20 * MS..21 * MS).contains(&user), "{user}");
    assert!((5 * MS - 10_000..6 * MS).contains(&system), "{system}");
    let peak = long(&mut m, init, DATA + 32);
    assert!((8192..9000).contains(&peak), "{peak} KiB");
    m.kernel.check().unwrap();
}

#[test]
fn the_virtual_timer_does_not_count_the_kernel() {
    let mut m = exact();
    let init = m.first();
    sigaction(&mut m, init, SIGVTALRM, HANDLER, 0, 0);
    sigaction(&mut m, init, SIGPROF, HANDLER, 0, 0);
    words(&mut m, init, &[0, 0, 0, 5000]);
    assert_eq!(call(&mut m, init, SETITIMER, &[ITIMER_VIRTUAL, DATA, 0]), 0);
    m.spent = 10_000;
    for _ in 0..2000 {
        call(&mut m, init, GETPID, &[]);
    }
    assert_ne!(m.threads[&init].regs.rip, HANDLER);
    words(&mut m, init, &[0, 0, 0, 5000]);
    assert_eq!(call(&mut m, init, SETITIMER, &[ITIMER_PROF, DATA, 0]), 0);
    for _ in 0..1000 {
        if m.threads[&init].regs.rip != HANDLER {
            call(&mut m, init, GETPID, &[]);
        }
    }
    assert_eq!(m.threads[&init].regs.rip, HANDLER);
    assert_eq!(m.threads[&init].regs.rdi, u64::from(SIGPROF));
    m.spent = 0;
    m.advance(6 * MS);
    assert_eq!(m.threads[&init].regs.rdi, u64::from(SIGVTALRM));
    m.kernel.check().unwrap();
}

#[test]
fn interval_timers_count_what_the_threads_run() {
    for (which, signal) in [(ITIMER_VIRTUAL, SIGVTALRM), (ITIMER_PROF, SIGPROF)] {
        let mut m = exact();
        let init = m.first();
        sigaction(&mut m, init, signal, HANDLER, 0, 0);
        let other = thread(&mut m, init);
        words(&mut m, init, &[0, 0, 0, 30_000]);
        assert_eq!(call(&mut m, init, SETITIMER, &[which, DATA, 0]), 0);
        m.advance(5 * MS);
        assert_eq!(call(&mut m, init, GETITIMER, &[which, DATA]), 0);
        assert_eq!(long(&mut m, init, DATA + 24), 20_000);
        // One of two threads waits: the rest takes twice as long.
        parks(&mut m, other, PAUSE, &[]);
        m.advance(19 * MS);
        assert_ne!(m.threads[&init].regs.rip, HANDLER);
        m.advance(2 * MS);
        assert_eq!(m.threads[&init].regs.rip, HANDLER);
        assert_eq!(m.threads[&init].regs.rdi, u64::from(signal));
        m.kernel.check().unwrap();
    }
}

#[test]
fn a_timer_on_a_thread_waits_while_the_thread_does() {
    let mut m = exact();
    let init = m.first();
    sigaction(&mut m, init, 14, HANDLER, 0, 0);
    assert_eq!(call(&mut m, init, TIMER_CREATE, &[CLOCK_THREAD, 0, TID]), 0);
    words(&mut m, init, &[0, 0, 0, 10 * MS]);
    assert_eq!(call(&mut m, init, TIMER_SETTIME, &[0, 0, DATA, 0]), 0);
    m.advance(4 * MS);
    words(&mut m, init, &[1, 0]);
    parks(&mut m, init, NANOSLEEP, &[DATA, 0]);
    m.advance(900 * MS);
    assert!(!m.threads[&init].runs, "no signal has come");
    m.advance(105 * MS);
    assert_eq!(m.result(init), Some(0));
    m.advance(2 * MS);
    assert_eq!(m.threads[&init].regs.rip, HANDLER);
    m.kernel.check().unwrap();
}

#[test]
fn the_limit_of_processor_time_warns_and_kills() {
    let mut m = exact();
    let init = m.first();
    let child = fork(&mut m, init);
    let pid = m.result(init).unwrap();
    sigaction(&mut m, child, SIGXCPU, HANDLER, 0, 0);
    words(&mut m, child, &[1, 3]);
    assert_eq!(call(&mut m, child, SETRLIMIT, &[RLIMIT_CPU, DATA]), 0);
    parks(&mut m, init, WAIT4, &[pid as u64, DATA, 0, 0]);
    m.advance(999 * MS);
    assert_ne!(m.threads[&child].regs.rip, HANDLER);
    m.advance(2 * MS);
    assert_eq!(m.threads[&child].regs.rip, HANDLER);
    m.kernel.check().unwrap();
    m.advance(2000 * MS);
    assert!(!m.threads.contains_key(&child));
    assert_eq!(m.result(init), Some(pid));
    assert_eq!(word(&mut m, init, DATA), 9);
    m.kernel.check().unwrap();
}

#[test]
fn a_sleep_on_processor_time_lasts_until_others_have_run() {
    let mut m = exact();
    let init = m.first();
    let other = thread(&mut m, init);
    words(&mut m, init, &[0, 10 * MS]);
    parks(&mut m, init, CLOCK_NANOSLEEP, &[CLOCK_PROCESS, 0, DATA, 0]);
    m.advance(9 * MS);
    assert!(!m.threads[&init].runs);
    m.advance(2 * MS);
    assert_eq!(m.result(init), Some(0));
    gone(&mut m, other, EXIT, &[0]);
    gone(&mut m, init, EXIT_GROUP, &[0]);
    assert_eq!(m.exit, Some(ExitStatus::Exited(0)));
}
