//! What is written about system calls is what the table says.
//!
//! `VARVE_WRITE_DOCS=1` writes `docs/syscalls.md` anew.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use varve_core::syscall::{Entry, Support, TABLE};

fn project(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

/// Calls with the same text stand in one row.
fn rows(text: &mut String, what: fn(&Entry) -> Option<&'static str>) {
    let mut rows: Vec<(&str, Vec<&str>)> = Vec::new();
    for entry in TABLE {
        let Some(what) = what(entry) else {
            continue;
        };
        match rows.iter_mut().find(|(other, _)| *other == what) {
            Some((_, names)) => names.push(entry.name),
            None => rows.push((what, vec![entry.name])),
        }
    }
    for (what, names) in rows {
        let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        let _ = writeln!(
            text,
            "| {} | {} |",
            names.join(", "),
            what.replace('|', "\\|")
        );
    }
}

fn count(is: fn(Support) -> bool) -> usize {
    TABLE.iter().filter(|entry| is(entry.support)).count()
}

fn counts() -> String {
    format!(
        "| {} | {} | {} | {} | {} |",
        TABLE.len(),
        count(|support| support == Support::Full),
        count(|support| matches!(support, Support::Partial(_))),
        count(|support| matches!(support, Support::Refused(_))),
        count(|support| matches!(support, Support::Missing(_))),
    )
}

fn document() -> String {
    let mut text = String::from(
        "# System calls\n\n\
         Made of the table in `core/src/syscall/table.rs` by `core/tests/syscalls.rs`, which also sees that it stays\n\
         true; `varve syscalls` prints the same for each call. Every system call of Linux 7.0 on x86-64 is in the\n\
         table.\n\n\
         | all | full | partial | refused on purpose | missing |\n| --- | --- | --- | --- | --- |\n",
    );
    text += &counts();
    text += "\n\n## Refused on purpose\n\n| call | answer and reason |\n| --- | --- |\n";
    rows(&mut text, |entry| match entry.support {
        Support::Refused(why) => Some(why),
        _ => None,
    });
    text += "\n## Missing\n\n| call | answer, and what does it instead |\n| --- | --- |\n";
    rows(&mut text, |entry| match entry.support {
        Support::Missing(what) => Some(what),
        _ => None,
    });
    text += "\n## Partial\n\n| call | what is missing or different |\n| --- | --- |\n";
    rows(&mut text, |entry| match entry.support {
        Support::Partial(what) => Some(what),
        _ => None,
    });
    text
}

#[test]
fn the_document_says_what_the_table_says() {
    let path = project("docs/syscalls.md");
    let document = document();
    if std::env::var_os("VARVE_WRITE_DOCS").is_some() {
        fs::write(&path, &document).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == document,
        "docs/syscalls.md is not what the table says: VARVE_WRITE_DOCS=1 cargo test -p varve-core --test syscalls"
    );
}

#[test]
fn readme_counts_as_the_table_does() {
    let readme = fs::read_to_string(project("README.md")).unwrap();
    let counts = counts();
    assert!(readme.contains(&counts), "README lacks the line {counts}");
}
