//! A call and its arguments, as text.

use alloc::format;
use alloc::string::{String, ToString};

use super::line::pointer;
use super::values::{clone_flags, mode_bits, open_flags};
use super::{Entry, Form, names, signal_name};
use crate::abi::raw::general as g;
use crate::args::ArgKind;
use crate::boot::Strace;
use crate::kernel::Cx;
use crate::mm::tape::Tape;

/// Most elements of a list that are shown.
pub(super) const LIST_MAX: u64 = 32;

/// `EINTR` as a result.
const INTERRUPTED: i64 = -4;

/// Which way bytes went.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    In,
    Out,
}

/// A call that is over, and all that its line is made from.
pub(super) struct EndedCall<'a, 'b, 'p> {
    pub cx: &'a mut Cx<'b, 'p>,
    pub tape: &'a Tape,
    pub style: &'a Strace,
    pub args: [u64; 6],
    /// `None`: it does not return, or is made again.
    pub result: Option<u64>,
    pub files: &'a [(usize, String)],
}

impl EndedCall<'_, '_, '_> {
    /// Name and arguments.
    pub(super) fn call(&mut self, entry: &'static Entry) -> String {
        let mut text = format!("{}(", entry.name);
        if matches!(entry.name, "clone") {
            text += &self.clone_args();
        } else {
            let mut first = true;
            for index in 0..entry.params.len() {
                let Some(argument) = self.argument(entry, index) else {
                    continue;
                };
                if !first {
                    text.push_str(", ");
                }
                first = false;
                text.push_str(&argument);
            }
        }
        text.push(')');
        text
    }

    pub(super) fn failed(&self) -> bool {
        self.result.is_none_or(|value| value > (-4096i64) as u64)
    }

    pub(super) fn arg(&self, index: usize) -> u64 {
        self.args.get(index).copied().unwrap_or(0)
    }

    /// An argument; `None` if the call does not have it with these others.
    pub(super) fn argument(&mut self, entry: &'static Entry, index: usize) -> Option<String> {
        let value = self.args[index];
        let param = &entry.params[index];
        if !self.is_there(entry, index) {
            return None;
        }
        Some(match param.form {
            Form::Kind => self.plain(param.kind, index),
            Form::Path => self.string(value, usize::MAX),
            Form::Flags(names) => names.flags(self.narrow(param.kind, value)),
            Form::OneOf(names) => names.one(self.narrow(param.kind, value)),
            Form::In(what) => self.pointed(what, index, Way::In),
            Form::Out(_) if self.failed() => pointer(value),
            Form::Out(what) => self.pointed(what, index, Way::Out),
            Form::Both(what) => {
                let before = self.pointed(what, index, Way::In);
                let after = match self.failed() {
                    true => before.clone(),
                    false => self.pointed(what, index, Way::Out),
                };
                match (before.strip_suffix(']'), after.strip_prefix('[')) {
                    _ if before == after => before,
                    (Some(from), Some(to)) => format!("{from} => {to}"),
                    _ => after,
                }
            }
            Form::Left(what) => match self.result.map(|value| value as i64) {
                Some(INTERRUPTED) => self.pointed(what, index, Way::Out),
                _ => pointer(value),
            },
            Form::InCounted(kind) => {
                let count = self.arg(index.wrapping_sub(1));
                self.list(value, count, kind, Way::In)
            }
            Form::Special(special) => self.special(special, index),
        })
    }

    /// Whether a call with these arguments takes this one.
    pub(super) fn is_there(&self, entry: &Entry, index: usize) -> bool {
        let creates = |flags: u64| {
            let flags = flags as u32;
            flags & g::O_CREAT != 0 || flags & g::O_TMPFILE == g::O_TMPFILE
        };
        let command = self.arg(1) as u32;
        match (entry.name, entry.params[index].name) {
            ("open", "mode") => creates(self.arg(1)),
            ("openat", "mode") => creates(self.arg(2)),
            ("mq_open", "mode" | "attr") => creates(self.arg(1)),
            ("fcntl", "arg") => !matches!(
                command,
                g::F_GETFD
                    | g::F_GETFL
                    | g::F_GETOWN
                    | g::F_GETSIG
                    | g::F_GETLEASE
                    | g::F_GETPIPE_SZ
                    | g::F_GET_SEALS
            ),
            ("futex", name) => index < 2 || self.futex_takes(name),
            ("prctl", name) if index > 0 => self.prctl_takes(name),
            ("mremap", "new_address") => {
                self.arg(3) as u32 & (g::MREMAP_FIXED | g::MREMAP_DONTUNMAP) != 0
            }
            ("semctl", "arg") => !matches!(self.arg(2), 0 | 11 | 12 | 14 | 15),
            ("preadv" | "pwritev", "pos_h") => false,
            ("preadv2" | "pwritev2", "pos_h") => false,
            _ => true,
        }
    }

    /// A value cut down to its C type.
    pub(super) fn narrow(&self, kind: ArgKind, value: u64) -> u64 {
        match kind {
            ArgKind::Int | ArgKind::Fd | ArgKind::Pid => i64::from(value as i32) as u64,
            ArgKind::Hex | ArgKind::Addr | ArgKind::Size | ArgKind::Offset => value,
            _ => u64::from(value as u32),
        }
    }

    pub(super) fn plain(&mut self, kind: ArgKind, index: usize) -> String {
        let value = self.args[index];
        match kind {
            ArgKind::Int | ArgKind::Pid => (value as i32).to_string(),
            ArgKind::Fd => format!("{}{}", value as i32, self.file(index)),
            ArgKind::DirFd => match value as i32 {
                g::AT_FDCWD => format!("AT_FDCWD{}", self.file(index)),
                fd => format!("{fd}{}", self.file(index)),
            },
            ArgKind::Uint | ArgKind::Size => value.to_string(),
            ArgKind::Id => match value as u32 {
                u32::MAX => "-1".into(),
                id => id.to_string(),
            },
            ArgKind::Offset => (value as i64).to_string(),
            ArgKind::Hex => match value {
                0 => "0".into(),
                value => format!("{value:#x}"),
            },
            ArgKind::Addr => pointer(value),
            ArgKind::Path => self.string(value, usize::MAX),
            ArgKind::Str => self.string(value, self.style.string_max as usize),
            ArgKind::InBuf => self.bytes_text(value, self.arg(index + 1), Way::In),
            ArgKind::OutBuf => match self.result.filter(|_| !self.failed()) {
                Some(len) => self.bytes_text(value, len, Way::Out),
                None => pointer(value),
            },
            ArgKind::StrVec => self.strings(value),
            ArgKind::Mode => mode_bits(value as u32 & 0xffff),
            ArgKind::OpenFlags => open_flags(value as u32),
            ArgKind::AtFlags => names::AT.flags(u64::from(value as u32)),
            ArgKind::ProtFlags => names::PROT.flags(value),
            ArgKind::MapFlags => names::MAP.flags(value),
            ArgKind::CloneFlags => clone_flags(value),
            ArgKind::Signal => signal_name(u64::from(value as u32)),
            ArgKind::Whence => names::WHENCE.one(u64::from(value as u32)),
            ArgKind::Fcntl => names::FCNTL.one(u64::from(value as u32)),
            ArgKind::Clock => names::CLOCK.one(u64::from(value as u32)),
        }
    }

    /// What a descriptor named when the call was made.
    pub(super) fn file(&self, index: usize) -> &str {
        let mut files = self.files.iter();
        files
            .find(|(at, _)| *at == index)
            .map_or("", |(_, path)| path)
    }
}
