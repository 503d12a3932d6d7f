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
    /// The device table, behind the superblock.
    pub(crate) devices: Vec<u8>,
}

/// Size of a slot of the device table, in bytes.
pub(crate) const DEVICE_SLOT: usize = 128;
/// Where the device table starts: behind the superblock, in slots.
const DEVICE_TABLE: u16 = 9;
/// Files may be tables of chunks, and these may be on other devices.
const INCOMPAT_CHUNKS_AND_DEVICES: u32 = 0x4 | 0x8;

impl Superblock {
    /// The first blocks of the image: as many as the device table needs, mostly one.
    pub(crate) fn blocks(&self) -> Vec<u8> {
        let table = usize::from(DEVICE_TABLE) * DEVICE_SLOT;
        let len = (table + self.devices.len()).next_multiple_of(BLOCK_SIZE as usize);
        let mut block = vec![0; len];
        block[table..][..self.devices.len()].copy_from_slice(&self.devices);
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
        let devices = (self.devices.len() / DEVICE_SLOT) as u16; // a stack has at most 500 layers
        if devices > 0 {
            put(0x50, &INCOMPAT_CHUNKS_AND_DEVICES.to_le_bytes());
            put(0x56, &devices.to_le_bytes());
            put(0x58, &DEVICE_TABLE.to_le_bytes());
        }
        // The format omits CRC-32C's final inversion, and what is behind the first block.
        let checksum = !crc32c::crc32c(&block[OFFSET..BLOCK_SIZE as usize]);
        block[OFFSET + 4..OFFSET + 8].copy_from_slice(&checksum.to_le_bytes());
        block
    }
}
