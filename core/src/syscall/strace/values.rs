//! Values as text that need nothing but themselves.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;

use super::line::pointer;
use super::{names, signal_name};
use crate::abi::raw::general as g;
use crate::task::signal::SigInfo;

/// The number at a place in a structure, which has that place.
pub(super) fn number(data: &[u8], at: usize, len: usize) -> u64 {
    let mut word = [0; 8];
    if let Some(bytes) = data.get(at..at + len) {
        word[..len].copy_from_slice(bytes);
    }
    u64::from_le_bytes(word)
}

pub(super) fn signed(data: &[u8], at: usize) -> i32 {
    number(data, at, 4) as i32
}

/// Permissions, octal.
pub(super) fn mode_bits(mode: u32) -> String {
    match mode {
        0 => "000".into(),
        mode => format!("0{mode:o}"),
    }
}

/// Type and permissions of a file.
pub(super) fn file_mode(mode: u32) -> String {
    let kind = match mode & g::S_IFMT {
        g::S_IFREG => "S_IFREG",
        g::S_IFDIR => "S_IFDIR",
        g::S_IFLNK => "S_IFLNK",
        g::S_IFCHR => "S_IFCHR",
        g::S_IFBLK => "S_IFBLK",
        g::S_IFIFO => "S_IFIFO",
        g::S_IFSOCK => "S_IFSOCK",
        _ => return mode_bits(mode),
    };
    let mut text = String::from(kind);
    for (bit, name) in [
        (0o4000, "S_ISUID"),
        (0o2000, "S_ISGID"),
        (0o1000, "S_ISVTX"),
    ] {
        if mode & bit != 0 {
            text.push('|');
            text.push_str(name);
        }
    }
    let _ = write!(text, "|0{:o}", mode & 0o777);
    text
}

/// A device number of `struct stat`.
pub(super) fn device(dev: u64) -> String {
    let major = dev >> 8 & 0xfff | dev >> 32 & 0xffff_f000;
    let minor = dev & 0xff | dev >> 12 & 0xffff_ff00;
    format!("makedev({major:#x}, {minor:#x})")
}

/// Flags of open(2), the way of access first.
pub(super) fn open_flags(value: u32) -> String {
    let access = match value & g::O_ACCMODE {
        g::O_RDONLY => "O_RDONLY",
        g::O_WRONLY => "O_WRONLY",
        g::O_RDWR => "O_RDWR",
        _ => "O_ACCMODE",
    };
    match value & !g::O_ACCMODE {
        0 => access.into(),
        rest => format!("{access}|{}", names::OPEN.flags(u64::from(rest))),
    }
}

pub(super) fn clone_flags(value: u64) -> String {
    let (flags, signal) = (value & !0xff, value & 0xff);
    match (flags, signal) {
        (flags, 0) => names::CLONE.flags(flags),
        (0, signal) => signal_name(signal),
        (flags, signal) => format!("{}|{}", names::CLONE.flags(flags), signal_name(signal)),
    }
}

pub(super) fn seconds(data: &[u8], fraction: &str) -> String {
    let (sec, rest) = (number(data, 0, 8) as i64, number(data, 8, 8) as i64);
    format!("{{tv_sec={sec}, {fraction}={rest}}}")
}

pub(super) fn limit(value: u64) -> String {
    match value {
        u64::MAX => "RLIM64_INFINITY".into(),
        value if value > 1024 && value.is_multiple_of(1024) => format!("{}*1024", value / 1024),
        value => value.to_string(),
    }
}

/// A signal set; one with most of the signals by those that it lacks.
pub(super) fn signal_set(set: u64) -> String {
    let (mark, shown) = match set.count_ones() > 32 {
        true => ("~", !set),
        false => ("", set),
    };
    let names: Vec<_> = (1..=64u64)
        .filter(|number| shown & 1 << (number - 1) != 0)
        .map(|number| {
            let name = signal_name(number);
            name.strip_prefix("SIG")
                .map_or_else(|| name.clone(), str::to_string)
        })
        .collect();
    format!("{mark}[{}]", names.join(" "))
}

/// The kernel's `struct sigaction`.
pub(super) fn signal_action(data: &[u8]) -> String {
    let handler = match number(data, 0, 8) {
        0 => "SIG_DFL".into(),
        1 => "SIG_IGN".into(),
        addr => format!("{addr:#x}"),
    };
    let flags = number(data, 8, 8);
    let mut text = format!(
        "{{sa_handler={handler}, sa_mask={}, sa_flags={}",
        signal_set(number(data, 24, 8)),
        names::SA.flags(flags)
    );
    if flags & u64::from(g::SA_RESTORER) != 0 {
        let _ = write!(text, ", sa_restorer={}", pointer(number(data, 16, 8)));
    }
    text.push('}');
    text
}

/// `siginfo_t`.
pub(super) fn signal_info(info: SigInfo) -> String {
    let name = signal_name(u64::from(info.signo));
    let code = i64::from(info.code) as u64;
    let own = match u32::from(info.signo) {
        g::SIGCHLD => &names::CLD_CODE,
        g::SIGSEGV => &names::SEGV_CODE,
        g::SIGBUS => &names::BUS_CODE,
        g::SIGILL => &names::ILL_CODE,
        g::SIGFPE => &names::FPE_CODE,
        g::SIGTRAP => &names::TRAP_CODE,
        g::SIGSYS => &names::SYS_CODE,
        _ => &names::POLL_CODE,
    };
    let code_name = names::SI_CODE.find(code).or_else(|| own.find(code));
    let code_text = code_name.map_or_else(|| info.code.to_string(), str::to_string);
    let mut text = format!("{{si_signo={name}, si_code={code_text}");
    if info.errno != 0 {
        let _ = write!(text, ", si_errno={}", info.errno);
    }
    let [first, second, third, fourth] = info.fields;
    let (low, high) = (first as u32, (first >> 32) as u32);
    let positive = info.code > 0 && info.code != g::SI_KERNEL as i32;
    let _ = match u32::from(info.signo) {
        _ if info.code == g::SI_KERNEL as i32 => Ok(()),
        g::SIGCHLD if positive => {
            let status = match info.code {
                1 => (second as i32).to_string(),
                _ => signal_name(u64::from(second as u32)),
            };
            write!(
                text,
                ", si_pid={low}, si_uid={high}, si_status={status}, si_utime={third}, si_stime={fourth}"
            )
        }
        g::SIGSEGV | g::SIGBUS | g::SIGILL | g::SIGFPE | g::SIGTRAP if positive => {
            write!(text, ", si_addr={}", pointer(first))
        }
        g::SIGSYS if positive => write!(
            text,
            ", si_call_addr={}, si_syscall={}",
            pointer(first),
            second as u32
        ),
        _ if info.code == -2 => write!(text, ", si_timerid={low:#x}, si_overrun={high}"),
        _ if positive => write!(text, ", si_band={}, si_fd={}", first as i64, second as i32),
        _ if info.code == -1 => write!(
            text,
            ", si_pid={low}, si_uid={high}, si_value={{sival_int={}, sival_ptr={}}}",
            second as i32,
            pointer(second)
        ),
        _ => write!(text, ", si_pid={low}, si_uid={high}"),
    };
    text.push('}');
    text
}

pub(super) fn fd_set(data: &[u8], count: u64) -> String {
    let set = |&bit: &u64| {
        data.get(bit as usize / 8)
            .is_some_and(|byte| byte >> (bit % 8) & 1 != 0)
    };
    let bits: Vec<_> = (0..count).filter(set).map(|bit| bit.to_string()).collect();
    format!("[{}]", bits.join(" "))
}

pub(super) fn wait_status(status: u32) -> String {
    let signal = u64::from(status & 0x7f);
    match status & 0xff {
        _ if status == 0xffff => "{WIFCONTINUED(s)}".into(),
        0 => format!(
            "{{WIFEXITED(s) && WEXITSTATUS(s) == {}}}",
            status >> 8 & 0xff
        ),
        0x7f => format!(
            "{{WIFSTOPPED(s) && WSTOPSIG(s) == {}}}",
            signal_name(u64::from(status >> 8 & 0xff))
        ),
        low => format!(
            "{{WIFSIGNALED(s) && WTERMSIG(s) == {}{}}}",
            signal_name(signal),
            if low & 0x80 != 0 {
                " && WCOREDUMP(s)"
            } else {
                ""
            }
        ),
    }
}

pub(super) fn caps(set: u64) -> String {
    if set == 0 {
        return "0".into();
    }
    let mut texts = Vec::new();
    for bit in (0..64).filter(|bit| set >> bit & 1 != 0) {
        match names::CAP.find(bit) {
            Some(name) => texts.push(format!("1<<{name}")),
            None => texts.push(format!("{:#x}", 1u64 << bit)),
        }
    }
    texts.join("|")
}

/// Records of getdents64(2) and getdents(2), which have their length at the same place.
pub(super) fn entries(data: &[u8]) -> usize {
    let (mut at, mut count) = (0, 0);
    while at + 18 <= data.len() {
        match number(data, at + 16, 2) {
            0 => break,
            len => at += len as usize,
        }
        count += 1;
    }
    count
}

/// The parts of an ioctl(2) request that has no name.
pub(super) fn ioctl_request(request: u32) -> String {
    let direction = match request >> 30 {
        0 => "_IOC_NONE",
        1 => "_IOC_WRITE",
        2 => "_IOC_READ",
        _ => "_IOC_READ|_IOC_WRITE",
    };
    format!(
        "_IOC({direction}, {:#x}, {:#x}, {:#x})",
        request >> 8 & 0xff,
        request & 0xff,
        request >> 16 & 0x3fff
    )
}

/// `c_cflag` of a terminal.
pub(super) fn control_modes(value: u64) -> String {
    let mut texts = Vec::new();
    const SPEEDS: [&str; 16] = [
        "B0", "B50", "B75", "B110", "B134", "B150", "B200", "B300", "B600", "B1200", "B1800",
        "B2400", "B4800", "B9600", "B19200", "B38400",
    ];
    const FAST: [&str; 16] = [
        "BOTHER", "B57600", "B115200", "B230400", "B460800", "B500000", "B576000", "B921600",
        "B1000000", "B1152000", "B1500000", "B2000000", "B2500000", "B3000000", "B3500000",
        "B4000000",
    ];
    // `CBAUD`, with `CBAUDEX` for speeds above those of old.
    let speeds = if value & 0o10000 == 0 { SPEEDS } else { FAST };
    texts.push(speeds[(value & 0o17) as usize].to_string());
    texts.push(format!("CS{}", 5 + (value >> 4 & 3)));
    for (bit, name) in [
        (0o100, "CSTOPB"),
        (0o200, "CREAD"),
        (0o400, "PARENB"),
        (0o1000, "PARODD"),
        (0o2000, "HUPCL"),
        (0o4000, "CLOCAL"),
    ] {
        if value & bit != 0 {
            texts.push(name.into());
        }
    }
    texts.join("|")
}
