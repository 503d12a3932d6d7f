//! `/proc/PID/fd`: the descriptors of a process, each a link to its file.

use alloc::vec::Vec;

use super::{Asked, Entries, Node, NodeOps, decimal};
use crate::Kernel;
use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::cred::ns::NsId;
use crate::machine::ThreadId;
use crate::port::Ports;
use crate::vfs::mount::PathRef;
use crate::vfs::perm::Who;
use crate::views::proc::process;
use crate::views::proc::view::View;

/// The directory of the descriptors. Its permissions are enough to list it.
pub(in crate::views::proc) struct Directory(pub View);

impl NodeOps for Directory {
    fn view(&self) -> Option<View> {
        Some(self.0)
    }

    fn mode(&self, _k: &Kernel) -> u32 {
        g::S_IFDIR | 0o500
    }

    fn owner(&self, k: &Kernel) -> (u32, u32) {
        self.0.owner_of_files(k)
    }

    /// Linux shows how many descriptors there are.
    fn size(&self, k: &Kernel) -> u64 {
        u64::from(self.0.fd_count(k))
    }

    fn ends(&self) -> bool {
        true
    }

    fn lookup(&self, k: &Kernel, _asked: &Asked<'_>, name: &[u8]) -> Result<Option<Node>, Errno> {
        Ok(named(self.0, k, name).map(|fd| Node::Fd(self.0, fd)))
    }

    fn entries<'k>(
        &self,
        k: &'k Kernel,
        _asked: &Asked<'k>,
        first: u32,
    ) -> Result<Entries<'k>, Errno> {
        Ok(numbered(self.0, k, first, Node::Fd))
    }
}

/// The descriptor of a process that goes by this name, if it is open.
pub(super) fn named(view: View, k: &Kernel, name: &[u8]) -> Option<u32> {
    decimal(name).filter(|&fd| view.file(k, fd).is_some())
}

/// A node for each open descriptor of a process, from one on.
pub(super) fn numbered<'k>(
    view: View,
    k: &'k Kernel,
    first: u32,
    node: fn(View, u32) -> Node,
) -> Entries<'k> {
    let all = view.fds_from(k, first);
    Entries::numbered(all.map(move |fd| (fd, node(view, fd))))
}

/// The link to the file behind a descriptor.
pub(in crate::views::proc) struct Link(pub View, pub u32);

impl NodeOps for Link {
    fn view(&self) -> Option<View> {
        Some(self.0)
    }

    fn mode(&self, k: &Kernel) -> u32 {
        g::S_IFLNK | process::fd_mode(k, self.0, self.1)
    }

    fn owner(&self, k: &Kernel) -> (u32, u32) {
        self.0.owner_of_files(k)
    }

    /// Linux shows the room that the link would take.
    fn size(&self, _k: &Kernel) -> u64 {
        64
    }

    fn ends(&self) -> bool {
        true
    }

    fn read_link(
        &self,
        k: &mut Kernel,
        p: &mut Ports<'_>,
        thread: ThreadId,
        _ns: NsId,
    ) -> Result<Vec<u8>, Errno> {
        process::check_access(k, thread, self.0)?;
        let file = self.0.file(k, self.1).ok_or(Errno::ENOENT)?;
        let path = *k.files.file(file).ok_or(Errno::ENOENT)?.path;
        process::target_text(k, p, thread, path)
    }

    fn jump(&self, k: &mut Kernel, who: &Who) -> Result<Option<PathRef>, Errno> {
        process::check_access_by(k, who, self.0)?;
        let file = self.0.file(k, self.1).and_then(|id| k.files.file(id));
        let open = file.ok_or(Errno::ENOENT)?;
        Ok(Some(*open.path))
    }
}
