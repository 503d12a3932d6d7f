//! Waiting for many files (epoll(7)).

use crate::file::ops;
use crate::file::stream;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::missing::known;
use super::poll::{read_span, take_mask};
use crate::abi::raw::general as g;
use crate::abi::{Errno, TASK_SIZE};
use crate::args::*;
use crate::env::wait::{Restart, Stop, SysResult, Wait, WaitKey};
use crate::event::{HostCall, HostResult};
use crate::file;
use crate::file::epoll::ItemKey;
use crate::file::{FileId, FileKind, epoll, fdtable, ready};
use crate::fs::anon::Anon;
use crate::kernel::Cx;

/// `struct epoll_event`, which is packed on x86-64.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, packed)]
struct UserEvent {
    events: u32,
    data: u64,
}

const EVENT_SIZE: u64 = size_of::<UserEvent>() as u64;
/// Most events of one wait (`EP_MAX_EVENTS`).
const EVENTS_MAX: i32 = i32::MAX / EVENT_SIZE as i32;
const NANOS_PER_MS: u64 = 1_000_000;

pub(super) fn epoll_create(cx: &mut Cx<'_, '_>, size: Int) -> SysResult {
    match size.0 {
        ..=0 => Err(Errno::EINVAL.into()),
        _ => create(cx, EpollFlags::empty()),
    }
}

pub(super) fn epoll_create1(cx: &mut Cx<'_, '_>, flags: EpollFlags) -> SysResult {
    create(cx, flags)
}

fn create(cx: &mut Cx<'_, '_>, flags: EpollFlags) -> SysResult {
    let on_exec = known(cx, flags)?.on_exec();
    let kind = FileKind::Epoll(alloc::boxed::Box::default());
    Ok(ready::install(cx, kind, Anon::Epoll, OpenFlags::RDWR, on_exec)? as u64)
}

fn is_epoll(cx: &Cx<'_, '_>, id: FileId) -> bool {
    matches!(file::at(cx.k, id).kind, FileKind::Epoll(_))
}

pub(super) fn epoll_ctl(
    cx: &mut Cx<'_, '_>,
    epfd: Fd,
    op: EpollOp,
    fd: Fd,
    event: Addr,
) -> SysResult {
    let exclusive_ok = EpollEvents::IN
        | EpollEvents::OUT
        | EpollEvents::ERR
        | EpollEvents::HUP
        | EpollEvents::WAKEUP
        | EpollEvents::ET
        | EpollEvents::EXCLUSIVE;
    let event = match op {
        EpollOp::Del => UserEvent::default(),
        _ => cx.read_obj(event.0)?,
    };
    let data = event.data;
    let mut events = EpollEvents::from_bits_retain(event.events);
    let outer = fdtable::get(cx, epfd.0)?;
    let inner = fdtable::get(cx, fd.0)?;
    if !ops::can_wait(cx.k, file::at(cx.k, inner)) {
        return Err(Errno::EPERM.into());
    }
    if outer == inner || !is_epoll(cx, outer) {
        return Err(Errno::EINVAL.into());
    }
    // It would only keep a machine from going to sleep.
    events -= EpollEvents::WAKEUP;
    if op != EpollOp::Del && events.contains(EpollEvents::EXCLUSIVE) {
        let wrong = op == EpollOp::Mod || is_epoll(cx, inner) || !exclusive_ok.contains(events);
        if wrong {
            return Err(Errno::EINVAL.into());
        }
    }
    if op == EpollOp::Add && is_epoll(cx, inner) {
        epoll::check_nesting(cx.k, outer, inner)?;
    }
    let item = ItemKey {
        file: inner,
        fd: fd.0,
    };
    let old = epoll::events(cx.k, outer, item);
    events |= EpollEvents::ERR | EpollEvents::HUP;
    match (op, old) {
        (EpollOp::Add, None) => epoll::add(cx, outer, item, events, data)?,
        (EpollOp::Add, Some(_)) => return Err(Errno::EEXIST.into()),
        (EpollOp::Mod | EpollOp::Del, None) => return Err(Errno::ENOENT.into()),
        (EpollOp::Mod, Some(old)) if old.contains(EpollEvents::EXCLUSIVE) => {
            return Err(Errno::EINVAL.into());
        }
        (EpollOp::Mod, Some(_)) => epoll::modify(cx, outer, item, events, data),
        (EpollOp::Del, Some(_)) => epoll::remove(cx.k, outer, item),
        (EpollOp::Other(_), _) => return Err(Errno::EINVAL.into()),
    }
    Ok(0)
}

/// Waits for at most `max` events; `timeout` in nanoseconds, `None` is for ever.
fn wait(cx: &mut Cx<'_, '_>, epfd: Fd, at: u64, max: i32, timeout: Option<u64>) -> SysResult {
    if max <= 0 || max > EVENTS_MAX {
        return Err(Errno::EINVAL.into());
    }
    if at
        .checked_add(max as u64 * EVENT_SIZE)
        .is_none_or(|end| end > TASK_SIZE)
    {
        return Err(Errno::EFAULT.into());
    }
    let id = fdtable::get(cx, epfd.0)?;
    if !is_epoll(cx, id) {
        return Err(Errno::EINVAL.into());
    }
    let told = collect(cx, id, at, max as u64)?;
    if told > 0 {
        return Ok(told);
    }
    let mut wait = Wait::on(WaitKey::File(id)).restart(Restart::Never);
    let mut timeout = timeout;
    if let Some((stream, event)) = epoll::stream(cx.k, id) {
        // The host needs a moment to tell.
        timeout = timeout.map(|timeout| timeout.max(stream::STREAM_GRACE));
        let events = g::POLLIN as u16;
        match cx.host(HostCall::Poll { stream, events }) {
            Ok(HostResult::Ready(now)) => {
                let now = if now & ready::IN != 0 {
                    now | ready::IN
                } else {
                    now
                };
                let wanted = event.events | EpollEvents::ERR | EpollEvents::HUP;
                let found = UserEvent {
                    events: (EpollEvents::of_poll(now) & wanted).bits(),
                    data: event.data,
                };
                cx.write_obj(at, &found)?;
                epoll::told(cx.k, id, &event);
                return Ok(1);
            }
            Ok(_) => return Err(Errno::EIO.into()),
            Err(Stop::Block(host)) => wait.keys.extend(host.keys),
            Err(stop) => return Err(stop),
        }
    }
    if timeout.is_some_and(|timeout| cx.expired(timeout)) {
        return Ok(0);
    }
    let entered = cx.call().entered.mono;
    wait.until(timeout.map(|timeout| entered.saturating_add(timeout)))
        .into()
}

/// Tells the program of events that are there: how many. Items that turn out not to be ready leave the list.
fn collect(cx: &mut Cx<'_, '_>, id: FileId, at: u64, max: u64) -> Result<u64, Errno> {
    let mut told = 0;
    // Items that are listed again meanwhile are not looked at twice.
    for _ in 0..epoll::listed(cx.k, id) {
        if told == max || told > 0 && cx.is_spent() {
            break;
        }
        if cx.is_spent() {
            return Err(Errno::LATER);
        }
        cx.spend(2);
        let Some(event) = epoll::next(cx.k, cx.thread, id) else {
            continue;
        };
        let found = UserEvent {
            events: event.events.bits(),
            data: event.data,
        };
        if let Err(errno) = cx.write_obj(at + told * EVENT_SIZE, &found) {
            epoll::put_back(cx.k, id, &event);
            return match told {
                0 => Err(errno),
                told => Ok(told),
            };
        }
        epoll::told(cx.k, id, &event);
        told += 1;
    }
    Ok(told)
}

fn millis(timeout: Int) -> Option<u64> {
    u64::try_from(timeout.0).ok().map(|ms| ms * NANOS_PER_MS)
}

pub(super) fn epoll_wait(
    cx: &mut Cx<'_, '_>,
    epfd: Fd,
    events: Addr,
    maxevents: Int,
    timeout: Int,
) -> SysResult {
    wait(cx, epfd, events.0, maxevents.0, millis(timeout))
}

pub(super) fn epoll_pwait(
    cx: &mut Cx<'_, '_>,
    epfd: Fd,
    events: Addr,
    maxevents: Int,
    timeout: Int,
    sigmask: Addr,
    sigsetsize: Size,
) -> SysResult {
    take_mask(cx, sigmask.0, sigsetsize.0)?;
    wait(cx, epfd, events.0, maxevents.0, millis(timeout))
}

pub(super) fn epoll_pwait2(
    cx: &mut Cx<'_, '_>,
    epfd: Fd,
    events: Addr,
    maxevents: Int,
    timeout: Addr,
    sigmask: Addr,
    sigsetsize: Size,
) -> SysResult {
    let span = read_span(cx, timeout.0, 1_000_000_000)?;
    take_mask(cx, sigmask.0, sigsetsize.0)?;
    wait(cx, epfd, events.0, maxevents.0, span)
}
