//! What the VFS asks of the calling task: its limits, signals for it, its signal mask, and who has the
//! terminal.

use alloc::sync::Arc;

use crate::Kernel;
use crate::abi::Errno;
use crate::args::DirFd;
use crate::cred::Creds;
use crate::cred::ns::NsId;
use crate::file::{self, fdtable};
use crate::kernel::Cx;
use crate::machine::ThreadId;
use crate::port::Ports;
use crate::task::Task;
use crate::task::signal::{self, SigInfo};
use crate::vfs::caller::{Callers, Start};
use crate::vfs::mount::PathRef;

/// The task that calls: it is known as long as its call is worked on.
fn task(k: &Kernel, thread: ThreadId) -> &Task {
    k.tasks.get(thread).expect("a handler runs for a live task") // INVARIANT: ended tasks are never dispatched
}

impl Callers for Kernel {
    fn creds_of(&self, thread: ThreadId) -> &Arc<Creds> {
        &task(self, thread).creds
    }

    fn start_of(&self, thread: ThreadId) -> Start {
        let context = self.files.fs_context(task(self, thread).fs);
        Start {
            root: context.root,
            cwd: context.cwd,
            umask: context.umask,
        }
    }

    fn place_of(
        &mut self,
        p: &mut Ports<'_>,
        thread: ThreadId,
        fd: DirFd,
    ) -> Result<PathRef, Errno> {
        let k = self;
        let cx = &mut Cx { k, p, thread };
        let id = fdtable::get_any(cx, fd.0)?;
        let file = cx.k.files.file(id);
        file.map(|file| file.path).ok_or(Errno::EBADF)
    }

    fn has_opened(
        &mut self,
        p: &mut Ports<'_>,
        thread: ThreadId,
        fd: DirFd,
    ) -> Result<bool, Errno> {
        let k = self;
        let cx = &mut Cx { k, p, thread };
        let id = fdtable::get_any(cx, fd.0)?;
        Ok(file::at(cx.k, id).opener == cx.task().committed)
    }

    fn mounts_of(&self, thread: ThreadId) -> Option<NsId> {
        Some(self.tasks.get(thread)?.ns.mount)
    }

    fn is_in_call(&self, thread: ThreadId) -> bool {
        task(self, thread).call.is_some()
    }

    fn count_walk(&mut self, thread: ThreadId) -> Option<u32> {
        let call = self.tasks.get_mut(thread)?.call.as_mut()?;
        call.walks += 1;
        Some(call.walks)
    }
}

/// Current soft limit of a resource (getrlimit(2)).
pub(crate) fn rlimit(cx: &Cx<'_, '_>, resource: u32) -> u64 {
    cx.rlimit(resource)
}

/// Sends a signal to the calling thread (`SIGPIPE`, `SIGXFSZ`).
pub(crate) fn raise(cx: &mut Cx<'_, '_>, signal: u32) {
    let task = cx.task();
    let (pid, uid) = (task.tgid, task.creds.uid);
    let thread = cx.thread;
    signal::send_thread(cx.k, thread, SigInfo::user(signal as u8, 0, pid, uid));
}

/// Sets the signal mask for the time of the current call (ppoll(2), pselect(2)).
pub(crate) fn mask_for_call(cx: &mut Cx<'_, '_>, mask: u64) {
    let old = cx.task().blocked;
    cx.call().saved_mask = Some(old);
    let thread = cx.thread;
    signal::set_blocked(cx.k, thread, mask & !signal::UNBLOCKABLE);
}

/// Foreground process group of the terminal: the first process's until a program sets another one.
pub(crate) fn foreground(cx: &Cx<'_, '_>) -> i32 {
    let first = || cx.k.tasks.group(1).map_or(1, |group| group.pgid);
    cx.k.files.foreground.unwrap_or_else(first) as i32
}

/// Makes a process group the foreground one of the terminal. `ESRCH` if there is none such, `EPERM` if it is
/// of another session.
pub(crate) fn set_foreground(cx: &mut Cx<'_, '_>, group: i32) -> Result<(), Errno> {
    let pgid = u32::try_from(group).map_err(|_| Errno::EINVAL)?;
    let session = cx.group().sid;
    let tasks = &cx.k.tasks;
    let member = tasks
        .groups()
        .filter_map(|tgid| tasks.group(tgid))
        .find(|process| process.pgid == pgid)
        .ok_or(Errno::ESRCH)?;
    if member.sid != session {
        return Err(Errno::EPERM);
    }
    cx.k.files.foreground = Some(pgid);
    Ok(())
}

/// Session of the terminal: that of the first process.
pub(crate) fn session(cx: &Cx<'_, '_>) -> i32 {
    cx.k.tasks.group(1).map_or(1, |group| group.sid) as i32
}
