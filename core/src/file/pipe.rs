//! Pipes and FIFOs (pipe(7), fifo(7)).
//!
//! What a pipe holds lies in a ring of pages ([`ring`]): it is full when no slot is free. Everything that
//! changes a pipe wakes [`WaitKey::Pipe`].

mod ring;

use super::ops::{FileOps, OpenFile};
use super::ready::{ERR, HUP, IN, NVAL, OUT};
use super::rw::How;
use super::{File, FileId, FileKind};
use crate::env::wait::{Blocking, SysResult};
use crate::file;
use crate::file::caller::FileCallers;
use crate::machine::ThreadId;
use crate::port::Ports;
use alloc::collections::BTreeMap;

pub(crate) use ring::{Kind, Ring};

use crate::abi::raw::general as g;
use crate::abi::{Errno, PAGE_SIZE};
use crate::args::OpenFlags;
use crate::env::bounds::rounded_pipe_size;
use crate::env::cx::Cx;
pub(crate) use crate::env::ids::PipeId;
use crate::env::settings;
use crate::env::settings::Setting;
use crate::env::wait::{Stop, Turn, Wait, WaitKey};
use crate::file::rw::{Iov, append as append_source};
use crate::file::{Files, fasync};
use crate::fs::anon;
use crate::fs::filesystem::{InodeRef, Source, Time};
use crate::vfs::mount::HeldPath;

/// Bytes that a pipe holds at first.
pub(crate) const PIPE_DEFAULT: usize = 65536;
pub(crate) const PIPE_MAX_PRIVILEGED: usize = 1 << 24;
/// Marks the progress of a write that has waited: it adds nothing to the page of another one.
const WAITED: u64 = 1 << 31;
/// Most pipes there can be.
const PIPES_MAX: usize = 1 << 16;

/// One pipe.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Pipe {
    pub ring: Ring,
    /// Bytes that are charged for it, in whole pages.
    charged: u64,
    /// Open files that read and that write.
    pub readers: u32,
    pub writers: u32,
    /// There was a writer: without one since, readers see a hang-up.
    pub had_writer: bool,
    /// The inode, if this is a FIFO.
    fifo: Option<InodeRef>,
    /// The user who pays for its pages, full or not.
    user: u32,
}

impl Pipe {
    /// Bytes that its ring may take, in whole pages, beyond what an empty one keeps.
    fn held(&self) -> u64 {
        self.ring.held().next_multiple_of(PAGE_SIZE)
    }

    /// Pages that it may hold.
    fn pages(&self) -> u64 {
        self.ring.capacity() as u64 / PAGE_SIZE
    }

    /// Whether its ring is in order; for invariant checks.
    pub(crate) fn is_consistent(&self) -> bool {
        self.ring.is_consistent()
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
    /// Pages that pipes of each user may hold.
    pages: BTreeMap<u32, u64>,
}

/// Who makes a pipe or changes its size.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Maker {
    /// Owner and group of a pipe without a name.
    pub owner: (u32, u32),
    /// The real user, who pays.
    pub user: u32,
    /// `CAP_SYS_RESOURCE`: pipes may be larger.
    pub large: bool,
    /// That or `CAP_SYS_ADMIN`: there may be more pages of the user.
    pub unlimited: bool,
}

impl<K: FileCallers> Cx<'_, '_, K> {
    /// The caller, who makes a pipe or changes its size.
    pub(crate) fn pipe_maker(&self) -> Maker {
        let creds = self.creds();
        let large = creds.capable(g::CAP_SYS_RESOURCE);
        Maker {
            owner: (creds.fsuid, creds.fsgid),
            user: creds.uid,
            large,
            unlimited: large || creds.capable(g::CAP_SYS_ADMIN),
        }
    }
}

/// Whether a user with so many pages of pipes has more than this setting lets.
fn exceeds(k: &Files, setting: Setting, pages: u64) -> bool {
    let most = k.env.settings.get(setting);
    most != 0 && i128::from(pages) > most
}

impl Pipes {
    pub(crate) fn new() -> Pipes {
        Pipes {
            pipes: BTreeMap::new(),
            fifos: BTreeMap::new(),
            next: 0,
            charged: 0,
            pages: BTreeMap::new(),
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

    /// Bytes that the pipes themselves take, with what empty ones keep.
    pub(crate) fn held(&self) -> u64 {
        const PIPE_COST: u64 = 512 + ring::BYTES_KEPT as u64;
        self.pipes.len() as u64 * PIPE_COST
    }

    /// Whether just what pipes hold is charged; for invariant checks.
    pub(crate) fn is_charged(&self) -> bool {
        let mut pages = BTreeMap::new();
        for pipe in self.pipes.values() {
            *pages.entry(pipe.user).or_insert(0) += pipe.pages();
        }
        if pages != self.pages {
            return false;
        }
        let each = self.pipes.values().all(|pipe| pipe.charged == pipe.held());
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
        self.account(pipe.user, 0, pipe.pages());
        self.pipes.insert(id, pipe);
        Ok(id)
    }

    /// Pages of a user's pipes.
    fn pages_of(&self, user: u32) -> u64 {
        self.pages.get(&user).copied().unwrap_or(0)
    }

    /// A pipe of a user may hold other than so many pages.
    fn account(&mut self, user: u32, old: u64, new: u64) {
        let pages = self.pages_of(user) + new - old;
        match pages {
            0 => self.pages.remove(&user),
            pages => self.pages.insert(user, pages),
        };
    }
}

/// Forgets a pipe.
pub(crate) fn remove(k: &mut Files, id: PipeId) {
    let pipes = &mut k.pipes;
    if let Some(pipe) = pipes.pipes.remove(&id) {
        if let Some(fifo) = pipe.fifo {
            pipes.fifos.remove(&fifo);
        }
        pipes.account(pipe.user, pipe.pages(), 0);
        pipes.charged -= pipe.charged;
        k.frames.charge(pipe.charged, 0);
    }
}

/// Charges what a pipe holds: something in it has changed. Memory that it does not need any more is given
/// back.
pub(crate) fn charge(k: &mut Files, id: u64) {
    let pipes = &mut k.pipes;
    if let Some(pipe) = pipes.pipes.get_mut(&PipeId(id)) {
        pipe.ring.shrink();
        let new = pipe.held();
        let old = core::mem::replace(&mut pipe.charged, new);
        pipes.charged = pipes.charged + new - old;
        k.frames.charge(old, new);
    }
}

/// A pipe of the size that its maker gets (`alloc_pipe_info()`); `None` if there may be no more pages.
fn new(k: &Files, fifo: Option<InodeRef>, by: &Maker) -> Option<Pipe> {
    /// Bytes of the pipes of who has many already.
    const SMALL: u64 = 2 * PAGE_SIZE;
    let most = k.env.settings.get(settings::PIPE_SIZE) as u64;
    let mut size = match by.large {
        true => PIPE_DEFAULT as u64,
        false => most.min(PIPE_DEFAULT as u64),
    };
    let others = k.pipes.pages_of(by.user);
    let exceeds = |setting, size| exceeds(k, setting, others + size / PAGE_SIZE) && !by.unlimited;
    if exceeds(settings::PIPE_PAGES_SOFT, size) {
        size = SMALL;
    }
    if exceeds(settings::PIPE_PAGES_HARD, size) {
        return None;
    }
    Some(Pipe {
        ring: Ring::new(size as usize),
        readers: 0,
        writers: 0,
        had_writer: false,
        charged: 0,
        fifo,
        user: by.user,
    })
}

/// A pipe without a name that nobody has opened yet, and its place. `ENFILE`.
pub(crate) fn create(k: &mut Files, by: &Maker) -> Result<(PipeId, HeldPath), Errno> {
    let pipe = new(k, None, by).ok_or(Errno::ENFILE)?;
    let id = k.pipes.add(pipe)?;
    let made = Time::from_nanos(k.env.now.real);
    k.objects
        .add(anon::pipe_ino(id), g::S_IFIFO | 0o600, by.owner, made);
    Ok((id, crate::vfs::object::path(k, anon::pipe_ino(id))))
}

/// The pipe behind a FIFO, made if need be. `ENOMEM`, `ENFILE`.
pub(crate) fn of_fifo(k: &mut Files, inode: InodeRef, by: &Maker) -> Result<PipeId, Errno> {
    if let Some(&id) = k.pipes.fifos.get(&inode) {
        return Ok(id);
    }
    let pipe = new(k, Some(inode), by).ok_or(Errno::ENOMEM)?;
    let id = k.pipes.add(pipe)?;
    k.pipes.fifos.insert(inode, id);
    Ok(id)
}

/// The pipe behind a FIFO, if somebody has it open.
pub(crate) fn find_fifo(k: &Files, inode: InodeRef) -> Option<&Pipe> {
    k.pipes
        .fifos
        .get(&inode)
        .and_then(|id| k.pipes.pipes.get(id))
}

/// An end was opened, or both, as the access mode says.
pub(crate) fn open_end(k: &mut Files, id: PipeId, flags: OpenFlags) {
    if let Some(pipe) = k.pipes.get_mut(id) {
        pipe.readers += u32::from(flags.reads());
        pipe.writers += u32::from(flags.writes());
        pipe.had_writer |= flags.writes();
    }
    k.wake(WaitKey::Pipe(id.0));
}

/// What was opened so was closed. The pipe behind a FIFO goes with its last end; others go with their dentry.
pub(crate) fn close_end(k: &mut Files, id: PipeId, flags: OpenFlags) {
    let Some(pipe) = k.pipes.get_mut(id) else {
        return;
    };
    pipe.readers -= u32::from(flags.reads());
    pipe.writers -= u32::from(flags.writes());
    if pipe.readers + pipe.writers == 0 && pipe.fifo.is_some() {
        remove(k, id);
    }
    k.wake(WaitKey::Pipe(id.0));
}

/// Bytes were taken out. Those who wait for room are told if there was none; a file's owner is told each
/// time.
pub(crate) fn drained(k: &mut Files, id: PipeId, was_full: bool) {
    let key = WaitKey::Pipe(id.0);
    let is_full = k.pipes.get(id).is_none_or(|pipe| pipe.ring.is_full());
    match was_full && !is_full {
        true => k.notify(key, OUT),
        false => {
            k.notify(key, 0);
            fasync::announce(k, key, OUT);
        }
    }
}

/// Adds bytes of the kernel in slots of their own, the first one at this place of its page.
pub(crate) fn append(k: &mut Files, id: PipeId, bytes: &[u8], start: u64) {
    if bytes.is_empty() {
        return;
    }
    if let Some(pipe) = k.pipes.get_mut(id) {
        pipe.ring.append(bytes, start, Kind::Lent);
    }
    k.notify(WaitKey::Pipe(id.0), IN);
}

/// Takes bytes out that went elsewhere.
pub(crate) fn consume(k: &mut Files, id: PipeId, len: u64) {
    let Some(pipe) = k.pipes.get_mut(id) else {
        return;
    };
    let free = pipe.ring.free();
    pipe.ring.take(len as usize, false);
    // Nobody is told as long as no slot has become free.
    match pipe.ring.free() == free {
        true => k.notify(WaitKey::Pipe(id.0), 0),
        false => drained(k, id, free == 0),
    }
}

/// What becomes of buffers that another pipe gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Passing {
    /// They leave the one that they were in (splice(2)).
    Moves,
    /// They stay there, too (tee(2)).
    Copies,
}

/// Moves or copies buffers from one pipe to another: how many bytes.
pub(crate) fn pass(k: &mut Files, from: PipeId, to: PipeId, len: u64, passing: Passing) -> u64 {
    let pipes = &mut k.pipes;
    let free = pipes.get(to).map_or(0, |pipe| pipe.ring.free());
    let Some(source) = pipes.get(from) else {
        return 0;
    };
    let (front, sum) = source.ring.front(len, free, passing);
    let bytes = source.ring.copy(sum);
    if sum > 0 {
        if let Some(target) = pipes.get_mut(to) {
            target.ring.adopt(front, &bytes);
        }
        k.notify(WaitKey::Pipe(to.0), IN);
        if passing == Passing::Moves {
            consume(k, from, sum as u64);
        }
    }
    sum as u64
}

/// `F_SETPIPE_SZ`: the new capacity. `EPERM` for one that is larger than others may make pipes, or who has
/// too many pages.
pub(crate) fn set_capacity(
    k: &mut Files,
    id: PipeId,
    asked: u64,
    by: &Maker,
) -> Result<u64, Errno> {
    let size = rounded_pipe_size(asked).ok_or(Errno::EINVAL)?;
    let most = k.env.settings.get(settings::PIPE_SIZE) as u64;
    let pipe = k.pipes.get(id).ok_or(Errno::EBADF)?;
    let (user, old, new) = (pipe.user, pipe.pages(), size / PAGE_SIZE);
    let larger = new > old;
    if larger && size > most && !by.large || size > PIPE_MAX_PRIVILEGED as u64 {
        return Err(Errno::EPERM);
    }
    let pages = k.pipes.pages_of(user) + new - old;
    let settings = [settings::PIPE_PAGES_HARD, settings::PIPE_PAGES_SOFT];
    if larger && !by.unlimited && settings.iter().any(|&one| exceeds(k, one, pages)) {
        return Err(Errno::EPERM);
    }
    let pipe = k.pipes.get_mut(id).ok_or(Errno::EBADF)?;
    if !pipe.ring.resize(new as usize) {
        return Err(Errno::EBUSY);
    }
    k.pipes.account(user, old, new);
    k.wake(WaitKey::Pipe(id.0));
    Ok(size)
}

/// Reads what is there, or waits for it; a packet ends the read. What is wanted of a buffer is taken out once
/// all of it has reached the program.
pub(crate) fn read<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    id: PipeId,
    iov: &mut Iov,
    blocking: Blocking,
) -> Result<u64, Stop> {
    let max = iov.left();
    if max == 0 {
        return Ok(0);
    }
    let pipe = cx.k.files().pipes.get(id).ok_or(Errno::EBADF)?;
    if pipe.ring.is_empty() {
        if pipe.writers == 0 {
            return Ok(0);
        }
        if blocking == Blocking::Fails {
            return Err(Errno::EAGAIN.into());
        }
        return Wait::on(WaitKey::Turn(Turn::PipeBytes(id.0))).into();
    }
    let was_full = pipe.ring.is_full();
    let wanted = pipe.ring.readable(max, usize::MAX);
    let mut copied = 0;
    let mut result = Ok(());
    while copied < wanted
        && let Some(pipe) = cx.k.files().pipes.get(id)
    {
        let most = pipe.ring.bytes(copied).len().min(wanted - copied);
        let (to, len) = match iov.run(cx, most as u64, true) {
            Ok(Some((Source::Memory(to), len))) => (to, len as usize),
            Ok(_) => break,
            Err(errno) => {
                result = Err(errno);
                break;
            }
        };
        if let Some(pipe) = cx.k.files().pipes.get(id) {
            cx.p.memory.write(to, &pipe.ring.bytes(copied)[..len]);
        }
        iov.advance(len as u64);
        copied += len;
    }
    let pipe = cx.k.files_mut().pipes.get_mut(id).ok_or(Errno::EBADF)?;
    let done = pipe.ring.readable(max, copied);
    if done == 0 {
        result?;
    }
    pipe.ring.take(done, true);
    drained(cx.k.files_mut(), id, was_full);
    Ok(done as u64)
}

/// Writes everything, waiting for room, unless the call must not wait.
pub(crate) fn write<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    id: PipeId,
    iov: &mut Iov,
    blocking: Blocking,
    packets: bool,
) -> Result<u64, Stop> {
    let total = iov.left();
    if total == 0 {
        return Ok(0);
    }
    let key = WaitKey::Pipe(id.0);
    let kind = match packets {
        true => Kind::Packet,
        false => Kind::Stream,
    };
    let mut first = cx.call_state().progress == 0;
    let mut done = cx.call_state().progress & !WAITED;
    iov.advance(done);
    loop {
        let pipe = cx.k.files().pipes.get(id).ok_or(Errno::EBADF)?;
        if pipe.readers == 0 {
            cx.k.raise(cx.thread, g::SIGPIPE);
            return match done {
                0 => Err(Errno::EPIPE.into()),
                done => Ok(done),
            };
        }
        // What goes beyond whole pages fits behind what was written before, or it takes a slot.
        let odd = total % PAGE_SIZE;
        if core::mem::take(&mut first) && odd > 0 && odd as usize <= pipe.ring.merge_room() {
            let (len, result) = fill(cx, id, iov, odd, odd);
            if len == 0 {
                result?;
                return Ok(0);
            }
            if let Some(pipe) = cx.k.files_mut().pipes.get_mut(id) {
                pipe.ring.merged(len as usize);
            }
            done += len;
            cx.k.files_mut().notify(key, IN);
            if iov.left() == 0 {
                return Ok(done);
            }
            continue;
        }
        let room = pipe.ring.room_from(0) as u64;
        if room > 0 {
            let (len, result) = fill(cx, id, iov, room, PAGE_SIZE);
            if let Some(pipe) = cx.k.files_mut().pipes.get_mut(id) {
                pipe.ring.wrote(len as usize, 0, kind);
            }
            done += len;
            if len > 0 {
                cx.k.files_mut().notify(key, IN);
            }
            match result {
                Err(errno) if done == 0 => return Err(errno.into()),
                Ok(()) if iov.left() > 0 => {}
                _ => return Ok(done),
            }
        }
        if blocking == Blocking::Fails {
            return match done {
                0 => Err(Errno::EAGAIN.into()),
                done => Ok(done),
            };
        }
        let turn = WaitKey::Turn(Turn::PipeRoom(id.0));
        let waits = cx.block_after(done, Wait::on(turn));
        if waits.is_err() {
            cx.call_state().progress |= WAITED;
        }
        return waits;
    }
}

/// Puts pages of user memory into a pipe (vmsplice(2)), each in a slot of its own, until it is full: how
/// many bytes.
pub(crate) fn add_user_pages<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    id: PipeId,
    iov: &mut Iov,
) -> Result<u64, Errno> {
    let mut done = 0;
    while let Some((addr, len)) = iov.front()
        && iov.left() > 0
        && cx
            .k
            .files()
            .pipes
            .get(id)
            .is_some_and(|pipe| !pipe.ring.is_full())
    {
        let len = len.min(iov.left()).min(PAGE_SIZE - addr % PAGE_SIZE);
        let (len, result) = fill(cx, id, iov, len, len);
        if len == 0 {
            if done == 0 {
                result?;
            }
            break;
        }
        if let Some(pipe) = cx.k.files_mut().pipes.get_mut(id) {
            pipe.ring.wrote(len as usize, addr, Kind::Lent);
        }
        done += len;
    }
    if done > 0 {
        cx.k.files_mut().notify(WaitKey::Pipe(id.0), IN);
    }
    Ok(done)
}

/// Copies at most `room` bytes from user memory to the end of a pipe's queue, in whole pieces of `unit` bytes
/// but for the last: how many, and why there are not more.
fn fill<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    id: PipeId,
    iov: &mut Iov,
    room: u64,
    unit: u64,
) -> (u64, Result<(), Errno>) {
    let wanted = room.min(iov.left());
    let mut done = 0;
    let mut result = Ok(());
    while done < wanted && result.is_ok() {
        let run = iov.run(cx, wanted - done, false);
        let Some(pipe) = cx.k.files_mut().pipes.get_mut(id) else {
            break;
        };
        result = match run {
            Ok(Some((from, len))) => {
                let added = append_source(cx.p, pipe.ring.queue(), from, len);
                if added.is_ok() {
                    iov.advance(len);
                    done += len;
                }
                added
            }
            Ok(None) => break,
            Err(errno) => Err(errno),
        };
    }
    let whole = match result {
        Ok(()) => done,
        Err(_) => done - done % unit,
    };
    if let Some(pipe) = cx.k.files_mut().pipes.get_mut(id) {
        let queue = pipe.ring.queue();
        queue.truncate(queue.len() - (done - whole) as usize);
    }
    (whole, result)
}

/// An end of a pipe, or both.
pub(super) struct Ops;

/// The pipe that an open file is an end of. `EBADF` for others.
fn pipe_of(k: &Files, id: FileId) -> Result<PipeId, Errno> {
    match file::at(k, id).kind {
        FileKind::Pipe(pipe) => Ok(pipe),
        _ => Err(Errno::EBADF),
    }
}

impl OpenFile for Ops {
    const HOLDS: bool = true;

    fn signal_key(file: &File, _id: FileId) -> Option<WaitKey> {
        match file.kind {
            FileKind::Pipe(pipe) => Some(WaitKey::Pipe(pipe.0)),
            _ => None,
        }
    }

    fn concerns(file: &File) -> u16 {
        (if file.readable() { IN } else { 0 }) | (if file.writable() { OUT } else { 0 })
    }

    fn release(k: &mut Files, _p: &mut Ports<'_>, id: FileId, kind: FileKind) {
        if let FileKind::Pipe(pipe) = kind {
            let flags = file::at(k, id).flags;
            close_end(k, pipe, flags);
        }
    }
}

impl<K: FileCallers> FileOps<K> for Ops {
    fn read(cx: &mut Cx<'_, '_, K>, id: FileId, iov: &mut Iov, how: How) -> SysResult {
        let pipe = pipe_of(cx.k.files(), id)?;
        read(cx, pipe, iov, how.blocking)
    }

    fn write(cx: &mut Cx<'_, '_, K>, id: FileId, iov: &mut Iov, how: How) -> SysResult {
        let pipe = pipe_of(cx.k.files(), id)?;
        let packets = file::at(cx.k.files(), id).flags.contains(OpenFlags::DIRECT);
        write(cx, pipe, iov, how.blocking, packets)
    }

    fn seek(_cx: &mut Cx<'_, '_, K>, _id: FileId, _offset: i64, _whence: u32) -> SysResult {
        Err(Errno::ESPIPE.into())
    }

    fn ready(k: &K, _thread: ThreadId, id: FileId, _depth: u32) -> u16 {
        let file = file::at(k.files(), id);
        let pipe = pipe_of(k.files(), id)
            .ok()
            .and_then(|id| k.files().pipes.get(id));
        let Some(pipe) = pipe else {
            return NVAL;
        };
        let mut ready = 0;
        if file.readable() {
            ready |= if pipe.ring.is_empty() { 0 } else { IN };
            let ended = pipe.writers == 0 && pipe.had_writer;
            ready |= if ended { HUP } else { 0 };
        }
        if file.writable() {
            ready |= if pipe.ring.is_full() { 0 } else { OUT };
            ready |= if pipe.readers == 0 { ERR } else { 0 };
        }
        ready
    }

    fn key(k: &K, _thread: ThreadId, id: FileId) -> Option<WaitKey> {
        Self::signal_key(file::at(k.files(), id), id)
    }

    fn available(cx: &mut Cx<'_, '_, K>, id: FileId) -> Result<i64, Stop> {
        let pipe = pipe_of(cx.k.files(), id)?;
        let pipe = cx.k.files().pipes.get(pipe).ok_or(Errno::EBADF)?;
        Ok(pipe.ring.len() as i64)
    }
}
