//! `/proc/PID` and `/proc/PID/task/TID`: the directories of processes and threads.

use alloc::vec::Vec;

use super::{Asked, Entries, Node, NodeOps};
use crate::Kernel;
use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::views::proc::view::View;
use crate::views::proc::{hide, process};

/// The directory of a process or thread.
pub(in crate::views::proc) struct Directory(pub View);

impl NodeOps for Directory {
    fn view(&self) -> Option<View> {
        Some(self.0)
    }

    fn process(&self) -> Option<u32> {
        (!self.0.thread).then_some(self.0.id)
    }

    fn mode(&self, _k: &Kernel) -> u32 {
        g::S_IFDIR | 0o555
    }

    fn owner(&self, k: &Kernel) -> (u32, u32) {
        self.0.owner(k)
    }

    fn links(&self, _k: &Kernel) -> u32 {
        2 + (process::directories() + 2 + usize::from(!self.0.thread)) as u32
    }

    /// It lets nobody in any more.
    fn gone(&self) -> Errno {
        Errno::ESRCH
    }

    fn check_attr(&self, k: &Kernel, asked: &Asked<'_>) -> Result<(), Errno> {
        hide::check_attr(k, asked, self.0)
    }

    fn check_enter(&self, k: &Kernel, asked: &Asked<'_>) -> Result<(), Errno> {
        match self.0.thread {
            true => Ok(()),
            false => hide::check_enter(k, asked, self.0),
        }
    }

    fn lookup(&self, _k: &Kernel, _asked: &Asked<'_>, name: &[u8]) -> Result<Option<Node>, Errno> {
        let view = self.0;
        Ok(match name {
            b"task" if !view.thread => Some(Node::TaskDir(view)),
            b"fd" => Some(Node::FdDir(view)),
            b"fdinfo" => Some(Node::FdInfoDir(view)),
            _ => process::find("", name)
                .filter(|&place| process::is_shown(place, view))
                .map(|place| Node::File(view, place)),
        })
    }

    fn entries<'k>(
        &self,
        _k: &'k Kernel,
        _asked: &Asked<'k>,
        _first: u32,
    ) -> Result<Entries<'k>, Errno> {
        let view = self.0;
        let mut entries = Entries::named(Vec::new());
        if !view.thread {
            entries.named.push((b"task", Node::TaskDir(view)));
        }
        entries.named.push((b"fd", Node::FdDir(view)));
        entries.named.push((b"fdinfo", Node::FdInfoDir(view)));
        entries.named.extend(super::file::children(view, ""));
        Ok(entries)
    }
}
