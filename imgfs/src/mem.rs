//! Images in memory, for tests, tools and examples.

use alloc::vec::Vec;

use varve_abi::Errno;

use crate::port::{Block, ImageId, Images};

/// An image in memory.
#[derive(Clone, Debug)]
pub struct MemBlock {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Give them out as a slice, as a mapped image does.
    pub mapped: bool,
}

impl Block for MemBlock {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), Errno> {
        let start = usize::try_from(offset).map_err(|_| Errno::EIO)?;
        let end = start.checked_add(buf.len()).ok_or(Errno::EIO)?;
        buf.copy_from_slice(self.bytes.get(start..end).ok_or(Errno::EIO)?);
        Ok(())
    }

    fn slice(&self) -> Option<&[u8]> {
        self.mapped.then_some(&self.bytes)
    }
}

/// Images in memory; image `n` is the `n`-th one.
#[derive(Clone, Debug, Default)]
pub struct MemImages(pub Vec<MemBlock>);

impl Images for MemImages {
    fn image(&self, id: ImageId) -> Option<&dyn Block> {
        self.0.get(id.0 as usize).map(|block| block as &dyn Block)
    }
}
