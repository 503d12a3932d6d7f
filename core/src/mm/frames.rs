//! The frame allocator: which frames of the memory file are used, how often.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::abi::{Errno, PAGE_SIZE};
use crate::machine::FrameNo;
use crate::port::Memory;

/// Freed frames that are kept to be used again: the host need not find memory for them anew. More are given back to it.
const KEPT_MAX: u32 = 1024;
/// Frames that the kernel itself may take above the limit, so that a system call can write its result; the balance is restored before the next
/// input.
pub(crate) const RESERVE: u32 = 1024;
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
    /// References of each frame below `fresh`.
    counts: Vec<u32>,
    /// Frames that were given back and read as zeros again: first one and number.
    free: BTreeMap<u32, u32>,
    /// Frames that are free but not zero, and how many.
    kept: BTreeMap<u32, u32>,
    kept_len: u32,
    /// Frames that became free while this input was handled: the host may still have them mapped.
    freed: Vec<FrameNo>,
    used: u32,
}

impl Frames {
    /// `total`: how many the memory file holds. `limit`: how many may be used, if that is less.
    pub(crate) fn new(total: u32, limit: Option<u32>) -> Frames {
        Frames {
            total,
            limit: limit.unwrap_or(total).min(total),
            charged: 0,
            urgent: false,
            counts: Vec::new(),
            free: BTreeMap::new(),
            kept: BTreeMap::new(),
            kept_len: 0,
            freed: Vec::new(),
            used: 0,
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

    /// A frame that the caller writes whole, with one reference. `ENOMEM`.
    pub(crate) fn alloc_to_fill(&mut self) -> Result<FrameNo, Errno> {
        Ok(self.take(1)?.first)
    }

    /// Up to `count` (at least 1) consecutive zeroed frames with one reference each: the first one and how many. `ENOMEM`.
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
        let count = count.max(1).min(self.room());
        if count == 0 {
            return Err(Errno::ENOMEM);
        }
        // What was used lately is there; what was never used is next; then the longest beginning of what there is.
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

    /// Drops a reference; the last one frees the frame (its bytes are discarded before it is given out again).
    pub(crate) fn put(&mut self, frame: FrameNo) {
        let count = &mut self.counts[frame.0 as usize];
        assert!(*count > 0, "a free frame is given back");
        *count -= 1;
        if *count == 0 {
            self.used -= 1;
            self.freed.push(frame);
        }
    }

    /// Number of references.
    pub(crate) fn count(&self, frame: FrameNo) -> u32 {
        self.counts.get(frame.0 as usize).copied().unwrap_or(0)
    }

    /// Frames in use, with what the kernel needs for itself, and how many may be.
    pub(crate) fn usage(&self) -> (u32, u32) {
        (self.used.saturating_add(self.kernel_frames()), self.limit)
    }

    /// Frames of the memory file.
    pub(crate) fn total(&self) -> u32 {
        self.total
    }

    /// Whether less may be used than there is.
    pub(crate) fn is_limited(&self) -> bool {
        self.limit < self.total
    }

    /// Whether so little is left of a limit that files in memory must leave it to programs: nothing could be started any more to remove them.
    pub(crate) fn is_scarce(&self) -> bool {
        /// The part of the limit that is left to programs.
        const PART: u32 = 32;
        self.is_limited() && self.room() <= self.limit / PART
    }

    /// Frames that are referred to.
    pub(crate) fn used(&self) -> u32 {
        self.used
    }

    fn kernel_frames(&self) -> u32 {
        u32::try_from(self.charged.div_ceil(PAGE_SIZE)).unwrap_or(u32::MAX)
    }

    /// How many more frames may be taken.
    fn room(&self) -> u32 {
        let reserve = if self.urgent { RESERVE } else { 0 };
        let most = self.limit.saturating_add(reserve).min(self.total);
        most.saturating_sub(self.usage().0)
    }

    /// Whether so many bytes more of the kernel's own fit.
    pub(crate) fn fits(&self, bytes: u64) -> bool {
        bytes.div_ceil(PAGE_SIZE) <= u64::from(self.room())
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

    /// Whether more is used than may be.
    pub(crate) fn is_over(&self) -> bool {
        self.usage().0 > self.limit
    }

    /// Makes frames that became free ready to be used again, and gives those that are too many back to the host. Called before an input is handled:
    /// the host has executed the outputs by which it unmapped them.
    pub(crate) fn clean(&mut self, memory: &mut dyn Memory) {
        if self.freed.is_empty() {
            return;
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

impl Frames {
    /// Whether used, free and waiting frames add up; for invariant checks.
    pub(crate) fn check(&self) -> Result<(), alloc::string::String> {
        let counted = self.counts.iter().filter(|&&count| count > 0).count();
        let sum = |runs: &BTreeMap<u32, u32>| runs.values().map(|&len| u64::from(len)).sum::<u64>();
        let (free, kept) = (sum(&self.free), sum(&self.kept));
        let all = counted as u64 + free + kept + self.freed.len() as u64;
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
                "{counted} frames counted, {} noted; {free} free, {kept} kept, {} freed of {}",
                self.used,
                self.freed.len(),
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
        assert_eq!(frames.alloc_to_fill().unwrap(), FrameNo(3001));
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
