//! An address space: its areas, pages, layout and users.

use alloc::vec::Vec;

use super::areas::Areas;
use super::pages::Pages;
use super::reap::{self, EndedSpace};
use super::vma::{Behind, Name, VmFlags, Vma};
use crate::abi::raw::general as g;
use crate::abi::{Errno, MMAP_MIN_ADDR, PAGE_SIZE, TASK_SIZE};
use crate::cred::Creds;
use crate::cred::ns::{NsId, USER};
use crate::env::bounds::MAP_COUNT_MAX;
use crate::env::settings;
use crate::event::Output;
use crate::file::FileId;
use crate::machine::{Prot, SpaceId, ThreadId};
use crate::mm::Mm;
use crate::port::Ports;

/// Whether somebody with these credentials may map an address (`cap_mmap_addr()`): the lowest ones with
/// `CAP_SYS_RAWIO`, as far as the host can map them.
pub(crate) fn may_use(k: &Mm, creds: &Creds, addr: u64) -> bool {
    addr >= MMAP_MIN_ADDR || addr >= k.env.lowest_address && creds.capable(g::CAP_SYS_RAWIO)
}

/// Most areas of a space: [`MAP_COUNT_MAX`], or fewer if that was set (`/proc/sys/vm/max_map_count`).
pub(crate) fn areas_most(k: &Mm) -> usize {
    k.env.settings.at_most(settings::AREAS, MAP_COUNT_MAX)
}

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
    /// Mappings without a wish are placed below this, or above it if they are placed from below.
    pub mmap_base: u64,
    pub bottom_up: bool,
    /// The auxiliary vector.
    pub auxv: Vec<(u64, u64)>,
}

/// Who may look into a space as a debugger does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(crate) struct Access {
    /// [`USER`](Self::USER): its user may (`PR_SET_DUMPABLE`). 0 or 2: nobody may without privileges.
    pub dumpable: u8,
    /// The user namespace in which privileges allow it (`mm->user_ns`): the one that the program was started
    /// in, or one above it.
    pub ns: NsId,
}

impl Access {
    /// `SUID_DUMP_USER`
    pub(crate) const USER: u8 = 1;

    /// Whether its user may.
    pub(crate) fn is_open(&self) -> bool {
        self.dumpable == Access::USER
    }
}

/// An address space.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Space {
    users: u32,
    pub vmas: Areas,
    pub pages: Pages,
    pub layout: Layout,
    pub access: Access,
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

    /// How many of its areas are counted; for invariant checks.
    pub(crate) fn counted(&self) -> u64 {
        self.counted
    }

    /// Room for a new mapping: the highest gap below `mmap_base`, else the lowest above it; only that where
    /// mappings are placed from below. `ENOMEM`.
    pub(crate) fn gap(&self, len: u64) -> Result<u64, Errno> {
        let base = self.layout.mmap_base;
        if self.layout.bottom_up {
            return self.gap_above(base, len);
        }
        let top = self.vmas.highest_gap(len, base);
        let below = self.vmas.range(..top).next_back();
        let below = below.map_or(MMAP_MIN_ADDR, |(_, vma)| vma.end.max(MMAP_MIN_ADDR));
        if top > below && top - below >= len {
            return Ok(top - len);
        }
        self.gap_above(base.max(MMAP_MIN_ADDR), len)
    }

    fn gap_above(&self, base: u64, len: u64) -> Result<u64, Errno> {
        let bottom = self.vmas.lowest_gap(len, base);
        match bottom.checked_add(len) {
            Some(end) if end <= TASK_SIZE => Ok(bottom),
            _ => Err(Errno::ENOMEM),
        }
    }

    /// The lowest room for a mapping between two addresses.
    pub(crate) fn lowest_gap(&self, (low, high): (u64, u64), len: u64) -> Option<u64> {
        let bottom = self.vmas.lowest_gap(len, low);
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
}

/// Makes an empty space with one user.
pub(crate) fn create(k: &mut Mm) -> SpaceId {
    let id = SpaceId(k.next_space);
    k.next_space += 1;
    let space = Space {
        users: 1,
        vmas: Areas::default(),
        pages: Pages::default(),
        layout: Layout::default(),
        access: Access {
            dumpable: Access::USER,
            ns: USER,
        },
        lock_future: VmFlags::empty(),
        barriers: 0,
        spurious: None,
        fresh: Fresh::default(),
        counted: 0,
    };
    k.spaces.insert(id, space);
    k.env.emit(Output::CreateSpace(id));
    id
}

/// Who may look into a space; `None` if it has gone.
pub(crate) fn access(k: &Mm, id: SpaceId) -> Option<Access> {
    k.spaces.get(&id).map(|space| space.access)
}

/// What programs with other rights than their user are (`/proc/sys/fs/suid_dumpable`).
pub(crate) fn hidden(k: &Mm) -> u8 {
    k.env.settings.get(settings::DUMPABLE) as u8
}

/// A program has got other rights than its user: only privileges allow to look into it.
pub(crate) fn hide(k: &mut Mm, id: SpaceId) {
    k.space_mut(id).access.dumpable = hidden(k);
}

/// One more user.
pub(crate) fn share(k: &mut Mm, id: SpaceId) -> SpaceId {
    k.space_mut(id).users += 1;
    id
}

/// Number of users.
pub(crate) fn users(k: &Mm, id: SpaceId) -> u32 {
    k.space(id).users
}

/// Counts the areas of a space that may have changed.
pub(crate) fn count_areas(k: &mut Mm, id: SpaceId) {
    let Mm { spaces, areas, .. } = k;
    if let Some(space) = spaces.get_mut(&id) {
        let now = space.vmas.len() as u64;
        *areas = *areas + now - space.counted;
        space.counted = now;
    }
}

/// One user less; the last one ends the space.
pub(crate) fn release(k: &mut Mm, p: &mut Ports<'_>, id: SpaceId) {
    let space = k.space_mut(id);
    space.users -= 1;
    if space.users > 0 {
        return;
    }
    crate::file::aio::space_gone(k, id);
    // The host drops the whole space: single pages need not be unmapped.
    k.env.emit(Output::DropSpace(id));
    let Some(space) = k.spaces.remove(&id) else {
        return;
    };
    let ended = EndedSpace::new(id, space.pages, space.vmas.into_map(), space.counted);
    reap::exit_mmap(k, p, ended);
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
pub(crate) fn ids(k: &Mm) -> impl Iterator<Item = SpaceId> + '_ {
    k.spaces.keys().copied()
}

/// All areas.
pub(crate) fn vmas(k: &Mm, id: SpaceId) -> impl Iterator<Item = VmaInfo> + '_ {
    k.spaces
        .get(&id)
        .into_iter()
        .flat_map(|space| space.vmas.iter())
        .map(|(&start, vma)| info(start, vma))
}

/// The first area that ends behind an address, for `/proc/PID/maps`.
pub(crate) fn next_vma(k: &Mm, id: SpaceId, addr: u64) -> Option<VmaInfo> {
    let (start, vma) = k.spaces.get(&id)?.overlapping(addr, u64::MAX).next()?;
    Some(info(start, &vma))
}

fn info(start: u64, vma: &Vma) -> VmaInfo {
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
}

/// Sizes of a space.
pub(crate) fn usage(k: &Mm, id: SpaceId) -> Usage {
    let Some(space) = k.spaces.get(&id) else {
        return Usage::default();
    };
    let sizes = space.vmas.sizes();
    let layout = &space.layout;
    let text =
        layout.code_end.next_multiple_of(PAGE_SIZE) - layout.code_start / PAGE_SIZE * PAGE_SIZE;
    let pages = &space.pages;
    let shmem = pages.memory();
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

/// Most pages that a space has had at a time.
pub(crate) fn usage_peak(k: &Mm, id: SpaceId) -> u64 {
    let space = k.spaces.get(&id);
    space.map_or(0, |space| space.pages.peak())
}

/// Where the parts of the program are.
pub(crate) fn layout(k: &Mm, id: SpaceId) -> Layout {
    k.spaces
        .get(&id)
        .map_or_else(Layout::default, |space| space.layout.clone())
}

/// The auxiliary vector, with its end.
pub(crate) fn auxv(k: &Mm, id: SpaceId) -> Vec<(u64, u64)> {
    k.spaces
        .get(&id)
        .map_or_else(Vec::new, |space| space.layout.auxv.clone())
}
