//! epoll, eventfd, timerfd, signalfd, pidfd and POSIX timers on the in-memory host.

mod guest;

use guest::*;
use varve_core::machine::ThreadId;
use varve_core::syscall::TABLE;

const EBADF: i64 = 9;
const EEXIST: i64 = 17;
const ENOENT: i64 = 2;
const ELOOP: i64 = 40;

const IN: u32 = 1;
const OUT: u32 = 4;
const ERR: u32 = 8;
const HUP: u32 = 16;
const ET: u32 = 1 << 31;
const ONESHOT: u32 = 1 << 30;
const EXCLUSIVE: u32 = 1 << 28;
const ADD: u64 = 1;
const DEL: u64 = 2;
const MOD: u64 = 3;
const NONBLOCK: u64 = 0o4000;
const MS: u64 = 1_000_000;

const EVENT: u64 = DATA + 0x100;
const EVENTS: u64 = DATA + 0x200;
const NUMBER: u64 = DATA + 0x800;
const SPEC: u64 = DATA + 0x900;
const OLD: u64 = DATA + 0x940;

fn number(name: &str) -> u64 {
    let entry = TABLE.iter().find(|entry| entry.name == name);
    entry.expect("a known call").number
}

#[track_caller]
fn now(m: &mut Guests, t: ThreadId, name: &str, args: &[u64]) -> i64 {
    call(m, t, number(name), args)
}

#[track_caller]
fn waits(m: &mut Guests, t: ThreadId, name: &str, args: &[u64]) {
    parks(m, t, number(name), args);
}

fn ctl(m: &mut Guests, t: ThreadId, ep: u64, op: u64, fd: u64, events: u32) -> i64 {
    let mut bytes = events.to_le_bytes().to_vec();
    bytes.extend((fd + 1000).to_le_bytes());
    m.poke(t, EVENT, &bytes).unwrap();
    now(m, t, "epoll_ctl", &[ep, op, fd, EVENT])
}

/// What an epoll instance tells at once: events and descriptors.
#[track_caller]
fn told(m: &mut Guests, t: ThreadId, ep: u64) -> Vec<(u32, u64)> {
    let count = now(m, t, "epoll_wait", &[ep, EVENTS, 16, 0]);
    events(m, t, count)
}

fn events(m: &mut Guests, t: ThreadId, count: i64) -> Vec<(u32, u64)> {
    let bytes = m.peek(t, EVENTS, count as usize * 12).unwrap();
    let event = |bytes: &[u8]| {
        let events = u32::from_le_bytes(bytes[..4].try_into().unwrap());
        (
            events,
            u64::from_le_bytes(bytes[4..].try_into().unwrap()) - 1000,
        )
    };
    bytes.chunks(12).map(event).collect()
}

fn eventfd(m: &mut Guests, t: ThreadId, count: u64) -> u64 {
    now(m, t, "eventfd2", &[count, NONBLOCK]) as u64
}

fn add(m: &mut Guests, t: ThreadId, fd: u64, value: u64) -> i64 {
    m.poke(t, NUMBER, &value.to_le_bytes()).unwrap();
    now(m, t, "write", &[fd, NUMBER, 8])
}

fn take(m: &mut Guests, t: ThreadId, fd: u64) -> i64 {
    match now(m, t, "read", &[fd, NUMBER, 8]) {
        8 => long(m, t, NUMBER) as i64,
        other => other,
    }
}

fn pipe(m: &mut Guests, t: ThreadId, flags: u64) -> (u64, u64) {
    assert_eq!(now(m, t, "pipe2", &[NUMBER, flags]), 0);
    let [read, write] = [0, 4].map(|at| u64::from(word(m, t, NUMBER + at)));
    (read, write)
}

fn spec(m: &mut Guests, t: ThreadId, value: u64, interval: u64) {
    let words = [interval, value].map(|nanos| [nanos / 1_000_000_000, nanos % 1_000_000_000]);
    let bytes: Vec<u8> = words
        .concat()
        .iter()
        .flat_map(|word: &u64| word.to_le_bytes())
        .collect();
    m.poke(t, SPEC, &bytes).unwrap();
}

fn nanos(m: &mut Guests, t: ThreadId, at: u64) -> u64 {
    long(m, t, at) * 1_000_000_000 + long(m, t, at + 8)
}

#[test]
fn counters_count() {
    let mut m = boot();
    let a = m.first();
    let b = thread(&mut m, a);
    let fd = eventfd(&mut m, a, 3);
    assert_eq!(take(&mut m, a, fd), 3);
    assert_eq!(take(&mut m, a, fd), -EAGAIN);
    assert_eq!(now(&mut m, a, "read", &[fd, NUMBER, 7]), -EINVAL);
    assert_eq!(add(&mut m, a, fd, u64::MAX), -EINVAL);
    assert_eq!(add(&mut m, a, fd, u64::MAX - 1), 8);
    assert_eq!(add(&mut m, a, fd, 1), -EAGAIN);
    assert_eq!(take(&mut m, a, fd), -2);
    assert_eq!(now(&mut m, a, "eventfd2", &[0, 2]), -EINVAL);
    assert_eq!(now(&mut m, a, "lseek", &[fd, 0, 0]), 0);
    assert_eq!(now(&mut m, a, "pread64", &[fd, NUMBER, 8, 0]), -29);
    let fd = now(&mut m, a, "eventfd2", &[2, 1]) as u64;
    assert_eq!((take(&mut m, a, fd), take(&mut m, a, fd)), (1, 1));
    waits(&mut m, b, "read", &[fd, NUMBER, 8]);
    assert_eq!(add(&mut m, a, fd, 5), 8);
    assert_eq!(m.result(b), Some(8));
    assert_eq!(add(&mut m, a, fd, u64::MAX - 5), 8);
    m.poke(a, BARE, &5u64.to_le_bytes()).unwrap();
    waits(&mut m, b, "write", &[fd, BARE, 8]);
    assert_eq!(take(&mut m, a, fd), 1);
    assert_eq!(m.result(b), None, "one is not enough room");
}

#[test]
fn levels_are_told_again_and_edges_once() {
    let mut m = boot();
    let a = m.first();
    let ep = now(&mut m, a, "epoll_create1", &[0]) as u64;
    let (level, edge, once) = (
        eventfd(&mut m, a, 0),
        eventfd(&mut m, a, 1),
        eventfd(&mut m, a, 1),
    );
    assert_eq!(ctl(&mut m, a, ep, ADD, level, IN), 0);
    assert_eq!(ctl(&mut m, a, ep, ADD, edge, IN | ET), 0);
    assert_eq!(ctl(&mut m, a, ep, ADD, once, IN | ONESHOT), 0);
    assert_eq!(told(&mut m, a, ep), [(IN, edge), (IN, once)]);
    assert_eq!(told(&mut m, a, ep), []);
    add(&mut m, a, level, 1);
    add(&mut m, a, edge, 1);
    add(&mut m, a, once, 1);
    assert_eq!(told(&mut m, a, ep), [(IN, level), (IN, edge)]);
    assert_eq!(told(&mut m, a, ep), [(IN, level)]);
    take(&mut m, a, level);
    assert_eq!(told(&mut m, a, ep), []);
    // Armed again, what is there counts.
    assert_eq!(ctl(&mut m, a, ep, MOD, once, IN | OUT | ONESHOT), 0);
    assert_eq!(ctl(&mut m, a, ep, MOD, edge, IN | ET), 0);
    assert_eq!(told(&mut m, a, ep), [(IN | OUT, once), (IN, edge)]);
    assert_eq!(ctl(&mut m, a, ep, DEL, once, 0), 0);
    assert_eq!(ctl(&mut m, a, ep, DEL, once, 0), -ENOENT);
    assert_eq!(ctl(&mut m, a, ep, ADD, edge, IN), -EEXIST);
    // A closed file is watched no more, a duplicate keeps it.
    let copy = now(&mut m, a, "dup", &[edge]) as u64;
    now(&mut m, a, "close", &[edge]);
    add(&mut m, a, copy, 1);
    assert_eq!(told(&mut m, a, ep), [(IN, edge)]);
    now(&mut m, a, "close", &[copy]);
    now(&mut m, a, "close", &[level]);
    assert_eq!(told(&mut m, a, ep), []);
}

#[test]
fn the_end_of_a_list_comes_first_next_time() {
    let mut m = boot();
    let a = m.first();
    let ep = now(&mut m, a, "epoll_create", &[1]) as u64;
    let fds = [(); 3].map(|()| eventfd(&mut m, a, 1));
    for fd in fds {
        ctl(&mut m, a, ep, ADD, fd, IN);
    }
    for expected in [fds[0], fds[1], fds[2], fds[0]] {
        let count = now(&mut m, a, "epoll_wait", &[ep, EVENTS, 1, 0]);
        assert_eq!(events(&mut m, a, count), [(IN, expected)]);
    }
    assert_eq!(now(&mut m, a, "epoll_wait", &[ep, 0x10, 3, 0]), -EFAULT);
    assert_eq!(told(&mut m, a, ep).len(), 3, "nothing was lost");
}

#[test]
fn wrong_arguments_are_refused_as_by_linux() {
    let mut m = boot();
    let a = m.first();
    let ep = now(&mut m, a, "epoll_create1", &[0o2000000]) as u64;
    let fd = eventfd(&mut m, a, 0);
    m.poke(a, NUMBER, b"/f\0").unwrap();
    let file = now(&mut m, a, "open", &[NUMBER, 0o102, 0o600]) as u64;
    assert_eq!(now(&mut m, a, "epoll_create", &[0]), -EINVAL);
    assert_eq!(now(&mut m, a, "epoll_create1", &[1]), -EINVAL);
    assert_eq!(ctl(&mut m, a, ep, ADD, file, IN), -EPERM);
    assert_eq!(ctl(&mut m, a, ep, ADD, 99, IN), -EBADF);
    assert_eq!(ctl(&mut m, a, 99, ADD, fd, IN), -EBADF);
    assert_eq!(ctl(&mut m, a, fd, ADD, ep, IN), -EINVAL);
    assert_eq!(ctl(&mut m, a, ep, ADD, ep, IN), -EINVAL);
    assert_eq!(ctl(&mut m, a, ep, 7, fd, IN), -EINVAL);
    assert_eq!(now(&mut m, a, "epoll_ctl", &[ep, ADD, fd, 8]), -EFAULT);
    assert_eq!(now(&mut m, a, "epoll_wait", &[ep, EVENTS, 0, 0]), -EINVAL);
    assert_eq!(now(&mut m, a, "epoll_wait", &[fd, EVENTS, 1, 0]), -EINVAL);
    assert_eq!(
        now(&mut m, a, "epoll_pwait", &[ep, EVENTS, 1, 0, NUMBER, 4]),
        -EINVAL
    );
    assert_eq!(now(&mut m, a, "read", &[ep, NUMBER, 8]), -EINVAL);
    assert_eq!(
        ctl(&mut m, a, ep, ADD, fd, IN | EXCLUSIVE | ONESHOT),
        -EINVAL
    );
    assert_eq!(ctl(&mut m, a, ep, ADD, fd, IN | EXCLUSIVE), 0);
    assert_eq!(ctl(&mut m, a, ep, MOD, fd, IN), -EINVAL);
}

#[test]
fn waiting_ends_with_an_event_time_or_a_signal() {
    let mut m = boot();
    let a = m.first();
    let b = thread(&mut m, a);
    let ep = now(&mut m, a, "epoll_create1", &[0]) as u64;
    let (read, write) = pipe(&mut m, a, 0);
    ctl(&mut m, a, ep, ADD, read, IN);
    waits(&mut m, b, "epoll_wait", &[ep, EVENTS, 4, u64::MAX]);
    now(&mut m, a, "write", &[write, NUMBER, 3]);
    assert_eq!(m.result(b), Some(1));
    now(&mut m, a, "read", &[read, NUMBER, 3]);
    waits(&mut m, b, "epoll_wait", &[ep, EVENTS, 4, 20]);
    m.advance(20 * MS);
    assert_eq!(m.result(b), Some(0));
    spec(&mut m, a, 0, 5 * MS);
    waits(&mut m, b, "epoll_pwait2", &[ep, EVENTS, 4, SPEC, 0, 8]);
    m.advance(5 * MS);
    assert_eq!(m.result(b), Some(0));
    waits(&mut m, b, "epoll_wait", &[ep, EVENTS, 4, u64::MAX]);
    // A new file among those that are watched.
    let fd = eventfd(&mut m, a, 1);
    ctl(&mut m, a, ep, ADD, fd, IN);
    assert_eq!(m.result(b), Some(1));
    now(&mut m, a, "close", &[write]);
    assert_eq!(told(&mut m, a, ep), [(IN, fd), (HUP, read)]);
}

#[test]
fn edges_of_a_pipe_are_writes_and_room() {
    let mut m = boot();
    let a = m.first();
    let ep = now(&mut m, a, "epoll_create1", &[0]) as u64;
    let (read, write) = pipe(&mut m, a, NONBLOCK);
    ctl(&mut m, a, ep, ADD, read, IN | OUT | ET);
    ctl(&mut m, a, ep, ADD, write, IN | OUT | ET);
    assert_eq!(told(&mut m, a, ep), [(OUT, write)]);
    for _ in 0..2 {
        now(&mut m, a, "write", &[write, NUMBER, 3]);
        assert_eq!(told(&mut m, a, ep), [(IN, read)]);
    }
    now(&mut m, a, "read", &[read, NUMBER, 3]);
    assert_eq!(told(&mut m, a, ep), [], "there was room before");
    while now(&mut m, a, "write", &[write, BARE, 65536]) > 0 {}
    assert_eq!(told(&mut m, a, ep), [(IN, read)]);
    now(&mut m, a, "read", &[read, BARE, 40000]);
    assert_eq!(told(&mut m, a, ep), [(OUT, write)]);
    now(&mut m, a, "close", &[read]);
    assert_eq!(told(&mut m, a, ep), [(OUT | ERR, write)]);
}

/// Room for large reads and writes.
const BARE: u64 = DATA + 0x1_0000;

#[test]
fn instances_watch_each_other_but_not_in_circles() {
    let mut m = boot();
    let a = m.first();
    let ep: Vec<u64> = (0..6)
        .map(|_| now(&mut m, a, "epoll_create1", &[0]) as u64)
        .collect();
    let fd = eventfd(&mut m, a, 0);
    for pair in ep[..5].windows(2) {
        assert_eq!(ctl(&mut m, a, pair[0], ADD, pair[1], IN), 0);
    }
    assert_eq!(ctl(&mut m, a, ep[4], ADD, ep[0], IN), -ELOOP);
    assert_eq!(ctl(&mut m, a, ep[4], ADD, ep[5], IN), -ELOOP, "too deep");
    assert_eq!(ctl(&mut m, a, ep[5], ADD, ep[0], IN), -ELOOP, "too deep");
    assert_eq!(ctl(&mut m, a, ep[4], ADD, fd, IN), 0);
    let b = thread(&mut m, a);
    waits(&mut m, b, "epoll_wait", &[ep[0], EVENTS, 4, u64::MAX]);
    add(&mut m, a, fd, 1);
    assert_eq!(m.result(b), Some(1));
    assert_eq!(told(&mut m, a, ep[0]), [(IN, ep[1])]);
    take(&mut m, a, fd);
    assert_eq!(told(&mut m, a, ep[0]), []);
    // poll(2) of an instance.
    let mut entry = (ep[0] as u32).to_le_bytes().to_vec();
    entry.extend([1, 0, 0, 0]);
    m.poke(a, NUMBER + 0x20, &entry).unwrap();
    waits(&mut m, b, "poll", &[NUMBER + 0x20, 1, u64::MAX]);
    add(&mut m, a, fd, 1);
    assert_eq!(m.result(b), Some(1));
    for fd in ep {
        now(&mut m, a, "close", &[fd]);
    }
}

#[test]
fn timers_are_read() {
    let mut m = boot();
    let a = m.first();
    let b = thread(&mut m, a);
    assert_eq!(now(&mut m, a, "timerfd_create", &[2, 0]), -EINVAL);
    assert_eq!(now(&mut m, a, "timerfd_create", &[1, 1]), -EINVAL);
    let fd = now(&mut m, a, "timerfd_create", &[1, 0]) as u64;
    spec(&mut m, a, 10 * MS, 0);
    assert_eq!(
        now(&mut m, a, "timerfd_settime", &[fd, 4, SPEC, 0]),
        -EINVAL
    );
    assert_eq!(now(&mut m, a, "timerfd_settime", &[fd, 0, SPEC, OLD]), 0);
    assert_eq!(nanos(&mut m, a, OLD + 16), 0);
    assert_eq!(now(&mut m, a, "read", &[fd, NUMBER, 4]), -EINVAL);
    waits(&mut m, b, "read", &[fd, NUMBER, 8]);
    m.advance(10 * MS);
    assert_eq!((m.result(b), long(&mut m, a, NUMBER)), (Some(8), 1));
    assert_eq!(now(&mut m, a, "timerfd_gettime", &[fd, OLD]), 0);
    assert_eq!(nanos(&mut m, a, OLD + 16), 0);
    // Intervals that nobody reads are counted.
    spec(&mut m, a, 3 * MS, 2 * MS);
    assert_eq!(now(&mut m, a, "timerfd_settime", &[fd, 0, SPEC, 0]), 0);
    let ep = now(&mut m, a, "epoll_create1", &[0]) as u64;
    ctl(&mut m, a, ep, ADD, fd, IN | ET);
    m.advance(8 * MS);
    assert_eq!(told(&mut m, a, ep), [(IN, fd)]);
    assert_eq!(take(&mut m, a, fd), 3);
    m.advance(2 * MS);
    assert_eq!(told(&mut m, a, ep), [(IN, fd)]);
    assert_eq!(now(&mut m, a, "timerfd_gettime", &[fd, OLD]), 0);
    assert!((1..=2 * MS).contains(&nanos(&mut m, a, OLD + 16)));
    // Absolute, and in the past.
    spec(&mut m, a, 1, 0);
    assert_eq!(now(&mut m, a, "timerfd_settime", &[fd, 1, SPEC, OLD]), 0);
    assert_eq!(nanos(&mut m, a, OLD), 2 * MS);
    assert_eq!(take(&mut m, a, fd), 1);
    spec(&mut m, a, 0, 0);
    assert_eq!(now(&mut m, a, "timerfd_settime", &[fd, 0, SPEC, OLD]), 0);
    now(&mut m, a, "close", &[fd]);
}

#[test]
fn signals_are_read() {
    let mut m = boot();
    let a = m.first();
    let b = thread(&mut m, a);
    let mask: u64 = 1 << 9 | 1 << 33;
    m.poke(a, NUMBER, &mask.to_le_bytes()).unwrap();
    for t in [a, b] {
        now(&mut m, t, "rt_sigprocmask", &[0, NUMBER, 0, 8]);
    }
    let none = -1i64 as u64;
    assert_eq!(now(&mut m, a, "signalfd4", &[none, NUMBER, 4, 0]), -EINVAL);
    let fd = now(&mut m, a, "signalfd4", &[none, NUMBER, 8, 0]) as u64;
    let ep = now(&mut m, a, "epoll_create1", &[0]) as u64;
    ctl(&mut m, a, ep, ADD, fd, IN);
    waits(&mut m, b, "read", &[fd, BARE, 512]);
    let pid = now(&mut m, a, "getpid", &[]) as u64;
    assert_eq!(now(&mut m, a, "kill", &[pid, 10]), 0);
    assert_eq!(m.result(b), Some(128));
    assert_eq!(
        (word(&mut m, a, BARE), word(&mut m, a, BARE + 12)),
        (10, pid as u32)
    );
    assert_eq!(told(&mut m, a, ep), []);
    for _ in 0..2 {
        now(&mut m, a, "kill", &[pid, 34]);
    }
    assert_eq!(told(&mut m, a, ep), [(IN, fd)]);
    assert_eq!(now(&mut m, a, "read", &[fd, BARE, 1000]), 256);
    assert_eq!(now(&mut m, a, "read", &[fd, BARE, 100]), -EINVAL);
    // A new mask for the same descriptor.
    m.poke(a, NUMBER, &(1u64 << 33).to_le_bytes()).unwrap();
    assert_eq!(now(&mut m, a, "signalfd", &[fd, NUMBER, 8]), fd as i64);
    now(&mut m, a, "kill", &[pid, 10]);
    assert_eq!(told(&mut m, a, ep), []);
    assert_eq!(now(&mut m, a, "signalfd", &[ep, NUMBER, 8]), -EINVAL);
}

#[test]
fn processes_have_descriptors() {
    let mut m = boot();
    let a = m.first();
    let args = [0x1000u64, DATA, 0, 0, 17, 0, 0, 0, 0, 0, 0];
    let bytes: Vec<u8> = args.iter().flat_map(|word| word.to_le_bytes()).collect();
    m.poke(a, BARE, &bytes).unwrap();
    let pid = call(&mut m, a, CLONE3, &[BARE, 88]) as u64;
    let child = *m.threads.keys().next_back().unwrap();
    let fd = u64::from(word(&mut m, a, DATA));
    assert_eq!(now(&mut m, a, "fcntl", &[fd, 1]), 1, "close-on-exec");
    let again = now(&mut m, a, "pidfd_open", &[pid, NONBLOCK]) as u64;
    assert_eq!(now(&mut m, a, "pidfd_open", &[9999, 0]), -ESRCH);
    assert_eq!(now(&mut m, a, "pidfd_open", &[0, 0]), -EINVAL);
    let event = eventfd(&mut m, child, 42);
    assert_eq!(now(&mut m, a, "pidfd_getfd", &[fd, 99, 0]), -EBADF);
    assert_eq!(now(&mut m, a, "pidfd_getfd", &[0, 0, 0]), -EBADF);
    let event = now(&mut m, a, "pidfd_getfd", &[fd, event, 0]) as u64;
    assert_eq!(take(&mut m, a, event), 42);
    const P_PIDFD: u64 = 3;
    assert_eq!(
        call(&mut m, a, WAITID, &[P_PIDFD, again, 0, WEXITED, 0]),
        -EAGAIN
    );
    assert_eq!(
        call(&mut m, a, WAITID, &[P_PIDFD, 99, 0, WEXITED, 0]),
        -EBADF
    );
    let ep = now(&mut m, a, "epoll_create1", &[0]) as u64;
    ctl(&mut m, a, ep, ADD, fd, IN);
    assert_eq!(told(&mut m, a, ep), []);
    assert_eq!(now(&mut m, a, "pidfd_send_signal", &[fd, 0, 0, 0]), 0);
    parks(&mut m, child, PAUSE, &[]);
    assert_eq!(now(&mut m, a, "pidfd_send_signal", &[fd, 9, 0, 0]), 0);
    assert_eq!(told(&mut m, a, ep), [(IN, fd)]);
    assert_eq!(call(&mut m, a, WAITID, &[P_PIDFD, fd, BARE, WEXITED, 0]), 0);
    assert_eq!(word(&mut m, a, BARE + 16), pid as u32);
    assert_eq!(now(&mut m, a, "pidfd_send_signal", &[fd, 0, 0, 0]), -ESRCH);
    assert_eq!(told(&mut m, a, ep), [(IN | HUP, fd)]);
    assert_eq!(
        call(&mut m, a, WAITID, &[P_PIDFD, fd, BARE, WEXITED, 0]),
        -ECHILD
    );
}

#[test]
fn timers_send_signals_and_count_overruns() {
    let mut m = boot();
    let a = m.first();
    let signal = 34u64;
    m.poke(a, NUMBER, &(1u64 << (signal - 1)).to_le_bytes())
        .unwrap();
    now(&mut m, a, "rt_sigprocmask", &[0, NUMBER, 0, 8]);
    let mut event = [0u8; 64];
    event[..8].copy_from_slice(&777u64.to_le_bytes());
    event[8..12].copy_from_slice(&(signal as u32).to_le_bytes());
    m.poke(a, BARE, &event).unwrap();
    assert_eq!(now(&mut m, a, "timer_create", &[99, BARE, OLD]), -EINVAL);
    for expected in 0..2 {
        assert_eq!(now(&mut m, a, "timer_create", &[1, BARE, OLD]), 0);
        assert_eq!(word(&mut m, a, OLD), expected);
    }
    assert_eq!(now(&mut m, a, "timer_delete", &[0]), 0);
    assert_eq!(now(&mut m, a, "timer_gettime", &[0, OLD]), -EINVAL);
    spec(&mut m, a, 5 * MS, 2 * MS);
    assert_eq!(now(&mut m, a, "timer_settime", &[1, 0, SPEC, 0]), 0);
    assert_eq!(now(&mut m, a, "timer_gettime", &[1, OLD]), 0);
    assert!((4 * MS..=5 * MS).contains(&nanos(&mut m, a, OLD + 16)));
    m.advance(12 * MS);
    // The first expiry and three more that were missed.
    assert_eq!(
        call(&mut m, a, SIGTIMEDWAIT, &[NUMBER, BARE, 0, 8]),
        signal as i64
    );
    assert_eq!(word(&mut m, a, BARE + 8) as i32, -2, "SI_TIMER");
    assert_eq!(
        (word(&mut m, a, BARE + 16), word(&mut m, a, BARE + 20)),
        (1, 3)
    );
    assert_eq!(
        (long(&mut m, a, BARE + 24), long(&mut m, a, BARE + 40)),
        (777, 0)
    );
    assert_eq!(now(&mut m, a, "timer_getoverrun", &[1]), 3);
    parks(&mut m, a, SIGTIMEDWAIT, &[NUMBER, BARE, 0, 8]);
    m.advance(2 * MS);
    assert_eq!(m.result(a), Some(signal as i64));
    assert_eq!(word(&mut m, a, BARE + 20), 0);
    // Disarming takes a signal back that was not yet seen.
    m.advance(2 * MS);
    spec(&mut m, a, 0, 0);
    assert_eq!(now(&mut m, a, "timer_settime", &[1, 0, SPEC, OLD]), 0);
    assert_eq!(nanos(&mut m, a, OLD), 2 * MS);
    assert_eq!(call(&mut m, a, SIGPENDING, &[BARE, 8]), 0);
    assert_eq!(long(&mut m, a, BARE), 0);
    // The timers of a process end with it.
    let b = fork(&mut m, a);
    m.poke(b, BARE, &event).unwrap();
    assert_eq!(now(&mut m, b, "timer_create", &[1, BARE, OLD]), 0);
    spec(&mut m, b, 5 * MS, 2 * MS);
    assert_eq!(now(&mut m, b, "timer_settime", &[0, 0, SPEC, 0]), 0);
    gone(&mut m, b, EXIT_GROUP, &[0]);
    m.advance(20 * MS);
    m.kernel.check().unwrap();
}
