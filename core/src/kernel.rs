//! The kernel as a value: its parts, the one way in ([`Kernel::handle`]) and the one way out ([`Kernel::poll_output`]).
//!
//! A system call that has to wait returns [`Stop::Block`] and parks its task on [`WaitKey`]s. Whoever changes what a key stands for calls
//! [`Kernel::wake`]; the handler then runs again from its start with the same arguments and the [`Call`] it kept. Handlers therefore
//! do nothing that cannot be repeated before they know that they will not block.

mod cx;

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::hash::{Hash, Hasher};

use smallvec::SmallVec;

pub(crate) use cx::Cx;

use crate::abi::Errno;
use crate::boot::{BootConfig, BootError};
use crate::event::{HostCall, HostResult, Input, Level, Now, OpId, Output};
use crate::ipc::Ipc;
use crate::machine::{Regs, SpaceId, ThreadId, Trap};
use crate::mm::Mm;
use crate::ns::Namespaces;
use crate::port::Ports;
use crate::syscall;
use crate::syscall::futex::FutexKey;
use crate::task::seccomp::{self, Seccomp};
use crate::task::{Creds, Task, Tasks, cputime, process, signal};
use crate::vfs::{FdTable, FileId, FsContext, Vfs, aio, epoll, ready};

/// The application kernel.
///
/// The host hands in every [`Input`] with [`handle`](Self::handle) and then drains [`poll_output`](Self::poll_output) until it gives
/// `None`; handing in another input before that is a bug of the host and asserted.
#[derive(Clone, Debug, Hash)]
pub struct Kernel {
    pub(crate) system: System,
    pub(crate) mm: Mm,
    pub(crate) vfs: Vfs,
    pub(crate) ipc: Ipc,
    pub(crate) tasks: Tasks,
    pub(crate) ns: Namespaces,
    pub(crate) waits: Waits,
    pub(crate) ops: Ops,
    pub(crate) barriers: syscall::memory::Barriers,
    outputs: VecDeque<Output>,
    deadline_sent: Option<u64>,
}

/// What belongs to the whole system: its time and randomness.
#[derive(Clone, Debug, Hash)]
pub(crate) struct System {
    /// Number of processors the program sees.
    pub cpus: u32,
    /// `/proc/cpuinfo` of one processor.
    pub cpuinfo: Vec<u8>,
    /// What the three standard streams are.
    pub stdio: [crate::boot::Stdio; 3],
    /// Time of the boot and of the input being handled.
    pub booted: Now,
    pub now: Now,
    pub rng: crate::rng::Rng,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: [u8; 16],
    pub strace: bool,
    /// How often threads waited, and how many tasks there have been.
    pub switches: u64,
    pub forks: u64,
    pub load: crate::task::load::Load,
    /// Set once the first process has ended: nothing runs any more.
    pub over: bool,
}

/// What a parked task waits for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum WaitKey {
    /// A change of a pipe: data, room, or an end closed. The number is the pipe's id.
    Pipe(u64),
    /// A change of a socket: bytes, room, connections.
    Socket(crate::vfs::socket::SocketId),
    /// A change of a System V semaphore set, or message queue.
    Semaphores(crate::ipc::ObjectId),
    Messages(crate::ipc::ObjectId),
    /// A change of a POSIX message queue.
    MessageQueue(crate::vfs::mqueue::QueueId),
    /// Events of an asynchronous input and output context.
    Aio(crate::vfs::aio::ContextId),
    /// A change of an open file that is an event itself: a counter, timer or epoll instance.
    File(FileId),
    /// A signal came for a thread of this process or for the process (signalfd(2)).
    Signals(u32),
    /// This process or a thread of it ended, or was waited for (pidfd_open(2)).
    Exit(u32),
    /// A child of this thread group changed its state.
    Child(u32),
    /// The vfork child of this thread executed a program or ended.
    Vfork(ThreadId),
    /// A futex word.
    Futex(FutexKey),
    /// A host operation ended.
    Op(OpId),
    /// A lock on a file was released.
    FileLock(crate::vfs::InodeRef),
    /// A FIFO got its other end.
    Fifo(crate::vfs::InodeRef),
    /// Threads that ran have come by for the membarrier(2) call of this one.
    Barrier(ThreadId),
    /// Only a signal or the deadline ends this wait.
    Signal(ThreadId),
}

/// What a system call that was interrupted by a signal does afterwards (signal(7)).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Restart {
    /// Restarted if the handler has `SA_RESTART` (`ERESTARTSYS`).
    IfAsked,
    /// Restarted always, after any handler (`ERESTARTNOINTR`).
    Always,
    /// Restarted only if no handler ran (`ERESTARTNOHAND`, `ERESTART_RESTARTBLOCK`); the call keeps its entry time.
    IfNoHandler,
    /// Always ends with `EINTR`.
    Never,
}

/// Why a system call handler did not give a result.
#[derive(Clone, Debug)]
pub(crate) enum Stop {
    /// It failed.
    Errno(Errno),
    /// It has to wait; it is run again later.
    Block(Wait),
    /// Registers were set by the handler (execve, rt_sigreturn) or the task has ended.
    Done,
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Stop {
        Stop::Errno(errno)
    }
}

/// What a blocked system call waits for.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Wait {
    pub keys: SmallVec<[WaitKey; 2]>,
    /// `CLOCK_MONOTONIC` time after which the handler is run again in any case.
    pub deadline: Option<u64>,
    pub restart: Restart,
    /// Signals do not end this wait, except deadly ones (vfork, exec).
    pub killable: bool,
}

impl Wait {
    /// Waits for one key without a deadline; restarted after a handler with `SA_RESTART`.
    pub(crate) fn on(key: WaitKey) -> Wait {
        Wait {
            keys: SmallVec::from_slice(&[key]),
            deadline: None,
            restart: Restart::IfAsked,
            killable: false,
        }
    }

    pub(crate) fn until(mut self, deadline: Option<u64>) -> Wait {
        self.deadline = deadline;
        self
    }

    pub(crate) fn restart(mut self, restart: Restart) -> Wait {
        self.restart = restart;
        self
    }
}

impl<T> From<Wait> for Result<T, Stop> {
    fn from(wait: Wait) -> Self {
        Err(Stop::Block(wait))
    }
}

/// What a system call handler returns: the value for the result register, or why there is none.
pub(crate) type SysResult = Result<u64, Stop>;

/// The system call a task is in. Kept while it is parked; gone when it returns to the program.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Call {
    pub number: u64,
    pub args: [u64; 6],
    /// When the program made the call: relative timeouts count from here.
    pub entered: Now,
    /// For the handler's own use between runs: bytes done so far, or another small state.
    pub progress: u64,
    /// Host operation that this call started and has not yet seen the result of.
    pub op: Option<OpId>,
    /// The host was asked to give `op` up.
    pub cancelled: bool,
    /// Signal mask to come back to (ppoll, pselect, sigsuspend).
    pub saved_mask: Option<u64>,
    /// What the call waits for now.
    pub wait: Option<Wait>,
    /// Its arguments as text, while system calls are traced.
    pub trace: Option<syscall::strace::Args>,
}

impl Call {
    /// Whether nothing but its value is left of it when it ends.
    fn is_plain(&self) -> bool {
        self.op.is_none() && self.saved_mask.is_none() && self.trace.is_none()
    }
}

/// Who waits for what, and until when.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Waits {
    queues: BTreeMap<WaitKey, VecDeque<ThreadId>>,
    deadlines: BTreeSet<(u64, ThreadId)>,
    ready: VecDeque<ThreadId>,
}

/// Host operations under way, and those that ended and were not yet looked at.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Ops {
    next: u64,
    done: BTreeMap<OpId, Result<HostResult, Errno>>,
    /// Operations whose caller has gone: their results are dropped.
    orphans: BTreeSet<OpId>,
}

impl Kernel {
    /// Boots: mounts the file systems and makes the first process, ready to run. Drain [`poll_output`](Self::poll_output) afterwards.
    ///
    /// # Errors
    /// A [`BootError`] that names the image, the option or the program that is at fault.
    pub fn boot(config: BootConfig, ports: &mut Ports<'_>, now: Now) -> Result<Kernel, BootError> {
        let mut rng = crate::rng::Rng::new(config.seed);
        let mut boot_id = [0; 16];
        rng.fill(&mut boot_id);
        let mut kernel = Kernel {
            system: System {
                cpus: config.cpus.max(1),
                cpuinfo: config.cpuinfo.clone(),
                stdio: config.stdio,
                booted: now,
                now,
                rng,
                boot_id,
                strace: config.strace,
                switches: 0,
                forks: 1,
                load: crate::task::load::Load::default(),
                over: false,
            },
            mm: Mm::new(ports.memory.frames(), config.memory_limit),
            vfs: Vfs::new(),
            ipc: Ipc::default(),
            tasks: Tasks::new(config.threads_max),
            ns: Namespaces::new(config.hostname.clone().into_bytes()),
            waits: Waits::default(),
            ops: Ops::default(),
            barriers: syscall::memory::Barriers::default(),
            outputs: VecDeque::with_capacity(64),
            deadline_sent: None,
        };
        if config.vdso {
            // Too little memory even for that: the first program will not fit either.
            let _ = crate::vdso::make(&mut kernel, ports);
        }
        crate::vfs::boot::mount_all(&mut kernel, ports, &config)?;
        crate::task::boot::start_init(&mut kernel, ports, &config)?;
        kernel.settle_all(ports);
        Ok(kernel)
    }

    /// Hands in one input that happened at `now`.
    ///
    /// # Panics
    /// If outputs of the previous input have not been drained.
    pub fn handle(&mut self, ports: &mut Ports<'_>, now: Now, input: Input) {
        assert!(
            self.outputs.is_empty(),
            "outputs must be drained before the next input"
        );
        if self.system.over {
            return;
        }
        self.mm.frames.clean(ports.memory);
        // A host clock that steps back must not turn timers round.
        self.system.now = Now {
            mono: now.mono.max(self.system.now.mono),
            real: now.real,
        };
        crate::task::load::sample(self);
        match input {
            Input::Trap { thread, regs, trap } => self.trap(ports, thread, regs, trap),
            Input::Completed { op, result } => self.completed(op, result),
            Input::Tick => {}
            Input::Signal { signal } => signal::from_outside(self, signal),
            Input::Clock(clock) => crate::vdso::set_clock(self, ports, clock),
            Input::Resize { rows, cols } => {
                if let crate::boot::Stdio::Terminal { .. } = self.system.stdio[0] {
                    self.system.stdio[0] = crate::boot::Stdio::Terminal { rows, cols };
                }
                signal::from_outside(self, crate::abi::raw::general::SIGWINCH as u8);
            }
        }
        self.settle_all(ports);
    }

    /// The next thing to do, or `None` when the input has been dealt with.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// A digest of the whole state: equal for equal runs, on every host.
    pub fn digest(&self) -> u64 {
        let mut hasher = crate::digest::Digest::default();
        self.hash(&mut hasher);
        hasher.finish()
    }

    /// Checks the invariants of all parts; the error names the first one that does not hold. For tests and fuzzers.
    ///
    /// # Errors
    /// A text that says what is wrong.
    pub fn check(&self) -> Result<(), String> {
        crate::task::check::check(self)?;
        crate::mm::check::check(self)?;
        crate::ipc::check(self)?;
        crate::vfs::check::check(self)
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

    /// Copies bytes into user memory of a thread, for debuggers and tests. Drain the outputs before and afterwards.
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

    pub(crate) fn emit(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    pub(crate) fn log(&mut self, level: Level, line: String) {
        self.emit(Output::Log(level, line));
    }

    fn trap(&mut self, ports: &mut Ports<'_>, thread: ThreadId, regs: Regs, trap: Trap) {
        let now = self.system.now;
        let Some(task) = self.tasks.get_mut(thread) else {
            return;
        };
        if !task.running {
            return;
        }
        task.regs = regs;
        task.interrupting = false;
        cputime::stop(self, thread);
        syscall::memory::passed(self, thread);
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
                    entered: now,
                    progress: 0,
                    op: None,
                    cancelled: false,
                    saved_mask: None,
                    wait: None,
                    trace: None,
                };
                cx.task_mut().call = Some(call);
                cx.run_call();
            }
            Trap::Fault { addr, access } => crate::mm::fault::user_fault(&mut cx, addr, access),
            Trap::Exception(exception) => signal::force_exception(&mut cx, exception),
            Trap::Interrupted => {}
            Trap::Lost => {
                let tgid = cx.task().tgid;
                process::end_group(cx.k, cx.p, tgid, u32::from(signal::SIGKILL));
            }
        }
        self.settle(ports, thread);
    }

    fn completed(&mut self, op: OpId, result: Result<HostResult, Errno>) {
        if self.ops.orphans.remove(&op) {
            return;
        }
        self.ops.done.insert(op, result);
        self.wake(WaitKey::Op(op));
    }

    /// Delivers signals to a stopped task that is not in a call and lets it run.
    fn settle(&mut self, ports: &mut Ports<'_>, thread: ThreadId) {
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
            // Delivery can end the task, stop it, or run the interrupted call again.
            if !signal::deliver(&mut cx) {
                break;
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
        crate::mm::space::count_areas(self, task.space);
        let Some(task) = self.tasks.get_mut(thread) else {
            return;
        };
        let regs = task.regs;
        if core::mem::take(&mut task.fresh) {
            let space = task.space;
            self.emit(Output::StartThread {
                thread,
                space,
                regs,
                parent: None,
            });
        } else {
            self.emit(Output::Resume { thread, regs });
        }
    }

    /// Charges what the kernel holds for guests in objects of a size: tasks, areas, files and their names.
    fn charge_objects(&mut self) {
        /// A task with its kernel stack on the host, as Linux has it; a `struct vm_area_struct`.
        const TASK_COST: u64 = 16 << 10;
        const AREA_COST: u64 = 160;
        let tasks = self.tasks.len() as u64 * TASK_COST;
        let bytes = self.vfs.held() + tasks + self.mm.areas * AREA_COST;
        self.mm.charge_objects(bytes);
    }

    /// Runs everything that became ready, until nothing is left to do before the next input.
    fn settle_all(&mut self, ports: &mut Ports<'_>) {
        loop {
            let mono = self.system.now.mono;
            while let Some(&(at, thread)) = self.waits.deadlines.first() {
                if at > mono {
                    break;
                }
                self.waits.deadlines.pop_first();
                self.make_ready(thread);
            }
            crate::task::timer::expire(self);
            aio::settle(self, ports);
            let Some(thread) = self.waits.ready.pop_front() else {
                self.charge_objects();
                if self.mm.frames.is_over() && crate::mm::oom::make_room(self, ports) {
                    continue;
                }
                break;
            };
            let Some(task) = self.tasks.get_mut(thread) else {
                continue;
            };
            task.ready = false;
            if task.running || task.exited || task.stopped {
                continue;
            }
            if task.call.is_some() {
                self.unpark(thread);
                Cx {
                    k: self,
                    p: ports,
                    thread,
                }
                .run_call();
            }
            self.settle(ports, thread);
        }
        if self.system.over {
            return;
        }
        let first = self.waits.deadlines.first().map(|&(at, _)| at);
        let timer = crate::task::timer::next(self);
        let deadline = match (first, timer) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        if deadline != self.deadline_sent {
            self.deadline_sent = deadline;
            self.emit(Output::Deadline(deadline));
        }
    }

    /// Runs the parked tasks waiting for this key again, all of them, before the input is done.
    pub(crate) fn wake(&mut self, key: WaitKey) {
        self.notify(key, ready::ANY);
    }

    /// The same where it is known what came: poll events, which the files' watchers are told of (epoll(7)); 0 tells them nothing.
    pub(crate) fn notify(&mut self, key: WaitKey, events: u16) {
        if let WaitKey::Pipe(id) = key {
            crate::vfs::pipe::charge(self, id);
        }
        self.wake_threads(key);
        if events != 0 {
            epoll::announce(self, key, events);
            aio::announce(self, key, events);
        }
    }

    /// Runs the parked tasks waiting for this key again; tells no watchers.
    pub(crate) fn wake_threads(&mut self, key: WaitKey) {
        let mut index = 0;
        while let Some(thread) = self.waiter_at(key, index) {
            self.make_ready(thread);
            index += 1;
        }
    }

    /// Puts a task that is not running into the ready queue: its call is run again, its signals are looked at.
    pub(crate) fn make_ready(&mut self, thread: ThreadId) {
        if let Some(task) = self.tasks.get_mut(thread)
            && !task.running
            && !task.ready
            && !task.exited
        {
            task.ready = true;
            self.waits.ready.push_back(thread);
        }
    }

    fn park(&mut self, thread: ThreadId, wait: Wait) {
        for &key in &wait.keys {
            self.waits.queues.entry(key).or_default().push_back(thread);
        }
        if let Some(at) = wait.deadline {
            self.waits.deadlines.insert((at, thread));
        }
        let Some(task) = self.tasks.get_mut(thread) else {
            return;
        };
        task.switches += 1;
        self.system.switches += 1;
        if let Some(call) = task.call.as_mut() {
            call.wait = Some(wait);
        }
    }

    /// Takes a task out of all queues it waits in. Its call stays.
    pub(crate) fn unpark(&mut self, thread: ThreadId) {
        let Some(wait) = self
            .tasks
            .get_mut(thread)
            .and_then(|task| task.call.as_mut())
            .and_then(|call| call.wait.take())
        else {
            return;
        };
        for key in &wait.keys {
            if let Some(queue) = self.waits.queues.get_mut(key) {
                queue.retain(|&other| other != thread);
                if queue.is_empty() {
                    self.waits.queues.remove(key);
                }
            }
        }
        if let Some(at) = wait.deadline {
            self.waits.deadlines.remove(&(at, thread));
        }
    }

    /// Ends whatever a task was waiting for: it dies or its call was interrupted. A host operation under way is given up.
    pub(crate) fn abandon_call(&mut self, thread: ThreadId) -> Option<Call> {
        self.unpark(thread);
        let mut call = self.tasks.get_mut(thread)?.call.take()?;
        if let Some(op) = call.op.take() {
            self.abandon_op(op);
        }
        Some(call)
    }

    /// Gives up a host operation: its result is dropped.
    pub(crate) fn abandon_op(&mut self, op: OpId) {
        if self.ops.done.remove(&op).is_none() && self.ops.orphans.insert(op) {
            self.emit(Output::CancelHost(op));
        }
    }

    /// One of the tasks waiting for a key, by its place in the queue. Making it ready does not take it out.
    pub(crate) fn waiter_at(&self, key: WaitKey, index: usize) -> Option<ThreadId> {
        self.waits.queues.get(&key)?.get(index).copied()
    }

    /// Whether the queues and deadlines hold exactly what these parked tasks wait for; for invariant checks.
    pub(crate) fn check_waits<'k>(
        &self,
        parked: impl Iterator<Item = (ThreadId, &'k Wait)>,
    ) -> Result<(), String> {
        let mut places = 0;
        let mut deadlines = 0;
        for (thread, wait) in parked {
            places += wait.keys.len();
            deadlines += usize::from(wait.deadline.is_some());
            let queued = |key| self.waiters(key).any(|other| other == thread);
            if let Some(key) = wait.keys.iter().find(|&&key| !queued(key)) {
                return Err(format!("{thread:?} is not in the queue of {key:?}"));
            }
        }
        let queued: usize = self.waits.queues.values().map(VecDeque::len).sum();
        // A deadline that has passed is taken out before its task runs.
        match queued == places && self.waits.deadlines.len() <= deadlines {
            true => Ok(()),
            false => Err(format!(
                "{queued} places in queues, but {places} are waited in"
            )),
        }
    }

    /// The next futex word behind `after` that somebody sleeps on.
    pub(crate) fn next_futex(&self, after: Option<FutexKey>) -> Option<FutexKey> {
        use core::ops::Bound::{Excluded, Unbounded};
        let from = match after {
            Some(key) => Excluded(WaitKey::Futex(key)),
            None => Unbounded,
        };
        self.waits
            .queues
            .range((from, Unbounded))
            .find_map(|(key, _)| match key {
                WaitKey::Futex(key) => Some(*key),
                _ => None,
            })
    }

    /// Lets a parked task wait for another key instead of one of its own.
    pub(crate) fn move_waiter(&mut self, thread: ThreadId, from: WaitKey, to: WaitKey) {
        let keys = self
            .tasks
            .get_mut(thread)
            .and_then(|task| task.call.as_mut())
            .and_then(|call| call.wait.as_mut());
        let Some(key) = keys.and_then(|wait| wait.keys.iter_mut().find(|key| **key == from)) else {
            return;
        };
        *key = to;
        if let Some(queue) = self.waits.queues.get_mut(&from) {
            if let Some(at) = queue.iter().position(|&other| other == thread) {
                queue.remove(at);
            }
            if queue.is_empty() {
                self.waits.queues.remove(&from);
            }
        }
        self.waits.queues.entry(to).or_default().push_back(thread);
    }

    /// The tasks waiting for a key, longest first.
    pub(crate) fn waiters(&self, key: WaitKey) -> impl Iterator<Item = ThreadId> + '_ {
        self.waits.queues.get(&key).into_iter().flatten().copied()
    }
}
