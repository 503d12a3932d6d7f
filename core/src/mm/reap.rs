//! Spaces that have ended and were too large to be taken apart at once: their frames, tables and areas go in
//! pieces.

use alloc::collections::BTreeMap;

use super::mapped;
use super::pages::Pages;
use super::vma::Vma;
use crate::file;
use crate::file::FileId;
use crate::machine::{FrameNo, SpaceId};
use crate::mm::Mm;
use crate::port::Ports;

/// What is taken apart at once: page tables, and areas.
const TABLES_AT_ONCE: usize = 16;
const AREAS_AT_ONCE: usize = 256;
/// Areas of one step.
const AREAS: usize = 32;

/// What is left of a space.
#[derive(Clone, Debug, Hash)]
pub(crate) struct EndedSpace {
    id: SpaceId,
    pages: Pages,
    areas: BTreeMap<u64, Vma>,
    /// Areas of it that are counted in [`Mm::areas`](super::Mm::areas).
    pub counted: u64,
}

impl EndedSpace {
    pub(super) fn new(
        id: SpaceId,
        pages: Pages,
        areas: BTreeMap<u64, Vma>,
        counted: u64,
    ) -> EndedSpace {
        EndedSpace {
            id,
            pages,
            areas,
            counted,
        }
    }

    /// The frames that are still held, for invariant checks.
    pub(crate) fn frames(&self) -> impl Iterator<Item = FrameNo> + '_ {
        self.pages.iter().filter_map(|(_, pte)| pte.frame())
    }

    /// The areas that are left, with the space and their starts, for invariant checks.
    pub(super) fn areas(&self) -> impl Iterator<Item = (SpaceId, u64, &Vma)> {
        let areas = self.areas.iter();
        areas.map(|(&start, vma)| (self.id, start, vma))
    }

    /// Bytes of the page tables.
    pub(super) fn table_bytes(&self) -> u64 {
        self.pages.table_bytes()
    }

    fn is_small(&self) -> bool {
        self.pages.tables() <= TABLES_AT_ONCE && self.areas.len() <= AREAS_AT_ONCE
    }
}

/// The files that areas of ended spaces still hold, for invariant checks.
pub(crate) fn files(k: &Mm) -> impl Iterator<Item = FileId> + '_ {
    let areas = k.ended.iter().flat_map(|ended| ended.areas.values());
    areas.filter_map(Vma::file)
}

/// Takes a space apart that has ended: now, if it is small or memory is wanted, else by and by.
pub(super) fn exit_mmap(k: &mut Mm, p: &mut Ports<'_>, mut ended: EndedSpace) {
    if ended.is_small() || k.frames.is_tight() {
        while take_apart(k, p, &mut ended) {}
        return;
    }
    k.ended.push_back(ended);
}

/// Gives a part of the frames back that files let go of.
pub(crate) fn put_frames(k: &mut Mm) -> bool {
    let count = k.frames.put_some();
    k.env.steps.spend(count);
    count > 0
}

/// A part of the work; `false` if there is none.
pub(crate) fn step(k: &mut Mm, p: &mut Ports<'_>) -> bool {
    let Some(mut ended) = k.ended.pop_front() else {
        return false;
    };
    if take_apart(k, p, &mut ended) {
        k.ended.push_front(ended);
    }
    true
}

/// A part of the work on a space; `false` if nothing is left of it.
fn take_apart(k: &mut Mm, p: &mut Ports<'_>, ended: &mut EndedSpace) -> bool {
    let before = ended.pages.table_bytes();
    if let Some(leaf) = ended.pages.take_leaf() {
        let mut count = 0;
        for frame in leaf {
            k.frames.put(frame);
            count += 1;
        }
        k.frames.charge(before, ended.pages.table_bytes());
        k.env.steps.spend(8 + count / 4);
        return true;
    }
    let mut any = false;
    for _ in 0..AREAS {
        let Some((start, vma)) = ended.areas.pop_first() else {
            break;
        };
        any = true;
        k.env.steps.spend(1);
        if let Some(id) = vma.file() {
            k.env.steps.spend(4);
            mapped::forget(k, ended.id, start, &vma);
            file::put(k, p, id);
        }
    }
    if !any {
        k.areas -= ended.counted;
    }
    any
}
