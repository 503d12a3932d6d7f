//! Room between the areas of an address space.
//!
//! Areas are taken together in blocks of neighbours, each with the widest gap below one of them, so that a
//! search passes over blocks without room: for as many areas as there may be, that are about a thousand
//! looks.

use alloc::collections::BTreeMap;

use super::vma::Vma;

/// Most areas of a block.
const BLOCK: u32 = 128;

/// The areas from the block's key up to that of the next one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Block {
    areas: u32,
    /// The widest gap between one of them and the area below. There is none below the lowest of all.
    widest: u64,
}

/// Blocks by their keys, the first of which is 0.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Gaps(BTreeMap<u64, Block>);

type Map = BTreeMap<u64, Vma>;

/// The end of the area below an address.
fn end_below(map: &Map, start: u64) -> Option<u64> {
    map.range(..start).next_back().map(|(_, vma)| vma.end)
}

impl Gaps {
    fn key(&self, start: u64) -> u64 {
        let block = self.0.range(..=start).next_back();
        block.map_or(0, |(&key, _)| key)
    }

    /// Where the block behind one begins.
    fn behind(&self, key: u64) -> u64 {
        let next = self.0.range(key + 1..).next();
        next.map_or(u64::MAX, |(&key, _)| key)
    }

    /// The gap below an area has become another one.
    fn changed(&mut self, map: &Map, start: u64, old: u64, new: u64) {
        let key = self.key(start);
        let Some(block) = self.0.get_mut(&key) else {
            return;
        };
        if new >= block.widest {
            block.widest = new;
        } else if old == block.widest {
            self.measure(map, key);
        }
    }

    /// Looks at all areas of a block.
    fn measure(&mut self, map: &Map, key: u64) {
        let range = key..self.behind(key);
        let mut below = end_below(map, key);
        let mut measured = Block::default();
        for (&start, vma) in map.range(range) {
            measured.areas += 1;
            let gap = below.map_or(0, |below| start - below);
            measured.widest = measured.widest.max(gap);
            below = Some(vma.end);
        }
        match measured.areas {
            0 => self.0.remove(&key),
            _ => self.0.insert(key, measured),
        };
    }

    /// An area is there now.
    pub(super) fn added(&mut self, map: &Map, start: u64, end: u64) {
        let below = end_below(map, start);
        let key = self.key(start);
        let block = self.0.entry(key).or_default();
        block.areas += 1;
        let gap = below.map_or(0, |below| start - below);
        block.widest = block.widest.max(gap);
        if let Some((&next, _)) = map.range(start + 1..).next() {
            let old = below.map_or(0, |below| next - below);
            self.changed(map, next, old, next - end);
        }
        let areas = self.0.get(&key).map_or(0, |block| block.areas);
        if areas > BLOCK {
            let mut half = map.range(key..).skip(BLOCK as usize / 2);
            if let Some((&middle, _)) = half.next() {
                self.0.insert(middle, Block::default());
                self.measure(map, key);
                self.measure(map, middle);
            }
        }
    }

    /// An area is not there any more.
    pub(super) fn removed(&mut self, map: &Map, start: u64, end: u64) {
        let below = end_below(map, start);
        let key = self.key(start);
        let gap = below.map_or(0, |below| start - below);
        if let Some(block) = self.0.get_mut(&key) {
            block.areas -= 1;
            if block.areas == 0 || block.widest == gap {
                self.measure(map, key);
            }
        }
        if let Some((&next, _)) = map.range(start..).next() {
            let new = below.map_or(0, |below| next - below);
            self.changed(map, next, next - end, new);
        }
    }

    /// The end of the highest gap of `len` bytes or more below an address, or else the start of the lowest
    /// area there.
    pub(super) fn highest(&self, map: &Map, len: u64, from: u64) -> u64 {
        let Some((&first, vma)) = map.range(..from).next_back() else {
            return from;
        };
        if vma.end < from && from - vma.end >= len {
            return from;
        }
        let mut upper = from;
        for (&key, block) in self.0.range(..=first).rev() {
            let mut above = None;
            if block.widest >= len {
                for (&start, vma) in map.range(..upper).rev() {
                    if let Some(above) = above.filter(|above| above - vma.end >= len) {
                        return above;
                    }
                    if start < key {
                        break;
                    }
                    above = Some(start);
                }
            }
            upper = key;
        }
        map.first_key_value().map_or(from, |(&lowest, _)| lowest)
    }

    /// The start of the lowest gap of `len` bytes or more from an address on, or else the end of the highest
    /// area.
    pub(super) fn lowest(&self, map: &Map, len: u64, from: u64) -> u64 {
        let from = end_below(map, from + 1).map_or(from, |end| end.max(from));
        let Some((&first, _)) = map.range(from..).next() else {
            return from;
        };
        if first - from >= len {
            return from;
        }
        // Not the gap below the first one, which begins before.
        for (&key, block) in self.0.range(self.key(first)..) {
            if block.widest < len {
                continue;
            }
            let mut below = end_below(map, key.max(first + 1));
            for (&start, vma) in map.range(key.max(first + 1)..self.behind(key)) {
                if let Some(below) = below.filter(|below| start - below >= len) {
                    return below;
                }
                below = Some(vma.end);
            }
        }
        map.last_key_value().map_or(from, |(_, vma)| vma.end)
    }

    /// Whether the blocks are those of the areas; for invariant checks.
    pub(super) fn is_right(&self, map: &Map) -> bool {
        let mut measured = self.clone();
        self.0.keys().for_each(|&key| measured.measure(map, key));
        let areas: usize = self.0.values().map(|block| block.areas as usize).sum();
        measured.0 == self.0 && areas == map.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Prot;
    use crate::mm::vma::{Behind, Name};
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

    fn highest(map: &Map, len: u64, from: u64) -> u64 {
        let mut top = from;
        for (&start, vma) in map.range(..from).rev() {
            if vma.end < top && top - vma.end >= len {
                break;
            }
            top = top.min(start);
        }
        top
    }

    fn lowest(map: &Map, len: u64, from: u64) -> u64 {
        let mut bottom = from;
        for (&start, vma) in map {
            if vma.end <= bottom {
                continue;
            }
            if start > bottom && start - bottom >= len {
                break;
            }
            bottom = vma.end;
        }
        bottom
    }

    #[test]
    fn a_search_finds_what_a_look_at_each_finds() {
        for (seed, most) in [(1, 60), (2, 1000), (3, 3000), (4, 3000)] {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let mut below = |end: u64| random.next_u64() % end;
            let (mut map, mut gaps) = (Map::new(), Gaps::default());
            for step in 0..6000 {
                let start = below(20_000);
                let free = map.range(..=start).next_back();
                let free = free.is_none_or(|(_, vma): (_, &Vma)| vma.end <= start);
                let next = map
                    .range(start..)
                    .next()
                    .map_or(u64::MAX, |(&next, _)| next);
                let len = (1 + below(6)).min(next - start);
                if free && len > 0 && below(most) >= map.len() as u64 {
                    let vma = Vma::private(start + len, Prot::READ, Behind::Anonymous(Name::None));
                    map.insert(start, vma);
                    gaps.added(&map, start, start + len);
                } else if let Some((&start, &vma)) = map.range(start..).next() {
                    map.remove(&start);
                    gaps.removed(&map, start, vma.end);
                }
                let (len, from) = (1 + below(40), 1 + below(21_000));
                let found = (gaps.highest(&map, len, from), gaps.lowest(&map, len, from));
                let expected = (highest(&map, len, from), lowest(&map, len, from));
                assert_eq!(found, expected, "seed {seed}, {len} from {from}");
                assert!(step % 50 > 0 || gaps.is_right(&map), "seed {seed}");
            }
        }
    }
}
