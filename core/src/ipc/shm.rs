//! Shared memory segments (shmget(2)): nameless files of the internal tmpfs, as shared anonymous mappings are. The segment has one
//! reference on its file, every area that it is attached in another one: their number is what `shm_nattch` tells.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::{Object, ObjectId, Objects, Perm};
use crate::Kernel;
use crate::abi::{Errno, PAGE_SIZE};
use crate::kernel::Cx;
use crate::machine::SpaceId;
use crate::mm::{shared, space};
use crate::ns::{self, NsId};
use crate::port::Ports;
use crate::vfs::{FileId, InodeRef, file, inode};

/// Limits (`/proc/sys/kernel/shmmax`, `shmall` in pages, `shmmni`).
pub(crate) const SIZE_MAX: u64 = u64::MAX - (1 << 24);
pub(crate) const PAGES_MAX: u64 = u64::MAX - (1 << 24);
pub(crate) const SEGMENTS_MAX: usize = 4096;
/// Shown in the mode: removed as soon as nobody is attached; locked.
pub(crate) const DESTROYED: u32 = 0o1000;
pub(crate) const LOCKED: u32 = 0o2000;

/// A segment.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Segment {
    pub perm: Perm,
    pub file: FileId,
    pub size: u64,
    /// Seconds: last attached, detached, changed.
    pub attached: i64,
    pub detached: i64,
    pub changed: i64,
    /// Processes: that made it, that attached or detached it last.
    pub creator: u32,
    pub last: u32,
}

impl Object for Segment {
    fn perm(&self) -> &Perm {
        &self.perm
    }

    fn perm_mut(&mut self) -> &mut Perm {
        &mut self.perm
    }
}

impl Segment {
    /// How often it is attached.
    pub(crate) fn attaches(&self, k: &Kernel) -> u64 {
        u64::from(file::at(k, self.file).refs().saturating_sub(1))
    }

    pub(crate) fn pages(&self) -> u64 {
        self.size.div_ceil(PAGE_SIZE)
    }
}

/// Pages of all segments of a namespace.
pub(crate) fn pages(objects: &Objects) -> u64 {
    objects.segments.iter().map(Segment::pages).sum()
}

/// Pages that hold something, of each segment of a namespace.
pub(crate) fn resident(k: &mut Kernel, p: &mut Ports<'_>, ns: NsId) -> Result<Vec<u64>, Errno> {
    /// Of `st_blocks`.
    const BLOCK_SIZE: u64 = 512;
    let files = k.ns.ipc(ns).segments.iter();
    let inodes = files.filter_map(|segment| file::at(k, segment.file).inode);
    let inodes: Vec<InodeRef> = inodes.collect();
    let pages = inodes.into_iter().map(|inode| {
        let attr = inode::attr(k, p, inode)?;
        Ok(attr.blocks * BLOCK_SIZE / PAGE_SIZE)
    });
    pages.collect()
}

/// Makes a segment. `EINVAL`, `ENOSPC`, `ENOMEM`.
pub(crate) fn create(cx: &mut Cx<'_, '_>, key: i32, size: u64, flags: u32) -> Result<i32, Errno> {
    if size == 0 || size > SIZE_MAX {
        return Err(Errno::EINVAL);
    }
    let pages = size.div_ceil(PAGE_SIZE);
    let objects = super::objects(cx);
    if pages.checked_mul(PAGE_SIZE).is_none()
        || self::pages(objects)
            .checked_add(pages)
            .is_none_or(|sum| sum > PAGES_MAX)
        || objects.segments.len() >= SEGMENTS_MAX
    {
        return Err(Errno::ENOSPC);
    }
    if i64::try_from(size).is_err() {
        return Err(Errno::ENOMEM);
    }
    let perm = Perm::new(cx.creds(), key, flags);
    let name = format!("SYSV{key:08x}");
    let owner = (perm.uid, perm.gid);
    let file = shared::memory_file(cx.k, cx.p, name.as_bytes(), perm.mode, owner, size)?;
    let segment = Segment {
        perm,
        file,
        size,
        attached: 0,
        detached: 0,
        changed: super::seconds(cx.k),
        creator: super::caller(cx),
        last: 0,
    };
    match super::objects_mut(cx).segments.add(segment, SEGMENTS_MAX) {
        Ok(id) => {
            let object = super::object(cx, id);
            cx.k.ipc.files.insert(file, object);
            Ok(id)
        }
        Err(errno) => {
            file::put(cx.k, cx.p, file);
            Err(errno)
        }
    }
}

/// Removes a segment (`IPC_RMID`): at once, or when nobody is attached any more.
pub(crate) fn remove(k: &mut Kernel, p: &mut Ports<'_>, id: ObjectId) -> Result<(), Errno> {
    let attaches = k.ns.ipc(id.ns).segments.get(id.id)?.attaches(k);
    let segments = &mut k.ns.ipc_mut(id.ns).segments;
    segments.forget_key(id.id);
    segments.get_mut(id.id)?.perm.mode |= DESTROYED;
    if attaches == 0 {
        destroy(k, p, id);
    }
    Ok(())
}

fn destroy(k: &mut Kernel, p: &mut Ports<'_>, id: ObjectId) {
    if let Ok(segment) = k.ns.ipc_mut(id.ns).segments.remove(id.id) {
        k.ipc.files.remove(&segment.file);
        file::put(k, p, segment.file);
    }
}

/// The segment behind a mapped file.
pub(crate) fn of_file(k: &Kernel, file: FileId) -> Option<ObjectId> {
    k.ipc.files.get(&file).copied()
}

/// A reference on a file was given back, and others stay: a segment was detached. The last detach ends one that was removed, and may
/// have kept a namespace.
pub(crate) fn reference_dropped(k: &mut Kernel, p: &mut Ports<'_>, file: FileId) {
    if k.ipc.files.is_empty() {
        return;
    }
    let Some(id) = of_file(k, file) else { return };
    let now = super::seconds(k);
    let Ok(segment) = k.ns.ipc_mut(id.ns).segments.get_mut(id.id) else {
        return;
    };
    segment.detached = now;
    let removed = segment.perm.mode & DESTROYED != 0;
    if file::at(k, file).refs() > 1 {
        return;
    }
    if removed {
        destroy(k, p, id);
    }
    if !k.ns.has_tasks(id.ns) {
        ns::sweep(k, p);
    }
}

/// A process is about to leave a space: if nobody else uses it, the process was the last to detach what is attached there.
pub(crate) fn leaving(k: &mut Kernel, space: SpaceId, tgid: u32) {
    if k.ipc.files.is_empty() || space::users(k, space) > 1 {
        return;
    }
    let areas = k.mm.space(space).vmas.values();
    let segments = areas.filter_map(|vma| of_file(k, vma.file()?));
    let segments: Vec<ObjectId> = segments.collect();
    for id in segments {
        if let Ok(segment) = k.ns.ipc_mut(id.ns).segments.get_mut(id.id) {
            segment.last = tgid;
        }
    }
}

/// The namespaces that attached segments keep.
pub(crate) fn attached(k: &Kernel) -> impl Iterator<Item = NsId> + '_ {
    let attached = |file| file::at(k, file).refs() > 1;
    let files = k.ipc.files.iter();
    files
        .filter(move |&(&file, _)| attached(file))
        .map(|(_, id)| id.ns)
}

/// Files that segments hold; for invariant checks.
pub(crate) fn held(k: &Kernel) -> impl Iterator<Item = FileId> + '_ {
    k.ipc.files.keys().copied()
}

pub(super) fn check(k: &Kernel) -> Result<(), String> {
    let mut count = 0;
    for (ns, objects) in k.ns.ipc_namespaces() {
        for (id, segment) in objects.segments.numbered() {
            count += 1;
            if of_file(k, segment.file) != Some(ObjectId { ns, id }) {
                return Err(format!("the file of {segment:?} leads elsewhere"));
            }
        }
    }
    match count == k.ipc.files.len() {
        true => Ok(()),
        false => Err(format!("{count} segments, but {} files", k.ipc.files.len())),
    }
}
