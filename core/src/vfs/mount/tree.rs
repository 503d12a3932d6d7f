//! Trees of mounts: going through them, copying, exchanging the root.

use alloc::collections::BTreeMap;

use super::{
    ALL_MAX, HeldPath, MOUNT_STEPS, Mount, MountFlags, MountId, Mounts, PathRef, detached,
    get_path, put_path,
};
use crate::abi::Errno;
use crate::cred::ns::NsId;
use crate::port::Ports;
use crate::vfs::Vfs;
use crate::vfs::caller::Callers;
use crate::vfs::dentry::DentryId;
use crate::vfs::perm::Who;

/// How the copy of a mount stands to the mount.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Copy {
    /// In the same peer group and under the same master, if it has any.
    Peer,
    /// A slave.
    Slave,
    /// A slave with a peer group of its own.
    SharedSlave,
    /// A peer, but a slave where the mount is shared (for less privileged namespaces).
    Less,
}

/// A way through a mount and everything that hangs on it: each before what hangs on it, older ones first.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Walk {
    root: MountId,
    at: MountId,
    next: Turn,
}

/// Where a way goes on from a mount.
#[derive(Clone, Copy, Debug, Hash)]
enum Turn {
    /// To itself.
    Here,
    /// To what hangs on it.
    Down,
    /// To what was mounted later on the same one.
    On,
    Over,
}

impl Walk {
    pub(crate) fn new(root: MountId) -> Walk {
        Walk {
            root,
            at: root,
            next: Turn::Here,
        }
    }

    /// A step on the way, which may come to a mount; `None` at the end.
    pub(crate) fn step(&mut self, mounts: &Mounts) -> Option<Option<MountId>> {
        let found = match self.next {
            Turn::Here => Some(self.root),
            Turn::Down => mounts.children(self.at).next(),
            Turn::On if self.at == self.root => None,
            Turn::On => {
                let parent = mounts.at(self.at).on?.mount;
                match mounts.next_child(parent, self.at) {
                    Some(next) => Some(next),
                    None => {
                        self.at = parent;
                        return Some(None);
                    }
                }
            }
            Turn::Over => return None,
        };
        self.next = match (found, self.next) {
            (Some(_), _) => Turn::Down,
            (None, Turn::Down) => Turn::On,
            _ => Turn::Over,
        };
        self.at = found.unwrap_or(self.at);
        Some(found)
    }
}

/// A copy of one mount with another root, hanging nowhere, with one reference.
fn copy_one(k: &mut Vfs, id: MountId, root: DentryId, how: Copy) -> Result<MountId, Errno> {
    if k.mounts.len() >= ALL_MAX {
        return Err(Errno::ENOSPC);
    }
    let old = k.mounts.at(id);
    let mut mount = Mount {
        root,
        on: None,
        connected: false,
        ns: None,
        // A copy of what cannot be bound can be.
        unbindable: false,
        kept: true,
        refs: 1,
        writers: 0,
        expiring: false,
        internal: false,
        ..old.clone()
    };
    let slave = match how {
        Copy::Peer => false,
        Copy::Less => old.peers.is_some(),
        Copy::Slave | Copy::SharedSlave => true,
    };
    if slave && old.peers.is_some() {
        mount.master = old.peers;
        mount.peers = None;
    }
    if how == Copy::SharedSlave {
        mount.peers = Some(k.mounts.new_group());
    }
    let fs = mount.fs;
    k.dentries.get(root);
    k.fs.filesystem_mounted(fs, 1);
    Ok(k.mounts.insert(mount))
}

/// Which mounts something is done to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Extent {
    One,
    /// With all that hangs below it.
    Tree,
}

/// What a copy of a tree leaves out.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum LeavesOut {
    Nothing,
    Unbindable,
}

/// A copy under way of a mount, or a tree, from `root` on. It hangs nowhere, with one reference on each.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Copying {
    id: MountId,
    root: DentryId,
    leaves_out: LeavesOut,
    how: Copy,
    walk: Option<Walk>,
    /// The copy of the mount itself, and those of all.
    pub top: MountId,
    pub copies: BTreeMap<MountId, MountId>,
}

impl Copying {
    /// Begins a copy with that of the mount itself. `ENOSPC`.
    pub(crate) fn new(
        k: &mut Vfs,
        (id, root): (MountId, DentryId),
        extent: Extent,
        leaves_out: LeavesOut,
        how: Copy,
    ) -> Result<Copying, Errno> {
        let top = copy_one(k, id, root, how)?;
        Ok(Copying {
            id,
            root,
            leaves_out,
            how,
            walk: (extent == Extent::Tree).then(|| Walk::new(id)),
            top,
            copies: BTreeMap::from([(id, top)]),
        })
    }

    /// Copies one more mount; `false` after the last. `ENOSPC`, `EPERM`.
    pub(crate) fn step(&mut self, k: &mut Vfs) -> Result<bool, Errno> {
        let walk = self.walk.as_mut();
        let Some(found) = walk.and_then(|walk| walk.step(&k.mounts)) else {
            return Ok(false);
        };
        let Some(child) = found.filter(|&id| id != self.id) else {
            k.env.steps.spend(1);
            return Ok(true);
        };
        let mount = k.mounts.at(child);
        let Some(on) = mount.on else {
            return Ok(true);
        };
        let below = on.mount != self.id || k.dentries.is_below(on.dentry, self.root);
        let (Some(&parent), true) = (self.copies.get(&on.mount), below) else {
            k.env.steps.spend(2);
            return Ok(true);
        };
        let (root, left_out) = (
            mount.root,
            mount.unbindable && self.leaves_out == LeavesOut::Unbindable,
        );
        // What is below a locked mount is not to be seen.
        if left_out {
            return match mount.locked {
                true => Err(Errno::EPERM),
                false => Ok(true),
            };
        }
        k.env.steps.spend(MOUNT_STEPS);
        let made = copy_one(k, child, root, self.how)?;
        let mount = parent;
        attach(k, made, PathRef { mount, ..on });
        self.copies.insert(child, made);
        Ok(true)
    }
}

/// Taking a tree apart that is part of no namespace, from the leaves up, and giving its references back.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Dropping {
    root: MountId,
    at: MountId,
}

impl Dropping {
    pub(crate) fn new(root: MountId) -> Dropping {
        Dropping { root, at: root }
    }

    /// `false` after the last.
    pub(crate) fn step(&mut self, k: &mut Vfs, p: &mut Ports<'_>) -> bool {
        let child = k.mounts.children(self.at).next_back();
        if let Some(child) = child {
            k.env.steps.spend(1);
            self.at = child;
            return true;
        }
        k.env.steps.spend(MOUNT_STEPS);
        let id = self.at;
        let below = k.mounts.at(id).on.map(|on| on.mount);
        detach(k, p, id);
        k.mounts.set_ns(id, None);
        detached::left(k, id);
        super::let_go(k, p, id);
        match below {
            Some(below) if id != self.root => {
                self.at = below;
                true
            }
            _ => false,
        }
    }
}

/// In a less privileged namespace mounts keep what they forbid (mount_namespaces(7)).
pub(super) fn lock_flags(k: &mut Vfs, id: MountId) {
    const LOCKED: MountFlags = MountFlags::READ_ONLY
        .union(MountFlags::NOSUID)
        .union(MountFlags::NODEV)
        .union(MountFlags::NOEXEC);
    let mount = k.mounts.at_mut(id);
    mount.locked_flags |= mount.flags & LOCKED;
    mount.locked_flags |= MountFlags::ATIME;
}

/// There they cannot be taken apart either, but for the topmost one.
pub(super) fn lock(k: &mut Vfs, id: MountId) {
    lock_flags(k, id);
    k.mounts.at_mut(id).locked = true;
}

/// Hangs a mount at a place where nothing hangs; takes a reference on the place.
pub(super) fn attach(k: &mut Vfs, id: MountId, on: PathRef) {
    // Given back by `detach`.
    get_path(k, on).keep();
    k.dentries.change_mounts(on.dentry, 1);
    k.mounts.hang(id, on);
    k.mounts.touch(id);
}

/// Takes a mount off its place.
pub(super) fn detach(k: &mut Vfs, p: &mut Ports<'_>, id: MountId) {
    let mount = k.mounts.at_mut(id);
    let connected = core::mem::take(&mut mount.connected);
    if let Some(on) = k.mounts.unhang(id) {
        k.dentries.change_mounts(on.dentry, -1);
        match connected {
            true => crate::vfs::dentry::put(k, p, on.dentry),
            false => put_path(k, p, HeldPath::of(on.mount, on.dentry)),
        }
    }
}

/// Makes a mount with nothing on it the root of a namespace.
pub(crate) fn become_root(k: &mut Vfs, root: MountId, ns: NsId) {
    k.mounts.set_ns(root, Some(ns));
    k.ns.set_root(ns, Some(root));
}

/// The topmost place over one.
pub(crate) fn topmost(k: &Vfs, mut path: PathRef) -> PathRef {
    while let Some(mount) = k.mounts.mounted_on(path) {
        let dentry = k.mounts.at(mount).root;
        path = PathRef { mount, dentry };
    }
    path
}

/// A name is about to go: `EBUSY` if something is mounted there in the caller's namespace. What other
/// namespaces have mounted there is no reason to keep the name: see `uncover`.
pub(crate) fn check_uncovered<K: Callers>(k: &K, who: &Who, dentry: DentryId) -> Result<(), Errno> {
    if k.vfs().dentries.at(dentry).mounts == 0 {
        return Ok(());
    }
    let own = who.viewer().and_then(|thread| k.mounts_of(thread));
    match own.is_some_and(|own| k.vfs().mounts.covers_in(dentry, own)) {
        true => Err(Errno::EBUSY),
        false => Ok(()),
    }
}

/// Makes `new` the root of its namespace and hangs the old root at `put_old` (pivot_root(2)).
pub(crate) fn exchange_root(
    k: &mut Vfs,
    p: &mut Ports<'_>,
    ns: NsId,
    old: MountId,
    new: MountId,
    put_old: PathRef,
) {
    let place = k.mounts.at(old).on.map(|place| get_path(k, place));
    detach(k, p, new);
    detach(k, p, old);
    let (old_locked, new_locked) = (k.mounts.at(old).locked, false);
    k.mounts.at_mut(new).locked = old_locked;
    k.mounts.at_mut(old).locked = new_locked;
    match place {
        Some(place) => {
            attach(k, new, *place);
            put_path(k, p, place);
        }
        None => k.ns.set_root(ns, Some(new)),
    }
    let put_old = topmost(k, put_old);
    attach(k, old, put_old);
}
