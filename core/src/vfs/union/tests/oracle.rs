//! The kernel's own overlayfs over the same layers, made into images by mkfs.erofs, as the oracle of what a union shows.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{format, println, string::String};

use alloc::vec::Vec;

use rustix::fs::{CWD, FileType, Mode, XattrFlags};

use super::tree::{MemTree, Random};
use super::*;

/// What a program can see of a file.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    mode: u32,
    uid: u32,
    rdev: u64,
    mtime: i64,
    /// Of anything but directories.
    nlink: u64,
    data: Vec<u8>,
    one: Option<Vec<u8>>,
}

/// Mounts made for a test, in order.
struct Mounts(Vec<PathBuf>);

impl Mounts {
    fn add(&mut self, at: &Path, args: &[&str]) -> Result<(), String> {
        fs::create_dir_all(at).map_err(|error| format!("{error}"))?;
        let run = Command::new("mount").args(args).arg(at).output();
        let run = run.map_err(|error| format!("mount: {error}"))?;
        match run.status.success() {
            true => self.0.push(at.to_path_buf()),
            false => return Err(String::from_utf8_lossy(&run.stderr).trim().into()),
        }
        Ok(())
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        for at in self.0.iter().rev() {
            let _ = Command::new("umount").arg(at).status();
        }
    }
}

/// Writes a layer into a directory.
fn materialize(tree: &MemTree, index: usize, at: &Path, done: &mut BTreeMap<usize, PathBuf>) {
    let file = &tree.files[index];
    if let Some(first) = done.get(&index) {
        fs::hard_link(first, at).unwrap();
        return;
    }
    done.insert(index, at.to_path_buf());
    let special = |kind| {
        let dev = u64::from(file.rdev);
        rustix::fs::mknodat(CWD, at, kind, Mode::empty(), dev).unwrap();
    };
    let set = |name: &[u8], value: &[u8]| {
        rustix::fs::lsetxattr(at, name, value, XattrFlags::empty()).unwrap();
    };
    match file.kind() {
        S_IFDIR => {
            fs::create_dir(at).unwrap();
            for (name, &child) in &file.children {
                materialize(tree, child, &at.join(OsStr::from_bytes(name)), done);
            }
            // As an image builder has to mark a directory with whiteouts.
            if file
                .children
                .values()
                .any(|&child| tree.files[child].is_whiteout())
            {
                set(b"trusted.overlay.origin", b"");
            }
        }
        S_IFREG => fs::write(at, &file.data).unwrap(),
        S_IFLNK => symlink(OsStr::from_bytes(&file.data), at).unwrap(),
        kind => special(FileType::from_raw_mode(kind)),
    }
    if file.kind() != S_IFLNK {
        for (name, value) in &file.xattrs {
            // The kernel keeps user attributes of files and directories only.
            if matches!(file.kind(), S_IFDIR | S_IFREG) {
                set(name, value);
            }
        }
        fs::set_permissions(at, fs::Permissions::from_mode(file.mode & 0o7777)).unwrap();
    }
}

fn walk_kernel(at: &Path, path: &[u8], seen: &mut BTreeMap<Vec<u8>, Seen>) {
    let meta = fs::symlink_metadata(at).unwrap();
    let kind = meta.file_type();
    let data = match () {
        _ if kind.is_file() => fs::read(at).unwrap(),
        _ if kind.is_symlink() => fs::read_link(at).unwrap().as_os_str().as_bytes().to_vec(),
        _ => Vec::new(),
    };
    let mut value = [0; 16];
    let one = rustix::fs::lgetxattr(at, "user.one", &mut value[..]);
    seen.insert(
        path.to_vec(),
        Seen {
            mode: meta.mode(),
            uid: meta.uid(),
            rdev: meta.rdev(),
            mtime: meta.mtime(),
            nlink: if kind.is_dir() { 0 } else { meta.nlink() },
            data,
            one: one.ok().map(|len| value[..len].to_vec()),
        },
    );
    if kind.is_dir() {
        for entry in fs::read_dir(at).unwrap() {
            let name = entry.unwrap().file_name();
            let path = [path, b"/", name.as_bytes()].concat();
            walk_kernel(&at.join(&name), &path, seen);
        }
    }
}

fn walk_union(test: &mut Test, ino: Ino, path: &[u8], seen: &mut BTreeMap<Vec<u8>, Seen>) {
    let attr = call!(test, attr, ino).unwrap();
    let kind = attr.mode & S_IFMT;
    let data = match kind {
        S_IFREG => test.read(ino),
        S_IFLNK => call!(test, read_link, ino).unwrap(),
        _ => Vec::new(),
    };
    let one = match kind {
        S_IFREG | S_IFDIR => call!(test, get_xattr, ino, b"user.one").ok(),
        _ => None,
    };
    seen.insert(
        path.to_vec(),
        Seen {
            mode: attr.mode,
            uid: attr.uid,
            rdev: u64::from(attr.rdev),
            mtime: attr.mtime.sec,
            nlink: if kind == S_IFDIR {
                0
            } else {
                u64::from(attr.nlink)
            },
            data,
            one,
        },
    );
    if kind == S_IFDIR {
        for name in test.list(ino, &mut Random(0)) {
            let child = call!(test, lookup, ino, &name).unwrap();
            walk_union(test, child, &[path, b"/", &name].concat(), seen);
            call!(test, forget, child);
        }
    }
}

/// What the kernel shows of these layers. The error says why it cannot be asked.
fn ask_kernel(tree: &MemTree, dir: &Path) -> Result<BTreeMap<Vec<u8>, Seen>, String> {
    let mut mounts = Mounts(Vec::new());
    let mut lowers = String::new();
    for (n, &root) in tree.roots.iter().enumerate() {
        let source = dir.join(format!("layer{n}"));
        materialize(tree, root, &source, &mut BTreeMap::new());
        let image = dir.join(format!("layer{n}.img"));
        let made = Command::new("mkfs.erofs")
            .args(["-T5000", "--quiet", "-Enoinline_data"])
            .args([&image, &source])
            .output()
            .map_err(|error| format!("mkfs.erofs: {error}"))?;
        assert!(made.status.success(), "{made:?}");
        let at = dir.join(format!("lower{n}"));
        mounts.add(&at, &["-t", "erofs", "-o", "ro", image.to_str().unwrap()])?;
        lowers = match lowers.is_empty() {
            true => at.to_str().unwrap().into(),
            false => format!("{}:{lowers}", at.to_str().unwrap()),
        };
    }
    let upper = dir.join("upper");
    mounts.add(&upper, &["-t", "tmpfs", "none"])?;
    fs::create_dir(upper.join("u")).unwrap();
    fs::create_dir(upper.join("w")).unwrap();
    let upper = upper.to_str().unwrap();
    let options = format!("lowerdir={lowers},upperdir={upper}/u,workdir={upper}/w");
    let union = dir.join("union");
    mounts.add(&union, &["-t", "overlay", "-o", &options, "none"])?;
    let mut seen = BTreeMap::new();
    walk_kernel(&union, b"", &mut seen);
    Ok(seen)
}

#[test]
fn a_union_shows_what_overlayfs_shows() {
    let seeds = std::env::var("VARVE_TEST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seeds = seeds.map_or(1000..1008, |seed: u64| seed..seed + 1);
    for seed in seeds {
        println!("VARVE_TEST_SEED={seed}");
        let mut random = Random(seed);
        let mut tree = MemTree::default();
        for _ in 0..random.below(12) + 1 {
            tree.random_layer(&mut random);
        }
        for file in &mut tree.files {
            file.mtime = 5000;
        }
        let dir = tempfile::tempdir().unwrap();
        let expected = match ask_kernel(&tree, dir.path()) {
            Ok(seen) => seen,
            Err(reason) => {
                let skipped = std::env::var_os("VARVE_TEST_NO_SKIP").is_none();
                assert!(skipped, "overlayfs cannot be asked: {reason}");
                println!("SKIP: overlayfs as oracle: {reason}");
                return;
            }
        };
        let mut test = Test::new(tree, None);
        let mut seen = BTreeMap::new();
        let root = test.fs.root();
        walk_union(&mut test, root, b"", &mut seen);
        // The root's own attributes are those of the kernel's upper directory.
        for (path, expected) in expected.iter().skip(1) {
            assert_eq!(seen.get(path), Some(expected), "{}", path.escape_ascii());
        }
        let paths = |seen: &BTreeMap<Vec<u8>, Seen>| seen.keys().cloned().collect::<Vec<_>>();
        assert_eq!(paths(&seen), paths(&expected));
    }
}
