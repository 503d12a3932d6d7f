//! How large a layer may become: what keeps an archive of some kilobytes from filling a disk.
//!
//! What counts is what takes room: bytes that are written, neither holes nor contents that are there already.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::BuildError;

/// Most bytes that each byte of a source may become, and how many they may be in any case.
pub(crate) const GROWTH_MAX: u64 = 256;
const FLOOR: u64 = 256 << 20;

/// How much was read of a source, of all its layers together, and what became of it.
#[derive(Debug, Default)]
pub(crate) struct Growth {
    packed: AtomicU64,
    data: AtomicU64,
}

impl Growth {
    /// So many more bytes of the source were read.
    pub(crate) fn read(&self, bytes: u64) {
        self.packed.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// The limit of one layer.
#[derive(Debug)]
pub(crate) struct Limit {
    /// What the source is called.
    name: String,
    /// Bytes that the layer may have, where somebody said so.
    max: Option<u64>,
    growth: Arc<Growth>,
    data: u64,
}

impl Limit {
    /// No more than `max` bytes, or what the source's length makes likely.
    pub(crate) fn new(name: &str, max: Option<u64>, growth: Arc<Growth>) -> Self {
        Self {
            name: name.to_owned(),
            max,
            growth,
            data: 0,
        }
    }

    /// Before so many bytes are written.
    pub(crate) fn grow(&mut self, bytes: u64) -> Result<(), BuildError> {
        self.data += bytes;
        let all = self.growth.data.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if let Some(max) = self.max {
            return match self.data > max {
                true => Err(BuildError::TooLarge {
                    name: self.name.clone(),
                    max,
                    packed: None,
                }),
                false => Ok(()),
            };
        }
        let packed = self.growth.packed.load(Ordering::Relaxed);
        let max = packed.saturating_mul(GROWTH_MAX).max(FLOOR);
        match all > max {
            true => Err(BuildError::TooLarge {
                name: self.name.clone(),
                max,
                packed: Some(packed),
            }),
            false => Ok(()),
        }
    }

    /// So many written bytes were taken back.
    pub(crate) fn shrink(&mut self, bytes: u64) {
        self.data -= bytes;
        self.growth.data.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Counts what is read of a source.
pub(crate) struct Counted<'a> {
    pub(crate) inner: &'a mut dyn Read,
    pub(crate) growth: Arc<Growth>,
}

impl Read for Counted<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(buf)?;
        self.growth.read(len as u64);
        Ok(len)
    }
}
