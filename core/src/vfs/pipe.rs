//! Pipes and FIFOs (pipe(7), fifo(7)).
//!
//! A pipe's data is a ring of bytes, not of pages: room is counted exactly. Everything that changes a pipe wakes
//! [`WaitKey::Pipe`].

use alloc::collections::{BTreeMap, VecDeque};

use super::filesystem::{InodeRef, Source, Time};
use super::mount::PathRef;
use super::ready::{self, OUT};
use super::rw::{Iov, append, block_after};
use super::{anon, caller};
use crate::Kernel;
use crate::abi::raw::general as g;
use crate::abi::{Errno, PAGE_SIZE};
use crate::kernel::{Cx, Stop, Wait, WaitKey};

/// Writes of at most this many bytes are not torn apart.
pub(crate) const PIPE_BUF: usize = 4096;
/// Bytes that a pipe holds at first.
pub(crate) const PIPE_DEFAULT: usize = 65536;
/// Most bytes that `F_SETPIPE_SZ` gives without `CAP_SYS_RESOURCE` (`/proc/sys/fs/pipe-max-size`), and with it.
pub(crate) const PIPE_MAX: usize = 1 << 20;
pub(crate) const PIPE_MAX_PRIVILEGED: usize = 1 << 24;
/// Most pipes there can be.
const PIPES_MAX: usize = 1 << 16;

/// A pipe. Not used again for another one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct PipeId(pub u64);

/// Bytes of a pipe that were written together.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Piece {
    len: usize,
    /// A reader gets it alone, and what it leaves is lost.
    packet: bool,
}

/// One pipe.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Pipe {
    pub data: VecDeque<u8>,
    /// Lengths of the pieces that the data consists of, once one was written as a packet (`O_DIRECT`); empty for a stream of bytes.
    pieces: VecDeque<Piece>,
    pub capacity: usize,
    /// Bytes of the data that are charged, in whole pages.
    charged: u64,
    /// Open files that read and that write.
    pub readers: u32,
    pub writers: u32,
    /// There was a writer: without one since, readers see a hang-up.
    pub had_writer: bool,
    /// The inode, if this is a FIFO.
    fifo: Option<InodeRef>,
    pub uid: u32,
    pub gid: u32,
    pub made: Time,
}

impl Pipe {
    /// How many bytes at the front belong together, and whether they are a packet.
    pub(crate) fn front(&self) -> (usize, bool) {
        match self.pieces.front() {
            Some(piece) => (piece.len, piece.packet),
            None => (self.data.len(), false),
        }
    }

    /// The last `len` bytes of the data are new. They are a packet if they are to be one and do not follow other bytes, to which Linux
    /// adds them.
    pub(crate) fn wrote(&mut self, len: usize, packet: bool) {
        let before = self.data.len().saturating_sub(len);
        let packet = packet && self.pieces.back().map_or(before == 0, |last| last.packet);
        if len == 0 || !packet && self.pieces.is_empty() {
            return;
        }
        match self.pieces.back_mut() {
            Some(last) if !packet && !last.packet => last.len += len,
            _ => self.pieces.push_back(Piece { len, packet }),
        }
    }

    /// Takes bytes out at the front.
    pub(crate) fn take(&mut self, len: usize) {
        let len = len.min(self.data.len());
        self.data.drain(..len);
        let mut left = len;
        while left > 0
            && let Some(piece) = self.pieces.front_mut()
        {
            let step = piece.len.min(left);
            piece.len -= step;
            left -= step;
            if piece.len == 0 {
                self.pieces.pop_front();
            }
        }
    }

    /// Whether the pieces are all of the data; for invariant checks.
    pub(super) fn is_consistent(&self) -> bool {
        let len: usize = self.pieces.iter().map(|piece| piece.len).sum();
        self.pieces.is_empty() || len == self.data.len()
    }

    /// Bytes that can be written now.
    pub(crate) fn room(&self) -> usize {
        self.capacity.saturating_sub(self.data.len())
    }
}

/// All pipes.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Pipes {
    pipes: BTreeMap<PipeId, Pipe>,
    /// Pipes behind the FIFOs that are open.
    fifos: BTreeMap<InodeRef, PipeId>,
    next: u64,
    /// Bytes that are charged for all of them.
    charged: u64,
}

impl Pipes {
    pub(crate) fn new() -> Pipes {
        Pipes {
            pipes: BTreeMap::new(),
            fifos: BTreeMap::new(),
            next: 0,
            charged: 0,
        }
    }

    pub(crate) fn get(&self, id: PipeId) -> Option<&Pipe> {
        self.pipes.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: PipeId) -> Option<&mut Pipe> {
        self.pipes.get_mut(&id)
    }

    /// Bytes that are charged for all of them.
    pub(crate) fn charged(&self) -> u64 {
        self.charged
    }

    /// Whether just what pipes hold is charged; for invariant checks.
    pub(crate) fn is_charged(&self) -> bool {
        let held = |pipe: &Pipe| (pipe.data.len() as u64).next_multiple_of(PAGE_SIZE);
        let each = self.pipes.values().all(|pipe| pipe.charged == held(pipe));
        each && self.pipes.values().map(|pipe| pipe.charged).sum::<u64>() == self.charged
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (PipeId, &Pipe)> {
        self.pipes.iter().map(|(&id, pipe)| (id, pipe))
    }

    fn add(&mut self, pipe: Pipe) -> Result<PipeId, Errno> {
        if self.pipes.len() >= PIPES_MAX {
            return Err(Errno::ENFILE);
        }
        let id = PipeId(self.next);
        self.next += 1;
        self.pipes.insert(id, pipe);
        Ok(id)
    }
}

/// Forgets a pipe.
pub(crate) fn remove(k: &mut Kernel, id: PipeId) {
    let pipes = &mut k.vfs.pipes;
    if let Some(pipe) = pipes.pipes.remove(&id) {
        if let Some(fifo) = pipe.fifo {
            pipes.fifos.remove(&fifo);
        }
        pipes.charged -= pipe.charged;
        k.mm.frames.charge(pipe.charged, 0);
    }
}

/// Charges what a pipe holds, in whole pages: something in it has changed.
pub(crate) fn charge(k: &mut Kernel, id: u64) {
    let pipes = &mut k.vfs.pipes;
    if let Some(pipe) = pipes.pipes.get_mut(&PipeId(id)) {
        let new = (pipe.data.len() as u64).next_multiple_of(PAGE_SIZE);
        let old = core::mem::replace(&mut pipe.charged, new);
        pipes.charged = pipes.charged + new - old;
        k.mm.frames.charge(old, new);
    }
}

fn new(k: &Kernel, fifo: Option<InodeRef>, (uid, gid): (u32, u32)) -> Pipe {
    Pipe {
        data: VecDeque::new(),
        pieces: VecDeque::new(),
        capacity: PIPE_DEFAULT,
        readers: 0,
        writers: 0,
        had_writer: false,
        charged: 0,
        fifo,
        uid,
        gid,
        made: Time::from_nanos(k.system.now.real),
    }
}

/// A pipe without a name that nobody has opened yet, and a path to it with one reference.
pub(crate) fn create(k: &mut Kernel, owner: (u32, u32)) -> Result<(PipeId, PathRef), Errno> {
    let pipe = new(k, None, owner);
    let id = k.vfs.pipes.add(pipe)?;
    Ok((id, anon::path(k, anon::pipe_ino(id))))
}

/// The pipe behind a FIFO, made if need be.
pub(crate) fn of_fifo(k: &mut Kernel, inode: InodeRef) -> Result<PipeId, Errno> {
    if let Some(&id) = k.vfs.pipes.fifos.get(&inode) {
        return Ok(id);
    }
    let pipe = new(k, Some(inode), (0, 0));
    let id = k.vfs.pipes.add(pipe)?;
    k.vfs.pipes.fifos.insert(inode, id);
    Ok(id)
}

/// The pipe behind a FIFO, if somebody has it open.
pub(crate) fn find_fifo(k: &Kernel, inode: InodeRef) -> Option<&Pipe> {
    k.vfs
        .pipes
        .fifos
        .get(&inode)
        .and_then(|id| k.vfs.pipes.pipes.get(id))
}

/// An end was opened.
pub(crate) fn open_end(k: &mut Kernel, id: PipeId, reads: bool, writes: bool) {
    if let Some(pipe) = k.vfs.pipes.get_mut(id) {
        pipe.readers += u32::from(reads);
        pipe.writers += u32::from(writes);
        pipe.had_writer |= writes;
    }
    k.wake(WaitKey::Pipe(id.0));
}

/// An end was closed. The pipe behind a FIFO goes with its last end; others go with their dentry.
pub(crate) fn close_end(k: &mut Kernel, id: PipeId, reads: bool, writes: bool) {
    let Some(pipe) = k.vfs.pipes.get_mut(id) else {
        return;
    };
    pipe.readers -= u32::from(reads);
    pipe.writers -= u32::from(writes);
    if pipe.readers + pipe.writers == 0 && pipe.fifo.is_some() {
        remove(k, id);
    }
    k.wake(WaitKey::Pipe(id.0));
}

/// Bytes were taken out. Writers that wait are told when there is room for a whole write that did not fit before.
pub(crate) fn drained(k: &mut Kernel, id: PipeId, was_full: bool) {
    let fits = k
        .vfs
        .pipes
        .get(id)
        .is_some_and(|pipe| pipe.room() >= PIPE_BUF);
    let events = if was_full && fits { OUT } else { 0 };
    k.notify(WaitKey::Pipe(id.0), events);
}

/// `F_SETPIPE_SZ`: the new capacity.
pub(crate) fn set_capacity(
    k: &mut Kernel,
    id: PipeId,
    asked: u64,
    privileged: bool,
) -> Result<u64, Errno> {
    let size = match asked {
        0..=PAGE_SIZE => PAGE_SIZE,
        size if size > 1 << 31 => return Err(Errno::EINVAL),
        size => size.next_power_of_two(),
    } as usize;
    let pipe = k.vfs.pipes.get_mut(id).ok_or(Errno::EBADF)?;
    if size > pipe.capacity && size > PIPE_MAX && !privileged || size > PIPE_MAX_PRIVILEGED {
        return Err(Errno::EPERM);
    }
    if size < pipe.data.len() {
        return Err(Errno::EBUSY);
    }
    pipe.capacity = size;
    k.wake(WaitKey::Pipe(id.0));
    Ok(size as u64)
}

/// Reads what is there, or waits for it; a packet ends the read.
pub(super) fn read(
    cx: &mut Cx<'_, '_>,
    id: PipeId,
    iov: &mut Iov,
    no_wait: bool,
) -> Result<u64, Stop> {
    if iov.left() == 0 {
        return Ok(0);
    }
    let pipe = cx.k.vfs.pipes.get(id).ok_or(Errno::EBADF)?;
    if pipe.data.is_empty() {
        if pipe.writers == 0 {
            return Ok(0);
        }
        if no_wait {
            return Err(Errno::EAGAIN.into());
        }
        return Wait::on(WaitKey::Pipe(id.0)).into();
    }
    let was_full = pipe.room() < PIPE_BUF;
    let mut done = 0;
    // What is left of the packet that ends this read.
    let mut packet = None;
    while let Some(pipe) = cx.k.vfs.pipes.get(id)
        && !pipe.data.is_empty()
        && packet != Some(0)
    {
        let (piece, is_packet) = pipe.front();
        if is_packet && packet.is_none() {
            packet = Some(piece);
        }
        let front = pipe.data.as_slices().0.len().min(piece) as u64;
        let (to, len) = match iov.run(cx, front, true) {
            Ok(Some((Source::Memory(to), len))) => (to, len),
            Ok(_) => break,
            Err(_) if done > 0 => break,
            Err(errno) => return Err(errno.into()),
        };
        if let Some(pipe) = cx.k.vfs.pipes.get_mut(id) {
            let data = pipe.data.as_slices().0;
            cx.p.memory.write(to, &data[..len as usize]);
            pipe.take(len as usize);
        }
        packet = packet.map(|left| left.saturating_sub(len as usize));
        iov.advance(len);
        done += len;
    }
    if let (Some(left), Some(pipe)) = (packet, cx.k.vfs.pipes.get_mut(id)) {
        pipe.take(left);
    }
    drained(cx.k, id, was_full);
    Ok(done)
}

/// Writes everything, waiting for room, unless the call must not wait.
pub(super) fn write(
    cx: &mut Cx<'_, '_>,
    id: PipeId,
    iov: &mut Iov,
    no_wait: bool,
    packets: bool,
) -> Result<u64, Stop> {
    let total = iov.left();
    if total == 0 {
        return Ok(0);
    }
    let mut done = cx.call().progress;
    iov.advance(done);
    loop {
        let pipe = cx.k.vfs.pipes.get(id).ok_or(Errno::EBADF)?;
        if pipe.readers == 0 {
            caller::raise(cx, g::SIGPIPE);
            return match done {
                0 => Err(Errno::EPIPE.into()),
                done => Ok(done),
            };
        }
        let room = pipe.room();
        // A packet is a page at most, and goes in whole.
        let piece = iov.left().min(PIPE_BUF as u64) as usize;
        let (enough, room) = match packets {
            true => (room >= piece, piece),
            false => {
                let whole = total > PIPE_BUF as u64 || room as u64 >= total;
                (room > 0 && whole, room)
            }
        };
        if enough {
            match fill_pipe(cx, id, iov, room) {
                Ok(len) => {
                    if let Some(pipe) = cx.k.vfs.pipes.get_mut(id) {
                        pipe.wrote(len as usize, packets);
                    }
                    done += len;
                }
                Err(errno) if done == 0 => return Err(errno.into()),
                Err(_) => return Ok(done),
            }
            cx.k.notify(WaitKey::Pipe(id.0), ready::IN);
        }
        if iov.left() == 0 {
            return Ok(done);
        }
        if packets && enough {
            continue;
        }
        if no_wait {
            return match done {
                0 => Err(Errno::EAGAIN.into()),
                done => Ok(done),
            };
        }
        if cx
            .k
            .vfs
            .pipes
            .get(id)
            .is_some_and(|pipe| !enough || pipe.room() == 0)
        {
            return block_after(cx, done, Wait::on(WaitKey::Pipe(id.0)));
        }
    }
}

/// Copies at most `room` bytes from user memory to the end of a pipe.
fn fill_pipe(
    cx: &mut Cx<'_, '_>,
    id: PipeId,
    iov: &mut Iov,
    mut room: usize,
) -> Result<u64, Errno> {
    let mut done = 0;
    while room > 0 {
        let (from, len) = match iov.run(cx, room as u64, false) {
            Ok(Some(run)) => run,
            Ok(None) => break,
            Err(_) if done > 0 => break,
            Err(errno) => return Err(errno),
        };
        let Some(pipe) = cx.k.vfs.pipes.get_mut(id) else {
            break;
        };
        append(cx.p, &mut pipe.data, from, len)?;
        iov.advance(len);
        room -= len as usize;
        done += len;
    }
    Ok(done)
}
