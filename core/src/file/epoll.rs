//! Interest in many files (epoll(7)).
//!
//! An instance has items, one for each (open file, descriptor number), and a list of those that may be ready.
//! [`announce`] puts items on that list when their file says that something came: that is the edge, and only
//! listed items are looked at, so that waiting costs what is ready and not what is watched. A level-triggered
//! item that was ready goes back to the end of the list.

use super::ops::{Closing, FileOps, OpenFile};
use crate::file::caller::FileCallers;
use crate::file::ops;
use crate::port::Ports;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::String;

use crate::abi::Errno;
use crate::args::EpollEvents;
use crate::env::bounds::EPOLL_WATCHES_MAX;
use crate::env::cx::Cx;
use crate::env::settings;
use crate::env::wait::WaitKey;
use crate::file::{FileId, FileKind, Files, ready};
use crate::machine::ThreadId;
use crate::{file, slab};

/// Deepest nesting of instances, minus one (`EP_MAX_NESTS`).
pub(crate) const NESTS_MAX: u32 = 4;

/// Flags of an item that are no events; with only these left it is disabled (`EP_PRIVATE_BITS`).
pub(crate) const PRIVATE: EpollEvents = EpollEvents::WAKEUP
    .union(EpollEvents::ONESHOT)
    .union(EpollEvents::ET)
    .union(EpollEvents::EXCLUSIVE);

/// What an item is known by: the file, and the descriptor it was added as.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct ItemKey {
    pub file: FileId,
    pub fd: i32,
}

/// Interest in one file.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Item {
    pub events: EpollEvents,
    pub data: u64,
    /// Where the file's changes are announced, and which of them concern it.
    key: Option<WaitKey>,
    concerns: u16,
    /// Its place among those that watch the same.
    order: u64,
    /// The number of its entry on the ready list; 0 if it is not there.
    listed: u64,
}

/// An instance.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Epoll {
    items: BTreeMap<ItemKey, Item>,
    /// Those that may be ready, with the numbers of the entries. One whose item has gone, or has another
    /// number, counts for nothing.
    ready: VecDeque<(u64, ItemKey)>,
    /// How many count, and the number of the last one.
    listed: usize,
    entries: u64,
    /// Items of the host's streams, which the host must be asked about.
    streams: BTreeSet<ItemKey>,
    /// The last announcement that came here.
    stamp: u64,
}

/// An item that watches a key: which key, whether exclusively, and its order among the others of the key.
type Watch = (WaitKey, bool, u64);

/// Which items watch what.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Watches {
    /// By key in the order they were added; exclusive ones are last.
    by_key: BTreeMap<Watch, (FileId, ItemKey)>,
    added: u64,
    /// File, instance and descriptor of every item.
    by_file: BTreeSet<(FileId, FileId, i32)>,
    stamp: u64,
    /// Announcements that have not come to all watches of their key.
    under_way: BTreeMap<WaitKey, Spreading>,
}

/// An announcement on its way through the watches of a key.
#[derive(Clone, Copy, Debug, Hash)]
struct Spreading {
    events: u16,
    /// The last watch that was told, and whether an exclusive one has taken it.
    last: Watch,
    taken: bool,
    /// How many instances it came through.
    depth: u32,
    /// Events that came meanwhile: they go round afterwards.
    again: u16,
}

impl Spreading {
    fn new(key: WaitKey, events: u16, depth: u32) -> Spreading {
        Spreading {
            events,
            last: (key, false, 0),
            taken: false,
            depth,
            again: 0,
        }
    }
}

/// Watches that an announcement comes to at once.
const TOLD_AT_ONCE: u32 = 256;
/// Items that are taken away, or looked at, at once.
const ITEMS_AT_ONCE: usize = 64;

impl Watches {
    /// Bytes that all items take, with their places in instances and indexes.
    pub(crate) fn held(&self) -> u64 {
        const ITEM_COST: u64 = 384;
        self.by_file.len() as u64 * ITEM_COST
    }
}

fn instance(k: &Files, id: FileId) -> Option<&Epoll> {
    match &k.file(id)?.kind {
        FileKind::Epoll(epoll) => Some(epoll),
        _ => None,
    }
}

fn instance_mut(k: &mut Files, id: FileId) -> Option<&mut Epoll> {
    match &mut k.open.get_mut(id.0)?.kind {
        FileKind::Epoll(epoll) => Some(epoll),
        _ => None,
    }
}

fn item_mut(k: &mut Files, epoll: FileId, item: ItemKey) -> Option<&mut Item> {
    instance_mut(k, epoll)?.items.get_mut(&item)
}

/// An item's flags and events.
pub(crate) fn events(k: &Files, epoll: FileId, item: ItemKey) -> Option<EpollEvents> {
    instance(k, epoll)?.items.get(&item).map(|item| item.events)
}

/// Adds an item. `ELOOP` if instances would contain each other or be nested too deep, `ENOSPC`.
pub(crate) fn add<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    epoll: FileId,
    item: ItemKey,
    events: EpollEvents,
    data: u64,
) -> Result<(), Errno> {
    let most =
        cx.k.files()
            .env
            .settings
            .at_most(settings::EPOLL_WATCHES, EPOLL_WATCHES_MAX);
    if cx.k.files().watches.by_file.len() >= most {
        return Err(Errno::ENOSPC);
    }
    let key = ops::key(cx.k, cx.thread, item.file);
    let watched = file::at(cx.k.files(), item.file);
    let concerns = ops::concerns(watched);
    let stream = matches!(watched.kind, FileKind::HostStream(_));
    let Some(instance) = instance_mut(cx.k.files_mut(), epoll) else {
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
        order: 0,
        listed: 0,
    };
    instance.items.insert(item, entry);
    let watches = &mut cx.k.files_mut().watches;
    watches.by_file.insert((item.file, epoll, item.fd));
    watches.added += 1;
    let order = watches.added;
    if let Some(key) = key {
        let exclusive = events.contains(EpollEvents::EXCLUSIVE);
        watches
            .by_key
            .insert((key, exclusive, order), (epoll, item));
    }
    if let Some(entry) = item_mut(cx.k.files_mut(), epoll, item) {
        entry.order = order;
    }
    look(cx.k, cx.thread, epoll, item);
    Ok(())
}

/// Changes an item.
pub(crate) fn modify<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    epoll: FileId,
    item: ItemKey,
    events: EpollEvents,
    data: u64,
) {
    if let Some(entry) = item_mut(cx.k.files_mut(), epoll, item) {
        (entry.events, entry.data) = (events, data);
    }
    look(cx.k, cx.thread, epoll, item);
}

/// Lists an item that is ready now.
fn look<K: FileCallers>(k: &mut K, thread: ThreadId, epoll: FileId, item: ItemKey) {
    let now = ready_of(k, thread, item.file, 0);
    let Some(entry) = item_mut(k.files_mut(), epoll, item) else {
        return;
    };
    if EpollEvents::of_poll(now).intersects(entry.events - PRIVATE) {
        list(k.files_mut(), epoll, item);
        k.files_mut().notify(WaitKey::File(epoll), ready::IN);
    }
}

fn list(k: &mut Files, epoll: FileId, item: ItemKey) {
    let Some(instance) = instance_mut(k, epoll) else {
        return;
    };
    if let Some(entry) = instance.items.get_mut(&item)
        && entry.listed == 0
    {
        instance.entries += 1;
        entry.listed = instance.entries;
        instance.listed += 1;
        instance.ready.push_back((entry.listed, item));
    }
}

impl Epoll {
    /// Whether an entry of the ready list counts.
    fn counts(&self, (number, key): (u64, ItemKey)) -> bool {
        let item = self.items.get(&key);
        item.is_some_and(|item| item.listed == number)
    }

    /// An item that is listed goes. Its entry stays; once most of them count for nothing, those are thrown
    /// away together.
    fn unlist(&mut self) {
        self.listed -= 1;
        if self.ready.len() > 2 * self.listed + slab::QUEUE_KEPT {
            let mut ready = core::mem::take(&mut self.ready);
            ready.retain(|&entry| self.counts(entry));
            self.ready = ready;
            slab::shrink(&mut self.ready, slab::QUEUE_KEPT);
        }
    }
}

/// Removes an item.
pub(crate) fn remove(k: &mut Files, epoll: FileId, item: ItemKey) {
    let Some(instance) = instance_mut(k, epoll) else {
        return;
    };
    instance.streams.remove(&item);
    let Some(entry) = instance.items.remove(&item) else {
        return;
    };
    if entry.listed > 0 {
        instance.unlist();
    }
    unwatch(k, epoll, item, &entry);
}

fn unwatch(k: &mut Files, epoll: FileId, item: ItemKey, entry: &Item) {
    let watches = &mut k.watches;
    watches.by_file.remove(&(item.file, epoll, item.fd));
    if let Some(key) = entry.key {
        // Whether it is exclusive never changes, but what it wants besides may all be gone (`EPOLLONESHOT`).
        let exclusive = entry.events.contains(EpollEvents::EXCLUSIVE);
        watches.by_key.remove(&(key, exclusive, entry.order));
    }
}

/// A file has been closed for the last time: takes some of the items away that watch it. `true` if there are
/// none left.
pub(crate) fn forget_watchers(k: &mut Files, id: FileId) -> bool {
    for _ in 0..ITEMS_AT_ONCE {
        let range = (id, FileId(0), i32::MIN)..=(id, FileId(u32::MAX), i32::MAX);
        let Some(&(file, epoll, fd)) = k.watches.by_file.range(range).next() else {
            return true;
        };
        k.env.steps.spend(4);
        remove(k, epoll, ItemKey { file, fd });
    }
    false
}

/// Whether an instance has so many items that they are not taken away at once.
pub(crate) fn is_large(epoll: &Epoll) -> bool {
    epoll.items.len() > ITEMS_AT_ONCE
}

/// An instance has been closed: takes some of its items away. `true` if there are none left.
pub(crate) fn empty(k: &mut Files, id: FileId) -> bool {
    for _ in 0..ITEMS_AT_ONCE {
        let first = instance(k, id).and_then(|epoll| epoll.items.first_key_value());
        let Some((&item, _)) = first else {
            return true;
        };
        k.env.steps.spend(4);
        remove(k, id, item);
    }
    false
}

/// Something came for a key: lists the items that want it, wakes who waits for their instances, and goes on
/// to instances that watch those. Each instance is told once. Where many watch, some are told later.
pub(crate) fn announce(k: &mut Files, key: WaitKey, events: u16) {
    if k.watches.by_key.is_empty() {
        return;
    }
    k.watches.stamp += 1;
    spread(k, key, events, 0, &mut { TOLD_AT_ONCE });
}

/// Goes on with announcements that have not come to all; `false` if there are none.
pub(crate) fn go_on(k: &mut Files) -> bool {
    let watches = &mut k.watches;
    let Some((key, spreading)) = watches.under_way.pop_first() else {
        return false;
    };
    watches.stamp += 1;
    k.env.steps.spend(1);
    tell(k, key, spreading, &mut { TOLD_AT_ONCE / 4 });
    true
}

/// Whether all have been told of everything.
pub(crate) fn is_done(k: &Files) -> bool {
    k.watches.under_way.is_empty()
}

fn spread(k: &mut Files, key: WaitKey, events: u16, depth: u32, left: &mut u32) {
    if depth > NESTS_MAX + 1 {
        return;
    }
    if let Some(spreading) = k.watches.under_way.get_mut(&key) {
        spreading.again |= events;
        return;
    }
    tell(k, key, Spreading::new(key, events, depth), left);
}

/// Goes through watches of a key, as many as are left to be told now.
fn tell(k: &mut Files, key: WaitKey, mut now: Spreading, left: &mut u32) {
    use core::ops::Bound::{Excluded, Included};
    let end = (key, true, u64::MAX);
    let next = |k: &Files, last: Watch| {
        let mut rest = k.watches.by_key.range((Excluded(last), Included(end)));
        rest.next().map(|(&watch, &of)| (watch, of))
    };
    while let Some((watch, (epoll, item))) = next(k, now.last) {
        let (_, exclusive, _) = watch;
        if exclusive && now.taken {
            break;
        }
        if *left == 0 {
            k.watches.under_way.insert(key, now);
            return;
        }
        *left -= 1;
        k.env.steps.spend(2);
        now.last = watch;
        let Some(entry) = item_mut(k, epoll, item) else {
            continue;
        };
        let wanted = entry.events - PRIVATE;
        let came = now.events & entry.concerns;
        let reached = EpollEvents::of_poll(came).intersects(wanted);
        if wanted.is_empty() || now.events != ready::ANY && !reached {
            continue;
        }
        list(k, epoll, item);
        let key = WaitKey::File(epoll);
        if exclusive && k.env.queues.waiters(key).next().is_some() {
            now.taken = true;
        }
        let stamp = k.watches.stamp;
        if let Some(instance) = instance_mut(k, epoll)
            && core::mem::replace(&mut instance.stamp, stamp) != stamp
        {
            k.env.wake(key);
            spread(k, key, ready::IN, now.depth + 1, left);
        }
    }
    if now.again != 0 {
        let again = Spreading::new(key, now.again, now.depth);
        k.watches.under_way.insert(key, again);
    }
}

/// What an item's file is ready for: nothing, if it is closed.
fn ready_of<K: FileCallers>(k: &K, thread: ThreadId, id: FileId, depth: u32) -> u16 {
    match k.files().file(id).is_some_and(|file| file.refs() > 0) {
        true => ops::ready(k, thread, id, depth),
        false => 0,
    }
}

/// Whether an instance has an item that is ready, or so many listed ones that it may.
pub(crate) fn any_ready<K: FileCallers>(k: &K, thread: ThreadId, id: FileId, depth: u32) -> bool {
    let Some(instance) = instance(k.files(), id) else {
        return false;
    };
    if depth > NESTS_MAX {
        return false;
    }
    let is_ready = |&(number, ref key): &(u64, ItemKey)| {
        if !instance.counts((number, *key)) {
            return false;
        }
        let item = instance.items.get(key);
        let events = item.map_or(EpollEvents::empty(), |item| item.events);
        let ready = ready_of(k, thread, key.file, depth + 1);
        EpollEvents::of_poll(ready).intersects(events - PRIVATE)
    };
    // Those that are not ready any more leave the list when the instance is waited for. Behind many of them
    // something may be: whoever waits finds out.
    let mut listed = instance.ready.iter();
    listed.by_ref().take(ITEMS_AT_ONCE).any(is_ready) || listed.next().is_some()
}

/// An event for the program.
pub(crate) struct Event {
    item: ItemKey,
    pub events: EpollEvents,
    pub data: u64,
}

/// Number of items on the ready list.
pub(crate) fn listed(k: &Files, id: FileId) -> usize {
    instance(k, id).map_or(0, |instance| instance.listed)
}

/// Takes the next item from the ready list: what it is ready for, or `None` if it is not any more.
pub(crate) fn next<K: FileCallers>(k: &mut K, thread: ThreadId, id: FileId) -> Option<Event> {
    let instance = instance_mut(k.files_mut(), id)?;
    let item = loop {
        let entry = instance.ready.pop_front()?;
        if instance.counts(entry) {
            break entry.1;
        }
    };
    slab::shrink(&mut instance.ready, slab::QUEUE_KEPT);
    instance.listed -= 1;
    if let Some(entry) = instance.items.get_mut(&item) {
        entry.listed = 0;
    }
    let now = ready_of(k, thread, item.file, 0);
    if now & ready::PRI != 0 {
        ops::told(k, thread, item.file);
    }
    let entry = item_mut(k.files_mut(), id, item)?;
    match EpollEvents::of_poll(now) & (entry.events - PRIVATE) {
        none if none.is_empty() => None,
        events => Some(Event {
            item,
            events,
            data: entry.data,
        }),
    }
}

/// The program could not be told: the item comes first again.
pub(crate) fn put_back(k: &mut Files, id: FileId, event: &Event) {
    if let Some(instance) = instance_mut(k, id)
        && let Some(entry) = instance.items.get_mut(&event.item)
    {
        instance.entries += 1;
        entry.listed = instance.entries;
        instance.listed += 1;
        instance.ready.push_front((entry.listed, event.item));
    }
}

/// The program was told: disables the item (`EPOLLONESHOT`), leaves it until the next edge (`EPOLLET`), or
/// lists it again.
pub(crate) fn told(k: &mut Files, id: FileId, event: &Event) {
    let Some(entry) = item_mut(k, id, event.item) else {
        return;
    };
    if entry.events.contains(EpollEvents::ONESHOT) {
        entry.events &= PRIVATE;
    } else if !entry.events.contains(EpollEvents::ET) {
        list(k, id, event.item);
    }
}

/// The first enabled item that wants input from a stream of the host: the stream and the item.
pub(crate) fn stream(k: &Files, id: FileId) -> Option<(u8, Event)> {
    let instance = instance(k, id)?;
    instance.streams.iter().find_map(|key| {
        let item = instance.items.get(key)?;
        let events =
            (item.events - PRIVATE) & EpollEvents::of_poll(ready::IN | ready::HUP | ready::ERR);
        let FileKind::HostStream(stream) = k.file(key.file)?.kind else {
            return None;
        };
        let event = Event {
            item: *key,
            events,
            data: item.data,
        };
        events
            .intersects(EpollEvents::of_poll(ready::IN))
            .then_some((stream, event))
    })
}

/// Whether `inner` may be added to `outer`. `ELOOP` if it contains it, or the nesting is too deep.
pub(crate) fn check_nesting(k: &Files, outer: FileId, inner: FileId) -> Result<(), Errno> {
    let below = down(k, inner, outer, &mut BTreeMap::new(), 0).ok_or(Errno::ELOOP)?;
    let above = up(k, outer, &mut BTreeMap::new(), 0);
    match below + 1 + above > NESTS_MAX {
        true => Err(Errno::ELOOP),
        false => Ok(()),
    }
}

/// How many instances are below each other in this one; `None` if one is `outer` or there are too many.
fn down(
    k: &Files,
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
fn up(k: &Files, id: FileId, known: &mut BTreeMap<FileId, u32>, depth: u32) -> u32 {
    if depth > NESTS_MAX {
        return depth;
    }
    if let Some(&high) = known.get(&id) {
        return high;
    }
    let mut highest = 0;
    let range = (id, FileId(0), i32::MIN)..=(id, FileId(u32::MAX), i32::MAX);
    for &(_, parent, _) in k.watches.by_file.range(range) {
        highest = highest.max(up(k, parent, known, depth + 1) + 1);
    }
    known.insert(id, highest);
    highest
}

/// The line of an instance's item behind one in `/proc/PID/fdinfo`: which that is.
pub(crate) fn info(k: &Files, id: FileId, last: Option<ItemKey>) -> Option<(ItemKey, String)> {
    use core::ops::Bound::{Excluded, Unbounded};
    let from = last.map_or(Unbounded, Excluded);
    let (&key, item) = instance(k, id)?.items.range((from, Unbounded)).next()?;
    let inode = file::inode_of(k, key.file).ok();
    let (ino, dev) = inode.map_or((0, 0), |inode| (inode.ino.0, inode.fs.0 + 1));
    let line = format!(
        "tfd: {:8} events: {:8x} data: {:16x}  pos:{} ino:{:x} sdev:{:x}\n",
        key.fd,
        item.events.bits(),
        item.data,
        k.file(key.file).map_or(0, |file| file.offset),
        ino,
        dev
    );
    Some((key, line))
}

/// Whether items and watches agree; for invariant checks.
pub(crate) fn check(k: &Files) -> Result<(), String> {
    let mut items = 0;
    let mut keyed = 0;
    for (id, file) in k.open.iter() {
        let FileKind::Epoll(epoll) = &file.kind else {
            continue;
        };
        let id = FileId(id);
        let listed = epoll.items.values().filter(|item| item.listed > 0).count();
        let count = epoll.ready.iter().filter(|&&entry| epoll.counts(entry));
        if (listed, listed) != (epoll.listed, count.count()) {
            return Err(format!("{id:?}: {listed} items are marked as listed"));
        }
        for (key, item) in &epoll.items {
            items += 1;
            let watched = k.watches.by_file.contains(&(key.file, id, key.fd));
            if !watched || k.file(key.file).is_none() {
                return Err(format!("{id:?}: {key:?} is not watched"));
            }
            let Some(on) = item.key else { continue };
            keyed += 1;
            let exclusive = item.events.contains(EpollEvents::EXCLUSIVE);
            let watch = (on, exclusive, item.order);
            if k.watches.by_key.get(&watch) != Some(&(id, *key)) {
                return Err(format!("{id:?}: {key:?} does not watch {on:?} once"));
            }
        }
    }
    let watches = &k.watches;
    let all = watches.by_key.len();
    match (items, keyed) == (watches.by_file.len(), all) {
        true => Ok(()),
        false => Err(format!(
            "{items} items, but {} watches",
            watches.by_file.len()
        )),
    }
}

/// An instance.
pub(super) struct Ops;

impl OpenFile for Ops {
    // It has requests of its own, and this answer to others (`ep_eventpoll_ioctl()`).
    const NO_REQUEST: Errno = Errno::EINVAL;
    const HOLDS: bool = true;

    fn closing(k: &mut Files, id: FileId) -> Closing {
        match instance(k, id).is_some_and(is_large) {
            true => Closing::InPieces,
            false => Closing::AtOnce,
        }
    }

    fn empty(k: &mut Files, _p: &mut Ports<'_>, id: FileId) -> bool {
        empty(k, id)
    }
}

impl<K: FileCallers> FileOps<K> for Ops {
    fn ready(k: &K, thread: ThreadId, id: FileId, depth: u32) -> u16 {
        match any_ready(k, thread, id, depth) {
            true => ready::IN,
            false => 0,
        }
    }

    fn key(_k: &K, _thread: ThreadId, id: FileId) -> Option<WaitKey> {
        Some(WaitKey::File(id))
    }
}
