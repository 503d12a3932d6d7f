//! System calls that need a privilege which nobody in a sandbox has, or that look at more than a container's
//! default seccomp profile lets: they are refused as Docker refuses them. The table says why, call by call.

use crate::abi::Errno;
use crate::abi::layout::{Timeval, Timezone};
use crate::abi::raw::general as g;
use crate::args::*;
use crate::env::wait::SysResult;
use crate::kernel::Cx;

/// `EPERM` for calls of any arguments.
macro_rules! not_permitted {
    ($($name:ident($($kind:ident),*);)*) => {$(
        pub(super) fn $name(_cx: &mut Cx<'_, '_> $(, _: $kind)*) -> SysResult {
            Err(Errno::EPERM.into())
        }
    )*};
}

not_permitted! {
    ptrace(Int, Pid, Addr, Addr);
    syslog(Int, Addr, Int);
    ustat(Uint, Addr);
    sysfs(Int, Hex, Hex);
    vhangup();
    acct(Path);
    swapon(Path, Hex);
    swapoff(Path);
    reboot(Hex, Hex, Hex, Addr);
    iopl(Int);
    ioperm(Ulong, Ulong, Int);
    init_module(Addr, Size, Str);
    delete_module(Str, Hex);
    finit_module(Fd, Str, Hex);
    quotactl(Hex, Path, Id, Addr);
    quotactl_fd(Fd, Hex, Id, Addr);
    kexec_load(Hex, Ulong, Addr, Hex);
    kexec_file_load(Fd, Fd, Size, Str, Hex);
    add_key(Str, Str, Addr, Size, Int);
    request_key(Str, Str, Str, Int);
    keyctl(Int, Hex, Hex, Hex, Hex);
    perf_event_open(Addr, Pid, Int, Fd, Hex);
    fanotify_init(Hex, OpenFlags);
    bpf(Int, Addr, Size);
}

/// As a kernel without `CONFIG_MODIFY_LDT_SYSCALL`.
pub(super) fn modify_ldt(_cx: &mut Cx<'_, '_>, _: Int, _: Addr, _: Size) -> SysResult {
    Err(Errno::ENOSYS.into())
}

/// As a kernel without `CONFIG_RSEQ`: the host preempts threads and moves them between processors without
/// telling, so that nobody could abort a critical section in time.
pub(super) fn rseq(_cx: &mut Cx<'_, '_>, _: Addr, _: Uint, _: Int, _: Hex) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn settimeofday(cx: &mut Cx<'_, '_>, tv: Addr, tz: Addr) -> SysResult {
    if tv.0 != 0 {
        let time: Timeval = cx.read_obj(tv.0)?;
        time.nanos().ok_or(Errno::EINVAL)?;
    }
    if tz.0 != 0 {
        let _: Timezone = cx.read_obj(tz.0)?;
    }
    Err(Errno::EPERM.into())
}

/// `struct timex` as 26 words.
const TIMEX_WORDS: usize = 26;
/// `TIME_ERROR`: the kernel does not know whether the host's clock is synchronised.
const TIME_ERROR: u64 = 5;

pub(super) fn adjtimex(cx: &mut Cx<'_, '_>, buf: Addr) -> SysResult {
    const STA_UNSYNC: u64 = 0x40;
    const UNKNOWN_ERROR: u64 = 16_000_000;
    const TOLERANCE: u64 = 32_768_000;
    const TICK: u64 = 10_000;
    const SS_READ: u32 = 0xa001;
    let modes: u32 = cx.read_obj(buf.0)?;
    if modes != 0 && modes != SS_READ {
        return Err(Errno::EPERM.into());
    }
    let now = Timeval::from_nanos(cx.now().real);
    let mut words = [0u64; TIMEX_WORDS];
    words[0] = u64::from(modes);
    (words[3], words[4], words[5]) = (UNKNOWN_ERROR, UNKNOWN_ERROR, STA_UNSYNC);
    words[6] = 2;
    (words[7], words[8]) = (1, TOLERANCE);
    (words[9], words[10], words[11]) = (now.sec as u64, now.usec as u64, TICK);
    cx.write_obj(buf.0, &words)?;
    Ok(TIME_ERROR)
}

pub(super) fn clock_adjtime(cx: &mut Cx<'_, '_>, clock: Clock, buf: Addr) -> SysResult {
    if clock.0 == g::CLOCK_REALTIME as i32 {
        return adjtimex(cx, buf);
    }
    let _: u32 = cx.read_obj(buf.0)?;
    super::time::read_clock(cx, clock.0)?;
    Err(Errno::EOPNOTSUPP.into())
}
