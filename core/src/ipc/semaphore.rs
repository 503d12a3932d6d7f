//! Semaphore sets (semget(2), semop(2)).
//!
//! A call that cannot be made waits for the set, and is tried again as a whole whenever something in the set
//! changes. What a process has to undo is kept by set and process.

use crate::file::caller::FileCallers;
use alloc::collections::btree_map::Entry;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use alloc::{format, vec};

use super::{Object, ObjectId, Perm};
use crate::abi::Errno;
use crate::args::IpcGetFlags;
use crate::cred::ns::NsId;
use crate::env::cx::Cx;
use crate::env::wait::WaitKey;
use crate::file::Files;

/// Limits (`/proc/sys/kernel/sem`): semaphores of a set, of all sets, operations of a call, sets.
pub(crate) const SET_MAX: u32 = 32000;
pub(crate) const ALL_MAX: usize = 1 << 20;
pub(crate) const OPERATIONS_MAX: u64 = 500;
pub(crate) const SETS_MAX: usize = 32000;
/// Highest value, and most that is undone (`SEMVMX`, `SEMAEM`).
pub(crate) const VALUE_MAX: i32 = 32767;

/// One semaphore.
#[derive(Clone, Copy, Default, Hash, Debug)]
pub(crate) struct Semaphore {
    pub value: i32,
    /// The process that changed it last.
    pub pid: u32,
}

/// A set.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Set {
    pub perm: Perm,
    pub semaphores: Vec<Semaphore>,
    /// Seconds: last operation, last change.
    pub operated: i64,
    pub changed: i64,
}

impl Object for Set {
    fn perm(&self) -> &Perm {
        &self.perm
    }

    fn perm_mut(&mut self) -> &mut Perm {
        &mut self.perm
    }
}

/// What processes that end give back, by set and process: an adjustment for each semaphore.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Undo {
    adjustments: BTreeMap<(ObjectId, u32), Vec<i32>>,
    /// The same by process.
    processes: BTreeSet<(u32, ObjectId)>,
    /// Number of all adjustments.
    count: usize,
}

impl Undo {
    /// Bytes that all adjustments take.
    pub(super) fn held(&self) -> u64 {
        const PROCESS_COST: u64 = 192;
        self.processes.len() as u64 * PROCESS_COST + (self.count * size_of::<i32>()) as u64
    }

    /// Takes out what a process has to undo in a set.
    fn take(&mut self, set: ObjectId, pid: u32) -> Option<Vec<i32>> {
        let adjustments = self.adjustments.remove(&(set, pid))?;
        self.processes.remove(&(pid, set));
        self.count -= adjustments.len();
        Some(adjustments)
    }

    /// Forgets the sets from one to another.
    fn forget(&mut self, first: ObjectId, last: ObjectId) {
        let range = (first, 0)..=(last, u32::MAX);
        while let Some((&(set, pid), _)) = self.adjustments.range(range.clone()).next() {
            self.take(set, pid);
        }
    }

    pub(super) fn forget_namespace(&mut self, ns: NsId) {
        let [first, last] = [i32::MIN, i32::MAX].map(|id| ObjectId { ns, id });
        self.forget(first, last);
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let count: usize = self.adjustments.values().map(Vec::len).sum();
        let processes = self.adjustments.keys().map(|&(set, pid)| (pid, set));
        let processes: BTreeSet<(u32, ObjectId)> = processes.collect();
        match count == self.count && processes == self.processes {
            true => Ok(()),
            false => Err(format!(
                "{} adjustments are counted, not {count}",
                self.count
            )),
        }
    }
}

/// One operation of semop(2): `struct sembuf`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operation {
    pub number: u16,
    pub change: i16,
    pub no_wait: bool,
    pub undo: bool,
}

/// What came of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    Done,
    /// The operation with this index cannot be made yet.
    Waits(usize),
}

/// Makes a set. `EINVAL`, `ENOSPC`.
pub(crate) fn create<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    key: i32,
    count: u32,
    flags: IpcGetFlags,
) -> Result<i32, Errno> {
    if count == 0 {
        return Err(Errno::EINVAL);
    }
    let [_, all, _, sets] = super::objects(cx).limits.semaphores();
    let own = super::objects(cx).semaphores as u64;
    if cx.k.files().ipc.semaphores + count as usize > ALL_MAX || own + u64::from(count) > all {
        return Err(Errno::ENOSPC);
    }
    let set = Set {
        perm: Perm::new(cx.creds(), key, flags),
        semaphores: vec![Semaphore::default(); count as usize],
        operated: 0,
        changed: super::seconds(cx.k.files()),
    };
    let id = super::objects_mut(cx)
        .sets
        .add(set, SETS_MAX.min(sets as usize))?;
    super::objects_mut(cx).semaphores += count as usize;
    cx.k.files_mut().ipc.objects += 1;
    cx.k.files_mut().ipc.semaphores += count as usize;
    Ok(id)
}

/// Removes a set; those who wait for it are told.
pub(crate) fn remove(k: &mut Files, id: ObjectId) -> Result<(), Errno> {
    let objects = k.ipc.objects_mut(id.ns);
    let set = objects.sets.remove(id.id)?;
    objects.semaphores -= set.semaphores.len();
    k.ipc.objects -= 1;
    k.ipc.semaphores -= set.semaphores.len();
    k.ipc.undo.forget(id, id);
    k.wake(WaitKey::Semaphores(id));
    Ok(())
}

/// Makes all operations or none. `EFBIG`, `ERANGE`, `ENOSPC` if too much is to be undone.
pub(crate) fn operate(
    k: &mut Files,
    id: ObjectId,
    pid: u32,
    operations: &[Operation],
) -> Result<Outcome, Errno> {
    let now = super::seconds(k);
    let ipc = &mut k.ipc;
    let objects = ipc.namespaces.get_mut(&id.ns).ok_or(Errno::EIDRM)?;
    let set = objects.sets.get_mut(id.id)?;
    let kept = &mut ipc.undo;
    let count = set.semaphores.len();
    let mut none = Vec::new();
    let undo = match operations.iter().any(|operation| operation.undo) {
        false => &mut none,
        true => match kept.adjustments.entry((id, pid)) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(_) if kept.count + count > ALL_MAX => return Err(Errno::ENOSPC),
            Entry::Vacant(entry) => {
                kept.count += count;
                kept.processes.insert((pid, id));
                entry.insert(vec![0; count])
            }
        },
    };
    let mut outcome = Ok(Outcome::Done);
    let mut made = 0;
    for operation in operations {
        outcome = apply(&mut set.semaphores, undo, operation, made);
        if outcome != Ok(Outcome::Done) {
            break;
        }
        made += 1;
    }
    if outcome != Ok(Outcome::Done) {
        for operation in operations[..made].iter().rev() {
            let number = usize::from(operation.number);
            let change = i32::from(operation.change);
            if let Some(semaphore) = set.semaphores.get_mut(number) {
                semaphore.value -= change;
            }
            if let Some(adjustment) = undo.get_mut(number)
                && operation.undo
            {
                *adjustment += change;
            }
        }
        return outcome;
    }
    for operation in operations {
        if let Some(semaphore) = set.semaphores.get_mut(usize::from(operation.number)) {
            semaphore.pid = pid;
        }
    }
    set.operated = now;
    if operations.iter().any(|operation| operation.change != 0) {
        k.wake(WaitKey::Semaphores(id));
    }
    Ok(Outcome::Done)
}

fn apply(
    semaphores: &mut [Semaphore],
    undo: &mut [i32],
    operation: &Operation,
    index: usize,
) -> Result<Outcome, Errno> {
    let number = usize::from(operation.number);
    let semaphore = semaphores.get_mut(number).ok_or(Errno::EFBIG)?;
    let change = i32::from(operation.change);
    let value = semaphore.value + change;
    if change == 0 && semaphore.value != 0 || value < 0 {
        return Ok(Outcome::Waits(index));
    }
    if value > VALUE_MAX {
        return Err(Errno::ERANGE);
    }
    if let Some(adjustment) = undo.get_mut(number)
        && operation.undo
    {
        let new = *adjustment - change;
        if !(-VALUE_MAX - 1..=VALUE_MAX).contains(&new) {
            return Err(Errno::ERANGE);
        }
        *adjustment = new;
    }
    semaphore.value = value;
    Ok(Outcome::Done)
}

/// Sets values (`SETVAL`, `SETALL`): from this semaphore on. What would be undone of them is forgotten.
pub(crate) fn set_values(
    k: &mut Files,
    id: ObjectId,
    pid: u32,
    first: usize,
    values: &[u16],
) -> Result<(), Errno> {
    let now = super::seconds(k);
    let set = k.ipc.objects_mut(id.ns).sets.get_mut(id.id)?;
    for (semaphore, &value) in set.semaphores.iter_mut().skip(first).zip(values) {
        *semaphore = Semaphore {
            value: i32::from(value),
            pid,
        };
    }
    set.changed = now;
    let of_set = (id, 0)..=(id, u32::MAX);
    for (_, adjustments) in k.ipc.undo.adjustments.range_mut(of_set) {
        let part = adjustments.iter_mut().skip(first).take(values.len());
        part.for_each(|adjustment| *adjustment = 0);
    }
    k.wake(WaitKey::Semaphores(id));
    Ok(())
}

/// A process has ended or left its namespace: what it asked to be undone in one set is; `false` if there is
/// none.
pub(crate) fn undo_one(k: &mut Files, tgid: u32) -> bool {
    let now = super::seconds(k);
    let first = ObjectId {
        ns: NsId(0),
        id: i32::MIN,
    };
    let mut own = k.ipc.undo.processes.range((tgid, first)..);
    let next = own.next().filter(|&&(pid, _)| pid == tgid);
    let Some(&(pid, id)) = next else {
        return false;
    };
    let Some(undo) = k.ipc.undo.take(id, pid) else {
        return false;
    };
    k.env.steps.spend(8 + undo.len() as u64 / 32);
    let Ok(set) = k.ipc.objects_mut(id.ns).sets.get_mut(id.id) else {
        return true;
    };
    for (semaphore, adjustment) in set.semaphores.iter_mut().zip(undo) {
        if adjustment != 0 {
            let value = (semaphore.value + adjustment).clamp(0, VALUE_MAX);
            *semaphore = Semaphore { value, pid };
        }
    }
    set.operated = now;
    k.wake(WaitKey::Semaphores(id));
    true
}
