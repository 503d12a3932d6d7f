//! Guest programs run natively and in a sandbox: output, exit status and the files they leave must be the same.
//!
//! The guests are built here, statically, from `guests/`. A case prints what it sees and then the tree of files in its directory.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// What is missing here: a line that says so, or a failure where nothing may be skipped.
fn skip(reason: &str) {
    let skips = std::env::var_os("VARVE_TEST_NO_SKIP").is_none();
    assert!(skips, "cannot run: {reason}");
    println!("SKIP: guest programs: {reason}");
}

/// The command, built next to this test. Cargo gives no path to a binary of another package.
fn varve() -> Result<PathBuf, String> {
    let test = std::env::current_exe().map_err(|error| error.to_string())?;
    let profile = test.ancestors().nth(2).ok_or("no target directory")?;
    let path = profile.join("varve");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--package", "varve"]);
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    let built = cargo.status().map_err(|error| error.to_string())?;
    match built.success() && path.exists() {
        true => Ok(path),
        false => Err(format!("{} cannot be built", path.display())),
    }
}

fn build(source: &str, to: &Path) -> Result<(), String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("guests")
        .join(source);
    let mut cc = Command::new("cc");
    cc.args(["-static", "-O1", "-w", "-o"]).arg(to).arg(source);
    let run = cc.output().map_err(|error| format!("cc: {error}"))?;
    match run.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&run.stderr).into_owned()),
    }
}

fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap()
}

/// As a shell reports it.
fn status(output: &Output) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    let status = output.status;
    status
        .code()
        .or(status.signal().map(|n| 128 + n))
        .unwrap_or(-1)
}

#[test]
fn guests_do_the_same_natively_and_in_a_sandbox() {
    let dir = tempfile::tempdir().unwrap();
    let layer = dir.path().join("layer");
    std::fs::create_dir(&layer).unwrap();
    let guest = layer.join("cases");
    if let Err(reason) = build("cases.c", &guest) {
        return skip(&reason);
    }
    let varve = varve().unwrap();
    let image = dir.path().join("layer.img");
    let built = run(Command::new(&varve)
        .arg("build")
        .arg(&layer)
        .arg("-o")
        .arg(&image));
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
    let list = run(Command::new(&guest).arg("list"));
    let names = String::from_utf8(list.stdout).unwrap();
    assert!(names.lines().count() >= 60);
    // With the same rights on both sides.
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let mut different = Vec::new();
    for name in names.lines() {
        let work = dir.path().join("work");
        std::fs::create_dir(&work).unwrap();
        let native = run(Command::new(&guest).arg(name).current_dir(&work));
        std::fs::remove_dir_all(&work).unwrap();
        let mut sandbox = Command::new(&varve);
        sandbox.args([
            "do",
            "--workdir",
            "/tmp",
            "--mount",
            "type=tmpfs,dst=/tmp,mode=1777",
        ]);
        sandbox.arg("--user").arg(format!("{uid}:{gid}"));
        sandbox.arg("--layer").arg(&image);
        let sandboxed = run(sandbox.args(["--", "/cases", name]));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if (status(&native), &native.stdout) != (status(&sandboxed), &sandboxed.stdout) {
            different.push(format!(
                "{name}: natively {}:\n{}in a sandbox {}:\n{}{}",
                status(&native),
                text(&native.stdout),
                status(&sandboxed),
                text(&sandboxed.stdout),
                text(&sandboxed.stderr),
            ));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}
