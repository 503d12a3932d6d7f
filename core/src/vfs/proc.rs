//! The `proc` file system (proc(5)).

/// An instance of `proc`.
#[derive(Clone, Debug, Hash)]
pub(crate) struct ProcFs {}
