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

/// Colours for a list: none where the list does not go to a terminal, or nobody wants them (<https://no-color.org>).
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
    use super::human;

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
