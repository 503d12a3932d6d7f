//! Open file descriptions.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::device::Device;
use super::epoll::{self, Epoll};
use super::eventfd::EventFd;
use super::filesystem::InodeRef;
use super::inotify::{self, Inotify};
use super::mount::{PathRef, put_path};
use super::mqueue::{self, QueueId};
use super::pidfd::PidFd;
use super::pipe::{self, PipeId};
use super::socket::{self, SocketId, rights};
use super::timerfd::{self, TimerFd};
use super::{lock, rw};

pub(crate) use super::open::open_exec;
use crate::Kernel;
use crate::abi::Errno;
use crate::abi::raw::general::{O_ACCMODE, O_PATH, O_RDONLY, O_RDWR, O_WRONLY};
use crate::ipc::shm;
use crate::ns::user::Opener;
use crate::port::Ports;

/// An open file description.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct FileId(pub u32);

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
    /// A file that the kernel makes (`proc`, `sysfs`): its content as of the last read at offset 0.
    Proc(Vec<u8>),
    /// A standard stream of the host.
    HostStream(u8),
    EventFd(EventFd),
    TimerFd(TimerFd),
    /// The signals it reads, bit `n - 1` for signal `n`.
    SignalFd(u64),
    PidFd(PidFd),
    Epoll(Box<Epoll>),
    Inotify(Box<Inotify>),
    /// The file of a namespace: there is nothing in it.
    Namespace,
    /// Only a place (`O_PATH`).
    Path,
}

/// An open file.
#[derive(Clone, Debug, Hash)]
pub(crate) struct File {
    refs: u32,
    pub kind: FileKind,
    pub path: PathRef,
    /// `None` for objects without a name: pipes, sockets, streams.
    pub inode: Option<InodeRef>,
    /// Access mode and status flags of open(2).
    pub flags: u32,
    pub offset: u64,
    /// User that opened it.
    pub opener: u32,
    /// Who opened it, for files of which writes are judged by that.
    pub opened_by: Option<Box<Opener>>,
    /// Process that took the flock(2) it holds.
    pub locker: u32,
    /// `F_SETOWN`, `F_SETSIG`.
    pub owner: i32,
    pub signal: i32,
}

impl File {
    /// A file with one reference; takes over the one on the path.
    pub(crate) fn new(kind: FileKind, path: PathRef, inode: Option<InodeRef>, flags: u32) -> File {
        File {
            refs: 1,
            kind,
            path,
            inode,
            flags,
            offset: 0,
            opener: 0,
            opened_by: None,
            locker: 0,
            owner: 0,
            signal: 0,
        }
    }

    pub(crate) fn readable(&self) -> bool {
        self.flags & O_PATH == 0 && matches!(self.flags & O_ACCMODE, O_RDONLY | O_RDWR)
    }

    pub(crate) fn writable(&self) -> bool {
        self.flags & O_PATH == 0 && matches!(self.flags & O_ACCMODE, O_WRONLY | O_RDWR)
    }

    /// Number of references.
    pub(crate) fn refs(&self) -> u32 {
        self.refs
    }
}

/// Adds an open file. `ENFILE`: the caller gives the path back.
pub(crate) fn add(k: &mut Kernel, file: File) -> Result<FileId, Errno> {
    check_room(k)?;
    Ok(FileId(k.vfs.files.insert(file)))
}

/// Whether one more file can be opened. `ENFILE`.
pub(crate) fn check_room(k: &Kernel) -> Result<(), Errno> {
    match k.vfs.files.len() {
        FILE_MAX.. => Err(Errno::ENFILE),
        _ => Ok(()),
    }
}

/// A file that is known to be open.
pub(crate) fn at(k: &Kernel, id: FileId) -> &File {
    k.vfs.files.get(id.0).expect("file is referenced") // INVARIANT: ids are kept only with a reference
}

/// A file that is known to be open.
pub(crate) fn at_mut(k: &mut Kernel, id: FileId) -> &mut File {
    k.vfs.files.get_mut(id.0).expect("file is referenced") // INVARIANT: ids are kept only with a reference
}

/// Takes one more reference.
pub(crate) fn get(k: &mut Kernel, id: FileId) -> FileId {
    at_mut(k, id).refs += 1;
    id
}

/// Gives a reference back; the last one closes the file.
pub(crate) fn put(k: &mut Kernel, p: &mut Ports<'_>, id: FileId) {
    let file = at_mut(k, id);
    file.refs -= 1;
    if file.refs > 0 {
        rights::reference_dropped(k, p, id);
        shm::reference_dropped(k, p, id);
        return;
    }
    lock::released(k, id);
    epoll::file_closed(k, id);
    let closed = at(k, id);
    let place_only = closed.flags & O_PATH != 0;
    let event = match closed.writable() {
        true => inotify::CLOSE_WRITE,
        false => inotify::CLOSE_NOWRITE,
    };
    if !place_only {
        inotify::file_event(k, p, id, event);
    }
    let Some(file) = k.vfs.files.remove(id.0) else {
        return;
    };
    let held_namespace = file.kind == FileKind::Namespace;
    let dentry = file.path.dentry;
    let (readable, writable) = (file.readable(), file.writable());
    match file.kind {
        FileKind::Pipe(pipe) => pipe::close_end(k, pipe, readable, writable),
        FileKind::Socket(socket) => socket::release(k, p, socket),
        FileKind::MessageQueue(queue) => mqueue::close(k, queue),
        FileKind::TimerFd(timer) => timerfd::release(k, id, &timer),
        FileKind::Epoll(epoll) => epoll::release(k, id, *epoll),
        FileKind::Inotify(instance) => inotify::release(k, p, Some(id), &instance),
        _ => {}
    }
    if k.vfs.dentries.refs(dentry) > 1 {
        put_path(k, p, file.path);
        inotify::gone(k, p, dentry, 0);
    } else {
        put_path(k, p, file.path);
    }
    if held_namespace {
        crate::ns::sweep(k, p);
    }
}

/// The inode that attributes are those of, also for objects without a name.
pub(crate) fn inode_of(k: &Kernel, id: FileId) -> Result<InodeRef, Errno> {
    k.vfs
        .dentries
        .inode(at(k, id).path.dentry)
        .ok_or(Errno::EBADF)
}

/// Reads bytes of a regular file into the kernel; short at its end.
pub(crate) fn read_kernel(
    k: &mut Kernel,
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
