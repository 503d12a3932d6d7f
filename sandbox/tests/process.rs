//! A sandbox leaves the process that it runs in as it was. One test, so that nothing else changes it.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use varve_sandbox::{ExitStatus, Layer, PlatformChoice, Sandbox, program};

/// How long threads that have been waited for may take to vanish from `/proc`.
const PATIENCE: Duration = Duration::from_secs(60);

fn run() {
    let output = Sandbox::builder(program(["/bin/sh", "-c", "echo $(echo 1; echo 2)"]).unwrap())
        .layers([Layer::directory("/")])
        .platform(PlatformChoice::Ptrace)
        .output()
        .unwrap();
    assert_eq!(output.status, ExitStatus::Exited(0));
    assert_eq!(output.stdout, b"1 2\n");
}

/// What belongs to the process as a whole.
fn process() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    // Handlers, ignored and blocked signals, threads, capabilities, new privileges, filters.
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    let kept = [
        "Sig",
        "Shd",
        "Threads",
        "Cap",
        "NoNewPrivs",
        "Seccomp",
        "Umask",
        "Cpus_allowed",
    ];
    for (name, value) in status.lines().filter_map(|line| line.split_once(':')) {
        // How many signals may wait is the user's, with all processes.
        if kept.iter().any(|start| name.starts_with(start)) && name != "SigQ" {
            found.insert(name.to_owned(), value.trim().to_owned());
        }
    }
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    found.insert("limits".into(), limits);
    let dir = std::env::current_dir().unwrap();
    found.insert("directory".into(), dir.display().to_string());
    let open = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let open = open.filter_map(|fd| fs::read_link(fd.path()).ok());
    // The directory that is being read is not there any more.
    let mut open: Vec<_> = open.map(|to| to.display().to_string()).collect();
    open.retain(|to| !to.ends_with("/fd"));
    open.sort();
    found.insert("open files".into(), open.join("\n"));
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
    let children = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    found.insert("children".into(), children.collect());
    let memory = fs::read_to_string("/proc/self/maps").unwrap();
    let ours = memory
        .lines()
        .filter(|line| line.contains("varve-"))
        .count();
    found.insert("mapped memory of guests".into(), ours.to_string());
    found
}

#[test]
fn nothing_of_the_process_is_changed() {
    let before = process();
    for round in 0..3 {
        run();
        let begun = Instant::now();
        while process() != before && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(process(), before, "after round {round}");
    }
}
