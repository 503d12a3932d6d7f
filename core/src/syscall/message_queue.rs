//! System V message queues (msgget(2), msgop(2), msgctl(2)).

use alloc::vec;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::args::*;
use crate::env::wait::{Restart, SysResult, Wait, WaitKey};
use crate::ipc::message::{self as msg, Message, Queue, Wanted};
use crate::ipc::{self, PermRecord, READ, WRITE, limits};
use crate::kernel::Cx;

/// `struct msqid64_ds`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Record {
    perm: PermRecord,
    sent: i64,
    received: i64,
    changed: i64,
    bytes: u64,
    messages: u64,
    bytes_max: u64,
    sender: u32,
    receiver: u32,
    unused: [u64; 2],
}

pub(super) fn msgget(cx: &mut Cx<'_, '_>, key: Int, msgflg: IpcGetFlags) -> SysResult {
    let table = &ipc::objects(cx).queues;
    match table.find(cx, key.0, msgflg, |_| Ok(()))? {
        Some(id) => Ok(id as u64),
        None => Ok(msg::create(cx, key.0, msgflg)? as u64),
    }
}

/// The queue of a call, for a caller that may do this. One that was removed while the call waited is `EIDRM`.
fn queue<'k>(cx: &'k mut Cx<'_, '_>, id: i32, wanted: u32) -> Result<&'k Queue, Errno> {
    let waited = cx.call().progress != 0;
    let found = ipc::objects(cx).queues.get(id);
    let queue = match waited {
        true => found.map_err(|_| Errno::EIDRM)?,
        false => found?,
    };
    queue.perm.check(cx, wanted)?;
    Ok(queue)
}

fn wait(cx: &mut Cx<'_, '_>, id: i32) -> SysResult {
    cx.call().progress = 1;
    let object = ipc::object(cx, id);
    Wait::on(WaitKey::Messages(object))
        .restart(Restart::IfNoHandler)
        .into()
}

pub(super) fn msgsnd(
    cx: &mut Cx<'_, '_>,
    msqid: Int,
    msgp: Addr,
    msgsz: Size,
    msgflg: MsgQueueFlags,
) -> SysResult {
    let kind: i64 = cx.read_obj(msgp.0)?;
    let most = ipc::objects(cx).limits.get(limits::MESSAGE_SIZE);
    if msgsz.0 > most.min(msg::LONGEST) || msqid.0 < 0 || kind < 1 {
        return Err(Errno::EINVAL.into());
    }
    let mut text = vec![0; msgsz.0 as usize];
    cx.read_user(msgp.0.wrapping_add(8), &mut text)?;
    let queue = queue(cx, msqid.0, WRITE)?;
    if !queue.has_room(msgsz.0) {
        return match msgflg.contains(MsgQueueFlags::NOWAIT) {
            false => wait(cx, msqid.0),
            true => Err(Errno::EAGAIN.into()),
        };
    }
    let (object, pid) = (ipc::object(cx, msqid.0), ipc::caller(cx));
    msg::push(cx.k, object, pid, Message { kind, text })?;
    Ok(0)
}

pub(super) fn msgrcv(
    cx: &mut Cx<'_, '_>,
    msqid: Int,
    msgp: Addr,
    msgsz: Size,
    msgtyp: Offset,
    flags: MsgQueueFlags,
) -> SysResult {
    if msqid.0 < 0 || (msgsz.0 as i64) < 0 {
        return Err(Errno::EINVAL.into());
    }
    let copies = flags.contains(MsgQueueFlags::COPY);
    if copies && (flags.contains(MsgQueueFlags::EXCEPT) || !flags.contains(MsgQueueFlags::NOWAIT)) {
        return Err(Errno::EINVAL.into());
    }
    let wanted = match msgtyp.0 {
        place if copies => Wanted::At(place),
        0 => Wanted::First,
        kind if kind < 0 => Wanted::UpTo(kind.checked_neg().unwrap_or(i64::MAX)),
        kind if flags.contains(MsgQueueFlags::EXCEPT) => Wanted::Except(kind),
        kind => Wanted::Kind(kind),
    };
    let queue = queue(cx, msqid.0, READ)?;
    let Some(place) = queue.find(wanted) else {
        return match flags.contains(MsgQueueFlags::NOWAIT) {
            false => wait(cx, msqid.0),
            true => Err(Errno::ENOMSG.into()),
        };
    };
    let found = queue.message(place).ok_or(Errno::ENOMSG)?;
    if found.text.len() as u64 > msgsz.0 && !flags.contains(MsgQueueFlags::NOERROR) {
        return Err(Errno::E2BIG.into());
    }
    // A copy is made whole (`copy_msg` of Linux).
    if copies && found.text.len() as u64 > msgsz.0 {
        return Err(Errno::EINVAL.into());
    }
    let message = match copies {
        true => found.clone(),
        false => {
            let (object, pid) = (ipc::object(cx, msqid.0), ipc::caller(cx));
            msg::take(cx.k, object, pid, place)?
        }
    };
    let len = message.text.len().min(msgsz.0 as usize);
    cx.write_obj(msgp.0, &message.kind)?;
    cx.write_user(msgp.0.wrapping_add(8), &message.text[..len])?;
    Ok(len as u64)
}

pub(super) fn msgctl(cx: &mut Cx<'_, '_>, msqid: Int, cmd: MsgCtl, buf: Addr) -> SysResult {
    let id = msqid.0;
    if id < 0 {
        return Err(Errno::EINVAL.into());
    }
    match cmd {
        MsgCtl::Limits | MsgCtl::Info => {
            let queues = &ipc::objects(cx).queues;
            let highest = queues.highest();
            let limits = &ipc::objects(cx).limits;
            let most = limits.get(limits::QUEUE_BYTES) as u32;
            let most_queues = limits.get(limits::QUEUES) as u32;
            let (pool, map, all) = match cmd {
                MsgCtl::Limits => (most_queues.saturating_mul(most / 1024), most, most),
                _ => (
                    queues.len() as u32,
                    queues.iter().map(|queue| queue.len() as u32).sum(),
                    queues.iter().map(|queue| queue.bytes as u32).sum(),
                ),
            };
            let words = [
                pool,
                map,
                limits.get(limits::MESSAGE_SIZE) as u32,
                most,
                most_queues,
                16,
                all,
                0xffff,
            ];
            cx.write_obj(buf.0, &words)?;
            Ok(u64::from(highest))
        }
        MsgCtl::Stat | MsgCtl::StatAt | MsgCtl::StatAny => {
            let table = &ipc::objects(cx).queues;
            let (number, queue) = match cmd {
                MsgCtl::Stat => (0, table.get(id)?),
                _ => table.at(id)?,
            };
            if cmd != MsgCtl::StatAny {
                queue.perm.check(cx, READ)?;
            }
            let record = Record {
                perm: queue.perm.record(cx),
                sent: queue.sent,
                received: queue.received,
                changed: queue.changed,
                bytes: queue.bytes,
                messages: queue.len(),
                bytes_max: queue.bytes_max,
                sender: cx.shown_pid(queue.sender),
                receiver: cx.shown_pid(queue.receiver),
                unused: [0; 2],
            };
            cx.write_obj(buf.0, &record)?;
            Ok(number as u64)
        }
        MsgCtl::Set => {
            let new: Record = cx.read_obj(buf.0)?;
            ipc::objects(cx).queues.get(id)?.perm.check_owner(cx)?;
            let most = ipc::objects(cx).limits.get(limits::QUEUE_BYTES);
            if new.bytes_max > most && !cx.creds().capable(g::CAP_SYS_RESOURCE) {
                return Err(Errno::EPERM.into());
            }
            let now = ipc::seconds(cx.k);
            let perm = new.perm.meant(cx)?;
            let object = ipc::object(cx, id);
            let queue = cx.k.ipc.objects_mut(object.ns).queues.get_mut(id)?;
            queue.perm.set(&perm);
            queue.bytes_max = new.bytes_max;
            queue.changed = now;
            // More may fit now.
            cx.k.wake(WaitKey::Messages(object));
            Ok(0)
        }
        MsgCtl::Rmid => {
            ipc::objects(cx).queues.get(id)?.perm.check_owner(cx)?;
            let object = ipc::object(cx, id);
            msg::remove(cx.k, object)?;
            Ok(0)
        }
        _ => Err(Errno::EINVAL.into()),
    }
}
