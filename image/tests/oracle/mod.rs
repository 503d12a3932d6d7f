//! What the tests compare images with: the source tree, the kernel's own mount, `fsck.erofs`, and the crate
//! `erofs-rs`.
#![allow(dead_code, reason = "each test binary uses a part")]

use erofs_rs::EroFS;
use erofs_rs::backend::SliceImage;
use rustix::fs::{AtFlags, FileType};
use rustix::mount::{MountFlags, UnmountFlags};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;
use varve_image::{BuildOptions, BuildReport};
use varve_imgfs::{ImageId, ImgFs, MemBlock, MemImages};

/// Says, once, that something could not be tested here; with `VARVE_TEST_NO_SKIP=1` that is a failure.
pub fn skip(why: &str) {
    assert!(
        std::env::var_os("VARVE_TEST_NO_SKIP").is_none_or(|v| v != "1"),
        "skipped: {why}"
    );
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    if SAID.lock().unwrap().insert(why.into()) {
        // Not the macro: the test harness would swallow it.
        let _ = writeln!(std::io::stderr(), "SKIP: {why}");
    }
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs a program; `None`, with the skip line, if it is not installed.
pub fn tool(name: &str, args: &[&OsStr]) -> Option<Output> {
    match Command::new(name).args(args).env("LC_ALL", "C").output() {
        Ok(output) => Some(output),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            skip(&format!("{name} is not installed"));
            None
        }
        Err(e) => panic!("{name}: {e}"),
    }
}

/// Everything about one object that an image must keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: (i64, u32),
    pub size: u64,
    pub device: (u32, u32),
    /// Links within the tree; for a directory 2 and its subdirectories.
    pub nlink: u64,
    /// First path of the same inode.
    pub same_as: Vec<u8>,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// SHA-256 of a file's content, target of a link.
    pub content: Vec<u8>,
}

/// A tree by path; the root is the empty path.
pub type Snapshot = BTreeMap<Vec<u8>, Entry>;

fn digest(mut reader: impl Read) -> Vec<u8> {
    use sha2::Digest;
    let mut hasher = sha2::Sha256::new();
    let mut buf = vec![0; 1 << 20];
    loop {
        match reader.read(&mut buf).expect("content is readable") {
            0 => return hasher.finalize().to_vec(),
            n => hasher.update(&buf[..n]),
        }
    }
}

/// Derives link counts and groups from inode numbers.
pub fn with_links(mut entries: Vec<(Vec<u8>, (u64, u64), Entry)>) -> Snapshot {
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    let mut first: BTreeMap<(u64, u64), (Vec<u8>, u64)> = BTreeMap::new();
    let mut subdirs: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    for (path, inode, entry) in &entries {
        first.entry(*inode).or_insert_with(|| (path.clone(), 0)).1 += 1;
        if entry.mode & 0o170000 == 0o040000 && !path.is_empty() {
            let parent = path.iter().rposition(|&b| b == b'/').map_or(0, |at| at);
            *subdirs.entry(path[..parent].to_vec()).or_default() += 1;
        }
    }
    entries
        .into_iter()
        .map(|(path, inode, mut entry)| {
            let (same_as, count) = &first[&inode];
            entry.same_as.clone_from(same_as);
            entry.nlink = *count;
            if entry.mode & 0o170000 == 0o040000 {
                entry.nlink = 2 + subdirs.get(&path).copied().unwrap_or(0);
            }
            (path, entry)
        })
        .collect()
}

/// Reads a tree through the kernel.
///
/// With `strict`, link counts must be what the tree says (an image), else they may be anything (a source with
/// names outside).
pub fn snapshot(root: &Path, strict: bool) -> Snapshot {
    let mut entries = Vec::new();
    let mut stack = vec![Vec::new()];
    let mut told = BTreeMap::new();
    while let Some(path) = stack.pop() {
        let full = if path.is_empty() {
            root.to_owned()
        } else {
            root.join(OsStr::from_bytes(&path))
        };
        let stat =
            rustix::fs::statat(rustix::fs::CWD, &full, AtFlags::SYMLINK_NOFOLLOW).expect("stat");
        let kind = FileType::from_raw_mode(stat.st_mode);
        let content = match kind {
            FileType::RegularFile => digest(File::open(&full).expect("open")),
            FileType::Symlink => std::fs::read_link(&full)
                .expect("readlink")
                .into_os_string()
                .into_vec(),
            _ => Vec::new(),
        };
        if kind == FileType::Directory {
            for entry in std::fs::read_dir(&full).expect("list") {
                let name = entry.expect("entry").file_name().into_vec();
                stack.push(if path.is_empty() {
                    name
                } else {
                    [&path[..], b"/", &name].concat()
                });
            }
        }
        let device = matches!(kind, FileType::CharacterDevice | FileType::BlockDevice);
        told.insert(path.clone(), stat.st_nlink as u64);
        let entry = Entry {
            mode: stat.st_mode,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: (stat.st_mtime as i64, stat.st_mtime_nsec as u32),
            size: if matches!(kind, FileType::RegularFile | FileType::Symlink) {
                stat.st_size as u64
            } else {
                0
            },
            device: if device {
                (
                    rustix::fs::major(stat.st_rdev),
                    rustix::fs::minor(stat.st_rdev),
                )
            } else {
                (0, 0)
            },
            nlink: 0,
            same_as: Vec::new(),
            xattrs: xattrs(&full),
            content,
        };
        entries.push((path, (stat.st_dev as u64, stat.st_ino as u64), entry));
    }
    let snapshot = with_links(entries);
    if strict {
        for (path, entry) in &snapshot {
            assert_eq!(
                told[path],
                entry.nlink,
                "link count of {}",
                path.escape_ascii()
            );
        }
    }
    snapshot
}

pub fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = [0; 4096];
    let len = match rustix::fs::llistxattr(path, &mut names[..]) {
        Ok(len) => len,
        Err(rustix::io::Errno::OPNOTSUPP) => 0,
        Err(e) => panic!("listxattr {}: {e}", path.display()),
    };
    let get = |name: &[u8]| {
        let mut value = vec![0; 64 << 10];
        let len = rustix::fs::lgetxattr(path, name, &mut value[..]).expect("getxattr");
        value.truncate(len);
        value
    };
    names[..len]
        .split(|&b| b == 0)
        .filter(|n| !n.is_empty())
        .map(|n| (n.to_vec(), get(n)))
        .collect()
}

/// Reads an image with `erofs-rs`; checks nid, link counts and layouts of the write profile on the way.
pub fn image_snapshot(image: &Path) -> Snapshot {
    let bytes = std::fs::read(image).expect("image is readable");
    assert!(bytes.len().is_multiple_of(4096));
    let fs = EroFS::new(SliceImage::new(&bytes)).expect("erofs-rs opens the image");
    let mut told = BTreeMap::new();
    let mut entries = Vec::new();
    let root = fs
        .get_inode(fs.super_block().root_inode_id())
        .expect("root inode");
    let all =
        std::iter::once((Vec::new(), root)).chain(fs.walk_dir("/").expect("walk").map(|entry| {
            let entry = entry.expect("entry");
            (
                entry
                    .dir_entry
                    .path()
                    .as_bytes()
                    .strip_prefix(b"/")
                    .expect("absolute")
                    .to_vec(),
                entry.inode,
            )
        }));
    for (path, inode) in all {
        assert_ne!(inode.id(), 0, "nid 0 would show as inode number 0");
        let type_bits = inode.file_type().as_raw_mode();
        let content = match type_bits {
            0o100000 => {
                assert_eq!(
                    inode.layout(),
                    Some(erofs_rs::types::Layout::FlatPlain),
                    "files are mapped"
                );
                digest(fs.open_inode_file(inode).expect("open"))
            }
            0o120000 => fs
                .read_link_inode(inode)
                .expect("readlink")
                .as_bytes()
                .to_vec(),
            _ => Vec::new(),
        };
        told.insert(path.clone(), u64::from(inode.nlink()));
        let entry = Entry {
            mode: type_bits | inode.permissions().mode() & 0o7777,
            uid: inode.uid(),
            gid: inode.gid(),
            mtime: inode.modified_unix(),
            size: if inode.is_dir() { 0 } else { inode.data_size() },
            device: inode.device().unwrap_or_default(),
            nlink: 0,
            same_as: Vec::new(),
            xattrs: fs.xattrs_inode(inode).expect("xattrs"),
            content,
        };
        entries.push((path, (0, inode.id()), entry));
    }
    let snapshot = with_links(entries);
    for (path, entry) in &snapshot {
        assert_eq!(
            told[path],
            entry.nlink,
            "link count of {}",
            path.escape_ascii()
        );
    }
    snapshot
}

/// Reads an image with the core's own reader; every file's last page must be fit for mapping.
pub fn core_snapshot(image: &Path) -> Snapshot {
    let bytes = std::fs::read(image).expect("image is readable");
    let images = MemImages(vec![MemBlock {
        bytes,
        mapped: true,
    }]);
    let fs = ImgFs::open(&images, ImageId(0), &[]).expect("the core opens the image");
    let mut entries = Vec::new();
    let mut stack = vec![(Vec::new(), fs.root())];
    while let Some((path, nid)) = stack.pop() {
        let inode = fs.inode(&images, nid).expect("inode");
        let content = match inode.mode & 0o170000 {
            0o100000 => {
                assert!(fs.slack_is_zero(&images, &inode).expect("last page"));
                let mut content = vec![0; inode.size as usize];
                assert_eq!(
                    fs.read(&images, &inode, 0, &mut content).expect("content"),
                    content.len()
                );
                digest(&content[..])
            }
            0o040000 => {
                let mut names = Vec::new();
                fs.read_dir(&images, &inode, 0, &mut |entry, _| {
                    let name = if path.is_empty() {
                        entry.name.to_vec()
                    } else {
                        [&path[..], b"/", entry.name].concat()
                    };
                    names.push((entry.name.to_vec(), entry.nid));
                    stack.push((name, entry.nid));
                    true
                })
                .expect("directory");
                for (name, nid) in names {
                    let found = fs
                        .lookup(&images, &inode, &name)
                        .expect("lookup")
                        .expect("listed names are found");
                    assert_eq!(found.0, nid);
                }
                Vec::new()
            }
            _ => fs.read_link(&images, &inode).expect("link"),
        };
        let xattr = |name: Vec<u8>| {
            let value = fs
                .xattr(&images, &inode, &name)
                .expect("attribute")
                .expect("listed attributes are found");
            (name, value)
        };
        let entry = Entry {
            mode: inode.mode,
            uid: inode.uid,
            gid: inode.gid,
            mtime: inode.mtime,
            size: if inode.mode & 0o170000 == 0o040000 {
                0
            } else {
                inode.size
            },
            device: (
                inode.rdev >> 8 & 0xfff,
                inode.rdev & 0xff | inode.rdev >> 12 & 0xfff00,
            ),
            nlink: 0,
            same_as: Vec::new(),
            xattrs: fs
                .list_xattr(&images, &inode)
                .expect("attributes")
                .into_iter()
                .map(xattr)
                .collect(),
            content,
        };
        entries.push((path, (0, nid), entry));
    }
    with_links(entries)
}

/// Fails with the paths that differ.
pub fn assert_same(expected: &Snapshot, actual: &Snapshot, what: &str) {
    let mut differences = Vec::new();
    for path in expected.keys().chain(actual.keys()) {
        let (e, a) = (expected.get(path), actual.get(path));
        if e != a && differences.len() < 5 {
            let text =
                |entry: Option<&Entry>| format!("{entry:?}").chars().take(600).collect::<String>();
            differences.push(format!(
                "{}:\n  expected {}\n  found    {}",
                path.escape_ascii(),
                text(e),
                text(a)
            ));
        }
    }
    assert!(
        differences.is_empty(),
        "{what} differs:\n{}",
        differences.join("\n")
    );
}

/// A mount that goes away with the value.
pub struct Mount(pub PathBuf);

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, UnmountFlags::DETACH);
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// Mounts the image file itself, without a loop device; `None`, with the skip line, where that cannot be.
pub fn mount(image: &Path) -> Option<Mount> {
    if !is_root() {
        skip("mounting an image needs root");
        return None;
    }
    let mut name = image.as_os_str().to_owned();
    name.push(".mnt");
    let target = PathBuf::from(name);
    std::fs::create_dir_all(&target).expect("mount point");
    match rustix::mount::mount(image, &target, c"erofs", MountFlags::RDONLY, None) {
        Ok(()) => Some(Mount(target)),
        Err(
            e @ (rustix::io::Errno::NODEV | rustix::io::Errno::NOTBLK | rustix::io::Errno::PERM),
        ) => {
            skip(&format!("the kernel cannot mount image files here: {e}"));
            None
        }
        Err(e) => panic!("mount {}: {e}", image.display()),
    }
}

/// `fsck.erofs` must find nothing; its exit status alone does not tell.
pub fn fsck(image: &Path) {
    fsck_with(image, &[]);
}

/// As [`fsck`], with the files of the image's device table.
pub fn fsck_with(image: &Path, devices: &[PathBuf]) {
    let options = devices.iter().map(|path| {
        let mut option = std::ffi::OsString::from("--device=");
        option.push(path);
        option
    });
    let options: Vec<_> = options.chain([image.as_os_str().to_owned()]).collect();
    let args: Vec<_> = options.iter().map(|option| option.as_os_str()).collect();
    if let Some(output) = tool("fsck.erofs", &args) {
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && stderr.is_empty(),
            "fsck.erofs {}: {}: {stderr}",
            image.display(),
            output.status
        );
    }
}

/// Compares an image with `expected` through every oracle there is.
pub fn check(image: &Path, expected: &Snapshot) {
    check_bytes(image);
    fsck(image);
    assert_same(expected, &image_snapshot(image), "image read by erofs-rs");
    if let Some(mount) = mount(image) {
        assert_same(
            expected,
            &snapshot(&mount.0, true),
            "image mounted by the kernel",
        );
    }
}

/// The superblock fields that the write profile fixes.
pub fn check_bytes(image: &Path) {
    check_front(image, 0, false);
}

/// As [`check_bytes`] for a layer of a container image.
pub fn check_sealed(image: &Path) {
    check_front(image, 0, true);
}

/// As [`check_bytes`] for an image with these incompatible features.
pub fn check_head(image: &Path, incompat: u32) {
    check_front(image, incompat, false);
}

fn check_front(image: &Path, incompat: u32, sealed: bool) {
    let mut head = [0; 4096];
    let mut file = File::open(image).expect("image");
    file.read_exact(&mut head).expect("first block");
    assert_eq!(
        file.metadata().expect("stat").permissions().mode() & 0o7777,
        0o444
    );
    let u32_at =
        |at: usize| u32::from_le_bytes(head[1024 + at..][..4].try_into().expect("4 bytes"));
    assert_eq!(u32_at(0), 0xE0F5_E1E2);
    assert_eq!(u32_at(0x08), 3, "compatible features");
    assert_eq!(u32_at(0x50), incompat, "incompatible features");
    assert_eq!(head[1024 + 0x0c], 12, "block size");
    let mut covered = head[1024..].to_vec();
    covered[4..8].fill(0);
    assert_eq!(u32_at(4), !crc32c::crc32c(&covered), "checksum");
    let blocks = u64::from(u32_at(0x24));
    let len = file.metadata().expect("stat").len();
    match sealed {
        true => assert!(blocks * 4096 < len, "a Merkle tree follows"),
        false => assert_eq!(blocks * 4096, len),
    }
}

/// Builds `source` and gives the image's path and the report.
pub fn build(source: &Path, image: &Path) -> BuildReport {
    varve_image::build_dir(source, image, &BuildOptions::default(), &mut ()).expect("build")
}

/// What an image of `source` must hold: the tree itself, and the mark on directories with whiteouts.
pub fn expected(source: &Path) -> Snapshot {
    let mut tree = snapshot(source, false);
    let whiteouts: Vec<Vec<u8>> = tree
        .iter()
        .filter(|(_, e)| e.mode & 0o170000 == 0o020000 && e.device == (0, 0))
        .map(|(path, _)| path[..path.iter().rposition(|&b| b == b'/').unwrap_or(0)].to_vec())
        .collect();
    for parent in whiteouts {
        tree.get_mut(&parent)
            .expect("parent")
            .xattrs
            .insert(b"trusted.overlay.origin".to_vec(), Vec::new());
    }
    tree
}

/// Small reproducible random numbers (SplitMix64).
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}
