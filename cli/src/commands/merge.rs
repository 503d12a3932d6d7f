//! `varve merge`: one index over several layers.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::json;
use sha2::{Digest, Sha256};
use varve_host::HostImage;
use varve_image::{MergeLayer, merge};
use varve_imgfs::ImageId;

use crate::output::{count, print};
use crate::progress::Report;
use crate::stacks::MappedImages;
use crate::text;

#[derive(clap::Args)]
#[command(
    after_help = "The index is a metadata-only EROFS image. The kernel mounts it with the layers as devices, lowest first:
mount -t erofs -o device=LAYER0,device=LAYER1 INDEX DIR"
)]
pub(crate) struct Arguments {
    /// Layers: image files, lowest first.
    #[arg(required = true, value_name = "LAYER")]
    layers: Vec<PathBuf>,
    /// The index to write.
    #[arg(short, long)]
    output: PathBuf,
    /// Print what was made as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8> {
    super::build::discard_on_signals()?;
    let output = super::build::output_file(&arguments.output)?;
    let started = Instant::now();
    let mut images = MappedImages(Vec::new());
    let mut layers = Vec::new();
    for (number, path) in arguments.layers.iter().enumerate() {
        let shown = || path.display().to_string();
        let meta = std::fs::metadata(path).with_context(shown)?;
        if !meta.is_file() && !meta.file_type().is_block_device() {
            bail!("{}: is no image file", text::path(path));
        }
        let mut file = File::open(path).with_context(shown)?;
        let mut hasher = Sha256::new();
        let mut buf = vec![0; 1 << 20];
        loop {
            match file.read(&mut buf).with_context(shown)? {
                0 => break,
                len => hasher.update(&buf[..len]),
            }
        }
        layers.push(MergeLayer {
            image: ImageId(number as u32),
            digest: hasher.finalize().into(),
        });
        images.0.push(HostImage::open(file).with_context(shown)?);
    }
    let mut progress = Report::new();
    let report = merge(&images, &layers, &output, &mut progress);
    progress.finish();
    let report = report.map_err(|error| {
        let text = error.to_string();
        // The layer's name says more than its number.
        let named = arguments.layers.iter().enumerate().rev();
        let text = named.fold(text, |text, (number, path)| {
            let path = path.display().to_string();
            text.replace(&format!("image {number}: "), &format!("{path}: "))
                .replace(&format!("layer {number}: "), &format!("{path}: "))
        });
        anyhow::anyhow!(text)
    })?;
    print(|out| match arguments.json {
        true => {
            let value = json!({
                "image": arguments.output.display().to_string(),
                "layers": layers.len(),
                "files": report.files,
                "directories": report.directories,
                "symlinks": report.symlinks,
                "others": report.others,
                "bytes_copied": report.bytes_out,
                "image_bytes": report.image_bytes,
            });
            writeln!(out, "{}", text::json_pretty(&value))
        }
        false => writeln!(
            out,
            "{}: {} and {} of {}; {} in {:.2} s",
            text::path(&arguments.output),
            count(report.files, "file"),
            count(report.directories, "directory"),
            count(layers.len() as u64, "layer"),
            count(report.image_bytes, "byte"),
            started.elapsed().as_secs_f64()
        ),
    })
    .map(|()| 0)
}
