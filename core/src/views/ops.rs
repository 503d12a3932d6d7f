//! The nodes of `proc` and `sysfs` as names ask for them: one place where the file system decides.

use alloc::vec::Vec;

use super::{proc, sysfs};
use crate::Kernel;
use crate::abi::Errno;
use crate::fs::filesystem::{Attr, Entry, Filesystem, FsId, Ino, InodeRef};
use crate::fs::view::SysFs;
use crate::port::Ports;
use crate::vfs::Vfs;
use crate::vfs::mount::PathRef;
use crate::vfs::perm::Who;
use crate::vfs::view::ViewOps;

/// The tree of a file system that is one of these.
fn sys_fs(k: &Kernel, fs: FsId) -> Option<SysFs> {
    match k.fs.filesystem(fs) {
        &Filesystem::Sys(fs) => Some(fs),
        _ => None,
    }
}

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
        p: &mut Ports<'_>,
        who: &Who,
        dir: InodeRef,
        name: &[u8],
    ) -> Result<Ino, Errno> {
        match sys_fs(self, dir.fs) {
            Some(fs) => sysfs::lookup(self, fs, dir.ino, name),
            None => proc::lookup(self, p, who, dir, name),
        }
    }

    fn view_attr(&mut self, p: &mut Ports<'_>, inode: InodeRef) -> Result<Attr, Errno> {
        match sys_fs(self, inode.fs) {
            Some(fs) => sysfs::attr(self, fs, inode.ino),
            None => proc::attr(self, p, inode.ino),
        }
    }

    fn view_shown_attr(
        &mut self,
        p: &mut Ports<'_>,
        who: &Who,
        inode: InodeRef,
    ) -> Result<Attr, Errno> {
        if let Some(fs) = sys_fs(self, inode.fs) {
            return sysfs::attr(self, fs, inode.ino);
        }
        proc::check_attr(self, who, inode)?;
        let attr = proc::attr(self, p, inode.ino)?;
        let (uid, gid) = proc::owner(self, who, inode.ino).unwrap_or((attr.uid, attr.gid));
        Ok(Attr { uid, gid, ..attr })
    }

    fn view_permission(&self, who: &Who, inode: InodeRef, mask: u32) -> Option<Result<(), Errno>> {
        match sys_fs(self, inode.fs) {
            Some(_) => None,
            None => proc::permission(self, who, inode.ino, mask),
        }
    }

    fn view_check_enter(&self, who: &Who, dir: InodeRef) -> Result<(), Errno> {
        match sys_fs(self, dir.fs) {
            Some(_) => Ok(()),
            None => proc::check_enter(self, who, dir),
        }
    }

    fn view_jump(&mut self, who: &Who, link: InodeRef) -> Result<Option<PathRef>, Errno> {
        match sys_fs(self, link.fs) {
            Some(_) => Ok(None),
            None => proc::jump(self, who, link.ino),
        }
    }

    fn view_read_link(
        &mut self,
        p: &mut Ports<'_>,
        who: &Who,
        inode: InodeRef,
    ) -> Result<Vec<u8>, Errno> {
        match sys_fs(self, inode.fs) {
            Some(fs) => sysfs::read_link(self, fs, inode.ino),
            None => proc::read_link(self, p, who.viewer(), inode),
        }
    }

    fn view_read_dir(
        &mut self,
        p: &mut Ports<'_>,
        who: &Who,
        dir: InodeRef,
        cookie: u64,
        each: &mut dyn FnMut(Entry<'_>) -> bool,
    ) -> Result<(), Errno> {
        match sys_fs(self, dir.fs) {
            Some(fs) => sysfs::read_dir(self, fs, dir.ino, cookie, each),
            None => proc::read_dir(self, p, who, dir, cookie, each),
        }
    }

    fn view_exists(&self, inode: InodeRef) -> bool {
        proc::exists(self, inode)
    }
}

/// Contents of a file that the kernel makes, as they are now, or what makes them.
pub(crate) fn content(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    who: &Who,
    inode: InodeRef,
) -> Result<proc::Shown, Errno> {
    match sys_fs(k, inode.fs) {
        Some(fs) => sysfs::content(k, fs, inode.ino).map(proc::Shown::whole),
        None => proc::content(k, p, who.viewer(), inode),
    }
}
