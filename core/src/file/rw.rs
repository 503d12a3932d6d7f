//! Reading and writing open files: between user memory and the place where a file's bytes are, without a
//! buffer in between.

use crate::file::caller::FileCallers;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::env::cx::Cx;
use crate::env::wait::{Blocking, SysResult};
use crate::file;
pub(crate) use crate::file::iov::{IOV_MAX, Iov};
use crate::file::{File, FileId, Files, inotify, ops};
use crate::fs::filesystem::{InodeRef, Source};
use crate::fs::inode;
use crate::port::Ports;

/// Most bytes one call moves (`MAX_RW_COUNT`).
pub(crate) const MAX_RW: u64 = 0x7fff_f000;
/// Bytes that a call moves before it lets others have the kernel: about a millisecond's worth.
pub(crate) const PIECE: u64 = 4 << 20;

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
pub(super) fn copy_source(p: &mut Ports<'_>, to: u64, from: Source, len: u64) -> Result<(), Errno> {
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
    let moves = file.kind.has_position() && !file.kind.has_addresses();
    match at.checked_add(len) {
        Some(end) if end <= i64::MAX as u64 => Ok(()),
        _ if moves => Err(Errno::EINVAL),
        _ => Ok(()),
    }
}

/// How one call reads or writes beyond what its file's flags say (`RWF_`).
#[derive(Clone, Copy, Default)]
pub(crate) struct How {
    /// Position; `None` is the file's own, which moves.
    pub at: Option<u64>,
    /// `RWF_NOWAIT`
    pub blocking: Blocking,
    /// `RWF_APPEND`, `RWF_NOAPPEND`
    pub append: Option<bool>,
    /// Not in pieces: for callers that have other uses for a call's progress.
    pub at_once: bool,
}

/// When a long call ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ends {
    /// Only deadly signals end it early.
    WhenDone,
    /// A signal that is waiting ends it with what is done: so it is on devices.
    AtSignals,
}

/// A long call that goes on in pieces, which the file's position follows: where a piece begins, and what
/// there is of it.
pub(crate) struct Piece {
    /// Bytes of the pieces before, which stand in the call's progress meanwhile.
    pub earlier: u64,
    /// Whether there are bytes after this piece.
    more: bool,
    len: u64,
}

impl Piece {
    /// Sets the vector to the next piece.
    pub(crate) fn next<K: FileCallers>(cx: &mut Cx<'_, '_, K>, iov: &mut Iov, how: How) -> Piece {
        let earlier = match how.at_once {
            true => 0,
            false => cx.call_state().progress,
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
    /// else a wait that the next one comes after.
    pub(crate) fn end<K: FileCallers>(
        &self,
        cx: &mut Cx<'_, '_, K>,
        moved: Result<u64, Errno>,
        ends: Ends,
    ) -> SysResult {
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
        wait.killable = ends == Ends::WhenDone;
        match ends {
            Ends::AtSignals => cx.block_after(done, wait),
            Ends::WhenDone => {
                cx.call_state().progress = done;
                wait.into()
            }
        }
    }
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
        let Some(extent) = inode::extent(k, p, inode, at)? else {
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
        let Some(extent) = inode::extent(k, p, inode, at)? else {
            break;
        };
        append_to(p, &mut bytes, extent.source, extent.len.min(len - done))?;
    }
    Ok(bytes)
}

/// Reads from an open file into user memory.
pub(crate) fn read<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    id: FileId,
    iov: &mut Iov,
    how: How,
) -> SysResult {
    let file = file::at(cx.k.files(), id);
    if !file.readable() {
        return Err(Errno::EBADF.into());
    }
    let how = check(file, iov, how)?;
    ops::read(cx, id, iov, how)
}

/// Writes from user memory to an open file.
pub(crate) fn write<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    id: FileId,
    iov: &mut Iov,
    how: How,
) -> SysResult {
    let file = file::at(cx.k.files(), id);
    if !file.writable() {
        return Err(Errno::EBADF.into());
    }
    let how = check(file, iov, how)?;
    ops::write(cx, id, iov, how)
}

/// What every read and write asks of its range. `EINVAL`; `ESPIPE` for a position where there is none.
fn check(file: &File, iov: &Iov, how: How) -> Result<How, Errno> {
    check_range(file, how.at.unwrap_or(file.offset), iov.left())?;
    if how.at.is_some() && !file.kind.has_position() {
        return Err(Errno::ESPIPE);
    }
    Ok(How {
        blocking: how.blocking.and(file.flags),
        ..how
    })
}

/// Bytes have been read at a position: the file's own moves on, and watchers are told.
pub(crate) fn was_read(
    k: &mut Files,
    p: &mut Ports<'_>,
    id: FileId,
    (how, at): (How, u64),
    done: u64,
) -> SysResult {
    if how.at.is_none() {
        file::at_mut(k, id).offset = at + done;
    }
    if done > 0 {
        inotify::file_event(k, p, id, inotify::ACCESS);
    }
    Ok(done)
}

/// Moves the position of a file (lseek(2)).
pub(crate) fn seek<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    id: FileId,
    offset: i64,
    whence: u32,
) -> SysResult {
    // Whatever the file is.
    if whence > g::SEEK_HOLE {
        return Err(Errno::EINVAL.into());
    }
    ops::seek(cx, id, offset, whence)
}

/// Moves the position of a file from its beginning, from where it is, or from its end, if it has one: `max`
/// is an end that nothing lies beyond. `EINVAL`.
pub(crate) fn seek_within(
    k: &mut Files,
    id: FileId,
    (offset, whence): (i64, u32),
    end: Option<i64>,
) -> SysResult {
    let max = i64::MAX;
    let base = match whence {
        g::SEEK_SET => 0,
        g::SEEK_CUR => file::at(k, id).offset as i64,
        g::SEEK_END => end.ok_or(Errno::EINVAL)?,
        _ => return Err(Errno::EINVAL.into()),
    };
    let at = match whence == g::SEEK_END && base == max {
        true if offset == 0 => max,
        true => return Err(Errno::EINVAL.into()),
        false => base.checked_add(offset).ok_or(Errno::EINVAL)?,
    };
    let at = u64::try_from(at).map_err(|_| Errno::EINVAL)?;
    file::at_mut(k, id).offset = at;
    Ok(at)
}
