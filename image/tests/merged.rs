//! A merged index shows the same tree as the union of its layers, to the core and to the kernel.

mod oracle;

use std::ffi::{CString, OsStr};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use oracle::*;
use rustix::mount::MountFlags;
use sha2::{Digest, Sha256};
use std::sync::atomic::{AtomicU64, Ordering};

use varve_image::walk::{Next, walk};
use varve_image::{MergeLayer, merge};
use varve_imgfs::{Block, Errno, ImageId, Images, MemBlock, MemImages, MergedIndex, Stack};

/// Layers in memory, lowest first, and the files they are from.
struct Layers {
    images: MemImages,
    layers: Vec<MergeLayer>,
    paths: Vec<PathBuf>,
}

fn load(paths: &[PathBuf]) -> Layers {
    let mut images = MemImages(Vec::new());
    let mut layers = Vec::new();
    for path in paths {
        let bytes = fs::read(path).unwrap();
        layers.push(MergeLayer {
            image: ImageId(images.0.len() as u32),
            digest: Sha256::digest(&bytes).into(),
        });
        images.0.push(MemBlock {
            bytes,
            mapped: true,
        });
    }
    Layers {
        images,
        layers,
        paths: paths.to_vec(),
    }
}

impl Layers {
    /// Makes the index, and opens it instead of the layers from then on.
    fn merge(&mut self, to: &Path) -> MergedIndex {
        merge(&self.images, &self.layers, to, &mut ()).unwrap();
        self.images.0.push(MemBlock {
            bytes: fs::read(to).unwrap(),
            mapped: true,
        });
        MergedIndex {
            image: ImageId(self.images.0.len() as u32 - 1),
            digests: self.layers.iter().map(|layer| layer.digest).collect(),
        }
    }

    fn open(&self, index: Option<MergedIndex>) -> Stack {
        let ids: Vec<_> = self.layers.iter().map(|layer| layer.image).collect();
        Stack::open(&self.images, &ids, index.as_ref()).unwrap()
    }

    /// What the core shows, through the union or the index.
    fn snapshot(&self, index: Option<MergedIndex>) -> Snapshot {
        let merged = index.is_some();
        let mut stack = self.open(index);
        let root = stack.root();
        let mut entries = Vec::new();
        walk(&mut stack, &self.images, root, &mut |stack, item| {
            let attr = item.attr.unwrap();
            if merged {
                assert_eq!(item.inode.layer(), 0);
            }
            let images = &self.images;
            let content = match attr.mode & 0o170000 {
                0o100000 => {
                    let mut bytes = vec![0; attr.size as usize];
                    assert_eq!(
                        stack.read(images, item.inode, 0, &mut bytes).unwrap(),
                        bytes.len()
                    );
                    Sha256::digest(&bytes).to_vec()
                }
                0o120000 => stack.read_link(images, item.inode).unwrap(),
                _ => Vec::new(),
            };
            let names = stack.list_xattr(images, item.inode).unwrap();
            let xattrs = names
                .into_iter()
                .map(|name| {
                    let value = stack.xattr(images, item.inode, &name).unwrap();
                    (name, value)
                })
                .collect();
            let entry = Entry {
                mode: attr.mode,
                uid: attr.uid,
                gid: attr.gid,
                mtime: (attr.mtime.sec, attr.mtime.nsec),
                size: match attr.mode & 0o170000 {
                    0o040000 => 0,
                    _ => attr.size,
                },
                device: (
                    attr.rdev >> 8 & 0xfff,
                    attr.rdev & 0xff | attr.rdev >> 12 & 0xfff00,
                ),
                nlink: 0,
                same_as: Vec::new(),
                xattrs,
                content,
            };
            entries.push((item.path.to_vec(), (0, item.inode.0), entry));
            Ok::<_, ()>(Next::Into)
        })
        .unwrap();
        with_links(entries)
    }
}

/// Turns a directory into one of the next layer: what random programs do to a tree, in the form of an
/// unpacked OCI layer.
fn random_dir(random: &mut Rng, dir: &Path, depth: u64) {
    fs::create_dir_all(dir).unwrap();
    if depth > 0 && random.below(8) == 0 {
        fs::write(dir.join(".wh..wh..opq"), "").unwrap();
    }
    let mut files: Vec<PathBuf> = Vec::new();
    for name in ["a", "b", "c", "d", "e"] {
        let path = dir.join(name);
        match random.below(12) {
            0..3 => {}
            3 => {
                fs::write(dir.join(format!(".wh.{name}")), "").unwrap();
                // Sometimes there is a new one of that name, too.
                if random.below(2) == 0 {
                    continue;
                }
                random_dir(random, &path, 3);
            }
            4 => symlink(format!("../{name}"), &path).unwrap(),
            5..8 if depth < 3 => random_dir(random, &path, depth + 1),
            8 if !files.is_empty() => {
                let from = &files[random.below(files.len() as u64) as usize];
                fs::hard_link(from, &path).unwrap();
            }
            _ => {
                let size = [0, 6, 4096, 5000, 70_000, 140_000][random.below(6) as usize];
                let mut bytes = random.bytes(size);
                if random.below(3) == 0 {
                    let end = bytes.len().min(66_000);
                    bytes[..end].fill(0);
                }
                fs::write(&path, bytes).unwrap();
                fs::set_permissions(
                    &path,
                    fs::Permissions::from_mode(0o600 + random.below(64) as u32),
                )
                .unwrap();
                if random.below(3) == 0 {
                    let flags = rustix::fs::XattrFlags::empty();
                    let len = random.below(40) as usize + 1;
                    let value = random.bytes(len);
                    let set = rustix::fs::setxattr(&path, "user.note", &value, flags);
                    if set != Err(rustix::io::Errno::OPNOTSUPP) {
                        set.unwrap();
                    }
                }
                files.push(path);
            }
        }
    }
}

/// The layer of a directory, by this crate or, for one without markers, by `mkfs.erofs`, which packs tails
/// behind inodes.
fn random_layer(random: &mut Rng, at: &Path, number: usize) -> PathBuf {
    let dir = at.join(format!("dir{number}"));
    random_dir(random, &dir, 0);
    let image = at.join(format!("{number}.img"));
    build(&dir, &image);
    if random.below(3) == 0 {
        // The same tree from the other maker; whiteouts as devices need root there.
        let plain = at.join(format!("plain{number}"));
        fs::create_dir(&plain).unwrap();
        for name in ["a", "b", "x"] {
            let size = [100, 4096, 9000][random.below(3) as usize];
            fs::write(plain.join(name), random.bytes(size)).unwrap();
        }
        let chunks = ["-T1", "--chunksize=4096"][random.below(2) as usize];
        let args = [OsStr::new(chunks), image.as_os_str(), plain.as_os_str()];
        if let Some(output) = tool("mkfs.erofs", &args) {
            assert!(output.status.success(), "{output:?}");
        }
    }
    image
}

fn random_stack(random: &mut Rng, at: &Path) -> Vec<PathBuf> {
    let count = random.below(6) as usize + 1;
    (0..count)
        .map(|number| random_layer(random, at, number))
        .collect()
}

/// Mounts the index with its layers as devices.
fn mount_index(index: &Path, layers: &[PathBuf]) -> Option<Mount> {
    if !is_root() {
        skip("mounting an image needs root");
        return None;
    }
    let target = index.with_extension("mnt");
    fs::create_dir_all(&target).unwrap();
    let devices: Vec<_> = layers
        .iter()
        .map(|path| format!("device={}", path.display()))
        .collect();
    let data = CString::new(devices.join(",")).unwrap();
    match rustix::mount::mount(index, &target, c"erofs", MountFlags::RDONLY, Some(&*data)) {
        Ok(()) => Some(Mount(target)),
        Err(e @ (rustix::io::Errno::NODEV | rustix::io::Errno::NOTBLK)) => {
            skip(&format!("the kernel cannot mount image files here: {e}"));
            None
        }
        Err(e) => panic!("mount {}: {e}", index.display()),
    }
}

/// The kernel's union of the layers.
fn mount_union(target: &Path, layers: &[PathBuf]) -> Option<(Mount, Vec<Mount>)> {
    let mounts: Option<Vec<_>> = layers.iter().map(|path| mount(path)).collect();
    let mut mounts = mounts?;
    // Overlayfs wants two lower directories, or an upper one.
    let empty = target.with_extension("empty");
    fs::create_dir_all(&empty).unwrap();
    let lower = mounts.iter().rev().map(|mount| mount.0.to_str().unwrap());
    let mut lower: Vec<_> = lower.collect();
    lower.push(empty.to_str().unwrap());
    let data = CString::new(format!("lowerdir={}", lower.join(":"))).unwrap();
    fs::create_dir_all(target).unwrap();
    let flags = MountFlags::RDONLY;
    match rustix::mount::mount(c"overlay", target, c"overlay", flags, Some(&*data)) {
        Ok(()) => {
            mounts.reverse();
            Some((Mount(target.to_owned()), mounts))
        }
        Err(rustix::io::Errno::NODEV) => {
            skip("the kernel has no overlayfs");
            None
        }
        Err(e) => panic!("overlay: {e}"),
    }
}

#[test]
fn an_index_shows_what_the_union_of_its_layers_shows() {
    let first = std::env::var("VARVE_TEST_SEED").ok();
    let seeds = match first.and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => 0..24,
    };
    for seed in seeds {
        println!("VARVE_TEST_SEED={seed}");
        let temp = tempfile::tempdir().unwrap();
        let mut random = Rng(seed);
        let paths = random_stack(&mut random, temp.path());
        let index_path = temp.path().join("index.img");
        let mut layers = load(&paths);
        let union = layers.snapshot(None);
        let index = layers.merge(&index_path);
        check_head(&index_path, 0xc);
        fsck_with(&index_path, &paths);
        let merged = layers.snapshot(Some(index));
        assert_same(&union, &merged, "the index in the core");
        if let Some(mount) = mount_index(&index_path, &layers.paths) {
            // Link counts of an index are those of its tree.
            assert_same(&union, &snapshot(&mount.0, true), "the index in the kernel");
        }
        if seed % 4 == 0
            && let Some((mount, lower)) = mount_union(&temp.path().join("union"), &layers.paths)
        {
            assert_same(&union, &snapshot(&mount.0, false), "the kernel's overlay");
            drop(mount);
            drop(lower);
        }
    }
}

#[test]
fn an_index_is_the_same_each_time_and_needs_its_own_layers() {
    let temp = tempfile::tempdir().unwrap();
    let mut random = Rng(7);
    let paths: Vec<_> = (0..3)
        .map(|number| random_layer(&mut random, temp.path(), number))
        .collect();
    let mut layers = load(&paths);
    let index = layers.merge(&temp.path().join("one.img"));
    merge(
        &layers.images,
        &layers.layers,
        &temp.path().join("two.img"),
        &mut (),
    )
    .unwrap();
    let read = |name: &str| fs::read(temp.path().join(name)).unwrap();
    assert_eq!(read("one.img"), read("two.img"));

    let union = layers.snapshot(None);
    let mut other = index.clone();
    other.digests[1][0] ^= 1;
    let mut stack = layers.open(Some(other.clone()));
    let faults = stack.take_faults();
    assert!(
        faults[0].ends_with("this merged index is not used: it was made for other layers"),
        "{faults:?}"
    );
    other.digests.truncate(2);
    let mut stack = layers.open(Some(other));
    assert_eq!(stack.take_faults().len(), 1);
    assert_same(&union, &layers.snapshot(Some(index)), "the right index");
}

#[test]
fn more_layers_than_slots_fit_the_first_block() {
    let temp = tempfile::tempdir().unwrap();
    let paths: Vec<_> = (0..60)
        .map(|number| {
            let dir = temp.path().join(format!("dir{number}"));
            fs::create_dir(&dir).unwrap();
            fs::write(dir.join("same"), format!("{number}\n")).unwrap();
            fs::write(dir.join(format!("own{number}")), "own\n".repeat(number)).unwrap();
            let image = temp.path().join(format!("{number}.img"));
            build(&dir, &image);
            image
        })
        .collect();
    let mut layers = load(&paths);
    let union = layers.snapshot(None);
    assert_eq!(union.len(), 62);
    let index_path = temp.path().join("index.img");
    let index = layers.merge(&index_path);
    check_head(&index_path, 0xc);
    fsck_with(&index_path, &paths);
    assert_same(&union, &layers.snapshot(Some(index)), "the index");
    if let Some(mount) = mount_index(&index_path, &layers.paths) {
        assert_same(&union, &snapshot(&mount.0, true), "the index in the kernel");
        assert_eq!(fs::read(mount.0.join("same")).unwrap(), b"59\n");
    }
}

#[test]
fn a_damaged_layer_gives_no_index() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("dir");
    fs::create_dir_all(dir.join("sub")).unwrap();
    fs::write(dir.join("sub/file"), "x").unwrap();
    let image = temp.path().join("0.img");
    build(&dir, &image);
    let mut layers = load(std::slice::from_ref(&image));
    // `..` of the sub-directory is not looked at; its own entries are: one leads back to the root.
    let bytes = &mut layers.images.0[0].bytes;
    let at = bytes
        .windows(4)
        .rposition(|window| window == b"file")
        .unwrap();
    bytes[at] = b'/';
    let output = temp.path().join("index.img");
    let error = merge(&layers.images, &layers.layers, &output, &mut ()).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("/sub: layer 0: "), "{text}");
    assert!(!output.exists());
}

/// A file that counts how often it is read.
struct Counted(Vec<u8>, AtomicU64);

impl Block for Counted {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), Errno> {
        self.1.fetch_add(1, Ordering::Relaxed);
        let at = offset as usize;
        buf.copy_from_slice(self.0.get(at..at + buf.len()).ok_or(Errno::EIO)?);
        Ok(())
    }

    fn slice(&self) -> Option<&[u8]> {
        None
    }
}

struct CountedImages(Vec<Counted>);

impl Images for CountedImages {
    fn image(&self, id: ImageId) -> Option<&dyn Block> {
        self.0.get(id.0 as usize).map(|image| image as &dyn Block)
    }
}

#[test]
fn directories_read_in_turn_cost_what_they_cost_one_after_the_other() {
    const DIRS: usize = 8;
    const NAMES: usize = 600;
    let temp = tempfile::tempdir().unwrap();
    let mut images = CountedImages(Vec::new());
    for (layer, letter) in ["a", "b"].iter().enumerate() {
        let dir = temp.path().join(letter);
        for number in 0..DIRS {
            let sub = dir.join(format!("d{number}"));
            fs::create_dir_all(&sub).unwrap();
            for name in 0..NAMES {
                fs::write(sub.join(format!("{letter}{name}")), "").unwrap();
            }
            // One that both have.
            fs::write(sub.join("both"), *letter).unwrap();
        }
        let image = temp.path().join(format!("{layer}.img"));
        build(&dir, &image);
        images
            .0
            .push(Counted(fs::read(image).unwrap(), AtomicU64::new(0)));
    }
    let reads = |images: &CountedImages| -> u64 {
        images
            .0
            .iter()
            .map(|image| image.1.load(Ordering::Relaxed))
            .sum()
    };
    let mut stack = Stack::open(&images, &[ImageId(0), ImageId(1)], None).unwrap();
    let root = stack.root();
    let dirs: Vec<_> = (0..DIRS)
        .map(|number| {
            stack
                .lookup(&images, root, format!("d{number}").as_bytes())
                .unwrap()
        })
        .collect();
    // So many at a time, and where to go on.
    let some = |stack: &mut Stack, dir, from: u64| {
        let (mut count, mut next) = (0, from);
        stack
            .read_dir(&images, dir, from, &mut |entry: varve_imgfs::Entry<'_>| {
                (count, next) = (count + 1, entry.next);
                count < 50
            })
            .unwrap();
        (count, next)
    };
    let before = reads(&images);
    for &dir in &dirs {
        let (mut all, mut from) = (0, 0);
        loop {
            let (count, next) = some(&mut stack, dir, from);
            all += count;
            if count == 0 {
                break;
            }
            from = next;
        }
        assert_eq!(all, 2 * NAMES + 1);
    }
    let alone = reads(&images) - before;
    let before = reads(&images);
    let mut from = [0; DIRS];
    let mut all = [0; DIRS];
    for _ in 0..2 * NAMES / 50 + 3 {
        for (at, &dir) in dirs.iter().enumerate() {
            let (count, next) = some(&mut stack, dir, from[at]);
            (all[at], from[at]) = (all[at] + count, next);
        }
    }
    assert_eq!(all, [2 * NAMES + 1; DIRS]);
    let in_turn = reads(&images) - before;
    assert!(
        in_turn < alone + alone / 2,
        "{in_turn} reads, {alone} one after the other"
    );
}

#[test]
fn an_image_is_no_index_over_no_layers() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("dir");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("hidden"), "").unwrap();
    build(&dir, &temp.path().join("layer.img"));
    let layers = load(&[temp.path().join("layer.img")]);
    let index = MergedIndex {
        image: ImageId(0),
        digests: Vec::new(),
    };
    let mut stack = Stack::open(&layers.images, &[], Some(&index)).unwrap();
    assert!(stack.take_faults()[0].contains("no layers"));
    let root = stack.root();
    let found = stack.lookup(&layers.images, root, b"hidden");
    assert_eq!(found, Err(Errno::ENOENT));
}
