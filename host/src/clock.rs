//! The clock of a run: the host's, or, for guests that read the time themselves, a line through the processor's time stamp counter that
//! follows it.

use std::arch::x86_64::_rdtsc;
use std::fs;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use varve_core::event::{ClockParameters, Now};

/// Fractional bits of the nanoseconds in a tick.
const SHIFT: u32 = 32;
/// Nanoseconds from one look at the host's clock to the next: at first, and at most. Each is twice as long as the one before.
const FIRST_INTERVAL: u64 = 2_000_000;
const LAST_INTERVAL: u64 = 1_000_000_000;
/// Parts of a million by which the line may be steeper or flatter than the host's clock to come near it again.
const SLEW: i128 = 500;
/// Nanoseconds by which wall-clock time may be wrong before it is set: the host's was set then.
const REAL_STEP: u64 = 1_000_000;

/// Whether the counter of this machine's processors goes on steadily and equally on all of them: the host's kernel relies on it itself.
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
        }
    }

    fn point(&self) -> Point {
        // What lies between the two readings is an error of the line; the shortest of a few is a good one.
        let try_one = || {
            let before = counter();
            let host = self.host();
            let after = counter();
            let tsc = before + (after - before) / 2;
            (after - before, Point { tsc, host })
        };
        let tries = std::iter::repeat_with(try_one).take(3);
        let best = tries.min_by_key(|&(took, _)| took);
        best.map_or_else(|| try_one().1, |(_, point)| point)
    }

    /// The time is to be computed from the counter, from the first look on: how fast that goes takes a while to learn, which passes anyway
    /// while a sandbox starts.
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
            seen,
            due: 0,
            interval: FIRST_INTERVAL,
        });
    }

    /// The time now.
    pub(crate) fn now(&self) -> Now {
        match &self.line {
            Some(line) if line.now.mult > 0 => line.now.at(counter()),
            _ => self.host(),
        }
    }

    /// Whether it is time to [`look`](Self::look) at the host's clock.
    pub(crate) fn is_due(&self) -> bool {
        self.line.as_ref().is_some_and(|line| match line.due {
            0 => self.start.elapsed().as_nanos() as u64 >= line.seen.host.mono + FIRST_INTERVAL,
            due => counter() >= due,
        })
    }

    /// Compares the line with the host's clock and bends it towards that. Who computes with the old parameters after this has begun and
    /// with the new ones then could see time go back.
    pub(crate) fn look(&mut self) -> Option<ClockParameters> {
        let point = self.point();
        let line = self.line.as_mut()?;
        let ticks = point.tsc.saturating_sub(line.seen.tsc).max(1);
        let passed = point.host.mono.saturating_sub(line.seen.host.mono);
        // 2^32 times nanoseconds fit in 128 bits.
        let rate = (u128::from(passed) << SHIFT) / u128::from(ticks);
        let rate = u64::try_from(rate).unwrap_or(u64::MAX).max(1);
        let first = line.now.mult == 0;
        let at = match first {
            true => point.host,
            false => line.now.at(point.tsc),
        };
        line.interval = (line.interval * 2).min(LAST_INTERVAL);
        let behind = i128::from(point.host.mono) - i128::from(at.mono);
        let most = i128::from(line.interval) * SLEW / 1_000_000;
        let bend = i128::from(rate) * behind.clamp(-most, most) / i128::from(line.interval);
        let mult = (i128::from(rate) + bend).max(1);
        let offset = point.host.real.wrapping_sub(point.host.mono);
        let wrong = offset.wrapping_sub(line.now.real_offset) as i64;
        line.now = ClockParameters {
            tsc: point.tsc,
            mult: u64::try_from(mult).unwrap_or(rate),
            shift: SHIFT,
            mono: at.mono,
            real_offset: match first || wrong.unsigned_abs() > REAL_STEP {
                true => offset,
                false => line.now.real_offset,
            },
        };
        line.seen = point;
        let ticks = (u128::from(line.interval) << SHIFT) / u128::from(rate);
        let ticks = u64::try_from(ticks).unwrap_or(u64::MAX);
        line.due = point.tsc.saturating_add(ticks).max(1);
        Some(line.now)
    }
}

/// The time stamp counter.
fn counter() -> u64 {
    // SAFETY: every x86-64 processor has the instruction, and user mode may execute it: Linux forbids that only to processes that ask for it
    // (PR_SET_TSC).
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
}
