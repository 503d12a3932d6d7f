//! Message queues (msgget(2), msgop(2)).

use crate::file::caller::FileCallers;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::{Object, ObjectId, Perm, limits};
use crate::abi::Errno;
use crate::args::IpcGetFlags;
use crate::env::cx::Cx;
use crate::env::wait::WaitKey;
use crate::file::Files;

/// Limits (`/proc/sys/kernel/msgmax`, `msgmnb`, `msgmni`).
pub(crate) const MESSAGE_MAX: u64 = 8192;
pub(crate) const QUEUE_BYTES: u64 = 16384;
pub(crate) const QUEUES_MAX: usize = 32000;
/// Most bytes in all queues, with what is kept beside each message.
const ALL_MAX: u64 = 64 << 20;
/// Longest message, and most messages of a queue, whatever the limits of a namespace allow: the one is copied
/// at once, the others are looked through.
pub(crate) const LONGEST: u64 = 1 << 20;
const COUNT_MAX: u64 = 65536;
const MESSAGE_COST: u64 = 48;
/// Messages that an empty queue keeps memory for.
const KEPT: usize = 16;

/// A message.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Message {
    pub kind: i64,
    pub text: Vec<u8>,
}

/// A queue.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Queue {
    pub perm: Perm,
    messages: VecDeque<Message>,
    /// Bytes in it, and most.
    pub bytes: u64,
    pub bytes_max: u64,
    /// Seconds: last sent, received, changed.
    pub sent: i64,
    pub received: i64,
    pub changed: i64,
    /// Processes that sent and received last.
    pub sender: u32,
    pub receiver: u32,
}

impl Object for Queue {
    fn perm(&self) -> &Perm {
        &self.perm
    }

    fn perm_mut(&mut self) -> &mut Perm {
        &mut self.perm
    }
}

/// Which message is wanted (msgrcv(2)).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wanted {
    First,
    Kind(i64),
    Except(i64),
    /// The first one of the lowest kind up to this.
    UpTo(i64),
    /// By its place (`MSG_COPY`).
    At(i64),
}

impl Queue {
    /// The sum of the lengths of its messages; for invariant checks.
    pub(super) fn counted(&self) -> u64 {
        let lens = self.messages.iter().map(|message| message.text.len());
        lens.sum::<usize>() as u64
    }

    pub(crate) fn len(&self) -> u64 {
        self.messages.len() as u64
    }

    /// Whether a message of this length fits.
    pub(crate) fn has_room(&self, len: u64) -> bool {
        len + self.bytes <= self.bytes_max && self.len() < self.bytes_max.min(COUNT_MAX)
    }

    /// The place of the message that is wanted.
    pub(crate) fn find(&self, wanted: Wanted) -> Option<usize> {
        let mut kinds = self.messages.iter().map(|message| message.kind);
        match wanted {
            Wanted::First => (!self.messages.is_empty()).then_some(0),
            Wanted::Kind(kind) => kinds.position(|other| other == kind),
            Wanted::Except(kind) => kinds.position(|other| other != kind),
            Wanted::UpTo(most) => {
                let lowest = kinds.filter(|&kind| kind <= most).min()?;
                self.find(Wanted::Kind(lowest))
            }
            Wanted::At(place) => {
                let place = usize::try_from(place).ok()?;
                (place < self.messages.len()).then_some(place)
            }
        }
    }

    pub(crate) fn message(&self, place: usize) -> Option<&Message> {
        self.messages.get(place)
    }
}

/// Makes a queue. `ENOSPC`.
pub(crate) fn create<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    key: i32,
    flags: IpcGetFlags,
) -> Result<i32, Errno> {
    let limits = &super::objects(cx).limits;
    let most = limits.get(limits::QUEUES) as usize;
    let bytes_max = limits.get(limits::QUEUE_BYTES);
    let queue = Queue {
        perm: Perm::new(cx.creds(), key, flags),
        messages: VecDeque::new(),
        bytes: 0,
        bytes_max,
        sent: 0,
        received: 0,
        changed: super::seconds(cx.k.files()),
        sender: 0,
        receiver: 0,
    };
    let id = super::objects_mut(cx)
        .queues
        .add(queue, most.min(QUEUES_MAX))?;
    cx.k.files_mut().ipc.objects += 1;
    Ok(id)
}

/// Removes a queue; those who wait for it are told.
pub(crate) fn remove(k: &mut Files, id: ObjectId) -> Result<(), Errno> {
    let queue = k.ipc.objects_mut(id.ns).queues.remove(id.id)?;
    k.ipc.objects -= 1;
    forget(k, &queue);
    k.wake(WaitKey::Messages(id));
    Ok(())
}

/// A queue is not there any more.
pub(super) fn forget(k: &mut Files, queue: &Queue) {
    k.ipc.message_bytes -= queue.bytes;
    k.ipc.messages -= queue.len();
    let held = queue.bytes + queue.len() * MESSAGE_COST;
    k.frames.charge(held, 0);
}

/// Bytes that are charged for all messages.
pub(super) fn charged(k: &Files) -> u64 {
    k.ipc.message_bytes + k.ipc.messages * MESSAGE_COST
}

/// Adds a message that fits. `ENOMEM` if all queues together hold too much.
pub(crate) fn push(k: &mut Files, id: ObjectId, pid: u32, message: Message) -> Result<(), Errno> {
    let now = super::seconds(k);
    let len = message.text.len() as u64;
    if charged(k) + len + MESSAGE_COST > ALL_MAX {
        return Err(Errno::ENOMEM);
    }
    let queue = k.ipc.objects_mut(id.ns).queues.get_mut(id.id)?;
    queue.messages.push_back(message);
    queue.bytes += len;
    (queue.sent, queue.sender) = (now, pid);
    k.ipc.message_bytes += len;
    k.ipc.messages += 1;
    k.frames.charge(0, len + MESSAGE_COST);
    k.wake(WaitKey::Messages(id));
    Ok(())
}

/// Takes a message out.
pub(crate) fn take(k: &mut Files, id: ObjectId, pid: u32, place: usize) -> Result<Message, Errno> {
    let now = super::seconds(k);
    let queue = k.ipc.objects_mut(id.ns).queues.get_mut(id.id)?;
    let message = queue.messages.remove(place).ok_or(Errno::ENOMSG)?;
    let (count, capacity) = (queue.messages.len(), queue.messages.capacity());
    if capacity > KEPT && count < capacity / 4 {
        queue.messages.shrink_to((2 * count).max(KEPT));
    }
    let len = message.text.len() as u64;
    queue.bytes -= len;
    (queue.received, queue.receiver) = (now, pid);
    k.ipc.message_bytes -= len;
    k.ipc.messages -= 1;
    k.frames.charge(len + MESSAGE_COST, 0);
    k.wake(WaitKey::Messages(id));
    Ok(message)
}
