//! Record locks of one file, and who waits for them.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::ops::Bound::{Excluded, Unbounded};

use super::{Owner, Place};
use crate::machine::ThreadId;
use crate::ranges::{Key, Ranges};
use crate::vfs::fdtable::FdTableId;

/// A record lock.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Record {
    pub owner: Owner,
    /// First and last byte; `u64::MAX >> 1` is the end of all files.
    pub first: u64,
    pub last: u64,
    pub exclusive: bool,
    /// Who set it (`l_pid`): -1 for an open file.
    pub pid: i32,
}

impl Record {
    fn overlaps(&self, other: &Record) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// Whether they overlap or one begins where the other ends.
    fn touches(&self, other: &Record) -> bool {
        self.first <= other.last.saturating_add(1) && other.first <= self.last.saturating_add(1)
    }
}

impl Key for Owner {
    const LEAST: Owner = Owner::Process(FdTableId(0));
}

impl Key for bool {
    const LEAST: bool = false;
}

/// The record locks of a file.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Records {
    /// Those of an owner lie apart from each other.
    owned: BTreeMap<(Owner, u64), Record>,
    /// The same by their ranges.
    shared: Ranges<Owner>,
    exclusive: Ranges<Owner>,
}

impl Records {
    pub(super) fn len(&self) -> usize {
        self.owned.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Record> {
        self.owned.values()
    }

    /// Those of one owner.
    pub(super) fn of(&self, owner: Owner) -> impl Iterator<Item = &Record> {
        let range = (owner, 0)..=(owner, u64::MAX);
        self.owned.range(range).map(|(_, record)| record)
    }

    /// Those of one owner that begin at a byte or behind it.
    pub(super) fn of_from(&self, owner: Owner, first: u64) -> impl Iterator<Item = &Record> {
        let range = (owner, first)..=(owner, u64::MAX);
        self.owned.range(range).map(|(_, record)| record)
    }

    /// The one behind another.
    pub(super) fn behind(&self, last: Option<(Owner, u64)>) -> Option<&Record> {
        let from = last.map_or(Unbounded, Excluded);
        let mut behind = self.owned.range((from, Unbounded));
        behind.next().map(|(_, record)| record)
    }

    /// Those that are in the way of another one.
    pub(super) fn conflicts(&self, wanted: &Record) -> impl Iterator<Item = &Record> {
        let (first, last, owner) = (wanted.first, wanted.last, wanted.owner);
        let shared = wanted.exclusive.then_some(&self.shared);
        let found = [Some(&self.exclusive), shared].into_iter().flatten();
        let found = found.flat_map(move |ranges| ranges.overlapping(first, last));
        found
            .filter(move |&(_, _, other)| other != owner)
            .filter_map(|(first, _, owner)| self.owned.get(&(owner, first)))
    }

    fn ranges(&mut self, exclusive: bool) -> &mut Ranges<Owner> {
        match exclusive {
            true => &mut self.exclusive,
            false => &mut self.shared,
        }
    }

    fn insert(&mut self, record: Record) {
        let ranges = self.ranges(record.exclusive);
        ranges.insert(record.first, record.last, record.owner);
        self.owned.insert((record.owner, record.first), record);
    }

    fn remove(&mut self, record: &Record) {
        let ranges = self.ranges(record.exclusive);
        ranges.remove(record.first, record.last, record.owner);
        self.owned.remove(&(record.owner, record.first));
    }

    /// Takes an owner's locks off a range and sets it there instead, if `add`. Whether there was one before.
    pub(super) fn change(&mut self, range: &Record, add: bool) -> bool {
        let before = self
            .owned
            .range((range.owner, 0)..(range.owner, range.first));
        let before = before.map(|(_, record)| *record).next_back();
        let behind = (range.owner, range.last.saturating_add(1));
        let inside = self.owned.range((range.owner, range.first)..=behind);
        let near: Vec<Record> = before
            .into_iter()
            .chain(inside.map(|(_, record)| *record))
            .collect();
        let mut added = *range;
        let mut changed = false;
        for record in near {
            if add && record.exclusive == range.exclusive && record.touches(range) {
                self.remove(&record);
                added.first = added.first.min(record.first);
                added.last = added.last.max(record.last);
            } else if record.overlaps(range) {
                self.remove(&record);
                changed = true;
                if record.first < range.first {
                    let last = range.first - 1;
                    self.insert(Record { last, ..record });
                }
                if record.last > range.last {
                    let first = range.last + 1;
                    self.insert(Record { first, ..record });
                }
            }
        }
        if add {
            self.insert(added);
        }
        changed
    }

    /// Takes all locks of an owner away.
    pub(super) fn release(&mut self, owner: Owner) -> Vec<Record> {
        let all: Vec<Record> = self.of(owner).copied().collect();
        for record in &all {
            self.remove(record);
        }
        all
    }

    /// Whether the ranges are those of the locks; for invariant checks.
    pub(super) fn is_indexed(&self) -> bool {
        let known = |record: &Record| {
            let ranges = match record.exclusive {
                true => &self.exclusive,
                false => &self.shared,
            };
            ranges.contains(record.first, record.last, record.owner)
        };
        self.iter().all(known) && self.shared.len() + self.exclusive.len() == self.len()
    }
}

/// The same locks that tasks wait for: first and last byte, exclusive.
type Wanted = (u64, u64, bool);

/// Who waits for record locks of a file. Those that want the same are looked at together: when the first of
/// them cannot have it, the others can only if the one who has it is themselves.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Waiters {
    groups: BTreeMap<Wanted, BTreeSet<(Place, ThreadId)>>,
    ranges: Ranges<bool>,
}

impl Waiters {
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    pub(super) fn add(&mut self, wanted: &Record, place: Place, thread: ThreadId) {
        let key = (wanted.first, wanted.last, wanted.exclusive);
        self.ranges.insert(key.0, key.1, key.2);
        self.groups.entry(key).or_default().insert((place, thread));
    }

    pub(super) fn remove(&mut self, wanted: &Record, place: Place, thread: ThreadId) {
        let key = (wanted.first, wanted.last, wanted.exclusive);
        if let Some(group) = self.groups.get_mut(&key) {
            group.remove(&(place, thread));
            if group.is_empty() {
                self.groups.remove(&key);
                self.ranges.remove(key.0, key.1, key.2);
            }
        }
    }

    /// Locks that are wanted and overlap a range, those that were wanted first before the others.
    pub(super) fn overlapping(&self, first: u64, last: u64) -> Vec<Wanted> {
        let mut found: Vec<(Place, Wanted)> = self
            .ranges
            .overlapping(first, last)
            .filter_map(|wanted| Some((self.groups.get(&wanted)?.first()?.0, wanted)))
            .collect();
        found.sort_unstable();
        found.into_iter().map(|(_, wanted)| wanted).collect()
    }

    /// The first who waits for one.
    pub(super) fn first(&self, wanted: Wanted) -> Option<ThreadId> {
        Some(self.groups.get(&wanted)?.first()?.1)
    }

    /// All that wait, for invariant checks.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Place, ThreadId)> + '_ {
        self.groups.values().flatten().copied()
    }
}
