//! The data part of an image: copies each file once, stores equal ones once, leaves long runs of zeros as
//! holes.
//!
//! Every file is fingerprinted while it passes; a file of a known fingerprint is compared byte by byte with
//! the stored one before it is dropped, so that the fingerprint need not resist an attacker.

use crate::digest::{ContentHasher, Fingerprint};
use crate::limit::Limit;
use crate::output::Output;
use crate::{BLOCK_SIZE, BuildError, BuildOptions, BuildReport, DataAlign, Progress, Work};
use std::collections::HashMap;

/// Unit in which zeros are looked for: a run of them at least this long and so aligned becomes a hole.
const GRANULE: usize = 64 << 10;
/// Bytes moved at once; files up to this size are written only when they are new.
const CHUNK: usize = 1 << 20;

/// Index into [`DataWriter::extents`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ExtentId(pub(crate) u32);

/// The stored data of one or more equal files.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    /// Offset in the image, in bytes; a multiple of the block size.
    pub(crate) start: u64,
    pub(crate) size: u64,
    pub(crate) content: Fingerprint,
}

/// The bytes of one file, asked for in ascending order.
pub(crate) trait Content {
    /// End of the hole that `at` lies in; `at` itself where there is data.
    fn hole_end(&mut self, at: u64) -> Result<u64, BuildError>;
    /// Fills `buf` with the bytes from `at` on, holes as zeros. What [`Self::hole_end`] called a hole may be
    /// left out.
    fn read(&mut self, at: u64, buf: &mut [u8]) -> Result<(), BuildError>;
}

/// Writes file data to the output, front to back.
pub(crate) struct DataWriter<'a> {
    output: Output,
    align: DataAlign,
    extents: Vec<Extent>,
    known: HashMap<(u64, Fingerprint), ExtentId>,
    /// Where the data starts.
    first: u64,
    /// End of the data so far; a multiple of the block size.
    end: u64,
    buf: Vec<u8>,
    compare: Vec<u8>,
    /// How much may be written, where that is bounded.
    limit: Option<Limit>,
    pub(crate) report: BuildReport,
    pub(crate) progress: &'a mut dyn Progress,
}

impl<'a> DataWriter<'a> {
    pub(crate) fn new(
        output: Output,
        options: &BuildOptions,
        progress: &'a mut dyn Progress,
    ) -> Self {
        Self {
            output,
            align: options.data_align,
            extents: Vec::new(),
            known: HashMap::new(),
            first: BLOCK_SIZE,
            end: BLOCK_SIZE,
            buf: vec![0; CHUNK],
            compare: vec![0; GRANULE],
            limit: None,
            report: BuildReport::default(),
            progress,
        }
    }

    /// Bounds what is written from now on.
    pub(crate) fn bound(&mut self, limit: Limit) {
        self.limit = Some(limit);
    }

    fn grow(&mut self, bytes: u64) -> Result<(), BuildError> {
        match &mut self.limit {
            Some(limit) => limit.grow(bytes),
            None => Ok(()),
        }
    }

    /// Forgets the part of a file that was stored before an error: what comes next takes its place.
    pub(crate) fn forget_part(&mut self) -> Result<(), BuildError> {
        self.output.set_len(self.end)
    }

    /// An error if the build is to end.
    pub(crate) fn check(&self) -> Result<(), BuildError> {
        match self.progress.is_stopped() {
            true => Err(BuildError::Interrupted),
            false => Ok(()),
        }
    }

    /// Leaves room for `blocks` blocks at the front, the superblock's included. Called before anything is
    /// stored.
    pub(crate) fn reserve(&mut self, blocks: u64) {
        self.first = blocks * BLOCK_SIZE;
        self.end = self.first;
    }

    /// Stores `size` bytes of `content`; `None` for an empty file.
    pub(crate) fn store(
        &mut self,
        size: u64,
        content: &mut dyn Content,
    ) -> Result<Option<ExtentId>, BuildError> {
        self.check()?;
        if size == 0 {
            return Ok(None);
        }
        let start = self.end.next_multiple_of(if size >= self.align.bytes() {
            self.align.bytes()
        } else {
            BLOCK_SIZE
        });
        // Block numbers have 32 bits, and the largest has a meaning of its own.
        if start
            .checked_add(size)
            .is_none_or(|end| end / BLOCK_SIZE >= u64::from(u32::MAX) - 1)
        {
            return Err(self.output.failure("an image cannot exceed 16 TiB"));
        }
        if size <= CHUNK as u64 {
            self.store_small(start, size, content)
        } else {
            self.store_large(start, size, content)
        }
        .map(Some)
    }

    /// A file that fits the buffer is written only if it is new.
    fn store_small(
        &mut self,
        start: u64,
        size: u64,
        content: &mut dyn Content,
    ) -> Result<ExtentId, BuildError> {
        let len = size as usize;
        content.read(0, &mut self.buf[..len])?;
        let mut hasher = ContentHasher::default();
        for (offset, run) in dense_runs(&self.buf[..len]) {
            hasher.run(offset as u64, run);
        }
        let content = hasher.finish();
        self.advance(size);
        if let Some(twin) = self.known.get(&(size, content)).copied() {
            let stored = self.extents[twin.0 as usize].start;
            let mut same = true;
            for (index, part) in self.buf[..len].chunks(GRANULE).enumerate() {
                let copy = &mut self.compare[..part.len()];
                self.output
                    .read_at(stored + (index * GRANULE) as u64, copy)?;
                same &= copy == part;
            }
            if same {
                return Ok(self.share(twin, size));
            }
        }
        // Whole blocks, so that the page cache need not clear the rest of the last one.
        let padded = len.next_multiple_of(BLOCK_SIZE as usize);
        self.buf[len..padded].fill(0);
        let dense = dense_runs(&self.buf[..padded]).map(|(_, run)| run.len() as u64);
        let dense = dense.sum();
        self.grow(dense)?;
        for (offset, run) in dense_runs(&self.buf[..padded]) {
            self.output.write_at(start + offset as u64, run)?;
        }
        self.keep(Extent {
            start,
            size,
            content,
        })
    }

    /// A larger one is written as it is read, and taken back if it turns out to be known.
    fn store_large(
        &mut self,
        start: u64,
        size: u64,
        content: &mut dyn Content,
    ) -> Result<ExtentId, BuildError> {
        let mut hasher = ContentHasher::default();
        let mut at = 0;
        let mut written = 0;
        while at < size {
            self.check()?;
            let hole = content.hole_end(at)?.min(size);
            let dense = if hole == size {
                size
            } else {
                hole - hole % GRANULE as u64
            };
            if dense > at {
                self.advance(dense - at);
                at = dense;
                continue;
            }
            let len = (CHUNK as u64 - at % CHUNK as u64).min(size - at) as usize;
            content.read(at, &mut self.buf[..len])?;
            for (offset, run) in dense_runs(&self.buf[..len]) {
                if let Some(limit) = &mut self.limit {
                    limit.grow(run.len() as u64)?;
                }
                written += run.len() as u64;
                hasher.run(at + offset as u64, run);
                self.output.write_at(start + at + offset as u64, run)?;
            }
            at += len as u64;
            self.advance(len as u64);
        }
        let content = hasher.finish();
        if let Some(twin) = self.known.get(&(size, content)).copied() {
            self.output.set_len(start + size)?;
            if self.stored_equal(self.extents[twin.0 as usize].start, start, size)? {
                self.output.set_len(self.end)?;
                if let Some(limit) = &mut self.limit {
                    limit.shrink(written);
                }
                return Ok(self.share(twin, size));
            }
        }
        self.keep(Extent {
            start,
            size,
            content,
        })
    }

    fn advance(&mut self, bytes: u64) {
        self.report.bytes_in += bytes;
        self.progress
            .advance(Work::Data, self.report.bytes_in, None);
    }

    fn share(&mut self, twin: ExtentId, size: u64) -> ExtentId {
        self.report.shared_files += 1;
        self.report.shared_bytes += size;
        twin
    }

    fn keep(&mut self, extent: Extent) -> Result<ExtentId, BuildError> {
        let id = ExtentId(
            u32::try_from(self.extents.len())
                .map_err(|_| self.output.failure("more than 2^32 files"))?,
        );
        self.end = (extent.start + extent.size).next_multiple_of(BLOCK_SIZE);
        self.known
            .entry((extent.size, extent.content))
            .or_insert(id);
        self.extents.push(extent);
        Ok(id)
    }

    /// Compares two ranges of the output.
    fn stored_equal(&mut self, a: u64, b: u64, size: u64) -> Result<bool, BuildError> {
        let mut at = 0;
        while at < size {
            // Where both have a hole there is nothing to compare.
            let next = |start: u64| {
                self.output
                    .next_data(start + at)
                    .map_or(size, |data| data.saturating_sub(start))
            };
            at = at.max(next(a).min(next(b)));
            let len = size.saturating_sub(at).min(GRANULE as u64) as usize;
            self.output.read_at(a + at, &mut self.compare[..len])?;
            self.output.read_at(b + at, &mut self.buf[..len])?;
            if self.compare[..len] != self.buf[..len] {
                return Ok(false);
            }
            at += len as u64;
        }
        Ok(true)
    }

    /// Ends the data part: only the extents of `live` stay, in that order.
    ///
    /// A tar stream may replace entries it has already delivered, and cannot be asked for a file ahead of its
    /// turn. If that left gaps or another order, the data moves to a new file once.
    pub(crate) fn finish(mut self, live: &[ExtentId]) -> Result<FinishedData<'a>, BuildError> {
        let in_place = live.len() == self.extents.len() && live.is_sorted();
        if !in_place {
            let old = self.output;
            self.output = old.sibling()?;
            let from = std::mem::take(&mut self.extents);
            self.extents = from.clone();
            self.end = self.first;
            for id in live {
                let extent = from[id.0 as usize];
                let align = if extent.size >= self.align.bytes() {
                    self.align.bytes()
                } else {
                    BLOCK_SIZE
                };
                let start = self.end.next_multiple_of(align);
                self.output
                    .copy_from(&old, extent.start, start, extent.size, &mut self.buf)?;
                self.extents[id.0 as usize].start = start;
                self.end = (start + extent.size).next_multiple_of(BLOCK_SIZE);
            }
        }
        self.report.bytes_out = live.iter().map(|id| self.extents[id.0 as usize].size).sum();
        Ok(FinishedData {
            output: self.output,
            extents: self.extents,
            end: self.end,
            report: self.report,
            progress: self.progress,
        })
    }
}

/// The data part, complete.
pub(crate) struct FinishedData<'a> {
    pub(crate) output: Output,
    pub(crate) extents: Vec<Extent>,
    /// Where the metadata starts: a multiple of the block size.
    pub(crate) end: u64,
    pub(crate) report: BuildReport,
    pub(crate) progress: &'a mut dyn Progress,
}

/// The runs of granules of `buf` that are not all zeros, with their offsets.
fn dense_runs(buf: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let granule = |at: usize| &buf[at..(at + GRANULE).min(buf.len())];
        while at < buf.len() && is_zero(granule(at)) {
            at += granule(at).len();
        }
        let start = at;
        while at < buf.len() && !is_zero(granule(at)) {
            at += granule(at).len();
        }
        (start < at).then(|| (start, &buf[start..at]))
    })
}

fn is_zero(bytes: &[u8]) -> bool {
    // Most data differs from zero within its first bytes.
    bytes
        .chunks(256)
        .all(|part| part.iter().fold(0, |or, b| or | b) == 0)
}
