//! Mounts.

use super::dentry::DentryId;

/// A mount.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct MountId(pub u32);

/// A place in the tree: a dentry seen through a mount (the kernel's `struct path`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct PathRef {
    pub mount: MountId,
    pub dentry: DentryId,
}
