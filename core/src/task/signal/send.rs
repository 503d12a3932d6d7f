//! Sending: permission, queueing, and waking a thread that takes the signal (kill(2), sigqueue(3)).

use alloc::format;
use alloc::vec::Vec;

use super::names::signal_name;
use super::{
    Paid, Pending, SIG_DFL, SIGCONT, SIGKILL, SIGNALS, SIGRTMIN, STOP_SET, SigInfo, bit, stop,
};
use crate::Kernel;
use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::cred::landlock::Scopes;
use crate::env::wait::WaitKey;
use crate::event::{Level, Output};
use crate::file::ready;
use crate::machine::ThreadId;
use crate::task::{INIT, Task, Tasks, posix_timer};

const CAP_KILL: u32 = g::CAP_KILL;

/// A signal from outside the sandbox for the first process.
pub(crate) fn from_outside(k: &mut Kernel, signal: u8) {
    if (1..=SIGNALS).contains(&signal) {
        let info = SigInfo {
            outside: true,
            ..SigInfo::user(signal, g::SI_USER as i32, 0, 0)
        };
        send_process(k, INIT, info);
    }
}

/// Sends a signal of the kernel's own to a thread.
pub(crate) fn send_thread(k: &mut Kernel, thread: ThreadId, info: SigInfo) {
    let _ = queue_thread(k, thread, info); // it may be lost like any other beyond the limit
}

/// Sends a signal of the kernel's own to a process.
pub(crate) fn send_process(k: &mut Kernel, tgid: u32, info: SigInfo) {
    let _ = queue_process(k, tgid, info); // see send_thread()
}

/// The same of a timer: a thread that runs gets it rather than one that waits.
pub(crate) fn send_running(k: &mut Kernel, tgid: u32, info: SigInfo) {
    let waits = |task: &Task| task.call.as_ref().is_some_and(|call| call.wait.is_some());
    let rank = |task: &Task| u8::from(!task.running) + u8::from(waits(task));
    let _ = queue_for(k, tgid, info, rank); // see send_thread()
}

/// Queues a signal for one thread. `EAGAIN` if too many real-time signals are queued.
pub(crate) fn queue_thread(k: &mut Kernel, thread: ThreadId, info: SigInfo) -> Result<(), Errno> {
    let Some(task) = k.tasks.get(thread).filter(|task| !task.exited) else {
        return Ok(());
    };
    let tgid = task.tgid;
    if !prepare(k, tgid, thread, info) {
        return Ok(());
    }
    let payer = payer(k, tgid, &info);
    let room = has_room(k, tgid, &info);
    let Tasks { tasks, paid, .. } = &mut k.tasks;
    if let Some(task) = tasks.get_mut(&thread) {
        enqueue(&mut task.pending, paid, info, payer, room)?;
        if takes(task, info.signo) {
            wake(k, thread);
        }
        k.notify(WaitKey::Signals(tgid), ready::PLAIN_IN);
    }
    Ok(())
}

/// Queues a signal for a process. `EAGAIN` if too many real-time signals are queued.
pub(crate) fn queue_process(k: &mut Kernel, tgid: u32, info: SigInfo) -> Result<(), Errno> {
    queue_for(k, tgid, info, |_| 0)
}

/// Queues a signal for a process. Of the threads that take it the first one of the lowest rank does.
fn queue_for(
    k: &mut Kernel,
    tgid: u32,
    info: SigInfo,
    rank: impl Fn(&Task) -> u8,
) -> Result<(), Errno> {
    let Some(group) = k.tasks.group(tgid).filter(|group| !group.zombie) else {
        return Ok(());
    };
    let leader = group.leader;
    if !prepare(k, tgid, leader, info) {
        return Ok(());
    }
    let payer = payer(k, tgid, &info);
    let room = has_room(k, tgid, &info);
    let Tasks { groups, paid, .. } = &mut k.tasks;
    if let Some(group) = groups.get_mut(&tgid) {
        enqueue(&mut group.pending, paid, info, payer, room)?;
    }
    let threads = k.tasks.thread_ids(tgid);
    let tasks = threads.filter_map(|thread| k.tasks.get(thread));
    let takers = tasks.filter(|task| takes(task, info.signo));
    let taker = takers.min_by_key(|task| rank(task)).map(|task| task.id);
    if let Some(thread) = taker {
        wake(k, thread);
    }
    k.notify(WaitKey::Signals(tgid), ready::PLAIN_IN);
    Ok(())
}

/// Whether the sender's signal may reach a process (kill(2)); 0 only asks.
pub(crate) fn may_signal(k: &Kernel, from: ThreadId, target: &Task, signal: u8) -> bool {
    let Some(sender) = k.tasks.get(from) else {
        return false;
    };
    let (own, other) = (&sender.creds, &target.creds);
    let same_user = [own.euid, own.uid]
        .iter()
        .any(|id| [other.suid, other.uid].contains(id));
    let session = |tgid| k.tasks.group(tgid).map(|group| group.sid);
    if sender.tgid == target.tgid {
        return true;
    }
    let domain = own.landlock.as_ref();
    let scoped =
        domain.is_some_and(|domain| domain.is_scoped(other.landlock.as_deref(), Scopes::SIGNAL));
    let allowed = same_user
        || crate::cred::ns::user::capable(k, own, other.user_ns, CAP_KILL)
        || (signal == SIGCONT && session(sender.tgid) == session(target.tgid));
    allowed && !scoped
}

/// Wakes the threads of a process that take a signal which waits for the whole process: the one it was meant
/// for blocks it now, or has ended.
pub(crate) fn retarget(k: &mut Kernel, tgid: u32) {
    let shared = k.tasks.group(tgid).map_or(0, |group| group.pending.set());
    if shared == 0 {
        return;
    }
    let takers: Vec<ThreadId> = k
        .tasks
        .thread_ids(tgid)
        .filter(|&thread| {
            k.tasks
                .get(thread)
                .is_some_and(|task| shared & (!task.blocked | awaited(task)) != 0)
        })
        .collect();
    for thread in takers {
        wake(k, thread);
    }
}

/// Makes a thread look at its signals: it is interrupted if it runs, or its call is run again.
pub(crate) fn wake(k: &mut Kernel, thread: ThreadId) {
    let Some(task) = k.tasks.get_mut(thread) else {
        return;
    };
    if !task.running {
        k.make_ready(thread);
    } else if !core::mem::replace(&mut task.interrupting, true) {
        k.env.emit(Output::Interrupt(thread));
    }
}

/// The signals a thread waits for in rt_sigtimedwait(2): blocked, but taken.
fn awaited(task: &Task) -> u64 {
    match &task.call {
        Some(call) if call.number == u64::from(g::__NR_rt_sigtimedwait) => call.progress,
        _ => 0,
    }
}

fn takes(task: &Task, signal: u8) -> bool {
    !task.exited && (!task.blocked | awaited(task)) & bit(signal) != 0
}

/// What a signal does when it is sent, whether it is then delivered or not. `false` if it is to be dropped.
fn prepare(k: &mut Kernel, tgid: u32, thread: ThreadId, info: SigInfo) -> bool {
    match info.signo {
        SIGCONT => stop::resume(k, tgid),
        signal if bit(signal) & STOP_SET != 0 => remove_pending(k, tgid, bit(SIGCONT)),
        _ => {}
    }
    let blocked = k.tasks.get(thread).map_or(0, |task| task.blocked);
    if blocked & bit(info.signo) == 0
        && let Some(actions) = k.tasks.actions(tgid)
    {
        let ignored = actions.ignores(info.signo);
        let unhandled = actions.get(info.signo).handler == SIG_DFL;
        let passed_over =
            !ignored && unhandled && crate::ns::pids::is_init(k, tgid) && !info.outside;
        if passed_over {
            tell_ignored(k, tgid, info.signo);
        }
        if ignored || passed_over {
            let tracer = k.system.tracer.0;
            tracer.signal(k, thread, info);
            return false;
        }
    }
    if info.signo == SIGKILL {
        stop::lift(k, tgid);
    }
    true
}

/// Says once for each signal that the first process passes over what would end or stop another: programs that
/// are started as such seldom know.
pub(super) fn tell_ignored(k: &mut Kernel, tgid: u32, signal: u8) {
    if tgid != INIT || k.system.passed_over & bit(signal) != 0 {
        return;
    }
    k.system.passed_over |= bit(signal);
    let name = signal_name(signal.into());
    let line = format!(
        "the first process ignores {name}: it has no handler for it, and nothing else acts on a first process \
         (pid_namespaces(7)); an init process in front of it, as --init gives one, lets the signal act"
    );
    k.env.log(Level::Warn, line);
}

/// Forgets pending signals of a process and all of its threads.
pub(crate) fn remove_pending(k: &mut Kernel, tgid: u32, set: u64) {
    take_back(k, tgid, set, |_| true);
}

/// Whether a signal like this waits in a process or one of its threads.
pub(crate) fn is_queued(k: &Kernel, tgid: u32, like: impl Fn(&SigInfo) -> bool) -> bool {
    let group = k.tasks.group(tgid);
    let shared = group.into_iter().map(|group| &group.pending);
    let own = k
        .tasks
        .thread_ids(tgid)
        .filter_map(|thread| k.tasks.get(thread));
    shared
        .chain(own.map(|task| &task.pending))
        .any(|pending| pending.iter().any(&like))
}

/// Forgets signals of a set, like this, of a process and its threads.
pub(crate) fn take_back(k: &mut Kernel, tgid: u32, set: u64, like: impl Fn(&SigInfo) -> bool) {
    let like = |info: &SigInfo| bit(info.signo) & set != 0 && like(info);
    let threads: Vec<ThreadId> = k.tasks.thread_ids(tgid).collect();
    let Tasks {
        groups,
        tasks,
        paid,
        ..
    } = &mut k.tasks;
    let shared = groups.get_mut(&tgid).map(|group| &mut group.pending);
    if let Some(pending) = shared.filter(|pending| pending.set & set != 0) {
        pending.remove_like(paid, like);
    }
    for thread in threads {
        let own = tasks.get_mut(&thread).map(|task| &mut task.pending);
        if let Some(pending) = own.filter(|pending| pending.set & set != 0) {
            pending.remove_like(paid, like);
        }
    }
}

/// Forgets what waits for a thread alone: it ends.
pub(crate) fn forget_thread(k: &mut Kernel, thread: ThreadId) {
    let Tasks { tasks, paid, .. } = &mut k.tasks;
    if let Some(task) = tasks.get_mut(&thread) {
        task.pending.remove(paid, u64::MAX);
    }
}

/// Forgets what waits for a process: it has ended.
pub(crate) fn forget_process(k: &mut Kernel, tgid: u32) {
    let Tasks { groups, paid, .. } = &mut k.tasks;
    if let Some(group) = groups.get_mut(&tgid) {
        group.pending.remove(paid, u64::MAX);
    }
}

/// The user of a process, who pays for its signals and timers.
pub(crate) fn user(k: &Kernel, tgid: u32) -> u32 {
    k.tasks.leader(tgid).map_or(0, |task| task.creds.uid)
}

/// Most signals and timers of a user that one of its processes may add to.
pub(crate) fn limit(k: &Kernel, tgid: u32) -> u64 {
    let limit = k.tasks.rlimit(tgid, g::RLIMIT_SIGPENDING);
    limit.map_or(0, |(soft, _)| soft).min(MAX_QUEUED)
}

/// It is the signal of a timer, which had its place when it was made.
pub(crate) fn is_timers(info: &SigInfo) -> bool {
    info.code == g::SI_TIMER && info.fields[posix_timer::SENDER] != 0
}

fn payer(k: &Kernel, tgid: u32, info: &SigInfo) -> Option<u32> {
    (!is_timers(info)).then(|| user(k, tgid))
}

/// Whether a signal may be queued with what it says: the signals that wait for a user's processes are limited
/// (`RLIMIT_SIGPENDING`). A standard signal of the kernel or of kill(2) is queued in any case, and so is a
/// timer's.
fn has_room(k: &Kernel, tgid: u32, info: &SigInfo) -> bool {
    let always = info.signo < SIGRTMIN && info.code >= 0 || is_timers(info);
    always || k.tasks.paid.of(user(k, tgid)) < limit(k, tgid)
}

/// Most signals queued for one user, whatever the limit says.
const MAX_QUEUED: u64 = 1 << 16;

/// Queues a signal. Without room, one that is not queued each time waits without what it says; `EAGAIN` for
/// the others.
fn enqueue(
    pending: &mut Pending,
    paid: &mut Paid,
    info: SigInfo,
    payer: Option<u32>,
    room: bool,
) -> Result<(), Errno> {
    if room {
        pending.push(paid, info, payer);
        return Ok(());
    }
    if info.signo >= SIGRTMIN && info.code != g::SI_USER as i32 {
        return Err(Errno::EAGAIN);
    }
    if pending.set() & bit(info.signo) == 0 {
        let info = SigInfo::user(info.signo, g::SI_USER as i32, 0, 0);
        pending.push(paid, info, payer);
    }
    Ok(())
}
