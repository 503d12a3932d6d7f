//! Virtual memory areas: what a range of addresses is.

use crate::machine::Prot;
use crate::vfs::FileId;

/// What lies behind an area.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Behind {
    /// Zeroed memory of its own.
    Anonymous(Name),
    /// A file, from this page-aligned offset at the start of the area. Each area holds a reference on it.
    File { file: FileId, offset: u64 },
}

/// What `/proc/PID/maps` calls anonymous memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Name {
    None,
    Heap,
    Stack,
}

/// A virtual memory area. Its start is its key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Vma {
    pub end: u64,
    pub prot: Prot,
    /// What mprotect(2) may give: a shared mapping of a file that is not open for writing never gets `WRITE`.
    pub max: Prot,
    pub shared: bool,
    /// Grows downwards when it is touched below its start (`MAP_GROWSDOWN`).
    pub grows_down: bool,
    /// Not copied to children (`MADV_DONTFORK`).
    pub no_fork: bool,
    /// Zeroed in children (`MADV_WIPEONFORK`).
    pub wipe_on_fork: bool,
    pub behind: Behind,
}

impl Vma {
    /// Whether an area that ends where `next` starts is one with it.
    pub(crate) fn joins(&self, start: u64, next: &Vma) -> bool {
        let behind = match (self.behind, next.behind) {
            (Behind::Anonymous(a), Behind::Anonymous(b)) => a == b,
            (
                Behind::File { file, offset },
                Behind::File {
                    file: next_file,
                    offset: next_offset,
                },
            ) => file == next_file && offset + (self.end - start) == next_offset,
            _ => false,
        };
        let same = Vma {
            end: next.end,
            behind: next.behind,
            ..*self
        } == *next;
        behind && same && !self.grows_down
    }

    /// The part of an area from `at` on, which starts at `start`.
    pub(crate) fn tail(&self, start: u64, at: u64) -> Vma {
        let behind = match self.behind {
            Behind::File { file, offset } => Behind::File {
                file,
                offset: offset + (at - start),
            },
            behind => behind,
        };
        Vma { behind, ..*self }
    }

    pub(crate) fn file(&self) -> Option<FileId> {
        match self.behind {
            Behind::File { file, .. } => Some(file),
            Behind::Anonymous(_) => None,
        }
    }
}
