//! Merkle trees behind the layers of container images: those of dm-verity, and what is read through them is what they say.

mod oracle;

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::AtomicBool;

use oracle::*;
use varve_core::abi::Errno;
use varve_core::port::Block;
use varve_image::oci::{ContainerImage, ConvertOptions, Layout, Platform, Source, convert};
use varve_image::{VERITY_BLOCK, VerifiedFile, Verity};

/// An image of one layer with so many bytes of contents.
fn image(at: &Path, bytes: usize) -> ContainerImage {
    let dir = at.join(format!("dir{bytes}"));
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("file"), Rng(bytes as u64).bytes(bytes)).unwrap();
    let stop = AtomicBool::new(false);
    let options = ConvertOptions {
        name: "latest".into(),
        platform: Platform::default(),
        threads: 1,
        stop: &stop,
    };
    let layout = Layout::create(&at.join(format!("image{bytes}"))).unwrap();
    let source = Source::Dir(dir);
    convert(&source, &layout, &options, &()).unwrap().image
}

fn hex(root: &[u8; 32]) -> String {
    root.iter().map(|byte| format!("{byte:02x}")).collect()
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
            let root = hex(&verity.root);
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
            let file = VerifiedFile::open(File::open(&layer.path).unwrap(), &verity).unwrap();
            assert_eq!(file.len(), verity.hash_offset);
            let mut read = vec![0; file.len() as usize];
            file.read_at(0, &mut read).unwrap();
            assert_eq!(read, fs::read(&layer.path).unwrap()[..read.len()]);
        }
    }
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
        VerifiedFile::open(File::open(&copy).unwrap(), verity)
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
    assert!(open(&|bytes| bytes[offset + 2 * 4096 + 40] ^= 1, &verity).is_err());
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
