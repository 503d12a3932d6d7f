//! Opening files (open(2), openat2(2)).

use bitflags::Flags as _;

use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::args::{AtFlags, DirFd, OnExec, OpenFlags, ResolveFlags};
use crate::boot::Stdio;
use crate::cred::landlock::FsAccess;
use crate::env::cx::Cx;
use crate::env::settings;
use crate::env::wait::{Blocking, Stop, Wait, WaitKey};
use crate::file;
use crate::file::caller::FileCallers;
use crate::file::device::Target;
use crate::file::ops;
use crate::file::pipe::PipeId;
use crate::file::{File, FileId, FileKind, device, fdtable, inotify, lease, pipe};
use crate::fs::anon::Object;
use crate::fs::filesystem::{Attr, InodeRef, NewNode, SetAttr, Time};
use crate::fs::inode::FsKind;
use crate::fs::{anon, flags, inode};
use crate::port::Ports;
use crate::vfs::mount::{
    self, HeldPath, MountFlags, MountId, PathRef, detached, get_path, put_path,
};
use crate::vfs::perm::{self, MAY_EXEC, MAY_READ, MAY_WRITE};
use crate::vfs::walk::{self, Flags, FollowedTo, Last};
use crate::vfs::{Vfs, landlock, names, node};

/// `__O_TMPFILE` without `O_DIRECTORY`.
const TMPFILE_BIT: OpenFlags = OpenFlags::TMPFILE.difference(OpenFlags::DIRECTORY);
/// What `O_PATH` goes with.
const PATH_FLAGS: OpenFlags = OpenFlags::DIRECTORY
    .union(OpenFlags::NOFOLLOW)
    .union(OpenFlags::PATH)
    .union(OpenFlags::CLOEXEC);
/// What an open file does not keep.
const PASSING: OpenFlags = OpenFlags::EXCL
    .union(OpenFlags::NOCTTY)
    .union(OpenFlags::TRUNC)
    .union(OpenFlags::CLOEXEC);
/// What makes a file.
const MAKES: OpenFlags = OpenFlags::CREAT.union(TMPFILE_BIT);

/// How a file is opened: `struct open_how`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct How {
    pub flags: OpenFlags,
    pub mode: u32,
    pub resolve: Flags,
}

impl How {
    /// As open(2) understands its arguments.
    pub(crate) fn from_open(flags: OpenFlags, mode: u32) -> How {
        let mut flags = OpenFlags::from_bits_truncate(flags.bits());
        if flags.contains(OpenFlags::PATH) {
            flags &= PATH_FLAGS;
        }
        let creates = flags.intersects(MAKES);
        How {
            flags,
            mode: if creates { mode & 0o7777 } else { 0 },
            resolve: Flags::empty(),
        }
    }

    /// As openat2(2) understands its arguments.
    pub(crate) fn from_openat2(flags: u64, mode: u64, resolve: u64) -> Result<How, Errno> {
        let resolve = ResolveFlags::from_bits_retain(resolve);
        let mut walk = Flags::empty();
        for (bit, flag) in [
            (ResolveFlags::NO_XDEV, Flags::NO_XDEV),
            (ResolveFlags::NO_MAGICLINKS, Flags::NO_MAGICLINKS),
            (ResolveFlags::NO_SYMLINKS, Flags::NO_SYMLINKS),
            (ResolveFlags::BENEATH, Flags::BENEATH),
            (ResolveFlags::IN_ROOT, Flags::IN_ROOT),
            (ResolveFlags::CACHED, Flags::CACHED),
        ] {
            walk.set(flag, resolve.contains(bit));
        }
        let flags = u32::try_from(flags).map_err(|_| Errno::EINVAL)?;
        let flags = OpenFlags::from_bits_retain(flags);
        if flags.contains_unknown_bits()
            || resolve.contains_unknown_bits()
            || walk.contains(Flags::BENEATH | Flags::IN_ROOT)
        {
            return Err(Errno::EINVAL);
        }
        let creates = flags.intersects(MAKES);
        if creates && mode & !0o7777 != 0 || !creates && mode != 0 {
            return Err(Errno::EINVAL);
        }
        if flags.contains(OpenFlags::PATH) && !PATH_FLAGS.contains(flags) {
            return Err(Errno::EINVAL);
        }
        if walk.contains(Flags::CACHED) && flags.intersects(OpenFlags::TRUNC | MAKES) {
            return Err(Errno::EAGAIN);
        }
        Ok(How {
            flags,
            mode: mode as u32,
            resolve: walk,
        })
    }

    /// What is asked of the file.
    fn access(self) -> u32 {
        let mask = match self.flags.access_mode() {
            OpenFlags::RDONLY => MAY_READ,
            OpenFlags::WRONLY => MAY_WRITE,
            _ => MAY_READ | MAY_WRITE,
        };
        match self.flags.contains(OpenFlags::TRUNC) {
            false => mask,
            true => mask | MAY_WRITE,
        }
    }
}

/// A file that was found or made.
struct Found {
    /// Without a reference of its own.
    path: PathRef,
    created: bool,
}

/// Opens a file for the current task; the result holds one reference.
pub(crate) fn open<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    at: DirFd,
    path: &[u8],
    how: How,
) -> Result<FileId, Stop> {
    let flags = how.flags;
    if flags.contains(TMPFILE_BIT) {
        if !flags.contains(OpenFlags::TMPFILE)
            || flags.contains(OpenFlags::CREAT)
            || how.access() & MAY_WRITE == 0
        {
            return Err(Errno::EINVAL.into());
        }
        let id = open_unnamed(cx, at, path, how)?;
        file::at_mut(cx.k.files_mut(), id).opener = cx.k.committed(cx.thread);
        return Ok(id);
    }
    if flags.contains(OpenFlags::CREAT | OpenFlags::DIRECTORY) {
        return Err(Errno::EINVAL.into());
    }
    let found = match flags.contains(OpenFlags::CREAT) {
        false => find(cx, at, path, how)?,
        true => find_or_create(cx, at, path, how)?,
    };
    let path = get_path(cx.k.files_mut(), found.path);
    if found.created {
        let entry = cx.k.vfs().dentries.at(path.dentry);
        let (dir, name) = (entry.parent, entry.name.clone());
        inotify::named(cx.k.files_mut(), cx.p, dir, &name, inotify::CREATE);
    }
    let result = open_path(cx, *path, how, found.created);
    put_path(cx.k.files_mut(), cx.p, path);
    if let Ok(id) = result {
        file::at_mut(cx.k.files_mut(), id).opener = cx.k.committed(cx.thread);
        file::at_mut(cx.k.files_mut(), id).opened_by = cx.k.made_opener(cx.thread, id);
        ops::told(cx.k, cx.thread, id);
        if !flags.contains(OpenFlags::PATH) {
            inotify::file_event(cx.k.files_mut(), cx.p, id, inotify::OPEN);
            let regular = file::at(cx.k.files(), id).kind == FileKind::Regular;
            if flags.contains(OpenFlags::TRUNC) && !found.created && regular {
                inotify::file_event(cx.k.files_mut(), cx.p, id, inotify::MODIFY);
            }
        }
    }
    result
}

fn find<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    at: DirFd,
    path: &[u8],
    how: How,
) -> Result<Found, Errno> {
    let mut walk = how.resolve;
    walk.set(Flags::FOLLOW, !how.flags.contains(OpenFlags::NOFOLLOW));
    walk.set(Flags::DIRECTORY, how.flags.contains(OpenFlags::DIRECTORY));
    let (mut walker, start) = cx.walker(at, path, walk)?;
    let path = walker.resolve_bare(start, path)?;
    Ok(Found {
        path,
        created: false,
    })
}

fn find_or_create<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    at: DirFd,
    path: &[u8],
    how: How,
) -> Result<Found, Errno> {
    let exclusive = how.flags.contains(OpenFlags::EXCL);
    let umask = cx.fs_context().umask;
    let who = &cx.who();
    let (mut walker, start) = cx.walker(at, path, how.resolve)?;
    let mut place = walker.parent(start, path)?;
    loop {
        let name = match &place.last {
            Last::Name(name) => name.clone(),
            _ if exclusive => return Err(Errno::EEXIST),
            _ => return Err(Errno::EISDIR),
        };
        if place.slash {
            return Err(Errno::EISDIR);
        }
        let dentry = walker.lookup(place.dir.dentry, &name)?;
        let entry = walker.k.vfs().dentries.at(dentry);
        if entry.ino.is_none() {
            mount::want_write(walker.k.files(), place.dir.mount)?;
            let mode = g::S_IFREG | how.mode & !umask;
            let (k, p) = (walker.k, walker.p);
            let path = names::create_at(k, p, who, place.dir, &name, names::Plan::plain(mode))?;
            return Ok(Found {
                path,
                created: true,
            });
        }
        if exclusive {
            return Err(Errno::EEXIST);
        }
        let kind = entry.kind();
        let path = PathRef {
            mount: place.dir.mount,
            dentry,
        };
        if kind != g::S_IFLNK {
            let path = walker.cross(path)?;
            if kind == g::S_IFDIR {
                return Err(Errno::EISDIR);
            }
            may_create_in_sticky(&mut walker, place.dir, path)?;
            return Ok(Found {
                path,
                created: false,
            });
        }
        if how.flags.contains(OpenFlags::NOFOLLOW) {
            return Err(Errno::ELOOP);
        }
        match walker.follow_last(&place, path)? {
            FollowedTo::Place(next) => place = next,
            FollowedTo::Path(path) => {
                return Ok(Found {
                    path,
                    created: false,
                });
            }
        }
    }
}

/// `/proc/sys/fs/protected_regular` and `protected_fifos`: what another user has put into a sticky directory
/// is not opened by who wants to make it, with 1 if all may write there, with 2 also if its group may.
/// `EACCES`.
fn may_create_in_sticky<K: FileCallers>(
    walker: &mut walk::Walker<'_, '_, K>,
    dir: PathRef,
    path: PathRef,
) -> Result<(), Errno> {
    let entry = walker.k.vfs().dentries.at(dir.dentry);
    let (mode, owner) = (entry.mode, entry.uid);
    let found = walker.k.vfs().dentries.at(path.dentry);
    let setting = match found.kind() {
        g::S_IFREG => settings::PROTECTED_REGULAR,
        g::S_IFIFO => settings::PROTECTED_FIFOS,
        _ => return Ok(()),
    };
    let open = match walker.k.files().env.settings.get(setting) {
        0 => return Ok(()),
        1 => mode & g::S_IWOTH != 0,
        _ => mode & (g::S_IWOTH | g::S_IWGRP) != 0,
    };
    if mode & g::S_ISVTX == 0 || !open {
        return Ok(());
    }
    let inode = walker.k.vfs().dentries.inode(path.dentry);
    let attr = node::attr(walker.k, walker.p, inode.ok_or(Errno::ENOENT)?)?;
    let creds = walker.who.creds();
    let own = creds.is_none_or(|creds| creds.fsuid == attr.uid);
    match own || owner == attr.uid {
        true => Ok(()),
        false => Err(Errno::EACCES),
    }
}

/// Makes an open file of a path.
fn open_path<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    path: PathRef,
    how: How,
    created: bool,
) -> Result<FileId, Stop> {
    let inode =
        cx.k.vfs()
            .dentries
            .inode(path.dentry)
            .ok_or(Errno::ENOENT)?;
    let kept = how.flags - OpenFlags::CREAT - PASSING;
    if how.flags.contains(OpenFlags::PATH) {
        return Ok(add(cx, FileKind::Path, path, Some(inode), kept)?);
    }
    let attr = node::attr(cx.k, cx.p, inode)?;
    if !created {
        may_open(cx, path, inode, &attr, how)?;
    }
    let writes = how.flags.access_mode() != OpenFlags::RDONLY;
    let truncates = how.flags.contains(OpenFlags::TRUNC) && !created;
    let in_tree =
        attr.mode & g::S_IFMT == g::S_IFREG && inode::kind(cx.k.files(), inode.fs) == FsKind::Union;
    if in_tree && (writes || truncates) {
        cx.k.files().writers.check_write(inode)?;
    }
    let who = &cx.who();
    let denied = landlock::check_open(cx.k.files_mut(), who, path, &attr, how.flags, false)?;
    if truncates && in_tree && denied.contains(FsAccess::TRUNCATE) {
        return Err(Errno::EACCES.into());
    }
    let flags = kept | OpenFlags::LARGEFILE;
    let kind = match attr.mode & g::S_IFMT {
        _ if inode.fs == anon::FS => return open_anon(cx, path, inode, flags),
        g::S_IFREG => match inode::kind(cx.k.files(), inode.fs) {
            FsKind::Proc => cx.k.made_kind(cx.thread, inode.ino)?,
            FsKind::Sys => cx.k.files_mut().made.open(None),
            _ => FileKind::Regular,
        },
        g::S_IFDIR => FileKind::Directory,
        g::S_IFIFO if flags.contains(OpenFlags::DIRECT) => return Err(Errno::EINVAL.into()),
        g::S_IFIFO => return open_fifo(cx, path, inode, flags, None),
        g::S_IFCHR => match device::find(attr.rdev).ok_or(Errno::ENXIO)? {
            Target::Device(device) => FileKind::Device(device),
            Target::Stream => FileKind::HostStream(0),
            Target::Terminal => FileKind::HostStream(terminal(cx.k.files()).ok_or(Errno::ENXIO)?),
        },
        _ => return Err(Errno::ENXIO.into()),
    };
    if how.flags.contains(OpenFlags::DIRECT) && kind != FileKind::Regular {
        return Err(Errno::EINVAL.into());
    }
    if kind == FileKind::Regular && !created {
        lease::break_for(cx, inode, writes, flags.into())?;
    }
    if truncates && kind == FileKind::Regular {
        cx.k.files().fs.seals.check_size(inode, &attr, 0)?;
        truncate(cx, inode, &attr, 0)?;
    }
    let counted = writes && kind == FileKind::Regular;
    let id = add(cx, kind, path, Some(inode), flags)?;
    file::at_mut(cx.k.files_mut(), id).denied = denied;
    if counted {
        count_writer(cx.k, id, inode)?;
    }
    Ok(id)
}

/// Adds an open file, which holds its place.
fn add<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    kind: FileKind,
    path: PathRef,
    inode: Option<InodeRef>,
    flags: OpenFlags,
) -> Result<FileId, Errno> {
    let path = get_path(cx.k.files_mut(), path);
    let file = File::new(kind, path, inode, flags);
    file::add(cx.k.files_mut(), cx.p, file)
}

/// Counts an open file among those that write to their inode. `ETXTBSY`.
fn count_writer<K: FileCallers>(k: &mut K, id: FileId, inode: InodeRef) -> Result<(), Errno> {
    k.files_mut().writers.write(inode)?;
    file::at_mut(k.files_mut(), id).counted = true;
    Ok(())
}

/// The stream that is a terminal.
pub(crate) fn terminal(k: &Vfs) -> Option<u8> {
    let is_terminal = |stdio: &Stdio| matches!(stdio, Stdio::Terminal { .. });
    k.env
        .stdio
        .iter()
        .position(is_terminal)
        .map(|stream| stream as u8)
}

/// `may_open` of Linux.
fn may_open<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    path: PathRef,
    inode: InodeRef,
    attr: &Attr,
    how: How,
) -> Result<(), Errno> {
    let access = how.access();
    let kind = attr.mode & g::S_IFMT;
    let who = &cx.who();
    match kind {
        g::S_IFLNK => return Err(Errno::ELOOP),
        g::S_IFDIR if access & MAY_WRITE != 0 => return Err(Errno::EISDIR),
        g::S_IFCHR | g::S_IFBLK
            if cx
                .k
                .vfs()
                .mounts
                .at(path.mount)
                .flags
                .contains(MountFlags::NODEV) =>
        {
            return Err(Errno::EACCES);
        }
        _ => {}
    }
    if inode.fs == anon::FS && matches!(anon::object(inode.ino), Object::Stream(_)) {
        return Ok(());
    }
    if access & MAY_WRITE != 0 && kind == g::S_IFREG {
        mount::want_write(cx.k.files(), path.mount)?;
    }
    node::check_enter(cx.k, who, inode)?;
    node::permission(cx.k, who, inode, attr, access)?;
    let adds = how.flags & (OpenFlags::APPEND | OpenFlags::TRUNC) == OpenFlags::APPEND;
    if access & MAY_WRITE != 0 && !adds {
        flags::check_append(attr)?;
    }
    if inode::kind(cx.k.files(), inode.fs) == FsKind::Proc {
        cx.k.may_open_made(cx.thread, inode.ino, access)?;
    }
    if how.flags.contains(OpenFlags::NOATIME) && !who.owns(cx.k.files(), attr) {
        return Err(Errno::EPERM);
    }
    Ok(())
}

fn open_anon<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    path: PathRef,
    inode: InodeRef,
    flags: OpenFlags,
) -> Result<FileId, Stop> {
    match anon::object(inode.ino) {
        Object::Pipe(pipe) => open_fifo(cx, path, inode, flags, Some(pipe)),
        Object::Stream(stream) => {
            let kind = stream_kind(cx.k.files(), stream);
            Ok(add(cx, kind, path, None, flags)?)
        }
        Object::Namespace(_) => Ok(add(cx, FileKind::Namespace, path, Some(inode), flags)?),
        Object::Root | Object::Anon(_) | Object::Socket(_) | Object::MessageQueue(_) => {
            Err(Errno::ENXIO.into())
        }
    }
}

/// Marks of a task that waits for the other end of a FIFO, in its call's progress.
const WAITS_AS_READER: u64 = 1;
const WAITS_AS_WRITER: u64 = 2;

/// Opens an end of a FIFO (fifo(7)): readers and writers wait for each other.
fn open_fifo<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    path: PathRef,
    inode: InodeRef,
    flags: OpenFlags,
    pipe: Option<PipeId>,
) -> Result<FileId, Stop> {
    let no_wait = flags.contains(OpenFlags::NONBLOCK);
    let (reads, writes) = match flags.access_mode() {
        OpenFlags::RDONLY => (true, false),
        OpenFlags::WRONLY => (false, true),
        OpenFlags::RDWR => (true, true),
        _ => return Err(Errno::EINVAL.into()),
    };
    let open = match pipe {
        Some(id) => cx.k.files().pipes.get(id),
        None => pipe::find_fifo(cx.k.files(), inode),
    };
    let (readers, writers) = open.map_or((0, 0), |pipe| (pipe.readers, pipe.writers));
    let (others, mark, wanted) = match (reads, writes) {
        (true, false) => (writers, WAITS_AS_READER, WAITS_AS_WRITER),
        (false, true) => (readers, WAITS_AS_WRITER, WAITS_AS_READER),
        _ => (1, 0, 0),
    };
    let key = WaitKey::Fifo(inode);
    // Only a FIFO's ends wait for each other.
    let meets = others > 0
        || pipe.is_some()
        || cx
            .k
            .files()
            .env
            .queues
            .waiters(key)
            .any(|thread| cx.k.progress_of(thread) == Some(wanted));
    if !meets {
        match (no_wait, writes) {
            (true, true) => return Err(Errno::ENXIO.into()),
            (true, false) => {}
            (false, _) => {
                cx.call_state().progress = mark;
                return Wait::on(key).into();
            }
        }
    }
    let id = match pipe {
        Some(id) => id,
        None => {
            let by = cx.pipe_maker();
            pipe::of_fifo(cx.k.files_mut(), inode, &by)?
        }
    };
    let named = (inode.fs != anon::FS).then_some(inode);
    let file = add(cx, FileKind::Pipe(id), path, named, flags)?;
    pipe::open_end(cx.k.files_mut(), id, flags);
    cx.k.files_mut().wake(key);
    Ok(file)
}

/// `O_TMPFILE`
fn open_unnamed<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    at: DirFd,
    path: &[u8],
    how: How,
) -> Result<FileId, Errno> {
    let mut walk = how.resolve | Flags::DIRECTORY;
    walk.set(Flags::FOLLOW, !how.flags.contains(OpenFlags::NOFOLLOW));
    let umask = cx.fs_context().umask;
    let who = &cx.who();
    let (mut walker, start) = cx.walker(at, path, walk)?;
    let dir = walker.resolve_bare(start, path)?;
    mount::want_write(cx.k.files(), dir.mount)?;
    let dir_attr = names::may_create(cx.k, cx.p, who, dir)?;
    let mode = g::S_IFREG | how.mode & !umask;
    let (uid, gid, mode) = names::new_owner(cx.k.files(), who, &dir_attr, mode);
    let node = NewNode {
        mode,
        uid,
        gid,
        rdev: 0,
        flags: dir_attr.flags & flags::INHERITED,
        target: b"",
    };
    let fs = cx.k.vfs().mounts.at(dir.mount).fs;
    let ino = inode::create_unnamed(cx.k.files_mut(), cx.p, fs, &node)?;
    let inode = InodeRef { fs, ino };
    let attr = match node::attr(cx.k, cx.p, inode) {
        Ok(attr) => attr,
        Err(errno) => {
            inode::forget(cx.k.files_mut(), cx.p, inode);
            return Err(errno);
        }
    };
    let name = alloc::format!("#{}", ino.0);
    let dentries = &mut cx.k.vfs_mut().dentries;
    let dentry = dentries.insert_unnamed(dir.dentry, name.as_bytes(), ino, &attr);
    if how.flags.contains(OpenFlags::EXCL) {
        dentries.set_nameless(dentry);
    }
    mount::hold(cx.k.files_mut(), dir.mount);
    let path = HeldPath::of(dir.mount, dentry);
    let kept = how.flags - PASSING;
    let checked = landlock::check_open(cx.k.files_mut(), who, *path, &attr, how.flags, false);
    let denied = match checked {
        Ok(denied) => denied,
        Err(errno) => {
            put_path(cx.k.files_mut(), cx.p, path);
            return Err(errno);
        }
    };
    let mut file = File::new(
        FileKind::Regular,
        path,
        Some(inode),
        kept | OpenFlags::LARGEFILE,
    );
    file.denied = denied;
    let id = file::add(cx.k.files_mut(), cx.p, file)?;
    // Nobody can have run it yet.
    count_writer(cx.k, id, inode)?;
    Ok(id)
}

/// Sets the size of a regular file as truncate(2) does: set-id bits go, times change. The permission has been
/// checked.
pub(crate) fn truncate<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    inode: InodeRef,
    attr: &Attr,
    size: u64,
) -> Result<(), Errno> {
    let who = &cx.who();
    let set = SetAttr {
        size: Some(size),
        mtime: Some(Time::from_nanos(cx.now().real)),
        ..perm::after_write(cx.k.files(), who, attr)
    };
    inode::set_attr(cx.k.files_mut(), cx.p, inode, &set)
}

/// Opens a program: a regular file that may be executed and that nobody writes to, now and until it is given
/// to [`close_exec`]. The result holds one reference. Waits for who holds a lease that lets nobody read it.
pub(crate) fn open_exec<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    at: DirFd,
    path: &[u8],
    at_flags: AtFlags,
) -> Result<FileId, Stop> {
    if !(AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH).contains(at_flags) {
        return Err(Errno::EINVAL.into());
    }
    let path = walk::resolve(cx, at, path, Flags::from_at(at_flags))?;
    let opened = exec_file(cx, *path);
    put_path(cx.k.files_mut(), cx.p, path);
    opened
}

fn exec_file<K: FileCallers>(cx: &mut Cx<'_, '_, K>, path: PathRef) -> Result<FileId, Stop> {
    let inode =
        cx.k.vfs()
            .dentries
            .inode(path.dentry)
            .ok_or(Errno::ENOENT)?;
    let attr = node::attr(cx.k, cx.p, inode)?;
    match attr.mode & g::S_IFMT {
        g::S_IFLNK => return Err(Errno::ELOOP.into()),
        g::S_IFREG if inode::kind(cx.k.files(), inode.fs) == FsKind::Union => {}
        _ => return Err(Errno::EACCES.into()),
    }
    let mount = cx.k.vfs().mounts.at(path.mount);
    if mount.flags.contains(MountFlags::NOEXEC) {
        return Err(Errno::EACCES.into());
    }
    let who = &cx.who();
    perm::permission(cx.k.files(), who, &attr, MAY_EXEC)?;
    let flags = OpenFlags::RDONLY | OpenFlags::LARGEFILE;
    landlock::check_open(cx.k.files_mut(), who, path, &attr, flags, true)?;
    file::check_room(cx.k.files())?;
    lease::break_for(cx, inode, false, Blocking::Waits)?;
    cx.k.files_mut().writers.run(inode)?;
    let id = add(cx, FileKind::Regular, path, Some(inode), flags)?;
    // What it is is read at once.
    inotify::file_event(cx.k.files_mut(), cx.p, id, inotify::OPEN);
    inotify::file_event(cx.k.files_mut(), cx.p, id, inotify::ACCESS);
    Ok(id)
}

/// Takes a program for one more process: a reference, and nobody may write to it.
pub(crate) fn get_exec<K: FileCallers>(k: &mut K, id: FileId) -> FileId {
    if let Some(inode) = file::at(k.files(), id).inode {
        k.files_mut().writers.run_again(inode);
    }
    file::get(k.files_mut(), id)
}

/// Gives a program back that was opened to be run.
pub(crate) fn close_exec<K: FileCallers>(k: &mut K, p: &mut Ports<'_>, id: FileId) {
    if let Some(inode) = file::at(k.files(), id).inode {
        k.files_mut().writers.ran(inode);
    }
    file::put(k.files_mut(), p, id);
}

/// A descriptor of a place (`O_PATH`) for the root of an anonymous namespace, which goes with the file.
/// `ENFILE`, `EMFILE`: it goes at once.
pub(crate) fn open_detached<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    top: MountId,
    on_exec: OnExec,
) -> Result<i32, Errno> {
    let dentry = cx.k.vfs().mounts.at(top).root;
    let path = get_path(cx.k.files_mut(), PathRef { mount: top, dentry });
    let id = match place_file(cx, *path) {
        // Its end dissolves the tree, so what is held here may go.
        Ok(id) => {
            file::at_mut(cx.k.files_mut(), id).dissolves = true;
            put_path(cx.k.files_mut(), cx.p, path);
            id
        }
        Err(errno) => {
            detached::dissolve(cx.k.files_mut(), cx.p, path);
            return Err(errno);
        }
    };
    fdtable::install(cx, id, on_exec)
}

/// An open file of a place, which it holds. `ENFILE`, `ENOENT`.
pub(crate) fn place_file<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    path: PathRef,
) -> Result<FileId, Errno> {
    let inode = cx.k.vfs().dentries.inode(path.dentry);
    let inode = inode.ok_or(Errno::ENOENT)?;
    add(cx, FileKind::Path, path, Some(inode), OpenFlags::PATH)
}

/// How a standard stream is read and written.
fn stream_kind(k: &Vfs, stream: u8) -> FileKind {
    match k.env.stdio.get(usize::from(stream)) {
        Some(Stdio::Null) => FileKind::Device(device::Device::Null),
        _ => FileKind::HostStream(stream),
    }
}

/// Opens the host's standard streams as descriptors 0, 1 and 2 of a fresh table.
pub(crate) fn open_stdio<K: FileCallers>(k: &mut K, p: &mut Ports<'_>, table: file::FdTableId) {
    for stream in 0..3u8 {
        let path = crate::vfs::object::path(k.files_mut(), anon::stream_ino(stream));
        let kind = stream_kind(k.files(), stream);
        let file = File::new(kind, path, None, OpenFlags::RDWR | OpenFlags::LARGEFILE);
        if let Ok(file) = file::add(k.files_mut(), p, file) {
            fdtable::put_at(k.files_mut(), table, u32::from(stream), file);
        }
    }
}
