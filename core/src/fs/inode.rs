//! Operations on inodes of any file system, and what each leaves: what the file systems hold is counted, what
//! they found damaged is logged, and pages that moved are noted for those who map files.

use alloc::vec::Vec;

use crate::abi::Errno;
use crate::args::{RenameFlags, XattrFlags};
use crate::event::Level;
pub(crate) use crate::fs::filesystem::FsKind;
use crate::fs::filesystem::{
    Attr, Entry, Extent, Filesystem, FsCx, FsId, Ino, InodeOps, InodeRef, NewNode, PageRun,
    SetAttr, Sought, StatFs, Time, of_fs,
};
use crate::fs::{Displaced, FileSystems};
use crate::machine::FrameNo;
use crate::port::Ports;

pub(crate) fn kind(k: &FileSystems, fs: FsId) -> FsKind {
    of_fs!(k.filesystem(fs), kind())
}

/// Whether the nodes of a file system are made as they are looked at: what is asked of them is not asked
/// here.
pub(crate) fn is_view(k: &FileSystems, fs: FsId) -> bool {
    of_fs!(k.filesystem(fs), is_view())
}

/// Whether names and attributes change without an operation of the kernel.
pub(crate) fn changes_by_itself(k: &FileSystems, fs: FsId) -> bool {
    of_fs!(k.filesystem(fs), changes_by_itself())
}

/// Runs an operation of a file system; what it holds and what it found damaged is taken note of.
fn with<R>(
    k: &mut FileSystems,
    p: &mut Ports<'_>,
    fs: FsId,
    run: impl FnOnce(&mut Filesystem, &mut FsCx<'_, '_>) -> R,
) -> R {
    let base = &mut k.base;
    let mut cx = FsCx {
        ports: p,
        frames: &mut k.frames,
        acls: &mut k.acls,
        now: base.env.now,
        env: &mut base.env,
        objects: &mut k.objects,
    };
    let fs = &mut k.filesystems[fs.0 as usize].fs; // INVARIANT: a mounted file system is there
    let old = of_fs!(&*fs, heap());
    let result = run(fs, &mut cx);
    k.heap = k.heap + of_fs!(&*fs, heap()) - old;
    for line in of_fs!(fs, take_faults()) {
        base.env.log(Level::Error, line);
    }
    result
}

/// Runs an operation that changes a file system, then notes the pages that moved or went.
fn change<R>(
    k: &mut FileSystems,
    p: &mut Ports<'_>,
    fs: FsId,
    run: impl FnOnce(&mut Filesystem, &mut FsCx<'_, '_>) -> R,
) -> R {
    let result = with(k, p, fs, run);
    let changed = k.filesystem_mut(fs);
    let cut = of_fs!(changed, take_cut());
    let moved = of_fs!(changed, take_moved());
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
    result
}

/// The root directory.
pub(crate) fn root(k: &FileSystems, fs: FsId) -> Result<Ino, Errno> {
    Ok(of_fs!(k.filesystem(fs), root()))
}

/// The inode of a name, with a reference.
pub(crate) fn lookup(
    k: &mut FileSystems,
    p: &mut Ports<'_>,
    dir: InodeRef,
    name: &[u8],
) -> Result<Ino, Errno> {
    with(k, p, dir.fs, |fs, cx| of_fs!(fs, lookup(cx, dir.ino, name)))
}

/// Gives a reference back.
pub(crate) fn forget(k: &mut FileSystems, p: &mut Ports<'_>, inode: InodeRef) {
    k.seals.forget(inode);
    change(k, p, inode.fs, |fs, cx| of_fs!(fs, forget(cx, inode.ino)));
}

/// Attributes of an inode that a file system keeps itself. `ENOENT` for those that the kernel makes as they
/// are looked at.
pub(crate) fn stored_attr(
    k: &mut FileSystems,
    p: &mut Ports<'_>,
    inode: InodeRef,
) -> Result<Attr, Errno> {
    with(k, p, inode.fs, |fs, cx| of_fs!(fs, attr(cx, inode.ino)))
}

/// Target of a symbolic link.
pub(crate) fn read_link(
    k: &mut FileSystems,
    p: &mut Ports<'_>,
    inode: InodeRef,
) -> Result<Vec<u8>, Errno> {
    with(k, p, inode.fs, |fs, cx| {
        of_fs!(fs, read_link(cx, inode.ino))
    })
}

/// Entries of a directory.
pub(crate) fn read_dir(
    k: &mut FileSystems,
    p: &mut Ports<'_>,
    dir: InodeRef,
    cookie: u64,
    each: &mut dyn FnMut(Entry<'_>) -> bool,
) -> Result<(), Errno> {
    with(k, p, dir.fs, |fs, cx| {
        of_fs!(fs, read_dir(cx, dir.ino, cookie, each))
    })
}

/// Changes attributes. The caller keeps the dentry of a directory up to date.
pub(crate) fn set_attr(
    k: &mut FileSystems,
    p: &mut Ports<'_>,
    inode: InodeRef,
    set: &SetAttr,
) -> Result<(), Errno> {
    change(k, p, inode.fs, |fs, cx| {
        of_fs!(fs, set_attr(cx, inode.ino, set))
    })
}

/// Makes an inode under a name, with a reference.
pub(crate) fn create(
    k: &mut FileSystems,
    p: &mut Ports<'_>,
    dir: InodeRef,
    name: &[u8],
    node: &NewNode<'_>,
) -> Result<Ino, Errno> {
    change(k, p, dir.fs, |fs, cx| {
        of_fs!(fs, create(cx, dir.ino, name, node))
    })
}

/// Makes a regular file without a name, with a reference.
pub(crate) fn create_unnamed(
    k: &mut FileSystems,
    p: &mut Ports<'_>,
    fs: FsId,
    node: &NewNode<'_>,
) -> Result<Ino, Errno> {
    change(k, p, fs, |fs, cx| of_fs!(fs, create_unnamed(cx, node)))
}

/// Gives an inode one more name.
pub(crate) fn link(
    k: &mut FileSystems,
    p: &mut Ports<'_>,
    ino: Ino,
    dir: InodeRef,
    name: &[u8],
) -> Result<(), Errno> {
    change(k, p, dir.fs, |fs, cx| {
        of_fs!(fs, link(cx, ino, dir.ino, name))
    })
}

/// Removes a name of anything but a directory.
pub(crate) fn unlink(
    k: &mut FileSystems,
    p: &mut Ports<'_>,
    dir: InodeRef,
    name: &[u8],
) -> Result<(), Errno> {
    change(k, p, dir.fs, |fs, cx| of_fs!(fs, unlink(cx, dir.ino, name)))
}

/// Removes an empty directory.
pub(crate) fn rmdir(
    k: &mut FileSystems,
    p: &mut Ports<'_>,
    dir: InodeRef,
    name: &[u8],
) -> Result<(), Errno> {
    change(k, p, dir.fs, |fs, cx| of_fs!(fs, rmdir(cx, dir.ino, name)))
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
    change(k, p, fs, |fs, cx| of_fs!(fs, rename(cx, from, to, flags)))
}

/// Where the bytes of a regular file are; see [`InodeOps::extent`].
pub(crate) fn extent(
    k: &mut FileSystems,
    p: &mut Ports<'_>,
    inode: InodeRef,
    offset: u64,
) -> Result<Option<Extent>, Errno> {
    with(k, p, inode.fs, |fs, cx| {
        of_fs!(fs, extent(cx, inode.ino, offset))
    })
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
        of_fs!(fs, pages_for_write(cx, inode.ino, index, most))
    })
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
        of_fs!(fs, page_run(cx, inode.ino, index, max))
    })
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
        of_fs!(fs, allocate(cx, inode.ino, first, count, most))
    })
}

/// A program is about to change a file through a mapping: its times say so.
pub(crate) fn stored(k: &mut FileSystems, p: &mut Ports<'_>, inode: InodeRef) {
    let now = Time::from_nanos(k.env.now.real);
    with(k, p, inode.fs, |fs, _| of_fs!(fs, stored(inode.ino, now)));
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
        of_fs!(fs, punch_hole(cx, inode.ino, offset, len))
    })
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
        of_fs!(fs, seek(cx, inode.ino, offset, data))
    })
}

/// Value of an extended attribute.
pub(crate) fn get_xattr(
    k: &mut FileSystems,
    p: &mut Ports<'_>,
    inode: InodeRef,
    name: &[u8],
) -> Result<Vec<u8>, Errno> {
    with(k, p, inode.fs, |fs, cx| {
        of_fs!(fs, get_xattr(cx, inode.ino, name))
    })
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
        of_fs!(fs, set_xattr(cx, inode.ino, name, value, flags))
    })
}

/// Removes an extended attribute.
pub(crate) fn remove_xattr(
    k: &mut FileSystems,
    p: &mut Ports<'_>,
    inode: InodeRef,
    name: &[u8],
) -> Result<(), Errno> {
    change(k, p, inode.fs, |fs, cx| {
        of_fs!(fs, remove_xattr(cx, inode.ino, name))
    })
}

/// Names of extended attributes.
pub(crate) fn list_xattr(
    k: &mut FileSystems,
    p: &mut Ports<'_>,
    inode: InodeRef,
) -> Result<Vec<Vec<u8>>, Errno> {
    with(k, p, inode.fs, |fs, cx| {
        of_fs!(fs, list_xattr(cx, inode.ino))
    })
}

/// Sizes of a file system.
pub(crate) fn statfs(k: &FileSystems, fs: FsId) -> StatFs {
    of_fs!(k.filesystem(fs), statfs(&k.frames))
}

/// Whether a file system is in memory alone, without layers below.
pub(crate) fn is_tmpfs(k: &FileSystems, fs: FsId) -> bool {
    of_fs!(k.filesystem(fs), is_tmpfs())
}

/// Whether all changes are refused.
pub(crate) fn is_read_only(k: &FileSystems, fs: FsId) -> bool {
    of_fs!(k.filesystem(fs), is_read_only())
}
