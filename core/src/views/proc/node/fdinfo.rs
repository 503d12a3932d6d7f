//! `/proc/PID/fdinfo`: what is told of the files behind the descriptors of a process.

use super::{Asked, Entries, Node, NodeOps, fd};
use crate::Kernel;
use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::cred::ns::NsId;
use crate::machine::ThreadId;
use crate::port::Ports;
use crate::views::proc::fdinfo::Cursor;
use crate::views::proc::shown::Shown;
use crate::views::proc::view::View;
use crate::views::proc::{listed, process};

/// The directory. It can be opened only with the right to look into the process.
pub(in crate::views::proc) struct Directory(pub View);

impl NodeOps for Directory {
    fn view(&self) -> Option<View> {
        Some(self.0)
    }

    fn mode(&self, _k: &Kernel) -> u32 {
        g::S_IFDIR | 0o555
    }

    fn owner(&self, k: &Kernel) -> (u32, u32) {
        self.0.owner_of_files(k)
    }

    fn lookup(&self, k: &Kernel, _asked: &Asked<'_>, name: &[u8]) -> Result<Option<Node>, Errno> {
        Ok(fd::named(self.0, k, name).map(|fd| Node::FdInfo(self.0, fd)))
    }

    fn entries<'k>(
        &self,
        k: &'k Kernel,
        _asked: &Asked<'k>,
        first: u32,
    ) -> Result<Entries<'k>, Errno> {
        Ok(fd::numbered(self.0, k, first, Node::FdInfo))
    }

    fn may_open(&self, k: &Kernel, thread: ThreadId, _writes: bool) -> Result<(), Errno> {
        process::check_access(k, thread, self.0)
    }
}

/// The file of a descriptor.
pub(in crate::views::proc) struct File(pub View, pub u32);

impl NodeOps for File {
    fn view(&self) -> Option<View> {
        Some(self.0)
    }

    fn mode(&self, _k: &Kernel) -> u32 {
        g::S_IFREG | 0o444
    }

    fn owner(&self, k: &Kernel) -> (u32, u32) {
        self.0.owner_of_files(k)
    }

    fn ends(&self) -> bool {
        true
    }

    fn may_open(&self, k: &Kernel, thread: ThreadId, _writes: bool) -> Result<(), Errno> {
        process::check_access(k, thread, self.0)
    }

    fn content(
        &self,
        k: &mut Kernel,
        _p: &mut Ports<'_>,
        _thread: ThreadId,
        ns: NsId,
    ) -> Result<Shown, Errno> {
        let cursor = Cursor::new(k, self.0, self.1, ns)?;
        Ok(Shown::records(listed::descriptor(cursor)))
    }
}
