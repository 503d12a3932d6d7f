//! The frame allocator: which frames of the memory file are used, how often.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::abi::Errno;
use crate::machine::FrameNo;
use crate::port::Memory;

/// Freed frames are given back to the host when so many have come together.
const DIRTY_MAX: usize = 512;
/// How many free runs are looked at for one that is long enough.
const RUNS_TRIED: usize = 32;

/// Frames with reference counts. A fresh frame reads as zeros.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Frames {
    total: u32,
    /// References of each frame below `fresh`.
    counts: Vec<u32>,
    /// Frames that were given back and read as zeros again: first one and number.
    free: BTreeMap<u32, u32>,
    /// Frames that are free but not yet zero.
    dirty: Vec<FrameNo>,
    used: u32,
}

impl Frames {
    pub(crate) fn new(total: u32) -> Frames {
        Frames {
            total,
            counts: Vec::new(),
            free: BTreeMap::new(),
            dirty: Vec::new(),
            used: 0,
        }
    }

    /// The first frame that was never given out.
    fn fresh(&self) -> u32 {
        self.counts.len() as u32
    }

    /// A zeroed frame with one reference. `ENOMEM`.
    pub(crate) fn alloc(&mut self) -> Result<FrameNo, Errno> {
        self.alloc_run(1).map(|(first, _)| first)
    }

    /// Up to `count` (at least 1) consecutive zeroed frames with one reference each: the first one and how many.
    pub(crate) fn alloc_run(&mut self, count: u32) -> Result<(FrameNo, u32), Errno> {
        let count = count.max(1);
        let enough = self
            .free
            .iter()
            .take(RUNS_TRIED)
            .find(|&(_, &len)| len >= count);
        let (first, got) = match enough {
            Some((&first, _)) => (first, count),
            None if self.total - self.fresh() >= count => {
                let first = self.fresh();
                self.counts.resize(first as usize + count as usize, 1);
                self.used += count;
                return Ok((FrameNo(first), count));
            }
            None => match self.free.first_key_value() {
                Some((&first, &len)) => (first, len.min(count)),
                None if self.fresh() < self.total => {
                    let left = self.total - self.fresh();
                    return self.alloc_run(left);
                }
                None => return Err(Errno::ENOMEM),
            },
        };
        if let Some(len) = self.free.remove(&first)
            && len > got
        {
            self.free.insert(first + got, len - got);
        }
        self.counts[first as usize..(first + got) as usize].fill(1);
        self.used += got;
        Ok((FrameNo(first), got))
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
            self.dirty.push(frame);
        }
    }

    /// Number of references.
    pub(crate) fn count(&self, frame: FrameNo) -> u32 {
        self.counts.get(frame.0 as usize).copied().unwrap_or(0)
    }

    /// Frames in use and in all.
    pub(crate) fn usage(&self) -> (u32, u32) {
        (self.used, self.total)
    }

    /// Gives freed frames back to the host once there are many of them, or few others. Called before an input is handled: the host has
    /// executed the outputs by which it unmapped them.
    pub(crate) fn clean(&mut self, memory: &mut dyn Memory) {
        let short = self.free.is_empty() && self.total - self.fresh() < DIRTY_MAX as u32;
        if self.dirty.len() < DIRTY_MAX && (self.dirty.is_empty() || !short) {
            return;
        }
        self.dirty.sort_unstable();
        let mut rest = self.dirty.as_slice();
        while let Some(&FrameNo(first)) = rest.first() {
            let len = rest
                .iter()
                .zip(first..)
                .take_while(|&(frame, next)| frame.0 == next)
                .count();
            memory.discard(FrameNo(first), len as u32);
            free_run(&mut self.free, first, len as u32);
            rest = &rest[len..];
        }
        self.dirty.clear();
    }
}

impl Frames {
    /// Whether used, free and waiting frames add up; for invariant checks.
    pub(crate) fn check(&self) -> Result<(), alloc::string::String> {
        let counted = self.counts.iter().filter(|&&count| count > 0).count();
        let free: u64 = self.free.values().map(|&len| u64::from(len)).sum();
        let all = counted as u64 + free + self.dirty.len() as u64;
        let free_runs = self.free.iter().all(|(&first, &len)| {
            let run = self
                .counts
                .get(first as usize..first as usize + len as usize);
            run.is_some_and(|run| run.iter().all(|&count| count == 0))
        });
        let right = self.used as usize == counted && all == u64::from(self.fresh()) && free_runs;
        right.then_some(()).ok_or_else(|| {
            alloc::format!(
                "{counted} frames counted, {} noted; {free} free, {} dirty of {}",
                self.used,
                self.dirty.len(),
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
        let mut host = MemHost::new(1024, Vec::new());
        let mut frames = Frames::new(1024);
        let (first, len) = frames.alloc_run(600).unwrap();
        assert_eq!((first, len), (FrameNo(0), 600));
        host.memory.write(0, b"dirt");
        frames.get(first);
        frames.put(first);
        for frame in 0..600 {
            frames.put(FrameNo(frame));
        }
        assert_eq!(frames.usage(), (0, 1024));
        frames.clean(&mut host.memory);
        let mut word = [1; 4];
        assert_eq!(frames.alloc().unwrap(), FrameNo(0));
        host.memory.read(0, &mut word);
        assert_eq!(word, [0; 4]);
    }

    #[test]
    fn memory_ends() {
        let mut frames = Frames::new(3);
        assert_eq!(frames.alloc_run(2).unwrap(), (FrameNo(0), 2));
        assert_eq!(frames.alloc_run(2).unwrap(), (FrameNo(2), 1));
        assert_eq!(frames.alloc(), Err(Errno::ENOMEM));
    }
}
