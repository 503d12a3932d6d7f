//! The timers of timer_create(2).
//!
//! A timer whose signal waits to be delivered is not armed: delivery arms it again and counts what it missed
//! meanwhile as overruns (timer_getoverrun(2)). The signal carries its timer's number in a field of
//! `siginfo_t` that programs do not see.

use smallvec::SmallVec;

use super::cputime::{self, CpuTimer};
use super::signal::{self, SigInfo};
use super::timer;
use crate::Kernel;
use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::env::timers::{CpuClock, TimerKey};
use crate::task::Cx;

/// Most overruns that are told (`DELAYTIMER_MAX`).
const OVERRUNS_MAX: u64 = i32::MAX as u64;
/// The field of [`SigInfo`] that says which timer sent it: its number plus one.
pub(crate) const SENDER: usize = 3;

/// How an expiry is told.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Notify {
    /// `SIGEV_NONE`
    Nothing,
    /// `SIGEV_SIGNAL`
    Process,
    /// `SIGEV_THREAD_ID`
    Thread(u32),
}

/// A timer. Times are nanoseconds of its clock of processor time if it has one, else of `CLOCK_MONOTONIC`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct PosixTimer {
    pub clock: u32,
    pub cpu: Option<CpuClock>,
    pub notify: Notify,
    pub signal: u8,
    /// `sigev_value`
    pub value: u64,
    /// When it expires next, or expired last while its signal waits.
    at: Option<u64>,
    interval: u64,
    /// Its signal waits to be delivered: it is not armed.
    queued: bool,
    /// Expiries since the last signal was delivered, beyond the one it stands for; and those before.
    overruns: u64,
    told: u64,
    /// The user who pays for it.
    user: u32,
}

impl PosixTimer {
    pub(crate) fn new(
        clock: u32,
        cpu: Option<CpuClock>,
        notify: Notify,
        signal: u8,
        value: u64,
    ) -> PosixTimer {
        PosixTimer {
            clock,
            cpu,
            notify,
            signal,
            value,
            at: None,
            interval: 0,
            queued: false,
            overruns: 0,
            told: 0,
            user: 0,
        }
    }

    /// Who pays for it; for invariant checks.
    pub(super) fn user(&self) -> u32 {
        self.user
    }

    /// What it is armed for.
    pub(crate) fn armed(&self) -> Option<u64> {
        self.at.filter(|_| !self.queued)
    }
}

/// The time on the clock that a timer runs on.
fn now(k: &Kernel, cpu: Option<CpuClock>) -> u64 {
    match cpu {
        Some(clock) => cputime::read(k, clock),
        None => k.env.now.mono,
    }
}

/// Puts a timer into the queue of its clock or takes it out.
fn arm(
    k: &mut Kernel,
    tgid: u32,
    id: u32,
    cpu: Option<CpuClock>,
    before: Option<u64>,
    at: Option<u64>,
) {
    match cpu {
        Some(clock) => cputime::set(k, clock, CpuTimer::Posix(tgid, id), before, at),
        None => k.env.timers.arm(TimerKey::Posix(tgid, id), before, at),
    }
}

fn timer(k: &mut Kernel, tgid: u32, id: u32) -> Option<&mut PosixTimer> {
    k.tasks.group_mut(tgid)?.timers.get_mut(&id)
}

/// A number for a new timer of the current process. `EAGAIN` if its user has too many: they count with the
/// signals that wait (`RLIMIT_SIGPENDING`).
pub(crate) fn create(
    cx: &mut Cx<'_, '_>,
    timer: impl FnOnce(u32) -> PosixTimer,
) -> Result<u32, Errno> {
    let tgid = cx.task().tgid;
    let user = signal::user(cx.k, tgid);
    if cx.k.tasks.paid.of(user) >= signal::limit(cx.k, tgid) {
        return Err(Errno::EAGAIN);
    }
    cx.k.tasks.paid.add(user);
    let group = cx.group_mut();
    let mut id = group.next_timer;
    // There are fewer timers than numbers.
    while group.timers.contains_key(&id) {
        id = (id + 1) & i32::MAX as u32;
    }
    group.next_timer = (id + 1) & i32::MAX as u32;
    let timer = PosixTimer { user, ..timer(id) };
    group.timers.insert(id, timer);
    Ok(id)
}

/// Takes a timer of the current process away. `EINVAL` if there is no such timer.
pub(crate) fn delete(cx: &mut Cx<'_, '_>, id: u32) -> Result<(), Errno> {
    let tgid = cx.task().tgid;
    stop(cx.k, tgid, id).ok_or(Errno::EINVAL)?;
    forget(cx.k, tgid, id);
    Ok(())
}

fn forget(k: &mut Kernel, tgid: u32, id: u32) {
    let timer = k
        .tasks
        .group_mut(tgid)
        .and_then(|group| group.timers.remove(&id));
    if let Some(timer) = timer {
        k.tasks.paid.remove(timer.user);
    }
}

/// Takes all timers of a process away: it ends or executes a program.
pub(crate) fn delete_all(k: &mut Kernel, tgid: u32) {
    while delete_some(k, tgid) {}
}

/// Takes some of all timers of a process away, and all their signals. `false` if there are none.
pub(super) fn delete_some(k: &mut Kernel, tgid: u32) -> bool {
    const AT_ONCE: usize = 64;
    let Some(group) = k.tasks.group(tgid) else {
        return false;
    };
    let some = group.timers.iter().take(AT_ONCE);
    let waits = some.clone().any(|(_, timer)| timer.queued);
    let ids: SmallVec<[u32; AT_ONCE]> = some.map(|(&id, _)| id).collect();
    if waits {
        // The others go too.
        let steps = group.pending.len() as u64 / 16;
        k.env.steps.spend(steps);
        signal::take_back(k, tgid, u64::MAX, signal::is_timers);
    }
    for &id in &ids {
        k.env.steps.spend(4);
        if let Some(timer) = timer(k, tgid, id) {
            timer.queued = false;
        }
        stop(k, tgid, id);
        forget(k, tgid, id);
    }
    !ids.is_empty()
}

/// Disarms a timer and takes its signal back.
fn stop(k: &mut Kernel, tgid: u32, id: u32) -> Option<()> {
    let timer = timer(k, tgid, id)?;
    let (armed, cpu, signo) = (
        timer.armed(),
        timer.cpu,
        timer.signal.clamp(1, signal::SIGNALS),
    );
    timer.at = None;
    if core::mem::take(&mut timer.queued) {
        signal::take_back(k, tgid, signal::bit(signo), |info| is_from(info, id));
    }
    arm(k, tgid, id, cpu, armed, None);
    Some(())
}

fn is_from(info: &SigInfo, id: u32) -> bool {
    info.code == g::SI_TIMER && info.fields[SENDER] == u64::from(id) + 1
}

/// Time left and interval of a timer of the current process (timer_gettime(2)). `EINVAL`.
pub(crate) fn get(cx: &mut Cx<'_, '_>, id: u32) -> Result<(u64, u64), Errno> {
    let timer = cx.group().timers.get(&id).ok_or(Errno::EINVAL)?;
    let now = now(cx.k, timer.cpu);
    let left = match timer.at {
        None => 0,
        Some(at) if at > now => at - now,
        Some(at) if timer.interval > 0 => timer::after(at, timer.interval, now).0 - now,
        Some(_) if timer.queued || timer.notify == Notify::Nothing => 0,
        Some(_) => 1,
    };
    Ok((left, timer.interval))
}

/// Sets when a timer of the current process expires, or disarms it; gives what it was before
/// (timer_settime(2)). `EINVAL`.
pub(crate) fn set(
    cx: &mut Cx<'_, '_>,
    id: u32,
    at: Option<u64>,
    interval: u64,
) -> Result<(u64, u64), Errno> {
    let before = get(cx, id)?;
    let tgid = cx.task().tgid;
    stop(cx.k, tgid, id);
    if let Some(timer) = timer(cx.k, tgid, id) {
        (timer.at, timer.interval) = (at, interval);
        (timer.overruns, timer.told) = (0, 0);
        let cpu = timer.cpu;
        arm(cx.k, tgid, id, cpu, None, at);
    }
    Ok(before)
}

/// Overruns that the last signal told of (timer_getoverrun(2)). `EINVAL`.
pub(crate) fn overruns(cx: &Cx<'_, '_>, id: u32) -> Result<u64, Errno> {
    let timer = cx.group().timers.get(&id).ok_or(Errno::EINVAL)?;
    Ok(timer.told)
}

/// A timer's time has come.
pub(super) fn expire(k: &mut Kernel, tgid: u32, id: u32) {
    let Some(timer) = timer(k, tgid, id) else {
        return;
    };
    if timer.notify == Notify::Nothing {
        return rearm(k, tgid, id, Missed::Forgotten);
    }
    timer.queued = true;
    let (notify, signal) = (timer.notify, timer.signal);
    let info = SigInfo {
        signo: signal,
        outside: false,
        errno: 0,
        code: g::SI_TIMER,
        fields: [u64::from(id), timer.value, 0, u64::from(id) + 1],
    };
    match notify {
        Notify::Thread(tid) => {
            let thread = k.tasks.by_tid(tid);
            let own =
                thread.filter(|&thread| k.tasks.get(thread).is_some_and(|task| task.tgid == tgid));
            if let Some(thread) = own {
                signal::send_thread(k, thread, info);
            }
        }
        _ => signal::send_running(k, tgid, info),
    }
    // Ignored, or one such signal waits already: it goes on without.
    if !signal::is_queued(k, tgid, |info| is_from(info, id)) {
        rearm(k, tgid, id, Missed::Unseen);
    }
}

/// What becomes of expiries that have passed when a timer is armed again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missed {
    /// They are overruns.
    Counted,
    /// They are overruns, but no signal has been seen.
    Unseen,
    Forgotten,
}

/// Arms a timer that has expired for its next interval, if it has one.
fn rearm(k: &mut Kernel, tgid: u32, id: u32, missed: Missed) {
    let cpu = timer(k, tgid, id).and_then(|timer| timer.cpu);
    let now = match missed {
        Missed::Counted => now(k, cpu),
        Missed::Unseen | Missed::Forgotten => now(k, cpu).saturating_add(timer::UNSEEN_MIN),
    };
    let Some(timer) = timer(k, tgid, id) else {
        return;
    };
    timer.queued = false;
    let next = match (timer.at, timer.interval) {
        (Some(at), interval @ 1..) => {
            let (next, passed) = timer::after(at, interval, now);
            if missed != Missed::Forgotten {
                timer.overruns = timer.overruns.saturating_add(passed);
            }
            Some(next)
        }
        _ => None,
    };
    timer.at = next;
    arm(k, tgid, id, cpu, None, next);
}

/// The signal of a timer is being delivered: tells it of overruns and arms the timer again.
pub(super) fn delivered(k: &mut Kernel, tgid: u32, info: &mut SigInfo) {
    let Some(id) = info.fields[SENDER].checked_sub(1) else {
        return;
    };
    let id = id as u32;
    if !is_from(info, id) || !timer(k, tgid, id).is_some_and(|timer| timer.queued) {
        return;
    }
    rearm(k, tgid, id, Missed::Counted);
    if let Some(timer) = timer(k, tgid, id) {
        timer.told = core::mem::take(&mut timer.overruns).min(OVERRUNS_MAX);
        info.fields[0] |= timer.told << 32;
    }
    info.fields[SENDER] = 0;
}
