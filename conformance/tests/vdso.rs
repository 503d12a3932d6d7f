//! The code of the vDSO and of the first process of `--init` is what the assembler makes of its source.

use std::fs;
use std::path::Path;
use std::process::Command;

use varve_conformance::{run, skip};

#[test]
fn the_code_is_what_the_assembler_makes() {
    compare("vdso", "clock.S");
    compare("task/init", "init.S");
}

fn compare(place: &str, source: &str) {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../core/src")
        .join(place);
    let dir = tempfile::tempdir().unwrap();
    let (object, binary) = (dir.path().join("object"), dir.path().join("binary"));
    if ["as", "objcopy"]
        .iter()
        .any(|name| Command::new(name).arg("--version").output().is_err())
    {
        return skip(source, "binutils are not installed");
    }
    for command in [
        Command::new("as")
            .arg(sources.join(source))
            .arg("-o")
            .arg(&object),
        Command::new("objcopy")
            .args(["-O", "binary", "-j", ".text"])
            .arg(&object)
            .arg(&binary),
    ] {
        let made = run(command);
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
    }
    let text = fs::read_to_string(sources.join("code.rs")).unwrap();
    let bytes: Vec<u8> = text
        .split(|c: char| c.is_whitespace() || c == ',')
        .filter(|word| word.len() == 4)
        .filter_map(|word| u8::from_str_radix(word.strip_prefix("0x")?, 16).ok())
        .collect();
    let code = bytes.strip_prefix(&[0x50, 0xa0]).unwrap_or(&bytes);
    assert!(
        code == fs::read(binary).unwrap(),
        "core/src/{place}/code.rs is not of {source}"
    );
}
