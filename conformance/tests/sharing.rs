//! Sandboxes of one image share its pages: private memory of one and of eight, side by side.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use varve_conformance::{debian, processes, skip, varve};

const SANDBOXES: u64 = 8;
const PROGRAM: &str = "import json, ssl, sqlite3, decimal, hashlib, time; print('ready', flush=True); time.sleep(600)";

/// A sandbox that has loaded its libraries and sleeps. Ended when dropped.
struct Sandbox(Child);

impl Sandbox {
    fn start(varve: &Path, images: &[PathBuf]) -> Sandbox {
        let mut command = Command::new(varve);
        command.arg("do");
        for image in images {
            command.arg("--layer").arg(image);
        }
        command.args(["--", "python3", "-c", PROGRAM]);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let output = child.stdout.as_mut().unwrap();
        BufReader::new(output).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Sandbox(child)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Memory of processes in KiB, as `/proc/PID/smaps` has it.
#[derive(Default, Debug)]
struct Usage {
    /// Proportional share of the pages of image files.
    image: u64,
    /// Pages of images that are resident in some mapping, counted in each.
    mapped: u64,
    /// Copies of image pages that belong to one process alone.
    copied: u64,
    /// Proportional share of everything else.
    other: u64,
}

fn usage(sandboxes: &[Sandbox]) -> Usage {
    let mut usage = Usage::default();
    let pids: Vec<u32> = sandboxes
        .iter()
        .flat_map(|sandbox| processes(sandbox.0.id()))
        .collect();
    for pid in pids {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
        let mut is_image = false;
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let (first, value) = (words.next().unwrap_or(""), words.next());
            let kib = || {
                value
                    .and_then(|value| value.parse::<u64>().ok())
                    .unwrap_or(0)
            };
            match first {
                "Pss:" if is_image => usage.image += kib(),
                "Pss:" => usage.other += kib(),
                "Rss:" if is_image => usage.mapped += kib(),
                "Anonymous:" if is_image => usage.copied += kib(),
                _ if !first.ends_with(':') => is_image = line.ends_with(".img"),
                _ => {}
            }
        }
    }
    usage
}

#[test]
fn sandboxes_of_one_image_share_its_pages() {
    let varve = varve().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let images = match debian::images(&varve, dir.path()) {
        Ok(images) => images,
        Err(reason) => return skip("sharing of image pages", &reason),
    };
    let mut sandboxes = vec![Sandbox::start(&varve, &images)];
    let one = usage(&sandboxes);
    sandboxes.extend((1..SANDBOXES).map(|_| Sandbox::start(&varve, &images)));
    let many = usage(&sandboxes);
    println!("KiB, 1 sandbox: {one:?}\nKiB, {SANDBOXES} sandboxes: {many:?}");
    // The libraries are mapped from the images ...
    assert!(one.mapped > 8 << 10, "{one:?}");
    // ... and nobody has a page of an image for itself.
    assert_eq!((one.copied, many.copied), (0, 0));
    // Seven more sandboxes map seven times as much, and that costs (next to) nothing.
    assert!(many.mapped > 7 * one.mapped, "{one:?} {many:?}");
    assert!(many.image < one.image + one.image / 4, "{one:?} {many:?}");
    // What each has for itself does not grow with their number either.
    assert!(many.other < (SANDBOXES + 1) * one.other, "{one:?} {many:?}");
}
