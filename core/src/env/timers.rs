//! The queue of all timers that are armed, whatever they are.

use alloc::collections::BTreeSet;

use super::ids::FileId;
use crate::machine::ThreadId;

/// Whose timer it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum TimerKey {
    /// `ITIMER_REAL` of a process.
    Real(u32),
    /// A timer of timer_create(2): process and timer number.
    Posix(u32, u32),
    /// A timer that is read.
    File(FileId),
    /// A timer of this clock of processor time may expire.
    Cpu(CpuClock),
}

/// A clock of processor time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum CpuClock {
    /// All threads of a process, ended ones included.
    Process(u32),
    /// The same, in user mode alone.
    User(u32),
    Thread(ThreadId),
}

/// Timers by their expiry in `CLOCK_MONOTONIC` nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Timers(pub BTreeSet<(u64, TimerKey)>);

impl Timers {
    /// Arms a timer, or disarms it. `before` is what it is armed for now.
    pub(crate) fn arm(&mut self, key: TimerKey, before: Option<u64>, at: Option<u64>) {
        if let Some(before) = before {
            self.0.remove(&(before, key));
        }
        if let Some(at) = at {
            self.0.insert((at, key));
        }
    }

    /// The earliest expiry.
    pub(crate) fn next(&self) -> Option<u64> {
        self.0.first().map(|&(at, _)| at)
    }
}
