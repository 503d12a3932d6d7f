//! What the comparisons with native Linux share: the command under test, running programs, skipping.

pub mod bench;
pub mod debian;
pub mod native;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::sync::{Mutex, PoisonError};

/// Prints, once, what cannot be run here and why.
///
/// # Panics
/// Where nothing may be skipped: `VARVE_TEST_NO_SKIP` is 1.
pub fn skip(what: &str, reason: &str) {
    let strict = std::env::var_os("VARVE_TEST_NO_SKIP").is_some_and(|value| value == "1");
    assert!(!strict, "{what} cannot run: {reason}");
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let line = format!("SKIP: {what}: {reason}");
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if !said.contains(&line) {
        // Not the macro: the test harness would swallow it.
        let _ = writeln!(io::stderr(), "{line}");
        said.insert(line);
    }
}

/// The command, built with the profile of the calling test or benchmark and lying in its target directory.
/// (Cargo gives no path to a binary of another package.)
///
/// # Errors
/// It cannot be built.
pub fn varve() -> io::Result<PathBuf> {
    let caller = std::env::current_exe()?;
    // target/PROFILE/deps/NAME-HASH
    let Some(profile) = caller.ancestors().nth(2) else {
        return Err(io::Error::other("not in a target directory"));
    };
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--package", "varve"]);
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    let path = profile.join("varve");
    match cargo.status()?.success() && path.exists() {
        true => Ok(path),
        false => Err(io::Error::other(format!(
            "{} cannot be built",
            path.display()
        ))),
    }
}

/// The names of the platforms that run guests on this machine (`varve do --platform NAME`). One that does not
/// is skipped with its reason.
///
/// # Panics
/// As [`skip`]; or the command does not tell.
pub fn platforms(varve: &Path) -> Vec<String> {
    #[derive(serde::Deserialize)]
    struct Platform {
        name: String,
        works: bool,
        #[serde(default)]
        reason: Option<String>,
    }
    let told = run(Command::new(varve).args(["platforms", "--json"]));
    if !told.status.success() {
        // A command that knows one platform only.
        return vec![String::from("ptrace")];
    }
    let all: Vec<Platform> = serde_json::from_slice(&told.stdout).unwrap();
    for platform in all.iter().filter(|platform| !platform.works) {
        let reason = platform.reason.as_deref().unwrap_or("no reason given");
        skip(&format!("platform {}", platform.name), reason);
    }
    let working = all.into_iter().filter(|platform| platform.works);
    working.map(|platform| platform.name).collect()
}

/// The target directory that the calling test lies in, for what tests keep from run to run.
///
/// # Errors
/// The test does not lie in one.
pub fn target_dir() -> io::Result<PathBuf> {
    let caller = std::env::current_exe()?;
    let dir = caller.ancestors().nth(3).map(Path::to_owned);
    dir.ok_or_else(|| io::Error::other("not in a target directory"))
}

/// Runs a program to its end, without standard input.
///
/// # Panics
/// It cannot be started.
pub fn run(command: &mut Command) -> Output {
    match command.stdin(Stdio::null()).output() {
        Ok(output) => output,
        Err(error) => panic!("{command:?}: {error}"),
    }
}

/// How a program ended, as a shell reports it: its status, 128 + N for signal N.
pub fn status(status: ExitStatus) -> i32 {
    let signal = status.signal().map(|n| 128 + n);
    status.code().or(signal).unwrap_or(-1)
}

/// Builds a guest program of `guests/`.
///
/// # Errors
/// What the C compiler says, or that there is none.
pub fn build_guest(source: &str, to: &Path) -> Result<(), String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("guests")
        .join(source);
    let mut cc = Command::new("cc");
    cc.args(["-static", "-pthread", "-O1", "-w", "-o"])
        .arg(to)
        .arg(source);
    let run = cc.output().map_err(|error| format!("cc: {error}"))?;
    match run.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&run.stderr).into_owned()),
    }
}

/// Builds a layer image of a directory.
///
/// # Panics
/// That fails.
pub fn build_image(varve: &Path, dir: &Path, image: &Path) {
    let built = run(Command::new(varve)
        .arg("build")
        .arg(dir)
        .arg("-o")
        .arg(image));
    let text = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{}: {text}", dir.display());
}

/// A process and all that come from it, by `/proc`.
///
/// # Panics
/// There is no `/proc`.
pub fn processes(root: u32) -> Vec<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // "PID (NAME) STATE PPID"; a process may be gone meanwhile.
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let after = stat.rsplit(") ").next().unwrap_or("");
        let parent = after
            .split(' ')
            .nth(1)
            .and_then(|parent| parent.parse().ok());
        children.entry(parent.unwrap_or(0)).or_default().push(pid);
    }
    let mut all = vec![root];
    let mut next = 0;
    while let Some(pid) = all.get(next) {
        all.extend(children.get(pid).into_iter().flatten());
        next += 1;
    }
    all
}
