//! Futexes on the in-memory host: threads of one process, processes, timeouts, owners, robust lists.

mod guest;

use guest::*;
use varve_core::machine::ThreadId;
use varve_core::memhost::{BARE_ADDR, BARE_LEN};

const FUTEX: u64 = 202;
const MMAP: u64 = 9;
const SET_ROBUST: u64 = 273;
const WAITV: u64 = 449;
const FUTEX_WAKE2: u64 = 454;
const FUTEX_WAIT2: u64 = 455;
const FUTEX_REQUEUE2: u64 = 456;

const WAIT: u64 = 0;
const WAKE: u64 = 1;
const REQUEUE: u64 = 3;
const CMP_REQUEUE: u64 = 4;
const WAKE_OP: u64 = 5;
const LOCK_PI: u64 = 6;
const UNLOCK_PI: u64 = 7;
const TRYLOCK_PI: u64 = 8;
const WAIT_BITSET: u64 = 9;
const WAKE_BITSET: u64 = 10;
const WAIT_REQUEUE_PI: u64 = 11;
const CMP_REQUEUE_PI: u64 = 12;
const LOCK_PI2: u64 = 13;
const PRIVATE: u64 = 128;
const REALTIME: u64 = 256;
const WAITERS: u32 = 0x8000_0000;
const OWNER_DIED: u32 = 0x4000_0000;

const A: u64 = DATA;
const B: u64 = DATA + 8;
const TIME: u64 = DATA + 0x100;
const LIST: u64 = DATA + 0x200;

const ENOSYS: i64 = 38;
const EDEADLK: i64 = 35;
const ETIMEDOUT: i64 = 110;
const MS: u64 = 1_000_000;

fn op(m: &mut Guests, t: ThreadId, addr: u64, op: u64, rest: &[u64]) -> i64 {
    let args: Vec<u64> = [addr, op].iter().chain(rest).copied().collect();
    call(m, t, FUTEX, &args)
}

#[track_caller]
fn sleeps(m: &mut Guests, t: ThreadId, addr: u64, op: u64, rest: &[u64]) {
    let args: Vec<u64> = [addr, op].iter().chain(rest).copied().collect();
    parks(m, t, FUTEX, &args);
}

fn set(m: &mut Guests, t: ThreadId, addr: u64, value: u32) {
    m.poke(t, addr, &value.to_le_bytes()).unwrap();
}

fn time(m: &mut Guests, t: ThreadId, nanos: u64) {
    let words = [nanos / 1_000_000_000, nanos % 1_000_000_000];
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    m.poke(t, TIME, &bytes).unwrap();
}

fn tid(m: &mut Guests, t: ThreadId) -> u32 {
    call(m, t, GETTID, &[]) as u32
}

/// A page of shared memory.
fn shared_page(m: &mut Guests, t: ThreadId) -> u64 {
    let at = 0x4000_0000;
    assert_eq!(
        call(m, t, MMAP, &[at, 4096, 3, 0x31, u64::MAX, 0]),
        at as i64
    );
    at
}

/// The first thread and others of its process.
fn threads<const N: usize>() -> (Guests, ThreadId, [ThreadId; N]) {
    let mut m = boot();
    let a = m.first();
    let others = [(); N].map(|()| thread(&mut m, a));
    (m, a, others)
}

#[test]
fn sleepers_wake_in_order_and_one_at_least() {
    let (mut m, a, [b, c, d]) = threads();
    for t in [b, c, d] {
        sleeps(&mut m, t, A, WAIT | PRIVATE, &[0, 0]);
    }
    assert_eq!(op(&mut m, a, A, WAKE, &[9]), 0, "another kind of key");
    assert_eq!(
        op(&mut m, a, A, WAKE | PRIVATE, &[0]),
        1,
        "as Linux: one in any case"
    );
    assert_eq!((m.result(b), m.result(c)), (Some(0), None));
    assert_eq!(op(&mut m, a, A, WAKE | PRIVATE, &[9]), 2);
    assert_eq!((m.result(c), m.result(d)), (Some(0), Some(0)));
    set(&mut m, a, A, 7);
    assert_eq!(op(&mut m, b, A, WAIT, &[6, 0]), -EAGAIN);
    assert_eq!(op(&mut m, b, A + 1, WAIT, &[6, 0]), -EINVAL);
    assert_eq!(op(&mut m, b, 8, WAIT, &[6, 0]), -EFAULT);
    assert_eq!(op(&mut m, b, 8, WAKE, &[1]), -EFAULT);
    assert_eq!(op(&mut m, b, 8, WAKE | PRIVATE, &[1]), 0);
    assert_eq!(op(&mut m, b, A, WAKE_BITSET, &[1, 0, 0, 0]), -EINVAL);
    assert_eq!(op(&mut m, b, A, 2, &[1]), -ENOSYS);
    assert_eq!(op(&mut m, b, A, WAIT | REALTIME, &[7, 0]), -ENOSYS);
}

#[test]
fn bits_choose_who_wakes() {
    let (mut m, a, [b, c]) = threads();
    sleeps(&mut m, b, A, WAIT_BITSET, &[0, 0, 0, 1]);
    sleeps(&mut m, c, A, WAIT_BITSET, &[0, 0, 0, 2]);
    assert_eq!(op(&mut m, a, A, WAKE_BITSET, &[9, 0, 0, 4]), 0);
    assert_eq!(op(&mut m, a, A, WAKE_BITSET, &[9, 0, 0, 2]), 1);
    assert_eq!((m.result(b), m.result(c)), (None, Some(0)));
    assert_eq!(op(&mut m, a, A, WAKE, &[9]), 1);
}

#[test]
fn timeouts_count_from_the_call_or_are_times_of_a_clock() {
    let (mut m, a, [b]) = threads();
    time(&mut m, a, 5 * MS);
    sleeps(&mut m, b, A, WAIT, &[0, TIME]);
    m.advance(5 * MS - 1);
    assert_eq!(m.result(b), None);
    m.advance(1);
    assert_eq!(m.result(b), Some(-ETIMEDOUT));
    for (clock, flag) in [(1, 0), (0, REALTIME)] {
        call(&mut m, a, 228, &[clock, TIME]);
        let now = long(&mut m, a, TIME) * 1_000_000_000 + long(&mut m, a, TIME + 8);
        time(&mut m, a, now + 3 * MS);
        sleeps(&mut m, b, A, WAIT_BITSET | flag, &[0, TIME, 0, 1]);
        m.advance(3 * MS);
        assert_eq!(m.result(b), Some(-ETIMEDOUT), "clock {clock}");
    }
    m.poke(a, TIME + 8, &u64::MAX.to_le_bytes()).unwrap();
    assert_eq!(op(&mut m, a, A, WAIT, &[0, TIME]), -EINVAL);
    assert_eq!(op(&mut m, a, A, WAIT, &[0, 8]), -EFAULT);
}

#[test]
fn a_signal_without_a_handler_starts_the_wait_again() {
    let (mut m, a, [b]) = threads();
    sigaction(&mut m, a, 10, 0x5000, 0, 0);
    sleeps(&mut m, b, A, WAIT, &[0, 0]);
    let pid = call(&mut m, a, GETPID, &[]) as u64;
    let target = u64::from(tid(&mut m, a) + 1);
    // SIGCONT does nothing; the word is looked at again.
    assert_eq!(call(&mut m, a, TGKILL, &[pid, target, 18]), 0);
    assert_eq!(m.result(b), None);
    assert_eq!(call(&mut m, a, TGKILL, &[pid, target, 10]), 0);
    assert_eq!(m.threads[&b].regs.rip, 0x5000);
    assert_eq!(op(&mut m, a, A, WAKE, &[1]), 0);
}

#[test]
fn shared_words_are_known_by_their_page() {
    let mut m = boot();
    let a = m.first();
    let page = shared_page(&mut m, a);
    let b = fork(&mut m, a);
    sleeps(&mut m, b, page, WAIT, &[0, 0]);
    assert_eq!(op(&mut m, a, page, WAKE | PRIVATE, &[1]), 0);
    assert_eq!(op(&mut m, a, page, WAKE, &[1]), 1);
    assert_eq!(m.result(b), Some(0));
    // Memory of a process's own is not the parent's, and stays known after a copy was made.
    sleeps(&mut m, b, A, WAIT, &[0, 0]);
    set(&mut m, a, A, 0);
    assert_eq!(op(&mut m, a, A, WAKE, &[1]), 0);
    let c = fork(&mut m, a);
    assert_eq!(op(&mut m, c, A, WAKE, &[1]), 0);
    assert_eq!(m.result(b), None);
}

#[test]
fn requeue_wakes_some_and_moves_others() {
    let (mut m, a, [b, c, d]) = threads();
    for t in [b, c, d] {
        sleeps(&mut m, t, A, WAIT, &[0, 0]);
    }
    assert_eq!(op(&mut m, a, A, CMP_REQUEUE, &[1, 1, B, 5]), -EAGAIN);
    assert_eq!(op(&mut m, a, A, REQUEUE, &[u64::MAX, 1, B]), -EINVAL);
    assert_eq!(op(&mut m, a, A, CMP_REQUEUE, &[1, 1, B, 0]), 2);
    assert_eq!(
        (m.result(b), m.result(c), m.result(d)),
        (Some(0), None, None)
    );
    assert_eq!(op(&mut m, a, B, WAKE, &[9]), 1);
    assert_eq!((m.result(c), m.result(d)), (Some(0), None));
    assert_eq!(op(&mut m, a, A, REQUEUE, &[0, 9, A]), 1, "onto itself");
    assert_eq!(op(&mut m, a, A, WAKE, &[9]), 1);
}

#[test]
fn wake_op_changes_the_second_word() {
    let (mut m, a, [b, c]) = threads();
    let encode =
        |op: u64, arg: u64, cmp: u64, cmparg: u64| op << 28 | cmp << 24 | arg << 12 | cmparg;
    sleeps(&mut m, b, A, WAIT, &[0, 0]);
    sleeps(&mut m, c, B, WAIT, &[0, 0]);
    // B += 3; its old value is not 5.
    assert_eq!(op(&mut m, a, A, WAKE_OP, &[1, 1, B, encode(1, 3, 0, 5)]), 1);
    assert_eq!(
        (m.result(b), m.result(c), word(&mut m, a, B)),
        (Some(0), None, 3)
    );
    // B |= 1 << 4; its old value was 3.
    assert_eq!(
        op(&mut m, a, A, WAKE_OP, &[1, 1, B, encode(10, 4, 0, 3)]),
        1
    );
    assert_eq!((m.result(c), word(&mut m, a, B)), (Some(0), 19));
    assert_eq!(op(&mut m, a, A, WAKE_OP, &[1, 1, B, encode(3, 1, 2, 0)]), 0);
    assert_eq!(word(&mut m, a, B), 18);
    assert_eq!(
        op(&mut m, a, A, WAKE_OP, &[1, 1, B, encode(0, 0xfff, 5, 18)]),
        0
    );
    assert_eq!(word(&mut m, a, B), u32::MAX, "the operand has a sign");
    assert_eq!(
        op(&mut m, a, A, WAKE_OP, &[1, 1, B, encode(7, 0, 0, 0)]),
        -ENOSYS
    );
    assert_eq!(
        op(&mut m, a, A, WAKE_OP, &[1, 1, B, encode(0, 0, 9, 0)]),
        -ENOSYS
    );
    assert_eq!(word(&mut m, a, B), 0, "the operation comes first");
}

#[test]
fn owners_hand_words_over_in_order() {
    let (mut m, a, [b, c]) = threads();
    let tids = [a, b, c].map(|t| tid(&mut m, t));
    assert_eq!(op(&mut m, a, A, LOCK_PI, &[0, 0]), 0);
    assert_eq!(word(&mut m, a, A), tids[0]);
    assert_eq!(op(&mut m, a, A, LOCK_PI, &[0, 0]), -EDEADLK);
    assert_eq!(op(&mut m, b, A, UNLOCK_PI, &[]), -EPERM);
    assert_eq!(op(&mut m, b, A, TRYLOCK_PI, &[]), -EAGAIN);
    assert_eq!(word(&mut m, a, A), tids[0] | WAITERS);
    sleeps(&mut m, b, A, LOCK_PI, &[0, 0]);
    sleeps(&mut m, c, A, LOCK_PI2, &[0, 0]);
    assert_eq!(op(&mut m, a, A, WAKE, &[1]), -EINVAL);
    assert_eq!(op(&mut m, a, A, UNLOCK_PI, &[]), 0);
    assert_eq!((m.result(b), m.result(c)), (Some(0), None));
    assert_eq!(word(&mut m, a, A), tids[1] | WAITERS);
    assert_eq!(op(&mut m, b, A, UNLOCK_PI, &[]), 0);
    assert_eq!(m.result(c), Some(0));
    assert_eq!(op(&mut m, c, A, UNLOCK_PI, &[]), 0);
    assert_eq!(word(&mut m, a, A), 0);
    set(&mut m, a, A, 99_999);
    assert_eq!(op(&mut m, a, A, LOCK_PI, &[0, 0]), -ESRCH);
    set(&mut m, a, A, 0);
    sleeps(&mut m, b, A, WAIT, &[0, 0]);
    assert_eq!(
        op(&mut m, a, A, LOCK_PI, &[0, 0]),
        -EINVAL,
        "an ordinary sleeper"
    );
}

#[test]
fn waiting_for_an_owner_ends_with_time_and_never_by_a_signal() {
    let (mut m, a, [b]) = threads();
    op(&mut m, a, A, LOCK_PI, &[0, 0]);
    call(&mut m, a, 228, &[0, TIME]);
    let now = long(&mut m, a, TIME) * 1_000_000_000 + long(&mut m, a, TIME + 8);
    time(&mut m, a, now + MS);
    sleeps(&mut m, b, A, LOCK_PI, &[0, TIME]);
    m.advance(MS);
    assert_eq!(m.result(b), Some(-ETIMEDOUT));
    sigaction(&mut m, a, 10, 0x5000, 0, 0);
    sleeps(&mut m, b, A, LOCK_PI, &[0, 0]);
    let pid = call(&mut m, a, GETPID, &[]) as u64;
    let target = u64::from(tid(&mut m, a) + 1);
    assert_eq!(call(&mut m, a, TGKILL, &[pid, target, 10]), 0);
    assert_eq!(m.threads[&b].regs.rip, 0x5000, "the handler runs");
    assert_eq!(op(&mut m, a, A, UNLOCK_PI, &[]), 0);
    assert_eq!(word(&mut m, a, A), 0, "nobody sleeps meanwhile");
}

#[test]
fn circles_of_owners_are_deadlocks() {
    let (mut m, a, [b, c]) = threads();
    let word = |n: u64| DATA + 16 * n;
    for (n, t) in [a, b, c].into_iter().enumerate() {
        assert_eq!(op(&mut m, t, word(n as u64), LOCK_PI, &[0, 0]), 0);
    }
    sleeps(&mut m, a, word(1), LOCK_PI, &[0, 0]);
    sleeps(&mut m, b, word(2), LOCK_PI, &[0, 0]);
    assert_eq!(op(&mut m, c, word(0), LOCK_PI, &[0, 0]), -EDEADLK);
}

#[test]
fn what_an_ended_owner_held_goes_on_marked() {
    let (mut m, a, [b, c]) = threads();
    let tids = [a, b, c].map(|t| tid(&mut m, t));
    op(&mut m, b, A, LOCK_PI, &[0, 0]);
    sleeps(&mut m, a, A, LOCK_PI, &[0, 0]);
    sleeps(&mut m, c, A, LOCK_PI, &[0, 0]);
    gone(&mut m, b, EXIT, &[0]);
    assert_eq!((m.result(a), m.result(c)), (Some(0), None));
    assert_eq!(word(&mut m, a, A), tids[0] | WAITERS | OWNER_DIED);
    assert_eq!(op(&mut m, a, A, UNLOCK_PI, &[]), 0);
    assert_eq!(m.result(c), Some(0));
}

#[test]
fn sleepers_move_to_a_word_with_an_owner() {
    let (mut m, a, [b, c]) = threads();
    let tids = [a, b, c].map(|t| tid(&mut m, t));
    assert_eq!(op(&mut m, b, A, WAIT_REQUEUE_PI, &[0, 0, A]), -EINVAL);
    sleeps(&mut m, b, A, WAIT_REQUEUE_PI, &[0, 0, B]);
    sleeps(&mut m, c, A, WAIT_REQUEUE_PI, &[0, 0, B]);
    assert_eq!(op(&mut m, a, A, WAKE, &[1]), -EINVAL);
    assert_eq!(op(&mut m, a, A, REQUEUE, &[1, 1, B]), -EINVAL);
    assert_eq!(op(&mut m, a, A, CMP_REQUEUE_PI, &[2, 1, B, 0]), -EINVAL);
    assert_eq!(op(&mut m, a, A, CMP_REQUEUE_PI, &[1, 1, B + 4, 0]), -EINVAL);
    assert_eq!(op(&mut m, a, A, CMP_REQUEUE_PI, &[1, 9, B, 1]), -EAGAIN);
    // The word is free: the first gets it, the other one waits for it.
    assert_eq!(op(&mut m, a, A, CMP_REQUEUE_PI, &[1, 9, B, 0]), 2);
    assert_eq!((m.result(b), m.result(c)), (Some(0), None));
    assert_eq!(word(&mut m, a, B), tids[1] | WAITERS);
    assert_eq!(op(&mut m, b, B, UNLOCK_PI, &[]), 0);
    assert_eq!(m.result(c), Some(0));
    assert_eq!(word(&mut m, a, B), tids[2] | WAITERS);
    // Owned: it is moved only.
    sleeps(&mut m, b, A, WAIT_REQUEUE_PI, &[0, 0, B]);
    assert_eq!(op(&mut m, a, A, CMP_REQUEUE_PI, &[1, 9, B, 0]), 1);
    assert_eq!(m.result(b), None);
    gone(&mut m, c, EXIT, &[0]);
    assert_eq!(m.result(b), Some(0));
    assert_eq!(word(&mut m, a, B), tids[1] | WAITERS | OWNER_DIED);
}

/// A robust list of one entry (`next` is the head) at `LIST`, with its word 16 bytes behind the entry.
fn robust(m: &mut Guests, t: ThreadId, pending: u64) -> u64 {
    let entry = LIST + 0x40;
    let words = [entry, 16, pending];
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    m.poke(t, LIST, &bytes).unwrap();
    m.poke(t, entry, &LIST.to_le_bytes()).unwrap();
    assert_eq!(call(m, t, SET_ROBUST, &[LIST, 24]), 0);
    entry + 16
}

#[test]
fn robust_lists_are_walked_when_a_thread_ends() {
    let (mut m, a, [b, c]) = threads();
    assert_eq!(call(&mut m, a, SET_ROBUST, &[LIST, 23]), -EINVAL);
    let owner = tid(&mut m, b);
    let pending = LIST + 0x80;
    let at = robust(&mut m, b, pending);
    set(&mut m, a, at, owner | WAITERS);
    sleeps(&mut m, a, at, WAIT, &[u64::from(owner | WAITERS), 0]);
    // Unlocked already, but the sleeper was not woken.
    sleeps(&mut m, c, pending + 16, WAIT, &[0, 0]);
    gone(&mut m, b, EXIT, &[0]);
    assert_eq!((m.result(a), m.result(c)), (Some(0), Some(0)));
    assert_eq!(word(&mut m, a, at), WAITERS | OWNER_DIED);
    // A circle does not hold the kernel up, another owner's word stays.
    let at = robust(&mut m, c, 0);
    m.poke(c, LIST + 0x40, &(LIST + 0x40).to_le_bytes())
        .unwrap();
    set(&mut m, a, at, 1234);
    gone(&mut m, c, EXIT, &[0]);
    assert_eq!(word(&mut m, a, at), 1234);
}

#[test]
fn robust_lists_are_walked_by_a_killed_process_too() {
    let mut m = boot();
    let a = m.first();
    let page = shared_page(&mut m, a);
    let b = fork(&mut m, a);
    let owner = tid(&mut m, b);
    let words = [page + 0x40, 16, 0, 0, 0, 0, 0, 0, page];
    let bytes: Vec<u8> = words
        .iter()
        .flat_map(|word: &u64| word.to_le_bytes())
        .collect();
    m.poke(b, page, &bytes).unwrap();
    assert_eq!(call(&mut m, b, SET_ROBUST, &[page, 24]), 0);
    set(&mut m, b, page + 0x50, owner);
    parks(&mut m, b, PAUSE, &[]);
    assert_eq!(call(&mut m, a, KILL, &[u64::from(owner), 9]), 0);
    assert!(!m.threads.contains_key(&b));
    assert_eq!(word(&mut m, a, page + 0x50), OWNER_DIED);
}

#[test]
fn waitv_waits_for_any_of_many() {
    let (mut m, a, [b]) = threads();
    let list = DATA + 0x400;
    let entries = |m: &mut Guests, words: &[(u64, u64, u32)]| {
        let bytes: Vec<u8> = words
            .iter()
            .flat_map(|&(value, addr, flags)| {
                [value, addr, u64::from(flags)]
                    .into_iter()
                    .flat_map(|word| word.to_le_bytes())
            })
            .collect();
        m.poke(a, list, &bytes).unwrap();
    };
    entries(&mut m, &[(0, A, 2), (0, B, 2 | 128), (0, A + 4, 2)]);
    parks(&mut m, b, WAITV, &[list, 3, 0, 0, 0]);
    assert_eq!(op(&mut m, a, B, WAKE | PRIVATE, &[1]), 1);
    assert_eq!(m.result(b), Some(1));
    assert_eq!(op(&mut m, a, A, WAKE, &[1]), 0, "nothing is left behind");
    parks(&mut m, b, WAITV, &[list, 3, 0, 0, 0]);
    assert_eq!(op(&mut m, a, A + 4, REQUEUE, &[0, 1, B + 16]), 1);
    assert_eq!(op(&mut m, a, B + 16, WAKE, &[1]), 1);
    assert_eq!(m.result(b), Some(2));
    time(&mut m, a, 1);
    assert_eq!(call(&mut m, b, WAITV, &[list, 3, 0, TIME, 1]), -ETIMEDOUT);
    assert_eq!(call(&mut m, b, WAITV, &[list, 3, 0, TIME, 7]), -EINVAL);
    assert_eq!(call(&mut m, b, WAITV, &[list, 0, 0, 0, 0]), -EINVAL);
    assert_eq!(call(&mut m, b, WAITV, &[list, 129, 0, 0, 0]), -EINVAL);
    assert_eq!(call(&mut m, b, WAITV, &[list, 1, 1, 0, 0]), -EINVAL);
    entries(&mut m, &[(0, A, 2), (1, B, 2)]);
    assert_eq!(call(&mut m, b, WAITV, &[list, 2, 0, 0, 0]), -EAGAIN);
    entries(&mut m, &[(0, A, 1)]);
    assert_eq!(call(&mut m, b, WAITV, &[list, 1, 0, 0, 0]), -EINVAL);
}

#[test]
fn the_later_calls_do_the_same() {
    let (mut m, a, [b, c]) = threads();
    assert_eq!(call(&mut m, b, FUTEX_WAIT2, &[A, 0, 0, 2, 0, 0]), -EINVAL);
    assert_eq!(
        call(&mut m, b, FUTEX_WAIT2, &[A, 1 << 32, 1, 2, 0, 0]),
        -EINVAL
    );
    assert_eq!(call(&mut m, b, FUTEX_WAIT2, &[A, 1, 1, 2, 0, 0]), -EAGAIN);
    parks(&mut m, b, FUTEX_WAIT2, &[A, 0, 1, 2, 0, 0]);
    parks(&mut m, c, FUTEX_WAIT2, &[A, 0, 2, 2, 0, 0]);
    assert_eq!(
        call(&mut m, a, FUTEX_WAKE2, &[A, 3, 0, 2]),
        0,
        "none is none here"
    );
    assert_eq!(call(&mut m, a, FUTEX_WAKE2, &[A, 2, 5, 2]), 1);
    assert_eq!((m.result(b), m.result(c)), (None, Some(0)));
    let words = [0, A, 2, 0, B, 2];
    let bytes: Vec<u8> = words
        .iter()
        .flat_map(|word: &u64| word.to_le_bytes())
        .collect();
    m.poke(a, DATA + 0x400, &bytes).unwrap();
    assert_eq!(call(&mut m, a, FUTEX_REQUEUE2, &[DATA + 0x400, 0, 0, 1]), 1);
    assert_eq!(call(&mut m, a, FUTEX_WAKE2, &[B, 1, 1, 2]), 1);
    assert_eq!(m.result(b), Some(0));
}

/// Addresses that are no words, and what Linux answers for them: odd in memory, across the end of memory,
/// behind it, and the kernel's.
const STRANGE: [u64; 7] = [
    A + 1,
    A + 2,
    BARE_ADDR + BARE_LEN - 2,
    BARE_ADDR + BARE_LEN,
    0xffff_8000_0000_0000,
    0xffff_8000_0000_0001,
    1,
];
const NO_WORDS: [i64; 7] = [
    -EINVAL, -EINVAL, -EINVAL, -EFAULT, -EFAULT, -EINVAL, -EINVAL,
];

#[test]
fn only_aligned_addresses_of_users_are_words() {
    let (mut m, a, []) = threads();
    time(&mut m, a, 0);
    let number = |op: u64| matches!(op, REQUEUE | CMP_REQUEUE | WAKE_OP | CMP_REQUEUE_PI);
    // What each operation says of an aligned private word behind the end of memory, if that is not EFAULT: it
    // does not touch it.
    let untouched = |op: u64| matches!(op, WAKE | WAKE_BITSET | REQUEUE | WAKE_OP);
    let ops = (WAIT..=LOCK_PI2).filter(|&op| op != 2 && op != UNLOCK_PI);
    for (command, private) in ops.flat_map(|op| [(op, 0), (op, PRIVATE)]) {
        let fourth = if number(command) { 1 } else { TIME };
        for (addr, expected) in STRANGE.into_iter().zip(NO_WORDS) {
            let behind = addr == BARE_ADDR + BARE_LEN && private != 0;
            let expected = if behind && untouched(command) {
                0
            } else {
                expected
            };
            // Bits to wake; nothing that a word before could forbid.
            let last = if matches!(command, WAIT_BITSET | WAKE_BITSET) {
                ANY
            } else {
                0
            };
            let rest = [1, fourth, B, last];
            let result = op(&mut m, a, addr, command | private, &rest);
            assert_eq!(result, expected, "{command} {private} {addr:#x}");
        }
        // The second word.
        if number(command) || command == WAIT_REQUEUE_PI {
            for (addr, expected) in STRANGE.into_iter().zip(NO_WORDS) {
                let behind = addr == BARE_ADDR + BARE_LEN && private != 0;
                let expected = match command {
                    REQUEUE | CMP_REQUEUE if behind => 0,
                    WAIT_REQUEUE_PI if behind => -ETIMEDOUT,
                    _ => expected,
                };
                set(&mut m, a, B, 0);
                let value = u64::from(command != WAIT_REQUEUE_PI);
                let rest = [value, fourth, addr, 0];
                let result = op(&mut m, a, B, command | private, &rest);
                assert_eq!(result, expected, "{command} {private} second {addr:#x}");
            }
        }
    }
}

#[test]
fn an_unlock_looks_at_the_owner_before_it_looks_for_a_word() {
    let (mut m, a, []) = threads();
    let owner = tid(&mut m, a);
    for private in [0, PRIVATE] {
        for (addr, mine) in [
            (A + 1, -EINVAL),
            (A + 2, -EINVAL),
            (A, 0),
            (A + 4093, -EINVAL),
        ] {
            set(&mut m, a, addr, 0);
            assert_eq!(op(&mut m, a, addr, UNLOCK_PI | private, &[]), -EPERM);
            set(&mut m, a, addr, owner);
            assert_eq!(op(&mut m, a, addr, UNLOCK_PI | private, &[]), mine);
            set(&mut m, a, addr, 0);
        }
        for addr in &STRANGE[2..] {
            assert_eq!(op(&mut m, a, *addr, UNLOCK_PI | private, &[]), -EFAULT);
        }
    }
}

#[test]
fn the_later_calls_take_only_words_too() {
    let (mut m, a, []) = threads();
    // The structures themselves may lie anywhere.
    let list = DATA + 0x401;
    for (addr, expected) in STRANGE.into_iter().zip(NO_WORDS) {
        let mut entries = |first: u64, second: u64| {
            let words = [1, first, 2, 1, second, 2];
            let bytes: Vec<u8> = words
                .iter()
                .flat_map(|word: &u64| word.to_le_bytes())
                .collect();
            m.poke(a, list, &bytes).unwrap();
        };
        entries(addr, A);
        assert_eq!(call(&mut m, a, WAITV, &[list, 2, 0, 0, 0]), expected);
        assert_eq!(call(&mut m, a, FUTEX_REQUEUE2, &[list, 0, 1, 1]), expected);
        let mut entries = |first: u64, second: u64| {
            let words = [0, first, 2, 1, second, 2];
            let bytes: Vec<u8> = words
                .iter()
                .flat_map(|word: &u64| word.to_le_bytes())
                .collect();
            m.poke(a, list, &bytes).unwrap();
        };
        entries(A, addr);
        assert_eq!(call(&mut m, a, FUTEX_REQUEUE2, &[list, 0, 1, 1]), expected);
        assert_eq!(call(&mut m, a, FUTEX_WAKE2, &[addr, 1, 1, 2]), expected);
        assert_eq!(
            call(&mut m, a, FUTEX_WAIT2, &[addr, 1, 1, 2, 0, 0]),
            expected
        );
    }
}

#[test]
fn a_robust_list_ends_at_what_is_no_word() {
    let (mut m, a, [b]) = threads();
    let owner = tid(&mut m, b);
    // Two entries, the word 16 bytes behind each; the first word of the second round is odd.
    for odd in [0, 1] {
        let (first, second) = (LIST + 0x40, LIST + 0x80);
        for (addr, value) in [
            (LIST, first),
            (LIST + 8, 16 + odd),
            (LIST + 16, 0),
            (first, second),
            (second, LIST),
        ] {
            m.poke(a, addr, &value.to_le_bytes()).unwrap();
        }
        set(&mut m, a, first + 16, owner);
        set(&mut m, a, second + 16, owner);
        let thread = if odd == 0 { b } else { thread(&mut m, a) };
        let owner = tid(&mut m, thread);
        for word in [first + 16 + odd, second + 16 + odd] {
            set(&mut m, a, word, owner);
        }
        assert_eq!(call(&mut m, thread, SET_ROBUST, &[LIST, 24]), 0);
        gone(&mut m, thread, EXIT, &[0]);
        for at in [first + 16 + odd, second + 16 + odd] {
            let expected = if odd == 0 { OWNER_DIED } else { owner };
            assert_eq!(word(&mut m, a, at), expected, "{odd}");
        }
    }
}

#[test]
fn the_word_of_a_thread_that_ends_is_cleared_at_any_address() {
    const SET_TID_ADDRESS: u64 = 218;
    let (mut m, a, [b]) = threads();
    set(&mut m, a, A + 5, 77);
    call(&mut m, b, SET_TID_ADDRESS, &[A + 5]);
    gone(&mut m, b, EXIT, &[0]);
    assert_eq!(word(&mut m, a, A + 5), 0);
    for addr in STRANGE {
        let c = thread(&mut m, a);
        call(&mut m, c, SET_TID_ADDRESS, &[addr]);
        gone(&mut m, c, EXIT, &[0]);
    }
}

/// Thousands of sleepers on one word are woken, or moved to another one, in pieces.
#[test]
fn thousands_sleep_on_one_word() {
    const COUNT: usize = 3000;
    const ALL: u64 = i32::MAX as u64;
    let mut m = steps::machine();
    let t = m.first();
    let other = fork(&mut m, t);
    set(&mut m, t, A, 5);
    let sleepers = |m: &mut Guests| -> Vec<ThreadId> {
        let one = |_| {
            m.call(t, CLONE, &[THREAD_FLAGS, 0, TID, TID, 0]);
            let thread = *m.threads.keys().next_back().unwrap();
            assert_eq!(m.call(thread, FUTEX, &[A, WAIT | PRIVATE, 5, 0]), None);
            thread
        };
        (0..COUNT).map(one).collect()
    };
    let woken = |m: &Guests, all: &[ThreadId]| {
        let results = all.iter().map(|&thread| m.result(thread));
        results.filter(|&of| of == Some(0)).count()
    };
    for moved in [false, true] {
        let all = sleepers(&mut m);
        // Two of three at first: they are the first ones.
        let most = 2 * COUNT as u64 / 3;
        m.call(t, FUTEX, &[A, WAKE | PRIVATE, most]);
        assert_eq!(m.result(t), None, "it gives way");
        m.kernel.check().unwrap();
        assert_eq!(call(&mut m, other, GETPID, &[]), 2, "others get on");
        let done = steps::finish(&mut m, t);
        assert_eq!(done.result, most as i64);
        assert!(done.most < steps::MOST, "{}", done.most);
        steps::measure_until_idle(&mut m);
        assert_eq!(woken(&m, &all), most as usize);
        assert_eq!(m.result(all[most as usize]), None);
        for &thread in &all[..most as usize] {
            m.call(thread, EXIT, &[0]);
        }
        let rest = &all[most as usize..];
        let word = if moved { B } else { A };
        if moved {
            m.call(t, FUTEX, &[A, CMP_REQUEUE | PRIVATE, 1, ALL, B, 5]);
            let done = steps::finish(&mut m, t);
            assert_eq!(done.result, rest.len() as i64);
            assert!(done.most < steps::MOST);
        }
        m.call(t, FUTEX, &[word, WAKE | PRIVATE, ALL]);
        let done = steps::finish(&mut m, t);
        assert_eq!(done.result, (rest.len() - usize::from(moved)) as i64);
        assert!(done.most < steps::MOST);
        steps::measure_until_idle(&mut m);
        assert_eq!(woken(&m, rest), rest.len());
        for &thread in rest {
            m.call(thread, EXIT, &[0]);
        }
        steps::measure_until_idle(&mut m);
        m.kernel.check().unwrap();
    }
}
