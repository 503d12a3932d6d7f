//! Where the data of an inode is.

use alloc::vec::Vec;

use zerocopy::little_endian::U32;

use super::inode::{Inode, Layout};
use super::{ErrorKind, ImgError, ImgFs};
use crate::port::ImageId;
use crate::port::Images;
use varve_abi::raw::general::{S_IFLNK, S_IFMT};
use varve_abi::{PAGE_SIZE, PATH_MAX};

/// Entries of a chunk table that are looked at for one extent.
const MAX_CHUNKS: u64 = 256;

/// A run of bytes of a file that are in one place.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Extent {
    /// Where.
    pub source: Source,
    /// Bytes, at least 1; more of the same may follow.
    pub len: u64,
}

/// Where bytes of a file are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Source {
    /// At this byte offset of an image file (the image itself, or a device of its table).
    Image {
        /// The file.
        image: ImageId,
        /// Byte offset.
        offset: u64,
    },
    /// Nowhere: they are zero.
    Zero,
}

impl ImgFs {
    /// Where the bytes of a file, directory or link from `offset` on are; `None` at or behind its end. What
    /// it gives is inside the image.
    ///
    /// # Errors
    /// A chunk that is outside of its device.
    pub fn extent(
        &self,
        images: &dyn Images,
        inode: &Inode,
        offset: u64,
    ) -> Result<Option<Extent>, ImgError> {
        if offset >= inode.size {
            return Ok(None);
        }
        let rest = inode.size - offset;
        Ok(Some(match inode.layout {
            Layout::Hole => Extent {
                source: Source::Zero,
                len: rest,
            },
            Layout::Plain(start) => self.flat(images, inode, start + offset, rest)?,
            Layout::Inline { start, tail } => {
                let before = (inode.size - 1) >> self.block_bits << self.block_bits;
                match offset < before {
                    true => self.flat(images, inode, start + offset, before - offset)?,
                    false => Extent {
                        source: Source::Image {
                            image: self.image,
                            offset: tail + (offset - before),
                        },
                        len: rest,
                    },
                }
            }
            Layout::Chunks { table, bits, wide } => {
                let mut index = offset >> bits;
                let within = offset & ((1 << bits) - 1);
                let first = self.chunk(images, inode, table, bits, wide, index)?;
                let mut len = ((1 << bits) - within).min(rest);
                // Neighbours that go on in the same place.
                let stop = index.saturating_add(MAX_CHUNKS);
                while len < rest && index < stop {
                    index += 1;
                    let next = self.chunk(images, inode, table, bits, wide, index)?;
                    let goes_on = match (first, next) {
                        (Source::Zero, Source::Zero) => true,
                        (
                            Source::Image { image, offset },
                            Source::Image {
                                image: next_image,
                                offset: next,
                            },
                        ) => image == next_image && offset.checked_add(within + len) == Some(next),
                        _ => false,
                    };
                    if !goes_on {
                        break;
                    }
                    len = len.saturating_add(1 << bits).min(rest);
                }
                let source = match first {
                    Source::Zero => Source::Zero,
                    Source::Image { image, offset } => Source::Image {
                        image,
                        offset: offset + within,
                    },
                };
                Extent { source, len }
            }
        }))
    }

    /// Where chunk number `index` starts. The table and all bytes of the chunk that belong to the file are
    /// inside.
    fn chunk(
        &self,
        images: &dyn Images,
        inode: &Inode,
        table: u64,
        bits: u32,
        wide: bool,
        index: u64,
    ) -> Result<Source, ImgError> {
        let outside = self.damaged(inode.nid, "a chunk is not inside its device");
        let (device, block) = match wide {
            true => {
                let entry = self.record::<[U32; 2]>(images, table + index * 8);
                let [head, block] = entry.map_err(|e| e.of(inode.nid))?.ok_or(outside)?;
                ((head.get() >> 16) as u16, block.get())
            }
            false => {
                let entry = self.record::<U32>(images, table + index * 4);
                let block = entry.map_err(|e| e.of(inode.nid))?.ok_or(outside)?;
                (0, block.get())
            }
        };
        if block == u32::MAX {
            return Ok(Source::Zero);
        }
        let need = (inode.size - (index << bits)).min(1 << bits);
        let place = self.place(images, inode, device, u64::from(block) << self.block_bits)?;
        match place {
            (source, room) if need <= room => Ok(source),
            _ => Err(outside),
        }
    }

    /// Bytes of a layout without a table of chunks. A device table may put them on a device.
    fn flat(
        &self,
        images: &dyn Images,
        inode: &Inode,
        at: u64,
        len: u64,
    ) -> Result<Extent, ImgError> {
        if !self.unified {
            let image = self.image;
            let source = Source::Image { image, offset: at };
            return Ok(Extent { source, len });
        }
        let (source, room) = self.place(images, inode, 0, at)?;
        match room {
            0 => Err(self.damaged(inode.nid, "i_u: the data is not inside its device")),
            _ => Ok(Extent {
                source,
                len: len.min(room),
            }),
        }
    }

    /// Which file an address on a device is in, and how many bytes follow there. Device 0 is the image with
    /// its devices behind it.
    fn place(
        &self,
        images: &dyn Images,
        inode: &Inode,
        device: u16,
        mut at: u64,
    ) -> Result<(Source, u64), ImgError> {
        let mask = (self.devices.len() + 1).next_power_of_two() - 1;
        let mut room = u64::MAX;
        let device = match usize::from(device) & mask {
            0 if !self.unified => None,
            0 => {
                let block = at >> self.block_bits;
                let unified = self.devices.iter().find(|slot| {
                    slot.uniaddr != 0 && (slot.uniaddr..slot.uniaddr + slot.blocks).contains(&block)
                });
                match unified {
                    Some(slot) => {
                        at -= slot.uniaddr << self.block_bits;
                        room = (slot.blocks << self.block_bits) - at;
                    }
                    // Up to where the next device starts.
                    None => {
                        let starts = self.devices.iter().map(|slot| slot.uniaddr);
                        if let Some(next) = starts.filter(|&start| start > block).min() {
                            room = (next << self.block_bits) - at;
                        }
                    }
                }
                unified
            }
            id => Some(self.devices.get(id - 1).ok_or_else(|| {
                self.damaged(inode.nid, "a chunk names a device that does not exist")
            })?),
        };
        let (image, limit) = match device {
            None => (self.image, self.len),
            // The length of the file counts, not what the slot says of it: mkfs.erofs 1.5 says nothing.
            Some(slot) => match slot.image {
                Some(image) => {
                    let block = self.block(images, image).map_err(|e| e.of(inode.nid))?;
                    (image, block.len())
                }
                None if slot.uniaddr == 0 => {
                    let field = "a chunk is on a device that was not given";
                    return Err(self.error(Some(inode.nid), ErrorKind::Unsupported, field));
                }
                None => {
                    at += slot.uniaddr << self.block_bits;
                    (self.image, self.len)
                }
            },
        };
        let source = Source::Image { image, offset: at };
        Ok((source, limit.saturating_sub(at).min(room)))
    }

    /// Fills `buf` with bytes of a file, directory or link from `offset` on; gives how many there were.
    ///
    /// # Errors
    /// As [`extent`](Self::extent), and files that cannot be read.
    pub fn read(
        &self,
        images: &dyn Images,
        inode: &Inode,
        offset: u64,
        buf: &mut [u8],
    ) -> Result<usize, ImgError> {
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let Some(extent) = self.extent(images, inode, offset.saturating_add(done as u64))?
            else {
                break;
            };
            let len = usize::try_from(extent.len).map_or(rest.len(), |len| len.min(rest.len()));
            let (part, _) = rest.split_at_mut(len);
            match extent.source {
                Source::Zero => part.fill(0),
                Source::Image { image, offset } => {
                    let block = self.block(images, image).map_err(|e| e.of(inode.nid))?;
                    block.read_at(offset, part).map_err(|_| {
                        self.error(Some(inode.nid), ErrorKind::Io, "the file cannot be read")
                    })?;
                }
            }
            done += len;
        }
        Ok(done)
    }

    /// Whether the page with a file's end can be mapped where it is: whole in an image file, page-aligned
    /// there, with zeros behind the end. True for a file of whole pages.
    ///
    /// # Errors
    /// As [`extent`](Self::extent), and files that cannot be read.
    pub fn slack_is_zero(&self, images: &dyn Images, inode: &Inode) -> Result<bool, ImgError> {
        let within = inode.size % PAGE_SIZE;
        if within == 0 {
            return Ok(true);
        }
        let extent = self.extent(images, inode, inode.size - within)?;
        let Some(Extent {
            source: Source::Image { image, offset },
            len,
        }) = extent
        else {
            return Ok(false);
        };
        let file = self.block(images, image)?.len();
        let inside = offset.checked_add(PAGE_SIZE).is_some_and(|end| end <= file);
        if len < within || offset % PAGE_SIZE != 0 || !inside {
            return Ok(false);
        }
        let slack = self.bytes(images, image, offset + within, PAGE_SIZE - within);
        let slack = slack.map_err(|e| e.of(inode.nid))?;
        Ok(slack.iter().all(|&byte| byte == 0))
    }

    /// Target of a symbolic link; empty for anything else.
    ///
    /// # Errors
    /// As [`read`](Self::read); a NUL in the target.
    pub fn read_link(&self, images: &dyn Images, inode: &Inode) -> Result<Vec<u8>, ImgError> {
        if inode.mode & S_IFMT != S_IFLNK {
            return Ok(Vec::new());
        }
        // That it is shorter was checked with the inode.
        let len = usize::try_from(inode.size).map_or(PATH_MAX, |len| len.min(PATH_MAX));
        let mut target = alloc::vec![0; len];
        let len = self.read(images, inode, 0, &mut target)?;
        target.truncate(len);
        match target.contains(&0) {
            true => Err(self.damaged(inode.nid, "the link target holds a NUL")),
            false => Ok(target),
        }
    }
}
