//! Memory: frames of the memory file, address spaces with their VMAs and pages, faults, and the way to user memory.
//!
//! The core's page tables are the truth; what the host has mapped is a cache of it, noted in each entry. Everything that changes what a page
//! is emits the `Map`, `Unmap` or `Protect` that keeps the host in step.

pub(crate) mod areas;
pub(crate) mod check;
pub(crate) mod fault;
pub(crate) mod frames;
pub(crate) mod map;
pub(crate) mod oom;
pub(crate) mod pages;
pub(crate) mod shared;
pub(crate) mod space;
pub(crate) mod user;
pub(crate) mod vma;

#[cfg(test)]
mod tests;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

pub(crate) use frames::Frames;
use pages::Pages;
pub(crate) use space::Space;

use crate::Kernel;
use crate::abi::PAGE_SIZE;
use crate::machine::SpaceId;
use crate::port::Ports;
use crate::vfs::InodeRef;

/// All memory management state.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Mm {
    /// The frames of the memory file.
    pub frames: Frames,
    pub spaces: BTreeMap<SpaceId, Space>,
    next_space: u32,
    /// Areas of all spaces, as far as they were counted ([`space::count_areas`]).
    pub areas: u64,
    /// What is charged for the kernel's other objects.
    objects: u64,
    /// The internal tmpfs of shared anonymous memory, once it is there.
    shared: Option<(crate::vfs::FsId, crate::vfs::MountId)>,
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
            next_space: 1,
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

    /// An address space that is known to be there.
    pub(crate) fn space(&self, id: SpaceId) -> &Space {
        self.spaces.get(&id).expect("space is referenced") // INVARIANT: ids are kept only by users of the space
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
        self.spaces.get_mut(&id).expect("space is referenced") // INVARIANT: ids are kept only by users of the space
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
    let ids: Vec<SpaceId> = k.mm.spaces.keys().copied().collect();
    for id in ids {
        for (start, end) in k.mm.space(id).of_inode(&k.vfs, inode, first_page, count) {
            map::drop_file_pages(k, id, start, end);
        }
    }
}
