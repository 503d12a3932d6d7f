//! The content of an open file of `proc` or `sysfs`, as far as it has been made.
//!
//! Most is made whole by the read at offset 0. What has a line for each of many things is made record by
//! record as it is read, as in Linux (`fs/seq_file.c`): a read gives what there is once the steps of the
//! input are used up, and each record is as things are then.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::{listed, memory, mounts};
use crate::Kernel;
use crate::machine::ThreadId;
use crate::port::Ports;

/// Most bytes that one read makes.
const READ_MAX: usize = 64 << 10;

/// Content of an open file.
#[derive(Clone, PartialEq, Eq, Debug, Default, Hash)]
pub(crate) struct Shown {
    text: Vec<u8>,
    /// Position of the first byte that is still there.
    start: u64,
    rest: Option<Box<Rest>>,
}

/// What makes the records that are not there yet.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub(crate) enum Rest {
    Mounts(mounts::Cursor),
    Areas(memory::Cursor),
    Listed(listed::Cursor),
}

impl Shown {
    /// All of it.
    pub(crate) fn whole(mut text: Vec<u8>) -> Shown {
        text.shrink_to_fit();
        Shown {
            text,
            ..Shown::default()
        }
    }

    pub(super) fn records(rest: Rest) -> Shown {
        Shown {
            rest: Some(Box::new(rest)),
            ..Shown::default()
        }
    }

    /// Bytes that it takes.
    pub(crate) fn bytes(&self) -> u64 {
        let known = match self.rest.as_deref() {
            Some(Rest::Mounts(cursor)) => cursor.bytes(),
            _ => 0,
        };
        self.text.capacity() as u64 + known
    }

    /// Whether it must be made anew to be read from a position.
    pub(crate) fn is_past(&self, at: u64) -> bool {
        at == 0 || at < self.start
    }

    /// Makes records until `len` bytes from a position on are there, or all that one read gives. `bounded`:
    /// or the steps of this input are used up. `false` if there is nothing at the position yet.
    pub(crate) fn make(
        &mut self,
        k: &mut Kernel,
        p: &mut Ports<'_>,
        thread: ThreadId,
        at: u64,
        len: u64,
        bounded: bool,
    ) -> bool {
        let len = len.min(READ_MAX as u64);
        let made = self.make_some(k, p, thread, (at, len), bounded);
        // What one read makes fits together; nothing is kept for the next.
        if let Some(Rest::Mounts(cursor)) = self.rest.as_deref_mut().filter(|_| made) {
            cursor.end();
        }
        made
    }

    fn make_some(
        &mut self,
        k: &mut Kernel,
        p: &mut Ports<'_>,
        thread: ThreadId,
        (at, len): (u64, u64),
        bounded: bool,
    ) -> bool {
        loop {
            let end = self.start + self.text.len() as u64;
            if end >= at.saturating_add(len) {
                return true;
            }
            let Some(rest) = self.rest.as_deref_mut() else {
                return true;
            };
            if bounded && k.env.steps.left() == 0 {
                return end > at;
            }
            let read = at.min(end) - self.start;
            if read > 0 {
                self.text.drain(..read as usize);
                self.start += read;
            }
            let goes_on = match rest {
                Rest::Mounts(cursor) => cursor.step(k, &mut self.text),
                Rest::Areas(cursor) => cursor.step(k, thread, &mut self.text),
                Rest::Listed(cursor) => cursor.step(k, p, thread, &mut self.text),
            };
            if !goes_on {
                self.rest = None;
            }
        }
    }

    /// The bytes that are there from a position on.
    pub(crate) fn from(&self, at: u64) -> &[u8] {
        let at = at.checked_sub(self.start);
        let rest = at.and_then(|at| self.text.get(at as usize..));
        rest.unwrap_or_default()
    }
}

/// What has been made of open files, as of their last reads from the beginning, by their numbers.
#[derive(Clone, Default, Debug, Hash)]
pub(crate) struct Contents {
    of: BTreeMap<u64, Box<Shown>>,
    bytes: u64,
}

impl Contents {
    /// Takes what there is of a file out, to go on with it.
    pub(super) fn take(&mut self, number: u64) -> Box<Shown> {
        let shown = self.of.remove(&number).unwrap_or_default();
        self.bytes -= shown.bytes();
        shown
    }

    /// Keeps what there is of a file.
    pub(super) fn keep(&mut self, number: u64, shown: Box<Shown>) {
        self.bytes += shown.bytes();
        self.of.insert(number, shown);
    }

    /// A file is closed.
    pub(crate) fn forget(&mut self, number: u64) {
        if let Some(shown) = self.of.remove(&number) {
            self.bytes -= shown.bytes();
        }
    }

    /// Bytes of all of them.
    pub(crate) fn held(&self) -> u64 {
        self.bytes
    }

    /// Whether the bytes are counted as they are, and all are of files that are open; for invariant checks.
    pub(crate) fn is_counted(&self, mut open: impl FnMut(u64) -> bool) -> bool {
        let bytes = self.of.values().map(|shown| shown.bytes()).sum::<u64>();
        bytes == self.bytes && self.of.keys().all(|&number| open(number))
    }
}
