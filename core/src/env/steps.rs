//! Steps: how much one input may take.
//!
//! A step is some 100 ns of work on one of many things that a program made: an entry of poll(2), a component
//! of a path, a line of `/proc/PID/maps`. Whatever loops over such things says how many it has dealt with
//! ([`Cx::spend`](crate::kernel::Cx::spend)), and when the steps of an input are used up it leaves off and
//! goes on at a later one, its progress kept. So no input keeps the kernel for longer than about a
//! millisecond.

/// Steps of one input.
pub(crate) const STEPS: u64 = 4096;
/// Steps after which a thread that made a call is not kept any longer by others that became ready.
pub(crate) const OTHERS: u64 = 1024;
/// What one system call takes at least, with what its result brings with it.
pub(crate) const CALL: u64 = 8;

/// Steps of the input that is being handled.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct Steps {
    spent: u64,
    end: u64,
    /// After so many nothing is begun any more that became ready.
    last: u64,
}

impl Steps {
    /// Those of an input that belongs to nobody: what was left over is dealt with.
    pub(crate) fn new() -> Steps {
        Steps {
            spent: 0,
            end: STEPS,
            last: STEPS,
        }
    }

    /// Those of one that a thread waits for: what it has not caused itself shall not keep it for long.
    pub(crate) fn of_one() -> Steps {
        Steps {
            last: OTHERS,
            ..Steps::new()
        }
    }

    pub(crate) fn spend(&mut self, steps: u64) {
        self.spent = self.spent.saturating_add(steps);
    }

    /// How many there have been.
    pub(crate) fn spent(&self) -> u64 {
        self.spent
    }

    /// How many are left.
    pub(crate) fn left(&self) -> u64 {
        self.end.saturating_sub(self.spent)
    }

    /// Whether one more thing that became ready may be begun.
    pub(crate) fn may_begin(&self) -> bool {
        self.spent < self.last
    }

    /// What must be seen through now gets as many again.
    pub(crate) fn extend(&mut self) {
        self.end = self.spent + STEPS;
        self.last = self.end;
    }
}
