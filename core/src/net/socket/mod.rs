//! Sockets (socket(7)).
//!
//! What all address families share is here: the socket behind an open file, its options, where data comes
//! from and goes to, and the open files that messages carry ([`rights`]). A family is a module of its own
//! that keeps its state in [`Family`]; [`unix`] is the only one so far. Everything that changes a socket is
//! announced under [`WaitKey::Socket`].

pub(crate) mod data;
mod garbage;
pub(crate) mod ops;
pub(crate) mod option;
pub(crate) mod rights;
pub(crate) mod unix;

use crate::file::caller::FileCallers;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use data::{Sink, Source};
use option::Options;
use rights::InFlight;
use smallvec::SmallVec;
use unix::Unix;

use crate::abi::Errno;
use crate::abi::raw::{general as g, net as n};
use crate::args::{MessageFlags, OpenFlags};
use crate::cred::landlock::Domain;
use crate::cred::ns::{NsId, user};
use crate::env::cx::Cx;
pub(crate) use crate::env::ids::SocketId;
use crate::env::wait::{Blocking, Restart, Stop, Wait, WaitKey};
use crate::file;
use crate::file::ready::{ERR, HUP, IN};
use crate::file::rw::Iov;
use crate::file::{File, FileId, FileKind, Files, ready};
use crate::fs::anon;
use crate::fs::filesystem::Time;
use crate::port::Ports;
use crate::vfs::mount::PathRef;

/// Most sockets there can be, those included that wait to be accepted.
const SOCKETS_MAX: usize = 1 << 16;
/// Longest address that a call takes or gives (`sizeof(struct sockaddr_storage)`).
pub(crate) const ADDRESS_MAX: usize = 128;
/// Bits of a socket's shutdown state (`RCV_SHUTDOWN`, `SEND_SHUTDOWN`).
pub(crate) const NO_RECEIVE: u8 = 1;
pub(crate) const NO_SEND: u8 = 2;
pub(crate) const NEITHER: u8 = NO_RECEIVE | NO_SEND;

const RDHUP: u16 = n_poll(g::POLLRDHUP);
/// Writable as sockets tell it.
const WRITABLE: u16 = ready::OUT | n_poll(g::POLLWRBAND);

const fn n_poll(bits: u32) -> u16 {
    bits as u16
}

/// What a socket's type means (socket(2)).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Kind {
    Stream,
    Datagram,
    Seqpacket,
}

impl Kind {
    /// The number that programs know.
    pub(crate) fn number(self) -> u32 {
        match self {
            Kind::Stream => n::SOCK_STREAM,
            Kind::Datagram => n::SOCK_DGRAM,
            Kind::Seqpacket => n::SOCK_SEQPACKET,
        }
    }

    /// Whether two sockets of this type are connected for life.
    pub(crate) fn has_connections(self) -> bool {
        self != Kind::Datagram
    }
}

/// What a socket's address family keeps.
#[derive(Debug, Hash)]
pub(crate) enum Family {
    Unix(Unix),
}

/// One socket.
#[derive(Debug, Hash)]
pub(crate) struct Socket {
    pub family: Family,
    pub kind: Kind,
    pub options: Options,
    /// What the next call is told (`SO_ERROR`).
    pub error: Option<Errno>,
    /// Directions that are shut down.
    pub shutdown: u8,
    /// Memory of its messages that nobody has received, in bytes as Linux counts them (`sk_wmem_alloc`).
    pub unreceived: usize,
    /// It belongs to an open file: it does not wait to be accepted.
    pub has_file: bool,
    /// Whose its inode is at first (`sockfs`).
    pub uid: u32,
    pub gid: u32,
    /// The network namespace that it was made in: names that are no files' are that one's.
    pub net: NsId,
    /// The domain of landlock(7) in which it was made.
    pub domain: Option<Arc<Domain>>,
    pub made: Time,
}

impl Socket {
    pub(crate) fn unix(&self) -> &Unix {
        let Family::Unix(unix) = &self.family;
        unix
    }

    pub(crate) fn unix_mut(&mut self) -> &mut Unix {
        let Family::Unix(unix) = &mut self.family;
        unix
    }

    /// Whether it is worth waking somebody who waits for room (`unix_writable` of Linux).
    pub(crate) fn has_room(&self) -> bool {
        self.unreceived.saturating_mul(4) <= self.options.send_buffer as usize
    }

    /// The error that waits to be told; it is told once.
    pub(crate) fn take_error(&mut self) -> Result<(), Errno> {
        self.error.take().map_or(Ok(()), Err)
    }
}

/// All sockets.
#[derive(Debug, Hash, Default)]
pub(crate) struct Sockets {
    sockets: BTreeMap<SocketId, Socket>,
    next: u64,
    pub(crate) in_flight: InFlight,
    unix: unix::Names,
    /// Bytes in all queues, with what is beside them.
    queued: usize,
}

impl Sockets {
    pub(crate) fn get(&self, id: SocketId) -> Option<&Socket> {
        self.sockets.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: SocketId) -> Option<&mut Socket> {
        self.sockets.get_mut(&id)
    }

    /// Bytes that are charged for all of them.
    pub(crate) fn charged(&self) -> u64 {
        self.queued as u64
    }

    /// Bytes that the sockets themselves take, with what empty queues keep.
    pub(crate) fn held(&self) -> u64 {
        const SOCKET_COST: u64 = 6 << 10;
        self.sockets.len() as u64 * SOCKET_COST
    }

    fn add(&mut self, socket: Socket) -> Result<SocketId, Errno> {
        if self.sockets.len() >= SOCKETS_MAX {
            return Err(Errno::ENFILE);
        }
        let id = SocketId(self.next);
        self.next += 1;
        self.sockets.insert(id, socket);
        Ok(id)
    }
}

/// A socket that a handler has found.
pub(crate) fn at(k: &Files, id: SocketId) -> &Socket {
    k.sockets.get(id).expect("an open socket is there") // INVARIANT: a socket outlives its file
}

/// A socket that a handler has found.
pub(crate) fn at_mut(k: &mut Files, id: SocketId) -> &mut Socket {
    k.sockets.get_mut(id).expect("an open socket is there") // INVARIANT: a socket outlives its file
}

/// A new socket that belongs to no file yet.
fn create<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    kind: Kind,
    family: Family,
) -> Result<SocketId, Errno> {
    let creds = cx.creds();
    let (uid, gid, domain) = (creds.fsuid, creds.fsgid, creds.landlock.clone());
    let net = cx.caller().net;
    let made = Time::from_nanos(cx.now().real);
    let options = Options::new(&cx.k.files().env.settings);
    cx.k.files_mut().sockets.add(Socket {
        family,
        kind,
        options,
        error: None,
        shutdown: 0,
        unreceived: 0,
        has_file: false,
        uid,
        gid,
        net,
        domain,
        made,
    })
}

/// Makes the open file of a socket. If that fails the socket is gone.
pub(crate) fn open<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    id: SocketId,
    flags: OpenFlags,
) -> Result<FileId, Errno> {
    let (owner, made) = {
        let socket = at(cx.k.files(), id);
        ((socket.uid, socket.gid), socket.made)
    };
    let ino = anon::socket_ino(id);
    cx.k.files_mut()
        .objects
        .add(ino, g::S_IFSOCK | 0o777, owner, made);
    let path = crate::vfs::object::path(cx.k.files_mut(), ino);
    let file = File::new(FileKind::Socket(id), path, None, OpenFlags::RDWR | flags);
    match file::add(cx.k.files_mut(), cx.p, file) {
        Ok(file) => {
            at_mut(cx.k.files_mut(), id).has_file = true;
            Ok(file)
        }
        Err(errno) => {
            release(cx.k.files_mut(), cx.p, id);
            Err(errno)
        }
    }
}

/// The socket's file was closed, or never made.
pub(crate) fn release(k: &mut Files, p: &mut Ports<'_>, id: SocketId) {
    unix::release(k, p, id);
    rights::socket_closed(k, p);
}

/// Whether a call that receives or accepts would have something, or fail; for invariant checks.
pub(crate) fn has_input(socket: &Socket) -> bool {
    socket.unix().has_input() || socket.error.is_some() || socket.shutdown & NO_RECEIVE != 0
}

/// What a socket is ready for.
pub(crate) fn ready(k: &Files, id: SocketId) -> u16 {
    let Some(socket) = k.sockets.get(id) else {
        return ready::NVAL;
    };
    let mut ready = 0;
    ready |= if socket.error.is_some() { ERR } else { 0 };
    ready |= if socket.shutdown == NEITHER { HUP } else { 0 };
    ready |= if socket.shutdown & NO_RECEIVE != 0 {
        RDHUP | IN
    } else {
        0
    };
    let unix = socket.unix();
    ready |= if unix.has_input() { IN } else { 0 };
    ready |= if unix.is_broken(socket.kind) { HUP } else { 0 };
    ready |= if unix::is_writable(k, id, socket) {
        WRITABLE
    } else {
        0
    };
    ready
}

/// Tells who watches or waits that bytes can be written.
fn announce_room(k: &mut Files, id: SocketId) {
    k.notify(WaitKey::Socket(id), WRITABLE);
}

/// How long a call waits: `None` is for ever, and 0 not at all. Counted from when the program made the call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience(Option<u64>);

impl Patience {
    pub(crate) fn new(timeout: Option<u64>, blocking: Blocking) -> Patience {
        match blocking {
            Blocking::Fails => Patience(Some(0)),
            Blocking::Waits => Patience(timeout),
        }
    }
}

/// What a call has done before it waited, in [`Call::progress`](crate::kernel::Call): messages, and bytes of
/// the one it is at.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Progress {
    pub messages: u32,
    pub bytes: u32,
}

impl Progress {
    pub(crate) fn of<K: FileCallers>(cx: &mut Cx<'_, '_, K>) -> Progress {
        let word = cx.call_state().progress;
        Progress {
            messages: (word >> 32) as u32,
            bytes: word as u32,
        }
    }

    pub(crate) fn word(self) -> u64 {
        u64::from(self.messages) << 32 | u64::from(self.bytes)
    }
}

/// Waits until a socket changes, or for what is in its queue or at it (`turn`); `done` is kept for when the
/// handler is run again. `EAGAIN` when no time is left. A signal does not take away what was done: `EINTR`,
/// to be passed over.
fn wait<T, K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    on: WaitKey,
    patience: Patience,
    done: Progress,
) -> Result<T, Stop> {
    if patience.0.is_some_and(|time| cx.expired(time)) {
        return Err(Errno::EAGAIN.into());
    }
    if done.bytes > 0 && cx.k.is_interrupted(cx.thread) {
        return Err(Errno::EINTR.into());
    }
    let call = cx.call_state();
    call.progress = done.word();
    let deadline = patience
        .0
        .map(|time| call.entered.mono.saturating_add(time));
    let restart = match deadline {
        None => Restart::IfAsked,
        Some(_) => Restart::Never,
    };
    Wait::on(on).until(deadline).restart(restart).into()
}

/// Process, user and group that a message or a connection comes from (`struct ucred`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Cred {
    pub pid: u32,
    pub uid: u32,
    pub gid: u32,
}

impl Cred {
    /// As the caller sees it: process 0 if it sees no such one.
    pub(crate) fn shown<K: FileCallers>(self, cx: &Cx<'_, '_, K>) -> Cred {
        let own = cx.creds().user_ns;
        Cred {
            pid: cx.shown_pid(self.pid),
            uid: user::show_uid(cx.k.files(), own, self.uid),
            gid: user::show_gid(cx.k.files(), own, self.gid),
        }
    }
}

/// What goes along with the bytes of a message that is sent.
#[derive(Default, Debug)]
pub(crate) struct Outgoing {
    /// The address, as the program gave it.
    pub to: Option<Address>,
    /// Files, without references.
    pub files: Vec<FileId>,
    pub cred: Option<Cred>,
    pub flags: MessageFlags,
}

/// What came along with the bytes of a message.
#[derive(Default, Debug)]
pub(crate) struct Incoming {
    /// The sender's address; `None` if it has none.
    pub from: Option<Address>,
    /// Files, with references that the caller passes on.
    pub files: Vec<FileId>,
    pub cred: Option<Cred>,
    /// For the program.
    pub flags: MessageFlags,
}

/// A socket address, family and all.
pub(crate) type Address = SmallVec<[u8; ADDRESS_MAX]>;

/// Sends a message: how many bytes.
pub(crate) fn send<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    id: SocketId,
    data: &mut Source<'_>,
    message: &Outgoing,
    done: Progress,
) -> Result<u64, Stop> {
    unix::send::send(cx, id, data, message, done)
}

/// Receives a message or bytes: how many.
pub(crate) fn receive<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    id: SocketId,
    data: &mut Sink<'_>,
    flags: MessageFlags,
    done: Progress,
) -> Result<(u64, Incoming), Stop> {
    unix::receive::receive(cx, id, data, flags, done)
}

/// read(2) and its relatives.
pub(crate) fn read<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    id: SocketId,
    iov: &mut Iov,
    blocking: Blocking,
) -> Result<u64, Stop> {
    if iov.left() == 0 {
        return Ok(0);
    }
    let done = Progress::of(cx);
    let (len, incoming) = receive(cx, id, &mut Sink::User(iov), wait_flag(blocking), done)?;
    rights::drop_files(cx.k.files_mut(), cx.p, incoming.files);
    Ok(len)
}

/// write(2) and its relatives.
pub(crate) fn write<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    id: SocketId,
    iov: &mut Iov,
    blocking: Blocking,
) -> Result<u64, Stop> {
    let message = Outgoing {
        flags: wait_flag(blocking),
        ..Outgoing::default()
    };
    let done = Progress::of(cx);
    send(cx, id, &mut Source::User(iov), &message, done)
}

/// Sends bytes of the kernel (sendfile(2), splice(2)): how many, at least one.
pub(crate) fn write_bytes<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    id: SocketId,
    bytes: &[u8],
    blocking: Blocking,
) -> Result<u64, Stop> {
    let message = Outgoing {
        flags: wait_flag(blocking),
        ..Outgoing::default()
    };
    let mut data = Source::Kernel(bytes);
    send(cx, id, &mut data, &message, Progress::default())
}

/// Receives bytes into the kernel (splice(2)), at most `len`.
pub(crate) fn read_bytes<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    id: SocketId,
    len: u64,
    blocking: Blocking,
) -> Result<Vec<u8>, Stop> {
    let mut bytes = Vec::new();
    let mut data = Sink::Kernel(&mut bytes, len);
    let flags = wait_flag(blocking);
    let (_, incoming) = receive(cx, id, &mut data, flags, Progress::default())?;
    rights::drop_files(cx.k.files_mut(), cx.p, incoming.files);
    Ok(bytes)
}

fn wait_flag(blocking: Blocking) -> MessageFlags {
    match blocking {
        Blocking::Fails => MessageFlags::DONTWAIT,
        Blocking::Waits => MessageFlags::empty(),
    }
}

/// Places that sockets hold by themselves; for invariant checks.
pub(crate) fn held(k: &Files) -> impl Iterator<Item = PathRef> + '_ {
    let sockets = k.sockets.sockets.values();
    sockets.filter_map(|socket| socket.unix().place())
}

/// Whether sockets, files, queues and names agree; for invariant checks.
pub(crate) fn check(k: &Files) -> Result<(), String> {
    let sockets = &k.sockets;
    let mut open = 0;
    for (_, file) in k.open.iter() {
        let FileKind::Socket(id) = file.kind else {
            continue;
        };
        open += 1;
        if !sockets.get(id).is_some_and(|socket| socket.has_file) {
            return Err(format!("{id:?} is open, but not there"));
        }
    }
    let with_file = sockets.sockets.values().filter(|socket| socket.has_file);
    if with_file.count() != open {
        return Err(format!("{open} sockets are open"));
    }
    rights::check(k)?;
    unix::check(k)
}
