//! The frame allocator: which frames of the memory file are used, how often.

use crate::abi::Errno;
use crate::machine::FrameNo;

/// Frames with reference counts. A fresh frame reads as zeros.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Frames {
    total: u32,
}

impl Frames {
    pub(crate) fn new(total: u32) -> Frames {
        Frames { total }
    }

    /// A zeroed frame with one reference. `ENOMEM`.
    pub(crate) fn alloc(&mut self) -> Result<FrameNo, Errno> {
        Err(Errno::ENOMEM)
    }

    /// Up to `count` (at least 1) consecutive zeroed frames with one reference each: the first one and how many.
    pub(crate) fn alloc_run(&mut self, _count: u32) -> Result<(FrameNo, u32), Errno> {
        Err(Errno::ENOMEM)
    }

    /// Takes one more reference.
    pub(crate) fn get(&mut self, _frame: FrameNo) {}

    /// Drops a reference; the last one frees the frame (its bytes are discarded before it is given out again).
    pub(crate) fn put(&mut self, _frame: FrameNo) {}

    /// Number of references.
    pub(crate) fn count(&self, _frame: FrameNo) -> u32 {
        0
    }

    /// Frames in use and in all.
    pub(crate) fn usage(&self) -> (u32, u32) {
        (0, self.total)
    }
}
