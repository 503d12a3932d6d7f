//! Conversion: every layer of a source becomes an imgfs layer of a layout, then all of them get a merged
//! index.
//!
//! Layers are converted side by side, each read once, front to back, with a bounded buffer. Digests of what
//! is read are checked at its end, and nothing gets a name before. A layer that was made here of the same
//! content is not made again ([`super::table`]).

use std::collections::HashMap;
use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use oci_spec::image::{Descriptor, Digest, ImageManifestBuilder, MediaType};
use serde_json::{Value, json};

use super::archive::FilePart;
use super::blobs::{Files, check_digest, check_size};
use super::container::verity_of;
use super::copy::{check_image, copy, root_names};
use super::digest::{HashReader, Stop};
use super::layout::canonical;
use super::lower::{self, FileBlock, Lower, OpenImages};
use super::place::open_file;
use super::source::{self, Input, Kind};
use super::table::{Identity, Made, Origin, Table, chain, layer_key};
use super::{
    ContainerImage, DIFF_ID, INDEX_DIGEST, INDEX_VERITY_OFFSET, INDEX_VERITY_ROOT, ImageError,
    LAYER_TYPE, Layout, Platform, Sha256Digest, Source, VERITY_BLOCK_SIZE, VERITY_OFFSET,
    VERITY_ROOT,
};
use crate::limit::{Growth, Limit};
use crate::source::{
    Archive, Below, decompress, hint_at_images, images_hint, write_dir, write_tar, write_zar,
};
use crate::tree::Tree;
use crate::verity::{self, VERITY_BLOCK, Verity};
use crate::writer::DataWriter;
use crate::{BuildOptions, BuildReport};

/// How to convert.
#[derive(Debug)]
pub struct ConvertOptions<'a> {
    /// Name of the image in the layout.
    pub name: String,
    /// Which image of several, and which ones are refused.
    pub platform: Platform,
    /// Layers that are converted at the same time, at least 1.
    pub threads: usize,
    /// Ends the conversion when it becomes true.
    pub stop: &'a AtomicBool,
    /// Make everything again, and look at the bytes of what is there: a blob that rotted on the disk looks
    /// unchanged otherwise.
    pub again: bool,
    /// Most bytes of data of a layer ([`BuildOptions::max_size`]); by default all layers together may become
    /// 256 times as much as the source is long, but 256 MiB in any case.
    pub max_size: Option<u64>,
    /// Go on past what cannot be read of a directory ([`BuildOptions::skip_unreadable`]).
    pub skip_unreadable: bool,
}

impl<'a> ConvertOptions<'a> {
    /// Those of an image for this machine, one layer at a time.
    pub fn new(name: impl Into<String>, stop: &'a AtomicBool) -> Self {
        Self {
            name: name.into(),
            platform: Platform::default(),
            threads: 1,
            stop,
            again: false,
            max_size: None,
            skip_unreadable: false,
        }
    }
}

/// Hears how far a conversion is, from several threads.
pub trait ConvertProgress: Sync {
    /// A layer is begun: its position, its name and the bytes that will be read, where that is known.
    fn begin(&self, _layer: usize, _name: &str, _total: Option<u64>) {}
    /// So many bytes of it were read.
    fn advance(&self, _layer: usize, _done: u64) {}
    /// It is done; `reused` if it was there before.
    fn end(&self, _layer: usize, _reused: bool) {}
}

/// Nobody listens.
impl ConvertProgress for () {}

/// What a conversion did.
#[derive(Debug)]
pub struct Converted {
    /// The image.
    pub image: ContainerImage,
    /// Layers that were made, and those that were there before.
    pub made: usize,
    /// Layers that the layout had.
    pub reused: usize,
    /// One line for each thing that the layers do not hold.
    pub notes: Vec<String>,
    /// What could not be read and was passed over ([`BuildReport::skipped`]).
    pub skipped: Vec<(Vec<u8>, String)>,
    /// How many those were.
    pub skipped_count: u64,
}

/// A layer that is there.
pub(super) struct Done {
    descriptor: Descriptor,
    pub(super) digest: Sha256Digest,
    reused: bool,
    report: BuildReport,
}

/// What all threads share.
pub(super) struct Work<'a> {
    pub(super) layout: &'a Layout,
    pub(super) files: Option<&'a Files>,
    /// What was known before.
    pub(super) known: Table,
    /// What this conversion finds out.
    pub(super) found: Mutex<Table>,
    pub(super) stop: Stop<'a>,
    pub(super) progress: &'a dyn ConvertProgress,
    /// How each layer is made.
    pub(super) build: BuildOptions,
    /// What was read and written.
    pub(super) growth: Arc<Growth>,
    /// Whether this conversion gave a blob its name.
    pub(super) created: AtomicBool,
    /// The layers that are there by now, by position.
    pub(super) ready: Mutex<Vec<Option<Sha256Digest>>>,
    /// Signalled when a layer is there or will not be.
    pub(super) changed: Condvar,
}

/// Converts `source` to an image of `layout`.
///
/// # Errors
/// The first thing that is wrong with the source or cannot be written; then the layout is as it was before.
pub fn convert(
    source: &Source,
    layout: &Layout,
    options: &ConvertOptions<'_>,
    progress: &dyn ConvertProgress,
) -> Result<Converted, ImageError> {
    let (layout, lock) = layout.hold()?;
    let stop = Stop::new(options.stop);
    let opened = source::open(source, options, &stop).map_err(|error| match stop.is_wanted() {
        true => ImageError::Interrupted,
        false => error,
    })?;
    let work = Work {
        layout: &layout,
        files: opened.files.as_ref(),
        known: match options.again {
            true => Table::default(),
            false => layout.table(),
        },
        build: BuildOptions {
            max_size: options.max_size,
            skip_unreadable: options.skip_unreadable,
            ..BuildOptions::default()
        },
        growth: Arc::default(),
        found: Mutex::new(Table::default()),
        stop,
        progress,
        created: AtomicBool::new(false),
        ready: Mutex::new(vec![None; opened.layers.len()]),
        changed: Condvar::new(),
    };
    let result = work.run(opened.layers, opened.config, opened.annotations, options);
    drop(lock);
    match result {
        Ok(converted) => Ok(converted),
        Err(error) => {
            // What a failed conversion made goes, unless another image needs it by now; what cannot go now is
            // there for the next one to find.
            if work.created.load(Ordering::Relaxed) {
                let _ = layout.prune_now();
            }
            Err(match work.stop.is_wanted() {
                true => ImageError::Interrupted,
                false => error,
            })
        }
    }
}

impl Work<'_> {
    fn run(
        &self,
        inputs: Vec<Input>,
        mut config: Value,
        mut annotations: HashMap<String, String>,
        options: &ConvertOptions<'_>,
    ) -> Result<Converted, ImageError> {
        let layers = self.layers(&inputs, options.threads)?;
        let (index, verity) = self.merged(&layers)?;

        let ids: Vec<_> = layers
            .iter()
            .map(|layer| layer.digest.to_string())
            .collect();
        if let Some(config) = config.as_object_mut() {
            config.insert(
                "rootfs".into(),
                json!({ "type": "layers", "diff_ids": ids }),
            );
        }
        let config = canonical(&config);
        let config_digest = self.put(&config)?;
        annotations.insert(INDEX_DIGEST.into(), index.to_string());
        annotations.extend(verity_annotations(
            &verity,
            INDEX_VERITY_ROOT,
            INDEX_VERITY_OFFSET,
        ));
        let layer_list: Vec<_> = layers
            .iter()
            .map(|layer| layer.descriptor.clone())
            .collect();
        let manifest = manifest_of(&config, &config_digest, layer_list, annotations)?;
        let digest = self.put(&manifest)?;
        if self.stop.is_set() {
            return Err(ImageError::Interrupted);
        }
        self.layout.add(
            &options.name,
            Descriptor::new(
                MediaType::ImageManifest,
                manifest.len() as u64,
                oci_digest(&digest)?,
            ),
            self.created.load(Ordering::Relaxed),
            |table| self.note(table),
        )?;
        let reused = layers.iter().filter(|layer| layer.reused).count();
        Ok(Converted {
            image: self.layout.image(Some(&options.name))?,
            made: layers.len() - reused,
            reused,
            skipped_count: layers.iter().map(|layer| layer.report.skipped_count).sum(),
            skipped: layers
                .iter()
                .flat_map(|layer| layer.report.skipped.iter().cloned())
                .collect(),
            notes: layers
                .into_iter()
                .flat_map(|layer| layer.report.notes)
                .collect(),
        })
    }

    fn layers(&self, inputs: &[Input], threads: usize) -> Result<Vec<Done>, ImageError> {
        let next = AtomicUsize::new(0);
        let results: Vec<Mutex<Option<Result<Done, ImageError>>>> =
            inputs.iter().map(|_| Mutex::new(None)).collect();
        std::thread::scope(|scope| {
            for _ in 0..threads.clamp(1, inputs.len().max(1)) {
                scope.spawn(|| {
                    loop {
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        let (Some(input), Some(result)) = (inputs.get(at), results.get(at)) else {
                            return;
                        };
                        if self.stop.is_set() {
                            return;
                        }
                        let mut done = self.layer(at, input);
                        match &done {
                            Ok(done) => self.ready()[at] = Some(done.digest),
                            // Those that end because another one failed have nothing to say.
                            Err(_) if !self.stop.fail() => done = Err(ImageError::Interrupted),
                            Err(_) => {}
                        }
                        self.changed.notify_all();
                        *result.lock().unwrap_or_else(PoisonError::into_inner) = Some(done);
                    }
                });
            }
        });
        let mut layers = Vec::with_capacity(inputs.len());
        let mut interrupted = false;
        // The error that ended the others comes before theirs.
        for result in results {
            match result.into_inner().unwrap_or_else(PoisonError::into_inner) {
                Some(Ok(done)) => layers.push(done),
                Some(Err(ImageError::Interrupted)) | None => interrupted = true,
                Some(Err(error)) => return Err(error),
            }
        }
        match interrupted {
            true => Err(ImageError::Interrupted),
            false => Ok(layers),
        }
    }

    fn layer(&self, at: usize, input: &Input) -> Result<Done, ImageError> {
        let total = match (&input.blob, &input.kind) {
            (Some((_, size)), _) => Some(*size),
            (None, Kind::Dir) => None,
            // What it is will be told where it is read.
            (None, _) => self.open(input).ok().map(|(_, size)| size),
        };
        self.progress.begin(at, &label(input), total);
        let done = match self.known_layer(at, input)? {
            Some(done) => done,
            None => self.make(at, input)?,
        };
        self.progress.end(at, done.reused);
        Ok(done)
    }

    /// A layer that was made of the same content before, on the same layers where it depends on them.
    fn known_layer(&self, at: usize, input: &Input) -> Result<Option<Done>, ImageError> {
        if matches!(input.kind, Kind::Dir | Kind::Zar) || self.known.made.is_empty() {
            return Ok(None);
        }
        // Not what a source says of a blob counts, but what it is; that it could be known is reason enough to
        // look.
        let (part, size) = self.open(input)?;
        let expected = match input.blob {
            Some((digest, _)) => Some(digest),
            None => input.diff_id,
        };
        let could_be = |digest: &str, origin: &Origin| {
            origin.size == size && expected.is_none_or(|expected| expected.to_string() == digest)
        };
        if !self
            .known
            .sources
            .iter()
            .any(|(digest, origin)| could_be(digest, origin))
        {
            return Ok(None);
        }
        let mut advance = |done| self.progress.advance(at, done);
        let read = HashReader::new(part, &self.stop, &mut advance).finish();
        let (digest, _) = read.map_err(|e| match self.stop.is_set() {
            true => ImageError::Interrupted,
            false => ImageError::io("read", &input.path, e),
        })?;
        if let Some((expected, _)) = input.blob {
            check_digest(&format!("layer {}", input.name), expected, digest)?;
        }
        let Some(origin) = self.known.sources.get(&digest.to_string()) else {
            return Ok(None);
        };
        let Ok(content) = origin.diff_id.parse::<Sha256Digest>() else {
            return Ok(None);
        };
        if let Some(expected) = input.diff_id {
            let what = format!("layer {} (uncompressed)", input.name);
            check_digest(&what, expected, content)?;
        }
        let kind = key_kind(input);
        let mut made = self.known.made.get(&layer_key(&kind, &content, None));
        if made.is_none() && self.known.has_dependent(&kind, &content) {
            let below = chain(&self.layers_below(at)?);
            made = self
                .known
                .made
                .get(&layer_key(&kind, &content, Some(&below)));
        }
        let Some((made, digest, verity)) =
            made.and_then(|made| Some((made, made.digest()?, made.verity()?)))
        else {
            return Ok(None);
        };
        let there = self.layout.open_blob(&digest);
        if !there.is_ok_and(|file| self.known.knows(&digest, &file)) {
            return Ok(None);
        }
        let mut report = BuildReport::default();
        if self.files.is_none() && matches!(input.kind, Kind::Tar) {
            // What was said when it was made is said again.
            let images = OpenImages(vec![self.block(&digest)?]);
            let names = root_names(&images);
            let names = names.iter().map(Vec::as_slice);
            report.notes.extend(images_hint(names, &input.name));
        }
        let descriptor = descriptor(input, &digest, made.size, &verity, content)?;
        Ok(Some(Done {
            descriptor,
            digest,
            reused: true,
            report,
        }))
    }

    fn make(&self, at: usize, input: &Input) -> Result<Done, ImageError> {
        let target = self.layout.output("layer")?;
        let options = &self.build;
        let mut inherited = false;
        let mut tree = None;
        let (report, output, read) = match input.kind {
            Kind::Dir => {
                let mut progress = Advance { work: self, at };
                let (report, output) = write_dir(&input.path, target, options, &mut progress)?;
                (report, output, None)
            }
            Kind::Zar => {
                let mut progress = Advance { work: self, at };
                let (report, output) = write_zar(&input.path, target, options, &mut progress)?;
                (report, output, None)
            }
            Kind::Tar => {
                let ((report, output), read) = self.stream(at, input, |reader, name| {
                    let finish = |tree: &mut Tree, data: &mut DataWriter<'_>| {
                        if self.files.is_none() {
                            hint_at_images(tree, &input.name, data);
                        }
                        inherited = self.inherit(at, name, tree, data)?;
                        Ok::<_, ImageError>(())
                    };
                    let below = match at {
                        0 => Below::Nothing,
                        _ => Below::Layers,
                    };
                    let archive = Archive {
                        source: reader,
                        name,
                        below,
                        growth: self.growth.clone(),
                    };
                    let mut progress = StopOnly(&self.stop);
                    write_tar(archive, target, options, finish, &mut progress)
                })?;
                (report, output, Some(read))
            }
            Kind::Erofs => {
                let (output, read) = self.stream(at, input, |reader, name| {
                    let limit = Limit::new(name, options.max_size, self.growth.clone());
                    copy(reader, name, target, limit)
                })?;
                check_image(output.file(), &input.name)?;
                tree = verity_of(Some(&input.annotations), VERITY_ROOT, VERITY_OFFSET);
                if let Some(tree) = &tree
                    && !verity::is_right(output.file(), tree, &|| self.stop.check())
                        .map_err(|e| ImageError::io("read", &input.path, e))?
                {
                    let what = format!("layer {}", input.name);
                    return Err(ImageError::bad(
                        what,
                        "its Merkle tree is not that of its data",
                    ));
                }
                (BuildReport::default(), output, Some(read))
            }
        };
        let (made, reused) = self.keep(output, tree)?;
        let content = read.as_ref().map_or(made.digest, |read| read.content);
        if let Some(read) = read {
            let below = match inherited {
                true => Some(chain(&self.layers_below(at)?)),
                false => None,
            };
            let key = layer_key(&key_kind(input), &content, below.as_deref());
            let mut found = self.found();
            found
                .made
                .insert(key, Made::new(made.digest, made.size, made.verity));
            let origin = Origin {
                size: read.size,
                diff_id: content.to_string(),
            };
            found.sources.insert(read.blob.to_string(), origin);
        }
        Ok(Done {
            descriptor: descriptor(input, &made.digest, made.size, &made.verity, content)?,
            digest: made.digest,
            reused,
            report,
        })
    }

    /// The blob of a layer and its size, which must be what its descriptor says.
    fn open(&self, input: &Input) -> Result<(FilePart, u64), ImageError> {
        let (part, size) = match self.files {
            Some(files) => files.open(&input.name)?,
            None => {
                let fail = |e| ImageError::io("open", &input.path, e);
                let file = open_file(rustix::fs::CWD, &input.path, true).map_err(fail)?;
                let len = file.metadata().map_err(fail)?.len();
                (FilePart::new(Arc::new(file), 0, len), len)
            }
        };
        if let Some((_, expected)) = input.blob {
            check_size(&format!("layer {}", input.name), expected, size)?;
        }
        Ok((part, size))
    }

    /// Reads a blob once: as it is and uncompressed, with both digests checked and given.
    fn stream<R>(
        &self,
        at: usize,
        input: &Input,
        make: impl FnOnce(&mut dyn Read, &str) -> Result<R, ImageError>,
    ) -> Result<(R, ReadBlob), ImageError> {
        let (part, size) = self.open(input)?;
        let what = format!("layer {}", input.name);
        let fail = |e| ImageError::io("read", &input.path, e);
        let mut before = 0;
        let mut advance = |done| {
            self.growth.read(done - before);
            before = done;
            self.progress.advance(at, done);
        };
        let mut ignore = |_| {};
        let mut raw = HashReader::new(part, &self.stop, &mut advance);
        let made: Result<_, ImageError> = (|| {
            let plain = decompress(&mut raw).map_err(fail)?;
            let mut plain = HashReader::new(plain, &self.stop, &mut ignore);
            let made = make(&mut plain, &what)?;
            Ok((made, plain.finish().map_err(fail)?.0))
        })();
        if self.stop.is_set() {
            return Err(ImageError::Interrupted);
        }
        let (blob, read) = raw.finish().map_err(fail)?;
        // A blob that is not what it should be explains whatever else went wrong.
        if let Some((expected, _)) = input.blob {
            check_digest(&what, expected, blob)?;
        }
        let (made, content) = made?;
        if let Some(expected) = input.diff_id {
            check_digest(&format!("{what} (uncompressed)"), expected, content)?;
        }
        if read != size {
            return Err(ImageError::bad(what, "changed while it was read"));
        }
        let read = ReadBlob {
            blob,
            size,
            content,
        };
        Ok((made, read))
    }

    pub(super) fn found(&self) -> MutexGuard<'_, Table> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what this conversion found out to the table of the layout.
    fn note(&self, table: &mut Table) {
        let mut found = std::mem::take(&mut *self.found());
        // Another conversion may have put an equal file in the place of one since.
        found.blobs.retain(|digest, identity| {
            let digest = digest.parse::<Sha256Digest>().ok();
            let file = digest.and_then(|digest| self.layout.open_blob(&digest).ok());
            file.is_some_and(|file| Identity::of(&file).is_ok_and(|now| now == *identity))
        });
        table.sources.extend(found.sources);
        table.made.extend(found.made);
        table.blobs.extend(found.blobs);
    }

    fn ready(&self) -> MutexGuard<'_, Vec<Option<Sha256Digest>>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what depends on the layers below, and waits for them; whether there was anything.
    fn inherit(
        &self,
        at: usize,
        name: &str,
        tree: &mut Tree,
        data: &mut DataWriter<'_>,
    ) -> Result<bool, ImageError> {
        if !lower::needs(tree) {
            return Ok(false);
        }
        let below = self.layers_below(at)?;
        if below.is_empty() {
            // It would be another one on top of layers.
            return Ok(true);
        }
        let mut images = OpenImages(Vec::with_capacity(below.len()));
        for digest in &below {
            images.0.push(self.block(digest)?);
        }
        Lower::open(&images)?.complete(name, tree, data)?;
        Ok(true)
    }

    /// Waits for the layers below one.
    fn layers_below(&self, at: usize) -> Result<Vec<Sha256Digest>, ImageError> {
        let mut ready = self.ready();
        loop {
            if self.stop.is_set() {
                return Err(ImageError::Interrupted);
            }
            let below: Option<Vec<_>> = ready[..at].iter().copied().collect();
            if let Some(below) = below {
                return Ok(below);
            }
            // Told to stop by a signal, nobody notifies.
            let waited = self.changed.wait_timeout(ready, Duration::from_millis(100));
            ready = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    pub(super) fn block(&self, digest: &Sha256Digest) -> Result<FileBlock, ImageError> {
        let path = self.layout.blob(digest);
        let file = self.layout.open_blob(digest);
        FileBlock::of(file.map_err(|e| ImageError::io("open", &path, e))?, &path)
    }
}

/// What a layer is called while it is converted: its DiffID or digest where the source tells, as the names of
/// its files mean nothing to people.
fn label(input: &Input) -> String {
    match (input.blob, input.diff_id) {
        (Some((digest, _)), _) => digest.hex(),
        (None, Some(diff_id)) => diff_id.hex(),
        (None, None) => input.name.clone(),
    }
}

/// A blob that was read.
struct ReadBlob {
    /// Digest and size as it lies in the source.
    blob: Sha256Digest,
    size: u64,
    /// Digest of what it unpacks to.
    content: Sha256Digest,
}

/// What the result depends on besides the content: how it is read and, of an image, the tree it is said to
/// have.
fn key_kind(input: &Input) -> String {
    let tree = verity_of(Some(&input.annotations), VERITY_ROOT, VERITY_OFFSET);
    match (&input.kind, tree) {
        (Kind::Erofs, Some(tree)) => {
            format!(
                "erofs+{}+{}",
                Sha256Digest(tree.root).hex(),
                tree.hash_offset
            )
        }
        (Kind::Erofs, None) => "erofs".into(),
        _ => "tar".into(),
    }
}

/// The descriptor of a layer; `content` is the digest of what it was made of.
fn descriptor(
    input: &Input,
    digest: &Sha256Digest,
    size: u64,
    verity: &Verity,
    content: Sha256Digest,
) -> Result<Descriptor, ImageError> {
    let mut annotations = verity_annotations(verity, VERITY_ROOT, VERITY_OFFSET);
    annotations.insert(VERITY_BLOCK_SIZE.to_owned(), VERITY_BLOCK.to_string());
    let diff_id = match input.kind {
        Kind::Tar => Some(content.to_string()),
        // Where an image is from is passed on as it says it; nothing relies on that.
        _ => input.annotations.get(DIFF_ID).cloned(),
    };
    annotations.extend(diff_id.map(|diff_id| (DIFF_ID.to_owned(), diff_id)));
    let kind = MediaType::Other(LAYER_TYPE.into());
    let mut descriptor = Descriptor::new(kind, size, oci_digest(digest)?);
    descriptor.set_annotations(Some(annotations));
    Ok(descriptor)
}

fn verity_annotations(verity: &Verity, root: &str, offset: &str) -> HashMap<String, String> {
    HashMap::from([
        (root.to_owned(), Sha256Digest(verity.root).to_string()),
        (offset.to_owned(), verity.hash_offset.to_string()),
    ])
}

/// The bytes of a manifest of a configuration and layers.
///
/// # Errors
/// The OCI specification does not allow it.
pub(super) fn manifest_of(
    config: &[u8],
    config_digest: &Sha256Digest,
    layers: Vec<Descriptor>,
    annotations: HashMap<String, String>,
) -> Result<Vec<u8>, ImageError> {
    let config = Descriptor::new(
        MediaType::ImageConfig,
        config.len() as u64,
        oci_digest(config_digest)?,
    );
    let manifest = ImageManifestBuilder::default()
        .schema_version(2_u32)
        .media_type(MediaType::ImageManifest)
        .config(config)
        .layers(layers)
        .annotations(annotations)
        .build()
        .map_err(|e| ImageError::bad("manifest", e.to_string()))?;
    Ok(canonical(&manifest))
}

pub(super) fn oci_digest(digest: &Sha256Digest) -> Result<Digest, ImageError> {
    digest
        .to_string()
        .parse()
        .map_err(|e| ImageError::bad(digest.to_string(), format!("{e}")))
}

/// Passes on how far a build is.
struct Advance<'a, 'b> {
    work: &'a Work<'b>,
    at: usize,
}

/// Hears nothing, but says when to end.
pub(super) struct StopOnly<'a, 'b>(pub(super) &'a Stop<'b>);

impl crate::Progress for StopOnly<'_, '_> {
    fn advance(&mut self, _: crate::Work, _: u64, _: Option<u64>) {}

    fn is_stopped(&self) -> bool {
        self.0.is_set()
    }
}

impl crate::Progress for Advance<'_, '_> {
    fn is_stopped(&self) -> bool {
        self.work.stop.is_set()
    }

    fn advance(&mut self, what: crate::Work, done: u64, _: Option<u64>) {
        if what == crate::Work::Data {
            self.work.progress.advance(self.at, done);
        }
    }
}
