//! Lines of the log and of strace on their way out.
//!
//! They come up under the kernel lock, and what they are written to may be slow or stuck. So they go into a
//! queue with a bound, and a thread writes them, in their order. What does not fit is left out, and a line
//! says how many were; so is what a guest makes the log say faster than anybody reads. When the run ends
//! everything in the queue is written.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use varve_core::event::{Level, TracedCall};

/// Takes lines of the log and of strace.
pub type Sink = Box<dyn FnMut(SinkLine<'_>) + Send>;

/// A line.
#[derive(Debug)]
pub enum SinkLine<'a> {
    /// Of the kernel's or the host's log.
    Log(Level, &'a str),
    /// Of strace.
    Strace(TraceLine<'a>),
}

/// A line of strace.
#[derive(Clone, Copy, Debug)]
pub struct TraceLine<'a> {
    /// The thread, as the first process sees it.
    pub tid: u32,
    /// The call, if it is one and not a signal or an end.
    pub call: Option<TracedCall>,
    /// How long the call took, in nanoseconds.
    pub spent: u64,
    /// When it began, in nanoseconds since 1970.
    pub at: u64,
    /// The line; empty where calls are only counted.
    pub text: &'a str,
}

/// Most bytes that wait to be written, lines of strace for seconds. A line counts for some bytes more than it
/// has.
const BYTES_MAX: usize = 16 << 20;
const LINE_COST: usize = 64;
/// Most lines that are taken out at a time.
const TAKEN_MAX: usize = 1024;
/// Lines of the log at once and, after those, in a second. Those of strace were asked for one by one.
const BURST: f64 = 2000.0;
const RATE: f64 = 200.0;

/// A [`TraceLine`] that waits.
struct Trace {
    tid: u32,
    call: Option<TracedCall>,
    spent: u64,
    at: u64,
    text: String,
}

enum Line {
    Log(Level, String),
    Strace(Trace),
    /// So many were left out here.
    Missing(u64),
}

struct State {
    lines: VecDeque<Line>,
    bytes: usize,
    /// Lines of the log that may come now, and when that was so.
    allowance: f64,
    counted: Instant,
    over: bool,
}

struct Queue {
    state: Mutex<State>,
    news: Condvar,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: SinkLine<'_>, now: Instant) {
        let mut state = self.lock();
        let (len, allowed) = match line {
            SinkLine::Log(_, text) => (text.len(), state.may_log(now)),
            SinkLine::Strace(line) => (line.text.len(), true),
        };
        let bytes = state.bytes + len + LINE_COST;
        if allowed && bytes <= BYTES_MAX {
            state.bytes = bytes;
            state.lines.push_back(match line {
                SinkLine::Log(level, text) => Line::Log(level, text.to_owned()),
                SinkLine::Strace(line) => Line::Strace(Trace {
                    tid: line.tid,
                    call: line.call,
                    spent: line.spent,
                    at: line.at,
                    text: line.text.to_owned(),
                }),
            });
        } else if let Some(Line::Missing(count)) = state.lines.back_mut() {
            *count += 1;
        } else {
            state.lines.push_back(Line::Missing(1));
        }
        drop(state);
        self.news.notify_one();
    }

    /// Writes until the run is over and nothing is left.
    fn write(&self, sink: &mut Sink) {
        loop {
            let mut state = self.lock();
            while state.lines.is_empty() {
                if state.over {
                    return;
                }
                state = self
                    .news
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            let count = state.lines.len().min(TAKEN_MAX);
            let taken: Vec<Line> = state.lines.drain(..count).collect();
            drop(state);
            let mut written = 0;
            for line in taken {
                match line {
                    Line::Log(level, text) => {
                        written += text.len() + LINE_COST;
                        sink(SinkLine::Log(level, &text));
                    }
                    Line::Strace(line) => {
                        written += line.text.len() + LINE_COST;
                        sink(SinkLine::Strace(TraceLine {
                            tid: line.tid,
                            call: line.call,
                            spent: line.spent,
                            at: line.at,
                            text: &line.text,
                        }));
                    }
                    Line::Missing(count) => {
                        let what = format!(
                            "{count} lines of the log or of strace are missing here: they came faster than they could be written"
                        );
                        sink(SinkLine::Log(Level::Error, &what));
                    }
                }
            }
            // They took memory until now.
            self.lock().bytes -= written;
        }
    }
}

impl State {
    /// Whether the log may have one more line.
    fn may_log(&mut self, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.counted).as_secs_f64();
        self.counted = now;
        self.allowance = (self.allowance + since * RATE).min(BURST);
        let may = self.allowance >= 1.0;
        if may {
            self.allowance -= 1.0;
        }
        may
    }
}

/// The way of all lines of a run. Dropping it waits until they are written.
pub(crate) struct Lines {
    queue: Arc<Queue>,
    writer: Option<JoinHandle<()>>,
}

impl Lines {
    /// Begins to write to a sink.
    ///
    /// # Errors
    /// There is no room for a thread.
    pub(crate) fn begin(mut sink: Sink) -> io::Result<Lines> {
        let queue = Arc::new(Queue {
            state: Mutex::new(State {
                lines: VecDeque::new(),
                bytes: 0,
                allowance: BURST,
                counted: Instant::now(),
                over: false,
            }),
            news: Condvar::new(),
        });
        let its = queue.clone();
        let writer = thread::Builder::new()
            .name("lines".into())
            .stack_size(256 << 10)
            .spawn(move || its.write(&mut sink))?;
        Ok(Lines {
            queue,
            writer: Some(writer),
        })
    }

    /// Takes lines; never waits for what they are written to.
    pub(crate) fn sink(&self) -> Sink {
        let queue = self.queue.clone();
        Box::new(move |line| queue.push(line, Instant::now()))
    }
}

impl Lines {
    /// Waits until all lines are written.
    ///
    /// # Errors
    /// What the sink panicked with.
    pub(crate) fn finish(mut self) -> thread::Result<()> {
        self.end()
    }

    fn end(&mut self) -> thread::Result<()> {
        self.queue.lock().over = true;
        self.queue.news.notify_one();
        self.writer.take().map_or(Ok(()), JoinHandle::join)
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        // Who wants to know whether the sink panicked asks `finish`.
        let _ = self.end();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, Receiver, SyncSender};
    use std::time::Duration;

    use super::*;

    fn traced(tid: u32, text: &str) -> TraceLine<'_> {
        TraceLine {
            tid,
            call: None,
            spent: 0,
            at: 0,
            text,
        }
    }

    type Written = Arc<Mutex<Vec<String>>>;

    /// A sink that writes a line whenever it is let, and what it wrote.
    fn gate() -> (Sink, SyncSender<()>, Written) {
        let written = Written::default();
        let (open, gate): (_, Receiver<()>) = mpsc::sync_channel(0);
        let to = written.clone();
        let sink = move |line: SinkLine<'_>| {
            // Once the sender is gone, all pass.
            let _ = gate.recv();
            let text = match line {
                SinkLine::Log(_, text) => text.to_owned(),
                SinkLine::Strace(line) => format!("[{}] {}", line.tid, line.text),
            };
            to.lock().unwrap().push(text);
        };
        (Box::new(sink), open, written)
    }

    #[test]
    fn lines_keep_their_order_and_none_is_lost_at_the_end() {
        let (sink, open, written) = gate();
        let lines = Lines::begin(sink).unwrap();
        let mut to = lines.sink();
        for number in 0..5000 {
            let text = format!("call {number}");
            match number % 5 {
                0 if number < 4000 => to(SinkLine::Log(Level::Warn, &text)),
                _ => to(SinkLine::Strace(traced(7, &text))),
            }
        }
        assert!(written.lock().unwrap().is_empty(), "nobody waited");
        drop(open);
        drop(lines);
        let written = written.lock().unwrap();
        assert_eq!(written.len(), 5000);
        for (number, line) in written.iter().enumerate() {
            assert!(line.ends_with(&format!("call {number}")), "{line}");
        }
    }

    #[test]
    fn what_does_not_fit_is_counted_in_its_place() {
        let (sink, open, written) = gate();
        let lines = Lines::begin(sink).unwrap();
        let mut to = lines.sink();
        let long = "x".repeat(1 << 20);
        for _ in 0..40 {
            to(SinkLine::Strace(traced(1, &long)));
        }
        drop(open);
        // Room comes back when lines have been written.
        while written.lock().unwrap().len() < 16 {
            thread::sleep(Duration::from_millis(1));
        }
        drop(lines);
        let written = written.lock().unwrap();
        let (whole, words) = written.split_at(15);
        assert!(whole.iter().all(|line| line.len() > 1 << 20));
        // The writer may have taken the word of the first ones before the last were lost.
        let missing = words.iter().map(|line| -> u32 {
            let (count, rest) = line.split_once(' ').unwrap();
            assert!(rest.starts_with("lines of the log"), "{line}");
            count.parse().unwrap()
        });
        assert_eq!(missing.sum::<u32>(), 25);
    }

    #[test]
    fn the_log_is_held_to_a_rate_and_strace_is_not() {
        let lines = Lines::begin(Box::new(|_| {})).unwrap();
        let start = Instant::now();
        let may = |after: u64, count: u32| {
            let mut state = lines.queue.lock();
            let now = start + Duration::from_secs(after);
            (0..count).filter(|_| state.may_log(now)).count()
        };
        assert_eq!(may(0, 5000), BURST as usize);
        assert_eq!(may(1, 5000), RATE as usize);
        assert_eq!(may(3, 5000), 2 * RATE as usize);
        assert_eq!(may(1000, 5000), BURST as usize);
    }
}
