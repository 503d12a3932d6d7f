//! The floors of the core: each folder of `src` names only what stands below it, or beside it on the same
//! floor. ARCHITECTURE.md has the same table in words.

use std::fs;
use std::path::Path;

/// The floors, lowest first, and the modules of the crate that are on each.
const FLOORS: &[(&str, &[&str])] = &[
    (
        "boundary",
        &[
            "abi", "args", "boot", "digest", "event", "machine", "port", "ranges", "slab",
        ],
    ),
    ("env", &["env"]),
    ("cred", &["cred"]),
    ("fs", &["fs"]),
    ("vfs", &["vfs"]),
    ("file, net, ipc", &["file", "net", "ipc"]),
    ("mm", &["mm", "vdso"]),
    // The kernel as a value is named from here on.
    ("task, ns", &["task", "ns", "Kernel"]),
    ("views", &["views"]),
    ("roof", &["kernel", "syscall"]),
    // Hosts and tools round a kernel or a part of it: nothing in the core knows them.
    ("outside", &["journal", "memhost"]),
];

/// A mention of a module from a floor below its own.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Upward {
    from: String,
    to: String,
    line: usize,
}

fn floor_of(module: &str) -> Option<usize> {
    FLOORS
        .iter()
        .position(|(_, modules)| modules.contains(&module))
}

/// The text without comments, strings and what is compiled for tests alone.
fn code(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("#[cfg(test)]") && out.contains("\nuse ") {
            // Tests stand at the end of a file; `mod tests;` among the modules is a file of its own.
            let rest = &text[text.find(line).unwrap_or(0)..];
            if rest.contains("mod tests {") {
                break;
            }
        }
        let end = line.find("//").unwrap_or(line.len());
        out.push_str(&line[..end]);
        out.push('\n');
    }
    out
}

/// The first names of all paths that begin with `crate::`, with their lines; also those in braces.
fn named(code: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = code[from..].find("crate::") {
        let start = from + at;
        from = start + "crate::".len();
        // `pub(crate)` is no path, `$crate::` is.
        let line = code[..start].matches('\n').count() + 1;
        let rest = &code[from..];
        if let Some(inner) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut name = String::new();
            for letter in inner.chars() {
                match letter {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        found.push((first_name(&name), line));
                        name.clear();
                        continue;
                    }
                    _ => {}
                }
                name.push(letter);
            }
            found.push((first_name(&name), line));
        } else {
            found.push((first_name(rest), line));
        }
    }
    found.retain(|(name, _)| !name.is_empty());
    found
}

fn first_name(path: &str) -> String {
    let path = path.trim_start();
    let end = path.find(|letter: char| !letter.is_alphanumeric() && letter != '_');
    path[..end.unwrap_or(path.len())].to_owned()
}

/// What a file of a module names that stands above it.
fn upward(module: &str, text: &str) -> Vec<Upward> {
    let own = floor_of(module).unwrap_or_else(|| panic!("`{module}` is on no floor"));
    let names = named(&code(text)).into_iter();
    let above = names.filter(|(name, _)| floor_of(name).is_some_and(|floor| floor > own));
    above
        .map(|(to, line)| Upward {
            from: module.to_owned(),
            to,
            line,
        })
        .collect()
}

/// The sources of the core, each with the module at the top that it belongs to.
fn sources(dir: &Path, top: Option<&str>, each: &mut impl FnMut(&str, &Path, &str)) {
    let mut entries: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    for path in entries {
        let stem = path.file_stem().unwrap().to_str().unwrap();
        if path.is_dir() {
            if stem != "tests" {
                sources(&path, top.or(Some(stem)), each);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let module = top.unwrap_or(stem);
            if !["lib", "tests"].contains(&stem) {
                each(module, &path, &fs::read_to_string(&path).unwrap());
            }
        }
    }
}

#[test]
fn no_floor_knows_what_stands_above_it() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = String::new();
    let mut files = 0;
    sources(&src, None, &mut |module, path, text| {
        files += 1;
        let path = path.strip_prefix(&src).unwrap();
        for found in upward(module, text) {
            let at = path.display();
            wrong += &format!("{at}:{}: `{}` is above `{module}`\n", found.line, found.to);
        }
        // Paths from the parent of a file are of its own floor; those that climb out of it are not seen
        // above.
        let depth = path.components().count() - usize::from(path.file_stem().unwrap() == "mod");
        if code(text).contains(&"super::".repeat(depth)) {
            wrong += &format!("{}: names the crate by `super::`\n", path.display());
        }
    });
    assert!(files > 100, "{files} files were looked at");
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn every_module_is_on_a_floor() {
    let lib = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let modules = lib
        .lines()
        .filter_map(|line| line.split_once("mod "))
        .filter_map(|(_, name)| name.strip_suffix(';'));
    for module in modules {
        assert!(floor_of(module).is_some(), "`{module}` is on no floor");
    }
}

#[test]
fn a_planted_arrow_is_found() {
    let found = |text: &str| {
        let all = upward("vfs", text).into_iter();
        all.map(|up| (up.to, up.line)).collect::<Vec<_>>()
    };
    let planted =
        "//! Words about crate::task.\nuse crate::fs::FileSystems;\nuse crate::task::Task;\n";
    assert_eq!(found(planted), [("task".to_owned(), 3)]);
    assert_eq!(
        found("use crate::{\n    cred::Creds,\n    mm::{Mm, user},\n    Kernel,\n};\n"),
        [("mm".to_owned(), 1), ("Kernel".to_owned(), 1)]
    );
    assert_eq!(
        found("use alloc::vec::Vec;\n\nfn f(k: &crate::Kernel) {}\n"),
        [("Kernel".to_owned(), 3)]
    );
    // Below it, beside it, and what is compiled for tests alone.
    let fine = "use crate::env::Env;\nuse crate::vfs::dentry;\n\n#[cfg(test)]\nmod tests {\n    \
                use crate::memhost::Machine;\n}\n";
    assert_eq!(found(&format!("use alloc::vec::Vec;\n{fine}")), []);
}
