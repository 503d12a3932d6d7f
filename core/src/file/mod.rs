//! Open file descriptions and descriptor tables, what can be read and written through them, and what tells of
//! changes: pipes, event files, epoll, inotify, asynchronous requests, locks and leases.

pub(crate) mod above;
pub(crate) mod aio;
pub(crate) mod call;
pub(crate) mod caller;
pub(crate) mod config;
pub(crate) mod device;
mod directory;
pub(crate) mod dnotify;
pub(crate) mod epoll;
pub(crate) mod eventfd;
pub(crate) mod fasync;
pub(crate) mod fdtable;
pub(crate) mod inotify;
pub(crate) mod iov;
pub(crate) mod lease;
pub(crate) mod lock;
pub(crate) mod open;
pub(crate) mod ops;
pub(crate) mod pidfd;
pub(crate) mod pipe;
pub(crate) mod ready;
mod reference;
pub(crate) mod regular;
pub(crate) mod rw;
pub(crate) mod shared;
pub(crate) mod stream;
#[cfg(test)]
mod tests;
pub(crate) mod timerfd;
pub(crate) mod writers;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use core::ops::{Deref, DerefMut};

use above::Made;
use device::Device;
use epoll::Epoll;
use eventfd::EventFd;
use fasync::Recipient;
pub(crate) use fdtable::{FdTable, FdTableId, FsContext, FsContextId};
use inotify::Inotify;
pub(crate) use open::{close_exec, get_exec, open_exec};
use ops::Closing;
use pidfd::PidFd;
use pipe::PipeId;
use timerfd::TimerFd;

use crate::abi::Errno;
use crate::args::OpenFlags;
use crate::cred::landlock::{FsAccess, RulesetId};
use crate::cred::ns::user::Opener;
pub(crate) use crate::env::ids::FileId;
use crate::env::timers::TimerKey;
use crate::env::wait::WaitKey;
use crate::fs::filesystem::InodeRef;
use crate::ipc::mqueue::QueueId;
use crate::ipc::{Ipc, mqueue, shm};
use crate::machine::SpaceId;
use crate::net::socket;
use crate::net::socket::{SocketId, rights};
use crate::port::Ports;
use crate::slab::Slab;
use crate::vfs::Vfs;
use crate::vfs::mount::config::Config;
use crate::vfs::mount::{self, HeldPath, detached, put_path};

/// Most open file descriptions (`/proc/sys/fs/file-max`).
pub(crate) const FILE_MAX: usize = 1 << 22;

/// What reading and writing mean for an open file.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub(crate) enum FileKind {
    /// A regular file of a union.
    Regular,
    /// A directory; the offset is the `d_off` to go on from.
    Directory,
    /// An end of a pipe or FIFO, or both, as the access mode says.
    Pipe(PipeId),
    Socket(SocketId),
    /// A POSIX message queue.
    MessageQueue(QueueId),
    Device(Device),
    /// A file that the kernel makes (`proc`, `sysfs`).
    Made(Made),
    /// The memory of a process, and what its pages are (`/proc/PID/mem`, `pagemap`).
    Memory(SpaceId),
    PageMap(SpaceId),
    /// A standard stream of the host.
    HostStream(u8),
    EventFd(EventFd),
    TimerFd(TimerFd),
    /// The signals it reads, bit `n - 1` for signal `n`.
    SignalFd(u64),
    PidFd(PidFd),
    Epoll(Box<Epoll>),
    Inotify(Box<Inotify>),
    /// A ruleset of landlock(7): nothing can be read from it.
    Landlock(RulesetId),
    /// A file system that is being configured (fsopen(2)).
    Config(Box<Config>),
    /// The file of a namespace: there is nothing in it.
    Namespace,
    /// Only a place (`O_PATH`).
    Path,
}

/// An open file.
#[derive(Debug, Hash)]
pub(crate) struct File {
    refs: u32,
    pub kind: FileKind,
    pub path: HeldPath,
    /// `None` for objects without a name: pipes, sockets, streams.
    pub inode: Option<InodeRef>,
    /// Access mode and status flags of open(2).
    pub flags: OpenFlags,
    pub offset: u64,
    /// The credentials that opened it, by their number ([`Tasks::renew`](crate::task::Tasks::renew)).
    pub opener: u64,
    /// Who opened it, for files of which writes are judged by that.
    pub opened_by: Option<Box<Opener>>,
    /// The last change that poll(2) told of, for files that tell of changes.
    pub seen: u64,
    /// It is among those that are written to ([`writers`]).
    pub counted: bool,
    /// It stands for a detached tree of mounts, which goes with it.
    pub dissolves: bool,
    /// Process that took the flock(2) it holds.
    pub locker: u32,
    /// What landlock(7) denied its opener, and so whoever has it.
    pub denied: FsAccess,
    /// Who is told that it can be read or written, and by which signal: 0 is SIGIO (`F_SETOWN`, `F_SETSIG`).
    pub owner: Option<Recipient>,
    pub signal: i32,
}

impl File {
    /// A file with one reference; takes over the one on the path.
    pub(crate) fn new(
        kind: FileKind,
        path: HeldPath,
        inode: Option<InodeRef>,
        flags: OpenFlags,
    ) -> File {
        File {
            refs: 1,
            kind,
            path,
            inode,
            flags,
            offset: 0,
            opener: 0,
            opened_by: None,
            seen: 0,
            counted: false,
            dissolves: false,
            locker: 0,
            denied: FsAccess::empty(),
            owner: None,
            signal: 0,
        }
    }

    pub(crate) fn readable(&self) -> bool {
        !self.flags.contains(OpenFlags::PATH) && self.flags.reads()
    }

    pub(crate) fn writable(&self) -> bool {
        !self.flags.contains(OpenFlags::PATH) && self.flags.writes()
    }

    /// Whether it is a regular file that is open for writing.
    pub(crate) fn is_written_to(&self) -> bool {
        self.writable() && self.kind == FileKind::Regular
    }

    /// Number of references.
    pub(crate) fn refs(&self) -> u32 {
        self.refs
    }
}

/// Open files and all that they can stand for, above the names.
#[derive(Debug, Hash)]
pub struct Files {
    pub(crate) vfs: Vfs,
    pub(crate) open: Slab<File>,
    /// Files that are closed and have not let go of everything.
    closing: VecDeque<FileId>,
    pub(crate) pipes: pipe::Pipes,
    pub(crate) sockets: socket::Sockets,
    pub(crate) mqueues: mqueue::Queues,
    pub(crate) ipc: Ipc,
    pub(crate) locks: lock::Locks,
    pub(crate) aio: aio::Aio,
    pub(crate) watches: epoll::Watches,
    pub(crate) watched: inotify::Watched,
    /// Directories that signals are sent for.
    pub(crate) notices: dnotify::Notices,
    pub(crate) leases: lease::Leases,
    pub(crate) asyncs: fasync::Asyncs,
    pub(crate) writers: writers::Writers,
    pub(crate) tables: Slab<FdTable>,
    /// Tables that are being copied or closed.
    pub(crate) partial: fdtable::Partial,
    /// Chunks of all descriptor tables.
    pub(crate) fd_chunks: u64,
    /// Operations of the host.
    pub(crate) ops: call::HostOps,
    /// Files that the kernel makes, as they are opened and as they are gone.
    pub(crate) made: above::MadeFiles,
    pub(crate) contexts: Slab<FsContext>,
    /// `struct termios` of the terminal, once a program has set it.
    pub(crate) termios: Option<[u8; 36]>,
    /// Foreground process group of the terminal, once a program has set it.
    pub(crate) foreground: Option<u32>,
}

impl Deref for Files {
    type Target = Vfs;

    fn deref(&self) -> &Vfs {
        &self.vfs
    }
}

impl DerefMut for Files {
    fn deref_mut(&mut self) -> &mut Vfs {
        &mut self.vfs
    }
}

impl Files {
    /// No files.
    pub(crate) fn new(vfs: Vfs) -> Files {
        Files {
            vfs,
            open: Slab::new(),
            closing: VecDeque::new(),
            pipes: pipe::Pipes::new(),
            sockets: socket::Sockets::default(),
            mqueues: mqueue::Queues::default(),
            ipc: Ipc::new(),
            locks: lock::Locks::new(),
            aio: aio::Aio::default(),
            watches: epoll::Watches::default(),
            watched: inotify::Watched::default(),
            notices: dnotify::Notices::default(),
            leases: lease::Leases::default(),
            asyncs: fasync::Asyncs::default(),
            writers: writers::Writers::default(),
            tables: Slab::new(),
            partial: fdtable::Partial::default(),
            fd_chunks: 0,
            ops: call::HostOps::default(),
            made: above::MadeFiles::default(),
            contexts: Slab::new(),
            termios: None,
            foreground: None,
        }
    }

    /// A file has changed: whoever waits for its key, or watches it, looks at it.
    pub(crate) fn wake(&mut self, key: WaitKey) {
        self.notify(key, ready::ANY);
    }

    /// The same where it is known what came: poll events, which the files' watchers are told of (epoll(7)); 0
    /// tells them nothing.
    pub(crate) fn notify(&mut self, key: WaitKey, events: u16) {
        if let WaitKey::Pipe(id) = key {
            pipe::charge(self, id);
        }
        self.env.wake(key);
        if events != 0 {
            epoll::announce(self, key, events);
            aio::announce(self, key, events);
            fasync::announce(self, key, events);
        }
    }

    /// What the kernel holds for open files, by kind, in bytes.
    #[inline]
    pub(crate) fn held(&self) -> [(&'static str, u64); 11] {
        const FILE_COST: u64 = 512;
        const TABLE_COST: u64 = 64;
        const CONTEXT_COST: u64 = 64;
        let times = |count: usize, cost: u64| count as u64 * cost;
        [
            (
                "open files",
                times(self.open.len(), FILE_COST) + self.writers.held() + self.leases.held(),
            ),
            (
                "descriptor tables",
                times(self.tables.len(), TABLE_COST) + self.fd_chunks * fdtable::CHUNK_COST,
            ),
            (
                "roots and working directories",
                times(self.contexts.len(), CONTEXT_COST),
            ),
            ("epoll items", self.watches.held()),
            (
                "inotify watches and events",
                self.watched.held() + self.notices.held(),
            ),
            ("file locks", self.locks.held()),
            ("asynchronous requests", self.aio.held()),
            ("pipes", self.pipes.held()),
            ("POSIX message queues", self.mqueues.objects()),
            ("sockets", self.sockets.held()),
            ("files in messages", self.sockets.in_flight.held()),
        ]
    }

    /// Whether what is counted for [`held`](Self::held) is what is there; for invariant checks.
    pub(crate) fn is_counted(&self) -> bool {
        let chunks = self.tables.iter().map(|(_, table)| table.chunks());
        let configs = self.open.iter().map(|(_, file)| match &file.kind {
            FileKind::Config(config) => config.bytes(),
            _ => 0,
        });
        self.fs.is_counted()
            && chunks.sum::<u64>() == self.fd_chunks
            && self.mounts.is_counted()
            && configs.sum::<u64>() == self.configs.held()
            && inotify::is_counted(self)
    }

    /// An open file description.
    pub(crate) fn file(&self, id: FileId) -> Option<&File> {
        self.open.get(id.0)
    }

    /// Counts the regular files that are open for writing up or down, if a file is one.
    pub(crate) fn count_writer(&mut self, file: &File, by: i32) {
        if !file.is_written_to() {
            return;
        }
        let mount = self.mounts.at_mut(file.path.mount);
        mount.writers = mount.writers.saturating_add_signed(by);
        let fs = mount.fs;
        if let Some(slot) = self.filesystems.get_mut(fs.0 as usize) {
            slot.writers = slot.writers.saturating_add_signed(by);
        }
    }

    /// The rulesets of landlock(7) that files are, for invariant checks.
    pub(crate) fn rulesets(&self) -> impl Iterator<Item = RulesetId> + '_ {
        self.open.iter().filter_map(|(_, file)| match file.kind {
            FileKind::Landlock(ruleset) => Some(ruleset),
            _ => None,
        })
    }

    /// How many files are open.
    pub(crate) fn open_files(&self) -> usize {
        self.open.len()
    }

    /// What the timers that are files are armed for; for invariant checks.
    pub(crate) fn armed_timers(&self) -> impl Iterator<Item = (u64, TimerKey)> + '_ {
        self.open.iter().filter_map(|(id, file)| match &file.kind {
            FileKind::TimerFd(timer) if !timer.expired => {
                Some((timer.at?, TimerKey::File(FileId(id))))
            }
            _ => None,
        })
    }

    /// A descriptor table by id.
    pub(crate) fn fd_table(&self, id: FdTableId) -> &FdTable {
        self.tables.get(id.0).expect("table is in use") // INVARIANT: a task holds its table
    }

    /// A descriptor table by id.
    pub(crate) fn fd_table_mut(&mut self, id: FdTableId) -> &mut FdTable {
        self.tables.get_mut(id.0).expect("table is in use") // INVARIANT: a task holds its table
    }

    /// Root, working directory and umask by id.
    pub(crate) fn fs_context(&self, id: FsContextId) -> &FsContext {
        self.contexts.get(id.0).expect("context is in use") // INVARIANT: a task holds its context
    }

    /// Root, working directory and umask by id.
    pub(crate) fn fs_context_mut(&mut self, id: FsContextId) -> &mut FsContext {
        self.contexts.get_mut(id.0).expect("context is in use") // INVARIANT: a task holds its context
    }
}

/// Adds an open file. `ENFILE`: its place is given back.
pub(crate) fn add(k: &mut Files, p: &mut Ports<'_>, file: File) -> Result<FileId, Errno> {
    if let Err(errno) = check_room(k) {
        put_path(k, p, file.path);
        return Err(errno);
    }
    k.count_writer(&file, 1);
    k.leases.opened(&file);
    if let FileKind::Config(config) = &file.kind {
        k.vfs.configs.count(config);
    }
    Ok(FileId(k.open.insert(file)))
}

/// Whether one more file can be opened. `ENFILE`.
pub(crate) fn check_room(k: &Files) -> Result<(), Errno> {
    match k.open.len() {
        FILE_MAX.. => Err(Errno::ENFILE),
        _ => Ok(()),
    }
}

/// A file that is known to be open.
pub(crate) fn at(k: &Files, id: FileId) -> &File {
    k.open.get(id.0).expect("file is referenced") // INVARIANT: ids are kept only with a reference
}

/// A file that is known to be open.
pub(crate) fn at_mut(k: &mut Files, id: FileId) -> &mut File {
    k.open.get_mut(id.0).expect("file is referenced") // INVARIANT: ids are kept only with a reference
}

/// Takes one more reference.
pub(crate) fn get(k: &mut Files, id: FileId) -> FileId {
    at_mut(k, id).refs += 1;
    rights::referenced(k, id);
    id
}

/// Gives a reference back; the last one closes the file.
pub(crate) fn put(k: &mut Files, p: &mut Ports<'_>, id: FileId) {
    let file = at_mut(k, id);
    file.refs -= 1;
    if file.refs > 0 {
        rights::reference_dropped(k, p, id);
        shm::reference_dropped(k, p, id);
        return;
    }
    lock::released(k, id);
    fasync::closed(k, id);
    lease::released(k, id);
    let closed = at(k, id);
    let place_only = closed.flags.contains(OpenFlags::PATH);
    let event = match closed.writable() {
        true => inotify::CLOSE_WRITE,
        false => inotify::CLOSE_NOWRITE,
    };
    if !place_only {
        inotify::file_event(k, p, id, event);
    }
    let at_once = ops::closing(k, id) == Closing::AtOnce;
    let forgotten = epoll::forget_watchers(k, id);
    if at_once {
        ops::release(k, p, id);
    }
    match forgotten && at_once {
        true => remove(k, p, id),
        // Its number stays taken.
        false => k.closing.push_back(id),
    }
}

/// Goes on with files that are closed and have much to let go of; `false` if there are none.
pub(crate) fn close_some(k: &mut Files, p: &mut Ports<'_>) -> bool {
    let Some(&id) = k.closing.front() else {
        return false;
    };
    k.env.steps.spend(1);
    let is_empty = ops::empty(k, p, id);
    if is_empty && epoll::forget_watchers(k, id) {
        k.closing.pop_front();
        ops::release(k, p, id);
        remove(k, p, id);
    }
    true
}

/// Whether [`close_some`] has nothing to do.
pub(crate) fn is_closed(k: &Files) -> bool {
    k.closing.is_empty()
}

fn remove(k: &mut Files, p: &mut Ports<'_>, id: FileId) {
    let Some(file) = k.open.remove(id.0) else {
        return;
    };
    if let Some(inode) = file.inode.filter(|_| file.counted) {
        k.writers.written(inode);
    }
    k.count_writer(&file, -1);
    k.leases.closed(&file);
    if file.dissolves {
        return detached::dissolve(k, p, file.path);
    }
    let dentry = file.path.dentry;
    if k.vfs.dentries.refs(dentry) > 1 {
        put_path(k, p, file.path);
        inotify::gone(k, p, dentry, 0);
    } else {
        put_path(k, p, file.path);
    }
    if let FileKind::Config(config) = &file.kind {
        mount::config::closed(k, p, config);
    }
}

/// Pipes without a name go whose inode nobody has any more.
pub(crate) fn remove_gone(k: &mut Files) {
    while let Some(id) = k.objects.gone.pop() {
        pipe::remove(k, id);
    }
}

/// The inode that attributes are those of, also for objects without a name.
pub(crate) fn inode_of(k: &Files, id: FileId) -> Result<InodeRef, Errno> {
    k.vfs
        .dentries
        .inode(at(k, id).path.dentry)
        .ok_or(Errno::EBADF)
}

/// Reads bytes of a regular file into the kernel; short at its end.
pub(crate) fn read_kernel(
    k: &mut Files,
    p: &mut Ports<'_>,
    id: FileId,
    offset: u64,
    buf: &mut [u8],
) -> Result<usize, Errno> {
    let inode = match at(k, id) {
        File {
            kind: FileKind::Regular,
            inode: Some(inode),
            ..
        } => *inode,
        _ => return Err(Errno::EINVAL),
    };
    rw::read_inode(k, p, inode, offset, buf)
}
