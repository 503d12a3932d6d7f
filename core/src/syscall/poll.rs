//! Waiting for file descriptors.

use crate::file::ops;
use crate::file::stream;
use crate::task::call::Scan;
use alloc::boxed::Box;

use smallvec::SmallVec;

use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::args::*;
use crate::env::wait::{Restart, Stop, SysResult, Wait, WaitKey};
use crate::event::{HostCall, HostResult};
use crate::file;
use crate::file::ready::{ERR, HUP, IN, NVAL, OUT};
use crate::file::{FileId, FileKind, fdtable};
use crate::kernel::{Cx, caller};
use crate::task::personality::STICKY_TIMEOUTS;

/// What select(2) takes for readable, writable and exceptional.
const SELECT_IN: u16 = IN | g::POLLRDBAND as u16 | HUP | ERR;
const SELECT_OUT: u16 = OUT | g::POLLWRBAND as u16 | ERR;
const SELECT_EX: u16 = g::POLLPRI as u16;

const SEC: u64 = 1_000_000_000;

/// Descriptors that are looked at between two looks at the steps that are left.
const CHUNK: u32 = 512;
/// Most files that a call waits for one by one. One that looks at more waits for anything at all.
const KEYS_MAX: usize = 4096;
/// A call that waits for anything looks again after this time, in nanoseconds, so that it does not do so for
/// each change there is.
const AGAIN: u64 = 1_000_000;

impl Scan {
    /// What a file is ready for, of what is asked.
    fn look(&mut self, cx: &Cx<'_, '_>, id: FileId, events: u16) -> u16 {
        let mut now = ops::ready(cx.k, cx.thread, id, 0);
        if let FileKind::HostStream(stream) = file::at(cx.k, id).kind {
            match self.host {
                Some((of, host)) if of == stream => now |= host,
                _ if events & IN != 0 && self.stream.is_none() => self.stream = Some(stream),
                _ => {}
            }
        }
        if self.ready == 0 && !self.too_many {
            self.keys.extend(ops::key(cx.k, cx.thread, id));
            if self.keys.len() > 2 * KEYS_MAX {
                self.sort_keys();
            }
        }
        now & (events | ERR | HUP | NVAL)
    }

    /// Leaves each key once.
    fn sort_keys(&mut self) {
        self.keys.sort_unstable();
        self.keys.dedup();
        if self.keys.len() > KEYS_MAX {
            self.too_many = true;
            self.keys = SmallVec::new();
        }
    }

    fn again(&mut self, cx: &Cx<'_, '_>, host: Option<(u8, u16)>) {
        *self = Scan {
            host,
            changes: cx.k.env.changes,
            ..Scan::default()
        };
    }
}

/// Looks at `count` files until one is ready or the time is over. `chunk` looks at those between two numbers.
fn wait_ready(
    cx: &mut Cx<'_, '_>,
    timeout: Option<u64>,
    count: u32,
    mut chunk: impl FnMut(&mut Cx<'_, '_>, &mut Scan, u32, u32) -> Result<(), Errno>,
) -> Result<Scan, Stop> {
    let mut scan = match cx.call().scan.take() {
        Some(scan) => *scan,
        None => {
            let mut scan = Scan::default();
            scan.again(cx, None);
            scan
        }
    };
    loop {
        let begun = scan.at;
        while scan.at < count {
            if cx.is_spent() && scan.at > begun {
                scan.in_pieces = true;
                cx.call().scan = Some(Box::new(scan));
                return Err(cx.give_way(0));
            }
            let end = count.min(scan.at + CHUNK);
            let from = scan.at;
            chunk(cx, &mut scan, from, end)?;
            cx.spend(u64::from(end - scan.at));
            scan.at = end;
        }
        if scan.ready > 0 || scan.host.is_some() {
            return Ok(scan);
        }
        let mut timeout = timeout;
        scan.sort_keys();
        let mut keys = core::mem::take(&mut scan.keys);
        if let Some(stream) = scan.stream {
            // The host needs a moment to tell.
            timeout = timeout.map(|timeout| timeout.max(stream::STREAM_GRACE));
            let events = g::POLLIN as u16;
            match cx.host(HostCall::Poll { stream, events }) {
                Ok(HostResult::Ready(ready)) => {
                    let ready = if ready & IN != 0 { ready | IN } else { ready };
                    scan.again(cx, Some((stream, ready)));
                    continue;
                }
                Ok(_) => return Err(Errno::EIO.into()),
                Err(Stop::Block(wait)) => keys.extend(wait.keys),
                Err(stop) => return Err(stop),
            }
        }
        if timeout.is_some_and(|timeout| cx.expired(timeout)) {
            return Ok(scan);
        }
        let entered = cx.call().entered.mono;
        let mut deadline = timeout.map(|timeout| entered.saturating_add(timeout));
        if scan.too_many {
            keys.push(WaitKey::Anything);
        }
        if scan.in_pieces && scan.changes != cx.k.env.changes {
            // It may have been a file that was looked at before.
            let again = cx.now().mono.saturating_add(AGAIN);
            deadline = Some(deadline.map_or(again, |deadline| deadline.min(again)));
            keys.clear();
        }
        if keys.is_empty() {
            keys.push(WaitKey::Signal(cx.thread));
        }
        let wait = Wait::on_all(keys).until(deadline);
        return wait.restart(Restart::IfNoHandler).into();
    }
}

/// Looks at entries of poll(2), and tells each what was found.
fn poll_entries(
    cx: &mut Cx<'_, '_>,
    scan: &mut Scan,
    addr: u64,
    (from, to): (u32, u32),
) -> Result<(), Errno> {
    let mut bytes = [0; CHUNK as usize * 8];
    let bytes = &mut bytes[..(to - from) as usize * 8];
    let addr = addr.wrapping_add(u64::from(from) * 8);
    cx.read_user(addr, bytes)?;
    for (index, entry) in bytes.as_chunks::<8>().0.iter().enumerate() {
        let [a, b, c, d, e, f, old @ ..] = *entry;
        let fd = i32::from_le_bytes([a, b, c, d]);
        let events = u16::from_le_bytes([e, f]);
        let found = match fd {
            ..0 => 0,
            fd => match fdtable::get_any(cx, fd) {
                Ok(file) => {
                    let found = scan.look(cx, file, events);
                    if found & ERR != 0 {
                        ops::told(cx.k, cx.thread, file);
                    }
                    found
                }
                Err(_) => NVAL,
            },
        };
        scan.ready += u64::from(found != 0);
        // Only revents is written: another thread may change the rest meanwhile.
        // The first and the last are written in any case: it is an error if they cannot be.
        let edge = index == 0 || index + 1 == (to - from) as usize;
        if edge || found != u16::from_le_bytes(old) {
            cx.write_obj(addr.wrapping_add(index as u64 * 8 + 6), &found)?;
        }
    }
    Ok(())
}

fn poll_fds(cx: &mut Cx<'_, '_>, addr: u64, count: u32, timeout: Option<u64>) -> SysResult {
    if count > fdtable::limit(cx) {
        return Err(Errno::EINVAL.into());
    }
    let scan = wait_ready(cx, timeout, count, |cx, scan, from, to| {
        poll_entries(cx, scan, addr, (from, to))
    })?;
    Ok(scan.ready)
}

pub(super) fn poll(cx: &mut Cx<'_, '_>, fds: Addr, nfds: Uint, timeout: Int) -> SysResult {
    let timeout = u64::try_from(timeout.0).ok().map(|ms| ms * 1_000_000);
    poll_fds(cx, fds.0, nfds.0, timeout)
}

/// Reads a time span: seconds and `fraction`s of which `per_sec` make one. `None` for a null address.
pub(super) fn read_span(
    cx: &mut Cx<'_, '_>,
    addr: u64,
    per_sec: i64,
) -> Result<Option<u64>, Errno> {
    if addr == 0 {
        return Ok(None);
    }
    let [sec, fraction]: [i64; 2] = cx.read_obj(addr)?;
    if sec < 0 || fraction < 0 || per_sec == SEC as i64 && fraction >= per_sec {
        return Err(Errno::EINVAL);
    }
    let extra = (fraction / per_sec) as u64;
    let nanos = (fraction % per_sec) as u64 * (SEC / per_sec as u64);
    let sec = (sec as u64).saturating_add(extra);
    Ok(Some(sec.saturating_mul(SEC).saturating_add(nanos)))
}

/// Tells the program how much of a time span is left, as Linux does; where it cannot be written it stays.
fn write_left(cx: &mut Cx<'_, '_>, addr: u64, timeout: Option<u64>, per_sec: u64) {
    let sticky = cx.task().personality & STICKY_TIMEOUTS != 0;
    if let Some(timeout) = timeout.filter(|_| !sticky) {
        let passed = cx.now().mono.saturating_sub(cx.call().entered.mono);
        let left = timeout.saturating_sub(passed);
        let span = [left / SEC, left % SEC / (SEC / per_sec)];
        let _ = cx.write_obj(addr, &span);
    }
}

/// Takes the signal mask of a call, once.
pub(super) fn take_mask(cx: &mut Cx<'_, '_>, addr: u64, size: u64) -> Result<(), Errno> {
    if addr == 0 || cx.call().saved_mask.is_some() {
        return Ok(());
    }
    if size != 8 {
        return Err(Errno::EINVAL);
    }
    let mask: u64 = cx.read_obj(addr)?;
    caller::mask_for_call(cx, mask);
    Ok(())
}

pub(super) fn ppoll(
    cx: &mut Cx<'_, '_>,
    fds: Addr,
    nfds: Uint,
    tmo: Addr,
    sigmask: Addr,
    sigsetsize: Size,
) -> SysResult {
    let timeout = read_span(cx, tmo.0, SEC as i64)?;
    take_mask(cx, sigmask.0, sigsetsize.0)?;
    let ready = poll_fds(cx, fds.0, nfds.0, timeout)?;
    write_left(cx, tmo.0, timeout, SEC);
    Ok(ready)
}

/// What select(2) asks of its three sets.
const ASKED: [u16; 3] = [SELECT_IN, SELECT_OUT, SELECT_EX];

/// Looks at the descriptors between two numbers, which are multiples of 64 or the last, in the sets of
/// select(2).
fn select_chunk(
    cx: &mut Cx<'_, '_>,
    scan: &mut Scan,
    addrs: [Addr; 3],
    (from, to): (u32, u32),
) -> Result<(), Errno> {
    const BYTES: usize = CHUNK as usize / 8;
    let first = from as usize / 8;
    let len = (to - from).div_ceil(64) as usize * 8;
    let mut sets = [[0u8; BYTES]; 3];
    for (set, addr) in sets.iter_mut().zip(addrs) {
        if addr.0 != 0 {
            cx.read_user(addr.0.wrapping_add(first as u64), &mut set[..len])?;
        }
    }
    for fd in from..to {
        let (byte, bit) = ((fd - from) as usize / 8, 1u8 << (fd % 8));
        let mut events = 0;
        for (set, asked) in sets.iter().zip(ASKED) {
            events |= if set[byte] & bit != 0 { asked } else { 0 };
        }
        if events == 0 {
            continue;
        }
        let file = fdtable::get(cx, fd as i32)?;
        let found = scan.look(cx, file, events);
        if found & ERR != 0 {
            ops::told(cx.k, cx.thread, file);
        }
        for (index, asked) in ASKED.into_iter().enumerate() {
            if sets[index][byte] & bit != 0 && found & asked != 0 {
                let bits = &mut scan.bits[index];
                bits.resize(bits.len().max(first + byte + 1), 0);
                bits[first + byte] |= bit;
                scan.ready += 1;
            }
        }
    }
    Ok(())
}

fn select_fds(cx: &mut Cx<'_, '_>, nfds: i32, addrs: [Addr; 3], timeout: Option<u64>) -> SysResult {
    let count = u32::try_from(nfds).map_err(|_| Errno::EINVAL)?;
    // Descriptors past the end of the table are not looked at.
    let count = count.min(cx.fds().span().next_multiple_of(64) as u32);
    let mut scan = wait_ready(cx, timeout, count, |cx, scan, from, to| {
        select_chunk(cx, scan, addrs, (from, to))
    })?;
    for (addr, bits) in addrs.into_iter().zip(&mut scan.bits) {
        if addr.0 != 0 {
            bits.resize(count.div_ceil(64) as usize * 8, 0);
            cx.write_user(addr.0, bits)?;
        }
    }
    Ok(scan.ready)
}

pub(super) fn select(
    cx: &mut Cx<'_, '_>,
    nfds: Int,
    readfds: Addr,
    writefds: Addr,
    exceptfds: Addr,
    timeout: Addr,
) -> SysResult {
    const MICROS: i64 = 1_000_000;
    let span = read_span(cx, timeout.0, MICROS)?;
    let ready = select_fds(cx, nfds.0, [readfds, writefds, exceptfds], span)?;
    write_left(cx, timeout.0, span, MICROS as u64);
    Ok(ready)
}

pub(super) fn pselect6(
    cx: &mut Cx<'_, '_>,
    nfds: Int,
    readfds: Addr,
    writefds: Addr,
    exceptfds: Addr,
    timeout: Addr,
    sigmask: Addr,
) -> SysResult {
    let span = read_span(cx, timeout.0, SEC as i64)?;
    if sigmask.0 != 0 {
        let [addr, size]: [u64; 2] = cx.read_obj(sigmask.0)?;
        take_mask(cx, addr, size)?;
    }
    let ready = select_fds(cx, nfds.0, [readfds, writefds, exceptfds], span)?;
    write_left(cx, timeout.0, span, SEC);
    Ok(ready)
}
