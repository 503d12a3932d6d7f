//! Contents of regular files: pages of their own over what a layer has.

use varve_imgfs::Source as LowerSource;

use super::node::{Body, Data, Pages};
use super::{UnionFs, page_at, pages_of};
use crate::abi::raw::general::{S_IFDIR, S_IFMT, S_IFREG};
use crate::abi::{Errno, PAGE_SHIFT, PAGE_SIZE};
use crate::fs::filesystem::{Extent, FsCx, Ino, Page, PageRun, Sought, Source};
use crate::fs::frames::Place;
use crate::machine::FrameNo;
use crate::port::{Block, Ports};

/// Largest file (`s_maxbytes`).
const MAX_SIZE: u64 = i64::MAX as u64;
/// Extents and pages of the file's own that one search looks at before it leaves off, and bytes that it looks
/// at as one.
const SEEK_STEPS: u64 = 4096;
const SEEK_RUN: u64 = 64 * PAGE_SIZE;

/// Sizes of a regular file; see [`Data`].
#[derive(Clone, Copy)]
struct Shape {
    size: u64,
    shown: u64,
}

/// The frame of a page and how many consecutive pages from it on are in consecutive frames.
fn frame_run(pages: &Pages, index: u64, max: u64) -> Option<(FrameNo, u64)> {
    let first = *pages.get(&index)?;
    let consecutive = pages
        .range(index..)
        .zip(0..max)
        .take_while(|&((&page, &frame), n)| {
            page == index + n && u64::from(frame.0) == u64::from(first.0) + n
        });
    Some((first, consecutive.count() as u64))
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
    fn pages(&self, ino: Ino) -> Option<&Pages> {
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
        let next = self
            .pages(ino)
            .and_then(|pages| pages.range(index..).next());
        next.map_or(u64::MAX, |(&page, _)| page)
    }

    pub(super) fn extent_at(
        &mut self,
        cx: &mut FsCx<'_, '_>,
        ino: Ino,
        offset: u64,
        most: u64,
    ) -> Result<Option<Extent>, Errno> {
        let Shape { size, shown } = self.shape(cx, ino)?;
        if offset >= size {
            return Ok(None);
        }
        let index = page_at(offset);
        let within = offset % PAGE_SIZE;
        // Each page of a run is looked at: no more of them than are wanted.
        let max = (pages_of(size) - index).min(pages_of(most.saturating_add(within)));
        // A copy of a page of the host's file may be older than the file.
        let may_be_old = self.layers.is_host(ino) && !self.nodes.contains_key(&ino);
        if let Some((frame, count)) = self
            .pages(ino)
            .filter(|_| !may_be_old)
            .and_then(|pages| frame_run(pages, index, max))
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

    /// A new frame with what the file shows at this page.
    fn filled_frame(
        &mut self,
        cx: &mut FsCx<'_, '_>,
        ino: Ino,
        index: u64,
        shown: u64,
    ) -> Result<FrameNo, Errno> {
        let (first, last) = Place::around(index);
        let known = |(&index, &frame): (&u64, &FrameNo)| (index, frame);
        let pages = self.pages(ino);
        let place = Place {
            index,
            before: pages.and_then(|pages| pages.range(first..index).next_back().map(known)),
            after: pages.and_then(|pages| pages.range(index..=last).next().map(known)),
            // A first page is as a rule that of a small file.
            block: index > 0,
        };
        let frame = cx.frames.alloc_beside(cx.ports.memory, place)?;
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
            let there = pages.range(first..first.saturating_add(count)).count() as u64;
            if count - there > room {
                return Err(self.full());
            }
        }
        let now = count.min(most);
        for index in first..first + now {
            self.own_page(cx, ino, index)?;
        }
        Ok(now)
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

    pub(super) fn own_page(
        &mut self,
        cx: &mut FsCx<'_, '_>,
        ino: Ino,
        index: u64,
    ) -> Result<FrameNo, Errno> {
        if index > page_at(MAX_SIZE) {
            return Err(Errno::EFBIG);
        }
        let data = self.data_mut(cx, ino)?;
        if let Some(&frame) = data.pages.get(&index) {
            return Ok(frame);
        }
        let shown = data.shown;
        self.charge_frame()?;
        if cx.frames.is_scarce() {
            return Err(self.full());
        }
        let frame = self.filled_frame(cx, ino, index, shown);
        let frame = frame.map_err(|errno| match errno {
            Errno::ENOMEM => self.full(),
            errno => errno,
        })?;
        self.used += 1;
        self.data_mut(cx, ino)?.insert(index, frame);
        if index << PAGE_SHIFT < shown {
            self.note_moved(ino, index, 1);
        }
        Ok(frame)
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
        if let Some((frame, count)) = self
            .pages(ino)
            .and_then(|pages| frame_run(pages, index, max))
        {
            return Ok(PageRun {
                first: Page::Frame(frame),
                count,
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
                self.data_mut(cx, ino)?.insert(index, frame);
            }
            false => {
                self.cached.entry(ino).or_default().insert(index, frame);
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
            && let Some(frame) = data.pages.get(&page_at(size))
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

    fn drop_frames(&mut self, cx: &mut FsCx<'_, '_>, pages: Pages) {
        self.used = self.used.saturating_sub(pages.len() as u64);
        cx.frames.put_all(pages);
    }

    pub(super) fn punch(
        &mut self,
        cx: &mut FsCx<'_, '_>,
        ino: Ino,
        offset: u64,
        len: u64,
    ) -> Result<(), Errno> {
        let data = self.data_mut(cx, ino)?;
        // Pages may have been allocated behind the end.
        let last = data.pages.last_key_value();
        let behind = last.map_or(0, |(&page, _)| (page + 1) << PAGE_SHIFT);
        let end = offset.saturating_add(len).min(data.size.max(behind));
        if offset >= end {
            return Ok(());
        }
        if end >= data.shown {
            data.show_at_most(offset);
        }
        let shown = data.shown;
        if end < shown {
            // The lower file shows on both sides of the hole: zeroed pages hide it between.
            for index in page_at(offset)..pages_of(end) {
                self.own_page(cx, ino, index)?;
            }
        }
        let whole = pages_of(offset)..page_at(end).max(pages_of(offset));
        let hidden = whole.start..whole.end.min(pages_of(shown)).max(whole.start);
        let data = self.data_mut(cx, ino)?;
        let gone = data.take(hidden.end, whole.end.max(hidden.end));
        let partial = [page_at(offset), page_at(end - 1)];
        for (&index, frame) in data.pages.range(partial[0]..=partial[1]) {
            let start = offset.max(index << PAGE_SHIFT);
            let stop = end.min((index + 1) << PAGE_SHIFT);
            cx.ports
                .memory
                .zero(frame.offset() + start % PAGE_SIZE, stop - start);
        }
        self.drop_frames(cx, gone);
        let first = page_at(offset);
        self.note_moved(ino, first, pages_of(end) - first);
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
            let Some(extent) = self.extent_at(cx, ino, at, SEEK_RUN)? else {
                return match data {
                    true => Err(Errno::ENXIO),
                    false => Ok(Sought::At(size)),
                };
            };
            if (extent.source != Source::Zero) == data {
                return Ok(Sought::At(at));
            }
            steps += match extent.source {
                Source::Memory(_) => 1 + extent.len / PAGE_SIZE,
                _ => 1,
            };
            at = at.saturating_add(extent.len);
        }
        Ok(Sought::Later(at))
    }
}
