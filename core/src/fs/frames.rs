//! The frame allocator: which frames of the memory file are used, how often.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use crate::abi::{Errno, PAGE_SIZE};
use crate::fs::runs::FrameRuns;
use crate::machine::FrameNo;
use crate::port::Memory;

/// Freed frames that are kept to be used again: the host need not find memory for them anew. More are given
/// back to it.
const KEPT_MAX: u32 = 1024;
/// Frames that the kernel itself may take above the limit, so that a system call can write its result; the
/// balance is restored before the next input.
pub(crate) const RESERVE: u32 = 1024;
/// Frames of a block in which neighbouring pages find their places.
const BLOCK: u32 = 16;
/// Frames of a file that are given back at once.
const AT_ONCE: u32 = 256;
/// How many free runs are looked at for one that is long enough.
const RUNS_TRIED: usize = 32;

/// Frames with reference counts. A fresh frame reads as zeros.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Frames {
    /// Frames of the memory file.
    total: u32,
    /// Frames that may be used, with what the kernel needs for itself.
    limit: u32,
    /// Bytes that the kernel holds for guests beside frames: page tables, contents of pipes.
    charged: u64,
    /// The reserve may be taken now.
    urgent: bool,
    /// Bytes that a call has asked for and that did not fit; and whether no room could be made for such a
    /// one.
    wanted: u64,
    refused: bool,
    /// References of each frame below `fresh`.
    counts: Vec<u32>,
    /// Frames that were given back and read as zeros again: first one and number.
    free: BTreeMap<u32, u32>,
    /// Frames that are free but not zero, and how many.
    kept: BTreeMap<u32, u32>,
    kept_len: u32,
    /// Frames that became free while this input was handled: the host may still have them mapped.
    freed: Vec<FrameNo>,
    /// Frames that became free earlier, each with the number of the input, in that order: a guest thread may
    /// still reach them, because the host has not seen it stopped since.
    quarantine: VecDeque<(u64, FrameNo)>,
    /// Number of the input that is handled; the boot is 0.
    batch: u64,
    used: u32,
    /// Frames that files let go of, too many to be given back at once; and how many.
    let_go: VecDeque<FrameRuns>,
    owed: u32,
}

impl Frames {
    /// Of a memory file with so many frames, of which so many bytes may be used.
    pub(crate) fn limited(frames: u32, limit: Option<u64>) -> Frames {
        let limit = limit.map(|bytes| u32::try_from(bytes / PAGE_SIZE).unwrap_or(u32::MAX));
        Frames::new(frames, limit)
    }

    /// `total`: how many the memory file holds. `limit`: how many may be used, if that is less.
    pub(crate) fn new(total: u32, limit: Option<u32>) -> Frames {
        Frames {
            total,
            limit: limit.unwrap_or(total).min(total),
            charged: 0,
            urgent: false,
            wanted: 0,
            refused: false,
            counts: Vec::new(),
            free: BTreeMap::new(),
            kept: BTreeMap::new(),
            kept_len: 0,
            freed: Vec::new(),
            quarantine: VecDeque::new(),
            batch: 0,
            used: 0,
            let_go: VecDeque::new(),
            owed: 0,
        }
    }

    /// The first frame that was never given out.
    fn fresh(&self) -> u32 {
        self.counts.len() as u32
    }

    /// A zeroed frame with one reference. `ENOMEM`.
    pub(crate) fn alloc(&mut self, memory: &mut dyn Memory) -> Result<FrameNo, Errno> {
        self.alloc_run(memory, 1).map(|(first, _)| first)
    }

    /// Up to `count` (at least 1) consecutive zeroed frames, the first of them where hosts can join its page
    /// to the neighbours, if there is one there. `ENOMEM`.
    pub(crate) fn alloc_run_beside(
        &mut self,
        memory: &mut dyn Memory,
        place: Place,
        count: u32,
    ) -> Result<(FrameNo, u32), Errno> {
        let run = match self.take_joined(place)? {
            Some(run) => run,
            None if count >= BLOCK => self.take(count)?,
            None => self.take_apart(place)?,
        };
        let first = run.first;
        let (mut len, mut zeroed) = (run.len, run.zeroed);
        while len < count
            && self.room() > 0
            && let Some(frame) = first.0.checked_add(len)
            && let Some(next) = self.take_at(frame)
        {
            zeroed &= next.zeroed;
            len += 1;
        }
        if !zeroed {
            memory.zero(first.offset(), u64::from(len) * PAGE_SIZE);
        }
        Ok((first, len))
    }

    /// One such frame, for a caller that writes it whole. It need not be zero.
    pub(crate) fn alloc_beside_to_fill(&mut self, place: Place) -> Result<FrameNo, Errno> {
        Ok(self.take_beside(place)?.first)
    }

    /// One frame where hosts can join its page to the neighbours, or where they may be joined to it later.
    fn take_beside(&mut self, place: Place) -> Result<Run, Errno> {
        match self.take_joined(place)? {
            Some(run) => Ok(run),
            None => self.take_apart(place),
        }
    }

    /// One frame where the frames of neighbouring pages want it to be, if they have any and it is free.
    fn take_joined(&mut self, place: Place) -> Result<Option<Run>, Errno> {
        self.make_room();
        if self.room() == 0 {
            return Err(Errno::ENOMEM);
        }
        let from = |(other, FrameNo(frame)): (u64, FrameNo)| {
            u32::try_from((u64::from(frame) + place.index).checked_sub(other)?).ok()
        };
        let neighbours = [place.before, place.after].into_iter().flatten();
        let mut wanted = neighbours.filter_map(from);
        Ok(wanted.find_map(|frame| self.take_at(frame)))
    }

    /// One frame in a block that was never used, whose other frames are free: the neighbours of the page find
    /// theirs there, in whatever order they come. Any frame if there is no such block.
    fn take_apart(&mut self, place: Place) -> Result<Run, Errno> {
        let block = self.fresh().next_multiple_of(BLOCK);
        if place.block
            && block
                .checked_add(BLOCK)
                .is_some_and(|end| end <= self.total)
        {
            let first = self.fresh();
            let end = block + BLOCK;
            self.counts.resize(end as usize, 0);
            free_run(&mut self.free, first, end - first);
            let frame = block + (place.index % u64::from(BLOCK)) as u32;
            if let Some(run) = self.take_at(frame) {
                return Ok(run);
            }
        }
        self.take(1)
    }

    /// One certain frame, if it can be had.
    fn take_at(&mut self, frame: u32) -> Option<Run> {
        let zeroed = if frame == self.fresh() && frame < self.total {
            self.counts.push(0);
            true
        } else if cut_at(&mut self.kept, frame) {
            self.kept_len -= 1;
            false
        } else if cut_at(&mut self.free, frame) {
            true
        } else {
            return None;
        };
        self.counts[frame as usize] = 1;
        self.used += 1;
        Some(Run {
            first: FrameNo(frame),
            len: 1,
            zeroed,
        })
    }

    /// Up to `count` (at least 1) consecutive zeroed frames with one reference each: the first one and how
    /// many. `ENOMEM`.
    pub(crate) fn alloc_run(
        &mut self,
        memory: &mut dyn Memory,
        count: u32,
    ) -> Result<(FrameNo, u32), Errno> {
        let run = self.take(count)?;
        if !run.zeroed {
            memory.zero(run.first.offset(), u64::from(run.len) * PAGE_SIZE);
        }
        Ok((run.first, run.len))
    }

    /// Up to `count` consecutive frames with one reference each.
    fn take(&mut self, count: u32) -> Result<Run, Errno> {
        self.make_room();
        let count = count.max(1).min(self.room());
        if count == 0 {
            return Err(Errno::ENOMEM);
        }
        // What was used lately is there; what was never used is next; then the longest beginning of what
        // there is.
        let (first, len, zeroed) = if let Some(first) = cut(&mut self.kept, count, count) {
            (first.0, count, false)
        } else if let Some(first) = cut(&mut self.free, count, count) {
            (first.0, count, true)
        } else if self.fresh() < self.total {
            let (first, len) = (self.fresh(), count.min(self.total - self.fresh()));
            self.counts.resize(first as usize + len as usize, 0);
            (first, len, true)
        } else if let Some((first, len)) = cut(&mut self.free, 1, count) {
            (first, len, true)
        } else if let Some((first, len)) = cut(&mut self.kept, 1, count) {
            (first, len, false)
        } else {
            return Err(Errno::ENOMEM);
        };
        if !zeroed {
            self.kept_len -= len;
        }
        self.counts[first as usize..(first + len) as usize].fill(1);
        self.used += len;
        Ok(Run {
            first: FrameNo(first),
            len,
            zeroed,
        })
    }

    /// Takes one more reference.
    pub(crate) fn get(&mut self, frame: FrameNo) {
        let count = &mut self.counts[frame.0 as usize];
        assert!(*count > 0, "a reference to a free frame");
        *count += 1;
    }

    /// Drops a reference; the last one frees the frame (its bytes are discarded before it is given out
    /// again).
    pub(crate) fn put(&mut self, frame: FrameNo) {
        let count = &mut self.counts[frame.0 as usize];
        assert!(*count > 0, "a free frame is given back");
        *count -= 1;
        if *count == 0 {
            self.used -= 1;
            self.freed.push(frame);
        }
    }

    /// Drops a reference to each of the frames of a file: at once, or by and by if they are many.
    pub(crate) fn put_all(&mut self, frames: FrameRuns) {
        if frames.len() <= u64::from(AT_ONCE) {
            frames.frames().for_each(|frame| self.put(frame));
            return;
        }
        self.owed = self.owed.saturating_add(frames.len() as u32);
        self.let_go.push_back(frames);
    }

    /// Drops references that were left for later, some at a time; gives how many.
    pub(crate) fn put_some(&mut self) -> u64 {
        let Some(mut frames) = self.let_go.pop_front() else {
            return 0;
        };
        let mut count = 0;
        while count < AT_ONCE
            && let Some((FrameNo(first), len)) = frames.pop(AT_ONCE - count)
        {
            for frame in first..first + len {
                self.put(FrameNo(frame));
            }
            count += len;
        }
        self.owed = self.owed.saturating_sub(count);
        if !frames.is_empty() {
            self.let_go.push_front(frames);
        }
        u64::from(count)
    }

    /// Whether references are left for later.
    pub(crate) fn owes(&self) -> bool {
        !self.let_go.is_empty()
    }

    /// The frames of which references are left for later, for invariant checks.
    pub(crate) fn left_for_later(&self) -> impl Iterator<Item = FrameNo> + '_ {
        self.let_go.iter().flat_map(FrameRuns::frames)
    }

    /// Number of references.
    pub(crate) fn count(&self, frame: FrameNo) -> u32 {
        self.counts.get(frame.0 as usize).copied().unwrap_or(0)
    }

    /// Frames in use, with what the kernel needs for itself, and how many may be. What files have let go of
    /// is free.
    pub(crate) fn usage(&self) -> (u32, u32) {
        (self.taken().saturating_sub(self.owed), self.limit)
    }

    /// Frames that are not free, with what the kernel needs for itself.
    fn taken(&self) -> u32 {
        self.used.saturating_add(self.kernel_frames())
    }

    /// Frames of the memory file.
    pub(crate) fn total(&self) -> u32 {
        self.total
    }

    /// Whether less may be used than there is.
    pub(crate) fn is_limited(&self) -> bool {
        self.limit < self.total
    }

    /// How many frames files in memory may still take: a part of a limit they must leave to programs, or
    /// nothing could be started any more to remove them.
    pub(crate) fn room_of_files(&self) -> u32 {
        /// The part of the limit that is left to programs.
        const PART: u32 = 32;
        let kept = match self.is_limited() {
            true => self.limit / PART,
            false => return u32::MAX,
        };
        self.room().saturating_add(self.owed).saturating_sub(kept)
    }

    /// Whether files in memory may take none.
    pub(crate) fn is_scarce(&self) -> bool {
        self.room_of_files() == 0
    }

    /// Frames that are referred to.
    pub(crate) fn used(&self) -> u32 {
        self.used
    }

    fn kernel_frames(&self) -> u32 {
        u32::try_from(self.charged.div_ceil(PAGE_SIZE)).unwrap_or(u32::MAX)
    }

    /// What was left for later must be done when frames are wanted and there are none.
    fn make_room(&mut self) {
        while self.room() == 0 && self.put_some() > 0 {}
    }

    /// How many more frames may be taken.
    fn room(&self) -> u32 {
        let reserve = if self.urgent { RESERVE } else { 0 };
        let most = self.limit.saturating_add(reserve).min(self.total);
        most.saturating_sub(self.taken())
    }

    /// Whether little is left, so that what can be freed is to be freed at once.
    pub(crate) fn is_tight(&self) -> bool {
        self.room().saturating_add(self.owed) <= self.limit / 4
    }

    /// Whether so many bytes more of the kernel's own fit.
    fn fits(&self, bytes: u64) -> bool {
        bytes.div_ceil(PAGE_SIZE) <= u64::from(self.room().saturating_add(self.owed))
    }

    /// Asks for room for so many bytes more of the kernel's own. `LATER` if it has to be made, which happens
    /// before the next input; `ENOMEM` if it was tried and nothing is left that could be given up.
    pub(crate) fn want(&mut self, bytes: u64) -> Result<(), Errno> {
        if self.fits(bytes) {
            return Ok(());
        }
        if core::mem::take(&mut self.refused) {
            return Err(Errno::ENOMEM);
        }
        self.wanted = self.wanted.max(bytes);
        Err(Errno::LATER)
    }

    /// Whether room has to be made: more is used than may be, or somebody has asked for what does not fit.
    pub(crate) fn is_short(&self) -> bool {
        self.is_over() || (self.wanted > 0 && !self.fits(self.wanted))
    }

    /// Room was made for who has asked for it, as far as it could be.
    pub(crate) fn answer(&mut self) {
        self.refused = self.wanted > 0 && !self.fits(self.wanted);
        self.wanted = 0;
    }

    /// Notes that the kernel holds `new` instead of `old` bytes for guests.
    pub(crate) fn charge(&mut self, old: u64, new: u64) {
        self.charged = self.charged + new - old;
    }

    /// Bytes that the kernel holds for guests.
    pub(crate) fn charged(&self) -> u64 {
        self.charged
    }

    /// Lets the kernel take its reserve, or no more.
    pub(crate) fn set_urgent(&mut self, urgent: bool) {
        self.urgent = urgent;
    }

    /// Whether frames are free that a guest thread may still reach: they can be had soon.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.quarantine.is_empty()
    }

    /// Whether more is used than may be.
    pub(crate) fn is_over(&self) -> bool {
        self.taken() > self.limit
    }

    /// Makes frames that became free ready to be used again, and gives those that are too many back to the
    /// host. Called before an input is handled: the host has executed the outputs by which it unmapped them,
    /// and says how many of them guests can no longer overlook.
    pub(crate) fn clean(&mut self, memory: &mut dyn Memory) {
        let batch = self.batch;
        self.batch += 1;
        if self.freed.is_empty() && self.quarantine.is_empty() {
            return;
        }
        let flushed = memory.flushed();
        if flushed <= batch || !self.quarantine.is_empty() {
            let freed = self.freed.drain(..).map(|frame| (batch, frame));
            self.quarantine.extend(freed);
            let reached = self
                .quarantine
                .partition_point(|&(batch, _)| batch < flushed);
            let frames = self.quarantine.drain(..reached).map(|(_, frame)| frame);
            self.freed.extend(frames);
        }
        self.freed.sort_unstable();
        let mut rest = self.freed.as_slice();
        while let Some(&FrameNo(first)) = rest.first() {
            let len = rest
                .iter()
                .zip(first..)
                .take_while(|&(frame, next)| frame.0 == next)
                .count();
            rest = &rest[len..];
            let len = len as u32;
            if self.kept_len + len <= KEPT_MAX {
                self.kept_len += len;
                free_run(&mut self.kept, first, len);
            } else {
                memory.discard(FrameNo(first), len);
                free_run(&mut self.free, first, len);
            }
        }
        self.freed.clear();
    }
}

/// Where a page lies for which a frame is wanted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Place {
    /// The page's number.
    pub index: u64,
    /// The nearest pages before and behind it that have frames, of those [`around`](Self::around).
    pub before: Option<(u64, FrameNo)>,
    pub after: Option<(u64, FrameNo)>,
    /// It may begin a block that leaves room for its neighbours.
    pub block: bool,
}

impl Place {
    /// The first and the last page that a page is placed by: those whose places are in the same block, and
    /// its neighbours.
    pub(crate) fn around(index: u64) -> (u64, u64) {
        let block = u64::from(BLOCK);
        let first = index / block * block;
        let last = first.saturating_add(block - 1);
        (
            first.min(index.saturating_sub(1)),
            last.max(index.saturating_add(1)),
        )
    }
}

/// Frames that were taken.
struct Run {
    first: FrameNo,
    len: u32,
    /// They read as zeros.
    zeroed: bool,
}

/// Takes up to `most` frames from a run of at least `least`: first one and number.
fn cut(runs: &mut BTreeMap<u32, u32>, least: u32, most: u32) -> Option<(u32, u32)> {
    let tried = runs.iter().take(RUNS_TRIED);
    let (&first, &len) = tried.into_iter().find(|&(_, &len)| len >= least)?;
    let got = len.min(most);
    runs.remove(&first);
    if len > got {
        runs.insert(first + got, len - got);
    }
    Some((first, got))
}

/// Takes one frame out of the runs.
fn cut_at(runs: &mut BTreeMap<u32, u32>, frame: u32) -> bool {
    let Some((&first, len)) = runs.range_mut(..=frame).next_back() else {
        return false;
    };
    if frame - first >= *len {
        return false;
    }
    let rest = *len - (frame - first) - 1;
    *len = frame - first;
    if first == frame {
        runs.remove(&first);
    }
    if rest > 0 {
        runs.insert(frame + 1, rest);
    }
    true
}

impl Frames {
    /// Whether used, free and waiting frames add up; for invariant checks.
    pub(crate) fn check(&self) -> Result<(), alloc::string::String> {
        let counted = self.counts.iter().filter(|&&count| count > 0).count();
        let sum = |runs: &BTreeMap<u32, u32>| runs.values().map(|&len| u64::from(len)).sum::<u64>();
        let (free, kept) = (sum(&self.free), sum(&self.kept));
        let waiting = self.freed.len() + self.quarantine.len();
        let all = counted as u64 + free + kept + waiting as u64;
        let free_runs = self.free.iter().chain(&self.kept).all(|(&first, &len)| {
            let run = self
                .counts
                .get(first as usize..first as usize + len as usize);
            run.is_some_and(|run| run.iter().all(|&count| count == 0))
        });
        let right = self.used as usize == counted
            && kept == u64::from(self.kept_len)
            && all == u64::from(self.fresh())
            && free_runs;
        right.then_some(()).ok_or_else(|| {
            alloc::format!(
                "{counted} frames counted, {} noted; {free} free, {kept} kept, {} waiting of {}",
                self.used,
                waiting,
                self.fresh()
            )
        })
    }
}

/// Adds a run to the free ones, joined to its neighbours.
fn free_run(free: &mut BTreeMap<u32, u32>, first: u32, len: u32) {
    let (mut first, mut len) = (first, len);
    if let Some((&before, &before_len)) = free.range(..first).next_back()
        && before + before_len == first
    {
        free.remove(&before);
        (first, len) = (before, before_len + len);
    }
    if let Some(after_len) = free.remove(&(first + len)) {
        len += after_len;
    }
    free.insert(first, len);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memhost::MemHost;

    #[test]
    fn frames_are_counted_and_come_back_zeroed() {
        let mut host = MemHost::new(8192, Vec::new());
        let memory = &mut host.memory;
        let mut frames = Frames::new(8192, None);
        let (first, len) = frames.alloc_run(memory, 3000).unwrap();
        assert_eq!((first, len), (FrameNo(0), 3000));
        for frame in 0..3000 {
            memory.write(frame * PAGE_SIZE, b"dirt");
        }
        frames.get(first);
        frames.put(first);
        // A part that is kept, and one that goes back to the host.
        for frame in (0..100).chain(500..3000) {
            frames.put(FrameNo(frame));
        }
        frames.check().unwrap();
        // The host may still have them.
        assert_eq!(frames.alloc(memory).unwrap(), FrameNo(3000));
        frames.clean(memory);
        frames.check().unwrap();
        assert_eq!(frames.usage(), (401, 8192));
        let mut seen = Vec::new();
        for _ in 0..26 {
            let (first, len) = frames.alloc_run(memory, 100).unwrap();
            assert_eq!(len, 100);
            seen.push(first.0);
            for frame in first.0..first.0 + len {
                let mut word = [1; 4];
                memory.read(u64::from(frame) * PAGE_SIZE, &mut word);
                assert_eq!(word, [0; 4], "frame {frame}");
            }
        }
        frames.check().unwrap();
        assert!(seen.starts_with(&[0, 500]), "{seen:?}");
        assert_eq!(frames.take(1).unwrap().first, FrameNo(3001));
    }

    #[test]
    fn the_limit_counts_what_the_kernel_holds_and_has_a_reserve() {
        let memory = &mut MemHost::new(4096, Vec::new()).memory;
        let mut frames = Frames::new(4096, Some(10));
        assert_eq!(frames.alloc_run(memory, 8).unwrap(), (FrameNo(0), 8));
        frames.charge(0, PAGE_SIZE + 1);
        assert_eq!(frames.usage(), (10, 10));
        assert!(frames.alloc(memory) == Err(Errno::ENOMEM) && !frames.is_over());
        frames.set_urgent(true);
        assert_eq!(
            frames.alloc_run(memory, 5000).unwrap(),
            (FrameNo(8), RESERVE)
        );
        frames.set_urgent(false);
        assert!(frames.is_over());
        frames.charge(PAGE_SIZE + 1, 0);
        assert_eq!(frames.usage().0, 8 + RESERVE);
    }

    /// The frames of the pages 1..=n of a file, as they are written in an order, and how many areas a host
    /// makes of them.
    fn areas(frames: &mut Frames, order: impl Iterator<Item = u64>) -> usize {
        let mut pages = BTreeMap::new();
        for index in order {
            let (first, last) = Place::around(index);
            let known = |(&index, &frame): (&u64, &FrameNo)| (index, frame);
            let place = Place {
                index,
                before: pages.range(first..index).next_back().map(known),
                after: pages.range(index + 1..=last).next().map(known),
                block: true,
            };
            let frame = frames.alloc_beside_to_fill(place).unwrap();
            assert!(frames.count(frame) == 1 && pages.insert(index, frame).is_none());
        }
        let joined = |(&index, &FrameNo(frame)): (&u64, &FrameNo)| {
            pages.get(&(index + 1)) == Some(&FrameNo(frame + 1))
        };
        pages.len() - pages.iter().filter(|&page| joined(page)).count()
    }

    #[test]
    fn neighbouring_pages_get_neighbouring_frames_in_any_order() {
        const PAGES: u64 = 8000;
        let frames = || Frames::new(1 << 20, None);
        assert_eq!(areas(&mut frames(), 1..PAGES), 1);
        let most = PAGES as usize / BLOCK as usize + 1;
        assert!(areas(&mut frames(), (1..PAGES).rev()) <= most);
        let scattered = (0..PAGES).map(|n| 1 + n * 2741 % PAGES);
        assert!(areas(&mut frames(), scattered) <= most + most / 2);
        // Among others' pages, too.
        let mut mixed = frames();
        for _ in 0..50 {
            assert!(areas(&mut mixed, (1..100).rev()) <= 8);
            mixed.take(3).unwrap();
        }
        mixed.check().unwrap();
        // When there is no room for blocks, whatever is left.
        let mut short = Frames::new(40, None);
        areas(&mut short, (1..=40).map(|n| 20 * n));
        assert!(short.take_beside(Place::default()).is_err());
        short.check().unwrap();
    }

    /// Frames that guests may still reach are nobody's.
    #[test]
    fn freed_frames_wait_until_their_batch_is_in_force() {
        let memory = &mut MemHost::new(64, Vec::new()).memory;
        memory.flushed = Some(0);
        let mut frames = Frames::new(64, None);
        frames.alloc_run(memory, 60).unwrap();
        for batch in 0..3 {
            frames.put(FrameNo(batch));
            frames.clean(memory);
        }
        frames.check().unwrap();
        assert!(frames.is_waiting());
        assert_eq!(frames.alloc_run(memory, 64).unwrap(), (FrameNo(60), 4));
        assert_eq!(frames.alloc(memory), Err(Errno::ENOMEM));
        memory.flushed = Some(2);
        frames.clean(memory);
        frames.check().unwrap();
        assert_eq!(frames.alloc_run(memory, 64).unwrap(), (FrameNo(0), 2));
        assert_eq!(frames.alloc(memory), Err(Errno::ENOMEM));
        memory.flushed = Some(3);
        frames.clean(memory);
        assert!(!frames.is_waiting());
        assert_eq!(frames.alloc(memory).unwrap(), FrameNo(2));
    }

    #[test]
    fn memory_ends() {
        let memory = &mut MemHost::new(3, Vec::new()).memory;
        let mut frames = Frames::new(3, None);
        assert_eq!(frames.alloc_run(memory, 2).unwrap(), (FrameNo(0), 2));
        assert_eq!(frames.alloc_run(memory, 2).unwrap(), (FrameNo(2), 1));
        assert_eq!(frames.alloc(memory), Err(Errno::ENOMEM));
        frames.put(FrameNo(1));
        assert_eq!(frames.alloc(memory), Err(Errno::ENOMEM));
        frames.clean(memory);
        assert_eq!(frames.alloc_run(memory, 2).unwrap(), (FrameNo(1), 1));
    }
}
