//! Inodes of any file system: those that file systems keep, and those of `proc` and `sysfs`, which are made
//! as they are looked at.

use alloc::vec::Vec;

use super::perm::{self, Who};
use crate::Kernel;
use crate::abi::Errno;
use crate::fs::filesystem::{Attr, Entry, Ino, InodeOps, InodeRef};
use crate::fs::inode::{self, FsKind};
use crate::port::Ports;
use crate::views::{proc, sysfs};

/// The inode of a name, with a reference.
pub(crate) fn lookup(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    who: &Who,
    dir: InodeRef,
    name: &[u8],
) -> Result<Ino, Errno> {
    match inode::with(k, p, dir.fs, |fs, cx| fs.lookup(cx, dir.ino, name)) {
        Some(result) => result,
        None if inode::kind(k, dir.fs) == FsKind::Proc => proc::lookup(k, p, who, dir, name),
        None => match inode::sys(k, dir.fs) {
            Some(fs) => sysfs::lookup(k, fs, dir.ino, name),
            None => Err(Errno::ENOENT),
        },
    }
}

/// Attributes.
pub(crate) fn attr(k: &mut Kernel, p: &mut Ports<'_>, inode: InodeRef) -> Result<Attr, Errno> {
    match inode::kind(k, inode.fs) {
        FsKind::Proc => proc::attr(k, p, inode.ino),
        FsKind::Sys => sysfs::attr(k, inode::sys(k, inode.fs).ok_or(Errno::ENOENT)?, inode.ino),
        FsKind::Union | FsKind::Anon => inode::stored_attr(k, p, inode),
    }
}

/// Whether somebody may read, write or execute a file. `EACCES`, `EPERM`; `EROFS` for settings.
pub(crate) fn permission(
    k: &Kernel,
    who: &Who,
    inode: InodeRef,
    attr: &Attr,
    mask: u32,
) -> Result<(), Errno> {
    let judged = match inode::kind(k, inode.fs) {
        FsKind::Proc => proc::permission(k, who, inode.ino, mask),
        _ => None,
    };
    judged.unwrap_or_else(|| perm::permission(k, who, attr, mask))
}

/// Whether a directory of a process lets somebody in at all, whatever its permissions say. `EPERM`, `ENOENT`.
pub(crate) fn check_enter(k: &Kernel, who: &Who, inode: InodeRef) -> Result<(), Errno> {
    match inode::kind(k, inode.fs) {
        FsKind::Proc => proc::check_enter(k, who, inode),
        _ => Ok(()),
    }
}

/// Attributes as a program is told of them. `ENOENT` where it is not to know of a process.
pub(crate) fn shown_attr(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    who: &Who,
    inode: InodeRef,
) -> Result<Attr, Errno> {
    if inode::kind(k, inode.fs) == FsKind::Proc {
        proc::check_attr(k, who, inode)?;
        let attr = proc::attr(k, p, inode.ino)?;
        let (uid, gid) = proc::owner(k, who, inode.ino).unwrap_or((attr.uid, attr.gid));
        return Ok(Attr { uid, gid, ..attr });
    }
    attr(k, p, inode)
}

/// Target of a symbolic link.
pub(crate) fn read_link(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    who: &Who,
    inode: InodeRef,
) -> Result<Vec<u8>, Errno> {
    match inode::with(k, p, inode.fs, |fs, cx| fs.read_link(cx, inode.ino)) {
        Some(result) => result,
        None if inode::kind(k, inode.fs) == FsKind::Proc => {
            proc::read_link(k, p, who.viewer(), inode)
        }
        None => match inode::sys(k, inode.fs) {
            Some(fs) => sysfs::read_link(k, fs, inode.ino),
            None => Err(Errno::EINVAL),
        },
    }
}

/// Contents of a file that the kernel makes, as they are now, or what makes them.
pub(crate) fn content(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    who: &Who,
    inode: InodeRef,
) -> Result<proc::Shown, Errno> {
    match inode::sys(k, inode.fs) {
        Some(fs) => sysfs::content(k, fs, inode.ino).map(proc::Shown::whole),
        None => proc::content(k, p, who.viewer(), inode),
    }
}

/// Entries of a directory.
pub(crate) fn read_dir(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    who: &Who,
    dir: InodeRef,
    cookie: u64,
    each: &mut dyn FnMut(Entry<'_>) -> bool,
) -> Result<(), Errno> {
    let mut each = Some(each);
    let result = inode::with(k, p, dir.fs, |fs, cx| match each.take() {
        Some(each) => fs.read_dir(cx, dir.ino, cookie, each),
        None => Ok(()),
    });
    match (result, each) {
        (Some(result), _) => result,
        (None, Some(each)) if inode::kind(k, dir.fs) == FsKind::Proc => {
            proc::read_dir(k, p, who, dir, cookie, each)
        }
        (None, Some(each)) => match inode::sys(k, dir.fs) {
            Some(fs) => sysfs::read_dir(k, fs, dir.ino, cookie, each),
            None => Err(Errno::ENOTDIR),
        },
        _ => Err(Errno::ENOTDIR),
    }
}
