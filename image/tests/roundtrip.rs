//! Directories become images that every reader sees as the directory itself.

mod oracle;

use oracle::*;
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use varve_image::{BuildError, BuildOptions, DataAlign};

fn set_time(path: &Path, sec: i64, nsec: i64) {
    let time = Timespec {
        tv_sec: sec,
        tv_nsec: nsec,
    };
    rustix::fs::utimensat(
        CWD,
        path,
        &Timestamps {
            last_access: time,
            last_modification: time,
        },
        AtFlags::SYMLINK_NOFOLLOW,
    )
    .unwrap();
}

fn set_xattr(path: &Path, name: &str, value: &[u8]) {
    match rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()) {
        Ok(()) => {}
        Err(rustix::io::Errno::OPNOTSUPP) => {
            skip(&format!("this file system has no attribute {name}"));
        }
        Err(e) => panic!("setxattr {name} on {}: {e}", path.display()),
    }
}

/// `user::rwx,user:1000:r--,group::r-x,mask::r-x,other::r--` as the kernel encodes it.
fn acl() -> Vec<u8> {
    let mut acl = 2u32.to_le_bytes().to_vec();
    for (tag, perm, id) in [
        (1u16, 7u16, u32::MAX),
        (2, 4, 1000),
        (4, 5, u32::MAX),
        (0x10, 5, u32::MAX),
        (0x20, 4, u32::MAX),
    ] {
        acl.extend(tag.to_le_bytes());
        acl.extend(perm.to_le_bytes());
        acl.extend(id.to_le_bytes());
    }
    acl
}

#[test]
fn every_kind_of_object_survives() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("tree");
    fs::create_dir_all(root.join("a/b/c")).unwrap();
    fs::create_dir(root.join("empty")).unwrap();
    for size in [
        0,
        1,
        4095,
        4096,
        4097,
        65535,
        65536,
        200_000,
        (1 << 20) - 1,
        1 << 20,
        (1 << 20) + 1,
        3_000_000,
    ] {
        fs::write(
            root.join(format!("size-{size}")),
            Rng(size).bytes(size as usize),
        )
        .unwrap();
    }
    for name in [
        &b"!bang"[..],
        b"-dash",
        b"..data",
        b".hidden",
        b"\xff\xfe not utf-8",
        b"new\nline",
    ] {
        fs::write(root.join(OsStr::from_bytes(name)), name).unwrap();
    }
    fs::write(root.join("n".repeat(255)), "long name").unwrap();
    fs::hard_link(root.join("size-4097"), root.join("a/link-1")).unwrap();
    fs::hard_link(root.join("size-4097"), root.join("a/b/link-2")).unwrap();
    symlink("size-1", root.join("symlink")).unwrap();
    symlink("x".repeat(3001), root.join("long-symlink")).unwrap();
    symlink("y".repeat(4095), root.join("longest-symlink")).unwrap();
    symlink("nowhere/../..", root.join("a/dangling")).unwrap();
    rustix::fs::mknodat(
        CWD,
        root.join("fifo"),
        FileType::Fifo,
        Mode::from_raw_mode(0o640),
        0,
    )
    .unwrap();
    rustix::fs::mknodat(
        CWD,
        root.join("socket"),
        FileType::Socket,
        Mode::from_raw_mode(0o755),
        0,
    )
    .unwrap();
    fs::set_permissions(root.join("a"), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::set_permissions(root.join("size-1"), fs::Permissions::from_mode(0o6751)).unwrap();
    set_time(&root.join("size-0"), -60, 0);
    set_time(&root.join("size-1"), -1, 999_999_999);
    set_time(&root.join("size-4095"), 1 << 32, 123_456_789);
    set_time(&root.join("symlink"), 1, 1);
    let file = root.join("size-200000");
    set_xattr(&file, "user.comment", b"two\nlines\0and a NUL");
    set_xattr(&file, "user.empty", b"");
    set_xattr(
        &file,
        &format!("user.{}", "k".repeat(250)),
        &Rng(1).bytes(900),
    );
    for name in ["size-1", "size-4096", "a", "a/b"] {
        set_xattr(&root.join(name), "user.shared", b"the same everywhere");
    }
    set_xattr(&root.join("size-65536"), "system.posix_acl_access", &acl());
    set_xattr(&root.join("a/b/c"), "system.posix_acl_default", &acl());
    if is_root() {
        let node = |name: &str, kind, major, minor| {
            let device = rustix::fs::makedev(major, minor);
            rustix::fs::mknodat(
                CWD,
                root.join(name),
                kind,
                Mode::from_raw_mode(0o600),
                device,
            )
            .unwrap();
        };
        node("null", FileType::CharacterDevice, 1, 3);
        node("wide", FileType::BlockDevice, 259, 1_048_000);
        node("a/b/removed", FileType::CharacterDevice, 0, 0);
        set_xattr(&root.join("a/b/c"), "trusted.overlay.opaque", b"y");
        set_xattr(&root.join("null"), "trusted.x", b"on a device");
        set_xattr(&root.join("symlink"), "trusted.x", b"on a symbolic link");
        std::os::unix::fs::chown(root.join("size-4096"), Some(70_000), Some(4_000_000_000))
            .unwrap();
        std::os::unix::fs::lchown(root.join("symlink"), Some(65_536), Some(65_535)).unwrap();
        // Capability data: v2, effective, CAP_NET_RAW.
        let caps = [[1, 0, 0, 2], [0, 0x20, 0, 0], [0; 4], [0; 4], [0; 4]].concat();
        set_xattr(&root.join("size-65535"), "security.capability", &caps);
    } else {
        skip("devices, owners and trusted attributes need root");
    }
    let image = temp.path().join("layer.img");
    let report = build(&root, &image);
    let expected = expected(&root);
    check(&image, &expected);
    assert_eq!(report.hard_links, 2);
    assert_eq!(report.directories, 5);
    assert_eq!(report.symlinks, 4);
    assert_eq!(
        (report.whiteouts, report.opaque),
        if is_root() { (1, 1) } else { (0, 0) }
    );
    assert_eq!(report.image_bytes, fs::metadata(&image).unwrap().len());

    // The same input gives the same bytes, over an existing image too.
    let before = fs::read(&image).unwrap();
    build(&root, &image);
    assert!(
        before == fs::read(&image).unwrap(),
        "a second build differs"
    );
    assert_eq!(
        fs::read_dir(temp.path()).unwrap().count(),
        2,
        "something was left behind"
    );
}

/// Depth beyond the limit of open files that most systems set.
#[test]
fn deep_trees_survive() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("tree");
    let mut path = root.clone();
    fs::create_dir(&root).unwrap();
    for i in 0..1400 {
        path.push("d");
        fs::create_dir(&path).unwrap();
        if i % 100 == 99 {
            fs::write(path.join("z"), "after the way back").unwrap();
        }
    }
    let image = temp.path().join("layer.img");
    build(&root, &image);
    // Not fsck.erofs: it recurses and its stack overflows.
    check_bytes(&image);
    assert_same(
        &expected(&root),
        &core_snapshot(&image),
        "image read by the core",
    );
    if let Some(mount) = mount(&image) {
        assert_same(
            &expected(&root),
            &snapshot(&mount.0, true),
            "image mounted by the kernel",
        );
    }
}

#[test]
fn a_copy_of_a_tree_gives_the_same_bytes() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    fs::create_dir_all(at("tree/sub")).unwrap();
    for i in (0..200).rev() {
        fs::write(at(&format!("tree/file-{i}")), Rng(i).bytes(i as usize * 50)).unwrap();
    }
    fs::hard_link(at("tree/file-7"), at("tree/sub/7")).unwrap();
    fs::File::create(at("tree/sparse"))
        .unwrap()
        .set_len(2 << 20)
        .unwrap();
    let copy = [
        OsStr::new("-a"),
        "--sparse=never".as_ref(),
        at("tree").as_os_str(),
        at("copy").as_os_str(),
    ]
    .map(OsStr::to_owned);
    let args: Vec<&OsStr> = copy.iter().map(|a| a.as_os_str()).collect();
    let Some(output) = tool("cp", &args) else {
        return;
    };
    assert!(output.status.success());
    let first = build(&at("tree"), &at("tree.img"));
    build(&at("copy"), &at("copy.img"));
    assert!(fs::read(at("tree.img")).unwrap() == fs::read(at("copy.img")).unwrap());
    fs::write(at("tree/file-9"), Rng(9999).bytes(450)).unwrap();
    assert_ne!(build(&at("tree"), &at("tree.img")).uuid, first.uuid);
}

#[test]
fn equal_files_are_stored_once() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("tree");
    fs::create_dir(&root).unwrap();
    let (small, large) = (Rng(7).bytes(10_000), Rng(8).bytes(5_000_000));
    for i in 0..4 {
        fs::write(root.join(format!("small-{i}")), &small).unwrap();
        fs::write(root.join(format!("large-{i}")), &large).unwrap();
    }
    let mut other = large.clone();
    *other.last_mut().unwrap() ^= 1;
    fs::write(root.join("large-other"), &other).unwrap();
    fs::write(root.join("zz"), "after the duplicates").unwrap();
    let image = temp.path().join("layer.img");
    let report = build(&root, &image);
    check(&image, &expected(&root));
    assert_eq!(
        (report.shared_files, report.shared_bytes),
        (6, 3 * 5_010_000)
    );
    assert!(report.image_bytes < 10_000_000 + 100_000);
}

#[test]
fn large_directories_have_sorted_blocks() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("tree");
    fs::create_dir(&root).unwrap();
    for i in 0..100_000 {
        rustix::fs::mknodat(
            CWD,
            root.join(format!("entry-{i}")),
            FileType::RegularFile,
            Mode::from_raw_mode(0o644),
            0,
        )
        .unwrap();
    }
    let image = temp.path().join("layer.img");
    let report = build(&root, &image);
    assert_eq!(report.files, 100_000);
    check(&image, &expected(&root));
}

#[test]
fn sparse_files_over_4_gib_stay_small() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("tree");
    fs::create_dir(&root).unwrap();
    let size = (5 << 30) + 12_345;
    for name in ["one", "two"] {
        let file = fs::File::create(root.join(name)).unwrap();
        file.set_len(size).unwrap();
        file.write_all_at(b"start", 0).unwrap();
        file.write_all_at(b"middle", (3 << 30) + 7).unwrap();
    }
    let image = temp.path().join("layer.img");
    let report = build(&root, &image);
    assert_eq!((report.shared_files, report.shared_bytes), (1, size));
    let meta = fs::metadata(&image).unwrap();
    assert!(
        meta.len() > size && meta.blocks() * 512 < 1 << 20,
        "{} blocks",
        meta.blocks()
    );
    fsck(&image);
    check_bytes(&image);
    if let Some(mount) = mount(&image) {
        let file = fs::File::open(mount.0.join("one")).unwrap();
        assert_eq!(file.metadata().unwrap().len(), size);
        let at = |offset, len| {
            let mut buf = vec![1; len];
            file.read_exact_at(&mut buf, offset).unwrap();
            buf
        };
        assert_eq!(at(0, 7), b"start\0\0");
        assert_eq!(at((3 << 30) + 5, 10), b"\0\0middle\0\0");
        assert_eq!(at(size - 4, 4), [0; 4]);
    }
}

#[test]
fn options_move_align_and_clamp() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("tree");
    fs::create_dir_all(root.join("d")).unwrap();
    fs::write(root.join("d/a"), Rng(1).bytes(100_000)).unwrap();
    fs::write(root.join("d/z"), Rng(2).bytes(3_000_000)).unwrap();
    fs::write(root.join("tiny"), "tiny").unwrap();
    set_time(&root.join("tiny"), 500, 5);
    let options = BuildOptions {
        timestamp: Some(1000),
        data_align: DataAlign::Kib64,
        order: vec![b"d/z".to_vec(), b"absent".to_vec(), b"/tiny".to_vec()],
        label: Some("layer".into()),
        ..Default::default()
    };
    let image = temp.path().join("layer.img");
    varve_image::build_dir(&root, &image, &options, &mut ()).unwrap();
    let mut tree = expected(&root);
    for (path, entry) in &mut tree {
        entry.mtime = if path == b"tiny" { (500, 5) } else { (1000, 0) };
    }
    check(&image, &tree);
    let bytes = fs::read(&image).unwrap();
    let position = |content: &[u8]| {
        bytes
            .chunks(4096)
            .position(|block| block.starts_with(content))
            .unwrap()
            * 4096
    };
    let z = position(&Rng(2).bytes(32));
    assert_eq!(z, 65536);
    assert_eq!(
        position(b"tiny\0"),
        (z + 3_000_000_usize).next_multiple_of(4096)
    );
    assert!(position(&Rng(1).bytes(32)).is_multiple_of(65536));
    assert_eq!(&bytes[1024 + 0x40..][..6], b"layer\0");

    let options = BuildOptions {
        label: Some("sixteen bytes 16".into()),
        ..Default::default()
    };
    let error =
        varve_image::build_dir(&root, &temp.path().join("no.img"), &options, &mut ()).unwrap_err();
    assert!(matches!(error, BuildError::Option(_)), "{error}");
}

/// Random trees: names around the order of `.` and `..`, repeated contents, attributes, links, whiteouts.
#[test]
fn random_trees_survive() {
    for seed in 0..24 {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("tree");
        fs::create_dir(&root).unwrap();
        let mut rng = Rng(seed);
        let mut dirs = vec![root.clone()];
        let mut files = Vec::new();
        for _ in 0..rng.below(300) {
            let len = 1 + [3, 20, 254][rng.below(3) as usize].min(rng.below(255));
            let mut name = rng.bytes(len as usize);
            name.iter_mut()
                .filter(|b| matches!(**b, 0 | b'/'))
                .for_each(|b| *b = b'.');
            if name == b"." || name == b".." {
                continue;
            }
            let path = dirs[rng.below(dirs.len() as u64) as usize].join(OsStr::from_bytes(&name));
            if path.as_os_str().len() > 3500 || path.symlink_metadata().is_ok() {
                continue;
            }
            match rng.below(if is_root() { 9 } else { 8 }) {
                0 | 1 => {
                    fs::create_dir(&path).unwrap();
                    dirs.push(path.clone());
                }
                2 => symlink(
                    OsStr::from_bytes(&vec![b'a'; 1 + rng.below(4000) as usize]),
                    &path,
                )
                .unwrap(),
                3 if !files.is_empty() => {
                    let old: &std::path::PathBuf = &files[rng.below(files.len() as u64) as usize];
                    fs::hard_link(old, &path).unwrap();
                }
                8 => rustix::fs::mknodat(CWD, &path, FileType::CharacterDevice, Mode::empty(), 0)
                    .unwrap(),
                _ => {
                    let size = [10, 5000, 70_000, 1_500_000][rng.below(4) as usize];
                    let content_seed = rng.below(20);
                    fs::write(&path, Rng(content_seed).bytes(size)).unwrap();
                    files.push(path.clone());
                }
            }
            if path.symlink_metadata().unwrap().is_file()
                || path.symlink_metadata().unwrap().is_dir()
            {
                for i in 0..rng.below(5) {
                    let len = rng.below(400) as usize;
                    let value_seed = rng.below(3);
                    set_xattr(&path, &format!("user.{i}"), &Rng(value_seed).bytes(len));
                }
                let perm = 0o700 | rng.below(0o100) as u32;
                fs::set_permissions(&path, fs::Permissions::from_mode(perm)).unwrap();
            }
            if rng.below(2) == 0 {
                set_time(
                    &path,
                    rng.below(1 << 33) as i64 - (1 << 31),
                    rng.below(1_000_000_000) as i64,
                );
            }
        }
        let image = temp.path().join("layer.img");
        build(&root, &image);
        println!("seed {seed}");
        check(&image, &expected(&root));
    }
}

#[test]
fn no_image_ends_with_its_last_inode() {
    let temp = tempfile::tempdir().unwrap();
    let (dir, image) = (temp.path().join("dir"), temp.path().join("image"));
    fs::create_dir(&dir).unwrap();
    // Inodes of 32 bytes, so that one of these numbers fills the last block.
    let options = BuildOptions {
        timestamp: Some(0),
        ..BuildOptions::default()
    };
    for number in 0..130 {
        fs::write(dir.join(format!("{number:03}")), "").unwrap();
        if number >= 60 {
            varve_image::build_dir(&dir, &image, &options, &mut ()).unwrap();
            fsck(&image);
        }
    }
}
