//! Sending.

use super::super::data::Source;
use super::super::option::Switches;
use super::super::{
    self as socket, Cred, Kind, NO_RECEIVE, NO_SEND, Outgoing, Patience, Progress, SocketId,
    rights, wait,
};
use super::queue::{self, Piece};
use super::{State, announce_room, bind, connect};
use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::args::MessageFlags;
use crate::env::cx::Cx;
use crate::env::wait::{Stop, WaitKey};
use crate::file::caller::FileCallers;
use crate::file::{Files, ready};

/// Most bytes in all queues together, as senders are charged for them.
const QUEUED_MAX: usize = 1 << 28;
/// What of a send buffer a message leaves (`unix_dgram_sendmsg`).
const RESERVE: u64 = 32;
/// Longest message, however large the buffer: what Linux finds room for at once, with pages of 4 KiB.
const MESSAGE_MAX: u64 = 4_263_616;

pub(crate) fn send<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    id: SocketId,
    data: &mut Source<'_>,
    message: &Outgoing,
    done: Progress,
) -> Result<u64, Stop> {
    if message.flags.contains(MessageFlags::OOB) {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let socket = socket::at_mut(cx.k.files_mut(), id);
    match socket.kind {
        Kind::Stream => send_stream(cx, id, data, message, done),
        Kind::Datagram => send_message(cx, id, data, message, message.to.as_deref(), done),
        Kind::Seqpacket => {
            socket.take_error()?;
            if socket.unix().state != State::Connected {
                return Err(Errno::ENOTCONN.into());
            }
            send_message(cx, id, data, message, None, done)
        }
    }
}

fn patience(k: &Files, id: SocketId, message: &Outgoing) -> Patience {
    let timeout = socket::at(k, id).options.send_timeout;
    Patience::new(timeout, message.flags.into())
}

/// Room for one more buffer, as `sock_alloc_send_pskb()` looks for it; waits for it.
fn room<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    id: SocketId,
    charge: usize,
    message: &Outgoing,
    done: Progress,
) -> Result<(), Stop> {
    let socket = socket::at_mut(cx.k.files_mut(), id);
    socket.take_error()?;
    if socket.shutdown & NO_SEND != 0 {
        return Err(Errno::EPIPE.into());
    }
    if socket.unreceived >= socket.options.send_buffer as usize {
        let patience = patience(cx.k.files(), id, message);
        return wait(cx, WaitKey::Socket(id), patience, done);
    }
    match cx.k.files().sockets.queued + charge > QUEUED_MAX {
        true => Err(Errno::ENOBUFS.into()),
        false => Ok(()),
    }
}

/// Who sends, where one of the two sides wants to know or the other is not accepted yet.
fn credentials<K: FileCallers>(
    cx: &Cx<'_, '_, K>,
    id: SocketId,
    to: SocketId,
    message: &Outgoing,
) -> Option<Cred> {
    let asks = |id| {
        let options = &socket::at(cx.k.files(), id).options;
        options.switches.contains(Switches::PASS_CREDENTIALS)
    };
    message.cred.or_else(|| {
        let wanted = asks(id) || asks(to) || !socket::at(cx.k.files(), to).has_file;
        let creds = cx.creds();
        wanted.then(|| Cred {
            pid: cx.caller().tgid,
            uid: creds.uid,
            gid: creds.gid,
        })
    })
}

/// Puts one piece into the queue of `to`.
fn enqueue<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    (id, to): (SocketId, SocketId),
    data: &mut Source<'_>,
    (len, charge): (usize, usize),
    message: &Outgoing,
    with_files: bool,
) -> Result<(), Errno> {
    let rights = match with_files {
        true => rights::send(cx, &message.files)?,
        false => None,
    };
    let filled = data.fill(cx, len as u64, |k| {
        let socket = k.files_mut().sockets.get_mut(to)?;
        Some(socket.unix_mut().queue.ring_mut())
    });
    if let Err(errno) = filled {
        if let Some(socket) = cx.k.files_mut().sockets.get_mut(to) {
            socket.unix_mut().queue.shrink();
        }
        if let Some(rights) = rights {
            let files = rights::receive(cx.k.files_mut(), rights);
            rights::drop_files(cx.k.files_mut(), cx.p, files);
        }
        return Err(errno);
    }
    let cred = credentials(cx, id, to, message);
    let name = socket::at(cx.k.files(), id).unix().name.clone();
    let piece = Piece {
        len,
        charge,
        sender: id,
        name,
        cred,
    };
    if let Some(socket) = cx.k.files_mut().sockets.get_mut(to) {
        socket.unix_mut().queue.push(piece, rights);
    }
    socket::at_mut(cx.k.files_mut(), id).unreceived += charge;
    super::charge(cx.k.files_mut(), 0, charge);
    cx.k.files_mut().notify(WaitKey::Socket(to), ready::IN);
    Ok(())
}

fn send_stream<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    id: SocketId,
    data: &mut Source<'_>,
    message: &Outgoing,
    mut done: Progress,
) -> Result<u64, Stop> {
    let unix = socket::at(cx.k.files(), id).unix();
    if message.to.is_some() {
        return Err(match unix.state {
            State::Connected => Errno::EISCONN,
            _ => Errno::EOPNOTSUPP,
        }
        .into());
    }
    let to = unix.peer.ok_or(Errno::ENOTCONN)?;
    data.skip(u64::from(done.bytes));
    let mut result = match socket::at(cx.k.files(), id).shutdown & NO_SEND {
        0 => Ok(()),
        _ => Err(Stop::Errno(Errno::EPIPE)),
    };
    let mut broken = result.is_err();
    while result.is_ok() && data.left() > 0 {
        let piece = queue::stream_piece(socket::at(cx.k.files(), id).options.send_buffer);
        let len = data.left().min(piece as u64) as usize;
        let sizes = (len, queue::charge_stream(len));
        result = room(cx, id, sizes.1, message, done).and_then(|()| {
            let open = cx.k.files().sockets.get(to);
            if open.is_none_or(|to| to.shutdown & NO_RECEIVE != 0) {
                broken = true;
                return Err(Errno::EPIPE.into());
            }
            Ok(enqueue(
                cx,
                (id, to),
                data,
                sizes,
                message,
                done.bytes == 0,
            )?)
        });
        match result {
            Ok(()) => done.bytes += len as u32,
            Err(Stop::Block(_)) if done.bytes > 0 && !data.is_whole() => {
                result = Err(Errno::EAGAIN.into());
            }
            _ => {}
        }
    }
    match result {
        Err(Stop::Errno(_)) if done.bytes > 0 => Ok(u64::from(done.bytes)),
        Err(Stop::Errno(errno)) => {
            if broken && !message.flags.contains(MessageFlags::NOSIGNAL) {
                cx.k.raise(cx.thread, g::SIGPIPE);
            }
            Err(errno.into())
        }
        Err(stop) => Err(stop),
        Ok(()) => Ok(u64::from(done.bytes)),
    }
}

fn send_message<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    id: SocketId,
    data: &mut Source<'_>,
    message: &Outgoing,
    address: Option<&[u8]>,
    done: Progress,
) -> Result<u64, Stop> {
    let kind = socket::at(cx.k.files(), id).kind;
    if let Some(address) = address {
        bind::check(address)?;
    } else if socket::at(cx.k.files(), id).unix().peer.is_none() {
        return Err(Errno::ENOTCONN.into());
    }
    bind::bind_if_asked(cx, id)?;
    let len = data.left();
    let limit = u64::from(socket::at(cx.k.files(), id).options.send_buffer) - RESERVE;
    if len > limit {
        return Err(Errno::EMSGSIZE.into());
    }
    let sizes = (len as usize, queue::charge_message(len as usize));
    room(cx, id, sizes.1, message, done)?;
    if len > MESSAGE_MAX {
        return Err(Errno::ENOBUFS.into());
    }
    let to = match address {
        Some(address) => bind::find(cx, id, address)?,
        None => socket::at(cx.k.files(), id)
            .unix()
            .peer
            .ok_or(Errno::ENOTCONN)?,
    };
    let Some(other) = cx.k.files().sockets.get(to) else {
        if kind == Kind::Seqpacket {
            return Err(Errno::EPIPE.into());
        }
        let unix = socket::at_mut(cx.k.files_mut(), id).unix_mut();
        unix.peer = None;
        unix.state = State::Closed;
        connect::disconnected(cx, id, to);
        announce_room(cx.k.files_mut(), id);
        return Err(Errno::ECONNREFUSED.into());
    };
    if !connect::may_send(cx.k.files(), id, to) {
        return Err(Errno::EPERM.into());
    }
    if other.shutdown & NO_RECEIVE != 0 {
        return Err(Errno::EPIPE.into());
    }
    // A socket may send to the one that it is connected to, whoever connected it.
    if kind == Kind::Datagram && socket::at(cx.k.files(), id).unix().peer != Some(to) {
        connect::check_scope(cx, to)?;
    }
    let other = socket::at(cx.k.files(), to);
    if to != id && other.unix().peer != Some(id) && other.unix().is_full() {
        let patience = patience(cx.k.files(), id, message);
        return wait(cx, WaitKey::Socket(to), patience, done);
    }
    enqueue(cx, (id, to), data, sizes, message, true)?;
    Ok(len)
}
