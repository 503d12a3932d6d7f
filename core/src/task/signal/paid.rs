//! Who pays for signals that wait and for timers of timer_create(2): the user of the process, up to its
//! `RLIMIT_SIGPENDING`.

use alloc::collections::BTreeMap;

/// Signals and timers by user.
#[derive(Clone, PartialEq, Eq, Debug, Default, Hash)]
pub(crate) struct Paid {
    users: BTreeMap<u32, u32>,
    total: u64,
}

impl Paid {
    pub(crate) fn add(&mut self, user: u32) {
        *self.users.entry(user).or_default() += 1;
        self.total += 1;
    }

    pub(crate) fn remove(&mut self, user: u32) {
        if let Some(count) = self.users.get_mut(&user) {
            *count -= 1;
            self.total -= 1;
            if *count == 0 {
                self.users.remove(&user);
            }
        }
    }

    /// What a user pays for.
    pub(crate) fn of(&self, user: u32) -> u64 {
        u64::from(self.users.get(&user).copied().unwrap_or(0))
    }

    /// Bytes that all of them take.
    pub(crate) fn held(&self) -> u64 {
        const COST: u64 = 256;
        self.total * COST
    }
}
