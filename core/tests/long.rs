//! Calls that could take long give way, and timers that are short do not keep the kernel busy.

mod guest;

use guest::*;

const MMAP: u64 = 9;
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
