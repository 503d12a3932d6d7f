//! Page faults: of guest threads, and of the kernel on their behalf.

use super::map;
use super::pages::Pte;
use super::space::{Fresh, Spurious};
use super::vma::{Behind, VmFlags, Vma, host_rights};
use crate::abi::{Errno, PAGE_SIZE};
use crate::event::Output;
use crate::file::shared;
use crate::fs::filesystem::Page;
use crate::fs::frames::Place;
use crate::fs::inode;
use crate::machine::{Access, Backing, FrameNo, Prot, SpaceId, ThreadId};
use crate::mm::Mm;
use crate::port::Ports;

/// Pages mapped around a fault on frames that are there.
const AROUND: u64 = 16;
/// Fewest pages of anonymous memory made at one fault, most where touches are scattered and memory is
/// limited, and most of all.
const FRESH_MIN: u64 = 16;
const FRESH_SCATTERED: u64 = 64;
const FRESH_MAX: u64 = 512;
/// One fault makes no more than this part of what is left.
const FRESH_SHORT: u64 = 16;
/// Pages kept free below a growing stack.
const STACK_GUARD: u64 = 256 * PAGE_SIZE;

/// Addresses this far below the stack pointer still belong to the stack's user (red zone and pushes).
const BELOW_STACK_POINTER: u64 = 65536;

/// How often in a row an access that a host says it could not make, though it should, is tried again. A host
/// that cannot map a page at all must not keep a program busy for ever.
const SPURIOUS_MAX: u32 = 64;

/// Why a fault cannot be resolved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Bad {
    /// Nothing is mapped there.
    Unmapped,
    /// What is mapped there forbids it.
    Forbidden,
    /// Past the end of a mapped file, or its data cannot be read.
    Beyond,
    /// No frame is left.
    NoMemory,
}

/// What became of a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// The page can be used now.
    Fixed,
    /// It could be used before: the thread tries again.
    Spurious,
    /// The thread gets a signal, or memory is to be found for it.
    Bad(Bad),
}

/// A fault of a guest thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Touch {
    pub space: SpaceId,
    pub thread: ThreadId,
    pub addr: u64,
    /// What the thread wanted, where the host knows it.
    pub access: Option<Access>,
    /// Where the thread is, and its stack pointer.
    pub rip: u64,
    pub rsp: u64,
    pub limits: Growth,
}

/// Resolves a fault of a guest thread.
pub(crate) fn touch(k: &mut Mm, p: &mut Ports<'_>, touch: Touch) -> Verdict {
    let Touch {
        space: id,
        thread,
        addr,
        access,
        rip,
        ..
    } = touch;
    let near_stack = addr
        .wrapping_add(BELOW_STACK_POINTER)
        .wrapping_sub(touch.rsp)
        < 2 * BELOW_STACK_POINTER;
    let resolved = grow_stack(k, id, addr, touch.limits)
        .and_then(|()| resolve(k, p, id, addr, access, near_stack));
    match resolved {
        Ok(true) => {
            k.space_mut(id).spurious = None;
            return Verdict::Fixed;
        }
        Ok(false) => {}
        Err(bad) => return Verdict::Bad(bad),
    }
    // The page is mapped as it should be. Either another thread was faster or the host dropped it, and it
    // goes on now; or the access is one that the mapping forbids, and it faults again at once.
    let space = k.space_mut(id);
    let times = match space.spurious {
        Some(last) if (last.thread, last.addr, last.rip) == (thread, addr, rip) => last.times + 1,
        _ => 1,
    };
    let most = match access {
        Some(_) => SPURIOUS_MAX,
        None => 1,
    };
    if times > most {
        space.spurious = None;
        return Verdict::Bad(Bad::Forbidden);
    }
    space.spurious = Some(Spurious {
        thread,
        addr,
        rip,
        times,
    });
    match remap(k, p, id, addr, access) {
        Ok(()) => Verdict::Spurious,
        Err(bad) => Verdict::Bad(bad),
    }
}

/// How far a stack may grow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Growth {
    /// `RLIMIT_STACK`.
    pub stack: u64,
    /// `RLIMIT_AS`.
    pub total: u64,
    /// `RLIMIT_MEMLOCK`, for a locked one.
    pub locked: u64,
}

/// How far the kernel itself lets a stack grow when it writes below it.
const BY_KERNEL: Growth = Growth {
    stack: 8 << 20,
    total: u64::MAX,
    locked: u64::MAX,
};

/// Grows a stack down to an address just below it, within the limits.
fn grow_stack(k: &mut Mm, id: SpaceId, addr: u64, limits: Growth) -> Result<(), Bad> {
    let space = k.space(id);
    if space.find(addr).is_some() {
        return Ok(());
    }
    let Some((&start, &vma)) = space.vmas.range(addr..).next() else {
        return Err(Bad::Unmapped);
    };
    if !vma.flags.contains(VmFlags::GROWS_DOWN) || vma.end - addr > limits.stack {
        return Err(Bad::Unmapped);
    }
    let new = addr & !(PAGE_SIZE - 1);
    // A gap is kept from what can be accessed below, unless that is a stack itself.
    let (below, guard) = match space.vmas.range(..addr).next_back() {
        Some((_, vma)) if vma.prot.is_empty() || vma.flags.contains(VmFlags::GROWS_DOWN) => {
            (vma.end, 0)
        }
        Some((_, vma)) => (vma.end, STACK_GUARD),
        None => (0, STACK_GUARD),
    };
    let (sizes, more) = (space.vmas.sizes(), start - new);
    let locked = vma.flags.contains(VmFlags::LOCKED);
    if new < below.saturating_add(guard)
        || sizes.total.saturating_add(more) > limits.total
        || locked && sizes.locked.saturating_add(more) > limits.locked
    {
        return Err(Bad::Unmapped);
    }
    super::mapped::take(k, id, start);
    super::mapped::put(k, id, new, vma);
    Ok(())
}

/// Makes a page of the space usable for an access; `hint`: it is probably a write. `Ok(false)`: there was
/// nothing to do.
fn resolve(
    k: &mut Mm,
    p: &mut Ports<'_>,
    id: SpaceId,
    addr: u64,
    access: Option<Access>,
    hint: bool,
) -> Result<bool, Bad> {
    let (start, vma) = k.space(id).find(addr).ok_or(Bad::Unmapped)?;
    let allowed = match access {
        Some(Access::Write) => vma.prot.contains(Prot::WRITE),
        Some(Access::Execute) => vma.prot.contains(Prot::EXEC),
        // Every page that is mapped at all can be read on x86-64.
        Some(Access::Read) | None => !vma.prot.is_empty(),
    };
    if !allowed {
        return Err(Bad::Forbidden);
    }
    let page = addr / PAGE_SIZE;
    let pte = k.space(id).pages.get(page);
    let write = match access {
        Some(access) => access == Access::Write,
        None => vma.prot.contains(Prot::WRITE) && (hint || pte.on_host()),
    };
    if write && !pte.writable() {
        make_writable(k, p, id, start, vma, page)?;
    } else if !pte.on_host() {
        make_readable(k, p, id, start, vma, page)?;
    } else {
        return Ok(false);
    }
    Ok(true)
}

/// Tells the host once more what it should have.
fn remap(
    k: &mut Mm,
    p: &mut Ports<'_>,
    id: SpaceId,
    addr: u64,
    access: Option<Access>,
) -> Result<(), Bad> {
    let page = addr / PAGE_SIZE;
    let space = k.space(id);
    let (pte, vma) = (space.pages.get(page), space.find(addr));
    let Some((_, vma)) = vma else {
        return Err(Bad::Unmapped);
    };
    if let Some(frame) = pte.frame() {
        let prot = host_rights(vma.prot, pte.writable());
        emit(k, id, page, 1, frame, prot);
        return Ok(());
    }
    // Pages of a file are looked up anew, those around it with it: the host has probably dropped them, too.
    let first = page & !(AROUND - 1);
    let pages = &mut k.space_mut(id).pages;
    let mut gone = [0; AROUND as usize];
    let mut count = 0;
    pages.each_mut(first, first + AROUND, |other, pte| {
        if pte.on_host() && pte.frame().is_none() {
            *pte = Pte::default();
            gone[count] = other;
            count += 1;
        }
    });
    for (first, count) in super::space::runs(&gone[..count]) {
        k.env.emit(Output::Unmap {
            space: id,
            addr: first * PAGE_SIZE,
            len: count * PAGE_SIZE,
        });
    }
    resolve(k, p, id, addr, access, pte.writable()).map(drop)
}

fn emit(k: &mut Mm, id: SpaceId, page: u64, count: u64, frame: FrameNo, prot: Prot) {
    let (addr, len) = (page * PAGE_SIZE, count * PAGE_SIZE);
    k.env.emit(Output::Map {
        space: id,
        addr,
        len,
        backing: Backing::Memory(frame),
        prot,
    });
}

/// Where a private page lies.
fn place(k: &Mm, id: SpaceId, page: u64) -> Place {
    let pages = &k.space(id).pages;
    let (first, last) = Place::around(page);
    // Not by what is shared with another process: its neighbours are not free.
    let known = |page: u64| {
        let frame = pages.get(page).frame()?;
        (k.frames.count(frame) == 1).then_some((page, frame))
    };
    Place {
        index: page,
        before: (first..page).rev().find_map(known),
        after: (page + 1..=last).find_map(known),
        block: false,
    }
}

fn no_memory(_: Errno) -> Bad {
    Bad::NoMemory
}

/// A frame of the space's own at a page, mapped for writing (or for reading where the area forbids that, as a
/// debugger's write would need).
fn make_writable(
    k: &mut Mm,
    p: &mut Ports<'_>,
    id: SpaceId,
    start: u64,
    vma: Vma,
    page: u64,
) -> Result<(), Bad> {
    let pte = k.space(id).pages.get(page);
    if let Behind::File { file, offset } = vma.behind
        && vma.shared
    {
        let inode = k
            .files
            .file(file)
            .and_then(|file| file.inode)
            .ok_or(Bad::Beyond)?;
        let index = (offset + page * PAGE_SIZE - start) / PAGE_SIZE;
        let size = inode::stored_attr(k, p, inode)
            .map_err(|_| Bad::Beyond)?
            .size;
        if index >= size.div_ceil(PAGE_SIZE) {
            return Err(Bad::Beyond);
        }
        let frame = inode::page_for_write(k, p, inode, index).map_err(|errno| match errno {
            Errno::ENOMEM => Bad::NoMemory,
            _ => Bad::Beyond,
        })?;
        inode::stored(k, p, inode);
        super::follow_files(k);
        let memory = shared::is_of(k, file);
        k.pages(id, |pages| pages.set(page, Pte::file(true, memory)));
        emit(k, id, page, 1, frame, host_rights(vma.prot, true));
        return Ok(());
    }
    let frame = match (pte.frame(), vma.behind) {
        (Some(frame), _) if k.frames.count(frame) == 1 => frame,
        (Some(old), _) => {
            let place = place(k, id, page);
            let new = k.frames.alloc_beside_to_fill(place).map_err(no_memory)?;
            p.memory.copy(new.offset(), old.offset(), PAGE_SIZE);
            k.frames.put(old);
            new
        }
        (None, Behind::Anonymous(_)) => return fresh(k, p, id, start, vma, page),
        (None, Behind::File { file, offset }) => {
            let place = place(k, id, page);
            copy_file_page(k, p, file, offset + page * PAGE_SIZE - start, place)?
        }
    };
    let pte = Pte::private(frame).mapped(true);
    k.pages(id, |pages| pages.set(page, pte));
    emit(k, id, page, 1, frame, host_rights(vma.prot, true));
    Ok(())
}

/// The frame of its own that a private area gets at an address, also where its program may not write.
pub(crate) fn own_page(
    k: &mut Mm,
    p: &mut Ports<'_>,
    id: SpaceId,
    addr: u64,
) -> Result<FrameNo, Errno> {
    let (start, vma) = k.space(id).find(addr).ok_or(Errno::EFAULT)?;
    let page = addr / PAGE_SIZE;
    if vma.shared {
        return Err(Errno::EFAULT);
    }
    if !k.space(id).pages.get(page).writable() {
        make_writable(k, p, id, start, vma, page).map_err(|bad| match bad {
            Bad::NoMemory => Errno::ENOMEM,
            _ => Errno::EFAULT,
        })?;
    }
    let pte = k.space(id).pages.get(page);
    if !vma.prot.contains(Prot::WRITE) {
        // The host has it without that right.
        k.pages(id, |pages| pages.set(page, pte.mapped(false)));
    }
    pte.frame().ok_or(Errno::EFAULT)
}

/// A private copy of a page of a file.
fn copy_file_page(
    k: &mut Mm,
    p: &mut Ports<'_>,
    file: crate::file::FileId,
    offset: u64,
    place: Place,
) -> Result<FrameNo, Bad> {
    let inode = k
        .files
        .file(file)
        .and_then(|file| file.inode)
        .ok_or(Bad::Beyond)?;
    let run = inode::page_run(k, p, inode, offset / PAGE_SIZE, 1).map_err(|errno| match errno {
        Errno::ENOMEM => Bad::NoMemory,
        _ => Bad::Beyond,
    })?;
    let frame = k.frames.alloc_beside_to_fill(place).map_err(no_memory)?;
    match run.first {
        Page::Frame(from) => p.memory.copy(frame.offset(), from.offset(), PAGE_SIZE),
        Page::Image { image, offset } => {
            let mut buf = [0; PAGE_SIZE as usize];
            let copied = match p.images.image(image) {
                Some(block) => {
                    // The last page of an image may be short: what is missing is zero.
                    let len = block.len().saturating_sub(offset).min(PAGE_SIZE) as usize;
                    block.read_at(offset, &mut buf[..len])
                }
                None => Err(Errno::EIO),
            };
            if copied.is_err() {
                k.frames.put(frame);
                return Err(Bad::Beyond);
            }
            p.memory.write(frame.offset(), &buf);
        }
    }
    Ok(frame)
}

/// How many pages a first touch of anonymous memory makes. They cost the host nothing until they are touched
/// themselves; but they count, so with a limit there are few where touches are scattered, twice as many each
/// time where one follows the other, and fewer when memory is short.
fn window(k: &Mm, id: SpaceId, start: u64, vma: Vma, page: u64) -> u64 {
    let (used, limit) = k.frames.usage();
    let left = u64::from(limit.saturating_sub(used));
    let last = k.space(id).fresh;
    let most = match page == last.end {
        true => (last.len * 2).min(FRESH_MAX),
        false => {
            let scattered = match k.frames.is_limited() {
                true => FRESH_SCATTERED,
                false => FRESH_MAX,
            };
            ((vma.end - start) / PAGE_SIZE / 8).min(scattered)
        }
    };
    let short = (left / FRESH_SHORT).max(1);
    most.max(FRESH_MIN).min(short).next_power_of_two()
}

/// New zeroed memory at and around a page that has none.
fn fresh(
    k: &mut Mm,
    p: &mut Ports<'_>,
    id: SpaceId,
    start: u64,
    vma: Vma,
    page: u64,
) -> Result<(), Bad> {
    let (first, end) = (start / PAGE_SIZE, vma.end / PAGE_SIZE);
    let window = window(k, id, start, vma, page);
    let base = page & !(window - 1);
    let pages = &k.space(id).pages;
    let absent = |page: &u64| pages.get(*page).is_none();
    let from = (base.max(first)..page)
        .rev()
        .take_while(absent)
        .last()
        .unwrap_or(page);
    let to = (page + 1..(base + window).min(end))
        .take_while(absent)
        .last()
        .map_or(page + 1, |last| last + 1);
    let (frame, got) = k
        .frames
        .alloc_run(p.memory, (to - from) as u32)
        .map_err(no_memory)?;
    let got = u64::from(got);
    // A short run goes where it covers the page.
    let from = if from + got > page {
        from
    } else {
        page + 1 - got
    };
    k.space_mut(id).fresh = Fresh {
        end: from + got,
        len: window,
    };
    let write = vma.prot.contains(Prot::WRITE);
    k.pages(id, |pages| {
        let pte = |page: u64| FrameNo(frame.0 + (page - from) as u32);
        pages.set_run(from, got, |page| Pte::private(pte(page)).mapped(write));
    });
    emit(k, id, from, got, frame, host_rights(vma.prot, true));
    Ok(())
}

/// Maps what is at a page, and around it, as it is.
fn make_readable(
    k: &mut Mm,
    p: &mut Ports<'_>,
    id: SpaceId,
    start: u64,
    vma: Vma,
    page: u64,
) -> Result<(), Bad> {
    let pte = k.space(id).pages.get(page);
    let Some(frame) = pte.frame() else {
        if let Behind::Anonymous(_) = vma.behind {
            return fresh(k, p, id, start, vma, page);
        }
        let base = page & !(AROUND - 1);
        let from = (base * PAGE_SIZE).max(start);
        let to = ((base + AROUND) * PAGE_SIZE).min(vma.end);
        map::map_file_pages(k, p, id, start, from, to);
        if k.space(id).pages.get(page).on_host() {
            return Ok(());
        }
        return map_hole(k, p, id, start, vma, page);
    };
    let writable = |k: &Mm, frame| vma.prot.contains(Prot::WRITE) && k.frames.count(frame) == 1;
    let write = writable(k, frame);
    let like = |k: &Mm, other: u64| {
        let pte = k.space(id).pages.get(other);
        let wanted = u64::from(frame.0).wrapping_add(other).wrapping_sub(page);
        pte.frame().is_some_and(|found| {
            u64::from(found.0) == wanted && !pte.on_host() && writable(k, found) == write
        })
    };
    let base = page & !(AROUND - 1);
    let (low, high) = (
        base.max(start / PAGE_SIZE),
        (base + AROUND).min(vma.end / PAGE_SIZE),
    );
    let from = (low..page)
        .rev()
        .take_while(|&other| like(k, other))
        .last()
        .unwrap_or(page);
    let to = (page + 1..high)
        .take_while(|&other| like(k, other))
        .last()
        .map_or(page + 1, |last| last + 1);
    for other in from..to {
        let pages = &mut k.space_mut(id).pages;
        let pte = pages.get(other).mapped(write);
        pages.set(other, pte);
    }
    let prot = host_rights(vma.prot, write);
    let first = FrameNo(frame.0 - (page - from) as u32);
    emit(k, id, from, to - from, first, prot);
    Ok(())
}

/// Maps a page of a file that only now gets a frame (a hole, a tail).
fn map_hole(
    k: &mut Mm,
    p: &mut Ports<'_>,
    id: SpaceId,
    start: u64,
    vma: Vma,
    page: u64,
) -> Result<(), Bad> {
    let Behind::File { file, offset } = vma.behind else {
        return Err(Bad::Unmapped);
    };
    let inode = k
        .files
        .file(file)
        .and_then(|file| file.inode)
        .ok_or(Bad::Beyond)?;
    let index = (offset + page * PAGE_SIZE - start) / PAGE_SIZE;
    let run = inode::page_run(k, p, inode, index, 1).map_err(|errno| match errno {
        Errno::ENOMEM => Bad::NoMemory,
        _ => Bad::Beyond,
    })?;
    let backing = match run.first {
        Page::Frame(frame) => Backing::Memory(frame),
        Page::Image { image, offset } => Backing::Image { image, offset },
    };
    let memory = shared::is_of(k, file);
    k.pages(id, |pages| pages.set(page, Pte::file(false, memory)));
    let (addr, prot) = (page * PAGE_SIZE, host_rights(vma.prot, false));
    k.env.emit(Output::Map {
        space: id,
        addr,
        len: PAGE_SIZE,
        backing,
        prot,
    });
    Ok(())
}

/// Resolves an access of the kernel to user memory. `EFAULT`, `ENOMEM`.
pub(crate) fn kernel_access(
    k: &mut Mm,
    p: &mut Ports<'_>,
    id: SpaceId,
    addr: u64,
    write: bool,
) -> Result<(), Errno> {
    let access = if write { Access::Write } else { Access::Read };
    k.frames.set_urgent(true);
    let result = grow_stack(k, id, addr, BY_KERNEL)
        .and_then(|()| resolve(k, p, id, addr, Some(access), write));
    k.frames.set_urgent(false);
    match result {
        Ok(_) => Ok(()),
        Err(Bad::NoMemory) => Err(Errno::ENOMEM),
        Err(_) => Err(Errno::EFAULT),
    }
}
