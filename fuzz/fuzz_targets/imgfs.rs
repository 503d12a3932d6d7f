//! Valid images with parts changed: the reader, the full check and the merge answer with errors, never
//! otherwise.
#![no_main]

use std::sync::OnceLock;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use varve_imgfs::{ImageId};
use varve_fuzz::{images, read_all, scratch};
use varve_image::{BuildOptions, MergeLayer, build_dir, check, merge};

/// A change of an image.
#[derive(Arbitrary, Debug)]
enum Change {
    /// A byte near the front: the superblock.
    Super { at: u8, value: u8 },
    /// A number of two, four or eight bytes in the metadata, replaced.
    Number { at: u16, width: u8, value: u64 },
    /// A bit in the metadata.
    Bit { at: u16, bit: u8 },
    /// A part of the metadata copied over another one.
    Copy { from: u16, to: u16, len: u8 },
    /// The end is cut off.
    Cut { len: u16 },
}

/// An image with one of most things.
fn whole() -> &'static [u8] {
    static IMAGE: OnceLock<Vec<u8>> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let dir = scratch();
        let tree = dir.path().join("tree");
        std::fs::create_dir_all(tree.join("sub/deep")).unwrap();
        for number in 0..120 {
            let name = format!("sub/deep/a-name-of-some-length-{number:040}");
            std::fs::write(tree.join(name), vec![number; 10]).unwrap();
        }
        std::fs::write(tree.join("file"), vec![7; 9000]).unwrap();
        std::fs::hard_link(tree.join("file"), tree.join("sub/twin")).unwrap();
        std::os::unix::fs::symlink("sub/deep", tree.join("link")).unwrap();
        std::fs::write(tree.join(".wh.gone"), "").unwrap();
        std::fs::write(tree.join("sub/.wh..wh..opq"), "").unwrap();
        let image = dir.path().join("image");
        build_dir(&tree, &image, &BuildOptions::default(), &mut ()).unwrap();
        let mut bytes = std::fs::read(image).unwrap();
        // Without the checksum, which would give every change away.
        bytes[1024 + 8] &= !1;
        bytes
    })
}

fuzz_target!(|changes: Vec<Change>| {
    let mut bytes = whole().to_vec();
    let len = bytes.len();
    let metadata = len - 24_576;
    let place = |at: u16| metadata + usize::from(at) % 24_000;
    for change in changes.iter().take(12) {
        match *change {
            Change::Super { at, value } => bytes[1024 + usize::from(at % 128)] = value,
            Change::Number { at, width, value } => {
                let width = [2, 4, 8][usize::from(width % 3)];
                bytes[place(at)..][..width].copy_from_slice(&value.to_le_bytes()[..width]);
            }
            Change::Bit { at, bit } => bytes[place(at)] ^= 1 << (bit % 8),
            Change::Copy { from, to, len } => {
                let from = place(from);
                bytes.copy_within(from..from + usize::from(len), place(to));
            }
            Change::Cut { .. } => {}
        }
    }
    for change in &changes {
        if let Change::Cut { len } = change {
            bytes.truncate(bytes.len().saturating_sub(usize::from(*len)));
        }
    }
    let all = images(vec![bytes, whole().to_vec()]);
    let _ = check(&all, ImageId(0), &[]);
    read_all(&all, &[ImageId(0)]);
    read_all(&all, &[ImageId(1), ImageId(0)]);
    let dir = scratch();
    let layers = [1, 0].map(|image| MergeLayer {
        image: ImageId(image),
        digest: [0; 32],
    });
    let _ = merge(&all, &layers, &dir.path().join("index"), &mut ());
});
