//! Grace periods: which batches of outputs guest threads may still overlook.
//!
//! What a batch takes away from guests (a page, a space, a thread's right to run) may be reached by a thread
//! that runs at that time, until it is seen stopped. So a platform keeps a [`Hold`] for every such thread,
//! and the kernel uses the frames that a batch freed when nobody holds it, nor one before it, any more.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The batches of a run.
#[derive(Debug, Default)]
pub struct Grace {
    /// Number of the batch that is being executed, or was last.
    batch: AtomicU64,
    /// How many holds there are.
    count: AtomicU64,
    holds: Mutex<Holds>,
}

#[derive(Debug, Default)]
struct Holds {
    next: u64,
    /// The batch of each, and its number.
    all: BTreeSet<(u64, u64)>,
}

impl Grace {
    fn holds(&self) -> MutexGuard<'_, Holds> {
        // Each change is a single one.
        self.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The outputs that are executed from now on are those of this batch.
    pub fn begin(&self, batch: u64) {
        self.batch.store(batch, Ordering::SeqCst);
    }

    /// Number of the batch that is being executed.
    pub fn batch(&self) -> u64 {
        self.batch.load(Ordering::SeqCst)
    }

    /// How many batches are in force: all that are held by nobody and have nobody who holds one before them.
    /// Called when those that were begun have been executed.
    pub fn flushed(&self) -> u64 {
        // Holds are taken where outputs are executed, by whoever asks here next; elsewhere they only go.
        let first = match self.count.load(Ordering::SeqCst) {
            0 => None,
            _ => self.holds().all.first().map(|&(batch, _)| batch),
        };
        first.unwrap_or_else(|| self.batch() + 1)
    }

    /// Keeps the batch that is being executed, and those after it, from being in force until it is dropped.
    pub fn hold(self: &Arc<Grace>) -> Hold {
        let mut holds = self.holds();
        let key = (self.batch(), holds.next);
        holds.next += 1;
        holds.all.insert(key);
        self.count.fetch_add(1, Ordering::SeqCst);
        drop(holds);
        let grace = self.clone();
        Hold { grace, key }
    }
}

/// A guest thread that may overlook a batch.
#[derive(Debug)]
pub struct Hold {
    grace: Arc<Grace>,
    key: (u64, u64),
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut holds = self.grace.holds();
        holds.all.remove(&self.key);
        self.grace.count.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_in_force_when_it_and_all_before_are_held_by_nobody() {
        let grace = Arc::new(Grace::default());
        assert_eq!(grace.flushed(), 1);
        grace.begin(5);
        let first = grace.hold();
        grace.begin(6);
        let (second, third) = (grace.hold(), grace.hold());
        grace.begin(7);
        assert_eq!(grace.flushed(), 5);
        drop(second);
        assert_eq!(grace.flushed(), 5);
        drop(first);
        assert_eq!(grace.flushed(), 6);
        drop(third);
        assert_eq!(grace.flushed(), 8);
    }
}
