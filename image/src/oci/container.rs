//! One container image of a layout: its layers as files, its configuration, its merged index.

use std::collections::HashMap;
use std::fs::File;
use std::path::PathBuf;

use oci_spec::image::{Descriptor, ImageManifest};
use serde_json::Value;

use super::blobs::{Files, check_size, parse, sha256};
use super::layout::{is_index, reference};
use super::place::open_file;
use super::table::{Table, index_key};
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
    /// The merged index, where one is there that a conversion here is known to have made of these layers.
    /// Nobody looks at another one: it could show any tree.
    pub index: Option<Layer>,
    /// What the manifest names as merged index, known or not, where it is there.
    pub named_index: Option<Layer>,
}

impl ContainerImage {
    /// Reads manifest and configuration, which are checked against their digests, and finds the layers, of
    /// which only the sizes are checked.
    pub(super) fn read(
        layout: &Layout,
        descriptor: &Descriptor,
        table: &Table,
    ) -> Result<Self, ImageError> {
        let files = Files::Own(layout.clone());
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
        let mut named_index = None;
        let mut is_known = false;
        if let Some(Ok(digest)) = index.map(|digest| digest.parse::<Sha256Digest>())
            // Tools that copy images leave it behind; then the layers are stacked.
            && let Ok(file) = layout.open_blob(&digest)
            && let Ok(meta) = file.metadata()
        {
            let ids: Vec<_> = layers.iter().map(|layer| layer.digest).collect();
            let made = table.made.get(&index_key(&ids));
            is_known = !ids.is_empty()
                && made.is_some_and(|made| made.digest() == Some(digest))
                && table.knows(&digest, &file);
            named_index = Some(Layer {
                path: layout.blob(&digest),
                digest,
                size: meta.len(),
                diff_id: None,
                verity: verity_of(annotations, INDEX_VERITY_ROOT, INDEX_VERITY_OFFSET),
            });
        }
        Ok(Self {
            name: reference(descriptor).map(str::to_owned),
            digest,
            manifest,
            config,
            layers,
            index: named_index.clone().filter(|_| is_known),
            named_index,
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

impl Layer {
    /// Opens the file for reading; a link in its place is not followed.
    ///
    /// # Errors
    /// What cannot be opened; another kind of file, another size than the image says.
    pub fn open(&self) -> Result<File, ImageError> {
        let fail = |e| ImageError::io("open", &self.path, e);
        let file = open_file(rustix::fs::CWD, &self.path, false).map_err(fail)?;
        let len = file.metadata().map_err(fail)?.len();
        check_size(&self.path.display().to_string(), self.size, len)?;
        Ok(file)
    }
}

fn layer_of(layout: &Layout, descriptor: &Descriptor) -> Result<Layer, ImageError> {
    let digest = sha256(descriptor)?;
    let path = layout.blob(&digest);
    let fail = |e| ImageError::io("open", &path, e);
    let file = layout.open_blob(&digest).map_err(fail)?;
    let len = file.metadata().map_err(fail)?.len();
    check_size(&path.display().to_string(), descriptor.size(), len)?;
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
