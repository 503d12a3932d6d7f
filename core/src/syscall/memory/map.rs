//! New mappings: mmap(2) and the heap.

use super::lock::{fits_limit, may_lock};
use super::pieces::{self, OnError, Part, populate};
use super::{may_expand, unmap};
use crate::abi::raw::general as g;
use crate::abi::{Errno, MMAP_MIN_ADDR, PAGE_SIZE, TASK_SIZE};
use crate::args::*;
use crate::env::wait::{Stop, SysResult};
use crate::file;
use crate::file::ops;
use crate::file::shared::shared_memory;
use crate::file::{FileId, FileKind, fdtable};
use crate::fs::flags;
use crate::kernel::Cx;
use crate::machine::Prot;
use crate::mm::map::{self as mapping, overcommits, page_up};
use crate::mm::space::{areas_most, may_use};
use crate::mm::vma::{Behind, Name, VmFlags, Vma};
use crate::task::personality::implied_rights;
use crate::vfs::mount::MountFlags;
use crate::vfs::node;

/// The sizes of huge pages that can be asked for: base-2 logarithms above this bit.
const HUGE_SHIFT: u32 = 26;
/// Flags that are known to `MAP_SHARED_VALIDATE` (`LEGACY_MAP_MASK`); MAP_FIXED_NOREPLACE is none of them.
const VALIDATED: MapFlags =
    MapFlags::all()
        .difference(MapFlags::FIXED_NOREPLACE)
        .union(MapFlags::from_bits_retain(
            21 << HUGE_SHIFT | 30 << HUGE_SHIFT,
        ));
/// Where `MAP_32BIT` puts mappings.
const LOW: (u64, u64) = (0x4000_0000, 0x8000_0000);

pub(in super::super) fn mmap(
    cx: &mut Cx<'_, '_>,
    addr: Addr,
    length: Size,
    prot: ProtFlags,
    flags: MapFlags,
    fd: Fd,
    offset: Hex,
) -> SysResult {
    let prot = prot.rights();
    if !offset.0.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL.into());
    }
    let file = match flags.contains(MapFlags::ANONYMOUS) {
        false => Some(fdtable::get(cx, fd.0)?),
        true => None,
    };
    if flags.contains(MapFlags::HUGETLB) {
        return Err(no_huge_pages(flags, file.is_some()).into());
    }
    let from = file.map(|file| file::at(cx.k, file).path.mount);
    let mount = from.map(|mount| cx.k.vfs.mounts.at(mount));
    let executable = mount.is_none_or(|mount| !mount.flags.contains(MountFlags::NOEXEC));
    let wanted = Wanted {
        addr: addr.0,
        len: length.0,
        prot: match executable {
            true => implied_rights(cx, prot),
            false => prot,
        },
        flags,
        file,
        offset: offset.0,
    };
    wanted.map(cx)
}

/// Huge pages have to be reserved by the administrator, and none are.
fn no_huge_pages(flags: MapFlags, file: bool) -> Errno {
    match flags.bits() >> HUGE_SHIFT & u64::from(g::MAP_HUGE_MASK) {
        0 | 21 | 30 if !file => Errno::ENOMEM,
        _ => Errno::EINVAL,
    }
}

/// A mapping that is asked for.
pub(super) struct Wanted {
    pub addr: u64,
    pub len: u64,
    pub prot: Prot,
    pub flags: MapFlags,
    /// Where it has one; no reference is taken over.
    pub file: Option<FileId>,
    pub offset: u64,
}

impl Wanted {
    /// Makes the mapping; gives where it is.
    pub(super) fn map(self, cx: &mut Cx<'_, '_>) -> SysResult {
        let flags = self.flags;
        if self.len == 0 {
            return Err(Errno::EINVAL.into());
        }
        let len = page_up(self.len).ok_or(Errno::ENOMEM)?;
        let id = cx.space();
        if pieces::place(cx, Part(1), 0).is_none() {
            // It has been made, and its pages are being faulted in.
            return fill(cx, self.addr, len);
        }
        if cx.k.mm.space(id).vmas.len() > areas_most(cx.k) {
            return Err(Errno::ENOMEM.into());
        }
        let start = place(cx, self.addr, len, flags)?;
        let mut vma = self.area(cx, start + len)?;
        let anonymous = matches!(vma.behind, Behind::Anonymous(_));
        let replaced = replaced(cx, start, start + len, flags);
        if !may_expand(cx, len, replaced, &vma) {
            return Err(Errno::ENOMEM.into());
        }
        let counted = vma.flags.contains(VmFlags::ACCOUNT) || (anonymous && vma.shared);
        if counted && !vma.flags.contains(VmFlags::NO_RESERVE) && overcommits(cx.k, len) {
            return Err(Errno::ENOMEM.into());
        }
        // What it replaces goes in pieces if it is much.
        unmap(cx, Part(1), start, start + len)?;
        match vma.behind {
            Behind::File { file, .. } => {
                file::get(cx.k, file);
            }
            Behind::Anonymous(_) if vma.shared => {
                let file = shared_memory(cx.k, cx.p, len)?;
                vma.behind = Behind::File { file, offset: 0 };
            }
            Behind::Anonymous(_) => {}
        }
        mapping::insert(cx.k, cx.p, id, start, vma);
        let populates = flags & (MapFlags::POPULATE | MapFlags::NONBLOCK) == MapFlags::POPULATE;
        match populates || vma.flags.contains(VmFlags::LOCKED) {
            true => fill(cx, start, len),
            false => Ok(start),
        }
    }

    /// The area up to `end`. Shared memory without a file has none yet.
    fn area(&self, cx: &mut Cx<'_, '_>, end: u64) -> Result<Vma, Errno> {
        let (flags, prot) = (self.flags, self.prot);
        let mut vma = Vma::private(end, prot, Behind::Anonymous(Name::None));
        if flags.contains(MapFlags::NORESERVE) {
            vma.flags = VmFlags::NO_RESERVE;
        }
        if flags.contains(MapFlags::LOCKED) {
            if !may_lock(cx) {
                return Err(Errno::EPERM);
            }
            vma.flags |= VmFlags::LOCKED;
        }
        vma.flags |= cx.k.mm.space(cx.space()).lock_future;
        if flags.contains(MapFlags::STACK) {
            // Stacks are small and many: huge pages would waste memory, says Linux.
            vma.flags |= VmFlags::NO_HUGE;
        }
        let len = page_up(self.len).ok_or(Errno::ENOMEM)?;
        if vma.flags.contains(VmFlags::LOCKED) && !fits_limit(cx, len) {
            return Err(Errno::EAGAIN);
        }
        let grows = flags.contains(MapFlags::GROWSDOWN);
        let kind = flags & MapFlags::TYPE;
        vma.shared = match (kind, self.file) {
            (MapFlags::PRIVATE, _) => false,
            (MapFlags::SHARED, _) => true,
            (MapFlags::SHARED_VALIDATE, Some(_)) => true,
            _ => return Err(Errno::EINVAL),
        };
        if vma.shared {
            vma.flags -= VmFlags::ACCOUNT;
        }
        match self.file {
            None if vma.shared && grows => return Err(Errno::EINVAL),
            None if grows => vma.flags |= VmFlags::GROWS_DOWN,
            None => {}
            Some(file) => {
                let past = |end: u64| end > i64::MAX as u64;
                if self.offset.checked_add(len).is_none_or(past) {
                    return Err(Errno::EOVERFLOW);
                }
                if kind == MapFlags::SHARED_VALIDATE && !VALIDATED.contains(flags) {
                    return Err(Errno::EOPNOTSUPP);
                }
                if let Some(file) = mappable(cx, file, prot, vma.shared, &mut vma.max)? {
                    if grows {
                        return Err(Errno::EINVAL);
                    }
                    let offset = self.offset;
                    vma.behind = Behind::File { file, offset };
                }
            }
        }
        Ok(vma)
    }
}

/// Bytes of mappings that a fixed one takes the place of.
fn replaced(cx: &Cx<'_, '_>, start: u64, end: u64, flags: MapFlags) -> u64 {
    if !flags.contains(MapFlags::FIXED) {
        return 0;
    }
    let areas = cx.k.mm.space(cx.space()).overlapping(start, end);
    areas
        .map(|(at, vma)| vma.end.min(end) - at.max(start))
        .sum()
}

/// Checks that a file can be mapped so; `None` for `/dev/zero`, which is anonymous memory. Takes no
/// reference.
fn mappable(
    cx: &mut Cx<'_, '_>,
    id: FileId,
    prot: Prot,
    shared: bool,
    max: &mut Prot,
) -> Result<Option<FileId>, Errno> {
    let open = cx.k.files.file(id).ok_or(Errno::EBADF)?;
    let is_regular = open.kind == FileKind::Regular;
    if !open.readable() {
        return Err(Errno::EACCES);
    }
    if shared && !open.writable() {
        if prot.contains(Prot::WRITE) {
            return Err(Errno::EACCES);
        }
        *max -= Prot::WRITE;
    }
    let (mount, writes) = (open.path.mount, open.writable());
    if shared && let Some(inode) = open.inode {
        if writes && is_regular {
            let attr = node::attr(cx.k, cx.p, inode)?;
            flags::check_append(&attr).map_err(|_| Errno::EACCES)?;
        }
        *max = cx.k.fs.seals.check_map(inode, prot, *max)?;
    }
    if cx.k.vfs.mounts.at(mount).flags.contains(MountFlags::NOEXEC) {
        if prot.contains(Prot::EXEC) {
            return Err(Errno::EPERM);
        }
        *max -= Prot::EXEC;
    }
    ops::map(cx.k, id)
}

/// Where a mapping goes.
pub(in crate::syscall) fn place(
    cx: &mut Cx<'_, '_>,
    addr: u64,
    len: u64,
    flags: MapFlags,
) -> Result<u64, Errno> {
    let id = cx.space();
    if len > TASK_SIZE {
        return Err(Errno::ENOMEM);
    }
    let fits = |start: u64| start.checked_add(len).is_some_and(|end| end <= TASK_SIZE);
    let space = cx.k.mm.space(id);
    if flags.intersects(MapFlags::FIXED | MapFlags::FIXED_NOREPLACE) {
        if !fits(addr) {
            return Err(Errno::ENOMEM);
        }
        if !addr.is_multiple_of(PAGE_SIZE) {
            return Err(Errno::EINVAL);
        }
        if !may_use(cx.k, cx.creds(), addr) {
            return Err(Errno::EPERM);
        }
        if flags.contains(MapFlags::FIXED_NOREPLACE)
            && space.overlapping(addr, addr + len).next().is_some()
        {
            return Err(Errno::EEXIST);
        }
        return Ok(addr);
    }
    let low = flags.contains(MapFlags::BELOW_2G);
    if addr != 0 {
        let wish = (addr & !(PAGE_SIZE - 1)).max(MMAP_MIN_ADDR);
        let fits = fits(wish) && (!low || wish + len <= LOW.1);
        if fits && space.overlapping(wish, wish + len).next().is_none() {
            return Ok(wish);
        }
    }
    match low {
        true => space.lowest_gap(LOW, len).ok_or(Errno::ENOMEM),
        false => space.gap(len),
    }
}

/// Faults a new mapping in; gives where it is. What cannot be faulted in is left to the program's own access.
fn fill(cx: &mut Cx<'_, '_>, start: u64, len: u64) -> SysResult {
    // When the call goes on it finds the place where it was asked for.
    cx.call().args[0] = start;
    match populate(cx, Part(2), (start, start + len), OnError::Stop) {
        Err(stop @ Stop::Block(_)) => Err(stop),
        _ => Ok(start),
    }
}

pub(in super::super) fn brk(cx: &mut Cx<'_, '_>, addr: Addr) -> SysResult {
    let id = cx.space();
    let layout = &cx.k.mm.space(id).layout;
    let (low, old) = (layout.brk_start, layout.brk);
    let data = layout.data_end.saturating_sub(layout.data_start);
    let wanted = addr.0;
    let limit = cx.rlimit(g::RLIMIT_DATA);
    if wanted < low || (wanted - low).saturating_add(data) > limit {
        return Ok(old);
    }
    let (Some(old_end), Some(new_end)) = (page_up(old), page_up(wanted)) else {
        return Ok(old);
    };
    if new_end > TASK_SIZE {
        return Ok(old);
    }
    if new_end < old_end {
        match unmap(cx, Part(1), new_end, old_end) {
            Err(stop @ Stop::Block(_)) => return Err(stop),
            Err(_) => return Ok(old),
            Ok(()) => {}
        }
    } else if new_end > old_end {
        let rw = Prot::READ | Prot::WRITE;
        let mut vma = Vma::private(new_end, rw, Behind::Anonymous(Name::Heap));
        let space = cx.k.mm.space(id);
        vma.flags |= space.lock_future;
        let more = new_end - old_end;
        let locked = vma.flags.contains(VmFlags::LOCKED);
        let mut behind = space.overlapping(old_end, new_end + PAGE_SIZE);
        let free = behind.next().is_none();
        drop(behind);
        let room = free
            && space.vmas.len() <= areas_most(cx.k)
            && may_expand(cx, more, 0, &vma)
            && (!locked || fits_limit(cx, more))
            && !overcommits(cx.k, more);
        if !room {
            return Ok(old);
        }
        mapping::insert(cx.k, cx.p, id, old_end, vma);
        if locked {
            // As in mmap(2), but not in pieces: what is left comes with the program's own access.
            let _ = populate(cx, Part(2), (old_end, new_end), OnError::Stop);
            cx.call().progress = 0;
        }
    }
    cx.k.mm.space_mut(id).layout.brk = wanted;
    Ok(wanted)
}
