//! Namespaces and mounts on the in-memory host: whatever programs do, all references must add up.

mod guest;

use guest::steps::call_in_pieces;
use guest::{
    CLONE, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUSER, CLONE_NEWUTS, DATA, EXIT, EXIT_GROUP, FORK,
    GETPGID, GETPID, GETPPID, GETUID, Guests, KILL, Rng, SETGID, SETPGID, SETUID, WAIT4, boot,
    call, fork, gone,
};
use varve_core::machine::ThreadId;
use varve_core::memhost::{Machine, MemHost, bare, empty_root};

const READ: u64 = 0;
const WRITE: u64 = 1;
const OPEN: u64 = 2;
const CLOSE: u64 = 3;
const CHDIR: u64 = 80;
const RENAME: u64 = 82;
const MKDIR: u64 = 83;
const RMDIR: u64 = 84;
const CHMOD: u64 = 90;
const PIVOT_ROOT: u64 = 155;
const PRCTL: u64 = 157;
const CHROOT: u64 = 161;
const MOUNT: u64 = 165;
const UMOUNT2: u64 = 166;
const UNSHARE: u64 = 272;
const SETNS: u64 = 308;
const SET_DUMPABLE: u64 = 4;
const GET_DUMPABLE: u64 = 3;
const MS_RDONLY: u64 = 1;
const MS_REMOUNT: u64 = 32;
const MS_BIND: u64 = 4096;
const MS_MOVE: u64 = 8192;
const MS_REC: u64 = 16384;
const MS_UNBINDABLE: u64 = 1 << 17;
const MS_PRIVATE: u64 = 1 << 18;
const MS_SLAVE: u64 = 1 << 19;
const MS_SHARED: u64 = 1 << 20;
const CLONE_FILES: u64 = 0x400;
const MNT_DETACH: u64 = 2;
const EPERM: i64 = -1;
const ENOENT: i64 = -2;
const EBUSY: i64 = -16;
const EINVAL: i64 = -22;
const EROFS: i64 = -30;
const ENOTEMPTY: i64 = -39;
const ELOOP: i64 = -40;

/// Puts strings into memory and gives their addresses.
fn texts<const N: usize>(m: &mut Guests, thread: ThreadId, texts: [&str; N]) -> [u64; N] {
    let mut at = DATA;
    texts.map(|text| {
        let here = at;
        m.poke(thread, here, text.as_bytes()).unwrap();
        m.poke(thread, here + text.len() as u64, &[0]).unwrap();
        at += text.len() as u64 + 1;
        here
    })
}

fn mount(m: &mut Guests, t: ThreadId, source: &str, target: &str, kind: &str, flags: u64) -> i64 {
    let [source, target, kind] = texts(m, t, [source, target, kind]);
    let done = call_in_pieces(m, t, MOUNT, &[source, target, kind, flags, 0]);
    m.kernel.check().unwrap();
    done.result
}

fn path(m: &mut Guests, t: ThreadId, number: u64, name: &str, arg: u64) -> i64 {
    let [name] = texts(m, t, [name]);
    let done = call_in_pieces(m, t, number, &[name, arg, 0]);
    m.kernel.check().unwrap();
    done.result
}

fn write(m: &mut Guests, t: ThreadId, name: &str, text: &str) -> i64 {
    let fd = path(m, t, OPEN, name, 1);
    assert!(fd >= 0, "{name}: {fd}");
    m.poke(t, DATA, text.as_bytes()).unwrap();
    let done = call(m, t, WRITE, &[fd as u64, DATA, text.len() as u64]);
    call(m, t, CLOSE, &[fd as u64]);
    done
}

/// Gives user and group of a process that made a user namespace numbers in it, so that file systems of that
/// know who makes files.
fn map_own(m: &mut Guests, t: ThreadId, number: u64) {
    let map = format!("{number} 0 1\n");
    assert_eq!(write(m, t, "/proc/self/uid_map", &map), map.len() as i64);
    assert_eq!(write(m, t, "/proc/self/setgroups", "deny"), 4);
    assert_eq!(write(m, t, "/proc/self/gid_map", &map), map.len() as i64);
}

#[test]
fn a_user_namespace_gives_mounts_of_ones_own() {
    let mut m = boot();
    let t = m.first();
    assert_eq!(path(&mut m, t, MKDIR, "/a", 0o755), 0);
    assert_eq!(mount(&mut m, t, "none", "/a", "tmpfs", 0), EPERM);
    assert_eq!(call(&mut m, t, UNSHARE, &[CLONE_NEWUSER | CLONE_NEWNS]), 0);
    assert_eq!(call(&mut m, t, GETUID, &[]), 65534);
    map_own(&mut m, t, 7);
    assert_eq!(call(&mut m, t, GETUID, &[]), 7);
    assert_eq!(mount(&mut m, t, "none", "/a", "tmpfs", 0), 0);
    assert_eq!(path(&mut m, t, MKDIR, "/a/b", 0o755), 0);
    let fd = path(&mut m, t, OPEN, "/a/b", 0);
    assert_eq!(path(&mut m, t, UMOUNT2, "/a", 0), EBUSY);
    assert_eq!(path(&mut m, t, UMOUNT2, "/a", MNT_DETACH), 0);
    assert_eq!(call(&mut m, t, CLOSE, &[fd as u64]), 0);
    // What came from a more privileged namespace stays as it is.
    assert_eq!(path(&mut m, t, UMOUNT2, "/proc", 0), EINVAL);
    assert_eq!(
        mount(&mut m, t, "", "/sys", "", MS_REMOUNT | MS_BIND),
        EPERM
    );
    assert_eq!(
        mount(
            &mut m,
            t,
            "",
            "/dev",
            "",
            MS_REMOUNT | MS_BIND | MS_RDONLY | 2
        ),
        0
    );
    assert_eq!(path(&mut m, t, MKDIR, "/dev/x", 0o755), EROFS);
}

#[test]
fn namespaces_end_with_their_last_task() {
    let mut m = boot();
    let t = m.first();
    assert_eq!(path(&mut m, t, MKDIR, "/a", 0o755), 0);
    let flags = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWUTS;
    assert_eq!(call(&mut m, t, CLONE, &[flags | 17, 0, 0, 0, 0]), 2);
    let child = *m.threads.keys().next_back().unwrap();
    assert_eq!(mount(&mut m, child, "none", "/a", "tmpfs", 0), 0);
    assert_eq!(path(&mut m, child, CHDIR, "/a", 0), 0);
    // The first namespace has nothing mounted there; the directory is busy only in the other.
    assert_eq!(path(&mut m, child, RMDIR, "/a", 0), EBUSY);
    assert_eq!(path(&mut m, t, RENAME, "/a", 0), -14);
    let fd = path(&mut m, t, OPEN, "/proc/2/ns/mnt", 0);
    assert!(fd >= 0);
    gone(&mut m, child, EXIT_GROUP, &[0]);
    assert_eq!(call(&mut m, t, WAIT4, &[2, 0, 0, 0]), 2);
    assert_eq!(call(&mut m, t, SETNS, &[fd as u64, 0]), EPERM);
    assert_eq!(call(&mut m, t, CLOSE, &[fd as u64]), 0);
    assert_eq!(path(&mut m, t, RMDIR, "/a", 0), 0);
}

#[test]
fn the_first_process_of_a_pid_namespace_takes_everybody_along() {
    let mut m = boot();
    let t = m.first();
    assert_eq!(call(&mut m, t, UNSHARE, &[CLONE_NEWUSER | CLONE_NEWPID]), 0);
    assert_eq!(call(&mut m, t, FORK, &[]), 2);
    let init = *m.threads.keys().next_back().unwrap();
    assert_eq!(call(&mut m, init, GETPID, &[]), 1);
    assert_eq!(call(&mut m, init, GETPPID, &[]), 0);
    assert_eq!(call(&mut m, init, FORK, &[]), 2);
    let child = *m.threads.keys().next_back().unwrap();
    assert_eq!(call(&mut m, child, GETPID, &[]), 2);
    assert_eq!(call(&mut m, child, FORK, &[]), 3);
    let grandchild = *m.threads.keys().next_back().unwrap();
    // An orphan's parent is the first process of its namespace.
    gone(&mut m, child, EXIT_GROUP, &[0]);
    assert_eq!(call(&mut m, grandchild, GETPPID, &[]), 1);
    assert_eq!(call(&mut m, init, WAIT4, &[2, 0, 0, 0]), 2);
    // Nobody outside can be seen; signals of those inside do not end the first process.
    assert_eq!(call(&mut m, grandchild, KILL, &[4, 0]), -3);
    assert_eq!(call(&mut m, grandchild, KILL, &[1, 9]), 0);
    assert_eq!(call(&mut m, grandchild, KILL, &[u64::MAX, 0]), -3);
    assert_eq!(call(&mut m, t, KILL, &[4, 0]), 0);
    assert_eq!(call(&mut m, init, GETPID, &[]), 1);
    assert_eq!(call(&mut m, t, KILL, &[2, 9]), 0);
    assert!(!m.threads.contains_key(&init) && !m.threads.contains_key(&grandchild));
    assert_eq!(call(&mut m, t, WAIT4, &[u64::MAX, 0, 0, 0]), 2);
    assert_eq!(call(&mut m, t, WAIT4, &[u64::MAX, 0, 0, 0]), -10);
    // Nothing can be made there any more.
    assert_eq!(call(&mut m, t, FORK, &[]), -12);
}

/// A child in namespaces of its own.
fn apart(m: &mut Guests, parent: ThreadId, flags: u64) -> ThreadId {
    let child = fork(m, parent);
    assert_eq!(call(m, child, UNSHARE, &[flags]), 0);
    child
}

#[test]
fn a_directory_that_goes_takes_mounts_of_other_namespaces_off() {
    let mut m = boot();
    let t = m.first();
    for dir in ["/a", "/a/d", "/b", "/full", "/full/x"] {
        assert_eq!(path(&mut m, t, MKDIR, dir, 0o755), 0);
    }
    let child = apart(&mut m, t, CLONE_NEWUSER | CLONE_NEWNS);
    // The second one hangs in the tree of the first, on the same directory.
    assert_eq!(mount(&mut m, child, "/a", "/a/d", "", MS_BIND), 0);
    assert_eq!(mount(&mut m, child, "/a", "/a/d/d", "", MS_BIND), 0);
    assert_eq!(mount(&mut m, child, "none", "/full", "tmpfs", 0), 0);
    assert_eq!(mount(&mut m, child, "none", "/b", "tmpfs", 0), 0);
    assert_eq!(path(&mut m, t, RMDIR, "/a/d", 0), 0);
    assert_eq!(path(&mut m, child, OPEN, "/a/d", 0), ENOENT);
    // What cannot be removed keeps its mounts.
    assert_eq!(path(&mut m, t, RMDIR, "/full", 0), ENOTEMPTY);
    assert_eq!(path(&mut m, child, OPEN, "/full/x", 0), ENOENT);
    // So does what gets another name.
    let [old, new] = texts(&mut m, t, ["/b", "/a/new"]);
    assert_eq!(call(&mut m, t, RENAME, &[old, new]), 0);
    assert_eq!(path(&mut m, child, UMOUNT2, "/a/new", 0), 0);
}

#[test]
fn a_mount_is_not_moved_onto_itself() {
    let mut m = boot();
    let t = m.first();
    assert_eq!(call(&mut m, t, UNSHARE, &[CLONE_NEWUSER | CLONE_NEWNS]), 0);
    assert_eq!(path(&mut m, t, MKDIR, "/a", 0o755), 0);
    assert_eq!(path(&mut m, t, CHDIR, "/a", 0), 0);
    assert_eq!(mount(&mut m, t, "none", "/a", "tmpfs", 0), 0);
    assert_eq!(mount(&mut m, t, "/a", ".", "", MS_MOVE), ELOOP);
    assert_eq!(path(&mut m, t, UMOUNT2, "/a", 0), 0);
}

/// The lines of `mountinfo`.
fn mounted(m: &mut Guests, t: ThreadId) -> Vec<String> {
    let text = read(m, t, "/proc/self/mountinfo");
    text.lines().map(String::from).collect()
}

fn read(m: &mut Guests, t: ThreadId, name: &str) -> String {
    const ROOM: u64 = 0xc00;
    let fd = path(m, t, OPEN, name, 0) as u64;
    let mut text = Vec::new();
    loop {
        let count = call(m, t, READ, &[fd, DATA, ROOM]);
        assert!(count >= 0, "{name}: {count}");
        if count == 0 {
            call(m, t, CLOSE, &[fd]);
            return String::from_utf8(text).unwrap();
        }
        text.extend(m.peek(t, DATA, count as usize).unwrap());
    }
}

/// The places of mounts as `mountinfo` shows them.
fn places(m: &mut Guests, t: ThreadId) -> Vec<String> {
    let lines = mounted(m, t);
    let place = |line: &String| line.split(' ').nth(4).unwrap().to_owned();
    lines.iter().map(place).collect()
}

#[test]
fn mounts_propagate_along_a_long_chain_of_slaves() {
    const LENGTH: usize = 2500;
    let run = || {
        let mut m = boot();
        let t = m.first();
        assert_eq!(call(&mut m, t, UNSHARE, &[CLONE_NEWUSER | CLONE_NEWNS]), 0);
        // Without a check of the whole kernel after each.
        let mount = |m: &mut Guests, source: &str, target: &str, flags: u64| {
            let [source, target] = texts(m, t, [source, target]);
            let done = call_in_pieces(m, t, MOUNT, &[source, target, 0, flags, 0]);
            assert_eq!(done.result, 0, "{target} {flags:#x}");
        };
        path(&mut m, t, MKDIR, "/0", 0o755);
        path(&mut m, t, MKDIR, "/0/d", 0o755);
        mount(&mut m, "/0", "/0", MS_BIND);
        mount(&mut m, "", "/0", MS_SHARED);
        for count in 1..LENGTH {
            let (from, to) = (format!("/{}", count - 1), format!("/{count}"));
            let [name] = texts(&mut m, t, [&to]);
            assert_eq!(m.call(t, MKDIR, &[name, 0o755]), Some(0));
            mount(&mut m, &from, &to, MS_BIND);
            mount(&mut m, "", &to, MS_SLAVE);
            mount(&mut m, "", &to, MS_SHARED);
        }
        let [target, kind] = texts(&mut m, t, ["/0/d", "tmpfs"]);
        let done = call_in_pieces(&mut m, t, MOUNT, &[kind, target, kind, 0, 0]);
        assert_eq!(done.result, 0);
        let last = format!("/{}/d", LENGTH - 1);
        assert_eq!(path(&mut m, t, UMOUNT2, &last, 0), 0);
        assert_eq!(path(&mut m, t, UMOUNT2, "/0/d", 0), 0);
        assert_eq!(path(&mut m, t, UMOUNT2, "/1/d", 0), EINVAL);
    };
    let thread = std::thread::Builder::new().stack_size(256 << 10);
    thread.spawn(run).unwrap().join().unwrap();
}

#[test]
fn a_tree_that_is_mounted_does_not_propagate_into_itself() {
    let mut m = boot();
    let t = m.first();
    assert_eq!(call(&mut m, t, UNSHARE, &[CLONE_NEWUSER | CLONE_NEWNS]), 0);
    map_own(&mut m, t, 0);
    for dir in ["/a", "/b", "/t"] {
        assert_eq!(path(&mut m, t, MKDIR, dir, 0o755), 0);
    }
    assert_eq!(mount(&mut m, t, "none", "/t", "tmpfs", 0), 0);
    for dir in ["/t/a", "/t/b"] {
        assert_eq!(path(&mut m, t, MKDIR, dir, 0o755), 0);
    }
    assert_eq!(mount(&mut m, t, "none", "/t/a", "tmpfs", 0), 0);
    assert_eq!(mount(&mut m, t, "", "/t", "", MS_SHARED | MS_REC), 0);
    assert_eq!(mount(&mut m, t, "/t", "/t/b", "", MS_BIND | MS_REC), 0);
    let mut seen = places(&mut m, t);
    seen.retain(|place| place.starts_with("/t"));
    assert_eq!(seen, ["/t", "/t/a", "/t/b", "/t/b/a"]);
    // A tree that is moved gets what its mounts are peers for, as it was before.
    assert_eq!(mount(&mut m, t, "none", "/a", "tmpfs", 0), 0);
    assert_eq!(mount(&mut m, t, "", "/a", "", MS_SHARED), 0);
    assert_eq!(mount(&mut m, t, "none", "/b", "tmpfs", 0), 0);
    for dir in ["/a/y", "/b/x"] {
        assert_eq!(path(&mut m, t, MKDIR, dir, 0o755), 0);
    }
    assert_eq!(mount(&mut m, t, "/a", "/b/x", "", MS_BIND), 0);
    assert_eq!(mount(&mut m, t, "/b", "/a/y", "", MS_MOVE), 0);
    let mut seen = places(&mut m, t);
    seen.retain(|place| place.starts_with("/a"));
    assert_eq!(seen, ["/a", "/a/y", "/a/y/x", "/a/y/x/y", "/a/y/x/y/x"]);
}

#[test]
fn what_cannot_be_mounted_everywhere_is_mounted_nowhere() {
    const ENOSPC: i64 = -28;
    // Mounts take memory: 512 bytes each.
    let host = MemHost::new(1 << 16, Vec::new());
    let mut m = Machine::boot(bare(empty_root()), host).expect("the bare task boots");
    let t = m.first();
    assert_eq!(call(&mut m, t, UNSHARE, &[CLONE_NEWUSER | CLONE_NEWNS]), 0);
    map_own(&mut m, t, 0);
    for dir in ["/a", "/p", "/p/x", "/q"] {
        assert_eq!(path(&mut m, t, MKDIR, dir, 0o755), 0);
    }
    assert_eq!(mount(&mut m, t, "/p", "/p", "", MS_BIND), 0);
    assert_eq!(mount(&mut m, t, "", "/p", "", MS_SHARED), 0);
    assert_eq!(mount(&mut m, t, "/p", "/q", "", MS_BIND), 0);
    assert_eq!(mount(&mut m, t, "none", "/a", "tmpfs", 0), 0);
    // Twice as many each time: 65536 at last, so that there is no room for as many again, let alone for two
    // times as many.
    for name in 0..16 {
        let place = format!("/a/{name}");
        let [source, target] = texts(&mut m, t, ["/a", &place]);
        assert_eq!(m.call(t, MKDIR, &[target, 0o755]), Some(0));
        let done = call_in_pieces(&mut m, t, MOUNT, &[source, target, 0, MS_BIND | MS_REC, 0]);
        assert_eq!(done.result, 0);
    }
    assert_eq!(mount(&mut m, t, "/a", "/p/x", "", MS_BIND | MS_REC), ENOSPC);
    assert_eq!(
        mount(&mut m, t, "/a/15", "/p/x", "", MS_BIND | MS_REC),
        ENOSPC
    );
    assert_eq!(path(&mut m, t, UMOUNT2, "/p/x", 0), EINVAL);
    assert_eq!(path(&mut m, t, UMOUNT2, "/q/x", 0), EINVAL);
    assert_eq!(mount(&mut m, t, "/a/14", "/p/x", "", MS_BIND | MS_REC), 0);
    assert_eq!(path(&mut m, t, UMOUNT2, "/q/x", MNT_DETACH), 0);
}

/// A child with all capabilities in a user namespace that has users 0 to 1999.
fn all_powerful(m: &mut Guests, parent: ThreadId) -> ThreadId {
    let child = apart(m, parent, CLONE_NEWUSER);
    let pid = m.result(parent).unwrap();
    for name in ["uid_map", "gid_map"] {
        let name = format!("/proc/{pid}/{name}");
        assert_eq!(write(m, parent, &name, "0 0 2000"), 8);
    }
    child
}

/// A child that is an ordinary user and user 0 of a user namespace of its own.
fn own_root(m: &mut Guests, parent: ThreadId, uid: u64) -> ThreadId {
    let child = fork(m, parent);
    assert_eq!(call(m, child, SETGID, &[uid]), 0);
    assert_eq!(call(m, child, SETUID, &[uid]), 0);
    assert_eq!(call(m, child, PRCTL, &[SET_DUMPABLE, 1, 0, 0, 0]), 0);
    assert_eq!(call(m, child, UNSHARE, &[CLONE_NEWUSER]), 0);
    write(m, child, "/proc/self/setgroups", "deny");
    for name in ["/proc/self/uid_map", "/proc/self/gid_map"] {
        assert!(write(m, child, name, &format!("0 {uid} 1")) > 0);
    }
    child
}

/// The file of a map judges who opened it, not only who writes to it: a privileged program may have been
/// given it as its output.
#[test]
fn a_map_needs_the_rights_of_whoever_opened_its_file() {
    let mut m = boot();
    let t = m.first();
    let t = all_powerful(&mut m, t);
    // It opens the map of its namespace, and gets a privileged process to write to it.
    let pid = call(&mut m, t, CLONE, &[CLONE_FILES | 17, 0, 0, 0, 0]);
    let child = *m.threads.keys().next_back().unwrap();
    assert_eq!(call(&mut m, child, SETGID, &[1000]), 0);
    assert_eq!(call(&mut m, child, SETUID, &[1000]), 0);
    assert_eq!(call(&mut m, child, PRCTL, &[SET_DUMPABLE, 1, 0, 0, 0]), 0);
    assert_eq!(call(&mut m, child, UNSHARE, &[CLONE_NEWUSER]), 0);
    let name = format!("/proc/{pid}/uid_map");
    let own = path(&mut m, child, OPEN, "/proc/self/uid_map", 1) as u64;
    let two = |m: &mut Guests, t: ThreadId, fd: u64, text: &str| {
        m.poke(t, DATA, text.as_bytes()).unwrap();
        call(m, t, WRITE, &[fd, DATA, text.len() as u64])
    };
    assert_eq!(two(&mut m, child, own, "0 0 2000"), EPERM);
    assert_eq!(two(&mut m, t, own, "0 0 2000"), EPERM);
    // With the rights of both it is done.
    let fd = path(&mut m, t, OPEN, &name, 1) as u64;
    assert_eq!(two(&mut m, t, fd, "0 0 2000"), 8);
    assert_eq!(two(&mut m, t, fd, "0 0 2000"), EINVAL);
    assert_eq!(call(&mut m, child, GETUID, &[]), 1000);
}

#[test]
fn capabilities_of_files_hold_in_the_namespace_they_were_given_in() {
    const SETXATTR: u64 = 188;
    const GETXATTR: u64 = 191;
    const O_CREAT: u64 = 0o100;
    const EOVERFLOW: i64 = -75;
    const VALUE: u64 = DATA + 0x800;
    let mut m = boot();
    let t = m.first();
    assert_eq!(path(&mut m, t, MKDIR, "/w", 0o755), 0);
    let [dir] = texts(&mut m, t, ["/w"]);
    assert_eq!(call(&mut m, t, CHMOD, &[dir, 0o777]), 0);
    let get = |m: &mut Guests, t: ThreadId| {
        let [file, name] = texts(m, t, ["/w/f", "security.capability"]);
        match call(m, t, GETXATTR, &[file, name, VALUE, 64]) {
            done @ ..0 => Err(done),
            size => Ok(m.peek(t, VALUE, size as usize).unwrap()),
        }
    };
    let set = |m: &mut Guests, t: ThreadId, value: &[u8]| {
        let [file, name] = texts(m, t, ["/w/f", "security.capability"]);
        m.poke(t, VALUE, value).unwrap();
        call(m, t, SETXATTR, &[file, name, VALUE, value.len() as u64, 0])
    };
    let revision_2 = |flag: u8| [&[flag, 0, 0, 2, 0, 4, 0, 0][..], &[0; 12]].concat();
    let child = own_root(&mut m, t, 1000);
    assert!(path(&mut m, child, OPEN, "/w/f", O_CREAT) >= 0);
    assert_eq!(set(&mut m, child, &revision_2(1)[..19]), EINVAL);
    assert_eq!(set(&mut m, child, &revision_2(1)), 0);
    assert_eq!(get(&mut m, child), Ok(revision_2(1)));
    let mut outside = revision_2(1);
    outside[3] = 3;
    outside.extend(1000u32.to_le_bytes());
    assert_eq!(get(&mut m, t), Ok(outside));
    let other = own_root(&mut m, t, 1001);
    assert_eq!(get(&mut m, other), Err(EOVERFLOW));
    assert_eq!(set(&mut m, other, &revision_2(1)), EPERM);
    // What the first user 0 gives holds everywhere.
    assert_eq!(set(&mut m, t, &revision_2(0)), 0);
    assert_eq!(get(&mut m, other), Ok(revision_2(0)));
}

/// A privileged process that joins a less privileged user namespace does not become everybody's there.
#[test]
fn who_joins_a_user_namespace_cannot_be_looked_into() {
    const GET_ROBUST_LIST: u64 = 274;
    const PTRS: [u64; 2] = [DATA + 0x800, DATA + 0x808];
    let mut m = boot();
    let t = m.first();
    let outer = all_powerful(&mut m, t);
    let inner = own_root(&mut m, outer, 1000);
    let inner_pid = m.result(outer).unwrap();
    let guest = fork(&mut m, outer);
    let guest_pid = m.result(outer).unwrap() as u64;
    let name = format!("/proc/{inner_pid}/ns/user");
    let fd = path(&mut m, guest, OPEN, &name, 0) as u64;
    assert_eq!(call(&mut m, guest, PRCTL, &[GET_DUMPABLE]), 1);
    assert_eq!(call(&mut m, guest, SETNS, &[fd, CLONE_NEWUSER]), 0);
    assert_eq!(call(&mut m, guest, PRCTL, &[GET_DUMPABLE]), 0);
    let look = |m: &mut Guests, t| call(m, t, GET_ROBUST_LIST, &[guest_pid, PTRS[0], PTRS[1]]);
    assert_eq!(look(&mut m, inner), EPERM);
    // It says so itself.
    assert_eq!(call(&mut m, guest, PRCTL, &[SET_DUMPABLE, 1, 0, 0, 0]), 0);
    assert_eq!(look(&mut m, inner), 0);
}

#[test]
fn a_pid_namespace_is_not_changed_twice() {
    const CLONE_SYSVSEM: u64 = 0x40000;
    const CLONE_NEWIPC: u64 = 0x800_0000;
    let mut m = boot();
    let t = m.first();
    assert_eq!(call(&mut m, t, UNSHARE, &[CLONE_NEWUSER | CLONE_NEWPID]), 0);
    assert_eq!(call(&mut m, t, UNSHARE, &[CLONE_NEWPID]), EINVAL);
    let new = CLONE_NEWPID | 17;
    assert_eq!(call(&mut m, t, CLONE, &[new, 0, 0, 0, 0]), EINVAL);
    // Undoing of semaphores is not shared across namespaces.
    let both = CLONE_NEWIPC | CLONE_SYSVSEM | 17;
    assert_eq!(call(&mut m, t, CLONE, &[both, 0, 0, 0, 0]), EINVAL);
    assert_eq!(call(&mut m, t, FORK, &[]), 2);
}

#[test]
fn files_of_proc_show_numbers_of_the_reader() {
    const FLOCK: u64 = 73;
    const LOCK_EX: u64 = 2;
    let mut m = boot();
    let t = m.first();
    let fd = path(&mut m, t, OPEN, "/", 0) as u64;
    assert_eq!(call(&mut m, t, FLOCK, &[fd, LOCK_EX]), 0);
    let flags = CLONE_NEWUSER | CLONE_NEWPID | 17;
    assert_eq!(call(&mut m, t, CLONE, &[flags, 0, 0, 0, 0]), 2);
    let init = *m.threads.keys().next_back().unwrap();
    // It sees its own lock, not the one of a process outside.
    assert_eq!(read(&mut m, init, "/proc/locks"), "");
    let fd = path(&mut m, init, OPEN, "/proc", 0) as u64;
    assert_eq!(call(&mut m, init, FLOCK, &[fd, LOCK_EX]), 0);
    let own = read(&mut m, init, "/proc/locks");
    assert!(own.starts_with("1: FLOCK  ADVISORY  WRITE 1 "), "{own}");
    let both = read(&mut m, t, "/proc/locks");
    assert!(both.contains(" WRITE 1 ") && both.contains(" WRITE 2 "));
    // What is set is shown.
    for (name, text) in [("timerslack_ns", "70000\n"), ("personality", "00040000\n")] {
        let name = format!("/proc/self/{name}");
        if name.ends_with("_ns") {
            assert_eq!(write(&mut m, t, &name, text), text.len() as i64);
        } else {
            const PERSONALITY: u64 = 135;
            assert_eq!(call(&mut m, t, PERSONALITY, &[0x40000]), 0);
        }
        assert_eq!(read(&mut m, t, &name), text);
    }
    // Another user's process may not learn where things lie.
    assert_eq!(call(&mut m, t, SETUID, &[1000]), 0);
    let stat = read(&mut m, t, "/proc/2/stat");
    let fields: Vec<&str> = stat.split(' ').collect();
    assert_eq!((fields[25], fields[27], fields[37]), ("1", "0", "17"));
}

/// The number of an ended process is its own as long as it names a process group.
#[test]
fn numbers_of_groups_outlive_their_first_process() {
    let mut m = boot();
    let t = m.first();
    assert_eq!(call(&mut m, t, UNSHARE, &[CLONE_NEWUSER | CLONE_NEWPID]), 0);
    let init = fork(&mut m, t);
    let leader = fork(&mut m, init);
    assert_eq!(call(&mut m, leader, SETPGID, &[0, 0]), 0);
    let member = fork(&mut m, leader);
    gone(&mut m, leader, EXIT_GROUP, &[0]);
    assert_eq!(call(&mut m, init, WAIT4, &[2, 0, 0, 0]), 2);
    assert_eq!(call(&mut m, member, GETPGID, &[0]), 2);
    assert_eq!(call(&mut m, init, KILL, &[-2i64 as u64, 0]), 0);
    assert_eq!(call(&mut m, member, SETPGID, &[0, 0]), 0);
    assert_eq!(call(&mut m, init, KILL, &[-2i64 as u64, 0]), -3);
    assert_eq!(call(&mut m, member, GETPGID, &[0]), 3);
}

/// What a more privileged namespace has mounted over a place cannot be taken away from there.
#[test]
fn locked_mounts_cannot_be_taken_apart() {
    const OPENAT: u64 = 257;
    const FCHDIR: u64 = 81;
    let mut m = boot();
    let t = m.first();
    let t = all_powerful(&mut m, t);
    assert_eq!(call(&mut m, t, UNSHARE, &[CLONE_NEWNS]), 0);
    for dir in ["/a", "/a/x", "/a/x/hidden", "/c", "/e", "/e/u"] {
        assert_eq!(path(&mut m, t, MKDIR, dir, 0o755), 0);
    }
    assert_eq!(mount(&mut m, t, "/a", "/a", "", MS_BIND), 0);
    assert_eq!(mount(&mut m, t, "none", "/a/x", "tmpfs", 0), 0);
    assert_eq!(mount(&mut m, t, "none", "/e/u", "tmpfs", 0), 0);
    let child = apart(&mut m, t, CLONE_NEWUSER | CLONE_NEWNS);
    // Neither by leaving it out of a copy,
    assert_eq!(mount(&mut m, child, "", "/e/u", "", MS_UNBINDABLE), 0);
    let all = MS_BIND | MS_REC;
    assert_eq!(mount(&mut m, child, "/e", "/c", "", all), EPERM);
    // nor by a descriptor of a copy that was taken off,
    let look = |m: &mut Guests, t, fd: i64, name: &str| {
        let [name] = texts(m, t, [name]);
        call(m, t, OPENAT, &[fd as u64, name, 0])
    };
    assert_eq!(mount(&mut m, child, "/a", "/c", "", all), 0);
    let fd = path(&mut m, child, OPEN, "/c", 0);
    assert_eq!(path(&mut m, child, UMOUNT2, "/c/x", MNT_DETACH), EINVAL);
    assert_eq!(path(&mut m, child, UMOUNT2, "/c", MNT_DETACH), 0);
    assert_eq!(look(&mut m, child, fd, "x/hidden"), ENOENT);
    let inner = look(&mut m, child, fd, "x");
    assert_eq!(call(&mut m, child, FCHDIR, &[inner as u64]), 0);
    assert_eq!(path(&mut m, child, OPEN, "../x/hidden", 0), ENOENT);
    assert_eq!(call(&mut m, child, CLOSE, &[fd as u64]), 0);
    assert_eq!(path(&mut m, child, OPEN, "../x", 0), ENOENT);
    // nor by one that outlives the namespace.
    let flags = CLONE_FILES | 17;
    call(&mut m, t, CLONE, &[flags, 0, 0, 0, 0]);
    let last = *m.threads.keys().next_back().unwrap();
    let new = CLONE_NEWUSER | CLONE_NEWNS;
    assert_eq!(call(&mut m, last, UNSHARE, &[new]), 0);
    let fd = path(&mut m, last, OPEN, "/a", 0);
    gone(&mut m, last, EXIT_GROUP, &[0]);
    assert_eq!(look(&mut m, t, fd, "x/hidden"), ENOENT);
    // Whoever mounted it still may.
    assert_eq!(path(&mut m, t, UMOUNT2, "/a/x", 0), 0);
    assert!(path(&mut m, t, OPEN, "/a/x/hidden", 0) >= 0);
    assert_eq!(look(&mut m, t, fd, "x/hidden"), ENOENT);
    assert_eq!(call(&mut m, t, CLOSE, &[fd as u64]), 0);
}

/// A mount goes from where it came by propagation, with what came with it, unless something else hangs on it.
#[test]
fn mounts_are_taken_off_as_they_came() {
    let mut m = boot();
    let t = m.first();
    assert_eq!(call(&mut m, t, UNSHARE, &[CLONE_NEWUSER | CLONE_NEWNS]), 0);
    map_own(&mut m, t, 0);
    for dir in ["/1", "/1/x", "/2", "/3"] {
        assert_eq!(path(&mut m, t, MKDIR, dir, 0o755), 0);
    }
    assert_eq!(mount(&mut m, t, "/1", "/1", "", MS_BIND), 0);
    assert_eq!(mount(&mut m, t, "", "/1", "", MS_SHARED), 0);
    for copy in ["/2", "/3"] {
        assert_eq!(mount(&mut m, t, "/1", copy, "", MS_BIND), 0);
    }
    assert_eq!(mount(&mut m, t, "none", "/1/x", "tmpfs", 0), 0);
    for dir in ["/1/x/y", "/3/x/own"] {
        assert_eq!(path(&mut m, t, MKDIR, dir, 0o755), 0);
    }
    assert_eq!(mount(&mut m, t, "none", "/1/x/y", "tmpfs", 0), 0);
    assert_eq!(mount(&mut m, t, "", "/3/x", "", MS_PRIVATE), 0);
    assert_eq!(mount(&mut m, t, "none", "/3/x/own", "tmpfs", 0), 0);
    assert_eq!(path(&mut m, t, UMOUNT2, "/1/x", MNT_DETACH), 0);
    let mut seen = places(&mut m, t);
    seen.retain(|place| place[1..].starts_with(['1', '2', '3']));
    assert_eq!(seen, ["/1", "/2", "/3", "/3/x", "/3/x/y", "/3/x/own"]);
}

/// A tree can be deeper than any path.
#[test]
fn places_beyond_the_longest_path() {
    const READLINK: u64 = 89;
    const GETCWD: u64 = 79;
    const ENAMETOOLONG: i64 = -36;
    let mut m = boot();
    let t = m.first();
    assert_eq!(call(&mut m, t, UNSHARE, &[CLONE_NEWUSER | CLONE_NEWNS]), 0);
    let before = mounted(&mut m, t);
    let name = "n".repeat(250);
    for _ in 0..20 {
        assert_eq!(path(&mut m, t, MKDIR, &name, 0o755), 0);
        assert_eq!(path(&mut m, t, CHDIR, &name, 0), 0);
    }
    assert_eq!(call(&mut m, t, GETCWD, &[DATA, 4096]), ENAMETOOLONG);
    let fd = path(&mut m, t, OPEN, ".", 0);
    let link = format!("/proc/self/fd/{fd}");
    let [link] = texts(&mut m, t, [&link]);
    let read = call(&mut m, t, READLINK, &[link, DATA + 0x800, 64]);
    assert_eq!(read, ENAMETOOLONG);
    assert_eq!(mount(&mut m, t, "none", ".", "tmpfs", 0), 0);
    assert_eq!(mounted(&mut m, t), before);
}

/// Either all namespaces of another process are joined or none.
#[test]
fn joining_several_namespaces_fails_as_a_whole() {
    const PIDFD_OPEN: u64 = 434;
    const GETHOSTNAME_PROC: &str = "/proc/self/ns/uts";
    const READLINK: u64 = 89;
    let mut m = boot();
    let t = m.first();
    let child = apart(&mut m, t, CLONE_NEWUSER | CLONE_NEWUTS);
    let pid = m.result(t).unwrap() as u64;
    let fd = call(&mut m, t, PIDFD_OPEN, &[pid, 0]) as u64;
    let uts = |m: &mut Guests, t| {
        let [name] = texts(m, t, [GETHOSTNAME_PROC]);
        let length = call(m, t, READLINK, &[name, DATA + 0x800, 64]) as usize;
        m.peek(t, DATA + 0x800, length).unwrap()
    };
    let before = uts(&mut m, t);
    // The first mount namespace needs rights that nobody has.
    let mounts = CLONE_NEWUSER | CLONE_NEWUTS | CLONE_NEWNS;
    assert_eq!(call(&mut m, t, SETNS, &[fd, mounts]), EPERM);
    assert_eq!(uts(&mut m, t), before);
    assert_eq!(call(&mut m, t, GETUID, &[]), 0);
    let two = CLONE_NEWUSER | CLONE_NEWUTS;
    assert_eq!(call(&mut m, t, SETNS, &[fd, two]), 0);
    assert_eq!(uts(&mut m, t), uts(&mut m, child));
    assert_eq!(call(&mut m, t, GETUID, &[]), 65534);
}

#[test]
fn the_end_of_a_pid_namespace_leaves_what_zombies_say() {
    let mut m = boot();
    let t = m.first();
    assert_eq!(call(&mut m, t, UNSHARE, &[CLONE_NEWUSER | CLONE_NEWPID]), 0);
    let init = fork(&mut m, t);
    // A child of a process outside, in the namespace.
    let child = fork(&mut m, t);
    let pid = m.result(t).unwrap() as u64;
    gone(&mut m, child, EXIT, &[7]);
    gone(&mut m, init, EXIT_GROUP, &[0]);
    assert_eq!(call(&mut m, t, WAIT4, &[pid, DATA, 0, 0]), pid as i64);
    assert_eq!(m.peek(t, DATA, 4).unwrap(), [0, 7, 0, 0]);
}

/// Random operations of several processes in several namespaces.
#[test]
fn references_add_up_whatever_is_mounted() {
    const DIRS: [&str; 7] = ["/", "/a", "/a/x", "/b", "/b/x", "/c", "/tmp"];
    for seed in 0..15 {
        let mut rng = Rng(seed);
        let mut m = boot();
        let t = m.first();
        for dir in &DIRS[1..] {
            path(&mut m, t, MKDIR, dir, 0o755);
        }
        assert_eq!(call(&mut m, t, UNSHARE, &[CLONE_NEWUSER | CLONE_NEWNS]), 0);
        for _ in 0..60 {
            let count = m.threads.len();
            let t = *m.threads.keys().nth(rng.below(count)).unwrap();
            let (one, other) = (DIRS[rng.below(DIRS.len())], DIRS[rng.below(DIRS.len())]);
            let kinds = [MS_SHARED, MS_PRIVATE, MS_SLAVE, MS_UNBINDABLE];
            let recurse = [0, MS_REC][rng.below(2)];
            match rng.below(14) {
                0 | 1 => {
                    mount(&mut m, t, "none", one, "tmpfs", 0);
                    path(&mut m, t, MKDIR, &format!("{one}/x"), 0o755);
                }
                2 | 3 => {
                    mount(&mut m, t, one, other, "", MS_BIND | recurse);
                }
                4 => {
                    mount(&mut m, t, one, other, "", MS_MOVE);
                }
                5 | 6 => {
                    mount(&mut m, t, "", one, "", kinds[rng.below(4)] | recurse);
                }
                7 => {
                    path(&mut m, t, UMOUNT2, one, [0, MNT_DETACH][rng.below(2)]);
                }
                8 => {
                    path(&mut m, t, CHDIR, one, 0);
                }
                9 => {
                    path(&mut m, t, OPEN, one, 0);
                }
                10 => {
                    let flags = CLONE_NEWNS | [0, CLONE_NEWUSER, CLONE_NEWPID][rng.below(3)];
                    call(&mut m, t, UNSHARE, &[flags]);
                }
                11 if count < 4 => {
                    call(&mut m, t, FORK, &[]);
                }
                12 => {
                    let [new, old] = texts(&mut m, t, [one, other]);
                    call(&mut m, t, PIVOT_ROOT, &[new, old]);
                }
                13 if count > 1 && t != m.first() => {
                    gone(&mut m, t, EXIT_GROUP, &[0]);
                }
                _ => {
                    path(&mut m, t, [CHROOT, RMDIR][rng.below(2)], one, 0);
                }
            }
        }
    }
}

/// Whoever signals a process that has ended is shown to the user namespace that it was in.
#[test]
fn a_process_that_has_ended_in_a_user_namespace() {
    const TKILL: u64 = 200;
    let mut m = boot();
    let t = m.first();
    let child = fork(&mut m, t);
    let pid = m.result(t).unwrap() as u64;
    assert_eq!(call(&mut m, child, UNSHARE, &[CLONE_NEWUSER]), 0);
    gone(&mut m, child, EXIT_GROUP, &[0]);
    assert_eq!(call(&mut m, t, TKILL, &[pid, 10]), 0);
    assert_eq!(m.kernel.check(), Ok(()));
    assert_eq!(call(&mut m, t, WAIT4, &[pid, 0, 0, 0]), pid as i64);
    assert_eq!(call(&mut m, t, TKILL, &[pid, 10]), -3);
    assert_eq!(m.kernel.check(), Ok(()));
}
