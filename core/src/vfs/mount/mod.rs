//! Mounts: which file system's tree hangs where (mount_namespaces(7)).
//!
//! A mount lives while it is part of a mount namespace's tree or somebody holds a place in it. `tree` copies,
//! attaches and detaches trees, `place` mounts them, `unmount` takes them off, `propagation` carries such
//! events to other mounts, `attribute` changes flags of many, `detached` knows those that hang nowhere,
//! `options` reads what programs ask for and `config` keeps it. As a namespace may have a hundred thousand
//! mounts, all of that goes on in pieces, one change after the other: `job`.

pub(crate) mod attribute;
pub(crate) mod config;
pub(crate) mod detached;
pub(crate) mod job;
pub(crate) mod options;
pub(crate) mod place;
mod proc_options;
pub(crate) mod propagation;
pub(crate) mod tree;
pub(crate) mod unmount;

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;

use detached::Anonymous;
pub(crate) use unmount::drop_namespace;

use super::dentry::{self, DentryId};
use crate::abi::Errno;
use crate::cred::ns::NsId;
pub(crate) use crate::env::ids::MountId;
use crate::fs::filesystem::{FsId, InodeRef};
use crate::fs::inode;
use crate::port::Ports;
use crate::slab::{Key, Keyed};
use crate::vfs::view::ViewOps;
use crate::vfs::{Vfs, node};

/// Most mounts of all namespaces together, which Linux leaves to memory.
pub(crate) const ALL_MAX: usize = 1 << 20;

/// A place in the tree: a dentry seen through a mount (the kernel's `struct path`), without a reference.
///
/// It is good for as long as somebody holds the place, or until something is put or dropped from the cache.
/// Whoever keeps it for longer makes a [`HeldPath`] of it ([`get_path`]).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct PathRef {
    pub mount: MountId,
    pub dentry: DentryId,
}

/// A place that is held: its dentry and its mount stay as long as it is there.
///
/// There are no copies. Whoever has it gives it back ([`put_path`]), or hands it on to who keeps it; that no
/// reference is lost on the way is an invariant that is checked ([`Kernel::check`](crate::Kernel::check)).
#[derive(PartialEq, Eq, Hash, Debug)]
#[must_use = "a place that is held has to be given back"]
pub(crate) struct HeldPath(PathRef);

impl HeldPath {
    /// Takes over a reference on the dentry and one on the mount that somebody has taken.
    pub(crate) fn of(mount: MountId, dentry: DentryId) -> HeldPath {
        HeldPath(PathRef { mount, dentry })
    }

    /// The caller keeps the reference on the dentry; that on the mount is given back.
    pub(crate) fn keep_dentry(self, k: &mut Vfs, p: &mut Ports<'_>) {
        release(k, p, self.mount);
    }

    /// Somebody else knows of the references from now on, and makes it anew to give them back.
    pub(super) fn keep(self) {}
}

/// The place, to be looked at.
impl core::ops::Deref for HeldPath {
    type Target = PathRef;

    fn deref(&self) -> &PathRef {
        &self.0
    }
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
    /// Whether those that are locked stay when these become others (`can_change_locked_flags()`).
    pub(crate) fn keep_locked(self, new: MountFlags, locked: MountFlags) -> bool {
        let changed = (self ^ new) & locked;
        (changed & MountFlags::ATIME).is_empty() && (changed - new).is_empty()
    }

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
    pub source: Arc<[u8]>,
    pub fs_type: &'static str,
    /// Options of the file system as `/proc/mounts` shows them, each behind a comma.
    pub options: Arc<[u8]>,
    /// It hangs on a mount that has been taken off its namespace, and goes with that one: it keeps no
    /// reference on it.
    pub connected: bool,
    /// The mount namespace it is part of.
    pub ns: Option<NsId>,
    /// Its peer group, if it is shared, and the group it is a slave of; set by [`Mounts::set_peers`] and
    /// [`Mounts::set_master`].
    pub peers: Option<u64>,
    pub master: Option<u64>,
    /// It cannot be bind-mounted.
    pub unbindable: bool,
    /// It came with others from a more privileged namespace: it cannot be taken off, and these flags cannot
    /// be taken from it.
    pub locked: bool,
    pub locked_flags: MountFlags,
    /// Nobody has used it since `MNT_EXPIRE` marked it.
    pub expiring: bool,
    /// Counts up: the order in which mounts were made.
    pub order: u64,
    /// It is part of no namespace, but of a change under way, which holds a reference on it.
    kept: bool,
    refs: u32,
    /// Regular files that are open for writing through it.
    pub writers: u32,
    /// It stays for ever, and references are not counted.
    internal: bool,
}

/// All mounts.
#[derive(Debug, Hash)]
pub(crate) struct Mounts {
    slab: Keyed<Mount>,
    on: BTreeMap<PathRef, MountId>,
    /// What hangs on each mount, in the order in which it was made.
    below: BTreeSet<(MountId, u64, MountId)>,
    /// What hangs on each dentry, seen through whichever mount, by the namespace it is part of.
    covers: BTreeSet<(DentryId, Option<NsId>, MountId)>,
    /// The mounts of each namespace in the order they were made, and how many there are.
    of_ns: BTreeSet<(NsId, u64, MountId)>,
    of_fs: BTreeSet<(FsId, MountId)>,
    counts: BTreeMap<NsId, usize>,
    /// Namespaces without a name, and how many of them each user namespace owns.
    anonymous: BTreeMap<NsId, Anonymous>,
    owners: BTreeMap<NsId, u32>,
    /// Members and slaves of each group.
    members: BTreeSet<(u64, MountId)>,
    slaves: BTreeSet<(u64, MountId)>,
    next_order: u64,
    next_group: u64,
    /// Bytes of the texts of all mounts.
    text: u64,
    /// Numbers below that are not in use any more.
    free_groups: BTreeSet<u64>,
    /// The number of the last change of the mounts of each namespace, and namespaces that have changed since
    /// that was announced.
    pub(crate) changes: BTreeMap<NsId, u64>,
    pub(crate) changed: BTreeSet<NsId>,
    pub(crate) change: u64,
    /// How often a mount was hung up, taken off or away.
    hangings: u64,
    /// Changes that are under way or wait.
    pub(crate) jobs: job::Jobs,
    /// Mounts that nobody refers to any more; they go in pieces, and so do file systems without mounts, with
    /// the dentry at their top.
    gone: Vec<MountId>,
    pub(crate) ended: VecDeque<Ended>,
}

/// What a mount takes beside its texts, with its places in the indexes.
const MOUNT_COST: u64 = 832;
/// Steps of making a mount, or of taking one off.
const MOUNT_STEPS: u64 = 16;

impl Mounts {
    pub(crate) fn new() -> Mounts {
        Mounts {
            slab: Keyed::new(),
            on: BTreeMap::new(),
            below: BTreeSet::new(),
            covers: BTreeSet::new(),
            of_ns: BTreeSet::new(),
            of_fs: BTreeSet::new(),
            counts: BTreeMap::new(),
            anonymous: BTreeMap::new(),
            owners: BTreeMap::new(),
            members: BTreeSet::new(),
            slaves: BTreeSet::new(),
            next_order: 0,
            next_group: 1,
            text: 0,
            free_groups: BTreeSet::new(),
            changes: BTreeMap::new(),
            changed: BTreeSet::new(),
            change: 0,
            hangings: 0,
            jobs: job::Jobs::default(),
            gone: Vec::new(),
            ended: VecDeque::new(),
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
        let (peers, master, fs) = (mount.peers, mount.master, mount.fs);
        self.text += mount.text();
        let id = MountId(self.slab.insert(mount));
        self.of_fs.insert((fs, id));
        self.members.extend(peers.map(|group| (group, id)));
        self.slaves.extend(master.map(|group| (group, id)));
        id
    }

    /// Changes the namespace that a mount is part of.
    fn set_ns(&mut self, id: MountId, ns: Option<NsId>) {
        let mount = self.at_mut(id);
        let old = core::mem::replace(&mut mount.ns, ns);
        // From now on the namespace holds the reference, or the change that takes it off.
        mount.kept = ns.is_none() && (old.is_some() || mount.kept);
        let (order, on) = (mount.order, mount.on);
        if old == ns {
            return;
        }
        if let Some(on) = on {
            self.covers.remove(&(on.dentry, old, id));
            self.covers.insert((on.dentry, ns, id));
        }
        if let Some(old) = old {
            self.of_ns.remove(&(old, order, id));
            if let Some(count) = self.counts.get_mut(&old) {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(&old);
                }
            }
        }
        if let Some(ns) = ns {
            self.of_ns.insert((ns, order, id));
            *self.counts.entry(ns).or_default() += 1;
        }
    }

    /// A mount namespace without a name, by the number of its root.
    pub(crate) fn anonymous(&self, ns: NsId) -> Option<Anonymous> {
        self.anonymous.get(&ns).copied()
    }

    /// Whether a user namespace owns some.
    pub(crate) fn owns_anonymous(&self, ns: NsId) -> bool {
        self.owners.contains_key(&ns)
    }

    fn add_anonymous(&mut self, ns: NsId, of: Anonymous) {
        self.anonymous.insert(ns, of);
        *self.owners.entry(of.owner).or_default() += 1;
    }

    /// Takes one away, if there is one; gives its owner.
    fn remove_anonymous(&mut self, ns: NsId) -> Option<NsId> {
        let owner = self.anonymous.remove(&ns)?.owner;
        if let Some(count) = self.owners.get_mut(&owner) {
            *count -= 1;
            if *count == 0 {
                self.owners.remove(&owner);
            }
        }
        Some(owner)
    }

    /// Hangs a mount at a place where nothing hangs.
    fn hang(&mut self, id: MountId, on: PathRef) {
        self.hangings += 1;
        let mount = self.at_mut(id);
        mount.on = Some(on);
        let (ns, order) = (mount.ns, mount.order);
        self.on.insert(on, id);
        self.below.insert((on.mount, order, id));
        self.covers.insert((on.dentry, ns, id));
    }

    /// Takes a mount off its place; gives that.
    fn unhang(&mut self, id: MountId) -> Option<PathRef> {
        let mount = self.at_mut(id);
        let on = mount.on.take()?;
        self.hangings += 1;
        let mount = self.at(id);
        let (ns, order) = (mount.ns, mount.order);
        self.on.remove(&on);
        self.below.remove(&(on.mount, order, id));
        self.covers.remove(&(on.dentry, ns, id));
        Some(on)
    }

    /// Changes the peer group of a mount; gives the one before.
    fn set_peers(&mut self, id: MountId, to: Option<u64>) -> Option<u64> {
        let from = core::mem::replace(&mut self.at_mut(id).peers, to);
        if let Some(group) = from {
            self.members.remove(&(group, id));
            if self.members(group).next().is_none() {
                self.free_groups.insert(group);
            }
        }
        if let Some(group) = to {
            self.free_groups.remove(&group);
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

    /// All mounts by number, the internal ones included.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (MountId, &Mount)> {
        self.slab.iter().map(|(id, mount)| (MountId(id), mount))
    }

    /// Bytes that all mounts take.
    pub(crate) fn held(&self) -> u64 {
        self.len() as u64 * MOUNT_COST + self.text
    }

    /// Whether their texts are counted rightly; for invariant checks.
    pub(crate) fn is_counted(&self) -> bool {
        self.iter().map(|(_, mount)| mount.text()).sum::<u64>() == self.text
    }

    /// Options of the file system as `/proc/mounts` shows them, each behind a comma.
    pub(crate) fn set_options(&mut self, id: MountId, options: Vec<u8>) {
        let mount = self.at_mut(id);
        let old = mount.text();
        mount.options = options.into();
        let new = mount.text();
        self.text = self.text + new - old;
    }

    /// Number of mounts.
    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    /// What is mounted on top of a path.
    pub(crate) fn mounted_on(&self, path: PathRef) -> Option<MountId> {
        self.on.get(&path).copied()
    }

    /// What is mounted on places of one mount, older ones first.
    pub(crate) fn children(&self, id: MountId) -> impl DoubleEndedIterator<Item = MountId> + '_ {
        let range = (id, 0, MountId(Key::LEAST))..=(id, u64::MAX, MountId(Key::MOST));
        self.below.range(range).map(|&(_, _, child)| child)
    }

    /// The first of them that was made after another one.
    fn next_child(&self, id: MountId, after: MountId) -> Option<MountId> {
        let from = (id, self.at(after).order + 1, MountId(Key::LEAST));
        let range = from..=(id, u64::MAX, MountId(Key::MOST));
        self.below.range(range).next().map(|&(_, _, child)| child)
    }

    /// The next member, or slave, of a peer group behind one.
    fn next_member(&self, group: u64, after: Option<MountId>) -> Option<MountId> {
        next_of_group(&self.members, group, after)
    }

    fn next_slave(&self, group: u64, after: Option<MountId>) -> Option<MountId> {
        next_of_group(&self.slaves, group, after)
    }

    /// Whether a mount is the only one of a peer group.
    fn is_last(&self, group: u64) -> bool {
        self.members(group).nth(1).is_none()
    }

    /// The first mount of a namespace that was made after another one, with its place in that order.
    pub(crate) fn next_of(&self, ns: NsId, after: Option<u64>) -> Option<(u64, MountId)> {
        let from = after.map_or(0, |after| after + 1);
        let range = (ns, from, MountId(Key::LEAST))..=(ns, u64::MAX, MountId(Key::MOST));
        self.of_ns
            .range(range)
            .next()
            .map(|&(_, order, id)| (order, id))
    }

    /// How many mounts a namespace has.
    pub(crate) fn count(&self, ns: NsId) -> usize {
        self.counts.get(&ns).copied().unwrap_or(0)
    }

    /// The next mount that hangs on a dentry, seen through whichever mount, behind a place in that index.
    fn next_on(
        &self,
        dentry: DentryId,
        after: Option<(Option<NsId>, MountId)>,
    ) -> Option<(Option<NsId>, MountId)> {
        use core::ops::Bound::{Excluded, Included};
        let from = match after {
            Some((ns, id)) => Excluded((dentry, ns, id)),
            None => Included((dentry, None, MountId(Key::LEAST))),
        };
        let end = Excluded((DentryId(dentry.0.next()), None, MountId(Key::LEAST)));
        let next = self.covers.range((from, end)).next();
        next.map(|&(_, ns, id)| (ns, id))
    }

    /// Whether mounts of a namespace hang on a dentry.
    fn covers_in(&self, dentry: DentryId, ns: NsId) -> bool {
        let range =
            (dentry, Some(ns), MountId(Key::LEAST))..=(dentry, Some(ns), MountId(Key::MOST));
        self.covers.range(range).next().is_some()
    }

    /// Whether the indexes agree with the mounts; for invariant checks.
    pub(crate) fn is_indexed(&self) -> bool {
        let (mut in_ns, mut hanging) = (0, 0);
        let known = self.iter().all(|(id, mount)| {
            let ns_ok = mount.ns.is_none_or(|ns| {
                in_ns += 1;
                self.of_ns.contains(&(ns, mount.order, id))
            });
            let on_ok = mount.on.is_none_or(|on| {
                hanging += 1;
                self.on.get(&on) == Some(&id)
                    && self.covers.contains(&(on.dentry, mount.ns, id))
                    && self.below.contains(&(on.mount, mount.order, id))
            });
            ns_ok && on_ok && self.of_fs.contains(&(mount.fs, id))
        });
        let counted: usize = self.counts.values().sum();
        let owned: u32 = self.owners.values().sum();
        known
            && owned as usize == self.anonymous.len()
            && self.of_fs.len() == self.len()
            && (in_ns, in_ns) == (self.of_ns.len(), counted)
            && (hanging, hanging) == (self.on.len(), self.covers.len())
            && hanging == self.below.len()
    }

    /// Whether something hangs on a mount, or somebody has a place in it.
    pub(crate) fn is_used(&self, id: MountId) -> bool {
        let mount = self.at(id);
        mount.internal || mount.refs > 1 || self.children(id).next().is_some()
    }

    /// Whether one reference is held on a mount for itself: by its namespace, the mount that it hangs on, or
    /// a change under way.
    pub(crate) fn is_kept(&self, id: MountId) -> bool {
        let mount = self.at(id);
        mount.ns.is_some() || mount.connected || mount.kept
    }

    /// All references on a mount, for invariant checks; `None` if they are not counted.
    pub(crate) fn refs(&self, id: MountId) -> Option<u32> {
        let mount = self.at(id);
        (!mount.internal).then_some(mount.refs)
    }

    /// The first mounts of a file system, so many at most, from one number on.
    fn of_filesystem(&self, fs: FsId, from: Key, most: usize) -> impl Iterator<Item = MountId> {
        let range = (fs, MountId(from))..=(fs, MountId(Key::MOST));
        self.of_fs.range(range).take(most).map(|&(_, id)| id)
    }

    /// The number of the last change of a namespace's mounts.
    pub(crate) fn changes(&self, ns: NsId) -> u64 {
        self.changes.get(&ns).copied().unwrap_or(0)
    }

    /// The number of the last change of any namespace's mounts, announced or not.
    pub(crate) fn changes_of_all(&self) -> u64 {
        self.hangings
    }

    /// A mount is about to leave its namespace, has come to one, or shows other options.
    pub(crate) fn touch(&mut self, id: MountId) {
        let ns = self.slab.get(id.0).and_then(|mount| mount.ns);
        self.changed.extend(ns);
    }

    /// The lowest number that no peer group has.
    fn new_group(&mut self) -> u64 {
        if let Some(group) = self.free_groups.pop_first() {
            return group;
        }
        self.next_group += 1;
        self.next_group - 1
    }
}

/// A file system without mounts that is being taken away.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct Ended {
    pub fs: FsId,
    /// The top of its tree, with a reference.
    pub top: DentryId,
    /// Whoever watches files of it has been told.
    pub told: bool,
}

fn next_of_group(
    index: &BTreeSet<(u64, MountId)>,
    group: u64,
    after: Option<MountId>,
) -> Option<MountId> {
    let from = after.map_or(Key::LEAST, |after| after.0.next());
    let range = (group, MountId(from))..=(group, MountId(Key::MOST));
    index.range(range).next().map(|&(_, id)| id)
}

fn of_group(index: &BTreeSet<(u64, MountId)>, group: u64) -> impl Iterator<Item = MountId> + '_ {
    let range = (group, MountId(Key::LEAST))..=(group, MountId(Key::MOST));
    index.range(range).map(|&(_, id)| id)
}

impl Mount {
    /// Whether it is one of the kernel's own, which is in no tree.
    pub(crate) fn is_internal(&self) -> bool {
        self.internal
    }

    /// Bytes of its texts.
    fn text(&self) -> u64 {
        (self.source.len() + self.options.len()) as u64
    }

    fn new(fs: FsId, root: DentryId, source: &[u8], fs_type: &'static str) -> Mount {
        Mount {
            fs,
            root,
            on: None,
            flags: MountFlags::empty(),
            source: source.into(),
            fs_type,
            options: Arc::new([]),
            connected: false,
            ns: None,
            peers: None,
            master: None,
            unbindable: false,
            locked: false,
            locked_flags: MountFlags::empty(),
            expiring: false,
            order: 0,
            kept: true,
            refs: 1,
            writers: 0,
            internal: false,
        }
    }
}

/// A new mount of the root of a file system that nothing is mounted of yet: it hangs nowhere, with one
/// reference.
pub(crate) fn make<K: ViewOps>(
    k: &mut K,
    p: &mut Ports<'_>,
    fs: FsId,
    flags: MountFlags,
    source: &[u8],
    fs_type: &'static str,
) -> Result<MountId, Errno> {
    if k.vfs().mounts.len() >= ALL_MAX {
        return Err(Errno::ENOSPC);
    }
    let root = take_root(k, p, fs)?;
    let mut mount = Mount::new(fs, root, source, fs_type);
    mount.flags = flags;
    Ok(k.vfs_mut().mounts.insert(mount))
}

/// The root directory of a file system that nothing is mounted of yet, with a reference; it counts as a
/// mount.
pub(crate) fn take_root<K: ViewOps>(
    k: &mut K,
    p: &mut Ports<'_>,
    fs: FsId,
) -> Result<DentryId, Errno> {
    let ino = inode::root(k.vfs(), fs)?;
    let attr = node::attr(k, p, InodeRef { fs, ino })?;
    let root = k.vfs_mut().dentries.new_root(fs, ino, &attr);
    k.vfs_mut().fs.filesystem_mounted(fs, 1);
    Ok(root)
}

/// One more mount of a directory of a file system: it hangs nowhere, with one reference. `ENOSPC`.
pub(crate) fn make_at(
    k: &mut Vfs,
    (fs, root): (FsId, DentryId),
    flags: MountFlags,
    source: &[u8],
    fs_type: &'static str,
) -> Result<MountId, Errno> {
    if k.mounts.len() >= ALL_MAX {
        return Err(Errno::ENOSPC);
    }
    k.dentries.get(root);
    k.fs.filesystem_mounted(fs, 1);
    let mut mount = Mount::new(fs, root, source, fs_type);
    mount.flags = flags;
    Ok(k.mounts.insert(mount))
}

/// A mount of one file of an internal file system; it hangs nowhere, with one reference.
pub(crate) fn of_file(k: &mut Vfs, path: PathRef, fs_type: &'static str) -> Result<MountId, Errno> {
    if k.mounts.len() >= ALL_MAX {
        return Err(Errno::ENOSPC);
    }
    let fs = k.dentries.at(path.dentry).fs;
    k.dentries.get(path.dentry);
    k.fs.filesystem_mounted(fs, 1);
    let mut mount = Mount::new(fs, path.dentry, fs_type.as_bytes(), fs_type);
    // As the kernel's own mount of that file system.
    mount.flags = MountFlags::STRICTATIME;
    Ok(k.mounts.insert(mount))
}

/// One more reference on a mount alone.
pub(crate) fn hold(k: &mut Vfs, id: MountId) {
    let mount = k.mounts.at_mut(id);
    if !mount.internal {
        mount.refs += 1;
    }
}

/// Gives a reference on a mount back; the last one takes it away, and with the last mount of a file system
/// that too.
pub(crate) fn release(k: &mut Vfs, p: &mut Ports<'_>, id: MountId) {
    let mount = k.mounts.at_mut(id);
    if mount.internal {
        return;
    }
    mount.refs -= 1;
    mount.expiring = false;
    if mount.refs > 0 {
        return;
    }
    k.mounts.gone.push(id);
    while k.env.steps.left() > 0 && clear(k, p) {}
}

/// The change that is under way gives its reference on a mount back.
fn let_go(k: &mut Vfs, p: &mut Ports<'_>, id: MountId) {
    k.mounts.at_mut(id).kept = false;
    release(k, p, id);
}

/// A part of taking mounts and file systems away that nobody refers to any more; `false` if there are none.
pub(crate) fn clear(k: &mut Vfs, p: &mut Ports<'_>) -> bool {
    let Some(&id) = k.mounts.gone.last() else {
        return clear_filesystem(k, p);
    };
    k.env.steps.spend(MOUNT_STEPS);
    // Nothing hangs on it but what was taken off together with it.
    let child = k.mounts.children(id).next();
    if let Some(child) = child {
        tree::detach(k, p, child);
        let mount = k.mounts.at_mut(child);
        mount.refs -= 1;
        if mount.refs == 0 {
            k.mounts.gone.push(child);
        }
    } else if propagation::leave(k, id) {
        k.mounts.gone.pop();
        remove(k, p, id);
    }
    true
}

/// Whether [`clear`] has anything to do.
pub(crate) fn is_clear(k: &Vfs) -> bool {
    k.mounts.gone.is_empty() && k.mounts.ended.is_empty()
}

/// Takes a mount without references away.
fn remove(k: &mut Vfs, p: &mut Ports<'_>, id: MountId) {
    let Some(mount) = k.mounts.slab.remove(id.0) else {
        return;
    };
    k.mounts.hangings += 1;
    k.mounts.text -= mount.text();
    k.mounts.of_fs.remove(&(mount.fs, id));
    leave_filesystem(k, p, mount.fs, mount.root);
}

/// Gives back a place in a file system that counted as a mount of it: the last one takes it away.
pub(crate) fn leave_filesystem(k: &mut Vfs, p: &mut Ports<'_>, fs: FsId, place: DentryId) {
    if k.fs.filesystem_mounted(fs, -1) == 0 {
        let top = k.dentries.top(place);
        k.dentries.get(top);
        let owner = k.fs.disown_filesystem(fs);
        k.ns.let_go(owner);
        k.mounts.ended.push_back(Ended {
            fs,
            top,
            told: false,
        });
    }
    dentry::put(k, p, place);
}

/// A part of taking a file system away that has no mounts any more.
fn clear_filesystem(k: &mut Vfs, p: &mut Ports<'_>) -> bool {
    // Who watches it is told first, by whoever knows watchers.
    let Some(&Ended { fs, top, .. }) = k.mounts.ended.front().filter(|ended| ended.told) else {
        return false;
    };
    let more = dentry::drop_cached(k, p, top) || k.fs.release_some(fs);
    if !more {
        k.mounts.ended.pop_front();
        dentry::put(k, p, top);
        k.fs.remove_filesystem(fs);
    }
    true
}

/// Holds a place.
pub(crate) fn get_path(k: &mut Vfs, path: PathRef) -> HeldPath {
    k.dentries.get(path.dentry);
    hold(k, path.mount);
    HeldPath(path)
}

/// Gives a place back.
pub(crate) fn put_path(k: &mut Vfs, p: &mut Ports<'_>, path: HeldPath) {
    dentry::put(k, p, path.dentry);
    release(k, p, path.mount);
}

/// Whether changes through this mount are refused.
pub(crate) fn read_only(k: &Vfs, mount: MountId) -> bool {
    let mount = k.mounts.at(mount);
    mount.flags.contains(MountFlags::READ_ONLY) || inode::is_read_only(k, mount.fs)
}

/// `EROFS` if changes through this mount are refused.
pub(crate) fn want_write(k: &Vfs, mount: MountId) -> Result<(), Errno> {
    match read_only(k, mount) {
        true => Err(Errno::EROFS),
        false => Ok(()),
    }
}

/// The root of all, without a reference.
pub(crate) fn root(k: &Vfs) -> Option<PathRef> {
    let mount = k.ns.root(crate::cred::ns::Set::FIRST.mount)?;
    let dentry = k.mounts.at(mount).root;
    Some(PathRef { mount, dentry })
}
