//! Prints system calls as strace(1) does, from the table.

use crate::kernel::Cx;

/// Emits one line for a finished call, if tracing is on. `None` is a call that does not return.
pub(crate) fn trace(_cx: &mut Cx<'_, '_>, _number: u64, _args: &[u64; 6], _result: Option<u64>) {}
