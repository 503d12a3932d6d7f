//! A Debian root file system in four layers, made by `rootfs/build`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{build_image, run, target_dir};

/// Lowest first.
const LAYERS: [&str; 4] = ["base", "python", "tools", "app"];

/// Builds the images of the four layers in a directory, lowest first. The root file system itself is made once and kept in the target
/// directory.
///
/// # Errors
/// Why there can be none here.
pub fn images(varve: &Path, dir: &Path) -> Result<Vec<PathBuf>, String> {
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
    let made = run(Command::new(script).arg(&cache));
    if !made.status.success() {
        let log = [made.stdout, made.stderr].concat();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        let end = lines.len().saturating_sub(15);
        return Err(format!("rootfs/build failed:\n{}", lines[end..].join("\n")));
    }
    Ok(LAYERS
        .iter()
        .map(|name| {
            let image = dir.join(name).with_extension("img");
            build_image(varve, &cache.join(name), &image);
            image
        })
        .collect())
}
