//! Shared memory segments (shmget(2)): nameless files of the internal tmpfs, as shared anonymous mappings
//! are. The segment has one reference on its file, every area that it is attached in another one: their
//! number is what `shm_nattch` tells.

use crate::file::caller::FileCallers;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::{Object, ObjectId, Objects, Perm, limits};
use crate::abi::{Errno, PAGE_SIZE};
use crate::args::IpcGetFlags;
use crate::env::cx::Cx;
use crate::file;
use crate::file::shared;
use crate::file::{FileId, Files};
use crate::fs::inode;
use crate::port::Ports;

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
    pub(crate) fn attaches(&self, k: &Files) -> u64 {
        u64::from(file::at(k, self.file).refs().saturating_sub(1))
    }

    pub(crate) fn pages(&self) -> u64 {
        self.size.div_ceil(PAGE_SIZE)
    }
}

/// Pages of all segments of a namespace.
pub(crate) fn pages(objects: &Objects) -> u64 {
    objects.pages
}

/// Pages of a segment that hold something.
pub(crate) fn resident(k: &mut Files, p: &mut Ports<'_>, segment: FileId) -> u64 {
    /// Of `st_blocks`.
    const BLOCK_SIZE: u64 = 512;
    let attr = file::at(k, segment)
        .inode
        .map(|inode| inode::stored_attr(k, p, inode));
    let blocks = attr.and_then(Result::ok).map_or(0, |attr| attr.blocks);
    blocks * BLOCK_SIZE / PAGE_SIZE
}

/// Makes a segment. `EINVAL`, `ENOSPC`, `ENOMEM`.
pub(crate) fn create<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    key: i32,
    size: u64,
    flags: IpcGetFlags,
) -> Result<i32, Errno> {
    let objects = super::objects(cx);
    let limits = &objects.limits;
    if size == 0 || size > limits.get(limits::SEGMENT_SIZE) {
        return Err(Errno::EINVAL);
    }
    let most = limits.get(limits::SEGMENTS).min(SEGMENTS_MAX as u64) as usize;
    let pages = size.div_ceil(PAGE_SIZE);
    if pages.checked_mul(PAGE_SIZE).is_none()
        || self::pages(objects)
            .checked_add(pages)
            .is_none_or(|sum| sum > limits.get(limits::SEGMENT_PAGES))
        || objects.segments.len() >= most
    {
        return Err(Errno::ENOSPC);
    }
    if i64::try_from(size).is_err() {
        return Err(Errno::ENOMEM);
    }
    let perm = Perm::new(cx.creds(), key, flags);
    let name = format!("SYSV{key:08x}");
    let owner = (perm.uid, perm.gid);
    let file = shared::memory_file(
        cx.k.files_mut(),
        cx.p,
        name.as_bytes(),
        perm.mode,
        owner,
        size,
    )?;
    let segment = Segment {
        perm,
        file,
        size,
        attached: 0,
        detached: 0,
        changed: super::seconds(cx.k.files()),
        creator: super::caller(cx),
        last: 0,
    };
    match super::objects_mut(cx).segments.add(segment, SEGMENTS_MAX) {
        Ok(id) => {
            let object = super::object(cx, id);
            cx.k.files_mut().ipc.files.insert(file, object);
            let maker = super::caller(cx);
            cx.k.files_mut().ipc.made.insert((maker, file));
            super::objects_mut(cx).pages += pages;
            cx.k.files_mut().ipc.objects += 1;
            Ok(id)
        }
        Err(errno) => {
            file::put(cx.k.files_mut(), cx.p, file);
            Err(errno)
        }
    }
}

/// Removes a segment (`IPC_RMID`): at once, or when nobody is attached any more.
pub(crate) fn remove(k: &mut Files, p: &mut Ports<'_>, id: ObjectId) -> Result<(), Errno> {
    let attaches = k.ipc.objects_of(id.ns).segments.get(id.id)?.attaches(k);
    let segments = &mut k.ipc.objects_mut(id.ns).segments;
    segments.forget_key(id.id);
    segments.get_mut(id.id)?.perm.mode |= DESTROYED;
    if attaches == 0 {
        destroy(k, p, id);
    }
    Ok(())
}

fn destroy(k: &mut Files, p: &mut Ports<'_>, id: ObjectId) {
    let objects = k.ipc.objects_mut(id.ns);
    if let Ok(segment) = objects.segments.remove(id.id) {
        objects.pages -= segment.pages();
        k.ipc.objects -= 1;
        k.ipc.files.remove(&segment.file);
        k.ipc.made.remove(&(segment.creator, segment.file));
        file::put(k, p, segment.file);
    }
}

/// The segment behind a mapped file.
pub(crate) fn of_file(k: &Files, file: FileId) -> Option<ObjectId> {
    k.ipc.files.get(&file).copied()
}

/// Whether a file is a segment that is attached only once more and goes then.
pub(crate) fn is_last_attach(k: &Files, file: FileId) -> bool {
    let segment = of_file(k, file).and_then(|id| k.ipc.objects_of(id.ns).segments.get(id.id).ok());
    segment.is_some_and(|segment| {
        let goes = segment.perm.mode & DESTROYED != 0 || goes_with_the_last(k, file);
        goes && segment.attaches(k) == 1
    })
}

/// Whether segments of the namespace of one go when nobody is attached to them any more
/// (`/proc/sys/kernel/shm_rmid_forced`).
fn goes_with_the_last(k: &Files, file: FileId) -> bool {
    of_file(k, file).is_some_and(|id| k.ipc.objects_of(id.ns).limits.get(limits::SEGMENTS_GO) != 0)
}

/// A process is about to end: one of the segments that it made is nobody's, and goes where that is set.
/// `false` if it has made no other.
pub(crate) fn orphan_one(k: &mut Files, p: &mut Ports<'_>, tgid: u32) -> bool {
    let all = (tgid, FileId(0))..=(tgid, FileId(u32::MAX));
    let Some(&(_, file)) = k.ipc.made.range(all).next() else {
        return false;
    };
    k.env.steps.spend(8);
    k.ipc.made.remove(&(tgid, file));
    if let Some(id) = of_file(k, file).filter(|_| goes_with_the_last(k, file)) {
        destroy_unattached(k, p, id);
    }
    true
}

/// That was set: segments that are nobody's go. `LATER` where there are many.
pub(crate) fn destroy_orphans<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    ns: crate::cred::ns::NsId,
) -> Result<(), Errno> {
    let segments = cx.k.files().ipc.objects_of(ns).segments.numbered();
    let made = &cx.k.files().ipc.made;
    let nobodys = |segment: &Segment| !made.contains(&(segment.creator, segment.file));
    let orphans = segments.filter(|(_, segment)| nobodys(segment));
    let orphans: Vec<i32> = orphans.map(|(id, _)| id).collect();
    cx.k.files_mut().env.steps.spend(orphans.len() as u64 / 4);
    for id in orphans {
        if cx.is_spent() {
            return Err(Errno::LATER);
        }
        destroy_unattached(cx.k.files_mut(), cx.p, ObjectId { ns, id });
        cx.k.files_mut().env.steps.spend(16);
    }
    Ok(())
}

fn destroy_unattached(k: &mut Files, p: &mut Ports<'_>, id: ObjectId) {
    let segment = k.ipc.objects_of(id.ns).segments.get(id.id);
    if segment.is_ok_and(|segment| segment.attaches(k) == 0) {
        destroy(k, p, id);
    }
}

/// A reference on a file was given back, and others stay: a segment was detached. The last detach ends one
/// that was removed, and all where that is set, and may have kept a namespace.
pub(crate) fn reference_dropped(k: &mut Files, p: &mut Ports<'_>, file: FileId) {
    if k.ipc.files.is_empty() {
        return;
    }
    let Some(id) = of_file(k, file) else { return };
    let now = super::seconds(k);
    let Ok(segment) = k.ipc.objects_mut(id.ns).segments.get_mut(id.id) else {
        return;
    };
    segment.detached = now;
    let removed = segment.perm.mode & DESTROYED != 0 || goes_with_the_last(k, file);
    if file::at(k, file).refs() > 1 {
        return;
    }
    if removed {
        destroy(k, p, id);
    }
    if !k.ns.has_tasks(id.ns) {
        k.ns.let_go(id.ns);
    }
}

/// Whether there is no segment anywhere.
pub(crate) fn is_unused(k: &Files) -> bool {
    k.ipc.files.is_empty()
}

/// Whether a segment of these is attached, which keeps their namespace.
pub(crate) fn is_attached(k: &Files, objects: &Objects) -> bool {
    let mut segments = objects.segments.iter();
    segments.any(|segment| file::at(k, segment.file).refs() > 1)
}

/// Files that segments hold; for invariant checks.
pub(crate) fn held(k: &Files) -> impl Iterator<Item = FileId> + '_ {
    k.ipc.files.keys().copied()
}

pub(super) fn check(k: &Files, exists: impl Fn(u32) -> bool) -> Result<(), String> {
    let mut count = 0;
    for (ns, objects) in k.ipc.namespaces() {
        for (id, segment) in objects.segments.numbered() {
            count += 1;
            if of_file(k, segment.file) != Some(ObjectId { ns, id }) {
                return Err(format!("the file of {segment:?} leads elsewhere"));
            }
        }
    }
    let alive = |&(tgid, file): &(u32, FileId)| exists(tgid) && k.ipc.files.contains_key(&file);
    if !k.ipc.made.iter().all(alive) {
        return Err("segments have makers that are not there".into());
    }
    match count == k.ipc.files.len() {
        true => Ok(()),
        false => Err(format!("{count} segments, but {} files", k.ipc.files.len())),
    }
}
