//! Dentries.

/// A name in a directory and the inode behind it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct DentryId(pub u32);
