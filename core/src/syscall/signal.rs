//! Signals.

use alloc::vec::Vec;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::args::*;
use crate::cred::ns::{NsId, pid, user};
use crate::env::wait::{Restart, Stop, SysResult, Wait, WaitKey};
use crate::kernel::Cx;
use crate::task::signal::{
    self, Action, SIGNALS, SigInfo, StackT, UNBLOCKABLE, bit, may_signal, queue_process,
    queue_thread, set_blocked, take,
};
use crate::task::{INIT, posix_timer};

const SIGSET_SIZE: u64 = 8;

fn check_size(size: Size) -> Result<(), Errno> {
    match size.0 {
        SIGSET_SIZE => Ok(()),
        _ => Err(Errno::EINVAL),
    }
}

/// A signal number, 0 allowed.
pub(super) fn number(signal: Sig) -> Result<u8, Errno> {
    u8::try_from(signal.0)
        .ok()
        .filter(|&signal| signal <= SIGNALS)
        .ok_or(Errno::EINVAL)
}

/// `struct sigaction` of the system call.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct UserAction {
    handler: u64,
    flags: u64,
    restorer: u64,
    mask: u64,
}

pub(super) fn rt_sigaction(
    cx: &mut Cx<'_, '_>,
    signum: Sig,
    act: Addr,
    oldact: Addr,
    sigsetsize: Size,
) -> SysResult {
    const FLAGS: u32 = g::SA_NOCLDSTOP
        | g::SA_NOCLDWAIT
        | g::SA_SIGINFO
        | g::SA_ONSTACK
        | g::SA_RESTART
        | g::SA_NODEFER
        | g::SA_RESETHAND
        | g::SA_EXPOSE_TAGBITS
        | g::SA_RESTORER;
    check_size(sigsetsize)?;
    let new: Option<UserAction> = match act.0 {
        0 => None,
        at => Some(cx.read_obj(at)?),
    };
    let signal = number(signum)?;
    if signal == 0 || (new.is_some() && bit(signal) & UNBLOCKABLE != 0) {
        return Err(Errno::EINVAL.into());
    }
    let tgid = cx.task().tgid;
    let Some(actions) = cx.k.tasks.actions_mut(tgid) else {
        return Err(Errno::ESRCH.into());
    };
    let old = actions.get(signal);
    if let Some(new) = new {
        let action = Action {
            handler: new.handler,
            flags: new.flags & u64::from(FLAGS),
            restorer: new.restorer,
            mask: new.mask & !UNBLOCKABLE,
        };
        actions.set(signal, action);
        if actions.ignores(signal) {
            signal::remove_pending(cx.k, tgid, bit(signal));
        }
    }
    if oldact.0 != 0 {
        let old = UserAction {
            handler: old.handler,
            flags: old.flags,
            restorer: old.restorer,
            mask: old.mask,
        };
        cx.write_obj(oldact.0, &old)?;
    }
    Ok(0)
}

pub(super) fn rt_sigprocmask(
    cx: &mut Cx<'_, '_>,
    how: SigmaskHow,
    set: Addr,
    oldset: Addr,
    sigsetsize: Size,
) -> SysResult {
    check_size(sigsetsize)?;
    let old = cx.task().blocked;
    if set.0 != 0 {
        let set: u64 = cx.read_obj(set.0)?;
        let new = match how {
            SigmaskHow::Block => old | set,
            SigmaskHow::Unblock => old & !set,
            SigmaskHow::SetMask => set,
            SigmaskHow::Other(_) => return Err(Errno::EINVAL.into()),
        };
        set_blocked(cx.k, cx.thread, new);
    }
    if oldset.0 != 0 {
        cx.write_obj(oldset.0, &old)?;
    }
    Ok(0)
}

pub(super) fn rt_sigreturn(cx: &mut Cx<'_, '_>) -> SysResult {
    signal::sigreturn(cx);
    Err(Stop::Done)
}

pub(super) fn rt_sigpending(cx: &mut Cx<'_, '_>, set: Addr, sigsetsize: Size) -> SysResult {
    if sigsetsize.0 > SIGSET_SIZE {
        return Err(Errno::EINVAL.into());
    }
    let [own, shared, blocked, ..] = signal::sets(cx.k, cx.thread);
    let pending = (own | shared) & blocked;
    cx.write_user(set.0, &pending.to_le_bytes()[..sigsetsize.0 as usize])?;
    Ok(0)
}

/// Interrupted calls go on without this one, so there never is one to go on with when a program makes it.
pub(super) fn restart_syscall(_cx: &mut Cx<'_, '_>) -> SysResult {
    Err(Errno::EINTR.into())
}

pub(super) fn pause(cx: &mut Cx<'_, '_>) -> SysResult {
    Wait::on(WaitKey::Signal(cx.thread))
        .restart(Restart::IfNoHandler)
        .into()
}

pub(super) fn rt_sigsuspend(cx: &mut Cx<'_, '_>, mask: Addr, sigsetsize: Size) -> SysResult {
    check_size(sigsetsize)?;
    if cx.call().saved_mask.is_none() {
        let mask: u64 = cx.read_obj(mask.0)?;
        let old = cx.task().blocked;
        cx.call().saved_mask = Some(old);
        set_blocked(cx.k, cx.thread, mask);
    }
    pause(cx)
}

pub(super) fn rt_sigtimedwait(
    cx: &mut Cx<'_, '_>,
    set: Addr,
    info: Addr,
    timeout: Addr,
    sigsetsize: Size,
) -> SysResult {
    check_size(sigsetsize)?;
    let set: u64 = cx.read_obj(set.0)?;
    let wanted = set & !UNBLOCKABLE;
    let timeout = match timeout.0 {
        0 => None,
        at => Some(nanos(cx.read_obj(at)?)?),
    };
    if let Some(found) = take(cx.k, cx.thread, wanted) {
        if info.0 != 0 {
            cx.write_user(info.0, &found.to_bytes())?;
        }
        return Ok(u64::from(found.signo));
    }
    if let Some(timeout) = timeout
        && cx.expired(timeout)
    {
        return Err(Errno::EAGAIN.into());
    }
    // Signals of the set end the wait although they are blocked: senders look here.
    cx.call().progress = wanted;
    let entered = cx.call().entered.mono;
    Wait::on(WaitKey::Signal(cx.thread))
        .until(timeout.map(|timeout| entered.saturating_add(timeout)))
        .restart(Restart::Never)
        .into()
}

/// A `struct timespec` as nanoseconds. `EINVAL` if it is negative or not normal.
fn nanos([seconds, nanos]: [i64; 2]) -> Result<u64, Errno> {
    const SECOND: i64 = 1_000_000_000;
    if seconds < 0 || !(0..SECOND).contains(&nanos) {
        return Err(Errno::EINVAL);
    }
    Ok((seconds as u64)
        .saturating_mul(SECOND as u64)
        .saturating_add(nanos as u64))
}

pub(super) fn sigaltstack(cx: &mut Cx<'_, '_>, ss: Addr, old_ss: Addr) -> SysResult {
    let new: Option<StackT> = match ss.0 {
        0 => None,
        at => Some(cx.read_obj(at)?),
    };
    let task = cx.task();
    let old = StackT {
        sp: task.altstack.sp,
        flags: task.altstack.status(task.regs.rsp) | (task.altstack.flags & g::SS_AUTODISARM),
        pad: 0,
        size: task.altstack.size,
    };
    if let Some(new) = new {
        signal::set_altstack(cx, new)?;
    }
    if old_ss.0 != 0 {
        cx.write_obj(old_ss.0, &old)?;
    }
    Ok(0)
}

/// Sends a signal to a process if the caller may.
pub(super) fn signal_process(
    cx: &mut Cx<'_, '_>,
    tgid: u32,
    info: Option<SigInfo>,
) -> Result<(), Errno> {
    let signal = info.map_or(0, |info| info.signo);
    let leader = cx.k.tasks.leader(tgid).ok_or(Errno::ESRCH)?;
    if !may_signal(cx.k, cx.thread, leader, signal) {
        return Err(Errno::EPERM);
    }
    match info {
        Some(info) => {
            let info = seen_by(cx, leader.ns.pid, leader.creds.user_ns, info);
            queue_process(cx.k, tgid, info)
        }
        None => Ok(()),
    }
}

/// What a signal that the caller sends says to a task in these namespaces. One from a PID namespace above
/// acts on the first process of a namespace as on any other, if it is SIGKILL or SIGSTOP.
fn seen_by(cx: &Cx<'_, '_>, pids: NsId, users: NsId, info: SigInfo) -> SigInfo {
    let task = cx.task();
    if pids == task.ns.pid && users == task.creds.user_ns {
        return info;
    }
    let number = pid::show(cx.k, pids, task.tgid);
    let deadly = matches!(info.signo, signal::SIGKILL | signal::SIGSTOP);
    let mut info = info.with_sender(number, user::show_uid(cx.k, users, task.creds.uid));
    info.outside = number == 0 && deadly;
    info
}

/// What a signal that the caller sends says of it.
pub(super) fn own_info(cx: &Cx<'_, '_>, signal: u8, code: i32) -> Option<SigInfo> {
    let task = cx.task();
    let uid = user::show_uid(cx.k, task.creds.user_ns, task.creds.uid);
    (signal != 0).then(|| SigInfo::user(signal, code, cx.shown_pid(task.tgid), uid))
}

/// The process that a thread number belongs to.
fn process_of(cx: &Cx<'_, '_>, pid: i32) -> Result<u32, Errno> {
    let tid = u32::try_from(pid).map_err(|_| Errno::ESRCH)?;
    let thread = cx.meant_thread(tid).ok_or(Errno::ESRCH)?;
    let task = cx.k.tasks.get(thread).ok_or(Errno::ESRCH)?;
    Ok(task.tgid)
}

pub(super) fn kill(cx: &mut Cx<'_, '_>, pid: Pid, sig: Sig) -> SysResult {
    let own = cx.task().tgid;
    let targets: Vec<u32> = match pid.0 {
        1.. => {
            let tgid = process_of(cx, pid.0)?;
            let info = own_info(cx, number(sig)?, g::SI_USER as i32);
            signal_process(cx, tgid, info)?;
            return Ok(0);
        }
        i32::MIN => return Err(Errno::ESRCH.into()),
        0 => cx.k.tasks.group_members(cx.group().pgid).collect(),
        -1 => {
            cx.k.tasks
                .groups()
                .filter(|&tgid| tgid != own && cx.shown_pid(tgid) > INIT)
                .collect()
        }
        group => {
            let pgid = cx.meant_pid(group.unsigned_abs()).ok_or(Errno::ESRCH)?;
            cx.k.tasks.group_members(pgid).collect()
        }
    };
    if targets.is_empty() {
        return Err(Errno::ESRCH.into());
    }
    /// In the progress, above the next process: one could be signalled.
    const ANY: u64 = 1 << 32;
    let progress = cx.call().progress;
    let next = progress as u32;
    let info = own_info(cx, number(sig)?, g::SI_USER as i32);
    let mut result = match progress & ANY {
        0 => Err(Errno::EPERM),
        _ => Ok(0),
    };
    // The own one comes last: the others are to be signalled even if that ends the call.
    let others = targets.iter().filter(|&&tgid| tgid != own && tgid >= next);
    let last = targets.iter().filter(|&&tgid| tgid == own);
    for &tgid in others.chain(last) {
        if cx.is_spent() && tgid != own && tgid > next {
            let any = if result.is_ok() { ANY } else { 0 };
            return Err(cx.give_way(u64::from(tgid) | any));
        }
        cx.spend(8);
        if signal_process(cx, tgid, info).is_ok() {
            result = Ok(0);
        }
    }
    // kill(2) with -1 does not tell that it was not permitted.
    match (result, pid.0) {
        (Err(_), -1) => Ok(0),
        (result, _) => Ok(result?),
    }
}

/// The thread with this number, in this process if that is not `None`.
fn thread_of(
    cx: &Cx<'_, '_>,
    tgid: Option<Pid>,
    tid: Pid,
) -> Result<crate::machine::ThreadId, Errno> {
    if tid.0 <= 0 || tgid.is_some_and(|tgid| tgid.0 <= 0) {
        return Err(Errno::EINVAL);
    }
    let thread = cx.meant_thread(tid.0 as u32).ok_or(Errno::ESRCH)?;
    let task = cx.k.tasks.get(thread).ok_or(Errno::ESRCH)?;
    match tgid {
        Some(tgid) if cx.shown_pid(task.tgid) != tgid.0 as u32 => Err(Errno::ESRCH),
        _ => Ok(thread),
    }
}

pub(super) fn signal_thread(
    cx: &mut Cx<'_, '_>,
    thread: crate::machine::ThreadId,
    signal: u8,
    info: Option<SigInfo>,
) -> SysResult {
    let target = cx.k.tasks.get(thread).ok_or(Errno::ESRCH)?;
    if !may_signal(cx.k, cx.thread, target, signal) {
        return Err(Errno::EPERM.into());
    }
    if let Some(info) = info {
        let info = seen_by(cx, target.ns.pid, target.creds.user_ns, info);
        queue_thread(cx.k, thread, info)?;
    }
    Ok(0)
}

pub(super) fn tkill(cx: &mut Cx<'_, '_>, tid: Pid, sig: Sig) -> SysResult {
    let thread = thread_of(cx, None, tid)?;
    let signal = number(sig)?;
    let info = own_info(cx, signal, g::SI_TKILL);
    signal_thread(cx, thread, signal, info)
}

pub(super) fn tgkill(cx: &mut Cx<'_, '_>, tgid: Pid, tid: Pid, sig: Sig) -> SysResult {
    let thread = thread_of(cx, Some(tgid), tid)?;
    let signal = number(sig)?;
    let info = own_info(cx, signal, g::SI_TKILL);
    signal_thread(cx, thread, signal, info)
}

/// Whom a queued signal goes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Target {
    /// The caller itself.
    Caller,
    Other,
}

/// Reads the `siginfo_t` of a queued signal. Only the kernel may say that a signal comes from the kernel or
/// from kill(2), except to itself.
pub(super) fn read_info(
    cx: &mut Cx<'_, '_>,
    signal: u8,
    at: u64,
    target: Target,
) -> Result<SigInfo, Errno> {
    let mut bytes = [0; 48];
    cx.read_user(at, &mut bytes)?;
    let mut info = SigInfo::from_bytes(signal, &bytes);
    if info.code == g::SI_TIMER {
        // What the kernel knows its own timers by.
        info.fields[posix_timer::SENDER] = 0;
    }
    match (info.code >= 0 || info.code == g::SI_TKILL) && target == Target::Other {
        true => Err(Errno::EPERM),
        false => Ok(info),
    }
}

pub(super) fn rt_sigqueueinfo(cx: &mut Cx<'_, '_>, pid: Pid, sig: Sig, info: Addr) -> SysResult {
    let target = match pid.0 as u32 == cx.task().tgid {
        true => Target::Caller,
        false => Target::Other,
    };
    let signal = u8::try_from(sig.0).unwrap_or(u8::MAX);
    let info = read_info(cx, signal, info.0, target)?;
    let tgid = process_of(cx, pid.0)?;
    let signal = number(sig)?;
    signal_process(cx, tgid, (signal != 0).then_some(info))?;
    Ok(0)
}

pub(super) fn rt_tgsigqueueinfo(
    cx: &mut Cx<'_, '_>,
    tgid: Pid,
    tid: Pid,
    sig: Sig,
    info: Addr,
) -> SysResult {
    if tgid.0 <= 0 || tid.0 <= 0 {
        return Err(Errno::EINVAL.into());
    }
    let target = match tid.0 as u32 == cx.task().tid {
        true => Target::Caller,
        false => Target::Other,
    };
    let signal = u8::try_from(sig.0).unwrap_or(u8::MAX);
    let info = read_info(cx, signal, info.0, target)?;
    let thread = thread_of(cx, Some(tgid), tid)?;
    let signal = number(sig)?;
    signal_thread(cx, thread, signal, (signal != 0).then_some(info))
}
