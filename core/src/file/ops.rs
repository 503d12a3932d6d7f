//! What can be done with an open file, by its kind: two traits, and the one place that finds what implements
//! them.
//!
//! A new kind is a variant of [`FileKind`], a file that implements both traits, and a line in `of_kind!`.
//! What a kind leaves out has the answer that Linux gives where a driver has no such function.

use alloc::string::String;
use alloc::vec::Vec;

use super::caller::FileCallers;
use super::ready::{ANY, IN, OUT};
use super::rw::{How, Iov};
use super::{
    File, FileId, FileKind, Files, above, config, device, directory, epoll, eventfd, inotify, pipe,
    reference, regular, stream, timerfd,
};
use crate::abi::Errno;
use crate::cred::ns::NsId;
use crate::env::cx::Cx;
use crate::env::wait::{Stop, SysResult, WaitKey};
use crate::ipc::mqueue;
use crate::machine::ThreadId;
use crate::net::socket;
use crate::port::Ports;

/// What a closed file has to let go of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Closing {
    /// It goes in one piece.
    AtOnce,
    /// So much that it goes by and by ([`OpenFile::empty`]).
    InPieces,
}

/// What an open file of a kind is, whoever works with it.
pub(crate) trait OpenFile {
    /// Reads and writes have a place in it (`FMODE_PREAD` of Linux); pread(2) of others is `ESPIPE`.
    const POSITION: bool = false;
    /// Positions are addresses: they may lie in the upper half.
    const ADDRESSES: bool = false;
    /// The answer to a request of ioctl(2) that it does not know.
    const NO_REQUEST: Errno = Errno::ENOTTY;
    /// It holds something that is given back when it is closed ([`release`](Self::release)).
    const HOLDS: bool = false;

    /// Where what signals are sent for is announced (`O_ASYNC`); `None` for kinds without `fasync` in Linux.
    fn signal_key(_file: &File, _id: FileId) -> Option<WaitKey> {
        None
    }

    /// The announcements that concern it: a pipe's reader is not told of room.
    fn concerns(_file: &File) -> u16 {
        ANY
    }

    /// The open file that a mapping of it is of; `None` is memory of no file. `ENODEV` if it cannot be
    /// mapped.
    fn map(_file: &File, _id: FileId) -> Result<Option<FileId>, Errno> {
        Err(Errno::ENODEV)
    }

    /// Its last reference is gone: how it goes.
    fn closing(_k: &mut Files, _id: FileId) -> Closing {
        Closing::AtOnce
    }

    /// Lets go of some of what it holds; `true` if no more is left.
    fn empty(_k: &mut Files, _p: &mut Ports<'_>, _id: FileId) -> bool {
        true
    }

    /// Gives back what it stood for. `kind` has been taken out of the file, which is nothing but a place
    /// now.
    fn release(_k: &mut Files, _p: &mut Ports<'_>, _id: FileId, _kind: FileKind) {}
}

/// What is done with an open file of a kind for the one who calls.
///
/// Access modes, ranges and positions of files without any have been looked at by the callers
/// ([`rw::read`](super::rw::read)).
pub(crate) trait FileOps<K: FileCallers>: OpenFile {
    /// Reads into user memory: how many bytes. `EINVAL` if it cannot be read.
    fn read(_cx: &mut Cx<'_, '_, K>, _id: FileId, _iov: &mut Iov, _how: How) -> SysResult {
        Err(Errno::EINVAL.into())
    }

    /// Writes from user memory: how many bytes. `EINVAL` if it cannot be written.
    fn write(_cx: &mut Cx<'_, '_, K>, _id: FileId, _iov: &mut Iov, _how: How) -> SysResult {
        Err(Errno::EINVAL.into())
    }

    /// Moves its position (lseek(2)); `whence` is a known one. Linux lets files without one be moved, to
    /// where they are (`noop_llseek()`).
    fn seek(_cx: &mut Cx<'_, '_, K>, _id: FileId, _offset: i64, _whence: u32) -> SysResult {
        Ok(0)
    }

    /// At most `len` bytes from a position on for another file, none at its end (splice(2), sendfile(2)).
    /// `EINVAL` if they can be read by programs only.
    fn splice_read(
        _cx: &mut Cx<'_, '_, K>,
        _id: FileId,
        _at: u64,
        _len: u64,
    ) -> Result<Vec<u8>, Errno> {
        Err(Errno::EINVAL)
    }

    /// Writes bytes of another file: how many. A wait when none can be written now; `data` is not looked at
    /// while a host operation is under way. `EINVAL`.
    fn splice_write(_cx: &mut Cx<'_, '_, K>, _id: FileId, _data: Vec<u8>, _how: How) -> SysResult {
        Err(Errno::EINVAL.into())
    }

    /// What it is ready for, as a thread sees it (poll(2)). `depth` is how many epoll files the question
    /// came through. A standard stream of the host is always ready for writing; whether it can be read, only
    /// the host knows.
    fn ready(_k: &K, _thread: ThreadId, _id: FileId, _depth: u32) -> u16 {
        IN | OUT
    }

    /// Where its changes are announced, as a thread waits for them; `None` if it is always ready.
    fn key(_k: &K, _thread: ThreadId, _id: FileId) -> Option<WaitKey> {
        None
    }

    /// The program has been told what it is ready for: a change is told of once.
    fn told(_k: &mut K, _thread: ThreadId, _id: FileId) {}

    /// Whether it can be waited for with epoll(7) (`file_can_poll` of Linux).
    fn can_wait(_k: &K, _file: &File) -> bool {
        true
    }

    /// Answers a request of ioctl(2); `None` for those that it does not know. `arg` is its argument.
    fn ioctl(_cx: &mut Cx<'_, '_, K>, _id: FileId, _request: u32, _arg: u64) -> Option<SysResult> {
        None
    }

    /// Bytes that can be read at once (`FIONREAD`). `ENOTTY` if it does not tell.
    fn available(_cx: &mut Cx<'_, '_, K>, _id: FileId) -> Result<i64, Stop> {
        Err(Errno::ENOTTY.into())
    }

    /// The lines that it adds to `/proc/PID/fdinfo`, for a reader in a namespace of processes.
    fn fdinfo(_k: &K, _file: &File, _ns: NsId) -> String {
        String::new()
    }
}

/// The answer of what implements the traits for a kind: a function of [`OpenFile`], with `const` a constant
/// or the function itself, with a `K` a function of [`FileOps`].
macro_rules! of_kind {
    ($kind:expr, $($answer:tt)+) => {
        of_kind!(@ above::Made, above::Memory, above::PageMap, above::Process, above::Signals;
            OpenFile; $kind; $($answer)+)
    };
    (K; $kind:expr, $($answer:tt)+) => {
        of_kind!(@ K::Made, K::Memory, K::PageMap, K::Process, K::Signals;
            FileOps<K>; $kind; $($answer)+)
    };
    (@ $made:ty, $memory:ty, $page_map:ty, $process:ty, $signals:ty;
        $ops:ty; $kind:expr; $($answer:tt)+) => {
        match $kind {
            FileKind::Regular => of_kind!(= regular::Ops, $ops, $($answer)+),
            FileKind::Directory => of_kind!(= directory::Ops, $ops, $($answer)+),
            FileKind::Pipe(_) => of_kind!(= pipe::Ops, $ops, $($answer)+),
            FileKind::Socket(_) => of_kind!(= socket::ops::Ops, $ops, $($answer)+),
            FileKind::MessageQueue(_) => of_kind!(= mqueue::Ops, $ops, $($answer)+),
            FileKind::Device(_) => of_kind!(= device::Ops, $ops, $($answer)+),
            FileKind::Made(_) => of_kind!(= $made, $ops, $($answer)+),
            FileKind::Memory(_) => of_kind!(= $memory, $ops, $($answer)+),
            FileKind::PageMap(_) => of_kind!(= $page_map, $ops, $($answer)+),
            FileKind::HostStream(_) => of_kind!(= stream::Ops, $ops, $($answer)+),
            FileKind::EventFd(_) => of_kind!(= eventfd::Ops, $ops, $($answer)+),
            FileKind::TimerFd(_) => of_kind!(= timerfd::Ops, $ops, $($answer)+),
            FileKind::SignalFd(_) => of_kind!(= $signals, $ops, $($answer)+),
            FileKind::PidFd(_) => of_kind!(= $process, $ops, $($answer)+),
            FileKind::Epoll(_) => of_kind!(= epoll::Ops, $ops, $($answer)+),
            FileKind::Inotify(_) => of_kind!(= inotify::Ops, $ops, $($answer)+),
            FileKind::Landlock(_) => of_kind!(= reference::Ruleset, $ops, $($answer)+),
            FileKind::Config(_) => of_kind!(= config::Ops, $ops, $($answer)+),
            FileKind::Namespace => of_kind!(= reference::Namespace, $ops, $($answer)+),
            FileKind::Path => of_kind!(= reference::Place, $ops, $($answer)+),
        }
    };
    (= $impl:ty, $ops:ty, const $name:ident) => { <$impl as OpenFile>::$name };
    (= $impl:ty, OpenFile, $name:ident($($arg:expr),*)) => { <$impl as OpenFile>::$name($($arg),*) };
    (= $impl:ty, $ops:ty, $name:ident($($arg:expr),*)) => { <$impl as $ops>::$name($($arg),*) };
}

impl FileKind {
    /// Whether reads and writes of it have a place, or it has neither: not those of pipes, streams and
    /// events.
    pub(crate) fn has_position(&self) -> bool {
        of_kind!(self, const POSITION)
    }

    /// Whether its positions are addresses.
    pub(crate) fn has_addresses(&self) -> bool {
        of_kind!(self, const ADDRESSES)
    }

    /// What a request of ioctl(2) gets that it does not know.
    pub(crate) fn no_request(&self) -> Errno {
        of_kind!(self, const NO_REQUEST)
    }
}

/// Where what signals are sent for is announced; `None` for files that send none.
pub(crate) fn signal_key(k: &Files, id: FileId) -> Option<WaitKey> {
    let file = super::at(k, id);
    of_kind!(&file.kind, signal_key(file, id))
}

/// The announcements that concern one open file.
pub(crate) fn concerns(file: &File) -> u16 {
    of_kind!(&file.kind, concerns(file))
}

/// The open file that a mapping of a file is of. `ENODEV`.
pub(crate) fn map(k: &Files, id: FileId) -> Result<Option<FileId>, Errno> {
    let file = super::at(k, id);
    of_kind!(&file.kind, map(file, id))
}

/// How a file goes whose last reference is gone.
pub(crate) fn closing(k: &mut Files, id: FileId) -> Closing {
    of_kind!(super::at(k, id).kind, closing(k, id))
}

/// Lets a closed file let go of some of what it holds; `true` if no more is left.
pub(crate) fn empty(k: &mut Files, p: &mut Ports<'_>, id: FileId) -> bool {
    of_kind!(super::at(k, id).kind, empty(k, p, id))
}

/// What a closed file stands for loses it: nothing but the place is left of those that hold something.
pub(crate) fn release(k: &mut Files, p: &mut Ports<'_>, id: FileId) {
    let kind = &super::at(k, id).kind;
    if of_kind!(kind, const HOLDS) {
        let release: fn(&mut Files, &mut Ports<'_>, FileId, FileKind) =
            of_kind!(kind, const release);
        empty(k, p, id);
        let kind = core::mem::replace(&mut super::at_mut(k, id).kind, FileKind::Path);
        release(k, p, id, kind);
    }
}

/// Reads what follows a position for another file ([`FileOps::splice_read`]).
pub(crate) fn splice_read<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    id: FileId,
    at: u64,
    len: u64,
) -> Result<Vec<u8>, Errno> {
    of_kind!(K; super::at(cx.k.files(), id).kind, splice_read(cx, id, at, len))
}

/// Writes what another file gave ([`FileOps::splice_write`]).
pub(crate) fn splice_write<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    id: FileId,
    data: Vec<u8>,
    how: How,
) -> SysResult {
    of_kind!(K; super::at(cx.k.files(), id).kind, splice_write(cx, id, data, how))
}

/// Reads into user memory ([`FileOps::read`]).
pub(super) fn read<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    id: FileId,
    iov: &mut Iov,
    how: How,
) -> SysResult {
    of_kind!(K; super::at(cx.k.files(), id).kind, read(cx, id, iov, how))
}

/// Writes from user memory ([`FileOps::write`]).
pub(super) fn write<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    id: FileId,
    iov: &mut Iov,
    how: How,
) -> SysResult {
    of_kind!(K; super::at(cx.k.files(), id).kind, write(cx, id, iov, how))
}

/// Moves a position ([`FileOps::seek`]).
pub(super) fn seek<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    id: FileId,
    offset: i64,
    whence: u32,
) -> SysResult {
    of_kind!(K; super::at(cx.k.files(), id).kind, seek(cx, id, offset, whence))
}

/// What a file is ready for ([`FileOps::ready`]); `POLLNVAL` if it is not open.
pub(crate) fn ready<K: FileCallers>(k: &K, thread: ThreadId, id: FileId, depth: u32) -> u16 {
    match k.files().file(id) {
        Some(file) => of_kind!(K; file.kind, ready(k, thread, id, depth)),
        None => super::ready::NVAL,
    }
}

/// Where a file's changes are announced ([`FileOps::key`]).
pub(crate) fn key<K: FileCallers>(k: &K, thread: ThreadId, id: FileId) -> Option<WaitKey> {
    of_kind!(K; k.files().file(id)?.kind, key(k, thread, id))
}

/// The program has been told what a file is ready for ([`FileOps::told`]).
pub(crate) fn told<K: FileCallers>(k: &mut K, thread: ThreadId, id: FileId) {
    if let Some(file) = k.files().file(id) {
        of_kind!(K; file.kind, told(k, thread, id));
    }
}

/// Whether a file can be waited for with epoll(7) ([`FileOps::can_wait`]).
pub(crate) fn can_wait<K: FileCallers>(k: &K, file: &File) -> bool {
    of_kind!(K; file.kind, can_wait(k, file))
}

/// Answers a request of ioctl(2) ([`FileOps::ioctl`]).
pub(crate) fn ioctl<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    id: FileId,
    request: u32,
    arg: u64,
) -> Option<SysResult> {
    of_kind!(K; super::at(cx.k.files(), id).kind, ioctl(cx, id, request, arg))
}

/// Bytes that can be read at once ([`FileOps::available`]).
pub(crate) fn available<K: FileCallers>(cx: &mut Cx<'_, '_, K>, id: FileId) -> Result<i64, Stop> {
    of_kind!(K; super::at(cx.k.files(), id).kind, available(cx, id))
}

/// What a file adds to `/proc/PID/fdinfo` ([`FileOps::fdinfo`]).
pub(crate) fn fdinfo<K: FileCallers>(k: &K, file: &File, ns: NsId) -> String {
    of_kind!(K; file.kind, fdinfo(k, file, ns))
}
