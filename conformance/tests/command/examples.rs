//! What README, the pages in `docs/` and `--help` show is what happens.

use super::*;

/// Every page of help, with the words that lead to it.
fn pages(place: &Place) -> Vec<(Vec<String>, String)> {
    let top = place.ok(&["--help"]);
    let commands = top
        .split("Commands:")
        .nth(1)
        .unwrap()
        .split("\n\n")
        .next()
        .unwrap();
    let mut pages = vec![(vec![], top.clone())];
    for line in commands
        .lines()
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
    {
        let name = line.split_whitespace().next().unwrap();
        if name != "help" {
            pages.push((vec![name.to_owned()], place.ok(&[name, "--help"])));
        }
    }
    assert!(pages.len() > 20, "{top}");
    pages
}

#[test]
fn help_fits_on_a_terminal() {
    let place = Place::new();
    for (words, page) in pages(&place) {
        for line in page.lines() {
            assert!(line.chars().count() <= 80, "varve {words:?} --help: {line}");
        }
    }
}

/// The examples of README and of the pages in `docs/`: lines of their blocks of shell, indented or fenced,
/// that begin with the command, or pipe into it; each once.
fn documents() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let pages = fs::read_dir(root.join("docs")).unwrap();
    let mut paths: Vec<PathBuf> = pages.map(|page| page.unwrap().path()).collect();
    paths.sort();
    paths.insert(0, root.join("README.md"));
    let mut examples = Vec::new();
    for path in paths {
        for line in blocks(&fs::read_to_string(path).unwrap()) {
            let runs = line.starts_with("varve ") || line.contains("| varve ");
            if runs && !examples.contains(&line) {
                examples.push(line);
            }
        }
    }
    examples
}

/// The lines of a document's blocks of shell.
fn blocks(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut fence = None;
    for line in text.lines() {
        match (line.strip_prefix("```"), fence) {
            (Some(_), Some(_)) => fence = None,
            (Some(language), None) => fence = Some(language),
            (None, Some("sh")) => lines.push(line.to_owned()),
            (None, Some(_)) => {}
            (None, None) => lines.extend(line.strip_prefix("    ").map(str::to_owned)),
        }
    }
    lines
}

#[test]
fn blocks_of_shell_are_found() {
    let text = "varve a\n    varve b\n```sh\nvarve c\n```\n```text\nvarve d\n```\n`varve e`\n";
    assert_eq!(blocks(text), ["varve b", "varve c"]);
}

/// The examples below the pages of help.
fn help(place: &Place) -> Vec<String> {
    let mut examples = Vec::new();
    for (words, page) in pages(place) {
        let Some((_, list)) = page.split_once("\nExamples:\n") else {
            assert!(words.is_empty(), "{words:?} has no examples");
            continue;
        };
        examples.extend(list.lines().map(|line| line.trim().to_owned()));
    }
    assert!(examples.len() > 30, "{examples:?}");
    examples
}

/// Copies a program of this machine and the libraries that ldd(1) names to where they are found.
fn copy_program(name: &str, root: &Path) {
    let found = run(Command::new("sh").args([
        "-c",
        "command -v \"$0\" && ldd \"$(command -v \"$0\")\"",
        name,
    ]));
    let told = text(&found.stdout);
    let words = told.split_whitespace().filter(|word| word.starts_with('/'));
    for word in words {
        let to = root.join(&word[1..]);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(word, to).unwrap();
    }
}

#[test]
fn the_examples_of_documents_and_help_work() {
    let place = Place::new();
    let path = format!(
        "{}:{}",
        place.varve.parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    let sh = |script: &str| {
        let mut command = place.prepared("timeout", &["60", "sh", "-c", script]);
        run(command.env("PATH", &path))
    };
    let ok = |script: &str| {
        let output = sh(script);
        assert!(
            output.status.success(),
            "{script}: {}",
            text(&output.stderr)
        );
    };
    // A base of this machine's programs, and a stand-in for Python that needs nothing.
    for name in ["sh", "sort", "head", "cat"] {
        copy_program(name, &place.at("base"));
    }
    // Where the machine has it elsewhere, too.
    fs::create_dir_all(place.at("base/bin")).unwrap();
    fs::copy("/bin/sh", place.at("base/bin/sh")).unwrap();
    place.file("base/etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\n");
    place.file("base/etc/os-release", 0o644, "ID=debian\n");
    place.file("base/data", 0o644, "");
    place.file("python3.c", 0o644, "#include <fcntl.h>\nint main(int c, char **v) { return c > 1 && open(v[1], O_RDONLY) < 0; }\n");
    fs::create_dir_all(place.at("python/usr/bin")).unwrap();
    let compiled = sh("cc -static -o python/usr/bin/python3 python3.c");
    if !compiled.status.success() {
        return skip("the examples of documents", &text(&compiled.stderr));
    }
    place.file("app/app/main.py", 0o644, "");
    place.file(
        "app/app/main",
        0o755,
        fs::read(place.at("python/usr/bin/python3")).unwrap(),
    );
    for layer in ["base", "python", "app"] {
        place.ok(&["build", layer, "-o", &format!("{layer}.img")]);
    }
    fs::copy(place.at("base.img"), place.at("data.img")).unwrap();
    ok("cp -r base whole && cp -r python/. whole && tar c -C whole . | zstd -q > rootfs.tar.zst");
    // What `docker save` writes.
    ok("mkdir saved && tar cf saved/layer.tar -C whole . && \
        printf '{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{},\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"sha256:%s\"]}}' \
        $(sha256sum saved/layer.tar | cut -d' ' -f1) > saved/config.json && \
        printf '[{\"Config\":\"config.json\",\"RepoTags\":[\"debian:12\"],\"Layers\":[\"layer.tar\"]}]' > saved/manifest.json && \
        tar cf saved.tar -C saved manifest.json config.json layer.tar");
    let platforms = varve_conformance::platforms(&place.varve);
    let examples = documents();
    assert!(examples.len() >= 30, "{examples:?}");
    for example in examples.into_iter().chain(help(&place)) {
        // There is no Docker here.
        let example = example.replace("docker-daemon:debian:12", "docker-archive:saved.tar");
        let example = example.replace("[--json]", "--json");
        let mounts = example.contains("varve mount") || example.contains("varve umount");
        if mounts && !(nix::unistd::geteuid().is_root() && Path::new("/dev/fuse").exists()) {
            skip("an example with a mount", "needs root and /dev/fuse");
            continue;
        }
        if example.contains("--platform kvm") && !platforms.iter().any(|name| name == "kvm") {
            skip("an example with KVM", "it does not work here");
            continue;
        }
        ok("rm -rf DIR && mkdir DIR");
        if example.contains("build") {
            ok("cp -r base/. DIR");
        }
        if example.contains("debian") {
            ok(
                "for name in debian debian:11 debian:12; do varve convert docker-archive:saved.tar $name 2>/dev/null; done",
            );
        }
        place.file("Makefile", 0o644, "all:\n\ttrue\n");
        let output = sh(&format!("set -e; {example}"));
        let said = text(&output.stderr);
        // diff(1) has another status where something is different.
        assert!(
            output.status.success(),
            "{example}\n{said}{}",
            text(&output.stdout)
        );
        let quiet = said.lines().count() < 10 || example.contains("--strace");
        assert!(!said.contains("panicked") && quiet, "{example}\n{said}");
    }
}
