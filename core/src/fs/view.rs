//! File systems whose files are made as they are looked at: what an instance is. Their files are made above
//! ([`views`](crate::views)), by whoever knows tasks.

use super::Frames;
use super::filesystem::{FsKind, Ino, InodeOps, StatFs};
use crate::abi::raw::general::PROC_SUPER_MAGIC;
use crate::cred::ns::NsId;

/// An instance of `proc`, which shows the processes of a PID namespace under their numbers there.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct ProcFs {
    pub pids: NsId,
    pub options: Options,
}

/// What `hidepid=` keeps from those who may not look into a process as a debugger does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub(crate) enum Hide {
    #[default]
    Nothing,
    /// What is in its directory.
    Contents,
    /// That it is there, too.
    Directory,
    /// The same, and no group is excepted.
    Always,
}

/// Options of an instance.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(crate) struct Options {
    pub hide: Hide,
    /// Members of this group see everything; `u32::MAX` has no members.
    pub group: u32,
    /// `subset=pid`
    pub only_processes: bool,
    pub read_only: bool,
}

impl Options {
    /// What an instance has if nobody says otherwise.
    pub(crate) const DEFAULT: Options = Options {
        hide: Hide::Nothing,
        group: 0,
        only_processes: false,
        read_only: false,
    };
}

/// A tree of the kernel's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(crate) enum SysFs {
    /// `/sys`
    Devices,
    /// `/sys/fs/cgroup`
    Cgroup,
}

/// The inode of the root of each of them.
pub(crate) const ROOT: Ino = Ino(1);

/// `SYSFS_MAGIC` and `CGROUP2_SUPER_MAGIC` of `linux/magic.h`.
const SYSFS_MAGIC: u64 = 0x6265_6572;
const CGROUP2_MAGIC: u64 = 0x6367_7270;

impl InodeOps for ProcFs {
    fn kind(&self) -> FsKind {
        FsKind::Proc
    }

    fn is_view(&self) -> bool {
        true
    }

    fn is_read_only(&self) -> bool {
        self.options.read_only
    }

    fn root(&self) -> Ino {
        ROOT
    }

    fn statfs(&self, _frames: &Frames) -> StatFs {
        StatFs::simple(u64::from(PROC_SUPER_MAGIC))
    }
}

impl InodeOps for SysFs {
    fn kind(&self) -> FsKind {
        FsKind::Sys
    }

    fn is_view(&self) -> bool {
        true
    }

    fn root(&self) -> Ino {
        ROOT
    }

    fn statfs(&self, _frames: &Frames) -> StatFs {
        StatFs::simple(match self {
            SysFs::Devices => SYSFS_MAGIC,
            SysFs::Cgroup => CGROUP2_MAGIC,
        })
    }
}
