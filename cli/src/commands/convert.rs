//! `varve convert`: images people have become images of varve.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use clap::ValueEnum;
use serde_json::json;
use varve_image::oci::{ConvertOptions, Converted, ImageError, Layout, Platform, Source, convert};

use super::export::{self, Packed};
use crate::mounts::parse_size;
use crate::output::{count, finish, sum};
use crate::progress::Bars;
use crate::stacks::StoreArguments;
use crate::text;

/// What is written.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// A directory in OCI image-layout form.
    Oci,
    /// An archive for `docker load`: an image FROM scratch, each layer of which holds one layer file (0.img,
    /// 1.img, ...).
    DockerLayers,
}

/// What layers are.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Layers {
    /// Images that varve runs.
    Erofs,
    /// Tar archives that every other tool takes.
    Tar,
}

#[derive(clap::Args)]
#[command(
    override_usage = "varve convert [OPTIONS] <SRC>... <DST>",
    after_help = "SRC is one of:
  oci:DIR[:REF]              an OCI image layout
  oci-archive:FILE[:REF]     the same in a tar archive
  docker-archive:FILE[:REF]  what `docker save` writes
  docker-daemon:NAME[:TAG]   an image of the local Docker daemon
  dir:DIR or a directory     one layer
  tar:FILE or a file         one layer, plain, gzip or zstd
  zar:FILE...                images of the zar tool, lowest first
  erofs:FILE...              EROFS images, lowest first
  NAME, store:NAME           an image of the store

DST is a name in the image store (debian, debian:12, store:team/debian), or a directory: a path with a `/` in it, or oci:DIR[:REF].
For other tools, DST is oci:DIR[:REF] with --layers tar, oci-archive:FILE[:REF], or docker-archive:FILE[:TAG]; FILE may be `-`, standard output. \
oci-archive:FILE with --layers erofs takes an image of varve to another machine. An image is on the disk when convert ends."
)]
pub(crate) struct Arguments {
    /// What to convert, and last where to put it: a name in the store, or a directory; see below.
    // One argument, so that options may stand between.
    #[arg(required = true, value_name = "SRC... DST", num_args = 1..)]
    operands: Vec<OsString>,
    /// Form of what is written.
    #[arg(long, value_enum, default_value = "oci")]
    pub(super) format: Format,
    /// What the layers are: by default what varve runs, in an archive what other tools run.
    #[arg(long, value_enum)]
    pub(super) layers: Option<Layers>,
    /// How tar layers are packed in an OCI layout or archive.
    #[arg(long, value_enum, default_value = "gzip")]
    pub(super) compress: Packed,
    /// Which image of several: OS/ARCH[/VARIANT].
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    /// Layers converted at the same time; by default as many as there are processors.
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Make everything again and look at the bytes of what is there: `check` tells when a blob rotted on the
    /// disk.
    #[arg(long)]
    again: bool,
    /// Most bytes of data of a layer (8g), holes not counted. By default all layers together become at most
    /// 256 times what the source takes, but 256 MiB in any case.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_size: Option<u64>,
    /// Go on past files and directories that cannot be read, and list them.
    #[arg(long)]
    skip_unreadable: bool,
    /// Print what was made as JSON.
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) store: StoreArguments,
}

impl Arguments {
    pub(super) fn source(&self) -> &[OsString] {
        self.operands.split_last().map_or(&[], |(_, source)| source)
    }

    pub(super) fn target(&self) -> &OsStr {
        self.operands.last().map_or(OsStr::new(""), |last| last)
    }
}

/// A size of the command line.
pub(super) fn size(text: &str) -> Result<u64, String> {
    parse_size(text).map_err(|error| error.to_string())
}

/// What is to be converted; an image of the store by its name, too. What goes out to other tools is an image:
/// its name is the store's, whatever lies in the working directory.
fn source(arguments: &Arguments, goes_out: bool) -> Result<Source> {
    let Some((first, rest)) = arguments.source().split_first() else {
        bail!("SRC is missing");
    };
    let bytes = first.as_bytes();
    let named = match bytes.starts_with(b"store:") {
        true => rest.is_empty(),
        false if bytes.contains(&b'/') || !rest.is_empty() => false,
        false => {
            let is_there = std::fs::symlink_metadata(first).is_ok();
            let unknown = Source::parse(first, rest).is_err();
            (unknown || goes_out && is_there) && has_image(arguments, first)
        }
    };
    if !named {
        return Source::parse(first, rest).map_err(|error| match error {
            ImageError::Io { error, .. }
                if error.kind() == io::ErrorKind::NotFound && !bytes.contains(&b'/') =>
            {
                let shown = text::os(first);
                anyhow!("{shown}: there is no such file or directory here, and no such image in the store")
            }
            error => error.into(),
        });
    }
    let image = arguments.store.image(first)?;
    let name = image.name.unwrap_or_else(|| image.digest.to_string());
    Ok(Source::OciDir(arguments.store.dir()?, Some(name)))
}

fn has_image(arguments: &Arguments, name: &OsStr) -> bool {
    let store = arguments.store.open().ok().flatten();
    let found = store
        .zip(name.to_str())
        .map(|(store, name)| store.image(Some(name)));
    found.is_some_and(|found| found.is_ok())
}

/// A directory and the name of the image in it.
pub(super) fn target(text: &OsStr, store: &StoreArguments) -> Result<(PathBuf, String)> {
    let bytes = text.as_bytes();
    if bytes.is_empty() {
        bail!("DST is empty: name an image of the store or a directory");
    }
    if let Some(rest) = bytes.strip_prefix(b"oci:") {
        let (dir, name) = match rest.iter().rposition(|&byte| byte == b':') {
            Some(at) if !rest[at..].contains(&b'/') => (&rest[..at], Some(&rest[at + 1..])),
            _ => (rest, None),
        };
        let name = match name {
            Some(name) => checked_name(OsStr::from_bytes(name))?,
            None => "latest".into(),
        };
        if dir.is_empty() {
            bail!("oci: names no directory: oci:DIR[:REF]");
        }
        return Ok((OsStr::from_bytes(dir).into(), name));
    }
    let in_store = bytes.strip_prefix(b"store:");
    if in_store.is_none() && (bytes.contains(&b'/') || matches!(bytes, b"." | b"..")) {
        return Ok((text.into(), "latest".into()));
    }
    let mut name = checked_name(OsStr::from_bytes(in_store.unwrap_or(bytes)))?;
    let last = name.rsplit('/').next().unwrap_or_default();
    if !last.contains(':') {
        name.push_str(":latest");
    }
    Ok((store.dir()?, name))
}

/// The characters that names of images have.
pub(super) fn checked_name(name: &OsStr) -> Result<String> {
    let text = name.to_string_lossy();
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:@+".contains(&byte);
    let starts = text
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphanumeric());
    if !starts || !text.bytes().all(good) {
        bail!("{text:?} is no name for an image: letters, digits and ._-/:@+ can be used");
    }
    Ok(text.into_owned())
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8> {
    let (stop, signal) = stop_on_signals()?;
    match (run_until(arguments, &stop), signal.load(Ordering::Relaxed)) {
        // Ended by a signal: as a shell tells it.
        (Err(error), signal @ 1..) => {
            text::say(crate::message(&error));
            Ok(128 + signal)
        }
        (done, _) => done,
    }
}

fn run_until(arguments: &Arguments, stop: &AtomicBool) -> Result<u8> {
    if arguments.source().is_empty() {
        bail!("SRC and DST are needed: `varve convert [OPTIONS] SRC... DST`");
    }
    let form = export::form(arguments)?;
    let source = source(arguments, form.is_some())?;
    let started = Instant::now();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let mut options = ConvertOptions {
        platform: arguments.platform.clone().unwrap_or_default(),
        threads: arguments.jobs.unwrap_or(processors).max(1),
        again: arguments.again,
        max_size: arguments.max_size,
        skip_unreadable: arguments.skip_unreadable,
        ..ConvertOptions::new("", stop)
    };
    if let Some(form) = &form {
        return export::run(arguments, &source, form, options);
    }
    let (dir, name) = target(arguments.target(), &arguments.store)?;
    options.name = name;
    let fresh = !dir.exists();
    let layout = Layout::create(&dir)?;
    let converted = run_convert(&source, &layout, &options);
    if converted.is_err() && fresh {
        // Nothing is left of a directory that was made for this.
        layout.remove_if_empty();
    }
    let converted = converted?;
    print_notes(&converted);
    let size = sum(converted.image.layers.iter().map(|layer| layer.size));
    let mut out = io::stdout();
    let written = if arguments.json {
        let layers = converted.image.layers.iter();
        let value = json!({
            "directory": dir.display().to_string(),
            "name": options.name,
            "digest": converted.image.digest.to_string(),
            "made": converted.made,
            "reused": converted.reused,
            "layers": layers.map(|layer| json!({
                "digest": layer.digest.to_string(),
                "size": layer.size,
                "diff_id": layer.diff_id,
            })).collect::<Vec<_>>(),
            "index": converted.image.index.as_ref().map(|index| json!({
                "digest": index.digest.to_string(),
                "size": index.size,
            })),
            "notes": converted.notes,
            "skipped": skipped_json(&converted.skipped),
            "skipped_count": converted.skipped_count,
        });
        writeln!(out, "{}", text::json_pretty(&value))
    } else {
        writeln!(
            out,
            "{} in {}: {}, {} made, {} there before, {} in {:.2} s",
            options.name,
            text::path(&dir),
            converted.image.digest,
            count(converted.made as u64, "layer"),
            converted.reused,
            count(size, "byte"),
            started.elapsed().as_secs_f64()
        )
    };
    finish(written)?;
    Ok(0)
}

pub(super) fn print_notes(converted: &Converted) {
    for note in &converted.notes {
        text::say(format_args!("note: {note}"));
    }
    print_skipped(&converted.skipped, converted.skipped_count);
}

/// Most unreadable files that are told one by one.
const SKIPPED: usize = 100;

/// Tells what could not be read and was passed over, because that was wanted.
pub(super) fn print_skipped(skipped: &[(Vec<u8>, String)], count: u64) {
    for (path, reason) in skipped.iter().take(SKIPPED) {
        text::say(format_args!("left out: {}: {reason}", text::shown(path)));
    }
    if count > 0 {
        let more = count.saturating_sub(SKIPPED as u64);
        let more = match more {
            0 => String::new(),
            more => format!(", {more} of them not listed here"),
        };
        let files = match count {
            1 => "1 file or directory could not be read and is".to_owned(),
            count => format!("{count} files or directories could not be read and are"),
        };
        text::say(format_args!("warning: {files} not in the image{more}"));
    }
}

pub(super) fn skipped_json(skipped: &[(Vec<u8>, String)]) -> serde_json::Value {
    let list = skipped.iter().map(|(path, reason)| {
        let mut value = json!({ "reason": reason });
        text::put(&mut value, "path", path);
        value
    });
    list.collect()
}

pub(super) fn run_convert(
    source: &Source,
    layout: &Layout,
    options: &ConvertOptions<'_>,
) -> Result<Converted, ImageError> {
    let bars = Bars::new("converted");
    let converted = convert(source, layout, options, &bars);
    bars.clear();
    converted
}

/// So long the work may take to end in order.
const GRACE: Duration = Duration::from_secs(2);

/// The temporary directory, which goes when the work is not ended in order.
pub(super) fn under_work() -> std::sync::MutexGuard<'static, Option<PathBuf>> {
    static UNDER_WORK: Mutex<Option<PathBuf>> = Mutex::new(None);
    UNDER_WORK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Told to stop, varve ends the work in order; told again, or if that takes long, at once.
fn stop_on_signals() -> Result<(Arc<AtomicBool>, Arc<AtomicU8>)> {
    use signal_hook::consts::signal::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
    signal_hook::flag::register(SIGXFSZ, Arc::default())?;
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::new(AtomicU8::new(0));
    let (wanted, number) = (stop.clone(), told.clone());
    let mut signals = signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    std::thread::spawn(move || {
        let end = |signal: i32| {
            varve_image::discard_unfinished();
            if let Some(dir) = under_work().take() {
                let _ = std::fs::remove_dir_all(dir);
            }
            std::process::exit(128 + signal);
        };
        for signal in signals.forever() {
            if wanted.load(Ordering::Relaxed) {
                end(signal);
            }
            number.store(signal as u8, Ordering::Relaxed);
            wanted.store(true, Ordering::Relaxed);
            std::thread::spawn(move || {
                std::thread::sleep(GRACE);
                end(signal);
            });
        }
    });
    Ok((stop, told))
}
