//! A stack of image layers, read-only and without a kernel around it: the same resolver that a sandbox uses,
//! for tools and mounts.
//!
//! [`Stack`] is a value like the kernel: images are arguments of its calls. Inodes go by number, as in a
//! sandbox. A merged directory's number is only known while it is referenced: [`Stack::lookup`] gives a
//! reference, [`Stack::forget`] takes it back.

use alloc::string::String;
use alloc::vec::Vec;

use crate::abi::Errno;
use crate::boot::{BootError, Layer, MergedIndex, Tree};
use crate::event::Now;
use crate::fs::acl::Acls;
pub use crate::fs::filesystem::{Attr, Time};
use crate::fs::filesystem::{FsCx, Ino, InodeOps, Sought, Source as FsSource};
use crate::fs::union::UnionFs;
pub use crate::imgfs::{Extent, Source};
use crate::machine::{FrameNo, ImageId, ThreadId};
use crate::mm::Frames;
use crate::port::{
    HostTree, Images, Memory, NodeAttr, NodeEntry, NodeId, Ports, WordOffset, Xstate,
};

/// Bits of an inode number that stay inside one layer; the rest is the layer + 1.
const LAYER_SHIFT: u32 = 48;

/// An inode of a stack. Numbers of one stack stay the same each time it is opened.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Inode(pub u64);

impl Inode {
    /// Position of the layer it is from, 0 the lowest; of a merged directory the topmost. In a stack with a
    /// merged index all are from 0, the index.
    pub fn layer(self) -> usize {
        (self.0 >> LAYER_SHIFT).saturating_sub(1) as usize
    }

    /// Its number in that layer.
    pub fn nid(self) -> u64 {
        self.0 & ((1 << LAYER_SHIFT) - 1)
    }
}

/// One entry of a directory.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Its name; never `.` or `..`.
    pub name: &'a [u8],
    /// The inode; of a merged directory without a reference.
    pub inode: Inode,
    /// `DT_` value.
    pub kind: u8,
    /// Reading goes on behind this entry when this is given; greater than 2 and below 2^63.
    pub next: u64,
}

/// An opened stack.
#[derive(Clone, Debug)]
pub struct Stack {
    fs: UnionFs,
    frames: Frames,
}

impl Stack {
    /// Opens layers, lowest first; through a merged index, if there is one and it belongs to them.
    ///
    /// # Errors
    /// An image that is refused, or more layers than can be stacked.
    pub fn open(
        images: &dyn Images,
        layers: &[ImageId],
        index: Option<MergedIndex>,
    ) -> Result<Stack, BootError> {
        let tree = Tree {
            layers: layers.iter().copied().map(Layer::Image).collect(),
            read_only: true,
            upper_limit: None,
            index,
        };
        let mut no = NoHost;
        let mut more = (NoHost, NoHost);
        let mut ports = Ports {
            memory: &mut no,
            images,
            tree: &mut more.0,
            xstate: &mut more.1,
        };
        let mut fs = UnionFs::new(&mut ports, &tree, 0o755, Time::default())?;
        fs.seal();
        Ok(Stack {
            fs,
            frames: Frames::new(0, None),
        })
    }

    fn with<R>(
        &mut self,
        images: &dyn Images,
        run: impl FnOnce(&mut UnionFs, &mut FsCx<'_, '_>) -> R,
    ) -> R {
        let mut no = (NoHost, NoHost, NoHost);
        // Nobody asks here what somebody may do.
        let mut acls = Acls::default();
        let mut ports = Ports {
            memory: &mut no.0,
            images,
            tree: &mut no.1,
            xstate: &mut no.2,
        };
        let mut cx = FsCx {
            ports: &mut ports,
            frames: &mut self.frames,
            acls: &mut acls,
            now: Now::default(),
        };
        run(&mut self.fs, &mut cx)
    }

    /// The root directory; it needs no reference.
    pub fn root(&self) -> Inode {
        Inode(self.fs.root().0)
    }

    /// What was found damaged since the last call, a line each, naming image, inode and field. Only the first
    /// few are kept.
    pub fn take_faults(&mut self) -> Vec<String> {
        self.fs.take_faults()
    }

    /// The inode called `name` (one component, not `.` or `..`) in a directory; gives a reference.
    ///
    /// # Errors
    /// `ENOENT`; `ENOTDIR`; damage.
    pub fn lookup(&mut self, images: &dyn Images, dir: Inode, name: &[u8]) -> Result<Inode, Errno> {
        let ino = self.with(images, |fs, cx| fs.lookup_lower(cx, Ino(dir.0), name))?;
        Ok(Inode(ino.0))
    }

    /// Takes back a reference.
    pub fn forget(&mut self, images: &dyn Images, inode: Inode) {
        self.with(images, |fs, cx| fs.forget(cx, Ino(inode.0)));
    }

    /// Attributes.
    ///
    /// # Errors
    /// Damage.
    pub fn attr(&mut self, images: &dyn Images, inode: Inode) -> Result<Attr, Errno> {
        self.with(images, |fs, cx| fs.attr(cx, Ino(inode.0)))
    }

    /// Target of a symbolic link.
    ///
    /// # Errors
    /// `EINVAL` for others; damage.
    pub fn read_link(&mut self, images: &dyn Images, inode: Inode) -> Result<Vec<u8>, Errno> {
        self.with(images, |fs, cx| fs.read_link(cx, Ino(inode.0)))
    }

    /// Gives the entries of a directory behind `cookie` (0: all) until `each` returns `false`, without `.`
    /// and `..`, each name once.
    ///
    /// # Errors
    /// `ENOTDIR`; damage.
    pub fn read_dir(
        &mut self,
        images: &dyn Images,
        dir: Inode,
        cookie: u64,
        each: &mut dyn FnMut(Entry<'_>) -> bool,
    ) -> Result<(), Errno> {
        self.with(images, |fs, cx| {
            fs.read_dir(cx, Ino(dir.0), cookie, &mut |entry| {
                each(Entry {
                    name: entry.name,
                    inode: Inode(entry.ino.0),
                    kind: entry.kind,
                    next: entry.next,
                })
            })
        })
    }

    /// Where the bytes of a regular file from `offset` on are; `None` at or behind its end.
    ///
    /// # Errors
    /// Damage.
    pub fn extent(
        &mut self,
        images: &dyn Images,
        inode: Inode,
        offset: u64,
    ) -> Result<Option<Extent>, Errno> {
        let extent = self.with(images, |fs, cx| {
            fs.extent(cx, Ino(inode.0), offset, u64::MAX)
        })?;
        let Some(extent) = extent else {
            return Ok(None);
        };
        let source = match extent.source {
            FsSource::Image { image, offset } => Source::Image { image, offset },
            FsSource::Zero => Source::Zero,
            // There are no frames.
            FsSource::Memory(_) => return Err(Errno::EIO),
        };
        Ok(Some(Extent {
            source,
            len: extent.len,
        }))
    }

    /// Next byte that is data (`true`) or hole (`false`) at or behind `offset`, as lseek(2) has it.
    ///
    /// # Errors
    /// `ENXIO` if there is none; damage.
    pub fn seek(
        &mut self,
        images: &dyn Images,
        inode: Inode,
        mut offset: u64,
        data: bool,
    ) -> Result<u64, Errno> {
        loop {
            match self.with(images, |fs, cx| fs.seek(cx, Ino(inode.0), offset, data))? {
                Sought::At(at) => return Ok(at),
                Sought::Later(at) => offset = at,
            }
        }
    }

    /// Fills `buf` with bytes of a regular file; gives how many there were.
    ///
    /// # Errors
    /// Damage; an image that cannot be read.
    pub fn read(
        &mut self,
        images: &dyn Images,
        inode: Inode,
        mut offset: u64,
        buf: &mut [u8],
    ) -> Result<usize, Errno> {
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let Some(extent) = self.extent(images, inode, offset)? else {
                break;
            };
            let len = extent.len.min(rest.len() as u64) as usize;
            let part = rest.get_mut(..len).unwrap_or_default();
            match extent.source {
                Source::Zero => part.fill(0),
                Source::Image { image, offset } => {
                    let block = images.image(image).ok_or(Errno::EIO)?;
                    block.read_at(offset, part)?;
                }
            }
            done += len;
            offset += len as u64; // the extent was inside the file
        }
        Ok(done)
    }

    /// Value of an extended attribute.
    ///
    /// # Errors
    /// `ENODATA` if there is none; damage.
    pub fn xattr(
        &mut self,
        images: &dyn Images,
        inode: Inode,
        name: &[u8],
    ) -> Result<Vec<u8>, Errno> {
        self.with(images, |fs, cx| fs.get_xattr(cx, Ino(inode.0), name))
    }

    /// Full names of the extended attributes.
    ///
    /// # Errors
    /// Damage.
    pub fn list_xattr(&mut self, images: &dyn Images, inode: Inode) -> Result<Vec<Vec<u8>>, Errno> {
        self.with(images, |fs, cx| fs.list_xattr(cx, Ino(inode.0)))
    }
}

/// The ports of a stack that has nothing but images.
struct NoHost;

impl Memory for NoHost {
    fn frames(&self) -> u32 {
        0
    }
    fn read(&self, _: u64, buf: &mut [u8]) {
        buf.fill(0);
    }
    fn write(&mut self, _: u64, _: &[u8]) {}
    fn zero(&mut self, _: u64, _: u64) {}
    fn copy(&mut self, _: u64, _: u64, _: u64) {}
    fn discard(&mut self, _: FrameNo, _: u32) {}
    fn load_u32(&self, _: WordOffset) -> u32 {
        0
    }
    fn compare_exchange_u32(&mut self, _: WordOffset, _: u32, _: u32) -> u32 {
        0
    }
}

impl HostTree for NoHost {
    fn root(&mut self, _: u32) -> Result<NodeId, Errno> {
        Err(Errno::ENOENT)
    }
    fn lookup(&mut self, _: NodeId, _: &[u8]) -> Result<NodeId, Errno> {
        Err(Errno::ENOENT)
    }
    fn attr(&mut self, _: NodeId) -> Result<NodeAttr, Errno> {
        Err(Errno::ESTALE)
    }
    fn read_dir(&mut self, _: NodeId) -> Result<Vec<NodeEntry>, Errno> {
        Err(Errno::ESTALE)
    }
    fn read_link(&mut self, _: NodeId) -> Result<Vec<u8>, Errno> {
        Err(Errno::ESTALE)
    }
    fn open(&mut self, _: NodeId) -> Result<ImageId, Errno> {
        Err(Errno::ESTALE)
    }
    fn list_xattr(&mut self, _: NodeId) -> Result<Vec<Vec<u8>>, Errno> {
        Err(Errno::ESTALE)
    }
    fn get_xattr(&mut self, _: NodeId, _: &[u8]) -> Result<Vec<u8>, Errno> {
        Err(Errno::ESTALE)
    }
}

impl Xstate for NoHost {
    fn size(&self) -> usize {
        512
    }
    fn read(&mut self, _: ThreadId, buf: &mut [u8]) {
        buf.fill(0);
    }
    fn write(&mut self, _: ThreadId, _: &[u8]) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }
    fn reset(&mut self, _: ThreadId) {}
}
