//! `varve demo`: three layers out of this machine's own files, and a shell pipeline over them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, bail};
use sha2::{Digest, Sha256};
use varve_core::boot::{BootConfig, Strace, Tree};
use varve_image::{BuildOptions, build_tar};
use varve_imgfs::{ImageId, ImgFs, MemBlock, MemImages};
use varve_sandbox::{SinkLine, Stdio, program};

use super::run::{Sources, start};
use crate::output::{Colour, Colours, count, human};
use crate::platform::PlatformName;
use crate::programs;
use crate::stop::Stop;
use crate::text;
use crate::whole::Whole;

/// The programs of the lowest layer.
const PROGRAMS: &[&str] = &["sh", "ls", "cat", "grep", "sort"];

/// Prints a line.
macro_rules! tell {
    ($($what:tt)*) => {
        writeln!(io::stdout(), $($what)*).context("standard output")
    };
}

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Keep the three images in this directory.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// The status of a program that wrote to a pipe without a reader.
const SIGPIPE: u8 = 128 + 13;

/// What the sandbox runs; its status is checked.
const SCRIPT: &str = r#"#!/bin/sh
set -e
echo "  the files of three layers, sorted in the sandbox:"
ls /data /opt/app | sort | grep -v '^$' | while read name; do echo "    $name"; done
echo "  /etc/motd: $(cat /etc/motd)"
[ ! -e /data/deleted ] && echo "  /data/deleted is gone"
[ ! -e /opt/app/hidden ] && echo "  /opt/app shows only what the opaque directory holds"
echo "written in the sandbox" > /data/written && echo "  /data/written: $(cat /data/written)"
echo changed >> /data/kept && echo "  /data/kept was changed: $(cat /data/kept | sort | grep -c .) lines"
"#;

/// Lines that `ls /data /opt/app` prints at the end: two headings, three files of the layers and the written
/// one.
const LISTED: usize = 6;

pub(crate) fn demo(arguments: &Arguments) -> Result<u8> {
    // What lies in the temporary directory goes before varve does.
    let stop = Stop::on_signals()?;
    match (show(arguments, &stop), stop.signal()) {
        (_, Some(signal)) => Ok(128 + signal),
        // Whoever looked on has seen enough.
        (Err(error), None) if is_closed(&error) => Ok(0),
        (result, None) => result,
    }
}

/// Whether an error is that nobody reads the output any more.
fn is_closed(error: &anyhow::Error) -> bool {
    let closed = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    error
        .chain()
        .any(|part| part.downcast_ref().is_some_and(closed))
}

fn show(arguments: &Arguments, stop: &Stop) -> Result<u8> {
    let temporary = tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o700))
        .tempdir()
        .context("a temporary directory")?;
    let dir = match &arguments.keep {
        Some(dir) => {
            std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
            dir.as_path()
        }
        None => temporary.path(),
    };
    let colours = Colours::of_stdout();
    let heading = |text: &str| -> Result<()> {
        let mut out = io::stdout();
        let done = colours.paint(&mut out, Colour::Heading, |out| write!(out, "{text}"));
        done.and_then(|()| writeln!(out)).context("standard output")
    };
    heading(&format!("1. Building three layers in {}", text::path(dir)))?;
    let images = [base(dir)?, changes(dir)?, top(dir)?];
    let before = digests(&images)?;
    stop.check()?;

    heading("\n2. Which layer each file comes from")?;
    print_origins(&images, colours)?;

    heading("\n3. Running a shell pipeline in the sandbox on all three")?;
    stop.check()?;
    let run_time = run(&images, &["/bin/report"], None)?;
    if digests(&images)? != before {
        bail!("an image was changed");
    }
    tell!("  afterwards the images are what they were, byte for byte")?;
    tell!("  from start to end {}", milliseconds(run_time))?;
    stop.check()?;

    heading("\n4. How long a shell takes that does nothing")?;
    timeline(&images, colours)?;

    heading("\nNext")?;
    let own = match &arguments.keep {
        Some(dir) => {
            let dir = text::path(dir);
            format!("varve do --layer {dir}/0.img --layer {dir}/1.img -- /bin/sh")
        }
        None => "varve demo --keep DIR".into(),
    };
    let kept = match &arguments.keep {
        Some(_) => "a shell in two of the layers of this demonstration",
        None => "the same, and its layers stay in DIR",
    };
    for (command, what) in [
        ("varve do -- sh", "a shell here: it writes to memory"),
        ("varve do --strace -- ls", "every system call of a program"),
        ("varve build DIR -o layer.img", "a layer of your own"),
        (
            "varve convert docker-archive:FILE NAME",
            "an image of `docker save`",
        ),
        ("varve do --image NAME", "and its program"),
        (&*own, kept),
    ] {
        write!(io::stdout(), "  ").context("standard output")?;
        let done = colours.paint(&mut io::stdout(), Colour::Program, |out| {
            write!(out, "{command:<38}")
        });
        done.context("standard output")?;
        tell!(" {what}")?;
    }
    Ok(0)
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

/// Cells of the timeline.
const CELLS: u64 = 20;

/// Runs a shell that does nothing and shows where the time goes, as its system calls tell.
fn timeline(images: &[PathBuf], colours: Colours) -> Result<()> {
    let now = || {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |since| since.as_nanos() as u64)
    };
    let calls = Arc::new(Mutex::new(Vec::new()));
    let begun = now();
    run(images, &["/bin/sh", "-c", ":"], Some(calls.clone()))?;
    let ended = now();
    let calls = calls.lock().unwrap_or_else(PoisonError::into_inner);
    // The first is the one that starts the shell, which no program makes.
    let first = calls.get(1).copied().unwrap_or(ended).clamp(begun, ended);
    let last = calls.last().copied().unwrap_or(ended).clamp(first, ended);
    let made = count((calls.len() as u64).saturating_sub(1), "system call");
    let all = (ended - begun).max(1);
    for (what, from, to, colour) in [
        (
            "layers opened, kernel booted, shell loaded",
            begun,
            first,
            Colour::Directory,
        ),
        (&*format!("{made} of the shell"), first, last, Colour::Added),
        ("everything taken down", last, ended, Colour::Changed),
    ] {
        let cell = |at: u64| u128::from(at - begun) * u128::from(CELLS) / u128::from(all);
        let (left, right) = (cell(from) as usize, cell(to) as usize);
        let (left, right) = (left.min(CELLS as usize - 1), right.max(left + 1));
        let bar = format!("{}{}", " ".repeat(left), "█".repeat(right - left));
        let time = milliseconds(Duration::from_nanos(to - from));
        write!(io::stdout(), "  {time:>9}  ").context("standard output")?;
        let done = colours.paint(&mut io::stdout(), colour, |out| {
            write!(out, "{bar:<width$}", width = CELLS as usize)
        });
        done.context("standard output")?;
        tell!("  {what}")?;
    }
    tell!(
        "  {:>9}  from start to end",
        milliseconds(Duration::from_nanos(ended - begun))
    )
}

/// Runs a program over the images; fails if it does. `calls` takes when each system call began, in
/// nanoseconds since 1970.
fn run(images: &[PathBuf], args: &[&str], calls: Option<Arc<Mutex<Vec<u64>>>>) -> Result<Duration> {
    let mut sources = Sources::default();
    let layers = images
        .iter()
        .map(|path| sources.add_layer(path))
        .collect::<Result<_>>()?;
    let config = BootConfig {
        root: Tree {
            layers,
            read_only: false,
            upper_limit: None,
            index: None,
        },
        env: vec![b"PATH=/bin".to_vec(), library_path(&images[0])?],
        hostname: "demo".into(),
        strace: calls.is_some().then(|| Strace {
            lines: false,
            ..Strace::default()
        }),
        ..program(args.iter().copied()).context("/dev/urandom")?
    };
    let started = Instant::now();
    let streams = [Stdio::null(), Stdio::inherit(), Stdio::inherit()];
    let sandbox = sources.builder(config).stdio(streams.map(Stdio::as_pipe));
    let sandbox = sandbox.log(move |line| {
        if let (SinkLine::Strace(line), Some(calls)) = (line, &calls)
            && line.call.is_some()
        {
            let mut calls = calls.lock().unwrap_or_else(PoisonError::into_inner);
            calls.push(line.at);
        }
    });
    let status = start(sandbox, PlatformName::Auto)?;
    match status {
        0 => Ok(started.elapsed()),
        // A program in it wrote to a pipe that nobody reads.
        SIGPIPE => Err(io::Error::from(io::ErrorKind::BrokenPipe).into()),
        status => bail!(
            "{} ended with status {status} in the sandbox",
            args.join(" ")
        ),
    }
}

/// `LD_LIBRARY_PATH` with the directories of all libraries: there is no loader cache in the layers.
fn library_path(base: &Path) -> Result<Vec<u8>> {
    let list = base.with_extension("dirs");
    let dirs = std::fs::read_to_string(&list).with_context(|| list.display().to_string())?;
    Ok(format!("LD_LIBRARY_PATH={}", dirs.trim()).into_bytes())
}

/// A layer as a tar stream in the making.
struct Layer(tar::Builder<Vec<u8>>);

impl Layer {
    fn new() -> Layer {
        Layer(tar::Builder::new(Vec::new()))
    }

    fn add(&mut self, path: &str, mode: u32, data: &[u8]) -> Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(mode);
        header.set_mtime(1_700_000_000);
        self.0
            .append_data(&mut header, path.trim_start_matches('/'), data)?;
        Ok(())
    }

    /// Adds a file of this machine at the path it has here.
    fn copy(&mut self, from: &Path, to: &str) -> Result<()> {
        let data = std::fs::read(from).with_context(|| from.display().to_string())?;
        self.add(to, 0o755, &data)
    }

    fn build(self, dir: &Path, name: &str) -> Result<PathBuf> {
        let stream = self.0.into_inner()?;
        let image = dir.join(name);
        let report = build_tar(
            &mut stream.as_slice(),
            name,
            &image,
            &BuildOptions::default(),
            &mut (),
        )?;
        let mut text = format!("  {name}: {}", count(report.files, "file"));
        for (number, what) in [
            (report.whiteouts, "whiteout"),
            (report.opaque, "opaque directory"),
        ] {
            if number > 0 {
                text += &format!(", {}", count(number, what));
            }
        }
        tell!("{text}, {}", human(report.image_bytes))?;
        Ok(image)
    }
}

/// Layer 0: programs and libraries of this machine, and some files.
fn base(dir: &Path) -> Result<PathBuf> {
    let mut layer = Layer::new();
    let mut libraries = BTreeSet::new();
    for name in PROGRAMS {
        let file = programs::find(name)?;
        libraries.extend(programs::libraries(&file)?);
        layer.copy(&file, &format!("/bin/{name}"))?;
    }
    let mut dirs = BTreeSet::new();
    for library in &libraries {
        let path = library
            .to_str()
            .ok_or_else(|| anyhow!("{}: not UTF-8", library.display()))?;
        layer.copy(library, path)?;
        dirs.extend(library.parent().and_then(Path::to_str));
    }
    let list: Vec<&str> = dirs.into_iter().collect();
    Whole::write(&dir.join("0.dirs"), list.join(":").as_bytes())?;
    layer.add("/etc/motd", 0o644, b"layer 0\n")?;
    layer.add("/data/deleted", 0o644, b"hidden by a whiteout in layer 2\n")?;
    layer.add("/data/kept", 0o644, b"from layer 0\n")?;
    layer.add(
        "/opt/app/hidden",
        0o644,
        b"hidden by an opaque directory in layer 2\n",
    )?;
    layer.build(dir, "0.img")
}

/// Layer 1: replaces a file, adds one.
fn changes(dir: &Path) -> Result<PathBuf> {
    let mut layer = Layer::new();
    layer.add("/etc/motd", 0o644, b"layer 1 replaced this\n")?;
    layer.add("/data/added", 0o644, b"from layer 1\n")?;
    layer.build(dir, "1.img")
}

/// Layer 2: a whiteout, an opaque directory, a script.
fn top(dir: &Path) -> Result<PathBuf> {
    let mut layer = Layer::new();
    layer.add("/data/.wh.deleted", 0o644, b"")?;
    layer.add("/opt/app/.wh..wh..opq", 0o644, b"")?;
    layer.add("/opt/app/shown", 0o644, b"from layer 2\n")?;
    let mut script = String::from(SCRIPT);
    let _ = writeln!(script, "[ $(ls /data /opt/app | grep -c .) -eq {LISTED} ]");
    layer.add("/bin/report", 0o755, script.as_bytes())?;
    layer.build(dir, "2.img")
}

fn digests(images: &[PathBuf]) -> Result<Vec<Vec<u8>>> {
    let digest = |path: &PathBuf| -> Result<Vec<u8>> {
        let mut hasher = Sha256::new();
        let mut file = File::open(path).with_context(|| path.display().to_string())?;
        let mut buf = vec![0; 1 << 20];
        loop {
            match io::Read::read(&mut file, &mut buf)? {
                0 => return Ok(hasher.finalize().to_vec()),
                len => hasher.update(&buf[..len]),
            }
        }
    };
    images.iter().map(digest).collect()
}

/// Prints for some paths which layer shows them: the highest that has them, unless one above it hides them.
fn print_origins(images: &[PathBuf], colours: Colours) -> Result<()> {
    let blocks = images.iter().map(|path| {
        Ok(MemBlock {
            bytes: std::fs::read(path)?,
            mapped: true,
        })
    });
    let files = MemImages(blocks.collect::<Result<_>>()?);
    let layers: Vec<ImgFs> = (0..images.len() as u32)
        .map(|number| ImgFs::open(&files, ImageId(number), &[]).map_err(|error| anyhow!("{error}")))
        .collect::<Result<_>>()?;
    for path in [
        "/bin/sh",
        "/bin/report",
        "/etc/motd",
        "/data/kept",
        "/data/added",
        "/data/deleted",
        "/opt/app/hidden",
        "/opt/app/shown",
    ] {
        let origin = origin(&layers, &files, path)?;
        let colour = match origin.starts_with("layer") {
            true => Colour::Added,
            false => Colour::Deleted,
        };
        write!(io::stdout(), "  {path:<18} ").context("standard output")?;
        let done = colours.paint(&mut io::stdout(), colour, |out| write!(out, "{origin}"));
        done.context("standard output")?;
        tell!("")?;
    }
    Ok(())
}

/// What shows or hides a path: walks it in each layer from the highest down.
fn origin(layers: &[ImgFs], files: &MemImages, path: &str) -> Result<String> {
    for (number, fs) in layers.iter().enumerate().rev() {
        let failed = |error| anyhow!("layer {number}: {error}");
        let mut at = fs.inode(files, fs.root()).map_err(failed)?;
        let mut hides = false;
        let mut complete = true;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            hides |= fs.is_opaque(files, &at).map_err(failed)?;
            let Some(entry) = fs.lookup(files, &at, name.as_bytes()).map_err(failed)? else {
                complete = false;
                break;
            };
            at = fs.inode(files, entry.0).map_err(failed)?;
            if at.is_whiteout() {
                return Ok(format!("deleted by a whiteout in layer {number}"));
            }
        }
        if complete {
            return Ok(format!("layer {number}"));
        }
        if hides {
            return Ok(format!("hidden by an opaque directory in layer {number}"));
        }
    }
    Ok("nowhere".into())
}
