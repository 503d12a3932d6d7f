//! Detached trees of mounts (fsmount(2), open_tree(2)): each is part of a mount namespace of its own, without
//! a name and without tasks, until it is moved to another one or the descriptor that stands for it is closed.

use smallvec::smallvec;

use super::attribute::{Change, Setting};
use super::job::{self, Job};
use super::tree::{Extent, Walk};
use super::unmount::TakingOff;
use super::{HeldPath, MOUNT_STEPS, MountId, PathRef, put_path};
use crate::cred::ns::NsId;
use crate::port::Ports;
use crate::vfs::Vfs;

/// A mount namespace without a name.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct Anonymous {
    /// The user namespace that it belongs to.
    pub owner: NsId,
    /// The mount namespace that its mounts are copies of.
    pub origin: Option<NsId>,
}

/// The number of the anonymous namespace with this root: lower than those of others.
pub(crate) fn number(root: MountId) -> NsId {
    NsId(root.0.index())
}

/// Whether a mount is the root of an anonymous namespace.
pub(crate) fn is_root(k: &Vfs, id: MountId) -> bool {
    let own = number(id);
    k.mounts.at(id).ns == Some(own) && k.mounts.anonymous(own).is_some()
}

/// Whether who is in a mount namespace may use a mount of an anonymous one (`check_anonymous_mnt()`).
pub(crate) fn may_use(k: &Vfs, id: MountId, own: NsId) -> bool {
    let ns = k.mounts.at(id).ns;
    let anonymous = ns.and_then(|ns| k.mounts.anonymous(ns));
    anonymous.is_some_and(|ns| ns.origin.is_none_or(|origin| origin == own))
}

/// The mount namespace that copies of a mount come from.
pub(crate) fn origin(k: &Vfs, id: MountId) -> Option<NsId> {
    let ns = k.mounts.at(id).ns?;
    match k.mounts.anonymous(ns) {
        Some(anonymous) => anonymous.origin,
        None => Some(ns),
    }
}

/// The user namespace that a mount namespace belongs to; `None` if it is about to go.
pub(crate) fn owner(k: &Vfs, ns: NsId) -> Option<NsId> {
    match k.mounts.anonymous(ns) {
        Some(anonymous) => Some(anonymous.owner),
        None => k.ns.exists(ns).then(|| k.ns.owner(ns)),
    }
}

/// A mount that is or was the root of an anonymous namespace has left it: that is gone.
pub(super) fn left(k: &mut Vfs, id: MountId) {
    if let Some(owner) = k.mounts.remove_anonymous(number(id)) {
        k.ns.let_go(owner);
    }
}

/// A tree, which hangs nowhere and is part of no namespace, becomes an anonymous one.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Detaching {
    top: MountId,
    of: Anonymous,
    /// What is changed of its mounts then.
    change: Option<Change>,
    walk: Walk,
}

impl Detaching {
    /// Takes the reference over.
    pub(crate) fn new(top: MountId, of: Anonymous, change: Option<Change>) -> Detaching {
        let walk = Walk::new(top);
        Detaching {
            top,
            of,
            change,
            walk,
        }
    }

    pub(super) fn top(&self) -> MountId {
        self.top
    }

    /// What is to be changed at the end.
    pub(super) fn setting(&self) -> Option<Setting> {
        let change = self.change?;
        Some(Setting::new(self.top, Extent::Tree, change))
    }

    /// The mount at its top, at the end.
    pub(super) fn step(&mut self, k: &mut Vfs) -> Option<MountId> {
        let ns = number(self.top);
        match self.walk.step(&k.mounts) {
            Some(Some(id)) => {
                k.env.steps.spend(MOUNT_STEPS / 2);
                if id == self.top {
                    k.mounts.add_anonymous(ns, self.of);
                }
                k.mounts.set_ns(id, Some(ns));
                None
            }
            Some(None) => None,
            None => Some(self.top),
        }
    }
}

/// The file that stands for a detached tree is closed: the tree is taken apart unless it was moved away
/// (`dissolve_on_fput()`).
pub(crate) fn dissolve(k: &mut Vfs, p: &mut Ports<'_>, path: HeldPath) {
    match is_root(k, path.mount) || !job::is_idle(k) {
        true => job::begin_at(k, p, Job::Dissolve(path.mount), smallvec![path]),
        false => put_path(k, p, path),
    }
}

/// The same for a tree that no file stands for yet.
pub(crate) fn abandon(k: &mut Vfs, p: &mut Ports<'_>, top: MountId) {
    let dentry = k.mounts.at(top).root;
    let path = super::get_path(k, PathRef { mount: top, dentry });
    dissolve(k, p, path);
}

/// What takes a tree apart, if it is still detached.
pub(super) fn taking_off(k: &Vfs, id: MountId) -> Option<TakingOff> {
    is_root(k, id).then(|| TakingOff::detached(id))
}
