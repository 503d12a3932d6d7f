//! What a conversion made gets its place among the blobs of the layout, unless it is there.

use std::io;
use std::sync::atomic::Ordering;

use varve_imgfs::ImageId;

use super::convert::{Done, StopOnly, Work};
use super::lower::OpenImages;
use super::table::{Identity, Made, index_key};
use super::{ImageError, Sha256Digest};
use crate::merge::{self, MergeLayer};
use crate::output::Output;
use crate::verity::{self, Verity};

/// A blob of the layout.
pub(super) struct Kept {
    pub(super) digest: Sha256Digest,
    pub(super) size: u64,
    pub(super) verity: Verity,
}

impl Work<'_> {
    /// Gives a finished file its place among the blobs, with a Merkle tree behind its data unless it has one;
    /// whether it was there before.
    pub(super) fn keep(
        &self,
        output: Output,
        has: Option<Verity>,
    ) -> Result<(Kept, bool), ImageError> {
        let fail = |e| match self.stop.is_set() {
            true => ImageError::Interrupted,
            false => ImageError::io("finish an image in", self.layout.dir(), e),
        };
        let (verity, digest, size) = match has {
            Some(verity) => {
                let (digest, size) =
                    Sha256Digest::of_file(output.file(), &self.stop).map_err(fail)?;
                (verity, digest, size)
            }
            None => {
                let check = || self.stop.check();
                let (verity, digest, size) = verity::append(output.file(), &check).map_err(fail)?;
                (verity, Sha256Digest(digest), size)
            }
        };
        let there = self.is_there(&digest).map_err(fail)?;
        let identity = match there {
            Some(identity) => identity,
            None => {
                self.created.store(true, Ordering::Relaxed);
                let file = output.commit_as(&self.layout.blob(&digest))?;
                Identity::of(&file).map_err(fail)?
            }
        };
        self.found().blobs.insert(digest.to_string(), identity);
        let kept = Kept {
            digest,
            size,
            verity,
        };
        Ok((kept, there.is_some()))
    }

    /// The file of a blob that is there, if its content is what it should be: one that was changed is put in
    /// its place again.
    fn is_there(&self, digest: &Sha256Digest) -> io::Result<Option<Identity>> {
        let Ok(file) = self.layout.open_blob(digest) else {
            return Ok(None);
        };
        let before = Identity::of(&file)?;
        if self.known.knows(digest, &file) {
            return Ok(Some(before));
        }
        let (found, _) = Sha256Digest::of_file(&file, &self.stop)?;
        let unchanged = Identity::of(&file)? == before;
        Ok((found == *digest && unchanged).then_some(before))
    }

    pub(super) fn put(&self, bytes: &[u8]) -> Result<Sha256Digest, ImageError> {
        let (digest, new) = self.layout.put(bytes)?;
        if new {
            self.created.store(true, Ordering::Relaxed);
        }
        Ok(digest)
    }

    /// The merged index, made unless it is there.
    pub(super) fn merged(&self, layers: &[Done]) -> Result<(Sha256Digest, Verity), ImageError> {
        let ids: Vec<_> = layers.iter().map(|layer| layer.digest).collect();
        let key = index_key(&ids);
        let made = self.known.made.get(&key);
        if let Some((digest, verity)) = made.and_then(|made| Some((made.digest()?, made.verity()?)))
            && let Ok(file) = self.layout.open_blob(&digest)
            && self.known.knows(&digest, &file)
        {
            return Ok((digest, verity));
        }
        let mut images = OpenImages(Vec::with_capacity(layers.len()));
        let mut inputs = Vec::with_capacity(layers.len());
        for (at, digest) in ids.iter().enumerate() {
            images.0.push(self.block(digest)?);
            inputs.push(MergeLayer {
                image: ImageId(at as u32), // a stack has at most 500
                digest: digest.0,
            });
        }
        let target = self.layout.output("index")?;
        let (_, output) = merge::write(&images, &inputs, target, &mut StopOnly(&self.stop))?;
        let (kept, _) = self.keep(output, None)?;
        let made = Made::new(kept.digest, kept.size, kept.verity);
        self.found().made.insert(key, made);
        Ok((kept.digest, kept.verity))
    }
}
