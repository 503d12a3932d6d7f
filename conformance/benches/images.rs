//! Images beside what people use for them: conversion beside `umoci unpack` and `mkfs.erofs`, the FUSE mount
//! beside the kernel's own mounts, `squashfuse` and `fuse-overlayfs`, on one Debian image of six layers.
//!
//! `cargo bench -p varve-conformance --bench images` prints tables; `-- --json FILE` also writes the figures.
//! Seconds, best of several rounds in which the contenders take turns; cold runs drop the page cache first.
//! Needs root, umoci and erofs-utils; others are left out if they are not installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::{Value, json};
use varve_conformance::bench::{Result, json_file, varve_binary};
use varve_conformance::debian;

const ROUNDS: usize = 5;
const COLD_ROUNDS: usize = 3;

/// What is done with a mounted tree, as a script of `sh` in it.
const WORK: &[(&str, &str)] = &[
    ("find", "find . -xdev | wc -l"),
    ("du", "du -s . "),
    ("tar | cat", "tar c --one-file-system . | cat >/dev/null"),
    (
        "grep -r, 4 at once",
        "for d in usr/lib usr/share usr/bin var; do grep -rq surely-nowhere $d & done; wait",
    ),
];

fn main() -> Result<()> {
    let json_file = json_file();
    if std::env::args().any(|arg| arg == "--test") {
        return Ok(());
    }
    let varve = varve_binary()?;
    let dir = tempfile::tempdir_in("/var/tmp")?;
    let at = |name: &str| dir.path().join(name);
    debian::oci_image(&format!("{}:v1", at("src").display()))?;
    let convert = conversion(&varve, dir.path())?;
    let all = mount_all(&varve, dir.path())?;
    let mounts = mounts(&all)?;
    let reads = random_reads(&all)?;
    unmount(dir.path());
    if let Some(file) = json_file {
        let report =
            json!({ "unit": "s", "convert": convert, "mounts": mounts, "random_reads": reads });
        fs::write(file, serde_json::to_string_pretty(&report)?)?;
    }
    Ok(())
}

/// The release build of the command, made if it is missing or old.
fn run(command: &mut Command) -> Result<f64> {
    let start = Instant::now();
    let output = command.stdin(Stdio::null()).output()?;
    let seconds = start.elapsed().as_secs_f64();
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("{command:?}: {text}").into());
    }
    Ok(seconds)
}

fn installed(name: &str) -> bool {
    let found = ["/usr/bin", "/usr/sbin", "/usr/local/bin"];
    let found = found.iter().any(|dir| Path::new(dir).join(name).exists());
    if !found {
        eprintln!("SKIP: {name} is not installed");
    }
    found
}

/// Prints rows of (name, seconds), the first one being what the others are compared with.
fn table(title: &str, rows: &[(String, f64)]) -> Value {
    println!("\n{title:<32} {:>9} {:>7}", "best s", "ratio");
    let ours = rows.first().map_or(1.0, |row| row.1);
    for (name, seconds) in rows {
        println!("{name:<32} {seconds:>9.3} {:>7.2}", seconds / ours);
    }
    rows.iter()
        .map(|(name, seconds)| json!({ "name": name, "seconds": seconds }))
        .collect()
}

fn conversion(varve: &Path, dir: &Path) -> Result<Value> {
    let source = format!("{}:v1", dir.join("src").display());
    let (out, bundle) = (dir.join("image"), dir.join("bundle"));
    let mut best = [f64::INFINITY; 3];
    let unpacked = dir.join("erofs.img");
    for _ in 0..COLD_ROUNDS {
        for path in [&out, &bundle] {
            let _ = fs::remove_dir_all(path);
        }
        let mut ours = Command::new(varve);
        ours.arg("convert").arg(format!("oci:{source}")).arg(&out);
        best[0] = best[0].min(run(&mut ours)?);
        let mut umoci = Command::new("umoci");
        umoci.args(["unpack", "--image", &source]).arg(&bundle);
        best[1] = best[1].min(run(&mut umoci)?);
        let _ = fs::remove_file(&unpacked);
        // Its version 1.5 fails on a name of 255 bytes.
        let long = bundle.join("rootfs/srv").join("n".repeat(255));
        fs::remove_file(long)?;
        let mut mkfs = Command::new("mkfs.erofs");
        mkfs.arg(&unpacked).arg(bundle.join("rootfs"));
        best[2] = best[2].min(run(&mut mkfs)?);
    }
    let rows = [
        ("varve convert", best[0]),
        ("umoci unpack", best[1]),
        ("mkfs.erofs of what it unpacked", best[2]),
    ];
    let rows: Vec<_> = rows.map(|(name, s)| (name.to_owned(), s)).into();
    Ok(table("conversion, 6 layers", &rows))
}

/// Mounts the image in every way there is: names and directories, this one's own first.
fn mount_all(varve: &Path, dir: &Path) -> Result<Vec<(&'static str, PathBuf)>> {
    let mut list = Vec::new();
    let mut add = |name: &'static str| -> Result<PathBuf> {
        let target = dir.join("mnt").join(list.len().to_string());
        fs::create_dir_all(&target)?;
        list.push((name, target.clone()));
        Ok(target)
    };
    let image = dir.join("image");
    let target = add("varve mount")?;
    run(Command::new(varve).arg("mount").arg(&image).arg(target))?;
    let target = add("varve mount, union")?;
    run(Command::new(varve)
        .args(["mount", "--no-index"])
        .arg(&image)
        .arg(target))?;
    let text = Command::new(varve)
        .args(["inspect", "--json"])
        .arg(&image)
        .output()?;
    let value: Value = serde_json::from_slice(&text.stdout)?;
    let layers = value[0]["layers"].as_array().cloned().unwrap_or_default();
    let mut lower = Vec::new();
    for (number, layer) in layers.iter().enumerate() {
        let target = dir.join(format!("mnt/layer{number}"));
        fs::create_dir_all(&target)?;
        let file = layer["file"].as_str();
        mount(
            file,
            &target,
            Some("erofs"),
            MsFlags::MS_RDONLY,
            None::<&str>,
        )?;
        lower.push(target.display().to_string());
    }
    lower.reverse();
    let lower = format!("lowerdir={}", lower.join(":"));
    let target = add("kernel erofs + overlayfs")?;
    let kind = Some("overlay");
    mount(
        kind,
        &target,
        kind,
        MsFlags::MS_RDONLY,
        Some(lower.as_str()),
    )?;
    if installed("squashfuse") && installed("mksquashfs") {
        let file = dir.join("squash.img");
        let merged = dir.join("mnt/2");
        let mut make = Command::new("mksquashfs");
        make.arg(merged).arg(&file).args([
            "-noI",
            "-noD",
            "-noF",
            "-noX",
            "-no-progress",
            "-quiet",
        ]);
        run(&mut make)?;
        let target = add("squashfuse")?;
        run(Command::new("squashfuse").arg(file).arg(target))?;
    }
    if installed("fuse-overlayfs") {
        let target = add("fuse-overlayfs on kernel erofs")?;
        run(Command::new("fuse-overlayfs")
            .args(["-o", &lower])
            .arg(target))?;
    }
    Ok(list)
}

fn mounts(mounts: &[(&'static str, PathBuf)]) -> Result<Value> {
    let mut report = serde_json::Map::new();
    for (what, script) in WORK {
        for (cold, rounds) in [(true, COLD_ROUNDS), (false, ROUNDS)] {
            let mut best = vec![f64::INFINITY; mounts.len()];
            for _ in 0..rounds {
                for ((_, target), best) in mounts.iter().zip(&mut best) {
                    if cold {
                        nix::unistd::sync();
                        fs::write("/proc/sys/vm/drop_caches", "3")?;
                    }
                    let mut command = Command::new("sh");
                    command.args(["-c", script]).current_dir(target);
                    *best = best.min(run(&mut command)?);
                }
            }
            let rows: Vec<_> = mounts
                .iter()
                .zip(best)
                .map(|((name, _), seconds)| ((*name).to_owned(), seconds))
                .collect();
            let title = format!("{what}, {}", if cold { "cold" } else { "warm" });
            report.insert(title.clone(), table(&title, &rows));
        }
    }
    Ok(report.into())
}

/// Random reads of 4 KiB in the largest file, for one second: thousands in a second. Cold with an empty page
/// cache at the start.
fn random_reads(mounts: &[(&'static str, PathBuf)]) -> Result<Value> {
    if !installed("fio") {
        return Ok(Value::Null);
    }
    let mut report = serde_json::Map::new();
    for cold in [true, false] {
        let title = format!("random reads, {}", if cold { "cold" } else { "warm" });
        println!("\n{title:<32} {:>9} {:>7}", "k/s", "ratio");
        let mut rows = Vec::new();
        for (name, target) in mounts {
            if cold {
                fs::write("/proc/sys/vm/drop_caches", "3")?;
            }
            let mut fio = Command::new("fio");
            fio.args(["--name=r", "--readonly", "--rw=randread", "--bs=4k"]);
            fio.args(["--runtime=1", "--time_based", "--ioengine=psync"]);
            // Otherwise fio itself drops what is cached.
            fio.args(["--invalidate=0", "--output-format=json", "--filename"]);
            let output = fio.arg(largest(target)?).output()?;
            let value: Value = serde_json::from_slice(&output.stdout)?;
            let rate = value["jobs"][0]["read"]["iops"].as_f64();
            let rate = rate.ok_or("fio gives no rate")? / 1000.0;
            let ours = rows.first().map_or(rate, |row: &(&str, f64)| row.1);
            println!("{name:<32} {rate:>9.1} {:>7.2}", rate / ours);
            rows.push((name, rate));
        }
        let rows = rows
            .iter()
            .map(|(name, rate)| json!({ "name": name, "thousands_per_second": rate }));
        report.insert(title, rows.collect());
    }
    Ok(report.into())
}

fn largest(target: &Path) -> Result<PathBuf> {
    let script =
        "find usr -type f -size +2M -printf '%s %p\\n' | sort -n | tail -n 1 | cut -d' ' -f2-";
    let output = Command::new("sh")
        .args(["-c", script])
        .current_dir(target)
        .output()?;
    let name = String::from_utf8(output.stdout)?;
    Ok(target.join(name.trim()))
}

fn unmount(dir: &Path) {
    for entry in fs::read_dir(dir.join("mnt"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let _ = umount2(&entry.path(), MntFlags::MNT_DETACH);
    }
    // Once more for those that lay below others.
    for entry in fs::read_dir(dir.join("mnt"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let _ = umount2(&entry.path(), MntFlags::MNT_DETACH);
    }
}
