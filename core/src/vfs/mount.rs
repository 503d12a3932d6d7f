//! Mounts: which file system's tree hangs where.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::dentry::{self, DentryId};
use super::filesystem::{FsId, InodeRef};
use super::inode;
use super::slab::Slab;
use crate::Kernel;
use crate::abi::Errno;
use crate::port::Ports;

/// A mount.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct MountId(pub u32);

impl MountId {
    /// The number programs see (`stx_mnt_id`, `/proc/self/mountinfo`).
    pub(crate) fn number(self) -> u32 {
        self.0 + 20
    }
}

/// A place in the tree: a dentry seen through a mount (the kernel's `struct path`).
///
/// Whoever keeps one holds a reference ([`get_path`]) and gives it back ([`put_path`]).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct PathRef {
    pub mount: MountId,
    pub dentry: DentryId,
}

bitflags::bitflags! {
    /// Flags of one mount, with the values of mount(2).
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub(crate) struct MountFlags: u32 {
        const READ_ONLY = 1;
        const NOSUID = 2;
        const NODEV = 4;
        const NOEXEC = 8;
    }
}

/// One mount.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Mount {
    pub fs: FsId,
    pub root: DentryId,
    /// Where it hangs; `None` for the root of all and the internal mounts.
    pub on: Option<PathRef>,
    pub flags: MountFlags,
    /// Source and type as `/proc/mounts` shows them.
    pub source: Vec<u8>,
    pub fs_type: &'static str,
}

/// All mounts.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Mounts {
    slab: Slab<Mount>,
    on: BTreeMap<PathRef, MountId>,
}

impl Mounts {
    pub(crate) fn new() -> Mounts {
        Mounts {
            slab: Slab::new(),
            on: BTreeMap::new(),
        }
    }

    pub(crate) fn at(&self, id: MountId) -> &Mount {
        self.slab.get(id.0).expect("mounts stay") // INVARIANT: no mount is ever removed
    }

    /// A mount that hangs nowhere.
    pub(crate) fn add_internal(&mut self, fs: FsId, root: DentryId) -> MountId {
        MountId(self.slab.insert(Mount {
            fs,
            root,
            on: None,
            flags: MountFlags::empty(),
            source: b"none".to_vec(),
            fs_type: "pipefs",
        }))
    }

    /// All mounts in the order they were made, the internal one of pipes and streams included.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (MountId, &Mount)> {
        self.slab.iter().map(|(id, mount)| (MountId(id), mount))
    }

    /// What is mounted on top of a path.
    pub(crate) fn mounted_on(&self, path: PathRef) -> Option<MountId> {
        self.on.get(&path).copied()
    }
}

/// Mounts the root of a file system, at a path or as the root of all; gives the mount's root (no reference: mounts stay).
pub(crate) fn mount(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    fs: FsId,
    on: Option<PathRef>,
    flags: MountFlags,
    source: &[u8],
    fs_type: &'static str,
) -> Result<PathRef, Errno> {
    let ino = inode::root(k, fs)?;
    let attr = inode::attr(k, p, InodeRef { fs, ino })?;
    let root = k.vfs.dentries.new_root(fs, ino, &attr);
    let id = MountId(k.vfs.mounts.slab.insert(Mount {
        fs,
        root,
        on,
        flags,
        source: source.to_vec(),
        fs_type,
    }));
    if let Some(path) = on {
        get_path(k, path);
        k.vfs.dentries.change_mounts(path.dentry, 1);
        k.vfs.mounts.on.insert(path, id);
    }
    Ok(PathRef {
        mount: id,
        dentry: root,
    })
}

/// Takes one more reference.
pub(crate) fn get_path(k: &mut Kernel, path: PathRef) -> PathRef {
    k.vfs.dentries.get(path.dentry);
    path
}

/// Gives a reference back.
pub(crate) fn put_path(k: &mut Kernel, p: &mut Ports<'_>, path: PathRef) {
    dentry::put(k, p, path.dentry);
}

/// Whether changes through this mount are refused.
pub(crate) fn read_only(k: &Kernel, mount: MountId) -> bool {
    let mount = k.vfs.mounts.at(mount);
    mount.flags.contains(MountFlags::READ_ONLY) || inode::is_read_only(k, mount.fs)
}

/// `EROFS` if changes through this mount are refused.
pub(crate) fn want_write(k: &Kernel, mount: MountId) -> Result<(), Errno> {
    match read_only(k, mount) {
        true => Err(Errno::EROFS),
        false => Ok(()),
    }
}
