//! Extended attributes on disk: prefix indexes, inline bodies, and the pool of attributes that several inodes
//! share.

use crate::BuildError;
use crate::tree::Xattrs;
use std::collections::HashMap;

/// Hides what lower layers have in a directory.
pub(crate) const OPAQUE: &[u8] = b"trusted.overlay.opaque";
/// Marks a directory that overlayfs must treat as merged.
pub(crate) const ORIGIN: &[u8] = b"trusted.overlay.origin";

/// Size of the header of an inode's attributes, in bytes.
const BODY_HEADER: usize = 12;
/// Largest value; the size field has 16 bits.
pub(crate) const VALUE_MAX: usize = u16::MAX as usize;
/// Attributes of one inode that may be shared; the count has 8 bits.
const SHARED_MAX: usize = u8::MAX as usize;

/// Splits a full name into prefix index and suffix; `None` if the format has no such name.
pub(crate) fn split(name: &[u8]) -> Option<(u8, &[u8])> {
    match name {
        b"system.posix_acl_access" => return Some((2, b"")),
        b"system.posix_acl_default" => return Some((3, b"")),
        _ => {}
    }
    const PREFIXES: [(u8, &[u8]); 4] = [
        (1, b"user."),
        (4, b"trusted."),
        (5, b"lustre."),
        (6, b"security."),
    ];
    PREFIXES.into_iter().find_map(|(index, prefix)| {
        let suffix = name.strip_prefix(prefix)?;
        (1..=u8::MAX as usize)
            .contains(&suffix.len())
            .then_some((index, suffix))
    })
}

/// One attribute as stored, padded to 4 bytes.
fn entry(name: &[u8], value: &[u8]) -> Vec<u8> {
    let (index, suffix) = split(name).unwrap_or_default();
    let mut out = vec![suffix.len() as u8, index];
    out.extend_from_slice(&(value.len() as u16).to_le_bytes());
    out.extend_from_slice(suffix);
    out.extend_from_slice(value);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

/// The attributes that more than one inode has, each stored once.
#[derive(Debug, Default)]
pub(crate) struct Pool<'a> {
    /// Offset in the pool, in bytes.
    shared: HashMap<(&'a [u8], &'a [u8]), u32>,
    bytes: Vec<u8>,
}

impl<'a> Pool<'a> {
    /// Finds what repeats among `all`, which also fixes the order in the pool.
    pub(crate) fn new(all: impl Iterator<Item = &'a Xattrs> + Clone) -> Self {
        let mut seen: HashMap<(&[u8], &[u8]), bool> = HashMap::new();
        let pairs = || {
            all.clone()
                .flatten()
                .map(|(name, value)| (&**name, &**value))
        };
        for pair in pairs() {
            seen.entry(pair)
                .and_modify(|repeated| *repeated = true)
                .or_insert(false);
        }
        let mut pool = Self::default();
        for pair in pairs().filter(|pair| seen[pair]) {
            // Ids are 32-bit counts of 4 bytes; this bound keeps far away from their end.
            if pool.bytes.len() > i32::MAX as usize {
                break;
            }
            pool.shared.entry(pair).or_insert_with(|| {
                let offset = pool.bytes.len() as u32;
                pool.bytes.extend(entry(pair.0, pair.1));
                offset
            });
        }
        pool
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The attributes of one inode as they follow it on disk; empty for none.
    ///
    /// # Errors
    /// More than the 16-bit size field of an inode can tell; `path` names the inode.
    pub(crate) fn body(
        &self,
        xattrs: &Xattrs,
        path: impl FnOnce() -> Vec<u8>,
    ) -> Result<Vec<u8>, BuildError> {
        if xattrs.is_empty() {
            return Ok(Vec::new());
        }
        let mut out = vec![0; BODY_HEADER];
        let mut inline = Vec::new();
        let mut shared = 0;
        for (name, value) in xattrs {
            match self.shared.get(&(&**name, &**value)) {
                Some(offset) if shared < SHARED_MAX => {
                    out.extend_from_slice(&(offset / 4).to_le_bytes());
                    shared += 1;
                }
                _ => inline.extend(entry(name, value)),
            }
        }
        out[4] = shared as u8;
        out.append(&mut inline);
        if (out.len() - BODY_HEADER) / 4 + 1 > usize::from(u16::MAX) {
            return Err(BuildError::unsupported(
                path(),
                "more than 262136 bytes of extended attributes",
            ));
        }
        Ok(out)
    }
}

/// The inode field that tells the length of `body`.
pub(crate) fn icount(body: &[u8]) -> u16 {
    if body.is_empty() {
        0
    } else {
        ((body.len() - BODY_HEADER) / 4 + 1) as u16
    }
}
