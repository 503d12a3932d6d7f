//! The `proc` file system (proc(5)): inodes are numbers made of a process and what is told about it; contents are made when a file
//! is opened.
//!
//! `system` holds what tells of the whole system, `process` what tells of one process or thread: both are tables of paths. `state`, `identity`,
//! `mounts`, `net` and `fdinfo` make contents of some of the latter.

mod fdinfo;
mod identity;
mod memory;
mod mounts;
mod net;
mod process;
mod state;
mod system;
mod sysvipc;

use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;

use super::FileId;
use super::filesystem::{Attr, Entry, Filesystem, FsId, Ino, InodeRef, StatFs, Time};
use super::mount::PathRef;
use crate::Kernel;
use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::kernel::Cx;
use crate::machine::ThreadId;
use crate::ns::user::Opener;
use crate::ns::{NsId, PID, pid};
use crate::port::Ports;

use process::View;
use system::{Kind, PATHS};

pub(crate) use state::COREDUMP_FILTER;

/// An instance of `proc`, which shows the processes of a PID namespace under their numbers there.
#[derive(Clone, Debug, Hash)]
pub(crate) struct ProcFs {
    pub pids: NsId,
}

/// The PID namespace of an instance.
fn pids(k: &Kernel, fs: FsId) -> NsId {
    match k.vfs.filesystem(fs) {
        Filesystem::Proc(proc) => proc.pids,
        _ => PID,
    }
}

/// The root directory.
pub(crate) const ROOT: Ino = Ino(1);

/// The process whose directory an inode of `proc` is. Those of threads (`task/TID`) are not.
pub(crate) fn process_of(ino: Ino) -> Option<u32> {
    match Node::parse(ino)? {
        Node::Dir(view) if !view.thread => Some(view.id),
        _ => None,
    }
}

/// What an inode number stands for.
///
/// The number: process or thread in bits 32..63, whether it is the view of a single thread in bit 63, what it is in bits 28..31, and a
/// place in a table or a descriptor below.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Node {
    /// An entry of [`PATHS`].
    System(usize),
    /// `/proc/self`, `/proc/thread-self`.
    OwnLink {
        thread: bool,
    },
    /// The directory of a process or thread.
    Dir(View),
    /// An entry of [`process::FILES`].
    File(View, usize),
    /// `task`, `fd`, `fdinfo`.
    TaskDir(View),
    FdDir(View),
    FdInfoDir(View),
    /// An entry of `fd`, `fdinfo`.
    Fd(View, u32),
    FdInfo(View, u32),
}

const PLACE: u64 = (1 << 28) - 1;

impl Node {
    fn ino(self) -> Ino {
        let of = |view: View, kind: u64, place: u64| {
            Ino(u64::from(view.thread) << 63 | u64::from(view.id) << 32 | kind << 28 | place)
        };
        match self {
            Node::System(place) => Ino(place as u64 + 1),
            Node::OwnLink { thread } => Ino(0x1000 + u64::from(thread)),
            Node::Dir(view) => of(view, 0, 1),
            Node::TaskDir(view) => of(view, 0, 2),
            Node::FdDir(view) => of(view, 0, 3),
            Node::FdInfoDir(view) => of(view, 0, 4),
            Node::File(view, place) => of(view, 1, place as u64),
            Node::Fd(view, fd) => of(view, 2, u64::from(fd)),
            Node::FdInfo(view, fd) => of(view, 3, u64::from(fd)),
        }
    }

    fn parse(ino: Ino) -> Option<Node> {
        let view = View {
            id: (ino.0 >> 32) as u32 & 0x7fff_ffff,
            thread: ino.0 >> 63 == 1,
        };
        let place = ino.0 & PLACE;
        if view.id == 0 {
            return match place {
                0x1000 => Some(Node::OwnLink { thread: false }),
                0x1001 => Some(Node::OwnLink { thread: true }),
                place => {
                    let place = (place as usize).checked_sub(1)?;
                    (place < PATHS.len()).then_some(Node::System(place))
                }
            };
        }
        match (ino.0 >> 28 & 0xf, place) {
            (0, 1) => Some(Node::Dir(view)),
            (0, 2) => Some(Node::TaskDir(view)),
            (0, 3) => Some(Node::FdDir(view)),
            (0, 4) => Some(Node::FdInfoDir(view)),
            (1, place) if (place as usize) < process::FILES.len() => {
                Some(Node::File(view, place as usize))
            }
            (2, fd) => Some(Node::Fd(view, fd as u32)),
            (3, fd) => Some(Node::FdInfo(view, fd as u32)),
            _ => None,
        }
    }

    fn of(k: &Kernel, ino: Ino) -> Result<Node, Errno> {
        let node = Node::parse(ino).ok_or(Errno::ENOENT)?;
        let view = match node {
            Node::System(_) | Node::OwnLink { .. } => return Ok(node),
            Node::Dir(view) | Node::TaskDir(view) | Node::FdDir(view) | Node::FdInfoDir(view) => {
                view
            }
            Node::File(view, _) | Node::Fd(view, _) | Node::FdInfo(view, _) => view,
        };
        view.task(k).map(|_| node).ok_or(Errno::ESRCH)
    }

    /// File type and permissions.
    fn mode(self, k: &Kernel) -> u32 {
        match self {
            Node::System(place) => PATHS[place].1.mode(),
            Node::OwnLink { .. } => g::S_IFLNK | 0o777,
            Node::Dir(_) | Node::TaskDir(_) => g::S_IFDIR | 0o555,
            Node::FdDir(_) => g::S_IFDIR | 0o500,
            Node::FdInfoDir(_) => g::S_IFDIR | 0o555,
            Node::File(_, place) => process::FILES[place].1.mode(),
            Node::Fd(view, fd) => g::S_IFLNK | process::fd_mode(k, view, fd),
            Node::FdInfo(..) => g::S_IFREG | 0o444,
        }
    }
}

/// A decimal number without leading zeros, as process and descriptor directories are named.
fn decimal(name: &[u8]) -> Option<u32> {
    if name.len() > 1 && name[0] == b'0' {
        return None;
    }
    core::str::from_utf8(name)
        .ok()
        .filter(|text| !text.starts_with('+'))?
        .parse()
        .ok()
}

/// The inode called `name` in directory `dir`. `ENOENT`, `ENOTDIR`.
pub(crate) fn lookup(
    k: &mut Kernel,
    _p: &mut Ports<'_>,
    _viewer: Option<ThreadId>,
    dir: InodeRef,
    name: &[u8],
) -> Result<Ino, Errno> {
    let k = &*k;
    let ns = pids(k, dir.fs);
    let number = |name: &[u8]| pid::find(k, ns, decimal(name)?);
    let found = match Node::of(k, dir.ino)? {
        Node::System(0) => match (name, number(name)) {
            (b"self", _) => Some(Node::OwnLink { thread: false }),
            (b"thread-self", _) => Some(Node::OwnLink { thread: true }),
            (_, Some(id)) => {
                let view = View { id, thread: false };
                view.task(k).map(|_| Node::Dir(view))
            }
            _ => system::child(0, name).map(Node::System),
        },
        Node::System(place) if matches!(PATHS[place].1, Kind::Dir) => {
            system::child(place, name).map(Node::System)
        }
        Node::Dir(view) => match name {
            b"task" if !view.thread => Some(Node::TaskDir(view)),
            b"fd" => Some(Node::FdDir(view)),
            b"fdinfo" => Some(Node::FdInfoDir(view)),
            _ => process::find("", name).map(|place| Node::File(view, place)),
        },
        Node::File(view, place) if matches!(process::FILES[place].1, process::Kind::Dir(_)) => {
            process::find(process::FILES[place].0, name).map(|place| Node::File(view, place))
        }
        Node::TaskDir(view) => number(name).and_then(|id| {
            let inner = View { id, thread: true };
            (inner.task(k)?.tgid == view.task(k)?.tgid).then_some(Node::Dir(inner))
        }),
        Node::FdDir(view) => decimal(name)
            .filter(|&fd| view.file(k, fd).is_some())
            .map(|fd| Node::Fd(view, fd)),
        Node::FdInfoDir(view) => decimal(name)
            .filter(|&fd| view.file(k, fd).is_some())
            .map(|fd| Node::FdInfo(view, fd)),
        _ => return Err(Errno::ENOTDIR),
    };
    found.map(Node::ino).ok_or(Errno::ENOENT)
}

/// Attributes. Contents have no size until they are read.
pub(crate) fn attr(k: &mut Kernel, _p: &mut Ports<'_>, ino: Ino) -> Result<Attr, Errno> {
    let k = &*k;
    let node = Node::of(k, ino)?;
    let mode = node.mode(k);
    let (uid, gid) = match node {
        Node::System(_) | Node::OwnLink { .. } => (0, 0),
        Node::Dir(view) | Node::TaskDir(view) => view.owner(k),
        Node::File(view, place) if process::FILES[place].1.mode() == g::S_IFDIR | 0o555 => {
            view.owner(k)
        }
        Node::FdDir(view)
        | Node::FdInfoDir(view)
        | Node::File(view, _)
        | Node::Fd(view, _)
        | Node::FdInfo(view, _) => view.owner_of_files(k),
    };
    let now = Time::from_nanos(k.system.now.real);
    Ok(Attr {
        mode,
        uid,
        gid,
        nlink: if mode & g::S_IFMT == g::S_IFDIR { 2 } else { 1 },
        size: match node {
            // Linux shows the room a descriptor's link would take, and how many descriptors there are.
            Node::Fd(..) => 64,
            Node::FdDir(view) => view.fds(k).len() as u64,
            _ => 0,
        },
        atime: now,
        mtime: now,
        ctime: now,
        btime: now,
        ..Attr::default()
    })
}

/// Target of a symbolic link as text, for readlink(2).
pub(crate) fn read_link(
    k: &mut Kernel,
    _p: &mut Ports<'_>,
    viewer: Option<ThreadId>,
    inode: InodeRef,
) -> Result<Vec<u8>, Errno> {
    let k = &*k;
    let thread = viewer.ok_or(Errno::ENOENT)?;
    let ns = pids(k, inode.fs);
    match Node::of(k, inode.ino)? {
        Node::System(place) => match PATHS[place].1 {
            Kind::Link(target) => Ok(target.as_bytes().to_vec()),
            _ => Err(Errno::EINVAL),
        },
        Node::OwnLink { thread: own } => {
            let task = k.tasks.get(thread).ok_or(Errno::ENOENT)?;
            let (tgid, tid) = (pid::show(k, ns, task.tgid), pid::show(k, ns, task.tid));
            match (tgid, own) {
                (0, _) => Err(Errno::ENOENT),
                (_, false) => Ok(format!("{tgid}").into_bytes()),
                (_, true) => Ok(format!("{tgid}/task/{tid}").into_bytes()),
            }
        }
        Node::File(view, place) => process::FILES[place].1.read_link(k, thread, view),
        Node::Fd(view, fd) => {
            process::check_access(k, thread, view)?;
            let file = view.file(k, fd).ok_or(Errno::ENOENT)?;
            process::file_text(k, thread, file)
        }
        _ => Err(Errno::EINVAL),
    }
}

/// Where a magic link (`exe`, `cwd`, `root`, `fd/N`) leads, without a reference; `None` for a link that is followed by its text.
pub(crate) fn jump(
    k: &mut Kernel,
    viewer: Option<ThreadId>,
    ino: Ino,
) -> Result<Option<PathRef>, Errno> {
    let node = Node::of(k, ino)?;
    if let (Node::File(view, _) | Node::Fd(view, _), Some(thread)) = (node, viewer) {
        process::check_access(k, thread, view)?;
    }
    let target = match node {
        Node::File(view, place) => match process::FILES[place].1 {
            process::Kind::Link(target) => target(k, view),
            kind @ (process::Kind::Namespace(_) | process::Kind::Children) => {
                let ns = kind.namespace(k, view).and_then(|(_, ns)| ns);
                let dentry = crate::ns::dentry_of(k, ns.ok_or(Errno::ENOENT)?);
                dentry.map(|dentry| PathRef {
                    mount: super::anon::MOUNT,
                    dentry,
                })
            }
            _ => return Ok(None),
        },
        Node::Fd(view, fd) => view
            .file(k, fd)
            .and_then(|id| k.vfs.file(id))
            .map(|open| open.path),
        _ => return Ok(None),
    };
    target.map(Some).ok_or(Errno::ENOENT)
}

/// Most bytes of one file's contents: tables of long paths could take any amount.
const TEXT_MAX: usize = 64 << 20;
/// What is shown for a path that is longer than any that programs can use.
const TOO_LONG: &[u8] = b"//toolong";

/// The lines of a table. `ENOMEM` past [`TEXT_MAX`].
fn table(lines: impl Iterator<Item = Vec<u8>>) -> Result<Vec<u8>, Errno> {
    let mut text = Vec::new();
    for line in lines {
        if text.len() + line.len() > TEXT_MAX {
            return Err(Errno::ENOMEM);
        }
        text.extend_from_slice(&line);
    }
    Ok(text)
}

/// Contents of a regular file as they are now.
pub(crate) fn content(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    viewer: Option<ThreadId>,
    inode: InodeRef,
) -> Result<Vec<u8>, Errno> {
    let thread = viewer.ok_or(Errno::ENOENT)?;
    let ns = pids(k, inode.fs);
    match Node::of(k, inode.ino)? {
        Node::System(place) => match PATHS[place].1 {
            Kind::File(make) | Kind::Value(make) => Ok(make(k)),
            Kind::Own(make) => make(k, thread),
            Kind::Shown(make) => make(k, p, thread),
            Kind::Text(text) | Kind::Tunable(text) => Ok(text.as_bytes().to_vec()),
            _ => Err(Errno::EINVAL),
        },
        Node::File(view, place) => match process::FILES[place].1 {
            process::Kind::File(_, make) | process::Kind::Private(_, make) => {
                make(k, p, thread, view)
            }
            process::Kind::Numbers(make) => make(k, view, thread, ns),
            _ => Err(Errno::EINVAL),
        },
        Node::FdInfo(view, fd) => fdinfo::fd_info(k, view, fd, ns),
        _ => Err(Errno::EISDIR),
    }
}

/// Who opens a file of which writes are judged by that: a map of users or groups, and of which namespace.
pub(crate) fn opener(cx: &Cx<'_, '_>, id: FileId) -> Option<Box<Opener>> {
    let file = super::file::at(cx.k, id);
    let inode = file.inode.filter(|_| file.writable())?;
    let Filesystem::Proc(_) = cx.k.vfs.filesystem(inode.fs) else {
        return None;
    };
    let Some(Node::File(view, place)) = Node::parse(inode.ino) else {
        return None;
    };
    identity::numbers(process::FILES[place].0)?;
    let of = identity::namespace(cx.k, view).ok()?;
    let creds = cx.creds().clone();
    Some(Box::new(Opener { creds, of }))
}

/// Writes to an open file (`comm`, `oom_score_adj`); `EIO`, `EINVAL` where nothing can be written.
pub(crate) fn write(
    cx: &mut Cx<'_, '_>,
    id: FileId,
    ino: Ino,
    at: u64,
    data: &[u8],
) -> Result<(), Errno> {
    match Node::of(cx.k, ino)? {
        Node::File(_, place) if identity::numbers(process::FILES[place].0).is_some() => {
            identity::set_map(cx, id, process::FILES[place].0, at, data)
        }
        Node::File(view, place) => {
            process::write(cx.k, cx.thread, view, process::FILES[place].0, data)
        }
        // Whoever may write everything opens them all the same.
        Node::System(_) => Err(Errno::EIO),
        _ => Err(Errno::EINVAL),
    }
}

/// What opening a file asks beyond its permissions: the right to look into a process; and `/proc/sys` is read-only, as in a container.
pub(crate) fn may_open(k: &Kernel, thread: ThreadId, ino: Ino, writes: bool) -> Result<(), Errno> {
    match Node::of(k, ino)? {
        Node::System(place) => match PATHS[place].1 {
            Kind::Closed(_) => Err(Errno::EPERM),
            Kind::Value(_) | Kind::Own(_) | Kind::Tunable(_) if writes => Err(Errno::EROFS),
            // Not even CAP_DAC_OVERRIDE makes settings writable that are not (`proc_sys_permission()`).
            _ if writes && PATHS[place].0.starts_with("sys/") => Err(Errno::EACCES),
            _ => Ok(()),
        },
        Node::File(view, place) => match process::FILES[place].1 {
            process::Kind::Private(..) => process::check_access(k, thread, view),
            // An ended process has no mounts.
            _ if process::FILES[place].0.starts_with("mount") && view.context(k).is_none() => {
                Err(Errno::EINVAL)
            }
            _ if writes && process::FILES[place].0 == "setgroups" => {
                identity::check_setgroups(k, thread, view)
            }
            _ => Ok(()),
        },
        Node::FdDir(view) | Node::FdInfoDir(view) | Node::FdInfo(view, _) => {
            process::check_access(k, thread, view)
        }
        _ => Ok(()),
    }
}

/// Gives the entries of a directory from `cookie` on, as
/// [`InodeOps::read_dir`](super::filesystem::InodeOps::read_dir) does.
pub(crate) fn read_dir(
    k: &mut Kernel,
    _p: &mut Ports<'_>,
    _viewer: Option<ThreadId>,
    dir: InodeRef,
    cookie: u64,
    each: &mut dyn FnMut(Entry<'_>) -> bool,
) -> Result<(), Errno> {
    /// Cookies of processes, threads and descriptors begin here: they follow all others and go by number.
    const NUMBERED: u64 = 0x1_0000;
    let k = &*k;
    let mut named: Vec<(&[u8], Node)> = Vec::new();
    let mut numbered: Vec<(u32, Node)> = Vec::new();
    let ns = pids(k, dir.fs);
    match Node::of(k, dir.ino)? {
        Node::System(place) if matches!(PATHS[place].1, Kind::Dir) => {
            if place == 0 {
                named.push((b"self", Node::OwnLink { thread: false }));
                named.push((b"thread-self", Node::OwnLink { thread: true }));
                let all = k.tasks.groups();
                let all =
                    all.map(|id| (pid::show(k, ns, id), Node::Dir(View { id, thread: false })));
                numbered.extend(all.filter(|&(number, _)| number > 0));
                numbered.sort_unstable_by_key(|&(number, _)| number);
            }
            named.extend(
                system::entries(place).map(|place| (system::last(place), Node::System(place))),
            );
        }
        Node::Dir(view) => {
            if !view.thread {
                named.push((b"task", Node::TaskDir(view)));
            }
            named.push((b"fd", Node::FdDir(view)));
            named.push((b"fdinfo", Node::FdInfoDir(view)));
            named.extend(process_entries(view, ""));
        }
        Node::File(view, place) if matches!(process::FILES[place].1, process::Kind::Dir(_)) => {
            named.extend(process_entries(view, process::FILES[place].0));
        }
        Node::TaskDir(view) => {
            let tgid = view.task(k).map_or(0, |task| task.tgid);
            let all = k.tasks.threads(tgid);
            let all = all.map(|id| (pid::show(k, ns, id), Node::Dir(View { id, thread: true })));
            numbered.extend(all.filter(|&(number, _)| number > 0));
            numbered.sort_unstable_by_key(|&(number, _)| number);
        }
        Node::FdDir(view) => {
            numbered.extend(view.fds(k).into_iter().map(|fd| (fd, Node::Fd(view, fd))))
        }
        Node::FdInfoDir(view) => {
            numbered.extend(
                view.fds(k)
                    .into_iter()
                    .map(|fd| (fd, Node::FdInfo(view, fd))),
            );
        }
        _ => return Err(Errno::ENOTDIR),
    }
    let named = named.into_iter().enumerate().map(|(index, (name, node))| {
        // Cookies up to 2 belong to "." and "..".
        (index as u64 + 3, name.to_vec(), node)
    });
    let numbered = numbered.into_iter().map(|(id, node)| {
        (
            NUMBERED + u64::from(id) + 1,
            format!("{id}").into_bytes(),
            node,
        )
    });
    for (next, name, node) in named.chain(numbered).filter(|&(next, ..)| next > cookie) {
        let kind = (node.mode(k) >> 12) as u8;
        if !each(Entry {
            name: &name,
            ino: node.ino(),
            kind,
            next,
        }) {
            break;
        }
    }
    Ok(())
}

fn process_entries(view: View, dir: &str) -> impl Iterator<Item = (&'static [u8], Node)> {
    process::entries(dir).map(move |place| (process::last(place), Node::File(view, place)))
}

/// Sizes.
pub(crate) fn statfs() -> StatFs {
    StatFs {
        magic: u64::from(g::PROC_SUPER_MAGIC),
        block_size: 4096,
        ..StatFs::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inode_numbers_say_what_they_are() {
        let view = View {
            id: 7,
            thread: false,
        };
        let thread = View {
            id: 8,
            thread: true,
        };
        for node in [
            Node::System(0),
            Node::System(5),
            Node::OwnLink { thread: true },
            Node::Dir(view),
            Node::Dir(thread),
            Node::TaskDir(view),
            Node::FdDir(thread),
            Node::FdInfoDir(view),
            Node::File(view, 3),
            Node::Fd(view, 1_000_000),
            Node::FdInfo(thread, 0),
        ] {
            assert_eq!(Node::parse(node.ino()), Some(node));
        }
        assert_eq!(Node::System(0).ino(), ROOT);
        assert_eq!(Node::parse(Ino(0)), None);
        assert_eq!(Node::parse(Ino(u64::MAX)), None);
    }

    #[test]
    fn only_plain_decimal_numbers_name_processes() {
        assert_eq!(decimal(b"17"), Some(17));
        assert_eq!(decimal(b"0"), Some(0));
        for name in [&b"017"[..], b"+1", b"-1", b"", b"1x", b"99999999999"] {
            assert_eq!(decimal(name), None);
        }
    }
}
