//! Standard output that nobody reads, or that is full.

use std::fs::File;
use std::process::Stdio;

use super::*;

#[test]
fn a_full_or_closed_output_is_told_or_is_the_end_and_never_a_panic() {
    let place = Place::new();
    place.file("tree/file", 0o644, "contents\n");
    place.file("more/file", 0o644, "other\n");
    place.ok(&["build", "tree", "-o", "layer.img"]);
    place.ok(&["build", "more", "-o", "more.img"]);
    place.ok(&["convert", "dir:tree", "image"]);
    let list = |name: &str| fs::read_dir(place.at(name)).unwrap().count();
    for args in [
        &["ls", "layer.img"][..],
        &["ls", "--json", "layer.img"],
        &["tree", "layer.img"],
        &["stat", "layer.img", "/file"],
        &["cat", "layer.img", "/file"],
        &["cat", "--json", "layer.img", "/file"],
        &["diff", "layer.img", "more.img"],
        &["du", "layer.img"],
        &["which-layer", "layer.img", "/file"],
        &["extract", "layer.img", "-o", "-"],
        &["images"],
        &["inspect", "image"],
        &["inspect", "--html", "-", "image"],
        &["du", "--html", "-", "image"],
        &["convert", "image", "-", "--format", "docker-layers"],
        &["convert", "image", "docker-archive:-"],
        &["convert", "image", "oci-archive:-"],
        &["check", "image"],
        &["prune"],
        &["syscalls"],
        &["syscalls", "--json"],
        &["platforms"],
        &["completions", "bash"],
        &["man"],
        &["build", "tree", "-o", "again.img"],
        &["convert", "dir:tree", "image"],
        &["demo"],
        &["--help"],
        &["do", "--help"],
        &["--version"],
    ] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = place
            .command(args)
            .stdout(full)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        let said = text(&output.stderr);
        assert_eq!(
            output.status.code(),
            Some(125),
            "{args:?} into a full disk: {said}"
        );
        assert!(
            said.contains("No space left on device") || args == ["demo"],
            "{args:?}: {said}"
        );
        assert!(!said.contains("panicked"), "{args:?}: {said}");

        let (read, write) = std::io::pipe().unwrap();
        drop(read);
        let output = place
            .command(args)
            .stdout(write)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        let said = text(&output.stderr);
        let status = output.status.code();
        let expected = if args[0] == "diff" { Some(1) } else { Some(0) };
        assert_eq!(status, expected, "{args:?} into a closed pipe: {said}");
        assert!(
            !said.contains("panicked") && !said.contains("Broken pipe"),
            "{args:?}: {said}"
        );
        assert_eq!(list("tmp"), 0, "{args:?} left files behind");
    }
}

#[test]
fn logs_and_recordings_are_for_their_owner_and_lead_nowhere() {
    let place = Place::new();
    fs::create_dir(place.at("shared")).unwrap();
    fs::set_permissions(place.at("shared"), fs::Permissions::from_mode(0o1777)).unwrap();
    place.file("victim", 0o644, "kept\n");
    for option in ["--log", "--debug-log", "--record"] {
        let link = place.at("shared/link");
        std::os::unix::fs::symlink(place.at("victim"), &link).unwrap();
        place.fails(
            &["do", option, "shared/link", "--", "true"],
            125,
            &["shared/link", "symbolic link"],
        );
        fs::remove_file(&link).unwrap();
        assert_eq!(fs::read_to_string(place.at("victim")).unwrap(), "kept\n");
        let new = format!("new{option}");
        let mut command = place.prepared("sh", &["-c", "umask 000; exec \"$@\"", "sh"]);
        command
            .arg(&place.varve)
            .args(["do", option, &new, "--", "true"]);
        assert!(run(&mut command).status.success());
        assert_eq!(mode(&place.at(&new)), 0o600, "{option}");
    }
    std::os::unix::fs::symlink(place.at("victim"), place.at("shared/trace")).unwrap();
    place.fails(
        &["do", "--strace=-o shared/trace", "--", "true"],
        125,
        &["shared/trace", "symbolic link"],
    );
    place.ok(&["do", "--strace=-o trace", "--", "true"]);
    assert_eq!(mode(&place.at("trace")), 0o600);
    // Nor do pages go through one.
    std::os::unix::fs::symlink(place.at("victim"), place.at("shared/varve.1")).unwrap();
    place.ok(&["man", "shared"]);
    assert_eq!(fs::read_to_string(place.at("victim")).unwrap(), "kept\n");
    assert!(place.at("shared/varve-do.1").exists());
    // Where only the caller can make links, they are the caller's.
    std::os::unix::fs::symlink("victim", place.at("own")).unwrap();
    place.ok(&["do", "--debug", "--debug-log", "own", "--", "true"]);
    assert!(
        fs::read_to_string(place.at("victim"))
            .unwrap()
            .starts_with("kept\n")
    );
}

#[test]
fn a_directory_as_a_layer_is_built_once_and_hidden() {
    let place = Place::new();
    place.file("tree/file", 0o600, "one\n");
    let kept = || {
        let entries = fs::read_dir(place.at("cache/varve/layers"))
            .into_iter()
            .flatten();
        let mut all: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        all.sort();
        all
    };
    let look = |expected: &str| {
        let shown = place.ok(&["cat", "./tree", "/file"]);
        assert_eq!(shown, expected);
    };
    std::thread::sleep(std::time::Duration::from_millis(100));
    look("one\n");
    let first = kept();
    assert_eq!(first.len(), 1, "{first:?}");
    assert_eq!(mode(&place.at("cache/varve/layers")), 0o700);
    let made = fs::metadata(&first[0]).unwrap();
    look("one\n");
    assert_eq!(kept(), first);
    use std::os::unix::fs::MetadataExt;
    assert_eq!(
        fs::metadata(&first[0]).unwrap().ino(),
        made.ino(),
        "it was built again"
    );
    // Any change makes another one, at once and with the old times, too.
    let time = fs::metadata(place.at("tree/file"))
        .unwrap()
        .modified()
        .unwrap();
    place.file("tree/file", 0o600, "two\n");
    File::options()
        .write(true)
        .open(place.at("tree/file"))
        .unwrap()
        .set_modified(time)
        .unwrap();
    look("two\n");
    place.file("tree/file", 0o600, "six\n");
    look("six\n");
    assert_eq!(fs::read_dir(place.at("tmp")).unwrap().count(), 0);
}

#[test]
fn a_device_a_pipe_or_a_link_to_one_is_written_to_and_stays() {
    let place = Place::new();
    place.file("tree/file", 0o644, "contents\n");
    place.ok(&["convert", "dir:tree", "image"]);
    // As /dev/stdout is.
    std::os::unix::fs::symlink("/proc/self/fd/1", place.at("out")).unwrap();
    let outputs: &[(&[&str], &str)] = &[
        (&["convert", "image", "docker-archive:OUT"], "manifest.json"),
        (
            &["convert", "image", "OUT", "--format", "docker-layers"],
            "manifest.json",
        ),
        (&["convert", "image", "oci-archive:OUT"], "index.json"),
        (&["extract", "image", "--tar", "-o", "OUT"], "file"),
        (&["inspect", "image", "--html", "OUT"], "<!DOCTYPE html>"),
        (&["du", "image", "--html", "OUT"], "<!DOCTYPE html>"),
    ];
    let to = |args: &[&str], out: &str| -> Vec<String> {
        args.iter().map(|arg| arg.replace("OUT", out)).collect()
    };
    for (args, holds) in outputs {
        let args = to(args, "./out");
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let output = place.run(&args);
        let said = text(&output.stderr);
        assert!(output.status.success(), "{args:?}: {said}");
        assert!(text(&output.stdout).contains(holds), "{args:?}");
        assert!(
            fs::symlink_metadata(place.at("out")).unwrap().is_symlink(),
            "{args:?}"
        );
    }
    if !is_root("a device of one's own") {
        return;
    }
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};
    let device = |name: &str, minor| {
        let made = mknod(
            &place.at(name),
            SFlag::S_IFCHR,
            Mode::from_bits_truncate(0o666),
            makedev(1, minor),
        );
        // Not in every sandbox.
        made.is_ok() && File::options().write(true).open(place.at(name)).is_ok()
    };
    if !device("null", 3) || !device("full", 7) {
        return skip(
            "a device of one's own",
            "devices cannot be made or opened here",
        );
    }
    use std::os::unix::fs::FileTypeExt;
    for (args, _) in outputs {
        let into_null = to(args, "./null");
        place.ok(&into_null.iter().map(String::as_str).collect::<Vec<_>>());
        let into_full = to(args, "./full");
        let args: Vec<&str> = into_full.iter().map(String::as_str).collect();
        let output = place.run(&args);
        assert_eq!(output.status.code(), Some(125), "{args:?}");
        assert!(
            text(&output.stderr).contains("No space left on device"),
            "{args:?}"
        );
        for name in ["null", "full"] {
            let kind = fs::symlink_metadata(place.at(name)).unwrap().file_type();
            assert!(kind.is_char_device(), "{args:?} replaced a device");
        }
    }
    // An image is not written front to back: it gets a file, or nothing.
    place.fails(
        &["build", "tree", "-o", "out"],
        125,
        &["not a regular file"],
    );
    let file = File::create(place.at("redirected")).unwrap();
    let mut command = place.command(&["build", "tree", "-o", "out"]);
    assert!(command.stdout(file).status().unwrap().success());
    assert!(fs::symlink_metadata(place.at("out")).unwrap().is_symlink());
    place.ok(&["ls", "redirected"]);
    place.fails(
        &["build", "tree", "-o", "null"],
        125,
        &["not a regular file"],
    );
    place.fails(&["build", "tree", "-o", "-"], 125, &["name a file"]);
    place.fails(
        &["merge", "/dev/zero", "-o", "index.img"],
        125,
        &["/dev/zero", "no image file"],
    );
}

#[test]
fn a_conversion_that_is_told_to_stop_ends_as_a_shell_tells_it() {
    use nix::sys::signal::{Signal, kill};
    let place = Place::new();
    // Zeros enough for minutes.
    File::create(place.at("large"))
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    for (signal, status) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
        let mut command = Command::new(&place.varve);
        command.args(["convert", "erofs:large", "./image"]);
        command.current_dir(place.dir.path()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        // It takes signals in order once it has begun to write.
        let begun = std::time::Instant::now();
        while !place.at("image/blobs").exists() && begun.elapsed().as_secs() < 30 {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        kill(nix::unistd::Pid::from_raw(child.id() as i32), signal).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(
            output.status.code(),
            Some(status),
            "{}",
            text(&output.stderr)
        );
        assert_eq!(text(&output.stderr), "varve: interrupted\n");
        assert!(!place.at("image").exists());
    }
}
