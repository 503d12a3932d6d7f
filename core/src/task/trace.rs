//! What is told of tasks to who traces them: the roof knows system calls by name, and plugs in what writes
//! it.

use alloc::vec::Vec;
use core::fmt::Debug;

use super::Cx;
use super::call::{Call, Trace};
use super::signal::SigInfo;
use crate::Kernel;
use crate::machine::ThreadId;

/// Told of what happens to tasks outside of the table of calls, as it happens; it decides itself what it
/// wants to know.
pub(crate) trait Tracer: Debug + Sync {
    /// The first program of a process begins, as if by execve(2).
    fn first(&self, cx: &mut Cx<'_, '_>, name: &[u8], args: &[Vec<u8>], env: &[Vec<u8>]);

    /// A thread gets a signal.
    fn signal(&self, k: &mut Kernel, thread: ThreadId, info: SigInfo);

    /// A call that a signal interrupted will be made again.
    fn restarted(&self, cx: &mut Cx<'_, '_>, call: &Call, trace: Trace);

    /// A thread ends in a call.
    fn never_returned(&self, cx: &mut Cx<'_, '_>, call: &Call, trace: Trace);

    /// A thread has ended with a status (as wait(2) has it).
    fn thread_ended(&self, k: &mut Kernel, thread: ThreadId, status: u32);
}
