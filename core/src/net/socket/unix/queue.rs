//! The queue of a socket: a ring of bytes and what they consist of.

use alloc::collections::VecDeque;

use super::super::rights::Rights;
use super::super::{Cred, SocketId};
use super::Name;
use crate::abi::PAGE_SIZE;
use crate::slab::shrink;

/// Most bytes of a message whose buffer is one piece (`SKB_MAX_HEAD(0)`), and of the pages that follow it in
/// a stream and in a message.
pub(super) const HEAD_MAX: usize = PAGE_SIZE as usize - SHARED_INFO;
const STREAM_PAGES: usize = 32768;
const MESSAGE_HEAD_MAX: usize = 4 * PAGE_SIZE as usize - SHARED_INFO;
const MESSAGE_PAGES: usize = 17 * PAGE_SIZE as usize;
/// Sizes of Linux's structures around a buffer: `struct skb_shared_info` behind it, `struct sk_buff`, the
/// smallest buffer.
const SHARED_INFO: usize = 320;
const BUFFER_INFO: usize = 256;
const BUFFER_MIN: usize = 512;
/// Bytes and pieces that an empty queue keeps memory for.
const RING_KEPT: usize = 4096;
const PIECES_KEPT: usize = 16;

/// Most bytes of one piece of a stream, with this send buffer.
pub(super) fn stream_piece(send_buffer: u32) -> usize {
    (send_buffer as usize / 2 - 64).min(HEAD_MAX + STREAM_PAGES)
}

/// What the sender of a piece of a stream is charged (`skb->truesize`).
pub(super) fn charge_stream(len: usize) -> usize {
    let pages = len.saturating_sub(HEAD_MAX);
    let pages = len.min(pages.next_multiple_of(PAGE_SIZE as usize));
    charge(len - pages, pages)
}

/// What the sender of a message is charged.
pub(super) fn charge_message(len: usize) -> usize {
    let pages = len.saturating_sub(MESSAGE_HEAD_MAX).min(MESSAGE_PAGES);
    let pages = pages.next_multiple_of(PAGE_SIZE as usize);
    charge(len.saturating_sub(pages), pages)
}

fn charge(head: usize, pages: usize) -> usize {
    let head = (head + SHARED_INFO).max(BUFFER_MIN).next_power_of_two();
    head + BUFFER_INFO + pages.next_multiple_of(PAGE_SIZE as usize)
}

/// Bytes that were sent together.
#[derive(Clone, Debug, Hash)]
pub(super) struct Piece {
    pub len: usize,
    /// What the sender pays until it is received.
    pub charge: usize,
    pub sender: SocketId,
    /// The sender's name when it sent this.
    pub name: Option<Name>,
    /// Who sent it, if somebody asked.
    pub cred: Option<Cred>,
}

/// A queue.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Queue {
    data: VecDeque<u8>,
    pieces: VecDeque<Piece>,
    /// Pieces that were taken out, so that they have numbers.
    taken: u64,
    /// The files of those pieces that have some, by their numbers in ascending order.
    rights: VecDeque<(u64, Rights)>,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Number of pieces.
    pub(super) fn len(&self) -> usize {
        self.pieces.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.data.len()
    }

    /// Bytes of the first piece.
    pub(super) fn first_len(&self) -> usize {
        self.pieces.front().map_or(0, |piece| piece.len)
    }

    pub(super) fn piece(&self, index: usize) -> Option<&Piece> {
        self.pieces.get(index)
    }

    pub(super) fn pieces(&self) -> impl Iterator<Item = &Piece> {
        self.pieces.iter()
    }

    pub(super) fn ring(&self) -> &VecDeque<u8> {
        &self.data
    }

    pub(super) fn ring_mut(&mut self) -> &mut VecDeque<u8> {
        &mut self.data
    }

    /// The last bytes of the ring are this piece.
    pub(super) fn push(&mut self, piece: Piece, rights: Option<Rights>) {
        let number = self.taken + self.pieces.len() as u64;
        self.rights.extend(rights.map(|rights| (number, rights)));
        self.pieces.push_back(piece);
    }

    /// Takes bytes out of the first piece, which stays.
    pub(super) fn take(&mut self, len: usize) {
        let Some(piece) = self.pieces.front_mut() else {
            return;
        };
        let len = len.min(piece.len);
        piece.len -= len;
        self.data.drain(..len);
        self.shrink();
    }

    /// Takes the files of the first piece out.
    pub(super) fn take_first_rights(&mut self) -> Option<Rights> {
        let first = self.taken;
        let taken = self.rights.pop_front_if(|(number, _)| *number == first);
        taken.map(|(_, rights)| rights)
    }

    /// Takes the first piece out, with what is left of it; its files have been.
    pub(super) fn pop(&mut self) -> Option<Piece> {
        let piece = self.pieces.pop_front()?;
        self.taken += 1;
        self.data.drain(..piece.len.min(self.data.len()));
        self.shrink();
        Some(piece)
    }

    /// Gives memory back that is not needed any more. A queue has room for twice what is in it at most, and a
    /// little.
    pub(super) fn shrink(&mut self) {
        shrink(&mut self.data, RING_KEPT);
        shrink(&mut self.pieces, PIECES_KEPT);
        shrink(&mut self.rights, PIECES_KEPT);
    }

    pub(super) fn into_parts(self) -> (VecDeque<Piece>, VecDeque<(u64, Rights)>) {
        (self.pieces, self.rights)
    }

    pub(super) fn rights(&self) -> impl Iterator<Item = &Rights> {
        self.rights.iter().map(|(_, rights)| rights)
    }

    /// The files of the piece at a place.
    pub(super) fn rights_at(&self, index: usize) -> Option<&Rights> {
        self.rights_of(self.taken + index as u64)
    }

    /// The number of the first piece with files from a number on.
    pub(super) fn next_rights(&self, from: u64) -> Option<u64> {
        let next = self.rights.partition_point(|&(number, _)| number < from);
        self.rights.get(next).map(|&(number, _)| number)
    }

    /// The files of the piece with a number.
    pub(super) fn rights_of(&self, number: u64) -> Option<&Rights> {
        let place = self.rights.binary_search_by_key(&number, |&(at, _)| at);
        self.rights.get(place.ok()?).map(|(_, rights)| rights)
    }

    /// Takes the files of the first piece out that has some; the piece stays.
    pub(super) fn take_rights(&mut self) -> Option<Rights> {
        self.rights.pop_front().map(|(_, rights)| rights)
    }

    /// Whether the pieces are all of the bytes, and memory is kept for what is there.
    pub(super) fn is_consistent(&self) -> bool {
        let kept = |capacity: usize, len: usize, least| capacity <= (2 * len + 4).max(2 * least);
        kept(self.data.capacity(), self.data.len(), RING_KEPT)
            && kept(self.pieces.capacity(), self.pieces.len(), PIECES_KEPT)
            && self.pieces.iter().map(|piece| piece.len).sum::<usize>() == self.data.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `SIOCOUTQ` of Linux tells it after one message.
    #[test]
    fn senders_pay_what_they_pay_in_linux() {
        for (len, charge) in [
            (1, 768),
            (192, 768),
            (193, 1280),
            (1729, 4352),
            (3776, 4352),
            (3777, 4864),
            (4289, 5376),
            (8200, 8960),
            (16392, 17152),
            (36544, 37120),
        ] {
            assert_eq!(charge_stream(len), charge, "{len}");
        }
        for (len, charge) in [
            (0, 768),
            (3777, 8448),
            (8200, 16640),
            (16392, 20736),
            (70024, 73984),
            (86408, 102656),
            (135560, 200960),
        ] {
            assert_eq!(charge_message(len), charge, "{len}");
        }
    }

    /// Memory goes with the messages, also while some stay.
    #[test]
    fn memory_is_given_back() {
        let mut queue = Queue::default();
        let piece = |len| Piece {
            len,
            charge: charge_stream(len),
            sender: SocketId(1),
            name: None,
            cred: None,
        };
        let push = |queue: &mut Queue, len| {
            queue.ring_mut().extend(core::iter::repeat_n(1, len));
            queue.push(piece(len), None);
        };
        for _ in 0..10 {
            push(&mut queue, 1);
            push(&mut queue, 1 << 16);
            (0..1000).for_each(|_| push(&mut queue, 1));
            while queue.len() > 1 {
                queue.pop();
                assert!(queue.is_consistent());
            }
            assert_eq!(queue.bytes(), 1);
            assert!(queue.data.capacity() <= RING_KEPT);
            queue.pop();
        }
        assert!(queue.is_empty());
    }
}
