//! Bytes in chunks that are checked: what a journal is made of below its values.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::hash::Hasher;

use super::{CHUNK_MAX, MAGIC, VERSION};
use crate::digest::Digest;

/// Length and check sum in front of each chunk.
const CHUNK_HEADER: usize = 12;

/// Where a journal goes. An implementation keeps an error to itself until it is asked.
pub trait Sink {
    /// Takes the next bytes: the beginning of the file, or one whole chunk.
    fn write(&mut self, bytes: &[u8]);
}

impl Sink for Vec<u8> {
    fn write(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Where a journal comes from.
pub trait Source {
    /// Fills the beginning of `buf` with the next bytes: how many, 0 at the end.
    ///
    /// # Errors
    /// The bytes cannot be read; the text says why.
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, String>;
}

impl Source for &[u8] {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, String> {
        let len = self.len().min(buf.len());
        let (part, rest) = self.split_at(len);
        buf.split_at_mut(len).0.copy_from_slice(part);
        *self = rest;
        Ok(len)
    }
}

/// What is wrong with a journal, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogError {
    /// Byte offset in the file.
    pub offset: u64,
    /// What is wrong.
    pub kind: LogErrorKind,
}

/// What is wrong with a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogErrorKind {
    /// It does not begin as one.
    Magic,
    /// It has another version.
    Version(u32),
    /// It ends too early.
    Truncated,
    /// A chunk has a length that none has.
    Length(u32),
    /// The check sum of a chunk does not match its bytes.
    Checksum,
    /// A value that cannot be; the text names the field.
    Value(&'static str),
    /// Something follows the end of the run.
    Trailing,
    /// The file cannot be read.
    Read(String),
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offset = self.offset;
        match &self.kind {
            LogErrorKind::Magic => f.write_str("not a log of a run"),
            LogErrorKind::Version(found) => write!(
                f,
                "the log has version {found} of the format, only {VERSION} is known"
            ),
            LogErrorKind::Truncated => write!(f, "the log ends too early, at byte {offset}"),
            LogErrorKind::Length(len) => write!(
                f,
                "the log is damaged at byte {offset}: a chunk of {len} bytes"
            ),
            LogErrorKind::Checksum => {
                write!(
                    f,
                    "the log is damaged at byte {offset}: the check sum of the chunk does not match"
                )
            }
            LogErrorKind::Value(what) => {
                write!(f, "the log is damaged at byte {offset}: {what}")
            }
            LogErrorKind::Trailing => {
                write!(f, "the log goes on behind its end, at byte {offset}")
            }
            LogErrorKind::Read(why) => write!(f, "byte {offset}: {why}"),
        }
    }
}

impl core::error::Error for LogError {}

fn checksum(number: u64, payload: &[u8]) -> u64 {
    let mut digest = Digest::default();
    digest.write_u64(number);
    digest.write_usize(payload.len());
    digest.write(payload);
    digest.finish()
}

/// Collects bytes and gives them to a sink in chunks.
#[derive(Clone, Debug)]
pub(crate) struct Writer<S> {
    sink: S,
    /// The chunk under way, with room for its header.
    chunk: Vec<u8>,
    chunks: u64,
}

impl<S: Sink> Writer<S> {
    /// Begins a journal.
    pub(crate) fn new(mut sink: S) -> Writer<S> {
        let mut start = [0; 12];
        start[..8].copy_from_slice(&MAGIC);
        start[8..].copy_from_slice(&VERSION.to_le_bytes());
        sink.write(&start);
        let mut chunk = Vec::with_capacity(CHUNK_HEADER + CHUNK_MAX);
        chunk.resize(CHUNK_HEADER, 0);
        Writer {
            sink,
            chunk,
            chunks: 0,
        }
    }

    pub(crate) fn raw(&mut self, mut bytes: &[u8]) {
        loop {
            let room = CHUNK_HEADER + CHUNK_MAX - self.chunk.len();
            let (part, rest) = bytes.split_at(bytes.len().min(room));
            self.chunk.extend_from_slice(part);
            if rest.is_empty() {
                return;
            }
            self.flush();
            bytes = rest;
        }
    }

    /// Gives the chunk under way to the sink.
    fn flush(&mut self) {
        let (header, payload) = self.chunk.split_at_mut(CHUNK_HEADER);
        if payload.is_empty() {
            return;
        }
        let (length, sum) = header.split_at_mut(size_of::<u32>());
        // No more than CHUNK_MAX.
        let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        length.copy_from_slice(&len.to_le_bytes());
        sum.copy_from_slice(&checksum(self.chunks, payload).to_le_bytes());
        self.chunks += 1;
        self.sink.write(&self.chunk);
        self.chunk.truncate(CHUNK_HEADER);
    }

    pub(crate) fn sink(&mut self) -> &mut S {
        &mut self.sink
    }

    /// Writes out what is left.
    pub(crate) fn finish(mut self) -> S {
        self.flush();
        self.sink
    }
}

/// Reads the bytes of a journal back.
#[derive(Clone, Debug)]
pub(crate) struct Reader<R> {
    source: R,
    /// The payload that is being read, and how far.
    chunk: Vec<u8>,
    at: usize,
    /// Where the payload begins in the file, and the next chunk.
    offset: u64,
    next: u64,
    chunks: u64,
}

impl<R: Source> Reader<R> {
    /// Reads the beginning of a journal.
    pub(crate) fn new(source: R) -> Result<Reader<R>, LogError> {
        let mut reader = Reader {
            source,
            chunk: Vec::new(),
            at: 0,
            offset: 0,
            next: 0,
            chunks: 0,
        };
        let mut start = [0; 12];
        let got = reader.fill(&mut start)?;
        let error = |kind| LogError { offset: 0, kind };
        if got < 8 || start[..8] != MAGIC {
            return Err(error(LogErrorKind::Magic));
        }
        if got < start.len() {
            return Err(LogError {
                offset: got as u64,
                kind: LogErrorKind::Truncated,
            });
        }
        let version = u32::from_le_bytes([start[8], start[9], start[10], start[11]]);
        match version {
            VERSION => Ok(reader),
            other => Err(error(LogErrorKind::Version(other))),
        }
    }

    /// Fills `buf` as far as the source goes.
    fn fill(&mut self, buf: &mut [u8]) -> Result<usize, LogError> {
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let got = self.source.read(rest).map_err(|why| LogError {
                offset: self.next,
                kind: LogErrorKind::Read(why),
            })?;
            if got == 0 {
                break;
            }
            done += got;
            self.next += got as u64;
        }
        Ok(done)
    }

    /// Reads the next chunk. `false`: there is none.
    fn load(&mut self) -> Result<bool, LogError> {
        let start = self.next;
        let mut header = [0; CHUNK_HEADER];
        let got = self.fill(&mut header)?;
        if got == 0 {
            return Ok(false);
        }
        let truncated = |offset| LogError {
            offset,
            kind: LogErrorKind::Truncated,
        };
        if got < header.len() {
            return Err(truncated(self.next));
        }
        let [a, b, c, d, sum @ ..] = header;
        let len = u32::from_le_bytes([a, b, c, d]);
        if len == 0 || len as usize > CHUNK_MAX {
            return Err(LogError {
                offset: start,
                kind: LogErrorKind::Length(len),
            });
        }
        let mut chunk = core::mem::take(&mut self.chunk);
        chunk.resize(len as usize, 0);
        self.offset = self.next;
        self.at = 0;
        let got = self.fill(&mut chunk)?;
        if got < chunk.len() {
            return Err(truncated(self.next));
        }
        if checksum(self.chunks, &chunk) != u64::from_le_bytes(sum) {
            return Err(LogError {
                offset: start,
                kind: LogErrorKind::Checksum,
            });
        }
        self.chunks += 1;
        self.chunk = chunk;
        Ok(true)
    }

    /// Byte offset in the file of what is read next.
    pub(crate) fn offset(&self) -> u64 {
        self.offset + self.at as u64
    }

    /// An error at a value that was just read.
    pub(crate) fn wrong(&self, what: &'static str) -> LogError {
        LogError {
            offset: self.offset(),
            kind: LogErrorKind::Value(what),
        }
    }

    /// At least one and at most `max` next bytes.
    pub(crate) fn part(&mut self, max: usize) -> Result<&[u8], LogError> {
        if self.at == self.chunk.len() && !self.load()? {
            return Err(LogError {
                offset: self.next,
                kind: LogErrorKind::Truncated,
            });
        }
        let end = self.chunk.len().min(self.at.saturating_add(max));
        let start = core::mem::replace(&mut self.at, end);
        Ok(self.chunk.get(start..end).unwrap_or_default())
    }

    /// The next byte, which stays.
    pub(crate) fn peek(&mut self) -> Result<u8, LogError> {
        let byte = self.byte()?;
        self.at -= 1;
        Ok(byte)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, LogError> {
        let first = self.part(1)?.first().copied();
        first.ok_or_else(|| self.wrong("a byte"))
    }

    pub(crate) fn raw(&mut self, mut buf: &mut [u8]) -> Result<(), LogError> {
        while !buf.is_empty() {
            let part = self.part(buf.len())?;
            let (now, later) = buf.split_at_mut(part.len());
            now.copy_from_slice(part);
            buf = later;
        }
        Ok(())
    }

    /// Nothing may be left.
    pub(crate) fn finish(&mut self) -> Result<(), LogError> {
        if self.at < self.chunk.len() || self.load()? {
            return Err(LogError {
                offset: self.offset(),
                kind: LogErrorKind::Trailing,
            });
        }
        Ok(())
    }
}
