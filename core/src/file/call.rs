//! A system call as far as files are concerned: how far it has come, and what it waits for from the host.

use alloc::collections::{BTreeMap, BTreeSet};

use smallvec::SmallVec;

use super::FileId;
use crate::abi::Errno;
use crate::event::{HostCall, HostResult, Now, OpId};

/// How far a call has come. It is kept while the call waits.
#[derive(Clone, Debug, Hash)]
pub(crate) struct CallState {
    /// When the program made the call: relative timeouts count from here.
    pub entered: Now,
    /// For the handler's own use between runs: bytes done so far, or another small state.
    pub progress: u64,
    /// It goes on making the content of a file of `proc` that it reads from the beginning.
    pub goes_on: bool,
    /// How many paths this run of the handler has begun to walk.
    pub walks: u32,
    /// Host operation that this call started and has not yet seen the result of.
    pub op: Option<OpId>,
    /// The host was asked to give `op` up.
    pub cancelled: bool,
    /// The files that its descriptors named when it looked them up.
    pub files: CallFiles,
}

impl CallState {
    /// A call that begins.
    pub(crate) fn new(entered: Now) -> CallState {
        CallState {
            entered,
            progress: 0,
            goes_on: false,
            walks: 0,
            op: None,
            cancelled: false,
            files: CallFiles::default(),
        }
    }
}

/// The files of a call's descriptors. A call that waits keeps them: what another thread does to a descriptor
/// meanwhile is of no account to it (`fdget` of Linux).
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct CallFiles {
    /// Descriptors and their files, in the order in which they were looked up; the first [`Self::MAX`].
    pub found: SmallVec<[(i32, FileId); 4]>,
    /// Whether the call has waited: there is a reference on each of the files.
    pub kept: bool,
}

impl CallFiles {
    /// Most files of one call that are kept; descriptors beyond are looked up anew when a call goes on.
    const MAX: usize = 16;

    /// The file that a descriptor named when the call first looked it up, once it has waited.
    pub(crate) fn kept(&self, fd: i32) -> Option<FileId> {
        if !self.kept {
            return None;
        }
        let mut found = self.found.iter();
        found.find(|(of, _)| *of == fd).map(|&(_, file)| file)
    }

    /// Notes what a descriptor names.
    pub(crate) fn note(&mut self, fd: i32, file: FileId) {
        if !self.kept && self.found.len() < Self::MAX {
            self.found.push((fd, file));
        }
    }

    /// The files on which the call holds a reference each.
    pub(crate) fn held(&self) -> impl Iterator<Item = FileId> + '_ {
        let held = if self.kept { &self.found[..] } else { &[] };
        held.iter().map(|&(_, file)| file)
    }
}

/// Host operations under way, and those that ended and were not yet looked at.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct HostOps {
    next: u64,
    done: BTreeMap<OpId, Result<HostResult, Errno>>,
    /// Operations whose caller has gone: their results are dropped.
    orphans: BTreeSet<OpId>,
    /// Bytes that go along with those under way.
    under_way: BTreeMap<OpId, u64>,
    bytes: u64,
}

impl HostOps {
    /// What goes along with an operation, beside itself.
    const COST: u64 = 256;

    /// The number of a new operation.
    pub(super) fn start(&mut self, call: &HostCall) -> OpId {
        let op = OpId(self.next);
        self.next += 1;
        let data = match call {
            HostCall::Write { data, .. } => data.len(),
            _ => 0,
        };
        let bytes = data as u64 + Self::COST;
        self.under_way.insert(op, bytes);
        self.bytes += bytes;
        op
    }

    /// Bytes that operations under way take.
    pub(crate) fn held(&self) -> u64 {
        self.bytes
    }

    /// Takes the result of an operation that has ended.
    pub(super) fn take(&mut self, op: OpId) -> Option<Result<HostResult, Errno>> {
        self.done.remove(&op)
    }

    /// An operation has ended. `true` if somebody looks at its result.
    pub(crate) fn end(&mut self, op: OpId, result: Result<HostResult, Errno>) -> bool {
        self.bytes -= self.under_way.remove(&op).unwrap_or(0);
        if self.orphans.remove(&op) {
            return false;
        }
        self.done.insert(op, result);
        true
    }

    /// Nobody looks at the result of an operation any more. `true` if it has not ended.
    pub(crate) fn abandon(&mut self, op: OpId) -> bool {
        self.done.remove(&op).is_none() && self.orphans.insert(op)
    }
}
