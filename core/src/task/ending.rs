//! How threads and processes end, in pieces: a process may have thousands of threads and children, and the
//! first process of a PID namespace ends all others in it.
//!
//! What has begun to end is on a stack; what ends with something else comes above it, so it ends first.
//! Meanwhile its threads run no further: they are *dying*.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use smallvec::SmallVec;

use super::cputime::{self};
use super::orphans::{give_away, hang_up, look_at, reparent_some, tell_parent};
use super::process::reap;
use super::{INIT, posix_timer, signal, usage};
use crate::Kernel;
use crate::env::timers::CpuClock;
use crate::env::wait::WaitKey;
use crate::event::{ExitStatus, Output};
use crate::machine::ThreadId;
use crate::port::Ports;
use crate::task::Cx;

/// Steps of the end of a thread, and of a process beside it.
const THREAD_STEPS: u64 = 24;
const PROCESS_STEPS: u64 = 24;

/// What has begun to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
enum Ends {
    Process(u32),
    Thread(ThreadId),
}

/// All that has begun to end; the last goes on first.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Endings {
    stack: Vec<Ends>,
    /// One is being worked on at this moment.
    working: bool,
}

impl Endings {
    fn push(&mut self, ends: Ends) {
        self.remove(ends);
        self.stack.push(ends);
    }

    fn remove(&mut self, ends: Ends) {
        if let Some(at) = self.stack.iter().rposition(|&other| other == ends) {
            self.stack.remove(at);
        }
    }

    /// Whether this process is among them; for invariant checks.
    pub(super) fn holds(&self, tgid: u32) -> bool {
        self.stack.contains(&Ends::Process(tgid))
    }
}

/// How far the end of a process has come.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Ending {
    /// The thread that is left over: it executes a program.
    keep: Option<ThreadId>,
    /// Status of the last thread.
    status: u32,
    stage: Stage,
    /// Process groups that may have lost the last parent which could control them.
    groups: BTreeSet<u32>,
}

/// What is done next.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(super) enum Stage {
    /// The others in its PID namespace end, from this number on.
    Inside(u32),
    /// Its children get other parents.
    Children,
    /// Process groups are looked at.
    Groups,
    /// Whether anybody controls this one is found out, from this member on.
    Group { pgid: u32, from: u32, stopped: bool },
    /// It is told that nobody does, from this member on.
    HangUp { pgid: u32, from: u32 },
    /// Its threads end, but for the last.
    Threads,
    /// Its timers and what it has to undo go, then the last thread.
    Rest,
}

impl Ending {
    /// Whether the whole process ends.
    pub(super) fn is_of_all(&self) -> bool {
        self.keep.is_none()
    }
}

/// Whether a thread is about to end: it does nothing more.
pub(crate) fn is_dying(k: &Kernel, thread: ThreadId) -> bool {
    if k.tasks.endings.stack.is_empty() {
        return false;
    }
    let Some(task) = k.tasks.get(thread) else {
        return false;
    };
    let group = k.tasks.group(task.tgid);
    let ending = group.and_then(|group| group.ending.as_ref());
    task.ending.is_some() || ending.is_some_and(|ending| ending.keep != Some(thread))
}

/// Whether all of a process is about to end.
pub(crate) fn ends(k: &Kernel, tgid: u32) -> bool {
    let group = k.tasks.group(tgid);
    let ending = group.and_then(|group| group.ending.as_ref());
    ending.is_some_and(Ending::is_of_all)
}

/// Ends all threads of a process with this status: now, as far as steps are left, else by and by.
pub(crate) fn end_group(k: &mut Kernel, p: &mut Ports<'_>, tgid: u32, status: u32) {
    let depth = k.tasks.endings.stack.len();
    begin_end_group(k, tgid, status);
    go_on_above(k, p, depth);
}

/// The same, when something else gets on with it.
fn begin_end_group(k: &mut Kernel, tgid: u32, status: u32) {
    // What has ended keeps its status.
    if let Some(group) = k.tasks.group_mut(tgid).filter(|group| !group.zombie) {
        group.group_status.get_or_insert(status);
        begin(k, tgid, None, status);
    }
}

/// Ends one thread; the last one ends its process.
pub(crate) fn end_thread(k: &mut Kernel, p: &mut Ports<'_>, thread: ThreadId, status: u32) {
    let depth = k.tasks.endings.stack.len();
    let Some(task) = k.tasks.get_mut(thread).filter(|task| !task.exited) else {
        return;
    };
    if task.ending.replace(status).is_none() {
        k.tasks.endings.push(Ends::Thread(thread));
    }
    go_on_above(k, p, depth);
}

/// Ends all threads of a process but the one that executes a program, and takes its timers away. `true` if
/// that is done.
pub(super) fn end_others(k: &mut Kernel, p: &mut Ports<'_>, thread: ThreadId, tgid: u32) -> bool {
    let depth = k.tasks.endings.stack.len();
    begin(k, tgid, Some(thread), u32::from(signal::SIGKILL));
    go_on_above(k, p, depth);
    let group = k.tasks.group(tgid);
    group.is_some_and(|group| group.ending.is_none())
}

fn begin(k: &mut Kernel, tgid: u32, keep: Option<ThreadId>, status: u32) {
    let Some(group) = k.tasks.group_mut(tgid) else {
        return;
    };
    match &mut group.ending {
        Some(ending) if ending.is_of_all() || keep.is_some() => {}
        ending => {
            let stage = match keep {
                Some(_) => Stage::Threads,
                None => Stage::Inside(0),
            };
            *ending = Some(Ending {
                keep,
                status,
                stage,
                groups: BTreeSet::new(),
            });
        }
    }
    k.tasks.endings.push(Ends::Process(tgid));
}

/// Goes on with what is above a place in the stack, as long as steps are left; what is small ends in any
/// case.
fn go_on_above(k: &mut Kernel, p: &mut Ports<'_>, depth: usize) {
    const SMALL: u64 = 512;
    let end = k.env.steps.spent() + k.env.steps.left().max(SMALL);
    while k.tasks.endings.stack.len() > depth && k.env.steps.spent() < end && step(k, p) {}
}

/// Goes on until so many steps of the input have been taken.
pub(crate) fn go_on(k: &mut Kernel, p: &mut Ports<'_>, most: u64) {
    while k.env.steps.spent() < most && k.env.steps.may_begin() && step(k, p) {}
}

/// Whether [`go_on`] has nothing to do.
pub(crate) fn is_done(k: &Kernel) -> bool {
    k.tasks.endings.stack.is_empty()
}

/// Goes on until there is room in memory; `false` if there was nothing to do.
pub(crate) fn make_room(k: &mut Kernel, p: &mut Ports<'_>) -> bool {
    let mut any = false;
    while k.frames.is_short() && step(k, p) {
        any = true;
    }
    any
}

/// A part of what is to be done first; `false` if there is nothing.
fn step(k: &mut Kernel, p: &mut Ports<'_>) -> bool {
    let endings = &mut k.tasks.endings;
    let Some(&ends) = endings.stack.last().filter(|_| !endings.working) else {
        return false;
    };
    endings.working = true;
    let goes_on = match ends {
        Ends::Process(tgid) => process_step(k, p, tgid),
        Ends::Thread(thread) => thread_step(k, p, thread),
    };
    k.tasks.endings.working = false;
    if !goes_on {
        k.tasks.endings.remove(ends);
    }
    true
}

/// A part of the end of a thread; `false` after the last, or if it is left to its process.
fn thread_step(k: &mut Kernel, p: &mut Ports<'_>, thread: ThreadId) -> bool {
    let Some(task) = k.tasks.get(thread).filter(|task| !task.exited) else {
        return false;
    };
    let (tgid, status) = (task.tgid, task.ending.unwrap_or(0));
    let group = k.tasks.group(tgid);
    if group.is_none_or(|group| group.ending.is_some()) {
        return false;
    }
    if k.tasks.thread_ids(tgid).nth(1).is_none() {
        // Its children and all else go with the process.
        k.tasks.endings.remove(Ends::Thread(thread));
        begin(k, tgid, None, status);
        return true;
    }
    let others = || k.tasks.thread_ids(tgid).filter(|&other| other != thread);
    let heir = others().find(|&other| !is_dying(k, other));
    let heir = heir.or_else(|| others().next());
    if reparent_some(k, tgid, thread, heir) {
        return true;
    }
    leave(k, p, thread, status);
    false
}

/// A part of the end of a process; `false` after the last.
fn process_step(k: &mut Kernel, p: &mut Ports<'_>, tgid: u32) -> bool {
    let Some(ending) = k.tasks.group(tgid).and_then(|group| group.ending.as_ref()) else {
        return false;
    };
    let (keep, status, stage) = (ending.keep, ending.status, ending.stage);
    let next = match stage {
        Stage::Inside(from) => match end_inside(k, p, tgid, from) {
            Some(next) => Stage::Inside(next),
            None => Stage::Children,
        },
        Stage::Children => match give_away(k, p, tgid) {
            true => Stage::Children,
            false => Stage::Groups,
        },
        Stage::Groups => match next_group(k, tgid) {
            Some(pgid) => Stage::Group {
                pgid,
                from: 0,
                stopped: false,
            },
            None => Stage::Threads,
        },
        Stage::Group {
            pgid,
            from,
            stopped,
        } => look_at(k, tgid, pgid, from, stopped),
        Stage::HangUp { pgid, from } => hang_up(k, pgid, from),
        Stage::Threads => match end_some(k, p, tgid, keep) {
            true => Stage::Threads,
            false => Stage::Rest,
        },
        Stage::Rest => {
            if posix_timer::delete_some(k, tgid) {
                return true;
            }
            let Some(_) = keep else {
                if crate::ipc::semaphore::undo_one(k, tgid)
                    || crate::ipc::shm::orphan_one(k, p, tgid)
                {
                    return true;
                }
                let last = k.tasks.thread_ids(tgid).next();
                if let Some(thread) = last {
                    leave(k, p, thread, status);
                }
                return false;
            };
            if let Some(group) = k.tasks.group_mut(tgid) {
                group.ending = None;
            }
            signal::retarget(k, tgid);
            return false;
        }
    };
    if let Some(group) = k.tasks.group_mut(tgid)
        && let Some(ending) = &mut group.ending
    {
        ending.stage = next;
    }
    true
}

/// The first process of a PID namespace ends: so do some of the others in it, from a number on. Gives where
/// to go on, `None` after the last.
fn end_inside(k: &mut Kernel, p: &mut Ports<'_>, tgid: u32, from: u32) -> Option<u32> {
    const AT_ONCE: usize = 64;
    if !crate::ns::pids::close(k, tgid) {
        return None;
    }
    let mut next = from;
    for _ in 0..AT_ONCE {
        let number = crate::ns::pids::number_from(k, tgid, next)?;
        k.env.steps.spend(1);
        next = number + 1;
        let Some(group) = k.tasks.group(number).filter(|_| number != tgid) else {
            continue;
        };
        if !group.zombie {
            begin_end_group(k, number, u32::from(signal::SIGKILL));
            break;
        }
        // What had ended before waits for nobody any more; others come to be its children.
        if group.parent == tgid {
            k.env.steps.spend(PROCESS_STEPS);
            reap(k, p, number);
        }
    }
    Some(next)
}

/// A process group may lose the last parent which could control it, because this process ends.
pub(super) fn note_group(k: &mut Kernel, tgid: u32, pgid: u32) {
    let group = k.tasks.group_mut(tgid);
    if let Some(ending) = group.and_then(|group| group.ending.as_mut()) {
        ending.groups.insert(pgid);
    }
}

fn next_group(k: &mut Kernel, tgid: u32) -> Option<u32> {
    let group = k.tasks.group_mut(tgid)?;
    group.ending.as_mut()?.groups.pop_first()
}

/// Ends some threads of a process, last ones first; one is left over. `false` if there is no other.
fn end_some(k: &mut Kernel, p: &mut Ports<'_>, tgid: u32, keep: Option<ThreadId>) -> bool {
    const AT_ONCE: usize = 8;
    let Some(group) = k.tasks.group(tgid) else {
        return false;
    };
    let rest = group.threads.len() - 1;
    let threads = group.threads.values().rev().copied();
    let others = threads.filter(|&thread| Some(thread) != keep);
    let others: SmallVec<[ThreadId; AT_ONCE]> = others.take(rest.min(AT_ONCE)).collect();
    for &thread in &others {
        if reparent_some(k, tgid, thread, keep) {
            return true;
        }
        leave(k, p, thread, u32::from(signal::SIGKILL));
        // One may have thousands of robust futexes.
        if k.env.steps.left() == 0 {
            break;
        }
    }
    if !others.is_empty() {
        k.wake(WaitKey::Exit(tgid));
    }
    !others.is_empty()
}

/// A thread ends here and now. Its children have other parents, or go with it.
fn leave(k: &mut Kernel, p: &mut Ports<'_>, thread: ThreadId, status: u32) {
    k.env.steps.spend(THREAD_STEPS);
    give_up_calls(k, p, thread);
    if k.tasks.get(thread).is_some_and(|task| !task.exited) {
        crate::task::futex::leave(&mut Cx { k, p, thread });
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
    let (faults, switches) = (task.faults, task.switches);
    let seccomp = core::mem::take(&mut task.seccomp);
    task.exited = true;
    let tracer = k.system.tracer.0;
    tracer.thread_ended(k, thread, status);
    let Some(task) = k.tasks.get_mut(thread) else {
        return;
    };
    let (set, user_ns) = (task.ns, task.creds.user_ns);
    let stopped = core::mem::take(&mut task.stopped);
    if let Some(group) = k.tasks.group_mut(tgid) {
        group.halted -= u32::from(stopped);
    }
    k.tasks.filters.release(seccomp);
    signal::forget_thread(k, thread);
    if clear != 0 && crate::mm::space::users(k, space) > 1 {
        crate::task::futex::clear_tid(k, p, space, clear);
    }
    if !fresh {
        k.env.emit(Output::EndThread(thread));
    }
    super::barrier::ended(k, thread);
    crate::mm::segment::leaving(k, space, tgid);
    usage::leaves_space(k, thread);
    crate::mm::space::release(k, p, space);
    crate::file::fdtable::release_table(k, p, files, tgid);
    crate::file::fdtable::release_context(k, p, fs);
    if k.tasks
        .group(tgid)
        .is_some_and(|group| group.leader == thread)
    {
        crate::ns::pin_ended(k, thread);
    }
    crate::ns::left(k, p, &set, user_ns);
    if let Some(parent) = vfork_parent {
        k.wake(WaitKey::Vfork(parent));
    }
    let Some(group) = k.tasks.group_mut(tgid) else {
        return;
    };
    group.threads.remove(&tid);
    group.ended_io.add(&io);
    group.ended.faults = group.ended.faults.saturating_add(faults);
    group.ended.switches = group.ended.switches.saturating_add(switches);
    let (last, alone) = (group.threads.is_empty(), group.ending.is_none());
    if thread == group.leader {
        group.leader_status = status;
    } else {
        k.tasks.by_tid.remove(&tid);
        k.remove_task(thread);
        crate::ns::pids::remove(k, &[tid]);
    }
    if last {
        end_process(k, p, tgid);
    } else if alone {
        signal::retarget(k, tgid);
        signal::check_stopped(k, tgid);
        k.wake(WaitKey::Exit(tgid));
    }
}

/// Takes a thread that ends out of the call it is in, or was taken out of by a signal.
fn give_up_calls(k: &mut Kernel, p: &mut Ports<'_>, thread: ThreadId) {
    crate::vfs::walk::forget(k, p, thread);
    crate::mm::fork::abandon(k, p, thread);
    crate::vfs::mount::job::abandon(k, p, thread);
    crate::file::fdtable::abandon_copy(k, p, thread);
    crate::mm::fork::let_go(k, thread);
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
        k.release_files(p, &call);
        if let Some(trace) = call.trace.0.take() {
            let mut cx = Cx { k, p, thread };
            let tracer = cx.k.system.tracer.0;
            tracer.never_returned(&mut cx, &call, *trace);
        }
    }
}

/// The last thread of a process has ended, whose children have other parents: its own is told.
fn end_process(k: &mut Kernel, p: &mut Ports<'_>, tgid: u32) {
    k.env.steps.spend(PROCESS_STEPS);
    super::timer::disarm(k, tgid);
    while crate::ipc::semaphore::undo_one(k, tgid) {}
    while crate::ipc::shm::orphan_one(k, p, tgid) {}
    let Some(group) = k.tasks.group_mut(tgid) else {
        return;
    };
    group.zombie = true;
    group.ending = None;
    group.stop = None;
    group.report = None;
    let (exe, sighand, status) = (group.exe.take(), group.sighand, group.status());
    k.tasks.changed(tgid);
    if let Some(exe) = exe {
        crate::file::close_exec(k, p, exe);
    }
    signal::forget_process(k, tgid);
    k.tasks.release_sighand(sighand);
    if tgid == INIT {
        end_run(k, p, status);
        return;
    }
    let parent = k.tasks.group(tgid).map_or(INIT, |group| group.parent);
    if tell_parent(k, tgid) {
        reap(k, p, tgid);
    }
    k.wake(WaitKey::Exit(tgid));
    k.wake(WaitKey::Child(parent));
}

/// The first process has ended: everything else ends with it.
fn end_run(k: &mut Kernel, p: &mut Ports<'_>, status: u32) {
    let rest: Vec<u32> = k.tasks.groups().filter(|&tgid| tgid != INIT).collect();
    for &tgid in &rest {
        if let Some(group) = k.tasks.group_mut(tgid) {
            group.group_status.get_or_insert(u32::from(signal::SIGKILL));
        }
        let threads: Vec<ThreadId> = k.tasks.thread_ids(tgid).collect();
        for thread in threads {
            leave(k, p, thread, u32::from(signal::SIGKILL));
        }
    }
    for tgid in rest {
        reap(k, p, tgid);
    }
    k.tasks.endings.stack.clear();
    k.system.over = true;
    let lost = k.system.lost;
    k.env.emit(Output::Exit(match status & 0x7f {
        _ if lost => ExitStatus::Lost,
        0 => ExitStatus::Exited((status >> 8) as u8),
        signal => ExitStatus::Signaled(signal as u8),
    }));
}
