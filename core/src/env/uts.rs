//! What uname(2) says of the kernel.

/// `sysname`, `release`, `version` and `machine` of uname(2). Calls behave as in newer kernels, but the
/// release is that of the newest one of which no call is missing: programs take it for what they may call.
pub(crate) const SYSNAME: &str = "Linux";

pub(crate) const RELEASE: &str = "6.7.0-varve";

pub(crate) const VERSION: &str = "#1 SMP PREEMPT_DYNAMIC varve";

pub(crate) const MACHINE: &str = "x86_64";
