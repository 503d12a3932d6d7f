//! Taking mounts off: umount(2), the end of a namespace, and that of a name on which something is mounted.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::job::{self, Job};
use super::propagation::{self, Copies};
use super::tree::{self, Walk};
use super::{MOUNT_STEPS, MountId, detached, leave_filesystem, let_go, release};
use crate::abi::Errno;
use crate::args::UmountFlags;
use crate::cred::ns::NsId;
use crate::fs::filesystem::FsId;
use crate::port::Ports;
use crate::slab::Key;
use crate::vfs::Vfs;
use crate::vfs::dentry::DentryId;

/// Which mounts still hang where they hung when they are taken off a namespace together with the mount below
/// them. They can then be seen by whoever holds a place in that one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Connected {
    All,
    /// Those that hide what less privileged namespaces are not to see.
    Locked,
}

/// Mounts that are being taken off their namespaces (`umount_tree()`).
#[derive(Clone, Debug, Hash)]
pub(crate) struct TakingOff {
    goes: BTreeSet<MountId>,
    connected: Connected,
    phase: Off,
    /// Older groups first: their slaves are mostly newer ones, and so lose their masters once.
    order: BTreeSet<(Option<u64>, MountId)>,
    /// The last one that was dealt with.
    after: Option<MountId>,
    rest: Vec<MountId>,
}

#[derive(Clone, Debug, Hash)]
enum Off {
    /// All of a tree are to go.
    Collect(Walk),
    Order,
    Leave,
    /// Those that stay where they hang are told from the others, which are taken off then.
    Hang,
    Rest,
}

impl TakingOff {
    fn new(goes: BTreeSet<MountId>) -> TakingOff {
        TakingOff {
            goes,
            connected: Connected::Locked,
            phase: Off::Order,
            order: BTreeSet::new(),
            after: None,
            rest: Vec::new(),
        }
    }

    fn tree(root: MountId, connected: Connected) -> TakingOff {
        TakingOff {
            connected,
            phase: Off::Collect(Walk::new(root)),
            ..TakingOff::new(BTreeSet::new())
        }
    }

    /// A detached tree goes with all that hangs on it.
    pub(super) fn detached(root: MountId) -> TakingOff {
        TakingOff::tree(root, Connected::All)
    }

    /// The next of those that go.
    fn next(&mut self) -> Option<MountId> {
        let from = MountId(self.after.map_or(Key::LEAST, |after| after.0.next()));
        self.after = self.goes.range(from..).next().copied();
        self.after
    }

    /// `false` at the end.
    pub(super) fn step(&mut self, k: &mut Vfs, p: &mut Ports<'_>) -> bool {
        k.env.steps.spend(1);
        match &mut self.phase {
            Off::Collect(walk) => match walk.step(&k.mounts) {
                Some(found) => self.goes.extend(found),
                None => self.phase = Off::Order,
            },
            Off::Order => match self.next() {
                Some(id) => {
                    self.order.insert((k.mounts.at(id).peers, id));
                }
                None => self.phase = Off::Leave,
            },
            Off::Leave => match self.order.first() {
                Some(&(_, id)) => {
                    k.env.steps.spend(MOUNT_STEPS / 2);
                    if propagation::leave(k, id) {
                        k.mounts.touch(id);
                        k.mounts.set_ns(id, None);
                        detached::left(k, id);
                        self.order.pop_first();
                    }
                }
                None => self.phase = Off::Hang,
            },
            Off::Hang => match self.next() {
                Some(id) => self.connect(k, p, id),
                None => self.phase = Off::Rest,
            },
            Off::Rest => match self.rest.pop() {
                Some(id) => {
                    k.env.steps.spend(MOUNT_STEPS / 2);
                    tree::detach(k, p, id);
                    let_go(k, p, id);
                }
                None => return false,
            },
        }
        true
    }

    fn connect(&mut self, k: &mut Vfs, p: &mut Ports<'_>, id: MountId) {
        let mount = k.mounts.at(id);
        let stays = self.connected == Connected::All || mount.locked;
        match mount.on.filter(|on| stays && self.goes.contains(&on.mount)) {
            Some(on) => {
                let mount = k.mounts.at_mut(id);
                mount.connected = true;
                mount.kept = false;
                // Its namespace's reference is left to each of them.
                release(k, p, on.mount);
            }
            None => self.rest.push(id),
        }
    }
}

/// The last task has left a mount namespace: its mounts go, but for those that somebody still uses.
pub(crate) fn drop_namespace(k: &mut Vfs, p: &mut Ports<'_>, ns: NsId, root: MountId) {
    debug_assert!(k.mounts.at(root).ns == Some(ns));
    let goes = TakingOff::tree(root, Connected::Locked);
    job::begin(k, p, Job::TakeOff(goes.into()));
}

/// umount(2) under way: a mount with all that hangs on it is taken off its namespace, and the copies that
/// came by propagation, but for those that carry what stays, and those that are locked to what stays.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Unmounting {
    root: MountId,
    phase: Phase,
    /// `MNT_EXPIRE`, and whether it has been marked before.
    expire: Option<bool>,
    tree: BTreeSet<MountId>,
    goes: BTreeSet<MountId>,
    /// Where they hang, and in which groups what they hang on is.
    places: BTreeMap<DentryId, BTreeSet<u64>>,
    /// Copies that are still to be looked at.
    open: Vec<MountId>,
}

#[derive(Clone, Debug, Hash)]
enum Phase {
    /// Nobody may use it, nor what would go with it.
    Busy(Option<Copies>),
    Tree(Walk),
    Copies(Option<Copies>),
    Open,
    /// Whether what hangs on a copy, behind this one, goes too.
    Carries(MountId, Option<MountId>),
    /// What hangs on one that stays is looked at again.
    Spread(MountId, Option<MountId>),
}

impl Unmounting {
    /// With `DETACH` although it is in use; `expire` says of `EXPIRE` whether the mount was marked so.
    pub(crate) fn new(root: MountId, flags: UmountFlags, expire: Option<bool>) -> Unmounting {
        let phase = match flags.contains(UmountFlags::DETACH) {
            true => Phase::Tree(Walk::new(root)),
            false => Phase::Busy(None),
        };
        Unmounting {
            root,
            phase,
            expire,
            tree: BTreeSet::new(),
            goes: BTreeSet::new(),
            places: BTreeMap::new(),
            open: Vec::new(),
        }
    }

    /// What is to be taken off, once that is known. `EBUSY`, `EAGAIN`.
    pub(super) fn step(&mut self, k: &mut Vfs) -> Result<Option<TakingOff>, Errno> {
        k.env.steps.spend(1);
        let next = match &mut self.phase {
            Phase::Busy(copies) => match copies {
                None => {
                    if k.mounts.is_used(self.root) {
                        return Err(Errno::EBUSY);
                    }
                    let on = k.mounts.at(self.root).on;
                    let group = on.and_then(|on| k.mounts.at(on.mount).peers);
                    match on.zip(group) {
                        Some((on, group)) => {
                            let groups = BTreeSet::from([group]);
                            Phase::Busy(Some(Copies::new(on.dentry, groups)))
                        }
                        None => self.idle(k)?,
                    }
                }
                Some(copies) => match copies.step(k) {
                    Some(found) => {
                        let mounts = &k.mounts;
                        let carries = |id| mounts.children(id).next().is_some();
                        let used = |id| id != self.root && !carries(id) && mounts.is_used(id);
                        if found.is_some_and(used) {
                            return Err(Errno::EBUSY);
                        }
                        return Ok(None);
                    }
                    None => self.idle(k)?,
                },
            },
            Phase::Tree(walk) => match walk.step(&k.mounts) {
                Some(found) => {
                    self.enter(k, found);
                    return Ok(None);
                }
                None => Phase::Copies(None),
            },
            Phase::Copies(Some(copies)) => match copies.step(k) {
                Some(found) => {
                    let new = found.filter(|id| !self.tree.contains(id));
                    if let Some(id) = new.filter(|&id| self.goes.insert(id)) {
                        self.open.push(id);
                    }
                    return Ok(None);
                }
                None => Phase::Copies(None),
            },
            Phase::Copies(None) => match self.places.pop_first() {
                Some((dentry, groups)) => Phase::Copies(Some(Copies::new(dentry, groups))),
                None => Phase::Open,
            },
            Phase::Open => match self.open.pop() {
                Some(id) if self.tree.contains(&id) || !self.goes.contains(&id) => Phase::Open,
                Some(id) => {
                    let mount = k.mounts.at(id);
                    let below = mount.on.map(|on| on.mount);
                    match mount.locked && below.is_none_or(|below| !self.goes.contains(&below)) {
                        true => self.keep(k, id),
                        false => Phase::Carries(id, None),
                    }
                }
                None => return Ok(Some(TakingOff::new(core::mem::take(&mut self.goes)))),
            },
            &mut Phase::Carries(id, after) => match next_child(k, id, after) {
                Some(child) if self.goes.contains(&child) => Phase::Carries(id, Some(child)),
                Some(_) => self.keep(k, id),
                None => Phase::Open,
            },
            &mut Phase::Spread(id, after) => match next_child(k, id, after) {
                Some(child) => {
                    self.open.push(child);
                    Phase::Spread(id, Some(child))
                }
                None => Phase::Open,
            },
        };
        self.phase = next;
        Ok(None)
    }

    /// Nobody uses it. `EAGAIN` if it is only marked now.
    fn idle(&self, k: &mut Vfs) -> Result<Phase, Errno> {
        if self.expire == Some(false) {
            k.mounts.at_mut(self.root).expiring = true;
            return Err(Errno::EAGAIN);
        }
        Ok(Phase::Tree(Walk::new(self.root)))
    }

    /// A mount of the tree goes.
    fn enter(&mut self, k: &Vfs, found: Option<MountId>) {
        let Some(id) = found else { return };
        self.tree.insert(id);
        self.goes.insert(id);
        let mounts = &k.mounts;
        if let Some(on) = mounts.at(id).on
            && let Some(group) = mounts.at(on.mount).peers
        {
            self.places.entry(on.dentry).or_default().insert(group);
        }
    }

    /// A copy stays, and with it perhaps what it hangs on, and what hangs on it.
    fn keep(&mut self, k: &Vfs, id: MountId) -> Phase {
        self.goes.remove(&id);
        self.open.extend(k.mounts.at(id).on.map(|on| on.mount));
        Phase::Spread(id, None)
    }
}

/// What hangs on a mount behind another one.
fn next_child(k: &Vfs, id: MountId, after: Option<MountId>) -> Option<MountId> {
    match after {
        Some(after) => k.mounts.next_child(id, after),
        None => k.mounts.children(id).next(),
    }
}

/// A name has gone: whatever is mounted there is taken off (`detach_mounts()`).
pub(crate) fn uncover(k: &mut Vfs, p: &mut Ports<'_>, dentry: DentryId) {
    let place = k.dentries.at(dentry);
    if place.mounts == 0 {
        return;
    }
    let fs = place.fs;
    // The dentry must outlive the mounts on it.
    k.dentries.get(dentry);
    k.fs.filesystem_mounted(fs, 1);
    let uncovering = Uncovering {
        fs,
        dentry,
        taking: None,
    };
    job::begin(k, p, Job::Uncover(uncovering));
}

/// Taking off what is mounted on a name that has gone.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Uncovering {
    fs: FsId,
    pub(super) dentry: DentryId,
    taking: Option<alloc::boxed::Box<TakingOff>>,
}

impl Uncovering {
    /// `false` at the end.
    pub(super) fn step(&mut self, k: &mut Vfs, p: &mut Ports<'_>) -> bool {
        if let Some(taking) = &mut self.taking {
            if !taking.step(k, p) {
                self.taking = None;
            }
            return true;
        }
        k.env.steps.spend(MOUNT_STEPS);
        // One of them may hang in the tree of another one, and go with it.
        let Some((_, id)) = k.mounts.next_on(self.dentry, None) else {
            leave_filesystem(k, p, self.fs, self.dentry);
            return false;
        };
        if k.mounts.at(id).connected {
            tree::detach(k, p, id);
            release(k, p, id);
        } else {
            self.taking = Some(TakingOff::tree(id, Connected::All).into());
        }
        true
    }
}
