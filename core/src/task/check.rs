//! Invariants of tasks, groups, queues and handlers, checked by tests after every step.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;

use super::INIT;
use super::cputime::{self, CpuTimer};
use crate::Kernel;
use crate::env::timers::TimerKey;
use crate::file::FileId;

/// The files that calls of waiting or interrupted tasks keep, each as often as there is a reference.
pub(crate) fn files_of_calls(k: &Kernel) -> impl Iterator<Item = FileId> + '_ {
    k.tasks.tasks.values().flat_map(|task| {
        let interrupted = task.interrupted.as_ref().map(|(call, _)| call);
        let calls = task.call.iter().chain(interrupted);
        calls.flat_map(|call| call.files.held())
    })
}

/// Checks that tasks, thread groups, parents, children, handlers and timers agree. The error names what does
/// not.
pub(crate) fn check(k: &Kernel) -> Result<(), String> {
    let tasks = &k.tasks;
    for (&id, task) in &tasks.tasks {
        let tid = task.tid;
        ensure(task.id == id, || format!("task {tid}: wrong id"))?;
        ensure(tasks.by_tid(tid) == Some(id), || {
            format!("task {tid}: not found by its number")
        })?;
        let group = tasks
            .group(task.tgid)
            .ok_or_else(|| format!("task {tid}: no group {}", task.tgid))?;
        let listed = group.threads.get(&tid) == Some(&id);
        ensure(listed != task.exited, || {
            format!("task {tid}: listed {listed}, ended {}", task.exited)
        })?;
        ensure(!task.exited || group.leader == id, || {
            format!("task {tid}: ended and kept without being leader")
        })?;
        ensure(
            !task.running || (task.call.is_none() && !task.stopped),
            || format!("task {tid}: runs while in a call or stopped"),
        )?;
        ensure(task.pending.consistent(), || {
            format!("task {tid}: pending set and queue differ")
        })?;
        ensure(task.blocked & super::signal::UNBLOCKABLE == 0, || {
            format!("task {tid}: blocks SIGKILL or SIGSTOP")
        })?;
        ensure(!task.stopped || group.stop.is_some(), || {
            format!("task {tid}: stopped in a running process")
        })?;
    }
    ensure(tasks.by_tid.len() == tasks.tasks.len(), || {
        "thread numbers without tasks".into()
    })?;
    ensure(tasks.is_indexed(), || {
        "tasks are not known rightly by their groups, users and spaces".into()
    })?;
    let running = tasks.iter().filter(|task| task.running).count();
    ensure(running == cputime::running(k) as usize, || {
        format!("{running} threads run, which is counted wrong")
    })?;
    let filters = tasks.tasks.values().map(|task| task.seccomp);
    ensure(tasks.filters.consistent(filters), || {
        "users of seccomp filters are counted wrong".into()
    })?;
    let mut paid = super::signal::Paid::default();
    let own = tasks.tasks.values().map(|task| &task.pending);
    let shared = tasks.groups.values().map(|group| &group.pending);
    let of_timers = tasks
        .groups
        .values()
        .flat_map(|group| group.timers.values());
    own.chain(shared)
        .flat_map(|pending| pending.payers())
        .chain(of_timers.map(|timer| timer.user()))
        .for_each(|user| paid.add(user));
    ensure(paid == tasks.paid, || {
        format!("{:?} are paid for, not {paid:?}", tasks.paid)
    })?;
    let mut lists = crate::cred::groups::Held::default();
    let all = tasks.tasks.values();
    all.for_each(|task| lists.add(&task.creds.groups));
    ensure(lists == tasks.group_lists, || {
        "supplementary groups are counted wrong".into()
    })?;
    let all = tasks.tasks.values().map(|task| &*task.creds);
    ensure(k.landlock.is_consistent(all, k.files.rulesets()), || {
        "Landlock rulesets and domains are counted wrong".into()
    })?;
    let mut timers = k.env.timers.0.clone();
    let mut users = BTreeMap::new();
    let mut children = tasks.all_children();
    for (&tgid, group) in &tasks.groups {
        ensure(group.tgid == tgid, || format!("group {tgid}: wrong number"))?;
        ensure(group.zombie == group.threads.is_empty(), || {
            format!(
                "group {tgid}: zombie {} with {} threads",
                group.zombie,
                group.threads.len()
            )
        })?;
        ensure(
            tasks.get(group.leader).is_some_and(|task| task.tid == tgid),
            || format!("group {tgid}: no leader"),
        )?;
        for (&tid, &thread) in &group.threads {
            ensure(
                tasks.get(thread).is_some_and(|task| task.tid == tid),
                || format!("group {tgid}: lists thread {tid} that is not there"),
            )?;
        }
        if tgid != INIT {
            let parent = tasks
                .group(group.parent)
                .ok_or_else(|| format!("group {tgid}: parent {} is gone", group.parent))?;
            ensure(!parent.zombie || k.system.over, || {
                format!("group {tgid}: parent {} has ended", group.parent)
            })?;
        }
        ensure(group.ending.is_none() || tasks.endings.holds(tgid), || {
            format!("group {tgid}: ends, but nobody gets on with it")
        })?;
        let children = children.remove(&tgid).unwrap_or_default();
        ensure(group.children == children, || {
            format!("group {tgid}: its children are not known rightly")
        })?;
        let stopped = group.threads.values().filter_map(|&id| tasks.get(id));
        let stopped = stopped.filter(|task| task.stopped).count();
        ensure(stopped == group.halted as usize, || {
            format!("group {tgid}: {stopped} threads have stopped")
        })?;
        ensure(group.pending.consistent(), || {
            format!("group {tgid}: pending set and queue differ")
        })?;
        let real = group.timer.at.map(|at| (at, TimerKey::Real(tgid)));
        let posix = group
            .timers
            .iter()
            .filter(|(_, timer)| timer.cpu.is_none())
            .filter_map(|(&id, timer)| Some((timer.armed()?, TimerKey::Posix(tgid, id))));
        for (timer, at) in [
            (CpuTimer::Virtual, group.virtual_timer.at),
            (CpuTimer::Profile, group.profile_timer.at),
            (CpuTimer::Limit, group.limit_at),
        ] {
            ensure(
                at.is_none_or(|at| cputime::holds(k, timer.clock(tgid), timer, at)),
                || format!("group {tgid}: {timer:?} is not set"),
            )?;
        }
        let running = group.threads.values().filter_map(|&id| tasks.get(id));
        let running = running.filter(|task| task.running).count();
        ensure(running == group.cpu.running as usize, || {
            format!("group {tgid}: {running} threads run")
        })?;
        for armed in real.into_iter().chain(posix) {
            ensure(timers.remove(&armed), || {
                format!("group {tgid}: its timer {armed:?} is not armed")
            })?;
        }
        if !group.zombie {
            *users.entry(group.sighand).or_insert(0) += 1;
        }
    }
    for (id, sighand) in &tasks.sighands {
        ensure(users.remove(id) == Some(sighand.users), || {
            format!("{id:?}: wrong number of users")
        })?;
    }
    ensure(users.is_empty(), || "a group without handlers".into())?;
    for armed in k.files.armed_timers() {
        ensure(timers.remove(&armed), || {
            format!("the timer {armed:?} is not armed")
        })?;
    }
    for (&clock, queue) in &tasks.cpu_timers {
        if let Some(at) = queue.tick {
            ensure(timers.remove(&(at, TimerKey::Cpu(clock))), || {
                format!("the tick of {clock:?} is not armed")
            })?;
        }
    }
    ensure(timers.is_empty(), || {
        format!("timers of nobody are armed: {timers:?}")
    })?;
    let waiting = tasks.iter().filter_map(|task| {
        let call = task.call.as_ref()?;
        Some((task.id, call.wait.as_ref()?))
    });
    k.check_waits(waiting)?;
    k.check_turns()?;
    Ok(())
}

fn ensure(holds: bool, message: impl FnOnce() -> String) -> Result<(), String> {
    match holds {
        true => Ok(()),
        false => Err(message()),
    }
}
