//! What `/proc` and `/sys` tell, and to whom.

mod guest;

use guest::*;
use varve_core::machine::ThreadId;

const READ: u64 = 0;
const WRITE: u64 = 1;
const CLOSE: u64 = 3;
const FLOCK: u64 = 73;
const READLINK: u64 = 89;
const GETDENTS64: u64 = 217;
const OPENAT: u64 = 257;
const AT_FDCWD: u64 = -100i64 as u64;
const O_WRONLY: u64 = 1;
const LSEEK: u64 = 8;
const FSTAT: u64 = 5;
const STAT: u64 = 4;
const POLL: u64 = 7;
const MMAP: u64 = 9;
const PREAD: u64 = 17;
const PWRITE: u64 = 18;
const MOUNT: u64 = 165;
const SETHOSTNAME: u64 = 170;
const EPOLL_CREATE: u64 = 291;
const EPOLL_CTL: u64 = 233;
const EPOLL_WAIT: u64 = 232;
const INOTIFY_INIT: u64 = 294;
const INOTIFY_ADD_WATCH: u64 = 254;
const SOCKET: u64 = 41;
const BIND: u64 = 49;
const LISTEN: u64 = 50;
const O_RDWR: u64 = 2;
const EPERM: i64 = -1;
const ENOENT: i64 = -2;
const ESRCH: i64 = -3;
const EIO: i64 = -5;
const EACCES: i64 = -13;
const EINVAL: i64 = -22;
const EROFS: i64 = -30;
const BUF: u64 = DATA + 0x1000;
const LEN: u64 = 0xf00;

fn open(m: &mut Guests, thread: ThreadId, path: &str, flags: u64) -> i64 {
    let text = [path.as_bytes(), b"\0"].concat();
    m.poke(thread, DATA, &text).unwrap();
    call(m, thread, OPENAT, &[AT_FDCWD, DATA, flags, 0])
}

/// The contents of a file, or the error.
fn read(m: &mut Guests, thread: ThreadId, path: &str) -> Result<String, i64> {
    let fd = open(m, thread, path, 0);
    if fd < 0 {
        return Err(fd);
    }
    let mut text = Vec::new();
    let end = loop {
        match call(m, thread, READ, &[fd as u64, BUF, LEN]) {
            len @ 1.. => text.extend(m.peek(thread, BUF, len as usize).unwrap()),
            end => break end,
        }
    };
    call(m, thread, CLOSE, &[fd as u64]);
    match end {
        0 => Ok(String::from_utf8(text).unwrap()),
        errno => Err(errno),
    }
}

fn write(m: &mut Guests, thread: ThreadId, path: &str, text: &str) -> i64 {
    let fd = open(m, thread, path, O_WRONLY);
    if fd < 0 {
        return fd;
    }
    m.poke(thread, BUF, text.as_bytes()).unwrap();
    let done = call(m, thread, WRITE, &[fd as u64, BUF, text.len() as u64]);
    call(m, thread, CLOSE, &[fd as u64]);
    done
}

/// Every name in a directory but `.` and `..`, with its type.
fn list(m: &mut Guests, thread: ThreadId, path: &str) -> Vec<(String, u8)> {
    let fd = open(m, thread, path, 0o200000);
    assert!(fd >= 0, "{path}: {fd}");
    let mut names = Vec::new();
    loop {
        let len = call(m, thread, GETDENTS64, &[fd as u64, BUF, LEN]);
        assert!(len >= 0, "{path}: {len}");
        if len == 0 {
            break;
        }
        let bytes = m.peek(thread, BUF, len as usize).unwrap();
        let mut at = 0;
        while at < bytes.len() {
            let size = usize::from(u16::from_le_bytes([bytes[at + 16], bytes[at + 17]]));
            let name = bytes[at + 19..at + size].split(|&byte| byte == 0).next();
            let name = String::from_utf8(name.unwrap().to_vec()).unwrap();
            if name != "." && name != ".." {
                names.push((name, bytes[at + 18]));
            }
            at += size;
        }
    }
    call(m, thread, CLOSE, &[fd as u64]);
    names
}

#[test]
fn everything_that_is_listed_can_be_opened_and_read() {
    const DIR: u8 = 4;
    const FILE: u8 = 8;
    let mut m = boot();
    let t = m.first();
    let mut dirs = vec![String::from("/proc"), String::from("/sys")];
    let mut files = 0;
    while let Some(dir) = dirs.pop() {
        for (name, kind) in list(&mut m, t, &dir) {
            let path = format!("{dir}/{name}");
            match kind {
                DIR => dirs.push(path),
                FILE => {
                    files += 1;
                    // Memory has no end that a test could wait for.
                    if path.ends_with("/mem") || path.ends_with("/pagemap") {
                        continue;
                    }
                    match read(&mut m, t, &path) {
                        Ok(text) => assert!(
                            text.is_empty() || text.ends_with(['\n', '5', '0', '\0']),
                            "{path}: {text}"
                        ),
                        Err(EPERM) => assert_eq!(path, "/proc/kmsg"),
                        // The descriptor of the listing itself.
                        Err(ENOENT) => assert!(path.contains("/fdinfo/"), "{path}"),
                        Err(EACCES) => assert!(path.ends_with("/stack"), "{path}"),
                        Err(EINVAL) => {
                            assert!(
                                path.contains("/attr/") || path.ends_with("/clear_refs"),
                                "{path}"
                            );
                        }
                        Err(errno) => panic!("{path}: {errno}"),
                    }
                }
                _ => {}
            }
        }
    }
    assert!(files > 200, "{files}");
}

#[test]
fn only_who_may_trace_a_process_looks_into_it() {
    let mut m = boot();
    let root = m.first();
    assert_eq!(call(&mut m, root, FORK, &[]), 2);
    let user = *m.threads.keys().next_back().unwrap();
    assert_eq!(call(&mut m, user, SETRESUID, &[5, 5, 5]), 0);
    for name in ["maps", "environ", "auxv", "io", "syscall", "personality"] {
        assert_eq!(
            read(&mut m, user, &format!("/proc/1/{name}")),
            Err(EACCES),
            "{name}"
        );
        assert!(
            read(&mut m, root, &format!("/proc/1/{name}")).is_ok(),
            "{name}"
        );
    }
    for name in ["stat", "status", "limits", "mountinfo", "cmdline"] {
        assert!(
            read(&mut m, user, &format!("/proc/1/{name}")).is_ok(),
            "{name}"
        );
    }
    for name in ["exe", "cwd", "root", "fd/0"] {
        m.poke(user, DATA, format!("/proc/1/{name}\0").as_bytes())
            .unwrap();
        assert_eq!(
            call(&mut m, user, READLINK, &[DATA, BUF, 100]),
            EACCES,
            "{name}"
        );
    }
    // A process that has changed its user is root's, until it executes a program.
    assert_eq!(read(&mut m, root, "/proc/2/comm"), Ok("init\n".into()));
    assert_eq!(write(&mut m, user, "/proc/2/oom_score_adj", "1"), EACCES);
}

#[test]
fn some_files_can_be_written() {
    let mut m = boot();
    let t = m.first();
    assert_eq!(
        write(&mut m, t, "/proc/self/comm", "a name that is too long"),
        23
    );
    assert_eq!(
        read(&mut m, t, "/proc/self/comm"),
        Ok("a name that is \n".into())
    );
    assert_eq!(write(&mut m, t, "/proc/self/oom_score_adj", "100\n"), 4);
    assert_eq!(read(&mut m, t, "/proc/self/oom_adj"), Ok("1\n".into()));
    assert_eq!(write(&mut m, t, "/proc/self/oom_score_adj", "-1"), EACCES);
    assert_eq!(write(&mut m, t, "/proc/self/oom_score_adj", "1001"), EINVAL);
    assert_eq!(write(&mut m, t, "/proc/self/coredump_filter", "0x1ff"), 5);
    assert_eq!(
        read(&mut m, t, "/proc/self/coredump_filter"),
        Ok("000001ff\n".into())
    );
    assert_eq!(write(&mut m, t, "/proc/self/loginuid", "0"), EPERM);
    assert_eq!(write(&mut m, t, "/proc/sys/kernel/hostname", "new"), EROFS);
    assert_eq!(
        write(&mut m, t, "/proc/sys/kernel/osrelease", "new"),
        EACCES
    );
    assert_eq!(write(&mut m, t, "/sys/fs/cgroup/memory.max", "1"), EROFS);
}

#[test]
fn counts_and_locks_are_real() {
    let mut m = boot();
    let t = m.first();
    let before = read(&mut m, t, "/proc/self/io").unwrap();
    let after = read(&mut m, t, "/proc/self/io").unwrap();
    let count = |text: &str, name: &str| -> u64 {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert_eq!(
        count(&after, "rchar"),
        before.len() as u64 + count(&before, "rchar")
    );
    assert_eq!(count(&after, "syscr"), count(&before, "syscr") + 2);
    assert_eq!(read(&mut m, t, "/proc/locks"), Ok(String::new()));
    let fd = open(&mut m, t, "/dev/null", 0) as u64;
    assert_eq!(call(&mut m, t, FLOCK, &[fd, 2]), 0);
    let locks = read(&mut m, t, "/proc/locks").unwrap();
    assert!(
        locks.starts_with("1: FLOCK  ADVISORY  WRITE 1 00:"),
        "{locks}"
    );
    assert!(locks.ends_with(" 0 EOF\n"), "{locks}");
    let info = read(&mut m, t, &format!("/proc/self/fdinfo/{fd}")).unwrap();
    assert!(info.contains(&format!("lock:\t{locks}")), "{info}");
}

fn lines(text: &str, names: &[&str]) -> Vec<String> {
    let chosen = text
        .lines()
        .filter(|line| names.iter().any(|name| line.starts_with(name)));
    chosen.map(String::from).collect()
}

/// Number of links that stat(2) gives.
fn links(m: &mut Guests, t: ThreadId, path: &str) -> u64 {
    m.poke(t, DATA, format!("{path}\0").as_bytes()).unwrap();
    assert_eq!(call(m, t, STAT, &[DATA, BUF]), 0, "{path}");
    long(m, t, BUF + 16)
}

#[test]
fn threads_zombies_and_children_are_told_of_as_they_are() {
    let mut m = boot();
    let t = m.first();
    let other = thread(&mut m, t);
    let tid = call(&mut m, other, GETTID, &[]);
    for path in [
        format!("/proc/{tid}/status"),
        format!("/proc/self/task/{tid}/status"),
    ] {
        let text = read(&mut m, t, &path).unwrap();
        let found = lines(&text, &["Tgid", "Pid", "Threads"]);
        assert_eq!(
            found,
            [
                "Tgid:\t1".into(),
                format!("Pid:\t{tid}"),
                "Threads:\t2".into()
            ]
        );
    }
    assert!(
        read(&mut m, t, &format!("/proc/{tid}/stat"))
            .unwrap()
            .starts_with(&format!("{tid} ("))
    );
    assert_eq!(links(&mut m, t, "/proc/self/task"), 4);
    assert_eq!(links(&mut m, t, "/proc/sys/kernel"), 1);
    assert_eq!(links(&mut m, t, "/proc/self/fd"), 2);
    let entries = list(&mut m, t, "/proc/self");
    let dirs = entries.iter().filter(|(_, kind)| *kind == 4).count() as u64;
    assert_eq!(links(&mut m, t, "/proc/self"), 2 + dirs);
    assert!(entries.iter().all(|(name, _)| name != "children"));

    let child = fork(&mut m, other);
    let pid = m.result(other).unwrap();
    let of = |tid: i64| format!("/proc/self/task/{tid}/children");
    assert_eq!(read(&mut m, t, &of(tid)), Ok(format!("{pid} ")));
    assert_eq!(read(&mut m, t, &of(1)), Ok(String::new()));
    gone(&mut m, child, EXIT_GROUP, &[3]);
    let text = read(&mut m, t, &format!("/proc/{pid}/status")).unwrap();
    let found = lines(&text, &["State", "Threads", "FDSize", "Umask", "VmRSS"]);
    assert_eq!(found, ["State:\tZ (zombie)", "FDSize:\t0", "Threads:\t1"]);
    for name in ["mem", "pagemap", "environ", "auxv", "smaps_rollup"] {
        assert_eq!(
            open(&mut m, t, &format!("/proc/{pid}/{name}"), 0),
            ESRCH,
            "{name}"
        );
    }
    assert!(read(&mut m, t, &format!("/proc/{pid}/uid_map")).is_ok());
}

#[test]
fn what_is_open_of_a_process_that_has_gone_says_so() {
    let mut m = boot();
    let t = m.first();
    let child = fork(&mut m, t);
    let pid = m.result(t).unwrap();
    let open_of = |m: &mut Guests, name: &str| open(m, t, &format!("/proc/{pid}{name}"), 0) as u64;
    let [dir, task, fds, attr, status, map] =
        ["", "/task", "/fd", "/attr", "/status", "/uid_map"].map(|name| open_of(&mut m, name));
    gone(&mut m, child, EXIT_GROUP, &[0]);
    assert_eq!(call(&mut m, t, WAIT4, &[pid as u64, 0, 0, 0]), pid);
    let at = |m: &mut Guests, dir: u64, name: &str| {
        m.poke(t, DATA, format!("{name}\0").as_bytes()).unwrap();
        call(m, t, OPENAT, &[dir, DATA, 0, 0])
    };
    assert_eq!(at(&mut m, dir, "status"), ESRCH);
    assert_eq!(at(&mut m, dir, "nothing"), ESRCH);
    assert_eq!(at(&mut m, task, &format!("{pid}")), ESRCH);
    assert_eq!(at(&mut m, fds, "0"), ENOENT);
    assert_eq!(at(&mut m, attr, "current"), ENOENT);
    assert_eq!(at(&mut m, AT_FDCWD, &format!("/proc/{pid}")), ENOENT);
    assert_eq!(at(&mut m, AT_FDCWD, &format!("/proc/{pid}/status")), ENOENT);
    for fd in [dir, task, fds, attr] {
        assert_eq!(call(&mut m, t, GETDENTS64, &[fd, BUF, LEN]), ENOENT);
    }
    for (fd, result) in [(dir, 0), (task, 0), (fds, ENOENT), (attr, 0), (status, 0)] {
        assert_eq!(call(&mut m, t, FSTAT, &[fd, BUF]), result);
    }
    assert_eq!(call(&mut m, t, READ, &[status, BUF, LEN]), ESRCH);
    assert!(call(&mut m, t, READ, &[map, BUF, LEN]) > 0, "a map stays");
}

#[test]
fn the_memory_of_a_process_is_a_file() {
    let mut m = boot();
    let t = m.first();
    let child = fork(&mut m, t);
    let area = call(&mut m, child, MMAP, &[0, 8192, 3, 0x22, u64::MAX, 0]) as u64;
    m.poke(child, area, b"secret").unwrap();
    // Read-only, and nothing at all: a debugger reads and writes both.
    assert_eq!(call(&mut m, child, 10, &[area, 4096, 1]), 0);
    assert_eq!(call(&mut m, child, 10, &[area + 4096, 4096, 0]), 0);
    let pid = 2;
    let fd = open(&mut m, t, &format!("/proc/{pid}/mem"), O_RDWR) as u64;
    assert_eq!(call(&mut m, t, PREAD, &[fd, BUF, 6, area]), 6);
    assert_eq!(m.peek(t, BUF, 6).unwrap(), b"secret");
    m.poke(t, BUF, b"public").unwrap();
    assert_eq!(call(&mut m, t, PWRITE, &[fd, BUF, 6, area]), 6);
    assert_eq!(m.peek(child, area, 6).unwrap(), b"public");
    assert_eq!(
        call(&mut m, t, PREAD, &[fd, BUF, 0xf00, area + 8192 - 100]),
        100,
        "up to the hole"
    );
    assert_eq!(call(&mut m, t, PWRITE, &[fd, BUF, 6, area + 4096]), 6);
    assert_eq!(call(&mut m, t, PREAD, &[fd, BUF, 1, 0x1000]), EIO);
    assert_eq!(call(&mut m, t, PWRITE, &[fd, BUF, 1, 0x1000]), EIO);
    assert_eq!(call(&mut m, t, LSEEK, &[fd, area, 0]), area as i64);
    assert_eq!(call(&mut m, t, READ, &[fd, BUF, 3]), 3);
    assert_eq!(call(&mut m, t, LSEEK, &[fd, 0, 1]), area as i64 + 3);
    assert_eq!(call(&mut m, t, LSEEK, &[fd, 0, 2]), EINVAL);

    let map = open(&mut m, t, &format!("/proc/{pid}/pagemap"), 0) as u64;
    assert_eq!(call(&mut m, t, PREAD, &[map, BUF, 16, area / 4096 * 8]), 16);
    assert_eq!(long(&mut m, t, BUF) >> 63, 1, "it is there");
    assert_eq!(long(&mut m, t, BUF) >> 56 & 1, 1, "and nobody else has it");
    assert_eq!(call(&mut m, t, PREAD, &[map, BUF, 8, 8]), 8);
    assert_eq!(long(&mut m, t, BUF), 0);
    assert_eq!(call(&mut m, t, PREAD, &[map, BUF, 7, 8]), EINVAL);
    assert_eq!(call(&mut m, t, PREAD, &[map, BUF, 8, 4]), EINVAL);

    // Who may not trace it does not get in; and what has gone has nothing in it.
    let user = fork(&mut m, t);
    assert_eq!(call(&mut m, user, SETRESUID, &[5, 5, 5]), 0);
    for name in ["mem", "pagemap"] {
        assert_eq!(
            open(&mut m, user, &format!("/proc/{pid}/{name}"), 0),
            EACCES,
            "{name}"
        );
    }
    gone(&mut m, child, EXIT_GROUP, &[0]);
    assert_eq!(call(&mut m, t, PREAD, &[fd, BUF, 6, area]), 0);
    assert_eq!(call(&mut m, t, PREAD, &[map, BUF, 8, 8]), 0);
}

#[test]
fn the_peak_of_memory_can_be_taken_back() {
    let mut m = boot();
    let t = m.first();
    let size = |m: &mut Guests, name: &str| -> u64 {
        let text = read(m, t, "/proc/self/status").unwrap();
        let line = lines(&text, &[name]).remove(0);
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let area = call(&mut m, t, MMAP, &[0, 4 << 20, 3, 0x22, u64::MAX, 0]) as u64;
    for page in 0..1024 {
        m.poke(t, area + page * 4096, b"x").unwrap();
    }
    assert_eq!(call(&mut m, t, 11, &[area, 4 << 20]), 0);
    assert!(size(&mut m, "VmHWM") >= 4096);
    assert_eq!(write(&mut m, t, "/proc/self/clear_refs", "5\0"), 2);
    assert!(size(&mut m, "VmHWM") < 4096);
    assert_eq!(write(&mut m, t, "/proc/self/clear_refs", "6"), EINVAL);
    assert_eq!(write(&mut m, t, "/proc/self/clear_refs", "0"), EINVAL);
}

#[test]
fn what_is_written_ends_at_a_nul() {
    let mut m = boot();
    let t = m.first();
    assert_eq!(write(&mut m, t, "/proc/self/oom_score_adj", "7\0"), 2);
    assert_eq!(
        read(&mut m, t, "/proc/self/oom_score_adj"),
        Ok("7\n".into())
    );
    assert_eq!(write(&mut m, t, "/proc/self/oom_score_adj", "8\n\0rest"), 7);
    assert_eq!(
        read(&mut m, t, "/proc/self/oom_score_adj"),
        Ok("8\n".into())
    );
    assert_eq!(write(&mut m, t, "/proc/self/coredump_filter", "0x1\0"), 4);
    assert_eq!(write(&mut m, t, "/proc/self/timerslack_ns", "77\0"), 3);
    assert_eq!(
        read(&mut m, t, "/proc/self/timerslack_ns"),
        Ok("77\n".into())
    );
}

/// The events that poll(2) gives for one file.
fn events(m: &mut Guests, t: ThreadId, fd: u64) -> u32 {
    m.poke(t, DATA, &(fd as u32).to_le_bytes()).unwrap();
    m.poke(t, DATA + 4, &0x000fu32.to_le_bytes()).unwrap();
    call(m, t, POLL, &[DATA, 1, 0]);
    word(m, t, DATA + 4) >> 16
}

#[test]
fn changes_of_mounts_and_names_can_be_waited_for() {
    const CHANGED: u32 = 0xb;
    let mut config = varve_core::memhost::bare(varve_core::memhost::empty_root());
    config.capabilities = (1 << 41) - 1;
    let mut m = Guests::boot(config, varve_core::memhost::MemHost::new(4096, Vec::new())).unwrap();
    let t = m.first();
    let files =
        ["/proc/self/mountinfo", "/proc/mounts"].map(|path| open(&mut m, t, path, 0) as u64);
    let host = open(&mut m, t, "/proc/sys/kernel/hostname", 0) as u64;
    let domain = open(&mut m, t, "/proc/sys/kernel/domainname", 0) as u64;
    let status = open(&mut m, t, "/proc/self/status", 0) as u64;
    let epoll = call(&mut m, t, EPOLL_CREATE, &[0]) as u64;
    m.poke(t, DATA, &[2, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0])
        .unwrap();
    for (fd, result) in [(files[0], 0), (host, 0), (status, EPERM)] {
        assert_eq!(call(&mut m, t, EPOLL_CTL, &[epoll, 1, fd, DATA]), result);
    }
    assert_eq!(
        [files[0], files[1], host, status].map(|fd| events(&mut m, t, fd)),
        [1, 1, 5, 5]
    );
    assert_eq!(call(&mut m, t, EPOLL_WAIT, &[epoll, BUF, 8, 0]), 0);

    let waits = fork(&mut m, t);
    parks(&mut m, waits, EPOLL_WAIT, &[epoll, BUF, 8, u64::MAX]);
    m.poke(t, DATA, b"none\0/dev/shm\0tmpfs\0").unwrap();
    assert_eq!(
        call(&mut m, t, MOUNT, &[DATA, DATA + 5, DATA + 14, 0, 0]),
        0
    );
    assert_eq!(m.result(waits), Some(1), "somebody who waited was woken");
    assert_eq!(events(&mut m, t, files[1]), CHANGED);
    assert_eq!(events(&mut m, t, files[1]), 1, "it is told once");
    let late = open(&mut m, t, "/proc/self/mountinfo", 0) as u64;
    assert_eq!(events(&mut m, t, late), 1);

    m.poke(t, DATA, b"name").unwrap();
    assert_eq!(call(&mut m, t, SETHOSTNAME, &[DATA, 4]), 0);
    assert_eq!(events(&mut m, t, host), CHANGED);
    assert_eq!(events(&mut m, t, host), 5);
    assert_eq!(events(&mut m, t, domain), 5);
}

#[test]
fn watches_and_sockets_are_listed_as_linux_does() {
    let mut m = boot();
    let t = m.first();
    let fd = call(&mut m, t, INOTIFY_INIT, &[0]) as u64;
    m.poke(t, DATA, b"/\0").unwrap();
    let mask = 0x8400_0002u64;
    assert_eq!(
        call(
            &mut m,
            t,
            INOTIFY_ADD_WATCH,
            &[fd, DATA, mask | 0x0200_0000]
        ),
        1
    );
    assert_eq!(call(&mut m, t, STAT, &[DATA, BUF]), 0);
    let (dev, ino) = (long(&mut m, t, BUF), long(&mut m, t, BUF + 8));
    let text = read(&mut m, t, &format!("/proc/self/fdinfo/{fd}")).unwrap();
    let mut handle = [0; 12];
    handle[4..].copy_from_slice(&ino.to_le_bytes());
    let handle: String = handle.iter().map(|byte| format!("{byte:02x}")).collect();
    let line = format!(
        "inotify wd:1 ino:{ino:x} sdev:{dev:x} mask:{mask:x} ignored_mask:0 fhandle-bytes:c fhandle-type:1 f_handle:{handle}"
    );
    assert_eq!(lines(&text, &["inotify"]), [line]);

    let socket = call(&mut m, t, SOCKET, &[1, 1, 0]) as u64;
    m.poke(t, DATA, b"\x01\0\0na\0me").unwrap();
    assert_eq!(call(&mut m, t, BIND, &[socket, DATA, 8]), 0);
    assert_eq!(call(&mut m, t, LISTEN, &[socket, 5]), 0);
    assert_eq!(call(&mut m, t, FSTAT, &[socket, BUF]), 0);
    let ino = long(&mut m, t, BUF + 8);
    let text = read(&mut m, t, "/proc/net/unix").unwrap();
    let line = format!("0000000000000000: 00000002 00000000 00010000 0001 01 {ino:5} @na@me");
    assert_eq!(text.lines().skip(1).collect::<Vec<_>>(), [line]);
}
