//! Directory content: blocks of fixed entries followed by their names, sorted across the whole directory.

use crate::BLOCK_SIZE;
use crate::tree::{Body, Directory};
use std::ops::Bound;

/// Size of an entry without its name.
const DIRENT_SIZE: usize = 12;
const BLOCK: usize = BLOCK_SIZE as usize;

/// One entry on its way to disk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) nid: u64,
    pub(crate) kind: u8,
}

/// The type code of an entry.
pub(crate) fn kind(body: &Body) -> u8 {
    match body {
        Body::File { .. } | Body::Chunks { .. } => 1,
        Body::Directory(_) => 2,
        Body::CharDevice(..) => 3,
        Body::BlockDevice(..) => 4,
        Body::Fifo => 5,
        Body::Socket => 6,
        Body::Symlink(_) => 7,
    }
}

/// Merges `.` and `..` into the sorted names, where they have no fixed place (`!` and `-` sort before them).
fn names(directory: &Directory) -> impl Iterator<Item = &[u8]> {
    let part = |from: Bound<&[u8]>, to: Bound<&[u8]>| {
        directory
            .entries
            .range::<[u8], _>((from, to))
            .map(|(name, _)| &**name)
    };
    let (dot, dots) = (&b"."[..], &b".."[..]);
    let before = part(Bound::Unbounded, Bound::Excluded(dot));
    let between = part(Bound::Excluded(dot), Bound::Excluded(dots));
    let after = part(Bound::Excluded(dots), Bound::Unbounded);
    before
        .chain([dot])
        .chain(between)
        .chain([dots])
        .chain(after)
}

/// Size of the content of `directory`, in bytes.
pub(crate) fn size(directory: &Directory) -> u64 {
    let (mut blocks, mut used) = (0, 0);
    for name in names(directory) {
        if used + DIRENT_SIZE + name.len() > BLOCK {
            blocks += 1;
            used = 0;
        }
        used += DIRENT_SIZE + name.len();
    }
    blocks * BLOCK_SIZE + used as u64
}

/// The content of `directory`; `entry_of` tells nid and type of a name, `.` and `..` included.
pub(crate) fn content<'a>(
    directory: &'a Directory,
    mut entry_of: impl FnMut(&'a [u8]) -> Entry<'a>,
) -> Vec<u8> {
    let mut out = Vec::new();
    let mut block: Vec<Entry<'_>> = Vec::new();
    let mut used = 0;
    for name in names(directory) {
        if used + DIRENT_SIZE + name.len() > BLOCK {
            emit(&block, &mut out);
            out.resize(out.len().next_multiple_of(BLOCK), 0);
            block.clear();
            used = 0;
        }
        used += DIRENT_SIZE + name.len();
        block.push(entry_of(name));
    }
    emit(&block, &mut out);
    out
}

fn emit(block: &[Entry<'_>], out: &mut Vec<u8>) {
    let mut name_offset = block.len() * DIRENT_SIZE;
    for entry in block {
        out.extend_from_slice(&entry.nid.to_le_bytes());
        out.extend_from_slice(&(name_offset as u16).to_le_bytes());
        out.extend_from_slice(&[entry.kind, 0]);
        name_offset += entry.name.len();
    }
    for entry in block {
        out.extend_from_slice(entry.name);
    }
}
