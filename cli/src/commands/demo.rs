//! `varve demo`: three layers out of this machine's own files, and a shell pipeline over them.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use sha2::{Digest, Sha256};
use varve_core::boot::{BootConfig, Init, Stdio, Tree, User};
use varve_core::imgfs::ImgFs;
use varve_core::machine::ImageId;
use varve_core::memhost::{MemBlock, MemImages};
use varve_image::{BuildOptions, build_tar};

use super::run::{Sources, cpuinfo, cpus, default_frames, seed, start};
use crate::platform::PlatformName;
use crate::programs;

/// The programs of the lowest layer.
const PROGRAMS: &[&str] = &["sh", "ls", "cat", "grep", "sort"];

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Keep the three images in this directory.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

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

/// Lines that `ls /data /opt/app` prints at the end: two headings, three files of the layers and the written one.
const LISTED: usize = 6;

pub(crate) fn demo(arguments: &Arguments) -> Result<u8> {
    let temporary = tempfile::tempdir().context("a temporary directory")?;
    let dir = match &arguments.keep {
        Some(dir) => {
            std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
            dir.as_path()
        }
        None => temporary.path(),
    };
    println!("1. Building three layers in {}", dir.display());
    let images = [base(dir)?, changes(dir)?, top(dir)?];
    let before = digests(&images)?;

    println!("\n2. Which layer each file comes from");
    print_origins(&images)?;

    println!("\n3. Running a shell pipeline in the sandbox on all three");
    let start_time = run(&images, &["/bin/sh", "-c", ":"])?;
    let run_time = run(&images, &["/bin/report"])?;

    println!("\n4. Afterwards");
    if digests(&images)? != before {
        bail!("an image was changed");
    }
    println!("  the images are what they were, byte for byte: every write went to memory");
    println!(
        "  a shell that does nothing, from start to end: {}",
        milliseconds(start_time)
    );
    println!(
        "  the pipeline above, from start to end:        {}",
        milliseconds(run_time)
    );
    if let Some(dir) = &arguments.keep {
        println!("  the images are kept in {}; try", dir.display());
        println!(
            "    varve do --layer {0}/0.img --layer {0}/1.img --layer {0}/2.img -- /bin/sh",
            dir.display()
        );
    }
    Ok(0)
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

/// Runs a program over the images; fails if it does.
fn run(images: &[PathBuf], args: &[&str]) -> Result<Duration> {
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
        mounts: Vec::new(),
        init: Init::Exec {
            args: args.iter().map(|arg| arg.as_bytes().to_vec()).collect(),
        },
        env: vec![b"PATH=/bin".to_vec(), library_path(&images[0])?],
        cwd: b"/".to_vec(),
        user: User::Ids {
            uid: 0,
            gid: 0,
            groups: Vec::new(),
        },
        hostname: "demo".into(),
        seed: seed()?,
        cpus: cpus(),
        memory_limit: None,
        threads_max: u32::MAX,
        stdio: [Stdio::Null, Stdio::Stream, Stdio::Stream],
        strace: false,
        cpuinfo: cpuinfo(),
        vdso: true,
        capabilities: varve_core::boot::DEFAULT_CAPABILITIES,
    };
    let started = Instant::now();
    let platform = PlatformName::Auto;
    let status = start(
        config,
        sources,
        default_frames(),
        platform,
        Box::new(|_| {}),
        None,
        None,
    )?;
    match status {
        0 => Ok(started.elapsed()),
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
        println!(
            "  {name}: {} files, {} whiteouts, {} opaque directories, {} KiB",
            report.files,
            report.whiteouts,
            report.opaque,
            report.image_bytes / 1024
        );
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
    std::fs::write(dir.join("0.dirs"), list.join(":"))?;
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
fn print_origins(images: &[PathBuf]) -> Result<()> {
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
        println!("  {path:<18} {}", origin(&layers, &files, path)?);
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
