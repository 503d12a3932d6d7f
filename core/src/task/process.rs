//! Thread groups: what threads of a process share, how processes end, and what execve(2) does to them.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::cputime::{self, CpuClock, ProcessClock};
use super::signal::{self, Action, Actions, AltStack, Pending, SIGCHLD, SIGCONT, SIGHUP, SigInfo};
use super::{Creds, INIT, SighandId, Tasks};
use crate::Kernel;
use crate::abi::raw::general as g;
use crate::event::{ExitStatus, Now, Output};
use crate::kernel::{Cx, Stop, WaitKey};
use crate::machine::{Regs, SpaceId, ThreadId};
use crate::ns::{NsId, PID, USER, pid, user};
use crate::port::Ports;
use crate::vfs::FileId;

/// Nanoseconds of a clock tick (`USER_HZ`).
pub(crate) const TICK: u64 = 10_000_000;
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
    pub children: BTreeSet<u32>,
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
    /// Status as wait(2) encodes it: set when the whole group ends, and by the leader's own end.
    pub group_status: Option<u32>,
    pub leader_status: u32,
    /// The stop signal, while it is stopped or about to be.
    pub stop: Option<u8>,
    /// All threads have stopped.
    pub stopped: bool,
    /// A change that the parent may wait for.
    pub report: Option<Report>,
    /// It has executed a program since it was made.
    pub executed: bool,
    /// Orphans below it become its children (`PR_SET_CHILD_SUBREAPER`).
    pub subreaper: bool,
    /// `PR_SET_DUMPABLE`.
    pub dumpable: bool,
    /// The user namespace that the program was started in (`mm->user_ns`): the present one or one above it.
    pub exec_ns: NsId,
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
    /// What its threads have run, and the children that were waited for with their own, in nanoseconds.
    pub cpu: ProcessClock,
    pub children_cpu_time: u64,
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
            (g::RLIMIT_STACK, 8 << 20, NONE),
            (g::RLIMIT_CORE, 0, NONE),
            (g::RLIMIT_NOFILE, 1 << 20, 1 << 20),
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
            children: BTreeSet::new(),
            pgid: tgid,
            sid: tgid,
            rlimits,
            exe: None,
            sighand,
            pending: Pending::default(),
            exit_signal: SIGCHLD,
            zombie: false,
            group_status: None,
            leader_status: 0,
            stop: None,
            stopped: false,
            report: None,
            executed: false,
            subreaper: false,
            dumpable: true,
            exec_ns: USER,
            thp_disabled: false,
            oom_score_adj: 0,
            oom_score_adj_min: 0,
            coredump_filter: crate::vfs::proc::COREDUMP_FILTER,
            ended_io: super::io::Io::default(),
            started,
            cpu: ProcessClock::default(),
            children_cpu_time: 0,
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

impl Tasks {
    /// The processes of a process group, ascending, zombies included.
    pub(crate) fn group_members(&self, pgid: u32) -> impl Iterator<Item = u32> + '_ {
        self.groups
            .values()
            .filter(move |group| group.pgid == pgid)
            .map(|group| group.tgid)
    }

    /// Takes a zombie away: its parent has waited for it, or does not want to.
    pub(crate) fn reap(&mut self, tgid: u32) {
        let Some(group) = self.groups.remove(&tgid) else {
            return;
        };
        self.by_tid.remove(&tgid);
        self.tasks.remove(&group.leader);
        if let Some(parent) = self.groups.get_mut(&group.parent) {
            parent.children.remove(&tgid);
        }
    }
}

/// Ends all threads of a process with this status.
pub(crate) fn end_group(k: &mut Kernel, p: &mut Ports<'_>, tgid: u32, status: u32) {
    let Some(group) = k.tasks.group_mut(tgid) else {
        return;
    };
    // What has ended keeps its status.
    if group.zombie {
        return;
    }
    group.group_status.get_or_insert(status);
    let threads: Vec<ThreadId> = group.threads.values().copied().collect();
    for thread in threads {
        end_thread(k, p, thread, status);
    }
}

/// Ends one thread; the last one ends its process.
pub(crate) fn end_thread(k: &mut Kernel, p: &mut Ports<'_>, thread: ThreadId, status: u32) {
    give_up_calls(k, p, thread);
    if k.tasks.get(thread).is_some_and(|task| !task.exited) {
        crate::syscall::futex::leave(&mut Cx { k, p, thread });
    }
    cputime::stop(k, thread);
    cputime::wake_never(k, thread);
    cputime::forget(k, CpuClock::Thread(thread));
    let Some(task) = k.tasks.get_mut(thread).filter(|task| !task.exited) else {
        return;
    };
    let clear = core::mem::take(&mut task.clear_child_tid);
    let vfork_parent = task.vfork_parent.take();
    let (tid, tgid, space, files, fs) = (task.tid, task.tgid, task.space, task.files, task.fs);
    let (fresh, io) = (task.fresh, task.io);
    let seccomp = core::mem::take(&mut task.seccomp);
    task.exited = true;
    let (set, user_ns) = (task.ns, task.creds.user_ns);
    task.stopped = false;
    k.tasks.filters.release(seccomp);
    if clear != 0 && crate::mm::space::users(k, space) > 1 {
        crate::syscall::futex::clear_tid(k, p, space, clear);
    }
    if !fresh {
        k.emit(Output::EndThread(thread));
    }
    crate::syscall::memory::ended(k, thread);
    crate::ipc::shm::leaving(k, space, tgid);
    crate::mm::space::release(k, p, space);
    crate::vfs::fdtable::release_table(k, p, files, tgid);
    crate::vfs::fdtable::release_context(k, p, fs);
    crate::ns::left(k, p, &set, user_ns);
    if let Some(parent) = vfork_parent {
        k.wake(WaitKey::Vfork(parent));
    }
    let Some(group) = k.tasks.group_mut(tgid) else {
        return;
    };
    group.threads.remove(&tid);
    group.ended_io.add(&io);
    if thread == group.leader {
        group.leader_status = status;
    } else {
        k.tasks.by_tid.remove(&tid);
        k.tasks.tasks.remove(&thread);
        pid::remove(k, &[tid]);
    }
    orphan_from_thread(k, tgid, thread);
    let last = k
        .tasks
        .group(tgid)
        .is_some_and(|group| group.threads.is_empty());
    if last {
        end_process(k, p, tgid);
    } else {
        signal::retarget(k, tgid);
        signal::check_stopped(k, tgid);
        k.wake(WaitKey::Exit(tgid));
    }
}

/// Takes a thread that ends out of the call it is in, or was taken out of by a signal.
fn give_up_calls(k: &mut Kernel, p: &mut Ports<'_>, thread: ThreadId) {
    let current = k.abandon_call(thread);
    let interrupted = k
        .tasks
        .get_mut(thread)
        .and_then(|task| task.interrupted.take())
        .map(|(call, _)| call);
    for mut call in current.into_iter().chain(interrupted) {
        if let Some(op) = call.op.take() {
            k.abandon_op(op);
        }
        if let Some(trace) = call.trace {
            let mut cx = Cx { k, p, thread };
            crate::syscall::strace::exit(&mut cx, call.number, &call.args, trace, None);
        }
    }
}

/// The children that a thread made get its death signal and another thread of the process as parent.
fn orphan_from_thread(k: &mut Kernel, tgid: u32, thread: ThreadId) {
    let Some(group) = k.tasks.group(tgid) else {
        return;
    };
    let heir = group.threads.values().next().copied();
    let uid = k.tasks.leader(tgid).map_or(0, |task| task.creds.uid);
    let children: Vec<u32> = group.children.iter().copied().collect();
    for child in children {
        let Some(group) = k.tasks.group_mut(child) else {
            continue;
        };
        if group.parent_thread != Some(thread) {
            continue;
        }
        group.parent_thread = heir;
        let threads: Vec<ThreadId> = group.threads.values().copied().collect();
        for thread in threads {
            let death_signal = k.tasks.get(thread).map_or(0, |task| task.death_signal);
            if death_signal != 0 {
                let (pid, uid) = seen_by_parent(k, tgid, child, uid);
                let info = SigInfo::user(death_signal, g::SI_USER as i32, pid, uid);
                signal::send_process(k, child, info);
            }
        }
    }
}

/// The last thread of a process has ended: children find new parents, the parent is told.
fn end_process(k: &mut Kernel, p: &mut Ports<'_>, tgid: u32) {
    super::timer::disarm(k, tgid);
    crate::ipc::semaphore::undo(k, tgid);
    let Some(group) = k.tasks.group_mut(tgid) else {
        return;
    };
    group.zombie = true;
    group.pending = Pending::default();
    group.stop = None;
    group.report = None;
    let (exe, sighand, status) = (group.exe.take(), group.sighand, group.status());
    if let Some(exe) = exe {
        crate::vfs::file::put(k, p, exe);
    }
    k.tasks.release_sighand(sighand);
    if tgid == INIT {
        end_run(k, p, status);
        return;
    }
    let inside = pid::close(k, tgid);
    for &other in &inside {
        end_group(k, p, other, u32::from(signal::SIGKILL));
    }
    // What had ended before waits for nobody any more.
    for other in inside {
        if k.tasks
            .group(other)
            .is_some_and(|group| group.parent == tgid && group.zombie)
        {
            reap(k, p, other);
        }
    }
    let parent = k.tasks.group(tgid).map_or(INIT, |group| group.parent);
    reparent_children(k, p, tgid);
    let pgid = k.tasks.group(tgid).map_or(0, |group| group.pgid);
    hang_up_orphans(k, tgid, pgid, parent, tgid);
    if tell_parent(k, tgid) {
        reap(k, p, tgid);
    }
    k.wake(WaitKey::Exit(tgid));
    k.wake(WaitKey::Child(parent));
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
    let last = k.tasks.leader(tgid);
    let last = last.is_some_and(|task| crate::ns::waits_for(k, task));
    let mut numbers = Vec::from([tgid]);
    if let Some(group) = k.tasks.group(tgid) {
        numbers.extend([group.pgid, group.sid].iter().filter(|&&one| one != tgid));
    }
    k.tasks.reap(tgid);
    pid::remove(k, &numbers);
    if last {
        crate::ns::sweep(k, p);
    }
}

/// Tells the parent of a zombie. `true` if the parent does not want to wait for it.
fn tell_parent(k: &mut Kernel, tgid: u32) -> bool {
    let Some(group) = k.tasks.group(tgid) else {
        return false;
    };
    let (parent, exit_signal, status) = (group.parent, group.exit_signal, group.status());
    // The first process of a PID namespace has ended, and everything in it with it.
    if k.tasks.group(parent).is_some_and(|parent| parent.zombie) {
        return true;
    }
    let action = match k.tasks.actions(parent) {
        Some(actions) => actions.get(SIGCHLD),
        None => Action::default(),
    };
    let ignored = action.handler == signal::SIG_IGN;
    let unwanted =
        exit_signal == SIGCHLD && (ignored || action.flags & u64::from(g::SA_NOCLDWAIT) != 0);
    let send = (1..=signal::SIGNALS).contains(&exit_signal) && !(exit_signal == SIGCHLD && ignored);
    if send {
        let (code, value) = match status & 0x7f {
            0 => (g::CLD_EXITED, status >> 8),
            signal => (g::CLD_KILLED, signal),
        };
        let uid = k.tasks.leader(tgid).map_or(0, |task| task.creds.uid);
        let time = cputime::of_process(k, tgid) / TICK;
        let (pid, uid) = seen_by_parent(k, tgid, parent, uid);
        let info = SigInfo::child(exit_signal, code as i32, pid, uid, value as i32, time);
        signal::send_process(k, parent, info);
    }
    unwanted
}

/// Who gets the children of an ended process: the nearest ancestor that wants orphans, or the first process of its PID namespace; of that
/// one, the one above.
fn find_reaper(k: &Kernel, tgid: u32, parent: u32) -> u32 {
    let ns = k.tasks.leader(tgid).map_or(PID, |task| task.ns.pid);
    let first = pid::init(k, ns);
    if first == tgid || !k.tasks.group_exists(first) {
        return match k.tasks.group(parent) {
            Some(group) if !group.zombie => parent,
            _ => INIT,
        };
    }
    let mut reaper = parent;
    while let Some(group) = k.tasks.group(reaper) {
        let inside = k.tasks.leader(reaper).is_some_and(|task| task.ns.pid == ns);
        if reaper == first || !inside {
            break;
        }
        if group.subreaper && !group.zombie {
            return reaper;
        }
        reaper = group.parent;
    }
    first
}

/// Gives the children of an ended process to the nearest ancestor that wants orphans, at last to the first process.
fn reparent_children(k: &mut Kernel, p: &mut Ports<'_>, tgid: u32) {
    let Some(group) = k.tasks.group_mut(tgid) else {
        return;
    };
    let children: Vec<u32> = core::mem::take(&mut group.children).into_iter().collect();
    let parent = group.parent;
    let reaper = find_reaper(k, tgid, parent);
    let thread = k.tasks.thread_ids(reaper).next();
    for child in children {
        let Some(group) = k.tasks.group_mut(child) else {
            continue;
        };
        group.parent = reaper;
        group.parent_thread = thread;
        group.exit_signal = SIGCHLD;
        let (zombie, pgid) = (group.zombie, group.pgid);
        if let Some(group) = k.tasks.group_mut(reaper) {
            group.children.insert(child);
        }
        if zombie {
            if tell_parent(k, child) {
                reap(k, p, child);
            }
            k.wake(WaitKey::Child(reaper));
        }
        hang_up_orphans(k, child, pgid, tgid, 0);
    }
}

/// Whether no process of a process group has a parent in another group of the same session (setpgid(2)). `without` is not counted.
pub(crate) fn orphaned(k: &Kernel, pgid: u32, without: Option<u32>) -> bool {
    !k.tasks.group_members(pgid).any(|member| {
        let Some(group) = k.tasks.group(member) else {
            return false;
        };
        let parent = k.tasks.group(group.parent);
        Some(member) != without
            && !group.zombie
            && parent.is_some_and(|parent| parent.pgid != pgid && parent.sid == group.sid)
    })
}

/// A process group that has just lost the parent which could control it gets SIGHUP and SIGCONT if it holds stopped processes (POSIX,
/// _exit(3)). `member` of the group had `parent`; `without` does not count any more.
fn hang_up_orphans(k: &mut Kernel, member: u32, pgid: u32, parent: u32, without: u32) {
    let session = k.tasks.group(member).map(|group| group.sid);
    let controlled = k
        .tasks
        .group(parent)
        .is_some_and(|parent| parent.pgid != pgid && Some(parent.sid) == session);
    if !controlled || !orphaned(k, pgid, Some(without)) {
        return;
    }
    let stopped = k
        .tasks
        .group_members(pgid)
        .any(|member| k.tasks.group(member).is_some_and(|group| group.stopped));
    if stopped {
        signal::send_group(k, pgid, SigInfo::kernel(SIGHUP));
        signal::send_group(k, pgid, SigInfo::kernel(SIGCONT));
    }
}

/// The first process has ended: everything else ends with it.
fn end_run(k: &mut Kernel, p: &mut Ports<'_>, status: u32) {
    let rest: Vec<u32> = k.tasks.groups().filter(|&tgid| tgid != INIT).collect();
    for &tgid in &rest {
        end_group(k, p, tgid, u32::from(signal::SIGKILL));
    }
    for tgid in rest {
        reap(k, p, tgid);
    }
    k.system.over = true;
    k.emit(Output::Exit(match status & 0x7f {
        0 => ExitStatus::Exited((status >> 8) as u8),
        signal => ExitStatus::Signaled(signal as u8),
    }));
}

/// First half of execve(2), when the new program is known to be good: ends the other threads; the caller becomes the leader.
pub(crate) fn prepare_exec(cx: &mut Cx<'_, '_>) -> Result<(), Stop> {
    let (thread, tid, tgid) = (cx.thread, cx.task().tid, cx.task().tgid);
    let others: Vec<ThreadId> =
        cx.k.tasks
            .thread_ids(tgid)
            .filter(|&other| other != thread)
            .collect();
    for other in others {
        end_thread(cx.k, cx.p, other, u32::from(signal::SIGKILL));
    }
    let group = cx.group_mut();
    let old = group.leader;
    if old != thread {
        group.leader = thread;
        group.threads.remove(&tid);
        group.threads.insert(tgid, thread);
        cx.k.tasks.tasks.remove(&old);
        cx.k.tasks.by_tid.remove(&tid);
        cx.k.tasks.by_tid.insert(tgid, thread);
        cx.task_mut().tid = tgid;
        pid::remove(cx.k, &[tid]);
    }
    Ok(())
}

/// Second half of execve(2): the current task enters the new program. Takes over the space and the reference to `exe`; gives the old ones
/// back.
pub(crate) fn finish_exec(
    cx: &mut Cx<'_, '_>,
    space: SpaceId,
    regs: Regs,
    comm: &[u8],
    exe: FileId,
    creds: Creds,
) {
    let (thread, tgid) = (cx.thread, cx.task().tgid);
    crate::syscall::futex::leave(cx);
    let task = cx.task_mut();
    let clear = core::mem::take(&mut task.clear_child_tid);
    let old = core::mem::replace(&mut task.space, space);
    task.regs = regs;
    task.comm = [0; 15];
    for (to, from) in task.comm.iter_mut().zip(comm) {
        *to = *from;
    }
    task.altstack = AltStack::NONE;
    task.fault = signal::Fault::default();
    let set_id = task.creds.euid != task.creds.uid || task.creds.egid != task.creds.gid;
    let privileged = task.creds.euid != creds.euid
        || task.creds.egid != creds.egid
        || creds.cap_permitted & !task.creds.cap_permitted != 0;
    if privileged {
        task.death_signal = 0;
        task.personality &= !crate::syscall::system::ADDR_NO_RANDOMIZE;
    }
    let user_ns = creds.user_ns;
    task.creds = creds;
    let fresh = task.fresh;
    let vfork_parent = task.vfork_parent.take();
    if !fresh {
        cx.p.xstate.reset(thread);
        cx.k.emit(Output::MoveThread { thread, space });
    }
    if clear != 0 && crate::mm::space::users(cx.k, old) > 1 {
        crate::syscall::futex::clear_tid(cx.k, cx.p, old, clear);
    }
    crate::ipc::shm::leaving(cx.k, old, tgid);
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
    group.dumpable = !privileged && !set_id;
    group.exec_ns = user_ns;
    let old_exe = group.exe.replace(exe);
    cx.k.tasks.release_sighand(shared);
    if let Some(old_exe) = old_exe {
        crate::vfs::file::put(cx.k, cx.p, old_exe);
    }
    crate::vfs::fdtable::close_on_exec(cx);
}
