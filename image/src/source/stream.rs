//! The blocks of a tar stream, uncompressed on the way, and the numbers in its headers.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use tar::Header;

use crate::BuildError;

pub(super) const BLOCK: usize = 512;
/// Most bytes of extended headers and long names before one entry: room for a few attributes of the largest
/// size.
pub(super) const EXTENSION_MAX: u64 = 4 << 20;
const READ_BUFFER: usize = 256 << 10;

/// Looks at the first bytes for a compression.
pub(crate) fn decompress(source: &mut dyn Read) -> io::Result<Box<dyn Read + '_>> {
    let mut source = BufReader::with_capacity(READ_BUFFER, source);
    let head = source.fill_buf()?;
    let unsupported = |name| {
        Err(io::Error::other(format!(
            "{name} compression is not supported, only gzip and zstd"
        )))
    };
    if head.starts_with(&[0x1f, 0x8b]) {
        return Ok(Box::new(BufReader::with_capacity(
            READ_BUFFER,
            MultiGzDecoder::new(source),
        )));
    }
    // A zstd stream may begin with a skippable frame.
    if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd])
        || (head.len() > 4 && head[1..4] == [0x2a, 0x4d, 0x18] && head[0] >> 4 == 5)
    {
        return Ok(Box::new(BufReader::with_capacity(
            READ_BUFFER,
            zstd::stream::read::Decoder::with_buffer(source)?,
        )));
    }
    if head.starts_with(b"\xfd7zXZ\0") {
        return unsupported("xz");
    }
    if head.starts_with(b"BZh") {
        return unsupported("bzip2");
    }
    Ok(Box::new(source))
}

/// The uncompressed stream, and where it is.
pub(super) struct Stream<'a> {
    pub(super) inner: Box<dyn Read + 'a>,
    pub(super) offset: u64,
    pub(super) archive: &'a str,
    /// Name of the entry at hand, for messages.
    pub(super) entry: Vec<u8>,
}

impl Stream<'_> {
    pub(super) fn fail(&self, reason: impl Into<String>) -> BuildError {
        BuildError::Tar {
            archive: self.archive.to_owned(),
            offset: self.offset,
            entry: self.entry.clone(),
            reason: reason.into(),
        }
    }

    /// Reads what is there, at most `buf`; 0 at the end.
    pub(super) fn some(&mut self, buf: &mut [u8]) -> Result<usize, BuildError> {
        loop {
            match self.inner.read(buf) {
                Ok(len) => {
                    self.offset += len as u64;
                    return Ok(len);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.fail(format!("cannot read: {e}"))),
            }
        }
    }

    /// Fills `buf` unless the stream ends first.
    pub(super) fn most(&mut self, buf: &mut [u8]) -> Result<usize, BuildError> {
        let mut have = 0;
        while have < buf.len() {
            match self.some(&mut buf[have..])? {
                0 => break,
                len => have += len,
            }
        }
        Ok(have)
    }

    pub(super) fn exact(&mut self, buf: &mut [u8]) -> Result<(), BuildError> {
        if self.most(buf)? == buf.len() {
            Ok(())
        } else {
            Err(self.fail("the archive ends inside an entry"))
        }
    }

    pub(super) fn skip(&mut self, mut len: u64) -> Result<(), BuildError> {
        let mut buf = [0; 16 << 10];
        while len > 0 {
            let part = len.min(buf.len() as u64) as usize;
            self.exact(&mut buf[..part])?;
            len -= part as u64;
        }
        Ok(())
    }

    /// The body of an extension header, without its padding; `left` is what there may be before the entry.
    pub(super) fn extension(&mut self, size: u64, left: &mut u64) -> Result<Vec<u8>, BuildError> {
        // Empty ones count, too: there is no end of them otherwise.
        let Some(rest) = left.checked_sub(size.saturating_add(BLOCK as u64)) else {
            return Err(self.fail(format!(
                "extended header of {size} bytes, {EXTENSION_MAX} at most for one entry"
            )));
        };
        *left = rest;
        let mut body = vec![0; size as usize];
        self.exact(&mut body)?;
        self.skip(padding(size))?;
        Ok(body)
    }

    /// The next header; `None` at the end of the archive.
    pub(super) fn header(&mut self) -> Result<Option<Header>, BuildError> {
        let start = self.offset;
        let mut header = Header::new_old();
        match self.most(header.as_mut_bytes())? {
            0 if start == 0 => return Err(self.fail("is empty, not a tar archive")),
            0 => return Ok(None),
            BLOCK => {}
            _ if start == 0 => return Err(self.fail("is not a tar archive")),
            _ => return Err(self.fail("the archive ends inside a header")),
        }
        let bytes = header.as_bytes();
        if bytes.iter().all(|&b| b == 0) {
            return Ok(None);
        }
        let (mut unsigned, mut signed) = (0i64, 0i64);
        for (at, &byte) in bytes.iter().enumerate() {
            let byte = if (148..156).contains(&at) { b' ' } else { byte };
            unsigned += i64::from(byte);
            // Some old writers summed signed characters.
            signed += i64::from(byte as i8);
        }
        match number(&header.as_old().cksum) {
            Some(sum) if sum == unsigned || sum == signed => Ok(Some(header)),
            _ if start == 0 => Err(self.fail("is not a tar archive")),
            _ => Err(self.fail("header checksum does not match")),
        }
    }
}

/// Bytes from the end of `size` bytes of data to the next header.
pub(super) fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}

/// A numeric field: octal text, or base 256 with the top bit set; `None` if it is neither or too large.
pub(super) fn number(field: &[u8]) -> Option<i64> {
    if field[0] & 0x80 != 0 {
        // Two's complement in all bits but the first.
        let start = if field[0] & 0x40 != 0 {
            -1
        } else {
            i64::from(field[0] & 0x3f)
        };
        let start = if field[0] & 0x40 != 0 && field[0] != 0xff {
            return None;
        } else {
            start
        };
        return field[1..].iter().try_fold(start, |n, &byte| {
            n.checked_mul(256)?.checked_add(i64::from(byte))
        });
    }
    let text = field.split(|&b| b == 0).next()?;
    let text = std::str::from_utf8(text).ok()?.trim_matches(' ');
    if text.is_empty() {
        Some(0)
    } else {
        i64::from_str_radix(text, 8).ok()
    }
}
