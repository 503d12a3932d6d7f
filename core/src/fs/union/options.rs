//! Options of a tmpfs (tmpfs(5)), as an instance has them and shows them.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::abi::PAGE_SIZE;
use crate::fs::FileSystems;

/// A limit of a tmpfs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub(crate) enum Limit {
    /// Nothing was said.
    #[default]
    Default,
    /// 0: there is none.
    None,
    Most(u64),
}

impl Limit {
    /// 0 stands for no limit.
    pub(crate) fn from_number(value: u64) -> Limit {
        match value {
            0 => Limit::None,
            value => Limit::Most(value),
        }
    }

    pub(crate) fn of(most: Option<u64>) -> Limit {
        most.map_or(Limit::Default, Limit::Most)
    }

    pub(crate) fn most(self) -> Option<u64> {
        match self {
            Limit::Most(most) => Some(most),
            Limit::Default | Limit::None => None,
        }
    }
}

/// Options of a tmpfs (tmpfs(5)).
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub(crate) struct Tmpfs {
    /// Bytes of file data.
    pub size: Limit,
    pub inodes: Limit,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Numbers of inodes are told in 64 bits; they are in any case.
    pub wide_inodes: bool,
    /// Whether pages should be large, and from which nodes. Guests' pages are small, and there is one node:
    /// it is kept and shown.
    pub huge: &'static str,
    pub policy: String,
    /// Nothing is swapped in any case.
    pub no_swap: bool,
}

impl Default for Tmpfs {
    fn default() -> Tmpfs {
        Tmpfs {
            size: Limit::Default,
            inodes: Limit::Default,
            mode: 0o1777,
            uid: 0,
            gid: 0,
            wide_inodes: false,
            huge: "",
            policy: String::new(),
            no_swap: false,
        }
    }
}

impl Tmpfs {
    /// Bytes that files may take: half of the memory if nothing was said.
    pub(crate) fn bytes(&self, k: &FileSystems) -> Option<u64> {
        match self.size {
            Limit::Default => Some(u64::from(k.frames.usage().1) * PAGE_SIZE / 2),
            Limit::None => None,
            Limit::Most(bytes) => Some(bytes),
        }
    }

    /// As `/proc/mounts` shows them.
    pub(crate) fn show(&self) -> Vec<u8> {
        let mut text = String::new();
        if self.size != Limit::Default {
            text += &format!(",size={}k", self.size.most().unwrap_or(0) / 1024);
        }
        if self.inodes != Limit::Default {
            text += &format!(",nr_inodes={}", self.inodes.most().unwrap_or(0));
        }
        if self.mode != 0o1777 {
            text += &format!(",mode={:03o}", self.mode);
        }
        if self.uid != 0 {
            text += &format!(",uid={}", self.uid);
        }
        if self.gid != 0 {
            text += &format!(",gid={}", self.gid);
        }
        if self.wide_inodes {
            text += ",inode64";
        }
        for (name, value) in [("huge", self.huge), ("mpol", &self.policy)] {
            if !value.is_empty() {
                text += &format!(",{name}={value}");
            }
        }
        if self.no_swap {
            text += ",noswap";
        }
        text.into_bytes()
    }
}
