//! What a sandbox is made of.

use std::fmt;
use std::io;
use std::num::NonZeroU32;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use varve_core::abi::PAGE_SIZE;
use varve_core::boot::BootConfig;
use varve_host::{
    AnyPlatform, Backings, HostImage, HostSetup, PlatformError, Recording, RunError, Sink, SinkLine,
};
use varve_host_kvm::KickSignal;

use crate::layer::Layer;
use crate::platform::{self, PlatformChoice};
use crate::sandbox::{Output, Sandbox};
use crate::stdio::Stdio;

/// Least bytes that the memory file has beyond a limit: for the kernel, and for what is free but not yet
/// zeroed.
const MEMORY_SPARE: u64 = 16 << 20;
/// Least frames of a sandbox.
const FRAMES_MIN: u32 = 1024;
/// Bytes of each stream that [`Builder::output`] keeps, unless it is told otherwise.
const OUTPUT_MAX: usize = 64 << 20;

/// What a sandbox may use at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Limits {
    /// Bytes of memory; past it the largest process in the sandbox is killed. `None`: what the machine has.
    pub memory: Option<u64>,
    /// Threads at a time, those of all processes together; past it clone(2) gives `EAGAIN`. `None`: as many
    /// as the host has room for, which bounds them in any case.
    pub threads: Option<u32>,
}

/// Makes the platform of a sandbox over the files that guests map.
type MakePlatform = Box<dyn FnOnce(Arc<Backings>, &mut Sink) -> Result<AnyPlatform, PlatformError>>;

enum Platform {
    Choice(PlatformChoice),
    Own(MakePlatform),
}

/// A sandbox in the making.
#[must_use = "a sandbox runs when it is spawned"]
pub struct Builder {
    config: BootConfig,
    images: Vec<(String, HostImage)>,
    trees: Vec<OwnedFd>,
    layers: Vec<Layer>,
    /// Standard input, output and error, where they were said.
    stdio: [Option<Stdio>; 3],
    platform: Platform,
    kick_signal: Option<KickSignal>,
    log: Sink,
    recording: Option<Recording>,
    check_every: Option<NonZeroU32>,
    output_max: usize,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Builder");
        shown.field("config", &self.config);
        shown.field("layers", &self.layers);
        shown.field("stdio", &self.stdio);
        shown.finish_non_exhaustive()
    }
}

impl Builder {
    pub(crate) fn new(config: BootConfig) -> Builder {
        Builder {
            config,
            images: Vec::new(),
            trees: Vec::new(),
            layers: Vec::new(),
            stdio: [None, None, None],
            platform: Platform::Choice(PlatformChoice::Auto),
            kick_signal: None,
            log: Box::new(|_| {}),
            recording: None,
            check_every: None,
            output_max: OUTPUT_MAX,
        }
    }

    /// Puts layers on top of the root that the configuration has, lowest first. At most
    /// [`MAX_LAYERS`](varve_core::boot::MAX_LAYERS) can be stacked.
    pub fn layers(mut self, layers: impl IntoIterator<Item = Layer>) -> Builder {
        self.layers.extend(layers);
        self
    }

    /// Hands in the images, each with the name that messages call it, and the host directories that the
    /// configuration names by their numbers in these lists.
    pub fn files(mut self, images: Vec<(String, HostImage)>, trees: Vec<OwnedFd>) -> Builder {
        self.images = images;
        self.trees = trees;
        self
    }

    /// Sets standard input, output and error.
    pub fn stdio(mut self, streams: [Stdio; 3]) -> Builder {
        self.stdio = streams.map(Some);
        self
    }

    /// Sets standard input; by default this process's own for [`spawn`](Builder::spawn), nothing for
    /// [`output`](Builder::output).
    pub fn stdin(mut self, stream: impl Into<Stdio>) -> Builder {
        self.stdio[0] = Some(stream.into());
        self
    }

    /// Sets standard output; by default this process's own for [`spawn`](Builder::spawn), a pipe for
    /// [`output`](Builder::output).
    pub fn stdout(mut self, stream: impl Into<Stdio>) -> Builder {
        self.stdio[1] = Some(stream.into());
        self
    }

    /// Sets standard error; by default as [`stdout`](Builder::stdout).
    pub fn stderr(mut self, stream: impl Into<Stdio>) -> Builder {
        self.stdio[2] = Some(stream.into());
        self
    }

    /// Sets what it may use at most.
    pub fn limits(mut self, limits: Limits) -> Builder {
        self.config.memory_limit = limits.memory;
        self.config.threads_max = limits.threads.unwrap_or(u32::MAX);
        self
    }

    /// Chooses what runs it; [`PlatformChoice::Auto`] by default.
    pub fn platform(mut self, choice: PlatformChoice) -> Builder {
        self.platform = Platform::Choice(choice);
        self
    }

    /// Runs it on a platform that `make` makes over the files that guests map. `make` may log.
    pub fn platform_with(
        mut self,
        make: impl FnOnce(Arc<Backings>, &mut Sink) -> Result<AnyPlatform, PlatformError> + 'static,
    ) -> Builder {
        self.platform = Platform::Own(Box::new(make));
        self
    }

    /// Lets it use KVM, which needs a signal of this process. Without it [`PlatformChoice::Auto`] is ptrace.
    pub fn kick_signal(mut self, signal: KickSignal) -> Builder {
        self.kick_signal = Some(signal);
        self
    }

    /// Takes the lines of the log and of strace, one after the other, on a thread of the sandbox. What comes
    /// faster than it takes them is left out, and a line says how much that was. The end of the run waits
    /// until it has taken all; a panic in it is the end's error.
    pub fn log(mut self, sink: impl FnMut(SinkLine<'_>) + Send + 'static) -> Builder {
        self.log = Box::new(sink);
        self
    }

    /// Records the run, for `varve replay`.
    pub fn record(mut self, recording: Recording) -> Builder {
        self.recording = Some(recording);
        self
    }

    /// Checks the kernel's own bookkeeping after so many inputs and at the end, which takes time in
    /// proportion to all that there is. The run fails if it is wrong.
    pub fn check_every(mut self, inputs: NonZeroU32) -> Builder {
        self.check_every = Some(inputs);
        self
    }

    /// Sets how many bytes of each stream [`output`](Builder::output) and
    /// [`wait_with_output`](Sandbox::wait_with_output) keep; by default 64 MiB.
    pub fn output_max(mut self, bytes: usize) -> Builder {
        self.output_max = bytes;
        self
    }

    /// Boots the sandbox and lets it run.
    ///
    /// # Errors
    /// [`RunError::Boot`] if the configuration, a layer or the first program is at fault,
    /// [`RunError::Platform`] if the platform does not work, [`RunError::Host`] if a file cannot be opened or
    /// the host has no room for something.
    pub fn spawn(self) -> Result<Sandbox, RunError> {
        self.spawn_or(|| [Stdio::inherit(), Stdio::inherit(), Stdio::inherit()])
    }

    /// Runs the sandbox to its end and keeps what it writes.
    ///
    /// # Errors
    /// As [`spawn`](Builder::spawn) and [`Sandbox::wait`].
    pub fn output(self) -> Result<Output, RunError> {
        let piped = || [Stdio::null(), Stdio::piped(), Stdio::piped()];
        self.spawn_or(piped)?.wait_with_output()
    }

    fn spawn_or(self, default: fn() -> [Stdio; 3]) -> Result<Sandbox, RunError> {
        let mut config = self.config;
        let [stdin, stdout, stderr] = self.stdio;
        let [default_in, default_out, default_err] = default();
        let failed = || RunError::host("standard streams");
        let stdin = stdin.unwrap_or(default_in).input(io::stdin().as_fd());
        let stdin = stdin.map_err(failed())?;
        let stdout = stdout.unwrap_or(default_out).output(io::stdout().as_fd());
        let stdout = stdout.map_err(failed())?;
        let stderr = stderr.unwrap_or(default_err).output(io::stderr().as_fd());
        let stderr = stderr.map_err(failed())?;
        config.stdio = [stdin.kind, stdout.kind, stderr.kind];
        let mut setup = HostSetup {
            images: self.images,
            trees: self.trees,
            stdio: [stdin.fd, stdout.fd, stderr.fd],
            frames: frames(config.memory_limit),
            sink: self.log,
            recording: self.recording,
            check_every: self.check_every,
        };
        for layer in self.layers {
            let layer = layer.open(&mut setup)?;
            config.root.layers.push(layer);
        }
        let signal = self.kick_signal;
        let run = match self.platform {
            Platform::Choice(choice) => varve_host::start(config, setup, |backings, log| {
                platform::make(choice, signal, backings, log)
            }),
            Platform::Own(make) => varve_host::start(config, setup, make),
        }?;
        Ok(Sandbox {
            stdin: stdin.other,
            stdout: stdout.other,
            stderr: stderr.other,
            run,
            output_max: self.output_max,
        })
    }
}

/// As much memory as the machine has, and no less than the limit: pages cost nothing until they are touched.
fn frames(limit: Option<u64>) -> u32 {
    let info = rustix::system::sysinfo();
    let there = (info.totalram as u64).saturating_mul(u64::from(info.mem_unit));
    let needed = limit.unwrap_or(0).saturating_add(MEMORY_SPARE);
    let frames = u32::try_from(there.max(needed) / PAGE_SIZE).unwrap_or(u32::MAX);
    frames.max(FRAMES_MIN)
}
