//! The union of read-only layers and a writable in-memory upper layer; without layers a tmpfs.

/// One union.
#[derive(Clone, Debug, Hash)]
pub(crate) struct UnionFs {}
