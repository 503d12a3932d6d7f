//! Changes of an address space: mapping, unmapping, protection, moving.

use alloc::vec::Vec;

use super::pages::Pte;
use super::space::{self, MAP_COUNT_MAX};
use super::vma::{Behind, Vma};
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
    let space = k.mm.space_mut(id);
    space.vmas.insert(start, vma);
    space.added(vma.end - start);
    if vma.file().is_some() {
        map_file_pages(k, p, id, start, start, vma.end);
    }
    join(k, p, id, start, vma.end);
}

/// Moves the end of an area up to `end`; what lies between is free.
pub(crate) fn grow(k: &mut Kernel, p: &mut Ports<'_>, id: SpaceId, start: u64, end: u64) {
    let Some(vma) = k.mm.space_mut(id).vmas.get_mut(&start) else {
        return;
    };
    let old = core::mem::replace(&mut vma.end, end);
    k.mm.space_mut(id).added(end - old);
    map_file_pages(k, p, id, start, old, end);
    join(k, p, id, start, end);
}

/// Joins areas that have become one, from the one before `start` to the one at `end`.
fn join(k: &mut Kernel, p: &mut Ports<'_>, id: SpaceId, start: u64, end: u64) {
    let vmas = &k.mm.space(id).vmas;
    let mut at = vmas
        .range(..start)
        .next_back()
        .map_or(start, |(&before, _)| before);
    while at < end {
        let vmas = &mut k.mm.space_mut(id).vmas;
        let Some(&first) = vmas.get(&at) else { return };
        let Some((&next, &second)) = vmas.range(at + 1..=end).next() else {
            return;
        };
        if first.end == next && first.joins(at, &second) {
            vmas.remove(&next);
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
    let Some((start, vma)) = space.find(at) else {
        return Ok(());
    };
    if start == at {
        return Ok(());
    }
    if space.vmas.len() >= MAP_COUNT_MAX {
        return Err(Errno::ENOMEM);
    }
    if let Some(file) = vma.file() {
        file::get(k, file);
    }
    let vmas = &mut k.mm.space_mut(id).vmas;
    vmas.insert(start, Vma { end: at, ..vma });
    vmas.insert(at, vma.tail(start, at));
    Ok(())
}

/// Unmaps a range; what is not mapped is passed over.
pub(crate) fn unmap(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    id: SpaceId,
    start: u64,
    end: u64,
) -> Result<(), Errno> {
    let touched: Vec<u64> =
        k.mm.space(id)
            .overlapping(start, end)
            .map(|(start, _)| start)
            .collect();
    if touched.is_empty() {
        return Ok(());
    }
    split(k, id, start)?;
    split(k, id, end)?;
    discard(k, id, start, end);
    while let Some((&at, &vma)) = k.mm.space(id).vmas.range(start..end).next() {
        let space = k.mm.space_mut(id);
        space.vmas.remove(&at);
        space.removed(vma.end, vma.end - at);
        if let Some(file) = vma.file() {
            file::put(k, p, file);
        }
    }
    k.mm.space_mut(id)
        .pages
        .shrink(start / PAGE_SIZE, end / PAGE_SIZE);
    Ok(())
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

/// Changes the protection of a range. `ENOMEM` if part of it is not mapped (what lies before has changed), `EACCES` if a mapping
/// never gets that.
pub(crate) fn protect(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    id: SpaceId,
    start: u64,
    end: u64,
    prot: Prot,
) -> Result<(), Errno> {
    let mut at = start;
    let areas: Vec<(u64, Vma)> = k.mm.space(id).overlapping(start, end).collect();
    let mut result = Ok(());
    for (first, vma) in areas {
        if first > at {
            break;
        }
        if !vma.max.contains(prot) {
            result = Err(Errno::EACCES);
            break;
        }
        let stop = vma.end.min(end);
        if vma.prot != prot {
            split(k, id, at)?;
            split(k, id, stop)?;
            if let Some(vma) = k.mm.space_mut(id).vmas.get_mut(&at) {
                vma.prot = prot;
            }
            protect_pages(k, id, at, stop, prot);
        }
        at = stop;
    }
    join(k, p, id, start, end);
    if result.is_ok() && at < end {
        result = Err(Errno::ENOMEM);
    }
    result
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
    for (pages, prot) in [(plain, prot - Prot::WRITE), (writable, prot)] {
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
        map_absent(k, id, at, count, run.first, vma.prot - Prot::WRITE);
        at += count * PAGE_SIZE;
    }
}

/// Maps a run of file pages where no page is yet.
fn map_absent(k: &mut Kernel, id: SpaceId, addr: u64, count: u64, first: Page, prot: Prot) {
    let pages = &mut k.mm.space_mut(id).pages;
    let base = addr / PAGE_SIZE;
    let mut absent = Vec::new();
    for page in base..base + count {
        if pages.get(page).is_none() {
            pages.set(page, Pte::file(false));
            absent.push(page);
        }
    }
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
            k.mm.space_mut(id).pages.set(shift(page), pte);
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
