//! Credentials (credentials(7), capabilities(7)).

use alloc::vec::Vec;

/// User, groups and capabilities of a task.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Creds {
    pub uid: u32,
    pub euid: u32,
    pub suid: u32,
    pub fsuid: u32,
    pub gid: u32,
    pub egid: u32,
    pub sgid: u32,
    pub fsgid: u32,
    /// Supplementary groups, sorted.
    pub groups: Vec<u32>,
    /// Capability sets, one bit each (capabilities(7)).
    pub cap_permitted: u64,
    pub cap_effective: u64,
    pub cap_inheritable: u64,
    pub cap_bounding: u64,
    pub cap_ambient: u64,
    pub no_new_privs: bool,
}

impl Creds {
    /// Whether a capability (`CAP_CHOWN` is 0, ...) is effective.
    pub(crate) fn capable(&self, cap: u32) -> bool {
        self.cap_effective >> cap & 1 == 1
    }

    /// Whether `gid` is the file system group or a supplementary one.
    pub(crate) fn in_group(&self, gid: u32) -> bool {
        self.fsgid == gid || self.groups.binary_search(&gid).is_ok()
    }
}
