//! `varve convert`: images people have become images of varve.

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use varve_image::oci::{
    ConvertOptions, ConvertProgress, Converted, ImageError, Layout, Platform, Source, convert,
    export_docker_layers,
};

use crate::stacks::StoreArguments;

/// What is written.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A directory in OCI image-layout form.
    Oci,
    /// An archive for `docker load`: an image FROM scratch that holds the layers as files 0.img, 1.img, ...
    DockerLayers,
}

#[derive(clap::Args)]
#[command(after_help = "SRC is one of:
  oci:DIR[:REF]              an OCI image layout
  oci-archive:FILE[:REF]     the same in a tar archive
  docker-archive:FILE[:REF]  what `docker save` writes
  docker-daemon:NAME[:TAG]   an image of the local Docker daemon
  dir:DIR or a directory     one layer
  tar:FILE or a file         one layer, plain, gzip or zstd
  zar:FILE...                images of the zar tool, lowest first
  erofs:FILE...              EROFS images, lowest first

DST is a name in the image store (debian, debian:12, store:team/debian), or a directory: a path with a `/` in it, or oci:DIR[:REF].")]
pub(crate) struct Arguments {
    /// What to convert, see below.
    #[arg(required = true, value_name = "SRC", num_args = 1..)]
    source: Vec<OsString>,
    /// Where to put it: a name in the store, or a directory.
    #[arg(required = true, value_name = "DST")]
    target: OsString,
    /// Form of what is written.
    #[arg(long, value_enum, default_value = "oci")]
    format: Format,
    /// Which image of several: OS/ARCH[/VARIANT].
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    /// Layers converted at the same time; by default as many as there are processors.
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Print what was made as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    store: StoreArguments,
}

/// A directory and the name of the image in it.
fn target(text: &OsStr, store: &StoreArguments) -> Result<(PathBuf, String)> {
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
fn checked_name(name: &OsStr) -> Result<String> {
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
    let stop = stop_on_signals()?;
    let Some((first, rest)) = arguments.source.split_first() else {
        bail!("SRC is missing");
    };
    let source = Source::parse(first, rest)?;
    let started = Instant::now();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let mut options = ConvertOptions {
        name: String::new(),
        platform: arguments.platform.clone().unwrap_or_default(),
        threads: arguments.jobs.unwrap_or(processors).max(1),
        stop: &stop,
    };
    if arguments.format == Format::DockerLayers {
        return docker_layers(arguments, &source, options);
    }
    let (dir, name) = target(&arguments.target, &arguments.store)?;
    options.name = name;
    let fresh = !dir.exists();
    let layout = Layout::create(&dir)?;
    let converted = run_convert(&source, &layout, &options);
    if converted.is_err() && fresh {
        // Nothing is left of a directory that was made for this.
        layout.remove_if_empty();
    }
    let converted = converted?;
    print_notes(&converted.notes);
    let size: u64 = converted.image.layers.iter().map(|layer| layer.size).sum();
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
        });
        writeln!(out, "{}", serde_json::to_string_pretty(&value)?)
    } else {
        writeln!(
            out,
            "{} in {}: {}, {} layers made, {} there before, {size} bytes in {:.2} s",
            options.name,
            dir.display(),
            converted.image.digest,
            converted.made,
            converted.reused,
            started.elapsed().as_secs_f64()
        )
    };
    written.context("standard output")?;
    Ok(0)
}

fn print_notes(notes: &[String]) {
    for note in notes {
        let _ = writeln!(io::stderr(), "varve: note: {note}");
    }
}

fn run_convert(
    source: &Source,
    layout: &Layout,
    options: &ConvertOptions<'_>,
) -> Result<Converted, ImageError> {
    let bars = Bars::new();
    let converted = convert(source, layout, options, &bars);
    bars.clear();
    converted
}

/// The layers are made in a directory that goes away, and end up in one archive.
fn docker_layers(
    arguments: &Arguments,
    source: &Source,
    mut options: ConvertOptions<'_>,
) -> Result<u8> {
    let target = Path::new(&arguments.target);
    let near = match target.parent() {
        Some(dir) if arguments.target != "-" && dir != Path::new("") => dir.to_owned(),
        _ if arguments.target == "-" => std::env::temp_dir(),
        _ => ".".into(),
    };
    let work = tempfile::Builder::new()
        .prefix(".varve-")
        .tempdir_in(&near)
        .with_context(|| near.display().to_string())?;
    let layout = Layout::create(&work.path().join("image"))?;
    options.name = "latest".into();
    let converted = run_convert(source, &layout, &options)?;
    print_notes(&converted.notes);
    let tag = source.name().filter(|name| name.contains(':'));
    if arguments.target == "-" {
        export_docker_layers(&converted.image, tag, &mut io::stdout().lock())?;
        return Ok(0);
    }
    let mut file = tempfile::NamedTempFile::new_in(&near).context("a temporary file")?;
    export_docker_layers(&converted.image, tag, &mut file)?;
    if options.stop.load(Ordering::Relaxed) {
        return Err(ImageError::Interrupted.into());
    }
    file.persist(target)
        .map_err(|e| e.error)
        .with_context(|| target.display().to_string())?;
    let layers = converted.image.layers.len();
    writeln!(
        io::stdout(),
        "{}: {layers} layers for `docker load`",
        target.display()
    )
    .context("standard output")?;
    Ok(0)
}

/// Told to stop, varve ends the work in order; told again, at once.
pub(crate) fn stop_on_signals() -> Result<Arc<AtomicBool>> {
    use signal_hook::consts::signal::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
    signal_hook::flag::register(SIGXFSZ, Arc::default())?;
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    let mut signals = signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    std::thread::spawn(move || {
        for signal in signals.forever() {
            if flag.swap(true, Ordering::Relaxed) {
                varve_image::discard_unfinished();
                std::process::exit(128 + signal);
            }
        }
    });
    Ok(stop)
}

/// A bar for each layer that is being converted and one for all on a terminal, lines elsewhere.
struct Bars {
    multi: Option<MultiProgress>,
    layers: Mutex<Layers>,
}

#[derive(Default)]
struct Layers {
    bars: Vec<Option<ProgressBar>>,
    names: Vec<String>,
    total: Option<ProgressBar>,
}

impl Bars {
    fn new() -> Bars {
        let multi = io::stderr()
            .is_terminal()
            .then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10)));
        Bars {
            multi,
            layers: Mutex::new(Layers::default()),
        }
    }

    fn layers(&self) -> std::sync::MutexGuard<'_, Layers> {
        self.layers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn clear(&self) {
        if let Some(multi) = &self.multi {
            let _ = multi.clear();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

impl ConvertProgress for Bars {
    fn begin(&self, layer: usize, name: &str, total: Option<u64>) {
        let name = name.rsplit('/').next().unwrap_or(name);
        let short: String = name.chars().take(16).collect();
        let mut layers = self.layers();
        if layers.bars.len() <= layer {
            layers.bars.resize(layer + 1, None);
            layers.names.resize(layer + 1, String::new());
        }
        layers.names[layer] = name.into();
        let Some(multi) = &self.multi else { return };
        if layers.total.is_none() {
            let bar = multi.add(ProgressBar::new(0));
            bar.set_style(style(
                "all layers       {bar:40} {bytes}/{total_bytes} {bytes_per_sec}",
            ));
            layers.total = Some(bar);
        }
        let bar = multi.insert(0, ProgressBar::new(total.unwrap_or_default()));
        bar.set_style(style("{msg:16} {bar:40} {bytes}/{total_bytes}"));
        bar.set_message(short);
        if let (Some(all), Some(total)) = (&layers.total, total) {
            all.inc_length(total);
        }
        layers.bars[layer] = Some(bar);
    }

    fn advance(&self, layer: usize, done: u64) {
        if self.multi.is_none() {
            return;
        }
        let layers = self.layers();
        if let Some(Some(bar)) = layers.bars.get(layer) {
            let before = bar.position();
            bar.set_position(done);
            if let Some(all) = &layers.total {
                all.inc(done.saturating_sub(before));
            }
        }
    }

    fn end(&self, layer: usize, reused: bool) {
        let mut layers = self.layers();
        match layers.bars.get_mut(layer).and_then(Option::take) {
            Some(bar) => {
                if let (Some(all), Some(len)) = (&layers.total, bar.length()) {
                    all.inc(len.saturating_sub(bar.position()));
                }
                bar.finish_and_clear();
            }
            None => {
                let how = if reused { "there before" } else { "converted" };
                let name = layers.names.get(layer).map_or("", String::as_str);
                let _ = writeln!(io::stderr(), "varve: layer {}: {name}: {how}", layer + 1);
            }
        }
    }
}
