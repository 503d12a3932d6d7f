//! The kernel as a value: its parts, the one way in ([`Kernel::handle`]) and the one way out
//! ([`Kernel::poll_output`]).
//!
//! A system call that has to wait returns `Stop::Block` and parks its task on `WaitKey`s. Whoever changes
//! what a key stands for leaves a wake (`Env::wake`), which is dealt with when the handler has returned; the
//! waiting handler then runs again from its start with the same arguments and the `Call` it kept. Handlers
//! therefore do nothing that cannot be repeated before they know that they will not block.

pub(crate) mod boot;
pub(crate) mod caller;
pub(crate) mod check;
pub(crate) mod check_memory;
mod cx;
mod fault;
mod held;
pub(crate) mod oom;
pub(crate) mod rest;
mod wait;

use crate::file::call::{CallFiles, CallState};
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hash::{Hash, Hasher};
use core::ops::{Deref, DerefMut};

pub(crate) use crate::task::Cx;
pub(crate) use crate::task::call::Call;
pub(crate) use wait::Waits;

use crate::abi::Errno;
use crate::boot::{BootConfig, BootError, Strace};
use crate::cred::landlock::Landlock;
use crate::cred::ns::Namespaces;
use crate::cred::ns::user::ALL_CAPS;
use crate::cred::{Base, Creds};
use crate::digest::Untold;
use crate::env::Env;
use crate::env::settings::Settings;
use crate::env::steps::{self, Steps};
use crate::env::timers::Timers;
use crate::env::wait::{Queues, Stop, Wait, WaitKey};
use crate::event::{HostResult, Input, Level, Now, OpId, Output};
use crate::file::{Files, aio};
use crate::fs::{FileSystems, Frames};
use crate::machine::{Regs, SpaceId, ThreadId, Trap};
use crate::mm::Mm;
use crate::port::Ports;
use crate::syscall;
use crate::task::seccomp::{self, Seccomp};
use crate::task::{Task, Tasks, cputime, ending, signal};
use crate::vfs::Vfs;

/// The application kernel.
///
/// The host hands in every [`Input`] with [`handle`](Self::handle) and then drains
/// [`poll_output`](Self::poll_output) until it gives `None`; handing in another input before that is a bug of
/// the host and asserted.
#[derive(Debug, Hash)]
pub struct Kernel {
    pub(crate) mm: Mm,
    pub(crate) system: System,
    pub(crate) tasks: Tasks,
    pub(crate) waits: Waits,
    pub(crate) barriers: crate::task::barrier::Barriers,
    /// What open files of `proc` and `sysfs` show.
    pub(crate) contents: crate::views::proc::Contents,
    deadline_sent: Option<u64>,
}

/// What belongs to all tasks together.
#[derive(Clone, Debug, Hash)]
pub(crate) struct System {
    /// What is traced.
    pub strace: Untold<Option<Arc<Strace>>>,
    /// Who is told of what happens to tasks.
    pub tracer: Untold<&'static dyn crate::task::trace::Tracer>,
    /// Signals that the first process has been found to pass over, bit `n - 1` for signal `n`.
    pub passed_over: u64,
    /// How often threads waited, and how many tasks there have been.
    pub switches: u64,
    pub forks: u64,
    pub load: crate::task::load::Load,
    pub accounting: cputime::Accounting,
    /// The process that was asked for: the first one, or with `--init` its child.
    pub program: u32,
    /// The host could not run it, or the first process, any further.
    pub lost: bool,
    /// Set once the first process has ended: nothing runs any more.
    pub over: bool,
}

impl Deref for Kernel {
    type Target = Mm;

    fn deref(&self) -> &Mm {
        &self.mm
    }
}

impl DerefMut for Kernel {
    fn deref_mut(&mut self) -> &mut Mm {
        &mut self.mm
    }
}

impl Kernel {
    /// Boots: mounts the file systems and makes the first process, ready to run. Drain
    /// [`poll_output`](Self::poll_output) afterwards.
    ///
    /// # Errors
    /// A [`BootError`] that names the image, the option or the program that is at fault.
    pub fn boot(config: BootConfig, ports: &mut Ports<'_>, now: Now) -> Result<Kernel, BootError> {
        let mut rng = crate::env::rng::Rng::new(config.seed);
        let mut boot_id = [0; 16];
        rng.fill(&mut boot_id);
        let env = Env {
            cpus: config.cpus.max(1),
            cpuinfo: config.cpuinfo.clone(),
            stdio: config.stdio,
            booted: now,
            now,
            rng,
            boot_id,
            privileged: config.capabilities & ALL_CAPS == ALL_CAPS,
            settings: Settings::new(Tasks::new(config.threads_max).max),
            lowest_address: config.lowest_address,
            steps: Steps::new(),
            queues: Queues::default(),
            changes: 0,
            timers: Timers::default(),
            notices: VecDeque::with_capacity(16),
            left: false,
            outputs: VecDeque::with_capacity(64),
        };
        let base = Base {
            env,
            ns: Namespaces::new(config.hostname.clone().into_bytes()),
            landlock: Landlock::default(),
        };
        let frames = Frames::limited(ports.memory.frames(), config.memory_limit);
        let files = Files::new(Vfs::new(FileSystems::new(base, frames)));
        let mut kernel = Kernel {
            mm: Mm::new(files),
            system: System {
                strace: Untold(config.strace.clone().map(Arc::new)),
                tracer: Untold(&syscall::strace::Lines),
                passed_over: 0,
                switches: 0,
                forks: 1,
                load: crate::task::load::Load::default(),
                accounting: cputime::Accounting::default(),
                program: crate::task::INIT,
                lost: false,
                over: false,
            },
            tasks: Tasks::new(config.threads_max),
            waits: Waits::default(),
            barriers: crate::task::barrier::Barriers::default(),
            contents: crate::views::proc::Contents::default(),
            deadline_sent: None,
        };
        if config.vdso {
            // Too little memory even for that: the first program will not fit either.
            let _ = crate::vdso::make(&mut kernel, ports);
        }
        boot::mount_all(&mut kernel, ports, &config)?;
        crate::task::boot::start_init(&mut kernel, ports, &config)?;
        kernel.finish_input(ports);
        Ok(kernel)
    }

    /// Hands in one input that happened at `now`.
    ///
    /// # Panics
    /// If outputs of the previous input have not been drained.
    pub fn handle(&mut self, ports: &mut Ports<'_>, now: Now, input: Input) {
        assert!(
            self.env.outputs.is_empty(),
            "outputs must be drained before the next input"
        );
        if self.system.over {
            return;
        }
        self.env.steps = match input {
            Input::Tick => Steps::new(),
            _ => Steps::of_one(),
        };
        self.frames.clean(ports.memory);
        // A host clock that steps back must not turn timers round.
        let before = self.env.now.mono;
        self.env.now = Now {
            mono: now.mono.max(before),
            real: now.real,
            spent: 0,
        };
        cputime::handled(self, now.spent.min(self.env.now.mono - before));
        crate::task::load::sample(self);
        match input {
            Input::Trap { thread, regs, trap } => self.trap(ports, thread, regs, trap),
            Input::Completed { op, result } => self.completed(op, result),
            // Others that are ready must not hold up for ever what goes on by itself.
            Input::Tick => {
                ending::go_on(self, ports, steps::OTHERS / 2);
                rest::change_mounts(self, ports, steps::OTHERS);
            }
            Input::Signal { signal } => signal::from_outside(self, signal),
            Input::Clock(clock) => crate::vdso::set_clock(self, ports, clock),
            Input::Resize { rows, cols } => {
                if let crate::boot::Stdio::Terminal { .. } = self.env.stdio[0] {
                    self.env.stdio[0] = crate::boot::Stdio::Terminal { rows, cols };
                }
                signal::from_outside(self, crate::abi::raw::general::SIGWINCH as u8);
            }
        }
        self.finish_input(ports);
    }

    /// The next thing to do, or `None` when the input has been dealt with.
    pub fn poll_output(&mut self) -> Option<Output> {
        /// Places that stay allocated.
        const KEPT: usize = 1024;
        let next = self.env.outputs.pop_front();
        if next.is_none() && self.env.outputs.capacity() > KEPT {
            self.env.outputs.shrink_to(KEPT);
        }
        next
    }

    /// Steps that the last input took: some 100 ns of work each. For tests and benchmarks.
    pub fn steps(&self) -> u64 {
        self.env.steps.spent()
    }

    /// A digest of the whole state: equal for equal runs, on every host.
    pub fn digest(&self) -> u64 {
        let mut hasher = crate::digest::Digest::default();
        self.hash(&mut hasher);
        hasher.finish()
    }

    /// Checks the invariants of all parts; the error names the first one that does not hold. For tests and
    /// fuzzers.
    ///
    /// # Errors
    /// A text that says what is wrong.
    pub fn check(&self) -> Result<(), String> {
        crate::task::check::check(self)?;
        crate::ns::check_needed(self)?;
        check_memory::check(self)?;
        crate::ipc::check(self, |tgid| self.tasks.group_exists(tgid))?;
        check::check(self)
    }

    /// Copies user memory of a thread out, for debuggers and tests. Drain the outputs before and afterwards.
    ///
    /// # Errors
    /// `ESRCH` if there is no such thread, `EFAULT`.
    pub fn peek(
        &mut self,
        ports: &mut Ports<'_>,
        thread: ThreadId,
        addr: u64,
        buf: &mut [u8],
    ) -> Result<(), Errno> {
        self.tasks.get(thread).ok_or(Errno::ESRCH)?;
        Cx {
            k: self,
            p: ports,
            thread,
        }
        .read_user(addr, buf)
    }

    /// Copies bytes into user memory of a thread, for debuggers and tests. Drain the outputs before and
    /// afterwards.
    ///
    /// # Errors
    /// `ESRCH` if there is no such thread, `EFAULT`.
    pub fn poke(
        &mut self,
        ports: &mut Ports<'_>,
        thread: ThreadId,
        addr: u64,
        data: &[u8],
    ) -> Result<(), Errno> {
        self.tasks.get(thread).ok_or(Errno::ESRCH)?;
        Cx {
            k: self,
            p: ports,
            thread,
        }
        .write_user(addr, data)
    }

    fn trap(&mut self, ports: &mut Ports<'_>, thread: ThreadId, regs: Regs, trap: Trap) {
        let now = self.env.now;
        let Some(task) = self.tasks.get_mut(thread) else {
            return;
        };
        if !task.running {
            return;
        }
        task.regs = regs;
        task.interrupting = false;
        cputime::trapped(self, thread, matches!(trap, Trap::Syscall));
        crate::task::barrier::passed(self, thread);
        if ending::is_dying(self, thread) {
            return;
        }
        let mut cx = Cx {
            k: self,
            p: ports,
            thread,
        };
        match trap {
            Trap::Syscall if cx.task().seccomp != Seccomp::Off && !seccomp::admit(&mut cx) => {}
            Trap::Syscall => {
                let call = Call {
                    // Linux takes the lower half as a signed number; so -1 is none of the table's.
                    number: u64::from(regs.orig_rax as u32),
                    args: regs.args(),
                    state: CallState::new(now),
                    scan: None,
                    alone: false,
                    saved_mask: None,
                    wait: None,
                    trace: Untold(None),
                };
                cx.task_mut().call = Some(call);
                cx.run_call();
            }
            Trap::Fault { addr, access } => fault::user_fault(&mut cx, addr, access),
            Trap::Exception(exception) => signal::force_exception(&mut cx, exception),
            Trap::Interrupted => {}
            Trap::Crowded => {
                let space = cx.space();
                crate::mm::map::take_from_host(cx.k, space);
            }
            Trap::Lost => {
                let tgid = cx.task().tgid;
                cx.k.system.lost |= tgid == crate::task::INIT || tgid == cx.k.system.program;
                ending::end_group(cx.k, cx.p, tgid, u32::from(signal::SIGKILL));
            }
        }
        self.exit_to_user(ports, thread);
    }

    fn completed(&mut self, op: OpId, result: Result<HostResult, Errno>) {
        if self.ops.end(op, result) {
            self.wake(WaitKey::Op(op));
        }
    }

    /// Delivers signals to a stopped task that is not in a call and lets it run.
    fn exit_to_user(&mut self, ports: &mut Ports<'_>, thread: ThreadId) {
        let mut cx = Cx {
            k: self,
            p: ports,
            thread,
        };
        loop {
            signal::join_stop(cx.k, thread);
            let Some(task) = cx.k.tasks.get(thread) else {
                return;
            };
            if task.running || task.call.is_some() || task.stopped || task.exited {
                return;
            }
            if ending::is_dying(cx.k, thread) {
                return;
            }
            // Delivery can end the task, stop it, or run the interrupted call again.
            if !signal::deliver(&mut cx) {
                break;
            }
            // Thousands of handlers may be entered, one in the other.
            if cx.k.env.steps.left() == 0 {
                cx.k.make_ready(thread);
                return;
            }
        }
        let ready = self.tasks.get(thread).is_some_and(|task| {
            !task.running && task.call.is_none() && !task.stopped && !task.exited
        });
        if !ready {
            return;
        }
        cputime::start(self, thread);
        let Some(task) = self.tasks.get(thread) else {
            return;
        };
        let space = task.space;
        crate::mm::space::count_areas(self, space);
        let Some(task) = self.tasks.get_mut(thread) else {
            return;
        };
        let regs = task.regs;
        if core::mem::take(&mut task.fresh) {
            let space = task.space;
            self.env.emit(Output::StartThread {
                thread,
                space,
                regs,
                parent: None,
            });
        } else {
            self.env.emit(Output::Resume { thread, regs });
        }
    }

    /// Charges what the kernel holds for guests in objects of its own.
    fn charge_objects(&mut self) {
        let bytes = held::total(self);
        self.mm.charge_objects(bytes);
    }

    /// What the kernel holds for guests beside their pages: kinds of objects and their bytes, about. All of
    /// it counts as the run's memory. For tests.
    pub fn held(&self) -> Vec<(&'static str, u64)> {
        let between = crate::ipc::charged(self);
        let objects = held::all(self);
        objects
            .chain([
                ("bytes in pipes, sockets and message queues", between),
                ("page tables", self.mm.table_bytes()),
            ])
            .collect()
    }

    /// Runs what became ready, until nothing is left to do before the next input or the steps of this one are
    /// used up.
    fn finish_input(&mut self, ports: &mut Ports<'_>) {
        loop {
            let mono = self.env.now.mono;
            while let Some(&(at, thread)) = self.waits.deadlines.first()
                && at <= mono
                && self.env.steps.may_begin()
            {
                self.waits.deadlines.pop_first();
                self.make_ready(thread);
                self.env.steps.spend(1);
            }
            crate::task::timer::expire(self);
            self.take_notices();
            crate::file::ready::announce_mounts(self);
            crate::ns::sweep(self, ports);
            aio::complete_ended(self, ports);
            self.wake_more();
            let next = match self.env.steps.may_begin() {
                true => self.waits.ready.pop_front(),
                false => None,
            };
            let Some(thread) = next else {
                ending::go_on(self, ports, u64::MAX);
                rest::change_mounts(self, ports, u64::MAX);
                rest::go_on(self, ports);
                self.take_notices();
                // Somebody may have waited for that.
                if !self.waits.ready.is_empty() && self.env.steps.may_begin() {
                    continue;
                }
                self.charge_objects();
                if self.frames.is_short() && oom::make_room(self, ports) {
                    self.env.steps.extend();
                    continue;
                }
                self.frames.answer();
                break;
            };
            self.env.steps.spend(steps::CALL);
            let Some(task) = self.tasks.get_mut(thread) else {
                continue;
            };
            task.ready = false;
            let called = task.call.is_some();
            let idle = task.running || task.exited || task.stopped;
            if idle || ending::is_dying(self, thread) {
                self.pass_turn(thread);
                continue;
            }
            if called {
                self.run_parked(ports, thread);
            }
            self.exit_to_user(ports, thread);
        }
        if self.system.over {
            return;
        }
        let deadline = self.next_deadline();
        if deadline != self.deadline_sent {
            self.deadline_sent = deadline;
            self.env.emit(Output::Deadline(deadline));
        }
    }

    /// When the next input is wanted at the latest.
    fn next_deadline(&mut self) -> Option<u64> {
        let later = self.env.now.mono.saturating_add(1);
        // One that has passed is left over from this input.
        let first = self.waits.deadlines.first();
        let first = first.map(|&(at, _)| at.max(later));
        let timer = self.env.timers.next().map(|at| at.max(later));
        // What is left of this input goes on as soon as others had the kernel.
        let rest = !self.waits.ready.is_empty()
            || !self.waits.are_woken()
            || !ending::is_done(self)
            || !rest::is_done(self)
            || !crate::vfs::mount::job::is_done(self);
        let rest = rest.then_some(later);
        [first, timer, rest].into_iter().flatten().min()
    }

    /// Ends whatever a task was waiting for: it dies or its call was interrupted. A host operation under way
    /// is given up.
    pub(crate) fn abandon_call(&mut self, thread: ThreadId) -> Option<Call> {
        self.leave_queues(thread);
        crate::file::lock::abandoned(self, thread);
        let mut call = self.tasks.get_mut(thread)?.call.take()?;
        if let Some(op) = call.op.take() {
            self.abandon_op(op);
        }
        Some(call)
    }

    /// Gives back the files that a call kept while it waited.
    pub(crate) fn release_files(&mut self, ports: &mut Ports<'_>, call: &Call) {
        for file in call.files.held() {
            crate::file::put(self, ports, file);
        }
    }

    /// Gives up a host operation: its result is dropped.
    pub(crate) fn abandon_op(&mut self, op: OpId) {
        if self.ops.abandon(op) {
            self.env.emit(Output::CancelHost(op));
        }
    }
}
