//! Guest programs run natively and in a sandbox: output, exit status and the files they leave must be the
//! same.
//!
//! The guests are built here, statically, from `guests/`. A case prints what it sees and then the tree of
//! files in its directory.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use varve_conformance::{build_guest, build_image, platforms, run, skip, status, varve};

/// One guest program and where its cases run.
struct Guest<'a> {
    varve: &'a Path,
    program: PathBuf,
    /// Arguments of `varve do` up to the program, which is `/cases` there.
    sandbox: Vec<String>,
}

/// What a case printed and its exit status, as text.
type Ran = (i32, String);

/// Lines that not every host can print: one that does not see the processor's error code.
const ERROR_CODE: char = '#';
/// Cases in which the sandbox is meant to differ from the kernel it runs on start with this.
const OWN: &str = "sandbox_";

/// What some KVM modules do otherwise than the processor: those without hardware virtualisation interpret
/// some instructions themselves, run `iretq` in the supervisor and keep neither NT nor the selector of 32-bit
/// code. The case, what it prints on a processor, what it prints there.
const INTERPRETED: &[(&str, &str, &str)] = &[
    (
        "control_registers",
        "mov cr1: signal 4 code 2 addr at rip at trapno 6 error 0
mov cr5: signal 4 code 2 addr at rip at trapno 6 error 0
mov cr15: signal 4 code 2 addr at rip at trapno 6 error 0
",
        "mov cr1: signal 11 code 128 addr 0 rip at trapno 13 error 0
mov cr5: signal 11 code 128 addr 0 rip at trapno 13 error 0
mov cr15: signal 11 code 128 addr 0 rip at trapno 13 error 0
",
    ),
    (
        "ports",
        "xor %%ecx, %%ecx; mov $0x10, %%edx; rep outsb: signal 11 code 128 addr 0 rip at trapno 13 error 0",
        "xor %%ecx, %%ecx; mov $0x10, %%edx; rep outsb: no signal",
    ),
    ("segments_over_traps", "23: 23 23\n", "23: 3 3\n"),
    (
        "iretq",
        "cs 2b ss 2b signal 11 code 128 addr 0 rip at trapno 13\n",
        "cs 2b ss 2b signal 11 code 1 addr elsewhere rip at+13 trapno 14\n# page fault, error 6\n",
    ),
    (
        "iretq",
        "cs 33 ss 33 signal 11 code 128 addr 0 rip at trapno 13\n",
        "cs 33 ss 33 no signal\n",
    ),
    (
        "fsgsbase",
        "gs:0 signal 11 code 128 addr 0 rip at trapno 13 error 0\n7fffffffffff\n",
        "gs:0 signal 11 code 1 addr expected rip at trapno 14\n# page fault, error 5\n7fffffffffff\n",
    ),
    (
        "sse_exceptions",
        "reserved bits: signal 11 code 128 addr 0 rip at trapno 13 error 0\n",
        "reserved bits: signal 4 code 2 addr at rip at trapno 6 error 0\n",
    ),
    (
        "flags",
        "4000: popped 4202, after a call 4202, in a handler 4202, after it 202\n",
        "4000: popped 4202, after a call 202, in a handler 202, after it 202\n",
    ),
];

impl Guest<'_> {
    /// Runs all cases on all platforms, natively in a directory that `prepare` fills. At least `least` of
    /// them. `own` is what the cases print that are not compared with native Linux.
    fn compare(&self, least: usize, own: &[(&str, &str)], prepare: impl Fn(&Path)) {
        let list = run(Command::new(&self.program).arg("list"));
        let names = String::from_utf8(list.stdout).unwrap();
        assert!(names.lines().count() >= least);
        let platforms = platforms(self.varve);
        let mut different = Vec::new();
        for name in names.lines() {
            let wanted = match name.starts_with(OWN) {
                true => {
                    let text = own.iter().find(|(case, _)| *case == name);
                    (0, text.expect("what the case prints").1.to_owned())
                }
                false => self.natively(name, &prepare),
            };
            for platform in &platforms {
                let wanted = match &**platform {
                    "ptrace" => (wanted.0, without_error_codes(&wanted.1)),
                    _ => wanted.clone(),
                };
                let (ran, errors) = self.sandboxed(platform, name);
                let ran = match &**platform {
                    "ptrace" => (ran.0, without_error_codes(&ran.1)),
                    _ => (ran.0, as_on_a_processor(name, ran.1)),
                };
                if ran != wanted {
                    different.push(format!(
                        "{name}: wanted {}:\n{}on {platform} {}:\n{}{errors}",
                        wanted.0, wanted.1, ran.0, ran.1
                    ));
                }
            }
        }
        assert!(different.is_empty(), "{}", different.join("\n"));
    }

    fn natively(&self, case: &str, prepare: impl Fn(&Path)) -> Ran {
        let scratch = tempfile::tempdir().unwrap();
        let work = scratch.path().join("work");
        fs::create_dir(&work).unwrap();
        prepare(&work);
        // In a session of its own, as in the sandbox: ours may be one that no process here can name.
        let mut native = Command::new("setsid");
        let native = run(native.arg(&self.program).arg(case).current_dir(&work));
        let text = String::from_utf8_lossy(&native.stdout).into_owned();
        (status(native.status), text)
    }

    /// Runs a case in a sandbox, with the same rights; also what went to standard error. One that does not
    /// end is killed.
    fn sandboxed(&self, platform: &str, case: &str) -> (Ran, String) {
        const SECONDS: &str = "60";
        let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
        let mut sandbox = Command::new("timeout");
        sandbox
            .args(["-s", "KILL", SECONDS])
            .arg(self.varve)
            .args(["do", "--platform", platform])
            .arg("--user")
            .arg(format!("{uid}:{gid}"));
        let ran = run(sandbox.args(&self.sandbox).args(["--", "/cases", case]));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        ((status(ran.status), text(&ran.stdout)), text(&ran.stderr))
    }
}

fn as_on_a_processor(case: &str, text: String) -> String {
    let known = INTERPRETED.iter().filter(|(name, ..)| *name == case);
    known.fold(text, |text, (_, there, here)| text.replace(here, there))
}

fn without_error_codes(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.starts_with(ERROR_CODE));
    lines.map(|line| format!("{line}\n")).collect()
}

/// Runs the cases of a program that needs nothing but an empty directory.
fn compare_in_empty_directory(source: &str, least: usize, own: &[(&str, &str)]) {
    compare_with(source, least, own, &[]);
}

/// The same with more options of `varve do`.
fn compare_with(source: &str, least: usize, own: &[(&str, &str)], options: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let layer = dir.path().join("layer");
    fs::create_dir(&layer).unwrap();
    let program = layer.join("cases");
    if let Err(reason) = build_guest(source, &program) {
        return skip("guest programs", &reason);
    }
    let varve = varve().unwrap();
    let image = dir.path().join("layer.img");
    build_image(&varve, &layer, &image);
    let tmpfs = "type=tmpfs,dst=/tmp,mode=1777";
    let image = image.to_str().unwrap();
    let sandbox = ["--workdir", "/tmp", "--mount", tmpfs, "--layer", image];
    let guest = Guest {
        varve: &varve,
        program,
        sandbox: options
            .iter()
            .chain(&sandbox)
            .map(|&option| option.to_owned())
            .collect(),
    };
    guest.compare(least, own, |_| {});
}

#[test]
fn guests_do_the_same_natively_and_in_a_sandbox() {
    compare_in_empty_directory("cases.c", 60, &[]);
}

#[test]
fn odd_instructions_do_the_same_natively_and_in_a_sandbox() {
    // There is no 32-bit emulation, whatever the registers look like, and no vsyscall page.
    let int80 = "\
mov $20, %%eax; int $0x80: signal 11 code 128 addr 0 rip at trapno 13 error 402
mov $1, %%eax; mov $3, %%ebx; int $0x80: signal 11 code 128 addr 0 rip at trapno 13 error 402
mov $20, %%eax; lea 772f(%%rip), %%rcx; xor %%r11d, %%r11d; int $0x80: signal 11 code 128 addr 0 rip at trapno 13 error 402
mov $39, %%eax; pushfq; pop %%r11; xor %%ecx, %%ecx; int $0x80: signal 11 code 128 addr 0 rip at trapno 13 error 402
";
    let vsyscall: String = ["000", "400", "800", "401", "fff"]
        .map(|at| {
            format!(
                "ffffffffff600{at} signal 11 code 1 addr expected rip expected trapno 14\n# page fault, error 15\n"
            )
        })
        .concat();
    let own = [("sandbox_int80", int80), ("sandbox_vsyscall", &*vsyscall)];
    compare_in_empty_directory("odd.c", 30, &own);
}

#[test]
fn hostile_programs_do_the_same_natively_and_in_a_sandbox() {
    // Nothing can be mapped or reached where hosts keep their own pages, the page below is like any other.
    let at = ["00000", "01000", "02000", "80000"].map(|low| format!("7ffffff{low}"));
    let reserved: String = at
        .into_iter()
        .chain([String::from("7fffffffe000")])
        .map(|at| {
            format!(
                "{at}
mmap(p, PAGE, RW | PROT_EXEC, ANON | MAP_FIXED, -1, 0) = -1 ENOMEM
mmap(p, PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0) = -1 ENOMEM
munmap(p, PAGE) = 0 
mprotect(p, PAGE, RW | PROT_EXEC) = -1 ENOMEM
madvise(p, PAGE, MADV_DONTNEED) = -1 ENOMEM
mremap(q, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, p) = -1 EINVAL
mremap(p, PAGE, 2 * PAGE, MREMAP_MAYMOVE) = -1 EFAULT
write(1, p, 1) = -1 EFAULT
read(0, p, 0) = 0 
pipe((int *)p) = -1 EFAULT
"
            )
        })
        .chain([String::from(
            "mmap(last, 2 * PAGE, RW, ANON | MAP_FIXED, -1, 0) = -1 ENOMEM
mmap(last, PAGE, RW, ANON | MAP_FIXED, -1, 0) == last = 1 
munmap(last, 2 * PAGE) = 0 
mprotect(last, 2 * PAGE, PROT_READ) = -1 ENOMEM
munmap(last, PAGE) = 0 
0
",
        )])
        .collect();
    let own = [
        ("sandbox_reserved_mappings", &*reserved),
        ("sandbox_reserved_jumps", "1\n"),
    ];
    compare_in_empty_directory("hostile.c", 20, &own);
}

/// Futexes and files that are events.
#[test]
fn events_are_the_same_natively_and_in_a_sandbox() {
    compare_in_empty_directory("events.c", 28, &[]);
}

/// Pipes as rings of pages.
#[test]
fn pipes_are_the_same_natively_and_in_a_sandbox() {
    compare_in_empty_directory("pipes.c", 11, &[]);
}

/// Flags of inodes, and what they forbid.
#[test]
fn flags_of_files_are_the_same_natively_and_in_a_sandbox() {
    match lacks_rights() {
        Some(reason) => skip("flags of files", reason),
        None => compare_with("flags.c", 6, &[], &["--privileged"]),
    }
}

/// Landlock: what threads deny themselves.
#[test]
fn landlock_is_the_same_natively_and_in_a_sandbox() {
    match lacks_rights().or(lacks_landlock()) {
        Some(reason) => skip("Landlock", reason),
        None => compare_with("landlock.c", 13, &[], &["--privileged"]),
    }
}

/// Corners: descriptors that go while a call waits, the last positions, files without a name, owners of
/// files.
#[test]
fn corners_are_the_same_natively_and_in_a_sandbox() {
    compare_in_empty_directory("corners.c", 25, &[]);
}

/// Programs that are started: files written and run, scripts, ELF files of odd shapes.
#[test]
fn programs_are_the_same_natively_and_in_a_sandbox() {
    compare_in_empty_directory("programs.c", 9, &[]);
}

/// Mappings, advice, locks, limits, other processes' memory.
#[test]
fn memory_is_the_same_natively_and_in_a_sandbox() {
    compare_in_empty_directory("memory.c", 27, &[]);
}

/// More areas of memory than the host gives a process.
#[test]
fn many_areas_are_the_same_natively_and_in_a_sandbox() {
    compare_in_empty_directory("areas.c", 2, &[]);
}

/// What `/proc` shows, and to whom.
#[test]
fn proc_is_the_same_natively_and_in_a_sandbox() {
    compare_in_empty_directory("proc.c", 10, &[]);
}

/// Namespaces and mounts.
#[test]
fn namespaces_are_the_same_natively_and_in_a_sandbox() {
    compare_in_empty_directory("spaces.c", 15, &[]);
}

/// Mounts by descriptors.
#[test]
fn mounts_by_descriptors_are_the_same_natively_and_in_a_sandbox() {
    compare_in_empty_directory("mount_api.c", 16, &[]);
}

/// AF_UNIX sockets.
#[test]
fn sockets_are_the_same_natively_and_in_a_sandbox() {
    compare_in_empty_directory("sockets.c", 16, &[]);
}

/// Asynchronous input and output.
#[test]
fn aio_is_the_same_natively_and_in_a_sandbox() {
    compare_in_empty_directory("aio.c", 8, &[]);
}

/// Signals and what else processes tell each other.
#[test]
fn signals_are_the_same_natively_and_in_a_sandbox() {
    compare_in_empty_directory("signals.c", 18, &[]);
}

/// Processor time, scheduling, identity and seccomp.
#[test]
fn tasks_are_the_same_natively_and_in_a_sandbox() {
    compare_in_empty_directory("tasks.c", 20, &[]);
}

/// System V IPC and POSIX message queues.
#[test]
fn ipc_is_the_same_natively_and_in_a_sandbox() {
    compare_in_empty_directory("ipc.c", 6, &[]);
}

/// Why the cases that let children be somebody else cannot run: they take root with every capability but
/// `CAP_SYS_RESOURCE`, and no security module.
fn lacks_rights() -> Option<&'static str> {
    const WANTED: u64 = 0x1ff_feff_ffff;
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = u64::from_str_radix(effective.unwrap().trim(), 16).unwrap();
    let yama = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope");
    match effective & WANTED == WANTED {
        false => Some("not all capabilities are there"),
        true if yama.is_ok_and(|scope| scope.trim() != "0") => Some("Yama refuses more than Linux"),
        true => None,
    }
}

/// Why the kernel here cannot be compared with: its Landlock has not what the cases are about.
fn lacks_landlock() -> Option<&'static str> {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("cases");
    build_guest("landlock.c", &program).ok()?;
    let ran = run(Command::new(&program).arg("create").current_dir(&dir));
    let text = String::from_utf8_lossy(&ran.stdout);
    let is_new = text.starts_with("create(0, 0, 1) >= 7 = 1");
    (!is_new).then_some("the kernel has no Landlock of version 7")
}

/// Who may do what: identities and capabilities against calls.
#[test]
fn privileges_are_the_same_natively_and_in_a_sandbox() {
    match lacks_rights() {
        Some(reason) => skip("privileges", reason),
        None => compare_with("privileges.c", 23, &[], &["--privileged"]),
    }
}

/// What proc hides, and from whom.
#[test]
fn hidden_processes_are_the_same_natively_and_in_a_sandbox() {
    match lacks_rights() {
        Some(reason) => skip("hidden processes", reason),
        None => compare_with("hidden.c", 8, &[], &["--privileged"]),
    }
}

/// Writes a file into a layer, or into what the layers are together.
fn put(dir: &Path, name: &str, text: &str) {
    fs::write(dir.join(name), text).unwrap();
}

fn make_directories(dir: &Path, names: &[&str]) {
    for name in names {
        fs::create_dir_all(dir.join(name)).unwrap();
    }
}

fn lower(work: &Path) {
    make_directories(work, &["dir/sub", "opaque", "hollow", "was-dir"]);
    put(work, "dir/a", "a");
    put(work, "dir/b", "b");
    put(work, "dir/sub/x", "x");
    put(work, "dir/sub/y", "y");
    put(work, "file", "lower");
    put(work, "gone", "gone");
    put(work, "opaque/old", "old");
    put(work, "one", "one and two");
    fs::hard_link(work.join("one"), work.join("two")).unwrap();
    put(work, "large", &"0123456789".repeat(2000));
    symlink("file", work.join("link")).unwrap();
    put(work, "hollow/last", "last");
    put(work, "was-file", "file");
    put(work, "was-dir/in", "in");
}

/// With whiteouts as in an OCI layer.
fn upper(work: &Path) {
    make_directories(work, &["dir/sub", "opaque", "hollow", "was-file"]);
    put(work, "dir/.wh.b", "");
    put(work, "dir/new", "new");
    put(work, "dir/sub/z", "z");
    put(work, "file", "replaced by the upper layer");
    put(work, ".wh.gone", "");
    put(work, "opaque/.wh..wh..opq", "");
    put(work, "opaque/fresh", "fresh");
    put(work, "hollow/.wh.last", "");
    put(work, "was-file/in", "in");
    put(work, "was-dir", "file");
}

fn merged(work: &Path) {
    lower(work);
    for name in [
        "dir/b",
        "gone",
        "opaque/old",
        "hollow/last",
        "was-file",
        "was-dir/in",
    ] {
        fs::remove_file(work.join(name)).unwrap();
    }
    fs::remove_dir(work.join("was-dir")).unwrap();
    make_directories(work, &["was-file"]);
    put(work, "dir/new", "new");
    put(work, "dir/sub/z", "z");
    put(work, "file", "replaced by the upper layer");
    put(work, "opaque/fresh", "fresh");
    put(work, "was-file/in", "in");
    put(work, "was-dir", "file");
}

#[test]
fn files_in_layers_are_like_files_in_one_directory() {
    let dir = tempfile::tempdir().unwrap();
    let layers = [dir.path().join("lower"), dir.path().join("upper")];
    for layer in &layers {
        make_directories(layer, &["work"]);
    }
    let program = layers[0].join("cases");
    if let Err(reason) = build_guest("layered.c", &program) {
        return skip("guest programs", &reason);
    }
    lower(&layers[0].join("work"));
    upper(&layers[1].join("work"));
    let varve = varve().unwrap();
    let mut sandbox = vec![String::from("--workdir"), String::from("/work")];
    for layer in &layers {
        let image = layer.with_extension("img");
        build_image(&varve, layer, &image);
        sandbox.extend([String::from("--layer"), image.display().to_string()]);
    }
    let guest = Guest {
        varve: &varve,
        program,
        sandbox,
    };
    guest.compare(15, &[], merged);
}

/// Without randomization the stack of the command lies at the very top of its address space, where a guest's
/// process has other things.
#[test]
fn the_hosts_own_layout_does_not_matter() {
    let varve = varve().unwrap();
    let mut command = Command::new("setarch");
    command.arg("--addr-no-randomize").arg(varve);
    match command.args(["do", "--", "/bin/echo", "here"]).output() {
        Ok(run) => {
            let text = String::from_utf8_lossy(&run.stderr);
            assert_eq!((status(run.status), &*text), (0, ""));
            assert_eq!(run.stdout, b"here\n");
        }
        Err(error) => skip("a fixed layout", &format!("setarch: {error}")),
    }
}
