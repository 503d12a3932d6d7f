//! Contents of regular files: pages of their own over what a layer has.

use varve_imgfs::Source as LowerSource;

use super::node::{Body, Data};
use super::{UnionFs, page_at, pages_of};
use crate::abi::raw::general::{S_IFDIR, S_IFMT, S_IFREG};
use crate::abi::{Errno, PAGE_SHIFT, PAGE_SIZE};
use crate::fs::filesystem::{Extent, FsCx, Ino, Page, PageRun, Sought, Source};
use crate::fs::frames::Place;
use crate::fs::runs::FrameRuns;
use crate::machine::FrameNo;
use crate::port::{Block, Ports};

/// Largest file (`s_maxbytes`).
const MAX_SIZE: u64 = i64::MAX as u64;
/// Extents that one search looks at before it leaves off.
const SEEK_STEPS: u64 = 4096;
/// Most pages that are made at once.
const RUN_MAX: u64 = 256;
/// Pages at which the lower file shows that are copied in one call.
const COPY_PAGES: u64 = 256;
/// Pages at which the lower file shows, and runs of others, that are dealt with of a hole at a time.
const PUNCH_PAGES: u64 = 512;
const PUNCH_RUNS: usize = 2048;

/// Sizes of a regular file; see [`Data`].
#[derive(Clone, Copy)]
struct Shape {
    size: u64,
    shown: u64,
}

impl UnionFs {
    /// Sizes of a regular file. `EISDIR`, `EINVAL` for others.
    fn shape(&mut self, cx: &mut FsCx<'_, '_>, ino: Ino) -> Result<Shape, Errno> {
        match self.nodes.get(&ino).map(|node| &node.body) {
            Some(&Body::File(Data { size, shown, .. })) => Ok(Shape { size, shown }),
            Some(Body::Dir(_)) => Err(Errno::EISDIR),
            Some(_) => Err(Errno::EINVAL),
            None => {
                let attr = self.layers.attr(&mut cx.ports.layers(), ino)?;
                match attr.mode & S_IFMT {
                    S_IFREG => Ok(Shape {
                        size: attr.size,
                        shown: attr.size,
                    }),
                    S_IFDIR => Err(Errno::EISDIR),
                    _ => Err(Errno::EINVAL),
                }
            }
        }
    }

    /// The frames of a file.
    fn pages(&self, ino: Ino) -> Option<&FrameRuns> {
        match self.nodes.get(&ino) {
            Some(node) => match &node.body {
                Body::File(data) => Some(&data.pages),
                _ => None,
            },
            None => self.cached.get(&ino),
        }
    }

    fn data_mut(&mut self, cx: &mut FsCx<'_, '_>, ino: Ino) -> Result<&mut Data, Errno> {
        match &mut self.copy_up(cx, ino)?.body {
            Body::File(data) => Ok(data),
            Body::Dir(_) => Err(Errno::EISDIR),
            _ => Err(Errno::EINVAL),
        }
    }

    /// The first page at or behind `index` that has a frame.
    fn next_frame(&self, ino: Ino, index: u64) -> u64 {
        let next = self.pages(ino).and_then(|pages| pages.next(index));
        next.map_or(u64::MAX, |(page, _)| page)
    }

    pub(super) fn extent_at(
        &mut self,
        cx: &mut FsCx<'_, '_>,
        ino: Ino,
        offset: u64,
    ) -> Result<Option<Extent>, Errno> {
        let Shape { size, shown } = self.shape(cx, ino)?;
        if offset >= size {
            return Ok(None);
        }
        let index = page_at(offset);
        let within = offset % PAGE_SIZE;
        // A copy of a page of the host's file may be older than the file.
        let may_be_old = self.layers.is_host(ino) && !self.nodes.contains_key(&ino);
        if let Some((frame, count)) = self
            .pages(ino)
            .filter(|_| !may_be_old)
            .and_then(|pages| pages.from(index))
        {
            return Ok(Some(Extent {
                source: Source::Memory(frame.offset() + within),
                len: (count * PAGE_SIZE - within).min(size - offset),
            }));
        }
        let next = match may_be_old {
            true => u64::MAX,
            false => self.next_frame(ino, index).saturating_mul(PAGE_SIZE),
        };
        let end = size.min(next);
        if offset < shown
            && let Some(lower) = self.layers.extent(&mut cx.ports.layers(), ino, offset)?
        {
            let source = match lower.source {
                LowerSource::Image { image, offset } => Source::Image { image, offset },
                LowerSource::Zero => Source::Zero,
            };
            return Ok(Some(Extent {
                source,
                len: lower.len.min(end.min(shown) - offset),
            }));
        }
        Ok(Some(Extent {
            source: Source::Zero,
            len: end - offset,
        }))
    }

    /// Where a page of a file lies for which a frame is wanted.
    fn place(&self, ino: Ino, index: u64) -> Place {
        let (first, last) = Place::around(index);
        let pages = self.pages(ino);
        Place {
            index,
            before: pages
                .and_then(|pages| pages.before(index))
                .filter(|&(page, _)| page >= first),
            after: pages
                .and_then(|pages| pages.next(index))
                .filter(|&(page, _)| page <= last),
            // A first page is as a rule that of a small file.
            block: index > 0,
        }
    }

    /// A new frame with what the file shows at this page.
    fn filled_frame(
        &mut self,
        cx: &mut FsCx<'_, '_>,
        ino: Ino,
        index: u64,
        shown: u64,
    ) -> Result<FrameNo, Errno> {
        let place = self.place(ino, index);
        let (frame, _) = cx.frames.alloc_run_beside(cx.ports.memory, place, 1)?;
        let start = index << PAGE_SHIFT;
        if start < shown {
            let len = (shown - start).min(PAGE_SIZE);
            let copied = self.copy_out(cx.ports, ino, start, len, frame.offset());
            if let Err(errno) = copied {
                cx.frames.put(frame);
                return Err(errno);
            }
        }
        Ok(frame)
    }

    /// Copies bytes of a lower file to an offset of the memory file. Zeros are passed over: the frame is
    /// fresh.
    fn copy_out(
        &mut self,
        ports: &mut Ports<'_>,
        ino: Ino,
        mut offset: u64,
        len: u64,
        mut to: u64,
    ) -> Result<(), Errno> {
        let end = offset.checked_add(len).ok_or(Errno::EOVERFLOW)?;
        while offset < end {
            let Some(lower) = self.layers.extent(&mut ports.layers(), ino, offset)? else {
                return Ok(());
            };
            let part = lower.len.min(end - offset).min(PAGE_SIZE);
            if let LowerSource::Image { image, offset: at } = lower.source {
                let block = ports.images.image(image).ok_or(Errno::EIO)?;
                let range = at as usize..at.saturating_add(part) as usize;
                match block.slice().and_then(|slice| slice.get(range)) {
                    Some(bytes) => ports.memory.write(to, bytes),
                    None => {
                        let mut buf = [0; PAGE_SIZE as usize];
                        let buf = &mut buf[..part as usize];
                        block.read_at(at, buf)?;
                        ports.memory.write(to, buf);
                    }
                }
            }
            offset += part;
            to += part;
        }
        Ok(())
    }

    pub(super) fn charge_frame(&self) -> Result<(), Errno> {
        match self.limit {
            Some(limit) if self.used >= limit => Err(Errno::ENOSPC),
            _ => Ok(()),
        }
    }

    /// What a write gets when no page can be made for it: a file system in memory is full, as one on a disk
    /// would be, but memory of programs is memory.
    fn full(&self) -> Errno {
        match self.is_memory {
            true => Errno::ENOMEM,
            false => Errno::ENOSPC,
        }
    }

    /// See [`InodeOps::allocate`](crate::fs::filesystem::InodeOps::allocate).
    pub(super) fn preallocate(
        &mut self,
        cx: &mut FsCx<'_, '_>,
        ino: Ino,
        first: u64,
        count: u64,
        most: u64,
    ) -> Result<u64, Errno> {
        let (used, total) = cx.frames.usage();
        let spare = u64::from(total.saturating_sub(used));
        let room = match self.limit {
            Some(limit) => limit.saturating_sub(self.used).min(spare),
            None => spare,
        };
        let pages = &self.data_mut(cx, ino)?.pages;
        if count > room {
            let there = pages.count(first, first.saturating_add(count));
            if count - there > room {
                return Err(self.full());
            }
        }
        let shown = pages_of(self.data_mut(cx, ino)?.shown);
        let now = count.min(most);
        let (mut done, mut copied) = (0, 0);
        while done < now && copied < COPY_PAGES {
            let index = first + done;
            done += self.own_run(cx, ino, index, now - done)?.1;
            copied += u64::from(index < shown);
        }
        Ok(done)
    }

    /// Notes that mappings of pages are to be dropped.
    fn note_moved(&mut self, ino: Ino, first: u64, count: u64) {
        match self.moved.last_mut() {
            _ if count == 0 => {}
            Some(last) if last.0 == ino && last.1.checked_add(last.2) == Some(first) => {
                last.2 = last.2.saturating_add(count);
            }
            Some(last) if last.0 == ino && last.1 <= first && first - last.1 < last.2 => {
                last.2 = last.2.max((first - last.1).saturating_add(count));
            }
            _ => self.moved.push((ino, first, count)),
        }
    }

    /// Up to `most` (at least 1) pages from one on, in frames of the file that may be written: the first
    /// frame and how many.
    pub(super) fn own_run(
        &mut self,
        cx: &mut FsCx<'_, '_>,
        ino: Ino,
        index: u64,
        most: u64,
    ) -> Result<(FrameNo, u64), Errno> {
        if index > page_at(MAX_SIZE) {
            return Err(Errno::EFBIG);
        }
        let data = self.data_mut(cx, ino)?;
        if let Some((frame, count)) = data.pages.from(index) {
            return Ok((frame, count.min(most)));
        }
        let shown = data.shown;
        if index << PAGE_SHIFT >= shown {
            return self.new_run(cx, ino, index, most);
        }
        // What the lower file shows is copied page by page.
        self.charge_frame()?;
        if cx.frames.is_scarce() {
            return Err(self.full());
        }
        let frame = self.filled_frame(cx, ino, index, shown);
        let frame = frame.map_err(|errno| self.lack(errno))?;
        self.used += 1;
        self.data_mut(cx, ino)?.insert(index, frame, 1);
        self.note_moved(ino, index, 1);
        Ok((frame, 1))
    }

    /// Gives up to `most` (at least 1) pages from one on that have none frames of zeros: the first frame and
    /// how many.
    fn new_run(
        &mut self,
        cx: &mut FsCx<'_, '_>,
        ino: Ino,
        index: u64,
        most: u64,
    ) -> Result<(FrameNo, u64), Errno> {
        self.charge_frame()?;
        let left = u64::from(cx.frames.room_of_files());
        if left == 0 {
            return Err(self.full());
        }
        let gap = self.next_frame(ino, index) - index;
        let room = match self.limit {
            Some(limit) => limit.saturating_sub(self.used),
            None => u64::MAX,
        };
        let last = page_at(MAX_SIZE) - index + 1;
        let count = most.min(gap).min(room).min(left).min(last);
        let count = count.clamp(1, RUN_MAX) as u32;
        let place = self.place(ino, index);
        let made = cx.frames.alloc_run_beside(cx.ports.memory, place, count);
        let (frame, count) = made.map_err(|errno| self.lack(errno))?;
        self.used += u64::from(count);
        self.data_mut(cx, ino)?.insert(index, frame, count);
        Ok((frame, u64::from(count)))
    }

    /// What a caller gets for whom no page can be made.
    fn lack(&self, errno: Errno) -> Errno {
        match errno {
            Errno::ENOMEM => self.full(),
            errno => errno,
        }
    }

    pub(super) fn mappable(
        &mut self,
        cx: &mut FsCx<'_, '_>,
        ino: Ino,
        index: u64,
        max: u64,
    ) -> Result<PageRun, Errno> {
        let Shape { size, shown } = self.shape(cx, ino)?;
        if index >= pages_of(size) {
            return Err(Errno::ENXIO);
        }
        let max = max.clamp(1, pages_of(size) - index);
        if let Some((frame, count)) = self.pages(ino).and_then(|pages| pages.from(index)) {
            return Ok(PageRun {
                first: Page::Frame(frame),
                count: count.min(max),
            });
        }
        let max = max.min(self.next_frame(ino, index) - index);
        let start = index << PAGE_SHIFT;
        if start < shown
            && let Some(lower) = self.layers.extent(&mut cx.ports.layers(), ino, start)?
            && let LowerSource::Image { image, offset } = lower.source
            && offset % PAGE_SIZE == 0
            && cx.ports.images.image(image).is_some_and(Block::is_mappable)
        {
            let len = lower.len.min(shown - start);
            let mut count = len / PAGE_SIZE;
            if count < max && len % PAGE_SIZE != 0 && start + len == shown {
                // The page with the end of the lower file: as it is, if the lower file was not cut and zeros
                // follow.
                let whole = shown == self.layers.attr(&mut cx.ports.layers(), ino)?.size;
                count +=
                    u64::from(whole && self.layers.slack_is_zero(&mut cx.ports.layers(), ino)?);
            }
            if count > 0 {
                return Ok(PageRun {
                    first: Page::Image { image, offset },
                    count: count.min(max),
                });
            }
        }
        let own = self.nodes.contains_key(&ino);
        if own {
            self.charge_frame()?;
        }
        let frame = self.filled_frame(cx, ino, index, shown)?;
        match own {
            true => {
                self.used += 1;
                self.data_mut(cx, ino)?.insert(index, frame, 1);
            }
            false => {
                self.cached.entry(ino).or_default().insert(index, frame, 1);
            }
        }
        Ok(PageRun {
            first: Page::Frame(frame),
            count: 1,
        })
    }

    pub(super) fn set_size(
        &mut self,
        cx: &mut FsCx<'_, '_>,
        ino: Ino,
        size: u64,
    ) -> Result<(), Errno> {
        if size > MAX_SIZE {
            return Err(Errno::EFBIG);
        }
        let data = self.data_mut(cx, ino)?;
        let old = core::mem::replace(&mut data.size, size);
        if size >= old {
            return Ok(());
        }
        data.show_at_most(size);
        let gone = data.take_from(pages_of(size));
        if !size.is_multiple_of(PAGE_SIZE)
            && let Some(frame) = data.pages.get(page_at(size))
        {
            let within = size % PAGE_SIZE;
            cx.ports
                .memory
                .zero(frame.offset() + within, PAGE_SIZE - within);
        }
        self.drop_frames(cx, gone);
        self.note_moved(ino, page_at(size), pages_of(old) - page_at(size));
        self.cut.push((ino, pages_of(size)));
        Ok(())
    }

    fn drop_frames(&mut self, cx: &mut FsCx<'_, '_>, pages: FrameRuns) {
        self.used = self.used.saturating_sub(pages.len());
        cx.frames.put_all(pages);
    }

    /// See [`InodeOps::punch_hole`](crate::fs::filesystem::InodeOps::punch_hole).
    pub(super) fn punch(
        &mut self,
        cx: &mut FsCx<'_, '_>,
        ino: Ino,
        offset: u64,
        len: u64,
    ) -> Result<u64, Errno> {
        let data = self.data_mut(cx, ino)?;
        // Pages may have been allocated behind the end.
        let behind = data.pages.end() << PAGE_SHIFT;
        let end = offset.saturating_add(len).min(data.size.max(behind));
        if offset >= end {
            return Ok(len);
        }
        if end >= data.shown {
            data.show_at_most(offset);
        }
        // Whole pages, those of them behind which the lower file shows, and how far this time.
        let whole = pages_of(offset)..page_at(end).max(pages_of(offset));
        let hides = match end < data.shown {
            true => whole.clone(),
            false => whole.start..whole.start,
        };
        let mut until = whole.end.min(hides.start.saturating_add(PUNCH_PAGES));
        if hides.is_empty() {
            let (gone, stop) = data.take(whole.start, whole.end, PUNCH_RUNS);
            self.drop_frames(cx, gone);
            until = stop;
        } else {
            self.hide(cx, ino, whole.start, until)?;
        }
        let stop = match until < whole.end {
            true => until << PAGE_SHIFT,
            false => end,
        };
        // The parts of pages at both ends; those where the lower file shows get frames for that.
        let ends = [
            (offset, stop.min(pages_of(offset) << PAGE_SHIFT)),
            (offset.max(page_at(stop) << PAGE_SHIFT), stop),
        ];
        for (start, stop) in ends {
            if start < stop {
                self.zero_part(cx, ino, start, stop)?;
            }
        }
        let first = page_at(offset);
        self.note_moved(ino, first, pages_of(stop) - first);
        Ok(match stop < end {
            true => stop - offset,
            false => len,
        })
    }

    /// Zeroes bytes within one page.
    fn zero_part(
        &mut self,
        cx: &mut FsCx<'_, '_>,
        ino: Ino,
        start: u64,
        stop: u64,
    ) -> Result<(), Errno> {
        let index = page_at(start);
        let data = self.data_mut(cx, ino)?;
        let frame = match data.pages.get(index) {
            Some(frame) => frame,
            // Nothing shows there but zeros.
            None if start >= data.shown => return Ok(()),
            None => self.own_run(cx, ino, index, 1)?.0,
        };
        let within = start % PAGE_SIZE;
        cx.ports.memory.zero(frame.offset() + within, stop - start);
        Ok(())
    }

    /// Gives pages at which the lower file shows frames of zeros.
    fn hide(&mut self, cx: &mut FsCx<'_, '_>, ino: Ino, first: u64, end: u64) -> Result<(), Errno> {
        let mut index = first;
        while index < end {
            let most = end - index;
            index += match self.data_mut(cx, ino)?.pages.from(index) {
                Some((frame, count)) => {
                    let count = count.min(most);
                    cx.ports.memory.zero(frame.offset(), count * PAGE_SIZE);
                    count
                }
                None => {
                    let (_, count) = self.new_run(cx, ino, index, most)?;
                    self.note_moved(ino, index, count);
                    count
                }
            };
        }
        Ok(())
    }

    pub(super) fn seek_kind(
        &mut self,
        cx: &mut FsCx<'_, '_>,
        ino: Ino,
        offset: u64,
        data: bool,
    ) -> Result<Sought, Errno> {
        let size = self.shape(cx, ino)?.size;
        if offset >= size {
            return Err(Errno::ENXIO);
        }
        let mut at = offset;
        let mut steps = 0;
        while steps < SEEK_STEPS {
            let Some(extent) = self.extent_at(cx, ino, at)? else {
                return match data {
                    true => Err(Errno::ENXIO),
                    false => Ok(Sought::At(size)),
                };
            };
            if (extent.source != Source::Zero) == data {
                return Ok(Sought::At(at));
            }
            steps += 1;
            at = at.saturating_add(extent.len);
        }
        Ok(Sought::Later(at))
    }
}
