//! Spaces that have ended and were too large to be taken apart at once: their frames, tables and areas go in
//! pieces.

use alloc::collections::BTreeMap;

use super::mapped;
use super::pages::Pages;
use super::vma::Vma;
use crate::file::{FileId, aio, epoll, fasync, fdtable, lock};
use crate::machine::{FrameNo, SpaceId};
use crate::net::socket::rights;
use crate::port::Ports;
use crate::vfs::mount;
use crate::{Kernel, file};

/// What is taken apart at once: page tables, and areas.
const TABLES_AT_ONCE: usize = 16;
const AREAS_AT_ONCE: usize = 256;
/// Areas of one step.
const AREAS: usize = 32;

/// What is left of a space.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Remains {
    id: SpaceId,
    pages: Pages,
    areas: BTreeMap<u64, Vma>,
    /// Areas of it that are counted in [`Mm::areas`](super::Mm::areas).
    pub counted: u64,
}

impl Remains {
    pub(super) fn new(
        id: SpaceId,
        pages: Pages,
        areas: BTreeMap<u64, Vma>,
        counted: u64,
    ) -> Remains {
        Remains {
            id,
            pages,
            areas,
            counted,
        }
    }

    /// The frames that are still held, for invariant checks.
    pub(super) fn frames(&self) -> impl Iterator<Item = FrameNo> + '_ {
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
pub(crate) fn files(k: &Kernel) -> impl Iterator<Item = FileId> + '_ {
    let areas = k.mm.ended.iter().flat_map(|remains| remains.areas.values());
    areas.filter_map(Vma::file)
}

/// Takes a space apart that has ended: now, if it is small or memory is wanted, else by and by.
pub(super) fn bury(k: &mut Kernel, p: &mut Ports<'_>, mut remains: Remains) {
    if remains.is_small() || k.mm.frames.is_tight() {
        while take_apart(k, p, &mut remains) {}
        return;
    }
    k.mm.ended.push_back(remains);
}

/// Takes spaces apart that have ended, frees what files let go of, closes what processes had open, and goes
/// on with files that are closed and with watchers that are told, as long as steps are left.
pub(crate) fn go_on(k: &mut Kernel, p: &mut Ports<'_>) {
    while k.steps.may_begin() && (step(k, p) | put_frames(k) | close(k, p) | tell(k, p)) {}
}

/// A part of what is to be closed.
fn close(k: &mut Kernel, p: &mut Ports<'_>) -> bool {
    let more = fdtable::close_ended(k, p) | file::close_some(k, p) | rights::close_some(k, p);
    more | lock::go_on(k)
}

/// A part of what watchers are to be told, and of what those leave that are gone.
fn tell(k: &mut Kernel, p: &mut Ports<'_>) -> bool {
    let more = epoll::go_on(k) | fasync::go_on(k) | (!aio::is_done(k) && aio::go_on(k, p));
    aio::settle(k, p);
    more
}

/// Whether there is anything to do for [`go_on`].
pub(crate) fn is_done(k: &Kernel) -> bool {
    let told = epoll::is_done(k) && fasync::is_done(k) && aio::is_done(k);
    let closed = fdtable::is_closed(k) && file::is_closed(k) && rights::is_closed(k);
    k.mm.ended.is_empty() && !k.mm.frames.owes() && closed && told && lock::is_done(k)
}

/// Gives a part of the frames back that files let go of.
fn put_frames(k: &mut Kernel) -> bool {
    let count = k.mm.frames.put_some();
    k.steps.spend(count);
    count > 0
}

/// Takes apart what is left until no more is used than may be; `false` if there was nothing.
pub(super) fn make_room(k: &mut Kernel, p: &mut Ports<'_>) -> bool {
    let any = !is_done(k) || !mount::is_clear(k);
    let more = |k: &mut Kernel, p: &mut Ports<'_>| {
        put_frames(k) || step(k, p) || close(k, p) || tell(k, p) || mount::clear(k, p)
    };
    while k.mm.frames.is_short() && more(k, p) {}
    any
}

/// A part of the work; `false` if there is none.
fn step(k: &mut Kernel, p: &mut Ports<'_>) -> bool {
    let Some(mut remains) = k.mm.ended.pop_front() else {
        return false;
    };
    if take_apart(k, p, &mut remains) {
        k.mm.ended.push_front(remains);
    }
    true
}

/// A part of the work on a space; `false` if nothing is left of it.
fn take_apart(k: &mut Kernel, p: &mut Ports<'_>, remains: &mut Remains) -> bool {
    let before = remains.pages.table_bytes();
    if let Some(leaf) = remains.pages.take_leaf() {
        let mut count = 0;
        for frame in leaf {
            k.mm.frames.put(frame);
            count += 1;
        }
        k.mm.frames.charge(before, remains.pages.table_bytes());
        k.steps.spend(8 + count / 4);
        return true;
    }
    let mut any = false;
    for _ in 0..AREAS {
        let Some((start, vma)) = remains.areas.pop_first() else {
            break;
        };
        any = true;
        k.steps.spend(1);
        if let Some(id) = vma.file() {
            k.steps.spend(4);
            mapped::forget(k, remains.id, start, &vma);
            file::put(k, p, id);
        }
    }
    if !any {
        k.mm.areas -= remains.counted;
    }
    any
}
