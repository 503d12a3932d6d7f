//! Operations on inodes of any file system: dispatch over [`Filesystem`], and what a change leaves for those
//! who map files: pages that moved.

use alloc::vec::Vec;

use crate::abi::Errno;
use crate::args::{RenameFlags, XattrFlags};
use crate::event::Level;
use crate::fs::filesystem::{
    Attr, Extent, Filesystem, FsCx, FsId, Ino, InodeOps, InodeRef, NewNode, PageRun, SetAttr,
    Sought, StatFs, Time,
};
use crate::fs::union::UnionFs;
use crate::fs::view;
use crate::fs::view::SysFs;
use crate::fs::{Displaced, FileSystems, anon};
use crate::machine::FrameNo;
use crate::port::Ports;

/// Which kind of file system an inode is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FsKind {
    Union,
    Proc,
    Sys,
    Anon,
}

/// The tree of a file system of the kernel's own.
pub(crate) fn sys(k: &FileSystems, fs: FsId) -> Option<SysFs> {
    match k.filesystem(fs) {
        &Filesystem::Sys(fs) => Some(fs),
        _ => None,
    }
}

pub(crate) fn kind(k: &FileSystems, fs: FsId) -> FsKind {
    match k.filesystem(fs) {
        Filesystem::Union(_) => FsKind::Union,
        Filesystem::Proc(_) => FsKind::Proc,
        Filesystem::Sys(_) => FsKind::Sys,
        Filesystem::Anon | Filesystem::Gone => FsKind::Anon,
    }
}

/// Whether names and attributes change without an operation of the kernel.
pub(crate) fn changes_by_itself(k: &FileSystems, fs: FsId) -> bool {
    match k.filesystem(fs) {
        Filesystem::Union(union) => union.has_host_layers(),
        _ => false,
    }
}

/// Runs an operation of a union.
pub(crate) fn with<R>(
    k: &mut FileSystems,
    p: &mut Ports<'_>,
    fs: FsId,
    run: impl FnOnce(&mut UnionFs, &mut FsCx<'_, '_>) -> Result<R, Errno>,
) -> Option<Result<R, Errno>> {
    let all = k;
    let mut cx = FsCx {
        ports: p,
        frames: &mut all.frames,
        acls: &mut all.acls,
        now: all.base.env.now,
    };
    let slot = all.filesystems.get_mut(fs.0 as usize);
    let Some(Filesystem::Union(union)) = slot.map(|slot| &mut slot.fs) else {
        return None;
    };
    let old = union.heap();
    let result = run(union, &mut cx);
    all.heap = all.heap + union.heap() - old;
    for line in union.take_faults() {
        all.base.env.log(Level::Error, line);
    }
    Some(result)
}

/// Runs an operation that changes a union, then drops the mappings of pages that moved.
fn change<R>(
    k: &mut FileSystems,
    p: &mut Ports<'_>,
    fs: FsId,
    run: impl FnOnce(&mut UnionFs, &mut FsCx<'_, '_>) -> Result<R, Errno>,
) -> Option<Result<R, Errno>> {
    let result = with(k, p, fs, run)?;
    let Some(Filesystem::Union(union)) = k
        .filesystems
        .get_mut(fs.0 as usize)
        .map(|slot| &mut slot.fs)
    else {
        return Some(result);
    };
    let cut = union.take_cut();
    let moved = union.take_moved();
    k.env.left |= !cut.is_empty() || !moved.is_empty();
    for (ino, first, count) in moved {
        k.displaced.push(Displaced {
            inode: InodeRef { fs, ino },
            first,
            count: Some(count.max(1)),
        });
    }
    for (ino, first) in cut {
        k.displaced.push(Displaced {
            inode: InodeRef { fs, ino },
            first,
            count: None,
        });
    }
    Some(result)
}

/// The root directory.
pub(crate) fn root(k: &FileSystems, fs: FsId) -> Result<Ino, Errno> {
    match k.filesystem(fs) {
        Filesystem::Union(union) => Ok(union.root()),
        Filesystem::Proc(_) => Ok(view::ROOT),
        Filesystem::Sys(_) => Ok(view::ROOT),
        Filesystem::Anon | Filesystem::Gone => Ok(anon::ROOT),
    }
}

/// Gives a reference back.
pub(crate) fn forget(k: &mut FileSystems, p: &mut Ports<'_>, inode: InodeRef) {
    k.seals.forget(inode);
    let done = change(k, p, inode.fs, |fs, cx| {
        fs.forget(cx, inode.ino);
        Ok(())
    });
    if done.is_none() && kind(k, inode.fs) == FsKind::Anon {
        anon::forget(k, inode.ino);
    }
}

/// Attributes of an inode that a file system keeps itself. `ENOENT` for those that the kernel makes as they
/// are looked at.
pub(crate) fn stored_attr(
    k: &mut FileSystems,
    p: &mut Ports<'_>,
    inode: InodeRef,
) -> Result<Attr, Errno> {
    match with(k, p, inode.fs, |fs, cx| fs.attr(cx, inode.ino)) {
        Some(result) => result,
        None if kind(k, inode.fs) == FsKind::Anon => anon::attr(k, inode.ino),
        None => Err(Errno::ENOENT),
    }
}

/// Changes attributes. The caller keeps the dentry of a directory up to date.
pub(crate) fn set_attr(
    k: &mut FileSystems,
    p: &mut Ports<'_>,
    inode: InodeRef,
    set: &SetAttr,
) -> Result<(), Errno> {
    if kind(k, inode.fs) == FsKind::Anon {
        return anon::set_attr(k, inode.ino, set);
    }
    change(k, p, inode.fs, |fs, cx| fs.set_attr(cx, inode.ino, set)).unwrap_or(Err(Errno::EPERM))
}

/// Makes an inode under a name, with a reference.
pub(crate) fn create(
    k: &mut FileSystems,
    p: &mut Ports<'_>,
    dir: InodeRef,
    name: &[u8],
    node: &NewNode<'_>,
) -> Result<Ino, Errno> {
    change(k, p, dir.fs, |fs, cx| fs.create(cx, dir.ino, name, node)).unwrap_or(Err(Errno::EACCES))
}

/// Makes a regular file without a name, with a reference.
pub(crate) fn create_unnamed(
    k: &mut FileSystems,
    p: &mut Ports<'_>,
    fs: FsId,
    node: &NewNode<'_>,
) -> Result<Ino, Errno> {
    change(k, p, fs, |fs, cx| fs.create_unnamed(cx, node)).unwrap_or(Err(Errno::EOPNOTSUPP))
}

/// Gives an inode one more name.
pub(crate) fn link(
    k: &mut FileSystems,
    p: &mut Ports<'_>,
    ino: Ino,
    dir: InodeRef,
    name: &[u8],
) -> Result<(), Errno> {
    change(k, p, dir.fs, |fs, cx| fs.link(cx, ino, dir.ino, name)).unwrap_or(Err(Errno::EPERM))
}

/// Removes a name of anything but a directory.
pub(crate) fn unlink(
    k: &mut FileSystems,
    p: &mut Ports<'_>,
    dir: InodeRef,
    name: &[u8],
) -> Result<(), Errno> {
    change(k, p, dir.fs, |fs, cx| fs.unlink(cx, dir.ino, name)).unwrap_or(Err(Errno::EPERM))
}

/// Removes an empty directory.
pub(crate) fn rmdir(
    k: &mut FileSystems,
    p: &mut Ports<'_>,
    dir: InodeRef,
    name: &[u8],
) -> Result<(), Errno> {
    change(k, p, dir.fs, |fs, cx| fs.rmdir(cx, dir.ino, name)).unwrap_or(Err(Errno::EPERM))
}

/// Renames inside one file system.
pub(crate) fn rename(
    k: &mut FileSystems,
    p: &mut Ports<'_>,
    fs: FsId,
    from: (Ino, &[u8]),
    to: (Ino, &[u8]),
    flags: RenameFlags,
) -> Result<(), Errno> {
    change(k, p, fs, |fs, cx| fs.rename(cx, from, to, flags)).unwrap_or(Err(Errno::EPERM))
}

/// Where the bytes of a regular file are; see [`InodeOps::extent`].
pub(crate) fn extent(
    k: &mut FileSystems,
    p: &mut Ports<'_>,
    inode: InodeRef,
    offset: u64,
) -> Result<Option<Extent>, Errno> {
    with(k, p, inode.fs, |fs, cx| fs.extent(cx, inode.ino, offset)).unwrap_or(Err(Errno::EINVAL))
}

/// The frame of a page that may be written.
pub(crate) fn page_for_write(
    k: &mut FileSystems,
    p: &mut Ports<'_>,
    inode: InodeRef,
    index: u64,
) -> Result<FrameNo, Errno> {
    pages_for_write(k, p, inode, index, 1).map(|(frame, _)| frame)
}

/// Up to `most` pages that may be written; see [`InodeOps::pages_for_write`].
pub(crate) fn pages_for_write(
    k: &mut FileSystems,
    p: &mut Ports<'_>,
    inode: InodeRef,
    index: u64,
    most: u64,
) -> Result<(FrameNo, u64), Errno> {
    change(k, p, inode.fs, |fs, cx| {
        fs.pages_for_write(cx, inode.ino, index, most)
    })
    .unwrap_or(Err(Errno::ENODEV))
}

/// Pages for mapping.
pub(crate) fn page_run(
    k: &mut FileSystems,
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
    k: &mut FileSystems,
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
pub(crate) fn stored(k: &mut FileSystems, p: &mut Ports<'_>, inode: InodeRef) {
    let now = Time::from_nanos(k.env.now.real);
    let _ = with(k, p, inode.fs, |fs, _| {
        fs.stored(inode.ino, now);
        Ok(())
    });
}

/// Frees a range of bytes, or the beginning of one; see [`InodeOps::punch_hole`].
pub(crate) fn punch_hole(
    k: &mut FileSystems,
    p: &mut Ports<'_>,
    inode: InodeRef,
    offset: u64,
    len: u64,
) -> Result<u64, Errno> {
    change(k, p, inode.fs, |fs, cx| {
        fs.punch_hole(cx, inode.ino, offset, len)
    })
    .unwrap_or(Err(Errno::EOPNOTSUPP))
}

/// Next data or hole.
pub(crate) fn seek(
    k: &mut FileSystems,
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
    k: &mut FileSystems,
    p: &mut Ports<'_>,
    inode: InodeRef,
    name: &[u8],
) -> Result<Vec<u8>, Errno> {
    with(k, p, inode.fs, |fs, cx| fs.get_xattr(cx, inode.ino, name))
        .unwrap_or(Err(Errno::EOPNOTSUPP))
}

/// Sets an extended attribute.
pub(crate) fn set_xattr(
    k: &mut FileSystems,
    p: &mut Ports<'_>,
    inode: InodeRef,
    name: &[u8],
    value: &[u8],
    flags: XattrFlags,
) -> Result<(), Errno> {
    change(k, p, inode.fs, |fs, cx| {
        fs.set_xattr(cx, inode.ino, name, value, flags)
    })
    .unwrap_or(Err(Errno::EOPNOTSUPP))
}

/// Removes an extended attribute.
pub(crate) fn remove_xattr(
    k: &mut FileSystems,
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
    k: &mut FileSystems,
    p: &mut Ports<'_>,
    inode: InodeRef,
) -> Result<Vec<Vec<u8>>, Errno> {
    with(k, p, inode.fs, |fs, cx| fs.list_xattr(cx, inode.ino)).unwrap_or(Ok(Vec::new()))
}

/// Sizes of a file system.
pub(crate) fn statfs(k: &FileSystems, fs: FsId) -> StatFs {
    match k.filesystem(fs) {
        Filesystem::Union(union) => union.statfs(&k.frames),
        Filesystem::Proc(_) => view::statfs_of_proc(),
        Filesystem::Sys(fs) => view::statfs_of_sys(*fs),
        Filesystem::Anon | Filesystem::Gone => anon::statfs(),
    }
}

/// Whether a file system is in memory alone, without layers below.
pub(crate) fn is_tmpfs(k: &FileSystems, fs: FsId) -> bool {
    matches!(k.filesystem(fs), Filesystem::Union(union) if union.is_tmpfs())
}

/// Whether all changes are refused.
pub(crate) fn is_read_only(k: &FileSystems, fs: FsId) -> bool {
    match k.filesystem(fs) {
        Filesystem::Union(union) => union.is_read_only(),
        Filesystem::Proc(proc) => proc.options.read_only,
        _ => false,
    }
}
