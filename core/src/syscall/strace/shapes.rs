//! Structures in a program's memory, field by field.

use super::names::*;
use super::{Field, Scalar, Shape};
use Scalar::*;

/// A structure: its size, and each field's name, place and type. What stands behind `..` is shown only in
/// full.
macro_rules! shapes {
    ($($name:ident $size:literal { $($field:ident $at:literal $kind:expr),* $(; $($more:ident $more_at:literal $more_kind:expr),*)? })*) => {$(
        pub(super) static $name: Shape = Shape {
            size: $size,
            fields: &[
                $(Field { name: stringify!($field), at: $at, kind: $kind, always: true },)*
                $($(Field { name: stringify!($more), at: $more_at, kind: $more_kind, always: false },)*)?
            ],
        };
    )*};
}

shapes! {
    STATX_BUF 256 {
        stx_mask 0 Flags32(&STATX), stx_attributes 8 Flags64(&STATX_ATTR), stx_mode 28 Mode16, stx_size 40 U64;
        stx_blksize 4 U32, stx_nlink 16 U32, stx_uid 20 U32, stx_gid 24 U32, stx_ino 32 U64, stx_blocks 48 U64
    }
    TIMEZONE 8 { tz_minuteswest 0 I32, tz_dsttime 4 I32 }
    ITIMERVAL 32 { it_interval 0 Timeval, it_value 16 Timeval }
    ITIMERSPEC 32 { it_interval 0 Timespec, it_value 16 Timespec }
    UTIMBUF 16 { actime 0 I64, modtime 8 I64 }
    RLIMITS 16 { rlim_cur 0 Limit, rlim_max 8 Limit }
    RUSAGES 144 {
        ru_utime 0 Timeval, ru_stime 16 Timeval;
        ru_maxrss 32 I64, ru_minflt 64 I64, ru_majflt 72 I64, ru_inblock 88 I64, ru_oublock 96 I64, ru_nvcsw 128 I64,
        ru_nivcsw 136 I64
    }
    UTSNAME 390 {
        sysname 0 Text(65), nodename 65 Text(65);
        release 130 Text(65), version 195 Text(65), machine 260 Text(65), domainname 325 Text(65)
    }
    SYSINFO 112 {
        uptime 0 I64, loads 8 Words(3), totalram 32 U64, freeram 40 U64, sharedram 48 U64, bufferram 56 U64, totalswap 64 U64,
        freeswap 72 U64, procs 80 U16, totalhigh 88 U64, freehigh 96 U64, mem_unit 104 U32
    }
    TMS 32 { tms_utime 0 I64, tms_stime 8 I64, tms_cutime 16 I64, tms_cstime 24 I64 }
    STATFS 120 {
        f_type 0 One64(&FS_MAGIC), f_bsize 8 U64, f_blocks 16 U64, f_bfree 24 U64, f_bavail 32 U64, f_files 40 U64, f_ffree 48 U64,
        f_fsid 56 Fsid, f_namelen 64 U64, f_frsize 72 U64, f_flags 80 Flags64(&ST)
    }
    EPOLL_EVENT 12 { events 0 Flags32(&EPOLL), data 4 EpollData }
    STACK 24 { ss_sp 0 Pointer, ss_flags 8 Flags32(&SS), ss_size 16 U64 }
    WINSIZE 8 { ws_row 0 U16, ws_col 2 U16, ws_xpixel 4 U16, ws_ypixel 6 U16 }
    TERMIOS 36 {
        c_iflag 0 Flags32(&C_IFLAG), c_oflag 4 Flags32(&C_OFLAG), c_cflag 8 Control, c_lflag 12 Flags32(&C_LFLAG); c_line 16 U8
    }
    SCHED_ATTR 48 {
        size 0 U32, sched_policy 4 One32(&SCHED), sched_flags 8 X64, sched_nice 16 I32, sched_priority 20 U32, sched_runtime 24 U64,
        sched_deadline 32 U64, sched_period 40 U64
    }
    SEMBUF 6 { sem_num 0 U16, sem_op 2 I16, sem_flg 4 Flags16(&SEM_FLAGS) }
    MQ_ATTR 32 { mq_flags 0 Flags64(&OPEN), mq_maxmsg 8 I64, mq_msgsize 16 I64, mq_curmsgs 24 I64 }
    SIGEVENT 20 { sigev_value 0 SigVal, sigev_signo 8 Signal, sigev_notify 12 One32(&SIGEV); sigev_notify_thread_id 16 I32 }
    FLOCK 32 { l_type 0 One16(&FLOCK_TYPE), l_whence 2 One16(&WHENCE), l_start 8 I64, l_len 16 I64 }
    FLOCK_FOUND 32 { l_type 0 One16(&FLOCK_TYPE), l_whence 2 One16(&WHENCE), l_start 8 I64, l_len 16 I64, l_pid 24 I32 }
    OWNER 8 { kind 0 I32, pid 4 I32 }
    CAP_HEADER 8 { version 0 CapVersion, pid 4 I32 }
    CLONE_ARGS 64 {
        flags 0 Flags64(&CLONE), pidfd 8 Pointer, child_tid 16 Pointer, parent_tid 24 Pointer, exit_signal 32 Signal, stack 40 Pointer,
        stack_size 48 X64, tls 56 Pointer
    }
    RULESET 8 { handled_access_fs 0 Flags64(&LANDLOCK_FS) }
    PATH_BENEATH 12 { allowed_access 0 Flags64(&LANDLOCK_FS), parent_fd 8 Fd32 }
    NET_PORT 16 { allowed_access 0 Flags64(&LANDLOCK_NET), port 8 U64 }
    MOUNT_ATTR_SHAPE 32 {
        attr_set 0 Flags64(&MOUNT_ATTR), attr_clr 8 Flags64(&MOUNT_ATTR), propagation 16 One64(&PROPAGATION), userns_fd 24 U64
    }
    SIGMASK_PAIR 16 { sigmask 0 Pointer, sigsetsize 8 U64 }
    CACHESTAT_RANGE 16 { off 0 X64, len 8 X64 }
    CACHESTAT 40 { nr_cache 0 U64, nr_dirty 8 U64, nr_writeback 16 U64, nr_evicted 24 U64, nr_recently_evicted 32 U64 }
    WAITV 24 { val 0 X64, uaddr 8 Pointer, flags 16 Flags32(&FUTEX2) }
    LINGER 8 { l_onoff 0 I32, l_linger 4 I32 }
    UCRED 12 { pid 0 I32, uid 4 U32, gid 8 U32 }
    SOCK_FPROG 16 { len 0 U16, filter 8 Pointer }
}
