//! `/proc/PID/mem` and `pagemap` (proc(5)): the memory of a process as a file. Whose memory it is was decided
//! when the file was opened: a program that the process executes later is not seen.

use alloc::vec;

use super::process;
use super::view::View;
use crate::Kernel;
use crate::abi::raw::general as g;
use crate::abi::{Errno, PAGE_SIZE, TASK_SIZE};
use crate::env::wait::SysResult;
use crate::file::above::{Memory, PageMap};
use crate::file::ops::FileOps;
use crate::file::rw::{self, Ends, How, Iov, Piece, read_inode};
use crate::file::{self, File, FileId, FileKind, Files};
use crate::machine::{Prot, SpaceId, ThreadId};
use crate::mm::vma::Behind;
use crate::mm::{fault, user};
use crate::task::Cx;

/// What one read of `pagemap` gives at most, in bytes.
const PAGEMAP_PIECE: u64 = 256 << 10;
/// Bits of an entry of `pagemap` (`Documentation/admin-guide/mm/pagemap.rst`). Where pages are is nobody's
/// business.
const PRESENT: u64 = 1 << 63;
const OF_FILE: u64 = 1 << 61;
const EXCLUSIVE: u64 = 1 << 56;

/// The memory that a thread may open. `EACCES`, `ESRCH` of a process that has ended.
pub(super) fn open(k: &Kernel, thread: ThreadId, view: View) -> Result<SpaceId, Errno> {
    process::check_access(k, thread, view)?;
    let task = view.live(k)?;
    match task.exited {
        true => Err(Errno::ESRCH),
        false => Ok(task.space),
    }
}

/// Reads memory from an address on. `EIO` where nothing is mapped; nothing of a space that has gone.
fn read(cx: &mut Cx<'_, '_>, id: SpaceId, iov: &mut Iov, at: u64) -> Result<u64, Errno> {
    let mut page = [0; PAGE_SIZE as usize];
    let mut done = 0;
    while iov.left() > 0 && cx.k.mm.has_space(id) {
        let at = at.wrapping_add(done);
        let len = iov.left().min(PAGE_SIZE - at % PAGE_SIZE);
        let bytes = &mut page[..len as usize];
        let moved = peek(cx, id, at, bytes).and_then(|()| iov.put(cx, bytes));
        match moved {
            Ok(moved) => {
                done += moved;
                if moved < len {
                    break;
                }
            }
            Err(_) if done > 0 => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(done)
}

/// Writes memory from an address on, also where the process itself may not write: it gets a page of its own.
/// `EIO`.
fn write(cx: &mut Cx<'_, '_>, id: SpaceId, iov: &mut Iov, at: u64) -> Result<u64, Errno> {
    let mut page = [0; PAGE_SIZE as usize];
    let mut done = 0;
    while iov.left() > 0 && cx.k.mm.has_space(id) {
        let at = at.wrapping_add(done);
        let len = iov.left().min(PAGE_SIZE - at % PAGE_SIZE);
        let bytes = &mut page[..len as usize];
        let moved = iov.take(cx, bytes).and_then(|len| {
            poke(cx, id, at, &bytes[..len as usize])?;
            Ok(len)
        });
        match moved {
            Ok(moved) => {
                done += moved;
                if moved < len {
                    break;
                }
            }
            Err(_) if done > 0 => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(done)
}

/// Copies bytes of one page out, whatever its protection.
fn peek(cx: &mut Cx<'_, '_>, id: SpaceId, at: u64, bytes: &mut [u8]) -> Result<(), Errno> {
    let space = cx.k.mm.space(id);
    let (start, vma) = space.find(at).ok_or(Errno::EIO)?;
    if !vma.prot.is_empty() {
        return user::read_in(cx.k, cx.p, id, at, bytes).map_err(|_| Errno::EIO);
    }
    let frame = space.pages.get(at / PAGE_SIZE).frame();
    match (frame, vma.behind) {
        (Some(frame), _) => {
            let from = frame.offset() + at % PAGE_SIZE;
            cx.p.memory.read(from, bytes);
        }
        (None, Behind::Anonymous(_)) => bytes.fill(0),
        (None, Behind::File { file, offset }) => {
            let inode = cx.k.files.file(file).and_then(|file| file.inode);
            let inode = inode.ok_or(Errno::EIO)?;
            let from = offset + (at - start);
            let len = read_inode(cx.k, cx.p, inode, from, bytes).map_err(|_| Errno::EIO)?;
            bytes[len..].fill(0);
        }
    }
    Ok(())
}

fn poke(cx: &mut Cx<'_, '_>, id: SpaceId, at: u64, bytes: &[u8]) -> Result<(), Errno> {
    let (_, vma) = cx.k.mm.space(id).find(at).ok_or(Errno::EIO)?;
    if vma.prot.contains(Prot::WRITE) {
        return user::write_in(cx.k, cx.p, id, at, bytes).map_err(|_| Errno::EIO);
    }
    if vma.shared || !vma.max.contains(Prot::WRITE) {
        return Err(Errno::EIO);
    }
    let frame = fault::own_page(cx.k, cx.p, id, at).map_err(|_| Errno::EIO)?;
    cx.p.memory.write(frame.offset() + at % PAGE_SIZE, bytes);
    Ok(())
}

/// Reads entries of `pagemap`. `EINVAL` unless position and length are of whole entries.
fn read_pagemap(cx: &mut Cx<'_, '_>, id: SpaceId, iov: &mut Iov, at: u64) -> Result<u64, Errno> {
    const ENTRY: u64 = 8;
    if !at.is_multiple_of(ENTRY) || !iov.left().is_multiple_of(ENTRY) {
        return Err(Errno::EINVAL);
    }
    let end = TASK_SIZE / PAGE_SIZE;
    let first = at / ENTRY;
    if first >= end || !cx.k.mm.has_space(id) {
        return Ok(0);
    }
    let count = (iov.left().min(PAGEMAP_PIECE) / ENTRY).min(end - first);
    let mut bytes = vec![0; (count * ENTRY) as usize];
    let frames = &cx.k.frames;
    let pages = &cx.k.mm.space(id).pages;
    pages.each(first, first + count, |page, pte| {
        let entry = match pte.frame() {
            Some(frame) if frames.count(frame) == 1 => PRESENT | EXCLUSIVE,
            Some(_) => PRESENT,
            None => PRESENT | OF_FILE,
        };
        let slot = ((page - first) * ENTRY) as usize;
        bytes[slot..slot + ENTRY as usize].copy_from_slice(&u64::to_le_bytes(entry));
    });
    iov.put(cx, &bytes)
}

/// The memory that an open file is of. `EBADF` for others.
fn space_of(k: &Files, id: FileId) -> Result<SpaceId, Errno> {
    match file::at(k, id).kind {
        FileKind::Memory(space) | FileKind::PageMap(space) => Ok(space),
        _ => Err(Errno::EBADF),
    }
}

/// Moves the position: addresses may lie in the upper half (`mem_lseek()`).
fn seek(k: &mut Files, id: FileId, offset: i64, whence: u32) -> SysResult {
    let base = match whence {
        g::SEEK_SET => 0,
        g::SEEK_CUR => file::at(k, id).offset,
        _ => return Err(Errno::EINVAL.into()),
    };
    let at = base.wrapping_add_signed(offset);
    file::at_mut(k, id).offset = at;
    Ok(at)
}

/// Reads or writes a piece of memory at the position, which follows what was moved.
fn piece(
    cx: &mut Cx<'_, '_>,
    id: FileId,
    iov: &mut Iov,
    how: How,
    moves: impl FnOnce(&mut Cx<'_, '_>, SpaceId, &mut Iov, u64) -> Result<u64, Errno>,
) -> SysResult {
    let space = space_of(cx.k, id)?;
    let piece = Piece::next(cx, iov, how);
    let at = match how.at {
        Some(at) => at.wrapping_add(piece.earlier),
        None => file::at(cx.k, id).offset,
    };
    let moved = moves(cx, space, iov, at);
    if let (Ok(moved), None) = (moved, how.at) {
        file::at_mut(cx.k, id).offset = at.wrapping_add(moved);
    }
    piece.end(cx, moved, Ends::WhenDone)
}

impl FileOps<Kernel> for Memory {
    fn read(cx: &mut Cx<'_, '_>, id: FileId, iov: &mut Iov, how: How) -> SysResult {
        piece(cx, id, iov, how, read)
    }

    fn write(cx: &mut Cx<'_, '_>, id: FileId, iov: &mut Iov, how: How) -> SysResult {
        piece(cx, id, iov, how, write)
    }

    fn seek(cx: &mut Cx<'_, '_>, id: FileId, offset: i64, whence: u32) -> SysResult {
        seek(cx.k, id, offset, whence)
    }

    fn can_wait(_k: &Kernel, _file: &File) -> bool {
        false
    }
}

impl FileOps<Kernel> for PageMap {
    fn read(cx: &mut Cx<'_, '_>, id: FileId, iov: &mut Iov, how: How) -> SysResult {
        let space = space_of(cx.k, id)?;
        let at = how.at.unwrap_or(file::at(cx.k, id).offset);
        let done = read_pagemap(cx, space, iov, at)?;
        rw::was_read(cx.k, cx.p, id, (how, at), done)
    }

    fn seek(cx: &mut Cx<'_, '_>, id: FileId, offset: i64, whence: u32) -> SysResult {
        seek(cx.k, id, offset, whence)
    }

    fn can_wait(_k: &Kernel, _file: &File) -> bool {
        false
    }
}
