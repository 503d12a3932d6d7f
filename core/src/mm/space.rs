//! An address space: VMAs, private pages, brk.

/// An address space.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Space {}
