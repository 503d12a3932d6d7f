//! Any archive as an image: what `docker save` writes, an OCI archive, an OCI layout. The digests that
//! documents name are put right, so that what is behind them is reached.
#![no_main]

use std::sync::atomic::AtomicBool;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use varve_fuzz::scratch;
use varve_image::oci::{ConvertOptions, Layout, Sha256Digest, Source, convert};

/// The text of a document: pieces of real ones, or anything.
#[derive(Arbitrary, Debug)]
enum Piece {
    /// One of the texts below.
    Known(u8),
    /// Digest of one of the other blobs.
    Digest(u8),
    /// Its length.
    Size(u8),
    Text(String),
}

#[derive(Arbitrary, Debug)]
struct Input {
    blobs: Vec<Vec<Piece>>,
    index: Vec<Piece>,
    manifest: Vec<Piece>,
    layer: Vec<u8>,
    docker: bool,
}

const KNOWN: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    "\"",
    ":",
    "\"schemaVersion\":2,",
    "\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",",
    "\"mediaType\":\"application/vnd.oci.image.index.v1+json\",",
    "\"mediaType\":\"application/vnd.oci.image.layer.v1.tar\",",
    "\"mediaType\":\"application/vnd.oci.image.layer.v1.tar+gzip\",",
    "\"mediaType\":\"application/vnd.erofs.layer.v1\",",
    "\"mediaType\":\"application/vnd.oci.image.config.v1+json\",",
    "\"manifests\":[",
    "\"config\":{",
    "\"layers\":[",
    "\"digest\":\"",
    "\",\"size\":",
    "},",
    "]}",
    "\"architecture\":\"amd64\",\"os\":\"linux\",",
    "\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[",
    "\"platform\":{\"os\":\"linux\",\"architecture\":\"amd64\"},",
    "[{\"Config\":\"",
    "\",\"RepoTags\":[\"a:b\"],\"Layers\":[\"",
    "\"]}]",
    ".json",
    "layer.tar",
    "\"annotations\":{\"org.opencontainers.image.ref.name\":\"x\"},",
];

fn text(pieces: &[Piece], blobs: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in pieces.iter().take(60) {
        let blob = |at: u8| {
            blobs
                .get(usize::from(at) % blobs.len().max(1))
                .map_or(&b""[..], |b| b)
        };
        match piece {
            Piece::Known(at) => {
                out.extend_from_slice(KNOWN[usize::from(*at) % KNOWN.len()].as_bytes())
            }
            Piece::Digest(at) => {
                out.extend_from_slice(Sha256Digest::of(blob(*at)).to_string().as_bytes())
            }
            Piece::Size(at) => out.extend_from_slice(blob(*at).len().to_string().as_bytes()),
            Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
        }
    }
    out
}

fuzz_target!(|input: Input| {
    let mut blobs = vec![input.layer.clone()];
    for pieces in input.blobs.iter().take(6) {
        let blob = text(pieces, &blobs);
        blobs.push(blob);
    }
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, name, bytes).unwrap();
    };
    add("oci-layout", b"{\"imageLayoutVersion\":\"1.0.0\"}");
    add("index.json", &text(&input.index, &blobs));
    add("manifest.json", &text(&input.manifest, &blobs));
    add("layer.tar", &input.layer);
    for blob in &blobs {
        let digest = Sha256Digest::of(blob).hex();
        add(&format!("blobs/sha256/{digest}"), blob);
        add(&format!("{digest}.json"), blob);
    }
    let dir = scratch();
    let file = dir.path().join("image.tar");
    std::fs::write(&file, tar.into_inner().unwrap()).unwrap();
    let source = match input.docker {
        true => Source::DockerArchive(file, None),
        false => Source::OciArchive(file, None),
    };
    let layout = Layout::create(&dir.path().join("out")).unwrap();
    let stop = AtomicBool::new(false);
    let options = ConvertOptions {
        threads: 2,
        ..ConvertOptions::new("x", &stop)
    };
    if convert(&source, &layout, &options, &()).is_err() {
        assert!(layout.images().unwrap().is_empty());
        let left = std::fs::read_dir(dir.path().join("out/blobs/sha256"))
            .unwrap()
            .count();
        assert_eq!(left, 0);
    }
});
