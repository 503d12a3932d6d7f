//! The first block of an image: 1024 free bytes, the superblock, its checksum.

use crate::BLOCK_SIZE;
use crate::tree::Time;

/// The superblock is covered by a checksum.
const COMPAT_CHECKSUM: u32 = 0x1;
/// Inode times are modification times.
const COMPAT_MTIME: u32 = 0x2;
/// Longest label; old kernels want a NUL in the 16 bytes.
pub(crate) const LABEL_MAX: usize = 15;
const OFFSET: usize = 1024;

#[derive(Debug)]
pub(crate) struct Superblock {
    pub(crate) root_nid: u16,
    pub(crate) inodes: u64,
    pub(crate) epoch: Time,
    pub(crate) blocks: u32,
    pub(crate) meta_block: u32,
    pub(crate) xattr_block: u32,
    pub(crate) uuid: [u8; 16],
    pub(crate) label: Vec<u8>,
}

impl Superblock {
    /// Block 0 of the image.
    pub(crate) fn block(&self) -> Vec<u8> {
        let mut block = vec![0; BLOCK_SIZE as usize];
        let mut put =
            |at: usize, bytes: &[u8]| block[OFFSET + at..][..bytes.len()].copy_from_slice(bytes);
        put(0x00, &0xE0F5_E1E2_u32.to_le_bytes());
        put(0x08, &(COMPAT_CHECKSUM | COMPAT_MTIME).to_le_bytes());
        put(0x0c, &[BLOCK_SIZE.trailing_zeros() as u8]);
        put(0x0e, &self.root_nid.to_le_bytes());
        put(0x10, &self.inodes.to_le_bytes());
        put(0x18, &self.epoch.sec.to_le_bytes());
        put(0x20, &self.epoch.nsec.to_le_bytes());
        put(0x24, &self.blocks.to_le_bytes());
        put(0x28, &self.meta_block.to_le_bytes());
        put(0x2c, &self.xattr_block.to_le_bytes());
        put(0x30, &self.uuid);
        put(0x40, &self.label);
        // The format omits CRC-32C's final inversion.
        let checksum = !crc32c::crc32c(&block[OFFSET..]);
        block[OFFSET + 4..OFFSET + 8].copy_from_slice(&checksum.to_le_bytes());
        block
    }
}
