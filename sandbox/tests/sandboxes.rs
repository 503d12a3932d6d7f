//! Sandboxes in a program of one's own: what goes in and comes out, how they end, several at once.

use std::io::{Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use varve_core::boot::Init;
use varve_sandbox::{
    BootError, Builder, ExitStatus, KickSignal, Layer, Level, Limits, Output, PlatformChoice,
    RunError, Sandbox, SinkLine, Stdio, program, survey,
};

/// How long something may take: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// The platforms of this machine.
fn platforms() -> Vec<PlatformChoice> {
    let survey = survey(KickSignal::install().unwrap());
    let all = [
        (PlatformChoice::Kvm, survey.kvm),
        (PlatformChoice::Ptrace, survey.ptrace),
    ];
    let works = all.into_iter().filter_map(|(choice, cost)| match cost {
        Ok(_) => Some(choice),
        Err(error) => {
            let strict = std::env::var_os("VARVE_TEST_NO_SKIP").is_some_and(|it| it == "1");
            assert!(!strict, "{choice:?}: {error}");
            eprintln!("SKIP: {choice:?}: {error}");
            None
        }
    });
    works.collect()
}

/// A script over the host's own root, which has a shell.
fn script(platform: PlatformChoice, text: &str) -> Builder {
    Sandbox::builder(program(["/bin/sh", "-c", text]).unwrap())
        .layers([Layer::directory("/")])
        .platform(platform)
        .kick_signal(KickSignal::install().unwrap())
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn two_at_once_have_nothing_to_do_with_each_other() {
    for platform in platforms() {
        // Each waits for a line of its own, so that both run at the same time.
        let start = |name: &str| {
            let lines = format!(
                "echo {name} begins; read line; echo $line >/tmp/varve-of-two; cat /tmp/varve-of-two; echo {name} >&2; exit {}",
                name.len()
            );
            let builder = script(platform, &lines);
            let mut sandbox = builder
                .stdio([Stdio::piped(), Stdio::piped(), Stdio::piped()])
                .spawn()
                .unwrap();
            let mut begun = vec![0; name.len() + " begins\n".len()];
            let stdout = sandbox.stdout.as_mut().unwrap();
            stdout.read_exact(&mut begun).unwrap();
            assert_eq!(text(&begun), format!("{name} begins\n"));
            sandbox
        };
        let (mut one, mut two) = (start("one"), start("three"));
        for (sandbox, line) in [(&mut two, "second\n"), (&mut one, "first\n")] {
            assert!(!sandbox.is_finished());
            let mut stdin = sandbox.stdin.take().unwrap();
            stdin.write_all(line.as_bytes()).unwrap();
        }
        for (sandbox, line, name) in [(one, "first", "one"), (two, "second", "three")] {
            let output = sandbox.wait_with_output().unwrap();
            let lines: Vec<_> = text(&output.stdout).lines().collect();
            assert_eq!(lines[0], line, "{platform:?}");
            assert_eq!(text(&output.stderr), format!("{name}\n"));
            assert_eq!(output.status, ExitStatus::Exited(name.len() as u8));
        }
        assert!(!std::fs::exists("/tmp/varve-of-two").unwrap());
    }
}

#[test]
fn one_after_the_other_and_many_at_a_time() {
    for platform in platforms() {
        for round in 0..5 {
            let output = script(platform, &format!("echo {round}")).output().unwrap();
            assert_eq!(text(&output.stdout), format!("{round}\n"));
        }
        let run = |number| script(platform, &format!("echo {number}; exit {number}")).output();
        let outputs: Vec<Output> = thread::scope(|scope| {
            let started: Vec<_> = (0..6).map(|n| scope.spawn(move || run(n))).collect();
            let ended = started.into_iter().map(|it| it.join().unwrap().unwrap());
            ended.collect()
        });
        for (number, output) in outputs.into_iter().enumerate() {
            assert_eq!(output.status, ExitStatus::Exited(number as u8));
            assert_eq!(text(&output.stdout), format!("{number}\n"));
        }
    }
}

#[test]
fn signals_reach_it_and_a_kill_ends_it() {
    for platform in platforms() {
        let asleep = "trap 'echo told; exit 3' TERM; echo ready; while :; do sleep 0.01; done";
        let start = |init: bool| {
            let mut config = program(["/bin/sh", "-c", asleep]).unwrap();
            if init {
                let Init::Exec { args } = config.init else {
                    unreachable!()
                };
                config.init = Init::Supervised { args };
            }
            let mut sandbox = Sandbox::builder(config)
                .layers([Layer::directory("/")])
                .platform(platform)
                .kick_signal(KickSignal::install().unwrap())
                .stdio([Stdio::null(), Stdio::piped(), Stdio::inherit()])
                .spawn()
                .unwrap();
            let mut ready = [0; 6];
            let stdout = sandbox.stdout.as_mut().unwrap();
            stdout.read_exact(&mut ready).unwrap();
            sandbox
        };
        let told = start(false);
        let stats = told.stats().unwrap();
        assert!(stats.threads >= 1 && stats.inputs > 10 && stats.memory > 4096);
        assert!(stats.uptime > Duration::ZERO);
        assert_eq!(told.signal(65).unwrap_err().raw_os_error(), Some(22));
        told.signal(15).unwrap();
        let output = told.wait_with_output().unwrap();
        assert_eq!(output.status, ExitStatus::Exited(3));
        assert_eq!(text(&output.stdout), "told\n");
        for init in [false, true] {
            let killed = start(init);
            let controls = killed.controls();
            let from_elsewhere = thread::spawn(move || {
                controls.kill().unwrap();
                controls
            });
            let status = killed.wait().unwrap();
            assert_eq!(status, ExitStatus::Signaled(9), "{platform:?} {init}");
            let controls = from_elsewhere.join().unwrap();
            assert!(controls.stats().is_none());
            assert_eq!(controls.kill().unwrap_err().raw_os_error(), Some(3));
        }
    }
}

#[test]
fn what_it_writes_is_kept_up_to_a_bound() {
    let flood = "head -c 3000000 /dev/zero; head -c 2000000 /dev/zero >&2; echo end >&2";
    let output = script(PlatformChoice::Ptrace, flood).output_max(1000);
    let output = output.output().unwrap();
    assert_eq!(output.status, ExitStatus::Exited(0));
    assert_eq!(output.stdout, [0; 1000]);
    assert_eq!((output.stderr.len(), output.truncated), (1000, true));
    let all = script(PlatformChoice::Ptrace, flood).output().unwrap();
    assert_eq!((all.stdout.len(), all.truncated), (3_000_000, false));
    assert!(all.stderr.ends_with(b"\0end\n"));
}

#[test]
fn limits_are_kept() {
    let limits = Limits {
        memory: Some(32 << 20),
        threads: Some(20),
    };
    let lines = "tail /dev/zero; echo $?; for n in $(seq 40); do sleep 9 & done; echo all";
    let limited = script(PlatformChoice::Ptrace, lines).limits(limits);
    let output = limited.output().unwrap();
    assert!(text(&output.stdout).starts_with("137\n"), "{output:?}");
    assert!(!text(&output.stdout).contains("all"), "{output:?}");
    assert!(
        text(&output.stderr).to_lowercase().contains("fork"),
        "{output:?}"
    );
}

#[test]
fn errors_say_what_failed() {
    let missing = Sandbox::builder(program(["/bin/true"]).unwrap())
        .layers([Layer::image("/nonexistent/layer.img")])
        .output();
    match missing {
        Err(RunError::Host(what, error)) => {
            assert_eq!(what, "/nonexistent/layer.img");
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
        }
        other => panic!("{other:?}"),
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("no.img");
    std::fs::write(&path, [7; 8192]).unwrap();
    let damaged = Sandbox::builder(program(["/bin/true"]).unwrap())
        .layers([Layer::image(&path)])
        .output();
    match damaged {
        Err(RunError::Boot(BootError::Image { .. }, Some(name))) => {
            assert_eq!(name, path.display().to_string());
        }
        other => panic!("{other:?}"),
    }
    let none = Sandbox::builder(program(["/bin/nothing-of-the-kind"]).unwrap())
        .layers([Layer::directory("/")])
        .output();
    match none {
        Err(error @ RunError::Boot(BootError::Exec { .. }, _)) => {
            assert_eq!(error.to_string(), "/bin/nothing-of-the-kind: no such file");
        }
        other => panic!("{other:?}"),
    }
    let kvm = Sandbox::builder(program(["/bin/true"]).unwrap())
        .layers([Layer::directory("/")])
        .platform(PlatformChoice::Kvm)
        .output();
    assert!(matches!(kvm, Err(RunError::Platform(_))), "{kvm:?}");
}

#[test]
fn the_log_of_each_goes_where_it_was_told() {
    let (lines, log) = std::sync::mpsc::channel();
    // A call that varve does not have leaves a line in the log.
    let limited = script(PlatformChoice::Ptrace, "tail /dev/zero").limits(Limits {
        memory: Some(16 << 20),
        ..Limits::default()
    });
    let status = limited.log(move |line| {
        if let SinkLine::Log(Level::Killed, text) = line {
            lines.send(text.to_owned()).unwrap();
        }
    });
    let begun = Instant::now();
    assert_eq!(status.output().unwrap().status, ExitStatus::Exited(137));
    assert!(begun.elapsed() < PATIENCE);
    // The run has ended, so all has been written, and the sink is gone.
    let log: Vec<String> = log.iter().collect();
    assert_eq!(log.len(), 1, "{log:?}");
}
