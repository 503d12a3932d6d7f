//! Directories: blocks of entries sorted by name.

use alloc::borrow::Cow;
use core::cmp::Ordering;

use super::inode::Inode;
use super::{ImgError, ImgFs, Source};
use crate::port::Images;
use varve_abi::NAME_MAX;
use varve_abi::raw::general::{
    DT_BLK, DT_CHR, DT_DIR, DT_FIFO, DT_LNK, DT_REG, DT_SOCK, DT_UNKNOWN, S_IFDIR, S_IFMT,
};

/// Bits of a position for the entry inside a block: a block of 65536 bytes has fewer than 2^13 of them.
const INDEX_BITS: u32 = 13;
const DIRENT: usize = 12;

/// An entry of a directory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Dirent<'a> {
    /// The name.
    pub name: &'a [u8],
    /// Number of its inode.
    pub nid: u64,
    /// File type as in `d_type` (`DT_REG` ...), as the entry says it; the inode's mode is the truth.
    pub kind: u8,
}

/// A checked head of a directory block.
struct DirBlock<'a> {
    bytes: Cow<'a, [u8]>,
    count: usize,
}

impl DirBlock<'_> {
    fn raw(&self, index: usize) -> Option<(u64, usize, u8)> {
        let entry = self.bytes.get(index * DIRENT..(index + 1) * DIRENT)?;
        let (nid, rest) = entry.split_first_chunk::<8>()?;
        let [low, high, kind, _] = *rest else {
            return None;
        };
        let name = usize::from(u16::from_le_bytes([low, high]));
        Some((u64::from_le_bytes(*nid), name, kind))
    }

    /// An entry; `None` if its name is not all behind the entries and inside the block, or no name.
    fn entry(&self, index: usize) -> Option<Dirent<'_>> {
        let (nid, start, kind) = self.raw(index)?;
        if start < self.count * DIRENT {
            return None;
        }
        let end = match index + 1 < self.count {
            true => self.raw(index + 1)?.1,
            false => self.bytes.len(),
        };
        let mut name = self.bytes.get(start..end)?;
        if index + 1 == self.count
            && let Some(end) = name.iter().position(|&byte| byte == 0)
        {
            name = name.get(..end)?;
        }
        if name.is_empty() || name.len() > NAME_MAX || name.iter().any(|b| matches!(b, b'/' | 0)) {
            return None;
        }
        let kind = match kind {
            1 => DT_REG,
            2 => DT_DIR,
            3 => DT_CHR,
            4 => DT_BLK,
            5 => DT_FIFO,
            6 => DT_SOCK,
            7 => DT_LNK,
            _ => DT_UNKNOWN,
        };
        let kind = u8::try_from(kind).ok()?;
        Some(Dirent { name, nid, kind })
    }
}

/// The name that was given last.
struct LastName([u8; NAME_MAX], usize);

impl Default for LastName {
    fn default() -> LastName {
        LastName([0; NAME_MAX], 0)
    }
}

impl LastName {
    fn set(&mut self, name: &[u8]) {
        if let Some(to) = self.0.get_mut(..name.len()) {
            to.copy_from_slice(name);
            self.1 = name.len();
        }
    }

    fn get(&self) -> &[u8] {
        self.0.get(..self.1).unwrap_or_default()
    }
}

const BAD_ENTRY: &str = "an entry of the directory has a bad name";

impl ImgFs {
    fn dir_blocks(&self, dir: &Inode) -> u64 {
        dir.size.div_ceil(self.block_size())
    }

    fn dir_block<'a>(
        &self,
        images: &'a dyn Images,
        dir: &Inode,
        index: u64,
    ) -> Result<DirBlock<'a>, ImgError> {
        let start = index << self.block_bits;
        let len = (dir.size - start).min(self.block_size());
        let bytes = match self.extent(images, dir, start)? {
            Some(extent) if extent.len >= len => match extent.source {
                Source::Image { image, offset } => self
                    .bytes(images, image, offset, len)
                    .map_err(|e| e.of(dir.nid))?,
                Source::Zero => return Err(self.damaged(dir.nid, "a directory block is a hole")),
            },
            _ => return Err(self.damaged(dir.nid, "a directory block is in pieces")),
        };
        let mut block = DirBlock { bytes, count: 1 };
        let first = block.raw(0).map(|(_, name, _)| name);
        match first {
            Some(name) if name >= DIRENT && name % DIRENT == 0 && name < block.bytes.len() => {
                block.count = name / DIRENT;
                Ok(block)
            }
            _ => Err(self.damaged(dir.nid, "nameoff of a directory block is wrong")),
        }
    }

    fn check_dir(&self, dir: &Inode) -> Result<(), ImgError> {
        match dir.mode & S_IFMT {
            S_IFDIR => Ok(()),
            _ => Err(self.damaged(dir.nid, "i_mode: the inode is no directory")),
        }
    }

    /// The entry called `name`: its inode's number and type (see [`Dirent`]).
    ///
    /// # Errors
    /// A directory that breaks the format where it was looked at.
    pub fn lookup(
        &self,
        images: &dyn Images,
        dir: &Inode,
        name: &[u8],
    ) -> Result<Option<(u64, u8)>, ImgError> {
        self.check_dir(dir)?;
        let bad = || self.damaged(dir.nid, BAD_ENTRY);
        // The last block whose first name is not behind the one that is looked for.
        let (mut low, mut high) = (0, self.dir_blocks(dir));
        let mut found = None;
        while low < high {
            let middle = low + (high - low) / 2;
            let block = self.dir_block(images, dir, middle)?;
            match block.entry(0).ok_or_else(bad)?.name.cmp(name) {
                Ordering::Greater => high = middle,
                Ordering::Equal => {
                    return Ok(block.entry(0).map(|entry| (entry.nid, entry.kind)));
                }
                Ordering::Less => {
                    low = middle + 1;
                    found = Some(block);
                }
            }
        }
        let Some(block) = found else {
            return Ok(None);
        };
        let (mut low, mut high) = (1, block.count);
        while low < high {
            let middle = low + (high - low) / 2;
            let entry = block.entry(middle).ok_or_else(bad)?;
            match entry.name.cmp(name) {
                Ordering::Greater => high = middle,
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return Ok(Some((entry.nid, entry.kind))),
            }
        }
        Ok(None)
    }

    /// Gives the entries behind `position` (0: all) with their own positions until `each` returns `false`, in
    /// the order of their names, without `.` and `..`. Positions are below 2^46.
    ///
    /// # Errors
    /// A directory that breaks the format, names that are not in order among them.
    pub fn read_dir(
        &self,
        images: &dyn Images,
        dir: &Inode,
        position: u64,
        each: &mut dyn FnMut(Dirent<'_>, u64) -> bool,
    ) -> Result<(), ImgError> {
        self.check_dir(dir)?;
        let mut index = (position & ((1 << INDEX_BITS) - 1)) as usize;
        // Positions below 2^46: no directory of more blocks lies in a file.
        let end = self.dir_blocks(dir).min(1 << (46 - INDEX_BITS));
        // Names go up over the whole directory: without that, a few blocks that are there many times would
        // have no end.
        let mut last = LastName::default();
        let first = position >> INDEX_BITS;
        if index == 0
            && let Some(before) = first.checked_sub(1)
            && before < end
        {
            let block = self.dir_block(images, dir, before)?;
            if let Some(entry) = block.entry(block.count - 1) {
                last.set(entry.name);
            }
        }
        for number in first..end {
            let block = self.dir_block(images, dir, number)?;
            if let Some(entry) = index.checked_sub(1).and_then(|before| block.entry(before)) {
                last.set(entry.name);
            }
            for at in index..block.count {
                let entry = block.entry(at);
                let entry = entry.ok_or_else(|| self.damaged(dir.nid, BAD_ENTRY))?;
                if entry.name <= last.get() {
                    return Err(self.damaged(dir.nid, "names of the directory are not in order"));
                }
                last.set(entry.name);
                if entry.name == b"." && entry.nid != dir.nid {
                    return Err(self.damaged(dir.nid, "`.` is another directory"));
                }
                let next = number << INDEX_BITS | (at as u64 + 1);
                if !matches!(entry.name, b"." | b"..") && !each(entry, next) {
                    return Ok(());
                }
            }
            index = 0;
        }
        Ok(())
    }
}
