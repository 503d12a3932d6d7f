//! The settings of `/proc/sys`: those of the whole system, which a sandbox with all capabilities may change,
//! and those of the writer's namespaces. Files whose value nothing goes by can be opened for writing where
//! the others can, and keep their value.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::system::{Kind, PATHS};
use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::cred::Creds;
use crate::cred::ns::{NsId, Set, USER, pid, user};
use crate::env::settings;
use crate::env::settings::Form;
use crate::event::Level;
use crate::file::FileId;
use crate::ipc::{limits, shm};
use crate::machine::ThreadId;
use crate::ns::set_uts;
use crate::task::Cx;
use crate::vfs::perm::{MAY_WRITE, Who};
use crate::{Kernel, file};

/// Longest name (`__NEW_UTS_LEN`).
const NAME_LEN: usize = 64;

/// Whether a file shows numbers of settings.
pub(super) fn is_shown(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Number(_)
            | Kind::Limit(_)
            | Kind::Count(_)
            | Kind::CountOfAll(_)
            | Kind::Datagrams
            | Kind::Backlog
            | Kind::Numbers
            | Kind::Noexec
    )
}

/// The numbers of a file of settings.
pub(super) fn show(k: &Kernel, thread: ThreadId, kind: Kind) -> Result<Vec<u8>, Errno> {
    let task = k.tasks.get(thread).ok_or(Errno::ESRCH)?;
    let one: i128 = match kind {
        Kind::Number(setting) => k.env.settings.get(setting),
        Kind::Limit(setting) => {
            let values = k.ipc.objects_of(task.ns.ipc).limits.values(setting);
            let words: Vec<String> = values.iter().map(|value| format!("{value}")).collect();
            return Ok(format!("{}\n", words.join("\t")).into_bytes());
        }
        Kind::Count(what) => k.ns.limit(task.creds.user_ns, what).into(),
        Kind::CountOfAll(what) => k.ns.limit(USER, what).into(),
        Kind::Datagrams => k.ns.net(task.ns.net).datagrams.into(),
        Kind::Backlog => k.ns.net(task.ns.net).backlog.into(),
        Kind::Numbers => pid::end(k, task.ns.pid).into(),
        Kind::Noexec => pid::noexec(k, task.ns.pid).into(),
        _ => return Err(Errno::EINVAL),
    };
    Ok(format!("{one}\n").into_bytes())
}

/// Whether a setting may be read or written: `EACCES` by the bits of its file, which capabilities do not
/// overcome, `EROFS` for writing unless the sandbox has all capabilities, or the writer those over the
/// namespace that the setting is of. `None` if it is no setting.
pub(super) fn permission(
    k: &Kernel,
    who: &Who,
    place: usize,
    mask: u32,
) -> Option<Result<(), Errno>> {
    let (path, kind) = PATHS[place];
    if !path.starts_with("sys/") || matches!(kind, Kind::Dir) {
        return None;
    }
    let creds = who.creds()?;
    let task = who.viewer().and_then(|thread| k.tasks.get(thread));
    let set = task.map_or(Set::FIRST, |task| task.ns);
    let bits = bits(k, creds, &set, kind);
    let result = match bits & mask == mask {
        false => Err(Errno::EACCES),
        true if mask & MAY_WRITE != 0 && is_read_only(k, creds, &set, kind) => Err(Errno::EROFS),
        true => Ok(()),
    };
    Some(result)
}

/// The permission bits that somebody has for a setting (`struct ctl_table_root`, `permissions`).
fn bits(k: &Kernel, creds: &Creds, set: &Set, kind: Kind) -> u32 {
    let mode = kind.mode();
    // Where a namespace has no root, it is that of the first one.
    let is_root = |ns| creds.euid == user::take_uid(k, k.ns.owner(ns), 0).unwrap_or(0);
    let in_root = |ns| creds.in_group(user::take_gid(k, k.ns.owner(ns), 0).unwrap_or(0));
    let over = |ns, cap| user::capable(k, creds, k.ns.owner(ns), cap);
    let (owns, in_group) = match kind {
        Kind::Limit(_) => (is_root(set.ipc), in_root(set.ipc)),
        Kind::Numbers => {
            let owns = is_root(set.pid) || over(set.pid, g::CAP_SYS_ADMIN);
            (owns, in_root(set.pid))
        }
        Kind::Datagrams | Kind::Backlog => {
            let owns = creds.euid == 0 || over(set.net, g::CAP_NET_ADMIN);
            (owns, creds.in_group(0))
        }
        // Others may read, whoever they are.
        Kind::Count(_) => (
            user::capable(k, creds, creds.user_ns, g::CAP_SYS_RESOURCE),
            false,
        ),
        _ => (creds.euid == 0, creds.in_group(0)),
    };
    match (owns, in_group) {
        (true, _) => mode >> 6 & 7,
        (false, true) => mode >> 3 & 7,
        (false, false) => mode & 7,
    }
}

/// To whom a setting belongs for somebody: to root of the namespace that it is of (`set_ownership` of
/// `struct ctl_table_root`), as far as that is anybody.
pub(super) fn owner(k: &Kernel, who: &Who, place: usize) -> Option<(u32, u32)> {
    let (path, kind) = PATHS[place];
    let set = k.tasks.get(who.viewer()?)?.ns;
    let ns = match kind {
        Kind::Limit(_) => set.ipc,
        Kind::Numbers => set.pid,
        _ if path.starts_with("sys/net/") => set.net,
        _ => return None,
    };
    let owner = k.ns.owner(ns);
    let uid = user::take_uid(k, owner, 0).unwrap_or(0);
    Some((uid, user::take_gid(k, owner, 0).unwrap_or(0)))
}

/// Whether a setting is as in a container whose `/proc/sys` is read-only. Who has a namespace for themselves
/// could have mounted their own.
fn is_read_only(k: &Kernel, creds: &Creds, set: &Set, kind: Kind) -> bool {
    if k.env.privileged {
        return false;
    }
    let over = |ns: NsId, cap| user::capable(k, creds, k.ns.owner(ns), cap);
    !match kind {
        Kind::Name(_) => over(set.uts, g::CAP_SYS_ADMIN),
        Kind::Limit(_) => over(set.ipc, g::CAP_SYS_ADMIN),
        Kind::Numbers | Kind::Noexec => over(set.pid, g::CAP_SYS_ADMIN),
        Kind::Datagrams | Kind::Backlog => over(set.net, g::CAP_NET_ADMIN),
        Kind::Count(_) => user::capable(k, creds, creds.user_ns, g::CAP_SYS_RESOURCE),
        _ => false,
    }
}

/// Writes a setting; gives how many bytes were taken, as Linux passes over what follows the last number.
/// `EPERM` for who could not open it: whoever did may have passed it on, or have other rights by now.
pub(super) fn write(
    cx: &mut Cx<'_, '_>,
    id: FileId,
    place: usize,
    asked: Option<u64>,
    data: &[u8],
) -> Result<u64, Errno> {
    let who = &cx.who();
    let kind = PATHS[place].1;
    let allowed = permission(cx.k, who, place, MAY_WRITE);
    if allowed.is_some_and(|allowed| allowed.is_err()) {
        return Err(Errno::EPERM);
    }
    let at = asked.unwrap_or(file::at(cx.k, id).offset);
    let taken = match kind {
        Kind::Name(domain) => {
            set_name(cx, domain, at, data);
            data.len()
        }
        kind if !is_shown(kind) && !matches!(kind, Kind::Value(_) | Kind::Tunable(_)) => {
            return Err(Errno::EIO);
        }
        // Numbers are written at the beginning.
        _ if at > 0 || data.is_empty() => data.len(),
        Kind::Value(_) | Kind::Tunable(_) => {
            keep(cx, place, data)?;
            data.len()
        }
        _ => {
            let taken = set_numbers(cx, kind, data)?;
            // Linux leaves the file where it is.
            if matches!(kind, Kind::Number(setting) if setting.form() == Form::Unsigned) {
                return Ok(data.len() as u64);
            }
            taken
        }
    };
    if asked.is_none() {
        file::at_mut(cx.k, id).offset = at + taken as u64;
    }
    Ok(taken as u64)
}

/// Sets the name of the host or its domain.
fn set_name(cx: &mut Cx<'_, '_>, domain: bool, at: u64, data: &[u8]) {
    let ns = cx.task().ns.uts;
    let uts = cx.k.ns.uts(ns);
    let old = match domain {
        true => &uts.domainname,
        false => &uts.hostname,
    };
    let Some(name) = name(old, at, data) else {
        return;
    };
    match domain {
        true => set_uts(cx.k, ns, None, Some(name)),
        false => set_uts(cx.k, ns, Some(name), None),
    }
}

/// Sets numbers; gives how many bytes were taken. `EINVAL`: those before the wrong one are set.
fn set_numbers(cx: &mut Cx<'_, '_>, kind: Kind, data: &[u8]) -> Result<usize, Errno> {
    if matches!(kind, Kind::Noexec) && !cx.capable_over(cx.task().ns.pid, g::CAP_SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    let task = cx.task();
    let (ns, user_ns) = (task.ns, task.creds.user_ns);
    let int = |value: i128, least: i32| match i32::try_from(value) {
        Ok(value) if value >= least => Ok(value),
        _ => Err(Errno::EINVAL),
    };
    let count = match kind {
        Kind::Limit(setting) => setting.count(),
        _ => 1,
    };
    let is_long = match kind {
        Kind::Number(setting) => setting.form() != Form::Int,
        Kind::Limit(setting) => setting.is_long(),
        Kind::Count(_) | Kind::CountOfAll(_) => true,
        _ => false,
    };
    let (values, taken) = numbers(data, count, !is_long);
    match kind {
        Kind::Limit(setting) => {
            let limits = &mut cx.k.ipc.objects_mut(ns.ipc).limits;
            setting.set(limits, &values)?;
            if setting == limits::SEGMENTS_GO && limits.get(setting) != 0 {
                shm::destroy_orphans(cx, ns.ipc)?;
            }
            return taken;
        }
        _ if taken.is_err() => return taken,
        _ => {}
    }
    let &[value] = &values[..] else {
        return taken;
    };
    match kind {
        Kind::Number(setting) => {
            cx.k.env.settings.set(setting, value)?;
            if setting == settings::TASKS {
                cx.k.tasks.set_most(value as usize);
            }
        }
        Kind::Count(what) => cx.k.ns.set_limit(user_ns, what, int(value, 0)? as u32),
        Kind::CountOfAll(what) => cx.k.ns.set_limit(USER, what, int(value, 0)? as u32),
        Kind::Datagrams => cx.k.ns.net_mut(ns.net).datagrams = int(value, i32::MIN)?,
        Kind::Backlog => cx.k.ns.net_mut(ns.net).backlog = int(value, 0)?,
        Kind::Numbers => pid::set_end(cx.k, ns.pid, value)?,
        Kind::Noexec => pid::set_noexec(cx.k, ns.pid, value)?,
        _ => return Err(Errno::EIO),
    }
    taken
}

/// A value that nothing goes by stays as it is: `EINVAL` for another one.
fn keep(cx: &mut Cx<'_, '_>, place: usize, data: &[u8]) -> Result<(), Errno> {
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
    if words(&now).starts_with(&words(data)) {
        return Ok(());
    }
    let line = format!(
        "/proc/{}: the kernel has one value for this",
        PATHS[place].0
    );
    cx.log(Level::Warn, line);
    Err(Errno::EINVAL)
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

/// Up to `count` numbers as C writes them, with blanks between, and how many bytes they are. `EINVAL` where
/// there is something else, or nothing.
fn numbers(data: &[u8], count: usize, signed: bool) -> (Vec<i128>, Result<usize, Errno>) {
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
        match number(&data[at..at + len], signed) {
            Some(value) => values.push(value),
            None => return (values, Err(Errno::EINVAL)),
        }
        at += len;
        at += blanks(at);
    }
    let taken = match values.is_empty() {
        true => Err(Errno::EINVAL),
        false => Ok(at),
    };
    (values, taken)
}

fn number(text: &[u8], signed: bool) -> Option<i128> {
    let text = core::str::from_utf8(text).ok()?;
    let (negative, digits) = match text.strip_prefix('-') {
        Some(_) if !signed => return None,
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let hex = digits.strip_prefix("0x").or(digits.strip_prefix("0X"));
    let (digits, radix) = match hex {
        Some(digits) => (digits, 16),
        None if digits.len() > 1 && digits.starts_with('0') => (digits, 8),
        None => (digits, 10),
    };
    if !digits.starts_with(|first: char| first.is_digit(radix)) {
        return None;
    }
    let value = i128::from(u64::from_str_radix(digits, radix).ok()?);
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_taken_as_linux_takes_them() {
        for (text, count, values, taken) in [
            (&b" 5 "[..], 1, &[5][..], 3),
            (b"1 2", 1, &[1], 2),
            (b"1 2 3 4 5", 4, &[1, 2, 3, 4], 8),
            (b"0x20\n", 1, &[32], 5),
            (b"0X2f", 1, &[47], 4),
            (b"010", 1, &[8], 3),
            (b"-010", 1, &[-8], 4),
        ] {
            assert_eq!(numbers(text, count, true), (values.to_vec(), Ok(taken)));
        }
        for text in [
            &b"x"[..],
            b"",
            b" \n",
            b"5\0",
            b"5x",
            b"08",
            b"0x",
            b"-",
            b"--1",
            b"+1",
            b"99999999999999999999999",
        ] {
            let none = (Vec::new(), Err(Errno::EINVAL));
            assert_eq!(numbers(text, 1, true), none, "{text:?}");
        }
        assert_eq!(numbers(b"-0", 1, false).1, Err(Errno::EINVAL));
        assert_eq!(
            numbers(b"1 x", 2, true),
            (Vec::from([1]), Err(Errno::EINVAL))
        );
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
