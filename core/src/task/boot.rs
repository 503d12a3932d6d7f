//! The first process.

use crate::Kernel;
use crate::boot::{BootConfig, BootError};
use crate::port::Ports;

/// Makes the first process as the configuration says.
pub(crate) fn start_init(
    _k: &mut Kernel,
    _ports: &mut Ports<'_>,
    _config: &BootConfig,
) -> Result<(), BootError> {
    Err(BootError::Config(
        "the first process cannot be made yet".into(),
    ))
}
