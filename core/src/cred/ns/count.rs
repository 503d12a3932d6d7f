//! How many namespaces, inotify instances and watches each user has in each user namespace, and may have
//! there (`/proc/sys/user/max_*`, `struct ucounts` of Linux). What a user has in a namespace counts for the
//! one who made that in the namespace above, too, and so on up to the first.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::cred::ns::{DYNAMIC_FIRST, Kind, MAX_OF_KIND, Namespaces, NsId, USER, UserNs};
use crate::env::bounds::{INOTIFY_INSTANCES_MAX, INOTIFY_WATCHES_MAX};

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Counted {
    Namespaces(Kind),
    InotifyInstances,
    InotifyWatches,
}

const COUNTED: usize = 9;

impl Counted {
    fn place(self) -> usize {
        match self {
            Counted::Namespaces(Kind::Cgroup) => 0,
            Counted::Namespaces(Kind::Ipc) => 1,
            Counted::Namespaces(Kind::Mount) => 2,
            Counted::Namespaces(Kind::Net) => 3,
            Counted::Namespaces(Kind::Pid) => 4,
            Counted::Namespaces(Kind::User) => 5,
            Counted::Namespaces(Kind::Uts) => 6,
            Counted::InotifyInstances => 7,
            Counted::InotifyWatches => 8,
        }
    }
}

/// How much each user of a user namespace may have.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Limits([u32; COUNTED]);

impl Limits {
    /// Those of the first namespace.
    pub(crate) fn first() -> Limits {
        let mut limits = Limits([MAX_OF_KIND as u32; COUNTED]);
        limits.0[Counted::InotifyInstances.place()] = INOTIFY_INSTANCES_MAX;
        limits.0[Counted::InotifyWatches.place()] = INOTIFY_WATCHES_MAX as u32;
        limits
    }
}

impl Default for Limits {
    /// Those of others: what the namespaces above allow.
    fn default() -> Limits {
        Limits([i32::MAX as u32; COUNTED])
    }
}

/// A user in a user namespace.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Account {
    pub ns: NsId,
    pub uid: u32,
}

/// What one has. It stays as long as there is something, so it knows itself for whom it counts, too.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Entry {
    of: [u32; COUNTED],
    above: Option<Account>,
}

/// What everybody has.
#[derive(Clone, PartialEq, Eq, Default, Debug, Hash)]
pub(crate) struct Counts(BTreeMap<Account, Entry>);

impl Namespaces {
    /// How much each user of a user namespace may have.
    pub(crate) fn limit(&self, ns: NsId, what: Counted) -> u32 {
        self.user(ns).limits.0[what.place()]
    }

    /// Sets [`Self::limit`]. What is there stays.
    pub(crate) fn set_limit(&mut self, ns: NsId, what: Counted, most: u32) {
        self.user_mut(ns).limits.0[what.place()] = most;
    }

    fn user_of(&self, ns: NsId) -> Option<&UserNs> {
        match &self.all.get(&ns)?.body {
            crate::cred::ns::Body::User(user) => Some(user),
            _ => None,
        }
    }

    /// For whom counts, too, what somebody has.
    fn above(&self, who: Account) -> Option<Account> {
        if let Some(entry) = self.users.0.get(&who) {
            return entry.above;
        }
        let user = self.user_of(who.ns).filter(|_| who.ns != USER)?;
        let ns = self.owner(who.ns);
        Some(Account {
            ns,
            uid: user.owner,
        })
    }

    /// Somebody, and for whom else counts what they have.
    fn chain(&self, who: Account) -> impl Iterator<Item = Account> + '_ {
        core::iter::successors(Some(who), |&who| self.above(who))
    }

    /// Whether somebody, and for whom else it counts, may have one thing more.
    pub(crate) fn has_room(&self, who: Account, what: Counted) -> bool {
        let place = what.place();
        self.chain(who).all(|who| {
            let has = self.users.0.get(&who).map_or(0, |entry| entry.of[place]);
            // In what has gone nothing can be set any more.
            let most = self.user_of(who.ns).map(|user| user.limits.0[place]);
            has < most.unwrap_or(i32::MAX as u32)
        })
    }

    /// Counts one thing more; `false`, and nothing is counted, if somebody has too much then.
    pub(crate) fn count(&mut self, who: Account, what: Counted) -> bool {
        if !self.has_room(who, what) {
            return false;
        }
        let chain: Vec<Account> = self.chain(who).collect();
        self.users.add(&chain, what);
        true
    }

    /// Counts one thing less.
    pub(crate) fn uncount(&mut self, who: Account, what: Counted) {
        let mut next = Some(who);
        while let Some(who) = next {
            let Some(entry) = self.users.0.get_mut(&who) else {
                return;
            };
            next = entry.above;
            entry.of[what.place()] -= 1;
            if entry.of == [0; COUNTED] {
                self.users.0.remove(&who);
            }
        }
    }

    /// Whether namespaces and these others are all that is counted; for invariant checks.
    pub(crate) fn is_counted(&self, others: impl Iterator<Item = (Account, Counted)>) -> bool {
        let made = self.all.iter().filter(|(id, _)| id.0 >= DYNAMIC_FIRST);
        let made = made.map(|(_, ns)| (ns.account(), Counted::Namespaces(ns.body.kind())));
        let mut counted = Counts::default();
        for (who, what) in made.chain(others) {
            let chain: Vec<Account> = self.chain(who).collect();
            counted.add(&chain, what);
        }
        counted == self.users
    }
}

impl Counts {
    /// Counts one thing more for each of a chain.
    fn add(&mut self, chain: &[Account], what: Counted) {
        for (at, &who) in chain.iter().enumerate() {
            let entry = self.0.entry(who).or_insert(Entry {
                of: [0; COUNTED],
                above: chain.get(at + 1).copied(),
            });
            entry.of[what.place()] += 1;
        }
    }
}
