//! Memory: frames of the memory file, address spaces with their VMAs and pages, faults, and the way to user
//! memory.
//!
//! The core's page tables are the truth; what the host has mapped is a cache of it, noted in each entry.
//! Everything that changes what a page is emits the `Map`, `Unmap` or `Protect` that keeps the host in step.

pub(crate) mod areas;
pub(crate) mod check;
pub(crate) mod fault;
pub(crate) mod fork;
pub(crate) mod frames;
mod gaps;
pub(crate) mod map;
pub(crate) mod mapped;
pub(crate) mod oom;
pub(crate) mod pages;
pub(crate) mod reap;
pub(crate) mod shared;
pub(crate) mod space;
pub(crate) mod user;
pub(crate) mod vma;

#[cfg(test)]
mod tests;

use alloc::collections::{BTreeMap, VecDeque};

pub(crate) use frames::Frames;
use pages::Pages;
pub(crate) use space::Space;

use crate::Kernel;
use crate::abi::PAGE_SIZE;
use crate::fs::InodeRef;
use crate::machine::{SpaceId, ThreadId};
use crate::port::Ports;

/// The last page that a file can have.
const LAST_PAGE: u64 = (1 << 52) - 1;

/// All memory management state.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Mm {
    /// The frames of the memory file.
    pub frames: Frames,
    pub spaces: BTreeMap<SpaceId, Space>,
    /// Where files are mapped.
    pub mapped: mapped::Mapped,
    next_space: u32,
    /// Copies that are being made for children.
    pub copies: BTreeMap<ThreadId, fork::Copy>,
    /// Spaces whose areas calls of these threads change in pieces.
    pub changing: BTreeMap<ThreadId, SpaceId>,
    /// Spaces that have ended and are not taken apart yet.
    pub ended: VecDeque<reap::Remains>,
    /// Areas of all spaces, as far as they were counted ([`space::count_areas`]).
    pub areas: u64,
    /// What is charged for the kernel's other objects.
    objects: u64,
    /// The internal tmpfs of shared anonymous memory, once it is there.
    shared: Option<(crate::fs::FsId, crate::vfs::MountId)>,
    /// The pages of the vDSO, if there is one.
    pub vdso: Option<crate::vdso::Vdso>,
}

impl Mm {
    /// `frames`: how many the memory file holds. `limit`: bytes that may be used.
    pub(crate) fn new(frames: u32, limit: Option<u64>) -> Mm {
        let limit = limit.map(|bytes| u32::try_from(bytes / PAGE_SIZE).unwrap_or(u32::MAX));
        Mm {
            frames: Frames::new(frames, limit),
            spaces: BTreeMap::new(),
            mapped: mapped::Mapped::default(),
            next_space: 1,
            copies: BTreeMap::new(),
            changing: BTreeMap::new(),
            ended: VecDeque::new(),
            areas: 0,
            objects: 0,
            shared: None,
            vdso: None,
        }
    }

    /// Charges the kernel's objects of guests, which take so many bytes now.
    pub(crate) fn charge_objects(&mut self, bytes: u64) {
        self.frames.charge(self.objects, bytes);
        self.objects = bytes;
    }

    /// Bytes of all page tables.
    pub(crate) fn table_bytes(&self) -> u64 {
        let tables = self.spaces.values();
        let ended = self.ended.iter().map(|remains| remains.table_bytes());
        let own = tables.map(|space| space.pages.table_bytes());
        own.chain(ended).sum()
    }

    /// An address space that is known to be there.
    /// Whether a space is still there.
    pub(crate) fn has_space(&self, id: SpaceId) -> bool {
        self.spaces.contains_key(&id)
    }

    pub(crate) fn space(&self, id: SpaceId) -> &Space {
        self.spaces.get(&id).expect("space is referenced") // INVARIANT: a user of it keeps its id
    }

    /// Works on the pages of a space; its tables are charged.
    pub(crate) fn pages<R>(&mut self, id: SpaceId, work: impl FnOnce(&mut Pages) -> R) -> R {
        let pages = &mut self.space_mut(id).pages;
        let old = pages.table_bytes();
        let result = work(pages);
        let new = pages.table_bytes();
        self.frames.charge(old, new);
        result
    }

    /// An address space that is known to be there.
    pub(crate) fn space_mut(&mut self, id: SpaceId) -> &mut Space {
        self.spaces.get_mut(&id).expect("space is referenced") // INVARIANT: a user of it keeps its id
    }
}

/// A file was cut: its pages from this one on are gone from all address spaces, private copies with them.
pub(crate) fn pages_cut(k: &mut Kernel, inode: InodeRef, first_page: u64) {
    for (id, start, end) in mapped::places(k, inode, first_page, LAST_PAGE) {
        map::discard(k, id, start, end);
    }
}

/// Drops the mappings of these pages of a file in all address spaces: they have moved.
pub(crate) fn pages_moved(
    k: &mut Kernel,
    _p: &mut Ports<'_>,
    inode: InodeRef,
    first_page: u64,
    count: u64,
) {
    let last = first_page.saturating_add(count.max(1) - 1).min(LAST_PAGE);
    for (id, start, end) in mapped::places(k, inode, first_page, last) {
        map::drop_file_pages(k, id, start, end);
    }
}
