//! Interval timers of processes (`alarm`, `setitimer`), and what happens when a timer of the queue
//! ([`timers`](crate::env::timers)) expires.

use super::cputime::{self, CpuTimer};
use super::posix_timer;
use super::signal::{self, SigInfo};
use crate::Kernel;
use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::args::Itimer;
use crate::env::timers::{CpuClock, TimerKey};
use crate::file::timerfd;
use crate::task::Cx;

/// An interval timer of a process: `ITIMER_REAL` in nanoseconds of `CLOCK_MONOTONIC`, the others in those
/// that the process has run.
#[derive(Clone, Copy, Debug, Default, Hash)]
pub(crate) struct Timer {
    /// When it expires next; `None` if it is not armed.
    pub at: Option<u64>,
    /// Time between expiries, 0 for a timer that expires once.
    pub interval: u64,
}

/// Lets the timers expire whose time has come, as long as steps are left.
pub(crate) fn expire(k: &mut Kernel) {
    let now = k.env.now.mono;
    while let Some(&(at, key)) = k.env.timers.0.first()
        && at <= now
        && k.env.steps.may_begin()
    {
        k.env.steps.spend(8);
        k.env.timers.0.pop_first();
        match key {
            TimerKey::Real(tgid) => expire_real(k, tgid, at),
            TimerKey::Posix(tgid, id) => posix_timer::expire(k, tgid, id),
            TimerKey::File(id) => timerfd::expire(k, id),
            TimerKey::Cpu(clock) => cputime::tick(k, clock),
        }
    }
}

/// Nanoseconds that lie at least between two expiries which nobody asked for: of a timer that tells nobody,
/// whose signal is ignored, or waits already. Otherwise a short interval would keep the kernel busy with
/// nothing else (Linux puts a tick between them too).
pub(crate) const UNSEEN_MIN: u64 = 1_000_000;
/// The same for `ITIMER_REAL`, whose signal may be looked at meanwhile.
const REAL_MIN: u64 = 100_000;

/// The first time behind `now` that is whole intervals after `at`, and how many of those lie between.
pub(crate) fn after(at: u64, interval: u64, now: u64) -> (u64, u64) {
    let missed = now.saturating_sub(at) / interval.max(1);
    let next = at.saturating_add((missed + 1).saturating_mul(interval));
    (next, missed)
}

fn expire_real(k: &mut Kernel, tgid: u32, at: u64) {
    let now = k.env.now.mono;
    let Some(group) = k.tasks.group_mut(tgid) else {
        return;
    };
    // Expiries that were missed count once, as a standard signal does.
    let next = match group.timer.interval {
        0 => None,
        interval => Some(after(at, interval, now.saturating_add(REAL_MIN)).0),
    };
    group.timer.at = next;
    k.env.timers.arm(TimerKey::Real(tgid), None, next);
    signal::send_process(k, tgid, SigInfo::kernel(g::SIGALRM as u8));
}

/// The interval timer that is meant, if it runs on processor time. `EINVAL` if there is no such timer.
fn on_processor_time(which: Itimer) -> Result<Option<CpuTimer>, Errno> {
    match which {
        Itimer::Real => Ok(None),
        Itimer::Virtual => Ok(Some(CpuTimer::Virtual)),
        Itimer::Prof => Ok(Some(CpuTimer::Profile)),
        Itimer::Other(_) => Err(Errno::EINVAL),
    }
}

/// Time left and interval of a timer of the current process (getitimer(2)). `EINVAL`.
pub(crate) fn get(cx: &mut Cx<'_, '_>, which: Itimer) -> Result<(u64, u64), Errno> {
    let group = cx.group();
    let (timer, now) = match on_processor_time(which)? {
        None => (group.timer, cx.now().mono),
        Some(which) => {
            let timer = match which {
                CpuTimer::Virtual => group.virtual_timer,
                _ => group.profile_timer,
            };
            (timer, cputime::read(cx.k, which.clock(group.tgid)))
        }
    };
    // A timer that is armed never shows zero.
    let left = timer.at.map_or(0, |at| at.saturating_sub(now).max(1000));
    Ok((left, timer.interval))
}

/// Arms a timer of the current process to expire in `value` nanoseconds and every `interval` after, or
/// disarms it if `value` is 0 (setitimer(2)). Returns what [`get`] gave before. `EINVAL`.
pub(crate) fn set(
    cx: &mut Cx<'_, '_>,
    which: Itimer,
    value: u64,
    interval: u64,
) -> Result<(u64, u64), Errno> {
    let before = get(cx, which)?;
    let tgid = cx.task().tgid;
    if let Some(which) = on_processor_time(which)? {
        cputime::set_interval(cx.k, tgid, which, value, interval);
        return Ok(before);
    }
    let at = match value {
        0 => None,
        value => Some(cx.now().mono.saturating_add(value)),
    };
    arm_real(cx.k, tgid, at);
    cx.group_mut().timer.interval = interval;
    Ok(before)
}

fn arm_real(k: &mut Kernel, tgid: u32, at: Option<u64>) {
    if let Some(group) = k.tasks.group_mut(tgid) {
        let before = core::mem::replace(&mut group.timer.at, at);
        k.env.timers.arm(TimerKey::Real(tgid), before, at);
    }
}

/// Stops the timers of a process that ends.
pub(super) fn disarm(k: &mut Kernel, tgid: u32) {
    arm_real(k, tgid, None);
    posix_timer::delete_all(k, tgid);
    cputime::forget(k, CpuClock::Process(tgid));
    cputime::forget(k, CpuClock::User(tgid));
    if let Some(group) = k.tasks.group_mut(tgid) {
        (group.virtual_timer, group.profile_timer) = (Timer::default(), Timer::default());
        group.limit_at = None;
    }
}
