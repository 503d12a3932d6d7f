//! The merged index: one metadata-only image of the tree that a stack of layers makes together.
//!
//! Its regular files are tables of chunks that point into the layers, which are the devices of its device
//! table, lowest first; each slot is tagged with the SHA-256 of its layer. Bytes that no chunk can point to,
//! because they do not lie on a block boundary there (tails that `mkfs.erofs` packs behind inodes), are
//! copied into the index.
//!
//! A file's link count is the number of its names in the merged tree.

use std::collections::HashMap;
use std::path::Path;

use varve_imgfs::{Attr as StackAttr, Errno, ImageId, Images, Ino, OpenError, Source, Stack};

use crate::layout;
use crate::output::Output;
use crate::tree::{
    Attr, Body, Chunk, Chunks, Directory, Node, NodeId, S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO,
    S_IFLNK, S_IFREG, Time, Tree, Xattrs,
};
use crate::walk::{Next, walk};
use crate::writer::{Content, DataWriter, ExtentId};
use crate::{BLOCK_SIZE, BuildError, BuildOptions, BuildReport, Progress};

/// Attributes that mean something to overlayfs, and how those of programs with such a name are kept.
const OVERLAY: &[u8] = b"trusted.overlay.";
/// Largest chunk: 31 bits above the block size.
const MAX_CHUNK_BITS: u32 = 12 + 31;

/// A layer that an index is made over.
#[derive(Debug, Clone, Copy)]
pub struct MergeLayer {
    /// Its file.
    pub image: ImageId,
    /// SHA-256 of the whole file.
    pub digest: [u8; 32],
}

/// One slot of the device table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Device {
    pub(crate) digest: [u8; 32],
    pub(crate) blocks: u32,
}

/// Writes the merged index of `layers`, lowest first, to `output`.
///
/// # Errors
/// A layer that is refused or damaged, with the path of what cannot be read; an index that cannot be written.
/// Then nothing is left of it.
pub fn merge(
    images: &dyn Images,
    layers: &[MergeLayer],
    output: &Path,
    progress: &mut dyn Progress,
) -> Result<BuildReport, BuildError> {
    let (report, output) = write(images, layers, Output::create(output)?, progress)?;
    output.commit()?;
    Ok(report)
}

/// The SHA-256 digest of the file that a conversion makes as merged index of `layers`, lowest first: another
/// one shows another tree.
///
/// # Errors
/// As [`merge`]; the index is made in a temporary file.
pub fn index_digest(images: &dyn Images, layers: &[MergeLayer]) -> Result<[u8; 32], BuildError> {
    let temporary = std::env::temp_dir();
    let (_, output) = write(images, layers, Output::nameless(&temporary)?, &mut ())?;
    let appended = crate::verity::append(output.file(), &|| Ok(()));
    let (_, digest, _) = appended.map_err(|e| BuildError::output(&temporary, e))?;
    Ok(digest)
}

/// As [`merge`], but the index has no name yet.
pub(crate) fn write(
    images: &dyn Images,
    layers: &[MergeLayer],
    output: Output,
    progress: &mut dyn Progress,
) -> Result<(BuildReport, Output), BuildError> {
    let ids: Vec<_> = layers.iter().map(|layer| layer.image).collect();
    let mut stack = Stack::open(images, &ids, None)
        .map_err(|error| BuildError::Layers(open_failure(&error)))?;
    let mut devices = Vec::with_capacity(layers.len());
    for layer in layers {
        let len = images.image(layer.image).map_or(0, |block| block.len());
        let blocks = u32::try_from(len.div_ceil(BLOCK_SIZE))
            .map_err(|_| BuildError::Layers("a layer is larger than 16 TiB".into()))?;
        let digest = layer.digest;
        devices.push(Device { digest, blocks });
    }
    let options = BuildOptions::default();
    let mut data = DataWriter::new(output, &options, progress);
    data.reserve(layout::device_blocks(devices.len()));
    let root = stack.root();
    let attr = stack
        .attr(images, root)
        .map_err(|errno| damage(&mut stack, b"", errno))?;
    let mut merge = Merge {
        images,
        layers: &ids,
        tree: Tree::new(inode_attr(&attr)),
        dirs: Vec::new(),
        linked: HashMap::new(),
        data,
    };
    walk(&mut stack, images, root, &mut |stack, item| {
        let attr = item.attr.map_err(|errno| damage(stack, item.path, errno))?;
        merge
            .take(stack, item.depth, item.path, item.inode, &attr)
            .map(|()| Next::Into)
    })?;
    let Merge { tree, data, .. } = merge;
    layout::write(tree, data, &options, &devices)
}

pub(crate) fn open_failure(error: &OpenError) -> String {
    match error {
        OpenError::Image(error) => format!("layer {}: {error}", error.image.0),
        other => other.to_string(),
    }
}

/// What a stack's fault is called: its own line on it, if there is one.
fn damage(stack: &mut Stack, path: &[u8], errno: Errno) -> BuildError {
    let reason = match stack.take_faults().pop() {
        // Images of a conversion are its layers.
        Some(line) => match line.strip_prefix("image ") {
            Some(rest) => format!("layer {rest}"),
            None => line,
        },
        None => errno.to_string(),
    };
    BuildError::unsupported([b"/", path].concat(), reason)
}

struct Merge<'a, 'p> {
    images: &'a dyn Images,
    layers: &'a [ImageId],
    tree: Tree,
    /// The directories from the root to where the walk is.
    dirs: Vec<NodeId>,
    /// Inodes with several names.
    linked: HashMap<Ino, NodeId>,
    data: DataWriter<'p>,
}

/// A run of blocks of a file.
enum Run {
    /// In a layer: number of its device, first block there.
    Device(u16, u32),
    /// To be copied.
    Copy,
    Hole,
}

impl Merge<'_, '_> {
    fn take(
        &mut self,
        stack: &mut Stack,
        depth: usize,
        path: &[u8],
        inode: Ino,
        attr: &StackAttr,
    ) -> Result<(), BuildError> {
        self.data.check()?;
        let images = self.images;
        let kind = (attr.mode & 0o170000) as u16;
        self.dirs.truncate(depth);
        let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or(path);
        let parent = self.dirs.last().copied();
        // Directories of a damaged layer may share what is in them, and so be more than the layer has room
        // for.
        if let Some(reason) = self.tree.full() {
            return Err(BuildError::unsupported(path.to_vec(), reason));
        }
        if kind != S_IFDIR
            && attr.nlink > 1
            && let (Some(&node), Some(parent)) = (self.linked.get(&inode), parent)
        {
            self.tree.link(parent, name, node);
            return Ok(());
        }
        let xattrs = inode_xattrs(stack, images, inode);
        let xattrs = xattrs.map_err(|errno| damage(stack, path, errno))?;
        let body = match kind {
            S_IFDIR => Body::Directory(Directory::default()),
            S_IFREG => self.file(stack, path, inode, attr.size)?,
            S_IFLNK => {
                let target = stack.read_link(images, inode);
                Body::Symlink(target.map_err(|errno| damage(stack, path, errno))?.into())
            }
            kind => special(kind, attr.rdev),
        };
        let Some(parent) = parent else {
            self.tree.node_mut(NodeId::ROOT).xattrs = xattrs;
            self.dirs.push(NodeId::ROOT);
            return Ok(());
        };
        let node = self.tree.push(Node {
            attr: inode_attr(attr),
            xattrs,
            body,
        });
        self.tree.link(parent, name, node);
        if kind == S_IFDIR {
            self.dirs.push(node);
        } else if attr.nlink > 1 {
            self.linked.insert(inode, node);
        }
        Ok(())
    }

    fn file(
        &mut self,
        stack: &mut Stack,
        path: &[u8],
        inode: Ino,
        size: u64,
    ) -> Result<Body, BuildError> {
        if size == 0 {
            return Ok(Body::File { size, extent: None });
        }
        // Runs by the block of the file they start at.
        let mut runs: Vec<(u64, Run)> = Vec::new();
        let mut copied = Vec::new();
        let mut at = 0;
        while at < size {
            let extent = stack.extent(self.images, inode, at);
            let extent = extent.map_err(|errno| damage(stack, path, errno))?;
            let Some(extent) = extent else { break };
            let rest = size - at;
            let whole = match extent.len >= rest {
                true => rest,
                false => extent.len - extent.len % BLOCK_SIZE,
            };
            let run = match extent.source {
                Source::Zero if whole > 0 => Run::Hole,
                Source::Image { image, offset } if whole > 0 => self.device(image, offset, whole),
                _ => Run::Copy,
            };
            let block = at / BLOCK_SIZE;
            if matches!(run, Run::Copy) {
                copied.push(block);
                if !matches!(runs.last(), Some((_, Run::Copy))) {
                    runs.push((block, run));
                }
                at += BLOCK_SIZE;
                continue;
            }
            let (from, first) = match (runs.last(), &run) {
                // What goes on where the one before ends is the same run.
                (Some((from, Run::Device(device, first))), Run::Device(to, block_there))
                    if device == to
                        && u64::from(*first) + (block - from) == u64::from(*block_there) =>
                {
                    (*from, Some(*first))
                }
                _ => (block, None),
            };
            if first.is_none() {
                runs.push((from, run));
            }
            at += whole.next_multiple_of(BLOCK_SIZE);
        }
        let own = match copied.as_slice() {
            [] => None,
            blocks => {
                let mut content = Copied {
                    stack,
                    images: self.images,
                    inode,
                    blocks,
                    size,
                    path,
                };
                let len = content.len();
                self.data.store(len, &mut content)?
            }
        };
        let bits = match runs.as_slice() {
            [_] => size.next_power_of_two().trailing_zeros().max(12),
            runs => {
                let starts = runs.iter().fold(0, |all, (start, _)| all | start);
                12 + starts.trailing_zeros()
            }
        };
        let bits = bits.min(MAX_CHUNK_BITS);
        Ok(Body::Chunks {
            size,
            chunks: Chunks {
                bits,
                list: chunks(&runs, own, size, bits),
                own,
            },
        })
    }

    /// A run in a layer, if a chunk can point to it: on a block boundary, whole blocks inside the file.
    fn device(&self, image: ImageId, offset: u64, len: u64) -> Run {
        let device = self.layers.iter().position(|&layer| layer == image);
        let end = offset.saturating_add(len.next_multiple_of(BLOCK_SIZE));
        let room = self.images.image(image).map_or(0, |block| block.len());
        let block = u32::try_from(offset / BLOCK_SIZE).ok();
        match (device, block) {
            (Some(device), Some(block))
                if offset.is_multiple_of(BLOCK_SIZE) && end <= room && block != u32::MAX =>
            {
                Run::Device(device as u16 + 1, block)
            }
            _ => Run::Copy,
        }
    }
}

/// The chunk table of a file whose runs start on chunk boundaries.
fn chunks(runs: &[(u64, Run)], own: Option<ExtentId>, size: u64, bits: u32) -> Vec<Chunk> {
    let mut list = Vec::new();
    let mut copied = 0;
    for (index, (start, run)) in runs.iter().enumerate() {
        let end = runs
            .get(index + 1)
            .map_or(size.div_ceil(BLOCK_SIZE), |(next, _)| *next);
        let step = 1 << (bits - 12);
        for block in (*start..end).step_by(step) {
            let within = (block - start) as u32;
            list.push(match (run, own) {
                (Run::Device(device, first), _) => Chunk::Device(*device, first + within),
                (Run::Copy, Some(_)) => Chunk::Own(copied + within),
                _ => Chunk::Hole,
            });
        }
        if matches!(run, Run::Copy) {
            copied += (end - start) as u32;
        }
    }
    list
}

/// The blocks of a file that are copied, one behind the other.
struct Copied<'a> {
    stack: &'a mut Stack,
    images: &'a dyn Images,
    inode: Ino,
    blocks: &'a [u64],
    size: u64,
    path: &'a [u8],
}

impl Copied<'_> {
    /// Only the last block of the file may be a partial one.
    fn len(&self) -> u64 {
        let last = self.blocks.last().copied().unwrap_or_default();
        (self.blocks.len() as u64 - 1) * BLOCK_SIZE
            + (self.size - last * BLOCK_SIZE).min(BLOCK_SIZE)
    }
}

impl Content for Copied<'_> {
    fn hole_end(&mut self, at: u64) -> Result<u64, BuildError> {
        Ok(at)
    }

    fn read(&mut self, at: u64, buf: &mut [u8]) -> Result<(), BuildError> {
        // Asked for in whole blocks, but for the last.
        let first = (at / BLOCK_SIZE) as usize;
        for (part, block) in buf
            .chunks_mut(BLOCK_SIZE as usize)
            .zip(self.blocks.get(first..).unwrap_or_default())
        {
            let read = self
                .stack
                .read(self.images, self.inode, block * BLOCK_SIZE, part);
            read.map_err(|errno| damage(self.stack, self.path, errno))?;
        }
        Ok(())
    }
}

/// The extended attributes of an inode as a layer keeps them.
pub(crate) fn inode_xattrs(
    stack: &mut Stack,
    images: &dyn Images,
    inode: Ino,
) -> Result<Xattrs, Errno> {
    let mut xattrs = Xattrs::new();
    for name in stack.list_xattr(images, inode)? {
        let value = stack.xattr(images, inode, &name)?;
        let kept = match name.strip_prefix(OVERLAY) {
            Some(rest) => [OVERLAY, b"overlay.", rest].concat(),
            None => name,
        };
        xattrs.insert(kept.into(), value.into());
    }
    Ok(xattrs)
}

pub(crate) fn inode_attr(attr: &StackAttr) -> Attr {
    Attr {
        perm: (attr.mode & 0o7777) as u16,
        uid: attr.uid,
        gid: attr.gid,
        mtime: Time {
            sec: attr.mtime.sec,
            nsec: attr.mtime.nsec,
        },
    }
}

/// A device, a FIFO or a socket.
pub(crate) fn special(kind: u16, rdev: u32) -> Body {
    let (major, minor) = device_number(rdev);
    match kind {
        S_IFCHR => Body::CharDevice(major, minor),
        S_IFBLK => Body::BlockDevice(major, minor),
        S_IFIFO => Body::Fifo,
        _ => Body::Socket,
    }
}

/// Major and minor number of the kernel's 32-bit encoding.
fn device_number(rdev: u32) -> (u32, u32) {
    (rdev >> 8 & 0xfff, rdev & 0xff | rdev >> 12 & 0xfff00)
}
