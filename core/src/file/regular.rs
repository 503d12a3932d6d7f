//! Regular files as open files: reading and writing between user memory and the pages of the file.

use crate::file::caller::FileCallers;
use alloc::vec::Vec;

use super::ops::{FileOps, OpenFile};
use super::rw::{self, Ends, How, Iov, Piece, copy_source};
use super::{File, FileId, Files, inotify};
use crate::abi::raw::general as g;
use crate::abi::{Errno, PAGE_SIZE};
use crate::args::OpenFlags;
use crate::env::cx::Cx;
use crate::env::wait::{Stop, SysResult};
use crate::file;
use crate::fs::filesystem::{Attr, InodeRef, SetAttr, Sought, Source, Time};
use crate::fs::inode;
use crate::port::Ports;
use crate::vfs::perm::Who;
use crate::vfs::{node, perm};

/// A regular file.
pub(super) struct Ops;

impl OpenFile for Ops {
    const POSITION: bool = true;

    fn map(_file: &File, id: FileId) -> Result<Option<FileId>, Errno> {
        Ok(Some(id))
    }
}

/// The inode of an open regular file.
fn inode_of(k: &Files, id: FileId) -> Result<InodeRef, Errno> {
    file::at(k, id).inode.ok_or(Errno::EBADF)
}

impl<K: FileCallers> FileOps<K> for Ops {
    fn read(cx: &mut Cx<'_, '_, K>, id: FileId, iov: &mut Iov, how: How) -> SysResult {
        let inode = inode_of(cx.k.files(), id)?;
        read_pieces(cx, id, inode, iov, how)
    }

    fn write(cx: &mut Cx<'_, '_, K>, id: FileId, iov: &mut Iov, how: How) -> SysResult {
        let inode = inode_of(cx.k.files(), id)?;
        write_pieces(cx, id, inode, iov, how)
    }

    fn seek(cx: &mut Cx<'_, '_, K>, id: FileId, offset: i64, whence: u32) -> SysResult {
        let inode = inode_of(cx.k.files(), id).map_err(|_| Errno::EINVAL);
        let end = match whence {
            g::SEEK_END => Some(node::attr(cx.k, cx.p, inode?)?.size as i64),
            g::SEEK_DATA | g::SEEK_HOLE => {
                let first = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
                // What lies before has been looked at.
                let from = first.max(cx.call_state().progress);
                let at = match inode::seek(
                    cx.k.files_mut(),
                    cx.p,
                    inode?,
                    from,
                    whence == g::SEEK_DATA,
                )? {
                    Sought::At(at) => at,
                    Sought::Later(at) => return Err(cx.give_way(at)),
                };
                file::at_mut(cx.k.files_mut(), id).offset = at;
                return Ok(at);
            }
            _ => None,
        };
        rw::seek_within(cx.k.files_mut(), id, (offset, whence), end)
    }

    fn splice_read(
        cx: &mut Cx<'_, '_, K>,
        id: FileId,
        at: u64,
        len: u64,
    ) -> Result<Vec<u8>, Errno> {
        let inode = inode_of(cx.k.files(), id)?;
        rw::read_bytes(cx.k.files_mut(), cx.p, inode, at, len)
    }

    fn splice_write(cx: &mut Cx<'_, '_, K>, id: FileId, data: Vec<u8>, how: How) -> SysResult {
        let inode = inode_of(cx.k.files(), id)?;
        let file = file::at(cx.k.files(), id);
        let start = match how.at {
            Some(at) => at,
            None if file.flags.contains(OpenFlags::APPEND) => node::attr(cx.k, cx.p, inode)?.size,
            None => file.offset,
        };
        let done = write_inode(cx, inode, start, &data)?;
        if done > 0 {
            inotify::file_event(cx.k.files_mut(), cx.p, id, inotify::MODIFY);
        }
        if how.at.is_none() {
            file::at_mut(cx.k.files_mut(), id).offset = start + done;
        }
        Ok(done)
    }

    fn can_wait(_k: &K, _file: &File) -> bool {
        false
    }

    fn available(cx: &mut Cx<'_, '_, K>, id: FileId) -> Result<i64, Stop> {
        let inode = inode_of(cx.k.files(), id).map_err(|_| Errno::ENOTTY)?;
        let offset = file::at(cx.k.files(), id).offset;
        let size = node::attr(cx.k, cx.p, inode)?.size;
        Ok(size as i64 - offset as i64)
    }
}

/// Most bytes that go from one place to another at once.
const RUN: u64 = 65536;

/// Reads from a regular file.
fn read_pieces<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    id: FileId,
    inode: InodeRef,
    iov: &mut Iov,
    how: How,
) -> SysResult {
    let piece = Piece::next(cx, iov, how);
    let at = match how.at {
        Some(at) => at + piece.earlier,
        None => file::at(cx.k.files(), id).offset,
    };
    let moved = read_regular(cx, inode, iov, at);
    if let (Ok(moved), None) = (moved, how.at) {
        file::at_mut(cx.k.files_mut(), id).offset = at + moved;
    }
    let done = piece.end(cx, moved, Ends::WhenDone)?;
    if done > 0 {
        inotify::file_event(cx.k.files_mut(), cx.p, id, inotify::ACCESS);
    }
    Ok(done)
}

/// Writes to a regular file.
fn write_pieces<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    id: FileId,
    inode: InodeRef,
    iov: &mut Iov,
    how: How,
) -> SysResult {
    let piece = Piece::next(cx, iov, how);
    let file = file::at(cx.k.files(), id);
    let append = how.append.unwrap_or(file.flags.contains(OpenFlags::APPEND));
    let at = match how.at {
        Some(at) => at + piece.earlier,
        None => file.offset,
    };
    let moved = match piece.earlier > 0 && at >= cx.rlimit(g::RLIMIT_FSIZE) {
        // The limit cuts a write short that began below it, without a signal.
        true => Ok((0, at)),
        false => write_regular(cx, inode, iov, at, append),
    };
    if let (Ok((_, end)), None) = (moved, how.at) {
        file::at_mut(cx.k.files_mut(), id).offset = end;
    }
    let done = piece.end(cx, moved.map(|(moved, _)| moved), Ends::WhenDone)?;
    if done > 0 {
        inotify::file_event(cx.k.files_mut(), cx.p, id, inotify::MODIFY);
    }
    Ok(done)
}

fn read_regular<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    inode: InodeRef,
    iov: &mut Iov,
    start: u64,
) -> Result<u64, Errno> {
    let mut at = start;
    while iov.left() > 0 {
        let extent = match inode::extent(cx.k.files_mut(), cx.p, inode, at) {
            Ok(Some(extent)) => extent,
            Ok(None) => break,
            Err(_) if at > start => break,
            Err(errno) => return Err(errno),
        };
        // Faulting in a page of a shared mapping of this file may copy the page, but changes no byte of it.
        let (to, len) = match iov.run(cx, extent.len.min(RUN), true) {
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

/// Whether a file may grow to this size (`RLIMIT_FSIZE`).
pub(crate) fn check_size<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    attr: &Attr,
    size: u64,
) -> Result<(), Errno> {
    if size > attr.size && size > cx.rlimit(g::RLIMIT_FSIZE) {
        cx.k.raise(cx.thread, g::SIGXFSZ);
        return Err(Errno::EFBIG);
    }
    Ok(())
}

/// Where a write goes, after the limits of file sizes: the position, and how many bytes may be written.
fn write_limits<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    inode: InodeRef,
    attr: &Attr,
    at: u64,
    len: u64,
    append: bool,
) -> Result<(u64, u64), Errno> {
    let at = if append { attr.size } else { at };
    let limit = cx.rlimit(g::RLIMIT_FSIZE);
    if at >= limit {
        cx.k.raise(cx.thread, g::SIGXFSZ);
        return Err(Errno::EFBIG);
    }
    let room = limit.min(i64::MAX as u64).saturating_sub(at);
    if room == 0 {
        return Err(Errno::EFBIG);
    }
    let len =
        cx.k.files()
            .fs
            .seals
            .check_write(inode, attr, at, len.min(room))?;
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

/// Writes what is in one place in user memory to pages that are in one place, too: how many bytes.
fn write_run<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    inode: InodeRef,
    iov: &mut Iov,
    at: u64,
) -> Result<u64, Errno> {
    let within = at % PAGE_SIZE;
    // Look at the source first, so that nothing is made for bytes that cannot be read; making the pages may
    // move it.
    let Some((_, len)) = iov.run(cx, RUN - within, false)? else {
        return Ok(0);
    };
    let most = (within + len).div_ceil(PAGE_SIZE);
    let k = cx.k.files_mut();
    let (frame, pages) = inode::pages_for_write(k, cx.p, inode, at / PAGE_SIZE, most)?;
    let room = len.min(pages * PAGE_SIZE - within);
    match iov.run(cx, room, false)? {
        Some((from, len)) => copy_source(cx.p, frame.offset() + within, from, len).map(|()| len),
        None => Ok(0),
    }
}

/// Writes; gives the number of bytes and the position behind them.
fn write_regular<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
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
        result = write_run(cx, inode, iov, at).map(|len| {
            iov.advance(len);
            at += len;
        });
        if result.is_err() {
            break;
        }
    }
    if at == start {
        // Privileges go before anything is looked at that may fail.
        written(cx.k.files_mut(), cx.p, who, inode, &attr, attr.size)?;
        result?;
    } else {
        written(cx.k.files_mut(), cx.p, who, inode, &attr, at)?;
    }
    Ok((at - start, at))
}

/// Writes bytes of the kernel to a regular file for the current task: how many could be. Same rules as
/// write(2).
pub(crate) fn write_inode<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
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
        let most = (within + rest.len() as u64).div_ceil(PAGE_SIZE);
        let k = cx.k.files_mut();
        let (frame, pages) = match inode::pages_for_write(k, cx.p, inode, at / PAGE_SIZE, most) {
            Ok(run) => run,
            Err(_) if at > start => break,
            Err(errno) => return Err(errno),
        };
        let room = (pages * PAGE_SIZE - within) as usize;
        let (part, behind) = rest.split_at(rest.len().min(room));
        cx.p.memory.write(frame.offset() + within, part);
        at += part.len() as u64;
        rest = behind;
    }
    written(cx.k.files_mut(), cx.p, who, inode, &attr, at)?;
    Ok(at - start)
}
