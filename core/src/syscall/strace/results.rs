//! Results, and what sockets give and take.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;

use super::line::{pointer, quote};
use super::show::{EndedCall, Way};
use super::values::{fd_set, number, open_flags};
use super::{Entry, Outcome, Scalar, names, shapes};
use crate::abi::Errno;
use crate::abi::raw::general as g;

/// Most vectors and messages that are shown.
const LIST_MAX: u64 = 16;
/// Longest address of a socket, and control data that are looked at.
const ADDRESS_MAX: u32 = 128;
const CONTROL_MAX: u64 = 1024;

impl EndedCall<'_, '_, '_> {
    /// What a call returned.
    pub(super) fn result(&mut self, text: &mut String, entry: Option<&Entry>, value: u64) {
        if self.failed() {
            let errno = Errno::from_number(-(value as i64) as i32);
            let _ = write!(text, "-1 {} ({})", errno.name(), errno.message());
            return;
        }
        let outcome = entry.map_or(Outcome::Number, |entry| entry.outcome);
        let _ = match outcome {
            Outcome::Number => write!(text, "{}", value as i64),
            Outcome::Hex => write!(text, "{value:#x}"),
            Outcome::Octal => write!(
                text,
                "{}",
                match value {
                    0 => "000".to_string(),
                    value => format!("0{value:o}"),
                }
            ),
            Outcome::Fd => write!(text, "{}{}", value as i64, self.new_file(value)),
            Outcome::Own => {
                text.push_str(&self.own(entry.map_or("", |entry| entry.name), value));
                Ok(())
            }
        };
    }

    /// What a descriptor that the call made names.
    fn new_file(&self, fd: u64) -> String {
        let path = self
            .style
            .paths
            .then(|| super::file_text(self.cx, fd as i32));
        path.flatten().unwrap_or_default()
    }

    fn own(&mut self, name: &str, value: u64) -> String {
        match name {
            "fcntl" => match self.args[1] as u32 {
                g::F_GETFD => match value {
                    0 => "0".into(),
                    value => format!("{value:#x} (flags {})", names::FD.flags(value)),
                },
                g::F_GETFL => format!("{value:#x} (flags {})", open_flags(value as u32)),
                g::F_GET_SEALS => format!("{value:#x} (seals {})", names::SEALS.flags(value)),
                g::F_DUPFD | g::F_DUPFD_CLOEXEC => format!("{value}{}", self.new_file(value)),
                _ => (value as i64).to_string(),
            },
            "sched_getscheduler" => format!("{value} ({})", names::SCHED.flags(value)),
            "poll" | "ppoll" => match value {
                0 => "0 (Timeout)".into(),
                value => {
                    let (addr, count) = (self.args[0], u64::from(self.args[1] as u32));
                    let came = self.poll_fds(addr, count, Way::Out);
                    match came {
                        Some(came) => format!("{value} ({came})"),
                        None => value.to_string(),
                    }
                }
            },
            "select" | "pselect6" => match value {
                0 => "0 (Timeout)".into(),
                value => {
                    let mut texts = Vec::new();
                    // Beyond the table of descriptors the call has written nothing.
                    let span = self.cx.fds().span().next_multiple_of(64) as u64;
                    let count = self.args[0].min(1024).min(span);
                    for (index, name) in [(1, "in"), (2, "out"), (3, "except")] {
                        let addr = self.args[index];
                        let data = match addr {
                            0 => None,
                            addr => self.bytes(addr, count.div_ceil(64) * 8, Way::Out),
                        };
                        let set = data.map(|data| fd_set(&data, count));
                        if let Some(set) = set.filter(|set| set != "[]") {
                            texts.push(format!("{name} {set}"));
                        }
                    }
                    let fraction = match name {
                        "select" => Scalar::Timeval,
                        _ => Scalar::Timespec,
                    };
                    if self.args[4] != 0
                        && let Some(left) = self.bytes(self.args[4], 16, Way::Out)
                    {
                        texts.push(format!("left {}", self.scalar(fraction, &left)));
                    }
                    format!("{value} ({})", texts.join(", "))
                }
            },
            _ => (value as i64).to_string(),
        }
    }

    /// `struct iovec`s and the bytes that they name, at most `limit` of them.
    pub(super) fn iovec(
        &mut self,
        addr: u64,
        count: u64,
        mut limit: u64,
        way: Way,
    ) -> Option<String> {
        let shown = count.min(LIST_MAX);
        let data = self.bytes(addr, shown * 16, Way::In)?;
        let mut texts = Vec::new();
        for part in data.chunks(16) {
            let (base, len) = (number(part, 0, 8), number(part, 8, 8));
            let bytes = self.bytes_text(base, len.min(limit), way);
            limit = limit.saturating_sub(len);
            texts.push(format!("{{iov_base={bytes}, iov_len={len}}}"));
        }
        if count > shown {
            texts.push("...".into());
        }
        Some(format!("[{}]", texts.join(", ")))
    }

    /// An address of a socket.
    pub(super) fn address(&mut self, addr: u64, len: u32, way: Way) -> Option<String> {
        if addr == 0 {
            return Some("NULL".into());
        }
        let data = self.bytes(addr, u64::from(len.min(ADDRESS_MAX)), way)?;
        if data.len() < 2 {
            return Some(pointer(addr));
        }
        let family = number(&data, 0, 2);
        let rest = &data[2..];
        let port = |at: usize| {
            let bytes = rest.get(at..at + 2).unwrap_or(&[0, 0]);
            u16::from_be_bytes([bytes[0], bytes[1]])
        };
        let name = names::AF.one(family);
        Some(match family {
            1 => match rest {
                [] => format!("{{sa_family={name}}}"),
                [0, abstract_name @ ..] => {
                    format!(
                        "{{sa_family={name}, sun_path=@{}}}",
                        quote(abstract_name, usize::MAX)
                    )
                }
                path => {
                    let end = path
                        .iter()
                        .position(|&byte| byte == 0)
                        .unwrap_or(path.len());
                    format!(
                        "{{sa_family={name}, sun_path={}}}",
                        quote(&path[..end], usize::MAX)
                    )
                }
            },
            2 if rest.len() >= 6 => format!(
                "{{sa_family={name}, sin_port=htons({}), sin_addr=inet_addr(\"{}.{}.{}.{}\")}}",
                port(0),
                rest[2],
                rest[3],
                rest[4],
                rest[5]
            ),
            10 if rest.len() >= 22 => {
                let mut octets = [0; 16];
                octets.copy_from_slice(&rest[6..22]);
                let ip = core::net::Ipv6Addr::from(octets);
                format!(
                    "{{sa_family={name}, sin6_port=htons({}), sin6_flowinfo=htonl({}), inet_pton(AF_INET6, \"{ip}\", &sin6_addr), sin6_scope_id={}}}",
                    port(0),
                    u32::from_be_bytes([rest[2], rest[3], rest[4], rest[5]]),
                    number(rest, 22, 4)
                )
            }
            16 if rest.len() >= 10 => format!(
                "{{sa_family={name}, nl_pid={}, nl_groups={:08x}}}",
                number(rest, 2, 4) as i32,
                number(rest, 6, 4)
            ),
            _ => format!("{{sa_family={name}, sa_data={}}}", quote(rest, usize::MAX)),
        })
    }

    /// `struct msghdr`.
    pub(super) fn message(&mut self, addr: u64, limit: u64, way: Way) -> Option<String> {
        let before = self.bytes(addr, 56, Way::In)?;
        // What came out of it stands in the same structure.
        let after = match way {
            Way::In => before.clone(),
            Way::Out => self.bytes(addr, 56, Way::Out)?,
        };
        let (name, name_len) = (number(&before, 0, 8), number(&after, 8, 4) as u32);
        let (iov, iov_len) = (number(&before, 16, 8), number(&before, 24, 8));
        let (control, control_len) = (number(&before, 32, 8), number(&after, 40, 8));
        let flags = number(&after, 48, 4);
        let address = match (name, name_len) {
            (0, _) => "NULL".into(),
            (name, 0) => pointer(name),
            (name, len) => self
                .address(name, len, way)
                .unwrap_or_else(|| pointer(name)),
        };
        let vectors = self
            .iovec(iov, iov_len, limit, way)
            .unwrap_or_else(|| pointer(iov));
        let mut text = format!(
            "{{msg_name={address}, msg_namelen={name_len}, msg_iov={vectors}, msg_iovlen={iov_len}"
        );
        if control != 0 && control_len != 0 {
            let data = self.bytes(control, control_len.min(CONTROL_MAX), way);
            let shown = data.map_or_else(|| pointer(control), |data| self.control(&data));
            let _ = write!(text, ", msg_control={shown}");
        }
        let _ = write!(
            text,
            ", msg_controllen={control_len}, msg_flags={}}}",
            names::MSG.flags(flags)
        );
        Some(text)
    }

    pub(super) fn messages(&mut self, addr: u64, count: u64, way: Way) -> Option<String> {
        let shown = count.min(LIST_MAX);
        let mut texts = Vec::new();
        for index in 0..shown {
            let at = addr.wrapping_add(64 * index);
            let len = self.bytes(at.wrapping_add(56), 4, Way::Out);
            let limit = match (way, &len) {
                (Way::Out, Some(len)) => number(len, 0, 4),
                _ => u64::MAX,
            };
            let header = self.message(at, limit, way)?;
            let len = len.filter(|_| !self.failed());
            texts.push(match len {
                Some(len) => format!("{{msg_hdr={header}, msg_len={}}}", number(&len, 0, 4)),
                None => format!("{{msg_hdr={header}}}"),
            });
        }
        if count > shown {
            texts.push("...".into());
        }
        Some(format!("[{}]", texts.join(", ")))
    }

    /// Control messages: files and credentials.
    fn control(&mut self, data: &[u8]) -> String {
        const HEADER: usize = 16;
        let mut texts = Vec::new();
        let mut at: usize = 0;
        // The program chooses how long each says that it is.
        while data.len().saturating_sub(at) >= HEADER {
            let len = number(data, at, 8) as usize;
            let (level, kind) = (number(data, at + 8, 4), number(data, at + 12, 4));
            let end = at.saturating_add(len.max(HEADER)).min(data.len());
            let body = &data[at + HEADER..end];
            let (kind_text, body_text) = match (level, kind) {
                (1, 1) => {
                    let fds: Vec<_> = body
                        .chunks_exact(4)
                        .map(|fd| (number(fd, 0, 4) as i32).to_string())
                        .collect();
                    (names::SCM.one(kind), format!("[{}]", fds.join(", ")))
                }
                (1, 2) => (names::SCM.one(kind), self.shape(&shapes::UCRED, body)),
                (1, _) => (names::SCM.one(kind), quote(body, usize::MAX)),
                _ => (format!("{kind:#x}"), quote(body, usize::MAX)),
            };
            texts.push(format!(
                "{{cmsg_len={len}, cmsg_level={}, cmsg_type={kind_text}, cmsg_data={body_text}}}",
                names::SOL.one(level)
            ));
            if len < HEADER {
                break;
            }
            at = at.saturating_add(len).saturating_add(7) & !7;
        }
        format!("[{}]", texts.join(", "))
    }

    /// The value of a socket's option.
    pub(super) fn socket_option(&mut self, addr: u64, way: Way) -> Option<String> {
        let len = match way {
            Way::In => u64::from(self.args[4] as u32),
            Way::Out => number(&self.bytes(self.args[4], 4, Way::Out)?, 0, 4),
        };
        const LINGER: u32 = 13;
        const PEERCRED: u32 = 17;
        let socket_level = self.args[1] as u32 == 1;
        let data = self.bytes(addr, len.min(256), way)?;
        Some(match (self.args[2] as u32, data.len()) {
            (LINGER, 8) if socket_level => self.shape(&shapes::LINGER, &data),
            (PEERCRED, 12) if socket_level => self.shape(&shapes::UCRED, &data),
            (_, 4) => format!("[{}]", number(&data, 0, 4) as i32),
            (_, 16) => self.scalar(Scalar::Timeval, &data),
            _ => quote(&data, self.style.string_max as usize),
        })
    }
}
