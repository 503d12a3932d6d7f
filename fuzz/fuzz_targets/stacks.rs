//! Stacks of random layers against a naive model of the union, and the merged index against both.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use varve_imgfs::{ImageId, MemImages, MergedIndex, Stack};
use varve_fuzz::{images, scratch};
use varve_image::walk::{Next, walk};
use varve_image::{BuildOptions, MergeLayer, build_tar, merge};

/// Up to three names, each one of a few.
type Path = [u8; 3];

#[derive(Arbitrary, Debug)]
enum Entry {
    File {
        path: Path,
        content: u8,
        size: u16,
        attr: u16,
    },
    Dir {
        path: Path,
        attr: u16,
    },
    Symlink {
        path: Path,
    },
    /// A further name of a file that the layer has.
    Link {
        path: Path,
        target: Path,
    },
    Whiteout {
        path: Path,
    },
    Opaque {
        path: Path,
    },
}

/// Mode, owner and time out of one number.
fn set_attr(header: &mut tar::Header, attr: u16) {
    header.set_mode(u32::from(attr) & 0o7777);
    header.set_uid(u64::from(attr >> 4));
    header.set_gid(u64::from(attr >> 8));
    header.set_mtime(u64::from(attr) << 16);
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Dir,
    File(u8, u64),
    Symlink,
}

type Tree = BTreeMap<String, Kind>;

/// A path without its end: 0 ends it. A symbolic link has a name that nothing is below of.
fn text(path: Path) -> String {
    let names = path.iter().take_while(|byte| **byte % 6 != 0);
    let names: Vec<_> = names
        .map(|byte| ["", "a", "b", "c", "d", "e"][usize::from(byte % 6)])
        .collect();
    names.join("/")
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

fn below<'a>(path: &'a str, dir: &str) -> bool {
    dir.is_empty() && !path.is_empty()
        || path
            .strip_prefix(dir)
            .is_some_and(|rest| rest.starts_with('/'))
}

/// What one layer says, by the rules of OCI.
#[derive(Default)]
struct Layer {
    tree: Tree,
    whiteouts: BTreeSet<String>,
    opaque: BTreeSet<String>,
    /// Directories that have no entry of their own.
    implied: BTreeSet<String>,
}

impl Layer {
    /// Makes the directories on the way; whether that can be.
    fn make(&mut self, dir: &str) -> bool {
        if dir.is_empty() {
            return true;
        }
        if !self.make(parent(dir)) {
            return false;
        }
        match self.tree.get(dir) {
            None => {
                self.tree.insert(dir.into(), Kind::Dir);
                self.implied.insert(dir.into());
                true
            }
            Some(kind) => *kind == Kind::Dir,
        }
    }

    fn put(&mut self, path: String, kind: Kind) -> bool {
        if path.is_empty() {
            return kind == Kind::Dir;
        }
        if !self.make(parent(&path)) {
            return false;
        }
        let both_dirs = kind == Kind::Dir && self.tree.get(&path) == Some(&Kind::Dir);
        if !both_dirs {
            let gone = |other: &String| below(other, &path);
            self.tree.retain(|other, _| !gone(other));
            self.whiteouts.retain(|other| !gone(other));
            self.opaque.retain(|other| !gone(other) && *other != path);
            self.implied.retain(|other| !gone(other));
        }
        self.implied.remove(&path);
        self.tree.insert(path, kind);
        true
    }

    /// Takes away the directories that are there only because of markers, and are removed by one.
    fn finish(&mut self) {
        let bare = |path: &String| {
            let mut all = self.tree.keys().filter(|other| below(other, path));
            self.implied.contains(path) && all.all(|other| self.implied.contains(other))
        };
        let removed: Vec<String> = self
            .whiteouts
            .iter()
            .filter(|path| bare(path))
            .cloned()
            .collect();
        for path in removed {
            self.tree
                .retain(|other, _| *other != path && !below(other, &path));
        }
    }

    /// Lays the layer over a tree.
    fn over(&self, tree: &mut Tree) {
        for path in &self.whiteouts {
            tree.retain(|other, _| other != path && !below(other, path));
        }
        for path in &self.opaque {
            tree.retain(|other, _| !below(other, path));
        }
        for (path, kind) in &self.tree {
            if *kind != Kind::Dir || tree.get(path) != Some(&Kind::Dir) {
                tree.retain(|other, _| other != path && !below(other, path));
            }
            tree.insert(path.clone(), kind.clone());
        }
    }
}

/// A layer as an archive, and as the model has it; `None` for one that no archive of a layer can be.
fn archive(entries: &[Entry]) -> Option<(Vec<u8>, Layer)> {
    let mut layer = Layer::default();
    let mut tar = tar::Builder::new(Vec::new());
    for entry in entries.iter().take(24) {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o755);
        header.set_size(0);
        let (path, fits, bytes) = match entry {
            Entry::File {
                path,
                content,
                size,
                attr,
            } => {
                set_attr(&mut header, *attr);
                let size = u64::from(*size);
                header.set_size(size);
                let path = text(*path);
                let fits = !path.is_empty() && layer.put(path.clone(), Kind::File(*content, size));
                (path, fits, vec![*content; size as usize])
            }
            Entry::Link { path, target } => {
                let (path, target) = (text(*path), text(*target));
                let Some(kind @ Kind::File(..)) = layer.tree.get(&target).cloned() else {
                    return None;
                };
                // The file itself again: which one goes first is for the tests of archives.
                let apart = path != target && !below(&target, &path) && !path.is_empty();
                let fits = apart && layer.put(path.clone(), kind);
                header.set_entry_type(tar::EntryType::Link);
                header.set_link_name(&target).unwrap();
                (path, fits, Vec::new())
            }
            Entry::Dir { path, attr } => {
                set_attr(&mut header, *attr);
                header.set_entry_type(tar::EntryType::Directory);
                let path = text(*path);
                let fits = layer.put(path.clone(), Kind::Dir);
                (format!("./{path}"), fits, Vec::new())
            }
            Entry::Symlink { path } => {
                header.set_entry_type(tar::EntryType::Symlink);
                let dir = text([path[0], path[1], 0]);
                let path = [dir.as_str(), "link"]
                    .join("/")
                    .trim_start_matches('/')
                    .to_owned();
                let fits = layer.put(path.clone(), Kind::Symlink);
                header.set_link_name("a/b").unwrap();
                (path, fits, Vec::new())
            }
            Entry::Whiteout { path } => {
                let path = text(*path);
                let dir = parent(&path);
                let name = path.rsplit('/').next().unwrap_or_default();
                let fits = !path.is_empty() && layer.make(dir);
                layer.whiteouts.insert(path.clone());
                (
                    format!("{dir}/.wh.{name}")
                        .trim_start_matches('/')
                        .to_owned(),
                    fits,
                    Vec::new(),
                )
            }
            Entry::Opaque { path } => {
                let dir = text(*path);
                // The root's is a matter of the conversion: overlayfs does not look at it.
                let fits = !dir.is_empty() && layer.make(&dir);
                layer.opaque.insert(dir.clone());
                (
                    format!("{dir}/.wh..wh..opq")
                        .trim_start_matches('/')
                        .to_owned(),
                    fits,
                    Vec::new(),
                )
            }
        };
        if !fits {
            return None;
        }
        header.set_cksum();
        tar.append_data(&mut header, path, &bytes[..]).unwrap();
    }
    layer.finish();
    Some((tar.into_inner().unwrap(), layer))
}

/// All that is known of an object but its contents; `links` are its names, those of directories none.
#[derive(Debug, PartialEq, Eq)]
struct Details {
    mode: u32,
    owner: (u32, u32),
    time: (i64, u32),
    links: Vec<String>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// The details of everything in a stack, by path.
fn details(all: &MemImages, stack: &mut Stack) -> BTreeMap<String, Details> {
    let mut tree = BTreeMap::new();
    let mut names: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    let mut inodes = BTreeMap::new();
    let root = stack.root();
    walk(stack, all, root, &mut |stack, item| {
        let attr = item.attr.unwrap();
        let path = String::from_utf8(item.path.to_vec()).unwrap();
        let list = stack.list_xattr(all, item.inode).unwrap();
        let xattrs = list.into_iter().map(|name| {
            let value = stack.xattr(all, item.inode, &name).unwrap();
            (name, value)
        });
        let details = Details {
            mode: attr.mode,
            owner: (attr.uid, attr.gid),
            time: (attr.mtime.sec, attr.mtime.nsec),
            links: Vec::new(),
            xattrs: xattrs.collect(),
        };
        if attr.mode & 0o170000 != 0o040000 {
            names.entry(item.inode.0).or_default().push(path.clone());
            inodes.insert(path.clone(), item.inode.0);
        }
        tree.insert(path, details);
        Ok::<_, ()>(Next::Into)
    })
    .unwrap();
    for (path, inode) in inodes {
        let mut links = names[&inode].clone();
        links.sort();
        tree.get_mut(&path).unwrap().links = links;
    }
    tree
}

/// What a stack shows.
fn shown(all: &MemImages, stack: &mut Stack) -> Tree {
    let mut tree = Tree::new();
    let root = stack.root();
    walk(stack, all, root, &mut |stack, item| {
        let attr = item.attr.unwrap();
        let kind = match attr.mode & 0o170000 {
            0o040000 => Kind::Dir,
            0o120000 => Kind::Symlink,
            _ => {
                let mut bytes = vec![0; attr.size as usize];
                assert_eq!(
                    stack.read(all, item.inode, 0, &mut bytes).unwrap(),
                    bytes.len()
                );
                let first = bytes.first().copied().unwrap_or_default();
                assert!(bytes.iter().all(|byte| *byte == first));
                Kind::File(first, attr.size)
            }
        };
        if !item.path.is_empty() {
            tree.insert(String::from_utf8(item.path.to_vec()).unwrap(), kind);
        }
        Ok::<_, ()>(Next::Into)
    })
    .unwrap();
    tree
}

fuzz_target!(|layers: Vec<Vec<Entry>>| {
    let layers = &layers[..layers.len().min(5)];
    if layers.is_empty() {
        return;
    }
    let dir = scratch();
    let mut expected = Tree::new();
    let mut files = Vec::new();
    for entries in layers {
        let Some((tar, layer)) = archive(entries) else {
            return;
        };
        layer.over(&mut expected);
        let image = dir.path().join("layer");
        build_tar(
            &mut &tar[..],
            "layer",
            &image,
            &BuildOptions::default(),
            &mut (),
        )
        .unwrap();
        files.push(std::fs::read(image).unwrap());
    }
    for kind in expected.values_mut() {
        // An empty file has no first byte.
        if let Kind::File(content, 0) = kind {
            *content = 0;
        }
    }
    let mut all = images(files);
    let ids: Vec<_> = (0..layers.len() as u32).map(ImageId).collect();
    let mut union = Stack::open(&all, &ids, None).unwrap();
    assert_eq!(shown(&all, &mut union), expected);
    let union = details(&all, &mut union);

    let inputs: Vec<_> = ids
        .iter()
        .map(|&image| MergeLayer {
            image,
            digest: [image.0 as u8; 32],
        })
        .collect();
    let index = dir.path().join("index");
    merge(&all, &inputs, &index, &mut ()).unwrap();
    all.0.push(varve_imgfs::MemBlock {
        bytes: std::fs::read(index).unwrap(),
        mapped: true,
    });
    let index = MergedIndex {
        image: ImageId(layers.len() as u32),
        digests: inputs.iter().map(|input| input.digest).collect(),
    };
    let mut merged = Stack::open(&all, &ids, Some(&index)).unwrap();
    assert!(merged.take_faults().is_empty());
    assert_eq!(shown(&all, &mut merged), expected);
    assert_eq!(details(&all, &mut merged), union);
});
