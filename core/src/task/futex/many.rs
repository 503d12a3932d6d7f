//! The later futex calls: futex_waitv(2), futex_wake, futex_wait, futex_requeue.

use smallvec::SmallVec;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Sleep, Word, absolute, expired, key, load, requeue, sleep, wait_bits, wake};
use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::args::*;
use crate::env::wait::{Restart, Stop, SysResult, Wait, WaitKey};
use crate::task::Cx;

/// Most words of one call (`FUTEX_WAITV_MAX`).
const WORDS_MAX: u32 = 128;

/// `struct futex_waitv`
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Entry {
    value: u64,
    addr: u64,
    flags: u32,
    reserved: u32,
}

impl Entry {
    fn read(cx: &mut Cx<'_, '_>, at: u64, index: u32) -> Result<(Word, u32), Errno> {
        let at = at.wrapping_add(u64::from(index) * size_of::<Entry>() as u64);
        let entry: Entry = cx.read_obj(at)?;
        if entry.reserved != 0 {
            return Err(Errno::EINVAL);
        }
        let private = check_flags(Futex2Flags::from_bits_retain(entry.flags))?;
        let value = u32::try_from(entry.value).map_err(|_| Errno::EINVAL)?;
        let word = Word {
            addr: entry.addr,
            private,
        };
        Ok((word, value))
    }
}

/// Whether a word with these flags is private. `EINVAL` for sizes and NUMA nodes that are not supported.
fn check_flags(flags: Futex2Flags) -> Result<bool, Errno> {
    match flags - Futex2Flags::PRIVATE {
        Futex2Flags::SIZE_U32 => Ok(flags.contains(Futex2Flags::PRIVATE)),
        _ => Err(Errno::EINVAL),
    }
}

/// The end of a wait by one of two clocks.
fn end(cx: &mut Cx<'_, '_>, timeout: Addr, clock: Clock) -> Result<Option<u64>, Errno> {
    match (timeout.0, clock.0 as u32) {
        (0, _) => Ok(None),
        (_, g::CLOCK_REALTIME) => absolute(cx, timeout, true),
        (_, g::CLOCK_MONOTONIC) => absolute(cx, timeout, false),
        _ => Err(Errno::EINVAL),
    }
}

pub(crate) fn futex_waitv(
    cx: &mut Cx<'_, '_>,
    waiters: Addr,
    nr_futexes: Uint,
    flags: NoFlags,
    timeout: Addr,
    clockid: Clock,
) -> SysResult {
    let count = nr_futexes.0;
    if !flags.is_empty() || count == 0 || count > WORDS_MAX || waiters.0 == 0 {
        return Err(Errno::EINVAL.into());
    }
    let end = end(cx, timeout, clockid)?;
    match sleep(cx) {
        Sleep::Woken(index) => return Ok(u64::from(index)),
        Sleep::Bits(_) if expired(cx, end) => return Err(Errno::ETIMEDOUT.into()),
        _ => {}
    }
    let mut words: SmallVec<[(Word, u32); 4]> = SmallVec::new();
    for index in 0..count {
        words.push(Entry::read(cx, waiters.0, index)?);
    }
    let mut keys: SmallVec<[WaitKey; 2]> = SmallVec::new();
    for &(word, _) in &words {
        keys.push(WaitKey::Futex(key(cx, word, false)?));
    }
    for &(word, value) in &words {
        if load(cx, word)? != value {
            return Err(Errno::EAGAIN.into());
        }
    }
    if expired(cx, end) {
        return Err(Errno::ETIMEDOUT.into());
    }
    cx.call().progress = Sleep::Bits(g::FUTEX_BITSET_MATCH_ANY).progress();
    Wait::on_all(keys).until(end).into()
}

/// A mask or value that fits into the word.
fn fits(value: u64) -> Result<u32, Errno> {
    u32::try_from(value).map_err(|_| Errno::EINVAL)
}

pub(crate) fn futex_wake(
    cx: &mut Cx<'_, '_>,
    uaddr: Addr,
    mask: Hex,
    nr: Int,
    flags: Futex2Flags,
) -> SysResult {
    let private = check_flags(flags)?;
    let bits = fits(mask.0)?;
    if bits == 0 {
        return Err(Errno::EINVAL.into());
    }
    let word = Word {
        addr: uaddr.0,
        private,
    };
    match nr.0 {
        0 => key(cx, word, false).map(|_| 0).map_err(Stop::from),
        count => wake(cx, word, count, bits),
    }
}

pub(crate) fn futex_wait(
    cx: &mut Cx<'_, '_>,
    uaddr: Addr,
    val: Ulong,
    mask: Hex,
    flags: Futex2Flags,
    timeout: Addr,
    clockid: Clock,
) -> SysResult {
    let private = check_flags(flags)?;
    let (value, bits) = (fits(val.0)?, fits(mask.0)?);
    let end = end(cx, timeout, clockid)?;
    let word = Word {
        addr: uaddr.0,
        private,
    };
    wait_bits(cx, word, value, end, bits, Restart::IfAsked)
}

pub(crate) fn futex_requeue(
    cx: &mut Cx<'_, '_>,
    waiters: Addr,
    flags: NoFlags,
    nr_wake: Int,
    nr_requeue: Int,
) -> SysResult {
    if !flags.is_empty() || waiters.0 == 0 {
        return Err(Errno::EINVAL.into());
    }
    let (from, expected) = Entry::read(cx, waiters.0, 0)?;
    let (to, _) = Entry::read(cx, waiters.0, 1)?;
    requeue(cx, from, to, (nr_wake.0, nr_requeue.0), Some(expected))
}
