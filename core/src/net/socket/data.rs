//! Where the bytes of a message come from and go to: user memory, or the kernel's own (sendfile(2),
//! splice(2)).

use crate::file::caller::FileCallers;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::abi::Errno;
use crate::env::cx::Cx;
use crate::file::rw;
use crate::file::rw::Iov;
use crate::fs::filesystem;

/// Bytes to be sent.
pub(crate) enum Source<'a> {
    User(&'a mut Iov),
    Kernel(&'a [u8]),
}

impl Source<'_> {
    pub(crate) fn left(&self) -> u64 {
        match self {
            Source::User(iov) => iov.left(),
            Source::Kernel(bytes) => bytes.len() as u64,
        }
    }

    /// Whether a call that has moved some bytes goes on until it has moved all.
    pub(crate) fn is_whole(&self) -> bool {
        matches!(self, Source::User(_))
    }

    /// Passes over bytes that were sent before.
    pub(crate) fn skip(&mut self, len: u64) {
        match self {
            Source::User(iov) => iov.advance(len),
            Source::Kernel(bytes) => *bytes = bytes.get(len as usize..).unwrap_or_default(),
        }
    }

    /// Moves exactly `len` bytes to the end of a ring, which `ring` finds; none if one cannot be read.
    pub(crate) fn fill<K: FileCallers>(
        &mut self,
        cx: &mut Cx<'_, '_, K>,
        mut len: u64,
        ring: impl Fn(&mut K) -> Option<&mut VecDeque<u8>>,
    ) -> Result<(), Errno> {
        let iov = match self {
            Source::User(iov) => iov,
            Source::Kernel(bytes) => {
                let (part, rest) = bytes.split_at(bytes.len().min(len as usize));
                ring(cx.k).ok_or(Errno::EPIPE)?.extend(part);
                *bytes = rest;
                return Ok(());
            }
        };
        let old = ring(cx.k).ok_or(Errno::EPIPE)?.len();
        let mut result = Ok(());
        while len > 0 && result.is_ok() {
            result = match iov.run(cx, len, false) {
                Ok(Some((from, part))) => {
                    iov.advance(part);
                    len -= part;
                    let to = ring(cx.k).ok_or(Errno::EPIPE)?;
                    rw::append(cx.p, to, from, part)
                }
                Ok(None) => Err(Errno::EFAULT),
                Err(errno) => Err(errno),
            };
        }
        if result.is_err() {
            ring(cx.k).ok_or(Errno::EPIPE)?.truncate(old);
        }
        result
    }
}

/// Where received bytes go.
pub(crate) enum Sink<'a> {
    User(&'a mut Iov),
    /// At most so many more bytes.
    Kernel(&'a mut Vec<u8>, u64),
}

impl Sink<'_> {
    pub(crate) fn left(&self) -> u64 {
        match self {
            Sink::User(iov) => iov.left(),
            Sink::Kernel(_, left) => *left,
        }
    }

    /// Passes over space that was filled before.
    pub(crate) fn skip(&mut self, len: u64) {
        if let Sink::User(iov) = self {
            iov.advance(len);
        }
    }

    /// Copies `len` bytes from position `at` of a ring, which `ring` finds. `EFAULT` if one cannot be
    /// written.
    pub(crate) fn drain<K: FileCallers>(
        &mut self,
        cx: &mut Cx<'_, '_, K>,
        mut at: usize,
        mut len: u64,
        ring: impl Fn(&K) -> Option<&VecDeque<u8>>,
    ) -> Result<(), Errno> {
        let iov = match self {
            Sink::User(iov) => iov,
            Sink::Kernel(bytes, left) => {
                let from = ring(cx.k).ok_or(Errno::EBADF)?;
                bytes.extend(from.range(at..at + len as usize));
                *left -= len;
                return Ok(());
            }
        };
        while len > 0 {
            let Some((filesystem::Source::Memory(to), run)) = iov.run(cx, len, true)? else {
                return Err(Errno::EFAULT);
            };
            let from = ring(cx.k).ok_or(Errno::EBADF)?;
            let (head, tail) = from.as_slices();
            let part = match head.get(at..) {
                Some(part) if !part.is_empty() => part,
                _ => tail.get(at - head.len()..).unwrap_or_default(),
            };
            let part = &part[..part.len().min(run as usize)];
            cx.p.memory.write(to, part);
            iov.advance(part.len() as u64);
            at += part.len();
            len -= part.len() as u64;
            if part.is_empty() {
                return Err(Errno::EFAULT);
            }
        }
        Ok(())
    }
}
