//! What the floors below ask of the threads that call: their memory, limits, signals, and who has the
//! terminal.

use alloc::sync::Arc;

use crate::Kernel;
use crate::abi::Errno;
use crate::args::DirFd;
use crate::cred::Creds;
use crate::cred::ns::NsId;
use crate::cred::ns::user::Opener;
use crate::file::above;
use crate::file::call::CallState;
use crate::file::caller::{Caller, FileCallers, UserRun};
use crate::file::pidfd::PidFd;
use crate::file::{self, FdTableId, FileId, FileKind, Files, fdtable};
use crate::fs::filesystem::Ino;
use crate::kernel::Cx;
use crate::machine::{SpaceId, ThreadId};
use crate::mm::user::{read_in, run, write_in};
use crate::port::Ports;
use crate::task::Task;
use crate::task::signal::{self, SigInfo};
use crate::vfs::caller::{Callers, Start};
use crate::vfs::mount::PathRef;
use crate::vfs::perm::MAY_WRITE;
use crate::views::proc;
use alloc::boxed::Box;

/// The task of a thread that calls.
fn task(k: &Kernel, thread: ThreadId) -> &Task {
    // INVARIANT: handlers run for live tasks only
    k.tasks.get(thread).expect("a handler runs for a live task")
}

fn space(k: &Kernel, thread: ThreadId) -> SpaceId {
    task(k, thread).space
}

impl Callers for Kernel {
    #[inline]
    fn creds_of(&self, thread: ThreadId) -> &Arc<Creds> {
        &task(self, thread).creds
    }

    #[inline]
    fn start_of(&self, thread: ThreadId) -> Start {
        let context = self.files.fs_context(task(self, thread).fs);
        Start {
            root: *context.root,
            cwd: *context.cwd,
            umask: context.umask,
        }
    }

    fn mounts_of(&self, thread: ThreadId) -> Option<NsId> {
        self.tasks.get(thread).map(|task| task.ns.mount)
    }

    fn place_of(&mut self, thread: ThreadId, fd: DirFd) -> Result<PathRef, Errno> {
        let id = fdtable::find(self, thread, fd.0)?;
        Ok(*file::at(self, id).path)
    }

    fn has_opened(&mut self, thread: ThreadId, fd: DirFd) -> Result<bool, Errno> {
        let id = fdtable::find(self, thread, fd.0)?;
        Ok(file::at(self, id).opener == self.committed(thread))
    }

    fn count_walk(&mut self, thread: ThreadId) -> Option<u32> {
        let call = self.call_of(thread)?;
        call.walks += 1;
        Some(call.walks)
    }

    fn is_in_call(&self, thread: ThreadId) -> bool {
        task(self, thread).call.is_some()
    }
}

impl FileCallers for Kernel {
    type Made = above::Made;
    type Memory = above::Memory;
    type PageMap = above::PageMap;
    type Process = above::Process;
    type Signals = above::Signals;

    #[inline]
    fn files(&self) -> &Files {
        &self.mm.files
    }

    #[inline]
    fn files_mut(&mut self) -> &mut Files {
        &mut self.mm.files
    }

    #[inline]
    fn caller(&self, thread: ThreadId) -> Caller {
        let task = task(self, thread);
        Caller {
            tgid: task.tgid,
            tid: task.tid,
            files: task.files,
            fs: task.fs,
            net: task.ns.net,
            ipc: task.ns.ipc,
            pid: task.ns.pid,
        }
    }

    #[inline]
    fn call_of(&mut self, thread: ThreadId) -> Option<&mut CallState> {
        let task = self.tasks.get_mut(thread)?;
        task.call.as_mut().map(|call| &mut call.state)
    }

    fn committed(&self, thread: ThreadId) -> u64 {
        task(self, thread).committed
    }

    fn progress_of(&self, thread: ThreadId) -> Option<u64> {
        let call = self.tasks.get(thread)?.call.as_ref()?;
        Some(call.progress)
    }

    fn set_table(&mut self, thread: ThreadId, table: FdTableId) {
        if let Some(task) = self.tasks.get_mut(thread) {
            task.files = table;
        }
    }

    fn is_interrupted(&self, thread: ThreadId) -> bool {
        signal::interrupts(self, thread)
    }

    fn raise(&mut self, thread: ThreadId, signal: u32) {
        let task = task(self, thread);
        let (pid, uid) = (task.tgid, task.creds.uid);
        signal::send_thread(self, thread, SigInfo::user(signal as u8, 0, pid, uid));
    }

    fn rlimit(&self, thread: ThreadId, resource: u32) -> u64 {
        let limit = self.tasks.rlimit(task(self, thread).tgid, resource);
        limit.map_or(u64::MAX, |(soft, _)| soft)
    }

    fn process(&self, tgid: u32) -> Option<PidFd> {
        PidFd::of_process(self, tgid)
    }

    #[inline]
    fn read_user(
        &mut self,
        p: &mut Ports<'_>,
        thread: ThreadId,
        addr: u64,
        buf: &mut [u8],
    ) -> Result<(), Errno> {
        let id = space(self, thread);
        read_in(self, p, id, addr, buf)
    }

    #[inline]
    fn write_user(
        &mut self,
        p: &mut Ports<'_>,
        thread: ThreadId,
        addr: u64,
        data: &[u8],
    ) -> Result<(), Errno> {
        let id = space(self, thread);
        write_in(self, p, id, addr, data)
    }

    fn user_run(
        &mut self,
        p: &mut Ports<'_>,
        thread: ThreadId,
        addr: u64,
        (len, write): (u64, bool),
    ) -> Result<UserRun, Errno> {
        let id = space(self, thread);
        let run = run(self, p, id, addr, len, write)?;
        if let Some(tape) = &mut self.tape.0 {
            tape.run(addr, run.source, run.len, write);
        }
        Ok(run)
    }

    fn made_kind(&mut self, thread: ThreadId, ino: Ino) -> Result<FileKind, Errno> {
        proc::kind_of(self, thread, ino)
    }

    fn may_open_made(&self, thread: ThreadId, ino: Ino, access: u32) -> Result<(), Errno> {
        proc::may_open(self, thread, ino, access & MAY_WRITE != 0)
    }

    fn made_opener(&self, thread: ThreadId, id: FileId) -> Option<Box<Opener>> {
        proc::opener(self, thread, id)
    }

    /// The foreground group is the first process's until a program sets another one.
    fn terminal_groups(&self) -> (i32, i32) {
        let first = self.tasks.group(1);
        let (group, session) = first.map_or((1, 1), |group| (group.pgid, group.sid));
        (
            self.files.foreground.unwrap_or(group) as i32,
            session as i32,
        )
    }

    fn set_foreground(&mut self, thread: ThreadId, group: i32) -> Result<(), Errno> {
        let pgid = u32::try_from(group).map_err(|_| Errno::EINVAL)?;
        let own = self.tasks.group(task(self, thread).tgid);
        let session = own.map(|group| group.sid);
        let member = self
            .tasks
            .groups()
            .filter_map(|tgid| self.tasks.group(tgid))
            .find(|process| process.pgid == pgid)
            .ok_or(Errno::ESRCH)?;
        if Some(member.sid) != session {
            return Err(Errno::EPERM);
        }
        self.files.foreground = Some(pgid);
        Ok(())
    }
}

/// Sets the signal mask for the time of the current call (ppoll(2), pselect(2)).
pub(crate) fn mask_for_call(cx: &mut Cx<'_, '_>, mask: u64) {
    let old = cx.task().blocked;
    cx.call().saved_mask = Some(old);
    let thread = cx.thread;
    signal::set_blocked(cx.k, thread, mask & !signal::UNBLOCKABLE);
}
