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
}

impl Pages {
    pub(crate) fn get(&self, page: u64) -> Pte {
        let leaf = self.leaves.get(&(page / LEAF as u64));
        leaf.map_or(Pte::default(), |leaf| leaf[page as usize % LEAF])
    }

    pub(crate) fn set(&mut self, page: u64, pte: Pte) {
        if pte.is_none() {
            if let Some(leaf) = self.leaves.get_mut(&(page / LEAF as u64)) {
                leaf[page as usize % LEAF] = pte;
            }
            return;
        }
        let leaf = self.leaves.entry(page / LEAF as u64);
        leaf.or_insert_with(|| Box::new([Pte::default(); LEAF]))[page as usize % LEAF] = pte;
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
                    each(base + index, pte);
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
        while let Some(number) = self
            .leaves
            .range(leaves.clone())
            .find(|(_, leaf)| empty(leaf))
            .map(|(&number, _)| number)
        {
            self.leaves.remove(&number);
        }
    }

    /// Every entry, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, Pte)> + '_ {
        self.leaves.iter().flat_map(|(&number, leaf)| {
            let entries = leaf.iter().enumerate().filter(|(_, pte)| !pte.is_none());
            entries.map(move |(index, &pte)| (number * LEAF as u64 + index as u64, pte))
        })
    }
}
