//! Gives every inode its place and writes the metadata.
//!
//! Order in the image: block 0, file data, then whole blocks of directories and long symlink targets, the
//! pool of shared attributes, and last the inode zone with what is packed behind the inodes. The root is the
//! first inode of the zone; the inodes of one directory lie together, so that listing it reads few pages.

use crate::digest::ImageHasher;
use crate::inode::{self, DataLayout, Inode, NO_BLOCK, SLOT};
use crate::merge::Device;
use crate::output::Output;
use crate::superblock::{DEVICE_SLOT, LABEL_MAX, Superblock};
use crate::tree::{Body, Chunk, Chunks, NodeId, Time, Tree};
use crate::writer::{DataWriter, ExtentId, FinishedData};
use crate::xattr::{self, Pool};
use crate::{BLOCK_SIZE, BuildError, BuildOptions, BuildReport, Work, dirent};
use std::collections::HashSet;

/// Nid of the root: nid 0 would show as inode number 0, and old readers want it below 65536.
const ROOT_NID: u16 = 1;
/// Marks a node that no name leads to.
const UNREACHED: u32 = u32::MAX;
/// Size of an entry of a table of chunks.
const CHUNK_ENTRY: u64 = 8;
/// Chunk format: entries name devices.
const CHUNK_INDEXES: u32 = 0x20;
/// Bytes that follow the last inode: `fsck.erofs` reads the head of attributes also where there are none.
const BEHIND_LAST: u64 = 12;
/// Metadata gathered before it is written, in bytes.
const BATCH: usize = 1 << 20;

/// The inodes in their order on disk, with what depends on their names.
struct Order {
    nodes: Vec<NodeId>,
    /// By node: position in `nodes`.
    serial: Vec<u32>,
    /// By node: hard links as `st_nlink` tells them.
    links: Vec<u32>,
    /// By node: the directory of a directory.
    parent: Vec<NodeId>,
}

impl Order {
    fn new(tree: &Tree) -> Self {
        let count = tree.nodes.len();
        let mut order = Self {
            nodes: vec![NodeId::ROOT],
            serial: vec![UNREACHED; count],
            links: vec![0; count],
            parent: vec![NodeId::ROOT; count],
        };
        order.serial[0] = 0;
        order.links[0] = 2;
        let mut next = 0;
        while let Some(&id) = order.nodes.get(next) {
            next += 1;
            let Some(directory) = tree.directory(id) else {
                continue;
            };
            for &child in directory.entries.values() {
                let c = child.index();
                if order.serial[c] == UNREACHED {
                    order.serial[c] = order.nodes.len() as u32;
                    order.nodes.push(child);
                }
                if tree.node(child).body.is_directory() {
                    order.links[c] = 2;
                    order.links[id.index()] += 1;
                    order.parent[c] = id;
                } else {
                    order.links[c] += 1;
                }
            }
        }
        order
    }

    /// A path to `node`, for messages.
    fn path(&self, tree: &Tree, node: NodeId) -> Vec<u8> {
        let holds = |dir: &NodeId| {
            let name = tree
                .directory(*dir)?
                .entries
                .iter()
                .find(|(_, id)| **id == node)?
                .0;
            Some((*dir, name.to_vec()))
        };
        let (mut at, mut path) = match self.nodes.iter().find_map(holds) {
            Some(found) => found,
            None => return b"/".to_vec(),
        };
        path.insert(0, b'/');
        while at != NodeId::ROOT {
            let up = self.parent[at.index()];
            if let Some((name, _)) = tree
                .directory(up)
                .and_then(|d| d.entries.iter().find(|(_, id)| **id == at))
            {
                path.splice(0..0, [b"/", &**name].concat());
            }
            at = up;
        }
        path
    }
}

/// Where one inode goes.
struct Place {
    /// Offset in the inode zone, in bytes.
    offset: u64,
    inode_size: u64,
    /// Size of the content.
    size: u64,
    xattrs: Vec<u8>,
    layout: DataLayout,
    /// First block of the content, for directories and symlinks.
    block: u32,
}

impl Place {
    fn nid(&self) -> u64 {
        self.offset / SLOT
    }

    /// Bytes of content in whole blocks, and packed behind the inode.
    fn split(&self) -> (u64, u64) {
        match self.layout {
            DataLayout::Plain | DataLayout::Chunks => (self.size, 0),
            DataLayout::Inline => (self.size - self.size % BLOCK_SIZE, self.size % BLOCK_SIZE),
        }
    }
}

/// Hands out room in the inode zone so that nothing that must stay together crosses a block.
struct Zone {
    end: u64,
    /// Room left at the end of a block by an inode that moved to the next one.
    gap: std::ops::Range<u64>,
}

impl Zone {
    /// `whole` bytes at the front must lie in one block if `tail` says so, else just the inode itself.
    fn place(&mut self, inode_size: u64, len: u64, together: bool) -> u64 {
        let whole = if together { len } else { inode_size };
        let slots = len.next_multiple_of(SLOT);
        if self.gap.end - self.gap.start >= slots {
            let at = self.gap.start;
            self.gap.start += slots;
            return at;
        }
        let room = BLOCK_SIZE - self.end % BLOCK_SIZE;
        if whole > room {
            if room > self.gap.end - self.gap.start {
                self.gap = self.end..self.end + room;
            }
            self.end += room;
        }
        let at = self.end;
        self.end += slots;
        at
    }
}

/// Writes the metadata of `tree` behind the data; the image is whole then and still without a name.
pub(crate) fn write(
    mut tree: Tree,
    data: DataWriter<'_>,
    options: &BuildOptions,
    devices: &[Device],
) -> Result<(BuildReport, Output), BuildError> {
    let label = options
        .label
        .as_deref()
        .unwrap_or_default()
        .as_bytes()
        .to_vec();
    if label.len() > LABEL_MAX || label.contains(&0) {
        return Err(BuildError::Option(format!(
            "label {:?} is longer than {LABEL_MAX} bytes",
            String::from_utf8_lossy(&label)
        )));
    }
    tree.finish();
    let order = Order::new(&tree);
    let mut data = data.finish(&live_extents(&tree, &order, &options.order))?;
    tree.count(&order.nodes, &order.links, &mut data.report);
    let epoch = most_common_time(&tree, &order);
    let pool = Pool::new(order.nodes.iter().map(|id| &tree.node(*id).xattrs));

    let mut block = data.end / BLOCK_SIZE;
    let mut zone = Zone {
        end: u64::from(ROOT_NID) * SLOT,
        gap: 0..0,
    };
    let mut places = Vec::with_capacity(order.nodes.len());
    for &id in &order.nodes {
        let place = place(&tree, &order, id, epoch, &pool, &mut zone, &mut block)?;
        places.push(place);
    }
    let xattr_block = block;
    let meta_block = block + (pool.bytes().len() as u64).div_ceil(BLOCK_SIZE);
    let zone_len = (zone.end + BEHIND_LAST).next_multiple_of(BLOCK_SIZE);
    let blocks = meta_block + zone_len / BLOCK_SIZE;
    let blocks =
        u32::try_from(blocks).map_err(|_| data.output.failure("an image cannot exceed 16 TiB"))?;

    let mut hasher = ImageHasher::default();
    let devices = device_table(devices);
    hasher.bytes(&label);
    hasher.bytes(&devices);
    for extent in &data.extents {
        hasher.extent(extent.start, extent.size, extent.content);
    }
    // Directory blocks come in the order of their inodes, so they are written front to back.
    let mut stream = Stream {
        data: &data,
        hasher,
        at: data.end,
        batch: Vec::with_capacity(2 * BATCH),
    };
    let mut inodes = vec![0; zone_len as usize];
    for (serial, (&id, place)) in order.nodes.iter().zip(&places).enumerate() {
        let node = tree.node(id);
        let (whole, tail) = place.split();
        let content = content(&tree, &order, &places, id);
        let at = place.offset as usize;
        let inode_end = at + place.inode_size as usize;
        let body_end = inode_end + place.xattrs.len();
        if !content.is_empty() {
            let (blocks, packed) = content.split_at(whole as usize);
            stream.blocks(blocks)?;
            inodes[body_end..body_end + tail as usize].copy_from_slice(packed);
        }
        inodes[inode_end..body_end].copy_from_slice(&place.xattrs);
        let union = match node.body {
            Body::CharDevice(major, minor) | Body::BlockDevice(major, minor) => {
                inode::device(major, minor).ok_or_else(|| {
                    BuildError::unsupported(
                        order.path(&tree, id),
                        format!("device number {major}:{minor} is out of range"),
                    )
                })?
            }
            // Below 2^32: the last block of the image is.
            Body::File {
                extent: Some(extent),
                ..
            } => (data.extents[extent.0 as usize].start / BLOCK_SIZE) as u32,
            Body::Directory(_) | Body::Symlink(_) => place.block,
            Body::Chunks { ref chunks, .. } => {
                let table = body_end.next_multiple_of(CHUNK_ENTRY as usize);
                let own = chunks.own.map(|own| data.extents[own.0 as usize].start);
                write_chunks(&mut inodes[table..], chunks, own.unwrap_or_default());
                CHUNK_INDEXES | (chunks.bits - BLOCK_SIZE.trailing_zeros())
            }
            _ => 0,
        };
        let inode = Inode {
            attr: node.attr,
            mode: node.body.mode_type() | node.attr.perm & 0o7777,
            layout: place.layout,
            size: place.size,
            nlink: order.links[id.index()],
            union,
            serial: serial as u32 + 1,
            xattr_icount: xattr::icount(&place.xattrs),
        };
        inode.emit(&mut inodes[at..inode_end]);
    }
    stream.blocks(pool.bytes())?;
    stream.blocks(&inodes)?;
    let (hasher, end) = stream.finish()?;

    let superblock = Superblock {
        root_nid: ROOT_NID,
        inodes: order.nodes.len() as u64,
        epoch,
        blocks,
        meta_block: meta_block as u32,
        xattr_block: xattr_block as u32,
        uuid: hasher.uuid(),
        label,
        devices,
    };
    data.output.write_at(0, &superblock.blocks())?;
    let mut report = data.report;
    report.image_bytes = end;
    report.uuid = superblock.uuid;
    let inodes = superblock.inodes;
    data.progress.advance(Work::Metadata, inodes, Some(inodes));
    Ok((report, data.output))
}

/// The extents that a name leads to: those of the paths in `first`, then the others as they were stored.
fn live_extents(tree: &Tree, order: &Order, first: &[Vec<u8>]) -> Vec<ExtentId> {
    let extent_of = |id: NodeId| match tree.node(id).body {
        Body::File { extent, .. } => extent,
        Body::Chunks { ref chunks, .. } => chunks.own,
        _ => None,
    };
    let mut seen = HashSet::new();
    let mut live: Vec<_> = first
        .iter()
        .filter_map(|path| extent_of(tree.find(path)?))
        .filter(|e| seen.insert(*e))
        .collect();
    let mut rest: Vec<_> = order
        .nodes
        .iter()
        .filter_map(|id| extent_of(*id))
        .filter(|e| seen.insert(*e))
        .collect();
    rest.sort_unstable();
    live.append(&mut rest);
    live
}

/// The time that lets most inodes take the compact form; the earliest of several.
fn most_common_time(tree: &Tree, order: &Order) -> Time {
    let mut times: Vec<_> = order
        .nodes
        .iter()
        .map(|id| tree.node(*id).attr.mtime)
        .collect();
    times.sort_unstable();
    let mut best = (0, Time::default());
    for run in times.chunk_by(|a, b| a == b) {
        if run.len() > best.0 {
            best = (run.len(), run[0]);
        }
    }
    best.1
}

fn place(
    tree: &Tree,
    order: &Order,
    id: NodeId,
    epoch: Time,
    pool: &Pool<'_>,
    zone: &mut Zone,
    block: &mut u64,
) -> Result<Place, BuildError> {
    let node = tree.node(id);
    let size = match &node.body {
        Body::Directory(directory) => dirent::size(directory),
        Body::Symlink(target) => target.len() as u64,
        Body::File { size, .. } | Body::Chunks { size, .. } => *size,
        _ => 0,
    };
    let inode_size = inode::size(&node.attr, size, order.links[id.index()], epoch);
    let xattrs = pool.body(&node.xattrs, || order.path(tree, id))?;
    let head = inode_size + xattrs.len() as u64;
    let packable = matches!(node.body, Body::Directory(_) | Body::Symlink(_));
    let tail = if packable { size % BLOCK_SIZE } else { 0 };
    let inline = tail > 0 && head + tail <= BLOCK_SIZE;
    let (layout, len) = match &node.body {
        Body::Chunks { chunks, .. } => {
            let table = CHUNK_ENTRY * chunks.list.len() as u64;
            (
                DataLayout::Chunks,
                head.next_multiple_of(CHUNK_ENTRY) + table,
            )
        }
        _ if inline => (DataLayout::Inline, head + tail),
        _ => (DataLayout::Plain, head),
    };
    let mut place = Place {
        offset: zone.place(inode_size, len, inline),
        inode_size,
        size,
        xattrs,
        layout,
        block: NO_BLOCK,
    };
    let whole = place.split().0;
    if packable && whole > 0 {
        // An image of more blocks fails before this is written.
        place.block = *block as u32;
        *block += whole.div_ceil(BLOCK_SIZE);
    }
    Ok(place)
}

/// Blocks at the front of an image with so many devices.
pub(crate) fn device_blocks(devices: usize) -> u64 {
    // 1024 free bytes and the superblock come first.
    ((9 + devices) * DEVICE_SLOT).div_ceil(BLOCK_SIZE as usize) as u64
}

/// The slots of the device table: the digest as tag, the length, no place among the image's own addresses.
fn device_table(devices: &[Device]) -> Vec<u8> {
    let mut table = Vec::with_capacity(devices.len() * DEVICE_SLOT);
    for device in devices {
        let start = table.len();
        table.extend_from_slice(hex::encode(device.digest).as_bytes());
        table.extend_from_slice(&device.blocks.to_le_bytes());
        table.resize(start + DEVICE_SLOT, 0);
    }
    table
}

/// Fills in a table of chunks: 16 bits that are not used, the device, the block there.
fn write_chunks(table: &mut [u8], chunks: &Chunks, own: u64) {
    for (entry, chunk) in table
        .chunks_exact_mut(CHUNK_ENTRY as usize)
        .zip(&chunks.list)
    {
        let (device, block) = match *chunk {
            Chunk::Device(device, block) => (device, block),
            // Below 2^32: the last block of the image is.
            Chunk::Own(block) => (0, (own / BLOCK_SIZE) as u32 + block),
            Chunk::Hole => (0, NO_BLOCK),
        };
        entry[2..4].copy_from_slice(&device.to_le_bytes());
        entry[4..].copy_from_slice(&block.to_le_bytes());
    }
}

/// The content that the metadata part holds for an inode: none for files.
fn content(tree: &Tree, order: &Order, places: &[Place], id: NodeId) -> Vec<u8> {
    match &tree.node(id).body {
        Body::Symlink(target) => target.to_vec(),
        Body::Directory(directory) => dirent::content(directory, |name| {
            let child = match name {
                b"." => id,
                b".." => order.parent[id.index()],
                // The name comes from the directory itself.
                name => directory.entries.get(name).copied().unwrap_or(id),
            };
            let nid = places[order.serial[child.index()] as usize].nid();
            dirent::Entry {
                name,
                nid,
                kind: dirent::kind(&tree.node(child).body),
            }
        }),
        _ => Vec::new(),
    }
}

/// Writes whole blocks front to back, a batch at a time.
struct Stream<'a, 'p> {
    data: &'a FinishedData<'p>,
    hasher: ImageHasher,
    at: u64,
    batch: Vec<u8>,
}

impl Stream<'_, '_> {
    /// Appends `bytes`, the last block filled up with zeros.
    fn blocks(&mut self, bytes: &[u8]) -> Result<(), BuildError> {
        self.batch.extend_from_slice(bytes);
        self.batch
            .resize(self.batch.len().next_multiple_of(BLOCK_SIZE as usize), 0);
        if self.batch.len() >= BATCH {
            self.flush()
        } else {
            Ok(())
        }
    }

    fn flush(&mut self) -> Result<(), BuildError> {
        self.data.output.write_at(self.at, &self.batch)?;
        self.hasher.bytes(&self.batch);
        self.at += self.batch.len() as u64;
        self.batch.clear();
        Ok(())
    }

    fn finish(mut self) -> Result<(ImageHasher, u64), BuildError> {
        self.flush()?;
        Ok((self.hasher, self.at))
    }
}
