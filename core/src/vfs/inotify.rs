//! Watching files and directories (inotify(7)).
//!
//! A watch holds its place in the tree, so that its inode stays. Operations on paths and open files say what they did ([`happened`],
//! [`named`]); nothing is done where nobody watches.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use smallvec::SmallVec;

use super::dentry::{self, DentryId};
use super::file::{self, FileId, FileKind};
use super::filesystem::{FsId, Ino, InodeRef};
use super::mount::{self, PathRef, put_path};
use super::ready::IN;
use super::rw::Iov;
use super::{anon, inode};
use crate::Kernel;
use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::kernel::{Cx, Stop, Wait, WaitKey};
use crate::port::Ports;

/// Most events that wait in one instance (`/proc/sys/fs/inotify/max_queued_events`).
pub(crate) const QUEUE_MAX: usize = 16384;
/// Most instances of one user (`max_user_instances`).
pub(crate) const INSTANCES_MAX: u32 = 128;
/// Most watches of all instances together (`max_user_watches`).
pub(crate) const WATCHES_MAX: usize = 65536;

pub(crate) const ACCESS: u32 = 1;
pub(crate) const MODIFY: u32 = 2;
pub(crate) const ATTRIB: u32 = 4;
pub(crate) const CLOSE_WRITE: u32 = 8;
pub(crate) const CLOSE_NOWRITE: u32 = 0x10;
pub(crate) const OPEN: u32 = 0x20;
const MOVED_FROM: u32 = 0x40;
const MOVED_TO: u32 = 0x80;
pub(crate) const CREATE: u32 = 0x100;
pub(crate) const DELETE: u32 = 0x200;
const DELETE_SELF: u32 = 0x400;
const MOVE_SELF: u32 = 0x800;
/// All that can be asked for.
pub(crate) const ALL: u32 = 0xfff;
const Q_OVERFLOW: u32 = 0x4000;
const IGNORED: u32 = 0x8000;
const UNMOUNT: u32 = 0x2000;
pub(crate) const EXCL_UNLINK: u32 = 0x0400_0000;
pub(crate) const ISDIR: u32 = 0x4000_0000;
pub(crate) const ONESHOT: u32 = 0x8000_0000;

/// Bytes of `struct inotify_event` without the name, and what names are padded to.
const HEAD: usize = 16;

/// An event that waits to be read.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Event {
    wd: i32,
    mask: u32,
    cookie: u32,
    name: SmallVec<[u8; 32]>,
}

impl Event {
    /// Bytes as it is read.
    fn len(&self) -> usize {
        match self.name.len() {
            0 => HEAD,
            len => HEAD + (len + 1).next_multiple_of(HEAD),
        }
    }
}

/// A watch.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Watch {
    path: PathRef,
    inode: InodeRef,
    mask: u32,
}

/// An instance.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Inotify {
    uid: u32,
    watches: BTreeMap<i32, Watch>,
    queue: VecDeque<Event>,
    last_wd: i32,
}

/// Who watches what.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Watched {
    by_inode: BTreeMap<InodeRef, Vec<(FileId, i32)>>,
    count: usize,
    /// Instances by user.
    instances: BTreeMap<u32, u32>,
    cookie: u32,
}

/// A new instance for a user. `EMFILE` if it has too many.
pub(crate) fn create(k: &mut Kernel, uid: u32) -> Result<FileKind, Errno> {
    let count = k.vfs.watched.instances.entry(uid).or_default();
    if *count >= INSTANCES_MAX {
        return Err(Errno::EMFILE);
    }
    *count += 1;
    Ok(FileKind::Inotify(alloc::boxed::Box::new(Inotify {
        uid,
        watches: BTreeMap::new(),
        queue: VecDeque::new(),
        last_wd: 0,
    })))
}

/// An instance that has no file (any more) is given up.
pub(crate) fn release(k: &mut Kernel, p: &mut Ports<'_>, id: Option<FileId>, kind: &Inotify) {
    if let Some(count) = k.vfs.watched.instances.get_mut(&kind.uid) {
        *count -= 1;
        if *count == 0 {
            k.vfs.watched.instances.remove(&kind.uid);
        }
    }
    for (wd, watch) in &kind.watches {
        if let Some(id) = id {
            forget(k, id, *wd, watch.inode);
        }
        dentry::put(k, p, watch.path.dentry);
    }
}

fn forget(k: &mut Kernel, id: FileId, wd: i32, inode: InodeRef) {
    let watched = &mut k.vfs.watched;
    if let Some(list) = watched.by_inode.get_mut(&inode) {
        list.retain(|&other| other != (id, wd));
        if list.is_empty() {
            watched.by_inode.remove(&inode);
        }
        watched.count -= 1;
    }
}

fn instance(k: &mut Kernel, id: FileId) -> Option<&mut Inotify> {
    match &mut k.vfs.files.get_mut(id.0)?.kind {
        FileKind::Inotify(instance) => Some(instance),
        _ => None,
    }
}

/// How a new mask goes together with that of a watch that is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Existing {
    Replace,
    /// `IN_MASK_ADD`
    Add,
    /// `IN_MASK_CREATE`
    Refuse,
}

/// Watches a place; takes over the reference on it, also on failure. Gives the watch's number.
pub(crate) fn add(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    id: FileId,
    path: PathRef,
    mask: u32,
    existing: Existing,
) -> Result<i32, Errno> {
    let result = add_to(k, id, path, mask, existing);
    // A watch that was there has a reference of its own; none keeps the file system mounted.
    match result {
        Ok((_, true)) => mount::release(k, p, path.mount),
        _ => put_path(k, p, path),
    }
    result.map(|(wd, _)| wd)
}

fn add_to(
    k: &mut Kernel,
    id: FileId,
    path: PathRef,
    mask: u32,
    existing: Existing,
) -> Result<(i32, bool), Errno> {
    let inode = k.vfs.dentries.inode(path.dentry).ok_or(Errno::ENOENT)?;
    let room = k.vfs.watched.count < WATCHES_MAX;
    let instance = instance(k, id).ok_or(Errno::EINVAL)?;
    let mut watches = instance.watches.iter_mut();
    if let Some((&wd, watch)) = watches.find(|(_, watch)| watch.inode == inode) {
        match existing {
            Existing::Replace => watch.mask = mask,
            Existing::Add => watch.mask |= mask,
            Existing::Refuse => return Err(Errno::EEXIST),
        }
        return Ok((wd, false));
    }
    if !room {
        return Err(Errno::ENOSPC);
    }
    // There are fewer watches than numbers.
    loop {
        instance.last_wd = instance.last_wd.checked_add(1).unwrap_or(1);
        if !instance.watches.contains_key(&instance.last_wd) {
            break;
        }
    }
    let wd = instance.last_wd;
    instance.watches.insert(wd, Watch { path, inode, mask });
    let watched = &mut k.vfs.watched;
    watched.by_inode.entry(inode).or_default().push((id, wd));
    watched.count += 1;
    Ok((wd, true))
}

/// Ends a watch, which the program is told. `EINVAL` if there is no such watch.
pub(crate) fn remove(k: &mut Kernel, p: &mut Ports<'_>, id: FileId, wd: i32) -> Result<(), Errno> {
    let watch = instance(k, id)
        .and_then(|instance| instance.watches.remove(&wd))
        .ok_or(Errno::EINVAL)?;
    forget(k, id, wd, watch.inode);
    let event = Event {
        wd,
        mask: IGNORED,
        cookie: 0,
        name: SmallVec::new(),
    };
    queue(k, id, event);
    dentry::put(k, p, watch.path.dentry);
    Ok(())
}

/// The last mount of a file system goes: its watches end.
pub(crate) fn unmounted(k: &mut Kernel, p: &mut Ports<'_>, fs: FsId) {
    let at = |ino| InodeRef { fs, ino: Ino(ino) };
    let inside = k.vfs.watched.by_inode.range(at(0)..=at(u64::MAX));
    let watches: Vec<(FileId, i32)> = inside.flat_map(|(_, list)| list).copied().collect();
    for (id, wd) in watches {
        let event = Event {
            wd,
            mask: UNMOUNT,
            cookie: 0,
            name: SmallVec::new(),
        };
        queue(k, id, event);
        let _ = remove(k, p, id, wd); // it was among the watches just now
    }
}

/// Queues an event. One like the last is dropped; when there are too many, one event says so.
fn queue(k: &mut Kernel, id: FileId, event: Event) {
    let Some(instance) = instance(k, id) else {
        return;
    };
    let same = |last: &Event| {
        (last.wd, last.mask, &last.name) == (event.wd, event.mask, &event.name)
            && event.mask & IGNORED == 0
    };
    if instance.queue.back().is_some_and(same) {
        return;
    }
    match instance.queue.len() {
        ..QUEUE_MAX => instance.queue.push_back(event),
        QUEUE_MAX => instance.queue.push_back(Event {
            wd: -1,
            mask: Q_OVERFLOW,
            cookie: 0,
            name: SmallVec::new(),
        }),
        _ => return,
    }
    k.notify(WaitKey::File(id), IN);
}

/// Tells the watches of an inode. `unlinked`: the name is no longer there.
fn tell(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    inode: InodeRef,
    (mask, cookie): (u32, u32),
    name: &[u8],
    unlinked: bool,
) {
    let mut index = 0;
    while let Some(&(id, wd)) = k
        .vfs
        .watched
        .by_inode
        .get(&inode)
        .and_then(|list| list.get(index))
    {
        index += 1;
        let Some(watch) = instance(k, id).and_then(|instance| instance.watches.get(&wd)) else {
            continue;
        };
        let wanted = watch.mask;
        if wanted & mask & ALL == 0 || unlinked && wanted & EXCL_UNLINK != 0 {
            continue;
        }
        let event = Event {
            wd,
            mask,
            cookie,
            name: SmallVec::from_slice(name),
        };
        queue(k, id, event);
        if wanted & ONESHOT != 0 && remove(k, p, id, wd).is_ok() {
            index -= 1;
        }
    }
}

fn nobody(k: &Kernel) -> bool {
    k.vfs.watched.by_inode.is_empty()
}

fn dir_bit(k: &Kernel, dentry: DentryId) -> u32 {
    match k.vfs.dentries.at(dentry).kind() {
        g::S_IFDIR => ISDIR,
        _ => 0,
    }
}

/// Something was done to what is at a place: its directory is told with its name, then itself.
pub(crate) fn happened(k: &mut Kernel, p: &mut Ports<'_>, dentry: DentryId, mask: u32) {
    if nobody(k) {
        return;
    }
    let entry = k.vfs.dentries.at(dentry);
    if entry.fs == anon::FS {
        return;
    }
    let (parent, name) = (entry.parent, entry.name.clone());
    let mask = mask | dir_bit(k, dentry);
    let unlinked = k.vfs.dentries.is_deleted(dentry);
    if parent != dentry
        && let Some(dir) = k.vfs.dentries.inode(parent)
    {
        tell(k, p, dir, (mask, 0), &name, unlinked);
    }
    if let Some(inode) = k.vfs.dentries.inode(dentry) {
        tell(k, p, inode, (mask, 0), b"", false);
    }
}

/// The same for an open file.
pub(crate) fn file_event(k: &mut Kernel, p: &mut Ports<'_>, id: FileId, mask: u32) {
    if !nobody(k) {
        let dentry = file::at(k, id).path.dentry;
        happened(k, p, dentry, mask);
    }
}

/// A name of a directory came or went (`CREATE`, `DELETE`; `ISDIR` where it is one of a directory).
pub(crate) fn named(k: &mut Kernel, p: &mut Ports<'_>, dir: DentryId, name: &[u8], mask: u32) {
    if nobody(k) {
        return;
    }
    if let Some(inode) = k.vfs.dentries.inode(dir) {
        tell(k, p, inode, (mask, 0), name, false);
    }
}

/// A name was moved, perhaps over another one, which that inode lost.
pub(crate) fn moved(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    (old_dir, old_name): (DentryId, &[u8]),
    (new_dir, new_name): (DentryId, &[u8]),
    moved: DentryId,
    replaced: Option<InodeRef>,
) {
    if nobody(k) {
        return;
    }
    k.vfs.watched.cookie = k.vfs.watched.cookie.wrapping_add(1).max(1);
    let cookie = k.vfs.watched.cookie;
    let is_dir = dir_bit(k, moved);
    let ends = [
        (old_dir, old_name, MOVED_FROM | is_dir),
        (new_dir, new_name, MOVED_TO | is_dir),
    ];
    for (dir, name, mask) in ends {
        if let Some(inode) = k.vfs.dentries.inode(dir) {
            tell(k, p, inode, (mask, cookie), name, false);
        }
    }
    if let Some(inode) = replaced {
        link_count(k, p, inode);
    }
    if let Some(inode) = k.vfs.dentries.inode(moved) {
        tell(k, p, inode, (MOVE_SELF, 0), b"", false);
    }
}

/// A file lost a name; its inode is told. Directories lose their only name.
pub(crate) fn link_count(k: &mut Kernel, p: &mut Ports<'_>, inode: InodeRef) {
    if !nobody(k) {
        tell(k, p, inode, (ATTRIB, 0), b"", false);
    }
}

/// A name was removed, or a file closed that has none: if nothing but watches keeps the inode, and `own`
/// references of the caller, it has gone for them.
pub(crate) fn gone(k: &mut Kernel, p: &mut Ports<'_>, dentry: DentryId, own: usize) {
    if nobody(k) || !k.vfs.dentries.is_deleted(dentry) {
        return;
    }
    let Some(inode) = k.vfs.dentries.inode(dentry) else {
        return;
    };
    let list = k.vfs.watched.by_inode.get(&inode);
    let watches: Vec<(FileId, i32)> = list.cloned().unwrap_or_default();
    let held = (k.vfs.dentries.refs(dentry) as usize).saturating_sub(own);
    let linked = inode::attr(k, p, inode)
        .is_ok_and(|attr| attr.nlink > 0 && attr.mode & g::S_IFMT != g::S_IFDIR);
    if watches.is_empty() || held > watches.len() || linked {
        return;
    }
    tell(k, p, inode, (DELETE_SELF, 0), b"", false);
    for (id, wd) in watches {
        // One that was to tell once has ended by itself.
        let _ = remove(k, p, id, wd);
    }
}

/// Bytes that can be read (`FIONREAD`).
pub(crate) fn available(instance: &Inotify) -> usize {
    instance.queue.iter().map(Event::len).sum()
}

pub(super) fn has_events(instance: &Inotify) -> bool {
    !instance.queue.is_empty()
}

pub(super) fn read(
    cx: &mut Cx<'_, '_>,
    id: FileId,
    iov: &mut Iov,
    no_wait: bool,
) -> Result<u64, Stop> {
    let mut done = 0;
    while let Some(event) = instance(cx.k, id).and_then(|instance| instance.queue.front()) {
        let len = event.len();
        if iov.left() < len as u64 {
            return match done {
                0 => Err(Errno::EINVAL.into()),
                done => Ok(done),
            };
        }
        let mut bytes: SmallVec<[u8; 64]> = SmallVec::new();
        bytes.extend_from_slice(&event.wd.to_le_bytes());
        bytes.extend_from_slice(&event.mask.to_le_bytes());
        bytes.extend_from_slice(&event.cookie.to_le_bytes());
        bytes.extend_from_slice(&((len - HEAD) as u32).to_le_bytes());
        bytes.extend_from_slice(&event.name);
        bytes.resize(len, 0);
        if let Some(instance) = instance(cx.k, id) {
            instance.queue.pop_front();
        }
        match iov.put_all(cx, &bytes) {
            Ok(()) => done += len as u64,
            Err(_) if done > 0 => break,
            Err(errno) => return Err(errno.into()),
        }
    }
    match done {
        0 if no_wait => Err(Errno::EAGAIN.into()),
        0 => Wait::on(WaitKey::File(id)).into(),
        done => Ok(done),
    }
}

/// The lines of an instance in `/proc/PID/fdinfo`, newest watch first.
pub(crate) fn info(instance: &Inotify) -> String {
    let mut text = String::new();
    for (wd, watch) in instance.watches.iter().rev() {
        text += &format!(
            "inotify wd:{:x} ino:{:x} sdev:{:x} mask:{:x} ignored_mask:0 \n",
            wd,
            watch.inode.ino.0,
            watch.inode.fs.0,
            watch.mask & ALL
        );
    }
    text
}

/// The places that watches hold, for invariant checks.
pub(super) fn held(instance: &Inotify) -> impl Iterator<Item = DentryId> + '_ {
    instance.watches.values().map(|watch| watch.path.dentry)
}

/// Whether instances and the index of watches agree; for invariant checks.
pub(super) fn check(k: &Kernel) -> Result<(), String> {
    let mut count = 0;
    for (id, file) in k.vfs.files.iter() {
        let FileKind::Inotify(instance) = &file.kind else {
            continue;
        };
        for (wd, watch) in &instance.watches {
            count += 1;
            let list = k.vfs.watched.by_inode.get(&watch.inode);
            if !list.is_some_and(|list| list.contains(&(FileId(id), *wd))) {
                return Err(format!("inotify {id}: watch {wd} is not known"));
            }
        }
    }
    let known: usize = k.vfs.watched.by_inode.values().map(Vec::len).sum();
    match (known, k.vfs.watched.count) == (count, count) {
        true => Ok(()),
        false => Err(format!("{count} inotify watches, but {known} are known")),
    }
}
