//! The run loop: workers, the kernel lock, the execution of outputs.

mod lock;
mod worker;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use varve_core::Kernel;
use varve_core::abi::Errno;
use varve_core::boot::{BootConfig, BootError};
use varve_core::event::{ExitStatus, Input, Level, Now, OpId, Output, TracedCall};
use varve_core::machine::{ImageId, Regs, SpaceId, ThreadId, Trap};
use varve_core::port::{Ports, Xstate};

use crate::backings::Backings;
use crate::clock::{self, Clock};
use crate::images::HostImage;
use crate::lines::Lines;
use crate::mailbox::{Letter, Mailbox};
use crate::memory::MemoryFile;
use crate::platform::{GuestThread, Interrupter, Platform, PlatformError};
use crate::record::{self, Recording, RunRecorder};
use crate::streams;
use crate::tree::HostTrees;
use crate::xstate::fresh_xstate;
use lock::{Held, KernelLock};

/// What a run needs from the host beside the boot configuration.
pub struct HostSetup {
    /// Image files, in the order of their numbers, each with the name that messages call it.
    pub images: Vec<(String, HostImage)>,
    /// Roots of host directory trees, in the order of their numbers.
    pub trees: Vec<OwnedFd>,
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

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It could not start; which image is meant is told by name.
    #[error("{}", boot_message(.0, .1.as_deref()))]
    Boot(BootError, Option<String>),
    /// The host could not give something.
    #[error("{0}: {1}")]
    Host(String, io::Error),
    /// The platform does not work.
    #[error("{0}")]
    Platform(PlatformError),
    /// The kernel's bookkeeping does not add up: a bug of varve.
    #[error("the kernel's own bookkeeping is wrong, which is a bug of varve: {0}")]
    Kernel(String),
}

fn boot_message(error: &BootError, image: Option<&str>) -> String {
    match error {
        BootError::Image {
            image: ImageId(number),
            reason,
        } => match image {
            Some(name) => format!("{name}: {reason}"),
            None => format!("image {number}: {reason}"),
        },
        BootError::Config(text) => text.clone(),
        BootError::Exec {
            program,
            errno,
            found,
        } => {
            let why = match *errno {
                Errno::ENOENT if *found => "the interpreter or loader that it names is not there",
                Errno::ENOENT => "no such file",
                Errno::EACCES => "permission denied",
                Errno::EISDIR => "is a directory",
                Errno::ENOEXEC => "not a program for this machine",
                errno => errno.message(),
            };
            match program.is_empty() {
                true => format!("the program's name is empty: {why}"),
                false => format!("{}: {why}", String::from_utf8_lossy(program)),
            }
        }
    }
}

/// What other threads know of a worker.
struct Worker {
    mailbox: Arc<Mailbox>,
    /// There once the guest thread has been made.
    interrupter: Option<Arc<dyn Interrupter>>,
}

/// Floating-point state of a thread whose worker is elsewhere.
struct Parked {
    state: Vec<u8>,
    /// Differs from what the guest thread holds.
    changed: bool,
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
    /// What a check found.
    broken: Option<String>,
    /// The workers' host threads, until they have been waited for.
    threads: HashMap<ThreadId, thread::JoinHandle<()>>,
    /// Workers that are about to end.
    leaving: Vec<ThreadId>,
    /// Threads that could not be started, which the kernel does not know yet.
    unstarted: Vec<(ThreadId, Regs)>,
}

pub(crate) struct Shared<P> {
    platform: P,
    backings: Arc<Backings>,
    state: KernelLock<State>,
}

/// The floating-point port during one input: the trapping thread's own state is reached through its worker,
/// that of others through copies.
struct XstatePort<'a, T> {
    size: usize,
    own: Option<(ThreadId, &'a mut T)>,
    parked: &'a mut HashMap<ThreadId, Parked>,
}

impl<T: GuestThread> XstatePort<'_, T> {
    fn own(&mut self, thread: ThreadId) -> Option<&mut T> {
        match &mut self.own {
            Some((id, guest)) if *id == thread => Some(guest),
            _ => None,
        }
    }
}

impl<T: GuestThread> Xstate for XstatePort<'_, T> {
    fn size(&self) -> usize {
        self.size
    }

    fn read(&mut self, thread: ThreadId, buf: &mut [u8]) {
        if let Some(guest) = self.own(thread)
            && guest.read_xstate(buf).is_ok()
        {
            return;
        }
        match self.parked.get(&thread) {
            Some(parked) => buf.copy_from_slice(&parked.state),
            None => buf.copy_from_slice(&fresh_xstate(buf.len())),
        }
    }

    fn write(&mut self, thread: ThreadId, buf: &[u8]) -> Result<(), Errno> {
        if let Some(guest) = self.own(thread) {
            return match guest.write_xstate(buf) {
                Ok(true) => Ok(()),
                _ => Err(Errno::EINVAL),
            };
        }
        self.parked.insert(
            thread,
            Parked {
                state: buf.to_vec(),
                changed: true,
            },
        );
        Ok(())
    }

    fn reset(&mut self, thread: ThreadId) {
        match self.own(thread) {
            // A thread that is lost is found out when it is run.
            Some(guest) => drop(guest.reset_xstate()),
            None => {
                let state = fresh_xstate(self.size);
                self.parked.insert(
                    thread,
                    Parked {
                        state,
                        changed: true,
                    },
                );
            }
        }
    }
}

/// Runs a sandbox to its end. `make` builds the platform over the files that guests map; it may log.
///
/// # Errors
/// [`RunError::Boot`] if the configuration, an image or the first program is at fault, [`RunError::Host`] or
/// [`RunError::Platform`] if the host refuses something.
pub fn run<P: Platform>(
    mut config: BootConfig,
    mut setup: HostSetup,
    make: impl FnOnce(Arc<Backings>, &mut Sink) -> Result<P, PlatformError>,
) -> Result<ExitStatus, RunError> {
    let host = |what: &str| {
        let what = what.to_string();
        move |error: io::Error| RunError::Host(what, error)
    };
    // Dropped last, when nothing can log any more: it writes what is left.
    let lines = Lines::begin(setup.sink).map_err(host("the log's writer"))?;
    setup.sink = lines.sink();
    let mut memory = MemoryFile::new(setup.frames).map_err(host("guest memory"))?;
    let fd = memory
        .fd()
        .try_clone_to_owned()
        .map_err(host("guest memory"))?;
    let mut images = Vec::new();
    let mut names = Vec::new();
    for (name, image) in setup.images {
        images.push(image);
        names.push(name);
    }
    let backings = Arc::new(Backings::new(fd, images));
    let mut tree = HostTrees::new(setup.trees, backings.clone(), crate::limits::trees())
        .map_err(host("host directory"))?;
    let platform = make(backings.clone(), &mut setup.sink).map_err(RunError::Platform)?;
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
        match setup.recording {
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
            if let Some(recorder) = recorder {
                recorder.into_sink().result().map_err(lost)?;
            }
            let name = match &error {
                BootError::Image { image, .. } => names.get(image.0 as usize).cloned(),
                _ => None,
            };
            return Err(RunError::Boot(error, name));
        }
    };
    let shared = Arc::new(Shared {
        platform,
        backings,
        state: KernelLock::new(State {
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
            sink: setup.sink,
            recorder,
            batch: 0,
            check_every: setup.check_every,
            unchecked: 0,
            broken: None,
            threads: HashMap::new(),
            leaving: Vec::new(),
            unstarted: Vec::new(),
        }),
    });
    crate::signals::forward(&shared).map_err(host("signals"))?;
    shared.drain(&mut shared.lock(), None);
    let status = shared.keep_time();
    let mut state = shared.lock();
    if let Some(recorder) = state.recorder.take() {
        recorder.finish(&state.kernel).result().map_err(lost)?;
    }
    if state.check_every.is_some() {
        check(&mut state);
    }
    match state.broken.take() {
        Some(what) => Err(RunError::Kernel(what)),
        None => Ok(status),
    }
}

/// The guest thread of this worker, for a while.
fn reborrow<'a, T>(own: &'a mut Option<(ThreadId, &mut T)>) -> Option<(ThreadId, &'a mut T)> {
    own.as_mut().map(|(id, guest)| (*id, &mut **guest))
}

/// Keeps what the first check that fails says; nothing runs on with a kernel like that.
fn check(state: &mut State) {
    state.unchecked = 0;
    if state.broken.is_none()
        && let Err(what) = state.kernel.check()
    {
        state.broken = Some(what);
    }
}

/// A recording that could not be written.
fn lost((name, error): (String, io::Error)) -> RunError {
    RunError::Host(name, error)
}

impl<P: Platform> Shared<P> {
    fn lock(&self) -> Held<'_, State> {
        self.state.lock()
    }

    /// Hands in an input that belongs to no guest thread.
    pub(crate) fn input(self: &Arc<Self>, input: Input) {
        let mut state = self.lock();
        self.handle(&mut state, None, input);
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
            if state.unchecked >= every.get() {
                check(state);
                if state.broken.is_some() && state.exit.is_none() {
                    state.exit = Some(ExitStatus::Signaled(9));
                    self.state.ring();
                }
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
            memory.set_settled(self.platform.grace().settled());
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
                    self.settle(state, &mut changed);
                    self.start(state, &mut own, thread, space, regs, parent);
                }
                Output::Resume { thread, regs } => {
                    self.settle(state, &mut changed);
                    post(state, own_id, thread, Letter::Resume(regs))
                }
                Output::MoveThread { thread, space } => {
                    post(state, own_id, thread, Letter::Move(space));
                }
                Output::EndThread(thread) => {
                    post(state, own_id, thread, Letter::End);
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
                    post(state, own_id, thread, Letter::Host(op, call));
                }
                Output::CancelHost(op) => {
                    // One that has ended meanwhile is not there any more.
                    let thread = state.operations.remove(&op);
                    if let Some(worker) = thread.and_then(|thread| state.workers.get(&thread)) {
                        worker.mailbox.post(Letter::Cancel(op), true);
                    }
                }
                Output::Deadline(at) => {
                    state.deadline = at;
                    self.state.ring();
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
                    self.state.ring();
                }
            }
        }
        if let Some(recorder) = &mut state.recorder {
            recorder.settled(&state.kernel);
        }
        self.settle(state, &mut changed);
    }

    /// Puts page operations in force, if there were any since the last time: before anything runs that must
    /// find them so.
    fn settle(&self, state: &mut State, changed: &mut bool) {
        if std::mem::take(changed)
            && let Err(error) = self.platform.settle()
        {
            self.give_up(state, &error);
        }
    }

    /// Ends the run because the host cannot go on: every guest thread is lost.
    fn give_up(&self, state: &mut State, error: &PlatformError) {
        (state.sink)(SinkLine::Log(Level::Error, &error.to_string()));
        for worker in std::mem::take(&mut state.workers).into_values() {
            worker.mailbox.post(Letter::End, true);
            if let Some(interrupter) = worker.interrupter {
                interrupter.kill();
            }
        }
        state.exit = Some(ExitStatus::Lost);
        self.state.ring();
    }

    /// Sends ticks until the run is over; gives its status.
    fn keep_time(self: &Arc<Self>) -> ExitStatus {
        let mut state = self.lock();
        let status = loop {
            if let Some(status) = state.exit {
                break status;
            }
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
        };
        let mut threads = std::mem::take(&mut state.threads);
        if state.broken.is_some() {
            // Nobody has told them to end; guests go with this process.
            threads.clear();
        }
        drop(state);
        for thread in threads.into_values() {
            let _ = thread.join();
        }
        if let Some(report) = self.platform.report() {
            (self.lock().sink)(SinkLine::Log(Level::Debug, &report));
        }
        status
    }
}

/// Logs what a platform could not do; guests find out by themselves.
fn tell(state: &mut State, result: Result<(), PlatformError>) {
    if let Err(error) = result {
        (state.sink)(SinkLine::Log(Level::Error, &error.to_string()));
    }
}

fn post(state: &mut State, own: Option<ThreadId>, thread: ThreadId, letter: Letter) {
    if let Some(worker) = state.workers.get(&thread) {
        worker.mailbox.post(letter, own != Some(thread));
    }
}
