//! What tells of the whole system, by the table [`PATHS`]: files, directories of them, links.

use alloc::vec::Vec;

use super::{Asked, Entries, Node, NodeOps};
use crate::Kernel;
use crate::abi::Errno;
use crate::cred::ns::NsId;
use crate::file::FileId;
use crate::machine::ThreadId;
use crate::port::Ports;
use crate::task::Cx;
use crate::vfs::perm::Who;
use crate::views::proc::events::{self, Change};
use crate::views::proc::shown::Shown;
use crate::views::proc::sysctl;
use crate::views::proc::system::{self, Kind, PATHS};

/// What has a place in the table, but for the root.
pub(in crate::views::proc) struct Entry(pub usize);

impl Entry {
    fn kind(&self) -> Kind {
        PATHS[self.0].1
    }
}

/// What is in the directory at a place.
pub(super) fn children(dir: usize) -> impl Iterator<Item = (&'static [u8], Node)> {
    system::entries(dir).map(|place| (system::last(place), Node::System(place)))
}

impl NodeOps for Entry {
    fn mode(&self, _k: &Kernel) -> u32 {
        self.kind().mode()
    }

    /// To root of the namespace that a setting is of.
    fn shown_owner(&self, k: &Kernel, who: &Who) -> Option<(u32, u32)> {
        sysctl::owner(k, who, self.0)
    }

    /// Directories of settings have none from those in them.
    fn links(&self, _k: &Kernel) -> u32 {
        match PATHS[self.0].0 {
            path if path == "sys" || path.starts_with("sys/") => 1,
            path if path.starts_with("sys") => 2,
            _ => 2 + system::directories(self.0) as u32,
        }
    }

    /// What settings need (`proc_sys_permission()`).
    fn permission(&self, k: &Kernel, who: &Who, mask: u32) -> Option<Result<(), Errno>> {
        sysctl::permission(k, who, self.0, mask)
    }

    fn lookup(&self, _k: &Kernel, _asked: &Asked<'_>, name: &[u8]) -> Result<Option<Node>, Errno> {
        match self.kind() {
            Kind::Dir => Ok(system::child(self.0, name).map(Node::System)),
            _ => Err(Errno::ENOTDIR),
        }
    }

    fn entries<'k>(
        &self,
        _k: &'k Kernel,
        asked: &Asked<'k>,
        _first: u32,
    ) -> Result<Entries<'k>, Errno> {
        match self.kind() {
            Kind::Dir if asked.fs.options.only_processes => Ok(Entries::named(Vec::new())),
            Kind::Dir => Ok(Entries::named(children(self.0).collect())),
            _ => Err(Errno::ENOTDIR),
        }
    }

    fn read_link(
        &self,
        _k: &mut Kernel,
        _p: &mut Ports<'_>,
        _thread: ThreadId,
        _ns: NsId,
    ) -> Result<Vec<u8>, Errno> {
        match self.kind() {
            Kind::Link(target) => Ok(target.as_bytes().to_vec()),
            _ => Err(Errno::EINVAL),
        }
    }

    fn may_open(&self, _k: &Kernel, _thread: ThreadId, _writes: bool) -> Result<(), Errno> {
        match self.kind() {
            Kind::Closed(_) => Err(Errno::EPERM),
            _ => Ok(()),
        }
    }

    fn content(
        &self,
        k: &mut Kernel,
        _p: &mut Ports<'_>,
        thread: ThreadId,
        _ns: NsId,
    ) -> Result<Shown, Errno> {
        let text = match self.kind() {
            Kind::Records(begin) => return Ok(Shown::records(begin())),
            Kind::File(make) | Kind::Value(make) => Ok(make(k)),
            Kind::Name(domain) => system::name(k, thread, domain),
            kind if sysctl::is_shown(kind) => sysctl::show(k, thread, kind),
            Kind::Text(text) | Kind::Tunable(text) => Ok(text.as_bytes().to_vec()),
            _ => Err(Errno::EINVAL),
        };
        text.map(Shown::whole)
    }

    /// Settings take writes; `EIO` for the rest. That at the file's offset moves it.
    fn write(
        &self,
        cx: &mut Cx<'_, '_>,
        id: FileId,
        at: Option<u64>,
        data: &[u8],
    ) -> Result<u64, Errno> {
        sysctl::write(cx, id, self.0, at, data)
    }

    fn shows_numbers(&self) -> bool {
        sysctl::is_shown(self.kind())
    }

    fn change(&self, k: &Kernel, thread: ThreadId) -> Option<Change> {
        events::of_system(k, thread, PATHS[self.0].0)
    }

    fn can_wait(&self) -> bool {
        !matches!(self.kind(), Kind::Dir)
    }
}
