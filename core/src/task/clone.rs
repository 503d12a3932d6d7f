//! Making tasks: fork(2), vfork(2), clone(2), clone3(2).

use alloc::sync::Arc;

use super::io::Io;
use super::process::Process;
use super::signal::{self, AltStack, Fault, Pending, SIGNALS};
use super::{Task, cputime};
use crate::abi::raw::general as g;
use crate::abi::{Errno, LINUX_TASK_SIZE};
use crate::args::{CloneFlags, OnExec, OpenFlags};
use crate::cred::ns::{PID, pid};
use crate::env::wait::{Restart, Stop, SysResult, Wait, WaitKey};
use crate::event::Output;
use crate::file::pidfd::PidFd;
use crate::file::{FileKind, fdtable, ready};
use crate::fs::anon::Anon;
use crate::machine::{SpaceId, ThreadId};
use crate::mm::{fork, space};
use crate::ns::enter::{self, Made};
use crate::task::Cx;

/// What a new task is to be.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CloneArgs {
    /// `CLONE_` flags without the signal.
    pub flags: CloneFlags,
    /// Signal to the parent when the process ends.
    pub exit_signal: u8,
    /// New stack pointer, 0 to keep the parent's.
    pub stack: u64,
    /// Where the descriptor of the child goes (`CLONE_PIDFD`).
    pub pidfd: u64,
    pub parent_tid: u64,
    pub child_tid: u64,
    pub tls: u64,
}

/// Makes a task as `args` say and gives its thread number to the caller; with `CLONE_VFORK` after it has
/// executed a program or ended.
pub(crate) fn clone(cx: &mut Cx<'_, '_>, args: CloneArgs) -> SysResult {
    let flags = args.flags;
    if flags.contains(CloneFlags::VFORK) && cx.call().progress != 0 {
        return await_vfork(cx);
    }
    check(cx, &args)?;
    let (tid, child) = make(cx, args)?;
    if flags.contains(CloneFlags::VFORK) {
        cx.call().progress = u64::from(tid);
        if let Some(task) = cx.k.tasks.get_mut(child) {
            task.vfork_parent = Some(cx.thread);
        }
    }
    start(cx, child);
    match flags.contains(CloneFlags::VFORK) {
        false => Ok(u64::from(cx.shown_pid(tid))),
        true => await_vfork(cx),
    }
}

/// Waits until the task that this call made gives the parent's memory back.
fn await_vfork(cx: &mut Cx<'_, '_>) -> SysResult {
    let tid = cx.call().progress;
    let parent = cx.thread;
    let busy =
        cx.k.tasks
            .by_tid(tid as u32)
            .and_then(|thread| cx.k.tasks.get(thread))
            .is_some_and(|task| task.vfork_parent == Some(parent));
    if !busy {
        return Ok(u64::from(cx.shown_pid(tid as u32)));
    }
    let mut wait = Wait::on(WaitKey::Vfork(parent)).restart(Restart::IfNoHandler);
    wait.killable = true;
    wait.into()
}

/// Combinations that copy_process() of Linux refuses, and what a container without privileges does not get.
fn check(cx: &mut Cx<'_, '_>, args: &CloneArgs) -> Result<(), Errno> {
    let flags = args.flags;
    let all = |set| flags.contains(set);
    let thread = all(CloneFlags::THREAD);
    let wrong = all(CloneFlags::NEWNS | CloneFlags::FS)
        || all(CloneFlags::NEWUSER | CloneFlags::FS)
        || (thread && !all(CloneFlags::SIGHAND))
        || (all(CloneFlags::SIGHAND) && !all(CloneFlags::VM))
        || (all(CloneFlags::SIGHAND) && flags.contains(CloneFlags::CLEAR_SIGHAND))
        || (all(CloneFlags::PARENT) && !thread && crate::ns::pids::is_init(cx.k, cx.task().tgid))
        || (thread && cx.task().ns.pid != cx.task().ns.pid_for_children)
        || all(CloneFlags::PIDFD | CloneFlags::DETACHED)
        || (thread && flags.intersects(CloneFlags::NEWUSER | CloneFlags::NEWPID));
    if wrong {
        return Err(Errno::EINVAL);
    }
    if flags.contains(CloneFlags::SETTLS) && args.tls >= LINUX_TASK_SIZE {
        return Err(Errno::EPERM);
    }
    if flags.contains(CloneFlags::INTO_CGROUP) {
        // No descriptor of the sandbox is a control group.
        return Err(Errno::EBADF);
    }
    Ok(())
}

/// Whether the user of the caller may have one more task (`RLIMIT_NPROC`).
fn check_nproc(cx: &Cx<'_, '_>) -> Result<(), Errno> {
    let limit = cx.rlimit(g::RLIMIT_NPROC);
    let creds = cx.creds();
    if limit == u64::MAX
        || creds.uid == 0
        || creds.capable(g::CAP_SYS_RESOURCE)
        || creds.capable(g::CAP_SYS_ADMIN)
    {
        return Ok(());
    }
    let uid = creds.uid;
    let own =
        cx.k.tasks
            .iter()
            .filter(|task| task.creds.uid == uid)
            .count();
    match (own as u64) < limit {
        true => Ok(()),
        false => Err(Errno::EAGAIN),
    }
}

fn make(cx: &mut Cx<'_, '_>, args: CloneArgs) -> Result<(u32, ThreadId), Stop> {
    check_nproc(cx)?;
    if args.flags.contains(CloneFlags::PIDFD) {
        check_pidfd(cx, &args)?;
    }
    // What takes long comes first: it may take several inputs.
    enter::prepare(cx, args.flags & enter::FLAGS)?;
    if !args.flags.contains(CloneFlags::FILES) {
        fdtable::prepare_copy(cx)?;
    }
    let (thread, parent) = (cx.thread, cx.space());
    let space = match args.flags.contains(CloneFlags::VM) {
        false => fork::copy(cx.k, cx.p, thread, parent)?,
        true => space::share(cx.k, parent),
    };
    let made = make_with(cx, args, space);
    if made.is_err() {
        space::release(cx.k, cx.p, space);
    }
    made
}

/// Makes the task, with this address space.
fn make_with(
    cx: &mut Cx<'_, '_>,
    args: CloneArgs,
    space: SpaceId,
) -> Result<(u32, ThreadId), Stop> {
    let asked = args.flags & enter::FLAGS;
    let made = match asked.is_empty() {
        true => None,
        false => Some(enter::make(cx, asked)?),
    };
    let new = made.is_some();
    // Who may not make namespaces is told that first.
    let undo = CloneFlags::NEWIPC | CloneFlags::SYSVSEM;
    let result = match args.flags.contains(undo) {
        true => Err(Errno::EINVAL.into()),
        false => make_in(cx, args, space, made),
    };
    if new && result.is_err() {
        crate::ns::sweep_all(cx.k, cx.p);
    }
    result
}

/// Makes the task, in these namespaces instead of the caller's.
fn make_in(
    cx: &mut Cx<'_, '_>,
    args: CloneArgs,
    space: SpaceId,
    made: Option<Made>,
) -> Result<(u32, ThreadId), Stop> {
    let flags = args.flags;
    let has = |one| flags.contains(one);
    let parent = cx.task().clone();
    let thread = has(CloneFlags::THREAD);
    let children = made
        .as_ref()
        .map_or(parent.ns, |made| made.set)
        .pid_for_children;
    let pids = if thread { parent.ns.pid } else { children };
    pid::check_open(cx.k, pids)?;
    let tid = cx.k.tasks.new_tid(pid::end(cx.k, PID))?;
    let files = match has(CloneFlags::FILES) {
        true => fdtable::share_table(cx.k, parent.files),
        false => fdtable::take_copy(cx),
    };
    let fs = match has(CloneFlags::FS) {
        true => fdtable::share_context(cx.k, parent.fs),
        false => fdtable::copy_context(cx.k, parent.fs),
    };
    let (mut set, creds) = match made {
        Some(made) => {
            enter::follow(cx.k, cx.p, fs, &made.mounts);
            (made.set, Arc::new(made.creds))
        }
        None => (parent.ns, parent.creds.clone()),
    };
    set.pid = pids;
    set.pid_for_children = pids;
    crate::ns::joined(cx.k, &set, creds.user_ns);
    pid::add(cx.k, pids, tid);
    let id = cx.k.tasks.new_thread();
    let tgid = if thread { parent.tgid } else { tid };
    if thread {
        cx.group_mut().threads.insert(tid, id);
    } else {
        make_group(cx, &args, tid, id);
    }
    let committed = match thread {
        true => parent.committed,
        false => cx.k.tasks.next_commit(),
    };
    let mut regs = parent.regs;
    regs.rax = 0;
    if args.stack != 0 {
        regs.rsp = args.stack;
    }
    if has(CloneFlags::SETTLS) {
        regs.fs_base = args.tls;
    }
    let shares_stack = flags & (CloneFlags::VM | CloneFlags::VFORK) == CloneFlags::VM;
    let (sched, nice) = parent.sched.inherited(parent.nice);
    let child = Task {
        sched,
        nice,
        id,
        tid,
        tgid,
        regs,
        space,
        files,
        fs,
        creds,
        committed,
        ns: set,
        running: false,
        interrupting: false,
        ready: false,
        stopped: false,
        exited: false,
        ending: None,
        fresh: true,
        call: None,
        interrupted: None,
        saved_mask: None,
        pending: Pending::default(),
        altstack: if shares_stack {
            AltStack::NONE
        } else {
            parent.altstack
        },
        fault: Fault::default(),
        clear_child_tid: if has(CloneFlags::CHILD_CLEARTID) {
            args.child_tid
        } else {
            0
        },
        robust_list: 0,
        owns_futexes: false,
        vfork_parent: None,
        death_signal: 0,
        policy: parent.policy,
        default_timer_slack: parent.timer_slack,
        cpu_time: Default::default(),
        resumed: 0,
        crossing: 0,
        faults: 0,
        io: Io::default(),
        switches: 0,
        cpu_sleep: None,
        ..parent
    };
    cx.k.tasks.filters.share(child.seccomp);
    cx.k.insert_task(child);
    cx.k.system.forks += 1;
    if has(CloneFlags::PIDFD) {
        // What it needs was checked.
        let _ = give_pidfd(cx, &args, tid);
    }
    // Linux does not look at the result of these stores either.
    if has(CloneFlags::PARENT_SETTID) {
        let shown = cx.shown_pid(tid);
        let _ = cx.write_user(args.parent_tid, &shown.to_le_bytes());
    }
    if has(CloneFlags::CHILD_SETTID) {
        let shown = pid::show(cx.k, pids, tid);
        let _ = crate::mm::user::write_in(cx.k, cx.p, space, args.child_tid, &shown.to_le_bytes());
    }
    Ok((tid, id))
}

/// Whether the descriptor of a child can be made and told.
fn check_pidfd(cx: &mut Cx<'_, '_>, args: &CloneArgs) -> Result<(), Errno> {
    if args.flags.contains(CloneFlags::PARENT_SETTID) && args.pidfd == args.parent_tid {
        return Err(Errno::EINVAL);
    }
    if fdtable::is_full(cx) {
        return Err(Errno::EMFILE);
    }
    crate::file::check_room(cx.k)?;
    let old: i32 = cx.read_obj(args.pidfd)?;
    cx.write_obj(args.pidfd, &old)
}

/// Makes the descriptor of a new child.
fn give_pidfd(cx: &mut Cx<'_, '_>, args: &CloneArgs, tid: u32) -> Result<(), Errno> {
    let (pid, status) = match args.flags.contains(CloneFlags::THREAD) {
        false => (PidFd::of_process(cx.k, tid), OpenFlags::RDWR),
        true => (
            PidFd::of_thread(cx.k, tid),
            OpenFlags::RDWR | OpenFlags::EXCL,
        ),
    };
    let kind = FileKind::PidFd(pid.ok_or(Errno::ESRCH)?);
    let fd = ready::install(cx, kind, Anon::PidFd, status, OnExec::Close)?;
    cx.write_obj(args.pidfd, &fd)
}

/// The thread group of a new process.
fn make_group(cx: &mut Cx<'_, '_>, args: &CloneArgs, tid: u32, leader: ThreadId) {
    let has = |one| args.flags.contains(one);
    let now = cx.now();
    let current = cx.thread;
    let parent = cx.group();
    let (own, shared) = (parent.tgid, parent.sighand);
    let sighand = match has(CloneFlags::SIGHAND) {
        true => cx.k.tasks.share_sighand(shared),
        false => {
            let mut actions =
                cx.k.tasks
                    .actions(own)
                    .cloned()
                    .unwrap_or_else(signal::Actions::new);
            if has(CloneFlags::CLEAR_SIGHAND) {
                actions.reset();
            }
            cx.k.tasks.new_sighand(actions)
        }
    };
    let parent = cx.group();
    let (ancestor, parent_thread, exit_signal) = match has(CloneFlags::PARENT) {
        true => (parent.parent, parent.parent_thread, parent.exit_signal),
        false => (own, Some(current), args.exit_signal.min(SIGNALS + 1)),
    };
    let mut group = Process::new(tid, leader, sighand, now);
    group.threads.insert(tid, leader);
    group.parent = ancestor;
    group.parent_thread = parent_thread;
    group.exit_signal = exit_signal;
    group.pgid = parent.pgid;
    group.sid = parent.sid;
    group.rlimits = parent.rlimits;
    group.thp_disabled = parent.thp_disabled;
    group.oom_score_adj = parent.oom_score_adj;
    group.oom_score_adj_min = parent.oom_score_adj_min;
    group.coredump_filter = parent.coredump_filter;
    group.exe = parent.exe;
    if let Some(exe) = group.exe {
        crate::file::get_exec(cx.k, exe);
    }
    cx.k.tasks.add_group(group);
    cx.k.tasks.add_child(tid);
    cputime::watch_limit(cx.k, tid);
}

/// Lets a new task run. Its floating-point state is the caller's, which is stopped now.
fn start(cx: &mut Cx<'_, '_>, child: ThreadId) {
    let parent = cx.thread;
    let Some(task) = cx.k.tasks.get_mut(child) else {
        return;
    };
    task.fresh = false;
    let (space, regs, tgid) = (task.space, task.regs, task.tgid);
    cputime::start(cx.k, child);
    cx.k.env.emit(Output::StartThread {
        thread: child,
        space,
        regs,
        parent: Some(parent),
    });
    let stopping =
        cx.k.tasks
            .group(tgid)
            .is_some_and(|group| group.stop.is_some());
    if stopping {
        signal::wake(cx.k, child);
    }
}
