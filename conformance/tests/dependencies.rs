//! What varve is built from keeps to `deny.toml`, and the crates of the workspace know only those that
//! ARCHITECTURE.md lets them know. This looks at what `cargo metadata` tells, and needs no tool but cargo.

use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Which crates of the workspace one may depend on, tests aside: arrows point one way. A crate that is not
/// here has not been given its place yet.
const MAY_KNOW: &[(&str, &[&str])] = &[
    ("varve-abi", &[]),
    ("varve-imgfs", &["varve-abi"]),
    ("varve-core", &["varve-abi", "varve-imgfs"]),
    ("varve-core-nostd", &["varve-core"]),
    ("varve-image", &["varve-imgfs"]),
    ("varve-host", &["varve-core"]),
    ("varve-host-ptrace", &["varve-core", "varve-host"]),
    ("varve-host-kvm", &["varve-core", "varve-host"]),
    ("varve-host-fuse", &["varve-imgfs"]),
    (
        "varve-sandbox",
        &[
            "varve-core",
            "varve-host",
            "varve-host-ptrace",
            "varve-host-kvm",
        ],
    ),
    (
        "varve",
        &[
            "varve-imgfs",
            "varve-core",
            "varve-image",
            "varve-host",
            "varve-host-fuse",
            "varve-sandbox",
        ],
    ),
    // The command is a black box to it.
    ("varve-conformance", &[]),
];

/// Crates whose dependencies all do without the standard library.
const NO_STD: &[&str] = &["varve-abi", "varve-imgfs", "varve-core"];

/// What speaks to the host's kernel, with the standard library or without it: not below [`NO_STD`].
const HOST_CALLS: &[&str] = &["getrandom", "libc", "nix", "rustix", "signal-hook"];

/// The one registry, as `cargo metadata` spells it.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// `deny.toml`, as far as it is looked at here.
#[derive(Deserialize)]
struct Rules {
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Bans {
    multiple_versions: String,
    wildcards: String,
    skip: Vec<Crate>,
    deny: Vec<Crate>,
}

#[derive(Deserialize)]
struct Crate {
    /// `name` or `name@version`, where a version may be cut short.
    #[serde(rename = "crate")]
    name: String,
    reason: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    unknown_registry: String,
    unknown_git: String,
    allow_registry: Vec<String>,
    allow_git: Vec<String>,
}

/// What `cargo metadata` tells.
#[derive(Clone, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_members: Vec<String>,
    resolve: Resolve,
}

#[derive(Clone, Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
    dependencies: Vec<Wanted>,
    targets: Vec<Target>,
}

/// A dependency as a manifest asks for it.
#[derive(Clone, Deserialize)]
struct Wanted {
    name: String,
    req: String,
}

#[derive(Clone, Deserialize)]
struct Target {
    kind: Vec<String>,
    src_path: PathBuf,
}

#[derive(Clone, Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Clone, Deserialize)]
struct Node {
    id: String,
    deps: Vec<Edge>,
}

#[derive(Clone, Deserialize)]
struct Edge {
    pkg: String,
    dep_kinds: Vec<EdgeKind>,
}

#[derive(Clone, Deserialize)]
struct EdgeKind {
    /// Nothing for an ordinary dependency, else `dev` or `build`.
    kind: Option<String>,
}

fn rules() -> Rules {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deny.toml");
    toml::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn metadata() -> Metadata {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--offline", "--format-version", "1"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

impl Metadata {
    fn package(&self, id: &str) -> &Package {
        self.packages.iter().find(|one| one.id == id).unwrap()
    }

    /// What a package depends on itself, but for its tests and build scripts.
    fn direct(&self, id: &str) -> impl Iterator<Item = &Package> {
        let node = self.resolve.nodes.iter().find(|node| node.id == id);
        let edges = node.unwrap().deps.iter();
        let ordinary = edges.filter(|edge| edge.dep_kinds.iter().any(|kind| kind.kind.is_none()));
        ordinary.map(|edge| self.package(&edge.pkg))
    }

    /// What becomes part of a program that uses a package: derives run while it is built.
    fn below<'a>(&'a self, package: &'a Package) -> BTreeMap<&'a str, &'a Package> {
        let mut found = BTreeMap::new();
        let mut todo = vec![package];
        while let Some(package) = todo.pop() {
            if !package.is_derive() && found.insert(&*package.id, package).is_none() {
                todo.extend(self.direct(&package.id));
            }
        }
        found
    }
}

impl Package {
    fn is_derive(&self) -> bool {
        let mut kinds = self.targets.iter().flat_map(|target| &target.kind);
        kinds.any(|kind| kind == "proc-macro")
    }

    fn is_no_std(&self) -> bool {
        let library = |target: &&Target| target.kind.iter().any(|kind| kind.ends_with("lib"));
        let library = self.targets.iter().find(library);
        let text = library.and_then(|library| fs::read_to_string(&library.src_path).ok());
        text.is_some_and(|text| says_no_std(&text))
    }

    /// Whether `name` or `name@version` means this package.
    fn is(&self, spec: &str) -> bool {
        match spec.split_once('@') {
            None => self.name == spec,
            Some((name, version)) => {
                let rest = self.version.strip_prefix(version);
                self.name == name
                    && rest.is_some_and(|rest| {
                        matches!(rest.chars().next(), None | Some('.' | '-' | '+'))
                    })
            }
        }
    }
}

/// Whether a crate does without the standard library, always or unless a feature asks for it.
fn says_no_std(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim_start);
    lines.any(|line| line.starts_with("#![") && line.contains("no_std"))
}

/// Licenses that are not allowed.
fn licenses(metadata: &Metadata, rules: &Rules) -> Vec<String> {
    let allowed = |license: &str| {
        let parsed = spdx::Expression::parse_mode(license, spdx::ParseMode::LAX);
        parsed.is_ok_and(|expression| {
            expression.evaluate(|wanted| {
                let name = wanted.license.to_string();
                wanted.addition.is_none() && rules.licenses.allow.contains(&name)
            })
        })
    };
    let mut found = Vec::new();
    for package in &metadata.packages {
        let license = package.license.as_deref().unwrap_or_default();
        if !allowed(license) {
            found.push(format!("{} is under {license:?}", package.name));
        }
    }
    found
}

/// Crates that are banned, versions side by side, versions that nothing bounds.
fn bans(metadata: &Metadata, rules: &Rules) -> Vec<String> {
    let mut found = Vec::new();
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in &metadata.packages {
        for banned in rules
            .bans
            .deny
            .iter()
            .filter(|banned| package.is(&banned.name))
        {
            found.push(format!("{} is banned: {}", package.name, banned.reason));
        }
        if !rules
            .bans
            .skip
            .iter()
            .any(|skipped| package.is(&skipped.name))
        {
            versions
                .entry(&package.name)
                .or_default()
                .insert(&package.version);
        }
        if package.source.is_none() {
            let all = package.dependencies.iter();
            for wanted in all.filter(|wanted| wanted.req == "*") {
                found.push(format!(
                    "{} takes any version of {}",
                    package.name, wanted.name
                ));
            }
        }
    }
    for (name, versions) in versions {
        if versions.len() > 1 {
            found.push(format!("{name} is there as {versions:?}"));
        }
    }
    for skipped in &rules.bans.skip {
        if !metadata
            .packages
            .iter()
            .any(|package| package.is(&skipped.name))
        {
            found.push(format!("{} need not be skipped any more", skipped.name));
        }
    }
    found
}

/// Packages that come from elsewhere than the registry and this folder.
fn sources(metadata: &Metadata) -> Vec<String> {
    let mut found = Vec::new();
    for package in &metadata.packages {
        let right = match &package.source {
            Some(source) => source == REGISTRY,
            None => metadata.workspace_members.contains(&package.id),
        };
        if !right {
            found.push(format!("{} comes from {:?}", package.name, package.source));
        }
    }
    found
}

/// Crates of the workspace that know what they must not.
fn floors(metadata: &Metadata) -> Vec<String> {
    let mut found = Vec::new();
    for id in &metadata.workspace_members {
        let package = metadata.package(id);
        let name = &*package.name;
        let Some((_, may)) = MAY_KNOW.iter().find(|row| row.0 == name) else {
            found.push(format!("{name} has no place in MAY_KNOW"));
            continue;
        };
        for other in metadata.direct(id).filter(|other| other.source.is_none()) {
            if !may.contains(&&*other.name) {
                found.push(format!("{name} must not know {}", other.name));
            }
        }
        if NO_STD.contains(&name) {
            for below in metadata.below(package).values() {
                if !below.is_no_std() {
                    found.push(format!("{} below {name} needs std", below.name));
                }
                if HOST_CALLS.contains(&&*below.name) {
                    found.push(format!("{} below {name} calls the host", below.name));
                }
            }
        }
    }
    found
}

#[test]
fn dependencies_keep_to_the_rules() {
    let (metadata, rules) = (metadata(), rules());
    assert!(metadata.packages.len() > 50);
    let mut found = licenses(&metadata, &rules);
    found.extend(bans(&metadata, &rules));
    found.extend(sources(&metadata));
    found.extend(floors(&metadata));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn cargo_deny_is_told_to_refuse_the_same() {
    let rules = rules();
    assert_eq!(rules.bans.multiple_versions, "deny");
    assert_eq!(rules.bans.wildcards, "deny");
    assert_eq!(rules.sources.unknown_registry, "deny");
    assert_eq!(rules.sources.unknown_git, "deny");
    assert!(rules.sources.allow_git.is_empty());
    let registries = rules.sources.allow_registry.iter();
    let registries: Vec<String> = registries.map(|url| format!("registry+{url}")).collect();
    assert_eq!(registries, [REGISTRY]);
    let all = rules.bans.skip.iter().chain(&rules.bans.deny);
    for entry in all {
        assert!(entry.reason.len() > 5, "{} has no reason", entry.name);
    }
}

/// The workspace with one package changed.
fn planted(metadata: &Metadata, name: &str, change: impl FnOnce(&mut Package)) -> Metadata {
    let mut planted = metadata.clone();
    change(
        planted
            .packages
            .iter_mut()
            .find(|one| one.name == name)
            .unwrap(),
    );
    planted
}

#[test]
fn planted_violations_are_found() {
    let (metadata, rules) = (metadata(), rules());
    for license in [
        Some("GPL-3.0-only"),
        Some("MIT AND GPL-2.0-only"),
        Some("nonsense"),
        None,
    ] {
        let planted = planted(&metadata, "smallvec", |one| {
            one.license = license.map(str::to_owned);
        });
        assert_eq!(licenses(&planted, &rules).len(), 1, "{license:?}");
    }
    for license in [
        "MIT OR GPL-2.0-only",
        "Apache-2.0/MIT",
        "(MIT OR Apache-2.0) AND Unicode-3.0",
    ] {
        let planted = planted(&metadata, "smallvec", |one| {
            one.license = Some(license.to_owned());
        });
        assert_eq!(licenses(&planted, &rules), [""; 0], "{license}");
    }
    let banned = planted(&metadata, "smallvec", |one| one.name = "tokio".to_owned());
    assert_eq!(bans(&banned, &rules).len(), 1);
    let mut twice = metadata.clone();
    let mut other = twice
        .packages
        .iter()
        .find(|one| one.name == "smallvec")
        .unwrap()
        .clone();
    other.version = "0.6.14".to_owned();
    twice.packages.push(other);
    assert_eq!(bans(&twice, &rules).len(), 1);
    let any = planted(&metadata, "varve-core", |one| {
        one.dependencies[0].req = "*".to_owned();
    });
    assert_eq!(bans(&any, &rules).len(), 1);
    let moved = planted(&metadata, "vmm-sys-util", |_| ());
    assert_eq!(bans(&moved, &rules), [""; 0]);
    let moved = planted(&metadata, "bitflags", |one| {
        one.version = "2.0.0".to_owned();
    });
    assert!(!bans(&moved, &rules).is_empty());
    for source in [
        Some("git+https://example.org/smallvec#1"),
        Some("registry+https://example.org/"),
        None,
    ] {
        let planted = planted(&metadata, "smallvec", |one| {
            one.source = source.map(str::to_owned);
        });
        assert_eq!(sources(&planted).len(), 1, "{source:?}");
    }
}

/// Makes `from` depend on `to`.
fn depend(metadata: &Metadata, from: &str, to: &str) -> Metadata {
    let id = |name| {
        metadata
            .packages
            .iter()
            .find(|one| one.name == name)
            .unwrap()
            .id
            .clone()
    };
    let (from, to) = (id(from), id(to));
    let mut planted = metadata.clone();
    let node = planted
        .resolve
        .nodes
        .iter_mut()
        .find(|node| node.id == from)
        .unwrap();
    node.deps.push(Edge {
        pkg: to,
        dep_kinds: vec![EdgeKind { kind: None }],
    });
    planted
}

#[test]
fn planted_arrows_are_found() {
    let metadata = metadata();
    for (from, to) in [
        ("varve-core", "varve-host"),
        ("varve-host", "varve-host-kvm"),
        ("varve-host-fuse", "varve-image"),
        ("varve-conformance", "varve"),
    ] {
        let found = floors(&depend(&metadata, from, to));
        assert!(
            found.contains(&format!("{from} must not know {to}")),
            "{found:?}"
        );
    }
    let found = floors(&depend(&metadata, "varve-core", "tempfile"));
    assert!(
        found.contains(&"tempfile below varve-core needs std".to_owned()),
        "{found:?}"
    );
    assert!(
        found.contains(&"rustix below varve-core calls the host".to_owned()),
        "{found:?}"
    );
    let stranger = planted(&metadata, "varve-host", |one| {
        one.name = "varve-new".to_owned();
    });
    assert!(floors(&stranger).contains(&"varve-new has no place in MAY_KNOW".to_owned()));
}

#[test]
fn what_says_no_std_is_told_apart() {
    assert!(says_no_std("//! Text.\n#![no_std]\n"));
    assert!(says_no_std("#![cfg_attr(not(feature = \"std\"), no_std)]"));
    assert!(!says_no_std(
        "//! Works with `no_std`.\n// #![no_std]\nuse std::fs;"
    ));
}

/// `Cargo.lock`, as far as it is looked at here.
#[derive(Deserialize)]
struct Lock {
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    #[serde(default)]
    dependencies: Vec<String>,
}

/// The fuzz targets are a workspace of their own, with a lock of its own, and are built with `--locked`.
#[test]
fn the_lock_of_the_fuzz_targets_knows_what_the_crates_need() {
    let metadata = metadata();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/Cargo.lock");
    let lock: Lock = toml::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let mut looked_at = 0;
    for id in &metadata.workspace_members {
        let package = metadata.package(id);
        let locked = lock.package.iter().find(|one| one.name == package.name);
        let Some(locked) = locked else { continue };
        looked_at += 1;
        // "NAME", or "NAME VERSION" where there are several.
        let known = |name: &str| {
            let mut names = locked.dependencies.iter().map(|one| one.split(' ').next());
            names.any(|one| one == Some(name))
        };
        for needed in metadata.direct(id) {
            assert!(
                known(&needed.name),
                "fuzz/Cargo.lock: {} needs {}; `cargo check --offline` in fuzz/ writes it anew",
                package.name,
                needed.name
            );
        }
    }
    assert!(looked_at >= 3, "{looked_at} crates are in it");
}
