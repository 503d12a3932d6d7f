//! What user space and kernel agree on: `varve-abi`, and the structures that system calls take and give.

pub(crate) mod layout;

pub use varve_abi::{
    Errno, MMAP_MIN_ADDR, NAME_MAX, PAGE_SHIFT, PAGE_SIZE, PATH_MAX, TASK_SIZE, raw,
};

/// One past the highest address a program may map or use as a segment base under Linux (`TASK_SIZE_MAX`).
pub(crate) const LINUX_TASK_SIZE: u64 = 0x7fff_ffff_f000;
