//! The virtual file system: dentries, mounts, walking, names and permission.
//!
//! Layers of this module, each knowing only those below it:
//! `names` (operations on paths) -> `walk` (paths) -> `dentry`, `mount`. Below it are file systems
//! ([`fs`](crate::fs)), above it open files ([`file`](crate::file)).

pub(crate) mod caller;
pub(crate) mod d_path;
pub(crate) mod dentry;
pub(crate) mod landlock;
pub(crate) mod mount;
pub(crate) mod names;
pub(crate) mod node;
pub(crate) mod object;
pub(crate) mod perm;
#[cfg(test)]
mod tests;
pub(crate) mod view;
pub(crate) mod walk;

use core::ops::{Deref, DerefMut};

pub(crate) use dentry::DentryId;
pub(crate) use mount::{MountId, PathRef};

use crate::fs::{FileSystems, anon, filesystem};

/// Names and mounts, above the file systems.
#[derive(Debug, Hash)]
pub struct Vfs {
    pub(crate) fs: FileSystems,
    pub(crate) dentries: dentry::Dentries,
    pub(crate) mounts: mount::Mounts,
    pub(crate) configs: mount::config::Configs,
    /// Walks of paths that go on at a later input.
    pub(crate) walks: walk::Paused,
    pub(crate) ways_up: d_path::WaysUp,
    /// The internal tmpfs of memory files and shared anonymous memory, once it is there.
    pub(crate) shared: Option<(crate::fs::FsId, MountId)>,
}

impl Deref for Vfs {
    type Target = FileSystems;

    fn deref(&self) -> &FileSystems {
        &self.fs
    }
}

impl DerefMut for Vfs {
    fn deref_mut(&mut self) -> &mut FileSystems {
        &mut self.fs
    }
}

impl Vfs {
    /// Only the mount of files without a name.
    pub(crate) fn new(fs: FileSystems) -> Vfs {
        let mut vfs = Vfs {
            dentries: dentry::Dentries::new(fs.env.rng.table_seed()),
            fs,
            mounts: mount::Mounts::new(),
            configs: mount::config::Configs::default(),
            walks: walk::Paused::default(),
            ways_up: d_path::WaysUp::default(),
            shared: None,
        };
        let attr = filesystem::Attr {
            mode: crate::abi::raw::general::S_IFDIR | 0o555,
            ..filesystem::Attr::default()
        };
        let root = vfs.dentries.new_root(anon::FS, anon::ROOT, &attr);
        vfs.mounts.add_internal(anon::FS, root);
        vfs
    }

    /// What the kernel holds for names and mounts, by kind, in bytes.
    #[inline]
    pub(crate) fn held(&self) -> [(&'static str, u64); 3] {
        // Its slot, twice while the table grows, and its place in the index.
        const DENTRY_COST: u64 = 352;
        let dentries = self.dentries.len() as u64 * DENTRY_COST;
        [
            ("dentries", dentries + self.dentries.name_bytes()),
            ("mounts", self.mounts.held()),
            ("configurations of file systems", self.configs.held()),
        ]
    }

    /// Whether a mount is the internal one of memory files, whose paths are only their names.
    pub(crate) fn is_of_memory(&self, mount: MountId) -> bool {
        self.shared.is_some_and(|(_, shared)| shared == mount)
    }

    /// How many regular files are open for writing through a mount.
    pub(crate) fn writers_through(&self, mount: MountId) -> u32 {
        self.mounts.at(mount).writers
    }
}
