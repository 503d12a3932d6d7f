//! What `/proc` and `/sys` tell, and to whom.

mod guest;

use guest::{DATA, FORK, Guests, SETRESUID, boot, call};
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
const EPERM: i64 = -1;
const ENOENT: i64 = -2;
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
                    match read(&mut m, t, &path) {
                        Ok(text) => assert!(
                            text.is_empty() || text.ends_with(['\n', '5', '0', '\0']),
                            "{path}: {text}"
                        ),
                        Err(EPERM) => assert_eq!(path, "/proc/kmsg"),
                        // The descriptor of the listing itself.
                        Err(ENOENT) => assert!(path.contains("/fdinfo/"), "{path}"),
                        Err(EACCES) => assert!(path.ends_with("/stack"), "{path}"),
                        Err(EINVAL) => assert!(path.contains("/attr/"), "{path}"),
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
