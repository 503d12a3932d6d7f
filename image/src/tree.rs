//! The layer in memory: names, attributes and where each file's data went, one [`Node`] per inode.
//!
//! A source fills it in any order; [`Tree::finish`] turns what whiteout markers said into overlayfs form.

use crate::BuildReport;
use crate::writer::ExtentId;
use crate::xattr::{OPAQUE, ORIGIN};
use std::collections::{BTreeMap, BTreeSet};

pub(crate) const S_IFIFO: u16 = 0o010000;
pub(crate) const S_IFCHR: u16 = 0o020000;
pub(crate) const S_IFDIR: u16 = 0o040000;
pub(crate) const S_IFBLK: u16 = 0o060000;
pub(crate) const S_IFREG: u16 = 0o100000;
pub(crate) const S_IFLNK: u16 = 0o120000;
pub(crate) const S_IFSOCK: u16 = 0o140000;

/// Longest name of a directory entry, in bytes.
pub(crate) const NAME_MAX: usize = 255;
/// Longest target of a symbolic link, in bytes.
pub(crate) const TARGET_MAX: usize = 4095;

/// Most objects of a layer: all of them are in memory while it is built.
pub(crate) const NODES_MAX: usize = 1 << 22;

/// Most bytes of all names, link targets and attributes of a layer together, which are in memory, too.
pub(crate) const TEXT_MAX: usize = 512 << 20;
/// What a name or an attribute takes beside its bytes, roughly.
const TEXT_OVERHEAD: usize = 32;

/// Most directories on the way to an object: a path of so many names of one letter is as long as Linux takes.
pub(crate) const DEPTH_MAX: usize = 2048;

/// Symbolic links followed on the way to one object.
pub(crate) const LINKS_MAX: u32 = 40;

/// What a path leads to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Node(NodeId),
    /// Nothing of the layer: the path with the links that it does have followed, to be looked for below.
    Missing(Vec<u8>),
    /// Something of this name is no directory, or a link too many.
    InTheWay(Vec<u8>),
}

/// The components of a path, the first one last.
pub(crate) fn reversed(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|&byte| byte == b'/')
        .rev()
        .map(<[u8]>::to_vec)
        .collect()
}

/// Index of a node in its tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NodeId(pub(crate) u32);

impl NodeId {
    pub(crate) const ROOT: Self = Self(0);

    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// Seconds since 1970 and nanoseconds (0..1e9) above them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Time {
    pub(crate) sec: i64,
    pub(crate) nsec: u32,
}

impl Time {
    /// No later than `limit`.
    pub(crate) fn clamped(self, limit: Option<i64>) -> Self {
        match limit {
            Some(sec) => self.min(Self { sec, nsec: 0 }),
            None => self,
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Attr {
    /// Permissions and set-id bits, without the type.
    pub(crate) perm: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Time,
}

/// Extended attributes by full name.
pub(crate) type Xattrs = BTreeMap<Box<[u8]>, Box<[u8]>>;

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) attr: Attr,
    pub(crate) xattrs: Xattrs,
    pub(crate) body: Body,
}

#[derive(Debug)]
pub(crate) enum Body {
    Directory(Directory),
    /// A regular file; no extent when empty.
    File {
        size: u64,
        extent: Option<ExtentId>,
    },
    /// A regular file of a merged index, never empty.
    Chunks {
        size: u64,
        chunks: Chunks,
    },
    Symlink(Box<[u8]>),
    /// Device number as `major`, `minor`.
    CharDevice(u32, u32),
    BlockDevice(u32, u32),
    Fifo,
    Socket,
}

impl Body {
    /// The type bits of `st_mode`.
    pub(crate) fn mode_type(&self) -> u16 {
        match self {
            Self::Directory(_) => S_IFDIR,
            Self::File { .. } | Self::Chunks { .. } => S_IFREG,
            Self::Symlink(_) => S_IFLNK,
            Self::CharDevice(..) => S_IFCHR,
            Self::BlockDevice(..) => S_IFBLK,
            Self::Fifo => S_IFIFO,
            Self::Socket => S_IFSOCK,
        }
    }

    pub(crate) fn is_directory(&self) -> bool {
        matches!(self, Self::Directory(_))
    }

    pub(crate) fn is_whiteout(&self) -> bool {
        matches!(self, Self::CharDevice(0, 0))
    }
}

/// Where the parts of a file are.
#[derive(Debug)]
pub(crate) struct Chunks {
    /// Each part is 2^bits bytes long, the last one may be shorter; 12 to 43.
    pub(crate) bits: u32,
    pub(crate) list: Vec<Chunk>,
    /// What was copied into the image itself.
    pub(crate) own: Option<ExtentId>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Chunk {
    /// Number of a device, 1 the first, and the first block there.
    Device(u16, u32),
    /// The first block in the extent of the image itself.
    Own(u32),
    Hole,
}

#[derive(Debug, Default)]
pub(crate) struct Directory {
    pub(crate) entries: BTreeMap<Box<[u8]>, NodeId>,
    /// Names that a marker removes from lower layers.
    pub(crate) whiteouts: BTreeSet<Box<[u8]>>,
    /// Hides the directory's content in lower layers.
    pub(crate) opaque: bool,
}

#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) nodes: Vec<Node>,
    /// Directories that the source did not describe, only what is in them.
    pub(crate) implied: BTreeSet<NodeId>,
    /// Objects of the layers below that hard links of this one name, by path; empty files until they are
    /// looked up.
    pub(crate) borrowed: BTreeMap<Vec<u8>, NodeId>,
    /// What counts towards [`TEXT_MAX`], of replaced objects, too.
    text: usize,
}

impl Tree {
    /// A tree with an empty root.
    pub(crate) fn new(attr: Attr) -> Self {
        let body = Body::Directory(Directory::default());
        Self {
            nodes: vec![Node {
                attr,
                xattrs: Xattrs::new(),
                body,
            }],
            implied: BTreeSet::new(),
            borrowed: BTreeMap::new(),
            text: 0,
        }
    }

    pub(crate) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    pub(crate) fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.index()]
    }

    pub(crate) fn directory(&self, id: NodeId) -> Option<&Directory> {
        match &self.node(id).body {
            Body::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    pub(crate) fn directory_mut(&mut self, id: NodeId) -> Option<&mut Directory> {
        match &mut self.node_mut(id).body {
            Body::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    /// Why nothing more can be added; asked before each object, so that a hostile source cannot fill the
    /// memory.
    pub(crate) fn full(&self) -> Option<String> {
        if self.nodes.len() >= NODES_MAX {
            return Some(format!(
                "more than {NODES_MAX} objects, the most there can be"
            ));
        }
        (self.text > TEXT_MAX).then(|| {
            let most = TEXT_MAX >> 20;
            format!(
                "names, link targets and attributes of more than {most} MiB, the most there can be"
            )
        })
    }

    fn count_text(&mut self, len: usize) {
        self.text = self.text.saturating_add(len + TEXT_OVERHEAD);
    }

    /// Gives a node other attributes.
    pub(crate) fn describe(&mut self, id: NodeId, attr: Attr, xattrs: Xattrs) {
        for (name, value) in &xattrs {
            self.count_text(name.len() + value.len());
        }
        let node = self.node_mut(id);
        (node.attr, node.xattrs) = (attr, xattrs);
    }

    /// The object that stands for one of the layers below.
    pub(crate) fn borrow(&mut self, path: Vec<u8>) -> NodeId {
        if let Some(&id) = self.borrowed.get(&path) {
            return id;
        }
        self.count_text(path.len());
        let attr = self.node(NodeId::ROOT).attr;
        let body = Body::File {
            size: 0,
            extent: None,
        };
        let id = self.push(Node {
            attr,
            xattrs: Xattrs::new(),
            body,
        });
        self.borrowed.insert(path, id);
        id
    }

    /// Takes what lower layers have under a name away.
    pub(crate) fn hide(&mut self, parent: NodeId, name: &[u8]) {
        self.count_text(name.len());
        if let Some(directory) = self.directory_mut(parent) {
            directory.whiteouts.insert(name.into());
        }
    }

    /// Adds a node without a name.
    pub(crate) fn push(&mut self, node: Node) -> NodeId {
        let id = NodeId(u32::try_from(self.nodes.len()).expect("under 2^32 inodes")); // INVARIANT: 400 GB
        for (name, value) in &node.xattrs {
            self.count_text(name.len() + value.len());
        }
        if let Body::Symlink(target) = &node.body {
            self.count_text(target.len());
        }
        self.nodes.push(node);
        id
    }

    /// Gives `node` the name `name` in directory `parent`, replacing what had it.
    pub(crate) fn link(&mut self, parent: NodeId, name: &[u8], node: NodeId) {
        self.count_text(name.len());
        if let Some(directory) = self.directory_mut(parent) {
            directory.entries.insert(name.into(), node);
        }
    }

    /// The object at a path of plain components (no `..`, symlinks not followed).
    pub(crate) fn find(&self, path: &[u8]) -> Option<NodeId> {
        path.split(|&b| b == b'/')
            .filter(|c| !c.is_empty() && *c != b".")
            .try_fold(NodeId::ROOT, |at, name| {
                self.directory(at)?.entries.get(name).copied()
            })
    }

    /// Looks for the object at a path as an extraction would that has come so far: symbolic links on the way
    /// are followed, the last one is not, and nothing is above the root.
    pub(crate) fn follow(&self, path: &[u8]) -> Found {
        let mut rest = reversed(path);
        let mut trail: Vec<(NodeId, Vec<u8>)> = Vec::new();
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
            let at = trail.last().map_or(NodeId::ROOT, |(id, _)| *id);
            let Some(directory) = self.directory(at) else {
                let name = trail.pop().map(|(_, name)| name);
                return Found::InTheWay(name.unwrap_or_default());
            };
            let Some(&child) = directory.entries.get(&*name) else {
                let known = trail.into_iter().map(|(_, name)| name).chain([name]);
                let all: Vec<_> = known.chain(rest.into_iter().rev()).collect();
                return Found::Missing(all.join(&b'/'));
            };
            match &self.node(child).body {
                Body::Symlink(target) if !rest.is_empty() => {
                    links += 1;
                    if links > LINKS_MAX {
                        return Found::InTheWay(name);
                    }
                    if target.starts_with(b"/") {
                        trail.clear();
                    }
                    rest.extend(reversed(target));
                }
                _ => trail.push((child, name)),
            }
        }
        Found::Node(trail.last().map_or(NodeId::ROOT, |(id, _)| *id))
    }

    /// Puts one node in the place of others wherever a name leads to them.
    pub(crate) fn unite(&mut self, others: &BTreeMap<NodeId, NodeId>) {
        for node in &mut self.nodes {
            if let Body::Directory(directory) = &mut node.body {
                for id in directory.entries.values_mut() {
                    if let Some(one) = others.get(id) {
                        *id = *one;
                    }
                }
            }
        }
    }

    /// By node: whether it is a directory that has no entry of its own and holds nothing but such.
    fn bare(&self) -> Vec<bool> {
        let mut bare = vec![false; self.nodes.len()];
        // What is in an implied directory was made after it, so that it comes first here.
        for &id in self.implied.iter().rev() {
            bare[id.index()] = self
                .directory(id)
                .is_some_and(|directory| directory.entries.values().all(|id| bare[id.index()]));
        }
        bare
    }

    /// Writes whiteouts and opaque directories in overlayfs form.
    ///
    /// A name that is both removed and present is present; if it is a directory it hides the lower one. One
    /// that is only there because names below it are removed, too, is not. A directory with whiteouts gets an
    /// empty origin mark, without which the kernel's overlayfs lists them where only one layer has the
    /// directory.
    pub(crate) fn finish(&mut self) {
        let bare = self.bare();
        for index in 0..self.nodes.len() {
            let Body::Directory(directory) = &mut self.nodes[index].body else {
                continue;
            };
            for name in std::mem::take(&mut directory.whiteouts) {
                let Body::Directory(directory) = &mut self.nodes[index].body else {
                    continue;
                };
                if let Some(child) = directory.entries.get(&name)
                    && bare.get(child.index()).is_some_and(|bare| *bare)
                {
                    directory.entries.remove(&name);
                }
                match directory.entries.get(&name) {
                    Some(&child) => {
                        if let Some(child) = self.directory_mut(child) {
                            child.opaque = true;
                        }
                    }
                    None => {
                        let attr = Attr {
                            perm: 0,
                            uid: 0,
                            gid: 0,
                            mtime: Time::default(),
                        };
                        let id = self.push(Node {
                            attr,
                            xattrs: Xattrs::new(),
                            body: Body::CharDevice(0, 0),
                        });
                        self.link(NodeId(index as u32), &name, id);
                    }
                }
            }
        }
        for index in 0..self.nodes.len() {
            let Body::Directory(directory) = &self.nodes[index].body else {
                continue;
            };
            let opaque = directory.opaque;
            let marked = directory
                .entries
                .values()
                .any(|id| self.node(*id).body.is_whiteout());
            let xattrs = &mut self.nodes[index].xattrs;
            if opaque {
                xattrs.insert(OPAQUE.into(), (*b"y").into());
            }
            if marked {
                xattrs.insert(ORIGIN.into(), Box::default());
            }
        }
    }

    /// Counts what is reachable into `report`; `order` lists every inode once.
    pub(crate) fn count(&self, order: &[NodeId], links: &[u32], report: &mut BuildReport) {
        for &id in order {
            let node = self.node(id);
            match &node.body {
                Body::Directory(_) => {
                    report.directories += 1;
                    report.opaque +=
                        u64::from(node.xattrs.get(OPAQUE).is_some_and(|v| **v == *b"y"));
                    continue;
                }
                Body::File { .. } | Body::Chunks { .. } => report.files += 1,
                Body::Symlink(_) => report.symlinks += 1,
                body if body.is_whiteout() => report.whiteouts += 1,
                _ => report.others += 1,
            }
            report.hard_links += u64::from(links[id.index()].saturating_sub(1));
        }
    }
}
