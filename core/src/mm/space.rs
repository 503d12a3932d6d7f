//! An address space: VMAs, private pages, brk.

use crate::Kernel;
use crate::abi::Errno;
use crate::machine::SpaceId;
use crate::port::Ports;

/// An address space.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Space {}

/// Adds a user to a space.
pub(crate) fn share(_k: &mut Kernel, space: SpaceId) -> SpaceId {
    space
}

/// Copies a space for a new process. `ENOMEM`.
pub(crate) fn fork(
    _k: &mut Kernel,
    _p: &mut Ports<'_>,
    _parent: SpaceId,
) -> Result<SpaceId, Errno> {
    Err(Errno::ENOMEM)
}

/// Drops a user; the last one drops the space.
pub(crate) fn release(_k: &mut Kernel, _p: &mut Ports<'_>, _space: SpaceId) {}

/// Number of tasks that run in a space.
pub(crate) fn users(_k: &Kernel, _space: SpaceId) -> u32 {
    1
}
