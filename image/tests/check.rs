//! The full check of images: silent on whole ones, of whoever made them, and not on others.

mod oracle;

use std::fs;
use std::path::Path;

use oracle::*;
use varve_image::{CheckReport, MergeLayer, check, merge};
use varve_imgfs::{ImageId, MemBlock, MemImages};

fn images(files: Vec<Vec<u8>>) -> MemImages {
    let blocks = files.into_iter().map(|bytes| MemBlock {
        bytes,
        mapped: true,
    });
    MemImages(blocks.collect())
}

fn check_bytes_of(bytes: Vec<u8>) -> Result<CheckReport, String> {
    check(&images(vec![bytes]), ImageId(0), &[]).map_err(|e| e.to_string())
}

fn faults(report: &CheckReport) -> Vec<String> {
    report.faults.iter().map(ToString::to_string).collect()
}

/// A tree with one of most things.
fn tree(dir: &Path) {
    fs::create_dir_all(dir.join("sub/deep")).unwrap();
    fs::write(dir.join("file"), "f".repeat(5000)).unwrap();
    fs::write(dir.join("same"), "f".repeat(5000)).unwrap();
    fs::hard_link(dir.join("file"), dir.join("sub/twin")).unwrap();
    fs::write(dir.join("sub/empty"), "").unwrap();
    std::os::unix::fs::symlink("../file", dir.join("sub/link")).unwrap();
    for number in 0..300 {
        fs::write(
            dir.join(format!("sub/deep/a-rather-long-name-{number}")),
            "x",
        )
        .unwrap();
    }
}

#[test]
fn whole_images_are_well() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    tree(&at("dir"));
    build(&at("dir"), &at("own.img"));
    let report = check_bytes_of(fs::read(at("own.img")).unwrap()).unwrap();
    assert_eq!(faults(&report), [""; 0]);
    // The root, two directories, two files with 5000 bytes, an empty one, a link and 300 more.
    assert_eq!((report.inodes, report.names), (307, 307));
    assert_eq!(report.bytes, 10_300);
    for options in [&["-T1"][..], &["-Enoinline_data"], &["--chunksize=4096"]] {
        let (image, dir) = (at("theirs.img"), at("dir"));
        let mut args: Vec<&std::ffi::OsStr> = options.iter().map(AsRef::as_ref).collect();
        args.extend([image.as_os_str(), dir.as_os_str()]);
        if let Some(output) = tool("mkfs.erofs", &args) {
            assert!(output.status.success());
            let report = check_bytes_of(fs::read(&image).unwrap()).unwrap();
            assert_eq!(faults(&report), [""; 0], "{options:?}");
            assert_eq!(report.inodes, 307);
        }
    }
    let all = images(vec![fs::read(at("own.img")).unwrap()]);
    let layer = MergeLayer {
        image: ImageId(0),
        digest: [7; 32],
    };
    merge(&all, &[layer], &at("index.img"), &mut ()).unwrap();
    let all = images(vec![
        fs::read(at("own.img")).unwrap(),
        fs::read(at("index.img")).unwrap(),
    ]);
    let report = check(&all, ImageId(1), &[ImageId(0)]).unwrap();
    assert_eq!(faults(&report), [""; 0]);
    assert_eq!((report.inodes, report.bytes), (307, 10_300));
}

#[test]
fn each_fault_has_its_line() {
    let temp = tempfile::tempdir().unwrap();
    let (dir, image) = (temp.path().join("dir"), temp.path().join("image"));
    fs::create_dir_all(dir.join("sub")).unwrap();
    fs::write(dir.join("file"), "f".repeat(5000)).unwrap();
    fs::write(dir.join("other"), "o").unwrap();
    build(&dir, &image);
    let mut whole = fs::read(&image).unwrap();
    // Without the checksum, which would give all of it away at once.
    whole[1024 + 8] &= !1;
    let all = images(vec![whole.clone()]);
    let fs = varve_imgfs::ImgFs::open(&all, ImageId(0), &[]).unwrap();
    let root = fs.inode(&all, fs.root()).unwrap();
    let nid = |name: &[u8]| fs.lookup(&all, &root, name).unwrap().unwrap().0;
    let at = |nid: u64| fs.metadata(&fs.inode(&all, nid).unwrap()).start as usize;
    let (file, other, sub) = (nid(b"file"), nid(b"other"), nid(b"sub"));
    let is_wide = |nid: u64| whole[at(nid)] & 1 == 1;
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = whole.clone();
        change(&mut bytes);
        let report = check_bytes_of(bytes).unwrap();
        faults(&report).join("\n")
    };
    let nlink = |nid: u64| at(nid) + if is_wide(nid) { 0x2c } else { 6 };
    assert_eq!(changed(&|_| {}), "");
    assert_eq!(
        changed(&|bytes| bytes[nlink(file)] = 5),
        format!("/file: inode {file}: its link count is 5, it has 1")
    );
    let slack = changed(&|bytes| {
        let last = bytes.iter().rposition(|&byte| byte == b'f').unwrap();
        // The names of the metadata hold that letter, too.
        let data = bytes
            .windows(64)
            .position(|part| part == [b'f'; 64])
            .unwrap();
        assert!(last > data);
        bytes[data + 5001] = 1;
    });
    assert_eq!(
        slack,
        format!(
            "/file: inode {file}: the bytes behind its end, which a mapping shows, are not zero"
        )
    );
    let over = changed(&|bytes| {
        let block = (at(sub) / 4096) as u32;
        bytes[at(file) + 0x10..][..4].copy_from_slice(&(block - 1).to_le_bytes());
    });
    assert!(over.contains("its contents lie over inode"), "{over}");
    let kind = changed(&|bytes| {
        let entry = bytes
            .windows(8)
            .position(|part| part == other.to_le_bytes())
            .unwrap();
        bytes[entry + 10] = 7;
    });
    assert!(
        kind.contains("its entry says that it is of type 10"),
        "{kind}"
    );
    let twice = changed(&|bytes| {
        let entry = bytes
            .windows(8)
            .position(|part| part == other.to_le_bytes())
            .unwrap();
        bytes[entry..entry + 8].copy_from_slice(&sub.to_le_bytes());
        bytes[entry + 10] = 2;
    });
    assert!(twice.contains("a directory that is also /other"), "{twice}");
    let dots = changed(&|bytes| {
        let entry = bytes
            .windows(8)
            .position(|part| part == sub.to_le_bytes())
            .unwrap();
        bytes[entry..entry + 8].copy_from_slice(&fs.root().to_le_bytes());
    });
    assert!(dots.contains("a directory that is also /"), "{dots}");
}

#[test]
fn no_damage_is_too_much() {
    let temp = tempfile::tempdir().unwrap();
    tree(&temp.path().join("dir"));
    build(&temp.path().join("dir"), &temp.path().join("image"));
    let mut whole = fs::read(temp.path().join("image")).unwrap();
    whole[1024 + 8] &= !1;
    // The metadata is behind the data; the directory of 300 takes several blocks.
    let metadata = whole.len() - 40_000;
    let mut random = Rng(3);
    let mut told = 0;
    for _ in 0..400 {
        let mut bytes = whole.clone();
        for _ in 0..random.below(6) + 1 {
            let at = metadata as u64 + random.below(40_000);
            bytes[at as usize] ^= 1 << random.below(8);
        }
        if random.below(8) == 0 {
            bytes.truncate(random.below(bytes.len() as u64) as usize);
        }
        match check_bytes_of(bytes) {
            Ok(report) if report.faults.is_empty() => {}
            _ => told += 1,
        }
    }
    assert!(told > 100, "{told}");
}
