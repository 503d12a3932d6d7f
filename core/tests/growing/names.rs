//! Names, directories, mounts, watches, locks.

use super::*;

const F_SETLK: u64 = 6;
const F_GETLK: u64 = 5;
const F_OFD_SETLK: u64 = 37;
const F_SETLKW: u64 = 7;
const READ: u64 = 0;
const WRITE: u64 = 1;
const UNLOCK: u64 = 2;

fn file(w: &mut World) {
    w.fd = w.open("/file", 0o102);
}

/// fcntl(2) with a `struct flock`.
fn lock(w: &mut World, fd: u64, cmd: u64, kind: u64, first: u64, len: u64) -> i64 {
    w.words(DATA, &[kind, first, len, 0]);
    w.call(72, &[fd, cmd, DATA])
}

/// The file opened once more.
fn again(w: &mut World) {
    let fd = w.open("/file", 2);
    w.fds.push(fd);
}

fn directory(w: &mut World) {
    w.path("/dir");
    w.made(83, &[NAME, 0o755]);
    w.made(80, &[NAME]);
}

fn make(w: &mut World, n: u64) {
    w.name(NAME, n);
    w.made(133, &[NAME, 0o100_600, 0]);
}

fn mounts(w: &mut World) {
    w.path("/mnt");
    w.made(83, &[NAME, 0o755]);
    w.path("/other");
    w.made(83, &[NAME, 0o755]);
    w.poke(OTHER, b"/mnt\0");
    w.poke(OTHER + 64, b"tmpfs\0");
}

fn mount(w: &mut World, at: u64) {
    w.made(165, &[OTHER + 64, at, OTHER + 64, 0, 0]);
}

/// A child waits for a lock of the whole file.
fn wait_for_lock(w: &mut World, _: u64) {
    w.words(DATA, &[WRITE, 0, 0, 0]);
    let (_, child) = w.fork();
    assert_eq!(w.of(child, 72, &[w.fd, F_SETLKW, DATA]), None);
    w.others.push(child);
}

fn wait_for_flock(w: &mut World, _: u64) {
    w.path("/file");
    let (_, child) = w.fork();
    let fd = w.of(child, 2, &[NAME, 2, 0]).expect("it opens") as u64;
    assert_eq!(w.of(child, 73, &[fd, 2]), None);
    w.others.push(child);
}

fn exit(w: &mut World, thread: ThreadId) {
    w.of(thread, 231, &[0]);
}

pub const GROWING: &[Growing] = &[
    Growing {
        name: "record locks of a process",
        few: 1000,
        setup: file,
        grow: |w, n| assert_eq!(lock(w, w.fd, F_SETLK, WRITE, 2 * n, 1), 0),
        step: |w, n| {
            let at = 100 + 2 * n;
            assert_eq!(lock(w, w.fd, F_SETLK, UNLOCK, at, 1), 0);
            assert_eq!(lock(w, w.fd, F_GETLK, WRITE, at, 1), 0);
            assert_eq!(lock(w, w.fd, F_SETLK, READ, at, 1), 0);
            assert_eq!(lock(w, w.fd, F_SETLK, WRITE, at, 1), 0);
        },
    },
    Growing {
        name: "record locks of many files",
        few: 1000,
        setup: |w| {
            file(w);
            directory(w);
        },
        grow: |w, n| {
            w.name(NAME, n);
            let fd = w.made(2, &[NAME, 0o102, 0o600]);
            assert_eq!(lock(w, fd, F_SETLK, WRITE, 0, 0), 0);
        },
        step: |w, _| {
            assert_eq!(lock(w, w.fd, F_SETLK, WRITE, 0, 0), 0);
            assert_eq!(lock(w, w.fd, F_SETLK, UNLOCK, 0, 0), 0);
        },
    },
    Growing {
        name: "record locks of many owners",
        few: 500,
        setup: |w| {
            file(w);
            again(w);
        },
        grow: |w, n| {
            again(w);
            let fd = w.fds[w.fds.len() - 1];
            assert_eq!(lock(w, fd, F_OFD_SETLK, WRITE, 2 * n, 1), 0);
        },
        step: |w, n| {
            let at = 101 + 2 * n;
            assert_eq!(lock(w, w.fds[0], F_OFD_SETLK, WRITE, at, 1), 0);
            assert_eq!(lock(w, w.fds[0], F_OFD_SETLK, WRITE, at + 1, 1), -11);
            assert_eq!(lock(w, w.fds[0], F_OFD_SETLK, UNLOCK, at, 1), 0);
        },
    },
    Growing {
        name: "shared record locks of many owners",
        few: 500,
        setup: |w| {
            file(w);
            again(w);
        },
        grow: |w, _| {
            again(w);
            let fd = w.fds[w.fds.len() - 1];
            assert_eq!(lock(w, fd, F_OFD_SETLK, READ, 0, 0), 0);
        },
        step: |w, _| {
            assert_eq!(lock(w, w.fds[0], F_OFD_SETLK, READ, 0, 0), 0);
            assert_eq!(lock(w, w.fds[0], F_OFD_SETLK, WRITE, 0, 0), -11);
            assert_eq!(lock(w, w.fds[0], F_OFD_SETLK, UNLOCK, 0, 0), 0);
        },
    },
    Growing {
        name: "waiters for a record lock",
        few: 100,
        setup: |w| {
            file(w);
            assert_eq!(lock(w, w.fd, F_SETLK, WRITE, 0, 0), 0);
        },
        grow: wait_for_lock,
        // One more waits, and the lock goes to the first, whose end gives it on.
        step: |w, _| {
            wait_for_lock(w, 0);
            assert_eq!(lock(w, w.fd, F_SETLK, UNLOCK, 0, 0), 0);
            let first = w.others.remove(0);
            assert_eq!(w.m.result(first), Some(0), "it has the lock");
            exit(w, first);
            assert_eq!(w.m.result(w.others[0]), Some(0), "the next one has it");
        },
    },
    Growing {
        name: "waiters for a lock of an open file (flock)",
        few: 100,
        setup: |w| {
            file(w);
            w.made(73, &[w.fd, 2]);
        },
        grow: wait_for_flock,
        step: |w, _| {
            wait_for_flock(w, 0);
            w.made(73, &[w.fd, 8]);
            let first = w.others.remove(0);
            assert_eq!(w.m.result(first), Some(0), "it has the lock");
            exit(w, first);
            assert_eq!(w.m.result(w.others[0]), Some(0), "the next one has it");
        },
    },
    Growing {
        name: "locks of open files (flock)",
        few: 3000,
        setup: |w| {
            file(w);
            again(w);
        },
        grow: |w, _| {
            again(w);
            let fd = w.fds[w.fds.len() - 1];
            w.made(73, &[fd, 1]);
        },
        step: |w, _| {
            w.made(73, &[w.fds[0], 1]);
            assert_eq!(w.call(73, &[w.fds[0], 2 | 4]), -11);
            w.made(73, &[w.fds[0], 8]);
        },
    },
    Growing {
        name: "watches of an instance",
        few: 1000,
        setup: |w| {
            w.fd = w.made(294, &[0]);
            directory(w);
        },
        grow: |w, n| {
            w.name(NAME, n);
            w.made(83, &[NAME, 0o700]);
            w.made(254, &[w.fd, NAME, 0x100]);
        },
        step: |w, _| {
            let n = w.unused();
            w.path(&format!("s{n}"));
            w.made(83, &[NAME, 0o700]);
            let wd = w.made(254, &[w.fd, NAME, 0x100]);
            w.made(254, &[w.fd, NAME, 0x200]);
            w.made(255, &[w.fd, wd]);
        },
    },
    Growing {
        name: "names in a directory",
        few: 1000,
        setup: directory,
        grow: make,
        step: |w, n| {
            w.path(&format!("x{n}"));
            w.made(133, &[NAME, 0o100_600, 0]);
            w.poke(OTHER, format!("y{n}\0").as_bytes());
            w.made(82, &[NAME, OTHER]);
            w.made(87, &[OTHER]);
        },
    },
    Growing {
        name: "names in a directory, a few read at a time",
        few: 1000,
        setup: |w| {
            directory(w);
            w.path(".");
            w.fd = w.made(2, &[NAME, 0o200_000]);
        },
        grow: make,
        step: |w, n| {
            if n == 0 {
                w.made(8, &[w.fd, 0, 0]);
            }
            assert!(w.made(217, &[w.fd, BULK, 300]) > 200);
        },
    },
    Growing {
        name: "links of a file",
        few: 1000,
        setup: |w| {
            directory(w);
            w.poke(OTHER, b"file\0");
            w.made(133, &[OTHER, 0o100_600, 0]);
        },
        grow: |w, n| {
            w.name(NAME, n);
            w.made(86, &[OTHER, NAME]);
        },
        step: |w, n| {
            w.path(&format!("x{n}"));
            w.made(86, &[OTHER, NAME]);
            w.made(87, &[NAME]);
        },
    },
    Growing {
        name: "cached names, when a file system goes",
        few: 1000,
        setup: |w| {
            mounts(w);
            directory(w);
        },
        grow: make,
        step: |w, _| {
            mount(w, OTHER);
            w.path("/mnt/a");
            w.made(83, &[NAME, 0o755]);
            w.path("/mnt/a/b");
            w.made(83, &[NAME, 0o755]);
            w.made(166, &[OTHER, 0]);
        },
    },
    Growing {
        name: "mounts",
        few: 300,
        setup: mounts,
        grow: |w, n| {
            w.path(&format!("/other/m{n}"));
            w.made(83, &[NAME, 0o755]);
            mount(w, NAME);
        },
        step: |w, _| {
            let n = w.unused();
            w.path(&format!("/x{n}"));
            w.made(83, &[NAME, 0o755]);
            mount(w, OTHER);
            w.made(166, &[OTHER, 0]);
            w.made(84, &[NAME]);
        },
    },
    Growing {
        name: "mounts of one file system, one remounted",
        few: 300,
        setup: |w| {
            mounts(w);
            mount(w, OTHER);
        },
        grow: |w, n| {
            w.path(&format!("/other/m{n}"));
            w.made(83, &[NAME, 0o755]);
            mount(w, NAME);
        },
        step: |w, _| {
            w.made(165, &[0, OTHER, 0, 32, 0]);
        },
    },
    Growing {
        name: "descriptors",
        few: 2000,
        setup: |w| w.fd = w.made(290, &[0, 0]),
        grow: |w, _| {
            w.made(32, &[w.fd]);
        },
        step: |w, _| {
            w.made(3, &[7]);
            assert_eq!(w.made(32, &[w.fd]), 7);
            let last = w.made(32, &[w.fd]);
            w.made(3, &[last]);
            w.made(436, &[1 << 19, 1 << 20, 0]);
        },
    },
    Growing {
        name: "descriptors, above a number",
        few: 10_000,
        setup: |w| w.fd = w.made(290, &[0, 0]),
        grow: |w, _| {
            w.made(32, &[w.fd]);
        },
        step: |w, _| {
            let last = w.made(72, &[w.fd, 0, 100]);
            w.made(3, &[last]);
        },
    },
    Growing {
        name: "descriptors, listed",
        few: 1000,
        setup: |w| {
            w.fd = w.made(290, &[0, 0]);
            let list = w.open("/proc/self/fd", 0o200_000);
            w.fds.push(list);
        },
        grow: |w, _| {
            w.made(32, &[w.fd]);
        },
        step: |w, n| {
            if n == 0 {
                w.made(8, &[w.fds[0], 0, 0]);
            }
            assert!(w.made(217, &[w.fds[0], BULK, 200]) > 100);
        },
    },
];
