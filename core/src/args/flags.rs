//! Flags of calls, under the kernel's names. A register becomes one of these once. Bits that nobody knows
//! stay in the value until the handler refuses them, because Linux looks at them where the handler does:
//! before some things that may be wrong and after others.

use super::{Arg, ArgKind, FutexCommand};
use crate::abi::raw::{general as g, landlock as l, net as n};
use crate::machine::Prot;

/// Flags that are an argument of a call.
pub(crate) trait CallFlags: bitflags::Flags + Copy {
    /// The first flag that Linux has and this kernel has not.
    fn missing(&self) -> Option<&'static str>;
}

/// Makes types of flags: `Name(type of the parameter) = kind { FLAG = value } missing { NAME = value };`.
macro_rules! flags {
    ($(
        $(#[$doc:meta])*
        $name:ident($bits:ty) = $kind:ident { $($flag:ident = $value:expr),* $(,)? }
        $(missing { $($absent:ident = $absent_value:expr),* $(,)? })?;
    )*) => {$(
        bitflags::bitflags! {
            $(#[$doc])*
            #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
            pub(crate) struct $name: $bits {
                $(const $flag = $value as $bits;)*
            }
        }

        impl Arg for $name {
            const KIND: ArgKind = ArgKind::$kind;
            fn from_reg(reg: u64) -> Self {
                $name::from_bits_retain(reg as $bits)
            }
        }

        impl CallFlags for $name {
            fn missing(&self) -> Option<&'static str> {
                $($(
                    if self.bits() & $absent_value as $bits != 0 {
                        return Some(stringify!($absent));
                    }
                )*)?
                None
            }
        }
    )*};
}

flags! {
    /// What a file begins with that a call makes: `TFD_`, `SFD_`, `IN_` and `SOCK_` flags.
    FileFlags(u32) = Hex { CLOEXEC = g::O_CLOEXEC, NONBLOCK = g::O_NONBLOCK };

    /// `EFD_` flags (eventfd(2)).
    EventFdFlags(u32) = Hex {
        SEMAPHORE = g::EFD_SEMAPHORE,
        CLOEXEC = g::EFD_CLOEXEC,
        NONBLOCK = g::EFD_NONBLOCK,
    };

    /// `TFD_TIMER_` flags (timerfd_settime(2)).
    TimerFdFlags(u32) = Hex {
        ABSTIME = g::TFD_TIMER_ABSTIME,
        CANCEL_ON_SET = g::TFD_TIMER_CANCEL_ON_SET,
    };

    /// `EPOLL_` flags (epoll_create1(2)).
    EpollFlags(u32) = Hex { CLOEXEC = g::EPOLL_CLOEXEC };

    /// `EPOLL` events and flags of an item (epoll_ctl(2)). The events are those of poll(2); others are kept.
    EpollEvents(u32) = Hex {
        IN = g::EPOLLIN,
        OUT = g::EPOLLOUT,
        ERR = g::EPOLLERR,
        HUP = g::EPOLLHUP,
        EXCLUSIVE = g::EPOLLEXCLUSIVE,
        WAKEUP = g::EPOLLWAKEUP,
        ONESHOT = g::EPOLLONESHOT,
        ET = g::EPOLLET,
    };

    /// `MFD_` flags (memfd_create(2)).
    MemfdFlags(u32) = Hex {
        CLOEXEC = g::MFD_CLOEXEC,
        ALLOW_SEALING = g::MFD_ALLOW_SEALING,
        NOEXEC_SEAL = g::MFD_NOEXEC_SEAL,
        EXEC = g::MFD_EXEC,
    }
    missing { MFD_HUGETLB = g::MFD_HUGETLB };

    /// `PIDFD_` flags (pidfd_open(2)).
    PidFdFlags(u32) = Hex { NONBLOCK = g::O_NONBLOCK, THREAD = g::O_EXCL };

    /// `PIDFD_SIGNAL_` flags (pidfd_send_signal(2)): whom it reaches.
    PidFdSignalFlags(u32) = Hex { THREAD = 1, THREAD_GROUP = 2, PROCESS_GROUP = 4 };

    /// `CLOSE_RANGE_` flags (close_range(2)).
    CloseRangeFlags(u32) = Hex { UNSHARE = 2, CLOEXEC = 4 };

    /// `SPLICE_F_` flags (splice(2), tee(2), vmsplice(2)). Pages are copied, so the others change nothing.
    SpliceFlags(u32) = Hex {
        MOVE = g::SPLICE_F_MOVE,
        NONBLOCK = g::SPLICE_F_NONBLOCK,
        MORE = g::SPLICE_F_MORE,
        GIFT = g::SPLICE_F_GIFT,
    };

    /// `SYNC_FILE_RANGE_` flags (sync_file_range(2)).
    SyncRangeFlags(u32) = Hex { WAIT_BEFORE = 1, WRITE = 2, WAIT_AFTER = 4 };

    /// `FALLOC_FL_` flags (fallocate(2)).
    FallocFlags(u32) = Hex {
        KEEP_SIZE = g::FALLOC_FL_KEEP_SIZE,
        PUNCH_HOLE = g::FALLOC_FL_PUNCH_HOLE,
        ZERO_RANGE = g::FALLOC_FL_ZERO_RANGE,
    }
    missing {
        FALLOC_FL_COLLAPSE_RANGE = g::FALLOC_FL_COLLAPSE_RANGE,
        FALLOC_FL_INSERT_RANGE = g::FALLOC_FL_INSERT_RANGE,
    };

    /// `RWF_` flags (preadv2(2)). Nothing is written late, so three of them change nothing.
    RwFlags(u32) = Hex {
        HIPRI = g::RWF_HIPRI,
        DSYNC = g::RWF_DSYNC,
        SYNC = g::RWF_SYNC,
        NOWAIT = g::RWF_NOWAIT,
        APPEND = g::RWF_APPEND,
        NOAPPEND = 0x20,
    };

    /// `RENAME_` flags (renameat2(2)).
    RenameFlags(u32) = Hex {
        NOREPLACE = g::RENAME_NOREPLACE,
        EXCHANGE = g::RENAME_EXCHANGE,
        WHITEOUT = g::RENAME_WHITEOUT,
    };

    /// Operations of futex(2): a command, and the flags beside it.
    FutexOp(u32) = Hex { PRIVATE = g::FUTEX_PRIVATE_FLAG, CLOCK_REALTIME = g::FUTEX_CLOCK_REALTIME };

    /// `FUTEX2_` flags of one word (futex_waitv(2) and its relatives). A size is one number of two bits.
    Futex2Flags(u32) = Hex { SIZE = 3, SIZE_U32 = 2, NUMA = 4, PRIVATE = g::FUTEX_PRIVATE_FLAG };

    /// `MSG_` flags of sockets (send(2), recv(2)), which ignore others.
    MessageFlags(u32) = Hex {
        OOB = n::MSG_OOB,
        PEEK = n::MSG_PEEK,
        CTRUNC = n::MSG_CTRUNC,
        TRUNC = n::MSG_TRUNC,
        DONTWAIT = n::MSG_DONTWAIT,
        WAITALL = n::MSG_WAITALL,
        NOSIGNAL = n::MSG_NOSIGNAL,
        WAITFORONE = 0x10000,
        CMSG_CLOEXEC = n::MSG_CMSG_CLOEXEC,
        // Set by user space for another ABI.
        CMSG_COMPAT = 0x8000_0000,
    };

    /// `IN_` events and flags (inotify(7)).
    InotifyMask(u32) = Hex {
        ACCESS = g::IN_ACCESS,
        MODIFY = g::IN_MODIFY,
        ATTRIB = g::IN_ATTRIB,
        CLOSE_WRITE = g::IN_CLOSE_WRITE,
        CLOSE_NOWRITE = g::IN_CLOSE_NOWRITE,
        OPEN = g::IN_OPEN,
        MOVED_FROM = g::IN_MOVED_FROM,
        MOVED_TO = g::IN_MOVED_TO,
        CREATE = g::IN_CREATE,
        DELETE = g::IN_DELETE,
        DELETE_SELF = g::IN_DELETE_SELF,
        MOVE_SELF = g::IN_MOVE_SELF,
        UNMOUNT = g::IN_UNMOUNT,
        Q_OVERFLOW = g::IN_Q_OVERFLOW,
        IGNORED = g::IN_IGNORED,
        ONLYDIR = g::IN_ONLYDIR,
        DONT_FOLLOW = g::IN_DONT_FOLLOW,
        EXCL_UNLINK = g::IN_EXCL_UNLINK,
        MASK_CREATE = g::IN_MASK_CREATE,
        MASK_ADD = g::IN_MASK_ADD,
        ISDIR = g::IN_ISDIR,
        ONESHOT = g::IN_ONESHOT,
    };

    /// Flags of shmget(2), semget(2) and msgget(2), with the mode of a new object in the bits below.
    IpcGetFlags(u32) = Hex { CREAT = 0o1000, EXCL = 0o2000, HUGETLB = 0o4000 };

    /// Flags of shmat(2).
    ShmAtFlags(u32) = Hex { RDONLY = 0o10000, RND = 0o20000, REMAP = 0o40000, EXEC = 0o100000 };

    /// Flags of msgsnd(2) and msgrcv(2).
    MsgQueueFlags(u32) = Hex {
        NOWAIT = 0o4000,
        NOERROR = 0o10000,
        EXCEPT = 0o20000,
        COPY = 0o40000,
    };

    /// `LOCK_` operations of flock(2): one of three, and whether to wait.
    FlockOperation(u32) = Hex {
        SH = g::LOCK_SH,
        EX = g::LOCK_EX,
        NB = g::LOCK_NB,
        UN = g::LOCK_UN,
        // Mandatory locks of old: Linux says yes and does nothing.
        MAND = g::LOCK_MAND,
    };

    /// `TIMER_` flags of timer_settime(2) and clock_nanosleep(2), which ignore others.
    TimerFlags(u32) = Int { ABSTIME = g::TIMER_ABSTIME };

    /// `DN_` events and flags (`F_NOTIFY` of fcntl(2)).
    DirNotify(u32) = Hex {
        ACCESS = g::DN_ACCESS,
        MODIFY = g::DN_MODIFY,
        CREATE = g::DN_CREATE,
        DELETE = g::DN_DELETE,
        RENAME = g::DN_RENAME,
        ATTRIB = g::DN_ATTRIB,
        MULTISHOT = g::DN_MULTISHOT,
    };

    /// `MPOL_MF_` flags (mbind(2), move_pages(2)).
    MovePolicy(u32) = Hex { STRICT = 1, MOVE = 2, MOVE_ALL = 4 };

    /// `MPOL_F_` flags (get_mempolicy(2)).
    PolicyFlags(u64) = Uint { NODE = 1, ADDR = 2, MEMS_ALLOWED = 4 };

    /// `LANDLOCK_CREATE_RULESET_` flags (landlock_create_ruleset(2)): what it is asked instead.
    RulesetFlags(u32) = Hex {
        VERSION = l::LANDLOCK_CREATE_RULESET_VERSION,
        ERRATA = l::LANDLOCK_CREATE_RULESET_ERRATA,
    };

    /// `LANDLOCK_RESTRICT_SELF_` flags (landlock_restrict_self(2)): what is written to the audit log.
    RestrictFlags(u32) = Hex {
        LOG_SAME_EXEC_OFF = l::LANDLOCK_RESTRICT_SELF_LOG_SAME_EXEC_OFF,
        LOG_NEW_EXEC_ON = l::LANDLOCK_RESTRICT_SELF_LOG_NEW_EXEC_ON,
        LOG_SUBDOMAINS_OFF = l::LANDLOCK_RESTRICT_SELF_LOG_SUBDOMAINS_OFF,
    };

    /// The flags of a call that has none yet.
    NoFlags(u32) = Hex {};

    /// The same, as `unsigned long`.
    NoLongFlags(u64) = Hex {};

    /// `GRND_` flags (getrandom(2)).
    RandomFlags(u32) = Hex {
        NONBLOCK = g::GRND_NONBLOCK,
        RANDOM = g::GRND_RANDOM,
        INSECURE = g::GRND_INSECURE,
    };

    /// `PROT_` flags. mmap(2) ignores others, mprotect(2) refuses them.
    ProtFlags(u64) = ProtFlags {
        READ = g::PROT_READ,
        WRITE = g::PROT_WRITE,
        EXEC = g::PROT_EXEC,
        SEM = g::PROT_SEM,
        GROWSDOWN = g::PROT_GROWSDOWN,
        GROWSUP = g::PROT_GROWSUP,
    };

    /// `MAP_` flags (mmap(2)), which are ignored without a name unless the type is `SHARED_VALIDATE`.
    MapFlags(u64) = MapFlags {
        SHARED = g::MAP_SHARED,
        PRIVATE = g::MAP_PRIVATE,
        SHARED_VALIDATE = g::MAP_SHARED_VALIDATE,
        TYPE = g::MAP_TYPE,
        FIXED = g::MAP_FIXED,
        ANONYMOUS = g::MAP_ANONYMOUS,
        BELOW_2G = g::MAP_32BIT,
        ABOVE4G = g::MAP_ABOVE4G,
        GROWSDOWN = g::MAP_GROWSDOWN,
        DENYWRITE = g::MAP_DENYWRITE,
        EXECUTABLE = g::MAP_EXECUTABLE,
        LOCKED = g::MAP_LOCKED,
        NORESERVE = g::MAP_NORESERVE,
        POPULATE = g::MAP_POPULATE,
        NONBLOCK = g::MAP_NONBLOCK,
        STACK = g::MAP_STACK,
        HUGETLB = g::MAP_HUGETLB,
        FIXED_NOREPLACE = g::MAP_FIXED_NOREPLACE,
        UNINITIALIZED = g::MAP_UNINITIALIZED,
    };

    /// `MREMAP_` flags (mremap(2)).
    MremapFlags(u32) = Hex {
        MAYMOVE = g::MREMAP_MAYMOVE,
        FIXED = g::MREMAP_FIXED,
        DONTUNMAP = g::MREMAP_DONTUNMAP,
    };

    /// `MS_` flags of msync(2).
    MsyncFlags(u32) = Hex { ASYNC = g::MS_ASYNC, INVALIDATE = g::MS_INVALIDATE, SYNC = g::MS_SYNC };

    /// `MLOCK_` flags (mlock2(2)).
    MlockFlags(u32) = Hex { ONFAULT = g::MLOCK_ONFAULT };

    /// `MCL_` flags (mlockall(2)).
    MlockallFlags(u32) = Hex {
        CURRENT = g::MCL_CURRENT,
        FUTURE = g::MCL_FUTURE,
        ONFAULT = g::MCL_ONFAULT,
    };

    /// `SECCOMP_FILTER_FLAG_` flags (seccomp(2)).
    SeccompFlags(u32) = Uint { TSYNC = 1, LOG = 2, SPEC_ALLOW = 4, TSYNC_ESRCH = 16 }
    missing { SECCOMP_FILTER_FLAG_NEW_LISTENER = 8, SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV = 32 };

    /// Options of wait4(2) and waitid(2).
    WaitOptions(u32) = Hex {
        NOHANG = g::WNOHANG,
        STOPPED = g::WSTOPPED,
        EXITED = g::WEXITED,
        CONTINUED = g::WCONTINUED,
        NOWAIT = g::WNOWAIT,
        NOTHREAD = g::__WNOTHREAD,
        ALL = g::__WALL,
        CLONE = g::__WCLONE,
    };

    /// `CLONE_` flags (clone(2), clone3(2), unshare(2), setns(2)). Those of clone(2) have a signal in the
    /// bits below.
    CloneFlags(u64) = CloneFlags {
        NEWTIME = g::CLONE_NEWTIME,
        VM = g::CLONE_VM,
        FS = g::CLONE_FS,
        FILES = g::CLONE_FILES,
        SIGHAND = g::CLONE_SIGHAND,
        PIDFD = g::CLONE_PIDFD,
        PTRACE = g::CLONE_PTRACE,
        VFORK = g::CLONE_VFORK,
        PARENT = g::CLONE_PARENT,
        THREAD = g::CLONE_THREAD,
        NEWNS = g::CLONE_NEWNS,
        SYSVSEM = g::CLONE_SYSVSEM,
        SETTLS = g::CLONE_SETTLS,
        PARENT_SETTID = g::CLONE_PARENT_SETTID,
        CHILD_CLEARTID = g::CLONE_CHILD_CLEARTID,
        DETACHED = g::CLONE_DETACHED,
        UNTRACED = g::CLONE_UNTRACED,
        CHILD_SETTID = g::CLONE_CHILD_SETTID,
        NEWCGROUP = g::CLONE_NEWCGROUP,
        NEWUTS = g::CLONE_NEWUTS,
        NEWIPC = g::CLONE_NEWIPC,
        NEWUSER = g::CLONE_NEWUSER,
        NEWPID = g::CLONE_NEWPID,
        NEWNET = g::CLONE_NEWNET,
        IO = g::CLONE_IO,
        CLEAR_SIGHAND = g::CLONE_CLEAR_SIGHAND,
        INTO_CGROUP = g::CLONE_INTO_CGROUP,
    }
    missing { CLONE_NEWTIME = g::CLONE_NEWTIME };

    /// `O_` flags: what open(2) and its relatives take, which ignore others, and what an open file keeps of
    /// them.
    OpenFlags(u32) = OpenFlags {
        WRONLY = g::O_WRONLY,
        RDWR = g::O_RDWR,
        ACCMODE = g::O_ACCMODE,
        CREAT = g::O_CREAT,
        EXCL = g::O_EXCL,
        NOCTTY = g::O_NOCTTY,
        TRUNC = g::O_TRUNC,
        APPEND = g::O_APPEND,
        NONBLOCK = g::O_NONBLOCK,
        DSYNC = g::O_DSYNC,
        ASYNC = g::FASYNC,
        DIRECT = g::O_DIRECT,
        // The kernel's value on x86-64; user space sees 0, but `F_GETFL` shows it.
        LARGEFILE = 0o100000,
        DIRECTORY = g::O_DIRECTORY,
        NOFOLLOW = g::O_NOFOLLOW,
        NOATIME = g::O_NOATIME,
        CLOEXEC = g::O_CLOEXEC,
        SYNC = g::O_SYNC,
        PATH = g::O_PATH,
        TMPFILE = g::O_TMPFILE,
    };

    /// `RESOLVE_` flags (openat2(2)).
    ResolveFlags(u64) = Hex {
        NO_XDEV = g::RESOLVE_NO_XDEV,
        NO_MAGICLINKS = g::RESOLVE_NO_MAGICLINKS,
        NO_SYMLINKS = g::RESOLVE_NO_SYMLINKS,
        BENEATH = g::RESOLVE_BENEATH,
        IN_ROOT = g::RESOLVE_IN_ROOT,
        CACHED = g::RESOLVE_CACHED,
    };

    /// `AT_` flags. Each call takes some of them; two have the same number in different calls.
    AtFlags(u32) = AtFlags {
        SYMLINK_NOFOLLOW = g::AT_SYMLINK_NOFOLLOW,
        EACCESS = g::AT_EACCESS,
        REMOVEDIR = g::AT_REMOVEDIR,
        SYMLINK_FOLLOW = g::AT_SYMLINK_FOLLOW,
        NO_AUTOMOUNT = g::AT_NO_AUTOMOUNT,
        EMPTY_PATH = g::AT_EMPTY_PATH,
        STATX_FORCE_SYNC = g::AT_STATX_FORCE_SYNC,
        STATX_DONT_SYNC = g::AT_STATX_DONT_SYNC,
        RECURSIVE = g::AT_RECURSIVE,
        EXECVE_CHECK = 0x10000,
    };

    /// `STATX_` flags: what statx(2) is to tell. All is told that there is.
    StatxMask(u32) = Hex {
        BASIC_STATS = g::STATX_BASIC_STATS,
        BTIME = g::STATX_BTIME,
        MNT_ID = g::STATX_MNT_ID,
        RESERVED = g::STATX__RESERVED,
    };

    /// `XATTR_` flags (setxattr(2)).
    XattrFlags(u32) = Hex { CREATE = g::XATTR_CREATE, REPLACE = g::XATTR_REPLACE };

    /// `MS_` flags of mount(2), which ignores what it does not know.
    MsFlags(u32) = Hex {
        RDONLY = g::MS_RDONLY,
        NOSUID = g::MS_NOSUID,
        NODEV = g::MS_NODEV,
        NOEXEC = g::MS_NOEXEC,
        NOATIME = g::MS_NOATIME,
        NODIRATIME = g::MS_NODIRATIME,
        NOSYMFOLLOW = g::MS_NOSYMFOLLOW,
        REMOUNT = g::MS_REMOUNT,
        BIND = g::MS_BIND,
        MOVE = g::MS_MOVE,
        REC = g::MS_REC,
        SILENT = g::MS_SILENT,
        UNBINDABLE = g::MS_UNBINDABLE,
        PRIVATE = g::MS_PRIVATE,
        SLAVE = g::MS_SLAVE,
        SHARED = g::MS_SHARED,
        RELATIME = g::MS_RELATIME,
        STRICTATIME = g::MS_STRICTATIME,
    };

    /// `MOUNT_ATTR_` flags (fsmount(2), mount_setattr(2)).
    MountAttrs(u32) = Uint {
        RDONLY = g::MOUNT_ATTR_RDONLY,
        NOSUID = g::MOUNT_ATTR_NOSUID,
        NODEV = g::MOUNT_ATTR_NODEV,
        NOEXEC = g::MOUNT_ATTR_NOEXEC,
        ATIME = g::MOUNT_ATTR__ATIME,
        NOATIME = g::MOUNT_ATTR_NOATIME,
        STRICTATIME = g::MOUNT_ATTR_STRICTATIME,
        NODIRATIME = g::MOUNT_ATTR_NODIRATIME,
        IDMAP = g::MOUNT_ATTR_IDMAP,
        NOSYMFOLLOW = g::MOUNT_ATTR_NOSYMFOLLOW,
    };

    /// `OPEN_TREE_` flags, and the `AT_` flags that open_tree(2) takes with them.
    OpenTreeFlags(u32) = Uint {
        CLONE = g::OPEN_TREE_CLONE,
        SYMLINK_NOFOLLOW = g::AT_SYMLINK_NOFOLLOW,
        NO_AUTOMOUNT = g::AT_NO_AUTOMOUNT,
        EMPTY_PATH = g::AT_EMPTY_PATH,
        RECURSIVE = g::AT_RECURSIVE,
        CLOEXEC = g::OPEN_TREE_CLOEXEC,
    };

    /// `MNT_` and `UMOUNT_` flags (umount2(2)).
    UmountFlags(u32) = Hex {
        FORCE = g::MNT_FORCE,
        DETACH = g::MNT_DETACH,
        EXPIRE = g::MNT_EXPIRE,
        NOFOLLOW = g::UMOUNT_NOFOLLOW,
    };

    /// `FSOPEN_` flags (fsopen(2)).
    FsopenFlags(u32) = Uint { CLOEXEC = g::FSOPEN_CLOEXEC };

    /// `FSMOUNT_` flags (fsmount(2)).
    FsmountFlags(u32) = Uint { CLOEXEC = g::FSMOUNT_CLOEXEC };

    /// `FSPICK_` flags (fspick(2)). There are no automounts.
    FspickFlags(u32) = Uint {
        CLOEXEC = g::FSPICK_CLOEXEC,
        SYMLINK_NOFOLLOW = g::FSPICK_SYMLINK_NOFOLLOW,
        NO_AUTOMOUNT = g::FSPICK_NO_AUTOMOUNT,
        EMPTY_PATH = g::FSPICK_EMPTY_PATH,
    };

    /// `MOVE_MOUNT_` flags (move_mount(2)). There are no automounts.
    MoveMountFlags(u32) = Uint {
        F_SYMLINKS = g::MOVE_MOUNT_F_SYMLINKS,
        F_AUTOMOUNTS = g::MOVE_MOUNT_F_AUTOMOUNTS,
        F_EMPTY_PATH = g::MOVE_MOUNT_F_EMPTY_PATH,
        T_SYMLINKS = g::MOVE_MOUNT_T_SYMLINKS,
        T_AUTOMOUNTS = g::MOVE_MOUNT_T_AUTOMOUNTS,
        T_EMPTY_PATH = g::MOVE_MOUNT_T_EMPTY_PATH,
        SET_GROUP = g::MOVE_MOUNT_SET_GROUP,
        BENEATH = g::MOVE_MOUNT_BENEATH,
    };
}

impl CloneFlags {
    /// All that clone(2) and setns(2) look at.
    pub(crate) fn low_half(self) -> CloneFlags {
        CloneFlags::from_bits_retain(self.bits() & 0xffff_ffff)
    }
}

impl OpenFlags {
    /// No bit of the access mode.
    pub(crate) const RDONLY: OpenFlags = OpenFlags::empty();

    /// The access mode: `RDONLY`, `WRONLY`, `RDWR` or 3.
    pub(crate) fn access_mode(self) -> OpenFlags {
        self & OpenFlags::ACCMODE
    }

    /// Whether it is open for reading, as far as the access mode says.
    pub(crate) fn reads(self) -> bool {
        matches!(self.access_mode(), OpenFlags::RDONLY | OpenFlags::RDWR)
    }

    /// The same for writing.
    pub(crate) fn writes(self) -> bool {
        matches!(self.access_mode(), OpenFlags::WRONLY | OpenFlags::RDWR)
    }
}

impl FutexOp {
    /// The command.
    pub(crate) fn command(self) -> FutexCommand {
        FutexCommand::of((self - FutexOp::all()).bits())
    }
}

impl EpollEvents {
    /// Events of poll(2).
    pub(crate) fn of_poll(events: u16) -> EpollEvents {
        EpollEvents::from_bits_retain(events.into())
    }
}

impl ProtFlags {
    /// The rights that they give.
    pub(crate) fn rights(self) -> Prot {
        Prot::from_bits_truncate(self.bits() as u8)
    }
}

impl FileFlags {
    /// What an open file keeps of them.
    pub(crate) fn status(self) -> OpenFlags {
        match self.contains(FileFlags::NONBLOCK) {
            true => OpenFlags::NONBLOCK,
            false => OpenFlags::empty(),
        }
    }
}

/// What becomes of a descriptor in a program that is executed (`FD_CLOEXEC`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum OnExec {
    Close,
    Keep,
}

/// Types with a flag that says so for the descriptor that a call makes.
macro_rules! on_exec {
    ($($name:ident: $flag:ident),* $(,)?) => {$(
        impl $name {
            /// What becomes of the new descriptor when a program is executed.
            pub(crate) fn on_exec(self) -> OnExec {
                match self.contains($name::$flag) {
                    true => OnExec::Close,
                    false => OnExec::Keep,
                }
            }
        }
    )*};
}

on_exec! {
    OpenFlags: CLOEXEC,
    FileFlags: CLOEXEC,
    EventFdFlags: CLOEXEC,
    EpollFlags: CLOEXEC,
    MemfdFlags: CLOEXEC,
    FsopenFlags: CLOEXEC,
    FsmountFlags: CLOEXEC,
    FspickFlags: CLOEXEC,
    OpenTreeFlags: CLOEXEC,
    MessageFlags: CMSG_CLOEXEC,
}
