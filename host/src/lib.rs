//! What every execution host of varve shares: the run loop that drives the core, the memory file, mapped
//! images, host directory trees, and the standard streams.
//!
//! [`start`] is the way in, for who brings a platform; programs that just run sandboxes begin with the crate
//! `varve-sandbox`, which chooses one.
//!
//! ```no_run
//! use std::sync::Arc;
//! use varve_core::boot::BootConfig;
//! use varve_core::event::ExitStatus;
//! use varve_host::{AnyPlatform, Backings, HostSetup, Platform, PlatformError, RunError, start};
//!
//! /// Runs a program on a platform, with 1 GiB of memory, over a root without layers.
//! fn run<P: Platform>(
//!     config: BootConfig,
//!     make: impl FnOnce(Arc<Backings>) -> Result<P, PlatformError>,
//! ) -> Result<ExitStatus, RunError> {
//!     let setup = HostSetup {
//!         images: Vec::new(),
//!         trees: Vec::new(),
//!         stdio: [None, None, None],
//!         frames: 1 << 18,
//!         sink: Box::new(|line| eprintln!("{line:?}")),
//!         recording: None,
//!         check_every: None,
//!     };
//!     let run = start(config, setup, |backings, _| make(backings).map(AnyPlatform::from))?;
//!     run.wait()
//! }
//! ```
//!
//! A host brings a [`Platform`]: address spaces and guest threads. One host thread (a worker) runs one guest
//! thread, hands its traps to the kernel under one lock, executes what comes out, and lets the guest go on;
//! no trap is handed from one host thread to another. One more thread keeps the time, and one writes the log.
//!
//! A panic in any of them ends the run as [`RunError::Panic`]. Nothing here changes the process: no handlers
//! of signals, no limits, no panic hooks; any number of runs can be in it.
#![cfg_attr(
    not(test),
    deny(
        clippy::exit,
        clippy::panic,
        clippy::print_stderr,
        clippy::print_stdout,
        clippy::unwrap_used
    )
)]

mod backings;
mod clock;
mod crossing;
mod error;
mod grace;
mod images;
mod limits;
mod lines;
mod mailbox;
mod memory;
mod platform;
mod record;
mod run;
mod streams;
mod tree;
mod xstate;

pub use backings::Backings;
pub use clock::counter;
pub use crossing::crossing;
pub use error::RunError;
pub use grace::{Grace, Hold};
pub use images::{HostImage, ImageFile};
pub use lines::{Sink, SinkLine, TraceLine};
pub use memory::MemoryFile;
pub use platform::{GuestThread, Interrupter, Platform, PlatformError, failed};
pub use record::Recording;
pub use run::{AnyPlatform, Controls, HostSetup, Run, Stats, start};
pub use streams::stream_kind;
pub use xstate::fresh_xstate;
