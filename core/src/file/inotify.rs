//! Watching files and directories (inotify(7)).
//!
//! A watch holds its place in the tree, so that its inode stays. Operations on paths and open files say what
//! they did ([`happened`], [`named`]); nothing is done where nobody watches.

use super::File;
use super::ops::{Closing, FileOps, OpenFile};
use super::rw::How;
use crate::env::wait::{Blocking, SysResult};
use crate::file::caller::FileCallers;
use crate::machine::ThreadId;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use smallvec::SmallVec;

use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::args::InotifyMask;
use crate::cred::ns::count::{Account, Counted};
use crate::env::bounds::{INOTIFY_QUEUE_MAX, INOTIFY_WATCHES_MAX};
use crate::env::cx::Cx;
use crate::env::settings;
use crate::env::wait::{Stop, Wait, WaitKey};
use crate::file::ready::IN;
use crate::file::rw::Iov;
use crate::file::{FileId, FileKind, Files, dnotify};
use crate::fs::filesystem::{FsId, Ino, InodeRef};
use crate::fs::{anon, inode};
use crate::port::Ports;
use crate::vfs::dentry;
use crate::vfs::dentry::DentryId;
use crate::vfs::mount::{HeldPath, PathRef, put_path};
use crate::vfs::names::Change;
use crate::{file, slab};

/// Most watches of one file, each of which is told at once.
const WATCHES_OF_ONE: usize = 1024;

pub(crate) const ACCESS: InotifyMask = InotifyMask::ACCESS;
pub(crate) const MODIFY: InotifyMask = InotifyMask::MODIFY;
pub(crate) const ATTRIB: InotifyMask = InotifyMask::ATTRIB;
pub(crate) const CLOSE_WRITE: InotifyMask = InotifyMask::CLOSE_WRITE;
pub(crate) const CLOSE_NOWRITE: InotifyMask = InotifyMask::CLOSE_NOWRITE;
pub(crate) const OPEN: InotifyMask = InotifyMask::OPEN;
pub(crate) const MOVED_FROM: InotifyMask = InotifyMask::MOVED_FROM;
pub(crate) const MOVED_TO: InotifyMask = InotifyMask::MOVED_TO;
pub(crate) const CREATE: InotifyMask = InotifyMask::CREATE;
pub(crate) const DELETE: InotifyMask = InotifyMask::DELETE;
const DELETE_SELF: InotifyMask = InotifyMask::DELETE_SELF;
const MOVE_SELF: InotifyMask = InotifyMask::MOVE_SELF;
/// All that can be asked for.
pub(crate) const ALL: InotifyMask = InotifyMask::from_bits_retain(0xfff);
const Q_OVERFLOW: InotifyMask = InotifyMask::Q_OVERFLOW;
const IGNORED: InotifyMask = InotifyMask::IGNORED;
const UNMOUNT: InotifyMask = InotifyMask::UNMOUNT;
pub(crate) const EXCL_UNLINK: InotifyMask = InotifyMask::EXCL_UNLINK;
pub(crate) const ISDIR: InotifyMask = InotifyMask::ISDIR;
pub(crate) const ONESHOT: InotifyMask = InotifyMask::ONESHOT;

/// Bytes of `struct inotify_event` without the name, and what names are padded to.
const HEAD: usize = 16;

/// An event that waits to be read.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Event {
    wd: i32,
    mask: InotifyMask,
    cookie: u32,
    name: SmallVec<[u8; 32]>,
}

impl Event {
    /// Bytes that it takes in the kernel, with the room that a queue has in advance.
    fn held(&self) -> u64 {
        let name = match self.name.spilled() {
            true => self.name.capacity(),
            false => 0,
        };
        (2 * size_of::<Event>() + name) as u64
    }

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
    mask: InotifyMask,
}

/// An instance.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Inotify {
    /// Who made it, for whom it and its watches count.
    account: Account,
    watches: BTreeMap<i32, Watch>,
    of_inode: BTreeMap<InodeRef, i32>,
    queue: VecDeque<Event>,
    last_wd: i32,
}

impl Inotify {
    /// Who made it.
    pub(crate) fn account(&self) -> Account {
        self.account
    }
}

/// Who watches what.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Watched {
    watches: BTreeSet<(InodeRef, FileId, i32)>,
    cookie: u32,
    /// Bytes of the events that wait.
    queued: u64,
}

impl Watched {
    /// Bytes that watches and events take.
    pub(crate) fn held(&self) -> u64 {
        const WATCH_COST: u64 = 256;
        self.watches.len() as u64 * WATCH_COST + self.queued
    }
}

/// Whether the events that wait are counted rightly; for invariant checks.
pub(crate) fn is_counted(files: &Files) -> bool {
    let open = files.open.iter();
    let events = open.filter_map(|(_, file)| match &file.kind {
        FileKind::Inotify(instance) => Some(instance.queue.iter().map(Event::held).sum::<u64>()),
        _ => None,
    });
    events.sum::<u64>() == files.watched.queued
}

/// A new instance for a user of a user namespace. `EMFILE` if there are too many.
pub(crate) fn create(k: &mut Files, account: Account) -> Result<FileKind, Errno> {
    if !k.ns.count(account, Counted::InotifyInstances) {
        return Err(Errno::EMFILE);
    }
    Ok(FileKind::Inotify(alloc::boxed::Box::new(Inotify {
        account,
        watches: BTreeMap::new(),
        of_inode: BTreeMap::new(),
        queue: VecDeque::new(),
        last_wd: 0,
    })))
}

/// What counts for users: instances that are open, and watches.
pub(crate) fn counted(k: &Files) -> impl Iterator<Item = (Account, Counted)> + '_ {
    let instances = k.open.iter().filter_map(|(_, file)| match &file.kind {
        FileKind::Inotify(instance) => Some((instance, file.refs() > 0)),
        _ => None,
    });
    instances.flat_map(|(instance, is_open)| {
        let one = is_open.then_some(Counted::InotifyInstances);
        let watches = core::iter::repeat_n(Counted::InotifyWatches, instance.watches.len());
        let all = one.into_iter().chain(watches);
        all.map(|what| (instance.account, what))
    })
}

/// An instance without watches goes.
pub(crate) fn release(k: &mut Files, kind: &Inotify) {
    k.watched.queued -= kind.queue.iter().map(Event::held).sum::<u64>();
}

/// Watches that are taken away at once.
const WATCHES_AT_ONCE: usize = 64;

/// Whether an instance has so many watches that they are not taken away at once.
pub(crate) fn is_large(kind: &Inotify) -> bool {
    kind.watches.len() > WATCHES_AT_ONCE
}

/// An instance has been closed: takes some of its watches away. `true` if there are none left.
pub(crate) fn empty(k: &mut Files, p: &mut Ports<'_>, id: FileId) -> bool {
    for _ in 0..WATCHES_AT_ONCE {
        let last = instance(k, id).and_then(|instance| {
            let (wd, watch) = instance.watches.pop_last()?;
            instance.of_inode.remove(&watch.inode);
            Some((wd, watch, instance.account))
        });
        let Some((wd, watch, account)) = last else {
            return true;
        };
        k.ns.uncount(account, Counted::InotifyWatches);
        k.env.steps.spend(8);
        k.watched.watches.remove(&(watch.inode, id, wd));
        dentry::put(k, p, watch.path.dentry);
    }
    false
}

/// The watches of inodes from one to another.
fn watches(
    k: &Files,
    from: InodeRef,
    to: InodeRef,
) -> impl Iterator<Item = (InodeRef, FileId, i32)> + '_ {
    let range = (from, FileId(0), i32::MIN)..=(to, FileId(u32::MAX), i32::MAX);
    k.watched.watches.range(range).copied()
}

fn instance(k: &mut Files, id: FileId) -> Option<&mut Inotify> {
    match &mut k.open.get_mut(id.0)?.kind {
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

/// Watches a place. Gives the watch's number.
pub(crate) fn add(
    k: &mut Files,
    p: &mut Ports<'_>,
    id: FileId,
    path: HeldPath,
    mask: InotifyMask,
    existing: Existing,
) -> Result<i32, Errno> {
    let result = add_to(k, id, *path, mask, existing);
    // A watch that was there has a reference of its own; none keeps the file system mounted.
    match result {
        Ok((_, true)) => path.keep_dentry(k, p),
        _ => put_path(k, p, path),
    }
    result.map(|(wd, _)| wd)
}

fn add_to(
    k: &mut Files,
    id: FileId,
    path: PathRef,
    mask: InotifyMask,
    existing: Existing,
) -> Result<(i32, bool), Errno> {
    let inode = k.vfs.dentries.inode(path.dentry).ok_or(Errno::ENOENT)?;
    let others = watches(k, inode, inode).nth(WATCHES_OF_ONE - 1);
    let room = k.watched.watches.len() < INOTIFY_WATCHES_MAX && others.is_none();
    let instance = instance(k, id).ok_or(Errno::EINVAL)?;
    let account = instance.account;
    let known = instance.of_inode.get(&inode).copied();
    if let Some((wd, watch)) = known.and_then(|wd| Some((wd, instance.watches.get_mut(&wd)?))) {
        match existing {
            Existing::Replace => watch.mask = mask,
            Existing::Add => watch.mask |= mask,
            Existing::Refuse => return Err(Errno::EEXIST),
        }
        return Ok((wd, false));
    }
    // There are fewer watches than numbers. One is used up also where there is no room.
    loop {
        instance.last_wd = instance.last_wd.checked_add(1).unwrap_or(1);
        if !instance.watches.contains_key(&instance.last_wd) {
            break;
        }
    }
    let wd = instance.last_wd;
    if !room || !k.ns.count(account, Counted::InotifyWatches) {
        return Err(Errno::ENOSPC);
    }
    let instance = file::inotify::instance(k, id).ok_or(Errno::EINVAL)?;
    instance.watches.insert(wd, Watch { path, inode, mask });
    instance.of_inode.insert(inode, wd);
    k.watched.watches.insert((inode, id, wd));
    Ok((wd, true))
}

/// Ends a watch, which the program is told. `EINVAL` if there is no such watch.
pub(crate) fn remove(k: &mut Files, p: &mut Ports<'_>, id: FileId, wd: i32) -> Result<(), Errno> {
    let instance = instance(k, id).ok_or(Errno::EINVAL)?;
    let watch = instance.watches.remove(&wd).ok_or(Errno::EINVAL)?;
    instance.of_inode.remove(&watch.inode);
    let account = instance.account;
    k.ns.uncount(account, Counted::InotifyWatches);
    k.watched.watches.remove(&(watch.inode, id, wd));
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
fn unmounted(k: &mut Files, p: &mut Ports<'_>, fs: FsId) -> bool {
    const MOST: usize = 64;
    let at = |ino| InodeRef { fs, ino: Ino(ino) };
    let inside = watches(k, at(0), at(u64::MAX)).take(MOST);
    let watches: SmallVec<[(InodeRef, FileId, i32); MOST]> = inside.collect();
    for &(_, id, wd) in &watches {
        let event = Event {
            wd,
            mask: UNMOUNT,
            cookie: 0,
            name: SmallVec::new(),
        };
        queue(k, id, event);
        let _ = remove(k, p, id, wd); // it was among the watches just now
        k.env.steps.spend(16);
    }
    !watches.is_empty()
}

/// Tells watchers of files of a file system that has no mounts any more, before it goes; `false` if there is
/// none.
pub(crate) fn tell_unmounted(k: &mut Files, p: &mut Ports<'_>) -> bool {
    let Some(fs) = k
        .mounts
        .ended
        .front()
        .filter(|ended| !ended.told)
        .map(|ended| ended.fs)
    else {
        return false;
    };
    if !unmounted(k, p, fs)
        && let Some(ended) = k.mounts.ended.front_mut()
    {
        ended.told = true;
    }
    true
}

/// Queues an event. One like the last is dropped; when there are too many, one event says so.
fn queue(k: &mut Files, id: FileId, event: Event) {
    let scarce = k.frames.is_scarce();
    let most = k
        .env
        .settings
        .at_most(settings::INOTIFY_EVENTS, INOTIFY_QUEUE_MAX);
    let Some(instance) = instance(k, id) else {
        return;
    };
    let same = |last: &Event| {
        (last.wd, last.mask, &last.name) == (event.wd, event.mask, &event.name)
            && !event.mask.contains(IGNORED)
    };
    if instance.queue.back().is_some_and(same) {
        return;
    }
    let overflow = Event {
        wd: -1,
        mask: Q_OVERFLOW,
        cookie: 0,
        name: SmallVec::new(),
    };
    // Without memory for it an event is lost like one that is too many (`inotify_handle_inode_event()`).
    let event = match instance.queue.len() {
        len if len < most && !scarce => event,
        len if len <= most && instance.queue.back() != Some(&overflow) => overflow,
        _ => return,
    };
    let held = event.held();
    instance.queue.push_back(event);
    k.watched.queued += held;
    k.notify(WaitKey::File(id), IN);
}

/// Tells the watches of an inode. `unlinked`: the name is no longer there.
fn tell(
    k: &mut Files,
    p: &mut Ports<'_>,
    inode: InodeRef,
    (mask, cookie): (InotifyMask, u32),
    name: &[u8],
    unlinked: bool,
) {
    use core::ops::Bound::{Excluded, Included};
    if !k.notices.is_empty() {
        dnotify::tell(k, inode, mask);
    }
    let mut last = (inode, FileId(0), i32::MIN);
    let end = (inode, FileId(u32::MAX), i32::MAX);
    let next = |k: &Files, last| {
        let mut rest = k.watched.watches.range((Excluded(last), Included(end)));
        rest.next().copied()
    };
    while let Some((_, id, wd)) = next(k, last) {
        last = (inode, id, wd);
        k.env.steps.spend(2);
        let Some(watch) = instance(k, id).and_then(|instance| instance.watches.get(&wd)) else {
            continue;
        };
        let wanted = watch.mask;
        if !wanted.intersects(mask & ALL) || unlinked && wanted.contains(EXCL_UNLINK) {
            continue;
        }
        let event = Event {
            wd,
            mask,
            cookie,
            name: SmallVec::from_slice(name),
        };
        queue(k, id, event);
        if wanted.contains(ONESHOT) {
            let _ = remove(k, p, id, wd); // it was among the watches just now
        }
    }
}

fn nobody(k: &Files) -> bool {
    k.watched.watches.is_empty() && k.notices.is_empty()
}

fn dir_bit(k: &Files, dentry: DentryId) -> InotifyMask {
    match k.vfs.dentries.at(dentry).kind() {
        g::S_IFDIR => ISDIR,
        _ => InotifyMask::empty(),
    }
}

/// Something was done to what is at a place: its directory is told with its name, then itself.
pub(crate) fn happened(k: &mut Files, p: &mut Ports<'_>, dentry: DentryId, mask: InotifyMask) {
    if !nobody(k) {
        tell_place(k, p, dentry, mask, false);
    }
}

/// `opened`: it was done to an open file. What is done to one without a name is nothing to watches that do
/// not want such (`IN_EXCL_UNLINK`), also if they are of the file itself.
fn tell_place(k: &mut Files, p: &mut Ports<'_>, dentry: DentryId, mask: InotifyMask, opened: bool) {
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
        tell(k, p, dir, (mask, 0), &name, unlinked && opened);
    }
    if let Some(inode) = k.vfs.dentries.inode(dentry) {
        tell(k, p, inode, (mask, 0), b"", unlinked && opened);
    }
}

/// The same for an open file.
pub(crate) fn file_event(k: &mut Files, p: &mut Ports<'_>, id: FileId, mask: InotifyMask) {
    if !nobody(k) {
        let dentry = file::at(k, id).path.dentry;
        tell_place(k, p, dentry, mask, true);
    }
}

/// Tells of what has become of names.
pub(crate) fn changed(k: &mut Files, p: &mut Ports<'_>, change: Change) {
    match &change {
        Change::Nothing => {}
        Change::Made {
            dir,
            name,
            directory,
        } => named(k, p, *dir, name, CREATE | if_dir(*directory)),
        Change::Linked {
            dir,
            name,
            inode,
            source: _,
        } => {
            link_count(k, p, *inode);
            named(k, p, *dir, name, CREATE);
        }
        Change::Removed {
            dir,
            name,
            victim,
            inode,
            directory,
        } => {
            if let Some(inode) = *inode {
                link_count(k, p, inode);
            }
            gone(k, p, *victim, 1);
            named(k, p, *dir, name, DELETE | if_dir(*directory));
        }
        Change::Exchanged {
            names: [(old, from), (new, to)],
            moved: [one, other],
        } => {
            moved(k, p, (*old, from), (*new, to), *one, None);
            moved(k, p, (*new, to), (*old, from), *other, None);
        }
        Change::Moved {
            names: [(old, from), (new, to)],
            moved: name,
            target,
            replaced,
            parent: _,
        } => {
            moved(k, p, (*old, from), (*new, to), *name, *replaced);
            gone(k, p, *target, 1);
        }
    }
    change.end(k, p);
}

fn if_dir(directory: bool) -> InotifyMask {
    match directory {
        true => ISDIR,
        false => InotifyMask::empty(),
    }
}

/// A name of a directory came or went (`CREATE`, `DELETE`; `ISDIR` where it is one of a directory).
pub(crate) fn named(
    k: &mut Files,
    p: &mut Ports<'_>,
    dir: DentryId,
    name: &[u8],
    mask: InotifyMask,
) {
    if nobody(k) {
        return;
    }
    if let Some(inode) = k.vfs.dentries.inode(dir) {
        tell(k, p, inode, (mask, 0), name, false);
    }
}

/// A name was moved, perhaps over another one, which that inode lost.
pub(crate) fn moved(
    k: &mut Files,
    p: &mut Ports<'_>,
    (old_dir, old_name): (DentryId, &[u8]),
    (new_dir, new_name): (DentryId, &[u8]),
    moved: DentryId,
    replaced: Option<InodeRef>,
) {
    if nobody(k) {
        return;
    }
    k.watched.cookie = k.watched.cookie.wrapping_add(1).max(1);
    let cookie = k.watched.cookie;
    if old_dir == new_dir
        && let Some(dir) = k.vfs.dentries.inode(old_dir)
    {
        dnotify::renamed(k, dir);
    }
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
pub(crate) fn link_count(k: &mut Files, p: &mut Ports<'_>, inode: InodeRef) {
    if !nobody(k) {
        tell(k, p, inode, (ATTRIB, 0), b"", false);
    }
}

/// A name was removed, or a file closed that has none: if nothing but watches keeps the inode, and `own`
/// references of the caller, it has gone for them.
pub(crate) fn gone(k: &mut Files, p: &mut Ports<'_>, dentry: DentryId, own: usize) {
    if nobody(k) || !k.vfs.dentries.is_deleted(dentry) {
        return;
    }
    let Some(inode) = k.vfs.dentries.inode(dentry) else {
        return;
    };
    let held = (k.vfs.dentries.refs(dentry) as usize).saturating_sub(own);
    let linked = inode::stored_attr(k, p, inode)
        .is_ok_and(|attr| attr.nlink > 0 && attr.mode & g::S_IFMT != g::S_IFDIR);
    let watches: Vec<_> = watches(k, inode, inode).collect();
    if watches.is_empty() || held > watches.len() || linked {
        return;
    }
    tell(k, p, inode, (DELETE_SELF, 0), b"", false);
    for (_, id, wd) in watches {
        // One that was to tell once has ended by itself.
        let _ = remove(k, p, id, wd);
    }
}

/// Bytes that can be read (`FIONREAD`).
pub(crate) fn available(instance: &Inotify) -> usize {
    instance.queue.iter().map(Event::len).sum()
}

pub(crate) fn has_events(instance: &Inotify) -> bool {
    !instance.queue.is_empty()
}

pub(crate) fn read<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    id: FileId,
    iov: &mut Iov,
    blocking: Blocking,
) -> Result<u64, Stop> {
    let mut done = 0;
    while let Some(event) =
        instance(cx.k.files_mut(), id).and_then(|instance| instance.queue.front())
    {
        let len = event.len();
        if iov.left() < len as u64 {
            return match done {
                0 => Err(Errno::EINVAL.into()),
                done => Ok(done),
            };
        }
        let mut bytes: SmallVec<[u8; 64]> = SmallVec::new();
        bytes.extend_from_slice(&event.wd.to_le_bytes());
        bytes.extend_from_slice(&event.mask.bits().to_le_bytes());
        bytes.extend_from_slice(&event.cookie.to_le_bytes());
        bytes.extend_from_slice(&((len - HEAD) as u32).to_le_bytes());
        bytes.extend_from_slice(&event.name);
        bytes.resize(len, 0);
        if let Some(instance) = instance(cx.k.files_mut(), id)
            && let Some(event) = instance.queue.pop_front()
        {
            slab::shrink(&mut instance.queue, slab::QUEUE_KEPT);
            cx.k.files_mut().watched.queued -= event.held();
        }
        match iov.put_all(cx, &bytes) {
            Ok(()) => done += len as u64,
            Err(_) if done > 0 => break,
            Err(errno) => return Err(errno.into()),
        }
    }
    match done {
        0 if blocking == Blocking::Fails => Err(Errno::EAGAIN.into()),
        0 => Wait::on(WaitKey::File(id)).into(),
        done => Ok(done),
    }
}

/// The line of an instance's newest watch before one in `/proc/PID/fdinfo`: which that is.
pub(crate) fn info(k: &Files, id: FileId, last: Option<i32>) -> Option<(i32, String)> {
    let FileKind::Inotify(instance) = &k.file(id)?.kind else {
        return None;
    };
    let end = last.unwrap_or(i32::MAX);
    let mut before = instance.watches.range(..end).rev();
    let newest = instance.watches.last_key_value().filter(|_| last.is_none());
    let (&wd, watch) = newest.or_else(|| before.next())?;
    let ino = watch.inode.ino.0;
    let mut text = format!(
        "inotify wd:{wd:x} ino:{ino:x} sdev:{:x} mask:{:x} ignored_mask:0 fhandle-bytes:c fhandle-type:1 f_handle:",
        watch.inode.fs.0 + 1,
        (watch.mask & (ALL | EXCL_UNLINK | ONESHOT)).bits(),
    );
    // As file handles of tmpfs are: a generation, and the number of the inode.
    let handle = (u128::from(ino) << 32).to_le_bytes();
    text += &hex::encode(&handle[..12]);
    text.push('\n');
    Some((wd, text))
}

/// The places that watches hold, for invariant checks.
pub(crate) fn held(instance: &Inotify) -> impl Iterator<Item = DentryId> + '_ {
    instance.watches.values().map(|watch| watch.path.dentry)
}

/// Whether instances and the index of watches agree; for invariant checks.
pub(crate) fn check(k: &Files) -> Result<(), String> {
    let mut count = 0;
    for (id, file) in k.open.iter() {
        let FileKind::Inotify(instance) = &file.kind else {
            continue;
        };
        for (wd, watch) in &instance.watches {
            count += 1;
            let known = k.watched.watches.contains(&(watch.inode, FileId(id), *wd));
            if !known || instance.of_inode.get(&watch.inode) != Some(wd) {
                return Err(format!("inotify {id}: watch {wd} is not known"));
            }
        }
    }
    let known = k.watched.watches.len();
    match known == count {
        true => Ok(()),
        false => Err(format!("{count} inotify watches, but {known} are known")),
    }
}

/// An instance.
pub(super) struct Ops;

impl OpenFile for Ops {
    const HOLDS: bool = true;

    fn signal_key(_file: &File, id: FileId) -> Option<WaitKey> {
        Some(WaitKey::File(id))
    }

    fn closing(k: &mut Files, id: FileId) -> Closing {
        let Some(kind) = instance(k, id) else {
            return Closing::AtOnce;
        };
        let (large, account) = (is_large(kind), kind.account());
        k.ns.uncount(account, Counted::InotifyInstances);
        match large {
            true => Closing::InPieces,
            false => Closing::AtOnce,
        }
    }

    fn empty(k: &mut Files, p: &mut Ports<'_>, id: FileId) -> bool {
        empty(k, p, id)
    }

    fn release(k: &mut Files, _p: &mut Ports<'_>, _id: FileId, kind: FileKind) {
        if let FileKind::Inotify(kind) = kind {
            release(k, &kind);
        }
    }
}

impl<K: FileCallers> FileOps<K> for Ops {
    fn read(cx: &mut Cx<'_, '_, K>, id: FileId, iov: &mut Iov, how: How) -> SysResult {
        read(cx, id, iov, how.blocking)
    }

    fn ready(k: &K, _thread: ThreadId, id: FileId, _depth: u32) -> u16 {
        match &file::at(k.files(), id).kind {
            FileKind::Inotify(instance) if has_events(instance) => IN,
            _ => 0,
        }
    }

    fn key(_k: &K, _thread: ThreadId, id: FileId) -> Option<WaitKey> {
        Some(WaitKey::File(id))
    }

    fn available(cx: &mut Cx<'_, '_, K>, id: FileId) -> Result<i64, Stop> {
        match &file::at(cx.k.files(), id).kind {
            FileKind::Inotify(instance) => Ok(available(instance) as i64),
            _ => Err(Errno::ENOTTY.into()),
        }
    }
}
