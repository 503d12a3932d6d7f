//! Locks of open files on one file as a whole (flock(2)), and who waits for them.

use alloc::collections::{BTreeMap, BTreeSet};
use core::ops::Bound::{Excluded, Unbounded};

use super::Place;
use crate::file::FileId;
use crate::machine::ThreadId;

/// How a file is locked as a whole: together with others, or alone (`LOCK_SH`, `LOCK_EX`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Mode {
    Shared,
    Exclusive,
}

const MODES: [Mode; 2] = [Mode::Shared, Mode::Exclusive];

/// Who has a file locked: either one open file exclusively, or any number together.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Whole {
    holders: BTreeMap<FileId, Mode>,
    /// Who waits, apart by what for (shared, exclusive), and by open file.
    waiters: [BTreeMap<Place, (ThreadId, FileId)>; 2],
    of_file: BTreeSet<(FileId, Mode, Place)>,
}

impl Whole {
    pub(super) fn len(&self) -> usize {
        self.holders.len()
    }

    pub(super) fn is_awaited(&self) -> bool {
        !self.of_file.is_empty()
    }

    /// The open file behind one that holds it.
    pub(super) fn behind(&self, last: Option<FileId>) -> Option<(FileId, Mode)> {
        let from = last.map_or(Unbounded, Excluded);
        let mut held = self.holders.range((from, Unbounded));
        held.next().map(|(&file, &mode)| (file, mode))
    }

    pub(super) fn held_by(&self, file: FileId) -> Option<Mode> {
        self.holders.get(&file).copied()
    }

    /// Takes the lock of an open file away; whether there was one.
    pub(super) fn release(&mut self, file: FileId) -> bool {
        self.holders.remove(&file).is_some()
    }

    fn is_free(&self, file: FileId, mode: Mode) -> bool {
        let mut others = self.holders.iter().filter(|(other, _)| **other != file);
        match mode {
            Mode::Exclusive => others.next().is_none(),
            // One that is exclusive is alone.
            Mode::Shared => others.next().is_none_or(|(_, &mode)| mode == Mode::Shared),
        }
    }

    /// Gives an open file the lock, instead of one that it has; `false` if others are in the way.
    pub(super) fn take(&mut self, file: FileId, mode: Mode) -> bool {
        let free = self.is_free(file, mode);
        if free {
            self.holders.insert(file, mode);
        }
        free
    }

    pub(super) fn wait(&mut self, file: FileId, mode: Mode, place: Place, thread: ThreadId) {
        self.waiters[mode as usize].insert(place, (thread, file));
        self.of_file.insert((file, mode, place));
    }

    pub(super) fn leave(&mut self, file: FileId, mode: Mode, place: Place) {
        self.waiters[mode as usize].remove(&place);
        self.of_file.remove(&(file, mode, place));
    }

    /// The next one that waits and can have it now: the first, or the first that wants the other kind, or
    /// another of the open file that has it.
    pub(super) fn next(&self) -> Option<ThreadId> {
        let mut heads: [Option<(Place, ThreadId, FileId, Mode)>; 2] = MODES.map(|kind| {
            let (&place, &(thread, file)) = self.waiters[kind as usize].first_key_value()?;
            Some((place, thread, file, kind))
        });
        heads.sort_unstable();
        let own = self.holders.keys().next().and_then(|&holder| {
            let range = (holder, Mode::Shared, 0)..=(holder, Mode::Exclusive, Place::MAX);
            let &(file, kind, place) = self.of_file.range(range).next()?;
            let &(thread, _) = self.waiters[kind as usize].get(&place)?;
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
