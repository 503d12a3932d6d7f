//! The clock of a run: the host's, or, for guests that read the time themselves, a line through the
//! processor's time stamp counter that follows it.

use std::arch::x86_64::_rdtsc;
use std::fs;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use varve_core::event::{ClockParameters, Now};

/// Fractional bits of the nanoseconds in a tick.
const SHIFT: u32 = 32;
/// Nanoseconds from one look at the host's clock to the next: at first, and at most. Each is twice as long as
/// the one before.
const FIRST_INTERVAL: u64 = 2_000_000;
const LAST_INTERVAL: u64 = 1_000_000_000;
/// Parts of a million by which the line may be steeper or flatter than the host's clock to come near it
/// again.
const SLEW: i128 = 500;
/// Nanoseconds by which wall-clock time may be wrong before it is set: the host's was set then.
const REAL_STEP: u64 = 1_000_000;
/// Nanoseconds that the line may be behind before it jumps: the machine slept, or nobody has looked for
/// hours.
const JUMP: i128 = 100_000_000;
/// Ticks by which processors may differ. A counter that is behind by more has been set back while the machine
/// slept.
const SKEW: u64 = 1 << 24;

/// Whether the counter of this machine's processors goes on steadily and equally on all of them: the host's
/// kernel relies on it itself.
pub(crate) fn counter_is_steady() -> bool {
    let source = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    fs::read_to_string(source).is_ok_and(|name| name.trim() == "tsc")
}

/// Monotonic since its start.
pub(crate) struct Clock {
    start: Instant,
    line: Option<Line>,
}

/// A point of both clocks.
#[derive(Clone, Copy)]
struct Point {
    tsc: u64,
    host: Now,
}

struct Line {
    now: ClockParameters,
    /// Nanoseconds in a tick as last measured, times `2^SHIFT`; 0 before that.
    rate: u64,
    /// The last look at the host's clock.
    seen: Point,
    /// Counter at which to look again (0: the first time, by the host's clock), and nanoseconds until then.
    due: u64,
    interval: u64,
}

impl Clock {
    pub(crate) fn new() -> Clock {
        Clock {
            start: Instant::now(),
            line: None,
        }
    }

    fn host(&self) -> Now {
        let real = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Now {
            mono: self.start.elapsed().as_nanos() as u64,
            real: real.as_nanos() as u64,
            spent: 0,
        }
    }

    fn point(&self) -> Point {
        // What lies between the two readings is an error of the line; the shortest of a few is a good one.
        let try_one = || {
            let before = counter();
            let host = self.host();
            let after = counter();
            let took = after.saturating_sub(before);
            let tsc = before + took / 2;
            (took, Point { tsc, host })
        };
        let tries = std::iter::repeat_with(try_one).take(3);
        let best = tries.min_by_key(|&(took, _)| took);
        best.map_or_else(|| try_one().1, |(_, point)| point)
    }

    /// The time is to be computed from the counter, from the first look on: how fast that goes takes a while
    /// to learn, which passes anyway while a sandbox starts.
    pub(crate) fn begin_line(&mut self) {
        let seen = self.point();
        self.line = Some(Line {
            now: ClockParameters {
                tsc: seen.tsc,
                mult: 0,
                shift: SHIFT,
                mono: seen.host.mono,
                real_offset: seen.host.real.wrapping_sub(seen.host.mono),
            },
            rate: 0,
            seen,
            due: 0,
            interval: FIRST_INTERVAL,
        });
    }

    /// The time now.
    pub(crate) fn now(&self) -> Now {
        match &self.line {
            Some(line) if line.rate > 0 => line.now.at(counter()),
            _ => self.host(),
        }
    }

    /// Whether it is time to [`look`](Self::look) at the host's clock.
    pub(crate) fn is_due(&self) -> bool {
        self.line.as_ref().is_some_and(|line| match line.due {
            0 => self.start.elapsed().as_nanos() as u64 >= line.seen.host.mono + FIRST_INTERVAL,
            due => {
                let counter = counter();
                counter >= due || counter.saturating_add(SKEW) < line.now.tsc
            }
        })
    }

    /// Compares the line with the host's clock and bends it towards that. Who computes with the old
    /// parameters after this has begun and with the new ones then could see time go back.
    pub(crate) fn look(&mut self) -> Option<ClockParameters> {
        let point = self.point();
        let line = self.line.as_mut()?;
        line.bend(point);
        Some(line.now)
    }
}

impl Line {
    /// Goes on from where the line is at a point, towards the host's clock.
    fn bend(&mut self, point: Point) {
        let first = self.rate == 0;
        self.rate = self.measured(point);
        self.interval = (self.interval * 2).min(LAST_INTERVAL);
        let at = match first {
            true => point.host.mono,
            false => self.now.at(point.tsc).mono,
        };
        let behind = i128::from(point.host.mono) - i128::from(at);
        let (mono, behind) = match behind > JUMP {
            true => (point.host.mono, 0),
            false => (at, behind),
        };
        let interval = i128::from(self.interval);
        let most = interval * SLEW / 1_000_000;
        let rate = i128::from(self.rate);
        let mult = rate + rate * behind.clamp(-most, most) / interval;
        let offset = point.host.real.wrapping_sub(mono);
        let wrong = offset.wrapping_sub(self.now.real_offset) as i64;
        self.now = ClockParameters {
            tsc: point.tsc,
            mult: u64::try_from(mult).unwrap_or(self.rate),
            shift: SHIFT,
            mono,
            real_offset: match first || wrong.unsigned_abs() > REAL_STEP {
                true => offset,
                false => self.now.real_offset,
            },
        };
        self.seen = point;
        let ticks = (u128::from(self.interval) << SHIFT) / u128::from(self.rate);
        let ticks = u64::try_from(ticks).unwrap_or(u64::MAX);
        self.due = point.tsc.saturating_add(ticks).max(1);
    }

    /// Nanoseconds in a tick since the last look, times `2^SHIFT`. What cannot be is not believed: one of the
    /// clocks stood still while the machine slept. At first, when little time lies between two looks, that is
    /// little.
    fn measured(&self, point: Point) -> u64 {
        let ticks = point.tsc.saturating_sub(self.seen.tsc).max(1);
        let passed = point.host.mono.saturating_sub(self.seen.host.mono);
        let rate = (u128::from(passed) << SHIFT) / u128::from(ticks);
        let rate = u64::try_from(rate).unwrap_or(u64::MAX).max(1);
        let most = match self.interval < LAST_INTERVAL {
            true => self.rate / 2,
            false => self.rate / 1000,
        };
        match self.rate > 0 && self.rate.abs_diff(rate) > most {
            true => self.rate,
            false => rate,
        }
    }
}

/// The time stamp counter of the processor that this runs on.
#[must_use]
pub fn counter() -> u64 {
    // SAFETY: every x86-64 processor has the instruction, and user mode may execute it: Linux forbids that
    // only to processes that ask for it (PR_SET_TSC).
    unsafe { _rdtsc() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_follows_the_host_and_never_goes_back() {
        if !counter_is_steady() {
            eprintln!("SKIP: the time stamp counter of this machine is not steady");
            return;
        }
        let mut clock = Clock::new();
        clock.begin_line();
        let mut last = clock.now();
        let mut looks = 0;
        while looks < 5 {
            if clock.is_due() {
                looks += 1;
                clock.look();
            }
            let now = clock.now();
            assert!(now.mono >= last.mono, "{now:?} after {last:?}");
            last = now;
        }
        let (before, now, after) = (clock.host(), clock.now(), clock.host());
        // A look that was interrupted makes the line wrong by as much; it bends back by half a thousandth.
        let near = 20_000_000;
        assert!(now.mono + near > before.mono && now.mono < after.mono + near);
        assert!(now.real + near > before.real && now.real < after.real + near);
    }

    const START: u64 = 1_000_000_000_000;

    /// A line after looks at a counter of 2 ticks a nanosecond, up to the longest interval. Gives the host's
    /// time too.
    fn converged() -> (Line, u64) {
        let mut line = Line {
            now: ClockParameters {
                tsc: 2 * START,
                mult: 0,
                shift: SHIFT,
                mono: START,
                real_offset: 5,
            },
            rate: 0,
            seen: point(START),
            due: 0,
            interval: FIRST_INTERVAL,
        };
        let mut mono = START;
        while line.interval < LAST_INTERVAL {
            mono += line.interval;
            line.bend(point(mono));
        }
        assert_eq!(line.now.mult, 1 << (SHIFT - 1));
        assert_eq!(line.now.at(2 * mono + 200), now(mono + 100));
        (line, mono)
    }

    fn now(mono: u64) -> Now {
        Now {
            mono,
            real: mono + 5,
            spent: 0,
        }
    }

    fn point(mono: u64) -> Point {
        Point {
            tsc: 2 * mono,
            host: now(mono),
        }
    }

    #[test]
    fn a_line_that_is_wrong_bends_and_is_right_in_the_end() {
        for wrong in [-20_000_000, -3000, 3000, 20_000_000] {
            let (mut line, mut mono) = converged();
            line.now.mono = line.now.mono.wrapping_add_signed(wrong);
            for _ in 0..60 {
                let before = line.now.at(2 * mono + 2 * LAST_INTERVAL).mono;
                mono += LAST_INTERVAL;
                line.bend(point(mono));
                assert_eq!(
                    line.now.at(2 * mono).mono,
                    before,
                    "it goes on where it was"
                );
                let steeper = line.now.mult.abs_diff(line.rate);
                assert!(
                    steeper <= line.rate / 2000 + 1,
                    "{steeper} of {}",
                    line.rate
                );
            }
            assert!(line.now.at(2 * mono).mono.abs_diff(mono) < 10, "{wrong}");
        }
    }

    #[test]
    fn a_clock_that_stood_still_is_not_a_rate() {
        // The counter went on for an hour, the host's clock did not: the line is ahead and stays so.
        let (mut line, mono) = converged();
        let rate = line.rate;
        let mut late = point(mono + LAST_INTERVAL);
        late.tsc += 7_200_000_000_000;
        late.host.real += 3_600_000_000_000;
        line.bend(late);
        assert_eq!(line.rate, rate);
        assert_eq!(
            line.now.at(late.tsc).mono,
            mono + LAST_INTERVAL + 3_600_000_000_000
        );
        assert!(line.now.at(late.tsc).real.abs_diff(late.host.real) < REAL_STEP);
        // The counter was set back: the line jumps to where the host is.
        let (mut line, mono) = converged();
        let mut early = point(mono + 10 * LAST_INTERVAL);
        early.tsc = 1000;
        line.bend(early);
        assert_eq!((line.rate, line.now.at(1000)), (rate, early.host));
    }

    #[test]
    fn wall_clock_time_is_set_as_on_the_host() {
        let (mut line, mono) = converged();
        let mut set = point(mono + LAST_INTERVAL);
        set.host.real -= 500_000_000_000;
        line.bend(set);
        assert_eq!(line.now.at(set.tsc), set.host);
    }
}
