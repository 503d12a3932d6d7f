//! Asynchronous input and output (io_setup(2), io_submit(2), io_getevents(2)).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::file;
use super::poll::take_mask;
use crate::abi::raw::general as g;
use crate::abi::{Errno, PAGE_SIZE, TASK_SIZE};
use crate::args::*;
use crate::env::wait::{Restart, Stop, SysResult, Wait, WaitKey};
use crate::file::aio::{ContextId, Event, Poll};
use crate::file::rw::{Iov, MAX_RW};
use crate::file::shared;
use crate::file::{FileId, FileKind, aio, at, fdtable, get, ready, rw};
use crate::kernel::Cx;
use crate::machine::Prot;
use crate::mm::map;
use crate::mm::space::areas_most;
use crate::mm::vma::{Behind, VmFlags, Vma};
use crate::task::signal;

/// What a request asks for (`IOCB_CMD_`).
const PREAD: u16 = 0;
const PWRITE: u16 = 1;
const FSYNC: u16 = 2;
const FDSYNC: u16 = 3;
const POLL: u16 = 5;
const PREADV: u16 = 7;
const PWRITEV: u16 = 8;
/// `IOCB_FLAG_RESFD`
const TELL: u32 = 1;
/// Where the key is in a request; the kernel's own value.
const KEY_AT: u64 = 8;
const KEY: u32 = 0;
/// Bytes of `struct iovec`.
const IOVEC_SIZE: u64 = 16;
const NANOS: i64 = 1_000_000_000;

/// `struct iocb`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Iocb {
    data: u64,
    key: u32,
    rw_flags: u32,
    opcode: u16,
    priority: i16,
    fd: i32,
    buf: u64,
    bytes: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    tell: i32,
}

/// The context of an address: what begins there must be its ring. `EINVAL`.
fn context(cx: &mut Cx<'_, '_>, addr: u64) -> Result<ContextId, Errno> {
    let space = cx.space();
    let id = ContextId { space, addr };
    let number = cx.read_obj(addr).map_err(|_| Errno::EINVAL)?;
    match aio::get(cx.k, id)?.has_number(number) {
        true => Ok(id),
        false => Err(Errno::EINVAL),
    }
}

pub(super) fn io_setup(cx: &mut Cx<'_, '_>, nr_events: Uint, ctxp: Addr) -> SysResult {
    let old: u64 = cx.read_obj(ctxp.0)?;
    if old != 0 {
        return Err(Errno::EINVAL.into());
    }
    aio::check_room(cx.k, nr_events.0)?;
    let space = cx.space();
    let size = aio::ring_size(cx.k, nr_events.0);
    let limit = cx.rlimit(g::RLIMIT_AS);
    let most = areas_most(cx.k);
    let areas = cx.k.mm.space_mut(space);
    if areas.total() + size > limit || areas.vmas.len() >= most {
        return Err(Errno::ENOMEM.into());
    }
    let start = areas.gap(size)?;
    let owner = (cx.creds().fsuid, cx.creds().fsgid);
    let file = shared::memory_file(cx.k, cx.p, b"[aio]", 0o600, owner, size);
    let file = file.map_err(|_| Errno::ENOMEM)?;
    // A program that unmapped the ring of another context cannot name that one any more.
    let id = ContextId { space, addr: start };
    let _ = aio::remove(cx.k, cx.p, id);
    get(cx.k, file);
    if let Err(errno) = aio::add(cx.k, cx.p, id, nr_events.0, file) {
        crate::file::put(cx.k, cx.p, file);
        return Err(match errno {
            Errno::ENOSPC => Errno::ENOMEM,
            errno => errno,
        }
        .into());
    }
    let vma = Vma {
        shared: true,
        flags: VmFlags::empty(),
        ..Vma::private(
            start + size,
            Prot::READ | Prot::WRITE,
            Behind::File { file, offset: 0 },
        )
    };
    map::insert(cx.k, cx.p, space, start, vma);
    if let Err(errno) = cx.write_obj(ctxp.0, &start) {
        aio::remove(cx.k, cx.p, id)?;
        map::unmap(cx.k, cx.p, space, start, start + size)?;
        return Err(errno.into());
    }
    Ok(0)
}

pub(super) fn io_destroy(cx: &mut Cx<'_, '_>, ctx: Hex) -> SysResult {
    let id = context(cx, ctx.0)?;
    let size = aio::get(cx.k, id)?.ring_size();
    aio::remove(cx.k, cx.p, id)?;
    // As in Linux whatever lies there goes, and it is no matter if it cannot.
    let end = ctx.0.saturating_add(size).min(TASK_SIZE);
    let _ = map::unmap(cx.k, cx.p, id.space, ctx.0, end);
    Ok(0)
}

pub(super) fn io_submit(cx: &mut Cx<'_, '_>, ctx: Hex, nr: Ulong, iocbpp: Addr) -> SysResult {
    if (nr.0 as i64) < 0 {
        return Err(Errno::EINVAL.into());
    }
    let id = context(cx, ctx.0)?;
    let count = nr.0.min(aio::get(cx.k, id)?.room());
    // A request may wait, as for a pipe: then this many before it are done, and this is how far it is itself.
    let word = cx.call().progress;
    let mut done = word >> 32;
    cx.call().progress = word & u64::from(u32::MAX);
    // One call moves no more bytes than a read(2): the rest is for the next one.
    let mut left = MAX_RW;
    while done < count && left > 0 {
        if cx.is_spent() && cx.call().progress == 0 && done > word >> 32 {
            return Err(cx.give_way(done << 32));
        }
        let submitted = cx
            .read_obj(iocbpp.0.wrapping_add(done * 8))
            .map_err(Stop::Errno)
            .and_then(|at: u64| submit(cx, id, at));
        match submitted {
            Ok(moved) => {
                done += 1;
                left = left.saturating_sub(moved);
                // What was moved in pieces has had inputs of its own.
                cx.spend(8 + moved.min(4 << 20) / PAGE_SIZE);
            }
            Err(Stop::Block(wait)) => {
                cx.call().progress |= done << 32;
                return Err(Stop::Block(wait));
            }
            Err(_) if done > 0 => break,
            Err(stop) => return Err(stop),
        }
        cx.call().progress = 0;
    }
    Ok(done)
}

/// Makes a request, or adds it: how many bytes that has moved, those included that say where bytes go.
fn submit(cx: &mut Cx<'_, '_>, id: ContextId, request: u64) -> Result<u64, Stop> {
    let iocb: Iocb = cx.read_obj(request)?;
    if iocb.reserved != 0 || (iocb.bytes as i64) < 0 {
        return Err(Errno::EINVAL.into());
    }
    if aio::is_full(cx.k, cx.p, id)? {
        return Err(Errno::EAGAIN.into());
    }
    let file = fdtable::get(cx, iocb.fd)?;
    let mut tell = None;
    if iocb.flags & TELL != 0 {
        let counter = fdtable::get(cx, iocb.tell)?;
        if !aio::is_counter(cx.k, counter) {
            return Err(Errno::EINVAL.into());
        }
        tell = Some(counter);
    }
    cx.write_obj(request.wrapping_add(KEY_AT), &KEY)?;
    let result = match iocb.opcode {
        PREAD | PREADV | PWRITE | PWRITEV => match transfer(cx, file, &iocb) {
            // What a signal ends is this request, not those that were made before it.
            Err(Stop::Block(wait)) if is_interrupted(cx, &wait) => match cx.call().progress {
                0 => -i64::from(Errno::EINTR.number()),
                moved => moved as i64,
            },
            result => result?,
        },
        FSYNC | FDSYNC => {
            if iocb.buf != 0 || iocb.offset != 0 || iocb.bytes != 0 || iocb.rw_flags != 0 {
                return Err(Errno::EINVAL.into());
            }
            file::sync_file(cx, Fd(iocb.fd))? as i64
        }
        POLL => {
            poll(cx, id, (file, tell), request, &iocb)?;
            return Ok(0);
        }
        _ => return Err(Errno::EINVAL.into()),
    };
    let event = Event {
        data: iocb.data,
        request,
        result,
    };
    if let Some(counter) = tell {
        get(cx.k, counter);
    }
    aio::complete(cx.k, id, event, tell);
    aio::complete_ended(cx.k, cx.p);
    let vector = match iocb.opcode {
        PREADV | PWRITEV => iocb.bytes.saturating_mul(IOVEC_SIZE),
        _ => 0,
    };
    Ok(vector.saturating_add(u64::try_from(result).unwrap_or(0)))
}

/// Whether a signal ends the wait of a request.
fn is_interrupted(cx: &mut Cx<'_, '_>, wait: &Wait) -> bool {
    let under_way = cx.call().op.is_some();
    !under_way && signal::ends(cx.k, cx.thread, wait)
}

/// Reads or writes: the result of the request. Errors of the request itself are those of io_submit(2).
fn transfer(cx: &mut Cx<'_, '_>, id: FileId, iocb: &Iocb) -> Result<i64, Stop> {
    let writes = matches!(iocb.opcode, PWRITE | PWRITEV);
    let mut how = file::how_of(RwFlags::from_bits_retain(iocb.rw_flags))?;
    let file = at(cx.k, id);
    let allowed = match writes {
        true => file.writable(),
        false => file.readable(),
    };
    if !allowed {
        return Err(Errno::EBADF.into());
    }
    // Files without a position pass over the one that is given.
    if file.kind.has_position() {
        how.at = Some(u64::try_from(iocb.offset).map_err(|_| Errno::EINVAL)?);
    }
    if matches!(
        file.kind,
        FileKind::Directory | FileKind::Epoll(_) | FileKind::PidFd(_)
    ) {
        return Err(Errno::EINVAL.into());
    }
    let mut iov = match iocb.opcode {
        PREAD | PWRITE => Iov::single(iocb.buf, iocb.bytes)?,
        _ => Iov::vector(cx, iocb.buf, iocb.bytes)?,
    };
    let done = match writes {
        true => rw::write(cx, id, &mut iov, how),
        false => rw::read(cx, id, &mut iov, how),
    };
    match done {
        Ok(done) => Ok(done as i64),
        Err(Stop::Errno(errno)) => Ok(-i64::from(errno.number())),
        Err(stop) => Err(stop),
    }
}

fn poll(
    cx: &mut Cx<'_, '_>,
    id: ContextId,
    (file, tell): (FileId, Option<FileId>),
    request: u64,
    iocb: &Iocb,
) -> Result<(), Stop> {
    let events = u16::try_from(iocb.buf).map_err(|_| Errno::EINVAL)?;
    if iocb.offset != 0 || iocb.bytes != 0 || iocb.rw_flags != 0 {
        return Err(Errno::EINVAL.into());
    }
    aio::check_polls(cx.k)?;
    get(cx.k, file);
    if let Some(counter) = tell {
        get(cx.k, counter);
    }
    let events = events | ready::ERR | ready::HUP;
    let thread = cx.thread;
    let asked = (iocb.data, request);
    let poll = Poll::new(cx.k, asked, (file, events), tell, thread);
    aio::add_poll(cx.k, cx.p, id, poll);
    Ok(())
}

pub(super) fn io_cancel(cx: &mut Cx<'_, '_>, ctx: Hex, iocb: Addr, _result: Addr) -> SysResult {
    let key: u32 = cx.read_obj(iocb.0.wrapping_add(KEY_AT))?;
    if key != KEY {
        return Err(Errno::EINVAL.into());
    }
    let id = context(cx, ctx.0)?;
    aio::cancel(cx.k, cx.p, id, iocb.0)?;
    // It ends as any other, with an event.
    Err(Errno::EINPROGRESS.into())
}

/// Reads at least `min` events, at most `max`, as many as there are when the time is over.
fn read_events(
    cx: &mut Cx<'_, '_>,
    ctx: Hex,
    (min, max): (i64, i64),
    at: u64,
    timeout: Option<u64>,
    restart: Restart,
) -> SysResult {
    let id = context(cx, ctx.0)?;
    let ready = aio::ready(cx.k, cx.p, id)?;
    if min > max || min < 0 {
        return Err(Errno::EINVAL.into());
    }
    let over = timeout.is_some_and(|timeout| cx.expired(timeout));
    if (ready as i64) < min && !over {
        let entered = cx.call().entered.mono;
        let deadline = timeout.map(|timeout| entered.saturating_add(timeout));
        let interrupted = signal::interrupts(cx.k, cx.thread);
        if ready == 0 || !interrupted {
            return Wait::on(WaitKey::Aio(id))
                .until(deadline)
                .restart(restart)
                .into();
        }
    }
    let mut done = 0;
    while done < max as u64 {
        let Some(words) = aio::first(cx.k, cx.p, id)? else {
            break;
        };
        match cx.write_obj(at.wrapping_add(done * 32), &words) {
            Ok(()) => {}
            Err(_) if done > 0 => break,
            Err(errno) => return Err(errno.into()),
        }
        aio::consume(cx.k, cx.p, id)?;
        done += 1;
    }
    Ok(done)
}

/// How long to wait: not at all if that is negative, which is no error here.
fn read_timeout(cx: &mut Cx<'_, '_>, timeout: Addr) -> Result<Option<u64>, Errno> {
    if timeout.0 == 0 {
        return Ok(None);
    }
    let [sec, nsec]: [i64; 2] = cx.read_obj(timeout.0)?;
    let nanos = sec.saturating_mul(NANOS).saturating_add(nsec);
    Ok(Some(u64::try_from(nanos).unwrap_or(0)))
}

pub(super) fn io_getevents(
    cx: &mut Cx<'_, '_>,
    ctx: Hex,
    min_nr: Offset,
    nr: Offset,
    events: Addr,
    timeout: Addr,
) -> SysResult {
    let timeout = read_timeout(cx, timeout)?;
    read_events(cx, ctx, (min_nr.0, nr.0), events.0, timeout, Restart::Never)
}

pub(super) fn io_pgetevents(
    cx: &mut Cx<'_, '_>,
    ctx: Hex,
    min_nr: Offset,
    nr: Offset,
    events: Addr,
    timeout: Addr,
    sig: Addr,
) -> SysResult {
    let timeout = read_timeout(cx, timeout)?;
    if sig.0 != 0 {
        let [mask, size]: [u64; 2] = cx.read_obj(sig.0)?;
        take_mask(cx, mask, size)?;
    }
    let restart = Restart::IfNoHandler;
    read_events(cx, ctx, (min_nr.0, nr.0), events.0, timeout, restart)
}
