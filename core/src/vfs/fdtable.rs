//! File descriptor tables and what else tasks share about the file system.

use super::mount::PathRef;

/// A file descriptor table; shared by tasks with `CLONE_FILES`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct FdTableId(pub u32);

/// The descriptors of a process.
#[derive(Clone, Debug, Hash)]
pub(crate) struct FdTable {}

/// Root, working directory and umask; shared by tasks with `CLONE_FS`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct FsContextId(pub u32);

/// Root, working directory and umask.
#[derive(Clone, Debug, Hash)]
pub(crate) struct FsContext {
    pub root: PathRef,
    pub cwd: PathRef,
    pub umask: u32,
}
