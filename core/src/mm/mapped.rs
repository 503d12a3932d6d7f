//! Which areas show which parts of which files: who changes a page of a file finds those that have it without
//! a look at the others.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::space;
use super::vma::{Behind, Vma};
use crate::abi::PAGE_SIZE;
use crate::fs::InodeRef;
use crate::machine::{Prot, SpaceId};
use crate::mm::Mm;
use crate::ranges::{Key, Ranges};

/// An area: its space and its start.
type Area = (SpaceId, u64);

impl Key for Area {
    const LEAST: Area = (SpaceId(0), 0);
}

/// Areas that show a file. Those of spaces that have ended are among them until they are taken apart.
#[derive(Clone, Debug, Default, Hash)]
struct Shown {
    /// By the pages that they show.
    pages: Ranges<Area>,
    /// Those through which it may be written.
    writable: BTreeSet<Area>,
}

/// The areas of all files.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Mapped {
    files: BTreeMap<InodeRef, Shown>,
    /// Areas of memory files (`/dev/shm` is none, it has a file system of its own).
    memory: BTreeSet<Area>,
    len: u64,
}

impl Mapped {
    /// How many areas of files there are.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// The starts of a space's areas of memory files.
    pub(crate) fn memory(&self, id: SpaceId) -> impl Iterator<Item = u64> + '_ {
        let all = self.memory.range((id, 0)..=(id, u64::MAX));
        all.map(|&(_, start)| start)
    }
}

/// What an area shows: the file, its first and last page, whether it may be written, whether it is a memory
/// file.
fn what(k: &Mm, start: u64, vma: &Vma) -> Option<(InodeRef, (u64, u64), bool, bool)> {
    let Behind::File { file, offset } = vma.behind else {
        return None;
    };
    let file = k.files.file(file)?;
    let first = offset / PAGE_SIZE;
    let last = first + (vma.end - start) / PAGE_SIZE - 1;
    let writable = vma.shared && vma.max.contains(Prot::WRITE);
    let memory = k.vfs.is_of_memory(file.path.mount);
    Some((file.inode?, (first, last), writable, memory))
}

/// Adds an area to a space, or replaces the one that starts there.
pub(super) fn put(k: &mut Mm, id: SpaceId, start: u64, vma: Vma) {
    take(k, id, start);
    k.space_mut(id).vmas.insert(start, vma);
    let Some((inode, (first, last), writable, memory)) = what(k, start, &vma) else {
        return;
    };
    let mapped = &mut k.mapped;
    let shown = mapped.files.entry(inode).or_default();
    shown.pages.insert(first, last, (id, start));
    if writable {
        shown.writable.insert((id, start));
    }
    if memory {
        mapped.memory.insert((id, start));
    }
    mapped.len += 1;
}

/// Takes an area out of a space; its file is still referenced.
pub(super) fn take(k: &mut Mm, id: SpaceId, start: u64) -> Option<Vma> {
    let old = k.space_mut(id).vmas.remove(start)?;
    forget(k, id, start, &old);
    Some(old)
}

/// An area is there no longer.
pub(super) fn forget(k: &mut Mm, id: SpaceId, start: u64, vma: &Vma) {
    let Some((inode, (first, last), writable, memory)) = what(k, start, vma) else {
        return;
    };
    let mapped = &mut k.mapped;
    let Some(shown) = mapped.files.get_mut(&inode) else {
        return;
    };
    mapped.len -= u64::from(shown.pages.remove(first, last, (id, start)));
    if writable {
        shown.writable.remove(&(id, start));
    }
    if shown.pages.is_empty() {
        mapped.files.remove(&inode);
    }
    if memory {
        mapped.memory.remove(&(id, start));
    }
}

/// Whether a file is mapped shared somewhere, and may be written there.
pub(crate) fn is_writable(k: &Mm, inode: InodeRef) -> bool {
    let shown = k.mapped.files.get(&inode);
    shown.is_some_and(|shown| shown.writable.iter().any(|&(id, _)| k.has_space(id)))
}

/// Where pages of a file are mapped: spaces, and ranges of addresses, in their order.
pub(super) fn places(k: &Mm, inode: InodeRef, first: u64, last: u64) -> Vec<(SpaceId, u64, u64)> {
    let Some(shown) = k.mapped.files.get(&inode) else {
        return Vec::new();
    };
    let found = shown.pages.overlapping(first, last);
    let found = found.filter(|&(_, _, (id, _))| k.has_space(id));
    let mut places: Vec<_> = found
        .map(|(from, to, (id, start))| {
            let at = |page: u64| start + (page - from) * PAGE_SIZE;
            (id, at(from.max(first)), at(to.min(last) + 1))
        })
        .collect();
    places.sort_unstable();
    places
}

/// Whether the areas of all spaces are known rightly; for invariant checks.
pub(crate) fn is_right(k: &Mm) -> bool {
    let mut left = k.mapped.len;
    let mut known = |id: SpaceId, start: u64, vma: &Vma| {
        let Some((inode, (first, last), writable, memory)) = what(k, start, vma) else {
            return true;
        };
        left = left.wrapping_sub(1);
        let area = (id, start);
        let shown = k.mapped.files.get(&inode);
        shown.is_some_and(|shown| {
            shown.pages.contains(first, last, area)
                && shown.writable.contains(&area) == writable
                && k.mapped.memory.contains(&area) == memory
        })
    };
    let living = space::ids(k).all(|id| {
        let mut areas = k.space(id).vmas.iter();
        areas.all(|(&start, vma)| known(id, start, vma))
    });
    let ended = k.ended.iter().all(|remains| {
        let mut areas = remains.areas();
        areas.all(|(id, start, vma)| known(id, start, vma))
    });
    let listed: usize = k.mapped.files.values().map(|shown| shown.pages.len()).sum();
    living && ended && left == 0 && listed as u64 == k.mapped.len
}
