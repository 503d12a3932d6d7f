//! The union of read-only layers and a writable in-memory upper layer; without layers a tmpfs.
//!
//! What the layers show together, [`Layers`] says. An inode number says where an inode came from and never
//! changes: a lower inode is its layer and its number in that layer, an inode made here is a small number
//! from a counter. An inode that was changed has a [`Node`]; a lower inode without one is read from its layer
//! each time and costs nothing. The parts of a merged directory are kept by the layers while the directory is
//! referenced or has a node. A changed lower file keeps its layer's data and gets pages of its own one by one
//! as they are written, so that a copy-up costs the same for every size.
//!
//! Semantics are those of overlayfs with `index=on`, `redirect_dir=on`: whiteouts, opaque directories, merged
//! directories, hard links that stay hard links; differences are documented where they are made.
//!
//! [`dir`]: names; [`listing`]: reading directories; [`data`]: contents of regular files; [`xattr`]: extended
//! attributes; [`node`]: what changed.

mod data;
mod dir;
mod listing;
mod node;
pub(crate) mod options;
#[cfg(test)]
pub(crate) mod tests;
mod xattr;

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use node::{Body, Node};
use options::{Limit, Tmpfs};
use varve_imgfs::Layers;

use crate::abi::raw::general::{S_IFDIR, S_IFLNK, S_IFMT, S_IFREG};
use crate::abi::{Errno, PAGE_SHIFT, PAGE_SIZE};
use crate::args::{RenameFlags, XattrFlags};
use crate::boot::{BootError, Tree};
use crate::env::steps::Steps;
use crate::fs::filesystem::{
    Attr, Entry, Extent, FsCx, FsKind, Ino, InodeOps, NewNode, PageRun, SetAttr, Sought, StatFs,
    Time,
};
use crate::fs::runs::FrameRuns;
use crate::fs::{Frames, acl};
use crate::machine::FrameNo;
use crate::port::Ports;

/// Most inodes the upper layer may hold.
const MAX_NODES: u64 = 1 << 20;
/// Most bytes of names, link targets and extended attributes the upper layer may hold, with what keeps them.
const MAX_HEAP: u64 = 256 << 20;
/// What a node takes beside its names and attributes, about.
const NODE_COST: u64 = 448;
/// Hard links to one inode (as ext4 has it).
const MAX_LINKS: u32 = 65_000;
/// `f_type` of statfs(2).
const TMPFS_MAGIC: u64 = 0x0102_1994;
const OVERLAYFS_MAGIC: u64 = 0x794c_7630;
const EROFS_MAGIC: u64 = 0xe0f5_e1e2;

/// One union.
#[derive(Clone, Debug, Hash)]
pub(crate) struct UnionFs {
    layers: Layers,
    root: Ino,
    /// Everything that was changed or made. A lower inode keeps its number.
    nodes: BTreeMap<Ino, Node>,
    /// References the layer above holds.
    refs: BTreeMap<Ino, u32>,
    /// Pages of unchanged lower files that cannot be mapped where they are, while the files are referenced.
    cached: BTreeMap<Ino, FrameRuns>,
    /// Number of the next inode made here.
    next: u64,
    read_only: bool,
    /// It was made to be read only.
    sealed: bool,
    /// Most inodes.
    inodes: u64,
    /// Most frames that nodes may hold, and how many they do.
    limit: Option<u64>,
    used: u64,
    /// Bytes counted against [`MAX_HEAP`].
    heap: u64,
    /// Names of files beyond the first of each: a tmpfs counts them as inodes.
    extra_names: u64,
    /// What it was mounted with, if it is a tmpfs of mount(2).
    options: Option<Tmpfs>,
    /// Its files are memory of programs alone: there is no room that could be full but that of the machine.
    is_memory: bool,
    moved: Vec<(Ino, u64, u64)>,
    /// Files that were cut, and the first page that is gone: private copies go as well.
    cut: Vec<(Ino, u64)>,
}

impl UnionFs {
    /// A union of the layers of `tree`; without layers a tmpfs whose root directory has this mode.
    ///
    /// A read-only one can be written until [`seal`](Self::seal): mount points are made at boot.
    pub(crate) fn new(
        ports: &mut Ports<'_>,
        tree: &Tree,
        mode: u32,
        now: Time,
    ) -> Result<UnionFs, BootError> {
        let layers = Layers::open(&mut ports.layers(), &tree.layers, tree.index.as_ref())?;
        let root = layers.root();
        let mut fs = UnionFs {
            layers,
            root: root.unwrap_or(Ino(1)),
            nodes: BTreeMap::new(),
            refs: BTreeMap::new(),
            cached: BTreeMap::new(),
            next: 1,
            read_only: false,
            sealed: false,
            inodes: MAX_NODES,
            limit: tree.upper_limit.map(|bytes| bytes.div_ceil(PAGE_SIZE)),
            used: 0,
            heap: 0,
            extra_names: 0,
            options: None,
            is_memory: false,
            moved: Vec::new(),
            cut: Vec::new(),
        };
        if root.is_none() {
            fs.next = 2;
            let body = Body::dir();
            let mut root = Node::new(S_IFDIR | mode & 0o7777, 0, 0, now, body);
            root.nlink = 1;
            fs.nodes.insert(fs.root, root);
        }
        Ok(fs)
    }

    /// Every frame that files of it hold, for invariant checks.
    pub(crate) fn frames(&self) -> impl Iterator<Item = FrameNo> + '_ {
        let own = self.nodes.values().filter_map(|node| match &node.body {
            Body::File(data) => Some(&data.pages),
            _ => None,
        });
        self.cached.values().chain(own).flat_map(FrameRuns::frames)
    }

    /// Whether the frames of all files are known rightly; for invariant checks.
    pub(crate) fn is_right(&self) -> bool {
        let own = self.nodes.values().all(|node| match &node.body {
            Body::File(data) => data.is_right(),
            _ => true,
        });
        own && self.cached.values().all(FrameRuns::is_right)
    }

    /// Takes away the frames of files that are only read: the layers still have what is in them.
    pub(crate) fn take_cached(&mut self) -> BTreeMap<Ino, FrameRuns> {
        core::mem::take(&mut self.cached)
    }

    /// From now on all changes are refused with `EROFS`.
    pub(crate) fn seal(&mut self) {
        self.read_only = true;
        self.sealed = true;
    }

    /// Allows or refuses all changes. A tree of layers alone cannot be made writable: `EROFS`.
    pub(crate) fn set_read_only(&mut self, read_only: bool) -> Result<(), Errno> {
        if self.sealed && !read_only {
            return Err(Errno::EROFS);
        }
        self.read_only = read_only;
        Ok(())
    }

    /// What a tmpfs was mounted with. One that was made at boot has what it can have.
    pub(crate) fn options(&self) -> Tmpfs {
        self.options.clone().unwrap_or(Tmpfs {
            size: Limit::of(self.limit.map(|pages| pages * PAGE_SIZE)),
            ..Tmpfs::default()
        })
    }

    /// Mounts a tmpfs with other options (`shmem_reconfigure()`): what it has must fit, and what was without
    /// a limit stays so. `EINVAL`.
    pub(crate) fn reconfigure(&mut self, new: Tmpfs) -> Result<(), &'static str> {
        let old = self.options();
        let limit = new.size.most().map(|bytes| bytes.div_ceil(PAGE_SIZE));
        let inodes = new.inodes.most();
        let retroactive = |old: Limit, new: Limit| old == Limit::None && new.most().is_some();
        let refused = [
            (
                retroactive(old.size, new.size),
                "Cannot retroactively limit size",
            ),
            (
                limit.is_some_and(|limit| limit < self.used),
                "Too small a size for current use",
            ),
            (
                retroactive(old.inodes, new.inodes),
                "Cannot retroactively limit inodes",
            ),
            (
                inodes.is_some_and(|inodes| inodes < self.inodes_used()),
                "Too few inodes for current use",
            ),
            (
                new.no_swap && !old.no_swap,
                "Cannot disable swap on remount",
            ),
        ];
        if let Some((_, why)) = refused.into_iter().find(|&(is, _)| is) {
            return Err(why);
        }
        self.limit = limit.or(self.limit.filter(|_| new.size == Limit::Default));
        self.inodes = inodes.unwrap_or(MAX_NODES).min(MAX_NODES);
        self.options = Some(new);
        Ok(())
    }

    /// Makes a fresh tmpfs what its options say.
    pub(crate) fn configure(&mut self, options: Tmpfs) {
        if let Some(root) = self.nodes.get_mut(&self.root) {
            (root.uid, root.gid) = (options.uid, options.gid);
        }
        let inodes = options.inodes.most();
        self.inodes = inodes.unwrap_or(MAX_NODES).min(MAX_NODES);
        self.options = Some(options);
    }

    /// Files of it are memory of programs: without room for one more page it is the machine that has none
    /// (`ENOMEM`).
    pub(crate) fn set_memory(&mut self) {
        self.is_memory = true;
    }

    /// Inodes as a tmpfs counts them.
    fn inodes_used(&self) -> u64 {
        self.nodes.len() as u64 + self.extra_names
    }

    fn writable(&self) -> Result<(), Errno> {
        match self.read_only {
            true => Err(Errno::EROFS),
            false => Ok(()),
        }
    }

    /// Takes a reference. The root needs none: it stays.
    fn hold(&mut self, ino: Ino) {
        let count = self.refs.entry(ino).or_default();
        *count = count.saturating_add(1);
    }

    fn charge(&mut self, bytes: u64) -> Result<(), Errno> {
        let heap = self.heap.saturating_add(bytes);
        if heap > MAX_HEAP {
            return Err(Errno::ENOSPC);
        }
        self.heap = heap;
        Ok(())
    }

    fn uncharge(&mut self, bytes: u64) {
        self.heap = self.heap.saturating_sub(bytes);
    }

    /// Whether a node of so many bytes can be added. `ENOSPC`.
    fn room(&self, bytes: u64) -> Result<(), Errno> {
        if self.inodes_used() >= self.inodes || self.heap.saturating_add(bytes) > MAX_HEAP {
            return Err(Errno::ENOSPC);
        }
        Ok(())
    }

    /// Whether so many bytes of names can be added. `ENOSPC`.
    fn heap_room(&self, bytes: u64) -> Result<(), Errno> {
        match self.heap.saturating_add(bytes) > MAX_HEAP {
            true => Err(Errno::ENOSPC),
            false => Ok(()),
        }
    }

    /// Puts a new inode into the table.
    fn insert_node(&mut self, ino: Ino, node: Node) -> Result<(), Errno> {
        let bytes = NODE_COST + node.heap();
        self.room(bytes)?;
        let pages = node.own_pages();
        if pages > 0 {
            self.charge_frame()?;
        }
        self.used += pages;
        self.heap += bytes;
        self.nodes.insert(ino, node);
        Ok(())
    }

    fn new_ino(&mut self) -> Ino {
        let ino = Ino(self.next);
        self.next += 1; // below 2^48: each one is an inode that a system call made
        ino
    }

    /// Attributes of a lower inode, with its ACL.
    fn lower_attr(&mut self, cx: &mut FsCx<'_, '_>, ino: Ino) -> Result<Attr, Errno> {
        let lower = self.layers.attr(&mut cx.ports.layers(), ino)?;
        let mut attr = Attr::from(lower);
        if lower.may_have_acl && attr.mode & S_IFMT != S_IFLNK {
            attr.acl = match self.layers.xattr(&mut cx.ports.layers(), ino, acl::ACCESS) {
                Ok(value) => Some(cx.acls.number(&value)?),
                Err(Errno::ENODATA) => None,
                Err(errno) => return Err(errno),
            };
        }
        Ok(attr)
    }

    /// The node of an inode, made from its lower inode if there is none yet. O(1) in the size of the file.
    fn copy_up(&mut self, cx: &mut FsCx<'_, '_>, ino: Ino) -> Result<&mut Node, Errno> {
        if !self.nodes.contains_key(&ino) {
            if !ino.is_lower() {
                return Err(Errno::ESTALE);
            }
            self.room(NODE_COST)?;
            let lower = self.lower_attr(cx, ino)?;
            let body = match lower.mode & S_IFMT {
                S_IFDIR => Body::dir(),
                S_IFREG => Body::file(lower.size, self.cached.remove(&ino).unwrap_or_default()),
                _ => Body::Other,
            };
            if let Body::File(data) = &body {
                self.used += data.pages.len();
            }
            let mut node = Node::new(lower.mode, lower.uid, lower.gid, lower.mtime, body);
            node.nlink = lower.nlink;
            node.rdev = lower.rdev;
            node.xattrs = None;
            node.acl = lower.acl;
            self.insert_node(ino, node)?;
        }
        self.nodes.get_mut(&ino).ok_or(Errno::ESTALE)
    }

    /// Takes a name away from an inode; the last one frees it once it is not referenced any more.
    fn drop_link(&mut self, cx: &mut FsCx<'_, '_>, ino: Ino) -> Result<(), Errno> {
        let now = Time::from_nanos(cx.now.real);
        let held = self.refs.contains_key(&ino);
        if !held && !self.nodes.contains_key(&ino) {
            let attr = self.layers.attr(&mut cx.ports.layers(), ino)?;
            if attr.nlink <= 1 || attr.mode & S_IFMT == S_IFDIR {
                return Ok(()); // nobody will see it again
            }
        }
        let node = self.copy_up(cx, ino)?;
        let counted = node.nlink > 1 && !matches!(node.body, Body::Dir(_));
        node.nlink = match node.body {
            Body::Dir(_) => 0,
            _ => node.nlink.saturating_sub(1),
        };
        node.ctime = now;
        let gone = node.nlink == 0;
        if counted && self.layers.is_empty() {
            self.extra_names = self.extra_names.saturating_sub(1);
        }
        if gone && !held {
            self.free(cx.frames, ino);
        }
        Ok(())
    }

    fn free(&mut self, frames: &mut Frames, ino: Ino) {
        let Some(node) = self.nodes.remove(&ino) else {
            return;
        };
        self.layers.release(ino);
        self.uncharge(NODE_COST + node.heap());
        self.used = self.used.saturating_sub(node.own_pages());
        if let Body::File(data) = node.body {
            self.used = self.used.saturating_sub(data.pages.len());
            frames.put_all(data.pages);
        }
    }
}

impl InodeOps for UnionFs {
    fn kind(&self) -> FsKind {
        FsKind::Union
    }

    fn is_read_only(&self) -> bool {
        self.read_only
    }

    fn is_tmpfs(&self) -> bool {
        self.layers.is_empty()
    }

    fn changes_by_itself(&self) -> bool {
        self.layers.has_host()
    }

    fn root(&self) -> Ino {
        self.root
    }

    fn lookup(&mut self, cx: &mut FsCx<'_, '_>, dir: Ino, name: &[u8]) -> Result<Ino, Errno> {
        let (ino, _) = self.find(cx, dir, name)?.ok_or(Errno::ENOENT)?;
        self.hold(ino);
        Ok(ino)
    }

    fn forget(&mut self, cx: &mut FsCx<'_, '_>, ino: Ino) {
        match self.refs.get_mut(&ino) {
            _ if ino == self.root => {}
            Some(count) if *count > 1 => *count -= 1,
            Some(_) => {
                self.refs.remove(&ino);
                self.layers.end_reading(ino);
                match self.nodes.get(&ino) {
                    Some(node) if node.nlink == 0 => self.free(cx.frames, ino),
                    Some(_) => {}
                    None => {
                        self.layers.release(ino);
                        if let Some(pages) = self.cached.remove(&ino) {
                            cx.frames.put_all(pages);
                        }
                    }
                }
            }
            None => {}
        }
    }

    fn attr(&mut self, cx: &mut FsCx<'_, '_>, ino: Ino) -> Result<Attr, Errno> {
        if let Some(node) = self.nodes.get(&ino) {
            let mut attr = node.attr(ino);
            if let (Body::Other, true) = (&node.body, ino.is_lower()) {
                let lower = self.layers.attr(&mut cx.ports.layers(), ino)?;
                (attr.size, attr.blocks) = (lower.size, lower.blocks);
            }
            return Ok(attr);
        }
        self.lower_attr(cx, ino)
    }

    fn set_attr(&mut self, cx: &mut FsCx<'_, '_>, ino: Ino, set: &SetAttr) -> Result<(), Errno> {
        self.writable()?;
        let now = Time::from_nanos(cx.now.real);
        let node = self.copy_up(cx, ino)?;
        if set.size.is_some() && !matches!(node.body, Body::File(_)) {
            return Err(Errno::EINVAL);
        }
        if let Some(size) = set.size {
            self.set_size(cx, ino, size)?;
        }
        if set.no_capabilities {
            self.drop_capabilities(cx, ino)?;
        }
        let node = self.copy_up(cx, ino)?;
        if let Some(mode) = set.mode {
            node.mode = node.mode & S_IFMT | mode & 0o7777;
        }
        node.uid = set.uid.unwrap_or(node.uid);
        node.gid = set.gid.unwrap_or(node.gid);
        node.atime = set.atime.unwrap_or(node.atime);
        node.flags = set.flags.unwrap_or(node.flags);
        if set.size.is_some() {
            node.mtime = now;
        }
        node.mtime = set.mtime.unwrap_or(node.mtime);
        node.ctime = now;
        Ok(())
    }

    fn read_link(&mut self, cx: &mut FsCx<'_, '_>, ino: Ino) -> Result<Vec<u8>, Errno> {
        let mode = match self.nodes.get(&ino) {
            Some(node) => match &node.body {
                Body::Link(target) => return Ok(target.to_vec()),
                _ => node.mode,
            },
            None => self.layers.attr(&mut cx.ports.layers(), ino)?.mode,
        };
        match ino.is_lower() && mode & S_IFMT == S_IFLNK {
            true => self.layers.read_link(&mut cx.ports.layers(), ino),
            false => Err(Errno::EINVAL),
        }
    }

    fn create(
        &mut self,
        cx: &mut FsCx<'_, '_>,
        dir: Ino,
        name: &[u8],
        node: &NewNode<'_>,
    ) -> Result<Ino, Errno> {
        self.create_entry(cx, dir, name, node)
    }

    fn create_unnamed(&mut self, cx: &mut FsCx<'_, '_>, node: &NewNode<'_>) -> Result<Ino, Errno> {
        self.writable()?;
        let mut node = node::from_new(node, Time::from_nanos(cx.now.real))?;
        node.nlink = 0;
        node.linkable = true;
        let ino = self.new_ino();
        self.insert_node(ino, node)?;
        self.hold(ino);
        Ok(ino)
    }

    fn link(
        &mut self,
        cx: &mut FsCx<'_, '_>,
        ino: Ino,
        dir: Ino,
        name: &[u8],
    ) -> Result<(), Errno> {
        self.link_entry(cx, ino, dir, name)
    }

    fn unlink(&mut self, cx: &mut FsCx<'_, '_>, dir: Ino, name: &[u8]) -> Result<(), Errno> {
        self.remove(cx, dir, name, false)
    }

    fn rmdir(&mut self, cx: &mut FsCx<'_, '_>, dir: Ino, name: &[u8]) -> Result<(), Errno> {
        self.remove(cx, dir, name, true)
    }

    fn rename(
        &mut self,
        cx: &mut FsCx<'_, '_>,
        from: (Ino, &[u8]),
        to: (Ino, &[u8]),
        flags: RenameFlags,
    ) -> Result<(), Errno> {
        self.rename_entry(cx, from, to, flags)
    }

    fn read_dir(
        &mut self,
        cx: &mut FsCx<'_, '_>,
        dir: Ino,
        cookie: u64,
        each: &mut dyn FnMut(Entry<'_>) -> bool,
    ) -> Result<(), Errno> {
        self.list(cx, dir, cookie, each)
    }

    fn extent(
        &mut self,
        cx: &mut FsCx<'_, '_>,
        ino: Ino,
        offset: u64,
    ) -> Result<Option<Extent>, Errno> {
        self.extent_at(cx, ino, offset)
    }

    fn pages_for_write(
        &mut self,
        cx: &mut FsCx<'_, '_>,
        ino: Ino,
        index: u64,
        most: u64,
    ) -> Result<(FrameNo, u64), Errno> {
        self.writable()?;
        self.own_run(cx, ino, index, most)
    }

    fn page_run(
        &mut self,
        cx: &mut FsCx<'_, '_>,
        ino: Ino,
        index: u64,
        max: u64,
    ) -> Result<PageRun, Errno> {
        self.mappable(cx, ino, index, max)
    }

    fn stored(&mut self, ino: Ino, now: Time) {
        if let Some(node) = self.nodes.get_mut(&ino) {
            (node.mtime, node.ctime) = (now, now);
        }
    }

    fn allocate(
        &mut self,
        cx: &mut FsCx<'_, '_>,
        ino: Ino,
        first: u64,
        count: u64,
        most: u64,
    ) -> Result<u64, Errno> {
        self.writable()?;
        self.preallocate(cx, ino, first, count, most)
    }

    fn punch_hole(
        &mut self,
        cx: &mut FsCx<'_, '_>,
        ino: Ino,
        offset: u64,
        len: u64,
    ) -> Result<u64, Errno> {
        self.writable()?;
        self.punch(cx, ino, offset, len)
    }

    fn seek(
        &mut self,
        cx: &mut FsCx<'_, '_>,
        ino: Ino,
        offset: u64,
        data: bool,
    ) -> Result<Sought, Errno> {
        self.seek_kind(cx, ino, offset, data)
    }

    fn get_xattr(
        &mut self,
        cx: &mut FsCx<'_, '_>,
        ino: Ino,
        name: &[u8],
    ) -> Result<Vec<u8>, Errno> {
        self.xattr(cx, ino, name)
    }

    fn set_xattr(
        &mut self,
        cx: &mut FsCx<'_, '_>,
        ino: Ino,
        name: &[u8],
        value: &[u8],
        flags: XattrFlags,
    ) -> Result<(), Errno> {
        self.writable()?;
        self.xattr_set(cx, ino, name, value, flags)
    }

    fn remove_xattr(&mut self, cx: &mut FsCx<'_, '_>, ino: Ino, name: &[u8]) -> Result<(), Errno> {
        self.writable()?;
        self.xattr_remove(cx, ino, name)
    }

    fn list_xattr(&mut self, cx: &mut FsCx<'_, '_>, ino: Ino) -> Result<Vec<Vec<u8>>, Errno> {
        self.xattr_names(cx, ino)
    }

    fn statfs(&self, frames: &Frames) -> StatFs {
        let (used, total) = frames.usage();
        let spare = u64::from(total.saturating_sub(used));
        let blocks = self.limit.unwrap_or(u64::from(total));
        let free = match self.limit {
            Some(limit) => spare.min(limit.saturating_sub(self.used)),
            None => spare,
        };
        // No limit shows as nothing (`shmem_statfs()`); inodes are also bounded by what they take.
        let unlimited = |limit: fn(&Tmpfs) -> Limit| {
            let options = self.options.as_ref();
            options.is_some_and(|options| limit(options) == Limit::None)
        };
        let (blocks, free) = match unlimited(|options| options.size) {
            true => (0, 0),
            false => (blocks, free),
        };
        let (files, files_free) = match unlimited(|options| options.inodes) {
            true => (0, 0),
            false => {
                let spare = MAX_HEAP.saturating_sub(self.heap) / NODE_COST;
                let files = self.inodes.min(MAX_HEAP / NODE_COST);
                let free = files.saturating_sub(self.inodes_used());
                (files, free.min(spare))
            }
        };
        if self.sealed
            && let Some(image) = self.layers.only_image()
        {
            let (block_size, files) = (image.block_size(), image.inode_count());
            return StatFs {
                magic: EROFS_MAGIC,
                block_size,
                blocks: image.len() / block_size,
                free: 0,
                files,
                files_free: u64::MAX - files,
            };
        }
        StatFs {
            magic: match self.layers.is_empty() {
                true => TMPFS_MAGIC,
                false => OVERLAYFS_MAGIC,
            },
            block_size: PAGE_SIZE,
            blocks,
            free: if self.read_only { 0 } else { free },
            files,
            files_free,
        }
    }

    fn take_moved(&mut self) -> Vec<(Ino, u64, u64)> {
        core::mem::take(&mut self.moved)
    }

    fn take_cut(&mut self) -> Vec<(Ino, u64)> {
        core::mem::take(&mut self.cut)
    }

    fn take_faults(&mut self) -> Vec<String> {
        self.layers.take_faults()
    }

    fn heap(&self) -> u64 {
        self.heap
    }

    fn release_some(&mut self, frames: &mut Frames, steps: &mut Steps) -> bool {
        const MOST: usize = 32;
        if let Some((_, pages)) = self.cached.pop_first() {
            steps.spend(1);
            frames.put_all(pages);
            return true;
        }
        let mut any = false;
        for _ in 0..MOST {
            let Some((ino, mut node)) = self.nodes.pop_first() else {
                break;
            };
            any = true;
            steps.spend(4);
            if let Body::Dir(dir) = &mut node.body
                && dir.slots.len() > MOST
            {
                // A large directory goes by and by.
                for _ in 0..MOST {
                    if let Some((name, slot)) = dir.slots.pop_first() {
                        self.heap = self.heap.saturating_sub(node::entry_heap(&name));
                        if let node::Slot::Entry { number, .. } = slot {
                            dir.order.remove(&number);
                        }
                    }
                }
                steps.spend(MOST as u64);
                self.nodes.insert(ino, node);
                break;
            }
            self.uncharge(NODE_COST + node.heap());
            if let Body::File(data) = node.body {
                frames.put_all(data.pages);
            }
        }
        // Names that others had are gone, references too: nobody asks any more.
        for _ in 0..MOST {
            any |= self.refs.pop_first().is_some() | self.layers.release_one();
        }
        any
    }
}

/// Pages needed for so many bytes.
fn pages_of(bytes: u64) -> u64 {
    bytes.div_ceil(PAGE_SIZE)
}

/// The page that holds a byte.
fn page_at(offset: u64) -> u64 {
    offset >> PAGE_SHIFT
}
