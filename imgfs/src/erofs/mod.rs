//! The reader of imgfs layers: uncompressed EROFS images over the [`Block`] port.
//!
//! An image is untrusted. Every offset, length, count and name is checked before it is used, in 64 bits and
//! with overflow checks, and nothing is allocated or walked in proportion to a number from the image. Each
//! value is read once. Errors name the inode and the field.
//!
//! [`ImgFs`] is an opened image, [`Inode`] a checked inode. File data is never copied here: [`ImgFs::extent`]
//! says where it is. Read: FLAT_PLAIN, FLAT_INLINE and CHUNK_BASED inodes, device tables, shared and inline
//! extended attributes, long prefixes, blocks of 512 to 65536 bytes. Refused: compression, 48-bit addresses,
//! fragments, the metabox, any feature that is not known.

mod data;
mod dir;
mod error;
mod inode;
mod superblock;
mod xattr;

use alloc::borrow::Cow;
use alloc::vec;
use alloc::vec::Vec;

use zerocopy::{FromBytes, IntoBytes};

pub use data::{Extent, Source};
pub use dir::Dirent;
pub use error::{ErrorKind, ImgError};
pub use inode::Inode;

use crate::port::ImageId;
use crate::port::{Block, Images};

/// An opened image: what its superblock says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ImgFs {
    image: ImageId,
    /// Length of the image file.
    len: u64,
    block_bits: u32,
    root_nid: u64,
    /// Byte offset of inode number 0.
    meta: u64,
    /// Byte offset of shared attribute number 0.
    xattrs: u64,
    /// Modification time of inodes that have none of their own.
    epoch: i64,
    fixed_nsec: u32,
    inodes: u64,
    uuid: [u8; 16],
    devices: Vec<Device>,
    /// Whether a device has a place among the image's own block addresses.
    unified: bool,
    /// Long attribute prefixes: number of the short one, and what follows it.
    prefixes: Vec<(u8, Vec<u8>)>,
}

/// A further file that holds data of an image.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Device {
    /// `None`: its bytes are in the image file itself, from block `uniaddr` on.
    image: Option<ImageId>,
    blocks: u64,
    uniaddr: u64,
    /// SHA-256 of the file, if the slot's tag is one in hexadecimal.
    digest: Option<[u8; 32]>,
}

impl ImgFs {
    /// Opens an image. `devices` are the files of its device table in the order of the slots; none at all if
    /// their bytes follow in the image file itself, or if it has no such table.
    ///
    /// # Errors
    /// What is wrong with it, or which feature is not supported.
    pub fn open(
        images: &dyn Images,
        image: ImageId,
        devices: &[ImageId],
    ) -> Result<ImgFs, ImgError> {
        superblock::open(images, image, devices)
    }

    /// Which image this is.
    pub fn image(&self) -> ImageId {
        self.image
    }

    /// Number of the root directory's inode.
    pub fn root(&self) -> u64 {
        self.root_nid
    }

    /// Bytes of the image.
    #[expect(clippy::len_without_is_empty, reason = "no image is empty")]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Bytes in a block: 512 to 65536.
    pub fn block_size(&self) -> u64 {
        1 << self.block_bits
    }

    /// Number of inodes as the superblock says it; 0 if it does not. Only for show.
    pub fn inode_count(&self) -> u64 {
        self.inodes
    }

    /// The image's UUID.
    pub fn uuid(&self) -> [u8; 16] {
        self.uuid
    }

    /// The SHA-256 digests by which the slots of the device table name their files; `None` for a tag that is
    /// none.
    pub fn device_digests(&self) -> impl ExactSizeIterator<Item = Option<[u8; 32]>> + '_ {
        self.devices.iter().map(|device| device.digest)
    }

    fn error(&self, nid: Option<u64>, kind: ErrorKind, field: &'static str) -> ImgError {
        ImgError {
            image: self.image,
            nid,
            kind,
            field,
        }
    }

    fn damaged(&self, nid: u64, field: &'static str) -> ImgError {
        self.error(Some(nid), ErrorKind::Damaged, field)
    }

    fn block<'a>(&self, images: &'a dyn Images, image: ImageId) -> Result<&'a dyn Block, ImgError> {
        images
            .image(image)
            .ok_or_else(|| self.error(None, ErrorKind::Io, "the file is not there"))
    }

    /// Bytes of an image file; the caller has checked that they are inside and that `len` is bounded.
    fn bytes<'a>(
        &self,
        images: &'a dyn Images,
        image: ImageId,
        offset: u64,
        len: u64,
    ) -> Result<Cow<'a, [u8]>, ImgError> {
        let io = || self.error(None, ErrorKind::Io, "the file cannot be read");
        let len = usize::try_from(len).map_err(|_| io())?;
        let block = self.block(images, image)?;
        if let Some(slice) = block.slice() {
            let start = usize::try_from(offset).map_err(|_| io())?;
            let bytes = start
                .checked_add(len)
                .and_then(|end| slice.get(start..end))
                .ok_or_else(io)?;
            return Ok(Cow::Borrowed(bytes));
        }
        let mut buf = vec![0; len];
        block.read_at(offset, &mut buf).map_err(|_| io())?;
        Ok(Cow::Owned(buf))
    }

    /// A structure of the image file; `None` if it is not all inside.
    fn record<T: FromBytes + IntoBytes>(
        &self,
        images: &dyn Images,
        offset: u64,
    ) -> Result<Option<T>, ImgError> {
        let mut record = T::new_zeroed();
        let bytes = record.as_mut_bytes();
        let inside = offset
            .checked_add(bytes.len() as u64)
            .is_some_and(|end| end <= self.len);
        if !inside {
            return Ok(None);
        }
        let block = self.block(images, self.image)?;
        match block.slice() {
            Some(slice) => {
                let start = usize::try_from(offset).ok();
                let rest = start.and_then(|start| slice.get(start..));
                let Some(from) = rest.and_then(|rest| rest.get(..bytes.len())) else {
                    return Ok(None);
                };
                bytes.copy_from_slice(from);
            }
            None => block
                .read_at(offset, bytes)
                .map_err(|_| self.error(None, ErrorKind::Io, "the file cannot be read"))?,
        }
        Ok(Some(record))
    }
}
