//! File systems: what each must do, in terms of inode numbers, and the one place that finds what implements
//! it.
//!
//! A new file system is a variant of [`Filesystem`], a file that implements [`InodeOps`], and a line in
//! `of_fs!`. What it leaves out has the answer of those that keep nothing themselves.
//!
//! The VFS above holds one reference on an inode for each dentry that names it; [`InodeOps::lookup`] and
//! [`InodeOps::create`] give a reference, [`InodeOps::forget`] takes one back. An inode without links and
//! references is freed. Permissions, mounts, symbolic links and names such as `.` are the business of the
//! layers above.

use alloc::string::String;
use alloc::vec::Vec;

pub use varve_imgfs::Time;
/// An inode number in one file system is also `st_ino`. A cookie of an entry is stable while the directory is
/// open.
pub(crate) use varve_imgfs::{Entry, Ino};

use crate::abi::{Errno, PAGE_SIZE};
use crate::args::{RenameFlags, XattrFlags};
use crate::env::Env;
pub(crate) use crate::env::ids::{FsId, InodeRef};
use crate::env::steps::Steps;
use crate::event::Now;
use crate::fs::Frames;
use crate::fs::acl::{AclId, Acls};
use crate::fs::anon::Objects;
use crate::fs::union::UnionFs;
use crate::fs::view::{ProcFs, SysFs};
use crate::machine::{FrameNo, ImageId};
use crate::port::Ports;

/// What a file system needs from outside for one operation.
pub(crate) struct FsCx<'a, 'p> {
    pub ports: &'a mut Ports<'p>,
    pub frames: &'a mut Frames,
    pub acls: &'a mut Acls,
    pub now: Now,
    pub env: &'a mut Env,
    pub objects: &'a mut Objects,
}

/// Attributes of an inode.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Attr {
    /// File type and permissions (`S_IFMT | 07777`).
    pub mode: u32,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Hard links; 1 for a directory that several layers make together.
    pub nlink: u32,
    /// Bytes.
    pub size: u64,
    /// In units of 512 bytes.
    pub blocks: u64,
    /// Kernel's 32-bit encoding (`new_encode_dev`).
    pub rdev: u32,
    /// Last access.
    pub atime: Time,
    /// Last change of the contents.
    pub mtime: Time,
    /// Last change of the inode.
    pub ctime: Time,
    /// When it was made.
    pub btime: Time,
    /// Its POSIX ACL.
    pub acl: Option<AclId>,
    /// Flags of chattr(1).
    pub flags: u32,
}

impl From<varve_imgfs::Attr> for Attr {
    fn from(lower: varve_imgfs::Attr) -> Attr {
        Attr {
            mode: lower.mode,
            uid: lower.uid,
            gid: lower.gid,
            nlink: lower.nlink,
            size: lower.size,
            blocks: lower.blocks,
            rdev: lower.rdev,
            atime: lower.mtime,
            mtime: lower.mtime,
            ctime: lower.mtime,
            btime: lower.mtime,
            acl: None,
            flags: 0,
        }
    }
}

/// Attributes to change; `None` stays. `ctime` always becomes now.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SetAttr {
    /// Permission bits (07777) only.
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    /// New size of a regular file (truncate or extend with a hole).
    pub size: Option<u64>,
    pub atime: Option<Time>,
    pub mtime: Option<Time>,
    /// Flags of chattr(1).
    pub flags: Option<u32>,
    /// Capabilities of the file go (`security.capability`).
    pub no_capabilities: bool,
}

/// An inode to be made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewNode<'a> {
    /// File type and permissions, umask already applied.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub rdev: u32,
    /// Flags of chattr(1).
    pub flags: u32,
    /// Target of a symbolic link.
    pub target: &'a [u8],
}

/// Where bytes of a regular file are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Source {
    /// At this byte offset of the memory file.
    Memory(u64),
    /// At this byte offset of an image file.
    Image { image: ImageId, offset: u64 },
    /// Nowhere: they are zero.
    Zero,
}

/// A run of bytes of a regular file in one place.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Extent {
    pub source: Source,
    /// Bytes, at least 1.
    pub len: u64,
}

/// How far a search for data or a hole has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sought {
    At(u64),
    /// Not found before this byte; the search goes on there.
    Later(u64),
}

/// A page of a regular file as it can be mapped.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Page {
    /// A frame that belongs to the inode (its page cache). The mapping takes a reference of its own
    /// (`Frames::get`).
    Frame(FrameNo),
    /// A page-aligned part of an image, with zeros behind the end of the file.
    Image { image: ImageId, offset: u64 },
}

/// A run of consecutive pages of a file that are consecutive where they are, too.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct PageRun {
    pub first: Page,
    /// Pages, at least 1.
    pub count: u64,
}

/// Sizes of a file system (statfs(2)).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct StatFs {
    /// `f_type`.
    pub magic: u64,
    pub block_size: u64,
    pub blocks: u64,
    pub free: u64,
    pub files: u64,
    pub files_free: u64,
}

impl StatFs {
    /// Of a file system without blocks (`simple_statfs()`).
    pub(crate) fn simple(magic: u64) -> StatFs {
        StatFs {
            magic,
            block_size: PAGE_SIZE,
            ..StatFs::default()
        }
    }
}

/// Which kind of file system an inode is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FsKind {
    Union,
    Proc,
    Sys,
    Anon,
}

/// A file system. Of `proc` and `sysfs` only the instance is here: their inodes are made from what stands
/// above, with the whole kernel at hand ([`views`](crate::views)).
#[derive(Clone, Debug, Hash)]
#[expect(
    clippy::large_enum_variant,
    reason = "a run has a handful of them, most of them unions"
)]
pub(crate) enum Filesystem {
    /// Read-only layers and a writable in-memory upper; without layers a tmpfs.
    Union(UnionFs),
    /// Process information.
    Proc(ProcFs),
    /// Devices and control groups.
    Sys(SysFs),
    /// Pipes and streams ([`anon`](crate::fs::anon)).
    Anon,
    /// It had no mounts any more.
    Gone,
}

/// The answer of what implements [`InodeOps`] for a [`Filesystem`].
macro_rules! of_fs {
    ($fs:expr, $name:ident($($arg:expr),*)) => {
        match $fs {
            $crate::fs::filesystem::Filesystem::Union(fs) => fs.$name($($arg),*),
            $crate::fs::filesystem::Filesystem::Proc(fs) => fs.$name($($arg),*),
            $crate::fs::filesystem::Filesystem::Sys(fs) => fs.$name($($arg),*),
            $crate::fs::filesystem::Filesystem::Anon
            | $crate::fs::filesystem::Filesystem::Gone => $crate::fs::anon::AnonFs.$name($($arg),*),
        }
    };
}

pub(super) use of_fs;

/// The operations of a file system: the contract between it and the VFS above.
///
/// All names are single components of 1..=255 bytes, never `.` or `..`, without NUL or `/`. Directories given
/// are directories, else `ENOTDIR`. A read-only instance answers changes with `EROFS`. The answers that stand
/// here are those of a file system that keeps no inodes itself.
pub(crate) trait InodeOps {
    /// Which kind it is of.
    fn kind(&self) -> FsKind;

    /// Its nodes are made as they are looked at, above.
    fn is_view(&self) -> bool {
        false
    }

    /// All changes are refused.
    fn is_read_only(&self) -> bool {
        false
    }

    /// It is in memory alone, without layers below.
    fn is_tmpfs(&self) -> bool {
        false
    }

    /// Names and attributes change without an operation of the kernel.
    fn changes_by_itself(&self) -> bool {
        false
    }

    /// The root directory. No reference is given.
    fn root(&self) -> Ino;

    /// The inode called `name`; gives a reference. `ENOENT` if there is none.
    fn lookup(&mut self, _cx: &mut FsCx<'_, '_>, _dir: Ino, _name: &[u8]) -> Result<Ino, Errno> {
        Err(Errno::ENOENT)
    }

    /// Takes back one reference.
    fn forget(&mut self, _cx: &mut FsCx<'_, '_>, _ino: Ino) {}

    /// Attributes.
    fn attr(&mut self, _cx: &mut FsCx<'_, '_>, _ino: Ino) -> Result<Attr, Errno> {
        Err(Errno::ENOENT)
    }

    /// Changes attributes. Clearing of set-id bits is decided above.
    fn set_attr(&mut self, _cx: &mut FsCx<'_, '_>, _ino: Ino, _set: &SetAttr) -> Result<(), Errno> {
        Err(Errno::EPERM)
    }

    /// Target of a symbolic link; `EINVAL` for others.
    fn read_link(&mut self, _cx: &mut FsCx<'_, '_>, _ino: Ino) -> Result<Vec<u8>, Errno> {
        Err(Errno::EINVAL)
    }

    /// Makes an inode of any type under a name; gives a reference. `EEXIST` if the name is taken.
    fn create(
        &mut self,
        _cx: &mut FsCx<'_, '_>,
        _dir: Ino,
        _name: &[u8],
        _node: &NewNode<'_>,
    ) -> Result<Ino, Errno> {
        Err(Errno::EACCES)
    }

    /// Makes a regular file without a name (`O_TMPFILE`, memfd); gives a reference.
    fn create_unnamed(
        &mut self,
        _cx: &mut FsCx<'_, '_>,
        _node: &NewNode<'_>,
    ) -> Result<Ino, Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Gives an inode (not a directory) one more name. `EMLINK`, `EEXIST`.
    fn link(
        &mut self,
        _cx: &mut FsCx<'_, '_>,
        _ino: Ino,
        _dir: Ino,
        _name: &[u8],
    ) -> Result<(), Errno> {
        Err(Errno::EPERM)
    }

    /// Removes the name of anything but a directory (`EISDIR`).
    fn unlink(&mut self, _cx: &mut FsCx<'_, '_>, _dir: Ino, _name: &[u8]) -> Result<(), Errno> {
        Err(Errno::EPERM)
    }

    /// Removes an empty directory (`ENOTEMPTY`, `ENOTDIR`).
    fn rmdir(&mut self, _cx: &mut FsCx<'_, '_>, _dir: Ino, _name: &[u8]) -> Result<(), Errno> {
        Err(Errno::EPERM)
    }

    /// Renames; replaces an existing target as rename(2) says. That a directory does not go below itself is
    /// checked above.
    fn rename(
        &mut self,
        _cx: &mut FsCx<'_, '_>,
        _from: (Ino, &[u8]),
        _to: (Ino, &[u8]),
        _flags: RenameFlags,
    ) -> Result<(), Errno> {
        Err(Errno::EPERM)
    }

    /// Gives the entries from `cookie` on (0 is the start) until `each` returns `false`; that entry counts as
    /// not given. Merged over all layers, without `.` and `..`, each name once, in a stable order.
    fn read_dir(
        &mut self,
        _cx: &mut FsCx<'_, '_>,
        _dir: Ino,
        _cookie: u64,
        _each: &mut dyn FnMut(Entry<'_>) -> bool,
    ) -> Result<(), Errno> {
        Err(Errno::ENOTDIR)
    }

    /// Where the bytes of a regular file from `offset` on are; `None` at or behind the end.
    fn extent(
        &mut self,
        _cx: &mut FsCx<'_, '_>,
        _ino: Ino,
        _offset: u64,
    ) -> Result<Option<Extent>, Errno> {
        Err(Errno::EINVAL)
    }

    /// Up to `most` (at least 1) pages from this index on in consecutive frames of the inode that may be
    /// written, copied up or made if need be: the first frame and how many. `ENOSPC` past a limit, `ENOMEM`.
    /// Does not change the size. The caller tells the address spaces if pages moved (see
    /// [`Self::take_moved`]).
    fn pages_for_write(
        &mut self,
        _cx: &mut FsCx<'_, '_>,
        _ino: Ino,
        _index: u64,
        _most: u64,
    ) -> Result<(FrameNo, u64), Errno> {
        Err(Errno::ENODEV)
    }

    /// The pages from `index` on (at most `max`) for mapping. A page that cannot be mapped where it is
    /// (inline tail, hole, unclean slack) gets a frame. Pages wholly behind the end of the file are `ENXIO`
    /// (the program gets SIGBUS).
    fn page_run(
        &mut self,
        _cx: &mut FsCx<'_, '_>,
        _ino: Ino,
        _index: u64,
        _max: u64,
    ) -> Result<PageRun, Errno> {
        Err(Errno::ENODEV)
    }

    /// A program is about to change a regular file through a mapping: its times say so.
    fn stored(&mut self, _ino: Ino, _now: Time) {}

    /// Gives the pages from `first` on frames of the inode, at most `most` of those that have none; `count`
    /// is how many there are to be in all (fallocate(2)). How many pages were dealt with; `ENOSPC` before
    /// anything is done if all of them would not fit.
    fn allocate(
        &mut self,
        _cx: &mut FsCx<'_, '_>,
        _ino: Ino,
        _first: u64,
        _count: u64,
        _most: u64,
    ) -> Result<u64, Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Frees the pages in a range of bytes and zeroes the parts of pages at its ends
    /// (`FALLOC_FL_PUNCH_HOLE`). Gives how many of the bytes were dealt with, at least 1 of them: a hole with
    /// very many pages takes several calls.
    fn punch_hole(
        &mut self,
        _cx: &mut FsCx<'_, '_>,
        _ino: Ino,
        _offset: u64,
        _len: u64,
    ) -> Result<u64, Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Next byte that is data (`true`) or hole (`false`) at or behind `offset`; `ENXIO` if there is none
    /// (lseek(2)). It may take several calls.
    fn seek(
        &mut self,
        _cx: &mut FsCx<'_, '_>,
        _ino: Ino,
        _offset: u64,
        _data: bool,
    ) -> Result<Sought, Errno> {
        Err(Errno::EINVAL)
    }

    /// Value of an extended attribute; `ENODATA`.
    fn get_xattr(
        &mut self,
        _cx: &mut FsCx<'_, '_>,
        _ino: Ino,
        _name: &[u8],
    ) -> Result<Vec<u8>, Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Sets one: `EEXIST` or `ENODATA` if `flags` are against it.
    fn set_xattr(
        &mut self,
        _cx: &mut FsCx<'_, '_>,
        _ino: Ino,
        _name: &[u8],
        _value: &[u8],
        _flags: XattrFlags,
    ) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Removes one; `ENODATA`.
    fn remove_xattr(
        &mut self,
        _cx: &mut FsCx<'_, '_>,
        _ino: Ino,
        _name: &[u8],
    ) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Full names, in a stable order.
    fn list_xattr(&mut self, _cx: &mut FsCx<'_, '_>, _ino: Ino) -> Result<Vec<Vec<u8>>, Errno> {
        Ok(Vec::new())
    }

    /// Sizes.
    fn statfs(&self, frames: &Frames) -> StatFs;

    /// Takes the ranges of pages (inode, first page, count) whose place changed since the last call: mappings
    /// of them must be dropped. Empty almost always; checked by the VFS after every changing operation.
    fn take_moved(&mut self) -> Vec<(Ino, u64, u64)> {
        Vec::new()
    }

    /// Takes the files that were cut since the last call, and the first page of each that is gone.
    fn take_cut(&mut self) -> Vec<(Ino, u64)> {
        Vec::new()
    }

    /// What was found damaged in layers since the last call: a line each, naming image, inode and field. Only
    /// the first few are kept.
    fn take_faults(&mut self) -> Vec<String> {
        Vec::new()
    }

    /// Bytes of what was changed or made here, without the contents of files.
    fn heap(&self) -> u64 {
        0
    }

    /// Takes a part of what is held apart, inodes and frames; `false` if there was nothing. For a file system
    /// that nobody can reach any more.
    fn release_some(&mut self, _frames: &mut Frames, _steps: &mut Steps) -> bool {
        false
    }
}
