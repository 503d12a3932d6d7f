//! Runs untrusted Linux programs in sandboxes, from a program of yours.
//!
//! A [`Sandbox`] is made like a process with [`std::process::Command`]: say what runs and what it sees, then
//! [`spawn`](Builder::spawn) it, or wait for its [`output`](Builder::output).
//!
//! ```no_run
//! use varve_sandbox::{ExitStatus, Layer, Limits, Sandbox, program};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let output = Sandbox::builder(program(["/bin/sort", "-n", "/data/numbers"])?)
//!     .layers([Layer::image("debian.img"), Layer::image("numbers.img")])
//!     .limits(Limits { memory: Some(256 << 20), ..Limits::default() })
//!     .output()?;
//! assert_eq!(output.status, ExitStatus::Exited(0));
//! println!("{}", String::from_utf8_lossy(&output.stdout));
//! # Ok(())
//! # }
//! ```
//!
//! `examples/embed.rs` is a whole program. Layers are EROFS images, as `varve build` and the crate
//! `varve-image` make them. What else a program finds (its environment, user, working directory, further
//! mounts) are fields of the [`BootConfig`] that [`program`] gives.
//!
//! # What it needs of your process
//!
//! Nothing is changed for the process as a whole: no signal handlers, no limits, no panic hook, no standard
//! streams, no working directory. There may be any number of sandboxes in it, one after the other and at the
//! same time. A sandbox has threads of its own, two and one for each guest thread; a panic in one of them is
//! the [`RunError::Panic`] of that sandbox alone. Beside that
//!
//! * *KVM* needs a real-time signal that gets threads out of guests. It is used only where the process says
//!   so ([`Builder::kick_signal`]).
//! * *ptrace* makes child processes. Nobody else may wait for them, so the process must neither call
//!   `waitpid(-1, ..)` nor ignore `SIGCHLD`. (The standard library waits for its own children only.)
//! * Programs that write to a pipe that nobody reads make `SIGPIPE`, which Rust programs ignore; others have
//!   to.
//! * Each guest thread takes two open files. The limit of open files (`RLIMIT_NOFILE`) bounds how many guest
//!   threads there can be: who wants many raises it.
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

mod builder;
mod config;
mod layer;
mod platform;
mod sandbox;
mod stdio;

pub use builder::{Builder, Limits};
pub use config::{program, seed};
pub use layer::Layer;
pub use platform::{PlatformChoice, Survey, survey};
pub use sandbox::{Output, Sandbox};
pub use stdio::Stdio;
pub use varve_core::boot::{self, BootConfig, BootError};
pub use varve_core::event::{ExitStatus, Level};
pub use varve_host::{
    AnyPlatform, Backings, Controls, HostImage, PlatformError, Recording, RunError, Sink, SinkLine,
    Stats, TraceLine, stream_kind,
};
pub use varve_host_kvm::KickSignal;
