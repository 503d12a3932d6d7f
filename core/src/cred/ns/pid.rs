//! PID namespaces (pid_namespaces(7)): processes and threads have a number in each namespace from their own
//! up to the first one.
//!
//! The kernel names tasks, process groups and sessions by their numbers in the first namespace; system calls
//! translate where programs see or say them.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::abi::Errno;
use crate::cred::Base;
use crate::cred::ns::{Body, NsId, PID};
use crate::env::bounds::{INIT, PID_MAX};

/// Deepest nesting (`MAX_PID_NS_LEVEL`).
const LEVEL_MAX: u32 = 32;
/// Numbers below are not given out again once the highest number was reached.
const RESERVED: u32 = 300;

/// A PID namespace below the first one.
#[derive(Clone, Debug, Hash)]
pub(crate) struct PidNs {
    pub level: u32,
    /// The namespace above; `None` of the first one, whose numbers are the kernel's own.
    pub(crate) parent: Option<NsId>,
    /// The first process in it: orphans become its children, and its end is everybody's.
    pub init: Option<u32>,
    /// It has had its first process, and that has ended or is about to.
    pub closed: bool,
    /// Numbers in the first namespace by those here, and back.
    pub inner: BTreeMap<u32, u32>,
    pub outer: BTreeMap<u32, u32>,
    pub last: u32,
    /// One past the highest number (`/proc/sys/kernel/pid_max`).
    pub end: u32,
    /// What memory files may be (`/proc/sys/vm/memfd_noexec`): 1, they cannot be executed unless somebody
    /// asks for that; 2, not even then.
    pub noexec: u8,
}

impl Default for PidNs {
    fn default() -> PidNs {
        PidNs {
            level: 0,
            parent: None,
            init: None,
            closed: false,
            inner: BTreeMap::new(),
            outer: BTreeMap::new(),
            last: 0,
            end: PID_MAX,
            noexec: 0,
        }
    }
}

/// A child of a PID namespace, that belongs to a user namespace and counts for a user. `ENOSPC`.
pub(crate) fn create(
    k: &mut Base,
    (owner, maker): (NsId, u32),
    parent: NsId,
) -> Result<NsId, Errno> {
    let level = at(k, parent).map_or(0, |ns| ns.level) + 1;
    if level > LEVEL_MAX {
        return Err(Errno::ENOSPC);
    }
    let body = PidNs {
        level,
        parent: Some(parent),
        end: end(k, parent),
        noexec: noexec(k, parent),
        ..PidNs::default()
    };
    k.ns.add(owner, maker, Body::Pid(body))
}

impl PidNs {
    /// Whether there is no number left of those that are given again and again.
    fn is_full(&self) -> bool {
        let numbers = (self.end - RESERVED) as usize;
        self.inner.len() >= numbers && self.inner.range(RESERVED..self.end).count() >= numbers
    }

    /// How many numbers it has given.
    pub(crate) fn len(&self) -> u64 {
        self.outer.len() as u64
    }
}

pub(crate) fn at(k: &Base, id: NsId) -> Option<&PidNs> {
    match &k.ns.all.get(&id)?.body {
        Body::Pid(ns) => Some(ns),
        _ => None,
    }
}

pub(crate) fn at_mut(k: &mut Base, id: NsId) -> Option<&mut PidNs> {
    match &mut k.ns.all.get_mut(&id)?.body {
        Body::Pid(ns) => Some(ns),
        _ => None,
    }
}

/// What memory files may be in a namespace: no more than in those above.
pub(crate) fn noexec(k: &Base, id: NsId) -> u8 {
    let line = line(k, id).into_iter().chain([PID]);
    let all = line.filter_map(|id| at(k, id));
    all.map(|ns| ns.noexec).max().unwrap_or(0)
}

/// Sets [`noexec`]. `EINVAL` for more than the namespaces above let.
pub(crate) fn set_noexec(k: &mut Base, id: NsId, value: i128) -> Result<(), Errno> {
    const MOST: u8 = 2;
    let parent = at(k, id).and_then(|ns| ns.parent);
    let least = parent.map_or(0, |parent| noexec(k, parent));
    if !(i128::from(least)..=i128::from(MOST)).contains(&value) {
        return Err(Errno::EINVAL);
    }
    if let Some(ns) = at_mut(k, id) {
        ns.noexec = value as u8;
    }
    Ok(())
}

/// One past the highest number that a namespace gives.
pub(crate) fn end(k: &Base, id: NsId) -> u32 {
    at(k, id).map_or(PID_MAX, |ns| ns.end)
}

/// Sets [`end`]: numbers beyond it stay. `EINVAL` out of range.
pub(crate) fn set_end(k: &mut Base, id: NsId, end: i128) -> Result<(), Errno> {
    let range = i128::from(RESERVED) + 1..=i128::from(PID_MAX);
    if !range.contains(&end) {
        return Err(Errno::EINVAL);
    }
    if let Some(ns) = at_mut(k, id) {
        ns.end = end as u32;
    }
    Ok(())
}

/// A PID namespace and those above it but the first one.
fn line(k: &Base, id: NsId) -> Vec<NsId> {
    let mut found = Vec::new();
    let mut next = Some(id);
    while let Some(id) = next.filter(|&id| id != PID) {
        found.push(id);
        next = at(k, id).and_then(|ns| ns.parent);
    }
    found
}

/// Whether a namespace is another one or lies below it.
pub(crate) fn is_within(k: &Base, id: NsId, above: NsId) -> bool {
    above == PID || line(k, id).contains(&above)
}

/// The namespace above, if that is `own` or below it.
pub(crate) fn parent(k: &Base, own: NsId, id: NsId) -> Option<NsId> {
    let parent = at(k, id)?.parent?;
    is_within(k, parent, own).then_some(parent)
}

/// A process, thread, group or session as a namespace sees it: 0 if it cannot.
pub(crate) fn show(k: &Base, ns: NsId, number: u32) -> u32 {
    match ns {
        PID => number,
        ns => at(k, ns)
            .and_then(|ns| ns.outer.get(&number))
            .copied()
            .unwrap_or(0),
    }
}

/// What a namespace means by a number.
pub(crate) fn find(k: &Base, ns: NsId, number: u32) -> Option<u32> {
    match ns {
        PID => Some(number),
        ns => at(k, ns)?.inner.get(&number).copied(),
    }
}

/// The numbers of a task from a namespace down to the innermost in which it has one (`NSpid` in
/// `/proc/PID/status`).
pub(crate) fn numbers(k: &Base, from: NsId, own: NsId, number: u32) -> Vec<u32> {
    let mut all: Vec<NsId> = line(k, own);
    all.push(PID);
    all.reverse();
    let below = all.iter().position(|&id| id == from).unwrap_or(all.len());
    all[below..].iter().map(|&id| show(k, id, number)).collect()
}

/// The first process of a PID namespace.
pub(crate) fn init(k: &Base, ns: NsId) -> u32 {
    at(k, ns).and_then(|ns| ns.init).unwrap_or(INIT)
}

/// Whether processes can be made in a namespace: not after its first one has ended (`ENOMEM`; a number is
/// lost all the same, as in Linux), and only while there are numbers (`EAGAIN`).
pub(crate) fn check_open(k: &mut Base, ns: NsId) -> Result<(), Errno> {
    let line = line(k, ns);
    let full = |&id: &NsId| at(k, id).is_some_and(PidNs::is_full);
    if line.iter().any(full) {
        return Err(Errno::EAGAIN);
    }
    if !line.iter().any(|&id| at(k, id).is_none_or(|ns| ns.closed)) {
        return Ok(());
    }
    for id in line {
        if let Some(ns) = at_mut(k, id) {
            ns.last = (ns.last + 1).min(ns.end - 1);
        }
    }
    Err(Errno::ENOMEM)
}

/// Whether a namespace has had its first process.
pub(crate) fn has_init(k: &Base, ns: NsId) -> bool {
    ns == PID || at(k, ns).is_some_and(|ns| ns.init.is_some() || ns.closed)
}

/// Gives a new task a number in its PID namespace and in those above; the first process becomes `init`.
pub(crate) fn add(k: &mut Base, ns: NsId, number: u32) {
    let line = line(k, ns);
    if !line.is_empty() {
        k.ns.nested.insert(number, line.clone());
    }
    for id in line {
        let Some(ns) = at_mut(k, id) else {
            continue;
        };
        // There are some, or at least there are more than tasks.
        let end = match ns.is_full() {
            true => PID_MAX,
            false => ns.end,
        };
        let own = loop {
            ns.last += 1;
            if ns.last >= end {
                ns.last = RESERVED;
            }
            if !ns.inner.contains_key(&ns.last) {
                break ns.last;
            }
        };
        ns.inner.insert(own, number);
        ns.outer.insert(number, own);
        if own == 1 {
            ns.init = Some(number);
        }
        k.ns.numbers += 1;
    }
}
