//! inotify, memory files with seals, and vmsplice on the in-memory host.

mod guest;

use guest::*;
use varve_core::machine::ThreadId;
use varve_core::syscall::TABLE;

const EEXIST: i64 = 17;
const EBUSY: i64 = 16;
const ENOTDIR: i64 = 20;
const EBADF: i64 = 9;
const FTRUNCATE: u64 = 77;
const FCHMOD: u64 = 91;
const CWD: u64 = -100i64 as u64;
const PATH: u64 = DATA + 0x100;
const OTHER: u64 = DATA + 0x300;
const BUF: u64 = DATA + 0x1_0000;
const NONBLOCK: u64 = 0o4000;
const ALL: u64 = 0xfff;
const MODIFY: u32 = 2;
const ATTRIB: u32 = 4;
const CLOSE_WRITE: u32 = 8;
const CLOSE_NOWRITE: u32 = 0x10;
const OPEN: u32 = 0x20;
const MOVED_FROM: u32 = 0x40;
const MOVED_TO: u32 = 0x80;
const CREATE: u32 = 0x100;
const DELETE: u32 = 0x200;
const DELETE_SELF: u32 = 0x400;
const MOVE_SELF: u32 = 0x800;
const Q_OVERFLOW: u32 = 0x4000;
const IGNORED: u32 = 0x8000;
const ISDIR: u32 = 0x4000_0000;

#[track_caller]
fn now(m: &mut Guests, t: ThreadId, name: &str, args: &[u64]) -> i64 {
    let entry = TABLE.iter().find(|entry| entry.name == name);
    call(m, t, entry.expect("a known call").number, args)
}

fn path(m: &mut Guests, t: ThreadId, at: u64, path: &str) -> u64 {
    m.poke(t, at, &[path.as_bytes(), b"\0"].concat()).unwrap();
    at
}

fn open(m: &mut Guests, t: ThreadId, name: &str, flags: u64) -> u64 {
    let at = path(m, t, PATH, name);
    let fd = now(m, t, "openat", &[CWD, at, flags, 0o644]);
    assert!(fd >= 0, "{name}: {fd}");
    fd as u64
}

fn watch(m: &mut Guests, t: ThreadId, fd: u64, name: &str, mask: u64) -> i64 {
    let at = path(m, t, PATH, name);
    now(m, t, "inotify_add_watch", &[fd, at, mask])
}

/// The events that wait: watch, mask, name. Cookies must come in pairs.
fn told(m: &mut Guests, t: ThreadId, fd: u64) -> Vec<(i32, u32, String)> {
    let len = now(m, t, "read", &[fd, BUF, 4096]);
    if len == -EAGAIN {
        return Vec::new();
    }
    let bytes = m.peek(t, BUF, len as usize).unwrap();
    let mut rest = &bytes[..];
    let mut found = Vec::new();
    while !rest.is_empty() {
        let int = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().unwrap());
        let len = int(12) as usize;
        let name = rest[16..16 + len].split(|&byte| byte == 0).next();
        let name = String::from_utf8(name.unwrap_or_default().to_vec()).unwrap();
        assert_eq!(int(8) != 0, int(4) & (MOVED_FROM | MOVED_TO) != 0);
        found.push((int(0) as i32, int(4), name));
        rest = &rest[16 + len..];
    }
    found
}

fn expect(found: Vec<(i32, u32, String)>, expected: &[(i32, u32, &str)]) {
    let found: Vec<_> = found
        .iter()
        .map(|(wd, mask, name)| (*wd, *mask, name.as_str()))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn directories_tell_of_what_is_in_them() {
    let mut m = boot();
    let a = m.first();
    let at = path(&mut m, a, PATH, "/d");
    now(&mut m, a, "mkdirat", &[CWD, at, 0o755]);
    let fd = now(&mut m, a, "inotify_init1", &[NONBLOCK]) as u64;
    assert_eq!(watch(&mut m, a, fd, "/d", ALL), 1);
    let file = open(&mut m, a, "/d/f", 0o101);
    now(&mut m, a, "write", &[file, BUF, 3]);
    now(&mut m, a, "write", &[file, BUF, 3]);
    now(&mut m, a, "close", &[file]);
    let expected = [
        (1, CREATE, "f"),
        (1, OPEN, "f"),
        (1, MODIFY, "f"),
        (1, CLOSE_WRITE, "f"),
    ];
    expect(told(&mut m, a, fd), &expected);
    let file = open(&mut m, a, "/d/f", 0o1000);
    now(&mut m, a, "close", &[file]);
    expect(
        told(&mut m, a, fd),
        &[(1, OPEN, "f"), (1, MODIFY, "f"), (1, CLOSE_NOWRITE, "f")],
    );
    let at = path(&mut m, a, PATH, "/d/s");
    now(&mut m, a, "mkdirat", &[CWD, at, 0o755]);
    now(&mut m, a, "rmdir", &[at]);
    expect(
        told(&mut m, a, fd),
        &[(1, CREATE | ISDIR, "s"), (1, DELETE | ISDIR, "s")],
    );
    let old = path(&mut m, a, PATH, "/d/f");
    let new = path(&mut m, a, OTHER, "/d/g");
    now(&mut m, a, "chmod", &[old, 0o600]);
    now(&mut m, a, "rename", &[old, new]);
    now(&mut m, a, "unlink", &[new]);
    let expected = [
        (1, ATTRIB, "f"),
        (1, MOVED_FROM, "f"),
        (1, MOVED_TO, "g"),
        (1, DELETE, "g"),
    ];
    expect(told(&mut m, a, fd), &expected);
    let at = path(&mut m, a, PATH, "/d");
    now(&mut m, a, "rmdir", &[at]);
    expect(
        told(&mut m, a, fd),
        &[(1, DELETE_SELF, ""), (1, IGNORED, "")],
    );
    now(&mut m, a, "close", &[fd]);
}

#[test]
fn files_tell_of_themselves_until_nobody_holds_them() {
    let mut m = boot();
    let a = m.first();
    let b = thread(&mut m, a);
    let file = open(&mut m, a, "/f", 0o102);
    let fd = now(&mut m, a, "inotify_init", &[]) as u64;
    assert_eq!(watch(&mut m, a, fd, "/f", ALL), 1);
    let read = TABLE
        .iter()
        .find(|entry| entry.name == "read")
        .unwrap()
        .number;
    parks(&mut m, b, read, &[fd, BUF, 4096]);
    now(&mut m, a, "ftruncate", &[file, 10]);
    assert_eq!(m.result(b), Some(16));
    let old = path(&mut m, a, PATH, "/f");
    let new = path(&mut m, a, OTHER, "/g");
    now(&mut m, a, "rename", &[old, new]);
    now(&mut m, a, "unlink", &[new]);
    expect(told(&mut m, a, fd), &[(1, MOVE_SELF, ""), (1, ATTRIB, "")]);
    now(&mut m, a, "close", &[file]);
    expect(
        told(&mut m, a, fd),
        &[(1, CLOSE_WRITE, ""), (1, DELETE_SELF, ""), (1, IGNORED, "")],
    );
    assert_eq!(now(&mut m, a, "inotify_rm_watch", &[fd, 1]), -EINVAL);
}

#[test]
fn watches_change_end_and_overflow() {
    let mut m = boot();
    let a = m.first();
    let file = open(&mut m, a, "/f", 0o102);
    let fd = now(&mut m, a, "inotify_init1", &[NONBLOCK]) as u64;
    assert_eq!(now(&mut m, a, "inotify_init1", &[1]), -EINVAL);
    assert_eq!(watch(&mut m, a, fd, "/f", 0), -EINVAL);
    assert_eq!(watch(&mut m, a, file, "/f", ALL), -EINVAL);
    assert_eq!(watch(&mut m, a, 99, "/f", ALL), -EBADF);
    assert_eq!(watch(&mut m, a, fd, "/f", ALL | 0x0100_0000), -ENOTDIR);
    assert_eq!(watch(&mut m, a, fd, "/f", 2), 1);
    assert_eq!(watch(&mut m, a, fd, "/f", 4 | 0x1000_0000), -EEXIST);
    assert_eq!(watch(&mut m, a, fd, "/f", 4 | 0x2000_0000), 1);
    now(&mut m, a, "ftruncate", &[file, 10]);
    now(&mut m, a, "fchmod", &[file, 0o600]);
    expect(told(&mut m, a, fd), &[(1, MODIFY, ""), (1, ATTRIB, "")]);
    assert_eq!(now(&mut m, a, "inotify_rm_watch", &[fd, 1]), 0);
    expect(told(&mut m, a, fd), &[(1, IGNORED, "")]);
    // Once.
    assert_eq!(watch(&mut m, a, fd, "/f", 2 | 0x8000_0000), 2);
    now(&mut m, a, "ftruncate", &[file, 11]);
    now(&mut m, a, "ftruncate", &[file, 12]);
    expect(told(&mut m, a, fd), &[(2, MODIFY, ""), (2, IGNORED, "")]);
    assert_eq!(watch(&mut m, a, fd, "/f", ALL), 3);
    for _ in 0..9000 {
        assert_eq!(m.call(a, FTRUNCATE, &[file, 1]), Some(0));
        assert_eq!(m.call(a, FCHMOD, &[file, 0o600]), Some(0));
    }
    let mut all = Vec::new();
    loop {
        match told(&mut m, a, fd) {
            part if part.is_empty() => break,
            part => all.extend(part),
        }
    }
    assert_eq!(all.len(), 16385);
    assert_eq!(all.pop().unwrap(), (-1, Q_OVERFLOW, String::new()));
    assert_eq!(now(&mut m, a, "read", &[fd, BUF, 8]), -EAGAIN);
    now(&mut m, a, "ftruncate", &[file, 1]);
    assert_eq!(now(&mut m, a, "read", &[fd, BUF, 8]), -EINVAL);
    // FIONREAD
    assert_eq!(now(&mut m, a, "ioctl", &[fd, 0x541b, BUF]), 0);
    assert_eq!(word(&mut m, a, BUF), 16);
}

/// What waits in an instance goes with it, with long names, too, and is counted until then.
#[test]
fn events_that_nobody_read_go_with_their_instance() {
    let mut m = boot();
    let a = m.first();
    let fd = now(&mut m, a, "inotify_init1", &[NONBLOCK]) as u64;
    assert_eq!(watch(&mut m, a, fd, "/", 0xfff), 1);
    for number in 0..20 {
        // Made longer by and by, so that the room that names take is not all alike.
        let name = format!("/{}", "n".repeat(20 + 9 * number));
        let file = open(&mut m, a, &name, 0o102);
        assert_eq!(now(&mut m, a, "close", &[file]), 0);
    }
    assert_eq!(now(&mut m, a, "close", &[fd]), 0);
}

#[test]
fn sealed_files_stay_as_they_are() {
    let mut m = boot();
    let a = m.first();
    let name = path(&mut m, a, PATH, "name");
    assert_eq!(now(&mut m, a, "memfd_create", &[name, 0x18]), -EINVAL);
    assert_eq!(now(&mut m, a, "memfd_create", &[8, 0]), -EFAULT);
    let plain = now(&mut m, a, "memfd_create", &[name, 0]) as u64;
    const ADD: u64 = 1033;
    const GET: u64 = 1034;
    assert_eq!(now(&mut m, a, "fcntl", &[plain, GET]), 1);
    assert_eq!(now(&mut m, a, "fcntl", &[plain, ADD, 2]), -EPERM);
    let fd = now(&mut m, a, "memfd_create", &[name, 3]) as u64;
    let link = path(&mut m, a, OTHER, &format!("/proc/self/fd/{fd}"));
    let len = now(&mut m, a, "readlink", &[link, BUF, 100]) as usize;
    assert_eq!(m.peek(a, BUF, len).unwrap(), b"/memfd:name (deleted)");
    assert_eq!(now(&mut m, a, "write", &[fd, BUF, 5000]), 5000);
    assert_eq!(now(&mut m, a, "fcntl", &[fd, ADD, 2 | 4]), 0);
    assert_eq!(now(&mut m, a, "ftruncate", &[fd, 4999]), -EPERM);
    assert_eq!(now(&mut m, a, "ftruncate", &[fd, 5001]), -EPERM);
    assert_eq!(now(&mut m, a, "write", &[fd, BUF, 1]), -EPERM);
    assert_eq!(
        now(&mut m, a, "pwrite64", &[fd, BUF, 9000, 0]),
        4096,
        "as Linux: whole pages"
    );
    let at = 0x4000_0000u64;
    assert_eq!(
        now(&mut m, a, "mmap", &[at, 4096, 3, 0x11, fd, 0]),
        at as i64
    );
    assert_eq!(now(&mut m, a, "fcntl", &[fd, ADD, 8]), -EBUSY);
    assert_eq!(now(&mut m, a, "munmap", &[at, 4096]), 0);
    assert_eq!(now(&mut m, a, "fcntl", &[fd, ADD, 8 | 1]), 0);
    assert_eq!(now(&mut m, a, "mmap", &[at, 4096, 3, 0x11, fd, 0]), -EPERM);
    assert_eq!(
        now(&mut m, a, "mmap", &[at, 4096, 1, 0x11, fd, 0]),
        at as i64
    );
    assert_eq!(now(&mut m, a, "mprotect", &[at, 4096, 3]), -13);
    assert_eq!(now(&mut m, a, "pwrite64", &[fd, BUF, 1, 0]), -EPERM);
    assert_eq!(now(&mut m, a, "fallocate", &[fd, 3, 0, 4096]), -EPERM);
    assert_eq!(now(&mut m, a, "fcntl", &[fd, ADD, 0x10]), -EPERM);
    assert_eq!(now(&mut m, a, "fcntl", &[fd, GET]), 15);
    let file = open(&mut m, a, "/f", 0o102);
    // As tmpfs has it: no seals, and none can be added.
    assert_eq!(now(&mut m, a, "fcntl", &[file, GET]), 1);
    now(&mut m, a, "munmap", &[at, 4096]);
    now(&mut m, a, "close", &[fd]);
    now(&mut m, a, "close", &[plain]);
}

#[test]
fn memory_goes_into_and_out_of_pipes() {
    let mut m = boot();
    let a = m.first();
    now(&mut m, a, "pipe2", &[BUF, NONBLOCK]);
    let [read, write] = [0, 4].map(|at| u64::from(word(&mut m, a, BUF + at)));
    let iov = |m: &mut Guests, parts: &[(u64, u64)]| {
        let bytes: Vec<u8> = parts
            .iter()
            .flat_map(|&(at, len)| [at, len].into_iter().flat_map(|word| word.to_le_bytes()))
            .collect();
        m.poke(a, PATH, &bytes).unwrap();
    };
    m.poke(a, BUF, b"hello").unwrap();
    iov(&mut m, &[(BUF, 2), (BUF + 2, 3)]);
    assert_eq!(now(&mut m, a, "vmsplice", &[write, PATH, 2, 16]), -EINVAL);
    assert_eq!(now(&mut m, a, "vmsplice", &[99, PATH, 2, 0]), -EBADF);
    assert_eq!(now(&mut m, a, "vmsplice", &[write, PATH, 2, 0]), 5);
    iov(&mut m, &[(BUF + 100, 2), (BUF + 200, 9)]);
    assert_eq!(now(&mut m, a, "vmsplice", &[read, PATH, 2, 0]), 5);
    assert_eq!(m.peek(a, BUF + 200, 3).unwrap(), b"llo");
    assert_eq!(now(&mut m, a, "vmsplice", &[read, PATH, 2, 2]), -EAGAIN);
    iov(&mut m, &[(BUF, 0x1_8000)]);
    assert_eq!(
        now(&mut m, a, "vmsplice", &[write, PATH, 1, 0]),
        65536,
        "what fits"
    );
    assert_eq!(now(&mut m, a, "vmsplice", &[write, PATH, 1, 2]), -EAGAIN);
}

#[test]
fn packets_are_read_one_at_a_time() {
    let mut m = boot();
    let a = m.first();
    const DIRECT: u64 = 0o40000;
    assert_eq!(now(&mut m, a, "pipe2", &[BUF, NONBLOCK | DIRECT]), 0);
    let [read, write] = [0, 4].map(|at| u64::from(word(&mut m, a, BUF + at)));
    for len in [3, 5, 5000] {
        assert_eq!(now(&mut m, a, "write", &[write, BUF, len]), len as i64);
    }
    // What is left of a packet is lost; one larger than a page is two.
    for (len, got) in [(2, 2), (100, 5), (8000, 4096), (8000, 904), (10, -EAGAIN)] {
        assert_eq!(now(&mut m, a, "read", &[read, BUF, len]), got);
    }
    // Bytes before and behind packets.
    now(&mut m, a, "write", &[write, BUF, 10]);
    assert_eq!(now(&mut m, a, "fcntl", &[write, 4, NONBLOCK]), 0);
    for len in [4, 3] {
        now(&mut m, a, "write", &[write, BUF, len]);
    }
    assert_eq!(now(&mut m, a, "fcntl", &[write, 4, NONBLOCK | DIRECT]), 0);
    now(&mut m, a, "write", &[write, BUF, 6]);
    for (len, got) in [(1, 1), (100, 13), (10, -EAGAIN)] {
        assert_eq!(now(&mut m, a, "read", &[read, BUF, len]), got);
    }
    let mut sent = 0;
    while now(&mut m, a, "write", &[write, BUF, 3000]) == 3000 {
        sent += 3000;
    }
    // Each takes a page.
    assert_eq!(sent, 16 * 3000);
    assert_eq!(now(&mut m, a, "read", &[read, BUF, 1]), 1);
    assert_eq!(now(&mut m, a, "write", &[write, BUF, 3000]), 3000);
}
