//! Making, removing and renaming names (mkdir(2), mknod(2), symlink(2), link(2), unlink(2), rmdir(2),
//! rename(2)). The order of checks is Linux's, as it decides which error a program sees.

use super::dentry::{self, DentryId};
use super::landlock::{self, Moved, Refer};
use super::mount::{self, HeldPath, PathRef, put_path};
use super::perm::{self, CAP_DAC_READ_SEARCH, CAP_MKNOD, MAY_EXEC, MAY_READ, MAY_WRITE, Who};
use super::walk::{self, Flags, Last, Place, Walker};
use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::args::{AtFlags, DirFd, RenameFlags};
use crate::cred::ns::user;
use crate::env::cx::Cx;
use crate::env::settings;
use crate::fs::filesystem::{Attr, FsId, InodeRef, NewNode};
use crate::fs::inode::FsKind;
use crate::fs::{flags, inode};
use crate::port::Ports;
use crate::vfs::caller::Callers;
use crate::vfs::view::ViewOps;
use crate::vfs::{Vfs, node};

/// A name, on its way from a path to who is told of it.
type Name = smallvec::SmallVec<[u8; 64]>;

/// What has become of names, for those who watch them: whoever knows watchers tells them of it at once,
/// before anything else is put, and gives back what it holds with [`Change::end`].
#[must_use]
#[derive(Debug)]
pub(crate) enum Change {
    /// Nothing: both names were of the same file.
    Nothing,
    /// A name was made, perhaps that of a directory.
    Made {
        dir: DentryId,
        name: Name,
        directory: bool,
    },
    /// A file got one more name; the one that it was found by is held.
    Linked {
        dir: DentryId,
        name: Name,
        inode: InodeRef,
        source: HeldPath,
    },
    /// A name was removed; what it named is held.
    Removed {
        dir: DentryId,
        name: Name,
        victim: DentryId,
        inode: Option<InodeRef>,
        directory: bool,
    },
    /// Two names changed places.
    Exchanged {
        names: [(DentryId, Name); 2],
        moved: [DentryId; 2],
    },
    /// A name was moved, perhaps over another one, which the file `replaced` lost. That name and the
    /// directory that the moved one was in are held.
    Moved {
        names: [(DentryId, Name); 2],
        moved: DentryId,
        target: DentryId,
        replaced: Option<InodeRef>,
        parent: DentryId,
    },
}

impl Change {
    /// Those who watch have been told.
    pub(crate) fn end(self, k: &mut Vfs, p: &mut Ports<'_>) {
        match self {
            Change::Removed { victim, .. } => dentry::put(k, p, victim),
            Change::Moved { target, parent, .. } => {
                dentry::put(k, p, target);
                dentry::put(k, p, parent);
            }
            Change::Linked { source, .. } => put_path(k, p, source),
            Change::Nothing | Change::Made { .. } | Change::Exchanged { .. } => {}
        }
    }
}

/// A name that is about to be made: its directory and the name.
struct Free {
    dir: PathRef,
    name: Name,
}

impl Free {
    /// The name has been made.
    fn made(self, directory: bool) -> Change {
        Change::Made {
            dir: self.dir.dentry,
            name: self.name,
            directory,
        }
    }
}

/// Finds the place of a new name and checks that it is free and may be made.
fn place_for_new<K: Callers>(
    cx: &mut Cx<'_, '_, K>,
    at: DirFd,
    path: &[u8],
    directory: bool,
) -> Result<Free, Errno> {
    let (mut walker, start) = cx.walker(at, path, Flags::empty())?;
    let place = walker.parent(start, path)?;
    let Last::Name(name) = place.last else {
        return Err(Errno::EEXIST);
    };
    let dentry = walker.lookup(place.dir.dentry, &name)?;
    if walker.k.vfs().dentries.at(dentry).ino.is_some() {
        return Err(Errno::EEXIST);
    }
    if place.slash && !directory {
        return Err(Errno::ENOENT);
    }
    mount::want_write(cx.k.vfs(), place.dir.mount)?;
    Ok(Free {
        dir: place.dir,
        name,
    })
}

/// `may_create` of Linux.
pub(crate) fn may_create<K: ViewOps>(
    k: &mut K,
    p: &mut Ports<'_>,
    who: &Who,
    dir: PathRef,
) -> Result<Attr, Errno> {
    if k.vfs().dentries.is_deleted(dir.dentry) {
        return Err(Errno::ENOENT);
    }
    check_owner(k.vfs(), who, k.vfs().dentries.at(dir.dentry).fs)?;
    let attr = walk::dir_attr(k, p, dir.dentry)?;
    perm::permission(k.vfs(), who, &attr, MAY_WRITE | MAY_EXEC)?;
    Ok(attr)
}

/// `EOVERFLOW` if the user or group that would own a new inode has no number in the user namespace of the
/// file system (`fsuidgid_has_mapping()`).
pub(crate) fn check_owner(k: &Vfs, who: &Who, fs: FsId) -> Result<(), Errno> {
    let owner = k.fs.filesystem_owner(fs);
    match who.creds() {
        Some(creds) if !user::is_mapped(k, owner, creds.fsuid, creds.fsgid) => {
            Err(Errno::EOVERFLOW)
        }
        _ => Ok(()),
    }
}

/// `may_delete` of Linux: `directory` is what the caller wants to remove.
fn may_delete<K: ViewOps>(
    k: &mut K,
    p: &mut Ports<'_>,
    who: &Who,
    dir: PathRef,
    victim: DentryId,
    directory: bool,
) -> Result<(), Errno> {
    let attr = walk::dir_attr(k, p, dir.dentry)?;
    perm::permission(k.vfs(), who, &attr, MAY_WRITE | MAY_EXEC)?;
    let inode = k.vfs().dentries.inode(victim).ok_or(Errno::ENOENT)?;
    flags::check_append(&attr)?;
    if matches!(inode::kind(k.vfs(), inode.fs), FsKind::Union) {
        let victim = node::attr(k, p, inode)?;
        if perm::sticky(k.vfs(), who, &attr, &victim) {
            return Err(Errno::EPERM);
        }
        flags::check_change(&victim)?;
    }
    let is_dir = k.vfs().dentries.at(victim).kind() == g::S_IFDIR;
    match (directory, is_dir) {
        (true, false) => return Err(Errno::ENOTDIR),
        (false, true) => return Err(Errno::EISDIR),
        _ => {}
    }
    if k.vfs().dentries.is_deleted(dir.dentry) {
        return Err(Errno::ENOENT);
    }
    Ok(())
}

/// The inode of a directory.
fn dir_inode(k: &Vfs, dir: PathRef) -> Result<InodeRef, Errno> {
    k.dentries.inode(dir.dentry).ok_or(Errno::ENOENT)
}

/// Owner and group of a new inode, and its mode as its directory changes it (`inode_init_owner`).
pub(crate) fn new_owner(k: &Vfs, who: &Who, dir: &Attr, mode: u32) -> (u32, u32, u32) {
    let (uid, mut gid) = who
        .creds()
        .map_or((0, 0), |creds| (creds.fsuid, creds.fsgid));
    let mut mode = mode;
    if dir.mode & g::S_ISGID != 0 {
        gid = dir.gid;
        if mode & g::S_IFMT == g::S_IFDIR {
            mode |= g::S_ISGID;
        } else if mode & (g::S_ISGID | g::S_IXGRP) == g::S_ISGID | g::S_IXGRP
            && !perm::in_group_or_capable(k, who, dir)
        {
            mode &= !g::S_ISGID;
        }
    }
    (uid, gid, mode)
}

/// An inode to be made, before it has an owner.
pub(crate) struct Plan<'a> {
    /// File type and permissions, umask already applied.
    pub mode: u32,
    pub rdev: u32,
    /// Target of a symbolic link.
    pub target: &'a [u8],
}

impl Plan<'_> {
    /// A file without device number or target.
    pub(crate) fn plain(mode: u32) -> Plan<'static> {
        Plan {
            mode,
            rdev: 0,
            target: b"",
        }
    }
}

/// Makes an inode under a free name and its dentry.
pub(crate) fn create_at<K: ViewOps>(
    k: &mut K,
    p: &mut Ports<'_>,
    who: &Who,
    dir: PathRef,
    name: &[u8],
    plan: Plan<'_>,
) -> Result<PathRef, Errno> {
    let Plan { mode, rdev, target } = plan;
    landlock::check_make(k.vfs_mut(), who, dir, mode)?;
    let dir_attr = may_create(k, p, who, dir)?;
    let kind = mode & g::S_IFMT;
    let device = kind == g::S_IFBLK || kind == g::S_IFCHR && rdev != 0;
    if device && !who.capable(CAP_MKNOD) {
        return Err(Errno::EPERM);
    }
    let (uid, gid, mode) = new_owner(k.vfs(), who, &dir_attr, mode);
    let node = NewNode {
        mode,
        uid,
        gid,
        rdev,
        flags: dir_attr.flags & flags::INHERITED,
        target,
    };
    let parent = dir_inode(k.vfs(), dir)?;
    if inode::kind(k.vfs(), parent.fs) != FsKind::Union {
        return Err(match kind {
            g::S_IFREG => Errno::EACCES,
            _ => Errno::EPERM,
        });
    }
    let ino = inode::create(k.vfs_mut(), p, parent, name, &node)?;
    let inode = InodeRef { fs: parent.fs, ino };
    let attr = match node::attr(k, p, inode) {
        Ok(attr) => attr,
        Err(errno) => {
            inode::forget(k.vfs_mut(), p, inode);
            return Err(errno);
        }
    };
    let dentry = match k.vfs().dentries.find(dir.dentry, name) {
        Some(id) if k.vfs().dentries.at(id).ino.is_none() => {
            k.vfs_mut().dentries.set_inode(id, ino, &attr);
            id
        }
        _ => k
            .vfs_mut()
            .dentries
            .insert(dir.dentry, name, Some((ino, &attr))),
    };
    Ok(PathRef {
        mount: dir.mount,
        dentry,
    })
}

fn umask<K: Callers>(cx: &Cx<'_, '_, K>) -> u32 {
    cx.start().umask
}

pub(crate) fn mkdir<K: Callers>(
    cx: &mut Cx<'_, '_, K>,
    at: DirFd,
    path: &[u8],
    mode: u32,
) -> Result<Change, Errno> {
    let place = place_for_new(cx, at, path, true)?;
    let mode = g::S_IFDIR | mode & (0o777 | g::S_ISVTX) & !umask(cx);
    let who = &cx.who();
    create_at(cx.k, cx.p, who, place.dir, &place.name, Plan::plain(mode))?;
    Ok(place.made(true))
}

pub(crate) fn mknod<K: Callers>(
    cx: &mut Cx<'_, '_, K>,
    at: DirFd,
    path: &[u8],
    mode: u32,
    dev: u32,
) -> Result<Change, Errno> {
    let kind = match mode & g::S_IFMT {
        0 => g::S_IFREG,
        kind @ (g::S_IFREG | g::S_IFCHR | g::S_IFBLK | g::S_IFIFO | g::S_IFSOCK) => kind,
        g::S_IFDIR => return Err(Errno::EPERM),
        _ => return Err(Errno::EINVAL),
    };
    let place = place_for_new(cx, at, path, false)?;
    let mode = kind | mode & 0o7777 & !umask(cx);
    let rdev = match kind {
        g::S_IFCHR | g::S_IFBLK => dev,
        _ => 0,
    };
    let who = &cx.who();
    let plan = Plan {
        rdev,
        ..Plan::plain(mode)
    };
    create_at(cx.k, cx.p, who, place.dir, &place.name, plan)?;
    Ok(place.made(false))
}

/// Makes the inode that a socket is bound to; the path has no reference yet.
pub(crate) fn make_socket<K: Callers>(
    cx: &mut Cx<'_, '_, K>,
    at: DirFd,
    path: &[u8],
    mode: u32,
) -> Result<(PathRef, Change), Errno> {
    let place = place_for_new(cx, at, path, false)?;
    let mode = g::S_IFSOCK | mode & !umask(cx);
    let who = &cx.who();
    let made = create_at(cx.k, cx.p, who, place.dir, &place.name, Plan::plain(mode))?;
    Ok((made, place.made(false)))
}

/// Whether a name could be made at a path. `EEXIST`, errors of the walk.
pub(crate) fn check_free<K: Callers>(
    cx: &mut Cx<'_, '_, K>,
    at: DirFd,
    path: &[u8],
) -> Result<(), Errno> {
    place_for_new(cx, at, path, false).map(|_| ())
}

pub(crate) fn symlink<K: Callers>(
    cx: &mut Cx<'_, '_, K>,
    target: &[u8],
    at: DirFd,
    path: &[u8],
) -> Result<Change, Errno> {
    if target.is_empty() {
        return Err(Errno::ENOENT);
    }
    let place = place_for_new(cx, at, path, false)?;
    let who = &cx.who();
    let mode = g::S_IFLNK | 0o777;
    let plan = Plan {
        mode,
        rdev: 0,
        target,
    };
    create_at(cx.k, cx.p, who, place.dir, &place.name, plan)?;
    Ok(place.made(false))
}

pub(crate) fn link<K: Callers>(
    cx: &mut Cx<'_, '_, K>,
    (old_at, old): (DirFd, &[u8]),
    (new_at, new): (DirFd, &[u8]),
    flags: AtFlags,
) -> Result<Change, Errno> {
    let mut walk = Flags::empty();
    walk.set(Flags::FOLLOW, flags.contains(AtFlags::SYMLINK_FOLLOW));
    if flags.contains(AtFlags::EMPTY_PATH) {
        if old.is_empty() && !may_link_open(cx, old_at)? {
            return Err(Errno::ENOENT);
        }
        walk |= Flags::EMPTY_PATH;
    }
    let source = walk::resolve(cx, old_at, old, walk)?;
    match link_to(cx, *source, new_at, new) {
        Ok((place, inode)) => Ok(Change::Linked {
            dir: place.dir.dentry,
            name: place.name,
            inode,
            source,
        }),
        Err(errno) => {
            put_path(cx.k.vfs_mut(), cx.p, source);
            Err(errno)
        }
    }
}

/// Whether an open file may get a name: by a task with the very credentials that opened it, or with
/// `CAP_DAC_READ_SEARCH`.
fn may_link_open<K: Callers>(cx: &mut Cx<'_, '_, K>, at: DirFd) -> Result<bool, Errno> {
    if cx.creds().capable(CAP_DAC_READ_SEARCH) || at.0 == g::AT_FDCWD {
        return Ok(true);
    }
    cx.k.has_opened(cx.thread, at)
}

/// The same for a file that was found: the name that was made, and the inode that got it.
fn link_to<K: Callers>(
    cx: &mut Cx<'_, '_, K>,
    source: PathRef,
    at: DirFd,
    path: &[u8],
) -> Result<(Free, InodeRef), Errno> {
    let place = place_for_new(cx, at, path, false)?;
    if source.mount != place.dir.mount {
        return Err(Errno::EXDEV);
    }
    let who = &cx.who();
    let inode =
        cx.k.vfs()
            .dentries
            .inode(source.dentry)
            .ok_or(Errno::ENOENT)?;
    let attr = node::attr(cx.k, cx.p, inode)?;
    may_link(cx, who, &attr)?;
    let moved = Moved::new(cx.k.vfs(), source.dentry);
    let free = Moved {
        dentry: source.dentry,
        kind: 0,
    };
    landlock::check_refer(cx.k.vfs_mut(), who, moved, place.dir, free, Refer::Link)?;
    may_create(cx.k, cx.p, who, place.dir)?;
    flags::check_change(&attr)?;
    if attr.mode & g::S_IFMT == g::S_IFDIR {
        return Err(Errno::EPERM);
    }
    let dir = dir_inode(cx.k.vfs(), place.dir)?;
    if inode::kind(cx.k.vfs(), dir.fs) != FsKind::Union {
        return Err(Errno::EPERM);
    }
    if cx.k.vfs().dentries.at(source.dentry).nameless {
        return Err(Errno::ENOENT);
    }
    inode::link(cx.k.vfs_mut(), cx.p, inode.ino, dir, &place.name)?;
    // The next lookup finds it.
    if let Some(id) = cx.k.vfs().dentries.find(place.dir.dentry, &place.name) {
        dentry::remove(cx.k.vfs_mut(), cx.p, id);
    }
    Ok((place, inode))
}

/// `/proc/sys/fs/protected_hardlinks`: others' files can be linked only if they are plain and can be read and
/// written.
fn may_link<K: Callers>(cx: &mut Cx<'_, '_, K>, who: &Who, attr: &Attr) -> Result<(), Errno> {
    if !cx.k.vfs().env.settings.is_on(settings::PROTECTED_HARDLINKS) {
        return Ok(());
    }
    let special = attr.mode & g::S_IFMT != g::S_IFREG
        || attr.mode & g::S_ISUID != 0
        || attr.mode & (g::S_ISGID | g::S_IXGRP) == g::S_ISGID | g::S_IXGRP
        || perm::permission(cx.k.vfs(), who, attr, MAY_READ | MAY_WRITE).is_err();
    match special && !who.owns(cx.k.vfs(), attr) {
        true => Err(Errno::EPERM),
        false => Ok(()),
    }
}

/// unlink(2)
pub(crate) fn unlink<K: Callers>(
    cx: &mut Cx<'_, '_, K>,
    at: DirFd,
    path: &[u8],
) -> Result<Change, Errno> {
    remove(cx, at, path, false)
}

/// rmdir(2)
pub(crate) fn rmdir<K: Callers>(
    cx: &mut Cx<'_, '_, K>,
    at: DirFd,
    path: &[u8],
) -> Result<Change, Errno> {
    remove(cx, at, path, true)
}

fn remove<K: Callers>(
    cx: &mut Cx<'_, '_, K>,
    at: DirFd,
    path: &[u8],
    directory: bool,
) -> Result<Change, Errno> {
    let who = &cx.who();
    let (mut walker, start) = cx.walker(at, path, Flags::empty())?;
    let place = walker.parent(start, path)?;
    let name = match place.last {
        Last::Name(name) => name,
        _ if !directory => return Err(Errno::EISDIR),
        Last::Dot => return Err(Errno::EINVAL),
        Last::DotDot => return Err(Errno::ENOTEMPTY),
        Last::Root => return Err(Errno::EBUSY),
    };
    mount::want_write(walker.k.vfs(), place.dir.mount)?;
    let victim = walker.lookup(place.dir.dentry, &name)?;
    let (k, p) = (walker.k, walker.p);
    let dentry = k.vfs().dentries.at(victim);
    if dentry.ino.is_none() {
        return Err(Errno::ENOENT);
    }
    if place.slash && !directory {
        return Err(match dentry.kind() {
            g::S_IFDIR => Errno::EISDIR,
            _ => Errno::ENOTDIR,
        });
    }
    match directory {
        true => landlock::check_rmdir(k.vfs_mut(), who, place.dir)?,
        false => landlock::check_unlink(k.vfs_mut(), who, place.dir)?,
    }
    may_delete(k, p, who, place.dir, victim, directory)?;
    mount::tree::check_uncovered(k, who, victim)?;
    let dir = dir_inode(k.vfs(), place.dir)?;
    match directory {
        true => {
            inode::rmdir(k.vfs_mut(), p, dir, &name)?;
            dentry::drop_children(k.vfs_mut(), p, victim);
        }
        false => inode::unlink(k.vfs_mut(), p, dir, &name)?,
    }
    let inode = k.vfs().dentries.inode(victim);
    // Held until the watches have been told.
    k.vfs_mut().dentries.get(victim);
    mount::unmount::uncover(k.vfs_mut(), p, victim);
    dentry::remove(k.vfs_mut(), p, victim);
    Ok(Change::Removed {
        dir: place.dir.dentry,
        name,
        victim,
        inode: inode.filter(|_| !directory),
        directory,
    })
}

/// One side of a rename.
struct Side {
    dir: PathRef,
    name: Name,
    slash: bool,
}

fn side(place: Place, busy: Errno) -> Result<Side, Errno> {
    match place.last {
        Last::Name(name) => Ok(Side {
            dir: place.dir,
            name,
            slash: place.slash,
        }),
        _ => Err(busy),
    }
}

pub(crate) fn rename<K: Callers>(
    cx: &mut Cx<'_, '_, K>,
    (old_at, old): (DirFd, &[u8]),
    (new_at, new): (DirFd, &[u8]),
    flags: RenameFlags,
) -> Result<Change, Errno> {
    let exchange = flags.contains(RenameFlags::EXCHANGE);
    if exchange && flags.intersects(RenameFlags::NOREPLACE | RenameFlags::WHITEOUT) {
        return Err(Errno::EINVAL);
    }
    let who = &cx.who();
    let (mut walker, start) = cx.walker(old_at, old, Flags::empty())?;
    let from = walker.parent(start, old)?;
    let (mut walker, start) = cx.walker(new_at, new, Flags::KEEP)?;
    let to = walker.parent(start, new)?;
    if from.dir.mount != to.dir.mount {
        return Err(Errno::EXDEV);
    }
    let busy = match flags.contains(RenameFlags::NOREPLACE) {
        true => Errno::EEXIST,
        false => Errno::EBUSY,
    };
    let from = side(from, Errno::EBUSY)?;
    let to = side(to, busy)?;
    mount::want_write(walker.k.vfs(), from.dir.mount)?;
    rename_sides(&mut walker, who, from, to, flags)
}

fn rename_sides<K: Callers>(
    walker: &mut Walker<'_, '_, K>,
    who: &Who,
    from: Side,
    to: Side,
    flags: RenameFlags,
) -> Result<Change, Errno> {
    let exchange = flags.contains(RenameFlags::EXCHANGE);
    let source = walker.lookup(from.dir.dentry, &from.name)?;
    let dentries = &walker.k.vfs().dentries;
    let source_inode = dentries.inode(source).ok_or(Errno::ENOENT)?;
    let source_is_dir = dentries.at(source).kind() == g::S_IFDIR;
    let target = walker.lookup(to.dir.dentry, &to.name)?;
    let dentries = &walker.k.vfs().dentries;
    let target_inode = dentries.inode(target);
    let target_is_dir = dentries.at(target).kind() == g::S_IFDIR;
    if flags.contains(RenameFlags::NOREPLACE) && target_inode.is_some() {
        return Err(Errno::EEXIST);
    }
    if exchange {
        target_inode.ok_or(Errno::ENOENT)?;
        if !target_is_dir && to.slash {
            return Err(Errno::ENOTDIR);
        }
    }
    if !source_is_dir && (from.slash || !exchange && to.slash) {
        return Err(Errno::ENOTDIR);
    }
    if source_is_dir && dentries.is_below(to.dir.dentry, source) {
        return Err(Errno::EINVAL);
    }
    if target_is_dir && dentries.is_below(from.dir.dentry, target) {
        return Err(match exchange {
            true => Errno::EINVAL,
            false => Errno::ENOTEMPTY,
        });
    }
    let moved = [source, target].map(|dentry| Moved::new(walker.k.vfs(), dentry));
    let how = match exchange {
        true => Refer::Exchange,
        false => Refer::Rename,
    };
    landlock::check_refer(walker.k.vfs_mut(), who, moved[0], to.dir, moved[1], how)?;
    if target_inode == Some(source_inode) {
        return Ok(Change::Nothing);
    }
    let (k, p) = (&mut *walker.k, &mut *walker.p);
    may_delete(k, p, who, from.dir, source, source_is_dir)?;
    match target_inode {
        None => {
            may_create(k, p, who, to.dir)?;
        }
        Some(_) if exchange => may_delete(k, p, who, to.dir, target, target_is_dir)?,
        Some(_) => may_delete(k, p, who, to.dir, target, source_is_dir)?,
    }
    if from.dir.dentry != to.dir.dentry {
        // A directory that gets another parent is written to: its "..".
        let mut moved = [Some(source), None];
        if exchange {
            moved[1] = Some(target);
        }
        for id in moved.into_iter().flatten() {
            if k.vfs().dentries.at(id).kind() == g::S_IFDIR {
                let attr = walk::dir_attr(k, p, id)?;
                perm::permission(k.vfs(), who, &attr, MAY_WRITE)?;
            }
        }
    }
    mount::tree::check_uncovered(k, who, source)?;
    mount::tree::check_uncovered(k, who, target)?;
    let from_dir = dir_inode(k.vfs(), from.dir)?;
    let to_dir = dir_inode(k.vfs(), to.dir)?;
    inode::rename(
        k.vfs_mut(),
        p,
        from_dir.fs,
        (from_dir.ino, &from.name),
        (to_dir.ino, &to.name),
        flags,
    )?;
    if exchange {
        k.vfs_mut().dentries.exchange(source, target);
        return Ok(Change::Exchanged {
            names: [(from.dir.dentry, from.name), (to.dir.dentry, to.name)],
            moved: [source, target],
        });
    }
    if target_is_dir {
        dentry::drop_children(k.vfs_mut(), p, target);
    }
    // Held until the watches have been told.
    k.vfs_mut().dentries.get(target);
    // What other namespaces have mounted on the source goes along.
    mount::unmount::uncover(k.vfs_mut(), p, target);
    dentry::remove(k.vfs_mut(), p, target);
    let dentries = &mut k.vfs_mut().dentries;
    let parent = dentries.rename(source, to.dir.dentry, &to.name);
    Ok(Change::Moved {
        names: [(from.dir.dentry, from.name), (to.dir.dentry, to.name)],
        moved: source,
        target,
        replaced: target_inode,
        parent,
    })
}
