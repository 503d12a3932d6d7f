//! Container images: an OCI image layout whose layers are imgfs images, and what such images are made of.
//!
//! [`Layout`] is a directory of images (one image for a person, many for the store); [`ContainerImage`] is
//! one of them, opened; [`Source`] names what can be converted; [`convert()`] does it. `blobs` reads the
//! files of an OCI layout or archive.
//!
//! The manifest of an image lists its layers, lowest first, as `application/vnd.erofs.layer.v1`. Its
//! configuration is that of the source but for `rootfs.diff_ids`, which names the blobs as they are;
//! annotations of the layers keep the DiffIDs of the source. The merged index is a blob that an annotation of
//! the manifest names: tools that do not know it leave it out, and the image is still whole.

mod archive;
mod blobs;
mod choose;
mod container;
mod convert;
mod copy;
mod daemon;
mod digest;
mod export;
mod keep;
mod layout;
mod lower;
mod pack;
mod place;
mod prune;
mod source;
mod stored;
mod table;
mod tar_layer;

pub use container::{ContainerImage, Layer};
pub use convert::{ConvertOptions, ConvertProgress, Converted, convert};
pub use digest::Sha256Digest;
pub use export::{DockerLayers, ExportOptions, Exported, Packing, export_docker, export_oci};
pub use layout::{Layout, Pruned};
pub use pack::pack_oci;
pub use source::{Platform, Source};
pub use stored::Stored;

use crate::BuildError;
use std::io;
use std::path::{Path, PathBuf};

/// Media type of a layer.
pub const LAYER_TYPE: &str = "application/vnd.erofs.layer.v1";
/// Annotation of a layer: DiffID of the layer it was made of. For people: nothing relies on what an image
/// says of itself.
pub const DIFF_ID: &str = "org.varve.diff-id";
/// Annotations of a manifest: digest of the merged index.
pub const INDEX_DIGEST: &str = "org.varve.index.digest";
/// Annotations of a layer: its Merkle tree in the layout of dm-verity.
pub const VERITY_ROOT: &str = "org.erofs.dmverity.root_digest";
/// Byte offset of the tree.
pub const VERITY_OFFSET: &str = "org.erofs.dmverity.hash_offset";
/// Size of its blocks: 4096.
pub const VERITY_BLOCK_SIZE: &str = "org.erofs.dmverity.block_size";
/// Annotation of an EROFS layer of other tools: `overlay-lower`, or what is no layer of a stack.
const EROFS_ROLE: &str = "org.erofs.role";
/// Annotation of a compressed EROFS layer of other tools: digest of what it unpacks to.
const EROFS_UNCOMPRESSED: &str = "org.erofs.uncompressed-digest";
/// The same of the merged index, as annotations of the manifest.
pub const INDEX_VERITY_ROOT: &str = "org.varve.index.dmverity.root_digest";
/// Byte offset of the tree.
pub const INDEX_VERITY_OFFSET: &str = "org.varve.index.dmverity.hash_offset";
/// Annotation with an image's name in its layout.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Why something with an image failed, in one line that names what it is about.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A layer could not be made.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A file could not be read or written.
    #[error("cannot {action} {}: {}", path.display(), crate::error::OsText(error))]
    Io {
        /// `open`, `read`, `write`, ...
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        error: io::Error,
    },
    /// Something is not what it should be.
    #[error("{what}: {reason}")]
    Bad {
        /// Name of the file, blob or option.
        what: String,
        /// What is wrong, and what to do about it.
        reason: String,
    },
    /// Bytes do not have the digest that is told of them.
    #[error(
        "{what}: its content has the digest {actual}, not {expected}: it is damaged or was tampered with"
    )]
    Digest {
        /// Name of the blob.
        what: String,
        /// What was told.
        expected: Sha256Digest,
        /// What was found.
        actual: Sha256Digest,
    },
    /// There is no such image.
    #[error("{what}: no such image{hint}")]
    NotFound {
        /// Name of the image and where it was looked for.
        what: String,
        /// What there is instead, with a leading separator; empty for nothing.
        hint: String,
    },
    /// The caller wanted it to end.
    #[error("interrupted")]
    Interrupted,
}

impl ImageError {
    pub(crate) fn io(
        action: &'static str,
        path: impl AsRef<Path>,
        error: impl Into<io::Error>,
    ) -> Self {
        Self::Io {
            action,
            path: path.as_ref().to_owned(),
            error: error.into(),
        }
    }

    pub(crate) fn bad(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Bad {
            what: what.into(),
            reason: reason.into(),
        }
    }
}
