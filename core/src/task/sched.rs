//! How a thread wants to be scheduled: kept and shown, as the host schedules guest threads.

use crate::abi::raw::general as g;

/// Policy and priority of a thread (sched(7)); the nice value is beside it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Scheduling {
    pub policy: u32,
    /// Of real-time policies, else 0.
    pub priority: u32,
    /// `SCHED_RESET_ON_FORK`
    pub reset_on_fork: bool,
    /// Processors it may run on, a bit each.
    pub affinity: u64,
    /// Class and level of ioprio_set(2).
    pub io_priority: u16,
}

impl Scheduling {
    /// `SCHED_OTHER` on some processors.
    pub(crate) fn new(affinity: u64) -> Scheduling {
        Scheduling {
            policy: g::SCHED_NORMAL,
            priority: 0,
            reset_on_fork: false,
            affinity,
            io_priority: 0,
        }
    }

    /// The processor that the thread with this number is told to run on: one of those it may run on. The host
    /// knows where it really runs, and for how long.
    pub(crate) fn cpu(self, tid: u32) -> u32 {
        let mut rest = self.affinity;
        for _ in 0..tid % self.affinity.count_ones().max(1) {
            rest &= rest.wrapping_sub(1);
        }
        rest.trailing_zeros().min(63)
    }

    /// What a new thread gets, with its nice value.
    pub(crate) fn inherited(self, nice: i8) -> (Scheduling, i8) {
        match self.reset_on_fork {
            false => (self, nice),
            true => {
                let reset = Scheduling {
                    io_priority: self.io_priority,
                    ..Scheduling::new(self.affinity)
                };
                (
                    reset,
                    if is_real_time(self.policy) {
                        0
                    } else {
                        nice.max(0)
                    },
                )
            }
        }
    }
}

/// All processors, a bit each; programs are shown 64 at most.
pub(crate) fn all_cpus(cpus: u32) -> u64 {
    u64::MAX >> (64 - cpus.clamp(1, 64))
}

/// Whether a policy is one of those with priorities.
pub(crate) fn is_real_time(policy: u32) -> bool {
    policy == g::SCHED_FIFO || policy == g::SCHED_RR
}
