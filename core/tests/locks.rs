//! Many record locks that are given back or replaced together, and many who wait for some: in pieces of which
//! nobody sees one.

mod guest;

use guest::steps::*;
use guest::*;
use varve_core::machine::ThreadId;

const OPEN: u64 = 2;
const CLOSE: u64 = 3;
const FCNTL: u64 = 72;
const GETLK: u64 = 5;
const SETLK: u64 = 6;
const SETLKW: u64 = 7;
const OFD_SETLK: u64 = 37;
const SHARED: u16 = 0;
const EXCLUSIVE: u16 = 1;
const UNLOCK: u16 = 2;
const COUNT: u64 = 12_000;
const FLOCK: u64 = DATA + 0x100;

/// A `struct flock` from a byte on, of a length (0: to the end).
fn describe(m: &mut Guests, t: ThreadId, kind: u16, start: u64, len: u64) {
    let mut bytes = kind.to_le_bytes().to_vec();
    bytes.extend([0; 6]);
    bytes.extend(start.to_le_bytes());
    bytes.extend(len.to_le_bytes());
    bytes.extend([0; 8]);
    m.poke(t, FLOCK, &bytes).unwrap();
}

fn open(m: &mut Guests, t: ThreadId) -> u64 {
    m.poke(t, DATA, b"/f\0").unwrap();
    let fd = call(m, t, OPEN, &[DATA, 0o102, 0o600]);
    assert!(fd >= 0, "{fd}");
    fd as u64
}

/// Locks every other byte.
fn lock_many(m: &mut Guests, t: ThreadId, fd: u64, command: u64) {
    for n in 0..COUNT {
        describe(m, t, EXCLUSIVE, 2 * n, 1);
        assert_eq!(m.call(t, FCNTL, &[fd, command, FLOCK]), Some(0));
    }
    m.kernel.check().unwrap();
}

/// How many lines `/proc/locks` has.
fn shown(m: &mut Guests, t: ThreadId) -> usize {
    let (text, most) = read_all_of(m, t, "/proc/locks");
    assert!(most < MOST, "{most}");
    text.iter().filter(|&&byte| byte == b'\n').count()
}

fn read_all_of(m: &mut Guests, t: ThreadId, name: &str) -> (Vec<u8>, u64) {
    const READ: u64 = 0;
    m.poke(t, DATA, &[name.as_bytes(), b"\0"].concat()).unwrap();
    let fd = call(m, t, OPEN, &[DATA, 0]) as u64;
    let len = 1 << 16;
    let buffer = map(m, t, len);
    let (mut text, mut most) = (Vec::new(), 0);
    loop {
        let done = call_in_pieces(m, t, READ, &[fd, buffer, len]);
        assert!(done.result >= 0, "{}", done.result);
        most = most.max(done.most);
        if done.result == 0 {
            break;
        }
        text.extend(m.peek(t, buffer, done.result as usize).unwrap());
    }
    call(m, t, CLOSE, &[fd]);
    (text, most)
}

/// What one process does with all of its locks, and what another one gets then.
fn given_back(give_back: impl Fn(&mut Guests, ThreadId, u64), command: u64) {
    let mut m = machine();
    let init = m.first();
    let t = fork(&mut m, init);
    let [waits, asks] = [(); 2].map(|()| fork(&mut m, init));
    let fd = open(&mut m, t);
    lock_many(&mut m, t, fd, command);
    let other = open(&mut m, waits);
    describe(&mut m, waits, EXCLUSIVE, 7, 0);
    parks(&mut m, waits, FCNTL, &[other, SETLKW, FLOCK]);
    let third = open(&mut m, asks);
    describe(&mut m, asks, EXCLUSIVE, 0, 7);
    assert_eq!(
        call(&mut m, asks, FCNTL, &[third, SETLK, FLOCK]),
        -EAGAIN,
        "they are in the way"
    );
    assert_eq!(shown(&mut m, init), COUNT as usize);

    give_back(&mut m, t, fd);
    assert!(m.kernel.steps() < MOST, "{}", m.kernel.steps());
    m.kernel.check().unwrap();
    assert!(m.deadline.is_some(), "it goes on");
    // As soon as the call has returned nothing is in the way any more.
    let got = call_in_pieces(&mut m, asks, FCNTL, &[third, SETLK, FLOCK]);
    assert!(got.result == 0 && got.most < MOST, "{}", got.result);
    m.kernel.check().unwrap();
    measure_until_idle(&mut m).in_pieces(1);
    m.kernel.check().unwrap();
    assert_eq!(m.result(waits), Some(0));
    assert_eq!(shown(&mut m, init), 2);
}

#[test]
fn locks_that_go_with_a_descriptor() {
    given_back(|m, t, fd| assert_eq!(call(m, t, CLOSE, &[fd]), 0), SETLK);
}

#[test]
fn locks_of_an_open_file() {
    given_back(
        |m, t, fd| assert_eq!(call(m, t, CLOSE, &[fd]), 0),
        OFD_SETLK,
    );
}

#[test]
fn locks_that_go_with_a_process() {
    given_back(
        |m, t, _| assert_eq!(m.call(t, EXIT_GROUP, &[0]), None),
        SETLK,
    );
}

#[test]
fn locks_that_are_given_back_by_one_call() {
    let unlock = |m: &mut Guests, t, fd| {
        describe(m, t, UNLOCK, 0, 0);
        assert_eq!(call(m, t, FCNTL, &[fd, SETLK, FLOCK]), 0);
    };
    given_back(unlock, SETLK);
}

/// Gone locks are not shown, though they are there for a while.
#[test]
fn locks_that_go_are_not_shown() {
    let mut m = machine();
    let init = m.first();
    let t = fork(&mut m, init);
    let fd = open(&mut m, t);
    lock_many(&mut m, t, fd, SETLK);
    assert_eq!(call(&mut m, t, CLOSE, &[fd]), 0);
    assert!(m.deadline.is_some(), "it goes on");
    assert_eq!(shown(&mut m, init), 0);
}

/// One lock takes the place of many; those who want to read get on when it is a shared one.
#[test]
fn one_lock_instead_of_many() {
    let mut m = machine();
    let init = m.first();
    let t = fork(&mut m, init);
    let other = fork(&mut m, init);
    let fd = open(&mut m, t);
    lock_many(&mut m, t, fd, SETLK);
    let second = open(&mut m, other);
    describe(&mut m, other, SHARED, 0, 0);
    parks(&mut m, other, FCNTL, &[second, SETLKW, FLOCK]);
    describe(&mut m, t, SHARED, 1, 2 * COUNT);
    let done = call_in_pieces(&mut m, t, FCNTL, &[fd, SETLK, FLOCK]);
    assert!(done.result == 0 && done.most < MOST);
    // One byte is locked exclusively still.
    assert!(measure_until_idle(&mut m).most < MOST);
    m.kernel.check().unwrap();
    assert_eq!(m.result(other), None);
    assert_eq!(shown(&mut m, init), 2);
    describe(&mut m, t, SHARED, 0, 0);
    assert_eq!(call(&mut m, t, FCNTL, &[fd, SETLK, FLOCK]), 0);
    measure_until_idle(&mut m);
    m.kernel.check().unwrap();
    assert_eq!(m.result(other), Some(0));
    // Nobody else can write, and it is said who is in the way.
    let third = open(&mut m, init);
    describe(&mut m, init, EXCLUSIVE, 5, 1);
    assert_eq!(call(&mut m, init, FCNTL, &[third, GETLK, FLOCK]), 0);
    assert_eq!(word(&mut m, init, FLOCK) as u16, SHARED);
}

/// A lock that was waited for takes the place of many others of its owner.
#[test]
fn a_lock_that_is_waited_for_instead_of_many() {
    let mut m = machine();
    let init = m.first();
    let holder = fork(&mut m, init);
    let t = fork(&mut m, init);
    let held = open(&mut m, holder);
    describe(&mut m, holder, EXCLUSIVE, 1 << 20, 1);
    assert_eq!(call(&mut m, holder, FCNTL, &[held, SETLK, FLOCK]), 0);
    let fd = open(&mut m, t);
    lock_many(&mut m, t, fd, SETLK);
    describe(&mut m, t, SHARED, 0, 0);
    parks(&mut m, t, FCNTL, &[fd, SETLKW, FLOCK]);
    let reader = fork(&mut m, init);
    let third = open(&mut m, reader);
    describe(&mut m, reader, SHARED, 0, 1);
    parks(&mut m, reader, FCNTL, &[third, SETLKW, FLOCK]);
    assert_eq!(call(&mut m, holder, CLOSE, &[held]), 0);
    assert!(m.kernel.steps() < MOST);
    measure_until_idle(&mut m).in_pieces(2);
    m.kernel.check().unwrap();
    assert_eq!((m.result(t), m.result(reader)), (Some(0), Some(0)));
    assert_eq!(shown(&mut m, init), 2);
}

/// Many wait for different ranges that one lock is in the way of, some for the same.
#[test]
fn many_who_wait_for_different_ranges() {
    const WAITERS: u64 = 1500;
    let mut m = machine();
    let init = m.first();
    let holder = fork(&mut m, init);
    let held = open(&mut m, holder);
    describe(&mut m, holder, EXCLUSIVE, 0, 0);
    assert_eq!(call(&mut m, holder, FCNTL, &[held, SETLK, FLOCK]), 0);
    let fd = open(&mut m, init);
    let mut waiters = Vec::new();
    for n in 0..WAITERS {
        m.call(init, FORK, &[]);
        let waiter = *m.threads.keys().next_back().unwrap();
        describe(&mut m, waiter, EXCLUSIVE, n / 3 * 4, 4);
        assert_eq!(m.call(waiter, FCNTL, &[fd, SETLKW, FLOCK]), None);
        waiters.push(waiter);
    }
    m.kernel.check().unwrap();
    assert_eq!(call(&mut m, holder, CLOSE, &[held]), 0);
    assert!(m.kernel.steps() < MOST);
    measure_until_idle(&mut m).in_pieces(2);
    m.kernel.check().unwrap();
    // The first for each range has it.
    for (n, &waiter) in waiters.iter().enumerate() {
        assert_eq!(m.result(waiter), (n % 3 == 0).then_some(0), "{n}");
    }
}

/// Too many locks are no reason for an error while some of them are on their way out.
#[test]
fn room_for_locks_comes_with_those_that_go() {
    const ALL: u64 = 1 << 16;
    const ENOLCK: i64 = -37;
    let mut m = machine_of(1 << 15);
    let init = m.first();
    let t = fork(&mut m, init);
    let fd = open(&mut m, t);
    for n in 0..ALL {
        describe(&mut m, t, EXCLUSIVE, 2 * n, 1);
        assert_eq!(m.call(t, FCNTL, &[fd, SETLK, FLOCK]), Some(0));
    }
    m.poke(init, DATA, b"/g\0").unwrap();
    let other = call(&mut m, init, OPEN, &[DATA, 0o102, 0o600]) as u64;
    describe(&mut m, init, EXCLUSIVE, 0, 1);
    assert_eq!(call(&mut m, init, FCNTL, &[other, SETLK, FLOCK]), ENOLCK);
    assert_eq!(call(&mut m, init, 73, &[other, 2]), ENOLCK);
    assert_eq!(call(&mut m, t, CLOSE, &[fd]), 0);
    assert_eq!(call(&mut m, init, FCNTL, &[other, SETLK, FLOCK]), 0);
    measure_until_idle(&mut m).in_pieces(20);
    m.kernel.check().unwrap();
}
