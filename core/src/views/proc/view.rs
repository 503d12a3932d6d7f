//! Of whom a node of `proc` tells: a process, or one thread of it.

use crate::Kernel;
use crate::abi::Errno;
use crate::cred::ns;
use crate::cred::ns::{NsId, user};
use crate::file::{FdTable, FileId, FsContext};
use crate::mm::space;
use crate::task::Task;

/// A process, or one thread of it seen through `task/`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(super) struct View {
    /// Process or thread number.
    pub id: u32,
    /// Seen as a single thread.
    pub thread: bool,
}

impl View {
    /// The task that is told about: of a process, its leader or (once that has ended) any thread.
    pub(super) fn task<'k>(&self, k: &'k Kernel) -> Option<&'k Task> {
        let direct = k
            .tasks
            .by_tid(self.id)
            .and_then(|thread| k.tasks.get(thread));
        match direct {
            Some(task) => Some(task),
            None if !self.thread => {
                let first = k.tasks.threads(self.id).next()?;
                k.tasks.get(k.tasks.by_tid(first)?)
            }
            None => None,
        }
    }

    /// Root, working directory and umask, while the task lives.
    pub(super) fn context<'k>(&self, k: &'k Kernel) -> Option<&'k FsContext> {
        let task = self.task(k).filter(|task| !task.exited)?;
        Some(k.files.fs_context(task.fs))
    }

    pub(super) fn live<'k>(&self, k: &'k Kernel) -> Result<&'k Task, Errno> {
        self.task(k).ok_or(Errno::ESRCH)
    }

    /// Owner of the directory: the effective user and group.
    pub(super) fn owner(&self, k: &Kernel) -> (u32, u32) {
        self.task(k)
            .map_or((0, 0), |task| (task.creds.euid, task.creds.egid))
    }

    /// Owner of what is in it: root of the program's user namespace, if the process does not want to be
    /// looked at (`PR_SET_DUMPABLE`); root, once it has ended (`task_dump_owner()`).
    pub(super) fn owner_of_files(&self, k: &Kernel) -> (u32, u32) {
        let task = self.task(k).filter(|task| !task.exited);
        match task.and_then(|task| space::access(k, task.space)) {
            None => (0, 0),
            Some(access) if access.is_open() => self.owner(k),
            Some(access) => (
                user::take_uid(k, access.ns, 0).unwrap_or(0),
                user::take_gid(k, access.ns, 0).unwrap_or(0),
            ),
        }
    }

    /// A namespace of the process, while it lives.
    pub(super) fn namespace(&self, k: &Kernel, kind: ns::Kind) -> Option<NsId> {
        let task = self.task(k).filter(|task| !task.exited)?;
        Some(match kind {
            ns::Kind::Cgroup => task.ns.cgroup,
            ns::Kind::Ipc => task.ns.ipc,
            ns::Kind::Mount => task.ns.mount,
            ns::Kind::Net => task.ns.net,
            ns::Kind::Pid => task.ns.pid,
            ns::Kind::User => task.creds.user_ns,
            ns::Kind::Uts => task.ns.uts,
        })
    }

    /// The open file behind a descriptor.
    pub(super) fn file(&self, k: &Kernel, fd: u32) -> Option<FileId> {
        let task = self.task(k).filter(|task| !task.exited)?;
        Some(
            k.files
                .fd_table(task.files)
                .get(i32::try_from(fd).ok()?)?
                .file,
        )
    }

    /// The table of its descriptors.
    fn table<'k>(&self, k: &'k Kernel) -> Option<&'k FdTable> {
        let task = self.task(k).filter(|task| !task.exited)?;
        Some(k.files.fd_table(task.files))
    }

    /// How many descriptors it has.
    pub(super) fn fd_count(&self, k: &Kernel) -> u32 {
        self.table(k).map_or(0, FdTable::len)
    }

    /// Its descriptors from one on.
    pub(super) fn fds_from<'k>(
        &self,
        k: &'k Kernel,
        first: u32,
    ) -> impl Iterator<Item = u32> + use<'k> {
        let table = self.table(k).into_iter();
        let open = table.flat_map(move |table| table.iter_from(first));
        open.map(|(fd, _)| fd as u32)
    }
}
