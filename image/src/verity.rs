//! Merkle trees behind images, in the layout of dm-verity (Documentation/admin-guide/device-mapper/verity.rst and cryptsetup's
//! `verity_sb`): SHA-256, blocks of 4096 bytes, no salt; first the superblock, then the levels, the topmost one first.
//!
//! [`append`] makes one, [`VerifiedFile`] is an image whose blocks are checked when they are first touched.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, OnceLock};

use sha2::{Digest, Sha256};
use varve_core::abi::Errno;
use varve_core::port::Block;

/// Size of data and hash blocks, in bytes.
pub const VERITY_BLOCK: u64 = 4096;
const BLOCK: usize = VERITY_BLOCK as usize;
/// Digests in a hash block.
const FAN_OUT: usize = BLOCK / 32;
/// Bytes read at once.
const CHUNK: usize = 1 << 20;
/// Pieces of that size that wait to be hashed.
const AHEAD: usize = 2;

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

/// A level of digests as blocks.
fn pack(hashes: &[Hash]) -> Vec<u8> {
    let mut bytes = hashes.concat();
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

/// The tree over the digests of the data blocks, superblock included, and its root.
fn tree(leaves: Vec<Hash>) -> (Vec<u8>, Hash) {
    let mut out = superblock(leaves.len() as u64);
    let mut levels = Vec::new();
    let mut hashes = leaves;
    while hashes.len() > 1 {
        let level = pack(&hashes);
        hashes = level.chunks(BLOCK).map(hash).collect();
        levels.push(level);
    }
    for level in levels.iter().rev() {
        out.extend_from_slice(level);
    }
    (out, hashes.first().copied().unwrap_or_else(|| hash(&[])))
}

/// Appends the tree to a file, filled up to whole blocks before; gives it with the SHA-256 digest and the length of the whole file then.
/// `check` is called now and then and may end it.
pub(crate) fn append(
    file: &File,
    check: &dyn Fn() -> io::Result<()>,
) -> io::Result<(Verity, Hash, u64)> {
    let (leaves, len, mut whole) = leaves_and_digest(file, check)?;
    let hash_offset = len.next_multiple_of(VERITY_BLOCK);
    whole.update(vec![0; (hash_offset - len) as usize]);
    let (tree, root) = tree(leaves);
    whole.update(&tree);
    file.write_all_at(&tree, hash_offset)?;
    let verity = Verity { root, hash_offset };
    Ok((
        verity,
        whole.finalize().into(),
        hash_offset + tree.len() as u64,
    ))
}

/// The digests of all blocks, the number of bytes, and the digest of the whole as far as it goes: on a thread of its own, as it takes as long.
fn leaves_and_digest(
    file: &File,
    check: &dyn Fn() -> io::Result<()>,
) -> io::Result<(Vec<Hash>, u64, Sha256)> {
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
        let found = leaves(file, u64::MAX, check, |chunk| drop(chunks.send(chunk)));
        drop(chunks);
        let whole = whole.join();
        let (leaves, len) = found?;
        let whole = whole.map_err(|_| io::Error::other("a thread died"))?;
        Ok((leaves, len, whole))
    })
}

/// The digests of the blocks up to an offset or the end, the last one filled up with zeros; and how many bytes there were. `seen` gets the bytes.
fn leaves(
    file: &File,
    end: u64,
    check: &dyn Fn() -> io::Result<()>,
    mut seen: impl FnMut(Arc<Vec<u8>>),
) -> io::Result<(Vec<Hash>, u64)> {
    let mut leaves = Vec::new();
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
        leaves.extend(whole.map(hash));
        if !rest.is_empty() {
            let mut last = [0; BLOCK];
            last[..rest.len()].copy_from_slice(rest);
            leaves.push(hash(&last));
        }
        at += have as u64;
        if have < most {
            break;
        }
    }
    Ok((leaves, at))
}

/// Whether a file has the tree that is told of it, and nothing else behind its data.
pub(crate) fn is_right(file: &File, verity: &Verity) -> io::Result<bool> {
    if !verity.hash_offset.is_multiple_of(VERITY_BLOCK) {
        return Ok(false);
    }
    let (leaves, len) = leaves(file, verity.hash_offset, &|| Ok(()), |_| {})?;
    if len != verity.hash_offset {
        return Ok(false);
    }
    let (tree, root) = tree(leaves);
    let mut stored = vec![0; tree.len()];
    let read = file.read_exact_at(&mut stored, verity.hash_offset);
    let same_length = file.metadata()?.len() == verity.hash_offset + tree.len() as u64;
    Ok(read.is_ok() && same_length && stored == tree && root == verity.root)
}

/// An image whose bytes are what its root digest says, wherever it lies: each block is read and checked once, when it is first touched, and kept
/// in memory from then on, so that a storage which answers differently later changes nothing.
#[derive(Debug)]
pub struct VerifiedFile {
    file: File,
    leaves: Vec<Hash>,
    blocks: Vec<OnceLock<Box<[u8; BLOCK]>>>,
}

impl VerifiedFile {
    /// Opens an image and checks its tree.
    ///
    /// # Errors
    /// A file that cannot be read; `InvalidData` for a tree that is not the one of the root digest.
    pub fn open(file: File, verity: &Verity) -> io::Result<VerifiedFile> {
        let bad = |reason: &str| io::Error::new(io::ErrorKind::InvalidData, reason.to_owned());
        let len = file.metadata()?.len();
        let count = verity.hash_offset / VERITY_BLOCK;
        // Of what is not inside the file nothing is allocated.
        if !verity.hash_offset.is_multiple_of(VERITY_BLOCK) || verity.hash_offset >= len {
            return Err(bad("the Merkle tree is not inside the file"));
        }
        let mut sizes = Vec::new();
        let mut hashes = count;
        while hashes > 1 {
            hashes = hashes.div_ceil(FAN_OUT as u64);
            sizes.push(hashes);
        }
        let tree: u64 = sizes.iter().sum::<u64>() * VERITY_BLOCK + VERITY_BLOCK;
        if verity
            .hash_offset
            .checked_add(tree)
            .is_none_or(|end| end > len)
        {
            return Err(bad("the Merkle tree is not inside the file"));
        }
        let mut stored = vec![0; BLOCK];
        file.read_exact_at(&mut stored, verity.hash_offset)?;
        if stored != superblock(count) {
            return Err(bad("the superblock of the Merkle tree is another one"));
        }
        let mut expected = vec![verity.root];
        let mut at = verity.hash_offset + VERITY_BLOCK;
        for (level, size) in sizes.iter().enumerate().rev() {
            let mut bytes = vec![0; (size * VERITY_BLOCK) as usize];
            file.read_exact_at(&mut bytes, at)?;
            at += bytes.len() as u64;
            if !bytes.chunks(BLOCK).map(hash).eq(expected.iter().copied()) {
                return Err(bad(
                    "the Merkle tree does not lead to the root digest: it is damaged or was tampered with",
                ));
            }
            let below = match level.checked_sub(1) {
                Some(below) => sizes[below],
                None => count,
            };
            let hashes = bytes.chunks_exact(32).take(below as usize);
            expected = hashes
                .map(|hash| hash.try_into().unwrap_or_default())
                .collect();
        }
        Ok(VerifiedFile {
            file,
            blocks: (0..expected.len()).map(|_| OnceLock::new()).collect(),
            leaves: expected,
        })
    }

    fn block(&self, number: usize) -> Result<&[u8; BLOCK], Errno> {
        let place = self.blocks.get(number).ok_or(Errno::EIO)?;
        if let Some(block) = place.get() {
            return Ok(block);
        }
        let mut bytes = Box::new([0; BLOCK]);
        self.file
            .read_exact_at(&mut bytes[..], number as u64 * VERITY_BLOCK)
            .map_err(|e| Errno::from_number(e.raw_os_error().unwrap_or_default()))?;
        match self.leaves.get(number) {
            Some(leaf) if hash(&bytes[..]) == *leaf => Ok(place.get_or_init(|| bytes)),
            _ => Err(Errno::EIO),
        }
    }
}

impl Block for VerifiedFile {
    fn len(&self) -> u64 {
        self.leaves.len() as u64 * VERITY_BLOCK
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), Errno> {
        let mut at = offset;
        let mut rest = buf;
        while !rest.is_empty() {
            let block = self.block(usize::try_from(at / VERITY_BLOCK).map_err(|_| Errno::EIO)?)?;
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
