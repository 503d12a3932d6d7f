//! The KVM host alone.

#[path = "../../host/tests/cases/mod.rs"]
mod cases;

use std::sync::Arc;

use varve_host::{Backings, PlatformError};
use varve_host_kvm::{KickSignal, Kvm, Limits};

type Host = Kvm;

fn make(backings: Arc<Backings>) -> Result<Host, PlatformError> {
    Kvm::new(backings, Limits::default(), KickSignal::install()?)
}
