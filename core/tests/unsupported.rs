//! What a flag that Linux has and this kernel has not leaves in the log: a line that names the call and the
//! flag, beside the error.

mod guest;

use guest::{CLONE_NEWNS, CLONE_NEWUSER, CLONE3, DATA, EINVAL, EPERM, Guests, SIGCHLD, boot, call};
use varve_core::machine::ThreadId;

const UNSHARE: u64 = 272;
const FALLOCATE: u64 = 285;
const SETNS: u64 = 308;
const SECCOMP: u64 = 317;
const MEMFD_CREATE: u64 = 319;
const MOUNT_SETATTR: u64 = 442;
const OPEN: u64 = 2;
const PIDFD_OPEN: u64 = 434;
const OPEN_TREE_ATTR: u64 = 467;

const EOPNOTSUPP: i64 = 95;
const CLONE_NEWTIME: u64 = 0x80;
const AT_FDCWD: u64 = -100i64 as u64;

/// A call that fails, and the lines that it leaves in the log.
#[track_caller]
fn lines(m: &mut Guests, number: u64, args: &[u64], errno: i64) -> Vec<String> {
    let thread = m.first();
    m.lines.clear();
    assert_eq!(call(m, thread, number, args), -errno);
    std::mem::take(&mut m.lines)
}

#[track_caller]
fn leaves(m: &mut Guests, number: u64, args: &[u64], errno: i64, line: &str) {
    let expected = format!("warn: [1] system call {line} is not supported");
    assert_eq!(lines(m, number, args, errno), [expected]);
}

fn words(m: &mut Guests, thread: ThreadId, words: &[u64]) {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    m.poke(thread, DATA, &bytes).unwrap();
}

#[test]
fn there_are_no_time_namespaces() {
    let mut m = boot();
    let t = m.first();
    let line = "unshare: CLONE_NEWTIME";
    leaves(&mut m, UNSHARE, &[CLONE_NEWTIME], EINVAL, line);
    let own = call(&mut m, t, PIDFD_OPEN, &[1, 0]) as u64;
    let line = "setns: CLONE_NEWTIME";
    leaves(&mut m, SETNS, &[own, CLONE_NEWTIME], EINVAL, line);
    words(
        &mut m,
        t,
        &[CLONE_NEWTIME, 0, 0, 0, SIGCHLD.into(), 0, 0, 0],
    );
    let line = "clone3: CLONE_NEWTIME";
    leaves(&mut m, CLONE3, &[DATA, 64], EPERM, line);
    // That is a part of the signal for clone(2), and nothing that Linux has in bits above.
    assert!(lines(&mut m, UNSHARE, &[1 << 40], EINVAL).is_empty());
    assert!(lines(&mut m, SETNS, &[own, 1], EINVAL).is_empty());
}

#[test]
fn no_file_system_lets_users_be_mapped() {
    const IDMAP: u64 = 1 << 20;
    let mut m = boot();
    let t = m.first();
    m.poke(t, DATA + 0x100, b"/\0/proc/self/ns/user\0").unwrap();
    assert_eq!(call(&mut m, t, UNSHARE, &[CLONE_NEWUSER | CLONE_NEWNS]), 0);
    let ns = call(&mut m, t, OPEN, &[DATA + 0x102, 0]) as u64;
    words(&mut m, t, &[IDMAP, 0, 0, ns]);
    let root = [AT_FDCWD, DATA + 0x100, 0, DATA, 32];
    let line = "mount_setattr: MOUNT_ATTR_IDMAP";
    leaves(&mut m, MOUNT_SETATTR, &root, EINVAL, line);
    let copy = [AT_FDCWD, DATA + 0x100, 1, DATA, 32];
    let line = "open_tree_attr: MOUNT_ATTR_IDMAP";
    leaves(&mut m, OPEN_TREE_ATTR, &copy, EINVAL, line);
    words(&mut m, t, &[1 << 22, 0, 0, 0]);
    assert!(lines(&mut m, MOUNT_SETATTR, &root, EINVAL).is_empty());
}

#[test]
fn other_flags_are_named_too() {
    const HUGETLB: u64 = 4;
    const NEW_LISTENER: u64 = 8;
    const SET_MODE_FILTER: u64 = 1;
    const COLLAPSE_RANGE: u64 = 8;
    let mut m = boot();
    let t = m.first();
    let line = "memfd_create: MFD_HUGETLB";
    leaves(&mut m, MEMFD_CREATE, &[DATA, HUGETLB], EINVAL, line);
    let args = [SET_MODE_FILTER, NEW_LISTENER, DATA];
    let line = "seccomp: SECCOMP_FILTER_FLAG_NEW_LISTENER";
    leaves(&mut m, SECCOMP, &args, EINVAL, line);
    let file = call(&mut m, t, MEMFD_CREATE, &[DATA, 0]) as u64;
    let args = [file, COLLAPSE_RANGE, 0, 4096];
    let line = "fallocate: FALLOC_FL_COLLAPSE_RANGE";
    leaves(&mut m, FALLOCATE, &args, EOPNOTSUPP, line);
}
