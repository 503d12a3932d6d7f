//! Digests: what tells equal files apart quickly, and the identity of a whole image.

use sha2::{Digest as _, Sha256};
use xxhash_rust::xxh3::Xxh3;

/// Fingerprint of one file's content; equality is a hint that the writer verifies byte by byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Fingerprint(u128);

/// Fingerprints the non-zero granules of a file, so that a hole and zeros count the same.
#[derive(Default)]
pub(crate) struct ContentHasher(Xxh3);

impl ContentHasher {
    /// Adds a run of granules at `offset` of the file.
    pub(crate) fn run(&mut self, offset: u64, bytes: &[u8]) {
        self.0.update(&offset.to_le_bytes());
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> Fingerprint {
        Fingerprint(self.0.digest128())
    }
}

/// Collects what identifies an image: its metadata and the fingerprints of its extents.
#[derive(Default)]
pub(crate) struct ImageHasher(Sha256);

impl ImageHasher {
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn extent(&mut self, start: u64, size: u64, content: Fingerprint) {
        self.0.update(start.to_le_bytes());
        self.0.update(size.to_le_bytes());
        self.0.update(content.0.to_le_bytes());
    }

    /// A UUID of version 8 (RFC 9562: the maker's own digest, here SHA-256).
    pub(crate) fn uuid(self) -> [u8; 16] {
        let digest = self.0.finalize();
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&digest[..16]);
        uuid[6] = uuid[6] & 0x0f | 0x80;
        uuid[8] = uuid[8] & 0x3f | 0x80;
        uuid
    }
}
