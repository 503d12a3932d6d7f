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

#[test]
fn a_killed_conversion_leaves_nothing_half_written() {
    let Some(fixture) = fixture() else { return };
    for (signal, name) in [("-KILL", "killed"), ("-INT", "interrupted")] {
        let out = fixture.path(name);
        let mut child = Command::new(&fixture.varve)
            .arg("convert")
            .arg(format!("oci:{}:v1", fixture.path("src").display()))
            .arg(&out)
            .stderr(std::process::Stdio::null())
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
            let digest: String = Sha256::digest(fs::read(&path).unwrap())
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            assert_eq!(path.file_name().unwrap().to_str().unwrap(), digest);
        }
        fixture.ok(&[&"prune", &"--store", &out]);
        assert_eq!(fs::read_dir(out.join("blobs/sha256")).unwrap().count(), 0);
    }
}
