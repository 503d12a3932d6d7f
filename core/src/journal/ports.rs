//! What the recording and the replaying ports share.

use alloc::boxed::Box;
use core::cell::OnceCell;
use core::hash::Hasher;

use crate::digest::Digest;
use crate::machine::ImageId;

/// The digest of the port calls of one input: which, with which arguments, and the bytes they were given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Calls(Digest);

impl Calls {
    pub(crate) fn call(&mut self, tag: u8, args: &[u64]) {
        self.0.write_u8(tag);
        for &arg in args {
            self.0.write_u64(arg);
        }
    }

    /// A call with bytes.
    pub(crate) fn call_with(&mut self, tag: u8, args: &[u64], data: &[u8]) {
        self.call(tag, args);
        self.0.write_usize(data.len());
        self.0.write(data);
    }

    /// The digest; begins the next one.
    pub(crate) fn take(&mut self) -> u64 {
        core::mem::take(&mut self.0).finish()
    }
}

/// Blocks that stand in for those of images. The port gives out references to them, so they are made on first use and stay.
pub(crate) struct Blocks<B> {
    first: OnceCell<Box<Entry<B>>>,
}

struct Entry<B> {
    id: ImageId,
    block: B,
    next: OnceCell<Box<Entry<B>>>,
}

impl<B> Blocks<B> {
    pub(crate) fn new() -> Blocks<B> {
        Blocks {
            first: OnceCell::new(),
        }
    }

    /// The block of an image, made if it is asked for the first time.
    pub(crate) fn get(&self, id: ImageId, make: impl FnOnce() -> Option<B>) -> Option<&B> {
        let mut at = &self.first;
        while let Some(entry) = at.get() {
            if entry.id == id {
                return Some(&entry.block);
            }
            at = &entry.next;
        }
        let block = make()?;
        let entry = at.get_or_init(|| {
            Box::new(Entry {
                id,
                block,
                next: OnceCell::new(),
            })
        });
        Some(&entry.block)
    }
}
