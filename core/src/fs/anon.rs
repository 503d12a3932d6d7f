//! The internal file system of objects without a name in any tree: pipes, sockets, message queues and the
//! host's standard streams (the kernel's `pipefs`, `sockfs` and `anon_inodefs`). Its mount hangs nowhere;
//! `/proc/PID/fd/N` leads to its dentries.

use alloc::format;
use alloc::vec::Vec;

use crate::Kernel;
use crate::abi::Errno;
use crate::abi::raw::general::{
    ANON_INODE_FS_MAGIC, NSFS_MAGIC, S_IFCHR, S_IFDIR, S_IFIFO, S_IFREG, S_IFSOCK,
};
use crate::boot::Stdio;
use crate::file::pipe::PipeId;
use crate::fs::filesystem::{Attr, FsId, Ino, InodeRef, SetAttr, StatFs, Time};
use crate::ipc::mqueue;
use crate::ipc::mqueue::QueueId;
use crate::net::socket::SocketId;
use crate::ns::{self, NsId};
use crate::vfs::dentry::DentryId;
use crate::vfs::mount::{MountId, PathRef};

/// The file system and its mount are the first ones.
pub(crate) const FS: FsId = FsId(0);
pub(crate) const MOUNT: MountId = MountId(0);
pub(crate) const ROOT: Ino = Ino(1);

/// Inode numbers of the streams, of what is no object of its own, and the first one of a pipe.
const STREAM: u64 = 2;
const ANON: u64 = 5;
const PIPE: u64 = 16;
/// Pipes, sockets and message queues take turns.
const KINDS: u64 = 3;
/// The numbers of namespaces, which are no others', are from [`ns::LOWEST`] up to here.
const NAMESPACES_END: u64 = 1 << 32;

/// `f_type` of pipefs.
const PIPEFS_MAGIC: u64 = 0x5049_5045;

/// What an inode is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Object {
    Root,
    Stream(u8),
    Anon(Anon),
    Pipe(PipeId),
    Namespace(NsId),
    Socket(SocketId),
    MessageQueue(QueueId),
}

/// Files that are no objects by themselves (`anon_inodefs` of Linux): all of one kind are one inode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Anon {
    EventFd,
    Epoll,
    TimerFd,
    SignalFd,
    PidFd,
    Inotify,
    Landlock,
    Config,
}

impl Anon {
    const ALL: [Anon; 8] = [
        Anon::EventFd,
        Anon::Epoll,
        Anon::TimerFd,
        Anon::SignalFd,
        Anon::PidFd,
        Anon::Inotify,
        Anon::Landlock,
        Anon::Config,
    ];

    pub(crate) fn ino(self) -> Ino {
        Ino(ANON + self as u64)
    }

    /// What `/proc/PID/fd/N` leads to.
    fn name(self) -> &'static str {
        match self {
            Anon::EventFd => "anon_inode:[eventfd]",
            Anon::Epoll => "anon_inode:[eventpoll]",
            Anon::TimerFd => "anon_inode:[timerfd]",
            Anon::SignalFd => "anon_inode:[signalfd]",
            Anon::PidFd => "anon_inode:[pidfd]",
            Anon::Inotify => "anon_inode:inotify",
            Anon::Landlock => "anon_inode:[landlock-ruleset]",
            Anon::Config => "anon_inode:[fscontext]",
        }
    }
}

pub(crate) fn object(ino: Ino) -> Object {
    match ino.0 {
        n @ STREAM..ANON => Object::Stream((n - STREAM) as u8),
        n @ ANON..PIPE => match Anon::ALL.get((n - ANON) as usize) {
            Some(&anon) => Object::Anon(anon),
            None => Object::Root,
        },
        n if (u64::from(ns::LOWEST)..NAMESPACES_END).contains(&n) => {
            Object::Namespace(NsId(n as u32))
        }
        n if n >= PIPE => {
            let place = match n {
                NAMESPACES_END.. => n - NAMESPACES_END + u64::from(ns::LOWEST),
                _ => n,
            } - PIPE;
            let number = place / KINDS;
            match place % KINDS {
                0 => Object::Pipe(PipeId(number)),
                1 => Object::Socket(SocketId(number)),
                _ => Object::MessageQueue(QueueId(number)),
            }
        }
        _ => Object::Root,
    }
}

/// The inode of an object: its number, of those of its kind.
fn object_ino(number: u64, kind: u64) -> Ino {
    let place = PIPE + KINDS * number + kind;
    let lowest = u64::from(ns::LOWEST);
    Ino(match place < lowest {
        true => place,
        false => place - lowest + NAMESPACES_END,
    })
}

pub(crate) fn pipe_ino(pipe: PipeId) -> Ino {
    object_ino(pipe.0, 0)
}

pub(crate) fn socket_ino(socket: SocketId) -> Ino {
    object_ino(socket.0, 1)
}

/// The inode of a namespace's file.
pub(crate) fn namespace_ino(id: NsId) -> Ino {
    Ino(u64::from(id.0))
}

/// The namespace whose file a dentry is.
pub(crate) fn namespace_at(k: &Kernel, dentry: DentryId) -> Option<NsId> {
    let dentry = k.vfs.dentries.at(dentry);
    match object(dentry.ino.filter(|_| dentry.fs == FS)?) {
        Object::Namespace(id) if k.ns.exists(id) => Some(id),
        _ => None,
    }
}

pub(crate) fn mqueue_ino(queue: QueueId) -> Ino {
    object_ino(queue.0, 2)
}

pub(crate) fn stream_ino(stream: u8) -> Ino {
    Ino(STREAM + u64::from(stream))
}

/// A path with one reference for an object.
pub(crate) fn path(k: &mut Kernel, ino: Ino) -> PathRef {
    let attr = attr(k, ino).unwrap_or_default();
    let dentry = k.vfs.dentries.new_root(FS, ino, &attr);
    PathRef {
        mount: MOUNT,
        dentry,
    }
}

/// Attributes. Times are those of the boot.
pub(crate) fn attr(k: &Kernel, ino: Ino) -> Result<Attr, Errno> {
    let at = Time::from_nanos(k.system.booted.real);
    let mut attr = Attr {
        nlink: 1,
        atime: at,
        mtime: at,
        ctime: at,
        ..Attr::default()
    };
    match object(ino) {
        Object::Root => attr.mode = S_IFDIR | 0o555,
        // Linux gives them no file type.
        Object::Anon(_) => attr.mode = 0o600,
        Object::Namespace(_) => attr.mode = S_IFREG | 0o444,
        Object::Pipe(id) => {
            attr.mode = S_IFIFO | 0o600;
            if let Some(pipe) = k.vfs.pipes.get(id) {
                attr.mode = S_IFIFO | pipe.mode;
                (attr.uid, attr.gid) = (pipe.uid, pipe.gid);
                (attr.atime, attr.mtime, attr.ctime) = (pipe.made, pipe.made, pipe.made);
            }
        }
        Object::MessageQueue(id) => attr = mqueue::attr(k, id),
        Object::Socket(id) => {
            attr.mode = S_IFSOCK | 0o777;
            if let Some(socket) = k.vfs.sockets.get(id) {
                attr.mode = S_IFSOCK | socket.mode;
                (attr.uid, attr.gid) = (socket.uid, socket.gid);
                (attr.atime, attr.mtime, attr.ctime) = (socket.made, socket.made, socket.made);
            }
        }
        Object::Stream(stream) => match k.system.stdio.get(usize::from(stream)) {
            Some(Stdio::Terminal { .. }) => {
                attr.mode = S_IFCHR | 0o620;
                attr.rdev = PTS;
            }
            Some(Stdio::File) => attr.mode = S_IFREG | 0o644,
            Some(Stdio::Null) => {
                attr.mode = S_IFCHR | 0o666;
                attr.rdev = NULL;
            }
            _ => attr.mode = S_IFIFO | 0o600,
        },
    }
    Ok(attr)
}

/// `EOPNOTSUPP` for files that are no objects by themselves: nobody can change their attributes
/// (`anon_inode_setattr()`).
pub(crate) fn check_change(inode: InodeRef) -> Result<(), Errno> {
    match inode.fs == FS && matches!(object(inode.ino), Object::Anon(_)) {
        true => Err(Errno::EOPNOTSUPP),
        false => Ok(()),
    }
}

/// Changes mode and owner of a pipe or socket; times are not kept. `EOPNOTSUPP` for files that are no objects
/// by themselves, `EPERM` for the rest.
pub(crate) fn set_attr(k: &mut Kernel, ino: Ino, set: &SetAttr) -> Result<(), Errno> {
    const PERMISSIONS: u32 = 0o7777;
    let (mode, uid, gid) = match object(ino) {
        Object::Pipe(id) => {
            let pipe = k.vfs.pipes.get_mut(id).ok_or(Errno::ENOENT)?;
            (&mut pipe.mode, &mut pipe.uid, &mut pipe.gid)
        }
        Object::Socket(id) => {
            let socket = k.vfs.sockets.get_mut(id).ok_or(Errno::ENOENT)?;
            (&mut socket.mode, &mut socket.uid, &mut socket.gid)
        }
        Object::Anon(_) => return Err(Errno::EOPNOTSUPP),
        _ => return Err(Errno::EPERM),
    };
    *mode = set.mode.map_or(*mode, |mode| mode & PERMISSIONS);
    *uid = set.uid.unwrap_or(*uid);
    *gid = set.gid.unwrap_or(*gid);
    Ok(())
}

/// Device number of the terminal (`/dev/pts/0`, `new_encode_dev`).
pub(crate) const PTS: u32 = 136 << 8;

/// Device number of `/dev/null`.
const NULL: u32 = 1 << 8 | 3;

/// The last reference on an object has gone: a pipe's data with it.
pub(crate) fn forget(k: &mut Kernel, ino: Ino) {
    if let Object::Pipe(id) = object(ino) {
        crate::file::pipe::remove(k, id);
    }
}

/// How `/proc/PID/fd/N` shows an object.
pub(crate) fn name(k: &Kernel, ino: Ino) -> Vec<u8> {
    match object(ino) {
        Object::Root => b"anon:/".to_vec(),
        Object::Anon(anon) => anon.name().into(),
        Object::Pipe(_) => format!("pipe:[{}]", ino.0).into_bytes(),
        Object::Namespace(id) => match k.ns.exists(id) {
            true => format!("{}:[{}]", k.ns.kind(id).name(), id.0).into_bytes(),
            false => Vec::new(),
        },
        Object::MessageQueue(id) => mqueue::name(k, id),
        Object::Socket(_) => format!("socket:[{}]", ino.0).into_bytes(),
        Object::Stream(stream) => match k.system.stdio.get(usize::from(stream)) {
            Some(Stdio::Terminal { .. }) => b"/dev/pts/0".to_vec(),
            Some(Stdio::File) => format!("/dev/stdio/{stream}").into_bytes(),
            Some(Stdio::Null) => b"/dev/null".to_vec(),
            _ => format!("pipe:[{}]", ino.0).into_bytes(),
        },
    }
}

/// `f_type` of the file system that Linux keeps the object at a dentry in; `None` for files of other file
/// systems.
pub(crate) fn magic(k: &Kernel, dentry: DentryId) -> Option<u64> {
    const SOCKFS_MAGIC: u64 = 0x534f_434b;
    const PIDFS_MAGIC: u64 = 0x5049_4446;
    const MQUEUE_MAGIC: u64 = 0x1980_0202;
    let dentry = k.vfs.dentries.at(dentry);
    Some(match object(dentry.ino.filter(|_| dentry.fs == FS)?) {
        Object::Anon(Anon::PidFd) => PIDFS_MAGIC,
        Object::Anon(_) => u64::from(ANON_INODE_FS_MAGIC),
        Object::Namespace(_) => u64::from(NSFS_MAGIC),
        Object::Socket(_) => SOCKFS_MAGIC,
        Object::MessageQueue(_) => MQUEUE_MAGIC,
        Object::Root | Object::Stream(_) | Object::Pipe(_) => PIPEFS_MAGIC,
    })
}

pub(crate) fn statfs() -> StatFs {
    StatFs {
        magic: PIPEFS_MAGIC,
        block_size: 4096,
        ..StatFs::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However many objects there have been, each has an inode of its own, which is no namespace's.
    #[test]
    fn inodes_say_what_they_are() {
        let last = (u64::from(ns::LOWEST) - PIPE) / KINDS;
        for number in [0, 1, last - 1, last, last + 1, 1 << 32, 1 << 50] {
            let pipe = PipeId(number);
            let socket = SocketId(number);
            let queue = QueueId(number);
            assert_eq!(object(pipe_ino(pipe)), Object::Pipe(pipe));
            assert_eq!(object(socket_ino(socket)), Object::Socket(socket));
            assert_eq!(object(mqueue_ino(queue)), Object::MessageQueue(queue));
        }
        for id in [ns::LOWEST, u32::MAX] {
            let id = NsId(id);
            assert_eq!(object(namespace_ino(id)), Object::Namespace(id));
        }
    }
}
