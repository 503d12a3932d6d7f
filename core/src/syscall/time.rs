//! Clocks, sleeping and timers.

use crate::abi::Errno;
use crate::abi::layout::{Itimerval, Timespec, Timeval, Timezone};
use crate::abi::raw::general as g;
use crate::args::*;
use crate::env::timers::CpuClock;
use crate::env::wait::{Restart, SysResult, Wait, WaitKey};
use crate::kernel::Cx;
use crate::task::cputime::{self};
use crate::task::timer;

/// The time on a clock, in nanoseconds. `EINVAL` for clocks that do not exist.
pub(super) fn read_clock(cx: &Cx<'_, '_>, clock: i32) -> Result<u64, Errno> {
    let now = cx.now();
    match u32::try_from(clock) {
        Ok(
            g::CLOCK_REALTIME | g::CLOCK_REALTIME_COARSE | g::CLOCK_REALTIME_ALARM | g::CLOCK_TAI,
        ) => Ok(now.real),
        Ok(
            g::CLOCK_MONOTONIC
            | g::CLOCK_MONOTONIC_COARSE
            | g::CLOCK_MONOTONIC_RAW
            | g::CLOCK_BOOTTIME
            | g::CLOCK_BOOTTIME_ALARM,
        ) => Ok(now.mono),
        _ => match cpu_clock(cx, clock)? {
            Some(clock) => Ok(cputime::read(cx.k, clock)),
            None => Err(Errno::EINVAL),
        },
    }
}

/// The clock of processor time that a number means: `CLOCK_PROCESS_CPUTIME_ID`, `CLOCK_THREAD_CPUTIME_ID`, or
/// `!pid << 3 | per-thread << 2 | kind` (clock_getcpuclockid(3)). `EINVAL`; `None` for other clocks.
pub(super) fn cpu_clock(cx: &Cx<'_, '_>, clock: i32) -> Result<Option<CpuClock>, Errno> {
    const PER_THREAD: i32 = 4;
    const KIND: i32 = 3;
    const VIRTUAL: i32 = 1;
    let task = cx.task();
    let own = CpuClock::Process(task.tgid);
    match u32::try_from(clock) {
        Ok(g::CLOCK_PROCESS_CPUTIME_ID) => return Ok(Some(own)),
        Ok(g::CLOCK_THREAD_CPUTIME_ID) => return Ok(Some(CpuClock::Thread(task.id))),
        Ok(_) => return Ok(None),
        Err(_) => {}
    }
    if clock & KIND == KIND {
        return Err(Errno::EINVAL);
    }
    let id = match !(clock >> 3) as u32 {
        0 => 0,
        id => cx.meant_pid(id).ok_or(Errno::EINVAL)?,
    };
    if clock & PER_THREAD != 0 {
        let tid = if id == 0 { task.tid } else { id };
        let thread = cx.k.tasks.by_tid(tid).ok_or(Errno::EINVAL)?;
        let other = cx.k.tasks.get(thread).ok_or(Errno::EINVAL)?;
        return match other.tgid == task.tgid {
            true => Ok(Some(CpuClock::Thread(thread))),
            false => Err(Errno::EINVAL),
        };
    }
    let tgid = match id {
        0 => task.tgid,
        id if id == task.tid => task.tgid,
        id if cx.k.tasks.group_exists(id) => id,
        _ => return Err(Errno::EINVAL),
    };
    Ok(Some(match clock & KIND {
        VIRTUAL => CpuClock::User(tgid),
        _ => CpuClock::Process(tgid),
    }))
}

pub(super) fn sched_yield(_cx: &mut Cx<'_, '_>) -> SysResult {
    // The host schedules guest threads; its next decision is at the end of this trap anyway.
    Ok(0)
}

pub(super) fn nanosleep(cx: &mut Cx<'_, '_>, req: Addr, rem: Addr) -> SysResult {
    let timeout = cx
        .read_obj::<Timespec>(req.0)?
        .nanos()
        .ok_or(Errno::EINVAL)?;
    sleep_for(cx, timeout, rem)
}

/// Sleeps until `timeout` nanoseconds after the call's entry; a signal's handler ends it with `EINTR` and the
/// rest in `rem`.
fn sleep_for(cx: &mut Cx<'_, '_>, timeout: u64, rem: Addr) -> SysResult {
    let end = cx.call().entered.mono.saturating_add(timeout);
    let now = cx.now().mono;
    if now >= end {
        return Ok(0);
    }
    if rem.0 != 0 && crate::task::signal::interrupts(cx.k, cx.thread) {
        cx.write_obj(rem.0, &Timespec::from_nanos(end - now))?;
    }
    sleep_until(cx, end)
}

fn sleep_until(cx: &Cx<'_, '_>, end: u64) -> SysResult {
    Wait::on(WaitKey::Signal(cx.thread))
        .until(Some(end))
        .restart(Restart::IfNoHandler)
        .into()
}

pub(super) fn clock_nanosleep(
    cx: &mut Cx<'_, '_>,
    clock: Clock,
    flags: TimerFlags,
    req: Addr,
    rem: Addr,
) -> SysResult {
    match u32::try_from(clock.0) {
        Ok(g::CLOCK_THREAD_CPUTIME_ID) => return Err(Errno::EINVAL.into()),
        Ok(g::CLOCK_MONOTONIC_RAW | g::CLOCK_REALTIME_COARSE | g::CLOCK_MONOTONIC_COARSE) => {
            return Err(Errno::EOPNOTSUPP.into());
        }
        _ => {}
    }
    if let Some(cpu) = cpu_clock(cx, clock.0)? {
        return sleep_on(cx, cpu, flags, req, rem);
    }
    let now = read_clock(cx, clock.0)?;
    let time = cx
        .read_obj::<Timespec>(req.0)?
        .nanos()
        .ok_or(Errno::EINVAL)?;
    if !flags.contains(TimerFlags::ABSTIME) {
        return sleep_for(cx, time, rem);
    }
    if now >= time {
        return Ok(0);
    }
    // The clocks run at one speed here, so an absolute end on any of them is one on the monotonic clock.
    sleep_until(cx, cx.now().mono.saturating_add(time - now))
}

/// Sleeps until a process has run for a time.
fn sleep_on(
    cx: &mut Cx<'_, '_>,
    clock: CpuClock,
    flags: TimerFlags,
    req: Addr,
    rem: Addr,
) -> SysResult {
    let time = cx
        .read_obj::<Timespec>(req.0)?
        .nanos()
        .ok_or(Errno::EINVAL)?;
    // A thread does not wait for itself.
    if clock == CpuClock::Thread(cx.thread) {
        return Err(Errno::EINVAL.into());
    }
    let now = cputime::read(cx.k, clock);
    let absolute = flags.contains(TimerFlags::ABSTIME);
    let end = match cx.call().progress {
        0 if absolute => time,
        0 => now.saturating_add(time),
        end => end,
    };
    if now >= end {
        return Ok(0);
    }
    cx.call().progress = end;
    if !absolute && rem.0 != 0 && crate::task::signal::interrupts(cx.k, cx.thread) {
        cx.write_obj(rem.0, &Timespec::from_nanos(end - now))?;
    }
    cputime::sleep(cx.k, cx.thread, clock, end);
    Wait::on(WaitKey::Signal(cx.thread))
        .restart(Restart::IfNoHandler)
        .into()
}

pub(super) fn getitimer(cx: &mut Cx<'_, '_>, which: Itimer, value: Addr) -> SysResult {
    let (left, interval) = timer::get(cx, which)?;
    cx.write_obj(value.0, &itimerval(left, interval))?;
    Ok(0)
}

pub(super) fn setitimer(cx: &mut Cx<'_, '_>, which: Itimer, new: Addr, old: Addr) -> SysResult {
    let (value, interval) = match new.0 {
        // Linux takes a null pointer as zeros (and warns).
        0 => (0, 0),
        addr => {
            let new: Itimerval = cx.read_obj(addr)?;
            let value = new.value.nanos().ok_or(Errno::EINVAL)?;
            (value, new.interval.nanos().ok_or(Errno::EINVAL)?)
        }
    };
    let (left, before) = timer::set(cx, which, value, interval)?;
    if old.0 != 0 {
        cx.write_obj(old.0, &itimerval(left, before))?;
    }
    Ok(0)
}

fn itimerval(left: u64, interval: u64) -> Itimerval {
    Itimerval {
        interval: Timeval::from_nanos(interval),
        value: Timeval::from_nanos(left),
    }
}

pub(super) fn alarm(cx: &mut Cx<'_, '_>, seconds: Uint) -> SysResult {
    let (left, _) = timer::set(cx, Itimer::Real, u64::from(seconds.0) * 1_000_000_000, 0)?;
    // Rounded as Linux does: half a second up, but never down to "no alarm".
    Ok(match left {
        0 => 0,
        left => ((left + 500_000_000) / 1_000_000_000).max(1),
    })
}

pub(super) fn gettimeofday(cx: &mut Cx<'_, '_>, tv: Addr, tz: Addr) -> SysResult {
    if tv.0 != 0 {
        let time = Timeval::from_nanos(cx.now().real);
        cx.write_obj(tv.0, &time)?;
    }
    if tz.0 != 0 {
        cx.write_obj(
            tz.0,
            &Timezone {
                minutes_west: 0,
                dst_time: 0,
            },
        )?;
    }
    Ok(0)
}

pub(super) fn time(cx: &mut Cx<'_, '_>, tloc: Addr) -> SysResult {
    let seconds = cx.now().real / 1_000_000_000;
    if tloc.0 != 0 {
        cx.write_obj(tloc.0, &seconds)?;
    }
    Ok(seconds)
}

pub(super) fn clock_settime(cx: &mut Cx<'_, '_>, clock: Clock, tp: Addr) -> SysResult {
    if clock.0 > 0 || cpu_clock(cx, clock.0)?.is_none() && clock.0 < 0 {
        return Err(Errno::EINVAL.into());
    }
    cx.read_obj::<Timespec>(tp.0)?
        .nanos()
        .ok_or(Errno::EINVAL)?;
    // Nobody in the sandbox holds CAP_SYS_TIME over the host's clock.
    Err(Errno::EPERM.into())
}

pub(super) fn clock_gettime(cx: &mut Cx<'_, '_>, clock: Clock, tp: Addr) -> SysResult {
    let time = read_clock(cx, clock.0)?;
    cx.write_obj(tp.0, &Timespec::from_nanos(time))?;
    Ok(0)
}

pub(super) fn clock_getres(cx: &mut Cx<'_, '_>, clock: Clock, res: Addr) -> SysResult {
    read_clock(cx, clock.0)?;
    if res.0 != 0 {
        cx.write_obj(res.0, &Timespec::from_nanos(1))?;
    }
    Ok(0)
}
