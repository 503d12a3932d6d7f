//! `varve build`.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::json;
use varve_image::{BuildOptions, BuildReport, DataAlign, build_dir, build_tar};

use super::convert::{print_skipped, size, skipped_json};
use crate::output::{count, finish};
use crate::progress::Report;
use crate::text;
use crate::whole::Target;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A directory, a tar archive (plain, gzip or zstd), or `-` for a tar stream on standard input.
    source: PathBuf,
    /// The image to write.
    #[arg(short, long)]
    output: PathBuf,
    /// Modification times newer than this many seconds since 1970 become this.
    #[arg(
        long,
        value_name = "SECONDS",
        env = "SOURCE_DATE_EPOCH",
        allow_negative_numbers = true
    )]
    timestamp: Option<i64>,
    /// Alignment of the data of files that are at least so large: 4K, 64K or 2M.
    #[arg(long, value_name = "SIZE", default_value = "4K")]
    data_align: DataAlign,
    /// A file with one path on each line: their data is laid out first, in this order.
    #[arg(long, value_name = "FILE")]
    order: Option<PathBuf>,
    /// Name of the volume, at most 15 bytes.
    #[arg(long)]
    label: Option<String>,
    /// Most bytes of data of the layer (8g), holes and equal files not counted. By default an archive becomes
    /// at most 256 times its length, but 256 MiB in any case; a directory anything.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_size: Option<u64>,
    /// Go on past files and directories that cannot be read, and list them.
    #[arg(long)]
    skip_unreadable: bool,
    /// Print what was built as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn build(arguments: &Arguments) -> Result<u8> {
    discard_on_signals()?;
    let output = &output_file(&arguments.output)?;
    let order = match &arguments.order {
        Some(file) => read_order(file)?,
        None => Vec::new(),
    };
    let options = BuildOptions {
        timestamp: arguments.timestamp,
        data_align: arguments.data_align,
        order,
        label: arguments.label.clone(),
        max_size: arguments.max_size,
        skip_unreadable: arguments.skip_unreadable,
    };
    let started = Instant::now();
    let mut progress = Report::new();
    let source = &arguments.source;
    let report = if source.as_os_str() == "-" {
        if io::stdin().is_terminal() {
            bail!("standard input is a terminal: pipe a tar stream into `varve build - -o IMAGE`");
        }
        build_tar(
            &mut io::stdin().lock(),
            "standard input",
            output,
            &options,
            &mut progress,
        )
    } else {
        // What is looked at is what is read.
        let shown = || source.display().to_string();
        let mut file = File::open(source).with_context(shown)?;
        if file.metadata().with_context(shown)?.is_dir() {
            build_dir(source, output, &options, &mut progress)
        } else {
            build_tar(&mut file, &shown(), output, &options, &mut progress)
        }
    };
    progress.finish();
    let report = report?;
    for note in &report.notes {
        text::say(format_args!("note: {note}"));
    }
    if report.notes_dropped > 0 {
        let left = report.notes_dropped;
        text::say(format_args!("note: {left} more notes were left out"));
    }
    print_skipped(&report.skipped, report.skipped_count);
    let text = match arguments.json {
        true => text::json_pretty(&json(output, &report)),
        false => format!(
            "{}: {}, {}, {}, {}, {}; {} ({} shared) in {:.2} s",
            text::path(output),
            count(report.files, "file"),
            count(report.directories, "directory"),
            count(report.symlinks, "symbolic link"),
            count(report.others, "other"),
            count(report.whiteouts, "whiteout"),
            count(report.image_bytes, "byte"),
            count(report.shared_bytes, "byte"),
            started.elapsed().as_secs_f64()
        ),
    };
    finish(writeln!(io::stdout(), "{text}"))?;
    Ok(0)
}

/// The file that an image gets. It is not written front to back, so it can be nothing but a regular file.
pub(crate) fn output_file(output: &Path) -> Result<PathBuf> {
    if output.as_os_str() == "-" {
        bail!("an image is no stream: name a file (`./-` for one of that name)");
    }
    match Target::of(output)?.name() {
        Some(file) => Ok(file.to_owned()),
        None => bail!(
            "cannot write {}: exists and is not a regular file",
            text::path(output)
        ),
    }
}

/// An unfinished image is removed when varve is told to stop. A limit on the size of files is an error of the
/// write, not the end.
pub(crate) fn discard_on_signals() -> Result<()> {
    use signal_hook::consts::signal::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
    signal_hook::flag::register(SIGXFSZ, Arc::default())?;
    let mut signals = signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            varve_image::discard_unfinished();
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}

fn read_order(file: &Path) -> Result<Vec<Vec<u8>>> {
    let text = std::fs::read(file).with_context(|| file.display().to_string())?;
    let lines = text
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty());
    Ok(lines.map(<[u8]>::to_vec).collect())
}

fn json(output: &Path, report: &BuildReport) -> serde_json::Value {
    let image = String::from_utf8_lossy(&output.as_os_str().to_owned().into_vec()).into_owned();
    let uuid = hex::encode(report.uuid);
    json!({
        "image": image,
        "files": report.files,
        "directories": report.directories,
        "symlinks": report.symlinks,
        "others": report.others,
        "hard_links": report.hard_links,
        "whiteouts": report.whiteouts,
        "opaque": report.opaque,
        "bytes_in": report.bytes_in,
        "bytes_out": report.bytes_out,
        "shared_files": report.shared_files,
        "shared_bytes": report.shared_bytes,
        "image_bytes": report.image_bytes,
        "uuid": uuid,
        "notes": report.notes,
        "skipped": skipped_json(&report.skipped),
        "skipped_count": report.skipped_count,
    })
}
