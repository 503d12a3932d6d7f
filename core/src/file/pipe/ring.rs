//! The ring of a pipe: buffers of at most a page in a number of slots (`struct pipe_buffer` of Linux).
//!
//! The bytes of all buffers lie in one queue; what tells the buffers apart stands beside it. A small write
//! goes into the page of the last buffer if it fits there, every other one takes slots of its own, however
//! few its bytes are: so a pipe can be full long before it holds as many bytes as its capacity.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::Passing;
use crate::abi::PAGE_SIZE;
use crate::slab;

const PAGE: usize = PAGE_SIZE as usize;
/// What an empty ring keeps: bytes, and buffers.
pub(super) const BYTES_KEPT: usize = 4096;
const BUFFERS_KEPT: usize = 16;

/// How bytes come into a pipe.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Kind {
    /// Written: later writes add to the last page.
    Stream,
    /// Written with `O_DIRECT`: a reader gets each buffer alone, and what it leaves of one is lost.
    Packet,
    /// Pages of a file, of memory or of another pipe: nothing is added to them.
    Lent,
}

/// Bytes in one page.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Buffer {
    /// Where in the page they begin.
    start: u16,
    len: u16,
    /// Writes may go on behind them (`PIPE_BUF_FLAG_CAN_MERGE`).
    merges: bool,
    packet: bool,
}

/// What a pipe holds.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Ring {
    data: VecDeque<u8>,
    buffers: VecDeque<Buffer>,
    slots: usize,
}

impl Ring {
    pub(super) fn new(capacity: usize) -> Ring {
        Ring {
            data: VecDeque::new(),
            buffers: VecDeque::new(),
            slots: capacity / PAGE,
        }
    }

    /// Bytes in it.
    pub(crate) fn len(&self) -> usize {
        self.data.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.buffers.is_empty()
    }

    /// Slots without a buffer.
    pub(crate) fn free(&self) -> usize {
        self.slots.saturating_sub(self.buffers.len())
    }

    pub(crate) fn is_full(&self) -> bool {
        self.free() == 0
    }

    /// Bytes that fit if every buffer fills its page (`F_GETPIPE_SZ`).
    pub(crate) fn capacity(&self) -> usize {
        self.slots * PAGE
    }

    /// Bytes that fit if the first one stands at this place of its page and the others follow it.
    pub(crate) fn room_from(&self, start: u64) -> usize {
        (self.free() * PAGE).saturating_sub((start % PAGE_SIZE) as usize)
    }

    /// Gives it this many slots; `false` if more are in use.
    pub(super) fn resize(&mut self, slots: usize) -> bool {
        let fits = self.buffers.len() <= slots;
        if fits {
            self.slots = slots;
        }
        fits
    }

    /// Bytes of memory that it may take beyond what an empty one keeps.
    pub(super) fn held(&self) -> u64 {
        let len = self.data.len();
        let bytes = (2 * len).min(self.capacity().max(len));
        let beside = 2 * self.buffers.len() * size_of::<Buffer>();
        (bytes + beside) as u64
    }

    /// Gives back memory that it does not need any more.
    pub(super) fn shrink(&mut self) {
        slab::shrink(&mut self.data, BYTES_KEPT);
        slab::shrink(&mut self.buffers, BUFFERS_KEPT);
    }

    /// The bytes from a place on that lie in one piece.
    pub(super) fn bytes(&self, from: usize) -> &[u8] {
        let (head, tail) = self.data.as_slices();
        match from.checked_sub(head.len()) {
            None => &head[from..],
            Some(from) => tail.get(from..).unwrap_or_default(),
        }
    }

    /// A copy of the first `len` bytes.
    pub(crate) fn copy(&self, len: usize) -> Vec<u8> {
        let (head, tail) = self.data.as_slices();
        let mut bytes = Vec::with_capacity(len.min(self.data.len()));
        bytes.extend_from_slice(&head[..len.min(head.len())]);
        let rest = len.saturating_sub(head.len());
        bytes.extend_from_slice(&tail[..rest.min(tail.len())]);
        bytes
    }

    /// The queue, for bytes to be added to; what stays in it is told of with [`Ring::wrote`] or
    /// [`Ring::merged`].
    pub(super) fn queue(&mut self) -> &mut VecDeque<u8> {
        &mut self.data
    }

    /// Bytes that a write may add to the page of the last buffer.
    pub(super) fn merge_room(&self) -> usize {
        match self.buffers.back() {
            Some(last) if last.merges => PAGE - usize::from(last.start) - usize::from(last.len),
            _ => 0,
        }
    }

    /// The last `len` bytes of the queue are new and belong to the last buffer, which had room for them.
    pub(super) fn merged(&mut self, len: usize) {
        if let Some(last) = self.buffers.back_mut() {
            last.len += len as u16;
        }
    }

    /// The last `len` bytes of the queue are new: they take slots, the first byte at this place of its page.
    pub(super) fn wrote(&mut self, len: usize, start: u64, kind: Kind) {
        let mut start = (start % PAGE_SIZE) as usize;
        let mut left = len;
        while left > 0 {
            let step = left.min(PAGE - start);
            self.buffers.push_back(Buffer {
                start: start as u16,
                len: step as u16,
                merges: kind == Kind::Stream,
                packet: kind == Kind::Packet,
            });
            left -= step;
            start = 0;
        }
    }

    /// Adds bytes in slots of their own.
    pub(super) fn append(&mut self, bytes: &[u8], start: u64, kind: Kind) {
        self.data.extend(bytes);
        self.wrote(bytes.len(), start, kind);
    }

    /// How many bytes a read of `max` bytes takes of which only the first `copied` reached the program: what
    /// it wants of a buffer goes as a whole or stays, and a packet ends it.
    pub(super) fn readable(&self, max: u64, copied: usize) -> usize {
        let mut sum = 0;
        for buffer in &self.buffers {
            let wanted = u64::from(buffer.len).min(max - sum as u64) as usize;
            if sum + wanted > copied {
                break;
            }
            sum += wanted;
            if buffer.packet || sum as u64 == max {
                break;
            }
        }
        sum
    }

    /// Takes bytes out at the front. For a reader what is left of a packet goes too.
    pub(super) fn take(&mut self, len: usize, reader: bool) {
        let mut left = len.min(self.data.len());
        self.data.drain(..left);
        while left > 0
            && let Some(first) = self.buffers.front_mut()
        {
            let step = left.min(usize::from(first.len));
            left -= step;
            first.start += step as u16;
            first.len -= step as u16;
            if reader && first.packet {
                let lost = usize::from(core::mem::take(&mut first.len));
                self.data.drain(..lost.min(self.data.len()));
            }
            if first.len == 0 {
                self.buffers.pop_front();
            }
        }
    }

    /// The first buffers, up to `len` bytes and `slots` of them, as another pipe gets them, and how many
    /// bytes they are. Those that leave this pipe as a whole can still be added to.
    pub(super) fn front(&self, len: u64, slots: usize, passing: Passing) -> (Vec<Buffer>, usize) {
        let mut front = Vec::new();
        let mut sum = 0;
        for &(mut buffer) in self.buffers.iter().take(slots) {
            let rest = len - sum as u64;
            if rest == 0 {
                break;
            }
            let whole = u64::from(buffer.len) <= rest;
            if !whole {
                buffer.len = rest as u16;
            }
            buffer.merges &= whole && passing == Passing::Moves;
            sum += usize::from(buffer.len);
            front.push(buffer);
        }
        (front, sum)
    }

    /// Adds buffers of another pipe with their bytes.
    pub(super) fn adopt(&mut self, buffers: Vec<Buffer>, bytes: &[u8]) {
        self.data.extend(bytes);
        self.buffers.extend(buffers);
    }

    /// Whether the buffers are all of the data; for invariant checks.
    pub(super) fn is_consistent(&self) -> bool {
        let sum: usize = self.buffers.iter().map(|it| usize::from(it.len)).sum();
        let each = self
            .buffers
            .iter()
            .all(|it| it.len > 0 && usize::from(it.start) + usize::from(it.len) <= PAGE);
        each && sum == self.data.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(ring: &Ring) -> usize {
        assert!(ring.is_consistent());
        ring.buffers.len()
    }

    #[test]
    fn slots_are_taken_and_given_back_as_in_linux() {
        let mut ring = Ring::new(4 * PAGE);
        ring.append(&[1; 100], 0, Kind::Stream);
        assert_eq!((ring.merge_room(), used(&ring)), (PAGE - 100, 1));
        // What was read of the page is not used again.
        ring.take(60, true);
        assert_eq!(ring.merge_room(), PAGE - 100);
        ring.append(&[2; 100], 4000, Kind::Lent);
        assert_eq!((ring.merge_room(), used(&ring), ring.len()), (0, 3, 140));
        assert_eq!(ring.room_from(8), PAGE - 8);
        ring.append(&[3; 5], 0, Kind::Packet);
        assert!(ring.is_full() && !ring.resize(2) && ring.resize(8));
        // A read ends with the packet, and with less of it that goes too.
        assert_eq!(ring.readable(1000, usize::MAX), 145);
        assert_eq!(ring.readable(1000, 139), 136);
        assert_eq!(ring.readable(1000, 30), 0);
        assert_eq!(ring.readable(30, 30), 30);
        ring.take(142, true);
        assert_eq!((used(&ring), ring.len()), (0, 0));
    }

    #[test]
    fn buffers_move_to_other_pipes() {
        let mut ring = Ring::new(4 * PAGE);
        ring.append(&[1; 10], 0, Kind::Stream);
        ring.append(&[2; 10], 0, Kind::Stream);
        let mut other = Ring::new(4 * PAGE);
        let (front, len) = ring.front(15, 4, Passing::Moves);
        let bytes = ring.copy(len);
        other.adopt(front, &bytes);
        ring.take(len, false);
        assert_eq!((used(&ring), used(&other), other.len()), (1, 2, 15));
        assert_eq!((ring.merge_room(), other.merge_room()), (PAGE - 10, 0));
        // One that goes as a whole keeps its page, one that is doubled shares it.
        let (front, len) = ring.front(15, 4, Passing::Moves);
        other.adopt(front, &ring.copy(len));
        assert_eq!((len, other.merge_room()), (5, PAGE - 10));
        let (front, _) = ring.front(15, 4, Passing::Copies);
        other.adopt(front, &ring.copy(5));
        assert_eq!(other.merge_room(), 0);
        assert_eq!(ring.front(15, 0, Passing::Moves).1, 0);
    }
}
