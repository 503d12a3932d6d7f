//! What the VFS asks of the calling task: its limits, signals for it, its signal mask, and who has the
//! terminal.

use crate::abi::Errno;
use crate::kernel::Cx;
use crate::task::signal::{self, SigInfo};

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
