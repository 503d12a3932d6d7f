//! A Debian root file system in four layers, made by `rootfs/build`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{build_image, run, target_dir};

/// Lowest first.
const LAYERS: [&str; 4] = ["base", "python", "tools", "app"];

/// The directories of the four layers in overlayfs form, lowest first. They are made once and kept in the
/// target directory.
///
/// # Errors
/// Why there can be none here.
pub fn directories() -> Result<Vec<PathBuf>, String> {
    layers(&LAYERS, None)
}

fn layers(names: &[&str], more: Option<&str>) -> Result<Vec<PathBuf>, String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("needs root".into());
    }
    if !Path::new("/usr/sbin/debootstrap").exists() {
        return Err("debootstrap is not installed".into());
    }
    let cache = target_dir()
        .map_err(|error| error.to_string())?
        .join("rootfs");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("rootfs/build");
    let made = run(Command::new(script).arg(&cache).args(more));
    if !made.status.success() {
        return Err(format!("rootfs/build failed:\n{}", last_lines(&made)));
    }
    Ok(names.iter().map(|name| cache.join(name)).collect())
}

fn last_lines(output: &std::process::Output) -> String {
    let log = [&output.stdout[..], &output.stderr].concat();
    let log = String::from_utf8_lossy(&log);
    let lines: Vec<&str> = log.lines().collect();
    let end = lines.len().saturating_sub(15);
    lines[end..].join("\n")
}

/// Builds the images of the four layers in a directory, lowest first.
///
/// # Errors
/// Why there can be none here.
pub fn images(varve: &Path, dir: &Path) -> Result<Vec<PathBuf>, String> {
    Ok(build(varve, &directories()?, dir))
}

/// Builds the images of compilers, runtimes and tools over a minimal Debian, lowest first. They take 2 GB;
/// without `all` only Python, Perl, SQLite and make are there.
///
/// # Errors
/// Why there can be none here.
pub fn programs(varve: &Path, dir: &Path, all: bool) -> Result<Vec<PathBuf>, String> {
    let names = ["base", "python", "tools", "programs"];
    Ok(match all {
        true => build(varve, &layers(&names, Some("programs"))?, dir),
        false => build(varve, &layers(&names[..3], None)?, dir),
    })
}

fn build(varve: &Path, directories: &[PathBuf], dir: &Path) -> Vec<PathBuf> {
    let image = |directory: &PathBuf| {
        let name = directory.file_name().unwrap_or_default();
        let image = dir.join(name).with_extension("img");
        build_image(varve, directory, &image);
        image
    };
    directories.iter().map(image).collect()
}

/// Makes an OCI image of six layers with umoci: `name` is `DIR:TAG`, DIR is new.
///
/// # Errors
/// Why there can be none here.
pub fn oci_image(name: &str) -> Result<(), String> {
    let directories = directories()?;
    if !Path::new("/usr/bin/umoci").exists() {
        return Err("umoci is not installed".into());
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("rootfs/oci");
    let made = run(Command::new(script).arg(name).args(directories));
    match made.status.success() {
        true => Ok(()),
        false => Err(format!("rootfs/oci failed:\n{}", last_lines(&made))),
    }
}
