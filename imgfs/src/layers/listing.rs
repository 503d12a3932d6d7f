//! Reading of merged directories.
//!
//! A cookie says where an entry is, so that it stays right after the directory was closed and opened again.
//! Of a directory with several parts an entry shows that no part above has: with few parts that is looked up
//! for each entry, so that nothing is kept and any number of directories can be read in turn; with many they
//! are merged once and kept until read to the end.

use alloc::vec::Vec;
use core::ops::{ControlFlow, Range};

use varve_abi::Errno;

use super::attr::Ino;
use super::layer::Opened;
use super::{Layers, parts_of};
use crate::port::LayerPorts;

/// Entries of an unmerged directory that are taken at a time.
const BATCH: usize = 128;
/// Most parts of a directory whose entries are looked up in the parts above.
const LOOKED_UP: usize = 8;
/// Most merged listings kept for reading on.
const MAX_LISTINGS: usize = 4;
/// Cookies of entries of part `n` are `(n + 1) << PART_SHIFT | position`.
const PART_SHIFT: u32 = 47;
/// Cookies of entries are greater than this and below 2^63. Smaller ones are left to whoever lays something
/// of its own over the layers.
pub const FIRST_COOKIE: u64 = 1 << PART_SHIFT;

/// One entry of a directory.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Its name; never `.` or `..`.
    pub name: &'a [u8],
    /// The inode; of a merged directory without its parts, which [`Layers::lookup`] finds.
    pub ino: Ino,
    /// `DT_` value.
    pub kind: u8,
    /// Reading goes on behind this entry when this is given; greater than 2 and below 2^63.
    pub next: u64,
}

/// Entries in the order of their cookies.
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

/// Who gets entries, and which it wants.
struct Reader<'a, H> {
    /// Whether something else is under a name.
    is_hidden: H,
    each: &'a mut dyn FnMut(Entry<'_>) -> bool,
}

impl Layers {
    /// Gives the entries of a directory behind a cookie (0, or any up to [`FIRST_COOKIE`]: all) until `each`
    /// returns `false`, each name once, without those that `is_hidden` says something else is under.
    ///
    /// # Errors
    /// Damage, also where `dir` is no directory; what the port says.
    pub fn read_dir(
        &mut self,
        ports: &mut LayerPorts<'_>,
        dir: Ino,
        cookie: u64,
        is_hidden: impl Fn(&[u8]) -> bool,
        each: &mut dyn FnMut(Entry<'_>) -> bool,
    ) -> Result<(), Errno> {
        let parts = parts_of(&self.merged, &dir);
        let opened = &mut self.opened;
        let mut to = Reader { is_hidden, each };
        if parts.len() <= LOOKED_UP {
            return opened.list_few(ports, parts, cookie, &mut to);
        }
        let kept = self.listings.iter().position(|(ino, _)| *ino == dir);
        let listing = match kept.map(|at| self.listings.remove(at).1) {
            Some(listing) if cookie > FIRST_COOKIE => listing,
            _ => opened.merge(ports, parts)?,
        };
        let given = opened.give(ports, parts, &listing, cookie, false, &mut to)?;
        if given.is_break() {
            if self.listings.len() >= MAX_LISTINGS {
                self.listings.remove(0);
            }
            self.listings.push((dir, listing));
        }
        Ok(())
    }

    /// Nobody reads a directory any more.
    pub fn end_reading(&mut self, dir: Ino) {
        self.listings.retain(|(ino, _)| *ino != dir);
    }
}

impl Opened {
    /// Gives the entries of a directory of few parts.
    fn list_few<H: Fn(&[u8]) -> bool>(
        &mut self,
        ports: &mut LayerPorts<'_>,
        parts: &[Ino],
        cookie: u64,
        to: &mut Reader<'_, H>,
    ) -> Result<(), Errno> {
        let (first, mut position) = match cookie {
            ..=FIRST_COOKIE => (0, 0),
            _ => (
                (cookie >> PART_SHIFT) as usize - 1,
                cookie & ((1 << PART_SHIFT) - 1),
            ),
        };
        for (index, &part) in parts.iter().enumerate().skip(first) {
            loop {
                let mut batch = Listing::default();
                self.gather(ports, part, index, position, BATCH, &mut batch)?;
                if self.give(ports, parts, &batch, 0, true, to)?.is_break() {
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

    /// Adds entries of part number `index` from a position on, `max` at most.
    fn gather(
        &mut self,
        ports: &mut LayerPorts<'_>,
        part: Ino,
        index: usize,
        position: u64,
        max: usize,
        to: &mut Listing,
    ) -> Result<(), Errno> {
        let end = to.entries.len().saturating_add(max);
        self.read_dir(ports, part, position, &mut |entry| {
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
    fn merge(&mut self, ports: &mut LayerPorts<'_>, parts: &[Ino]) -> Result<Listing, Errno> {
        let mut all = Listing::default();
        for (index, &part) in parts.iter().enumerate() {
            self.gather(ports, part, index, 0, usize::MAX, &mut all)?;
        }
        let Listing { names, mut entries } = all;
        let name = |entry: &Listed| names.get(entry.name.clone()).unwrap_or_default();
        // Of equal names the one of the topmost part comes first.
        entries.sort_by(|a, b| (name(a), a.cookie).cmp(&(name(b), b.cookie)));
        entries.dedup_by(|b, a| name(a) == name(b));
        entries.sort_unstable_by_key(|entry| entry.cookie);
        Ok(Listing { names, entries })
    }

    /// Gives the entries of a listing behind a cookie that nothing hides and that are no whiteouts; with
    /// `look_up` those that no part above has.
    fn give<H: Fn(&[u8]) -> bool>(
        &mut self,
        ports: &mut LayerPorts<'_>,
        parts: &[Ino],
        listing: &Listing,
        behind: u64,
        look_up: bool,
        to: &mut Reader<'_, H>,
    ) -> Result<ControlFlow<()>, Errno> {
        let first = listing
            .entries
            .partition_point(|entry| entry.cookie <= behind);
        for entry in listing.entries.iter().skip(first) {
            let name = listing.name(entry);
            if (to.is_hidden)(name) {
                continue;
            }
            let part = (entry.cookie >> PART_SHIFT) as usize - 1;
            if look_up {
                let mut hidden = false;
                for &above in parts.iter().take(part) {
                    hidden = hidden || self.lookup(ports, above, name)?.is_some();
                }
                if hidden {
                    continue;
                }
            }
            let found = match (entry.ino, parts.get(part)) {
                (Some(ino), _) => Some((ino, entry.kind)),
                (None, Some(&part)) => self.lookup(ports, part, name)?,
                (None, None) => None,
            };
            let Some((ino, kind)) = found else {
                continue;
            };
            if self.is_whiteout(ports, ino, kind)? {
                continue;
            }
            let next = entry.cookie;
            if !(to.each)(Entry {
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
