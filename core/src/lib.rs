//! The application kernel of varve: Linux system calls, tasks, memory management, VFS and layered images as
//! a state machine.
//!
//! The crate is `no_std`, holds no `unsafe`, reads no clock, draws no randomness and calls the host only
//! through the traits in [`port`]. A run is a function of the boot configuration ([`boot::BootConfig`]) and
//! the ordered list of inputs ([`event::Input`]); what the kernel wants done comes out as [`event::Output`]s.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod abi;
pub mod boot;
mod cred;
mod digest;
pub mod event;
mod file;
mod fs;
mod ipc;
pub mod journal;
pub mod kernel;
pub mod machine;
pub mod memhost;
pub mod mm;
mod net;
mod ns;
pub mod port;
mod ranges;
mod rng;
mod slab;
pub mod syscall;
pub mod task;
mod vdso;
mod vfs;
mod views;

pub use kernel::Kernel;
