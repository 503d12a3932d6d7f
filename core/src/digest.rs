//! The hash behind [`Kernel::digest`](crate::Kernel::digest): FNV-1a over 64-bit words, the same on every
//! machine.

use core::hash::{Hash, Hasher};

/// A 64-bit FNV-1a hasher that takes words at a time. Not for hostile keys: nothing is looked up by it.
#[derive(Clone, Debug)]
pub struct Digest(u64);

impl Default for Digest {
    fn default() -> Digest {
        Digest(0xcbf2_9ce4_8422_2325)
    }
}

impl Digest {
    fn word(&mut self, word: u64) {
        self.0 = (self.0 ^ word)
            .wrapping_mul(0x0000_0100_0000_01b3)
            .rotate_left(23);
    }
}

impl Hasher for Digest {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for &word in words {
            self.word(u64::from_le_bytes(word));
        }
        for &byte in rest {
            self.word(u64::from(byte));
        }
    }

    fn write_u8(&mut self, n: u8) {
        self.word(u64::from(n));
    }

    fn write_u16(&mut self, n: u16) {
        self.word(u64::from(n));
    }

    fn write_u32(&mut self, n: u32) {
        self.word(u64::from(n));
    }

    fn write_u64(&mut self, n: u64) {
        self.word(n);
    }

    fn write_usize(&mut self, n: usize) {
        self.word(n as u64);
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }
}

/// Something that is no part of the state: what is traced changes no digest.
#[derive(Clone, Debug, Default)]
pub(crate) struct Untold<T>(pub T);

impl<T> Hash for Untold<T> {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}
