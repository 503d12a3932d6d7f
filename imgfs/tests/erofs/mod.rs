//! One view of an image for all readers: ours, the kernel's and that of the crate `erofs-rs`.
#![allow(dead_code, reason = "each test binary uses a part")]

pub mod make;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use erofs_rs::EroFS;
use erofs_rs::backend::SliceImage;
use rustix::fs::{AtFlags, CWD, FileType};
use rustix::mount::{MountFlags, UnmountFlags};
use varve_imgfs::{ImageId, ImgFs, MemBlock, MemImages, Source};

/// Everything a program can see of one name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    pub ino: u64,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub nlink: u64,
    pub size: u64,
    pub device: (u32, u32),
    pub mtime: (i64, u32),
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Bytes of a file, target of a link.
    pub content: Vec<u8>,
}

/// A tree by path; the root is the empty path.
pub type Snapshot = BTreeMap<Vec<u8>, Entry>;

fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    match dir {
        b"" => name.to_vec(),
        _ => [dir, b"/", name].concat(),
    }
}

/// Says, once, that something could not be tested here; with `VARVE_TEST_NO_SKIP=1` that is a failure.
pub fn skip(why: &str) {
    use std::io::Write;
    let must = std::env::var_os("VARVE_TEST_NO_SKIP").is_some_and(|value| value == "1");
    assert!(!must, "skipped: {why}");
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    if SAID.lock().expect("no panic here").insert(why.into()) {
        // Not the macro: the test harness would swallow it.
        let _ = writeln!(std::io::stderr(), "SKIP: {why}");
    }
}

/// Files in memory for the core, the image first.
pub fn files(files: &[&[u8]], mapped: bool) -> MemImages {
    let block = |bytes: &&[u8]| MemBlock {
        bytes: bytes.to_vec(),
        mapped,
    };
    MemImages(files.iter().map(block).collect())
}

/// What the core reads; also that all ways of reading a file agree.
pub fn by_core(images: &MemImages) -> Snapshot {
    let devices: Vec<ImageId> = (1..images.0.len() as u32).map(ImageId).collect();
    let fs = ImgFs::open(images, ImageId(0), &devices).expect("the core opens the image");
    let mut entries = Snapshot::new();
    let mut stack = vec![(Vec::new(), fs.root())];
    while let Some((path, nid)) = stack.pop() {
        let inode = fs.inode(images, nid).expect("inode");
        let content = match inode.mode & 0o170000 {
            0o100000 => core_content(&fs, images, &inode),
            0o040000 => {
                let mut names = Vec::new();
                fs.read_dir(images, &inode, 0, &mut |entry, next| {
                    names.push((entry.name.to_vec(), entry.nid, entry.kind, next));
                    true
                })
                .expect("directory");
                for (at, (name, nid, kind, next)) in names.iter().enumerate() {
                    let found = fs.lookup(images, &inode, name).expect("lookup");
                    assert_eq!(found, Some((*nid, *kind)), "a listed name is found");
                    for absent in [[name, &b"~"[..]].concat(), [b"!", &name[..]].concat()] {
                        let listed = names.iter().any(|(name, ..)| *name == absent);
                        let found = fs.lookup(images, &inode, &absent).expect("lookup");
                        assert_eq!(found.is_some(), listed);
                    }
                    // Reading goes on at each position.
                    let mut rest = None;
                    fs.read_dir(images, &inode, *next, &mut |entry, _| {
                        rest = Some(entry.name.to_vec());
                        false
                    })
                    .expect("directory");
                    assert_eq!(rest.as_ref(), names.get(at + 1).map(|(name, ..)| name));
                    stack.push((join(&path, name), *nid));
                }
                Vec::new()
            }
            _ => fs.read_link(images, &inode).expect("link"),
        };
        let value = |name: Vec<u8>| {
            let value = fs.xattr(images, &inode, &name).expect("attribute");
            (name, value.expect("a listed attribute is there"))
        };
        let names = fs.list_xattr(images, &inode).expect("attributes");
        let entry = Entry {
            ino: nid,
            mode: inode.mode,
            uid: inode.uid,
            gid: inode.gid,
            nlink: u64::from(inode.nlink),
            size: inode.size,
            device: (
                inode.rdev >> 8 & 0xfff,
                inode.rdev & 0xff | inode.rdev >> 12 & 0xfff00,
            ),
            mtime: inode.mtime,
            xattrs: names.into_iter().map(value).collect(),
            content,
        };
        entries.insert(path, entry);
    }
    entries
}

/// The bytes of a file: as extents, in one piece, and in odd pieces.
fn core_content(fs: &ImgFs, images: &MemImages, inode: &varve_imgfs::erofs::Inode) -> Vec<u8> {
    let mut whole = vec![0xaa; inode.size as usize + 1];
    let len = fs.read(images, inode, 0, &mut whole).expect("content");
    assert_eq!(len as u64, inode.size);
    whole.truncate(len);
    let mut at = 0;
    while let Some(extent) = fs.extent(images, inode, at).expect("extent") {
        let range = at as usize..(at + extent.len) as usize;
        match extent.source {
            Source::Zero => assert!(whole[range].iter().all(|&byte| byte == 0)),
            Source::Image { image, offset } => {
                let file = &images.0[image.0 as usize].bytes;
                let bytes = &file[offset as usize..(offset + extent.len) as usize];
                assert!(whole[range] == *bytes, "the extent is where the bytes are");
            }
        }
        // An extent from its middle on is the rest of it.
        let half = fs.extent(images, inode, at + extent.len / 2).expect("half");
        let half = half.expect("not at the end");
        assert!(half.len >= extent.len - extent.len / 2);
        at += extent.len;
    }
    assert_eq!(at, inode.size);
    let mut pieces = Vec::new();
    let mut buf = [0; 1237];
    loop {
        let len = fs
            .read(images, inode, pieces.len() as u64, &mut buf)
            .expect("piece");
        if len == 0 {
            break;
        }
        pieces.extend_from_slice(&buf[..len]);
    }
    assert!(pieces == whole, "reading in pieces gives the same");
    whole
}

/// What `erofs-rs` reads.
pub fn by_crate(image: &[u8], devices: &[&[u8]]) -> Snapshot {
    let devices: Vec<_> = devices.iter().map(|bytes| SliceImage::new(bytes)).collect();
    let fs = match devices.is_empty() {
        true => EroFS::new(SliceImage::new(image)),
        false => EroFS::new_with_devices(SliceImage::new(image), devices),
    }
    .expect("erofs-rs opens the image");
    let root = fs
        .get_inode(fs.super_block().root_inode_id())
        .expect("root");
    let rest = fs.walk_dir("/").expect("walk").map(|entry| {
        let entry = entry.expect("entry");
        let path = entry.dir_entry.path();
        let path = path.as_bytes().strip_prefix(b"/").expect("absolute");
        (path.to_vec(), entry.inode)
    });
    let mut entries = Snapshot::new();
    for (path, inode) in std::iter::once((Vec::new(), root)).chain(rest) {
        let kind = inode.file_type().as_raw_mode();
        let content = match kind {
            0o100000 => {
                let file = fs.open_inode_file(inode).expect("open");
                let mut content = vec![0; inode.data_size() as usize];
                let mut done = 0;
                while done < content.len() {
                    let len = file
                        .read_at(&mut content[done..], done as u64)
                        .expect("read");
                    assert!(len > 0);
                    done += len;
                }
                content
            }
            0o120000 => fs.read_link_inode(inode).expect("link").as_bytes().to_vec(),
            _ => Vec::new(),
        };
        let entry = Entry {
            ino: inode.id(),
            mode: kind | inode.permissions().mode() & 0o7777,
            uid: inode.uid(),
            gid: inode.gid(),
            nlink: u64::from(inode.nlink()),
            size: inode.data_size(),
            device: inode.device().unwrap_or_default(),
            mtime: inode.modified_unix(),
            xattrs: fs.xattrs_inode(inode).expect("attributes"),
            content,
        };
        entries.insert(path, entry);
    }
    entries
}

/// What the kernel shows below a directory.
pub fn by_kernel(root: &Path) -> Snapshot {
    let mut entries = Snapshot::new();
    let mut stack = vec![Vec::new()];
    while let Some(path) = stack.pop() {
        let full = match path.is_empty() {
            true => root.to_owned(),
            false => root.join(OsStr::from_bytes(&path)),
        };
        let stat = rustix::fs::statat(CWD, &full, AtFlags::SYMLINK_NOFOLLOW).expect("stat");
        let kind = FileType::from_raw_mode(stat.st_mode);
        let content = match kind {
            FileType::RegularFile => std::fs::read(&full).expect("content"),
            FileType::Symlink => std::fs::read_link(&full)
                .expect("link")
                .into_os_string()
                .into_vec(),
            _ => Vec::new(),
        };
        if kind == FileType::Directory {
            for entry in std::fs::read_dir(&full).expect("directory") {
                stack.push(join(&path, entry.expect("entry").file_name().as_bytes()));
            }
        }
        let device = match kind {
            FileType::CharacterDevice | FileType::BlockDevice => {
                let rdev = stat.st_rdev;
                (rustix::fs::major(rdev), rustix::fs::minor(rdev))
            }
            _ => (0, 0),
        };
        let entry = Entry {
            ino: stat.st_ino,
            mode: stat.st_mode,
            uid: stat.st_uid,
            gid: stat.st_gid,
            nlink: stat.st_nlink as u64,
            size: stat.st_size as u64,
            device,
            mtime: (stat.st_mtime as i64, stat.st_mtime_nsec as u32),
            xattrs: kernel_xattrs(&full),
            content,
        };
        entries.insert(path, entry);
    }
    entries
}

fn kernel_xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 65536];
    let len = match rustix::fs::llistxattr(path, &mut names[..]) {
        Ok(len) => len,
        Err(rustix::io::Errno::OPNOTSUPP) => 0,
        Err(error) => panic!("listxattr {}: {error}", path.display()),
    };
    let get = |name: &[u8]| {
        let mut value = vec![0; 65536];
        let len = rustix::fs::lgetxattr(path, name, &mut value[..]).expect("getxattr");
        value.truncate(len);
        (name.to_vec(), value)
    };
    let names = names[..len].split(|&byte| byte == 0);
    names.filter(|name| !name.is_empty()).map(get).collect()
}

/// A mount that goes away with the value.
pub struct Mount(pub PathBuf);

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, UnmountFlags::DETACH);
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// Mounts an image file, without a loop device; `None`, with the skip line, where that cannot be.
pub fn mount(image: &Path, devices: &[PathBuf]) -> Option<Mount> {
    if !rustix::process::geteuid().is_root() {
        skip("mounting an image needs root");
        return None;
    }
    let mut name = image.as_os_str().to_owned();
    name.push(".mnt");
    let target = PathBuf::from(name);
    std::fs::create_dir_all(&target).expect("mount point");
    let options: Vec<_> = devices
        .iter()
        .map(|path| format!("device={}", path.display()))
        .collect();
    let options = CString::new(options.join(",")).expect("no NUL");
    match rustix::mount::mount(
        image,
        &target,
        c"erofs",
        MountFlags::RDONLY,
        options.as_c_str(),
    ) {
        Ok(()) => Some(Mount(target)),
        Err(
            error
            @ (rustix::io::Errno::NODEV | rustix::io::Errno::NOTBLK | rustix::io::Errno::PERM),
        ) => {
            skip(&format!(
                "the kernel cannot mount image files here: {error}"
            ));
            None
        }
        Err(error) => panic!("mount {}: {error}", image.display()),
    }
}

/// Fails with the names that differ.
pub fn assert_same(expected: &Snapshot, found: &Snapshot, what: &str) {
    let mut differences = Vec::new();
    for path in expected.keys().chain(found.keys()) {
        let (one, other) = (expected.get(path), found.get(path));
        if one != other && differences.len() < 4 {
            let text =
                |entry: Option<&Entry>| format!("{entry:?}").chars().take(500).collect::<String>();
            let path = path.escape_ascii();
            differences.push(format!("{path}:\n  {}\n  {}", text(one), text(other)));
        }
    }
    assert!(
        differences.is_empty(),
        "{what}:\n{}",
        differences.join("\n")
    );
}

/// Compares all readers on one image (with its devices): the core with mapped and with copied files, the
/// crate, and, if `kernel`, the kernel. Gives what they all see.
pub fn all_agree(
    dir: &Path,
    what: &str,
    image: &[u8],
    devices: &[&[u8]],
    kernel: bool,
) -> Snapshot {
    let all: Vec<&[u8]> = std::iter::once(image)
        .chain(devices.iter().copied())
        .collect();
    let core = by_core(&files(&all, true));
    assert_same(
        &core,
        &by_core(&files(&all, false)),
        &format!("{what}: mapped and copied"),
    );
    assert_same(
        &core,
        &by_crate(image, devices),
        &format!("{what}: core and erofs-rs"),
    );
    if kernel {
        let path = dir.join("all-agree.erofs");
        std::fs::write(&path, image).expect("image");
        let mut paths = Vec::new();
        for (index, bytes) in devices.iter().enumerate() {
            paths.push(dir.join(format!("device-{index}")));
            std::fs::write(&paths[index], bytes).expect("device");
        }
        if let Some(mount) = mount(&path, &paths) {
            assert_same(
                &core,
                &by_kernel(&mount.0),
                &format!("{what}: core and kernel"),
            );
        }
    }
    core
}

/// Permission bits of a mode.
pub fn permissions(mode: u32) -> std::fs::Permissions {
    std::fs::Permissions::from_mode(mode)
}
