//! Settings in `/proc/sys`: who may change them, what may be written, and that the kernel goes by them.

mod guest;

use guest::*;
use varve_core::machine::ThreadId;

const READ: u64 = 0;
const WRITE: u64 = 1;
const OPEN: u64 = 2;
const CLOSE: u64 = 3;
const MMAP: u64 = 9;
const MUNMAP: u64 = 11;
const ACCESS: u64 = 21;
const PIPE: u64 = 22;
const SOCKET: u64 = 41;
const SENDTO: u64 = 44;
const BIND: u64 = 49;
const GETSOCKOPT: u64 = 55;
const SETSOCKOPT: u64 = 54;
const FCNTL: u64 = 72;
const MKDIR: u64 = 83;
const LINK: u64 = 86;
const UNLINK: u64 = 87;
const SYMLINK: u64 = 88;
const CHMOD: u64 = 90;
const CHOWN: u64 = 92;
const SETRLIMIT: u64 = 160;
const MOUNT: u64 = 165;
const IO_SETUP: u64 = 206;
const INOTIFY_INIT: u64 = 253;
const INOTIFY_ADD_WATCH: u64 = 254;
const EPOLL_CREATE: u64 = 291;
const EPOLL_CTL: u64 = 233;
const EVENTFD: u64 = 284;
const UNSHARE: u64 = 272;
const PWRITE: u64 = 18;
const LSEEK: u64 = 8;
const O_WRONLY: u64 = 1;
const O_RDWR: u64 = 2;
const O_CREAT: u64 = 0o100;
const CLONE_NEWNET: u64 = 0x4000_0000;
const CLONE_NEWIPC: u64 = 0x0800_0000;
const PAGE: u64 = 4096;

const EPERM: i64 = -1;
const ENOMEM: i64 = -12;
const EACCES: i64 = -13;
const EAGAIN: i64 = -11;
const EINVAL: i64 = -22;
const ENFILE: i64 = -23;
const EMFILE: i64 = -24;
const ENOSPC: i64 = -28;
const EROFS: i64 = -30;
const ALL: u64 = (1 << 41) - 1;
const BUF: u64 = DATA + 0x1000;
const TEXT: u64 = DATA + 0x4000;

fn path(m: &mut Guests, t: ThreadId, number: u64, name: &str, args: &[u64]) -> i64 {
    m.poke(t, TEXT, &[name.as_bytes(), &[0]].concat()).unwrap();
    let args: Vec<u64> = [TEXT].into_iter().chain(args.iter().copied()).collect();
    call(m, t, number, &args)
}

/// The contents of a file, or the error.
fn read(m: &mut Guests, t: ThreadId, name: &str) -> Result<String, i64> {
    let fd = path(m, t, OPEN, name, &[0]);
    if fd < 0 {
        return Err(fd);
    }
    let len = call(m, t, READ, &[fd as u64, BUF, 0xf00]);
    call(m, t, CLOSE, &[fd as u64]);
    match len {
        0.. => Ok(String::from_utf8(m.peek(t, BUF, len as usize).unwrap()).unwrap()),
        errno => Err(errno),
    }
}

fn write(m: &mut Guests, t: ThreadId, name: &str, text: &str) -> i64 {
    let fd = path(m, t, OPEN, name, &[O_WRONLY]);
    if fd < 0 {
        return fd;
    }
    m.poke(t, BUF, text.as_bytes()).unwrap();
    let done = call(m, t, WRITE, &[fd as u64, BUF, text.len() as u64]);
    call(m, t, CLOSE, &[fd as u64]);
    done
}

/// Writes a setting, which shows it then.
fn set(m: &mut Guests, t: ThreadId, name: &str, value: &str) {
    let name = format!("/proc/sys/{name}");
    assert_eq!(write(m, t, &name, value), value.len() as i64, "{name}");
    assert_eq!(read(m, t, &name).unwrap(), format!("{value}\n"), "{name}");
}

/// A child with this user and group, without capabilities.
fn user(m: &mut Guests, t: ThreadId, number: u64) -> ThreadId {
    let child = fork(m, t);
    assert_eq!(call(m, child, SETGID, &[number]), 0);
    assert_eq!(call(m, child, SETRESUID, &[number; 3]), 0);
    child
}

/// A machine whose first process has these capabilities.
fn with_capabilities(capabilities: u64) -> Guests {
    let mut config = varve_core::memhost::bare(varve_core::memhost::empty_root());
    config.capabilities = capabilities;
    Guests::boot(config, varve_core::memhost::MemHost::new(4096, Vec::new())).unwrap()
}

#[test]
fn settings_are_written_by_those_who_may() {
    const ALL: u64 = (1 << 41) - 1;
    const SYS_ADMIN: u64 = 1 << 21;
    let settings = [
        "kernel/hostname",
        "kernel/msgmax",
        "fs/mqueue/msg_max",
        "vm/swappiness",
        "fs/nr_open",
    ];
    for (capabilities, results) in [
        (varve_core::boot::DEFAULT_CAPABILITIES, [EROFS; 5]),
        (
            varve_core::boot::DEFAULT_CAPABILITIES | SYS_ADMIN,
            [2, 2, 2, EROFS, EROFS],
        ),
        (ALL, [2, 2, 2, EINVAL, EINVAL]),
    ] {
        let mut m = with_capabilities(capabilities);
        let t = m.first();
        let written = settings.map(|name| write(&mut m, t, &format!("/proc/sys/{name}"), "20"));
        assert_eq!(written, results, "{capabilities:#x}");
        assert_eq!(write(&mut m, t, "/proc/sys/kernel/osrelease", "x"), EACCES);
        assert_eq!(write(&mut m, t, "/proc/sys/fs/file-nr", "1"), EACCES);
    }
    let mut m = with_capabilities(ALL);
    let t = m.first();
    let most = "/proc/sys/user/max_uts_namespaces";
    assert_eq!(write(&mut m, t, most, "1\n"), 2);
    assert_eq!(read(&mut m, t, most).unwrap(), "1\n");
    assert_eq!(call(&mut m, t, UNSHARE, &[CLONE_NEWUTS]), 0);
    assert_eq!(call(&mut m, t, UNSHARE, &[CLONE_NEWUTS]), ENOSPC);
    for text in ["-1", "2147483648", "x"] {
        assert_eq!(write(&mut m, t, most, text), EINVAL, "{text}");
    }
    let mut m = with_capabilities(ALL);
    let t = m.first();
    // What a setting is already can be written.
    let now = read(&mut m, t, "/proc/sys/vm/max_map_count").unwrap();
    assert_eq!(
        write(&mut m, t, "/proc/sys/vm/max_map_count", &now),
        now.len() as i64
    );
    for (name, text, result, shown) in [
        ("hostname", "abc\n", 4, "abc\n"),
        ("hostname", "ab\0c\n", 5, "ab\n"),
        ("domainname", "dom", 3, "dom\n"),
        ("msgmax", "8193\0", EINVAL, "8192\n"),
        ("msgmax", "-1", EINVAL, "8192\n"),
        ("msgmax", "1 2", 2, "1\n"),
        ("msgmax", " 5 ", 3, "5\n"),
        ("msgmax", "", 0, "5\n"),
        ("msgmax", "0x20", 4, "32\n"),
        ("sem", "100 200 30 40", 13, "100\t200\t30\t40\n"),
        ("sem", "101", 3, "101\t200\t30\t40\n"),
        ("sem", "1 2 3 4 5", 8, "1\t2\t3\t4\n"),
        (
            "shmmax",
            "18446744073709551615",
            20,
            "18446744073709551615\n",
        ),
        (
            "shmmax",
            "99999999999999999999999",
            EINVAL,
            "18446744073709551615\n",
        ),
        ("shmmni", "32769", EINVAL, "4096\n"),
        ("msgmni", "0", 1, "0\n"),
    ] {
        let path = format!("/proc/sys/kernel/{name}");
        assert_eq!(write(&mut m, t, &path, text), result, "{name} {text:?}");
        assert_eq!(read(&mut m, t, &path).unwrap(), shown, "{name} {text:?}");
    }
    assert_eq!(
        write(&mut m, t, "/proc/sys/kernel/sem", "100 200 30 40000"),
        -34
    );
}

#[test]
fn limits_of_a_namespace_bind() {
    const MSGGET: u64 = 68;
    const MSGSND: u64 = 69;
    const SEMGET: u64 = 64;
    const SHMGET: u64 = 29;
    let mut m = with_capabilities((1 << 41) - 1);
    let t = m.first();
    let other = fork(&mut m, t);
    assert_eq!(
        call(&mut m, other, UNSHARE, &[0x0800_0000]),
        0,
        "an IPC namespace of its own"
    );
    for (name, value) in [
        ("msgmax", "10"),
        ("msgmni", "1"),
        ("sem", "4 6 2 2"),
        ("shmmax", "4096"),
        ("shmmni", "1"),
    ] {
        write(&mut m, t, &format!("/proc/sys/kernel/{name}"), value);
    }
    let queue = call(&mut m, t, MSGGET, &[0, 0o1600]) as u64;
    assert_eq!(call(&mut m, t, MSGGET, &[0, 0o1600]), ENOSPC);
    m.poke(t, DATA, &1u64.to_le_bytes()).unwrap();
    assert_eq!(call(&mut m, t, MSGSND, &[queue, DATA, 10, 0]), 0);
    assert_eq!(call(&mut m, t, MSGSND, &[queue, DATA, 11, 0]), EINVAL);
    assert_eq!(call(&mut m, t, SEMGET, &[0, 5, 0o1600]), EINVAL);
    assert!(call(&mut m, t, SEMGET, &[0, 4, 0o1600]) >= 0);
    assert_eq!(call(&mut m, t, SEMGET, &[0, 4, 0o1600]), ENOSPC);
    assert_eq!(call(&mut m, t, SHMGET, &[0, 4097, 0o1600]), EINVAL);
    assert!(call(&mut m, t, SHMGET, &[0, 4096, 0o1600]) >= 0);
    assert_eq!(call(&mut m, t, SHMGET, &[0, 4096, 0o1600]), ENOSPC);
    for _ in 0..2 {
        assert!(
            call(&mut m, other, MSGGET, &[0, 0o1600]) >= 0,
            "others have their own limits"
        );
    }
    assert_eq!(
        read(&mut m, other, "/proc/sys/kernel/msgmax"),
        Ok("8192\n".into())
    );
}

#[test]
fn capabilities_do_not_overcome_the_permissions_of_settings() {
    const PRCTL: u64 = 157;
    const SET_KEEPCAPS: u64 = 8;
    const CAPSET: u64 = 126;
    let mut m = with_capabilities(ALL);
    let t = m.first();
    assert_eq!(path(&mut m, t, ACCESS, "/proc/sys/kernel/sem", &[2]), 0);
    let osrelease = "/proc/sys/kernel/osrelease";
    assert_eq!(path(&mut m, t, ACCESS, osrelease, &[2]), EACCES);
    assert_eq!(path(&mut m, t, ACCESS, osrelease, &[1]), EACCES);
    // A user with all capabilities: those over users and networks are asked for, others are root's.
    let child = fork(&mut m, t);
    assert_eq!(call(&mut m, child, PRCTL, &[SET_KEEPCAPS, 1]), 0);
    assert_eq!(call(&mut m, child, SETRESUID, &[7; 3]), 0);
    let words = [0x2008_0522u32, 0, !0, !0, 0, 0x1ff, 0x1ff, 0].map(u32::to_le_bytes);
    m.poke(child, BUF, &words.concat()).unwrap();
    assert_eq!(call(&mut m, child, CAPSET, &[BUF, BUF + 8]), 0);
    for (name, value, result) in [
        ("user/max_uts_namespaces", "9", 1),
        ("net/unix/max_dgram_qlen", "9", 1),
        ("kernel/pid_max", "400", 3),
        ("kernel/msgmax", "9", EACCES),
        ("kernel/hostname", "x", EACCES),
        ("vm/max_map_count", "9", EACCES),
    ] {
        let name = format!("/proc/sys/{name}");
        assert_eq!(write(&mut m, child, &name, value), result, "{name}");
    }
    // One without any may read them.
    let child = user(&mut m, t, 7);
    for name in [
        "user/max_uts_namespaces",
        "kernel/msgmax",
        "vm/max_map_count",
    ] {
        let name = format!("/proc/sys/{name}");
        assert_eq!(write(&mut m, child, &name, "9"), EACCES, "{name}");
        assert!(read(&mut m, child, &name).is_ok());
    }
}

#[test]
fn numbers_are_checked_as_linux_checks_them() {
    let mut m = with_capabilities(ALL);
    let t = m.first();
    for (name, text, result, shown) in [
        ("fs/protected_regular", "3", EINVAL, "1\n"),
        ("fs/protected_regular", "2 x", 2, "2\n"),
        ("fs/protected_symlinks", "-1", EINVAL, "1\n"),
        ("fs/pipe-max-size", "4097", 4, "8192\n"),
        ("fs/pipe-max-size", "0 and more", 10, "4096\n"),
        ("fs/pipe-max-size", "4294967295", EINVAL, "4096\n"),
        ("fs/pipe-max-size", "-1", EINVAL, "4096\n"),
        ("fs/nr_open", "63", EINVAL, "1048576\n"),
        (
            "fs/aio-max-nr",
            "18446744073709551615",
            20,
            "18446744073709551615\n",
        ),
        ("fs/aio-max-nr", "-0", EINVAL, "18446744073709551615\n"),
        ("fs/lease-break-time", "-5", 2, "-5\n"),
        ("kernel/pid_max", "300", EINVAL, "4194304\n"),
        ("kernel/pid_max", "4194305", EINVAL, "4194304\n"),
        ("kernel/threads-max", "0", EINVAL, "16384\n"),
        ("vm/overcommit_memory", "2", EINVAL, "0\n"),
        ("net/core/wmem_max", "4607", EINVAL, "212992\n"),
        ("net/core/somaxconn", "-1", EINVAL, "4096\n"),
        ("net/unix/max_dgram_qlen", "-5", 2, "-5\n"),
        ("fs/inotify/max_user_instances", "-1", EINVAL, "128\n"),
        ("user/max_net_namespaces", "  ", EINVAL, "4096\n"),
        ("user/max_net_namespaces", "", 0, "4096\n"),
        ("kernel/msgmax", "\n", EINVAL, "8192\n"),
        ("kernel/msgmax", "0X20", 4, "32\n"),
        ("kernel/msgmax", "08", EINVAL, "32\n"),
        ("kernel/sem", "1 x", EINVAL, "1\t1048576\t500\t32000\n"),
        (
            "kernel/sem",
            "300 400 20 99999",
            -34,
            "300\t400\t20\t32000\n",
        ),
    ] {
        let name = format!("/proc/sys/{name}");
        assert_eq!(write(&mut m, t, &name, text), result, "{name} {text:?}");
        assert_eq!(read(&mut m, t, &name).unwrap(), shown, "{name} {text:?}");
    }
    // Numbers are only written at the beginning.
    let fd = path(&mut m, t, OPEN, "/proc/sys/kernel/msgmax", &[O_RDWR]) as u64;
    m.poke(t, BUF, b"7").unwrap();
    assert_eq!(call(&mut m, t, PWRITE, &[fd, BUF, 1, 3]), 1);
    assert_eq!(call(&mut m, t, WRITE, &[fd, BUF, 1]), 1);
    assert_eq!(call(&mut m, t, WRITE, &[fd, BUF + 1, 1]), 1);
    assert_eq!(call(&mut m, t, LSEEK, &[fd, 0, 1]), 2);
    assert_eq!(read(&mut m, t, "/proc/sys/kernel/msgmax").unwrap(), "7\n");
    // The same goes for reading.
    assert_eq!(call(&mut m, t, READ, &[fd, BUF, 9]), 0);
    assert_eq!(call(&mut m, t, LSEEK, &[fd, 0, 0]), 0);
    assert_eq!(call(&mut m, t, READ, &[fd, BUF, 1]), 1);
    assert_eq!(call(&mut m, t, READ, &[fd, BUF, 9]), 0);
}

#[test]
fn settings_of_files_bind() {
    const GETFL_PIPE: u64 = 1032;
    const SETFL_PIPE: u64 = 1031;
    const SETLEASE: u64 = 1024;
    const NOTIFY: u64 = 1026;
    const NOFILE: u64 = 7;
    let mut m = with_capabilities(ALL);
    let t = m.first();
    let child = user(&mut m, t, 7);
    let pipe = |m: &mut Guests, t| match call(m, t, PIPE, &[BUF]) {
        0 => Ok(u64::from(word(m, t, BUF))),
        errno => Err(errno),
    };
    let size = |m: &mut Guests, t, fd| call(m, t, FCNTL, &[fd, GETFL_PIPE]);
    let first = pipe(&mut m, child).unwrap();
    set(&mut m, t, "fs/pipe-max-size", "8192");
    assert_eq!(
        call(&mut m, child, FCNTL, &[first, SETFL_PIPE, 16384]),
        16384
    );
    assert_eq!(
        call(&mut m, child, FCNTL, &[first, SETFL_PIPE, 32768]),
        EPERM
    );
    let second = pipe(&mut m, child).unwrap();
    assert_eq!(size(&mut m, child, second), 8192);
    let large = pipe(&mut m, t).unwrap();
    assert_eq!(size(&mut m, t, large), 65536);
    // The user has six pages of pipes now.
    set(&mut m, t, "fs/pipe-max-size", "65536");
    set(&mut m, t, "fs/pipe-user-pages-soft", "20");
    assert_eq!(
        call(&mut m, child, FCNTL, &[first, SETFL_PIPE, 1 << 16]),
        1 << 16
    );
    assert_eq!(
        call(&mut m, child, FCNTL, &[second, SETFL_PIPE, 1 << 16]),
        EPERM
    );
    let small = pipe(&mut m, child).unwrap();
    assert_eq!(size(&mut m, child, small), 8192);
    set(&mut m, t, "fs/pipe-user-pages-hard", "20");
    assert_eq!(pipe(&mut m, child), Err(ENFILE));
    assert!(pipe(&mut m, t).is_ok());

    set(&mut m, t, "fs/nr_open", "64");
    m.poke(t, BUF, &[65u64, 65].map(u64::to_le_bytes).concat())
        .unwrap();
    assert_eq!(call(&mut m, t, SETRLIMIT, &[NOFILE, BUF]), EPERM);
    assert_eq!(call(&mut m, t, FCNTL, &[0, 0, 63]), 63);
    assert_eq!(call(&mut m, t, FCNTL, &[0, 0, 64]), EINVAL);
    assert_eq!(call(&mut m, t, CLOSE, &[63]), 0);

    set(&mut m, t, "fs/leases-enable", "0");
    set(&mut m, t, "fs/dir-notify-enable", "0");
    let file = path(&mut m, t, OPEN, "/leased", &[O_RDWR | O_CREAT, 0o666]) as u64;
    assert_eq!(call(&mut m, t, FCNTL, &[file, SETLEASE, 1]), EINVAL);
    let root = path(&mut m, t, OPEN, "/", &[0]) as u64;
    assert_eq!(call(&mut m, t, FCNTL, &[root, NOTIFY, 1]), EINVAL);
    set(&mut m, t, "fs/leases-enable", "1");
    assert_eq!(call(&mut m, t, FCNTL, &[file, SETLEASE, 1]), 0);

    set(&mut m, t, "fs/aio-max-nr", "10");
    m.poke(t, BUF, &[0; 8]).unwrap();
    assert_eq!(call(&mut m, t, IO_SETUP, &[11, BUF]), EAGAIN);
    assert_eq!(call(&mut m, t, IO_SETUP, &[10, BUF]), 0);

    let count = read(&mut m, t, "/proc/self/mounts")
        .unwrap()
        .lines()
        .count();
    set(&mut m, t, "fs/mount-max", &count.to_string());
    assert_eq!(path(&mut m, t, MKDIR, "/at", &[0o755]), 0);
    m.poke(t, BUF, b"tmpfs\0").unwrap();
    m.poke(t, BUF + 16, b"/at\0").unwrap();
    assert_eq!(call(&mut m, t, MOUNT, &[BUF, BUF + 16, BUF, 0, 0]), ENOSPC);
    set(&mut m, t, "fs/mount-max", "200");
    m.poke(t, BUF, b"tmpfs\0").unwrap();
    m.poke(t, BUF + 16, b"/at\0").unwrap();
    assert_eq!(call(&mut m, t, MOUNT, &[BUF, BUF + 16, BUF, 0, 0]), 0);

    set(&mut m, t, "fs/epoll/max_user_watches", "0");
    let epoll = call(&mut m, t, EPOLL_CREATE, &[0]) as u64;
    let event = call(&mut m, t, EVENTFD, &[0]) as u64;
    assert_eq!(call(&mut m, t, EPOLL_CTL, &[epoll, 1, event, BUF]), ENOSPC);
}

#[test]
fn what_lies_in_sticky_directories_is_protected_as_set() {
    let mut m = with_capabilities(ALL);
    let t = m.first();
    assert_eq!(path(&mut m, t, MKDIR, "/all", &[0o755]), 0);
    assert_eq!(path(&mut m, t, CHMOD, "/all", &[0o1777]), 0);
    assert_eq!(path(&mut m, t, CHOWN, "/all", &[5, 5]), 0);
    let (one, other) = (user(&mut m, t, 7), user(&mut m, t, 8));
    let fd = path(&mut m, one, OPEN, "/all/file", &[O_RDWR | O_CREAT, 0o666]);
    assert!(fd >= 0);
    assert_eq!(path(&mut m, one, CHMOD, "/all/file", &[0o666]), 0);
    m.poke(one, BUF, b"/all/link\0").unwrap();
    assert_eq!(path(&mut m, one, SYMLINK, "file", &[BUF]), 0);
    let create = |m: &mut Guests| path(m, other, OPEN, "/all/file", &[O_RDWR | O_CREAT, 0o666]);
    let follow = |m: &mut Guests| path(m, other, OPEN, "/all/link", &[O_RDWR]);
    let link = |m: &mut Guests, t| {
        m.poke(t, BUF, b"/all/other\0").unwrap();
        let result = path(m, t, LINK, "/all/file", &[BUF]);
        path(m, one, UNLINK, "/all/other", &[]);
        result
    };
    assert_eq!((create(&mut m), follow(&mut m)), (EACCES, EACCES));
    set(&mut m, t, "fs/protected_regular", "0");
    set(&mut m, t, "fs/protected_symlinks", "0");
    assert!(create(&mut m) >= 0 && follow(&mut m) >= 0);
    // A directory that only its group may write.
    set(&mut m, t, "fs/protected_regular", "1");
    assert_eq!(path(&mut m, t, CHMOD, "/all", &[0o1775]), 0);
    assert!(create(&mut m) >= 0);
    set(&mut m, t, "fs/protected_regular", "2");
    assert_eq!(create(&mut m), EACCES);
    assert_eq!(path(&mut m, t, CHMOD, "/all", &[0o1777]), 0);
    assert_eq!(path(&mut m, one, CHMOD, "/all/file", &[0o600]), 0);
    assert_eq!(link(&mut m, other), EPERM);
    set(&mut m, t, "fs/protected_hardlinks", "0");
    assert_eq!(link(&mut m, other), 0);
}

#[test]
fn settings_of_processes_bind() {
    let mut m = with_capabilities(ALL);
    let t = m.first();
    // Numbers of tasks, in each PID namespace of its own.
    let child = fork(&mut m, t);
    assert_eq!(call(&mut m, child, UNSHARE, &[CLONE_NEWPID]), 0);
    let inner = fork(&mut m, child);
    set(&mut m, inner, "kernel/pid_max", "302");
    let limit = "/proc/sys/kernel/pid_max";
    assert_eq!(read(&mut m, t, limit).unwrap(), "4194304\n");
    let mut numbers = Vec::new();
    let failed = loop {
        match call(&mut m, inner, FORK, &[]) {
            number @ 1.. => numbers.push(number),
            errno => break errno,
        }
    };
    assert_eq!((failed, numbers.last().copied()), (EAGAIN, Some(301)));
    assert_eq!(numbers.len(), 300);
    assert!(call(&mut m, t, FORK, &[]) > 0, "others have numbers");

    let mut m = with_capabilities(ALL);
    let t = m.first();
    set(&mut m, t, "kernel/threads-max", "2");
    fork(&mut m, t);
    assert_eq!(call(&mut m, t, FORK, &[]), EAGAIN);
    set(&mut m, t, "kernel/threads-max", "1000000");
    fork(&mut m, t);

    set(&mut m, t, "vm/max_map_count", "0");
    assert_eq!(call(&mut m, t, MMAP, &[0, PAGE, 3, 0x22, ANY, 0]), ENOMEM);
    set(&mut m, t, "vm/max_map_count", "200000");
    let huge = 1 << 40;
    assert_eq!(call(&mut m, t, MMAP, &[0, huge, 3, 0x22, ANY, 0]), ENOMEM);
    set(&mut m, t, "vm/overcommit_memory", "1");
    let at = call(&mut m, t, MMAP, &[0, huge, 3, 0x22, ANY, 0]);
    assert!(at > 0);
    assert_eq!(call(&mut m, t, MUNMAP, &[at as u64, huge]), 0);

    set(&mut m, t, "kernel/overflowuid", "60000");
    set(&mut m, t, "kernel/overflowgid", "60001");
    let child = fork(&mut m, t);
    assert_eq!(call(&mut m, child, UNSHARE, &[CLONE_NEWUSER]), 0);
    assert_eq!(call(&mut m, child, GETUID, &[]), 60000);
    assert_eq!(call(&mut m, child, 104, &[]), 60001);
}

#[test]
fn programs_are_placed_as_set() {
    const EXECVE: u64 = 59;
    const PERSONALITY: u64 = 135;
    const COMPAT_LAYOUT: u64 = 0x0020_0000;
    let mut m = with_capabilities(ALL);
    let t = m.first();
    let fd = path(&mut m, t, OPEN, "/program", &[O_RDWR | O_CREAT, 0o755]) as u64;
    m.poke(t, DATA, &program()).unwrap();
    let len = program().len() as u64;
    assert_eq!(call(&mut m, t, WRITE, &[fd, DATA, len]), len as i64);
    assert_eq!(call(&mut m, t, CLOSE, &[fd]), 0);
    // Where a program finds its stack and a new mapping.
    let places = |m: &mut Guests, of: ThreadId| {
        let child = fork(m, of);
        assert_eq!(path(m, child, EXECVE, "/program", &[0, 0]), 0);
        let stack = m.threads[&child].regs.rsp;
        let first = call(m, child, MMAP, &[0, PAGE, 3, 0x22, ANY, 0]) as u64;
        let second = call(m, child, MMAP, &[0, PAGE, 1, 0x22, ANY, 0]) as u64;
        gone(m, child, EXIT_GROUP, &[0]);
        (stack, first, second)
    };
    assert_ne!(places(&mut m, t), places(&mut m, t));
    set(&mut m, t, "kernel/randomize_va_space", "0");
    let fixed = places(&mut m, t);
    assert_eq!(fixed, places(&mut m, t));
    assert!(fixed.1 > fixed.2, "from above");
    let from_below = |(stack, first, second): (u64, u64, u64)| {
        assert_eq!((stack, second), (fixed.0, first + PAGE));
        assert_eq!(first >> 40, 0x2a, "{first:#x}");
    };
    set(&mut m, t, "vm/legacy_va_layout", "1");
    from_below(places(&mut m, t));
    set(&mut m, t, "vm/legacy_va_layout", "0");
    let child = fork(&mut m, t);
    assert_eq!(call(&mut m, child, PERSONALITY, &[COMPAT_LAYOUT]), 0);
    from_below(places(&mut m, child));
    // Any other bits are kept, too.
    let all = 0x7fff_ffff;
    assert_eq!(call(&mut m, t, PERSONALITY, &[all]), 0);
    assert_eq!(call(&mut m, t, PERSONALITY, &[0xffff_ffff]), all as i64);
}

#[test]
fn settings_of_sockets_bind() {
    const SNDBUF: u64 = 7;
    const RCVBUF: u64 = 8;
    const DONTWAIT: u64 = 0x40;
    let mut m = with_capabilities(ALL);
    let t = m.first();
    let option = |m: &mut Guests, socket, option| {
        m.poke(t, BUF + 8, &4u32.to_le_bytes()).unwrap();
        assert_eq!(
            call(m, t, GETSOCKOPT, &[socket, 1, option, BUF, BUF + 8]),
            0
        );
        word(m, t, BUF)
    };
    set(&mut m, t, "net/core/wmem_default", "5000");
    set(&mut m, t, "net/core/rmem_default", "6000");
    set(&mut m, t, "net/core/wmem_max", "7000");
    set(&mut m, t, "net/core/rmem_max", "2147483647");
    let socket = call(&mut m, t, SOCKET, &[1, 2, 0]) as u64;
    assert_eq!(option(&mut m, socket, SNDBUF), 5000);
    assert_eq!(option(&mut m, socket, RCVBUF), 6000);
    m.poke(t, BUF, &i32::MAX.to_le_bytes()).unwrap();
    assert_eq!(call(&mut m, t, SETSOCKOPT, &[socket, 1, SNDBUF, BUF, 4]), 0);
    assert_eq!(option(&mut m, socket, SNDBUF), 14000);
    m.poke(t, BUF, &i32::MAX.to_le_bytes()).unwrap();
    assert_eq!(call(&mut m, t, SETSOCKOPT, &[socket, 1, RCVBUF, BUF, 4]), 0);
    assert_eq!(option(&mut m, socket, RCVBUF), i32::MAX as u32 - 1);

    set(&mut m, t, "net/core/wmem_default", "212992");
    // How many datagrams a socket takes, less one.
    let other = fork(&mut m, t);
    assert_eq!(call(&mut m, other, UNSHARE, &[CLONE_NEWNET]), 0);
    set(&mut m, other, "net/unix/max_dgram_qlen", "3");
    for (of, most) in [(t, 11), (other, 4)] {
        let [target, source] = [0; 2].map(|_| call(&mut m, of, SOCKET, &[1, 2, 0]) as u64);
        m.poke(of, BUF, b"\x01\0\0name").unwrap();
        assert_eq!(call(&mut m, of, BIND, &[target, BUF, 7]), 0);
        let mut count = 0;
        while call(&mut m, of, SENDTO, &[source, BUF, 1, DONTWAIT, BUF, 7]) == 1 {
            count += 1;
        }
        assert_eq!(count, most);
    }
    let somaxconn = "/proc/sys/net/core/somaxconn";
    assert_eq!(write(&mut m, other, somaxconn, "1"), 1);
    assert_eq!(read(&mut m, t, somaxconn).unwrap(), "4096\n");
}

#[test]
fn each_user_has_namespaces_and_watches_of_their_own() {
    let mut m = with_capabilities(ALL);
    let t = m.first();
    set(&mut m, t, "user/max_uts_namespaces", "2");
    set(&mut m, t, "user/max_user_namespaces", "3");
    set(&mut m, t, "user/max_ipc_namespaces", "1");
    // Two users have what they have, each.
    let (one, other) = (user(&mut m, t, 7), user(&mut m, t, 8));
    for child in [one, other] {
        assert_eq!(call(&mut m, child, UNSHARE, &[CLONE_NEWUSER]), 0);
        let most = "/proc/sys/user/max_uts_namespaces";
        assert_eq!(read(&mut m, child, most).unwrap(), "2147483647\n");
        // What it has below counts for it above.
        let [first, second] = [0; 2].map(|_| fork(&mut m, child));
        assert_eq!(call(&mut m, first, UNSHARE, &[CLONE_NEWUTS]), 0);
        assert_eq!(call(&mut m, second, UNSHARE, &[CLONE_NEWUTS]), 0);
        let third = fork(&mut m, child);
        assert_eq!(call(&mut m, third, UNSHARE, &[CLONE_NEWUTS]), ENOSPC);
        gone(&mut m, second, EXIT_GROUP, &[0]);
        assert_eq!(call(&mut m, third, UNSHARE, &[CLONE_NEWUTS]), 0);
        // A limit of one's own, and then those above.
        assert_eq!(
            write(&mut m, child, "/proc/sys/user/max_ipc_namespaces", "0"),
            1
        );
        assert_eq!(call(&mut m, child, UNSHARE, &[CLONE_NEWIPC]), ENOSPC);
        assert_eq!(
            write(&mut m, child, "/proc/sys/user/max_ipc_namespaces", "5"),
            1
        );
        assert_eq!(call(&mut m, child, UNSHARE, &[CLONE_NEWIPC]), 0);
        assert_eq!(call(&mut m, first, UNSHARE, &[CLONE_NEWIPC]), ENOSPC);
    }
    // Namespaces of users count in the parent, as deep as they are.
    assert_eq!(
        call(&mut m, one, UNSHARE, &[CLONE_NEWUSER]),
        EPERM,
        "no number there"
    );
    for result in [0, 0, 0, ENOSPC] {
        let child = user(&mut m, t, 9);
        assert_eq!(call(&mut m, child, UNSHARE, &[CLONE_NEWUSER]), result);
    }

    set(&mut m, t, "fs/inotify/max_user_instances", "1");
    set(&mut m, t, "fs/inotify/max_user_watches", "1");
    set(&mut m, t, "fs/inotify/max_queued_events", "1");
    for number in [10, 11] {
        let child = user(&mut m, t, number);
        let fd = call(&mut m, child, INOTIFY_INIT, &[]) as u64;
        assert_eq!(call(&mut m, child, INOTIFY_INIT, &[]), EMFILE);
        assert_eq!(call(&mut m, child, UNSHARE, &[CLONE_NEWUSER]), 0);
        assert_eq!(
            call(&mut m, child, INOTIFY_INIT, &[]),
            EMFILE,
            "by another name"
        );
        m.poke(child, BUF, b"/proc\0/\0").unwrap();
        assert_eq!(call(&mut m, child, INOTIFY_ADD_WATCH, &[fd, BUF, 0x100]), 1);
        assert_eq!(
            call(&mut m, child, INOTIFY_ADD_WATCH, &[fd, BUF + 6, 0x100]),
            ENOSPC
        );
        assert_eq!(call(&mut m, child, CLOSE, &[fd]), 0);
        assert!(call(&mut m, child, INOTIFY_INIT, &[]) > 0);
    }
    let fd = call(&mut m, t, INOTIFY_INIT, &[]) as u64;
    m.poke(t, BUF, b"/\0").unwrap();
    assert_eq!(call(&mut m, t, INOTIFY_ADD_WATCH, &[fd, BUF, 0x100]), 1);
    for name in ["/a", "/b", "/c"] {
        assert_eq!(path(&mut m, t, MKDIR, name, &[0o755]), 0);
    }
    let len = call(&mut m, t, READ, &[fd, BUF, 0x800]);
    assert_eq!(
        len,
        32 + 16,
        "an event with a name, and that there were more"
    );
}

#[test]
fn memory_files_are_executed_as_set() {
    const MEMFD_CREATE: u64 = 319;
    const GET_SEALS: u64 = 1034;
    const NOEXEC_SEAL: u64 = 8;
    const EXEC: u64 = 16;
    let mut m = with_capabilities(ALL);
    let t = m.first();
    let create = |m: &mut Guests, t, flags| {
        m.poke(t, BUF, b"name\0").unwrap();
        match call(m, t, MEMFD_CREATE, &[BUF, flags]) {
            fd @ 0.. => call(m, t, FCNTL, &[fd as u64, GET_SEALS]),
            errno => errno,
        }
    };
    let all = |m: &mut Guests, t| [0, EXEC, NOEXEC_SEAL].map(|flags| create(m, t, flags));
    assert_eq!(all(&mut m, t), [1, 1, 32]);
    let noexec = "/proc/sys/vm/memfd_noexec";
    set(&mut m, t, "vm/memfd_noexec", "1");
    assert_eq!(all(&mut m, t), [32, 1, 32]);
    // A namespace below has as much, and lets no more.
    assert_eq!(call(&mut m, t, UNSHARE, &[CLONE_NEWPID]), 0);
    let inner = fork(&mut m, t);
    assert_eq!(read(&mut m, inner, noexec).unwrap(), "1\n");
    assert_eq!(write(&mut m, inner, noexec, "0"), EINVAL);
    assert_eq!(write(&mut m, inner, noexec, "3"), EINVAL);
    set(&mut m, inner, "vm/memfd_noexec", "2");
    assert_eq!(all(&mut m, inner), [32, EACCES, 32]);
    assert_eq!(all(&mut m, t), [32, 1, 32]);
    set(&mut m, t, "vm/memfd_noexec", "0");
    assert_eq!(read(&mut m, inner, noexec).unwrap(), "2\n");
    let child = user(&mut m, t, 7);
    assert_eq!(write(&mut m, child, noexec, "1"), EACCES);
}

#[test]
fn programs_with_other_rights_are_open_as_set() {
    const EXECVE: u64 = 59;
    const PRCTL: u64 = 157;
    const GET_DUMPABLE: u64 = 3;
    let mut m = with_capabilities(ALL);
    let t = m.first();
    let fd = path(&mut m, t, OPEN, "/program", &[O_RDWR | O_CREAT, 0o755]) as u64;
    m.poke(t, DATA, &program()).unwrap();
    let len = program().len() as u64;
    assert_eq!(call(&mut m, t, WRITE, &[fd, DATA, len]), len as i64);
    assert_eq!(call(&mut m, t, CLOSE, &[fd]), 0);
    assert_eq!(path(&mut m, t, CHMOD, "/program", &[0o4755]), 0);
    for value in [0, 1, 2] {
        set(&mut m, t, "fs/suid_dumpable", &value.to_string());
        let child = user(&mut m, t, 7);
        let dumpable = |m: &mut Guests| call(m, child, PRCTL, &[GET_DUMPABLE]);
        assert_eq!(dumpable(&mut m), value, "it has become another user");
        assert_eq!(path(&mut m, child, EXECVE, "/program", &[0, 0]), 0);
        assert_eq!(dumpable(&mut m), value);
        gone(&mut m, child, EXIT_GROUP, &[0]);
        assert_eq!(call(&mut m, t, PRCTL, &[GET_DUMPABLE]), 1);
    }
}

#[test]
fn segments_go_with_the_last_process_as_set() {
    const SHMGET: u64 = 29;
    const SHMAT: u64 = 30;
    const SHMCTL: u64 = 31;
    const SHMDT: u64 = 67;
    const STAT: u64 = 2;
    let mut m = with_capabilities(ALL);
    let t = m.first();
    let make = |m: &mut Guests, t| call(m, t, SHMGET, &[0, PAGE, 0o1600]) as u64;
    let there = |m: &mut Guests, id| call(m, t, SHMCTL, &[id, STAT, BUF]) == 0;
    let attach = |m: &mut Guests, t, id| call(m, t, SHMAT, &[id, 0, 0]) as u64;
    let child = fork(&mut m, t);
    let (own, left, attached) = (make(&mut m, t), make(&mut m, child), make(&mut m, child));
    let at = attach(&mut m, t, attached);
    gone(&mut m, child, EXIT_GROUP, &[0]);
    assert!([own, left, attached].map(|id| there(&mut m, id)) == [true; 3]);
    // It looks at those that are there.
    set(&mut m, t, "kernel/shm_rmid_forced", "1");
    assert_eq!(
        [own, left, attached].map(|id| there(&mut m, id)),
        [true, false, true]
    );
    assert_eq!(call(&mut m, t, SHMDT, &[at]), 0);
    assert!(!there(&mut m, attached));
    // One that somebody detaches goes even if its maker is there; one that nobody was attached to does with
    // its maker.
    let at = attach(&mut m, t, own);
    assert_eq!(call(&mut m, t, SHMDT, &[at]), 0);
    assert!(!there(&mut m, own));
    let child = fork(&mut m, t);
    let (left, attached) = (make(&mut m, child), make(&mut m, child));
    attach(&mut m, child, attached);
    gone(&mut m, child, EXIT_GROUP, &[0]);
    assert_eq!([left, attached].map(|id| there(&mut m, id)), [false; 2]);
}

#[test]
fn many_segments_go_in_pieces() {
    const SHMGET: u64 = 29;
    let mut m = with_capabilities(ALL);
    let t = m.first();
    let child = fork(&mut m, t);
    for _ in 0..600 {
        assert!(call(&mut m, child, SHMGET, &[0, PAGE, 0o1600]) >= 0);
    }
    m.tick = 0;
    m.call(child, EXIT_GROUP, &[0]);
    assert!(steps::until_idle(&mut m) < steps::MOST);
    let name = path(
        &mut m,
        t,
        OPEN,
        "/proc/sys/kernel/shm_rmid_forced",
        &[O_WRONLY],
    ) as u64;
    m.poke(t, BUF, b"1").unwrap();
    let finished = steps::call_in_pieces(&mut m, t, WRITE, &[name, BUF, 1]);
    assert_eq!(finished.result, 1);
    assert!(finished.most < steps::MOST, "{}", finished.most);
    assert!(call(&mut m, t, SHMGET, &[0, PAGE, 0o1600]) >= 0);
}

/// However much a setting allows: what is copied or looked through at once has a bound.
#[test]
fn the_kernel_has_bounds_of_its_own() {
    const EFAULT: i64 = -14;
    const ENOBUFS: i64 = -105;
    const EAGAIN: i64 = -11;
    const MSGSND: u64 = 69;
    const NOWAIT: u64 = 0o4000;
    const LONGEST: u64 = 1 << 20;
    const COUNT: u64 = 65536;
    let mut m = with_capabilities(ALL);
    let t = m.first();
    for (name, value) in [
        ("msgmax", "2147483647"),
        ("msgmnb", "2147483647"),
        ("sem", "2147483647 2147483647"),
    ] {
        let path = format!("/proc/sys/kernel/{name}");
        assert_eq!(write(&mut m, t, &path, value), value.len() as i64);
    }
    // There is not as much memory, so that nothing is sent.
    m.poke(t, DATA, &1u64.to_le_bytes()).unwrap();
    let queue = call(&mut m, t, 68, &[0, 0o1600]) as u64;
    let mut send = |len| m.call(t, MSGSND, &[queue, DATA, len, NOWAIT]).unwrap();
    assert_eq!(send(LONGEST), EFAULT);
    assert_eq!(send(LONGEST + 1), EINVAL);
    for number in 0..COUNT {
        assert_eq!(send(0), 0, "{number}");
    }
    assert_eq!(send(0), EAGAIN);
    assert_eq!(call(&mut m, t, 64, &[0, 32001, 0o1600]), EINVAL);
    assert!(call(&mut m, t, 64, &[0, 32000, 0o1600]) >= 0);

    const DATAGRAM_MAX: u64 = 4_263_616;
    m.poke(t, DATA, &(64u32 << 20).to_le_bytes()).unwrap();
    assert_eq!(call(&mut m, t, 53, &[1, 2, 0, DATA + 8]), 0);
    let pair = m.peek(t, DATA + 8, 8).unwrap();
    let from = u64::from(pair[0]);
    assert_eq!(call(&mut m, t, 54, &[from, 1, 32, DATA, 4]), 0);
    let mut send = |len| call(&mut m, t, 44, &[from, DATA, len, 0, 0, 0]);
    assert_eq!(send(DATAGRAM_MAX), EFAULT);
    assert_eq!(send(DATAGRAM_MAX + 1), ENOBUFS);
}

/// Who may not open a setting does not write to it through what somebody else has opened.
#[test]
fn rights_are_asked_for_at_each_write() {
    const RDWR: u64 = 2;
    const EPERM: i64 = -1;
    let name = b"/proc/sys/kernel/msgmax\0";
    let mut m = with_capabilities(ALL);
    let t = m.first();
    m.poke(t, DATA, name).unwrap();
    let fd = call(&mut m, t, 2, &[DATA, RDWR, 0]) as u64;
    m.poke(t, DATA, b"100").unwrap();
    assert_eq!(call(&mut m, t, 1, &[fd, DATA, 3]), 3);
    assert_eq!(call(&mut m, t, 119, &[1, 1, 1]), 0);
    assert_eq!(call(&mut m, t, 117, &[1, 1, 1]), 0);
    for len in [0, 3] {
        assert_eq!(call(&mut m, t, 18, &[fd, DATA, len, 0]), EPERM);
    }
    assert_eq!(call(&mut m, t, 17, &[fd, DATA, 9, 0]), 4);
    // A namespace without a root is as that of the first one.
    let mut m = boot();
    let t = m.first();
    let kinds = CLONE_NEWUSER | 0x0800_0000;
    assert_eq!(call(&mut m, t, UNSHARE, &[kinds]), 0);
    m.poke(t, DATA, name).unwrap();
    assert!(call(&mut m, t, 2, &[DATA, RDWR, 0]) >= 0);
}
