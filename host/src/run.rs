//! The run loop: workers, the kernel lock, the execution of outputs.

mod control;
mod lock;
mod worker;
mod xstate;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use varve_core::Kernel;
use varve_core::boot::{BootConfig, BootError};
use varve_core::event::{ExitStatus, Input, Level, Now, OpId, Output};
use varve_core::machine::{Regs, SpaceId, ThreadId, Trap};
use varve_core::port::Ports;

use crate::backings::Backings;
use crate::clock::{self, Clock};
use crate::error::RunError;
use crate::images::HostImage;
use crate::lines::{Lines, Sink, SinkLine, TraceLine};
use crate::mailbox::{Mailbox, Message};
use crate::memory::MemoryFile;
use crate::platform::{GuestThread, Interrupter, Platform, PlatformError};
use crate::record::{self, LogFile, Recording, RunRecorder};
use crate::streams::Streams;
use crate::tree::HostTrees;
use control::Controlled;
pub use control::{Controls, Run, Stats};
use lock::{Held, KernelLock};
use xstate::{Parked, XstatePort};

/// Bytes of stack of the threads that run the kernel.
const STACK: usize = 512 << 10;

/// What a run needs from the host beside the boot configuration.
pub struct HostSetup {
    /// Image files, in the order of their numbers, each with the name that messages call it.
    pub images: Vec<(String, HostImage)>,
    /// Roots of host directory trees, in the order of their numbers.
    pub trees: Vec<OwnedFd>,
    /// Standard input, output and error of the first program. Those that
    /// [`BootConfig::stdio`](varve_core::boot::BootConfig) says are closed are not used.
    pub stdio: [Option<OwnedFd>; 3],
    /// Size of guest memory in frames of 4 KiB.
    pub frames: u32,
    /// Where lines go.
    pub sink: Sink,
    /// Where the run is recorded, if it is.
    pub recording: Option<Recording>,
    /// After so many inputs, and at the end, the kernel's own bookkeeping is checked. That costs time in
    /// proportion to all that there is.
    pub check_every: Option<NonZeroU32>,
}

/// What other threads know of a worker.
struct Worker {
    mailbox: Arc<Mailbox>,
    /// There once the guest thread has been made.
    interrupter: Option<Arc<dyn Interrupter>>,
}

/// Everything under the kernel lock.
struct State {
    kernel: Kernel,
    clock: Clock,
    /// Nanoseconds from the last input's time until it had been dealt with.
    spent: u64,
    memory: MemoryFile,
    tree: HostTrees,
    workers: BTreeMap<ThreadId, Worker>,
    /// Whose host operations are under way.
    operations: HashMap<OpId, ThreadId>,
    parked: HashMap<ThreadId, Parked>,
    deadline: Option<u64>,
    exit: Option<ExitStatus>,
    sink: Sink,
    recorder: Option<RunRecorder>,
    /// Inputs so far: the number of the last batch of outputs.
    batch: u64,
    check_every: Option<NonZeroU32>,
    /// Inputs since the last check.
    unchecked: u32,
    /// Why the run has failed, if it has.
    failure: Option<RunError>,
    /// All guest threads were told to end, and the kernel is told nothing more.
    over: bool,
    /// The workers' host threads, until they have been waited for.
    threads: HashMap<ThreadId, thread::JoinHandle<()>>,
    /// Workers that are about to end.
    leaving: Vec<ThreadId>,
    /// Threads that could not be started, which the kernel does not know yet.
    unstarted: Vec<(ThreadId, Regs)>,
}

struct Shared<P> {
    platform: P,
    backings: Arc<Backings>,
    streams: Streams,
    state: KernelLock<State>,
}

/// A platform of whatever type, for [`start`].
pub struct AnyPlatform(Box<dyn Start>);

impl fmt::Debug for AnyPlatform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyPlatform").finish_non_exhaustive()
    }
}

impl<P: Platform> From<P> for AnyPlatform {
    fn from(platform: P) -> AnyPlatform {
        AnyPlatform(Box::new(platform))
    }
}

/// A run loop that is made for one type of platform: nothing asks at each step which one it is.
trait Start {
    fn start(self: Box<Self>, parts: Parts) -> Result<Run, RunError>;
}

impl<P: Platform> Start for P {
    fn start(self: Box<P>, parts: Parts) -> Result<Run, RunError> {
        boot(*self, parts)?.begin()
    }
}

/// What a run is made of, but for its platform.
struct Parts {
    config: BootConfig,
    /// Names of the images.
    names: Vec<String>,
    backings: Arc<Backings>,
    memory: MemoryFile,
    tree: HostTrees,
    streams: Streams,
    sink: Sink,
    lines: Lines,
    recording: Option<Recording>,
    check_every: Option<NonZeroU32>,
}

/// A run that has been booted.
struct Booted<P> {
    shared: Arc<Shared<P>>,
    lines: Lines,
}

/// Boots a sandbox and lets it run, on threads of its own. `make` builds the platform over the files that
/// guests map; it may log.
///
/// # Errors
/// [`RunError::Boot`] if the configuration, an image or the first program is at fault, [`RunError::Host`] or
/// [`RunError::Platform`] if the host refuses something.
pub fn start(
    config: BootConfig,
    setup: HostSetup,
    make: impl FnOnce(Arc<Backings>, &mut Sink) -> Result<AnyPlatform, PlatformError>,
) -> Result<Run, RunError> {
    let lines = Lines::begin(setup.sink).map_err(RunError::host("the log's writer"))?;
    let mut sink = lines.sink();
    let memory = MemoryFile::new(setup.frames).map_err(RunError::host("guest memory"))?;
    let fd = memory.fd().try_clone_to_owned();
    let fd = fd.map_err(RunError::host("guest memory"))?;
    let (names, images) = setup.images.into_iter().unzip();
    let backings = Arc::new(Backings::new(fd, images));
    let tree = HostTrees::new(setup.trees, backings.clone(), crate::limits::trees())
        .map_err(RunError::host("host directory"))?;
    let platform = make(backings.clone(), &mut sink).map_err(RunError::Platform)?;
    platform.0.start(Parts {
        config,
        names,
        backings,
        memory,
        tree,
        streams: Streams(setup.stdio),
        sink,
        lines,
        recording: setup.recording,
        check_every: setup.check_every,
    })
}

/// Boots the kernel on a platform; nothing runs yet.
fn boot<P: Platform>(platform: P, parts: Parts) -> Result<Booted<P>, RunError> {
    let Parts {
        mut config,
        names,
        backings,
        mut memory,
        mut tree,
        streams,
        sink,
        lines,
        recording,
        check_every,
    } = parts;
    let mut clock = Clock::new();
    config.threads_max = config.threads_max.min(crate::limits::threads());
    config.lowest_address = config.lowest_address.max(platform.lowest_address());
    config.vdso &= platform.shares_counter() && clock::counter_is_steady();
    if config.vdso {
        clock.begin_line();
    }
    let mut parked = HashMap::new();
    let (recorder, booted) = {
        let mut xstate = XstatePort::<P::Thread> {
            size: platform.xstate_size(),
            own: None,
            parked: &mut parked,
        };
        let mut ports = Ports {
            memory: &mut memory,
            images: &*backings,
            tree: &mut tree,
            xstate: &mut xstate,
        };
        let now = clock.now();
        match recording {
            None => (None, Kernel::boot(config, &mut ports, now)),
            Some(recording) => {
                let platform = platform.name();
                let (recorder, booted) = record::boot(recording, platform, config, &mut ports, now);
                (Some(recorder), booted)
            }
        }
    };
    let kernel = match booted {
        Ok(kernel) => kernel,
        Err(error) => {
            recorder.map_or(Ok(()), |recorder| written(recorder.into_sink()))?;
            let name = match &error {
                BootError::Image { image, .. } => names.get(image.0 as usize).cloned(),
                _ => None,
            };
            return Err(RunError::Boot(error, name));
        }
    };
    let state = KernelLock::new(State {
        kernel,
        clock,
        spent: 0,
        memory,
        tree,
        workers: BTreeMap::new(),
        operations: HashMap::new(),
        parked,
        deadline: None,
        exit: None,
        sink,
        recorder,
        batch: 0,
        check_every,
        unchecked: 0,
        failure: None,
        over: false,
        threads: HashMap::new(),
        leaving: Vec::new(),
        unstarted: Vec::new(),
    });
    let shared = Arc::new(Shared {
        platform,
        backings,
        streams,
        state,
    });
    Ok(Booted { shared, lines })
}

impl<P: Platform> Booted<P> {
    /// Lets it run.
    fn begin(self) -> Result<Run, RunError> {
        let weak = Arc::downgrade(&self.shared);
        let thread = thread::Builder::new()
            .name("sandbox".into())
            .stack_size(STACK)
            .spawn(move || {
                let Booted { shared, lines } = self;
                let ended = shared.run_to_the_end();
                // Nothing can log any more: what is left is written.
                match lines.finish() {
                    Ok(()) => ended,
                    Err(payload) => ended.and(Err(RunError::panic(&*payload))),
                }
            })
            .map_err(RunError::host("a thread"))?;
        Ok(Run {
            controls: Controls(weak),
            thread,
        })
    }
}

/// Whether a recording could be written.
fn written(file: LogFile) -> Result<(), RunError> {
    file.result()
        .map_err(|(name, error)| RunError::Host(name, error))
}

/// The guest thread of this worker, for a while.
fn reborrow<'a, T>(own: &'a mut Option<(ThreadId, &mut T)>) -> Option<(ThreadId, &'a mut T)> {
    own.as_mut().map(|(id, guest)| (*id, &mut **guest))
}

impl<P: Platform> Shared<P> {
    fn lock(&self) -> Held<'_, State> {
        self.state.lock()
    }

    /// Runs the sandbox until its first process has ended or it has failed, and all its threads are gone.
    fn run_to_the_end(self: Arc<Self>) -> Result<ExitStatus, RunError> {
        self.guarded(|| {
            self.drain(&mut self.lock(), None);
            self.keep_time();
        });
        let threads = std::mem::take(&mut self.lock().threads);
        for thread in threads.into_values() {
            let _ = thread.join();
        }
        let mut state = self.lock();
        if let Some(report) = self.platform.report() {
            (state.sink)(SinkLine::Log(Level::Debug, &report));
        }
        if !self.state.is_poisoned() {
            if let Some(recorder) = state.recorder.take() {
                written(recorder.finish(&state.kernel))?;
            }
            if state.check_every.is_some() {
                self.check(&mut state);
            }
        }
        match state.failure.take() {
            Some(error) => Err(error),
            None => Ok(state.exit.unwrap_or(ExitStatus::Lost)),
        }
    }

    /// Does something; a panic in it ends the run.
    fn guarded(&self, work: impl FnOnce()) {
        // What it leaves half-done is not used again: see `KernelLock::is_poisoned`.
        if let Err(payload) = catch_unwind(AssertUnwindSafe(work)) {
            self.fail(&mut self.lock(), RunError::panic(&*payload));
        }
    }

    /// Checks the kernel's bookkeeping; nothing runs on with one that is wrong.
    fn check(&self, state: &mut State) {
        state.unchecked = 0;
        if let Err(what) = state.kernel.check() {
            self.fail(state, RunError::Kernel(what));
        }
    }

    fn handle(
        self: &Arc<Self>,
        state: &mut State,
        mut own: Option<(ThreadId, &mut P::Thread)>,
        input: Input,
    ) {
        if state.clock.is_due() {
            self.bend_clock(state, reborrow(&mut own));
        }
        self.hand_in(state, own, input);
        if let Some(every) = state.check_every {
            state.unchecked += 1;
            if state.unchecked >= every.get() && state.failure.is_none() {
                self.check(state);
            }
        }
    }

    /// Looks at the host's clock and tells the kernel how the time goes on.
    fn bend_clock(
        self: &Arc<Self>,
        state: &mut State,
        mut own: Option<(ThreadId, &mut P::Thread)>,
    ) {
        self.hand_in(state, reborrow(&mut own), Input::Clock(None));
        let parameters = state.clock.look();
        self.hand_in(state, own, Input::Clock(parameters));
    }

    /// Hands one input to the kernel and executes what comes of it.
    fn hand_in(
        self: &Arc<Self>,
        state: &mut State,
        mut own: Option<(ThreadId, &mut P::Thread)>,
        input: Input,
    ) {
        if state.over || self.state.is_poisoned() {
            return;
        }
        let now = Now {
            spent: std::mem::take(&mut state.spent),
            ..state.clock.now()
        };
        {
            let State {
                kernel,
                memory,
                tree,
                parked,
                recorder,
                ..
            } = state;
            memory.set_flushed(self.platform.grace().flushed());
            let mut xstate = XstatePort {
                size: self.platform.xstate_size(),
                own: reborrow(&mut own),
                parked,
            };
            let mut ports = Ports {
                memory,
                images: &*self.backings,
                tree,
                xstate: &mut xstate,
            };
            match recorder {
                None => kernel.handle(&mut ports, now, input),
                Some(recorder) => recorder.handle(kernel, &mut ports, now, input),
            }
        }
        state.batch += 1;
        self.platform.grace().begin(state.batch);
        self.drain(state, own);
        state.spent = state.clock.now().mono.saturating_sub(now.mono);
    }

    /// Executes all outputs, and tells the kernel of the threads that could not be started. `own` is the
    /// guest thread of this worker.
    fn drain(self: &Arc<Self>, state: &mut State, mut own: Option<(ThreadId, &mut P::Thread)>) {
        self.execute(state, reborrow(&mut own));
        while let Some((thread, regs)) = state.unstarted.pop() {
            let trap = Trap::Lost;
            let lost = Input::Trap { thread, regs, trap };
            self.hand_in(state, reborrow(&mut own), lost);
        }
    }

    /// Executes all outputs in order.
    fn execute(self: &Arc<Self>, state: &mut State, mut own: Option<(ThreadId, &mut P::Thread)>) {
        let own_id = own.as_ref().map(|own| own.0);
        let mut changed = false;
        while let Some(output) = state.kernel.poll_output() {
            if let Some(recorder) = &mut state.recorder {
                recorder.output(&output);
            }
            match output {
                Output::CreateSpace(space) => {
                    tell(state, self.platform.create_space(space));
                }
                Output::DropSpace(space) => {
                    self.platform.drop_space(space);
                    changed = true;
                }
                Output::Map {
                    space,
                    addr,
                    len,
                    backing,
                    prot,
                } => {
                    tell(state, self.platform.map(space, addr, len, backing, prot));
                    changed = true;
                }
                Output::Unmap { space, addr, len } => {
                    tell(state, self.platform.unmap(space, addr, len));
                    changed = true;
                }
                Output::Protect {
                    space,
                    addr,
                    len,
                    prot,
                } => {
                    tell(state, self.platform.protect(space, addr, len, prot));
                    changed = true;
                }
                Output::StartThread {
                    thread,
                    space,
                    regs,
                    parent,
                } => {
                    self.flush(state, &mut changed);
                    self.start(state, &mut own, thread, space, regs, parent);
                }
                Output::Resume { thread, regs } => {
                    self.flush(state, &mut changed);
                    post(state, own_id, thread, Message::Resume(regs));
                }
                Output::MoveThread { thread, space } => {
                    post(state, own_id, thread, Message::Move(space));
                }
                Output::EndThread(thread) => {
                    post(state, own_id, thread, Message::End);
                    state.parked.remove(&thread);
                    state.unstarted.retain(|(id, _)| *id != thread);
                    if let Some(worker) = state.workers.remove(&thread)
                        && own_id != Some(thread)
                        && let Some(interrupter) = worker.interrupter
                    {
                        interrupter.kill();
                    }
                }
                Output::Interrupt(thread) => {
                    if let Some(interrupter) = state
                        .workers
                        .get(&thread)
                        .and_then(|worker| worker.interrupter.as_ref())
                    {
                        interrupter.interrupt();
                    }
                }
                Output::Host { op, thread, call } => {
                    state.operations.insert(op, thread);
                    post(state, own_id, thread, Message::Host(op, call));
                }
                Output::CancelHost(op) => {
                    // One that has ended meanwhile is not there any more.
                    let thread = state.operations.remove(&op);
                    if let Some(worker) = thread.and_then(|thread| state.workers.get(&thread)) {
                        worker.mailbox.post(Message::Cancel(op), true);
                    }
                }
                Output::Deadline(at) => {
                    state.deadline = at;
                    self.state.notify();
                }
                Output::Log(level, line) => (state.sink)(SinkLine::Log(level, &line)),
                Output::Strace { tid, call, line } => {
                    let now = state.clock.now();
                    let (mono, at) = call.map_or((now.mono, now.real), |call| {
                        (call.entered.mono, call.entered.real)
                    });
                    let line = TraceLine {
                        tid,
                        call,
                        spent: now.mono.saturating_sub(mono),
                        at,
                        text: &line,
                    };
                    (state.sink)(SinkLine::Strace(line));
                }
                Output::Exit(status) => {
                    state.exit = Some(status);
                    self.state.notify();
                }
            }
        }
        if let Some(recorder) = &mut state.recorder {
            recorder.drained(&state.kernel);
        }
        self.flush(state, &mut changed);
    }

    /// Puts page operations in force, if there were any since the last time: before anything runs that must
    /// find them so.
    fn flush(&self, state: &mut State, changed: &mut bool) {
        if std::mem::take(changed)
            && let Err(error) = self.platform.flush()
        {
            self.give_up(state, &error);
        }
    }

    /// Ends the run because the host cannot go on: every guest thread is lost.
    fn give_up(&self, state: &mut State, error: &PlatformError) {
        (state.sink)(SinkLine::Log(Level::Error, &error.to_string()));
        self.end(state);
    }

    /// Ends the run with an error; the first one counts.
    fn fail(&self, state: &mut State, error: RunError) {
        state.failure.get_or_insert(error);
        self.end(state);
    }

    /// Ends all guest threads, whatever the kernel has to say.
    fn end(&self, state: &mut State) {
        state.over = true;
        for worker in std::mem::take(&mut state.workers).into_values() {
            worker.mailbox.post(Message::End, true);
            if let Some(interrupter) = worker.interrupter {
                interrupter.kill();
            }
        }
        state.exit.get_or_insert(ExitStatus::Lost);
        self.state.notify();
    }

    /// Sends ticks until the run is over.
    fn keep_time(self: &Arc<Self>) {
        let mut state = self.lock();
        while state.exit.is_none() {
            if state.clock.is_due() {
                self.bend_clock(&mut state, None);
            }
            let now = state.clock.now().mono;
            match state.deadline {
                Some(at) if at <= now => {
                    state.deadline = None;
                    self.handle(&mut state, None, Input::Tick);
                    // Whoever wants the kernel is next: timers and calls that go on in pieces must not keep
                    // others out.
                    state.give_way();
                }
                Some(at) => state.wait(Some(Duration::from_nanos(at - now))),
                None => state.wait(None),
            }
        }
    }
}

impl<P: Platform> Controlled for Shared<P> {
    fn take(self: Arc<Self>, input: Input) {
        self.guarded(|| self.handle(&mut self.lock(), None, input));
    }

    fn stats(&self) -> Stats {
        let state = self.lock();
        Stats {
            uptime: Duration::from_nanos(state.clock.now().mono),
            threads: state.workers.len(),
            memory: state.memory.used(),
            inputs: state.batch,
        }
    }
}

/// Logs what a platform could not do; guests find out by themselves.
fn tell(state: &mut State, result: Result<(), PlatformError>) {
    if let Err(error) = result {
        (state.sink)(SinkLine::Log(Level::Error, &error.to_string()));
    }
}

fn post(state: &mut State, own: Option<ThreadId>, thread: ThreadId, message: Message) {
    if let Some(worker) = state.workers.get(&thread) {
        worker.mailbox.post(message, own != Some(thread));
    }
}
