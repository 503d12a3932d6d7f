//! The kernel lock.
//!
//! Fair to those that wait: a lock that is handed over in order of arrival at least every millisecond, and
//! always after an input that took that long. Between such hand-overs a thread that is running may take it
//! before one that has yet to be woken; handing over each time would cost all threads a switch for each
//! system call. Taking it when nobody else wants it is one compare-and-exchange.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};

/// The lock over the kernel and all that goes with it, and a condition variable for what is new.
pub(super) struct KernelLock<S> {
    state: Mutex<S>,
    /// Rings when the deadline changed or the run is over.
    news: Condvar,
    /// A thread panicked while it held the lock.
    poisoned: AtomicBool,
}

impl<S> KernelLock<S> {
    pub(super) fn new(state: S) -> KernelLock<S> {
        KernelLock {
            state: Mutex::new(state),
            news: Condvar::new(),
            poisoned: AtomicBool::new(false),
        }
    }

    pub(super) fn lock(&self) -> Held<'_, S> {
        Held {
            guard: self.state.lock(),
            lock: self,
        }
    }

    /// Whether a thread panicked while it held the lock: the kernel is in a state nobody should go on with,
    /// and is given no more inputs. What is beside it can still be used, to end the run.
    pub(super) fn is_poisoned(&self) -> bool {
        // Written and read under the lock.
        self.poisoned.load(Ordering::Relaxed)
    }

    /// Wakes whoever waits for news ([`Held::wait`]).
    pub(super) fn notify(&self) {
        self.news.notify_all();
    }
}

/// The kernel lock, held.
pub(super) struct Held<'a, S> {
    guard: MutexGuard<'a, S>,
    lock: &'a KernelLock<S>,
}

impl<S> Held<'_, S> {
    /// Lets all that wait for the lock now have it first.
    pub(super) fn give_way(&mut self) {
        MutexGuard::bump(&mut self.guard);
    }

    /// Lets go of the lock until there is something new, or for this long.
    pub(super) fn wait(&mut self, at_most: Option<Duration>) {
        match at_most {
            Some(time) => drop(self.lock.news.wait_for(&mut self.guard, time)),
            None => self.lock.news.wait(&mut self.guard),
        }
    }
}

impl<S> Deref for Held<'_, S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.guard
    }
}

impl<S> DerefMut for Held<'_, S> {
    fn deref_mut(&mut self) -> &mut S {
        &mut self.guard
    }
}

impl<S> Drop for Held<'_, S> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.lock.poisoned.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
    use std::thread;
    use std::time::Instant;

    /// Holds the lock again and again for 2 ms, at once after letting go of it, until told to end.
    fn hog(lock: &KernelLock<u32>, end: &AtomicBool) {
        while !end.load(SeqCst) {
            let mut held = lock.lock();
            *held += 1;
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_millis(2) {}
        }
    }

    #[test]
    fn whoever_waits_gets_the_lock_before_others_have_it_twice() {
        let lock = KernelLock::new(0);
        let end = AtomicBool::new(false);
        let waits = AtomicU32::new(0);
        let most = thread::scope(|scope| {
            scope.spawn(|| hog(&lock, &end));
            scope.spawn(|| hog(&lock, &end));
            let waiter = scope.spawn(|| {
                let mut most = 0;
                for _ in 0..20 {
                    // What the count was when this thread began to wait is known up to one input.
                    let before = waits.load(SeqCst);
                    let held = lock.lock();
                    most = most.max(*held - before);
                    waits.store(*held, SeqCst);
                }
                most
            });
            let most = waiter.join().expect("no panic");
            end.store(true, SeqCst);
            most
        });
        // Each of the two others once; on a busy machine also while this thread is not running on its way to
        // the lock.
        assert!(most <= 40, "{most} inputs of others came first");
    }

    #[test]
    fn giving_way_lets_a_waiter_in() {
        let lock = KernelLock::new(0);
        let mut held = lock.lock();
        thread::scope(|scope| {
            scope.spawn(|| *lock.lock() = 1);
            // It waits sooner or later; then it is next.
            while *held == 0 {
                held.give_way();
            }
        });
        assert_eq!(*held, 1);
    }
}
