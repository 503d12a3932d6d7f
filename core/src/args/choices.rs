//! Numbers by which calls say one of several things, as what an operation is to do. A register becomes one of
//! these once. A number without a name stays in the value until the handler refuses it, where Linux does.

use super::{Arg, ArgKind};
use crate::abi::raw::{general as g, net as n, prctl as p};

/// Makes such types: `Name(type of the parameter) = kind { Value = number };`.
macro_rules! choices {
    ($(
        $(#[$doc:meta])*
        $name:ident($number:ty) = $kind:ident { $($value:ident = $is:pat),* $(,)? };
    )*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(crate) enum $name {
            $($value,)*
            /// A number without a name.
            Other($number),
        }

        impl $name {
            /// What a number stands for.
            pub(crate) fn of(number: $number) -> $name {
                match number {
                    $($is => $name::$value,)*
                    other => $name::Other(other),
                }
            }
        }

        impl Arg for $name {
            const KIND: ArgKind = ArgKind::$kind;
            fn from_reg(reg: u64) -> Self {
                $name::of(reg as $number)
            }
        }
    )*};
}

choices! {
    /// `MADV_` values (madvise(2)).
    Madvise(u32) = Int {
        Normal = g::MADV_NORMAL,
        Random = g::MADV_RANDOM,
        Sequential = g::MADV_SEQUENTIAL,
        WillNeed = g::MADV_WILLNEED,
        DontNeed = g::MADV_DONTNEED,
        DontNeedLocked = g::MADV_DONTNEED_LOCKED,
        Free = g::MADV_FREE,
        Remove = g::MADV_REMOVE,
        DontFork = g::MADV_DONTFORK,
        DoFork = g::MADV_DOFORK,
        Mergeable = g::MADV_MERGEABLE,
        Unmergeable = g::MADV_UNMERGEABLE,
        HugePage = g::MADV_HUGEPAGE,
        NoHugePage = g::MADV_NOHUGEPAGE,
        DontDump = g::MADV_DONTDUMP,
        DoDump = g::MADV_DODUMP,
        WipeOnFork = g::MADV_WIPEONFORK,
        KeepOnFork = g::MADV_KEEPONFORK,
        Cold = g::MADV_COLD,
        PageOut = g::MADV_PAGEOUT,
        PopulateRead = g::MADV_POPULATE_READ,
        PopulateWrite = g::MADV_POPULATE_WRITE,
        Collapse = g::MADV_COLLAPSE,
        HwPoison = g::MADV_HWPOISON,
        SoftOffline = g::MADV_SOFT_OFFLINE,
    };

    /// `POSIX_FADV_` values (posix_fadvise(2)). Files are in memory, so none changes anything.
    Fadvise(u32) = Int {
        Normal = g::POSIX_FADV_NORMAL,
        Random = g::POSIX_FADV_RANDOM,
        Sequential = g::POSIX_FADV_SEQUENTIAL,
        WillNeed = g::POSIX_FADV_WILLNEED,
        DontNeed = g::POSIX_FADV_DONTNEED,
        NoReuse = g::POSIX_FADV_NOREUSE,
    };

    /// Commands of fcntl(2).
    Fcntl(u32) = Fcntl {
        DupFd = g::F_DUPFD,
        DupFdCloexec = g::F_DUPFD_CLOEXEC,
        GetFd = g::F_GETFD,
        SetFd = g::F_SETFD,
        GetFl = g::F_GETFL,
        SetFl = g::F_SETFL,
        GetLk = g::F_GETLK,
        SetLk = g::F_SETLK,
        SetLkWait = g::F_SETLKW,
        OfdGetLk = g::F_OFD_GETLK,
        OfdSetLk = g::F_OFD_SETLK,
        OfdSetLkWait = g::F_OFD_SETLKW,
        GetOwn = g::F_GETOWN,
        SetOwn = g::F_SETOWN,
        GetOwnEx = g::F_GETOWN_EX,
        SetOwnEx = g::F_SETOWN_EX,
        GetSig = g::F_GETSIG,
        SetSig = g::F_SETSIG,
        SetPipeSize = g::F_SETPIPE_SZ,
        GetPipeSize = g::F_GETPIPE_SZ,
        Notify = g::F_NOTIFY,
        GetSeals = g::F_GET_SEALS,
        AddSeals = g::F_ADD_SEALS,
        GetLease = g::F_GETLEASE,
        SetLease = g::F_SETLEASE,
    };

    /// Operations of epoll_ctl(2).
    EpollOp(u32) = Int { Add = g::EPOLL_CTL_ADD, Mod = g::EPOLL_CTL_MOD, Del = g::EPOLL_CTL_DEL };

    /// Commands of futex(2), without the flags beside them.
    FutexCommand(u32) = Hex {
        Wait = g::FUTEX_WAIT,
        WaitBitset = g::FUTEX_WAIT_BITSET,
        Wake = g::FUTEX_WAKE,
        WakeBitset = g::FUTEX_WAKE_BITSET,
        WakeOp = g::FUTEX_WAKE_OP,
        Requeue = g::FUTEX_REQUEUE,
        CmpRequeue = g::FUTEX_CMP_REQUEUE,
        LockPi = g::FUTEX_LOCK_PI,
        LockPi2 = g::FUTEX_LOCK_PI2,
        TryLockPi = g::FUTEX_TRYLOCK_PI,
        UnlockPi = g::FUTEX_UNLOCK_PI,
        WaitRequeuePi = g::FUTEX_WAIT_REQUEUE_PI,
        CmpRequeuePi = g::FUTEX_CMP_REQUEUE_PI,
        Fd = g::FUTEX_FD,
    };

    /// What rt_sigprocmask(2) does with a set.
    SigmaskHow(u32) = Int { Block = g::SIG_BLOCK, Unblock = g::SIG_UNBLOCK, SetMask = g::SIG_SETMASK };

    /// Directions of shutdown(2).
    ShutdownHow(u32) = Int { Read = n::SHUT_RD, Write = n::SHUT_WR, Both = n::SHUT_RDWR };

    /// Whose usage getrusage(2) tells.
    RusageWho(i32) = Int { Own = 0, Children = -1, Thread = 1 };

    /// What kcmp(2) compares.
    KcmpKind(i32) = Int {
        File = 0,
        Vm = 1,
        Files = 2,
        Fs = 3,
        SigHand = 4,
        Io = 5,
        SysVSem = 6,
    };

    /// Operations of seccomp(2).
    SeccompOp(u32) = Uint { SetModeStrict = 0, SetModeFilter = 1, GetActionAvail = 2 };

    /// Operations of arch_prctl(2).
    ArchCode(u32) = Hex {
        SetGs = 0x1001,
        SetFs = g::ARCH_SET_FS,
        GetFs = 0x1003,
        GetGs = 0x1004,
        GetCpuid = 0x1011,
        SetCpuid = 0x1012,
    };

    /// Whom waitid(2) waits for.
    IdType(u32) = Int { All = g::P_ALL, Pid = g::P_PID, Group = g::P_PGID, PidFd = g::P_PIDFD };

    /// Commands of fsconfig(2).
    FsconfigCmd(u32) = Uint {
        SetFlag = 0,
        SetString = 1,
        SetBinary = 2,
        SetPath = 3,
        SetPathEmpty = 4,
        SetFd = 5,
        Create = 6,
        Reconfigure = 7,
        CreateExcl = 8,
    };

    /// Interval timers (getitimer(2)).
    Itimer(u32) = Int { Real = g::ITIMER_REAL, Virtual = g::ITIMER_VIRTUAL, Prof = g::ITIMER_PROF };

    /// Whose priority getpriority(2) and setpriority(2) are about.
    PriorityWho(u32) = Int { Process = 0, Group = 1, User = 2 };

    /// Whose IO priority ioprio_get(2) and ioprio_set(2) are about.
    IoPriorityWho(u32) = Int { Process = 1, Group = 2, User = 3 };

    /// Commands of shmctl(2).
    ShmCtl(u32) = Int {
        Rmid = 0,
        Set = 1,
        Stat = 2,
        Limits = 3,
        Lock = 11,
        Unlock = 12,
        StatAt = 13,
        Info = 14,
        StatAny = 15,
    };

    /// Commands of semctl(2).
    SemCtl(u32) = Int {
        Rmid = 0,
        Set = 1,
        Stat = 2,
        Limits = 3,
        GetPid = 11,
        GetVal = 12,
        GetAll = 13,
        GetNcnt = 14,
        GetZcnt = 15,
        SetVal = 16,
        SetAll = 17,
        StatAt = 18,
        Info = 19,
        StatAny = 20,
    };

    /// Commands of msgctl(2).
    MsgCtl(u32) = Int {
        Rmid = 0,
        Set = 1,
        Stat = 2,
        Limits = 3,
        StatAt = 11,
        Info = 12,
        StatAny = 13,
    };

    /// What a rule of landlock_add_rule(2) is about.
    RuleType(u32) = Int { PathBeneath = 1, NetPort = 2 };

    /// Options of prctl(2).
    PrctlOption(u32) = Int {
        SetName = p::PR_SET_NAME,
        GetName = p::PR_GET_NAME,
        SetPdeathsig = p::PR_SET_PDEATHSIG,
        GetPdeathsig = p::PR_GET_PDEATHSIG,
        SetNoNewPrivs = p::PR_SET_NO_NEW_PRIVS,
        GetNoNewPrivs = p::PR_GET_NO_NEW_PRIVS,
        CapbsetRead = p::PR_CAPBSET_READ,
        CapbsetDrop = p::PR_CAPBSET_DROP,
        CapAmbient = p::PR_CAP_AMBIENT,
        GetSecurebits = p::PR_GET_SECUREBITS,
        SetSecurebits = p::PR_SET_SECUREBITS,
        GetKeepcaps = p::PR_GET_KEEPCAPS,
        SetKeepcaps = p::PR_SET_KEEPCAPS,
        GetDumpable = p::PR_GET_DUMPABLE,
        SetDumpable = p::PR_SET_DUMPABLE,
        GetSeccomp = p::PR_GET_SECCOMP,
        SetSeccomp = p::PR_SET_SECCOMP,
        GetTiming = p::PR_GET_TIMING,
        SetTiming = p::PR_SET_TIMING,
        GetTimerslack = p::PR_GET_TIMERSLACK,
        SetTimerslack = p::PR_SET_TIMERSLACK,
        GetChildSubreaper = p::PR_GET_CHILD_SUBREAPER,
        SetChildSubreaper = p::PR_SET_CHILD_SUBREAPER,
        TaskPerfEventsDisable = p::PR_TASK_PERF_EVENTS_DISABLE,
        TaskPerfEventsEnable = p::PR_TASK_PERF_EVENTS_ENABLE,
        MceKill = p::PR_MCE_KILL,
        MceKillGet = p::PR_MCE_KILL_GET,
        SetThpDisable = p::PR_SET_THP_DISABLE,
        GetThpDisable = p::PR_GET_THP_DISABLE,
        SetIoFlusher = p::PR_SET_IO_FLUSHER,
        GetIoFlusher = p::PR_GET_IO_FLUSHER,
        GetTsc = p::PR_GET_TSC,
        SetTsc = p::PR_SET_TSC,
        GetTidAddress = p::PR_GET_TID_ADDRESS,
        GetAuxv = p::PR_GET_AUXV,
        SetMm = p::PR_SET_MM,
    };
}
