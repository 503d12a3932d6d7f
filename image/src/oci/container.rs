//! One container image of a layout: its layers as files, its configuration, its merged index.

use std::collections::HashMap;
use std::path::PathBuf;

use oci_spec::image::{Descriptor, ImageManifest};
use serde_json::Value;

use super::blobs::{Files, check_size, parse, sha256};
use super::layout::{has, is_index, reference};
use super::{
    DIFF_ID, INDEX_DIGEST, INDEX_VERITY_OFFSET, INDEX_VERITY_ROOT, ImageError, Layout,
    Sha256Digest, VERITY_OFFSET, VERITY_ROOT,
};
use crate::Verity;

/// A layer of an image.
#[derive(Debug, Clone)]
pub struct Layer {
    /// Its file.
    pub path: PathBuf,
    /// Digest of the file.
    pub digest: Sha256Digest,
    /// Its length in bytes.
    pub size: u64,
    /// The DiffID of the OCI layer it was made of, if it was.
    pub diff_id: Option<String>,
    /// Its Merkle tree, if it has one.
    pub verity: Option<Verity>,
}

/// What annotations tell of a Merkle tree.
pub(super) fn verity_of(
    annotations: Option<&HashMap<String, String>>,
    root: &str,
    offset: &str,
) -> Option<Verity> {
    let annotations = annotations?;
    let root: Sha256Digest = annotations.get(root)?.parse().ok()?;
    Some(Verity {
        root: root.0,
        hash_offset: annotations.get(offset)?.parse().ok()?,
    })
}

/// An image that can be run, mounted and looked into.
#[derive(Debug, Clone)]
pub struct ContainerImage {
    /// Its name in the layout.
    pub name: Option<String>,
    /// Digest of the manifest.
    pub digest: Sha256Digest,
    /// The manifest.
    pub manifest: ImageManifest,
    /// The OCI configuration, as JSON.
    pub config: Value,
    /// Layers, lowest first.
    pub layers: Vec<Layer>,
    /// The merged index, where it is there.
    pub index: Option<Layer>,
}

impl ContainerImage {
    /// Reads manifest and configuration, which are checked against their digests, and finds the layers, of which only the sizes are checked.
    pub(super) fn read(layout: &Layout, descriptor: &Descriptor) -> Result<Self, ImageError> {
        let files = Files::Dir(layout.dir().to_owned());
        let digest = sha256(descriptor)?;
        let what = format!("manifest {digest} in {}", files.name());
        if is_index(descriptor.media_type()) {
            return Err(ImageError::bad(
                what,
                "is an index of several images, not one that varve made; convert it first",
            ));
        }
        let manifest: ImageManifest = parse(&what, &files.checked(descriptor)?)?;
        let config = parse(
            &format!("configuration {}", manifest.config().digest()),
            &files.checked(manifest.config())?,
        )?;
        let mut layers = Vec::with_capacity(manifest.layers().len());
        for layer in manifest.layers() {
            let kind = layer.media_type().to_string();
            if !is_erofs(&kind) || kind.ends_with("+zstd") {
                let reason = format!(
                    "has a layer of type {kind}, which cannot be used as it is: run `varve convert oci:{} DST` first",
                    layout.dir().display()
                );
                return Err(ImageError::bad(what, reason));
            }
            layers.push(layer_of(layout, layer)?);
        }
        let annotations = manifest.annotations().as_ref();
        let index = annotations.and_then(|all| all.get(INDEX_DIGEST));
        let index = match index.map(|digest| digest.parse::<Sha256Digest>()) {
            Some(Ok(digest)) => {
                let path = layout.blob(&digest);
                // Tools that copy images leave it behind; then the layers are stacked.
                std::fs::metadata(&path).ok().map(|meta| Layer {
                    path,
                    digest,
                    size: meta.len(),
                    diff_id: None,
                    verity: verity_of(annotations, INDEX_VERITY_ROOT, INDEX_VERITY_OFFSET),
                })
            }
            _ => None,
        };
        Ok(Self {
            name: reference(descriptor).map(str::to_owned),
            digest,
            manifest,
            config,
            layers,
            index,
        })
    }

    /// A part of the configuration's `config` object, such as `Env`.
    pub fn setting(&self, key: &str) -> Option<&Value> {
        self.config
            .get("config")?
            .get(key)
            .filter(|value| !value.is_null())
    }

    /// A list of strings in the configuration's `config` object; empty where there is none.
    pub fn list(&self, key: &str) -> Vec<String> {
        let values = self.setting(key).and_then(Value::as_array);
        let texts = values.into_iter().flatten().filter_map(Value::as_str);
        texts.map(str::to_owned).collect()
    }

    /// A string in the configuration's `config` object; `None` where there is none or an empty one.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.setting(key)?.as_str().filter(|text| !text.is_empty())
    }
}

fn layer_of(layout: &Layout, descriptor: &Descriptor) -> Result<Layer, ImageError> {
    let digest = sha256(descriptor)?;
    let path = layout.blob(&digest);
    if !has(&path, descriptor.size()) {
        let what = path.display().to_string();
        let len = std::fs::metadata(&path).map_err(|e| ImageError::io("open", &path, e))?;
        check_size(&what, descriptor.size(), len.len())?;
        return Err(ImageError::bad(what, "is not a regular file"));
    }
    let annotations = descriptor.annotations().as_ref();
    Ok(Layer {
        path,
        digest,
        size: descriptor.size(),
        diff_id: annotations.and_then(|all| all.get(DIFF_ID)).cloned(),
        verity: verity_of(annotations, VERITY_ROOT, VERITY_OFFSET),
    })
}

/// Whether a media type is that of an EROFS image, compressed or not.
pub(super) fn is_erofs(kind: &str) -> bool {
    let plain = kind.strip_suffix("+zstd").unwrap_or(kind);
    plain == "application/vnd.erofs" || plain.starts_with("application/vnd.erofs.layer")
}
