//! What the recording and the replaying ports share.

use alloc::boxed::Box;
use alloc::vec::Vec;
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

/// What the kernel read and wrote during one input, for people who look on: all that a replay has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Somebody looks on.
    pub on: bool,
    reads: Vec<(u64, Vec<u8>)>,
    writes: Vec<(u64, Vec<u8>)>,
    /// Parts of files, by image and offset.
    files: Vec<(ImageId, u64, Vec<u8>)>,
}

impl Seen {
    /// Bytes that are kept of a piece, and pieces of each kind.
    const PIECE_MAX: usize = 4096;
    const PIECES_MAX: usize = 1024;

    pub(crate) fn new(on: bool) -> Seen {
        Seen {
            on,
            ..Seen::default()
        }
    }

    /// The next input begins.
    pub(crate) fn clear(&mut self) {
        self.reads.clear();
        self.writes.clear();
        self.files.clear();
    }

    /// As much of these bytes as is kept.
    fn piece(bytes: &[u8]) -> Vec<u8> {
        bytes.get(..Self::PIECE_MAX).unwrap_or(bytes).to_vec()
    }

    pub(crate) fn read(&mut self, offset: u64, bytes: &[u8]) {
        if self.on && self.reads.len() < Self::PIECES_MAX {
            self.reads.push((offset, Self::piece(bytes)));
        }
    }

    pub(crate) fn wrote(&mut self, offset: u64, bytes: &[u8]) {
        if self.on && self.writes.len() < Self::PIECES_MAX {
            self.writes.push((offset, Self::piece(bytes)));
        }
    }

    /// Bytes that were copied are known if they were known before.
    pub(crate) fn copied(&mut self, to: u64, from: u64, len: u64) {
        if !self.on {
            return;
        }
        let len = usize::try_from(len).map_or(Self::PIECE_MAX, |len| len.min(Self::PIECE_MAX));
        let mut bytes = alloc::vec![0; len];
        if self.glance(from, &mut bytes, true) {
            self.wrote(to, &bytes);
        }
    }

    pub(crate) fn read_file(&mut self, image: ImageId, offset: u64, bytes: &[u8]) {
        if self.on && self.files.len() < Self::PIECES_MAX {
            self.files.push((image, offset, Self::piece(bytes)));
        }
    }

    /// See [`Memory::glance`](crate::port::Memory::glance).
    pub(crate) fn glance(&self, mut offset: u64, mut buf: &mut [u8], written: bool) -> bool {
        while !buf.is_empty() {
            let read = self.reads.iter().find_map(|piece| rest(piece, offset));
            let mut writes = self.writes.iter().rev();
            let wrote = writes.find_map(|piece| rest(piece, offset));
            let found = match written {
                true => wrote.or(read),
                false => read.or(wrote),
            };
            let Some(part) = found else {
                return false;
            };
            let len = part.len().min(buf.len());
            let (now, later) = buf.split_at_mut(len);
            now.copy_from_slice(part.split_at(len).0);
            buf = later;
            offset += len as u64;
        }
        true
    }

    /// The bytes of a part of a file, if that was read.
    pub(crate) fn glance_file(&self, image: ImageId, offset: u64, buf: &mut [u8]) -> bool {
        let mut files = self.files.iter().filter(|(of, ..)| *of == image);
        let found = files.find_map(|(_, start, bytes)| {
            let skip = usize::try_from(offset.checked_sub(*start)?).ok()?;
            bytes.get(skip..skip.checked_add(buf.len())?)
        });
        match found {
            Some(part) => {
                buf.copy_from_slice(part);
                true
            }
            None => false,
        }
    }
}

/// What a piece has from an offset on: at least one byte.
fn rest((start, bytes): &(u64, Vec<u8>), offset: u64) -> Option<&[u8]> {
    let skip = usize::try_from(offset.checked_sub(*start)?).ok()?;
    bytes.get(skip..).filter(|rest| !rest.is_empty())
}

/// Blocks that stand in for those of images. The port gives out references to them, so they are made on first
/// use and stay.
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
