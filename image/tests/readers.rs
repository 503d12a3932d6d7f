//! Our reader, the kernel and `erofs-rs` see the same in every image that is in the read profile.

#[path = "../../imgfs/tests/erofs/mod.rs"]
mod erofs;

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use erofs::make::{Image, Layout, Node, checksum};
use erofs::{Snapshot, all_agree, skip};
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use varve_imgfs::erofs::ErrorKind;
use varve_imgfs::{ImageId, ImgFs};

/// Bytes that repeat nowhere soon.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

/// Images of all block sizes with all layouts, attributes of all kinds and directories of many blocks.
#[test]
fn made_images_of_all_block_sizes() {
    let dir = tempfile::tempdir().unwrap();
    for bits in 9..=16 {
        let block = 1usize << bits;
        let mut image = Image::new(bits);
        image.prefixes = vec![
            (4, b"overlay.".to_vec()),
            (1, b"a.long.one.".to_vec()),
            (1, b"".to_vec()),
        ];
        image.shared = vec![
            (1, b"shared".to_vec(), b"value".to_vec()),
            (0x81, b"x".to_vec(), noise(300, 1)),
            (6, b"label".to_vec(), vec![]),
        ];
        image.nodes[0].own = vec![(0x80, b"opaque".to_vec(), b"y".to_vec())];
        let layouts = [
            Layout::Plain,
            Layout::Inline,
            Layout::Chunks {
                bits: 0,
                wide: false,
            },
            Layout::Chunks {
                bits: 0,
                wide: true,
            },
            Layout::Chunks {
                bits: 2,
                wide: false,
            },
            Layout::Chunks {
                bits: 5,
                wide: true,
            },
        ];
        for (at, layout) in layouts.into_iter().enumerate() {
            let data = image.add(
                0,
                format!("data-{at}").as_bytes(),
                Node::new(0o040700 + at as u16, b""),
            );
            image.nodes[data].layout = match layout {
                Layout::Chunks { .. } => Layout::Plain,
                layout => layout,
            };
            for (n, len) in [
                0,
                1,
                7,
                block / 2,
                block - 1,
                block,
                block + 1,
                3 * block,
                9 * block + 5,
            ]
            .into_iter()
            .enumerate()
            {
                let mut bytes = noise(len, (at * 10 + n) as u64);
                if n == 8 {
                    bytes[block..5 * block].fill(0);
                }
                let mut node = Node::new(0o100644, &bytes);
                node.layout = layout;
                node.extended = n % 2 == 0;
                (node.uid, node.gid) = (n as u32, 65535);
                if node.extended {
                    (node.uid, node.gid) = (70_000, 4_000_000_000);
                    node.mtime = (-60 - n as i64, 999_999_999);
                }
                if n % 3 == 1 {
                    node.own = vec![
                        (1, b"own".to_vec(), noise(n * 9, 5)),
                        (0x82, b"bare".to_vec(), b"v".to_vec()),
                    ];
                    node.slack = 12;
                }
                if n % 3 == 2 {
                    node.shared = vec![2, 0, 1];
                }
                image.add(data, format!("file {n}").as_bytes(), node);
            }
        }
        for (name, target) in [
            ("ln", "data-0/file 1".to_owned()),
            ("far", "x".repeat(bits as usize * 40)),
        ] {
            image.add(0, name.as_bytes(), Node::new(0o120777, target.as_bytes()));
        }
        for (name, mode, rdev) in [
            ("chr", 0o020640, 0xffd1_03c0),
            ("blk", 0o060600, 0x801),
            ("gone", 0o020000, 0),
            ("fifo", 0o010644, 0),
            ("sock", 0o140755, 0),
        ] {
            let mut node = Node::new(mode, b"");
            node.rdev = rdev;
            node.layout = Layout::Plain;
            image.add(0, name.as_bytes(), node);
        }
        for (name, layout) in [
            ("many", Layout::Inline),
            ("more", Layout::Plain),
            (
                "chunked",
                Layout::Chunks {
                    bits: 0,
                    wide: true,
                },
            ),
        ] {
            let many = image.add(0, name.as_bytes(), Node::new(0o040755, b""));
            image.nodes[many].layout = layout;
            for n in 0..(700 << bits.saturating_sub(10) >> bits.saturating_sub(12)) {
                let mut node = Node::new(0o100600, b"");
                (node.extended, node.layout) = (n % 2 == 0, Layout::Plain);
                image.add(
                    many,
                    format!("{}{n}", ["!", "-", "..", "name ", "~"][n % 5]).as_bytes(),
                    node,
                );
            }
            image.add(many, &[b'n'; 255], Node::new(0o100600, b"long"));
            let hard = image.nodes[0].names[&b"ln"[..]];
            image.nodes[hard].nlink += 1;
            image.nodes[many]
                .names
                .insert(b"hard link to a link".to_vec(), hard);
        }
        for loose in [0, 100] {
            image.loose = loose;
            // The kernel mounts no blocks larger than its pages.
            let seen = all_agree(
                dir.path(),
                &format!("blocks of {block}, {loose} loose"),
                &image.bytes(),
                &[],
                bits <= 12,
            );
            assert_eq!(seen.len(), image.nodes.len() + 3);
            let file = &seen[&b"data-3/file 8"[..]];
            assert!(file.content[..block] == noise(9 * block + 5, 38)[..block]);
            assert_eq!(seen[&b"data-1/file 5"[..]].xattrs.len(), 3);
            assert_eq!(seen[&b"data-1/file 4"[..]].xattrs[&b"user.bare"[..]], b"v");
            assert_eq!(seen[&b""[..]].xattrs[&b"trusted.overlay.opaque"[..]], b"y");
        }
    }
}

fn set_xattr(path: &Path, name: &str, value: &[u8]) {
    match rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::PERM) => {}
        Err(error) => panic!("{name} on {}: {error}", path.display()),
    }
}

/// A tree with all there is: what needs root's rights only for root.
fn fill(root: &Path) {
    let root_user = rustix::process::geteuid().is_root();
    std::fs::create_dir_all(root.join("a/b/c/d")).unwrap();
    for len in [
        0, 1, 100, 511, 512, 4000, 4095, 4096, 4097, 8192, 65_536, 70_001, 1_100_000,
    ] {
        std::fs::write(root.join(format!("a/size {len}")), noise(len, len as u64)).unwrap();
    }
    let mut holes = noise(300_000, 9);
    holes[8192..200_000].fill(0);
    std::fs::write(root.join("holes"), holes).unwrap();
    std::fs::write(root.join("again"), noise(70_001, 70_001)).unwrap();
    std::fs::File::create(root.join("sparse"))
        .unwrap()
        .set_len(5_000_000)
        .unwrap();
    std::fs::hard_link(root.join("again"), root.join("a/b/hard")).unwrap();
    symlink("a/b", root.join("link")).unwrap();
    symlink("y".repeat(3001), root.join("long link")).unwrap();
    for (dir, count) in [("hundred", 100), ("thousands", 3000)] {
        std::fs::create_dir(root.join(dir)).unwrap();
        for n in 0..count {
            std::fs::write(
                root.join(format!("{dir}/entry number {n} of many")),
                [n as u8; 3],
            )
            .unwrap();
        }
    }
    // mkfs.erofs 1.5 fails for some trees with a name of 255 bytes.
    std::fs::write(root.join("n".repeat(240)), "long name").unwrap();
    for (n, name) in [
        "a",
        "a/b",
        "a/size 1",
        "a/size 4096",
        "holes",
        "link",
        "hundred",
    ]
    .iter()
    .enumerate()
    {
        let path = root.join(name);
        if *name != "link" {
            set_xattr(&path, "user.same", b"the same everywhere");
            set_xattr(&path, "user.own", name.as_bytes());
            set_xattr(&path, "user.large", &noise(n * 120, 3));
        }
        set_xattr(&path, "trusted.name", b"");
        let time = Timespec {
            tv_sec: n as i64 * 1_000_000_000 - 60,
            tv_nsec: 123_456_789 + n as i64,
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        rustix::fs::utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
    if root_user {
        for (name, kind, dev) in [
            (
                "chr",
                FileType::CharacterDevice,
                rustix::fs::makedev(259, 1_048_000),
            ),
            ("blk", FileType::BlockDevice, rustix::fs::makedev(8, 1)),
            ("fifo", FileType::Fifo, 0),
            ("sock", FileType::Socket, 0),
        ] {
            rustix::fs::mknodat(CWD, root.join(name), kind, Mode::from_raw_mode(0o640), dev)
                .unwrap();
        }
        for (name, uid, gid) in [
            ("again", 1000, 1000),
            ("a/b", 70_000, 65_536),
            ("link", 5, 4_000_000_000),
        ] {
            let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
            rustix::fs::chownat(
                CWD,
                root.join(name),
                owner.0,
                owner.1,
                AtFlags::SYMLINK_NOFOLLOW,
            )
            .unwrap();
        }
    }
    // Root alone can read a file without any permission.
    let least = if root_user { 0 } else { 0o400 };
    for (name, mode) in [("again", 0o4755), ("a/b/c", 0o1777), ("holes", least)] {
        std::fs::set_permissions(root.join(name), erofs::permissions(mode)).unwrap();
    }
}

/// Runs mkfs.erofs; `None`, with the skip line, if it is not installed.
fn mkfs(source: &Path, image: &Path, options: &[&str]) -> Option<Vec<u8>> {
    let _ = std::fs::remove_file(image);
    let mut mkfs = Command::new("mkfs.erofs");
    mkfs.arg("--quiet").args(options).args([image, source]);
    match mkfs.output() {
        Ok(run) if run.status.success() => Some(std::fs::read(image).unwrap()),
        Ok(run) => panic!("{mkfs:?}: {run:?}"),
        Err(error) => {
            skip(&format!("mkfs.erofs: {error}"));
            None
        }
    }
}

/// The image shows its source: inode numbers, sizes of directories and what the options change aside.
fn assert_source(source: &Snapshot, image: &Snapshot, what: &str, options: &[&str]) {
    let has = |start: &str| options.iter().any(|option| option.starts_with(start));
    let plain = |snapshot: &Snapshot| {
        let mut snapshot = snapshot.clone();
        for entry in snapshot.values_mut() {
            entry.ino = 0;
            if entry.mode & 0o170000 == 0o040000 {
                entry.size = 0;
            }
            if has("-T") {
                entry.mtime = (0, 0);
            }
            if has("--all-root") {
                (entry.uid, entry.gid) = (0, 0);
            }
            if has("-x-1") {
                entry.xattrs.clear();
            }
        }
        snapshot
    };
    erofs::assert_same(&plain(source), &plain(image), what);
}

#[test]
fn images_of_mkfs_in_all_layouts() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    std::fs::create_dir(&source).unwrap();
    fill(&source);
    let expected = erofs::by_kernel(&source);
    let variants: &[&[&str]] = &[
        &[],
        &["-Enoinline_data"],
        &["-Eforce-inode-compact", "-T1700000000", "--all-root"],
        &["-Eforce-inode-extended", "-T7"],
        &["-T-5", "-x1"],
        &["-x-1"],
        &["-x0", "-Enoinline_data,force-inode-extended"],
        &["--chunksize=4096"],
        &["--chunksize=8192", "-Eforce-chunk-indexes"],
        &["--chunksize=65536", "-Eforce-inode-blockmap"],
        &["--chunksize=1048576", "-T9", "-x1"],
        &[
            "--chunksize=4096",
            "-Eforce-chunk-indexes,force-inode-extended",
        ],
    ];
    for options in variants {
        let Some(image) = mkfs(&source, &dir.path().join("image"), options) else {
            return;
        };
        let what = options.join(" ");
        let seen = all_agree(dir.path(), &what, &image, &[], true);
        assert_source(&expected, &seen, &what, options);
    }
    let blob = dir.path().join("blob");
    let option = format!("--blobdev={}", blob.display());
    let image = mkfs(
        &source,
        &dir.path().join("image"),
        &["--chunksize=4096", &option],
    )
    .unwrap();
    let device = std::fs::read(&blob).unwrap();
    let core = erofs::by_core(&erofs::files(&[&image, &device], true));
    // mkfs.erofs 1.5 writes no length into the slot, which erofs-rs relies on.
    let mut image = image;
    image[1152 + 64..1152 + 68].copy_from_slice(&(device.len() as u32 / 4096).to_le_bytes());
    image[1028..1032].fill(0);
    let sum = checksum(&image[1024..4096]);
    image[1028..1032].copy_from_slice(&sum.to_le_bytes());
    let seen = all_agree(dir.path(), "with a device", &image, &[&device], true);
    assert_source(&expected, &seen, "with a device", &[]);
    erofs::assert_same(&core, &seen, "with and without the length of the device");
    // Compression is refused, by name.
    let image = mkfs(&source, &dir.path().join("image"), &["-zlz4"]).unwrap();
    let error = ImgFs::open(&erofs::files(&[&image], true), ImageId(0), &[]).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unsupported);
    assert_eq!(
        error.to_string(),
        "not supported: feature_incompat: compression"
    );
}

#[test]
fn images_of_our_own_builder() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    std::fs::create_dir(&source).unwrap();
    fill(&source);
    let image = dir.path().join("image");
    varve_image::build_dir(
        &source,
        &image,
        &varve_image::BuildOptions::default(),
        &mut (),
    )
    .unwrap();
    let seen = all_agree(
        dir.path(),
        "our own image",
        &std::fs::read(&image).unwrap(),
        &[],
        true,
    );
    assert_source(&erofs::by_kernel(&source), &seen, "our own image", &[]);
}
