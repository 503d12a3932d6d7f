//! Calls that could take long give way, and timers that are short do not keep the kernel busy.

mod guest;

use guest::*;
use varve_core::machine::ThreadId;
use varve_core::memhost::{Machine, MemHost, bare, empty_root};

const OPEN: u64 = 2;
const LSEEK: u64 = 8;
const MMAP: u64 = 9;
const READV: u64 = 19;
const FTRUNCATE: u64 = 77;
const PWRITEV: u64 = 296;
const PROCESS_VM_READV: u64 = 310;
const MEMFD_CREATE: u64 = 319;
const MREMAP: u64 = 25;
const MINCORE: u64 = 27;
const SETRLIMIT: u64 = 160;
const TIMER_CREATE: u64 = 222;
const TIMER_SETTIME: u64 = 223;
const MOVE_PAGES: u64 = 279;
const GETRANDOM: u64 = 318;
const CLOCK_MONOTONIC: u64 = 1;
const CLOCK_PROCESS: u64 = 2;
const RLIMIT_SIGPENDING: u64 = 11;
const SIGEV_NONE: u32 = 1;
const SIGUSR1: u32 = 10;
const SI_TIMER: i32 = -2;
/// `MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE`.
const SPARSE: u64 = 0x4022;
const PAGE: u64 = 4096;
const US: u64 = 1000;

fn words(m: &mut Guests, words: &[u64]) {
    let thread = m.first();
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    m.poke(thread, DATA, &bytes).unwrap();
}

#[test]
fn timers_with_the_shortest_interval_come_seldom_where_nobody_sees_them() {
    // One that tells nobody, one whose signal is ignored; real and processor time.
    for clock in [CLOCK_MONOTONIC, CLOCK_PROCESS] {
        for notify in [SIGEV_NONE, 0] {
            let mut m = boot();
            m.tick = 0;
            let init = m.first();
            sigaction(&mut m, init, SIGUSR1, 1, 0, 0);
            words(&mut m, &[0, u64::from(SIGUSR1) | u64::from(notify) << 32]);
            let id = DATA + 64;
            assert_eq!(call(&mut m, init, TIMER_CREATE, &[clock, DATA, id]), 0);
            words(&mut m, &[0, 1, 0, 1]);
            assert_eq!(call(&mut m, init, TIMER_SETTIME, &[0, 0, DATA, 0]), 0);
            for _ in 0..20 {
                m.advance(50 * US);
                let next = m.deadline.expect("it goes on");
                assert!(next > m.now.mono, "{next} at {}", m.now.mono);
            }
            let inputs = m.log.len();
            m.advance(10_000 * US);
            assert!(m.log.len() - inputs < 20, "{}", m.log.len() - inputs);
            m.kernel.check().unwrap();
        }
    }
}

#[test]
fn a_signal_that_says_it_is_a_timers_is_counted() {
    let mut m = boot();
    let init = m.first();
    words(&mut m, &[10, 10]);
    assert_eq!(call(&mut m, init, SETRLIMIT, &[RLIMIT_SIGPENDING, DATA]), 0);
    words(&mut m, &[1 << 39]);
    assert_eq!(call(&mut m, init, SIGPROCMASK, &[0, DATA, 0, 8]), 0);
    let code = u64::from(SI_TIMER as u32);
    words(&mut m, &[40, code, 0, 0, 0, 1]);
    let queued = (0..30).take_while(|_| call(&mut m, init, SIGQUEUEINFO, &[1, 40, DATA]) == 0);
    assert_eq!(queued.count(), 10);
    assert_eq!(call(&mut m, init, SIGQUEUEINFO, &[1, 40, DATA]), -EAGAIN);
}

#[test]
fn long_calls_give_way() {
    let mut m = boot();
    m.tick = 0;
    let init = m.first();
    let pages = 300_000;
    let map = |m: &mut Guests, pages: u64| {
        call(m, init, MMAP, &[0, pages * PAGE, 3, SPARSE, u64::MAX, 0]) as u64
    };
    let (far, vec) = (map(&mut m, pages), map(&mut m, 1100));
    for (number, args) in [
        (MINCORE, [far, pages * PAGE, vec, 0, 0, 0]),
        (MOVE_PAGES, [0, 40_000, vec, 0, vec + 400_000, 0]),
        (GETRANDOM, [vec, 3 << 20, 0, 0, 0, 0]),
    ] {
        parks(&mut m, init, number, &args);
        assert!(m.deadline.is_some(), "{number} comes back");
        for _ in 0..4 {
            m.advance(US);
        }
        let done = if number == GETRANDOM { 3 << 20 } else { 0 };
        assert_eq!(m.result(init), Some(done), "{number}");
    }
}

#[test]
fn mremap_has_a_fifth_argument_only_with_a_flag_for_it() {
    let mut m = boot();
    let init = m.first();
    let map = |m: &mut Guests| call(m, init, MMAP, &[0, PAGE, 3, SPARSE, u64::MAX, 0]) as u64;
    let (one, other) = (map(&mut m), map(&mut m));
    let (at, wish, may_move) = (one.min(other), 0x1_2345_6000, 1);
    assert_eq!(one.max(other), at + PAGE, "so it cannot grow where it is");
    let moved = call(&mut m, init, MREMAP, &[at, PAGE, 16 * PAGE, may_move, wish]) as u64;
    assert!(moved > PAGE && moved != at && moved != wish, "{moved:#x}");
}

/// A vector of 1024 parts in one buffer of this many pages.
fn overlapping(m: &mut Guests, buffer: u64, each: u64) -> u64 {
    let init = m.first();
    let list = call(m, init, MMAP, &[0, 4 * PAGE, 3, SPARSE, u64::MAX, 0]) as u64;
    let parts: Vec<u8> = (0..1024)
        .flat_map(|_| [buffer.to_le_bytes(), each.to_le_bytes()])
        .flatten()
        .collect();
    m.poke(init, list, &parts).unwrap();
    list
}

/// What a call gave that a handler ran after.
fn after_handler(m: &mut Guests, thread: ThreadId) -> i64 {
    // The handler has returned to the restorer: the return address is off the stack.
    m.threads.get_mut(&thread).unwrap().regs.rsp += 8;
    m.call(thread, SIGRETURN, &[]);
    m.kernel.check().unwrap();
    m.threads[&thread].regs.rax as i64
}

#[test]
fn long_reads_and_writes_go_in_pieces_that_only_devices_are_interrupted_between() {
    let host = MemHost::new(16384, Vec::new());
    let mut m = Machine::boot(bare(empty_root()), host).expect("the bare task boots");
    m.tick = 0;
    let init = m.first();
    let child = fork(&mut m, init);
    let buffer = call(&mut m, init, MMAP, &[0, 16 * PAGE, 3, SPARSE, u64::MAX, 0]) as u64;
    let list = overlapping(&mut m, buffer, 16 * PAGE);
    m.poke(init, DATA, b"f\0/dev/zero\0").unwrap();
    let file = call(&mut m, init, MEMFD_CREATE, &[DATA, 0]) as u64;
    let zero = call(&mut m, init, OPEN, &[DATA + 2, 0]) as u64;
    call(&mut m, init, FTRUNCATE, &[file, 1 << 30]);
    sigaction(&mut m, init, SIGUSR1, DATA, 0, 0);
    let all = 64 << 20;
    let signal = |m: &mut Guests| call(m, child, KILL, &[1, u64::from(SIGUSR1)]);

    // A file: all of it, whatever comes meanwhile, and its position goes along.
    parks(&mut m, init, READV, &[file, list, 1024]);
    signal(&mut m);
    assert_eq!(m.result(init), None, "files are read to the end");
    assert_eq!(call(&mut m, child, GETPID, &[]), 2, "others get on");
    m.advance(4 * US);
    m.advance(4 * US);
    m.advance(4 * US);
    assert_eq!(after_handler(&mut m, init), all);
    assert_eq!(call(&mut m, init, LSEEK, &[file, 0, 1]), all);
    parks(&mut m, init, PWRITEV, &[file, list, 500, 7]);
    m.advance(4 * US);
    assert_eq!(m.result(init), Some(500 * 65536));
    assert_eq!(call(&mut m, init, LSEEK, &[file, 0, 1]), all);

    // A device: what there is so far.
    parks(&mut m, init, READV, &[zero, list, 1024]);
    m.advance(1);
    signal(&mut m);
    assert_eq!(after_handler(&mut m, init), 12 << 20);

    // Another process's memory.
    parks(
        &mut m,
        init,
        PROCESS_VM_READV,
        &[1, list, 1024, list, 1024, 0],
    );
    for _ in 0..3 {
        m.advance(4 * US);
    }
    assert_eq!(m.result(init), Some(all));
    m.kernel.check().unwrap();
}
