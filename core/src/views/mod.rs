//! Files that the kernel makes when they are looked at: `proc`, and `sysfs` with the control groups below it.

pub(crate) mod ops;
pub(crate) mod proc;
pub(crate) mod sysfs;
