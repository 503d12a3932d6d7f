//! Asynchronous input and output (io_setup(2)): contexts, the events that wait in them, and requests that wait for a file to become ready.
//!
//! Reads, writes and syncs are made while they are submitted, as Linux does it for every file that it cannot read directly from a device;
//! so what is in flight are polls alone. A context belongs to an address space and is known by the address of a page there. In Linux
//! that is the ring of events; here it holds a header without the magic number, which makes libaio ask the kernel instead.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::String;
use core::ops::Bound::{Excluded, Unbounded};

use super::file::{self, FileId, FileKind};
use super::{eventfd, ready};
use crate::Kernel;
use crate::abi::{Errno, PAGE_SIZE};
use crate::kernel::WaitKey;
use crate::machine::{SpaceId, ThreadId};
use crate::port::Ports;

/// Most events that all contexts were made for (`/proc/sys/fs/aio-max-nr`).
pub(crate) const REQUESTS_MAX: u64 = 65536;
/// Most polls that wait, of all contexts together: Linux lets a small context have more than it was made for.
const POLLS_MAX: usize = 65536;
/// Bytes of `struct io_event` and of the header of a ring.
const EVENT_SIZE: u64 = 32;
const HEADER_SIZE: u64 = 32;

/// A context: its address space and the address there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct ContextId {
    pub space: SpaceId,
    pub addr: u64,
}

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
    pub(crate) fn new(
        k: &Kernel,
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
            key: ready::key(k, thread, file),
        }
    }
}

/// A context.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Context {
    /// What it was made for, and requests and events that it holds at most.
    wanted: u64,
    room: u64,
    events: VecDeque<Event>,
    polls: BTreeMap<u64, Poll>,
    next: u64,
}

/// All contexts.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Aio {
    contexts: BTreeMap<ContextId, Context>,
    /// Sum of what contexts were made for.
    wanted: u64,
    /// Number of polls.
    polls: usize,
    /// Requests that wait, by what they wait for.
    waiting: BTreeSet<(WaitKey, ContextId, u64)>,
    /// What ended requests leave to be done. It is done one by one ([`settle`]), not inside each other: a counter that is told may end
    /// requests that tell the next one.
    ended: VecDeque<Ended>,
}

/// A file that an ended request had a reference on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Ended {
    /// A counter that is to be told first.
    Tell(FileId),
    Drop(FileId),
}

/// Whether a context for so many events can be made: `EINVAL`, `EAGAIN`.
pub(crate) fn check_room(k: &Kernel, events: u32) -> Result<(), Errno> {
    const OVERFLOW: u64 = 0x1000_0000;
    match u64::from(events) {
        0 => Err(Errno::EINVAL),
        events if events > OVERFLOW / EVENT_SIZE => Err(Errno::EINVAL),
        events if k.vfs.aio.wanted + events > REQUESTS_MAX => Err(Errno::EAGAIN),
        _ => Ok(()),
    }
}

/// How many requests Linux lets a context have: what fits into the pages of its ring, which is made for twice as many.
fn room(events: u32, cpus: u32) -> u64 {
    let entries = 2 * u64::from(events).max(4 * u64::from(cpus)) + 2;
    let bytes = (HEADER_SIZE + entries * EVENT_SIZE).next_multiple_of(PAGE_SIZE);
    (bytes - HEADER_SIZE) / EVENT_SIZE - 1
}

/// Adds a context; the room for it has been checked.
pub(crate) fn add(k: &mut Kernel, id: ContextId, events: u32) {
    let context = Context {
        wanted: u64::from(events),
        room: room(events, k.system.cpus),
        events: VecDeque::new(),
        polls: BTreeMap::new(),
        next: 0,
    };
    k.vfs.aio.wanted += context.wanted;
    k.vfs.aio.contexts.insert(id, context);
}

/// A context. `EINVAL`.
pub(crate) fn get(k: &Kernel, id: ContextId) -> Result<&Context, Errno> {
    k.vfs.aio.contexts.get(&id).ok_or(Errno::EINVAL)
}

impl Context {
    /// Number of events that wait to be read.
    pub(crate) fn ready(&self) -> usize {
        self.events.len()
    }

    /// Whether no more requests can be taken.
    pub(crate) fn is_full(&self) -> bool {
        (self.events.len() + self.polls.len()) as u64 >= self.room
    }

    /// Most requests of one call.
    pub(crate) fn room(&self) -> u64 {
        self.room
    }

    /// The events that wait, first ones first.
    pub(crate) fn events(&self) -> impl Iterator<Item = &Event> {
        self.events.iter()
    }
}

/// The program has read this many events.
pub(crate) fn consume(k: &mut Kernel, id: ContextId, count: usize) {
    if let Some(context) = k.vfs.aio.contexts.get_mut(&id) {
        context.events.drain(..count.min(context.events.len()));
    }
}

/// A request has ended. The counter, a reference on which goes over, is told when requests are settled.
pub(crate) fn complete(k: &mut Kernel, id: ContextId, event: Event, tell: Option<FileId>) {
    if let Some(context) = k.vfs.aio.contexts.get_mut(&id) {
        context.events.push_back(event);
    }
    k.vfs.aio.ended.extend(tell.map(Ended::Tell));
    k.wake_threads(WaitKey::Aio(id));
}

/// Whether one more poll can wait. `EAGAIN`.
pub(crate) fn check_polls(k: &Kernel) -> Result<(), Errno> {
    match k.vfs.aio.polls {
        POLLS_MAX.. => Err(Errno::EAGAIN),
        _ => Ok(()),
    }
}

/// Adds a request that ends when its file is ready; one that is ready ends at once. References go over to it.
pub(crate) fn add_poll(k: &mut Kernel, p: &mut Ports<'_>, id: ContextId, poll: Poll) {
    let key = poll.key;
    let Some(context) = k.vfs.aio.contexts.get_mut(&id) else {
        return;
    };
    let number = context.next;
    context.next += 1;
    context.polls.insert(number, poll);
    k.vfs.aio.polls += 1;
    if let Some(key) = key {
        k.vfs.aio.waiting.insert((key, id, number));
    }
    look(k, id, number);
    settle(k, p);
}

/// Ends a request whose file is ready.
fn look(k: &mut Kernel, id: ContextId, number: u64) {
    let poll = k.vfs.aio.contexts.get(&id);
    let Some(poll) = poll.and_then(|context| context.polls.get(&number)) else {
        return;
    };
    match ready::of(k, poll.thread, poll.file, 0) & poll.events {
        0 => {}
        ready => end(k, id, number, i64::from(ready)),
    }
}

fn end(k: &mut Kernel, id: ContextId, number: u64, result: i64) {
    let context = k.vfs.aio.contexts.get_mut(&id);
    let Some(poll) = context.and_then(|context| context.polls.remove(&number)) else {
        return;
    };
    forget(k, id, number, &poll);
    k.vfs.aio.ended.push_back(Ended::Drop(poll.file));
    let event = Event {
        data: poll.data,
        request: poll.request,
        result,
    };
    complete(k, id, event, poll.tell);
}

/// A poll is not in its context any more.
fn forget(k: &mut Kernel, id: ContextId, number: u64, poll: &Poll) {
    k.vfs.aio.polls -= 1;
    if let Some(key) = poll.key {
        k.vfs.aio.waiting.remove(&(key, id, number));
    }
}

/// Something came for a key: the requests that waited for it end, with what came as their result. Counters are told of it, and files given
/// back, before the input is done.
pub(crate) fn announce(k: &mut Kernel, key: WaitKey, events: u16) {
    if k.vfs.aio.waiting.is_empty() {
        return;
    }
    let lowest = ContextId {
        space: SpaceId(0),
        addr: 0,
    };
    let mut seen = (key, lowest, 0);
    // No context has the lowest place, so nothing is passed over.
    while let Some(&next) = k.vfs.aio.waiting.range((Excluded(seen), Unbounded)).next()
        && next.0 == key
    {
        seen = next;
        let (_, id, number) = next;
        let poll = k.vfs.aio.contexts.get(&id);
        let wanted = poll.and_then(|context| context.polls.get(&number));
        let wanted = wanted.map_or(0, |poll| poll.events);
        match events {
            ready::ANY => look(k, id, number),
            events if events & wanted != 0 => end(k, id, number, i64::from(events)),
            _ => {}
        }
    }
}

/// Tells counters of requests that have ended meanwhile, and gives back the files of those.
pub(crate) fn settle(k: &mut Kernel, p: &mut Ports<'_>) {
    while let Some(ended) = k.vfs.aio.ended.pop_front() {
        let id = match ended {
            Ended::Tell(counter) => {
                eventfd::signal(k, counter);
                counter
            }
            Ended::Drop(file) => file,
        };
        file::put(k, p, id);
    }
}

/// Ends a request early (io_cancel(2)): it ends without an event of its file. `EINVAL` if there is none such.
pub(crate) fn cancel(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    id: ContextId,
    request: u64,
) -> Result<(), Errno> {
    let polls = &get(k, id)?.polls;
    let found = polls.iter().find(|(_, poll)| poll.request == request);
    let (&number, _) = found.ok_or(Errno::EINVAL)?;
    end(k, id, number, 0);
    settle(k, p);
    Ok(())
}

/// Removes a context with its requests. `EINVAL`.
pub(crate) fn remove(k: &mut Kernel, p: &mut Ports<'_>, id: ContextId) -> Result<(), Errno> {
    let context = k.vfs.aio.contexts.remove(&id).ok_or(Errno::EINVAL)?;
    k.vfs.aio.wanted -= context.wanted;
    for (number, poll) in context.polls {
        forget(k, id, number, &poll);
        let files = [Some(poll.file), poll.tell].into_iter().flatten();
        k.vfs.aio.ended.extend(files.map(Ended::Drop));
    }
    settle(k, p);
    k.wake_threads(WaitKey::Aio(id));
    Ok(())
}

/// An address space has ended, and its contexts with it.
pub(crate) fn space_gone(k: &mut Kernel, p: &mut Ports<'_>, space: SpaceId) {
    let first = ContextId { space, addr: 0 };
    while let Some((&id, _)) = k.vfs.aio.contexts.range(first..).next()
        && id.space == space
    {
        let _ = remove(k, p, id);
    }
}

/// Files that requests hold; for invariant checks.
pub(super) fn held(k: &Kernel) -> impl Iterator<Item = FileId> + '_ {
    let contexts = k.vfs.aio.contexts.values();
    let polls = contexts.flat_map(|context| context.polls.values());
    polls.flat_map(|poll| [Some(poll.file), poll.tell].into_iter().flatten())
}

/// Whether contexts and what they wait for agree; for invariant checks.
pub(super) fn check(k: &Kernel) -> Result<(), String> {
    let aio = &k.vfs.aio;
    let wanted: u64 = aio.contexts.values().map(|context| context.wanted).sum();
    let polls = aio.contexts.values();
    let count: usize = polls.clone().map(|context| context.polls.len()).sum();
    let polls = polls.flat_map(|context| context.polls.values());
    let keyed = polls.filter(|poll| poll.key.is_some()).count();
    let counted = (aio.wanted, aio.polls, aio.waiting.len());
    match counted == (wanted, count, keyed) && aio.ended.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "events, polls, waiting polls: {counted:?}, not {:?}; {} files are kept by ended ones",
            (wanted, count, keyed),
            aio.ended.len()
        )),
    }
}

/// Whether a file can be told of ends: it is a counter.
pub(crate) fn is_counter(k: &Kernel, id: FileId) -> bool {
    matches!(file::at(k, id).kind, FileKind::EventFd(_))
}
