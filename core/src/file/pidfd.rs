//! Descriptors of processes and threads (pidfd_open(2)).

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
