//! Lists on standard output, and numbers for people.

use std::io::{self, BufWriter, IsTerminal, Write};

use anyhow::{Context, Result};

/// Prints a list. Whoever reads it may have seen enough before its end.
pub(crate) fn print(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let result = write(&mut out).and_then(|()| out.flush());
    finish(result)
}

/// The result of writing to standard output, a closed pipe being none.
pub(crate) fn finish(result: io::Result<()>) -> Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("standard output"),
    }
}

/// Cells of a line where standard output is a terminal: what that says, else `COLUMNS`, else 80.
pub(crate) fn terminal_width() -> Option<usize> {
    let out = io::stdout();
    if !out.is_terminal() {
        return None;
    }
    let told = rustix::termios::tcgetwinsize(&out).map_or(0, |size| size.ws_col);
    let variable = || std::env::var("COLUMNS").ok()?.parse().ok();
    let width = match told {
        0 => variable().unwrap_or(80),
        told => usize::from(told),
    };
    Some(width.max(1))
}

/// The beginning of a text that fits into so many cells, with an ellipsis where something is left out.
pub(crate) fn cut(text: &str, cells: usize) -> String {
    use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};
    if text.width() <= cells {
        return text.to_owned();
    }
    let mut used = 0;
    let fits = |c: &char| {
        used += c.width().unwrap_or(0);
        used < cells
    };
    let mut cut: String = text.chars().take_while(fits).collect();
    if cells > 0 {
        cut.push('…');
    }
    cut
}

/// A digest as it is shown: its beginning is enough for people. On a narrow terminal (`room` cells) it has
/// fewer digits and no `sha256:`, which all of them have.
pub(crate) fn short_digest(digest: &str, room: usize) -> String {
    const WHOLE: usize = 19;
    const DIGITS: usize = 12;
    let digits = digest.strip_prefix("sha256:").unwrap_or(digest);
    match room {
        WHOLE.. => digest.chars().take(WHOLE).collect(),
        room => digits.chars().take(room.clamp(6, DIGITS)).collect(),
    }
}

/// Colours for a list: none where the list does not go to a terminal, or nobody wants them
/// (<https://no-color.org>).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Colours(bool);

/// What a colour says, as `ls --color` and `diff --color` have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colour {
    Directory,
    Symlink,
    Program,
    Special,
    Added,
    Deleted,
    Changed,
    Heading,
    Plain,
}

impl Colours {
    /// Those for standard output.
    pub(crate) fn of_stdout() -> Colours {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        Colours(!unwanted && io::stdout().is_terminal())
    }

    /// Writes something in a colour.
    pub(crate) fn paint(
        self,
        out: &mut dyn Write,
        colour: Colour,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        let code = match colour {
            Colour::Directory => "1;34",
            Colour::Symlink => "1;36",
            Colour::Program => "1;32",
            Colour::Special => "33",
            Colour::Added => "32",
            Colour::Deleted => "31",
            Colour::Changed => "33",
            Colour::Heading => "1",
            Colour::Plain => return write(out),
        };
        if !self.0 {
            return write(out);
        }
        write!(out, "\x1b[{code}m")?;
        write(out)?;
        write!(out, "\x1b[0m")
    }
}

/// A sum of sizes that others chose: as much as a number holds, if it is more.
pub(crate) fn sum(sizes: impl IntoIterator<Item = u64>) -> u64 {
    sizes.into_iter().fold(0, u64::saturating_add)
}

/// So many of something: `1 layer`, `2 layers`, `2 days`, `0 directories`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    // A y behind a vowel stays.
    let stem = noun
        .strip_suffix('y')
        .filter(|stem| !stem.ends_with(['a', 'e', 'o', 'u']));
    match (number, stem) {
        (1, _) => format!("1 {noun}"),
        (_, Some(stem)) => format!("{number} {stem}ies"),
        (_, None) => format!("{number} {noun}s"),
    }
}

/// A number of bytes with a unit, as `ls -h` writes it: rounded up, powers of 1024.
pub(crate) fn human(bytes: u64) -> String {
    let mut unit = 0;
    let mut scale: u128 = 1;
    while u128::from(bytes) >= scale * 1024 && unit < 6 {
        scale *= 1024;
        unit += 1;
    }
    if unit == 0 {
        return bytes.to_string();
    }
    let name = ["", "K", "M", "G", "T", "P", "E"][unit];
    let tenths = (u128::from(bytes) * 10).div_ceil(scale);
    match tenths {
        ..=99 => format!("{}.{}{name}", tenths / 10, tenths % 10),
        _ => format!("{}{name}", u128::from(bytes).div_ceil(scale)),
    }
}

#[cfg(test)]
mod tests {
    use super::{count, cut, human, short_digest};

    #[test]
    fn what_is_cut_fits() {
        assert_eq!(cut("whole", 5), "whole");
        assert_eq!(cut("longer", 5), "long…");
        assert_eq!(cut("世界世界", 5), "世界…");
        assert_eq!(cut("世界世界", 4), "世…");
        assert_eq!(cut("x", 0), "");
    }

    #[test]
    fn digests_fit() {
        let whole = "sha256:0123456789abcdef0123456789abcdef";
        assert_eq!(short_digest(whole, 19), "sha256:0123456789ab");
        assert_eq!(short_digest(whole, 80), "sha256:0123456789ab");
        assert_eq!(short_digest(whole, 18), "0123456789ab");
        assert_eq!(short_digest(whole, 8), "01234567");
        assert_eq!(short_digest(whole, 0), "012345");
    }

    #[test]
    fn one_thing_is_no_more() {
        let texts = [
            (0, "layer"),
            (1, "layer"),
            (2, "layer"),
            (1, "directory"),
            (3, "directory"),
        ];
        let texts = texts.map(|(number, noun)| count(number, noun));
        assert_eq!(
            texts,
            [
                "0 layers",
                "1 layer",
                "2 layers",
                "1 directory",
                "3 directories"
            ]
        );
    }

    #[test]
    fn sizes_are_those_of_ls() {
        let sizes = [
            (0, "0"),
            (1023, "1023"),
            (1024, "1.0K"),
            (1025, "1.1K"),
            (10_200, "10K"),
            (16_733, "17K"),
            (5 << 20, "5.0M"),
            (u64::MAX, "16E"),
        ];
        for (bytes, text) in sizes {
            assert_eq!(human(bytes), text);
        }
    }
}
