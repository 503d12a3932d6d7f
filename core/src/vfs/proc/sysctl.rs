//! Writing to `/proc/sys`: names of the UTS namespace and limits of the IPC namespace of the writer. Where a
//! sandbox has all capabilities its other settings can be opened for writing too; what the kernel does not go
//! by cannot be given another value.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::system::{Kind, PATHS};
use crate::Kernel;
use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::event::Level;
use crate::ipc::limits::Setting;
use crate::kernel::Cx;
use crate::machine::ThreadId;
use crate::ns::user;
use crate::syscall::system::set_uts;

/// Longest name (`__NEW_UTS_LEN`).
const NAME_LEN: usize = 64;

/// The numbers of a file of limits.
pub(super) fn show(k: &Kernel, thread: ThreadId, setting: Setting) -> Result<Vec<u8>, Errno> {
    let task = k.tasks.get(thread).ok_or(Errno::ESRCH)?;
    let values = k.ns.ipc(task.ns.ipc).limits.values(setting);
    let words: Vec<String> = values.iter().map(|value| format!("{value}")).collect();
    Ok(format!("{}\n", words.join("\t")).into_bytes())
}

/// Whether a setting may be opened for writing: `EROFS` unless the sandbox has all capabilities, or the
/// thread those over the namespace that the setting is of.
pub(super) fn may_write(k: &Kernel, thread: ThreadId, place: usize) -> Result<(), Errno> {
    if k.system.privileged {
        return Ok(());
    }
    let task = k.tasks.get(thread).ok_or(Errno::ESRCH)?;
    let ns = match PATHS[place].1 {
        Kind::Name(_) => task.ns.uts,
        Kind::Limit(_) => task.ns.ipc,
        _ => return Err(Errno::EROFS),
    };
    match user::capable(k, &task.creds, k.ns.owner(ns), g::CAP_SYS_ADMIN) {
        true => Ok(()),
        false => Err(Errno::EROFS),
    }
}

/// Writes a setting; gives how many bytes were taken, as Linux passes over what follows the last number.
pub(super) fn write(
    cx: &mut Cx<'_, '_>,
    place: usize,
    at: u64,
    data: &[u8],
) -> Result<usize, Errno> {
    let ns = cx.task().ns;
    match PATHS[place].1 {
        Kind::Name(domain) => {
            let uts = cx.k.ns.uts(ns.uts);
            let old = if domain {
                &uts.domainname
            } else {
                &uts.hostname
            };
            let Some(name) = name(old, at, data) else {
                return Ok(data.len());
            };
            match domain {
                true => set_uts(cx.k, ns.uts, None, Some(name)),
                false => set_uts(cx.k, ns.uts, Some(name), None),
            }
            Ok(data.len())
        }
        // Numbers are written at the beginning.
        Kind::Limit(_) | Kind::Namespaces(_) if at > 0 => Ok(data.len()),
        Kind::Namespaces(kind) => {
            let (values, taken) = numbers(data, 1)?;
            if let &[value] = &values[..] {
                let most = i32::try_from(value).map_err(|_| Errno::EINVAL)?;
                let most = usize::try_from(most).map_err(|_| Errno::EINVAL)?;
                cx.k.ns.set_most(kind, most);
            }
            Ok(taken)
        }
        Kind::Limit(setting) => {
            let (values, taken) = numbers(data, setting.count())?;
            setting.set(&mut cx.k.ns.ipc_mut(ns.ipc).limits, &values)?;
            Ok(taken)
        }
        Kind::Value(_) | Kind::Tunable(_) if at > 0 => Ok(data.len()),
        Kind::Value(_) | Kind::Tunable(_) => {
            let now = match PATHS[place].1 {
                Kind::Value(make) => make(cx.k),
                Kind::Tunable(text) => text.as_bytes().to_vec(),
                _ => Vec::new(),
            };
            let words = |text: &[u8]| -> Vec<Vec<u8>> {
                let words = text.split(u8::is_ascii_whitespace);
                words
                    .filter(|word| !word.is_empty())
                    .map(<[u8]>::to_vec)
                    .collect()
            };
            let asked = words(data);
            if words(&now).starts_with(&asked) {
                return Ok(data.len());
            }
            let line = format!(
                "/proc/{}: the kernel has one value for this",
                PATHS[place].0
            );
            cx.log(Level::Warn, line);
            Err(Errno::EINVAL)
        }
        _ => Err(Errno::EIO),
    }
}

/// The name that a write at a position makes of the old one; it ends at a NUL or a newline. `None`: nothing
/// changes.
fn name(old: &[u8], at: u64, data: &[u8]) -> Option<Vec<u8>> {
    let at = usize::try_from(at).ok().filter(|&at| at <= old.len())?;
    if data.is_empty() {
        return None;
    }
    let end = data.iter().position(|byte| matches!(byte, 0 | b'\n'));
    let mut name = old[..at].to_vec();
    name.extend_from_slice(&data[..end.unwrap_or(data.len())]);
    name.truncate(NAME_LEN);
    Some(name)
}

/// Up to `count` numbers as C writes them, with blanks between, and how many bytes they are. `EINVAL`.
fn numbers(data: &[u8], count: usize) -> Result<(Vec<i128>, usize), Errno> {
    let is_blank = |&byte: &u8| matches!(byte, b' ' | b'\t' | b'\n');
    let blanks = |from: usize| {
        data[from..]
            .iter()
            .take_while(|byte| is_blank(byte))
            .count()
    };
    let mut values = Vec::new();
    let mut at = blanks(0);
    while at < data.len() && values.len() < count {
        let len = data[at..].iter().take_while(|byte| !is_blank(byte)).count();
        values.push(number(&data[at..at + len])?);
        at += len;
        at += blanks(at);
    }
    Ok((values, at))
}

fn number(text: &[u8]) -> Result<i128, Errno> {
    let text = core::str::from_utf8(text).map_err(|_| Errno::EINVAL)?;
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (digits, radix) = match digits.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None if digits.len() > 1 && digits.starts_with('0') => (digits, 8),
        None => (digits, 10),
    };
    if !digits.starts_with(|first: char| first.is_digit(radix)) {
        return Err(Errno::EINVAL);
    }
    let value = u64::from_str_radix(digits, radix).map_err(|_| Errno::EINVAL)?;
    Ok(if negative {
        -i128::from(value)
    } else {
        value.into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_taken_as_linux_takes_them() {
        assert_eq!(numbers(b" 5 ", 1), Ok((Vec::from([5]), 3)));
        assert_eq!(numbers(b"1 2", 1), Ok((Vec::from([1]), 2)));
        assert_eq!(numbers(b"1 2 3 4 5", 4), Ok((Vec::from([1, 2, 3, 4]), 8)));
        assert_eq!(numbers(b"0x20\n", 1), Ok((Vec::from([32]), 5)));
        assert_eq!(numbers(b"010", 1), Ok((Vec::from([8]), 3)));
        assert_eq!(numbers(b"", 1), Ok((Vec::new(), 0)));
        for text in [
            &b"x"[..],
            b"5\0",
            b"5x",
            b"-",
            b"--1",
            b"+1",
            b"99999999999999999999999",
        ] {
            assert_eq!(numbers(text, 1), Err(Errno::EINVAL), "{text:?}");
        }
    }

    #[test]
    fn names_are_written_where_the_file_is() {
        assert_eq!(name(b"old", 0, b"new\nrest"), Some(b"new".to_vec()));
        assert_eq!(name(b"old", 1, b"k"), Some(b"ok".to_vec()));
        assert_eq!(name(b"old", 0, b"a\0b"), Some(b"a".to_vec()));
        assert_eq!(name(b"old", 9, b"a"), None);
        assert_eq!(name(b"old", 0, b""), None);
        assert_eq!(name(b"", 0, &[b'x'; 100]).map(|name| name.len()), Some(64));
    }
}
