//! Programs: execve(2).

use alloc::vec::Vec;

use crate::abi::Errno;
use crate::kernel::{Cx, Stop};
use crate::vfs::FileId;

/// Replaces the program of the current task by `file`, which the caller keeps its own reference to. `name` is what the program is told it
/// was called as.
pub(crate) fn execve(
    _cx: &mut Cx<'_, '_>,
    _file: FileId,
    _name: &[u8],
    _argv: Vec<Vec<u8>>,
    _envp: Vec<Vec<u8>>,
) -> Result<(), Stop> {
    Err(Errno::ENOSYS.into())
}
