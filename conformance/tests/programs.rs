//! Compilers, language runtimes and tools of Debian: each script of `programs/` natively in a chroot and in a
//! sandbox, on every platform.
//!
//! What does not behave the same is in [`EXCEPTIONS`] and [`LEFT_OUT`] with its reason; `README.md` has both
//! as tables.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;

use varve_conformance::native::{self, Native, difference};
use varve_conformance::{build_image, debian, platforms, run, skip, status, varve};

/// A line that one side prints instead of the other's, and why.
struct Exception {
    program: &'static str,
    native: &'static str,
    sandbox: &'static str,
    reason: &'static str,
}

const EXCEPTIONS: &[Exception] = &[];

/// What the scripts leave out because it is not there, and why.
const NOT_THERE: &[(&str, &str)] = &[
    (
        "TCP, UDP, netlink: `jshell`, `git clone git://`, `bwrap --unshare-net`",
        "AF_UNIX is the only family of sockets",
    ),
    (
        "terminals: `script`, job control of an interactive shell, `bwrap --dev`",
        "there are no pseudo-terminals yet",
    ),
    ("`gdb`, `strace`", "ptrace(2) is refused"),
    (
        "io_uring: fio's engine of that name",
        "refused, as with kernel.io_uring_disabled = 2",
    ),
    (
        "`/proc/sys`: settings without effect (`vm.swappiness`, `kernel.printk`), and with it `fs.file-max`, `vm.overcommit_memory = 2`",
        "they can be written where others can, but only the value that they have: `EINVAL`; without `--privileged`, those of the whole system are `EROFS`, as in a container",
    ),
    (
        "`kernel.shm_rmid_forced`: whose segments go",
        "those of processes that have ended; Linux looks at the thread that made them, and at unshare(2)",
    ),
    (
        "the first 64 KiB of memory on ptrace",
        "guests' pages are mappings of the host there, which needs `vm.mmap_min_addr` of the host to be smaller; on KVM they are for who has `CAP_SYS_RAWIO`, as in Linux",
    ),
    (
        "faults that read storage, blocks read and written, involuntary switches (getrusage(2), `/proc/PID/stat`, `status`, `io`)",
        "0: varve maps images and shares processors without knowing when the host reads or switches",
    ),
    ("overlay mounts by programs", "ENODEV"),
    (
        "mounts with other users (`MOUNT_ATTR_IDMAP`)",
        "EINVAL, as for file systems that do not allow it; tmpfs of Linux does",
    ),
    (
        "`fsconfig` of `ro` for sysfs and cgroup2",
        "changes nothing; the mount can be read-only",
    ),
];

/// Stressors of `stress-ng` that do not run here, and why. The classes are those that the table of the README
/// names.
const LEFT_OUT: &[(&str, &str)] = &[
    ("cpu-online", "takes processors away from the machine"),
    ("fcntl", "two of it disturb each other, natively too"),
    ("cyclic", "measures latencies of real-time scheduling"),
    (
        "handle",
        "name_to_handle_at(2) is not there, as in a kernel without CONFIG_FHANDLE",
    ),
    ("ioport", "needs the ports of the machine"),
    ("loadavg", "makes the machine as busy as it can"),
    ("netlink-proc", "sockets of other families than AF_UNIX"),
    ("netlink-task", "sockets of other families than AF_UNIX"),
    ("physpage", "needs the machine's /dev/mem and page counts"),
    ("smi", "needs the ports of the machine"),
    (
        "softlockup",
        "locks processors up with real-time scheduling",
    ),
    ("swap", "swapping is the machine's"),
    ("uprobe", "needs the tracing of the machine's kernel"),
    ("vm-segv", "ptrace(2) is refused"),
    ("watchdog", "needs the machine's watchdog"),
];

const CLASSES: [&str; 6] = ["cpu", "vm", "filesystem", "pipe", "scheduler", "interrupt"];

/// Scripts that need only what `rootfs/build` makes for other tests too. The rest runs with
/// `VARVE_TEST_LONG=1`.
const SMALL: [&str; 9] = [
    "bash",
    "coreutils",
    "dash",
    "dpkg",
    "perl",
    "python",
    "spaces",
    "sqlite",
    "tar",
];

/// Where the scripts are in both trees.
const SCRIPTS: &str = "programs";

struct Script {
    name: String,
    /// The comment that it begins with.
    about: String,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(SCRIPTS)
}

fn scripts() -> Vec<Script> {
    let mut all: Vec<Script> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            let about = text.lines().map_while(|line| line.strip_prefix("# "));
            let about: Vec<&str> = about.collect();
            assert!(!about.is_empty(), "{path:?} does not say what it does");
            Script {
                name: path.file_stem().unwrap().to_string_lossy().into_owned(),
                about: about.join(" "),
            }
        })
        .collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

/// The images of the programs, with the scripts on top.
fn images(varve: &Path, dir: &Path) -> Result<Vec<PathBuf>, String> {
    let mut images = debian::programs(varve, dir, long())?;
    let layer = dir.join("layer");
    fs::create_dir_all(layer.join(SCRIPTS)).map_err(|error| error.to_string())?;
    for script in scripts() {
        let name = format!("{}.sh", script.name);
        fs::copy(folder().join(&name), layer.join(SCRIPTS).join(&name))
            .map_err(|error| error.to_string())?;
    }
    let image = dir.join("scripts.img");
    build_image(varve, &layer, &image);
    images.push(image);
    Ok(images)
}

/// The stressors of all classes but those that are left out.
fn stressors(varve: &Path, images: &[PathBuf]) -> String {
    let mut all = Vec::new();
    for class in CLASSES {
        let told = sandbox(
            varve,
            "auto",
            images,
            &["stress-ng", "--class", &format!("{class}?")],
        );
        let told = String::from_utf8_lossy(&[told.stdout, told.stderr].concat()).into_owned();
        let names = told.rsplit("stressors: ").next().unwrap_or_default();
        all.extend(names.split_whitespace().map(str::to_owned));
    }
    all.sort();
    all.dedup();
    assert!(all.len() > 150, "{all:?}");
    all.retain(|name| LEFT_OUT.iter().all(|(left, _)| left != name));
    all.join(" ")
}

/// Whether everything is to be run everywhere.
fn long() -> bool {
    std::env::var_os("VARVE_TEST_LONG").is_some_and(|value| value == "1")
}

fn sandbox(varve: &Path, platform: &str, images: &[PathBuf], command: &[&str]) -> Output {
    let mut sandbox = Command::new(varve);
    sandbox.args(["do", "--platform", platform, "--hostname", "debian"]);
    for image in images {
        sandbox.arg("--layer").arg(image);
    }
    run(sandbox.arg("--").args(command))
}

/// In namespaces of its own and with the capabilities of a container.
fn natively(tree: &Native, command: &[&str]) -> Output {
    let mut native = Command::new("/usr/bin/unshare");
    // Not chroot(1): no user namespace can be made under it.
    let enter = "mount --make-rprivate / && cd \"$1\" && shift && mount -t proc proc proc && pivot_root . . && umount -l . && exec \"$@\"";
    native.args(["--mount", "--ipc", "--pid", "--fork", "--kill-child"]);
    native.args(["/bin/sh", "-c", enter, "sh"]);
    // Whoever runs the tests in the background has these ignored, and a sandbox hands that to no program.
    native.arg(tree.dir()).args([
        "/usr/bin/env",
        "--default-signal=HUP,INT,QUIT",
        "/usr/bin/setpriv",
        "--bounding-set=-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+setpcap,+net_bind_service,+net_raw,+sys_chroot,+mknod,+audit_write,+setfcap",
        "--inh-caps=-all",
    ]);
    run(native::environment(&mut native).args(command))
}

/// What is compared: both outputs and the status, without numbers of processes that shells print.
fn seen(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines: Vec<String> = text.lines().map(without_pid).collect();
    lines.push(format!("status {}", status(output.status)));
    lines.join("\n")
}

/// `NAME: line N: PID Killed ...` without the PID.
fn without_pid(line: &str) -> String {
    let Some((before, after)) = line.split_once(": line ") else {
        return line.to_owned();
    };
    let Some((number, rest)) = after.split_once(": ") else {
        return line.to_owned();
    };
    let rest = rest.trim_start();
    let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    format!("{before}: line {number}: {}", rest.trim_start())
}

/// The native output as the sandbox is expected to give it.
fn with_exceptions(program: &str, native: &str) -> String {
    let lines = native.lines().map(|line| {
        let mut all = EXCEPTIONS.iter();
        let exception = all.find(|one| one.program == program && one.native == line);
        exception.map_or(line, |one| one.sandbox)
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn programs_behave_as_they_do_natively() {
    let varve = varve().unwrap();
    // Not where temporary files are: those are in memory on many machines.
    let target = varve_conformance::target_dir().unwrap();
    let dir = tempfile::tempdir_in(target).unwrap();
    let images = match images(&varve, dir.path()) {
        Ok(images) => images,
        Err(reason) => return skip("Debian's programs", &reason),
    };
    let platforms = platforms(&varve);
    let stressors = match long() {
        true => stressors(&varve, &images),
        false => String::new(),
    };
    let only = std::env::var("VARVE_TEST_PROGRAM").ok();
    let mut different = Vec::new();
    for script in scripts() {
        let name = &script.name;
        if only.as_deref().is_some_and(|only| only != name)
            || !long() && !SMALL.contains(&name.as_str())
        {
            continue;
        }
        let path = format!("/{SCRIPTS}/{name}.sh");
        // Everything in one stream, so that the order is compared too.
        let shell = format!("exec 2>&1; export STRESSORS='{stressors}'; . {path}");
        let command = ["/bin/bash", "-c", &shell, &path];
        let scratch = dir.path().join(name);
        let natively = || -> nix::Result<(String, f64)> {
            let native = Native::new(&images, &scratch)?;
            let start = Instant::now();
            let expected = seen(&natively(&native, &command));
            Ok((
                with_exceptions(name, &expected),
                start.elapsed().as_secs_f64(),
            ))
        };
        let (mut expected, native_time) = match natively() {
            Ok(native) => native,
            Err(error) => return skip("Debian's programs", &format!("mounting: {error}")),
        };
        for platform in &platforms {
            let start = Instant::now();
            let mut got = sandbox(&varve, platform, &images, &command);
            let time = start.elapsed().as_secs_f64();
            println!("{name}: {native_time:.2} s natively, {time:.2} s on {platform}");
            let mut got_text = seen(&got);
            if got_text != expected {
                // Programs that run side by side can come in another order on a busy machine, on either side:
                // a difference must show twice.
                println!("{name}: once more");
                expected = natively().expect("it was mounted before").0;
                got = sandbox(&varve, platform, &images, &command);
                got_text = seen(&got);
            }
            if got_text != expected {
                let messages = String::from_utf8_lossy(&got.stderr);
                let lines = difference(&expected, &got_text);
                different.push(format!("{name} on {platform}:\n{lines}{messages}"));
            }
        }
    }
    assert!(
        different.is_empty(),
        "- natively, + in the sandbox\n{}",
        different.join("\n")
    );
}

/// The tables of the README, from the scripts and the lists above.
fn tables() -> String {
    let mut text = String::from("| script | what it does | not as natively |\n|---|---|---|\n");
    let mut known: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for one in EXCEPTIONS {
        let line = |text: &str| match text {
            "" => String::from("nothing"),
            text => format!("`{text}`"),
        };
        known.entry(one.program).or_default().push(format!(
            "{} instead of {}: {}",
            line(one.sandbox),
            line(one.native),
            one.reason
        ));
    }
    for script in scripts() {
        let exceptions = known.remove(script.name.as_str()).unwrap_or_default();
        text += &format!(
            "| {} | {} | {} |\n",
            script.name,
            script.about,
            exceptions.join("; ")
        );
    }
    assert!(known.is_empty(), "no such script: {known:?}");
    text += "\n| not there | why |\n|---|---|\n";
    for (what, reason) in NOT_THERE {
        text += &format!("| {what} | {reason} |\n");
    }
    text += "\n| stressor | why it is left out |\n|---|---|\n";
    for (name, reason) in LEFT_OUT {
        text += &format!("| {name} | {reason} |\n");
    }
    text
}

#[test]
fn the_readme_says_what_runs_and_what_does_not() {
    const BEGIN: &str = "<!-- made by tests/programs.rs; VARVE_TEST_UPDATE=1 writes it -->\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let text = fs::read_to_string(&path).unwrap();
    let (before, _) = text.split_once(BEGIN).expect("the mark");
    let expected = format!("{before}{BEGIN}{}", tables());
    if std::env::var_os("VARVE_TEST_UPDATE").is_some_and(|value| value == "1") {
        fs::write(&path, &expected).unwrap();
        return;
    }
    assert!(
        text == expected,
        "conformance/README.md is not what this test makes of its lists; run it with VARVE_TEST_UPDATE=1"
    );
}
