//! Who may do what, on the in-memory host: programs with set-id bits, what changes take from files, whose
//! processes others may change, what is hidden. `conformance/guests/privileges.c` compares all of it with
//! Linux.

mod guest;

use guest::{
    CLONE, CLONE_FS, CLONE_NEWNS, CLONE_NEWUSER, DATA, EXIT_GROUP, GETEUID, GETPID, Guests, SETGID,
    SETRESUID, boot, call, fork, gone, program, thread,
};
use varve_core::machine::ThreadId;
use varve_core::memhost::{Machine, MemHost, bare, empty_root};

const READ: u64 = 0;
const WRITE: u64 = 1;
const OPEN: u64 = 2;
const CLOSE: u64 = 3;
const STAT: u64 = 4;
const MMAP: u64 = 9;
const PREAD: u64 = 17;
const PIPE: u64 = 22;
const ACCESS: u64 = 21;
const SOCKET: u64 = 41;
const CONNECT: u64 = 42;
const BIND: u64 = 49;
const LISTEN: u64 = 50;
const EXECVE: u64 = 59;
const FCNTL: u64 = 72;
const TRUNCATE: u64 = 76;
const FTRUNCATE: u64 = 77;
const MKDIR: u64 = 83;
const CHMOD: u64 = 90;
const CHOWN: u64 = 92;
const MKNOD: u64 = 133;
const SETPRIORITY: u64 = 141;
const SCHED_SETPARAM: u64 = 142;
const SCHED_SETSCHEDULER: u64 = 144;
const PRCTL: u64 = 157;
const MOUNT: u64 = 165;
const SETXATTR: u64 = 188;
const GETXATTR: u64 = 191;
const SCHED_SETAFFINITY: u64 = 203;
const GETDENTS64: u64 = 217;
const IOPRIO_SET: u64 = 251;
const UNSHARE: u64 = 272;
const SPLICE: u64 = 275;
const UTIMENSAT: u64 = 280;

const CLONE_FILES: u64 = 0x400;
const CLONE_NEWNET: u64 = 0x4000_0000;
const SIGCHLD: u64 = 17;
const O_RDWR: u64 = 2;
const O_CREAT: u64 = 0o100;
const O_CLOEXEC: u64 = 0o2000000;
const F_GETFD: u64 = 1;
const SET_DUMPABLE: u64 = 4;
const GET_DUMPABLE: u64 = 3;
const SET_MM: u64 = 35;
const SET_NO_NEW_PRIVS: u64 = 38;
const MS_REMOUNT: u64 = 32;
const KEEP: u64 = 0xffff_ffff;

const EPERM: i64 = -1;
const ENOENT: i64 = -2;
const EBADF: i64 = -9;
const EACCES: i64 = -13;
const EFAULT: i64 = -14;
const EINVAL: i64 = -22;
const ENODATA: i64 = -61;
const EOVERFLOW: i64 = -75;
const ECONNREFUSED: i64 = -111;

/// Memory for strings, and for what else calls take.
const TEXT: u64 = DATA + 0x4000;
const WORDS: u64 = DATA + 0x6000;

fn poke(m: &mut Guests, t: ThreadId, at: u64, bytes: &[u8]) -> u64 {
    m.poke(t, at, bytes).unwrap();
    at
}

fn path(m: &mut Guests, t: ThreadId, number: u64, name: &str, args: &[u64]) -> i64 {
    let at = poke(m, t, TEXT, &[name.as_bytes(), &[0]].concat());
    let args: Vec<u64> = [at].into_iter().chain(args.iter().copied()).collect();
    call(m, t, number, &args)
}

/// Makes a file of root's with these contents and this owner and mode.
fn make(m: &mut Guests, t: ThreadId, name: &str, text: &[u8], owner: u64, mode: u64) {
    let fd = path(m, t, OPEN, name, &[O_RDWR | O_CREAT, 0o600]);
    assert!(fd >= 0, "{name}: {fd}");
    poke(m, t, DATA, text);
    let len = text.len() as u64;
    assert_eq!(call(m, t, WRITE, &[fd as u64, DATA, len]), len as i64);
    assert_eq!(call(m, t, CLOSE, &[fd as u64]), 0);
    assert_eq!(path(m, t, CHOWN, name, &[owner, owner]), 0);
    assert_eq!(path(m, t, CHMOD, name, &[mode]), 0);
}

fn exec(m: &mut Guests, t: ThreadId, name: &str) {
    assert_eq!(path(m, t, EXECVE, name, &[0, 0]), 0);
}

/// A child with these user numbers and group 1000.
fn user(m: &mut Guests, t: ThreadId, [real, effective, saved]: [u64; 3]) -> ThreadId {
    let child = fork(m, t);
    assert_eq!(call(m, child, SETGID, &[1000]), 0);
    assert_eq!(call(m, child, SETRESUID, &[real, effective, saved]), 0);
    assert_eq!(call(m, child, PRCTL, &[SET_DUMPABLE, 1, 0, 0, 0]), 0);
    child
}

/// A machine whose first process has all capabilities.
fn privileged() -> Guests {
    let mut config = bare(empty_root());
    config.capabilities = u64::MAX;
    Machine::boot(config, MemHost::new(4096, Vec::new())).expect("the bare task boots")
}

#[test]
fn set_user_id_programs_get_nothing_where_others_can_move_their_paths() {
    let mut m = boot();
    let t = m.first();
    make(&mut m, t, "/suid", &program(), 0, 0o4755);
    // (what the child shares with the caller's process, whom the program runs as)
    for (flags, euid) in [(CLONE_FS, 1000), (CLONE_FILES, 0), (0, 0)] {
        let parent = user(&mut m, t, [1000; 3]);
        let pid = call(&mut m, parent, CLONE, &[flags | SIGCHLD, 0, 0, 0, 0]);
        assert!(pid > 0);
        let child = *m.threads.keys().next_back().unwrap();
        exec(&mut m, child, "/suid");
        assert_eq!(call(&mut m, child, GETEUID, &[]), euid, "{flags:#x}");
        // The other one is not the same any more.
        exec(&mut m, parent, "/suid");
        assert_eq!(call(&mut m, parent, GETEUID, &[]), euid, "{flags:#x}");
    }
    // Threads of its own process end before it starts.
    let parent = user(&mut m, t, [1000; 3]);
    let other = thread(&mut m, parent);
    exec(&mut m, other, "/suid");
    assert_eq!(call(&mut m, other, GETEUID, &[]), 0);
    // Who may become any user keeps what the program gives, but gets no capabilities with it.
    let parent = user(&mut m, t, [1000, 0, 0]);
    let flags = CLONE_FS | SIGCHLD;
    assert!(call(&mut m, parent, CLONE, &[flags, 0, 0, 0, 0]) > 0);
    let child = *m.threads.keys().next_back().unwrap();
    exec(&mut m, child, "/suid");
    assert_eq!(call(&mut m, child, GETEUID, &[]), 0);
    // And without new privileges nobody does.
    let child = user(&mut m, t, [1000; 3]);
    assert_eq!(
        call(&mut m, child, PRCTL, &[SET_NO_NEW_PRIVS, 1, 0, 0, 0]),
        0
    );
    exec(&mut m, child, "/suid");
    assert_eq!(call(&mut m, child, GETEUID, &[]), 1000);
}

#[test]
fn a_program_closes_only_its_own_descriptors() {
    let mut m = boot();
    let t = m.first();
    make(&mut m, t, "/program", &program(), 0, 0o755);
    let closed = path(&mut m, t, OPEN, "/program", &[O_CLOEXEC, 0]) as u64;
    let kept = path(&mut m, t, OPEN, "/program", &[0, 0]) as u64;
    assert!(call(&mut m, t, CLONE, &[CLONE_FILES | SIGCHLD, 0, 0, 0, 0]) > 0);
    let child = *m.threads.keys().next_back().unwrap();
    exec(&mut m, child, "/program");
    assert_eq!(call(&mut m, child, FCNTL, &[closed, F_GETFD, 0]), EBADF);
    assert_eq!(call(&mut m, t, FCNTL, &[closed, F_GETFD, 0]), 1);
    // They are no longer the same table.
    assert_eq!(call(&mut m, child, CLOSE, &[kept]), 0);
    assert_eq!(call(&mut m, t, FCNTL, &[kept, F_GETFD, 0]), 0);
}

#[test]
fn programs_that_cannot_be_read_are_not_looked_into() {
    let mut m = boot();
    let t = m.first();
    make(&mut m, t, "/run", &program(), 1001, 0o711);
    make(&mut m, t, "/read", &program(), 1001, 0o755);
    for (name, dumpable) in [("/run", 0), ("/read", 1)] {
        let child = user(&mut m, t, [1000; 3]);
        exec(&mut m, child, name);
        assert_eq!(
            call(&mut m, child, PRCTL, &[GET_DUMPABLE]),
            dumpable,
            "{name}"
        );
    }
}

/// Gives a file capabilities, does something to it, and tells whether it has still got them.
fn keeps(
    m: &mut Guests,
    t: ThreadId,
    mode: u64,
    change: impl FnOnce(&mut Guests, u64),
) -> (bool, u64) {
    const NAME: u64 = TEXT + 0x800;
    make(m, t, "/file", b"contents", 0, mode);
    let caps = [1u32 | 0x0200_0000, 1, 0, 0, 0];
    let value: Vec<u8> = caps.iter().flat_map(|word| word.to_le_bytes()).collect();
    poke(m, t, WORDS, &value);
    poke(m, t, NAME, b"security.capability\0");
    assert_eq!(path(m, t, SETXATTR, "/file", &[NAME, WORDS, 20, 0]), 0);
    let fd = path(m, t, OPEN, "/file", &[O_RDWR, 0]) as u64;
    change(m, fd);
    assert_eq!(call(m, t, CLOSE, &[fd]), 0);
    poke(m, t, NAME, b"security.capability\0");
    let left = path(m, t, GETXATTR, "/file", &[NAME, WORDS, 100]);
    assert!([20, ENODATA].contains(&left), "{left}");
    assert_eq!(path(m, t, STAT, "/file", &[WORDS]), 0);
    let mode = u32::from_le_bytes(m.peek(t, WORDS + 24, 4).unwrap().try_into().unwrap());
    (left == 20, u64::from(mode & 0o7777))
}

#[test]
fn changes_of_contents_and_owner_take_capabilities_from_files() {
    let mut m = boot();
    let t = m.first();
    type Change = fn(&mut Guests, ThreadId, u64);
    // Root, who has CAP_FSETID, keeps set-id bits when writing.
    let changes: [(&str, bool, u64, Change); 12] = [
        ("write", false, 0o6755, |m, t, fd| {
            assert_eq!(call(m, t, WRITE, &[fd, DATA, 1]), 1);
        }),
        ("write nothing", true, 0o6755, |m, t, fd| {
            assert_eq!(call(m, t, WRITE, &[fd, DATA, 0]), 0);
        }),
        ("write from nowhere", false, 0o6755, |m, t, fd| {
            assert_eq!(call(m, t, WRITE, &[fd, 8, 1]), EFAULT);
        }),
        ("truncate", false, 0o6755, |m, t, _| {
            assert_eq!(path(m, t, TRUNCATE, "/file", &[8]), 0);
        }),
        ("ftruncate", false, 0o6755, |m, t, fd| {
            assert_eq!(call(m, t, FTRUNCATE, &[fd, 1]), 0);
        }),
        ("splice", false, 0o6755, |m, t, fd| {
            assert_eq!(call(m, t, PIPE, &[WORDS]), 0);
            let ends = m.peek(t, WORDS, 8).unwrap();
            let end =
                |at: usize| u64::from(u32::from_le_bytes(ends[at..at + 4].try_into().unwrap()));
            assert_eq!(call(m, t, WRITE, &[end(4), DATA, 2]), 2);
            assert_eq!(call(m, t, SPLICE, &[end(0), 0, fd, 0, 2, 0]), 2);
        }),
        ("chown", false, 0o755, |m, t, _| {
            assert_eq!(path(m, t, CHOWN, "/file", &[1, KEEP]), 0);
        }),
        ("chgrp", false, 0o755, |m, t, _| {
            assert_eq!(path(m, t, CHOWN, "/file", &[KEEP, 1]), 0);
        }),
        ("chown to nobody", false, 0o755, |m, t, _| {
            assert_eq!(path(m, t, CHOWN, "/file", &[KEEP, KEEP]), 0);
        }),
        ("chmod", true, 0o6755, |m, t, _| {
            assert_eq!(path(m, t, CHMOD, "/file", &[0o6755]), 0);
        }),
        ("utimensat", true, 0o6755, |m, t, _| {
            let at = poke(m, t, TEXT, b"/file\0");
            assert_eq!(call(m, t, UTIMENSAT, &[KEEP - 99, at, 0, 0]), 0);
        }),
        ("a store into a mapping", true, 0o6755, |m, t, fd| {
            let at = call(m, t, MMAP, &[0, 4096, 3, 1, fd, 0]);
            assert!(at > 0);
            poke(m, t, at as u64, b"x");
        }),
    ];
    for (name, kept, mode, change) in changes {
        let left = keeps(&mut m, t, 0o6755, |m, fd| change(m, t, fd));
        assert_eq!(left, (kept, mode), "{name}");
    }
    // A file that is written by others than root loses both.
    let child = user(&mut m, t, [1000; 3]);
    let left = keeps(&mut m, t, 0o6777, |m, _| {
        let fd = path(m, child, OPEN, "/file", &[O_RDWR, 0]);
        assert_eq!(call(m, child, WRITE, &[fd as u64, 8, 1]), EFAULT);
    });
    assert_eq!(left, (false, 0o777));
    // Who is not the owner cannot make chown(2) do that.
    make(&mut m, t, "/suid", b"", 0, 0o4755);
    let suid = path(&mut m, child, CHOWN, "/suid", &[KEEP, KEEP]);
    assert_eq!(suid, EPERM);
    make(&mut m, t, "/plain", b"", 0, 0o755);
    assert_eq!(path(&mut m, child, CHOWN, "/plain", &[KEEP, KEEP]), 0);
}

#[test]
fn nobody_schedules_processes_that_have_more_capabilities() {
    let mut m = boot();
    let t = m.first();
    let plain = user(&mut m, t, [1000; 3]);
    // They belong to the same user, but could become root: as a set-user-ID program that gave its rights up
    // for now.
    let stronger = user(&mut m, t, [1000, 1000, 0]);
    let (weak, strong) = (2, 3);
    poke(&mut m, plain, DATA, &[3, 0, 0, 0, 0, 0, 0, 0]);
    poke(&mut m, plain, DATA + 8, &[0; 4]);
    poke(&mut m, stronger, DATA, &[3, 0, 0, 0, 0, 0, 0, 0]);
    poke(&mut m, stronger, DATA + 8, &[0; 4]);
    let calls = |pid: u64| {
        [
            (SETPRIORITY, vec![0, pid, 5]),
            (SCHED_SETAFFINITY, vec![pid, 8, DATA]),
            (SCHED_SETSCHEDULER, vec![pid, 3, DATA + 8]),
            (SCHED_SETPARAM, vec![pid, DATA + 8]),
            (IOPRIO_SET, vec![1, pid, 2 << 13 | 4]),
        ]
    };
    for (number, args) in calls(strong) {
        assert_eq!(call(&mut m, plain, number, &args), EPERM, "{number}");
    }
    for (number, args) in calls(weak) {
        assert_eq!(call(&mut m, stronger, number, &args), 0, "{number}");
        assert_eq!(call(&mut m, plain, number, &args), 0, "{number}");
    }
}

#[test]
fn abstract_names_belong_to_a_network_namespace() {
    let mut m = boot();
    let t = m.first();
    let name = poke(&mut m, t, WORDS, b"\x01\0\0name");
    let socket = |m: &mut Guests, t| call(m, t, SOCKET, &[1, 1, 0]) as u64;
    let (listener, old) = (socket(&mut m, t), socket(&mut m, t));
    assert_eq!(call(&mut m, t, BIND, &[listener, name, 7]), 0);
    assert_eq!(call(&mut m, t, LISTEN, &[listener, 5]), 0);
    let child = fork(&mut m, t);
    let flags = CLONE_NEWUSER | CLONE_NEWNET;
    assert_eq!(call(&mut m, child, UNSHARE, &[flags]), 0);
    let other = socket(&mut m, child);
    let refused = call(&mut m, child, CONNECT, &[other, name, 7]);
    assert_eq!(refused, ECONNREFUSED);
    assert_eq!(call(&mut m, child, BIND, &[other, name, 7]), 0);
    // What was made in the old one stays there, whoever uses it.
    assert_eq!(call(&mut m, child, CONNECT, &[old, name, 7]), 0);
    let again = socket(&mut m, t);
    assert_eq!(call(&mut m, t, CONNECT, &[again, name, 7]), 0);
    // Names that are files are everybody's.
    let file = poke(&mut m, t, WORDS, b"\x01\0/socket\0");
    let listener = socket(&mut m, t);
    assert_eq!(call(&mut m, t, BIND, &[listener, file, 10]), 0);
    assert_eq!(call(&mut m, t, LISTEN, &[listener, 5]), 0);
    poke(&mut m, child, WORDS, b"\x01\0/socket\0");
    let other = socket(&mut m, child);
    assert_eq!(call(&mut m, child, CONNECT, &[other, file, 10]), 0);
}

#[test]
fn nothing_is_made_for_users_that_a_file_system_does_not_know() {
    let mut m = boot();
    let t = m.first();
    assert_eq!(path(&mut m, t, MKDIR, "/a", &[0o755]), 0);
    let flags = CLONE_NEWUSER | CLONE_NEWNS;
    assert_eq!(call(&mut m, t, UNSHARE, &[flags]), 0);
    let mount = |m: &mut Guests, data: u64| {
        let [target, kind] = [TEXT + 0x100, TEXT + 0x200];
        poke(m, t, target, b"/a\0");
        poke(m, t, kind, b"tmpfs\0");
        call(m, t, MOUNT, &[kind, target, kind, 0, data])
    };
    assert_eq!(mount(&mut m, 0), 0);
    assert_eq!(path(&mut m, t, MKDIR, "/a/d", &[0o755]), EOVERFLOW);
    let fifo = 0o10644;
    assert_eq!(path(&mut m, t, MKNOD, "/a/f", &[fifo, 0]), EOVERFLOW);
    let created = path(&mut m, t, OPEN, "/a/o", &[O_RDWR | O_CREAT, 0o644]);
    assert_eq!(created, EOVERFLOW);
    let map = path(&mut m, t, OPEN, "/proc/self/uid_map", &[1, 0]) as u64;
    poke(&mut m, t, DATA, b"0 0 1");
    assert_eq!(call(&mut m, t, WRITE, &[map, DATA, 5]), 5);
    // The group is still nobody's.
    assert_eq!(path(&mut m, t, MKDIR, "/a/d", &[0o755]), EOVERFLOW);
    let deny = path(&mut m, t, OPEN, "/proc/self/setgroups", &[1, 0]) as u64;
    poke(&mut m, t, DATA, b"deny");
    assert_eq!(call(&mut m, t, WRITE, &[deny, DATA, 4]), 4);
    let map = path(&mut m, t, OPEN, "/proc/self/gid_map", &[1, 0]) as u64;
    poke(&mut m, t, DATA, b"0 0 1");
    assert_eq!(call(&mut m, t, WRITE, &[map, DATA, 5]), 5);
    assert_eq!(path(&mut m, t, MKDIR, "/a/d", &[0o755]), 0);
}

#[test]
fn the_layout_of_a_program_is_changed_by_nobody_without_the_right() {
    let mut m = boot();
    let t = m.first();
    assert_eq!(call(&mut m, t, PRCTL, &[SET_MM, 1, 0x10000, 0, 0]), EPERM);
    assert_eq!(call(&mut m, t, PRCTL, &[SET_MM, 0, 0, 0, 0]), EPERM);
    assert_eq!(call(&mut m, t, PRCTL, &[SET_MM, 1, 0x10000, 1, 0]), EINVAL);
    assert_eq!(call(&mut m, t, PRCTL, &[SET_MM, 1, 0x10000, 0, 1]), EINVAL);
}

fn mount_proc(m: &mut Guests, t: ThreadId, kind: &str, flags: u64, data: &str) -> i64 {
    let [target, name, options] = [TEXT + 0x100, TEXT + 0x200, TEXT + 0x300];
    poke(m, t, target, b"/p\0");
    poke(m, t, name, &[kind.as_bytes(), &[0]].concat());
    poke(m, t, options, &[data.as_bytes(), &[0]].concat());
    call(m, t, MOUNT, &[name, target, name, flags, options])
}

/// What is shown of the file system at `/p`.
fn shown(m: &mut Guests, t: ThreadId) -> String {
    let fd = path(m, t, OPEN, "/proc/self/mounts", &[0, 0]) as u64;
    let len = call(m, t, READ, &[fd, DATA, 0x3000]) as usize;
    assert_eq!(call(m, t, CLOSE, &[fd]), 0);
    let text = String::from_utf8(m.peek(t, DATA, len).unwrap()).unwrap();
    let line = text.lines().rfind(|line| line.contains(" /p "));
    line.unwrap_or_default().into()
}

/// The numbers of processes that are listed in `/p`.
fn listed(m: &mut Guests, t: ThreadId) -> Vec<u32> {
    let fd = path(m, t, OPEN, "/p", &[0, 0]) as u64;
    let mut found = Vec::new();
    loop {
        let len = call(m, t, GETDENTS64, &[fd, DATA, 0x3000]) as usize;
        let bytes = m.peek(t, DATA, len).unwrap();
        let mut at = 0;
        while at < len {
            let size = usize::from(u16::from_le_bytes([bytes[at + 16], bytes[at + 17]]));
            let name = bytes[at + 19..at + size].split(|&byte| byte == 0).next();
            found.extend(std::str::from_utf8(name.unwrap()).unwrap().parse::<u32>());
            at += size;
        }
        if len == 0 {
            break;
        }
    }
    assert_eq!(call(m, t, CLOSE, &[fd]), 0);
    found
}

#[test]
fn proc_hides_processes_from_those_who_may_not_look_into_them() {
    let mut m = privileged();
    let t = m.first();
    assert_eq!(path(&mut m, t, MKDIR, "/p", &[0o755]), 0);
    assert_eq!(mount_proc(&mut m, t, "proc", 0, "hidepid=invisible"), 0);
    let own = user(&mut m, t, [1000; 3]);
    let other = user(&mut m, t, [1001; 3]);
    let read = |m: &mut Guests, t, name: &str| path(m, t, OPEN, name, &[0, 0]).min(0);
    assert_eq!(listed(&mut m, t), [1, 2, 3]);
    assert_eq!(listed(&mut m, own), [2]);
    assert_eq!(listed(&mut m, other), [3]);
    assert_eq!(read(&mut m, own, "/p/3/status"), ENOENT);
    assert_eq!(path(&mut m, own, STAT, "/p/3", &[DATA]), ENOENT);
    assert_eq!(read(&mut m, own, "/p/2/status"), 0);
    assert_eq!(read(&mut m, t, "/p/3/status"), 0);
    // Other instances are not concerned.
    assert_eq!(read(&mut m, own, "/proc/3/status"), 0);
    // With noaccess they are seen from outside.
    assert_eq!(mount_proc(&mut m, t, "proc", MS_REMOUNT, "hidepid=1"), 0);
    assert!(shown(&mut m, t).ends_with("hidepid=noaccess 0 0"));
    assert_eq!(listed(&mut m, own), [1, 2, 3]);
    assert_eq!(path(&mut m, own, STAT, "/p/3", &[DATA]), 0);
    assert_eq!(path(&mut m, own, ACCESS, "/p/3", &[0]), EPERM);
    assert_eq!(read(&mut m, own, "/p/3"), EPERM);
    assert_eq!(read(&mut m, own, "/p/3/status"), EPERM);
    // A group is excepted, but not from the strictest kind.
    assert_eq!(
        mount_proc(&mut m, t, "proc", MS_REMOUNT, "hidepid=2,gid=1000"),
        0
    );
    assert_eq!(listed(&mut m, own), [1, 2, 3]);
    assert_eq!(read(&mut m, own, "/p/3/status"), 0);
    assert_eq!(mount_proc(&mut m, t, "proc", MS_REMOUNT, "hidepid=4"), 0);
    assert!(shown(&mut m, t).ends_with("gid=1000,hidepid=ptraceable 0 0"));
    assert_eq!(listed(&mut m, own), [2]);
    assert_eq!(path(&mut m, own, STAT, "/p/3", &[DATA]), ENOENT);
    // What is hidden from one stays there for others.
    assert_eq!(read(&mut m, other, "/p/3/status"), 0);
    assert_eq!(
        mount_proc(&mut m, t, "proc", MS_REMOUNT, "hidepid=0,gid=0"),
        0
    );
    assert_eq!(read(&mut m, own, "/p/3/status"), 0);
    assert_eq!(read(&mut m, own, "/p/version"), 0);
    assert_eq!(mount_proc(&mut m, t, "proc", MS_REMOUNT, "subset=pid"), 0);
    assert_eq!(read(&mut m, own, "/p/version"), ENOENT);
    assert_eq!(read(&mut m, own, "/p/sys/kernel/ostype"), ENOENT);
    assert_eq!(read(&mut m, own, "/p/self/status"), 0);
}

#[test]
fn file_systems_of_the_kernel_refuse_options_that_they_do_not_know() {
    let mut m = privileged();
    let t = m.first();
    assert_eq!(path(&mut m, t, MKDIR, "/p", &[0o755]), 0);
    for kind in ["proc", "sysfs", "cgroup2"] {
        for data in [
            "x",
            "hidepid=3",
            "gid=-1",
            "subset=x",
            "size=1",
            "nosuid",
            "source=x",
        ] {
            assert_eq!(
                mount_proc(&mut m, t, kind, 0, data),
                EINVAL,
                "{kind} {data}"
            );
        }
        assert_eq!(mount_proc(&mut m, t, kind, 0, ",,rw,=x"), 0, "{kind}");
        assert_eq!(mount_proc(&mut m, t, kind, MS_REMOUNT, "x"), EINVAL);
        assert_eq!(mount_proc(&mut m, t, kind, MS_REMOUNT, ""), 0);
    }
    assert_eq!(mount_proc(&mut m, t, "sysfs", 0, "hidepid=0"), EINVAL);
    assert_eq!(mount_proc(&mut m, t, "cgroup2", 0, "nsdelegate"), 0);
    assert!(shown(&mut m, t).ends_with(",nsdelegate 0 0"));
}

#[test]
fn access_asks_about_links_into_processes_for_the_real_user() {
    let mut m = privileged();
    let t = m.first();
    let set_id = user(&mut m, t, [1000, 0, 0]);
    let link = "/proc/1/ns/uts";
    assert_eq!(path(&mut m, set_id, STAT, link, &[DATA]), 0);
    assert_eq!(path(&mut m, set_id, ACCESS, link, &[0]), EACCES);
}

/// A file is not written to while it runs, and does not run while it is written to; each process that runs it
/// counts.
#[test]
fn programs_that_run_are_not_written_to() {
    const O_WRONLY: u64 = 1;
    const O_TRUNC: u64 = 0o1000;
    const ETXTBSY: i64 = -26;
    let mut m = boot();
    let t = m.first();
    make(&mut m, t, "/program", &program(), 0, 0o755);
    let child = fork(&mut m, t);
    exec(&mut m, child, "/program");
    let other = fork(&mut m, child);
    for flags in [O_WRONLY, O_RDWR, O_TRUNC, O_WRONLY | O_CREAT] {
        assert_eq!(path(&mut m, t, OPEN, "/program", &[flags, 0]), ETXTBSY);
    }
    assert_eq!(path(&mut m, t, TRUNCATE, "/program", &[0]), ETXTBSY);
    let read = path(&mut m, t, OPEN, "/program", &[0, 0]);
    assert!(read >= 0);
    gone(&mut m, child, EXIT_GROUP, &[0]);
    assert_eq!(path(&mut m, t, OPEN, "/program", &[O_RDWR, 0]), ETXTBSY);
    gone(&mut m, other, EXIT_GROUP, &[0]);
    // It waits to be waited for, but runs no more.
    let written = path(&mut m, t, OPEN, "/program", &[O_RDWR, 0]);
    assert!(written >= 0);
    let child = fork(&mut m, t);
    assert_eq!(call(&mut m, t, CLOSE, &[written as u64]), 0);
    assert_eq!(path(&mut m, child, EXECVE, "/program", &[0, 0]), ETXTBSY);
    assert_eq!(call(&mut m, child, CLOSE, &[written as u64]), 0);
    exec(&mut m, child, "/program");
    assert_eq!(m.kernel.check(), Ok(()));
}

/// Who opened a file gives it a name, not who has got it from there or has become somebody else.
#[test]
fn open_files_get_names_from_who_opened_them() {
    const LINKAT: u64 = 265;
    const AT_EMPTY_PATH: u64 = 0x1000;
    const AT_FDCWD: u64 = -100i64 as u64;
    const SET_KEEPCAPS: u64 = 8;
    let mut m = boot();
    let t = m.first();
    assert_eq!(path(&mut m, t, MKDIR, "/d", &[0o777]), 0);
    assert_eq!(path(&mut m, t, CHMOD, "/d", &[0o777]), 0);
    let own = user(&mut m, t, [1000; 3]);
    let fd = path(&mut m, own, OPEN, "/d/f", &[O_RDWR | O_CREAT, 0o600]) as u64;
    let mut name = 0;
    let mut link = |m: &mut Guests, t: ThreadId| {
        name += 1;
        let new = poke(m, t, TEXT, format!("/d/l{name}\0").as_bytes());
        let none = poke(m, t, TEXT + 0x100, b"\0");
        call(m, t, LINKAT, &[fd, none, AT_FDCWD, new, AT_EMPTY_PATH])
    };
    assert_eq!(link(&mut m, own), 0);
    let other = thread(&mut m, own);
    assert_eq!(link(&mut m, other), 0);
    let child = fork(&mut m, own);
    assert_eq!(link(&mut m, child), ENOENT);
    assert_eq!(call(&mut m, own, PRCTL, &[SET_KEEPCAPS, 0, 0, 0, 0]), 0);
    assert_eq!(link(&mut m, own), ENOENT);
    assert_eq!(link(&mut m, other), 0);
}

/// `protected_regular` and `protected_fifos`: nobody opens to make what another user has put where all may
/// put something.
#[test]
fn files_of_others_in_sticky_directories_are_not_made_again() {
    const O_NONBLOCK: u64 = 0o4000;
    const FIFO: u64 = 0o10666;
    let mut m = boot();
    let t = m.first();
    for (dir, mode) in [("/sticky", 0o1777), ("/open", 0o777), ("/group", 0o1775)] {
        assert_eq!(path(&mut m, t, MKDIR, dir, &[0o777]), 0);
        assert_eq!(path(&mut m, t, CHMOD, dir, &[mode]), 0);
        for (name, owner) in [("theirs", 1000), ("roots", 0)] {
            let file = format!("{dir}/{name}");
            make(&mut m, t, &file, b"text", owner, 0o666);
            let fifo = format!("{dir}/{name}-fifo");
            assert_eq!(path(&mut m, t, MKNOD, &fifo, &[FIFO, 0]), 0);
            assert_eq!(path(&mut m, t, CHMOD, &fifo, &[0o666]), 0);
            assert_eq!(path(&mut m, t, CHOWN, &fifo, &[owner, owner]), 0);
        }
    }
    let own = user(&mut m, t, [1000; 3]);
    let other = user(&mut m, t, [1001; 3]);
    let flags = O_RDWR | O_CREAT | O_NONBLOCK;
    for kind in ["", "-fifo"] {
        for (dir, allowed) in [("/sticky", false), ("/open", true), ("/group", true)] {
            let theirs = format!("{dir}/theirs{kind}");
            assert!(path(&mut m, own, OPEN, &theirs, &[flags, 0]) >= 0);
            for who in [t, other] {
                let opened = path(&mut m, who, OPEN, &theirs, &[flags, 0]);
                assert_eq!(opened >= 0, allowed, "{theirs}: {opened}");
                assert!(allowed || opened == EACCES);
                let plain = [flags - O_CREAT, 0];
                assert!(path(&mut m, who, OPEN, &theirs, &plain) >= 0);
            }
            let roots = format!("{dir}/roots{kind}");
            assert!(path(&mut m, other, OPEN, &roots, &[flags, 0]) >= 0);
        }
    }
}

/// What tells of memory tells of the memory that was there when it was opened, and is not dumpable or is for
/// all who share it.
#[test]
fn files_of_memory_stay_with_it() {
    const CLONE_VM: u64 = 0x100;
    let mut m = boot();
    let t = m.first();
    make(&mut m, t, "/program", &program(), 0, 0o755);
    let child = fork(&mut m, t);
    let pid = call(&mut m, child, GETPID, &[]);
    let names = ["maps", "smaps", "environ", "io", "status"];
    let files = names.map(|name| {
        let file = format!("/proc/{pid}/{name}");
        path(&mut m, t, OPEN, &file, &[0, 0]) as u64
    });
    let [maps, _, _, io, status] = files;
    for fd in [maps, io, status] {
        assert!(call(&mut m, t, PREAD, &[fd, WORDS, 100, 0]) > 0);
    }
    exec(&mut m, child, "/program");
    for (name, fd) in names.iter().zip(files) {
        let read = call(&mut m, t, PREAD, &[fd, WORDS, 100, 0]);
        assert_eq!(read > 0, ["io", "status"].contains(name), "{name}: {read}");
    }
    // Who reads is asked, not who opened.
    let other = user(&mut m, t, [1000; 3]);
    assert_eq!(call(&mut m, other, PREAD, &[io, WORDS, 100, 0]), EACCES);
    assert!(call(&mut m, other, PREAD, &[status, WORDS, 100, 0]) > 0);
    let flags = CLONE_VM | SIGCHLD;
    assert!(call(&mut m, t, CLONE, &[flags, DATA, 0, 0, 0]) > 0);
    let sharer = *m.threads.keys().next_back().unwrap();
    assert_eq!(call(&mut m, sharer, PRCTL, &[SET_DUMPABLE, 0, 0, 0, 0]), 0);
    assert_eq!(call(&mut m, t, PRCTL, &[GET_DUMPABLE, 0, 0, 0, 0]), 0);
}

#[test]
fn the_lowest_addresses_need_a_privilege_and_a_host_that_has_them() {
    const PAGE: u64 = 4096;
    const MREMAP: u64 = 25;
    const PERSONALITY: u64 = 135;
    const MMAP_PAGE_ZERO: u64 = 0x0010_0000;
    const FIXED: u64 = 0x32;
    let map = |m: &mut Guests, t, at| call(m, t, MMAP, &[at, PAGE, 3, FIXED, u64::MAX, 0]);
    let mut m = privileged();
    let t = m.first();
    assert_eq!(map(&mut m, t, 0x1000), 0x1000);
    m.poke(t, 0x1000, b"low").unwrap();
    assert_eq!(map(&mut m, t, 0), 0);
    let flags = 3; // MREMAP_MAYMOVE | MREMAP_FIXED
    assert_eq!(
        call(&mut m, t, MREMAP, &[0x1000, PAGE, PAGE, flags, 0x2000]),
        0x2000
    );
    assert_eq!(m.peek(t, 0x2000, 3).unwrap(), b"low");
    // A wish is none for these.
    let wish = call(&mut m, t, MMAP, &[0x3000, PAGE, 3, 0x22, u64::MAX, 0]);
    assert_eq!(wish, 0x1_0000);
    let child = user(&mut m, t, [1000; 3]);
    assert_eq!(map(&mut m, child, 0x1000), EPERM);
    assert_eq!(
        call(&mut m, child, MREMAP, &[0x2000, PAGE, PAGE, flags, 0x1000]),
        EPERM
    );
    // A program that lies there, and one that asks for the first page.
    let mut low = program();
    let (entry, segment) = (24, 64 + 16);
    for at in [entry, segment, segment + 8] {
        let old = u64::from_le_bytes(low[at..at + 8].try_into().unwrap());
        low[at..at + 8].copy_from_slice(&(old % 0x1000 + 0x4000).to_le_bytes());
    }
    make(&mut m, t, "/low", &low, 0, 0o755);
    make(&mut m, t, "/program", &program(), 0, 0o755);
    let child = fork(&mut m, t);
    exec(&mut m, child, "/low");
    assert_eq!(m.threads[&child].regs.rip & !0xfff, 0x4000);
    let child = fork(&mut m, t);
    assert_eq!(call(&mut m, child, PERSONALITY, &[MMAP_PAGE_ZERO]), 0);
    exec(&mut m, child, "/program");
    assert_eq!(m.peek(child, 0, 4).unwrap(), [0; 4]);
    assert_eq!(call(&mut m, child, 11, &[0, PAGE]), EPERM, "it stays");
    let child = user(&mut m, t, [1000; 3]);
    assert_eq!(call(&mut m, child, PERSONALITY, &[MMAP_PAGE_ZERO]), 0);
    exec(&mut m, child, "/program");
    assert!(m.peek(child, 0, 4).is_err());

    // Where the host has none the privilege is worth nothing.
    let mut config = bare(empty_root());
    (config.capabilities, config.lowest_address) = (u64::MAX, 0x1_0000);
    let mut m = Machine::boot(config, MemHost::new(4096, Vec::new())).unwrap();
    let t = m.first();
    assert_eq!(map(&mut m, t, 0x1000), EPERM);
}
