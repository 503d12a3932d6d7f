//! The ptrace host alone.

#[path = "../../host/tests/cases/mod.rs"]
mod cases;

use std::sync::Arc;

use varve_host::{Backings, PlatformError};
use varve_host_ptrace::Ptrace;

type Host = Ptrace;

fn make(backings: Arc<Backings>) -> Result<Host, PlatformError> {
    Ptrace::new(backings)
}
