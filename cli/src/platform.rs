//! Platforms as the command line names them.

use std::io;

use clap::ValueEnum;
use varve_sandbox::{KickSignal, PlatformChoice};

/// What runs guest threads.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PlatformName {
    /// The fastest one that works here: KVM with hardware virtualisation, else ptrace.
    Auto,
    /// Virtual CPUs of KVM.
    Kvm,
    /// Traced processes.
    Ptrace,
}

impl PlatformName {
    /// What the library calls it.
    pub(crate) fn choice(self) -> PlatformChoice {
        match self {
            PlatformName::Auto => PlatformChoice::Auto,
            PlatformName::Kvm => PlatformChoice::Kvm,
            PlatformName::Ptrace => PlatformChoice::Ptrace,
        }
    }

    /// The signal that it needs of this process, if it may need one.
    ///
    /// # Errors
    /// There is no room for a handler.
    pub(crate) fn signal(self) -> io::Result<Option<KickSignal>> {
        match self {
            PlatformName::Auto | PlatformName::Kvm => KickSignal::install().map(Some),
            PlatformName::Ptrace => Ok(None),
        }
    }
}
