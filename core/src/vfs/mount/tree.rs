//! Trees of mounts: copying, attaching, detaching, exchanging the root.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::{
    MOUNT_MAX, Mount, MountFlags, MountId, PathRef, get_path, propagation, put_path, release,
};
use crate::Kernel;
use crate::abi::Errno;
use crate::ns::NsId;
use crate::port::Ports;
use crate::vfs::dentry::DentryId;
use crate::vfs::perm::Who;

/// How the copy of a mount stands to the mount.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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

/// A mount and everything that hangs on it: each before what hangs on it, older ones first.
pub(crate) fn all(k: &Kernel, root: MountId) -> Vec<MountId> {
    let mut found = Vec::new();
    let mut next = Vec::from([root]);
    while let Some(id) = next.pop() {
        found.push(id);
        let mut children: Vec<MountId> = k.vfs.mounts.children(id).collect();
        children.sort_unstable_by_key(|&id| core::cmp::Reverse(k.vfs.mounts.at(id).order));
        next.extend(children);
    }
    found
}

/// A copy of one mount with another root, hanging nowhere, with one reference.
fn copy_one(k: &mut Kernel, id: MountId, root: DentryId, how: Copy) -> Result<MountId, Errno> {
    if k.vfs.mounts.len() >= MOUNT_MAX {
        return Err(Errno::ENOSPC);
    }
    let old = k.vfs.mounts.at(id);
    let mut mount = Mount {
        root,
        on: None,
        connected: false,
        ns: None,
        refs: 1,
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
        mount.peers = Some(k.vfs.mounts.new_group());
    }
    let fs = mount.fs;
    k.vfs.dentries.get(root);
    k.vfs.filesystem_mounted(fs, 1);
    Ok(k.vfs.mounts.insert(mount))
}

/// A copy of a mount from `root` on, with all that hangs below if `recurse`: what is unbindable is left out unless `whole`. Hangs nowhere, with
/// one reference on each. The map gives the copy of each.
pub(crate) fn copy(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    (id, root): (MountId, DentryId),
    recurse: bool,
    whole: bool,
    how: Copy,
) -> Result<(MountId, BTreeMap<MountId, MountId>), Errno> {
    let top = copy_one(k, id, root, how)?;
    let mut copies = BTreeMap::from([(id, top)]);
    if !recurse {
        return Ok((top, copies));
    }
    for child in all(k, id).into_iter().skip(1) {
        let mount = k.vfs.mounts.at(child);
        let Some(on) = mount.on else {
            continue;
        };
        let below = on.mount != id || k.vfs.dentries.is_below(on.dentry, root);
        let (Some(&parent), true) = (copies.get(&on.mount), below) else {
            continue;
        };
        let (root, left_out) = (mount.root, mount.unbindable && !whole);
        // What is below a locked mount is not to be seen.
        if left_out && !mount.locked {
            continue;
        }
        let copied = match left_out {
            true => Err(Errno::EPERM),
            false => copy_one(k, child, root, how),
        };
        match copied {
            Ok(made) => {
                attach(
                    k,
                    made,
                    PathRef {
                        mount: parent,
                        ..on
                    },
                );
                copies.insert(child, made);
            }
            Err(errno) => {
                drop_tree(k, p, top);
                return Err(errno);
            }
        }
    }
    Ok((top, copies))
}

/// Mounts a copy that came by propagation. `owner` is the user namespace whose mount namespace it came from.
fn attach_copy(k: &mut Kernel, p: &mut Ports<'_>, made: MountId, on: PathRef, owner: NsId) {
    let ns = k.vfs.mounts.at(on.mount).ns;
    if ns.is_some_and(|ns| k.ns.owner(ns) != owner) {
        lock(k, made);
    }
    k.vfs.mounts.at_mut(made).locked = false;
    set_ns(k, made, ns);
    // What hangs there already comes to hang on the new root.
    let tucked = k.vfs.mounts.mounted_on(on);
    if let Some(old) = tucked {
        detach(k, p, old);
    }
    attach(k, made, on);
    if let Some(old) = tucked {
        let dentry = k.vfs.mounts.at(made).root;
        let mount = made;
        attach(k, old, PathRef { mount, dentry });
    }
}

/// In a less privileged namespace mounts cannot be taken apart, and keep what they forbid (mount_namespaces(7)).
pub(crate) fn lock(k: &mut Kernel, root: MountId) {
    const LOCKED: MountFlags = MountFlags::READ_ONLY
        .union(MountFlags::NOSUID)
        .union(MountFlags::NODEV)
        .union(MountFlags::NOEXEC);
    for id in all(k, root) {
        let mount = k.vfs.mounts.at_mut(id);
        mount.locked_flags |= mount.flags & LOCKED;
        mount.locked_flags |= MountFlags::ATIME;
        mount.locked = id != root || mount.locked;
    }
}

fn set_ns(k: &mut Kernel, root: MountId, ns: Option<NsId>) {
    for id in all(k, root) {
        k.vfs.mounts.at_mut(id).ns = ns;
    }
}

/// Hangs a mount at a place where nothing hangs; takes a reference on the place.
fn attach(k: &mut Kernel, id: MountId, on: PathRef) {
    get_path(k, on);
    k.vfs.dentries.change_mounts(on.dentry, 1);
    k.vfs.mounts.on.insert(on, id);
    k.vfs.mounts.at_mut(id).on = Some(on);
}

/// Takes a mount off its place.
pub(super) fn detach(k: &mut Kernel, p: &mut Ports<'_>, id: MountId) {
    let mount = k.vfs.mounts.at_mut(id);
    let connected = core::mem::take(&mut mount.connected);
    if let Some(on) = mount.on.take() {
        k.vfs.mounts.on.remove(&on);
        k.vfs.dentries.change_mounts(on.dentry, -1);
        match connected {
            true => crate::vfs::dentry::put(k, p, on.dentry),
            false => put_path(k, p, on),
        }
    }
}

/// Takes a tree apart that is part of no namespace, and gives its references back.
pub(crate) fn drop_tree(k: &mut Kernel, p: &mut Ports<'_>, root: MountId) {
    for id in all(k, root).into_iter().rev() {
        detach(k, p, id);
        k.vfs.mounts.at_mut(id).ns = None;
        release(k, p, id);
    }
}

/// Which mounts still hang where they hung when they are taken off a namespace together with the mount below them. They can then be seen by
/// whoever holds a place in that one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Connected {
    All,
    /// Those that hide what less privileged namespaces are not to see.
    Locked,
}

/// Takes mounts off their namespaces (`umount_tree()`).
fn take_off(k: &mut Kernel, p: &mut Ports<'_>, goes: &BTreeSet<MountId>, connected: Connected) {
    for &id in goes {
        propagation::leave(k, id);
        k.vfs.mounts.at_mut(id).ns = None;
    }
    let mut rest = Vec::new();
    for &id in goes {
        let mount = k.vfs.mounts.at(id);
        let stays = connected == Connected::All || mount.locked;
        match mount.on.filter(|on| stays && goes.contains(&on.mount)) {
            Some(on) => {
                k.vfs.mounts.at_mut(id).connected = true;
                // Its namespace's reference is left to each of them.
                release(k, p, on.mount);
            }
            None => rest.push(id),
        }
    }
    for id in rest {
        detach(k, p, id);
        release(k, p, id);
    }
}

/// The last task has left a mount namespace: its mounts go, but for those that somebody still uses.
pub(crate) fn drop_namespace(k: &mut Kernel, p: &mut Ports<'_>, ns: NsId, root: MountId) {
    debug_assert!(k.vfs.mounts.at(root).ns == Some(ns));
    let goes = all(k, root).into_iter().collect();
    take_off(k, p, &goes, Connected::Locked);
}

/// Makes a tree the root of a namespace.
pub(crate) fn become_root(k: &mut Kernel, root: MountId, ns: NsId) {
    set_ns(k, root, Some(ns));
    k.ns.set_root(ns, Some(root));
}

/// The topmost place over one.
pub(crate) fn topmost(k: &Kernel, mut path: PathRef) -> PathRef {
    while let Some(mount) = k.vfs.mounts.mounted_on(path) {
        let dentry = k.vfs.mounts.at(mount).root;
        path = PathRef { mount, dentry };
    }
    path
}

/// Mounts a tree, whose reference it takes over, at a place of a namespace and wherever that propagates. Gives the reference back on failure.
pub(crate) fn graft(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    root: MountId,
    on: PathRef,
) -> Result<(), Errno> {
    let on = topmost(k, on);
    let placed = check_place(k, root, on).and_then(|()| place(k, p, root, on));
    if placed.is_err() {
        drop_tree(k, p, root);
    }
    placed
}

/// Hangs a tree at a place where nothing hangs, and copies of it wherever that propagates. Changes nothing on failure.
fn place(k: &mut Kernel, p: &mut Ports<'_>, root: MountId, on: PathRef) -> Result<(), Errno> {
    let parent = k.vfs.mounts.at(on.mount);
    let (ns, shared) = (parent.ns, parent.peers.is_some());
    let mut fresh = if shared { all(k, root) } else { Vec::new() };
    fresh.retain(|&id| propagation::share(k, id));
    let copies = propagation::copies_for(k, p, root, on).inspect_err(|_| {
        propagation::unshare(k, &fresh);
    })?;
    detach(k, p, root);
    set_ns(k, root, ns);
    attach(k, root, on);
    let owner = ns.map_or(crate::ns::USER, |ns| k.ns.owner(ns));
    for (on, copy) in copies {
        attach_copy(k, p, copy, on, owner);
    }
    Ok(())
}

fn check_place(k: &Kernel, root: MountId, on: PathRef) -> Result<(), Errno> {
    let dentries = &k.vfs.dentries;
    let is_dir = |id| dentries.at(id).kind() == crate::abi::raw::general::S_IFDIR;
    if dentries.is_deleted(on.dentry) || k.vfs.mounts.at(on.mount).ns.is_none() {
        return Err(Errno::ENOENT);
    }
    match is_dir(on.dentry) == is_dir(k.vfs.mounts.at(root).root) {
        true => Ok(()),
        false => Err(Errno::ENOTDIR),
    }
}

/// Takes a mount with all that hangs on it off its namespace, and the copies that came by propagation: but for those that carry what stays,
/// and those that are locked to what stays.
pub(crate) fn unmount(k: &mut Kernel, p: &mut Ports<'_>, root: MountId) {
    let tree: BTreeSet<MountId> = all(k, root).into_iter().collect();
    let mut goes = tree.clone();
    for &id in &tree {
        if let Some(on) = k.vfs.mounts.at(id).on {
            goes.extend(propagation::copies(k, on));
        }
    }
    let mounts = &k.vfs.mounts;
    let mut open: Vec<MountId> = goes.difference(&tree).copied().collect();
    while let Some(id) = open.pop() {
        if tree.contains(&id) || !goes.contains(&id) {
            continue;
        }
        let mount = mounts.at(id);
        let below = mount.on.map(|on| on.mount);
        let carries = mounts.children(id).any(|child| !goes.contains(&child));
        let held = mount.locked && below.is_none_or(|below| !goes.contains(&below));
        if carries || held {
            goes.remove(&id);
            open.extend(below.into_iter().chain(mounts.children(id)));
        }
    }
    take_off(k, p, &goes, Connected::Locked);
}

/// Whether somebody uses a mount, or something hangs on it, so that it cannot be taken off without force; `own` references are the
/// caller's.
pub(crate) fn is_busy(k: &Kernel, id: MountId, own: u32) -> bool {
    let used = |id, own| k.vfs.mounts.users(id).is_none_or(|users| users > own);
    let has_children = |id| k.vfs.mounts.children(id).next().is_some();
    let copies = k.vfs.mounts.at(id).on.map(|on| propagation::copies(k, on));
    let copy_used = |&copy: &MountId| !has_children(copy) && used(copy, 0);
    used(id, own) || has_children(id) || copies.unwrap_or_default().iter().any(copy_used)
}

/// A name is about to go: `EBUSY` if something is mounted there in the caller's namespace. What other namespaces have mounted there is no
/// reason to keep the name: see [`uncover`].
pub(crate) fn check_uncovered(k: &Kernel, who: Who<'_>, dentry: DentryId) -> Result<(), Errno> {
    if k.vfs.dentries.at(dentry).mounts == 0 {
        return Ok(());
    }
    let own = who
        .viewer()
        .and_then(|thread| k.tasks.get(thread))
        .map(|task| task.ns.mount);
    let mut there = k.vfs.mounts.on.iter().filter(|(on, _)| on.dentry == dentry);
    match there.any(|(_, &id)| own.is_some() && k.vfs.mounts.at(id).ns == own) {
        true => Err(Errno::EBUSY),
        false => Ok(()),
    }
}

/// A name has gone: whatever is mounted there is taken off (`detach_mounts()`).
pub(crate) fn uncover(k: &mut Kernel, p: &mut Ports<'_>, dentry: DentryId) {
    if k.vfs.dentries.at(dentry).mounts == 0 {
        return;
    }
    let there = k.vfs.mounts.on.iter().filter(|(on, _)| on.dentry == dentry);
    let there: Vec<(PathRef, MountId)> = there.map(|(&on, &id)| (on, id)).collect();
    // The dentry must outlive the mounts on it.
    k.vfs.dentries.get(dentry);
    for (on, id) in there {
        // One of them may have hung in the tree of another one, and gone with it.
        if k.vfs.mounts.mounted_on(on) == Some(id) {
            match k.vfs.mounts.at(id).connected {
                true => {
                    detach(k, p, id);
                    release(k, p, id);
                }
                false => {
                    let goes = all(k, id).into_iter().collect();
                    take_off(k, p, &goes, Connected::All);
                }
            }
        }
    }
    crate::vfs::dentry::put(k, p, dentry);
}

/// Moves a mount to another place.
pub(crate) fn move_to(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    id: MountId,
    on: PathRef,
) -> Result<(), Errno> {
    let on = topmost(k, on);
    check_place(k, id, on).map_err(|errno| match errno {
        Errno::ENOTDIR => Errno::EINVAL,
        errno => errno,
    })?;
    place(k, p, id, on)
}

/// Makes `new` the root of its namespace and hangs the old root at `put_old` (pivot_root(2)).
pub(crate) fn exchange_root(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    ns: NsId,
    old: MountId,
    new: MountId,
    put_old: PathRef,
) {
    let place = k.vfs.mounts.at(old).on;
    if let Some(place) = place {
        get_path(k, place);
    }
    detach(k, p, new);
    detach(k, p, old);
    let (old_locked, new_locked) = (k.vfs.mounts.at(old).locked, false);
    k.vfs.mounts.at_mut(new).locked = old_locked;
    k.vfs.mounts.at_mut(old).locked = new_locked;
    match place {
        Some(place) => {
            attach(k, new, place);
            put_path(k, p, place);
        }
        None => k.ns.set_root(ns, Some(new)),
    }
    let put_old = topmost(k, put_old);
    attach(k, old, put_old);
}
