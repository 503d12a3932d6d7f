//! Guest programs run natively and in a sandbox: output, exit status and the files they leave must be the same.
//!
//! The guests are built here, statically, from `guests/`. A case prints what it sees and then the tree of files in its directory.

use std::path::Path;
use std::process::Command;

use varve_conformance::{build_image, run, skip, status, varve};

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

#[test]
fn guests_do_the_same_natively_and_in_a_sandbox() {
    let dir = tempfile::tempdir().unwrap();
    let layer = dir.path().join("layer");
    std::fs::create_dir(&layer).unwrap();
    let guest = layer.join("cases");
    if let Err(reason) = build("cases.c", &guest) {
        return skip("guest programs", &reason);
    }
    let varve = varve().unwrap();
    let image = dir.path().join("layer.img");
    build_image(&varve, &layer, &image);
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
        if (status(native.status), &native.stdout) != (status(sandboxed.status), &sandboxed.stdout)
        {
            different.push(format!(
                "{name}: natively {}:\n{}in a sandbox {}:\n{}{}",
                status(native.status),
                text(&native.stdout),
                status(sandboxed.status),
                text(&sandboxed.stdout),
                text(&sandboxed.stderr),
            ));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}
