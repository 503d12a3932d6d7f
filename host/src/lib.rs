//! What every execution host of varve shares: the run loop that drives the core, the memory file, mapped
//! images, host directory trees, and the standard streams.
//!
//! [`run()`] is the way in. A host brings a [`Platform`]: address spaces and guest threads. One host thread
//! (a worker) runs one guest thread, hands its traps to the kernel under one lock, executes what comes out,
//! and lets the guest go on; no trap is handed from one host thread to another.

mod backings;
mod clock;
mod crossing;
mod grace;
mod images;
mod limits;
mod lines;
mod mailbox;
mod memory;
mod platform;
mod record;
mod run;
mod signals;
mod streams;
mod tree;
mod xstate;

pub use backings::Backings;
pub use clock::counter;
pub use crossing::crossing;
pub use grace::{Grace, Hold};
pub use images::{HostImage, ImageFile};
pub use memory::MemoryFile;
pub use platform::{GuestThread, Interrupter, Platform, PlatformError, failed};
pub use record::Recording;
pub use run::{HostSetup, RunError, Sink, SinkLine, TraceLine, run};
pub use xstate::fresh_xstate;
