//! Ranges of numbers that may lie over each other, found by what they overlap.

use alloc::collections::BTreeMap;
use core::iter::successors;

/// What tells ranges apart that begin at the same number.
pub(crate) trait Key: Copy + Ord {
    /// The least of all.
    const LEAST: Self;
}

/// Ranges, each with a key. In classes by their lengths, from a power of two up to the next: what overlaps a
/// place begins in each class not further before it than the longest of the class reach. So a search costs a
/// few steps for each class that there is, and at most twice as many as there are ranges round the place.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Ranges<K> {
    /// The last number by class, first number and key.
    all: BTreeMap<(u8, u64, K), u64>,
}

impl<K: Key> Default for Ranges<K> {
    fn default() -> Self {
        Ranges {
            all: BTreeMap::new(),
        }
    }
}

/// The class of a range. It does not reach to the last of all numbers.
fn class(first: u64, last: u64) -> u8 {
    let len = last.saturating_sub(first).saturating_add(1);
    len.ilog2() as u8
}

impl<K: Key> Ranges<K> {
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(crate) fn insert(&mut self, first: u64, last: u64, key: K) {
        self.all.insert((class(first, last), first, key), last);
    }

    /// Whether a range is there; for invariant checks.
    pub(crate) fn contains(&self, first: u64, last: u64, key: K) -> bool {
        let found = self.all.get(&(class(first, last), first, key));
        found == Some(&last)
    }

    /// Takes a range away; whether it was there.
    pub(crate) fn remove(&mut self, first: u64, last: u64, key: K) -> bool {
        self.all.remove(&(class(first, last), first, key)).is_some()
    }

    /// Ranges that overlap another one: first and last number, and key.
    pub(crate) fn overlapping(
        &self,
        first: u64,
        last: u64,
    ) -> impl Iterator<Item = (u64, u64, K)> + '_ {
        let next = move |class: u8| {
            let rest = self.all.range((class, 0, K::LEAST)..);
            rest.map(|(&(class, ..), _)| class).next()
        };
        let classes = successors(next(0), move |&class| next(class + 1));
        classes.flat_map(move |class| {
            let longest = u64::MAX >> (63 - class);
            let from = first.saturating_sub(longest - 1);
            let range = (class, from, K::LEAST)..(class, last.saturating_add(1), K::LEAST);
            let near = self.all.range(range);
            near.filter(move |&(_, &end)| end >= first)
                .map(|(&(_, start, key), &end)| (start, end, key))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

    impl Key for u16 {
        const LEAST: u16 = 0;
    }

    #[test]
    fn what_overlaps_is_what_a_look_at_each_finds() {
        for seed in 0..20 {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let mut below = |end: u64| random.next_u64() % end;
            let (mut ranges, mut all) = (Ranges::default(), BTreeSet::new());
            for step in 0..1000_u16 {
                let first = below(200);
                let last = match below(5) {
                    0 => u64::MAX >> 1,
                    1 => first,
                    _ => first + below(100),
                };
                match below(3) {
                    0 if !all.is_empty() => {
                        let index = below(all.len() as u64) as usize;
                        let (first, last, key) = *all.iter().nth(index).expect("it is there");
                        all.remove(&(first, last, key));
                        assert!(ranges.remove(first, last, key));
                        assert!(!ranges.remove(first, last, key));
                    }
                    1 => {
                        let found: BTreeSet<_> = ranges.overlapping(first, last).collect();
                        let hits =
                            |&&(start, end, _): &&(u64, u64, u16)| start <= last && first <= end;
                        let expected: BTreeSet<_> = all.iter().filter(hits).copied().collect();
                        assert_eq!(found, expected, "seed {seed}");
                    }
                    _ => {
                        all.insert((first, last, step));
                        ranges.insert(first, last, step);
                    }
                }
                assert_eq!(
                    (ranges.len(), ranges.is_empty()),
                    (all.len(), all.is_empty())
                );
            }
        }
    }
}
