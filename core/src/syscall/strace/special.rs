//! Arguments that mean something else with other arguments beside them.

use alloc::format;
use alloc::string::{String, ToString};
use core::fmt::Write;

use super::line::pointer;
use super::show::{EndedCall, Way};
use super::values::{clone_flags, file_mode, ioctl_request, open_flags, signed};
use super::{Scalar, Shape, Special, What, names, shapes, signal_name};
use crate::abi::raw::{general as g, ioctl, prctl};

impl EndedCall<'_, '_, '_> {
    pub(super) fn special(&mut self, special: Special, index: usize) -> String {
        let value = self.args[index];
        match special {
            Special::Environment => self.environment(value),
            Special::SocketKind => {
                let (kind, flags) = (value & 0xf, u64::from(value as u32) & !0xf);
                match flags {
                    0 => names::SOCK.one(kind),
                    _ => format!(
                        "{}|{}",
                        names::SOCK.one(kind),
                        names::SOCK_FLAGS.flags(flags)
                    ),
                }
            }
            Special::SocketOptionName => match self.arg(1) {
                1 => names::SO.one(u64::from(value as u32)),
                _ => (value as i32).to_string(),
            },
            Special::FcntlArg => self.fcntl_arg(value),
            Special::IoctlRequest => match names::IOCTL.find(u64::from(value as u32)) {
                Some(name) => name.into(),
                None => ioctl_request(value as u32),
            },
            Special::IoctlArg => self.ioctl_arg(value),
            Special::FutexOp => {
                let op = value as u32;
                let mut text = names::FUTEX_OP.one(u64::from(op & 0x7f));
                if op & 128 != 0 {
                    text.push_str("_PRIVATE");
                }
                if op & 256 != 0 {
                    text.push_str("|FUTEX_CLOCK_REALTIME");
                }
                text
            }
            Special::FutexArg => self.futex_arg(index),
            Special::PrctlArg => self.prctl_arg(index),
            Special::IpcKey => match value as i32 {
                0 => "IPC_PRIVATE".into(),
                key => format!("{key:#x}"),
            },
            Special::Device => {
                // The 32 bits of a device number: 12 of the major one in the middle.
                let dev = value as u32;
                format!(
                    "makedev({:#x}, {:#x})",
                    dev >> 8 & 0xfff,
                    dev & 0xff | dev >> 12 & 0xfff00
                )
            }
            Special::NodeMode => file_mode(value as u32),
            Special::Personality => match value as u32 {
                0 => "PER_LINUX".into(),
                8 => "PER_LINUX32".into(),
                0xffff_ffff => "0xffffffff".into(),
                0x0004_0000 => "PER_LINUX|ADDR_NO_RANDOMIZE".into(),
                value => format!("{value:#x}"),
            },
            Special::SeccompArg => match self.arg(0) {
                1 => {
                    let data = self.bytes(value, 16, Way::In);
                    data.map_or_else(
                        || pointer(value),
                        |data| self.shape(&shapes::SOCK_FPROG, &data),
                    )
                }
                _ => pointer(value),
            },
            Special::RuleAttr => {
                let shape = match self.arg(1) {
                    1 => &shapes::PATH_BENEATH,
                    2 => &shapes::NET_PORT,
                    _ => return pointer(value),
                };
                let data = self.bytes(value, shape.size.into(), Way::In);
                data.map_or_else(|| pointer(value), |data| self.shape(shape, &data))
            }
            Special::FsconfigKey => match self.arg(1) as u32 {
                0..=5 => self.string(value, self.style.string_max as usize),
                _ => pointer(value),
            },
            Special::FsconfigValue => match self.arg(1) as u32 {
                1 => self.string(value, self.style.string_max as usize),
                2 => self.fsconfig_bytes(value),
                3 | 4 => self.string(value, usize::MAX),
                _ => pointer(value),
            },
            Special::FsconfigAux => match self.arg(1) as u32 {
                3 | 4 if value as i32 == g::AT_FDCWD => "AT_FDCWD".into(),
                _ => (value as i32).to_string(),
            },
            Special::ShortHex => format!("{:#x}", value as u32),
        }
    }

    /// Bytes of a parameter of a file system, each in hexadecimal.
    fn fsconfig_bytes(&mut self, addr: u64) -> String {
        const MOST: i32 = 1 << 20;
        let len = self.arg(4) as i32;
        if addr == 0 || !(0..=MOST).contains(&len) {
            return pointer(addr);
        }
        let most = self.style.string_max as i32;
        let Some(bytes) = self.bytes(addr, len.min(most) as u64, Way::In) else {
            return pointer(addr);
        };
        let text: String = bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect();
        match len > most {
            true => format!("\"{text}\"..."),
            false => format!("\"{text}\""),
        }
    }

    /// How many variables there are, or, in full, which.
    pub(super) fn environment(&mut self, addr: u64) -> String {
        if addr == 0 {
            return "NULL".into();
        }
        if self.style.full {
            return self.strings(addr);
        }
        let mut count = 0;
        while count < 1 << 16 {
            match self.word(addr.wrapping_add(8 * count)) {
                Some(0) => {
                    let vars = super::line::count(count as usize, "var");
                    return format!("{addr:#x} /* {vars} */");
                }
                Some(_) => count += 1,
                None => break,
            }
        }
        pointer(addr)
    }

    /// clone(2) is shown by name, and only what its flags ask for.
    pub(super) fn clone_args(&mut self) -> String {
        let [flags, stack, parent_tid, child_tid, tls, _] = self.args;
        let asks = |flag: u32| flags as u32 & flag != 0;
        let mut text = format!(
            "child_stack={}, flags={}",
            pointer(stack),
            clone_flags(flags)
        );
        if asks(g::CLONE_PARENT_SETTID | g::CLONE_PIDFD) {
            let shown = match self.failed() {
                true => pointer(parent_tid),
                false => self.pointed(What::Value(Scalar::I32, true), 2, Way::Out),
            };
            let _ = write!(text, ", parent_tid={shown}");
        }
        if asks(g::CLONE_SETTLS) {
            let _ = write!(text, ", tls={}", pointer(tls));
        }
        if asks(g::CLONE_CHILD_SETTID | g::CLONE_CHILD_CLEARTID) {
            let _ = write!(text, ", child_tidptr={}", pointer(child_tid));
        }
        text
    }

    pub(super) fn fcntl_arg(&mut self, value: u64) -> String {
        let way = match self.failed() {
            true => Way::In,
            false => Way::Out,
        };
        let shape = |this: &mut Self, shape: &Shape, way| {
            let data = this.bytes(value, u64::from(shape.size), way);
            data.map_or_else(|| pointer(value), |data| this.shape(shape, &data))
        };
        match self.arg(1) as u32 {
            g::F_SETFD => names::FD.flags(value),
            g::F_SETFL => open_flags(value as u32),
            g::F_SETLK | g::F_SETLKW | g::F_OFD_SETLK | g::F_OFD_SETLKW => {
                shape(self, &shapes::FLOCK, Way::In)
            }
            g::F_GETLK | g::F_OFD_GETLK => shape(self, &shapes::FLOCK_FOUND, way),
            g::F_SETOWN_EX => shape(self, &shapes::OWNER, Way::In),
            g::F_GETOWN_EX => shape(self, &shapes::OWNER, way),
            g::F_SETSIG => signal_name(value),
            g::F_ADD_SEALS => names::SEALS.flags(value),
            g::F_SETLEASE => names::FLOCK_TYPE.one(value),
            _ => (value as i64).to_string(),
        }
    }

    pub(super) fn ioctl_arg(&mut self, value: u64) -> String {
        let out = |this: &mut Self, shape: &Shape| {
            if this.failed() {
                return pointer(value);
            }
            let data = this.bytes(value, u64::from(shape.size), Way::Out);
            data.map_or_else(|| pointer(value), |data| this.shape(shape, &data))
        };
        let int = |this: &mut Self, way| {
            let data = this.bytes(value, 4, way);
            data.map_or_else(|| pointer(value), |data| format!("[{}]", signed(&data, 0)))
        };
        match self.arg(1) as u32 {
            ioctl::TCGETS => out(self, &shapes::TERMIOS),
            ioctl::TCSETS | ioctl::TCSETSW | ioctl::TCSETSF => {
                let data = self.bytes(value, 36, Way::In);
                data.map_or_else(
                    || pointer(value),
                    |data| self.shape(&shapes::TERMIOS, &data),
                )
            }
            ioctl::TIOCGWINSZ => out(self, &shapes::WINSIZE),
            ioctl::TIOCSWINSZ => {
                let data = self.bytes(value, 8, Way::In);
                data.map_or_else(
                    || pointer(value),
                    |data| self.shape(&shapes::WINSIZE, &data),
                )
            }
            ioctl::FIONREAD | ioctl::TIOCGPGRP | ioctl::TIOCOUTQ | ioctl::TIOCGSID
                if !self.failed() =>
            {
                int(self, Way::Out)
            }
            ioctl::FIONBIO | ioctl::FIOASYNC | ioctl::TIOCSPGRP => int(self, Way::In),
            _ => pointer(value),
        }
    }

    pub(super) fn futex_takes(&self, name: &str) -> bool {
        let op = self.arg(1) & 0x7f;
        match name {
            "val" => !matches!(op, 6 | 7 | 8 | 13),
            "timeout" => !matches!(op, 1 | 2 | 7 | 8 | 10),
            "uaddr2" => matches!(op, 3 | 4 | 5 | 11 | 12),
            _ => matches!(op, 4 | 5 | 9 | 10 | 12),
        }
    }

    pub(super) fn futex_arg(&mut self, index: usize) -> String {
        let value = self.args[index];
        let op = self.arg(1) & 0x7f;
        match index {
            2 => (value as u32).to_string(),
            // A number where another word is worked on, else a time.
            3 if matches!(op, 3 | 4 | 5 | 12) => (value as u32).to_string(),
            3 => {
                let time = What::Value(Scalar::Timespec, false);
                self.pointed(time, 3, Way::In)
            }
            5 if matches!(op, 9 | 10) && value as u32 == u32::MAX => {
                "FUTEX_BITSET_MATCH_ANY".into()
            }
            5 if op == 4 || op == 12 => (value as u32).to_string(),
            5 => format!("{:#x}", value as u32),
            _ => pointer(value),
        }
    }

    pub(super) fn prctl_takes(&self, name: &str) -> bool {
        let count = match self.arg(0) as u32 {
            prctl::PR_GET_DUMPABLE
            | prctl::PR_GET_KEEPCAPS
            | prctl::PR_GET_SECUREBITS
            | prctl::PR_GET_TIMERSLACK
            | prctl::PR_GET_SECCOMP => 0,
            prctl::PR_SET_PDEATHSIG
            | prctl::PR_GET_PDEATHSIG
            | prctl::PR_SET_DUMPABLE
            | prctl::PR_SET_KEEPCAPS
            | prctl::PR_SET_NAME
            | prctl::PR_GET_NAME
            | prctl::PR_CAPBSET_READ
            | prctl::PR_CAPBSET_DROP
            | prctl::PR_SET_SECUREBITS
            | prctl::PR_SET_TIMERSLACK
            | prctl::PR_SET_CHILD_SUBREAPER
            | prctl::PR_GET_CHILD_SUBREAPER
            | prctl::PR_GET_TID_ADDRESS
            | prctl::PR_SET_PTRACER => 1,
            prctl::PR_SET_SECCOMP => 2,
            _ => 4,
        };
        let place = name
            .as_bytes()
            .last()
            .map_or(0, |digit| digit.saturating_sub(b'1'));
        place <= count
    }

    pub(super) fn prctl_arg(&mut self, index: usize) -> String {
        let value = self.args[index];
        match (self.arg(0) as u32, index) {
            (prctl::PR_SET_NAME, 1) => self.string(value, usize::MAX),
            (prctl::PR_GET_NAME, 1) if !self.failed() => {
                let data = self.bytes(value, 16, Way::Out);
                data.map_or_else(
                    || pointer(value),
                    |data| self.scalar(Scalar::Text(16), &data),
                )
            }
            (prctl::PR_SET_PDEATHSIG, 1) => signal_name(value),
            (prctl::PR_GET_PDEATHSIG | prctl::PR_GET_CHILD_SUBREAPER, 1) if !self.failed() => {
                let data = self.bytes(value, 4, Way::Out);
                data.map_or_else(|| pointer(value), |data| format!("[{}]", signed(&data, 0)))
            }
            (prctl::PR_CAPBSET_READ | prctl::PR_CAPBSET_DROP, 1) => names::CAP.one(value),
            _ => match value {
                0 => "0".into(),
                value if value < 1 << 16 => value.to_string(),
                value => format!("{value:#x}"),
            },
        }
    }
}
