//! Files that many watch, and instances that watch many: what they are told and how they are closed goes on
//! in pieces.

mod guest;

use guest::steps::*;
use guest::*;
use varve_core::machine::ThreadId;

const READ: u64 = 0;
const WRITE: u64 = 1;
const OPEN: u64 = 2;
const CLOSE: u64 = 3;
const DUP: u64 = 32;
const FCNTL: u64 = 72;
const MKDIR: u64 = 83;
const CLOSE_RANGE: u64 = 436;
const EPOLL_WAIT: u64 = 232;
const EPOLL_CTL: u64 = 233;
const INOTIFY_ADD_WATCH: u64 = 254;
const IO_SETUP: u64 = 206;
const IO_DESTROY: u64 = 207;
const IO_SUBMIT: u64 = 209;
const EVENTFD2: u64 = 290;
const EPOLL_CREATE1: u64 = 291;
const INOTIFY_INIT1: u64 = 294;
const NONBLOCK: u64 = 0o4000;
const SETOWN: u64 = 8;
const EPOLLIN: u32 = 1;
const EINVAL: i64 = -22;

fn made(m: &mut Guests, t: ThreadId, number: u64, args: &[u64]) -> u64 {
    let result = m.call(t, number, args).expect("it returns");
    assert!(result >= 0, "{number}: {result}");
    result as u64
}

fn longs(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn watch(m: &mut Guests, t: ThreadId, epoll: u64, fd: u64, events: u32) {
    let mut event = events.to_le_bytes().to_vec();
    event.extend(fd.to_le_bytes());
    m.poke(t, DATA, &event).unwrap();
    made(m, t, EPOLL_CTL, &[epoll, 1, fd, DATA]);
}

/// How many events an instance has.
fn events(m: &mut Guests, t: ThreadId, epoll: u64) -> i64 {
    call_in_pieces(m, t, EPOLL_WAIT, &[epoll, DATA, 1, 0]).result
}

#[test]
fn a_counter_that_many_watch() {
    let mut m = machine();
    let t = m.first();
    let other = fork(&mut m, t);
    let counter = made(&mut m, t, EVENTFD2, &[0, NONBLOCK]);
    let fds: Vec<u64> = (0..100).map(|_| made(&mut m, t, DUP, &[counter])).collect();
    let mut instances = Vec::new();
    for _ in 0..60 {
        let epoll = made(&mut m, t, EPOLL_CREATE1, &[0]);
        fds.iter()
            .for_each(|&fd| watch(&mut m, t, epoll, fd, EPOLLIN));
        instances.push(epoll);
    }
    // The last of them is watched itself, and another process waits for that.
    let last = instances[59];
    let outer = made(&mut m, t, EPOLL_CREATE1, &[0]);
    watch(&mut m, t, outer, last, EPOLLIN);
    let waiter = thread(&mut m, t);
    assert_eq!(
        m.call(waiter, EPOLL_WAIT, &[outer, DATA + 64, 1, u64::MAX]),
        None
    );
    m.kernel.check().unwrap();
    let deadline = m.deadline;
    assert_eq!(deadline, None);

    m.poke(t, DATA, &longs(&[1])).unwrap();
    assert_eq!(call(&mut m, t, WRITE, &[counter, DATA, 8]), 8);
    assert!(m.kernel.steps() < MOST);
    assert_eq!(call(&mut m, other, GETPID, &[]), 2, "others get on");
    measure_until_idle(&mut m).in_pieces(3);
    m.kernel.check().unwrap();
    assert_eq!(m.result(waiter), Some(1));
    assert!(instances.iter().all(|&epoll| events(&mut m, t, epoll) == 1));

    // It is read: then nobody has anything, though each has a hundred that may be ready.
    assert_eq!(call(&mut m, t, READ, &[counter, DATA, 8]), 8);
    assert!(instances.iter().all(|&epoll| events(&mut m, t, epoll) == 0));
    assert_eq!(events(&mut m, t, outer), 0);

    // Announcements that come while one is on its way are not lost.
    m.poke(t, DATA, &longs(&[1])).unwrap();
    for _ in 0..3 {
        assert_eq!(call(&mut m, t, WRITE, &[counter, DATA, 8]), 8);
    }
    until_idle(&mut m);
    assert!(instances.iter().all(|&epoll| events(&mut m, t, epoll) == 1));

    // It is closed: at once nobody has any of it.
    for fd in fds.into_iter().chain([counter]) {
        call(&mut m, t, CLOSE, &[fd]);
        assert!(m.kernel.steps() < MOST);
    }
    // The other process has it still.
    gone(&mut m, other, EXIT_GROUP, &[0]);
    assert!(instances.iter().all(|&epoll| events(&mut m, t, epoll) == 0));
    measure_until_idle(&mut m);
    m.kernel.check().unwrap();
    assert!(instances.iter().all(|&epoll| events(&mut m, t, epoll) == 0));
}

#[test]
fn an_epoll_instance_of_many() {
    let mut m = machine();
    let t = m.first();
    let counter = made(&mut m, t, EVENTFD2, &[1, NONBLOCK]);
    let epoll = made(&mut m, t, EPOLL_CREATE1, &[0]);
    for _ in 0..8000 {
        let fd = made(&mut m, t, DUP, &[counter]);
        watch(&mut m, t, epoll, fd, EPOLLIN);
    }
    m.kernel.check().unwrap();
    let (text, most) = read_all(&mut m, t, &format!("/proc/self/fdinfo/{epoll}"));
    assert!(most < MOST, "{most}");
    let lines = text.iter().filter(|&&byte| byte == b'\n').count();
    assert_eq!(lines, 8004);
    // All were ready and are not.
    assert_eq!(call(&mut m, t, READ, &[counter, DATA, 8]), 8);
    let looked = call_in_pieces(&mut m, t, EPOLL_WAIT, &[epoll, DATA, 1, 0]);
    assert!(looked.result == 0 && looked.most < MOST && looked.inputs > 2);
    call(&mut m, t, CLOSE, &[epoll]);
    assert!(m.kernel.steps() < MOST);
    // What is left of it has no part in anything.
    m.poke(t, DATA, &longs(&[1])).unwrap();
    assert_eq!(call(&mut m, t, WRITE, &[counter, DATA, 8]), 8);
    let again = made(&mut m, t, EPOLL_CREATE1, &[0]);
    watch(&mut m, t, again, counter, EPOLLIN);
    measure_until_idle(&mut m).in_pieces(4);
    m.kernel.check().unwrap();
    assert_eq!(events(&mut m, t, again), 1);
}

#[test]
fn an_inotify_instance_of_many() {
    let mut m = machine_of(1 << 16);
    let t = m.first();
    let inotify = made(&mut m, t, INOTIFY_INIT1, &[NONBLOCK]);
    for n in 0..5000 {
        m.poke(t, DATA, format!("/d{n}\0").as_bytes()).unwrap();
        made(&mut m, t, MKDIR, &[DATA, 0o755]);
        made(&mut m, t, INOTIFY_ADD_WATCH, &[inotify, DATA, 0xfff]);
    }
    let (text, most) = read_all(&mut m, t, &format!("/proc/self/fdinfo/{inotify}"));
    assert!(most < MOST, "{most}");
    assert_eq!(text.iter().filter(|&&byte| byte == b'\n').count(), 5004);
    call(&mut m, t, CLOSE, &[inotify]);
    assert!(m.kernel.steps() < MOST);
    measure_until_idle(&mut m).in_pieces(4);
    m.kernel.check().unwrap();
}

/// A context with so many requests that wait for a counter.
fn requests(m: &mut Guests, t: ThreadId, counter: u64, count: u64) -> u64 {
    let array = map(m, t, count * 8);
    let request = DATA + 0x400;
    m.poke(t, array, &longs(&vec![request; count as usize]))
        .unwrap();
    m.poke(t, DATA, &longs(&[0])).unwrap();
    made(m, t, IO_SETUP, &[count, DATA]);
    let context = long(m, t, DATA);
    // A poll for input.
    let words = [7, 0, 5 | counter << 32, 1, 0, 0, 0, 0];
    m.poke(t, request, &longs(&words)).unwrap();
    let submitted = call_in_pieces(m, t, IO_SUBMIT, &[context, count, array]);
    assert_eq!(submitted.result, count as i64);
    context
}

#[test]
fn asynchronous_requests_that_end_together() {
    const COUNT: u64 = 6000;
    let mut m = machine();
    let t = m.first();
    let counter = made(&mut m, t, EVENTFD2, &[0, NONBLOCK]);
    let context = requests(&mut m, t, counter, COUNT);
    m.kernel.check().unwrap();
    m.poke(t, DATA, &longs(&[1])).unwrap();
    assert_eq!(call(&mut m, t, WRITE, &[counter, DATA, 8]), 8);
    assert!(m.kernel.steps() < MOST);
    measure_until_idle(&mut m).in_pieces(4);
    m.kernel.check().unwrap();
    // The ring's head and tail.
    let ring = [word(&mut m, t, context + 8), word(&mut m, t, context + 12)];
    assert_eq!(u64::from(ring[1] - ring[0]), COUNT);
    assert_eq!(call(&mut m, t, IO_DESTROY, &[context]), 0);

    // Given up: by a call, and with the process.
    assert_eq!(call(&mut m, t, READ, &[counter, DATA, 8]), 8);
    let context = requests(&mut m, t, counter, COUNT);
    let done = call_in_pieces(&mut m, t, IO_DESTROY, &[context]);
    assert!(done.result == 0 && done.most < MOST);
    m.kernel.check().unwrap();
    measure_until_idle(&mut m).in_pieces(2);
    m.kernel.check().unwrap();
    assert_eq!(call(&mut m, t, IO_DESTROY, &[context]), EINVAL);
    let child = fork(&mut m, t);
    requests(&mut m, child, counter, COUNT);
    m.call(child, EXIT_GROUP, &[0]);
    assert!(m.kernel.steps() < MOST);
    m.kernel.check().unwrap();
    measure_until_idle(&mut m).in_pieces(2);
    m.kernel.check().unwrap();
}

/// Many files of one pipe tell a group of many processes: signals are sent in pieces.
#[test]
fn signals_of_many_files_for_many_processes() {
    const PROCESSES: usize = 300;
    const FILES: u64 = 50;
    const MKNOD: u64 = 133;
    const SETFL: u64 = 4;
    const ASYNC: u64 = 0o20000;
    let mut m = machine_of(1 << 15);
    let t = m.first();
    let others = group(&mut m, t, PROCESSES);
    m.poke(t, DATA, b"/fifo\0").unwrap();
    made(&mut m, t, MKNOD, &[DATA, 0o10644, 0]);
    let mut fd = 0;
    for _ in 0..FILES {
        fd = made(&mut m, t, OPEN, &[DATA, 2 | NONBLOCK]);
        made(&mut m, t, FCNTL, &[fd, SETOWN, -2i64 as u64]);
        made(&mut m, t, FCNTL, &[fd, SETFL, ASYNC | NONBLOCK]);
    }
    m.kernel.check().unwrap();
    m.log.clear();
    assert_eq!(call(&mut m, t, WRITE, &[fd, DATA, 1]), 1);
    assert!(m.kernel.steps() < MOST);
    measure_until_idle(&mut m).in_pieces(20);
    m.kernel.check().unwrap();
    assert!(others.iter().all(|&other| m.result(other).is_some()));
}

/// A process group of this many and one, number 2, whose members wait for a signal and handle SIGIO.
fn group(m: &mut Guests, t: ThreadId, others: usize) -> Vec<ThreadId> {
    const SIGIO: u32 = 29;
    let member = fork(m, t);
    sigaction(m, member, SIGIO, 0x5000, 0, 0);
    assert_eq!(call(m, member, SETPGID, &[0, 0]), 0);
    let mut all = Vec::new();
    for _ in 0..others {
        m.call(member, FORK, &[]);
        let other = *m.threads.keys().next_back().unwrap();
        m.call(other, PAUSE, &[]);
        all.push(other);
    }
    all
}

/// What happens in a directory is told to many processes by and by, and to nobody for a file that is closed.
#[test]
fn signals_of_directories_for_many_processes() {
    const NOTIFY: u64 = 1026;
    const CREATE_AGAIN: u64 = 0x8000_0004;
    const ENOMEM: i64 = -12;
    let mut m = machine_of(1 << 15);
    let t = m.first();
    let others = group(&mut m, t, 300);
    m.poke(t, DATA, b"/\0").unwrap();
    let fds: Vec<u64> = (0..1025)
        .map(|_| made(&mut m, t, OPEN, &[DATA, 0]))
        .collect();
    for &fd in &fds[..1024] {
        made(&mut m, t, FCNTL, &[fd, SETOWN, -2i64 as u64]);
        made(&mut m, t, FCNTL, &[fd, NOTIFY, CREATE_AGAIN]);
    }
    // One event is compared with all of them.
    assert_eq!(
        call(&mut m, t, FCNTL, &[fds[1024], NOTIFY, CREATE_AGAIN]),
        ENOMEM
    );
    for close in [false, true] {
        m.poke(t, DATA, if close { b"/e\0" } else { b"/d\0" })
            .unwrap();
        assert_eq!(call(&mut m, t, MKDIR, &[DATA, 0o755]), 0);
        assert!(m.kernel.steps() < MOST, "{}", m.kernel.steps());
        m.kernel.check().unwrap();
        if close {
            m.call(t, CLOSE_RANGE, &[fds[0], fds[1024], 0]);
            m.kernel.check().unwrap();
        }
        let ended = measure_until_idle(&mut m);
        if !close {
            ended.in_pieces(200);
            assert!(others.iter().all(|&other| m.result(other).is_some()));
        }
        m.kernel.check().unwrap();
    }
}

/// Files in messages that nobody has received are closed by and by.
#[test]
fn files_in_messages() {
    const SOCKETPAIR: u64 = 53;
    const SENDMSG: u64 = 46;
    const EACH: u64 = 250;
    let mut m = machine();
    let t = m.first();
    let counter = made(&mut m, t, EVENTFD2, &[0, NONBLOCK]);
    // A `struct msghdr` with one byte and as many descriptors.
    let (header, vector, control) = (DATA + 0x100, DATA + 0x200, DATA + 0x1000);
    let len = 16 + 4 * EACH;
    m.poke(t, header, &longs(&[0, 0, vector, 1, control, len, 0]))
        .unwrap();
    m.poke(t, vector, &longs(&[DATA, 1])).unwrap();
    let mut rights = longs(&[len, 1 | 1 << 32]);
    (0..EACH).for_each(|_| rights.extend((counter as u32).to_le_bytes()));
    m.poke(t, control, &rights).unwrap();
    let mut pairs = Vec::new();
    for _ in 0..20 {
        made(&mut m, t, SOCKETPAIR, &[1, 1, 0, DATA + 0x80]);
        let pair = [word(&mut m, t, DATA + 0x80), word(&mut m, t, DATA + 0x84)];
        for _ in 0..20 {
            made(&mut m, t, SENDMSG, &[pair[0].into(), header, 0]);
        }
        pairs.extend(pair);
    }
    m.kernel.check().unwrap();
    let (first, last) = (u64::from(pairs[0]), u64::from(pairs[pairs.len() - 1]));
    m.call(t, CLOSE_RANGE, &[first, last, 0]);
    m.kernel.check().unwrap();
    measure_until_idle(&mut m).in_pieces(20);
    m.kernel.check().unwrap();
    let held = m.kernel.held().into_iter();
    let mut held = held.filter(|(name, _)| *name == "files in messages");
    assert_eq!(held.next().unwrap().1, 0);
}

/// So many instances watch one file, and no more.
#[test]
fn one_file_has_so_many_watches() {
    const SETRESUID: u64 = 117;
    let mut m = machine();
    let t = m.first();
    m.poke(t, DATA, b"/\0").unwrap();
    let mut count = 0;
    'all: for user in 1..20u64 {
        let child = fork(&mut m, t);
        assert_eq!(call(&mut m, child, SETRESUID, &[user; 3]), 0);
        for _ in 0..128 {
            let inotify = made(&mut m, child, INOTIFY_INIT1, &[0]);
            if m.call(child, INOTIFY_ADD_WATCH, &[inotify, DATA, 2]) == Some(-28) {
                break 'all;
            }
            count += 1;
        }
    }
    assert_eq!(count, 1024);
}
