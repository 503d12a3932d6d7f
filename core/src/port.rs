//! The ports: the only traits through which the core reaches its host.
//!
//! Calls through a port are synchronous, never wait and are arguments of
//! [`Kernel::handle`](crate::Kernel::handle), not fields of the kernel, so that a kernel stays a value that
//! can be cloned, hashed and compared.

use alloc::vec::Vec;

use varve_imgfs::LayerPorts;
pub use varve_imgfs::{Block, HostTree, Images, NodeAttr, NodeEntry, NodeId};

use crate::abi::Errno;
use crate::machine::{FrameNo, ThreadId};

/// The offset in the memory file of a 4-byte word that is aligned: nothing else can be changed atomically.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct WordOffset(u64);

impl WordOffset {
    /// `None` if there is no aligned word at this offset.
    pub fn new(offset: u64) -> Option<WordOffset> {
        offset.is_multiple_of(4).then_some(WordOffset(offset))
    }

    /// The first word of a frame.
    pub fn of_frame(frame: FrameNo) -> WordOffset {
        WordOffset(frame.offset())
    }

    /// The offset in bytes, a multiple of 4.
    pub fn get(self) -> u64 {
        self.0
    }
}

/// The memory file: frames of guest memory, addressed by byte offset.
///
/// Offsets and lengths stay inside `[0, frames() * 4096)`; the core never asks for more, an implementation
/// may panic there. Frames never touched before read as zeros. Guest threads may change the bytes at the same
/// time; each call is one pass over them.
pub trait Memory {
    /// Number of frames the file can hold.
    fn frames(&self) -> u32;
    /// Copies bytes at `offset` into `buf`.
    fn read(&self, offset: u64, buf: &mut [u8]);
    /// Adds `len` bytes at `offset` to the end of `to`. A host that can spare itself zeroing room for them
    /// first does.
    fn append(&self, offset: u64, len: usize, to: &mut Vec<u8>) {
        let old = to.len();
        to.resize(old + len, 0);
        self.read(offset, &mut to[old..]);
    }
    /// Copies `data` to `offset`.
    fn write(&mut self, offset: u64, data: &[u8]);
    /// Zeroes `len` bytes at `offset`.
    fn zero(&mut self, offset: u64, len: u64);
    /// Copies `len` bytes from `from` to `to`; the ranges do not overlap.
    fn copy(&mut self, to: u64, from: u64, len: u64);
    /// Gives `count` frames from `first` back to the host; they read as zeros afterwards.
    fn discard(&mut self, first: FrameNo, count: u32);
    /// Atomically loads a word (futex(2)).
    fn load_u32(&self, at: WordOffset) -> u32;
    /// Atomically replaces a word by `new` if it is `old`; returns what was there.
    fn compare_exchange_u32(&mut self, at: WordOffset, old: u32, new: u32) -> u32;
    /// How many batches of outputs are in force: batch 0 are those of the boot, batch `n` those of the `n`-th
    /// input. Batch `n` is when `n` is less than the answer: every guest thread that could reach what the
    /// batch took away (by unmapping or replacing, with its space, because it was ended) has been seen
    /// stopped since, as for all batches before. Frames that became free later are not used yet. The answer
    /// never gets less. A host whose guests see at once what outputs have done need not say anything.
    fn flushed(&self) -> u64 {
        u64::MAX
    }
    /// Copies bytes at `offset` into `buf` for people to look at, which is no part of the run: what the call
    /// that is under way wrote there, or else (`written` false) read there, where that is all that is known.
    /// `false` if it is not known.
    fn glance(&self, offset: u64, buf: &mut [u8], written: bool) -> bool {
        let _ = written;
        self.read(offset, buf);
        true
    }
}

/// The vector and floating-point state of guest threads, in the format of `XSAVE` (not compacted), as Linux
/// puts it into a signal frame. Only called for a thread that is stopped.
pub trait Xstate {
    /// Size in bytes of the state on this host, 512 (FXSAVE only) or more.
    fn size(&self) -> usize;
    /// Reads the state of a thread; `buf` is [`size`](Self::size) bytes long.
    fn read(&mut self, thread: ThreadId, buf: &mut [u8]);
    /// Replaces the state of a thread. A state the processor would refuse is `EINVAL` and changes nothing.
    fn write(&mut self, thread: ThreadId, buf: &[u8]) -> Result<(), Errno>;
    /// Sets the state a fresh program starts with.
    fn reset(&mut self, thread: ThreadId);
}

/// All ports of one call into the core.
pub struct Ports<'a> {
    /// Guest memory.
    pub memory: &'a mut dyn Memory,
    /// Image files.
    pub images: &'a dyn Images,
    /// Host directory trees.
    pub tree: &'a mut dyn HostTree,
    /// Floating-point state.
    pub xstate: &'a mut dyn Xstate,
}

impl Ports<'_> {
    /// Those that layers are read through.
    pub(crate) fn layers(&mut self) -> LayerPorts<'_> {
        LayerPorts {
            images: self.images,
            tree: &mut *self.tree,
        }
    }
}
