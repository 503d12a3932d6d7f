//! Frames of a file: runs of consecutive pages that are in consecutive frames.
//!
//! A file that was written from its start to its end has few of them, however long it is. What is asked of a
//! page costs O(log runs), and what is done to a range O(log runs) for each run in it.

use alloc::collections::BTreeMap;

use crate::machine::FrameNo;

/// Consecutive pages in consecutive frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
struct Run {
    frame: FrameNo,
    /// Pages, at least 1: frames are counted in 32 bits.
    len: u32,
}

impl Run {
    /// The frame of its page at this distance from the first.
    fn at(self, distance: u64) -> FrameNo {
        FrameNo(self.frame.0 + distance as u32)
    }
}

/// The frames of a file by page number. Each page holds one reference to its frame.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct FrameRuns {
    /// By the first page. No run goes on where another one ends, in page and in frame.
    runs: BTreeMap<u64, Run>,
    pages: u64,
}

impl FrameRuns {
    /// No pages.
    pub(crate) fn new() -> FrameRuns {
        FrameRuns::default()
    }

    /// Number of pages.
    pub(crate) fn len(&self) -> u64 {
        self.pages
    }

    /// Whether no page has a frame.
    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Number of runs.
    #[cfg(test)]
    pub(crate) fn runs(&self) -> usize {
        self.runs.len()
    }

    /// The last run that begins at or before a page: its first page and itself.
    fn until(&self, page: u64) -> Option<(u64, Run)> {
        let (&first, &run) = self.runs.range(..=page).next_back()?;
        Some((first, run))
    }

    /// The frame of a page, and how many pages from it on are in the frames from it on.
    pub(crate) fn from(&self, page: u64) -> Option<(FrameNo, u64)> {
        let (first, run) = self.until(page)?;
        let rest = u64::from(run.len).checked_sub(page - first)?;
        (rest > 0).then(|| (run.at(page - first), rest))
    }

    /// The frame of a page.
    pub(crate) fn get(&self, page: u64) -> Option<FrameNo> {
        self.from(page).map(|(frame, _)| frame)
    }

    /// The first page at or behind `page` that has a frame, and the frame.
    pub(crate) fn next(&self, page: u64) -> Option<(u64, FrameNo)> {
        if let Some(frame) = self.get(page) {
            return Some((page, frame));
        }
        let (&first, run) = self.runs.range(page..).next()?;
        Some((first, run.frame))
    }

    /// The last page before `page` that has a frame, and the frame.
    pub(crate) fn before(&self, page: u64) -> Option<(u64, FrameNo)> {
        let (first, run) = self.until(page.checked_sub(1)?)?;
        let distance = (page - 1 - first).min(u64::from(run.len) - 1);
        Some((first + distance, run.at(distance)))
    }

    /// The page behind the last one that has a frame; 0 if none has.
    pub(crate) fn end(&self) -> u64 {
        let last = self.runs.last_key_value();
        last.map_or(0, |(&first, run)| first + u64::from(run.len))
    }

    /// How many pages from `first` to before `end` have frames.
    pub(crate) fn count(&self, first: u64, end: u64) -> u64 {
        if first >= end {
            return 0;
        }
        let begun = self.from(first).map_or(0, |(_, rest)| rest);
        let whole = self.runs.range(first..end).map(|(&at, run)| (at, run.len));
        let whole = whole.filter(|&(at, _)| at > first);
        begun.min(end - first)
            + whole
                .map(|(at, len)| u64::from(len).min(end - at))
                .sum::<u64>()
    }

    /// Gives pages that have none their frames, from `frame` on.
    pub(crate) fn insert(&mut self, page: u64, frame: FrameNo, len: u32) {
        debug_assert!(self.count(page, page + u64::from(len)) == 0);
        if len == 0 {
            return;
        }
        self.pages += u64::from(len);
        self.join(page, Run { frame, len });
    }

    /// Adds a run of pages that are not there, joined to its neighbours. The number of pages stays.
    fn join(&mut self, page: u64, run: Run) {
        let (mut first, mut run) = (page, run);
        if let Some((at, before)) = self.until(page)
            && at + u64::from(before.len) == page
            && before.at(u64::from(before.len)) == run.frame
        {
            first = at;
            run = Run {
                frame: before.frame,
                len: before.len + run.len,
            };
        }
        let end = first + u64::from(run.len);
        if let Some(&after) = self.runs.get(&end)
            && after.frame == run.at(u64::from(run.len))
        {
            self.runs.remove(&end);
            run.len += after.len;
        }
        self.runs.insert(first, run);
    }

    /// Makes a run begin at a page, if one goes over it.
    fn split(&mut self, page: u64) {
        if let Some((first, run)) = self.until(page)
            && first < page
            && page - first < u64::from(run.len)
        {
            let kept = (page - first) as u32;
            let rest = Run {
                frame: run.at(page - first),
                len: run.len - kept,
            };
            self.runs.insert(first, Run { len: kept, ..run });
            self.runs.insert(page, rest);
        }
    }

    /// Takes the pages from one on away.
    pub(crate) fn take_from(&mut self, first: u64) -> FrameRuns {
        self.split(first);
        let runs = self.runs.split_off(&first);
        let pages = runs.values().map(|run| u64::from(run.len)).sum();
        self.pages -= pages;
        FrameRuns { runs, pages }
    }

    /// Takes the pages from `first` to before `end` away, at most `most` runs of them. Gives them, and the
    /// page up to which none is left.
    pub(crate) fn take(&mut self, first: u64, end: u64, most: usize) -> (FrameRuns, u64) {
        let mut taken = FrameRuns::new();
        if first >= end {
            return (taken, first);
        }
        self.split(first);
        let mut until = end;
        while let Some((&at, &whole)) = self.runs.range(first..end).next() {
            if taken.runs.len() == most {
                until = at;
                break;
            }
            let mut run = whole;
            if end - at < u64::from(run.len) {
                self.split(end);
                run.len = (end - at) as u32;
            }
            self.runs.remove(&at);
            taken.runs.insert(at, run);
            taken.pages += u64::from(run.len);
        }
        self.pages -= taken.pages;
        (taken, until)
    }

    /// Takes up to `most` of the first pages away: their frames, the first one and how many.
    pub(crate) fn pop(&mut self, most: u32) -> Option<(FrameNo, u32)> {
        let (first, run) = self.runs.pop_first()?;
        let len = run.len.min(most);
        if len < run.len {
            let rest = Run {
                frame: run.at(u64::from(len)),
                len: run.len - len,
            };
            self.runs.insert(first + u64::from(len), rest);
        }
        self.pages -= u64::from(len);
        Some((run.frame, len))
    }

    /// All frames, in the order of the pages.
    pub(crate) fn frames(&self) -> impl Iterator<Item = FrameNo> + '_ {
        self.runs
            .values()
            .flat_map(|run| (0..u64::from(run.len)).map(|distance| run.at(distance)))
    }

    /// Whether runs are joined where they can be and the number of pages is right; for invariant checks.
    pub(crate) fn is_right(&self) -> bool {
        let pages: u64 = self.runs.values().map(|run| u64::from(run.len)).sum();
        let next = self.runs.iter().skip(1);
        let apart = self
            .runs
            .iter()
            .zip(next)
            .all(|((&first, run), (&next, after))| {
                let end = first + u64::from(run.len);
                end < next || (end == next && run.at(u64::from(run.len)) != after.frame)
            });
        apart && pages == self.pages && self.runs.values().all(|run| run.len > 0)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    /// Against a map of pages: what is asked and done at random gives the same.
    #[test]
    fn runs_are_what_a_map_of_pages_is() {
        const PAGES: u64 = 40;
        let mut state = 7u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
            (state >> 33) % below
        };
        let mut runs = FrameRuns::new();
        let mut model: BTreeMap<u64, u32> = BTreeMap::new();
        for _ in 0..20_000 {
            let (first, len) = (random(PAGES), 1 + random(6));
            let end = first + len;
            match random(8) {
                0 => {
                    let (gone, until) = runs.take(first, end, 1 + random(3) as usize);
                    assert!(until == end || runs.get(until).is_some());
                    let known = model.range(first..until).map(|(&page, _)| page);
                    let known: Vec<u64> = known.collect();
                    let frames = known.iter().map(|page| model.remove(page).unwrap());
                    assert_eq!(
                        frames.collect::<Vec<_>>(),
                        gone.frames().map(|f| f.0).collect::<Vec<_>>()
                    );
                    assert_eq!(gone.len(), known.len() as u64);
                }
                1 if random(8) == 0 => {
                    let gone = runs.take_from(first);
                    let known = model.split_off(&first);
                    assert!(gone.frames().map(|f| f.0).eq(known.into_values()));
                    assert!(gone.is_right());
                }
                2 => {
                    let popped = runs.pop(len as u32);
                    let first = model.first_key_value().map(|(_, &frame)| frame);
                    assert_eq!(popped.map(|(frame, _)| frame.0), first);
                    for _ in 0..popped.map_or(0, |(_, len)| len) {
                        model.pop_first();
                    }
                }
                _ => {
                    // Two ways in which pages may lie in frames, so that some runs join and others do not.
                    let shift = 100 * random(2);
                    if model.range(first..end).next().is_none() {
                        runs.insert(first, FrameNo((first + shift) as u32), len as u32);
                        model.extend((first..end).map(|page| (page, (page + shift) as u32)));
                    }
                }
            }
            assert!(runs.is_right(), "{runs:?}");
            assert!(runs.frames().map(|f| f.0).eq(model.values().copied()));
            let page = random(PAGES);
            assert_eq!(runs.get(page).map(|f| f.0), model.get(&page).copied());
            let next = model.range(page..).next();
            let before = model.range(..page).next_back();
            let pair = |(page, frame): (u64, FrameNo)| (page, frame.0);
            assert_eq!(runs.next(page).map(pair), next.map(|(&p, &f)| (p, f)));
            assert_eq!(runs.before(page).map(pair), before.map(|(&p, &f)| (p, f)));
            let end = page + random(10);
            assert_eq!(runs.count(page, end), model.range(page..end).count() as u64);
            assert_eq!(
                runs.end(),
                model.last_key_value().map_or(0, |(&p, _)| p + 1)
            );
            let rest = (page..).take_while(|at| {
                let distance = (at - page) as u32;
                model.get(at).copied() == model.get(&page).map(|frame| frame + distance)
                    && model.contains_key(at)
            });
            assert_eq!(runs.from(page).map_or(0, |run| run.1), rest.count() as u64);
        }
    }

    /// A file that was written page by page in its order is one run.
    #[test]
    fn pages_in_order_are_one_run() {
        let mut runs = FrameRuns::new();
        for page in 0..1000 {
            runs.insert(page, FrameNo(page as u32 + 5), 1);
        }
        assert_eq!((runs.runs(), runs.len()), (1, 1000));
        assert_eq!(runs.from(10), Some((FrameNo(15), 990)));
        runs.take(500, 501, 1);
        assert_eq!((runs.runs(), runs.len()), (2, 999));
        assert_eq!(runs.from(10), Some((FrameNo(15), 490)));
    }
}
