//! The way back: other people's tools take what varve writes for them, and see the same tree.

use super::*;

/// The tree as umoci unpacks it. It leaves the root as its own.
fn unpacked(fixture: &Fixture, layout: &str, name: &str) -> Snapshot {
    let bundle = fixture.path(name);
    ok(Command::new("umoci")
        .args(["unpack", "--image", layout])
        .arg(&bundle));
    let mut tree = snapshot(&bundle.join("rootfs"));
    tree.remove(&b""[..]);
    tree
}

#[test]
fn other_tools_take_what_is_written_for_them() {
    let Some(fixture) = fixture() else { return };
    let image = fixture.path("image");
    let extracted = fixture.path("back-extracted");
    fixture.ok(&[&"extract", &image, &"-o", &extracted]);
    let mut expected = snapshot(&extracted);
    expected.remove(&b""[..]);
    let same = |name: &str, mut found: Snapshot| {
        let mut expected = expected.clone();
        for tree in [&mut expected, &mut found] {
            // Directories that no layer describes get the time of the last file put in.
            tree.remove(&b"srv"[..]);
        }
        assert_same(&expected, &found, name);
    };

    // umoci unpacks the layers.
    let out = fixture.path("back-oci");
    let target = format!("oci:{}:v2", out.display());
    fixture.ok(&[&"convert", &image, &target, &"--layers", &"tar"]);
    let layout = format!("{}:v2", out.display());
    same("umoci unpack", unpacked(fixture, &layout, "back-bundle"));

    // skopeo copies them, checking digests, and umoci unpacks what it made.
    let archive = fixture.path("back.tar");
    let target = format!("docker-archive:{}:team/app:v2", archive.display());
    fixture.ok(&[&"convert", &image, &target]);
    let copied = fixture.path("back-copied");
    let from = format!("docker-archive:{}:team/app:v2", archive.display());
    let to = format!("oci:{}:v2", copied.display());
    ok(Command::new("skopeo").args(["--insecure-policy", "copy", "-q", &from, &to]));
    let layout = format!("{}:v2", copied.display());
    same(
        "skopeo copy",
        unpacked(fixture, &layout, "back-copied-bundle"),
    );
    let inspected = ok(Command::new("skopeo").args(["inspect", "--config", &to]));
    let config: Value = serde_json::from_slice(&inspected.stdout).unwrap();
    let text = fixture.ok(&[&"inspect", &"--json", &image]);
    let ours: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(config["config"], ours[0]["config"]["config"]);
    assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), 6);

    // The same as an OCI archive, which skopeo finds by its name.
    let archive = fixture.path("back-oci.tar");
    let named = format!("oci-archive:{}:team/app:v2", archive.display());
    fixture.ok(&[&"convert", &image, &named]);
    let copied = fixture.path("back-oci-copied");
    let to_oci = format!("oci:{}:v2", copied.display());
    ok(Command::new("skopeo").args(["--insecure-policy", "copy", "-q", &named, &to_oci]));
    let layout = format!("{}:v2", copied.display());
    same(
        "an OCI archive",
        unpacked(fixture, &layout, "back-oci-bundle"),
    );
    let once = fs::read(&archive).unwrap();
    fixture.ok(&[&"convert", &image, &named]);
    assert!(once == fs::read(&archive).unwrap(), "the same bytes");
    // With varve's own layers, which arrive as they are.
    let own = fixture.path("back-own.tar");
    let target = format!("oci-archive:{}", own.display());
    fixture.ok(&[&"convert", &image, &target, &"--layers", &"erofs"]);
    let arrived = fixture.path("back-arrived");
    fixture.ok(&[&"convert", &target, &arrived]);
    let digests = |image: &dyn AsRef<OsStr>| -> Value {
        let inspected = fixture.ok(&[&"inspect", &"--json", image]);
        let value: Value = serde_json::from_str(&inspected).unwrap();
        let layers = value[0]["layers"].as_array().unwrap().iter();
        layers.map(|layer| layer["digest"].clone()).collect()
    };
    assert_eq!(digests(&image), digests(&arrived));
    assert_eq!(
        fixture.ok(&[&"do", &"--image", &arrived]),
        "from the image\n"
    );

    // And varve itself finds the image that it was.
    let again = fixture.path("back-again");
    fixture.ok(&[&"convert", &from, &again]);
    let diff = fixture.varve(&[&"diff", &"--times", &image, &again]);
    let text = String::from_utf8_lossy(&diff.stdout).into_owned();
    assert_eq!(diff.status.code(), Some(0), "{text}");
    assert_eq!(fixture.ok(&[&"do", &"--image", &again]), "from the image\n");
}

#[test]
fn an_image_of_the_store_goes_out_under_its_name() {
    let Some(fixture) = fixture() else { return };
    let store = fixture.path("back-store");
    let image = fixture.path("image");
    fixture.ok(&[
        &"convert",
        &"--store",
        &store,
        &image,
        &"store:team/debian:six",
    ]);
    let archive = fixture.path("named.tar");
    let files = fixture.path("files.tar");
    let convert = |source: &str, more: &[&dyn AsRef<OsStr>]| {
        let mut args: Vec<&dyn AsRef<OsStr>> = vec![&"convert", &"--store", &store, &source];
        args.extend(more);
        fixture.ok(&args)
    };
    let target = format!("docker-archive:{}", archive.display());
    convert("store:team/debian:six", &[&target]);
    let more: &[&dyn AsRef<OsStr>] = &[&files, &"--format", &"docker-layers"];
    convert("store:team/debian:six", more);
    for (file, layers) in [(&archive, 6), (&files, 6)] {
        let manifest = ok(Command::new("tar")
            .args(["-xOf"])
            .arg(file)
            .arg("manifest.json"));
        let manifest: Value = serde_json::from_slice(&manifest.stdout).unwrap();
        assert_eq!(
            manifest[0]["RepoTags"],
            serde_json::json!(["team/debian:six"])
        );
        assert_eq!(manifest[0]["Layers"].as_array().unwrap().len(), layers);
        let name = format!("docker-archive:{}:team/debian:six", file.display());
        ok(Command::new("skopeo").args(["inspect", "--config", &name]));
    }
    let refused = fixture.varve(&[&"convert", &image, &"name", &"--layers", &"tar"]);
    assert_eq!(refused.status.code(), Some(125));
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        text.contains("oci:DIR[:REF], oci-archive:FILE[:REF] or docker-archive:FILE"),
        "{text}"
    );
}

#[test]
fn everything_that_a_layer_can_hold_goes_out() {
    if !nix::unistd::geteuid().is_root() || !Path::new("/usr/bin/umoci").exists() {
        skip("devices in layers", "needs root and umoci");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let script = "mkdir -p low/d/sub low/opq top/d top/opq; cd low
        echo a >d/a; ln d/a d/hard; ln -s /a/b d/link; mknod d/null c 1 3; mknod d/disk b 8 70000; mkfifo d/fifo
        setfattr -n user.k -v v d/a; setfattr -n trusted.t -v w d/sub; setcap cap_net_raw+ep d/a 2>/dev/null || true
        truncate -s 5M d/sparse; printf x | dd of=d/sparse bs=1 seek=3000000 conv=notrunc 2>/dev/null
        cp d/a d/set; chmod 4755 d/set; touch -d '1969-12-31 23:00:00.5' d/old; echo g >d/gone; echo o >opq/old
        touch \"d/$(printf 'n%.0s' $(seq 250))\" \"$(printf 'two\\nlines')\"; cd ../top
        touch d/.wh.gone opq/.wh..wh..opq; echo new >opq/new; chown 4000000000:70000 opq/new; echo over >d/set";
    ok(Command::new("sh")
        .args(["-e", "-c", script])
        .current_dir(dir.path()));
    let varve = varve().unwrap();
    let varve = |args: &[&str]| ok(Command::new(&varve).args(args).current_dir(dir.path()));
    for name in ["low", "top"] {
        varve(&["build", name, "-o", &format!("{name}.img")]);
    }
    varve(&["convert", "erofs:low.img", "top.img", "./image"]);
    varve(&["extract", "./image", "-o", "extracted"]);
    let mut expected = snapshot(&at("extracted"));
    expected.remove(&b""[..]);
    assert!(!expected.contains_key(&b"d/gone"[..]) && !expected.contains_key(&b"opq/old"[..]));
    for packing in ["gzip", "zstd", "none"] {
        let target = format!("oci:{packing}:v1");
        varve(&[
            "convert",
            "./image",
            &target,
            "--layers",
            "tar",
            "--compress",
            packing,
        ]);
        let bundle = format!("{packing}-bundle");
        if packing == "zstd" {
            // Old versions of umoci do not know it; skopeo does.
            let copied = "oci:unpacked:v1";
            ok(Command::new("skopeo")
                .args([
                    "--insecure-policy",
                    "copy",
                    "-q",
                    "--dest-decompress",
                    &target,
                    copied,
                ])
                .current_dir(dir.path()));
            continue;
        }
        ok(Command::new("umoci")
            .args(["unpack", "--image", &format!("{packing}:v1"), &bundle])
            .current_dir(dir.path()));
        let mut found = snapshot(&at(&bundle).join("rootfs"));
        found.remove(&b""[..]);
        assert_same(&expected, &found, packing);
        let sparse = fs::metadata(at("extracted/d/sparse")).unwrap();
        assert_eq!(sparse.len(), 5 << 20);
    }
}
