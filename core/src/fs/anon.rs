//! The internal file system of objects without a name in any tree: pipes, sockets, message queues and the
//! host's standard streams (the kernel's `pipefs`, `sockfs` and `anon_inodefs`). Its mount hangs nowhere;
//! `/proc/PID/fd/N` leads to its dentries.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;

use crate::abi::Errno;
use crate::abi::raw::general::{S_IFCHR, S_IFDIR, S_IFIFO, S_IFREG, S_IFSOCK};
use crate::boot::Stdio;
use crate::cred::ns;
use crate::cred::ns::NsId;
use crate::env::Env;
use crate::env::ids::{MountId, PipeId, QueueId, SocketId};
use crate::fs::filesystem::{
    Attr, FsCx, FsId, FsKind, Ino, InodeOps, InodeRef, SetAttr, StatFs, Time,
};
use crate::fs::{FileSystems, Frames};
use crate::slab::Key;

/// The file system and its mount are the first ones.
pub(crate) const FS: FsId = FsId(0);
pub(crate) const MOUNT: MountId = MountId(Key::LEAST);
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

pub(crate) fn mqueue_ino(queue: QueueId) -> Ino {
    object_ino(queue.0, 2)
}

pub(crate) fn stream_ino(stream: u8) -> Ino {
    Ino(STREAM + u64::from(stream))
}

/// Attributes. Times are those of the boot.
pub(crate) fn attr(k: &FileSystems, ino: Ino) -> Result<Attr, Errno> {
    attr_of(&k.env, &k.objects, ino)
}

fn attr_of(env: &Env, objects: &Objects, ino: Ino) -> Result<Attr, Errno> {
    let at = Time::from_nanos(env.booted.real);
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
        Object::Pipe(_) => {
            attr = objects.attr(ino).unwrap_or(Attr {
                mode: S_IFIFO | 0o600,
                ..attr
            });
        }
        Object::Socket(_) => {
            attr = objects.attr(ino).unwrap_or(Attr {
                mode: S_IFSOCK | 0o777,
                ..attr
            });
        }
        Object::MessageQueue(_) => attr = objects.attr(ino).unwrap_or_default(),
        Object::Stream(stream) => match env.stdio.get(usize::from(stream)) {
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

/// Device number of the terminal (`/dev/pts/0`, `new_encode_dev`).
pub(crate) const PTS: u32 = 136 << 8;

/// Device number of `/dev/null`.
const NULL: u32 = 1 << 8 | 3;

/// The file system itself: what it knows is in [`Objects`].
pub(super) struct AnonFs;

impl InodeOps for AnonFs {
    fn kind(&self) -> FsKind {
        FsKind::Anon
    }

    fn root(&self) -> Ino {
        ROOT
    }

    /// The last reference on the inode of an object has gone. A pipe's data goes with it, as soon as whoever
    /// has the pipes looks ([`Objects::gone`]).
    fn forget(&mut self, cx: &mut FsCx<'_, '_>, ino: Ino) {
        match object(ino) {
            Object::Pipe(id) => {
                cx.objects.kept.remove(&ino);
                cx.objects.gone.push(id);
                cx.env.left = true;
            }
            Object::Socket(_) => {
                cx.objects.kept.remove(&ino);
            }
            _ => {}
        }
    }

    fn attr(&mut self, cx: &mut FsCx<'_, '_>, ino: Ino) -> Result<Attr, Errno> {
        attr_of(cx.env, cx.objects, ino)
    }

    /// Changes mode and owner of a pipe or socket; times are not kept. `EOPNOTSUPP` for files that are no
    /// objects by themselves, `EPERM` for the rest.
    fn set_attr(&mut self, cx: &mut FsCx<'_, '_>, ino: Ino, set: &SetAttr) -> Result<(), Errno> {
        const PERMISSIONS: u32 = 0o7777;
        match object(ino) {
            Object::Pipe(_) | Object::Socket(_) => {}
            Object::Anon(_) => return Err(Errno::EOPNOTSUPP),
            _ => return Err(Errno::EPERM),
        }
        let kept = cx.objects.kept.get_mut(&ino).ok_or(Errno::ENOENT)?;
        let attr = &mut kept.attr;
        if let Some(mode) = set.mode {
            attr.mode = attr.mode & !PERMISSIONS | mode & PERMISSIONS;
        }
        attr.uid = set.uid.unwrap_or(attr.uid);
        attr.gid = set.gid.unwrap_or(attr.gid);
        Ok(())
    }

    fn statfs(&self, _frames: &Frames) -> StatFs {
        StatFs::simple(PIPEFS_MAGIC)
    }
}

/// What is known here of pipes, sockets and message queues.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Objects {
    kept: BTreeMap<Ino, Kept>,
    /// Pipes whose inode nobody has any more.
    pub gone: Vec<PipeId>,
}

#[derive(Clone, Debug, Hash)]
struct Kept {
    attr: Attr,
    /// The name of a message queue.
    name: Vec<u8>,
}

impl Objects {
    /// An object has an inode from now on; `made` is when it was made.
    pub(crate) fn add(&mut self, ino: Ino, mode: u32, (uid, gid): (u32, u32), made: Time) {
        let attr = Attr {
            mode,
            uid,
            gid,
            nlink: 1,
            atime: made,
            mtime: made,
            ctime: made,
            ..Attr::default()
        };
        let name = Vec::new();
        self.kept.insert(ino, Kept { attr, name });
    }

    /// The same for a message queue, whose file has a name and a size.
    pub(crate) fn add_named(&mut self, ino: Ino, attr: Attr, name: Vec<u8>) {
        self.kept.insert(ino, Kept { attr, name });
    }

    /// The name of a message queue has gone.
    pub(crate) fn unlinked(&mut self, ino: Ino) {
        if let Some(kept) = self.kept.get_mut(&ino) {
            kept.attr.nlink = 0;
        }
    }

    /// A message queue has gone.
    pub(crate) fn remove(&mut self, ino: Ino) {
        self.kept.remove(&ino);
    }

    /// Attributes; times are those of when it was made.
    pub(crate) fn attr(&self, ino: Ino) -> Option<Attr> {
        self.kept.get(&ino).map(|kept| kept.attr)
    }

    /// What `/proc/PID/fd/N` shows of a message queue.
    fn queue_name(&self, ino: Ino) -> Vec<u8> {
        let mut name = b"/".to_vec();
        if let Some(kept) = self.kept.get(&ino) {
            name.extend(&kept.name);
            if kept.attr.nlink == 0 {
                name.extend(b" (deleted)");
            }
        }
        name
    }
}

/// How `/proc/PID/fd/N` shows an object.
pub(crate) fn name(k: &FileSystems, ino: Ino) -> Vec<u8> {
    match object(ino) {
        Object::Root => b"anon:/".to_vec(),
        Object::Anon(anon) => anon.name().into(),
        Object::Pipe(_) => format!("pipe:[{}]", ino.0).into_bytes(),
        Object::Namespace(id) => match k.ns.exists(id) {
            true => format!("{}:[{}]", k.ns.kind(id).name(), id.0).into_bytes(),
            false => Vec::new(),
        },
        Object::MessageQueue(_) => k.objects.queue_name(ino),
        Object::Socket(_) => format!("socket:[{}]", ino.0).into_bytes(),
        Object::Stream(stream) => match k.env.stdio.get(usize::from(stream)) {
            Some(Stdio::Terminal { .. }) => b"/dev/pts/0".to_vec(),
            Some(Stdio::File) => format!("/dev/stdio/{stream}").into_bytes(),
            Some(Stdio::Null) => b"/dev/null".to_vec(),
            _ => format!("pipe:[{}]", ino.0).into_bytes(),
        },
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
