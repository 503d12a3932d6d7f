//! The system call that a task is in.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::{Deref, DerefMut};

use crate::digest::Untold;
use crate::env::wait::{Wait, WaitKey};
use crate::file::call::CallState;
use crate::mm::tape::Tape;
use smallvec::SmallVec;

/// The system call a task is in. Kept while it is parked; gone when it returns to the program.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Call {
    pub number: u64,
    pub args: [u64; 6],
    pub state: CallState,
    /// A look at many files that is under way.
    pub scan: Option<Box<Scan>>,
    /// An execve(2) that has ended the other threads of its process, or is about to.
    pub alone: bool,
    /// Signal mask to come back to (ppoll, pselect, sigsuspend).
    pub saved_mask: Option<u64>,
    /// What the call waits for now.
    pub wait: Option<Wait>,
    /// What is known of it, if it is traced.
    pub trace: Untold<Option<Box<Trace>>>,
}

impl Deref for Call {
    type Target = CallState;

    fn deref(&self) -> &CallState {
        &self.state
    }
}

impl DerefMut for Call {
    fn deref_mut(&mut self) -> &mut CallState {
        &mut self.state
    }
}

impl Call {
    /// Whether nothing but its value is left of it when it ends.
    pub(crate) fn is_plain(&self) -> bool {
        self.op.is_none() && self.saved_mask.is_none() && self.trace.0.is_none() && !self.files.kept
    }
}

/// A look at many files: what was found so far, and what to wait for. It goes on where it was when the steps
/// of an input are used up.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Scan {
    /// Descriptors or entries that were looked at.
    pub at: u32,
    /// Entries or bits that are ready.
    pub ready: u64,
    /// Results that select(2) writes at the end.
    pub bits: [Vec<u8>; 3],
    pub keys: SmallVec<[WaitKey; 2]>,
    /// There are more keys than can be waited for.
    pub too_many: bool,
    /// First stream whose input was asked for, and what the host says it is ready for.
    pub stream: Option<u8>,
    pub host: Option<(u8, u16)>,
    /// What the count of changes of files was when it began.
    pub changes: u64,
    /// It was left off in between, so that files may have changed after they were looked at.
    pub in_pieces: bool,
}

/// What is known of a call before it returns.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    /// `None` while the call's handler runs: the kernel has it then.
    pub tape: Option<Box<Tape>>,
    /// What its descriptors named, by the number of the argument.
    pub files: Vec<(usize, String)>,
}
