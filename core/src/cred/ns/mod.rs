//! The namespaces that there are (namespaces(7)): numbers, owners, what each holds, who is counted in it.
//!
//! A namespace is named by the number that its link in `/proc/PID/ns` shows. It lives while a task is in it,
//! somebody holds its file, or a living namespace hangs on it: its user namespace, its parent. Tasks are
//! counted; the rest is found out by [`sweep`](crate::ns::sweep) when the last task of one has gone, so
//! nothing needs references of its own.

pub(crate) mod count;
pub(crate) mod map;
pub(crate) mod pid;
pub(crate) mod user;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use count::{Account, Counted};
use pid::PidNs;
pub(crate) use user::UserNs;

use crate::abi::Errno;
use crate::args::CloneFlags;
pub(crate) use crate::env::ids::NsId;
use crate::env::ids::{DentryId, MountId};

/// The first namespaces, with the numbers that Linux gives them (`linux/proc_ns.h`).
pub(crate) const MOUNT: NsId = NsId(0xefff_fff8);

pub(crate) const NET: NsId = NsId(0xefff_fff9);

pub(crate) const CGROUP: NsId = NsId(0xefff_fffb);

pub(crate) const PID: NsId = NsId(0xefff_fffc);

pub(crate) const USER: NsId = NsId(0xefff_fffd);

pub(crate) const UTS: NsId = NsId(0xefff_fffe);

pub(crate) const IPC: NsId = NsId(0xefff_ffff);

/// Number of the next one, and the lowest number of all.
pub(crate) const DYNAMIC_FIRST: u32 = 0xf000_0000;

pub(crate) const LOWEST: u32 = MOUNT.0;

/// Most namespaces of one kind, the first one among them.
pub(crate) const MAX_OF_KIND: usize = 4096;

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
    pub(crate) fn flag(self) -> CloneFlags {
        match self {
            Kind::Cgroup => CloneFlags::NEWCGROUP,
            Kind::Ipc => CloneFlags::NEWIPC,
            Kind::Mount => CloneFlags::NEWNS,
            Kind::Net => CloneFlags::NEWNET,
            Kind::Pid => CloneFlags::NEWPID,
            Kind::User => CloneFlags::NEWUSER,
            Kind::Uts => CloneFlags::NEWUTS,
        }
    }
}

/// What a namespace holds.
#[derive(Clone, Debug, Hash)]
pub(crate) enum Body {
    Cgroup,
    Ipc,
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
pub(crate) struct Namespace {
    /// Tasks in it.
    pub tasks: u32,
    /// Namespaces that belong to it or lie below it, and tasks in it that have ended and are not reaped.
    pub pins: u32,
    /// The user namespace it belongs to; of a user namespace, its parent (the first one is its own).
    pub owner: NsId,
    /// Who made it, for whom it counts.
    pub maker: u32,
    pub body: Body,
    /// The file in `/proc/PID/ns`, once somebody looked: held here.
    pub dentry: Option<DentryId>,
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

    pub(crate) fn all(&self) -> [NsId; 7] {
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
    pub all: BTreeMap<NsId, Namespace>,
    pub next: u32,
    /// Lines of the maps of user namespaces, and numbers of tasks in PID namespaces.
    pub extents: u64,
    pub numbers: u64,
    /// The PID namespaces, below the first one, in which a number of the first has another one.
    pub nested: BTreeMap<u32, Vec<NsId>>,
    pub counts: BTreeMap<Kind, usize>,
    /// What each user has.
    pub users: count::Counts,
    /// Those that somebody has let go of, or that nobody has taken yet: nothing may need them.
    pub let_go: BTreeSet<NsId>,
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
            (IPC, Body::Ipc),
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

    /// Somebody does not need a namespace any longer: `sweep` looks whether anybody does.
    pub(crate) fn let_go(&mut self, id: NsId) {
        self.let_go.insert(id);
    }

    /// Namespaces were made that nobody has come to be in.
    pub(crate) fn let_go_idle(&mut self) {
        let idle = self.all.iter().filter(|(_, ns)| ns.tasks == 0);
        self.let_go.extend(idle.map(|(&id, _)| id));
    }

    pub(crate) fn pin(&mut self, id: NsId) {
        self.at_mut(id).pins += 1;
    }

    pub(crate) fn unpin(&mut self, id: NsId) {
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

    pub(crate) fn at(&self, id: NsId) -> &Namespace {
        self.all.get(&id).expect("namespace is in use") // INVARIANT: sweep() keeps what is named
    }

    pub(crate) fn at_mut(&mut self, id: NsId) -> &mut Namespace {
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

    pub(crate) fn user_mut(&mut self, id: NsId) -> &mut UserNs {
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
    pub(crate) fn add(&mut self, owner: NsId, maker: u32, body: Body) -> Result<NsId, Errno> {
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
    pub(crate) fn remove(&mut self, id: NsId) -> Option<Namespace> {
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
}

/// The namespaces that one with this owner keeps.
pub(crate) fn pinned_by(owner: NsId, body: &Body) -> impl Iterator<Item = NsId> + use<> {
    let parent = match body {
        Body::Pid(pid) => pid.parent,
        _ => None,
    };
    [owner].into_iter().chain(parent)
}

impl Body {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Body::Cgroup => Kind::Cgroup,
            Body::Ipc => Kind::Ipc,
            Body::Mount(_) => Kind::Mount,
            Body::Net(_) => Kind::Net,
            Body::Pid(_) => Kind::Pid,
            Body::User(_) => Kind::User,
            Body::Uts(_) => Kind::Uts,
        }
    }

    /// Lines of maps beyond those that the first namespaces have.
    pub(crate) fn extents(&self) -> u64 {
        match self {
            Body::User(user) => user.extents(),
            _ => 0,
        }
    }

    /// Numbers of tasks, groups and sessions.
    pub(crate) fn numbers(&self) -> u64 {
        match self {
            Body::Pid(pid) => pid.len(),
            _ => 0,
        }
    }
}

impl Namespace {
    pub(crate) fn new(owner: NsId, maker: u32, body: Body) -> Namespace {
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
    pub(crate) fn account(&self) -> Account {
        Account {
            ns: self.owner,
            uid: self.maker,
        }
    }
}
