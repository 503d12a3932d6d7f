//! `--record`: where a run is recorded, and what identifies its images.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use varve_core::journal::ImageNote;
use varve_core::port::Block;
use varve_host::{HostImage, Recording};

use crate::files;

/// Bytes of an image that are read at a time where it is not mapped.
const PART: usize = 1 << 20;

/// Options on recording.
#[derive(clap::Args)]
#[group(id = "recording")]
pub(crate) struct Arguments {
    /// Record the run to this file, for `varve replay`. It then holds everything that the program was told,
    /// its environment among it.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Put a digest of the kernel's whole state behind every N-th input: what `varve replay` finds different
    /// is at most so many inputs old.
    #[arg(long, value_name = "N", default_value_t = 1000, requires = "record", value_parser = clap::value_parser!(u32).range(1..))]
    record_digest: u32,
}

impl Arguments {
    /// Whether the run is to be recorded.
    pub(crate) fn is_asked(&self) -> bool {
        self.record.is_some()
    }

    /// Makes the file and describes the images of the run.
    pub(crate) fn open(
        &self,
        images: &[(String, HostImage)],
        trusted: &[Option<[u8; 32]>],
    ) -> Result<Option<Recording>> {
        let Some(path) = &self.record else {
            return Ok(None);
        };
        let name = path.display().to_string();
        let mut notes = Vec::with_capacity(images.len());
        for (index, (name, image)) in images.iter().enumerate() {
            let trusted = trusted.get(index).copied().flatten();
            notes.push(note(name, image, trusted).with_context(|| name.clone())?);
        }
        Ok(Some(Recording {
            file: files::private(path)?,
            name,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            images: notes,
            digest_every: self.record_digest,
        }))
    }
}

/// What identifies an image. One that is checked block by block is what its manifest says, or cannot be read.
fn note(name: &str, image: &HostImage, trusted: Option<[u8; 32]>) -> Result<ImageNote> {
    let mapped = image.slice().is_some();
    let sha256 = match trusted {
        Some(digest) if !mapped => digest,
        _ => digest(image)?,
    };
    let path = std::path::absolute(Path::new(name)).unwrap_or_else(|_| name.into());
    Ok(ImageNote {
        name: path.as_os_str().as_bytes().to_vec(),
        len: image.len(),
        sha256,
        mapped,
        mappable: image.is_mappable(),
    })
}

/// SHA-256 of an image.
pub(crate) fn digest(image: &dyn Block) -> Result<[u8; 32]> {
    if let Some(bytes) = image.slice() {
        return Ok(Sha256::digest(bytes).into());
    }
    let mut hasher = Sha256::new();
    let mut buf = vec![0; PART];
    let mut at = 0;
    while at < image.len() {
        let part = (image.len() - at).min(PART as u64) as usize;
        image.read_at(at, &mut buf[..part])?;
        hasher.update(&buf[..part]);
        at += part as u64;
    }
    Ok(hasher.finalize().into())
}
