//! Making, removing and renaming names (mkdir(2), mknod(2), symlink(2), link(2), unlink(2), rmdir(2),
//! rename(2)). The order of checks is Linux's, as it decides which error a program sees.

use super::dentry::{self, DentryId};
use super::landlock::{self, Moved, Refer};
use super::mount::{self, PathRef, put_path};
use super::perm::{self, CAP_DAC_READ_SEARCH, CAP_MKNOD, MAY_EXEC, MAY_READ, MAY_WRITE, Who};
use super::walk::{self, Flags, Last, Place, Walker};
use crate::Kernel;
use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::args::DirFd;
use crate::args::RenameFlags;
use crate::cred::ns::user;
use crate::env::settings;
use crate::file::inotify;
use crate::fs::filesystem::{Attr, FsId, InodeRef, NewNode};
use crate::fs::inode::FsKind;
use crate::fs::{flags, inode};
use crate::kernel::Cx;
use crate::port::Ports;
use crate::vfs::caller::Callers;
use crate::vfs::{Vfs, node};

/// A name that is about to be made: its directory and the name.
struct Free {
    dir: PathRef,
    name: smallvec::SmallVec<[u8; 64]>,
}

/// Finds the place of a new name and checks that it is free and may be made.
fn place_for_new(
    cx: &mut Cx<'_, '_>,
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
    if walker.k.vfs.dentries.at(dentry).ino.is_some() {
        return Err(Errno::EEXIST);
    }
    if place.slash && !directory {
        return Err(Errno::ENOENT);
    }
    mount::want_write(cx.k, place.dir.mount)?;
    Ok(Free {
        dir: place.dir,
        name,
    })
}

/// `may_create` of Linux.
pub(crate) fn may_create(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    who: &Who,
    dir: PathRef,
) -> Result<Attr, Errno> {
    if k.vfs.dentries.is_deleted(dir.dentry) {
        return Err(Errno::ENOENT);
    }
    check_owner(k, who, k.vfs.dentries.at(dir.dentry).fs)?;
    let attr = walk::dir_attr(k, p, dir.dentry)?;
    perm::permission(k, who, &attr, MAY_WRITE | MAY_EXEC)?;
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
fn may_delete(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    who: &Who,
    dir: PathRef,
    victim: DentryId,
    directory: bool,
) -> Result<(), Errno> {
    let attr = walk::dir_attr(k, p, dir.dentry)?;
    perm::permission(k, who, &attr, MAY_WRITE | MAY_EXEC)?;
    let inode = k.vfs.dentries.inode(victim).ok_or(Errno::ENOENT)?;
    flags::check_append(&attr)?;
    if matches!(inode::kind(k, inode.fs), FsKind::Union) {
        let victim = node::attr(k, p, inode)?;
        if perm::sticky(k, who, &attr, &victim) {
            return Err(Errno::EPERM);
        }
        flags::check_change(&victim)?;
    }
    let is_dir = k.vfs.dentries.at(victim).kind() == g::S_IFDIR;
    match (directory, is_dir) {
        (true, false) => return Err(Errno::ENOTDIR),
        (false, true) => return Err(Errno::EISDIR),
        _ => {}
    }
    if k.vfs.dentries.is_deleted(dir.dentry) {
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
pub(crate) fn create_at(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    who: &Who,
    dir: PathRef,
    name: &[u8],
    plan: Plan<'_>,
) -> Result<PathRef, Errno> {
    let Plan { mode, rdev, target } = plan;
    landlock::check_make(k, who, dir, mode)?;
    let dir_attr = may_create(k, p, who, dir)?;
    let kind = mode & g::S_IFMT;
    let device = kind == g::S_IFBLK || kind == g::S_IFCHR && rdev != 0;
    if device && !who.capable(CAP_MKNOD) {
        return Err(Errno::EPERM);
    }
    let (uid, gid, mode) = new_owner(k, who, &dir_attr, mode);
    let node = NewNode {
        mode,
        uid,
        gid,
        rdev,
        flags: dir_attr.flags & flags::INHERITED,
        target,
    };
    let parent = dir_inode(k, dir)?;
    if inode::kind(k, parent.fs) != FsKind::Union {
        return Err(match kind {
            g::S_IFREG => Errno::EACCES,
            _ => Errno::EPERM,
        });
    }
    let ino = inode::create(k, p, parent, name, &node)?;
    let inode = InodeRef { fs: parent.fs, ino };
    let attr = match node::attr(k, p, inode) {
        Ok(attr) => attr,
        Err(errno) => {
            inode::forget(k, p, inode);
            return Err(errno);
        }
    };
    let dentry = match k.vfs.dentries.find(dir.dentry, name) {
        Some(id) if k.vfs.dentries.at(id).ino.is_none() => {
            k.vfs.dentries.set_inode(id, ino, &attr);
            id
        }
        _ => k.vfs.dentries.insert(dir.dentry, name, Some((ino, &attr))),
    };
    Ok(PathRef {
        mount: dir.mount,
        dentry,
    })
}

fn umask(cx: &Cx<'_, '_>) -> u32 {
    cx.start().umask
}

pub(crate) fn mkdir(cx: &mut Cx<'_, '_>, at: DirFd, path: &[u8], mode: u32) -> Result<(), Errno> {
    let place = place_for_new(cx, at, path, true)?;
    let mode = g::S_IFDIR | mode & (0o777 | g::S_ISVTX) & !umask(cx);
    let who = &cx.who();
    create_at(cx.k, cx.p, who, place.dir, &place.name, Plan::plain(mode))?;
    let created = inotify::CREATE | inotify::ISDIR;
    inotify::named(cx.k, cx.p, place.dir.dentry, &place.name, created);
    Ok(())
}

pub(crate) fn mknod(
    cx: &mut Cx<'_, '_>,
    at: DirFd,
    path: &[u8],
    mode: u32,
    dev: u32,
) -> Result<(), Errno> {
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
    inotify::named(cx.k, cx.p, place.dir.dentry, &place.name, inotify::CREATE);
    Ok(())
}

/// Makes the inode that a socket is bound to; the path has no reference yet.
pub(crate) fn make_socket(
    cx: &mut Cx<'_, '_>,
    at: DirFd,
    path: &[u8],
    mode: u32,
) -> Result<PathRef, Errno> {
    let place = place_for_new(cx, at, path, false)?;
    let mode = g::S_IFSOCK | mode & !umask(cx);
    let who = &cx.who();
    let made = create_at(cx.k, cx.p, who, place.dir, &place.name, Plan::plain(mode))?;
    inotify::named(cx.k, cx.p, place.dir.dentry, &place.name, inotify::CREATE);
    Ok(made)
}

/// Whether a name could be made at a path. `EEXIST`, errors of the walk.
pub(crate) fn check_free(cx: &mut Cx<'_, '_>, at: DirFd, path: &[u8]) -> Result<(), Errno> {
    place_for_new(cx, at, path, false).map(|_| ())
}

pub(crate) fn symlink(
    cx: &mut Cx<'_, '_>,
    target: &[u8],
    at: DirFd,
    path: &[u8],
) -> Result<(), Errno> {
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
    inotify::named(cx.k, cx.p, place.dir.dentry, &place.name, inotify::CREATE);
    Ok(())
}

pub(crate) fn link(
    cx: &mut Cx<'_, '_>,
    (old_at, old): (DirFd, &[u8]),
    (new_at, new): (DirFd, &[u8]),
    flags: u32,
) -> Result<(), Errno> {
    if flags & !(g::AT_SYMLINK_FOLLOW | g::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let mut walk = Flags::empty();
    walk.set(Flags::FOLLOW, flags & g::AT_SYMLINK_FOLLOW != 0);
    if flags & g::AT_EMPTY_PATH != 0 {
        if old.is_empty() && !may_link_open(cx, old_at)? {
            return Err(Errno::ENOENT);
        }
        walk |= Flags::EMPTY_PATH;
    }
    let source = walk::resolve(cx, old_at, old, walk)?;
    let result = link_to(cx, source, new_at, new);
    put_path(cx.k, cx.p, source);
    result
}

/// Whether an open file may get a name: by a task with the very credentials that opened it, or with
/// `CAP_DAC_READ_SEARCH`.
fn may_link_open(cx: &mut Cx<'_, '_>, at: DirFd) -> Result<bool, Errno> {
    if cx.creds().capable(CAP_DAC_READ_SEARCH) || at.0 == g::AT_FDCWD {
        return Ok(true);
    }
    cx.k.has_opened(cx.p, cx.thread, at)
}

fn link_to(cx: &mut Cx<'_, '_>, source: PathRef, at: DirFd, path: &[u8]) -> Result<(), Errno> {
    let place = place_for_new(cx, at, path, false)?;
    if source.mount != place.dir.mount {
        return Err(Errno::EXDEV);
    }
    let who = &cx.who();
    let inode =
        cx.k.vfs
            .dentries
            .inode(source.dentry)
            .ok_or(Errno::ENOENT)?;
    let attr = node::attr(cx.k, cx.p, inode)?;
    may_link(cx, who, &attr)?;
    let moved = Moved::new(cx.k, source.dentry);
    let free = Moved {
        dentry: source.dentry,
        kind: 0,
    };
    landlock::check_refer(cx.k, who, moved, place.dir, free, Refer::Link)?;
    may_create(cx.k, cx.p, who, place.dir)?;
    flags::check_change(&attr)?;
    if attr.mode & g::S_IFMT == g::S_IFDIR {
        return Err(Errno::EPERM);
    }
    let dir = dir_inode(cx.k, place.dir)?;
    if inode::kind(cx.k, dir.fs) != FsKind::Union {
        return Err(Errno::EPERM);
    }
    if cx.k.vfs.dentries.at(source.dentry).nameless {
        return Err(Errno::ENOENT);
    }
    inode::link(cx.k, cx.p, inode.ino, dir, &place.name)?;
    // The next lookup finds it.
    if let Some(id) = cx.k.vfs.dentries.find(place.dir.dentry, &place.name) {
        dentry::remove(cx.k, cx.p, id);
    }
    inotify::link_count(cx.k, cx.p, inode);
    inotify::named(cx.k, cx.p, place.dir.dentry, &place.name, inotify::CREATE);
    Ok(())
}

/// `/proc/sys/fs/protected_hardlinks`: others' files can be linked only if they are plain and can be read and
/// written.
fn may_link(cx: &mut Cx<'_, '_>, who: &Who, attr: &Attr) -> Result<(), Errno> {
    if !cx.k.env.settings.is_on(settings::PROTECTED_HARDLINKS) {
        return Ok(());
    }
    let special = attr.mode & g::S_IFMT != g::S_IFREG
        || attr.mode & g::S_ISUID != 0
        || attr.mode & (g::S_ISGID | g::S_IXGRP) == g::S_ISGID | g::S_IXGRP
        || perm::permission(cx.k, who, attr, MAY_READ | MAY_WRITE).is_err();
    match special && !who.owns(cx.k, attr) {
        true => Err(Errno::EPERM),
        false => Ok(()),
    }
}

/// unlink(2), or rmdir(2) of a `directory`.
pub(crate) fn remove(
    cx: &mut Cx<'_, '_>,
    at: DirFd,
    path: &[u8],
    directory: bool,
) -> Result<(), Errno> {
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
    mount::want_write(walker.k, place.dir.mount)?;
    let victim = walker.lookup(place.dir.dentry, &name)?;
    let (k, p) = (walker.k, walker.p);
    let dentry = k.vfs.dentries.at(victim);
    if dentry.ino.is_none() {
        return Err(Errno::ENOENT);
    }
    if place.slash && !directory {
        return Err(match dentry.kind() {
            g::S_IFDIR => Errno::EISDIR,
            _ => Errno::ENOTDIR,
        });
    }
    landlock::check_remove(k, who, place.dir, directory)?;
    may_delete(k, p, who, place.dir, victim, directory)?;
    mount::tree::check_uncovered(k, who, victim)?;
    let dir = dir_inode(k, place.dir)?;
    match directory {
        true => {
            inode::rmdir(k, p, dir, &name)?;
            dentry::drop_children(k, p, victim);
        }
        false => inode::unlink(k, p, dir, &name)?,
    }
    let inode = k.vfs.dentries.inode(victim);
    if let Some(inode) = inode.filter(|_| !directory) {
        inotify::link_count(k, p, inode);
    }
    // Held until the watches have been told.
    k.vfs.dentries.get(victim);
    mount::unmount::uncover(k, p, victim);
    dentry::remove(k, p, victim);
    inotify::gone(k, p, victim, 1);
    let is_dir = if directory { inotify::ISDIR } else { 0 };
    inotify::named(k, p, place.dir.dentry, &name, inotify::DELETE | is_dir);
    dentry::put(k, p, victim);
    Ok(())
}

/// One side of a rename.
struct Side {
    dir: PathRef,
    name: smallvec::SmallVec<[u8; 64]>,
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

pub(crate) fn rename(
    cx: &mut Cx<'_, '_>,
    (old_at, old): (DirFd, &[u8]),
    (new_at, new): (DirFd, &[u8]),
    flags: RenameFlags,
) -> Result<(), Errno> {
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
    mount::want_write(walker.k, from.dir.mount)?;
    rename_sides(&mut walker, who, &from, &to, flags)
}

fn rename_sides(
    walker: &mut Walker<'_, '_, Kernel>,
    who: &Who,
    from: &Side,
    to: &Side,
    flags: RenameFlags,
) -> Result<(), Errno> {
    let exchange = flags.contains(RenameFlags::EXCHANGE);
    let source = walker.lookup(from.dir.dentry, &from.name)?;
    let dentries = &walker.k.vfs.dentries;
    let source_inode = dentries.inode(source).ok_or(Errno::ENOENT)?;
    let source_is_dir = dentries.at(source).kind() == g::S_IFDIR;
    let target = walker.lookup(to.dir.dentry, &to.name)?;
    let dentries = &walker.k.vfs.dentries;
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
    let moved = [source, target].map(|dentry| Moved::new(walker.k, dentry));
    let how = match exchange {
        true => Refer::Exchange,
        false => Refer::Rename,
    };
    landlock::check_refer(walker.k, who, moved[0], to.dir, moved[1], how)?;
    if target_inode == Some(source_inode) {
        return Ok(());
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
            if k.vfs.dentries.at(id).kind() == g::S_IFDIR {
                let attr = walk::dir_attr(k, p, id)?;
                perm::permission(k, who, &attr, MAY_WRITE)?;
            }
        }
    }
    mount::tree::check_uncovered(k, who, source)?;
    mount::tree::check_uncovered(k, who, target)?;
    let from_dir = dir_inode(k, from.dir)?;
    let to_dir = dir_inode(k, to.dir)?;
    inode::rename(
        k,
        p,
        from_dir.fs,
        (from_dir.ino, &from.name),
        (to_dir.ino, &to.name),
        flags,
    )?;
    let (old, new) = (
        (from.dir.dentry, from.name.as_slice()),
        (to.dir.dentry, to.name.as_slice()),
    );
    if exchange {
        k.vfs.dentries.exchange(source, target);
        inotify::moved(k, p, old, new, source, None);
        inotify::moved(k, p, new, old, target, None);
        return Ok(());
    }
    if target_is_dir {
        dentry::drop_children(k, p, target);
    }
    // Held until the watches have been told.
    k.vfs.dentries.get(target);
    // What other namespaces have mounted on the source goes along.
    mount::unmount::uncover(k, p, target);
    dentry::remove(k, p, target);
    let parent = k.vfs.dentries.rename(source, to.dir.dentry, &to.name);
    inotify::moved(k, p, old, new, source, target_inode);
    inotify::gone(k, p, target, 1);
    dentry::put(k, p, target);
    dentry::put(k, p, parent);
    Ok(())
}
