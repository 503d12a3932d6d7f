//! Files of `/proc` that tell of the whole system, as a table of paths and what makes their contents.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use crate::Kernel;
use crate::abi::PAGE_SIZE;
use crate::syscall::system::{RELEASE, SYSNAME, VERSION};

/// What a path of the table is.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Dir,
    /// A read-only file and what makes its contents.
    File(fn(&mut Kernel) -> Vec<u8>),
    /// A symbolic link to this target.
    Link(&'static str),
}

/// Paths below `/proc`, each directory before what is in it. A path's place is its identity.
pub(super) static PATHS: &[(&str, Kind)] = &[
    ("", Kind::Dir),
    ("cmdline", Kind::File(|_| b"varve\n".to_vec())),
    ("cpuinfo", Kind::File(cpuinfo)),
    (
        "filesystems",
        Kind::File(|_| b"nodev\tproc\nnodev\ttmpfs\nnodev\toverlay\n\terofs\n".to_vec()),
    ),
    ("loadavg", Kind::File(loadavg)),
    ("meminfo", Kind::File(meminfo)),
    ("mounts", Kind::Link("self/mounts")),
    ("stat", Kind::File(stat)),
    (
        "swaps",
        Kind::File(|_| b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n".to_vec()),
    ),
    ("sys", Kind::Dir),
    ("sys/fs", Kind::Dir),
    (
        "sys/fs/file-max",
        Kind::File(|_| b"9223372036854775807\n".to_vec()),
    ),
    ("sys/fs/nr_open", Kind::File(|_| b"1048576\n".to_vec())),
    (
        "sys/fs/pipe-max-size",
        Kind::File(|_| b"1048576\n".to_vec()),
    ),
    ("sys/kernel", Kind::Dir),
    ("sys/kernel/cap_last_cap", Kind::File(|_| b"40\n".to_vec())),
    (
        "sys/kernel/domainname",
        Kind::File(|k| line(&k.system.domainname)),
    ),
    (
        "sys/kernel/hostname",
        Kind::File(|k| line(&k.system.hostname)),
    ),
    (
        "sys/kernel/ngroups_max",
        Kind::File(|_| b"65536\n".to_vec()),
    ),
    (
        "sys/kernel/osrelease",
        Kind::File(|_| line(RELEASE.as_bytes())),
    ),
    (
        "sys/kernel/ostype",
        Kind::File(|_| line(SYSNAME.as_bytes())),
    ),
    (
        "sys/kernel/overflowgid",
        Kind::File(|_| b"65534\n".to_vec()),
    ),
    (
        "sys/kernel/overflowuid",
        Kind::File(|_| b"65534\n".to_vec()),
    ),
    ("sys/kernel/pid_max", Kind::File(|_| b"4194304\n".to_vec())),
    ("sys/kernel/random", Kind::Dir),
    ("sys/kernel/random/boot_id", Kind::File(boot_id)),
    (
        "sys/kernel/random/entropy_avail",
        Kind::File(|_| b"256\n".to_vec()),
    ),
    (
        "sys/kernel/random/poolsize",
        Kind::File(|_| b"256\n".to_vec()),
    ),
    ("sys/kernel/random/uuid", Kind::File(uuid)),
    (
        "sys/kernel/randomize_va_space",
        Kind::File(|_| b"2\n".to_vec()),
    ),
    (
        "sys/kernel/threads-max",
        Kind::File(|_| b"127000\n".to_vec()),
    ),
    (
        "sys/kernel/version",
        Kind::File(|_| line(VERSION.as_bytes())),
    ),
    ("sys/vm", Kind::Dir),
    ("sys/vm/max_map_count", Kind::File(|_| b"65530\n".to_vec())),
    ("sys/vm/mmap_min_addr", Kind::File(|_| b"65536\n".to_vec())),
    ("sys/vm/overcommit_memory", Kind::File(|_| b"0\n".to_vec())),
    ("sys/vm/swappiness", Kind::File(|_| b"60\n".to_vec())),
    ("uptime", Kind::File(uptime)),
    (
        "version",
        Kind::File(|_| format!("{SYSNAME} version {RELEASE} {VERSION}\n").into_bytes()),
    ),
];

/// The path `name` in the directory at a place of [`PATHS`].
pub(super) fn child(dir: usize, name: &[u8]) -> Option<usize> {
    entries(dir).find(|&place| last(place) == name)
}

/// The places of what is in the directory at a place of [`PATHS`].
pub(super) fn entries(dir: usize) -> impl Iterator<Item = usize> {
    let parent = PATHS[dir].0;
    (1..PATHS.len()).filter(move |&place| {
        let path = PATHS[place].0;
        match path.rfind('/') {
            Some(at) => &path[..at] == parent,
            None => parent.is_empty(),
        }
    })
}

/// The last component of the path at a place.
pub(super) fn last(place: usize) -> &'static [u8] {
    let path = PATHS[place].0.as_bytes();
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(at) => &path[at + 1..],
        None => path,
    }
}

fn line(text: &[u8]) -> Vec<u8> {
    let mut line = text.to_vec();
    line.push(b'\n');
    line
}

fn cpuinfo(k: &mut Kernel) -> Vec<u8> {
    let mut text = Vec::new();
    for cpu in 0..k.system.cpus {
        text.extend_from_slice(format!("processor\t: {cpu}\n").as_bytes());
        text.extend_from_slice(&k.system.cpuinfo);
        if !k.system.cpuinfo.ends_with(b"\n\n") {
            text.push(b'\n');
        }
    }
    text
}

/// Running threads, all threads, the last process number.
fn load(k: &Kernel) -> (usize, usize, u32) {
    let running = k.tasks.iter().filter(|task| task.running).count();
    (
        running.max(1),
        k.tasks.len(),
        k.tasks.groups().max().unwrap_or(0),
    )
}

fn loadavg(k: &mut Kernel) -> Vec<u8> {
    let (running, all, last) = load(k);
    format!("0.00 0.00 0.00 {running}/{all} {last}\n").into_bytes()
}

fn meminfo(k: &mut Kernel) -> Vec<u8> {
    let (used, total) = k.mm.frames.usage();
    let kib = |frames: u32| u64::from(frames) * PAGE_SIZE / 1024;
    let (free, total) = (kib(total.saturating_sub(used)), kib(total));
    let mut text = String::new();
    for (name, value) in [
        ("MemTotal", total),
        ("MemFree", free),
        ("MemAvailable", free),
        ("Buffers", 0),
        ("Cached", 0),
        ("SwapCached", 0),
        ("Active", kib(used)),
        ("Inactive", 0),
        ("SwapTotal", 0),
        ("SwapFree", 0),
        ("Dirty", 0),
        ("Writeback", 0),
        ("AnonPages", kib(used)),
        ("Mapped", 0),
        ("Shmem", 0),
        ("Slab", 0),
        ("SReclaimable", 0),
        ("CommitLimit", total),
        ("Committed_AS", kib(used)),
        ("VmallocTotal", 0),
        ("VmallocUsed", 0),
    ] {
        let label = format!("{name}:");
        let _ = writeln!(text, "{label:<16}{value:>8} kB");
    }
    text.into_bytes()
}

/// Nanoseconds since the boot.
fn up(k: &Kernel) -> u64 {
    k.system.now.mono.saturating_sub(k.system.booted.mono)
}

fn uptime(k: &mut Kernel) -> Vec<u8> {
    let hundredths = up(k) / 10_000_000;
    let (sec, rest) = (hundredths / 100, hundredths % 100);
    format!("{sec}.{rest:02} 0.00\n").into_bytes()
}

fn stat(k: &mut Kernel) -> Vec<u8> {
    let user: u64 = k
        .tasks
        .groups()
        .map(|tgid| k.tasks.group_cpu_time(tgid))
        .sum();
    let user = user / 10_000_000;
    let all = up(k) / 10_000_000 * u64::from(k.system.cpus);
    let idle = all.saturating_sub(user);
    let mut text = format!("cpu  {user} 0 0 {idle} 0 0 0 0 0 0\n");
    let cpus = u64::from(k.system.cpus);
    for cpu in 0..cpus {
        let _ = writeln!(
            text,
            "cpu{cpu} {} 0 0 {} 0 0 0 0 0 0",
            user / cpus,
            idle / cpus
        );
    }
    let (running, _, last) = load(k);
    let booted = k.system.booted.real / 1_000_000_000;
    let _ = writeln!(
        text,
        "intr 0\nctxt 0\nbtime {booted}\nprocesses {last}\nprocs_running {running}\nprocs_blocked 0"
    );
    text.into_bytes()
}

/// 16 bytes as a random (version 4) UUID.
fn format_uuid(mut bytes: [u8; 16]) -> Vec<u8> {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = String::new();
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        let _ = write!(text, "{byte:02x}");
    }
    text.push('\n');
    text.into_bytes()
}

fn uuid(k: &mut Kernel) -> Vec<u8> {
    let mut bytes = [0; 16];
    k.system.rng.fill(&mut bytes);
    format_uuid(bytes)
}

fn boot_id(k: &mut Kernel) -> Vec<u8> {
    format_uuid(k.system.boot_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_lies_in_a_directory_that_stands_before_it() {
        for (place, (path, _)) in PATHS.iter().enumerate().skip(1) {
            let parent = path.rfind('/').map_or("", |at| &path[..at]);
            let dir = PATHS
                .iter()
                .position(|(other, _)| *other == parent)
                .unwrap();
            assert!(dir < place && matches!(PATHS[dir].1, Kind::Dir), "{path}");
            assert_eq!(child(dir, last(place)), Some(place));
        }
    }
}
