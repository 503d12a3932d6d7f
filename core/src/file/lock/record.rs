//! Record locks of one file, and who waits for them.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::ops::Bound::{Excluded, Unbounded};

use super::{Mode, Owner, Place};
use crate::file::fdtable::FdTableId;
use crate::machine::ThreadId;
use crate::ranges::{Key, Ranges};

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

    /// How it locks its bytes.
    pub(super) fn mode(&self) -> Mode {
        match self.exclusive {
            true => Mode::Exclusive,
            false => Mode::Shared,
        }
    }

    /// What it is to those who wait for it.
    pub(super) fn wanted(&self) -> Wanted {
        (self.first, self.last, self.exclusive)
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

    /// Whose locks are in the way of another one, and where they begin.
    fn in_the_way(&self, wanted: &Record) -> impl Iterator<Item = (u64, Owner)> {
        let (first, last, owner) = (wanted.first, wanted.last, wanted.owner);
        let shared = wanted.exclusive.then_some(&self.shared);
        let found = [Some(&self.exclusive), shared].into_iter().flatten();
        let found = found.flat_map(move |ranges| ranges.overlapping(first, last));
        let others = found.filter(move |&(_, _, other)| other != owner);
        others.map(|(first, _, owner)| (first, owner))
    }

    /// Who has one that is in the way of another one.
    pub(super) fn blocker(&self, wanted: &Record) -> Option<Owner> {
        self.in_the_way(wanted).next().map(|(_, owner)| owner)
    }

    /// The first that is in the way of another one.
    pub(super) fn first_conflict(&self, wanted: &Record) -> Option<&Record> {
        let (first, owner) = self.in_the_way(wanted).min_by_key(|&(first, _)| first)?;
        self.owned.get(&(owner, first))
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

    /// How many locks an owner has in a range, at most `most`, and where the last of these ends.
    pub(super) fn count_in(&self, range: &Record, most: usize) -> (usize, u64) {
        let own = (range.owner, 0)..(range.owner, range.first);
        let before = self.owned.range(own).next_back();
        let before = before.filter(|(_, record)| record.last >= range.first);
        let inside = (range.owner, range.first)..=(range.owner, range.last);
        let all = before.into_iter().chain(self.owned.range(inside));
        let ends = all.map(|(_, record)| record.last).take(most);
        ends.fold((0, 0), |(count, _), last| (count + 1, last))
    }

    /// Where the locks of an owner begin and end.
    pub(super) fn ends_of(&self, owner: Owner) -> Option<(u64, u64)> {
        let mut own = self.owned.range((owner, 0)..=(owner, u64::MAX));
        let (_, first) = own.next()?;
        let last = own.next_back().map_or(first, |(_, last)| last);
        Some((first.first, last.last))
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
pub(super) type Wanted = (u64, u64, bool);

/// Who waits for record locks of a file. Those that want the same are looked at together: when the first of
/// them cannot have it, the others can only if the one who has it is themselves.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Waiters {
    groups: BTreeMap<Wanted, BTreeSet<(Place, ThreadId)>>,
    /// What is wanted, by who came first.
    places: BTreeMap<Place, Wanted>,
    ranges: Ranges<bool>,
}

impl Waiters {
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    pub(super) fn add(&mut self, wanted: &Record, place: Place, thread: ThreadId) {
        let key = wanted.wanted();
        self.ranges.insert(key.0, key.1, key.2);
        self.groups.entry(key).or_default().insert((place, thread));
        self.places.insert(place, key);
    }

    pub(super) fn remove(&mut self, wanted: &Record, place: Place, thread: ThreadId) {
        let key = wanted.wanted();
        self.places.remove(&place);
        if let Some(group) = self.groups.get_mut(&key) {
            group.remove(&(place, thread));
            if group.is_empty() {
                self.groups.remove(&key);
                self.ranges.remove(key.0, key.1, key.2);
            }
        }
    }

    /// Locks that are wanted and overlap a range, what was wanted first last; `None` if there are more than
    /// `most`.
    pub(super) fn overlapping(&self, first: u64, last: u64, most: usize) -> Option<Vec<Wanted>> {
        let near = self.ranges.overlapping(first, last).take(most + 1);
        let mut found: Vec<(Place, Wanted)> = near
            .filter_map(|wanted| Some((self.groups.get(&wanted)?.first()?.0, wanted)))
            .collect();
        if found.len() > most {
            return None;
        }
        found.sort_unstable();
        Some(found.into_iter().rev().map(|(_, wanted)| wanted).collect())
    }

    /// Who waits behind a place: its own place, what it wants, and whether nobody wanted the same before.
    pub(super) fn behind(&self, place: Option<Place>) -> Option<(Place, Wanted, bool)> {
        let from = place.map_or(Unbounded, Excluded);
        let (&place, &wanted) = self.places.range((from, Unbounded)).next()?;
        let first = self.groups.get(&wanted)?.first()?;
        Some((place, wanted, first.0 == place))
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
