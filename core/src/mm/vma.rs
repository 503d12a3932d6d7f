//! Virtual memory areas: what a range of addresses is.

use crate::file::FileId;
use crate::machine::Prot;

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
    Vvar,
    Vdso,
}

bitflags::bitflags! {
    /// What an area is beside its protection, with the bits of Linux's `vm_flags`: in their order
    /// `/proc/PID/smaps` shows them.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub(crate) struct VmFlags: u64 {
        /// Grows downwards when it is touched below its start (`MAP_GROWSDOWN`).
        const GROWS_DOWN = 1 << 8;
        /// Locked: counts as `VmLck`. Nothing is ever swapped, so that is all but a few errors of other
        /// calls.
        const LOCKED = 1 << 13;
        /// `MADV_SEQUENTIAL` and `MADV_RANDOM`.
        const SEQUENTIAL = 1 << 15;
        const RANDOM = 1 << 16;
        /// Not copied to children (`MADV_DONTFORK`).
        const NO_FORK = 1 << 17;
        /// Locked without being faulted in (`MLOCK_ONFAULT`).
        const LOCK_ON_FAULT = 1 << 19;
        /// Memory that might be written by its owner alone was counted against what there is.
        const ACCOUNT = 1 << 20;
        /// `MAP_NORESERVE`.
        const NO_RESERVE = 1 << 21;
        /// Zeroed in children (`MADV_WIPEONFORK`).
        const WIPE_ON_FORK = 1 << 25;
        /// `MADV_DONTDUMP`.
        const NO_DUMP = 1 << 26;
        /// `MADV_HUGEPAGE` and `MADV_NOHUGEPAGE`.
        const HUGE = 1 << 29;
        const NO_HUGE = 1 << 30;
        /// `MADV_MERGEABLE`.
        const MERGEABLE = 1 << 31;
        /// Cannot be unmapped, moved, or get other rights (mseal(2)).
        const SEALED = 1 << 42;
    }
}

/// Both kinds of locked.
pub(crate) const LOCKED_MASK: VmFlags = VmFlags::LOCKED.union(VmFlags::LOCK_ON_FAULT);

/// Where memory should come from (set_mempolicy(2)). There is one node, so it is only kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Policy {
    /// `MPOL_` mode with its flags.
    pub mode: u16,
    /// The nodes it names.
    pub nodes: u64,
}

/// The rights that a host gives to a page of an area: x86 lets everything be read that is mapped at all;
/// written only with `write`.
pub(crate) fn host_rights(prot: Prot, write: bool) -> Prot {
    match prot.is_empty() {
        true => prot,
        false if write => prot | Prot::READ,
        false => (prot | Prot::READ) - Prot::WRITE,
    }
}

/// A virtual memory area. Its start is its key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Vma {
    pub end: u64,
    pub prot: Prot,
    /// What mprotect(2) may give: a shared mapping of a file that is not open for writing never gets `WRITE`.
    pub max: Prot,
    pub shared: bool,
    pub flags: VmFlags,
    pub policy: Policy,
    pub behind: Behind,
}

impl Vma {
    /// Private memory up to `end`.
    pub(crate) fn private(end: u64, prot: Prot, behind: Behind) -> Vma {
        Vma {
            end,
            prot,
            max: Prot::all(),
            shared: false,
            flags: match prot.contains(Prot::WRITE) {
                true => VmFlags::ACCOUNT,
                false => VmFlags::empty(),
            },
            policy: Policy::default(),
            behind,
        }
    }

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
        behind && same
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

    /// Whether it counts as data (`VmData`, `RLIMIT_DATA`): memory that its owner alone may write.
    pub(crate) fn is_data(&self) -> bool {
        self.prot.contains(Prot::WRITE) && !self.shared && !self.flags.contains(VmFlags::GROWS_DOWN)
    }
}
