//! Calls on many areas or pages go on in pieces. Meanwhile other threads that share the space wait if they
//! would change areas of it, as for `mmap_lock`; what they touch is as it was or as it will be.
//!
//! The progress of such a call is the address that comes next, with the part of the call in the lower bits.

use super::touch;
use crate::abi::{Errno, PAGE_SIZE};
use crate::env::wait::Stop;
use crate::kernel::Cx;
use crate::machine::{Prot, SpaceId};
use crate::mm::fork;
use crate::mm::vma::VmFlags;

/// Areas of a piece, and tables of pages.
const AREAS: usize = 32;
const LEAVES: usize = 4;
/// Pages that are faulted in between two looks at the steps that are left.
const PAGES: u64 = 64;
/// In the progress: part of the range was found not to be mapped.
const HOLE: u64 = 0x800;

/// What bounds a piece beside its areas.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unit {
    /// Nothing: areas are dealt with as wholes.
    Areas,
    /// The pages that are there.
    Pages,
}

/// A part of a call that goes on in pieces: from 1 up to `0x7ff`, in the order in which they come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part(pub u64);

/// What of a range was mapped, as far as a call has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mapped {
    /// All of it.
    Whole,
    /// There was a hole.
    InPart,
}

/// What an error does to a call on several areas.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum OnError {
    /// It ends the call.
    Stop,
    /// The call goes on with the next area.
    NextArea,
}

/// Where a part goes on, if it has not been done, and what was mapped before.
pub(super) fn place(cx: &mut Cx<'_, '_>, part: Part, start: u64) -> Option<(u64, Mapped)> {
    let progress = cx.call().progress;
    let (at, now) = (progress & !(PAGE_SIZE - 1), progress & (HOLE - 1));
    match now {
        now if now > part.0 => None,
        now if now == part.0 && progress & HOLE != 0 => Some((at, Mapped::InPart)),
        now if now == part.0 => Some((at, Mapped::Whole)),
        _ => Some((start, Mapped::Whole)),
    }
}

/// Leaves the call, to come back to this part and address. Nobody else changes areas of the space meanwhile,
/// if they are `held`.
pub(super) fn leave(
    cx: &mut Cx<'_, '_>,
    held: Option<SpaceId>,
    part: Part,
    at: u64,
    mapped: Mapped,
) -> Stop {
    if let Some(space) = held {
        fork::hold(cx.k, cx.thread, space);
    }
    let hole = match mapped {
        Mapped::Whole => 0,
        Mapped::InPart => HOLE,
    };
    cx.give_way(at | part.0 | hole)
}

/// The end of the piece of a range that begins at an address.
pub(super) fn piece(cx: &Cx<'_, '_>, id: SpaceId, at: u64, end: u64, unit: Unit) -> u64 {
    let space = cx.k.mm.space(id);
    let mut areas = space.overlapping(at, end);
    let stop = areas
        .nth(AREAS - 1)
        .map_or(end, |(_, vma)| vma.end.min(end));
    if unit == Unit::Areas {
        return stop;
    }
    let cut = space
        .pages
        .boundary(at / PAGE_SIZE, stop.div_ceil(PAGE_SIZE), LEAVES);
    cut.map_or(stop, |page| page * PAGE_SIZE)
}

/// Does something with a range of a space, piece by piece; whether part of it was not mapped. The first error
/// ends it.
pub(super) fn each(
    cx: &mut Cx<'_, '_>,
    id: SpaceId,
    part: Part,
    range: (u64, u64),
    unit: Unit,
    mut each: impl FnMut(&mut Cx<'_, '_>, (u64, u64)) -> Result<(), Errno>,
) -> Result<bool, Stop> {
    each_until(cx, id, part, range, unit, |cx, (at, stop)| {
        each(cx, (at, stop)).map(|()| stop)
    })
}

/// The same for what gives the address that it has come to, which may lie before the end of the piece.
pub(super) fn each_until(
    cx: &mut Cx<'_, '_>,
    id: SpaceId,
    part: Part,
    (start, end): (u64, u64),
    unit: Unit,
    mut each: impl FnMut(&mut Cx<'_, '_>, (u64, u64)) -> Result<u64, Errno>,
) -> Result<bool, Stop> {
    let Some((mut at, mut mapped)) = place(cx, part, start) else {
        return Ok(false);
    };
    while at < end {
        if cx.is_spent() && at > start {
            return Err(leave(cx, Some(id), part, at, mapped));
        }
        let stop = piece(cx, id, at, end, unit);
        if !cx.k.mm.space(id).covers(at, stop) {
            mapped = Mapped::InPart;
        }
        cx.spend(16);
        at = each(cx, (at, stop))?;
    }
    Ok(mapped == Mapped::InPart)
}

/// Faults the pages of areas in, for writing where only their owner may write. Areas that are locked on fault
/// are passed over. The first error ends it: `EFAULT` for what cannot be read, `ENOMEM`, unless
/// errors are passed over.
pub(super) fn populate(
    cx: &mut Cx<'_, '_>,
    part: Part,
    (start, end): (u64, u64),
    on_error: OnError,
) -> Result<(), Stop> {
    let id = cx.space();
    let Some((mut at, _)) = place(cx, part, start) else {
        return Ok(());
    };
    // Others may change areas again.
    fork::let_go(cx.k, cx.thread);
    while at < end {
        if cx.is_spent() && at > start {
            return Err(leave(cx, None, part, at, Mapped::Whole));
        }
        let Some((first, vma)) = cx.k.mm.space(id).overlapping(at, end).next() else {
            return Ok(());
        };
        cx.spend(1);
        if vma.flags.contains(VmFlags::LOCK_ON_FAULT) {
            at = vma.end;
            continue;
        }
        let from = first.max(at);
        let stop = vma.end.min(end).min(from + PAGES * PAGE_SIZE);
        let write = vma.prot.contains(Prot::WRITE) && !vma.shared;
        at = match touch(cx, id, (from, stop), write) {
            Ok(()) => stop,
            Err(_) if on_error == OnError::NextArea => vma.end,
            Err(errno) => return Err(errno.into()),
        };
    }
    Ok(())
}
