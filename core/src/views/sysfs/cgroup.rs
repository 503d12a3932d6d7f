//! `/sys/fs/cgroup`: the sandbox as one control group of version 2 without children (cgroups(7),
//! `cgroup-v2.rst` of Linux).

use alloc::format;
use alloc::string::String;
use core::fmt::Write;

use super::Kind::{self, Dir, File, Text};
use crate::Kernel;
use crate::abi::PAGE_SIZE;

pub(super) static PATHS: &[(&str, Kind)] = &[
    ("", Dir),
    (
        "cgroup.controllers",
        Text(0o444, "cpuset cpu io memory pids\n"),
    ),
    ("cgroup.events", Text(0o444, "populated 1\nfrozen 0\n")),
    ("cgroup.freeze", Text(0o644, "0\n")),
    ("cgroup.max.depth", Text(0o644, "max\n")),
    ("cgroup.max.descendants", Text(0o644, "max\n")),
    ("cgroup.procs", File(0o644, processes)),
    (
        "cgroup.stat",
        Text(0o444, "nr_descendants 0\nnr_dying_descendants 0\n"),
    ),
    ("cgroup.subtree_control", Text(0o644, "\n")),
    ("cgroup.threads", File(0o644, threads)),
    ("cgroup.type", Text(0o644, "domain\n")),
    ("cpu.idle", Text(0o644, "0\n")),
    ("cpu.max", Text(0o644, "max 100000\n")),
    ("cpu.max.burst", Text(0o644, "0\n")),
    ("cpu.stat", File(0o444, cpu_stat)),
    ("cpu.weight", Text(0o644, "100\n")),
    ("cpu.weight.nice", Text(0o644, "0\n")),
    ("cpuset.cpus", Text(0o644, "\n")),
    ("cpuset.cpus.effective", File(0o444, cpus)),
    ("cpuset.cpus.partition", Text(0o644, "member\n")),
    ("cpuset.mems", Text(0o644, "\n")),
    ("cpuset.mems.effective", Text(0o444, "0\n")),
    ("io.max", Text(0o644, "")),
    ("io.stat", Text(0o444, "")),
    ("memory.current", File(0o444, memory_current)),
    ("memory.events", Text(0o444, MEMORY_EVENTS)),
    ("memory.events.local", Text(0o444, MEMORY_EVENTS)),
    ("memory.high", Text(0o644, "max\n")),
    ("memory.low", Text(0o644, "0\n")),
    // The sandbox has a machine's memory of its own: `MemTotal` is the limit.
    ("memory.max", Text(0o644, "max\n")),
    ("memory.min", Text(0o644, "0\n")),
    ("memory.oom.group", Text(0o644, "0\n")),
    ("memory.stat", File(0o444, memory_stat)),
    ("memory.swap.current", Text(0o444, "0\n")),
    ("memory.swap.high", Text(0o644, "max\n")),
    ("memory.swap.max", Text(0o644, "0\n")),
    (
        "pids.current",
        File(0o444, |k, _| format!("{}\n", k.tasks.len())),
    ),
    ("pids.events", Text(0o444, "max 0\n")),
    ("pids.max", Text(0o644, "max\n")),
];

const MEMORY_EVENTS: &str = "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\n";

fn processes(k: &Kernel, _: u32) -> String {
    k.tasks.groups().map(|tgid| format!("{tgid}\n")).collect()
}

fn threads(k: &Kernel, _: u32) -> String {
    let groups = k.tasks.groups();
    groups
        .flat_map(|tgid| k.tasks.threads(tgid))
        .map(|tid| format!("{tid}\n"))
        .collect()
}

fn cpus(k: &Kernel, _: u32) -> String {
    match k.env.cpus {
        0 | 1 => "0\n".into(),
        cpus => format!("0-{}\n", cpus - 1),
    }
}

fn cpu_stat(k: &Kernel, _: u32) -> String {
    let time = crate::task::cputime::of_all(k);
    let (user, system) = (time.user / 1000, time.system / 1000);
    let used = time.total() / 1000;
    format!(
        "usage_usec {used}\nuser_usec {user}\nsystem_usec {system}\nnice_usec 0\nnr_periods 0\nnr_throttled 0\nthrottled_usec 0\nnr_bursts 0\nburst_usec 0\n"
    )
}

fn memory_current(k: &Kernel, _: u32) -> String {
    let (used, _) = k.frames.usage();
    format!("{}\n", u64::from(used) * PAGE_SIZE)
}

fn memory_stat(k: &Kernel, _: u32) -> String {
    let (used, _) = k.frames.usage();
    let used = u64::from(used) * PAGE_SIZE;
    let mut text = String::new();
    for (name, value) in [
        ("anon", used),
        ("file", 0),
        ("kernel", 0),
        ("kernel_stack", 0),
        ("pagetables", 0),
        ("sock", 0),
        ("shmem", 0),
        ("file_mapped", 0),
        ("file_dirty", 0),
        ("file_writeback", 0),
        ("swapcached", 0),
        ("inactive_anon", 0),
        ("active_anon", used),
        ("inactive_file", 0),
        ("active_file", 0),
        ("unevictable", 0),
        ("slab", 0),
    ] {
        let _ = writeln!(text, "{name} {value}");
    }
    text
}
