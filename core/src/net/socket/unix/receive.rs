//! Receiving.

use crate::file::caller::FileCallers;
use alloc::vec::Vec;

use super::super::data::Sink;
use super::super::option::Switches;
use super::super::{
    self as socket, Address, Cred, Incoming, Kind, NO_RECEIVE, Patience, Progress, SocketId,
    rights, wait,
};
use super::queue::Piece;
use super::{Name, State, announce_queue_room, repay};
use crate::abi::Errno;
use crate::args::MessageFlags;
use crate::env::cx::Cx;
use crate::env::wait::{Stop, Turn, WaitKey};
use crate::file::Files;

/// What Linux shows where a message has no credentials: no process, and `overflowuid`.
const NOBODY: Cred = Cred {
    pid: 0,
    uid: 65534,
    gid: 65534,
};

pub(crate) fn receive<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    id: SocketId,
    data: &mut Sink<'_>,
    flags: MessageFlags,
    done: Progress,
) -> Result<(u64, Incoming), Stop> {
    let socket = socket::at(cx.k.files(), id);
    let kind = socket.kind;
    let connected = socket.unix().state == State::Connected;
    match kind {
        Kind::Stream if !connected => Err(Errno::EINVAL.into()),
        Kind::Seqpacket if !connected => Err(Errno::ENOTCONN.into()),
        _ if flags.contains(MessageFlags::OOB) => Err(match kind {
            Kind::Stream => Errno::EINVAL,
            _ => Errno::EOPNOTSUPP,
        }
        .into()),
        Kind::Stream => receive_stream(cx, id, data, flags, done),
        _ => receive_message(cx, id, data, flags, done),
    }
}

fn patience(k: &Files, id: SocketId, flags: MessageFlags) -> Patience {
    let timeout = socket::at(k, id).options.receive_timeout;
    Patience::new(timeout, flags.into())
}

fn wants_credentials(k: &Files, id: SocketId) -> bool {
    let switches = socket::at(k, id).options.switches;
    switches.contains(Switches::PASS_CREDENTIALS)
}

/// The name of a piece's sender: its own now, or what it was.
fn sender(k: &Files, piece: &Piece) -> Option<Address> {
    let name: Option<&Name> = match k.sockets.get(piece.sender) {
        Some(socket) => socket.unix().name.as_ref(),
        None => piece.name.as_ref(),
    };
    name.map(Name::address)
}

fn piece(k: &Files, id: SocketId, index: usize) -> Option<&Piece> {
    socket::at(k, id).unix().queue.piece(index)
}

/// Copies bytes of the queue out; they stay.
fn copy<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    id: SocketId,
    data: &mut Sink<'_>,
    (at, len): (usize, u64),
) -> Result<(), Errno> {
    data.drain(cx, at, len, |k| {
        let socket = k.files().sockets.get(id)?;
        Some(socket.unix().queue.ring())
    })
}

/// Takes the first piece out and gives its sender room again.
fn finish<K: FileCallers>(cx: &mut Cx<'_, '_, K>, id: SocketId) -> Vec<crate::file::FileId> {
    let files = take_files(cx.k.files_mut(), id);
    if let Some(piece) = socket::at_mut(cx.k.files_mut(), id).unix_mut().queue.pop() {
        repay(cx.k.files_mut(), piece.sender, piece.charge);
    }
    files
}

/// The files of the first piece, which has them no more.
fn take_files(k: &mut Files, id: SocketId) -> Vec<crate::file::FileId> {
    match socket::at_mut(k, id).unix_mut().queue.take_first_rights() {
        Some(rights) => rights::receive(k, rights),
        None => Vec::new(),
    }
}

/// Files of a piece that stays in the queue.
fn peek_files(k: &mut Files, id: SocketId, index: usize) -> Vec<crate::file::FileId> {
    let rights = socket::at(k, id).unix().queue.rights_at(index);
    match rights.cloned() {
        Some(rights) => rights::peek(k, &rights),
        None => Vec::new(),
    }
}

fn receive_message<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    id: SocketId,
    data: &mut Sink<'_>,
    flags: MessageFlags,
    done: Progress,
) -> Result<(u64, Incoming), Stop> {
    socket::at_mut(cx.k.files_mut(), id).take_error()?;
    let socket = socket::at(cx.k.files(), id);
    let Some(first) = socket.unix().queue.piece(0) else {
        let is_shut = socket.shutdown & NO_RECEIVE != 0;
        let kind = socket.kind;
        let patience = patience(cx.k.files(), id, flags);
        let turn = WaitKey::Turn(Turn::Socket(id));
        return match wait(cx, turn, patience, done) {
            // Datagram sockets say so only to those who would wait.
            Err(Stop::Errno(Errno::EAGAIN)) if is_shut && kind == Kind::Seqpacket => {
                Ok((0, Incoming::default()))
            }
            Err(Stop::Block(_)) if is_shut => Ok((0, Incoming::default())),
            result => result,
        };
    };
    let (len, cred) = (first.len as u64, first.cred);
    let from = sender(cx.k.files(), first);
    let mut incoming = Incoming {
        from,
        cred: wants_credentials(cx.k.files(), id).then(|| cred.unwrap_or(NOBODY)),
        ..Incoming::default()
    };
    let size = len.min(data.left());
    if size < len {
        incoming.flags |= MessageFlags::TRUNC;
    }
    let copied = copy(cx, id, data, (0, size));
    if !flags.contains(MessageFlags::PEEK) {
        let was_full = socket::at(cx.k.files(), id).unix().is_full();
        incoming.files = finish(cx, id);
        announce_queue_room(cx.k.files_mut(), id, was_full);
    } else if copied.is_ok() {
        incoming.files = peek_files(cx.k.files_mut(), id, 0);
    }
    if let Err(errno) = copied {
        rights::drop_files(cx.k.files_mut(), cx.p, incoming.files);
        return Err(errno.into());
    }
    let len = if flags.contains(MessageFlags::TRUNC) {
        len
    } else {
        size
    };
    Ok((len, incoming))
}

fn receive_stream<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    id: SocketId,
    data: &mut Sink<'_>,
    flags: MessageFlags,
    mut done: Progress,
) -> Result<(u64, Incoming), Stop> {
    let size = data.left();
    data.skip(u64::from(done.bytes));
    let low_water = socket::at(cx.k.files(), id).options.low_water as u64;
    let target = match flags.contains(MessageFlags::WAITALL) {
        false => low_water.min(size),
        true => size,
    };
    let peeks = flags.contains(MessageFlags::PEEK);
    // What has been taken out into the kernel is not there any more when the handler is run again.
    let keeps = matches!(data, Sink::User(_));
    let mut incoming = Incoming::default();
    // Credentials of the pieces that were looked at: those of others are not mixed with them.
    let mut writer: Option<Option<Cred>> = None;
    // What a look without taking has passed over: pieces and bytes.
    let (mut index, mut at) = (0, 0);
    let result = loop {
        let Some(first) = piece(cx.k.files(), id, index) else {
            if peeks && index > 0
                || !keeps && done.bytes > 0
                || u64::from(done.bytes) >= target.max(1)
            {
                break Ok(());
            }
            let socket = socket::at_mut(cx.k.files_mut(), id);
            if let Err(errno) = socket.take_error() {
                break Err(errno.into());
            }
            if socket.shutdown & NO_RECEIVE != 0 {
                break Ok(());
            }
            let patience = patience(cx.k.files(), id, flags);
            // Those who only look do not all wait for the same.
            let key = match peeks {
                true => WaitKey::Socket(id),
                false => WaitKey::Turn(Turn::Socket(id)),
            };
            break wait(cx, key, patience, done);
        };
        let cred = first.cred;
        if writer.is_some_and(|writer| writer != cred) {
            break Ok(());
        }
        if wants_credentials(cx.k.files(), id) {
            writer = Some(cred);
            incoming.cred = Some(cred.unwrap_or(NOBODY));
        }
        let len = first.len;
        if incoming.from.is_none() {
            incoming.from = sender(cx.k.files(), first);
        }
        let chunk = (len as u64).min(data.left());
        if let Err(errno) = copy(cx, id, data, (at, chunk)) {
            break Err(errno.into());
        }
        done.bytes += chunk as u32;
        let files = match peeks {
            true => {
                at += len;
                let files = peek_files(cx.k.files_mut(), id, index);
                index += 1;
                files
            }
            false => {
                let files = take_files(cx.k.files_mut(), id);
                let unix = socket::at_mut(cx.k.files_mut(), id).unix_mut();
                unix.queue.take(chunk as usize);
                if chunk == len as u64 {
                    finish(cx, id);
                }
                files
            }
        };
        if !files.is_empty() {
            incoming.files = files;
            break Ok(());
        }
        if chunk < len as u64 || data.left() == 0 {
            break Ok(());
        }
    };
    match result {
        Err(Stop::Errno(_)) if done.bytes > 0 => {}
        Err(stop) => {
            rights::drop_files(cx.k.files_mut(), cx.p, incoming.files);
            return Err(stop);
        }
        Ok(()) => {}
    }
    Ok((u64::from(done.bytes), incoming))
}
