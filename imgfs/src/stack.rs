//! A stack of image layers, read-only: what tools and mounts look into.
//!
//! [`Stack`] is a value: images are arguments of its calls. Inodes go by number. A merged directory is only
//! known while it is referenced: [`Stack::lookup`] gives a reference, [`Stack::forget`] takes it back.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use varve_abi::Errno;
use varve_abi::raw::general::{S_IFDIR, S_IFLNK, S_IFMT, S_IFREG};

use crate::erofs::{Extent, Source};
use crate::layers::{Attr, Entry, Ino, Layer, Layers, MergedIndex, OpenError};
use crate::port::{ImageId, Images, LayerPorts, NoTree};

/// The root of a stack without layers: an empty directory.
const NOTHING: Ino = Ino(1);

/// An opened stack.
#[derive(Clone, Debug)]
pub struct Stack {
    layers: Layers,
    /// References on merged directories.
    refs: BTreeMap<Ino, u32>,
}

impl Stack {
    /// Opens layers, lowest first; through a merged index, if there is one and it belongs to them. Without
    /// any it is an empty directory.
    ///
    /// # Errors
    /// An image that is refused, or more layers than can be stacked.
    pub fn open(
        images: &dyn Images,
        layers: &[ImageId],
        index: Option<&MergedIndex>,
    ) -> Result<Stack, OpenError> {
        let layers: Vec<Layer> = layers.iter().copied().map(Layer::Image).collect();
        let mut tree = NoTree;
        let mut ports = LayerPorts {
            images,
            tree: &mut tree,
        };
        Ok(Stack {
            layers: Layers::open(&mut ports, &layers, index)?,
            refs: BTreeMap::new(),
        })
    }

    fn with<R>(
        &mut self,
        images: &dyn Images,
        run: impl FnOnce(&mut Layers, &mut LayerPorts<'_>) -> R,
    ) -> R {
        let mut tree = NoTree;
        let mut ports = LayerPorts {
            images,
            tree: &mut tree,
        };
        run(&mut self.layers, &mut ports)
    }

    /// The root directory; it needs no reference.
    pub fn root(&self) -> Ino {
        self.layers.root().unwrap_or(NOTHING)
    }

    /// What was found damaged since the last call, a line each, naming image, inode and field. Only the first
    /// few are kept.
    pub fn take_faults(&mut self) -> Vec<String> {
        self.layers.take_faults()
    }

    /// The inode called `name` (one component, not `.` or `..`) in a directory; gives a reference.
    ///
    /// # Errors
    /// `ENOENT`; damage, also where `dir` is no directory.
    pub fn lookup(&mut self, images: &dyn Images, dir: Ino, name: &[u8]) -> Result<Ino, Errno> {
        let found = self.with(images, |layers, ports| {
            layers.lookup(ports, dir, name, |_| false)
        })?;
        let (ino, _) = found.ok_or(Errno::ENOENT)?;
        // The others have nothing that must be kept.
        if self.layers.is_kept(ino) {
            let count = self.refs.entry(ino).or_default();
            *count = count.saturating_add(1);
        }
        Ok(ino)
    }

    /// Takes back a reference.
    pub fn forget(&mut self, inode: Ino) {
        match self.refs.get_mut(&inode) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) => {
                self.refs.remove(&inode);
                self.layers.end_reading(inode);
                self.layers.release(inode);
            }
            None => {}
        }
    }

    /// Attributes.
    ///
    /// # Errors
    /// Damage.
    pub fn attr(&mut self, images: &dyn Images, inode: Ino) -> Result<Attr, Errno> {
        if inode == NOTHING {
            return Ok(Attr {
                mode: S_IFDIR | 0o755,
                nlink: 2,
                ..Attr::default()
            });
        }
        self.with(images, |layers, ports| layers.attr(ports, inode))
    }

    /// Target of a symbolic link.
    ///
    /// # Errors
    /// `EINVAL` for others; damage.
    pub fn read_link(&mut self, images: &dyn Images, inode: Ino) -> Result<Vec<u8>, Errno> {
        match self.attr(images, inode)?.mode & S_IFMT {
            S_IFLNK => self.with(images, |layers, ports| layers.read_link(ports, inode)),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Gives the entries of a directory behind `cookie` (0: all) until `each` returns `false`, without `.`
    /// and `..`, each name once.
    ///
    /// # Errors
    /// Damage, also where `dir` is no directory.
    pub fn read_dir(
        &mut self,
        images: &dyn Images,
        dir: Ino,
        cookie: u64,
        each: &mut dyn FnMut(Entry<'_>) -> bool,
    ) -> Result<(), Errno> {
        self.with(images, |layers, ports| {
            layers.read_dir(ports, dir, cookie, |_| false, each)
        })
    }

    /// Bytes of a regular file. `EISDIR`, `EINVAL` for others.
    fn size(&mut self, images: &dyn Images, inode: Ino) -> Result<u64, Errno> {
        let attr = self.attr(images, inode)?;
        match attr.mode & S_IFMT {
            S_IFREG => Ok(attr.size),
            S_IFDIR => Err(Errno::EISDIR),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Where the bytes of a regular file from `offset` on are; `None` at or behind its end.
    ///
    /// # Errors
    /// `EISDIR`, `EINVAL` for others; damage.
    pub fn extent(
        &mut self,
        images: &dyn Images,
        inode: Ino,
        offset: u64,
    ) -> Result<Option<Extent>, Errno> {
        if offset >= self.size(images, inode)? {
            return Ok(None);
        }
        self.with(images, |layers, ports| layers.extent(ports, inode, offset))
    }

    /// Next byte that is data (`true`) or hole (`false`) at or behind `offset`, as lseek(2) has it.
    ///
    /// # Errors
    /// `ENXIO` if there is none; damage.
    pub fn seek(
        &mut self,
        images: &dyn Images,
        inode: Ino,
        mut offset: u64,
        data: bool,
    ) -> Result<u64, Errno> {
        let size = self.size(images, inode)?;
        if offset >= size {
            return Err(Errno::ENXIO);
        }
        self.with(images, |layers, ports| {
            while let Some(extent) = layers.extent(ports, inode, offset)? {
                if (extent.source != Source::Zero) == data {
                    return Ok(offset);
                }
                offset = offset.saturating_add(extent.len);
            }
            match data {
                true => Err(Errno::ENXIO),
                false => Ok(size),
            }
        })
    }

    /// Fills `buf` with bytes of a regular file; gives how many there were.
    ///
    /// # Errors
    /// Damage; an image that cannot be read.
    pub fn read(
        &mut self,
        images: &dyn Images,
        inode: Ino,
        mut offset: u64,
        buf: &mut [u8],
    ) -> Result<usize, Errno> {
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let Some(extent) = self.extent(images, inode, offset)? else {
                break;
            };
            let len = usize::try_from(extent.len).map_or(rest.len(), |len| len.min(rest.len()));
            let (part, _) = rest.split_at_mut(len);
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
        inode: Ino,
        name: &[u8],
    ) -> Result<Vec<u8>, Errno> {
        if inode == NOTHING {
            return Err(Errno::ENODATA);
        }
        self.with(images, |layers, ports| layers.xattr(ports, inode, name))
    }

    /// Full names of the extended attributes.
    ///
    /// # Errors
    /// Damage.
    pub fn list_xattr(&mut self, images: &dyn Images, inode: Ino) -> Result<Vec<Vec<u8>>, Errno> {
        if inode == NOTHING {
            return Ok(Vec::new());
        }
        self.with(images, |layers, ports| layers.xattr_names(ports, inode))
    }
}
