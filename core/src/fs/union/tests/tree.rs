//! Random layers as host directory trees in memory.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use alloc::{format, vec};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::std;
use crate::abi::Errno;
use crate::abi::raw::general::{S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG};
use crate::machine::ImageId;
use crate::memhost::{MemHost, MemMemory};
use crate::port::{HostTree, NodeAttr, NodeEntry, NodeId};

/// A small pseudo-random generator (SplitMix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len() as u64) as usize]
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8 | 1).collect()
    }
}

/// A file of a layer.
#[derive(Clone, Debug)]
pub struct File {
    pub mode: u32,
    pub uid: u32,
    pub nlink: u32,
    pub rdev: u32,
    pub mtime: i64,
    pub data: Vec<u8>,
    pub children: BTreeMap<Vec<u8>, usize>,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    image: u32,
}

impl File {
    pub fn kind(&self) -> u32 {
        self.mode & S_IFMT
    }

    pub fn is_whiteout(&self) -> bool {
        self.kind() == S_IFCHR && self.rdev == 0
    }

    pub fn is_opaque(&self) -> bool {
        self.xattrs.get(&b"trusted.overlay.opaque"[..]) == Some(&b"y".to_vec())
    }
}

/// Trees of files; tree `n` starts at `roots[n]`.
#[derive(Clone, Debug, Default)]
pub struct MemTree {
    pub files: Vec<File>,
    pub roots: Vec<usize>,
    /// Nodes given out: one for each name, even of one file.
    nodes: Vec<usize>,
    found: BTreeMap<(NodeId, Vec<u8>), NodeId>,
}

pub const NAMES: [&[u8]; 8] = [
    b"a",
    b"b",
    b"c",
    b"d",
    b"e",
    b"\xff\x80",
    b".x",
    b"long name",
];

impl MemTree {
    pub fn add(&mut self, mode: u32, data: Vec<u8>) -> usize {
        self.files.push(File {
            mode,
            uid: 0,
            nlink: if mode & S_IFMT == S_IFDIR { 2 } else { 1 },
            rdev: 0,
            mtime: 1000 + self.files.len() as i64,
            data,
            children: BTreeMap::new(),
            xattrs: BTreeMap::new(),
            image: self.files.len() as u32,
        });
        self.files.len() - 1
    }

    /// A layer of random files with whiteouts and opaque directories in between.
    pub fn random_layer(&mut self, random: &mut Random) {
        let root = self.add(S_IFDIR | 0o755, Vec::new());
        self.roots.push(root);
        let mut dirs = vec![root];
        let mut files: Vec<usize> = Vec::new();
        for _ in 0..random.below(30) {
            let parent = *random.pick(&dirs);
            let name = random.pick(&NAMES).to_vec();
            if self.files[parent].children.contains_key(&name) {
                continue;
            }
            let file = match random.below(10) {
                0..3 if dirs.len() < 12 => {
                    let dir = self.add(S_IFDIR | 0o700 | random.below(0o100) as u32, Vec::new());
                    if random.chance(25) {
                        let xattrs = &mut self.files[dir].xattrs;
                        xattrs.insert(b"trusted.overlay.opaque".to_vec(), b"y".to_vec());
                    }
                    self.files[parent].nlink += 1;
                    dirs.push(dir);
                    dir
                }
                3..5 => self.add(S_IFCHR, Vec::new()),
                5 => self.add(S_IFLNK | 0o777, b"target".to_vec()),
                6 => self.add(S_IFIFO | 0o600, Vec::new()),
                7 if !files.is_empty() => {
                    let file = *random.pick(&files);
                    self.files[file].nlink += 1;
                    file
                }
                _ => {
                    let len = *random.pick(&[0, 1, 100, 4095, 4096, 4097, 9000, 20_000]);
                    let data = random.bytes(len);
                    let file = self.add(S_IFREG | 0o644, data);
                    files.push(file);
                    file
                }
            };
            // Linux has user attributes on these only.
            if random.chance(20) && matches!(self.files[file].kind(), S_IFREG | S_IFDIR) {
                let xattrs = &mut self.files[file].xattrs;
                xattrs.insert(b"user.one".to_vec(), random.bytes(3));
            }
            self.files[parent].children.insert(name, file);
        }
    }

    /// An image of each layer, lowest first, made from tar streams.
    pub fn images(&self) -> Vec<Vec<u8>> {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        let build = |&root: &usize| {
            let mut tar = tar::Builder::new(Vec::new());
            self.append(&mut tar, root, b"./", &mut BTreeMap::new());
            let tar = tar.into_inner().unwrap();
            let options = varve_image::BuildOptions::default();
            varve_image::build_tar(&mut &tar[..], "layer", &image, &options, &mut ()).unwrap();
            std::fs::read(&image).unwrap()
        };
        self.roots.iter().map(build).collect()
    }

    /// Adds a file and all below it to a tar stream.
    fn append(
        &self,
        tar: &mut tar::Builder<Vec<u8>>,
        index: usize,
        path: &[u8],
        done: &mut BTreeMap<usize, Vec<u8>>,
    ) {
        let file = &self.files[index];
        let mut header = tar::Header::new_gnu();
        header.set_mode(file.mode & 0o7777);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        header.set_mtime(file.mtime as u64);
        if let Some(first) = done.get(&index) {
            header.set_entry_type(tar::EntryType::Link);
            tar.append_link(&mut header, as_path(path), as_path(first))
                .unwrap();
            return;
        }
        done.insert(index, path.to_vec());
        let xattrs = file
            .xattrs
            .iter()
            .filter(|(name, _)| name.starts_with(b"user."));
        let xattrs: Vec<_> = xattrs
            .map(|(name, value)| (format!("SCHILY.xattr.{}", name.escape_ascii()), value))
            .collect();
        let pairs = xattrs
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_slice()));
        if !xattrs.is_empty() {
            tar.append_pax_extensions(pairs).unwrap();
        }
        match file.kind() {
            S_IFDIR => {
                header.set_entry_type(tar::EntryType::Directory);
                tar.append_data(&mut header, as_path(path), &[][..])
                    .unwrap();
                let empty = |tar: &mut tar::Builder<Vec<u8>>, name: &[u8]| {
                    let mut header = tar::Header::new_gnu();
                    header.set_size(0);
                    let path = [path, name].concat();
                    tar.append_data(&mut header, as_path(&path), &[][..])
                        .unwrap();
                };
                if file.is_opaque() {
                    empty(tar, b".wh..wh..opq");
                }
                for (name, &child) in &file.children {
                    match &self.files[child] {
                        gone if gone.is_whiteout() => empty(tar, &[b".wh.", &name[..]].concat()),
                        dir if dir.kind() == S_IFDIR => {
                            self.append(tar, child, &[path, name, b"/"].concat(), done);
                        }
                        _ => self.append(tar, child, &[path, name].concat(), done),
                    }
                }
            }
            S_IFREG => {
                header.set_size(file.data.len() as u64);
                tar.append_data(&mut header, as_path(path), &file.data[..])
                    .unwrap();
            }
            S_IFLNK => {
                header.set_entry_type(tar::EntryType::Symlink);
                tar.append_link(&mut header, as_path(path), as_path(&file.data))
                    .unwrap();
            }
            _ => {
                header.set_entry_type(tar::EntryType::Fifo);
                tar.append_data(&mut header, as_path(path), &[][..])
                    .unwrap();
            }
        }
    }

    /// A host with these trees.
    pub fn host(self, frames: u32) -> MemHost<MemTree> {
        let images = self.files.iter().map(|file| file.data.clone()).collect();
        let mut host = MemHost::with_tree(frames, images, self);
        host.images
            .0
            .iter_mut()
            .for_each(|image| image.mapped = false);
        let _: &MemMemory = &host.memory;
        host
    }

    fn file(&self, node: NodeId) -> Result<&File, Errno> {
        let index = *self.nodes.get(node.0 as usize).ok_or(Errno::ESTALE)?;
        self.files.get(index).ok_or(Errno::ESTALE)
    }

    fn node(&mut self, from: (NodeId, Vec<u8>), index: usize) -> NodeId {
        *self.found.entry(from).or_insert_with(|| {
            self.nodes.push(index);
            NodeId(self.nodes.len() as u64 - 1)
        })
    }
}

impl HostTree for MemTree {
    fn root(&mut self, tree: u32) -> Result<NodeId, Errno> {
        let root = self.roots[tree as usize];
        Ok(self.node((NodeId(u64::from(tree)), b"/".to_vec()), root))
    }

    fn lookup(&mut self, dir: NodeId, name: &[u8]) -> Result<NodeId, Errno> {
        let file = self.file(dir)?;
        match file.kind() {
            S_IFDIR => {
                let child = *file.children.get(name).ok_or(Errno::ENOENT)?;
                Ok(self.node((dir, name.to_vec()), child))
            }
            _ => Err(Errno::ENOTDIR),
        }
    }

    fn attr(&mut self, node: NodeId) -> Result<NodeAttr, Errno> {
        let file = self.file(node)?;
        Ok(NodeAttr {
            mode: file.mode,
            uid: file.uid,
            gid: 0,
            nlink: file.nlink,
            size: file.data.len() as u64,
            rdev: file.rdev,
            dev: 1,
            ino: u64::from(file.image),
            mtime: (file.mtime, 5),
            acl: file.xattrs.contains_key(&b"system.posix_acl_access"[..]),
        })
    }

    fn read_dir(&mut self, dir: NodeId) -> Result<Vec<NodeEntry>, Errno> {
        let dir = self.file(dir)?;
        let entry = |(name, &child): (&Vec<u8>, &usize)| NodeEntry {
            name: name.clone(),
            kind: (self.files[child].mode >> 12) as u8,
        };
        Ok(dir.children.iter().map(entry).collect())
    }

    fn read_link(&mut self, node: NodeId) -> Result<Vec<u8>, Errno> {
        Ok(self.file(node)?.data.clone())
    }

    fn open(&mut self, node: NodeId) -> Result<ImageId, Errno> {
        Ok(ImageId(self.file(node)?.image))
    }

    fn list_xattr(&mut self, node: NodeId) -> Result<Vec<Vec<u8>>, Errno> {
        Ok(self.file(node)?.xattrs.keys().cloned().collect())
    }

    fn get_xattr(&mut self, node: NodeId, name: &[u8]) -> Result<Vec<u8>, Errno> {
        let value = self.file(node)?.xattrs.get(name);
        value.cloned().ok_or(Errno::ENODATA)
    }
}

fn as_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}
