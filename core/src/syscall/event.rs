//! Files that are events: counters, timers, signals (eventfd(2), timerfd_create(2), signalfd(2)).

use super::missing::known;
use super::time::read_clock;
use crate::abi::Errno;
use crate::abi::layout::{Itimerspec, Timespec};
use crate::abi::raw::general as g;
use crate::args::*;
use crate::cred::ns::pid;
use crate::env::wait::{SysResult, WaitKey};
use crate::file;
use crate::file::eventfd::EventFd;
use crate::file::shared;
use crate::file::timerfd::TimerFd;
use crate::file::{FileId, FileKind, fdtable, ready, timerfd};
use crate::fs::anon::Anon;
use crate::fs::seal;
use crate::kernel::Cx;
use crate::task::signal::UNBLOCKABLE;

pub(super) fn eventfd(cx: &mut Cx<'_, '_>, initval: Uint) -> SysResult {
    make_eventfd(cx, initval.0, EventFdFlags::empty())
}

pub(super) fn eventfd2(cx: &mut Cx<'_, '_>, initval: Uint, flags: EventFdFlags) -> SysResult {
    make_eventfd(cx, initval.0, flags)
}

fn make_eventfd(cx: &mut Cx<'_, '_>, count: u32, flags: EventFdFlags) -> SysResult {
    let flags = known(cx, flags)?;
    let event = EventFd {
        count: u64::from(count),
        semaphore: flags.contains(EventFdFlags::SEMAPHORE),
    };
    let mut status = OpenFlags::RDWR;
    status.set(OpenFlags::NONBLOCK, flags.contains(EventFdFlags::NONBLOCK));
    let on_exec = flags.on_exec();
    let kind = FileKind::EventFd(event);
    Ok(ready::install(cx, kind, Anon::EventFd, status, on_exec)? as u64)
}

pub(super) fn timerfd_create(cx: &mut Cx<'_, '_>, clockid: Clock, flags: FileFlags) -> SysResult {
    let clock = clockid.0 as u32;
    let wakes = matches!(clock, g::CLOCK_REALTIME_ALARM | g::CLOCK_BOOTTIME_ALARM);
    let plain = matches!(
        clock,
        g::CLOCK_REALTIME | g::CLOCK_MONOTONIC | g::CLOCK_BOOTTIME
    );
    let flags = known(cx, flags)?;
    if !plain && !wakes {
        return Err(Errno::EINVAL.into());
    }
    if wakes && !cx.creds().capable(g::CAP_WAKE_ALARM) {
        return Err(Errno::EPERM.into());
    }
    let kind = FileKind::TimerFd(TimerFd::new(clock));
    let status = OpenFlags::RDWR | flags.status();
    let on_exec = flags.on_exec();
    Ok(ready::install(cx, kind, Anon::TimerFd, status, on_exec)? as u64)
}

/// The timer behind a descriptor. `EINVAL` if it is another file.
fn timer_of(cx: &mut Cx<'_, '_>, fd: Fd) -> Result<FileId, Errno> {
    let id = fdtable::get(cx, fd.0)?;
    timerfd::timer(cx.k, id).map(|_| id)
}

/// Times of `struct itimerspec`: value and interval. `EINVAL` if they are not normal.
pub(super) fn read_itimerspec(cx: &mut Cx<'_, '_>, at: u64) -> Result<(u64, u64), Errno> {
    let spec: Itimerspec = cx.read_obj(at)?;
    let value = spec.value.nanos().ok_or(Errno::EINVAL)?;
    Ok((value, spec.interval.nanos().ok_or(Errno::EINVAL)?))
}

pub(super) fn itimerspec((left, interval): (u64, u64)) -> Itimerspec {
    Itimerspec {
        interval: Timespec::from_nanos(interval),
        value: Timespec::from_nanos(left),
    }
}

/// What the value of a timer counts from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum CountsFrom {
    /// From now.
    Now,
    /// From the beginning of its clock (`TIMER_ABSTIME`).
    ClockStart,
}

/// When a timer with this value expires, in `CLOCK_MONOTONIC` nanoseconds; `None` for 0, which disarms.
pub(super) fn expiry(
    cx: &Cx<'_, '_>,
    clock: u32,
    value: u64,
    from: CountsFrom,
) -> Result<Option<u64>, Errno> {
    let mono = cx.now().mono;
    Ok(match (value, from) {
        (0, _) => None,
        (value, CountsFrom::Now) => Some(mono.saturating_add(value)),
        // The clocks run at one speed here; what has passed is due now.
        (value, CountsFrom::ClockStart) => {
            let now = read_clock(cx, clock as i32)?;
            Some(mono.saturating_add(value.saturating_sub(now)))
        }
    })
}

pub(super) fn timerfd_settime(
    cx: &mut Cx<'_, '_>,
    fd: Fd,
    flags: TimerFdFlags,
    new: Addr,
    old: Addr,
) -> SysResult {
    let (value, interval) = read_itimerspec(cx, new.0)?;
    let flags = known(cx, flags)?;
    let id = timer_of(cx, fd)?;
    let clock = timerfd::timer(cx.k, id)?.clock;
    // Nobody inside can set the clock, so that nothing is ever cancelled.
    let from = match flags.contains(TimerFdFlags::ABSTIME) {
        true => CountsFrom::ClockStart,
        false => CountsFrom::Now,
    };
    let at = expiry(cx, clock, value, from)?;
    let before = timerfd::set(cx.k, id, at, interval, flags.bits())?;
    if old.0 != 0 {
        cx.write_obj(old.0, &itimerspec(before))?;
    }
    Ok(0)
}

pub(super) fn timerfd_gettime(cx: &mut Cx<'_, '_>, fd: Fd, curr: Addr) -> SysResult {
    let id = timer_of(cx, fd)?;
    let times = timerfd::get(cx.k, id)?;
    cx.write_obj(curr.0, &itimerspec(times))?;
    Ok(0)
}

pub(super) fn signalfd(cx: &mut Cx<'_, '_>, fd: Fd, mask: Addr, sizemask: Size) -> SysResult {
    make_signalfd(cx, fd, mask, sizemask, FileFlags::empty())
}

pub(super) fn signalfd4(
    cx: &mut Cx<'_, '_>,
    fd: Fd,
    mask: Addr,
    sizemask: Size,
    flags: FileFlags,
) -> SysResult {
    make_signalfd(cx, fd, mask, sizemask, flags)
}

fn make_signalfd(
    cx: &mut Cx<'_, '_>,
    fd: Fd,
    mask: Addr,
    sizemask: Size,
    flags: FileFlags,
) -> SysResult {
    if sizemask.0 != size_of::<u64>() as u64 {
        return Err(Errno::EINVAL.into());
    }
    let mask: u64 = cx.read_obj(mask.0)?;
    let mask = mask & !UNBLOCKABLE;
    let flags = known(cx, flags)?;
    if fd.0 == -1 {
        let status = OpenFlags::RDWR | flags.status();
        let on_exec = flags.on_exec();
        let kind = FileKind::SignalFd(mask);
        return Ok(ready::install(cx, kind, Anon::SignalFd, status, on_exec)? as u64);
    }
    let id = fdtable::get(cx, fd.0)?;
    let FileKind::SignalFd(old) = &mut file::at_mut(cx.k, id).kind else {
        return Err(Errno::EINVAL.into());
    };
    *old = mask;
    let tgid = cx.task().tgid;
    cx.k.wake(WaitKey::Signals(tgid));
    Ok(fd.0 as u64)
}

pub(super) fn memfd_create(cx: &mut Cx<'_, '_>, name: Str, flags: MemfdFlags) -> SysResult {
    let either = MemfdFlags::EXEC | MemfdFlags::NOEXEC_SEAL;
    let mut flags = known(cx, flags)?;
    if flags.contains(either) {
        return Err(Errno::EINVAL.into());
    }
    // `check_sysctl_memfd_noexec()`
    let noexec = pid::noexec(cx.k, cx.task().ns.pid);
    if !flags.intersects(either) && noexec > 0 {
        flags |= MemfdFlags::NOEXEC_SEAL;
    }
    let seals_mode = flags.contains(MemfdFlags::NOEXEC_SEAL);
    if !seals_mode && noexec > 1 {
        return Err(Errno::EACCES.into());
    }
    let name = match cx.read_cstr(name.0, shared::NAME_MAX + 1) {
        Err(Errno::E2BIG) => return Err(Errno::EINVAL.into()),
        name => name?,
    };
    let (mode, seals) = match seals_mode {
        true => (0o666, seal::EXEC),
        false if flags.contains(MemfdFlags::ALLOW_SEALING) => (0o777, 0),
        false => (0o777, g::F_SEAL_SEAL),
    };
    let owner = (cx.creds().fsuid, cx.creds().fsgid);
    let name = [b"memfd:", name.as_slice()].concat();
    let id = shared::memory_file(cx.k, cx.p, &name, mode, owner, 0)?;
    if let Some(inode) = file::at(cx.k, id).inode {
        cx.k.fs.seals.add(inode, seals);
    }
    file::at_mut(cx.k, id).opener = cx.task().committed;
    file::at_mut(cx.k, id).flags |= OpenFlags::LARGEFILE;
    Ok(fdtable::install(cx, id, flags.on_exec())? as u64)
}

/// No descriptor is a ring, as none can be made.
pub(super) fn io_uring_enter(
    cx: &mut Cx<'_, '_>,
    fd: Fd,
    _to_submit: Uint,
    _min_complete: Uint,
    flags: Hex,
    _arg: Addr,
    _size: Size,
) -> SysResult {
    /// `IORING_ENTER_` flags, and the one that takes a number which is no descriptor.
    const ENTER_FLAGS: u64 = 0xff;
    const REGISTERED_RING: u64 = 0x10;
    if flags.0 & 0xffff_ffff & !ENTER_FLAGS != 0 || flags.0 & REGISTERED_RING != 0 {
        return Err(Errno::EINVAL.into());
    }
    fdtable::get(cx, fd.0)?;
    Err(Errno::EOPNOTSUPP.into())
}

/// The same.
pub(super) fn io_uring_register(
    cx: &mut Cx<'_, '_>,
    fd: Fd,
    opcode: Uint,
    _arg: Addr,
    _nr_args: Uint,
) -> SysResult {
    /// One past the highest `IORING_REGISTER_` operation of Linux 6.12, with the bit for a number that is no
    /// descriptor.
    const OPERATIONS: u32 = 31;
    const REGISTERED_RING: u32 = 1 << 31;
    if opcode.0 & !REGISTERED_RING >= OPERATIONS || opcode.0 & REGISTERED_RING != 0 {
        return Err(Errno::EINVAL.into());
    }
    fdtable::get(cx, fd.0)?;
    Err(Errno::EOPNOTSUPP.into())
}

/// As a kernel with `io_uring_disabled` set to 2 (`/proc/sys/kernel/io_uring_disabled`).
pub(super) fn io_uring_setup(_cx: &mut Cx<'_, '_>, _entries: Uint, _params: Addr) -> SysResult {
    Err(Errno::EPERM.into())
}
