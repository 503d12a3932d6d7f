//! File systems whose files are made as they are looked at: what an instance is. Their files are made above
//! ([`views`](crate::views)), by whoever knows tasks.

use crate::cred::ns::NsId;

/// An instance of `proc`, which shows the processes of a PID namespace under their numbers there.
#[derive(Clone, Debug, Hash)]
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
