//! The kernel's own overlayfs over the same layers, made into images by mkfs.erofs, as the oracle of what a
//! union shows.

use alloc::vec::Vec;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::string::String;
use std::{format, fs, println};

use rustix::fs::{CWD, FileType, Mode, XattrFlags};

use super::tree::{MemTree, NAMES, Random};
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
        // A process that another test has just forked may still hold files in it.
        for at in self.0.iter().rev() {
            let _ = Command::new("umount").arg("--lazy").arg(at).status();
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

/// How images are made.
const FORMATS: [&[&str]; 4] = [
    &["-Enoinline_data"],
    &[],
    &["--chunksize=4096"],
    &["-Enoinline_data", "-x0", "--chunksize=8192"],
];

/// Makes an image of each layer in `dir`, lowest first. The error says why that cannot be done.
pub fn make_images(tree: &MemTree, dir: &Path, format: u64) -> Result<Vec<PathBuf>, String> {
    if !rustix::process::geteuid().is_root() {
        return Err("only root can make whiteouts".into());
    }
    let mut images = Vec::new();
    for (n, &root) in tree.roots.iter().enumerate() {
        let source = dir.join(format!("layer{n}"));
        materialize(tree, root, &source, &mut BTreeMap::new());
        let image = dir.join(format!("layer{n}.img"));
        let made = Command::new("mkfs.erofs")
            .args(["-T5000", "--quiet"])
            .args(FORMATS[format as usize % FORMATS.len()])
            .args([&image, &source])
            .output()
            .map_err(|error| format!("mkfs.erofs: {error}"))?;
        assert!(made.status.success(), "{made:?}");
        images.push(image);
    }
    Ok(images)
}

pub fn read_all(images: &[PathBuf]) -> Vec<Vec<u8>> {
    images
        .iter()
        .map(|image| fs::read(image).unwrap())
        .collect()
}

/// The images mounted in `dir/union` by the kernel, with an upper layer. The error says why that cannot be
/// done.
fn mount_kernel(images: &[PathBuf], dir: &Path) -> Result<Mounts, String> {
    let mut mounts = Mounts(Vec::new());
    let mut lowers = String::new();
    for (n, image) in images.iter().enumerate() {
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
    let options = "index=on,redirect_dir=on,metacopy=off";
    let options = format!("lowerdir={lowers},upperdir={upper}/u,workdir={upper}/w,{options}");
    mounts.add(
        &dir.join("union"),
        &["-t", "overlay", "-o", &options, "none"],
    )?;
    Ok(mounts)
}

/// Random layers, the kernel's union of them and ours; `None` if the kernel cannot be asked.
fn both(seed: u64, dir: &Path) -> Option<(Random, Mounts, Test)> {
    println!("VARVE_TEST_SEED={seed}");
    let mut random = Random(seed);
    let mut tree = MemTree::default();
    for _ in 0..random.below(12) + 1 {
        tree.random_layer(&mut random);
    }
    for file in &mut tree.files {
        file.mtime = 5000;
    }
    let asked = make_images(&tree, dir, seed).and_then(|images| {
        let mounts = mount_kernel(&images, dir)?;
        Ok((mounts, read_all(&images)))
    });
    match asked {
        Ok((mounts, images)) => Some((random, mounts, Test::with_images(tree, images))),
        Err(reason) => skip(&reason),
    }
}

/// Without the kernel and root's rights there is nothing to compare with.
pub fn skip<T>(reason: &str) -> Option<T> {
    let skips = std::env::var_os("VARVE_TEST_NO_SKIP").is_none_or(|value| value != "1");
    assert!(skips, "overlayfs cannot be asked: {reason}");
    // Not the macro: the test harness would swallow it.
    let _ = writeln!(std::io::stderr(), "SKIP: overlayfs as oracle: {reason}");
    None
}

pub fn seeds(standard: std::ops::Range<u64>) -> std::ops::Range<u64> {
    let seed = std::env::var("VARVE_TEST_SEED").ok();
    let seed = seed.and_then(|seed| seed.parse().ok());
    seed.map_or(standard, |seed: u64| seed..seed + 1)
}

fn compare(test: &mut Test, dir: &Path, times: bool) {
    let (mut expected, mut seen) = (BTreeMap::new(), BTreeMap::new());
    walk_kernel(&dir.join("union"), b"", &mut expected);
    let root = test.fs.root();
    walk_union(test, root, b"", &mut seen);
    // The root's own attributes are those of the kernel's upper directory.
    for (path, expected) in expected.iter_mut().skip(1) {
        if let (false, Some(seen)) = (times, seen.get(path)) {
            expected.mtime = seen.mtime;
        }
        assert_eq!(seen.get(path), Some(&*expected), "{}", path.escape_ascii());
    }
    let paths = |seen: &BTreeMap<Vec<u8>, Seen>| seen.keys().cloned().collect::<Vec<_>>();
    assert_eq!(paths(&seen), paths(&expected));
}

#[test]
fn a_union_shows_what_overlayfs_shows() {
    for seed in seeds(1000..1008) {
        let dir = tempfile::tempdir().unwrap();
        let Some((_, _mounts, mut test)) = both(seed, dir.path()) else {
            return;
        };
        compare(&mut test, dir.path(), true);
    }
}

/// Walks to the parent of a path as the kernel would; gives a reference on it.
fn parent(test: &mut Test, path: &[&[u8]]) -> Result<Ino, Errno> {
    let mut at = test.fs.root();
    for name in &path[..path.len() - 1] {
        let next = call!(test, lookup, at, name);
        if at != test.fs.root() {
            call!(test, forget, at);
        }
        at = next?;
        let kind = call!(test, attr, at).unwrap().mode & S_IFMT;
        if kind != S_IFDIR {
            call!(test, forget, at);
            // All symbolic links here lead nowhere.
            let dangling = kind == S_IFLNK;
            return Err(if dangling {
                Errno::ENOENT
            } else {
                Errno::ENOTDIR
            });
        }
    }
    Ok(at)
}

/// One random operation on both sides.
fn operate(test: &mut Test, union: &Path, random: &mut Random) {
    let mut random_path = || {
        let depth = random.below(3) as usize + 1;
        let path: Vec<&[u8]> = (0..depth).map(|_| *random.pick(&NAMES)).collect();
        let joined = path.iter().map(|name| OsStr::from_bytes(name));
        let full = union.join(joined.collect::<PathBuf>());
        (path, full)
    };
    let (a, b) = (random_path(), random_path());
    if a.0.starts_with(&b.0) || b.0.starts_with(&a.0) {
        return;
    }
    let what = random.below(9);
    let bytes = random.bytes(5000);
    let offset = random.below(9000);
    let flags = *random.pick(&[0, 0, 1, 2]);
    let node = |mode, target| NewNode {
        mode,
        uid: 0,
        gid: 0,
        rdev: 0,
        flags: 0,
        target,
    };
    let number = |error: rustix::io::Errno| Errno::from_number(error.raw_os_error());
    use rustix::fs::{AtFlags, OFlags, RenameFlags as Flags};
    let mode = Mode::from_raw_mode(0o640);
    let path = &a.1;
    let expected = match what {
        0 => {
            let how = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
            rustix::fs::open(path, how, mode).map(drop)
        }
        1 => rustix::fs::mkdir(path, mode),
        2 => rustix::fs::symlink("target", path),
        3 => rustix::fs::unlinkat(CWD, path, AtFlags::empty()),
        4 => rustix::fs::unlinkat(CWD, path, AtFlags::REMOVEDIR),
        5 => rustix::fs::linkat(CWD, path, CWD, &b.1, AtFlags::empty()),
        6 => rustix::fs::renameat_with(CWD, path, CWD, &b.1, Flags::from_bits_retain(flags)),
        7 => rustix::fs::open(
            path,
            OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK,
            mode,
        )
        .and_then(|file| rustix::io::pwrite(&file, &bytes, offset).map(drop)),
        _ => rustix::fs::open(
            path,
            OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK,
            mode,
        )
        .and_then(|file| rustix::fs::ftruncate(&file, offset)),
    }
    .map_err(number);
    let dir = parent(test, &a.0);
    let name = *a.0.last().unwrap();
    let done = dir.and_then(|dir| match what {
        0 => call!(test, create, dir, name, &node(S_IFREG | 0o640, b"")).map(Some),
        1 => call!(test, create, dir, name, &node(S_IFDIR | 0o640, b"")).map(Some),
        2 => call!(test, create, dir, name, &node(S_IFLNK | 0o777, b"target")).map(Some),
        3 => call!(test, unlink, dir, name).map(|()| None),
        4 => call!(test, rmdir, dir, name).map(|()| None),
        5 => {
            let ino = call!(test, lookup, dir, name)?;
            let done = parent(test, &b.0).and_then(|to| {
                let done = call!(test, link, ino, to, b.0.last().unwrap());
                call!(test, forget, to);
                done
            });
            call!(test, forget, ino);
            done.map(|()| None)
        }
        6 => parent(test, &b.0).and_then(|to| {
            let flags = RenameFlags::from_bits_truncate(flags);
            let done = call!(test, rename, (dir, name), (to, b.0.last().unwrap()), flags);
            call!(test, forget, to);
            done.map(|()| None)
        }),
        _ => {
            let ino = call!(test, lookup, dir, name)?;
            let attr = call!(test, attr, ino)?;
            let refused = match attr.mode & S_IFMT {
                S_IFREG => None,
                S_IFDIR => Some(Errno::EISDIR),
                S_IFLNK => Some(Errno::ELOOP),
                _ => Some(Errno::ENXIO), // a FIFO without a reader
            };
            if refused.is_none() && what == 7 {
                test.write_bytes(ino, offset, &bytes);
            }
            if refused.is_none() {
                let end = offset + if what == 7 { bytes.len() as u64 } else { 0 };
                let size = if what == 7 { attr.size.max(end) } else { end };
                let set = SetAttr {
                    size: Some(size),
                    ..SetAttr::default()
                };
                call!(test, set_attr, ino, &set)?;
            }
            call!(test, forget, ino);
            refused.map_or(Ok(None), Err)
        }
    });
    if let Ok(dir) = dir {
        call!(test, forget, dir);
    }
    if let Ok(Some(made)) = done {
        call!(test, forget, made);
    }
    let (a, b) = (a.1.display(), b.1.display());
    assert_eq!(
        done.map(drop),
        expected,
        "operation {what} on {a} and {b}, flags {flags}"
    );
}

#[test]
fn operations_on_a_union_do_what_they_do_on_overlayfs() {
    rustix::process::umask(Mode::empty());
    for seed in seeds(2000..2006) {
        let dir = tempfile::tempdir().unwrap();
        let Some((mut random, _mounts, mut test)) = both(seed, dir.path()) else {
            return;
        };
        for _ in 0..10 {
            for _ in 0..100 {
                test.time += 1000;
                operate(&mut test, &dir.path().join("union"), &mut random);
            }
            compare(&mut test, dir.path(), false);
        }
    }
}
