//! Mounts: which file system's tree hangs where (mount_namespaces(7)).
//!
//! A mount lives while it is part of a mount namespace's tree or somebody holds a place in it. `tree` copies, attaches and detaches whole
//! trees, `propagation` carries such events to other mounts, `options` reads what programs ask for.

pub(crate) mod options;
pub(crate) mod propagation;
pub(crate) mod tree;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::dentry::{self, DentryId};
use super::filesystem::{FsId, InodeRef};
use super::inode;
use super::inotify;
use super::slab::Slab;
use crate::Kernel;
use crate::abi::Errno;
use crate::ns::NsId;
use crate::port::Ports;

pub(crate) use tree::drop_namespace;

/// Most mounts there can be (`/proc/sys/fs/mount-max`).
pub(crate) const MOUNT_MAX: usize = 100_000;

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
    /// Flags of one mount, with the values of mount(2). Without one about access times they are `relatime`.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub(crate) struct MountFlags: u32 {
        const READ_ONLY = 1;
        const NOSUID = 2;
        const NODEV = 4;
        const NOEXEC = 8;
        const NOSYMFOLLOW = 256;
        const NOATIME = 1024;
        const NODIRATIME = 2048;
        const STRICTATIME = 1 << 24;
    }
}

impl MountFlags {
    /// What access times are set at.
    pub(crate) const ATIME: MountFlags = MountFlags::NOATIME
        .union(MountFlags::NODIRATIME)
        .union(MountFlags::STRICTATIME);
}

/// One mount.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Mount {
    pub fs: FsId,
    pub root: DentryId,
    /// Where it hangs; `None` for the root of a namespace, what was detached, and the internal mounts.
    pub on: Option<PathRef>,
    pub flags: MountFlags,
    /// Source and type as `/proc/mounts` shows them.
    pub source: Vec<u8>,
    pub fs_type: &'static str,
    /// Options of the file system as `/proc/mounts` shows them, each behind a comma.
    pub options: Vec<u8>,
    /// It hangs on a mount that has been taken off its namespace, and goes with that one: it keeps no reference on it.
    pub connected: bool,
    /// The mount namespace it is part of.
    pub ns: Option<NsId>,
    /// Its peer group, if it is shared, and the group it is a slave of; set by [`Mounts::set_peers`] and [`Mounts::set_master`].
    pub peers: Option<u64>,
    pub master: Option<u64>,
    /// It cannot be bind-mounted.
    pub unbindable: bool,
    /// It came with others from a more privileged namespace: it cannot be taken off, and these flags cannot be taken from it.
    pub locked: bool,
    pub locked_flags: MountFlags,
    /// Nobody has used it since `MNT_EXPIRE` marked it.
    pub expiring: bool,
    /// Counts up: the order in which mounts were made.
    pub order: u64,
    refs: u32,
    /// It stays for ever, and references are not counted.
    internal: bool,
}

/// All mounts.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Mounts {
    slab: Slab<Mount>,
    on: BTreeMap<PathRef, MountId>,
    /// Members and slaves of each group.
    members: BTreeSet<(u64, MountId)>,
    slaves: BTreeSet<(u64, MountId)>,
    next_order: u64,
    next_group: u64,
}

impl Mounts {
    pub(crate) fn new() -> Mounts {
        Mounts {
            slab: Slab::new(),
            on: BTreeMap::new(),
            members: BTreeSet::new(),
            slaves: BTreeSet::new(),
            next_order: 0,
            next_group: 1,
        }
    }

    pub(crate) fn at(&self, id: MountId) -> &Mount {
        self.slab.get(id.0).expect("mount is referenced") // INVARIANT: ids are kept only with a reference
    }

    pub(crate) fn at_mut(&mut self, id: MountId) -> &mut Mount {
        self.slab.get_mut(id.0).expect("mount is referenced") // INVARIANT: ids are kept only with a reference
    }

    /// A mount that hangs nowhere and stays.
    pub(crate) fn add_internal(&mut self, fs: FsId, root: DentryId) -> MountId {
        let mut mount = Mount::new(fs, root, b"none", "pipefs");
        mount.internal = true;
        self.insert(mount)
    }

    /// Adds a mount with one reference.
    fn insert(&mut self, mut mount: Mount) -> MountId {
        mount.order = self.next_order;
        self.next_order += 1;
        let (peers, master) = (mount.peers, mount.master);
        let id = MountId(self.slab.insert(mount));
        self.members.extend(peers.map(|group| (group, id)));
        self.slaves.extend(master.map(|group| (group, id)));
        id
    }

    /// Changes the peer group of a mount; gives the one before.
    fn set_peers(&mut self, id: MountId, to: Option<u64>) -> Option<u64> {
        let from = core::mem::replace(&mut self.at_mut(id).peers, to);
        if let Some(group) = from {
            self.members.remove(&(group, id));
        }
        self.members.extend(to.map(|group| (group, id)));
        from
    }

    /// Changes the group that a mount is a slave of.
    fn set_master(&mut self, id: MountId, to: Option<u64>) {
        let from = core::mem::replace(&mut self.at_mut(id).master, to);
        if let Some(group) = from {
            self.slaves.remove(&(group, id));
        }
        self.slaves.extend(to.map(|group| (group, id)));
    }

    /// The mounts of a peer group.
    fn members(&self, group: u64) -> impl Iterator<Item = MountId> + '_ {
        of_group(&self.members, group)
    }

    /// The slaves of a peer group.
    fn slaves(&self, group: u64) -> impl Iterator<Item = MountId> + '_ {
        of_group(&self.slaves, group)
    }

    /// All mounts by number, the internal ones included.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (MountId, &Mount)> {
        self.slab.iter().map(|(id, mount)| (MountId(id), mount))
    }

    /// Number of mounts.
    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    /// What is mounted on top of a path.
    pub(crate) fn mounted_on(&self, path: PathRef) -> Option<MountId> {
        self.on.get(&path).copied()
    }

    /// What is mounted on places of one mount.
    pub(crate) fn children(&self, id: MountId) -> impl Iterator<Item = MountId> + '_ {
        let place = |dentry| PathRef { mount: id, dentry };
        let range = place(DentryId(0))..=place(DentryId(u32::MAX));
        self.on.range(range).map(|(_, &child)| child)
    }

    /// The mounts of a namespace in the order they were made.
    pub(crate) fn of_namespace(&self, ns: NsId) -> Vec<MountId> {
        let mut all: Vec<(u64, MountId)> = self
            .iter()
            .filter(|(_, mount)| mount.ns == Some(ns))
            .map(|(id, mount)| (mount.order, id))
            .collect();
        all.sort_unstable();
        all.into_iter().map(|(_, id)| id).collect()
    }

    /// Number of references on a mount, but for its place in a tree and what is mounted on it; `None` if they are not counted.
    pub(crate) fn users(&self, id: MountId) -> Option<u32> {
        let mount = self.at(id);
        let children = self.children(id).filter(|&id| !self.at(id).connected);
        let children = children.count() as u32;
        (!mount.internal).then(|| mount.refs.saturating_sub(1 + children))
    }

    /// All references on a mount, for invariant checks; `None` if they are not counted.
    pub(crate) fn refs(&self, id: MountId) -> Option<u32> {
        let mount = self.at(id);
        (!mount.internal).then_some(mount.refs)
    }

    fn new_group(&mut self) -> u64 {
        self.next_group += 1;
        self.next_group - 1
    }
}

fn of_group(index: &BTreeSet<(u64, MountId)>, group: u64) -> impl Iterator<Item = MountId> + '_ {
    let range = (group, MountId(0))..=(group, MountId(u32::MAX));
    index.range(range).map(|&(_, id)| id)
}

impl Mount {
    fn new(fs: FsId, root: DentryId, source: &[u8], fs_type: &'static str) -> Mount {
        Mount {
            fs,
            root,
            on: None,
            flags: MountFlags::empty(),
            source: source.to_vec(),
            fs_type,
            options: Vec::new(),
            connected: false,
            ns: None,
            peers: None,
            master: None,
            unbindable: false,
            locked: false,
            locked_flags: MountFlags::empty(),
            expiring: false,
            order: 0,
            refs: 1,
            internal: false,
        }
    }
}

/// A new mount of the root of a file system that nothing is mounted of yet: it hangs nowhere, with one reference.
pub(crate) fn make(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    fs: FsId,
    flags: MountFlags,
    source: &[u8],
    fs_type: &'static str,
) -> Result<MountId, Errno> {
    if k.vfs.mounts.len() >= MOUNT_MAX {
        return Err(Errno::ENOSPC);
    }
    let ino = inode::root(k, fs)?;
    let attr = inode::attr(k, p, InodeRef { fs, ino })?;
    let root = k.vfs.dentries.new_root(fs, ino, &attr);
    k.vfs.filesystem_mounted(fs, 1);
    let mut mount = Mount::new(fs, root, source, fs_type);
    mount.flags = flags;
    Ok(k.vfs.mounts.insert(mount))
}

/// A mount of one file of an internal file system; it hangs nowhere, with one reference.
pub(crate) fn of_file(
    k: &mut Kernel,
    path: PathRef,
    fs_type: &'static str,
) -> Result<MountId, Errno> {
    if k.vfs.mounts.len() >= MOUNT_MAX {
        return Err(Errno::ENOSPC);
    }
    let fs = k.vfs.dentries.at(path.dentry).fs;
    k.vfs.dentries.get(path.dentry);
    k.vfs.filesystem_mounted(fs, 1);
    Ok(k.vfs
        .mounts
        .insert(Mount::new(fs, path.dentry, fs_type.as_bytes(), fs_type)))
}

/// One more reference on a mount alone.
pub(crate) fn hold(k: &mut Kernel, id: MountId) {
    let mount = k.vfs.mounts.at_mut(id);
    if !mount.internal {
        mount.refs += 1;
    }
}

/// Gives a reference on a mount back; the last one takes it away, and with the last mount of a file system that too.
pub(crate) fn release(k: &mut Kernel, p: &mut Ports<'_>, id: MountId) {
    let mount = k.vfs.mounts.at_mut(id);
    if mount.internal {
        return;
    }
    mount.refs -= 1;
    mount.expiring = false;
    if mount.refs > 0 {
        return;
    }
    let mut gone = Vec::from([id]);
    while let Some(id) = gone.pop() {
        // Nothing hangs on it but what was taken off together with it.
        let connected: Vec<MountId> = k.vfs.mounts.children(id).collect();
        for child in connected {
            tree::detach(k, p, child);
            let mount = k.vfs.mounts.at_mut(child);
            mount.refs -= 1;
            if mount.refs == 0 {
                gone.push(child);
            }
        }
        remove(k, p, id);
    }
}

/// Takes a mount without references away.
fn remove(k: &mut Kernel, p: &mut Ports<'_>, id: MountId) {
    propagation::leave(k, id);
    let Some(mount) = k.vfs.mounts.slab.remove(id.0) else {
        return;
    };
    let last = k.vfs.filesystem_mounted(mount.fs, -1) == 0;
    if last {
        inotify::unmounted(k, p, mount.fs);
    }
    dentry::put(k, p, mount.root);
    if last {
        dentry::drop_filesystem(k, p, mount.fs);
        k.vfs.remove_filesystem(mount.fs, &mut k.mm.frames);
    }
}

/// Takes one more reference.
pub(crate) fn get_path(k: &mut Kernel, path: PathRef) -> PathRef {
    k.vfs.dentries.get(path.dentry);
    hold(k, path.mount);
    path
}

/// Gives a reference back.
pub(crate) fn put_path(k: &mut Kernel, p: &mut Ports<'_>, path: PathRef) {
    dentry::put(k, p, path.dentry);
    release(k, p, path.mount);
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
