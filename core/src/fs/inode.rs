//! Operations on inodes of any file system: dispatch over [`Filesystem`], and what must follow a change
//! (mappings of pages that moved).

use alloc::vec::Vec;

use crate::Kernel;
use crate::abi::Errno;
use crate::event::Level;
use crate::fs::anon;
use crate::fs::filesystem::{
    Attr, Entry, Extent, Filesystem, FsCx, FsId, Ino, InodeOps, InodeRef, NewNode, PageRun,
    RenameFlags, SetAttr, Sought, StatFs, Time,
};
use crate::fs::union::UnionFs;
use crate::machine::FrameNo;
use crate::port::Ports;
use crate::vfs::perm;
use crate::vfs::perm::Who;
use crate::views::sysfs::SysFs;
use crate::views::{proc, sysfs};

/// Which kind of file system an inode is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FsKind {
    Union,
    Proc,
    Sys,
    Anon,
}

/// The tree of a file system of the kernel's own.
fn sys(k: &Kernel, fs: FsId) -> Option<SysFs> {
    match k.vfs.filesystem(fs) {
        &Filesystem::Sys(fs) => Some(fs),
        _ => None,
    }
}

pub(crate) fn kind(k: &Kernel, fs: FsId) -> FsKind {
    match k.vfs.filesystem(fs) {
        Filesystem::Union(_) => FsKind::Union,
        Filesystem::Proc(_) => FsKind::Proc,
        Filesystem::Sys(_) => FsKind::Sys,
        Filesystem::Anon | Filesystem::Gone => FsKind::Anon,
    }
}

/// Whether names and attributes change without an operation of the kernel.
pub(crate) fn changes_by_itself(k: &Kernel, fs: FsId) -> bool {
    match k.vfs.filesystem(fs) {
        Filesystem::Union(union) => union.has_host_layers(),
        _ => false,
    }
}

/// Runs an operation of a union.
fn with<R>(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    fs: FsId,
    run: impl FnOnce(&mut UnionFs, &mut FsCx<'_, '_>) -> Result<R, Errno>,
) -> Option<Result<R, Errno>> {
    let mut cx = FsCx {
        ports: p,
        frames: &mut k.mm.frames,
        acls: &mut k.vfs.acls,
        now: k.system.now,
    };
    let Some(Filesystem::Union(union)) = k
        .vfs
        .filesystems
        .get_mut(fs.0 as usize)
        .map(|slot| &mut slot.fs)
    else {
        return None;
    };
    let old = union.heap();
    let result = run(union, &mut cx);
    k.vfs.heap = k.vfs.heap + union.heap() - old;
    for line in union.take_faults() {
        k.log(Level::Error, line);
    }
    Some(result)
}

/// Runs an operation that changes a union, then drops the mappings of pages that moved.
fn change<R>(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    fs: FsId,
    run: impl FnOnce(&mut UnionFs, &mut FsCx<'_, '_>) -> Result<R, Errno>,
) -> Option<Result<R, Errno>> {
    let result = with(k, p, fs, run)?;
    let Some(Filesystem::Union(union)) = k
        .vfs
        .filesystems
        .get_mut(fs.0 as usize)
        .map(|slot| &mut slot.fs)
    else {
        return Some(result);
    };
    let cut = union.take_cut();
    for (ino, first, count) in union.take_moved() {
        crate::mm::pages_moved(k, p, InodeRef { fs, ino }, first, count);
    }
    for (ino, first) in cut {
        crate::mm::pages_cut(k, InodeRef { fs, ino }, first);
    }
    Some(result)
}

/// The root directory.
pub(crate) fn root(k: &Kernel, fs: FsId) -> Result<Ino, Errno> {
    match k.vfs.filesystem(fs) {
        Filesystem::Union(union) => Ok(union.root()),
        Filesystem::Proc(_) => Ok(proc::ROOT),
        Filesystem::Sys(_) => Ok(sysfs::ROOT),
        Filesystem::Anon | Filesystem::Gone => Ok(anon::ROOT),
    }
}

/// The inode of a name, with a reference.
pub(crate) fn lookup(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    who: Who<'_>,
    dir: InodeRef,
    name: &[u8],
) -> Result<Ino, Errno> {
    match with(k, p, dir.fs, |fs, cx| fs.lookup(cx, dir.ino, name)) {
        Some(result) => result,
        None if kind(k, dir.fs) == FsKind::Proc => proc::lookup(k, p, who, dir, name),
        None => match sys(k, dir.fs) {
            Some(fs) => sysfs::lookup(k, fs, dir.ino, name),
            None => Err(Errno::ENOENT),
        },
    }
}

/// Gives a reference back.
pub(crate) fn forget(k: &mut Kernel, p: &mut Ports<'_>, inode: InodeRef) {
    k.vfs.seals.forget(inode);
    let done = change(k, p, inode.fs, |fs, cx| {
        fs.forget(cx, inode.ino);
        Ok(())
    });
    if done.is_none() && kind(k, inode.fs) == FsKind::Anon {
        anon::forget(k, inode.ino);
    }
}

/// Attributes.
pub(crate) fn attr(k: &mut Kernel, p: &mut Ports<'_>, inode: InodeRef) -> Result<Attr, Errno> {
    match with(k, p, inode.fs, |fs, cx| fs.attr(cx, inode.ino)) {
        Some(result) => result,
        None if kind(k, inode.fs) == FsKind::Proc => proc::attr(k, p, inode.ino),
        None => match sys(k, inode.fs) {
            Some(fs) => sysfs::attr(k, fs, inode.ino),
            None => anon::attr(k, inode.ino),
        },
    }
}

/// Whether somebody may read, write or execute a file. `EACCES`, `EPERM`; `EROFS` for settings.
pub(crate) fn permission(
    k: &Kernel,
    who: Who<'_>,
    inode: InodeRef,
    attr: &Attr,
    mask: u32,
) -> Result<(), Errno> {
    let judged = match kind(k, inode.fs) {
        FsKind::Proc => proc::permission(k, who, inode.ino, mask),
        _ => None,
    };
    judged.unwrap_or_else(|| perm::permission(k, who, attr, mask))
}

/// Whether a directory of a process lets somebody in at all, whatever its permissions say. `EPERM`, `ENOENT`.
pub(crate) fn check_enter(k: &Kernel, who: Who<'_>, inode: InodeRef) -> Result<(), Errno> {
    match kind(k, inode.fs) {
        FsKind::Proc => proc::check_enter(k, who, inode),
        _ => Ok(()),
    }
}

/// Attributes as a program is told of them. `ENOENT` where it is not to know of a process.
pub(crate) fn shown_attr(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    who: Who<'_>,
    inode: InodeRef,
) -> Result<Attr, Errno> {
    if kind(k, inode.fs) == FsKind::Proc {
        proc::check_attr(k, who, inode)?;
        let attr = proc::attr(k, p, inode.ino)?;
        let (uid, gid) = proc::owner(k, who, inode.ino).unwrap_or((attr.uid, attr.gid));
        return Ok(Attr { uid, gid, ..attr });
    }
    attr(k, p, inode)
}

/// Changes attributes. The caller keeps the dentry of a directory up to date.
pub(crate) fn set_attr(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    inode: InodeRef,
    set: &SetAttr,
) -> Result<(), Errno> {
    if kind(k, inode.fs) == FsKind::Anon {
        return anon::set_attr(k, inode.ino, set);
    }
    change(k, p, inode.fs, |fs, cx| fs.set_attr(cx, inode.ino, set)).unwrap_or(Err(Errno::EPERM))
}

/// Target of a symbolic link.
pub(crate) fn read_link(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    who: Who<'_>,
    inode: InodeRef,
) -> Result<Vec<u8>, Errno> {
    match with(k, p, inode.fs, |fs, cx| fs.read_link(cx, inode.ino)) {
        Some(result) => result,
        None if kind(k, inode.fs) == FsKind::Proc => proc::read_link(k, p, who.viewer(), inode),
        None => match sys(k, inode.fs) {
            Some(fs) => sysfs::read_link(k, fs, inode.ino),
            None => Err(Errno::EINVAL),
        },
    }
}

/// Contents of a file that the kernel makes, as they are now, or what makes them.
pub(crate) fn content(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    who: Who<'_>,
    inode: InodeRef,
) -> Result<proc::Shown, Errno> {
    match sys(k, inode.fs) {
        Some(fs) => sysfs::content(k, fs, inode.ino).map(proc::Shown::whole),
        None => proc::content(k, p, who.viewer(), inode),
    }
}

/// Makes an inode under a name, with a reference.
pub(crate) fn create(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    dir: InodeRef,
    name: &[u8],
    node: &NewNode<'_>,
) -> Result<Ino, Errno> {
    change(k, p, dir.fs, |fs, cx| fs.create(cx, dir.ino, name, node)).unwrap_or(Err(Errno::EACCES))
}

/// Makes a regular file without a name, with a reference.
pub(crate) fn create_unnamed(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    fs: FsId,
    node: &NewNode<'_>,
) -> Result<Ino, Errno> {
    change(k, p, fs, |fs, cx| fs.create_unnamed(cx, node)).unwrap_or(Err(Errno::EOPNOTSUPP))
}

/// Gives an inode one more name.
pub(crate) fn link(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    ino: Ino,
    dir: InodeRef,
    name: &[u8],
) -> Result<(), Errno> {
    change(k, p, dir.fs, |fs, cx| fs.link(cx, ino, dir.ino, name)).unwrap_or(Err(Errno::EPERM))
}

/// Removes a name of anything but a directory.
pub(crate) fn unlink(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    dir: InodeRef,
    name: &[u8],
) -> Result<(), Errno> {
    change(k, p, dir.fs, |fs, cx| fs.unlink(cx, dir.ino, name)).unwrap_or(Err(Errno::EPERM))
}

/// Removes an empty directory.
pub(crate) fn rmdir(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    dir: InodeRef,
    name: &[u8],
) -> Result<(), Errno> {
    change(k, p, dir.fs, |fs, cx| fs.rmdir(cx, dir.ino, name)).unwrap_or(Err(Errno::EPERM))
}

/// Renames inside one file system.
pub(crate) fn rename(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    fs: FsId,
    from: (Ino, &[u8]),
    to: (Ino, &[u8]),
    flags: RenameFlags,
) -> Result<(), Errno> {
    change(k, p, fs, |fs, cx| fs.rename(cx, from, to, flags)).unwrap_or(Err(Errno::EPERM))
}

/// Entries of a directory.
pub(crate) fn read_dir(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    who: Who<'_>,
    dir: InodeRef,
    cookie: u64,
    each: &mut dyn FnMut(Entry<'_>) -> bool,
) -> Result<(), Errno> {
    let mut each = Some(each);
    let result = with(k, p, dir.fs, |fs, cx| match each.take() {
        Some(each) => fs.read_dir(cx, dir.ino, cookie, each),
        None => Ok(()),
    });
    match (result, each) {
        (Some(result), _) => result,
        (None, Some(each)) if kind(k, dir.fs) == FsKind::Proc => {
            proc::read_dir(k, p, who, dir, cookie, each)
        }
        (None, Some(each)) => match sys(k, dir.fs) {
            Some(fs) => sysfs::read_dir(k, fs, dir.ino, cookie, each),
            None => Err(Errno::ENOTDIR),
        },
        _ => Err(Errno::ENOTDIR),
    }
}

/// Where the bytes of a regular file are; see [`InodeOps::extent`].
pub(crate) fn extent(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    inode: InodeRef,
    offset: u64,
    most: u64,
) -> Result<Option<Extent>, Errno> {
    with(k, p, inode.fs, |fs, cx| {
        fs.extent(cx, inode.ino, offset, most)
    })
    .unwrap_or(Err(Errno::EINVAL))
}

/// The frame of a page that may be written.
pub(crate) fn page_for_write(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    inode: InodeRef,
    index: u64,
) -> Result<FrameNo, Errno> {
    change(k, p, inode.fs, |fs, cx| {
        fs.page_for_write(cx, inode.ino, index)
    })
    .unwrap_or(Err(Errno::ENODEV))
}

/// Pages for mapping.
pub(crate) fn page_run(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    inode: InodeRef,
    index: u64,
    max: u64,
) -> Result<PageRun, Errno> {
    change(k, p, inode.fs, |fs, cx| {
        fs.page_run(cx, inode.ino, index, max)
    })
    .unwrap_or(Err(Errno::ENODEV))
}

/// Gives pages frames; see [`InodeOps::allocate`].
pub(crate) fn allocate(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    inode: InodeRef,
    (first, count): (u64, u64),
    most: u64,
) -> Result<u64, Errno> {
    change(k, p, inode.fs, |fs, cx| {
        fs.allocate(cx, inode.ino, first, count, most)
    })
    .unwrap_or(Err(Errno::EOPNOTSUPP))
}

/// A program is about to change a file through a mapping: its times say so.
pub(crate) fn stored(k: &mut Kernel, p: &mut Ports<'_>, inode: InodeRef) {
    let now = Time::from_nanos(k.system.now.real);
    let _ = with(k, p, inode.fs, |fs, _| {
        fs.stored(inode.ino, now);
        Ok(())
    });
}

/// Frees a range of bytes.
pub(crate) fn punch_hole(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    inode: InodeRef,
    offset: u64,
    len: u64,
) -> Result<(), Errno> {
    change(k, p, inode.fs, |fs, cx| {
        fs.punch_hole(cx, inode.ino, offset, len)
    })
    .unwrap_or(Err(Errno::EOPNOTSUPP))
}

/// Next data or hole.
pub(crate) fn seek(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    inode: InodeRef,
    offset: u64,
    data: bool,
) -> Result<Sought, Errno> {
    with(k, p, inode.fs, |fs, cx| {
        fs.seek(cx, inode.ino, offset, data)
    })
    .unwrap_or(Err(Errno::EINVAL))
}

/// Value of an extended attribute.
pub(crate) fn get_xattr(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    inode: InodeRef,
    name: &[u8],
) -> Result<Vec<u8>, Errno> {
    with(k, p, inode.fs, |fs, cx| fs.get_xattr(cx, inode.ino, name))
        .unwrap_or(Err(Errno::EOPNOTSUPP))
}

/// Sets an extended attribute.
pub(crate) fn set_xattr(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    inode: InodeRef,
    name: &[u8],
    value: &[u8],
    flags: u32,
) -> Result<(), Errno> {
    change(k, p, inode.fs, |fs, cx| {
        fs.set_xattr(cx, inode.ino, name, value, flags)
    })
    .unwrap_or(Err(Errno::EOPNOTSUPP))
}

/// Removes an extended attribute.
pub(crate) fn remove_xattr(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    inode: InodeRef,
    name: &[u8],
) -> Result<(), Errno> {
    change(k, p, inode.fs, |fs, cx| {
        fs.remove_xattr(cx, inode.ino, name)
    })
    .unwrap_or(Err(Errno::EOPNOTSUPP))
}

/// Names of extended attributes.
pub(crate) fn list_xattr(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    inode: InodeRef,
) -> Result<Vec<Vec<u8>>, Errno> {
    with(k, p, inode.fs, |fs, cx| fs.list_xattr(cx, inode.ino)).unwrap_or(Ok(Vec::new()))
}

/// Sizes of a file system.
pub(crate) fn statfs(k: &Kernel, fs: FsId) -> StatFs {
    match k.vfs.filesystem(fs) {
        Filesystem::Union(union) => union.statfs(&k.mm.frames),
        Filesystem::Proc(_) => proc::statfs(),
        Filesystem::Sys(fs) => sysfs::statfs(*fs),
        Filesystem::Anon | Filesystem::Gone => anon::statfs(),
    }
}

/// Whether a file system is in memory alone, without layers below.
pub(crate) fn is_tmpfs(k: &Kernel, fs: FsId) -> bool {
    matches!(k.vfs.filesystem(fs), Filesystem::Union(union) if union.is_tmpfs())
}

/// Whether all changes are refused.
pub(crate) fn is_read_only(k: &Kernel, fs: FsId) -> bool {
    match k.vfs.filesystem(fs) {
        Filesystem::Union(union) => union.is_read_only(),
        Filesystem::Proc(proc) => proc.options.read_only,
        _ => false,
    }
}
