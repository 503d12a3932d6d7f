//! A table of objects named by small numbers that are used again, lowest free slot of the last freed first.
//! Used for dentries, open files, descriptor tables and mounts.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// Objects by number.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Slab<T> {
    slots: Vec<Option<T>>,
    /// Numbers that were given back, the last one at the end. One that is used again, or behind the last
    /// slot, does not count.
    free: Vec<u32>,
    len: usize,
}

/// Entries of a queue that stay allocated when it becomes empty.
pub(crate) const QUEUE_KEPT: usize = 64;

/// Gives memory of a queue back once half of it is free, so that it has room for twice what is in it or for
/// `kept`.
pub(crate) fn shrink<T>(queue: &mut VecDeque<T>, kept: usize) {
    let (len, capacity) = (queue.len(), queue.capacity());
    if capacity > kept && len < capacity / 2 {
        queue.shrink_to((len + len / 4).max(kept));
    }
}

/// Slots that stay allocated when there are fewer objects.
const KEPT: usize = 1024;

impl<T> Slab<T> {
    pub(crate) fn new() -> Slab<T> {
        Slab {
            slots: Vec::new(),
            free: Vec::new(),
            len: 0,
        }
    }

    /// Puts an object in and gives its number.
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        self.len += 1;
        while let Some(index) = self.free.pop() {
            if let Some(slot @ None) = self.slots.get_mut(index as usize) {
                *slot = Some(value);
                return index;
            }
        }
        self.slots.push(Some(value));
        self.slots.len() as u32 - 1
    }

    pub(crate) fn remove(&mut self, index: u32) -> Option<T> {
        let value = self.slots.get_mut(index as usize)?.take()?;
        self.free.push(index);
        self.len -= 1;
        self.shrink();
        Some(value)
    }

    /// Gives memory back once most of the slots behind the last object are free.
    fn shrink(&mut self) {
        if self.slots.len() <= KEPT || self.slots.len() / 4 < self.len {
            return;
        }
        while let Some(None) = self.slots.last() {
            self.slots.pop();
        }
        if self.slots.capacity() / 4 >= self.slots.len() {
            let most = self.slots.len();
            self.free.retain(|&index| (index as usize) < most);
            self.slots.shrink_to((2 * most).max(KEPT));
            self.free.shrink_to((2 * most).max(KEPT));
        }
    }

    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        self.slots.get(index as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        self.slots.get_mut(index as usize)?.as_mut()
    }

    /// All objects, by number.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.slots
            .iter()
            .enumerate()
            .filter_map(|(index, slot)| Some((index as u32, slot.as_ref()?)))
    }

    /// Number of objects.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_used_again_and_memory_is_given_back() {
        let mut slab = Slab::new();
        let numbers: Vec<u32> = (0..100_000).map(|n| slab.insert(n)).collect();
        assert_eq!((slab.len(), numbers[99_999]), (100_000, 99_999));
        for &number in &numbers[10..] {
            assert_eq!(slab.remove(number), Some(number));
        }
        assert!(slab.slots.capacity() <= KEPT && slab.free.capacity() <= KEPT);
        // What is left is where it was, and each new one has a number of its own.
        let mut taken: Vec<u32> = (0..2000).map(|n| slab.insert(n)).collect();
        taken.extend(&numbers[..10]);
        taken.sort_unstable();
        taken.dedup();
        assert_eq!((taken.len(), slab.len()), (2010, 2010));
        assert!((0..10).all(|n| slab.get(n) == Some(&n)));
        assert_eq!(slab.iter().count(), 2010);
        // One object behind all others keeps the slots before it.
        assert_eq!(slab.remove(5), Some(5));
        assert_eq!(slab.insert(7), 5);
    }
}
