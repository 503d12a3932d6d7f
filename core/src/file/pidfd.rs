//! Descriptors of processes and threads (pidfd_open(2)).

use crate::Kernel;
use crate::file::ready::{HUP, IN};
use crate::machine::ThreadId;

/// A process or thread, also after its end: its number may then belong to another one, its first thread's
/// identity never does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct PidFd {
    /// Process number; of a thread, that of its process.
    pub tgid: u32,
    /// The thread that the number was given to.
    pub first: ThreadId,
    /// Only the thread is meant (`PIDFD_THREAD`).
    pub thread: Option<u32>,
}

impl PidFd {
    /// Of a process that exists.
    pub(crate) fn of_process(k: &Kernel, tgid: u32) -> Option<PidFd> {
        let first = k.tasks.group(tgid)?.first;
        Some(PidFd {
            tgid,
            first,
            thread: None,
        })
    }

    /// Of a thread that exists.
    pub(crate) fn of_thread(k: &Kernel, tid: u32) -> Option<PidFd> {
        let first = k.tasks.by_tid(tid)?;
        let tgid = k.tasks.get(first)?.tgid;
        Some(PidFd {
            tgid,
            first,
            thread: Some(tid),
        })
    }

    /// The process, unless it has been waited for.
    pub(crate) fn process(&self, k: &Kernel) -> Option<u32> {
        let group = k.tasks.group(self.tgid)?;
        match self.thread {
            None => (group.first == self.first).then_some(self.tgid),
            Some(tid) => {
                let task = k.tasks.get(k.tasks.by_tid(tid)?)?;
                (task.id == self.first || tid == self.tgid && group.first == self.first)
                    .then_some(self.tgid)
            }
        }
    }

    /// The task that is meant: a process's leader, or the thread.
    pub(crate) fn task(&self, k: &Kernel) -> Option<ThreadId> {
        let tgid = self.process(k)?;
        match self.thread {
            None => Some(k.tasks.group(tgid)?.leader),
            Some(tid) => k.tasks.by_tid(tid),
        }
    }
}

pub(crate) fn ready(k: &Kernel, pid: PidFd) -> u16 {
    let Some(tgid) = pid.process(k) else {
        return IN | HUP;
    };
    let ended = match pid.thread {
        Some(_) => pid
            .task(k)
            .and_then(|thread| k.tasks.get(thread))
            .is_none_or(|task| task.exited),
        None => k.tasks.group(tgid).is_some_and(|group| group.zombie),
    };
    if ended { IN } else { 0 }
}
