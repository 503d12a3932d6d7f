//! System calls on files that wait: pipes, FIFOs, locks, poll, the host's streams. Two threads or processes
//! on the in-memory host.

use varve_core::abi::Errno;
use varve_core::machine::ThreadId;
use varve_core::memhost::{self, BARE_ADDR, Machine, MemHost};
use varve_core::syscall::TABLE;

const BUF: u64 = BARE_ADDR;
const PATH: u64 = BARE_ADDR + 0x8_0000;
const CWD: u64 = -100i64 as u64;
/// `CLONE_VM | FS | FILES | SIGHAND | THREAD`
const THREAD: u64 = 0x1_0f00;

struct Guest {
    machine: Machine,
    first: ThreadId,
}

impl Guest {
    fn new() -> Guest {
        Guest::with(memhost::bare(memhost::empty_root()))
    }

    fn with(config: varve_core::boot::BootConfig) -> Guest {
        let machine = Machine::boot(config, MemHost::new(4096, Vec::new())).expect("boots");
        let first = machine.first();
        Guest { machine, first }
    }

    fn call(&mut self, thread: ThreadId, name: &str, args: &[u64]) -> Option<i64> {
        let entry = TABLE
            .iter()
            .find(|entry| entry.name == name)
            .expect("a known call");
        let result = self.machine.call(thread, entry.number, args);
        self.machine
            .kernel
            .check()
            .unwrap_or_else(|what| panic!("after {name}: {what}"));
        result
    }

    /// A call that does not wait.
    fn now(&mut self, thread: ThreadId, name: &str, args: &[u64]) -> i64 {
        self.call(thread, name, args)
            .unwrap_or_else(|| panic!("{name} waits"))
    }

    /// A call that waits.
    fn waits(&mut self, thread: ThreadId, name: &str, args: &[u64]) {
        assert_eq!(self.call(thread, name, args), None, "{name} does not wait");
    }

    fn result(&self, thread: ThreadId) -> Option<i64> {
        self.machine.result(thread)
    }

    fn path(&mut self, path: &str) -> u64 {
        let bytes = [path.as_bytes(), b"\0"].concat();
        self.machine.poke(self.first, PATH, &bytes).expect("fits");
        PATH
    }

    fn open(&mut self, thread: ThreadId, path: &str, flags: u64) -> Option<i64> {
        let at = self.path(path);
        self.call(thread, "openat", &[CWD, at, flags, 0o644])
    }

    fn put(&mut self, thread: ThreadId, addr: u64, bytes: &[u8]) {
        self.machine.poke(thread, addr, bytes).expect("fits");
    }

    fn peek(&mut self, thread: ThreadId, addr: u64, len: usize) -> Vec<u8> {
        self.machine.peek(thread, addr, len).expect("mapped")
    }

    /// A second thread, or with flags 0 a child process.
    fn clone(&mut self, flags: u64) -> ThreadId {
        let signal = if flags == 0 { 17 } else { 0 };
        assert!(self.now(self.first, "clone", &[flags | signal, 0, 0, 0, 0]) > 0);
        *self.machine.threads.keys().last().expect("a thread")
    }

    fn pipe(&mut self, flags: u64) -> (u64, u64) {
        assert_eq!(self.now(self.first, "pipe2", &[BUF, flags]), 0);
        let fds = self.peek(self.first, BUF, 8);
        (u64::from(fds[0]), u64::from(fds[4]))
    }

    fn wall(&self, thread: ThreadId) -> i64 {
        self.result(thread).expect("the call has ended")
    }
}

fn errno(errno: Errno) -> i64 {
    -i64::from(errno.number())
}

#[test]
fn a_reader_waits_for_a_writer() {
    let mut guest = Guest::new();
    let (a, b) = (guest.first, guest.clone(THREAD));
    let (read, write) = guest.pipe(0);
    guest.waits(b, "read", &[read, BUF + 100, 10]);
    guest.put(a, BUF, b"hello");
    assert_eq!(guest.now(a, "write", &[write, BUF, 5]), 5);
    assert_eq!(guest.result(b), Some(5));
    assert_eq!(guest.peek(b, BUF + 100, 5), b"hello");
    // The end of the file comes when the last writer goes.
    guest.waits(b, "read", &[read, BUF + 100, 10]);
    assert_eq!(guest.now(a, "close", &[write]), 0);
    assert_eq!(guest.result(b), Some(0));
}

#[test]
fn a_large_write_goes_on_as_there_is_room() {
    let mut guest = Guest::new();
    let (a, b) = (guest.first, guest.clone(THREAD));
    let (read, write) = guest.pipe(0);
    let data: Vec<u8> = (0..100_000u32).map(|n| (n % 251) as u8).collect();
    guest.put(a, BUF, &data);
    guest.waits(b, "write", &[write, BUF, 100_000]);
    let out = BUF + 0x4_0000;
    let mut got = Vec::new();
    while got.len() < data.len() {
        let len = guest.now(a, "read", &[read, out, 7000]);
        got.extend(guest.peek(a, out, len as usize));
    }
    assert!(got == data, "the bytes come in order");
    assert_eq!(guest.result(b), Some(100_000));
}

#[test]
fn a_write_without_readers_is_epipe_also_when_it_waits() {
    let mut guest = Guest::new();
    let (a, b) = (guest.first, guest.clone(THREAD));
    // SIGPIPE is ignored.
    guest.put(a, BUF, &1u64.to_le_bytes());
    assert_eq!(guest.now(a, "rt_sigaction", &[13, BUF, 0, 8]), 0);
    let (read, write) = guest.pipe(0);
    assert_eq!(guest.now(a, "write", &[write, BUF, 65536]), 65536);
    guest.waits(b, "write", &[write, BUF, 10]);
    assert_eq!(guest.now(a, "close", &[read]), 0);
    assert_eq!(guest.wall(b), errno(Errno::EPIPE));
    assert_eq!(
        guest.now(a, "write", &[write, BUF, 10]),
        errno(Errno::EPIPE)
    );
    // A partial write counts.
    let (read, write) = guest.pipe(0);
    guest.waits(b, "write", &[write, BUF, 70_000]);
    assert_eq!(guest.now(a, "close", &[read]), 0);
    assert_eq!(guest.wall(b), 65536);
}

#[test]
fn a_write_of_pipe_buf_is_not_torn() {
    let mut guest = Guest::new();
    let (a, b) = (guest.first, guest.clone(THREAD));
    let (read, write) = guest.pipe(0);
    assert_eq!(guest.now(a, "write", &[write, BUF, 65000]), 65000);
    guest.waits(b, "write", &[write, BUF, 4096]);
    assert_eq!(guest.now(a, "read", &[read, BUF, 3000]), 3000);
    // A page is free when all of it has been read.
    assert_eq!(guest.now(a, "read", &[read, BUF, 1095]), 1095);
    assert_eq!(guest.result(b), None, "there is no room for a page");
    assert_eq!(guest.now(a, "read", &[read, BUF, 1]), 1);
    assert_eq!(guest.result(b), Some(4096));
}

#[test]
fn the_ends_of_a_fifo_wait_for_each_other() {
    let mut guest = Guest::new();
    let (a, b) = (guest.first, guest.clone(THREAD));
    let at = guest.path("/fifo");
    assert_eq!(guest.now(a, "mknodat", &[CWD, at, 0o10644, 0]), 0);
    for (first, second) in [(0, 1), (1, 0)] {
        assert_eq!(guest.open(b, "/fifo", first), None);
        let near = guest.open(a, "/fifo", second).expect("the other end waits") as u64;
        let far = guest.wall(b) as u64;
        assert_ne!(near, far);
        let (reader, writer) = if first == 0 { (far, near) } else { (near, far) };
        assert_eq!(guest.now(a, "write", &[writer, BUF, 3]), 3);
        assert_eq!(guest.now(b, "read", &[reader, BUF, 10]), 3);
        assert_eq!(guest.now(a, "close", &[writer]), 0);
        assert_eq!(guest.now(b, "read", &[reader, BUF, 10]), 0);
        assert_eq!(guest.now(b, "close", &[reader]), 0);
    }
    // Two readers are no pair.
    assert_eq!(guest.open(b, "/fifo", 0), None);
    assert_eq!(guest.open(a, "/fifo", 0o4000), Some(3));
    assert_eq!(guest.result(b), None);
    assert_eq!(guest.open(a, "/fifo", 0o4001), Some(4));
    assert_eq!(guest.result(b), Some(5));
}

#[test]
fn a_pipe_opened_through_proc_waits_for_nobody() {
    let mut guest = Guest::new();
    let a = guest.first;
    let (read, write) = guest.pipe(0);
    assert_eq!(guest.now(a, "write", &[write, BUF, 3]), 3);
    assert_eq!(guest.now(a, "close", &[write]), 0);
    let again = guest
        .open(a, &format!("/dev/fd/{read}"), 0)
        .expect("does not wait");
    assert_eq!(guest.now(a, "read", &[again as u64, BUF, 10]), 3);
    assert_eq!(guest.now(a, "read", &[again as u64, BUF, 10]), 0);
    let write = guest
        .open(a, &format!("/proc/self/fd/{read}"), 1)
        .expect("does not wait");
    assert_eq!(guest.now(a, "write", &[write as u64, BUF, 2]), 2);
    assert_eq!(guest.now(a, "read", &[read, BUF, 10]), 2);
}

#[test]
fn locks_wait_and_deadlocks_are_found() {
    let mut guest = Guest::new();
    let a = guest.first;
    assert_eq!(guest.open(a, "/f", 0o102), Some(3));
    let b = guest.clone(0);
    assert_eq!(guest.open(b, "/f", 0o2), Some(4));
    // struct flock: type, whence, start, len
    let lock = |kind: u16, start: u64| {
        let mut bytes = vec![0; 32];
        bytes[..2].copy_from_slice(&kind.to_le_bytes());
        bytes[8..16].copy_from_slice(&start.to_le_bytes());
        bytes[16] = 1;
        bytes
    };
    const SETLK: u64 = 6;
    const SETLKW: u64 = 7;
    guest.put(a, BUF, &lock(1, 0));
    guest.put(b, BUF, &lock(1, 1));
    assert_eq!(guest.now(a, "fcntl", &[3, SETLK, BUF]), 0);
    assert_eq!(guest.now(b, "fcntl", &[4, SETLK, BUF]), 0);
    guest.put(a, BUF, &lock(1, 1));
    guest.put(b, BUF, &lock(1, 0));
    assert_eq!(
        guest.now(b, "fcntl", &[4, SETLK, BUF]),
        errno(Errno::EAGAIN)
    );
    guest.waits(a, "fcntl", &[3, SETLKW, BUF]);
    assert_eq!(
        guest.now(b, "fcntl", &[4, SETLKW, BUF]),
        errno(Errno::EDEADLK)
    );
    // Closing any descriptor of the file gives the locks of the process back.
    assert_eq!(guest.now(b, "close", &[3]), 0);
    assert_eq!(guest.result(a), Some(0));
    guest.waits(b, "fcntl", &[4, SETLKW, BUF]);
    guest.put(a, BUF, &lock(2, 0));
    assert_eq!(guest.now(a, "fcntl", &[3, SETLK, BUF]), 0);
    assert_eq!(guest.result(b), Some(0));
    // flock(2) belongs to the open file.
    assert_eq!(guest.now(b, "flock", &[4, 2]), 0);
    guest.waits(a, "flock", &[3, 2]);
    assert_eq!(guest.now(b, "close", &[4]), 0);
    assert_eq!(guest.result(a), Some(0));
}

#[test]
fn a_lock_goes_to_who_waited_first() {
    const SETLK: u64 = 6;
    const SETLKW: u64 = 7;
    let mut guest = Guest::new();
    let a = guest.first;
    assert_eq!(guest.open(a, "/f", 0o102), Some(3));
    let [b, c, d] = [(); 3].map(|()| guest.clone(0));
    let set = |guest: &mut Guest, thread, kind: u16| {
        let mut bytes = vec![0; 32];
        bytes[..2].copy_from_slice(&kind.to_le_bytes());
        guest.put(thread, BUF, &bytes);
    };
    set(&mut guest, a, 1);
    assert_eq!(guest.now(a, "fcntl", &[3, SETLK, BUF]), 0);
    for thread in [b, c, d] {
        set(&mut guest, thread, 1);
        guest.waits(thread, "fcntl", &[3, SETLKW, BUF]);
    }
    // One that ends waits no longer.
    assert_eq!(guest.now(a, "kill", &[2, 9]), 0);
    set(&mut guest, a, 2);
    assert_eq!(guest.now(a, "fcntl", &[3, SETLK, BUF]), 0);
    assert_eq!((guest.result(c), guest.result(d)), (Some(0), None));
    // A shared lock still is in the way of an exclusive one.
    set(&mut guest, c, 0);
    assert_eq!(guest.now(c, "fcntl", &[3, SETLK, BUF]), 0);
    assert_eq!(guest.result(d), None);
    set(&mut guest, c, 2);
    assert_eq!(guest.now(c, "fcntl", &[3, SETLK, BUF]), 0);
    assert_eq!(guest.result(d), Some(0));
    // Shared ones are had together, also when another one came between.
    for (thread, kind) in [(a, 0), (c, 0)] {
        set(&mut guest, thread, kind);
        guest.waits(thread, "fcntl", &[3, SETLKW, BUF]);
    }
    set(&mut guest, d, 2);
    assert_eq!(guest.now(d, "fcntl", &[3, SETLK, BUF]), 0);
    assert_eq!((guest.result(a), guest.result(c)), (Some(0), Some(0)));
}

#[test]
fn the_end_of_a_process_closes_its_files() {
    let mut guest = Guest::new();
    let a = guest.first;
    let (read, write) = guest.pipe(0);
    let b = guest.clone(0);
    assert_eq!(guest.now(a, "close", &[write]), 0);
    guest.waits(a, "read", &[read, BUF, 10]);
    guest.call(b, "exit_group", &[0]);
    assert_eq!(guest.result(a), Some(0));
}

#[test]
fn poll_waits_for_several_files_and_for_time() {
    let mut guest = Guest::new();
    let (a, b) = (guest.first, guest.clone(THREAD));
    let (read, write) = guest.pipe(0);
    let entry = |fd: u64, events: u16| {
        let mut bytes = (fd as u32).to_le_bytes().to_vec();
        bytes.extend(events.to_le_bytes());
        bytes.extend([0xff, 0xff]);
        bytes
    };
    let fds = BUF + 0x1000;
    guest.put(a, fds, &[entry(read, 1), entry(0, 1)].concat());
    guest.waits(b, "poll", &[fds, 2, u64::MAX]);
    assert_eq!(guest.now(a, "write", &[write, BUF, 1]), 1);
    assert_eq!(guest.result(b), Some(1));
    assert_eq!(guest.peek(a, fds + 6, 2), [1, 0]);
    assert_eq!(guest.peek(a, fds + 14, 2), [0, 0]);
    assert_eq!(guest.now(a, "read", &[read, BUF, 1]), 1);
    // The host's stream becomes ready.
    guest.waits(b, "poll", &[fds, 2, u64::MAX]);
    guest.machine.feed(b"x");
    assert_eq!(guest.result(b), Some(1));
    assert_eq!(guest.peek(a, fds + 6, 2), [0, 0]);
    assert_eq!(guest.peek(a, fds + 14, 2), [1, 0]);
    assert_eq!(guest.now(b, "read", &[0, BUF, 10]), 1);
    // Time passes.
    guest.waits(b, "poll", &[fds, 1, 20]);
    guest.machine.advance(19_000_000);
    assert_eq!(guest.result(b), None);
    guest.machine.advance(2_000_000);
    assert_eq!(guest.result(b), Some(0));
    // select(2) on the same pipe.
    guest.put(a, fds, &(1u64 << read).to_le_bytes());
    guest.waits(b, "select", &[read + 1, fds, 0, 0, 0]);
    assert_eq!(guest.now(a, "write", &[write, BUF, 1]), 1);
    assert_eq!(guest.result(b), Some(1));
    assert_eq!(guest.peek(a, fds, 8), (1u64 << read).to_le_bytes());
}

#[test]
fn streams_go_through_the_host() {
    let mut guest = Guest::new();
    let a = guest.first;
    guest.put(a, BUF, b"out");
    guest.machine.write_limit = 2;
    assert_eq!(guest.now(a, "write", &[1, BUF, 3]), 3);
    assert_eq!(guest.machine.written[1], b"out");
    guest.waits(a, "read", &[0, BUF, 10]);
    guest.machine.feed(b"in");
    assert_eq!(guest.result(a), Some(2));
    assert_eq!(guest.peek(a, BUF, 2), b"in");
    assert_eq!(guest.now(a, "lseek", &[0, 0, 1]), errno(Errno::ESPIPE));
    assert_eq!(
        guest.now(a, "ioctl", &[0, 0x5401, BUF]),
        errno(Errno::ENOTTY)
    );
    // Without waiting: the host gets a moment to say that there is nothing.
    assert_eq!(guest.now(a, "fcntl", &[0, 4, 0o4000]), 0);
    guest.waits(a, "read", &[0, BUF, 10]);
    guest.machine.advance(2_000_000);
    assert_eq!(guest.result(a), Some(errno(Errno::EAGAIN)));
    guest.machine.feed(b"more");
    assert_eq!(guest.now(a, "read", &[0, BUF, 10]), 4);
    guest.machine.stdin_closed = true;
    assert_eq!(guest.now(a, "read", &[0, BUF, 10]), 0);
    // A bad address loses no bytes.
    guest.machine.feed(b"kept");
    assert_eq!(guest.now(a, "read", &[0, 8, 10]), errno(Errno::EFAULT));
    assert_eq!(guest.now(a, "read", &[0, BUF, 10]), 4);
}

/// Random calls by three processes: the state stays consistent, and the same log of inputs gives the same
/// state.
#[test]
fn random_calls_keep_the_state_consistent() {
    for seed in 0..20u64 {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let mut guest = Guest::new();
        let names = [
            "/a",
            "/b",
            "/a/c",
            "/a/d",
            "/b/e",
            "/a/c/f",
            ".",
            "..",
            "/l",
            "/p",
            "c",
            "/proc/self/fd/3",
        ];
        for (index, name) in names.iter().enumerate() {
            let bytes = [name.as_bytes(), b"\0"].concat();
            guest.put(guest.first, PATH + index as u64 * 64, &bytes);
        }
        guest.put(guest.first, BUF, &[1; 4096]);
        guest.clone(THREAD);
        guest.clone(0);
        for _ in 0..1500 {
            let runs: Vec<ThreadId> = guest
                .machine
                .threads
                .iter()
                .filter(|(_, thread)| thread.runs)
                .map(|(&id, _)| id)
                .collect();
            let Some(&thread) = runs.get(random.below(runs.len().max(1) as u64) as usize) else {
                break;
            };
            let path = PATH + random.below(names.len() as u64) * 64;
            let other = PATH + random.below(names.len() as u64) * 64;
            let fd = random.below(12);
            let len = random.below(9000);
            let buf = BUF + random.below(0x1000);
            let (name, args): (&str, Vec<u64>) = match random.below(34) {
                0 | 1 => ("open", vec![path, 0o102 | 0o4000, 0o755]),
                2 => ("open", vec![path, 0o4000 | random.below(3), 0]),
                3 => ("open", vec![path, 0o10000000, 0]),
                4 => ("open", vec![path, 0o20200002, 0o600]),
                5 => ("mkdir", vec![path, 0o755]),
                6 => ("rmdir", vec![path]),
                7 => ("unlink", vec![path]),
                8 | 9 => ("rename", vec![path, other]),
                10 => ("renameat2", vec![CWD, path, CWD, other, random.below(3)]),
                11 => ("link", vec![path, other]),
                12 => ("symlink", vec![path, other]),
                13 => ("mknod", vec![path, 0o10644, 0]),
                14 => ("write", vec![3 + fd, buf, len]),
                15 => ("read", vec![3 + fd, buf, len]),
                16 => ("pwrite64", vec![3 + fd, buf, len, random.below(20_000)]),
                17 => ("ftruncate", vec![3 + fd, random.below(20_000)]),
                18 | 19 => ("close", vec![3 + fd]),
                20 => ("dup2", vec![3 + fd, 3 + random.below(12)]),
                21 => ("pipe2", vec![BUF, 0o4000]),
                22 => ("chdir", vec![path]),
                23 => ("stat", vec![path, BUF]),
                24 => ("getdents64", vec![3 + fd, BUF, len]),
                25 => ("lseek", vec![3 + fd, 0, random.below(5)]),
                26 => ("flock", vec![3 + fd, 4 | 1 << random.below(2)]),
                27 => ("linkat", vec![3 + fd, PATH + 1024, CWD, other, 0x1000]),
                28 => ("splice", vec![3 + fd, 0, 3 + random.below(12), 0, len, 2]),
                29 => ("sendfile", vec![3 + fd, 3 + random.below(12), 0, len]),
                30 => ("fallocate", vec![3 + fd, 3, random.below(20_000), len + 1]),
                31 => ("getcwd", vec![BUF, 4096]),
                32 => (
                    "mmap",
                    vec![
                        0,
                        8192,
                        1 | (random.below(2) * 2),
                        1 + random.below(2),
                        3 + fd,
                        0,
                    ],
                ),
                _ => (
                    "copy_file_range",
                    vec![3 + fd, 0, 3 + random.below(12), 0, len, 0],
                ),
            };
            guest.call(thread, name, &args);
        }
        // What is left of it all goes with the processes.
        let threads: Vec<ThreadId> = guest.machine.threads.keys().copied().collect();
        for thread in threads.into_iter().rev() {
            if guest
                .machine
                .threads
                .get(&thread)
                .is_some_and(|thread| thread.runs)
            {
                guest.call(thread, "exit_group", &[0]);
            }
        }
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// A call that waits works on the file that its descriptor named when it was made.
#[test]
fn a_call_that_waits_keeps_its_file() {
    let mut guest = Guest::new();
    let first = guest.first;
    let second = guest.clone(THREAD);
    let (read, write) = guest.pipe(0);
    guest.waits(second, "read", &[read, BUF + 64, 8]);
    // Another file takes the descriptor over, and the pipe still has a reader.
    let other = guest.open(first, "/other", 0o102).expect("opens") as u64;
    guest.put(first, BUF, b"file");
    assert_eq!(guest.now(first, "write", &[other, BUF, 4]), 4);
    assert_eq!(guest.now(first, "dup2", &[other, read]), read as i64);
    guest.put(first, BUF, b"pipe");
    assert_eq!(guest.now(first, "write", &[write, BUF, 4]), 4);
    assert_eq!(guest.result(second), Some(4));
    assert_eq!(guest.peek(first, BUF + 64, 4), b"pipe");
    // With the call the last reader has gone.
    assert_eq!(guest.now(first, "lseek", &[read, 0, 1]), 4);
    let ignore = [1u64, 0, 0, 0].map(u64::to_le_bytes).concat();
    guest.put(first, BUF, &ignore);
    assert_eq!(guest.now(first, "rt_sigaction", &[13, BUF, 0, 8]), 0);
    let broken = guest.now(first, "write", &[write, BUF, 1]);
    assert_eq!(broken, errno(Errno::EPIPE));
}

/// What a killed or interrupted call kept is given back; `Kernel::check` counts the references.
#[test]
fn a_call_that_ends_gives_its_file_back() {
    let mut guest = Guest::new();
    let first = guest.first;
    let (read, write) = guest.pipe(0);
    let child = guest.clone(0);
    let pid = guest.result(first).expect("clone(2) has returned") as u64;
    guest.waits(child, "read", &[read, BUF + 64, 8]);
    assert_eq!(guest.now(first, "close", &[read]), 0);
    // SIGKILL ends the child in its call.
    assert_eq!(guest.now(first, "kill", &[pid, 9]), 0);
    let ignore = [1u64, 0, 0, 0].map(u64::to_le_bytes).concat();
    guest.put(first, BUF, &ignore);
    assert_eq!(guest.now(first, "rt_sigaction", &[13, BUF, 0, 8]), 0);
    let broken = guest.now(first, "write", &[write, BUF, 1]);
    assert_eq!(broken, errno(Errno::EPIPE));
}
