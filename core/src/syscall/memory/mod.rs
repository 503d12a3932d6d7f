//! Memory of a process: its mappings and what may be said of them, one file for each subject.

mod advise;
mod barrier;
mod lock;
mod map;
mod pieces;
mod policy;
mod remap;
mod remote;
mod unsupported;

pub(super) use advise::{madvise, process_madvise};
pub(super) use barrier::membarrier;
pub(super) use lock::{mlock, mlock2, mlockall, munlock, munlockall};
pub(super) use map::{brk, mmap, place};
use pieces::{Part, Unit};
pub(super) use policy::{
    get_mempolicy, mbind, migrate_pages, move_pages, set_mempolicy, set_mempolicy_home_node,
};
pub(super) use remap::{mremap, remap_file_pages};
pub(super) use remote::{process_vm_readv, process_vm_writev};
pub(super) use unsupported::{
    map_shadow_stack, memfd_secret, pkey_alloc, pkey_free, pkey_mprotect, userfaultfd,
};

use crate::abi::raw::general as g;
use crate::abi::{Errno, LINUX_TASK_SIZE, PAGE_SIZE, TASK_SIZE};
use crate::args::*;
use crate::env::wait::{Stop, SysResult};
use crate::file;
use crate::file::{FileKind, fdtable};
use crate::fs::inode;
use crate::kernel::Cx;
use crate::machine::{Prot, SpaceId};
use crate::mm::fault;
use crate::mm::map::{self as mapping, Holes, page_up};
use crate::mm::vma::{VmFlags, Vma};
use crate::syscall::missing::known;
use crate::task::personality::implied_rights;
use crate::vfs::node;
use crate::vfs::perm::{MAY_WRITE, permission};

/// Whether the current space may get so many more bytes (`RLIMIT_AS`, `RLIMIT_DATA`). `replaced` is what goes
/// for it.
fn may_expand(cx: &Cx<'_, '_>, len: u64, replaced: u64, vma: &Vma) -> bool {
    let sizes = cx.k.mm.space(cx.space()).vmas.sizes();
    let more = len.saturating_sub(replaced);
    sizes.total.saturating_add(more) <= cx.rlimit(g::RLIMIT_AS)
        && (!vma.is_data() || sizes.data.saturating_add(more) <= cx.rlimit(g::RLIMIT_DATA))
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

/// As [`range`] for calls on pages that should be there: a length that wraps around is `EINVAL`, one that
/// leaves user memory meets no pages and ends there.
fn present_range(addr: u64, len: u64) -> Result<(u64, u64), Errno> {
    if !addr.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    // Linux rounds a length just below 2^64 up to 0, and refuses it.
    let rounded = page_up(len).ok_or(Errno::EINVAL)?;
    let end = addr.checked_add(rounded).ok_or(Errno::EINVAL)?;
    Ok((addr, end))
}

/// Faults the pages of part of an area in.
fn touch(
    cx: &mut Cx<'_, '_>,
    id: SpaceId,
    (start, end): (u64, u64),
    write: bool,
) -> Result<(), Errno> {
    let mut at = start;
    while at < end {
        let pte = cx.k.mm.space(id).pages.get(at / PAGE_SIZE);
        let there = pte.on_host() && (!write || pte.writable());
        if there {
            cx.spend(u64::from((at / PAGE_SIZE).is_multiple_of(4)));
        } else {
            cx.spend(8);
            fault::kernel_access(cx.k, cx.p, id, at, write)?;
        }
        at += PAGE_SIZE;
    }
    Ok(())
}

fn protect(cx: &mut Cx<'_, '_>, addr: u64, len: u64, prot: ProtFlags) -> SysResult {
    let either = ProtFlags::GROWSDOWN | ProtFlags::GROWSUP;
    if prot.contains(either) || !addr.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL.into());
    }
    if len == 0 {
        return Ok(0);
    }
    let (mut start, end) = range(addr, len)?;
    // PROT_SEM means nothing; other unknown bits are refused, while mmap(2) ignores them.
    let wanted = known(cx, prot)?.rights();
    let id = cx.space();
    if prot.intersects(either) {
        let mut areas = cx.k.mm.space(id).overlapping(start, end);
        let (first, vma) = areas.next().ok_or(Errno::ENOMEM)?;
        // Nothing grows upwards on x86.
        if prot.contains(ProtFlags::GROWSUP) || !vma.flags.contains(VmFlags::GROWS_DOWN) {
            return Err(Errno::EINVAL.into());
        }
        start = first;
    }
    let implied = implied_rights(cx, wanted);
    let space = cx.k.mm.space(id);
    let executable = |(_, vma): (u64, Vma)| vma.max.contains(Prot::EXEC);
    let wanted = match implied == wanted || space.overlapping(start, end).all(executable) {
        true => implied,
        false => wanted,
    };
    protect_range(cx, id, (start, end), wanted)?;
    Ok(0)
}

/// Changes the protection of a range, area by area, and the pages of each in pieces. `ENOMEM` if part of it
/// is not mapped or there is not as much memory (what lies before has changed), `EACCES` if a mapping never
/// gets that, `EPERM` if it is sealed.
fn protect_range(
    cx: &mut Cx<'_, '_>,
    id: SpaceId,
    (start, end): (u64, u64),
    prot: Prot,
) -> Result<(), Stop> {
    /// Between two areas, and among the pages of one that has got its protection.
    const AREA: Part = Part(1);
    const PAGES: Part = Part(2);
    let limit = cx.rlimit(g::RLIMIT_DATA);
    let (mut at, mut inside) = match pieces::place(cx, AREA, start) {
        Some((at, _)) => (at, false),
        None => (
            pieces::place(cx, PAGES, start).map_or(end, |(at, _)| at),
            true,
        ),
    };
    while at < end {
        if cx.is_spent() && at > start {
            let part = if inside { PAGES } else { AREA };
            return Err(pieces::leave(cx, Some(id), part, at, pieces::Mapped::Whole));
        }
        let found = cx.k.mm.space(id).overlapping(at, end).next();
        let Some((first, vma)) = found.filter(|&(first, _)| first <= at) else {
            return Err(Errno::ENOMEM.into());
        };
        let stop = vma.end.min(end);
        cx.spend(8);
        if !inside {
            inside = mapping::protect_area(cx.k, id, vma, (at, stop), prot, limit)?;
        }
        let next = match inside {
            true => mapping::protect_pages(cx.k, id, at, stop, prot),
            false => stop,
        };
        at = next;
        if at == stop {
            inside = false;
            mapping::join(cx.k, cx.p, id, first, stop);
        }
    }
    Ok(())
}

pub(super) fn mprotect(cx: &mut Cx<'_, '_>, addr: Addr, len: Size, prot: ProtFlags) -> SysResult {
    protect(cx, addr.0, len.0, prot)
}

pub(super) fn munmap(cx: &mut Cx<'_, '_>, addr: Addr, length: Size) -> SysResult {
    // Up to where programs may map under Linux; nothing of theirs lies in the last part.
    let len = page_up(length.0).filter(|&len| len > 0 && len <= LINUX_TASK_SIZE);
    let end = len.and_then(|len| addr.0.checked_add(len));
    let end = end.filter(|&end| addr.0.is_multiple_of(PAGE_SIZE) && end <= LINUX_TASK_SIZE);
    let end = end.ok_or(Errno::EINVAL)?.min(TASK_SIZE);
    let start = addr.0.min(end);
    unmap(cx, Part(1), start, end)?;
    Ok(0)
}

/// Unmaps a range of the caller's space, in pieces; what is not mapped is passed over. `EPERM` if part of it
/// is sealed, `ENOMEM` if there would be too many areas: then nothing is changed.
fn unmap(cx: &mut Cx<'_, '_>, part: Part, start: u64, end: u64) -> Result<(), Stop> {
    let id = cx.space();
    let Some((at, _)) = pieces::place(cx, part, start) else {
        return Ok(());
    };
    if at == start {
        if cx.k.mm.space(id).overlapping(start, end).next().is_none() {
            return Ok(());
        }
        mapping::may_unmap(cx.k, id, start, end)?;
    }
    pieces::each(cx, id, part, (start, end), Unit::Pages, |cx, (from, to)| {
        mapping::remove(cx.k, cx.p, id, from, to);
        Ok(())
    })?;
    Ok(())
}

pub(super) fn mseal(cx: &mut Cx<'_, '_>, addr: Addr, len: Size, flags: NoLongFlags) -> SysResult {
    known(cx, flags)?;
    let (start, end) = present_range(addr.0, len.0)?;
    let id = cx.space();
    // All or nothing: a range with a hole is not sealed in part.
    let look = |_: &mut Cx<'_, '_>, _| Ok(());
    if pieces::each(cx, id, Part(1), (start, end), Unit::Areas, look)? {
        return Err(Errno::ENOMEM.into());
    }
    pieces::each(cx, id, Part(2), (start, end), Unit::Areas, |cx, range| {
        mapping::change(cx.k, cx.p, id, range, Holes::Stop, |vma| {
            vma.flags |= VmFlags::SEALED;
            Ok(())
        })
    })?;
    Ok(0)
}

pub(super) fn msync(cx: &mut Cx<'_, '_>, addr: Addr, length: Size, flags: MsyncFlags) -> SysResult {
    let flags = known(cx, flags)?;
    if flags.contains(MsyncFlags::ASYNC | MsyncFlags::SYNC) || !addr.0.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL.into());
    }
    // Linux lets the length wrap around to 0.
    let len = page_up(length.0).unwrap_or(0);
    let end = addr.0.checked_add(len).ok_or(Errno::ENOMEM)?;
    // Shared mappings are the file's own pages: there is nothing to write back but the news that there was
    // something.
    let space = cx.k.mm.space(cx.space());
    let locked = |(_, vma): (u64, Vma)| vma.flags.contains(VmFlags::LOCKED);
    if flags.contains(MsyncFlags::INVALIDATE)
        && space.vmas.sizes().locked > 0
        && space.overlapping(addr.0, end).any(locked)
    {
        return Err(Errno::EBUSY.into());
    }
    let id = cx.space();
    let range = (addr.0, end.min(TASK_SIZE).max(addr.0));
    let hole = pieces::each(cx, id, Part(1), range, Unit::Pages, |cx, (from, to)| {
        if flags.contains(MsyncFlags::SYNC) {
            mapping::written_back(cx.k, id, from, to);
        }
        Ok(())
    })?;
    match hole || end > range.1 {
        false => Ok(0),
        true => Err(Errno::ENOMEM.into()),
    }
}

/// Pages that mincore(2) looks at in one go.
const AT_ONCE: u64 = 1 << 17;

pub(super) fn mincore(cx: &mut Cx<'_, '_>, addr: Addr, length: Size, vec: Addr) -> SysResult {
    let (start, end) = range(addr.0, length.0)?;
    let id = cx.space();
    let (first, last) = (start / PAGE_SIZE, end / PAGE_SIZE);
    let mut chunk = [0; 256];
    let mut page = first + cx.call().progress;
    let stop_at = page + AT_ONCE;
    while page < last {
        if page >= stop_at {
            return cx.pause(page - first);
        }
        let part = (last - page).min(256);
        let stop = (page + part) * PAGE_SIZE;
        if !cx.k.mm.space(id).covers(page * PAGE_SIZE, stop) {
            return Err(Errno::ENOMEM.into());
        }
        for (index, byte) in chunk[..part as usize].iter_mut().enumerate() {
            *byte = u8::from(is_resident(cx, id, page + index as u64));
        }
        cx.write_user(vec.0 + (page - first), &chunk[..part as usize])?;
        page += part;
    }
    Ok(0)
}

/// Whether a page would be there without a wait: its own, or one of its file that has bytes somewhere.
fn is_resident(cx: &mut Cx<'_, '_>, id: SpaceId, page: u64) -> bool {
    use crate::fs::filesystem::Source;
    use crate::mm::vma::Behind;
    let space = cx.k.mm.space(id);
    if !space.pages.get(page).is_none() {
        return true;
    }
    let Some((start, vma)) = space.find(page * PAGE_SIZE) else {
        return false;
    };
    let Behind::File { file, offset } = vma.behind else {
        return false;
    };
    let Some(inode) = cx.k.files.file(file).and_then(|file| file.inode) else {
        return false;
    };
    let at = offset + (page * PAGE_SIZE - start);
    let extent = inode::extent(cx.k, cx.p, inode, at);
    matches!(extent, Ok(Some(extent)) if extent.source != Source::Zero)
}

/// `struct cachestat`: pages in the cache, dirty ones, under write-back, thrown out, thrown out lately.
pub(super) fn cachestat(
    cx: &mut Cx<'_, '_>,
    fd: Fd,
    range: Addr,
    stat: Addr,
    flags: NoFlags,
) -> SysResult {
    use crate::fs::filesystem::Source;
    let id = fdtable::get(cx, fd.0)?;
    let [offset, len]: [u64; 2] = cx.read_obj(range.0)?;
    let open = file::at(cx.k, id);
    let is_regular = open.kind == FileKind::Regular;
    let (inode, writable) = (open.inode.filter(|_| is_regular), open.writable());
    if let Some(inode) = inode
        && !writable
    {
        let attr = node::attr(cx.k, cx.p, inode)?;
        let creds = cx.creds();
        let owner = creds.fsuid == attr.uid || creds.capable(g::CAP_FOWNER);
        let who = &cx.who();
        let may_write = || permission(cx.k, who, &attr, MAY_WRITE).is_ok();
        if !owner && !may_write() {
            return Err(Errno::EPERM.into());
        }
    }
    known(cx, flags)?;
    let end = match len {
        0 => u64::MAX,
        len => offset.saturating_add(len),
    };
    let mut cached = 0;
    let mut at = offset & !(PAGE_SIZE - 1);
    // Each step passes an extent that is there, so the file's own pages bound it.
    while at < end
        && let Some(inode) = inode
        && let Some(extent) = inode::extent(cx.k, cx.p, inode, at)?
    {
        let stop = at.saturating_add(extent.len.max(1)).min(end);
        let next = stop.checked_next_multiple_of(PAGE_SIZE).unwrap_or(u64::MAX);
        if extent.source != Source::Zero {
            cached += (next - at) / PAGE_SIZE;
        }
        at = next;
    }
    // Nothing is ever written back, so that nothing is dirty, and nothing is thrown out.
    cx.write_obj(stat.0, &[cached, 0, 0, 0, 0])?;
    Ok(0)
}
