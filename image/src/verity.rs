//! Merkle trees behind images, in the layout of dm-verity (Documentation/admin-guide/device-mapper/verity.rst
//! and cryptsetup's `verity_sb`): SHA-256, blocks of 4096 bytes, no salt; first the superblock, then the
//! levels, the topmost one first.
//!
//! [`append`] makes one, [`VerifiedFile`] is an image whose blocks are checked as they are read. Neither
//! needs memory that grows with the image: of each level one block is at hand.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};
use varve_imgfs::{Block, Errno};

/// Size of data and hash blocks, in bytes.
pub const VERITY_BLOCK: u64 = 4096;
const BLOCK: usize = VERITY_BLOCK as usize;
/// Digests in a hash block.
const FAN_OUT: usize = BLOCK / 32;
/// Bytes read at once.
const CHUNK: usize = 1 << 20;
/// Pieces of that size that wait to be hashed.
const AHEAD: usize = 2;
/// Checked blocks that images keep together, data and digests, where nothing else is said: 16 MiB.
const KEPT_MAX: usize = 4096;
/// What keeps a checked block beside its bytes, about.
const KEPT_COST: u64 = 96;

/// Where the tree of an image is, and what it must lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verity {
    /// Root digest.
    pub root: [u8; 32],
    /// Offset of the tree's superblock: the length of the data, a multiple of the block size.
    pub hash_offset: u64,
}

type Hash = [u8; 32];

fn hash(bytes: &[u8]) -> Hash {
    Sha256::digest(bytes).into()
}

/// The superblock, alone in its block.
fn superblock(data_blocks: u64) -> Vec<u8> {
    let mut block = vec![0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"verity\0\0");
    // Version and type of the hash: those of today.
    put(8, &1_u32.to_le_bytes());
    put(12, &1_u32.to_le_bytes());
    put(32, b"sha256");
    put(64, &(BLOCK as u32).to_le_bytes());
    put(68, &(BLOCK as u32).to_le_bytes());
    put(72, &data_blocks.to_le_bytes());
    block
}

/// One level of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Level {
    /// Offset of its first block.
    offset: u64,
    /// Blocks of digests.
    blocks: u64,
}

/// Where the levels are over so many blocks of data, the lowest first, and where the tree ends; `None` if
/// there is no such offset.
fn levels(hash_offset: u64) -> Option<(Vec<Level>, u64)> {
    let mut sizes = Vec::new();
    let mut hashes = hash_offset / VERITY_BLOCK;
    while hashes > 1 {
        hashes = hashes.div_ceil(FAN_OUT as u64);
        sizes.push(hashes);
    }
    let mut end = hash_offset.checked_add(VERITY_BLOCK)?;
    let mut levels = Vec::with_capacity(sizes.len());
    for &blocks in sizes.iter().rev() {
        levels.push(Level {
            offset: end,
            blocks,
        });
        end = end.checked_add(blocks.checked_mul(VERITY_BLOCK)?)?;
    }
    levels.reverse();
    Some((levels, end))
}

/// The levels over digests that come one after the other; each block goes to `out` with its offset when it is
/// full.
struct Levels<F> {
    levels: Vec<Level>,
    /// Of each level the block that is being filled, and its number.
    open: Vec<(Vec<u8>, u64)>,
    root: Option<Hash>,
    out: F,
}

impl<F: FnMut(u64, &[u8]) -> io::Result<()>> Levels<F> {
    fn new(levels: Vec<Level>, out: F) -> Self {
        let open = levels.iter().map(|_| (Vec::with_capacity(BLOCK), 0));
        Self {
            open: open.collect(),
            levels,
            root: None,
            out,
        }
    }

    /// Adds a digest to a level; those above the last one are the root.
    fn add(&mut self, level: usize, digest: Hash) -> io::Result<()> {
        let Some((block, _)) = self.open.get_mut(level) else {
            self.root = Some(digest);
            return Ok(());
        };
        block.extend_from_slice(&digest);
        match block.len() == BLOCK {
            true => self.close(level),
            false => Ok(()),
        }
    }

    fn close(&mut self, level: usize) -> io::Result<()> {
        let (block, number) = &mut self.open[level];
        if block.is_empty() {
            return Ok(());
        }
        block.resize(BLOCK, 0);
        let digest = hash(block);
        (self.out)(self.levels[level].offset + *number * VERITY_BLOCK, block)?;
        block.clear();
        *number += 1;
        self.add(level + 1, digest)
    }

    /// The root, after the last digest.
    fn finish(mut self) -> io::Result<Hash> {
        for level in 0..self.open.len() {
            self.close(level)?;
        }
        Ok(self.root.unwrap_or_else(|| hash(&[])))
    }
}

/// Appends the tree to a file, filled up to whole blocks before; gives it with the SHA-256 digest and the
/// length of the whole file then. `check` is called now and then and may end it.
pub(crate) fn append(
    file: &File,
    check: &dyn Fn() -> io::Result<()>,
) -> io::Result<(Verity, Hash, u64)> {
    let len = file.metadata()?.len();
    let hash_offset = len.next_multiple_of(VERITY_BLOCK);
    let too_long = || io::Error::other("is too long for a Merkle tree");
    let (levels, end) = levels(hash_offset).ok_or_else(too_long)?;
    file.write_all_at(&superblock(hash_offset / VERITY_BLOCK), hash_offset)?;
    let mut tree = Levels::new(levels, |at, block: &[u8]| file.write_all_at(block, at));
    let (read, mut whole) = leaves_and_digest(file, len, check, &mut |leaf| tree.add(0, leaf))?;
    if read != len {
        return Err(io::Error::other("changed its length while it was read"));
    }
    let root = tree.finish()?;
    whole.update(vec![0; (hash_offset - len) as usize]);
    let mut at = hash_offset;
    let mut buf = vec![0; CHUNK];
    while at < end {
        check()?;
        let part = (end - at).min(CHUNK as u64) as usize;
        file.read_exact_at(&mut buf[..part], at)?;
        whole.update(&buf[..part]);
        at += part as u64;
    }
    Ok((Verity { root, hash_offset }, whole.finalize().into(), end))
}

/// Gives the digests of all blocks up to an offset; how many bytes there were, and the digest of the whole so
/// far: on a thread of its own, as it takes as long.
fn leaves_and_digest(
    file: &File,
    end: u64,
    check: &dyn Fn() -> io::Result<()>,
    leaf: &mut dyn FnMut(Hash) -> io::Result<()>,
) -> io::Result<(u64, Sha256)> {
    std::thread::scope(|scope| {
        let (chunks, hashed) = std::sync::mpsc::sync_channel::<Arc<Vec<u8>>>(AHEAD);
        let whole = scope.spawn(move || {
            let mut whole = Sha256::new();
            for chunk in hashed {
                whole.update(&*chunk);
            }
            whole
        });
        // The other thread ends no sooner than this one lets go of the channel.
        let found = leaves(file, end, check, leaf, |chunk| drop(chunks.send(chunk)));
        drop(chunks);
        let whole = whole.join();
        let len = found?;
        let whole = whole.map_err(|_| io::Error::other("a thread died"))?;
        Ok((len, whole))
    })
}

/// Gives the digests of the blocks up to an offset or the end, the last one filled up with zeros; how many
/// bytes there were. `seen` gets them.
fn leaves(
    file: &File,
    end: u64,
    check: &dyn Fn() -> io::Result<()>,
    leaf: &mut dyn FnMut(Hash) -> io::Result<()>,
    mut seen: impl FnMut(Arc<Vec<u8>>),
) -> io::Result<u64> {
    let mut at = 0;
    while at < end {
        check()?;
        let most = (end - at).min(CHUNK as u64) as usize;
        let mut buf = vec![0; most];
        let mut have = 0;
        while have < most {
            match file.read_at(&mut buf[have..], at + have as u64) {
                Ok(0) => break,
                Ok(len) => have += len,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        buf.truncate(have);
        let buf = Arc::new(buf);
        seen(buf.clone());
        let whole = buf.chunks_exact(BLOCK);
        let rest = whole.remainder();
        for block in whole {
            leaf(hash(block))?;
        }
        if !rest.is_empty() {
            let mut last = [0; BLOCK];
            last[..rest.len()].copy_from_slice(rest);
            leaf(hash(&last))?;
        }
        at += have as u64;
        if have < most {
            break;
        }
    }
    Ok(at)
}

/// Whether a file has the tree that is told of it, and nothing else behind its data.
pub(crate) fn is_right(
    file: &File,
    verity: &Verity,
    check: &dyn Fn() -> io::Result<()>,
) -> io::Result<bool> {
    let hash_offset = verity.hash_offset;
    let Some((levels, end)) = levels(hash_offset) else {
        return Ok(false);
    };
    if !hash_offset.is_multiple_of(VERITY_BLOCK) || file.metadata()?.len() != end {
        return Ok(false);
    }
    let mut stored = vec![0; BLOCK];
    file.read_exact_at(&mut stored, hash_offset)?;
    let mut same = stored == superblock(hash_offset / VERITY_BLOCK);
    let mut tree = Levels::new(levels, |at, block: &[u8]| {
        file.read_exact_at(&mut stored, at)?;
        same &= stored == block;
        Ok(())
    });
    leaves(
        file,
        hash_offset,
        check,
        &mut |leaf| tree.add(0, leaf),
        |_| {},
    )?;
    let root = tree.finish()?;
    Ok(same && root == verity.root)
}

/// An image whose bytes are what its root digest says, wherever it lies: each block is checked when it is
/// read, along the digests up to the root, so that a storage which answers differently later changes nothing.
/// Some checked blocks are kept, so that one is rarely read twice.
#[derive(Debug)]
pub struct VerifiedFile {
    file: File,
    root: Hash,
    /// Blocks of data.
    blocks: u64,
    /// The lowest first.
    levels: Vec<Level>,
    /// Where its checked blocks are kept, and under which number.
    cache: Arc<CheckedBlocks>,
    number: u32,
}

type Checked = Arc<[u8; BLOCK]>;

/// Checked blocks of all images that share it, a bounded number.
#[derive(Debug)]
pub struct CheckedBlocks {
    kept: Mutex<Kept>,
    /// Half as many as there may be.
    half: usize,
    /// Images that have shared it.
    images: AtomicU32,
}

impl Default for CheckedBlocks {
    fn default() -> CheckedBlocks {
        CheckedBlocks::of_blocks(KEPT_MAX)
    }
}

impl CheckedBlocks {
    fn of_blocks(blocks: usize) -> CheckedBlocks {
        CheckedBlocks {
            kept: Mutex::default(),
            half: (blocks / 2).max(1),
            images: AtomicU32::new(0),
        }
    }

    /// One that takes a part of so many bytes of memory: an eighth, at most 16 MiB.
    pub fn within(memory: u64) -> CheckedBlocks {
        let blocks = memory / 8 / (VERITY_BLOCK + KEPT_COST);
        CheckedBlocks::of_blocks(usize::try_from(blocks).unwrap_or(KEPT_MAX).min(KEPT_MAX))
    }

    /// Bytes that it takes when it is full.
    pub fn most_bytes(&self) -> u64 {
        2 * self.half as u64 * (VERITY_BLOCK + KEPT_COST)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, at: Place) -> Option<Checked> {
        self.kept().get(at, self.half)
    }

    fn put(&self, at: Place, block: Checked) {
        self.kept().put(at, block, self.half);
    }

    /// How many blocks are kept.
    pub fn len(&self) -> usize {
        let kept = self.kept();
        kept.young.len() + kept.old.len()
    }

    /// Whether none are.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// An image's number and an offset.
type Place = (u32, u64);

/// Checked blocks: those used since a while, and those before.
#[derive(Debug, Default)]
struct Kept {
    young: HashMap<Place, Checked>,
    old: HashMap<Place, Checked>,
}

impl Kept {
    fn get(&mut self, at: Place, half: usize) -> Option<Checked> {
        if let Some(block) = self.young.get(&at) {
            return Some(block.clone());
        }
        let block = self.old.remove(&at)?;
        self.put(at, block.clone(), half);
        Some(block)
    }

    fn put(&mut self, at: Place, block: Checked, half: usize) {
        if self.young.len() >= half {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(at, block);
    }
}

impl VerifiedFile {
    /// Opens an image and checks the top of its tree. Checked blocks are kept in `cache`, which other images
    /// may share.
    ///
    /// # Errors
    /// A file that cannot be read; `InvalidData` for a tree that is not the one of the root digest.
    pub fn open(
        file: File,
        verity: &Verity,
        cache: &Arc<CheckedBlocks>,
    ) -> io::Result<VerifiedFile> {
        let bad = |reason: &str| io::Error::new(io::ErrorKind::InvalidData, reason.to_owned());
        let len = file.metadata()?.len();
        let blocks = verity.hash_offset / VERITY_BLOCK;
        let found = levels(verity.hash_offset)
            .filter(|(_, end)| verity.hash_offset.is_multiple_of(VERITY_BLOCK) && *end <= len);
        let Some((levels, _)) = found else {
            return Err(bad("the Merkle tree is not inside the file"));
        };
        let mut stored = vec![0; BLOCK];
        file.read_exact_at(&mut stored, verity.hash_offset)?;
        if blocks == 0 || stored != superblock(blocks) {
            return Err(bad("the superblock of the Merkle tree is another one"));
        }
        let opened = VerifiedFile {
            file,
            root: verity.root,
            blocks,
            levels,
            cache: cache.clone(),
            number: cache.images.fetch_add(1, Ordering::Relaxed),
        };
        let top = opened.levels.len();
        let checked = match top.checked_sub(1) {
            Some(level) => opened.checked(opened.levels[level].offset, top, 0),
            None => opened.checked(0, 0, 0),
        };
        match checked {
            Ok(_) => Ok(opened),
            Err(_) => Err(bad(
                "the Merkle tree does not lead to the root digest: it is damaged or was tampered with",
            )),
        }
    }

    /// The digest of a block: number `index` of the data (`level` 0) or of the level below `level`.
    fn digest(&self, level: usize, index: u64) -> Result<Hash, Errno> {
        let Some(found) = self.levels.get(level) else {
            return Ok(self.root);
        };
        let number = index / FAN_OUT as u64;
        if number >= found.blocks {
            return Err(Errno::EIO);
        }
        let at = found.offset + number * VERITY_BLOCK;
        let block = self.checked(at, level + 1, number)?;
        let within = (index % FAN_OUT as u64) as usize * 32;
        block[within..within + 32]
            .try_into()
            .map_err(|_| Errno::EIO)
    }

    /// The block at an offset, whose digest is that of `level` and `index`.
    fn checked(&self, at: u64, level: usize, index: u64) -> Result<Checked, Errno> {
        if let Some(block) = self.cache.get((self.number, at)) {
            return Ok(block);
        }
        let expected = self.digest(level, index)?;
        let mut bytes = [0; BLOCK];
        self.file
            .read_exact_at(&mut bytes, at)
            .map_err(|e| Errno::from_number(e.raw_os_error().unwrap_or_default()))?;
        if hash(&bytes) != expected {
            return Err(Errno::EIO);
        }
        let block = Arc::new(bytes);
        self.cache.put((self.number, at), block.clone());
        Ok(block)
    }
}

impl Block for VerifiedFile {
    fn len(&self) -> u64 {
        self.blocks * VERITY_BLOCK
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), Errno> {
        let mut at = offset;
        let mut rest = buf;
        while !rest.is_empty() {
            let number = at / VERITY_BLOCK;
            if number >= self.blocks {
                return Err(Errno::EIO);
            }
            let block = self.checked(number * VERITY_BLOCK, 0, number)?;
            let within = (at % VERITY_BLOCK) as usize;
            let len = rest.len().min(BLOCK - within);
            let (part, more) = rest.split_at_mut(len);
            part.copy_from_slice(&block[within..within + len]);
            rest = more;
            at += len as u64;
        }
        Ok(())
    }

    fn slice(&self) -> Option<&[u8]> {
        None
    }

    fn is_mappable(&self) -> bool {
        false
    }
}
