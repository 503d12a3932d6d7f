//! Propagation of mounts (mount_namespaces(7), "SHARED SUBTREES"): mounts of one peer group get what is
//! mounted on any of them, slaves get what is mounted on their master's group.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use smallvec::SmallVec;

use super::{MountId, Mounts, PathRef, tree};
use crate::cred::ns::NsId;
use crate::vfs::Vfs;
use crate::vfs::dentry::DentryId;

/// How far events go.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Type {
    Shared,
    Private,
    Slave,
    Unbindable,
}

/// Changes the type of one mount (`change_mnt_propagation()`), or does a part of that; `true` once it is
/// done.
pub(super) fn set(k: &mut Vfs, id: MountId, to: Type) -> bool {
    if to == Type::Shared {
        share(k, id);
        k.mounts.at_mut(id).unbindable = false;
        return true;
    }
    let mounts = &mut k.mounts;
    if let Some(group) = mounts.at(id).peers {
        let last = mounts.is_last(group);
        // Its slaves follow its own master then.
        if last && let Some(slave) = mounts.next_slave(group, None) {
            let master = mounts.at(id).master;
            mounts.set_master(slave, master);
            return false;
        }
        mounts.set_peers(id, None);
        if !last {
            mounts.set_master(id, Some(group));
        }
    }
    if to != Type::Slave {
        mounts.set_master(id, None);
        mounts.at_mut(id).unbindable = to == Type::Unbindable;
    }
    true
}

/// Makes a mount the first one of a peer group; `false` if it has one.
pub(super) fn share(k: &mut Vfs, id: MountId) -> bool {
    let fresh = k.mounts.at(id).peers.is_none();
    if fresh {
        let group = k.mounts.new_group();
        k.mounts.set_peers(id, Some(group));
    }
    fresh
}

/// Takes [`share`] back for a mount that it has given a group.
pub(super) fn unshare(k: &mut Vfs, id: MountId) {
    k.mounts.set_peers(id, None);
}

/// A mount goes away: nothing propagates to it or from it any more. Does a part of that; `true` once it is
/// done.
pub(super) fn leave(k: &mut Vfs, id: MountId) -> bool {
    let mount = k.mounts.at(id);
    (mount.peers.is_none() && mount.master.is_none()) || set(k, id, Type::Private)
}

/// A mount that gets a copy of what is mounted on one of its peers or masters.
#[derive(Clone, Copy, Hash, Debug)]
pub(super) struct Receiver {
    pub mount: MountId,
    /// Whose copy is copied; `None` for the tree itself.
    pub from: Option<usize>,
    pub how: tree::Copy,
}

/// A search for the mounts that an event at a place propagates to, but for those in which the place cannot be
/// seen and those that are part of no namespace with a name (the tree that is about to be mounted itself, and
/// what is detached): each behind the one whose copy it gets.
#[derive(Clone, Debug, Hash)]
pub(super) struct Search {
    pub found: Vec<Receiver>,
    /// The dentry of the place and those above.
    above: BTreeSet<DentryId>,
    taken: BTreeSet<MountId>,
    seen: BTreeSet<u64>,
    /// Groups that are still to be looked at, and whose copy their members get.
    next: Vec<(u64, Option<usize>)>,
    at: Option<Group>,
    /// A group of slaves of which the first member that sees the place is looked for.
    first: Option<(u64, Option<MountId>)>,
}

/// A group that is being looked at.
#[derive(Clone, Debug, Hash)]
struct Group {
    group: u64,
    from: Option<usize>,
    /// Its members have been passed, and its slaves come.
    slaves: bool,
    after: Option<MountId>,
}

impl Search {
    pub(super) fn new(k: &Vfs, on: PathRef) -> Search {
        let peers = k.mounts.at(on.mount).peers;
        let above = peers.map(|_| k.dentries.ancestors(on.dentry));
        let seen: BTreeSet<u64> = peers.into_iter().collect();
        Search {
            found: Vec::new(),
            above: above.unwrap_or_default(),
            taken: BTreeSet::from([on.mount]),
            next: seen.iter().map(|&group| (group, None)).collect(),
            seen,
            at: None,
            first: None,
        }
    }

    fn sees(&self, mounts: &Mounts, id: MountId) -> bool {
        let mount = mounts.at(id);
        let named = |ns| mounts.anonymous(ns).is_none();
        mount.ns.is_some_and(named) && self.above.contains(&mount.root)
    }

    fn take(&mut self, mount: MountId, from: Option<usize>, how: tree::Copy) {
        if self.taken.insert(mount) {
            self.found.push(Receiver { mount, from, how });
        }
    }

    /// Looks at one more mount; `false` after the last.
    pub(super) fn step(&mut self, k: &Vfs) -> bool {
        let mounts = &k.mounts;
        if self.at.is_none() {
            let Some((group, from)) = self.next.pop() else {
                return false;
            };
            self.at = Some(Group {
                group,
                from,
                slaves: false,
                after: None,
            });
        }
        let Some(Group {
            group,
            from,
            slaves,
            after,
        }) = self.at.clone()
        else {
            return false;
        };
        if let Some((inner, after)) = self.first {
            // The first one of a group gets a slave, the others peers of that.
            match mounts.next_member(inner, after) {
                Some(id) if self.sees(mounts, id) => {
                    self.first = None;
                    self.next.push((inner, Some(self.found.len())));
                    self.take(id, from, tree::Copy::SharedSlave);
                }
                Some(id) => self.first = Some((inner, Some(id))),
                None => {
                    self.first = None;
                    self.next.push((inner, from));
                }
            }
            return true;
        }
        let next = match slaves {
            false => mounts.next_member(group, after),
            true => mounts.next_slave(group, after),
        };
        match (next, slaves) {
            (Some(member), false) => {
                if self.sees(mounts, member) {
                    self.take(member, from, tree::Copy::Peer);
                }
            }
            (Some(slave), true) => match mounts.at(slave).peers {
                Some(inner) if self.seen.insert(inner) => self.first = Some((inner, None)),
                None if self.sees(mounts, slave) => self.take(slave, from, tree::Copy::Slave),
                _ => {}
            },
            (None, _) => {}
        }
        self.at = match next {
            Some(_) => Some(Group {
                group,
                from,
                slaves,
                after: next,
            }),
            None if slaves => None,
            None => Some(Group {
                group,
                from,
                slaves: true,
                after: None,
            }),
        };
        true
    }
}

/// A search for what is mounted on a dentry of a mount that events at mounts of some groups propagate to.
#[derive(Clone, Debug, Hash)]
pub(super) struct Copies {
    dentry: DentryId,
    groups: BTreeSet<u64>,
    /// What is known of groups that were looked at.
    known: BTreeMap<u64, bool>,
    after: Option<(Option<NsId>, MountId)>,
    /// The mount that is being looked at, and the ways up from what it hangs on.
    climbing: Option<(MountId, Climbs)>,
}

impl Copies {
    pub(super) fn new(dentry: DentryId, groups: BTreeSet<u64>) -> Copies {
        Copies {
            dentry,
            groups,
            known: BTreeMap::new(),
            after: None,
            climbing: None,
        }
    }

    /// Looks at one more mount, or a part of the way from it, which is given if it is one; `None` after the
    /// last.
    pub(super) fn step(&mut self, k: &mut Vfs) -> Option<Option<MountId>> {
        let mounts = &k.mounts;
        let (id, mut climbs) = match self.climbing.take() {
            Some(climbing) => climbing,
            None => {
                let (ns, id) = mounts.next_on(self.dentry, self.after)?;
                self.after = Some((ns, id));
                let below = mounts.at(id).on.map(|on| on.mount);
                (id, below.map_or_else(Climbs::new, |id| climbs(mounts, id)))
            }
        };
        match climb_some(k, &mut climbs, &self.groups, &mut self.known) {
            Some(found) => Some(found.then_some(id)),
            None => {
                self.climbing = Some((id, climbs));
                Some(None)
            }
        }
    }
}

/// A search for whether what is mounted on one mount propagates to another one, or to a master of that.
#[derive(Clone, Debug, Hash)]
pub(super) struct Reaching {
    groups: BTreeSet<u64>,
    known: BTreeMap<u64, bool>,
    climbs: Climbs,
}

impl Reaching {
    pub(super) fn new(k: &Vfs, from: MountId, to: MountId) -> Reaching {
        let mounts = &k.mounts;
        Reaching {
            groups: mounts.at(from).peers.into_iter().collect(),
            known: BTreeMap::new(),
            climbs: climbs(mounts, to),
        }
    }

    /// A part of it; the answer at the end.
    pub(super) fn step(&mut self, k: &mut Vfs) -> Option<bool> {
        match self.groups.is_empty() {
            true => Some(false),
            false => climb_some(k, &mut self.climbs, &self.groups, &mut self.known),
        }
    }
}

/// The ways up from the groups of a mount; the last comes first.
type Climbs = SmallVec<[Climb; 2]>;

fn climbs(mounts: &Mounts, id: MountId) -> Climbs {
    let mount = mounts.at(id);
    let groups = [mount.master, mount.peers];
    groups.into_iter().flatten().map(Climb::new).collect()
}

/// Goes on with ways up: whether one of them leads to a group of these; `None` if that is not known yet.
fn climb_some(
    k: &mut Vfs,
    climbs: &mut Climbs,
    from: &BTreeSet<u64>,
    known: &mut BTreeMap<u64, bool>,
) -> Option<bool> {
    while let Some(climb) = climbs.last_mut() {
        let before = known.len();
        let end = climb.step(&k.mounts, from, known);
        k.env.steps.spend((known.len() - before) as u64);
        match end {
            None => return None,
            Some(true) => return Some(true),
            Some(false) => climbs.pop(),
        };
    }
    Some(false)
}

/// The way from a group to its master, and on to that one's: whether the group is one of some, or gets what
/// is mounted on them, as a slave of one, or of its slaves. All members of a group have the same master.
#[derive(Clone, Debug, Hash)]
struct Climb {
    next: Option<u64>,
    passed: Vec<u64>,
    /// It leads there, which is yet to be noted of the groups that were passed.
    found: bool,
}

impl Climb {
    fn new(group: u64) -> Climb {
        Climb {
            next: Some(group),
            passed: Vec::new(),
            found: false,
        }
    }

    /// A part of the way; the answer at its end.
    fn step(
        &mut self,
        mounts: &Mounts,
        from: &BTreeSet<u64>,
        known: &mut BTreeMap<u64, bool>,
    ) -> Option<bool> {
        const AT_ONCE: usize = 32;
        for _ in 0..AT_ONCE {
            if self.found {
                let group = self.passed.pop();
                match group {
                    Some(group) => known.insert(group, true),
                    None => return Some(true),
                };
                continue;
            }
            let Some(group) = self.next else {
                return Some(false);
            };
            if from.contains(&group) || known.get(&group) == Some(&true) {
                self.found = true;
                continue;
            }
            // Marked at once: a chain is never walked in a circle.
            if known.insert(group, false).is_some() {
                return Some(false);
            }
            self.passed.push(group);
            let first = mounts.members(group).next();
            self.next = first.and_then(|id| mounts.at(id).master);
        }
        None
    }
}

/// Gives a private mount the peer group and the master of another one.
pub(super) fn join(k: &mut Vfs, id: MountId, as_this: MountId) {
    let mount = k.mounts.at(as_this);
    let (peers, master) = (mount.peers, mount.master);
    k.mounts.set_master(id, master);
    k.mounts.set_peers(id, peers);
}
