//! Mappings of an address space.

use super::args::*;
use crate::abi::raw::general as g;
use crate::abi::{Errno, MMAP_MIN_ADDR, PAGE_SIZE, TASK_SIZE};
use crate::kernel::{Cx, SysResult};
use crate::machine::Prot;
use crate::mm::map::{self, page_up};
use crate::mm::shared::shared_memory;
use crate::mm::space::MAP_COUNT_MAX;
use crate::mm::vma::{Behind, Name, Vma};
use crate::vfs::file::{self, FileKind};
use crate::vfs::mount::MountFlags;
use crate::vfs::{FileId, fdtable};

const CAP_IPC_LOCK: u32 = 14;
/// Flags of mmap(2) that change nothing here, beside those that are looked at.
const IGNORED_FLAGS: u32 = g::MAP_DENYWRITE
    | g::MAP_EXECUTABLE
    | g::MAP_LOCKED
    | g::MAP_NORESERVE
    | g::MAP_NONBLOCK
    | g::MAP_STACK;

fn prot_of(bits: u64) -> Result<Prot, Errno> {
    let growth = u64::from(g::PROT_GROWSDOWN | g::PROT_GROWSUP);
    // Linux ignores unknown bits in mmap(2); mprotect(2) refuses them.
    Prot::from_bits(u8::try_from(bits & !growth).map_err(|_| Errno::EINVAL)?).ok_or(Errno::EINVAL)
}

pub(super) fn mmap(
    cx: &mut Cx<'_, '_>,
    addr: Addr,
    length: Size,
    prot: ProtFlags,
    flags: MapFlags,
    fd: Fd,
    offset: Hex,
) -> SysResult {
    let prot = Prot::from_bits_truncate(prot.0 as u8);
    let flags = flags.0 as u32;
    let offset = offset.0;
    if !offset.is_multiple_of(PAGE_SIZE) || length.0 == 0 {
        return Err(Errno::EINVAL.into());
    }
    let file = match flags & g::MAP_ANONYMOUS {
        0 => Some(fdtable::get(cx, fd.0)?),
        _ => None,
    };
    if flags & g::MAP_HUGETLB != 0 && file.is_none() {
        // No huge pages are reserved.
        return Err(Errno::ENOMEM.into());
    }
    let len = page_up(length.0)
        .filter(|&len| len <= TASK_SIZE)
        .ok_or(Errno::ENOMEM)?;
    if file.is_some()
        && offset
            .checked_add(len)
            .is_none_or(|end| end > i64::MAX as u64)
    {
        return Err(Errno::EOVERFLOW.into());
    }
    let shared = match flags & g::MAP_TYPE {
        g::MAP_PRIVATE => false,
        g::MAP_SHARED => true,
        g::MAP_SHARED_VALIDATE => {
            let known = IGNORED_FLAGS
                | g::MAP_TYPE
                | g::MAP_FIXED
                | g::MAP_FIXED_NOREPLACE
                | g::MAP_ANONYMOUS
                | g::MAP_GROWSDOWN
                | g::MAP_POPULATE
                | g::MAP_HUGETLB;
            if flags & !known != 0 {
                return Err(Errno::EOPNOTSUPP.into());
            }
            true
        }
        _ => return Err(Errno::EINVAL.into()),
    };
    let mut max = Prot::all();
    let mut file = match file {
        Some(id) => mappable(cx, id, prot, shared, &mut max)?,
        None => None,
    };
    let start = place(cx, addr.0, len, flags)?;
    let id = cx.space();
    let limit = cx.rlimit(g::RLIMIT_AS);
    let replaced: u64 = match flags & (g::MAP_FIXED | g::MAP_FIXED_NOREPLACE) {
        0 => 0,
        _ => {
            let areas = cx.k.mm.space(id).overlapping(start, start + len);
            areas
                .map(|(at, vma)| vma.end.min(start + len) - at.max(start))
                .sum()
        }
    };
    let space = cx.k.mm.space(id);
    if space.total() - replaced + len > limit || space.vmas.len() >= MAP_COUNT_MAX {
        return Err(Errno::ENOMEM.into());
    }
    if file.is_none() && !shared && overcommits(cx, len, prot) {
        return Err(Errno::ENOMEM.into());
    }
    let mut own = false;
    if file.is_none() && shared {
        file = Some(shared_memory(cx.k, cx.p, len)?);
        own = true;
    }
    map::unmap(cx.k, cx.p, id, start, start + len)?;
    let behind = match file {
        Some(file) => {
            if !own {
                file::get(cx.k, file);
            }
            Behind::File {
                file,
                offset: if own { 0 } else { offset },
            }
        }
        None => Behind::Anonymous(Name::None),
    };
    let vma = Vma {
        end: start + len,
        prot,
        max,
        shared,
        grows_down: flags & g::MAP_GROWSDOWN != 0 && file.is_none(),
        no_fork: false,
        wipe_on_fork: false,
        behind,
    };
    map::insert(cx.k, cx.p, id, start, vma);
    if flags & (g::MAP_POPULATE | g::MAP_LOCKED) != 0 && flags & g::MAP_NONBLOCK == 0 {
        populate(cx, start, start + len, prot);
    }
    Ok(start)
}

/// Linux's heuristic: a single mapping of more than all memory is refused.
fn overcommits(cx: &Cx<'_, '_>, len: u64, prot: Prot) -> bool {
    let (_, total) = cx.k.mm.frames.usage();
    prot.contains(Prot::WRITE) && len / PAGE_SIZE > u64::from(total)
}

/// Checks that a file can be mapped so; `None` for `/dev/zero`, which is anonymous memory. Takes no reference.
fn mappable(
    cx: &mut Cx<'_, '_>,
    id: FileId,
    prot: Prot,
    shared: bool,
    max: &mut Prot,
) -> Result<Option<FileId>, Errno> {
    let open = cx.k.vfs.file(id).ok_or(Errno::EBADF)?;
    let kind = open.kind.clone();
    if !open.readable() {
        return Err(Errno::EACCES);
    }
    if shared && !open.writable() {
        if prot.contains(Prot::WRITE) {
            return Err(Errno::EACCES);
        }
        *max -= Prot::WRITE;
    }
    let mount = open.path.mount;
    if shared && let Some(inode) = open.inode {
        *max = cx.k.vfs.seals.check_map(inode, prot, *max)?;
    }
    if cx.k.vfs.mounts.at(mount).flags.contains(MountFlags::NOEXEC) {
        if prot.contains(Prot::EXEC) {
            return Err(Errno::EPERM);
        }
        *max -= Prot::EXEC;
    }
    match kind {
        FileKind::Regular => Ok(Some(id)),
        FileKind::Device(crate::vfs::device::Device::Zero) => Ok(None),
        _ => Err(Errno::ENODEV),
    }
}

/// Where a mapping goes.
fn place(cx: &mut Cx<'_, '_>, addr: u64, len: u64, flags: u32) -> Result<u64, Errno> {
    let id = cx.space();
    let fits = |start: u64| start.checked_add(len).is_some_and(|end| end <= TASK_SIZE);
    let space = cx.k.mm.space(id);
    if flags & (g::MAP_FIXED | g::MAP_FIXED_NOREPLACE) != 0 {
        if !addr.is_multiple_of(PAGE_SIZE) {
            return Err(Errno::EINVAL);
        }
        if !fits(addr) {
            return Err(Errno::ENOMEM);
        }
        if addr < MMAP_MIN_ADDR {
            return Err(Errno::EPERM);
        }
        if flags & g::MAP_FIXED_NOREPLACE != 0
            && space.overlapping(addr, addr + len).next().is_some()
        {
            return Err(Errno::EEXIST);
        }
        return Ok(addr);
    }
    if addr != 0 {
        let wish = (addr & !(PAGE_SIZE - 1)).max(MMAP_MIN_ADDR);
        if fits(wish) && space.overlapping(wish, wish + len).next().is_none() {
            return Ok(wish);
        }
    }
    cx.k.mm.space_mut(id).gap(len)
}

/// Faults pages in; what cannot be is left to the program's own access.
fn populate(cx: &mut Cx<'_, '_>, start: u64, end: u64, prot: Prot) {
    let id = cx.space();
    let mut at = start;
    while at < end {
        if !cx.k.mm.space(id).pages.get(at / PAGE_SIZE).on_host()
            && crate::mm::fault::kernel_access(cx.k, cx.p, id, at, prot.contains(Prot::WRITE))
                .is_err()
        {
            return;
        }
        at += PAGE_SIZE;
    }
}

/// A page-aligned range of user addresses. `EINVAL`; `ENOMEM` past the end.
fn range(addr: u64, len: u64) -> Result<(u64, u64), Errno> {
    if !addr.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    let len = page_up(len).ok_or(Errno::ENOMEM)?;
    let end = addr
        .checked_add(len)
        .filter(|&end| end <= TASK_SIZE)
        .ok_or(Errno::ENOMEM)?;
    Ok((addr, end))
}

/// As [`range`] for calls on pages that should be there: a length that wraps is `EINVAL`, one that leaves user memory meets no pages.
fn present_range(addr: u64, len: u64) -> Result<(u64, u64), Errno> {
    match len.checked_add(addr).and_then(page_up) {
        Some(_) => range(addr, len),
        None => Err(Errno::EINVAL),
    }
}

pub(super) fn mprotect(cx: &mut Cx<'_, '_>, addr: Addr, len: Size, prot: ProtFlags) -> SysResult {
    let both = u64::from(g::PROT_GROWSDOWN | g::PROT_GROWSUP);
    if prot.0 & both == both {
        return Err(Errno::EINVAL.into());
    }
    if !addr.0.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL.into());
    }
    if len.0 == 0 {
        return Ok(0);
    }
    let (start, end) = range(addr.0, len.0)?;
    let wanted = prot_of(prot.0)?;
    let id = cx.space();
    map::protect(cx.k, cx.p, id, start, end, wanted)?;
    Ok(0)
}

pub(super) fn munmap(cx: &mut Cx<'_, '_>, addr: Addr, length: Size) -> SysResult {
    let (start, end) = range(addr.0, length.0).map_err(|_| Errno::EINVAL)?;
    if start == end {
        return Err(Errno::EINVAL.into());
    }
    let id = cx.space();
    map::unmap(cx.k, cx.p, id, start, end)?;
    Ok(0)
}

pub(super) fn brk(cx: &mut Cx<'_, '_>, addr: Addr) -> SysResult {
    let id = cx.space();
    let layout = &cx.k.mm.space(id).layout;
    let (low, old) = (layout.brk_start, layout.brk);
    let wanted = addr.0;
    let limit = cx.rlimit(g::RLIMIT_DATA);
    if wanted < low || wanted - low > limit {
        return Ok(old);
    }
    let (Some(old_end), Some(new_end)) = (page_up(old), page_up(wanted)) else {
        return Ok(old);
    };
    if new_end > TASK_SIZE {
        return Ok(old);
    }
    if new_end < old_end {
        if map::unmap(cx.k, cx.p, id, new_end, old_end).is_err() {
            return Ok(old);
        }
    } else if new_end > old_end {
        let space = cx.k.mm.space(id);
        let room = space
            .overlapping(old_end, new_end + PAGE_SIZE)
            .next()
            .is_none()
            && space.total() + (new_end - old_end) <= cx.rlimit(g::RLIMIT_AS)
            && !overcommits(cx, new_end - old_end, Prot::WRITE);
        if !room {
            return Ok(old);
        }
        let vma = Vma {
            end: new_end,
            prot: Prot::READ | Prot::WRITE,
            max: Prot::all(),
            shared: false,
            grows_down: false,
            no_fork: false,
            wipe_on_fork: false,
            behind: Behind::Anonymous(Name::Heap),
        };
        map::insert(cx.k, cx.p, id, old_end, vma);
    }
    cx.k.mm.space_mut(id).layout.brk = wanted;
    Ok(wanted)
}

pub(super) fn mremap(
    cx: &mut Cx<'_, '_>,
    old_address: Addr,
    old_size: Size,
    new_size: Size,
    flags: Hex,
    new_address: Addr,
) -> SysResult {
    let flags = flags.0 as u32;
    let known = g::MREMAP_MAYMOVE | g::MREMAP_FIXED | g::MREMAP_DONTUNMAP;
    let may_move = flags & g::MREMAP_MAYMOVE != 0;
    let keep = flags & g::MREMAP_DONTUNMAP != 0;
    let fixed = flags & g::MREMAP_FIXED != 0;
    let from = old_address.0;
    if flags & !known != 0 || ((fixed || keep) && !may_move) || !from.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL.into());
    }
    // Linux lets the lengths wrap around to 0.
    let mut old_len = page_up(old_size.0).unwrap_or(0);
    let new_len = page_up(new_size.0).unwrap_or(0);
    if new_len == 0 || (keep && old_len != new_len) {
        return Err(Errno::EINVAL.into());
    }
    let id = cx.space();
    cx.k.mm.space(id).find(from).ok_or(Errno::EFAULT)?;
    if !fixed && !keep {
        if new_len <= old_len {
            map::unmap(cx.k, cx.p, id, from + new_len, from.saturating_add(old_len))?;
            return Ok(from);
        }
        let (start, vma) = resizable(cx, from, old_len, new_len)?;
        if from + old_len == vma.end && free_behind(cx, from, old_len, new_len) {
            map::grow(cx.k, cx.p, id, start, from + new_len);
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
        if to < MMAP_MIN_ADDR {
            return Err(Errno::EPERM.into());
        }
    }
    // The move splits up to three areas and adds one.
    if cx.k.mm.space(id).vmas.len() + 3 >= MAP_COUNT_MAX {
        return Err(Errno::ENOMEM.into());
    }
    if fixed {
        map::unmap(cx.k, cx.p, id, new_address.0, new_address.0 + new_len)?;
    }
    if old_len > new_len {
        map::unmap(cx.k, cx.p, id, from + new_len, from.saturating_add(old_len))?;
        old_len = new_len;
    }
    resizable(cx, from, old_len, new_len)?;
    if keep && cx.k.mm.space(id).total() + new_len > cx.rlimit(g::RLIMIT_AS) {
        return Err(Errno::ENOMEM.into());
    }
    let to = match fixed {
        true => new_address.0,
        false => place(cx, new_address.0, new_len, 0)?,
    };
    map::relocate(cx.k, cx.p, id, from, old_len, to, new_len);
    if !keep && old_len > 0 {
        map::unmap(cx.k, cx.p, id, from, from + old_len)?;
    }
    Ok(to)
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
    if new_len > TASK_SIZE
        || space.total() + more > cx.rlimit(g::RLIMIT_AS)
        || (!vma.shared && overcommits(cx, more, vma.prot))
    {
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

pub(super) fn msync(cx: &mut Cx<'_, '_>, addr: Addr, length: Size, flags: Hex) -> SysResult {
    let flags = flags.0 as u32;
    let both = g::MS_ASYNC | g::MS_SYNC;
    if flags & !(both | g::MS_INVALIDATE) != 0
        || flags & both == both
        || !addr.0.is_multiple_of(PAGE_SIZE)
    {
        return Err(Errno::EINVAL.into());
    }
    let (start, end) = range(addr.0, length.0)?;
    // Shared mappings are the file's own pages: there is nothing to write back.
    let id = cx.space();
    match cx.k.mm.space(id).covers(start, end) {
        true => Ok(0),
        false => Err(Errno::ENOMEM.into()),
    }
}

pub(super) fn mincore(cx: &mut Cx<'_, '_>, addr: Addr, length: Size, vec: Addr) -> SysResult {
    let (start, end) = range(addr.0, length.0)?;
    let id = cx.space();
    if !cx.k.mm.space(id).covers(start, end) {
        return Err(Errno::ENOMEM.into());
    }
    let (first, last) = (start / PAGE_SIZE, end / PAGE_SIZE);
    let mut chunk = [0; 256];
    let mut page = first;
    while page < last {
        let part = (last - page).min(256);
        for (index, byte) in chunk[..part as usize].iter_mut().enumerate() {
            *byte = u8::from(!cx.k.mm.space(id).pages.get(page + index as u64).is_none());
        }
        cx.write_user(vec.0 + (page - first), &chunk[..part as usize])?;
        page += part;
    }
    Ok(0)
}

pub(super) fn madvise(cx: &mut Cx<'_, '_>, addr: Addr, length: Size, advice: Int) -> SysResult {
    let (start, end) = present_range(addr.0, length.0)?;
    let advice = u32::try_from(advice.0).map_err(|_| Errno::EINVAL)?;
    let id = cx.space();
    let change = |cx: &mut Cx<'_, '_>, set: fn(&mut Vma)| {
        let areas: alloc::vec::Vec<u64> =
            cx.k.mm
                .space(id)
                .overlapping(start, end)
                .map(|(at, _)| at)
                .collect();
        // The whole area takes the advice: it concerns copies only.
        for at in areas {
            if let Some(vma) = cx.k.mm.space_mut(id).vmas.get_mut(&at) {
                set(vma);
            }
        }
    };
    match advice {
        g::MADV_DONTNEED | g::MADV_DONTNEED_LOCKED => {
            let areas: alloc::vec::Vec<_> = cx.k.mm.space(id).overlapping(start, end).collect();
            for (at, vma) in areas {
                map::discard(cx.k, id, at.max(start), vma.end.min(end));
            }
        }
        // Lazy freeing may as well never happen.
        g::MADV_FREE
        | g::MADV_NORMAL
        | g::MADV_RANDOM
        | g::MADV_SEQUENTIAL
        | g::MADV_WILLNEED
        | g::MADV_MERGEABLE
        | g::MADV_UNMERGEABLE
        | g::MADV_HUGEPAGE
        | g::MADV_NOHUGEPAGE
        | g::MADV_DONTDUMP
        | g::MADV_DODUMP
        | g::MADV_COLD
        | g::MADV_PAGEOUT => {}
        g::MADV_DONTFORK => change(cx, |vma| vma.no_fork = true),
        g::MADV_DOFORK => change(cx, |vma| vma.no_fork = false),
        g::MADV_WIPEONFORK => change(cx, |vma| vma.wipe_on_fork = vma.file().is_none()),
        g::MADV_KEEPONFORK => change(cx, |vma| vma.wipe_on_fork = false),
        g::MADV_POPULATE_READ => populate(cx, start, end, Prot::READ),
        g::MADV_POPULATE_WRITE => populate(cx, start, end, Prot::READ | Prot::WRITE),
        _ => return Err(Errno::EINVAL.into()),
    }
    match cx.k.mm.space(id).covers(start, end) {
        true => Ok(0),
        false => Err(Errno::ENOMEM.into()),
    }
}

/// Whether so many more bytes may be locked. Memory of a sandbox is never swapped, so locking is accounting only.
fn may_lock(cx: &Cx<'_, '_>, more: u64) -> Result<(), Errno> {
    let limit = cx.rlimit(g::RLIMIT_MEMLOCK);
    let locked = cx.k.mm.space(cx.space()).locked;
    match cx.creds().capable(CAP_IPC_LOCK) || locked.saturating_add(more) <= limit {
        true => Ok(()),
        false if limit == 0 => Err(Errno::EPERM),
        false => Err(Errno::ENOMEM),
    }
}

pub(super) fn mlock(cx: &mut Cx<'_, '_>, addr: Addr, len: Size) -> SysResult {
    let start = addr.0 & !(PAGE_SIZE - 1);
    let (start, end) = present_range(start, len.0.saturating_add(addr.0 - start))?;
    may_lock(cx, end - start)?;
    let id = cx.space();
    if !cx.k.mm.space(id).covers(start, end) {
        return Err(Errno::ENOMEM.into());
    }
    cx.k.mm.space_mut(id).locked += end - start;
    Ok(0)
}

pub(super) fn munlock(cx: &mut Cx<'_, '_>, addr: Addr, len: Size) -> SysResult {
    let start = addr.0 & !(PAGE_SIZE - 1);
    let (start, end) = range(start, len.0.saturating_add(addr.0 - start))?;
    let id = cx.space();
    let space = cx.k.mm.space_mut(id);
    if !space.covers(start, end) {
        return Err(Errno::ENOMEM.into());
    }
    space.locked = space.locked.saturating_sub(end - start);
    Ok(0)
}

pub(super) fn mlockall(cx: &mut Cx<'_, '_>, flags: Hex) -> SysResult {
    let flags = flags.0 as u32;
    let known = g::MCL_CURRENT | g::MCL_FUTURE | g::MCL_ONFAULT;
    if flags == 0 || flags & !known != 0 || flags == g::MCL_ONFAULT {
        return Err(Errno::EINVAL.into());
    }
    let id = cx.space();
    let total = cx.k.mm.space(id).total();
    may_lock(cx, total)?;
    let space = cx.k.mm.space_mut(id);
    space.lock_future = flags & g::MCL_FUTURE != 0;
    if flags & g::MCL_CURRENT != 0 {
        space.locked = total;
    }
    Ok(0)
}

pub(super) fn munlockall(cx: &mut Cx<'_, '_>) -> SysResult {
    let id = cx.space();
    let space = cx.k.mm.space_mut(id);
    (space.locked, space.lock_future) = (0, false);
    Ok(0)
}
