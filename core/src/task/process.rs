//! Thread groups: what threads of a process share, and what execve(2) does to them. How they end is in
//! `ending`.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::children::Children;
use super::cputime::ProcessClock;
use super::ending::{self, Ending};
use super::signal::{self, Actions, AltStack, Pending, SIGCHLD};
use super::usage::{self, Usage};
use super::{INIT, SighandId};
use crate::Kernel;
use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::cred::ExecCreds;
use crate::cred::ns::{NsId, pid, user};
use crate::env::wait::{Stop, WaitKey};
use crate::event::{Now, Output};
use crate::file::FileId;
use crate::machine::{Regs, SpaceId, ThreadId};
use crate::mm::space::Access;
use crate::port::Ports;
use crate::task::Cx;

/// What a dump of memory would hold by default (core(5)).
const COREDUMP_FILTER: u32 = 0x33;

/// Nanoseconds of a clock tick (`USER_HZ`).
pub(crate) const TICK: u64 = 10_000_000;
/// Bytes that a stack may have if nobody says otherwise, and in programs that got more than their caller had
/// (`_STK_LIM`).
pub(crate) const STACK_LIMIT: u64 = 8 << 20;
/// Number of resource limits (`RLIM_NLIMITS`).
pub(crate) const RLIM_NLIMITS: usize = 16;

/// A thread group.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Process {
    /// Process number, that of its leader.
    pub tgid: u32,
    /// The thread whose number is the process number. It may have ended before the others.
    pub leader: ThreadId,
    /// The threads that have not ended, by thread number.
    pub threads: BTreeMap<u32, ThreadId>,
    /// Process number of the parent, 0 for the first process.
    pub parent: u32,
    /// The thread that made it, or another one of the parent after that ended.
    pub parent_thread: Option<ThreadId>,
    pub children: Children,
    pub pgid: u32,
    pub sid: u32,
    /// Soft and hard limits by resource; `u64::MAX` is no limit.
    pub rlimits: [(u64, u64); RLIM_NLIMITS],
    /// The program it runs (`/proc/PID/exe`).
    pub exe: Option<FileId>,
    pub sighand: SighandId,
    /// Signals sent to the process.
    pub pending: Pending,
    /// Signal its parent gets when it ends, 0 for none.
    pub exit_signal: u8,
    /// It has ended and waits to be waited for.
    pub zombie: bool,
    /// It has begun to end, or to lose all threads but one.
    pub ending: Option<Ending>,
    /// Status as wait(2) encodes it: set when the whole group ends, and by the leader's own end.
    pub group_status: Option<u32>,
    pub leader_status: u32,
    /// The stop signal, while it is stopped or about to be.
    pub stop: Option<u8>,
    /// All threads have stopped; how many of them have.
    pub stopped: bool,
    pub halted: u32,
    /// A change that the parent may wait for.
    pub report: Option<Report>,
    /// It has executed a program since it was made.
    pub executed: bool,
    /// Orphans below it become its children (`PR_SET_CHILD_SUBREAPER`).
    pub subreaper: bool,
    /// `PR_SET_THP_DISABLE`; nothing is done with it, as pages of guests are small.
    pub thp_disabled: bool,
    pub oom_score_adj: i16,
    /// The lowest that can be set without `CAP_SYS_RESOURCE`.
    pub oom_score_adj_min: i16,
    /// `/proc/PID/coredump_filter`
    pub coredump_filter: u32,
    /// What ended threads read and wrote.
    pub ended_io: super::io::Io,
    pub started: Now,
    /// What its threads have run.
    pub cpu: ProcessClock,
    /// What ended threads used beside processor time, and the peak of memory that it has left.
    pub ended: Usage,
    /// What the children that were waited for used, with their own.
    pub children_usage: Usage,
    /// The thread that its number was given to when it was made: no other process has the same.
    pub first: ThreadId,
    /// `ITIMER_REAL`, `ITIMER_VIRTUAL` and `ITIMER_PROF`.
    pub timer: super::timer::Timer,
    pub virtual_timer: super::timer::Timer,
    pub profile_timer: super::timer::Timer,
    /// The processor time at which `RLIMIT_CPU` is looked at.
    pub limit_at: Option<u64>,
    /// Timers of timer_create(2) by number, and the number to try next.
    pub timers: BTreeMap<u32, super::posix_timer::PosixTimer>,
    pub next_timer: u32,
}

/// A change of state that wait(2) reports once, other than the end.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Report {
    Stopped(u8),
    Continued,
}

impl Process {
    /// The first process of a session of its own, with the limits that Docker sets.
    pub(crate) fn new(tgid: u32, leader: ThreadId, sighand: SighandId, started: Now) -> Process {
        const NONE: u64 = u64::MAX;
        const QUEUED: u64 = 15_000;
        let mut rlimits = [(NONE, NONE); RLIM_NLIMITS];
        for (resource, soft, hard) in [
            (g::RLIMIT_STACK, STACK_LIMIT, NONE),
            (g::RLIMIT_CORE, 0, NONE),
            (g::RLIMIT_NOFILE, 1024, 1 << 20),
            (g::RLIMIT_MEMLOCK, 8 << 20, 8 << 20),
            (g::RLIMIT_SIGPENDING, QUEUED, QUEUED),
            (g::RLIMIT_MSGQUEUE, 819_200, 819_200),
            (g::RLIMIT_NICE, 0, 0),
            (g::RLIMIT_RTPRIO, 0, 0),
        ] {
            rlimits[resource as usize] = (soft, hard);
        }
        Process {
            tgid,
            leader,
            threads: BTreeMap::new(),
            parent: 0,
            parent_thread: None,
            children: Children::default(),
            pgid: tgid,
            sid: tgid,
            rlimits,
            exe: None,
            sighand,
            pending: Pending::default(),
            exit_signal: SIGCHLD,
            zombie: false,
            ending: None,
            group_status: None,
            leader_status: 0,
            stop: None,
            stopped: false,
            halted: 0,
            report: None,
            executed: false,
            subreaper: false,
            thp_disabled: false,
            oom_score_adj: 0,
            oom_score_adj_min: 0,
            coredump_filter: COREDUMP_FILTER,
            ended_io: super::io::Io::default(),
            started,
            cpu: ProcessClock::default(),
            ended: Usage::default(),
            children_usage: Usage::default(),
            first: leader,
            timer: super::timer::Timer::default(),
            virtual_timer: super::timer::Timer::default(),
            profile_timer: super::timer::Timer::default(),
            limit_at: None,
            timers: BTreeMap::new(),
            next_timer: 0,
        }
    }

    /// Status as wait(2) encodes it.
    pub(crate) fn status(&self) -> u32 {
        self.group_status.unwrap_or(self.leader_status)
    }
}

/// The status of an exit(2) with this value, as wait(2) encodes it.
pub(crate) fn exited(value: i32) -> u32 {
    (value as u32 & 0xff) << 8
}

/// A child's number and user as its parent sees them; also those of a parent as its child does.
pub(crate) fn seen_by_parent(k: &Kernel, tgid: u32, parent: u32, uid: u32) -> (u32, u32) {
    match k.tasks.leader(parent) {
        Some(task) => (
            pid::show(k, task.ns.pid, tgid),
            user::show_uid(k, task.creds.user_ns, uid),
        ),
        None => (tgid, uid),
    }
}

/// Takes a zombie away: its parent has waited for it, or does not want to. Its number is free.
pub(crate) fn reap(k: &mut Kernel, p: &mut Ports<'_>, tgid: u32) {
    let mut numbers = Vec::from([tgid]);
    if let Some(group) = k.tasks.group(tgid) {
        numbers.extend([group.pgid, group.sid].iter().filter(|&&one| one != tgid));
    }
    if let Some(leader) = k.tasks.leader(tgid).map(|task| task.id) {
        crate::ns::unpin_ended(k, leader);
    }
    if tgid == k.system.program {
        // Another process may get its number.
        k.system.program = INIT;
    }
    k.tasks.remove_child(tgid);
    if let Some(group) = k.tasks.remove_group(tgid) {
        k.tasks.by_tid.remove(&tgid);
        k.remove_task(group.leader);
    }
    crate::ns::pids::remove(k, &numbers);
    crate::ns::sweep(k, p);
}

/// First half of execve(2), when the new program is known to be good: ends the other threads; the caller
/// becomes the leader. `LATER` if there are many: from now on the call must not fail.
pub(crate) fn prepare_exec(cx: &mut Cx<'_, '_>) -> Result<(), Stop> {
    let (thread, tid, tgid) = (cx.thread, cx.task().tid, cx.task().tgid);
    if !ending::end_others(cx.k, cx.p, thread, tgid) {
        return Err(Errno::LATER.into());
    }
    crate::file::fdtable::prepare_unshare(cx)?;
    let group = cx.group_mut();
    let old = group.leader;
    if old != thread {
        group.leader = thread;
        group.threads.remove(&tid);
        group.threads.insert(tgid, thread);
        crate::ns::unpin_ended(cx.k, old);
        cx.k.remove_task(old);
        cx.k.tasks.by_tid.remove(&tid);
        cx.k.tasks.by_tid.insert(tgid, thread);
        cx.task_mut().tid = tgid;
        crate::ns::pids::remove(cx.k, &[tid]);
    }
    Ok(())
}

/// Second half of execve(2): the current task enters the new program. Takes over the space and the reference
/// to `exe`; gives the old ones back. `looks_in` is whose privileges allow to look into the program, and
/// whether the caller could read it.
pub(crate) fn finish_exec(
    cx: &mut Cx<'_, '_>,
    space: SpaceId,
    regs: Regs,
    comm: &[u8],
    exe: FileId,
    new: ExecCreds,
    (exec_ns, readable): (NsId, bool),
) {
    let ExecCreds {
        creds,
        secure,
        cleans,
    } = new;
    let (thread, tgid) = (cx.thread, cx.task().tgid);
    crate::task::futex::leave(cx);
    usage::leaves_space(cx.k, thread);
    let task = cx.task_mut();
    let clear = core::mem::take(&mut task.clear_child_tid);
    task.regs = regs;
    task.comm = [0; 15];
    for (to, from) in task.comm.iter_mut().zip(comm) {
        *to = *from;
    }
    task.altstack = AltStack::NONE;
    task.fault = signal::Fault::default();
    let set_id = task.creds.euid != task.creds.uid || task.creds.egid != task.creds.gid;
    let privileged = task.creds.is_exceeded_by(&creds);
    if privileged || secure {
        task.death_signal = 0;
    }
    task.personality &= !crate::task::personality::NOT_INHERITED;
    if cleans {
        task.personality &= !crate::task::personality::CLEANED;
    }
    let hidden = crate::mm::space::hidden(cx.k);
    cx.k.mm.space_mut(space).access = Access {
        dumpable: match readable && !privileged && !set_id {
            true => Access::USER,
            false => hidden,
        },
        ns: exec_ns,
    };
    let task = cx.task_mut();
    let fresh = task.fresh;
    let vfork_parent = task.vfork_parent.take();
    cx.k.set_creds(thread, creds);
    let old = cx.k.tasks.set_space(thread, space).unwrap_or(space);
    if !fresh {
        cx.p.xstate.reset(thread);
        cx.k.env.emit(Output::MoveThread { thread, space });
    }
    if clear != 0 && crate::mm::space::users(cx.k, old) > 1 {
        crate::task::futex::clear_tid(cx.k, cx.p, old, clear);
    }
    crate::mm::segment::leaving(cx.k, old, tgid);
    crate::mm::space::release(cx.k, cx.p, old);
    if let Some(parent) = vfork_parent {
        cx.k.wake(WaitKey::Vfork(parent));
    }
    super::posix_timer::delete_all(cx.k, tgid);
    let mut actions =
        cx.k.tasks
            .actions(tgid)
            .cloned()
            .unwrap_or_else(Actions::new);
    actions.reset();
    let own = cx.k.tasks.new_sighand(actions);
    let group = cx.group_mut();
    let shared = core::mem::replace(&mut group.sighand, own);
    group.exit_signal = SIGCHLD;
    group.executed = true;
    if secure {
        let (soft, _) = &mut group.rlimits[g::RLIMIT_STACK as usize];
        *soft = (*soft).min(STACK_LIMIT);
    }
    let old_exe = group.exe.replace(exe);
    cx.k.tasks.release_sighand(shared);
    if let Some(old_exe) = old_exe {
        crate::file::close_exec(cx.k, cx.p, old_exe);
    }
    // Others who shared the descriptors keep theirs.
    crate::file::fdtable::unshare(cx);
}
