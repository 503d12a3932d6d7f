//! Text of lines: strings as C writes them, flags, columns.

use alloc::format;
use alloc::string::{String, ToString};
use core::fmt::Write;

use super::Names;

/// The column at which results begin.
const RESULT_COLUMN: usize = 40;

/// Fills a line up to its result.
pub(super) fn pad(line: &mut String) {
    line.push(' ');
    while line.len() < RESULT_COLUMN {
        line.push(' ');
    }
    line.push_str("= ");
}

/// Bytes in quotes as C writes them, cut after `max` of them.
pub(crate) fn quote(bytes: &[u8], max: usize) -> String {
    let mut text = String::from("\"");
    let shown = &bytes[..bytes.len().min(max)];
    escape(&mut text, shown);
    text.push('"');
    if shown.len() < bytes.len() {
        text.push_str("...");
    }
    text
}

/// A path between angle brackets.
pub(super) fn path(bytes: &[u8]) -> String {
    let mut text = String::new();
    for &byte in bytes {
        match byte {
            b'<' | b'>' => {
                let _ = write!(text, "\\{byte:o}");
            }
            _ => escape(&mut text, &[byte]),
        }
    }
    text
}

fn escape(text: &mut String, bytes: &[u8]) {
    for (index, &byte) in bytes.iter().enumerate() {
        let digit_follows = bytes.get(index + 1).is_some_and(u8::is_ascii_digit);
        let _ = match byte {
            b'\n' => text.write_str("\\n"),
            b'\t' => text.write_str("\\t"),
            b'\r' => text.write_str("\\r"),
            0x0b => text.write_str("\\v"),
            0x0c => text.write_str("\\f"),
            b'"' => text.write_str("\\\""),
            b'\\' => text.write_str("\\\\"),
            0x20..=0x7e => text.write_char(char::from(byte)),
            _ if digit_follows => write!(text, "\\{byte:03o}"),
            _ => write!(text, "\\{byte:o}"),
        };
    }
}

/// So many of something.
pub(super) fn count(number: usize, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        number => format!("{number} {noun}s"),
    }
}

/// An address.
pub(super) fn pointer(value: u64) -> String {
    match value {
        0 => "NULL".to_string(),
        value => format!("{value:#x}"),
    }
}

impl Names {
    /// Flags with bars between them.
    pub(super) fn flags(&self, value: u64) -> String {
        let mut left = value;
        let mut text = String::new();
        for &(bits, name) in self.names {
            let hit = match bits {
                0 => value == 0,
                bits => left & bits == bits,
            };
            if hit {
                left &= !bits;
                if !text.is_empty() {
                    text.push('|');
                }
                text.push_str(name);
            }
        }
        let _ = match (left, text.is_empty()) {
            (0, true) => text.write_char('0'),
            (0, false) => Ok(()),
            (left, false) => write!(text, "|{left:#x}"),
            (left, true) if self.unknown.is_empty() => write!(text, "{left:#x}"),
            (left, true) => write!(text, "{left:#x} /* {} */", self.unknown),
        };
        text
    }

    /// The name of one number.
    pub(super) fn one(&self, value: u64) -> String {
        match self.find(value) {
            Some(name) => name.to_string(),
            None if self.unknown.is_empty() => format!("{value:#x}"),
            // As C writes it.
            None if value == 0 => format!("0 /* {} */", self.unknown),
            None => format!("{value:#x} /* {} */", self.unknown),
        }
    }

    pub(super) fn find(&self, value: u64) -> Option<&'static str> {
        let mut names = self.names.iter();
        names
            .find(|&&(number, _)| number == value)
            .map(|&(_, name)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::super::names::{ACCESS, MAP, OPEN, PROT};
    use super::*;

    #[test]
    fn flags_show_names_and_leftover_bits() {
        assert_eq!(PROT.flags(0), "PROT_NONE");
        assert_eq!(PROT.flags(5), "PROT_READ|PROT_EXEC");
        assert_eq!(PROT.flags(0x10_0001), "PROT_READ|0x100000");
        assert_eq!(PROT.flags(0x10_0000), "0x100000 /* PROT_??? */");
        assert_eq!(ACCESS.flags(0), "F_OK");
        assert_eq!(MAP.flags(0x22), "MAP_PRIVATE|MAP_ANONYMOUS");
        assert_eq!(OPEN.flags(0o20200000), "O_TMPFILE");
    }

    #[test]
    fn strings_are_quoted_as_strace_does() {
        assert_eq!(quote(b"a\n\"\x01\xff", 32), "\"a\\n\\\"\\1\\377\"");
        assert_eq!(quote(b"\x001\x00a\x1b[", 32), "\"\\0001\\0a\\33[\"");
        assert_eq!(quote(b"abcd", 3), "\"abc\"...");
        assert_eq!(quote(b"abcd", 4), "\"abcd\"");
        assert_eq!(path(b"/a<b>\t"), "/a\\74b\\76\\t");
    }

    #[test]
    fn results_stand_below_each_other() {
        let padded = |text: &str| {
            let mut line = String::from(text);
            pad(&mut line);
            line
        };
        assert_eq!(padded("close(3)").find('='), Some(40));
        let long = "x".repeat(39);
        assert_eq!(padded(&long).find('='), Some(40));
        let long = "x".repeat(40);
        assert_eq!(padded(&long), format!("{long} = "));
    }

    #[test]
    fn signals_have_names() {
        use super::super::signal_name;
        assert_eq!(signal_name(9), "SIGKILL");
        assert_eq!(signal_name(32), "SIGRTMIN");
        assert_eq!(signal_name(34), "SIGRT_2");
        assert_eq!(signal_name(0), "0");
    }
}
