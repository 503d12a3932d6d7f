//! Propagation of mounts (mount_namespaces(7), "SHARED SUBTREES"): mounts of one peer group get what is mounted on any of them, slaves get
//! what is mounted on their master's group.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use super::{MountId, PathRef, tree};
use crate::Kernel;
use crate::abi::Errno;
use crate::port::Ports;

/// How far events go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Type {
    Shared,
    Private,
    Slave,
    Unbindable,
}

/// Changes the type of one mount (`change_mnt_propagation()`).
pub(crate) fn set(k: &mut Kernel, id: MountId, to: Type) {
    if to == Type::Shared {
        share(k, id);
        k.vfs.mounts.at_mut(id).unbindable = false;
        return;
    }
    let mounts = &mut k.vfs.mounts;
    if let Some(group) = mounts.set_peers(id, None) {
        let rest = mounts.members(group).next();
        match rest {
            // Its slaves follow its own master now.
            None => {
                let master = mounts.at(id).master;
                let slaves: Vec<MountId> = mounts.slaves(group).collect();
                for slave in slaves {
                    mounts.set_master(slave, master);
                }
            }
            Some(_) => mounts.set_master(id, Some(group)),
        }
    }
    if to != Type::Slave {
        mounts.set_master(id, None);
        mounts.at_mut(id).unbindable = to == Type::Unbindable;
    }
}

/// Makes a mount the first one of a peer group; `false` if it has one.
pub(super) fn share(k: &mut Kernel, id: MountId) -> bool {
    let fresh = k.vfs.mounts.at(id).peers.is_none();
    if fresh {
        let group = k.vfs.mounts.new_group();
        k.vfs.mounts.set_peers(id, Some(group));
    }
    fresh
}

/// Takes [`share`] back for mounts that it has given groups.
pub(super) fn unshare(k: &mut Kernel, ids: &[MountId]) {
    for &id in ids {
        k.vfs.mounts.set_peers(id, None);
    }
}

/// A mount goes away: nothing propagates to it or from it any more.
pub(super) fn leave(k: &mut Kernel, id: MountId) {
    let mount = k.vfs.mounts.at(id);
    if mount.peers.is_some() || mount.master.is_some() {
        set(k, id, Type::Private);
    }
}

/// A mount that gets a copy of what is mounted on one of its peers or masters.
#[derive(Clone, Copy, Debug)]
struct Receiver {
    mount: MountId,
    /// Whose copy is copied; `None` for the tree itself.
    from: Option<usize>,
    how: tree::Copy,
}

/// Makes copies of a tree, which is about to be mounted at `on`, for every mount that it propagates to. They hang nowhere yet; each comes with
/// its place. Changes nothing on failure.
pub(super) fn copies_for(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    root: MountId,
    on: PathRef,
) -> Result<Vec<(PathRef, MountId)>, Errno> {
    let dentry = k.vfs.mounts.at(root).root;
    let mut made: Vec<(PathRef, MountId)> = Vec::new();
    for Receiver { mount, from, how } in receivers(k, on) {
        let source = from.map_or(root, |at: usize| made[at].1);
        match tree::copy(k, p, (source, dentry), true, true, how) {
            Ok((copy, _)) => made.push((PathRef { mount, ..on }, copy)),
            Err(errno) => {
                for (_, copy) in made {
                    tree::drop_tree(k, p, copy);
                }
                return Err(errno);
            }
        }
    }
    Ok(made)
}

/// The mounts that an event at a place propagates to, but for those in which the place cannot be seen and those that are part of no
/// namespace (the tree that is about to be mounted itself): each behind the one whose copy it gets.
fn receivers(k: &Kernel, on: PathRef) -> Vec<Receiver> {
    let mounts = &k.vfs.mounts;
    let sees = |&id: &MountId| {
        let mount = mounts.at(id);
        mount.ns.is_some() && k.vfs.dentries.is_below(on.dentry, mount.root)
    };
    let mut found: Vec<Receiver> = Vec::new();
    let mut taken = BTreeSet::from([on.mount]);
    let mut seen: BTreeSet<u64> = mounts.at(on.mount).peers.into_iter().collect();
    let mut next: Vec<(u64, Option<usize>)> = seen.iter().map(|&group| (group, None)).collect();
    while let Some((group, from)) = next.pop() {
        for mount in mounts.members(group).filter(sees) {
            if taken.insert(mount) {
                let how = tree::Copy::Peer;
                found.push(Receiver { mount, from, how });
            }
        }
        for slave in mounts.slaves(group) {
            let how = match mounts.at(slave).peers {
                Some(inner) if seen.insert(inner) => {
                    // The first one of a group gets a slave, the others peers of that.
                    let first = mounts.members(inner).find(sees);
                    let from_inner = first.map(|_| found.len()).or(from);
                    next.push((inner, from_inner));
                    first.map(|mount| (mount, tree::Copy::SharedSlave))
                }
                None if sees(&slave) => Some((slave, tree::Copy::Slave)),
                _ => None,
            };
            if let Some((mount, how)) = how
                && taken.insert(mount)
            {
                found.push(Receiver { mount, from, how });
            }
        }
    }
    found
}

/// What is mounted at the same place of every mount that an event at this place propagates to.
pub(super) fn copies(k: &Kernel, on: PathRef) -> Vec<MountId> {
    let mut found = Vec::new();
    let mounts = &k.vfs.mounts;
    let mut seen = BTreeSet::new();
    let mut groups: Vec<u64> = mounts.at(on.mount).peers.into_iter().collect();
    while let Some(group) = groups.pop() {
        if !seen.insert(group) {
            continue;
        }
        for id in mounts.members(group).chain(mounts.slaves(group)) {
            groups.extend(mounts.at(id).peers.filter(|inner| !seen.contains(inner)));
            let at = PathRef { mount: id, ..on };
            found.extend(mounts.mounted_on(at).filter(|_| id != on.mount));
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}
