//! File systems whose nodes are made as they are looked at: what each answers, and the one place that finds
//! which one it is.
//!
//! A new one is a folder here that implements [`ViewFs`], and a line in `of_view!`. What it leaves out has
//! the answer of files that are there to be read and never change.

use alloc::vec::Vec;

use super::proc::Shown;
use super::proc::events::Change;
use crate::Kernel;
use crate::abi::Errno;
use crate::file::FileId;
use crate::fs::filesystem::{Attr, Entry, Ino, InodeRef};
use crate::machine::{SpaceId, ThreadId};
use crate::port::Ports;
use crate::task::Cx;
use crate::vfs::Vfs;
use crate::vfs::mount::PathRef;
use crate::vfs::perm::Who;
use crate::vfs::view::ViewOps;

/// What an instance of such a file system answers; the first part to names, the second to open files.
pub(super) trait ViewFs: Sized {
    /// The inode called `name` in a directory. `ENOENT`, `ENOTDIR`.
    fn lookup(self, _k: &mut Kernel, _who: &Who, _dir: Ino, _name: &[u8]) -> Result<Ino, Errno> {
        Err(Errno::ENOENT)
    }

    /// Attributes.
    fn attr(self, _k: &mut Kernel, _ino: Ino) -> Result<Attr, Errno> {
        Err(Errno::ENOENT)
    }

    /// Attributes as somebody is told of them. `ENOENT` where there is nothing to be known.
    fn shown_attr(self, k: &mut Kernel, _who: &Who, ino: Ino) -> Result<Attr, Errno> {
        self.attr(k, ino)
    }

    /// What reading, writing and executing need; `None`: the permission bits say it.
    fn permission(
        self,
        _k: &Kernel,
        _who: &Who,
        _ino: Ino,
        _mask: u32,
    ) -> Option<Result<(), Errno>> {
        None
    }

    /// Whether a directory lets somebody in at all. `EPERM`, `ENOENT`.
    fn check_enter(self, _k: &Kernel, _who: &Who, _dir: Ino) -> Result<(), Errno> {
        Ok(())
    }

    /// Where a link leads that stands for a place itself, without a reference; `None` for one that is
    /// followed by its text.
    fn jump(self, _k: &mut Kernel, _who: &Who, _link: Ino) -> Result<Option<PathRef>, Errno> {
        Ok(None)
    }

    /// Target of a symbolic link as text.
    fn read_link(
        self,
        _k: &mut Kernel,
        _p: &mut Ports<'_>,
        _who: &Who,
        _ino: Ino,
    ) -> Result<Vec<u8>, Errno> {
        Err(Errno::EINVAL)
    }

    /// Gives the entries of a directory from `cookie` on, as
    /// [`InodeOps::read_dir`](crate::fs::filesystem::InodeOps::read_dir) does.
    fn read_dir(
        self,
        _k: &mut Kernel,
        _who: &Who,
        _dir: Ino,
        _cookie: u64,
        _each: &mut dyn FnMut(Entry<'_>) -> bool,
    ) -> Result<(), Errno> {
        Err(Errno::ENOTDIR)
    }

    /// Whether an inode is there that cannot be looked up.
    fn exists(self, _k: &Kernel, _ino: Ino) -> bool {
        false
    }

    /// What an open file of an inode shows now, or what makes it; `space` is the memory that it was opened to
    /// tell of.
    fn content(
        self,
        _cx: &mut Cx<'_, '_>,
        _id: FileId,
        _ino: Ino,
        _space: Option<SpaceId>,
    ) -> Result<Shown, Errno> {
        Err(Errno::EINVAL)
    }

    /// Writes to an open file at a place, or at the file's offset: how many bytes were taken.
    fn write(
        self,
        _cx: &mut Cx<'_, '_>,
        _id: FileId,
        _ino: Ino,
        _at: Option<u64>,
        _data: &[u8],
    ) -> Result<u64, Errno> {
        Err(Errno::EROFS)
    }

    /// Whether a file shows numbers of settings.
    fn shows_numbers(self, _ino: Ino) -> bool {
        false
    }

    /// The last change of a file that tells of changes, as a thread sees it; `None` for files that are always
    /// ready.
    fn change(self, _k: &Kernel, _thread: ThreadId, _ino: Ino) -> Option<Change> {
        None
    }

    /// Whether an open file that has not been read counts as changed (`kernfs_generic_poll()`).
    fn unread_is_new(self) -> bool {
        false
    }

    /// Whether a file can be waited for with epoll(7).
    fn can_wait(self, _ino: Ino) -> bool {
        true
    }
}

/// A file system that keeps its inodes: nothing of it is made here.
pub(super) struct Keeps;

impl ViewFs for Keeps {}

/// The answer of the file system with a number.
macro_rules! of_view {
    ($k:expr, $fs:expr, $name:ident($($arg:expr),*)) => {{
        use $crate::fs::filesystem::Filesystem;
        match *$k.fs.filesystem($fs) {
            Filesystem::Proc(fs) => fs.$name($($arg),*),
            Filesystem::Sys(fs) => fs.$name($($arg),*),
            Filesystem::Union(_) | Filesystem::Anon | Filesystem::Gone => {
                $crate::views::ops::Keeps.$name($($arg),*)
            }
        }
    }};
}

pub(super) use of_view;

impl ViewOps for Kernel {
    #[inline]
    fn vfs(&self) -> &Vfs {
        &self.mm.files.vfs
    }

    #[inline]
    fn vfs_mut(&mut self) -> &mut Vfs {
        &mut self.mm.files.vfs
    }

    fn view_lookup(
        &mut self,
        _p: &mut Ports<'_>,
        who: &Who,
        dir: InodeRef,
        name: &[u8],
    ) -> Result<Ino, Errno> {
        of_view!(self, dir.fs, lookup(self, who, dir.ino, name))
    }

    fn view_attr(&mut self, _p: &mut Ports<'_>, inode: InodeRef) -> Result<Attr, Errno> {
        of_view!(self, inode.fs, attr(self, inode.ino))
    }

    fn view_shown_attr(
        &mut self,
        _p: &mut Ports<'_>,
        who: &Who,
        inode: InodeRef,
    ) -> Result<Attr, Errno> {
        of_view!(self, inode.fs, shown_attr(self, who, inode.ino))
    }

    fn view_permission(&self, who: &Who, inode: InodeRef, mask: u32) -> Option<Result<(), Errno>> {
        of_view!(self, inode.fs, permission(self, who, inode.ino, mask))
    }

    fn view_check_enter(&self, who: &Who, dir: InodeRef) -> Result<(), Errno> {
        of_view!(self, dir.fs, check_enter(self, who, dir.ino))
    }

    fn view_jump(&mut self, who: &Who, link: InodeRef) -> Result<Option<PathRef>, Errno> {
        of_view!(self, link.fs, jump(self, who, link.ino))
    }

    fn view_read_link(
        &mut self,
        p: &mut Ports<'_>,
        who: &Who,
        inode: InodeRef,
    ) -> Result<Vec<u8>, Errno> {
        of_view!(self, inode.fs, read_link(self, p, who, inode.ino))
    }

    fn view_read_dir(
        &mut self,
        _p: &mut Ports<'_>,
        who: &Who,
        dir: InodeRef,
        cookie: u64,
        each: &mut dyn FnMut(Entry<'_>) -> bool,
    ) -> Result<(), Errno> {
        of_view!(self, dir.fs, read_dir(self, who, dir.ino, cookie, each))
    }

    fn view_exists(&self, inode: InodeRef) -> bool {
        of_view!(self, inode.fs, exists(self, inode.ino))
    }
}
