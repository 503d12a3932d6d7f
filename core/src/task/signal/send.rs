//! Sending: permission, queueing, and waking a thread that takes the signal (kill(2), sigqueue(3)).

use alloc::vec::Vec;

use super::{Pending, SIG_DFL, SIGCONT, SIGKILL, SIGNALS, SIGRTMIN, STOP_SET, SigInfo, bit, stop};
use crate::Kernel;
use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::event::Output;
use crate::kernel::WaitKey;
use crate::machine::ThreadId;
use crate::ns::pid;
use crate::task::{INIT, Task, posix_timer};
use crate::vfs::ready;

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
    let _ = queue_thread(k, thread, info); // what the kernel sends may be lost like any other signal beyond the limit
}

/// Sends a signal of the kernel's own to a process.
pub(crate) fn send_process(k: &mut Kernel, tgid: u32, info: SigInfo) {
    let _ = queue_process(k, tgid, info); // see send_thread()
}

/// Sends a signal of the kernel's own to all processes of a process group.
pub(crate) fn send_group(k: &mut Kernel, pgid: u32, info: SigInfo) {
    let members: Vec<u32> = k.tasks.group_members(pgid).collect();
    for tgid in members {
        send_process(k, tgid, info);
    }
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
    let room = has_room(k, tgid, &info);
    if let Some(task) = k.tasks.get_mut(thread) {
        enqueue(&mut task.pending, info, room)?;
        if takes(task, info.signo) {
            wake(k, thread);
        }
        k.notify(WaitKey::Signals(tgid), ready::PLAIN_IN);
    }
    Ok(())
}

/// Queues a signal for a process. `EAGAIN` if too many real-time signals are queued.
pub(crate) fn queue_process(k: &mut Kernel, tgid: u32, info: SigInfo) -> Result<(), Errno> {
    let Some(group) = k.tasks.group(tgid).filter(|group| !group.zombie) else {
        return Ok(());
    };
    let leader = group.leader;
    if !prepare(k, tgid, leader, info) {
        return Ok(());
    }
    let room = has_room(k, tgid, &info);
    if let Some(group) = k.tasks.group_mut(tgid) {
        enqueue(&mut group.pending, info, room)?;
    }
    let taker = k.tasks.thread_ids(tgid).find(|&thread| {
        k.tasks
            .get(thread)
            .is_some_and(|task| takes(task, info.signo))
    });
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
    sender.tgid == target.tgid
        || same_user
        || crate::ns::user::capable(k, own, other.user_ns, CAP_KILL)
        || (signal == SIGCONT && session(sender.tgid) == session(target.tgid))
}

/// Wakes the threads of a process that take a signal which waits for the whole process: the one it was meant for blocks it now, or has
/// ended.
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
        k.emit(Output::Interrupt(thread));
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
        let protected = pid::is_init(k, tgid) && !info.outside;
        if actions.ignores(info.signo) || (protected && actions.get(info.signo).handler == SIG_DFL)
        {
            return false;
        }
    }
    if info.signo == SIGKILL {
        stop::lift(k, tgid);
    }
    true
}

/// Forgets pending signals of a process and all of its threads.
pub(crate) fn remove_pending(k: &mut Kernel, tgid: u32, set: u64) {
    if let Some(group) = k.tasks.group_mut(tgid) {
        group.pending.remove(set);
    }
    let threads: Vec<ThreadId> = k.tasks.thread_ids(tgid).collect();
    for thread in threads {
        if let Some(task) = k.tasks.get_mut(thread) {
            task.pending.remove(set);
        }
    }
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
        .any(|pending| pending.queue.iter().any(&like))
}

/// Forgets signals like this of a process and its threads.
pub(crate) fn take_back(k: &mut Kernel, tgid: u32, like: impl Fn(&SigInfo) -> bool) {
    if let Some(group) = k.tasks.group_mut(tgid) {
        group.pending.remove_like(&like);
    }
    let threads: Vec<ThreadId> = k.tasks.thread_ids(tgid).collect();
    for thread in threads {
        if let Some(task) = k.tasks.get_mut(thread) {
            task.pending.remove_like(&like);
        }
    }
}

/// Whether a signal may be queued with what it says: the signals that wait for a user's processes are limited (`RLIMIT_SIGPENDING`). A
/// standard signal of the kernel or of kill(2) is queued in any case, and so is a timer's, which had its place when it was made.
fn has_room(k: &Kernel, tgid: u32, info: &SigInfo) -> bool {
    let timer = info.code == g::SI_TIMER && info.fields[posix_timer::SENDER] != 0;
    if (info.signo < SIGRTMIN && info.code >= 0) || timer {
        return true;
    }
    let limit = k
        .tasks
        .rlimit(tgid, g::RLIMIT_SIGPENDING)
        .map_or(0, |(soft, _)| soft)
        .min(MAX_QUEUED);
    let Some(uid) = k.tasks.leader(tgid).map(|task| task.creds.uid) else {
        return false;
    };
    let of_user = k.tasks.iter().filter(|task| task.creds.uid == uid);
    let waiting: usize = of_user
        .map(|task| {
            let group = k.tasks.group(task.tgid);
            let shared = group.filter(|group| group.leader == task.id);
            task.pending.len() + shared.map_or(0, |group| group.pending.len())
        })
        .sum();
    (waiting as u64) < limit
}

/// Most signals queued for one user, whatever the limit says.
const MAX_QUEUED: u64 = 1 << 16;

/// Queues a signal. Without room, one that is not queued each time waits without what it says; `EAGAIN` for the others.
fn enqueue(pending: &mut Pending, info: SigInfo, room: bool) -> Result<(), Errno> {
    if room {
        pending.push(info);
        return Ok(());
    }
    if info.signo >= SIGRTMIN && info.code != g::SI_USER as i32 {
        return Err(Errno::EAGAIN);
    }
    if pending.set() & bit(info.signo) == 0 {
        pending.push(SigInfo::user(info.signo, g::SI_USER as i32, 0, 0));
    }
    Ok(())
}
