//! Mounts by descriptors on the in-memory host: configurations, detached trees, changes of whole trees. All
//! references must add up, and what takes long goes on in pieces.

mod guest;

use guest::steps::{MOST, call_in_pieces, finish, machine, measure_until_idle, until_idle};
use guest::{
    CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUSER, DATA, EXIT_GROUP, FORK, Guests, KILL, Rng, WAIT4,
    boot, call, fork, gone,
};
use varve_core::machine::ThreadId;

const READ: u64 = 0;
const WRITE: u64 = 1;
const OPEN: u64 = 2;
const CLOSE: u64 = 3;
const CHDIR: u64 = 80;
const FCHDIR: u64 = 81;
const PIVOT_ROOT: u64 = 155;
const MKDIR: u64 = 83;
const RMDIR: u64 = 84;
const CREAT: u64 = 85;
const MOUNT: u64 = 165;
const UMOUNT2: u64 = 166;
const MKDIRAT: u64 = 258;
const FACCESSAT: u64 = 269;
const UNSHARE: u64 = 272;
const DUP: u64 = 32;
const OPEN_TREE: u64 = 428;
const MOVE_MOUNT: u64 = 429;
const FSOPEN: u64 = 430;
const FSCONFIG: u64 = 431;
const FSMOUNT: u64 = 432;
const FSPICK: u64 = 433;
const MOUNT_SETATTR: u64 = 442;
const OPEN_TREE_ATTR: u64 = 467;

const AT_FDCWD: u64 = -100i64 as u64;
const AT_EMPTY_PATH: u64 = 0x1000;
const AT_RECURSIVE: u64 = 0x8000;
const OPEN_TREE_CLONE: u64 = 1;
const F_EMPTY_PATH: u64 = 4;
const SET_GROUP: u64 = 256;
const BENEATH: u64 = 512;
const SET_FLAG: u64 = 0;
const SET_STRING: u64 = 1;
const CMD_CREATE: u64 = 6;
const CMD_RECONFIGURE: u64 = 7;
const RDONLY: u64 = 1;
const NOEXEC: u64 = 8;
const ATIMES: u64 = 0x70;
const MS_NOSUID: u64 = 2;
const MS_NODEV: u64 = 4;
const MS_NOEXEC: u64 = 8;
const MS_REMOUNT: u64 = 32;
const MS_NOATIME: u64 = 1024;
const MS_STRICTATIME: u64 = 1 << 24;
const MS_BIND: u64 = 4096;
const MS_REC: u64 = 16384;
const MS_PRIVATE: u64 = 1 << 18;
const MS_SLAVE: u64 = 1 << 19;
const MS_SHARED: u64 = 1 << 20;
const CLONE_FILES: u64 = 0x400;
const CLONE: u64 = 56;
const MNT_DETACH: u64 = 2;
const EBADF: i64 = -9;
const ENOENT: i64 = -2;
const EBUSY: i64 = -16;
const EINVAL: i64 = -22;
const EROFS: i64 = -30;
const EPERM: i64 = -1;
const ENODATA: i64 = -61;

/// Puts strings into memory and gives their addresses.
fn texts<const N: usize>(m: &mut Guests, thread: ThreadId, texts: [&str; N]) -> [u64; N] {
    let mut at = DATA;
    texts.map(|text| {
        let here = at;
        m.poke(thread, here, &[text.as_bytes(), b"\0"].concat())
            .unwrap();
        at += text.len() as u64 + 1;
        here
    })
}

/// A call that may take several inputs, none of them long.
#[track_caller]
fn done(m: &mut Guests, t: ThreadId, number: u64, args: &[u64]) -> i64 {
    let done = call_in_pieces(m, t, number, args);
    assert!(done.most < MOST, "{number}: {}", done.most);
    m.kernel.check().unwrap();
    done.result
}

#[track_caller]
fn path(m: &mut Guests, t: ThreadId, number: u64, name: &str, arg: u64) -> i64 {
    let [name] = texts(m, t, [name]);
    done(m, t, number, &[name, arg, 0])
}

#[track_caller]
fn at(m: &mut Guests, t: ThreadId, number: u64, fd: i64, name: &str, arg: u64) -> i64 {
    let [name] = texts(m, t, [name]);
    done(m, t, number, &[fd as u64, name, arg, 0])
}

#[track_caller]
fn mount(m: &mut Guests, t: ThreadId, source: &str, target: &str, kind: &str, flags: u64) -> i64 {
    let [source, target, kind] = texts(m, t, [source, target, kind]);
    done(m, t, MOUNT, &[source, target, kind, flags, 0])
}

#[track_caller]
fn close(m: &mut Guests, t: ThreadId, fd: i64) {
    assert_eq!(done(m, t, CLOSE, &[fd as u64]), 0);
}

#[track_caller]
fn config(m: &mut Guests, t: ThreadId, fd: i64, cmd: u64, key: &str, value: &str) -> i64 {
    let [key_at, value_at] = texts(m, t, [key, value]);
    let key_at = if key.is_empty() { 0 } else { key_at };
    let value_at = if value.is_empty() { 0 } else { value_at };
    done(m, t, FSCONFIG, &[fd as u64, cmd, key_at, value_at, 0])
}

#[track_caller]
fn move_mount(m: &mut Guests, t: ThreadId, from: (i64, &str), to: (i64, &str), flags: u64) -> i64 {
    let [source, target] = texts(m, t, [from.1, to.1]);
    let args = [from.0 as u64, source, to.0 as u64, target, flags];
    done(m, t, MOVE_MOUNT, &args)
}

const CWD: i64 = -100;

/// Hangs a detached tree at a path.
#[track_caller]
fn hang(m: &mut Guests, t: ThreadId, fd: i64, at: &str) -> i64 {
    move_mount(m, t, (fd, ""), (CWD, at), F_EMPTY_PATH)
}

/// A detached tmpfs.
#[track_caller]
fn detached(m: &mut Guests, t: ThreadId) -> i64 {
    let fd = path(m, t, FSOPEN, "tmpfs", 0);
    assert!(fd >= 0, "{fd}");
    assert_eq!(config(m, t, fd, CMD_CREATE, "", ""), 0);
    let made = done(m, t, FSMOUNT, &[fd as u64, 0, 0]);
    assert!(made >= 0, "{made}");
    close(m, t, fd);
    made
}

#[track_caller]
fn set_attributes(m: &mut Guests, t: ThreadId, name: &str, flags: u64, attr: [u64; 3]) -> i64 {
    let bytes: Vec<u8> = [attr[0], attr[1], attr[2], 0]
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect();
    let [name_at] = texts(m, t, [name]);
    m.poke(t, DATA + 0x100, &bytes).unwrap();
    let args = [AT_FDCWD, name_at, flags, DATA + 0x100, 32];
    done(m, t, MOUNT_SETATTR, &args)
}

/// A process that may mount.
fn own(m: &mut Guests) -> ThreadId {
    let t = m.first();
    assert_eq!(call(m, t, UNSHARE, &[CLONE_NEWUSER | CLONE_NEWNS]), 0);
    map_own(m, t);
    t
}

/// Users of a namespace that file systems of that know.
fn map_own(m: &mut Guests, t: ThreadId) {
    for (name, text) in [
        ("/proc/self/uid_map", "0 0 1\n"),
        ("/proc/self/setgroups", "deny"),
        ("/proc/self/gid_map", "0 0 1\n"),
    ] {
        let fd = path(m, t, OPEN, name, 1);
        m.poke(t, DATA, text.as_bytes()).unwrap();
        let args = [fd as u64, DATA, text.len() as u64];
        assert_eq!(done(m, t, WRITE, &args), text.len() as i64);
        close(m, t, fd);
    }
}

/// What a configuration says, a message at a time.
fn said(m: &mut Guests, t: ThreadId, fd: i64) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        match done(m, t, READ, &[fd as u64, DATA, 512]) {
            ENODATA => return all,
            len => {
                assert!(len > 0, "{len}");
                let line = m.peek(t, DATA, len as usize).unwrap();
                all.push(String::from_utf8(line).unwrap());
            }
        }
    }
}

/// Bytes of a kind of object.
fn held(m: &Guests, what: &str) -> u64 {
    let all = m.kernel.held();
    all.iter().find(|(name, _)| *name == what).unwrap().1
}

#[test]
fn a_file_system_is_configured_made_and_mounted() {
    let mut m = boot();
    let t = own(&mut m);
    path(&mut m, t, MKDIR, "/a", 0o755);
    let fd = path(&mut m, t, FSOPEN, "tmpfs", 0);
    assert_eq!(config(&mut m, t, fd, SET_FLAG, "nosuch", ""), EINVAL);
    assert_eq!(config(&mut m, t, fd, SET_STRING, "size", "no"), EINVAL);
    assert_eq!(
        said(&mut m, t, fd),
        [
            "e tmpfs: Unknown parameter 'nosuch'\n",
            "e tmpfs: Bad value for 'size'\n",
        ]
    );
    assert_eq!(config(&mut m, t, fd, SET_FLAG, "ro", ""), 0);
    assert_eq!(done(&mut m, t, FSMOUNT, &[fd as u64, 0, 0]), EINVAL);
    assert_eq!(config(&mut m, t, fd, CMD_CREATE, "", ""), 0);
    assert_eq!(config(&mut m, t, fd, CMD_CREATE, "", ""), EBUSY);
    let made = done(&mut m, t, FSMOUNT, &[fd as u64, 0, NOEXEC]);
    assert_eq!(done(&mut m, t, FSMOUNT, &[fd as u64, 0, 0]), EBUSY);
    assert_eq!(at(&mut m, t, MKDIRAT, made, "d", 0o755), EROFS);
    assert_eq!(config(&mut m, t, fd, SET_FLAG, "rw", ""), 0);
    assert_eq!(config(&mut m, t, fd, CMD_RECONFIGURE, "", ""), 0);
    assert_eq!(at(&mut m, t, MKDIRAT, made, "d", 0o755), 0);
    assert_eq!(hang(&mut m, t, made, "/a"), 0);
    assert!(path(&mut m, t, OPEN, "/a/d", 0) >= 0);
    close(&mut m, t, made);
    close(&mut m, t, fd);
    assert_eq!(held(&m, "configurations of file systems"), 0);
    assert_eq!(path(&mut m, t, UMOUNT2, "/a", MNT_DETACH), 0);
    // One that was made and is not mounted goes with its configuration.
    let before = held(&m, "file systems");
    let fd = path(&mut m, t, FSOPEN, "tmpfs", 0);
    assert_eq!(config(&mut m, t, fd, CMD_CREATE, "", ""), 0);
    assert!(held(&m, "file systems") > before);
    close(&mut m, t, fd);
    until_idle(&mut m);
    assert_eq!(held(&m, "file systems"), before);
}

#[test]
fn what_is_detached_goes_with_its_last_descriptor() {
    let mut m = boot();
    let t = own(&mut m);
    let before = held(&m, "mounts");
    let fd = detached(&mut m, t);
    assert!(held(&m, "mounts") > before);
    let again = done(&mut m, t, DUP, &[fd as u64]);
    assert_eq!(at(&mut m, t, MKDIRAT, fd, "d", 0o755), 0);
    close(&mut m, t, fd);
    assert_eq!(at(&mut m, t, FACCESSAT, again, "d", 0), 0);
    assert_eq!(done(&mut m, t, FCHDIR, &[again as u64]), 0);
    close(&mut m, t, again);
    // Its directory is still there, but it cannot be mounted any more.
    path(&mut m, t, MKDIR, "/a", 0o755);
    assert_eq!(move_mount(&mut m, t, (CWD, "."), (CWD, "/a"), 0), EINVAL);
    assert!(path(&mut m, t, OPEN, "d", 0) >= 0);
    gone(&mut m, t, EXIT_GROUP, &[0]);
}

/// The user namespace of a detached tree stays as long as the tree, which others may still use.
#[test]
fn a_detached_tree_outlives_who_made_it() {
    let mut m = machine();
    let t = m.first();
    call(&mut m, t, CLONE, &[CLONE_FILES | 17, 0, 0, 0, 0]);
    let child = *m.threads.keys().next_back().unwrap();
    assert_eq!(
        call(&mut m, child, UNSHARE, &[CLONE_NEWUSER | CLONE_NEWNS]),
        0
    );
    map_own(&mut m, child);
    let fd = detached(&mut m, child);
    let other = path(&mut m, child, FSOPEN, "tmpfs", 0);
    gone(&mut m, child, EXIT_GROUP, &[0]);
    until_idle(&mut m);
    assert!(call(&mut m, t, WAIT4, &[u64::MAX, 0, 0, 0]) > 0);
    assert_eq!(at(&mut m, t, MKDIRAT, fd, "d", 0o755), 0);
    assert_eq!(config(&mut m, t, other, CMD_CREATE, "", ""), 0);
    path(&mut m, t, MKDIR, "/a", 0o755);
    assert_eq!(hang(&mut m, t, fd, "/a"), 0);
    assert!(path(&mut m, t, OPEN, "/a/d", 0) >= 0);
    let before = held(&m, "namespaces");
    close(&mut m, t, other);
    until_idle(&mut m);
    // The file system that is mounted belongs to it.
    assert_eq!(held(&m, "namespaces"), before);
    close(&mut m, t, fd);
    assert_eq!(path(&mut m, t, UMOUNT2, "/a", MNT_DETACH), 0);
    until_idle(&mut m);
}

/// A tmpfs at `/t` with a shared mount that is mounted on itself: twice as many mounts each time.
fn double(m: &mut Guests, t: ThreadId, times: u32) {
    path(m, t, MKDIR, "/t", 0o755);
    assert_eq!(mount(m, t, "none", "/t", "tmpfs", 0), 0);
    path(m, t, MKDIR, "/t/d", 0o755);
    path(m, t, MKDIR, "/t/o", 0o755);
    assert_eq!(mount(m, t, "/t/d", "/t/d", "", MS_BIND), 0);
    assert_eq!(mount(m, t, "", "/t/d", "", MS_SHARED), 0);
    for _ in 0..times {
        assert_eq!(mount(m, t, "/t/d", "/t/d", "", MS_BIND), 0);
    }
}

const TIMES: u32 = 11;

#[test]
fn many_mounts_are_changed_in_pieces_all_or_none() {
    let mut m = machine();
    let t = m.first();
    double(&mut m, t, TIMES);
    // The one that refuses comes last.
    assert_eq!(mount(&mut m, t, "none", "/t/o", "tmpfs", 0), 0);
    let open = path(&mut m, t, CREAT, "/t/o/f", 0o644);
    assert!(open >= 0);
    let other = fork(&mut m, t);
    let attr = [RDONLY, ATIMES, 0];
    assert_eq!(set_attributes(&mut m, t, "/t", AT_RECURSIVE, attr), EBUSY);
    assert_eq!(path(&mut m, t, RMDIR, "/t/d/none", 0), ENOENT);
    assert!(path(&mut m, other, CREAT, "/t/d/w", 0o644) >= 0);
    for fd in [open, 3] {
        let _ = done(&mut m, t, CLOSE, &[fd as u64]);
    }
    gone(&mut m, other, EXIT_GROUP, &[0]);
    until_idle(&mut m);
    let [name] = texts(&mut m, t, ["/t"]);
    let words: Vec<u8> = [RDONLY, 0, MS_PRIVATE, 0]
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect();
    m.poke(t, DATA + 0x100, &words).unwrap();
    let args = [AT_FDCWD, name, AT_RECURSIVE, DATA + 0x100, 32];
    let changed = call_in_pieces(&mut m, t, MOUNT_SETATTR, &args);
    assert_eq!(changed.result, 0);
    assert!(changed.inputs > 1 && changed.most < MOST);
    m.kernel.check().unwrap();
    assert_eq!(path(&mut m, t, MKDIR, "/t/d/x", 0o755), EROFS);
    assert_eq!(path(&mut m, t, MKDIR, "/t/o/x", 0o755), EROFS);
}

#[test]
fn large_trees_are_copied_moved_and_dissolved_in_pieces() {
    let mut m = machine();
    let t = m.first();
    double(&mut m, t, TIMES);
    let mounts = held(&m, "mounts");
    let [name] = texts(&mut m, t, ["/t"]);
    let args = [AT_FDCWD, name, OPEN_TREE_CLONE | AT_RECURSIVE];
    let copied = call_in_pieces(&mut m, t, OPEN_TREE, &args);
    assert!(copied.result >= 0 && copied.inputs > 1 && copied.most < MOST);
    m.kernel.check().unwrap();
    assert!(held(&m, "mounts") > 2 * mounts - mounts / 8);
    call(&mut m, t, CLOSE, &[copied.result as u64]);
    measure_until_idle(&mut m).in_pieces(2);
    m.kernel.check().unwrap();
    assert_eq!(held(&m, "mounts"), mounts);
    // One that is hung up meanwhile stays.
    let fd = call_in_pieces(&mut m, t, OPEN_TREE, &args).result;
    path(&mut m, t, MKDIR, "/s", 0o755);
    let [empty, to] = texts(&mut m, t, ["", "/s"]);
    let moving = [fd as u64, empty, AT_FDCWD, to, F_EMPTY_PATH];
    let other = fork(&mut m, t);
    m.call(t, MOVE_MOUNT, &moving);
    assert_eq!(m.result(t), None, "it gives way");
    m.kernel.check().unwrap();
    call(&mut m, other, CLOSE, &[fd as u64]);
    let moved = finish(&mut m, t);
    assert!(moved.result == 0 && moved.most < MOST);
    m.kernel.check().unwrap();
    call(&mut m, t, CLOSE, &[fd as u64]);
    until_idle(&mut m);
    assert!(path(&mut m, t, OPEN, "/s/d", 0) >= 0);
    assert!(held(&m, "mounts") > 2 * mounts - mounts / 8);
    // Who is killed while it waits leaves nothing behind.
    let before = held(&m, "mounts");
    let [name] = texts(&mut m, other, ["/t"]);
    m.call(
        other,
        OPEN_TREE,
        &[AT_FDCWD, name, OPEN_TREE_CLONE | AT_RECURSIVE],
    );
    assert_eq!(m.result(other), None, "it gives way");
    let pid = 2;
    assert_eq!(call(&mut m, t, KILL, &[pid, 9]), 0);
    until_idle(&mut m);
    m.kernel.check().unwrap();
    assert_eq!(held(&m, "mounts"), before);
}

#[test]
fn a_copy_is_made_with_other_attributes_or_not_at_all() {
    let mut m = boot();
    let t = own(&mut m);
    path(&mut m, t, MKDIR, "/a", 0o755);
    assert_eq!(mount(&mut m, t, "none", "/a", "tmpfs", 0), 0);
    let before = held(&m, "mounts");
    let tree_attr = |m: &mut Guests, set: u64, clear: u64| {
        let words = [set, clear, 0, 0];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let [name] = texts(m, t, ["/a"]);
        m.poke(t, DATA + 0x100, &bytes).unwrap();
        let args = [AT_FDCWD, name, OPEN_TREE_CLONE, DATA + 0x100, 32];
        done(m, t, OPEN_TREE_ATTR, &args)
    };
    let fd = tree_attr(&mut m, RDONLY, 0);
    assert_eq!(at(&mut m, t, MKDIRAT, fd, "d", 0o755), EROFS);
    assert_eq!(path(&mut m, t, MKDIR, "/a/d", 0o755), 0);
    close(&mut m, t, fd);
    // MOUNT_ATTR_IDMAP: no file system here allows it.
    assert_eq!(tree_attr(&mut m, 0, 1 << 20), EINVAL);
    until_idle(&mut m);
    assert_eq!(held(&m, "mounts"), before);
    // What is locked stays.
    assert_eq!(set_attributes(&mut m, t, "/a", 0, [RDONLY, 0, 0]), 0);
    assert_eq!(call(&mut m, t, UNSHARE, &[CLONE_NEWUSER | CLONE_NEWNS]), 0);
    assert_eq!(tree_attr(&mut m, 0, RDONLY), EPERM);
    assert_eq!(at(&mut m, t, FACCESSAT, fd, "", 0), ENOENT);
    let [empty] = texts(&mut m, t, [""]);
    let args = [fd as u64, empty, AT_EMPTY_PATH];
    assert_eq!(done(&mut m, t, OPEN_TREE, &args), EBADF);
}

/// A copy that propagates goes below what is mounted there, with all that lies on its own root.
#[test]
fn what_is_there_comes_to_lie_on_a_stack_that_propagates() {
    const O_PATH: u64 = 0o10000000;
    let mut m = boot();
    let t = own(&mut m);
    for dir in ["/p", "/q", "/s"] {
        path(&mut m, t, MKDIR, dir, 0o755);
    }
    assert_eq!(mount(&mut m, t, "none", "/p", "tmpfs", 0), 0);
    path(&mut m, t, MKDIR, "/p/x", 0o755);
    assert_eq!(mount(&mut m, t, "", "/p", "", MS_SHARED), 0);
    assert_eq!(mount(&mut m, t, "/p", "/q", "", MS_BIND), 0);
    assert_eq!(mount(&mut m, t, "", "/q", "", MS_SLAVE), 0);
    assert_eq!(mount(&mut m, t, "none", "/q/x", "tmpfs", 0), 0);
    path(&mut m, t, MKDIR, "/q/x/there", 0o755);
    assert_eq!(mount(&mut m, t, "none", "/s", "tmpfs", 0), 0);
    path(&mut m, t, MKDIR, "/s/lower", 0o755);
    let lower = path(&mut m, t, OPEN, "/s", O_PATH);
    assert_eq!(mount(&mut m, t, "none", "/s", "tmpfs", 0), 0);
    path(&mut m, t, MKDIR, "/s/upper", 0o755);
    let flags = OPEN_TREE_CLONE | AT_RECURSIVE | AT_EMPTY_PATH;
    let stack = at(&mut m, t, OPEN_TREE, lower, "", flags);
    assert_eq!(hang(&mut m, t, stack, "/p/x"), 0);
    for name in ["/q/x/there", "/q/x/upper", "/q/x/lower"] {
        assert!(path(&mut m, t, OPEN, name, O_PATH) >= 0, "{name}");
        assert_eq!(path(&mut m, t, UMOUNT2, "/q/x", MNT_DETACH), 0);
    }
    assert_eq!(path(&mut m, t, UMOUNT2, "/q/x", MNT_DETACH), EINVAL);
}

/// Random operations of several processes in several namespaces.
#[test]
fn references_add_up_whatever_is_done() {
    const DIRS: [&str; 6] = ["/a", "/a/x", "/b", "/b/x", "/c", "."];
    for seed in 0..40 {
        let mut rng = Rng(seed);
        let mut m = boot();
        let t = own(&mut m);
        for dir in &DIRS[..5] {
            path(&mut m, t, MKDIR, dir, 0o755);
        }
        for _ in 0..120 {
            let count = m.threads.len();
            let t = *m.threads.keys().nth(rng.below(count)).unwrap();
            let (one, other) = (DIRS[rng.below(DIRS.len())], DIRS[rng.below(DIRS.len())]);
            let fd = 3 + rng.below(8) as i64;
            let recurse = [0, AT_RECURSIVE][rng.below(2)];
            match rng.below(18) {
                0 => {
                    path(&mut m, t, FSOPEN, ["tmpfs", "proc"][rng.below(2)], 0);
                }
                1 => {
                    at(&mut m, t, FSPICK, CWD, one, 0);
                }
                2 => {
                    config(&mut m, t, fd, CMD_CREATE, "", "");
                    done(&mut m, t, FSMOUNT, &[fd as u64, 0, 0]);
                }
                3 => {
                    config(
                        &mut m,
                        t,
                        fd,
                        SET_STRING,
                        ["size", "source"][rng.below(2)],
                        "1m",
                    );
                    config(&mut m, t, fd, SET_FLAG, ["ro", "rw", "x"][rng.below(3)], "");
                    config(&mut m, t, fd, CMD_RECONFIGURE, "", "");
                }
                4 => {
                    let new = detached(&mut m, t);
                    at(&mut m, t, MKDIRAT, new, "x", 0o755);
                }
                5 | 6 => {
                    at(&mut m, t, OPEN_TREE, CWD, one, OPEN_TREE_CLONE | recurse);
                }
                7 => {
                    at(
                        &mut m,
                        t,
                        OPEN_TREE,
                        fd,
                        "",
                        OPEN_TREE_CLONE | recurse | AT_EMPTY_PATH,
                    );
                }
                8 | 9 => {
                    let beneath = [0, 0, BENEATH][rng.below(3)];
                    let flags = F_EMPTY_PATH | beneath;
                    move_mount(&mut m, t, (fd, ""), (CWD, one), flags);
                }
                10 => {
                    let into = 3 + rng.below(8) as i64;
                    move_mount(&mut m, t, (fd, ""), (into, "x"), F_EMPTY_PATH);
                }
                11 => {
                    let flags = [0, BENEATH, SET_GROUP][rng.below(3)];
                    move_mount(&mut m, t, (CWD, one), (CWD, other), flags);
                }
                12 => {
                    let to = [0, MS_SHARED, MS_PRIVATE, 1 << 19, 1 << 17][rng.below(5)];
                    let attr = [[RDONLY, 0, to], [0, RDONLY, to]][rng.below(2)];
                    set_attributes(&mut m, t, one, recurse, attr);
                }
                13 => {
                    let flags = [0, MNT_DETACH][rng.below(2)];
                    path(&mut m, t, UMOUNT2, one, flags);
                }
                14 if count < 4 => {
                    call(&mut m, t, FORK, &[]);
                }
                15 => {
                    let flags = CLONE_NEWNS | [0, CLONE_NEWUSER, CLONE_NEWPID][rng.below(3)];
                    done(&mut m, t, UNSHARE, &[flags]);
                }
                16 if count > 1 && t != m.first() => {
                    m.call(t, EXIT_GROUP, &[0]);
                    until_idle(&mut m);
                    m.kernel.check().unwrap();
                }
                17 => {
                    done(&mut m, t, FCHDIR, &[fd as u64]);
                    mount(&mut m, t, one, other, "", MS_BIND | MS_REC);
                }
                _ => {
                    done(&mut m, t, CLOSE, &[fd as u64]);
                }
            }
        }
    }
}

/// What lies on a place is passed over in pieces, too, where no path goes on from it.
#[test]
fn what_lies_on_the_working_directory_is_found_in_pieces() {
    let mut m = machine();
    let t = m.first();
    path(&mut m, t, MKDIR, "/s", 0o755);
    assert_eq!(path(&mut m, t, CHDIR, "/s", 0), 0);
    let first = detached(&mut m, t);
    assert_eq!(hang(&mut m, t, first, "/s"), 0);
    let whole = OPEN_TREE_CLONE | AT_RECURSIVE | AT_EMPTY_PATH;
    for _ in 0..15 {
        let copy = at(&mut m, t, OPEN_TREE, first, "", whole);
        assert!(copy >= 0, "{copy}");
        assert_eq!(hang(&mut m, t, copy, "/s"), 0);
        close(&mut m, t, copy);
    }
    close(&mut m, t, first);
    until_idle(&mut m);
    let [here] = texts(&mut m, t, ["."]);
    let changed = call_in_pieces(&mut m, t, UMOUNT2, &[here, 0]);
    assert_eq!(changed.result, 0);
    assert!(changed.inputs > 1 && changed.most < MOST);
    until_idle(&mut m);
    let [here, slash] = texts(&mut m, t, [".", "/"]);
    let refused = call_in_pieces(&mut m, t, PIVOT_ROOT, &[slash, here]);
    assert_eq!(refused.result, EBUSY);
    assert!(refused.inputs > 1 && refused.most < MOST);
    m.kernel.check().unwrap();
}

/// A process table shows what the one that can be seen already shows, and keeps what that must keep.
#[test]
fn what_must_stay_stays_in_what_is_mounted_anew() {
    let mut m = machine();
    let t = own(&mut m);
    path(&mut m, t, MKDIR, "/a", 0o755);
    let remount = MS_REMOUNT | MS_BIND;
    // It forbids more, which must stay, too.
    let strict = MS_NOSUID | MS_NODEV | MS_NOEXEC;
    let done = mount(&mut m, t, "none", "/proc", "", remount | strict | RDONLY);
    assert_eq!(done, 0);
    let kinds = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID;
    assert_eq!(call(&mut m, t, UNSHARE, &[kinds]), 0);
    let t = fork(&mut m, t);
    for flags in [0, RDONLY | MS_NOATIME, RDONLY | MS_STRICTATIME] {
        assert_eq!(mount(&mut m, t, "p", "/a", "proc", flags), EPERM);
    }
    assert_eq!(mount(&mut m, t, "p", "/a", "proc", RDONLY), 0);
    for flags in [0, RDONLY | MS_NOATIME] {
        let done = mount(&mut m, t, "none", "/a", "", remount | flags);
        assert_eq!(done, EPERM);
    }
    assert_eq!(set_attributes(&mut m, t, "/a", 0, [0, RDONLY, 0]), EPERM);
    assert_eq!(path(&mut m, t, UMOUNT2, "/a", 0), 0);

    let fd = path(&mut m, t, FSOPEN, "proc", 0);
    assert_eq!(config(&mut m, t, fd, CMD_CREATE, "", ""), 0);
    assert_eq!(call(&mut m, t, FSMOUNT, &[fd as u64, 0, 0]), EPERM);
    let tree = call(&mut m, t, FSMOUNT, &[fd as u64, 0, RDONLY]);
    assert!(tree >= 0, "{tree}");
    assert_eq!(hang(&mut m, t, tree, "/a"), 0);
    assert_eq!(set_attributes(&mut m, t, "/a", 0, [0, RDONLY, 0]), EPERM);
    assert_eq!(set_attributes(&mut m, t, "/a", 0, [0, ATIMES, 0]), 0);
    measure_until_idle(&mut m);
    m.kernel.check().unwrap();
}

/// Masters are followed in pieces, however many there are.
#[test]
fn long_chains_of_masters_are_followed_in_pieces() {
    const MS_MOVE: u64 = 8192;
    const LINKS: u32 = 8000;
    let mut m = machine();
    let t = m.first();
    for name in ["/a", "/z"] {
        path(&mut m, t, MKDIR, name, 0o755);
        assert_eq!(mount(&mut m, t, "none", name, "tmpfs", 0), 0);
    }
    path(&mut m, t, MKDIR, "/a/d", 0o755);
    assert_eq!(mount(&mut m, t, "", "/a", "", MS_SHARED), 0);
    // All is checked at the end, which takes long.
    let quickly = |m: &mut Guests, number: u64, names: [&str; 2], flags: u64| {
        let [first, second] = texts(m, t, names);
        let args = match number {
            MKDIR => [first, 0o755, 0, 0, 0],
            _ => [first, second, second, flags, 0],
        };
        assert_eq!(m.call(t, number, &args), Some(0));
    };
    let mut last = String::from("/a/d");
    for number in 0..LINKS {
        let next = format!("/z/{number}");
        quickly(&mut m, MKDIR, [&next, ""], 0);
        for flags in [MS_BIND, MS_SLAVE, MS_SHARED] {
            quickly(&mut m, MOUNT, [&last, &next], flags);
        }
        last = next;
    }
    // A group that none of them is a slave of.
    for kind in [MS_PRIVATE, MS_SHARED] {
        assert_eq!(mount(&mut m, t, "", "/a", "", kind), 0);
    }
    assert_eq!(mount(&mut m, t, &last, "/a/d", "", MS_MOVE), 0);
    let tree = detached(&mut m, t);
    let [from, to] = texts(&mut m, t, ["", "/a/d"]);
    let args = [tree as u64, from, AT_FDCWD, to, F_EMPTY_PATH | BENEATH];
    let moved = call_in_pieces(&mut m, t, MOVE_MOUNT, &args);
    assert_eq!(moved.result, 0);
    assert!(moved.inputs > 1 && moved.most < MOST);
    let [name] = texts(&mut m, t, ["/a/d"]);
    let taken = call_in_pieces(&mut m, t, UMOUNT2, &[name, 0]);
    assert_eq!(taken.result, 0);
    assert!(taken.most < MOST);
    until_idle(&mut m);
    m.kernel.check().unwrap();
}
