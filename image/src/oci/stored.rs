//! The images that a layout has.

use super::layout::Listed;
use super::{ContainerImage, ImageError, Layout};
use crate::error::Shown;

/// An image of a layout, as a listing shows it.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its name; `None` for one that lost it to another.
    pub name: Option<String>,
    /// Digest of its manifest, as the index has it, without control characters.
    pub digest: String,
    /// The image, or why it cannot be read.
    pub image: Result<ContainerImage, String>,
}

impl Layout {
    /// All images, by name.
    ///
    /// # Errors
    /// An index that cannot be read; an image that cannot be read is listed with its error.
    pub fn images(&self) -> Result<Vec<Stored>, ImageError> {
        let mut images = Vec::new();
        self.each_image(|stored| images.push(stored))?;
        images.sort_by(|a, b| (&a.name, &a.digest).cmp(&(&b.name, &b.digest)));
        Ok(images)
    }

    /// Shows each image, one at a time and as the index has them: a hostile layout can list more of them than
    /// there is memory for.
    ///
    /// # Errors
    /// As [`images`](Self::images).
    pub fn each_image(&self, mut each: impl FnMut(Stored)) -> Result<(), ImageError> {
        let table = self.table();
        for listed in self.index()? {
            each(Stored {
                name: listed.name().map(str::to_owned),
                digest: Shown(listed.digest().as_bytes()).to_string(),
                image: listed.descriptor.and_then(|descriptor| {
                    ContainerImage::read(self, &descriptor, &table).map_err(|e| e.to_string())
                }),
            });
        }
        Ok(())
    }

    /// The names that images have, damaged ones too.
    ///
    /// # Errors
    /// An index that cannot be read.
    pub fn names(&self) -> Result<Vec<String>, ImageError> {
        let list = self.index()?;
        let names = list.iter().filter_map(Listed::name);
        Ok(names.map(str::to_owned).collect())
    }
}
