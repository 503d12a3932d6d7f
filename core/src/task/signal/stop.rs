//! Job control: stopping and continuing processes (signal(7), wait(2)).
//!
//! A process is stopping from the moment one of its threads takes a stop signal, and stopped when all of its
//! threads have noticed. Parked threads notice at once and stay parked.

use alloc::vec::Vec;

use super::send::{remove_pending, wake};
use super::{SIGCHLD, SIGCONT, STOP_SET, SigInfo};
use crate::Kernel;
use crate::abi::raw::general as g;
use crate::env::wait::WaitKey;
use crate::machine::ThreadId;
use crate::task::process::Report;

/// Stops the process of a thread that took a stop signal.
pub(super) fn stop(k: &mut Kernel, tgid: u32, signal: u8) {
    let Some(group) = k.tasks.group_mut(tgid) else {
        return;
    };
    if group.stop.is_none() {
        group.stop = Some(signal);
        group.stopped = false;
        group.report = None;
        k.tasks.changed(tgid);
    }
    let threads: Vec<ThreadId> = k.tasks.thread_ids(tgid).collect();
    for thread in threads {
        match k.tasks.get(thread).is_some_and(|task| task.running) {
            true => wake(k, thread),
            false => {
                mark_stopped(k, thread);
            }
        }
    }
    check_stopped(k, tgid);
}

/// Stops a thread that came out of its program while its process is stopping.
pub(crate) fn join_stop(k: &mut Kernel, thread: ThreadId) {
    let Some(task) = k.tasks.get(thread) else {
        return;
    };
    let (tgid, exited) = (task.tgid, task.exited);
    let stopping = k
        .tasks
        .group(tgid)
        .is_some_and(|group| group.stop.is_some());
    if stopping && !exited && mark_stopped(k, thread) {
        check_stopped(k, tgid);
    }
}

/// Marks a thread as stopped; `false` if it was.
fn mark_stopped(k: &mut Kernel, thread: ThreadId) -> bool {
    let Some(task) = k.tasks.get_mut(thread) else {
        return false;
    };
    let fresh = !core::mem::replace(&mut task.stopped, true);
    let tgid = task.tgid;
    if let Some(group) = k.tasks.group_mut(tgid) {
        group.halted += u32::from(fresh);
    }
    fresh
}

/// Tells the parent once all threads have stopped. Also called when a thread of a stopping process has ended.
pub(crate) fn check_stopped(k: &mut Kernel, tgid: u32) {
    let Some(group) = k.tasks.group_mut(tgid) else {
        return;
    };
    let all = group.halted as usize == group.threads.len();
    if let Some(signal) = group.stop
        && all
        && !group.threads.is_empty()
        && !core::mem::replace(&mut group.stopped, true)
    {
        group.report = Some(Report::Stopped(signal));
        k.tasks.changed(tgid);
        tell_parent(k, tgid, g::CLD_STOPPED, signal);
    }
}

/// SIGCONT was sent: forgets stop signals and lets a stopped process go on.
pub(super) fn resume(k: &mut Kernel, tgid: u32) {
    remove_pending(k, tgid, STOP_SET);
    let Some(group) = k.tasks.group_mut(tgid) else {
        return;
    };
    let Some(signal) = group.stop else { return };
    let was_stopped = group.stopped;
    if was_stopped {
        group.report = Some(Report::Continued);
        k.tasks.changed(tgid);
    }
    lift(k, tgid);
    match was_stopped {
        true => tell_parent(k, tgid, g::CLD_CONTINUED, SIGCONT),
        false => tell_parent(k, tgid, g::CLD_STOPPED, signal),
    }
}

/// Ends a stop without a word to the parent.
pub(super) fn lift(k: &mut Kernel, tgid: u32) {
    let Some(group) = k.tasks.group_mut(tgid) else {
        return;
    };
    if group.stop.take().is_none() {
        return;
    }
    group.stopped = false;
    group.halted = 0;
    let threads: Vec<ThreadId> = k.tasks.thread_ids(tgid).collect();
    for thread in threads {
        if let Some(task) = k.tasks.get_mut(thread)
            && core::mem::take(&mut task.stopped)
        {
            k.make_ready(thread);
        }
    }
}

fn tell_parent(k: &mut Kernel, tgid: u32, code: u32, status: u8) {
    let Some(parent) = k.tasks.group(tgid).map(|group| group.parent) else {
        return;
    };
    let action = k
        .tasks
        .actions(parent)
        .map(|actions| actions.get(SIGCHLD))
        .unwrap_or_default();
    if action.flags & u64::from(g::SA_NOCLDSTOP) == 0 {
        let uid = k.tasks.leader(tgid).map_or(0, |task| task.creds.uid);
        let time = crate::task::cputime::of_process(k, tgid);
        let ticks = [time.user, time.system].map(|nanos| nanos / crate::task::process::TICK);
        let (pid, uid) = crate::task::process::seen_by_parent(k, tgid, parent, uid);
        let info = SigInfo::child(SIGCHLD, code as i32, pid, uid, i32::from(status), ticks);
        super::send_process(k, parent, info);
    }
    k.wake(WaitKey::Child(parent));
}
