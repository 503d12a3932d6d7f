//! FUSE mounts: how they come and go, damage, ordinary users.

use super::*;

#[test]
fn mounts_come_and_go() {
    if !can_mount() {
        return;
    }
    let small = Small::new();
    let point = small.mount_point();
    let server = |signal: &str| {
        let pattern = format!("--notify.*{}", point.display());
        ok(Command::new("pkill").args([signal, "-f", "--", &pattern]));
    };
    ok(&mut small.command(&["mount", "layer.img", "mnt"]));
    assert_eq!(
        fs::read_to_string(point.join("sub/file")).unwrap(),
        "contents\n"
    );
    assert!(fs::write(point.join("new"), "x").is_err());
    let text = fs::read_to_string("/proc/self/mounts").unwrap();
    let line = format!("layer.img {} fuse.varve ro,nosuid,nodev", point.display());
    assert!(text.contains(&line), "{text}");

    // One mount is enough.
    let twice = run(&mut small.command(&["mount", "layer.img", "mnt"]));
    assert_eq!(twice.status.code(), Some(125));
    let text = String::from_utf8_lossy(&twice.stderr).into_owned();
    assert!(
        text.contains("an image is mounted there already; `varve umount mnt`"),
        "{text}"
    );

    // In use: an error that says so, and the mount stays.
    let open = File::open(point.join("sub/file")).unwrap();
    let busy = run(&mut small.command(&["umount", "mnt"]));
    assert_eq!(busy.status.code(), Some(1));
    let text = String::from_utf8_lossy(&busy.stderr).into_owned();
    assert!(text.contains("is used by somebody"), "{text}");
    assert!(is_mounted(&point));
    drop(open);
    ok(&mut small.command(&["umount", "mnt"]));
    assert!(!is_mounted(&point));
    assert_eq!(servers(&point), 0);
    let again = run(&mut small.command(&["umount", "mnt"]));
    assert_eq!(again.status.code(), Some(1));

    // Told to end, it cleans up.
    for signal in ["-TERM", "-INT"] {
        ok(&mut small.command(&["mount", "layer.img", "mnt"]));
        server(signal);
        wait("the mount goes away", || {
            !is_mounted(&point) && servers(&point) == 0
        });
    }
    // Killed, it leaves a dead mount, which is told of and cleaned up.
    ok(&mut small.command(&["mount", "layer.img", "mnt"]));
    server("-KILL");
    wait("the process ends", || servers(&point) == 0);
    assert!(fs::read_dir(&point).is_err());
    let dead = run(&mut small.command(&["mount", "layer.img", "mnt"]));
    let text = String::from_utf8_lossy(&dead.stderr).into_owned();
    assert!(text.contains("`varve umount mnt` cleans it up"), "{text}");
    ok(&mut small.command(&["umount", "mnt"]));
    assert_eq!(fs::read_dir(&point).unwrap().count(), 0);

    // What cannot be mounted is told at once.
    for (args, expected) in [
        (["mount", "layer.img", "nowhere"], "No such file"),
        (["mount", "layer.img", "layer.img"], "is not a directory"),
        (["mount", "tree/large", "mnt"], "tree/large: "),
    ] {
        let failed = run(&mut small.command(&args));
        let text = String::from_utf8_lossy(&failed.stderr).into_owned();
        assert!(text.contains(expected), "{text}");
        assert_eq!(failed.status.code(), Some(125));
        assert!(!is_mounted(&point));
    }
}

#[test]
fn damage_is_an_error_of_one_file() {
    if !can_mount() {
        return;
    }
    let small = Small::new();
    let point = small.mount_point();
    let image = small.dir.path().join("layer.img");
    let mut bytes = fs::read(&image).unwrap();
    let text = ok(&mut small.command(&["stat", "--json", "layer.img", "/large"])).stdout;
    let value: Value = serde_json::from_slice(&text).unwrap();
    // The start block of that file points far behind the image; the layer is written with the metadata in its
    // last block.
    let nid = value[0]["inode"].as_u64().unwrap() as usize;
    let meta = u32::from_le_bytes(bytes[1024 + 0x28..][..4].try_into().unwrap()) as usize;
    let at = meta * 4096 + nid * 32 + 0x10;
    bytes[at..at + 4].copy_from_slice(&0x00ff_ffff_u32.to_le_bytes());
    let damaged = small.dir.path().join("damaged.img");
    fs::write(damaged, bytes).unwrap();
    ok(&mut small.command(&["mount", "--log", "log", "damaged.img", "mnt"]));
    let error = fs::read(point.join("large")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(nix::errno::Errno::EIO as i32));
    assert_eq!(
        fs::read_to_string(point.join("sub/file")).unwrap(),
        "contents\n"
    );
    let log = fs::read_to_string(small.dir.path().join("log")).unwrap();
    assert!(log.starts_with("varve: damaged.img: "), "{log}");
    assert!(log.contains(&format!("inode {nid}")), "{log}");
    ok(&mut small.command(&["umount", "mnt"]));
}

#[test]
fn what_cannot_be_read_is_no_empty_file() {
    if !can_mount() {
        return;
    }
    let small = Small::new();
    let point = small.mount_point();
    let text = ok(&mut small.command(&["stat", "--json", "layer.img", "/sub/file"])).stdout;
    let value: Value = serde_json::from_slice(&text).unwrap();
    let nid = value[0]["inode"].as_u64().unwrap() as usize;
    let mut bytes = fs::read(small.dir.path().join("layer.img")).unwrap();
    let meta = u32::from_le_bytes(bytes[1024 + 0x28..][..4].try_into().unwrap()) as usize;
    let at = meta * 4096 + nid * 32;
    // The data layout of its inode (erofs_fs.h: i_format) is compression of the legacy form, then one that is
    // none: neither attributes nor contents can be known.
    use nix::errno::Errno;
    for (layout, errno, words) in [
        (1, Errno::EOPNOTSUPP, "Operation not supported"),
        (7, Errno::EIO, "Input/output error"),
    ] {
        bytes[at] = bytes[at] & !0b1110 | layout << 1;
        fs::write(small.dir.path().join("odd.img"), &bytes).unwrap();
        ok(&mut small.command(&["mount", "odd.img", "mnt"]));
        let file = point.join("sub/file");
        for round in 0..3 {
            let listed = run(Command::new("ls").arg("-l").arg(point.join("sub")));
            let text = String::from_utf8_lossy(&listed.stderr).into_owned();
            assert!(text.contains(words), "{layout}, round {round}: {listed:?}");
            let errno = Some(errno as i32);
            let found = fs::symlink_metadata(&file).map(|meta| meta.len());
            assert_eq!(found.unwrap_err().raw_os_error(), errno, "round {round}");
            let found = fs::read(&file);
            assert_eq!(found.unwrap_err().raw_os_error(), errno, "round {round}");
        }
        let copy = small.dir.path().join(format!("copy{layout}"));
        let copied = run(Command::new("cp").arg("-r").arg(&point).arg(copy));
        assert!(!copied.status.success(), "{copied:?}");
        assert_eq!(fs::read(point.join("large")).unwrap().len(), 300_000);
        ok(&mut small.command(&["umount", "mnt"]));
    }
}

#[test]
fn directories_list_the_numbers_that_stat_shows() {
    if !can_mount() {
        return;
    }
    let small = Small::new();
    let point = small.mount_point();
    let upper = small.dir.path().join("upper");
    fs::create_dir_all(upper.join("sub")).unwrap();
    fs::write(upper.join("sub/more"), "more\n").unwrap();
    ok(&mut small.command(&["build", "upper", "-o", "upper.img"]));
    for layers in [&["layer.img"][..], &["layer.img", "upper.img"]] {
        ok(&mut small.command(&[&["mount"], layers, &["mnt"]].concat()));
        for dir in [point.clone(), point.join("sub")] {
            let file = File::open(&dir).unwrap();
            let mut list = rustix::fs::Dir::read_from(&file).unwrap();
            let mut seen = 0;
            while let Some(entry) = list.read() {
                let entry = entry.unwrap();
                let name = entry.file_name().to_str().unwrap().to_owned();
                // What lies above the root is the host's.
                if name == ".." && dir == point {
                    continue;
                }
                let meta = fs::symlink_metadata(dir.join(&name)).unwrap();
                assert_eq!(
                    entry.ino(),
                    meta.ino(),
                    "{}/{name} of {layers:?}",
                    dir.display()
                );
                seen += 1;
            }
            assert!(seen >= 3, "{}", dir.display());
        }
        ok(&mut small.command(&["umount", "mnt"]));
    }
}

#[test]
fn ordinary_users_mount_through_fusermount() {
    if !can_mount() {
        return;
    }
    let small = Small::new();
    let point = small.mount_point();
    // As udev makes it on an ordinary machine.
    let mode = fs::metadata("/dev/fuse").unwrap().mode();
    if mode & 0o666 != 0o666 {
        ok(Command::new("chmod").args(["666", "/dev/fuse"]));
    }
    for path in [small.dir.path(), &point] {
        ok(Command::new("chmod").arg("755").arg(path));
    }
    ok(Command::new("chown").arg("nobody").arg(&point));
    // The program itself may lie where only root gets.
    let program = small.dir.path().join("varve");
    fs::copy(&small.varve, &program).unwrap();
    let script = "cd $0 && ./varve mount layer.img mnt && cat mnt/sub/file && ./varve umount mnt";
    let output = ok(Command::new("su")
        .args(["nobody", "-s", "/bin/sh", "-c"])
        .arg(script.replace("$0", small.dir.path().to_str().unwrap())));
    assert_eq!(output.stdout, b"contents\n");
    assert!(!is_mounted(&point));
    if mode & 0o666 != 0o666 {
        ok(Command::new("chmod")
            .arg(format!("{:o}", mode & 0o777))
            .arg("/dev/fuse"));
    }
}
