//! The load average: an exponentially damped mean of how many threads run, over 1, 5 and 15 minutes (proc(5),
//! `/proc/loadavg`).

use crate::Kernel;

/// Nanoseconds between two samples (`LOAD_FREQ`).
const PERIOD: u64 = 5_000_000_000;
/// Fraction bits of an average (`FSHIFT`).
const SHIFT: u32 = 11;
/// What stays of an average over a period, as fractions: `exp(-5s/1min)` and so on (`EXP_1`, `EXP_5`,
/// `EXP_15`).
const DECAY: [u64; 3] = [1884, 2014, 2037];
/// Periods behind which nothing is left of an average.
const PERIODS_MAX: u64 = 4096;

/// The averages.
#[derive(Clone, Copy, Debug, Default, Hash)]
pub(crate) struct Load {
    averages: [u64; 3],
    /// `CLOCK_MONOTONIC` time of the last sample.
    sampled: u64,
}

impl Load {
    /// Threads that run, over 1, 5 and 15 minutes, in fractions of 2^16 (as sysinfo(2) has them).
    pub(crate) fn averages(&self) -> [u64; 3] {
        self.averages.map(|average| average << (16 - SHIFT))
    }

    /// The averages as `/proc/loadavg` shows them: whole and hundredths.
    pub(crate) fn hundredths(&self) -> [(u64, u64); 3] {
        const HALF: u64 = (1 << SHIFT) / 200;
        self.averages.map(|average| {
            let average = average + HALF;
            (
                average >> SHIFT,
                ((average & ((1 << SHIFT) - 1)) * 100) >> SHIFT,
            )
        })
    }

    fn period(&mut self, running: u64) {
        let active = running << SHIFT;
        for (average, decay) in self.averages.iter_mut().zip(DECAY) {
            let mut new = *average * decay + active * ((1 << SHIFT) - decay);
            if active >= *average {
                new += (1 << SHIFT) - 1;
            }
            *average = new >> SHIFT;
        }
    }
}

/// Takes the samples that are due.
pub(crate) fn sample(k: &mut Kernel) {
    let now = k.env.now.mono;
    if k.system.load.sampled == 0 {
        k.system.load.sampled = now;
    }
    let due = now.saturating_sub(k.system.load.sampled) / PERIOD;
    if due == 0 {
        return;
    }
    let running = u64::from(super::cputime::running(k));
    for _ in 0..due.min(PERIODS_MAX) {
        k.system.load.period(running);
    }
    k.system.load.sampled += due * PERIOD;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_come_near_to_what_runs_and_go_down_again() {
        let mut load = Load::default();
        for _ in 0..12 {
            load.period(2);
        }
        let [(one, _), (five, _), _] = load.hundredths();
        assert_eq!((one, five), (1, 0));
        for _ in 0..500 {
            load.period(2);
        }
        assert_eq!(load.hundredths()[0], (2, 0));
        for _ in 0..500 {
            load.period(0);
        }
        assert_eq!(load.hundredths()[0], (0, 0));
    }
}
