//! What the project's texts keep to: prose and comments within 110 columns, and no name of a file that is not
//! there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const COLUMNS: usize = 110;

/// What a text is written in, which decides what of it is prose.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Language {
    Rust,
    C,
    Assembly,
    /// Shell scripts, TOML, lists of what git ignores: a comment begins with `#`.
    Hashes,
    Markdown,
}

impl Language {
    fn of(path: &Path, text: &str) -> Option<Language> {
        match path.extension().and_then(|end| end.to_str()) {
            Some("rs") => Some(Language::Rust),
            Some("c" | "h") => Some(Language::C),
            Some("S") => Some(Language::Assembly),
            Some("sh" | "toml") => Some(Language::Hashes),
            Some("md") => Some(Language::Markdown),
            _ if path.ends_with(".gitignore") || text.starts_with("#!") => Some(Language::Hashes),
            _ => None,
        }
    }

    /// Whether a line is prose, or has some: a comment; all of a document but rows of tables.
    /// `inside` says whether a comment of several lines is going on, and is kept for the next line.
    fn is_prose(self, line: &str, inside: &mut bool) -> bool {
        let text = line.trim_start();
        match self {
            Language::Markdown => !text.starts_with('|'),
            Language::Hashes => text.starts_with('#') || line.contains(" # "),
            Language::Assembly if text.starts_with("# ") || line.contains(" # ") => true,
            Language::Rust | Language::C | Language::Assembly => {
                if let Some(comment) = text.strip_prefix("//") {
                    let comment = comment.trim_start_matches(['/', '!']).trim_start();
                    return !comment.starts_with('|');
                }
                let was = *inside;
                let opened = line.rfind("/*");
                let closed = line.rfind("*/");
                // A pattern of a path may look like the beginning of a comment in Rust, where none is used.
                if self != Language::Rust && (opened.is_some() || was) {
                    *inside = closed.is_none() || closed < opened;
                }
                let behind = [";", ",", "{", "}", ")"];
                let trails = |mark: &str| {
                    let at = line.find(mark).map(|at| line[..at].trim_end());
                    at.is_some_and(|code| behind.iter().any(|end| code.ends_with(end)))
                };
                was || *inside || trails(" // ") || trails(" /* ") || text.starts_with("/*")
            }
        }
    }
}

/// The project's texts, with their paths below its root, but for what builds and fuzzing leave.
fn texts() -> Vec<(PathBuf, String)> {
    const PASSED_OVER: [&str; 4] = ["target", "corpus", "artifacts", ".git"];
    let root = root();
    let mut texts = Vec::new();
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() && !PASSED_OVER.iter().any(|name| entry.file_name() == *name) {
                dirs.push(entry.path());
            } else if kind.is_file()
                && let Ok(text) = fs::read_to_string(entry.path())
            {
                let path = entry.path().strip_prefix(root).unwrap().to_owned();
                texts.push((path, text));
            }
        }
    }
    texts
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The lines of a text that are too long, and their widths.
fn too_long(text: &str, language: Language) -> Vec<(usize, usize)> {
    let mut inside = false;
    let lines = text.lines().enumerate();
    let prose = lines.filter(|(_, line)| language.is_prose(line, &mut inside));
    let wide = prose.map(|(at, line)| (at + 1, line.chars().count()));
    wide.filter(|&(_, width)| width > COLUMNS).collect()
}

#[test]
fn prose_and_comments_are_within_110_columns() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for (path, text) in texts() {
        let Some(language) = Language::of(&path, &text) else {
            continue;
        };
        seen += 1;
        for (line, width) in too_long(&text, language) {
            wrong.push(format!("{}:{line}: {width} columns", path.display()));
        }
    }
    assert!(seen > 400, "{seen} files");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn long_lines_are_found() {
    use Language::*;
    let long = "a ".repeat(60);
    for (text, language, count) in [
        (format!("// {long}"), Rust, 1),
        (format!("    /// {long}"), Rust, 1),
        (format!("    //! {long}"), Rust, 1),
        (format!("let a = 1; // {long}"), Rust, 1),
        (format!("let a = \"{long}\";"), Rust, 0),
        (format!("//! | {long} |"), Rust, 0),
        (format!("// {long}"), C, 1),
        (format!("int a; /* {long}*/"), C, 1),
        (format!("/* a\n * {long}\n */\nint a = \"{long}\";"), C, 1),
        (format!("printf(\"{long}\");"), C, 0),
        (format!("mov %rax, %rbx # {long}"), Assembly, 1),
        (format!("# {long}"), Hashes, 1),
        (format!("\t# {long}"), Hashes, 1),
        (format!("echo a # {long}"), Hashes, 1),
        (format!("echo {long}"), Hashes, 0),
        (long.clone(), Markdown, 1),
        (format!("    varve do {long}"), Markdown, 1),
        (format!("| {long} |"), Markdown, 0),
    ] {
        assert_eq!(too_long(&text, language).len(), count, "{text}");
    }
}

#[test]
fn languages_are_told_apart() {
    for (name, text, language) in [
        ("core/src/lib.rs", "", Some(Language::Rust)),
        ("guest.h", "", Some(Language::C)),
        ("clock.S", "", Some(Language::Assembly)),
        (".ci/run", "#!/usr/bin/env bash\n", Some(Language::Hashes)),
        ("Cargo.toml", "", Some(Language::Hashes)),
        ("docs/limits.md", "", Some(Language::Markdown)),
        ("Cargo.lock", "", None),
    ] {
        assert_eq!(Language::of(Path::new(name), text), language, "{name}");
    }
}

/// Documents that name files of the project: those at the root and in `docs/`.
fn documents() -> Vec<(PathBuf, String)> {
    let mut texts = texts();
    texts.retain(|(path, _)| {
        let place = path.parent().unwrap();
        path.extension().is_some_and(|end| end == "md")
            && (place == Path::new("") || place == Path::new("docs"))
            // What is said there was true once, not now.
            && path != Path::new("CHANGELOG.md")
    });
    texts
}

/// The words of a document that name files or folders of the project: in backquotes or as the target of a
/// link, with a slash or one of the project's endings, where nothing says that they are something else.
fn named(text: &str) -> BTreeSet<String> {
    const ENDINGS: [&str; 7] = [".rs", ".md", ".toml", ".c", ".h", ".S", ".sh"];
    let mut found = BTreeSet::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.starts_with("```") {
            fenced = !fenced;
        }
        if fenced || line.starts_with("    ") {
            continue;
        }
        let quoted = line.split('`').skip(1).step_by(2);
        let linked = line
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next());
        for word in quoted.chain(linked) {
            let word = word.split('#').next().unwrap_or_default();
            let plain = |c: char| c.is_ascii_alphanumeric() || "/._-{},".contains(c);
            let ends = ENDINGS.iter().any(|end| word.ends_with(end));
            let inside = FOLDERS.iter().any(|folder| word.starts_with(folder));
            if word.chars().all(plain) && (ends || inside) && !word.starts_with(['/', '.']) {
                found.extend(alternatives(word));
            }
        }
    }
    found
}

/// The folders at the root, and those of the core that documents name alone.
const FOLDERS: &[&str] = &[
    ".ci/",
    "core/",
    "imgfs/",
    "image/",
    "host/",
    "host-ptrace/",
    "host-kvm/",
    "host-fuse/",
    "cli/",
    "conformance/",
    "fuzz/",
    "docs/",
    "kernel/",
    "syscall/",
    "views/",
    "task/",
    "ns/",
    "mm/",
    "file/",
    "net/",
    "ipc/",
    "vfs/",
    "fs/",
    "cred/",
    "abi/",
    "journal/",
    "vdso/",
];

/// What `a/{b,c}.rs` stands for.
fn alternatives(word: &str) -> Vec<String> {
    match word
        .split_once('{')
        .and_then(|(before, rest)| Some((before, rest.split_once('}')?)))
    {
        None => vec![word.to_owned()],
        Some((before, (list, behind))) => list
            .split(',')
            .map(|one| format!("{before}{one}{behind}"))
            .collect(),
    }
}

/// Whether a file or folder of that name is there: below the root, beside the document, or, as a name is
/// shortened where the crate is clear, anywhere as the end of a path below a crate's `src`.
fn is_there(name: &str, document: &Path, paths: &[PathBuf]) -> bool {
    let name = name.trim_end_matches('/');
    let beside = root().join(document.parent().unwrap()).join(name);
    root().join(name).exists()
        || beside.exists()
        || paths.iter().any(|path| path.ends_with(name))
        || paths
            .iter()
            .any(|path| path.parent().is_some_and(|dir| dir.ends_with(name)))
}

#[test]
fn files_that_documents_name_are_there() {
    let paths: Vec<PathBuf> = texts().into_iter().map(|(path, _)| path).collect();
    let mut count = 0;
    let mut missing = Vec::new();
    for (document, text) in documents() {
        for name in named(&text) {
            count += 1;
            if !is_there(&name, &document, &paths) {
                missing.push(format!("{}: {name}", document.display()));
            }
        }
    }
    assert!(count > 30, "{count} names");
    assert!(missing.is_empty(), "not there:\n{}", missing.join("\n"));
}

#[test]
fn names_that_are_not_there_are_found() {
    let text = "`core/src/{lib,nowhere}.rs` and `kernel/nothing.rs`, not `/proc/stat.c` nor `varve do a.c`;\n\
                [limits](docs/limits.md#what-counts)\n    `core/code.rs`\n```\n`fenced.rs`\n```\n`core/none/`";
    let names: Vec<String> = named(text).into_iter().collect();
    let all = [
        "core/none/",
        "core/src/lib.rs",
        "core/src/nowhere.rs",
        "docs/limits.md",
        "kernel/nothing.rs",
    ];
    assert_eq!(names, all);
    let paths = [PathBuf::from("core/src/lib.rs")];
    let there: Vec<bool> = all
        .iter()
        .map(|name| is_there(name, Path::new("a.md"), &paths))
        .collect();
    assert_eq!(there, [false, true, false, true, false]);
}
