//! A program of one thread, for files alone: a page of memory, descriptors, and a call that it is in.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::abi::{Errno, PAGE_SIZE};
use crate::args::DirFd;
use crate::cred::Creds;
use crate::cred::ns::NsId;
use crate::cred::ns::user::Opener;
use crate::env::cx::Cx;
use crate::event::Now;
use crate::file::call::CallState;
use crate::file::caller::{Caller, FileCallers, UserRun};
use crate::file::pidfd::PidFd;
use crate::file::reference::Namespace;
use crate::file::{FdTableId, FileId, FileKind, Files, FsContextId, fdtable};
use crate::fs::FileSystems;
use crate::fs::filesystem::{Attr, Entry, Ino, InodeRef, Source};
use crate::machine::ThreadId;
use crate::port::Ports;
use crate::vfs::Vfs;
use crate::vfs::caller::{Callers, Start};
use crate::vfs::mount::PathRef;
use crate::vfs::perm::Who;
use crate::vfs::view::ViewOps;

/// The only thread.
pub(super) const THREAD: ThreadId = ThreadId(1);
/// Frames that files have; the page behind them is the program's.
const FRAMES: u32 = 15;

/// Files, and the program that has them open.
pub(super) struct Program {
    pub files: Files,
    creds: Arc<Creds>,
    table: FdTableId,
    call: CallState,
    /// Signals that it was sent.
    pub raised: Vec<u32>,
}

impl Program {
    /// Frames that the host must have.
    pub(super) const HOST_FRAMES: u32 = FRAMES + 1;

    pub(super) fn new() -> Program {
        let mut files = Files::new(Vfs::new(FileSystems::alone(FRAMES)));
        let table = fdtable::new_table(&mut files);
        Program {
            files,
            creds: Arc::new(Creds::new(1000, 1000, Vec::new())),
            table,
            call: CallState::new(Now::default()),
            raised: Vec::new(),
        }
    }

    /// Begins a call.
    pub(super) fn call<'k, 'p>(&'k mut self, p: &'k mut Ports<'p>) -> Cx<'k, 'p, Program> {
        self.call = CallState::new(self.files.env.now);
        Cx {
            k: self,
            p,
            thread: THREAD,
        }
    }
}

/// Where user memory is; `EFAULT` outside of its page.
fn memory(addr: u64, len: u64) -> Result<u64, Errno> {
    match addr.checked_add(len) {
        Some(end) if end <= PAGE_SIZE => Ok(u64::from(FRAMES) * PAGE_SIZE + addr),
        _ => Err(Errno::EFAULT),
    }
}

impl ViewOps for Program {
    fn vfs(&self) -> &Vfs {
        &self.files.vfs
    }

    fn vfs_mut(&mut self) -> &mut Vfs {
        &mut self.files.vfs
    }

    fn view_lookup(
        &mut self,
        _: &mut Ports<'_>,
        _: &Who,
        _: InodeRef,
        _: &[u8],
    ) -> Result<Ino, Errno> {
        Err(Errno::ENOENT)
    }

    fn view_attr(&mut self, _: &mut Ports<'_>, _: InodeRef) -> Result<Attr, Errno> {
        Err(Errno::ENOENT)
    }

    fn view_shown_attr(&mut self, _: &mut Ports<'_>, _: &Who, _: InodeRef) -> Result<Attr, Errno> {
        Err(Errno::ENOENT)
    }

    fn view_permission(&self, _: &Who, _: InodeRef, _: u32) -> Option<Result<(), Errno>> {
        None
    }

    fn view_check_enter(&self, _: &Who, _: InodeRef) -> Result<(), Errno> {
        Ok(())
    }

    fn view_jump(&mut self, _: &Who, _: InodeRef) -> Result<Option<PathRef>, Errno> {
        Ok(None)
    }

    fn view_read_link(
        &mut self,
        _: &mut Ports<'_>,
        _: &Who,
        _: InodeRef,
    ) -> Result<Vec<u8>, Errno> {
        Err(Errno::EINVAL)
    }

    fn view_read_dir(
        &mut self,
        _: &mut Ports<'_>,
        _: &Who,
        _: InodeRef,
        _: u64,
        _: &mut dyn FnMut(Entry<'_>) -> bool,
    ) -> Result<(), Errno> {
        Err(Errno::ENOTDIR)
    }

    fn view_exists(&self, _: InodeRef) -> bool {
        false
    }
}

impl Callers for Program {
    fn creds_of(&self, _: ThreadId) -> &Arc<Creds> {
        &self.creds
    }

    fn start_of(&self, _: ThreadId) -> Start {
        unreachable!("no path is walked")
    }

    fn place_of(&mut self, _: ThreadId, _: DirFd) -> Result<PathRef, Errno> {
        Err(Errno::EBADF)
    }

    fn has_opened(&mut self, _: ThreadId, _: DirFd) -> Result<bool, Errno> {
        Err(Errno::EBADF)
    }

    fn mounts_of(&self, _: ThreadId) -> Option<NsId> {
        None
    }

    fn is_in_call(&self, _: ThreadId) -> bool {
        true
    }

    fn count_walk(&mut self, _: ThreadId) -> Option<u32> {
        None
    }
}

impl FileCallers for Program {
    type Made = Namespace;
    type Memory = Namespace;
    type PageMap = Namespace;
    type Process = Namespace;
    type Signals = Namespace;

    fn files(&self) -> &Files {
        &self.files
    }

    fn files_mut(&mut self) -> &mut Files {
        &mut self.files
    }

    fn caller(&self, _: ThreadId) -> Caller {
        let first = crate::cred::ns::Set::FIRST;
        Caller {
            tgid: 1,
            tid: 1,
            files: self.table,
            fs: FsContextId(0),
            net: first.net,
            ipc: first.ipc,
            pid: first.pid,
        }
    }

    fn call_of(&mut self, _: ThreadId) -> Option<&mut CallState> {
        Some(&mut self.call)
    }

    fn is_interrupted(&self, _: ThreadId) -> bool {
        false
    }

    fn committed(&self, _: ThreadId) -> u64 {
        0
    }

    fn progress_of(&self, _: ThreadId) -> Option<u64> {
        Some(self.call.progress)
    }

    fn set_table(&mut self, _: ThreadId, table: FdTableId) {
        self.table = table;
    }

    fn raise(&mut self, _: ThreadId, signal: u32) {
        self.raised.push(signal);
    }

    fn rlimit(&self, _: ThreadId, _: u32) -> u64 {
        u64::MAX
    }

    fn process(&self, _: u32) -> Option<PidFd> {
        None
    }

    fn read_user(
        &mut self,
        p: &mut Ports<'_>,
        _: ThreadId,
        addr: u64,
        buf: &mut [u8],
    ) -> Result<(), Errno> {
        p.memory.read(memory(addr, buf.len() as u64)?, buf);
        Ok(())
    }

    fn write_user(
        &mut self,
        p: &mut Ports<'_>,
        _: ThreadId,
        addr: u64,
        data: &[u8],
    ) -> Result<(), Errno> {
        p.memory.write(memory(addr, data.len() as u64)?, data);
        Ok(())
    }

    fn user_run(
        &mut self,
        _: &mut Ports<'_>,
        _: ThreadId,
        addr: u64,
        (len, _): (u64, bool),
    ) -> Result<UserRun, Errno> {
        let source = Source::Memory(memory(addr, 1)?);
        let len = len.min(PAGE_SIZE - addr);
        Ok(UserRun { source, len })
    }

    fn made_kind(&mut self, _: ThreadId, _: Ino) -> Result<FileKind, Errno> {
        Err(Errno::ENOENT)
    }

    fn may_open_made(&self, _: ThreadId, _: Ino, _: u32) -> Result<(), Errno> {
        Err(Errno::ENOENT)
    }

    fn made_opener(&self, _: ThreadId, _: FileId) -> Option<Box<Opener>> {
        None
    }

    fn terminal_groups(&self) -> (i32, i32) {
        (1, 1)
    }

    fn set_foreground(&mut self, _: ThreadId, _: i32) -> Result<(), Errno> {
        Err(Errno::ESRCH)
    }
}
