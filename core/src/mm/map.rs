//! Changes of an address space: mapping, unmapping, protection, moving.

use alloc::vec::Vec;

use super::pages::Pte;
use super::space::{self, MAP_COUNT_MAX};
use super::vma::{Behind, VmFlags, Vma, host_rights};
use crate::Kernel;
use crate::abi::{Errno, PAGE_SIZE};
use crate::event::Output;
use crate::machine::{Backing, Prot, SpaceId};
use crate::port::Ports;
use crate::vfs::filesystem::{Page, Source};
use crate::vfs::{file, inode};

/// Runs of file pages that are mapped before they are asked for; the rest comes with faults.
const RUNS_MAX: usize = 32;

/// Rounds up to a whole page; `None` past the end of the numbers.
pub(crate) fn page_up(addr: u64) -> Option<u64> {
    Some(addr.checked_add(PAGE_SIZE - 1)? & !(PAGE_SIZE - 1))
}

/// Adds an area in a free range, takes over its file reference, and maps what can be mapped at once.
pub(crate) fn insert(k: &mut Kernel, p: &mut Ports<'_>, id: SpaceId, start: u64, vma: Vma) {
    k.mm.space_mut(id).vmas.insert(start, vma);
    if vma.file().is_some() {
        map_file_pages(k, p, id, start, start, vma.end);
    }
    join(k, p, id, start, vma.end);
}

/// Moves the end of an area up to `end`; what lies between is free.
pub(crate) fn grow(k: &mut Kernel, p: &mut Ports<'_>, id: SpaceId, start: u64, end: u64) {
    let vmas = &mut k.mm.space_mut(id).vmas;
    let Some(old) = vmas.get(&start).map(|vma| vma.end) else {
        return;
    };
    vmas.change(start, |vma| vma.end = end);
    map_file_pages(k, p, id, start, old, end);
    join(k, p, id, start, end);
}

/// Joins areas that have become one, from the one before `start` to the one at `end`.
pub(crate) fn join(k: &mut Kernel, p: &mut Ports<'_>, id: SpaceId, start: u64, end: u64) {
    let vmas = &k.mm.space(id).vmas;
    let before = vmas.range(..start).next_back();
    let Some((&first, _)) = before.or_else(|| vmas.range(start..).next()) else {
        return;
    };
    let mut at = first;
    while at < end {
        let vmas = &mut k.mm.space_mut(id).vmas;
        let Some(&first) = vmas.get(&at) else { return };
        let Some((&next, &second)) = vmas.range(at + 1..=end).next() else {
            return;
        };
        if first.end == next && first.joins(at, &second) {
            vmas.remove(next);
            vmas.insert(
                at,
                Vma {
                    end: second.end,
                    ..first
                },
            );
            if let Some(file) = second.file() {
                file::put(k, p, file);
            }
        } else {
            at = next;
        }
    }
}

/// Cuts the area that holds `at` in two there. `ENOMEM` if there would be too many.
fn split(k: &mut Kernel, id: SpaceId, at: u64) -> Result<(), Errno> {
    let space = k.mm.space(id);
    let inside = space.find(at).is_some_and(|(start, _)| start < at);
    if inside && space.vmas.len() >= MAP_COUNT_MAX {
        return Err(Errno::ENOMEM);
    }
    cut(k, id, at);
    Ok(())
}

/// Cuts the area that holds `at` in two there.
fn cut(k: &mut Kernel, id: SpaceId, at: u64) {
    let Some((start, vma)) = k.mm.space(id).find(at) else {
        return;
    };
    if start == at {
        return;
    }
    if let Some(file) = vma.file() {
        file::get(k, file);
    }
    let vmas = &mut k.mm.space_mut(id).vmas;
    vmas.insert(start, Vma { end: at, ..vma });
    vmas.insert(at, vma.tail(start, at));
}

/// Whether a range may be unmapped. `EPERM` if part of it is sealed, `ENOMEM` if there would be too many areas: only a hole in the middle of
/// one makes more of them.
pub(crate) fn may_unmap(k: &Kernel, id: SpaceId, start: u64, end: u64) -> Result<(), Errno> {
    let space = k.mm.space(id);
    let mut areas = space.overlapping(start, end);
    if areas.any(|(_, vma)| vma.flags.contains(VmFlags::SEALED)) {
        return Err(Errno::EPERM);
    }
    let hole = space
        .find(start)
        .is_some_and(|(first, vma)| first < start && end < vma.end);
    match hole && space.vmas.len() >= MAP_COUNT_MAX {
        true => Err(Errno::ENOMEM),
        false => Ok(()),
    }
}

/// Unmaps a range; what is not mapped is passed over. Errors as [`may_unmap`], before anything is changed.
pub(crate) fn unmap(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    id: SpaceId,
    start: u64,
    end: u64,
) -> Result<(), Errno> {
    if k.mm.space(id).overlapping(start, end).next().is_none() {
        return Ok(());
    }
    may_unmap(k, id, start, end)?;
    cut(k, id, start);
    cut(k, id, end);
    discard(k, id, start, end);
    while let Some((&at, &vma)) = k.mm.space(id).vmas.range(start..end).next() {
        let space = k.mm.space_mut(id);
        space.vmas.remove(at);
        space.removed(vma.end);
        if let Some(file) = vma.file() {
            file::put(k, p, file);
        }
    }
    let (first, end) = (start / PAGE_SIZE, end / PAGE_SIZE);
    k.mm.pages(id, |pages| pages.shrink(first, end));
    Ok(())
}

/// What a change of areas does where nothing is mapped. Either way it is `ENOMEM` in the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Holes {
    /// It ends there (mlock(2)).
    Stop,
    /// It goes on behind (madvise(2)).
    Pass,
}

/// Changes flags or policy of the areas in a range, which are cut at its ends. The first error of `each` ends it; what lies before has changed.
/// `ENOMEM` if part of the range is not mapped, or if there would be too many areas.
pub(crate) fn change(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    id: SpaceId,
    (start, end): (u64, u64),
    holes: Holes,
    mut each: impl FnMut(&mut Vma) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let mut at = start;
    let mut result = Ok(());
    while result.is_ok() && at < end {
        let Some((first, vma)) = k.mm.space(id).overlapping(at, end).next() else {
            break;
        };
        if first > at && holes == Holes::Stop {
            break;
        }
        let (from, stop) = (first.max(at), vma.end.min(end));
        let mut new = vma;
        result = each(&mut new);
        if result.is_ok() && new != vma {
            result = split(k, id, from).and_then(|()| split(k, id, stop));
            if result.is_ok() {
                let set = |vma: &mut Vma| (vma.flags, vma.policy) = (new.flags, new.policy);
                k.mm.space_mut(id).vmas.change(from, set);
            }
        }
        at = stop;
    }
    let covered = k.mm.space(id).covers(start, end);
    join(k, p, id, start, end);
    match (result, covered) {
        (Ok(()), false) => Err(Errno::ENOMEM),
        (result, _) => result,
    }
}

/// Throws away all pages of a range: private ones are freed, the host unmaps what it has.
pub(crate) fn discard(k: &mut Kernel, id: SpaceId, start: u64, end: u64) {
    let super::Mm { frames, spaces, .. } = &mut k.mm;
    let Some(space) = spaces.get_mut(&id) else {
        return;
    };
    let mut on_host: Option<(u64, u64)> = None;
    space
        .pages
        .each_mut(start / PAGE_SIZE, end / PAGE_SIZE, |page, pte| {
            if let Some(frame) = pte.frame() {
                frames.put(frame);
            }
            if pte.on_host() {
                on_host = Some((on_host.map_or(page, |(first, _)| first), page + 1));
            }
            *pte = Pte::default();
        });
    if let Some((first, last)) = on_host {
        let (addr, len) = (first * PAGE_SIZE, (last - first) * PAGE_SIZE);
        k.emit(Output::Unmap {
            space: id,
            addr,
            len,
        });
    }
}

/// Drops the host's mappings of file pages in a range; private copies stay.
pub(crate) fn drop_file_pages(k: &mut Kernel, id: SpaceId, start: u64, end: u64) {
    let mut gone = Vec::new();
    k.mm.space_mut(id)
        .pages
        .each_mut(start / PAGE_SIZE, end / PAGE_SIZE, |page, pte| {
            if pte.frame().is_none() {
                if pte.on_host() {
                    gone.push(page);
                }
                *pte = Pte::default();
            }
        });
    for (first, count) in space::runs(&gone) {
        let (addr, len) = (first * PAGE_SIZE, count * PAGE_SIZE);
        k.emit(Output::Unmap {
            space: id,
            addr,
            len,
        });
    }
}

/// Changes the protection of a range. `ENOMEM` if part of it is not mapped or there is not as much memory (what lies before has changed), `EACCES`
/// if a mapping never gets that, `EPERM` if it is sealed. `data_limit` is `RLIMIT_DATA`.
pub(crate) fn protect(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    id: SpaceId,
    (start, end): (u64, u64),
    prot: Prot,
    data_limit: u64,
) -> Result<(), Errno> {
    let mut at = start;
    let mut result = Ok(());
    while at < end {
        let Some((first, vma)) = k.mm.space(id).overlapping(at, end).next() else {
            break;
        };
        if first > at {
            break;
        }
        let stop = vma.end.min(end);
        result = protect_area(k, id, vma, (at, stop), prot, data_limit);
        if result.is_err() {
            break;
        }
        at = stop;
    }
    join(k, p, id, start, end);
    if result.is_ok() && at < end {
        result = Err(Errno::ENOMEM);
    }
    result
}

/// Changes the protection of part of an area.
fn protect_area(
    k: &mut Kernel,
    id: SpaceId,
    vma: Vma,
    (at, stop): (u64, u64),
    prot: Prot,
    data_limit: u64,
) -> Result<(), Errno> {
    if !vma.max.contains(prot) {
        return Err(Errno::EACCES);
    }
    if vma.flags.contains(VmFlags::SEALED) {
        return Err(Errno::EPERM);
    }
    if vma.prot == prot {
        return Ok(());
    }
    let mut new = Vma { prot, ..vma };
    let len = stop - at;
    let data = k.mm.space(id).vmas.sizes().data;
    if new.is_data() && !vma.is_data() && data.saturating_add(len) > data_limit {
        return Err(Errno::ENOMEM);
    }
    let counted = VmFlags::ACCOUNT | VmFlags::NO_RESERVE;
    if new.is_data() && !vma.flags.intersects(counted) {
        if overcommits(k, len) {
            return Err(Errno::ENOMEM);
        }
        new.flags |= VmFlags::ACCOUNT;
    }
    split(k, id, at)?;
    split(k, id, stop)?;
    let set = |vma: &mut Vma| (vma.prot, vma.flags) = (new.prot, new.flags);
    k.mm.space_mut(id).vmas.change(at, set);
    protect_pages(k, id, at, stop, prot);
    Ok(())
}

/// Linux's heuristic (`vm.overcommit_memory` 0): so much memory at once is more than the machine has. A limit does not count, as with memory
/// control groups: it is about what is used.
pub(crate) fn overcommits(k: &Kernel, len: u64) -> bool {
    len / PAGE_SIZE > u64::from(k.mm.frames.total())
}

/// Brings the host in step with a new protection of a range.
fn protect_pages(k: &mut Kernel, id: SpaceId, start: u64, end: u64, prot: Prot) {
    let mut plain = Vec::new();
    let mut writable = Vec::new();
    k.mm.space_mut(id)
        .pages
        .each_mut(start / PAGE_SIZE, end / PAGE_SIZE, |page, pte| {
            if !pte.on_host() {
                return;
            }
            if pte.writable() && prot.contains(Prot::WRITE) {
                writable.push(page);
            } else {
                *pte = pte.mapped(false);
                plain.push(page);
            }
        });
    for (pages, write) in [(plain, false), (writable, true)] {
        let prot = host_rights(prot, write);
        for (first, count) in space::runs(&pages) {
            let (addr, len) = (first * PAGE_SIZE, count * PAGE_SIZE);
            k.emit(Output::Protect {
                space: id,
                addr,
                len,
                prot,
            });
        }
    }
}

/// Maps pages of a file area that lie in images or frames already, between two addresses, without the right to write.
pub(crate) fn map_file_pages(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    id: SpaceId,
    start: u64,
    from: u64,
    to: u64,
) {
    let Some(&vma) = k.mm.space(id).vmas.get(&start) else {
        return;
    };
    let Behind::File { file, offset } = vma.behind else {
        return;
    };
    if vma.prot.is_empty() {
        return;
    }
    let Some(inode) = k.vfs.file(file).and_then(|file| file.inode) else {
        return;
    };
    let mut at = from;
    for _ in 0..RUNS_MAX {
        if at >= to {
            return;
        }
        let pos = offset + (at - start);
        let skip = match inode::extent(k, p, inode, pos) {
            Ok(Some(extent)) if extent.source == Source::Zero => extent.len / PAGE_SIZE * PAGE_SIZE,
            Ok(Some(_)) => 0,
            _ => return,
        };
        if skip > 0 {
            at += skip;
            continue;
        }
        let max = (to - at) / PAGE_SIZE;
        let Ok(run) = inode::page_run(k, p, inode, pos / PAGE_SIZE, max) else {
            return;
        };
        let count = run.count.min(max);
        map_absent(k, id, at, count, run.first, host_rights(vma.prot, false));
        at += count * PAGE_SIZE;
    }
}

/// Maps a run of file pages where no page is yet.
fn map_absent(k: &mut Kernel, id: SpaceId, addr: u64, count: u64, first: Page, prot: Prot) {
    let base = addr / PAGE_SIZE;
    let mut absent = Vec::new();
    k.mm.pages(id, |pages| {
        for page in base..base + count {
            if pages.get(page).is_none() {
                pages.set(page, Pte::file(false));
                absent.push(page);
            }
        }
    });
    for (page, count) in space::runs(&absent) {
        let skip = page - base;
        let backing = match first {
            Page::Frame(frame) => Backing::Memory(crate::machine::FrameNo(frame.0 + skip as u32)),
            Page::Image { image, offset } => Backing::Image {
                image,
                offset: offset + skip * PAGE_SIZE,
            },
        };
        let (addr, len) = (page * PAGE_SIZE, count * PAGE_SIZE);
        k.emit(Output::Map {
            space: id,
            addr,
            len,
            backing,
            prot,
        });
    }
}

/// Moves pages to another place of the same length (mremap(2)); the target is free. `keep`: the old area stays, empty.
pub(crate) fn relocate(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    id: SpaceId,
    from: u64,
    len: u64,
    to: u64,
    new_len: u64,
) {
    let Some((start, vma)) = k.mm.space(id).find(from) else {
        return;
    };
    let moved = Vma {
        end: to + new_len,
        ..vma.tail(start, from)
    };
    if let Some(file) = moved.file() {
        file::get(k, file);
    }
    let mut private = Vec::new();
    let mut on_host = false;
    let pages = &mut k.mm.space_mut(id).pages;
    pages.each_mut(from / PAGE_SIZE, (from + len) / PAGE_SIZE, |page, pte| {
        on_host |= pte.on_host();
        if pte.frame().is_some() {
            private.push((page, pte.unmapped()));
        }
        *pte = Pte::default();
    });
    let shift = |page: u64| page - from / PAGE_SIZE + to / PAGE_SIZE;
    for (page, pte) in private {
        if page < (from + len.min(new_len)) / PAGE_SIZE {
            k.mm.pages(id, |pages| pages.set(shift(page), pte));
        } else if let Some(frame) = pte.frame() {
            k.mm.frames.put(frame);
        }
    }
    if on_host {
        k.emit(Output::Unmap {
            space: id,
            addr: from,
            len,
        });
    }
    insert(k, p, id, to, moved);
}
