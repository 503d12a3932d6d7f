//! Container images as other tools write them, made by hand, and their conversion.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use serde_json::{Value, json};
use varve_image::oci::{
    ConvertOptions, Converted, ImageError, Layout, Platform, Sha256Digest, Source, convert,
};
use varve_image::walk::{Next, walk};
use varve_imgfs::{Attr, ImageId, MemBlock, MemImages, MergedIndex, Stack};

/// A tar archive out of (name, kind, content or target).
pub fn tar_of(entries: &[(&str, char, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, kind, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mode(if *kind == 'd' { 0o750 } else { 0o640 });
        header.set_uid(7);
        header.set_gid(8);
        header.set_mtime(1_600_000_000);
        match kind {
            'f' => {
                header.set_size(content.len() as u64);
                tar.append_data(&mut header, name, content.as_bytes())
                    .unwrap();
            }
            'd' => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_size(0);
                tar.append_data(&mut header, name, &b""[..]).unwrap();
            }
            _ => {
                header.set_entry_type(match kind {
                    'l' => tar::EntryType::Symlink,
                    _ => tar::EntryType::Link,
                });
                header.set_size(0);
                tar.append_link(&mut header, name, content).unwrap();
            }
        }
    }
    tar.into_inner().unwrap()
}

/// How a layer is stored.
#[derive(Clone, Copy)]
pub enum Pack {
    Plain,
    Gzip,
    Zstd,
}

pub fn pack(tar: &[u8], how: Pack) -> (Vec<u8>, &'static str) {
    match how {
        Pack::Plain => (tar.to_vec(), "application/vnd.oci.image.layer.v1.tar"),
        Pack::Gzip => {
            let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gz.write_all(tar).unwrap();
            let kind = "application/vnd.oci.image.layer.v1.tar+gzip";
            (gz.finish().unwrap(), kind)
        }
        Pack::Zstd => {
            let kind = "application/vnd.oci.image.layer.v1.tar+zstd";
            (zstd::encode_all(tar, 1).unwrap(), kind)
        }
    }
}

pub fn config(layers: &[Vec<u8>]) -> Value {
    let ids: Vec<_> = layers
        .iter()
        .map(|tar| Sha256Digest::of(tar).to_string())
        .collect();
    json!({
        "architecture": Platform::default().architecture,
        "os": "linux",
        "created": "2024-01-01T00:00:00Z",
        "config": { "Env": ["A=b"], "Cmd": ["sh"], "Labels": { "x": "y" }, "Unknown": 1 },
        "rootfs": { "type": "layers", "diff_ids": ids },
        "history": [{ "created_by": "test" }],
    })
}

pub fn put(dir: &Path, bytes: &[u8]) -> Value {
    let digest = Sha256Digest::of(bytes);
    fs::write(dir.join("blobs/sha256").join(digest.hex()), bytes).unwrap();
    json!({ "digest": digest.to_string(), "size": bytes.len() })
}

pub fn with_type(mut descriptor: Value, kind: &str) -> Value {
    descriptor["mediaType"] = kind.into();
    descriptor
}

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// An OCI layout with one image; `change` sees the manifest before it is stored.
pub fn oci_layout(dir: &Path, layers: &[Vec<u8>], how: Pack, change: impl FnOnce(&mut Value)) {
    fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
    fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let config = put(dir, config(layers).to_string().as_bytes());
    let descriptors = layers.iter().map(|tar| {
        let (bytes, kind) = pack(tar, how);
        with_type(put(dir, &bytes), kind)
    });
    let mut manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": with_type(config, "application/vnd.oci.image.config.v1+json"),
        "layers": descriptors.collect::<Vec<_>>(),
        "annotations": { "org.example.kept": "yes" },
    });
    change(&mut manifest);
    let mut descriptor = with_type(put(dir, manifest.to_string().as_bytes()), MANIFEST);
    descriptor["annotations"] = json!({ "org.opencontainers.image.ref.name": "v1" });
    let index = json!({ "schemaVersion": 2, "manifests": [descriptor] });
    fs::write(dir.join("index.json"), index.to_string()).unwrap();
}

/// The same image as `docker save` writes it.
pub fn docker_archive(path: &Path, layers: &[Vec<u8>]) {
    let mut tar = tar::Builder::new(File::create(path).unwrap());
    let mut add = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, name, bytes).unwrap();
    };
    let config = config(layers).to_string();
    let config_name = format!("{}.json", Sha256Digest::of(config.as_bytes()).hex());
    add(&config_name, config.as_bytes());
    let mut names = Vec::new();
    for (number, layer) in layers.iter().enumerate() {
        names.push(format!("l{number}/layer.tar"));
        add(&names[number], layer);
    }
    let manifest = json!([{ "Config": config_name, "RepoTags": ["team/app:v1"], "Layers": names }]);
    add("manifest.json", manifest.to_string().as_bytes());
    tar.into_inner().unwrap();
}

pub fn run_with(
    source: &Source,
    dir: &Path,
    name: &str,
    stop: bool,
) -> Result<Converted, ImageError> {
    let stop = AtomicBool::new(stop);
    let layout = Layout::create(dir)?;
    let options = ConvertOptions {
        threads: 2,
        ..ConvertOptions::new(name, &stop)
    };
    convert(source, &layout, &options, &())
}

pub fn run(source: &Source, dir: &Path) -> Result<Converted, ImageError> {
    run_with(source, dir, "latest", false)
}

pub fn parse(text: &str) -> Source {
    Source::parse(text.as_ref(), &[]).unwrap()
}

pub fn digests(converted: &Converted) -> Vec<Sha256Digest> {
    let layers = converted.image.layers.iter();
    layers.map(|layer| layer.digest).collect()
}

/// What the merged index of an image shows: path, attributes, contents or target.
pub fn merged_entries(converted: &Converted) -> BTreeMap<String, (Attr, Vec<u8>)> {
    let paths = converted.image.layers.iter().map(|layer| &layer.path);
    let index = converted.image.index.as_ref().unwrap();
    let blocks = paths.chain([&index.path]).map(|path| MemBlock {
        bytes: fs::read(path).unwrap(),
        mapped: true,
    });
    let images = MemImages(blocks.collect());
    let count = converted.image.layers.len() as u32;
    let ids: Vec<_> = (0..count).map(ImageId).collect();
    let digests = converted.image.layers.iter().map(|layer| layer.digest.0);
    let index = MergedIndex {
        image: ImageId(count),
        digests: digests.collect(),
    };
    let mut stack = Stack::open(&images, &ids, Some(&index)).unwrap();
    assert!(stack.take_faults().is_empty());
    let root = stack.root();
    let mut entries = BTreeMap::new();
    walk(&mut stack, &images, root, &mut |stack, item| {
        let attr = item.attr.unwrap();
        let content = match attr.mode & 0o170000 {
            0o100000 => {
                let mut bytes = vec![0; attr.size as usize];
                let read = stack.read(&images, item.inode, 0, &mut bytes).unwrap();
                assert_eq!(read, bytes.len());
                bytes
            }
            0o120000 => stack.read_link(&images, item.inode).unwrap(),
            _ => Vec::new(),
        };
        let path = String::from_utf8(item.path.to_vec()).unwrap();
        entries.insert(path, (attr, content));
        Ok::<_, ()>(Next::Into)
    })
    .unwrap();
    entries
}
