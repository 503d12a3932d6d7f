//! Processor time: what it is for threads and processes, and the timers that run on it.
//!
//! The kernel sees when the host lets a thread run and when it traps: what lies between is its processor
//! time. Most of it is spent in user mode, but leaving the program and coming back to it is the kernel's:
//! that takes as long as the shortest run that ended in a system call. What the kernel itself does for a trap
//! the host measures and says with the next input ([`Now::spent`](crate::event::Now)).
//!
//! The time of a thread that runs now grows with `CLOCK_MONOTONIC`, so a timer cannot expire before its rest
//! divided by the number of running threads has passed. For that moment a tick is asked for; it is looked at
//! again whenever a thread of the clock traps or goes on. Nothing of this is done while no timer of this kind
//! is set.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use super::posix_timer;
use super::signal::{self, SIGKILL, SigInfo};
use super::timer::{self, Timer};
use crate::Kernel;
use crate::abi::raw::general as g;
use crate::env::timers::{CpuClock, TimerKey};
use crate::machine::ThreadId;

const SECOND: u64 = 1_000_000_000;
/// Nanoseconds that leaving a program and coming back takes at most, on any host.
const CROSSING_MAX: u64 = 64_000;

/// Processor time in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct CpuTime {
    /// In user mode.
    pub user: u64,
    /// In the kernel.
    pub system: u64,
}

impl CpuTime {
    pub(crate) fn total(self) -> u64 {
        self.user.saturating_add(self.system)
    }

    pub(crate) fn add(&mut self, other: CpuTime) {
        self.user = self.user.saturating_add(other.user);
        self.system = self.system.saturating_add(other.system);
    }

    /// `all`, of which up to `system` is the kernel's.
    fn split(all: u64, system: u64) -> CpuTime {
        let system = all.min(system);
        CpuTime {
            user: all - system,
            system,
        }
    }
}

/// What is known of the host's part, and of the input that was handled last.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Accounting {
    /// The shortest run that ended in a system call; 0 before there was one.
    crossing: u64,
    /// The thread that trapped, and its process.
    trapped: Option<(ThreadId, u32)>,
    /// Threads that were let run.
    started: Vec<ThreadId>,
    /// What all threads have run.
    clock: ProcessClock,
}

/// What expires on such a clock.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum CpuTimer {
    /// `ITIMER_VIRTUAL` of the process, on [`CpuClock::User`].
    Virtual,
    /// `ITIMER_PROF` of the clock's process.
    Profile,
    /// `RLIMIT_CPU` of the clock's process.
    Limit,
    /// A timer of timer_create(2): process and timer number.
    Posix(u32, u32),
    /// A thread in clock_nanosleep(2).
    Sleep(ThreadId),
}

impl CpuTimer {
    /// The clock that a timer of a process itself is on.
    pub(super) fn clock(self, tgid: u32) -> CpuClock {
        match self {
            CpuTimer::Virtual => CpuClock::User(tgid),
            _ => CpuClock::Process(tgid),
        }
    }
}

/// The timers of one clock, by the time on it.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct CpuTimers {
    timers: BTreeSet<(u64, CpuTimer)>,
    /// The tick that was asked for.
    pub tick: Option<u64>,
}

/// What a thread has run; nothing if it has ended.
pub(crate) fn of_thread(k: &Kernel, thread: ThreadId) -> CpuTime {
    let now = k.env.now.mono;
    k.tasks.get(thread).map_or(CpuTime::default(), |task| {
        let mut time = task.cpu_time;
        if task.running {
            let ran = now.saturating_sub(task.resumed);
            time.add(CpuTime::split(ran, task.crossing));
        }
        time
    })
}

/// What the threads of a process have run, ended ones included.
pub(crate) fn of_process(k: &Kernel, tgid: u32) -> CpuTime {
    let group = k.tasks.group(tgid);
    group.map_or(CpuTime::default(), |group| group.cpu.at(k.env.now.mono))
}

/// How many threads run now.
pub(crate) fn running(k: &Kernel) -> u32 {
    k.system.accounting.clock.running
}

/// What all threads have run since the boot.
pub(crate) fn of_all(k: &Kernel) -> CpuTime {
    k.system.accounting.clock.at(k.env.now.mono)
}

/// The time on a clock.
pub(crate) fn read(k: &Kernel, clock: CpuClock) -> u64 {
    match clock {
        CpuClock::Process(tgid) => of_process(k, tgid).total(),
        CpuClock::User(tgid) => of_process(k, tgid).user,
        CpuClock::Thread(thread) => of_thread(k, thread).total(),
    }
}

/// What the threads of a process, or of all, have run together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct ProcessClock {
    /// Until the last trap of each.
    pub time: CpuTime,
    /// How many threads run now, the sum, modulo 2^64, of the times when they were resumed, and that of their
    /// crossings.
    pub running: u32,
    pub resumed: u64,
    pub crossing: u64,
}

impl ProcessClock {
    fn at(&self, now: u64) -> CpuTime {
        let all = u64::from(self.running).wrapping_mul(now);
        let mut time = self.time;
        let ran = all.wrapping_sub(self.resumed);
        time.add(CpuTime::split(ran, self.crossing));
        time
    }

    fn start(&mut self, now: u64, crossing: u64) {
        self.running += 1;
        self.resumed = self.resumed.wrapping_add(now);
        self.crossing += crossing;
    }

    fn stop(&mut self, resumed: u64, crossing: u64, ran: CpuTime) {
        self.running -= 1;
        self.resumed = self.resumed.wrapping_sub(resumed);
        self.crossing -= crossing;
        self.time.add(ran);
    }
}

/// The clocks that go while a thread runs.
fn clocks(thread: ThreadId, tgid: u32) -> [CpuClock; 3] {
    let thread = CpuClock::Thread(thread);
    [CpuClock::Process(tgid), CpuClock::User(tgid), thread]
}

/// A new input has come: what was done for the one before took the kernel so long. The thread that trapped is
/// charged with it, and what it let run ran only then.
pub(crate) fn handled(k: &mut Kernel, spent: u64) {
    let trapped = k.system.accounting.trapped.take();
    let mut started = core::mem::take(&mut k.system.accounting.started);
    for thread in started.drain(..).filter(|_| spent > 0) {
        let Some(task) = k.tasks.get_mut(thread).filter(|task| task.running) else {
            continue;
        };
        task.resumed += spent;
        let tgid = task.tgid;
        let all = &mut k.system.accounting.clock;
        all.resumed = all.resumed.wrapping_add(spent);
        if let Some(group) = k.tasks.group_mut(tgid) {
            group.cpu.resumed = group.cpu.resumed.wrapping_add(spent);
        }
    }
    k.system.accounting.started = started;
    if let Some((thread, tgid)) = trapped {
        let time = CpuTime {
            user: 0,
            system: spent,
        };
        k.system.accounting.clock.time.add(time);
        if let Some(task) = k.tasks.get_mut(thread) {
            task.cpu_time.add(time);
        }
        if let Some(group) = k.tasks.group_mut(tgid) {
            group.cpu.time.add(time);
        }
    }
}

/// A thread is about to run.
pub(crate) fn start(k: &mut Kernel, thread: ThreadId) {
    let now = k.env.now.mono;
    let crossing = k.system.accounting.crossing;
    let Some(task) = k.tasks.get_mut(thread) else {
        return;
    };
    task.running = true;
    task.resumed = now;
    task.crossing = crossing;
    let tgid = task.tgid;
    if let Some(group) = k.tasks.group_mut(tgid) {
        group.cpu.start(now, crossing);
    }
    k.system.accounting.clock.start(now, crossing);
    k.system.accounting.started.push(thread);
    if !k.tasks.cpu_timers.is_empty() {
        for clock in clocks(thread, tgid) {
            arm(k, clock);
        }
    }
}

/// A thread made a system call or stopped for another reason: until the next input the kernel works for it.
pub(crate) fn trapped(k: &mut Kernel, thread: ThreadId, by_call: bool) {
    let Some(task) = k.tasks.get(thread) else {
        return;
    };
    let ran = k.env.now.mono.saturating_sub(task.resumed);
    let tgid = task.tgid;
    stop(k, thread);
    let accounting = &mut k.system.accounting;
    accounting.trapped = Some((thread, tgid));
    if by_call && ran > 0 && ran <= CROSSING_MAX {
        accounting.crossing = match accounting.crossing {
            0 => ran,
            shortest => shortest.min(ran),
        };
    }
}

/// A thread has stopped running: it trapped, or has ended. Its time is added up.
pub(crate) fn stop(k: &mut Kernel, thread: ThreadId) {
    let now = k.env.now.mono;
    let Some(task) = k.tasks.get_mut(thread).filter(|task| task.running) else {
        return;
    };
    task.running = false;
    let ran = CpuTime::split(now.saturating_sub(task.resumed), task.crossing);
    task.cpu_time.add(ran);
    let (tgid, resumed, crossing) = (task.tgid, task.resumed, task.crossing);
    if let Some(group) = k.tasks.group_mut(tgid) {
        group.cpu.stop(resumed, crossing, ran);
    }
    k.system.accounting.clock.stop(resumed, crossing, ran);
    if !k.tasks.cpu_timers.is_empty() {
        for clock in clocks(thread, tgid) {
            expire(k, clock);
        }
    }
}

/// Sets a timer on a clock, or takes it away. `before` is what it is set for now.
pub(crate) fn set(
    k: &mut Kernel,
    clock: CpuClock,
    timer: CpuTimer,
    before: Option<u64>,
    at: Option<u64>,
) {
    if let Some(before) = before
        && let Some(timers) = k.tasks.cpu_timers.get_mut(&clock)
    {
        timers.timers.remove(&(before, timer));
    }
    if let Some(at) = at {
        let timers = k.tasks.cpu_timers.entry(clock).or_default();
        timers.timers.insert((at, timer));
    }
    arm(k, clock);
}

/// Wakes a thread when a clock shows this time; it waits for one at a time.
pub(crate) fn sleep(k: &mut Kernel, thread: ThreadId, clock: CpuClock, at: u64) {
    wake_never(k, thread);
    if let Some(task) = k.tasks.get_mut(thread) {
        task.cpu_sleep = Some((clock, at));
        set(k, clock, CpuTimer::Sleep(thread), None, Some(at));
    }
}

/// A thread waits for no clock any more.
pub(super) fn wake_never(k: &mut Kernel, thread: ThreadId) {
    let before = k
        .tasks
        .get_mut(thread)
        .and_then(|task| task.cpu_sleep.take());
    if let Some((clock, at)) = before {
        set(k, clock, CpuTimer::Sleep(thread), Some(at), None);
    }
}

/// The timers of a clock that goes never expire.
pub(super) fn forget(k: &mut Kernel, clock: CpuClock) {
    if let Some(timers) = k.tasks.cpu_timers.remove(&clock) {
        k.env.timers.arm(TimerKey::Cpu(clock), timers.tick, None);
    }
}

/// Asks for a tick at the earliest moment at which a timer of the clock can expire.
fn arm(k: &mut Kernel, clock: CpuClock) {
    let Some(timers) = k.tasks.cpu_timers.get(&clock) else {
        return;
    };
    let (tick, first) = (timers.tick, timers.timers.first().copied());
    let running = match clock {
        CpuClock::Process(tgid) | CpuClock::User(tgid) => {
            k.tasks.group(tgid).map_or(0, |group| group.cpu.running)
        }
        CpuClock::Thread(thread) => {
            let runs = k.tasks.get(thread).is_some_and(|task| task.running);
            u32::from(runs)
        }
    };
    let next = first.filter(|_| running > 0).map(|(at, _)| {
        let rest = at.saturating_sub(read(k, clock));
        // Not for each small rest anew: Linux looks once a tick.
        let wait = rest.div_ceil(u64::from(running)).max(timer::UNSEEN_MIN);
        k.env.now.mono.saturating_add(wait)
    });
    if next != tick {
        k.env.timers.arm(TimerKey::Cpu(clock), tick, next);
    }
    if first.is_none() {
        k.tasks.cpu_timers.remove(&clock);
    } else if let Some(timers) = k.tasks.cpu_timers.get_mut(&clock) {
        timers.tick = next;
    }
}

/// A tick that was asked for has come.
pub(super) fn tick(k: &mut Kernel, clock: CpuClock) {
    if let Some(timers) = k.tasks.cpu_timers.get_mut(&clock) {
        timers.tick = None;
    }
    expire(k, clock);
}

/// Lets the timers of a clock expire whose time has come.
fn expire(k: &mut Kernel, clock: CpuClock) {
    let now = read(k, clock);
    loop {
        let Some(timers) = k.tasks.cpu_timers.get_mut(&clock) else {
            return;
        };
        let Some((at, timer)) = timers.timers.first().copied().filter(|&(at, _)| at <= now) else {
            break;
        };
        timers.timers.pop_first();
        match (timer, clock) {
            (CpuTimer::Posix(tgid, id), _) => posix_timer::expire(k, tgid, id),
            (CpuTimer::Sleep(thread), _) => k.make_ready(thread),
            (_, CpuClock::Thread(_)) => {}
            (CpuTimer::Virtual, CpuClock::Process(tgid) | CpuClock::User(tgid)) => {
                expire_interval(k, tgid, timer, at, g::SIGVTALRM);
            }
            (CpuTimer::Profile, CpuClock::Process(tgid) | CpuClock::User(tgid)) => {
                expire_interval(k, tgid, timer, at, g::SIGPROF);
            }
            (CpuTimer::Limit, CpuClock::Process(tgid) | CpuClock::User(tgid)) => {
                expire_limit(k, tgid);
            }
        }
    }
    arm(k, clock);
}

fn interval(k: &mut Kernel, tgid: u32, which: CpuTimer) -> Option<&mut Timer> {
    let group = k.tasks.group_mut(tgid)?;
    Some(match which {
        CpuTimer::Virtual => &mut group.virtual_timer,
        _ => &mut group.profile_timer,
    })
}

fn expire_interval(k: &mut Kernel, tgid: u32, which: CpuTimer, at: u64, signal: u32) {
    let clock = which.clock(tgid);
    let now = read(k, clock);
    let Some(timer) = interval(k, tgid, which) else {
        return;
    };
    let next = match timer.interval {
        0 => None,
        interval => Some(timer::after(at, interval, now.saturating_add(timer::UNSEEN_MIN)).0),
    };
    timer.at = next;
    set(k, clock, which, None, next);
    signal::send_running(k, tgid, SigInfo::kernel(signal as u8));
}

/// Sets `ITIMER_VIRTUAL` or `ITIMER_PROF` of a process to expire when it has run for `value` nanoseconds
/// more; 0 disarms.
pub(super) fn set_interval(k: &mut Kernel, tgid: u32, which: CpuTimer, value: u64, repeat: u64) {
    let at = match value {
        0 => None,
        value => Some(read(k, which.clock(tgid)).saturating_add(value)),
    };
    if let Some(timer) = interval(k, tgid, which) {
        let before = core::mem::replace(&mut timer.at, at);
        timer.interval = repeat;
        set(k, which.clock(tgid), which, before, at);
    }
}

/// `RLIMIT_CPU` was set, or came from the parent: the soft limit is watched, and the hard one behind it.
pub(crate) fn watch_limit(k: &mut Kernel, tgid: u32) {
    let (soft, hard) = k
        .tasks
        .rlimit(tgid, g::RLIMIT_CPU)
        .unwrap_or((u64::MAX, u64::MAX));
    let at = match soft {
        // As in Linux: without a soft limit the hard one is not looked at.
        u64::MAX => None,
        soft => Some(soft.min(hard).saturating_mul(SECOND)),
    };
    if let Some(group) = k.tasks.group_mut(tgid) {
        let before = core::mem::replace(&mut group.limit_at, at);
        if before != at {
            set(k, CpuClock::Process(tgid), CpuTimer::Limit, before, at);
        }
    }
}

/// A limit was reached: SIGKILL for the hard one, else SIGXCPU, and once more a second later.
fn expire_limit(k: &mut Kernel, tgid: u32) {
    let now = of_process(k, tgid).total();
    if let Some(group) = k.tasks.group_mut(tgid) {
        group.limit_at = None;
    }
    let Some((soft, hard)) = k.tasks.rlimit(tgid, g::RLIMIT_CPU) else {
        return;
    };
    if hard != u64::MAX && now >= hard.saturating_mul(SECOND) {
        return signal::send_process(
            k,
            tgid,
            SigInfo {
                outside: true,
                ..SigInfo::kernel(SIGKILL)
            },
        );
    }
    let next = soft.saturating_add(1);
    k.tasks.set_rlimit(tgid, g::RLIMIT_CPU, (next, hard));
    watch_limit(k, tgid);
    signal::send_running(k, tgid, SigInfo::kernel(g::SIGXCPU as u8));
}

/// Whether a timer is set for this time on a clock; for invariant checks.
pub(super) fn holds(k: &Kernel, clock: CpuClock, timer: CpuTimer, at: u64) -> bool {
    k.tasks
        .cpu_timers
        .get(&clock)
        .is_some_and(|timers| timers.timers.contains(&(at, timer)))
}
