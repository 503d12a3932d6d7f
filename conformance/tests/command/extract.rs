//! `varve extract` where others are at work, for users who may not do everything, and when it is ended early.

use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::*;

const USER: u32 = 1000;

/// A tar header (ustar) with these fields.
fn header(name: &str, kind: u8, mode: u32, owner: [u8; 8], size: usize) -> Vec<u8> {
    let mut header = vec![0; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[100..107].copy_from_slice(format!("{mode:07o}").as_bytes());
    header[108..116].copy_from_slice(&owner);
    header[116..124].copy_from_slice(&owner);
    header[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    header[156] = kind;
    header[257..265].copy_from_slice(b"ustar\x0000");
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

fn id(id: u32) -> [u8; 8] {
    match id < 1 << 21 {
        true => format!("{id:07o}\0").into_bytes().try_into().unwrap(),
        // Base 256, as GNU tar writes it.
        false => {
            let mut field = [0; 8];
            field[0] = 0x80;
            field[4..].copy_from_slice(&id.to_be_bytes());
            field
        }
    }
}

#[test]
fn set_id_bits_are_kept_only_with_their_owner() {
    if !is_root("owners") {
        return;
    }
    let mut place = Place::new();
    place.open_to_all();
    let mut archive = Vec::new();
    for (name, kind, mode, owner) in [
        ("root", b'0', 0o4755, 0),
        ("group", b'0', 0o2755, 0),
        ("own", b'0', 0o6755, USER),
        ("nobody", b'0', 0o6755, u32::MAX),
        ("open", b'0', 0o666, 0),
        ("dir/", b'5', 0o2777, 0),
        ("fifo", b'6', 0o666, 0),
        ("strange", b'0', 0o4711, u32::MAX - 1),
    ] {
        archive.extend(header(name, kind, mode, id(owner), 0));
    }
    archive.extend([0; 1024]);
    place.file("a.tar", 0o644, archive);
    place.ok(&["build", "a.tar", "-o", "a.img"]);
    fs::set_permissions(place.at("a.img"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::create_dir(place.at("home")).unwrap();
    // A file is a layer also for those who cannot look into the store.
    fs::create_dir(place.at("closed")).unwrap();
    fs::set_permissions(place.at("closed"), fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::chown(place.at("home"), Some(USER), Some(USER)).unwrap();
    let modes = |out: &str| {
        [
            "root", "group", "own", "nobody", "open", "dir", "fifo", "strange",
        ]
        .map(|name| mode(&place.at(out).join(name)))
    };
    for (umask, out, expected) in [
        (
            "077",
            "home/private",
            [0o700, 0o700, 0o6700, 0o700, 0o600, 0o700, 0o600, 0o700],
        ),
        (
            "022",
            "home/usual",
            [0o755, 0o755, 0o6755, 0o755, 0o644, 0o755, 0o644, 0o711],
        ),
    ] {
        let mut command = place.prepared("sh", &["-c", "umask $0; exec \"$@\"", umask]);
        command
            .arg(&place.varve)
            .args(["extract", "a.img", "-o", out])
            .env_remove("VARVE_STORE")
            .env("HOME", place.at("closed"))
            .uid(USER)
            .gid(USER);
        let output = run(&mut command);
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(
            modes(out).map(|mode| format!("{mode:o}")),
            expected.map(|mode| format!("{mode:o}")),
            "{umask}"
        );
        assert!(
            text(&output.stderr).contains("set-ID bits were left out"),
            "{}",
            text(&output.stderr)
        );
    }
    // Root keeps what it can give away. The last of all ids is none: chown(2) takes it for "leave it".
    let output = place.run(&["extract", "a.img", "-o", "out"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let expected = [0o4755, 0o2755, 0o6755, 0o755, 0o666, 0o2777, 0o666, 0o4711];
    assert_eq!(
        modes("out").map(|mode| format!("{mode:o}")),
        expected.map(|mode| format!("{mode:o}"))
    );
    let owner = |name: &str| {
        fs::symlink_metadata(place.at("out").join(name))
            .unwrap()
            .uid()
    };
    assert_eq!(
        (owner("own"), owner("nobody"), owner("strange")),
        (USER, 0, u32::MAX - 1)
    );
    assert!(
        fs::symlink_metadata(place.at("out/fifo"))
            .unwrap()
            .file_type()
            .is_fifo()
    );

    // Archives obey the mask as well.
    let mut command = place.prepared("sh", &["-c", "umask 027; exec \"$@\"", "sh"]);
    command
        .arg(&place.varve)
        .args(["extract", "a.img", "-o", "out.tar"]);
    assert!(run(&mut command).status.success());
    assert_eq!(mode(&place.at("out.tar")), 0o640);
}

#[test]
fn nothing_leads_out_of_the_directory() {
    let place = Place::new();
    place.file("tree/a/b/file", 0o644, "contents\n");
    symlink("../victim", place.at("tree/link")).unwrap();
    place.ok(&["build", "tree", "-o", "layer.img"]);
    fs::create_dir(place.at("victim")).unwrap();
    symlink("victim", place.at("out")).unwrap();
    for out in ["out", "out/"] {
        place.fails(
            &["extract", "layer.img", "-o", out],
            125,
            &["links are not followed"],
        );
    }
    symlink("none", place.at("dangling")).unwrap();
    place.fails(
        &["extract", "layer.img", "-o", "dangling"],
        125,
        &["dangling"],
    );
    place.file("full/file", 0o644, "");
    place.fails(&["extract", "layer.img", "-o", "full"], 125, &["not empty"]);
    assert_eq!(fs::read_dir(place.at("victim")).unwrap().count(), 0);
    // One that is there and empty is taken.
    fs::create_dir(place.at("empty")).unwrap();
    place.ok(&["extract", "layer.img", "-o", "empty/"]);
    assert_eq!(
        fs::read_link(place.at("empty/link")).unwrap(),
        Path::new("../victim")
    );
    assert_eq!(fs::read(place.at("empty/a/b/file")).unwrap(), b"contents\n");
}

#[test]
fn directories_that_are_swapped_lead_nowhere() {
    let place = Place::new();
    for number in 0..30 {
        for name in ["a", "b", "c"] {
            place.file(&format!("tree/d{number}/{name}"), 0o644, "contents\n");
        }
        fs::hard_link(
            place.at(&format!("tree/d{number}/a")),
            place.at(&format!("tree/d{number}/z")),
        )
        .unwrap();
    }
    place.ok(&["build", "tree", "-o", "layer.img"]);
    fs::create_dir(place.at("victim")).unwrap();
    let victim = fs::metadata(place.at("victim")).unwrap();
    // Whoever owns the directory may rename what is in it, and put links in its place.
    let done = AtomicBool::new(false);
    let out = place.at("out");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0;
            while !done.load(Ordering::Relaxed) {
                number = (number + 1) % 30;
                let dir = out.join(format!("d{number}"));
                let aside = out.join(format!("aside{number}"));
                if fs::rename(&dir, &aside).is_ok() {
                    let _ = symlink("../victim", &dir);
                    std::thread::yield_now();
                    let _ = fs::remove_file(&dir);
                    let _ = fs::rename(&aside, &dir);
                }
            }
        });
        // Also when something below fails.
        struct End<'a>(&'a AtomicBool);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let _end = End(&done);
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(3) {
            let output = place.run(&["extract", "layer.img", "-o", "out"]);
            let said = text(&output.stderr);
            let refused = [
                "replaced by somebody",
                "No such file",
                "File exists",
                "not empty",
            ];
            let good = output.status.success() || refused.iter().any(|words| said.contains(words));
            assert!(good, "{said}");
            let _ = fs::remove_dir_all(&out);
        }
    });
    assert_eq!(fs::read_dir(place.at("victim")).unwrap().count(), 0);
    let after = fs::metadata(place.at("victim")).unwrap();
    let attributes =
        |meta: &fs::Metadata| (meta.mode(), meta.uid(), meta.mtime(), meta.mtime_nsec());
    assert_eq!(attributes(&victim), attributes(&after));
}

#[test]
fn deep_trees_need_few_descriptors() {
    let place = Place::new();
    let mut archive = Vec::new();
    let mut path = String::new();
    // Names in the archive are short: each directory is made by a hundred of them at most.
    for _ in 0..48 {
        path.push_str("d/");
        archive.extend(header(
            &path,
            b'5',
            0o555,
            id(nix::unistd::getuid().as_raw()),
            0,
        ));
    }
    archive.extend(header(
        &format!("{path}f"),
        b'0',
        0o444,
        id(nix::unistd::getuid().as_raw()),
        0,
    ));
    archive.extend([0; 1024]);
    place.file("a.tar", 0o644, archive);
    place.ok(&["build", "a.tar", "-o", "a.img"]);
    let mut command = place.prepared("sh", &["-c", "ulimit -n 48; exec \"$@\"", "sh"]);
    command.arg(&place.varve).args([
        "extract",
        "a.img",
        &format!("{path}f"),
        &format!("{path}f"),
        "/",
        "-o",
        "out",
    ]);
    let output = run(&mut command);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(mode(&place.at("out").join(&path)), 0o555);
    assert!(place.at("out").join(&path).join("f").exists());
}

#[test]
fn an_extraction_that_is_stopped_or_fails_leaves_nothing() {
    let place = Place::new();
    for number in 0..1500 {
        place.file(
            &format!("tree/d{}/f{number}", number % 50),
            0o644,
            format!("{number}"),
        );
    }
    place.ok(&["build", "tree", "-o", "layer.img"]);
    fs::create_dir(place.at("there")).unwrap();
    let list = || {
        let mut all: Vec<_> = fs::read_dir(place.dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        all.sort();
        all
    };
    let before = list();
    for (signal, out) in [
        (Signal::SIGTERM, "out"),
        (Signal::SIGINT, "there"),
        (Signal::SIGHUP, "out.tar"),
    ] {
        let mut command = place.prepared(
            place.varve.to_str().unwrap(),
            &["extract", "layer.img", "-o", out],
        );
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let start = Instant::now();
        let begun = || match out {
            "there" => fs::read_dir(place.at(out)).unwrap().count() > 0,
            _ => list() != before,
        };
        while !begun() {
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "{out} does not begin"
            );
        }
        kill(Pid::from_raw(child.id() as i32), signal).unwrap();
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(128 + signal as i32), "{out}");
        assert_eq!(list(), before, "{out}");
        assert_eq!(fs::read_dir(place.at("there")).unwrap().count(), 0, "{out}");
    }
    // A file that grows too large for the disk.
    place.file("large/file", 0o644, vec![1; 400_000]);
    place.ok(&["build", "large", "-o", "large.img"]);
    let before = list();
    for out in ["out", "out.tar"] {
        let mut command = place.prepared("sh", &["-c", "ulimit -f 100; exec \"$@\"", "sh"]);
        command
            .arg(&place.varve)
            .args(["extract", "large.img", "-o", out]);
        let output = run(&mut command);
        assert_eq!(output.status.code(), Some(125), "{}", text(&output.stderr));
        assert!(
            text(&output.stderr).contains("File too large"),
            "{}",
            text(&output.stderr)
        );
        assert_eq!(list(), before, "{out}");
    }
    // One that cannot be read is not there in part.
    let mut bytes = fs::read(place.at("large.img")).unwrap();
    let shown: serde_json::Value =
        serde_json::from_str(&place.ok(&["stat", "--json", "large.img", "/file"])).unwrap();
    let nid = shown[0]["inode"].as_u64().unwrap() as usize;
    let meta = u32::from_le_bytes(bytes[1024 + 0x28..][..4].try_into().unwrap()) as usize;
    // Its start block lies behind the end.
    bytes[meta * 4096 + nid * 32 + 0x10..][..4].copy_from_slice(&0x00ff_ffff_u32.to_le_bytes());
    fs::write(place.at("damaged.img"), bytes).unwrap();
    let output = place.run(&["extract", "damaged.img", "-o", "out"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(place.at("out").exists() && !place.at("out/file").exists());
}
