//! Merkle trees behind the layers of container images: those of dm-verity, and what is read through them is
//! what they say.

mod oracle;

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use oracle::*;
use varve_image::oci::{ContainerImage, ConvertOptions, Layout, Sha256Digest, Source, convert};
use varve_image::{CheckedBlocks, VERITY_BLOCK, VerifiedFile, Verity};
use varve_imgfs::{Block, Errno};

/// An image of one layer with so many bytes of contents.
fn image(at: &Path, bytes: usize) -> ContainerImage {
    let dir = at.join(format!("dir{bytes}"));
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("file"), Rng(bytes as u64).bytes(bytes)).unwrap();
    let stop = AtomicBool::new(false);
    let options = ConvertOptions::new("latest", &stop);
    let layout = Layout::create(&at.join(format!("image{bytes}"))).unwrap();
    let source = Source::Dir(dir);
    convert(&source, &layout, &options, &()).unwrap().image
}

#[test]
fn trees_are_those_of_dm_verity() {
    let temp = tempfile::tempdir().unwrap();
    // Trees of one, two and three levels, full blocks of digests and not.
    let block = VERITY_BLOCK as usize;
    for bytes in [
        0,
        10,
        block * 125,
        block * 126,
        block * 127,
        block * 300,
        block * 128 * 128,
    ] {
        let image = image(temp.path(), bytes);
        let index = image.index.clone().unwrap();
        for layer in image.layers.iter().chain([&index]) {
            let verity = layer.verity.unwrap();
            let offset = format!("--hash-offset={}", verity.hash_offset);
            let root = hex::encode(verity.root);
            let args = [
                "verify".as_ref(),
                layer.path.as_os_str(),
                layer.path.as_os_str(),
                root.as_ref(),
                offset.as_ref(),
            ];
            if let Some(output) = tool("veritysetup", &args) {
                assert!(output.status.success(), "{bytes} bytes: {output:?}");
            }
            let file = opened(File::open(&layer.path).unwrap(), &verity).unwrap();
            assert_eq!(file.len(), verity.hash_offset);
            let mut read = vec![0; file.len() as usize];
            file.read_at(0, &mut read).unwrap();
            assert_eq!(read, fs::read(&layer.path).unwrap()[..read.len()]);
        }
    }
}

/// An image with a cache of its own.
fn opened(file: File, verity: &Verity) -> std::io::Result<VerifiedFile> {
    VerifiedFile::open(file, verity, &Arc::default())
}

#[test]
fn images_share_a_bounded_number_of_checked_blocks() {
    let temp = tempfile::tempdir().unwrap();
    let image = image(temp.path(), 3_000_000);
    let layer = &image.layers[0];
    let verity = layer.verity.unwrap();
    let cache = Arc::new(CheckedBlocks::within(2 << 20));
    let most = cache.most_bytes();
    assert!((128 << 10..=256 << 10).contains(&most), "{most}");
    let open = || VerifiedFile::open(File::open(&layer.path).unwrap(), &verity, &cache).unwrap();
    let files = [open(), open(), open()];
    let whole = fs::read(&layer.path).unwrap();
    let mut read = vec![0; verity.hash_offset as usize];
    for file in files.iter().chain(&files) {
        file.read_at(0, &mut read).unwrap();
        assert_eq!(read, whole[..read.len()]);
        let kept = cache.len() as u64;
        assert!(kept > 16 && kept * VERITY_BLOCK <= most, "{kept} blocks");
    }
}

/// The most memory this process has had, in KiB.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let number = line.unwrap().split_whitespace().nth(1).unwrap();
    number.parse().unwrap()
}

#[test]
fn a_tree_over_terabytes_takes_no_memory() {
    let temp = tempfile::tempdir().unwrap();
    let sparse = File::create_new(temp.path().join("sparse")).unwrap();
    // 2^29 blocks of data: their digests alone would be 16 GiB.
    let hash_offset = 1_u64 << 41;
    sparse.set_len(hash_offset + (hash_offset >> 6)).unwrap();
    let mut superblock = [0; 4096];
    superblock[..8].copy_from_slice(b"verity\0\0");
    for (at, value) in [(8, 1_u32), (12, 1), (64, 4096), (68, 4096)] {
        superblock[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
    superblock[32..38].copy_from_slice(b"sha256");
    superblock[72..80].copy_from_slice(&(hash_offset / 4096).to_le_bytes());
    sparse.write_all_at(&superblock, hash_offset).unwrap();
    // The topmost block is zeros, and right; what it leads to is not.
    let root = Sha256Digest::of(&[0; 4096]).0;
    let before = peak();
    let file = File::open(temp.path().join("sparse")).unwrap();
    let file = opened(file, &Verity { root, hash_offset }).unwrap();
    let mut buf = [0; 100];
    for at in [0, hash_offset / 2, hash_offset - 100] {
        assert_eq!(file.read_at(at, &mut buf), Err(Errno::EIO));
    }
    assert!(peak() - before < 64 << 10);
}

#[test]
fn what_was_changed_is_not_read() {
    let temp = tempfile::tempdir().unwrap();
    let image = image(temp.path(), 600_000);
    let layer = &image.layers[0];
    let verity = layer.verity.unwrap();
    let copy = temp.path().join("copy");
    let whole = fs::read(&layer.path).unwrap();
    let open = |change: &dyn Fn(&mut Vec<u8>), verity: &Verity| {
        let mut bytes = whole.clone();
        change(&mut bytes);
        let _ = fs::remove_file(&copy);
        fs::write(&copy, bytes).unwrap();
        opened(File::open(&copy).unwrap(), verity)
    };
    let file = open(&|bytes| bytes[50 * 4096 + 7] ^= 1, &verity).unwrap();
    let mut buf = [0; 100];
    assert_eq!(file.read_at(50 * 4096, &mut buf), Err(Errno::EIO));
    assert_eq!(file.read_at(49 * 4096 + 4090, &mut buf), Err(Errno::EIO));
    file.read_at(51 * 4096, &mut buf).unwrap();
    assert_eq!(buf, whole[51 * 4096..][..100]);
    assert_eq!(
        file.read_at(verity.hash_offset - 50, &mut buf),
        Err(Errno::EIO)
    );

    // In the tree, in its superblock, cut off, of another root.
    let offset = verity.hash_offset as usize;
    assert!(open(&|bytes| bytes[offset + 4096 + 40] ^= 1, &verity).is_err());
    let file = open(&|bytes| bytes[offset + 2 * 4096 + 40] ^= 1, &verity).unwrap();
    assert_eq!(file.read_at(4096, &mut buf), Err(Errno::EIO));
    file.read_at(128 * 4096, &mut buf).unwrap();
    assert!(open(&|bytes| bytes[offset + 72] ^= 1, &verity).is_err());
    assert!(open(&|bytes| bytes.truncate(offset + 4096), &verity).is_err());
    assert!(open(&|bytes| bytes.truncate(offset), &verity).is_err());
    let mut other = verity;
    other.root[31] ^= 1;
    assert!(open(&|_| {}, &other).is_err());
    for hash_offset in [0, 1, 4096, offset as u64 + 4096, !4095] {
        let verity = Verity {
            hash_offset,
            ..verity
        };
        assert!(open(&|_| {}, &verity).is_err(), "{hash_offset}");
    }

    // A storage that answers otherwise later.
    let file = open(&|_| {}, &verity).unwrap();
    file.read_at(8192, &mut buf).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o644)).unwrap();
    let writer = OpenOptions::new().write(true).open(&copy).unwrap();
    writer.write_all_at(&[0xee; 16384], 8192).unwrap();
    file.read_at(8192, &mut buf).unwrap();
    assert_eq!(buf, whole[8192..][..100]);
    assert_eq!(file.read_at(3 * 4096, &mut buf), Err(Errno::EIO));
}
