//! Mappings that move, grow and shrink (mremap(2)), or get other pages of their file (remap_file_pages(2)).

use super::lock::fits_limit;
use super::map::{Wanted, place};
use super::pieces::{self, OnError, Part, Unit, populate};
use super::{may_expand, unmap};
use crate::abi::{Errno, PAGE_SHIFT, PAGE_SIZE, TASK_SIZE};
use crate::args::*;
use crate::env::wait::SysResult;
use crate::file::aio;
use crate::kernel::Cx;
use crate::mm::map::{self as mapping, overcommits, page_up};
use crate::mm::space::{areas_most, may_use};
use crate::mm::vma::{Behind, LOCKED_MASK, VmFlags, Vma};
use crate::syscall::missing::known;

pub(in super::super) fn mremap(
    cx: &mut Cx<'_, '_>,
    old_address: Addr,
    old_size: Size,
    new_size: Size,
    flags: MremapFlags,
    new_address: Addr,
) -> SysResult {
    let flags = known(cx, flags)?;
    let may_move = flags.contains(MremapFlags::MAYMOVE);
    let keep = flags.contains(MremapFlags::DONTUNMAP);
    let fixed = flags.contains(MremapFlags::FIXED);
    let from = old_address.0;
    if ((fixed || keep) && !may_move) || !from.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL.into());
    }
    // Linux lets the lengths wrap around to 0.
    let mut old_len = page_up(old_size.0).unwrap_or(0);
    let new_len = page_up(new_size.0).unwrap_or(0);
    if new_len == 0 || new_len > TASK_SIZE || (keep && old_len != new_len) {
        return Err(Errno::EINVAL.into());
    }
    if pieces::place(cx, SHRINK, from).is_none() {
        // It goes on with the pages; the new place was noted where it may be asked for.
        let old_len = old_len.min(new_len);
        return move_all(cx, (from, old_len), (new_address.0, new_len), keep);
    }
    let id = cx.space();
    let (_, vma) = cx.k.mm.space(id).find(from).ok_or(Errno::EFAULT)?;
    if vma.flags.contains(VmFlags::SEALED) {
        return Err(Errno::EPERM.into());
    }
    // The ring of asynchronous requests keeps its size, and moves only where it is one.
    let ring = vma.file().and_then(|file| aio::of_ring(cx.k, file));
    if ring.is_some() && (keep || new_len > old_len) {
        return Err(match keep {
            true => Errno::EINVAL,
            false => Errno::EFAULT,
        }
        .into());
    }
    if ring.is_some_and(|ring| fixed && ring.space != id) {
        return Err(Errno::EINVAL.into());
    }
    if !fixed && !keep {
        if new_len <= old_len {
            unmap(cx, SHRINK, from + new_len, from.saturating_add(old_len))?;
            return Ok(from);
        }
        let (start, vma) = resizable(cx, from, old_len, new_len)?;
        if from + old_len == vma.end && free_behind(cx, from, old_len, new_len) {
            mapping::grow(cx.k, cx.p, id, start, from + new_len);
            populate_if_locked(cx, vma.flags, from + old_len, from + new_len);
            return Ok(from);
        }
        if !may_move {
            return Err(Errno::ENOMEM.into());
        }
    }
    if fixed {
        let to = new_address.0;
        let fits = to.checked_add(new_len).is_some_and(|end| end <= TASK_SIZE);
        let clash = to < from.saturating_add(old_len) && from < to.saturating_add(new_len);
        if !to.is_multiple_of(PAGE_SIZE) || !fits || clash {
            return Err(Errno::EINVAL.into());
        }
        if !may_use(cx.k, cx.creds(), to) {
            return Err(Errno::EPERM.into());
        }
    }
    // The move splits up to three areas and adds one.
    if cx.k.mm.space(id).vmas.len() + 3 >= areas_most(cx.k) {
        return Err(Errno::ENOMEM.into());
    }
    if fixed {
        unmap(cx, CLEAR, new_address.0, new_address.0 + new_len)?;
    }
    if old_len > new_len {
        unmap(cx, SHRINK, from + new_len, from.saturating_add(old_len))?;
        old_len = new_len;
    }
    let (_, vma) = resizable(cx, from, old_len, new_len)?;
    if keep && !may_expand(cx, new_len, 0, &vma) {
        return Err(Errno::ENOMEM.into());
    }
    let to = match fixed {
        true => new_address.0,
        // Else the fifth argument is not one: libraries leave it to chance.
        false => place(
            cx,
            if keep { new_address.0 } else { 0 },
            new_len,
            MapFlags::empty(),
        )?,
    };
    mapping::begin_move(cx.k, id, from, to, new_len);
    if let Some(ring) = ring {
        aio::moved(cx.k, ring, to);
    }
    cx.call().args[4] = to;
    move_all(cx, (from, old_len), (to, new_len), keep)
}

/// Parts of a call that go on in pieces: unmapping what lies where it moves to, and what it loses; moving
/// pages, and unmapping where they were.
const CLEAR: Part = Part(1);
const SHRINK: Part = Part(2);
const MOVE: Part = Part(3);
const LEAVE: Part = Part(4);

/// Moves pages to the area that has been made for them, gives up the old place, or `keep`s it; gives the new
/// one.
fn move_all(
    cx: &mut Cx<'_, '_>,
    (from, old_len): (u64, u64),
    (to, new_len): (u64, u64),
    keep: bool,
) -> SysResult {
    let id = cx.space();
    let end = from + old_len;
    if let Some((mut at, _)) = pieces::place(cx, MOVE, from) {
        while at < end {
            if cx.is_spent() && at > from {
                return Err(pieces::leave(cx, Some(id), MOVE, at, pieces::Mapped::Whole));
            }
            let stop = pieces::piece(cx, id, at, end, Unit::Pages);
            mapping::move_pages(cx.k, id, (at, stop), to + (at - from));
            at = stop;
        }
        mapping::end_move(cx.k, cx.p, id, to, new_len);
    }
    if keep {
        // What stays is empty, and locked no more.
        mapping::change(cx.k, cx.p, id, (from, end), mapping::Holes::Stop, |vma| {
            vma.flags -= LOCKED_MASK;
            Ok(())
        })?;
    } else if old_len > 0 {
        unmap(cx, LEAVE, from, end)?;
    }
    let flags = cx.k.mm.space(id).find(to).map(|(_, vma)| vma.flags);
    if let Some(flags) = flags {
        populate_if_locked(cx, flags, to + old_len, to + new_len);
    }
    Ok(to)
}

fn populate_if_locked(cx: &mut Cx<'_, '_>, flags: VmFlags, start: u64, end: u64) {
    if flags.contains(VmFlags::LOCKED) && start < end {
        // As in mmap(2): what cannot be faulted in, or not at once, is left to the program's own access.
        let _ = populate(cx, Part(5), (start, end), OnError::Stop);
    }
}

/// The area that a mapping of `old_len` bytes lies in, if it can become `new_len` bytes long.
fn resizable(cx: &Cx<'_, '_>, from: u64, old_len: u64, new_len: u64) -> Result<(u64, Vma), Errno> {
    let space = cx.k.mm.space(cx.space());
    let (start, vma) = space.find(from).ok_or(Errno::EFAULT)?;
    if old_len == 0 && !vma.shared {
        return Err(Errno::EINVAL);
    }
    if old_len > vma.end - from {
        return Err(Errno::EFAULT);
    }
    let more = new_len.saturating_sub(old_len);
    if more == 0 {
        return Ok((start, vma));
    }
    if let Behind::File { offset, .. } = vma.behind
        && (offset + (from - start))
            .checked_add(new_len)
            .is_none_or(|end| end > i64::MAX as u64)
    {
        return Err(Errno::EINVAL);
    }
    if vma.flags.contains(VmFlags::LOCKED) && !fits_limit(cx, more) {
        return Err(Errno::EAGAIN);
    }
    let counted = vma.flags.contains(VmFlags::ACCOUNT);
    if !may_expand(cx, more, 0, &vma) || (counted && overcommits(cx.k, more)) {
        return Err(Errno::ENOMEM);
    }
    Ok((start, vma))
}

/// Whether nothing lies where a mapping of `old_len` bytes would grow to `new_len`.
fn free_behind(cx: &Cx<'_, '_>, from: u64, old_len: u64, new_len: u64) -> bool {
    let space = cx.k.mm.space(cx.space());
    let end = from.checked_add(new_len).filter(|&end| end <= TASK_SIZE);
    end.is_some_and(|end| space.overlapping(from + old_len, end).next().is_none())
}

pub(in super::super) fn remap_file_pages(
    cx: &mut Cx<'_, '_>,
    addr: Addr,
    size: Size,
    prot: ProtFlags,
    pgoff: Ulong,
    flags: MapFlags,
) -> SysResult {
    let (start, len) = (addr.0 & !(PAGE_SIZE - 1), size.0 & !(PAGE_SIZE - 1));
    let end = start.checked_add(len).filter(|&end| end > start);
    let offset = pgoff.0.checked_mul(PAGE_SIZE);
    let fits = pgoff.0.checked_add(len >> PAGE_SHIFT).is_some();
    let (Some(end), Some(offset), true) = (end, offset, fits && prot.bits() == 0) else {
        return Err(Errno::EINVAL.into());
    };
    let space = cx.k.mm.space(cx.space());
    let (_, vma) = space.find(start).ok_or(Errno::EINVAL)?;
    let like = |(_, other): (u64, Vma)| {
        (other.file(), other.prot, other.flags) == (vma.file(), vma.prot, vma.flags)
    };
    // More than one area must be of the same file and kind.
    let same = space.covers(start, end) && space.overlapping(start, end).all(like);
    let (Some(file), true, true) = (vma.file(), vma.shared, same) else {
        return Err(Errno::EINVAL.into());
    };
    let locked = match vma.flags.contains(VmFlags::LOCKED) {
        true => MapFlags::LOCKED,
        false => MapFlags::empty(),
    };
    let kept = (flags & MapFlags::NONBLOCK) | locked;
    let wanted = Wanted {
        addr: start,
        len,
        prot: vma.prot,
        flags: MapFlags::SHARED | MapFlags::FIXED | MapFlags::POPULATE | kept,
        file: Some(file),
        offset,
    };
    // A segment that was removed goes with its last mapping, and cannot be attached again.
    if crate::ipc::shm::is_last_attach(cx.k, file) {
        let id = cx.space();
        mapping::unmap(cx.k, cx.p, id, start, end)?;
        return Err(Errno::EINVAL.into());
    }
    // The file may be held by nothing but the mapping that is replaced.
    crate::file::get(cx.k, file);
    let result = wanted.map(cx);
    crate::file::put(cx.k, cx.p, file);
    result.map(|_| 0)
}
