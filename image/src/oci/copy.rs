//! Layers that are EROFS images already: they are taken as they are.

use std::fs::File;
use std::io::{self, Read};

use varve_imgfs::{ImageId, ImgFs};

use super::ImageError;
use super::lower::{FileBlock, OpenImages};
use crate::limit::Limit;
use crate::output::Output;

/// Unit in which holes of a copied image are looked for, and its buffer.
const COPY: usize = 1 << 20;
const GRANULE: usize = 64 << 10;
/// Most names that are looked at.
const NAMES_MAX: usize = 10_000;

/// Copies an image, long runs of zeros as holes.
pub(super) fn copy(
    reader: &mut dyn Read,
    name: &str,
    output: Output,
    mut limit: Limit,
) -> Result<Output, ImageError> {
    let mut buf = vec![0; COPY];
    let mut at = 0;
    loop {
        let mut have = 0;
        while have < buf.len() {
            match reader.read(&mut buf[have..]) {
                Ok(0) => break,
                Ok(len) => have += len,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(ImageError::io("read", name, e)),
            }
        }
        for (index, part) in buf[..have].chunks(GRANULE).enumerate() {
            if part.iter().any(|&byte| byte != 0) {
                limit.grow(part.len() as u64)?;
                output.write_at(at + (index * GRANULE) as u64, part)?;
            }
        }
        at += have as u64;
        if have < buf.len() {
            output.set_len(at)?;
            return Ok(output);
        }
    }
}

/// A layer that was not made here must be one.
pub(super) fn check_image(file: &File, name: &str) -> Result<(), ImageError> {
    let fail = |e| ImageError::io("read", name, e);
    let images = OpenImages(vec![FileBlock {
        len: file.metadata().map_err(fail)?.len(),
        file: file.try_clone().map_err(fail)?,
    }]);
    ImgFs::open(&images, ImageId(0), &[])
        .map(|_| ())
        .map_err(|e| ImageError::bad(format!("layer {name}"), e.to_string()))
}

/// The first names in the root of an image; none where they cannot be read.
pub(super) fn root_names(images: &OpenImages) -> Vec<Vec<u8>> {
    let mut names = Vec::new();
    let Ok(fs) = ImgFs::open(images, ImageId(0), &[]) else {
        return names;
    };
    if let Ok(root) = fs.inode(images, fs.root()) {
        // What cannot be read is found by whoever uses it.
        let _ = fs.read_dir(images, &root, 0, &mut |entry, _| {
            names.push(entry.name.to_vec());
            names.len() < NAMES_MAX
        });
    }
    names
}
