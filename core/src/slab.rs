//! Tables of objects named by small numbers that are used again, lowest free slot of the last freed first.
//! Open files, descriptor tables and contexts are in a [`Slab`]; dentries and mounts, of which places tell
//! that hold no reference, in a [`Keyed`] one.

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

/// The key of an object: no other object of its table ever has the same, so that who keeps one for too long
/// finds nothing, and not what came to stand there.
///
/// The number of the slot is in the upper half, so that keys are in its order; in the lower one is how many
/// objects had been put into the table before.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Key(u64);

impl Key {
    /// The first and the last that there could be.
    pub(crate) const LEAST: Key = Key(0);
    pub(crate) const MOST: Key = Key(u64::MAX);

    /// The number of the slot.
    pub(crate) fn index(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The next key that there could be.
    pub(crate) fn next(self) -> Key {
        Key(self.0.saturating_add(1))
    }

    /// All of it.
    pub(crate) fn get(self) -> u64 {
        self.0
    }
}

/// Objects by keys that are not used again.
#[derive(Debug, Hash)]
pub(crate) struct Keyed<T> {
    slab: Slab<(u32, T)>,
    /// How many objects have been put in; where that no longer fits it starts anew, after four thousand
    /// million.
    made: u32,
}

impl<T> Keyed<T> {
    pub(crate) fn new() -> Keyed<T> {
        Keyed {
            slab: Slab::new(),
            made: 0,
        }
    }

    fn key(index: u32, made: u32) -> Key {
        Key(u64::from(index) << 32 | u64::from(made))
    }

    /// Puts an object in and gives its key.
    pub(crate) fn insert(&mut self, value: T) -> Key {
        let made = self.made;
        self.made = made.wrapping_add(1);
        Keyed::<T>::key(self.slab.insert((made, value)), made)
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        self.get(key)?;
        self.slab.remove(key.index()).map(|(_, value)| value)
    }

    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        let (made, value) = self.slab.get(key.index())?;
        (*made == key.0 as u32).then_some(value)
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let (made, value) = self.slab.get_mut(key.index())?;
        (*made == key.0 as u32).then_some(value)
    }

    /// All objects, by key.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        let all = self.slab.iter();
        all.map(|(index, (made, value))| (Keyed::<T>::key(index, *made), value))
    }

    /// Number of objects.
    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_what_has_gone_find_nothing() {
        let mut table = Keyed::new();
        let (a, b) = (table.insert('a'), table.insert('b'));
        assert_eq!((a, a.index(), b.index()), (Key::LEAST, 0, 1));
        assert_eq!(table.remove(a), Some('a'));
        let c = table.insert('c');
        // It stands where the first one stood.
        assert_eq!((c.index(), table.len()), (0, 2));
        assert_eq!((table.get(a), table.get(c)), (None, Some(&'c')));
        assert_eq!(table.get_mut(a), None);
        assert_eq!(table.remove(a), None);
        assert!(table.iter().map(|(key, _)| key).eq([c, b]));
        assert!(a < c && c < b && a.next() <= c && b < Key::MOST);
    }

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
