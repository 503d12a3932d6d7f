//! Kinds of files whose work is done on higher floors: of tasks, and of what `proc` and `sysfs` show. What
//! they are for the files themselves stands here; [`FileOps`](super::ops::FileOps) is implemented above.

use super::ops::OpenFile;

/// A file that the kernel makes (`proc`, `sysfs`).
pub(crate) struct Made;

impl OpenFile for Made {
    const POSITION: bool = true;
}

/// The memory of a process (`/proc/PID/mem`).
pub(crate) struct Memory;

impl OpenFile for Memory {
    const POSITION: bool = true;
    const ADDRESSES: bool = true;
}

/// What the pages of a process are (`/proc/PID/pagemap`).
pub(crate) struct PageMap;

impl OpenFile for PageMap {
    const POSITION: bool = true;
    const ADDRESSES: bool = true;
}

/// A process or thread (pidfd_open(2)).
pub(crate) struct Process;

impl OpenFile for Process {
    const POSITION: bool = true;
}

/// Signals that are read (signalfd(2)).
pub(crate) struct Signals;

impl OpenFile for Signals {}
