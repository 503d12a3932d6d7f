//! The page table of an address space: what private pages it has and what the host has mapped.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;

use crate::machine::FrameNo;

/// Entries of a leaf table: 2 MiB of addresses.
const LEAF: usize = 512;

/// A page table entry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Pte(u64);

const FRAME: u64 = 1;
const HOST: u64 = 2;
const WRITE: u64 = 4;
/// The file is shared memory that has no name.
const MEMORY: u64 = 8;

impl Pte {
    /// A private frame, not known to the host.
    pub(crate) fn private(frame: FrameNo) -> Pte {
        Pte(u64::from(frame.0) << 12 | FRAME)
    }

    /// A page of the file behind the VMA, mapped on the host. `memory`: it is shared memory (`shared`).
    pub(crate) fn file(write: bool, memory: bool) -> Pte {
        Pte(HOST | if write { WRITE } else { 0 } | if memory { MEMORY } else { 0 })
    }

    /// The private frame.
    pub(crate) fn frame(self) -> Option<FrameNo> {
        (self.0 & FRAME != 0).then_some(FrameNo((self.0 >> 12) as u32))
    }

    /// It is a page of shared memory.
    pub(crate) fn is_memory(self) -> bool {
        self.0 & MEMORY != 0
    }

    /// The host has it mapped.
    pub(crate) fn on_host(self) -> bool {
        self.0 & HOST != 0
    }

    /// The host has it mapped with the right to write, if the VMA gives it.
    pub(crate) fn writable(self) -> bool {
        self.0 & WRITE != 0
    }

    pub(crate) fn is_none(self) -> bool {
        self.0 == 0
    }

    /// The same as the host now has it.
    pub(crate) fn mapped(self, write: bool) -> Pte {
        Pte(self.0 & !WRITE | HOST | if write { WRITE } else { 0 })
    }

    /// The same without the host's mapping.
    pub(crate) fn unmapped(self) -> Pte {
        Pte(self.0 & !(HOST | WRITE | MEMORY))
    }

    /// What is left of it when the host has nothing mapped any more: pages of files are looked up anew.
    fn lost(self) -> Pte {
        match self.frame() {
            Some(_) => self.unmapped(),
            None => Pte::default(),
        }
    }
}

impl core::fmt::Debug for Pte {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// A leaf table.
#[derive(Clone, Debug, Hash)]
struct Leaf {
    entries: [Pte; LEAF],
    /// [`Pages::losses`] when the entries were true.
    losses: u64,
}

impl Leaf {
    /// Its entry at an index, as it is after so many losses.
    fn get(&self, index: usize, losses: u64) -> Pte {
        match self.losses == losses {
            true => self.entries[index],
            false => self.entries[index].lost(),
        }
    }

    /// All entries, true after so many losses.
    fn entries(&mut self, losses: u64) -> &mut [Pte; LEAF] {
        if self.losses != losses {
            self.losses = losses;
            for pte in &mut self.entries {
                *pte = pte.lost();
            }
        }
        &mut self.entries
    }
}

/// Pages of an address space by number (address / 4096).
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Pages {
    leaves: BTreeMap<u64, Box<Leaf>>,
    /// How often the host has lost all that it had mapped. Leaves are brought up to date when they are next
    /// changed, so a loss costs nothing.
    losses: u64,
    counts: Counts,
    /// Most entries that there have been (`VmHWM`).
    peak: u64,
}

/// How many entries are there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
struct Counts {
    /// Private frames.
    own: u64,
    /// Pages of files.
    file: u64,
    /// Those of shared memory among them.
    memory: u64,
}

impl Counts {
    fn of(pte: Pte) -> Counts {
        let own = u64::from(pte.frame().is_some());
        let file = u64::from(!pte.is_none()) - own;
        Counts {
            own,
            file,
            memory: file * u64::from(pte.0 & MEMORY != 0),
        }
    }

    fn replace(&mut self, old: Pte, new: Pte) {
        let (old, new) = (Counts::of(old), Counts::of(new));
        self.own = self.own + new.own - old.own;
        self.file = self.file + new.file - old.file;
        self.memory = self.memory + new.memory - old.memory;
    }
}

impl Pages {
    pub(crate) fn get(&self, page: u64) -> Pte {
        let leaf = self.leaves.get(&(page / LEAF as u64));
        leaf.map_or(Pte::default(), |leaf| {
            leaf.get(page as usize % LEAF, self.losses)
        })
    }

    /// The private frame of a page that may be written, and how many pages from it on, at most `most` and in
    /// the same table, may be written and are in the frames from it on.
    pub(crate) fn writable_run(&self, page: u64, most: u64) -> Option<(FrameNo, u64)> {
        let leaf = self.leaves.get(&(page / LEAF as u64))?;
        let writable = |index: usize| {
            let pte = leaf.get(index, self.losses);
            pte.frame().filter(|_| pte.writable())
        };
        let index = page as usize % LEAF;
        let first = writable(index)?;
        let end = LEAF.min(index.saturating_add(most as usize));
        let others = (index + 1..end).zip(first.0 + 1..);
        let count = others.take_while(|&(index, frame)| writable(index) == Some(FrameNo(frame)));
        Some((first, 1 + count.count() as u64))
    }

    pub(crate) fn set(&mut self, page: u64, pte: Pte) {
        // What is not there needs no table.
        if pte.is_none() && !self.leaves.contains_key(&(page / LEAF as u64)) {
            return;
        }
        self.set_run(page, 1, |_| pte);
    }

    /// Sets consecutive entries, in one leaf at a time.
    pub(crate) fn set_run(&mut self, first: u64, count: u64, pte: impl Fn(u64) -> Pte) {
        let mut page = first;
        while page < first + count {
            let number = page / LEAF as u64;
            let end = ((number + 1) * LEAF as u64).min(first + count);
            let leaf = self.leaves.entry(number);
            let losses = self.losses;
            let leaf = leaf.or_insert_with(|| {
                Box::new(Leaf {
                    entries: [Pte::default(); LEAF],
                    losses,
                })
            });
            let entries = leaf.entries(losses);
            for page in page..end {
                let slot = &mut entries[page as usize % LEAF];
                let new = pte(page);
                self.counts.replace(*slot, new);
                *slot = new;
            }
            page = end;
        }
        self.peak = self.peak.max(self.counts.own + self.counts.file);
    }

    /// Calls `each` for every entry that is there in a range of pages; it may change the entry.
    pub(crate) fn each_mut(&mut self, first: u64, end: u64, mut each: impl FnMut(u64, &mut Pte)) {
        if first >= end {
            return;
        }
        let leaves = first / LEAF as u64..=(end - 1) / LEAF as u64;
        for (&number, leaf) in self.leaves.range_mut(leaves) {
            let base = number * LEAF as u64;
            let from = first.max(base) - base;
            let to = end.min(base + LEAF as u64) - base;
            let entries = leaf.entries(self.losses);
            for index in from..to {
                let pte = &mut entries[index as usize];
                if !pte.is_none() {
                    let old = *pte;
                    each(base + index, pte);
                    self.counts.replace(old, *pte);
                }
            }
        }
    }

    /// Calls `each` for every entry that is there in a range of pages.
    pub(crate) fn each(&self, first: u64, end: u64, mut each: impl FnMut(u64, Pte)) {
        if first >= end {
            return;
        }
        let leaves = first / LEAF as u64..=(end - 1) / LEAF as u64;
        for (&number, leaf) in self.leaves.range(leaves) {
            let base = number * LEAF as u64;
            for page in first.max(base)..end.min(base + LEAF as u64) {
                let pte = leaf.get((page - base) as usize, self.losses);
                if !pte.is_none() {
                    each(page, pte);
                }
            }
        }
    }

    /// The page in a range that only this many leaf tables lie before, if there are more.
    pub(crate) fn boundary(&self, first: u64, end: u64, leaves: usize) -> Option<u64> {
        if first >= end {
            return None;
        }
        let numbers = first / LEAF as u64..=(end - 1) / LEAF as u64;
        let (&number, _) = self.leaves.range(numbers).nth(leaves)?;
        Some(number * LEAF as u64)
    }

    /// Takes a leaf table out; gives the private frames that it holds.
    pub(super) fn take_leaf(&mut self) -> Option<impl Iterator<Item = FrameNo> + use<>> {
        let (_, leaf) = self.leaves.pop_first()?;
        let losses = self.losses;
        Some((0..LEAF).filter_map(move |index| leaf.get(index, losses).frame()))
    }

    /// Number of leaf tables.
    pub(super) fn tables(&self) -> usize {
        self.leaves.len()
    }

    /// Calls `each` for the entries in the first few leaf tables of a range; gives the page to go on with, if
    /// there are more.
    pub(crate) fn each_in_leaves(
        &self,
        first: u64,
        end: u64,
        leaves: usize,
        each: impl FnMut(u64, Pte),
    ) -> Option<u64> {
        let next = self.boundary(first, end, leaves);
        self.each(first, next.unwrap_or(end), each);
        next
    }

    /// Drops leaf tables in a range of pages that hold nothing any more.
    pub(crate) fn shrink(&mut self, first: u64, end: u64) {
        if first >= end {
            return;
        }
        let leaves = first / LEAF as u64..=(end - 1) / LEAF as u64;
        let losses = self.losses;
        let empty = |leaf: &Leaf| (0..LEAF).all(|index| leaf.get(index, losses).is_none());
        let (mut from, last) = leaves.into_inner();
        while from <= last
            && let Some((&number, leaf)) = self.leaves.range(from..=last).next()
        {
            if empty(leaf) {
                self.leaves.remove(&number);
            }
            from = number + 1;
        }
    }

    /// Every entry, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, Pte)> + '_ {
        self.leaves.iter().flat_map(move |(&number, leaf)| {
            let entry = move |index| {
                (
                    number * LEAF as u64 + index as u64,
                    leaf.get(index, self.losses),
                )
            };
            (0..LEAF).map(entry).filter(|(_, pte)| !pte.is_none())
        })
    }

    /// Notes that the host has nothing mapped any more.
    pub(crate) fn lose_host(&mut self) {
        self.losses += 1;
        (self.counts.file, self.counts.memory) = (0, 0);
    }

    /// Number of private frames.
    pub(crate) fn own(&self) -> u64 {
        self.counts.own
    }

    /// Number of pages of files.
    pub(crate) fn file(&self) -> u64 {
        self.counts.file
    }

    /// Number of pages of shared memory.
    pub(crate) fn memory(&self) -> u64 {
        self.counts.memory
    }

    /// Most pages that there have been at a time.
    pub(crate) fn peak(&self) -> u64 {
        self.peak
    }

    /// Forgets how many there have been.
    pub(crate) fn reset_peak(&mut self) {
        self.peak = self.counts.own + self.counts.file;
    }

    /// Bytes of the tables.
    pub(crate) fn table_bytes(&self) -> u64 {
        self.leaves.len() as u64 * (LEAF * size_of::<Pte>()) as u64
    }

    /// Whether the counts are true. For the check of invariants.
    pub(crate) fn adds_up(&self) -> bool {
        let mut counts = Counts::default();
        for (_, pte) in self.iter() {
            counts.replace(Pte::default(), pte);
        }
        counts == self.counts
    }
}
