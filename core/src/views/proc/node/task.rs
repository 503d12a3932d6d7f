//! `/proc/PID/task`: the threads of a process by their numbers.

use super::{Asked, Entries, Node, NodeOps, decimal};
use crate::Kernel;
use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::cred::ns::pid;
use crate::ns::pids;
use crate::views::proc::hide;
use crate::views::proc::view::View;

/// The directory of the threads.
pub(in crate::views::proc) struct Directory(pub View);

impl NodeOps for Directory {
    fn view(&self) -> Option<View> {
        Some(self.0)
    }

    fn mode(&self, _k: &Kernel) -> u32 {
        g::S_IFDIR | 0o555
    }

    fn owner(&self, k: &Kernel) -> (u32, u32) {
        self.0.owner(k)
    }

    fn links(&self, k: &Kernel) -> u32 {
        let task = self.0.task(k);
        2 + task.map_or(0, |task| k.tasks.thread_count(task.tgid)) as u32
    }

    /// It lets nobody in any more.
    fn gone(&self) -> Errno {
        Errno::ESRCH
    }

    fn check_enter(&self, k: &Kernel, asked: &Asked<'_>) -> Result<(), Errno> {
        hide::check_enter(k, asked, self.0)
    }

    fn lookup(&self, k: &Kernel, asked: &Asked<'_>, name: &[u8]) -> Result<Option<Node>, Errno> {
        let found = decimal(name).and_then(|number| pid::find(k, asked.fs.pids, number));
        Ok(found.and_then(|id| {
            let inner = View { id, thread: true };
            (inner.task(k)?.tgid == self.0.task(k)?.tgid).then_some(Node::Dir(inner))
        }))
    }

    fn entries<'k>(
        &self,
        k: &'k Kernel,
        asked: &Asked<'k>,
        first: u32,
    ) -> Result<Entries<'k>, Errno> {
        let tgid = self.0.task(k).map_or(0, |task| task.tgid);
        let node = |(number, id)| (number, Node::Dir(View { id, thread: true }));
        let threads = pids::threads(k, asked.fs.pids, tgid, first);
        Ok(Entries::numbered(threads.map(node)))
    }
}
