//! The core links without the standard library, and runs.

use std::path::Path;
use std::process::Command;

#[test]
fn the_core_runs_without_the_standard_library() {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("program");
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let build = Command::new(env!("CARGO"))
        .args([
            "rustc",
            "--quiet",
            "--offline",
            "--locked",
            "--features",
            "program",
        ])
        .args(["--bin", "varve-core-nostd"])
        .arg("--manifest-path")
        .arg(&manifest)
        .arg("--target-dir")
        .arg(&target)
        // Not the profile of the workspace: the program cannot unwind.
        .env("CARGO_PROFILE_DEV_PANIC", "abort")
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .env_remove("RUSTFLAGS")
        .args(["--", "-Crelocation-model=static"])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&build.stderr);
    assert!(build.status.success(), "{errors}");
    let program = target.join("debug/varve-core-nostd");
    let run = Command::new(&program).output().unwrap();
    let expected = "\
getpid Some(1)
open Some(3)
write Some(14)
pread Some(14)
write Some(14)
close Some(-9)
nothing Some(-38)
poked true, checked Ok(())
from the core
Some(Exited(7))
";
    assert_eq!(String::from_utf8_lossy(&run.stdout), expected);
    assert_eq!(run.status.code(), Some(7));
    // Nothing of the standard library or libc is in it: it names no library and no interpreter.
    let bytes = std::fs::read(&program).unwrap();
    let has = |text: &[u8]| bytes.windows(text.len()).any(|part| part == text);
    assert!(
        !has(b"libc.so") && !has(b"ld-linux"),
        "the program is on its own"
    );
    assert!(!has(b"RUST_BACKTRACE"), "no part of the standard library");
}
