//! The reader on a known image, on images of mkfs.erofs, and on 100,000 damaged ones.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use varve_imgfs::erofs::{ErrorKind, Inode};
use varve_imgfs::{ImageId, Images, ImgError, ImgFs, MemBlock, MemImages, Source};

const IMAGE: ImageId = ImageId(0);

fn images(bytes: Vec<u8>, mapped: bool) -> MemImages {
    MemImages(vec![MemBlock { bytes, mapped }])
}

fn hex(text: &str) -> Vec<u8> {
    hex::decode(text.replace(' ', "")).unwrap()
}

/// An image of two blocks: `a` ("hello\n", 1000:1000) and `ln` -> `a`. The kernel mounts it.
fn known() -> Vec<u8> {
    let mut image = vec![0; 8192];
    let parts = [
        (
            0x400,
            "e2e1f5e0 90cb8a7b 03000000 0c002400 03000000 00000000 00f15365 00000000",
        ),
        (0x424, "02000000"),
        (
            0x480,
            "05000000 ed410000 36000000 00000000 ffffffff 01000000",
        ),
        (0x4a0, "00f15365 00000000 00000000 02000000"),
        (
            0x4c0,
            "24000000 00000000 30000200 24000000 00000000 31000200",
        ),
        (
            0x4d8,
            "28000000 00000000 33000100 2a000000 00000000 34000700 2e 2e2e 61 6c6e",
        ),
        (
            0x500,
            "00000000 a4810100 06000000 00000000 01000000 02000000 e803e803",
        ),
        (
            0x540,
            "04000000 ffa10100 01000000 00000000 ffffffff 03000000 00000000 00000000 61",
        ),
        (0x1000, "68656c6c6f0a"),
    ];
    for (at, text) in parts {
        let bytes = hex(text);
        image[at..at + bytes.len()].copy_from_slice(&bytes);
    }
    image
}

#[test]
fn a_known_image_is_read() {
    for mapped in [true, false] {
        let images = images(known(), mapped);
        let fs = ImgFs::open(&images, IMAGE, &[]).unwrap();
        assert_eq!(
            (fs.root(), fs.block_size(), fs.inode_count()),
            (36, 4096, 3)
        );
        let root = fs.inode(&images, 36).unwrap();
        assert_eq!((root.mode, root.nlink, root.size), (0o40755, 2, 54));
        assert_eq!(root.mtime, (1_700_000_000, 0));
        let mut names = Vec::new();
        fs.read_dir(&images, &root, 0, &mut |entry, _| {
            names.push((entry.name.to_vec(), entry.nid, entry.kind));
            true
        })
        .unwrap();
        assert_eq!(names, [(b"a".to_vec(), 40, 8), (b"ln".to_vec(), 42, 10)]);
        assert_eq!(fs.lookup(&images, &root, b"a").unwrap(), Some((40, 8)));
        assert_eq!(fs.lookup(&images, &root, b"b").unwrap(), None);
        assert_eq!(fs.lookup(&images, &root, b"!").unwrap(), None);
        let file = fs.inode(&images, 40).unwrap();
        assert_eq!((file.mode, file.uid, file.gid), (0o100644, 1000, 1000));
        let extent = fs.extent(&images, &file, 2).unwrap().unwrap();
        let offset = 4098;
        assert_eq!(
            extent.source,
            Source::Image {
                image: IMAGE,
                offset
            }
        );
        assert_eq!(extent.len, 4);
        assert!(fs.slack_is_zero(&images, &file).unwrap());
        assert_eq!(fs.extent(&images, &file, 6).unwrap(), None);
        let link = fs.inode(&images, 42).unwrap();
        assert_eq!(fs.read_link(&images, &link).unwrap(), b"a");
        assert!(fs.list_xattr(&images, &link).unwrap().is_empty());
    }
    let mut image = known();
    image[0x1fff] = 1;
    let images = images(image, true);
    let fs = ImgFs::open(&images, IMAGE, &[]).unwrap();
    let file = fs.inode(&images, 40).unwrap();
    assert!(!fs.slack_is_zero(&images, &file).unwrap());
}

/// Opens the known image after a change and says what is wrong with it.
fn refused(change: impl FnOnce(&mut Vec<u8>)) -> (ErrorKind, String) {
    let mut image = known();
    image[0x408] &= !1; // no checksum
    change(&mut image);
    let error = ImgFs::open(&images(image, true), IMAGE, &[]).unwrap_err();
    (error.kind, error.to_string())
}

#[test]
fn refusals_name_the_field() {
    let (kind, text) = refused(|image| image.truncate(1100));
    assert_eq!(kind, ErrorKind::Foreign);
    assert_eq!(text, "no EROFS image: the file is too short");
    assert_eq!(refused(|image| image[0x400] = 0).0, ErrorKind::Foreign);
    assert_eq!(refused(|image| image[0x40c] = 17).0, ErrorKind::Damaged);
    for bits in [0x1, 0x2, 0x10, 0x20, 0x80] {
        assert_eq!(
            refused(|image| image[0x450] = bits).0,
            ErrorKind::Unsupported
        );
    }
    assert_eq!(refused(|image| image[0x45a] = 1).0, ErrorKind::Unsupported);
    let (kind, text) = refused(|image| image[0x48f] = 0x80);
    assert_eq!(kind, ErrorKind::Damaged);
    assert_eq!(text, "damaged: inode 36: i_size is negative");
    let (_, text) = refused(|image| {
        image[0x408] |= 1;
        image[0x500] ^= 1;
    });
    assert_eq!(text, "damaged: the checksum of the superblock is wrong");
    let (_, text) = refused(|image| image[0x40e..0x410].fill(0xff));
    assert_eq!(
        text,
        "damaged: inode 65535: the inode is not inside the image"
    );
}

/// The errors of looking at the file (40), the link (42) and the root (36) of the known image after a change.
fn looked(change: impl FnOnce(&mut Vec<u8>)) -> Vec<String> {
    let mut image = known();
    image[0x408] &= !1; // no checksum
    change(&mut image);
    let images = images(image, true);
    let fs = match ImgFs::open(&images, IMAGE, &[]) {
        Ok(fs) => fs,
        Err(error) => return vec![error.to_string()],
    };
    let mut errors = Vec::new();
    for nid in [40, 42, 36] {
        errors.extend(look(&fs, &images, nid, &mut Vec::new(), 0).err());
    }
    for error in &errors {
        assert!(error.nid.is_some(), "{error} names an inode");
    }
    errors.iter().map(ImgError::to_string).collect()
}

/// Writes hexadecimal digits to a place.
fn put(image: &mut [u8], at: usize, text: &str) {
    let bytes = hex(text);
    image[at..at + bytes.len()].copy_from_slice(&bytes);
}

#[test]
fn damage_names_inode_and_field() {
    let none: [&str; 0] = [];
    assert_eq!(looked(|_| {}), none);
    let cases: &[(usize, &str, &str)] = &[
        // The file: compact, plain.
        (
            0x500,
            "2000",
            "damaged: inode 40: i_format has reserved bits",
        ),
        (
            0x500,
            "0080",
            "damaged: inode 40: i_format has reserved bits",
        ),
        (
            0x500,
            "1000",
            "not supported: inode 40: i_format: 48-bit addresses",
        ),
        (
            0x500,
            "0200",
            "not supported: inode 40: i_format: compressed data",
        ),
        (
            0x500,
            "0600",
            "not supported: inode 40: i_format: compressed data",
        ),
        (
            0x500,
            "0a00",
            "damaged: inode 40: i_format: reserved data layout",
        ),
        (
            0x500,
            "0e00",
            "damaged: inode 40: i_format: reserved data layout",
        ),
        (
            0x502,
            "ffff",
            "damaged: inode 40: i_xattr_icount: the attributes are not inside the image",
        ),
        (0x502, "0100", "damaged: inode 40: i_xattr_icount is 1"),
        (
            0x504,
            "0000",
            "damaged: inode 40: i_mode is of no file type",
        ),
        (
            0x504,
            "a4f1",
            "damaged: inode 40: i_mode is of no file type",
        ),
        (
            0x508,
            "01100000",
            "damaged: inode 40: i_u: the data is not inside the image",
        ),
        (
            0x508,
            "ffffffff",
            "damaged: inode 40: i_u: the data is not inside the image",
        ),
        (
            0x510,
            "02000000",
            "damaged: inode 40: i_u: the data is not inside the image",
        ),
        (
            0x510,
            "feffffff",
            "damaged: inode 40: i_u: the data is not inside the image",
        ),
        // The link: compact, inline.
        (
            0x548,
            "a10f0000",
            "damaged: inode 42: i_size: the tail crosses its block",
        ),
        (
            0x560,
            "00",
            "damaged: inode 42: the link target holds a NUL",
        ),
        // The root: extended, a directory with its only block inline.
        (0x488, "00000080", "damaged: inode 36: a directory block"),
        (0x48c, "00000080", "damaged: inode 36: i_size is negative"),
        (
            0x4a8,
            "00ca9a3b",
            "damaged: inode 36: i_mtime_nsec is not below a second",
        ),
        (
            0x4c8,
            "0000",
            "damaged: inode 36: nameoff of a directory block is wrong",
        ),
        (
            0x4c8,
            "0b00",
            "damaged: inode 36: nameoff of a directory block is wrong",
        ),
        (
            0x4c8,
            "3100",
            "damaged: inode 36: nameoff of a directory block is wrong",
        ),
        (
            0x4c8,
            "fc0f",
            "damaged: inode 36: nameoff of a directory block is wrong",
        ),
        (0x4c0, "28", "damaged: inode 36: `.` is another directory"),
        (
            0x4e0,
            "3000",
            "damaged: inode 36: an entry of the directory has a bad name",
        ),
        (
            0x4ec,
            "3600",
            "damaged: inode 36: an entry of the directory has a bad name",
        ),
        (
            0x4ec,
            "ffff",
            "damaged: inode 36: an entry of the directory has a bad name",
        ),
        (
            0x4ec,
            "0000",
            "damaged: inode 36: an entry of the directory has a bad name",
        ),
        (
            0x4f3,
            "2f",
            "damaged: inode 36: an entry of the directory has a bad name",
        ),
        (
            0x4f3,
            "00",
            "damaged: inode 36: an entry of the directory has a bad name",
        ),
        (
            0x4f4,
            "00",
            "damaged: inode 36: an entry of the directory has a bad name",
        ),
        (0x4f3, "6b", ""),
        (
            0x4f3,
            "7a",
            "damaged: inode 36: names of the directory are not in order",
        ),
        (
            0x4f4,
            "61006e",
            "damaged: inode 36: names of the directory are not in order",
        ),
        (0x4d8, "ffffffffffffffff", ""),
    ];
    let long = looked(|image| {
        put(image, 0x540, "0000");
        put(image, 0x548, "00100000 00000000 00000000");
    });
    assert_eq!(
        long,
        ["damaged: inode 42: i_size: the link target is too long"]
    );
    for &(at, bytes, expected) in cases {
        let found = looked(|image| put(image, at, bytes));
        match expected {
            "" => assert_eq!(found, none, "{at:x} {bytes}"),
            "damaged: inode 36: a directory block" => assert!(!found.is_empty()),
            _ => assert!(
                found.iter().any(|text| text == expected),
                "{at:x} {bytes}: {found:?}"
            ),
        }
    }
}

#[test]
fn damaged_attributes_name_the_inode() {
    // The file becomes the last of the block, with a body of 12 + 20 bytes behind it.
    let with = |body: &str| {
        looked(|image| {
            put(image, 0x502, "0600");
            put(image, 0x520, body);
        })
    };
    let head = "00000000 00 00000000000000";
    let none: [&str; 0] = [];
    assert_eq!(with(&format!("{head} 0301 0200 612e62 7879 000000")), none);
    // Unknown prefixes and zeros are passed over.
    assert_eq!(with(&format!("{head} 0309 0200 612e62 7879 000000")), none);
    assert_eq!(with(&format!("{head} 0381 0200 612e62 7879 000000")), none);
    let reaches = "damaged: inode 40: an attribute reaches behind the others";
    assert_eq!(
        with(&format!("{head} 0301 f0ff 612e62 7879 000000")),
        [reaches]
    );
    assert_eq!(
        with(&format!("{head} ff01 0000 612e62 7879 000000")),
        [reaches]
    );
    let count = "damaged: inode 40: h_shared_count reaches behind the attributes";
    assert_eq!(with("00000000 07 00000000000000"), [count]);
    assert_eq!(with("00000000 ff 00000000000000"), [count]);
    let outside = "damaged: inode 40: a shared attribute is not inside the image";
    assert_eq!(with("00000000 01 00000000000000 ffffffff"), [outside]);
    assert_eq!(with("00000000 01 00000000000000 00080000"), [outside]);
    // Id 0x7fe: eight bytes from the end of the image a value of 6 bytes starts.
    let at_end = |value: &'static str| {
        looked(move |image| {
            put(image, 0x502, "0600");
            put(image, 0x520, "00000000 01 00000000000000 fe070000");
            put(image, 0x1ff8, value);
        })
    };
    assert_eq!(at_end("0101 0300 78 616263"), none);
    assert_eq!(at_end("0101 0400 78 616263"), [outside]);
}

#[test]
fn damaged_chunks_name_the_inode() {
    let with = |unit: &str, entry: &str| {
        looked(|image| {
            put(image, 0x500, "0800");
            put(image, 0x510, unit);
            put(image, 0x520, entry);
        })
    };
    let none: [&str; 0] = [];
    assert_eq!(with("00000000", "01000000"), none);
    assert_eq!(with("1f000000", "01000000"), none);
    assert_eq!(with("20000000", "00000000 01000000"), none);
    // Without devices the device's number does not count, as on Linux.
    assert_eq!(with("20000000", "00000300 01000000"), none);
    assert_eq!(with("20000000", "00000000 ffffffff"), none);
    let outside = "damaged: inode 40: a chunk is not inside its device";
    assert_eq!(with("00000000", "02000000"), [outside]);
    assert_eq!(with("00000000", "feffffff"), [outside]);
    let format =
        "not supported: inode 40: i_u: 48-bit addresses or unknown bits in the chunk format";
    assert_eq!(with("40000000", "01000000"), [format]);
    assert_eq!(with("80000000", "01000000"), [format]);
    let table = looked(|image| {
        put(image, 0x500, "0800");
        put(image, 0x508, "ffffffff");
        put(image, 0x510, "00000000");
    });
    assert_eq!(
        table,
        ["damaged: inode 40: i_size: the chunks are not inside the image"]
    );
}

#[test]
fn damaged_tables_of_the_superblock_are_refused() {
    let cases: &[(&[(usize, &str)], &str)] = &[
        (&[(0x40c, "08")], "damaged: blkszbits is not 9..16"),
        (
            &[(0x40d, "f0")],
            "damaged: sb_extslots reaches behind the block",
        ),
        (
            &[(0x420, "00ca9a3b")],
            "damaged: fixed_nsec is not below a second",
        ),
        (
            &[(0x450, "04010000")],
            "not supported: feature_incompat: metabox",
        ),
        (
            &[(0x450, "00100000")],
            "not supported: feature_incompat: unknown bits",
        ),
        (
            &[(0x450, "08"), (0x456, "ffff")],
            "not supported: extra_devices: more than 512",
        ),
        (
            &[(0x450, "08"), (0x456, "0100 ffff")],
            "damaged: devt_slotoff: the device table is not inside",
        ),
        (
            &[(0x450, "08"), (0x456, "0200 3f00")],
            "damaged: devt_slotoff: the device table is not inside",
        ),
        (
            &[(0x450, "40"), (0x45b, "01 ffffffff")],
            "damaged: xattr_prefix_start: the prefixes are not inside",
        ),
        (
            &[(0x450, "40"), (0x45b, "01 ff070000"), (0x1ffc, "0a")],
            "damaged: xattr_prefix_start: the prefixes are not inside",
        ),
        (
            &[(0x450, "40"), (0x45b, "01 00050000")],
            "damaged: an attribute prefix has a length that is not 1..256",
        ),
        (
            &[(0x450, "40"), (0x45b, "01 00060000"), (0x1800, "0201")],
            "damaged: an attribute prefix has a length that is not 1..256",
        ),
        (
            &[(0x450, "40"), (0x45b, "01 00060000 01")],
            "not supported: packed_nid: attribute prefixes in the packed inode",
        ),
        (
            &[(0x484, "a481")],
            "damaged: inode 36: i_mode: the root is no directory",
        ),
        (
            &[(0x428, "02000000")],
            "damaged: inode 36: the inode is not inside the image",
        ),
        (
            &[(0x428, "ffffffff")],
            "damaged: inode 36: the inode is not inside the image",
        ),
    ];
    for (puts, expected) in cases {
        let found = looked(|image| puts.iter().for_each(|(at, text)| put(image, *at, text)));
        assert_eq!(found, [*expected], "{puts:x?}");
    }
    // Files that cannot be read say so, and of which inode.
    let cut = MemImages(vec![MemBlock {
        bytes: known(),
        mapped: false,
    }]);
    let fs = ImgFs::open(&cut, IMAGE, &[]).unwrap();
    let gone = MemImages(Vec::new());
    let error = fs.inode(&gone, 40).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot be read: inode 40: the file is not there"
    );
    let more = ImgFs::open(&cut, IMAGE, &[IMAGE]).unwrap_err();
    assert_eq!(more.kind, ErrorKind::Unsupported);
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

/// Looks at everything, at most so many names; gives how many inodes were well and how many were looked at.
fn walk(fs: &ImgFs, images: &MemImages, limit: usize) -> (usize, usize) {
    let mut queue = vec![fs.root()];
    let mut well = 0;
    let mut at = 0;
    while let Some(&nid) = queue.get(at) {
        at += 1;
        well += usize::from(look(fs, images, nid, &mut queue, limit).is_ok());
    }
    (well, at)
}

fn look(
    fs: &ImgFs,
    images: &MemImages,
    nid: u64,
    queue: &mut Vec<u64>,
    limit: usize,
) -> Result<(), ImgError> {
    let inode = fs.inode(images, nid)?;
    let names = fs.list_xattr(images, &inode)?;
    for name in &names {
        let value = fs.xattr(images, &inode, name)?;
        assert!(value.is_some(), "a listed attribute is there");
    }
    fs.is_opaque(images, &inode)?;
    match inode.mode >> 12 {
        4 => {
            let mut found = Vec::new();
            let listed = fs.read_dir(images, &inode, 0, &mut |entry, next| {
                assert!(next > 0 && next < 1 << 46);
                assert!((1..=255).contains(&entry.name.len()));
                found.push((entry.name.to_vec(), entry.nid));
                found.len() < 500
            });
            for (name, nid) in found {
                // In a damaged directory a name may be out of the order that a lookup relies on: found or
                // not, it does no harm.
                let _ = fs.lookup(images, &inode, &name);
                if queue.len() < limit {
                    queue.push(nid);
                }
            }
            listed
        }
        8 => {
            read_file(fs, images, &inode)?;
            // Bytes from the start, the middle and around the end, as many as there are.
            let mut buf = [0; 600];
            for at in [
                0,
                inode.size / 2,
                inode.size.saturating_sub(300),
                inode.size,
            ] {
                let len = fs.read(images, &inode, at, &mut buf)?;
                assert_eq!(len as u64, (inode.size - at).min(600));
            }
            fs.slack_is_zero(images, &inode).map(drop)
        }
        10 => fs.read_link(images, &inode).map(drop),
        _ => Ok(()),
    }
}

fn read_file(fs: &ImgFs, images: &MemImages, inode: &Inode) -> Result<(), ImgError> {
    let mut at = 0;
    for _ in 0..100 {
        let Some(extent) = fs.extent(images, inode, at)? else {
            assert_eq!(at, inode.size);
            return Ok(());
        };
        assert!(extent.len > 0 && at + extent.len <= inode.size);
        if let Source::Image { image, offset } = extent.source {
            let len = images.image(image).unwrap().len();
            assert!(offset + extent.len <= len, "data is inside the image");
        }
        at += extent.len;
    }
    Ok(())
}

/// Where the metadata of an image is: superblock and device table, inodes with what follows them, directory
/// blocks.
fn metadata(image: &[u8]) -> Vec<std::ops::Range<usize>> {
    let images = images(image.to_vec(), true);
    let fs = ImgFs::open(&images, IMAGE, &[]).unwrap();
    let meta = u32::from_le_bytes(image[0x428..0x42c].try_into().unwrap()) as usize;
    let mut ranges = Vec::new();
    ranges.push(1024..1152 + 64);
    let mut queue = vec![fs.root()];
    let mut at = 0;
    while let Some(&nid) = queue.get(at) {
        at += 1;
        let start = meta * fs.block_size() as usize + 32 * nid as usize;
        let inode = fs.inode(&images, nid).unwrap();
        ranges.push(start..start + 64);
        if inode.has_xattrs() {
            ranges.push(start + 32..start + 160);
        }
        if inode.mode >> 12 == 4 {
            let mut offset = 0;
            while let Some(extent) = fs.extent(&images, &inode, offset).unwrap() {
                if let Source::Image { offset, .. } = extent.source {
                    ranges.push(offset as usize..(offset + extent.len) as usize);
                }
                offset += extent.len;
            }
            fs.read_dir(&images, &inode, 0, &mut |entry, _| {
                queue.push(entry.nid);
                queue.len() < 40
            })
            .unwrap();
        }
    }
    ranges
        .iter_mut()
        .for_each(|range| range.end = range.end.min(image.len()));
    ranges
}

/// A tree with what an image can hold without root's rights.
fn fill(dir: &Path) {
    use std::os::unix::fs::symlink;
    std::fs::create_dir(dir.join("sub")).unwrap();
    std::fs::create_dir(dir.join("many")).unwrap();
    for n in 0..150 {
        let name = format!("many/file with a long name {n}");
        std::fs::write(dir.join(name), [n as u8; 3]).unwrap();
    }
    std::fs::write(dir.join("sub/page"), [1; 4096]).unwrap();
    std::fs::write(dir.join("sub/more"), [2; 10_000]).unwrap();
    std::fs::hard_link(dir.join("sub/more"), dir.join("hard")).unwrap();
    let sparse = std::fs::File::create(dir.join("sparse")).unwrap();
    sparse.set_len(100_000).unwrap();
    symlink("sub/more", dir.join("link")).unwrap();
    for name in ["sub", "sub/page", "sub/more", "sparse", "many"] {
        let flags = rustix::fs::XattrFlags::empty();
        // Where the file system of the tests has no attributes, the images have none.
        let _ = rustix::fs::setxattr(dir.join(name), "user.shared", b"value", flags);
        let _ = rustix::fs::setxattr(dir.join(name), "user.own", name.as_bytes(), flags);
    }
}

const FORMATS: [&[&str]; 4] = [
    &[],
    &["-Enoinline_data"],
    &["--chunksize=4096"],
    &["-T7", "-x1", "--chunksize=65536"],
];

/// Says what cannot be tested here; with `VARVE_TEST_NO_SKIP=1` that is a failure.
fn skip(what: &str, reason: &str) {
    let skips = std::env::var_os("VARVE_TEST_NO_SKIP").is_none_or(|value| value != "1");
    assert!(skips, "{what}: {reason}");
    // Not the macro: the test harness would swallow it.
    let _ = writeln!(std::io::stderr(), "SKIP: {what}: {reason}");
}

/// Images of mkfs.erofs; none if it is not there.
fn made() -> Vec<Vec<u8>> {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    std::fs::create_dir(&source).unwrap();
    fill(&source);
    let mut made = Vec::new();
    for format in FORMATS {
        let image = dir.path().join("image");
        let mut mkfs = Command::new("mkfs.erofs");
        mkfs.arg("--quiet").args(format).args([&image, &source]);
        match mkfs.output() {
            Ok(run) if run.status.success() => made.push(std::fs::read(image).unwrap()),
            other => {
                skip("images of mkfs.erofs", &format!("{other:?}"));
                return made;
            }
        }
    }
    made
}

#[test]
fn images_of_mkfs_are_read_whole() {
    for image in made() {
        for mapped in [true, false] {
            let images = images(image.clone(), mapped);
            let fs = ImgFs::open(&images, IMAGE, &[]).unwrap();
            // 150 small files, 2 directories, 3 files of which one has two names, a link, the root.
            assert_eq!(walk(&fs, &images, 10_000), (158, 158));
            let root = fs.inode(&images, fs.root()).unwrap();
            let (nid, _) = fs.lookup(&images, &root, b"hard").unwrap().unwrap();
            let file = fs.inode(&images, nid).unwrap();
            let mut data = vec![0; 20_000];
            assert_eq!(fs.read(&images, &file, 0, &mut data).unwrap(), 10_000);
            assert!(data[..10_000].iter().all(|&byte| byte == 2));
            let (many, _) = fs.lookup(&images, &root, b"many").unwrap().unwrap();
            let many = fs.inode(&images, many).unwrap();
            for n in 0..150 {
                let name = format!("file with a long name {n}");
                assert!(
                    fs.lookup(&images, &many, name.as_bytes())
                        .unwrap()
                        .is_some()
                );
            }
        }
    }
}

#[test]
fn data_on_another_device_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    std::fs::create_dir(&source).unwrap();
    fill(&source);
    let paths = [dir.path().join("image"), dir.path().join("blob")];
    let mut mkfs = Command::new("mkfs.erofs");
    let blob = format!("--blobdev={}", paths[1].display());
    mkfs.args(["--quiet", "--chunksize=4096", &blob])
        .args([&paths[0], &source]);
    match mkfs.output() {
        Ok(run) if run.status.success() => {}
        other => {
            return skip("an image with a device", &format!("{other:?}"));
        }
    }
    let [image, blob] = paths.map(|path| std::fs::read(path).unwrap());
    let read = |images: &MemImages, fs: &ImgFs| {
        let root = fs.inode(images, fs.root()).unwrap();
        let (nid, _) = fs.lookup(images, &root, b"hard").unwrap().unwrap();
        let file = fs.inode(images, nid).unwrap();
        let mut data = vec![0; 10_000];
        fs.read(images, &file, 0, &mut data).map(|len| (len, data))
    };
    let expected = Ok((10_000, vec![2; 10_000]));
    let block = |bytes: &Vec<u8>| MemBlock {
        bytes: bytes.clone(),
        mapped: true,
    };
    let both = MemImages(vec![block(&image), block(&blob)]);
    let fs = ImgFs::open(&both, IMAGE, &[ImageId(1)]).unwrap();
    assert!(read(&both, &fs) == expected);
    assert_eq!(walk(&fs, &both, 10_000), (158, 158));
    assert!(ImgFs::open(&both, IMAGE, &[ImageId(1), ImageId(1)]).is_err());
    let fs = ImgFs::open(&both, IMAGE, &[]).unwrap();
    assert!(read(&both, &fs).is_err_and(|error| error.kind == ErrorKind::Unsupported));
    // The device's bytes behind the image's, and their place in its slot (at 9 * 128).
    let mut flat = [image.as_slice(), &blob].concat();
    flat[0x408] &= !1; // no checksum
    flat[1152 + 64..1152 + 68].copy_from_slice(&(blob.len() as u32 / 4096).to_le_bytes());
    flat[1152 + 68..1152 + 72].copy_from_slice(&(image.len() as u32 / 4096).to_le_bytes());
    let flat = MemImages(vec![block(&flat)]);
    let fs = ImgFs::open(&flat, IMAGE, &[]).unwrap();
    assert!(read(&flat, &fs) == expected);
}

/// Damages an image: cuts it, or changes bytes and whole fields, of which nearly all are metadata.
fn damage(bytes: &mut Vec<u8>, metadata: &[std::ops::Range<usize>], random: &mut Random) {
    bytes[0x408] &= !1; // no checksum
    if random.below(40) == 0 {
        bytes.truncate(random.below(bytes.len() as u64) as usize);
        return;
    }
    for _ in 0..random.below(6) + 1 {
        let range = match random.below(10) {
            0 => 0..bytes.len(),
            _ => metadata[random.below(metadata.len() as u64) as usize].clone(),
        };
        let at = range.start + random.below(range.len() as u64) as usize;
        match random.below(5) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.below(256) as u8,
            // A field: zero, small, near a border, a power of two, anything.
            _ => {
                let width = 2 << random.below(3);
                let at = at / width * width;
                let value = match random.below(5) {
                    0 => 0,
                    1 => random.below(64),
                    2 => u64::MAX - random.below(3),
                    3 => 1 << random.below(64),
                    _ => random.below(u64::MAX),
                };
                let end = (at + width).min(bytes.len());
                let value = value.to_le_bytes();
                bytes[at..end].copy_from_slice(&value[..end - at]);
            }
        }
    }
}

#[test]
fn a_hundred_thousand_damaged_images_do_no_harm() {
    let mut bases = made();
    bases.push(known());
    let ranges: Vec<_> = bases.iter().map(|image| metadata(image)).collect();
    let (mut refused, mut damaged) = (0, 0);
    for seed in 0..100_000 {
        let mut random = Random(seed);
        let base = seed as usize % bases.len();
        let mut bytes = bases[base].clone();
        damage(&mut bytes, &ranges[base], &mut random);
        let images = images(bytes, seed % 2 == 0);
        match ImgFs::open(&images, IMAGE, &[]) {
            Ok(fs) => {
                let (well, all) = walk(&fs, &images, 60);
                damaged += usize::from(well < all);
            }
            Err(error) => {
                assert!(!error.to_string().is_empty());
                refused += 1;
            }
        }
    }
    println!("{refused} refused, {damaged} damaged");
    assert!(refused > 4000 && damaged > 35_000);
}
