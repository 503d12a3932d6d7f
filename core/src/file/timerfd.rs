//! Timers that are read (timerfd_create(2)).
//!
//! As in Linux an interval timer that has expired is not armed again before somebody looks at it: then what
//! it missed is counted.

use crate::file::caller::FileCallers;
use alloc::format;
use alloc::string::String;

use super::File;
use super::ops::{FileOps, OpenFile};
use super::rw::How;
use crate::abi::Errno;
use crate::cred::ns::NsId;
use crate::env::cx::Cx;
use crate::env::timers::TimerKey;
use crate::env::wait::{Blocking, SysResult};
use crate::env::wait::{Stop, Wait, WaitKey};
use crate::file;
use crate::file::ready::PLAIN_IN;
use crate::file::rw::Iov;
use crate::file::{FileId, FileKind, Files};
use crate::machine::ThreadId;
use crate::port::Ports;

/// Bytes of a count of expiries.
const SIZE: usize = 8;

/// A timer. Times are of `CLOCK_MONOTONIC`, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct TimerFd {
    /// The clock it was made for.
    pub clock: u32,
    /// `flags` of the last timerfd_settime(2).
    pub flags: u32,
    /// When it expires next, or expired last while `expired` is set.
    pub at: Option<u64>,
    pub interval: u64,
    /// Expiries not yet read.
    pub ticks: u64,
    /// It is not armed since it expired.
    pub expired: bool,
}

impl TimerFd {
    pub(crate) fn new(clock: u32) -> TimerFd {
        TimerFd {
            clock,
            flags: 0,
            at: None,
            interval: 0,
            ticks: 0,
            expired: false,
        }
    }
}

pub(crate) fn timer(k: &mut Files, id: FileId) -> Result<&mut TimerFd, Errno> {
    match &mut file::at_mut(k, id).kind {
        FileKind::TimerFd(timer) => Ok(timer),
        _ => Err(Errno::EINVAL),
    }
}

/// A timer's time has come.
pub(crate) fn expire(k: &mut Files, id: FileId) {
    if let Ok(timer) = timer(k, id) {
        timer.expired = true;
        timer.ticks = timer.ticks.saturating_add(1);
        k.notify(WaitKey::File(id), PLAIN_IN);
    }
}

/// Arms an interval timer that has expired again, behind what it missed, which is counted.
fn forward(k: &mut Files, id: FileId) -> Result<(), Errno> {
    let now = k.env.now.mono;
    let timer = timer(k, id)?;
    let (Some(at), true) = (timer.at, timer.expired && timer.interval > 0) else {
        return Ok(());
    };
    let missed = now.saturating_sub(at) / timer.interval;
    let next = at.saturating_add((missed + 1).saturating_mul(timer.interval));
    timer.ticks = timer.ticks.saturating_add(missed);
    timer.expired = false;
    timer.at = Some(next);
    k.env.timers.arm(TimerKey::File(id), None, Some(next));
    Ok(())
}

/// Time left and interval (timerfd_gettime(2)).
pub(crate) fn get(k: &mut Files, id: FileId) -> Result<(u64, u64), Errno> {
    forward(k, id)?;
    let now = k.env.now.mono;
    let timer = timer(k, id)?;
    let left = match timer.at {
        Some(at) if !timer.expired => at.saturating_sub(now).max(1),
        _ => 0,
    };
    Ok((left, timer.interval))
}

/// Sets when it expires, or disarms it (timerfd_settime(2)); gives what it was before.
pub(crate) fn set(
    k: &mut Files,
    id: FileId,
    at: Option<u64>,
    interval: u64,
    flags: u32,
) -> Result<(u64, u64), Errno> {
    let before = get(k, id)?;
    let timer = timer(k, id)?;
    let armed = timer.at.filter(|_| !timer.expired);
    *timer = TimerFd {
        flags,
        at,
        interval,
        ticks: 0,
        expired: false,
        ..*timer
    };
    k.env.timers.arm(TimerKey::File(id), armed, at);
    Ok(before)
}

/// The file is closed.
pub(crate) fn release(k: &mut Files, id: FileId, timer: &TimerFd) {
    let armed = timer.at.filter(|_| !timer.expired);
    k.env.timers.arm(TimerKey::File(id), armed, None);
}

pub(crate) fn read<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    id: FileId,
    iov: &mut Iov,
    blocking: Blocking,
) -> Result<u64, Stop> {
    if iov.left() < SIZE as u64 {
        return Err(Errno::EINVAL.into());
    }
    if timer(cx.k.files_mut(), id)?.ticks == 0 {
        return match blocking {
            Blocking::Fails => Err(Errno::EAGAIN.into()),
            Blocking::Waits => Wait::on(WaitKey::File(id)).into(),
        };
    }
    forward(cx.k.files_mut(), id)?;
    let timer = timer(cx.k.files_mut(), id)?;
    let ticks = core::mem::take(&mut timer.ticks);
    if timer.expired {
        timer.at = None;
        timer.expired = false;
    }
    iov.put_all(cx, &ticks.to_le_bytes())?;
    Ok(SIZE as u64)
}

/// A timer.
pub(super) struct Ops;

impl OpenFile for Ops {
    const HOLDS: bool = true;

    fn release(k: &mut Files, _p: &mut Ports<'_>, id: FileId, kind: FileKind) {
        if let FileKind::TimerFd(timer) = kind {
            release(k, id, &timer);
        }
    }
}

impl<K: FileCallers> FileOps<K> for Ops {
    fn read(cx: &mut Cx<'_, '_, K>, id: FileId, iov: &mut Iov, how: How) -> SysResult {
        read(cx, id, iov, how.blocking)
    }

    fn ready(k: &K, _thread: ThreadId, id: FileId, _depth: u32) -> u16 {
        match &file::at(k.files(), id).kind {
            FileKind::TimerFd(timer) if timer.ticks > 0 => PLAIN_IN,
            _ => 0,
        }
    }

    fn key(_k: &K, _thread: ThreadId, id: FileId) -> Option<WaitKey> {
        Some(WaitKey::File(id))
    }

    fn fdinfo(k: &K, file: &File, _ns: NsId) -> String {
        let FileKind::TimerFd(timer) = &file.kind else {
            return String::new();
        };
        let span = |nanos: u64| format!("({}, {})", nanos / 1_000_000_000, nanos % 1_000_000_000);
        let left = match timer.at {
            Some(at) if !timer.expired => at.saturating_sub(k.files().env.now.mono),
            _ => 0,
        };
        format!(
            "clockid: {}\nticks: {}\nsettime flags: 0{:o}\nit_value: {}\nit_interval: {}\n",
            timer.clock,
            timer.ticks,
            timer.flags,
            span(left),
            span(timer.interval)
        )
    }
}
