//! The application kernel of varve: Linux system calls, tasks, memory management, VFS and layered images as
//! a state machine.
//!
//! The crate is `no_std`, holds no `unsafe`, reads no clock, draws no randomness and calls the host only
//! through the traits in [`port`]. A run is a function of the boot configuration ([`boot::BootConfig`]) and
//! the ordered list of inputs ([`event::Input`]); what the kernel wants done comes out as [`event::Output`]s.
//!
//! The in-memory host ([`memhost`]) shows it without processes or a clock:
//!
//! ```
//! use varve_core::memhost::{BARE_ADDR, Machine, MemHost, bare, empty_root};
//!
//! # fn main() -> Result<(), varve_core::boot::BootError> {
//! let mut machine = Machine::boot(bare(empty_root()), MemHost::new(1024, Vec::new()))?;
//! let guest = machine.first();
//! machine.poke(guest, BARE_ADDR, b"hello\n").expect("the guest has memory there");
//! // write(1, BARE_ADDR, 6), in the name of a program
//! machine.call(guest, 1, &[1, BARE_ADDR, 6]);
//! assert_eq!(machine.result(guest), Some(6));
//! assert_eq!(machine.written[1], b"hello\n");
//! # Ok(())
//! # }
//! ```
//!
//! `examples/hello.rs` is a whole program. Crates for programs that run sandboxes begin with `varve-sandbox`.
#![no_std]
#![forbid(unsafe_code)]
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

extern crate alloc;

pub mod abi;
pub mod args;
pub mod boot;
mod cred;
mod digest;
mod env;
pub mod event;
mod file;
mod fs;
mod ipc;
pub mod journal;
pub mod kernel;
pub mod machine;
pub mod memhost;
mod mm;
mod net;
mod ns;
pub mod port;
mod ranges;
mod slab;
pub mod syscall;
mod task;
mod vdso;
mod vfs;
mod views;

pub use kernel::Kernel;
