//! `/proc/self` and `/proc/thread-self`: links to the directories of who reads them.

use alloc::format;
use alloc::vec::Vec;

use super::NodeOps;
use crate::Kernel;
use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::cred::ns::{NsId, pid};
use crate::machine::ThreadId;
use crate::port::Ports;

/// The link to the directory of the process, or to that of the thread.
pub(in crate::views::proc) struct Link {
    pub thread: bool,
}

impl NodeOps for Link {
    fn mode(&self, _k: &Kernel) -> u32 {
        g::S_IFLNK | 0o777
    }

    fn read_link(
        &self,
        k: &mut Kernel,
        _p: &mut Ports<'_>,
        thread: ThreadId,
        ns: NsId,
    ) -> Result<Vec<u8>, Errno> {
        let task = k.tasks.get(thread).ok_or(Errno::ENOENT)?;
        let (tgid, tid) = (pid::show(k, ns, task.tgid), pid::show(k, ns, task.tid));
        match (tgid, self.thread) {
            (0, _) => Err(Errno::ENOENT),
            (_, false) => Ok(format!("{tgid}").into_bytes()),
            (_, true) => Ok(format!("{tgid}/task/{tid}").into_bytes()),
        }
    }
}
