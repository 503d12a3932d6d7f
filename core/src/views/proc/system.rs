//! Files of `/proc` that tell of the whole system, as a table of paths and what makes their contents.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use super::listed;
use super::shown::Rest;
use crate::Kernel;
use crate::abi::raw::general as g;
use crate::abi::{Errno, PAGE_SIZE};
use crate::cred::ns::count::Counted;
use crate::cred::{CAP_LAST, ns};
use crate::env::settings;
use crate::env::settings::Setting;
use crate::env::uts::{MACHINE, RELEASE, SYSNAME, VERSION};
use crate::file::FILE_MAX;
use crate::ipc::limits;
use crate::machine::ThreadId;
use crate::task::cputime;
use crate::task::process::TICK;

/// What a path of the table is.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Dir,
    /// A read-only file and what makes its contents.
    File(fn(&mut Kernel) -> Vec<u8>),
    /// A read-only file that always says the same.
    Text(&'static str),
    /// The same two for files that Linux lets root write, if `/proc/sys` is not read-only.
    Value(fn(&mut Kernel) -> Vec<u8>),
    Tunable(&'static str),
    /// The name of the host in the reader's UTS namespace, or of its domain.
    Name(bool),
    /// Limits of the reader's IPC namespace.
    Limit(limits::Setting),
    /// A setting of the whole system that the kernel goes by.
    Number(Setting),
    /// How many namespaces and other things each user of the reader's user namespace may have, or of the
    /// first one.
    Count(Counted),
    CountOfAll(Counted),
    /// Settings of the reader's network namespace, and of its PID namespace.
    Datagrams,
    Backlog,
    Numbers,
    Noexec,
    /// One with a line for each of many things.
    Records(fn() -> Rest),
    /// A file with these permissions that nobody opens: `EPERM`.
    Closed(u32),
    /// A symbolic link to this target.
    Link(&'static str),
}

impl Kind {
    pub(super) fn mode(self) -> u32 {
        match self {
            Kind::Dir => g::S_IFDIR | 0o555,
            Kind::File(_) | Kind::Text(_) | Kind::Records(_) => g::S_IFREG | 0o444,
            Kind::Value(_)
            | Kind::Name(_)
            | Kind::Limit(_)
            | Kind::Tunable(_)
            | Kind::Number(_)
            | Kind::Count(_)
            | Kind::CountOfAll(_)
            | Kind::Datagrams
            | Kind::Backlog
            | Kind::Numbers
            | Kind::Noexec => g::S_IFREG | 0o644,
            Kind::Closed(mode) => g::S_IFREG | mode,
            Kind::Link(_) => g::S_IFLNK | 0o777,
        }
    }
}

/// Paths below `/proc`, each directory before what is in it. A path's place is its identity.
pub(super) static PATHS: &[(&str, Kind)] = &[
    ("", Kind::Dir),
    ("cgroups", Kind::File(cgroups)),
    ("cmdline", Kind::Text("varve\n")),
    ("cpuinfo", Kind::File(cpuinfo)),
    ("devices", Kind::Text(DEVICES)),
    ("diskstats", Kind::Text("")),
    (
        "execdomains",
        Kind::Text("0-0\tLinux           \t[kernel]\n"),
    ),
    ("filesystems", Kind::Text(FILESYSTEMS)),
    ("interrupts", Kind::File(|k| processors(k, 11))),
    ("kmsg", Kind::Closed(0o400)),
    ("loadavg", Kind::File(loadavg)),
    ("locks", Kind::Records(listed::locks)),
    ("meminfo", Kind::File(meminfo)),
    ("misc", Kind::Text("")),
    ("mounts", Kind::Link("self/mounts")),
    ("net", Kind::Link("self/net")),
    ("partitions", Kind::Text("major minor  #blocks  name\n\n")),
    ("softirqs", Kind::File(|k| processors(k, 20))),
    ("stat", Kind::File(stat)),
    (
        "swaps",
        Kind::Text("Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"),
    ),
    ("sys", Kind::Dir),
    ("sys/fs", Kind::Dir),
    ("sys/fs/aio-max-nr", Kind::Number(settings::AIO_EVENTS)),
    (
        "sys/fs/dir-notify-enable",
        Kind::Number(settings::DIRECTORY_SIGNALS),
    ),
    ("sys/fs/epoll", Kind::Dir),
    (
        "sys/fs/epoll/max_user_watches",
        Kind::Number(settings::EPOLL_WATCHES),
    ),
    ("sys/fs/file-max", Kind::Value(|_| decimal(FILE_MAX as u64))),
    ("sys/fs/file-nr", Kind::File(file_nr)),
    ("sys/fs/inode-nr", Kind::File(inode_nr)),
    ("sys/fs/inode-state", Kind::File(inode_state)),
    ("sys/fs/inotify", Kind::Dir),
    (
        "sys/fs/inotify/max_queued_events",
        Kind::Number(settings::INOTIFY_EVENTS),
    ),
    (
        "sys/fs/inotify/max_user_instances",
        Kind::CountOfAll(Counted::InotifyInstances),
    ),
    (
        "sys/fs/inotify/max_user_watches",
        Kind::CountOfAll(Counted::InotifyWatches),
    ),
    (
        "sys/fs/lease-break-time",
        Kind::Number(settings::LEASE_TIME),
    ),
    ("sys/fs/leases-enable", Kind::Number(settings::LEASES)),
    ("sys/fs/mount-max", Kind::Number(settings::MOUNTS)),
    ("sys/fs/mqueue", Kind::Dir),
    (
        "sys/fs/mqueue/msg_default",
        Kind::Limit(limits::POSIX_MESSAGES_DEFAULT),
    ),
    ("sys/fs/mqueue/msg_max", Kind::Limit(limits::POSIX_MESSAGES)),
    (
        "sys/fs/mqueue/msgsize_default",
        Kind::Limit(limits::POSIX_SIZE_DEFAULT),
    ),
    ("sys/fs/mqueue/msgsize_max", Kind::Limit(limits::POSIX_SIZE)),
    (
        "sys/fs/mqueue/queues_max",
        Kind::Limit(limits::POSIX_QUEUES),
    ),
    ("sys/fs/nr_open", Kind::Number(settings::DESCRIPTORS)),
    ("sys/fs/overflowgid", Kind::Tunable("65534\n")),
    ("sys/fs/overflowuid", Kind::Tunable("65534\n")),
    ("sys/fs/pipe-max-size", Kind::Number(settings::PIPE_SIZE)),
    (
        "sys/fs/pipe-user-pages-hard",
        Kind::Number(settings::PIPE_PAGES_HARD),
    ),
    (
        "sys/fs/pipe-user-pages-soft",
        Kind::Number(settings::PIPE_PAGES_SOFT),
    ),
    (
        "sys/fs/protected_fifos",
        Kind::Number(settings::PROTECTED_FIFOS),
    ),
    (
        "sys/fs/protected_hardlinks",
        Kind::Number(settings::PROTECTED_HARDLINKS),
    ),
    (
        "sys/fs/protected_regular",
        Kind::Number(settings::PROTECTED_REGULAR),
    ),
    (
        "sys/fs/protected_symlinks",
        Kind::Number(settings::PROTECTED_SYMLINKS),
    ),
    ("sys/fs/suid_dumpable", Kind::Number(settings::DUMPABLE)),
    ("sys/kernel", Kind::Dir),
    ("sys/kernel/arch", Kind::File(|_| line(MACHINE.as_bytes()))),
    (
        "sys/kernel/cap_last_cap",
        Kind::File(|_| decimal(u64::from(CAP_LAST))),
    ),
    ("sys/kernel/core_pattern", Kind::Tunable("core\n")),
    ("sys/kernel/core_pipe_limit", Kind::Tunable("0\n")),
    ("sys/kernel/core_uses_pid", Kind::Tunable("0\n")),
    ("sys/kernel/dmesg_restrict", Kind::Tunable("1\n")),
    ("sys/kernel/domainname", Kind::Name(true)),
    ("sys/kernel/hostname", Kind::Name(false)),
    ("sys/kernel/io_uring_disabled", Kind::Tunable("2\n")),
    ("sys/kernel/io_uring_group", Kind::Tunable("-1\n")),
    ("sys/kernel/kptr_restrict", Kind::Tunable("1\n")),
    ("sys/kernel/msgmax", Kind::Limit(limits::MESSAGE_SIZE)),
    ("sys/kernel/msgmnb", Kind::Limit(limits::QUEUE_BYTES)),
    ("sys/kernel/msgmni", Kind::Limit(limits::QUEUES)),
    ("sys/kernel/ngroups_max", Kind::Text("65536\n")),
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
        Kind::Number(settings::OVERFLOW_GROUP),
    ),
    (
        "sys/kernel/overflowuid",
        Kind::Number(settings::OVERFLOW_USER),
    ),
    ("sys/kernel/panic", Kind::Tunable("0\n")),
    ("sys/kernel/pid_max", Kind::Numbers),
    ("sys/kernel/printk", Kind::Tunable("4\t4\t1\t7\n")),
    ("sys/kernel/random", Kind::Dir),
    ("sys/kernel/random/boot_id", Kind::File(boot_id)),
    ("sys/kernel/random/entropy_avail", Kind::Text("256\n")),
    ("sys/kernel/random/poolsize", Kind::Text("256\n")),
    (
        "sys/kernel/random/urandom_min_reseed_secs",
        Kind::Tunable("60\n"),
    ),
    ("sys/kernel/random/uuid", Kind::File(uuid)),
    (
        "sys/kernel/random/write_wakeup_threshold",
        Kind::Tunable("256\n"),
    ),
    (
        "sys/kernel/randomize_va_space",
        Kind::Number(settings::RANDOMIZE),
    ),
    ("sys/kernel/sched_rr_timeslice_ms", Kind::Tunable("100\n")),
    ("sys/kernel/sched_rt_period_us", Kind::Tunable("1000000\n")),
    ("sys/kernel/sched_rt_runtime_us", Kind::Tunable("950000\n")),
    ("sys/kernel/sem", Kind::Limit(limits::SEMAPHORES)),
    (
        "sys/kernel/shm_rmid_forced",
        Kind::Limit(limits::SEGMENTS_GO),
    ),
    ("sys/kernel/shmall", Kind::Limit(limits::SEGMENT_PAGES)),
    ("sys/kernel/shmmax", Kind::Limit(limits::SEGMENT_SIZE)),
    ("sys/kernel/shmmni", Kind::Limit(limits::SEGMENTS)),
    ("sys/kernel/tainted", Kind::Tunable("0\n")),
    ("sys/kernel/threads-max", Kind::Number(settings::TASKS)),
    ("sys/kernel/unprivileged_bpf_disabled", Kind::Tunable("2\n")),
    (
        "sys/kernel/version",
        Kind::File(|_| line(VERSION.as_bytes())),
    ),
    ("sys/net", Kind::Dir),
    ("sys/net/core", Kind::Dir),
    (
        "sys/net/core/rmem_default",
        Kind::Number(settings::RECEIVE_DEFAULT),
    ),
    (
        "sys/net/core/rmem_max",
        Kind::Number(settings::RECEIVE_MOST),
    ),
    ("sys/net/core/somaxconn", Kind::Backlog),
    (
        "sys/net/core/wmem_default",
        Kind::Number(settings::SEND_DEFAULT),
    ),
    ("sys/net/core/wmem_max", Kind::Number(settings::SEND_MOST)),
    ("sys/net/unix", Kind::Dir),
    ("sys/net/unix/max_dgram_qlen", Kind::Datagrams),
    ("sys/user", Kind::Dir),
    (
        "sys/user/max_cgroup_namespaces",
        Kind::Count(Counted::Namespaces(ns::Kind::Cgroup)),
    ),
    (
        "sys/user/max_inotify_instances",
        Kind::Count(Counted::InotifyInstances),
    ),
    (
        "sys/user/max_inotify_watches",
        Kind::Count(Counted::InotifyWatches),
    ),
    (
        "sys/user/max_ipc_namespaces",
        Kind::Count(Counted::Namespaces(ns::Kind::Ipc)),
    ),
    (
        "sys/user/max_mnt_namespaces",
        Kind::Count(Counted::Namespaces(ns::Kind::Mount)),
    ),
    (
        "sys/user/max_net_namespaces",
        Kind::Count(Counted::Namespaces(ns::Kind::Net)),
    ),
    (
        "sys/user/max_pid_namespaces",
        Kind::Count(Counted::Namespaces(ns::Kind::Pid)),
    ),
    (
        "sys/user/max_user_namespaces",
        Kind::Count(Counted::Namespaces(ns::Kind::User)),
    ),
    (
        "sys/user/max_uts_namespaces",
        Kind::Count(Counted::Namespaces(ns::Kind::Uts)),
    ),
    ("sys/vm", Kind::Dir),
    (
        "sys/vm/legacy_va_layout",
        Kind::Number(settings::LEGACY_LAYOUT),
    ),
    ("sys/vm/max_map_count", Kind::Number(settings::AREAS)),
    ("sys/vm/memfd_noexec", Kind::Noexec),
    ("sys/vm/mmap_min_addr", Kind::Tunable("65536\n")),
    ("sys/vm/nr_hugepages", Kind::Tunable("0\n")),
    ("sys/vm/nr_overcommit_hugepages", Kind::Tunable("0\n")),
    ("sys/vm/overcommit_kbytes", Kind::Tunable("0\n")),
    (
        "sys/vm/overcommit_memory",
        Kind::Number(settings::OVERCOMMIT),
    ),
    ("sys/vm/overcommit_ratio", Kind::Tunable("50\n")),
    ("sys/vm/swappiness", Kind::Tunable("60\n")),
    ("sys/vm/unprivileged_userfaultfd", Kind::Tunable("0\n")),
    ("sysvipc", Kind::Dir),
    ("sysvipc/msg", Kind::Records(listed::messages)),
    ("sysvipc/sem", Kind::Records(listed::semaphores)),
    ("sysvipc/shm", Kind::Records(listed::segments)),
    ("uptime", Kind::File(uptime)),
    (
        "version",
        Kind::File(|_| format!("{SYSNAME} version {RELEASE} {VERSION}\n").into_bytes()),
    ),
    ("vmstat", Kind::File(vmstat)),
];

const DEVICES: &str =
    "Character devices:\n  1 mem\n  5 /dev/tty\n  5 /dev/console\n136 pts\n\nBlock devices:\n";
const FILESYSTEMS: &str =
    "nodev\tsysfs\nnodev\ttmpfs\nnodev\tproc\nnodev\tcgroup2\nnodev\tpipefs\n";

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

/// Number of directories in the directory at a place.
pub(super) fn directories(dir: usize) -> usize {
    entries(dir)
        .filter(|&place| matches!(PATHS[place].1, Kind::Dir))
        .count()
}

/// The last component of the path at a place.
pub(super) fn last(place: usize) -> &'static [u8] {
    let path = PATHS[place].0.as_bytes();
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(at) => &path[at + 1..],
        None => path,
    }
}

/// The name of the host, or of its domain, as a thread sees it.
pub(super) fn name(k: &Kernel, thread: ThreadId, domain: bool) -> Result<Vec<u8>, Errno> {
    let task = k.tasks.get(thread).ok_or(Errno::ESRCH)?;
    let uts = k.ns.uts(task.ns.uts);
    Ok(line(if domain {
        &uts.domainname
    } else {
        &uts.hostname
    }))
}

fn decimal(value: u64) -> Vec<u8> {
    format!("{value}\n").into_bytes()
}

/// A table with one column for each processor and no lines: nothing interrupts them. `width` is where the
/// columns begin.
fn processors(k: &Kernel, width: usize) -> Vec<u8> {
    let mut text = match width {
        20.. => format!("{:20}", ""),
        width => format!("{:width$}", ""),
    };
    for cpu in 0..k.env.cpus {
        let _ = write!(text, "CPU{cpu:<8}");
    }
    text.push('\n');
    text.into_bytes()
}

/// The controllers of the one hierarchy, which is version 2's.
fn cgroups(_: &mut Kernel) -> Vec<u8> {
    let mut text = String::from("#subsys_name\thierarchy\tnum_cgroups\tenabled\n");
    for name in ["cpuset", "cpu", "cpuacct", "memory", "pids"] {
        let _ = writeln!(text, "{name}\t0\t1\t1");
    }
    text.into_bytes()
}

/// Open files, unused ones, most.
fn file_nr(k: &mut Kernel) -> Vec<u8> {
    format!("{}\t0\t{FILE_MAX}\n", k.files.open_files()).into_bytes()
}

/// Inodes that are known, unused ones.
fn inode_nr(k: &mut Kernel) -> Vec<u8> {
    format!("{}\t0\n", k.vfs.dentries.len()).into_bytes()
}

fn inode_state(k: &mut Kernel) -> Vec<u8> {
    format!("{}\t0\t0\t0\t0\t0\t0\n", k.vfs.dentries.len()).into_bytes()
}

/// Pages by what they are used for.
fn vmstat(k: &mut Kernel) -> Vec<u8> {
    let (used, total) = k.frames.usage();
    let mut text = String::new();
    for (name, value) in [
        ("nr_free_pages", total.saturating_sub(used)),
        ("nr_inactive_anon", 0),
        ("nr_active_anon", used),
        ("nr_inactive_file", 0),
        ("nr_active_file", 0),
        ("nr_unevictable", 0),
        ("nr_mlock", 0),
        ("nr_dirty", 0),
        ("nr_writeback", 0),
        ("pgpgin", 0),
        ("pgpgout", 0),
        ("pswpin", 0),
        ("pswpout", 0),
        ("oom_kill", 0),
    ] {
        let _ = writeln!(text, "{name} {value}");
    }
    text.into_bytes()
}

fn line(text: &[u8]) -> Vec<u8> {
    let mut line = text.to_vec();
    line.push(b'\n');
    line
}

fn cpuinfo(k: &mut Kernel) -> Vec<u8> {
    let mut text = Vec::new();
    for cpu in 0..k.env.cpus {
        text.extend_from_slice(format!("processor\t: {cpu}\n").as_bytes());
        for line in k.env.cpuinfo.split_inclusive(|&byte| byte == b'\n') {
            match placed(line, cpu, k.env.cpus) {
                Some(line) => text.extend_from_slice(line.as_bytes()),
                None => text.extend_from_slice(line),
            }
        }
        if !k.env.cpuinfo.ends_with(b"\n\n") {
            text.push(b'\n');
        }
    }
    text
}

/// A line that says where a processor is, as it is for this one: all are cores of one package.
fn placed(line: &[u8], cpu: u32, cpus: u32) -> Option<String> {
    let name = line.split(|&byte| byte == b'\t' || byte == b':').next()?;
    Some(match name {
        b"physical id" => "physical id\t: 0\n".into(),
        b"siblings" => format!("siblings\t: {cpus}\n"),
        b"core id" => format!("core id\t\t: {cpu}\n"),
        b"cpu cores" => format!("cpu cores\t: {cpus}\n"),
        b"apicid" => format!("apicid\t\t: {cpu}\n"),
        b"initial apicid" => format!("initial apicid\t: {cpu}\n"),
        _ => return None,
    })
}

/// Running threads, all threads, the last process number.
fn load(k: &Kernel) -> (usize, usize, u32) {
    let running = cputime::running(k) as usize;
    (running.max(1), k.tasks.len(), k.tasks.last_tid())
}

fn loadavg(k: &mut Kernel) -> Vec<u8> {
    let (running, all, last) = load(k);
    let [one, five, fifteen] = k.system.load.hundredths();
    let text = [one, five, fifteen].map(|(whole, part)| format!("{whole}.{part:02} "));
    format!("{}{running}/{all} {last}\n", text.concat()).into_bytes()
}

fn meminfo(k: &mut Kernel) -> Vec<u8> {
    let (used, total) = k.frames.usage();
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
    k.env.now.mono.saturating_sub(k.env.booted.mono)
}

fn uptime(k: &mut Kernel) -> Vec<u8> {
    let hundredths = up(k) / 10_000_000;
    let (sec, rest) = (hundredths / 100, hundredths % 100);
    let used = cputime::of_all(k).total();
    let idle = (up(k) * u64::from(k.env.cpus)).saturating_sub(used) / 10_000_000;
    format!("{sec}.{rest:02} {}.{:02}\n", idle / 100, idle % 100).into_bytes()
}

fn stat(k: &mut Kernel) -> Vec<u8> {
    let time = cputime::of_all(k);
    let (user, system) = (time.user / TICK, time.system / TICK);
    let all = up(k) / TICK * u64::from(k.env.cpus);
    let idle = all.saturating_sub(user + system);
    let mut text = format!("cpu  {user} 0 {system} {idle} 0 0 0 0 0 0\n");
    let cpus = u64::from(k.env.cpus);
    for cpu in 0..cpus {
        let (user, system, idle) = (user / cpus, system / cpus, idle / cpus);
        let _ = writeln!(text, "cpu{cpu} {user} 0 {system} {idle} 0 0 0 0 0 0");
    }
    let (running, ..) = load(k);
    let (switches, forks) = (k.system.switches, k.system.forks);
    let booted = k.env.booted.real / 1_000_000_000;
    let _ = writeln!(
        text,
        "intr 0\nctxt {switches}\nbtime {booted}\nprocesses {forks}\nprocs_running {running}\nprocs_blocked 0\nsoftirq 0 0 0 0 0 0 0 0 0 0 0"
    );
    text.into_bytes()
}

/// 16 bytes as a random (version 4) UUID.
fn format_uuid(mut bytes: [u8; 16]) -> Vec<u8> {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = hex::encode(bytes);
    for at in [8, 13, 18, 23] {
        text.insert(at, '-');
    }
    text.push('\n');
    text.into_bytes()
}

fn uuid(k: &mut Kernel) -> Vec<u8> {
    let mut bytes = [0; 16];
    k.env.rng.fill(&mut bytes);
    format_uuid(bytes)
}

fn boot_id(k: &mut Kernel) -> Vec<u8> {
    format_uuid(k.env.boot_id)
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
