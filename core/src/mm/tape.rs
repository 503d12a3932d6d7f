//! What a system call read of its program's memory and wrote there.
//!
//! That is what strace shows: the bytes that the kernel acted on, and none that it did not look at, so that
//! tracing neither brings pages in nor asks the host. It also makes a replay show the same, which has no
//! memory but what the kernel read then.

use alloc::vec;
use alloc::vec::Vec;

use crate::fs::filesystem::Source;
use crate::machine::SpaceId;
use crate::port::Ports;

/// Most bytes that are kept of one piece, and of a call.
const PIECE_MAX: usize = 4096;
const BYTES_MAX: usize = 256 << 10;
/// Most pieces of a call, each way.
const PIECES_MAX: usize = 4096;

/// Bytes that a call read or wrote.
#[derive(Clone, Debug)]
struct Piece {
    space: SpaceId,
    addr: u64,
    data: Data,
}

#[derive(Clone, Debug)]
enum Data {
    Bytes(Vec<u8>),
    /// As many as that, which are still there.
    At(Source, u64),
}

/// Where bytes are found.
pub(crate) enum Found<'a> {
    Bytes(&'a [u8]),
    At(Source, u64),
}

/// All of one call.
#[derive(Clone, Debug)]
pub(crate) struct Tape {
    /// The space of the thread that called.
    pub space: SpaceId,
    reads: Vec<Piece>,
    writes: Vec<Piece>,
    bytes: usize,
    /// The call is run again: what it reads then it has read before.
    again: bool,
}

impl Tape {
    pub(crate) fn new(space: SpaceId) -> Tape {
        Tape {
            space,
            reads: Vec::new(),
            writes: Vec::new(),
            bytes: 0,
            again: false,
        }
    }

    /// The call begins anew.
    pub(crate) fn rewind(&mut self) {
        self.again = true;
        self.writes.clear();
    }

    /// Notes bytes that were read.
    pub(crate) fn read(&mut self, space: SpaceId, addr: u64, bytes: &[u8]) {
        if !self.again {
            let data = self.copy(bytes);
            put(&mut self.reads, space, addr, data);
        }
    }

    /// Notes bytes that were written.
    pub(crate) fn wrote(&mut self, space: SpaceId, addr: u64, bytes: &[u8]) {
        let data = self.copy(bytes);
        put(&mut self.writes, space, addr, data);
    }

    /// Notes a run of memory whose bytes are copied elsewhere.
    pub(crate) fn run(&mut self, addr: u64, source: Source, len: u64, write: bool) {
        let data = Some(Data::At(source, len));
        match write {
            true => put(&mut self.writes, self.space, addr, data),
            false if !self.again => put(&mut self.reads, self.space, addr, data),
            false => {}
        }
    }

    fn copy(&mut self, bytes: &[u8]) -> Option<Data> {
        let bytes = &bytes[..bytes.len().min(PIECE_MAX)];
        if bytes.is_empty() || self.bytes + bytes.len() > BYTES_MAX {
            return None;
        }
        self.bytes += bytes.len();
        Some(Data::Bytes(bytes.to_vec()))
    }

    /// Copies what was only pointed at, while it is still as the call left it.
    pub(crate) fn resolve(&mut self, p: &mut Ports<'_>) {
        for (pieces, written) in [(&mut self.reads, false), (&mut self.writes, true)] {
            for piece in pieces {
                if let Data::At(source, len) = piece.data {
                    let mut bytes = vec![0; len.min(PIECE_MAX as u64) as usize];
                    if self.bytes + bytes.len() <= BYTES_MAX
                        && glance(p, source, &mut bytes, written)
                    {
                        self.bytes += bytes.len();
                        piece.data = Data::Bytes(bytes);
                    }
                }
            }
        }
    }

    /// How many bytes from an address on were not written, at most `max`.
    pub(crate) fn unwritten(&self, addr: u64, max: u64) -> u64 {
        let later = self
            .writes
            .iter()
            .filter(|piece| piece.space == self.space && piece.addr > addr);
        later
            .map(|piece| piece.addr - addr)
            .min()
            .unwrap_or(max)
            .min(max)
    }

    /// The bytes from an address on that were read first, or written last.
    pub(crate) fn find(&self, addr: u64, written: bool) -> Option<Found<'_>> {
        let hit = |piece: &&Piece| {
            let len = match &piece.data {
                Data::Bytes(bytes) => bytes.len() as u64,
                Data::At(_, len) => *len,
            };
            piece.space == self.space && addr >= piece.addr && addr - piece.addr < len
        };
        let piece = match written {
            true => self.writes.iter().rev().find(hit),
            false => self.reads.iter().find(hit),
        }?;
        let skip = addr - piece.addr;
        Some(match &piece.data {
            Data::Bytes(bytes) => Found::Bytes(&bytes[skip as usize..]),
            Data::At(source, len) => Found::At(behind(*source, skip), len - skip),
        })
    }
}

/// Bytes as they are now, if anybody knows.
pub(crate) fn glance(p: &Ports<'_>, source: Source, buf: &mut [u8], written: bool) -> bool {
    match source {
        Source::Memory(offset) => p.memory.glance(offset, buf, written),
        Source::Image { image, offset } => match p.images.image(image) {
            Some(block) => block.glance(offset, buf),
            None => false,
        },
        Source::Zero => true,
    }
}

fn put(pieces: &mut Vec<Piece>, space: SpaceId, addr: u64, data: Option<Data>) {
    if let Some(data) = data
        && pieces.len() < PIECES_MAX
    {
        pieces.push(Piece { space, addr, data });
    }
}

fn behind(source: Source, skip: u64) -> Source {
    match source {
        Source::Memory(offset) => Source::Memory(offset + skip),
        Source::Image { image, offset } => Source::Image {
            image,
            offset: offset + skip,
        },
        Source::Zero => Source::Zero,
    }
}
