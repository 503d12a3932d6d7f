//! The files of an OCI layout, in a directory or an archive.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci_spec::image::Descriptor;

use super::archive::{Archive, FilePart};
use super::{ImageError, Sha256Digest};

/// Largest manifest, index or configuration that is read, in bytes.
pub(super) const DOCUMENT_MAX: u64 = 16 << 20;

/// Where the files are.
pub(super) enum Files {
    Dir(PathBuf),
    Archive(Archive),
}

impl Files {
    /// What they are called in messages.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Dir(path) => path.display().to_string(),
            Self::Archive(archive) => archive.path().display().to_string(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Dir(path) => path,
            Self::Archive(archive) => archive.path(),
        }
    }

    /// A file and its size.
    pub(super) fn open(&self, name: &str) -> Result<(FilePart, u64), ImageError> {
        match self {
            Self::Dir(dir) => {
                let path = dir.join(name);
                let file = File::open(&path).map_err(|e| ImageError::io("open", &path, e))?;
                let meta = file
                    .metadata()
                    .map_err(|e| ImageError::io("read", &path, e))?;
                if !meta.is_file() {
                    let reason = "is not a regular file";
                    return Err(ImageError::bad(path.display().to_string(), reason));
                }
                let size = meta.len();
                Ok((FilePart::new(Arc::new(file), 0, size), size))
            }
            Self::Archive(archive) => archive.member(name),
        }
    }

    /// A small file, whole.
    pub(super) fn document(&self, name: &str) -> Result<Vec<u8>, ImageError> {
        let (mut part, size) = self.open(name)?;
        let what = || format!("{name} in {}", self.name());
        if size > DOCUMENT_MAX {
            let reason = format!("is {size} bytes long, more than any such file");
            return Err(ImageError::bad(what(), reason));
        }
        let mut bytes = Vec::with_capacity(size as usize);
        part.read_to_end(&mut bytes)
            .map_err(|e| ImageError::io("read", self.path().join(name), e))?;
        Ok(bytes)
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
    serde_json::from_slice(bytes).map_err(|e| ImageError::bad(what, format!("is malformed: {e}")))
}
