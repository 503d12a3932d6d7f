//! What the host has mapped in an address space, as the areas that its kernel makes of it.

use std::collections::BTreeMap;

use varve_core::machine::{Backing, FrameNo, Prot};

/// An area: pages with the same rights on consecutive pages of one file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Area {
    end: u64,
    backing: Backing,
    prot: Prot,
}

/// Disjoint areas by their starts. Neighbours that can be one are one.
#[derive(Default)]
pub(crate) struct Areas(BTreeMap<u64, Area>);

/// Whether `next` is what lies `len` bytes behind `first` in its file.
pub(crate) fn follows(first: Backing, len: u64, next: Backing) -> bool {
    behind(first, len) == next
}

/// What lies `len` bytes behind a backing in its file.
fn behind(first: Backing, len: u64) -> Backing {
    match first {
        Backing::Memory(FrameNo(frame)) => {
            let pages = len / varve_core::abi::PAGE_SIZE;
            Backing::Memory(FrameNo(frame.wrapping_add(pages as u32)))
        }
        Backing::Image { image, offset } => Backing::Image {
            image,
            offset: offset.wrapping_add(len),
        },
    }
}

impl Areas {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Nothing is mapped any more.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Maps a range, in place of what is there.
    pub(crate) fn map(&mut self, start: u64, end: u64, backing: Backing, prot: Prot) {
        self.unmap(start, end);
        let area = Area { end, backing, prot };
        self.0.insert(start, area);
        self.join(start);
        self.join(end);
    }

    /// Unmaps a range.
    pub(crate) fn unmap(&mut self, start: u64, end: u64) {
        self.cut(start);
        self.cut(end);
        while let Some((&first, _)) = self.0.range(start..end).next() {
            self.0.remove(&first);
        }
    }

    /// Changes the rights of what is mapped in a range. Gives the mapped parts of it.
    pub(crate) fn protect(&mut self, start: u64, end: u64, prot: Prot) -> Vec<(u64, u64)> {
        self.cut(start);
        self.cut(end);
        let mut parts: Vec<(u64, u64)> = Vec::new();
        for (&first, area) in self.0.range_mut(start..end) {
            area.prot = prot;
            match parts.last_mut() {
                Some((_, stop)) if *stop == first => *stop = area.end,
                _ => parts.push((first, area.end)),
            }
        }
        let mut at = start;
        while at <= end
            && let Some((&first, area)) = self.0.range(at..=end).next()
        {
            at = area.end;
            self.join(first);
        }
        parts
    }

    /// Cuts the area that holds an address in two there.
    fn cut(&mut self, at: u64) {
        let Some((&start, area)) = self.0.range_mut(..at).next_back() else {
            return;
        };
        if area.end > at {
            let tail = Area {
                backing: behind(area.backing, at - start),
                ..*area
            };
            area.end = at;
            self.0.insert(at, tail);
        }
    }

    /// Joins the area that starts at an address to the one before it, if they are one.
    fn join(&mut self, at: u64) {
        let Some(&area) = self.0.get(&at) else { return };
        if let Some((&start, before)) = self.0.range_mut(..at).next_back()
            && before.end == at
            && before.prot == area.prot
            && follows(before.backing, at - start, area.backing)
        {
            before.end = area.end;
            self.0.remove(&at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(number: u64) -> Backing {
        Backing::Memory(FrameNo(number as u32))
    }

    const PAGE: u64 = varve_core::abi::PAGE_SIZE;
    const RW: Prot = Prot::READ.union(Prot::WRITE);

    #[test]
    fn neighbours_are_one_where_their_file_goes_on() {
        let mut areas = Areas::default();
        areas.map(10 * PAGE, 12 * PAGE, frame(5), RW);
        areas.map(13 * PAGE, 14 * PAGE, frame(8), RW);
        assert_eq!(areas.len(), 2);
        areas.map(12 * PAGE, 13 * PAGE, frame(7), RW);
        assert_eq!(areas.len(), 1);
        // Another page of the file, another right.
        areas.map(11 * PAGE, 12 * PAGE, frame(70), RW);
        assert_eq!(areas.len(), 3);
        assert_eq!(
            areas.protect(12 * PAGE, 13 * PAGE, Prot::READ),
            [(12 * PAGE, 13 * PAGE)]
        );
        assert_eq!(areas.len(), 4);
        areas.map(11 * PAGE, 12 * PAGE, frame(6), RW);
        assert_eq!(areas.len(), 3);
        assert_eq!(areas.protect(0, 100 * PAGE, RW), [(10 * PAGE, 14 * PAGE)]);
        assert_eq!(areas.len(), 1);
        areas.unmap(11 * PAGE, 13 * PAGE);
        let parts = areas.protect(0, 100 * PAGE, Prot::empty());
        assert_eq!(parts, [(10 * PAGE, 11 * PAGE), (13 * PAGE, 14 * PAGE)]);
        let parts = areas.protect(PAGE, 11 * PAGE, RW);
        assert_eq!(parts, [(10 * PAGE, 11 * PAGE)]);
    }

    /// The host's kernel is the judge: as many areas as it has.
    #[test]
    fn the_host_counts_as_many_areas() {
        use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
        use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap, mprotect, munmap};
        const PAGES: u64 = 24;
        let fd = memfd_create("areas", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&fd, 64 * PAGE).unwrap();
        let len = PAGES as usize * PAGE as usize;
        // Far below where the host puts what other threads of the tests map meanwhile: the room gets holes.
        const ROOM: u64 = 0x1000_0000_0000;
        // SAFETY: a new mapping where nothing is; room for the rest of the test, with a page on either side
        // that nothing is put next to.
        let room = unsafe {
            let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED_NOREPLACE;
            let (prot, guard) = (ProtFlags::empty(), PAGE as usize);
            let at = rustix::mm::mmap_anonymous(ROOM as *mut _, len + 2 * guard, prot, flags);
            at.unwrap() as u64 + PAGE
        };
        let at = |page: u64| (room + page * PAGE) as *mut std::ffi::c_void;
        // SAFETY: only pages of the room.
        unsafe { munmap(at(0), len).unwrap() };
        let mut areas = Areas::default();
        let mut state = 1u64;
        let mut below = |end: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % end
        };
        for step in 0..600 {
            let first = below(PAGES);
            let count = 1 + below(6.min(PAGES - first));
            let (start, end) = (room + first * PAGE, room + (first + count) * PAGE);
            let size = (count * PAGE) as usize;
            let prot = [RW, Prot::READ, Prot::empty()][below(3) as usize];
            let host = u32::from(prot.bits());
            match below(4) {
                0 => {
                    // SAFETY: only pages of the room.
                    unsafe { munmap(at(first), size).unwrap() };
                    areas.unmap(start, end);
                }
                1 => {
                    for (from, to) in areas.protect(start, end, prot) {
                        let flags = MprotectFlags::from_bits_retain(host);
                        // SAFETY: only pages of the room that are mapped.
                        unsafe { mprotect(from as *mut _, (to - from) as usize, flags).unwrap() };
                    }
                }
                _ => {
                    // Often where it can be joined to what is there.
                    let number = match below(2) {
                        0 => first,
                        _ => below(30),
                    };
                    let flags = MapFlags::SHARED | MapFlags::FIXED | MapFlags::NORESERVE;
                    let prot = ProtFlags::from_bits_retain(host);
                    // SAFETY: only pages of the room.
                    unsafe { mmap(at(first), size, prot, flags, &fd, number * PAGE).unwrap() };
                    let prot = Prot::from_bits_truncate(host as u8);
                    areas.map(start, end, frame(number), prot);
                }
            }
            let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
            let inside = |line: &&str| {
                let start = line
                    .split('-')
                    .next()
                    .and_then(|at| u64::from_str_radix(at, 16).ok());
                start.is_some_and(|start| (room..room + PAGES * PAGE).contains(&start))
            };
            assert_eq!(
                areas.len(),
                maps.lines().filter(inside).count(),
                "step {step}"
            );
        }
        // SAFETY: only pages of the room.
        unsafe { munmap(at(0), len).unwrap() };
    }
}
