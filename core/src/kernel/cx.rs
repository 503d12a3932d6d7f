//! What a system call's handler works with: the kernel, the ports and the task that calls.

use super::*;
use crate::env::steps::STEPS;

/// What a system call handler works with: the kernel, the ports, and who is calling.
pub(crate) type Cx<'a, 'p> = crate::env::cx::Cx<'a, 'p, Kernel>;

impl Cx<'_, '_> {
    /// The calling task. A handler runs only for a task that exists.
    pub(crate) fn task(&self) -> &Task {
        self.k
            .tasks
            .get(self.thread)
            .expect("a handler runs for a live task") // INVARIANT: ended tasks are never dispatched
    }

    pub(crate) fn task_mut(&mut self) -> &mut Task {
        self.k
            .tasks
            .get_mut(self.thread)
            .expect("a handler runs for a live task") // INVARIANT: ended tasks are never dispatched
    }

    /// The call being handled.
    pub(crate) fn call(&mut self) -> &mut Call {
        self.task_mut()
            .call
            .as_mut()
            .expect("a handler runs inside a call") // INVARIANT: only run_call() runs handlers
    }

    /// The credentials of the task, to be changed in what no other task and no index goes by.
    pub(crate) fn creds_mut(&mut self) -> &mut Creds {
        Arc::make_mut(&mut self.task_mut().creds)
    }

    pub(crate) fn space(&self) -> SpaceId {
        self.task().space
    }

    pub(crate) fn fds(&mut self) -> &mut FdTable {
        let id = self.task().files;
        self.k.files.fd_table_mut(id)
    }

    pub(crate) fn fs_context(&mut self) -> &mut FsContext {
        let id = self.task().fs;
        self.k.files.fs_context_mut(id)
    }

    pub(crate) fn now(&self) -> Now {
        self.k.env.now
    }

    /// Whether the deadline of a wait that counts from the call's entry has passed: `timeout` in nanoseconds.
    pub(crate) fn expired(&mut self, timeout: u64) -> bool {
        let entered = self.call().entered.mono;
        self.now().mono >= entered.saturating_add(timeout)
    }

    /// Leaves a long call, so that others get on, and comes back to it with this progress. A handler that
    /// runs meanwhile lets it start over.
    pub(crate) fn pause(&mut self, progress: u64) -> SysResult {
        self.call().progress = progress;
        self.others_first().restart(Restart::Always).into()
    }

    /// The same for calls that signals do not interrupt, but for deadly ones.
    pub(crate) fn give_way(&mut self, progress: u64) -> Stop {
        self.call().progress = progress;
        let mut wait = self.others_first();
        wait.killable = true;
        Stop::Block(wait)
    }

    /// Counts work on many things: see [`steps`].
    pub(crate) fn spend(&mut self, steps: u64) {
        self.k.env.steps.spend(steps);
    }

    /// Whether the steps of this input are used up.
    pub(crate) fn is_spent(&self) -> bool {
        self.k.env.steps.left() == 0
    }

    /// A wait that is over as soon as others had the kernel.
    pub(crate) fn others_first(&mut self) -> Wait {
        // A piece takes about as long, whatever was counted of it.
        let left = self.k.env.steps.left();
        self.spend(left.min(STEPS / 2));
        let later = self.now().mono.saturating_add(1);
        Wait::on(WaitKey::Signal(self.thread)).until(Some(later))
    }

    /// Asks the host for an operation and blocks until it has ended; then gives its result. Called again when
    /// the handler is run again. A signal makes the host give the operation up, but the call is not
    /// interrupted before the host has said what became of it: bytes may have been moved already. `EINTR` of
    /// an operation that was given up never reaches the caller.
    pub(crate) fn host(&mut self, call: HostCall) -> Result<HostResult, Stop> {
        let interrupted = signal::interrupts(self.k, self.thread, false);
        if let Some(op) = self.call().op {
            match self.k.ops.done.remove(&op) {
                None => {
                    self.cancel_if(interrupted, op);
                    return Wait::on(WaitKey::Op(op)).into();
                }
                Some(Err(Errno::EINTR)) => {
                    self.call().op = None;
                    if interrupted {
                        return Wait::on(WaitKey::Op(op)).into();
                    }
                    // The signal was taken by another thread: once more.
                }
                Some(result) => {
                    self.call().op = None;
                    return Ok(result?);
                }
            }
        }
        let op = self.k.ops.start(&call);
        let thread = self.thread;
        self.k.env.emit(Output::Host { op, thread, call });
        let call = self.call();
        call.op = Some(op);
        call.cancelled = false;
        self.cancel_if(interrupted, op);
        Wait::on(WaitKey::Op(op)).into()
    }

    fn cancel_if(&mut self, interrupted: bool, op: OpId) {
        if interrupted && !core::mem::replace(&mut self.call().cancelled, true) {
            self.k.env.emit(Output::CancelHost(op));
        }
    }

    /// Runs the handler of the current call and deals with what it returns.
    pub(super) fn run_call(&mut self) {
        let (number, args) = {
            let call = self.call();
            (call.number, call.args)
        };
        if self.k.system.strace.0.is_some() {
            self.begin_trace(number, &args);
        }
        self.call().walks = 0;
        let result = syscall::dispatch(self, number, &args);
        self.k.take_notices();
        let thread = self.thread;
        if self.k.tape.0.is_some() {
            self.keep_trace();
        }
        if !matches!(result, Err(Stop::Errno(Errno::LATER))) {
            crate::vfs::walk::forget(self.k, self.p, thread);
            crate::mm::fork::abandon(self.k, self.p, thread);
            crate::file::fdtable::abandon_copy(self.k, self.p, thread);
            if !matches!(result, Err(Stop::Block(_))) {
                crate::vfs::mount::job::abandon(self.k, self.p, thread);
                crate::mm::fork::let_go(self.k, thread);
            }
        }
        match result {
            Ok(value) => {
                self.task_mut().io.count(number, value);
                self.finish_call(value);
            }
            // A walk of a path, deep inside the handler, has used up its steps.
            Err(Stop::Errno(Errno::LATER)) => {
                let mut wait = self.others_first();
                wait.killable = true;
                self.stop_for(wait);
            }
            Err(Stop::Errno(errno)) => self.finish_call(errno.as_result()),
            Err(Stop::Done) => {
                if let Some(mut call) = self.k.abandon_call(thread) {
                    self.k.release_files(self.p, &call);
                    if let Some(trace) = call.trace.0.take() {
                        let result = syscall::strace::result_of_done(self, number);
                        syscall::strace::exit(self, &call, *trace, result);
                    }
                }
            }
            Err(Stop::Block(wait)) => self.stop_for(wait),
        }
    }

    /// Begins to trace the current call, or goes on with it.
    fn begin_trace(&mut self, number: u64, args: &[u64; 6]) {
        if self.call().trace.0.is_none() {
            self.call().trace.0 = syscall::strace::enter(self, number, args);
        } else if let Some(trace) = &mut self.call().trace.0
            && let Some(tape) = &mut trace.tape
        {
            tape.rewind();
        }
        let trace = self.call().trace.0.as_mut();
        self.k.tape.0 = trace.and_then(|trace| trace.tape.take());
    }

    /// Puts back what the handler has read and written.
    fn keep_trace(&mut self) {
        let thread = self.thread;
        let mut tape = self.k.tape.0.take();
        if let Some(tape) = &mut tape {
            tape.resolve(self.p);
        }
        let task = self.k.tasks.get_mut(thread);
        let call = task.and_then(|task| task.call.as_mut());
        if let Some(trace) = call.and_then(|call| call.trace.0.as_mut()) {
            trace.tape = tape;
        }
    }

    /// Parks the task, unless a signal ends the wait at once.
    fn stop_for(&mut self, wait: Wait) {
        let thread = self.thread;
        self.keep_files();
        let under_way = self.call().op.is_some();
        if !under_way && signal::interrupts(self.k, thread, wait.killable) {
            crate::file::lock::leave(self.k, thread);
            let task = self.task_mut();
            task.interrupted = task.call.take().map(|call| (call, wait.restart));
            // exit_to_user() delivers the signal and decides between EINTR and restart.
        } else {
            self.k.park(thread, wait);
        }
    }

    /// Ends the current call with a value for the program.
    pub(crate) fn finish_call(&mut self, value: u64) {
        let task = self.task_mut();
        // Most calls leave nothing behind.
        if task.call.as_ref().is_some_and(Call::is_plain) {
            task.call = None;
            task.regs.rax = value;
            return;
        }
        if let Some(mut call) = self.task_mut().call.take() {
            if let Some(mask) = call.saved_mask.take() {
                signal::set_blocked(self.k, self.thread, mask);
            }
            self.end_call(call, value);
        }
    }

    /// Ends a call that the task is no longer in (it was interrupted) with a value for the program. A signal
    /// mask that was set for the call alone holds until the handler has been entered.
    pub(crate) fn end_call(&mut self, mut call: Call, value: u64) {
        if let Some(mask) = call.saved_mask {
            self.task_mut().saved_mask = Some(mask);
        }
        // A call that waited for several things may end before its host operation has.
        if let Some(op) = call.op.take() {
            self.k.abandon_op(op);
        }
        self.task_mut().regs.rax = value;
        self.k.release_files(self.p, &call);
        if let Some(trace) = call.trace.0.take() {
            syscall::strace::exit(self, &call, *trace, Some(value));
        }
    }

    /// Takes references on the files that the current call works on, because it waits now.
    fn keep_files(&mut self) {
        if self.call().files.kept {
            return;
        }
        let mut found = core::mem::take(&mut self.call().files.found);
        let table = self.fds();
        // What the handler itself closed is not looked for again.
        found.retain(|(fd, file)| table.get(*fd).is_some_and(|slot| slot.file == *file));
        for &(_, file) in &found {
            crate::file::get(self.k, file);
        }
        self.call().files = CallFiles { found, kept: true };
    }

    /// Goes back into a call that a signal without a handler interrupted: it keeps its entry time and
    /// progress.
    pub(crate) fn resume_call(&mut self, call: Call) {
        self.task_mut().call = Some(call);
        self.run_call();
    }

    pub(crate) fn log(&mut self, level: Level, line: String) {
        let tid = self.task().tid;
        self.k.env.log(level, format!("[{tid}] {line}"));
    }
}
