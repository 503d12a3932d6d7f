//! What threads read and wrote, as `/proc/PID/io` tells it.

/// Numbers of system calls that read or write, and of the bytes that they moved (proc(5)).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Io {
    pub reads: u64,
    pub read_bytes: u64,
    pub writes: u64,
    pub written_bytes: u64,
}

/// Numbers of the calls that read, write, or do both at once (x86-64).
const READS: [u64; 5] = [0, 17, 19, 295, 327];
const WRITES: [u64; 5] = [1, 18, 20, 296, 328];
const COPIES: [u64; 2] = [40, 326];

impl Io {
    /// Counts a system call that has ended with this many bytes.
    pub(crate) fn count(&mut self, number: u64, bytes: u64) {
        let copies = COPIES.contains(&number);
        if copies || READS.contains(&number) {
            self.reads += 1;
            self.read_bytes = self.read_bytes.saturating_add(bytes);
        }
        if copies || WRITES.contains(&number) {
            self.writes += 1;
            self.written_bytes = self.written_bytes.saturating_add(bytes);
        }
    }

    /// Adds what another thread did.
    pub(crate) fn add(&mut self, other: &Io) {
        self.reads += other.reads;
        self.writes += other.writes;
        self.read_bytes = self.read_bytes.saturating_add(other.read_bytes);
        self.written_bytes = self.written_bytes.saturating_add(other.written_bytes);
    }
}
