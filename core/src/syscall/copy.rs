//! Moving data between files inside the kernel.

use super::missing::known;
use crate::file::caller::FileCallers;
use crate::file::ops;
use crate::file::regular;
use alloc::vec::Vec;

use crate::abi::raw::general as g;
use crate::abi::{Errno, PAGE_SIZE};
use crate::args::*;
use crate::env::wait::{Blocking, Stop, SysResult, Turn, Wait, WaitKey};
use crate::event::{HostCall, HostResult};
use crate::file;
use crate::file::pipe::{Passing, PipeId};
use crate::file::{FileId, FileKind, fdtable, inotify, pipe, rw};
use crate::fs::InodeRef;
use crate::kernel::Cx;
use crate::net::socket;
use crate::net::socket::SocketId;
use crate::vfs::node;

/// Most bytes moved in one step.
const CHUNK: u64 = 65536;

/// Reads a position that a call was given by address. `None` for a null address.
fn read_offset(cx: &mut Cx<'_, '_>, addr: Addr) -> Result<Option<u64>, Errno> {
    if addr.0 == 0 {
        return Ok(None);
    }
    let offset: i64 = cx.read_obj(addr.0)?;
    Ok(Some(u64::try_from(offset).map_err(|_| Errno::EINVAL)?))
}

/// Lengths that are negative as signed numbers are refused (`rw_verify_area` of Linux). `EINVAL`.
fn check_length(len: u64) -> Result<(), Errno> {
    match i64::try_from(len) {
        Ok(_) => Ok(()),
        Err(_) => Err(Errno::EINVAL),
    }
}

/// Bytes of a file with positions, at most a chunk; empty at its end.
fn read_chunk(cx: &mut Cx<'_, '_>, id: FileId, at: u64, len: u64) -> Result<Vec<u8>, Errno> {
    let buf = ops::splice_read(cx, id, at, len.min(CHUNK))?;
    if !buf.is_empty() {
        inotify::file_event(cx.k, cx.p, id, inotify::ACCESS);
    }
    Ok(buf)
}

/// Writes bytes of the kernel to a file: how many. `Block` when nothing can be written now; `data` is not
/// looked at while a host operation is under way.
fn write_chunk(
    cx: &mut Cx<'_, '_>,
    id: FileId,
    at: Option<u64>,
    data: Vec<u8>,
    blocking: Blocking,
) -> SysResult {
    let how = rw::How {
        at,
        blocking: blocking.and(file::at(cx.k, id).flags),
        ..rw::How::default()
    };
    ops::splice_write(cx, id, data, how)
}

/// Waits until a pipe that is written to has a free slot: bytes that fit in its free slots.
fn pipe_room(cx: &mut Cx<'_, '_>, id: PipeId, blocking: Blocking) -> Result<u64, Stop> {
    let pipe = cx.k.files.pipes.get(id).ok_or(Errno::EBADF)?;
    if pipe.readers == 0 {
        cx.k.raise(cx.thread, g::SIGPIPE);
        return Err(Errno::EPIPE.into());
    }
    match pipe.ring.room_from(0) {
        0 if blocking == Blocking::Fails => Err(Errno::EAGAIN.into()),
        0 => Wait::on(WaitKey::Turn(Turn::PipeRoom(id.0))).into(),
        room => Ok(room as u64),
    }
}

/// Bytes in a pipe, at least 1; 0 at its end. Waits for them.
fn pipe_filled(cx: &mut Cx<'_, '_>, id: PipeId, blocking: Blocking) -> Result<u64, Stop> {
    let pipe = cx.k.files.pipes.get(id).ok_or(Errno::EBADF)?;
    match pipe.ring.len() {
        0 if pipe.writers == 0 => Ok(0),
        0 if blocking == Blocking::Fails => Err(Errno::EAGAIN.into()),
        0 => Wait::on(WaitKey::Turn(Turn::PipeBytes(id.0))).into(),
        len => Ok(len as u64),
    }
}

/// The first bytes of a pipe, at most a chunk.
fn pipe_front(cx: &Cx<'_, '_>, id: PipeId, len: u64) -> Vec<u8> {
    let pipe = cx.k.files.pipes.get(id);
    pipe.map(|pipe| pipe.ring.copy(len.min(CHUNK) as usize))
        .unwrap_or_default()
}

/// Fills a pipe from a file with positions, as far as there are free slots: how many bytes. Pages of a
/// regular file are lent as they are, other bytes are copied into pages of their own.
fn fill_pipe(
    cx: &mut Cx<'_, '_>,
    input: FileId,
    at: u64,
    to: PipeId,
    len: u64,
    blocking: Blocking,
) -> SysResult {
    let room = pipe_room(cx, to, blocking)?;
    let file = file::at(cx.k, input);
    let regular = matches!(file.kind, FileKind::Regular);
    let at_once = matches!(file.kind, FileKind::Made(_));
    let start = match regular && !file.flags.contains(OpenFlags::DIRECT) {
        true => at % PAGE_SIZE,
        false => 0,
    };
    let most = len.min(room - start).min(rw::PIECE);
    let mut done = 0;
    while done < most {
        // Chunks end with a page.
        let chunk = CHUNK - (start + done) % PAGE_SIZE;
        match read_chunk(cx, input, at + done, chunk.min(most - done)) {
            Ok(bytes) if bytes.is_empty() => break,
            Ok(bytes) => {
                pipe::append(cx.k, to, &bytes, start + done);
                done += bytes.len() as u64;
            }
            Err(_) if done > 0 => break,
            Err(errno) => return Err(errno.into()),
        }
        if at_once {
            break;
        }
    }
    Ok(done)
}

/// Empties a pipe into a file that takes bytes at once, up to `len`: how many.
fn drain_pipe(
    cx: &mut Cx<'_, '_>,
    from: PipeId,
    output: FileId,
    at: Option<u64>,
    len: u64,
) -> SysResult {
    let most = len.min(rw::PIECE);
    let mut done = 0;
    while done < most {
        let chunk = pipe_front(cx, from, most - done);
        let wanted = chunk.len() as u64;
        if wanted == 0 {
            break;
        }
        let at = at.map(|at| at + done);
        let moved = match write_chunk(cx, output, at, chunk, Blocking::Fails) {
            Ok(moved) => moved,
            Err(_) if done > 0 => break,
            Err(stop) => return Err(stop),
        };
        pipe::consume(cx.k, from, moved);
        done += moved;
        if moved < wanted {
            break;
        }
    }
    Ok(done)
}

pub(super) fn sendfile(
    cx: &mut Cx<'_, '_>,
    out_fd: Fd,
    in_fd: Fd,
    offset: Addr,
    count: Size,
) -> SysResult {
    let given = read_offset(cx, offset)?;
    let input = fdtable::get(cx, in_fd.0)?;
    let from = file::at(cx.k, input);
    if !from.readable() {
        return Err(Errno::EBADF.into());
    }
    if matches!(
        from.kind,
        FileKind::Pipe(_) | FileKind::Socket(_) | FileKind::HostStream(_)
    ) {
        return Err(match given {
            Some(_) => Errno::ESPIPE,
            None => Errno::EINVAL,
        }
        .into());
    }
    let start = given.unwrap_or(from.offset);
    check_length(count.0)?;
    rw::check_range(from, start, count.0)?;
    let output = fdtable::get(cx, out_fd.0)?;
    let to = file::at(cx.k, output);
    if !to.writable() {
        return Err(Errno::EBADF.into());
    }
    rw::check_range(to, to.offset, count.0)?;
    if to.flags.contains(OpenFlags::APPEND) {
        return Err(Errno::EINVAL.into());
    }
    let count = count.0.min(rw::MAX_RW);
    let (kind, blocking) = (&to.kind, to.flags.into());
    if let &FileKind::Pipe(pipe) = kind {
        if count == 0 {
            return Ok(0);
        }
        let moved = fill_pipe(cx, input, start, pipe, count, blocking)?;
        match given {
            Some(_) => cx.write_obj(offset.0, &(start + moved))?,
            None => file::at_mut(cx.k, input).offset = start + moved,
        }
        return Ok(moved);
    }
    let mut done = cx.call().progress;
    let piece = done.saturating_add(rw::PIECE);
    let mut result = Ok(());
    while done < count {
        if done >= piece && cx.call().op.is_none() {
            let wait = cx.others_first();
            done = cx.block_after(done, wait)?;
            break;
        }
        // While the host writes a chunk, the chunk is its own.
        let chunk = match cx.call().op {
            Some(_) => Vec::new(),
            None => match read_chunk(cx, input, start + done, count - done) {
                Ok(chunk) if chunk.is_empty() => break,
                Ok(chunk) => chunk,
                Err(errno) => {
                    result = Err(Stop::Errno(errno));
                    break;
                }
            },
        };
        match write_chunk(cx, output, None, chunk, Blocking::Waits) {
            Ok(0) => break,
            Ok(len) => done += len,
            Err(Stop::Block(wait)) => {
                done = cx.block_after(done, wait)?;
                break;
            }
            Err(stop) => {
                result = Err(stop);
                break;
            }
        }
    }
    if done == 0 {
        result?;
    }
    match given {
        Some(_) => cx.write_obj(offset.0, &(start + done))?,
        None => file::at_mut(cx.k, input).offset = start + done,
    }
    Ok(done)
}

pub(super) fn splice(
    cx: &mut Cx<'_, '_>,
    fd_in: Fd,
    off_in: Addr,
    fd_out: Fd,
    off_out: Addr,
    len: Size,
    flags: SpliceFlags,
) -> SysResult {
    if len.0 == 0 {
        return Ok(0);
    }
    let flags = known(cx, flags)?;
    let blocking = Blocking::from(flags);
    let input = fdtable::get(cx, fd_in.0)?;
    let output = fdtable::get(cx, fd_out.0)?;
    if !file::at(cx.k, input).readable() || !file::at(cx.k, output).writable() {
        return Err(Errno::EBADF.into());
    }
    let pipe_of = |cx: &Cx<'_, '_>, id| match file::at(cx.k, id).kind {
        FileKind::Pipe(pipe) => Some(pipe),
        _ => None,
    };
    let (from, to) = (pipe_of(cx, input), pipe_of(cx, output));
    if from.is_some() && off_in.0 != 0 || to.is_some() && off_out.0 != 0 {
        return Err(Errno::ESPIPE.into());
    }
    match (from, to) {
        (Some(from), Some(to)) => {
            if from == to {
                return Err(Errno::EINVAL.into());
            }
            pass(
                cx,
                (input, from),
                (output, to),
                len.0,
                blocking,
                Passing::Moves,
            )
        }
        (Some(from), None) => {
            if file::at(cx.k, output).flags.contains(OpenFlags::APPEND) {
                return Err(Errno::EINVAL.into());
            }
            let at = read_offset(cx, off_out)?;
            let to = file::at(cx.k, output);
            check_length(len.0)?;
            rw::check_range(to, at.unwrap_or(to.offset), len.0)?;
            let blocking_in = blocking.and(file::at(cx.k, input).flags);
            let at_once = matches!(to.kind, FileKind::Regular | FileKind::Device(_));
            let mut chunk = Vec::new();
            if cx.call().op.is_none() {
                if pipe_filled(cx, from, blocking_in)? == 0 {
                    return Ok(0);
                }
                if !at_once {
                    chunk = pipe_front(cx, from, len.0);
                }
            }
            let moved = match at_once {
                true => drain_pipe(cx, from, output, at, len.0)?,
                false => {
                    let moved = write_chunk(cx, output, at, chunk, blocking)?;
                    pipe::consume(cx.k, from, moved);
                    moved
                }
            };
            if let Some(at) = at {
                cx.write_obj(off_out.0, &(at + moved))?;
            }
            Ok(moved)
        }
        (None, Some(to)) => {
            let blocking_out = blocking.and(file::at(cx.k, output).flags);
            let given = read_offset(cx, off_in)?;
            if let FileKind::HostStream(stream) = file::at(cx.k, input).kind {
                if given.is_some() {
                    return Err(Errno::ESPIPE.into());
                }
                return splice_stream(cx, stream, to, len.0, blocking_out);
            }
            if let FileKind::Socket(socket) = file::at(cx.k, input).kind {
                if given.is_some() {
                    return Err(Errno::EINVAL.into());
                }
                return splice_socket(cx, (input, socket), to, len.0, blocking_out);
            }
            let from = file::at(cx.k, input);
            let at = given.unwrap_or(from.offset);
            check_length(len.0)?;
            rw::check_range(from, at, len.0)?;
            let moved = fill_pipe(cx, input, at, to, len.0, blocking_out)?;
            match given {
                Some(_) => cx.write_obj(off_in.0, &(at + moved))?,
                None => file::at_mut(cx.k, input).offset = at + moved,
            }
            Ok(moved)
        }
        (None, None) => Err(Errno::EINVAL.into()),
    }
}

/// Fills a pipe from a stream of the host.
fn splice_stream(
    cx: &mut Cx<'_, '_>,
    stream: u8,
    to: PipeId,
    len: u64,
    blocking: Blocking,
) -> SysResult {
    // The room may shrink while the host reads: what was read is kept all the same.
    let len = match cx.call().op {
        Some(_) => 0,
        None => len.min(CHUNK).min(pipe_room(cx, to, blocking)?),
    };
    let call = HostCall::Read {
        stream,
        len: len as u32,
    };
    let HostResult::Data(data) = cx.host(call)? else {
        return Err(Errno::EIO.into());
    };
    pipe::append(cx.k, to, &data, 0);
    Ok(data.len() as u64)
}

/// Fills a pipe from a socket.
fn splice_socket(
    cx: &mut Cx<'_, '_>,
    (input, socket): (FileId, SocketId),
    to: PipeId,
    len: u64,
    blocking: Blocking,
) -> SysResult {
    let room = pipe_room(cx, to, blocking)?;
    let blocking_in = blocking.and(file::at(cx.k, input).flags);
    let data = socket::read_bytes(cx, socket, len.min(CHUNK).min(room), blocking_in)?;
    pipe::append(cx.k, to, &data, 0);
    Ok(data.len() as u64)
}

/// Moves or copies buffers from one pipe to the end of another.
fn pass(
    cx: &mut Cx<'_, '_>,
    (input, from): (FileId, PipeId),
    (output, to): (FileId, PipeId),
    len: u64,
    blocking: Blocking,
    passing: Passing,
) -> SysResult {
    let flags = file::at(cx.k, input).flags | file::at(cx.k, output).flags;
    let blocking = blocking.and(flags);
    pipe_filled(cx, from, blocking)?;
    // At its end too it is the other pipe that says what this gives.
    pipe_room(cx, to, blocking)?;
    Ok(pipe::pass(cx.k, from, to, len.min(rw::PIECE), passing))
}

pub(super) fn tee(
    cx: &mut Cx<'_, '_>,
    fd_in: Fd,
    fd_out: Fd,
    len: Size,
    flags: SpliceFlags,
) -> SysResult {
    let flags = known(cx, flags)?;
    if len.0 == 0 {
        return Ok(0);
    }
    let input = fdtable::get(cx, fd_in.0)?;
    let output = fdtable::get(cx, fd_out.0)?;
    let (from, to) = (file::at(cx.k, input), file::at(cx.k, output));
    if !from.readable() || !to.writable() {
        return Err(Errno::EBADF.into());
    }
    match (&from.kind, &to.kind) {
        (&FileKind::Pipe(from), &FileKind::Pipe(to)) if from != to => {
            let blocking = Blocking::from(flags);
            pass(
                cx,
                (input, from),
                (output, to),
                len.0,
                blocking,
                Passing::Copies,
            )
        }
        _ => Err(Errno::EINVAL.into()),
    }
}

/// A regular file of copy_file_range(2).
fn regular(cx: &Cx<'_, '_>, id: FileId) -> Result<InodeRef, Errno> {
    let file = file::at(cx.k, id);
    match (&file.kind, file.inode) {
        (FileKind::Regular, Some(inode)) => Ok(inode),
        (FileKind::Directory, _) => Err(Errno::EISDIR),
        _ => Err(Errno::EINVAL),
    }
}

pub(super) fn copy_file_range(
    cx: &mut Cx<'_, '_>,
    fd_in: Fd,
    off_in: Addr,
    fd_out: Fd,
    off_out: Addr,
    len: Size,
    flags: NoFlags,
) -> SysResult {
    let input = fdtable::get(cx, fd_in.0)?;
    let output = fdtable::get(cx, fd_out.0)?;
    // A negative position runs over where the length takes it past its end.
    let overflow = |errno| match errno {
        Errno::EINVAL if len.0 > 0 => Errno::EOVERFLOW,
        errno => errno,
    };
    let given_in = read_offset(cx, off_in).map_err(overflow)?;
    let given_out = read_offset(cx, off_out).map_err(overflow)?;
    known(cx, flags)?;
    let from = regular(cx, input)?;
    let to = regular(cx, output)?;
    let (source, target) = (file::at(cx.k, input), file::at(cx.k, output));
    if !source.readable() || !target.writable() || target.flags.contains(OpenFlags::APPEND) {
        return Err(Errno::EBADF.into());
    }
    let start_in = given_in.unwrap_or(source.offset);
    let start_out = given_out.unwrap_or(target.offset);
    if start_in.checked_add(len.0).is_none() || start_out.checked_add(len.0).is_none() {
        return Err(Errno::EOVERFLOW.into());
    }
    let size = node::attr(cx.k, cx.p, from)?.size;
    let len = len.0.min(rw::MAX_RW).min(size.saturating_sub(start_in));
    if len > 0 && start_out >= i64::MAX as u64 {
        return Err(Errno::EFBIG.into());
    }
    let len = len.min(i64::MAX as u64 - start_out.min(i64::MAX as u64));
    if from == to && start_in < start_out + len && start_out < start_in + len {
        return Err(Errno::EINVAL.into());
    }
    let mut done = cx.call().progress;
    let piece = done.saturating_add(rw::PIECE);
    while done < len {
        if done >= piece {
            let wait = cx.others_first();
            done = cx.block_after(done, wait)?;
            break;
        }
        let copied = read_chunk(cx, input, start_in + done, len - done)
            .and_then(|chunk| regular::write_inode(cx, to, start_out + done, &chunk));
        match copied {
            Ok(0) => break,
            Ok(copied) => done += copied,
            Err(_) if done > 0 => break,
            Err(errno) => return Err(errno.into()),
        }
    }
    for (given, addr, id, end) in [
        (given_in, off_in, input, start_in + done),
        (given_out, off_out, output, start_out + done),
    ] {
        match given {
            Some(_) => cx.write_obj(addr.0, &end)?,
            None => file::at_mut(cx.k, id).offset = end,
        }
    }
    Ok(done)
}

pub(super) fn vmsplice(
    cx: &mut Cx<'_, '_>,
    fd: Fd,
    iov: Addr,
    nr_segs: Ulong,
    flags: SpliceFlags,
) -> SysResult {
    let flags = known(cx, flags)?;
    let id = fdtable::get(cx, fd.0)?;
    let blocking = Blocking::from(flags);
    let mut iov = rw::Iov::vector(cx, iov.0, nr_segs.0)?;
    let file = file::at(cx.k, id);
    let FileKind::Pipe(pipe) = file.kind else {
        return Err(Errno::EBADF.into());
    };
    let writes = file.writable();
    if iov.left() == 0 {
        return Ok(0);
    }
    // The pages are copied, so that it does not matter whether the program gives them away.
    if writes {
        pipe_room(cx, pipe, blocking)?;
        return Ok(pipe::add_user_pages(cx, pipe, &mut iov)?);
    }
    pipe_filled(cx, pipe, blocking)?;
    let how = rw::How {
        blocking: Blocking::Fails,
        at_once: true,
        ..rw::How::default()
    };
    rw::read(cx, id, &mut iov, how)
}
