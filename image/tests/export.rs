//! The way back: what images become for other tools, and that nothing is lost on it.

mod oci;
mod oracle;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use oci::*;
use oracle::{Rng, assert_same, core_snapshot};
use serde_json::Value;
use varve_image::oci::{
    ConvertOptions, ConvertProgress, Converted, DockerLayers, ExportOptions, ImageError, Layout,
    Packing, Sha256Digest, Source, convert, export_docker, export_oci,
};

type Pax<'a> = &'a [(&'a str, &'a [u8])];

/// Adds a member that the simple ones of `tar_of` do not show.
fn append(tar: &mut tar::Builder<Vec<u8>>, name: &str, kind: u8, content: &[u8], pax: Pax<'_>) {
    if !pax.is_empty() {
        tar.append_pax_extensions(pax.iter().copied()).unwrap();
    }
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_mode(0o4751);
    header.set_uid(1000);
    header.set_gid(100);
    header.set_mtime(1_500_000_000);
    header.set_size(content.len() as u64);
    if matches!(kind, b'3' | b'4') {
        header.set_device_major(10).unwrap();
        header.set_device_minor(300).unwrap();
    }
    tar.append_data(&mut header, name, content).unwrap();
}

/// Everything that a layer can hold.
fn layers() -> Vec<Vec<u8>> {
    let mut low = tar::Builder::new(Vec::new());
    append(
        &mut low,
        "etc/",
        b'5',
        b"",
        &[("mtime", b"1400000000.123456789")],
    );
    append(&mut low, "etc/old", b'0', b"old", &[("mtime", b"-1.25")]);
    append(&mut low, "etc/gone", b'0', b"gone", &[]);
    append(&mut low, "dir/", b'5', b"", &[]);
    append(&mut low, "dir/hidden", b'0', b"hidden", &[]);
    append(&mut low, "dev/null", b'3', b"", &[]);
    append(&mut low, "dev/disk", b'4', b"", &[]);
    append(&mut low, "dev/fifo", b'6', b"", &[]);
    let long = format!("{}/{}", "d".repeat(120), "n".repeat(200));
    append(&mut low, &long, b'0', b"long", &[]);
    let mut top = tar::Builder::new(Vec::new());
    append(&mut top, "etc/.wh.gone", b'0', b"", &[]);
    append(&mut top, "dir/.wh..wh..opq", b'0', b"", &[]);
    append(&mut top, "dir/new", b'0', b"new", &[("uid", b"4000000000")]);
    let ids: Pax<'_> = &[
        ("SCHILY.xattr.user.text", b"a\nb=c\0d"),
        (
            "SCHILY.xattr.security.capability",
            b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        ),
    ];
    append(&mut top, "tool", b'0', b"tool", ids);
    let mut sparse = vec![0; 3 << 20];
    sparse[1 << 20..(1 << 20) + 100].fill(7);
    sparse.extend_from_slice(b"the end");
    append(&mut top, "sparse", b'0', &sparse, &[]);
    append(&mut top, "large", b'0', &Rng(3).bytes(200_000), &[]);
    let mut layers = vec![low.into_inner().unwrap(), top.into_inner().unwrap()];
    let target = format!("/{}", "t".repeat(300));
    layers.push(tar_of(&[
        ("a/", 'd', ""),
        ("a/file", 'f', "linked"),
        ("twin", 'h', "a/file"),
        ("a/zwin", 'h', "a/file"),
        ("long", 'l', &target),
        ("lib", 'l', "a"),
    ]));
    layers
}

fn image(at: &Path) -> Converted {
    let source = at.join("src");
    oci_layout(&source, &layers(), Pack::Plain, |_| {});
    run(&Source::OciDir(source, None), &at.join("image")).unwrap()
}

fn assert_same_layers(expected: &Converted, found: &Converted, what: &str) {
    assert_eq!(expected.image.layers.len(), found.image.layers.len());
    for (a, b) in expected.image.layers.iter().zip(&found.image.layers) {
        assert_same(&core_snapshot(&a.path), &core_snapshot(&b.path), what);
    }
    assert_eq!(
        expected.image.config["config"],
        found.image.config["config"]
    );
    assert_eq!(
        expected.image.config["created"],
        found.image.config["created"]
    );
}

fn read_json(layout: &Path, digest: &Value) -> Value {
    let name = digest.as_str().unwrap().strip_prefix("sha256:").unwrap();
    let bytes = fs::read(layout.join("blobs/sha256").join(name)).unwrap();
    assert_eq!(Sha256Digest::of(&bytes).hex(), name);
    serde_json::from_slice(&bytes).unwrap()
}

/// Names and types in a tar archive, in their order.
fn members(tar: &[u8]) -> Vec<(String, u8)> {
    let mut archive = tar::Archive::new(tar);
    let entries = archive.entries().unwrap().map(|entry| {
        let entry = entry.unwrap();
        let name = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
        (name, entry.header().entry_type().as_byte())
    });
    entries.collect()
}

#[test]
fn an_image_becomes_tar_layers_and_is_the_same_again() {
    let temp = tempfile::tempdir().unwrap();
    let converted = image(temp.path());
    let stop = AtomicBool::new(false);
    let options = ExportOptions {
        stop: &stop,
        progress: &(),
    };
    let mut diff_ids = Vec::new();
    for (packing, end) in [
        (Packing::Gzip, "tar+gzip"),
        (Packing::Zstd, "tar+zstd"),
        (Packing::None, "tar"),
    ] {
        let out = temp.path().join(end);
        let layout = Layout::create(&out).unwrap();
        let made = export_oci(&converted.image, &layout, "v1", packing, &options).unwrap();
        assert_eq!((made.layers, made.notes), (3, Vec::<String>::new()));
        // As the specification has it.
        let index: Value =
            serde_json::from_slice(&fs::read(out.join("index.json")).unwrap()).unwrap();
        let entry = &index["manifests"][0];
        assert_eq!(
            entry["annotations"]["org.opencontainers.image.ref.name"],
            "v1"
        );
        let manifest = read_json(&out, &entry["digest"]);
        let kept = serde_json::json!({ "org.example.kept": "yes" });
        assert_eq!(manifest["annotations"], kept);
        let config = read_json(&out, &manifest["config"]["digest"]);
        let ids = config["rootfs"]["diff_ids"].as_array().unwrap();
        assert_eq!(config["history"].as_array().unwrap().len(), 3);
        diff_ids.push(ids.clone());
        for (number, layer) in manifest["layers"].as_array().unwrap().iter().enumerate() {
            let kind = format!("application/vnd.oci.image.layer.v1.{end}");
            assert_eq!(layer["mediaType"], kind);
            let digest = &layer["digest"].as_str().unwrap()[7..];
            let bytes = fs::read(out.join("blobs/sha256").join(digest)).unwrap();
            assert_eq!(layer["size"], bytes.len());
            let mut plain = Vec::new();
            match packing {
                Packing::Gzip => {
                    let mut packed = flate2::read::GzDecoder::new(&bytes[..]);
                    packed.read_to_end(&mut plain).unwrap();
                }
                Packing::Zstd => plain = zstd::decode_all(&bytes[..]).unwrap(),
                Packing::None => plain = bytes,
            }
            assert_eq!(ids[number], Sha256Digest::of(&plain).to_string());
            let members = members(&plain);
            let at = |name: &str| members.iter().position(|(found, _)| found == name);
            assert_eq!(members[0], ("./".into(), b'5'));
            match number {
                1 => {
                    // What takes away comes first.
                    assert!(at("dir/.wh..wh..opq") < at("dir/new"), "{members:?}");
                    assert!(at("etc/.wh.gone").is_some(), "{members:?}");
                    assert!(at("etc/gone").is_none(), "{members:?}");
                }
                2 => {
                    assert_eq!(members[at("a/file").unwrap()].1, b'0');
                    for name in ["a/zwin", "twin"] {
                        assert_eq!(members[at(name).unwrap()].1, b'1');
                    }
                }
                _ => {}
            }
        }
        // And it is the image that it was.
        let source = Source::OciDir(out, Some("v1".into()));
        let again = run(&source, &temp.path().join("again")).unwrap();
        assert_same_layers(&converted, &again, end);
    }
    assert_eq!(diff_ids[0], diff_ids[1]);
    assert_eq!(diff_ids[0], diff_ids[2]);

    let path = temp.path().join("docker.tar");
    let mut file = File::create(&path).unwrap();
    let (kind, tag) = (DockerLayers::Tar, Some("team/app:v1"));
    export_docker(&converted.image, kind, tag, &options, &mut file).unwrap();
    let source = Source::DockerArchive(path, Some("team/app:v1".into()));
    let again = run(&source, &temp.path().join("docker")).unwrap();
    assert_same_layers(&converted, &again, "docker");
    let found: Vec<_> = again
        .image
        .layers
        .iter()
        .map(|l| l.diff_id.clone())
        .collect();
    let ids = diff_ids[0].iter().map(|id| id.as_str().map(str::to_owned));
    assert_eq!(found, ids.collect::<Vec<_>>());
}

#[test]
fn a_damaged_layer_goes_nowhere() {
    use std::os::unix::fs::{FileExt, PermissionsExt};
    let temp = tempfile::tempdir().unwrap();
    let image = image(temp.path()).image;
    let path = &image.layers[1].path;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(b"EVIL", 4096).unwrap();
    let stop = AtomicBool::new(false);
    let options = ExportOptions {
        stop: &stop,
        progress: &(),
    };
    let layout = Layout::create(&temp.path().join("out")).unwrap();
    let error = export_oci(&image, &layout, "x", Packing::None, &options).unwrap_err();
    assert!(matches!(error, ImageError::Digest { .. }), "{error}");
    let left = fs::read_dir(temp.path().join("out/blobs/sha256"));
    assert_eq!(left.unwrap().count(), 0);
    for kind in [DockerLayers::Tar, DockerLayers::Files] {
        let done = export_docker(&image, kind, None, &options, &mut std::io::sink());
        assert!(matches!(done, Err(ImageError::Digest { .. })), "{done:?}");
    }
}

#[test]
fn layer_files_are_docker_layers_of_their_own() {
    let temp = tempfile::tempdir().unwrap();
    let stop = AtomicBool::new(false);
    let options = ExportOptions {
        stop: &stop,
        progress: &(),
    };
    let mut ids = Vec::new();
    for count in [2, 3] {
        let at = temp.path().join(count.to_string());
        oci_layout(&at.join("src"), &layers()[..count], Pack::Gzip, |_| {});
        let converted = run(&Source::OciDir(at.join("src"), None), &at.join("out")).unwrap();
        let path = at.join("archive.tar");
        let mut file = File::create(&path).unwrap();
        let (kind, tag) = (DockerLayers::Files, Some("app:v1"));
        export_docker(&converted.image, kind, tag, &options, &mut file).unwrap();
        let name = format!("docker-archive:{}:app:v1", path.display());
        let outer = run(&parse(&name), &at.join("outer")).unwrap();
        let config = &outer.image.config;
        assert_eq!(config["config"], converted.image.config["config"]);
        assert_eq!(config["history"].as_array().unwrap().len(), count);
        assert_eq!(outer.image.layers.len(), count);
        for (number, (inner, layer)) in converted
            .image
            .layers
            .iter()
            .zip(&outer.image.layers)
            .enumerate()
        {
            let tree = core_snapshot(&layer.path);
            let names: Vec<_> = tree.keys().map(|name| &name[..]).collect();
            let name = format!("{number}.img").into_bytes();
            assert_eq!(names, [&b""[..], &name]);
            assert_eq!(tree[&name].content, inner.digest.0);
        }
        let layers = outer.image.layers.iter();
        ids.push(
            layers
                .map(|layer| layer.diff_id.clone())
                .collect::<Vec<_>>(),
        );
    }
    // Registries keep what both have once.
    assert_eq!(ids[0], ids[1][..2]);
}

#[test]
fn what_an_archive_cannot_hold_is_told() {
    let temp = tempfile::tempdir().unwrap();
    let tree = temp.path().join("tree");
    fs::create_dir_all(tree.join("d")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(tree.join("d/socket")).unwrap();
    fs::write(tree.join("d/file"), "x").unwrap();
    fs::write(tree.join(format!("d/.wh.{}", "w".repeat(251))), "").unwrap();
    let converted = run(&Source::Dir(tree), &temp.path().join("image")).unwrap();
    let stop = AtomicBool::new(false);
    let options = ExportOptions {
        stop: &stop,
        progress: &(),
    };
    let layout = Layout::create(&temp.path().join("out")).unwrap();
    let packing = Packing::None;
    let made = export_oci(&converted.image, &layout, "latest", packing, &options).unwrap();
    assert_eq!(
        made.notes,
        ["layer 1: /d/socket left out: archives have no sockets"]
    );
    // One that is stopped leaves nothing.
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let layout = Layout::create(&temp.path().join("stopped")).unwrap();
    let error = export_oci(&converted.image, &layout, "x", packing, &options).unwrap_err();
    assert!(matches!(error, ImageError::Interrupted), "{error}");
    let left = fs::read_dir(temp.path().join("stopped/blobs/sha256"));
    assert_eq!(left.unwrap().count(), 0);
}

#[test]
fn a_layer_becomes_no_larger_than_its_archive_makes_likely() {
    let temp = tempfile::tempdir().unwrap();
    let text = "A".repeat(3 << 20);
    let other = "B".repeat(3 << 20);
    let zeros = "\0".repeat(64 << 20);
    let large = tar_of(&[("a", 'f', &text), ("b", 'f', &other)]);
    let cheap = tar_of(&[
        ("a", 'f', &text),
        ("twin", 'f', &text),
        ("third", 'f', &text),
        ("holes", 'f', &zeros),
    ]);
    let source = |name: &str, tar: &Vec<u8>| {
        let dir = temp.path().join(name);
        oci_layout(&dir, std::slice::from_ref(tar), Pack::Zstd, |_| {});
        Source::OciDir(dir, None)
    };
    let stop = AtomicBool::new(false);
    let convert_to = |source: &Source, max_size| {
        let layout = Layout::create(&temp.path().join("image"))?;
        let options = ConvertOptions {
            max_size,
            ..ConvertOptions::new("latest", &stop)
        };
        convert(source, &layout, &options, &())
    };
    let source_of_large = source("large", &large);
    let error = convert_to(&source_of_large, Some(4 << 20))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("more than 4194304 bytes of data") && error.contains("--max-size"),
        "{error}"
    );
    convert_to(&source_of_large, None).unwrap();
    convert_to(&source_of_large, Some(6 << 20)).unwrap();
    // Holes take no room, and what is there already only until that is known.
    convert_to(&source("cheap", &cheap), Some(7 << 20)).unwrap();

    // By default so much as is likely: some kilobytes do not become a gigabyte.
    struct Bomb(u64);
    impl Read for Bomb {
        fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
            let len = (buf.len() as u64).min(self.0) as usize;
            buf[..len].fill((self.0 >> 16) as u8 | 1);
            self.0 -= len as u64;
            Ok(len)
        }
    }
    let size = 300 << 20;
    let mut header = tar::Header::new_gnu();
    header.set_path("bomb").unwrap();
    header.set_size(size);
    header.set_cksum();
    let archive = header.as_bytes().chain(Bomb(size)).chain(&[0; 1024][..]);
    let packed = zstd::encode_all(archive, 1).unwrap();
    assert!(packed.len() < 1 << 20, "{}", packed.len());
    let image = temp.path().join("bomb.img");
    let build = |max_size| {
        let options = varve_image::BuildOptions {
            max_size,
            ..Default::default()
        };
        varve_image::build_tar(&mut &packed[..], "bomb", &image, &options, &mut ())
    };
    let error = build(None).unwrap_err().to_string();
    assert!(
        error.contains("more than 268435456 bytes of data"),
        "{error}"
    );
    assert!(!image.exists());
}

/// What a listener was told.
#[derive(Default)]
struct Told(std::sync::Mutex<BTreeMap<usize, Part>>);

/// Name of a part, its size if that is known, and how much was said to be done.
type Part = (String, Option<u64>, u64);

impl ConvertProgress for Told {
    fn begin(&self, layer: usize, name: &str, total: Option<u64>) {
        let mut told = self.0.lock().unwrap();
        told.insert(layer, (name.to_owned(), total, 0));
    }

    fn advance(&self, layer: usize, done: u64) {
        self.0.lock().unwrap().get_mut(&layer).unwrap().2 = done;
    }
}

#[test]
fn progress_has_the_names_and_totals_of_layers_in_every_form() {
    let temp = tempfile::tempdir().unwrap();
    let layers = layers();
    docker_archive(&temp.path().join("saved.tar"), &layers);
    let source = Source::DockerArchive(temp.path().join("saved.tar"), None);
    let told = Told::default();
    let stop = AtomicBool::new(false);
    let layout = Layout::create(&temp.path().join("image")).unwrap();
    let options = ConvertOptions::new("latest", &stop);
    convert(&source, &layout, &options, &told).unwrap();
    let told = told.0.into_inner().unwrap();
    for (number, layer) in layers.iter().enumerate() {
        let size = layer.len() as u64;
        let expected = (Sha256Digest::of(layer).hex(), Some(size), size);
        assert_eq!(told[&number], expected);
    }
}
