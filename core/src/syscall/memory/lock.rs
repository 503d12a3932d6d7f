//! Locked memory (mlock(2)). Nothing is ever swapped, so a lock is a flag of areas, a sum with a limit, and
//! pages that are made at once.

use super::pieces::{self, OnError, Part, Unit, populate};
use crate::abi::raw::general as g;
use crate::abi::{Errno, PAGE_SIZE, TASK_SIZE};
use crate::args::*;
use crate::env::wait::{Stop, SysResult};
use crate::kernel::Cx;
use crate::mm::map::{self as mapping, Holes};
use crate::mm::vma::{LOCKED_MASK, VmFlags};
use crate::syscall::missing::known;

/// Whether the caller may lock anything at all.
pub(super) fn may_lock(cx: &Cx<'_, '_>) -> bool {
    cx.creds().capable(g::CAP_IPC_LOCK) || cx.rlimit(g::RLIMIT_MEMLOCK) != 0
}

/// Whether so many more locked bytes stay below `RLIMIT_MEMLOCK`.
pub(super) fn fits_limit(cx: &Cx<'_, '_>, more: u64) -> bool {
    let locked = cx.k.mm.space(cx.space()).vmas.sizes().locked;
    let limit = cx.rlimit(g::RLIMIT_MEMLOCK) & !(PAGE_SIZE - 1);
    cx.creds().capable(g::CAP_IPC_LOCK) || locked.saturating_add(more) <= limit
}

/// The pages that hold some bytes. A length that wraps around is none at all in one place and `EINVAL` in
/// another, as in Linux.
fn pages(addr: u64, len: u64) -> Result<(u64, u64), Errno> {
    let start = addr & !(PAGE_SIZE - 1);
    let len = len.wrapping_add(addr - start).wrapping_add(PAGE_SIZE - 1) & !(PAGE_SIZE - 1);
    let end = start.checked_add(len).ok_or(Errno::EINVAL)?;
    Ok((start, end))
}

fn lock(cx: &mut Cx<'_, '_>, addr: u64, len: u64, how: VmFlags) -> SysResult {
    if !may_lock(cx) {
        return Err(Errno::EPERM.into());
    }
    let (start, end) = pages(addr, len)?;
    let id = cx.space();
    if cx.call().progress == 0 && !fits(cx, start, end) {
        return Err(Errno::ENOMEM.into());
    }
    pieces::each(cx, id, Part(1), (start, end), Unit::Areas, |cx, range| {
        mapping::change(cx.k, cx.p, id, range, Holes::Stop, |vma| {
            vma.flags = (vma.flags - LOCKED_MASK) | how;
            Ok(())
        })
    })?;
    // What cannot be read is not there, says POSIX; memory that is used up may come back.
    match populate(cx, Part(2), (start, end), OnError::Stop) {
        Ok(()) => Ok(0),
        Err(Stop::Errno(Errno::EFAULT)) => Err(Errno::ENOMEM.into()),
        Err(Stop::Errno(Errno::ENOMEM)) => Err(Errno::EAGAIN.into()),
        Err(stop) => Err(stop),
    }
}

/// Whether a range may be locked, of which part may be already.
fn fits(cx: &Cx<'_, '_>, start: u64, end: u64) -> bool {
    let space = cx.k.mm.space(cx.space());
    let locked = |(at, vma): (u64, crate::mm::vma::Vma)| match vma.flags.contains(VmFlags::LOCKED) {
        true => vma.end.min(end) - at.max(start),
        false => 0,
    };
    let already: u64 = match space.vmas.sizes().locked {
        0 => 0,
        _ => space.overlapping(start, end).map(locked).sum(),
    };
    fits_limit(cx, (end - start).saturating_sub(already))
}

pub(in super::super) fn mlock(cx: &mut Cx<'_, '_>, addr: Addr, len: Size) -> SysResult {
    lock(cx, addr.0, len.0, VmFlags::LOCKED)
}

pub(in super::super) fn mlock2(
    cx: &mut Cx<'_, '_>,
    addr: Addr,
    len: Size,
    flags: MlockFlags,
) -> SysResult {
    let how = match known(cx, flags)?.contains(MlockFlags::ONFAULT) {
        true => LOCKED_MASK,
        false => VmFlags::LOCKED,
    };
    lock(cx, addr.0, len.0, how)
}

pub(in super::super) fn munlock(cx: &mut Cx<'_, '_>, addr: Addr, len: Size) -> SysResult {
    let (start, end) = pages(addr.0, len.0)?;
    let id = cx.space();
    pieces::each(cx, id, Part(1), (start, end), Unit::Areas, |cx, range| {
        mapping::change(cx.k, cx.p, id, range, Holes::Stop, |vma| {
            vma.flags -= LOCKED_MASK;
            Ok(())
        })
    })?;
    Ok(0)
}

pub(in super::super) fn mlockall(cx: &mut Cx<'_, '_>, flags: MlockallFlags) -> SysResult {
    let flags = known(cx, flags)?;
    if flags.is_empty() || flags == MlockallFlags::ONFAULT {
        return Err(Errno::EINVAL.into());
    }
    if !may_lock(cx) {
        return Err(Errno::EPERM.into());
    }
    let id = cx.space();
    let total = cx.k.mm.space(id).total();
    let current = flags.contains(MlockallFlags::CURRENT);
    let limit = cx.rlimit(g::RLIMIT_MEMLOCK);
    if current && total > limit && !cx.creds().capable(g::CAP_IPC_LOCK) {
        return Err(Errno::ENOMEM.into());
    }
    let how = match flags.contains(MlockallFlags::ONFAULT) {
        false => VmFlags::LOCKED,
        true => LOCKED_MASK,
    };
    cx.k.mm.space_mut(id).lock_future = match flags.contains(MlockallFlags::FUTURE) {
        false => VmFlags::empty(),
        true => how,
    };
    if current {
        set_all(cx, how)?;
        // Errors are not told of.
        populate(cx, Part(2), ALL, OnError::NextArea)?;
    }
    Ok(0)
}

pub(in super::super) fn munlockall(cx: &mut Cx<'_, '_>) -> SysResult {
    let id = cx.space();
    cx.k.mm.space_mut(id).lock_future = VmFlags::empty();
    set_all(cx, VmFlags::empty())?;
    Ok(0)
}

const ALL: (u64, u64) = (0, TASK_SIZE);

fn set_all(cx: &mut Cx<'_, '_>, how: VmFlags) -> Result<(), Stop> {
    let id = cx.space();
    pieces::each(cx, id, Part(1), ALL, Unit::Areas, |cx, range| {
        // The holes between areas are no error here, and no area is cut.
        let _ = mapping::change(cx.k, cx.p, id, range, Holes::Pass, |vma| {
            vma.flags = (vma.flags - LOCKED_MASK) | how;
            Ok(())
        });
        Ok(())
    })?;
    Ok(())
}
