//! Changes of an address space: mapping, unmapping, protection, moving.

use alloc::vec::Vec;

use super::mapped;
use super::pages::Pte;
use super::space::{self, areas_most};
use super::vma::{Behind, VmFlags, Vma, host_rights};
use crate::abi::{Errno, PAGE_SIZE, TASK_SIZE};
use crate::env::settings;
use crate::event::Output;
use crate::file;
use crate::file::shared;
use crate::fs::filesystem::{Page, Source};
use crate::fs::inode;
use crate::machine::{Backing, Prot, SpaceId};
use crate::mm::Mm;
use crate::port::Ports;

/// Runs of file pages, and pages, that are mapped before they are asked for; the rest comes with faults.
const RUNS_MAX: usize = 32;
const PAGES_MAX: u64 = 4096;

/// Rounds up to a whole page; `None` past the end of the numbers.
pub(crate) fn page_up(addr: u64) -> Option<u64> {
    Some(addr.checked_add(PAGE_SIZE - 1)? & !(PAGE_SIZE - 1))
}

/// Adds an area in a free range, takes over its file reference, and maps what can be mapped at once.
pub(crate) fn insert(k: &mut Mm, p: &mut Ports<'_>, id: SpaceId, start: u64, vma: Vma) {
    mapped::put(k, id, start, vma);
    if vma.file().is_some() {
        map_file_pages(k, p, id, start, start, vma.end);
    }
    join(k, p, id, start, vma.end);
}

/// Moves the end of an area up to `end`; what lies between is free.
pub(crate) fn grow(k: &mut Mm, p: &mut Ports<'_>, id: SpaceId, start: u64, end: u64) {
    let Some(&vma) = k.space(id).vmas.get(&start) else {
        return;
    };
    let old = vma.end;
    mapped::put(k, id, start, Vma { end, ..vma });
    map_file_pages(k, p, id, start, old, end);
    join(k, p, id, start, end);
}

/// Joins areas that have become one, from the one before `start` to the one at `end`.
pub(crate) fn join(k: &mut Mm, p: &mut Ports<'_>, id: SpaceId, start: u64, end: u64) {
    let vmas = &k.space(id).vmas;
    let before = vmas.range(..start).next_back();
    let Some((&first, _)) = before.or_else(|| vmas.range(start..).next()) else {
        return;
    };
    let mut at = first;
    while at < end {
        let vmas = &k.space(id).vmas;
        let Some(&first) = vmas.get(&at) else { return };
        let Some((&next, &second)) = vmas.range(at + 1..=end).next() else {
            return;
        };
        if first.end == next && first.joins(at, &second) {
            let end = second.end;
            mapped::take(k, id, next);
            mapped::put(k, id, at, Vma { end, ..first });
            if let Some(file) = second.file() {
                file::put(k, p, file);
            }
        } else {
            at = next;
        }
    }
}

/// Cuts the area that holds `at` in two there. `ENOMEM` if there would be too many.
fn split(k: &mut Mm, id: SpaceId, at: u64) -> Result<(), Errno> {
    let space = k.space(id);
    let inside = space.find(at).is_some_and(|(start, _)| start < at);
    if inside && space.vmas.len() >= areas_most(k) {
        return Err(Errno::ENOMEM);
    }
    cut(k, id, at);
    Ok(())
}

/// Cuts the area that holds `at` in two there.
fn cut(k: &mut Mm, id: SpaceId, at: u64) {
    let Some((start, vma)) = k.space(id).find(at) else {
        return;
    };
    if start == at {
        return;
    }
    if let Some(file) = vma.file() {
        file::get(k, file);
    }
    mapped::put(k, id, start, Vma { end: at, ..vma });
    mapped::put(k, id, at, vma.tail(start, at));
}

/// Whether a range may be unmapped. `EPERM` if part of it is sealed, `ENOMEM` if there would be too many
/// areas: only a hole in the middle of one makes more of them.
pub(crate) fn may_unmap(k: &Mm, id: SpaceId, start: u64, end: u64) -> Result<(), Errno> {
    let space = k.space(id);
    let mut areas = space.overlapping(start, end);
    if space.vmas.sizes().sealed > 0 && areas.any(|(_, vma)| vma.flags.contains(VmFlags::SEALED)) {
        return Err(Errno::EPERM);
    }
    let hole = space
        .find(start)
        .is_some_and(|(first, vma)| first < start && end < vma.end);
    match hole && space.vmas.len() >= areas_most(k) {
        true => Err(Errno::ENOMEM),
        false => Ok(()),
    }
}

/// Unmaps a range; what is not mapped is passed over. Errors as [`may_unmap`], before anything is changed.
pub(crate) fn unmap(
    k: &mut Mm,
    p: &mut Ports<'_>,
    id: SpaceId,
    start: u64,
    end: u64,
) -> Result<(), Errno> {
    if k.space(id).overlapping(start, end).next().is_none() {
        return Ok(());
    }
    may_unmap(k, id, start, end)?;
    remove(k, p, id, start, end);
    Ok(())
}

/// Unmaps a range that may be unmapped.
pub(crate) fn remove(k: &mut Mm, p: &mut Ports<'_>, id: SpaceId, start: u64, end: u64) {
    cut(k, id, start);
    cut(k, id, end);
    discard(k, id, start, end);
    while let Some((&at, &vma)) = k.space(id).vmas.range(start..end).next() {
        mapped::take(k, id, at);
        k.env.steps.spend(4);
        if let Some(file) = vma.file() {
            k.env.steps.spend(4);
            file::put(k, p, file);
        }
    }
    let (first, end) = (start / PAGE_SIZE, end / PAGE_SIZE);
    k.pages(id, |pages| pages.shrink(first, end));
}

/// What a change of areas does where nothing is mapped. Either way it is `ENOMEM` in the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Holes {
    /// It ends there (mlock(2)).
    Stop,
    /// It goes on behind (madvise(2)).
    Pass,
}

/// Changes flags or policy of the areas in a range, which are cut at its ends. The first error of `each` ends
/// it; what lies before has changed. `ENOMEM` if part of the range is not mapped, or if there would be too
/// many areas.
pub(crate) fn change(
    k: &mut Mm,
    p: &mut Ports<'_>,
    id: SpaceId,
    (start, end): (u64, u64),
    holes: Holes,
    mut each: impl FnMut(&mut Vma) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let mut at = start;
    let mut result = Ok(());
    while result.is_ok() && at < end {
        let Some((first, vma)) = k.space(id).overlapping(at, end).next() else {
            break;
        };
        if first > at && holes == Holes::Stop {
            break;
        }
        let (from, stop) = (first.max(at), vma.end.min(end));
        k.env.steps.spend(4);
        let mut new = vma;
        result = each(&mut new);
        if result.is_ok() && new != vma {
            result = split(k, id, from).and_then(|()| split(k, id, stop));
            if result.is_ok() {
                let set = |vma: &mut Vma| (vma.flags, vma.policy) = (new.flags, new.policy);
                k.space_mut(id).vmas.change(from, set);
            }
        }
        at = stop;
    }
    let covered = k.space(id).covers(start, end);
    join(k, p, id, start, end);
    match (result, covered) {
        (Ok(()), false) => Err(Errno::ENOMEM),
        (result, _) => result,
    }
}

/// Throws away all pages of a range: private ones are freed, the host unmaps what it has.
pub(crate) fn discard(k: &mut Mm, id: SpaceId, start: u64, end: u64) {
    let Mm { files, spaces, .. } = k;
    let frames = &mut files.vfs.fs.frames;
    let Some(space) = spaces.get_mut(&id) else {
        return;
    };
    let mut on_host: Option<(u64, u64)> = None;
    let mut count = 0;
    space
        .pages
        .each_mut(start / PAGE_SIZE, end / PAGE_SIZE, |page, pte| {
            if let Some(frame) = pte.frame() {
                frames.put(frame);
            }
            count += 1;
            if pte.on_host() {
                on_host = Some((on_host.map_or(page, |(first, _)| first), page + 1));
            }
            *pte = Pte::default();
        });
    k.env.steps.spend(count / 4);
    if let Some((first, last)) = on_host {
        let (addr, len) = (first * PAGE_SIZE, (last - first) * PAGE_SIZE);
        k.env.emit(Output::Unmap {
            space: id,
            addr,
            len,
        });
    }
}

/// Takes all pages of a space away from the host, which has no room for more mappings of it: they come back
/// as they are touched.
pub(crate) fn take_from_host(k: &mut Mm, id: SpaceId) {
    let space = k.space_mut(id);
    space.spurious = None;
    space.pages.lose_host();
    k.env.emit(Output::Unmap {
        space: id,
        addr: 0,
        len: TASK_SIZE,
    });
}

/// Drops the host's mappings of file pages in a range; private copies stay.
pub(crate) fn drop_file_pages(k: &mut Mm, id: SpaceId, start: u64, end: u64) {
    let mut gone = Vec::new();
    k.space_mut(id)
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
        k.env.emit(Output::Unmap {
            space: id,
            addr,
            len,
        });
    }
}

/// Changes the protection of part of an area; `true` if its pages must follow ([`protect_pages`]). `EACCES`
/// if the mapping never gets that, `EPERM` if it is sealed, `ENOMEM` if there is not as much memory or there
/// would be too many areas. `data_limit` is `RLIMIT_DATA`.
pub(crate) fn protect_area(
    k: &mut Mm,
    id: SpaceId,
    vma: Vma,
    (at, stop): (u64, u64),
    prot: Prot,
    data_limit: u64,
) -> Result<bool, Errno> {
    if !vma.max.contains(prot) {
        return Err(Errno::EACCES);
    }
    if vma.flags.contains(VmFlags::SEALED) {
        return Err(Errno::EPERM);
    }
    if vma.prot == prot {
        return Ok(false);
    }
    let mut new = Vma { prot, ..vma };
    let len = stop - at;
    let data = k.space(id).vmas.sizes().data;
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
    k.space_mut(id).vmas.change(at, set);
    Ok(true)
}

/// Linux's heuristic (while `vm.overcommit_memory` is 0): so much memory at once is more than the machine
/// has. A limit does not count, as with memory control groups: it is about what is used.
pub(crate) fn overcommits(k: &Mm, len: u64) -> bool {
    let heuristic = k.env.settings.get(settings::OVERCOMMIT) == 0;
    heuristic && len / PAGE_SIZE > u64::from(k.frames.total())
}

/// Shared pages of files in a range are written back: the next store to one is seen again. Private ones stay
/// as they are.
pub(crate) fn written_back(k: &mut Mm, id: SpaceId, start: u64, end: u64) {
    let mut areas = Vec::new();
    for (at, vma) in k.space(id).overlapping(start, end) {
        if vma.shared && vma.file().is_some() && vma.prot.contains(Prot::WRITE) {
            areas.push((at.max(start), vma.end.min(end), vma.prot));
        }
    }
    for (start, end, prot) in areas {
        let mut clean = Vec::new();
        let pages = &mut k.space_mut(id).pages;
        pages.each_mut(start / PAGE_SIZE, end / PAGE_SIZE, |page, pte| {
            if pte.on_host() && pte.writable() && pte.frame().is_none() {
                *pte = pte.mapped(false);
                clean.push(page);
            }
        });
        k.env.steps.spend(clean.len() as u64 / 4);
        for (first, count) in space::runs(&clean) {
            let (addr, len) = (first * PAGE_SIZE, count * PAGE_SIZE);
            k.env.emit(Output::Protect {
                space: id,
                addr,
                len,
                prot: host_rights(prot, false),
            });
        }
    }
}

/// Brings the host in step with a new protection of a range, or of the beginning of it; gives where to go on.
pub(crate) fn protect_pages(k: &mut Mm, id: SpaceId, start: u64, end: u64, prot: Prot) -> u64 {
    /// Tables of pages that are dealt with at once.
    const LEAVES: usize = 4;
    let pages = &k.space(id).pages;
    let next = pages.boundary(start / PAGE_SIZE, end / PAGE_SIZE, LEAVES);
    let end = next.map_or(end, |page| page * PAGE_SIZE);
    let mut plain = Vec::new();
    let mut writable = Vec::new();
    k.space_mut(id)
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
    k.env.steps.spend((plain.len() + writable.len()) as u64 / 4);
    for (pages, write) in [(plain, false), (writable, true)] {
        let prot = host_rights(prot, write);
        for (first, count) in space::runs(&pages) {
            let (addr, len) = (first * PAGE_SIZE, count * PAGE_SIZE);
            k.env.emit(Output::Protect {
                space: id,
                addr,
                len,
                prot,
            });
        }
    }
    end
}

/// Maps pages of a file area that lie in images or frames already, between two addresses, without the right
/// to write.
pub(crate) fn map_file_pages(
    k: &mut Mm,
    p: &mut Ports<'_>,
    id: SpaceId,
    start: u64,
    from: u64,
    to: u64,
) {
    let Some(&vma) = k.space(id).vmas.get(&start) else {
        return;
    };
    let Behind::File { file, offset } = vma.behind else {
        return;
    };
    if vma.prot.is_empty() {
        return;
    }
    let Some(inode) = k.files.file(file).and_then(|file| file.inode) else {
        return;
    };
    let mut at = from;
    let mut left = PAGES_MAX;
    for _ in 0..RUNS_MAX {
        if at >= to || left == 0 {
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
        let max = ((to - at) / PAGE_SIZE).min(left);
        let Ok(run) = inode::page_run(k, p, inode, pos / PAGE_SIZE, max) else {
            return;
        };
        let count = run.count.min(max);
        let pte = Pte::file(false, shared::is_of(k, file));
        let prot = host_rights(vma.prot, false);
        map_absent(k, id, at, count, pte, run.first, prot);
        at += count * PAGE_SIZE;
        left -= count;
    }
}

/// Maps a run of file pages where no page is yet.
fn map_absent(k: &mut Mm, id: SpaceId, addr: u64, count: u64, pte: Pte, first: Page, prot: Prot) {
    let base = addr / PAGE_SIZE;
    let mut absent = Vec::new();
    k.pages(id, |pages| {
        for page in base..base + count {
            if pages.get(page).is_none() {
                pages.set(page, pte);
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
        k.env.emit(Output::Map {
            space: id,
            addr,
            len,
            backing,
            prot,
        });
    }
}

/// Adds the area to which what lies from `from` on is moved (mremap(2)): `new_len` bytes at `to`, where
/// nothing is.
pub(crate) fn begin_move(k: &mut Mm, id: SpaceId, from: u64, to: u64, new_len: u64) {
    let Some((start, vma)) = k.space(id).find(from) else {
        return;
    };
    let moved = Vma {
        end: to + new_len,
        ..vma.tail(start, from)
    };
    if let Some(file) = moved.file() {
        file::get(k, file);
    }
    mapped::put(k, id, to, moved);
}

/// Moves the pages of a range to a place of the same length.
pub(crate) fn move_pages(k: &mut Mm, id: SpaceId, (start, end): (u64, u64), to: u64) {
    // Somebody may have touched the new place already.
    discard(k, id, to, to + (end - start));
    let mut private = Vec::new();
    let mut on_host = false;
    let pages = &mut k.space_mut(id).pages;
    pages.each_mut(start / PAGE_SIZE, end / PAGE_SIZE, |page, pte| {
        on_host |= pte.on_host();
        if pte.frame().is_some() {
            private.push((page, pte.unmapped()));
        }
        *pte = Pte::default();
    });
    k.env.steps.spend(private.len() as u64 / 2);
    let shift = |page: u64| page - start / PAGE_SIZE + to / PAGE_SIZE;
    k.pages(id, |pages| {
        for (page, pte) in private {
            pages.set(shift(page), pte);
        }
    });
    if on_host {
        k.env.emit(Output::Unmap {
            space: id,
            addr: start,
            len: end - start,
        });
    }
}

/// All pages have been moved to an area: what can be mapped at once is.
pub(crate) fn end_move(k: &mut Mm, p: &mut Ports<'_>, id: SpaceId, to: u64, new_len: u64) {
    map_file_pages(k, p, id, to, to, to + new_len);
    join(k, p, id, to, to + new_len);
}
