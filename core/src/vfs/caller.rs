//! What the VFS asks of the calling task: its limits, and signals for it.

use crate::abi::Errno;
use crate::kernel::Cx;

/// Current soft limit of a resource (getrlimit(2)).
pub(crate) fn rlimit(cx: &Cx<'_, '_>, resource: u32) -> u64 {
    let _ = (cx, resource);
    u64::MAX
}

/// Sends a signal to the calling thread (`SIGPIPE`, `SIGXFSZ`).
pub(crate) fn raise(cx: &mut Cx<'_, '_>, signal: u32) {
    let _ = (cx, signal);
}

/// Foreground process group of the terminal.
pub(crate) fn foreground(cx: &Cx<'_, '_>) -> i32 {
    cx.k.vfs.foreground.unwrap_or(cx.task().tgid as i32)
}

/// Makes a process group the foreground one of the terminal.
pub(crate) fn set_foreground(cx: &mut Cx<'_, '_>, group: i32) -> Result<(), Errno> {
    if group < 0 {
        return Err(Errno::EINVAL);
    }
    cx.k.vfs.foreground = Some(group);
    Ok(())
}

/// Session of the terminal: that of the first process.
pub(crate) fn session(_cx: &Cx<'_, '_>) -> i32 {
    1
}
