//! What the project's texts keep to: prose and comments within 110 columns.

use std::fs;
use std::path::{Path, PathBuf};

const COLUMNS: usize = 110;

/// The project's files that end so, but for what builds leave.
fn files(dir: &Path, ends: &[&str], found: &mut Vec<PathBuf>) {
    const PASSED_OVER: [&str; 4] = ["target", "corpus", "artifacts", ".git"];
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap_or_default();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() && !PASSED_OVER.contains(&&*name) {
            files(&entry.path(), ends, found);
        } else if kind.is_file() && ends.iter().any(|end| name.ends_with(end)) {
            found.push(entry.path());
        }
    }
}

/// Whether a line is prose: in a source file a comment, elsewhere neither code nor a row of a table.
fn is_prose(line: &str, source: bool) -> bool {
    let text = line.trim_start();
    match source {
        true => {
            let comment = text.strip_prefix("//");
            let comment = comment.map(|text| text.trim_start_matches(['/', '!']).trim_start());
            comment.is_some_and(|text| !text.starts_with('|'))
        }
        false => !text.starts_with('|') && !line.starts_with("    "),
    }
}

/// The lines of a text that are too long.
fn too_long(text: &str, source: bool) -> impl Iterator<Item = (usize, usize)> + '_ {
    let lines = text.lines().enumerate();
    let prose = lines.filter(move |(_, line)| is_prose(line, source));
    let wide = prose.map(|(at, line)| (at + 1, line.chars().count()));
    wide.filter(|&(_, width)| width > COLUMNS)
}

#[test]
fn prose_and_comments_are_within_110_columns() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = Vec::new();
    files(root, &[".rs", ".md"], &mut found);
    assert!(found.len() > 300, "{} files", found.len());
    let mut wrong = Vec::new();
    for path in found {
        let text = fs::read_to_string(&path).unwrap();
        let source = path.extension().is_some_and(|end| end == "rs");
        let shown = path.strip_prefix(root).unwrap().display();
        for (line, width) in too_long(&text, source) {
            wrong.push(format!("{shown}:{line}: {width} columns"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn long_lines_are_found() {
    let long = "a ".repeat(60);
    for (line, source, count) in [
        (format!("// {long}"), true, 1),
        (format!("    /// {long}"), true, 1),
        (format!("let a = \"{long}\";"), true, 0),
        (format!("//! | {long} |"), true, 0),
        (long.clone(), false, 1),
        (format!("| {long} |"), false, 0),
        (format!("    {long}"), false, 0),
    ] {
        assert_eq!(too_long(&line, source).count(), count, "{line}");
    }
}
