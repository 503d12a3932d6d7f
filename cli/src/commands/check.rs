//! `varve check`: whether images are what they should be. Nothing is ever changed.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use varve_host::HostImage;
use varve_image::{CheckReport, MergeLayer, check, index_digest};
use varve_imgfs::ImageId;

use crate::output::print;
use crate::stacks::{MappedImages, StackFile, StackFiles, StoreArguments};
use crate::text;

#[derive(clap::Args)]
#[command(
    after_help = "An image: the digests of its layers and index, that the index shows the tree of the layers (it is made again and \
        compared), and the structure of each: every inode, entry, attribute and extent, link counts, what lies over what, the bytes \
        behind the ends of files. A layer file: its structure. The exit status is 0 if all is well, 1 if something is wrong."
)]
pub(crate) struct Arguments {
    /// Images of the store, directories that hold one, or layer files.
    #[arg(required = true, value_name = "IMAGE|LAYER")]
    operands: Vec<OsString>,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    store: StoreArguments,
}

/// What was found about one file.
struct Found {
    name: String,
    /// `None` where nothing tells what the digest should be.
    digest: Option<Result<(), String>>,
    structure: Result<CheckReport, String>,
}

impl Found {
    fn is_good(&self) -> bool {
        let structure = self
            .structure
            .as_ref()
            .is_ok_and(|report| report.faults.is_empty());
        structure && self.digest.as_ref().is_none_or(Result::is_ok)
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8> {
    let mut found = Vec::new();
    for operand in &arguments.operands {
        if arguments.store.is_image(operand) {
            let mut image = arguments.store.image(operand)?;
            // Also one that is not used, because nobody knows where it is from.
            image.index = image.named_index.clone();
            let mut expected: Vec<_> = image.layers.iter().map(|layer| layer.digest.0).collect();
            let index = image.index.clone();
            expected.extend(index.map(|index| index.digest.0));
            let files = StackFiles::of_image(image)?;
            let count = files.layers.len();
            let mut list = files.layers;
            let digests = files.index.as_ref().map(|(_, digests)| digests.clone());
            list.extend(files.index.map(|(file, _)| file));
            let mut names = Vec::new();
            let mut images = MappedImages(Vec::new());
            for (number, StackFile { name, mut file, .. }) in list.into_iter().enumerate() {
                let digest = digest(&mut file, expected[number]);
                found.push(Found {
                    name: name.clone(),
                    digest: Some(digest),
                    structure: Err("it was not looked at".into()),
                });
                images.0.push(HostImage::open(file)?);
                names.push(name);
            }
            let first = found.len() - names.len();
            let layers: Vec<_> = (0..count as u32).map(ImageId).collect();
            for number in 0..names.len() {
                let id = ImageId(number as u32);
                let devices: &[ImageId] = if number < count { &[] } else { &layers };
                let mut report = check(&images, id, devices).map_err(|e| e.to_string());
                if number >= count
                    && report.is_ok()
                    && let Some(digests) = &digests
                    && let Err(reason) = shows_the_layers(&images, digests, expected[number])
                {
                    report = Err(reason);
                }
                found[first + number].structure = report;
            }
            continue;
        }
        let file = crate::layers::open(Path::new(operand))?;
        let images = MappedImages(vec![HostImage::open(file)?]);
        found.push(Found {
            name: operand.to_string_lossy().into_owned(),
            digest: None,
            structure: check(&images, ImageId(0), &[]).map_err(|e| e.to_string()),
        });
    }
    let good = found.iter().all(Found::is_good);
    print(|out| match arguments.json {
        true => {
            let list: Vec<_> = found.iter().map(json_of).collect();
            writeln!(out, "{}", text::json_pretty(&Value::from(list)))
        }
        false => found.iter().try_for_each(|found| text_of(out, found)),
    })?;
    Ok(if good { 0 } else { 1 })
}

/// Whether the merged index with this digest is the one that the layers make.
fn shows_the_layers(
    images: &MappedImages,
    layers: &[[u8; 32]],
    index: [u8; 32],
) -> Result<(), String> {
    let layers: Vec<_> = layers
        .iter()
        .enumerate()
        .map(|(number, &digest)| MergeLayer {
            image: ImageId(number as u32),
            digest,
        })
        .collect();
    if layers.is_empty() {
        return Err("an index over no layers, so it is not used".into());
    }
    match index_digest(images, &layers) {
        Ok(digest) if digest == index => Ok(()),
        Ok(_) => {
            Err("the index does not show the tree of the layers; `varve convert --again SRC NAME` makes it again".into())
        }
        Err(error) => Err(format!("the layers give no index: {error}")),
    }
}

/// Reads a file and compares its digest.
fn digest(file: &mut std::fs::File, expected: [u8; 32]) -> Result<(), String> {
    let mut hasher = Sha256::new();
    let mut buf = vec![0; 1 << 20];
    loop {
        match file.read(&mut buf) {
            Ok(0) => break,
            Ok(len) => hasher.update(&buf[..len]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e.to_string()),
        }
    }
    let actual: [u8; 32] = hasher.finalize().into();
    if actual == expected {
        return Ok(());
    }
    let hex = hex::encode(actual);
    Err(format!(
        "its content has the digest sha256:{hex}: it is damaged or was tampered with; `varve convert --again SRC NAME` makes it again"
    ))
}

fn json_of(found: &Found) -> Value {
    let structure = found.structure.as_ref();
    json!({
        "file": found.name,
        "good": found.is_good(),
        "digest": found.digest.as_ref().map(|digest| match digest {
            Ok(()) => "right",
            Err(reason) => reason,
        }),
        "inodes": structure.ok().map(|report| report.inodes),
        "names": structure.ok().map(|report| report.names),
        "bytes": structure.ok().map(|report| report.bytes),
        "error": structure.err(),
        "faults": structure.ok().map(|report| report.faults.iter().map(|fault| {
            let mut value = json!({ "path": null, "inode": fault.nid, "reason": fault.reason });
            if let Some(path) = &fault.path {
                text::put(&mut value, "path", path);
            }
            value
        }).collect::<Vec<_>>()),
        "more_faults": structure.ok().map(|report| report.more_faults),
    })
}

fn text_of(out: &mut dyn Write, found: &Found) -> io::Result<()> {
    let name = text::shown(&found.name);
    if let Some(Err(reason)) = &found.digest {
        writeln!(out, "{name}: {}", text::shown(reason))?;
    }
    match &found.structure {
        Err(reason) => writeln!(out, "{name}: {}", text::shown(reason)),
        Ok(report) => {
            for fault in &report.faults {
                writeln!(out, "{name}: {}", text::shown(&fault.to_string()))?;
            }
            if report.more_faults > 0 {
                writeln!(out, "{name}: {} more faults", report.more_faults)?;
            }
            match found.is_good() {
                true => writeln!(
                    out,
                    "{name}: well: {} inodes, {} names, {} bytes",
                    report.inodes, report.names, report.bytes
                ),
                false => Ok(()),
            }
        }
    }
}
