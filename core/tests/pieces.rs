//! Calls on many things go on in pieces: no input takes more steps than a bound, others get on meanwhile, and
//! the outcome is that of one piece.

mod guest;

use guest::steps::*;
use guest::*;
use varve_core::machine::ThreadId;

const READ: u64 = 0;
const WRITE: u64 = 1;
const STAT: u64 = 4;
const POLL: u64 = 7;
const CLOSE: u64 = 3;
const MMAP: u64 = 9;
const MPROTECT: u64 = 10;
const MUNMAP: u64 = 11;
const MSYNC: u64 = 26;
const MADVISE: u64 = 28;
const DUP2: u64 = 33;
const FTRUNCATE: u64 = 77;
const MLOCK: u64 = 149;
const MUNLOCK: u64 = 150;
const MLOCKALL: u64 = 151;
const MUNLOCKALL: u64 = 152;
const TIMER_CREATE: u64 = 222;
const TIMER_SETTIME: u64 = 223;
const TIMER_GETTIME: u64 = 224;
const MEMFD_CREATE: u64 = 319;
const DONTNEED: u64 = 4;
const DONTDUMP: u64 = 16;
const DODUMP: u64 = 17;
const POPULATE_WRITE: u64 = 23;
/// `MAP_SHARED`, `MAP_POPULATE`.
const SHARED: u64 = 1;
const POPULATE: u64 = 0x8000;
const SELECT: u64 = 23;
const RENAME: u64 = 82;
const MKDIR: u64 = 83;
const SYMLINK: u64 = 88;
const EVENTFD2: u64 = 290;
const CLOSE_RANGE: u64 = 436;
const SIGKILL: u64 = 9;
/// `MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE`, and `MAP_FIXED`.
const SPARSE: u64 = 0x4022;
const FIXED: u64 = 0x10;
const PAGE: u64 = 4096;
const FAR: u64 = 0x1000_0000_0000;
const NEVER: u64 = u64::MAX;

fn event(m: &mut Guests, thread: ThreadId) -> i32 {
    m.call(thread, EVENTFD2, &[0, 0]).expect("it returns") as i32
}

/// Counts an eventfd up.
fn ring(m: &mut Guests, thread: ThreadId, fd: i32) {
    m.poke(thread, DATA, &1u64.to_le_bytes()).unwrap();
    assert_eq!(call(m, thread, WRITE, &[fd as u64, DATA, 8]), 8);
}

/// Entries of poll(2) that ask for input.
fn entries(m: &mut Guests, thread: ThreadId, fds: impl Iterator<Item = i32>) -> (u64, u64) {
    let bytes: Vec<u8> = fds
        .flat_map(|fd| [fd.to_le_bytes(), 1u32.to_le_bytes()])
        .flatten()
        .collect();
    let at = map(m, thread, bytes.len() as u64);
    m.poke(thread, at, &bytes).unwrap();
    (at, bytes.len() as u64 / 8)
}

#[test]
fn poll_of_many_entries() {
    let mut m = machine();
    let init = m.first();
    let fds: Vec<i32> = (0..8).map(|_| event(&mut m, init)).collect();
    let other = fork(&mut m, init);
    let (list, count) = entries(&mut m, init, (0..200_000).map(|n| fds[n % 8]));
    m.call(init, POLL, &[list, count, 0]);
    assert_eq!(m.result(init), None, "it gives way");
    assert_eq!(call(&mut m, other, GETPID, &[]), 2, "others get on");
    let done = finish(&mut m, init);
    assert_eq!(done.result, 0);
    assert!(
        done.most < MOST && done.inputs > 30,
        "{} in {}",
        done.most,
        done.inputs
    );

    // It sleeps, and is woken.
    m.call(init, POLL, &[list, count, NEVER]);
    until_idle(&mut m);
    m.kernel.check().unwrap();
    ring(&mut m, other, fds[3]);
    assert_eq!(finish(&mut m, init).result, 25_000);
    assert_eq!(m.peek(init, list + 3 * 8 + 6, 2).unwrap(), [1, 0]);
    assert_eq!(m.peek(init, list + 4 * 8 + 6, 2).unwrap(), [0, 0]);

    // A file that was looked at becomes ready before the last one was.
    let (list, count) = entries(&mut m, init, (0..200_000).map(|n| fds[usize::from(n > 0)]));
    m.call(init, POLL, &[list, count, NEVER]);
    m.advance(3);
    assert_eq!(m.result(init), None);
    ring(&mut m, other, fds[0]);
    assert_eq!(finish(&mut m, init).result, 1);
    m.kernel.check().unwrap();
}

#[test]
fn waiting_for_more_files_than_can_be_listed() {
    const FILES: usize = 5000;
    let mut m = machine();
    let init = m.first();
    let fds: Vec<i32> = (0..FILES).map(|_| event(&mut m, init)).collect();
    let other = fork(&mut m, init);
    let (list, count) = entries(&mut m, init, fds.iter().copied());
    m.call(init, POLL, &[list, count, NEVER]);
    until_idle(&mut m);
    assert_eq!(m.result(init), None);
    m.kernel.check().unwrap();
    ring(&mut m, other, fds[FILES - 1]);
    assert_eq!(finish(&mut m, init).result, 1);

    // The same with select(2), whose sets must be as they were while it waits.
    assert_eq!(
        call(&mut m, other, READ, &[fds[FILES - 1] as u64, DATA, 8]),
        8
    );
    let set = map(&mut m, init, PAGE);
    let (first, last) = (fds[0] as usize, fds[FILES - 1] as usize);
    let mut bits = vec![0u8; last / 8 + 1];
    fds.iter()
        .for_each(|&fd| bits[fd as usize / 8] |= 1 << (fd % 8));
    m.poke(init, set, &bits).unwrap();
    m.call(init, SELECT, &[last as u64 + 1, set, 0, 0, 0]);
    until_idle(&mut m);
    assert_eq!(m.result(init), None);
    assert_eq!(m.peek(init, set, bits.len()).unwrap(), bits);
    ring(&mut m, other, first as i32);
    let done = finish(&mut m, init);
    assert!(
        done.result == 1 && done.most < MOST,
        "{}: {}",
        done.result,
        done.most
    );
    bits.fill(0);
    bits[first / 8] = 1 << (first % 8);
    assert_eq!(m.peek(init, set, bits.len()).unwrap(), bits);

    // All of them are closed.
    let done = call_in_pieces(&mut m, other, CLOSE_RANGE, &[first as u64, last as u64, 0]);
    assert!(done.result == 0 && done.most < MOST && done.inputs > 3);
    assert_eq!(call(&mut m, other, WRITE, &[last as u64, DATA, 8]), -9);
    m.kernel.check().unwrap();
}

/// Puts two strings into memory and makes a call with them.
fn with_paths(m: &mut Guests, t: ThreadId, number: u64, one: &str, two: &str) -> Finished {
    m.poke(t, DATA, &[one.as_bytes(), b"\0"].concat()).unwrap();
    let behind = DATA + 0x8000;
    m.poke(t, behind, &[two.as_bytes(), b"\0"].concat())
        .unwrap();
    call_in_pieces(m, t, number, &[DATA, behind, 0, 0])
}

#[test]
fn chains_of_symbolic_links() {
    let mut m = machine();
    let init = m.first();
    let dots = "./".repeat(1990);
    for n in 0..40 {
        let next = if n == 39 {
            "dir".into()
        } else {
            format!("l{}", n + 1)
        };
        let (target, name) = (format!("{dots}{next}"), format!("/l{n}"));
        assert_eq!(with_paths(&mut m, init, SYMLINK, &target, &name).result, 0);
    }
    for name in ["/dir", "/dir/a"] {
        m.poke(init, DATA, &[name.as_bytes(), b"\0"].concat())
            .unwrap();
        assert_eq!(call(&mut m, init, MKDIR, &[DATA, 0o755]), 0);
    }
    let other = fork(&mut m, init);
    m.poke(init, DATA, b"/l0/a\0").unwrap();
    m.call(init, STAT, &[DATA, DATA + 0x1000]);
    assert_eq!(m.result(init), None, "it gives way");
    m.kernel.check().unwrap();
    assert_eq!(call(&mut m, other, GETPID, &[]), 2, "others get on");
    let done = finish(&mut m, init);
    assert!(done.result == 0, "{}", done.result);
    assert!(
        done.most < MOST && done.inputs > 10,
        "{} in {}",
        done.most,
        done.inputs
    );
    // Two of them in one call.
    let done = with_paths(&mut m, init, RENAME, "/l0/a", "/l0/b");
    assert!(done.result == 0 && done.most < MOST && done.inputs > 20);
    assert_eq!(with_paths(&mut m, init, STAT, "/dir/b", "").result, 0);
    m.kernel.check().unwrap();
    // Somebody who is on the way is killed.
    m.poke(other, DATA, b"/l0/b\0").unwrap();
    m.call(other, STAT, &[DATA, DATA + 0x1000]);
    assert_eq!(call(&mut m, init, KILL, &[2, SIGKILL]), 0);
    assert!(!m.threads.contains_key(&other), "it ends at once");
    m.kernel.check().unwrap();
}

/// Areas of one page each.
fn many_areas(m: &mut Guests, thread: ThreadId, count: u64) {
    for n in 0..count {
        let prot = 1 + 2 * (n % 2);
        let args = [FAR + n * PAGE, PAGE, prot, SPARSE | FIXED, u64::MAX, 0];
        assert!(m.call(thread, MMAP, &args).expect("it returns") > 0);
    }
}

#[test]
fn files_about_many_areas() {
    const AREAS: u64 = 12_000;
    let mut m = machine();
    let init = m.first();
    many_areas(&mut m, init, AREAS);
    let (maps, most) = read_all(&mut m, init, "/proc/self/maps");
    assert!(most < MOST, "{most}");
    let lines = maps.iter().filter(|&&byte| byte == b'\n').count();
    assert!(lines as u64 > AREAS);
    let (smaps, most) = read_all(&mut m, init, "/proc/self/smaps");
    assert!(most < MOST, "{most}");
    let text = String::from_utf8(smaps).unwrap();
    let records = text.lines().filter(|line| line.starts_with("VmFlags:"));
    // One buffer more is mapped.
    assert!(records.count() >= lines);
    let (rollup, most) = read_all(&mut m, init, "/proc/self/smaps_rollup");
    assert!(most < MOST && rollup.ends_with(b" kB\n"), "{most}");
}

#[test]
fn fork_and_exit_with_many_areas() {
    const AREAS: u64 = 12_000;
    let mut m = machine();
    let init = m.first();
    let other = fork(&mut m, init);
    let sibling = thread(&mut m, init);
    many_areas(&mut m, init, AREAS);
    let places = [FAR + PAGE, FAR + (AREAS - 1) * PAGE];
    for at in places {
        m.poke(init, at, &at.to_le_bytes()).unwrap();
    }
    m.call(init, FORK, &[]);
    assert_eq!(m.result(init), None, "it gives way");
    m.kernel.check().unwrap();
    assert_eq!(call(&mut m, other, GETPID, &[]), 2, "others get on");
    // Whoever changes areas of the space waits; the copy is as of then.
    m.call(sibling, MMAP, &[0, PAGE, 3, SPARSE, u64::MAX, 0]);
    assert_eq!(m.result(sibling), None);
    let done = finish(&mut m, init);
    assert!(done.result > 0, "{}", done.result);
    assert!(
        done.most < MOST && done.inputs > 10,
        "{} in {}",
        done.most,
        done.inputs
    );
    assert!(finish(&mut m, sibling).result > 0);
    m.kernel.check().unwrap();
    let child = *m.threads.keys().next_back().unwrap();
    for at in places {
        assert_eq!(m.peek(child, at, 8).unwrap(), at.to_le_bytes());
        m.poke(child, at, &[0; 8]).unwrap();
        assert_eq!(m.peek(init, at, 8).unwrap(), at.to_le_bytes());
    }
    // The child is killed while it forks: nothing is left of either.
    m.call(child, FORK, &[]);
    assert_eq!(m.result(child), None);
    assert_eq!(call(&mut m, init, KILL, &[done.result as u64, SIGKILL]), 0);
    assert!(!m.threads.contains_key(&child));
    m.kernel.check().unwrap();
    assert!(m.deadline.is_some(), "it is taken apart in pieces");
    assert!(until_idle(&mut m) < MOST);
    m.kernel.check().unwrap();
}

#[test]
fn many_timers_that_are_due_at_once() {
    const TIMERS: u64 = 3000;
    let mut m = machine();
    let init = m.first();
    let at = m.now.mono + 1_000_000_000;
    for n in 0..TIMERS {
        // `SIGEV_NONE`, at one time for all of them.
        let event: Vec<u8> = [0, 1u64 << 32]
            .iter()
            .flat_map(|n| n.to_le_bytes())
            .collect();
        m.poke(init, DATA, &event).unwrap();
        assert_eq!(
            m.call(init, TIMER_CREATE, &[1, DATA, DATA + 64]),
            Some(0),
            "{n}"
        );
        let id = u64::from(word(&mut m, init, DATA + 64));
        let (sec, nsec) = (at / 1_000_000_000, at % 1_000_000_000);
        let value: Vec<u8> = [0, 0, sec, nsec]
            .iter()
            .flat_map(|n| n.to_le_bytes())
            .collect();
        m.poke(init, DATA, &value).unwrap();
        assert_eq!(m.call(init, TIMER_SETTIME, &[id, 1, DATA, 0]), Some(0));
    }
    m.log.clear();
    assert!(until_idle(&mut m) < MOST);
    assert!(m.log.len() > 3 && m.now.mono >= at, "{}", m.log.len());
    m.kernel.check().unwrap();
    assert_eq!(call(&mut m, init, TIMER_GETTIME, &[TIMERS - 1, DATA]), 0);
    assert_eq!(
        long(&mut m, init, DATA + 16) | long(&mut m, init, DATA + 24),
        0
    );
}

#[test]
fn signals_for_many_processes() {
    const PROCESSES: usize = 700;
    let mut m = machine();
    let init = m.first();
    let other = fork(&mut m, init);
    for _ in 0..PROCESSES {
        m.call(other, FORK, &[]);
    }
    m.log.clear();
    m.call(other, KILL, &[u64::MAX, 0]);
    assert_eq!(m.result(other), None, "it gives way");
    let done = finish(&mut m, other);
    assert!(done.result == 0 && done.most < MOST, "{}", done.most);
    assert_eq!(call(&mut m, other, SETPGID, &[0, 0]), 0);
    let done = call_in_pieces(&mut m, other, KILL, &[u64::MAX, SIGKILL]);
    assert!(done.result == 0 && done.most < 2 * MOST, "{}", done.most);
    until_idle(&mut m);
    m.kernel.check().unwrap();
    assert_eq!(
        m.threads.len(),
        2,
        "init and the one that killed the others"
    );
}

/// A call that gives way: others get on, but who would change areas of the same space waits, if `held`.
fn long_call(
    m: &mut Guests,
    (t, sibling, other): (ThreadId, ThreadId, ThreadId),
    number: u64,
    args: &[u64],
    held: bool,
) -> i64 {
    m.call(t, number, args);
    assert_eq!(m.result(t), None, "{number} gives way");
    m.kernel.check().unwrap();
    assert_eq!(call(m, other, GETPID, &[]), 2, "others get on");
    if held {
        m.call(sibling, MMAP, &[0, PAGE, 3, SPARSE, u64::MAX, 0]);
        assert_eq!(m.result(sibling), None, "{number}");
    }
    let done = finish(m, t);
    assert!(
        done.most < MOST && done.inputs > 1,
        "{number}: {} in {}",
        done.most,
        done.inputs
    );
    if held {
        assert!(finish(m, sibling).result > 0);
    }
    m.kernel.check().unwrap();
    done.result
}

/// Lines of `/proc/self/maps` in a range.
fn lines(m: &mut Guests, t: ThreadId, at: u64, len: u64) -> usize {
    let (text, _) = read_all(m, t, "/proc/self/maps");
    let text = String::from_utf8(text).unwrap();
    let starts = text
        .lines()
        .filter_map(|line| u64::from_str_radix(line.split('-').next()?, 16).ok());
    starts
        .filter(|start| (at..at + len).contains(start))
        .count()
}

#[test]
fn changes_of_many_areas() {
    const AREAS: u64 = 6000;
    let mut m = machine();
    let init = m.first();
    let other = fork(&mut m, init);
    let sibling = thread(&mut m, init);
    let who = (init, sibling, other);
    let (len, behind) = (AREAS * PAGE, FAR + AREAS * PAGE);
    many_areas(&mut m, init, AREAS);
    for (number, args) in [
        (MADVISE, [FAR, len, DONTDUMP]),
        (MLOCK, [FAR, len, 0]),
        (MUNLOCK, [FAR, len, 0]),
    ] {
        assert_eq!(long_call(&mut m, who, number, &args, number != MLOCK), 0);
    }
    assert_eq!(long_call(&mut m, who, MLOCKALL, &[1], false), 0);
    assert_eq!(long_call(&mut m, who, MUNLOCKALL, &[], true), 0);
    assert_eq!(lines(&mut m, init, FAR, len), AREAS as usize);
    // There is a hole behind: all before it changes.
    let past = len + PAGE;
    assert_eq!(
        long_call(&mut m, who, MADVISE, &[FAR, past, DODUMP], true),
        -12
    );
    assert_eq!(long_call(&mut m, who, MPROTECT, &[FAR, past, 1], true), -12);
    assert_eq!(lines(&mut m, init, FAR, len), 1);

    many_areas(&mut m, init, AREAS);
    let args = [FAR, len, 3, SPARSE | FIXED, u64::MAX, 0];
    assert_eq!(long_call(&mut m, who, MMAP, &args, true), FAR as i64);
    assert_eq!(lines(&mut m, init, FAR, len), 1);
    many_areas(&mut m, init, AREAS);
    assert_eq!(
        long_call(&mut m, who, MUNMAP, &[FAR - PAGE, len + 2 * PAGE], true),
        0
    );
    assert_eq!(lines(&mut m, init, FAR - PAGE, behind - FAR + 2 * PAGE), 0);

    // Who is killed on the way leaves nothing that others wait for.
    many_areas(&mut m, other, AREAS);
    m.call(other, MUNMAP, &[FAR, len]);
    assert_eq!(m.result(other), None);
    assert_eq!(call(&mut m, init, KILL, &[2, SIGKILL]), 0);
    assert!(until_idle(&mut m) < MOST);
    m.kernel.check().unwrap();
}

#[test]
fn changes_of_many_pages() {
    const PAGES: u64 = 20_000;
    let mut m = machine_of(45_000);
    let init = m.first();
    let other = fork(&mut m, init);
    let sibling = thread(&mut m, init);
    let who = (init, sibling, other);
    let len = PAGES * PAGE;
    let args = [0, len, 3, SPARSE | POPULATE, u64::MAX, 0];
    let at = long_call(&mut m, who, MMAP, &args, false) as u64;
    let last = at + len - 8;
    for byte in m.peek(init, at, 64).unwrap() {
        assert_eq!(byte, 0);
    }
    m.poke(init, last, &7u64.to_le_bytes()).unwrap();
    assert_eq!(long_call(&mut m, who, MPROTECT, &[at, len, 1], true), 0);
    assert_eq!(long_call(&mut m, who, MPROTECT, &[at, len, 3], true), 0);
    assert_eq!(lines(&mut m, init, at, len), 1);
    assert_eq!(long(&mut m, init, last), 7);
    assert_eq!(
        long_call(&mut m, who, MADVISE, &[at, len, DONTNEED], true),
        0
    );
    assert_eq!(long(&mut m, init, last), 0);
    assert_eq!(
        long_call(&mut m, who, MADVISE, &[at, len, POPULATE_WRITE], false),
        0
    );
    assert_eq!(long_call(&mut m, who, MUNMAP, &[at, len], true), 0);
    // Memory of a file, which is written back.
    m.poke(init, DATA, b"f\0").unwrap();
    let file = call(&mut m, init, MEMFD_CREATE, &[DATA, 0]) as u64;
    assert_eq!(call(&mut m, init, FTRUNCATE, &[file, len]), 0);
    let args = [0, len, 3, SHARED | POPULATE, file, 0];
    let at = long_call(&mut m, who, MMAP, &args, false) as u64;
    assert_eq!(
        long_call(&mut m, who, MADVISE, &[at, len, POPULATE_WRITE], false),
        0
    );
    assert_eq!(long_call(&mut m, who, MSYNC, &[at, len, 4], true), 0);
}

#[test]
fn tables_of_many_descriptors() {
    const FILES: u64 = 80_000;
    let mut m = machine();
    let init = m.first();
    let other = fork(&mut m, init);
    let fd = event(&mut m, init) as u64;
    for n in 0..FILES {
        assert!(m.call(init, DUP2, &[fd, 100 + n]) > Some(0));
    }
    m.log.clear();
    m.call(init, FORK, &[]);
    assert_eq!(m.result(init), None, "it gives way");
    m.kernel.check().unwrap();
    assert_eq!(call(&mut m, other, GETPID, &[]), 2, "others get on");
    let done = finish(&mut m, init);
    assert!(
        done.result > 0 && done.most < MOST && done.inputs > 1,
        "{}",
        done.most
    );
    let child = *m.threads.keys().next_back().unwrap();
    // The last one it has, one behind, and one that the parent closes.
    assert_eq!(call(&mut m, init, CLOSE, &[99 + FILES]), 0);
    ring(&mut m, child, 99 + FILES as i32);
    assert_eq!(call(&mut m, child, CLOSE, &[100 + FILES]), -9);
    // What it has open is closed by and by.
    m.call(child, EXIT_GROUP, &[0]);
    assert!(m.kernel.steps() < MOST && m.deadline.is_some());
    m.kernel.check().unwrap();
    assert_eq!(call(&mut m, init, WAIT4, &[u64::MAX, 0, 0, 0]), done.result);
    assert!(until_idle(&mut m) < MOST);
    m.kernel.check().unwrap();
    // Killed on the way.
    let pid = call_in_pieces(&mut m, init, FORK, &[]).result as u64;
    let child = *m.threads.keys().next_back().unwrap();
    m.call(child, FORK, &[]);
    assert_eq!(m.result(child), None);
    assert_eq!(call(&mut m, init, KILL, &[pid, SIGKILL]), 0);
    m.kernel.check().unwrap();
    assert!(until_idle(&mut m) < MOST);
    m.kernel.check().unwrap();
}

/// A table that others use is copied in pieces for those who want one of their own.
#[test]
fn shared_tables_of_many_descriptors() {
    const FILES: u64 = 80_000;
    const CLONE_FILES: u64 = 0x400;
    const UNSHARE: u64 = 272;
    const EXECVE: u64 = 59;
    const OPEN: u64 = 2;
    let mut m = machine();
    let init = m.first();
    m.poke(init, DATA, b"/program\0").unwrap();
    let file = call(&mut m, init, OPEN, &[DATA, 0o102, 0o700]) as u64;
    let text = program();
    let at = map(&mut m, init, text.len() as u64);
    m.poke(init, at, &text).unwrap();
    assert_eq!(call(&mut m, init, WRITE, &[file, at, 4096]), 4096);
    assert_eq!(call(&mut m, init, CLOSE, &[file]), 0);
    let fd = event(&mut m, init) as u64;
    for n in 0..FILES {
        assert!(m.call(init, DUP2, &[fd, 100 + n]) > Some(0));
    }
    m.poke(init, DATA, b"/program\0").unwrap();
    let calls = [
        (UNSHARE, [CLONE_FILES, 0, 0]),
        (CLOSE_RANGE, [100 + FILES, NEVER >> 32, 2]),
        (EXECVE, [DATA, 0, 0]),
    ];
    for (number, args) in calls {
        assert!(call(&mut m, init, CLONE, &[CLONE_FILES | 17, 0, 0, 0, 0]) > 0);
        let child = *m.threads.keys().next_back().unwrap();
        let done = call_in_pieces(&mut m, child, number, &args);
        assert!(
            done.result == 0 && done.most < MOST,
            "{number}: {}",
            done.result
        );
        assert!(done.inputs > 1, "{number}: {}", done.inputs);
        m.kernel.check().unwrap();
        // Each has its own now.
        assert_eq!(call(&mut m, child, CLOSE, &[99 + FILES]), 0);
        m.poke(init, DATA + 64, &1u64.to_le_bytes()).unwrap();
        let written = call(&mut m, init, WRITE, &[99 + FILES, DATA + 64, 8]);
        assert_eq!(written, 8);
    }
}

/// A handler that is entered thousands of times, each time before the last has done anything.
#[test]
fn handlers_inside_each_other() {
    const SIGNALS: u64 = 4000;
    const STACK: u64 = 24 << 20;
    const UNBLOCK: u64 = 1;
    let mut m = machine();
    let init = m.first();
    let other = fork(&mut m, init);
    let stack = map(&mut m, init, STACK);
    let words = [stack, 0, STACK].map(u64::to_le_bytes);
    m.poke(init, DATA, words.as_flattened()).unwrap();
    assert_eq!(call(&mut m, init, SIGALTSTACK, &[DATA, 0]), 0);
    sigaction(&mut m, init, 40, 0x5000, SA_NODEFER | SA_ONSTACK, 0);
    m.poke(init, DATA, &(1u64 << 39).to_le_bytes()).unwrap();
    assert_eq!(call(&mut m, init, SIGPROCMASK, &[0, DATA, 0, 8]), 0);
    let info: Vec<u8> = [40i32, 0, -1]
        .iter()
        .flat_map(|n| n.to_le_bytes())
        .collect();
    m.poke(init, DATA + 64, &info).unwrap();
    for _ in 0..SIGNALS {
        assert_eq!(m.call(init, SIGQUEUEINFO, &[1, 40, DATA + 64]), Some(0));
    }
    m.call(init, SIGPROCMASK, &[UNBLOCK, DATA, 0, 8]);
    assert_eq!(m.result(init), None, "it gives way");
    m.kernel.check().unwrap();
    assert_eq!(call(&mut m, other, GETPID, &[]), 2, "others get on");
    measure_until_idle(&mut m).in_pieces(10);
    m.kernel.check().unwrap();
    assert_eq!(call(&mut m, init, SIGPENDING, &[DATA, 8]), 0);
    assert_eq!(long(&mut m, init, DATA), 0);
}
