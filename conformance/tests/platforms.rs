//! Each platform that this machine has: what the command says of it, many sandboxes at once, the end of the
//! supervisor.

use std::fs;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use varve_conformance::{platforms, processes, run, status, varve};

#[test]
fn platforms_are_listed_with_what_they_cost() {
    let varve = varve().unwrap();
    let listed = run(Command::new(&varve).args(["platforms", "--json"]));
    assert_eq!(status(listed.status), 0);
    let list: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    let list = list.as_array().unwrap();
    let names: Vec<_> = list.iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["kvm", "ptrace"]);
    let chosen = list.iter().filter(|it| it["auto"] == true).count();
    assert_eq!(chosen, 1);
    for platform in list {
        let works = platform["works"] == true;
        assert_eq!(platform["reason"].is_null(), works, "{platform}");
        let cost = platform["syscall_us"].as_f64();
        assert_eq!(cost.is_some_and(|cost| cost > 0.0), works, "{platform}");
    }
    let text = run(Command::new(&varve).arg("platforms"));
    let text = String::from_utf8(text.stdout).unwrap();
    assert_eq!(text.lines().count(), 2, "{text}");
    assert_eq!(text.matches("(auto)").count(), 1, "{text}");
}

/// A device that opens but is no KVM, as an administrator may leave it behind.
#[test]
fn a_kvm_that_does_not_work_is_told() {
    if !nix::unistd::geteuid().is_root() {
        return varve_conformance::skip("a broken /dev/kvm", "only root can mount over it");
    }
    let varve = varve().unwrap();
    let script = "mount --bind /dev/null /dev/kvm && exec \"$@\"";
    let hidden = |args: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script, "sh"]);
        run(command.arg(&varve).args(args))
    };
    let asked = hidden(&["do", "--platform", "kvm", "--", "/bin/true"]);
    let text = String::from_utf8_lossy(&asked.stderr).into_owned();
    assert_eq!(status(asked.status), 125, "{text}");
    assert!(text.contains("/dev/kvm: no KVM that works"), "{text}");
    let auto = hidden(&["do", "--", "/bin/echo", "here"]);
    assert_eq!((status(auto.status), &*auto.stdout), (0, &b"here\n"[..]));
    let listed = hidden(&["platforms"]);
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(text.contains("fails  /dev/kvm"), "{text}");
}

/// `tail` keeps a line without an end in memory.
#[test]
fn a_sandbox_that_uses_more_memory_than_it_may() {
    let varve = varve().unwrap();
    for platform in platforms(&varve) {
        let limited = |program: &[&str]| {
            let mut command = Command::new(&varve);
            command.args(["do", "--platform", &platform, "--memory", "32M", "--"]);
            run(command.args(program))
        };
        let script = "tail /dev/zero; echo $?; head -c 40000000 /dev/zero > /dev/shm/x || wc -c < /dev/shm/x; sed -n 1p /proc/meminfo";
        let killed = limited(&["sh", "-c", script]);
        let text = String::from_utf8_lossy(&killed.stdout).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        let [child, written, total] = lines[..] else {
            panic!("{text}");
        };
        assert_eq!((child, total), ("137", "MemTotal:          32768 kB"));
        let written: u64 = written.parse().unwrap();
        assert!((24 << 20..32 << 20).contains(&written), "{written}");
        let ended = limited(&["tail", "/dev/zero"]);
        assert_eq!(status(ended.status), 137, "nothing else is left");
    }
}

#[test]
fn fifty_sandboxes_at_once() {
    const SANDBOXES: usize = 50;
    let varve = varve().unwrap();
    for platform in platforms(&varve) {
        let start = |number: usize| {
            // All are there at the same time: each waits for its input to end.
            let script = format!("ls /usr | wc -l; cat; (exit 3) & wait $!; echo {number} $?");
            let mut command = Command::new(&varve);
            command.args(["do", "--platform", &platform, "--", "sh", "-c", &script]);
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
            command.spawn().unwrap()
        };
        let mut all: Vec<Child> = (0..SANDBOXES).map(start).collect();
        let mut first = vec![0; 1];
        for child in &mut all {
            let output = child.stdout.as_mut().unwrap();
            output.read_exact(&mut first).unwrap();
        }
        for child in &mut all {
            drop(child.stdin.take());
        }
        for (number, child) in all.into_iter().enumerate() {
            let ended = child.wait_with_output().unwrap();
            let text = String::from_utf8(ended.stdout).unwrap();
            assert_eq!(status(ended.status), 0, "{platform} {number}: {text}");
            let last = text.lines().last().unwrap();
            assert_eq!(last, format!("{number} 3"), "{platform}");
        }
    }
}

#[test]
fn a_supervisor_that_is_killed_leaves_nothing() {
    let varve = varve().unwrap();
    let script = "while :; do :; done & sleep 1000 & while :; do (true); done & echo ready; wait";
    for platform in platforms(&varve) {
        for delay in [0, 3, 20, 50] {
            let mut command = Command::new(&varve);
            command.args(["do", "--platform", &platform, "--", "sh", "-c", script]);
            command.stdin(Stdio::null()).stdout(Stdio::null());
            let mut child = command.stderr(Stdio::null()).spawn().unwrap();
            // At whatever moment it may be.
            std::thread::sleep(Duration::from_millis(delay));
            let all = processes(child.id());
            kill(Pid::from_raw(child.id() as i32), Signal::SIGKILL).unwrap();
            assert_eq!(status(child.wait().unwrap()), 128 + Signal::SIGKILL as i32);
            let begun = Instant::now();
            while let Some(left) = all.iter().find(|pid| is_alive(**pid)) {
                let patient = begun.elapsed() < Duration::from_secs(30);
                assert!(patient, "{platform}: process {left} is still there");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

/// One that only waits for its parent is dead.
fn is_alive(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    let rest = stat.rsplit(") ").next().unwrap_or("");
    !rest.starts_with(['Z', 'X'])
}
