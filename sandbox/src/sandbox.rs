//! A sandbox that runs.

use std::io::{self, PipeReader, PipeWriter, Read};
use std::thread;

use varve_core::boot::BootConfig;
use varve_core::event::ExitStatus;
use varve_host::{Controls, Run, RunError, Stats};

use crate::builder::Builder;

/// Bytes that are read at a time.
const PART: usize = 64 << 10;

/// A sandbox that runs, or has ended. It goes on when this value is dropped, as a
/// [`Child`](std::process::Child) does.
#[derive(Debug)]
pub struct Sandbox {
    /// What the first program reads, if it is [`Stdio::piped`](crate::Stdio::piped).
    pub stdin: Option<PipeWriter>,
    /// What it writes, if that is piped.
    pub stdout: Option<PipeReader>,
    /// What it writes to standard error, if that is piped.
    pub stderr: Option<PipeReader>,
    pub(crate) run: Run,
    /// Bytes of each stream that are kept.
    pub(crate) output_max: usize,
}

impl Sandbox {
    /// Begins to make a sandbox. [`program`](crate::program) gives the configuration of a program, which says
    /// what a program sees; the [`Builder`] says what the host gives for it. Its `stdio` is made of the
    /// streams that it is given here.
    pub fn builder(config: BootConfig) -> Builder {
        Builder::new(config)
    }

    /// Waits until the first program has ended, and with it all others. A pipe to standard input is closed
    /// before.
    ///
    /// # Errors
    /// The run failed; all programs have ended.
    pub fn wait(mut self) -> Result<ExitStatus, RunError> {
        self.stdin = None;
        self.run.wait()
    }

    /// Reads what is written to pipes until the sandbox has ended. Of each stream so many bytes are kept as
    /// [`Builder::output_max`] says; the rest is read too, so that no program waits.
    ///
    /// # Errors
    /// As [`wait`](Sandbox::wait).
    pub fn wait_with_output(mut self) -> Result<Output, RunError> {
        self.stdin = None;
        let (stdout, stderr) = (self.stdout.take(), self.stderr.take());
        let most = self.output_max;
        let what = RunError::host("what the sandbox writes");
        let read = thread::scope(|scope| {
            let errors = scope.spawn(|| keep(stderr, most));
            let written = keep(stdout, most);
            let errors = errors.join().map_err(|_| io::Error::other("a panic"));
            Ok((written?, errors??))
        });
        let ((stdout, more), (stderr, more_errors)) = read.map_err(what)?;
        Ok(Output {
            status: self.run.wait()?,
            stdout,
            stderr,
            truncated: more || more_errors,
        })
    }

    /// Whether it has ended, so that [`wait`](Sandbox::wait) does not wait.
    pub fn is_finished(&self) -> bool {
        self.run.is_finished()
    }

    /// What asks things of it from elsewhere, while this value waits for its end.
    pub fn controls(&self) -> Controls {
        self.run.controls().clone()
    }

    /// Sends a signal to the first process, as from another process of the host.
    ///
    /// # Errors
    /// `EINVAL` if there is no such signal, `ESRCH` if the sandbox has ended.
    pub fn signal(&self, signal: u8) -> io::Result<()> {
        self.run.controls().signal(signal)
    }

    /// Kills the first process and with it all others.
    ///
    /// # Errors
    /// `ESRCH` if the sandbox has ended.
    pub fn kill(&self) -> io::Result<()> {
        self.run.controls().kill()
    }

    /// Says that the terminal on standard input has this size now.
    ///
    /// # Errors
    /// `ESRCH` if the sandbox has ended.
    pub fn resize(&self, rows: u16, cols: u16) -> io::Result<()> {
        self.run.controls().resize(rows, cols)
    }

    /// What it uses now; `None` once it has ended.
    pub fn stats(&self) -> Option<Stats> {
        self.run.controls().stats()
    }
}

/// How a sandbox ended, and what it wrote.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Output {
    /// How the first program ended.
    pub status: ExitStatus,
    /// What was written to standard output.
    pub stdout: Vec<u8>,
    /// What was written to standard error.
    pub stderr: Vec<u8>,
    /// More was written than is kept.
    pub truncated: bool,
}

/// Reads a pipe to its end; gives the first bytes, and whether there were more.
fn keep(pipe: Option<PipeReader>, most: usize) -> io::Result<(Vec<u8>, bool)> {
    let (mut kept, mut more) = (Vec::new(), false);
    let Some(mut pipe) = pipe else {
        return Ok((kept, more));
    };
    let mut part = [0; PART];
    loop {
        let count = match pipe.read(&mut part) {
            Ok(0) => return Ok((kept, more)),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let room = count.min(most - kept.len());
        kept.extend_from_slice(&part[..room]);
        more |= room < count;
    }
}
