//! What the fuzz targets share: images in memory, scratch files, and a walk that reads everything.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use varve_imgfs::{ImageId, MemBlock, MemImages, Stack};
use varve_image::walk::{Next, walk};

/// A place for files that are written and read once, in memory where there is one.
pub fn scratch() -> tempfile::TempDir {
    let shm = PathBuf::from("/dev/shm");
    let place = if shm.is_dir() {
        shm
    } else {
        std::env::temp_dir()
    };
    tempfile::tempdir_in(place).expect("a scratch directory")
}

/// Images out of bytes, the first one number 0; every other one is not mapped.
pub fn images(files: Vec<Vec<u8>>) -> MemImages {
    let blocks = files
        .into_iter()
        .enumerate()
        .map(|(number, bytes)| MemBlock {
            bytes,
            mapped: number % 2 == 0,
        });
    MemImages(blocks.collect())
}

/// Most bytes of one file that are read: a damaged image may tell of any size.
const READ_MAX: usize = 64 << 10;
/// Most objects that are looked at.
const OBJECTS_MAX: usize = 20_000;

/// Reads everything that a stack shows; what is damaged is an error, nothing else happens.
pub fn read_all(images: &MemImages, layers: &[ImageId]) {
    let Ok(mut stack) = Stack::open(images, layers, None) else {
        return;
    };
    let root = stack.root();
    let mut count = 0;
    let _ = walk(&mut stack, images, root, &mut |stack, item| {
        count += 1;
        let Ok(attr) = item.attr else {
            return Ok::<_, ()>(Next::Into);
        };
        let mut buf = vec![0; (attr.size as usize).min(READ_MAX)];
        let _ = stack.read(images, item.inode, 0, &mut buf);
        let _ = stack.read(images, item.inode, attr.size.saturating_sub(9), &mut buf);
        let _ = stack.read_link(images, item.inode);
        let _ = stack.seek(images, item.inode, 1, false);
        for name in stack.list_xattr(images, item.inode).unwrap_or_default() {
            let _ = stack.xattr(images, item.inode, &name);
        }
        Ok(match count < OBJECTS_MAX {
            true => Next::Into,
            false => Next::Stop,
        })
    });
}
