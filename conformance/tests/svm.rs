//! Guest programs on KVM in a machine that QEMU emulates: an AMD processor with SVM, on which Debian's kernel
//! uses nested paging or shadow paging. See `svm/run`.

use std::path::Path;
use std::process::Command;

use varve_conformance::{run, skip, status, target_dir};

/// What `svm/run` exits with if something that it needs is not here.
const MISSING: i32 = 77;

#[test]
fn guests_do_the_same_natively_and_in_a_sandbox_on_an_emulated_processor() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("svm/run");
    let dir = target_dir().unwrap().join("svm");
    let platform = std::env::var("VARVE_SVM_PLATFORM").unwrap_or("kvm".into());
    let mut command = Command::new(script);
    // Shadow paging takes as long again.
    let long = std::env::var_os("VARVE_TEST_LONG").is_some_and(|value| value == "1");
    command.arg(dir).args([&*platform, "nested"]);
    let ran = run(command.args(long.then_some("shadow")));
    let results = String::from_utf8_lossy(&ran.stdout);
    let messages = String::from_utf8_lossy(&ran.stderr);
    if status(ran.status) == MISSING {
        return skip("the emulated processor", messages.trim());
    }
    // What failed is followed by indented lines that say how.
    let failed: Vec<&str> = results
        .lines()
        .filter(|line| !line.starts_with("ok "))
        .collect();
    let failed = failed.join("\n");
    assert!(ran.status.success(), "{failed}\n{messages}");
    let passed = results.lines().filter(|line| line.starts_with("ok "));
    assert!(passed.count() >= 100, "{results}\n{messages}");
}
