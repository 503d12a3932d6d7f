//! The files of an OCI layout, in a directory or an archive.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci_spec::image::Descriptor;

use super::archive::{Archive, FilePart};
use super::place::{open_file, read_small};
use super::{ImageError, Layout, Sha256Digest};
use crate::error::Shown;

/// Largest manifest, index or configuration that is read, in bytes.
pub(super) const DOCUMENT_MAX: u64 = 16 << 20;

/// Where the files are.
pub(super) enum Files {
    /// A layout that is read only; its files may be links to where somebody keeps them, what counts is their
    /// digest.
    Dir(PathBuf),
    /// A layout of our own.
    Own(Layout),
    Archive(Archive),
}

impl Files {
    /// What they are called in messages.
    pub(super) fn name(&self) -> String {
        self.path().display().to_string()
    }

    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Dir(path) => path,
            Self::Own(layout) => layout.dir(),
            Self::Archive(archive) => archive.path(),
        }
    }

    /// A file and its size.
    pub(super) fn open(&self, name: &str) -> Result<(FilePart, u64), ImageError> {
        let file = match self {
            Self::Dir(dir) => open_file(rustix::fs::CWD, dir.join(name), true),
            Self::Own(layout) => layout.open_file(name),
            Self::Archive(archive) => return archive.member(name),
        };
        let fail = |e| ImageError::io("open", self.path().join(name), e);
        let file = file.map_err(fail)?;
        let size = file.metadata().map_err(fail)?.len();
        Ok((FilePart::new(Arc::new(file), 0, size), size))
    }

    /// A small file, whole.
    pub(super) fn document(&self, name: &str) -> Result<Vec<u8>, ImageError> {
        let (part, size) = self.open(name)?;
        if size > DOCUMENT_MAX {
            let what = format!("{name} in {}", self.name());
            let reason = format!("is {size} bytes long, more than any such file");
            return Err(ImageError::bad(what, reason));
        }
        read_small(part, DOCUMENT_MAX)
            .map_err(|e| ImageError::io("read", self.path().join(name), e))
    }

    /// A small blob, whole and checked against its descriptor.
    pub(super) fn checked(&self, descriptor: &Descriptor) -> Result<Vec<u8>, ImageError> {
        let digest = sha256(descriptor)?;
        let bytes = self.document(&blob_name(&digest))?;
        let what = format!("blob {digest} in {}", self.name());
        check_size(&what, descriptor.size(), bytes.len() as u64)?;
        check_digest(&what, digest, Sha256Digest::of(&bytes))?;
        Ok(bytes)
    }
}

/// The digest of a descriptor.
pub(super) fn sha256(descriptor: &Descriptor) -> Result<Sha256Digest, ImageError> {
    descriptor.digest().to_string().parse()
}

/// Where a layout has a blob.
pub(super) fn blob_name(digest: &Sha256Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

pub(super) fn check_size(what: &str, expected: u64, actual: u64) -> Result<(), ImageError> {
    if expected == actual {
        return Ok(());
    }
    let reason = format!("is {actual} bytes long, its descriptor says {expected}");
    Err(ImageError::bad(what, reason))
}

pub(super) fn check_digest(
    what: &str,
    expected: Sha256Digest,
    actual: Sha256Digest,
) -> Result<(), ImageError> {
    if expected == actual {
        return Ok(());
    }
    Err(ImageError::Digest {
        what: what.into(),
        expected,
        actual,
    })
}

/// Parses a JSON document; `what` names it.
pub(super) fn parse<T: serde::de::DeserializeOwned>(
    what: &str,
    bytes: &[u8],
) -> Result<T, ImageError> {
    serde_json::from_slice(bytes).map_err(|e| {
        // It may quote the document.
        let reason = e.to_string();
        ImageError::bad(what, format!("is malformed: {}", Shown(reason.as_bytes())))
    })
}
