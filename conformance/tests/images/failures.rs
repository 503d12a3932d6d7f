//! Bad input, full disks, killed conversions.

use super::*;

/// A tar header with this size field.
fn tar_header(name: &str, kind: u8, size: &[u8; 12]) -> Vec<u8> {
    let mut header = vec![0; 512];
    header[..name.len().min(100)].copy_from_slice(&name.as_bytes()[..name.len().min(100)]);
    header[100..107].copy_from_slice(b"0000644");
    header[124..136].copy_from_slice(size);
    header[156] = kind;
    header[257..265].copy_from_slice(b"ustar\x0000");
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

#[test]
fn bad_input_ends_in_an_error_and_leaves_nothing() {
    let small = Small::new();
    let at = |name: &str| small.dir.path().join(name);
    let octal =
        |size: usize| -> [u8; 12] { format!("{size:011o}\0").into_bytes().try_into().unwrap() };
    // 2^60 bytes, as a number in base 256.
    let mut huge = [0; 12];
    (huge[0], huge[4]) = (0x80, 0x10);
    let long = [
        tar_header("././@LongLink", b'L', &octal(5000)),
        vec![b'n'; 5120],
        tar_header("n", b'0', &octal(0)),
    ]
    .concat();
    let mut record = String::from("GNU.sparse.major=1\n");
    record = format!("{} {record}", record.len() + 3);
    let more = "30 GNU.sparse.name=a-name-here\n";
    let size = "46 GNU.sparse.realsize=1152921504606846976    \n".replace("    ", "");
    let size = format!("{}{}", size.len(), &size[2..]);
    let body = [record.as_str(), "22 GNU.sparse.minor=0\n", more, &size].concat();
    let mut sparse = tar_header("x", b'x', &octal(body.len()));
    sparse.extend_from_slice(body.as_bytes());
    sparse.resize(sparse.len().next_multiple_of(512), 0);
    sparse.extend(tar_header("s", b'0', &octal(512)));
    sparse.extend_from_slice(b"0\n");
    sparse.resize(sparse.len().next_multiple_of(512) + 1024, 0);
    for (name, bytes, expected) in [
        (
            "huge.tar",
            tar_header("huge", b'0', &huge),
            "cannot exceed 16 TiB",
        ),
        ("long.tar", long, "a name of 5000 bytes"),
        ("sparse.tar", sparse, ""),
        ("text.tar", vec![b'x'; 2000], ""),
        ("empty.gz", b"\x1f\x8b\x08\0".to_vec(), ""),
    ] {
        fs::write(at(name), bytes).unwrap();
        for args in [
            &["convert", &format!("tar:{name}"), "./out"][..],
            &["build", name, "-o", "out.img"],
        ] {
            let failed = run(&mut small.command(args));
            let text = String::from_utf8_lossy(&failed.stderr).into_owned();
            assert_eq!(failed.status.code(), Some(125), "{name}: {text}");
            assert!(
                text.contains(expected) && text.contains(name),
                "{name}: {text}"
            );
            assert!(
                !at("out").exists() && !at("out.img").exists(),
                "{name}: {text}"
            );
        }
    }
    // A directory that holds something else, an image that is not there, a name that is none.
    for (args, expected) in [
        (&["convert", "tree", "./tree"][..], "holds other files"),
        (
            &["convert", "oci:nowhere", "./out"],
            "is no OCI image layout",
        ),
        (
            &["convert", "docker-archive:layer.img", "./out"],
            "layer.img",
        ),
        (&["convert", "what:ever", "./out"], "`what:` is not known"),
        (&["convert", "tree", "-name", "x"], "unexpected argument"),
        (
            &["do", "--store", "none", "--image", "x"],
            "no image store at none",
        ),
        (&["ls", "--store", "none", "x"], "no image store at none"),
        (&["check", "tree/large"], ""),
    ] {
        let failed = run(&mut small.command(args));
        let text = [failed.stderr, failed.stdout].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(!failed.status.success(), "{args:?}");
        assert!(text.contains(expected), "{args:?}: {text}");
        assert!(!at("out").exists(), "{args:?}");
    }
    if !nix::unistd::geteuid().is_root() {
        return skip("a full disk", "needs root to mount a small one");
    }
    let disk = at("disk");
    fs::create_dir(&disk).unwrap();
    let tmpfs = Some("tmpfs");
    mount(tmpfs, &disk, tmpfs, MsFlags::empty(), Some("size=128k")).unwrap();
    let mounted = Mounted(disk.clone());
    let failed = run(&mut small.command(&["convert", "tree", "disk/out"]));
    let text = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(text.contains("No space left on device"), "{text}");
    assert_eq!(fs::read_dir(&disk).unwrap().count(), 0);
    drop(mounted);
}

/// What a command that must fail says; it has so much address space, in MiB.
fn fails_within(mib: u64, command: &Command) -> String {
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -v $0 && exec \"$@\""]);
    limited.arg((mib << 10).to_string());
    limited.arg(command.get_program()).args(command.get_args());
    limited.current_dir(command.get_current_dir().unwrap());
    let failed = run(&mut limited);
    let text = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert_eq!(failed.status.code(), Some(125), "{text}");
    text
}

#[test]
fn archives_that_unfold_without_end_are_refused_in_bounded_memory() {
    let small = Small::new();
    let at = |name: &str| small.dir.path().join(name);
    // Ten million entries, which compress to next to nothing.
    let entry = tar_header("entry", b'0', b"00000000000\0");
    let part: Vec<u8> = entry.repeat(10_000);
    let bomb = File::create(at("bomb.tar.zst")).unwrap();
    let mut zstd = Command::new("zstd");
    zstd.args(["-q", "-1", "-c"]).stdin(Stdio::piped());
    let mut zstd = zstd.stdout(bomb).spawn().unwrap();
    {
        let mut stdin = zstd.stdin.take().unwrap();
        for _ in 0..1000 {
            stdin.write_all(&part).unwrap();
        }
    }
    assert!(zstd.wait().unwrap().success());
    assert!(fs::metadata(at("bomb.tar.zst")).unwrap().len() < 4 << 20);
    for args in [
        &["convert", "tar:bomb.tar.zst", "./out"][..],
        &["build", "bomb.tar.zst", "-o", "out.img"],
    ] {
        let text = fails_within(1536, &small.command(args));
        assert!(text.contains("more than 4194304 "), "{text}");
        assert!(text.contains("bomb.tar.zst"), "{text}");
        assert!(!at("out").exists() && !at("out.img").exists());
    }

    // A hundred thousand whiteouts are many, but a layer.
    let mut tar = Vec::new();
    for number in 0..100_000 {
        let name = format!("d/.wh.{number}");
        tar.extend(tar_header(&name, b'0', b"00000000000\0"));
    }
    tar.extend([0; 1024]);
    fs::write(at("whiteouts.tar"), tar).unwrap();
    let mut python = String::from("import tarfile, io\nt = tarfile.open('low.tar', 'w')\n");
    python += "for n in range(99_990, 100_010):\n  t.addfile(tarfile.TarInfo(f'd/{n}'), io.BytesIO())\nt.close()\n";
    ok(Command::new("python3")
        .args(["-c", &python])
        .current_dir(small.dir.path()));
    for name in ["low", "whiteouts"] {
        let archive = format!("{name}.tar");
        ok(&mut small.command(&["build", &archive, "-o", &format!("{name}.img")]));
    }
    ok(&mut small.command(&["convert", "erofs:low.img", "whiteouts.img", "./out"]));
    for stack in ["low.img,whiteouts.img", "./out"] {
        let names = ok(&mut small.command(&["ls", stack, "/d"])).stdout;
        let names = String::from_utf8(names).unwrap();
        assert_eq!(names.lines().count(), 10, "{stack}: {names}");
        assert!(names.starts_with("100000\n100001\n"), "{names}");
    }
    ok(&mut small.command(&["check", "./out"]));

    // An archive of images whose members lead to each other.
    let mut python = String::from("import tarfile, io, json\nt = tarfile.open('loop.tar', 'w')\n");
    python += "def link(n, to):\n  i = tarfile.TarInfo(n); i.type = tarfile.SYMTYPE; i.linkname = to; t.addfile(i)\n";
    python += "link('a', 'b'); link('b', 'a'); link('c.json', 'a')\n";
    python +=
        "m = json.dumps([{'Config': 'c.json', 'RepoTags': ['x:y'], 'Layers': ['a']}]).encode()\n";
    python += "i = tarfile.TarInfo('manifest.json'); i.size = len(m); t.addfile(i, io.BytesIO(m)); t.close()\n";
    ok(Command::new("python3")
        .args(["-c", &python])
        .current_dir(small.dir.path()));
    let text = fails_within(
        1536,
        &small.command(&["convert", "docker-archive:loop.tar", "./loop"]),
    );
    assert!(text.contains("c.json in loop.tar: is not there"), "{text}");
    assert!(!at("loop").exists());
}

#[test]
fn damaged_layers_of_an_image_are_told_and_never_more() {
    let small = Small::new();
    let at = |name: &str| small.dir.path().join(name);
    ok(&mut small.command(&["convert", "tree", "./image"]));
    let inspect = ok(&mut small.command(&["inspect", "--json", "./image"])).stdout;
    let value: Value = serde_json::from_slice(&inspect).unwrap();
    let file = PathBuf::from(value[0]["layers"][0]["file"].as_str().unwrap());
    let file = small.dir.path().join(file);
    let whole = fs::read(&file).unwrap();
    ok(Command::new("chmod").arg("644").arg(&file));
    let damages: Vec<Vec<u8>> = [0, 512, 1028, 4096, whole.len() / 2, whole.len() - 1]
        .into_iter()
        .map(|len| whole[..len].to_vec())
        .chain((0..whole.len()).step_by(whole.len() / 40).map(|at| {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            bytes
        }))
        .collect();
    for bytes in damages {
        fs::write(&file, &bytes).unwrap();
        let check = run(&mut small.command(&["check", "./image"]));
        assert!(matches!(check.status.code(), Some(1 | 125)), "{check:?}");
        // Whatever else looks at it comes to an end that is a status of its own.
        for args in [
            &["ls", "-lR", "./image"][..],
            &["extract", "./image", "-o", "taken"],
            &["convert", "./image", "./again"],
            &["do", "--image", "./image", "--", "nothing"],
        ] {
            let output = run(&mut small.command(args));
            let code = output.status.code();
            assert!(
                matches!(code, Some(0 | 1 | 125 | 126 | 127)),
                "{args:?}: {output:?}"
            );
            for made in ["taken", "again"] {
                let _ = fs::remove_dir_all(at(made));
            }
        }
        let verified = run(&mut small.command(&["extract", "--verify", "./image", "-o", "taken"]));
        let same = bytes.len() == whole.len() && verified.status.success();
        if same {
            // A bit where nothing is read from: the end of a file's last block, say.
            let taken = fs::read(at("taken/sub/file")).unwrap();
            assert_eq!(taken, b"contents\n");
        }
        let _ = fs::remove_dir_all(at("taken"));
    }
    fs::write(&file, &whole).unwrap();
    ok(&mut small.command(&["check", "./image"]));
}

#[test]
fn a_store_that_cannot_be_written_is_read() {
    if !nix::unistd::geteuid().is_root() {
        return skip("a read-only store", "needs root to mount one");
    }
    let small = Small::new();
    let dir = small.dir.path().join("ro");
    fs::create_dir(&dir).unwrap();
    let tmpfs = Some("tmpfs");
    mount(tmpfs, &dir, tmpfs, MsFlags::empty(), None::<&str>).unwrap();
    let _mounted = Mounted(dir.clone());
    let command = |args: &[&str]| {
        let mut command = small.command(args);
        command.env("VARVE_STORE", dir.join("store"));
        command
    };
    ok(&mut command(&["convert", "tree", "app"]));
    mount(
        None::<&str>,
        &dir,
        None::<&str>,
        MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY,
        None::<&str>,
    )
    .unwrap();
    let list = ok(&mut command(&["images", "--json"])).stdout;
    let list: Value = serde_json::from_slice(&list).unwrap();
    assert_eq!(list[0]["name"], "app:latest");
    assert_eq!(
        ok(&mut command(&["cat", "app", "/sub/file"])).stdout,
        b"contents\n"
    );
    ok(&mut command(&["check", "app"]));
    for (args, status) in [
        (&["convert", "tree", "other"][..], 125),
        (&["rmi", "app"], 1),
    ] {
        let failed = run(&mut command(args));
        let text = String::from_utf8_lossy(&failed.stderr).into_owned();
        assert_eq!(failed.status.code(), Some(status), "{text}");
        assert!(text.contains("Read-only file system"), "{text}");
        assert!(text.contains(dir.to_str().unwrap()), "{text}");
    }
    let list = ok(&mut command(&["images", "--quiet"])).stdout;
    assert_eq!(list.iter().filter(|byte| **byte == b'\n').count(), 1);
}

#[test]
fn whoever_waits_for_a_daemon_can_stop() {
    let small = Small::new();
    let socket = small.dir.path().join("docker.sock");
    // Takes the request and says nothing.
    let listener = UnixListener::bind(&socket).unwrap();
    let mut command = small.command(&["convert", "docker-daemon:app", "./out"]);
    command.env("DOCKER_HOST", format!("unix://{}", socket.display()));
    let child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut stream = listener.accept().unwrap().0;
    let mut request = [0; 30];
    stream.read_exact(&mut request).unwrap();
    ok(Command::new("kill").arg("-INT").arg(child.id().to_string()));
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert!(
        output.stderr.ends_with(b"varve: interrupted\n"),
        "{output:?}"
    );
    assert!(!small.dir.path().join("out").exists());
}

#[test]
fn a_killed_conversion_leaves_nothing_half_written() {
    let Some(fixture) = fixture() else { return };
    for (signal, name) in [("-KILL", "killed"), ("-INT", "interrupted")] {
        let out = fixture.path(name);
        let mut child = Command::new(&fixture.varve)
            .arg("convert")
            .arg(format!("oci:{}:v1", fixture.path("src").display()))
            .arg(&out)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // The first layer takes longer than this.
        wait("it begins", || out.join("oci-layout").exists());
        std::thread::sleep(Duration::from_millis(100));
        ok(Command::new("kill").arg(signal).arg(child.id().to_string()));
        assert!(!child.wait().unwrap().success());
        if signal == "-INT" {
            assert!(!out.exists());
            continue;
        }
        // What has a name is whole, and is taken away by the next one that looks.
        for entry in fs::read_dir(out.join("blobs/sha256")).unwrap() {
            let path = entry.unwrap().path();
            let digest = hex::encode(Sha256::digest(fs::read(&path).unwrap()));
            assert_eq!(path.file_name().unwrap().to_str().unwrap(), digest);
        }
        fixture.ok(&[&"prune", &"--store", &out]);
        assert_eq!(fs::read_dir(out.join("blobs/sha256")).unwrap().count(), 0);
    }
}
