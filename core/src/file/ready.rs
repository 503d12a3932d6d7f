//! What open files are ready for: the one function that poll(2), select(2) and epoll(7) ask, and where a
//! file's changes are announced.
//!
//! Readiness is a level: what a read or write would find now. Whoever changes it calls
//! [`Kernel::notify`](crate::Kernel::notify) with the key of the file and the events that came; for
//! edge-triggered watchers that call is the edge, as a wake-up is in Linux.

use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::env::wait::{Turn, WaitKey};
use crate::file::{
    File, FileId, FileKind, Files, epoll, eventfd, fdtable, inotify, pidfd, pipe, signalfd,
};
use crate::fs::anon::Anon;
use crate::fs::filesystem::Filesystem;
use crate::ipc::mqueue;
use crate::kernel::Cx;
use crate::machine::ThreadId;
use crate::net::socket;
use crate::vfs::mount::put_path;
use crate::views::proc::events;
use crate::views::proc::events::Change;
use crate::{Kernel, file};

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

/// What a file is ready for, as the thread sees it. A standard stream of the host is always ready for
/// writing; whether it can be read, only the host knows. `depth` is how many epoll files the question came
/// through.
pub(crate) fn of(k: &Kernel, thread: ThreadId, id: FileId, depth: u32) -> u16 {
    let Some(file) = k.files.file(id) else {
        return NVAL;
    };
    match &file.kind {
        FileKind::Path => NVAL,
        &FileKind::Pipe(id) => {
            let Some(pipe) = k.files.pipes.get(id) else {
                return NVAL;
            };
            let mut ready = 0;
            if file.readable() {
                ready |= if pipe.ring.is_empty() { 0 } else { IN };
                ready |= if pipe.writers == 0 && pipe.had_writer {
                    HUP
                } else {
                    0
                };
            }
            if file.writable() {
                ready |= if pipe.ring.is_full() { 0 } else { OUT };
                ready |= if pipe.readers == 0 { ERR } else { 0 };
            }
            ready
        }
        &FileKind::Socket(socket) => socket::ready(k, socket),
        &FileKind::MessageQueue(queue) => mqueue::ready(k, queue),
        FileKind::HostStream(_) => OUT,
        FileKind::EventFd(event) => eventfd::ready(event),
        FileKind::TimerFd(timer) => match timer.ticks {
            0 => 0,
            _ => PLAIN_IN,
        },
        FileKind::SignalFd(mask) => signalfd::ready(k, thread, *mask),
        FileKind::PidFd(pid) => pidfd::ready(k, *pid),
        FileKind::Epoll(_) => match epoll::any_ready(k, thread, id, depth) {
            true => IN,
            false => 0,
        },
        FileKind::Inotify(instance) => match inotify::has_events(instance) {
            true => IN,
            false => 0,
        },
        FileKind::Proc(_) => match change(k, thread, file) {
            Some(change) => change.ready(file.seen),
            // What has not been read has changed (`kernfs_generic_poll()`).
            None if file.seen == 0 && is_sysfs(k, file) => IN | OUT | ERR | PRI,
            None => IN | OUT,
        },
        _ => IN | OUT,
    }
}

/// Whether a file is one of sysfs or cgroup2.
fn is_sysfs(k: &Files, file: &File) -> bool {
    let fs = file.inode.map(|inode| k.fs.filesystem(inode.fs));
    matches!(fs, Some(Filesystem::Sys(_)))
}

/// A file that the kernel makes has been read.
pub(crate) fn was_read(k: &mut Files, id: FileId) {
    if k.file(id).is_some_and(|file| is_sysfs(k, file)) {
        file::at_mut(k, id).seen = 1;
    }
}

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

/// The last change of a file that the kernel makes and that tells of changes.
fn change(k: &Kernel, thread: ThreadId, file: &File) -> Option<Change> {
    let inode = file.inode?;
    match k.fs.filesystem(inode.fs) {
        Filesystem::Proc(_) => events::of(k, thread, inode.ino),
        _ => None,
    }
}

/// The program has been told what a file is ready for: a change of it is told of once.
pub(crate) fn told(k: &mut Kernel, thread: ThreadId, id: FileId) {
    if let Some(file) = k.files.file(id)
        && let FileKind::Proc(_) = file.kind
        && let Some(change) = change(k, thread, file)
    {
        file::at_mut(k, id).seen = change.number;
    }
}

/// Where a file's changes are announced, as this thread waits for them; `None` for files that are always
/// ready.
pub(crate) fn key(k: &Kernel, thread: ThreadId, id: FileId) -> Option<WaitKey> {
    match k.files.file(id)?.kind {
        FileKind::Pipe(pipe) => Some(WaitKey::Pipe(pipe.0)),
        FileKind::Socket(socket) => Some(WaitKey::Socket(socket)),
        FileKind::MessageQueue(queue) => Some(WaitKey::MessageQueue(queue)),
        FileKind::EventFd(_) | FileKind::TimerFd(_) | FileKind::Epoll(_) | FileKind::Inotify(_) => {
            Some(WaitKey::File(id))
        }
        FileKind::SignalFd(_) => Some(WaitKey::Signals(k.tasks.get(thread)?.tgid)),
        FileKind::PidFd(pid) => Some(WaitKey::Exit(pid.tgid)),
        FileKind::Proc(_) => change(k, thread, k.files.file(id)?)?.key,
        _ => None,
    }
}

/// The announcements that concern one open file: a pipe's reader is not told of room.
pub(crate) fn concerns(file: &File) -> u16 {
    match file.kind {
        FileKind::Pipe(_) => {
            (if file.readable() { IN } else { 0 }) | (if file.writable() { OUT } else { 0 })
        }
        _ => ANY,
    }
}

/// Whether a file can be waited for with epoll(7) (`file_can_poll` of Linux).
pub(crate) fn can_wait(k: &Files, file: &File) -> bool {
    match file.kind {
        FileKind::Proc(_) => file.inode.is_some_and(|inode| {
            let of_processes = matches!(k.fs.filesystem(inode.fs), Filesystem::Proc(_));
            !of_processes || events::can_wait(inode.ino)
        }),
        FileKind::Regular
        | FileKind::Directory
        | FileKind::Memory(_)
        | FileKind::PageMap(_)
        | FileKind::Namespace
        | FileKind::Landlock(_)
        | FileKind::Config(_)
        | FileKind::Path => false,
        FileKind::Device(device) => device == file::device::Device::Random,
        _ => true,
    }
}

/// Makes an open file of an object without a place in any tree and gives it a descriptor.
pub(crate) fn install(
    cx: &mut Cx<'_, '_>,
    kind: FileKind,
    anon: Anon,
    flags: u32,
    cloexec: bool,
) -> Result<i32, Errno> {
    let id = open(cx, kind, anon, flags)?;
    fdtable::install(cx, id, cloexec)
}

/// The same without a descriptor; the caller holds the reference.
pub(crate) fn open(
    cx: &mut Cx<'_, '_>,
    kind: FileKind,
    anon: Anon,
    flags: u32,
) -> Result<FileId, Errno> {
    let path = crate::vfs::object::path(cx.k, anon.ino());
    let file = File::new(kind, path, None, flags);
    file::add(cx.k, file).inspect_err(|_| put_path(cx.k, cx.p, path))
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
