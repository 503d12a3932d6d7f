//! The mounts made at boot.

use crate::Kernel;
use crate::boot::{BootConfig, BootError};
use crate::port::Ports;

/// Mounts the root, `/proc`, `/dev`, `/dev/shm`, and what the configuration asks for.
pub(crate) fn mount_all(
    _k: &mut Kernel,
    _ports: &mut Ports<'_>,
    _config: &BootConfig,
) -> Result<(), BootError> {
    Err(BootError::Config("nothing can be mounted yet".into()))
}
