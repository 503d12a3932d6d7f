//! Open files inside messages (`SCM_RIGHTS` of unix(7)): who is charged for them, and how those are found
//! that nobody can receive any more.
//!
//! A file in a message is a reference like a descriptor. A socket may be in a queue that only its own file
//! leads to; such files are garbage, which [`Search`] finds. It begins when a socket is closed, once in so
//! many closes that each pays for [`SHARE`] of the files in flight and of the sockets that wait to be
//! accepted.

use crate::file::caller::FileCallers;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::SocketId;
use super::garbage::Search;
use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::env::cx::Cx;
use crate::file;
use crate::file::{FileId, FileKind, Files};
use crate::port::Ports;

/// Most files of one message (`SCM_MAX_FD`).
pub(crate) const FILES_MAX: usize = 253;
/// Most files in all messages, whoever has sent them.
const IN_FLIGHT_MAX: u64 = 1 << 20;
/// So many files in flight are looked through for each close.
const SHARE: u64 = 64;

/// The files of a message.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Rights {
    /// Each with a reference.
    pub(super) files: Vec<FileId>,
    /// The user that is charged.
    uid: u32,
}

/// What is in flight.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct InFlight {
    /// References in messages, by file.
    pub(super) files: BTreeMap<FileId, u32>,
    /// The same by user.
    users: BTreeMap<u32, u32>,
    /// Number of references.
    references: u64,
    /// How many of the files are sockets.
    sockets: u64,
    /// Closes since garbage was looked for.
    closes: u64,
    /// A search for garbage that is under way.
    pub(super) search: Option<Search>,
    /// Files on which references are to be given back: their queues may hold more.
    closing: Vec<FileId>,
    /// One of them is being closed at this moment.
    working: bool,
}

impl InFlight {
    /// Bytes that files in messages take there.
    pub(crate) fn held(&self) -> u64 {
        const REFERENCE_COST: u64 = 32;
        self.references * REFERENCE_COST
    }
}

/// Puts files into flight, with a reference each. `ETOOMANYREFS` if the user has too many there already.
pub(super) fn send<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    files: &[FileId],
) -> Result<Option<Rights>, Errno> {
    if files.is_empty() {
        return Ok(None);
    }
    let creds = cx.creds();
    let uid = creds.uid;
    let privileged = creds.capable(g::CAP_SYS_RESOURCE) || creds.capable(g::CAP_SYS_ADMIN);
    let limit = cx.rlimit(g::RLIMIT_NOFILE);
    let has_too_many = |k: &Files| {
        let in_flight = &k.sockets.in_flight;
        let count = in_flight.users.get(&uid).copied().unwrap_or(0);
        u64::from(count) > limit && !privileged
            || in_flight.references + files.len() as u64 > IN_FLIGHT_MAX
    };
    if has_too_many(cx.k.files()) {
        collect(cx.k.files_mut(), cx.p);
        let entered = cx.call_state().entered.mono;
        let search = &cx.k.files().sockets.in_flight.search;
        let goes_on = search
            .as_ref()
            .is_some_and(|search| search.begun <= entered);
        if has_too_many(cx.k.files()) {
            // One search is waited for, as in Linux.
            return Err(match goes_on {
                true => Errno::LATER,
                false => Errno::ETOOMANYREFS,
            });
        }
    }
    let mut rights = Rights {
        files: Vec::with_capacity(files.len()),
        uid,
    };
    for &id in files {
        rights.files.push(file::get(cx.k.files_mut(), id));
        let socket = is_socket(cx.k.files(), id);
        let in_flight = &mut cx.k.files_mut().sockets.in_flight;
        let count = in_flight.files.entry(id).or_default();
        *count += 1;
        in_flight.references += 1;
        in_flight.sockets += u64::from(socket && *count == 1);
        *in_flight.users.entry(uid).or_default() += 1;
    }
    Ok(Some(rights))
}

/// Takes files out of flight. The references are the caller's.
pub(super) fn receive(k: &mut Files, rights: Rights) -> Vec<FileId> {
    for &id in &rights.files {
        let socket = is_socket(k, id);
        if socket {
            referenced(k, id);
        }
        let in_flight = &mut k.sockets.in_flight;
        if let Some(count) = in_flight.files.get_mut(&id) {
            *count -= 1;
            in_flight.references -= 1;
            if *count == 0 {
                in_flight.files.remove(&id);
                in_flight.sockets -= u64::from(socket);
            }
        }
        if let Some(count) = in_flight.users.get_mut(&rights.uid) {
            *count -= 1;
            if *count == 0 {
                in_flight.users.remove(&rights.uid);
            }
        }
    }
    rights.files
}

/// The files of a message that stays (`MSG_PEEK`), with references.
pub(super) fn peek(k: &mut Files, rights: &Rights) -> Vec<FileId> {
    rights.files.iter().map(|&id| file::get(k, id)).collect()
}

/// Gives references on files back, many of them by and by. What that closes may hold files itself; they are
/// closed one after the other, not inside each other.
pub(crate) fn drop_files(k: &mut Files, p: &mut Ports<'_>, files: Vec<FileId>) {
    if files.is_empty() {
        return;
    }
    k.sockets.in_flight.closing.extend(files);
    while k.env.steps.left() > 0 && close_some(k, p) {}
}

/// Gives some of those references back, then goes on with a search; `false` if there is nothing to do, or
/// somebody is at it.
pub(crate) fn close_some(k: &mut Files, p: &mut Ports<'_>) -> bool {
    const AT_ONCE: usize = 16;
    let in_flight = &mut k.sockets.in_flight;
    if in_flight.working {
        return false;
    }
    if in_flight.closing.is_empty() {
        let Some(search) = in_flight.search.take() else {
            return false;
        };
        match search.step(k) {
            Ok(search) => k.sockets.in_flight.search = Some(search),
            Err(garbage) => {
                k.sockets.in_flight.closing = garbage;
                begin_if_due(k);
            }
        }
        return true;
    }
    in_flight.working = true;
    for _ in 0..AT_ONCE {
        let Some(id) = k.sockets.in_flight.closing.pop() else {
            break;
        };
        k.env.steps.spend(4);
        file::put(k, p, id);
    }
    k.sockets.in_flight.working = false;
    let closing = &mut k.sockets.in_flight.closing;
    if closing.is_empty() {
        *closing = Vec::new();
        // What was closed may have been the way to others.
        begin_if_due(k);
    }
    true
}

/// Whether [`close_some`] has nothing to do.
pub(crate) fn is_closed(k: &Files) -> bool {
    let in_flight = &k.sockets.in_flight;
    in_flight.closing.is_empty() && in_flight.search.is_none()
}

/// A socket was closed: what was in flight through it may be garbage now.
pub(super) fn socket_closed(k: &mut Files, p: &mut Ports<'_>) {
    let in_flight = &mut k.sockets.in_flight;
    if in_flight.sockets == 0 {
        return;
    }
    in_flight.closes += 1;
    if !in_flight.working {
        collect(k, p);
    }
}

/// Begins a search if there were closes enough to pay for it.
fn begin_if_due(k: &mut Files) {
    let now = k.env.now.mono;
    let pending = k.sockets.unix.pending;
    let in_flight = &mut k.sockets.in_flight;
    let work = in_flight.references + pending;
    let is_due = in_flight.closes > 0 && in_flight.closes.saturating_mul(SHARE) >= work;
    if is_due && in_flight.search.is_none() {
        in_flight.closes = 0;
        in_flight.search = Some(Search::new(now));
    }
}

/// A file gets one more reference, or is received: whatever can be reached from it is no garbage.
pub(crate) fn referenced(k: &mut Files, id: FileId) {
    if k.sockets.in_flight.search.is_some()
        && let Some(socket) = socket_of(k, id)
        && let Some(search) = &mut k.sockets.in_flight.search
    {
        search.reach(id, socket);
    }
}

/// A socket that waited to be accepted belongs to a file from now on.
pub(super) fn accepted(k: &mut Files, socket: SocketId) {
    if let Some(search) = &mut k.sockets.in_flight.search {
        search.look_into(socket);
    }
}

/// A reference on a file was given back, and others stay: a socket may have become garbage.
pub(crate) fn reference_dropped(k: &mut Files, p: &mut Ports<'_>, id: FileId) {
    let in_flight = &k.sockets.in_flight;
    if in_flight.sockets > 0
        && let Some(&count) = in_flight.files.get(&id)
        && k.file(id).is_some_and(|file| file.refs() == count)
        && is_socket(k, id)
    {
        socket_closed(k, p);
    }
}

pub(super) fn is_socket(k: &Files, id: FileId) -> bool {
    socket_of(k, id).is_some()
}

pub(super) fn socket_of(k: &Files, id: FileId) -> Option<SocketId> {
    match k.file(id)?.kind {
        FileKind::Socket(socket) => Some(socket),
        _ => None,
    }
}

/// Looks for files that only each other's queues lead to, if it is time for that, and closes them: now, as
/// far as steps are left, else by and by.
fn collect(k: &mut Files, p: &mut Ports<'_>) {
    begin_if_due(k);
    while k.env.steps.left() > 0 && close_some(k, p) {}
}

/// References that messages hold, and those that are to be given back, by file; for invariant checks.
pub(crate) fn held(k: &Files) -> impl Iterator<Item = (FileId, u32)> + '_ {
    let in_flight = &k.sockets.in_flight;
    let files = in_flight.files.iter().map(|(&id, &count)| (id, count));
    let taken = in_flight.search.iter().flat_map(|search| &search.taken);
    files.chain(in_flight.closing.iter().chain(taken).map(|&id| (id, 1)))
}

/// Whether what is counted is what is in the queues; for invariant checks.
pub(super) fn check(k: &Files) -> Result<(), String> {
    let in_flight = &k.sockets.in_flight;
    let mut files: BTreeMap<FileId, u32> = BTreeMap::new();
    let mut users: BTreeMap<u32, u32> = BTreeMap::new();
    for &id in k.sockets.sockets.keys() {
        for rights in super::unix::own_rights(k, id) {
            for &file in &rights.files {
                *files.entry(file).or_default() += 1;
                *users.entry(rights.uid).or_default() += 1;
            }
        }
    }
    let sockets = files.keys().filter(|id| is_socket(k, **id)).count() as u64;
    let references: u64 = files.values().map(|&count| u64::from(count)).sum();
    let counts = (in_flight.sockets, in_flight.references);
    let counted = (&in_flight.files, &in_flight.users, counts);
    match counted == (&files, &users, (sockets, references)) {
        true => Ok(()),
        false => Err(format!("in flight: {in_flight:?}, but {files:?} are")),
    }
}
