//! No program ends or hangs the kernel: bombs of all kinds (`guests/bombs.c`) end in errors, limits and
//! signals inside, and the sandbox goes when its first program ends, when that is told to end, and when varve
//! is killed, whatever the others do. Nothing is left on the host, and varve itself holds no more for them
//! than their limit of memory allows.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use varve_conformance::{build_guest, build_image, platforms, processes, run, skip, varve};

/// Far more than it takes: what takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(120);
/// What the programs may have. Without a limit of threads the host's own holds: that is tried with
/// `VARVE_TEST_LONG=1`.
const MEMORY: &str = "64m";
/// Most anonymous memory of varve, in KiB: what counts for the programs, and what it takes itself, with a
/// stack and buffers for each guest thread.
const ANON_MAX: u64 = (64 + 48) << 10;
/// How long a bomb goes on when it has come to its limits.
const ON: Duration = Duration::from_millis(200);
const THREADS: &str = "300";
/// Exit status of the first program when it has ended by itself, and when it was told to.
const ENDED: i32 = 3;
const TOLD: i32 = 42;

#[derive(Clone, Copy, PartialEq, Debug)]
enum End {
    /// The first program ends while the others run.
    Itself,
    /// It gets SIGTERM from outside, which it has a handler for.
    Term,
    /// Varve is killed.
    Kill,
}

struct Bombs {
    varve: PathBuf,
    image: PathBuf,
}

impl Bombs {
    fn run(&self, platform: &str, name: &str, end: End, threads: &str) {
        let what = format!("{name} on {platform}, {end:?}");
        let mut command = Command::new(&self.varve);
        command.args(["do", "--platform", platform, "--memory", MEMORY]);
        command.args(["--pids-limit", threads, "--workdir", "/tmp"]);
        command.args(["--mount", "type=tmpfs,dst=/tmp,mode=1777", "--layer"]);
        command.arg(&self.image).args(["--", "/bombs", name]);
        if end == End::Itself {
            command.arg("exit");
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = Pid::from_raw(child.id() as i32);
        let guard = Overdue::new(pid);
        let peak = Peak::of(child.id());
        // Nobody reads on: a program that writes all the time must not hold varve up.
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        let _ = output.read_line(&mut line);
        let stderr = |child: &mut Child| {
            let mut text = String::new();
            let stderr = child.stderr.take().unwrap();
            // Only what is there: a process that was left would keep the pipe open.
            let _ = BufReader::new(stderr).read_line(&mut text);
            text
        };
        if line != "going\n" {
            let _ = child.kill();
            let status = child.wait().unwrap();
            line.truncate(100);
            panic!("{what}: {status}, {line:?}, {}", stderr(&mut child));
        }
        if end != End::Itself {
            std::thread::sleep(ON);
        }
        let all = processes(child.id());
        match end {
            End::Itself => {}
            End::Term => kill(pid, Signal::SIGTERM).unwrap(),
            End::Kill => kill(pid, Signal::SIGKILL).unwrap(),
        }
        let status = child.wait().unwrap();
        assert!(!guard.is_over(), "{what}: hangs");
        let expected = match end {
            End::Itself => ExitStatus::from_raw(ENDED << 8),
            End::Term => ExitStatus::from_raw(TOLD << 8),
            End::Kill => ExitStatus::from_raw(Signal::SIGKILL as i32),
        };
        assert_eq!(status, expected, "{what}: {}", stderr(&mut child));
        // Thousands of host threads have stacks of more than what a task counts as.
        let most = if threads == THREADS {
            ANON_MAX
        } else {
            u64::MAX
        };
        let peak = peak.end();
        assert!(peak <= most, "{what}: varve had {peak} KiB of its own");
        for pid in all {
            gone(pid, &what);
        }
    }
}

/// Kills varve when it takes too long.
struct Overdue(
    std::sync::mpsc::Sender<()>,
    std::sync::Arc<std::sync::atomic::AtomicBool>,
);

impl Overdue {
    fn new(pid: Pid) -> Overdue {
        let (sender, receiver) = std::sync::mpsc::channel();
        let over = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let told = over.clone();
        std::thread::spawn(move || {
            use std::sync::mpsc::RecvTimeoutError::Timeout;
            if receiver.recv_timeout(PATIENCE) == Err(Timeout) {
                told.store(true, std::sync::atomic::Ordering::SeqCst);
                let _ = kill(pid, Signal::SIGKILL);
            }
        });
        Overdue(sender, over)
    }

    fn is_over(&self) -> bool {
        let _ = self.0.send(());
        self.1.load(std::sync::atomic::Ordering::SeqCst)
    }
}

/// The most anonymous memory that a process has had while it was looked at.
struct Peak(
    std::thread::JoinHandle<u64>,
    std::sync::Arc<std::sync::atomic::AtomicBool>,
);

impl Peak {
    fn of(pid: u32) -> Peak {
        let over = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let told = over.clone();
        let watcher = std::thread::spawn(move || {
            let mut peak = 0;
            while !told.load(std::sync::atomic::Ordering::SeqCst) {
                peak = peak.max(anonymous(pid));
                std::thread::sleep(Duration::from_millis(5));
            }
            peak
        });
        Peak(watcher, over)
    }

    fn end(self) -> u64 {
        self.1.store(true, std::sync::atomic::Ordering::SeqCst);
        self.0.join().unwrap()
    }
}

/// `RssAnon` of a process in KiB; 0 if it is gone.
fn anonymous(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Waits until a process of a sandbox has ended: those whose tracer was killed take a moment. Zombies have
/// ended; their numbers may be others' soon.
fn gone(pid: u32, what: &str) {
    let start = Instant::now();
    let is_ours = |text: &str| {
        let (name, rest) = (text.split(['(', ')']).nth(1), text.rsplit(") ").next());
        name == Some("guests") && !rest.unwrap_or("").starts_with(['Z', 'X'])
    };
    while std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|text| is_ours(&text)) {
        assert!(start.elapsed() < PATIENCE, "{what}: process {pid} is left");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn bombs_end_with_their_sandbox() {
    let dir = tempfile::tempdir().unwrap();
    let layer = dir.path().join("layer");
    std::fs::create_dir(&layer).unwrap();
    let program = layer.join("bombs");
    if let Err(reason) = build_guest("bombs.c", &program) {
        return skip("bombs", &reason);
    }
    let list = run(Command::new(&program).arg("list")).stdout;
    let names = String::from_utf8(list).unwrap();
    let (varve, image) = (varve().unwrap(), dir.path().join("layer.img"));
    build_image(&varve, &layer, &image);
    let bombs = Bombs { varve, image };
    let long = std::env::var_os("VARVE_TEST_LONG").is_some_and(|value| value == "1");
    let ends = [End::Itself, End::Term, End::Kill];
    for (number, platform) in platforms(&bombs.varve).iter().enumerate() {
        for (at, name) in names.lines().enumerate() {
            for (turn, end) in ends.into_iter().enumerate() {
                // Each end has its turn with some of the bombs, and all three with those that make processes.
                if long || at < 3 || (at + number) % ends.len() == turn {
                    bombs.run(platform, name, end, THREADS);
                }
            }
        }
        if long {
            for name in ["forks", "orphans", "threads"] {
                bombs.run(platform, name, End::Term, "-1");
            }
        }
    }
}
