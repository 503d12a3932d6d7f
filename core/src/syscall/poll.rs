//! Waiting for file descriptors.

use alloc::vec;
use alloc::vec::Vec;

use smallvec::SmallVec;

use super::args::*;
use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::event::{HostCall, HostResult};
use crate::kernel::{Cx, Restart, Stop, SysResult, Wait, WaitKey};
use crate::vfs::ready::{self, ERR, HUP, IN, NVAL, OUT};
use crate::vfs::{FileId, FileKind, caller, fdtable, file, rw};

/// What select(2) takes for readable, writable and exceptional.
const SELECT_IN: u16 = IN | g::POLLRDBAND as u16 | HUP | ERR;
const SELECT_OUT: u16 = OUT | g::POLLWRBAND as u16 | ERR;
const SELECT_EX: u16 = g::POLLPRI as u16;

const SEC: u64 = 1_000_000_000;

/// One descriptor and what is asked of it.
#[derive(Clone, Copy)]
struct Asked {
    file: FileId,
    events: u16,
}

/// One look at many files: what they are ready for, and what to wait for.
#[derive(Default)]
struct Look {
    keys: SmallVec<[WaitKey; 2]>,
    /// First stream whose input was asked for.
    stream: Option<u8>,
    any: bool,
}

impl Look {
    /// What a file is ready for, of what is asked.
    fn at(&mut self, cx: &Cx<'_, '_>, asked: Asked, host: &[(u8, u16)]) -> u16 {
        let mut now = ready::of(cx.k, cx.thread, asked.file, 0);
        if let FileKind::HostStream(stream) = file::at(cx.k, asked.file).kind {
            match host.iter().find(|&&(of, _)| of == stream) {
                Some(&(_, host)) => now |= host,
                None if asked.events & IN != 0 && self.stream.is_none() => {
                    self.stream = Some(stream);
                }
                None => {}
            }
        }
        self.keys.extend(ready::key(cx.k, cx.thread, asked.file));
        let ready = now & (asked.events | ERR | HUP | NVAL);
        self.any |= ready != 0;
        ready
    }
}

/// Looks at files until one is ready or the time is over. `look` looks at all of them and keeps what it found; its last run counts.
fn wait_ready(
    cx: &mut Cx<'_, '_>,
    timeout: Option<u64>,
    mut look: impl FnMut(&Cx<'_, '_>, &mut Look, &[(u8, u16)]),
) -> Result<(), Stop> {
    let mut first = Look::default();
    look(cx, &mut first, &[]);
    if first.any {
        return Ok(());
    }
    let mut timeout = timeout;
    let mut keys = first.keys;
    if let Some(stream) = first.stream {
        // The host needs a moment to tell.
        timeout = timeout.map(|timeout| timeout.max(rw::STREAM_GRACE));
        let events = g::POLLIN as u16;
        match cx.host(HostCall::Poll { stream, events }) {
            Ok(HostResult::Ready(ready)) => {
                let ready = if ready & IN != 0 { ready | IN } else { ready };
                look(cx, &mut Look::default(), &[(stream, ready)]);
                return Ok(());
            }
            Ok(_) => return Err(Errno::EIO.into()),
            Err(Stop::Block(wait)) => keys.extend(wait.keys),
            Err(stop) => return Err(stop),
        }
    }
    if timeout.is_some_and(|timeout| cx.expired(timeout)) {
        return Ok(());
    }
    let entered = cx.call().entered.mono;
    if keys.is_empty() {
        keys.push(WaitKey::Signal(cx.thread));
    }
    Err(Stop::Block(Wait {
        keys,
        deadline: timeout.map(|timeout| entered.saturating_add(timeout)),
        restart: Restart::IfNoHandler,
        killable: false,
    }))
}

fn poll_fds(cx: &mut Cx<'_, '_>, addr: u64, count: u32, timeout: Option<u64>) -> SysResult {
    if count > fdtable::limit(cx) {
        return Err(Errno::EINVAL.into());
    }
    let mut bytes = vec![0; count as usize * 8];
    cx.read_user(addr, &mut bytes)?;
    let mut asked: Vec<Result<Asked, u16>> = Vec::with_capacity(count as usize);
    for entry in bytes.as_chunks::<8>().0 {
        let fd = i32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]);
        let events = u16::from_le_bytes([entry[4], entry[5]]);
        asked.push(match fd {
            ..0 => Err(0),
            fd => match fdtable::get_any(cx, fd) {
                Ok(file) => Ok(Asked { file, events }),
                Err(_) => Err(NVAL),
            },
        });
    }
    let mut found = vec![0u16; asked.len()];
    wait_ready(cx, timeout, |cx, look, host| {
        for (asked, found) in asked.iter().zip(&mut found) {
            *found = match *asked {
                Ok(asked) => look.at(cx, asked, host),
                Err(ready) => {
                    look.any |= ready != 0;
                    ready
                }
            };
        }
    })?;
    let mut ready = 0;
    // Only revents is written: another thread may change the rest meanwhile.
    for (index, found) in found.iter().enumerate() {
        ready += u64::from(*found != 0);
        cx.write_obj(addr.wrapping_add(index as u64 * 8 + 6), found)?;
    }
    Ok(ready)
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
    if let Some(timeout) = timeout {
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

/// One set of descriptors of select(2).
struct FdSet {
    addr: u64,
    bits: Vec<u8>,
}

impl FdSet {
    fn read(cx: &mut Cx<'_, '_>, addr: u64, bytes: usize) -> Result<FdSet, Errno> {
        let mut bits = Vec::new();
        if addr != 0 {
            bits.resize(bytes, 0);
            cx.read_user(addr, &mut bits)?;
        }
        Ok(FdSet { addr, bits })
    }

    fn has(&self, fd: usize) -> bool {
        self.bits
            .get(fd / 8)
            .is_some_and(|byte| byte >> (fd % 8) & 1 == 1)
    }
}

fn select_fds(cx: &mut Cx<'_, '_>, nfds: i32, addrs: [Addr; 3], timeout: Option<u64>) -> SysResult {
    let count = usize::try_from(nfds).map_err(|_| Errno::EINVAL)?;
    // Descriptors past the end of the table are not looked at.
    let count = count.min(cx.fds().span().next_multiple_of(64));
    let bytes = count.div_ceil(64) * 8;
    let sets = [
        FdSet::read(cx, addrs[0].0, bytes)?,
        FdSet::read(cx, addrs[1].0, bytes)?,
        FdSet::read(cx, addrs[2].0, bytes)?,
    ];
    let mut asked: Vec<(usize, Asked)> = Vec::new();
    for fd in 0..count {
        let mut events = 0;
        for (set, mask) in sets.iter().zip([SELECT_IN, SELECT_OUT, SELECT_EX]) {
            events |= if set.has(fd) { mask } else { 0 };
        }
        if events != 0 {
            let file = fdtable::get(cx, fd as i32)?;
            asked.push((fd, Asked { file, events }));
        }
    }
    let mut found = vec![0u16; asked.len()];
    wait_ready(cx, timeout, |cx, look, host| {
        let mut any = false;
        for ((fd, asked), found) in asked.iter().zip(&mut found) {
            *found = look.at(cx, *asked, host);
            let counts = sets
                .iter()
                .zip([SELECT_IN, SELECT_OUT, SELECT_EX])
                .any(|(set, mask)| set.has(*fd) && *found & mask != 0);
            any |= counts;
        }
        look.any = any;
    })?;
    let mut ready = 0;
    for (set, mask) in sets.iter().zip([SELECT_IN, SELECT_OUT, SELECT_EX]) {
        if set.addr == 0 {
            continue;
        }
        let mut bits = vec![0; set.bits.len()];
        for ((fd, _), found) in asked.iter().zip(&found) {
            if set.has(*fd) && found & mask != 0 {
                bits[fd / 8] |= 1 << (fd % 8);
                ready += 1;
            }
        }
        cx.write_user(set.addr, &bits)?;
    }
    Ok(ready)
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
