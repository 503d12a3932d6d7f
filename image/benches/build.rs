//! `varve build` beside `mkfs.erofs`, `mksquashfs` and `tar` on one tree: time, size, and the ratio of times.
//!
//! The tree is `VARVE_BENCH_TREE` or a copy of /usr/bin and the Python library. Each command runs once to
//! warm the page cache, then `VARVE_BENCH_ROUNDS` times (5 by default) in turn with the others; the best time
//! counts. Writes a table to standard output, and JSON to `VARVE_BENCH_JSON` if that is set.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;
use varve_image::{BuildOptions, build_dir, build_tar_file};

type Run = Box<dyn Fn() -> Result<(), Box<dyn Error>>>;

/// One contender: its name and what it runs.
struct Contender {
    name: &'static str,
    run: Run,
    output: PathBuf,
    seconds: Vec<f64>,
}

fn main() -> Result<(), Box<dyn Error>> {
    // `cargo test --benches` only wants to know that it starts.
    if std::env::args().any(|arg| arg == "--test") {
        return Ok(());
    }
    let temp = tempfile::tempdir_in(
        std::env::var_os("VARVE_BENCH_DIR").unwrap_or_else(|| "/var/tmp".into()),
    )?;
    let tree = match std::env::var_os("VARVE_BENCH_TREE") {
        Some(tree) => PathBuf::from(tree),
        None => default_tree(temp.path())?,
    };
    let rounds: usize = std::env::var("VARVE_BENCH_ROUNDS")
        .ok()
        .map_or(Ok(5), |n| n.parse())?;
    let mut contenders = contenders(&tree, temp.path());
    for contender in &mut contenders {
        (contender.run)()?;
    }
    for _ in 0..rounds {
        for contender in &mut contenders {
            let _ = std::fs::remove_file(&contender.output);
            let start = Instant::now();
            (contender.run)()?;
            contender.seconds.push(start.elapsed().as_secs_f64());
        }
    }
    let best = |c: &Contender| c.seconds.iter().copied().fold(f64::INFINITY, f64::min);
    let ours = best(&contenders[0]);
    println!(
        "{:<24} {:>8} {:>8} {:>14}",
        "command", "best s", "ratio", "bytes"
    );
    let mut rows = Vec::new();
    for contender in &contenders {
        let (seconds, bytes) = (best(contender), std::fs::metadata(&contender.output)?.len());
        println!(
            "{:<24} {seconds:>8.3} {:>8.2} {bytes:>14}",
            contender.name,
            seconds / ours
        );
        rows.push(serde_json::json!({
            "command": contender.name, "seconds": contender.seconds, "best": seconds, "ratio": seconds / ours, "bytes": bytes,
        }));
    }
    if let Some(path) = std::env::var_os("VARVE_BENCH_JSON") {
        let json = serde_json::json!({ "benchmark": "image build", "tree": tree, "rounds": rounds, "results": rows });
        std::fs::write(path, serde_json::to_string_pretty(&json)?)?;
    }
    Ok(())
}

/// The tree of the published figures: programs and the Python library of this machine.
fn default_tree(temp: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let tree = temp.join("tree");
    std::fs::create_dir(&tree)?;
    for source in [
        "/usr/bin",
        "/usr/lib/python3",
        "/usr/lib/python3.11",
        "/usr/lib/python3.12",
        "/usr/lib/python3.13",
    ] {
        if Path::new(source).is_dir() {
            let copied = Command::new("cp")
                .args(["-a", source])
                .arg(&tree)
                .status()?;
            if !copied.success() {
                return Err(format!("cannot copy {source}").into());
            }
        }
    }
    Ok(tree)
}

fn contenders(tree: &Path, temp: &Path) -> Vec<Contender> {
    let mut all = Vec::new();
    let mut add = |name: &'static str, file: &str, run: &dyn Fn(PathBuf) -> Run| {
        let output = temp.join(file);
        all.push(Contender {
            name,
            run: run(output.clone()),
            output,
            seconds: Vec::new(),
        });
    };
    add("varve build DIR", "varve.img", &|output| {
        let tree = tree.to_owned();
        Box::new(
            move || Ok(build_dir(&tree, &output, &BuildOptions::default(), &mut ()).map(drop)?),
        )
    });
    let external = |program: &'static str, args: Vec<&'static str>, source_first: bool| {
        let tree = tree.to_owned();
        move |output: PathBuf| -> Run {
            let (tree, args) = (tree.clone(), args.clone());
            Box::new(move || {
                let mut command = Command::new(program);
                let paths = if source_first {
                    [&tree, &output]
                } else {
                    [&output, &tree]
                };
                command
                    .args(if source_first { &[][..] } else { &args })
                    .args(paths);
                command.args(if source_first { &args } else { &[][..] });
                let status = command
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .status()?;
                if status.success() {
                    Ok(())
                } else {
                    Err(format!("{program}: {status}").into())
                }
            })
        }
    };
    let installed = |program: &str| {
        let found = Command::new(program)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok();
        if !found {
            eprintln!("SKIP: {program} is not installed");
        }
        found
    };
    if installed("mkfs.erofs") {
        add(
            "mkfs.erofs",
            "mkfs.img",
            &external("mkfs.erofs", vec![], false),
        );
    }
    if installed("mksquashfs") {
        let args = vec!["-noI", "-noD", "-noF", "-noX", "-noappend", "-quiet"];
        add(
            "mksquashfs, uncompressed",
            "squashfs.img",
            &external("mksquashfs", args, true),
        );
    }
    if installed("tar") {
        add("tar", "tree.tar", &external("tar", vec!["-cf"], false));
        let archive = temp.join("tree.tar");
        add("varve build TAR", "varve-tar.img", &|output| {
            let archive = archive.clone();
            Box::new(move || {
                Ok(
                    build_tar_file(&archive, &output, &BuildOptions::default(), &mut ())
                        .map(drop)?,
                )
            })
        });
    }
    all
}
