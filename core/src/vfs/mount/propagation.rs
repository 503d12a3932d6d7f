//! Propagation of mounts (mount_namespaces(7), "SHARED SUBTREES"): mounts of one peer group get what is mounted on any of them, slaves get
//! what is mounted on their master's group.

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

fn members(k: &Kernel, group: u32) -> Vec<MountId> {
    let all = k.vfs.mounts.iter();
    all.filter(|(_, mount)| mount.peers == Some(group))
        .map(|(id, _)| id)
        .collect()
}

fn slaves(k: &Kernel, group: u32) -> Vec<MountId> {
    let all = k.vfs.mounts.iter();
    all.filter(|(_, mount)| mount.master == Some(group))
        .map(|(id, _)| id)
        .collect()
}

/// Changes the type of one mount (`change_mnt_propagation()`).
pub(crate) fn set(k: &mut Kernel, id: MountId, to: Type) {
    if to == Type::Shared {
        share(k, id);
        k.vfs.mounts.at_mut(id).unbindable = false;
        return;
    }
    if let Some(group) = k.vfs.mounts.at_mut(id).peers.take() {
        match members(k, group).is_empty() {
            // Its slaves follow its own master now.
            true => {
                let master = k.vfs.mounts.at(id).master;
                for slave in slaves(k, group) {
                    k.vfs.mounts.at_mut(slave).master = master;
                }
            }
            false => k.vfs.mounts.at_mut(id).master = Some(group),
        }
    }
    let mount = k.vfs.mounts.at_mut(id);
    if to != Type::Slave {
        mount.master = None;
        mount.unbindable = to == Type::Unbindable;
    }
}

/// Makes a mount the first one of a peer group, if it has none.
pub(super) fn share(k: &mut Kernel, id: MountId) {
    if k.vfs.mounts.at(id).peers.is_none() {
        let group = k.vfs.mounts.new_group();
        k.vfs.mounts.at_mut(id).peers = Some(group);
    }
}

/// A mount goes away: nothing propagates to it or from it any more.
pub(super) fn leave(k: &mut Kernel, id: MountId) {
    let mount = k.vfs.mounts.at(id);
    if mount.peers.is_some() || mount.master.is_some() {
        set(k, id, Type::Private);
    }
}

/// Mounts copies of a tree, which has just been mounted at `on`, at the same place of every mount that it propagates to.
pub(super) fn spread(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    root: MountId,
    on: PathRef,
) -> Result<(), Errno> {
    match k.vfs.mounts.at(on.mount).peers {
        Some(group) => spread_in(k, p, root, on, group, &mut Vec::new()),
        None => Ok(()),
    }
}

fn spread_in(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    root: MountId,
    on: PathRef,
    group: u32,
    seen: &mut Vec<u32>,
) -> Result<(), Errno> {
    seen.push(group);
    for peer in members(k, group) {
        if peer != on.mount {
            tree::copy_to(k, p, root, PathRef { mount: peer, ..on }, tree::Copy::Peer)?;
        }
    }
    for slave in slaves(k, group) {
        let at = PathRef { mount: slave, ..on };
        match k.vfs.mounts.at(slave).peers {
            None => {
                tree::copy_to(k, p, root, at, tree::Copy::Slave)?;
            }
            Some(inner) if !seen.contains(&inner) => {
                if let Some(copy) = tree::copy_to(k, p, root, at, tree::Copy::SharedSlave)? {
                    spread_in(k, p, copy, at, inner, seen)?;
                }
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// What is mounted at the same place of every mount that an event at this place propagates to.
pub(super) fn copies(k: &Kernel, on: PathRef) -> Vec<MountId> {
    let mut found = Vec::new();
    let mut seen = Vec::new();
    let mut groups: Vec<u32> = k.vfs.mounts.at(on.mount).peers.into_iter().collect();
    while let Some(group) = groups.pop() {
        if seen.contains(&group) {
            continue;
        }
        seen.push(group);
        for id in members(k, group).into_iter().chain(slaves(k, group)) {
            groups.extend(k.vfs.mounts.at(id).peers);
            let at = PathRef { mount: id, ..on };
            found.extend(k.vfs.mounts.mounted_on(at).filter(|_| id != on.mount));
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}
