//! Text that others wrote: names, targets, labels, messages. It must not reach a terminal as it is.
//!
//! There is one escape for all of it. What moves the cursor, changes how a terminal behaves, reorders or
//! breaks lines is shown as Rust writes it in a string: `\n`, `\x1b`, `\u{202e}`; bytes that are no UTF-8 as
//! `\x9b`. Everything else stays as it is, a backslash too, so that text that went through once goes through
//! again unchanged.

use std::ffi::OsStr;
use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde_json::Value;

/// Whether a character does something to a terminal or to the text around it: C0, DEL and C1 controls, line
/// and paragraph separators, marks and overrides of the direction of writing, and what is never seen but told
/// by none (Unicode 16, Bidi_Control and Cf).
fn is_active(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Bytes, written so that they can be shown.
pub(crate) struct Shown<'a>(&'a [u8]);

/// Shows anything that is bytes.
pub(crate) fn shown<T: AsRef<[u8]> + ?Sized>(text: &T) -> Shown<'_> {
    Shown(text.as_ref())
}

/// Shows a path.
pub(crate) fn path(path: &Path) -> Shown<'_> {
    os(path.as_os_str())
}

/// Shows what the command line gave.
pub(crate) fn os(text: &OsStr) -> Shown<'_> {
    Shown(text.as_bytes())
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.width().is_some() || f.precision().is_some() {
            return f.pad(&format!("{}", Shown(self.0)));
        }
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '\n' => f.write_str("\\n")?,
                    '\t' => f.write_str("\\t")?,
                    '\r' => f.write_str("\\r")?,
                    c if !is_active(c) => f.write_char(c)?,
                    c if c.is_ascii() => write!(f, "\\x{:02x}", u32::from(c))?,
                    c => write!(f, "\\u{{{:x}}}", u32::from(c))?,
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// Whether text would be shown otherwise than it is.
pub(crate) fn is_plain(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| !text.contains(is_active))
}

/// Tells something on standard error, in one line and with varve's name. If that is closed or full there is
/// nobody left to tell.
pub(crate) fn say(message: impl fmt::Display) {
    let line = format!("varve: {}\n", shown(&message.to_string()));
    let _ = io::stderr().write_all(line.as_bytes());
}

/// JSON whose text does nothing to a terminal either: active characters are written as `\uXXXX`, which is the
/// same value.
pub(crate) fn json(value: &Value) -> String {
    escaped_json(&value.to_string())
}

/// The same over several lines.
pub(crate) fn json_pretty(value: &Value) -> String {
    escaped_json(&format!("{value:#}"))
}

fn escaped_json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut units = [0; 2];
    for c in text.chars() {
        match c {
            // Between values only: in strings it is escaped already.
            '\n' => out.push(c),
            c if is_active(c) => {
                for unit in c.encode_utf16(&mut units) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            c => out.push(c),
        }
    }
    out
}

/// Puts bytes into an object: as text, and where the text has lost some of them in hexadecimal, too, as
/// `KEY_hex`.
pub(crate) fn put(object: &mut Value, key: &str, bytes: &[u8]) {
    object[key] = String::from_utf8_lossy(bytes).into();
    if std::str::from_utf8(bytes).is_err() {
        object[format!("{key}_hex")] = hex::encode(bytes).into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_on_a_terminal_is_escaped_and_nothing_else() {
        for (bytes, text) in [
            (
                &b"plain \\ 'quoted' \"text\""[..],
                "plain \\ 'quoted' \"text\"",
            ),
            ("Grüße, 世界 👩‍🚀".as_bytes(), "Grüße, 世界 👩‍🚀"),
            (b"\x1b]0;title\x07\x7f\x00", "\\x1b]0;title\\x07\\x7f\\x00"),
            (b"two\nlines\tand\rone", "two\\nlines\\tand\\rone"),
            ("c1 \u{9b}31m \u{85}".as_bytes(), "c1 \\u{9b}31m \\u{85}"),
            (b"raw \x9b31m \xff", "raw \\x9b31m \\xff"),
            (
                "\u{202e}txt\u{2066}\u{200e}\u{61c}".as_bytes(),
                "\\u{202e}txt\\u{2066}\\u{200e}\\u{61c}",
            ),
            (
                "\u{2028}\u{2029}\u{feff}".as_bytes(),
                "\\u{2028}\\u{2029}\\u{feff}",
            ),
            // A character that is cut off, and one written too long.
            (b"\xe2\x80", "\\xe2\\x80"),
            (b"\xc0\x9b", "\\xc0\\x9b"),
        ] {
            let once = shown(bytes).to_string();
            assert_eq!(once, text);
            assert_eq!(shown(&once).to_string(), text, "shown twice");
            assert_eq!(is_plain(bytes), bytes == text.as_bytes());
        }
        assert_eq!(format!("{:<4}|", shown("\x1b")), "\\x1b|");
        assert_eq!(format!("{:>6}|", shown("ab")), "    ab|");
    }

    #[test]
    fn json_keeps_its_values() {
        let value = serde_json::json!({ "k\u{9b}": "\x1b\u{7f}\u{202e}\u{e0041}\n" });
        for text in [json(&value), json_pretty(&value)] {
            assert!(
                text.bytes()
                    .all(|byte| byte == b'\n' || (b' '..0x7f).contains(&byte)),
                "{text}"
            );
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
        }
        let mut value = serde_json::json!({});
        put(&mut value, "name", b"a\xff");
        put(&mut value, "other", b"b");
        assert_eq!(
            value,
            serde_json::json!({ "name": "a\u{fffd}", "name_hex": "61ff", "other": "b" })
        );
    }
}
