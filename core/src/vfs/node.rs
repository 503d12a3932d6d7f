//! Inodes of any file system: those that file systems keep, and those that are made as they are looked at.

use alloc::vec::Vec;

use super::perm::{self, Who};
use super::view::ViewOps;
use crate::abi::Errno;
use crate::fs::filesystem::{Attr, Entry, Ino, InodeRef};
use crate::fs::inode;
use crate::port::Ports;

/// Whether the nodes of a file system are made as they are looked at.
fn is_view(k: &impl ViewOps, inode: InodeRef) -> bool {
    inode::is_view(k.vfs(), inode.fs)
}

/// The inode of a name, with a reference.
pub(crate) fn lookup<K: ViewOps>(
    k: &mut K,
    p: &mut Ports<'_>,
    who: &Who,
    dir: InodeRef,
    name: &[u8],
) -> Result<Ino, Errno> {
    match is_view(k, dir) {
        true => k.view_lookup(p, who, dir, name),
        false => inode::lookup(k.vfs_mut(), p, dir, name),
    }
}

/// Attributes.
pub(crate) fn attr<K: ViewOps>(
    k: &mut K,
    p: &mut Ports<'_>,
    inode: InodeRef,
) -> Result<Attr, Errno> {
    match is_view(k, inode) {
        true => k.view_attr(p, inode),
        false => inode::stored_attr(k.vfs_mut(), p, inode),
    }
}

/// Whether somebody may read, write or execute a file. `EACCES`, `EPERM`; `EROFS` for settings.
pub(crate) fn permission<K: ViewOps>(
    k: &K,
    who: &Who,
    inode: InodeRef,
    attr: &Attr,
    mask: u32,
) -> Result<(), Errno> {
    let judged = match is_view(k, inode) {
        true => k.view_permission(who, inode, mask),
        false => None,
    };
    judged.unwrap_or_else(|| perm::permission(k.vfs(), who, attr, mask))
}

/// Whether a directory of a process lets somebody in at all, whatever its permissions say. `EPERM`, `ENOENT`.
pub(crate) fn check_enter<K: ViewOps>(k: &K, who: &Who, inode: InodeRef) -> Result<(), Errno> {
    match is_view(k, inode) {
        true => k.view_check_enter(who, inode),
        false => Ok(()),
    }
}

/// Attributes as a program is told of them. `ENOENT` where it is not to know of a process.
pub(crate) fn shown_attr<K: ViewOps>(
    k: &mut K,
    p: &mut Ports<'_>,
    who: &Who,
    inode: InodeRef,
) -> Result<Attr, Errno> {
    match is_view(k, inode) {
        true => k.view_shown_attr(p, who, inode),
        false => inode::stored_attr(k.vfs_mut(), p, inode),
    }
}

/// Target of a symbolic link.
pub(crate) fn read_link<K: ViewOps>(
    k: &mut K,
    p: &mut Ports<'_>,
    who: &Who,
    inode: InodeRef,
) -> Result<Vec<u8>, Errno> {
    match is_view(k, inode) {
        true => k.view_read_link(p, who, inode),
        false => inode::read_link(k.vfs_mut(), p, inode),
    }
}

/// Entries of a directory.
pub(crate) fn read_dir<K: ViewOps>(
    k: &mut K,
    p: &mut Ports<'_>,
    who: &Who,
    dir: InodeRef,
    cookie: u64,
    each: &mut dyn FnMut(Entry<'_>) -> bool,
) -> Result<(), Errno> {
    match is_view(k, dir) {
        true => k.view_read_dir(p, who, dir, cookie, each),
        false => inode::read_dir(k.vfs_mut(), p, dir, cookie, each),
    }
}
