//! System V shared memory (shmget(2), shmop(2), shmctl(2)).

use alloc::vec::Vec;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::memory::place;
use crate::abi::raw::general as g;
use crate::abi::{Errno, PAGE_SIZE};
use crate::args::*;
use crate::env::wait::SysResult;
use crate::file;
use crate::file::FileId;
use crate::ipc::shm::{self, LOCKED, Segment};
use crate::ipc::{self, PermRecord, READ, WRITE, limits};
use crate::kernel::Cx;
use crate::machine::Prot;
use crate::mm::map::{self, page_up};
use crate::mm::space::areas_most;
use crate::mm::vma::{Behind, Vma};

/// `struct shmid64_ds`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Record {
    perm: PermRecord,
    size: u64,
    attached: i64,
    detached: i64,
    changed: i64,
    creator: u32,
    last: u32,
    attaches: u64,
    unused: [u64; 2],
}

pub(super) fn shmget(cx: &mut Cx<'_, '_>, key: Int, size: Size, shmflg: IpcGetFlags) -> SysResult {
    let table = &ipc::objects(cx).segments;
    let found = table.find(cx, key.0, shmflg, |segment| match size.0 > segment.size {
        true => Err(Errno::EINVAL),
        false => Ok(()),
    })?;
    if let Some(id) = found {
        return Ok(id as u64);
    }
    if shmflg.contains(IpcGetFlags::HUGETLB) {
        // No huge pages are reserved.
        return Err(Errno::ENOMEM.into());
    }
    Ok(shm::create(cx, key.0, size.0, shmflg)? as u64)
}

pub(super) fn shmat(
    cx: &mut Cx<'_, '_>,
    shmid: Int,
    shmaddr: Addr,
    flags: ShmAtFlags,
) -> SysResult {
    if shmid.0 < 0 {
        return Err(Errno::EINVAL.into());
    }
    let mut addr = shmaddr.0;
    let mut fixed = MapFlags::empty();
    if addr != 0 {
        if !addr.is_multiple_of(PAGE_SIZE) {
            if !flags.contains(ShmAtFlags::RND) {
                return Err(Errno::EINVAL.into());
            }
            addr -= addr % PAGE_SIZE;
            if addr == 0 && flags.contains(ShmAtFlags::REMAP) {
                return Err(Errno::EINVAL.into());
            }
        }
        fixed = MapFlags::FIXED;
    } else if flags.contains(ShmAtFlags::REMAP) {
        return Err(Errno::EINVAL.into());
    }
    let mut prot = Prot::READ;
    let mut max = Prot::all();
    let mut wanted = READ;
    match flags.contains(ShmAtFlags::RDONLY) {
        false => {
            prot |= Prot::WRITE;
            wanted |= WRITE;
        }
        true => max -= Prot::WRITE,
    }
    if flags.contains(ShmAtFlags::EXEC) {
        prot |= Prot::EXEC;
        wanted |= 0o111;
    }
    let segment = ipc::objects(cx).segments.get(shmid.0)?;
    segment.perm.check(cx, wanted)?;
    let (file, size) = (segment.file, segment.size);
    let len = page_up(size).ok_or(Errno::ENOMEM)?;
    let space = cx.space();
    if !fixed.is_empty() && !flags.contains(ShmAtFlags::REMAP) {
        let end = addr.checked_add(len).ok_or(Errno::EINVAL)?;
        if cx.k.mm.space(space).overlapping(addr, end).next().is_some() {
            return Err(Errno::EINVAL.into());
        }
    }
    let start = place(cx, addr, len, fixed)?;
    let limit = cx.rlimit(g::RLIMIT_AS);
    let areas = cx.k.mm.space(space);
    if areas.total() + len > limit || areas.vmas.len() >= areas_most(cx.k) {
        return Err(Errno::ENOMEM.into());
    }
    file::get(cx.k, file);
    if let Err(errno) = map::unmap(cx.k, cx.p, space, start, start + len) {
        file::put(cx.k, cx.p, file);
        return Err(errno.into());
    }
    let mut vma = Vma::private(start + len, prot, Behind::File { file, offset: 0 });
    (vma.max, vma.shared) = (max, true);
    vma.flags = cx.k.mm.space(space).lock_future;
    map::insert(cx.k, cx.p, space, start, vma);
    let (now, pid) = (ipc::seconds(cx.k), ipc::caller(cx));
    if let Ok(segment) = ipc::objects_mut(cx).segments.get_mut(shmid.0) {
        (segment.attached, segment.last) = (now, pid);
    }
    Ok(start)
}

pub(super) fn shmdt(cx: &mut Cx<'_, '_>, shmaddr: Addr) -> SysResult {
    let addr = shmaddr.0;
    if !addr.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL.into());
    }
    let space = cx.space();
    // The first area from there on that belongs to a segment attached at this address says which one; all of
    // its areas go.
    let areas = cx.k.mm.space(space).vmas.range(addr..);
    let found = areas.filter_map(|(&start, vma)| match vma.behind {
        Behind::File { file, offset } if offset == start - addr => {
            Some((file, shm::of_file(cx.k, file)?))
        }
        _ => None,
    });
    let (file, id) = { found }.next().ok_or(Errno::EINVAL)?;
    let size = cx.k.ipc.objects_of(id.ns).segments.get(id.id)?.size;
    let end = addr.saturating_add(page_up(size).ok_or(Errno::EINVAL)?);
    let pid = ipc::caller(cx);
    if let Ok(segment) = cx.k.ipc.objects_mut(id.ns).segments.get_mut(id.id) {
        segment.last = pid;
    }
    let mut from = addr;
    loop {
        let areas = cx.k.mm.space(space).vmas.range(from..end);
        let next = { areas }.find(|(start, vma)| {
            vma.behind
                == Behind::File {
                    file,
                    offset: **start - addr,
                }
        });
        let Some((&start, &vma)) = next else { break };
        map::unmap(cx.k, cx.p, space, start, vma.end)?;
        from = vma.end;
    }
    Ok(0)
}

fn record(cx: &Cx<'_, '_>, segment: &Segment) -> Record {
    Record {
        perm: segment.perm.record(cx),
        size: segment.size,
        attached: segment.attached,
        detached: segment.detached,
        changed: segment.changed,
        creator: cx.shown_pid(segment.creator),
        last: cx.shown_pid(segment.last),
        attaches: segment.attaches(cx.k),
        unused: [0; 2],
    }
}

pub(super) fn shmctl(cx: &mut Cx<'_, '_>, shmid: Int, cmd: ShmCtl, buf: Addr) -> SysResult {
    let id = shmid.0;
    if id < 0 {
        return Err(Errno::EINVAL.into());
    }
    match cmd {
        ShmCtl::Limits => {
            let now = &ipc::objects(cx).limits;
            let segments = now.get(limits::SEGMENTS);
            let limits = [
                now.get(limits::SEGMENT_SIZE),
                1,
                segments,
                segments,
                now.get(limits::SEGMENT_PAGES),
            ];
            let mut words = [0; 9];
            words[..limits.len()].copy_from_slice(&limits);
            cx.write_obj(buf.0, &words)?;
            Ok(u64::from(ipc::objects(cx).segments.highest()))
        }
        ShmCtl::Info => {
            let ns = ipc::namespace(cx);
            let segments = cx.k.ipc.objects_of(ns).segments.iter();
            let files: Vec<FileId> = segments.map(|segment| segment.file).collect();
            cx.spend(files.len() as u64);
            let pages = files
                .into_iter()
                .map(|file| shm::resident(cx.k, cx.p, file));
            let resident: u64 = pages.sum();
            let objects = ipc::objects(cx);
            let (count, pages) = (objects.segments.len() as u64, shm::pages(objects));
            let words = [count, pages, resident, 0, 0, 0];
            cx.write_obj(buf.0, &words)?;
            Ok(u64::from(ipc::objects(cx).segments.highest()))
        }
        ShmCtl::Stat | ShmCtl::StatAt | ShmCtl::StatAny => {
            let table = &ipc::objects(cx).segments;
            let (number, segment) = match cmd {
                ShmCtl::Stat => (0, table.get(id)?),
                _ => table.at(id)?,
            };
            if cmd != ShmCtl::StatAny {
                segment.perm.check(cx, READ)?;
            }
            let record = record(cx, segment);
            cx.write_obj(buf.0, &record)?;
            Ok(number as u64)
        }
        ShmCtl::Set => {
            let new: Record = cx.read_obj(buf.0)?;
            ipc::objects(cx).segments.get(id)?.perm.check_owner(cx)?;
            let now = ipc::seconds(cx.k);
            let perm = new.perm.meant(cx)?;
            let segment = ipc::objects_mut(cx).segments.get_mut(id)?;
            segment.perm.set(&perm);
            segment.changed = now;
            Ok(0)
        }
        ShmCtl::Rmid => {
            ipc::objects(cx).segments.get(id)?.perm.check_owner(cx)?;
            let object = ipc::object(cx, id);
            shm::remove(cx.k, cx.p, object)?;
            Ok(0)
        }
        ShmCtl::Lock | ShmCtl::Unlock => {
            let segment = ipc::objects(cx).segments.get(id)?;
            let creds = cx.creds();
            let owner = [segment.perm.uid, segment.perm.cuid].contains(&creds.euid);
            if !cx.capable_over(ipc::namespace(cx), g::CAP_IPC_LOCK)
                && (!owner || cmd == ShmCtl::Lock && cx.rlimit(g::RLIMIT_MEMLOCK) == 0)
            {
                return Err(Errno::EPERM.into());
            }
            let mode = &mut ipc::objects_mut(cx).segments.get_mut(id)?.perm.mode;
            match cmd {
                ShmCtl::Lock => *mode |= LOCKED,
                _ => *mode &= !LOCKED,
            }
            Ok(0)
        }
        _ => Err(Errno::EINVAL.into()),
    }
}
