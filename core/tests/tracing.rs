//! Lines of strace, on the in-memory host: as strace(1) writes them.

mod guest;

use guest::*;
use varve_core::boot::{BootConfig, Strace};
use varve_core::machine::ThreadId;
use varve_core::memhost::{MemHost, bare, empty_root};
use varve_core::syscall::{CallSet, TABLE};

const AT_FDCWD: u64 = -100i64 as u64;
const PATH: u64 = DATA;
const NAME: u64 = DATA + 0x80;
const BUF: u64 = DATA + 0x100;
const OUT: u64 = DATA + 0x400;
const MORE: u64 = DATA + 0x800;

fn number(name: &str) -> u64 {
    let entry = TABLE.iter().find(|entry| entry.name == name);
    entry.expect("a known call").number
}

fn traced(strace: Strace) -> Guests {
    let config = BootConfig {
        strace: Some(strace),
        ..bare(empty_root())
    };
    Guests::boot(config, MemHost::new(4096, Vec::new())).unwrap()
}

fn words(m: &mut Guests, t: ThreadId, at: u64, words: &[u64]) {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    m.poke(t, at, &bytes).unwrap();
}

/// The last line without its number, with one blank before the result.
fn last(m: &Guests) -> String {
    let line = m.lines.last().expect("a line");
    let line = line.split_once("] ").expect("a thread").1;
    match line.split_once(" = ") {
        Some((call, result)) => format!("{} = {result}", call.trim_end()),
        None => line.to_owned(),
    }
}

/// Makes a call and compares its line, in which `@` stands for an address.
#[track_caller]
fn shows(m: &mut Guests, t: ThreadId, name: &str, args: &[u64], expected: &str) {
    call(m, t, number(name), args);
    let line = last(m);
    let mut shown = String::new();
    let mut rest = line.as_str();
    while let Some((before, after)) = rest.split_once("0x") {
        let end = after
            .find(|c: char| !c.is_ascii_hexdigit())
            .unwrap_or(after.len());
        shown += before;
        match end > 4 {
            true => shown += "@",
            false => shown += &format!("0x{}", &after[..end]),
        }
        rest = &after[end..];
    }
    shown += rest;
    assert_eq!(shown, expected);
}

#[test]
fn calls_are_shown_as_strace_shows_them() {
    let mut m = traced(Strace::default());
    let t = m.first();
    let m = &mut m;
    m.poke(t, PATH, b"/nothing\0").unwrap();
    m.poke(t, NAME, b"/file\0").unwrap();
    let cloexec = 0o2000000;
    shows(
        m,
        t,
        "openat",
        &[AT_FDCWD, PATH, cloexec, 0],
        "openat(AT_FDCWD, \"/nothing\", O_RDONLY|O_CLOEXEC) = -1 ENOENT (No such file or directory)",
    );
    shows(
        m,
        t,
        "openat",
        &[AT_FDCWD, NAME, 0o102, 0o644],
        "openat(AT_FDCWD, \"/file\", O_RDWR|O_CREAT, 0644) = 3",
    );
    m.poke(
        t,
        BUF,
        b"one\n\0two\x1b7 and more than thirty-two bytes of it",
    )
    .unwrap();
    shows(
        m,
        t,
        "write",
        &[3, BUF, 10],
        "write(3, \"one\\n\\0two\\0337\", 10) = 10",
    );
    shows(
        m,
        t,
        "write",
        &[3, BUF, 45],
        "write(3, \"one\\n\\0two\\0337 and more than thirty-\"..., 45) = 45",
    );
    shows(
        m,
        t,
        "write",
        &[9, BUF, 3],
        "write(9, \"one\", 3) = -1 EBADF (Bad file descriptor)",
    );
    shows(
        m,
        t,
        "pread64",
        &[3, OUT, 4, 0],
        "pread64(3, \"one\\n\", 4, 0) = 4",
    );
    shows(m, t, "lseek", &[3, 0, 2], "lseek(3, 0, SEEK_END) = 55");
    shows(
        m,
        t,
        "fstat",
        &[3, OUT],
        "fstat(3, {st_mode=S_IFREG|0644, st_size=55, ...}) = 0",
    );
    shows(
        m,
        t,
        "newfstatat",
        &[AT_FDCWD, PATH, OUT, 0x100],
        "newfstatat(AT_FDCWD, \"/nothing\", @, AT_SYMLINK_NOFOLLOW) = -1 ENOENT (No such file or directory)",
    );
    call(m, t, number("statx"), &[AT_FDCWD, NAME, 0, 0x7ff, OUT]);
    let line = last(m);
    let begin =
        "statx(AT_FDCWD, \"/file\", AT_STATX_SYNC_AS_STAT, STATX_BASIC_STATS, {stx_mask=STATX_";
    assert!(line.starts_with(begin), "{line}");
    assert!(
        line.ends_with("stx_mode=S_IFREG|0644, stx_size=55, ...}) = 0"),
        "{line}"
    );
    shows(
        m,
        t,
        "access",
        &[NAME, 6],
        "access(\"/file\", R_OK|W_OK) = 0",
    );
    shows(m, t, "access", &[NAME, 0], "access(\"/file\", F_OK) = 0");
    shows(
        m,
        t,
        "fcntl",
        &[3, 3],
        "fcntl(3, F_GETFL) = 0x8002 (flags O_RDWR|O_LARGEFILE)",
    );
    shows(
        m,
        t,
        "fcntl",
        &[3, 2, 1],
        "fcntl(3, F_SETFD, FD_CLOEXEC) = 0",
    );
    shows(
        m,
        t,
        "fcntl",
        &[3, 1],
        "fcntl(3, F_GETFD) = 0x1 (flags FD_CLOEXEC)",
    );
    shows(
        m,
        t,
        "ioctl",
        &[3, 0x5401, OUT],
        "ioctl(3, TCGETS, @) = -1 ENOTTY (Inappropriate ioctl for device)",
    );
    shows(m, t, "umask", &[0o77], "umask(077) = 022");
    shows(m, t, "getcwd", &[OUT, 64], "getcwd(\"/\", 64) = 2");
    shows(
        m,
        t,
        "pipe2",
        &[OUT, cloexec],
        "pipe2([4, 5], O_CLOEXEC) = 0",
    );
    words(m, t, MORE, &[4 | 1 << 32]);
    shows(
        m,
        t,
        "poll",
        &[MORE, 1, 0],
        "poll([{fd=4, events=POLLIN}], 1, 0) = 0 (Timeout)",
    );
    shows(m, t, "write", &[5, BUF, 3], "write(5, \"one\", 3) = 3");
    shows(
        m,
        t,
        "poll",
        &[MORE, 1, 0],
        "poll([{fd=4, events=POLLIN}], 1, 0) = 1 ([{fd=4, revents=POLLIN}])",
    );
    shows(m, t, "read", &[4, OUT, 100], "read(4, \"one\", 100) = 3");
    words(m, t, MORE, &[BUF, 4, BUF + 5, 3]);
    shows(
        m,
        t,
        "writev",
        &[5, MORE, 2],
        "writev(5, [{iov_base=\"one\\n\", iov_len=4}, {iov_base=\"two\", iov_len=3}], 2) = 7",
    );
    words(m, t, MORE, &[1 << 4]);
    words(m, t, MORE + 0x40, &[0, 5000]);
    call(m, t, number("select"), &[5, MORE, 0, 0, MORE + 0x40]);
    let line = last(m);
    let begin = "select(5, [4], NULL, NULL, {tv_sec=0, tv_usec=5000}) = 1 (in [4]";
    assert!(line.starts_with(begin), "{line}");
    words(m, t, MORE, &[1, 0x1000_0000, 0, 0x4002]);
    shows(
        m,
        t,
        "rt_sigaction",
        &[10, MORE, OUT, 8],
        "rt_sigaction(SIGUSR1, {sa_handler=SIG_IGN, sa_mask=[INT TERM], sa_flags=SA_RESTART}, \
         {sa_handler=SIG_DFL, sa_mask=[], sa_flags=0}, 8) = 0",
    );
    words(m, t, MORE, &[!2]);
    shows(
        m,
        t,
        "rt_sigprocmask",
        &[2, MORE, OUT, 8],
        "rt_sigprocmask(SIG_SETMASK, ~[INT], [], 8) = 0",
    );
    shows(m, t, "kill", &[1, 2], "kill(1, SIGINT) = 0");
    shows(
        m,
        t,
        "prlimit64",
        &[0, 7, 0, OUT],
        "prlimit64(0, RLIMIT_NOFILE, NULL, {rlim_cur=1024, rlim_max=1024*1024}) = 0",
    );
    shows(
        m,
        t,
        "epoll_create1",
        &[cloexec],
        "epoll_create1(EPOLL_CLOEXEC) = 6",
    );
    m.poke(t, MORE, &[1, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0])
        .unwrap();
    shows(
        m,
        t,
        "epoll_ctl",
        &[6, 1, 4, MORE],
        "epoll_ctl(6, EPOLL_CTL_ADD, 4, {events=EPOLLIN, data={u32=9, u64=9}}) = 0",
    );
    shows(
        m,
        t,
        "epoll_wait",
        &[6, OUT, 8, 0],
        "epoll_wait(6, [{events=EPOLLIN, data={u32=9, u64=9}}], 8, 0) = 1",
    );
    shows(
        m,
        t,
        "mmap",
        &[0, 4096, 3, 0x22, u64::MAX, 0],
        "mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = @",
    );
    shows(
        m,
        t,
        "futex",
        &[OUT, 129, 1],
        "futex(@, FUTEX_WAKE_PRIVATE, 1) = 0",
    );
    shows(
        m,
        t,
        "wait4",
        &[u64::MAX, OUT, 1, 0],
        "wait4(-1, @, WNOHANG, NULL) = -1 ECHILD (No child processes)",
    );
    shows(
        m,
        t,
        "prctl",
        &[15, PATH + 1],
        "prctl(PR_SET_NAME, \"nothing\") = 0",
    );
    shows(m, t, "getpid", &[], "getpid() = 1");
    shows(
        m,
        t,
        "unlinkat",
        &[AT_FDCWD, NAME, 0x200],
        "unlinkat(AT_FDCWD, \"/file\", AT_REMOVEDIR) = -1 ENOTDIR (Not a directory)",
    );
    call(m, t, 999, &[1, 2]);
    let line = "syscall_0x3e7(0x1, 0x2, 0x0, 0x0, 0x0, 0x0) = -1 ENOSYS (Function not implemented)";
    assert_eq!(last(m), line);
}

#[test]
fn mounts_by_descriptors_are_shown_with_their_flags() {
    let mut config = BootConfig {
        strace: Some(Strace::default()),
        ..bare(empty_root())
    };
    config.capabilities = (1 << 41) - 1;
    let mut m = Guests::boot(config, MemHost::new(4096, Vec::new())).unwrap();
    let t = m.first();
    let m = &mut m;
    m.poke(t, PATH, b"tmpfs\0size\x001m\0/dev/shm\0").unwrap();
    let (size, value, at) = (PATH + 6, PATH + 11, PATH + 14);
    for (name, args, expected) in [
        (
            "fsopen",
            &[PATH, 1][..],
            "fsopen(\"tmpfs\", FSOPEN_CLOEXEC) = 3",
        ),
        (
            "fsconfig",
            &[3, 1, size, value, 0],
            "fsconfig(3, FSCONFIG_SET_STRING, \"size\", \"1m\", 0) = 0",
        ),
        (
            "fsconfig",
            &[3, 2, size, value, 2],
            "fsconfig(3, FSCONFIG_SET_BINARY, \"size\", \"\\x31\\x6d\", 2) = -1 EINVAL (Invalid argument)",
        ),
        (
            "fsconfig",
            &[3, 3, size, value, AT_FDCWD],
            "fsconfig(3, FSCONFIG_SET_PATH, \"size\", \"1m\", AT_FDCWD) = -1 EINVAL (Invalid argument)",
        ),
        (
            "fsconfig",
            &[3, 6, 0, 0, 0],
            "fsconfig(3, FSCONFIG_CMD_CREATE, NULL, NULL, 0) = 0",
        ),
        (
            "fsconfig",
            &[3, 9, size, 0, 0],
            "fsconfig(3, 0x9 /* FSCONFIG_??? */, @, NULL, 0) = -1 EOPNOTSUPP (Operation not supported)",
        ),
        (
            "fsmount",
            &[3, 1, 0x11],
            "fsmount(3, FSMOUNT_CLOEXEC, MOUNT_ATTR_RDONLY|MOUNT_ATTR_NOATIME) = 4",
        ),
        (
            "open_tree",
            &[AT_FDCWD, at, 0x88001],
            "open_tree(AT_FDCWD, \"/dev/shm\", OPEN_TREE_CLONE|OPEN_TREE_CLOEXEC|AT_RECURSIVE) = 5",
        ),
        (
            "move_mount",
            &[4, at + 8, AT_FDCWD, at, 4],
            "move_mount(4, \"\", AT_FDCWD, \"/dev/shm\", MOVE_MOUNT_F_EMPTY_PATH) = 0",
        ),
        (
            "fspick",
            &[AT_FDCWD, at, 3],
            "fspick(AT_FDCWD, \"/dev/shm\", FSPICK_CLOEXEC|FSPICK_SYMLINK_NOFOLLOW) = 6",
        ),
    ] {
        shows(m, t, name, args, expected);
    }
    words(m, t, BUF, &[8, 0x70, 0, 0]);
    shows(
        m,
        t,
        "mount_setattr",
        &[AT_FDCWD, at, 0x8000, BUF, 32],
        "mount_setattr(AT_FDCWD, \"/dev/shm\", AT_RECURSIVE, {attr_set=MOUNT_ATTR_NOEXEC, \
         attr_clr=MOUNT_ATTR_NOATIME|MOUNT_ATTR_STRICTATIME|0x40, \
         propagation=0 /* MS_??? */, userns_fd=0}, 32) = 0",
    );
}

#[test]
fn sockets_are_shown_with_addresses_and_messages() {
    let mut m = traced(Strace::default());
    let t = m.first();
    let m = &mut m;
    shows(
        m,
        t,
        "socketpair",
        &[1, 0o2000001, 0, OUT],
        "socketpair(AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC, 0, [3, 4]) = 0",
    );
    m.poke(t, MORE, b"\x01\0/name\0").unwrap();
    shows(
        m,
        t,
        "socket",
        &[1, 2, 0],
        "socket(AF_UNIX, SOCK_DGRAM, 0) = 5",
    );
    shows(
        m,
        t,
        "bind",
        &[5, MORE, 8],
        "bind(5, {sa_family=AF_UNIX, sun_path=\"/name\"}, 8) = 0",
    );
    m.poke(t, OUT, &110u32.to_le_bytes()).unwrap();
    shows(
        m,
        t,
        "getsockname",
        &[5, BUF, OUT],
        "getsockname(5, {sa_family=AF_UNIX, sun_path=\"/name\"}, [110 => 8]) = 0",
    );
    m.poke(t, MORE, b"\x01\0\0abc").unwrap();
    shows(
        m,
        t,
        "connect",
        &[5, MORE, 6],
        "connect(5, {sa_family=AF_UNIX, sun_path=@\"abc\"}, 6) = -1 ECONNREFUSED (Connection refused)",
    );
    // A descriptor and a byte.
    m.poke(t, PATH, b"x").unwrap();
    words(m, t, MORE, &[PATH, 1]);
    words(m, t, BUF, &[20, 1 | 1 << 32, 3]);
    words(m, t, MORE + 0x40, &[0, 0, MORE, 1, BUF, 20, 0]);
    shows(
        m,
        t,
        "sendmsg",
        &[3, MORE + 0x40, 0x4000],
        "sendmsg(3, {msg_name=NULL, msg_namelen=0, msg_iov=[{iov_base=\"x\", iov_len=1}], msg_iovlen=1, \
         msg_control=[{cmsg_len=20, cmsg_level=SOL_SOCKET, cmsg_type=SCM_RIGHTS, cmsg_data=[3]}], msg_controllen=20, \
         msg_flags=0}, MSG_NOSIGNAL) = 1",
    );
    // Lengths that lead past the end of all addresses.
    for len in [u64::MAX, u64::MAX - 7, u64::MAX - 15] {
        words(m, t, BUF, &[16, 1 | 2 << 32, len, 1 | 2 << 32, 3]);
        words(m, t, MORE + 0x40, &[0, 0, MORE, 1, BUF, 40, 0]);
        call(m, t, number("sendmsg"), &[3, MORE + 0x40, 0]);
        assert!(last(m).contains(&format!("cmsg_len={len}")), "{}", last(m));
    }
    words(m, t, MORE, &[PATH, 10]);
    words(m, t, MORE + 0x40, &[0, 0, MORE, 1, BUF, 64, 0]);
    shows(
        m,
        t,
        "recvmsg",
        &[4, MORE + 0x40, 0],
        "recvmsg(4, {msg_name=NULL, msg_namelen=0, msg_iov=[{iov_base=\"x\", iov_len=10}], msg_iovlen=1, \
         msg_control=[{cmsg_len=20, cmsg_level=SOL_SOCKET, cmsg_type=SCM_RIGHTS, cmsg_data=[6]}], msg_controllen=24, \
         msg_flags=0}, 0) = 1",
    );
    m.poke(t, OUT, &4u32.to_le_bytes()).unwrap();
    shows(
        m,
        t,
        "getsockopt",
        &[3, 1, 3, BUF, OUT],
        "getsockopt(3, SOL_SOCKET, SO_TYPE, [1], [4]) = 0",
    );
}

#[test]
fn descriptors_signals_and_ends_are_shown() {
    let mut m = traced(Strace {
        paths: true,
        ..Strace::default()
    });
    let t = m.first();
    let m = &mut m;
    m.poke(t, NAME, b"/file\0").unwrap();
    shows(
        m,
        t,
        "openat",
        &[AT_FDCWD, NAME, 0o102, 0o600],
        "openat(AT_FDCWD</>, \"/file\", O_RDWR|O_CREAT, 0600) = 3</file>",
    );
    shows(m, t, "dup", &[3], "dup(3</file>) = 4</file>");
    shows(m, t, "close", &[3], "close(3</file>) = 0");
    assert_eq!(m.lines.last().unwrap().find('='), Some("[1] ".len() + 40));
    let child = call(m, t, FORK, &[]);
    assert_eq!(last(m), format!("fork() = {child}"));
    let other = *m.threads.keys().next_back().unwrap();
    gone(m, other, EXIT_GROUP, &[3]);
    let lines: Vec<&str> = m.lines.iter().map(String::as_str).collect();
    let [.., ended, gone, _] = lines[..] else {
        panic!("{lines:?}")
    };
    assert!(
        ended.contains("exit_group(3)") && ended.ends_with("= ?"),
        "{ended}"
    );
    assert_eq!(gone, format!("[{child}] +++ exited with 3 +++"));
    shows(
        m,
        t,
        "wait4",
        &[u64::MAX, OUT, 0, 0],
        &format!("wait4(-1, [{{WIFEXITED(s) && WEXITSTATUS(s) == 3}}], 0, NULL) = {child}"),
    );
    let signal = format!(
        "[1] --- SIGCHLD {{si_signo=SIGCHLD, si_code=CLD_EXITED, si_pid={child}, si_uid=0, si_status=3, si_utime="
    );
    assert!(
        m.lines.iter().any(|line| line.starts_with(&signal)),
        "{:#?}",
        m.lines
    );
}

#[test]
fn only_what_is_asked_for_is_shown() {
    let mut m = traced(Strace {
        calls: CallSet::parse("%file,getuid,memfd_create").unwrap(),
        string_max: 3,
        ..Strace::default()
    });
    let t = m.first();
    let m = &mut m;
    m.poke(t, NAME, b"/long-name\0").unwrap();
    call(m, t, GETPID, &[]);
    call(m, t, GETUID, &[]);
    call(m, t, number("sethostname"), &[NAME, 10]);
    shows(
        m,
        t,
        "symlink",
        &[NAME, NAME],
        "symlink(\"/long-name\", \"/long-name\") = 0",
    );
    shows(
        m,
        t,
        "memfd_create",
        &[NAME, 1],
        "memfd_create(\"/lo\"..., MFD_CLOEXEC) = 3",
    );
    assert_eq!(m.lines.len(), 3, "{:#?}", m.lines);
}
