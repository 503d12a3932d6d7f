//! Layouts and stores as an attacker's input, or used by several at once: nothing that a source says of
//! itself decides what it becomes, and nothing outside a layout is touched.

mod oci;

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use oci::*;
use serde_json::{Value, json};
use varve_image::oci::{ConvertOptions, Converted, Layout, Sha256Digest, Source};
use varve_image::{BuildOptions, build_dir, build_dir_nameless};

fn layers() -> Vec<Vec<u8>> {
    vec![
        // No entry for the root, as in most archives.
        tar_of(&[("etc/", 'd', ""), ("etc/motd", 'f', "genuine")]),
        tar_of(&[("etc/more", 'f', "x"), ("etc/.wh.gone", 'f', "")]),
        tar_of(&[("./", 'd', ""), ("alone", 'f', "y")]),
    ]
}

fn source(dir: &Path) -> Source {
    Source::OciDir(dir.to_owned(), None)
}

fn store(source: &Source, store: &Path, name: &str) -> Converted {
    run_with(source, store, name, false).unwrap()
}

fn blob(dir: &Path, digest: &Sha256Digest) -> PathBuf {
    dir.join("blobs/sha256").join(digest.hex())
}

/// Changes bytes of a blob and gives it its old times again.
fn damage(path: &Path, with: &[u8]) {
    let meta = fs::metadata(path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(with, 4096).unwrap();
    file.set_modified(meta.modified().unwrap()).unwrap();
    fs::set_permissions(path, meta.permissions()).unwrap();
}

/// A layout whose one layer is an EROFS image of our own making, with these annotations.
fn erofs_layout(at: &Path, dir: &Path, annotations: Value) -> Sha256Digest {
    fs::create_dir_all(at.join("blobs/sha256")).unwrap();
    let image = at.with_extension("img");
    build_dir(dir, &image, &BuildOptions::default(), &mut ()).unwrap();
    let bytes = fs::read(&image).unwrap();
    let digest = Sha256Digest::of(&bytes);
    oci_layout(at, &[], Pack::Plain, |manifest| {
        let mut layer = with_type(put(at, &bytes), "application/vnd.erofs.layer.v1");
        layer["annotations"] = annotations;
        manifest["layers"] = json!([layer]);
        let mut config = config(&[]);
        config["rootfs"]["diff_ids"] = json!([digest.to_string()]);
        let config = put(at, config.to_string().as_bytes());
        manifest["config"] = with_type(config, "application/vnd.oci.image.config.v1+json");
    });
    digest
}

#[test]
fn annotations_of_an_image_make_its_layer_no_others() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    let victim = layers()[2].clone();
    let diff_id = Sha256Digest::of(&victim).to_string();
    fs::create_dir(at("evil")).unwrap();
    fs::write(at("evil/alone"), "POISONED").unwrap();
    let told = json!({ "org.varve.diff-id": diff_id, "org.varve.conversion": "1" });
    erofs_layout(&at("attacker"), &at("evil"), told);
    oci_layout(&at("genuine"), &[victim], Pack::Gzip, |_| {});
    store(&source(&at("attacker")), &at("store"), "innocent:latest");
    let genuine = store(&source(&at("genuine")), &at("store"), "debian:latest");
    assert_eq!((genuine.made, genuine.reused), (1, 0));
    assert_eq!(merged_entries(&genuine)["alone"].1, b"y");

    // Nor does a table that came with a directory of somebody else.
    fs::create_dir_all(at("given")).unwrap();
    let copy = std::process::Command::new("cp")
        .args(["-a", "--no-target-directory"])
        .args([at("store"), at("given")])
        .status();
    assert!(copy.unwrap().success());
    let layer = &genuine.image.layers[0];
    damage(&blob(&at("given"), &layer.digest), b"EVIL");
    let again = store(&source(&at("genuine")), &at("given"), "again:latest");
    assert_eq!((again.made, again.reused), (1, 0));
    assert_eq!(merged_entries(&again)["alone"].1, b"y");
}

#[test]
fn who_names_a_layer_must_have_it() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    oci_layout(&at("private"), &layers(), Pack::Gzip, |_| {});
    store(&source(&at("private")), &at("store"), "private:latest");
    // The same DiffIDs over blobs of nothing.
    let (mine, kind) = pack(&tar_of(&[("x", 'f', "")]), Pack::Gzip);
    oci_layout(&at("thief"), &layers(), Pack::Gzip, |manifest| {
        fs::create_dir_all(at("thief/blobs/sha256")).unwrap();
        let layer = with_type(put(&at("thief"), &mine), kind);
        manifest["layers"] = json!([layer, layer, layer]);
    });
    let error = run_with(&source(&at("thief")), &at("store"), "thief:latest", false).unwrap_err();
    assert!(error.to_string().contains("(uncompressed)"), "{error}");
    // The right descriptors over files that are something else.
    oci_layout(&at("liar"), &layers(), Pack::Gzip, |_| {});
    let packed = pack(&layers()[2], Pack::Gzip).0;
    let path = blob(&at("liar"), &Sha256Digest::of(&packed));
    fs::write(&path, vec![0; packed.len()]).unwrap();
    let error = run_with(&source(&at("liar")), &at("store"), "liar:latest", false).unwrap_err();
    assert!(error.to_string().contains("tampered with"), "{error}");
}

#[test]
fn what_was_converted_is_found_again() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    oci_layout(&at("one"), &layers(), Pack::Gzip, |_| {});
    let one = store(&source(&at("one")), &at("store"), "one:latest");
    assert_eq!((one.made, one.reused), (3, 0));
    let again = store(&source(&at("one")), &at("store"), "one:latest");
    assert_eq!((again.made, again.reused), (0, 3));
    assert_eq!(again.image.digest, one.image.digest);
    assert_eq!(
        again.image.index.as_ref().map(|i| i.digest),
        one.image.index.map(|i| i.digest)
    );
    // One layer more.
    let mut more = layers();
    more.push(tar_of(&[("etc/last", 'f', "z")]));
    oci_layout(&at("more"), &more, Pack::Gzip, |_| {});
    let more = store(&source(&at("more")), &at("store"), "more:latest");
    assert_eq!((more.made, more.reused), (1, 3));
    // Another layer below: the second one depends on it, the third does not.
    let mut other = layers();
    other[0] = tar_of(&[("etc/", 'd', ""), ("etc/motd", 'f', "another")]);
    oci_layout(&at("other"), &other, Pack::Gzip, |_| {});
    let other = store(&source(&at("other")), &at("store"), "other:latest");
    assert_eq!(merged_entries(&other)["etc/motd"].1, b"another");
    let third = |converted: &Converted| converted.image.layers[2].digest;
    assert_eq!(third(&other), third(&more));
    // Images of varve itself and archives are found again, too.
    docker_archive(&at("docker.tar"), &layers());
    let docker = Source::DockerArchive(at("docker.tar"), None);
    store(&docker, &at("store"), "docker:latest");
    let again = store(&docker, &at("store"), "docker:latest");
    assert_eq!((again.made, again.reused), (0, 3));
    oci_layout(&at("plain"), &layers(), Pack::Plain, |_| {});
    let plain = store(&source(&at("plain")), &at("store"), "plain:latest");
    assert_eq!((plain.made, plain.reused), (0, 3));
}

#[test]
fn a_damaged_blob_is_put_right_by_converting_again() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    oci_layout(&at("one"), &layers(), Pack::Gzip, |_| {});
    let one = store(&source(&at("one")), &at("store"), "one:latest");
    let digests: Vec<_> = digests(&one);
    for digest in digests.iter().chain([&one.image.index.unwrap().digest]) {
        damage(&blob(&at("store"), digest), b"EVIL");
        store(&source(&at("one")), &at("store"), "one:latest");
        let bytes = fs::read(blob(&at("store"), digest)).unwrap();
        assert_eq!(Sha256Digest::of(&bytes), *digest);
    }
    // Also the small ones.
    let names: Vec<_> = fs::read_dir(at("store/blobs/sha256")).unwrap().collect();
    for entry in names {
        let entry = entry.unwrap();
        let path = entry.path();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(&path, vec![b'x'; entry.metadata().unwrap().len() as usize]).unwrap();
    }
    let again = store(&source(&at("one")), &at("store"), "one:latest");
    assert_eq!(merged_entries(&again)["etc/motd"].1, b"genuine");
    assert!(again.image.index.is_some());
}

#[test]
fn what_rotted_on_the_disk_is_put_right_when_everything_is_made_again() {
    use std::os::unix::fs::MetadataExt;
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    oci_layout(&at("one"), &layers(), Pack::Gzip, |_| {});
    let one = store(&source(&at("one")), &at("store"), "one:latest");
    let table = at("store/.varve/conversions.json");
    let index = one.image.index.as_ref().unwrap().digest;
    for digest in digests(&one).iter().chain([&index]) {
        let path = blob(&at("store"), digest);
        damage(&path, b"EVIL");
        // A disk that forgets changes no times: the table knows the file as it is now.
        let meta = fs::metadata(&path).unwrap();
        let mut known: Value = serde_json::from_slice(&fs::read(&table).unwrap()).unwrap();
        known["blobs"][digest.to_string()] = json!({
            "inode": meta.ino(),
            "size": meta.len(),
            "modified": [meta.mtime(), meta.mtime_nsec()],
            "changed": [meta.ctime(), meta.ctime_nsec()],
        });
        fs::write(&table, known.to_string()).unwrap();
        let right = || Sha256Digest::of(&fs::read(&path).unwrap()) == *digest;
        let plain = store(&source(&at("one")), &at("store"), "one:latest");
        assert_eq!((plain.made, plain.reused), (0, 3));
        assert!(!right(), "nobody looks at what seems unchanged");
        let stop = std::sync::atomic::AtomicBool::new(false);
        let options = ConvertOptions {
            again: true,
            ..ConvertOptions::new("one:latest", &stop)
        };
        let layout = Layout::open(&at("store")).unwrap();
        varve_image::oci::convert(&source(&at("one")), &layout, &options, &()).unwrap();
        assert!(right());
    }
    // What it found out is known again.
    let again = store(&source(&at("one")), &at("store"), "one:latest");
    assert_eq!((again.made, again.reused), (0, 3));
}

#[test]
fn an_index_that_no_conversion_made_is_not_used() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    oci_layout(&at("one"), &layers(), Pack::Gzip, |_| {});
    let one = store(&source(&at("one")), &at("image"), "latest");
    let digest = one.image.index.unwrap().digest;
    let open = |dir: &Path| Layout::open(dir).unwrap().image(None).unwrap();
    assert_eq!(open(&at("image")).index.unwrap().digest, digest);
    // The same files elsewhere may be anybody's.
    let copy = std::process::Command::new("cp")
        .arg("-a")
        .args([at("image"), at("copy")])
        .status();
    assert!(copy.unwrap().success());
    let image = open(&at("copy"));
    assert!(image.index.is_none());
    assert_eq!(image.named_index.unwrap().digest, digest);
    // One of another tree under the name of the right one.
    damage(&blob(&at("image"), &digest), b"EVIL");
    assert!(open(&at("image")).index.is_none());
    // No layers, but a tree.
    let other = store(&source(&at("one")), &at("other"), "latest");
    let bytes = fs::read(&other.image.index.unwrap().path).unwrap();
    oci_layout(&at("empty"), &[], Pack::Plain, |manifest| {
        let index = put(&at("empty"), &bytes)["digest"].clone();
        manifest["annotations"] = json!({ "org.varve.index.digest": index });
    });
    assert!(open(&at("empty")).index.is_none());
}

#[test]
fn an_image_that_lists_anothers_manifest_as_layer_takes_nothing_away() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    oci_layout(&at("one"), &layers(), Pack::Gzip, |_| {});
    let one = store(&source(&at("one")), &at("store"), "victim:latest");
    let path = at("store/index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let victim = index["manifests"][0].clone();
    let config = with_type(
        put(&at("store"), b"{}"),
        "application/vnd.oci.image.config.v1+json",
    );
    let layer = json!({
        "mediaType": "application/octet-stream", "digest": victim["digest"], "size": victim["size"],
    });
    let manifest = json!({ "schemaVersion": 2, "config": config, "layers": [layer] });
    let mut artifact = with_type(put(&at("store"), manifest.to_string().as_bytes()), MANIFEST);
    artifact["annotations"] = json!({ "org.opencontainers.image.ref.name": "artifact:1" });
    // Others whose digests nobody can look for.
    let odd = [
        "sha512:abcd",
        "sha256:../../../etc/passwd",
        "",
        "md5:\u{1b}[31m",
    ]
    .map(|digest| json!({ "mediaType": MANIFEST, "digest": digest, "size": 5 }));
    let mut list = vec![artifact];
    list.extend(odd.clone());
    list.push(victim);
    index["manifests"] = json!(list);
    fs::write(&path, index.to_string()).unwrap();
    let layout = Layout::open(&at("store")).unwrap();
    let pruned = layout.prune().unwrap();
    assert_eq!((pruned.blobs, pruned.warnings.len()), (0, 4), "{pruned:?}");
    assert!(!pruned.warnings.concat().contains('\u{1b}'));
    let victim = layout.image(Some("victim")).unwrap();
    assert_eq!(victim.digest, one.image.digest);
    assert_eq!(layout.images().unwrap().len(), 6);
    // What is not understood stays in the list.
    layout.remove("artifact:1").unwrap();
    let index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let left: Vec<_> = index["manifests"].as_array().unwrap()[..4].to_vec();
    assert_eq!(left, odd);
    assert_eq!(
        layout.image(Some("victim")).unwrap().digest,
        one.image.digest
    );
}

#[test]
fn links_out_of_a_layout_are_not_followed() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    fs::create_dir_all(at("victim")).unwrap();
    let digits = "a".repeat(64);
    for name in ["passwd", &digits] {
        fs::write(at("victim").join(name), "important").unwrap();
    }
    for link in ["blobs", "blobs/sha256"] {
        let dir = at(&link.replace('/', "-"));
        fs::create_dir_all(dir.join(link).parent().unwrap()).unwrap();
        fs::create_dir_all(at("victim/sha256")).unwrap();
        symlink(at("victim"), dir.join(link)).unwrap();
        fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        fs::write(
            dir.join("index.json"),
            r#"{"schemaVersion":2,"manifests":[]}"#,
        )
        .unwrap();
        let error = Layout::open(&dir).unwrap_err().to_string();
        assert!(error.contains("symbolic link"), "{error}");
        assert!(Layout::create(&dir).is_err());
    }
    assert_eq!(fs::read_dir(at("victim")).unwrap().count(), 3);
    // Nothing but blobs and what conversions leave is taken away.
    let layout = Layout::create(&at("own")).unwrap();
    let inside = at("own/blobs/sha256");
    symlink(at("victim/passwd"), inside.join(&digits)).unwrap();
    for name in [
        "notes",
        "0123",
        ".new-x.1.2",
        &"b".repeat(64),
        &"B".repeat(64),
    ] {
        fs::write(inside.join(name), "x").unwrap();
    }
    fs::create_dir(inside.join("c".repeat(64))).unwrap();
    assert_eq!(layout.prune().unwrap().blobs, 3);
    let left: BTreeSet<_> = fs::read_dir(&inside)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let expected = ["notes", "0123", &"B".repeat(64), &"c".repeat(64)].map(str::to_owned);
    assert_eq!(left, BTreeSet::from(expected));
    assert_eq!(fs::read(at("victim/passwd")).unwrap(), b"important");
    // A layer that is a link to one.
    oci_layout(&at("one"), &layers(), Pack::Gzip, |_| {});
    let one = store(&source(&at("one")), &at("image"), "latest");
    let path = one.image.layers[0].path.clone();
    fs::rename(&path, at("moved")).unwrap();
    symlink(at("moved"), &path).unwrap();
    let error = Layout::open(&at("image"))
        .unwrap()
        .image(None)
        .unwrap_err()
        .to_string();
    assert!(error.contains("symbolic link"), "{error}");
    assert!(one.image.layers[0].open().is_err());
}

#[test]
fn files_that_are_none_are_refused_at_once() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    let fifo = |path: &Path| {
        let _ = fs::remove_file(path);
        let path = CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    };
    for name in ["oci-layout", "index.json"] {
        let dir = at(name);
        oci_layout(&dir, &layers(), Pack::Gzip, |_| {});
        fifo(&dir.join(name));
        let error = run(&source(&dir), &at("out")).unwrap_err().to_string();
        assert!(error.contains("is not a regular file"), "{error}");
        let error = Layout::open(&dir)
            .and_then(|layout| layout.images())
            .unwrap_err();
        assert!(
            error.to_string().contains("is not a regular file"),
            "{error}"
        );
        // A device with no end.
        fs::remove_file(dir.join(name)).unwrap();
        symlink("/dev/zero", dir.join(name)).unwrap();
        let error = run(&source(&dir), &at("out")).unwrap_err().to_string();
        assert!(error.contains("is not a regular file"), "{error}");
        // A file with almost none.
        fs::remove_file(dir.join(name)).unwrap();
        fs::File::create(dir.join(name))
            .unwrap()
            .set_len(1 << 40)
            .unwrap();
        assert!(
            Layout::open(&dir)
                .and_then(|layout| layout.images())
                .is_err()
        );
        assert!(run(&source(&dir), &at("out")).is_err());
    }
    fifo(&at("archive"));
    for source in ["docker-archive:", "oci-archive:", "tar:", "erofs:", ""] {
        let shown = format!("{source}{}", at("archive").display());
        let result = Source::parse(shown.as_ref(), &[]);
        let error = result
            .and_then(|source| run(&source, &at("out")))
            .unwrap_err();
        assert!(
            error.to_string().contains("is not a regular file"),
            "{shown}: {error}"
        );
    }
}

#[test]
fn a_failed_conversion_leaves_the_store_of_another_alone() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    oci_layout(&at("one"), &layers(), Pack::Gzip, |_| {});
    for round in 0..20 {
        let dir = at(&format!("store{round}"));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // It fails, and takes the directory away that was made for it.
                let fresh = Layout::create(&dir).unwrap();
                assert!(run(&source(&at("absent")), &dir).is_err());
                fresh.remove_if_empty();
            });
            let good = run(&source(&at("one")), &dir).unwrap();
            assert_eq!(merged_entries(&good)["etc/motd"].1, b"genuine");
        });
        let layout = Layout::open(&dir).unwrap();
        assert!(layout.image(None).unwrap().index.is_some());
        layout.remove_if_empty();
        assert!(dir.exists());
    }
    let fresh = Layout::create(&at("fresh")).unwrap();
    assert!(run(&source(&at("absent")), &at("fresh")).is_err());
    fresh.remove_if_empty();
    assert!(!at("fresh").exists());
}

#[test]
fn nobody_else_can_hold_the_locks() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    oci_layout(&at("one"), &layers(), Pack::Gzip, |_| {});
    store(&source(&at("one")), &at("store"), "one:latest");
    for name in ["lock", "index.lock"] {
        let meta = fs::metadata(at("store/.varve").join(name)).unwrap();
        assert_eq!(meta.mode() & 0o777, 0o600, "{name}");
    }
    // Locks on what others can read hold nothing up.
    let names = [
        "oci-layout",
        "index.json",
        "blobs/sha256",
        ".",
        ".varve",
        ".varve/conversions.json",
    ];
    let held: Vec<_> = names
        .iter()
        .map(|name| {
            let file = fs::File::open(at("store").join(name)).unwrap();
            rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
            file
        })
        .collect();
    store(&source(&at("one")), &at("store"), "two:latest");
    let layout = Layout::open(&at("store")).unwrap();
    layout.remove("one").unwrap();
    layout.prune().unwrap();
    drop(held);
}

#[test]
fn a_layer_that_is_only_used_has_no_name() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    fs::create_dir(at("dir")).unwrap();
    fs::create_dir(at("work")).unwrap();
    fs::write(at("dir/secret"), "s").unwrap();
    let options = BuildOptions::default();
    let (_, file) = build_dir_nameless(&at("dir"), &at("work"), &options, &mut ()).unwrap();
    let meta = file.metadata().unwrap();
    assert_eq!((meta.nlink(), meta.mode() & 0o777), (0, 0o600));
    assert_eq!(fs::read_dir(at("work")).unwrap().count(), 0);
    build_dir(&at("dir"), &at("named"), &options, &mut ()).unwrap();
    let mut bytes = vec![0; meta.len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(bytes, fs::read(at("named")).unwrap());
}
