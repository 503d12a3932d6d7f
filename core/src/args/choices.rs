//! Numbers by which calls say one of several things, as what an operation is to do. A register becomes one of
//! these once. A number without a name stays in the value until the handler refuses it, where Linux does.

use super::{Arg, ArgKind};
use crate::abi::raw::general as g;

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
}
