//! Messages: sending and receiving them with their addresses and control messages (send(2), recv(2),
//! unix(7)).

use alloc::vec::Vec;

use super::poll::read_span;
use super::socket::{find, never_waits};
use super::socket_address::{
    CONTROL_HEADER, CONTROL_LEN_AT, ControlRoom, Controls, FLAGS_AT, Header, NAME_LEN_AT,
    read_address, write_address,
};
use crate::abi::Errno;
use crate::abi::raw::{general as g, net as n};
use crate::args::*;
use crate::cred::ns::user;
use crate::env::wait::{Stop, SysResult};
use crate::file::rw::{Iov, MAX_RW};
use crate::file::{FileId, fdtable};
use crate::kernel::Cx;
use crate::net::socket;
use crate::net::socket::data::{Sink, Source};
use crate::net::socket::rights::FILES_MAX;
use crate::net::socket::{Cred, Incoming, Outgoing, Progress, SocketId, rights};
use crate::task::signal;

/// Most messages of one call (`UIO_MAXIOV`).
const MESSAGES_MAX: u32 = 1024;
/// Bytes of `struct mmsghdr`, and where the length is in it.
const MMSG_SIZE: u64 = 64;
const MMSG_LEN_AT: u64 = 56;
const NANOS: i64 = 1_000_000_000;

pub(super) fn sendto(
    cx: &mut Cx<'_, '_>,
    fd: Fd,
    buf: InBuf,
    len: Size,
    flags: MessageFlags,
    addr: Addr,
    addrlen: Int,
) -> SysResult {
    // What is more than one call moves is not looked at.
    let mut iov = Iov::single(buf.0, len.0.min(MAX_RW))?;
    let (file, id) = find(cx, fd)?;
    let mut message = Outgoing {
        flags,
        ..Outgoing::default()
    };
    if addr.0 != 0 {
        message.to = Some(read_address(cx, addr.0, addrlen.0)?).filter(|to| !to.is_empty());
    }
    if never_waits(cx, file) {
        message.flags |= MessageFlags::DONTWAIT;
    }
    let done = Progress::of(cx);
    socket::send(cx, id, &mut Source::User(&mut iov), &message, done)
}

pub(super) fn sendmsg(cx: &mut Cx<'_, '_>, fd: Fd, msg: Addr, flags: MessageFlags) -> SysResult {
    if flags.contains(MessageFlags::CMSG_COMPAT) {
        return Err(Errno::EINVAL.into());
    }
    let (file, id) = find(cx, fd)?;
    let done = Progress::of(cx);
    send_message(cx, (file, id), msg.0, flags, done)
}

fn send_message(
    cx: &mut Cx<'_, '_>,
    (file, id): (FileId, SocketId),
    at: u64,
    flags: MessageFlags,
    done: Progress,
) -> SysResult {
    let (header, mut iov) = Header::read(cx, at)?;
    let mut message = Outgoing::default();
    if header.name_len > 0 {
        message.to = Some(read_address(cx, header.name, header.name_len)?);
    }
    if header.control_len > 0 {
        let control = header.read_control(cx)?;
        read_controls(cx, &control, &mut message)?;
    }
    message.flags = flags;
    if never_waits(cx, file) {
        message.flags |= MessageFlags::DONTWAIT;
    }
    socket::send(cx, id, &mut Source::User(&mut iov), &message, done)
}

/// What the control messages of AF_UNIX say (`__scm_send`).
fn read_controls(cx: &mut Cx<'_, '_>, bytes: &[u8], message: &mut Outgoing) -> Result<(), Errno> {
    for control in Controls::new(bytes) {
        let control = control?;
        if control.level != n::SOL_SOCKET {
            continue;
        }
        let words = control.data.as_chunks::<4>().0;
        match control.kind {
            n::SCM_RIGHTS => {
                if words.len() > FILES_MAX || message.files.len() + words.len() > FILES_MAX {
                    return Err(Errno::EINVAL);
                }
                for word in words {
                    let file = fdtable::get_any(cx, i32::from_le_bytes(*word))?;
                    message.files.push(file);
                }
            }
            n::SCM_CREDENTIALS => {
                let [pid, uid, gid] = words else {
                    return Err(Errno::EINVAL);
                };
                let [pid, uid, gid] = [pid, uid, gid].map(|word| u32::from_le_bytes(*word));
                message.cred = Some(meant_credentials(cx, pid, uid, gid)?);
            }
            _ => return Err(Errno::EINVAL),
        }
    }
    Ok(())
}

/// Who a program means by credentials that it says are its own (`scm_check_creds`). `EINVAL`, `EPERM`,
/// `ESRCH`.
fn meant_credentials(cx: &Cx<'_, '_>, pid: u32, uid: u32, gid: u32) -> Result<Cred, Errno> {
    let task = cx.task();
    let creds = &task.creds;
    if uid == u32::MAX || gid == u32::MAX {
        return Err(Errno::EINVAL);
    }
    let uid = user::take_uid(cx.k, creds.user_ns, uid)?;
    let gid = user::take_gid(cx.k, creds.user_ns, gid)?;
    let own = pid == cx.shown_pid(task.tgid);
    if !own && !cx.capable_over(task.ns.pid, g::CAP_SYS_ADMIN)
        || ![creds.uid, creds.euid, creds.suid].contains(&uid) && !creds.has(g::CAP_SETUID)
        || ![creds.gid, creds.egid, creds.sgid].contains(&gid) && !creds.has(g::CAP_SETGID)
    {
        return Err(Errno::EPERM);
    }
    let pid = match own {
        true => task.tgid,
        false => {
            let pid = cx.meant_pid(pid);
            pid.filter(|&pid| cx.k.tasks.by_tid(pid).is_some())
                .ok_or(Errno::ESRCH)?
        }
    };
    Ok(Cred { pid, uid, gid })
}

pub(super) fn sendmmsg(
    cx: &mut Cx<'_, '_>,
    fd: Fd,
    msgvec: Addr,
    vlen: Uint,
    flags: MessageFlags,
) -> SysResult {
    if flags.contains(MessageFlags::CMSG_COMPAT) {
        return Err(Errno::EINVAL.into());
    }
    let found = find(cx, fd)?;
    many(cx, vlen.0.min(MESSAGES_MAX), |cx, index, done| {
        let at = msgvec.0.wrapping_add(u64::from(index) * MMSG_SIZE);
        let sent = send_message(cx, found, at, flags, done)?;
        cx.write_obj(at.wrapping_add(MMSG_LEN_AT), &(sent as u32))?;
        Ok(true)
    })
}

/// Goes through the messages of a call, from the one that it was at when it waited: how many. What stops it
/// is told only if there were none; `each` says whether to go on.
fn many(
    cx: &mut Cx<'_, '_>,
    count: u32,
    mut each: impl FnMut(&mut Cx<'_, '_>, u32, Progress) -> Result<bool, Stop>,
) -> SysResult {
    let mut done = Progress::of(cx);
    while done.messages < count {
        match each(cx, done.messages, done) {
            Ok(more) => {
                done = Progress {
                    messages: done.messages + 1,
                    bytes: 0,
                };
                if !more {
                    break;
                }
            }
            Err(Stop::Block(_)) if done.messages > 0 && signal::interrupts(cx.k, cx.thread) => {
                break;
            }
            Err(Stop::Errno(_)) if done.messages > 0 => break,
            Err(stop) => return Err(stop),
        }
    }
    Ok(u64::from(done.messages))
}

pub(super) fn recvfrom(
    cx: &mut Cx<'_, '_>,
    fd: Fd,
    buf: OutBuf,
    len: Size,
    flags: MessageFlags,
    addr: Addr,
    addrlen: Addr,
) -> SysResult {
    // What is more than one call moves is not looked at.
    let mut iov = Iov::single(buf.0, len.0.min(MAX_RW))?;
    let (file, id) = find(cx, fd)?;
    let mut flags = flags;
    if never_waits(cx, file) {
        flags |= MessageFlags::DONTWAIT;
    }
    let done = Progress::of(cx);
    let (len, incoming) = socket::receive(cx, id, &mut Sink::User(&mut iov), flags, done)?;
    rights::drop_files(cx.k, cx.p, incoming.files);
    if addr.0 != 0 {
        let from = incoming.from.unwrap_or_default();
        write_address(cx, &from, addr.0, addrlen.0)?;
    }
    Ok(len)
}

pub(super) fn recvmsg(cx: &mut Cx<'_, '_>, fd: Fd, msg: Addr, flags: MessageFlags) -> SysResult {
    if flags.contains(MessageFlags::CMSG_COMPAT) {
        return Err(Errno::EINVAL.into());
    }
    let found = find(cx, fd)?;
    let done = Progress::of(cx);
    receive_message(cx, found, msg.0, flags, done).map(|(len, _)| len)
}

/// Receives one message: its length, and flags for the program.
fn receive_message(
    cx: &mut Cx<'_, '_>,
    (file, id): (FileId, SocketId),
    at: u64,
    mut flags: MessageFlags,
    done: Progress,
) -> Result<(u64, MessageFlags), Stop> {
    let (header, mut iov) = Header::read(cx, at)?;
    let cloexec = flags & MessageFlags::CMSG_CLOEXEC;
    if never_waits(cx, file) {
        flags |= MessageFlags::DONTWAIT;
    }
    let mut data = Sink::User(&mut iov);
    let (len, incoming) = socket::receive(cx, id, &mut data, flags, done)?;
    let mut room = ControlRoom {
        at: header.control,
        left: header.control_len,
        truncated: false,
    };
    let mut told = incoming.flags | cloexec;
    let from = incoming.from.clone().unwrap_or_default();
    put_controls(cx, &mut room, incoming, flags.on_exec())?;
    if room.truncated {
        told |= MessageFlags::CTRUNC;
    }
    if header.name != 0 {
        write_address(cx, &from, header.name, at.wrapping_add(NAME_LEN_AT))?;
    }
    cx.write_obj(at.wrapping_add(FLAGS_AT), &told.bits())?;
    let used = header.control_len - room.left;
    cx.write_obj(at.wrapping_add(CONTROL_LEN_AT), &used)?;
    Ok((len, told))
}

/// Gives the program what came along with a message (`scm_recv`). Files that do not fit are closed.
fn put_controls(
    cx: &mut Cx<'_, '_>,
    room: &mut ControlRoom,
    incoming: Incoming,
    on_exec: OnExec,
) -> Result<(), Errno> {
    if room.at == 0 {
        room.truncated |= incoming.cred.is_some() || !incoming.files.is_empty();
        rights::drop_files(cx.k, cx.p, incoming.files);
        return Ok(());
    }
    if let Some(cred) = incoming.cred {
        let cred = cred.shown(cx);
        let bytes = [cred.pid, cred.uid, cred.gid].map(u32::to_le_bytes);
        let kind = (n::SOL_SOCKET, n::SCM_CREDENTIALS);
        // As in Linux, a bad address loses the message and nothing else.
        let _ = room.put(cx, kind, bytes.as_flattened());
    }
    if !incoming.files.is_empty() {
        put_files(cx, room, incoming.files, on_exec);
    }
    Ok(())
}

/// `scm_detach_fds` of Linux: as many files as there is room for get descriptors.
fn put_files(cx: &mut Cx<'_, '_>, room: &mut ControlRoom, files: Vec<FileId>, on_exec: OnExec) {
    let space = room.left.saturating_sub(CONTROL_HEADER as u64) / 4;
    let count = files.len();
    let mut rest = files.into_iter();
    let mut given = 0;
    while given < space
        && let Some(file) = rest.next()
    {
        // The number goes to the program before the descriptor is there, so that a bad address gives none.
        let at = room.at.wrapping_add(CONTROL_HEADER as u64 + 4 * given);
        let fd = fdtable::next_free(cx);
        let told = fd.is_some_and(|fd| cx.write_obj(at, &fd).is_ok());
        if !told {
            rights::drop_files(cx.k, cx.p, alloc::vec![file]);
            break;
        }
        given += u64::from(fdtable::install(cx, file, on_exec).is_ok());
    }
    room.truncated |= given < count as u64;
    rights::drop_files(cx.k, cx.p, rest.collect());
    if given == 0 {
        return;
    }
    let len = CONTROL_HEADER as u64 + 4 * given;
    let head = [
        len,
        u64::from(n::SOL_SOCKET) | u64::from(n::SCM_RIGHTS) << 32,
    ];
    let _ = cx.write_obj(room.at, &head);
    let step = len.next_multiple_of(8).min(room.left);
    room.at = room.at.wrapping_add(step);
    room.left -= step;
}

/// Nanoseconds since the call was made. Time stands still while it takes messages, so that each of those
/// taken in this run counts for what it takes at least.
fn passed(cx: &mut Cx<'_, '_>, messages: u32) -> u64 {
    const MESSAGE_TIME: u64 = 100;
    let waited = cx.now().mono.saturating_sub(cx.call().entered.mono);
    waited.saturating_add(u64::from(messages) * MESSAGE_TIME)
}

pub(super) fn recvmmsg(
    cx: &mut Cx<'_, '_>,
    fd: Fd,
    msgvec: Addr,
    vlen: Uint,
    flags: MessageFlags,
    timeout: Addr,
) -> SysResult {
    if flags.contains(MessageFlags::CMSG_COMPAT) {
        return Err(Errno::EINVAL.into());
    }
    let span = read_span(cx, timeout.0, NANOS)?;
    let (file, id) = find(cx, fd)?;
    if Progress::of(cx).messages == 0 {
        socket::at_mut(cx.k, id).take_error()?;
    }
    let begun = Progress::of(cx).messages;
    let count = many(cx, vlen.0.min(MESSAGES_MAX), |cx, index, done| {
        let at = msgvec.0.wrapping_add(u64::from(index) * MMSG_SIZE);
        let mut how = flags - MessageFlags::WAITFORONE;
        if flags.contains(MessageFlags::WAITFORONE) && index > 0 {
            how |= MessageFlags::DONTWAIT;
        }
        let received = receive_message(cx, (file, id), at, how, done).and_then(|(len, _)| {
            let told = cx.write_obj(at.wrapping_add(MMSG_LEN_AT), &(len as u32));
            told.map_err(Stop::Errno)
        });
        // What ends a call that has received something is told to the next one.
        if let Err(Stop::Errno(errno)) = received
            && index > 0
            && errno != Errno::EAGAIN
        {
            socket::at_mut(cx.k, id).error = Some(errno);
        }
        received?;
        // The time is looked at after each message only, as in Linux.
        Ok(span.is_none_or(|span| span > passed(cx, index + 1 - begun)))
    })?;
    if let Some(span) = span {
        let received = (count as u32).saturating_sub(begun);
        let left = span.saturating_sub(passed(cx, received));
        cx.write_obj(timeout.0, &[left / NANOS as u64, left % NANOS as u64])?;
    }
    Ok(count)
}
