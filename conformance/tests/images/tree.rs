//! The same tree everywhere, and layers that lie.

use super::*;

#[test]
fn the_tree_is_the_same_everywhere() {
    let Some(fixture) = fixture() else { return };
    let image = fixture.path("image");
    let layers = fixture.layers(&image);
    let mut lowers = Vec::new();
    for (number, layer) in layers.iter().enumerate() {
        let target = fixture.path(&format!("lower{number}"));
        lowers.push(kernel_mount(layer, target, "erofs", None));
    }
    let lower: Vec<_> = lowers.iter().rev().map(|m| m.0.to_str().unwrap()).collect();
    let data = format!("lowerdir={}", lower.join(":"));
    let union = kernel_mount(
        Path::new("overlay"),
        fixture.path("union"),
        "overlay",
        Some(&data),
    );
    let expected = snapshot(&union.0);
    assert!(expected.len() > 5000);

    let text = fixture.ok(&[&"inspect", &"--json", &image]);
    let value: Value = serde_json::from_str(&text).unwrap();
    let index = PathBuf::from(value[0]["index"]["file"].as_str().unwrap());
    let devices: Vec<_> = layers
        .iter()
        .map(|layer| format!("device={}", layer.display()))
        .collect();
    let merged = kernel_mount(
        &index,
        fixture.path("merged"),
        "erofs",
        Some(&devices.join(",")),
    );
    assert_same(&expected, &snapshot(&merged.0), "the index in the kernel");

    for (name, option) in [("fuse", None), ("fuse-union", Some("--no-index"))] {
        let target = fixture.path(name);
        fs::create_dir_all(&target).unwrap();
        match option {
            Some(option) => fixture.ok(&[&"mount", &option, &image, &target]),
            None => fixture.ok(&[&"mount", &image, &target]),
        };
        assert_same(&expected, &snapshot(&target), name);
        // Several readers at once, in different orders.
        let readers: Vec<_> = (0..4)
            .map(|_| {
                let mut command = Command::new("sh");
                let script = "diff -r --no-dereference $0/usr $1/usr && diff -r --no-dereference $0/etc $1/etc";
                command.arg("-c").arg(script).arg(&union.0).arg(&target);
                command.spawn().unwrap()
            })
            .collect();
        for mut reader in readers {
            assert!(reader.wait().unwrap().success());
        }
        fixture.ok(&[&"umount", &target]);
        assert!(!is_mounted(&target));
        assert_eq!(servers(&target), 0);
    }

    let extracted = fixture.path("extracted");
    fixture.ok(&[&"extract", &image, &"-o", &extracted]);
    assert_same(&expected, &snapshot(&extracted), "extract to a directory");
    let archive = fixture.path("extracted.tar");
    fixture.ok(&[&"extract", &image, &"-o", &archive]);
    let untarred = fixture.path("untarred");
    fs::create_dir(&untarred).unwrap();
    ok(Command::new("tar")
        .args(["--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf"])
        .arg(&archive)
        .arg("-C")
        .arg(&untarred));
    assert_same(&expected, &snapshot(&untarred), "extract to a tar stream");
    // Sparse files stay sparse.
    for dir in [&extracted, &untarred] {
        let meta = fs::metadata(dir.join("app/data/sparse")).unwrap();
        assert!(meta.blocks() * 512 < meta.size(), "{}", dir.display());
    }

    // An archive of the tree gives the tree again, and nothing is different from the stack.
    let one = fixture.path("one.img");
    fixture.ok(&[&"build", &archive, &"-o", &one]);
    let diff = fixture.varve(&[&"diff", &"--times", &image, &one]);
    assert_eq!(
        diff.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&diff.stdout)
    );

    // What another tool makes of the same image.
    let bundle = fixture.path("bundle");
    ok(Command::new("umoci")
        .args(["unpack", "--image"])
        .arg(format!("{}:v1", fixture.path("src").display()))
        .arg(&bundle));
    let mut theirs = snapshot(&bundle.join("rootfs"));
    let mut ours = expected.clone();
    // It leaves the root as its own, and gives directories the time of the last file put in if no layer
    // describes them.
    for tree in [&mut theirs, &mut ours] {
        for path in ["", "srv"] {
            tree.remove(path.as_bytes());
        }
    }
    assert_same(&ours, &theirs, "umoci unpack");
}

#[test]
fn a_layer_that_lies_is_found_out() {
    let Some(fixture) = fixture() else { return };
    let image = fixture.path("liar");
    ok(Command::new("cp")
        .arg("-a")
        .arg(fixture.path("image"))
        .arg(&image));
    let text = fixture.ok(&[
        &"stat",
        &"--json",
        &image,
        &"/etc/debian_version",
        &"/etc/motd",
    ]);
    let stat: Value = serde_json::from_str(&text).unwrap();
    let extent = &stat[0]["extents"][0];
    let layers = fixture.layers(&image);
    let layer = &layers[extent["layer"].as_u64().unwrap() as usize];
    let offset = extent["offset"].as_u64().unwrap();
    ok(Command::new("chmod").arg("644").arg(layer));
    let file = fs::OpenOptions::new().write(true).open(layer).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"99", offset).unwrap();

    // As it is, the image is believed.
    let run_it = |verify: bool, script: &str| {
        let mut command = Command::new(&fixture.varve);
        command.arg("do").args(verify.then_some("--verify"));
        command
            .arg("--image")
            .arg(&image)
            .args(["--", "sh", "-c", script]);
        run(&mut command)
    };
    let output = run_it(false, "cat /etc/debian_version");
    assert!(output.stdout.starts_with(b"99"), "{output:?}");
    // Verified, only the file that was changed cannot be read; programs run, also those that map.
    let map = "import mmap, sys
data = open(sys.argv[1], \"rb\")
print(mmap.mmap(data.fileno(), 0, prot=mmap.PROT_READ)[:7])";
    let script = format!(
        "cat /etc/debian_version; echo $?; cat /etc/motd; echo '{map}' >/tmp/map.py
python3 /tmp/map.py /etc/motd; python3 /tmp/map.py /etc/debian_version; echo $?"
    );
    let output = run_it(true, &script);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(
        text, "1\nWelcome to the application\nb'Welcome'\n135\n",
        "{output:?}"
    );
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("Input/output error"), "{text}");

    let cat = fixture.varve(&[
        &"cat",
        &"--verify",
        &image,
        &"/etc/debian_version",
        &"/media/new",
    ]);
    assert_eq!(
        (cat.status.code(), &cat.stdout[..]),
        (Some(1), &b"new\n"[..])
    );
    let check = fixture.varve(&[&"check", &image]);
    assert_eq!(check.status.code(), Some(1));
    let text = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(text.contains("damaged or was tampered with"), "{text}");
    let tree = fixture.varve(&[&"ls", &"--verify", &fixture.path("src")]);
    assert!(!tree.status.success());
    if can_mount() {
        let point = fixture.path("verified");
        fs::create_dir(&point).unwrap();
        let log = fixture.path("verified.log");
        fixture.ok(&[&"mount", &"--verify", &"--log", &log, &image, &point]);
        let error = fs::read(point.join("etc/debian_version")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(nix::errno::Errno::EIO as i32));
        assert_eq!(fs::read(point.join("media/new")).unwrap(), b"new\n");
        fixture.ok(&[&"umount", &point]);
        let log = fs::read_to_string(log).unwrap();
        assert!(log.contains("are not what they should be"), "{log}");
    }
}
