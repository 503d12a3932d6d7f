//! A directory in OCI image-layout form: images by name over blobs by digest, each blob once.
//!
//! What adds images holds a shared lock on the file `oci-layout`, what takes blobs away an exclusive one; `index.json` is replaced whole
//! under an exclusive lock on the directory of blobs. Blobs appear under their name only when they are whole and never change.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use oci_spec::image::{Descriptor, ImageIndex, ImageManifest, MediaType};
use rustix::fs::FlockOperation;

use super::blobs::{Files, blob_name, parse, sha256};
use super::{ContainerImage, INDEX_DIGEST, ImageError, REF_NAME, Sha256Digest};
use crate::output::Output;

const LAYOUT_FILE: &str = "oci-layout";
const INDEX_FILE: &str = "index.json";
const BLOBS: &str = "blobs/sha256";
/// How deep an index may nest.
pub(super) const NESTED_MAX: usize = 4;

/// An opened layout.
#[derive(Debug, Clone)]
pub struct Layout {
    dir: PathBuf,
}

/// An image of a layout, as a listing shows it.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its name; `None` for one that lost it to another.
    pub name: Option<String>,
    /// Digest of its manifest.
    pub digest: Sha256Digest,
    /// The image, or why it cannot be read.
    pub image: Result<ContainerImage, String>,
}

/// What [`Layout::prune`] took away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Files.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A lock that ends with the value.
pub(super) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Not by closing alone: a child that another thread starts at this moment has the file open, too, until it executes its program.
        let _ = rustix::fs::flock(&self.0, FlockOperation::Unlock);
    }
}

impl Layout {
    /// Opens the layout in a directory.
    ///
    /// # Errors
    /// What is missing; a version that is not known.
    pub fn open(dir: &Path) -> Result<Self, ImageError> {
        let path = dir.join(LAYOUT_FILE);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                let reason = "is no container image: it has no file `oci-layout`";
                return Err(ImageError::bad(dir.display().to_string(), reason));
            }
            Err(e) => return Err(ImageError::io("read", path, e)),
        };
        check_version(&path.display().to_string(), &bytes)?;
        Ok(Self {
            dir: dir.to_owned(),
        })
    }

    /// Opens the layout in a directory, made if it is not there or empty.
    ///
    /// # Errors
    /// A directory that holds something else; what cannot be made.
    pub fn create(dir: &Path) -> Result<Self, ImageError> {
        let fail = |e| ImageError::io("make", dir, e);
        if dir.join(LAYOUT_FILE).exists() {
            let layout = Self::open(dir)?;
            fs::create_dir_all(dir.join(BLOBS)).map_err(fail)?;
            return Ok(layout);
        }
        fs::create_dir_all(dir).map_err(fail)?;
        let names = fs::read_dir(dir).map_err(|e| ImageError::io("list", dir, e))?;
        // Another convert may be making it at this moment.
        let foreign = names.flatten().find(|entry| {
            let name = entry.file_name();
            name != "blobs" && name != INDEX_FILE && name != LAYOUT_FILE
        });
        if let Some(entry) = foreign {
            let reason = format!(
                "holds other files ({}), so no image is put there; name a new or empty directory",
                entry.file_name().to_string_lossy()
            );
            return Err(ImageError::bad(dir.display().to_string(), reason));
        }
        fs::create_dir_all(dir.join(BLOBS)).map_err(fail)?;
        let layout = Self {
            dir: dir.to_owned(),
        };
        {
            let _lock = layout.lock_index()?;
            if !dir.join(INDEX_FILE).exists() {
                layout.write_index(&empty_index())?;
            }
            if !dir.join(LAYOUT_FILE).exists() {
                // Last: it says that the rest is there.
                layout.replace(LAYOUT_FILE, b"{\"imageLayoutVersion\":\"1.0.0\"}")?;
            }
        }
        Ok(layout)
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Takes the directory away if no image is in it, for a conversion that failed.
    pub fn remove_if_empty(&self) {
        let empty = self.index().is_ok_and(|index| index.manifests().is_empty());
        // A directory that holds anything else stays.
        if empty && fs::remove_dir(self.dir.join(BLOBS)).is_ok() {
            let _ = fs::remove_dir(self.dir.join("blobs"));
            let _ = fs::remove_file(self.dir.join(INDEX_FILE));
            let _ = fs::remove_file(self.dir.join(LAYOUT_FILE));
            let _ = fs::remove_dir(&self.dir);
        }
    }

    /// The file of a blob, there or not.
    pub(super) fn blob(&self, digest: &Sha256Digest) -> PathBuf {
        self.dir.join(blob_name(digest))
    }

    /// Keeps blobs from being taken away while the value lives.
    pub(super) fn lock_shared(&self) -> Result<Lock, ImageError> {
        lock(&self.dir.join(LAYOUT_FILE), FlockOperation::LockShared)
    }

    fn lock_index(&self) -> Result<Lock, ImageError> {
        lock(&self.dir.join(BLOBS), FlockOperation::LockExclusive)
    }

    pub(super) fn index(&self) -> Result<ImageIndex, ImageError> {
        let bytes = Files::Dir(self.dir.clone()).document(INDEX_FILE)?;
        parse(&self.dir.join(INDEX_FILE).display().to_string(), &bytes)
    }

    fn write_index(&self, index: &ImageIndex) -> Result<(), ImageError> {
        self.replace(INDEX_FILE, &canonical(index))
    }

    /// Replaces a small file in one step.
    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), ImageError> {
        let path = self.dir.join(name);
        let fail = |e| ImageError::io("write", &path, e);
        let mut file = tempfile::Builder::new()
            .prefix(".new-")
            .tempfile_in(self.dir.join(BLOBS))
            .map_err(fail)?;
        file.write_all(bytes).map_err(fail)?;
        file.as_file()
            .set_permissions(fs::Permissions::from_mode(0o644))
            .map_err(fail)?;
        file.persist(&path)
            .map_err(|e| ImageError::io("write", &path, e.error))?;
        Ok(())
    }

    /// Stores a small blob.
    pub(super) fn put(&self, bytes: &[u8]) -> Result<Sha256Digest, ImageError> {
        let digest = Sha256Digest::of(bytes);
        let path = self.blob(&digest);
        if !has(&path, bytes.len() as u64) {
            let output = Output::create(&path)?;
            output.write_at(0, bytes)?;
            output.commit()?;
        }
        Ok(digest)
    }

    /// Gives an image a name, which any other image loses.
    pub(super) fn add(&self, name: &str, mut descriptor: Descriptor) -> Result<(), ImageError> {
        let annotations = [(REF_NAME.to_owned(), name.to_owned())].into();
        descriptor.set_annotations(Some(annotations));
        let _lock = self.lock_index()?;
        let mut index = self.index()?;
        let mut manifests = index.manifests().clone();
        manifests.retain(|other| reference(other) != Some(name));
        manifests.push(descriptor);
        index.set_manifests(manifests);
        self.write_index(&index)
    }

    /// All images, by name.
    ///
    /// # Errors
    /// An index that cannot be read; an image that cannot be read is listed with its error.
    pub fn images(&self) -> Result<Vec<Stored>, ImageError> {
        let index = self.index()?;
        let mut images = Vec::with_capacity(index.manifests().len());
        for descriptor in index.manifests() {
            images.push(Stored {
                name: reference(descriptor).map(str::to_owned),
                digest: sha256(descriptor)?,
                image: ContainerImage::read(self, descriptor).map_err(|e| e.to_string()),
            });
        }
        images.sort_by(|a, b| (&a.name, a.digest).cmp(&(&b.name, b.digest)));
        Ok(images)
    }

    /// An image by its name, with `:latest` added if need be, or the beginning of its digest; without a name the only one there is.
    ///
    /// # Errors
    /// None or several of that name; an image that cannot be read.
    pub fn image(&self, name: Option<&str>) -> Result<ContainerImage, ImageError> {
        let index = self.index()?;
        let at = self.position(&index, name)?;
        ContainerImage::read(self, &index.manifests()[at])
    }

    fn position(&self, index: &ImageIndex, name: Option<&str>) -> Result<usize, ImageError> {
        let manifests = index.manifests();
        let Some(name) = name else {
            if let [_] = manifests.as_slice() {
                return Ok(0);
            }
            let latest = |descriptor: &Descriptor| reference(descriptor) == Some("latest");
            return manifests.iter().position(latest).ok_or_else(|| {
                let reason = match manifests.len() {
                    0 => "holds no image".to_owned(),
                    n => format!("holds {n} images, say which one{}", names(manifests)),
                };
                ImageError::bad(self.dir.display().to_string(), reason)
            });
        };
        let latest = format!("{name}:latest");
        let named = |wanted: &str| {
            manifests
                .iter()
                .position(|descriptor| reference(descriptor) == Some(wanted))
        };
        if let Some(at) = named(name).or_else(|| named(&latest)) {
            return Ok(at);
        }
        let digits = name.strip_prefix("sha256:").unwrap_or(name);
        if digits.len() >= 6 && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            let found: Vec<_> = manifests
                .iter()
                .enumerate()
                .filter(|(_, descriptor)| descriptor.digest().digest().starts_with(digits))
                .collect();
            let same = |(_, descriptor): &(usize, &Descriptor)| {
                found
                    .first()
                    .is_some_and(|(_, first)| first.digest() == descriptor.digest())
            };
            match found.as_slice() {
                [] => {}
                [(at, _), ..] if found.iter().all(same) => return Ok(*at),
                _ => {
                    let what = format!("{name} in {}", self.dir.display());
                    return Err(ImageError::bad(
                        what,
                        "several images begin with these digits; give more of them",
                    ));
                }
            }
        }
        Err(ImageError::NotFound {
            what: format!("{name} in {}", self.dir.display()),
            hint: names(manifests),
        })
    }

    /// Takes a name from an image, and away all blobs that no other image needs.
    ///
    /// # Errors
    /// As [`image`](Self::image); as [`prune`](Self::prune).
    pub fn remove(&self, name: &str) -> Result<Pruned, ImageError> {
        {
            let _lock = self.lock_index()?;
            let mut index = self.index()?;
            let at = self.position(&index, Some(name))?;
            let mut manifests = index.manifests().clone();
            manifests.remove(at);
            index.set_manifests(manifests);
            self.write_index(&index)?;
        }
        self.prune()
    }

    /// Takes away all blobs that no image needs and what killed conversions left. Waits for conversions that are under way.
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
        let _lock = lock(&self.dir.join(LAYOUT_FILE), how)?;
        let _index = self.lock_index()?;
        let index = self.index()?;
        let files = Files::Dir(self.dir.clone());
        let mut needed = HashSet::new();
        for descriptor in index.manifests() {
            self.needs(&files, descriptor, 0, &mut needed)?;
        }
        let mut pruned = Pruned::default();
        let dir = self.dir.join(BLOBS);
        let entries = fs::read_dir(&dir).map_err(|e| ImageError::io("list", &dir, e))?;
        for entry in entries {
            let entry = entry.map_err(|e| ImageError::io("list", &dir, e))?;
            if needed.contains(&*entry.file_name().to_string_lossy()) {
                continue;
            }
            let path = entry.path();
            let fail = |e| ImageError::io("remove", &path, e);
            let size = entry.metadata().map_err(fail)?.len();
            fs::remove_file(&path).map_err(fail)?;
            pruned.blobs += 1;
            pruned.bytes += size;
        }
        Ok(pruned)
    }

    fn needs(
        &self,
        files: &Files,
        descriptor: &Descriptor,
        depth: usize,
        needed: &mut HashSet<String>,
    ) -> Result<(), ImageError> {
        let digest = sha256(descriptor)?;
        if !needed.insert(digest.hex()) {
            return Ok(());
        }
        let bytes = files.checked(descriptor)?;
        let what = format!("manifest {digest} in {}", self.dir.display());
        if is_index(descriptor.media_type()) {
            if depth >= NESTED_MAX {
                return Err(ImageError::bad(what, "is nested too deep"));
            }
            let index: ImageIndex = parse(&what, &bytes)?;
            for descriptor in index.manifests() {
                self.needs(files, descriptor, depth + 1, needed)?;
            }
            return Ok(());
        }
        let manifest: ImageManifest = parse(&what, &bytes)?;
        for descriptor in manifest.layers().iter().chain([manifest.config()]) {
            needed.insert(sha256(descriptor)?.hex());
        }
        let annotations = manifest.annotations().as_ref();
        if let Some(index) = annotations.and_then(|all| all.get(INDEX_DIGEST)) {
            needed.insert(index.parse::<Sha256Digest>()?.hex());
        }
        Ok(())
    }

    /// The layers there are, by annotations (their source and how they were made).
    pub(super) fn made_layers(
        &self,
        key: &dyn Fn(&Descriptor) -> Option<String>,
    ) -> BTreeMap<String, Descriptor> {
        let mut layers = BTreeMap::new();
        for image in self.images().into_iter().flatten() {
            let Ok(image) = image.image else { continue };
            for layer in image.manifest.layers() {
                if let Some(key) = key(layer)
                    && sha256(layer).is_ok_and(|digest| has(&self.blob(&digest), layer.size()))
                {
                    layers.insert(key, layer.clone());
                }
            }
        }
        layers
    }
}

/// Whether a blob is there and has its size.
pub(super) fn has(path: &Path, size: u64) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() == size)
}

pub(super) fn check_version(what: &str, bytes: &[u8]) -> Result<(), ImageError> {
    let value: serde_json::Value = parse(what, bytes)?;
    let version = value
        .get("imageLayoutVersion")
        .and_then(serde_json::Value::as_str);
    match version {
        Some(version) if version.starts_with("1.") => Ok(()),
        _ => Err(ImageError::bad(
            what,
            "names no version of the image layout that is known (1.x)",
        )),
    }
}

pub(super) fn is_index(kind: &MediaType) -> bool {
    match kind {
        MediaType::ImageIndex => true,
        MediaType::Other(name) => {
            name == "application/vnd.docker.distribution.manifest.list.v2+json"
        }
        _ => false,
    }
}

/// The name of an image in its layout.
pub(super) fn reference(descriptor: &Descriptor) -> Option<&str> {
    let annotations = descriptor.annotations().as_ref()?;
    annotations.get(REF_NAME).map(String::as_str)
}

/// The names there are, for a hint.
pub(super) fn names(manifests: &[Descriptor]) -> String {
    let mut names: Vec<_> = manifests.iter().filter_map(reference).collect();
    names.sort_unstable();
    let more = names.len().saturating_sub(8);
    names.truncate(8);
    match (names.as_slice(), more) {
        ([], _) => String::new(),
        (names, 0) => format!("; there is {}", names.join(", ")),
        (names, more) => format!("; there is {} and {more} more", names.join(", ")),
    }
}

/// JSON with sorted keys: the same value gives the same bytes.
pub(super) fn canonical<T: serde::Serialize>(value: &T) -> Vec<u8> {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.to_string().into_bytes()
}

fn empty_index() -> ImageIndex {
    let mut index = ImageIndex::default();
    index.set_schema_version(2);
    index.set_media_type(Some(MediaType::ImageIndex));
    index
}

fn lock(path: &Path, how: FlockOperation) -> Result<Lock, ImageError> {
    let file = File::open(path).map_err(|e| ImageError::io("open", path, e))?;
    loop {
        match rustix::fs::flock(&file, how) {
            Ok(()) => return Ok(Lock(file)),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(ImageError::io("lock", path, errno)),
        }
    }
}
