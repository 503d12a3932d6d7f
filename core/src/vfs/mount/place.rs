//! Mounting a tree, or moving one, at a place and wherever that propagates.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::propagation::{self, Reaching, Search};
use super::tree::{self, Copying, Dropping, Extent, LeavesOut, Walk};
use super::{ALL_MAX, MOUNT_STEPS, MountFlags, MountId, PathRef, detached, get_path, put_path};
use crate::abi::Errno;
use crate::cred::ns::{Kind, NsId};
use crate::env::bounds::MOUNT_MAX;
use crate::env::settings;
use crate::fs::inode;
use crate::port::Ports;
use crate::vfs::Vfs;

/// A tree on its way to its place. Nothing is changed on failure.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Placing {
    root: MountId,
    on: PathRef,
    from: From,
    own: Own,
    /// It goes below what is mounted at the place: on what that hangs. The root directory of who asks for it
    /// stays as it is.
    beneath: Option<PathRef>,
    /// What it goes below.
    over: Option<MountId>,
    /// A mount namespace in the tree would keep itself.
    loops: bool,
    phase: Phase,
    walk: Walk,
    /// Mounts of the tree.
    count: usize,
    /// Mounts that namespaces will have, and all together.
    pending: BTreeMap<NsId, usize>,
    all: usize,
    search: Option<Search>,
    /// Mounts that were given a peer group.
    fresh: Vec<MountId>,
    copying: Option<Copying>,
    /// Copies, which hang nowhere yet, and their places.
    made: Vec<(PathRef, MountId)>,
}

/// The mount namespace of a caller, and the user namespace that owns it.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct Own {
    pub ns: NsId,
    pub owner: NsId,
}

impl Own {
    pub(crate) fn new(k: &Vfs, ns: NsId) -> Own {
        let owner = k.ns.owner(ns);
        Own { ns, owner }
    }

    /// Whether a mount namespace that is mounted in this one would never end (`mnt_ns_loop()`).
    pub(crate) fn is_kept_by(self, k: &Vfs, ns: NsId) -> bool {
        k.ns.kind(ns) == Kind::Mount && self.ns >= ns
    }
}

/// Where a tree comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
enum From {
    /// It is new: its reference is taken over, and given back on failure.
    New,
    /// It hangs in the namespace of the caller.
    Own,
    /// It is detached.
    Anonymous(NsId),
}

/// A search of a mount namespace for a file system of a type that shows no less than one that is to be
/// mounted (`mnt_already_visible()`).
#[derive(Clone, Debug, Hash)]
pub(crate) struct Revealing {
    ns: NsId,
    as_this: (&'static str, MountFlags),
    /// The order of the last mount that was looked at.
    after: Option<u64>,
    /// One of the type: what hangs on it behind the second must not hide a part of it.
    shown: Option<(MountId, Option<MountId>)>,
}

impl Revealing {
    pub(crate) fn new(ns: NsId, as_this: (&'static str, MountFlags)) -> Revealing {
        Revealing {
            ns,
            as_this,
            after: None,
            shown: None,
        }
    }

    /// `true` once one has been found: the mount that was `made` keeps what that one must. `EPERM` if there
    /// is none.
    pub(super) fn step(&mut self, k: &mut Vfs, made: MountId) -> Result<bool, Errno> {
        let mounts = &k.mounts;
        let Some((shown, after)) = self.shown else {
            let (order, id) = mounts.next_of(self.ns, self.after).ok_or(Errno::EPERM)?;
            self.after = Some(order);
            self.shown = shows(k, id, self.as_this).then_some((id, None));
            return Ok(false);
        };
        let next = match after {
            Some(after) => mounts.next_child(shown, after),
            None => mounts.children(shown).next(),
        };
        self.shown = match next {
            Some(child) if hides(k, child) => None,
            Some(child) => Some((shown, Some(child))),
            None => {
                let kept = kept_flags(k, shown);
                k.mounts.at_mut(made).locked_flags |= kept;
                return Ok(true);
            }
        };
        Ok(false)
    }
}

#[derive(Clone, Debug, Hash)]
enum Phase {
    /// A file system that tells of the kernel must be visible in the namespace already.
    Visible(Revealing),
    /// Looking for the topmost place.
    Top,
    /// Nothing unbindable may be moved to where it would be copied, and no namespace to where it is kept.
    Bindable,
    /// The mount that it goes below must not carry it.
    Over(MountId, Option<MountId>),
    /// No copy of it may come to lie on these.
    Reach(Vec<Reaching>),
    /// Nothing may be moved below itself.
    Loop(Option<MountId>),
    Count,
    Search,
    Share,
    Copy,
    /// A new tree becomes part of the namespace, and is hung up then; a detached one the other way round.
    Join,
    Enter,
    /// The last of the copies is locked if need be, and becomes part of its namespace.
    Lock,
    JoinCopy,
    /// It failed: copies are dropped, then groups, then the tree.
    Undo(Errno, Option<Dropping>),
    Unshare(Errno),
    Drop(Errno, Dropping),
}

impl Placing {
    /// Mounts a tree, whose reference is taken over, at a place of a namespace. `ENOENT`, `ENOTDIR`,
    /// `ENOSPC`.
    pub(crate) fn graft(root: MountId, on: PathRef, own: Own) -> Placing {
        Placing {
            root,
            on,
            from: From::New,
            own,
            beneath: None,
            over: None,
            loops: false,
            phase: Phase::Top,
            walk: Walk::new(root),
            count: 0,
            pending: BTreeMap::new(),
            all: 0,
            search: None,
            fresh: Vec::new(),
            copying: None,
            made: Vec::new(),
        }
    }

    /// The same for a file system that may be mounted only where one of its type can be seen already, with no
    /// part hidden (`mount_too_revealing()`). `EPERM`.
    pub(crate) fn graft_visible(
        root: MountId,
        on: PathRef,
        own: Own,
        visible: (&'static str, MountFlags),
    ) -> Placing {
        Placing {
            phase: Phase::Visible(Revealing::new(own.ns, visible)),
            ..Placing::graft(root, on, own)
        }
    }

    /// Moves a mount of a namespace, or a detached tree, to another place; if `beneath`, which is the root
    /// directory of the caller, below what is mounted there. `EINVAL`, `ELOOP`, `ENOENT`, `ENOSPC`.
    pub(crate) fn move_to(
        k: &Vfs,
        root: MountId,
        on: PathRef,
        own: Own,
        beneath: Option<PathRef>,
    ) -> Result<Placing, Errno> {
        let from = match k.mounts.at(root).ns {
            Some(ns) if ns == own.ns => From::Own,
            Some(ns) if detached::is_root(k, root) => From::Anonymous(ns),
            _ => return Err(Errno::EINVAL),
        };
        Ok(Placing {
            from,
            beneath,
            ..Placing::graft(root, on, own)
        })
    }

    /// Mounts a tree at once, however long it takes.
    pub(crate) fn now(mut self, k: &mut Vfs, p: &mut Ports<'_>) -> Result<(), Errno> {
        loop {
            if let Some(end) = self.step(k, p) {
                return end;
            }
        }
    }

    /// A step on the way; the result at its end.
    pub(crate) fn step(&mut self, k: &mut Vfs, p: &mut Ports<'_>) -> Option<Result<(), Errno>> {
        k.env.steps.spend(1);
        match self.advance(k, p) {
            Ok(false) => None,
            Ok(true) => Some(Ok(())),
            Err(errno) => {
                let copying = self.copying.take();
                let dropping = copying.map(|copying| Dropping::new(copying.top));
                self.phase = Phase::Undo(errno, dropping);
                None
            }
        }
        .or_else(|| self.undone())
    }

    /// The error, once everything has been taken back.
    fn undone(&self) -> Option<Result<(), Errno>> {
        match self.phase {
            Phase::Unshare(errno) if self.fresh.is_empty() && self.from != From::New => {
                Some(Err(errno))
            }
            _ => None,
        }
    }

    /// `true` at the end.
    fn advance(&mut self, k: &mut Vfs, p: &mut Ports<'_>) -> Result<bool, Errno> {
        match &mut self.phase {
            Phase::Visible(revealing) => {
                if revealing.step(k, self.root)? {
                    self.phase = Phase::Top;
                }
            }
            Phase::Top => match k.mounts.mounted_on(self.on) {
                Some(mount) => {
                    let dentry = k.mounts.at(mount).root;
                    self.on = PathRef { mount, dentry };
                }
                None => {
                    if self.beneath.is_some() {
                        let over = self.on.mount;
                        self.on = k.mounts.at(over).on.ok_or(Errno::EINVAL)?;
                        self.over = Some(over);
                    }
                    match self.from {
                        From::New => self.check_place(k)?,
                        _ => self.check_move(k)?,
                    }
                }
            },
            &mut Phase::Over(over, at) => match at {
                Some(id) if id == over => return Err(Errno::EINVAL),
                Some(id) => {
                    let on = k.mounts.at(id).on;
                    self.phase = Phase::Over(over, on.map(|on| on.mount));
                }
                None => self.phase = Phase::Reach(self.overmounts(k, over)),
            },
            Phase::Reach(all) => match all.last_mut() {
                Some(one) => match one.step(k) {
                    Some(true) => return Err(Errno::EINVAL),
                    Some(false) => drop(all.pop()),
                    None => {}
                },
                None => self.phase = Phase::Bindable,
            },
            Phase::Bindable => match self.walk.step(&k.mounts) {
                Some(Some(id)) => {
                    let mounts = &k.mounts;
                    let shared = mounts.at(self.on.mount).peers.is_some();
                    if shared && mounts.at(id).unbindable {
                        return Err(Errno::EINVAL);
                    }
                    let held = crate::vfs::object::namespace_at(k, mounts.at(id).root);
                    self.loops |= held.is_some_and(|ns| self.own.is_kept_by(k, ns));
                }
                Some(None) => {}
                None if self.loops => return Err(Errno::ELOOP),
                None => self.phase = Phase::Loop(Some(self.on.mount)),
            },
            Phase::Loop(Some(id)) if *id == self.root => return Err(Errno::ELOOP),
            Phase::Loop(Some(id)) => {
                *id = match k.mounts.at(*id).on {
                    Some(on) => on.mount,
                    None => return self.check_place(k).map(|()| false),
                }
            }
            Phase::Loop(None) => self.check_place(k)?,
            Phase::Count => match self.walk.step(&k.mounts) {
                Some(found) => self.count += usize::from(found.is_some()),
                None => {
                    self.all = k.mounts.len();
                    let ns = k.mounts.at(self.on.mount).ns;
                    if let Some(ns) = ns.filter(|_| self.from != From::Own) {
                        self.count_in(k, ns)?;
                    }
                    self.search = Some(Search::new(k, self.on));
                    self.phase = Phase::Search;
                }
            },
            Phase::Search => self.search(k)?,
            Phase::Share => match self.walk.step(&k.mounts) {
                Some(Some(id)) if propagation::share(k, id) => self.fresh.push(id),
                Some(_) => {}
                None => self.phase = Phase::Copy,
            },
            Phase::Copy => self.copy(k)?,
            Phase::Join if self.from != From::New => {
                self.hang(k, p)?;
                self.walk = Walk::new(self.root);
                self.phase = Phase::Enter;
                if self.from == From::Own {
                    return Ok(self.begin_copies(k));
                }
                detached::left(k, self.root);
            }
            Phase::Join => match self.walk.step(&k.mounts) {
                Some(found) => self.enter(k, found),
                None => {
                    self.hang(k, p)?;
                    return Ok(self.begin_copies(k));
                }
            },
            Phase::Enter => match self.walk.step(&k.mounts) {
                Some(found) => self.enter(k, found),
                None => {
                    k.mounts.touch(self.root);
                    return Ok(self.begin_copies(k));
                }
            },
            Phase::Lock => match self.walk.step(&k.mounts) {
                Some(found) => {
                    let top = self.made.last().map(|&(_, copy)| copy);
                    if let Some(id) = found {
                        match Some(id) == top {
                            true => tree::lock_flags(k, id),
                            false => tree::lock(k, id),
                        }
                    }
                }
                None => self.join_copy(),
            },
            Phase::JoinCopy => return Ok(self.hang_copy(k, p)),
            Phase::Undo(_, Some(dropping)) => {
                if !dropping.step(k, p)
                    && let Phase::Undo(_, dropping) = &mut self.phase
                {
                    *dropping = None;
                }
            }
            Phase::Undo(errno, dropping) => match self.made.pop() {
                Some((_, copy)) => *dropping = Some(Dropping::new(copy)),
                None => self.phase = Phase::Unshare(*errno),
            },
            Phase::Unshare(errno) => match self.fresh.pop() {
                Some(id) => propagation::unshare(k, id),
                None => self.phase = Phase::Drop(*errno, Dropping::new(self.root)),
            },
            Phase::Drop(errno, dropping) => {
                let errno = *errno;
                if !dropping.step(k, p) {
                    // Nothing is left to be undone.
                    self.from = From::Own;
                    self.phase = Phase::Unshare(errno);
                }
            }
        }
        Ok(false)
    }

    /// A mount of the tree becomes part of the namespace.
    fn enter(&mut self, k: &mut Vfs, found: Option<MountId>) {
        if let Some(id) = found {
            k.env.steps.spend(MOUNT_STEPS / 2);
            let ns = k.mounts.at(self.on.mount).ns;
            k.mounts.set_ns(id, ns);
        }
    }

    /// Hangs the tree at its place. `ENOENT` if somebody has removed the directory meanwhile.
    fn hang(&mut self, k: &mut Vfs, p: &mut Ports<'_>) -> Result<(), Errno> {
        if k.dentries.is_deleted(self.on.dentry) {
            return Err(Errno::ENOENT);
        }
        tree::detach(k, p, self.root);
        let Some(over) = self.over else {
            tree::attach(k, self.root, self.on);
            return Ok(());
        };
        // What is there keeps the place alive until it hangs there again.
        let place = get_path(k, self.on);
        tree::detach(k, p, over);
        tree::attach(k, self.root, *place);
        let dentry = k.mounts.at(self.root).root;
        let mount = self.root;
        tree::attach(k, over, PathRef { mount, dentry });
        put_path(k, p, place);
        Ok(())
    }

    /// What comes last is taken first. `true` if there are no copies.
    fn begin_copies(&mut self, k: &Vfs) -> bool {
        self.made.reverse();
        self.next_copy(k);
        self.made.is_empty()
    }

    fn check_move(&mut self, k: &Vfs) -> Result<(), Errno> {
        let mounts = &k.mounts;
        let moved = mounts.at(self.root);
        let target = mounts.at(self.on.mount).ns;
        let is_own = target == Some(self.own.ns);
        match self.from {
            From::New => {}
            From::Own => {
                let parent = moved.on.ok_or(Errno::EINVAL)?.mount;
                if !is_own || moved.locked || mounts.at(parent).peers.is_some() {
                    return Err(Errno::EINVAL);
                }
            }
            From::Anonymous(ns) => {
                let usable = is_own || detached::may_use(k, self.on.mount, self.own.ns);
                if moved.ns != Some(ns) || target == moved.ns || !usable {
                    return Err(Errno::EINVAL);
                }
            }
        }
        self.phase = match self.over {
            Some(over) => {
                self.check_beneath(k, over)?;
                Phase::Over(over, Some(self.root))
            }
            None => Phase::Bindable,
        };
        Ok(())
    }

    /// Whether the tree may go below a mount (`can_move_mount_beneath()`). `EINVAL`.
    fn check_beneath(&self, k: &Vfs, over: MountId) -> Result<(), Errno> {
        let mounts = &k.mounts;
        let place = PathRef {
            mount: self.root,
            dentry: mounts.at(self.root).root,
        };
        let is_root = self.beneath.is_some_and(|root| root.mount == over);
        match mounts.at(over).locked || mounts.mounted_on(place).is_some() || is_root {
            true => Err(Errno::EINVAL),
            false => Ok(()),
        }
    }

    /// What a copy of the tree must not come to lie on: what it goes below, and itself.
    fn overmounts(&self, k: &Vfs, over: MountId) -> Vec<Reaching> {
        let own = (self.from == From::Own).then_some(self.root);
        let all = [Some(over), own].into_iter().flatten();
        let there = all.filter(|&id| k.mounts.at(id).root == self.on.dentry);
        there
            .map(|id| Reaching::new(k, self.on.mount, id))
            .collect()
    }

    fn check_place(&mut self, k: &Vfs) -> Result<(), Errno> {
        let dentries = &k.dentries;
        let is_dir = |id| dentries.at(id).kind() == crate::abi::raw::general::S_IFDIR;
        if dentries.is_deleted(self.on.dentry) || k.mounts.at(self.on.mount).ns.is_none() {
            return Err(Errno::ENOENT);
        }
        if is_dir(self.on.dentry) != is_dir(k.mounts.at(self.root).root) {
            return Err(match self.from {
                From::New => Errno::ENOTDIR,
                _ => Errno::EINVAL,
            });
        }
        self.walk = Walk::new(self.root);
        self.phase = Phase::Count;
        Ok(())
    }

    /// Whether a namespace may have as many more mounts as the tree has (`count_mounts()`). `ENOSPC`.
    fn count_in(&mut self, k: &Vfs, ns: NsId) -> Result<(), Errno> {
        let mounts = &k.mounts;
        let count = self.pending.entry(ns).or_insert_with(|| mounts.count(ns));
        *count = count.saturating_add(self.count);
        self.all = self.all.saturating_add(self.count);
        let most = k.env.settings.at_most(settings::MOUNTS, MOUNT_MAX);
        match *count > most || self.all > ALL_MAX {
            true => Err(Errno::ENOSPC),
            false => Ok(()),
        }
    }

    fn search(&mut self, k: &Vfs) -> Result<(), Errno> {
        let Some(search) = &mut self.search else {
            return Ok(());
        };
        let known = search.found.len();
        if search.step(k) {
            let found = search.found.get(known).map(|found| found.mount);
            if let Some(ns) = found.and_then(|id| k.mounts.at(id).ns) {
                self.count_in(k, ns)?;
            }
            return Ok(());
        }
        self.walk = Walk::new(self.root);
        self.phase = match k.mounts.at(self.on.mount).peers {
            Some(_) => Phase::Share,
            None => Phase::Copy,
        };
        Ok(())
    }

    /// Makes one more mount of a copy.
    fn copy(&mut self, k: &mut Vfs) -> Result<(), Errno> {
        let next = self.made.len();
        let receiver = self
            .search
            .as_ref()
            .and_then(|search| search.found.get(next));
        let Some(&propagation::Receiver { mount, from, how }) = receiver else {
            self.walk = Walk::new(self.root);
            self.phase = Phase::Join;
            return Ok(());
        };
        let Some(copying) = &mut self.copying else {
            let source = from.map_or(self.root, |at: usize| self.made[at].1);
            let dentry = k.mounts.at(self.root).root;
            k.env.steps.spend(MOUNT_STEPS);
            let copying = Copying::new(k, (source, dentry), Extent::Tree, LeavesOut::Nothing, how)?;
            self.copying = Some(copying);
            return Ok(());
        };
        if !copying.step(k)? {
            self.made.push((PathRef { mount, ..self.on }, copying.top));
            self.copying = None;
        }
        Ok(())
    }

    /// Begins with the last copy. In a namespace of another owner it is locked.
    fn next_copy(&mut self, k: &Vfs) {
        let Some(&(on, copy)) = self.made.last() else {
            return;
        };
        let ns = k.mounts.at(on.mount).ns;
        self.walk = Walk::new(copy);
        self.phase = match ns.and_then(|ns| detached::owner(k, ns)) {
            Some(owner) if owner != self.own.owner => Phase::Lock,
            _ => Phase::JoinCopy,
        };
    }

    fn join_copy(&mut self) {
        if let Some(&(_, copy)) = self.made.last() {
            self.walk = Walk::new(copy);
        }
        self.phase = Phase::JoinCopy;
    }

    /// Makes a mount of the last copy part of its namespace, in the end hangs it up; `true` after the last
    /// copy.
    fn hang_copy(&mut self, k: &mut Vfs, p: &mut Ports<'_>) -> bool {
        let Some(&(on, copy)) = self.made.last() else {
            return true;
        };
        if let Some(found) = self.walk.step(&k.mounts) {
            if let Some(id) = found {
                k.env.steps.spend(MOUNT_STEPS / 2);
                let ns = k.mounts.at(on.mount).ns;
                k.mounts.set_ns(id, ns);
            }
            return false;
        }
        k.env.steps.spend(MOUNT_STEPS / 2);
        k.mounts.at_mut(copy).locked = false;
        // What hangs there already comes to hang on the new root, or on what lies on that.
        let tucked = k.mounts.mounted_on(on);
        if let Some(old) = tucked {
            tree::detach(k, p, old);
        }
        tree::attach(k, copy, on);
        if let Some(old) = tucked {
            let dentry = k.mounts.at(copy).root;
            let mount = copy;
            // Something may hang there, too.
            let place = tree::topmost(k, PathRef { mount, dentry });
            tree::attach(k, old, place);
        }
        self.made.pop();
        self.next_copy(k);
        self.made.is_empty()
    }
}

/// Whether a mount shows a file system of a type, from its root on, and no less strictly than flags say.
fn shows(k: &Vfs, id: MountId, (fs_type, flags): (&'static str, MountFlags)) -> bool {
    let mount = k.mounts.at(id);
    let whole = k.dentries.at(mount.root).parent == mount.root;
    let kept = kept_flags(k, id);
    let writable = kept.contains(MountFlags::READ_ONLY) && !flags.contains(MountFlags::READ_ONLY);
    let other_times = (mount.flags ^ flags).intersects(kept & MountFlags::ATIME);
    mount.fs_type == fs_type && whole && !writable && !other_times
}

/// What a mount, and whatever shows the same, must keep of how it is read and written.
fn kept_flags(k: &Vfs, id: MountId) -> MountFlags {
    let mount = k.mounts.at(id);
    let hidden = match inode::is_read_only(k, mount.fs) {
        true => MountFlags::READ_ONLY,
        false => MountFlags::empty(),
    };
    mount.locked_flags & (MountFlags::READ_ONLY | MountFlags::ATIME) | hidden
}

/// Whether what hangs on a mount hides a part of it: not on places that are made to be mounted on.
fn hides(k: &Vfs, child: MountId) -> bool {
    let child = k.mounts.at(child);
    child.locked && child.fs_type != "cgroup2"
}
