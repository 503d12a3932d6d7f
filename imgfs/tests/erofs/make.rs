//! A maker of small images with every choice that the format leaves, also those that mkfs.erofs does not
//! make.

use std::collections::BTreeMap;

/// How the data of an inode is laid out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Layout {
    Plain,
    /// The tail behind the inode, if it fits into a block; else plain.
    Inline,
    /// Chunks of `block << bits` bytes; those of zeros are holes.
    Chunks {
        bits: u32,
        wide: bool,
    },
}

/// An attribute: number of the prefix (bit 7: of the long one), suffix, value.
pub type Attr = (u8, Vec<u8>, Vec<u8>);

#[derive(Clone, Debug)]
pub struct Node {
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub nlink: u32,
    pub mtime: (i64, u32),
    pub rdev: u32,
    pub layout: Layout,
    pub extended: bool,
    /// Bytes of a file or link.
    pub data: Vec<u8>,
    /// Names and numbers of the nodes in a directory, `.` and `..` too.
    pub names: BTreeMap<Vec<u8>, usize>,
    pub own: Vec<Attr>,
    /// Indexes into [`Image::shared`].
    pub shared: Vec<usize>,
    /// Zeroed bytes behind the attributes, a multiple of 4.
    pub slack: usize,
}

impl Node {
    pub fn new(mode: u16, data: &[u8]) -> Node {
        Node {
            mode,
            uid: 0,
            gid: 0,
            nlink: 1,
            mtime: (1_700_000_000, 0),
            rdev: 0,
            layout: Layout::Inline,
            extended: true,
            data: data.to_vec(),
            names: BTreeMap::new(),
            own: Vec::new(),
            shared: Vec::new(),
            slack: 0,
        }
    }

    fn header(&self) -> usize {
        if self.extended { 64 } else { 32 }
    }

    fn is_dir(&self) -> bool {
        self.mode & 0o170000 == 0o040000
    }

    fn attributes(&self) -> Vec<u8> {
        if self.own.is_empty() && self.shared.is_empty() && self.slack == 0 {
            return Vec::new();
        }
        let mut body = vec![0; 12];
        body[4] = self.shared.len() as u8;
        body.resize(12 + 4 * self.shared.len(), 0);
        self.own.iter().for_each(|attr| entry(&mut body, attr));
        body.resize(body.len() + self.slack, 0);
        if body.len() == 12 {
            body.resize(16, 0);
        }
        body
    }
}

fn entry(to: &mut Vec<u8>, (index, suffix, value): &Attr) {
    to.extend([suffix.len() as u8, *index]);
    to.extend((value.len() as u16).to_le_bytes());
    to.extend(suffix);
    to.extend(value);
    to.resize(to.len().next_multiple_of(4), 0);
}

/// An image to be. Node 0 is the root; nodes of directories need `.` and `..` only through [`Image::add`].
#[derive(Clone, Debug)]
pub struct Image {
    pub block_bits: u32,
    pub nodes: Vec<Node>,
    pub shared: Vec<Attr>,
    /// Number of the short prefix and what follows it.
    pub prefixes: Vec<(u8, Vec<u8>)>,
    /// Bytes of names per directory block that stay unused (zeros).
    pub loose: usize,
}

impl Image {
    pub fn new(block_bits: u32) -> Image {
        let mut root = Node::new(0o040755, b"");
        root.nlink = 2;
        root.names = [(b".".to_vec(), 0), (b"..".to_vec(), 0)].into();
        Image {
            block_bits,
            nodes: vec![root],
            shared: Vec::new(),
            prefixes: Vec::new(),
            loose: 0,
        }
    }

    /// Adds a node to a directory.
    pub fn add(&mut self, dir: usize, name: &[u8], mut node: Node) -> usize {
        let number = self.nodes.len();
        if node.is_dir() {
            node.nlink = 2;
            node.names = [(b".".to_vec(), number), (b"..".to_vec(), dir)].into();
            self.nodes[dir].nlink += 1;
        }
        self.nodes[dir].names.insert(name.to_vec(), number);
        self.nodes.push(node);
        number
    }

    /// The bytes of a directory with the numbers of inodes.
    fn directory(&self, node: &Node, nids: &[u64]) -> Vec<u8> {
        let block = 1 << self.block_bits;
        let mut blocks: Vec<Vec<(&[u8], usize)>> = vec![Vec::new()];
        let mut used = 0;
        for (name, &target) in &node.names {
            if used + 12 + name.len() > block - self.loose {
                blocks.push(Vec::new());
                used = 0;
            }
            used += 12 + name.len();
            blocks.last_mut().unwrap().push((name, target));
        }
        let mut data = Vec::new();
        for (index, entries) in blocks.iter().enumerate() {
            let start = index * block;
            data.resize(start, 0);
            let mut at = entries.len() * 12;
            for (name, target) in entries {
                let kind = match self.nodes[*target].mode >> 12 {
                    8 => 1,
                    4 => 2,
                    2 => 3,
                    6 => 4,
                    1 => 5,
                    12 => 6,
                    _ => 7,
                };
                data.extend(nids.get(*target).copied().unwrap_or(0).to_le_bytes());
                data.extend((at as u16).to_le_bytes());
                data.extend([kind, 0]);
                at += name.len();
            }
            entries.iter().for_each(|(name, _)| data.extend(*name));
        }
        data
    }

    /// The image.
    pub fn bytes(&self) -> Vec<u8> {
        let block = 1usize << self.block_bits;
        // Behind the superblock: prefixes, shared attributes, inodes.
        let mut image = vec![0; 1152];
        let prefixes_at = image.len();
        for (base, infix) in &self.prefixes {
            image.extend((infix.len() as u16 + 1).to_le_bytes());
            image.push(*base);
            image.extend(infix);
            image.resize(image.len().next_multiple_of(4), 0);
        }
        let mut ids = Vec::new();
        for attr in &self.shared {
            ids.push((image.len() / 4) as u32);
            entry(&mut image, attr);
        }
        let meta_block = image.len().div_ceil(block);
        let meta = meta_block * block;
        // Places of the inodes.
        let (mut nids, mut tails) = (Vec::new(), Vec::new());
        let mut at = meta + 32;
        for node in &self.nodes {
            let size = match node.is_dir() {
                true => self.directory(node, &[]).len(),
                false => node.data.len(),
            };
            let head = node.header() + node.attributes().len();
            let tail = match node.layout {
                Layout::Inline if !size.is_multiple_of(block) => size % block,
                _ => 0,
            };
            at = at.next_multiple_of(32);
            let fits = |at: usize| (at + head) % block + tail <= block;
            if tail > 0 && tail + head % 32 <= block {
                while !fits(at) {
                    at += 32;
                }
            }
            let inline = tail > 0 && fits(at);
            nids.push(((at - meta) / 32) as u64);
            tails.push(inline);
            at += head;
            at = match node.layout {
                Layout::Chunks { bits, .. } => {
                    at.next_multiple_of(8) + 8 * size.div_ceil(block << bits)
                }
                _ if inline => at + tail,
                _ => at,
            };
        }
        image.resize(at.next_multiple_of(block), 0);
        for (index, node) in self.nodes.iter().enumerate() {
            let data = match node.is_dir() {
                true => self.directory(node, &nids),
                false => node.data.clone(),
            };
            let attributes = node.attributes();
            let mut at = meta + 32 * nids[index] as usize;
            let (layout, mut unit) = match node.layout {
                Layout::Chunks { bits, wide } => (4, bits | u32::from(wide) << 5),
                _ if tails[index] => (2, u32::MAX),
                _ => (0, 0),
            };
            if matches!(node.mode >> 12, 2 | 6) {
                unit = node.rdev;
            }
            let tail_at = at + node.header() + attributes.len();
            let start = (image.len() / block) as u32;
            match layout {
                2 => {
                    let before = data.len() / block * block;
                    if before > 0 {
                        unit = start;
                        image.extend(&data[..before]);
                    }
                    image[tail_at..tail_at + data.len() - before].copy_from_slice(&data[before..]);
                }
                0 if !data.is_empty() => {
                    unit = start;
                    image.extend(&data);
                }
                4 => {
                    let Layout::Chunks { bits, wide } = node.layout else {
                        unreachable!("layout 4 is that of chunks")
                    };
                    let width = if wide { 8 } else { 4 };
                    let mut table = tail_at.next_multiple_of(width);
                    for chunk in data.chunks(block << bits) {
                        let start = match chunk.iter().all(|&byte| byte == 0) {
                            true => u32::MAX,
                            false => (image.len() / block) as u32,
                        };
                        image[table + width - 4..table + width]
                            .copy_from_slice(&start.to_le_bytes());
                        table += width;
                        if start != u32::MAX {
                            image.extend(chunk);
                            image.resize(image.len().next_multiple_of(block), 0);
                        }
                    }
                }
                _ => {}
            }
            image.resize(image.len().next_multiple_of(block), 0);
            let icount = match attributes.len() {
                0 => 0,
                len => (len - 12) / 4 + 1,
            };
            let mut put = |bytes: &[u8]| {
                image[at..at + bytes.len()].copy_from_slice(bytes);
                at += bytes.len();
            };
            put(&(layout << 1 | u16::from(node.extended)).to_le_bytes());
            put(&(icount as u16).to_le_bytes());
            put(&node.mode.to_le_bytes());
            if node.extended {
                put(&[0; 2]);
                put(&(data.len() as u64).to_le_bytes());
                put(&unit.to_le_bytes());
                put(&(index as u32 + 1).to_le_bytes());
                put(&node.uid.to_le_bytes());
                put(&node.gid.to_le_bytes());
                put(&node.mtime.0.to_le_bytes());
                put(&node.mtime.1.to_le_bytes());
                put(&node.nlink.to_le_bytes());
                put(&[0; 16]);
            } else {
                put(&(node.nlink as u16).to_le_bytes());
                put(&(data.len() as u32).to_le_bytes());
                put(&[0; 4]);
                put(&unit.to_le_bytes());
                put(&(index as u32 + 1).to_le_bytes());
                put(&(node.uid as u16).to_le_bytes());
                put(&(node.gid as u16).to_le_bytes());
                put(&[0; 4]);
            }
            put(&attributes);
            let ids_at = tail_at - attributes.len() + 12;
            for (slot, &shared) in node.shared.iter().enumerate() {
                let at = ids_at + 4 * slot;
                image[at..at + 4].copy_from_slice(&ids[shared].to_le_bytes());
            }
        }
        self.superblock(&mut image, meta_block as u32, nids[0] as u16, prefixes_at);
        image
    }

    fn superblock(&self, image: &mut [u8], meta: u32, root: u16, prefixes_at: usize) {
        let chunks = self
            .nodes
            .iter()
            .any(|node| matches!(node.layout, Layout::Chunks { .. }));
        let incompat = u32::from(chunks) << 2 | u32::from(!self.prefixes.is_empty()) << 6;
        let blocks = (image.len() >> self.block_bits) as u32;
        let mut put =
            |at: usize, bytes: &[u8]| image[1024 + at..][..bytes.len()].copy_from_slice(bytes);
        put(0, &0xe0f5_e1e2u32.to_le_bytes());
        put(8, &3u32.to_le_bytes());
        put(0xc, &[self.block_bits as u8, 0]);
        put(0xe, &root.to_le_bytes());
        put(0x10, &(self.nodes.len() as u64).to_le_bytes());
        put(0x18, &1_600_000_000u64.to_le_bytes());
        put(0x20, &123_456_789u32.to_le_bytes());
        put(0x24, &blocks.to_le_bytes());
        put(0x28, &meta.to_le_bytes());
        put(0x50, &incompat.to_le_bytes());
        put(0x5b, &[self.prefixes.len() as u8]);
        put(0x5c, &((prefixes_at / 4) as u32).to_le_bytes());
        let block = 1 << self.block_bits;
        let len = if block > 1024 { block - 1024 } else { block };
        let sum = checksum(&image[1024..1024 + len]);
        image[1028..1032].copy_from_slice(&sum.to_le_bytes());
    }
}

/// CRC-32C as EROFS has it: not inverted at the end. The checksum field is zero.
pub fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 {
                crc >> 1 ^ 0x82f6_3b78
            } else {
                crc >> 1
            };
        }
    }
    crc
}
