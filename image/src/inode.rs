//! Inodes on disk: which of the two forms one takes, and its bytes.

use crate::tree::{Attr, Time};

/// Inodes are addressed in units of this many bytes.
pub(crate) const SLOT: u64 = 32;
/// Start block of a body that has no block of its own.
pub(crate) const NO_BLOCK: u32 = u32::MAX;

/// Where the content of an inode lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DataLayout {
    /// Whole blocks from the start block on.
    Plain = 0,
    /// As before, but the last, partial block follows the inode.
    Inline = 2,
    /// A table of chunks follows the inode.
    Chunks = 4,
}

/// Everything that goes into one inode.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Inode {
    pub(crate) attr: Attr,
    pub(crate) mode: u16,
    pub(crate) layout: DataLayout,
    pub(crate) size: u64,
    pub(crate) nlink: u32,
    /// Start block or device number.
    pub(crate) union: u32,
    pub(crate) serial: u32,
    pub(crate) xattr_icount: u16,
}

/// Size of an inode: 32 bytes when its fields fit the compact form and its time is the image's, else 64.
pub(crate) fn size(attr: &Attr, size: u64, nlink: u32, epoch: Time) -> u64 {
    const LIMIT: u32 = u16::MAX as u32;
    let compact = attr.mtime == epoch
        && attr.uid <= LIMIT
        && attr.gid <= LIMIT
        && nlink <= LIMIT
        && u32::try_from(size).is_ok();
    if compact { 32 } else { 64 }
}

/// Device number as the format has it; `None` beyond the kernel's 12 and 20 bits.
pub(crate) fn device(major: u32, minor: u32) -> Option<u32> {
    (major < 1 << 12 && minor < 1 << 20)
        .then_some((minor & 0xff) | (major << 8) | ((minor & !0xff) << 12))
}

impl Inode {
    /// Fills `out`, whose length chooses the form (see [`size`]).
    pub(crate) fn emit(&self, out: &mut [u8]) {
        let extended = out.len() == 64;
        let format = u16::from(extended) | (self.layout as u16) << 1;
        out.fill(0);
        out[0x00..0x02].copy_from_slice(&format.to_le_bytes());
        out[0x02..0x04].copy_from_slice(&self.xattr_icount.to_le_bytes());
        out[0x04..0x06].copy_from_slice(&self.mode.to_le_bytes());
        out[0x10..0x14].copy_from_slice(&self.union.to_le_bytes());
        out[0x14..0x18].copy_from_slice(&self.serial.to_le_bytes());
        if extended {
            out[0x08..0x10].copy_from_slice(&self.size.to_le_bytes());
            out[0x18..0x1c].copy_from_slice(&self.attr.uid.to_le_bytes());
            out[0x1c..0x20].copy_from_slice(&self.attr.gid.to_le_bytes());
            out[0x20..0x28].copy_from_slice(&self.attr.mtime.sec.to_le_bytes());
            out[0x28..0x2c].copy_from_slice(&self.attr.mtime.nsec.to_le_bytes());
            out[0x2c..0x30].copy_from_slice(&self.nlink.to_le_bytes());
        } else {
            out[0x06..0x08].copy_from_slice(&(self.nlink as u16).to_le_bytes());
            out[0x08..0x0c].copy_from_slice(&(self.size as u32).to_le_bytes());
            out[0x18..0x1a].copy_from_slice(&(self.attr.uid as u16).to_le_bytes());
            out[0x1a..0x1c].copy_from_slice(&(self.attr.gid as u16).to_le_bytes());
        }
    }
}
