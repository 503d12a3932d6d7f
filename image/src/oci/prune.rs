//! What no image of a layout needs is taken away: names that are digests and what conversions leave behind,
//! nothing else.

use std::collections::HashSet;

use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};
use rustix::fs::{AtFlags, FileType, FlockOperation};

use super::blobs::{Files, parse, sha256};
use super::layout::{BLOBS, LOCK, NESTED_MAX, is_index, names_of};
use super::table::Made;
use super::{INDEX_DIGEST, ImageError, Layout, Pruned, Sha256Digest};
use crate::error::Shown;
use crate::output::TEMPORARY;

impl Layout {
    /// Takes a name from an image, and away all blobs that no other image needs.
    ///
    /// # Errors
    /// As [`image`](Self::image); as [`prune`](Self::prune).
    pub fn remove(&self, name: &str) -> Result<Pruned, ImageError> {
        {
            let _lock = self.lock_index()?;
            let mut list = self.index()?;
            let at = self.position(&list, Some(name))?;
            list.remove(at);
            self.write_index(list)?;
        }
        self.prune()
    }

    /// Takes away all blobs that no image needs and what killed conversions left. Waits for conversions that
    /// are under way.
    ///
    /// # Errors
    /// A manifest that cannot be read: then nothing is taken away, as nobody knows what it needs.
    pub fn prune(&self) -> Result<Pruned, ImageError> {
        self.prune_under(FlockOperation::LockExclusive)
    }

    /// As [`prune`](Self::prune), but an error if conversions are under way.
    pub(super) fn prune_now(&self) -> Result<Pruned, ImageError> {
        self.prune_under(FlockOperation::NonBlockingLockExclusive)
    }

    fn prune_under(&self, how: FlockOperation) -> Result<Pruned, ImageError> {
        let _lock = self.lock(LOCK, how)?;
        let _index = self.lock_index()?;
        let mut needed = Needed {
            files: Files::Own(self.clone()),
            visited: HashSet::new(),
            blobs: HashSet::new(),
            warnings: Vec::new(),
        };
        for listed in self.index()? {
            match &listed.descriptor {
                Ok(descriptor) => needed.add(descriptor, 0)?,
                Err(reason) => {
                    let shown = Shown(listed.digest().as_bytes()).to_string();
                    needed.warn(format!("an image with the digest {shown:?}: {reason}"));
                }
            }
        }
        let mut pruned = Pruned {
            warnings: needed.warnings,
            ..Pruned::default()
        };
        let dir = self.dir().join(BLOBS);
        let names = names_of(&self.blobs).map_err(|e| ImageError::io("list", &dir, e))?;
        for name in names {
            // Nothing is taken away but what a layout puts there.
            let is_blob = format!("sha256:{name}").parse::<Sha256Digest>().is_ok();
            if needed.blobs.contains(&name) || !is_blob && !name.starts_with(TEMPORARY) {
                continue;
            }
            let fail = |errno: rustix::io::Errno| ImageError::io("remove", dir.join(&name), errno);
            let stat = rustix::fs::statat(&*self.blobs, &name, AtFlags::SYMLINK_NOFOLLOW);
            let stat = stat.map_err(fail)?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                continue;
            }
            rustix::fs::unlinkat(&*self.blobs, &name, AtFlags::empty()).map_err(fail)?;
            pruned.blobs += 1;
            let size = u64::try_from(stat.st_size).unwrap_or(0);
            pruned.bytes = pruned.bytes.saturating_add(size);
        }
        self.change_table(|table| {
            let stays = |digest: &str| {
                let digits = digest.strip_prefix("sha256:").unwrap_or(digest);
                needed.blobs.contains(digits)
            };
            table.blobs.retain(|digest, _| stays(digest));
            let made = |made: &Made| made.digest().is_some_and(|d| stays(&d.to_string()));
            table.made.retain(|_, found| made(found));
            let contents: HashSet<&str> = table
                .made
                .keys()
                .filter_map(|key| key.split(' ').nth(1))
                .collect();
            table
                .sources
                .retain(|_, origin| contents.contains(&*origin.diff_id));
        })?;
        Ok(pruned)
    }
}

/// What the images of a layout need.
struct Needed {
    files: Files,
    /// Manifests and indexes that were read, and as which of the two.
    visited: HashSet<(Sha256Digest, bool)>,
    /// Names of blobs.
    blobs: HashSet<String>,
    warnings: Vec<String>,
}

impl Needed {
    /// Most warnings that are kept.
    const WARNINGS: usize = 100;

    fn warn(&mut self, line: String) {
        if self.warnings.len() < Self::WARNINGS {
            self.warnings.push(line);
        }
    }

    fn add(&mut self, descriptor: &Descriptor, depth: usize) -> Result<(), ImageError> {
        let digest = sha256(descriptor)?;
        self.blobs.insert(digest.hex());
        let is_index = is_index(descriptor.media_type());
        if !self.visited.insert((digest, is_index)) {
            return Ok(());
        }
        let bytes = self.files.checked(descriptor)?;
        let what = format!("manifest {digest} in {}", self.files.name());
        if is_index {
            if depth >= NESTED_MAX {
                return Err(ImageError::bad(what, "is nested too deep"));
            }
            let index: ImageIndex = parse(&what, &bytes)?;
            for descriptor in index.manifests() {
                match sha256(descriptor) {
                    Ok(_) => self.add(descriptor, depth + 1)?,
                    Err(error) => self.warn(format!("{what}: {error}")),
                }
            }
            return Ok(());
        }
        let manifest: ImageManifest = parse(&what, &bytes)?;
        for descriptor in manifest.layers().iter().chain([manifest.config()]) {
            match sha256(descriptor) {
                Ok(digest) => {
                    self.blobs.insert(digest.hex());
                }
                Err(error) => self.warn(format!("{what}: {error}")),
            }
        }
        let annotations = manifest.annotations().as_ref();
        if let Some(text) = annotations.and_then(|all| all.get(INDEX_DIGEST)) {
            match text.parse::<Sha256Digest>() {
                Ok(digest) => {
                    self.blobs.insert(digest.hex());
                }
                Err(error) => self.warn(format!("{what}: {error}")),
            }
        }
        Ok(())
    }
}
