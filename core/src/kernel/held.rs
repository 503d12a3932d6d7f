//! What the kernel holds for guests in objects of its own, which counts as the run's memory (`docs/limits.md`
//! has the whole table).
//!
//! Each part counts what it has as it changes; a cost is about what the allocator gives for one, with its
//! places in indexes. Here they are only added up, once for each input.

use crate::Kernel;

/// A `struct vm_area_struct`.
const AREA_COST: u64 = 160;
/// A `struct poll_table_entry` with the key of what is waited for.
const WAIT_COST: u64 = 192;
/// The place of one in the index of a file.
const MAPPED_COST: u64 = 128;

/// What is counted here, of parts that have no list of their own.
#[inline]
fn own(k: &Kernel) -> [(&'static str, u64); 6] {
    [
        (
            "areas of address spaces",
            k.mm.areas * AREA_COST + k.mm.mapped.len() * MAPPED_COST,
        ),
        ("contents of files of proc and sysfs", k.contents.held()),
        ("operations of the host", k.ops.held()),
        ("places in queues", k.env.queues.len() * WAIT_COST),
        ("namespaces", k.ns.held()),
        ("Landlock rulesets and domains", k.landlock.held()),
    ]
}

/// Kinds of objects and their bytes.
pub(super) fn all(k: &Kernel) -> impl Iterator<Item = (&'static str, u64)> {
    let tasks = k.tasks.held();
    let ipc = k.ipc.held();
    own(k)
        .into_iter()
        .chain(tasks)
        .chain(ipc)
        .chain(k.files.held())
        .chain(k.vfs.held())
        .chain(k.fs.held())
}

/// Bytes of all of them. That is asked for at every input, so the lists are not put together.
pub(super) fn total(k: &Kernel) -> u64 {
    let sum = |kinds: &[(&'static str, u64)]| kinds.iter().map(|(_, bytes)| bytes).sum::<u64>();
    sum(&own(k))
        + sum(&k.tasks.held())
        + sum(&k.ipc.held())
        + sum(&k.files.held())
        + sum(&k.vfs.held())
        + sum(&k.fs.held())
}
