//! Pax extended headers: records of `length key=value\n` that override the fields of the next header or of
//! all.

use std::rc::Rc;

use crate::tree::Time;

/// Most records that hold for all entries: each entry looks at them.
const GLOBAL_MAX: usize = 256;

/// Records by key, in the order of the archive; sparse maps repeat keys.
#[derive(Debug, Clone, Default)]
pub(crate) struct Records {
    own: Vec<(Vec<u8>, Vec<u8>)>,
    /// Those that hold for all entries, which come first.
    global: Rc<Vec<(Vec<u8>, Vec<u8>)>>,
}

impl Records {
    /// Parses the body of an extended header; `None` if it is malformed.
    pub(crate) fn parse(mut bytes: &[u8]) -> Option<Self> {
        let mut records = Vec::new();
        while let Some(first) = bytes.first() {
            // Some writers pad with NULs.
            if *first == 0 {
                break;
            }
            let space = bytes.iter().take(20).position(|&b| b == b' ')?;
            let len: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
            if len <= space + 1 || len > bytes.len() || bytes[len - 1] != b'\n' {
                return None;
            }
            let record = &bytes[space + 1..len - 1];
            let equals = record.iter().position(|&b| b == b'=')?;
            records.push((record[..equals].to_vec(), record[equals + 1..].to_vec()));
            bytes = &bytes[len..];
        }
        Some(Self {
            own: records,
            global: Rc::default(),
        })
    }

    /// Adds `other`, whose records win.
    pub(crate) fn extend(&mut self, other: Self) {
        self.own.extend(other.own);
    }

    /// No records but those that hold for all entries.
    pub(crate) fn of_all(&self) -> Self {
        Self {
            own: Vec::new(),
            global: self.global.clone(),
        }
    }

    /// Adds records that hold for all entries from now on; `false` if there are too many.
    pub(crate) fn extend_global(&mut self, other: Self) -> bool {
        let global = Rc::make_mut(&mut self.global);
        for (key, value) in other.own {
            match global.iter().position(|(known, _)| *known == key) {
                Some(at) => global[at].1 = value,
                None if global.len() >= GLOBAL_MAX => return false,
                None => global.push((key, value)),
            }
        }
        true
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (&[u8], &[u8])> {
        let all = self.global.iter().chain(&self.own);
        all.map(|(key, value)| (&**key, &**value))
    }

    /// The last value of `key`; an empty one means that the header's own field counts.
    pub(crate) fn get(&self, key: &str) -> Option<&[u8]> {
        self.iter()
            .rev()
            .find(|(k, _)| *k == key.as_bytes())
            .map(|(_, value)| value)
            .filter(|v| !v.is_empty())
    }

    /// A number; `Some(None)` if there is text that is none.
    pub(crate) fn number(&self, key: &str) -> Option<Option<u64>> {
        self.get(key).map(decimal)
    }
}

pub(crate) fn decimal(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A time such as `-12.25`: seconds with a decimal fraction, of which nine digits count.
pub(crate) fn time(text: &[u8]) -> Option<Time> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let negative = whole.starts_with('-');
    let sec: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits = fraction.bytes().chain(std::iter::repeat(b'0')).take(9);
    let nsec = digits.fold(0, |n, d| n * 10 + u32::from(d - b'0'));
    Some(match (negative, nsec) {
        (true, 1..) => Time {
            sec: sec.checked_sub(1)?,
            nsec: 1_000_000_000 - nsec,
        },
        _ => Time { sec, nsec },
    })
}

/// The name of an attribute as libarchive writes it: `%` and two hexadecimal digits for what is not plain.
pub(crate) fn unescape(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&byte, tail)) = rest.split_first() {
        let escaped = (byte == b'%')
            .then(|| {
                tail.get(..2)
                    .and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok())
            })
            .flatten();
        match escaped {
            Some(value) => {
                out.push(value);
                rest = &tail[2..];
            }
            None => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    out
}

/// Base64 with or without padding; `None` if there is another character.
pub(crate) fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0u32, 0);
    for &c in text.iter().filter(|c| !matches!(c, b'=' | b'\n')) {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_may_hold_newlines_and_equals_signs() {
        let records = Records::parse(b"11 path=a\n\n21 SCHILY.xattr.u=\n=\n6 a=b\n").unwrap();
        assert_eq!(records.get("path"), Some(&b"a\n"[..]));
        assert_eq!(records.get("SCHILY.xattr.u"), Some(&b"\n="[..]));
        assert_eq!(records.get("a"), Some(&b"b"[..]));
        for bad in [
            &b"5 a=b\n"[..],
            b"x a=b\n",
            b"99 a=b\n",
            b"7 abcd\n",
            b"6 a=bc",
            b"1 ",
        ] {
            assert!(Records::parse(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn times_round_down() {
        assert_eq!(time(b"12"), Some(Time { sec: 12, nsec: 0 }));
        assert_eq!(
            time(b"12.5"),
            Some(Time {
                sec: 12,
                nsec: 500_000_000
            })
        );
        assert_eq!(
            time(b"-0.25"),
            Some(Time {
                sec: -1,
                nsec: 750_000_000
            })
        );
        assert_eq!(time(b"-60.000"), Some(Time { sec: -60, nsec: 0 }));
        assert_eq!(time(b"1.0000000019"), Some(Time { sec: 1, nsec: 1 }));
        assert_eq!(time(b"1.x"), None);
        assert_eq!(time(b""), None);
    }

    #[test]
    fn attribute_encodings() {
        assert_eq!(unescape(b"user.a%3Db%zz%"), b"user.a=b%zz%");
        assert_eq!(base64(b"aGVsbG8").unwrap(), b"hello");
        assert_eq!(base64(b"AAEC/w==").unwrap(), [0, 1, 2, 255]);
        assert!(base64(b"a*").is_none());
    }
}
