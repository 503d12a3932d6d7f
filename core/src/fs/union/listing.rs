//! Listing of directories: upper entries first, then those of the lower parts that show.
//!
//! A cookie says where an entry is, so that it stays right while entries come and go, and after the directory
//! was closed and opened again. Of a directory with several lower parts an entry shows that no part above
//! has: with few parts that is looked up for each entry, so that nothing is kept and any number of
//! directories can be read in turn; with many they are merged once and kept until read to the end.

use alloc::vec::Vec;
use core::ops::{ControlFlow, Range};

use super::UnionFs;
use super::node::{Body, Dir, Slot};
use crate::abi::Errno;
use crate::fs::filesystem::{Entry, FsCx, Ino};

/// Entries of an unmerged lower directory that are taken at a time.
const BATCH: usize = 128;
/// Most lower parts of a directory whose entries are looked up in the parts above.
const LOOKED_UP: usize = 8;
/// Most merged listings kept for reading on.
const MAX_LISTINGS: usize = 4;
/// Cookies of upper entries are `UPPER - number`: the newest comes first, so that what is made while a
/// directory is read is not seen, and reading ends.
const UPPER: u64 = 1 << 46;
/// Cookies of entries of part `n` are `(n + 1) << PART_SHIFT | position`.
const PART_SHIFT: u32 = 47;

/// Entries of lower parts in the order of their cookies.
#[derive(Clone, Debug, Hash, Default)]
pub(super) struct Listing {
    names: Vec<u8>,
    entries: Vec<Listed>,
}

#[derive(Clone, Debug, Hash)]
struct Listed {
    /// Where its name is.
    name: Range<usize>,
    /// If it is at hand.
    ino: Option<Ino>,
    kind: u8,
    cookie: u64,
}

impl Listing {
    fn name(&self, entry: &Listed) -> &[u8] {
        self.names.get(entry.name.clone()).unwrap_or_default()
    }
}

impl UnionFs {
    pub(super) fn list(
        &mut self,
        cx: &mut FsCx<'_, '_>,
        dir: Ino,
        cookie: u64,
        each: &mut dyn FnMut(Entry<'_>) -> bool,
    ) -> Result<(), Errno> {
        let parts = self.parts(dir)?;
        if cookie <= UPPER {
            let below = match cookie {
                0 => u64::MAX,
                _ => UPPER - cookie,
            };
            if self.list_upper(dir, below, each).is_break() {
                return Ok(());
            }
        }
        let from = match cookie {
            ..=UPPER => 0,
            _ => cookie,
        };
        match parts.as_slice() {
            [] => Ok(()),
            few if few.len() <= LOOKED_UP => {
                let first = (from >> PART_SHIFT).saturating_sub(1) as usize;
                let mut position = from & ((1 << PART_SHIFT) - 1);
                for (index, &part) in few.iter().enumerate().skip(first) {
                    loop {
                        let mut batch = Listing::default();
                        self.gather(cx, part, index, position, BATCH, &mut batch)?;
                        if self.give(cx, dir, few, &batch, 0, true, each)?.is_break() {
                            return Ok(());
                        }
                        match batch.entries.last() {
                            Some(last) if batch.entries.len() == BATCH => {
                                position = last.cookie & ((1 << PART_SHIFT) - 1);
                            }
                            _ => break,
                        }
                    }
                    position = 0;
                }
                Ok(())
            }
            _ => {
                let kept = self.listings.iter().position(|(ino, _)| *ino == dir);
                let listing = match kept.map(|at| self.listings.remove(at).1) {
                    Some(listing) if from != 0 => listing,
                    _ => self.merge(cx, &parts)?,
                };
                if self
                    .give(cx, dir, &parts, &listing, from, false, each)?
                    .is_break()
                {
                    if self.listings.len() >= MAX_LISTINGS {
                        self.listings.remove(0);
                    }
                    self.listings.push((dir, listing));
                }
                Ok(())
            }
        }
    }

    /// Gives the upper entries with numbers below this one, newest first.
    fn list_upper(
        &self,
        dir: Ino,
        below: u64,
        each: &mut dyn FnMut(Entry<'_>) -> bool,
    ) -> ControlFlow<()> {
        let Some(Body::Dir(Dir { slots, order, .. })) = self.nodes.get(&dir).map(|node| &node.body)
        else {
            return ControlFlow::Continue(());
        };
        for (number, name) in order.range(..below).rev() {
            if let Some(&Slot::Entry { ino, kind, .. }) = slots.get(name)
                && !each(Entry {
                    name,
                    ino,
                    kind,
                    next: UPPER - number,
                })
            {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }

    /// Adds entries of part number `index` from a position on, `max` at most.
    fn gather(
        &mut self,
        cx: &mut FsCx<'_, '_>,
        part: Ino,
        index: usize,
        position: u64,
        max: usize,
        to: &mut Listing,
    ) -> Result<(), Errno> {
        let end = to.entries.len().saturating_add(max);
        self.layers
            .read_dir(cx.ports, part, position, &mut |entry| {
                let start = to.names.len();
                to.names.extend_from_slice(entry.name);
                to.entries.push(Listed {
                    name: start..to.names.len(),
                    ino: entry.ino,
                    kind: entry.kind,
                    cookie: (index as u64 + 1) << PART_SHIFT | entry.next,
                });
                to.entries.len() < end
            })
    }

    /// All entries of several parts that no part above hides.
    fn merge(&mut self, cx: &mut FsCx<'_, '_>, parts: &[Ino]) -> Result<Listing, Errno> {
        let mut all = Listing::default();
        for (index, &part) in parts.iter().enumerate() {
            self.gather(cx, part, index, 0, usize::MAX, &mut all)?;
        }
        let Listing { names, mut entries } = all;
        let name = |entry: &Listed| names.get(entry.name.clone()).unwrap_or_default();
        // Of equal names the one of the topmost part comes first.
        entries.sort_by(|a, b| (name(a), a.cookie).cmp(&(name(b), b.cookie)));
        entries.dedup_by(|b, a| name(a) == name(b));
        entries.sort_unstable_by_key(|entry| entry.cookie);
        Ok(Listing { names, entries })
    }

    /// Gives the entries of a listing behind a cookie that the upper directory does not hide and that are no
    /// whiteouts; with `look_up` those that no part above has.
    #[expect(
        clippy::too_many_arguments,
        reason = "where to read, what, and how: all of one place"
    )]
    fn give(
        &mut self,
        cx: &mut FsCx<'_, '_>,
        dir: Ino,
        parts: &[Ino],
        listing: &Listing,
        from: u64,
        look_up: bool,
        each: &mut dyn FnMut(Entry<'_>) -> bool,
    ) -> Result<ControlFlow<()>, Errno> {
        let first = listing
            .entries
            .partition_point(|entry| entry.cookie <= from);
        for entry in listing.entries.iter().skip(first) {
            let name = listing.name(entry);
            if self.slot(dir, name).is_some() {
                continue;
            }
            let part = (entry.cookie >> PART_SHIFT) as usize - 1;
            if look_up {
                let mut hidden = false;
                for &above in parts.iter().take(part) {
                    hidden = hidden || self.layers.lookup(cx.ports, above, name)?.is_some();
                }
                if hidden {
                    continue;
                }
            }
            let found = match (entry.ino, parts.get(part)) {
                (Some(ino), _) => Some((ino, entry.kind)),
                (None, Some(&part)) => self.layers.lookup(cx.ports, part, name)?,
                (None, None) => None,
            };
            let Some((ino, kind)) = found else {
                continue;
            };
            if self.layers.is_whiteout(cx.ports, ino, kind)? {
                continue;
            }
            let next = entry.cookie;
            if !each(Entry {
                name,
                ino,
                kind,
                next,
            }) {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}
