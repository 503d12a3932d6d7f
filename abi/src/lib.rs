//! What user space and the kernel agree on: error numbers and the sizes that everything counts in. Constants
//! of the kernel come from `linux-raw-sys`, under [`raw`].
//!
//! ```
//! use varve_abi::{Errno, raw};
//!
//! assert_eq!(Errno::ENOENT.name(), "ENOENT");
//! assert_eq!(Errno::ENOENT.as_result() as i64, -2);
//! assert_eq!(raw::general::O_CREAT, 0o100);
//! ```
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

mod errno;

pub use errno::Errno;
pub use linux_raw_sys as raw;

/// Bytes in a page and in a frame.
pub const PAGE_SIZE: u64 = 4096;
/// Base-2 logarithm of [`PAGE_SIZE`].
pub const PAGE_SHIFT: u32 = 12;
/// Longest path in bytes with its terminating NUL (`PATH_MAX`).
pub const PATH_MAX: usize = 4096;
/// Longest name of one path component in bytes (`NAME_MAX`).
pub const NAME_MAX: usize = 255;
/// One past the highest address a program may map. Two pages below what Linux allows: a host keeps its stub
/// up there.
pub const TASK_SIZE: u64 = 0x7fff_fff0_0000;
/// Lowest address a program may map (`vm.mmap_min_addr`).
pub const MMAP_MIN_ADDR: u64 = 0x1_0000;
