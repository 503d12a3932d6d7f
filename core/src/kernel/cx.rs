//! What a system call's handler works with: the kernel, the ports and the task that calls.

use super::*;

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

    /// The same, to be changed in what no other task and no index goes by.
    pub(crate) fn creds_mut(&mut self) -> &mut Creds {
        Arc::make_mut(&mut self.task_mut().creds)
    }

    /// The call being handled.
    pub(crate) fn call(&mut self) -> &mut Call {
        self.task_mut()
            .call
            .as_mut()
            .expect("a handler runs inside a call") // INVARIANT: only run_call() runs handlers
    }

    pub(crate) fn space(&self) -> SpaceId {
        self.task().space
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
        if !under_way && signal::ends(self.k, thread, &wait) {
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
