//! Page faults of guest threads.

use crate::kernel::Cx;
use crate::machine::Access;

/// Resolves a fault of the current thread, or forces SIGSEGV/SIGBUS on it.
pub(crate) fn user_fault(_cx: &mut Cx<'_, '_>, _addr: u64, _access: Option<Access>) {}
