//! Changes of the mounts, one after the other and each in pieces. A call that makes one waits for its end;
//! what nobody waits for (the end of a namespace, or of a name that is mounted on) goes on by itself.
//! Meanwhile everybody finds a tree that hangs together, though a copy may appear in one place before it does
//! in another; who wants to change mounts waits, as for `namespace_sem`.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::sync::Arc;

use smallvec::SmallVec;

use super::attribute::{Change, Setting};
use super::detached::{self, Detaching};
use super::place::{Own, Placing, Revealing};
use super::propagation::{self, Type};
use super::tree::{self, Copying, Dropping, Extent, LeavesOut, Walk};
use super::unmount::{TakingOff, Uncovering, Unmounting};
use super::{HeldPath, MOUNT_STEPS, MountId, PathRef, is_clear, put_path};
use crate::abi::Errno;
use crate::cred::Creds;
use crate::cred::ns::{NsId, Set};
use crate::env::cx::Cx;
use crate::env::wait::{Restart, Stop, Wait, WaitKey};
use crate::fs::filesystem::FsId;
use crate::machine::ThreadId;
use crate::port::Ports;
use crate::slab::Key;
use crate::vfs::Vfs;
use crate::vfs::view::ViewOps;

/// A change.
#[derive(Clone, Debug, Hash)]
pub(crate) enum Job {
    Bind(Box<Binding>),
    Place(Box<Placing>),
    Unmount(Box<Unmounting>),
    TakeOff(Box<TakingOff>),
    Uncover(Uncovering),
    SetType(Typing),
    Namespace(Box<Founding>),
    Drop(Dropping, Errno),
    Show(Showing),
    /// A mount that was made becomes a detached one, if what it tells of can be seen already.
    Reveal(Box<Revealing>, Detaching),
    Detach(Detaching),
    /// What stands for the detached tree with this root has been closed.
    Dissolve(MountId),
    SetFlags(Box<Setting>),
    /// The same for a detached tree that was just made.
    SetDetached(Box<Setting>, MountId),
    Group(Grouping),
}

/// Namespaces that were made for a task: these, the credentials to use from now on, and the copies of
/// mounts by what they are copies of.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Made {
    pub set: Set,
    pub creds: Creds,
    pub mounts: BTreeMap<MountId, MountId>,
}

/// What a change has made.
#[derive(Clone, Debug, Hash)]
pub(crate) enum Done {
    Nothing,
    Namespaces(Box<Made>),
    /// A detached tree, by the mount at its top.
    Tree(MountId),
}

/// How a step of a change ended.
enum Next {
    More,
    Then(Job),
    End(Result<Done, Errno>),
}

/// A search for mounts below a place that are locked to it: they must not be left out of a copy of it.
#[derive(Clone, Debug, Hash)]
struct Locked {
    below: PathRef,
    after: Option<MountId>,
}

impl Locked {
    fn new(below: PathRef) -> Locked {
        Locked { below, after: None }
    }

    /// Looks at one more mount; `false` after the last. `EINVAL`.
    fn step(&mut self, k: &Vfs) -> Result<bool, Errno> {
        let mounts = &k.mounts;
        let child = match self.after {
            Some(after) => mounts.next_child(self.below.mount, after),
            None => mounts.children(self.below.mount).next(),
        };
        self.after = child;
        let Some(child) = child.map(|child| mounts.at(child)) else {
            return Ok(false);
        };
        let is_below = |on: PathRef| k.dentries.is_below(on.dentry, self.below.dentry);
        match child.locked && child.on.is_some_and(is_below) {
            true => Err(Errno::EINVAL),
            false => Ok(true),
        }
    }
}

/// A mount comes to share what is mounted with another one (`do_set_group()`).
#[derive(Clone, Debug, Hash)]
pub(crate) struct Grouping {
    from: MountId,
    to: MountId,
    locked: Locked,
}

impl Grouping {
    pub(crate) fn new(k: &Vfs, from: MountId, to: MountId) -> Grouping {
        let dentry = k.mounts.at(to).root;
        let below = PathRef {
            mount: from,
            dentry,
        };
        let locked = Locked::new(below);
        Grouping { from, to, locked }
    }

    fn step(&mut self, k: &mut Vfs) -> Next {
        match self.locked.step(k) {
            Ok(true) => return Next::More,
            Ok(false) => {}
            Err(errno) => return Next::End(Err(errno)),
        }
        let shared = |id| {
            let mount = k.mounts.at(id);
            mount.peers.is_some() || mount.master.is_some()
        };
        if shared(self.to) || !shared(self.from) {
            return Next::End(Err(Errno::EINVAL));
        }
        propagation::join(k, self.to, self.from);
        Next::End(Ok(Done::Nothing))
    }
}

/// A copy of a mount that is made to be mounted elsewhere.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Binding {
    check: Option<Locked>,
    source: PathRef,
    extent: Extent,
    copying: Option<Copying>,
    target: Target,
}

/// Where a copy goes.
#[derive(Clone, Copy, Debug, Hash)]
enum Target {
    Place(PathRef, Own),
    Nowhere(detached::Anonymous, Option<Change>),
}

impl Binding {
    pub(crate) fn new(source: PathRef, extent: Extent, target: PathRef, own: Own) -> Binding {
        Binding::to(source, extent, Target::Place(target, own))
    }

    /// The same for a copy that hangs nowhere.
    pub(crate) fn detached(
        source: PathRef,
        extent: Extent,
        of: detached::Anonymous,
        change: Option<Change>,
    ) -> Binding {
        Binding::to(source, extent, Target::Nowhere(of, change))
    }

    fn to(source: PathRef, extent: Extent, target: Target) -> Binding {
        Binding {
            check: (extent == Extent::One).then(|| Locked::new(source)),
            source,
            extent,
            copying: None,
            target,
        }
    }

    fn step(&mut self, k: &mut Vfs) -> Next {
        if let Some(locked) = &mut self.check {
            match locked.step(k) {
                Ok(true) => {}
                Ok(false) => self.check = None,
                Err(errno) => return Next::End(Err(errno)),
            }
            return Next::More;
        }
        let Some(copying) = &mut self.copying else {
            let place = (self.source.mount, self.source.dentry);
            return match Copying::new(
                k,
                place,
                self.extent,
                LeavesOut::Unbindable,
                tree::Copy::Peer,
            ) {
                Ok(copying) => {
                    self.copying = Some(copying);
                    Next::More
                }
                Err(errno) => Next::End(Err(errno)),
            };
        };
        match copying.step(k) {
            Ok(true) => Next::More,
            Ok(false) => {
                k.mounts.at_mut(copying.top).locked = false;
                match self.target {
                    Target::Place(target, own) => {
                        let placing = Placing::graft(copying.top, target, own);
                        Next::Then(Job::Place(placing.into()))
                    }
                    Target::Nowhere(of, change) => {
                        Next::Then(Job::Detach(Detaching::new(copying.top, of, change)))
                    }
                }
            }
            Err(errno) => Next::Then(Job::Drop(Dropping::new(copying.top), errno)),
        }
    }
}

/// Mounts of a tree get a type.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Typing {
    walk: Walk,
    one: Option<MountId>,
    extent: Extent,
    to: Type,
}

impl Typing {
    pub(crate) fn new(root: MountId, extent: Extent, to: Type) -> Typing {
        Typing {
            walk: Walk::new(root),
            one: None,
            extent,
            to,
        }
    }

    fn step(&mut self, k: &mut Vfs) -> Next {
        k.env.steps.spend(2);
        if let Some(id) = self.one {
            if propagation::set(k, id, self.to) {
                self.one = None;
                if self.extent == Extent::One {
                    return Next::End(Ok(Done::Nothing));
                }
            }
            return Next::More;
        }
        match self.walk.step(&k.mounts) {
            Some(found) => {
                self.one = found;
                Next::More
            }
            None => Next::End(Ok(Done::Nothing)),
        }
    }
}

/// A mount namespace that gets copies of all mounts of another one.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Founding {
    made: Box<Made>,
    from: MountId,
    less: bool,
    copying: Option<Copying>,
    /// The way through the copy.
    walk: Option<Walk>,
}

impl Founding {
    /// `made` names the namespace; the copies become part of it. `less`: it belongs to a less privileged user
    /// namespace.
    pub(crate) fn new(made: Made, from: MountId, less: bool) -> Founding {
        Founding {
            made: made.into(),
            from,
            less,
            copying: None,
            walk: None,
        }
    }

    fn step(&mut self, k: &mut Vfs) -> Next {
        let Some(copying) = &mut self.copying else {
            let how = match self.less {
                true => tree::Copy::Less,
                false => tree::Copy::Peer,
            };
            let dentry = k.mounts.at(self.from).root;
            return match Copying::new(
                k,
                (self.from, dentry),
                Extent::Tree,
                LeavesOut::Nothing,
                how,
            ) {
                Ok(copying) => {
                    self.copying = Some(copying);
                    Next::More
                }
                Err(errno) => Next::End(Err(errno)),
            };
        };
        let top = copying.top;
        let ns = self.made.set.mount;
        let Some(walk) = &mut self.walk else {
            return match copying.step(k) {
                Ok(true) => Next::More,
                Ok(false) => {
                    self.made.mounts = core::mem::take(&mut copying.copies);
                    self.walk = Some(Walk::new(top));
                    Next::More
                }
                Err(errno) => Next::Then(Job::Drop(Dropping::new(top), errno)),
            };
        };
        match walk.step(&k.mounts) {
            Some(found) => {
                if let Some(id) = found {
                    k.env.steps.spend(MOUNT_STEPS / 2);
                    if self.less {
                        match id == top {
                            true => tree::lock_flags(k, id),
                            false => tree::lock(k, id),
                        }
                    }
                    k.mounts.set_ns(id, Some(ns));
                }
                Next::More
            }
            None => {
                k.ns.set_root(ns, Some(top));
                Next::End(Ok(Done::Namespaces(self.made.clone())))
            }
        }
    }
}

/// All mounts of a file system come to show other options.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Showing {
    fs: FsId,
    options: Arc<[u8]>,
    /// Mounts with lower keys have been passed.
    from: Key,
}

impl Showing {
    pub(crate) fn new(fs: FsId, options: Arc<[u8]>) -> Showing {
        Showing {
            fs,
            options,
            from: Key::LEAST,
        }
    }

    fn step(&mut self, k: &mut Vfs) -> Next {
        const MOST: usize = 64;
        let mounts = &mut k.mounts;
        let next = mounts.of_filesystem(self.fs, self.from, MOST);
        let all: SmallVec<[MountId; MOST]> = next.collect();
        let Some(last) = all.last() else {
            return Next::End(Ok(Done::Nothing));
        };
        self.from = last.0.next();
        for &id in &all {
            mounts.set_options(id, self.options.to_vec());
            mounts.touch(id);
        }
        k.env.steps.spend(all.len() as u64);
        Next::More
    }
}

/// A change that is under way or waits.
#[derive(Debug, Hash)]
struct Entry {
    job: Job,
    /// Who has begun it.
    by: Option<ThreadId>,
    /// Places that it holds.
    places: SmallVec<[HeldPath; 2]>,
}

/// All changes, the first of which is under way.
#[derive(Debug, Default, Hash)]
pub(crate) struct Jobs {
    queue: VecDeque<Entry>,
    /// One is being worked on at this moment.
    working: bool,
    /// Who waits, and what became of what they have waited for.
    waiting: BTreeSet<ThreadId>,
    ended: BTreeMap<ThreadId, Result<Done, Errno>>,
}

impl Jobs {
    fn is_idle(&self) -> bool {
        self.queue.is_empty() && !self.working
    }

    /// The namespaces that are being made, in which no task is yet.
    pub(crate) fn namespaces(&self) -> impl Iterator<Item = NsId> + '_ {
        let under_way = self.queue.iter().filter_map(|entry| match &entry.job {
            Job::Namespace(founding) => Some(&founding.made),
            _ => None,
        });
        let ended = self.ended.values().filter_map(|end| match end {
            Ok(Done::Namespaces(made)) => Some(made),
            _ => None,
        });
        let made = under_way.chain(ended);
        made.flat_map(|made| [made.set.mount, made.creds.user_ns])
    }

    /// The places that are held, for invariant checks.
    pub(crate) fn places(&self) -> impl Iterator<Item = PathRef> + '_ {
        self.queue
            .iter()
            .flat_map(|entry| &entry.places)
            .map(|place| **place)
    }

    /// The names that have gone and are held, for invariant checks.
    pub(crate) fn names(&self) -> impl Iterator<Item = super::DentryId> + '_ {
        self.queue.iter().filter_map(|entry| match &entry.job {
            Job::Uncover(uncovering) => Some(uncovering.dentry),
            _ => None,
        })
    }
}

/// Begins a change that nobody waits for.
pub(super) fn begin(k: &mut Vfs, p: &mut Ports<'_>, job: Job) {
    begin_at(k, p, job, SmallVec::new());
}

/// The same for one that holds places.
pub(super) fn begin_at(k: &mut Vfs, p: &mut Ports<'_>, job: Job, places: SmallVec<[HeldPath; 2]>) {
    let by = None;
    let entry = Entry { job, by, places };
    k.mounts.jobs.queue.push_back(entry);
    while k.env.steps.left() > 0 && step(k, p) {}
}

/// Whether no change is under way.
pub(super) fn is_idle(k: &Vfs) -> bool {
    k.mounts.jobs.is_idle()
}

/// Waits until no change is under way; for those who make one at once.
pub(crate) fn wait_for_others<K: ViewOps>(cx: &mut Cx<'_, '_, K>) -> Result<(), Stop> {
    match cx.k.vfs().mounts.jobs.is_idle() {
        true => Ok(()),
        false => wait(),
    }
}

fn wait<T>() -> Result<T, Stop> {
    let mut wait = Wait::on(WaitKey::Mounting).restart(Restart::Always);
    wait.killable = true;
    wait.into()
}

/// Makes a change that the caller waits for: `make` gives it, with the places that it holds. Nothing but the
/// change may follow in the call.
pub(crate) fn run<K: ViewOps>(
    cx: &mut Cx<'_, '_, K>,
    make: impl FnOnce(&mut Cx<'_, '_, K>, &mut SmallVec<[HeldPath; 2]>) -> Result<Option<Job>, Errno>,
) -> Result<(), Stop> {
    prepare(cx, make)?;
    take(cx)?;
    Ok(())
}

/// The same for a call that goes on afterwards: what became of it waits for [`take`].
pub(crate) fn prepare<K: ViewOps>(
    cx: &mut Cx<'_, '_, K>,
    make: impl FnOnce(&mut Cx<'_, '_, K>, &mut SmallVec<[HeldPath; 2]>) -> Result<Option<Job>, Errno>,
) -> Result<(), Stop> {
    let thread = cx.thread;
    if cx.k.vfs().mounts.jobs.ended.contains_key(&thread) {
        return Ok(());
    }
    wait_for_others(cx)?;
    let mut places = SmallVec::new();
    match make(cx, &mut places) {
        Ok(Some(job)) => {
            let by = Some(thread);
            let entry = Entry { job, by, places };
            cx.k.vfs_mut().mounts.jobs.queue.push_back(entry);
            cx.k.vfs_mut().mounts.jobs.waiting.insert(thread);
            while cx.k.vfs().env.steps.left() > 0 && step(cx.k.vfs_mut(), cx.p) {}
            match cx.k.vfs().mounts.jobs.ended.contains_key(&thread) {
                true => Ok(()),
                false => wait(),
            }
        }
        other => {
            for place in places {
                put_path(cx.k.vfs_mut(), cx.p, place);
            }
            other.map(|_| ()).map_err(Stop::from)
        }
    }
}

/// What became of the change that the caller has waited for.
pub(crate) fn take<K: ViewOps>(cx: &mut Cx<'_, '_, K>) -> Result<Done, Errno> {
    let ended = cx.k.vfs_mut().mounts.jobs.ended.remove(&cx.thread);
    ended.unwrap_or(Ok(Done::Nothing))
}

/// Nobody takes what a change has made.
fn discard(k: &mut Vfs, p: &mut Ports<'_>, end: Result<Done, Errno>) {
    match end {
        Ok(Done::Namespaces(_)) => k.ns.let_go_idle(),
        Ok(Done::Tree(top)) => detached::abandon(k, p, top),
        Ok(Done::Nothing) | Err(_) => {}
    }
}

/// A thread does not wait any more for what it has begun, which goes on.
pub(crate) fn abandon(k: &mut Vfs, p: &mut Ports<'_>, thread: ThreadId) {
    let jobs = &mut k.mounts.jobs;
    jobs.waiting.remove(&thread);
    if let Some(end) = jobs.ended.remove(&thread) {
        discard(k, p, end);
    }
}

/// Whether [`step`] and [`clear`](super::clear) have nothing to do.
pub(crate) fn is_done(k: &Vfs) -> bool {
    k.mounts.jobs.queue.is_empty() && is_clear(k)
}

/// A part of the first change; `false` if there is none.
pub(crate) fn step(k: &mut Vfs, p: &mut Ports<'_>) -> bool {
    const AT_ONCE: usize = 16;
    let jobs = &mut k.mounts.jobs;
    if jobs.working {
        return false;
    }
    let Some(mut entry) = jobs.queue.pop_front() else {
        return false;
    };
    jobs.working = true;
    let mut end = None;
    for _ in 0..AT_ONCE {
        match advance(k, p, &mut entry.job) {
            Next::More => {}
            Next::Then(job) => entry.job = job,
            Next::End(result) => {
                end = Some(result);
                break;
            }
        }
    }
    k.mounts.jobs.working = false;
    let Some(end) = end else {
        k.mounts.jobs.queue.push_front(entry);
        return true;
    };
    for place in entry.places {
        put_path(k, p, place);
    }
    let jobs = &mut k.mounts.jobs;
    let waiting = entry.by.filter(|by| jobs.waiting.remove(by));
    match waiting {
        Some(by) => {
            jobs.ended.insert(by, end);
        }
        None => discard(k, p, end),
    }
    k.env.wake(WaitKey::Mounting);
    true
}

fn advance(k: &mut Vfs, p: &mut Ports<'_>, job: &mut Job) -> Next {
    k.env.steps.spend(1);
    let goes_on = |more: bool| match more {
        true => Next::More,
        false => Next::End(Ok(Done::Nothing)),
    };
    match job {
        Job::Bind(binding) => binding.step(k),
        Job::Place(placing) => match placing.step(k, p) {
            None => Next::More,
            Some(end) => Next::End(end.map(|()| Done::Nothing)),
        },
        Job::Unmount(unmounting) => match unmounting.step(k) {
            Ok(None) => Next::More,
            Ok(Some(goes)) => Next::Then(Job::TakeOff(goes.into())),
            Err(errno) => Next::End(Err(errno)),
        },
        Job::TakeOff(taking) => goes_on(taking.step(k, p)),
        Job::Uncover(uncovering) => goes_on(uncovering.step(k, p)),
        Job::SetType(typing) => typing.step(k),
        Job::Namespace(founding) => founding.step(k),
        Job::Drop(dropping, errno) => match dropping.step(k, p) {
            true => Next::More,
            false => Next::End(Err(*errno)),
        },
        Job::Show(showing) => showing.step(k),
        Job::Reveal(revealing, detaching) => match revealing.step(k, detaching.top()) {
            Ok(false) => Next::More,
            Ok(true) => Next::Then(Job::Detach(detaching.clone())),
            Err(errno) => Next::Then(Job::Drop(Dropping::new(detaching.top()), errno)),
        },
        Job::Detach(detaching) => match detaching.step(k) {
            None => Next::More,
            Some(top) => match detaching.setting() {
                Some(setting) => Next::Then(Job::SetDetached(setting.into(), top)),
                None => Next::End(Ok(Done::Tree(top))),
            },
        },
        Job::Dissolve(id) => match detached::taking_off(k, *id) {
            Some(taking) => Next::Then(Job::TakeOff(taking.into())),
            None => Next::End(Ok(Done::Nothing)),
        },
        Job::SetFlags(setting) => match setting.step(k) {
            None => Next::More,
            Some(end) => Next::End(end.map(|()| Done::Nothing)),
        },
        Job::SetDetached(setting, top) => match setting.step(k) {
            None => Next::More,
            Some(Ok(())) => Next::End(Ok(Done::Tree(*top))),
            Some(Err(errno)) => Next::Then(Job::Drop(Dropping::new(*top), errno)),
        },
        Job::Group(grouping) => grouping.step(k),
    }
}
