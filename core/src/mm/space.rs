//! An address space: its areas, pages, layout and users.

use alloc::vec::Vec;

use super::areas::Areas;
use super::map;
use super::pages::Pages;
use super::vma::{Behind, LOCKED_MASK, Name, VmFlags, Vma, host_rights};
use crate::Kernel;
use crate::abi::{Errno, MMAP_MIN_ADDR, PAGE_SIZE, TASK_SIZE};
use crate::event::Output;
use crate::machine::{Prot, SpaceId, ThreadId};
use crate::port::Ports;
use crate::vfs::{FileId, InodeRef, Vfs, file};

/// Most areas of one space (`vm.max_map_count`).
pub(crate) const MAP_COUNT_MAX: usize = 65530;

/// Where the parts of a program are (proc(5), `stat`).
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Layout {
    pub code_start: u64,
    pub code_end: u64,
    pub data_start: u64,
    pub data_end: u64,
    pub arg_start: u64,
    pub arg_end: u64,
    pub env_start: u64,
    pub env_end: u64,
    pub brk_start: u64,
    /// Current end of the heap, not page-aligned.
    pub brk: u64,
    pub stack_start: u64,
    /// Mappings without a wish are placed below this.
    pub mmap_base: u64,
    /// The auxiliary vector.
    pub auxv: Vec<(u64, u64)>,
}

/// An address space.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Space {
    users: u32,
    pub vmas: Areas,
    /// What the last searches for room have found out.
    full: Full,
    pub pages: Pages,
    pub layout: Layout,
    /// What new areas get: `LOCKED`, `LOCK_ON_FAULT` (`mlockall(MCL_FUTURE)`).
    pub lock_future: VmFlags,
    /// What threads of the space have registered for (membarrier(2)).
    pub barriers: u32,
    /// The last fault on a page that seemed to be mapped rightly.
    pub spurious: Option<Spurious>,
    /// The last first touch of anonymous memory.
    pub fresh: Fresh,
    /// How many of the areas are in [`Mm::areas`](super::Mm::areas).
    counted: u64,
}

/// Pages that a first touch of anonymous memory made: the next touch behind them makes more at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub(crate) struct Fresh {
    /// The page behind them.
    pub end: u64,
    /// How many they were meant to be.
    pub len: u64,
}

/// A fault that there was no reason for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(crate) struct Spurious {
    pub thread: ThreadId,
    pub addr: u64,
    /// The instruction.
    pub rip: u64,
    /// How often in a row.
    pub times: u32,
}

/// No gap of `len` bytes or more lies from `from` up to `mmap_base`: a search for as much need not look there. Without it many small
/// mappings would cost the square of their number.
#[derive(Clone, Copy, Debug, Hash)]
struct Full {
    from: u64,
    len: u64,
}

/// Nothing is known.
const NOT_SEARCHED: Full = Full {
    from: u64::MAX,
    len: 0,
};

/// What `/proc/PID/maps` shows of an area.
#[derive(Clone, Copy, Debug)]
pub(crate) struct VmaInfo {
    pub start: u64,
    pub end: u64,
    pub prot: Prot,
    pub max: Prot,
    pub shared: bool,
    pub flags: VmFlags,
    pub offset: u64,
    pub file: Option<FileId>,
    /// `[heap]`, `[stack]` or nothing.
    pub name: &'static str,
}

/// Sizes in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub vm_bytes: u64,
    pub vm_peak: u64,
    /// Pages of its own, of files, and of shared memory.
    pub anon_bytes: u64,
    pub file_bytes: u64,
    pub shmem_bytes: u64,
    pub rss_peak: u64,
    pub locked_bytes: u64,
    pub data_bytes: u64,
    pub stack_bytes: u64,
    /// Code of the program, and of all areas.
    pub text_bytes: u64,
    pub code_bytes: u64,
    pub table_bytes: u64,
}

impl Usage {
    /// All pages that are there.
    pub(crate) fn rss_bytes(&self) -> u64 {
        self.anon_bytes + self.file_bytes + self.shmem_bytes
    }
}

impl Space {
    /// The area that holds an address, with its start.
    pub(crate) fn find(&self, addr: u64) -> Option<(u64, Vma)> {
        let (&start, &vma) = self.vmas.range(..=addr).next_back()?;
        (addr < vma.end).then_some((start, vma))
    }

    /// Areas that overlap a range, with their starts.
    pub(crate) fn overlapping(
        &self,
        start: u64,
        end: u64,
    ) -> impl Iterator<Item = (u64, Vma)> + '_ {
        let first = match start < end {
            true => self.find(start).map_or(start, |(first, _)| first),
            false => end,
        };
        self.vmas
            .range(first..end.max(first))
            .map(|(&start, &vma)| (start, vma))
    }

    /// Whether every address of a range lies in an area.
    pub(crate) fn covers(&self, start: u64, end: u64) -> bool {
        let mut at = start;
        for (first, vma) in self.overlapping(start, end) {
            if first > at {
                return false;
            }
            at = vma.end;
        }
        at >= end
    }

    /// Notes that an area which ended at `end` is gone.
    pub(crate) fn removed(&mut self, end: u64) {
        if end > self.full.from {
            self.full = NOT_SEARCHED;
        }
    }

    /// The end of the highest gap of `len` bytes below `mmap_base`, or the start of the lowest area there.
    fn highest_gap(&self, len: u64, from: u64) -> u64 {
        let mut top = from;
        for (&start, vma) in self.vmas.range(..from).rev() {
            if vma.end < top && top - vma.end >= len {
                break;
            }
            top = top.min(start);
        }
        top
    }

    /// How many of its areas are counted; for invariant checks.
    pub(super) fn counted(&self) -> u64 {
        self.counted
    }

    /// Room for a new mapping: the highest gap below `mmap_base`, else the lowest above it.
    pub(crate) fn gap(&mut self, len: u64) -> Result<u64, Errno> {
        let base = self.layout.mmap_base;
        let from = match len >= self.full.len {
            true => self.full.from.min(base),
            false => base,
        };
        let top = self.highest_gap(len, from);
        self.full = Full { from: top, len };
        let below = self
            .vmas
            .range(..top)
            .next_back()
            .map_or(MMAP_MIN_ADDR, |(_, vma)| vma.end);
        if top > below.max(MMAP_MIN_ADDR) && top - below.max(MMAP_MIN_ADDR) >= len {
            return Ok(top - len);
        }
        let mut bottom = base.max(MMAP_MIN_ADDR);
        for (&start, vma) in self.vmas.range(bottom..) {
            if start - bottom.min(start) >= len {
                break;
            }
            bottom = vma.end;
        }
        let fits = bottom.checked_add(len).is_some_and(|end| end <= TASK_SIZE);
        if fits && !self.overlapping(bottom, bottom + len).any(|_| true) {
            Ok(bottom)
        } else {
            Err(Errno::ENOMEM)
        }
    }

    /// The lowest room for a mapping between two addresses.
    pub(crate) fn lowest_gap(&self, (low, high): (u64, u64), len: u64) -> Option<u64> {
        let mut bottom = low;
        for (start, vma) in self.overlapping(low, high) {
            if start.saturating_sub(bottom) >= len {
                break;
            }
            bottom = bottom.max(vma.end);
        }
        (high.saturating_sub(bottom) >= len).then_some(bottom)
    }

    /// Number of tasks that run in it.
    pub(crate) fn users(&self) -> u32 {
        self.users
    }

    /// Bytes of all areas.
    pub(crate) fn total(&self) -> u64 {
        self.vmas.sizes().total
    }

    /// Whether what is known of gaps is true. For the check of invariants.
    pub(crate) fn knows_its_gaps(&self) -> bool {
        let base = self.layout.mmap_base;
        let from = self.full.from.min(base);
        let top = self.highest_gap(self.full.len, base);
        self.full.from == u64::MAX || top <= from
    }

    /// Ranges of addresses at which these pages of a file are mapped.
    pub(crate) fn of_inode(
        &self,
        vfs: &Vfs,
        inode: InodeRef,
        first: u64,
        count: u64,
    ) -> Vec<(u64, u64)> {
        let (from, to) = (
            first.saturating_mul(PAGE_SIZE),
            first.saturating_add(count).saturating_mul(PAGE_SIZE),
        );
        let mut ranges = Vec::new();
        for (&start, vma) in self.vmas.iter() {
            let Behind::File { file, offset } = vma.behind else {
                continue;
            };
            if vfs.file(file).and_then(|file| file.inode) != Some(inode) {
                continue;
            }
            let last = offset + (vma.end - start);
            let (from, to) = (from.max(offset), to.min(last));
            if from < to {
                ranges.push((start + (from - offset), start + (to - offset)));
            }
        }
        ranges
    }
}

/// Makes an empty space with one user.
pub(crate) fn create(k: &mut Kernel) -> SpaceId {
    let id = SpaceId(k.mm.next_space);
    k.mm.next_space += 1;
    let space = Space {
        users: 1,
        vmas: Areas::default(),
        full: NOT_SEARCHED,
        pages: Pages::default(),
        layout: Layout::default(),
        lock_future: VmFlags::empty(),
        barriers: 0,
        spurious: None,
        fresh: Fresh::default(),
        counted: 0,
    };
    k.mm.spaces.insert(id, space);
    k.emit(Output::CreateSpace(id));
    id
}

/// One more user.
pub(crate) fn share(k: &mut Kernel, id: SpaceId) -> SpaceId {
    k.mm.space_mut(id).users += 1;
    id
}

/// Number of users.
pub(crate) fn users(k: &Kernel, id: SpaceId) -> u32 {
    k.mm.space(id).users
}

/// Counts the areas of a space that may have changed.
pub(crate) fn count_areas(k: &mut Kernel, id: SpaceId) {
    let super::Mm { spaces, areas, .. } = &mut k.mm;
    if let Some(space) = spaces.get_mut(&id) {
        let now = space.vmas.len() as u64;
        *areas = *areas + now - space.counted;
        space.counted = now;
    }
}

/// One user less; the last one ends the space.
pub(crate) fn release(k: &mut Kernel, p: &mut Ports<'_>, id: SpaceId) {
    let space = k.mm.space_mut(id);
    space.users -= 1;
    if space.users > 0 {
        return;
    }
    crate::vfs::aio::space_gone(k, p, id);
    // The host drops the whole space: single pages need not be unmapped.
    k.emit(Output::DropSpace(id));
    let Some(space) = k.mm.spaces.remove(&id) else {
        return;
    };
    for (_, pte) in space.pages.iter() {
        if let Some(frame) = pte.frame() {
            k.mm.frames.put(frame);
        }
    }
    k.mm.areas -= space.counted;
    k.mm.frames.charge(space.pages.table_bytes(), 0);
    for vma in space.vmas.values() {
        if let Some(id) = vma.file() {
            file::put(k, p, id);
        }
    }
}

/// A copy of a space for a child; private pages are shared until either side writes.
pub(crate) fn fork(k: &mut Kernel, p: &mut Ports<'_>, parent: SpaceId) -> Result<SpaceId, Errno> {
    // Its tables take about as much.
    if !k.mm.frames.fits(k.mm.space(parent).pages.table_bytes()) {
        return Err(Errno::ENOMEM);
    }
    let id = create(k);
    let vmas: Vec<(u64, Vma)> = {
        let space = k.mm.space(parent);
        space
            .vmas
            .iter()
            .filter(|(_, vma)| !vma.flags.contains(VmFlags::NO_FORK))
            .map(|(&start, &vma)| (start, vma))
            .collect()
    };
    let layout = k.mm.space(parent).layout.clone();
    let barriers = k.mm.space(parent).barriers;
    let space = k.mm.space_mut(id);
    (space.layout, space.barriers) = (layout, barriers);
    for (start, vma) in vmas {
        if let Some(file) = vma.file() {
            file::get(k, file);
        }
        // Locks are not inherited (mlock(2)).
        let copy = Vma {
            flags: vma.flags - LOCKED_MASK,
            ..vma
        };
        k.mm.space_mut(id).vmas.insert(start, copy);
        if vma.flags.contains(VmFlags::WIPE_ON_FORK) {
            continue;
        }
        let mut copied = Pages::default();
        let mut protect = Vec::new();
        let Mm2 { frames, space } = split(k, parent);
        space
            .pages
            .each_mut(start / PAGE_SIZE, vma.end / PAGE_SIZE, |page, pte| {
                let Some(frame) = pte.frame() else { return };
                frames.get(frame);
                copied.set(page, super::pages::Pte::private(frame));
                if pte.on_host() && pte.writable() {
                    *pte = pte.mapped(false);
                    protect.push(page);
                }
            });
        k.mm.pages(id, |pages| {
            for (page, pte) in copied.iter() {
                pages.set(page, pte);
            }
        });
        for (first, count) in runs(&protect) {
            let prot = host_rights(vma.prot, false);
            let (addr, len) = (first * PAGE_SIZE, count * PAGE_SIZE);
            k.emit(Output::Protect {
                space: parent,
                addr,
                len,
                prot,
            });
        }
        if vma.file().is_some() {
            map::map_file_pages(k, p, id, start, start, vma.end);
        }
    }
    // Areas that only a lock told apart are one in the copy.
    if k.mm.space(parent).vmas.sizes().locked > 0 {
        map::join(k, p, id, 0, TASK_SIZE);
    }
    Ok(id)
}

struct Mm2<'k> {
    frames: &'k mut super::Frames,
    space: &'k mut Space,
}

/// The frames and one space at the same time.
fn split(k: &mut Kernel, id: SpaceId) -> Mm2<'_> {
    let super::Mm { frames, spaces, .. } = &mut k.mm;
    let space = spaces.get_mut(&id).expect("space is referenced"); // INVARIANT: ids are kept only by users of the space
    Mm2 { frames, space }
}

/// Runs of consecutive numbers in an ascending list.
pub(crate) fn runs(pages: &[u64]) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for &page in pages {
        match runs.last_mut() {
            Some((first, count)) if *first + *count == page => *count += 1,
            _ => runs.push((page, 1)),
        }
    }
    runs
}

/// All spaces.
pub(crate) fn ids(k: &Kernel) -> impl Iterator<Item = SpaceId> + '_ {
    k.mm.spaces.keys().copied()
}

/// All areas, for `/proc/PID/maps`.
pub(crate) fn vmas(k: &Kernel, id: SpaceId) -> impl Iterator<Item = VmaInfo> + '_ {
    k.mm.spaces
        .get(&id)
        .into_iter()
        .flat_map(|space| space.vmas.iter())
        .map(|(&start, vma)| {
            let (file, offset, name) = match vma.behind {
                Behind::File { file, offset } => (Some(file), offset, ""),
                Behind::Anonymous(Name::Heap) => (None, 0, "[heap]"),
                Behind::Anonymous(Name::Stack) => (None, 0, "[stack]"),
                Behind::Anonymous(Name::Vvar) => (None, 0, "[vvar]"),
                Behind::Anonymous(Name::Vdso) => (None, 0, "[vdso]"),
                Behind::Anonymous(Name::None) => (None, 0, ""),
            };
            VmaInfo {
                start,
                end: vma.end,
                prot: vma.prot,
                max: vma.max,
                shared: vma.shared,
                flags: vma.flags,
                offset,
                file,
                name,
            }
        })
}

/// Sizes of a space.
pub(crate) fn usage(k: &Kernel, id: SpaceId) -> Usage {
    let Some(space) = k.mm.spaces.get(&id) else {
        return Usage::default();
    };
    let sizes = space.vmas.sizes();
    let layout = &space.layout;
    let text =
        layout.code_end.next_multiple_of(PAGE_SIZE) - layout.code_start / PAGE_SIZE * PAGE_SIZE;
    let pages = &space.pages;
    let shmem = shared_pages(k, space).min(pages.file());
    Usage {
        vm_bytes: sizes.total,
        vm_peak: space.vmas.peak(),
        anon_bytes: pages.own() * PAGE_SIZE,
        file_bytes: (pages.file() - shmem) * PAGE_SIZE,
        shmem_bytes: shmem * PAGE_SIZE,
        rss_peak: pages.peak() * PAGE_SIZE,
        locked_bytes: sizes.locked,
        data_bytes: sizes.data,
        stack_bytes: sizes.stack,
        text_bytes: text.min(sizes.code),
        code_bytes: sizes.code,
        table_bytes: pages.table_bytes(),
    }
}

/// Pages of memory files that are mapped.
fn shared_pages(k: &Kernel, space: &Space) -> u64 {
    let mut count = 0;
    for (&start, vma) in space.vmas.iter() {
        let open = vma.file().and_then(|id| k.vfs.file(id));
        let memory = open.is_some_and(|open| super::shared::is_mount(k, open.path.mount));
        if memory {
            let (first, end) = (start / PAGE_SIZE, vma.end / PAGE_SIZE);
            space.pages.each(first, end, |_, pte| {
                count += u64::from(pte.frame().is_none())
            });
        }
    }
    count
}

/// Where the parts of the program are.
pub(crate) fn layout(k: &Kernel, id: SpaceId) -> Layout {
    k.mm.spaces
        .get(&id)
        .map_or_else(Layout::default, |space| space.layout.clone())
}

/// The auxiliary vector, with its end.
pub(crate) fn auxv(k: &Kernel, id: SpaceId) -> Vec<(u64, u64)> {
    k.mm.spaces
        .get(&id)
        .map_or_else(Vec::new, |space| space.layout.auxv.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

    fn empty(mmap_base: u64) -> Space {
        Space {
            users: 1,
            vmas: Areas::default(),
            full: NOT_SEARCHED,
            pages: Pages::default(),
            layout: Layout {
                mmap_base,
                ..Layout::default()
            },
            lock_future: VmFlags::empty(),
            barriers: 0,
            spurious: None,
            fresh: Fresh::default(),
            counted: 0,
        }
    }

    fn put(space: &mut Space, start: u64, len: u64) {
        let vma = Vma::private(start + len, Prot::READ, Behind::Anonymous(Name::None));
        space.vmas.insert(start, vma);
    }

    #[test]
    fn what_was_searched_before_changes_no_placement() {
        for seed in 0..20 {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let mut below = |end: u64| random.next_u64() % end;
            let mut space = empty(MMAP_MIN_ADDR + 400 * PAGE_SIZE);
            for _ in 0..2000 {
                let len = (1 + below(8)) * PAGE_SIZE;
                if below(2) == 0 {
                    let expected = Space {
                        full: NOT_SEARCHED,
                        ..space.clone()
                    }
                    .gap(len);
                    assert_eq!(space.gap(len), expected, "seed {seed}");
                    // A search is not always followed by a mapping.
                    if let Ok(start) = expected
                        && below(4) > 0
                    {
                        put(&mut space, start, len);
                    }
                } else if !space.vmas.is_empty() {
                    let index = below(space.vmas.len() as u64) as usize;
                    let (start, vma) = space
                        .vmas
                        .iter()
                        .nth(index)
                        .map(|(&s, &v)| (s, v))
                        .expect("it is there");
                    space.vmas.remove(start);
                    space.removed(vma.end);
                }
                assert!(space.knows_its_gaps(), "seed {seed}");
            }
        }
    }
}
