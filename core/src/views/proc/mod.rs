//! The `proc` file system (proc(5)): inodes are numbers made of a process and what is told about it; contents
//! are made when a file is opened.
//!
//! `system` holds what tells of the whole system, `process` what tells of one process or thread: both are
//! tables of paths. `state`, `identity`, `mounts`, `net` and `fdinfo` make contents of some of the latter;
//! `listed` has those with a line for each of many things.
//! `hide` has the options of an instance.

pub(crate) mod events;
mod fdinfo;
mod hide;
mod identity;
mod listed;
pub(crate) mod mem;
mod memory;
mod mounts;
mod net;
mod opened;
mod process;
mod shown;
mod state;
mod sysctl;
mod system;
mod sysvipc;

use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;

pub(crate) use hide::{check_attr, check_enter};
use process::View;
pub(crate) use process::{file_text, path_text};
pub(crate) use shown::{Contents, Shown};
use system::{Kind, PATHS};

use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::cred::Creds;
use crate::cred::groups::Groups;
use crate::cred::ns::user::Opener;
use crate::cred::ns::{NsId, PID, pid};
use crate::file::{FileId, FileKind};
use crate::fs::filesystem::{Attr, Entry, Filesystem, FsId, Ino, InodeRef, Time};
use crate::fs::view::{Hide, Options};
use crate::machine::{SpaceId, ThreadId};
use crate::port::Ports;
use crate::task::Cx;
use crate::vfs::caller::Callers;
use crate::vfs::mount::PathRef;
use crate::vfs::perm::Who;
use crate::{Kernel, file};

/// The options of an instance.
fn settings(k: &Kernel, fs: FsId) -> Options {
    match k.fs.filesystem(fs) {
        Filesystem::Proc(proc) => proc.options,
        _ => Options::DEFAULT,
    }
}

/// The PID namespace of an instance.
fn pids(k: &Kernel, fs: FsId) -> NsId {
    match k.fs.filesystem(fs) {
        Filesystem::Proc(proc) => proc.pids,
        _ => PID,
    }
}

/// The process whose directory an inode of `proc` is. Those of threads (`task/TID`) are not.
pub(crate) fn process_of(ino: Ino) -> Option<u32> {
    match Node::parse(ino)? {
        Node::Dir(view) if !view.thread => Some(view.id),
        _ => None,
    }
}

/// Whether an inode is the directory of a process that is there.
pub(crate) fn exists(k: &Kernel, inode: InodeRef) -> bool {
    let id =
        process_of(inode.ino).filter(|_| matches!(k.fs.filesystem(inode.fs), Filesystem::Proc(_)));
    id.is_some_and(|id| k.tasks.group_exists(id))
}

/// What an inode number stands for.
///
/// The number: process or thread in bits 32..63, whether it is the view of a single thread in bit 63, what it
/// is in bits 28..31, and a place in a table or a descriptor below.
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

    /// The node of an inode. `ESRCH` if its process has gone.
    fn of(k: &Kernel, ino: Ino) -> Result<Node, Errno> {
        let node = Node::parse(ino).ok_or(Errno::ENOENT)?;
        match node.view() {
            Some(view) if view.task(k).is_none() => Err(Errno::ESRCH),
            _ => Ok(node),
        }
    }

    /// Whose it is.
    fn view(self) -> Option<View> {
        match self {
            Node::System(_) | Node::OwnLink { .. } => None,
            Node::Dir(view) | Node::TaskDir(view) | Node::FdDir(view) | Node::FdInfoDir(view) => {
                Some(view)
            }
            Node::File(view, _) | Node::Fd(view, _) | Node::FdInfo(view, _) => Some(view),
        }
    }

    /// What programs are told that look a name up in the directory of a process that has gone: the directory
    /// itself lets nobody in any more, in others there is nothing.
    fn gone(self) -> Errno {
        match self {
            Node::Dir(_) | Node::TaskDir(_) => Errno::ESRCH,
            _ => Errno::ENOENT,
        }
    }

    /// Number of links: directories have one from each directory in them, but those of settings.
    fn links(self, k: &Kernel) -> u32 {
        let count = match self {
            Node::System(place) if PATHS[place].0.starts_with("sys") && place != 0 => {
                let of_settings = PATHS[place].0 == "sys" || PATHS[place].0.starts_with("sys/");
                return match of_settings {
                    true => 1,
                    false => 2,
                };
            }
            Node::System(0) => system::directories(0) + k.tasks.group_count(),
            Node::System(place) => system::directories(place),
            Node::Dir(view) => process::directories() + 2 + usize::from(!view.thread),
            Node::TaskDir(view) => match view.task(k) {
                Some(task) => k.tasks.thread_count(task.tgid),
                None => 0,
            },
            _ => 0,
        };
        2 + count as u32
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
    who: &Who,
    dir: InodeRef,
    name: &[u8],
) -> Result<Ino, Errno> {
    let k = &*k;
    let ns = pids(k, dir.fs);
    let number = |name: &[u8]| pid::find(k, ns, decimal(name)?);
    let node = Node::parse(dir.ino).ok_or(Errno::ENOENT)?;
    let found = match Node::of(k, dir.ino).map_err(|_| node.gone())? {
        Node::System(0) => match (name, number(name)) {
            (b"self", _) => Some(Node::OwnLink { thread: false }),
            (b"thread-self", _) => Some(Node::OwnLink { thread: true }),
            (_, Some(id)) => {
                let view = View { id, thread: false };
                let options = settings(k, dir.fs);
                let visible = options.hide != Hide::Always
                    || hide::sees(k, &options, who, view, Hide::Always);
                view.task(k).filter(|_| visible).map(|_| Node::Dir(view))
            }
            _ if settings(k, dir.fs).only_processes => None,
            _ => system::child(0, name).map(Node::System),
        },
        Node::System(place) if matches!(PATHS[place].1, Kind::Dir) => {
            system::child(place, name).map(Node::System)
        }
        Node::Dir(view) => match name {
            b"task" if !view.thread => Some(Node::TaskDir(view)),
            b"fd" => Some(Node::FdDir(view)),
            b"fdinfo" => Some(Node::FdInfoDir(view)),
            _ => process::find("", name)
                .filter(|&place| process::is_shown(place, view))
                .map(|place| Node::File(view, place)),
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
    let node = Node::parse(ino).ok_or(Errno::ENOENT)?;
    // What is still open of a process that has gone keeps its attributes, as Linux has it.
    if let (Node::FdDir(_) | Node::Fd(..) | Node::FdInfo(..), Err(_)) = (node, Node::of(k, ino)) {
        return Err(Errno::ENOENT);
    }
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
    let now = Time::from_nanos(k.env.now.real);
    Ok(Attr {
        mode,
        uid,
        gid,
        nlink: match mode & g::S_IFMT {
            g::S_IFDIR => node.links(k),
            _ => 1,
        },
        size: match node {
            // Linux shows the room a descriptor's link would take, and how many descriptors there are.
            Node::Fd(..) => 64,
            Node::FdDir(view) => u64::from(view.fd_count(k)),
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
    p: &mut Ports<'_>,
    viewer: Option<ThreadId>,
    inode: InodeRef,
) -> Result<Vec<u8>, Errno> {
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
        Node::File(view, place) => process::FILES[place].1.read_link(k, p, thread, view),
        Node::Fd(view, fd) => {
            process::check_access(k, thread, view)?;
            let file = view.file(k, fd).ok_or(Errno::ENOENT)?;
            let path = *k.files.file(file).ok_or(Errno::ENOENT)?.path;
            process::target_text(k, p, thread, path)
        }
        _ => Err(Errno::EINVAL),
    }
}

/// Where a magic link (`exe`, `cwd`, `root`, `fd/N`) leads, without a reference; `None` for a link that is
/// followed by its text.
pub(crate) fn jump(k: &mut Kernel, who: &Who, ino: Ino) -> Result<Option<PathRef>, Errno> {
    let node = Node::of(k, ino)?;
    if let Node::File(view, _) | Node::Fd(view, _) = node {
        process::check_access_by(k, who, view)?;
    }
    let target = match node {
        Node::File(view, place) => match process::FILES[place].1 {
            process::Kind::Link(target) => target(k, view),
            kind @ (process::Kind::Namespace(_) | process::Kind::Children) => {
                let ns = kind.namespace(k, view).and_then(|(_, ns)| ns);
                let dentry = crate::ns::dentry_of(k, ns.ok_or(Errno::ENOENT)?);
                dentry.map(|dentry| PathRef {
                    mount: crate::fs::anon::MOUNT,
                    dentry,
                })
            }
            _ => return Ok(None),
        },
        Node::Fd(view, fd) => view
            .file(k, fd)
            .and_then(|id| k.files.file(id))
            .map(|open| *open.path),
        _ => return Ok(None),
    };
    target.map(Some).ok_or(Errno::ENOENT)
}

/// What is shown for a path that is longer than any that programs can use.
const TOO_LONG: &[u8] = b"//toolong";

/// Contents of a regular file as they are now.
pub(crate) fn content(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    viewer: Option<ThreadId>,
    inode: InodeRef,
) -> Result<Shown, Errno> {
    let thread = viewer.ok_or(Errno::ENOENT)?;
    let ns = pids(k, inode.fs);
    let node = Node::of(k, inode.ino)?;
    if let Node::File(view, place) = node
        && let process::Kind::Records(_, make) | process::Kind::MemoryRecords(_, make) =
            process::FILES[place].1
    {
        return Ok(make(k, view)?.map_or_else(Shown::default, Shown::records));
    }
    match node {
        Node::System(place) => {
            if let Kind::Records(begin) = PATHS[place].1 {
                return Ok(Shown::records(begin()));
            }
        }
        Node::FdInfo(view, fd) => {
            let cursor = fdinfo::Cursor::new(k, view, fd, ns)?;
            return Ok(Shown::records(listed::descriptor(cursor)));
        }
        _ => {}
    }
    let text = match node {
        Node::System(place) => match PATHS[place].1 {
            Kind::File(make) | Kind::Value(make) => Ok(make(k)),
            Kind::Name(domain) => system::name(k, thread, domain),
            kind if sysctl::is_shown(kind) => sysctl::show(k, thread, kind),
            Kind::Text(text) | Kind::Tunable(text) => Ok(text.as_bytes().to_vec()),
            _ => Err(Errno::EINVAL),
        },
        Node::File(view, place) => match process::FILES[place].1 {
            process::Kind::File(_, make)
            | process::Kind::Memory(_, make)
            | process::Kind::Private(_, make) => make(k, p, thread, view),
            process::Kind::Judged(_, errno, make) => {
                let allowed = process::check_access(k, thread, view);
                allowed.map_err(|found| match found {
                    Errno::EACCES => errno,
                    gone => gone,
                })?;
                make(k, p, thread, view)
            }
            process::Kind::Numbers(make) => make(k, view, thread, ns),
            _ => Err(Errno::EINVAL),
        },
        _ => Err(Errno::EISDIR),
    };
    text.map(Shown::whole)
}

/// Whether the process of an inode still has the memory that a file was opened to tell of. `ESRCH` if areas
/// are listed and there is no process.
pub(crate) fn has_space(k: &Kernel, ino: Ino, space: SpaceId) -> Result<bool, Errno> {
    let Some(Node::File(view, place)) = Node::parse(ino) else {
        return Ok(false);
    };
    match (view.task(k), process::FILES[place].1) {
        (Some(task), _) => Ok(!task.exited && task.space == space),
        (None, process::Kind::MemoryRecords(..)) => Err(Errno::ESRCH),
        (None, _) => Ok(false),
    }
}

/// What an open file shows that does not depend on its process any more; `None` if it is made from the inode.
pub(crate) fn opened(k: &Kernel, thread: ThreadId, id: FileId, inode: InodeRef) -> Option<Vec<u8>> {
    if !matches!(k.fs.filesystem(inode.fs), Filesystem::Proc(_)) {
        return None;
    }
    match Node::parse(inode.ino)? {
        Node::File(_, place) => identity::opened(k, thread, id, place),
        _ => None,
    }
}

/// What an open file of this inode is.
pub(crate) fn kind_of(k: &mut Kernel, thread: ThreadId, ino: Ino) -> Result<FileKind, Errno> {
    Ok(match Node::of(k, ino)? {
        Node::File(view, place) => match process::FILES[place].0 {
            "mem" => FileKind::Memory(mem::open(k, thread, view)?),
            "pagemap" => FileKind::PageMap(mem::open(k, thread, view)?),
            // What tells of memory goes on to tell of the memory that was there when it was opened.
            _ => {
                let space = match process::FILES[place].1 {
                    process::Kind::Memory(..) | process::Kind::MemoryRecords(..) => {
                        Some(view.live(k)?.space)
                    }
                    _ => None,
                };
                k.files.made.open(space)
            }
        },
        _ => k.files.made.open(None),
    })
}

/// Who opens a file of which writes are judged by that: a map of users or groups, and of which namespace. It
/// stays that one's when the process ends.
pub(crate) fn opener(k: &Kernel, thread: ThreadId, id: FileId) -> Option<Box<Opener>> {
    let file = file::at(k, id);
    let inode = file.inode?;
    let Filesystem::Proc(_) = k.fs.filesystem(inode.fs) else {
        return None;
    };
    let Some(Node::File(view, place)) = Node::parse(inode.ino) else {
        return None;
    };
    identity::numbers(process::FILES[place].0)?;
    let of = identity::namespace(k, view).ok()?;
    // Groups have no part in the judgement, and may be many.
    let creds = Creds {
        groups: Groups::none(),
        ..Creds::clone(k.creds_of(thread))
    };
    Some(Box::new(Opener { creds, of }))
}

/// Writes to an open file (`comm`, `oom_score_adj`), at a place or at the file's offset, which that of
/// settings moves then; gives how many bytes were taken. `EIO`, `EINVAL` where nothing can be written.
pub(crate) fn write(
    cx: &mut Cx<'_, '_>,
    id: FileId,
    ino: Ino,
    at: Option<u64>,
    data: &[u8],
) -> Result<u64, Errno> {
    let offset = at.unwrap_or(file::at(cx.k, id).offset);
    match Node::of(cx.k, ino)? {
        Node::System(place) => {
            return sysctl::write(cx, id, place, at, data);
        }
        Node::File(_, place) if identity::numbers(process::FILES[place].0).is_some() => {
            identity::set_map(cx, id, process::FILES[place].0, offset, data)
        }
        Node::File(view, place) => {
            process::write(cx.k, cx.thread, view, process::FILES[place].0, data)
        }
        _ => Err(Errno::EINVAL),
    }?;
    Ok(data.len() as u64)
}

/// `ESRCH` for a file that tells of the memory of a process which has none any more.
fn has_memory(k: &Kernel, view: View, place: usize) -> Result<(), Errno> {
    let needs = process::NEED_MEMORY.contains(&process::FILES[place].0);
    match needs && view.live(k)?.exited {
        true => Err(Errno::ESRCH),
        false => Ok(()),
    }
}

/// To whom a setting belongs as somebody is told: that of a namespace to its root. `None`: to whom its
/// attributes say.
pub(crate) fn owner(k: &Kernel, who: &Who, ino: Ino) -> Option<(u32, u32)> {
    match Node::parse(ino)? {
        Node::System(place) => sysctl::owner(k, who, place),
        _ => None,
    }
}

/// Whether a file shows numbers of settings.
pub(crate) fn is_numbers(k: &Kernel, inode: InodeRef) -> bool {
    matches!(k.fs.filesystem(inode.fs), Filesystem::Proc(_))
        && matches!(Node::parse(inode.ino), Some(Node::System(place)) if sysctl::is_shown(PATHS[place].1))
}

/// What reading and writing of settings need (`proc_sys_permission()`); `None` for other files, which go by
/// their permission bits.
pub(crate) fn permission(k: &Kernel, who: &Who, ino: Ino, mask: u32) -> Option<Result<(), Errno>> {
    match Node::parse(ino)? {
        Node::System(place) => sysctl::permission(k, who, place, mask),
        _ => None,
    }
}

/// What opening a file asks beyond its permissions: the right to look into a process.
pub(crate) fn may_open(k: &Kernel, thread: ThreadId, ino: Ino, writes: bool) -> Result<(), Errno> {
    match Node::of(k, ino)? {
        Node::System(place) => match PATHS[place].1 {
            Kind::Closed(_) => Err(Errno::EPERM),
            _ => Ok(()),
        },
        Node::File(view, place) => match process::FILES[place].1 {
            process::Kind::Memory(..) | process::Kind::MemoryRecords(..) => {
                process::check_memory(k, thread, view)?;
                has_memory(k, view, place)
            }
            process::Kind::Private(..) if process::FILES[place].0 == "clear_refs" => Ok(()),
            process::Kind::Private(..) => {
                process::check_access(k, thread, view)?;
                has_memory(k, view, place)
            }
            // An ended process has no mounts.
            _ if process::FILES[place].0.starts_with("mount") && view.context(k).is_none() => {
                Err(Errno::EINVAL)
            }
            _ if writes && process::FILES[place].0 == "setgroups" => {
                identity::check_setgroups(k, thread, view)
            }
            _ => Ok(()),
        },
        // The permissions of `fd` are enough to list it.
        Node::FdInfoDir(view) | Node::FdInfo(view, _) => process::check_access(k, thread, view),
        _ => Ok(()),
    }
}

/// Gives the entries of a directory from `cookie` on, as
/// [`InodeOps::read_dir`](crate::fs::filesystem::InodeOps::read_dir) does.
pub(crate) fn read_dir(
    k: &mut Kernel,
    _p: &mut Ports<'_>,
    who: &Who,
    dir: InodeRef,
    cookie: u64,
    each: &mut dyn FnMut(Entry<'_>) -> bool,
) -> Result<(), Errno> {
    /// Cookies of processes, threads and descriptors begin here: they follow all others and go by number.
    const NUMBERED: u64 = 0x1_0000;
    let k = &*k;
    let mut named: Vec<(&[u8], Node)> = Vec::new();
    let mut numbered: Box<dyn Iterator<Item = (u32, Node)>> = Box::new(core::iter::empty());
    // The first number that is asked for.
    let first = u32::try_from(cookie.saturating_sub(NUMBERED)).unwrap_or(u32::MAX);
    let (ns, options) = (pids(k, dir.fs), settings(k, dir.fs));
    match Node::of(k, dir.ino).map_err(|_| Errno::ENOENT)? {
        Node::System(place) if matches!(PATHS[place].1, Kind::Dir) => {
            if place == 0 {
                named.push((b"self", Node::OwnLink { thread: false }));
                named.push((b"thread-self", Node::OwnLink { thread: true }));
                let seen = |&(_, id): &(u32, u32)| {
                    let view = View { id, thread: false };
                    hide::sees(k, &options, who, view, Hide::Directory)
                };
                let node = |(number, id)| (number, Node::Dir(View { id, thread: false }));
                let all = crate::ns::pids::processes(k, ns, first);
                numbered = Box::new(all.filter(seen).map(node));
            }
            if !options.only_processes {
                named.extend(
                    system::entries(place).map(|place| (system::last(place), Node::System(place))),
                );
            }
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
            let node = |(number, id)| (number, Node::Dir(View { id, thread: true }));
            numbered = Box::new(crate::ns::pids::threads(k, ns, tgid, first).map(node));
        }
        Node::FdDir(view) => {
            numbered = Box::new(
                view.fds_from(k, first)
                    .map(move |fd| (fd, Node::Fd(view, fd))),
            );
        }
        Node::FdInfoDir(view) => {
            let node = move |fd| (fd, Node::FdInfo(view, fd));
            numbered = Box::new(view.fds_from(k, first).map(node));
        }
        _ => return Err(Errno::ENOTDIR),
    }
    let named = named.into_iter().enumerate().map(|(index, (name, node))| {
        // Cookies up to 2 belong to "." and "..".
        (index as u64 + 3, name.to_vec(), node)
    });
    let numbered = numbered.map(|(id, node)| {
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
    process::entries(dir)
        .filter(move |&place| process::is_shown(place, view))
        .map(move |place| (process::last(place), Node::File(view, place)))
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
        assert_eq!(Node::System(0).ino(), crate::fs::view::ROOT);
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
