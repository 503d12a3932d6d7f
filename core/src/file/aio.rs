//! Asynchronous input and output (io_setup(2)): contexts, the events that wait in them, and requests that
//! wait for a file to become ready.
//!
//! Reads, writes and syncs are made while they are submitted, as Linux does it for every file that it cannot
//! read directly from a device; so what is in flight are polls alone. A context belongs to an address space
//! and is known by the address of its ring there (`ring`), into which events go and out of which programs may
//! take them without a call.

mod ring;

use crate::file::caller::FileCallers;
use crate::file::ops;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Bound::{Excluded, Unbounded};

use ring::Ring;

use crate::abi::Errno;
use crate::env::bounds::AIO_REQUESTS_MAX;
pub(crate) use crate::env::ids::ContextId;
use crate::env::settings;
use crate::env::wait::WaitKey;
use crate::file::{FileId, FileKind, Files, eventfd, ready};
use crate::machine::{SpaceId, ThreadId};
use crate::port::Ports;
use crate::{file, slab};

/// Most polls that wait, of all contexts together: Linux lets a small context have more than it was made for.
const POLLS_MAX: usize = 65536;

/// `struct io_event`: what the program gave, its request, the result.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Event {
    pub data: u64,
    pub request: u64,
    pub result: i64,
}

/// A request that has not ended.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Poll {
    /// What the program gave, and the address of its request.
    pub data: u64,
    pub request: u64,
    /// The file, with a reference, and events that end the request.
    pub file: FileId,
    pub events: u16,
    /// A counter that is told of the end, with a reference.
    pub tell: Option<FileId>,
    /// Who asked.
    pub thread: ThreadId,
    key: Option<WaitKey>,
}

impl Poll {
    pub(crate) fn new<K: FileCallers>(
        k: &K,
        (data, request): (u64, u64),
        (file, events): (FileId, u16),
        tell: Option<FileId>,
        thread: ThreadId,
    ) -> Poll {
        Poll {
            data,
            request,
            file,
            events,
            tell,
            thread,
            key: ops::key(k, thread, file),
        }
    }
}

/// A context.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Context {
    /// What it was made for.
    wanted: u64,
    ring: Ring,
    /// Events that are not in the ring yet: what announces them has no way to memory.
    events: VecDeque<Event>,
    polls: BTreeMap<u64, Poll>,
}

/// All contexts.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Aio {
    contexts: BTreeMap<ContextId, Context>,
    /// The number of the next request.
    next: u64,
    /// Contexts by the file of their ring.
    rings: BTreeMap<FileId, ContextId>,
    /// Number that the next ring gets.
    next_ring: u32,
    /// Sum of what contexts were made for.
    wanted: u64,
    /// Number of polls, and of events that are not in a ring yet; where the latter are.
    polls: usize,
    events: usize,
    fresh: Vec<ContextId>,
    /// Requests that wait, by what they wait for.
    waiting: BTreeSet<(WaitKey, ContextId, u64)>,
    /// What ended requests leave to be done. It is done one by one ([`complete_ended`]), not inside each
    /// other: a counter that is told may end requests that tell the next one.
    ended: VecDeque<Ended>,
    /// Announcements that have not come to all who wait for a key, with the last one.
    announced: BTreeMap<WaitKey, (ContextId, u64)>,
    /// Requests of contexts that are gone, and spaces that are gone with theirs.
    left: VecDeque<(ContextId, BTreeMap<u64, Poll>)>,
    gone: VecDeque<SpaceId>,
    /// Keys of files to which these poll events came, in order: their requests are not looked at yet.
    news: Vec<(WaitKey, u16)>,
}

/// Requests and events that are dealt with at once.
const AT_ONCE: usize = 64;

impl Aio {
    /// What came and was not looked at yet: how much.
    pub(crate) fn news(&self) -> usize {
        self.news.len()
    }

    /// Bytes that contexts, requests and events take.
    pub(crate) fn held(&self) -> u64 {
        const CONTEXT_COST: u64 = 512;
        const POLL_COST: u64 = 320;
        let events = self.events * 2 * size_of::<Event>() + self.fresh.len() * 32;
        self.contexts.len() as u64 * CONTEXT_COST + self.polls as u64 * POLL_COST + events as u64
    }
}

/// A file that an ended request had a reference on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Ended {
    /// A counter that is to be told first.
    Tell(FileId),
    Drop(FileId),
}

/// Whether a context for so many events can be made: `EINVAL`, `EAGAIN`.
pub(crate) fn check_room(k: &Files, events: u32) -> Result<(), Errno> {
    const OVERFLOW: u64 = 0x1000_0000;
    let most = k
        .env
        .settings
        .at_most(settings::AIO_EVENTS, AIO_REQUESTS_MAX as usize) as u64;
    match u64::from(events) {
        0 => Err(Errno::EINVAL),
        events if events > OVERFLOW / ring::EVENT_SIZE => Err(Errno::EINVAL),
        events if k.aio.wanted + events > most => Err(Errno::EAGAIN),
        _ => Ok(()),
    }
}

/// Bytes of the ring of a context for so many events.
pub(crate) fn ring_size(k: &Files, events: u32) -> u64 {
    ring::size(events, k.env.cpus)
}

/// Adds a context whose ring is this file, a reference on which goes over; the room for it has been checked.
/// What the ring begins with is written to it: errors of that, and then there is no context.
pub(crate) fn add(
    k: &mut Files,
    p: &mut Ports<'_>,
    id: ContextId,
    events: u32,
    file: FileId,
) -> Result<(), Errno> {
    let number = k.aio.next_ring;
    let ring = Ring::new(file, number, ring_size(k, events));
    if let Err(errno) = ring.begin(k, p) {
        file::put(k, p, file);
        return Err(errno);
    }
    let aio = &mut k.aio;
    aio.next_ring = aio.next_ring.wrapping_add(1);
    aio.rings.insert(file, id);
    let context = Context {
        wanted: u64::from(events),
        ring,
        events: VecDeque::new(),
        polls: BTreeMap::new(),
    };
    aio.wanted += context.wanted;
    aio.contexts.insert(id, context);
    Ok(())
}

/// The context whose ring an open file is.
pub(crate) fn of_ring(k: &Files, file: FileId) -> Option<ContextId> {
    k.aio.rings.get(&file).copied()
}

/// The ring of a context has been moved in its address space: it goes by the new address.
pub(crate) fn moved(k: &mut Files, id: ContextId, addr: u64) {
    let new = ContextId { addr, ..id };
    let Some(context) = k.aio.contexts.remove(&id) else {
        return;
    };
    let aio = &mut k.aio;
    for (&number, poll) in &context.polls {
        if let Some(key) = poll.key {
            aio.waiting.remove(&(key, id, number));
            aio.waiting.insert((key, new, number));
        }
    }
    aio.rings.insert(context.ring.file, new);
    if !context.events.is_empty() {
        aio.fresh.push(new);
    }
    aio.contexts.insert(new, context);
    k.env.wake(WaitKey::Aio(id));
}

/// A context. `EINVAL`.
pub(crate) fn get(k: &Files, id: ContextId) -> Result<&Context, Errno> {
    k.aio.contexts.get(&id).ok_or(Errno::EINVAL)
}

impl Context {
    /// Most requests of one call.
    pub(crate) fn room(&self) -> u64 {
        self.ring.room()
    }

    /// Whether this is the number that the ring begins with.
    pub(crate) fn has_number(&self, number: u32) -> bool {
        self.ring.number == number
    }

    /// Bytes of the ring.
    pub(crate) fn ring_size(&self) -> u64 {
        self.ring.size()
    }
}

/// Puts events of a context that are not in its ring yet there. Without memory for that they stay. `true` if
/// there may be more.
fn fill(k: &mut Files, p: &mut Ports<'_>, id: ContextId) -> bool {
    let Some(context) = k.aio.contexts.get_mut(&id) else {
        return false;
    };
    let (mut ring, mut events) = (context.ring, core::mem::take(&mut context.events));
    let before = events.len();
    let mut more = true;
    while let Some(&event) = events.front()
        && before - events.len() < AT_ONCE
    {
        if ring.push(k, p, event).is_err() {
            more = false;
            break;
        }
        events.pop_front();
    }
    let taken = before - events.len();
    k.env.steps.spend(2 * taken as u64);
    if taken > 0 {
        ring.publish(k, p);
    }
    slab::shrink(&mut events, slab::QUEUE_KEPT);
    if let Some(context) = k.aio.contexts.get_mut(&id) {
        more &= !events.is_empty();
        (context.ring, context.events) = (ring, events);
    }
    k.aio.events -= taken;
    more
}

/// Whether no more requests can be taken; what the program has taken out of the ring makes room. `EINVAL`
/// without context.
pub(crate) fn is_full(k: &mut Files, p: &mut Ports<'_>, id: ContextId) -> Result<bool, Errno> {
    let mut ring = get(k, id)?.ring;
    ring.look(k, p)?;
    if let Some(context) = k.aio.contexts.get_mut(&id) {
        context.ring = ring;
    }
    let context = get(k, id)?;
    let others = context.events.len() + context.polls.len();
    Ok(ring.held() + others as u64 >= ring.room())
}

/// Number of events in the ring of a context. `EINVAL` without context.
pub(crate) fn ready(k: &mut Files, p: &mut Ports<'_>, id: ContextId) -> Result<u64, Errno> {
    fill(k, p, id);
    let ring = get(k, id)?.ring;
    ring.len(k, p)
}

/// The event of a context that comes first; it stays in the ring.
pub(crate) fn first(
    k: &mut Files,
    p: &mut Ports<'_>,
    id: ContextId,
) -> Result<Option<[u64; 4]>, Errno> {
    let ring = get(k, id)?.ring;
    ring.first(k, p)
}

/// Takes the event that comes first out of the ring.
pub(crate) fn consume(k: &mut Files, p: &mut Ports<'_>, id: ContextId) -> Result<(), Errno> {
    let ring = get(k, id)?.ring;
    ring.pop(k, p)
}

/// A request has ended. The counter, a reference on which goes over, is told by [`complete_ended`].
pub(crate) fn complete(k: &mut Files, id: ContextId, event: Event, tell: Option<FileId>) {
    if let Some(context) = k.aio.contexts.get_mut(&id) {
        context.events.push_back(event);
        k.aio.events += 1;
        k.aio.fresh.push(id);
    }
    k.aio.ended.extend(tell.map(Ended::Tell));
    k.env.wake(WaitKey::Aio(id));
}

/// Whether one more poll can wait. `EAGAIN`.
pub(crate) fn check_polls(k: &Files) -> Result<(), Errno> {
    match k.aio.polls {
        POLLS_MAX.. => Err(Errno::EAGAIN),
        _ => Ok(()),
    }
}

/// Adds a request that ends when its file is ready; one that is ready ends at once. References go over to it.
pub(crate) fn add_poll<K: FileCallers>(k: &mut K, p: &mut Ports<'_>, id: ContextId, poll: Poll) {
    let key = poll.key;
    let number = k.files().aio.next;
    let Some(context) = k.files_mut().aio.contexts.get_mut(&id) else {
        return;
    };
    context.polls.insert(number, poll);
    k.files_mut().aio.next += 1;
    k.files_mut().aio.polls += 1;
    if let Some(key) = key {
        k.files_mut().aio.waiting.insert((key, id, number));
    }
    look(k, id, number);
    complete_ended(k, p);
}

/// Ends a request whose file is ready.
fn look<K: FileCallers>(k: &mut K, id: ContextId, number: u64) {
    let poll = k.files().aio.contexts.get(&id);
    let Some(poll) = poll.and_then(|context| context.polls.get(&number)) else {
        return;
    };
    match ops::ready(k, poll.thread, poll.file, 0) & poll.events {
        0 => {}
        ready => end(k.files_mut(), id, number, i64::from(ready)),
    }
}

fn end(k: &mut Files, id: ContextId, number: u64, result: i64) {
    let context = k.aio.contexts.get_mut(&id);
    let Some(poll) = context.and_then(|context| context.polls.remove(&number)) else {
        return;
    };
    forget(k, id, number, &poll);
    k.aio.ended.push_back(Ended::Drop(poll.file));
    let event = Event {
        data: poll.data,
        request: poll.request,
        result,
    };
    complete(k, id, event, poll.tell);
}

/// A poll is not in its context any more.
fn forget(k: &mut Files, id: ContextId, number: u64, poll: &Poll) {
    k.aio.polls -= 1;
    if let Some(key) = poll.key {
        k.aio.waiting.remove(&(key, id, number));
    }
}

/// Something came for a key: the requests that waited for it end, with what came as their result. Counters
/// are told of it, and files given back, before the input is done. Where many wait, some are looked at later.
pub(crate) fn announce(k: &mut Files, key: WaitKey, events: u16) {
    if !k.aio.waiting.is_empty() {
        k.aio.news.push((key, events));
        k.env.left = true;
    }
}

/// Deals with what came since the last time ([`announce`]).
pub(crate) fn take_news<K: FileCallers>(k: &mut K) {
    if k.files().aio.news.is_empty() {
        return;
    }
    for (key, events) in core::mem::take(&mut k.files_mut().aio.news) {
        came(k, key, events);
    }
}

fn came<K: FileCallers>(k: &mut K, key: WaitKey, events: u16) {
    let lowest = ContextId {
        space: SpaceId(0),
        addr: 0,
    };
    let mut seen = (key, lowest, 0);
    let mut left = AT_ONCE;
    // No context has the lowest place, so nothing is passed over.
    while let Some(next) = next_waiting(k.files(), seen) {
        if left == 0 {
            let (_, id, number) = seen;
            k.files_mut().aio.announced.insert(key, (id, number));
            return;
        }
        left -= 1;
        k.files_mut().env.steps.spend(2);
        seen = next;
        let (_, id, number) = next;
        let poll = k.files().aio.contexts.get(&id);
        let wanted = poll.and_then(|context| context.polls.get(&number));
        let wanted = wanted.map_or(0, |poll| poll.events);
        match events {
            ready::ANY => look(k, id, number),
            events if events & wanted != 0 => end(k.files_mut(), id, number, i64::from(events)),
            _ => {}
        }
    }
}

/// The next request that waits for the same behind one.
fn next_waiting(k: &Files, seen: (WaitKey, ContextId, u64)) -> Option<(WaitKey, ContextId, u64)> {
    let mut behind = k.aio.waiting.range((Excluded(seen), Unbounded));
    behind.next().copied().filter(|next| next.0 == seen.0)
}

/// Goes on with announcements that have not come to all, and with contexts that have gone; `false` if there
/// is nothing to do.
pub(crate) fn go_on<K: FileCallers>(k: &mut K, p: &mut Ports<'_>) -> bool {
    k.files_mut().env.steps.spend(1);
    if let Some((key, (id, number))) = k.files_mut().aio.announced.pop_first() {
        let mut seen = (key, id, number);
        for _ in 0..AT_ONCE {
            let Some(next) = next_waiting(k.files(), seen) else {
                return true;
            };
            seen = next;
            k.files_mut().env.steps.spend(4);
            look(k, next.1, next.2);
        }
        k.files_mut().aio.announced.insert(key, (seen.1, seen.2));
        return true;
    }
    if let Some((id, mut polls)) = k.files_mut().aio.left.pop_front() {
        for _ in 0..AT_ONCE {
            let Some((number, poll)) = polls.pop_first() else {
                return true;
            };
            k.files_mut().env.steps.spend(4);
            forget(k.files_mut(), id, number, &poll);
            let files = [Some(poll.file), poll.tell].into_iter().flatten();
            k.files_mut().aio.ended.extend(files.map(Ended::Drop));
        }
        k.files_mut().aio.left.push_front((id, polls));
        return true;
    }
    let Some(&space) = k.files().aio.gone.front() else {
        return false;
    };
    let first = ContextId { space, addr: 0 };
    let next = k.files().aio.contexts.range(first..).next();
    match next.map(|(&id, _)| id).filter(|id| id.space == space) {
        Some(id) => {
            k.files_mut().env.steps.spend(16);
            let _ = remove(k, p, id); // it was there just now
        }
        None => {
            k.files_mut().aio.gone.pop_front();
        }
    }
    true
}

/// Whether [`go_on`] and [`complete_ended`] have nothing to do.
pub(crate) fn is_done(k: &Files) -> bool {
    let aio = &k.aio;
    let quiet = aio.announced.is_empty() && aio.left.is_empty() && aio.gone.is_empty();
    quiet && aio.fresh.is_empty() && aio.ended.is_empty()
}

/// Puts events of requests that have ended meanwhile into their rings, tells counters of them, and gives back
/// the files of those, as long as steps are left.
pub(crate) fn complete_ended<K: FileCallers>(k: &mut K, p: &mut Ports<'_>) {
    while k.files().env.steps.left() > 0 {
        if let Some(id) = k.files_mut().aio.fresh.pop() {
            if fill(k.files_mut(), p, id) {
                k.files_mut().aio.fresh.push(id);
                k.files_mut().env.wake(WaitKey::Aio(id));
            }
            continue;
        }
        let Some(ended) = k.files_mut().aio.ended.pop_front() else {
            break;
        };
        k.files_mut().env.steps.spend(4);
        let id = match ended {
            Ended::Tell(counter) => {
                eventfd::signal(k.files_mut(), counter);
                take_news(k);
                counter
            }
            Ended::Drop(file) => file,
        };
        file::put(k.files_mut(), p, id);
    }
}

/// Ends a request early (io_cancel(2)): it ends without an event of its file. `EINVAL` if there is none such.
pub(crate) fn cancel<K: FileCallers>(
    k: &mut K,
    p: &mut Ports<'_>,
    id: ContextId,
    request: u64,
) -> Result<(), Errno> {
    let polls = &get(k.files(), id)?.polls;
    let found = polls.iter().find(|(_, poll)| poll.request == request);
    let (&number, _) = found.ok_or(Errno::EINVAL)?;
    end(k.files_mut(), id, number, 0);
    complete_ended(k, p);
    Ok(())
}

/// Removes a context with its requests. `EINVAL`.
pub(crate) fn remove<K: FileCallers>(
    k: &mut K,
    p: &mut Ports<'_>,
    id: ContextId,
) -> Result<(), Errno> {
    let context = k
        .files_mut()
        .aio
        .contexts
        .remove(&id)
        .ok_or(Errno::EINVAL)?;
    k.files_mut().aio.wanted -= context.wanted;
    k.files_mut().aio.events -= context.events.len();
    k.files_mut().aio.rings.remove(&context.ring.file);
    k.files_mut()
        .aio
        .ended
        .push_back(Ended::Drop(context.ring.file));
    if !context.polls.is_empty() {
        k.files_mut().aio.left.push_back((id, context.polls));
    }
    while !k.files().aio.left.is_empty() && k.files().env.steps.left() > 0 && go_on(k, p) {}
    complete_ended(k, p);
    k.files_mut().env.wake(WaitKey::Aio(id));
    Ok(())
}

/// An address space has ended, and its contexts with it.
pub(crate) fn space_gone(k: &mut Files, space: SpaceId) {
    if !k.aio.contexts.is_empty() {
        k.aio.gone.push_back(space);
    }
}

/// Files that requests hold; for invariant checks.
pub(crate) fn held(k: &Files) -> impl Iterator<Item = FileId> + '_ {
    let contexts = k.aio.contexts.values();
    let rings = contexts.clone().map(|context| context.ring.file);
    let left = k.aio.left.iter().flat_map(|(_, polls)| polls.values());
    let polls = contexts.flat_map(|context| context.polls.values());
    let ended = k.aio.ended.iter().map(|ended| match *ended {
        Ended::Tell(file) | Ended::Drop(file) => file,
    });
    let rings = rings.chain(ended);
    let files = polls
        .chain(left)
        .flat_map(|poll| [Some(poll.file), poll.tell].into_iter().flatten());
    rings.chain(files)
}

/// Whether contexts and what they wait for agree; for invariant checks.
pub(crate) fn check(k: &Files) -> Result<(), String> {
    let aio = &k.aio;
    let wanted: u64 = aio.contexts.values().map(|context| context.wanted).sum();
    let polls = aio.contexts.values();
    let left = aio.left.iter().map(|(_, polls)| polls);
    let polls = polls.map(|context| &context.polls).chain(left);
    let count: usize = polls.clone().map(BTreeMap::len).sum();
    let polls = polls.flat_map(BTreeMap::values);
    let keyed = polls.filter(|poll| poll.key.is_some()).count();
    let events = aio.contexts.values().map(|context| context.events.len());
    let counted = (aio.wanted, aio.polls, aio.waiting.len());
    let rings = aio.contexts.iter();
    let rings: BTreeMap<_, _> = rings
        .map(|(&id, context)| (context.ring.file, id))
        .collect();
    let events_counted = events.sum::<usize>() == aio.events && rings == aio.rings;
    match counted == (wanted, count, keyed) && events_counted {
        true => Ok(()),
        false => Err(format!(
            "events, polls, waiting polls: {counted:?}, not {:?}",
            (wanted, count, keyed),
        )),
    }
}

/// Whether a file can be told of ends: it is a counter.
pub(crate) fn is_counter(k: &Files, id: FileId) -> bool {
    matches!(file::at(k, id).kind, FileKind::EventFd(_))
}
