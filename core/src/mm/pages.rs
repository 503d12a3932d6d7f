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

impl Pte {
    /// A private frame, not known to the host.
    pub(crate) fn private(frame: FrameNo) -> Pte {
        Pte(u64::from(frame.0) << 12 | FRAME)
    }

    /// A page of the file behind the VMA, mapped on the host.
    pub(crate) fn file(write: bool) -> Pte {
        Pte(HOST | if write { WRITE } else { 0 })
    }

    /// The private frame.
    pub(crate) fn frame(self) -> Option<FrameNo> {
        (self.0 & FRAME != 0).then_some(FrameNo((self.0 >> 12) as u32))
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
        Pte(self.0 & !(HOST | WRITE))
    }
}

impl core::fmt::Debug for Pte {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Pages of an address space by number (address / 4096).
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Pages {
    leaves: BTreeMap<u64, Box<[Pte; LEAF]>>,
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
}

impl Counts {
    fn of(pte: Pte) -> Counts {
        let own = u64::from(pte.frame().is_some());
        Counts {
            own,
            file: u64::from(!pte.is_none()) - own,
        }
    }

    fn replace(&mut self, old: Pte, new: Pte) {
        let (old, new) = (Counts::of(old), Counts::of(new));
        self.own = self.own + new.own - old.own;
        self.file = self.file + new.file - old.file;
    }
}

impl Pages {
    pub(crate) fn get(&self, page: u64) -> Pte {
        let leaf = self.leaves.get(&(page / LEAF as u64));
        leaf.map_or(Pte::default(), |leaf| leaf[page as usize % LEAF])
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
            let leaf = leaf.or_insert_with(|| Box::new([Pte::default(); LEAF]));
            for page in page..end {
                let slot = &mut leaf[page as usize % LEAF];
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
            for index in from..to {
                let pte = &mut leaf[index as usize];
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
            for (index, &pte) in leaf.iter().enumerate() {
                let page = base + index as u64;
                if !pte.is_none() && (first..end).contains(&page) {
                    each(page, pte);
                }
            }
        }
    }

    /// Drops leaf tables in a range of pages that hold nothing any more.
    pub(crate) fn shrink(&mut self, first: u64, end: u64) {
        if first >= end {
            return;
        }
        let leaves = first / LEAF as u64..=(end - 1) / LEAF as u64;
        let empty = |leaf: &[Pte; LEAF]| leaf.iter().all(|pte| pte.is_none());
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
        self.leaves.iter().flat_map(|(&number, leaf)| {
            let entries = leaf.iter().enumerate().filter(|(_, pte)| !pte.is_none());
            entries.map(move |(index, &pte)| (number * LEAF as u64 + index as u64, pte))
        })
    }

    /// Number of private frames.
    pub(crate) fn own(&self) -> u64 {
        self.counts.own
    }

    /// Number of pages of files.
    pub(crate) fn file(&self) -> u64 {
        self.counts.file
    }

    /// Most pages that there have been at a time.
    pub(crate) fn peak(&self) -> u64 {
        self.peak
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
