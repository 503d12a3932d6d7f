//! SHA-256 digests as OCI writes them, and readers that compute them on the way.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest as _, Sha256};

use super::ImageError;

/// A digest, `sha256:` and 64 hexadecimal digits when shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256Digest(pub [u8; 32]);

impl Sha256Digest {
    /// The digest of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The 64 digits.
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }

    /// The digest of a whole file of this length.
    pub(crate) fn of_file(file: &File, stop: &Stop<'_>) -> io::Result<(Self, u64)> {
        let mut hasher = Sha256::new();
        let mut buf = vec![0; 1 << 20];
        let mut at = 0;
        loop {
            stop.check()?;
            match file.read_at(&mut buf, at)? {
                0 => return Ok((Self(hasher.finalize().into()), at)),
                len => {
                    hasher.update(&buf[..len]);
                    at += len as u64;
                }
            }
        }
    }
}

impl fmt::Display for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl FromStr for Sha256Digest {
    type Err = ImageError;

    fn from_str(text: &str) -> Result<Self, ImageError> {
        let bad = |reason| ImageError::bad(format!("digest {text:?}"), reason);
        let Some(digits) = text.strip_prefix("sha256:") else {
            return Err(bad("only sha256: digests are supported"));
        };
        let digits = digits.as_bytes();
        let mut digest = [0; 32];
        if digits.len() != 64 {
            return Err(bad("a SHA-256 digest has 64 hexadecimal digits"));
        }
        let lower = !digits.iter().any(u8::is_ascii_uppercase);
        match hex::decode_to_slice(digits, &mut digest) {
            Ok(()) if lower => Ok(Self(digest)),
            _ => Err(bad("a SHA-256 digest has 64 lower-case hexadecimal digits")),
        }
    }
}

/// Whether work is to end: because the caller wants it, or because another part of it failed.
pub(crate) struct Stop<'a> {
    wanted: &'a AtomicBool,
    failed: AtomicBool,
}

impl<'a> Stop<'a> {
    pub(crate) fn new(wanted: &'a AtomicBool) -> Self {
        Self {
            wanted,
            failed: AtomicBool::new(false),
        }
    }

    /// Notes a failure; whether it is the first one.
    pub(crate) fn fail(&self) -> bool {
        !self.failed.swap(true, Ordering::Relaxed)
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }

    pub(crate) fn is_set(&self) -> bool {
        self.is_wanted() || self.failed.load(Ordering::Relaxed)
    }

    pub(crate) fn check(&self) -> io::Result<()> {
        match self.is_set() {
            true => Err(io::Error::other("interrupted")),
            false => Ok(()),
        }
    }
}

/// Passes bytes on until it is told to stop, also while there are none: a source with a timeout is asked
/// again.
pub(crate) struct Stoppable<'a, R> {
    inner: R,
    stop: &'a Stop<'a>,
}

impl<'a, R> Stoppable<'a, R> {
    pub(crate) fn new(inner: R, stop: &'a Stop<'a>) -> Self {
        Self { inner, stop }
    }
}

impl<R: Read> Read for Stoppable<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            self.stop.check()?;
            match self.inner.read(buf) {
                Err(e)
                    if matches!(
                        e.kind(),
                        io::ErrorKind::WouldBlock
                            | io::ErrorKind::TimedOut
                            | io::ErrorKind::Interrupted
                    ) => {}
                result => return result,
            }
        }
    }
}

/// Passes bytes on and computes their digest; tells how many there were and stops when it is wanted.
pub(crate) struct HashReader<'a, R> {
    inner: R,
    hasher: Sha256,
    count: u64,
    stop: &'a Stop<'a>,
    advance: &'a mut dyn FnMut(u64),
}

impl<'a, R: Read> HashReader<'a, R> {
    pub(crate) fn new(inner: R, stop: &'a Stop<'a>, advance: &'a mut dyn FnMut(u64)) -> Self {
        Self {
            inner,
            hasher: Sha256::new(),
            count: 0,
            stop,
            advance,
        }
    }

    /// Reads to the end; gives the digest and the number of bytes.
    pub(crate) fn finish(mut self) -> io::Result<(Sha256Digest, u64)> {
        let mut buf = vec![0; 64 << 10];
        while self.read(&mut buf)? > 0 {}
        let digest = self.hasher.finalize();
        Ok((Sha256Digest(digest.into()), self.count))
    }
}

impl<R: Read> Read for HashReader<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.stop.check()?;
        let len = self.inner.read(buf)?;
        self.hasher.update(&buf[..len]);
        self.count += len as u64;
        (self.advance)(self.count);
        Ok(len)
    }
}
