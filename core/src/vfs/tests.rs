//! Names and file systems without anything above them.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::caller::{Callers, Start};
use super::mount::MountFlags;
use super::names::Change;
use super::perm::Who;
use super::view::ViewOps;
use super::walk::Flags;
use super::*;
use crate::abi::Errno;
use crate::abi::raw::general::{AT_FDCWD, S_IFMT, S_IFREG};
use crate::args::{AtFlags, DirFd, RenameFlags};
use crate::boot::Tree;
use crate::cred::Creds;
use crate::cred::ns::NsId;
use crate::env::cx::Cx;
use crate::fs::filesystem::{Attr, Entry, Filesystem, Ino, InodeRef, NewNode, SetAttr, Time};
use crate::fs::union::UnionFs;
use crate::fs::{FsId, inode};
use crate::machine::ThreadId;
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

const CWD: DirFd = DirFd(AT_FDCWD);

/// A state with names alone, and one thread, which has no descriptors and is in no call.
struct Alone {
    vfs: Vfs,
    creds: Arc<Creds>,
    start: Start,
}

impl Alone {
    /// With a tmpfs as its root, which this user owns.
    fn new(p: &mut Ports<'_>, uid: u32) -> Alone {
        let mut vfs = Vfs::new(FileSystems::alone(64));
        let (fs, root) = tmpfs(&mut vfs, p);
        let at = vfs.dentries.inode(root).unwrap();
        let owner = SetAttr {
            uid: Some(uid),
            ..SetAttr::default()
        };
        inode::set_attr(&mut vfs, p, at, &owner).unwrap();
        let attr = inode::stored_attr(&mut vfs, p, at).unwrap();
        vfs.dentries.set_perm(root, &attr);
        let mount = mount::make_at(&mut vfs, (fs, root), MountFlags::empty(), b"none", "tmpfs");
        let place = PathRef {
            mount: mount.unwrap(),
            dentry: root,
        };
        Alone {
            vfs,
            creds: Arc::new(Creds::new(uid, uid, Vec::new())),
            start: Start {
                root: place,
                cwd: place,
                umask: 0o22,
            },
        }
    }
}

/// There are no file systems of that kind.
impl ViewOps for Alone {
    fn vfs(&self) -> &Vfs {
        &self.vfs
    }

    fn vfs_mut(&mut self) -> &mut Vfs {
        &mut self.vfs
    }

    fn view_lookup(
        &mut self,
        _p: &mut Ports<'_>,
        _who: &Who,
        _dir: InodeRef,
        _name: &[u8],
    ) -> Result<Ino, Errno> {
        Err(Errno::ENOENT)
    }

    fn view_attr(&mut self, _p: &mut Ports<'_>, _inode: InodeRef) -> Result<Attr, Errno> {
        Err(Errno::ENOENT)
    }

    fn view_shown_attr(
        &mut self,
        _p: &mut Ports<'_>,
        _who: &Who,
        _inode: InodeRef,
    ) -> Result<Attr, Errno> {
        Err(Errno::ENOENT)
    }

    fn view_permission(&self, _: &Who, _: InodeRef, _: u32) -> Option<Result<(), Errno>> {
        None
    }

    fn view_check_enter(&self, _who: &Who, _dir: InodeRef) -> Result<(), Errno> {
        Ok(())
    }

    fn view_jump(&mut self, _who: &Who, _link: InodeRef) -> Result<Option<PathRef>, Errno> {
        Ok(None)
    }

    fn view_read_link(
        &mut self,
        _p: &mut Ports<'_>,
        _who: &Who,
        _inode: InodeRef,
    ) -> Result<Vec<u8>, Errno> {
        Err(Errno::EINVAL)
    }

    fn view_read_dir(
        &mut self,
        _p: &mut Ports<'_>,
        _who: &Who,
        _dir: InodeRef,
        _cookie: u64,
        _each: &mut dyn FnMut(Entry<'_>) -> bool,
    ) -> Result<(), Errno> {
        Err(Errno::ENOTDIR)
    }

    fn view_exists(&self, _inode: InodeRef) -> bool {
        false
    }
}

impl Callers for Alone {
    fn creds_of(&self, _thread: ThreadId) -> &Arc<Creds> {
        &self.creds
    }

    fn start_of(&self, _thread: ThreadId) -> Start {
        self.start
    }

    fn place_of(&mut self, _: ThreadId, _: DirFd) -> Result<PathRef, Errno> {
        Err(Errno::EBADF)
    }

    fn has_opened(&mut self, _: ThreadId, _: DirFd) -> Result<bool, Errno> {
        Err(Errno::EBADF)
    }

    fn mounts_of(&self, _thread: ThreadId) -> Option<NsId> {
        None
    }

    fn is_in_call(&self, _thread: ThreadId) -> bool {
        false
    }

    fn count_walk(&mut self, _thread: ThreadId) -> Option<u32> {
        None
    }
}

/// What a path leads to.
fn found(cx: &mut Cx<'_, '_, Alone>, path: &[u8]) -> Result<InodeRef, Errno> {
    let path = walk::resolve(cx, CWD, path, Flags::FOLLOW)?;
    let inode = cx.k.vfs.dentries.inode(path.dentry);
    mount::put_path(&mut cx.k.vfs, cx.p, path);
    inode.ok_or(Errno::ENOENT)
}

/// Names are made, found, renamed and removed; what has become of them is told, and nothing stays held.
#[test]
fn names_are_made_moved_and_removed() {
    let mut host = MemHost::new(64, Vec::new());
    let mut ports = host.ports();
    let mut alone = Alone::new(&mut ports, 1000);
    let cx = &mut Cx {
        k: &mut alone,
        p: &mut ports,
        thread: ThreadId(1),
    };
    for dir in [&b"a"[..], b"a/b", b"c"] {
        let made = names::mkdir(cx, CWD, dir, 0o777).unwrap();
        assert!(matches!(
            &made,
            Change::Made {
                directory: true,
                ..
            }
        ));
        made.end(&mut cx.k.vfs, cx.p);
    }
    assert_eq!(
        names::mkdir(cx, CWD, b"a/", 0o777).err(),
        Some(Errno::EEXIST)
    );
    let file = names::mknod(cx, CWD, b"/a/b/file", S_IFREG | 0o666, 0).unwrap();
    file.end(&mut cx.k.vfs, cx.p);
    let inode = found(cx, b"a/./b/../b/file").unwrap();
    let attr = node::attr(cx.k, cx.p, inode).unwrap();
    assert_eq!((attr.mode, attr.uid), (S_IFREG | 0o644, 1000));

    let linked = names::link(cx, (CWD, b"a/b/file"), (CWD, b"c/other"), AtFlags::empty()).unwrap();
    assert!(matches!(&linked, Change::Linked { .. }));
    linked.end(&mut cx.k.vfs, cx.p);
    let link = names::symlink(cx, b"../c/other", CWD, b"a/link").unwrap();
    link.end(&mut cx.k.vfs, cx.p);
    assert_eq!(found(cx, b"a/link"), Ok(inode));

    // Two names of one file: nothing happens.
    let same = names::rename(
        cx,
        (CWD, b"a/b/file"),
        (CWD, b"c/other"),
        RenameFlags::empty(),
    )
    .unwrap();
    assert!(matches!(same, Change::Nothing));
    assert_eq!(
        names::rename(cx, (CWD, b"a"), (CWD, b"a/b/x"), RenameFlags::empty()).err(),
        Some(Errno::EINVAL)
    );
    let moved = names::rename(cx, (CWD, b"a/b"), (CWD, b"c/d"), RenameFlags::empty()).unwrap();
    match &moved {
        Change::Moved { names, .. } => {
            assert_eq!((&names[0].1[..], &names[1].1[..]), (&b"b"[..], &b"d"[..]));
        }
        other => panic!("{other:?}"),
    }
    moved.end(&mut cx.k.vfs, cx.p);
    assert_eq!(found(cx, b"a/b/file"), Err(Errno::ENOENT));
    assert_eq!(found(cx, b"c/d/file"), Ok(inode));

    assert_eq!(names::rmdir(cx, CWD, b"c/d").err(), Some(Errno::ENOTEMPTY));
    for (path, directory) in [
        (&b"c/d/file"[..], false),
        (b"c/other", false),
        (b"c/d", true),
    ] {
        let removed = match directory {
            true => names::rmdir(cx, CWD, path),
            false => names::unlink(cx, CWD, path),
        };
        removed.unwrap().end(&mut cx.k.vfs, cx.p);
    }
    assert!(inode::stored_attr(&mut cx.k.vfs, cx.p, inode).is_err());
    cx.k.vfs.dentries.check().unwrap();
    assert!(cx.k.vfs.mounts.is_indexed());
}

/// Who may not write to a directory makes nothing in it, and who may not search it finds nothing.
#[test]
fn permissions_are_asked_on_the_way() {
    let mut host = MemHost::new(64, Vec::new());
    let mut ports = host.ports();
    let mut alone = Alone::new(&mut ports, 1000);
    let cx = &mut Cx {
        k: &mut alone,
        p: &mut ports,
        thread: ThreadId(1),
    };
    for (dir, mode) in [
        (&b"open"[..], 0o755),
        (b"closed", 0o700),
        (b"closed/in", 0o755),
    ] {
        names::mkdir(cx, CWD, dir, mode)
            .unwrap()
            .end(&mut cx.k.vfs, cx.p);
    }
    cx.k.creds = Arc::new(Creds::new(1001, 1001, Vec::new()));
    assert!(found(cx, b"open").is_ok());
    assert_eq!(found(cx, b"closed/in"), Err(Errno::EACCES));
    assert_eq!(
        names::mkdir(cx, CWD, b"open/new", 0o755).err(),
        Some(Errno::EACCES)
    );
    assert_eq!(names::rmdir(cx, CWD, b"open").err(), Some(Errno::EACCES));
}
