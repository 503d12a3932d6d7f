//! The areas of an address space and what they sum up to.

use alloc::collections::BTreeMap;
use core::ops::Deref;

use super::gaps::Gaps;
use super::vma::{VmFlags, Vma};
use crate::machine::Prot;

/// Bytes of areas by what limits and `/proc/PID/status` count.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub(crate) struct Sizes {
    /// All areas (`VmSize`, `RLIMIT_AS`).
    pub total: u64,
    /// Memory that its owner alone may write (`VmData`, `RLIMIT_DATA`).
    pub data: u64,
    /// Stacks (`VmStk`).
    pub stack: u64,
    /// Code (`VmExe` and `VmLib`).
    pub code: u64,
    /// Locked memory (`VmLck`, `RLIMIT_MEMLOCK`).
    pub locked: u64,
    /// Sealed memory (mseal(2)).
    pub sealed: u64,
}

impl Sizes {
    fn of(start: u64, vma: &Vma) -> Sizes {
        let len = vma.end - start;
        let if_so = |is: bool| if is { len } else { 0 };
        let stack = vma.flags.contains(VmFlags::GROWS_DOWN);
        Sizes {
            total: len,
            data: if_so(vma.is_data()),
            stack: if_so(stack),
            code: if_so(vma.prot.contains(Prot::EXEC) && !vma.prot.contains(Prot::WRITE) && !stack),
            locked: if_so(vma.flags.contains(VmFlags::LOCKED)),
            sealed: if_so(vma.flags.contains(VmFlags::SEALED)),
        }
    }

    fn zip(self, other: Sizes, each: fn(u64, u64) -> u64) -> Sizes {
        Sizes {
            total: each(self.total, other.total),
            data: each(self.data, other.data),
            stack: each(self.stack, other.stack),
            code: each(self.code, other.code),
            locked: each(self.locked, other.locked),
            sealed: each(self.sealed, other.sealed),
        }
    }
}

/// Areas by their starts. They are read as the map that they are; changes go through here, because sums are
/// kept.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Areas {
    map: BTreeMap<u64, Vma>,
    gaps: Gaps,
    sizes: Sizes,
    /// Most bytes that there have been (`VmPeak`).
    peak: u64,
}

impl Deref for Areas {
    type Target = BTreeMap<u64, Vma>;

    fn deref(&self) -> &BTreeMap<u64, Vma> {
        &self.map
    }
}

impl Areas {
    /// Adds an area, or replaces the one that starts there.
    pub(crate) fn insert(&mut self, start: u64, vma: Vma) {
        self.remove(start);
        self.sizes = self.sizes.zip(Sizes::of(start, &vma), |a, b| a + b);
        self.peak = self.peak.max(self.sizes.total);
        self.map.insert(start, vma);
        self.gaps.added(&self.map, start, vma.end);
    }

    pub(crate) fn remove(&mut self, start: u64) -> Option<Vma> {
        let old = self.map.remove(&start)?;
        self.sizes = self.sizes.zip(Sizes::of(start, &old), |a, b| a - b);
        self.gaps.removed(&self.map, start, old.end);
        Some(old)
    }

    /// Changes what the area is that starts there, if there is one, but not its end.
    pub(crate) fn change(&mut self, start: u64, change: impl FnOnce(&mut Vma)) {
        if let Some(vma) = self.map.get_mut(&start) {
            let old = Sizes::of(start, vma);
            change(vma);
            self.sizes = self.sizes.zip(old, |a, b| a - b);
            self.sizes = self.sizes.zip(Sizes::of(start, vma), |a, b| a + b);
        }
    }

    /// The end of the highest gap of `len` bytes or more below an address, or else the start of the lowest
    /// area there.
    pub(super) fn highest_gap(&self, len: u64, from: u64) -> u64 {
        self.gaps.highest(&self.map, len, from)
    }

    /// The start of the lowest gap of `len` bytes or more from an address on, or else the end of the highest
    /// area.
    pub(super) fn lowest_gap(&self, len: u64, from: u64) -> u64 {
        self.gaps.lowest(&self.map, len, from)
    }

    /// Whether the gaps are known rightly. For the check of invariants.
    pub(crate) fn knows_its_gaps(&self) -> bool {
        self.gaps.is_right(&self.map)
    }

    /// The areas alone.
    pub(super) fn into_map(self) -> BTreeMap<u64, Vma> {
        self.map
    }

    pub(crate) fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// Most bytes of areas that there have been.
    pub(crate) fn peak(&self) -> u64 {
        self.peak
    }

    /// Whether the sums are true. For the check of invariants.
    pub(crate) fn adds_up(&self) -> bool {
        let counted = self
            .map
            .iter()
            .fold(Sizes::default(), |sum, (&start, vma)| {
                sum.zip(Sizes::of(start, vma), |a, b| a + b)
            });
        counted == self.sizes
    }
}
