//! What the VFS asks of the calling task: its limits, and signals for it.

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
