//! Delivery: what a thread does about its signals before it goes back to its program.

use super::{
    IGNORE_SET, SIG_DFL, SIG_IGN, SIGSEGV, SIGSTOP, STOP_SET, SigInfo, UNBLOCKABLE, bit, frame,
    retarget, send, stop,
};
use crate::Kernel;
use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::env::wait::{Restart, Wait};
use crate::machine::{Exception, ThreadId};
use crate::task::Cx;
use crate::task::{Task, Tasks, ending, orphans, posix_timer};

/// Sets the signal mask of a thread; SIGKILL and SIGSTOP stay out of it.
pub(crate) fn set_blocked(k: &mut Kernel, thread: ThreadId, mask: u64) {
    let Some(task) = k.tasks.get_mut(thread) else {
        return;
    };
    let mask = mask & !UNBLOCKABLE;
    let newly = mask & !task.blocked;
    task.blocked = mask;
    let tgid = task.tgid;
    if newly != 0 {
        retarget(k, tgid);
    }
}

/// Forces a synchronous signal on the current thread: if it is blocked or ignored, it acts by default.
pub(crate) fn force(cx: &mut Cx<'_, '_>, info: SigInfo) {
    let (tgid, signal) = (cx.task().tgid, info.signo);
    let blocked = cx.task().blocked & bit(signal) != 0;
    let mut outside = false;
    if let Some(actions) = cx.k.tasks.actions_mut(tgid) {
        let mut action = actions.get(signal);
        if blocked || action.handler == SIG_IGN {
            action.handler = SIG_DFL;
            actions.set(signal, action);
        }
        outside = action.handler == SIG_DFL;
    }
    cx.task_mut().blocked &= !bit(signal);
    let payer = super::user(cx.k, tgid);
    let Tasks { tasks, paid, .. } = &mut cx.k.tasks;
    if let Some(task) = tasks.get_mut(&cx.thread) {
        // A fault kills even the first process.
        let info = SigInfo { outside, ..info };
        task.pending.push(paid, info, Some(payer));
    }
}

/// Vectors of the processor's exceptions, as `trapno` tells them.
const OVERFLOW: u64 = 4;
pub(super) const GENERAL_PROTECTION: u64 = 13;
const PAGE_FAULT: u64 = 14;

/// Forces a processor exception's signal on the current thread.
pub(crate) fn force_exception(cx: &mut Cx<'_, '_>, exception: Exception) {
    let signal = exception.signal.clamp(1, super::SIGNALS);
    let (number, error) = vector(cx, signal, exception.code);
    let fault = &mut cx.task_mut().fault;
    (fault.number, fault.error) = (number, error);
    force(cx, SigInfo::fault(signal, exception.code, exception.addr));
}

/// Forces the signal of a page fault that could not be resolved; `error` is the processor's error code.
pub(crate) fn force_page_fault(cx: &mut Cx<'_, '_>, exception: Exception, error: u64) {
    let signal = exception.signal.clamp(1, super::SIGNALS);
    cx.task_mut().fault = super::Fault {
        number: PAGE_FAULT,
        error,
        addr: exception.addr,
    };
    force(cx, SigInfo::fault(signal, exception.code, exception.addr));
}

/// The vector and error code of the exception that Linux makes a signal of, as far as signal, code, the state
/// of the x87 unit and the instruction tell: not every host sees them, and a program sees the same on all.
/// The error code of a refused selector is not known.
fn vector(cx: &mut Cx<'_, '_>, signal: u8, code: i32) -> (u64, u64) {
    let number = match u32::from(signal) {
        g::SIGFPE if code as u32 == g::FPE_INTDIV => 0,
        g::SIGFPE if frame::x87_exception(cx) => 16,
        g::SIGFPE => 19,
        g::SIGTRAP if code == g::SI_KERNEL as i32 => 3,
        g::SIGTRAP => 1,
        g::SIGILL => 6,
        // A stack segment fault, else an alignment check.
        g::SIGBUS if code == g::SI_KERNEL as i32 => 12,
        g::SIGBUS => 17,
        _ => return protection(cx),
    };
    (number, 0)
}

/// A general protection fault, or `int 4` that looks like one. The error code of `int N` names the gate.
fn protection(cx: &mut Cx<'_, '_>) -> (u64, u64) {
    const INT: u8 = 0xcd;
    const INT_LEN: u64 = 2;
    /// Bit of an error code: the index is one of the interrupt table.
    const TABLE: u64 = 2;
    let rip = cx.task().regs.rip;
    let mut code = [0; INT_LEN as usize];
    if cx.read_user(rip, &mut code).is_ok() && code[0] == INT {
        return (GENERAL_PROTECTION, u64::from(code[1]) << 3 | TABLE);
    }
    let before = rip.wrapping_sub(INT_LEN);
    if cx.read_user(before, &mut code).is_ok() && code == [INT, OVERFLOW as u8] {
        return (OVERFLOW, 0);
    }
    (GENERAL_PROTECTION, 0)
}

/// The signals of a thread that end its process as soon as they are delivered.
fn deadly(k: &Kernel, task: &Task) -> u64 {
    let Some(group) = k.tasks.group(task.tgid) else {
        return 0;
    };
    let pending = task.pending.set() | group.pending.set();
    let open = pending & !task.blocked & !(IGNORE_SET | STOP_SET);
    if open == 0 {
        return 0;
    }
    let actions = k.tasks.actions(task.tgid);
    let unhandled = actions.map_or(0, |actions| actions.unhandled(open));
    if unhandled == 0 || !crate::ns::pids::is_init(k, task.tgid) {
        return unhandled;
    }
    // Only what comes from outside ends the first process.
    let infos = task.pending.iter().chain(group.pending.iter());
    infos
        .filter(|info| info.outside)
        .fold(0, |set, info| set | unhandled & bit(info.signo))
}

/// Whether a signal ends this wait of a task now: some end only with a deadly one.
pub(crate) fn ends(k: &Kernel, thread: ThreadId, wait: &Wait) -> bool {
    match wait.killable {
        true => k.tasks.get(thread).is_some_and(|task| deadly(k, task) != 0),
        false => interrupts(k, thread),
    }
}

/// The same for a wait that any signal ends.
pub(crate) fn interrupts(k: &Kernel, thread: ThreadId) -> bool {
    let Some(task) = k.tasks.get(thread) else {
        return false;
    };
    let shared = k
        .tasks
        .group(task.tgid)
        .map_or(0, |group| group.pending.set());
    (task.pending.set() | shared) & !task.blocked != 0
}

/// Takes the next signal of a set from a thread's own queue, then from its process's.
pub(crate) fn take(k: &mut Kernel, thread: ThreadId, wanted: u64) -> Option<SigInfo> {
    let Tasks {
        groups,
        tasks,
        paid,
        ..
    } = &mut k.tasks;
    let task = tasks.get_mut(&thread)?;
    let tgid = task.tgid;
    let mut info = match task.pending.take(paid, wanted) {
        Some(info) => info,
        None => groups.get_mut(&tgid)?.pending.take(paid, wanted)?,
    };
    if info.code == g::SI_TIMER {
        posix_timer::delivered(k, tgid, &mut info);
    }
    Some(info)
}

/// Deals with one pending signal and an interrupted call of the current task. Returns `true` if it must be
/// called again: something was done and more may be pending; `false` when the task may run (or has ended or
/// stopped).
pub(crate) fn deliver(cx: &mut Cx<'_, '_>) -> bool {
    let thread = cx.thread;
    let open = !cx.task().blocked;
    let info = match interrupts(cx.k, thread) {
        true => {
            let deadly = deadly(cx.k, cx.task());
            take(cx.k, thread, deadly).or_else(|| take(cx.k, thread, open))
        }
        false => None,
    };
    let Some(info) = info else {
        return without_handler(cx);
    };
    let (tgid, signal) = (cx.task().tgid, info.signo);
    let Some(actions) = cx.k.tasks.actions_mut(tgid) else {
        return false;
    };
    let action = actions.get(signal);
    let tracer = cx.k.system.tracer.0;
    tracer.signal(cx.k, cx.thread, info);
    match action.handler {
        SIG_IGN => {}
        SIG_DFL if IGNORE_SET & bit(signal) != 0 => {}
        SIG_DFL if crate::ns::pids::is_init(cx.k, tgid) && !info.outside => {
            send::tell_ignored(cx.k, tgid, signal);
        }
        SIG_DFL if STOP_SET & bit(signal) != 0 => {
            let pgid = cx.group().pgid;
            if signal == SIGSTOP || !orphans::orphaned(cx.k, pgid) {
                stop::stop(cx.k, tgid, signal);
            }
        }
        SIG_DFL => ending::end_group(cx.k, cx.p, tgid, u32::from(signal)),
        _ => run_handler(cx, info, action),
    }
    // An ended task is no longer there, a stopped one is looked at again when it goes on.
    cx.k.tasks
        .get(thread)
        .is_some_and(|task| !task.exited && !task.stopped)
}

/// No signal is left to deliver: an interrupted call goes on, a temporary signal mask ends.
fn without_handler(cx: &mut Cx<'_, '_>) -> bool {
    if let Some((call, restart)) = cx.task_mut().interrupted.take() {
        match restart {
            Restart::Always | Restart::IfAsked | Restart::IfNoHandler => cx.resume_call(call),
            Restart::Never => cx.end_call(call, Errno::EINTR.as_result()),
        }
        return true;
    }
    if let Some(mask) = cx.task_mut().saved_mask.take() {
        set_blocked(cx.k, cx.thread, mask);
        return true;
    }
    false
}

fn run_handler(cx: &mut Cx<'_, '_>, info: SigInfo, action: super::Action) {
    /// Steps of making a frame.
    const FRAME_STEPS: u64 = 16;
    /// Bytes of the instruction that a call is made with.
    const SYSCALL_LEN: u64 = 2;
    cx.spend(FRAME_STEPS);
    let signal = info.signo;
    let flags = |flag: u32| action.flags & u64::from(flag) != 0;
    if let Some((call, restart)) = cx.task_mut().interrupted.take() {
        let again = match restart {
            Restart::Always => true,
            Restart::IfAsked => flags(g::SA_RESTART),
            Restart::IfNoHandler | Restart::Never => false,
        };
        if again {
            let (number, mut call) = (call.number, call);
            if let Some(trace) = call.trace.0.take() {
                let tracer = cx.k.system.tracer.0;
                tracer.restarted(cx, &call, *trace);
            }
            cx.end_call(call, number);
            let regs = &mut cx.task_mut().regs;
            regs.rip = regs.rip.wrapping_sub(SYSCALL_LEN);
        } else {
            cx.end_call(call, Errno::EINTR.as_result());
        }
    }
    let tgid = cx.task().tgid;
    if flags(g::SA_RESETHAND)
        && let Some(actions) = cx.k.tasks.actions_mut(tgid)
    {
        let default = super::Action {
            handler: SIG_DFL,
            ..action
        };
        actions.set(signal, default);
    }
    let task = cx.task_mut();
    let mask = task.saved_mask.take().unwrap_or(task.blocked);
    if frame::setup(cx, info, action, mask).is_err() {
        cx.task_mut().blocked = mask;
        bad_frame(cx, signal);
        return;
    }
    let mut blocked = cx.task().blocked | action.mask;
    if !flags(g::SA_NODEFER) {
        blocked |= bit(signal);
    }
    set_blocked(cx.k, cx.thread, blocked);
}

/// A signal frame could not be written or read: SIGSEGV, without a handler if that was the signal to be
/// delivered.
pub(super) fn bad_frame(cx: &mut Cx<'_, '_>, signal: u8) {
    let tgid = cx.task().tgid;
    if signal == SIGSEGV
        && let Some(actions) = cx.k.tasks.actions_mut(tgid)
    {
        actions.set(SIGSEGV, super::Action::default());
    }
    force(cx, SigInfo::kernel(SIGSEGV));
}
