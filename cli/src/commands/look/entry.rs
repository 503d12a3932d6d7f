//! One object of a stack as lists show it.

use std::io::{self, IsTerminal, Write};

use serde_json::{Value, json};
use varve_imgfs::{Attr, Errno, Ino};

use super::accounts::Accounts;
use super::columns::width;
use crate::output::human;
use crate::stacks::OpenStack;
use crate::text;

const S_IFMT: u32 = 0o170000;

/// An object, with what only some of them have.
pub(super) struct Entry {
    pub inode: Ino,
    pub attr: Attr,
    /// Target of a symbolic link.
    pub target: Option<Vec<u8>>,
}

impl Entry {
    pub(super) fn new(stack: &mut OpenStack, inode: Ino, attr: Attr) -> Result<Entry, Errno> {
        let target = match attr.mode & S_IFMT {
            0o120000 => Some(stack.stack.read_link(&stack.images, inode)?),
            _ => None,
        };
        Ok(Entry {
            inode,
            attr,
            target,
        })
    }

    /// A name for the type.
    pub(super) fn kind(&self) -> &'static str {
        match self.attr.mode & S_IFMT {
            0o040000 => "directory",
            0o100000 => "file",
            0o120000 => "symlink",
            0o020000 => "character device",
            0o060000 => "block device",
            0o010000 => "fifo",
            _ => "socket",
        }
    }

    pub(super) fn is_device(&self) -> bool {
        matches!(self.attr.mode & S_IFMT, 0o020000 | 0o060000)
    }

    /// Major and minor number.
    pub(super) fn device(&self) -> (u32, u32) {
        let rdev = self.attr.rdev;
        (rdev >> 8 & 0xfff, rdev & 0xff | rdev >> 12 & 0xfff00)
    }

    /// `drwxr-xr-x`.
    pub(super) fn permissions(&self) -> String {
        let mode = self.attr.mode;
        let kind = match mode & S_IFMT {
            0o040000 => 'd',
            0o100000 => '-',
            0o120000 => 'l',
            0o020000 => 'c',
            0o060000 => 'b',
            0o010000 => 'p',
            _ => 's',
        };
        let mut text = String::from(kind);
        for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
            let bit = |bit: u32, letter| {
                if mode >> shift & bit != 0 {
                    letter
                } else {
                    '-'
                }
            };
            text.push(bit(4, 'r'));
            text.push(bit(2, 'w'));
            text.push(match (mode & special != 0, mode >> shift & 1 != 0) {
                (true, true) => letter,
                (true, false) => letter.to_ascii_uppercase(),
                (false, true) => 'x',
                (false, false) => '-',
            });
        }
        text
    }

    pub(super) fn json(&self, path: &[u8]) -> Value {
        let attr = &self.attr;
        let mut value = json!({
            "type": self.kind(),
            "mode": format!("{:04o}", attr.mode & 0o7777),
            "uid": attr.uid,
            "gid": attr.gid,
            "size": attr.size,
            "nlink": attr.nlink,
            "mtime": time(attr.mtime.sec, attr.mtime.nsec),
            "inode": self.inode.nid(),
            "layer": self.inode.layer(),
        });
        if let Some(target) = &self.target {
            text::put(&mut value, "target", target);
        }
        if self.is_device() {
            let (major, minor) = self.device();
            value["device"] = json!([major, minor]);
        }
        text::put(&mut value, "path", path);
        value
    }
}

/// What `ls -l` shows before the names, in columns as wide as they must be.
pub(super) struct Long;

impl Long {
    /// A text for each object.
    pub(super) fn of<'a>(
        entries: impl Iterator<Item = &'a Entry>,
        accounts: &Accounts,
        people: bool,
    ) -> Vec<String> {
        let rows = entries.map(|entry| {
            let attr = &entry.attr;
            let size = match (entry.is_device(), people) {
                (true, _) => {
                    let (major, minor) = entry.device();
                    format!("{major}, {minor}")
                }
                (false, true) => human(attr.size),
                (false, false) => attr.size.to_string(),
            };
            let time = time(attr.mtime.sec, attr.mtime.nsec);
            // Without seconds, however long the year is.
            let time = time[..time.len() - ":00.000000000".len()].to_owned();
            let (user, group) = (accounts.user(attr.uid), accounts.group(attr.gid));
            let fields = [attr.nlink.to_string(), user, group, size, time];
            (entry.permissions(), fields)
        });
        let rows: Vec<_> = rows.collect();
        let wide = |at: usize| {
            let widths = rows.iter().map(|(_, fields)| width(&fields[at]));
            widths.max().unwrap_or(0)
        };
        let [links, users, groups, sizes, times] = std::array::from_fn(wide);
        let pad = |text: &str, wide: usize| " ".repeat(wide.saturating_sub(width(text)));
        rows.iter()
            .map(|(permissions, [link, user, group, size, time])| {
                let (user_gap, group_gap) = (pad(user, users), pad(group, groups));
                format!(
                    "{permissions} {link:>links$} {user}{user_gap} {group}{group_gap} {size:>sizes$} {time:>times$}"
                )
            })
            .collect()
    }
}

/// A point in time, in UTC: `2019-06-29 14:16:51.000000000`.
pub(super) fn time(sec: i64, nsec: u32) -> String {
    let (days, rest) = (sec.div_euclid(86_400), sec.rem_euclid(86_400));
    // Days from 0000-03-01, in eras of 400 years (Howard Hinnant, "chrono-compatible low-level date
    // algorithms").
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (
        day - (153 * month + 2) / 5 + 1,
        if month < 10 { month + 3 } else { month - 9 },
    );
    let year = era * 400 + year + i64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}.{nsec:09}",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

/// Writes a name: on a terminal escaped, elsewhere as it is, for programs that read names (as ls(1) does it).
pub(super) fn write_name(out: &mut dyn Write, name: &[u8]) -> io::Result<()> {
    if !text::is_plain(name) && io::stdout().is_terminal() {
        return write!(out, "{}", text::shown(name));
    }
    out.write_all(name)
}

#[cfg(test)]
mod tests {
    use super::time;

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(time(0, 0), "1970-01-01 00:00:00.000000000");
        assert_eq!(time(1_561_817_811, 5), "2019-06-29 14:16:51.000000005");
        assert_eq!(time(-1, 999_999_999), "1969-12-31 23:59:59.999999999");
        assert_eq!(time(951_782_400, 0), "2000-02-29 00:00:00.000000000");
        assert_eq!(time(4_107_542_400, 0), "2100-03-01 00:00:00.000000000");
    }
}
