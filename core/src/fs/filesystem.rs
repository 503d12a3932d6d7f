//! File systems: what each must do, in terms of inode numbers.
//!
//! The VFS above holds one reference on an inode for each dentry that names it; [`InodeOps::lookup`] and
//! [`InodeOps::create`] give a reference, [`InodeOps::forget`] takes one back. An inode without links and
//! references is freed. Permissions, mounts, symbolic links and names such as `.` are the business of the
//! layers above.

use alloc::vec::Vec;

pub use varve_imgfs::Time;
/// An inode number in one file system is also `st_ino`. A cookie of an entry is stable while the directory is
/// open.
pub(crate) use varve_imgfs::{Entry, Ino};

use crate::abi::Errno;
use crate::args::{RenameFlags, XattrFlags};
pub(crate) use crate::env::ids::{FsId, InodeRef};
use crate::event::Now;
use crate::fs::Frames;
use crate::fs::acl::{AclId, Acls};
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

/// A file system that keeps its inodes itself. `proc`, whose inodes are made from tasks, answers through
/// [`ProcFs`] with the whole kernel at hand and is dispatched one level higher (see `vfs::inode`).
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
    /// Pipes and streams (see `vfs::anon`).
    Anon,
    /// It had no mounts any more.
    Gone,
}

/// The operations of a [`UnionFs`], written down here because they are the contract between it and the VFS
/// above.
///
/// All names are single components of 1..=255 bytes, never `.` or `..`, without NUL or `/`. Directories given
/// are directories, else `ENOTDIR`. A read-only instance answers changes with `EROFS`.
pub(crate) trait InodeOps {
    /// The root directory. No reference is given.
    fn root(&self) -> Ino;
    /// The inode called `name`; gives a reference. `ENOENT` if there is none.
    fn lookup(&mut self, cx: &mut FsCx<'_, '_>, dir: Ino, name: &[u8]) -> Result<Ino, Errno>;
    /// Takes back one reference.
    fn forget(&mut self, cx: &mut FsCx<'_, '_>, ino: Ino);
    /// Attributes.
    fn attr(&mut self, cx: &mut FsCx<'_, '_>, ino: Ino) -> Result<Attr, Errno>;
    /// Changes attributes. Clearing of set-id bits is decided above.
    fn set_attr(&mut self, cx: &mut FsCx<'_, '_>, ino: Ino, set: &SetAttr) -> Result<(), Errno>;
    /// Target of a symbolic link; `EINVAL` for others.
    fn read_link(&mut self, cx: &mut FsCx<'_, '_>, ino: Ino) -> Result<Vec<u8>, Errno>;
    /// Makes an inode of any type under a name; gives a reference. `EEXIST` if the name is taken.
    fn create(
        &mut self,
        cx: &mut FsCx<'_, '_>,
        dir: Ino,
        name: &[u8],
        node: &NewNode<'_>,
    ) -> Result<Ino, Errno>;
    /// Makes a regular file without a name (`O_TMPFILE`, memfd); gives a reference.
    fn create_unnamed(&mut self, cx: &mut FsCx<'_, '_>, node: &NewNode<'_>) -> Result<Ino, Errno>;
    /// Gives an inode (not a directory) one more name. `EMLINK`, `EEXIST`.
    fn link(&mut self, cx: &mut FsCx<'_, '_>, ino: Ino, dir: Ino, name: &[u8])
    -> Result<(), Errno>;
    /// Removes the name of anything but a directory (`EISDIR`).
    fn unlink(&mut self, cx: &mut FsCx<'_, '_>, dir: Ino, name: &[u8]) -> Result<(), Errno>;
    /// Removes an empty directory (`ENOTEMPTY`, `ENOTDIR`).
    fn rmdir(&mut self, cx: &mut FsCx<'_, '_>, dir: Ino, name: &[u8]) -> Result<(), Errno>;
    /// Renames; replaces an existing target as rename(2) says. That a directory does not go below itself is
    /// checked above.
    fn rename(
        &mut self,
        cx: &mut FsCx<'_, '_>,
        from: (Ino, &[u8]),
        to: (Ino, &[u8]),
        flags: RenameFlags,
    ) -> Result<(), Errno>;
    /// Gives the entries from `cookie` on (0 is the start) until `each` returns `false`; that entry counts as
    /// not given. Merged over all layers, without `.` and `..`, each name once, in a stable order.
    fn read_dir(
        &mut self,
        cx: &mut FsCx<'_, '_>,
        dir: Ino,
        cookie: u64,
        each: &mut dyn FnMut(Entry<'_>) -> bool,
    ) -> Result<(), Errno>;
    /// Where the bytes of a regular file from `offset` on are; `None` at or behind the end.
    fn extent(
        &mut self,
        cx: &mut FsCx<'_, '_>,
        ino: Ino,
        offset: u64,
    ) -> Result<Option<Extent>, Errno>;
    /// Up to `most` (at least 1) pages from this index on in consecutive frames of the inode that may be
    /// written, copied up or made if need be: the first frame and how many. `ENOSPC` past a limit, `ENOMEM`.
    /// Does not change the size. The caller tells the address spaces if pages moved (see
    /// [`Self::take_moved`]).
    fn pages_for_write(
        &mut self,
        cx: &mut FsCx<'_, '_>,
        ino: Ino,
        index: u64,
        most: u64,
    ) -> Result<(FrameNo, u64), Errno>;
    /// The pages from `index` on (at most `max`) for mapping. A page that cannot be mapped where it is
    /// (inline tail, hole, unclean slack) gets a frame. Pages wholly behind the end of the file are `ENXIO`
    /// (the program gets SIGBUS).
    fn page_run(
        &mut self,
        cx: &mut FsCx<'_, '_>,
        ino: Ino,
        index: u64,
        max: u64,
    ) -> Result<PageRun, Errno>;
    /// Gives the pages from `first` on frames of the inode, at most `most` of those that have none; `count`
    /// is how many there are to be in all (fallocate(2)). How many pages were dealt with; `ENOSPC` before
    /// anything is done if all of them would not fit.
    fn allocate(
        &mut self,
        cx: &mut FsCx<'_, '_>,
        ino: Ino,
        first: u64,
        count: u64,
        most: u64,
    ) -> Result<u64, Errno>;
    /// Frees the pages in a range of bytes and zeroes the parts of pages at its ends
    /// (`FALLOC_FL_PUNCH_HOLE`). Gives how many of the bytes were dealt with, at least 1 of them: a hole with
    /// very many pages takes several calls.
    fn punch_hole(
        &mut self,
        cx: &mut FsCx<'_, '_>,
        ino: Ino,
        offset: u64,
        len: u64,
    ) -> Result<u64, Errno>;
    /// Next byte that is data (`true`) or hole (`false`) at or behind `offset`; `ENXIO` if there is none
    /// (lseek(2)). It may take several calls.
    fn seek(
        &mut self,
        cx: &mut FsCx<'_, '_>,
        ino: Ino,
        offset: u64,
        data: bool,
    ) -> Result<Sought, Errno>;
    /// Value of an extended attribute; `ENODATA`.
    fn get_xattr(&mut self, cx: &mut FsCx<'_, '_>, ino: Ino, name: &[u8])
    -> Result<Vec<u8>, Errno>;
    /// Sets one: `EEXIST` or `ENODATA` if `flags` are against it.
    fn set_xattr(
        &mut self,
        cx: &mut FsCx<'_, '_>,
        ino: Ino,
        name: &[u8],
        value: &[u8],
        flags: XattrFlags,
    ) -> Result<(), Errno>;
    /// Removes one; `ENODATA`.
    fn remove_xattr(&mut self, cx: &mut FsCx<'_, '_>, ino: Ino, name: &[u8]) -> Result<(), Errno>;
    /// Full names, in a stable order.
    fn list_xattr(&mut self, cx: &mut FsCx<'_, '_>, ino: Ino) -> Result<Vec<Vec<u8>>, Errno>;
    /// Sizes.
    fn statfs(&self, frames: &Frames) -> StatFs;
    /// Takes the ranges of pages (inode, first page, count) whose place changed since the last call: mappings
    /// of them must be dropped. Empty almost always; checked by the VFS after every changing operation.
    fn take_moved(&mut self) -> Vec<(Ino, u64, u64)>;
}
