//! Guest programs run natively and in a sandbox: output, exit status and the files they leave must be the same.
//!
//! The guests are built here, statically, from `guests/`. A case prints what it sees and then the tree of files in its directory.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
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

/// One guest program and where its cases run.
struct Guest<'a> {
    varve: &'a Path,
    program: PathBuf,
    /// Arguments of `varve do` up to the program, which is `/cases` there.
    sandbox: Vec<String>,
}

impl Guest<'_> {
    /// Runs all cases, natively in a directory that `prepare` fills. At least `least` of them.
    fn compare(&self, least: usize, prepare: impl Fn(&Path)) {
        let list = run(Command::new(&self.program).arg("list"));
        let names = String::from_utf8(list.stdout).unwrap();
        assert!(names.lines().count() >= least);
        // With the same rights on both sides.
        let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
        let mut different = Vec::new();
        for name in names.lines() {
            let scratch = tempfile::tempdir().unwrap();
            let work = scratch.path().join("work");
            fs::create_dir(&work).unwrap();
            prepare(&work);
            let native = run(Command::new(&self.program).arg(name).current_dir(&work));
            let mut sandbox = Command::new(self.varve);
            sandbox.arg("do").arg("--user").arg(format!("{uid}:{gid}"));
            let sandboxed = run(sandbox.args(&self.sandbox).args(["--", "/cases", name]));
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let same = (status(native.status), &native.stdout)
                == (status(sandboxed.status), &sandboxed.stdout);
            if !same {
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
}

#[test]
fn guests_do_the_same_natively_and_in_a_sandbox() {
    let dir = tempfile::tempdir().unwrap();
    let layer = dir.path().join("layer");
    fs::create_dir(&layer).unwrap();
    let program = layer.join("cases");
    if let Err(reason) = build("cases.c", &program) {
        return skip("guest programs", &reason);
    }
    let varve = varve().unwrap();
    let image = dir.path().join("layer.img");
    build_image(&varve, &layer, &image);
    let tmpfs = "type=tmpfs,dst=/tmp,mode=1777";
    let image = image.to_str().unwrap();
    let sandbox = ["--workdir", "/tmp", "--mount", tmpfs, "--layer", image];
    let guest = Guest {
        varve: &varve,
        program,
        sandbox: sandbox.map(String::from).to_vec(),
    };
    guest.compare(60, |_| {});
}

/// Writes a file into a layer, or into what the layers are together.
fn put(dir: &Path, name: &str, text: &str) {
    fs::write(dir.join(name), text).unwrap();
}

fn make_directories(dir: &Path, names: &[&str]) {
    for name in names {
        fs::create_dir_all(dir.join(name)).unwrap();
    }
}

fn lower(work: &Path) {
    make_directories(work, &["dir/sub", "opaque", "hollow", "was-dir"]);
    put(work, "dir/a", "a");
    put(work, "dir/b", "b");
    put(work, "dir/sub/x", "x");
    put(work, "dir/sub/y", "y");
    put(work, "file", "lower");
    put(work, "gone", "gone");
    put(work, "opaque/old", "old");
    put(work, "one", "one and two");
    fs::hard_link(work.join("one"), work.join("two")).unwrap();
    put(work, "large", &"0123456789".repeat(2000));
    symlink("file", work.join("link")).unwrap();
    put(work, "hollow/last", "last");
    put(work, "was-file", "file");
    put(work, "was-dir/in", "in");
}

/// With whiteouts as in an OCI layer.
fn upper(work: &Path) {
    make_directories(work, &["dir/sub", "opaque", "hollow", "was-file"]);
    put(work, "dir/.wh.b", "");
    put(work, "dir/new", "new");
    put(work, "dir/sub/z", "z");
    put(work, "file", "replaced by the upper layer");
    put(work, ".wh.gone", "");
    put(work, "opaque/.wh..wh..opq", "");
    put(work, "opaque/fresh", "fresh");
    put(work, "hollow/.wh.last", "");
    put(work, "was-file/in", "in");
    put(work, "was-dir", "file");
}

fn merged(work: &Path) {
    lower(work);
    for name in [
        "dir/b",
        "gone",
        "opaque/old",
        "hollow/last",
        "was-file",
        "was-dir/in",
    ] {
        fs::remove_file(work.join(name)).unwrap();
    }
    fs::remove_dir(work.join("was-dir")).unwrap();
    make_directories(work, &["was-file"]);
    put(work, "dir/new", "new");
    put(work, "dir/sub/z", "z");
    put(work, "file", "replaced by the upper layer");
    put(work, "opaque/fresh", "fresh");
    put(work, "was-file/in", "in");
    put(work, "was-dir", "file");
}

#[test]
fn files_in_layers_are_like_files_in_one_directory() {
    let dir = tempfile::tempdir().unwrap();
    let layers = [dir.path().join("lower"), dir.path().join("upper")];
    for layer in &layers {
        make_directories(layer, &["work"]);
    }
    let program = layers[0].join("cases");
    if let Err(reason) = build("layered.c", &program) {
        return skip("guest programs", &reason);
    }
    lower(&layers[0].join("work"));
    upper(&layers[1].join("work"));
    let varve = varve().unwrap();
    let mut sandbox = vec![String::from("--workdir"), String::from("/work")];
    for layer in &layers {
        let image = layer.with_extension("img");
        build_image(&varve, layer, &image);
        sandbox.extend([String::from("--layer"), image.display().to_string()]);
    }
    let guest = Guest {
        varve: &varve,
        program,
        sandbox,
    };
    guest.compare(15, merged);
}

/// Without randomization the stack of the command lies at the very top of its address space, where a guest's process has other things.
#[test]
fn the_hosts_own_layout_does_not_matter() {
    let varve = varve().unwrap();
    let mut command = Command::new("setarch");
    command.arg("--addr-no-randomize").arg(varve);
    match command.args(["do", "--", "/bin/echo", "here"]).output() {
        Ok(run) => {
            let text = String::from_utf8_lossy(&run.stderr);
            assert_eq!((status(run.status), &*text), (0, ""));
            assert_eq!(run.stdout, b"here\n");
        }
        Err(error) => skip("a fixed layout", &format!("setarch: {error}")),
    }
}
