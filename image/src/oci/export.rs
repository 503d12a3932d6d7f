//! The way back: an image as an OCI layout of tar layers, and as an archive for `docker load`.

use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::sync::atomic::AtomicBool;

use flate2::write::GzEncoder;
use oci_spec::image::{Descriptor, MediaType};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::blobs::check_digest;
use super::convert::{manifest_of, oci_digest};
use super::digest::Stop;
use super::layout::canonical;
use super::tar_layer::TarLayer;
use super::{ContainerImage, ConvertProgress, ImageError, Layer, Layout, Sha256Digest};
use crate::BuildError;
use crate::output::Output;

/// Annotations of our own, which mean nothing elsewhere.
const OWN: &str = "org.varve.";
/// How much work goes into compressing a layer: what `docker push` and `buildkit` take for gzip, and what
/// zstd takes by itself.
const GZIP_LEVEL: u32 = 6;
const ZSTD_LEVEL: i32 = 3;

/// How the layers of an OCI layout are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Packing {
    /// As tools of every age read it.
    #[default]
    Gzip,
    /// Smaller and faster.
    Zstd,
    /// Plain tar archives.
    None,
}

impl Packing {
    fn media_type(self) -> MediaType {
        match self {
            Self::Gzip => MediaType::ImageLayerGzip,
            Self::Zstd => MediaType::ImageLayerZstd,
            Self::None => MediaType::ImageLayer,
        }
    }
}

/// What a docker archive holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DockerLayers {
    /// Layers that Docker runs: the tree as tar archives.
    Tar,
    /// An image `FROM scratch` for registries that know nothing of EROFS: each of its layers holds one layer
    /// file, `0.img` the lowest, so that registries keep a layer once for all images that have it there.
    Files,
}

/// What all exports share.
pub struct ExportOptions<'a> {
    /// Ends the export when it becomes true.
    pub stop: &'a AtomicBool,
    /// Hears how far it is.
    pub progress: &'a dyn ConvertProgress,
}

/// What an export did.
#[derive(Debug)]
pub struct Exported {
    /// Layers.
    pub layers: usize,
    /// Digest of the manifest in an OCI layout, of the configuration in a docker archive.
    pub digest: Sha256Digest,
    /// One line for each thing that the target does not hold.
    pub notes: Vec<String>,
}

/// Passes bytes on or only counts them, and computes their digest.
struct Tee<'a> {
    to: Option<&'a mut dyn Write>,
    hasher: Sha256,
    count: u64,
    stop: &'a Stop<'a>,
    advance: &'a mut dyn FnMut(u64),
}

impl<'a> Tee<'a> {
    fn new(
        to: Option<&'a mut dyn Write>,
        stop: &'a Stop<'a>,
        advance: &'a mut dyn FnMut(u64),
    ) -> Self {
        Self {
            to,
            hasher: Sha256::new(),
            count: 0,
            stop,
            advance,
        }
    }

    fn finish(self) -> (Sha256Digest, u64) {
        (Sha256Digest(self.hasher.finalize().into()), self.count)
    }
}

impl Write for Tee<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.stop.check()?;
        if let Some(to) = &mut self.to {
            to.write_all(buf)?;
        }
        self.hasher.update(buf);
        self.count += buf.len() as u64;
        (self.advance)(self.count);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        // Everything was passed on; what lies behind is finished by whoever made it.
        Ok(())
    }
}

/// A blob that is being written at its end.
struct Appended<'a> {
    output: &'a Output,
    at: u64,
}

impl Write for Appended<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let written = self.output.write_at(self.at, buf);
        written.map_err(|e| match e {
            // Whoever asked for it names the file.
            BuildError::Output { error, .. } => error,
            e => io::Error::other(e.to_string()),
        })?;
        self.at += buf.len() as u64;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A stream that may be compressed.
enum Packer<W: Write> {
    Gzip(GzEncoder<W>),
    Zstd(zstd::stream::write::Encoder<'static, W>),
    None(W),
}

impl<W: Write> Packer<W> {
    fn new(out: W, packing: Packing) -> io::Result<Self> {
        Ok(match packing {
            // Without a time and a name: the same layer gives the same bytes.
            Packing::Gzip => Self::Gzip(GzEncoder::new(out, flate2::Compression::new(GZIP_LEVEL))),
            Packing::Zstd => Self::Zstd(zstd::stream::write::Encoder::new(out, ZSTD_LEVEL)?),
            Packing::None => Self::None(out),
        })
    }

    fn inner(&mut self) -> &mut dyn Write {
        match self {
            Self::Gzip(out) => out,
            Self::Zstd(out) => out,
            Self::None(out) => out,
        }
    }

    fn finish(self) -> io::Result<W> {
        match self {
            Self::Gzip(out) => out.finish(),
            Self::Zstd(out) => out.finish(),
            Self::None(out) => Ok(out),
        }
    }
}

/// The configuration of the image for layers with these DiffIDs.
fn config_for(image: &ContainerImage, diff_ids: &[Sha256Digest]) -> Vec<u8> {
    let mut config = image.config.clone();
    if !config.is_object() {
        config = json!({});
    }
    let ids: Vec<_> = diff_ids.iter().map(Sha256Digest::to_string).collect();
    config["rootfs"] = json!({ "type": "layers", "diff_ids": ids });
    // One entry for each layer, beside those that made none: others are refused.
    let is_layer = |entry: &&Value| entry.get("empty_layer").and_then(Value::as_bool) != Some(true);
    let history = config.get("history").and_then(Value::as_array);
    let told = history.map_or(0, |list| list.iter().filter(is_layer).count());
    let is_list = history.is_some_and(|list| list.iter().all(Value::is_object));
    if told != diff_ids.len() || !is_list {
        let entry = json!({ "created_by": "varve convert" });
        config["history"] = Value::from(vec![entry; diff_ids.len()]);
    }
    canonical(&config)
}

/// A layer must be what it was: under the digests that are computed here nobody would find out.
fn check_layer(layer: &Layer, stop: &Stop<'_>) -> Result<(), ImageError> {
    let digest = Sha256Digest::of_file(&layer.open()?, stop);
    let (digest, _) = digest.map_err(|e| ImageError::io("read", &layer.path, e))?;
    let what = format!("layer {}", layer.path.display());
    check_digest(&what, layer.digest, digest)
}

/// Puts an image into a layout with tar layers, which every tool knows.
///
/// # Errors
/// A layer that cannot be read; what cannot be written. Then the layout is as it was before.
pub fn export_oci(
    image: &ContainerImage,
    layout: &Layout,
    name: &str,
    packing: Packing,
    options: &ExportOptions<'_>,
) -> Result<Exported, ImageError> {
    let (layout, lock) = layout.hold()?;
    let stop = Stop::new(options.stop);
    let mut new = false;
    let done = put_oci(image, &layout, name, packing, options, &stop, &mut new);
    drop(lock);
    if done.is_err() && new {
        let _ = layout.prune_now();
    }
    done.map_err(|error| match stop.is_wanted() {
        true => ImageError::Interrupted,
        false => error,
    })
}

fn put_oci(
    image: &ContainerImage,
    layout: &Layout,
    name: &str,
    packing: Packing,
    options: &ExportOptions<'_>,
    stop: &Stop<'_>,
    new: &mut bool,
) -> Result<Exported, ImageError> {
    let mut notes = Vec::new();
    let mut diff_ids = Vec::new();
    let mut layers = Vec::new();
    for (number, layer) in image.layers.iter().enumerate() {
        check_layer(layer, stop)?;
        let tar = TarLayer::open(layer, number)?;
        notes.extend(tar.notes.iter().cloned());
        let output = layout.output("layer")?;
        let progress = options.progress;
        progress.begin(number, &layer.digest.hex(), Some(tar.size));
        let mut advance = |done: u64| progress.advance(number, done.min(tar.size));
        let mut ignore = |_| {};
        let mut file = Appended {
            output: &output,
            at: 0,
        };
        let fail = |e| ImageError::io("write", layout.dir(), e);
        let mut packed = Tee::new(Some(&mut file), stop, &mut ignore);
        let mut packer = Packer::new(io::BufWriter::with_capacity(1 << 20, &mut packed), packing)
            .map_err(fail)?;
        let mut plain = Tee::new(Some(packer.inner()), stop, &mut advance);
        tar.write(&mut io::BufWriter::with_capacity(1 << 18, &mut plain))
            .map_err(|error| match error {
                ImageError::Io {
                    action: "write",
                    error,
                    ..
                } => fail(error),
                error => error,
            })?;
        let (diff_id, _) = plain.finish();
        packer
            .finish()
            .and_then(|mut out| out.flush())
            .map_err(fail)?;
        let (digest, size) = packed.finish();
        *new = true;
        output.commit_as(&layout.blob(&digest))?;
        progress.end(number, false);
        diff_ids.push(diff_id);
        layers.push(Descriptor::new(
            packing.media_type(),
            size,
            oci_digest(&digest)?,
        ));
    }
    let config = config_for(image, &diff_ids);
    let (config_digest, _) = layout.put(&config)?;
    let mut annotations = image.manifest.annotations().clone().unwrap_or_default();
    annotations.retain(|key, _| !key.starts_with(OWN));
    let manifest = manifest_of(&config, &config_digest, layers, annotations)?;
    let (digest, _) = layout.put(&manifest)?;
    if stop.is_set() {
        return Err(ImageError::Interrupted);
    }
    let descriptor = Descriptor::new(
        MediaType::ImageManifest,
        manifest.len() as u64,
        oci_digest(&digest)?,
    );
    layout.add(name, descriptor, true, |_| {})?;
    Ok(Exported {
        layers: diff_ids.len(),
        digest,
        notes,
    })
}

/// Writes an archive for `docker load`. Each layer is read twice: its digest comes before it.
///
/// # Errors
/// What cannot be read or written.
pub fn export_docker(
    image: &ContainerImage,
    kind: DockerLayers,
    tag: Option<&str>,
    options: &ExportOptions<'_>,
    out: &mut dyn Write,
) -> Result<Exported, ImageError> {
    let stop = Stop::new(options.stop);
    let done = put_docker(image, kind, tag, options, &stop, out);
    done.map_err(|error| match stop.is_wanted() {
        true => ImageError::Interrupted,
        false => error,
    })
}

/// A layer of a docker archive, which can be written again and again.
enum Inner<'a> {
    Tar(Box<TarLayer>),
    /// A layer file, and its number.
    File(&'a Layer, usize),
}

impl Inner<'_> {
    fn write(&self, out: &mut dyn Write) -> Result<(), ImageError> {
        match self {
            Self::Tar(tar) => tar.write(out),
            Self::File(layer, number) => {
                let mut file = layer.open()?;
                member(out, &format!("{number}.img"), layer.size, &mut file)
                    .and_then(|()| out.write_all(&[0; 1024]))
                    .and_then(|()| out.flush())
                    .map_err(|e| ImageError::io("copy", &layer.path, e))
            }
        }
    }

    fn size(&self) -> u64 {
        match self {
            Self::Tar(tar) => tar.size,
            Self::File(layer, _) => layer.size,
        }
    }
}

fn put_docker(
    image: &ContainerImage,
    kind: DockerLayers,
    tag: Option<&str>,
    options: &ExportOptions<'_>,
    stop: &Stop<'_>,
    out: &mut dyn Write,
) -> Result<Exported, ImageError> {
    let progress = options.progress;
    let fail = |e| ImageError::io("write", "the archive", e);
    let mut notes = Vec::new();
    let mut layers = Vec::new();
    for (number, layer) in image.layers.iter().enumerate() {
        check_layer(layer, stop)?;
        let inner = match kind {
            DockerLayers::Tar => Inner::Tar(Box::new(TarLayer::open(layer, number)?)),
            DockerLayers::Files => Inner::File(layer, number),
        };
        if let Inner::Tar(tar) = &inner {
            notes.extend(tar.notes.iter().cloned());
        }
        let size = inner.size();
        progress.begin(number, &layer.digest.hex(), Some(size.saturating_mul(2)));
        let mut advance = |done: u64| progress.advance(number, done.min(size));
        let mut first = Tee::new(None, stop, &mut advance);
        inner.write(&mut io::BufWriter::with_capacity(1 << 18, &mut first))?;
        let (diff_id, length) = first.finish();
        layers.push((inner, diff_id, length));
    }
    let diff_ids: Vec<_> = layers.iter().map(|(_, diff_id, _)| *diff_id).collect();
    let config = config_for(image, &diff_ids);
    let digest = Sha256Digest::of(&config);
    let config_name = format!("{}.json", digest.hex());
    member(out, &config_name, config.len() as u64, &mut &config[..]).map_err(fail)?;
    let mut names = Vec::new();
    let mut written = HashSet::new();
    for (number, (inner, diff_id, length)) in layers.iter().enumerate() {
        let name = format!("{}/layer.tar", diff_id.hex());
        // Equal layers are one.
        if written.insert(*diff_id) {
            header(out, &name, *length).map_err(fail)?;
            let size = inner.size();
            let mut advance =
                |done: u64| progress.advance(number, size.saturating_add(done.min(size)));
            let mut second = Tee::new(Some(&mut *out), stop, &mut advance);
            inner.write(&mut io::BufWriter::with_capacity(1 << 18, &mut second))?;
            if second.finish() != (*diff_id, *length) {
                let what = image.layers[number].path.display().to_string();
                return Err(ImageError::bad(what, "changed while it was read"));
            }
            pad(out, *length).map_err(fail)?;
        }
        progress.end(number, false);
        names.push(name);
    }
    let tags: Vec<_> = tag.into_iter().collect();
    let manifest = canonical(&json!([{
        "Config": config_name,
        "RepoTags": tags,
        "Layers": names,
    }]));
    let length = manifest.len() as u64;
    member(out, "manifest.json", length, &mut &manifest[..]).map_err(fail)?;
    out.write_all(&[0; 1024]).map_err(fail)?;
    out.flush().map_err(fail)?;
    Ok(Exported {
        layers: diff_ids.len(),
        digest,
        notes,
    })
}

pub(super) fn header(out: &mut dyn Write, name: &str, size: u64) -> io::Result<()> {
    any_header(out, name, size, 0o444, tar::EntryType::Regular)
}

pub(super) fn directory(out: &mut dyn Write, name: &str) -> io::Result<()> {
    any_header(out, name, 0, 0o755, tar::EntryType::Directory)
}

fn any_header(
    out: &mut dyn Write,
    name: &str,
    size: u64,
    mode: u32,
    kind: tar::EntryType,
) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_path(name)?;
    header.set_size(size);
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_entry_type(kind);
    header.set_cksum();
    out.write_all(header.as_bytes())
}

fn member(out: &mut dyn Write, name: &str, size: u64, content: &mut dyn Read) -> io::Result<()> {
    header(out, name, size)?;
    let copied = io::copy(&mut content.take(size), out)?;
    if copied != size {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    pad(out, size)
}

pub(super) fn pad(out: &mut dyn Write, size: u64) -> io::Result<()> {
    let rest = (512 - size % 512) % 512;
    out.write_all(&[0; 512][..rest as usize])
}
