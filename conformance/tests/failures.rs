//! What goes wrong is told in one line, with the documented exit status, and leaves nothing behind.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use varve_conformance::{build_image, processes, run, skip, status, varve};

/// Exit statuses as `docker run` has them.
const FAILED: i32 = 125;
const CANNOT_EXECUTE: i32 = 126;
const NOT_FOUND: i32 = 127;

/// The command in a directory of its own, with a layer `layer` and its image `layer.img` there.
struct Place {
    varve: PathBuf,
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let place = Place {
            varve: varve().unwrap(),
            dir: tempfile::tempdir().unwrap(),
        };
        // Temporary files are looked for here too.
        fs::create_dir(place.at("tmp")).unwrap();
        fs::create_dir(place.at("cache")).unwrap();
        let layer = place.at("layer");
        fs::create_dir_all(layer.join("bin/directory")).unwrap();
        let program = |name: &str, mode: u32, bytes: &[u8]| {
            let path = layer.join("bin").join(name);
            fs::write(&path, bytes).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        };
        program("text", 0o755, b"only words\n");
        program("plain", 0o644, b"#!/bin/text\n");
        program("empty", 0o755, b"");
        program("lost-interpreter", 0o755, b"#!/no/such/interpreter\n");
        // Headers of programs: this machine's class and byte order, e_machine 183 is aarch64, 62 is x86-64.
        program("arm", 0o755, &elf(183, 200));
        program("cut", 0o755, &elf(62, 40));
        program("hollow", 0o755, &elf(62, 64));
        build_image(&place.varve, &layer, &place.at("layer.img"));
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command.arg("60").arg(&self.varve).args(args);
        command
            .current_dir(self.dir.path())
            .env("TMPDIR", self.at("tmp"))
            .env("XDG_CACHE_HOME", self.at("cache"));
        command
    }

    /// Runs the command, which must fail so: this status, one line that has these words, no file more or less
    /// than before.
    fn fails(&self, args: &[&str], expected: i32, words: &[&str]) {
        let before = self.list();
        check(args, &run(&mut self.command(args)), expected, words);
        assert_eq!(self.list(), before, "{args:?} left something behind");
    }

    fn list(&self) -> Vec<PathBuf> {
        let list = |dir: &Path| {
            let entries = fs::read_dir(dir).unwrap();
            entries
                .map(|entry| entry.unwrap().path())
                .collect::<Vec<_>>()
        };
        let mut all = [list(self.dir.path()), list(&self.at("tmp"))].concat();
        all.sort();
        all
    }
}

/// The first bytes of a program, `len` of them.
fn elf(machine: u8, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; 256];
    bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    bytes[16] = 2;
    bytes[18] = machine;
    bytes[20] = 1;
    bytes.truncate(len);
    bytes
}

fn check(args: &[&str], output: &Output, expected: i32, words: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(status(output.status), expected, "{args:?}: {text}");
    assert_eq!(text.lines().count(), 1, "{args:?}: {text}");
    assert!(text.starts_with("varve: "), "{args:?}: {text}");
    for word in words {
        assert!(text.contains(word), "{args:?}: no `{word}` in: {text}");
    }
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(out.is_empty(), "{args:?}: {out}");
}

#[test]
fn layers_that_are_none() {
    let place = Place::new();
    let image = fs::read(place.at("layer.img")).unwrap();
    let variant = |name: &str, bytes: &[u8]| fs::write(place.at(name), bytes).unwrap();
    for len in [
        1,
        1023,
        1024,
        1100,
        4095,
        4096,
        image.len() / 2,
        image.len() - 4096,
        image.len() - 1,
    ] {
        variant("cut.img", &image[..len]);
        place.fails(
            &["do", "--layer", "cut.img", "--", "/bin/text"],
            FAILED,
            &["cut.img"],
        );
    }
    for byte in 1024..1024 + 128 {
        let mut bytes = image.clone();
        bytes[byte] ^= 0x10;
        variant("flipped.img", &bytes);
        place.fails(
            &["do", "--layer", "flipped.img", "--", "/bin/text"],
            FAILED,
            &["flipped.img"],
        );
    }
    variant("text.img", b"only words");
    variant("empty.img", b"");
    let mut squash = vec![0; 8192];
    squash[..4].copy_from_slice(b"hsqs");
    variant("squash.img", &squash);
    for name in ["text.img", "empty.img", "squash.img"] {
        place.fails(
            &["do", "--layer", name, "--", "/bin/text"],
            FAILED,
            &[name, "no EROFS image"],
        );
        place.fails(
            &["do", "--layer", "layer", "--layer", name, "--", "/bin/text"],
            FAILED,
            &[name, "no EROFS image"],
        );
        let option = format!("type=imgfs,src={name},dst=/mnt");
        place.fails(
            &[
                "do",
                "--layer",
                "layer",
                "--mount",
                &option,
                "--",
                "/bin/text",
            ],
            FAILED,
            &[name],
        );
    }
    place.fails(
        &["do", "--layer", "none.img", "--", "/x"],
        FAILED,
        &["none.img", "No such file or directory"],
    );
    place.fails(
        &["do", "--layer", "layer.img/x", "--", "/x"],
        FAILED,
        &["layer.img/x", "Not a directory"],
    );
    place.fails(
        &["do", "--layer", "/dev/null", "--", "/x"],
        FAILED,
        &["/dev/null", "neither an image"],
    );
    nix::unistd::mkfifo(&place.at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    place.fails(
        &["do", "--layer", "fifo", "--", "/x"],
        FAILED,
        &["fifo", "neither an image"],
    );
}

#[test]
fn programs_that_cannot_run() {
    let place = Place::new();
    for layer in ["layer", "layer.img"] {
        let fails = |program: &str, expected, words: &[&str]| {
            place.fails(
                &["do", "--layer", layer, "--", program],
                expected,
                &[&[program], words].concat(),
            );
        };
        fails("/bin/none", NOT_FOUND, &["no such file"]);
        fails("none", NOT_FOUND, &["no such file"]);
        fails("/bin/text/none", CANNOT_EXECUTE, &[]);
        fails(
            "/bin/lost-interpreter",
            NOT_FOUND,
            &["interpreter or loader"],
        );
        fails("/bin/plain", CANNOT_EXECUTE, &["permission denied"]);
        fails("plain", CANNOT_EXECUTE, &["permission denied"]);
        fails("/bin/directory", CANNOT_EXECUTE, &["is a directory"]);
        fails("/", CANNOT_EXECUTE, &["is a directory"]);
        fails("", NOT_FOUND, &["name is empty"]);
        for program in [
            "/bin/text",
            "/bin/empty",
            "/bin/arm",
            "/bin/cut",
            "/bin/hollow",
        ] {
            fails(program, CANNOT_EXECUTE, &["not a program for this machine"]);
        }
    }
    let user = ["do", "--layer", "layer", "--user"];
    place.fails(
        &[&user[..], &["nobody", "/bin/text"]].concat(),
        FAILED,
        &["nobody"],
    );
    place.fails(
        &[&user[..], &["1:wheel", "/bin/text"]].concat(),
        FAILED,
        &["wheel"],
    );
}

#[test]
fn options_without_a_meaning() {
    let place = Place::new();
    let fails = |options: &[&str], words: &[&str]| {
        let args = [&["do", "--layer", "layer"], options, &["--", "/bin/text"]].concat();
        place.fails(&args, FAILED, words);
    };
    fails(&["--mount", "type=bind,src=/,dst=/x"], &["bind"]);
    fails(&["--mount", "type=tmpfs"], &["dst"]);
    fails(&["--mount", "type=tmpfs,dst=/x,size=lots"], &["lots"]);
    fails(&["--mount", "type=imgfs,dst=/x"], &["src"]);
    fails(
        &["--mount", "type=imgfs,src=none.img,dst=/x"],
        &["none.img"],
    );
    fails(&["--env-file", "none.env"], &["none.env", "No such file"]);
    fails(&["--workdir", "relative"], &["relative"]);
    fails(
        &["--workdir", "/bin/text"],
        &["working directory /bin/text", "Not a directory"],
    );
    fails(&["--hostname", &"x".repeat(65)], &["64 bytes"]);
    fails(&["--debug-log", "none/file"], &["none/file"]);
    fails(&["--memory", "some"], &["some"]);
    fails(&["--memory", "5m"], &["5m", "6m"]);
    // What the parser of the command line refuses comes with its usage.
    for options in [&["--platform", "xen"][..], &["--no-such-option"]] {
        let args = [&["do"], options, &["--", "/bin/true"]].concat();
        let output = run(&mut place.command(&args));
        assert_eq!(status(output.status), FAILED, "{args:?}");
        assert!(output.stderr.starts_with(b"varve: "), "{args:?}");
    }
}

#[test]
fn builds_that_fail() {
    let place = Place::new();
    place.fails(
        &["build", "none", "-o", "x.img"],
        FAILED,
        &["none", "No such file or directory"],
    );
    place.fails(
        &["build", "layer", "-o", "none/x.img"],
        FAILED,
        &["none/x.img", "No such file or directory"],
    );
    place.fails(
        &["build", "layer", "-o", "layer"],
        FAILED,
        &["layer", "Is a directory"],
    );
    place.fails(
        &["build", "layer", "-o", "/proc/x.img"],
        FAILED,
        &["/proc/x.img"],
    );
    place.fails(
        &["build", "layer/bin/text", "-o", "x.img"],
        FAILED,
        &["layer/bin/text", "tar"],
    );
    place.fails(
        &["build", "layer", "-o", "x.img", "--order", "none"],
        FAILED,
        &["none"],
    );
    place.fails(
        &[
            "build",
            "layer",
            "-o",
            "x.img",
            "--label",
            "longer than fifteen",
        ],
        FAILED,
        &["label"],
    );
    // An archive that ends in the middle of a file.
    let tar = Command::new("tar")
        .args(["cf", "whole.tar", "layer"])
        .current_dir(place.dir.path())
        .status();
    if tar.is_ok_and(|status| status.success()) {
        let bytes = fs::read(place.at("whole.tar")).unwrap();
        fs::write(place.at("cut.tar"), &bytes[..1024 + 600]).unwrap();
        place.fails(&["build", "cut.tar", "-o", "x.img"], FAILED, &["cut.tar"]);
    } else {
        skip("a truncated archive", "tar is not installed");
    }
    // An image that is there stays as it was when the one that should replace it cannot be built.
    let before = fs::read(place.at("layer.img")).unwrap();
    place.fails(
        &["build", "layer/bin/text", "-o", "layer.img"],
        FAILED,
        &["layer/bin/text"],
    );
    assert!(fs::read(place.at("layer.img")).unwrap() == before);
    if nix::unistd::geteuid().is_root() {
        return;
    }
    fs::set_permissions(place.at("layer/bin/text"), fs::Permissions::from_mode(0o0)).unwrap();
    place.fails(
        &["build", "layer", "-o", "x.img"],
        FAILED,
        &["bin/text", "Permission denied"],
    );
    place.fails(
        &["do", "--layer", "layer", "--", "/bin/text"],
        FAILED,
        &["bin/text", "Permission denied"],
    );
    fs::set_permissions(place.at("layer.img"), fs::Permissions::from_mode(0o0)).unwrap();
    place.fails(
        &["do", "--layer", "layer.img", "--", "/x"],
        FAILED,
        &["layer.img", "Permission denied"],
    );
}

#[test]
fn a_full_disk_while_building() {
    let place = Place::new();
    fs::write(place.at("layer/large"), vec![1; 300_000]).unwrap();
    // A limit on the size of files stands for the full disk where there is no right to mount one.
    let limited = [
        "sh",
        "-c",
        "ulimit -f 100 && exec \"$0\" build layer -o x.img",
    ];
    let before = place.list();
    let mut command = Command::new(limited[0]);
    command
        .args(&limited[1..])
        .arg(&place.varve)
        .current_dir(place.dir.path());
    check(
        &limited,
        &run(&mut command),
        FAILED,
        &["x.img", "File too large"],
    );
    assert_eq!(place.list(), before);

    let small = place.at("small");
    fs::create_dir(&small).unwrap();
    let size = Some("size=128k");
    if let Err(error) = mount(Some("tmpfs"), &small, Some("tmpfs"), MsFlags::empty(), size) {
        return skip("a full disk", &error.to_string());
    }
    let args = ["build", "layer", "-o", "small/x.img"];
    let output = run(&mut place.command(&args));
    let left = fs::read_dir(&small).unwrap().count();
    umount2(&small, MntFlags::MNT_DETACH).unwrap();
    check(
        &args,
        &output,
        FAILED,
        &["small/x.img", "No space left on device"],
    );
    assert_eq!(left, 0);
}

/// Waits until a condition holds.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "{what} does not come about"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn varve_killed_in_any_way_leaves_no_process() {
    let place = Place::new();
    // Children that spin, sleep, and are in the middle of starting others.
    let script = "while :; do :; done & sleep 1000 & while :; do (true); done & echo ready; wait";
    for signal in [Signal::SIGKILL, Signal::SIGABRT, Signal::SIGSYS] {
        let mut command = Command::new(&place.varve);
        command
            .args(["do", "--platform", "ptrace", "--", "sh", "-c", script])
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut ready = [0; 6];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
        // The processes of the last children come about a little later than the line.
        let mut all = Vec::new();
        until("the start of all processes", || {
            all = processes(child.id());
            all.len() > 3
        });
        kill(Pid::from_raw(child.id() as i32), signal).unwrap();
        let ended = child.wait().unwrap();
        assert_eq!(status(ended), 128 + signal as i32);
        // One that only waits for its new parent, the machine's init, is dead.
        let gone = |pid: &u32| match fs::read_to_string(format!("/proc/{pid}/stat")) {
            Ok(stat) => stat
                .rsplit(") ")
                .next()
                .is_some_and(|rest| rest.starts_with(['Z', 'X'])),
            Err(_) => true,
        };
        until("the end of all processes", || all.iter().all(gone));
    }
}

#[test]
fn signals_for_varve_reach_the_program() {
    let place = Place::new();
    for (signal, expected) in [
        (Signal::SIGTERM, 7),
        (Signal::SIGINT, 8),
        (Signal::SIGHUP, 9),
    ] {
        let script = "trap 'exit 7' TERM; trap 'exit 8' INT; trap 'exit 9' HUP; echo ready; while :; do sleep 0.01; done";
        let mut command = Command::new(&place.varve);
        command
            .args(["do", "--", "sh", "-c", script])
            .stdin(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut ready = [0; 6];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
        kill(Pid::from_raw(child.id() as i32), signal).unwrap();
        assert_eq!(status(child.wait().unwrap()), expected);
    }
}

#[test]
fn standard_streams_that_fail() {
    let place = Place::new();
    let script = "trap '' PIPE; echo one 2>/dev/null; echo $? >&2; cat; echo $? >&2";
    let outcome = |command: &mut Command, output: Stdio| {
        let output = command
            .args(["sh", "-c", script])
            .stdin(Stdio::null())
            .stdout(output)
            .output()
            .unwrap();
        (
            status(output.status),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let closed = || Stdio::from(std::io::pipe().unwrap().1);
    let full = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
    for make in [&closed as &dyn Fn() -> Stdio, &full] {
        let native = outcome(&mut Command::new("env"), make());
        let sandboxed = outcome(Command::new(&place.varve).args(["do", "--"]), make());
        assert_eq!(native, sandboxed);
    }
    // Without a trap the first write into a pipe that nobody reads ends the program.
    let mut command = Command::new(&place.varve);
    command.args([
        "do",
        "--",
        "sh",
        "-c",
        "sh -c 'echo one; echo two >&2'; echo $? >&2",
    ]);
    let output = command
        .stdin(Stdio::null())
        .stdout(closed())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "141\n");
    // All three closed.
    let script = "exec \"$0\" do -- sh -c 'echo out; echo err >&2; cat; exit 5' <&- >&- 2>&-";
    let output = run(Command::new("sh").args(["-c", script]).arg(&place.varve));
    assert_eq!(status(output.status), 5);
}
