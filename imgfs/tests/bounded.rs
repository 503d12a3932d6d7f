//! Memory and time that an image can make the reader spend do not grow with what the image says.

mod counting;
mod erofs;

use counting::counted;
use erofs::make::{Image, Layout, Node, checksum};
use varve_imgfs::erofs::ErrorKind;
use varve_imgfs::{ImageId, ImgFs};

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

/// One block of the largest size, a name and the small things around.
const BOUND: i64 = 70_000;

#[test]
fn a_directory_of_a_hundred_thousand_names_is_read_in_constant_memory() {
    for layout in [
        Layout::Plain,
        Layout::Inline,
        Layout::Chunks {
            bits: 0,
            wide: true,
        },
    ] {
        let mut image = Image::new(12);
        image.nodes[0].layout = layout;
        let file = image.add(0, b"file", Node::new(0o100644, b"x"));
        for n in 0..100_000 {
            image.nodes[0]
                .names
                .insert(format!("entry {n:06}").into_bytes(), file);
        }
        let bytes = image.bytes();
        for mapped in [true, false] {
            let images = erofs::files(&[&bytes], mapped);
            let (count, _, peak) = counted(|| {
                let fs = ImgFs::open(&images, ImageId(0), &[]).unwrap();
                let root = fs.inode(&images, fs.root()).unwrap();
                let mut count = 0;
                fs.read_dir(&images, &root, 0, &mut |_, _| {
                    count += 1;
                    true
                })
                .unwrap();
                for n in (0..100_000).step_by(977) {
                    let name = format!("entry {n:06}");
                    assert!(
                        fs.lookup(&images, &root, name.as_bytes())
                            .unwrap()
                            .is_some()
                    );
                }
                count
            });
            assert_eq!(count, 100_001);
            assert!(peak < BOUND, "{layout:?}, mapped {mapped}: {peak} bytes");
            if mapped {
                assert!(peak < 100, "a mapped image is not copied: {peak} bytes");
            }
        }
    }
}

/// An image of one huge file or directory: its size and layout are what they claim, its bytes are not there.
fn hostile(mode: u16, size: u64, unit: u32, layout: u16) -> Vec<u8> {
    let mut image = Image::new(9);
    image.add(0, b"x", Node::new(mode, b""));
    let mut bytes = image.bytes();
    let meta = u32::from_le_bytes(bytes[1024 + 0x28..][..4].try_into().unwrap()) as usize * 512;
    let at = (meta..bytes.len())
        .step_by(32)
        .rfind(|&at| bytes[at + 4..at + 6] == mode.to_le_bytes())
        .unwrap();
    bytes[at..at + 2].copy_from_slice(&(layout << 1 | 1).to_le_bytes());
    bytes[at + 8..at + 16].copy_from_slice(&size.to_le_bytes());
    bytes[at + 16..at + 20].copy_from_slice(&unit.to_le_bytes());
    bytes
}

#[test]
fn sizes_that_are_not_there_cost_nothing() {
    let sizes = [1 << 20, 1 << 40, i64::MAX as u64, u64::MAX];
    for size in sizes {
        for mode in [0o100644, 0o040755, 0o120777] {
            for (layout, unit) in [
                (0, 0),
                (0, u32::MAX),
                (2, 1),
                (4, 0x1f),
                (4, 0x3f),
                (4, 0x20),
                (4, 0),
            ] {
                let bytes = hostile(mode, size, unit, layout);
                let images = erofs::files(&[&bytes], false);
                let ((), calls, peak) = counted(|| {
                    let fs = ImgFs::open(&images, ImageId(0), &[]).unwrap();
                    let root = fs.inode(&images, fs.root()).unwrap();
                    let (nid, _) = fs.lookup(&images, &root, b"x").unwrap().unwrap();
                    let Ok(inode) = fs.inode(&images, nid) else {
                        return;
                    };
                    let mut buf = [1; 100];
                    for at in [0, size / 2, size - 1] {
                        let _ = fs.extent(&images, &inode, at);
                        let _ = fs.read(&images, &inode, at, &mut buf);
                    }
                    let mut count = 0;
                    let _ = fs.read_dir(&images, &inode, 0, &mut |_, _| {
                        count += 1;
                        true
                    });
                    assert!(count < 1000);
                    let _ = fs.lookup(&images, &inode, b"name");
                    let _ = fs.read_link(&images, &inode);
                    let _ = fs.slack_is_zero(&images, &inode);
                });
                let what =
                    format!("{mode:o} {size} {layout} {unit:x}: {calls} calls, {peak} bytes");
                assert!(calls < 1000 && peak < BOUND, "{what}");
            }
        }
    }
}

#[test]
fn blocks_that_are_there_many_times_end_a_listing() {
    // A directory of 2^40 blocks, which are all the same one: a hundred names, or only `.`.
    for names in [100, 0] {
        let mut image = Image::new(9);
        let dir = image.add(0, b"dir", Node::new(0o040755, b""));
        image.nodes[dir].layout = Layout::Chunks {
            bits: 0,
            wide: false,
        };
        for n in 0..names {
            image.nodes[dir]
                .names
                .insert(format!("n{n:02}").into_bytes(), 0);
        }
        let bytes = image.bytes();
        let images = erofs::files(&[&bytes], true);
        let fs = ImgFs::open(&images, ImageId(0), &[]).unwrap();
        let root = fs.inode(&images, fs.root()).unwrap();
        let (nid, _) = fs.lookup(&images, &root, b"dir").unwrap().unwrap();
        let table = fs.inode(&images, nid).unwrap().size.div_ceil(512) as usize;
        // The table of chunks behind the inode: each entry names the first block.
        let meta = u32::from_le_bytes(bytes[1024 + 0x28..][..4].try_into().unwrap()) as usize * 512;
        let at = meta + 32 * nid as usize;
        let mut bytes = bytes.clone();
        let first: [u8; 4] = bytes[at + 64..at + 68].try_into().unwrap();
        let more = 100_000;
        let mut moved = bytes[..at + 64].to_vec();
        (0..more).for_each(|_| moved.extend(first));
        // What was behind the table comes behind the new one; the first block is still where it was.
        bytes.truncate(bytes.len().next_multiple_of(512));
        let start = u32::from_le_bytes(first) as usize * 512;
        let block = bytes[start..start + 512].to_vec();
        moved.resize(moved.len().max(start + 512).next_multiple_of(512), 0);
        let place = moved.len() as u32 / 512;
        moved.extend(&block);
        for entry in 0..more {
            let to = at + 64 + 4 * entry;
            moved[to..to + 4].copy_from_slice(&place.to_le_bytes());
        }
        moved[at + 8..at + 16].copy_from_slice(&(more as u64 * 512).to_le_bytes());
        moved[1028..1032].fill(0);
        let sum = checksum(&moved[1024..1536]);
        moved[1028..1032].copy_from_slice(&sum.to_le_bytes());
        let images = erofs::files(&[&moved], true);
        let fs = ImgFs::open(&images, ImageId(0), &[]).unwrap();
        let dir = fs.inode(&images, nid).unwrap();
        let mut count = 0;
        let end = fs.read_dir(&images, &dir, 0, &mut |_, _| {
            count += 1;
            true
        });
        let error = end.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Damaged);
        assert_eq!(error.nid, Some(nid));
        assert_eq!(error.field, "names of the directory are not in order");
        assert!(count <= 100 && table <= 4, "{count} names");
    }
}
