//! The superblock: 128 bytes at offset 1024, the device table and the long attribute prefixes it points to.

use alloc::vec::Vec;

use zerocopy::little_endian::{I64, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Device, ErrorKind, ImgError, ImgFs};
use crate::port::ImageId;
use crate::port::Images;
use varve_abi::raw::general::{S_IFDIR, S_IFMT};

/// Where the superblock is.
const OFFSET: u64 = 1024;
const MAGIC: u32 = 0xe0f5_e1e2;
const COMPAT_CHECKSUM: u32 = 0x1;
const COMPAT_PLAIN_PREFIXES: u32 = 0x10;
const INCOMPAT_CHUNKED_FILE: u32 = 0x4;
const INCOMPAT_DEVICE_TABLE: u32 = 0x8;
const INCOMPAT_XATTR_PREFIXES: u32 = 0x40;
const INCOMPAT_KNOWN: u32 = INCOMPAT_CHUNKED_FILE | INCOMPAT_DEVICE_TABLE | INCOMPAT_XATTR_PREFIXES;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Superblock {
    magic: U32,
    checksum: U32,
    feature_compat: U32,
    blkszbits: u8,
    sb_extslots: u8,
    root_nid: U16,
    inos: U64,
    epoch: I64,
    fixed_nsec: U32,
    blocks: U32,
    meta_blkaddr: U32,
    xattr_blkaddr: U32,
    uuid: [u8; 16],
    volume_name: [u8; 16],
    feature_incompat: U32,
    available_compr_algs: U16,
    extra_devices: U16,
    devt_slotoff: U16,
    dirblkbits: u8,
    xattr_prefix_count: u8,
    xattr_prefix_start: U32,
    packed_nid: U64,
    xattr_filter_reserved: u8,
    ishare_prefix: u8,
    reserved: [u8; 2],
    build_time: U32,
    rootnid_8b: U64,
    reserved2: [u8; 8],
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct DeviceSlot {
    tag: [u8; 64],
    blocks: U32,
    uniaddr: U32,
    blocks_hi: U16,
    uniaddr_hi: U16,
    reserved: [u8; 52],
}

/// Most slots of a device table: each extent looks at all of them.
const MAX_DEVICES: u16 = 512;

const _: () = assert!(size_of::<Superblock>() == 128 && size_of::<DeviceSlot>() == 128);

pub(super) fn open(
    images: &dyn Images,
    image: ImageId,
    devices: &[ImageId],
) -> Result<ImgFs, ImgError> {
    let mut fs = ImgFs {
        image,
        len: 0,
        block_bits: 9,
        root_nid: 0,
        meta: 0,
        xattrs: 0,
        epoch: 0,
        fixed_nsec: 0,
        inodes: 0,
        uuid: [0; 16],
        devices: Vec::new(),
        unified: false,
        prefixes: Vec::new(),
    };
    fs.len = fs.block(images, image)?.len();
    let foreign = |field| ImgError {
        image,
        nid: None,
        kind: ErrorKind::Foreign,
        field,
    };
    let Some(sb) = fs.record::<Superblock>(images, OFFSET)? else {
        return Err(foreign("the file is too short"));
    };
    if sb.magic.get() != MAGIC {
        return Err(foreign("the magic number is another one"));
    }
    let damaged = |field| ImgError {
        image,
        nid: None,
        kind: ErrorKind::Damaged,
        field,
    };
    let unsupported = |field| ImgError {
        image,
        nid: None,
        kind: ErrorKind::Unsupported,
        field,
    };
    if !(9..=16).contains(&sb.blkszbits) {
        return Err(damaged("blkszbits is not 9..16"));
    }
    fs.block_bits = u32::from(sb.blkszbits);
    let (compat, incompat) = (sb.feature_compat.get(), sb.feature_incompat.get());
    if compat & COMPAT_CHECKSUM != 0 && checksum(&fs, images)? != sb.checksum.get() {
        return Err(damaged("the checksum of the superblock is wrong"));
    }
    if incompat & !INCOMPAT_KNOWN != 0 {
        return Err(unsupported(match incompat & !INCOMPAT_KNOWN {
            bits if bits & 0x3 != 0 => "feature_incompat: compression",
            bits if bits & 0x80 != 0 => "feature_incompat: 48-bit addresses",
            bits if bits & 0x100 != 0 => "feature_incompat: metabox",
            bits if bits & 0x30 != 0 => "feature_incompat: packed tails or fragments",
            _ => "feature_incompat: unknown bits",
        }));
    }
    if sb.dirblkbits != 0 {
        return Err(unsupported("dirblkbits is not 0"));
    }
    // The superblock lies inside one block; smaller blocks start at it.
    let room = fs.block_size() - OFFSET % fs.block_size();
    if 128 + 16 * u64::from(sb.sb_extslots) > room {
        return Err(damaged("sb_extslots reaches behind the block"));
    }
    if sb.fixed_nsec.get() >= 1_000_000_000 {
        return Err(damaged("fixed_nsec is not below a second"));
    }
    fs.root_nid = u64::from(sb.root_nid.get());
    fs.meta = u64::from(sb.meta_blkaddr.get()) << fs.block_bits;
    fs.xattrs = u64::from(sb.xattr_blkaddr.get()) << fs.block_bits;
    fs.epoch = sb.epoch.get();
    fs.fixed_nsec = sb.fixed_nsec.get();
    fs.inodes = sb.inos.get();
    fs.uuid = sb.uuid;
    let count = match incompat & INCOMPAT_DEVICE_TABLE {
        0 => 0,
        _ => sb.extra_devices.get(),
    };
    if !devices.is_empty() && devices.len() != usize::from(count) {
        return Err(unsupported(
            "extra_devices is another number than that of the files given",
        ));
    }
    // Bounds are those of the file; but a file that lost its end should not get as far as to a program. With
    // a device table the field may count blocks elsewhere, and some writers leave it 0.
    if count == 0 && u64::from(sb.blocks.get()) << fs.block_bits > fs.len {
        return Err(damaged(
            "blocks: the file is shorter than that, it was cut off",
        ));
    }
    if count > MAX_DEVICES {
        return Err(unsupported("extra_devices: more than 512"));
    }
    if count > 0 {
        for index in 0..count {
            let slot = u64::from(sb.devt_slotoff.get()) + u64::from(index);
            let slot = fs.record::<DeviceSlot>(images, slot * 128)?;
            let slot = slot.ok_or(damaged("devt_slotoff: the device table is not inside"))?;
            fs.devices.push(Device {
                image: devices.get(usize::from(index)).copied(),
                blocks: u64::from(slot.blocks.get()),
                uniaddr: u64::from(slot.uniaddr.get()),
                digest: digest(&slot.tag),
            });
            fs.unified |= slot.uniaddr.get() != 0;
        }
    }
    if incompat & INCOMPAT_XATTR_PREFIXES != 0 {
        if compat & COMPAT_PLAIN_PREFIXES == 0 && sb.packed_nid.get() != 0 {
            return Err(unsupported(
                "packed_nid: attribute prefixes in the packed inode",
            ));
        }
        let mut at = u64::from(sb.xattr_prefix_start.get()) * 4;
        for _ in 0..sb.xattr_prefix_count {
            let outside = damaged("xattr_prefix_start: the prefixes are not inside");
            let head = fs.record::<[u8; 3]>(images, at)?.ok_or(outside)?;
            let len = u16::from_le_bytes([head[0], head[1]]);
            if !(1..=256).contains(&len) {
                return Err(damaged(
                    "an attribute prefix has a length that is not 1..256",
                ));
            }
            let infix = u64::from(len) - 1;
            if at + 3 + infix > fs.len {
                return Err(outside);
            }
            let text = fs.bytes(images, image, at + 3, infix)?;
            fs.prefixes.push((head[2], text.into_owned()));
            at = (at + 2 + u64::from(len)).next_multiple_of(4);
        }
    }
    let root = fs.inode(images, fs.root_nid)?;
    if root.mode & S_IFMT != S_IFDIR {
        return Err(fs.damaged(fs.root_nid, "i_mode: the root is no directory"));
    }
    Ok(fs)
}

/// A SHA-256 digest in lower-case hexadecimal.
fn digest(tag: &[u8; 64]) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    hex::decode_to_slice(tag, &mut digest).ok()?;
    (!tag.iter().any(u8::is_ascii_uppercase)).then_some(digest)
}

/// CRC-32C over the rest of the superblock's block, the checksum field as zero, without the final inversion.
fn checksum(fs: &ImgFs, images: &dyn Images) -> Result<u32, ImgError> {
    let len = match fs.block_size() {
        size if size > OFFSET => size - OFFSET,
        size => size,
    };
    if OFFSET + len > fs.len {
        let field = "the file ends inside its first block";
        return Err(fs.error(None, ErrorKind::Damaged, field));
    }
    let bytes = fs.bytes(images, fs.image, OFFSET, len)?;
    let mut crc = u32::MAX;
    for (index, &byte) in bytes.iter().enumerate() {
        crc ^= u32::from(if (4..8).contains(&index) { 0 } else { byte });
        for _ in 0..8 {
            crc = (crc >> 1) ^ ((crc & 1) * 0x82f6_3b78);
        }
    }
    Ok(crc)
}
