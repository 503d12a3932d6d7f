//! The ends of processes with many threads, children, timers, and of PID namespaces with many processes go on
//! in pieces, and cost no more than what ends.

mod guest;

use guest::steps::*;
use guest::*;
use varve_core::machine::ThreadId;

const SIGKILL: u64 = 9;
const SIGSTOP: u64 = 19;
const PRCTL: u64 = 157;
const SET_PDEATHSIG: u64 = 1;
const SET_SUBREAPER: u64 = 36;
const PIPE: u64 = 22;
const READ: u64 = 0;
const TIMER_CREATE: u64 = 222;
const TIMER_SETTIME: u64 = 223;
const PIDFD_OPEN: u64 = 434;
const PROCESS_MRELEASE: u64 = 448;
const NEVER_LONG: u64 = 1_000_000;

/// A process that waits for ever.
fn sleeper(m: &mut Guests, parent: ThreadId) -> ThreadId {
    let child = fork_unchecked(m, parent);
    assert_eq!(m.call(child, PAUSE, &[]), None);
    child
}

/// The state is not looked at each time.
fn fork_unchecked(m: &mut Guests, parent: ThreadId) -> ThreadId {
    assert!(m.call(parent, FORK, &[]) > Some(0));
    *m.threads.keys().next_back().unwrap()
}

/// The first process of a PID namespace, with its number outside.
fn first_of_namespace(m: &mut Guests, parent: ThreadId) -> (ThreadId, i64) {
    let pid = call(m, parent, CLONE, &[CLONE_NEWPID | 17, 0, 0, 0, 0]);
    assert!(pid > 0, "{pid}");
    (*m.threads.keys().next_back().unwrap(), pid)
}

/// A namespace with so many processes ends: steps of all that.
fn end_of_namespace(count: usize) -> u64 {
    let mut m = machine_of(1 << 16);
    let init = m.first();
    let other = fork(&mut m, init);
    let (first, pid) = first_of_namespace(&mut m, init);
    // Some are children of others, some have ended and wait for nobody, one leads a namespace of its own.
    let parent = fork_unchecked(&mut m, first);
    let (inner, _) = first_of_namespace(&mut m, parent);
    for n in 0..count {
        match n % 4 {
            0 => drop(sleeper(&mut m, first)),
            1 => drop(sleeper(&mut m, parent)),
            2 => drop(sleeper(&mut m, inner)),
            _ => {
                let child = fork_unchecked(&mut m, parent);
                m.call(child, EXIT_GROUP, &[0]);
            }
        }
    }
    let last = fork_unchecked(&mut m, first);
    until_idle(&mut m);
    m.kernel.check().unwrap();
    assert_eq!(call(&mut m, init, KILL, &[pid as u64, SIGKILL]), 0);
    assert!(m.kernel.steps() < MOST);
    m.kernel.check().unwrap();
    // Nobody comes to be there any more.
    assert_eq!(m.call(last, FORK, &[]), Some(-12));
    assert_eq!(call(&mut m, other, GETPID, &[]), 2, "others get on");
    assert_eq!(m.call(init, WAIT4, &[pid as u64, DATA, 0, 0]), None);
    let ends = measure_until_idle(&mut m);
    ends.in_pieces(count / 100);
    m.kernel.check().unwrap();
    assert_eq!(m.result(init), Some(pid));
    assert_eq!(word(&mut m, init, DATA), SIGKILL as u32);
    assert_eq!(m.threads.len(), 2, "all of it is gone");
    ends.total
}

#[test]
fn the_end_of_a_pid_namespace() {
    let (few, many) = (end_of_namespace(500), end_of_namespace(2000));
    assert!(many < 5 * few, "{few} steps, then {many}");
}

#[test]
fn the_end_of_a_process_with_many_threads() {
    let mut m = machine();
    let init = m.first();
    let other = fork(&mut m, init);
    for whole in [true, false] {
        let main = fork(&mut m, init);
        let pid = call(&mut m, main, GETPID, &[]);
        let threads: Vec<ThreadId> = (0..2000)
            .map(|_| {
                m.call(main, CLONE, &[THREAD_FLAGS, 0, TID, TID, 0]);
                *m.threads.keys().next_back().unwrap()
            })
            .collect();
        let fd = call(&mut m, other, PIDFD_OPEN, &[pid as u64, 0]) as u64;
        let released = |m: &mut Guests| call(m, other, PROCESS_MRELEASE, &[fd, 0]);
        assert_eq!(released(&mut m), -22, "it lives");
        // A signal that nobody takes waits for all of them.
        sigaction(&mut m, main, 10, 0x5000, 0, 0);
        for &thread in threads.iter().take(1000) {
            m.call(thread, PAUSE, &[]);
        }
        match whole {
            true => drop(m.call(main, EXIT_GROUP, &[5])),
            false => assert_eq!(call(&mut m, init, KILL, &[pid as u64, SIGKILL]), 0),
        }
        assert!(m.kernel.steps() < MOST);
        m.kernel.check().unwrap();
        // One that still ran does nothing more.
        assert_eq!(m.call(threads[1500], GETPID, &[]), None);
        assert_eq!(call(&mut m, other, GETPID, &[]), 2, "others get on");
        // Who asks for its memory waits until that is there.
        assert_eq!(m.call(other, PROCESS_MRELEASE, &[fd, 0]), None);
        measure_until_idle(&mut m).in_pieces(10);
        m.kernel.check().unwrap();
        assert_eq!(m.result(other), Some(0));
        assert_eq!(released(&mut m), -3, "it has ended");
        assert_eq!(m.threads.len(), 2);
        let expected = if whole { 5 << 8 } else { SIGKILL as u32 };
        assert_eq!(call(&mut m, init, WAIT4, &[ANY, DATA, 0, 0]), pid);
        assert_eq!(word(&mut m, init, DATA), expected);
    }
}

/// A process with so many children ends, which another one gets: steps of all that.
fn end_of_a_parent(count: usize) -> u64 {
    let mut m = machine_of(1 << 16);
    let init = m.first();
    let reaper = fork(&mut m, init);
    assert_eq!(call(&mut m, reaper, PRCTL, &[SET_SUBREAPER, 1]), 0);
    // In a session of their own, where the parent alone controls the group of its children.
    assert!(call(&mut m, reaper, SETSID, &[]) > 0);
    let parent = fork(&mut m, reaper);
    let pid = call(&mut m, parent, GETPID, &[]) as u64;
    assert!(call(&mut m, parent, SETSID, &[]) > 0);
    let mut group = 0;
    for n in 0..count {
        let child = fork_unchecked(&mut m, parent);
        if n == 0 {
            group = m.call(child, GETPID, &[]).unwrap() as u64;
        }
        m.call(child, SETPGID, &[0, group]);
        if n % 8 == 1 {
            m.call(child, PRCTL, &[SET_PDEATHSIG, SIGKILL]);
        }
        m.call(child, PAUSE, &[]);
    }
    m.call(parent, KILL, &[group, SIGSTOP]);
    until_idle(&mut m);
    m.kernel.check().unwrap();
    m.call(parent, EXIT_GROUP, &[0]);
    assert!(m.kernel.steps() < MOST);
    m.kernel.check().unwrap();
    let ends = measure_until_idle(&mut m);
    ends.in_pieces(count / 100);
    m.kernel.check().unwrap();
    // The group has nobody who controls it and holds a stopped process: it is hung up.
    assert_eq!(call(&mut m, reaper, WAIT4, &[pid, 0, 0, 0]), pid as i64);
    let left = m.threads.len();
    assert_eq!(left, 2, "{left} threads are left");
    let mut reaped = 0;
    while call_in_pieces(&mut m, reaper, WAIT4, &[ANY, 0, WNOHANG, 0]).result > 0 {
        reaped += 1;
    }
    assert_eq!(reaped, count);
    ends.total
}

#[test]
fn the_end_of_a_process_with_many_children() {
    let (few, many) = (end_of_a_parent(300), end_of_a_parent(1200));
    assert!(many < 5 * few, "{few} steps, then {many}");
}

#[test]
fn the_end_of_a_thread_with_many_children() {
    let mut m = machine_of(1 << 16);
    let init = m.first();
    let main = fork(&mut m, init);
    let thread = thread(&mut m, main);
    let children: Vec<ThreadId> = (0..1000).map(|_| fork_unchecked(&mut m, thread)).collect();
    m.call(children[7], PRCTL, &[SET_PDEATHSIG, SIGKILL]);
    m.call(thread, EXIT, &[0]);
    assert!(m.kernel.steps() < MOST);
    m.kernel.check().unwrap();
    measure_until_idle(&mut m).in_pieces(2);
    m.kernel.check().unwrap();
    assert!(!m.threads.contains_key(&thread));
    assert!(!m.threads.contains_key(&children[7]));
    assert_eq!(call(&mut m, children[8], GETPPID, &[]), 2);
    assert_eq!(m.threads.len(), 1001);
}

/// Timers whose signals wait, and which are all taken away with their process.
fn end_of_timers(count: u64) -> u64 {
    let mut m = machine();
    let init = m.first();
    let child = fork(&mut m, init);
    // Signal 40 is blocked, each timer has one that waits.
    m.poke(child, DATA, &(1u64 << 39).to_le_bytes()).unwrap();
    assert_eq!(call(&mut m, child, SIGPROCMASK, &[0, DATA, 0, 8]), 0);
    for _ in 0..count {
        let event: Vec<u8> = [0, 40].iter().flat_map(|n: &u64| n.to_le_bytes()).collect();
        m.poke(child, DATA, &event).unwrap();
        assert_eq!(m.call(child, TIMER_CREATE, &[1, DATA, DATA + 64]), Some(0));
        let id = u64::from(word(&mut m, child, DATA + 64));
        let value = [0, 0, 0, NEVER_LONG];
        let value: Vec<u8> = value.iter().flat_map(|n| n.to_le_bytes()).collect();
        m.poke(child, DATA, &value).unwrap();
        assert_eq!(m.call(child, TIMER_SETTIME, &[id, 0, DATA, 0]), Some(0));
    }
    until_idle(&mut m);
    m.advance(NEVER_LONG);
    until_idle(&mut m);
    m.kernel.check().unwrap();
    m.call(child, EXIT_GROUP, &[0]);
    assert!(m.kernel.steps() < MOST);
    let ends = measure_until_idle(&mut m);
    m.kernel.check().unwrap();
    ends.total
}

#[test]
fn the_end_of_a_process_with_many_timers() {
    let (few, many) = (end_of_timers(700), end_of_timers(2800));
    assert!(many > few && many < 5 * few, "{few} steps, then {many}");
}

/// What threads wait for when their process ends is as if they had never been.
#[test]
fn threads_that_wait_when_their_process_ends() {
    let mut m = machine();
    let init = m.first();
    assert_eq!(call(&mut m, init, PIPE, &[DATA]), 0);
    let (read, write) = (word(&mut m, init, DATA), word(&mut m, init, DATA + 4));
    let main = fork(&mut m, init);
    for _ in 0..1500 {
        m.call(main, CLONE, &[THREAD_FLAGS, 0, TID, TID, 0]);
        let thread = *m.threads.keys().next_back().unwrap();
        assert_eq!(m.call(thread, READ, &[u64::from(read), DATA + 64, 1]), None);
    }
    m.call(main, EXIT_GROUP, &[0]);
    // Bytes that come meanwhile are not taken by those that are about to end.
    assert_eq!(call(&mut m, init, 1, &[u64::from(write), DATA, 1]), 1);
    measure_until_idle(&mut m).in_pieces(10);
    m.kernel.check().unwrap();
    assert_eq!(call(&mut m, init, READ, &[u64::from(read), DATA, 1]), 1);
}

/// A process of many threads, of which one executes a program: that thread, and its process.
fn executing(m: &mut Guests, init: ThreadId) -> (ThreadId, i64) {
    const EXECVE: u64 = 59;
    let main = fork(m, init);
    let pid = call(m, main, GETPID, &[]);
    let mut threads = Vec::new();
    for _ in 0..1000 {
        m.call(main, CLONE, &[THREAD_FLAGS, 0, TID, TID, 0]);
        threads.push(*m.threads.keys().next_back().unwrap());
    }
    for _ in 0..100 {
        let child = fork_unchecked(m, threads[9]);
        m.call(child, PAUSE, &[]);
    }
    for &thread in &threads[500..] {
        m.call(thread, PAUSE, &[]);
    }
    let thread = threads[7];
    m.poke(thread, DATA, b"/program\0").unwrap();
    m.call(thread, EXECVE, &[DATA, 0, 0]);
    assert_eq!(m.result(thread), None, "it gives way");
    m.kernel.check().unwrap();
    (thread, pid)
}

#[test]
fn a_program_is_executed_by_one_of_many_threads() {
    const OPEN: u64 = 2;
    const UNLINK: u64 = 87;
    let mut m = machine_of(1 << 15);
    let init = m.first();
    let other = fork(&mut m, init);
    m.poke(init, DATA, b"/program\0").unwrap();
    let file = call(&mut m, init, OPEN, &[DATA, 0o102, 0o700]) as u64;
    let text = program();
    let at = map(&mut m, init, text.len() as u64);
    m.poke(init, at, &text).unwrap();
    assert_eq!(call(&mut m, init, 1, &[file, at, text.len() as u64]), 4096);
    assert_eq!(call(&mut m, init, 3, &[file]), 0);

    let (thread, pid) = executing(&mut m, init);
    assert_eq!(call(&mut m, other, GETPID, &[]), 2, "others get on");
    let done = finish(&mut m, thread);
    assert!(done.result == 0 && done.most < MOST && done.inputs > 4);
    m.kernel.check().unwrap();
    assert_eq!(call(&mut m, thread, GETTID, &[]), pid);
    assert_eq!(m.threads.len(), 3 + 100);

    // The others are gone: what fails then ends the process.
    let (thread, pid) = executing(&mut m, init);
    m.poke(other, DATA, b"/program\0").unwrap();
    assert_eq!(call(&mut m, other, UNLINK, &[DATA]), 0);
    measure_until_idle(&mut m);
    m.kernel.check().unwrap();
    assert!(!m.threads.contains_key(&thread));
    assert_eq!(call(&mut m, init, WAIT4, &[pid as u64, DATA, 0, 0]), pid);
    assert_eq!(word(&mut m, init, DATA), 11);
}

#[test]
fn threads_with_long_robust_lists_end_one_after_the_other() {
    const SET_ROBUST_LIST: u64 = 273;
    const ENTRIES: u64 = 2048;
    const THREADS: usize = 24;
    let mut m = machine_of(1 << 14);
    let init = m.first();
    let process = fork(&mut m, init);
    // A head that leads to as many entries in a row; the words behind them are nobody's.
    let head = map(&mut m, process, 16 * 4096);
    let entry = |number: u64| head + 64 + 16 * number;
    let mut list = vec![0; 64 + 16 * ENTRIES as usize];
    let mut put = |at: u64, value: u64| {
        let at = (at - head) as usize;
        list[at..at + 8].copy_from_slice(&value.to_le_bytes());
    };
    put(head, entry(0));
    put(head + 8, 8);
    for number in 0..ENTRIES {
        put(
            entry(number),
            if number + 1 < ENTRIES {
                entry(number + 1)
            } else {
                head
            },
        );
    }
    m.poke(process, head, &list).unwrap();
    let mut all = vec![process];
    all.extend((0..THREADS).map(|_| thread(&mut m, process)));
    for &one in &all {
        assert_eq!(call(&mut m, one, SET_ROBUST_LIST, &[head, 24]), 0);
    }
    m.call(process, EXIT_GROUP, &[0]);
    m.kernel.check().unwrap();
    let mut measured = measure_until_idle(&mut m);
    // One list is looked at in one piece.
    assert!(measured.most < MOST + 2 * ENTRIES, "{measured:?}");
    measured.most = 0;
    measured.in_pieces(THREADS / 2);
    assert!(!m.threads.contains_key(&process));
}

/// A process of which many sets of semaphores have something to undo.
fn operated(m: &mut Guests, t: ThreadId) -> Vec<u64> {
    const SEMGET: u64 = 64;
    const SEMOP: u64 = 65;
    const SETS: usize = 10;
    const EACH: u64 = 32000;
    // `struct sembuf`: number 0, one more, `SEM_UNDO`.
    m.poke(t, DATA, &[0, 0, 1, 0, 0, 0x10]).unwrap();
    let make = |_| {
        let set = call(m, t, SEMGET, &[0, EACH, 0o1600]) as u64;
        assert_eq!(call(m, t, SEMOP, &[set, DATA, 1]), 0);
        set
    };
    (0..SETS).map(make).collect()
}

#[test]
fn semaphores_that_are_undone() {
    const OPEN: u64 = 2;
    const SEMCTL: u64 = 66;
    const UNSHARE: u64 = 272;
    const SETNS: u64 = 308;
    const SYSVSEM: u64 = 0x40000;
    const NEWIPC: u64 = 0x0800_0000;
    const GETVAL: u64 = 12;
    let mut m = machine();
    let init = m.first();
    let t = fork(&mut m, init);
    m.poke(t, DATA, b"/proc/1/ns/ipc\0").unwrap();
    let ns = call(&mut m, t, OPEN, &[DATA, 0]) as u64;
    let values = |m: &mut Guests, t, sets: &[u64]| -> Vec<i64> {
        let value = |&set: &u64| call(m, t, SEMCTL, &[set, 0, GETVAL, 0]);
        sets.iter().map(value).collect()
    };
    let calls: [(u64, &[u64]); 3] = [
        (UNSHARE, &[SYSVSEM]),
        (UNSHARE, &[NEWIPC]),
        (SETNS, &[ns, 0]),
    ];
    for (number, args) in calls {
        let sets = operated(&mut m, t);
        let stays = fork(&mut m, t);
        assert_eq!(values(&mut m, t, &sets), vec![1; sets.len()]);
        m.call(t, number, args);
        assert_eq!(m.result(t), None, "it gives way");
        m.kernel.check().unwrap();
        assert_eq!(call(&mut m, init, GETPID, &[]), 1, "others get on");
        let done = finish(&mut m, t);
        assert!(done.result == 0 && done.most < MOST && done.inputs > 2);
        m.kernel.check().unwrap();
        assert_eq!(values(&mut m, stays, &sets), vec![0; sets.len()]);
    }
}
