//! The reader on a known image, on images of mkfs.erofs, and on 100,000 damaged ones.

use std::path::Path;
use std::process::Command;

use varve_core::imgfs::{ErrorKind, ImgError, ImgFs, Inode, Source};
use varve_core::machine::ImageId;
use varve_core::memhost::{MemBlock, MemImages};
use varve_core::port::Images;

const IMAGE: ImageId = ImageId(0);

fn images(bytes: Vec<u8>, mapped: bool) -> MemImages {
    MemImages(vec![MemBlock { bytes, mapped }])
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let digit = |d: u8| (d as char).to_digit(16).unwrap() as u8;
    let pairs = digits.chunks(2);
    pairs
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
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
                // In a damaged directory a name may be out of the order that a lookup relies on: found or not, it does no harm.
                let _ = fs.lookup(images, &inode, &name);
                if queue.len() < limit {
                    queue.push(nid);
                }
            }
            listed
        }
        8 => {
            read_file(fs, images, &inode)?;
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
                let skips = std::env::var_os("VARVE_TEST_NO_SKIP").is_none();
                assert!(skips, "{mkfs:?}: {other:?}");
                println!("SKIP: images of mkfs.erofs: {other:?}");
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
            let skips = std::env::var_os("VARVE_TEST_NO_SKIP").is_none();
            assert!(skips, "{mkfs:?}: {other:?}");
            println!("SKIP: an image with a device: {other:?}");
            return;
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

/// Damages an image: cuts it, or changes some bytes of the superblock and of what is not zero.
fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    bytes[0x408] &= !1; // no checksum
    if random.below(20) == 0 {
        bytes.truncate(random.below(bytes.len() as u64) as usize);
        return;
    }
    for _ in 0..random.below(8) + 1 {
        let mut at = match random.below(8) {
            0 => 1024 + random.below(128) as usize,
            _ => random.below(bytes.len() as u64) as usize,
        };
        while at + 1 < bytes.len() && bytes[at] == 0 {
            at += 1;
        }
        bytes[at] = match random.below(4) {
            0 => 0xff,
            1 => 0,
            2 => bytes[at] ^ 1 << random.below(8),
            _ => random.below(256) as u8,
        };
    }
}

#[test]
fn a_hundred_thousand_damaged_images_do_no_harm() {
    let mut bases = made();
    bases.push(known());
    let (mut refused, mut damaged) = (0, 0);
    for seed in 0..100_000 {
        let mut random = Random(seed);
        let mut bytes = bases[seed as usize % bases.len()].clone();
        damage(&mut bytes, &mut random);
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
    assert!(refused > 1000 && damaged > 1000);
}
