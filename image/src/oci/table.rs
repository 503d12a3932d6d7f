//! What was converted to what, in a layout: a table that only conversions write, so that nothing which a
//! source says of itself decides what it becomes.
//!
//! Layers are found by the digest of the content that they were made of, which is computed each time, and by
//! the layers below where they depend on them. A blob is only used again while it is the same file with the
//! same times as when its content was known; a table that was copied from elsewhere knows none of the files
//! here.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Sha256Digest;
use crate::Verity;

/// Version of the conversion: raised when the same source gives other bytes than before.
const VERSION: u32 = 2;

/// What tells that a file was not changed. Nobody can set the time of the last change (`ctime`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Identity {
    pub(super) fn of(file: &File) -> io::Result<Self> {
        let meta = file.metadata()?;
        Ok(Self {
            inode: meta.ino(),
            size: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })
    }
}

/// A blob that a conversion read, as it lay in the source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Origin {
    pub(super) size: u64,
    /// Digest of what it unpacks to.
    pub(super) diff_id: String,
}

/// What a layer or an index became.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Made {
    digest: String,
    pub(super) size: u64,
    /// Its Merkle tree.
    root: String,
    offset: u64,
}

impl Made {
    pub(super) fn new(digest: Sha256Digest, size: u64, verity: Verity) -> Self {
        Self {
            digest: digest.to_string(),
            size,
            root: Sha256Digest(verity.root).to_string(),
            offset: verity.hash_offset,
        }
    }

    pub(super) fn digest(&self) -> Option<Sha256Digest> {
        self.digest.parse().ok()
    }

    pub(super) fn verity(&self) -> Option<Verity> {
        Some(Verity {
            root: self.root.parse::<Sha256Digest>().ok()?.0,
            hash_offset: self.offset,
        })
    }
}

/// The table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Table {
    version: u32,
    /// By digest of the blob as it lies in a source.
    pub(super) sources: BTreeMap<String, Origin>,
    /// By [`layer_key`] and [`index_key`].
    pub(super) made: BTreeMap<String, Made>,
    /// By digest of the blob.
    pub(super) blobs: BTreeMap<String, Identity>,
}

/// Most bytes of a table that are read.
pub(super) const TABLE_MAX: u64 = 64 << 20;

impl Table {
    /// An empty table where the bytes are none of this version: everything is made again then.
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let table = serde_json::from_slice::<Self>(bytes).unwrap_or_default();
        match table.version == VERSION {
            true => table,
            false => Self::default(),
        }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let table = Self {
            version: VERSION,
            ..self.clone()
        };
        serde_json::to_vec(&table).unwrap_or_default()
    }

    /// Whether a file is the blob whose content was known to have this digest.
    pub(super) fn knows(&self, digest: &Sha256Digest, file: &File) -> bool {
        let known = self.blobs.get(&digest.to_string());
        known.is_some_and(|known| Identity::of(file).is_ok_and(|found| found == *known))
    }

    /// Whether something was made of a layer of this kind and content that depends on the layers below it.
    pub(super) fn has_dependent(&self, kind: &str, content: &Sha256Digest) -> bool {
        let prefix = layer_key(kind, content, Some(""));
        self.made
            .range(prefix.clone()..)
            .next()
            .is_some_and(|(key, _)| key.starts_with(&prefix))
    }
}

/// By what a layer is found: what kind of thing it was made of, the digest of that content, and the layers
/// below ([`chain`]) where it depends on them.
pub(super) fn layer_key(kind: &str, content: &Sha256Digest, below: Option<&str>) -> String {
    match below {
        None => format!("{kind} {content}"),
        Some(chain) => format!("{kind} {content} on {chain}"),
    }
}

/// By what the merged index of some layers is found.
pub(super) fn index_key(layers: &[Sha256Digest]) -> String {
    format!("index {}", chain(layers))
}

/// One digest for a list of layers.
pub(super) fn chain(layers: &[Sha256Digest]) -> String {
    let mut hasher = Sha256::new();
    for layer in layers {
        hasher.update(layer.0);
    }
    Sha256Digest(hasher.finalize().into()).hex()
}
