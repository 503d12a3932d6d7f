//! Benchmark of the sandbox: file calls in a stack of 10 layers of 2000 files, the null system call, and the
//! start of `true`, beside the native kernel's overlayfs over the same images and beside `crun`, `runc` and
//! `runsc` where they are installed.
//!
//! `cargo bench -p varve-conformance --bench sandbox` prints a table; `-- --json FILE` also writes the
//! figures. Times are microseconds; compare ratios, not numbers of different runs. Needs root for the native
//! side.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::{Value, json};
use varve_conformance::bench::{self, Result, compile, parse, platforms, varve_binary};

const LAYERS: usize = 10;
const FILES: usize = 2000;
const ROUNDS: usize = 5;
const STARTS: usize = 30;

fn main() -> Result<()> {
    let json_file = bench::json_file();
    let varve = varve_binary()?;
    let dir = tempfile::tempdir()?;
    let images = build_layers(&varve, dir.path())?;
    let mut sides = Vec::new();
    let platforms = platforms(&varve)?;
    for platform in &platforms {
        sides.push((platform.as_str(), run_varve(&varve, platform, &images)?));
    }
    match run_native(dir.path(), &images) {
        Ok(native) => sides.push(("native", native)),
        Err(error) => eprintln!("SKIP: native overlayfs: {error}"),
    }
    print_files(&sides);
    let starts = time_starts(&varve, &platforms, dir.path(), &images)?;
    print_starts(&starts);
    if let Some(file) = json_file {
        let sides: serde_json::Map<_, _> = sides
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        let report = json!({ "unit": "us", "files": sides, "start": starts });
        fs::write(file, serde_json::to_string_pretty(&report)?)?;
    }
    Ok(())
}

/// Layers of files, lowest first, the guest program and `true` in the lowest.
fn build_layers(varve: &Path, dir: &Path) -> Result<Vec<PathBuf>> {
    let mut images = Vec::new();
    for layer in 0..LAYERS {
        let tree = dir.join(format!("tree{layer}"));
        for sub in 0..20 {
            fs::create_dir_all(tree.join(format!("layer{layer:02}/d{sub:02}")))?;
        }
        for file in 0..FILES {
            let len = 1000 + (layer * FILES + file) * 7919 % 1001;
            let name = format!("layer{layer:02}/d{:02}/f{file:04}", file % 20);
            fs::write(tree.join(name), vec![b'a' + (file % 26) as u8; len])?;
        }
        if layer == 0 {
            fs::create_dir_all(tree.join("bin"))?;
            compile(
                "files",
                include_str!("guest/files.c"),
                &tree.join("bin/files"),
                dir,
            )?;
            compile(
                "true",
                "int main(void) { return 0; }",
                &tree.join("bin/true"),
                dir,
            )?;
        }
        let image = dir.join(format!("{layer}.img"));
        bench::image(varve, &tree, &image)?;
        images.push(image);
    }
    Ok(images)
}

fn guest_args() -> [String; 3] {
    [LAYERS.to_string(), FILES.to_string(), ROUNDS.to_string()]
}

fn varve_do(varve: &Path, options: &[&str], images: &[PathBuf]) -> Command {
    let mut command = Command::new(varve);
    command.arg("do").args(options);
    for image in images {
        command.arg("--layer").arg(image);
    }
    command.arg("--");
    command
}

fn run_varve(varve: &Path, platform: &str, images: &[PathBuf]) -> Result<Value> {
    let output = varve_do(varve, &["--debug", "--platform", platform], images)
        .arg("/bin/files")
        .args(guest_args())
        .output()?;
    // What the platform has counted, such as exits to the host.
    for line in String::from_utf8_lossy(&output.stderr).lines() {
        if let Some((_, counts)) = line.split_once("debug: kvm: ") {
            println!("kvm: {counts}");
        }
    }
    parse("varve do", &output)
}

/// Mounts that go away when this is dropped, last one first.
struct Mounts(Vec<PathBuf>);

impl Drop for Mounts {
    fn drop(&mut self) {
        for path in self.0.drain(..).rev() {
            let _ = umount2(&path, MntFlags::MNT_DETACH);
        }
    }
}

fn run_native(dir: &Path, images: &[PathBuf]) -> Result<Value> {
    let mut mounts = Mounts(Vec::new());
    let mut lowers = Vec::new();
    for (index, image) in images.iter().enumerate() {
        let point = dir.join(format!("mnt{index}"));
        fs::create_dir(&point)?;
        mount(
            Some(image),
            &point,
            Some("erofs"),
            MsFlags::MS_RDONLY,
            None::<&str>,
        )?;
        mounts.0.push(point.clone());
        lowers.insert(0, point.display().to_string());
    }
    for name in ["upper", "work", "merged"] {
        fs::create_dir(dir.join(name))?;
    }
    let merged = dir.join("merged");
    let options = format!("lowerdir={}", lowers.join(":"));
    mount(
        Some("overlay"),
        &merged,
        Some("overlay"),
        MsFlags::empty(),
        Some(options.as_str()),
    )?;
    mounts.0.push(merged.clone());
    let output = Command::new("chroot")
        .arg(&merged)
        .arg("/bin/files")
        .args(guest_args())
        .output()?;
    parse("chroot", &output)
}

fn number(value: &Value, path: &[&dyn serde_json::value::Index]) -> f64 {
    let mut at = value;
    for index in path {
        at = &at[*index];
    }
    at.as_f64().unwrap_or(f64::NAN)
}

fn print_files(sides: &[(&str, Value)]) {
    println!("{LAYERS} layers x {FILES} files, us per call: first round / best of {ROUNDS}");
    print!("{:<24}", "");
    for (name, _) in sides {
        print!("{name:>20}");
    }
    println!();
    print!("{:<24}", "null system call");
    for (_, value) in sides {
        print!("{:>20.2}", number(value, &[&"null"]));
    }
    println!();
    print!("{:<24}", "10^8 rounds of a loop");
    for (_, value) in sides {
        print!("{:>20.0}", number(value, &[&"compute"]));
    }
    println!();
    for kind in ["stat", "open_close", "open_read_close"] {
        for layer in 0..LAYERS {
            print!("{:<24}", format!("{kind}, layer {layer}"));
            for (_, value) in sides {
                let first = number(value, &[&kind, &layer, &0usize]);
                let best = number(value, &[&kind, &layer, &1usize]);
                print!("{:>20}", format!("{first:.2} / {best:.2}"));
            }
            println!();
        }
    }
}

/// Milliseconds of one run of a command: least and median.
fn time_command(make: impl Fn() -> Command) -> Result<(f64, f64)> {
    let mut times = Vec::new();
    for _ in 0..STARTS {
        let start = Instant::now();
        let output = make().stdin(Stdio::null()).output()?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
        }
    }
    times.sort_by(f64::total_cmp);
    Ok((times[0], times[times.len() / 2]))
}

fn time_starts(
    varve: &Path,
    platforms: &[String],
    dir: &Path,
    images: &[PathBuf],
) -> Result<Value> {
    let mut starts = serde_json::Map::new();
    let mut add = |name: &str, times: Result<(f64, f64)>| match times {
        Ok((least, median)) => {
            starts.insert(
                name.into(),
                json!({ "least_ms": least, "median_ms": median }),
            );
        }
        Err(error) => eprintln!("SKIP: start of true, {name}: {error}"),
    };
    for platform in platforms {
        let true_in = |images: &[PathBuf]| {
            let mut command = varve_do(varve, &["--platform", platform], images);
            command.arg("/bin/true");
            command
        };
        let (one, ten) = (
            format!("varve {platform}, 1 layer"),
            format!("varve {platform}, 10 layers"),
        );
        add(&one, time_command(|| true_in(&images[..1])));
        add(&ten, time_command(|| true_in(images)));
    }
    add(
        "fork and exec",
        time_command(|| Command::new(dir.join("tree0/bin/true"))),
    );
    for runtime in ["crun", "runc"] {
        let bundle = dir.join(format!("bundle-{runtime}"));
        match make_bundle(runtime, &bundle, &dir.join("tree0")) {
            Ok(()) => add(
                runtime,
                time_command(|| {
                    let mut command = Command::new(runtime);
                    command.args(["run", "--bundle"]).arg(&bundle);
                    command.arg(format!("varve-bench-{}", std::process::id()));
                    command
                }),
            ),
            Err(error) => eprintln!("SKIP: start of true, {runtime}: {error}"),
        }
    }
    add(
        "runsc do, ptrace",
        time_command(|| {
            let mut command = Command::new("runsc");
            command.args(["--platform=ptrace", "--network=none", "do"]);
            command.arg(dir.join("tree0/bin/true"));
            command
        }),
    );
    Ok(Value::Object(starts))
}

/// An OCI bundle that runs `true` over a plain directory.
fn make_bundle(runtime: &str, bundle: &Path, root: &Path) -> Result<()> {
    fs::create_dir(bundle)?;
    let output = Command::new(runtime)
        .arg("spec")
        .current_dir(bundle)
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    let file = bundle.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&file)?)?;
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["/bin/true"]);
    config["root"] = json!({ "path": root, "readonly": true });
    fs::write(file, serde_json::to_vec(&config)?)?;
    for point in ["proc", "dev", "sys"] {
        fs::create_dir_all(root.join(point))?;
    }
    Ok(())
}

fn print_starts(starts: &Value) {
    println!("\nstart of `true`, ms: least / median of {STARTS}");
    for (name, value) in starts.as_object().into_iter().flatten() {
        let (least, median) = (
            number(value, &[&"least_ms"]),
            number(value, &[&"median_ms"]),
        );
        println!("{name:<24}{:>20}", format!("{least:.2} / {median:.2}"));
    }
}
