//! How arguments and results are shown whose type alone does not tell: the names that the table uses.

use super::names;
use super::shapes;
use super::{Count, Form, Outcome, Scalar, Special, What};

macro_rules! forms {
    ($($name:ident = $form:expr;)*) => {
        $(pub(crate) const $name: Form = $form;)*
    };
}

const fn shape(shape: &'static super::Shape) -> What {
    What::Shape(shape)
}

macro_rules! flags {
    ($($name:ident = $names:ident;)*) => {
        $(pub(crate) const $name: Form = Form::Flags(&names::$names);)*
    };
}

macro_rules! one_of {
    ($($name:ident = $names:ident;)*) => {
        $(pub(crate) const $name: Form = Form::OneOf(&names::$names);)*
    };
}

flags! {
    ACCESS_MODE = ACCESS;
    UNLINK_FLAGS = UNLINK;
    FACCESS_FLAGS = FACCESS;
    CLONE_ONLY = CLONE;
    EPOLL_FLAGS = CLOEXEC_EPOLL;
    EVENT_FLAGS = EFD;
    TIMERFD_FLAGS = TFD;
    TIMERFD_SET = TFD_TIMER;
    SIGNALFD_FLAGS = SFD;
    INOTIFY_FLAGS = IN_INIT;
    INOTIFY_MASK = IN;
    PIDFD_FLAGS = PIDFD;
    RULESET_FLAGS = LANDLOCK_CREATE;
    RESTRICT_FLAGS = LANDLOCK_RESTRICT;
    MREMAP_FLAGS = MREMAP;
    MSYNC_FLAGS = MSYNC;
    MLOCKALL_FLAGS = MCL;
    MLOCK_FLAGS = MLOCK;
    FALLOC_MODE = FALLOC;
    SYNC_RANGE = SYNC_RANGE;
    SPLICE_FLAGS = SPLICE;
    RW_FLAGS = RWF;
    RENAME_FLAGS = RENAME;
    XATTR_FLAGS = XATTR;
    FLOCK_OPERATION = LOCK;
    MEMFD_FLAGS = MFD;
    RANDOM_FLAGS = GRND;
    CLOSE_RANGE = CLOSE_RANGE;
    STATX_MASK = STATX;
    STATX_FLAGS = STATX_AT;
    MOUNT_FLAGS = MS;
    UMOUNT_FLAGS = UMOUNT;
    OPEN_TREE_FLAGS = OPEN_TREE;
    MOVE_MOUNT_FLAGS = MOVE_MOUNT;
    FSOPEN_FLAGS = FSOPEN;
    FSMOUNT_FLAGS = FSMOUNT;
    FSPICK_FLAGS = FSPICK;
    MOUNT_ATTRIBUTES = MOUNT_ATTR;
    SETATTR_FLAGS = SETATTR;
    WAIT_OPTIONS = WAIT;
    WAITID_OPTIONS = WAITID;
    TIMER_FLAGS = TIMER;
    FUTEX2_FLAGS = FUTEX2;
    SECCOMP_FLAGS = SECCOMP_FLAGS;
    IPC_GET = IPC_GET;
    SHM_GET = SHM_GET;
    SHM_AT = SHM_AT;
    MSG_QUEUE = MSG_QUEUE;
    SOCKET_FLAGS = SOCK_FLAGS;
    MESSAGE_FLAGS = MSG;
    MEMBARRIER = MEMBARRIER;
}

one_of! {
    SIGMASK_HOW = SIGMASK_HOW;
    EPOLL_OP = EPOLL_OP;
    ADVICE = MADV;
    FILE_ADVICE = FADV;
    ID_TYPE = ID_TYPE;
    RESOURCE = RLIMIT;
    RUSAGE_WHO = RUSAGE;
    PRIORITY_WHO = PRIO;
    POLICY = SCHED;
    ITIMER = ITIMER;
    ARCH_CODE = ARCH_PRCTL;
    PRCTL_OPTION = PRCTL;
    SECCOMP_OP = SECCOMP_OP;
    SHM_CTL = SHM_CTL;
    SEM_CTL = SEM_CTL;
    MSG_CTL = MSG_CTL;
    FAMILY = AF;
    SHUTDOWN_HOW = SHUT;
    SOCKET_LEVEL = SOL;
    MPOL = MPOL;
    KCMP_KIND = KCMP;
    RULE_TYPE = LANDLOCK_RULE;
    FSCONFIG_CMD = FSCONFIG;
}

forms! {
    TARGET = Form::Path;
    FILE_FLAGS = Form::Flags(&names::OPEN);
    OUT_STAT = Form::Out(What::Stat);
    OUT_STATX = Form::Out(shape(&shapes::STATX_BUF));
    OUT_STATFS = Form::Out(shape(&shapes::STATFS));
    IN_TIMESPEC = Form::In(What::Value(Scalar::Timespec, false));
    OUT_TIMESPEC = Form::Out(What::Value(Scalar::Timespec, false));
    LEFT_TIMESPEC = Form::Left(What::Value(Scalar::Timespec, false));
    IN_TIMEVAL = Form::In(What::Value(Scalar::Timeval, false));
    OUT_TIMEVAL = Form::Out(What::Value(Scalar::Timeval, false));
    IN_TIMESPECS = Form::In(What::Values(Scalar::FileTime, Count::Of(2)));
    IN_TIMEVALS = Form::In(What::Values(Scalar::Timeval, Count::Of(2)));
    IN_UTIMBUF = Form::In(shape(&shapes::UTIMBUF));
    OUT_TIMEZONE = Form::Out(shape(&shapes::TIMEZONE));
    IN_TIMEZONE = Form::In(shape(&shapes::TIMEZONE));
    IN_ITIMERVAL = Form::In(shape(&shapes::ITIMERVAL));
    OUT_ITIMERVAL = Form::Out(shape(&shapes::ITIMERVAL));
    IN_ITIMERSPEC = Form::In(shape(&shapes::ITIMERSPEC));
    OUT_ITIMERSPEC = Form::Out(shape(&shapes::ITIMERSPEC));
    IN_SIGEVENT = Form::In(shape(&shapes::SIGEVENT));
    IN_SIGSET = Form::In(What::SignalSet);
    OUT_SIGSET = Form::Out(What::SignalSet);
    IN_SIGACTION = Form::In(What::SignalAction);
    OUT_SIGACTION = Form::Out(What::SignalAction);
    IN_SIGINFO = Form::In(What::SignalInfo);
    OUT_SIGINFO = Form::Out(What::SignalInfo);
    IN_STACK = Form::In(shape(&shapes::STACK));
    OUT_STACK = Form::Out(shape(&shapes::STACK));
    IN_POLLFDS = Form::In(What::PollFds);
    IN_FD_SET = Form::In(What::FdSet);
    IN_SIGMASK_PAIR = Form::In(shape(&shapes::SIGMASK_PAIR));
    OUT_FD_PAIR = Form::Out(What::Values(Scalar::Fd32, Count::Of(2)));
    OUT_I32 = Form::Out(What::Value(Scalar::I32, true));
    OUT_U32 = Form::Out(What::Value(Scalar::U32, true));
    OUT_I64 = Form::Out(What::Value(Scalar::I64, true));
    OUT_X64 = Form::Out(What::Value(Scalar::X64, true));
    BOTH_I64 = Form::Both(What::Value(Scalar::I64, true));
    TID = Form::Out(What::Value(Scalar::I32, true));
    OUT_STATUS = Form::Out(What::WaitStatus);
    OUT_RUSAGE = Form::Out(shape(&shapes::RUSAGES));
    IN_RLIMIT = Form::In(shape(&shapes::RLIMITS));
    OUT_RLIMIT = Form::Out(shape(&shapes::RLIMITS));
    OUT_UTSNAME = Form::Out(shape(&shapes::UTSNAME));
    OUT_SYSINFO = Form::Out(shape(&shapes::SYSINFO));
    OUT_TMS = Form::Out(shape(&shapes::TMS));
    IN_GROUPS = Form::InCounted(Scalar::U32);
    OUT_GROUPS = Form::Out(What::Values(Scalar::U32, Count::Result));
    IN_CAP_HEADER = Form::In(shape(&shapes::CAP_HEADER));
    IN_CAP_DATA = Form::In(What::Caps);
    OUT_CAP_DATA = Form::Out(What::Caps);
    IN_PARAM = Form::In(What::Value(Scalar::I32, true));
    OUT_PARAM = Form::Out(What::Value(Scalar::I32, true));
    IN_SCHED_ATTR = Form::In(shape(&shapes::SCHED_ATTR));
    OUT_SCHED_ATTR = Form::Out(shape(&shapes::SCHED_ATTR));
    IN_CPUS = Form::In(What::Cpus);
    OUT_CPUS = Form::Out(What::Cpus);
    IN_IOV = Form::In(What::Iovec);
    OUT_IOV = Form::Out(What::Iovec);
    IN_ADDRESS = Form::In(What::Address);
    OUT_ADDRESS = Form::Out(What::Address);
    ADDRESS_LEN = Form::Both(What::Value(Scalar::I32, true));
    IN_MESSAGE = Form::In(What::Message);
    OUT_MESSAGE = Form::Out(What::Message);
    IN_MESSAGES = Form::In(What::Messages);
    OUT_MESSAGES = Form::Out(What::Messages);
    IN_OPTION = Form::In(What::SocketOption);
    OUT_OPTION = Form::Out(What::SocketOption);
    IN_BYTES = Form::In(What::Bytes(Count::Next));
    OUT_BYTES = Form::Out(What::Bytes(Count::Result));
    OUT_PATH = Form::Out(What::Bytes(Count::Result));
    OUT_NAMES = Form::Out(What::Bytes(Count::Result));
    OUT_DIRENTS = Form::Out(What::Entries);
    IN_EPOLL_EVENT = Form::In(shape(&shapes::EPOLL_EVENT));
    OUT_EPOLL_EVENTS = Form::Out(What::Shapes(&shapes::EPOLL_EVENT, Count::Result));
    IN_MQ_ATTR = Form::In(shape(&shapes::MQ_ATTR));
    OUT_MQ_ATTR = Form::Out(shape(&shapes::MQ_ATTR));
    IN_SEMBUFS = Form::In(What::Shapes(&shapes::SEMBUF, Count::Next));
    IN_HOW = Form::In(What::OpenHow);
    IN_RULESET = Form::In(shape(&shapes::RULESET));
    RULE_ATTR = Form::Special(Special::RuleAttr);
    IN_MOUNT_ATTR = Form::In(shape(&shapes::MOUNT_ATTR_SHAPE));
    IN_CLONE_ARGS = Form::In(shape(&shapes::CLONE_ARGS));
    IN_RANGE = Form::In(shape(&shapes::CACHESTAT_RANGE));
    OUT_CACHESTAT = Form::Out(shape(&shapes::CACHESTAT));
    IN_WAITERS = Form::In(What::Shapes(&shapes::WAITV, Count::Next));
    ENVIRONMENT = Form::Special(Special::Environment);
    SOCKET_KIND = Form::Special(Special::SocketKind);
    SOCKET_OPTION_NAME = Form::Special(Special::SocketOptionName);
    FCNTL_ARG = Form::Special(Special::FcntlArg);
    IOCTL_REQUEST = Form::Special(Special::IoctlRequest);
    IOCTL_ARG = Form::Special(Special::IoctlArg);
    FUTEX_OP = Form::Special(Special::FutexOp);
    FUTEX_ARG = Form::Special(Special::FutexArg);
    PRCTL_ARG = Form::Special(Special::PrctlArg);
    IPC_KEY = Form::Special(Special::IpcKey);
    DEVICE = Form::Special(Special::Device);
    NODE_MODE = Form::Special(Special::NodeMode);
    PERSONALITY = Form::Special(Special::Personality);
    SECCOMP_ARG = Form::Special(Special::SeccompArg);
    FSCONFIG_KEY = Form::Special(Special::FsconfigKey);
    FSCONFIG_VALUE = Form::Special(Special::FsconfigValue);
    FSCONFIG_AUX = Form::Special(Special::FsconfigAux);
    SHORT_HEX = Form::Special(Special::ShortHex);
}

/// Results that are no plain number.
pub(crate) const FD: Outcome = Outcome::Fd;
pub(crate) const HEX: Outcome = Outcome::Hex;
pub(crate) const OCTAL: Outcome = Outcome::Octal;
pub(crate) const NOT_PLAIN: Outcome = Outcome::Own;
