//! Locks of open files on one file as a whole (flock(2)), and who waits for them.

use alloc::collections::{BTreeMap, BTreeSet};
use core::ops::Bound::{Excluded, Unbounded};

use super::Place;
use crate::file::FileId;
use crate::machine::ThreadId;

/// Who has a file locked: either one open file exclusively, or any number together.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Whole {
    /// Open files; exclusive.
    holders: BTreeMap<FileId, bool>,
    /// Who waits, apart by what for (shared, exclusive), and by open file.
    waiters: [BTreeMap<Place, (ThreadId, FileId)>; 2],
    of_file: BTreeSet<(FileId, bool, Place)>,
}

impl Whole {
    pub(super) fn len(&self) -> usize {
        self.holders.len()
    }

    pub(super) fn is_awaited(&self) -> bool {
        !self.of_file.is_empty()
    }

    /// The open file behind one that holds it; exclusive.
    pub(super) fn behind(&self, last: Option<FileId>) -> Option<(FileId, bool)> {
        let from = last.map_or(Unbounded, Excluded);
        let mut held = self.holders.range((from, Unbounded));
        held.next().map(|(&file, &exclusive)| (file, exclusive))
    }

    pub(super) fn held_by(&self, file: FileId) -> Option<bool> {
        self.holders.get(&file).copied()
    }

    /// Takes the lock of an open file away; whether there was one.
    pub(super) fn release(&mut self, file: FileId) -> bool {
        self.holders.remove(&file).is_some()
    }

    fn is_free(&self, file: FileId, exclusive: bool) -> bool {
        let mut others = self.holders.iter().filter(|(other, _)| **other != file);
        match exclusive {
            true => others.next().is_none(),
            // One that is exclusive is alone.
            false => !others.next().is_some_and(|(_, &exclusive)| exclusive),
        }
    }

    /// Gives an open file the lock, instead of one that it has; `false` if others are in the way.
    pub(super) fn take(&mut self, file: FileId, exclusive: bool) -> bool {
        let free = self.is_free(file, exclusive);
        if free {
            self.holders.insert(file, exclusive);
        }
        free
    }

    pub(super) fn wait(&mut self, file: FileId, exclusive: bool, place: Place, thread: ThreadId) {
        self.waiters[usize::from(exclusive)].insert(place, (thread, file));
        self.of_file.insert((file, exclusive, place));
    }

    pub(super) fn leave(&mut self, file: FileId, exclusive: bool, place: Place) {
        self.waiters[usize::from(exclusive)].remove(&place);
        self.of_file.remove(&(file, exclusive, place));
    }

    /// The next one that waits and can have it now: the first, or the first that wants the other kind, or
    /// another of the open file that has it.
    pub(super) fn next(&self) -> Option<ThreadId> {
        let mut heads: [Option<(Place, ThreadId, FileId, bool)>; 2] = [false, true].map(|kind| {
            let (&place, &(thread, file)) = self.waiters[usize::from(kind)].first_key_value()?;
            Some((place, thread, file, kind))
        });
        heads.sort_unstable();
        let own = self.holders.keys().next().and_then(|&holder| {
            let range = (holder, false, 0)..=(holder, true, Place::MAX);
            let &(file, kind, place) = self.of_file.range(range).next()?;
            let &(thread, _) = self.waiters[usize::from(kind)].get(&place)?;
            Some((place, thread, file, kind))
        });
        let mut all = heads.into_iter().flatten().chain(own);
        all.find(|&(_, _, file, kind)| self.is_free(file, kind))
            .map(|(_, thread, ..)| thread)
    }

    /// All that wait, for invariant checks.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (Place, ThreadId)> + '_ {
        let all = self.waiters.iter().flatten();
        all.map(|(&place, &(thread, _))| (place, thread))
    }
}
