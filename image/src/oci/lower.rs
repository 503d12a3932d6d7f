//! What a layer takes from the layers below it while it is converted: an archive may say only what is
//! different.
//!
//! Directories that it does not describe, only what is in them, take the attributes that they have below, as
//! containerd gives them, unless the layer takes away what is there. Where a layer below has a symbolic link
//! instead, such a directory replaces the link, as with containerd and Docker, which extract a layer over
//! overlayfs without looking at those below; it takes after the directory that the link leads to. A hard link
//! to what only a layer below has, also through links of it, brings that up: the object gets both names, as
//! if the archive were extracted over the layers. An opaque root hides the names below one by one, because
//! overlayfs does not look at a root.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use varve_imgfs::{Block, Errno, ImageId, Images, Ino, Source, Stack};

use super::ImageError;
use crate::BuildError;
use crate::error::Shown;
use crate::merge::{inode_attr, inode_xattrs, open_failure, special};
use crate::tree::{
    Body, DEPTH_MAX, Directory, LINKS_MAX, Node, NodeId, S_IFLNK, S_IFREG, Tree, Xattrs, reversed,
};
use crate::walk::{self, is_dir};
use crate::writer::{Content, DataWriter};

/// Whether a tree depends on what is below it.
pub(super) fn needs(tree: &Tree) -> bool {
    !tree.implied.is_empty() || !tree.borrowed.is_empty() || hides_all(tree)
}

fn hides_all(tree: &Tree) -> bool {
    tree.directory(NodeId::ROOT).is_some_and(|root| root.opaque)
}

/// The layers below. It is short-lived: references to its inodes go with it.
pub(super) struct Lower<'a> {
    stack: Stack,
    images: &'a OpenImages,
}

impl<'a> Lower<'a> {
    /// Opens layers, lowest first.
    pub(super) fn open(images: &'a OpenImages) -> Result<Self, ImageError> {
        let ids: Vec<_> = (0..images.0.len() as u32).map(ImageId).collect();
        let stack = Stack::open(images, &ids, None)
            .map_err(|error| ImageError::bad("the layers below", open_failure(&error)))?;
        Ok(Self { stack, images })
    }

    /// Puts into a tree what it takes from here; `name` is the layer's, for messages.
    pub(super) fn complete(
        mut self,
        name: &str,
        tree: &mut Tree,
        data: &mut DataWriter<'_>,
    ) -> Result<(), ImageError> {
        // Two paths may lead to one object.
        let mut first = BTreeMap::new();
        let mut others = BTreeMap::new();
        for (path, node) in std::mem::take(&mut tree.borrowed) {
            let (inode, path) = self.resolve(name, &path)?;
            match first.entry(path) {
                Entry::Occupied(one) => {
                    others.insert(node, *one.get());
                }
                Entry::Vacant(place) => {
                    self.bring_up(name, place.key(), inode, node, tree, data)?;
                    place.insert(node);
                }
            }
        }
        if !others.is_empty() {
            tree.unite(&others);
        }
        if hides_all(tree) {
            self.hide_names(tree);
        }
        self.describe_implied(tree)
    }

    /// Overlayfs does not look whether the root of a layer is opaque: what the layers below have there goes
    /// away name by name.
    fn hide_names(&mut self, tree: &mut Tree) {
        let root = self.stack.root();
        // Damage below is found when the index is made.
        let (names, _) = walk::names(&mut self.stack, self.images, root);
        if let Some(root) = tree.directory_mut(NodeId::ROOT) {
            root.opaque = false;
        }
        for name in names {
            tree.hide(NodeId::ROOT, &name);
        }
    }

    /// Gives the directories that the layer does not describe the attributes that they have below.
    fn describe_implied(&mut self, tree: &mut Tree) -> Result<(), ImageError> {
        // Both trees side by side: what is not below has nothing below it either.
        let mut todo = vec![(NodeId::ROOT, self.stack.root(), 0, Box::<[u8]>::default())];
        let mut path: Vec<Box<[u8]>> = Vec::new();
        while let Some((id, mut inode, depth, name)) = todo.pop() {
            path.truncate(depth);
            path.push(name);
            let fail = |errno: Errno| below(&path.join(&b'/'), errno);
            let mut attr = self.stack.attr(self.images, inode).map_err(fail)?;
            if (attr.mode & 0o170000) as u16 == S_IFLNK {
                match self.walk(&path.join(&b'/'), true) {
                    Ok((found, _)) => inode = found,
                    // It leads nowhere.
                    Err(_) => continue,
                }
                attr = self.stack.attr(self.images, inode).map_err(fail)?;
            }
            if !is_dir(attr.mode) {
                continue;
            }
            if tree.implied.contains(&id) {
                let xattrs = inode_xattrs(&mut self.stack, self.images, inode).map_err(fail)?;
                if let Some(reason) = tree.full() {
                    return Err(ImageError::bad("the layer", reason));
                }
                tree.describe(id, inode_attr(&attr), xattrs);
            }
            // What the layer takes away is nothing to take after.
            let Some(directory) = tree.directory(id).filter(|directory| !directory.opaque) else {
                continue;
            };
            for (name, &child) in &directory.entries {
                if tree.node(child).body.is_directory()
                    && !directory.whiteouts.contains(name)
                    && let Ok(found) = self.stack.lookup(self.images, inode, name)
                {
                    todo.push((child, found, depth + 1, name.clone()));
                }
            }
        }
        Ok(())
    }

    /// The object at a path and the path without the links on the way; those are followed, a last one only if
    /// that is wanted.
    fn walk(&mut self, path: &[u8], last: bool) -> Result<(Ino, Vec<u8>), Stuck> {
        let mut rest = reversed(path);
        let mut trail: Vec<(Ino, Vec<u8>)> = Vec::new();
        let mut links = 0;
        while let Some(name) = rest.pop() {
            match &*name {
                b"" | b"." => continue,
                b".." => {
                    trail.pop();
                    continue;
                }
                _ => {}
            }
            let at = trail.last().map_or(self.stack.root(), |(inode, _)| *inode);
            let attr = self.stack.attr(self.images, at).map_err(Stuck::Damage)?;
            if !is_dir(attr.mode) {
                let name = trail.pop().map(|(_, name)| name);
                return Err(Stuck::NoDirectory(name.unwrap_or_default()));
            }
            let found = match self.stack.lookup(self.images, at, &name) {
                Ok(found) => found,
                Err(Errno::ENOENT) => return Err(Stuck::Missing),
                Err(errno) => return Err(Stuck::Damage(errno)),
            };
            let attr = self.stack.attr(self.images, found).map_err(Stuck::Damage)?;
            if (attr.mode & 0o170000) as u16 == S_IFLNK && (last || !rest.is_empty()) {
                links += 1;
                if links > LINKS_MAX {
                    return Err(Stuck::NoDirectory(name));
                }
                let target = self.stack.read_link(self.images, found);
                let target = target.map_err(Stuck::Damage)?;
                if target.starts_with(b"/") {
                    trail.clear();
                }
                rest.extend(reversed(&target));
                continue;
            }
            trail.push((found, name));
        }
        let inode = trail.last().map_or(self.stack.root(), |(inode, _)| *inode);
        let names: Vec<_> = trail.into_iter().map(|(_, name)| name).collect();
        Ok((inode, names.join(&b'/')))
    }

    /// What a hard link of the layer names.
    fn resolve(&mut self, layer: &str, path: &[u8]) -> Result<(Ino, Vec<u8>), ImageError> {
        let shown = Shown(path);
        let reason = match self.walk(path, false) {
            Ok(found) => return Ok(found),
            Err(Stuck::Damage(errno)) => return Err(below(path, errno)),
            Err(Stuck::Missing) => {
                format!(
                    "hard link to {shown}, which neither the layer holds before it nor those below"
                )
            }
            Err(Stuck::NoDirectory(name)) => format!(
                "hard link to {shown}, but {} is not a directory in the layers below",
                Shown(&name)
            ),
        };
        Err(ImageError::bad(layer, reason))
    }

    /// Copies the object at a path to a node of the layer, which gets that name, too, unless the layer has
    /// something else to say of it.
    fn bring_up(
        &mut self,
        layer: &str,
        path: &[u8],
        inode: Ino,
        node: NodeId,
        tree: &mut Tree,
        data: &mut DataWriter<'_>,
    ) -> Result<(), ImageError> {
        let shown = || Shown(path).to_string();
        let fail = |errno| below(path, errno);
        let attr = self.stack.attr(self.images, inode).map_err(fail)?;
        let body = match (attr.mode & 0o170000) as u16 {
            _ if is_dir(attr.mode) => {
                let reason = format!("hard link to the directory {}", shown());
                return Err(ImageError::bad(layer, reason));
            }
            S_IFREG => {
                let mut content = LowerFile {
                    lower: self,
                    inode,
                    path,
                    size: attr.size,
                };
                let extent = data.store(attr.size, &mut content)?;
                Body::File {
                    size: attr.size,
                    extent,
                }
            }
            S_IFLNK => {
                let target = self.stack.read_link(self.images, inode);
                Body::Symlink(target.map_err(fail)?.into())
            }
            kind => special(kind, attr.rdev),
        };
        let xattrs = inode_xattrs(&mut self.stack, self.images, inode).map_err(fail)?;
        if let Some(reason) = tree.full() {
            return Err(ImageError::bad(layer, reason));
        }
        tree.describe(node, inode_attr(&attr), xattrs);
        tree.node_mut(node).body = body;
        give_name(tree, path, node);
        Ok(())
    }
}

/// Why a path leads nowhere.
enum Stuck {
    Missing,
    /// The name of what is none on the way.
    NoDirectory(Vec<u8>),
    Damage(Errno),
}

/// Gives a node the name that it has below, if nothing in the layer replaces or hides it.
fn give_name(tree: &mut Tree, path: &[u8], node: NodeId) {
    let parts: Vec<_> = path.split(|&byte| byte == b'/').collect();
    let Some((last, parents)) = parts.split_last() else {
        return;
    };
    if parents.len() > DEPTH_MAX {
        return;
    }
    // First a look, so that nothing is made for nothing.
    let mut at = Some(NodeId::ROOT);
    for name in &parts {
        let Some(id) = at else { break };
        let Some(directory) = tree.directory(id) else {
            return;
        };
        if directory.opaque || directory.whiteouts.contains(*name) {
            return;
        }
        at = directory.entries.get(*name).copied();
    }
    if at.is_some() {
        return;
    }
    let mut at = NodeId::ROOT;
    for name in parents {
        let known = tree.directory(at).and_then(|d| d.entries.get(*name));
        at = match known {
            Some(&id) => id,
            None => {
                let attr = tree.node(NodeId::ROOT).attr;
                let id = tree.push(Node {
                    attr,
                    xattrs: Xattrs::new(),
                    body: Body::Directory(Directory::default()),
                });
                tree.implied.insert(id);
                tree.link(at, name, id);
                id
            }
        };
    }
    tree.link(at, last, node);
}

/// What is wrong with an object below.
fn below(path: &[u8], errno: Errno) -> ImageError {
    let path = Shown(path).to_string();
    let path = path.trim_start_matches('/');
    ImageError::bad(format!("/{path} in the layers below"), errno.to_string())
}

/// A file of the layers below as the content of one of the layer.
struct LowerFile<'a, 'b> {
    lower: &'a mut Lower<'b>,
    inode: Ino,
    path: &'a [u8],
    size: u64,
}

impl LowerFile<'_, '_> {
    fn fail(&self, errno: Errno) -> BuildError {
        BuildError::unsupported([b"/", self.path].concat(), errno.to_string())
    }
}

impl Content for LowerFile<'_, '_> {
    fn hole_end(&mut self, at: u64) -> Result<u64, BuildError> {
        let Lower { stack, images } = self.lower;
        match stack.extent(*images, self.inode, at) {
            Ok(Some(extent)) if matches!(extent.source, Source::Zero) => Ok(at + extent.len),
            Ok(Some(_)) => Ok(at),
            Ok(None) => Ok(self.size),
            Err(errno) => Err(self.fail(errno)),
        }
    }

    fn read(&mut self, at: u64, buf: &mut [u8]) -> Result<(), BuildError> {
        let Lower { stack, images } = self.lower;
        let read = stack.read(*images, self.inode, at, buf);
        read.map(|_| ()).map_err(|errno| self.fail(errno))
    }
}

/// Image files that are read with system calls.
pub(super) struct OpenImages(pub(super) Vec<FileBlock>);

/// One of them.
pub(super) struct FileBlock {
    pub(super) file: File,
    pub(super) len: u64,
}

impl FileBlock {
    pub(super) fn of(file: File, path: &Path) -> Result<Self, ImageError> {
        let meta = file.metadata();
        let len = meta.map_err(|e| ImageError::io("read", path, e))?.len();
        Ok(Self { file, len })
    }
}

impl Block for FileBlock {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), Errno> {
        self.file
            .read_exact_at(buf, offset)
            .map_err(|e| Errno::from_number(e.raw_os_error().unwrap_or_default()))
    }

    fn slice(&self) -> Option<&[u8]> {
        None
    }
}

impl Images for OpenImages {
    fn image(&self, id: ImageId) -> Option<&dyn Block> {
        self.0.get(id.0 as usize).map(|image| image as &dyn Block)
    }
}
