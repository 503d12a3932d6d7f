//! Prints system calls as strace(1) does, from the table: arguments that go in are read when the call is made, those that come out when
//! it returns.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;

use super::args::ArgKind;
use super::{Entry, table};
use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::event::Output;
use crate::kernel::Cx;

/// Most bytes of a string or buffer that are shown.
const STRING_MAX: usize = 32;
/// Most strings of a vector that are shown.
const VECTOR_MAX: usize = 32;

/// Arguments as text; `None` is printed when the call returns.
pub(crate) type Args = Vec<Option<String>>;

/// The text of the arguments that go in.
pub(crate) fn enter(cx: &mut Cx<'_, '_>, number: u64, args: &[u64; 6]) -> Args {
    let Some(entry) = table::find(number) else {
        return args.iter().map(|arg| Some(format!("{arg:#x}"))).collect();
    };
    (0..entry.params.len())
        .map(|index| {
            (entry.params[index].kind != ArgKind::OutBuf)
                .then(|| argument(cx, entry, args, index, 0))
        })
        .collect()
}

/// Emits the line of a call that has returned `result`, or that does not return.
pub(crate) fn exit(
    cx: &mut Cx<'_, '_>,
    number: u64,
    args: &[u64; 6],
    texts: Args,
    result: Option<u64>,
) {
    let entry = table::find(number);
    let mut line = match entry {
        Some(entry) => format!("{}(", entry.name),
        None => format!("syscall_{number:#x}("),
    };
    let returned = result.map_or(-1, |value| value as i64);
    for (index, text) in texts.into_iter().enumerate() {
        let separator = if index == 0 { "" } else { ", " };
        let text = match (text, entry) {
            (Some(text), _) => text,
            (None, Some(entry)) => argument(cx, entry, args, index, returned.max(0) as usize),
            (None, None) => String::new(),
        };
        let _ = write!(line, "{separator}{text}");
    }
    line.push_str(") = ");
    match result {
        None => line.push('?'),
        Some(value) => match -(value as i64) {
            errno @ 1..=4095 => {
                let _ = write!(line, "-1 {}", Errno::from_number(errno as i32));
            }
            _ if shows_hex(entry) => {
                let _ = write!(line, "{value:#x}");
            }
            _ => {
                let _ = write!(line, "{}", value as i64);
            }
        },
    }
    let tid = cx.k.tasks.get(cx.thread).map_or(0, |task| task.tid);
    cx.k.emit(Output::Strace { tid, line });
}

/// Calls whose result is an address.
fn shows_hex(entry: Option<&Entry>) -> bool {
    entry.is_some_and(|entry| matches!(entry.name, "mmap" | "brk" | "mremap"))
}

fn argument(
    cx: &mut Cx<'_, '_>,
    entry: &Entry,
    args: &[u64; 6],
    index: usize,
    returned: usize,
) -> String {
    let value = args[index];
    let next = args.get(index + 1).copied().unwrap_or(0) as usize;
    match entry.params[index].kind {
        ArgKind::Int | ArgKind::Fd | ArgKind::Pid => (value as i32).to_string(),
        ArgKind::Uint => value.to_string(),
        ArgKind::Id => match value as u32 {
            u32::MAX => "-1".into(),
            id => id.to_string(),
        },
        ArgKind::Size => value.to_string(),
        ArgKind::Offset => (value as i64).to_string(),
        ArgKind::Hex => match value {
            0 => "0".into(),
            value => format!("{value:#x}"),
        },
        ArgKind::Addr => match value {
            0 => "NULL".into(),
            value => format!("{value:#x}"),
        },
        ArgKind::DirFd => match value as i32 {
            g::AT_FDCWD => "AT_FDCWD".into(),
            fd => fd.to_string(),
        },
        ArgKind::Path | ArgKind::Str => string(cx, value),
        ArgKind::InBuf => bytes(cx, value, next),
        ArgKind::OutBuf => bytes(cx, value, returned),
        ArgKind::StrVec => vector(cx, value),
        ArgKind::Mode => match value as u32 & 0xffff {
            0 => "0".into(),
            mode => format!("{mode:#o}").replace("0o", "0"),
        },
        ArgKind::OpenFlags => open_flags(value as u32),
        ArgKind::AtFlags => flags(value, AT_FLAGS, "0"),
        ArgKind::ProtFlags => flags(value, PROT_FLAGS, "PROT_NONE"),
        ArgKind::MapFlags => flags(value, MAP_FLAGS, "0"),
        ArgKind::CloneFlags => {
            let signal = match value & 0xff {
                0 => String::new(),
                number => format!("|{}", signal_name(number)),
            };
            format!("{}{signal}", flags(value & !0xff, CLONE_FLAGS, "0"))
        }
        ArgKind::Signal => signal_name(value),
        ArgKind::Whence => named(value, WHENCE, "whence"),
        ArgKind::Fcntl => named(value, FCNTL, "F"),
        ArgKind::Clock => named(value, CLOCKS, "clock"),
    }
}

/// A NUL-terminated string in quotes, cut at [`STRING_MAX`] unless it is a path.
fn string(cx: &mut Cx<'_, '_>, addr: u64) -> String {
    if addr == 0 {
        return "NULL".into();
    }
    match cx.read_path(addr) {
        Ok(path) => quote(&path, false),
        Err(_) => format!("{addr:#x}"),
    }
}

fn bytes(cx: &mut Cx<'_, '_>, addr: u64, len: usize) -> String {
    if addr == 0 {
        return "NULL".into();
    }
    let mut buf = [0; STRING_MAX];
    let shown = &mut buf[..len.min(STRING_MAX)];
    match cx.read_user(addr, shown) {
        Ok(()) => quote(shown, len > STRING_MAX),
        Err(_) => format!("{addr:#x}"),
    }
}

fn vector(cx: &mut Cx<'_, '_>, addr: u64) -> String {
    let mut text = String::from("[");
    for index in 0..VECTOR_MAX as u64 {
        let Some(Ok(pointer)) = addr.checked_add(index * 8).map(|at| cx.read_obj::<u64>(at)) else {
            return format!("{addr:#x}");
        };
        if pointer == 0 {
            text.push(']');
            return text;
        }
        if index > 0 {
            text.push_str(", ");
        }
        text.push_str(&string(cx, pointer));
    }
    text.push_str(", ...]");
    text
}

fn quote(bytes: &[u8], cut: bool) -> String {
    let mut text = String::from("\"");
    for &byte in bytes {
        let _ = match byte {
            b'\n' => text.write_str("\\n"),
            b'\t' => text.write_str("\\t"),
            b'\r' => text.write_str("\\r"),
            b'"' => text.write_str("\\\""),
            b'\\' => text.write_str("\\\\"),
            0x20..=0x7e => text.write_char(char::from(byte)),
            _ => write!(text, "\\{byte:o}"),
        };
    }
    text.push('"');
    if cut {
        text.push_str("...");
    }
    text
}

fn flags(value: u64, names: &[(u64, &str)], none: &str) -> String {
    let mut left = value;
    let mut text = String::new();
    for &(bits, name) in names {
        if bits != 0 && left & bits == bits {
            left &= !bits;
            if !text.is_empty() {
                text.push('|');
            }
            text.push_str(name);
        }
    }
    if left != 0 {
        let bar = if text.is_empty() { "" } else { "|" };
        let _ = write!(text, "{bar}{left:#x}");
    } else if text.is_empty() {
        text.push_str(none);
    }
    text
}

fn open_flags(value: u32) -> String {
    let access = match value & g::O_ACCMODE {
        g::O_RDONLY => "O_RDONLY",
        g::O_WRONLY => "O_WRONLY",
        g::O_RDWR => "O_RDWR",
        _ => "O_ACCMODE",
    };
    match value & !g::O_ACCMODE {
        0 => access.into(),
        rest => format!("{access}|{}", flags(u64::from(rest), OPEN_FLAGS, "0")),
    }
}

fn named(value: u64, names: &[(u64, &str)], kind: &str) -> String {
    match names.iter().find(|&&(number, _)| number == value) {
        Some(&(_, name)) => name.into(),
        None => format!("{value:#x} /* {kind}_??? */"),
    }
}

/// The name of a signal (`SIGINT`), or its number.
pub(crate) fn signal_name(number: u64) -> String {
    match SIGNALS.get(number.wrapping_sub(1) as usize) {
        Some(name) => format!("SIG{name}"),
        None if (32..=64).contains(&number) => format!("SIGRT_{}", number - 32),
        None => number.to_string(),
    }
}

static SIGNALS: &[&str] = &[
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

macro_rules! names {
    ($list:ident: $($name:ident)*) => {
        static $list: &[(u64, &str)] = &[$((g::$name as u64, stringify!($name))),*];
    };
}

// Flags of several bits stand before those they contain.
names!(OPEN_FLAGS: O_TMPFILE O_SYNC O_CREAT O_EXCL O_NOCTTY O_TRUNC O_APPEND O_NONBLOCK O_DSYNC FASYNC O_DIRECT
    O_LARGEFILE O_DIRECTORY O_NOFOLLOW O_NOATIME O_CLOEXEC O_PATH);
names!(AT_FLAGS: AT_SYMLINK_NOFOLLOW AT_REMOVEDIR AT_SYMLINK_FOLLOW AT_NO_AUTOMOUNT AT_EMPTY_PATH AT_STATX_FORCE_SYNC
    AT_STATX_DONT_SYNC);
names!(PROT_FLAGS: PROT_READ PROT_WRITE PROT_EXEC PROT_GROWSDOWN PROT_GROWSUP);
names!(MAP_FLAGS: MAP_SHARED_VALIDATE MAP_SHARED MAP_PRIVATE MAP_FIXED MAP_ANONYMOUS MAP_GROWSDOWN MAP_DENYWRITE
    MAP_EXECUTABLE MAP_LOCKED MAP_NORESERVE MAP_POPULATE MAP_NONBLOCK MAP_STACK MAP_HUGETLB MAP_SYNC
    MAP_FIXED_NOREPLACE);
names!(CLONE_FLAGS: CLONE_VM CLONE_FS CLONE_FILES CLONE_SIGHAND CLONE_PIDFD CLONE_PTRACE CLONE_VFORK CLONE_PARENT
    CLONE_THREAD CLONE_NEWNS CLONE_SYSVSEM CLONE_SETTLS CLONE_PARENT_SETTID CLONE_CHILD_CLEARTID CLONE_DETACHED
    CLONE_UNTRACED CLONE_CHILD_SETTID CLONE_NEWCGROUP CLONE_NEWUTS CLONE_NEWIPC CLONE_NEWUSER CLONE_NEWPID CLONE_NEWNET
    CLONE_IO);
names!(WHENCE: SEEK_SET SEEK_CUR SEEK_END SEEK_DATA SEEK_HOLE);
names!(FCNTL: F_DUPFD F_GETFD F_SETFD F_GETFL F_SETFL F_GETLK F_SETLK F_SETLKW F_SETOWN F_GETOWN F_SETSIG F_GETSIG
    F_OFD_GETLK F_OFD_SETLK F_OFD_SETLKW F_SETLEASE F_GETLEASE F_DUPFD_CLOEXEC F_SETPIPE_SZ F_GETPIPE_SZ F_ADD_SEALS
    F_GET_SEALS);
names!(CLOCKS: CLOCK_REALTIME CLOCK_MONOTONIC CLOCK_PROCESS_CPUTIME_ID CLOCK_THREAD_CPUTIME_ID CLOCK_MONOTONIC_RAW
    CLOCK_REALTIME_COARSE CLOCK_MONOTONIC_COARSE CLOCK_BOOTTIME CLOCK_REALTIME_ALARM CLOCK_BOOTTIME_ALARM CLOCK_TAI);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_show_names_and_leftover_bits() {
        assert_eq!(flags(0, PROT_FLAGS, "PROT_NONE"), "PROT_NONE");
        assert_eq!(flags(5, PROT_FLAGS, "PROT_NONE"), "PROT_READ|PROT_EXEC");
        assert_eq!(
            flags(0x10_0001, PROT_FLAGS, "PROT_NONE"),
            "PROT_READ|0x100000"
        );
        assert_eq!(
            open_flags(g::O_RDWR | g::O_CREAT | g::O_CLOEXEC),
            "O_RDWR|O_CREAT|O_CLOEXEC"
        );
        assert_eq!(open_flags(g::O_TMPFILE | g::O_WRONLY), "O_WRONLY|O_TMPFILE");
        assert_eq!(
            flags(
                g::MAP_PRIVATE as u64 | g::MAP_ANONYMOUS as u64,
                MAP_FLAGS,
                "0"
            ),
            "MAP_PRIVATE|MAP_ANONYMOUS"
        );
    }

    #[test]
    fn strings_are_quoted_as_c_does() {
        assert_eq!(quote(b"a\n\"\x01\xff", false), "\"a\\n\\\"\\1\\377\"");
        assert_eq!(quote(b"abc", true), "\"abc\"...");
    }

    #[test]
    fn signals_have_names() {
        assert_eq!(signal_name(9), "SIGKILL");
        assert_eq!(signal_name(34), "SIGRT_2");
        assert_eq!(signal_name(0), "0");
    }
}
