//! The kernel's random numbers: ChaCha20 seeded by the boot configuration.

use core::hash::{Hash, Hasher};

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng};

/// A deterministic source of random bytes for `getrandom`, `AT_RANDOM`, address space layout and random
/// devices.
#[derive(Clone, Debug)]
pub(crate) struct Rng(ChaCha20Rng);

impl Rng {
    pub(crate) fn new(seed: [u8; 32]) -> Rng {
        Rng(ChaCha20Rng::from_seed(seed))
    }

    pub(crate) fn fill(&mut self, buf: &mut [u8]) {
        self.0.fill_bytes(buf);
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A seed for hash tables that guests fill, so that they cannot choose what collides. It is of a stream
    /// of its own: no number that guests see depends on it, nor says anything of it.
    pub(crate) fn table_seed(&self) -> u64 {
        let mut other = self.0.clone();
        other.set_stream(1);
        other.next_u64()
    }
}

impl Hash for Rng {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.get_seed().hash(state);
        self.0.get_word_pos().hash(state);
    }
}
