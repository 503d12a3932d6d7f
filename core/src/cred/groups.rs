//! Supplementary groups: a list that the tasks which inherit it share (`struct group_info`).

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hash::{Hash, Hasher};
use core::ops::Deref;

/// Supplementary groups, sorted; what was given twice is there twice (setgroups(2)).
#[derive(Clone, Debug)]
pub(crate) struct Groups {
    /// Tells lists apart; those of the same number are one.
    number: u64,
    all: Arc<[u32]>,
}

impl Groups {
    /// A list of its own. `number` is no other list's, but for lists without groups.
    pub(crate) fn new(number: u64, mut all: Vec<u32>) -> Groups {
        all.sort_unstable();
        Groups {
            number,
            all: all.into(),
        }
    }

    /// No groups.
    pub(crate) fn none() -> Groups {
        Groups::new(0, Vec::new())
    }

    fn bytes(&self) -> u64 {
        size_of_val(&*self.all) as u64
    }
}

impl Deref for Groups {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        &self.all
    }
}

impl PartialEq for Groups {
    fn eq(&self, other: &Groups) -> bool {
        self.number == other.number || self.all == other.all
    }
}

impl Eq for Groups {}

impl Hash for Groups {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.all.hash(state);
    }
}

/// What the lists of all tasks take, each counted once.
#[derive(Clone, PartialEq, Eq, Debug, Default, Hash)]
pub(crate) struct Held {
    /// How many tasks have a list.
    tasks: BTreeMap<u64, u32>,
    bytes: u64,
}

impl Held {
    /// One more task has this list.
    pub(crate) fn add(&mut self, groups: &Groups) {
        if groups.is_empty() {
            return;
        }
        let tasks = self.tasks.entry(groups.number).or_insert(0);
        if *tasks == 0 {
            self.bytes += groups.bytes();
        }
        *tasks += 1;
    }

    /// One task less has it.
    pub(crate) fn remove(&mut self, groups: &Groups) {
        let Some(tasks) = self.tasks.get_mut(&groups.number) else {
            return;
        };
        *tasks -= 1;
        if *tasks == 0 {
            self.tasks.remove(&groups.number);
            self.bytes -= groups.bytes();
        }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn a_shared_list_counts_once() {
        let mut held = Held::default();
        let (one, none) = (Groups::new(1, vec![3, 2]), Groups::new(0, vec![]));
        let other = Groups::new(2, vec![2, 3]);
        assert!(one == other && one[..] == [2, 3]);
        for groups in [&one, &one.clone(), &none, &other] {
            held.add(groups);
        }
        assert_eq!(held.bytes(), 16);
        for (groups, left) in [(&none, 16), (&one, 16), (&one, 8), (&other, 0)] {
            held.remove(groups);
            assert_eq!(held.bytes(), left);
        }
        assert_eq!(held, Held::default());
    }
}
