//! Connections: pairs, connecting, accepting.

use super::super::option::Switches;
use super::super::{self as socket, Family, Kind, NO_RECEIVE, Patience, Progress, SocketId, wait};
use super::{State, Unix, announce_queue_room, announce_room, bind, discard, own_cred, rights};
use crate::abi::Errno;
use crate::abi::raw::net as n;
use crate::cred::landlock::Scopes;
use crate::env::cx::Cx;
use crate::env::wait::{Blocking, Stop, Turn, WaitKey};
use crate::file::caller::FileCallers;
use crate::file::{Files, ready};

/// Connects two new sockets with each other (socketpair(2)).
pub(crate) fn pair<K: FileCallers>(cx: &mut Cx<'_, '_, K>, ids: [SocketId; 2]) {
    let cred = own_cred(cx);
    for (id, peer) in [(ids[0], ids[1]), (ids[1], ids[0])] {
        let socket = socket::at_mut(cx.k.files_mut(), id);
        let is_datagram = socket.kind == Kind::Datagram;
        let unix = socket.unix_mut();
        unix.peer = Some(peer);
        unix.peer_cred = Some(cred);
        unix.state = State::Connected;
        if is_datagram {
            unix.followers.insert(peer);
        }
    }
}

/// Connects a socket with the one that has this address (connect(2)).
pub(crate) fn connect<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    id: SocketId,
    address: &[u8],
    blocking: Blocking,
) -> Result<(), Stop> {
    match socket::at(cx.k.files(), id).kind.has_connections() {
        true => connect_stream(cx, id, address, blocking),
        false => Ok(connect_datagram(cx, id, address)?),
    }
}

fn connect_stream<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    id: SocketId,
    address: &[u8],
    blocking: Blocking,
) -> Result<(), Stop> {
    bind::check(address)?;
    bind::bind_if_asked(cx, id)?;
    let socket = socket::at(cx.k.files(), id);
    let (kind, timeout) = (socket.kind, socket.options.send_timeout);
    let other = bind::find(cx, id, address)?;
    let listener = socket::at(cx.k.files(), other);
    if listener.unix().state != State::Listening || listener.shutdown & NO_RECEIVE != 0 {
        return Err(Errno::ECONNREFUSED.into());
    }
    if listener.unix().is_full() {
        let patience = Patience::new(timeout, blocking);
        return wait(cx, WaitKey::Socket(other), patience, Progress::default());
    }
    match socket::at(cx.k.files(), id).unix().state {
        State::Closed => {}
        State::Connected => return Err(Errno::EISCONN.into()),
        State::Listening => return Err(Errno::EINVAL.into()),
    }
    check_scope(cx, other)?;
    let cred = own_cred(cx);
    let net = cx.caller().net;
    let listener = socket::at(cx.k.files(), other).unix();
    let (name, listener_cred) = (listener.name.clone(), listener.peer_cred);
    let accepted = Unix {
        state: State::Connected,
        name,
        peer: Some(id),
        peer_cred: Some(cred),
        ..Unix::new(cx.k.files(), net)
    };
    let accepted = socket::create(cx, kind, Family::Unix(accepted))?;
    // What it passes on is what the listener does now (`unix_stream_connect` of Linux).
    let passed = socket::at(cx.k.files(), other).options.switches & Switches::PASSED;
    socket::at_mut(cx.k.files_mut(), accepted).options.switches |= passed;
    socket::at_mut(cx.k.files_mut(), accepted).net = socket::at(cx.k.files(), id).net;
    let unix = socket::at_mut(cx.k.files_mut(), id).unix_mut();
    unix.state = State::Connected;
    unix.peer = Some(accepted);
    unix.peer_cred = listener_cred;
    let unix = socket::at_mut(cx.k.files_mut(), other).unix_mut();
    unix.pending.push_back(accepted);
    cx.k.files_mut().sockets.unix.pending += 1;
    cx.k.files_mut().notify(WaitKey::Socket(other), ready::IN);
    Ok(())
}

/// Whether a datagram socket may send to another: to one that is connected to nobody else.
pub(super) fn may_send(k: &Files, from: SocketId, to: SocketId) -> bool {
    let peer = socket::at(k, to).unix().peer;
    peer.is_none_or(|peer| peer == from)
}

/// Whether the calling task may reach a socket: landlock(7) may deny it abstract names of those outside of
/// its domain. `EPERM`.
pub(super) fn check_scope<K: FileCallers>(cx: &Cx<'_, '_, K>, to: SocketId) -> Result<(), Errno> {
    let Some(domain) = &cx.creds().landlock else {
        return Ok(());
    };
    let other = socket::at(cx.k.files(), to);
    let theirs = other.domain.as_deref();
    let denied =
        other.unix().is_abstract() && domain.is_scoped(theirs, Scopes::ABSTRACT_UNIX_SOCKET);
    match denied {
        true => Err(Errno::EPERM),
        false => Ok(()),
    }
}

fn connect_datagram<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    id: SocketId,
    address: &[u8],
) -> Result<(), Errno> {
    let (family, _) = address.split_at_checked(2).ok_or(Errno::EINVAL)?;
    let mut other = None;
    if family != (n::AF_UNSPEC as u16).to_le_bytes() {
        bind::check(address)?;
        bind::bind_if_asked(cx, id)?;
        let found = bind::find(cx, id, address)?;
        if !may_send(cx.k.files(), id, found) {
            return Err(Errno::EPERM);
        }
        check_scope(cx, found)?;
        other = Some(found);
    }
    let unix = socket::at_mut(cx.k.files_mut(), id).unix_mut();
    let old = core::mem::replace(&mut unix.peer, other);
    unix.state = match other {
        Some(_) => State::Connected,
        None => State::Closed,
    };
    unix.peer_name = None;
    if let Some(old) = old
        && let Some(socket) = cx.k.files_mut().sockets.get_mut(old)
    {
        socket.unix_mut().followers.remove(&id);
    }
    if let Some(other) = other {
        let unix = socket::at_mut(cx.k.files_mut(), other).unix_mut();
        unix.followers.insert(id);
        unix.state = State::Connected;
    }
    if let Some(old) = old
        && Some(old) != other
    {
        disconnected(cx, id, old);
        announce_room(cx.k.files_mut(), id);
    }
    Ok(())
}

/// A datagram socket is not connected to `old` any more: what came from there is lost.
pub(super) fn disconnected<K: FileCallers>(cx: &mut Cx<'_, '_, K>, id: SocketId, old: SocketId) {
    let unix = socket::at_mut(cx.k.files_mut(), id).unix_mut();
    if !unix.queue.is_empty() {
        let was_full = unix.is_full();
        let queue = core::mem::take(&mut unix.queue);
        let files = discard(cx.k.files_mut(), queue);
        rights::drop_files(cx.k.files_mut(), cx.p, files);
        announce_queue_room(cx.k.files_mut(), id, was_full);
        if let Some(socket) = cx.k.files_mut().sockets.get_mut(old)
            && socket.unix().peer == Some(id)
        {
            socket.error = Some(Errno::ECONNRESET);
            cx.k.files_mut().wake(WaitKey::Socket(old));
        }
    }
    if let Some(socket) = cx.k.files_mut().sockets.get_mut(old)
        && socket.unix().peer.is_none()
    {
        socket.unix_mut().state = State::Closed;
    }
}

/// The next socket that waits to be accepted (accept(2)); it stays there until [`accepted`].
pub(crate) fn accept<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    id: SocketId,
    blocking: Blocking,
) -> Result<SocketId, Stop> {
    let socket = socket::at_mut(cx.k.files_mut(), id);
    if !socket.kind.has_connections() {
        return Err(Errno::EOPNOTSUPP.into());
    }
    if socket.unix().state != State::Listening {
        return Err(Errno::EINVAL.into());
    }
    socket.take_error()?;
    if let Some(&first) = socket.unix().pending.front() {
        return Ok(first);
    }
    let is_shut = socket.shutdown & NO_RECEIVE != 0;
    let patience = Patience::new(socket.options.receive_timeout, blocking);
    let turn = WaitKey::Turn(Turn::Socket(id));
    match wait(cx, turn, patience, Progress::default()) {
        Err(Stop::Block(_)) if is_shut => Err(Errno::EINVAL.into()),
        result => result,
    }
}

/// The first socket that waits is accepted: it belongs to a file from now on.
pub(crate) fn accepted(k: &mut Files, id: SocketId) {
    let first = socket::at_mut(k, id).unix_mut().pending.pop_front();
    if let Some(first) = first {
        k.sockets.unix.pending -= 1;
        rights::accepted(k, first);
    }
    k.env.wake(WaitKey::Socket(id));
}
