//! Shared anonymous memory: nameless files of an internal tmpfs, as in Linux.

use crate::Kernel;
use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::boot::Tree;
use crate::port::Ports;
use crate::vfs::file::{self, File, FileKind};
use crate::vfs::filesystem::{Filesystem, NewNode, SetAttr, Time};
use crate::vfs::mount::PathRef;
use crate::vfs::union::UnionFs;
use crate::vfs::{FileId, FsId, InodeRef, MountId, inode};

/// A file of `len` zero bytes that only mappings hold, with one reference.
pub(crate) fn shared_memory(k: &mut Kernel, p: &mut Ports<'_>, len: u64) -> Result<FileId, Errno> {
    let (fs, mount) = tmpfs(k, p)?;
    let node = NewNode {
        mode: g::S_IFREG | 0o777,
        uid: 0,
        gid: 0,
        rdev: 0,
        target: b"",
    };
    let ino = inode::create_unnamed(k, p, fs, &node)?;
    let at = InodeRef { fs, ino };
    let set = SetAttr {
        size: Some(len),
        ..SetAttr::default()
    };
    let made = inode::set_attr(k, p, at, &set).and_then(|()| inode::attr(k, p, at));
    let attr = match made {
        Ok(attr) => attr,
        Err(errno) => {
            inode::forget(k, p, at);
            return Err(errno);
        }
    };
    let dentry = k.vfs.dentries.new_root(fs, ino, &attr);
    let path = PathRef { mount, dentry };
    let opened = file::add(k, File::new(FileKind::Regular, path, Some(at), g::O_RDWR));
    if opened.is_err() {
        crate::vfs::mount::put_path(k, p, path);
    }
    opened
}

/// The internal tmpfs and its mount, made when they are first needed.
fn tmpfs(k: &mut Kernel, p: &mut Ports<'_>) -> Result<(FsId, MountId), Errno> {
    if let Some(known) = k.mm.shared {
        return Ok(known);
    }
    let tree = Tree {
        layers: alloc::vec::Vec::new(),
        read_only: false,
        upper_limit: None,
        index: None,
    };
    let now = Time::from_nanos(k.system.now.real);
    let fs = UnionFs::new(p, &tree, 0o700, now).map_err(|_| Errno::ENOMEM)?;
    let fs = k.vfs.add_filesystem(Filesystem::Union(fs));
    let root = inode::root(k, fs)?;
    let attr = inode::attr(k, p, InodeRef { fs, ino: root })?;
    let dentry = k.vfs.dentries.new_root(fs, root, &attr);
    let mount = k.vfs.mounts.add_internal(fs, dentry);
    k.mm.shared = Some((fs, mount));
    Ok((fs, mount))
}
