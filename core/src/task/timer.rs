//! Interval timers of processes: `alarm`, `setitimer`.
//!
//! `ITIMER_REAL` is exact. `ITIMER_VIRTUAL` and `ITIMER_PROF` would count processor time, which the kernel sees only when a thread traps;
//! they are refused.

use super::signal::{self, SigInfo};
use crate::Kernel;
use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::kernel::Cx;

/// `ITIMER_REAL` of a process, in nanoseconds of `CLOCK_MONOTONIC`.
#[derive(Clone, Copy, Debug, Default, Hash)]
pub(crate) struct Timer {
    /// When it expires next; `None` if it is not armed.
    pub at: Option<u64>,
    /// Time between expiries, 0 for a timer that expires once.
    pub interval: u64,
}

/// The earliest expiry, in `CLOCK_MONOTONIC` nanoseconds.
pub(crate) fn next(k: &Kernel) -> Option<u64> {
    k.tasks.timers.first().map(|&(at, _)| at)
}

/// Sends the signals of timers that have expired by now.
pub(crate) fn expire(k: &mut Kernel) {
    let now = k.system.now.mono;
    while let Some(&(at, tgid)) = k.tasks.timers.first() {
        if at > now {
            break;
        }
        let interval = k.tasks.group(tgid).map_or(0, |group| group.timer.interval);
        // Expiries that were missed count once, as a standard signal does.
        let next = match interval {
            0 => None,
            interval => {
                Some(at.saturating_add(((now - at) / interval + 1).saturating_mul(interval)))
            }
        };
        arm(k, tgid, next);
        signal::send_process(k, tgid, SigInfo::kernel(g::SIGALRM as u8));
    }
}

/// Time left and interval of a timer of the current process (getitimer(2)). `EINVAL` for timers that are not supported.
pub(crate) fn get(cx: &mut Cx<'_, '_>, which: i32) -> Result<(u64, u64), Errno> {
    match u32::try_from(which) {
        Ok(g::ITIMER_REAL) => {}
        Ok(g::ITIMER_VIRTUAL | g::ITIMER_PROF) => return Ok((0, 0)),
        _ => return Err(Errno::EINVAL),
    }
    let timer = cx.group().timer;
    // A timer that is armed never shows zero.
    let left = timer
        .at
        .map_or(0, |at| at.saturating_sub(cx.now().mono).max(1000));
    Ok((left, timer.interval))
}

/// Arms a timer of the current process to expire in `value` nanoseconds and every `interval` after, or disarms it if `value` is 0 (setitimer(2)).
/// Returns what [`get`] gave before. `EINVAL` for timers that are not supported.
pub(crate) fn set(
    cx: &mut Cx<'_, '_>,
    which: i32,
    value: u64,
    interval: u64,
) -> Result<(u64, u64), Errno> {
    let before = get(cx, which)?;
    if which as u32 != g::ITIMER_REAL {
        return match value {
            0 => Ok(before),
            _ => Err(Errno::EINVAL),
        };
    }
    let tgid = cx.task().tgid;
    let at = match value {
        0 => None,
        value => Some(cx.now().mono.saturating_add(value)),
    };
    arm(cx.k, tgid, at);
    cx.group_mut().timer.interval = interval;
    Ok(before)
}

/// Stops the timer of a process that ends.
pub(super) fn disarm(k: &mut Kernel, tgid: u32) {
    arm(k, tgid, None);
}

fn arm(k: &mut Kernel, tgid: u32, at: Option<u64>) {
    let Some(group) = k.tasks.group_mut(tgid) else {
        return;
    };
    let before = core::mem::replace(&mut group.timer.at, at);
    if let Some(before) = before {
        k.tasks.timers.remove(&(before, tgid));
    }
    if let Some(at) = at {
        k.tasks.timers.insert((at, tgid));
    }
}
