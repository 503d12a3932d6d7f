//! Memory: address spaces with their VMAs and pages, faults as verdicts, and the way to user memory. Frames
//! of the memory file are on the floor of file systems ([`fs`](crate::fs)), whose files are made of them.
//!
//! The core's page tables are the truth; what the host has mapped is a cache of it, noted in each entry.
//! Everything that changes what a page is emits the `Map`, `Unmap` or `Protect` that keeps the host in step.

pub(crate) mod areas;
pub(crate) mod fault;
pub(crate) mod fork;
mod gaps;
pub(crate) mod map;
pub(crate) mod mapped;
pub(crate) mod pages;
pub(crate) mod reap;
pub(crate) mod segment;
pub(crate) mod space;
pub(crate) mod tape;
pub(crate) mod user;
pub(crate) mod vma;

#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use core::ops::{Deref, DerefMut};

use pages::Pages;
pub(crate) use space::Space;
use tape::Tape;

use crate::digest::Untold;
use crate::file::Files;
use crate::machine::{SpaceId, ThreadId};

/// The last page that a file can have.
const LAST_PAGE: u64 = (1 << 52) - 1;

/// All memory management state.
#[derive(Debug, Hash)]
pub struct Mm {
    pub(crate) files: Files,
    pub(crate) spaces: BTreeMap<SpaceId, Space>,
    /// Where files are mapped.
    pub(crate) mapped: mapped::Mapped,
    next_space: u32,
    /// Copies that are being made for children.
    pub(crate) copies: BTreeMap<ThreadId, fork::Copy>,
    /// Spaces whose areas calls of these threads change in pieces.
    pub(crate) changing: BTreeMap<ThreadId, SpaceId>,
    /// Spaces that have ended and are not taken apart yet.
    pub(crate) ended: VecDeque<reap::EndedSpace>,
    /// Areas of all spaces, as far as they were counted ([`space::count_areas`]).
    pub(crate) areas: u64,
    /// What is charged for the kernel's other objects.
    pub(crate) charged: u64,
    /// What the call whose handler runs reads and writes of its program's memory, if it is traced.
    pub(crate) tape: Untold<Option<Box<Tape>>>,
    /// The pages of the vDSO, if there is one.
    pub(crate) vdso: Option<crate::vdso::Vdso>,
}

impl Deref for Mm {
    type Target = Files;

    fn deref(&self) -> &Files {
        &self.files
    }
}

impl DerefMut for Mm {
    fn deref_mut(&mut self) -> &mut Files {
        &mut self.files
    }
}

impl Mm {
    /// No spaces.
    pub(crate) fn new(files: Files) -> Mm {
        Mm {
            files,
            spaces: BTreeMap::new(),
            mapped: mapped::Mapped::default(),
            next_space: 1,
            copies: BTreeMap::new(),
            changing: BTreeMap::new(),
            ended: VecDeque::new(),
            areas: 0,
            charged: 0,
            tape: Untold(None),
            vdso: None,
        }
    }

    /// Charges the kernel's objects of guests, which take so many bytes now.
    pub(crate) fn charge_objects(&mut self, bytes: u64) {
        let old = self.charged;
        self.frames.charge(old, bytes);
        self.charged = bytes;
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

/// Drops the mappings of pages of files that are no longer where they were, in all address spaces.
///
/// File systems only note them. So this comes before anything that looks at pages: before user memory is read
/// or written, at a fault, and when a handler has returned.
pub(crate) fn follow_files(k: &mut Mm) {
    if k.displaced.is_empty() {
        return;
    }
    for pages in core::mem::take(&mut k.displaced) {
        let (inode, first) = (pages.inode, pages.first);
        let last = pages.count.map_or(LAST_PAGE, |count| {
            first.saturating_add(count - 1).min(LAST_PAGE)
        });
        for (id, start, end) in mapped::places(k, inode, first, last) {
            match pages.count {
                Some(_) => map::drop_file_pages(k, id, start, end),
                None => map::discard(k, id, start, end),
            }
        }
    }
}
