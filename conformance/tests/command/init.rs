//! `varve do --init`.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::*;

#[test]
fn the_program_ends_as_it_would_alone() {
    let place = Place::new();
    for (script, status) in [
        ("exit 0", 0),
        ("exit 7", 7),
        ("kill -TERM $$", 143),
        ("kill -KILL $$", 137),
        ("kill -ABRT $$", 134),
    ] {
        let output = place.run(&["do", "--init", "--", "sh", "-c", script]);
        assert_eq!(
            output.status.code(),
            Some(status),
            "{script}: {}",
            text(&output.stderr)
        );
    }
    place.fails(
        &["do", "--init", "--", "none-such"],
        127,
        &["none-such: no such file"],
    );
    place.file("data", 0o644, "x");
    place.fails(
        &["do", "--init", "--", "./data"],
        126,
        &["data: permission denied"],
    );
    // What it reads and writes, its arguments, and what it sees of itself.
    let script = "read line; echo \"$line $0 $1\"; echo $$; cat /proc/1/comm; tr '\\0' ' ' < /proc/1/cmdline";
    let mut command = place.command(&["do", "--init", "--", "sh", "-c", script, "zero", "one"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"from stdin\n")
        .unwrap();
    let said = text(&child.wait_with_output().unwrap().stdout);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(
        lines[..3],
        ["from stdin zero one", "2", "docker-init"],
        "{said}"
    );
    assert!(
        lines[3].starts_with("/sbin/docker-init -- sh -c read line"),
        "{said}"
    );
}

#[test]
fn orphans_are_waited_for() {
    let place = Place::new();
    // Grandchildren whose parents are gone; without a first process that waits they stay.
    let script = "for i in 1 2 3 4; do (sh -c 'exec sleep 0.1' &); done; sleep 0.5; \
        for stat in /proc/[0-9]*/stat; do read a b c d < $stat; echo $c; done";
    let states = |option: &[&str]| {
        let args = [&["do"], option, &["--", "sh", "-c", script]].concat();
        let output = place.ok(&args);
        output.lines().filter(|state| *state == "Z").count()
    };
    assert_eq!(states(&["--init"]), 0);
}

#[test]
fn signals_reach_the_program() {
    let place = Place::new();
    let end = |options: &[&str], script: &str, signals: &[Signal]| {
        let mut command = place.prepared(place.varve.to_str().unwrap(), &["do"]);
        command.args(options).args(["--", "sh", "-c", script]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        let mut said = String::new();
        for signal in signals {
            kill(Pid::from_raw(child.id() as i32), *signal).unwrap();
            if *signal != Signal::SIGTERM {
                out.read_line(&mut said).unwrap();
            }
        }
        (child.wait().unwrap().code(), said)
    };
    // Without a handler it ends the program, which as the first process would not care.
    let script = "echo ready; exec sleep 20";
    assert_eq!(end(&["--init"], script, &[Signal::SIGTERM]).0, Some(143));
    let script =
        "trap 'echo one' USR1; trap 'echo int' INT; echo ready; while :; do sleep 0.05; done";
    let signals = [Signal::SIGUSR1, Signal::SIGINT, Signal::SIGTERM];
    let (status, said) = end(&["--init"], script, &signals);
    assert_eq!((status, said.as_str()), (Some(143), "one\nint\n"));
}
