//! What descriptors of processes and threads stand for (pidfd_open(2)).

use alloc::format;
use alloc::string::String;

use crate::Kernel;
use crate::abi::Errno;
use crate::cred::ns::{NsId, pid};
use crate::env::wait::{SysResult, WaitKey};
use crate::file::above::Process;
use crate::file::ops::FileOps;
use crate::file::pidfd::PidFd;
use crate::file::ready::{HUP, IN};
use crate::file::{self, File, FileId, FileKind};
use crate::machine::ThreadId;
use crate::task::Cx;

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

fn ready(k: &Kernel, pid: PidFd) -> u16 {
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

impl FileOps<Kernel> for Process {
    fn seek(_cx: &mut Cx<'_, '_>, _id: FileId, _offset: i64, _whence: u32) -> SysResult {
        Err(Errno::ESPIPE.into())
    }

    fn ready(k: &Kernel, _thread: ThreadId, id: FileId, _depth: u32) -> u16 {
        match file::at(k, id).kind {
            FileKind::PidFd(pid) => ready(k, pid),
            _ => 0,
        }
    }

    fn key(k: &Kernel, _thread: ThreadId, id: FileId) -> Option<WaitKey> {
        match file::at(k, id).kind {
            FileKind::PidFd(pid) => Some(WaitKey::Exit(pid.tgid)),
            _ => None,
        }
    }

    fn fdinfo(k: &Kernel, file: &File, ns: NsId) -> String {
        let FileKind::PidFd(pid) = file.kind else {
            return String::new();
        };
        let Some(tgid) = pid.process(k) else {
            return "Pid:\t-1\nNSpid:\t-1\n".into();
        };
        let number = pid.thread.unwrap_or(tgid);
        let own = k.tasks.leader(tgid).map_or(ns, |task| task.ns.pid);
        let shown = pid::show(k, ns, number);
        let inner = pid::numbers(k, ns, own, number).into_iter();
        let inner: String = inner.map(|number| format!("\t{number}")).collect();
        format!("Pid:\t{shown}\nNSpid:{inner}\n")
    }
}
