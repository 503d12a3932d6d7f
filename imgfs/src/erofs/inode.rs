//! Inodes: 32 or 64 bytes in the metadata, found by their number alone.

use core::ops::Range;

use zerocopy::little_endian::{I64, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{ErrorKind, ImgError, ImgFs};
use crate::port::Images;
use varve_abi::raw::general::{
    S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_IFSOCK,
};

/// A file of an image. All that it says about places in the image has been checked.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Inode {
    /// Its number: also `st_ino`.
    pub nid: u64,
    /// File type and permissions.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Number of names.
    pub nlink: u32,
    /// Bytes.
    pub size: u64,
    /// Modification time: seconds and nanoseconds since 1970.
    pub mtime: (i64, u32),
    /// Device number of a character or block device (`new_encode_dev`).
    pub rdev: u32,
    pub(super) layout: Layout,
    /// Offset and length of its attributes; behind them are the tail or the chunks.
    pub(super) xattrs: (u64, u32),
}

/// Where the data of an inode is. Blocks are counted from the start of the image.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Layout {
    /// All bytes from this offset of the image on.
    Plain(u64),
    /// All bytes are zero.
    Hole,
    /// The blocks but the last one from `start` on, the last one at `tail`.
    Inline { start: u64, tail: u64 },
    /// Chunks of `1 << bits` bytes, their places in a table at this offset with entries of 8 bytes (`wide`)
    /// or 4.
    Chunks { table: u64, bits: u32, wide: bool },
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Compact {
    format: U16,
    xattr_icount: U16,
    mode: U16,
    nlink: U16,
    size: U32,
    mtime: U32,
    data: U32,
    ino: U32,
    uid: U16,
    gid: U16,
    reserved: U32,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Extended {
    format: U16,
    xattr_icount: U16,
    mode: U16,
    reserved: U16,
    size: U64,
    data: U32,
    ino: U32,
    uid: U32,
    gid: U32,
    mtime: I64,
    mtime_nsec: U32,
    nlink: U32,
    reserved2: [u8; 16],
}

const NO_BLOCK: u32 = u32::MAX;
/// Length of an attribute body that has its head only: the impossible `i_xattr_icount` of 1.
pub(super) const ONLY_HEAD: u32 = 12;

const _: () = assert!(size_of::<Compact>() == 32 && size_of::<Extended>() == 64);

impl ImgFs {
    /// The bytes of the image that belong to an inode itself: its fields, its attributes, and the tail or the
    /// chunks behind them.
    pub fn metadata(&self, inode: &Inode) -> Range<u64> {
        let start = self.meta.saturating_add(inode.nid.saturating_mul(32));
        let attributes = inode.xattrs.0.saturating_add(u64::from(inode.xattrs.1));
        let end = match inode.layout {
            Layout::Plain(_) | Layout::Hole => attributes,
            Layout::Inline { tail, .. } => {
                let before = inode.size.saturating_sub(1) >> self.block_bits << self.block_bits;
                tail.saturating_add(inode.size.saturating_sub(before))
            }
            Layout::Chunks { table, bits, wide } => {
                let entry = if wide { 8 } else { 4 };
                let count = inode.size.div_ceil(1 << bits);
                table.saturating_add(count.saturating_mul(entry))
            }
        };
        start..end
    }

    /// The inode with this number.
    ///
    /// # Errors
    /// A number or a field that points outside of the image, a type or a layout that does not exist or is not
    /// supported.
    pub fn inode(&self, images: &dyn Images, nid: u64) -> Result<Inode, ImgError> {
        let outside = self.damaged(nid, "the inode is not inside the image");
        let at = nid
            .checked_mul(32)
            .and_then(|offset| offset.checked_add(self.meta))
            .ok_or(outside)?;
        let compact = self.record::<Compact>(images, at).map_err(|e| e.of(nid))?;
        let compact = compact.ok_or(outside)?;
        let format = compact.format.get();
        let (mut inode, data, icount, header) = if format & 1 == 0 {
            let inode = Inode {
                nid,
                mode: u32::from(compact.mode.get()),
                uid: u32::from(compact.uid.get()),
                gid: u32::from(compact.gid.get()),
                nlink: u32::from(compact.nlink.get()),
                size: u64::from(compact.size.get()),
                mtime: (self.epoch, self.fixed_nsec),
                rdev: 0,
                layout: Layout::Hole,
                xattrs: (0, 0),
            };
            (inode, compact.data.get(), compact.xattr_icount.get(), 32)
        } else {
            let raw = self
                .record::<Extended>(images, at)
                .map_err(|e| e.of(nid))?
                .ok_or(outside)?;
            if raw.format.get() != format {
                return Err(self.damaged(nid, "i_format changes while it is read"));
            }
            let inode = Inode {
                nid,
                mode: u32::from(raw.mode.get()),
                uid: raw.uid.get(),
                gid: raw.gid.get(),
                nlink: raw.nlink.get(),
                size: raw.size.get(),
                mtime: (raw.mtime.get(), raw.mtime_nsec.get()),
                rdev: 0,
                layout: Layout::Hole,
                xattrs: (0, 0),
            };
            (inode, raw.data.get(), raw.xattr_icount.get(), 64)
        };
        if format & !0x1f != 0 {
            return Err(self.damaged(nid, "i_format has reserved bits"));
        }
        if format & 0x10 != 0 {
            let field = "i_format: 48-bit addresses";
            return Err(self.error(Some(nid), ErrorKind::Unsupported, field));
        }
        if inode.size > i64::MAX as u64 {
            return Err(self.damaged(nid, "i_size is negative"));
        }
        if inode.mtime.1 >= 1_000_000_000 {
            return Err(self.damaged(nid, "i_mtime_nsec is not below a second"));
        }
        let body = at + header; // inside the file
        // A count of 1 is a head without entries: the data is behind it, but whoever asks for the attributes
        // gets an error, as on Linux.
        inode.xattrs = match icount {
            0 => (body, 0),
            n => (body, ONLY_HEAD + 4 * (u32::from(n) - 1)),
        };
        let data_at = body + u64::from(inode.xattrs.1);
        if data_at > self.len {
            return Err(self.damaged(
                nid,
                "i_xattr_icount: the attributes are not inside the image",
            ));
        }
        let layout = format >> 1 & 7;
        match layout {
            0 | 2 | 4 => {}
            1 | 3 => {
                let field = "i_format: compressed data";
                return Err(self.error(Some(nid), ErrorKind::Unsupported, field));
            }
            _ => return Err(self.damaged(nid, "i_format: reserved data layout")),
        }
        match inode.mode & S_IFMT {
            S_IFREG | S_IFDIR | S_IFLNK => {
                inode.layout = self.layout(&inode, layout, data, data_at)?;
            }
            S_IFCHR | S_IFBLK => inode.rdev = data,
            S_IFIFO | S_IFSOCK => {}
            _ => return Err(self.damaged(nid, "i_mode is of no file type")),
        }
        if inode.mode & S_IFMT == S_IFLNK && inode.size > 4095 {
            return Err(self.damaged(nid, "i_size: the link target is too long"));
        }
        Ok(inode)
    }

    fn layout(
        &self,
        inode: &Inode,
        layout: u16,
        data: u32,
        data_at: u64,
    ) -> Result<Layout, ImgError> {
        let start = u64::from(data) << self.block_bits;
        let outside = self.damaged(inode.nid, "i_u: the data is not inside the image");
        match layout {
            _ if inode.size == 0 => Ok(Layout::Hole),
            0 if data == NO_BLOCK => Ok(Layout::Hole),
            // With a device table the place may be on a device: looked up with each extent.
            0 if !self.devices.is_empty() => Ok(Layout::Plain(start)),
            0 => match start.checked_add(inode.size) {
                Some(end) if end <= self.len => Ok(Layout::Plain(start)),
                _ => Err(outside),
            },
            2 => {
                let before = (inode.size - 1) >> self.block_bits << self.block_bits;
                let tail = inode.size - before;
                let inside = start.checked_add(before).is_some_and(|end| end <= self.len);
                if before > 0 && self.devices.is_empty() && !inside {
                    return Err(outside);
                }
                let within = data_at & (self.block_size() - 1);
                if within + tail > self.block_size() || data_at + tail > self.len {
                    return Err(self.damaged(inode.nid, "i_size: the tail crosses its block"));
                }
                Ok(Layout::Inline {
                    start,
                    tail: data_at,
                })
            }
            _ => {
                if data & !0x3f != 0 {
                    let field = "i_u: 48-bit addresses or unknown bits in the chunk format";
                    return Err(self.error(Some(inode.nid), ErrorKind::Unsupported, field));
                }
                let bits = self.block_bits + (data & 0x1f); // at most 16 + 31
                let wide = data & 0x20 != 0;
                let entry = if wide { 8 } else { 4 };
                let table = data_at.next_multiple_of(entry);
                let count = ((inode.size - 1) >> bits) + 1;
                match count
                    .checked_mul(entry)
                    .and_then(|len| table.checked_add(len))
                {
                    Some(end) if end <= self.len => Ok(Layout::Chunks { table, bits, wide }),
                    _ => {
                        Err(self.damaged(inode.nid, "i_size: the chunks are not inside the image"))
                    }
                }
            }
        }
    }
}

impl Inode {
    /// Whether it says that a name is gone (overlayfs): character device 0:0.
    pub fn is_whiteout(&self) -> bool {
        self.mode & S_IFMT == S_IFCHR && self.rdev == 0
    }

    /// Whether there are extended attributes.
    pub fn has_xattrs(&self) -> bool {
        self.xattrs.1 > 0
    }
}
