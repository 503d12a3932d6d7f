//! The timers of timer_create(2).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::event::{CountsFrom, expiry, itimerspec, read_itimerspec};
use super::time::cpu_clock;
use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::args::*;
use crate::env::wait::SysResult;
use crate::kernel::Cx;
use crate::task::cputime;
use crate::task::posix_timer::{self, Notify, PosixTimer};
use crate::task::signal::SIGNALS;

/// `struct sigevent`
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Sigevent {
    value: u64,
    signo: i32,
    notify: i32,
    tid: i32,
    pad: [u32; 11],
}

/// How a timer with this `struct sigevent` tells, with which signal and value. `EINVAL`.
fn notification(cx: &mut Cx<'_, '_>, event: &Sigevent) -> Result<(Notify, u8), Errno> {
    let signal = u8::try_from(event.signo)
        .ok()
        .filter(|&signal| (1..=SIGNALS).contains(&signal));
    match event.notify as u32 {
        g::SIGEV_NONE => Ok((Notify::Nothing, 0)),
        // SIGEV_THREAD is the C library's own; to the kernel it is a signal.
        g::SIGEV_SIGNAL | g::SIGEV_THREAD => Ok((Notify::Process, signal.ok_or(Errno::EINVAL)?)),
        g::SIGEV_THREAD_ID => {
            let tid = event.tid as u32;
            let thread = cx.meant_thread(tid).ok_or(Errno::EINVAL)?;
            let task = cx.k.tasks.get(thread).ok_or(Errno::EINVAL)?;
            match task.tgid == cx.task().tgid && !task.exited {
                true => Ok((Notify::Thread(tid), signal.ok_or(Errno::EINVAL)?)),
                false => Err(Errno::EINVAL),
            }
        }
        _ => Err(Errno::EINVAL),
    }
}

pub(super) fn timer_create(
    cx: &mut Cx<'_, '_>,
    clockid: Clock,
    sevp: Addr,
    timerid: Addr,
) -> SysResult {
    let event: Option<Sigevent> = match sevp.0 {
        0 => None,
        at => Some(cx.read_obj(at)?),
    };
    let clock = clockid.0 as u32;
    let cpu = cpu_clock(cx, clockid.0)?;
    match clock {
        g::CLOCK_REALTIME | g::CLOCK_MONOTONIC | g::CLOCK_BOOTTIME | g::CLOCK_TAI => {}
        g::CLOCK_REALTIME_ALARM | g::CLOCK_BOOTTIME_ALARM => {
            if !cx.creds().capable(g::CAP_WAKE_ALARM) {
                return Err(Errno::EPERM.into());
            }
        }
        g::CLOCK_MONOTONIC_RAW | g::CLOCK_REALTIME_COARSE | g::CLOCK_MONOTONIC_COARSE => {
            return Err(Errno::EOPNOTSUPP.into());
        }
        _ if cpu.is_some() => {}
        _ => return Err(Errno::EINVAL.into()),
    }
    let (notify, signal) = match &event {
        Some(event) => notification(cx, event)?,
        None => (Notify::Process, g::SIGALRM as u8),
    };
    let id = posix_timer::create(cx, |id| {
        let value = event.map_or(u64::from(id), |event| event.value);
        PosixTimer::new(clock, cpu, notify, signal, value)
    })?;
    if let Err(errno) = cx.write_obj(timerid.0, &id) {
        posix_timer::delete(cx, id)?;
        return Err(errno.into());
    }
    Ok(0)
}

pub(super) fn timer_settime(
    cx: &mut Cx<'_, '_>,
    timerid: Int,
    flags: TimerFlags,
    new: Addr,
    old: Addr,
) -> SysResult {
    if new.0 == 0 {
        return Err(Errno::EINVAL.into());
    }
    let (value, interval) = read_itimerspec(cx, new.0)?;
    let id = timerid.0 as u32;
    let timer = *cx.group().timers.get(&id).ok_or(Errno::EINVAL)?;
    let from = match flags.contains(TimerFlags::ABSTIME) {
        false => CountsFrom::Now,
        true => CountsFrom::ClockStart,
    };
    let at = match timer.cpu {
        None => expiry(cx, timer.clock, value, from)?,
        Some(_) if value == 0 => None,
        Some(_) if from == CountsFrom::ClockStart => Some(value),
        Some(clock) => Some(cputime::read(cx.k, clock).saturating_add(value)),
    };
    // The interval of a timer that is disarmed is forgotten.
    let interval = if at.is_some() { interval } else { 0 };
    let before = posix_timer::set(cx, id, at, interval)?;
    if old.0 != 0 {
        cx.write_obj(old.0, &itimerspec(before))?;
    }
    Ok(0)
}

pub(super) fn timer_gettime(cx: &mut Cx<'_, '_>, timerid: Int, curr: Addr) -> SysResult {
    let times = posix_timer::get(cx, timerid.0 as u32)?;
    cx.write_obj(curr.0, &itimerspec(times))?;
    Ok(0)
}

pub(super) fn timer_getoverrun(cx: &mut Cx<'_, '_>, timerid: Int) -> SysResult {
    Ok(posix_timer::overruns(cx, timerid.0 as u32)?)
}

pub(super) fn timer_delete(cx: &mut Cx<'_, '_>, timerid: Int) -> SysResult {
    posix_timer::delete(cx, timerid.0 as u32)?;
    Ok(0)
}
