//! Maps of sparse files in tar archives: which ranges of the file the stored bytes belong to.

use super::pax::{Records, decimal};

/// Ranges a map may have; each takes room in the archive, this only bounds the worst.
pub(crate) const RANGES_MAX: usize = 1 << 22;

/// The data ranges of a sparse file, ascending; the stored bytes are their concatenation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Map {
    /// Offset and length in the file, in bytes.
    pub(crate) ranges: Vec<(u64, u64)>,
    /// Size of the file.
    pub(crate) size: u64,
}

/// Ranges as they stand in an archive, and the size of the file.
pub(crate) type Parts = (Vec<(u64, u64)>, u64);

impl Map {
    /// Checks that the ranges ascend within the file and need `stored` bytes.
    pub(crate) fn new(
        ranges: Vec<(u64, u64)>,
        size: u64,
        stored: u64,
    ) -> Result<Self, &'static str> {
        let (mut end, mut sum) = (0u64, 0u64);
        if ranges.len() > RANGES_MAX {
            return Err("sparse map has too many ranges");
        }
        for &(offset, len) in &ranges {
            let next = offset
                .checked_add(len)
                .filter(|next| offset >= end && *next <= size);
            end = next.ok_or("sparse map is out of order or exceeds the file")?;
            sum += len;
        }
        if sum != stored {
            return Err("sparse map does not match the size of the entry");
        }
        let ranges = ranges.into_iter().filter(|(_, len)| *len > 0).collect();
        Ok(Self { ranges, size })
    }

    /// The ranges that pax versions 0.0 and 0.1 keep in the extended header, and the size.
    pub(crate) fn from_records(records: &Records) -> Option<Result<Parts, &'static str>> {
        let size = records.number("GNU.sparse.size")?;
        let mut numbers = Vec::new();
        match records.get("GNU.sparse.map") {
            Some(map) => numbers.extend(map.split(|&b| b == b',').map(decimal)),
            None => {
                for (key, value) in records.iter() {
                    if matches!(key, b"GNU.sparse.offset" | b"GNU.sparse.numbytes") {
                        numbers.push(decimal(value));
                    }
                }
            }
        }
        let ranges = size.zip(pairs(&numbers)).ok_or("sparse map is malformed");
        Some(ranges.map(|(size, ranges)| (ranges, size)))
    }
}

fn pairs(numbers: &[Option<u64>]) -> Option<Vec<(u64, u64)>> {
    if !numbers.len().is_multiple_of(2) {
        return None;
    }
    numbers
        .chunks_exact(2)
        .map(|pair| Some((pair[0]?, pair[1]?)))
        .collect()
}

/// Reads the map that pax version 1.0 puts before the data: decimal lines, padded to a whole block.
pub(crate) struct LeadingMap {
    numbers: Vec<u64>,
    current: Option<u64>,
}

impl LeadingMap {
    pub(crate) fn new() -> Self {
        Self {
            numbers: Vec::new(),
            current: None,
        }
    }

    /// Takes one block of the archive; the ranges once they are complete.
    pub(crate) fn block(&mut self, block: &[u8]) -> Result<Option<Vec<(u64, u64)>>, &'static str> {
        const BAD: &str = "sparse map is malformed";
        for &byte in block {
            match byte {
                b'0'..=b'9' => {
                    let next = self
                        .current
                        .unwrap_or(0)
                        .checked_mul(10)
                        .and_then(|n| n.checked_add(u64::from(byte - b'0')));
                    self.current = Some(next.ok_or(BAD)?);
                }
                b'\n' => {
                    self.numbers.push(self.current.take().ok_or(BAD)?);
                    let count = self.numbers[0];
                    if count > RANGES_MAX as u64 {
                        return Err("sparse map has too many ranges");
                    }
                    if self.numbers.len() as u64 == 1 + 2 * count {
                        return Ok(Some(
                            self.numbers[1..]
                                .chunks_exact(2)
                                .map(|p| (p[0], p[1]))
                                .collect(),
                        ));
                    }
                }
                _ => return Err(BAD),
            }
        }
        Ok(None)
    }
}
