//! Interest in many files (epoll(7)).
//!
//! An instance has items, one for each (open file, descriptor number), and a list of those that may be ready. [`announce`] puts items on
//! that list when their file says that something came: that is the edge, and only listed items are looked at, so that waiting costs what
//! is ready and not what is watched. A level-triggered item that was ready goes back to the end of the list.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::file::{self, FileId, FileKind};
use super::ready;
use crate::Kernel;
use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::kernel::{Cx, WaitKey};
use crate::machine::ThreadId;

/// Deepest nesting of instances, minus one (`EP_MAX_NESTS`).
pub(crate) const NESTS_MAX: u32 = 4;
/// Most items of all instances together (`/proc/sys/fs/epoll/max_user_watches`).
pub(crate) const WATCHES_MAX: usize = 1 << 20;

/// Flags of an item that are no events; with only these left it is disabled (`EP_PRIVATE_BITS`).
pub(crate) const PRIVATE: u32 = g::EPOLLWAKEUP | g::EPOLLONESHOT | g::EPOLLET | g::EPOLLEXCLUSIVE;

/// What an item is known by: the file, and the descriptor it was added as.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct ItemKey {
    pub file: FileId,
    pub fd: i32,
}

/// Interest in one file.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Item {
    pub events: u32,
    pub data: u64,
    /// Where the file's changes are announced, and which of them concern it.
    key: Option<WaitKey>,
    concerns: u16,
    /// It is on the ready list.
    listed: bool,
}

/// An instance.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Epoll {
    items: BTreeMap<ItemKey, Item>,
    ready: VecDeque<ItemKey>,
    /// Items of the host's streams, which the host must be asked about.
    streams: BTreeSet<ItemKey>,
    /// The last announcement that came here.
    stamp: u64,
}

/// An item that watches a key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Watch {
    epoll: FileId,
    item: ItemKey,
    exclusive: bool,
}

/// Which items watch what.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Watches {
    /// By key; exclusive ones are last.
    by_key: BTreeMap<WaitKey, Vec<Watch>>,
    /// File, instance and descriptor of every item.
    by_file: BTreeSet<(FileId, FileId, i32)>,
    stamp: u64,
}

fn instance(k: &Kernel, id: FileId) -> Option<&Epoll> {
    match &k.vfs.file(id)?.kind {
        FileKind::Epoll(epoll) => Some(epoll),
        _ => None,
    }
}

fn instance_mut(k: &mut Kernel, id: FileId) -> Option<&mut Epoll> {
    match &mut k.vfs.files.get_mut(id.0)?.kind {
        FileKind::Epoll(epoll) => Some(epoll),
        _ => None,
    }
}

fn item_mut(k: &mut Kernel, epoll: FileId, item: ItemKey) -> Option<&mut Item> {
    instance_mut(k, epoll)?.items.get_mut(&item)
}

/// An item's flags and events.
pub(crate) fn events(k: &Kernel, epoll: FileId, item: ItemKey) -> Option<u32> {
    instance(k, epoll)?.items.get(&item).map(|item| item.events)
}

/// Adds an item. `ELOOP` if instances would contain each other or be nested too deep, `ENOSPC`.
pub(crate) fn add(
    cx: &mut Cx<'_, '_>,
    epoll: FileId,
    item: ItemKey,
    events: u32,
    data: u64,
) -> Result<(), Errno> {
    if cx.k.vfs.watches.by_file.len() >= WATCHES_MAX {
        return Err(Errno::ENOSPC);
    }
    let key = ready::key(cx.k, cx.thread, item.file);
    let watched = file::at(cx.k, item.file);
    let concerns = ready::concerns(watched);
    let stream = matches!(watched.kind, FileKind::HostStream(_));
    let Some(instance) = instance_mut(cx.k, epoll) else {
        return Err(Errno::EINVAL);
    };
    if stream {
        instance.streams.insert(item);
    }
    let entry = Item {
        events,
        data,
        key,
        concerns,
        listed: false,
    };
    instance.items.insert(item, entry);
    let watches = &mut cx.k.vfs.watches;
    watches.by_file.insert((item.file, epoll, item.fd));
    if let Some(key) = key {
        let exclusive = events & g::EPOLLEXCLUSIVE != 0;
        let watch = Watch {
            epoll,
            item,
            exclusive,
        };
        let list = watches.by_key.entry(key).or_default();
        let at = match exclusive {
            true => list.len(),
            false => list.partition_point(|watch| !watch.exclusive),
        };
        list.insert(at, watch);
    }
    look(cx.k, cx.thread, epoll, item);
    Ok(())
}

/// Changes an item.
pub(crate) fn modify(cx: &mut Cx<'_, '_>, epoll: FileId, item: ItemKey, events: u32, data: u64) {
    if let Some(entry) = item_mut(cx.k, epoll, item) {
        (entry.events, entry.data) = (events, data);
    }
    look(cx.k, cx.thread, epoll, item);
}

/// Lists an item that is ready now.
fn look(k: &mut Kernel, thread: ThreadId, epoll: FileId, item: ItemKey) {
    let now = ready::of(k, thread, item.file, 0);
    let Some(entry) = item_mut(k, epoll, item) else {
        return;
    };
    if u32::from(now) & entry.events & !PRIVATE != 0 {
        list(k, epoll, item);
        k.notify(WaitKey::File(epoll), ready::IN);
    }
}

fn list(k: &mut Kernel, epoll: FileId, item: ItemKey) {
    let Some(instance) = instance_mut(k, epoll) else {
        return;
    };
    if let Some(entry) = instance.items.get_mut(&item)
        && !core::mem::replace(&mut entry.listed, true)
    {
        instance.ready.push_back(item);
    }
}

/// Removes an item.
pub(crate) fn remove(k: &mut Kernel, epoll: FileId, item: ItemKey) {
    let Some(instance) = instance_mut(k, epoll) else {
        return;
    };
    instance.streams.remove(&item);
    let Some(entry) = instance.items.remove(&item) else {
        return;
    };
    if entry.listed {
        instance.ready.retain(|other| *other != item);
    }
    unwatch(k, epoll, item, entry.key);
}

fn unwatch(k: &mut Kernel, epoll: FileId, item: ItemKey, key: Option<WaitKey>) {
    let watches = &mut k.vfs.watches;
    watches.by_file.remove(&(item.file, epoll, item.fd));
    let Some(key) = key else { return };
    if let Some(list) = watches.by_key.get_mut(&key) {
        list.retain(|watch| (watch.epoll, watch.item) != (epoll, item));
        if list.is_empty() {
            watches.by_key.remove(&key);
        }
    }
}

/// A file is closed for the last time: nobody watches it any more.
pub(super) fn file_closed(k: &mut Kernel, id: FileId) {
    while let Some(&(file, epoll, fd)) = k
        .vfs
        .watches
        .by_file
        .range((id, FileId(0), i32::MIN)..=(id, FileId(u32::MAX), i32::MAX))
        .next()
    {
        remove(k, epoll, ItemKey { file, fd });
        // An instance that is not there any more would have taken its items along.
        k.vfs.watches.by_file.remove(&(file, epoll, fd));
    }
}

/// An instance was closed.
pub(super) fn release(k: &mut Kernel, id: FileId, epoll: Epoll) {
    for (item, entry) in epoll.items {
        unwatch(k, id, item, entry.key);
    }
}

/// Something came for a key: lists the items that want it, wakes who waits for their instances, and goes on to instances that watch
/// those. Each instance is told once.
pub(crate) fn announce(k: &mut Kernel, key: WaitKey, events: u16) {
    if k.vfs.watches.by_key.is_empty() {
        return;
    }
    k.vfs.watches.stamp += 1;
    spread(k, key, events, 0);
}

fn spread(k: &mut Kernel, key: WaitKey, events: u16, depth: u32) {
    if depth > NESTS_MAX + 1 {
        return;
    }
    let mut taken = false;
    let mut index = 0;
    while let Some(&watch) = k
        .vfs
        .watches
        .by_key
        .get(&key)
        .and_then(|list| list.get(index))
    {
        index += 1;
        if watch.exclusive && taken {
            break;
        }
        let Some(entry) = item_mut(k, watch.epoll, watch.item) else {
            continue;
        };
        let wanted = entry.events & !PRIVATE;
        let came = events & entry.concerns;
        if wanted == 0 || events != ready::ANY && u32::from(came) & wanted == 0 {
            continue;
        }
        list(k, watch.epoll, watch.item);
        let key = WaitKey::File(watch.epoll);
        if watch.exclusive && k.waiters(key).next().is_some() {
            taken = true;
        }
        let stamp = k.vfs.watches.stamp;
        if let Some(instance) = instance_mut(k, watch.epoll)
            && core::mem::replace(&mut instance.stamp, stamp) != stamp
        {
            k.wake_threads(key);
            spread(k, key, ready::IN, depth + 1);
        }
    }
}

/// Whether an instance has an item that is ready.
pub(super) fn any_ready(k: &Kernel, thread: ThreadId, id: FileId, depth: u32) -> bool {
    let Some(instance) = instance(k, id) else {
        return false;
    };
    if depth > NESTS_MAX {
        return false;
    }
    instance.ready.iter().any(|key| {
        let events = instance.items.get(key).map_or(0, |item| item.events);
        u32::from(ready::of(k, thread, key.file, depth + 1)) & events & !PRIVATE != 0
    })
}

/// An event for the program.
pub(crate) struct Event {
    item: ItemKey,
    pub events: u32,
    pub data: u64,
}

/// Number of items on the ready list.
pub(crate) fn listed(k: &Kernel, id: FileId) -> usize {
    instance(k, id).map_or(0, |instance| instance.ready.len())
}

/// Takes the next item from the ready list: what it is ready for, or `None` if it is not any more.
pub(crate) fn next(k: &mut Kernel, thread: ThreadId, id: FileId) -> Option<Event> {
    let item = instance_mut(k, id)?.ready.pop_front()?;
    let now = ready::of(k, thread, item.file, 0);
    let entry = item_mut(k, id, item)?;
    entry.listed = false;
    match u32::from(now) & entry.events & !PRIVATE {
        0 => None,
        events => Some(Event {
            item,
            events,
            data: entry.data,
        }),
    }
}

/// The program could not be told: the item comes first again.
pub(crate) fn put_back(k: &mut Kernel, id: FileId, event: &Event) {
    if let Some(instance) = instance_mut(k, id)
        && let Some(entry) = instance.items.get_mut(&event.item)
    {
        entry.listed = true;
        instance.ready.push_front(event.item);
    }
}

/// The program was told: disables the item (`EPOLLONESHOT`), leaves it until the next edge (`EPOLLET`), or lists it again.
pub(crate) fn told(k: &mut Kernel, id: FileId, event: &Event) {
    let Some(entry) = item_mut(k, id, event.item) else {
        return;
    };
    if entry.events & g::EPOLLONESHOT != 0 {
        entry.events &= PRIVATE;
    } else if entry.events & g::EPOLLET == 0 {
        list(k, id, event.item);
    }
}

/// The first enabled item that wants input from a stream of the host: the stream and the item.
pub(crate) fn stream(k: &Kernel, id: FileId) -> Option<(u8, Event)> {
    let instance = instance(k, id)?;
    instance.streams.iter().find_map(|key| {
        let item = instance.items.get(key)?;
        let events = item.events & !PRIVATE & u32::from(ready::IN | ready::HUP | ready::ERR);
        let FileKind::HostStream(stream) = k.vfs.file(key.file)?.kind else {
            return None;
        };
        let event = Event {
            item: *key,
            events,
            data: item.data,
        };
        (events & u32::from(ready::IN) != 0).then_some((stream, event))
    })
}

/// Whether `inner` may be added to `outer`. `ELOOP` if it contains it, or the nesting is too deep.
pub(crate) fn check_nesting(k: &Kernel, outer: FileId, inner: FileId) -> Result<(), Errno> {
    let below = down(k, inner, outer, &mut BTreeMap::new(), 0).ok_or(Errno::ELOOP)?;
    let above = up(k, outer, &mut BTreeMap::new(), 0);
    match below + 1 + above > NESTS_MAX {
        true => Err(Errno::ELOOP),
        false => Ok(()),
    }
}

/// How many instances are below each other in this one; `None` if one is `outer` or there are too many.
fn down(
    k: &Kernel,
    id: FileId,
    outer: FileId,
    known: &mut BTreeMap<FileId, u32>,
    depth: u32,
) -> Option<u32> {
    if id == outer || depth > NESTS_MAX {
        return None;
    }
    if let Some(&deep) = known.get(&id) {
        return Some(deep);
    }
    let mut deepest = 0;
    for key in instance(k, id)?.items.keys() {
        if instance(k, key.file).is_some() {
            deepest = deepest.max(down(k, key.file, outer, known, depth + 1)? + 1);
        }
    }
    known.insert(id, deepest);
    Some(deepest)
}

/// How many instances contain each other above this one.
fn up(k: &Kernel, id: FileId, known: &mut BTreeMap<FileId, u32>, depth: u32) -> u32 {
    if depth > NESTS_MAX {
        return depth;
    }
    if let Some(&high) = known.get(&id) {
        return high;
    }
    let mut highest = 0;
    let range = (id, FileId(0), i32::MIN)..=(id, FileId(u32::MAX), i32::MAX);
    for &(_, parent, _) in k.vfs.watches.by_file.range(range) {
        highest = highest.max(up(k, parent, known, depth + 1) + 1);
    }
    known.insert(id, highest);
    highest
}

/// The lines of an instance in `/proc/PID/fdinfo`.
pub(crate) fn info(k: &Kernel, epoll: &Epoll) -> String {
    let mut text = String::new();
    for (key, item) in &epoll.items {
        let ino = file::inode_of(k, key.file).map_or(0, |inode| inode.ino.0);
        text += &format!(
            "tfd: {:8} events: {:8x} data: {:16x}  pos:{} ino:{:x} sdev:{:x}\n",
            key.fd,
            item.events,
            item.data,
            k.vfs.file(key.file).map_or(0, |file| file.offset),
            ino,
            0
        );
    }
    text
}

/// Whether items and watches agree; for invariant checks.
pub(super) fn check(k: &Kernel) -> Result<(), String> {
    let mut items = 0;
    let mut keyed = 0;
    for (id, file) in k.vfs.files.iter() {
        let FileKind::Epoll(epoll) = &file.kind else {
            continue;
        };
        let id = FileId(id);
        let listed = epoll.items.values().filter(|item| item.listed).count();
        if listed != epoll.ready.len() {
            return Err(format!("{id:?}: {listed} items are marked as listed"));
        }
        for (key, item) in &epoll.items {
            items += 1;
            let watched = k.vfs.watches.by_file.contains(&(key.file, id, key.fd));
            if !watched || k.vfs.file(key.file).is_none() {
                return Err(format!("{id:?}: {key:?} is not watched"));
            }
            let Some(on) = item.key else { continue };
            keyed += 1;
            let list = k.vfs.watches.by_key.get(&on);
            let times = list.into_iter().flatten();
            if times
                .filter(|watch| (watch.epoll, watch.item) == (id, *key))
                .count()
                != 1
            {
                return Err(format!("{id:?}: {key:?} does not watch {on:?} once"));
            }
        }
    }
    let watches = &k.vfs.watches;
    let all: usize = watches.by_key.values().map(Vec::len).sum();
    match (items, keyed) == (watches.by_file.len(), all) {
        true => Ok(()),
        false => Err(format!(
            "{items} items, but {} watches",
            watches.by_file.len()
        )),
    }
}
