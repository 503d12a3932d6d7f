//! System V semaphores (semget(2), semop(2), semctl(2)).

use alloc::vec;
use alloc::vec::Vec;

use smallvec::SmallVec;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::poll::read_span;
use crate::abi::Errno;
use crate::args::*;
use crate::env::wait::{Restart, SysResult, Wait, WaitKey};
use crate::ipc::semaphore::{self as sem, OPERATIONS_MAX, Operation, Outcome, Set, VALUE_MAX};
use crate::ipc::{self, IPC_NOWAIT, PermRecord, READ, WRITE};
use crate::kernel::Cx;

const SEM_UNDO: u16 = 0x1000;
const NANOS: i64 = 1_000_000_000;

/// `struct semid64_ds` of x86-64.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Record {
    perm: PermRecord,
    operated: i64,
    unused: u64,
    changed: i64,
    unused_too: u64,
    count: u64,
    unused_end: [u64; 2],
}

pub(super) fn semget(cx: &mut Cx<'_, '_>, key: Int, nsems: Int, semflg: IpcGetFlags) -> SysResult {
    let count = u32::try_from(nsems.0)
        .ok()
        .filter(|&count| count <= sem::SET_MAX)
        .filter(|&count| u64::from(count) <= ipc::objects(cx).limits.semaphores()[0])
        .ok_or(Errno::EINVAL)?;
    let table = &ipc::objects(cx).sets;
    let fits = |set: &Set| match count as usize > set.semaphores.len() {
        true => Err(Errno::EINVAL),
        false => Ok(()),
    };
    match table.find(cx, key.0, semflg, fits)? {
        Some(id) => Ok(id as u64),
        None => Ok(sem::create(cx, key.0, count, semflg)? as u64),
    }
}

pub(super) fn semop(cx: &mut Cx<'_, '_>, semid: Int, sops: Addr, nsops: Size) -> SysResult {
    operate(cx, semid.0, sops.0, nsops.0 & 0xffff_ffff, None)
}

pub(super) fn semtimedop(
    cx: &mut Cx<'_, '_>,
    semid: Int,
    sops: Addr,
    nsops: Size,
    timeout: Addr,
) -> SysResult {
    let timeout = read_span(cx, timeout.0, NANOS)?;
    operate(cx, semid.0, sops.0, nsops.0 & 0xffff_ffff, timeout)
}

/// What a waiting call waits for, as its progress: the semaphore, and whether it is to be 0.
fn waits_for(number: u16, zero: bool) -> u64 {
    1 << 32 | u64::from(number) << 1 | u64::from(zero)
}

fn operate(cx: &mut Cx<'_, '_>, id: i32, sops: u64, count: u64, timeout: Option<u64>) -> SysResult {
    if count == 0 || id < 0 {
        return Err(Errno::EINVAL.into());
    }
    if count > ipc::objects(cx).limits.semaphores()[2].min(OPERATIONS_MAX) {
        return Err(Errno::E2BIG.into());
    }
    let mut operations: SmallVec<[Operation; 4]> = SmallVec::new();
    for index in 0..count {
        let [number, change, flags]: [u16; 3] = cx.read_obj(sops.wrapping_add(index * 6))?;
        operations.push(Operation {
            number,
            change: change as i16,
            no_wait: u32::from(flags) & IPC_NOWAIT != 0,
            undo: flags & SEM_UNDO != 0,
        });
    }
    let waited = cx.call().progress != 0;
    let set = match ipc::objects(cx).sets.get(id) {
        Err(_) if waited => return Err(Errno::EIDRM.into()),
        set => set?,
    };
    if operations
        .iter()
        .any(|operation| usize::from(operation.number) >= set.semaphores.len())
    {
        return Err(Errno::EFBIG.into());
    }
    let alters = operations.iter().any(|operation| operation.change != 0);
    let wanted = if alters { WRITE } else { READ };
    set.perm.check(cx, wanted)?;
    let (object, pid) = (ipc::object(cx, id), ipc::caller(cx));
    let Outcome::Waits(index) = sem::operate(cx.k, object, pid, &operations)? else {
        return Ok(0);
    };
    let operation = operations[index];
    let over = timeout.is_some_and(|timeout| cx.expired(timeout));
    if operation.no_wait || over {
        return Err(Errno::EAGAIN.into());
    }
    let call = cx.call();
    call.progress = waits_for(operation.number, operation.change == 0);
    let deadline = timeout.map(|timeout| call.entered.mono.saturating_add(timeout));
    Wait::on(WaitKey::Semaphores(object))
        .until(deadline)
        .restart(Restart::Never)
        .into()
}

/// How many calls wait for a semaphore to become larger, or 0.
fn waiters(cx: &Cx<'_, '_>, id: i32, number: u16, zero: bool) -> u64 {
    let wanted = waits_for(number, zero);
    let key = WaitKey::Semaphores(ipc::object(cx, id));
    let waiting = cx.k.env.queues.waiters(key).filter(|&thread| {
        let call = cx.k.tasks.get(thread).and_then(|task| task.call.as_ref());
        call.is_some_and(|call| call.progress == wanted)
    });
    waiting.count() as u64
}

pub(super) fn semctl(
    cx: &mut Cx<'_, '_>,
    semid: Int,
    semnum: Int,
    cmd: SemCtl,
    arg: Addr,
) -> SysResult {
    let id = semid.0;
    if id < 0 {
        return Err(Errno::EINVAL.into());
    }
    match cmd {
        SemCtl::Limits | SemCtl::Info => {
            let sets = &ipc::objects(cx).sets;
            let limits = ipc::objects(cx).limits.semaphores();
            let [of_set, all, operations, most_sets] = limits.map(|limit| limit as u32);
            let (size, adjust) = match cmd {
                SemCtl::Limits => (20, VALUE_MAX as u32),
                _ => (
                    sets.len() as u32,
                    sets.iter().map(|set| set.semaphores.len() as u32).sum(),
                ),
            };
            let highest = sets.highest();
            let words = [
                all,
                most_sets,
                all,
                all,
                of_set,
                operations,
                operations,
                size,
                VALUE_MAX as u32,
                adjust,
            ];
            cx.write_obj(arg.0, &words)?;
            Ok(u64::from(highest))
        }
        SemCtl::Stat | SemCtl::StatAt | SemCtl::StatAny => {
            let table = &ipc::objects(cx).sets;
            let (number, set) = match cmd {
                SemCtl::Stat => (0, table.get(id)?),
                _ => table.at(id)?,
            };
            if cmd != SemCtl::StatAny {
                set.perm.check(cx, READ)?;
            }
            let record = Record {
                perm: set.perm.record(cx),
                operated: set.operated,
                unused: 0,
                changed: set.changed,
                unused_too: 0,
                count: set.semaphores.len() as u64,
                unused_end: [0; 2],
            };
            cx.write_obj(arg.0, &record)?;
            Ok(number as u64)
        }
        SemCtl::Set => {
            let new: Record = cx.read_obj(arg.0)?;
            let table = &ipc::objects(cx).sets;
            table.get(id)?.perm.check_owner(cx)?;
            let now = ipc::seconds(cx.k);
            let perm = new.perm.meant(cx)?;
            let set = ipc::objects_mut(cx).sets.get_mut(id)?;
            set.perm.set(&perm);
            set.changed = now;
            Ok(0)
        }
        SemCtl::Rmid => {
            let table = &ipc::objects(cx).sets;
            table.get(id)?.perm.check_owner(cx)?;
            let object = ipc::object(cx, id);
            sem::remove(cx.k, object)?;
            Ok(0)
        }
        SemCtl::GetAll | SemCtl::SetAll => all(cx, id, cmd == SemCtl::SetAll, arg.0),
        SemCtl::GetPid | SemCtl::GetVal | SemCtl::GetNcnt | SemCtl::GetZcnt | SemCtl::SetVal => {
            one(cx, id, semnum.0, cmd, arg.0)
        }
        _ => Err(Errno::EINVAL.into()),
    }
}

/// Commands for one semaphore.
fn one(cx: &mut Cx<'_, '_>, id: i32, number: i32, command: SemCtl, arg: u64) -> SysResult {
    let value = arg as i32;
    if command == SemCtl::SetVal && !(0..=VALUE_MAX).contains(&value) {
        return Err(Errno::ERANGE.into());
    }
    let set = ipc::objects(cx).sets.get(id)?;
    let there = usize::try_from(number)
        .ok()
        .and_then(|number| set.semaphores.get(number).copied());
    let wanted = if command == SemCtl::SetVal {
        WRITE
    } else {
        READ
    };
    // Linux looks at the number first when it sets a value.
    if command == SemCtl::SetVal && there.is_none() {
        return Err(Errno::EINVAL.into());
    }
    set.perm.check(cx, wanted)?;
    let semaphore = there.ok_or(Errno::EINVAL)?;
    match command {
        SemCtl::GetPid => Ok(u64::from(cx.shown_pid(semaphore.pid))),
        SemCtl::GetVal => Ok(semaphore.value as u64),
        SemCtl::GetNcnt => Ok(waiters(cx, id, number as u16, false)),
        SemCtl::GetZcnt => Ok(waiters(cx, id, number as u16, true)),
        _ => {
            let (object, pid) = (ipc::object(cx, id), ipc::caller(cx));
            sem::set_values(cx.k, object, pid, number as usize, &[value as u16])?;
            Ok(0)
        }
    }
}

/// Commands for all semaphores of a set.
fn all(cx: &mut Cx<'_, '_>, id: i32, sets: bool, addr: u64) -> SysResult {
    let set = ipc::objects(cx).sets.get(id)?;
    let wanted = if sets { WRITE } else { READ };
    set.perm.check(cx, wanted)?;
    let mut values: Vec<u16> = set
        .semaphores
        .iter()
        .map(|semaphore| semaphore.value as u16)
        .collect();
    if !sets {
        cx.write_user(addr, values.as_bytes())?;
        return Ok(0);
    }
    let mut bytes = vec![0; values.len() * 2];
    cx.read_user(addr, &mut bytes)?;
    for (value, bytes) in values.iter_mut().zip(bytes.as_chunks::<2>().0) {
        *value = u16::from_le_bytes(*bytes);
        if i32::from(*value) > VALUE_MAX {
            return Err(Errno::ERANGE.into());
        }
    }
    let (object, pid) = (ipc::object(cx, id), ipc::caller(cx));
    sem::set_values(cx.k, object, pid, 0, &values)?;
    Ok(0)
}
