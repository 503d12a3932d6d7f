//! The files behind guest mappings: the memory file and the images, by the numbers that the core knows them
//! by.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use elsa::sync::FrozenVec;
use varve_core::machine::{Backing, ImageId};
use varve_core::port::{Block, Images};

use crate::images::{HostImage, TreeFile};

/// All files that can be mapped into guests. Images are only ever added.
pub struct Backings {
    memory: OwnedFd,
    images: FrozenVec<Box<HostImage>>,
}

impl Backings {
    /// The memory file and the first images.
    pub fn new(memory: OwnedFd, images: Vec<HostImage>) -> Backings {
        let backings = Backings {
            memory,
            images: FrozenVec::new(),
        };
        for image in images {
            backings.add(image);
        }
        backings
    }

    /// Adds an image; the first one is number 0.
    pub(crate) fn add(&self, image: HostImage) -> ImageId {
        ImageId(self.images.push_get_index(Box::new(image)) as u32)
    }

    /// A file of a host directory tree.
    pub(crate) fn tree_file(&self, id: ImageId) -> Option<&TreeFile> {
        match self.images.get(id.0 as usize)? {
            HostImage::Tree(file) => Some(file),
            _ => None,
        }
    }

    /// File and byte offset of a mapping; `None` if there is no such image, or it is not mapped.
    pub fn file(&self, backing: Backing) -> Option<(BorrowedFd<'_>, u64)> {
        match backing {
            Backing::Memory(frame) => Some((self.memory.as_fd(), frame.offset())),
            Backing::Image { image, offset } => match self.images.get(image.0 as usize)? {
                HostImage::Mapped(image) => Some((image.fd(), offset)),
                HostImage::Tree(file) => Some((file.fd(), offset)),
                HostImage::Checked(_) => None,
            },
        }
    }
}

impl Images for Backings {
    fn image(&self, id: ImageId) -> Option<&dyn Block> {
        self.images
            .get(id.0 as usize)
            .map(|image| image as &dyn Block)
    }
}
