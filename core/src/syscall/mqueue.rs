//! POSIX message queues (mq_overview(7)).

use crate::cred::ns::{pid, user};
use crate::task::signal::{self, SigInfo};
use alloc::vec;

use super::poll::read_span;
use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::args::*;
use crate::env::wait::{Stop, SysResult, Turn, Wait, WaitKey};
use crate::file;
use crate::file::{FileId, FileKind, fdtable};
use crate::ipc::mqueue;
use crate::ipc::mqueue::{How, Notify, PRIORITIES, Queue, QueueId};
use crate::kernel::Cx;
use crate::task::signal::SIGNALS;

/// Longest name with its NUL that is read.
const NAME_LEN: usize = 4096;
const NANOS: i64 = 1_000_000_000;

/// The queue behind a descriptor. `EBADF`.
fn find(cx: &mut Cx<'_, '_>, fd: Fd) -> Result<(FileId, QueueId), Errno> {
    let id = fdtable::get(cx, fd.0)?;
    match file::at(cx.k, id).kind {
        FileKind::MessageQueue(queue) => Ok((id, queue)),
        _ => Err(Errno::EBADF),
    }
}

fn read_name(cx: &mut Cx<'_, '_>, name: Str) -> Result<vec::Vec<u8>, Errno> {
    match cx.read_cstr(name.0, NAME_LEN) {
        Err(Errno::E2BIG) => Err(Errno::ENAMETOOLONG),
        name => name,
    }
}

pub(super) fn mq_open(
    cx: &mut Cx<'_, '_>,
    name: Str,
    oflag: OpenFlags,
    mode: Mode,
    attr: Addr,
) -> SysResult {
    let mut sizes = None;
    if attr.0 != 0 {
        let [_, messages, size, _]: [i64; 4] = cx.read_obj(attr.0)?;
        sizes = Some((messages, size));
    }
    let name = read_name(cx, name)?;
    if fdtable::is_full(cx) {
        return Err(Errno::EMFILE.into());
    }
    let how = How {
        flags: oflag,
        mode: mode.0,
        sizes,
    };
    let file = mqueue::open(cx, &name, how)?;
    Ok(fdtable::install(cx, file, OnExec::Close)? as u64)
}

pub(super) fn mq_unlink(cx: &mut Cx<'_, '_>, name: Str) -> SysResult {
    let name = read_name(cx, name)?;
    mqueue::unlink(cx, &name)?;
    Ok(0)
}

/// A queue that is there: an open file holds it.
fn queue<'k>(cx: &'k Cx<'_, '_>, id: QueueId) -> Result<&'k Queue, Errno> {
    cx.k.files.mqueues.get(id).ok_or(Errno::EBADF)
}

/// Waits for a message or room in a queue until a time of `CLOCK_REALTIME`.
fn wait(cx: &mut Cx<'_, '_>, file: FileId, turn: Turn, until: Option<u64>) -> SysResult {
    if file::at(cx.k, file).flags.contains(OpenFlags::NONBLOCK) {
        return Err(Errno::EAGAIN.into());
    }
    let now = cx.now();
    let mut deadline = None;
    if let Some(until) = until {
        let left = until.saturating_sub(now.real);
        if left == 0 {
            return Err(Errno::ETIMEDOUT.into());
        }
        deadline = Some(now.mono.saturating_add(left));
    }
    Wait::on(WaitKey::Turn(turn)).until(deadline).into()
}

pub(super) fn mq_timedsend(
    cx: &mut Cx<'_, '_>,
    mqdes: Fd,
    msg: InBuf,
    len: Size,
    prio: Uint,
    timeout: Addr,
) -> SysResult {
    let until = read_span(cx, timeout.0, NANOS)?;
    if prio.0 >= PRIORITIES {
        return Err(Errno::EINVAL.into());
    }
    let (file, id) = find(cx, mqdes)?;
    if !file::at(cx.k, file).writable() {
        return Err(Errno::EBADF.into());
    }
    let queue = queue(cx, id)?;
    if len.0 > queue.message_size as u64 {
        return Err(Errno::EMSGSIZE.into());
    }
    let full = queue.is_full();
    let mut message = vec![0; len.0 as usize];
    cx.read_user(msg.0, &mut message)?;
    if full {
        return wait(cx, file, Turn::MessageRoom(id), until);
    }
    if let Some(notify) = mqueue::push(cx.k, id, prio.0, message) {
        tell(cx, notify);
    }
    Ok(0)
}

pub(super) fn mq_timedreceive(
    cx: &mut Cx<'_, '_>,
    mqdes: Fd,
    msg: Addr,
    len: Size,
    prio: Addr,
    timeout: Addr,
) -> SysResult {
    let until = read_span(cx, timeout.0, NANOS)?;
    let (file, id) = find(cx, mqdes)?;
    if !file::at(cx.k, file).readable() {
        return Err(Errno::EBADF.into());
    }
    let queue = queue(cx, id)?;
    if len.0 < queue.message_size as u64 {
        return Err(Errno::EMSGSIZE.into());
    }
    let Some((priority, message)) = mqueue::take(cx.k, id) else {
        return wait(cx, file, Turn::Message(id), until);
    };
    if prio.0 != 0 {
        cx.write_obj(prio.0, &priority)?;
    }
    cx.write_user(msg.0, &message)?;
    Ok(message.len() as u64)
}

pub(super) fn mq_notify(cx: &mut Cx<'_, '_>, mqdes: Fd, sevp: Addr) -> SysResult {
    let mut notify = None;
    if sevp.0 != 0 {
        let [value, signal_and_kind]: [u64; 2] = cx.read_obj(sevp.0)?;
        let (signal, kind) = (signal_and_kind as u32, (signal_and_kind >> 32) as u32);
        let tgid = cx.task().tgid;
        let signal = match kind {
            g::SIGEV_NONE => 0,
            // Signal 0 is none, as SIGEV_NONE.
            g::SIGEV_SIGNAL if signal <= u32::from(SIGNALS) => signal as u8,
            // SIGEV_THREAD comes with a netlink socket, and there is none.
            g::SIGEV_THREAD => return Err(Errno::EBADF.into()),
            _ => return Err(Errno::EINVAL.into()),
        };
        notify = Some(Notify {
            tgid,
            signal,
            value,
        });
    }
    let (_, id) = find(cx, mqdes)?;
    let tgid = cx.task().tgid;
    let old = queue(cx, id)?.notify;
    // One that has ended is told nothing any more.
    let old = old.filter(|old| cx.k.tasks.group_exists(old.tgid));
    let queue = cx.k.files.mqueues.get_mut(id).ok_or(Errno::EBADF)?;
    match (notify, old) {
        (Some(_), Some(_)) => return Err(Errno::EBUSY.into()),
        (Some(_), None) => queue.notify = notify,
        (None, Some(old)) if old.tgid == tgid => queue.notify = None,
        (None, _) => {}
    }
    Ok(0)
}

pub(super) fn mq_getsetattr(cx: &mut Cx<'_, '_>, mqdes: Fd, new: Addr, old: Addr) -> SysResult {
    let mut flags = None;
    if new.0 != 0 {
        let [asked, ..]: [u64; 8] = cx.read_obj(new.0)?;
        if asked & !u64::from(OpenFlags::NONBLOCK.bits()) != 0 {
            return Err(Errno::EINVAL.into());
        }
        flags = Some(OpenFlags::from_bits_retain(asked as u32));
    }
    let (file, id) = find(cx, mqdes)?;
    let status = file::at(cx.k, file).flags & OpenFlags::NONBLOCK;
    let queue = queue(cx, id)?;
    let words = [
        i64::from(status.bits()),
        queue.messages_max,
        queue.message_size,
        queue.len(),
        0,
        0,
        0,
        0,
    ];
    if let Some(flags) = flags {
        let file = file::at_mut(cx.k, file);
        file.flags = (file.flags - OpenFlags::NONBLOCK) | flags;
    }
    if old.0 != 0 {
        cx.write_obj(old.0, &words).map_err(Stop::Errno)?;
    }
    Ok(0)
}

/// `si_code` of the signal (`SI_MESGQ`).
const SI_MESGQ: i32 = -3;

/// Tells who asked for it that a message has come to an empty queue (mq_notify(3)).
fn tell(cx: &mut Cx<'_, '_>, notify: Notify) {
    let Some(leader) =
        cx.k.tasks
            .leader(notify.tgid)
            .filter(|_| notify.signal != 0)
    else {
        return;
    };
    let (tgid, uid) = (cx.task().tgid, cx.creds().uid);
    let pid = pid::show(cx.k, leader.ns.pid, tgid);
    let uid = user::show_uid(cx.k, leader.creds.user_ns, uid);
    let mut info = SigInfo::user(notify.signal, SI_MESGQ, pid, uid);
    info.fields[1] = notify.value;
    // One that has too many signals queued is not told, as in Linux.
    let _ = signal::queue_process(cx.k, notify.tgid, info);
}
