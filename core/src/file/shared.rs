//! Shared anonymous memory: nameless files of an internal tmpfs, as in Linux.

use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::args::OpenFlags;
use crate::boot::Tree;
use crate::file;
use crate::file::Files;
use crate::file::{File, FileId, FileKind};
use crate::fs::filesystem::{Filesystem, NewNode, SetAttr, Time};
use crate::fs::union::UnionFs;
use crate::fs::{FsId, InodeRef, inode};
use crate::port::Ports;
use crate::vfs::MountId;
use crate::vfs::mount::HeldPath;

/// A file of `len` zero bytes that only mappings hold, with one reference.
pub(crate) fn shared_memory(k: &mut Files, p: &mut Ports<'_>, len: u64) -> Result<FileId, Errno> {
    memory_file(k, p, b"dev/zero", 0o777, (0, 0), len)
}

/// Most bytes of the name of a memory file (`MFD_NAME_MAX_LEN`).
pub(crate) const NAME_MAX: usize = 249;

/// A nameless file of `len` zero bytes, open for reading and writing, with one reference. `name` is what
/// `/proc/PID/fd` shows.
pub(crate) fn memory_file(
    k: &mut Files,
    p: &mut Ports<'_>,
    name: &[u8],
    mode: u32,
    (uid, gid): (u32, u32),
    len: u64,
) -> Result<FileId, Errno> {
    let (fs, mount) = tmpfs(k, p)?;
    let node = NewNode {
        mode: g::S_IFREG | mode,
        uid,
        gid,
        rdev: 0,
        flags: 0,
        target: b"",
    };
    let ino = inode::create_unnamed(k, p, fs, &node)?;
    let at = InodeRef { fs, ino };
    let set = SetAttr {
        size: Some(len),
        ..SetAttr::default()
    };
    let made = inode::set_attr(k, p, at, &set).and_then(|()| inode::stored_attr(k, p, at));
    let attr = match made {
        Ok(attr) => attr,
        Err(errno) => {
            inode::forget(k, p, at);
            return Err(errno);
        }
    };
    let root = k.vfs.mounts.at(mount).root;
    let dentry = k.vfs.dentries.insert_unnamed(root, name, ino, &attr);
    k.vfs.dentries.set_nameless(dentry);
    // The mount is the kernel's own, whose references are not counted.
    let path = HeldPath::of(mount, dentry);
    let file = File::new(FileKind::Regular, path, Some(at), OpenFlags::RDWR);
    file::add(k, p, file)
}

/// Whether an open file is such memory.
pub(crate) fn is_of(k: &Files, file: FileId) -> bool {
    k.file(file)
        .is_some_and(|file| k.vfs.is_of_memory(file.path.mount))
}

/// The internal tmpfs and its mount, made when they are first needed.
fn tmpfs(k: &mut Files, p: &mut Ports<'_>) -> Result<(FsId, MountId), Errno> {
    if let Some(known) = k.shared {
        return Ok(known);
    }
    let tree = Tree {
        layers: alloc::vec::Vec::new(),
        read_only: false,
        upper_limit: None,
        index: None,
    };
    let now = Time::from_nanos(k.env.now.real);
    let mut fs = UnionFs::new(p, &tree, 0o700, now).map_err(|_| Errno::ENOMEM)?;
    fs.set_memory();
    let fs = k.fs.add_filesystem(Filesystem::Union(fs));
    let root = inode::root(k, fs)?;
    let attr = inode::stored_attr(k, p, InodeRef { fs, ino: root })?;
    let dentry = k.vfs.dentries.new_root(fs, root, &attr);
    let mount = k.vfs.mounts.add_internal(fs, dentry);
    k.shared = Some((fs, mount));
    Ok((fs, mount))
}
