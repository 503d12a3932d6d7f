//! Capabilities of the first program, as `docker run` takes them.

use anyhow::{Result, bail};
use varve_core::boot::DEFAULT_CAPABILITIES;

/// Names by number (capabilities(7)), without `CAP_`.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

const ALL: u64 = (1 << NAMES.len()) - 1;

#[derive(clap::Args, Debug, Default)]
#[group(id = "capabilities")]
pub(crate) struct Arguments {
    /// Give root a capability more: its name, or ALL. They hold inside the sandbox only.
    #[arg(long, value_name = "CAPABILITY")]
    cap_add: Vec<String>,
    /// Take a capability from root: its name, or ALL.
    #[arg(long, value_name = "CAPABILITY")]
    cap_drop: Vec<String>,
    /// Give root all capabilities.
    #[arg(long)]
    privileged: bool,
}

impl Arguments {
    /// The set, one bit for each capability.
    pub(crate) fn set(&self) -> Result<u64> {
        let (added, all_added) = named(&self.cap_add)?;
        let (dropped, all_dropped) = named(&self.cap_drop)?;
        Ok(match (all_added, all_dropped) {
            _ if self.privileged => ALL,
            (true, _) => ALL & !dropped,
            (false, true) => added,
            (false, false) => (DEFAULT_CAPABILITIES | added) & !dropped,
        })
    }
}

/// The capabilities that names stand for, and whether `ALL` is among them.
fn named(names: &[String]) -> Result<(u64, bool)> {
    let (mut set, mut all) = (0, false);
    for name in names {
        let upper = name.to_ascii_uppercase();
        let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
        match NAMES.iter().position(|known| *known == short) {
            Some(number) => set |= 1 << number,
            None if short == "ALL" => all = true,
            None => bail!("{name}: there is no such capability"),
        }
    }
    Ok((set, all))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(add: &[&str], drop: &[&str]) -> u64 {
        let owned = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
        let arguments = Arguments {
            cap_add: owned(add),
            cap_drop: owned(drop),
            privileged: false,
        };
        arguments.set().unwrap()
    }

    #[test]
    fn capabilities_are_added_and_dropped_as_docker_does() {
        const SYS_ADMIN: u64 = 1 << 21;
        assert_eq!(set(&[], &[]), DEFAULT_CAPABILITIES);
        assert_eq!(
            set(&["sys_admin"], &["CAP_CHOWN"]),
            DEFAULT_CAPABILITIES & !1 | SYS_ADMIN
        );
        assert_eq!(set(&["ALL"], &["CHOWN"]), ALL & !1);
        assert_eq!(set(&["SYS_ADMIN"], &["all"]), SYS_ADMIN);
        assert!(named(&["CAP_NONE".into()]).is_err());
    }
}
