//! Names and file systems without anything above them.

use alloc::vec::Vec;

use super::*;
use crate::abi::raw::general::{S_IFMT, S_IFREG};
use crate::boot::Tree;
use crate::fs::filesystem::{Filesystem, InodeRef, NewNode, SetAttr, Time};
use crate::fs::union::UnionFs;
use crate::fs::{FsId, inode};
use crate::memhost::MemHost;
use crate::port::Ports;

/// A tmpfs that nothing is mounted of, and its root, held.
fn tmpfs(k: &mut Vfs, p: &mut Ports<'_>) -> (FsId, DentryId) {
    let tree = Tree {
        layers: Vec::new(),
        read_only: false,
        upper_limit: None,
        index: None,
    };
    let union = UnionFs::new(p, &tree, 0o755, Time::default()).unwrap();
    let fs = k.fs.add_filesystem(Filesystem::Union(union));
    let ino = inode::root(k, fs).unwrap();
    let attr = inode::stored_attr(k, p, InodeRef { fs, ino }).unwrap();
    (fs, k.dentries.new_root(fs, ino, &attr))
}

/// A file of one page in it, and its name in the cache, held.
fn file(k: &mut Vfs, p: &mut Ports<'_>, root: DentryId) -> (InodeRef, DentryId) {
    let dir = k.dentries.inode(root).unwrap();
    let node = NewNode {
        mode: S_IFREG | 0o640,
        uid: 1000,
        gid: 100,
        rdev: 0,
        flags: 0,
        target: b"",
    };
    let ino = inode::create(k, p, dir, b"file", &node).unwrap();
    let made = InodeRef { fs: dir.fs, ino };
    let size = SetAttr {
        size: Some(100),
        ..SetAttr::default()
    };
    inode::set_attr(k, p, made, &size).unwrap();
    inode::page_for_write(k, p, made, 0).unwrap();
    let attr = inode::stored_attr(k, p, made).unwrap();
    assert_eq!(
        (attr.mode & S_IFMT, attr.uid, attr.size),
        (S_IFREG, 1000, 100)
    );
    let name = k.dentries.insert(root, b"file", Some((ino, &attr)));
    k.dentries.get(name);
    (made, name)
}

/// The file of a name that is gone stays as long as somebody has it; then its pages are free.
#[test]
fn a_file_goes_with_its_last_reference() {
    let mut host = MemHost::new(64, Vec::new());
    let mut ports = host.ports();
    let mut vfs = Vfs::new(FileSystems::alone(64));
    let (_, root) = tmpfs(&mut vfs, &mut ports);
    let (made, name) = file(&mut vfs, &mut ports, root);
    assert_eq!(vfs.dentries.find(root, b"file"), Some(name));

    let dir = vfs.dentries.inode(root).unwrap();
    inode::unlink(&mut vfs, &mut ports, dir, b"file").unwrap();
    dentry::remove(&mut vfs, &mut ports, name);
    assert_eq!(vfs.dentries.find(root, b"file"), None);
    assert!(vfs.dentries.is_deleted(name));
    let attr = inode::stored_attr(&mut vfs, &mut ports, made).unwrap();
    assert_eq!((attr.nlink, vfs.frames.used()), (0, 1));

    dentry::put(&mut vfs, &mut ports, name);
    while vfs.frames.put_some() > 0 {}
    assert_eq!(vfs.frames.used(), 0);
    vfs.dentries.check().unwrap();
}

/// A file system does not know who maps its files: it leaves a note of pages that are gone.
#[test]
fn pages_that_were_cut_off_are_left_for_who_maps_them() {
    let mut host = MemHost::new(64, Vec::new());
    let mut ports = host.ports();
    let mut vfs = Vfs::new(FileSystems::alone(64));
    let (_, root) = tmpfs(&mut vfs, &mut ports);
    let (made, _) = file(&mut vfs, &mut ports, root);
    vfs.displaced.clear();
    let size = SetAttr {
        size: Some(0),
        ..SetAttr::default()
    };
    inode::set_attr(&mut vfs, &mut ports, made, &size).unwrap();
    let noted = vfs.displaced.iter();
    let cut: Vec<_> = noted.filter(|pages| pages.count.is_none()).collect();
    assert_eq!(cut.len(), 1, "{:?}", vfs.displaced);
    assert_eq!((cut[0].inode, cut[0].first), (made, 0));
}
