//! Conversion of container images: every form of a source gives the same layers, and nothing wrong gets in.

mod oci;
mod oracle;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use oci::*;
use oracle::*;
use serde_json::{Value, json};
use varve_image::oci::{
    ConvertOptions, ConvertProgress, Converted, ImageError, Layout, Platform, Sha256Digest, Source,
    convert,
};

fn layers() -> Vec<Vec<u8>> {
    vec![
        tar_of(&[
            ("etc/", 'd', ""),
            ("etc/passwd", 'f', "root:x:0:0:::\n"),
            ("tmp/", 'd', ""),
            ("gone", 'f', "x"),
            ("link", 'l', "etc/passwd"),
        ]),
        tar_of(&[
            (".wh.gone", 'f', ""),
            ("etc/new", 'f', &"n".repeat(9000)),
            ("etc/twin", 'h', "etc/new"),
        ]),
        tar_of(&[("tmp/.wh..wh..opq", 'f', ""), ("tmp/deep/x", 'f', "x")]),
    ]
}

/// The files of a directory of images, by name.
fn blobs(dir: &Path) -> BTreeMap<String, u64> {
    let entries = fs::read_dir(dir.join("blobs/sha256")).unwrap();
    entries
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, entry.metadata().unwrap().len())
        })
        .collect()
}

#[test]
fn every_form_gives_the_same_layers() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    let layers = layers();
    for (name, how) in [
        ("plain", Pack::Plain),
        ("gzip", Pack::Gzip),
        ("zstd", Pack::Zstd),
    ] {
        oci_layout(&at(name), &layers, how, |_| {});
    }
    let mut tar = tar::Builder::new(File::create(at("oci.tar")).unwrap());
    tar.append_dir_all(".", at("gzip")).unwrap();
    tar.into_inner().unwrap();
    docker_archive(&at("docker.tar"), &layers);
    let packed = pack(&fs::read(at("docker.tar")).unwrap(), Pack::Gzip).0;
    fs::write(at("docker.tar.gz"), packed).unwrap();

    let shown = temp.path().display().to_string();
    let first = run(&parse(&format!("oci:{shown}/plain:v1")), &at("out0")).unwrap();
    for (number, source) in [
        "oci:DIR/gzip",
        "oci:DIR/zstd:v1",
        "DIR/plain",
        "oci-archive:DIR/oci.tar",
        "oci-archive:DIR/oci.tar:v1",
        "docker-archive:DIR/docker.tar",
        "docker-archive:DIR/docker.tar:team/app:v1",
        "docker-archive:DIR/docker.tar.gz",
    ]
    .iter()
    .enumerate()
    {
        let source = parse(&source.replace("DIR", &shown));
        let other = run(&source, &at(&format!("out{}", number + 1))).unwrap();
        assert_eq!(digests(&other), digests(&first), "{source:?}");
        assert_eq!(other.image.config, first.image.config, "{source:?}");
        let index = |converted: &Converted| converted.image.index.clone().map(|i| i.digest);
        assert_eq!(index(&other), index(&first));
    }

    // All of the configuration stays but what names the layers.
    let mut expected = config(&layers);
    let ids: Vec<_> = digests(&first).iter().map(ToString::to_string).collect();
    expected["rootfs"]["diff_ids"] = json!(ids);
    assert_eq!(first.image.config, expected);
    let annotations = first.image.manifest.annotations().clone().unwrap();
    assert_eq!(annotations["org.example.kept"], "yes");
    for (layer, tar) in first.image.layers.iter().zip(&layers) {
        let diff_id = Sha256Digest::of(tar).to_string();
        assert_eq!(layer.diff_id.as_ref(), Some(&diff_id));
        let mode = fs::metadata(&layer.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o444);
        check_sealed(&layer.path);
        fsck(&layer.path);
    }
    // What was converted can be converted again and stays the same.
    let again = run(&Source::OciDir(at("out0"), None), &at("again")).unwrap();
    assert_eq!(again.image.digest, first.image.digest);
}

#[test]
fn directories_without_an_entry_are_those_of_the_layers_below() {
    let temp = tempfile::tempdir().unwrap();
    let source = temp.path().join("source");
    oci_layout(&source, &layers(), Pack::Gzip, |_| {});
    let converted = run(&Source::OciDir(source, None), &temp.path().join("out")).unwrap();
    let second = image_snapshot(&converted.image.layers[1].path);
    // `etc` and the root of the second layer, and `tmp` of the third, have no entries there.
    let etc = &second[&b"etc"[..]];
    assert_eq!((etc.mode, etc.uid, etc.gid), (0o040750, 7, 8));
    assert_eq!(etc.mtime, (1_600_000_000, 0));
    assert_eq!(second[&b""[..]].mode, 0o040755);
    let third = image_snapshot(&converted.image.layers[2].path);
    let tmp = &third[&b"tmp"[..]];
    assert_eq!((tmp.mode, tmp.uid), (0o040750, 7));
    assert_eq!(tmp.xattrs[&b"trusted.overlay.opaque"[..]], b"y");
    // No layer has this one.
    assert_eq!(third[&b"tmp/deep"[..]].mode, 0o040755);
}

#[test]
fn an_opaque_root_hides_the_layers_below() {
    let temp = tempfile::tempdir().unwrap();
    let source = temp.path().join("source");
    let mut layers = layers();
    layers.push(tar_of(&[
        ("etc/only", 'f', "x"),
        (".wh..wh..opq", 'f', ""),
        ("tmp", 'f', "a file now"),
    ]));
    oci_layout(&source, &layers, Pack::Gzip, |_| {});
    let converted = run(&Source::OciDir(source, None), &temp.path().join("out")).unwrap();
    let index: Vec<_> = merged_entries(&converted).into_keys().collect();
    assert_eq!(index, ["", "etc", "etc/only", "tmp"]);
    let top = image_snapshot(&converted.image.layers[3].path);
    // Overlayfs does not look whether the root is opaque.
    assert!(
        !top[&b""[..]]
            .xattrs
            .contains_key(&b"trusted.overlay.opaque"[..])
    );
    assert_eq!(top[&b"link"[..]].mode, 0o020000);
    assert_eq!(
        top[&b"etc"[..]].xattrs[&b"trusted.overlay.opaque"[..]],
        b"y"
    );
}

#[test]
fn layers_are_kept_once_and_go_with_their_last_image() {
    let temp = tempfile::tempdir().unwrap();
    let store = temp.path().join("store");
    // Layers that stand for themselves, so that another image can have the same.
    let full = |name: &str| tar_of(&[("./", 'd', ""), (name, 'f', name)]);
    let (a, b, c) = (full("a"), full("b"), full("c"));
    oci_layout(
        &temp.path().join("one"),
        &[a.clone(), b],
        Pack::Gzip,
        |_| {},
    );
    oci_layout(&temp.path().join("two"), &[a, c], Pack::Zstd, |_| {});
    let source = |name: &str| Source::OciDir(temp.path().join(name), None);
    let one = run_with(&source("one"), &store, "one:latest", false).unwrap();
    assert_eq!((one.made, one.reused), (2, 0));
    let two = run_with(&source("two"), &store, "two:latest", false).unwrap();
    assert_eq!((two.made, two.reused), (1, 1));
    assert_eq!(digests(&one)[0], digests(&two)[0]);
    // 3 layers, 2 indexes, 2 configurations, 2 manifests.
    assert_eq!(blobs(&store).len(), 9);

    let layout = Layout::open(&store).unwrap();
    let names = |layout: &Layout| -> Vec<_> {
        let images = layout.images().unwrap();
        images
            .into_iter()
            .map(|stored| stored.name.unwrap())
            .collect()
    };
    assert_eq!(names(&layout), ["one:latest", "two:latest"]);
    assert!(matches!(
        layout.image(Some("three")),
        Err(ImageError::NotFound { .. })
    ));
    let digits = two.image.digest.hex();
    assert_eq!(
        layout.image(Some(&digits[..12])).unwrap().name.as_deref(),
        Some("two:latest")
    );
    // What a killed conversion left.
    fs::write(store.join("blobs/sha256/.new-layer.1.0"), "half").unwrap();
    let pruned = layout.remove("one").unwrap();
    assert_eq!(pruned.blobs, 5);
    assert_eq!(names(&layout), ["two:latest"]);
    assert_eq!(blobs(&store).len(), 5);
    assert_eq!(digests(&two), {
        let image = layout.image(Some("two")).unwrap();
        image.layers.iter().map(|l| l.digest).collect::<Vec<_>>()
    });
    layout.remove("two").unwrap();
    assert!(blobs(&store).is_empty());
}

#[test]
fn conversions_side_by_side_do_not_lose_each_other() {
    let temp = tempfile::tempdir().unwrap();
    let store = temp.path().join("store");
    let sources: Vec<PathBuf> = (0..6)
        .map(|number| {
            let dir = temp.path().join(format!("s{number}"));
            let own = tar_of(&[("./", 'd', ""), ("own", 'f', &"x".repeat(number * 5000))]);
            oci_layout(&dir, &[layers()[0].clone(), own], Pack::Gzip, |_| {});
            dir
        })
        .collect();
    std::thread::scope(|scope| {
        for (number, dir) in sources.iter().enumerate() {
            let store = &store;
            scope.spawn(move || {
                let name = format!("i{number}:latest");
                run_with(&Source::OciDir(dir.clone(), None), store, &name, false).unwrap();
            });
        }
    });
    let layout = Layout::open(&store).unwrap();
    let images = layout.images().unwrap();
    assert_eq!(images.len(), 6);
    assert!(images.iter().all(|stored| stored.image.is_ok()));
    assert_eq!(layout.prune().unwrap().blobs, 0);
}

/// The message of a conversion that must fail and leave nothing.
fn refused(source: &Path, change: impl FnOnce(&Path)) -> String {
    change(source);
    let out = source.with_extension("out");
    let error = run(&Source::OciDir(source.to_owned(), None), &out).unwrap_err();
    assert_eq!(blobs(&out).len(), 0, "{error}");
    assert!(Layout::open(&out).unwrap().images().unwrap().is_empty());
    error.to_string()
}

#[test]
fn what_lies_about_itself_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let fresh = |name: &str, change: &dyn Fn(&mut Value)| {
        let dir = temp.path().join(name);
        oci_layout(&dir, &layers(), Pack::Gzip, change);
        dir
    };
    let (packed, _) = pack(&layers()[1], Pack::Gzip);
    let blob = |dir: &Path| {
        dir.join("blobs/sha256")
            .join(Sha256Digest::of(&packed).hex())
    };

    let text = refused(&fresh("flip", &|_| {}), |dir| {
        let mut bytes = packed.clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
        fs::write(blob(dir), bytes).unwrap();
    });
    assert!(text.contains("tampered with"), "{text}");
    let text = refused(&fresh("cut", &|_| {}), |dir| {
        fs::write(blob(dir), &packed[..packed.len() - 9]).unwrap();
    });
    assert!(text.contains("bytes long, its descriptor says"), "{text}");
    let text = refused(&fresh("missing", &|_| {}), |dir| {
        fs::remove_file(blob(dir)).unwrap();
    });
    assert!(text.contains("cannot open"), "{text}");
    let text = refused(
        &fresh("size", &|manifest| {
            manifest["layers"][0]["size"] = json!(1_u64 << 60);
        }),
        |_| {},
    );
    assert!(
        text.contains("its descriptor says 1152921504606846976"),
        "{text}"
    );
    let text = refused(
        &fresh("count", &|manifest| {
            manifest["layers"].as_array_mut().unwrap().pop();
        }),
        |_| {},
    );
    assert!(
        text.contains("has 2 layers, its configuration names 3"),
        "{text}"
    );
    let text = refused(
        &fresh("digest", &|manifest| {
            manifest["layers"][0]["digest"] = json!("sha256:../../../../etc/passwd");
        }),
        |_| {},
    );
    assert!(text.contains("is malformed"), "{text}");
    let text = refused(
        &fresh("type", &|manifest| {
            manifest["layers"][0]["mediaType"] =
                json!("application/vnd.oci.image.layer.v1.tar+encrypted");
        }),
        |_| {},
    );
    assert!(text.contains("tar+encrypted"), "{text}");
    // A layer whose DiffID is another one.
    let other = layers()[2].clone();
    let text = refused(
        &fresh("diff", &|manifest| {
            let list = manifest["layers"].as_array_mut().unwrap();
            list[0] = list[2].clone();
        }),
        |_| drop(other),
    );
    assert!(text.contains("(uncompressed)"), "{text}");
    // A manifest that was changed.
    let dir = fresh("manifest", &|_| {});
    let text = refused(&dir, |dir| {
        let index = fs::read_to_string(dir.join("index.json")).unwrap();
        let index: Value = serde_json::from_str(&index).unwrap();
        let digest = index["manifests"][0]["digest"].as_str().unwrap();
        let path = dir.join("blobs/sha256").join(&digest[7..]);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(path, text.replace("yes", "not")).unwrap();
    });
    assert!(text.contains("tampered with"), "{text}");
}

#[test]
fn a_conversion_that_is_stopped_leaves_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let source = temp.path().join("source");
    oci_layout(&source, &layers(), Pack::Gzip, |_| {});
    let out = temp.path().join("out");
    let error = run_with(&Source::OciDir(source, None), &out, "x", true).unwrap_err();
    assert!(matches!(error, ImageError::Interrupted), "{error}");
    assert!(blobs(&out).is_empty());
    Layout::open(&out).unwrap().remove_if_empty();
    assert!(!out.exists());
}

#[test]
fn a_directory_is_left_as_soon_as_somebody_wants_the_end() {
    struct StopAt<'a>(&'a AtomicBool, AtomicU64);
    impl ConvertProgress for StopAt<'_> {
        fn advance(&self, _: usize, done: u64) {
            self.1.store(done, Ordering::Relaxed);
            self.0.store(done > 1000, Ordering::Relaxed);
        }
    }
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    fs::create_dir(at("tree")).unwrap();
    for number in 0..500 {
        fs::write(
            at("tree").join(number.to_string()),
            format!("{number:0100}"),
        )
        .unwrap();
    }
    let stop = AtomicBool::new(false);
    let options = ConvertOptions::new("x", &stop);
    let layout = Layout::create(&at("out")).unwrap();
    let progress = StopAt(&stop, AtomicU64::new(0));
    let error = convert(&Source::Dir(at("tree")), &layout, &options, &progress).unwrap_err();
    assert!(matches!(error, ImageError::Interrupted), "{error}");
    assert!(progress.1.load(Ordering::Relaxed) < 2000);
    assert!(blobs(&at("out")).is_empty());
}

#[test]
fn the_image_for_this_machine_is_chosen() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("source");
    oci_layout(&dir, &layers()[..1], Pack::Gzip, |_| {});
    let index = fs::read_to_string(dir.join("index.json")).unwrap();
    let index: Value = serde_json::from_str(&index).unwrap();
    let mut right = index["manifests"][0].clone();
    right.as_object_mut().unwrap().remove("annotations");
    right["platform"] = json!({ "os": "linux", "architecture": Platform::default().architecture });
    let mut wrong = right.clone();
    wrong["platform"] = json!({ "os": "linux", "architecture": "s390x" });
    wrong["digest"] = json!(Sha256Digest::of(b"not there").to_string());
    let mut attestation = wrong.clone();
    attestation["platform"] = json!({ "os": "unknown", "architecture": "unknown" });
    let several = json!({ "schemaVersion": 2, "manifests": [wrong, right, attestation] });
    let nested = with_type(
        put(&dir, several.to_string().as_bytes()),
        "application/vnd.oci.image.index.v1+json",
    );
    let index = json!({ "schemaVersion": 2, "manifests": [nested] });
    fs::write(dir.join("index.json"), index.to_string()).unwrap();
    let source = Source::OciDir(dir.clone(), None);
    assert_eq!(run(&source, &temp.path().join("out")).unwrap().made, 1);

    let stop = AtomicBool::new(false);
    let layout = Layout::create(&temp.path().join("other")).unwrap();
    let options = ConvertOptions {
        platform: "linux/riscv64".parse().unwrap(),
        ..ConvertOptions::new("x", &stop)
    };
    let error = convert(&source, &layout, &options, &()).unwrap_err();
    assert!(
        error.to_string().contains("has no image for linux/riscv64"),
        "{error}"
    );
}

#[test]
fn the_sample_of_zar_is_read_as_described() {
    let temp = tempfile::tempdir().unwrap();
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/zar-v1.img");
    let source = Source::Zar(vec![sample.clone()]);
    let converted = run(&source, &temp.path().join("out")).unwrap();
    let path = &converted.image.layers[0].path;
    check_sealed(path);
    fsck(path);
    let tree = image_snapshot(path);
    let shown: Vec<_> = tree
        .iter()
        .map(|(path, entry)| {
            let path = String::from_utf8_lossy(path).into_owned();
            (path, entry.mode, entry.size, entry.mtime.0)
        })
        .collect();
    // Times of the described file and of the day the sample was made.
    let (told, time) = (1_561_817_811, 1_795_444_422);
    let expected = [
        ("", 0o040755, 0, 0),
        ("a.txt", 0o100644, 6, told),
        ("gone", 0o020000, 0, 0),
        ("sub", 0o040755, 0, time),
        ("sub/b.bin", 0o100644, 5000, time),
        ("sub/deep", 0o040750, 0, time),
        ("sub/deep/run.sh", 0o100755, 10, time),
        ("sub/link", 0o120777, 8, time),
    ];
    let expected: Vec<_> = expected
        .into_iter()
        .map(|(path, mode, size, time)| (path.to_owned(), mode, size, time))
        .collect();
    assert_eq!(shown, expected);
    let digest = |bytes: &[u8]| Sha256Digest::of(bytes).0.to_vec();
    assert_eq!(tree[&b"a.txt"[..]].content, digest(b"hello\n"));
    assert_eq!(tree[&b"sub/b.bin"[..]].content, digest(&[b'x'; 5000]));
    assert_eq!(
        tree[&b"sub/deep/run.sh"[..]].content,
        digest(b"#!/bin/sh\n")
    );
    assert_eq!(tree[&b"sub/link"[..]].content, b"../a.txt");

    // Every cut and every flipped bit is an error or another tree, never a panic.
    let bytes = fs::read(&sample).unwrap();
    let broken = temp.path().join("broken.zar");
    let check = |bytes: &[u8]| {
        fs::write(&broken, bytes).unwrap();
        let _ = run(&Source::Zar(vec![broken.clone()]), &temp.path().join("b"));
    };
    for len in (0x3ff0..bytes.len()).step_by(7).chain([0, 9, 10]) {
        check(&bytes[..len]);
    }
    for at in (0x4000..bytes.len()).step_by(3) {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1 << (at % 8);
        check(&bytes);
    }
}

#[test]
fn erofs_layers_of_other_tools_are_taken_as_they_are() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    let tree = at("tree");
    fs::create_dir(&tree).unwrap();
    let mut images = Vec::new();
    for name in ["low", "high"] {
        fs::write(tree.join(name), name.repeat(3000)).unwrap();
        let image = at("image");
        build(&tree, &image);
        images.push(fs::read(image).unwrap());
    }
    let with = |name: &str, how, kind: &str, annotations: Value| {
        let dir = at(name);
        oci_layout(&dir, &images, how, |manifest| {
            for (layer, image) in manifest["layers"]
                .as_array_mut()
                .unwrap()
                .iter_mut()
                .zip(&images)
            {
                layer["mediaType"] = kind.into();
                layer["annotations"] = annotations.clone();
                if layer["annotations"]["org.erofs.uncompressed-digest"] == "right" {
                    let digest = Sha256Digest::of(image).to_string();
                    layer["annotations"]["org.erofs.uncompressed-digest"] = digest.into();
                }
            }
        });
        run(&Source::OciDir(dir, None), &at(&format!("{name}-out")))
    };
    let expected = with(
        "a",
        Pack::Plain,
        "application/vnd.erofs.layer.v1",
        json!({}),
    )
    .unwrap();
    for (layer, image) in expected.image.layers.iter().zip(&images) {
        assert!(fs::read(&layer.path).unwrap().starts_with(image));
    }
    for (name, how, kind, annotations) in [
        (
            "b",
            Pack::Plain,
            "application/vnd.erofs",
            json!({ "org.erofs.role": "overlay-lower" }),
        ),
        (
            "c",
            Pack::Zstd,
            "application/vnd.erofs+zstd",
            json!({ "org.erofs.uncompressed-digest": "right" }),
        ),
        (
            "d",
            Pack::Zstd,
            "application/vnd.erofs.layer.v1+zstd",
            json!({}),
        ),
    ] {
        let other = with(name, how, kind, annotations).unwrap();
        assert_eq!(digests(&other), digests(&expected), "{kind}");
    }

    // What others say of a layer must be so.
    for (name, annotations, text) in [
        (
            "role",
            json!({ "org.erofs.role": "device" }),
            "has the role \"device\"",
        ),
        (
            "unpacked",
            json!({ "org.erofs.uncompressed-digest": Sha256Digest::of(b"other").to_string() }),
            "by its annotation",
        ),
        (
            "verity",
            json!({
                "org.erofs.dmverity.root_digest": Sha256Digest::of(b"other").to_string(),
                "org.erofs.dmverity.hash_offset": "4096",
            }),
            "Merkle tree is not that of its data",
        ),
    ] {
        let error = with(name, Pack::Plain, "application/vnd.erofs", annotations);
        let error = error.unwrap_err().to_string();
        assert!(error.contains(text), "{name}: {error}");
    }
    // A layer that was sealed keeps its tree.
    let sealed = run(&Source::OciDir(at("a-out"), None), &at("sealed")).unwrap();
    assert_eq!(digests(&sealed), digests(&expected));
    assert!(
        sealed
            .image
            .layers
            .iter()
            .all(|layer| layer.verity.is_some())
    );
}

#[test]
fn plain_sources_become_images_of_one_layer() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("dir");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("file"), "x").unwrap();
    let from_dir = run(&Source::Dir(dir.clone()), &temp.path().join("a")).unwrap();
    let image = temp.path().join("layer.img");
    build(&dir, &image);
    let from_image = run(&parse(image.to_str().unwrap()), &temp.path().join("b")).unwrap();
    assert_eq!(digests(&from_dir), digests(&from_image));
    let blob = fs::read(&from_image.image.layers[0].path).unwrap();
    assert!(blob.starts_with(&fs::read(&image).unwrap()));
    let error = run(
        &Source::Erofs(vec![dir.join("file")]),
        &temp.path().join("c"),
    );
    assert!(error.unwrap_err().to_string().contains("too short"));
    let tar = temp.path().join("layer.tar");
    fs::write(&tar, &layers()[0]).unwrap();
    let from_tar = run(&parse(tar.to_str().unwrap()), &temp.path().join("d")).unwrap();
    assert_eq!(from_tar.image.layers.len(), 1);
    assert_eq!(from_tar.image.config["os"], "linux");
}

/// Puts an image for a machine into a layout; its descriptor, which does not say for which.
fn manifest_for(dir: &Path, architecture: &str, layers: &[Vec<u8>], docker: bool) -> Value {
    let kinds = match docker {
        true => [
            "distribution.manifest.v2+json",
            "container.image.v1+json",
            "image.rootfs.diff.tar.zstd",
        ]
        .map(|end| format!("application/vnd.docker.{end}")),
        false => ["manifest.v1+json", "config.v1+json", "layer.v1.tar+zstd"]
            .map(|end| format!("application/vnd.oci.image.{end}")),
    };
    let mut config = config(layers);
    config["architecture"] = architecture.into();
    let config = with_type(put(dir, config.to_string().as_bytes()), &kinds[1]);
    let layers: Vec<_> = layers
        .iter()
        .map(|layer| with_type(put(dir, &pack(layer, Pack::Zstd).0), &kinds[2]))
        .collect();
    let manifest = json!({ "schemaVersion": 2, "config": config, "layers": layers });
    with_type(put(dir, manifest.to_string().as_bytes()), &kinds[0])
}

fn layout_of(dir: &Path, manifests: &dyn Fn(&Path) -> Vec<Value>) -> Source {
    fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
    fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let index = json!({ "schemaVersion": 2, "manifests": manifests(dir) });
    fs::write(dir.join("index.json"), index.to_string()).unwrap();
    Source::OciDir(dir.to_owned(), None)
}

#[test]
fn an_image_is_found_among_what_tells_nothing_of_itself() {
    let temp = tempfile::tempdir().unwrap();
    let host = Platform::default().architecture;
    let convert = |name: &str, manifests: &dyn Fn(&Path) -> Vec<Value>| {
        let source = layout_of(&temp.path().join(name), manifests);
        run(&source, &temp.path().join(format!("{name}.out")))
    };
    let ours = |dir: &Path| manifest_for(dir, &host, &layers()[..1], false);
    // Indexes that do not say for which machines their images are, one inside the other.
    let nest = |dir: &Path, list: Vec<Value>| {
        let index = json!({ "schemaVersion": 2, "manifests": list });
        let kind = "application/vnd.oci.image.index.v1+json";
        with_type(put(dir, index.to_string().as_bytes()), kind)
    };
    let nested = convert("nested", &|dir| {
        let other = manifest_for(dir, "s390x", &layers(), false);
        vec![nest(
            dir,
            vec![nest(dir, vec![other]), nest(dir, vec![ours(dir)])],
        )]
    });
    assert_eq!(nested.unwrap().made, 1);
    // What is no image: an artifact, by its own word or its descriptor's, and an attestation of docker.
    let beside = convert("beside", &|dir| {
        let empty = with_type(put(dir, b"{}"), "application/vnd.oci.empty.v1+json");
        let sbom = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "application/vnd.example.sbom",
            "config": empty, "layers": [empty],
        });
        let sbom = with_type(put(dir, sbom.to_string().as_bytes()), MANIFEST);
        let mut told = sbom.clone();
        told["artifactType"] = "application/vnd.example.sbom".into();
        let signature = json!({
            "schemaVersion": 2,
            "config": with_type(put(dir, b"{}"), "application/vnd.dev.sigstore.config"),
            "layers": [empty],
        });
        let signature = with_type(put(dir, signature.to_string().as_bytes()), MANIFEST);
        let mut attestation = manifest_for(dir, &host, &layers()[1..], false);
        attestation["annotations"] = json!({ "vnd.docker.reference.type": "attestation-manifest" });
        vec![sbom, told, signature, attestation, ours(dir)]
    });
    assert_eq!(beside.unwrap().made, 1);
    let docker = convert("docker", &|dir| {
        vec![manifest_for(dir, &host, &layers(), true)]
    });
    assert_eq!(docker.unwrap().made, 3);
    // Several without a name go by their digests.
    let two = |dir: &Path| vec![ours(dir), manifest_for(dir, &host, &layers()[..2], false)];
    let error = convert("two", &two).unwrap_err().to_string();
    let digests: Vec<_> = two(&temp.path().join("two"))
        .iter()
        .map(|descriptor| descriptor["digest"].as_str().unwrap()[7..19].to_owned())
        .collect();
    assert!(
        digests.iter().all(|digits| error.contains(digits)),
        "{error}"
    );
    let named = Source::OciDir(temp.path().join("two"), Some(digests[1].clone()));
    assert_eq!(run(&named, &temp.path().join("two.out")).unwrap().made, 2);
    let error = convert("none", &|_| Vec::new()).unwrap_err().to_string();
    assert!(error.contains("no such image"), "{error}");
}

#[test]
fn images_without_a_tag_go_by_the_digest_of_their_configuration() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    let mut tar = tar::Builder::new(File::create(at("two.tar")).unwrap());
    let mut add = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, name, bytes).unwrap();
    };
    let all = layers();
    let mut list = Vec::new();
    for layers in [&all[..1], &all[..2]] {
        let config = config(layers).to_string();
        let name = format!("{}.json", Sha256Digest::of(config.as_bytes()).hex());
        add(&name, config.as_bytes());
        let names: Vec<_> = (0..layers.len())
            .map(|number| format!("{number}.tar"))
            .collect();
        list.push(json!({ "Config": name, "RepoTags": null, "Layers": names }));
    }
    for (number, layer) in all.iter().enumerate() {
        add(&format!("{number}.tar"), layer);
    }
    add("manifest.json", json!(list).to_string().as_bytes());
    tar.into_inner().unwrap();
    let source = |name: Option<&str>| Source::DockerArchive(at("two.tar"), name.map(str::to_owned));
    let error = run(&source(None), &at("out")).unwrap_err().to_string();
    let ids: Vec<_> = list
        .iter()
        .map(|one| one["Config"].as_str().unwrap()[..12].to_owned())
        .collect();
    assert!(ids.iter().all(|id| error.contains(id)), "{error}");
    for (number, id) in ids.iter().enumerate() {
        let converted = run(&source(Some(id)), &at(&format!("out{number}"))).unwrap();
        assert_eq!(converted.made, number + 1);
    }
}
