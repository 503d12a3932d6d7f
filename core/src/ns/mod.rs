//! Namespaces (namespaces(7)): what a task sees of users, mounts, names and the like.
//!
//! A namespace is named by the number that its link in `/proc/PID/ns` shows. It lives while a task is in it,
//! somebody holds its file, or a living namespace hangs on it: its user namespace, its parent. Tasks are
//! counted; the rest is found out by [`sweep`] when the last task of one has gone, so nothing needs
//! references of its own.

pub(crate) mod count;
pub(crate) mod enter;
pub(crate) mod map;
pub(crate) mod pid;
pub(crate) mod user;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use count::{Account, Counted};
use pid::PidNs;
pub(crate) use user::UserNs;

use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::machine::ThreadId;
use crate::port::Ports;
use crate::task::Task;
use crate::vfs::{DentryId, MountId, dentry};
use crate::{Kernel, ipc};

/// A namespace.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct NsId(pub u32);

/// The first namespaces, with the numbers that Linux gives them (`linux/proc_ns.h`).
const MOUNT: NsId = NsId(0xefff_fff8);
const NET: NsId = NsId(0xefff_fff9);
const CGROUP: NsId = NsId(0xefff_fffb);
pub(crate) const PID: NsId = NsId(0xefff_fffc);
pub(crate) const USER: NsId = NsId(0xefff_fffd);
const UTS: NsId = NsId(0xefff_fffe);
const IPC: NsId = NsId(0xefff_ffff);
/// Number of the next one, and the lowest number of all.
const DYNAMIC_FIRST: u32 = 0xf000_0000;
pub(crate) const LOWEST: u32 = MOUNT.0;

/// Most namespaces of one kind, the first one among them.
const MAX_OF_KIND: usize = 4096;

/// What a namespace is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Kind {
    Cgroup,
    Ipc,
    Mount,
    Net,
    Pid,
    User,
    Uts,
}

impl Kind {
    /// Its name in `/proc/PID/ns`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Cgroup => "cgroup",
            Kind::Ipc => "ipc",
            Kind::Mount => "mnt",
            Kind::Net => "net",
            Kind::Pid => "pid",
            Kind::User => "user",
            Kind::Uts => "uts",
        }
    }

    /// Its `CLONE_NEW` flag.
    pub(crate) fn flag(self) -> u32 {
        match self {
            Kind::Cgroup => g::CLONE_NEWCGROUP,
            Kind::Ipc => g::CLONE_NEWIPC,
            Kind::Mount => g::CLONE_NEWNS,
            Kind::Net => g::CLONE_NEWNET,
            Kind::Pid => g::CLONE_NEWPID,
            Kind::User => g::CLONE_NEWUSER,
            Kind::Uts => g::CLONE_NEWUTS,
        }
    }
}

/// What a namespace holds.
#[derive(Clone, Debug, Hash)]
pub(crate) enum Body {
    Cgroup,
    Ipc(Box<ipc::Objects>),
    /// Its root mount; `None` before there is one.
    Mount(Option<MountId>),
    Net(Net),
    Pid(PidNs),
    User(UserNs),
    Uts(Uts),
}

/// What `/proc/sys/net` says of a network namespace: it holds nothing else.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct Net {
    /// Messages that a datagram socket takes from senders it is not connected to, less one
    /// (`max_dgram_qlen`); a negative number is a large one.
    pub datagrams: i32,
    /// Longest queue of connections to be accepted (`somaxconn`).
    pub backlog: i32,
}

impl Default for Net {
    fn default() -> Net {
        Net {
            datagrams: 10,
            backlog: 4096,
        }
    }
}

/// `nodename` and `domainname` of uname(2).
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Uts {
    pub hostname: Vec<u8>,
    pub domainname: Vec<u8>,
    /// How often each was set.
    pub host_changes: u64,
    pub domain_changes: u64,
}

#[derive(Clone, Debug, Hash)]
struct Namespace {
    /// Tasks in it.
    tasks: u32,
    /// Namespaces that belong to it or lie below it, and tasks in it that have ended and are not reaped.
    pins: u32,
    /// The user namespace it belongs to; of a user namespace, its parent (the first one is its own).
    owner: NsId,
    /// Who made it, for whom it counts.
    maker: u32,
    body: Body,
    /// The file in `/proc/PID/ns`, once somebody looked: held here.
    dentry: Option<DentryId>,
}

/// The namespaces of a task but its user namespace, which belongs to its credentials.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(crate) struct Set {
    pub cgroup: NsId,
    pub ipc: NsId,
    pub mount: NsId,
    pub net: NsId,
    pub pid: NsId,
    /// Where its children are made.
    pub pid_for_children: NsId,
    pub uts: NsId,
}

impl Set {
    /// The first namespaces.
    pub(crate) const FIRST: Set = Set {
        cgroup: CGROUP,
        ipc: IPC,
        mount: MOUNT,
        net: NET,
        pid: PID,
        pid_for_children: PID,
        uts: UTS,
    };

    fn all(&self) -> [NsId; 7] {
        [
            self.cgroup,
            self.ipc,
            self.mount,
            self.net,
            self.pid,
            self.pid_for_children,
            self.uts,
        ]
    }
}

/// All namespaces.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Namespaces {
    all: BTreeMap<NsId, Namespace>,
    next: u32,
    /// Lines of the maps of user namespaces, and numbers of tasks in PID namespaces.
    extents: u64,
    numbers: u64,
    /// The PID namespaces, below the first one, in which a number of the first has another one.
    nested: BTreeMap<u32, Vec<NsId>>,
    counts: BTreeMap<Kind, usize>,
    /// What each user has.
    users: count::Counts,
    /// Those that somebody has let go of, or that nobody has taken yet: nothing may need them.
    let_go: BTreeSet<NsId>,
}

impl Namespaces {
    /// The first ones.
    pub(crate) fn new(hostname: Vec<u8>) -> Namespaces {
        let uts = Uts {
            hostname,
            domainname: b"(none)".to_vec(),
            ..Uts::default()
        };
        let bodies = [
            (MOUNT, Body::Mount(None)),
            (NET, Body::Net(Net::default())),
            (CGROUP, Body::Cgroup),
            (PID, Body::Pid(PidNs::default())),
            (USER, Body::User(UserNs::first())),
            (UTS, Body::Uts(uts)),
            (IPC, Body::Ipc(Box::default())),
        ];
        let extents = bodies.iter().map(|(_, body)| body.extents()).sum();
        let all = bodies.map(|(id, body)| (id, Namespace::new(USER, 0, body)));
        Namespaces {
            all: all.into_iter().collect(),
            next: DYNAMIC_FIRST,
            extents,
            numbers: 0,
            nested: BTreeMap::new(),
            counts: BTreeMap::new(),
            users: count::Counts::default(),
            let_go: BTreeSet::new(),
        }
    }

    /// Somebody does not need a namespace any longer: [`sweep`] looks whether anybody does.
    pub(crate) fn let_go(&mut self, id: NsId) {
        self.let_go.insert(id);
    }

    fn pin(&mut self, id: NsId) {
        self.at_mut(id).pins += 1;
    }

    fn unpin(&mut self, id: NsId) {
        self.at_mut(id).pins -= 1;
        self.let_go(id);
    }

    /// Bytes that all namespaces take.
    pub(crate) fn held(&self) -> u64 {
        const COST: u64 = 1024;
        const EXTENT_COST: u64 = 16;
        const NUMBER_COST: u64 = 32;
        let lists = self.extents * EXTENT_COST + self.numbers * NUMBER_COST;
        self.all.len() as u64 * COST + lists
    }

    fn at(&self, id: NsId) -> &Namespace {
        self.all.get(&id).expect("namespace is in use") // INVARIANT: sweep() keeps what is named
    }

    fn at_mut(&mut self, id: NsId) -> &mut Namespace {
        self.all.get_mut(&id).expect("namespace is in use") // INVARIANT: sweep() keeps what is named
    }

    /// Whether there is such a namespace.
    pub(crate) fn exists(&self, id: NsId) -> bool {
        self.all.contains_key(&id)
    }

    /// Whether tasks are in it.
    pub(crate) fn has_tasks(&self, id: NsId) -> bool {
        self.all.get(&id).is_some_and(|ns| ns.tasks > 0)
    }

    /// What it is about.
    pub(crate) fn kind(&self, id: NsId) -> Kind {
        self.at(id).body.kind()
    }

    /// The user namespace that it belongs to; of a user namespace, its parent.
    pub(crate) fn owner(&self, id: NsId) -> NsId {
        self.at(id).owner
    }

    /// Whether a user namespace is another one or lies below it.
    pub(crate) fn is_within(&self, ns: NsId, above: NsId) -> bool {
        let mut at = ns;
        while at != above {
            if at == USER {
                return false;
            }
            at = self.owner(at);
        }
        true
    }

    /// The names that uname(2) gives.
    pub(crate) fn uts(&self, id: NsId) -> &Uts {
        match &self.at(id).body {
            Body::Uts(uts) => uts,
            _ => unreachable!("not a UTS namespace"), // INVARIANT: `Set::uts` names one
        }
    }

    pub(crate) fn uts_mut(&mut self, id: NsId) -> &mut Uts {
        match &mut self.at_mut(id).body {
            Body::Uts(uts) => uts,
            _ => unreachable!("not a UTS namespace"), // INVARIANT: `Set::uts` names one
        }
    }

    /// The System V objects of an IPC namespace.
    pub(crate) fn ipc(&self, id: NsId) -> &ipc::Objects {
        match &self.at(id).body {
            Body::Ipc(objects) => objects,
            _ => unreachable!("not an IPC namespace"), // INVARIANT: `Set::ipc` and `ObjectId::ns` name one
        }
    }

    pub(crate) fn ipc_mut(&mut self, id: NsId) -> &mut ipc::Objects {
        match &mut self.at_mut(id).body {
            Body::Ipc(objects) => objects,
            _ => unreachable!("not an IPC namespace"), // INVARIANT: `Set::ipc` and `ObjectId::ns` name one
        }
    }

    /// The IPC namespaces and what is in them.
    pub(crate) fn ipc_namespaces(&self) -> impl Iterator<Item = (NsId, &ipc::Objects)> {
        self.all.iter().filter_map(|(&id, ns)| match &ns.body {
            Body::Ipc(objects) => Some((id, &**objects)),
            _ => None,
        })
    }

    /// The root mount of a mount namespace.
    pub(crate) fn root(&self, id: NsId) -> Option<MountId> {
        match self.at(id).body {
            Body::Mount(root) => root,
            _ => None,
        }
    }

    pub(crate) fn set_root(&mut self, id: NsId, root: Option<MountId>) {
        if let Body::Mount(at) = &mut self.at_mut(id).body {
            *at = root;
        }
    }

    pub(crate) fn user(&self, id: NsId) -> &UserNs {
        match &self.at(id).body {
            Body::User(user) => user,
            _ => unreachable!("not a user namespace"), // INVARIANT: `Creds::user_ns` and owners name one
        }
    }

    fn user_mut(&mut self, id: NsId) -> &mut UserNs {
        match &mut self.at_mut(id).body {
            Body::User(user) => user,
            _ => unreachable!("not a user namespace"), // INVARIANT: `Creds::user_ns` and owners name one
        }
    }

    /// Settings of a network namespace. Of one that has gone, whose sockets are still open, the first ones.
    pub(crate) fn net(&self, id: NsId) -> Net {
        match self.all.get(&id).map(|ns| &ns.body) {
            Some(Body::Net(net)) => *net,
            _ => Net::default(),
        }
    }

    pub(crate) fn net_mut(&mut self, id: NsId) -> &mut Net {
        match &mut self.at_mut(id).body {
            Body::Net(net) => net,
            _ => unreachable!("not a network namespace"), // INVARIANT: `Set::net` names one
        }
    }

    /// Makes a namespace, in which no task is yet, for a user. `ENOSPC` if there are too many, or that one
    /// has too many.
    fn add(&mut self, owner: NsId, maker: u32, body: Body) -> Result<NsId, Errno> {
        let id = NsId(self.next);
        let kind = body.kind();
        // Numbers are not used again: u32::MAX - DYNAMIC_FIRST of them are enough for a run, or else there is
        // no room.
        let count = self.counts.get(&kind).copied().unwrap_or(0);
        if count >= MAX_OF_KIND - 1 || self.next == u32::MAX {
            return Err(Errno::ENOSPC);
        }
        let ns = Namespace::new(owner, maker, body);
        if !self.count(ns.account(), Counted::Namespaces(kind)) {
            return Err(Errno::ENOSPC);
        }
        *self.counts.entry(kind).or_default() += 1;
        self.next += 1;
        for above in pinned_by(owner, &ns.body) {
            self.pin(above);
        }
        self.all.insert(id, ns);
        self.let_go(id);
        Ok(id)
    }

    /// Takes a namespace away that nothing needs.
    fn remove(&mut self, id: NsId) -> Option<Namespace> {
        let ns = self.all.remove(&id)?;
        if let Some(count) = self.counts.get_mut(&ns.body.kind()) {
            *count -= 1;
        }
        self.uncount(ns.account(), Counted::Namespaces(ns.body.kind()));
        self.extents -= ns.body.extents();
        self.numbers -= ns.body.numbers();
        for above in pinned_by(ns.owner, &ns.body) {
            self.unpin(above);
        }
        Some(ns)
    }

    /// The files of namespaces that are held here, for invariant checks.
    pub(crate) fn dentries(&self) -> impl Iterator<Item = DentryId> + '_ {
        self.all.values().filter_map(|ns| ns.dentry)
    }

    /// Whether the tasks in each are counted right; the text says which are not.
    pub(crate) fn check<'k>(&self, tasks: impl Iterator<Item = &'k Task>) -> Result<(), String> {
        let mut counts: BTreeMap<NsId, u32> = BTreeMap::new();
        for task in tasks {
            if let Some(id) = kept_by(task).iter().find(|id| !self.exists(**id)) {
                return Err(alloc::format!(
                    "{id:?} is gone, but task {} names it",
                    task.tid
                ));
            }
            if task.exited {
                continue;
            }
            for id in members(task) {
                *counts.entry(id).or_default() += 1;
            }
        }
        let sum = |of: fn(&Body) -> u64| self.all.values().map(|ns| of(&ns.body)).sum::<u64>();
        if (self.extents, self.numbers) != (sum(Body::extents), sum(Body::numbers)) {
            return Err(alloc::format!(
                "{} extents and {} numbers are counted wrong",
                self.extents,
                self.numbers
            ));
        }
        for (id, ns) in &self.all {
            let expected = counts.remove(id).unwrap_or(0);
            if ns.tasks != expected {
                return Err(alloc::format!(
                    "{id:?} counts {} tasks, but there are {expected}",
                    ns.tasks
                ));
            }
        }
        match counts.keys().next() {
            Some(id) => Err(alloc::format!("{id:?} is gone, but tasks are in it")),
            None => Ok(()),
        }
    }
}

/// The namespaces that one with this owner keeps.
fn pinned_by(owner: NsId, body: &Body) -> impl Iterator<Item = NsId> + use<> {
    let parent = match body {
        Body::Pid(pid) => pid.parent,
        _ => None,
    };
    [owner].into_iter().chain(parent)
}

impl Body {
    fn kind(&self) -> Kind {
        match self {
            Body::Cgroup => Kind::Cgroup,
            Body::Ipc(_) => Kind::Ipc,
            Body::Mount(_) => Kind::Mount,
            Body::Net(_) => Kind::Net,
            Body::Pid(_) => Kind::Pid,
            Body::User(_) => Kind::User,
            Body::Uts(_) => Kind::Uts,
        }
    }

    /// Lines of maps beyond those that the first namespaces have.
    fn extents(&self) -> u64 {
        match self {
            Body::User(user) => user.extents(),
            _ => 0,
        }
    }

    /// Numbers of tasks, groups and sessions.
    fn numbers(&self) -> u64 {
        match self {
            Body::Pid(pid) => pid.len(),
            _ => 0,
        }
    }
}

impl Namespace {
    fn new(owner: NsId, maker: u32, body: Body) -> Namespace {
        Namespace {
            tasks: 0,
            pins: 0,
            owner,
            maker,
            body,
            dentry: None,
        }
    }

    /// For whom it counts.
    fn account(&self) -> Account {
        Account {
            ns: self.owner,
            uid: self.maker,
        }
    }
}

fn members(task: &Task) -> impl Iterator<Item = NsId> {
    task.ns.all().into_iter().chain([task.creds.user_ns])
}

/// A task has come to be in these namespaces.
pub(crate) fn joined(k: &mut Kernel, set: &Set, user: NsId) {
    for id in set.all().into_iter().chain([user]) {
        k.ns.at_mut(id).tasks += 1;
    }
}

/// A task that was in these namespaces has left them.
pub(crate) fn left(k: &mut Kernel, p: &mut Ports<'_>, set: &Set, user: NsId) {
    for id in set.all().into_iter().chain([user]) {
        let ns = k.ns.at_mut(id);
        ns.tasks -= 1;
        if ns.tasks == 0 {
            k.ns.let_go(id);
        }
    }
    sweep(k, p);
}

/// A task ends that stays until it is reaped.
pub(crate) fn pin_ended(k: &mut Kernel, thread: ThreadId) {
    for id in k.tasks.get(thread).map(kept_by).into_iter().flatten() {
        k.ns.pin(id);
    }
}

/// A task that has ended is about to be reaped.
pub(crate) fn unpin_ended(k: &mut Kernel, thread: ThreadId) {
    let task = k.tasks.get(thread).filter(|task| task.exited);
    for id in task.map(kept_by).into_iter().flatten() {
        k.ns.unpin(id);
    }
}

/// Changes a task's namespaces and user namespace. What its process has to undo in an IPC namespace that it
/// leaves is undone by whoever calls this.
pub(crate) fn change(k: &mut Kernel, p: &mut Ports<'_>, task: ThreadId, set: Set, user: NsId) {
    let Some(task) = k.tasks.get_mut(task) else {
        return;
    };
    let old = core::mem::replace(&mut task.ns, set);
    let old_user = core::mem::replace(&mut task.creds.user_ns, user);
    joined(k, &set, user);
    left(k, p, &old, old_user);
}

/// The file of a namespace; held by the namespace.
pub(crate) fn dentry_of(k: &mut Kernel, id: NsId) -> Option<DentryId> {
    let ns = k.ns.all.get(&id)?;
    if let Some(dentry) = ns.dentry {
        return Some(dentry);
    }
    let path = crate::fs::anon::path(k, crate::fs::anon::namespace_ino(id));
    k.ns.at_mut(id).dentry = Some(path.dentry);
    Some(path.dentry)
}

/// Takes away the namespaces that nothing needs any more; with a mount namespace its mounts, with an IPC
/// namespace its objects.
pub(crate) fn sweep(k: &mut Kernel, p: &mut Ports<'_>) {
    while let Some(id) = k.ns.let_go.pop_last() {
        if is_needed(k, id) {
            continue;
        }
        let Some(ns) = k.ns.remove(id) else {
            continue;
        };
        if let Some(id) = ns.dentry {
            dentry::put(k, p, id);
        }
        match ns.body {
            Body::Mount(Some(root)) => crate::vfs::mount::drop_namespace(k, p, id, root),
            Body::Ipc(objects) => ipc::end_namespace(k, p, id, *objects),
            _ => {}
        }
    }
}

/// The same where namespaces were made that nobody has come to be in.
pub(crate) fn sweep_all(k: &mut Kernel, p: &mut Ports<'_>) {
    let idle = k.ns.all.iter().filter(|(_, ns)| ns.tasks == 0);
    let idle: Vec<NsId> = idle.map(|(&id, _)| id).collect();
    k.ns.let_go.extend(idle);
    sweep(k, p);
}

/// Whether somebody needs a namespace: a task, another namespace, who holds its file, a file system, an
/// attached segment.
fn is_needed(k: &Kernel, id: NsId) -> bool {
    let Some(ns) = k.ns.all.get(&id) else {
        return true;
    };
    let held = |dentry| k.vfs.dentries.refs(dentry) > 1;
    id.0 < DYNAMIC_FIRST
        || ns.tasks > 0
        || ns.pins > 0
        || ns.dentry.is_some_and(held)
        || k.vfs.owns_filesystem(id)
        || k.vfs.mounts.owns_anonymous(id)
        || k.vfs.configs.keep(id)
        || k.vfs.mounts.jobs.namespaces().any(|made| made == id)
        || matches!(&ns.body, Body::Ipc(objects) if ipc::shm::is_attached(k, objects))
}

/// The namespaces that a task keeps beyond its end, until it is reaped: its number and its credentials are
/// still asked for.
fn kept_by(task: &Task) -> [NsId; 2] {
    [task.ns.pid, task.creds.user_ns]
}

/// Whether everything that is there is needed, and what namespaces keep is counted rightly; for invariant
/// checks.
pub(crate) fn check_needed(k: &Kernel) -> Result<(), String> {
    let ended = k.tasks.iter().filter(|task| task.exited);
    let ended: Vec<NsId> = ended.flat_map(kept_by).collect();
    let mut pins: BTreeMap<NsId, u32> = BTreeMap::new();
    for (id, ns) in &k.ns.all {
        let above = pinned_by(ns.owner, &ns.body).filter(|_| id.0 >= DYNAMIC_FIRST);
        above.for_each(|above| *pins.entry(above).or_default() += 1);
    }
    ended
        .iter()
        .for_each(|&id| *pins.entry(id).or_default() += 1);
    for (&id, ns) in &k.ns.all {
        let expected = pins.get(&id).copied().unwrap_or(0);
        if ns.pins != expected {
            return Err(alloc::format!(
                "{id:?} has {} pins, not {expected}",
                ns.pins
            ));
        }
        if !is_needed(k, id) && !k.ns.let_go.contains(&id) {
            return Err(alloc::format!("nobody needs {id:?}"));
        }
    }
    if !k.ns.is_counted(crate::file::inotify::counted(k)) {
        return Err("namespaces and instances of users are counted wrong".into());
    }
    let mut nested = 0;
    for (number, all) in &k.ns.nested {
        for &id in all {
            nested += u64::from(k.ns.exists(id));
            if k.ns.exists(id) && pid::show(k, id, *number) == 0 {
                return Err(alloc::format!("{number} has no number in {id:?}"));
            }
        }
    }
    match nested == k.ns.numbers {
        true => Ok(()),
        false => Err(alloc::format!(
            "{nested} numbers in PID namespaces are known"
        )),
    }
}
