//! Many threads that wait for one thing are woken in pieces, and none is forgotten.

mod guest;

use guest::steps::*;
use guest::*;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use varve_core::machine::ThreadId;

const READ: u64 = 0;
const WRITE: u64 = 1;
const OPEN: u64 = 2;
const CLOSE: u64 = 3;
const POLL: u64 = 7;
const IOCTL: u64 = 16;
const FIONREAD: u64 = 0x541b;
const PIPE: u64 = 22;
const MSGGET: u64 = 68;
const MSGSND: u64 = 69;
const MSGRCV: u64 = 70;
const SEMGET: u64 = 64;
const SEMOP: u64 = 65;
const SEMCTL: u64 = 66;
const FLOCK: u64 = 73;
const SETVAL: u64 = 16;
const IPC_RMID: u64 = 0;
const EIDRM: i64 = -43;

/// So many threads of a process in one call, which waits.
fn waiters(m: &mut Guests, count: usize, number: u64, args: &[u64]) -> Vec<ThreadId> {
    let main = m.first();
    let mut all = Vec::new();
    for _ in 0..count {
        m.call(main, CLONE, &[THREAD_FLAGS, 0, TID, TID, 0]);
        let thread = *m.threads.keys().next_back().unwrap();
        assert_eq!(m.call(thread, number, args), None);
        all.push(thread);
    }
    m.kernel.check().unwrap();
    all
}

fn pipe(m: &mut Guests) -> [u64; 2] {
    let t = m.first();
    assert_eq!(call(m, t, PIPE, &[DATA]), 0);
    [DATA, DATA + 4].map(|at| u64::from(word(m, t, at)))
}

/// How many have this result.
fn with(m: &Guests, threads: &[ThreadId], result: i64) -> usize {
    let results = threads.iter().map(|&thread| m.result(thread));
    results.filter(|&of| of == Some(result)).count()
}

/// Steps of a call that wakes one or two others.
const FEW: u64 = 100;

#[test]
fn readers_of_a_pipe() {
    const COUNT: usize = 2000;
    let mut m = machine();
    let t = m.first();
    let [read, write] = pipe(&mut m);
    let readers = waiters(&mut m, COUNT, READ, &[read, DATA + 64, 1]);
    // Each byte is for one of them, in the order in which they came.
    for &reader in &readers[..10] {
        assert_eq!(m.result(reader), None);
        assert_eq!(call(&mut m, t, WRITE, &[write, DATA, 1]), 1);
        assert!(m.kernel.steps() < FEW, "{}", m.kernel.steps());
        assert_eq!(m.result(reader), Some(1));
    }
    // Who has something hands the turn on.
    assert_eq!(
        call(&mut m, t, WRITE, &[write, DATA, COUNT as u64 / 2]),
        COUNT as i64 / 2
    );
    assert!(m.kernel.steps() < MOST);
    measure_until_idle(&mut m).in_pieces(4);
    m.kernel.check().unwrap();
    assert_eq!(with(&m, &readers, 1), COUNT / 2 + 10);
    assert_eq!(m.result(readers[COUNT / 2 + 9]), Some(1));
    // Those that are left see the end.
    assert_eq!(call(&mut m, t, CLOSE, &[write]), 0);
    assert!(m.kernel.steps() < MOST);
    measure_until_idle(&mut m).in_pieces(4);
    m.kernel.check().unwrap();
    assert_eq!(with(&m, &readers, 0), COUNT / 2 - 10);
}

/// Some leave by signals while others are being woken; what is there goes to those that stay.
#[test]
fn readers_that_leave_while_others_are_woken() {
    const COUNT: usize = 1500;
    let mut m = machine();
    let t = m.first();
    let [read, write] = pipe(&mut m);
    sigaction(&mut m, t, 10, 0x5000, 0, 0);
    let readers = waiters(&mut m, COUNT, READ, &[read, DATA + 64, 1]);
    assert_eq!(call(&mut m, t, WRITE, &[write, DATA, 600]), 600);
    // Their numbers go up from that of the first thread.
    for n in (1..COUNT as u64).step_by(3) {
        assert_eq!(m.call(t, TKILL, &[2 + n, 10]), Some(0));
    }
    measure_until_idle(&mut m);
    m.kernel.check().unwrap();
    // Who has one and is in the handler then shows another result.
    assert!(with(&m, &readers, 1) > 300);
    assert_eq!(call(&mut m, t, IOCTL, &[read, FIONREAD, DATA]), 0);
    assert_eq!(word(&mut m, t, DATA), 0, "all of it is read");
}

/// Those who are stopped are passed over, and look again when they go on.
#[test]
fn readers_that_are_stopped() {
    const SIGSTOP: u64 = 19;
    const SIGCONT: u64 = 18;
    let mut m = machine();
    let t = m.first();
    let [read, write] = pipe(&mut m);
    let stopped: Vec<ThreadId> = (0..400).map(|_| reader(&mut m, read)).collect();
    for n in 0..400 {
        assert_eq!(m.call(t, KILL, &[2 + n, SIGSTOP]), Some(0));
    }
    let [last, other] = [(); 2].map(|()| reader(&mut m, read));
    assert_eq!(call(&mut m, t, WRITE, &[write, DATA, 1]), 1);
    measure_until_idle(&mut m);
    m.kernel.check().unwrap();
    assert_eq!((m.result(last), m.result(other)), (Some(1), None));
    // What nobody takes is there for who goes on first.
    assert_eq!(call(&mut m, t, WRITE, &[write, DATA, 3]), 3);
    measure_until_idle(&mut m);
    m.kernel.check().unwrap();
    assert_eq!(m.result(other), Some(1));
    for n in [200, 7] {
        assert_eq!(m.call(t, KILL, &[2 + n, SIGCONT]), Some(0));
        measure_until_idle(&mut m);
        m.kernel.check().unwrap();
        assert_eq!(m.result(stopped[n as usize]), Some(1));
    }
    // One that is about to end is passed over, too.
    assert_eq!(m.call(t, KILL, &[2, SIGCONT]), Some(0));
    assert_eq!(m.call(t, KILL, &[3, SIGCONT]), Some(0));
    assert_eq!(m.call(t, KILL, &[2, 9]), Some(0));
    assert_eq!(call(&mut m, t, WRITE, &[write, DATA, 1]), 1);
    measure_until_idle(&mut m);
    m.kernel.check().unwrap();
    assert_eq!(m.result(stopped[1]), Some(1));
}

/// Whose turn it is hands it on when its process is stopped before it could run.
#[test]
fn a_turn_of_one_that_is_stopped() {
    let mut m = machine();
    let t = m.first();
    let [read, write] = pipe(&mut m);
    let main = fork(&mut m, t);
    let threads: Vec<ThreadId> = (0..200)
        .map(|_| {
            m.call(main, CLONE, &[THREAD_FLAGS, 0, TID, TID, 0]);
            let thread = *m.threads.keys().next_back().unwrap();
            assert_eq!(m.call(thread, READ, &[read, DATA + 64, 1]), None);
            thread
        })
        .collect();
    parks(&mut m, main, PAUSE, &[]);
    let others: Vec<ThreadId> = (0..100).map(|_| reader(&mut m, read)).collect();
    assert_eq!(call(&mut m, t, WRITE, &[write, DATA, 290]), 290);
    assert!(with(&m, &threads, 1) < 150, "it goes on");
    assert_eq!(call(&mut m, t, KILL, &[2, 19]), 0);
    until_idle(&mut m);
    m.kernel.check().unwrap();
    assert_eq!(with(&m, &others, 1), 100);
    assert_eq!(call(&mut m, t, IOCTL, &[read, FIONREAD, DATA]), 0);
    let left = word(&mut m, t, DATA);
    assert!(left > 50 && left < 190, "{left}");
    assert_eq!(call(&mut m, t, KILL, &[2, 18]), 0);
    until_idle(&mut m);
    m.kernel.check().unwrap();
    assert_eq!(with(&m, &threads, 1), 190);
}

/// A process that reads one byte, and waits for it.
fn reader(m: &mut Guests, read: u64) -> ThreadId {
    let t = m.first();
    assert!(m.call(t, FORK, &[]) > Some(0));
    let child = *m.threads.keys().next_back().unwrap();
    assert_eq!(m.call(child, READ, &[read, DATA + 64, 1]), None);
    child
}

#[test]
fn writers_to_a_full_pipe() {
    const COUNT: usize = 1000;
    let mut m = machine();
    let t = m.first();
    let [read, write] = pipe(&mut m);
    let buffer = map(&mut m, t, 1 << 16);
    assert_eq!(call(&mut m, t, WRITE, &[write, buffer, 1 << 16]), 1 << 16);
    let writers = waiters(&mut m, COUNT, WRITE, &[write, buffer, 4096]);
    for &writer in &writers[..10] {
        assert_eq!(m.result(writer), None);
        assert_eq!(call(&mut m, t, READ, &[read, buffer, 4096]), 4096);
        assert!(m.kernel.steps() < FEW, "{}", m.kernel.steps());
        assert_eq!(m.result(writer), Some(4096));
    }
    let mut left = COUNT - 10 + 16;
    while left > 0 {
        let got = call(&mut m, t, READ, &[read, buffer, 1 << 16]);
        assert_eq!(got % 4096, 0);
        left -= got as usize / 4096;
        measure_until_idle(&mut m);
    }
    assert_eq!(with(&m, &writers, 4096), COUNT);
}

#[test]
fn those_who_accept_and_receive() {
    const COUNT: usize = 600;
    const SOCKET: u64 = 41;
    const CONNECT: u64 = 42;
    const ACCEPT: u64 = 43;
    const SHUTDOWN: u64 = 48;
    const BIND: u64 = 49;
    const LISTEN: u64 = 50;
    const SOCKETPAIR: u64 = 53;
    const EINVAL: i64 = -22;
    let mut m = machine();
    let t = m.first();
    let listener = call(&mut m, t, SOCKET, &[1, 1, 0]) as u64;
    m.poke(t, DATA, b"\x01\0\0name").unwrap();
    assert_eq!(call(&mut m, t, BIND, &[listener, DATA, 7]), 0);
    assert_eq!(call(&mut m, t, LISTEN, &[listener, 100]), 0);
    let all = waiters(&mut m, COUNT, ACCEPT, &[listener, 0, 0]);
    for &thread in &all[..10] {
        assert_eq!(m.result(thread), None);
        let client = call(&mut m, t, SOCKET, &[1, 1, 0]) as u64;
        assert_eq!(call(&mut m, t, CONNECT, &[client, DATA, 7]), 0);
        assert!(m.kernel.steps() < FEW, "{}", m.kernel.steps());
        assert!(m.result(thread) > Some(0));
    }
    assert_eq!(call(&mut m, t, SHUTDOWN, &[listener, 0]), 0);
    measure_until_idle(&mut m);
    m.kernel.check().unwrap();
    assert_eq!(with(&m, &all, EINVAL), COUNT - 10);

    for kind in [1, 2, 5] {
        assert_eq!(call(&mut m, t, SOCKETPAIR, &[1, kind, 0, DATA]), 0);
        let [here, there] = [DATA, DATA + 4].map(|at| u64::from(word(&mut m, t, at)));
        let all = waiters(&mut m, COUNT, READ, &[here, DATA + 64, 1]);
        for &thread in &all[..10] {
            assert_eq!(m.result(thread), None);
            assert_eq!(call(&mut m, t, WRITE, &[there, DATA, 1]), 1);
            assert!(m.kernel.steps() < FEW, "{}", m.kernel.steps());
            assert_eq!(m.result(thread), Some(1));
        }
        assert_eq!(call(&mut m, t, SHUTDOWN, &[here, 0]), 0);
        measure_until_idle(&mut m);
        m.kernel.check().unwrap();
        assert_eq!(with(&m, &all, 0), COUNT - 10);
    }
}

#[test]
fn those_who_wait_for_messages_by_name() {
    const COUNT: usize = 600;
    const MQ_OPEN: u64 = 240;
    const MQ_SEND: u64 = 242;
    const MQ_RECEIVE: u64 = 243;
    let mut m = machine();
    let t = m.first();
    m.poke(t, DATA, b"q\0").unwrap();
    let queue = call(&mut m, t, MQ_OPEN, &[DATA, 0o102, 0o600, 0]) as u64;
    let buffer = map(&mut m, t, 8192);
    let all = waiters(&mut m, COUNT, MQ_RECEIVE, &[queue, buffer, 8192, 0, 0]);
    for &thread in &all {
        assert_eq!(m.result(thread), None);
        assert_eq!(m.call(t, MQ_SEND, &[queue, DATA, 5, 0, 0]), Some(0));
        assert!(m.kernel.steps() < FEW, "{}", m.kernel.steps());
        assert_eq!(m.result(thread), Some(5));
    }
    for _ in 0..10 {
        assert_eq!(m.call(t, MQ_SEND, &[queue, DATA, 5, 0, 0]), Some(0));
    }
    let all = waiters(&mut m, COUNT, MQ_SEND, &[queue, DATA, 6, 0, 0]);
    for &thread in &all {
        assert_eq!(m.result(thread), None);
        let got = m.call(t, MQ_RECEIVE, &[queue, buffer, 8192, 0, 0]);
        assert!(got > Some(0) && m.kernel.steps() < FEW);
        assert_eq!(m.result(thread), Some(0));
    }
    m.kernel.check().unwrap();
}

/// Readers and writers of a pipe come, are signalled, stopped, killed; nobody ever waits for what is there.
#[test]
fn nobody_waits_for_what_is_there() {
    for seed in 0..3 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut below = |end: u64| random.next_u64() % end;
        let mut m = machine();
        let t = m.first();
        let [read, write] = pipe(&mut m);
        let buffer = map(&mut m, t, 1 << 17);
        sigaction(&mut m, t, 10, 0x5000, 0, 0);
        let mut next = 2;
        for _ in 0..1000 {
            let some = 2 + below(next - 1);
            match below(12) {
                0..=3 if m.threads.len() < 100 => {
                    m.call(t, FORK, &[]);
                    next += 1;
                    let child = *m.threads.keys().next_back().unwrap();
                    let (number, fd) = [(READ, read), (WRITE, write)][below(2) as usize];
                    let len = [1, 100, 4096, 5000, 70_000][below(5) as usize];
                    m.call(child, number, &[fd, buffer, len]);
                }
                4 => assert!(m.call(t, KILL, &[some, 10]).is_some()),
                5 => assert!(m.call(t, KILL, &[some, 9]).is_some()),
                6 => assert!(m.call(t, KILL, &[some, 19]).is_some()),
                7 | 8 => assert!(m.call(t, KILL, &[some, 18]).is_some()),
                9 => {
                    assert_eq!(m.call(t, IOCTL, &[read, FIONREAD, DATA]), Some(0));
                    let bytes = u64::from(word(&mut m, t, DATA));
                    if bytes > 0 {
                        let got = m.call(t, READ, &[read, buffer, 1 + below(bytes)]);
                        assert!(got > Some(0));
                    }
                }
                10 => {
                    assert_eq!(m.call(t, IOCTL, &[read, FIONREAD, DATA]), Some(0));
                    if word(&mut m, t, DATA) < 4096 {
                        assert!(m.call(t, WRITE, &[write, buffer, 1 + below(100)]) > Some(0));
                    }
                }
                _ => assert!(until_idle(&mut m) < MOST),
            }
            m.kernel.check().unwrap();
        }
        until_idle(&mut m);
        m.kernel.check().unwrap();
    }
}

#[test]
fn semaphores_and_messages() {
    const COUNT: usize = 2000;
    let mut m = machine();
    let t = m.first();
    let set = call(&mut m, t, SEMGET, &[0, 1, 0o1600]) as u64;
    // `struct sembuf`: number 0, less one.
    m.poke(t, DATA + 64, &[0, 0, 0xff, 0xff, 0, 0]).unwrap();
    let takers = waiters(&mut m, COUNT, SEMOP, &[set, DATA + 64, 1]);
    assert_eq!(call(&mut m, t, SEMCTL, &[set, 0, SETVAL, 1200]), 0);
    assert!(m.kernel.steps() < MOST);
    measure_until_idle(&mut m).in_pieces(4);
    m.kernel.check().unwrap();
    assert_eq!(with(&m, &takers, 0), 1200);
    assert_eq!(m.result(takers[1199]), Some(0), "first come, first served");
    assert_eq!(call(&mut m, t, SEMCTL, &[set, 0, IPC_RMID, 0]), 0);
    measure_until_idle(&mut m).in_pieces(2);
    m.kernel.check().unwrap();
    assert_eq!(with(&m, &takers, EIDRM), COUNT - 1200);

    let queue = call(&mut m, t, MSGGET, &[0, 0o1600]) as u64;
    let receivers = waiters(&mut m, COUNT, MSGRCV, &[queue, DATA + 0x800, 8, 0, 0]);
    m.poke(t, DATA + 128, &1u64.to_le_bytes()).unwrap();
    for _ in 0..300 {
        assert_eq!(m.call(t, MSGSND, &[queue, DATA + 128, 8, 0]), Some(0));
        assert!(m.kernel.steps() < MOST);
    }
    measure_until_idle(&mut m).in_pieces(4);
    m.kernel.check().unwrap();
    assert_eq!(with(&m, &receivers, 8), 300);
}

#[test]
fn those_who_wait_for_the_lock_of_a_file() {
    const COUNT: usize = 2000;
    let mut m = machine();
    let t = m.first();
    m.poke(t, DATA, b"/f\0").unwrap();
    let [own, other] = [(); 2].map(|()| call(&mut m, t, OPEN, &[DATA, 0o102, 0o600]) as u64);
    assert_eq!(call(&mut m, t, FLOCK, &[own, 2]), 0);
    let shared = waiters(&mut m, COUNT, FLOCK, &[other, 1]);
    assert_eq!(call(&mut m, t, FLOCK, &[own, 8]), 0);
    assert!(m.kernel.steps() < MOST);
    measure_until_idle(&mut m).in_pieces(4);
    m.kernel.check().unwrap();
    assert_eq!(with(&m, &shared, 0), COUNT);
}

/// Those who wait for more than can be named look again whenever anything comes.
#[test]
fn those_who_wait_for_anything() {
    const COUNT: usize = 60;
    const FILES: u64 = 4200;
    const DUP: u64 = 32;
    let mut m = machine_of(1 << 15);
    let t = m.first();
    let [read, write] = pipe(&mut m);
    let table = map(&mut m, t, FILES * 8);
    let mut entries = Vec::new();
    let pipes: Vec<[u64; 2]> = (0..FILES).map(|_| pipe(&mut m)).collect();
    for [end, _] in pipes {
        entries.extend((end as u32).to_le_bytes());
        entries.extend([1, 0, 0, 0]);
    }
    entries[..4].copy_from_slice(&(read as u32).to_le_bytes());
    m.poke(t, table, &entries).unwrap();
    assert!(call(&mut m, t, DUP, &[read]) > 0);
    let pollers = waiters(&mut m, COUNT, POLL, &[table, FILES, u64::MAX]);
    measure_until_idle(&mut m);
    assert_eq!(with(&m, &pollers, 1), 0);
    assert_eq!(call(&mut m, t, WRITE, &[write, DATA, 1]), 1);
    assert!(m.kernel.steps() < MOST);
    measure_until_idle(&mut m).in_pieces(COUNT);
    m.kernel.check().unwrap();
    assert_eq!(with(&m, &pollers, 1), COUNT);
}
