//! Sockets inside the sandbox (unix(7)): streams, datagrams and sequenced packets between processes.
//!
//! A message lies in the queue of the socket that receives it. Its bytes are in one ring, what belongs to it
//! beside them in a [`queue::Piece`]. The sender pays for it as Linux counts: by the memory that its buffers
//! would take there (`charge` in [`queue`]), so that a program finds the same limits. A peer is named by its
//! number, which is not used again: one that is not there any more was closed.

pub(crate) mod bind;
pub(crate) mod connect;
pub(crate) mod queue;
pub(super) mod receive;
pub(super) mod send;

use crate::file::caller::FileCallers;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Bound::{Excluded, Unbounded};

use queue::Queue;

use super::garbage::Place;
use super::rights::{self, Rights};
use super::{Address, Cred, Family, Kind, NEITHER, Socket, SocketId, announce_room};
use crate::abi::Errno;
use crate::abi::raw::net as n;
use crate::cred::ns::NsId;
use crate::env::cx::Cx;
use crate::env::wait::WaitKey;
use crate::file::Files;
use crate::fs::InodeRef;
use crate::port::Ports;
use crate::vfs::mount::{HeldPath, PathRef, put_path};

/// Bytes of `sun_path`.
const PATH_LEN: usize = 108;

/// What a socket is connected to (`sk_state` of Linux).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum State {
    Closed,
    Listening,
    Connected,
}

/// The name of a socket: what `sun_path` holds. That of a file ends with NUL, others begin with one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Name(Arc<[u8]>);

impl Name {
    /// As `struct sockaddr_un`.
    pub(crate) fn address(&self) -> Address {
        let mut address = Address::from_slice(&(n::AF_UNIX as u16).to_le_bytes());
        address.extend_from_slice(&self.0);
        address
    }
}

/// What an AF_UNIX socket is beyond other sockets.
#[derive(Debug, Hash)]
pub(crate) struct Unix {
    pub state: State,
    name: Option<Name>,
    /// Where in the tree it is bound, and the inode there.
    place: Option<(HeldPath, InodeRef)>,
    peer: Option<SocketId>,
    /// Name of a peer that is gone.
    peer_name: Option<Name>,
    peer_cred: Option<Cred>,
    /// Most connections that wait to be accepted, or datagrams, less one.
    backlog: u32,
    /// Sockets that wait to be accepted.
    pending: VecDeque<SocketId>,
    /// Datagram sockets that are connected to this one.
    followers: BTreeSet<SocketId>,
    queue: Queue,
}

impl Unix {
    /// Whether its name is no file's.
    fn is_abstract(&self) -> bool {
        self.name
            .as_ref()
            .is_some_and(|Name(name)| name.first() == Some(&0))
    }

    /// One of a network namespace.
    fn new(k: &Files, net: NsId) -> Unix {
        Unix {
            state: State::Closed,
            name: None,
            place: None,
            peer: None,
            peer_name: None,
            peer_cred: None,
            backlog: k.ns.net(net).datagrams as u32,
            pending: VecDeque::new(),
            followers: BTreeSet::new(),
            queue: Queue::default(),
        }
    }

    pub(super) fn place(&self) -> Option<PathRef> {
        self.place.as_ref().map(|(path, _)| **path)
    }

    pub(super) fn has_input(&self) -> bool {
        !self.queue.is_empty() || !self.pending.is_empty()
    }

    /// Whether it is one that must be connected, and is not.
    pub(super) fn is_broken(&self, kind: Kind) -> bool {
        kind.has_connections() && self.state == State::Closed
    }

    /// Whether others must wait before they send or connect.
    fn is_full(&self) -> bool {
        let len = self.queue.len().max(self.pending.len());
        len > self.backlog as usize
    }

    pub(crate) fn peer_cred(&self) -> Option<Cred> {
        self.peer_cred
    }
}

/// Names that are no files', and what is bound to files.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Names {
    /// Each network namespace has its own, and each type.
    names: BTreeMap<(NsId, Kind, Name), SocketId>,
    inodes: BTreeMap<InodeRef, SocketId>,
    /// Where the search for a free name begins.
    next: u32,
    /// Number of sockets that wait to be accepted.
    pub(super) pending: u64,
}

/// What `/proc/net/unix` begins with.
pub(crate) const HEAD: &str = "Num       RefCount Protocol Flags    Type St Inode Path\n";

/// The line of the socket behind one in `/proc/net/unix`: which that is. Where a socket lies in memory is
/// shown to nobody.
pub(crate) fn line(k: &Files, last: Option<SocketId>, text: &mut Vec<u8>) -> Option<SocketId> {
    /// `__SO_ACCEPTCON`
    const LISTENS: u32 = 0x10000;
    let from = last.map_or(Unbounded, Excluded);
    let (&id, socket) = k.sockets.sockets.range((from, Unbounded)).next()?;
    let unix = socket.unix();
    let flags = match unix.state {
        State::Listening => LISTENS,
        _ => 0,
    };
    let connected = unix.state == State::Connected || unix.peer.is_some();
    let state = match (socket.has_file, connected) {
        (true, true) => 3,
        (true, false) => 1,
        (false, true) => 2,
        (false, false) => 4,
    };
    let refs = 2 + u32::from(connected);
    let ino = match socket.has_file {
        true => crate::fs::anon::socket_ino(id).0,
        false => 0,
    };
    let line = format!(
        "{:016x}: {refs:08X} 00000000 {flags:08X} {:04X} {state:02X} {ino:5}",
        0,
        socket.kind.number()
    );
    text.extend_from_slice(line.as_bytes());
    if let Some(Name(name)) = &unix.name {
        text.push(b' ');
        let shown = match name.split_last() {
            Some((0, path)) if name.first() != Some(&0) => path,
            _ => name,
        };
        text.extend(
            shown
                .iter()
                .map(|&byte| if byte == 0 { b'@' } else { byte }),
        );
    }
    text.push(b'\n');
    Some(id)
}

/// Makes a socket: `EPROTONOSUPPORT`, `ESOCKTNOSUPPORT`, `ENFILE`.
pub(crate) fn create<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    kind: u32,
    protocol: i32,
) -> Result<SocketId, Errno> {
    if protocol != 0 && protocol != n::AF_UNIX as i32 {
        return Err(Errno::EPROTONOSUPPORT);
    }
    let kind = match kind {
        n::SOCK_STREAM => Kind::Stream,
        n::SOCK_DGRAM | n::SOCK_RAW => Kind::Datagram,
        n::SOCK_SEQPACKET => Kind::Seqpacket,
        _ => return Err(Errno::ESOCKTNOSUPPORT),
    };
    let unix = Unix::new(cx.k.files(), cx.caller().net);
    super::create(cx, kind, Family::Unix(unix))
}

/// Credentials as a connection shows them to the other side.
fn own_cred<K: FileCallers>(cx: &Cx<'_, '_, K>) -> Cred {
    let creds = cx.creds();
    Cred {
        pid: cx.caller().tgid,
        uid: creds.euid,
        gid: creds.egid,
    }
}

/// Whether bytes can be written without waiting.
pub(super) fn is_writable(k: &Files, id: SocketId, socket: &Socket) -> bool {
    let unix = socket.unix();
    let to = unix.peer.and_then(|peer| k.sockets.get(peer));
    let waits_for_peer = socket.kind != Kind::Stream
        && to.is_some_and(|to| to.unix().peer != Some(id) && to.unix().is_full());
    unix.state != State::Listening && socket.has_room() && !waits_for_peer
}

/// Bytes that can be read at once (`SIOCINQ`). `EINVAL` for a socket that listens.
pub(crate) fn input(k: &Files, id: SocketId) -> Result<usize, Errno> {
    let socket = super::at(k, id);
    let unix = socket.unix();
    match socket.kind {
        _ if unix.state == State::Listening => Err(Errno::EINVAL),
        Kind::Datagram => Ok(unix.queue.first_len()),
        _ => Ok(unix.queue.bytes()),
    }
}

/// The address of a socket.
pub(crate) fn own_address(k: &Files, id: SocketId) -> Address {
    match &super::at(k, id).unix().name {
        Some(name) => name.address(),
        None => unnamed(),
    }
}

/// The address of the socket at the other side. `ENOTCONN`.
pub(crate) fn peer_address(k: &Files, id: SocketId) -> Result<Address, Errno> {
    let unix = super::at(k, id).unix();
    let peer = unix.peer.ok_or(Errno::ENOTCONN)?;
    let name = match k.sockets.get(peer) {
        Some(peer) => peer.unix().name.as_ref(),
        None => unix.peer_name.as_ref(),
    };
    Ok(name.map_or_else(unnamed, Name::address))
}

fn unnamed() -> Address {
    Address::from_slice(&(n::AF_UNIX as u16).to_le_bytes())
}

/// Shuts directions down (shutdown(2)), for a connected pair on both sides.
pub(crate) fn shutdown(k: &mut Files, id: SocketId, how: u8) {
    let socket = super::at_mut(k, id);
    socket.shutdown |= how;
    let kind = socket.kind;
    let peer = socket.unix().peer;
    k.wake(WaitKey::Socket(id));
    let other = how >> 1 & 1 | how << 1 & 2;
    if kind.has_connections()
        && let Some(peer) = peer
        && let Some(socket) = k.sockets.get_mut(peer)
    {
        socket.shutdown |= other;
        k.wake(WaitKey::Socket(peer));
    }
}

/// A socket is closed, with those that wait to be accepted at it.
pub(super) fn release(k: &mut Files, p: &mut Ports<'_>, id: SocketId) {
    for pending in release_one(k, p, id, false) {
        k.sockets.unix.pending -= 1;
        release_one(k, p, pending, true);
    }
}

/// Gives the sockets that waited to be accepted.
fn release_one(
    k: &mut Files,
    p: &mut Ports<'_>,
    id: SocketId,
    never_accepted: bool,
) -> VecDeque<SocketId> {
    let Some(socket) = k.sockets.sockets.remove(&id) else {
        return VecDeque::new();
    };
    let Family::Unix(mut unix) = socket.family;
    let names = &mut k.sockets.unix;
    if let Some(name) = &unix.name {
        let key = (socket.net, socket.kind, name.clone());
        if names.names.get(&key) == Some(&id) {
            names.names.remove(&key);
        }
    }
    if let Some((path, inode)) = unix.place.take() {
        names.inodes.remove(&inode);
        put_path(k, p, path);
    }
    if let Some(peer) = unix.peer
        && let Some(other) = k.sockets.get_mut(peer)
    {
        if socket.kind.has_connections() {
            other.shutdown = NEITHER;
            if never_accepted || !unix.queue.is_empty() || !unix.pending.is_empty() {
                other.error = Some(Errno::ECONNRESET);
            }
            other.unix_mut().peer_name = unix.name.clone();
            k.wake(WaitKey::Socket(peer));
        } else {
            other.unix_mut().followers.remove(&id);
        }
    }
    for &follower in &unix.followers {
        if let Some(other) = k.sockets.get_mut(follower) {
            other.unix_mut().peer_name = unix.name.clone();
            // Only those can be waiting who saw it full.
            if unix.is_full() && unix.peer != Some(follower) {
                k.wake(WaitKey::Socket(follower));
            }
        }
    }
    // Those who wait for room in the queue, or to be accepted.
    k.wake(WaitKey::Socket(id));
    let files = discard(k, unix.queue);
    rights::drop_files(k, p, files);
    unix.pending
}

/// Frees the messages of a queue: the files in them.
fn discard(k: &mut Files, queue: Queue) -> Vec<crate::file::FileId> {
    let mut files = Vec::new();
    let (pieces, rights) = queue.into_parts();
    for piece in pieces {
        repay(k, piece.sender, piece.charge);
    }
    for (_, rights) in rights {
        files.extend(rights::receive(k, rights));
    }
    files
}

/// All queues hold `new` instead of `old` bytes, with what is beside them.
fn charge(k: &mut Files, old: usize, new: usize) {
    let queued = &mut k.sockets.queued;
    *queued = *queued + new - old;
    k.frames.charge(old as u64, new as u64);
}

/// A message is gone: its sender may send more.
fn repay(k: &mut Files, sender: SocketId, paid: usize) {
    charge(k, paid, 0);
    if let Some(socket) = k.sockets.get_mut(sender) {
        socket.unreceived -= paid.min(socket.unreceived);
        if socket.has_room() {
            announce_room(k, sender);
        }
    }
}

/// A queue from which something was taken has room again for those who are not connected to it both ways, if
/// it had none before.
fn announce_queue_room(k: &mut Files, id: SocketId, was_full: bool) {
    let Some(socket) = k.sockets.get(id) else {
        return;
    };
    if !was_full || socket.unix().is_full() {
        return;
    }
    let followers: Vec<SocketId> = socket.unix().followers.iter().copied().collect();
    k.env.wake(WaitKey::Socket(id));
    for follower in followers {
        announce_room(k, follower);
    }
}

/// The files in the queue of one socket.
pub(super) fn own_rights(k: &Files, id: SocketId) -> impl Iterator<Item = &Rights> {
    let socket = k.sockets.get(id);
    socket
        .into_iter()
        .flat_map(|socket| socket.unix().queue.rights())
}

/// The first message with files from a place on, of those that a socket leads to: in its own queue, then in
/// those of sockets that wait to be accepted at it. With the place behind it.
pub(super) fn rights_from(k: &mut Files, mut place: Place) -> Option<(Place, &Rights)> {
    let message = loop {
        let socket = k.sockets.get(place.at);
        let found = socket.and_then(|socket| socket.unix().queue.next_rights(place.message));
        match found {
            Some(message) => break message,
            None => place = next_queue(k, place)?,
        }
    };
    place.message = message + 1;
    let queue = &k.sockets.get(place.at)?.unix().queue;
    Some((place, queue.rights_of(message)?))
}

/// The place at which the next of these queues begins.
fn next_queue(k: &mut Files, place: Place) -> Option<Place> {
    k.env.steps.spend(1);
    let pending = &k.sockets.get(place.top)?.unix().pending;
    // They are older than the ones behind them, and younger than where they wait.
    let next = pending.partition_point(|&id| id <= place.at);
    let at = *pending.get(next)?;
    Some(Place {
        at,
        message: 0,
        ..place
    })
}

/// Takes the files of the first such message out; the message stays.
pub(super) fn take_rights(k: &mut Files, mut place: Place) -> Option<(Place, Rights)> {
    loop {
        let socket = k.sockets.get_mut(place.at);
        let taken = socket.and_then(|socket| socket.unix_mut().queue.take_rights());
        match taken {
            Some(rights) => return Some((place, rights)),
            None => place = next_queue(k, place)?,
        }
    }
}

/// Whether names, queues and connections agree; for invariant checks.
pub(super) fn check(k: &Files) -> Result<(), String> {
    let sockets = &k.sockets;
    let mut charged: BTreeMap<SocketId, usize> = BTreeMap::new();
    let mut pending = 0;
    let mut bytes = 0;
    for (&id, socket) in &sockets.sockets {
        let unix = socket.unix();
        if !unix.queue.is_consistent() {
            return Err(format!("{id:?}: its pieces are not its bytes"));
        }
        for piece in unix.queue.pieces() {
            *charged.entry(piece.sender).or_default() += piece.charge;
            bytes += piece.charge;
        }
        for other in &unix.pending {
            pending += 1;
            if sockets.get(*other).is_none_or(|other| other.has_file) {
                return Err(format!("{other:?} waits at {id:?}, but is accepted"));
            }
        }
        if let Some((_, inode)) = unix.place
            && sockets.unix.inodes.get(&inode) != Some(&id)
        {
            return Err(format!("{id:?} is bound, but not found"));
        }
        for follower in &unix.followers {
            let peer = sockets.get(*follower).and_then(|other| other.unix().peer);
            if peer != Some(id) {
                return Err(format!("{follower:?} is not connected to {id:?}"));
            }
        }
    }
    for (&id, socket) in &sockets.sockets {
        let expected = charged.get(&id).copied().unwrap_or(0);
        if socket.unreceived != expected {
            return Err(format!(
                "{id:?} is charged {}, not {expected}",
                socket.unreceived
            ));
        }
    }
    let without_file = sockets.sockets.values().filter(|socket| !socket.has_file);
    if without_file.count() != pending || sockets.unix.pending != pending as u64 {
        return Err(format!("{pending} sockets wait to be accepted"));
    }
    match bytes == sockets.queued {
        true => Ok(()),
        false => Err(format!("{} bytes are queued, not {bytes}", sockets.queued)),
    }
}
