//! Runs are recorded on every platform that works here and made again without the program: every output and
//! every digest must be equal.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use varve_conformance::{build_image, run, skip, status, varve};

/// The run went another way than in the log; varve itself failed.
const DIFFERENT: i32 = 1;
const FAILED: i32 = 125;

/// Processes, pipes, here-documents, signals, a timer, a job in the background, standard input.
const SCRIPT: &str = r#"
exec 2>/dev/null # where the shell says that a job was terminated
echo "from outside: $(cat)"
trap 'echo got USR1' USR1
kill -USR1 $$
(sleep 0.05; echo slept) | cat
seq 1 300 | sort -r | grep -v 7 | head -n 5
mkdir -p /tmp/a/b && cd /tmp/a && for n in 1 2 3; do echo "line $n" >> b/file; done
cat b/file | wc -l; mv b/file c; ln -s c d; cat d; rm -r b; ls -la /tmp/a | wc -l
cat <<END
pid $$ here
END
sleep 5 & sleeper=$!; kill $sleeper; wait $sleeper; echo "status $?"
timeout 0.05 sleep 5; echo "timeout $?"
dd if=/dev/urandom bs=100 count=3 2>/dev/null | md5sum | wc -c
exit 7
"#;

struct Place {
    varve: PathBuf,
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        Place {
            varve: varve().unwrap(),
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The platforms that work here.
    fn platforms(&self) -> Vec<String> {
        let list = run(Command::new(&self.varve).args(["platforms", "--json"]));
        let list: Value = serde_json::from_slice(&list.stdout).unwrap_or_default();
        let works = |entry: &&Value| entry["works"] == true;
        let entries = list.as_array().into_iter().flatten().filter(works);
        let names: Vec<_> = entries
            .filter_map(|entry| entry["name"].as_str())
            .map(String::from)
            .collect();
        match names.is_empty() {
            // The command is older than the list.
            true => vec!["ptrace".into()],
            false => names,
        }
    }

    /// Records a program, fed with some input.
    fn record(&self, log: &Path, platform: &str, options: &[&str], program: &[&str]) -> Output {
        let input = self.at("input");
        fs::write(&input, "the input").unwrap();
        let mut command = Command::new("timeout");
        command.arg("120").arg(&self.varve);
        command.args(["do", "--platform", platform, "--record"]);
        command.arg(log).args(options).arg("--").args(program);
        // A pipe, as in a pipeline: a regular file would be read without waiting.
        let mut cat = Command::new("cat")
            .arg(&input)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = command.stdin(cat.stdout.take().unwrap()).output().unwrap();
        cat.wait().unwrap();
        out
    }

    fn replay(&self, log: &Path, options: &[&str]) -> Output {
        run(Command::new(&self.varve)
            .arg("replay")
            .args(options)
            .arg(log))
    }

    /// Replays a log, which must be equal to its end; gives the report.
    fn equal(&self, log: &Path, options: &[&str]) -> Value {
        let options = [&["--json"], options].concat();
        let out = self.replay(log, &options);
        let text = String::from_utf8_lossy(&out.stderr);
        assert_eq!((status(out.status), &*text), (0, ""));
        let report: Value = serde_json::from_slice(&out.stdout).unwrap();
        assert_eq!(report["equal"], true);
        report
    }

    /// Records on every platform with a digest after each input and replays; both must say how the program
    /// ended.
    fn twice(&self, options: &[&str], program: &[&str], expected: i32, stdout: &str) {
        for platform in self.platforms() {
            let log = self.at(&format!("{platform}.log"));
            let options = [&["--record-digest", "1"], options].concat();
            let recorded = self.record(&log, &platform, &options, program);
            let text = String::from_utf8_lossy(&recorded.stderr);
            assert_eq!(
                (status(recorded.status), &*text),
                (expected, ""),
                "{platform}"
            );
            assert_eq!(
                String::from_utf8_lossy(&recorded.stdout),
                stdout,
                "{platform}"
            );
            let mode = fs::metadata(&log).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "the log is nobody else's business");
            let report = self.equal(&log, &[]);
            assert_eq!(report["platform"], platform.as_str());
            assert_eq!(report["exit"]["status"], expected);
            assert!(report["system_calls"].as_u64().unwrap() > 30, "{report}");
        }
    }

    /// A layer image with busybox; `None` where there is none.
    fn busybox(&self) -> Option<PathBuf> {
        let programs = ["/bin/busybox", "/usr/bin/busybox"].map(Path::new);
        let Some(busybox) = programs.into_iter().find(|path| path.exists()) else {
            skip("a recorded shell", "there is no busybox");
            return None;
        };
        let layer = self.at("layer");
        for dir in ["bin", "tmp", "etc"] {
            fs::create_dir_all(layer.join(dir)).unwrap();
        }
        fs::copy(busybox, layer.join("bin/busybox")).unwrap();
        let list = run(Command::new(busybox).arg("--list"));
        for name in String::from_utf8(list.stdout).unwrap().lines() {
            if name != "busybox" {
                symlink("busybox", layer.join("bin").join(name)).unwrap();
            }
        }
        let image = self.at("layer.img");
        build_image(&self.varve, &layer, &image);
        Some(image)
    }
}

const SCRIPT_OUTPUT: &str = "from outside: the input
got USR1
slept
99
98
96
95
94
3
line 1
line 2
line 3
5
pid 1 here
status 143
timeout 143
36
";

#[test]
fn a_shell_with_pipes_signals_and_timers() {
    let place = Place::new();
    let Some(image) = place.busybox() else { return };
    let options = ["--layer", image.to_str().unwrap()];
    place.twice(&options, &["/bin/sh", "-c", SCRIPT], 7, SCRIPT_OUTPUT);
}

#[test]
fn threads_with_futexes() {
    let place = Place::new();
    let layer = place.at("layer");
    fs::create_dir(&layer).unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("guests/threads.c");
    let mut cc = Command::new("cc");
    cc.args(["-static", "-O1", "-pthread", "-o"]);
    match cc.arg(layer.join("threads")).arg(source).output() {
        Ok(built) if built.status.success() => {}
        Ok(built) => return skip("threads", &String::from_utf8_lossy(&built.stderr)),
        Err(error) => return skip("threads", &format!("cc: {error}")),
    }
    let native = run(&mut Command::new(layer.join("threads")));
    let expected = String::from_utf8(native.stdout).unwrap();
    assert!(
        expected.starts_with("600 taken, sum 659700, "),
        "{expected}"
    );
    // A directory, which is built on the fly, both times.
    let options = ["--layer", layer.to_str().unwrap()];
    place.twice(&options, &["/threads"], 0, &expected);
}

/// What the host's directories held is in the log: they may change afterwards.
#[test]
fn a_program_over_the_hosts_root() {
    let place = Place::new();
    let dir = place.at("seen");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("file"), "x".repeat(100_000)).unwrap();
    symlink("file", dir.join("link")).unwrap();
    let path = dir.to_str().unwrap();
    let script = format!(
        "ls {path}; cat {path}/link | wc -c; readlink {path}/link; ls /etc >/dev/null; echo new > {path}/file; cat {path}/file"
    );
    for platform in place.platforms() {
        let log = place.at(&format!("{platform}.log"));
        let options = ["--record-digest", "1"];
        let out = place.record(&log, &platform, &options, &["sh", "-c", &script]);
        let text = String::from_utf8_lossy(&out.stderr);
        assert_eq!((status(out.status), &*text), (0, ""), "{platform}");
        let expected = "file\nlink\n100000\nfile\nnew\n";
        assert_eq!(String::from_utf8_lossy(&out.stdout), expected);
    }
    fs::remove_dir_all(&dir).unwrap();
    for platform in place.platforms() {
        let log = place.at(&format!("{platform}.log"));
        let report = place.equal(&log, &[]);
        assert_eq!(report["exit"]["status"], 0);
    }
}

#[test]
fn strace_and_inputs_of_a_replay() {
    let place = Place::new();
    let Some(image) = place.busybox() else { return };
    let image = image.to_str().unwrap();
    let log = place.at("traced.log");
    let options = ["--strace", "--layer", image];
    let recorded = place.record(&log, "auto", &options, &["/bin/echo", "hello"]);
    assert_eq!(status(recorded.status), 0);
    let replayed = place.replay(&log, &["--strace"]);
    assert_eq!(status(replayed.status), 0);
    // The same lines, byte for byte.
    let lines = String::from_utf8_lossy(&recorded.stderr);
    assert_eq!(String::from_utf8_lossy(&replayed.stderr), lines);
    assert!(lines.contains("write(1, \"hello\\n\", 6)"), "{lines}");

    // A run that nobody traced then shows them all the same, but for what differs from run to run.
    let log = place.at("plain.log");
    let recorded = place.record(&log, "auto", &["--layer", image], &["/bin/echo", "hello"]);
    assert_eq!((status(recorded.status), recorded.stderr), (0, Vec::new()));
    let replayed = place.replay(&log, &["--strace", "--inputs"]);
    let again = String::from_utf8_lossy(&replayed.stderr);
    assert_eq!(without_addresses(&again), without_addresses(&lines));
    let text = String::from_utf8_lossy(&replayed.stdout);
    assert!(text.contains("thread 0 calls write(0x1, "), "{text}");
    assert!(
        text.contains("all equal\nexited with status 0\ndigest "),
        "{text}"
    );
}

/// Lines without what is random: addresses, with the blanks that pad short ones, and random bytes.
fn without_addresses(lines: &str) -> Vec<String> {
    let clean = |line: &str| {
        let words = line.split_whitespace().map(|word| match word.find("0x") {
            Some(at) => &word[..at],
            None => word,
        });
        let line = words.collect::<Vec<_>>().join(" ");
        match line.contains("getrandom(") {
            true => line
                .chars()
                .filter(|c| c.is_ascii_alphabetic())
                .take(8)
                .collect(),
            false => line,
        }
    };
    lines.lines().map(clean).collect()
}

#[test]
fn what_a_program_wrote_is_written_again() {
    let place = Place::new();
    let Some(image) = place.busybox() else { return };
    let image = image.to_str().unwrap();
    let log = place.at("log");
    let script = "echo one; echo two >&2; printf three; exit 3";
    let recorded = place.record(
        &log,
        "auto",
        &["--layer", image],
        &["/bin/sh", "-c", script],
    );
    assert_eq!(status(recorded.status), 3);
    let replayed = place.replay(&log, &["--output"]);
    assert_eq!(status(replayed.status), 0);
    assert_eq!(replayed.stdout, b"one\nthree");
    assert_eq!(replayed.stderr, b"two\n");
    // Numbers of processes and paths are those of the program.
    let script = "/bin/cat /etc/none; true";
    let recorded = place.record(
        &log,
        "auto",
        &["--layer", image],
        &["/bin/sh", "-c", script],
    );
    assert_eq!(status(recorded.status), 0);
    let replayed = place.replay(&log, &["--strace=-e openat,open,execve"]);
    let lines = String::from_utf8_lossy(&replayed.stderr);
    assert!(lines.contains("\"/etc/none\", O_RDONLY"), "{lines}");
    assert!(
        lines.contains("[pid     1] execve(\"/bin/sh\", [\"/bin/sh\", \"-c\", "),
        "{lines}"
    );
    assert!(
        lines.contains("[pid     2] +++ exited with 1 +++"),
        "{lines}"
    );
}

/// A run that could not start is recorded, too.
#[test]
fn a_program_that_is_not_there() {
    let place = Place::new();
    let Some(image) = place.busybox() else { return };
    let log = place.at("log");
    let options = ["--layer", image.to_str().unwrap()];
    let recorded = place.record(&log, "auto", &options, &["/bin/none"]);
    assert_eq!(status(recorded.status), 127);
    let report = place.equal(&log, &[]);
    let error = report["boot_error"].as_str().unwrap();
    assert!(error.contains("ENOENT"), "{error}");
}

#[test]
fn images_are_found_by_digest() {
    let place = Place::new();
    let Some(image) = place.busybox() else { return };
    let log = place.at("log");
    let options = ["--layer", image.to_str().unwrap()];
    let recorded = place.record(&log, "auto", &options, &["/bin/true"]);
    assert_eq!(status(recorded.status), 0);
    place.equal(&log, &[]);

    let store = place.at("store");
    fs::create_dir(&store).unwrap();
    let moved = store.join("moved.img");
    fs::rename(&image, &moved).unwrap();
    let missing = place.replay(&log, &[]);
    let text = String::from_utf8_lossy(&missing.stderr);
    assert_eq!(status(missing.status), FAILED);
    assert!(text.contains("is not there: an image of"), "{text}");
    place.equal(&log, &["--image-dir", store.to_str().unwrap()]);
    place.equal(&log, &["--layer", moved.to_str().unwrap()]);

    // Another image under the old name.
    let mut bytes = fs::read(&moved).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&image, bytes).unwrap();
    let changed = place.replay(&log, &[]);
    let text = String::from_utf8_lossy(&changed.stderr);
    assert_eq!(status(changed.status), FAILED);
    assert!(text.contains("is not what it was"), "{text}");
}

#[test]
fn damage_is_told_with_its_place() {
    let place = Place::new();
    let Some(image) = place.busybox() else { return };
    let log = place.at("log");
    let options = ["--layer", image.to_str().unwrap()];
    let recorded = place.record(&log, "auto", &options, &["/bin/ls", "-la", "/bin"]);
    assert_eq!(status(recorded.status), 0);
    let good = fs::read(&log).unwrap();
    let bad = place.at("bad.log");
    let fails = |bytes: &[u8], expected: i32, words: &str| {
        fs::write(&bad, bytes).unwrap();
        let out = place.replay(&bad, &[]);
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(status(out.status), expected, "{text}");
        assert!(text.contains(words) && text.lines().count() == 1, "{text}");
    };
    fails(b"", FAILED, "not a log of a run");
    fails(b"#!/bin/sh\nexit 0\n", FAILED, "not a log of a run");
    fails(
        &good[..good.len() - 1],
        FAILED,
        "the log ends too early, at byte",
    );
    let mut bytes = good.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fails(&bytes, FAILED, "the check sum of the chunk does not match");
    bytes = good.clone();
    bytes.push(0);
    fails(&bytes, FAILED, "the log ends too early");

    // Forged, with the right check sum: another byte of what the program wrote, in the chunk that holds it.
    let mut forged = good.clone();
    let line = b"busybox";
    let at = forged.windows(line.len()).rposition(|part| part == line);
    forged[at.unwrap()] ^= 1;
    seal(&mut forged);
    fails(&forged, DIFFERENT, "different at input");
}

/// Gives all chunks of a log the check sums of what they hold now.
fn seal(log: &mut [u8]) {
    let mut at = 12;
    let mut number = 0;
    while at < log.len() {
        let len = u32::from_le_bytes(log[at..at + 4].try_into().unwrap()) as usize;
        let sum = checksum(number, &log[at + 12..at + 12 + len]);
        log[at + 4..at + 12].copy_from_slice(&sum.to_le_bytes());
        at += 12 + len;
        number += 1;
    }
}

/// The check sum as the format has it: FNV-1a over words, over the number of the chunk, its length and its
/// bytes.
fn checksum(number: u64, payload: &[u8]) -> u64 {
    let mut sum: u64 = 0xcbf2_9ce4_8422_2325;
    let mut word = |word: u64| {
        sum = (sum ^ word)
            .wrapping_mul(0x0000_0100_0000_01b3)
            .rotate_left(23);
    };
    word(number);
    word(payload.len() as u64);
    let (words, rest) = payload.as_chunks::<8>();
    words
        .iter()
        .for_each(|&bytes| word(u64::from_le_bytes(bytes)));
    rest.iter().for_each(|&byte| word(byte.into()));
    sum ^ (sum >> 29)
}

/// A log that cannot be written is a failure of varve, told when the program has ended.
#[test]
fn a_full_disk_is_told() {
    let place = Place::new();
    let Some(image) = place.busybox() else { return };
    let options = ["--layer", image.to_str().unwrap()];
    let full = Path::new("/dev/full");
    if !full.exists() {
        return skip("a full disk", "there is no /dev/full");
    }
    let out = place.record(full, "auto", &options, &["/bin/echo", "hello"]);
    let text = String::from_utf8_lossy(&out.stderr);
    assert_eq!(status(out.status), FAILED, "{text}");
    assert_eq!(out.stdout, b"hello\n");
    assert!(
        text.contains("/dev/full: No space left on device"),
        "{text}"
    );
}
