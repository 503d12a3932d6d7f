//! Conversion: every layer of a source becomes an imgfs layer of a layout, then all of them get a merged index.
//!
//! Layers are converted side by side, each read once, front to back, with a bounded buffer. Digests of what is read are checked at its end,
//! and nothing gets a name before. A layer that the layout has already is not made again.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use oci_spec::image::{Descriptor, Digest, ImageManifestBuilder, MediaType};
use serde_json::{Value, json};
use varve_core::imgfs::ImgFs;
use varve_core::machine::ImageId;

use super::archive::FilePart;
use super::blobs::{Files, check_digest, check_size};
use super::container::verity_of;
use super::digest::{HashReader, Stop};
use super::layout::{canonical, has as has_blob};
use super::lower::{self, FileBlock, Lower, OpenImages};
use super::source::{self, Input, Kind};
use super::{
    CONVERSION, ContainerImage, DIFF_ID, INDEX_DIGEST, INDEX_VERITY_OFFSET, INDEX_VERITY_ROOT,
    ImageError, LAYER_TYPE, Layout, Platform, Sha256Digest, Source, VERITY_BLOCK_SIZE,
    VERITY_OFFSET, VERITY_ROOT,
};
use crate::merge::{self, MergeLayer};
use crate::output::Output;
use crate::source::{Below, decompress, write_dir, write_tar, write_zar};
use crate::tree::Tree;
use crate::verity::{self, VERITY_BLOCK, Verity};
use crate::writer::DataWriter;
use crate::{BuildOptions, BuildReport};

/// Version of the conversion: raised when the same layer gives other bytes than before.
const VERSION: &str = "1";
/// Unit in which holes of a copied image are looked for, and its buffer.
const COPY: usize = 1 << 20;
const GRANULE: usize = 64 << 10;

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
}

/// A layer that is there.
struct Done {
    descriptor: Descriptor,
    digest: Sha256Digest,
    reused: bool,
    notes: Vec<String>,
}

/// What all threads share.
struct Work<'a> {
    layout: &'a Layout,
    files: Option<&'a Files>,
    known: HashMap<String, Descriptor>,
    stop: Stop<'a>,
    progress: &'a dyn ConvertProgress,
    /// Blobs that this conversion gave a name.
    created: Mutex<Vec<PathBuf>>,
    /// The layers that are there by now, by position.
    ready: Mutex<Vec<Option<Sha256Digest>>>,
    /// Signalled when a layer is there or will not be.
    changed: Condvar,
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
    let lock = layout.lock_shared()?;
    let stop = Stop::new(options.stop);
    let opened =
        source::open(source, &options.platform, &stop).map_err(|error| match stop.is_wanted() {
            true => ImageError::Interrupted,
            false => error,
        })?;
    let work = Work {
        layout,
        files: opened.files.as_ref(),
        known: layout.made_layers(&key_of).into_iter().collect(),
        stop,
        progress,
        created: Mutex::new(Vec::new()),
        ready: Mutex::new(vec![None; opened.layers.len()]),
        changed: Condvar::new(),
    };
    let result = work.run(opened.layers, opened.config, opened.annotations, options);
    drop(lock);
    match result {
        Ok(converted) => Ok(converted),
        Err(error) => {
            work.take_back();
            Err(match work.stop.is_wanted() {
                true => ImageError::Interrupted,
                false => error,
            })
        }
    }
}

/// By what a made layer is found again.
fn key_of(descriptor: &Descriptor) -> Option<String> {
    let annotations = descriptor.annotations().as_ref()?;
    let version = annotations.get(CONVERSION)?;
    (version == VERSION).then(|| annotations.get(DIFF_ID).cloned())?
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
        let manifest = ImageManifestBuilder::default()
            .schema_version(2_u32)
            .media_type(MediaType::ImageManifest)
            .config(Descriptor::new(
                MediaType::ImageConfig,
                config.len() as u64,
                oci_digest(&config_digest)?,
            ))
            .layers(layer_list)
            .annotations(annotations)
            .build()
            .map_err(|e| ImageError::bad("manifest", e.to_string()))?;
        let manifest = canonical(&manifest);
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
        )?;
        let reused = layers.iter().filter(|layer| layer.reused).count();
        Ok(Converted {
            image: self.layout.image(Some(&options.name))?,
            made: layers.len() - reused,
            reused,
            notes: layers.into_iter().flat_map(|layer| layer.notes).collect(),
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
        let total = match &input.blob {
            Some((_, size)) => Some(*size),
            None => std::fs::metadata(&input.path)
                .ok()
                .filter(|meta| meta.is_file())
                .map(|meta| meta.len()),
        };
        self.progress.begin(at, &input.name, total);
        let done = match self.known_layer(input) {
            Some(done) => done,
            None => self.make(at, input)?,
        };
        self.progress.end(at, done.reused);
        Ok(done)
    }

    /// A layer that was made of the same one before.
    fn known_layer(&self, input: &Input) -> Option<Done> {
        let diff_id = input.diff_id?;
        let descriptor = match input.kind {
            Kind::Tar => self.known.get(&diff_id.to_string())?.clone(),
            _ => return None,
        };
        let digest = descriptor.digest().to_string().parse().ok()?;
        Some(Done {
            descriptor,
            digest,
            reused: true,
            notes: Vec::new(),
        })
    }

    fn make(&self, at: usize, input: &Input) -> Result<Done, ImageError> {
        let target = self.layout.dir().join("blobs/sha256/new-layer");
        let options = BuildOptions::default();
        let mut inherited = false;
        let mut tree = None;
        let (report, output, diff_id) = match input.kind {
            Kind::Dir => {
                let mut progress = Advance { work: self, at };
                let (report, output) = write_dir(&input.path, &target, &options, &mut progress)?;
                (report, output, None)
            }
            Kind::Zar => {
                let mut progress = Advance { work: self, at };
                let (report, output) = write_zar(&input.path, &target, &options, &mut progress)?;
                (report, output, None)
            }
            Kind::Tar => {
                let (made, diff_id) = self.stream(at, input, |reader, name| {
                    let finish = |tree: &mut Tree, data: &mut DataWriter<'_>| {
                        inherited = self.inherit(at, name, tree, data)?;
                        Ok::<_, ImageError>(())
                    };
                    let below = match at {
                        0 => Below::Nothing,
                        _ => Below::Layers,
                    };
                    write_tar(reader, name, &target, &options, below, finish, &mut ())
                })?;
                (made.0, made.1, Some(diff_id))
            }
            Kind::Erofs => {
                let (output, _) =
                    self.stream(at, input, |reader, name| copy(reader, name, &target))?;
                check_image(output.file(), &input.name)?;
                tree = verity_of(Some(&input.annotations), VERITY_ROOT, VERITY_OFFSET);
                if let Some(tree) = &tree
                    && !verity::is_right(output.file(), tree)
                        .map_err(|e| ImageError::io("read", &input.path, e))?
                {
                    let what = format!("layer {}", input.name);
                    return Err(ImageError::bad(
                        what,
                        "its Merkle tree is not that of its data",
                    ));
                }
                (BuildReport::default(), output, None)
            }
        };
        let (digest, size, verity) = self.keep(output, tree)?;
        let mut annotations = verity_annotations(&verity, VERITY_ROOT, VERITY_OFFSET);
        annotations.insert(VERITY_BLOCK_SIZE.to_owned(), VERITY_BLOCK.to_string());
        if let Some(diff_id) = diff_id {
            annotations.insert(DIFF_ID.to_owned(), diff_id.to_string());
            // One that depends on the layers below is not the same for every image.
            if !inherited {
                annotations.insert(CONVERSION.to_owned(), VERSION.to_owned());
            }
        }
        for key in [DIFF_ID, CONVERSION] {
            if let Some(value) = input.annotations.get(key) {
                annotations.insert(key.to_owned(), value.clone());
            }
        }
        let mut descriptor = Descriptor::new(
            MediaType::Other(LAYER_TYPE.into()),
            size,
            oci_digest(&digest)?,
        );
        descriptor.set_annotations(Some(annotations));
        Ok(Done {
            descriptor,
            digest,
            reused: false,
            notes: report.notes,
        })
    }

    /// Reads a blob once: as it is and uncompressed, with both digests checked; gives the second one.
    fn stream<R>(
        &self,
        at: usize,
        input: &Input,
        make: impl FnOnce(&mut dyn Read, &str) -> Result<R, ImageError>,
    ) -> Result<(R, Sha256Digest), ImageError> {
        let (part, size) = match self.files {
            Some(files) => files.open(&input.name)?,
            None => {
                let fail = |e| ImageError::io("open", &input.path, e);
                let file = File::open(&input.path).map_err(fail)?;
                let len = file.metadata().map_err(fail)?.len();
                (FilePart::new(Arc::new(file), 0, len), len)
            }
        };
        let what = format!("layer {}", input.name);
        if let Some((_, expected)) = input.blob {
            check_size(&what, expected, size)?;
        }
        let fail = |e| ImageError::io("read", &input.path, e);
        let mut advance = |done| self.progress.advance(at, done);
        let mut ignore = |_| {};
        let mut raw = match input.blob {
            Some(_) => HashReader::new(part, &self.stop, &mut advance),
            None => HashReader::counting(part, &self.stop, &mut advance),
        };
        let made: Result<_, ImageError> = (|| {
            let plain = decompress(&mut raw).map_err(fail)?;
            let mut plain = HashReader::new(plain, &self.stop, &mut ignore);
            let made = make(&mut plain, &what)?;
            Ok((made, plain.finish().map_err(fail)?.0))
        })();
        if self.stop.is_set() {
            return Err(ImageError::Interrupted);
        }
        // A blob that is not what it should be explains whatever else went wrong.
        if let Some((expected, _)) = input.blob {
            let (actual, _) = raw.finish().map_err(fail)?;
            check_digest(&what, expected, actual)?;
        }
        let (made, diff_id) = made?;
        if let Some(expected) = input.diff_id {
            check_digest(&format!("{what} (uncompressed)"), expected, diff_id)?;
        }
        Ok((made, diff_id))
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
        if at == 0 || !lower::needs(tree) {
            return Ok(false);
        }
        let below = {
            let mut ready = self.ready();
            loop {
                if self.stop.is_set() {
                    return Err(ImageError::Interrupted);
                }
                let below: Option<Vec<_>> = ready[..at].iter().copied().collect();
                if let Some(below) = below {
                    break below;
                }
                // Told to stop by a signal, nobody notifies.
                let waited = self.changed.wait_timeout(ready, Duration::from_millis(100));
                ready = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        };
        let mut images = OpenImages(Vec::with_capacity(below.len()));
        for digest in &below {
            images.0.push(FileBlock::open(&self.layout.blob(digest))?);
        }
        Lower::open(&images)?.complete(name, tree, data)?;
        Ok(true)
    }

    /// Gives a finished file its place among the blobs, with a Merkle tree behind its data unless it has one.
    fn keep(
        &self,
        output: Output,
        has: Option<Verity>,
    ) -> Result<(Sha256Digest, u64, Verity), ImageError> {
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
        let path = self.layout.blob(&digest);
        if !has_blob(&path, size) {
            output.commit_as(&path)?;
            self.created(path);
        }
        Ok((digest, size, verity))
    }

    fn put(&self, bytes: &[u8]) -> Result<Sha256Digest, ImageError> {
        let path = self.layout.blob(&Sha256Digest::of(bytes));
        let fresh = !has_blob(&path, bytes.len() as u64);
        let digest = self.layout.put(bytes)?;
        if fresh {
            self.created(path);
        }
        Ok(digest)
    }

    fn created(&self, path: PathBuf) {
        let mut created = self.created.lock().unwrap_or_else(PoisonError::into_inner);
        created.push(path);
    }

    /// Takes away what a failed conversion made, unless another image needs it by now.
    fn take_back(&self) {
        let created =
            std::mem::take(&mut *self.created.lock().unwrap_or_else(PoisonError::into_inner));
        if !created.is_empty() {
            // What cannot be taken away now is there for the next one to find.
            let _ = self.layout.prune_now();
        }
    }

    /// Makes the merged index.
    fn merged(&self, layers: &[Done]) -> Result<(Sha256Digest, Verity), ImageError> {
        let mut images = OpenImages(Vec::with_capacity(layers.len()));
        let mut inputs = Vec::with_capacity(layers.len());
        for (at, layer) in layers.iter().enumerate() {
            images
                .0
                .push(FileBlock::open(&self.layout.blob(&layer.digest))?);
            inputs.push(MergeLayer {
                image: ImageId(at as u32), // a stack has at most 500
                digest: layer.digest.0,
            });
        }
        let target = self.layout.dir().join("blobs/sha256/new-index");
        let (_, output) = merge::write(&images, &inputs, &target, &mut ())?;
        let (digest, _, verity) = self.keep(output, None)?;
        Ok((digest, verity))
    }
}

fn verity_annotations(verity: &Verity, root: &str, offset: &str) -> HashMap<String, String> {
    HashMap::from([
        (root.to_owned(), Sha256Digest(verity.root).to_string()),
        (offset.to_owned(), verity.hash_offset.to_string()),
    ])
}

/// Copies an image, long runs of zeros as holes.
fn copy(reader: &mut dyn Read, name: &str, target: &Path) -> Result<Output, ImageError> {
    let output = Output::create(target)?;
    let mut buf = vec![0; COPY];
    let mut at = 0;
    loop {
        let mut have = 0;
        while have < buf.len() {
            match reader.read(&mut buf[have..]) {
                Ok(0) => break,
                Ok(len) => have += len,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(ImageError::io("read", name, e)),
            }
        }
        for (index, part) in buf[..have].chunks(GRANULE).enumerate() {
            if part.iter().any(|&byte| byte != 0) {
                output.write_at(at + (index * GRANULE) as u64, part)?;
            }
        }
        at += have as u64;
        if have < buf.len() {
            output.set_len(at)?;
            return Ok(output);
        }
    }
}

/// A layer that was not made here must be one.
fn check_image(file: &File, name: &str) -> Result<(), ImageError> {
    let fail = |e| ImageError::io("read", name, e);
    let images = OpenImages(vec![FileBlock {
        len: file.metadata().map_err(fail)?.len(),
        file: file.try_clone().map_err(fail)?,
    }]);
    ImgFs::open(&images, ImageId(0), &[])
        .map(|_| ())
        .map_err(|e| ImageError::bad(format!("layer {name}"), e.to_string()))
}

fn oci_digest(digest: &Sha256Digest) -> Result<Digest, ImageError> {
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

impl crate::Progress for Advance<'_, '_> {
    fn advance(&mut self, what: crate::Work, done: u64, _: Option<u64>) {
        if what == crate::Work::Data {
            self.work.progress.advance(self.at, done);
        }
    }
}
