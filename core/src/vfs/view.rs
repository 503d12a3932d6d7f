//! What names ask of file systems whose nodes are made as they are looked at (`proc`, `sysfs`): they tell of
//! what stands above names, and so are made there.

use alloc::vec::Vec;

use super::mount::PathRef;
use super::perm::Who;
use crate::abi::Errno;
use crate::fs::filesystem::{Attr, Entry, Ino, InodeRef};
use crate::port::Ports;
use crate::vfs::Vfs;

/// A state that has names, and knows the nodes of such file systems. All but the first two methods are about
/// inodes of these alone.
pub(crate) trait ViewOps {
    fn vfs(&self) -> &Vfs;

    fn vfs_mut(&mut self) -> &mut Vfs;

    /// The inode of a name.
    fn view_lookup(
        &mut self,
        p: &mut Ports<'_>,
        who: &Who,
        dir: InodeRef,
        name: &[u8],
    ) -> Result<Ino, Errno>;

    /// Attributes.
    fn view_attr(&mut self, p: &mut Ports<'_>, inode: InodeRef) -> Result<Attr, Errno>;

    /// Attributes as a program is told of them. `ENOENT` where it is not to know of a process.
    fn view_shown_attr(
        &mut self,
        p: &mut Ports<'_>,
        who: &Who,
        inode: InodeRef,
    ) -> Result<Attr, Errno>;

    /// Whether somebody may read, write or execute a file; `None`: the permission bits say it.
    fn view_permission(&self, who: &Who, inode: InodeRef, mask: u32) -> Option<Result<(), Errno>>;

    /// Whether a directory lets somebody in at all, whatever its permissions say. `EPERM`, `ENOENT`.
    fn view_check_enter(&self, who: &Who, dir: InodeRef) -> Result<(), Errno>;

    /// Where a link leads that stands for a place itself, not for a path.
    fn view_jump(&mut self, who: &Who, link: InodeRef) -> Result<Option<PathRef>, Errno>;

    /// Target of a symbolic link.
    fn view_read_link(
        &mut self,
        p: &mut Ports<'_>,
        who: &Who,
        inode: InodeRef,
    ) -> Result<Vec<u8>, Errno>;

    /// Entries of a directory.
    fn view_read_dir(
        &mut self,
        p: &mut Ports<'_>,
        who: &Who,
        dir: InodeRef,
        cookie: u64,
        each: &mut dyn FnMut(Entry<'_>) -> bool,
    ) -> Result<(), Errno>;

    /// Whether an inode that cannot be looked up is there all the same: the directory of a process that is
    /// hidden.
    fn view_exists(&self, inode: InodeRef) -> bool;
}
