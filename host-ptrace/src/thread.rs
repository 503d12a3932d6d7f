//! A guest thread on the ptrace host.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use varve_core::machine::{Access, Exception, Regs, Trap};
use varve_host::{Backings, GuestThread, Interrupter, PlatformError, failed, fresh_xstate};

use crate::process::Process;
use crate::space::{Begin, Failure, Operation, Space, State};
use crate::stub::{self, Batch, CALLS_MAX, Call};
use crate::tracee::{self, Stopped, Tracee};
use crate::zygote::Zygote;

/// `si_code` of a fault that the processor did not give an address for.
const SI_KERNEL: i32 = 0x80;
/// Selector of 64-bit user code.
const USER_CS: u64 = 0x33;

/// A guest thread: a traced process, made when it first runs.
pub struct Thread {
    backings: Arc<Backings>,
    batch: Arc<Batch>,
    zygote: Arc<Zygote>,
    space: Arc<Space>,
    tracee: Tracee,
    /// What the process's registers are, as far as they were read or set.
    known: Option<Regs>,
    /// It stands before a system call: only then does setting `rax` alone do.
    in_syscall: bool,
    fresh_xstate: Vec<u8>,
    cpu: Option<usize>,
    kicker: Arc<Kicker>,
}

/// What others use to stop the thread.
struct Kicker {
    process: Mutex<Arc<Process>>,
    interrupted: AtomicBool,
    killed: AtomicBool,
}

impl Kicker {
    fn process(&self) -> MutexGuard<'_, Arc<Process>> {
        // Only ever replaced whole.
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Interrupter for Kicker {
    fn interrupt(&self) {
        self.interrupted.store(true, Ordering::SeqCst);
        self.process().kick();
    }

    fn kill(&self) {
        self.killed.store(true, Ordering::SeqCst);
        self.process().kill();
    }
}

impl Thread {
    pub(crate) fn new(
        backings: Arc<Backings>,
        batch: Arc<Batch>,
        zygote: Arc<Zygote>,
        space: Arc<Space>,
        xstate_size: usize,
        cpu: Option<usize>,
    ) -> Result<Thread, PlatformError> {
        if let Some(cpu) = cpu {
            tracee::pin(0, cpu);
        }
        let tracee = Thread::make_tracee(&batch, &zygote, &space)?;
        if let Some(cpu) = cpu {
            tracee::pin(tracee.process.pid, cpu);
        }
        let kicker = Kicker {
            process: Mutex::new(tracee.process.clone()),
            interrupted: AtomicBool::new(false),
            killed: AtomicBool::new(false),
        };
        let mut thread = Thread {
            backings,
            batch,
            zygote,
            space,
            tracee,
            known: None,
            in_syscall: false,
            fresh_xstate: fresh_xstate(xstate_size),
            cpu,
            kicker: Arc::new(kicker),
        };
        // A new process has the state of this worker; the guest gets the one of a new program.
        thread.reset_xstate()?;
        Ok(thread)
    }

    /// A process for a thread of the space, of which it is one from now on: the one a sibling left, or the
    /// first one. A left one has been counted since it was made, so that the space is not given back while
    /// its worker is on the way.
    fn make_tracee(
        batch: &Batch,
        zygote: &Zygote,
        space: &Arc<Space>,
    ) -> Result<Tracee, PlatformError> {
        if let Some(process) = space.take_sibling() {
            return Tracee::adopt(process).map_err(|error| {
                space.threads.fetch_sub(1, Ordering::SeqCst);
                failed("tracing a guest thread")(error)
            });
        }
        let known = space.slot();
        let slot = known.or_else(|| batch.take()).ok_or_else(|| {
            PlatformError::Host("there is no room for more than 32768 address spaces".into())
        })?;
        let tracee = zygote.copy(slot, space).inspect_err(|_| {
            if known.is_none() {
                batch.give(slot);
            }
        })?;
        space.set_slot(Some(slot));
        space.threads.fetch_add(1, Ordering::SeqCst);
        Ok(tracee)
    }

    /// Makes the process of another thread of this thread's space, for its worker to take over.
    pub(crate) fn leave_sibling(&mut self, space: &Arc<Space>) -> Result<(), PlatformError> {
        if Arc::ptr_eq(space, &self.space) {
            let process = self
                .tracee
                .clone_sibling()
                .map_err(failed("a guest thread"))?;
            self.known = None;
            space.threads.fetch_add(1, Ordering::SeqCst);
            space.put_sibling(process);
        }
        Ok(())
    }

    /// Moves into another space. A process that nobody shares is emptied and kept.
    pub(crate) fn enter(&mut self, space: Arc<Space>) -> Result<(), PlatformError> {
        if Arc::ptr_eq(&space, &self.space) {
            return Ok(());
        }
        self.known = None;
        if self.space.thread_count() == 1 && space.slot().is_none() {
            let empty = Call {
                number: libc::SYS_munmap as u64,
                args: [0, stub::CODE, 0, 0, 0, 0],
            };
            let slot = self.space.slot();
            if let Some(slot) = slot {
                self.batch.write(slot, &[empty]);
            }
            let emptied = self.tracee.batch(1);
            if let Some(slot) = slot {
                self.batch.wipe(slot, 1);
            }
            emptied.map_err(|(_, error)| failed("emptying an address space")(error))?;
            self.space.set_slot(None);
            space.set_slot(slot);
            space.threads.fetch_add(1, Ordering::SeqCst);
        } else {
            self.tracee = Thread::make_tracee(&self.batch, &self.zygote, &space)?;
            *self.kicker.process() = self.tracee.process.clone();
            if let Some(cpu) = self.cpu {
                tracee::pin(self.tracee.process.pid, cpu);
            }
        }
        self.leave();
        self.space = space;
        self.reset_xstate()
    }

    /// Is no longer in its space; the last one gives the page of calls back.
    fn leave(&self) {
        if self.space.threads.fetch_sub(1, Ordering::SeqCst) == 1
            && let Some(slot) = self.space.slot()
        {
            self.space.set_slot(None);
            self.batch.give(slot);
        }
    }

    /// Carries out the page operations that are queued for the space. Tells whether it can be run then.
    fn flush(&mut self) -> Result<State, PlatformError> {
        if self.space.is_clean() {
            return Ok(State::Sound);
        }
        let space = self.space.clone();
        let _alone = space
            .flushing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let operations = space.take();
        let carried_out = self.carry_out(&operations);
        let failure = carried_out.as_ref().map(drop).map_err(|error| match error {
            error if error.raw_os_error() == Some(libc::ENOMEM) => Failure::NoRoom,
            error if is_of_dead(error) => Failure::Killed,
            _ => Failure::Refused,
        });
        space.done(failure);
        match (space.state(), carried_out) {
            (_, Err(error)) if failure == Err(Failure::Killed) => Err(error),
            (State::Gone, Err(error)) => Err(error),
            (state, _) => Ok(state),
        }
    }

    fn carry_out(&mut self, operations: &[Operation]) -> Result<(), PlatformError> {
        if operations.is_empty() {
            return Ok(());
        }
        let mut calls = Vec::with_capacity(operations.len());
        for operation in operations {
            operation.calls(&self.backings, &mut calls);
        }
        let slot = self.space.slot().ok_or_else(|| {
            PlatformError::Bug("page operations of a space that has no process".into())
        })?;
        self.known = None;
        for part in calls.chunks(CALLS_MAX) {
            self.batch.write(slot, part);
            let made = self.tracee.batch(part.len());
            self.batch.wipe(slot, part.len());
            made.map_err(|(index, error)| {
                failed(&format!("page operation {:?}", part.get(index)))(error)
            })?;
        }
        Ok(())
    }

    fn set_regs(&mut self, regs: &Regs) -> io::Result<()> {
        match self.known {
            Some(known) if known == *regs => Ok(()),
            Some(known)
                if self.in_syscall
                    && (Regs {
                        rax: regs.rax,
                        ..known
                    }) == *regs =>
            {
                self.tracee.set_rax(regs.rax)
            }
            // Without a call number the host kernel has nothing to restart.
            _ => self.tracee.set_regs(&Regs {
                orig_rax: u64::MAX,
                ..*regs
            }),
        }
    }

    fn trap_of_signal(&mut self, signal: i32, regs: &mut Regs) -> io::Result<Option<Trap>> {
        const SEGV_MAPERR: i32 = 1;
        const SEGV_ACCERR: i32 = 2;
        const SYS_SECCOMP: i32 = 1;
        let (_, code, addr) = self.tracee.signal_info()?;
        let fetch = |addr| {
            Some(Trap::Fault {
                addr,
                access: Some(Access::Execute),
            })
        };
        Ok(match signal {
            // A call through the vsyscall page, which guests do not have. The host kernel has returned to its
            // caller already.
            libc::SIGSYS if code == SYS_SECCOMP => {
                regs.rip = addr;
                regs.rsp = regs.rsp.wrapping_sub(8);
                fetch(addr)
            }
            libc::SIGSEGV if code == SI_KERNEL && regs.rip >> 12 == tracee::VSYSCALL >> 12 => {
                fetch(regs.rip)
            }
            libc::SIGSEGV if code == SEGV_MAPERR || code == SEGV_ACCERR => {
                Some(Trap::Fault { addr, access: None })
            }
            // Past the end of a file that the host maps: the core knows better what it is.
            libc::SIGBUS if code == libc::BUS_ADRERR => Some(Trap::Fault { addr, access: None }),
            libc::SIGSEGV | libc::SIGBUS | libc::SIGILL | libc::SIGFPE | libc::SIGTRAP
                if code > 0 =>
            {
                let addr = if code == SI_KERNEL { 0 } else { addr };
                Some(Trap::Exception(Exception {
                    signal: signal as u8,
                    code,
                    addr,
                }))
            }
            // From outside the sandbox: not for the guest.
            _ => None,
        })
    }
}

/// Whether a request was made of a process that is dead: none of the calls that page operations make ends so.
fn is_of_dead(error: &PlatformError) -> bool {
    let PlatformError::Io { error, .. } = error else {
        return false;
    };
    error.raw_os_error() == Some(libc::ESRCH) || error.kind() == io::ErrorKind::BrokenPipe
}

/// Whether the instruction that the thread stopped at was a 64-bit `syscall`: it leaves `rip` in `rcx` and
/// the flags in `r11`.
///
/// A 32-bit call (`int 0x80`, or any from a 32-bit code segment, which has another selector) that finds these
/// values there looks the same; the program then gets the 64-bit call that it has set the registers up for.
fn is_syscall(regs: &Regs) -> bool {
    regs.cs == USER_CS && regs.rcx == regs.rip && regs.r11 == regs.eflags
}

/// Makes a protection fault of a 32-bit call, as on a processor whose kernel has no gate for it.
fn refuse_call(regs: &mut Regs) -> Trap {
    /// Bytes of `int 0x80`.
    const INT_LEN: u64 = 2;
    if regs.cs == USER_CS {
        regs.rip = regs.rip.wrapping_sub(INT_LEN);
    }
    regs.rax = regs.orig_rax;
    Trap::Exception(Exception {
        signal: libc::SIGSEGV as u8,
        code: SI_KERNEL,
        addr: 0,
    })
}

impl Thread {
    fn run_to_trap(&mut self, regs: &mut Regs) -> Result<Trap, PlatformError> {
        loop {
            if self.kicker.killed.load(Ordering::SeqCst) {
                return Ok(Trap::Lost);
            }
            match self.flush()? {
                State::Sound => {}
                State::Crowded => {
                    self.kicker.interrupted.store(false, Ordering::SeqCst);
                    return Ok(Trap::Crowded);
                }
                State::Gone => return Ok(Trap::Lost),
            }
            self.set_regs(regs)
                .map_err(failed("registers of a guest thread"))?;
            self.known = None;
            if self.kicker.interrupted.swap(false, Ordering::SeqCst) {
                return Ok(Trap::Interrupted);
            }
            if self.space.begin_run(&self.tracee.process) == Begin::Flush {
                continue;
            }
            let stopped = self.tracee.run_guest();
            self.space.end_run(&self.tracee.process);
            let stopped = stopped.map_err(failed("running a guest thread"))?;
            if stopped == Stopped::Gone {
                return Ok(Trap::Lost);
            }
            *regs = self
                .tracee
                .regs()
                .map_err(failed("registers of a guest thread"))?;
            self.known = Some(*regs);
            self.in_syscall = stopped == Stopped::Syscall;
            match stopped {
                Stopped::Syscall if !is_syscall(regs) => {
                    self.kicker.interrupted.store(false, Ordering::SeqCst);
                    return Ok(refuse_call(regs));
                }
                Stopped::Syscall => {
                    self.kicker.interrupted.store(false, Ordering::SeqCst);
                    return Ok(Trap::Syscall);
                }
                Stopped::Signal(signal) => {
                    let trap = self
                        .trap_of_signal(signal, regs)
                        .map_err(failed("a guest's fault"))?;
                    if let Some(trap) = trap {
                        self.kicker.interrupted.store(false, Ordering::SeqCst);
                        return Ok(trap);
                    }
                }
                Stopped::Kicked | Stopped::Other | Stopped::Gone => {}
            }
        }
    }
}

impl GuestThread for Thread {
    fn run(&mut self, regs: &mut Regs) -> Result<Trap, PlatformError> {
        match self.run_to_trap(regs) {
            // Killed at any moment, whatever was being done for it.
            Err(error) if is_of_dead(&error) => Ok(Trap::Lost),
            result => result,
        }
    }

    fn read_xstate(&mut self, buf: &mut [u8]) -> Result<(), PlatformError> {
        self.tracee
            .get_xstate(buf)
            .map(drop)
            .map_err(failed("floating-point state"))
    }

    fn write_xstate(&mut self, buf: &[u8]) -> Result<bool, PlatformError> {
        match self.tracee.set_xstate(buf) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(false),
            Err(error) => Err(failed("floating-point state")(error)),
        }
    }

    fn reset_xstate(&mut self) -> Result<(), PlatformError> {
        let state = std::mem::take(&mut self.fresh_xstate);
        let result = self
            .tracee
            .set_xstate(&state)
            .map_err(failed("floating-point state"));
        self.fresh_xstate = state;
        result
    }

    fn interrupter(&self) -> Arc<dyn Interrupter> {
        self.kicker.clone()
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.leave();
    }
}
