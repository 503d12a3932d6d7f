//! Names of signals (signal(7)).

use alloc::format;
use alloc::string::{String, ToString};

/// The name of a signal (`SIGINT`), or its number.
pub(crate) fn signal_name(number: u64) -> String {
    match SIGNALS.get(number.wrapping_sub(1) as usize) {
        Some(name) => format!("SIG{name}"),
        None if number == 32 => "SIGRTMIN".to_string(),
        None if (33..=64).contains(&number) => format!("SIGRT_{}", number - 32),
        None => number.to_string(),
    }
}

static SIGNALS: &[&str] = &[
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
