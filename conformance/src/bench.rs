//! What the benchmarks share: the release build, guest programs, what they print.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// A benchmark ends with its first error.
pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The release build of the command, beside the benchmark's own build; made if it is missing or old.
///
/// # Errors
/// It cannot be built.
pub fn varve_binary() -> Result<PathBuf> {
    let status = Command::new(env!("CARGO"))
        .args(["build", "--release", "--quiet", "-p", "varve"])
        .status()?;
    if !status.success() {
        return Err("cargo build of varve failed".into());
    }
    Ok(crate::target_dir()?.join("release/varve"))
}

/// Builds a static guest program; its source is left in `dir`.
///
/// # Errors
/// There is no C compiler, or it refuses.
pub fn compile(name: &str, source: &str, output: &Path, dir: &Path) -> Result<()> {
    let file = dir.join(format!("{name}.c"));
    fs::write(&file, source)?;
    let status = Command::new("cc")
        .args(["-O2", "-static", "-pthread", "-o"])
        .arg(output)
        .arg(&file)
        .status()?;
    if !status.success() {
        return Err(format!("cc {name}.c failed").into());
    }
    Ok(())
}

/// Builds the image of a directory.
///
/// # Errors
/// What the command says.
pub fn image(varve: &Path, tree: &Path, image: &Path) -> Result<()> {
    let output = Command::new(varve)
        .arg("build")
        .arg(tree)
        .arg("-o")
        .arg(image)
        .output()?;
    if !output.status.success() {
        return Err(format!("varve build: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(())
}

/// The platforms that work here.
///
/// # Errors
/// The command does not tell.
pub fn platforms(varve: &Path) -> Result<Vec<String>> {
    let output = Command::new(varve).args(["platforms", "--json"]).output()?;
    let list = parse("varve platforms", &output)?;
    let works = |platform: &&Value| platform["works"] == true;
    let names = list.as_array().into_iter().flatten().filter(works);
    let names = names.filter_map(|platform| platform["name"].as_str());
    Ok(names.map(String::from).collect())
}

/// The JSON that a program printed.
///
/// # Errors
/// The program failed, or printed something else.
pub fn parse(what: &str, output: &Output) -> Result<Value> {
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{what}: {}: {stderr}", output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The file that `--json FILE` names, of a benchmark's arguments.
#[must_use]
pub fn json_file() -> Option<String> {
    let args: Vec<String> = std::env::args().collect();
    let at = args.iter().position(|arg| arg == "--json")?;
    args.get(at + 1).cloned()
}
