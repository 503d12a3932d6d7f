//! Benchmark of processes and threads: fork, exec, wait, threads, signals, and two that hand over to each
//! other through pipes, sockets and futexes, in a sandbox on every platform, beside native Linux and beside
//! `runsc` where it is installed.
//!
//! `cargo bench -p varve-conformance --bench processes` prints a table of microseconds, the best of five;
//! `-- --json FILE` also writes it. The sides take turns, in two rounds, so that a machine that is busy for a
//! while does not decide. Compare ratios, not numbers of different runs.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Map, Value, json};
use varve_conformance::bench::{Result, compile, image, json_file, parse, platforms, varve_binary};

const ROUNDS: usize = 2;
/// Seconds after which a side is taken for one that hangs.
const PATIENCE: &str = "60";

fn main() -> Result<()> {
    let varve = varve_binary()?;
    let dir = tempfile::tempdir()?;
    let tree = dir.path().join("tree");
    let program = tree.join("bin/processes");
    fs::create_dir_all(tree.join("bin"))?;
    let source = include_str!("guest/processes.c");
    compile("processes", source, &program, dir.path())?;
    let layer = dir.path().join("layer.img");
    image(&varve, &tree, &layer)?;
    let platforms = platforms(&varve)?;
    let mut commands = vec![("native".to_owned(), patient(&program))];
    for platform in &platforms {
        let mut command = patient(&varve);
        command.args(["do", "--platform", platform, "--layer"]);
        command.arg(&layer).args(["--", "/bin/processes"]);
        commands.push((platform.clone(), command));
    }
    for platform in ["ptrace", "kvm"] {
        commands.push((format!("runsc {platform}"), runsc(platform, &program)));
    }
    let mut sides: Vec<(String, Value)> = Vec::new();
    for _ in 0..ROUNDS {
        // One that fails is not tried again.
        commands.retain_mut(|(name, command)| measure(&mut sides, name, command));
    }
    print(&sides);
    if let Some(file) = json_file() {
        let sides: Map<_, _> = sides.into_iter().collect();
        let report = json!({ "unit": "us", "processes": sides });
        fs::write(file, serde_json::to_string_pretty(&report)?)?;
    }
    Ok(())
}

fn patient(program: &Path) -> Command {
    let mut command = Command::new("timeout");
    command.args(["-s", "KILL", PATIENCE]).arg(program);
    command
}

/// gVisor's own way to run a program over the host's files.
fn runsc(platform: &str, program: &Path) -> Command {
    let mut command = patient(Path::new("runsc"));
    command.arg(format!("--platform={platform}"));
    command.args(["--network=none", "do"]).arg(program);
    command
}

/// Runs a side and keeps the least of each figure. `false`: it does not run here, which was said.
fn measure(sides: &mut Vec<(String, Value)>, name: &str, command: &mut Command) -> bool {
    let output = command.stdin(Stdio::null()).output();
    let figures = match output
        .map_err(Into::into)
        .and_then(|output| parse(name, &output))
    {
        Ok(figures) => figures,
        Err(error) => {
            eprintln!("SKIP: {name}: {}", error.to_string().trim());
            return false;
        }
    };
    let Some((_, known)) = sides.iter_mut().find(|(side, _)| side == name) else {
        sides.push((name.into(), figures));
        return true;
    };
    let least = |key: &String, value: &Value| match (known[key].as_f64(), value.as_f64()) {
        (Some(a), Some(b)) => json!(a.min(b)),
        _ => value.clone(),
    };
    let figures = figures.as_object().into_iter().flatten();
    let least = figures.map(|(key, value)| (key.clone(), least(key, value)));
    *known = Value::Object(least.collect());
    true
}

fn print(sides: &[(String, Value)]) {
    print!("{:<20}", "us");
    for (name, _) in sides {
        print!("{name:>16}");
    }
    println!();
    let figures = sides.iter().find_map(|(_, value)| value.as_object());
    for name in figures.into_iter().flat_map(Map::keys) {
        print!("{name:<20}");
        for (_, value) in sides {
            print!("{:>16.2}", value[name].as_f64().unwrap_or(f64::NAN));
        }
        println!();
    }
}
