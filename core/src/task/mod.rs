//! Tasks, thread groups, credentials, signals, programs.

pub(crate) mod boot;
pub(crate) mod creds;
pub(crate) mod signal;
pub(crate) mod timer;

use alloc::collections::BTreeMap;

pub(crate) use creds::Creds;

use crate::kernel::{Call, Restart};
use crate::machine::{Regs, SpaceId, ThreadId};
use crate::vfs::{FdTableId, FsContextId};

/// A task: one guest thread and what belongs to it alone. What it shares with others it names by id.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Task {
    pub id: ThreadId,
    /// Linux thread number.
    pub tid: u32,
    /// Thread group: the Linux process number.
    pub tgid: u32,
    pub regs: Regs,
    pub space: SpaceId,
    pub files: FdTableId,
    pub fs: FsContextId,
    pub creds: Creds,
    /// `comm` of prctl(2), without the NUL.
    pub comm: [u8; 15],
    /// The host runs it now; its registers here are old.
    pub running: bool,
    /// In the ready queue.
    pub ready: bool,
    /// Stopped by a signal (job control).
    pub stopped: bool,
    /// Ended; only its status is left.
    pub exited: bool,
    /// The host does not know it yet: its first resume is a start.
    pub fresh: bool,
    /// Whose floating-point state it starts with.
    pub xstate_parent: Option<ThreadId>,
    /// The system call it is in.
    pub call: Option<Call>,
    /// A call that a signal took it out of, until the signal is delivered.
    pub interrupted: Option<(Call, Restart)>,
}

/// All tasks and thread groups.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Tasks {
    tasks: BTreeMap<ThreadId, Task>,
}

impl Tasks {
    pub(crate) fn new() -> Tasks {
        Tasks {
            tasks: BTreeMap::new(),
        }
    }

    pub(crate) fn get(&self, id: ThreadId) -> Option<&Task> {
        self.tasks.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: ThreadId) -> Option<&mut Task> {
        self.tasks.get_mut(&id)
    }
}
