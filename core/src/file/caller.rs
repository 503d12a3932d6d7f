//! What files ask of the thread that calls, and what a handler is handed for it ([`Cx`]).

use alloc::boxed::Box;
use alloc::vec::Vec;

use smallvec::SmallVec;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::call::CallState;
use super::ops::FileOps;
use super::pidfd::PidFd;
use super::{FdTable, FdTableId, FileId, FileKind, Files, FsContext, FsContextId};
use crate::abi::{Errno, PAGE_SIZE, PATH_MAX};
use crate::cred::ns::user::Opener;
use crate::cred::ns::{NsId, pid};
use crate::env::cx::Cx;
use crate::env::steps::STEPS;
use crate::env::wait::{Restart, Stop, SysResult, Wait, WaitKey};
use crate::event::{HostCall, HostResult, OpId, Output};
use crate::fs::filesystem::{Ino, Source};
use crate::machine::ThreadId;
use crate::port::Ports;
use crate::vfs::caller::Callers;

/// A run of user memory that has been faulted in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UserRun {
    /// Where the bytes are: the memory file (always, when asked for writing) or an image.
    pub source: Source,
    pub len: u64,
}

/// A thread that calls, by the numbers of what it has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Caller {
    /// Its process, and itself.
    pub tgid: u32,
    pub tid: u32,
    /// Its descriptors, and its root and working directory.
    pub files: FdTableId,
    pub fs: FsContextId,
    /// Its namespaces of networks, of IPC and of processes.
    pub net: NsId,
    pub ipc: NsId,
    pub pid: NsId,
}

/// What files ask of what stands above them: the threads that call, their memory, and the kinds of files
/// whose work is done there.
pub(crate) trait FileCallers: Callers + Sized {
    /// Files that the kernel makes.
    type Made: FileOps<Self>;
    /// The memory of a process, and what its pages are.
    type Memory: FileOps<Self>;
    type PageMap: FileOps<Self>;
    /// Processes and threads.
    type Process: FileOps<Self>;
    /// Signals that are read.
    type Signals: FileOps<Self>;

    /// The files.
    fn files(&self) -> &Files;

    /// The same, to be changed.
    fn files_mut(&mut self) -> &mut Files;

    /// A thread that exists.
    fn caller(&self, thread: ThreadId) -> Caller;

    /// The call that a thread is in, if it is in one.
    fn call_of(&mut self, thread: ThreadId) -> Option<&mut CallState>;

    /// Whether a signal is waiting that ends a wait of a thread.
    fn is_interrupted(&self, thread: ThreadId) -> bool;

    /// The number of its credentials: the same number, the same credentials.
    fn committed(&self, thread: ThreadId) -> u64;

    /// The progress of the call that a thread is in.
    fn progress_of(&self, thread: ThreadId) -> Option<u64>;

    /// Gives a thread another table of descriptors.
    fn set_table(&mut self, thread: ThreadId, table: FdTableId);

    /// Sends a thread a signal of its own making (`SIGPIPE`, `SIGXFSZ`).
    fn raise(&mut self, thread: ThreadId, signal: u32);

    /// The soft limit of a resource of the process of a thread (getrlimit(2)); `u64::MAX` is none.
    fn rlimit(&self, thread: ThreadId, resource: u32) -> u64;

    /// What stands for a process that exists.
    fn process(&self, tgid: u32) -> Option<PidFd>;

    /// Copies from the memory of a thread. `EFAULT` if any byte cannot be read.
    fn read_user(
        &mut self,
        p: &mut Ports<'_>,
        thread: ThreadId,
        addr: u64,
        buf: &mut [u8],
    ) -> Result<(), Errno>;

    /// Copies to the memory of a thread. `EFAULT` if any byte cannot be written; bytes before it may have
    /// been.
    fn write_user(
        &mut self,
        p: &mut Ports<'_>,
        thread: ThreadId,
        addr: u64,
        data: &[u8],
    ) -> Result<(), Errno>;

    /// See [`Cx::user_run`].
    fn user_run(
        &mut self,
        p: &mut Ports<'_>,
        thread: ThreadId,
        addr: u64,
        run: (u64, bool),
    ) -> Result<UserRun, Errno>;

    /// What an open file of `proc` is, by its inode. `ENOENT`, `ESRCH`, `EACCES`.
    fn made_kind(&mut self, thread: ThreadId, ino: Ino) -> Result<FileKind, Errno>;

    /// What opening a file of `proc` asks beyond its permissions: the right to look into a process.
    /// `access` is of the kind of `MAY_WRITE`.
    fn may_open_made(&self, thread: ThreadId, ino: Ino, access: u32) -> Result<(), Errno>;

    /// Who opens a file of which writes are judged by that.
    fn made_opener(&self, thread: ThreadId, id: FileId) -> Option<Box<Opener>>;

    /// Foreground process group and session of the terminal that is standard input.
    fn terminal_groups(&self) -> (i32, i32);

    /// Makes a process group the foreground one of that terminal. `EINVAL`, `ESRCH`, `EPERM`.
    fn set_foreground(&mut self, thread: ThreadId, group: i32) -> Result<(), Errno>;
}

impl<K: FileCallers> Cx<'_, '_, K> {
    /// The calling thread.
    pub(crate) fn caller(&self) -> Caller {
        self.k.caller(self.thread)
    }

    /// How far the call has come.
    pub(crate) fn call_state(&mut self) -> &mut CallState {
        let state = self.k.call_of(self.thread);
        state.expect("a handler runs inside a call") // INVARIANT: only run_call() runs handlers
    }

    /// The caller's descriptors.
    pub(crate) fn fds(&mut self) -> &mut FdTable {
        let id = self.caller().files;
        self.k.files_mut().fd_table_mut(id)
    }

    /// The caller's root, working directory and umask.
    pub(crate) fn fs_context(&mut self) -> &mut FsContext {
        let id = self.caller().fs;
        self.k.files_mut().fs_context_mut(id)
    }

    /// Current soft limit of a resource (getrlimit(2)); `u64::MAX` is none.
    pub(crate) fn rlimit(&self, resource: u32) -> u64 {
        self.k.rlimit(self.thread, resource)
    }

    /// A process, thread, group or session as the caller sees it: 0 if it cannot.
    pub(crate) fn shown_pid(&self, number: u32) -> u32 {
        pid::show(self.k.files(), self.caller().pid, number)
    }

    /// Whether the deadline of a wait that counts from the call's entry has passed: `timeout` in nanoseconds.
    pub(crate) fn expired(&mut self, timeout: u64) -> bool {
        let entered = self.call_state().entered.mono;
        self.now().mono >= entered.saturating_add(timeout)
    }

    /// Leaves a long call, so that others get on, and comes back to it with this progress. A handler that
    /// runs meanwhile lets it start over.
    pub(crate) fn pause(&mut self, progress: u64) -> SysResult {
        self.call_state().progress = progress;
        self.others_first().restart(Restart::Always).into()
    }

    /// The same for calls that signals do not interrupt, but for deadly ones.
    pub(crate) fn give_way(&mut self, progress: u64) -> Stop {
        self.call_state().progress = progress;
        let mut wait = self.others_first();
        wait.killable = true;
        Stop::Block(wait)
    }

    /// A wait that is over as soon as others had the kernel.
    pub(crate) fn others_first(&mut self) -> Wait {
        // A piece takes about as long, whatever was counted of it.
        let left = self.k.files().env.steps.left();
        self.spend(left.min(STEPS / 2));
        let later = self.now().mono.saturating_add(1);
        Wait::on(WaitKey::Signal(self.thread)).until(Some(later))
    }

    /// Asks the host for an operation and blocks until it has ended; then gives its result. Called again when
    /// the handler is run again. A signal makes the host give the operation up, but the call is not
    /// interrupted before the host has said what became of it: bytes may have been moved already. `EINTR` of
    /// an operation that was given up never reaches the caller.
    pub(crate) fn host(&mut self, call: HostCall) -> Result<HostResult, Stop> {
        let interrupted = self.k.is_interrupted(self.thread);
        if let Some(op) = self.call_state().op {
            match self.k.files_mut().ops.take(op) {
                None => {
                    self.cancel_if(interrupted, op);
                    return Wait::on(WaitKey::Op(op)).into();
                }
                Some(Err(Errno::EINTR)) => {
                    self.call_state().op = None;
                    if interrupted {
                        return Wait::on(WaitKey::Op(op)).into();
                    }
                    // The signal was taken by another thread: once more.
                }
                Some(result) => {
                    self.call_state().op = None;
                    return Ok(result?);
                }
            }
        }
        let thread = self.thread;
        let files = self.k.files_mut();
        let op = files.ops.start(&call);
        files.env.emit(Output::Host { op, thread, call });
        let state = self.call_state();
        state.op = Some(op);
        state.cancelled = false;
        self.cancel_if(interrupted, op);
        Wait::on(WaitKey::Op(op)).into()
    }

    fn cancel_if(&mut self, interrupted: bool, op: OpId) {
        if interrupted && !core::mem::replace(&mut self.call_state().cancelled, true) {
            self.k.files_mut().env.emit(Output::CancelHost(op));
        }
    }

    /// Blocks, or ends the call with what it has done so far if a signal is waiting and nothing is under way
    /// on the host.
    pub(crate) fn block_after(&mut self, done: u64, wait: Wait) -> SysResult {
        let under_way = self.call_state().op.is_some();
        if done > 0 && !under_way && self.k.is_interrupted(self.thread) {
            return Ok(done);
        }
        self.call_state().progress = done;
        wait.into()
    }

    /// Copies from user memory. `EFAULT` if any byte cannot be read.
    pub(crate) fn read_user(&mut self, addr: u64, buf: &mut [u8]) -> Result<(), Errno> {
        self.k.read_user(self.p, self.thread, addr, buf)
    }

    /// Copies to user memory. `EFAULT` if any byte cannot be written; bytes before it may have been.
    pub(crate) fn write_user(&mut self, addr: u64, data: &[u8]) -> Result<(), Errno> {
        self.k.write_user(self.p, self.thread, addr, data)
    }

    /// Reads a C structure.
    pub(crate) fn read_obj<T: FromBytes + IntoBytes + Immutable>(
        &mut self,
        addr: u64,
    ) -> Result<T, Errno> {
        let mut value = T::new_zeroed();
        self.read_user(addr, value.as_mut_bytes())?;
        Ok(value)
    }

    /// Writes a C structure.
    pub(crate) fn write_obj<T: IntoBytes + Immutable>(
        &mut self,
        addr: u64,
        value: &T,
    ) -> Result<(), Errno> {
        self.write_user(addr, value.as_bytes())
    }

    /// Calls `each` for bytes from `addr` on until a NUL, at most `max` with it. `None`: there was none so
    /// far.
    fn scan(
        &mut self,
        addr: u64,
        max: usize,
        mut each: impl FnMut(&[u8]),
    ) -> Result<Option<()>, Errno> {
        let mut done = 0;
        let mut buf = [0; 128];
        while done < max {
            let at = addr.checked_add(done as u64).ok_or(Errno::EFAULT)?;
            // Not past the page: the string may end before a hole.
            let part = (max - done)
                .min(buf.len())
                .min((PAGE_SIZE - at % PAGE_SIZE) as usize);
            let part = &mut buf[..part];
            self.read_user(at, part)?;
            if let Some(end) = part.iter().position(|&byte| byte == 0) {
                each(&part[..end]);
                return Ok(Some(()));
            }
            each(part);
            done += part.len();
        }
        Ok(None)
    }

    /// Reads a path: at most `PATH_MAX` bytes with the NUL, which is not part of the result. `ENAMETOOLONG`,
    /// `EFAULT`.
    pub(crate) fn read_path(&mut self, addr: u64) -> Result<SmallVec<[u8; 256]>, Errno> {
        let mut path = SmallVec::new();
        match self.scan(addr, PATH_MAX, |part| path.extend_from_slice(part))? {
            Some(()) => Ok(path),
            None => Err(Errno::ENAMETOOLONG),
        }
    }

    /// Reads a string of at most `max` bytes with its NUL. `E2BIG` if there is none so far.
    pub(crate) fn read_cstr(&mut self, addr: u64, max: usize) -> Result<Vec<u8>, Errno> {
        let mut text = Vec::new();
        match self.scan(addr, max, |part| text.extend_from_slice(part))? {
            Some(()) => Ok(text),
            None => Err(Errno::E2BIG),
        }
    }

    /// The run of user memory at `addr`, at most `len` bytes and at least 1, for reading (`write` false) or
    /// writing by the kernel. Valid until the address space or a file changes. `EFAULT`.
    pub(crate) fn user_run(&mut self, addr: u64, len: u64, write: bool) -> Result<UserRun, Errno> {
        self.k.user_run(self.p, self.thread, addr, (len, write))
    }
}
