//! What open files are ready for, in the events of poll(2), and where changes are announced.
//! [`ops::ready`](super::ops::ready) is what poll(2), select(2) and epoll(7) ask.
//!
//! Readiness is a level: what a read or write would find now. Whoever changes it calls
//! [`Kernel::notify`](crate::Kernel::notify) with the key of the file and the events that came; for
//! edge-triggered watchers that call is the edge, as a wake-up is in Linux.

use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::args::{OnExec, OpenFlags};
use crate::env::cx::Cx;
use crate::env::wait::{Turn, WaitKey};
use crate::file;
use crate::file::caller::FileCallers;
use crate::file::{File, FileId, FileKind, Files, fdtable, pipe};
use crate::fs::anon::Anon;
use crate::net::socket;

pub(crate) const IN: u16 = (g::POLLIN | g::POLLRDNORM) as u16;
pub(crate) const PRI: u16 = g::POLLPRI as u16;
pub(crate) const OUT: u16 = (g::POLLOUT | g::POLLWRNORM) as u16;
pub(crate) const ERR: u16 = g::POLLERR as u16;
pub(crate) const HUP: u16 = g::POLLHUP as u16;
pub(crate) const NVAL: u16 = g::POLLNVAL as u16;
/// Readable and writable without a priority band: what most files beside pipes give.
pub(crate) const PLAIN_IN: u16 = g::POLLIN as u16;
pub(crate) const PLAIN_OUT: u16 = g::POLLOUT as u16;
/// All events: an announcement that every watcher looks at.
pub(crate) const ANY: u16 = u16::MAX;

/// Whether somebody who waits for a turn would not have to; for invariant checks.
pub(crate) fn has_come(k: &Files, turn: Turn) -> bool {
    let pipe = |id| k.pipes.get(pipe::PipeId(id));
    let queue = |id| k.mqueues.get(id);
    match turn {
        Turn::PipeBytes(id) => {
            pipe(id).is_none_or(|pipe| !pipe.ring.is_empty() || pipe.writers == 0)
        }
        Turn::PipeRoom(id) => {
            pipe(id).is_none_or(|pipe| pipe.ring.room_from(0) > 0 || pipe.readers == 0)
        }
        Turn::Socket(id) => k.sockets.get(id).is_none_or(socket::has_input),
        Turn::Message(id) => queue(id).is_none_or(|queue| !queue.is_empty()),
        Turn::MessageRoom(id) => queue(id).is_none_or(|queue| !queue.is_full()),
    }
}

/// Makes an open file of an object without a place in any tree and gives it a descriptor.
pub(crate) fn install<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    kind: FileKind,
    anon: Anon,
    flags: OpenFlags,
    on_exec: OnExec,
) -> Result<i32, Errno> {
    let id = open(cx, kind, anon, flags)?;
    fdtable::install(cx, id, on_exec)
}

/// The same without a descriptor; the caller holds the reference.
pub(crate) fn open<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    kind: FileKind,
    anon: Anon,
    flags: OpenFlags,
) -> Result<FileId, Errno> {
    let path = crate::vfs::object::path(cx.k.files_mut(), anon.ino());
    let file = File::new(kind, path, None, flags);
    file::add(cx.k.files_mut(), cx.p, file)
}

/// Tells who waits for changes of mounts.
pub(crate) fn announce_mounts(k: &mut Files) {
    while let Some(ns) = k.mounts.changed.pop_first() {
        let exists = k.ns.exists(ns);
        let mounts = &mut k.mounts;
        if !exists {
            mounts.changes.remove(&ns);
            continue;
        }
        mounts.change += 1;
        mounts.changes.insert(ns, mounts.change);
        k.notify(WaitKey::Mounts(ns), PRI | ERR);
    }
}
