//! `/sys`: processors, the one memory node, the loopback device, huge pages.

use alloc::format;
use alloc::string::String;

use super::Kind::{self, Dir, File, Link, Text};
use crate::Kernel;
use crate::abi::PAGE_SIZE;

const LO: &str = "devices/virtual/net/lo";

pub(super) static PATHS: &[(&str, Kind)] = &[
    ("", Dir),
    ("block", Dir),
    ("bus", Dir),
    ("class", Dir),
    ("class/block", Dir),
    ("class/net", Dir),
    ("class/net/lo", Link("../../devices/virtual/net/lo")),
    ("dev", Dir),
    ("dev/block", Dir),
    ("dev/char", Dir),
    ("devices", Dir),
    ("devices/system", Dir),
    ("devices/system/cpu", Dir),
    ("devices/system/cpu/cpu#", Dir),
    ("devices/system/cpu/cpu#/topology", Dir),
    (
        "devices/system/cpu/cpu#/topology/cluster_cpus",
        File(0o444, |_, cpu| mask(cpu, cpu)),
    ),
    (
        "devices/system/cpu/cpu#/topology/cluster_cpus_list",
        File(0o444, |_, cpu| format!("{cpu}\n")),
    ),
    (
        "devices/system/cpu/cpu#/topology/cluster_id",
        Text(0o444, "65535\n"),
    ),
    (
        "devices/system/cpu/cpu#/topology/core_cpus",
        File(0o444, |_, cpu| mask(cpu, cpu)),
    ),
    (
        "devices/system/cpu/cpu#/topology/core_cpus_list",
        File(0o444, |_, cpu| format!("{cpu}\n")),
    ),
    (
        "devices/system/cpu/cpu#/topology/core_id",
        File(0o444, |_, cpu| format!("{cpu}\n")),
    ),
    (
        "devices/system/cpu/cpu#/topology/core_siblings",
        File(0o444, |k, _| mask(0, last(k))),
    ),
    (
        "devices/system/cpu/cpu#/topology/core_siblings_list",
        File(0o444, list),
    ),
    (
        "devices/system/cpu/cpu#/topology/die_cpus",
        File(0o444, |k, _| mask(0, last(k))),
    ),
    (
        "devices/system/cpu/cpu#/topology/die_cpus_list",
        File(0o444, list),
    ),
    (
        "devices/system/cpu/cpu#/topology/die_id",
        Text(0o444, "0\n"),
    ),
    (
        "devices/system/cpu/cpu#/topology/package_cpus",
        File(0o444, |k, _| mask(0, last(k))),
    ),
    (
        "devices/system/cpu/cpu#/topology/package_cpus_list",
        File(0o444, list),
    ),
    (
        "devices/system/cpu/cpu#/topology/physical_package_id",
        Text(0o444, "0\n"),
    ),
    (
        "devices/system/cpu/cpu#/topology/thread_siblings",
        File(0o444, |_, cpu| mask(cpu, cpu)),
    ),
    (
        "devices/system/cpu/cpu#/topology/thread_siblings_list",
        File(0o444, |_, cpu| format!("{cpu}\n")),
    ),
    ("devices/system/cpu/isolated", Text(0o444, "\n")),
    ("devices/system/cpu/kernel_max", Text(0o444, "63\n")),
    ("devices/system/cpu/offline", Text(0o444, "\n")),
    ("devices/system/cpu/online", File(0o444, list)),
    ("devices/system/cpu/possible", File(0o444, list)),
    ("devices/system/cpu/present", File(0o444, list)),
    ("devices/system/node", Dir),
    ("devices/system/node/has_cpu", Text(0o444, "0\n")),
    ("devices/system/node/has_memory", Text(0o444, "0\n")),
    ("devices/system/node/has_normal_memory", Text(0o444, "0\n")),
    ("devices/system/node/node0", Dir),
    ("devices/system/node/node0/cpulist", File(0o444, list)),
    (
        "devices/system/node/node0/cpumap",
        File(0o444, |k, _| mask(0, last(k))),
    ),
    ("devices/system/node/node0/distance", Text(0o444, "10\n")),
    (
        "devices/system/node/node0/meminfo",
        File(0o444, node_meminfo),
    ),
    ("devices/system/node/online", Text(0o444, "0\n")),
    ("devices/system/node/possible", Text(0o444, "0\n")),
    ("devices/virtual", Dir),
    ("devices/virtual/net", Dir),
    (LO, Dir),
    ("devices/virtual/net/lo/addr_len", Text(0o444, "6\n")),
    (
        "devices/virtual/net/lo/address",
        Text(0o444, "00:00:00:00:00:00\n"),
    ),
    (
        "devices/virtual/net/lo/broadcast",
        Text(0o444, "00:00:00:00:00:00\n"),
    ),
    ("devices/virtual/net/lo/carrier", Text(0o644, "1\n")),
    ("devices/virtual/net/lo/dev_id", Text(0o444, "0x0\n")),
    ("devices/virtual/net/lo/flags", Text(0o644, "0x9\n")),
    ("devices/virtual/net/lo/ifindex", Text(0o444, "1\n")),
    ("devices/virtual/net/lo/iflink", Text(0o444, "1\n")),
    ("devices/virtual/net/lo/mtu", Text(0o644, "65536\n")),
    ("devices/virtual/net/lo/operstate", Text(0o444, "unknown\n")),
    ("devices/virtual/net/lo/tx_queue_len", Text(0o644, "1000\n")),
    ("devices/virtual/net/lo/type", Text(0o444, "772\n")),
    (
        "devices/virtual/net/lo/uevent",
        Text(0o644, "INTERFACE=lo\nIFINDEX=1\n"),
    ),
    ("firmware", Dir),
    ("fs", Dir),
    ("fs/cgroup", Dir),
    ("kernel", Dir),
    ("kernel/address_bits", Text(0o444, "64\n")),
    ("kernel/cpu_byteorder", Text(0o444, "little\n")),
    ("kernel/fscaps", Text(0o444, "1\n")),
    ("kernel/mm", Dir),
    ("kernel/mm/transparent_hugepage", Dir),
    (
        "kernel/mm/transparent_hugepage/defrag",
        Text(0o644, "always defer defer+madvise madvise [never]\n"),
    ),
    (
        "kernel/mm/transparent_hugepage/enabled",
        Text(0o644, "always madvise [never]\n"),
    ),
    (
        "kernel/mm/transparent_hugepage/hpage_pmd_size",
        Text(0o444, "2097152\n"),
    ),
    (
        "kernel/mm/transparent_hugepage/shmem_enabled",
        Text(0o644, "always within_size advise [never] deny force\n"),
    ),
    (
        "kernel/mm/transparent_hugepage/use_zero_page",
        Text(0o644, "0\n"),
    ),
    ("module", Dir),
];

/// Number of the last processor.
fn last(k: &Kernel) -> u32 {
    k.env.cpus.saturating_sub(1)
}

/// All processors as a list.
fn list(k: &Kernel, _: u32) -> String {
    match last(k) {
        0 => "0\n".into(),
        last => format!("0-{last}\n"),
    }
}

/// Processors `from` to `to` as a mask: words of 32 bits in hexadecimal, the first one as short as it can be.
fn mask(from: u32, to: u32) -> String {
    let mut text = String::new();
    for word in (0..=to / 32).rev() {
        let bits = (0..32).filter(|bit| (from..=to).contains(&(word * 32 + bit)));
        let bits = bits.fold(0u32, |bits, bit| bits | 1 << bit);
        match text.is_empty() {
            true => text += &format!("{bits:x}"),
            false => text += &format!(",{bits:08x}"),
        }
    }
    text.push('\n');
    text
}

fn node_meminfo(k: &Kernel, _: u32) -> String {
    let (used, total) = k.frames.usage();
    let kib = |frames: u32| u64::from(frames) * PAGE_SIZE / 1024;
    let mut text = String::new();
    for (name, value) in [
        ("MemTotal", kib(total)),
        ("MemFree", kib(total.saturating_sub(used))),
        ("MemUsed", kib(used)),
        ("SwapCached", 0),
        ("AnonPages", kib(used)),
    ] {
        let label = format!("{name}:");
        text += &format!("Node 0 {label:<15}{value:>8} kB\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_have_words_of_32_processors() {
        assert_eq!(mask(0, 0), "1\n");
        assert_eq!(mask(0, 1), "3\n");
        assert_eq!(mask(1, 1), "2\n");
        assert_eq!(mask(0, 32), "1,ffffffff\n");
        assert_eq!(mask(33, 33), "2,00000000\n");
    }
}
