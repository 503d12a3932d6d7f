//! The toolchain that CI builds with is the oldest that the project promises to build with.
//! `.ci/run` sees to it that this is the one at work.

use std::fs;
use std::path::Path;

fn manifest(name: &str) -> toml::Table {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    fs::read_to_string(path).unwrap().parse().unwrap()
}

/// Whether a toolchain's channel is the first release of a minimum version: `1.95.0` of `1.95`.
fn is_minimum(channel: &str, rust_version: &str) -> bool {
    channel == rust_version || channel.strip_suffix(".0") == Some(rust_version)
}

#[test]
fn ci_builds_with_the_minimum_rust_version() {
    let toolchain = manifest("rust-toolchain.toml");
    let channel = toolchain["toolchain"]["channel"].as_str().unwrap();
    let workspace = manifest("Cargo.toml");
    let rust_version = workspace["workspace"]["package"]["rust-version"]
        .as_str()
        .unwrap();
    assert!(
        is_minimum(channel, rust_version),
        "{channel} builds what promises {rust_version}"
    );
}

#[test]
fn other_toolchains_are_not_the_minimum() {
    assert!(is_minimum("1.95.0", "1.95"));
    assert!(is_minimum("1.95.0", "1.95.0"));
    for channel in ["1.95.1", "1.96.0", "stable", "nightly", ""] {
        assert!(!is_minimum(channel, "1.95"), "{channel}");
    }
}

#[test]
fn every_crate_promises_the_same_version() {
    let workspace = manifest("Cargo.toml");
    let members = workspace["workspace"]["members"].as_array().unwrap();
    for member in members {
        let package = &manifest(&format!("{}/Cargo.toml", member.as_str().unwrap()))["package"];
        for key in ["rust-version", "edition", "license"] {
            let inherited = package.get(key).and_then(|value| value.get("workspace"));
            assert_eq!(
                inherited,
                Some(&toml::Value::Boolean(true)),
                "{member:?}: {key}"
            );
        }
    }
}
