//! The ring of events of a context (`struct aio_ring` of Linux): a file in memory that the program has
//! mapped. The kernel puts events in at the tail; both take them out at the head, which is thus what the
//! program says, modulo the size.

use super::Event;
use crate::abi::{Errno, PAGE_SIZE};
use crate::file;
use crate::file::{FileId, Files, rw};
use crate::fs::inode;
use crate::port::Ports;

/// Bytes of `struct io_event` and of what a ring begins with.
pub(super) const EVENT_SIZE: u64 = 32;
const HEADER_SIZE: u64 = 32;
/// Where head and tail are.
const HEAD_AT: u64 = 8;
const TAIL_AT: u64 = 12;
/// `AIO_RING_MAGIC`, `AIO_RING_COMPAT_FEATURES`
const MAGIC: u32 = 0xa10a_10a1;
const COMPATIBLE: u32 = 1;

/// The ring of a context.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct Ring {
    /// The memory, with a reference.
    pub file: FileId,
    /// What it begins with.
    pub number: u32,
    /// Events that it has places for; one stays free.
    places: u32,
    /// The place of the next event.
    tail: u32,
    /// Events that were put in and have not been found to be taken out (`completed_events`).
    held: u32,
}

/// Bytes of a ring for so many events: it is made for twice as many, and for all processors, in whole pages.
pub(super) fn size(events: u32, cpus: u32) -> u64 {
    let entries = 2 * u64::from(events).max(4 * u64::from(cpus)) + 2;
    (HEADER_SIZE + entries * EVENT_SIZE).next_multiple_of(PAGE_SIZE)
}

impl Ring {
    pub(super) fn new(file: FileId, number: u32, size: u64) -> Ring {
        Ring {
            file,
            number,
            places: ((size - HEADER_SIZE) / EVENT_SIZE) as u32,
            tail: 0,
            held: 0,
        }
    }

    pub(super) fn size(&self) -> u64 {
        (HEADER_SIZE + u64::from(self.places) * EVENT_SIZE).next_multiple_of(PAGE_SIZE)
    }

    /// Requests and events that there may be at most.
    pub(super) fn room(&self) -> u64 {
        u64::from(self.places) - 1
    }

    pub(super) fn held(&self) -> u64 {
        u64::from(self.held)
    }

    /// Writes what a ring begins with.
    pub(super) fn begin(&self, k: &mut Files, p: &mut Ports<'_>) -> Result<(), Errno> {
        let words = [
            self.number,
            self.places,
            0,
            0,
            MAGIC,
            COMPATIBLE,
            0,
            HEADER_SIZE as u32,
        ];
        let mut bytes = [0; HEADER_SIZE as usize];
        for (to, word) in bytes.chunks_exact_mut(4).zip(words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        self.write(k, p, 0, &bytes)
    }

    /// Bytes that lie in one page.
    fn write(&self, k: &mut Files, p: &mut Ports<'_>, at: u64, bytes: &[u8]) -> Result<(), Errno> {
        let inode = file::inode_of(k, self.file)?;
        let frame = inode::page_for_write(k, p, inode, at / PAGE_SIZE)?;
        p.memory.write(frame.offset() + at % PAGE_SIZE, bytes);
        Ok(())
    }

    fn read(
        &self,
        k: &mut Files,
        p: &mut Ports<'_>,
        at: u64,
        bytes: &mut [u8],
    ) -> Result<(), Errno> {
        let inode = file::inode_of(k, self.file)?;
        rw::read_inode(k, p, inode, at, bytes).map(|_| ())
    }

    fn place(at: u32) -> u64 {
        HEADER_SIZE + u64::from(at) * EVENT_SIZE
    }

    fn head(&self, k: &mut Files, p: &mut Ports<'_>) -> Result<u32, Errno> {
        let mut word = [0; 4];
        self.read(k, p, HEAD_AT, &mut word)?;
        Ok(u32::from_le_bytes(word) % self.places)
    }

    /// Number of events in it.
    pub(super) fn len(&self, k: &mut Files, p: &mut Ports<'_>) -> Result<u64, Errno> {
        let head = self.head(k, p)?;
        let len = match head <= self.tail {
            true => self.tail - head,
            false => self.places - (head - self.tail),
        };
        Ok(u64::from(len))
    }

    /// Finds out what the program has taken (`refill_reqs_available()`).
    pub(super) fn look(&mut self, k: &mut Files, p: &mut Ports<'_>) -> Result<(), Errno> {
        let len = self.len(k, p)?;
        self.held = self.held.min(len as u32);
        Ok(())
    }

    /// Puts an event in, unseen by the program: there is room for every request. `ENOMEM`, `ENOSPC` without
    /// memory for it.
    pub(super) fn push(
        &mut self,
        k: &mut Files,
        p: &mut Ports<'_>,
        event: Event,
    ) -> Result<(), Errno> {
        let words = [event.data, event.request, event.result as u64, 0];
        let mut bytes = [0; EVENT_SIZE as usize];
        for (to, word) in bytes.chunks_exact_mut(8).zip(words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        self.write(k, p, Ring::place(self.tail), &bytes)?;
        self.tail = (self.tail + 1) % self.places;
        self.held += 1;
        Ok(())
    }

    /// Shows the program the events that were put in.
    pub(super) fn publish(&self, k: &mut Files, p: &mut Ports<'_>) {
        // The first page is there since the ring is.
        let _ = self.write(k, p, TAIL_AT, &self.tail.to_le_bytes());
    }

    /// The event at the head.
    pub(super) fn first(
        &self,
        k: &mut Files,
        p: &mut Ports<'_>,
    ) -> Result<Option<[u64; 4]>, Errno> {
        let head = self.head(k, p)?;
        if head == self.tail {
            return Ok(None);
        }
        let mut bytes = [0; EVENT_SIZE as usize];
        self.read(k, p, Ring::place(head), &mut bytes)?;
        let mut words = [0; 4];
        for (word, from) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            let mut le = [0; 8];
            le.copy_from_slice(from);
            *word = u64::from_le_bytes(le);
        }
        Ok(Some(words))
    }

    /// Takes the event at the head out.
    pub(super) fn pop(&self, k: &mut Files, p: &mut Ports<'_>) -> Result<(), Errno> {
        let head = (self.head(k, p)? + 1) % self.places;
        self.write(k, p, HEAD_AT, &head.to_le_bytes())
    }
}
