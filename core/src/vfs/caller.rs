//! What names ask of the thread that calls: its credentials, where its paths begin, and which walk of its
//! call one is.

use alloc::sync::Arc;

use super::mount::PathRef;
use super::perm::Who;
use super::view::ViewOps;
use crate::abi::Errno;
use crate::args::DirFd;
use crate::cred::Creds;
use crate::cred::ns::{NsId, user};
use crate::env::cx::Cx;
use crate::event::Now;
use crate::machine::ThreadId;

/// Where the paths of a thread begin, and what it leaves out of the permissions of new files.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    pub root: PathRef,
    pub cwd: PathRef,
    pub umask: u32,
}

/// A state that knows threads. A thread that calls is always known.
pub(crate) trait Callers: ViewOps {
    /// The credentials that a thread acts with.
    fn creds_of(&self, thread: ThreadId) -> &Arc<Creds>;

    /// Root and working directory of a thread, and its umask.
    fn start_of(&self, thread: ThreadId) -> Start;

    /// The place that a descriptor of a thread stands for. `EBADF`.
    fn place_of(&mut self, thread: ThreadId, fd: DirFd) -> Result<PathRef, Errno>;

    /// Whether a thread has still the very credentials with which a file was opened. `EBADF`.
    fn has_opened(&mut self, thread: ThreadId, fd: DirFd) -> Result<bool, Errno>;

    /// The mount namespace that a thread is in, if there is such a thread.
    fn mounts_of(&self, thread: ThreadId) -> Option<NsId>;

    /// Whether a thread is in a call, and not at work at boot.
    fn is_in_call(&self, thread: ThreadId) -> bool;

    /// Counts one more walk of the call of a thread; which one it is.
    fn count_walk(&mut self, thread: ThreadId) -> Option<u32>;
}

impl<K: Callers> Cx<'_, '_, K> {
    pub(crate) fn creds(&self) -> &Creds {
        self.k.creds_of(self.thread)
    }

    /// The caller, for permission checks.
    pub(crate) fn who(&self) -> Who {
        Who::Creds(self.k.creds_of(self.thread).clone(), Some(self.thread))
    }

    pub(super) fn start(&self) -> Start {
        self.k.start_of(self.thread)
    }

    /// The time of the input.
    pub(crate) fn now(&self) -> Now {
        self.k.vfs().env.now
    }

    /// Counts work on many things ([`steps`](crate::env::steps)).
    pub(crate) fn spend(&mut self, steps: u64) {
        self.k.vfs_mut().env.steps.spend(steps);
    }

    /// Whether the steps of this input are used up.
    pub(crate) fn is_spent(&self) -> bool {
        self.k.vfs().env.steps.left() == 0
    }

    /// Whether the caller has a capability over what belongs to a user namespace.
    pub(crate) fn capable_in(&self, ns: NsId, cap: u32) -> bool {
        user::capable(self.k.vfs(), self.creds(), ns, cap)
    }

    /// Whether the caller has a capability over a namespace: over the user namespace that it belongs to.
    pub(crate) fn capable_over(&self, ns: NsId, cap: u32) -> bool {
        self.capable_in(self.k.vfs().ns.owner(ns), cap)
    }
}
