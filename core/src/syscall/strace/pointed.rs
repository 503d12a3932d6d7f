//! What lies at an address: structures, lists, and the values in them.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;

use super::line::{pointer, quote};
use super::show::{EndedCall, LIST_MAX, Way};
use super::values::{
    caps, control_modes, device, entries, fd_set, file_mode, limit, mode_bits, number, open_flags,
    seconds, signal_action, signal_info, signal_set, signed, wait_status,
};
use super::{Count, Scalar, Shape, What, names, signal_name};
use crate::abi::raw::general as g;
use crate::task::signal::SigInfo;

/// Most bytes that are looked at to count entries of a directory.
const ENTRIES_MAX: u64 = 64 << 10;

impl EndedCall<'_, '_, '_> {
    pub(super) fn count(&self, count: Count, index: usize) -> u64 {
        match count {
            Count::Of(number) => number,
            Count::Next => self.arg(index + 1),
            Count::Result => self.result.filter(|_| !self.failed()).unwrap_or(0),
        }
    }

    /// What lies at an address.
    pub(super) fn pointed(&mut self, what: What, index: usize, way: Way) -> String {
        let addr = self.args[index];
        if addr == 0 {
            return "NULL".into();
        }
        match what {
            What::Bytes(Count::Next) => self.bytes_text(addr, self.arg(index + 1), way),
            What::Bytes(count) => {
                let len = self.count(count, index);
                let len = match way {
                    // The name of a directory ends with a NUL that counts.
                    Way::Out if self.ends_with_nul(index) => len.saturating_sub(1),
                    _ => len,
                };
                self.bytes_text(addr, len, way)
            }
            What::Shapes(shape, count) => {
                let count = self.count(count, index);
                self.shapes(addr, count, shape, way)
            }
            What::Values(kind, count) => {
                let count = self.count(count, index);
                self.list(addr, count, kind, way)
            }
            what => {
                let text = self.single(what, index, way);
                text.unwrap_or_else(|| pointer(addr))
            }
        }
    }

    /// getcwd(2) counts the NUL.
    pub(super) fn ends_with_nul(&self, index: usize) -> bool {
        index == 0
    }

    pub(super) fn single(&mut self, what: What, index: usize, way: Way) -> Option<String> {
        let addr = self.args[index];
        let next = self.arg(index + 1);
        Some(match what {
            What::Shape(shape) => {
                let data = self.bytes(addr, u64::from(shape.size), way)?;
                self.shape(shape, &data)
            }
            What::Value(kind, brackets) => {
                let data = self.bytes(addr, kind.size() as u64, way)?;
                let text = self.scalar(kind, &data);
                match brackets {
                    true => format!("[{text}]"),
                    false => text,
                }
            }
            What::Stat => {
                let data = self.bytes(addr, 144, way)?;
                self.stat(&data)
            }
            What::SignalSet => signal_set(number(&self.bytes(addr, 8, way)?, 0, 8)),
            What::SignalAction => signal_action(&self.bytes(addr, 32, way)?),
            What::SignalInfo => {
                let mut bytes = [0; 48];
                bytes.copy_from_slice(&self.bytes(addr, 48, way)?);
                signal_info(SigInfo::from_bytes(bytes[0], &bytes))
            }
            What::PollFds => self.poll_fds(addr, next, way)?,
            What::FdSet => {
                let count = self.arg(0).min(1024);
                fd_set(&self.bytes(addr, count.div_ceil(64) * 8, way)?, count)
            }
            What::WaitStatus => match self.result {
                Some(0) => pointer(addr),
                _ => format!(
                    "[{}]",
                    wait_status(signed(&self.bytes(addr, 4, way)?, 0) as u32)
                ),
            },
            What::Caps => {
                let data = self.bytes(addr, 24, way)?;
                let set = |at| number(&data, at, 4) | number(&data, at + 12, 4) << 32;
                format!(
                    "{{effective={}, permitted={}, inheritable={}}}",
                    caps(set(0)),
                    caps(set(4)),
                    caps(set(8))
                )
            }
            What::Cpus => {
                // Length and mask, in this order; what is read is as long as the result.
                let len = match way {
                    Way::In => self.arg(1),
                    Way::Out => self.result.unwrap_or(0),
                };
                let data = self.bytes(addr, len.min(128), way)?;
                fd_set(&data, data.len() as u64 * 8)
            }
            What::Entries => {
                let len = self.result.unwrap_or(0);
                let entries = match len <= ENTRIES_MAX {
                    true => self.bytes(addr, len, way).map(|data| entries(&data)),
                    false => None,
                };
                match entries {
                    Some(count) => format!(
                        "{addr:#x} /* {count} entr{} */",
                        if count == 1 { "y" } else { "ies" }
                    ),
                    None => pointer(addr),
                }
            }
            What::OpenHow => {
                let data = self.bytes(addr, 24, way)?;
                let flags = number(&data, 0, 8);
                let mode = match flags as u32 & g::O_CREAT {
                    0 => String::new(),
                    _ => format!(", mode={}", mode_bits(number(&data, 8, 8) as u32)),
                };
                let resolve = names::RESOLVE.flags(number(&data, 16, 8));
                format!(
                    "{{flags={}{mode}, resolve={resolve}}}",
                    open_flags(flags as u32)
                )
            }
            What::Iovec => {
                let limit = match way {
                    Way::In => u64::MAX,
                    Way::Out => self.result.unwrap_or(0),
                };
                self.iovec(addr, next, limit, way)?
            }
            What::Address => {
                // On the way out the length is what lies at the next argument.
                let len = match way {
                    Way::In => next as u32,
                    Way::Out => number(&self.bytes(next, 4, Way::Out)?, 0, 4) as u32,
                };
                self.address(addr, len, way)?
            }
            What::Message => {
                let limit = match way {
                    Way::In => u64::MAX,
                    Way::Out => self.result.unwrap_or(0),
                };
                self.message(addr, limit, way)?
            }
            What::Messages => {
                let count = match way {
                    Way::In => next,
                    Way::Out => self.result.unwrap_or(0),
                };
                self.messages(addr, count, way)?
            }
            What::SocketOption => self.socket_option(addr, way)?,
            What::Bytes(_) | What::Shapes(..) | What::Values(..) => return None,
        })
    }

    pub(super) fn list(&mut self, addr: u64, count: u64, kind: Scalar, way: Way) -> String {
        let size = kind.size() as u64;
        let shown = count.min(LIST_MAX);
        let Some(data) = self.bytes(addr, shown * size, way).filter(|_| addr != 0) else {
            return pointer(addr);
        };
        let mut texts = Vec::new();
        for part in data.chunks(size as usize) {
            texts.push(self.scalar(kind, part));
        }
        if count > shown {
            texts.push("...".into());
        }
        format!("[{}]", texts.join(", "))
    }

    pub(super) fn shapes(&mut self, addr: u64, count: u64, shape: &Shape, way: Way) -> String {
        let size = u64::from(shape.size);
        let shown = count.min(LIST_MAX);
        let Some(data) = self.bytes(addr, shown * size, way) else {
            return pointer(addr);
        };
        let mut texts = Vec::new();
        for part in data.chunks(size as usize) {
            texts.push(self.shape(shape, part));
        }
        if count > shown {
            texts.push("...".into());
        }
        format!("[{}]", texts.join(", "))
    }

    /// The fields of a structure.
    pub(super) fn shape(&mut self, shape: &Shape, data: &[u8]) -> String {
        let full = self.style.full;
        let mut texts = Vec::new();
        for field in shape.fields.iter().filter(|field| full || field.always) {
            let at = usize::from(field.at);
            let part = data.get(at..at + field.kind.size()).unwrap_or_default();
            texts.push(format!("{}={}", field.name, self.scalar(field.kind, part)));
        }
        if !full && shape.fields.iter().any(|field| !field.always) {
            texts.push("...".into());
        }
        format!("{{{}}}", texts.join(", "))
    }

    pub(super) fn scalar(&mut self, kind: Scalar, data: &[u8]) -> String {
        let value = number(data, 0, kind.size().min(8));
        match kind {
            Scalar::U8 | Scalar::U16 | Scalar::U32 | Scalar::U64 => value.to_string(),
            Scalar::I16 => (value as i16).to_string(),
            Scalar::I32 | Scalar::Fd32 => (value as i32).to_string(),
            Scalar::I64 => (value as i64).to_string(),
            Scalar::X64 => match value {
                0 => "0".into(),
                value => format!("{value:#x}"),
            },
            Scalar::Pointer => pointer(value),
            Scalar::Mode16 => file_mode(value as u32),
            Scalar::Flags16(names) | Scalar::Flags32(names) | Scalar::Flags64(names) => {
                names.flags(value)
            }
            Scalar::One16(names) | Scalar::One32(names) | Scalar::One64(names) => names.one(value),
            Scalar::Signal => signal_name(u64::from(value as u32)),
            Scalar::Timespec => seconds(data, "tv_nsec"),
            Scalar::FileTime => match number(data, 8, 8) {
                0x3fff_ffff => "UTIME_NOW".into(),
                0x3fff_fffe => "UTIME_OMIT".into(),
                _ => seconds(data, "tv_nsec"),
            },
            Scalar::Timeval => seconds(data, "tv_usec"),
            Scalar::Limit => limit(value),
            Scalar::Text(_) => {
                let end = data.iter().position(|&byte| byte == 0);
                quote(&data[..end.unwrap_or(data.len())], usize::MAX)
            }
            Scalar::Words(_) => {
                let words: Vec<_> = data
                    .chunks(8)
                    .map(|word| number(word, 0, 8).to_string())
                    .collect();
                format!("[{}]", words.join(", "))
            }
            Scalar::Fsid => format!(
                "{{val=[{:#x}, {:#x}]}}",
                number(data, 0, 4),
                number(data, 4, 4)
            ),
            Scalar::EpollData => format!("{{u32={}, u64={value}}}", value as u32),
            Scalar::SigVal => format!(
                "{{sival_int={}, sival_ptr={}}}",
                value as i32,
                pointer(value)
            ),
            Scalar::Control => control_modes(value),
            Scalar::CapVersion => match value {
                0x2008_0522 => "_LINUX_CAPABILITY_VERSION_3".into(),
                0x2007_1026 => "_LINUX_CAPABILITY_VERSION_2".into(),
                0x1998_0330 => "_LINUX_CAPABILITY_VERSION_1".into(),
                value => format!("{value:#x}"),
            },
        }
    }

    pub(super) fn stat(&self, data: &[u8]) -> String {
        let mode = number(data, 24, 4) as u32;
        let device = |at| {
            let dev = number(data, at, 8);
            device(dev)
        };
        let size = match mode & g::S_IFMT {
            g::S_IFCHR | g::S_IFBLK => format!("st_rdev={}", device(40)),
            _ => format!("st_size={}", number(data, 48, 8)),
        };
        let mode = file_mode(mode);
        if !self.style.full {
            return format!("{{st_mode={mode}, {size}, ...}}");
        }
        let mut text = format!(
            "{{st_dev={}, st_ino={}, st_mode={mode}, st_nlink={}, st_uid={}, st_gid={}, st_blksize={}, st_blocks={}, {size}",
            device(0),
            number(data, 8, 8),
            number(data, 16, 8),
            number(data, 28, 4),
            number(data, 32, 4),
            number(data, 56, 8),
            number(data, 64, 8)
        );
        for (name, at) in [("atime", 72), ("mtime", 88), ("ctime", 104)] {
            let (sec, nsec) = (number(data, at, 8) as i64, number(data, at + 8, 8));
            let _ = write!(text, ", st_{name}={sec}, st_{name}_nsec={nsec}");
        }
        text.push('}');
        text
    }

    /// `pollfd`s, with the events that are asked for or those that came.
    pub(super) fn poll_fds(&mut self, addr: u64, count: u64, way: Way) -> Option<String> {
        let shown = count.min(LIST_MAX);
        let data = self.bytes(addr, shown * 8, way)?;
        let mut texts = Vec::new();
        for part in data.chunks(8) {
            let fd = signed(part, 0);
            let (events, came) = (number(part, 4, 2), number(part, 6, 2));
            match way == Way::In {
                true if fd < 0 => texts.push(format!("{{fd={fd}}}")),
                true => texts.push(format!("{{fd={fd}, events={}}}", names::POLL.flags(events))),
                false if came != 0 => {
                    texts.push(format!("{{fd={fd}, revents={}}}", names::POLL.flags(came)));
                }
                false => {}
            }
        }
        if count > shown {
            texts.push("...".into());
        }
        Some(format!("[{}]", texts.join(", ")))
    }
}

impl Scalar {
    pub(super) fn size(self) -> usize {
        match self {
            Scalar::U8 => 1,
            Scalar::I16 | Scalar::U16 | Scalar::Mode16 | Scalar::Flags16(_) | Scalar::One16(_) => 2,
            Scalar::I32
            | Scalar::U32
            | Scalar::Fd32
            | Scalar::Flags32(_)
            | Scalar::One32(_)
            | Scalar::Signal
            | Scalar::Control
            | Scalar::CapVersion => 4,
            Scalar::I64
            | Scalar::U64
            | Scalar::X64
            | Scalar::Pointer
            | Scalar::Flags64(_)
            | Scalar::One64(_)
            | Scalar::Limit
            | Scalar::Fsid
            | Scalar::EpollData
            | Scalar::SigVal => 8,
            Scalar::Timespec | Scalar::FileTime | Scalar::Timeval => 16,
            Scalar::Text(len) => usize::from(len),
            Scalar::Words(count) => 8 * usize::from(count),
        }
    }
}
