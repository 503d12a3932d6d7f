//! What can be asked of a run from outside.

use std::fmt;
use std::io;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::io::Errno;
use varve_core::event::{ExitStatus, Input};

use crate::error::RunError;

/// The greatest number of a signal.
const SIGNAL_MAX: u8 = 64;
const SIGKILL: u8 = 9;

/// A run that is under way. It goes on without this value too.
#[derive(Debug)]
pub struct Run {
    pub(super) controls: Controls,
    pub(super) thread: JoinHandle<Result<ExitStatus, RunError>>,
}

impl Run {
    /// What asks things of it.
    pub fn controls(&self) -> &Controls {
        &self.controls
    }

    /// Whether it is over, so that [`wait`](Run::wait) does not wait.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits until it is over.
    ///
    /// # Errors
    /// The run failed; how the first program ended is not known then.
    pub fn wait(self) -> Result<ExitStatus, RunError> {
        match self.thread.join() {
            Ok(result) => result,
            Err(payload) => Err(RunError::panic(&*payload)),
        }
    }
}

/// Counts of a sandbox.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Stats {
    /// Time since it was booted.
    pub uptime: Duration,
    /// Guest threads that there are.
    pub threads: usize,
    /// Bytes of the host's memory that hold memory of guests. What they map of images is the host's page
    /// cache, and not among them.
    pub memory: u64,
    /// How often the kernel was told something: system calls, page faults, interruptions, signals, timers.
    pub inputs: u64,
}

/// Asks things of a sandbox, from any thread. A clone asks the same sandbox; none keeps it alive.
#[derive(Clone)]
pub struct Controls(pub(super) Weak<dyn Controlled>);

impl fmt::Debug for Controls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Controls").finish_non_exhaustive()
    }
}

/// What a run does for [`Controls`], whatever platform it is on.
pub(super) trait Controlled: Send + Sync {
    fn take(self: Arc<Self>, input: Input);
    fn stats(&self) -> Stats;
}

impl Controls {
    fn tell(&self, input: Input) -> io::Result<()> {
        let run = self.0.upgrade().ok_or(Errno::SRCH)?;
        run.take(input);
        Ok(())
    }

    /// Sends a signal to the first process, as from another process of the host.
    ///
    /// # Errors
    /// `EINVAL` if there is no such signal, `ESRCH` if the sandbox has ended.
    pub fn signal(&self, signal: u8) -> io::Result<()> {
        match (1..=SIGNAL_MAX).contains(&signal) {
            true => self.tell(Input::Signal { signal }),
            false => Err(Errno::INVAL.into()),
        }
    }

    /// Kills the first process and with it all others.
    ///
    /// # Errors
    /// `ESRCH` if the sandbox has ended.
    pub fn kill(&self) -> io::Result<()> {
        self.signal(SIGKILL)
    }

    /// Says that the terminal on standard input has this size now.
    ///
    /// # Errors
    /// `ESRCH` if the sandbox has ended.
    pub fn resize(&self, rows: u16, cols: u16) -> io::Result<()> {
        self.tell(Input::Resize { rows, cols })
    }

    /// What the sandbox uses now; `None` once it has ended.
    pub fn stats(&self) -> Option<Stats> {
        Some(self.0.upgrade()?.stats())
    }
}
