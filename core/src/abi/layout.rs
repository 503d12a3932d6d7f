//! Structures in user memory, as x86-64 lays them out.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

macro_rules! layouts {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(C)]
        pub(crate) struct $name {
            $(pub $field: $type,)*
        }
    )*};
}

layouts! {
    /// `struct timespec` (clock_gettime(2)).
    Timespec { sec: i64, nsec: i64, }
    /// `struct timeval` (gettimeofday(2)).
    Timeval { sec: i64, usec: i64, }
    /// `struct itimerval` (setitimer(2)).
    Itimerval { interval: Timeval, value: Timeval, }
    /// `struct itimerspec` (timer_settime(2)).
    Itimerspec { interval: Timespec, value: Timespec, }
    /// `struct timezone` (gettimeofday(2)).
    Timezone { minutes_west: i32, dst_time: i32, }
    /// `struct rlimit64` (prlimit(2)).
    Rlimit { cur: u64, max: u64, }
    /// `struct tms` (times(2)), in clock ticks.
    Tms { utime: i64, stime: i64, cutime: i64, cstime: i64, }
    /// `struct new_utsname` (uname(2)).
    Utsname {
        sysname: [u8; 65], nodename: [u8; 65], release: [u8; 65], version: [u8; 65], machine: [u8; 65],
        domainname: [u8; 65],
    }
    /// `struct sysinfo` (sysinfo(2)).
    Sysinfo {
        uptime: i64, loads: [u64; 3], totalram: u64, freeram: u64, sharedram: u64, bufferram: u64, totalswap: u64,
        freeswap: u64, procs: u16, pad: u16, pad2: u32, totalhigh: u64, freehigh: u64, mem_unit: u32, pad3: u32,
    }
    /// `struct rusage` (getrusage(2)).
    Rusage {
        utime: Timeval, stime: Timeval, maxrss: i64, ixrss: i64, idrss: i64, isrss: i64, minflt: i64, majflt: i64,
        nswap: i64, inblock: i64, oublock: i64, msgsnd: i64, msgrcv: i64, nsignals: i64, nvcsw: i64, nivcsw: i64,
    }
}

impl Timespec {
    /// From nanoseconds.
    pub(crate) fn from_nanos(nanos: u64) -> Timespec {
        Timespec {
            sec: (nanos / 1_000_000_000) as i64,
            nsec: (nanos % 1_000_000_000) as i64,
        }
    }

    /// A duration in nanoseconds, as large as it gets; `None` if it is negative or not normal (`EINVAL`).
    pub(crate) fn nanos(&self) -> Option<u64> {
        let sec = u64::try_from(self.sec).ok()?;
        let nsec = u64::try_from(self.nsec)
            .ok()
            .filter(|&nsec| nsec < 1_000_000_000)?;
        Some(sec.saturating_mul(1_000_000_000).saturating_add(nsec))
    }
}

impl Timeval {
    /// From nanoseconds, rounded down.
    pub(crate) fn from_nanos(nanos: u64) -> Timeval {
        Timeval {
            sec: (nanos / 1_000_000_000) as i64,
            usec: (nanos % 1_000_000_000 / 1000) as i64,
        }
    }

    /// A duration in nanoseconds, as large as it gets; `None` if it is negative or not normal (`EINVAL`).
    pub(crate) fn nanos(&self) -> Option<u64> {
        let sec = u64::try_from(self.sec).ok()?;
        let usec = u64::try_from(self.usec)
            .ok()
            .filter(|&usec| usec < 1_000_000)?;
        Some(
            sec.saturating_mul(1_000_000_000)
                .saturating_add(usec * 1000),
        )
    }
}
