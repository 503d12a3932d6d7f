//! The virtual file system: file systems and their inodes, dentries, mounts, open file descriptions, descriptor tables.
//!
//! Layers of this module, each knowing only those below it:
//! `walk` (paths) -> `dentry`, `mount` -> `filesystem` (inodes by number) -> `union`, `proc`, ...

pub(crate) mod boot;
pub(crate) mod dentry;
pub(crate) mod fdtable;
pub(crate) mod file;
pub(crate) mod filesystem;
pub(crate) mod mount;
pub(crate) mod pipe;
pub(crate) mod proc;
pub(crate) mod union;
pub(crate) mod walk;

pub(crate) use dentry::DentryId;
pub(crate) use fdtable::{FdTable, FdTableId, FsContext, FsContextId};
pub(crate) use file::FileId;
pub(crate) use filesystem::{FsCx, FsId, Ino, InodeRef};
pub(crate) use mount::{MountId, PathRef};

/// All of the virtual file system's state.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Vfs {
    // To be filled by the owner of this module.
}

impl Vfs {
    pub(crate) fn new() -> Vfs {
        Vfs {}
    }

    /// A descriptor table by id.
    pub(crate) fn fd_table_mut(&mut self, _id: FdTableId) -> &mut FdTable {
        todo!()
    }

    /// Root, working directory and umask by id.
    pub(crate) fn fs_context_mut(&mut self, _id: FsContextId) -> &mut FsContext {
        todo!()
    }
}
