//! Processes in PID namespaces (pid_namespaces(7)): who is the first one, and which there are.

use alloc::vec::Vec;

use crate::Kernel;
use crate::cred::ns::pid::*;
use crate::cred::ns::{NsId, PID};
use crate::task::Cx;
use crate::task::INIT;

/// Whether a process is the first one of its PID namespace.
pub(crate) fn is_init(k: &Kernel, tgid: u32) -> bool {
    tgid == INIT
        || k.tasks
            .leader(tgid)
            .is_some_and(|task| init(k, task.ns.pid) == tgid)
}

/// Tasks have ended, or processes left their groups or sessions: those of their numbers that now name nothing
/// go from all namespaces below the first one, where the numbers are the kernel's own.
pub(crate) fn remove(k: &mut Kernel, numbers: &[u32]) {
    for &number in numbers {
        let used = k.tasks.by_tid(number).is_some() || k.tasks.names_group(number);
        if used || k.ns.nested.is_empty() {
            continue;
        }
        for id in k.ns.nested.remove(&number).unwrap_or_default() {
            if let Some(ns) = at_mut(k, id)
                && let Some(own) = ns.outer.remove(&number)
            {
                ns.inner.remove(&own);
                k.ns.numbers -= 1;
            }
        }
    }
}

/// The first process of a namespace ends: nothing can be made there any more. `false` if it is not the first
/// process of one below the first.
pub(crate) fn close(k: &mut Kernel, tgid: u32) -> bool {
    let ns = k.tasks.leader(tgid).map(|task| task.ns.pid);
    let ns = ns.and_then(|id| at_mut(k, id));
    let Some(ns) = ns.filter(|ns| ns.init == Some(tgid)) else {
        return false;
    };
    ns.closed = true;
    true
}

/// The next number, from one on, that the PID namespace of a process sees: of a task, group or session.
pub(crate) fn number_from(k: &Kernel, tgid: u32, first: u32) -> Option<u32> {
    let ns = at(k, k.tasks.leader(tgid)?.ns.pid)?;
    ns.outer.range(first..).next().map(|(&number, _)| number)
}

/// The processes that a namespace sees from one of its numbers on, ascending: their numbers there and in the
/// first one.
pub(crate) fn processes(k: &Kernel, ns: NsId, first: u32) -> impl Iterator<Item = (u32, u32)> + '_ {
    let all = (ns == PID).then(|| k.tasks.groups_from(first).map(|tgid| (tgid, tgid)));
    let nested = at(k, ns).filter(|_| ns != PID);
    let nested = nested
        .into_iter()
        .flat_map(move |ns| ns.inner.range(first..));
    let nested = nested.map(|(&own, &number)| (own, number));
    let nested = nested.filter(|&(_, number)| k.tasks.group_exists(number));
    all.into_iter().flatten().chain(nested)
}

/// The same for the threads of a process.
pub(crate) fn threads(
    k: &Kernel,
    ns: NsId,
    tgid: u32,
    first: u32,
) -> impl Iterator<Item = (u32, u32)> + '_ {
    let group = k.tasks.group(tgid);
    let all = group.filter(|_| ns == PID).into_iter();
    let all = all.flat_map(move |group| group.threads.range(first..));
    let all = all.map(|(&tid, _)| (tid, tid));
    let mut nested: Vec<(u32, u32)> = Vec::new();
    if ns != PID {
        let shown = k.tasks.threads(tgid).map(|tid| (show(k, ns, tid), tid));
        nested.extend(shown.filter(|&(own, _)| own > 0 && own >= first));
        nested.sort_unstable();
    }
    all.chain(nested)
}

impl Cx<'_, '_> {
    /// What the caller means by a number; `None` if it sees no such task.
    pub(crate) fn meant_pid(&self, number: u32) -> Option<u32> {
        find(self.k, self.task().ns.pid, number)
    }

    /// The thread that the caller means by a number.
    pub(crate) fn meant_thread(&self, number: u32) -> Option<crate::machine::ThreadId> {
        self.k.tasks.by_tid(self.meant_pid(number)?)
    }
}
