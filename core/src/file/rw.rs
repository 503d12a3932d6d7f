//! Reading and writing open files: between user memory and the place where a file's bytes are, without a
//! buffer in between.

use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;

use crate::abi::raw::general as g;
use crate::abi::{Errno, PAGE_SIZE};
use crate::env::wait::{Stop, SysResult, Wait};
use crate::event::{HostCall, HostResult};
use crate::file;
use crate::file::device::Device;
pub(crate) use crate::file::iov::{IOV_MAX, Iov};
use crate::file::{File, FileId, FileKind, Files, eventfd, inotify, pipe, signalfd, timerfd};
use crate::fs::filesystem::{Attr, InodeRef, SetAttr, Sought, Source, Time};
use crate::fs::inode;
use crate::ipc::mqueue;
use crate::kernel::{Cx, caller};
use crate::net::socket;
use crate::port::Ports;
use crate::task::signal;
use crate::vfs::perm::Who;
use crate::vfs::{node, perm};
use crate::views::proc;

/// Most bytes one call moves (`MAX_RW_COUNT`).
pub(crate) const MAX_RW: u64 = 0x7fff_f000;
/// Bytes that a call moves before it lets others have the kernel: about a millisecond's worth.
pub(crate) const PIECE: u64 = 4 << 20;
/// Bytes of a file that are looked for as one: what of them does not go to one place in memory is looked for
/// again.
const RUN: u64 = 65536;
/// Most bytes of one host operation.
const HOST_CHUNK: u64 = 65536;
/// Most bytes that one write to a file of `proc` takes.
const PROC_WRITE_MAX: u64 = 4096;

/// Reads bytes from where they are.
pub(crate) fn read_source(p: &Ports<'_>, from: Source, buf: &mut [u8]) -> Result<(), Errno> {
    match from {
        Source::Memory(offset) => p.memory.read(offset, buf),
        Source::Zero => buf.fill(0),
        Source::Image { image, offset } => {
            let block = p.images.image(image).ok_or(Errno::EIO)?;
            block.read_at(offset, buf)?;
        }
    }
    Ok(())
}

/// Adds bytes to the end of a buffer from where they are; nothing if they cannot be read.
pub(crate) fn append_to(
    p: &Ports<'_>,
    to: &mut Vec<u8>,
    from: Source,
    len: u64,
) -> Result<(), Errno> {
    let old = to.len();
    match from {
        Source::Memory(offset) => p.memory.append(offset, len as usize, to),
        Source::Zero => to.resize(old + len as usize, 0),
        Source::Image { image, offset } => {
            let block = p.images.image(image).ok_or(Errno::EIO)?;
            let end = offset.checked_add(len).ok_or(Errno::EIO)?;
            let bytes = block.slice();
            match bytes.and_then(|bytes| bytes.get(offset as usize..end as usize)) {
                Some(bytes) => to.extend_from_slice(bytes),
                None => {
                    to.resize(old + len as usize, 0);
                    let result = block.read_at(offset, &mut to[old..]);
                    return result.inspect_err(|_| to.truncate(old));
                }
            }
        }
    }
    Ok(())
}

/// Adds bytes to the end of a ring from where they are; nothing if they cannot be read.
pub(crate) fn append(
    p: &Ports<'_>,
    ring: &mut VecDeque<u8>,
    from: Source,
    len: u64,
) -> Result<(), Errno> {
    // An empty ring begins at its beginning, so that it is a buffer as it is: no room has to be zeroed first.
    if ring.is_empty() {
        ring.clear();
        let mut bytes = Vec::from(core::mem::take(ring));
        let result = append_to(p, &mut bytes, from, len);
        *ring = bytes.into();
        return result;
    }
    let old = ring.len();
    ring.resize(old + len as usize, 0);
    let (head, tail) = ring.as_mut_slices();
    let result = match head.len().checked_sub(old) {
        // The new bytes begin in the first slice and may go on in the second.
        Some(first) if first > 0 => {
            let first_result = read_source(p, from, &mut head[old..]);
            let behind = match from {
                Source::Memory(at) => Source::Memory(at + first as u64),
                Source::Image { image, offset } => Source::Image {
                    image,
                    offset: offset + first as u64,
                },
                Source::Zero => Source::Zero,
            };
            first_result.and_then(|()| read_source(p, behind, tail))
        }
        _ => {
            let skip = old - head.len();
            read_source(p, from, &mut tail[skip..])
        }
    };
    result.inspect_err(|_| ring.truncate(old))
}

/// Copies bytes to the memory file from where they are.
fn copy_source(p: &mut Ports<'_>, to: u64, from: Source, len: u64) -> Result<(), Errno> {
    match from {
        Source::Memory(offset) if offset.abs_diff(to) >= len => p.memory.copy(to, offset, len),
        Source::Zero => p.memory.zero(to, len),
        Source::Image { image, offset } => {
            let block = p.images.image(image).ok_or(Errno::EIO)?;
            let end = offset.checked_add(len).ok_or(Errno::EIO)?;
            let bytes = block
                .slice()
                .and_then(|slice| slice.get(offset as usize..end as usize));
            match bytes {
                Some(bytes) => p.memory.write(to, bytes),
                None => return copy_in_steps(p, to, from, len),
            }
        }
        // A file read into a mapping of itself.
        Source::Memory(_) => return copy_in_steps(p, to, from, len),
    }
    Ok(())
}

fn copy_in_steps(p: &mut Ports<'_>, to: u64, from: Source, len: u64) -> Result<(), Errno> {
    let mut buf = [0; 4096];
    let mut done = 0;
    while done < len {
        let step = (len - done).min(buf.len() as u64);
        let buf = &mut buf[..step as usize];
        let from = match from {
            Source::Memory(offset) => Source::Memory(offset + done),
            Source::Image { image, offset } => Source::Image {
                image,
                offset: offset + done,
            },
            Source::Zero => Source::Zero,
        };
        read_source(p, from, buf)?;
        p.memory.write(to + done, buf);
        done += step;
    }
    Ok(())
}

/// A range of bytes of a file with positions must end at the largest one at most (`rw_verify_area` of Linux).
/// `EINVAL`.
pub(crate) fn check_range(file: &File, at: u64, len: u64) -> Result<(), Errno> {
    // Addresses may lie in the upper half.
    let addresses = matches!(file.kind, FileKind::Memory(_) | FileKind::PageMap(_));
    let moves = has_position(&file.kind) && !addresses;
    match at.checked_add(len) {
        Some(end) if end <= i64::MAX as u64 => Ok(()),
        _ if moves => Err(Errno::EINVAL),
        _ => Ok(()),
    }
}

/// Whether reads and writes of a file have a place, or it has neither: not those of pipes, streams and
/// events.
pub(crate) fn has_position(kind: &FileKind) -> bool {
    matches!(
        kind,
        FileKind::Regular
            | FileKind::Directory
            | FileKind::Device(_)
            | FileKind::Proc(_)
            | FileKind::Memory(_)
            | FileKind::PageMap(_)
            | FileKind::MessageQueue(_)
            | FileKind::PidFd(_)
            | FileKind::Namespace
            | FileKind::Path
    )
}

/// How one call reads or writes beyond what its file's flags say (`RWF_`).
#[derive(Clone, Copy, Default)]
pub(crate) struct How {
    /// Position; `None` is the file's own, which moves.
    pub at: Option<u64>,
    /// Never wait (`RWF_NOWAIT`).
    pub no_wait: bool,
    /// `RWF_APPEND`, `RWF_NOAPPEND`
    pub append: Option<bool>,
    /// Not in pieces: for callers that have other uses for a call's progress.
    pub at_once: bool,
}

/// A long call that goes on in pieces, which the file's position follows: where a piece begins, and what
/// there is of it.
struct Piece {
    /// Bytes of the pieces before, which stand in the call's progress meanwhile.
    earlier: u64,
    /// Whether there are bytes after this piece.
    more: bool,
    len: u64,
}

impl Piece {
    /// Sets the vector to the next piece.
    fn next(cx: &mut Cx<'_, '_>, iov: &mut Iov, how: How) -> Piece {
        let earlier = match how.at_once {
            true => 0,
            false => cx.call().progress,
        };
        iov.advance(earlier);
        let more = !how.at_once && iov.left() > PIECE;
        if more {
            iov.limit(PIECE);
        }
        let len = iov.left();
        Piece { earlier, more, len }
    }

    /// What to give for the piece: all that is done, if this was the last one or it came to an end early, or
    /// else a wait that the next one comes after. Only calls on devices end early for a signal.
    fn end(&self, cx: &mut Cx<'_, '_>, moved: Result<u64, Errno>, device: bool) -> SysResult {
        let moved = match moved {
            Ok(moved) => moved,
            Err(_) if self.earlier > 0 => 0,
            Err(errno) => return Err(errno.into()),
        };
        let done = self.earlier + moved;
        if !self.more || moved < self.len {
            return Ok(done);
        }
        let mut wait = cx.others_first();
        wait.killable = !device;
        match device {
            true => block_after(cx, done, wait),
            false => {
                cx.call().progress = done;
                wait.into()
            }
        }
    }
}

/// Reads from an open file into user memory.
pub(crate) fn read(cx: &mut Cx<'_, '_>, id: FileId, iov: &mut Iov, how: How) -> Result<u64, Stop> {
    let file = file::at(cx.k, id);
    if !file.readable() {
        return Err(Errno::EBADF.into());
    }
    let no_wait = how.no_wait || file.flags & g::O_NONBLOCK != 0;
    let at = how.at.unwrap_or(file.offset);
    check_range(file, at, iov.left())?;
    let done = match (&file.kind, file.inode) {
        (FileKind::Regular, Some(inode)) => return read_pieces(cx, id, inode, iov, how),
        // Numbers of settings are read from their beginning or not at all (`proc_dointvec()`).
        (FileKind::Proc(_), Some(inode)) if at > 0 && proc::is_numbers(cx.k, inode) => 0,
        (FileKind::Proc(_), Some(inode)) => read_proc(cx, id, inode, iov, at, how.at_once)?,
        (&FileKind::Device(device), _) => {
            let piece = Piece::next(cx, iov, how);
            let moved = read_device(cx, device, iov);
            return piece.end(cx, moved, true);
        }
        (&FileKind::Pipe(pipe), _) => {
            return match how.at {
                None => pipe::read(cx, pipe, iov, no_wait),
                Some(_) => Err(Errno::ESPIPE.into()),
            };
        }
        (&FileKind::HostStream(stream), _) => {
            return match how.at {
                None => read_stream(cx, stream, iov, no_wait),
                Some(_) => Err(Errno::ESPIPE.into()),
            };
        }
        (&FileKind::MessageQueue(queue), _) => {
            let text = mqueue::text(cx, queue);
            let rest = text.as_bytes().get(at as usize..);
            iov.put(cx, rest.unwrap_or_default())?
        }
        (&FileKind::Memory(space), _) => {
            let piece = Piece::next(cx, iov, how);
            let at = match how.at {
                Some(at) => at.wrapping_add(piece.earlier),
                None => at,
            };
            let moved = proc::mem::read(cx, space, iov, at);
            if let (Ok(moved), None) = (moved, how.at) {
                file::at_mut(cx.k, id).offset = at.wrapping_add(moved);
            }
            return piece.end(cx, moved, false);
        }
        (&FileKind::PageMap(space), _) => proc::mem::read_pagemap(cx, space, iov, at)?,
        (FileKind::Directory, _) => return Err(Errno::EISDIR.into()),
        (FileKind::Path, _) => return Err(Errno::EBADF.into()),
        (FileKind::PidFd(_) | FileKind::Namespace, _) => {
            return Err(Errno::EINVAL.into());
        }
        _ if how.at.is_some() => return Err(Errno::ESPIPE.into()),
        (&FileKind::Socket(socket), _) => return socket::read(cx, socket, iov, no_wait),
        (FileKind::EventFd(_), _) => return eventfd::read(cx, id, iov, no_wait),
        (FileKind::TimerFd(_), _) => return timerfd::read(cx, id, iov, no_wait),
        (&FileKind::SignalFd(mask), _) => return signalfd::read(cx, mask, iov, no_wait),
        (FileKind::Inotify(_), _) => return inotify::read(cx, id, iov, no_wait),
        (FileKind::Config(_), _) => {
            let room = iov.left();
            let line = file::config::change(cx.k, id, |config, _| config.take_message(room))??;
            // As in Linux, what cannot be stored is lost.
            iov.put_all(cx, &line)?;
            return Ok(line.len() as u64);
        }
        (FileKind::Epoll(_) | FileKind::Landlock(_), _) => return Err(Errno::EINVAL.into()),
        _ => return Err(Errno::EBADF.into()),
    };
    if how.at.is_none() {
        file::at_mut(cx.k, id).offset = at + done;
    }
    if done > 0 {
        inotify::file_event(cx.k, cx.p, id, inotify::ACCESS);
    }
    Ok(done)
}

/// Writes from user memory to an open file.
pub(crate) fn write(cx: &mut Cx<'_, '_>, id: FileId, iov: &mut Iov, how: How) -> Result<u64, Stop> {
    let file = file::at(cx.k, id);
    if !file.writable() {
        return Err(Errno::EBADF.into());
    }
    let no_wait = how.no_wait || file.flags & g::O_NONBLOCK != 0;
    check_range(file, how.at.unwrap_or(file.offset), iov.left())?;
    match (&file.kind, file.inode) {
        (FileKind::Regular, Some(inode)) => write_pieces(cx, id, inode, iov, how),
        (FileKind::Proc(_), Some(inode)) => {
            let mut data = vec![0; iov.left().min(PROC_WRITE_MAX) as usize];
            let len = iov.take(cx, &mut data)?;
            match inode::kind(cx.k, inode.fs) {
                inode::FsKind::Proc => Ok(proc::write(
                    cx,
                    id,
                    inode.ino,
                    how.at,
                    &data[..len as usize],
                )?),
                _ => Err(Errno::EROFS.into()),
            }
        }
        (&FileKind::Memory(space), _) => {
            let at = how.at.unwrap_or(file.offset);
            let piece = Piece::next(cx, iov, how);
            let at = match how.at {
                Some(at) => at.wrapping_add(piece.earlier),
                None => at,
            };
            let moved = proc::mem::write(cx, space, iov, at);
            if let (Ok(moved), None) = (moved, how.at) {
                file::at_mut(cx.k, id).offset = at.wrapping_add(moved);
            }
            piece.end(cx, moved, false)
        }
        (&FileKind::Device(device), _) => match device {
            Device::Full if iov.left() > 0 => Err(Errno::ENOSPC.into()),
            _ => Ok(iov.left()),
        },
        (&FileKind::Pipe(pipe), _) => match how.at {
            None => {
                let packets = file.flags & g::O_DIRECT != 0;
                pipe::write(cx, pipe, iov, no_wait, packets)
            }
            Some(_) => Err(Errno::ESPIPE.into()),
        },
        (&FileKind::HostStream(stream), _) => match how.at {
            None => write_stream(cx, stream, iov),
            Some(_) => Err(Errno::ESPIPE.into()),
        },
        (FileKind::Path | FileKind::Directory, _) => Err(Errno::EBADF.into()),
        (FileKind::PidFd(_) | FileKind::Namespace, _) => Err(Errno::EINVAL.into()),
        _ if how.at.is_some() => Err(Errno::ESPIPE.into()),
        (&FileKind::Socket(socket), _) => socket::write(cx, socket, iov, no_wait),
        (FileKind::EventFd(_), _) => eventfd::write(cx, id, iov, no_wait),
        _ => Err(Errno::EINVAL.into()),
    }
}

/// Reads from a regular file.
fn read_pieces(
    cx: &mut Cx<'_, '_>,
    id: FileId,
    inode: InodeRef,
    iov: &mut Iov,
    how: How,
) -> SysResult {
    let piece = Piece::next(cx, iov, how);
    let at = match how.at {
        Some(at) => at + piece.earlier,
        None => file::at(cx.k, id).offset,
    };
    let moved = read_regular(cx, inode, iov, at);
    if let (Ok(moved), None) = (moved, how.at) {
        file::at_mut(cx.k, id).offset = at + moved;
    }
    let done = piece.end(cx, moved, false)?;
    if done > 0 {
        inotify::file_event(cx.k, cx.p, id, inotify::ACCESS);
    }
    Ok(done)
}

/// Writes to a regular file.
fn write_pieces(
    cx: &mut Cx<'_, '_>,
    id: FileId,
    inode: InodeRef,
    iov: &mut Iov,
    how: How,
) -> SysResult {
    let piece = Piece::next(cx, iov, how);
    let file = file::at(cx.k, id);
    let append = how.append.unwrap_or(file.flags & g::O_APPEND != 0);
    let at = match how.at {
        Some(at) => at + piece.earlier,
        None => file.offset,
    };
    let moved = match piece.earlier > 0 && at >= caller::rlimit(cx, g::RLIMIT_FSIZE) {
        // The limit cuts a write short that began below it, without a signal.
        true => Ok((0, at)),
        false => write_regular(cx, inode, iov, at, append),
    };
    if let (Ok((_, end)), None) = (moved, how.at) {
        file::at_mut(cx.k, id).offset = end;
    }
    let done = piece.end(cx, moved.map(|(moved, _)| moved), false)?;
    if done > 0 {
        inotify::file_event(cx.k, cx.p, id, inotify::MODIFY);
    }
    Ok(done)
}

fn read_regular(
    cx: &mut Cx<'_, '_>,
    inode: InodeRef,
    iov: &mut Iov,
    start: u64,
) -> Result<u64, Errno> {
    let mut at = start;
    while iov.left() > 0 {
        let most = iov.left().min(RUN);
        let extent = match inode::extent(cx.k, cx.p, inode, at, most) {
            Ok(Some(extent)) => extent,
            Ok(None) => break,
            Err(_) if at > start => break,
            Err(errno) => return Err(errno),
        };
        // Faulting in a page of a shared mapping of this file may copy the page, but changes no byte of it.
        let (to, len) = match iov.run(cx, extent.len, true) {
            Ok(Some((Source::Memory(to), len))) => (to, len),
            Ok(_) => break,
            Err(_) if at > start => break,
            Err(errno) => return Err(errno),
        };
        match copy_source(cx.p, to, extent.source, len) {
            Ok(()) => {}
            Err(_) if at > start => break,
            Err(errno) => return Err(errno),
        }
        iov.advance(len);
        at += len;
    }
    Ok(at - start)
}

/// Reads bytes of a regular file into the kernel; short at its end.
pub(crate) fn read_inode(
    k: &mut Files,
    p: &mut Ports<'_>,
    inode: InodeRef,
    offset: u64,
    buf: &mut [u8],
) -> Result<usize, Errno> {
    let mut done = 0;
    while done < buf.len() {
        let at = offset.checked_add(done as u64).ok_or(Errno::EINVAL)?;
        let left = (buf.len() - done) as u64;
        let Some(extent) = inode::extent(k, p, inode, at, left)? else {
            break;
        };
        let len = extent.len.min(left) as usize;
        read_source(p, extent.source, &mut buf[done..done + len])?;
        done += len;
    }
    Ok(done)
}

/// Bytes of a regular file, at most `len`; fewer at its end.
pub(crate) fn read_bytes(
    k: &mut Files,
    p: &mut Ports<'_>,
    inode: InodeRef,
    offset: u64,
    len: u64,
) -> Result<Vec<u8>, Errno> {
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < len {
        let done = bytes.len() as u64;
        let at = offset.checked_add(done).ok_or(Errno::EINVAL)?;
        let Some(extent) = inode::extent(k, p, inode, at, len - done)? else {
            break;
        };
        append_to(p, &mut bytes, extent.source, extent.len.min(len - done))?;
    }
    Ok(bytes)
}

/// Whether a file may grow to this size (`RLIMIT_FSIZE`).
pub(crate) fn check_size(cx: &mut Cx<'_, '_>, attr: &Attr, size: u64) -> Result<(), Errno> {
    if size > attr.size && size > caller::rlimit(cx, g::RLIMIT_FSIZE) {
        caller::raise(cx, g::SIGXFSZ);
        return Err(Errno::EFBIG);
    }
    Ok(())
}

/// Where a write goes, after the limits of file sizes: the position, and how many bytes may be written.
fn write_limits(
    cx: &mut Cx<'_, '_>,
    inode: InodeRef,
    attr: &Attr,
    at: u64,
    len: u64,
    append: bool,
) -> Result<(u64, u64), Errno> {
    let at = if append { attr.size } else { at };
    let limit = caller::rlimit(cx, g::RLIMIT_FSIZE);
    if at >= limit {
        caller::raise(cx, g::SIGXFSZ);
        return Err(Errno::EFBIG);
    }
    let room = limit.min(i64::MAX as u64).saturating_sub(at);
    if room == 0 {
        return Err(Errno::EFBIG);
    }
    let len = cx.k.fs.seals.check_write(inode, attr, at, len.min(room))?;
    Ok((at, len))
}

/// What a write leaves behind: new size, modification time, no set-id bits.
fn written(
    k: &mut Files,
    p: &mut Ports<'_>,
    who: &Who,
    inode: InodeRef,
    attr: &Attr,
    end: u64,
) -> Result<(), Errno> {
    let set = SetAttr {
        size: (end > attr.size).then_some(end),
        mtime: Some(Time::from_nanos(k.env.now.real)),
        ..perm::after_write(k, who, attr)
    };
    inode::set_attr(k, p, inode, &set)
}

/// Writes; gives the number of bytes and the position behind them.
fn write_regular(
    cx: &mut Cx<'_, '_>,
    inode: InodeRef,
    iov: &mut Iov,
    at: u64,
    append: bool,
) -> Result<(u64, u64), Errno> {
    let who = &cx.who();
    if iov.left() == 0 {
        return Ok((0, at));
    }
    let attr = node::attr(cx.k, cx.p, inode)?;
    let (start, len) = write_limits(cx, inode, &attr, at, iov.left(), append)?;
    iov.limit(len);
    let mut at = start;
    let mut result = Ok(());
    while iov.left() > 0 {
        let room = PAGE_SIZE - at % PAGE_SIZE;
        // Look at the source first, so that nothing is made for bytes that cannot be read; making the page
        // may move it.
        result = iov
            .run(cx, room, false)
            .and_then(|_| inode::page_for_write(cx.k, cx.p, inode, at / PAGE_SIZE))
            .and_then(|frame| {
                let to = frame.offset() + at % PAGE_SIZE;
                match iov.run(cx, room, false)? {
                    Some((from, len)) => copy_source(cx.p, to, from, len).map(|()| len),
                    None => Ok(0),
                }
            })
            .map(|len| {
                iov.advance(len);
                at += len;
            });
        if result.is_err() {
            break;
        }
    }
    if at == start {
        // Privileges go before anything is looked at that may fail.
        written(cx.k, cx.p, who, inode, &attr, attr.size)?;
        result?;
    } else {
        written(cx.k, cx.p, who, inode, &attr, at)?;
    }
    Ok((at - start, at))
}

/// Writes bytes of the kernel to a regular file for the current task: how many could be. Same rules as
/// write(2).
pub(crate) fn write_inode(
    cx: &mut Cx<'_, '_>,
    inode: InodeRef,
    at: u64,
    data: &[u8],
) -> Result<u64, Errno> {
    let who = &cx.who();
    if data.is_empty() {
        return Ok(0);
    }
    let attr = node::attr(cx.k, cx.p, inode)?;
    let (start, len) = write_limits(cx, inode, &attr, at, data.len() as u64, false)?;
    let mut rest = &data[..len as usize];
    let mut at = start;
    while !rest.is_empty() {
        let within = at % PAGE_SIZE;
        let frame = match inode::page_for_write(cx.k, cx.p, inode, at / PAGE_SIZE) {
            Ok(frame) => frame,
            Err(_) if at > start => break,
            Err(errno) => return Err(errno),
        };
        let (part, behind) = rest.split_at(rest.len().min((PAGE_SIZE - within) as usize));
        cx.p.memory.write(frame.offset() + within, part);
        at += part.len() as u64;
        rest = behind;
    }
    written(cx.k, cx.p, who, inode, &attr, at)?;
    Ok(at - start)
}

fn read_proc(
    cx: &mut Cx<'_, '_>,
    id: FileId,
    inode: InodeRef,
    iov: &mut Iov,
    at: u64,
    at_once: bool,
) -> Result<u64, Errno> {
    let len = iov.left();
    let put = |cx: &mut Cx<'_, '_>, bytes: &[u8]| iov.put(cx, bytes);
    with_shown(cx, id, inode, (at, len), at_once, put)
}

/// What of the content of a file that the kernel makes is there between a position and a length behind it.
/// `LATER` if it is not made yet.
pub(crate) fn with_shown<R>(
    cx: &mut Cx<'_, '_>,
    id: FileId,
    inode: InodeRef,
    (at, len): (u64, u64),
    at_once: bool,
    run: impl FnOnce(&mut Cx<'_, '_>, &[u8]) -> Result<R, Errno>,
) -> Result<R, Errno> {
    let who = &cx.who();
    let going_on = core::mem::take(&mut cx.call().goes_on);
    let old = file::at(cx.k, id).content_bytes();
    let FileKind::Proc(shown) = &mut file::at_mut(cx.k, id).kind else {
        return Err(Errno::EIO);
    };
    let mut shown = core::mem::take(shown);
    if shown.is_past(at) && !going_on {
        let space = shown.space;
        let there = space.map_or(Ok(true), |space| proc::has_space(cx.k, inode.ino, space));
        let made = match (there, proc::opened(cx.k, cx.thread, id, inode)) {
            (Err(errno), _) => Err(errno),
            (Ok(false), _) => Ok(proc::Shown::default()),
            (Ok(true), Some(text)) => Ok(proc::Shown::whole(text)),
            (Ok(true), None) => node::content(cx.k, cx.p, who, inode),
        };
        match made {
            Ok(made) => *shown = made.about(space),
            Err(errno) => {
                file::at_mut(cx.k, id).kind = FileKind::Proc(shown);
                return Err(errno);
            }
        }
    }
    let thread = cx.thread;
    let result = match shown.make(cx.k, cx.p, thread, at, len, !at_once) {
        true => {
            let bytes = shown.from(at);
            run(cx, &bytes[..bytes.len().min(len as usize)])
        }
        false => {
            cx.call().goes_on = true;
            Err(Errno::LATER)
        }
    };
    let new = shown.bytes();
    file::ready::was_read(cx.k, id);
    file::at_mut(cx.k, id).kind = FileKind::Proc(shown);
    cx.k.files.contents = cx.k.files.contents + new - old;
    result
}

fn read_device(cx: &mut Cx<'_, '_>, device: Device, iov: &mut Iov) -> Result<u64, Errno> {
    let mut done = 0;
    if device == Device::Null {
        return Ok(0);
    }
    let mut buf = [0; 256];
    while iov.left() > 0 {
        let (to, len) = match iov.run(cx, u64::MAX, true) {
            Ok(Some((Source::Memory(to), len))) => (to, len),
            Ok(_) => break,
            Err(_) if done > 0 => break,
            Err(errno) => return Err(errno),
        };
        if matches!(device, Device::Random | Device::Urandom) {
            let mut at = 0;
            while at < len {
                let part = &mut buf[..(len - at).min(256) as usize];
                cx.k.env.rng.fill(part);
                cx.p.memory.write(to + at, part);
                at += part.len() as u64;
            }
        } else {
            cx.p.memory.zero(to, len);
        }
        iov.advance(len);
        done += len;
    }
    Ok(done)
}

/// Blocks, or ends the call with what it has done so far if a signal is waiting and nothing is under way on
/// the host.
pub(crate) fn block_after(cx: &mut Cx<'_, '_>, done: u64, wait: Wait) -> Result<u64, Stop> {
    let under_way = cx.call().op.is_some();
    if done > 0 && !under_way && signal::interrupts(cx.k, cx.thread, false) {
        return Ok(done);
    }
    cx.call().progress = done;
    wait.into()
}

/// How long a call that must not wait gives the host to say whether a stream is ready.
pub(crate) const STREAM_GRACE: u64 = 1_000_000;

/// Asks the host whether a stream is ready without waiting for it. `None`: it is not.
pub(crate) fn stream_ready(
    cx: &mut Cx<'_, '_>,
    stream: u8,
    events: u16,
    timeout: u64,
) -> Result<Option<u16>, Stop> {
    let deadline = cx.call().entered.mono.saturating_add(timeout);
    match cx.host(HostCall::Poll { stream, events }) {
        Ok(HostResult::Ready(ready)) => Ok(Some(ready)),
        Ok(_) => Err(Errno::EIO.into()),
        Err(Stop::Block(wait)) => match cx.now().mono >= deadline {
            true => Ok(None),
            false => Err(Stop::Block(wait.until(Some(deadline)))),
        },
        Err(stop) => Err(stop),
    }
}

fn read_stream(cx: &mut Cx<'_, '_>, stream: u8, iov: &mut Iov, no_wait: bool) -> Result<u64, Stop> {
    if iov.left() == 0 {
        return Ok(0);
    }
    // Bytes that the host gave must not be lost to a bad address.
    iov.run(cx, 1, true)?;
    if no_wait && cx.call().progress == 0 {
        match stream_ready(cx, stream, g::POLLIN as u16, STREAM_GRACE)? {
            Some(_) => cx.call().progress = 1,
            None => return Err(Errno::EAGAIN.into()),
        }
    }
    let len = iov.left().min(HOST_CHUNK) as u32;
    match cx.host(HostCall::Read { stream, len })? {
        HostResult::Data(data) => Ok(iov.put(cx, &data)?),
        _ => Err(Errno::EIO.into()),
    }
}

fn write_stream(cx: &mut Cx<'_, '_>, stream: u8, iov: &mut Iov) -> Result<u64, Stop> {
    if iov.left() == 0 {
        return Ok(0);
    }
    let mut done = cx.call().progress;
    iov.advance(done);
    // Where the host takes little at a time, little more than that is copied for it.
    let mut chunk = HOST_CHUNK;
    while iov.left() > 0 {
        let mut data = Vec::new();
        if cx.call().op.is_none() {
            data = vec![0; iov.left().min(chunk) as usize];
            match iov.clone().take(cx, &mut data) {
                Ok(len) => data.truncate(len as usize),
                Err(errno) if done == 0 => return Err(errno.into()),
                Err(_) => return Ok(done),
            }
        }
        match cx.host(HostCall::Write { stream, data }) {
            Ok(HostResult::Count(len)) if len > 0 => {
                let len = len.min(iov.left());
                chunk = (2 * len).min(HOST_CHUNK);
                iov.advance(len);
                done += len;
            }
            Ok(_) => return Err(Errno::EIO.into()),
            Err(Stop::Block(wait)) => return block_after(cx, done, wait),
            Err(Stop::Errno(Errno::EPIPE)) => {
                caller::raise(cx, g::SIGPIPE);
                return match done {
                    0 => Err(Errno::EPIPE.into()),
                    done => Ok(done),
                };
            }
            Err(_) if done > 0 => return Ok(done),
            Err(stop) => return Err(stop),
        }
    }
    Ok(done)
}

/// Moves the position of a file (lseek(2)).
pub(crate) fn seek(cx: &mut Cx<'_, '_>, id: FileId, offset: i64, whence: u32) -> Result<u64, Stop> {
    // Whatever the file is.
    if whence > g::SEEK_HOLE {
        return Err(Errno::EINVAL.into());
    }
    let file = file::at(cx.k, id);
    let current = file.offset as i64;
    let inode = file.inode;
    let max = i64::MAX;
    let base = match (&file.kind, whence) {
        (&FileKind::HostStream(stream), _) => {
            let seekable =
                cx.k.env.stdio.get(usize::from(stream)) == Some(&crate::boot::Stdio::File);
            if !seekable {
                return Err(Errno::ESPIPE.into());
            }
            if whence > g::SEEK_END {
                return Err(Errno::EINVAL.into());
            }
            let call = HostCall::Seek {
                stream,
                offset,
                whence: whence as u8,
            };
            return match cx.host(call)? {
                HostResult::Count(at) => Ok(at),
                _ => Err(Errno::EIO.into()),
            };
        }
        (
            FileKind::Pipe(_)
            | FileKind::Socket(_)
            | FileKind::PidFd(_)
            | FileKind::Namespace
            | FileKind::Landlock(_)
            | FileKind::Config(_),
            _,
        ) => return Err(Errno::ESPIPE.into()),
        // Addresses may lie in the upper half (mem_lseek()).
        (FileKind::Memory(_) | FileKind::PageMap(_), whence) => {
            let base = match whence {
                g::SEEK_SET => 0,
                g::SEEK_CUR => file.offset,
                _ => return Err(Errno::EINVAL.into()),
            };
            let at = base.wrapping_add_signed(offset);
            file::at_mut(cx.k, id).offset = at;
            return Ok(at);
        }
        // Linux lets these be moved, to where they are (noop_llseek()).
        (kind, _) if !has_position(kind) => return Ok(0),
        (FileKind::Device(_), _) => return Ok(0),
        (FileKind::Path, _) => return Err(Errno::EBADF.into()),
        (_, g::SEEK_SET) => 0,
        (_, g::SEEK_CUR) => current,
        (FileKind::Regular, g::SEEK_END) => {
            let inode = inode.ok_or(Errno::EINVAL)?;
            node::attr(cx.k, cx.p, inode)?.size as i64
        }
        (FileKind::Directory, g::SEEK_END) => max,
        (FileKind::Regular, g::SEEK_DATA | g::SEEK_HOLE) => {
            let inode = inode.ok_or(Errno::EINVAL)?;
            let first = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
            // What lies before has been looked at.
            let from = first.max(cx.call().progress);
            let at = match inode::seek(cx.k, cx.p, inode, from, whence == g::SEEK_DATA)? {
                Sought::At(at) => at,
                Sought::Later(at) => return Err(cx.give_way(at)),
            };
            file::at_mut(cx.k, id).offset = at;
            return Ok(at);
        }
        _ => return Err(Errno::EINVAL.into()),
    };
    let at = match whence == g::SEEK_END && base == max {
        true if offset == 0 => max,
        true => return Err(Errno::EINVAL.into()),
        false => base.checked_add(offset).ok_or(Errno::EINVAL)?,
    };
    let at = u64::try_from(at).map_err(|_| Errno::EINVAL)?;
    file::at_mut(cx.k, id).offset = at;
    Ok(at)
}
