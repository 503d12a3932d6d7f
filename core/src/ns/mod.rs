//! Tasks in namespaces: joining and leaving them, and the end of those that nothing needs any more.

pub(crate) mod enter;
pub(crate) mod pids;
pub(crate) mod users;

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::cred::ns::{Body, DYNAMIC_FIRST, NsId, Set, pid, pinned_by};
use crate::env::wait::WaitKey;
use crate::file::ready;
use crate::machine::ThreadId;
use crate::port::Ports;
use crate::task::Task;
use crate::vfs::{DentryId, dentry};
use crate::{Kernel, ipc};

fn members(task: &Task) -> impl Iterator<Item = NsId> {
    task.ns.all().into_iter().chain([task.creds.user_ns])
}

/// A task has come to be in these namespaces.
pub(crate) fn joined(k: &mut Kernel, set: &Set, user: NsId) {
    for id in set.all().into_iter().chain([user]) {
        k.ns.at_mut(id).tasks += 1;
    }
}

/// A task that was in these namespaces has left them.
pub(crate) fn left(k: &mut Kernel, p: &mut Ports<'_>, set: &Set, user: NsId) {
    for id in set.all().into_iter().chain([user]) {
        let ns = k.ns.at_mut(id);
        ns.tasks -= 1;
        if ns.tasks == 0 {
            k.ns.let_go(id);
        }
    }
    sweep(k, p);
}

/// A task ends that stays until it is reaped.
pub(crate) fn pin_ended(k: &mut Kernel, thread: ThreadId) {
    for id in k.tasks.get(thread).map(kept_by).into_iter().flatten() {
        k.ns.pin(id);
    }
}

/// A task that has ended is about to be reaped.
pub(crate) fn unpin_ended(k: &mut Kernel, thread: ThreadId) {
    let task = k.tasks.get(thread).filter(|task| task.exited);
    for id in task.map(kept_by).into_iter().flatten() {
        k.ns.unpin(id);
    }
}

/// Changes a task's namespaces and user namespace. What its process has to undo in an IPC namespace that it
/// leaves is undone by whoever calls this.
pub(crate) fn change(k: &mut Kernel, p: &mut Ports<'_>, task: ThreadId, set: Set, user: NsId) {
    let Some(task) = k.tasks.get_mut(task) else {
        return;
    };
    let old = core::mem::replace(&mut task.ns, set);
    let old_user = core::mem::replace(&mut Arc::make_mut(&mut task.creds).user_ns, user);
    joined(k, &set, user);
    left(k, p, &old, old_user);
}

/// The file of a namespace; held by the namespace.
pub(crate) fn dentry_of(k: &mut Kernel, id: NsId) -> Option<DentryId> {
    let ns = k.ns.all.get(&id)?;
    if let Some(dentry) = ns.dentry {
        return Some(dentry);
    }
    let path = crate::vfs::object::path(k, crate::fs::anon::namespace_ino(id));
    k.ns.at_mut(id).dentry = Some(path.dentry);
    Some(path.dentry)
}

/// Takes away the namespaces that nothing needs any more; with a mount namespace its mounts, with an IPC
/// namespace its objects.
pub(crate) fn sweep(k: &mut Kernel, p: &mut Ports<'_>) {
    while let Some(id) = k.ns.let_go.pop_last() {
        if is_needed(k, id) {
            continue;
        }
        let Some(ns) = k.ns.remove(id) else {
            continue;
        };
        if let Some(id) = ns.dentry {
            dentry::put(k, p, id);
        }
        match ns.body {
            Body::Mount(Some(root)) => crate::vfs::mount::drop_namespace(k, p, id, root),
            Body::Ipc => ipc::end_namespace(k, p, id),
            _ => {}
        }
    }
}

/// The same where namespaces were made that nobody has come to be in.
pub(crate) fn sweep_all(k: &mut Kernel, p: &mut Ports<'_>) {
    k.ns.let_go_idle();
    sweep(k, p);
}

/// Whether somebody needs a namespace: a task, another namespace, who holds its file, a file system, an
/// attached segment.
fn is_needed(k: &Kernel, id: NsId) -> bool {
    let Some(ns) = k.ns.all.get(&id) else {
        return true;
    };
    let held = |dentry| k.vfs.dentries.refs(dentry) > 1;
    id.0 < DYNAMIC_FIRST
        || ns.tasks > 0
        || ns.pins > 0
        || ns.dentry.is_some_and(held)
        || k.fs.owns_filesystem(id)
        || k.vfs.mounts.owns_anonymous(id)
        || k.vfs.configs.keep(id)
        || k.vfs.mounts.jobs.namespaces().any(|made| made == id)
        || matches!(ns.body, Body::Ipc) && ipc::shm::is_attached(k, k.ipc.objects_of(id))
}

/// The namespaces that a task keeps beyond its end, until it is reaped: its number and its credentials are
/// still asked for.
fn kept_by(task: &Task) -> [NsId; 2] {
    [task.ns.pid, task.creds.user_ns]
}

/// Whether everything that is there is needed, and what namespaces keep is counted rightly; for invariant
/// checks.
pub(crate) fn check_needed(k: &Kernel) -> Result<(), String> {
    let ended = k.tasks.iter().filter(|task| task.exited);
    let ended: Vec<NsId> = ended.flat_map(kept_by).collect();
    let mut pins: BTreeMap<NsId, u32> = BTreeMap::new();
    for (id, ns) in &k.ns.all {
        let above = pinned_by(ns.owner, &ns.body).filter(|_| id.0 >= DYNAMIC_FIRST);
        above.for_each(|above| *pins.entry(above).or_default() += 1);
    }
    ended
        .iter()
        .for_each(|&id| *pins.entry(id).or_default() += 1);
    for (&id, ns) in &k.ns.all {
        let expected = pins.get(&id).copied().unwrap_or(0);
        if ns.pins != expected {
            return Err(alloc::format!(
                "{id:?} has {} pins, not {expected}",
                ns.pins
            ));
        }
        if !is_needed(k, id) && !k.ns.let_go.contains(&id) {
            return Err(alloc::format!("nobody needs {id:?}"));
        }
    }
    if !k.ns.is_counted(crate::file::inotify::counted(k)) {
        return Err("namespaces and instances of users are counted wrong".into());
    }
    let mut nested = 0;
    for (number, all) in &k.ns.nested {
        for &id in all {
            nested += u64::from(k.ns.exists(id));
            if k.ns.exists(id) && pid::show(k, id, *number) == 0 {
                return Err(alloc::format!("{number} has no number in {id:?}"));
            }
        }
    }
    match nested == k.ns.numbers {
        true => Ok(()),
        false => Err(alloc::format!(
            "{nested} numbers in PID namespaces are known"
        )),
    }
}

/// Whether the tasks in each are counted right; the text says which are not.
pub(crate) fn check(k: &Kernel) -> Result<(), String> {
    let mut counts: BTreeMap<NsId, u32> = BTreeMap::new();
    for task in k.tasks.iter() {
        if let Some(id) = kept_by(task).iter().find(|id| !k.ns.exists(**id)) {
            return Err(alloc::format!(
                "{id:?} is gone, but task {} names it",
                task.tid
            ));
        }
        if task.exited {
            continue;
        }
        for id in members(task) {
            *counts.entry(id).or_default() += 1;
        }
    }
    let sum = |of: fn(&Body) -> u64| k.ns.all.values().map(|ns| of(&ns.body)).sum::<u64>();
    if (k.ns.extents, k.ns.numbers) != (sum(Body::extents), sum(Body::numbers)) {
        return Err(alloc::format!(
            "{} extents and {} numbers are counted wrong",
            k.ns.extents,
            k.ns.numbers
        ));
    }
    for (id, ns) in &k.ns.all {
        let expected = counts.remove(id).unwrap_or(0);
        if ns.tasks != expected {
            return Err(alloc::format!(
                "{id:?} counts {} tasks, but there are {expected}",
                ns.tasks
            ));
        }
    }
    match counts.keys().next() {
        Some(id) => Err(alloc::format!("{id:?} is gone, but tasks are in it")),
        None => Ok(()),
    }
}

/// Gives a UTS namespace other names, and tells who waits for that.
pub(crate) fn set_uts(k: &mut Kernel, id: NsId, host: Option<Vec<u8>>, domain: Option<Vec<u8>>) {
    let uts = k.ns.uts_mut(id);
    if let Some(host) = host {
        uts.hostname = host;
        uts.host_changes += 1;
    }
    if let Some(domain) = domain {
        uts.domainname = domain;
        uts.domain_changes += 1;
    }
    k.notify(WaitKey::Uts(id), ready::PRI | ready::ERR);
}
