//! Signals: sending, pending, delivery, return (signal(7)).

use crate::Kernel;
use crate::kernel::Cx;
use crate::machine::{Exception, ThreadId};

/// A signal from outside the sandbox for the first process.
pub(crate) fn from_outside(_k: &mut Kernel, _signal: u8) {}

/// Forces a synchronous exception's signal on the current task, even if it is blocked or ignored.
pub(crate) fn force_exception(_cx: &mut Cx<'_, '_>, _exception: Exception) {}

/// Ends all threads of the current task's group with a signal as status.
pub(crate) fn kill_thread_group(_cx: &mut Cx<'_, '_>, _signal: u8) {}

/// Whether a signal ends a wait of this task now (`killable`: only a deadly one).
pub(crate) fn interrupts(_k: &crate::Kernel, _thread: ThreadId, _killable: bool) -> bool {
    false
}

/// Deals with one pending signal and an interrupted call of the current task. Returns `true` if it must be called again: something was
/// done and more may be pending; `false` when the task may run (or has ended or stopped).
pub(crate) fn deliver(_cx: &mut Cx<'_, '_>) -> bool {
    false
}

/// Comes back to this signal mask when the next signal handler has been set up, or at once if there is none.
pub(crate) fn restore_mask_later(_cx: &mut Cx<'_, '_>, _mask: u64) {}
