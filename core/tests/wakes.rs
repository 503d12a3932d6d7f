//! Many threads that wait for one thing are woken in pieces, and none is forgotten.

mod guest;

use guest::steps::*;
use guest::*;
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

#[test]
fn readers_of_a_pipe() {
    const COUNT: usize = 2000;
    let mut m = machine();
    let t = m.first();
    let [read, write] = pipe(&mut m);
    let other = fork(&mut m, t);
    assert_eq!(call(&mut m, other, CLOSE, &[write]), 0);
    let readers = waiters(&mut m, COUNT, READ, &[read, DATA + 64, 1]);
    // One byte is for one of them.
    assert_eq!(call(&mut m, t, WRITE, &[write, DATA, 1]), 1);
    assert!(m.kernel.steps() < MOST);
    assert_eq!(call(&mut m, other, GETPID, &[]), 2, "others get on");
    settle_all(&mut m).in_pieces(4);
    m.kernel.check().unwrap();
    assert_eq!(m.result(readers[0]), Some(1), "it came first");
    assert_eq!(with(&m, &readers, 1), 1);
    // Bytes that come while wakes are under way, one after the other: each of them is read.
    for _ in 0..COUNT / 2 {
        assert_eq!(m.call(t, WRITE, &[write, DATA, 1]), Some(1));
        assert!(m.kernel.steps() < MOST);
    }
    settle_all(&mut m).in_pieces(4);
    m.kernel.check().unwrap();
    assert_eq!(with(&m, &readers, 1), COUNT / 2 + 1);
    // Those that are left see the end.
    assert_eq!(call(&mut m, t, CLOSE, &[write]), 0);
    settle_all(&mut m).in_pieces(4);
    m.kernel.check().unwrap();
    assert_eq!(with(&m, &readers, 0), COUNT / 2 - 1);
}

/// Some leave by signals while they are being woken; the others get what is there.
#[test]
fn readers_that_leave_while_they_are_woken() {
    const COUNT: usize = 1500;
    let mut m = machine();
    let t = m.first();
    let [read, write] = pipe(&mut m);
    sigaction(&mut m, t, 10, 0x5000, 0, 0);
    let readers = waiters(&mut m, COUNT, READ, &[read, DATA + 64, 1]);
    let bytes = 100;
    assert_eq!(call(&mut m, t, WRITE, &[write, DATA, bytes]), 100);
    // Their numbers go up from that of the first thread.
    for n in (1..COUNT as u64).step_by(3) {
        assert_eq!(m.call(t, TKILL, &[2 + n, 10]), Some(0));
    }
    settle_all(&mut m);
    m.kernel.check().unwrap();
    // Who has one and is in the handler then shows another result.
    assert!(with(&m, &readers, 1) > 50);
    assert_eq!(call(&mut m, t, IOCTL, &[read, FIONREAD, DATA]), 0);
    assert_eq!(word(&mut m, t, DATA), 0, "all of it is read");
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
    settle_all(&mut m).in_pieces(4);
    m.kernel.check().unwrap();
    assert_eq!(with(&m, &takers, 0), 1200);
    assert_eq!(m.result(takers[1199]), Some(0), "first come, first served");
    assert_eq!(call(&mut m, t, SEMCTL, &[set, 0, IPC_RMID, 0]), 0);
    settle_all(&mut m).in_pieces(2);
    m.kernel.check().unwrap();
    assert_eq!(with(&m, &takers, EIDRM), COUNT - 1200);

    let queue = call(&mut m, t, MSGGET, &[0, 0o1600]) as u64;
    let receivers = waiters(&mut m, COUNT, MSGRCV, &[queue, DATA + 0x800, 8, 0, 0]);
    m.poke(t, DATA + 128, &1u64.to_le_bytes()).unwrap();
    for _ in 0..300 {
        assert_eq!(m.call(t, MSGSND, &[queue, DATA + 128, 8, 0]), Some(0));
        assert!(m.kernel.steps() < MOST);
    }
    settle_all(&mut m).in_pieces(4);
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
    settle_all(&mut m).in_pieces(4);
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
    settle_all(&mut m);
    assert_eq!(with(&m, &pollers, 1), 0);
    assert_eq!(call(&mut m, t, WRITE, &[write, DATA, 1]), 1);
    assert!(m.kernel.steps() < MOST);
    settle_all(&mut m).in_pieces(COUNT);
    m.kernel.check().unwrap();
    assert_eq!(with(&m, &pollers, 1), COUNT);
}
