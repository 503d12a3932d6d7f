//! Where memory comes from (set_mempolicy(2) and its relatives), on a machine with one node: what is asked
//! for is checked and kept, and every page is where it should be.

use super::pieces::{self, Part, Unit};
use crate::abi::raw::general as g;
use crate::abi::{Errno, PAGE_SIZE};
use crate::args::*;
use crate::env::wait::SysResult;
use crate::kernel::Cx;
use crate::machine::SpaceId;
use crate::mm::fault;
use crate::mm::map::{self as mapping, Holes, page_up};
use crate::mm::vma::{Policy, Vma};
use crate::syscall::missing::{among, known};
use crate::task::look::may_look;

/// The only node, as a set.
const ALL_NODES: u64 = 1;
/// Nodes that Linux could have (`MAX_NUMNODES`).
const NODES_MAX: u64 = 1024;

const MPOL_DEFAULT: u16 = 0;
const MPOL_PREFERRED: u16 = 1;
const MPOL_BIND: u16 = 2;
const MPOL_INTERLEAVE: u16 = 3;
const MPOL_LOCAL: u16 = 4;
const MPOL_PREFERRED_MANY: u16 = 5;
const MPOL_WEIGHTED_INTERLEAVE: u16 = 6;
const STATIC_NODES: u16 = 1 << 15;
const RELATIVE_NODES: u16 = 1 << 14;
const NUMA_BALANCING: u16 = 1 << 13;
const MODE_FLAGS: u16 = STATIC_NODES | RELATIVE_NODES | NUMA_BALANCING;

/// Pages that are looked at in one go.
const AT_ONCE: u64 = 16384;

/// Reads a set of nodes of `max` - 1 bits. `EINVAL` if it names nodes that Linux could not have.
fn read_nodes(cx: &mut Cx<'_, '_>, addr: u64, max: u64) -> Result<u64, Errno> {
    let bits = max.wrapping_sub(1);
    if bits == 0 || addr == 0 {
        return Ok(0);
    }
    if bits > PAGE_SIZE * 8 {
        return Err(Errno::EINVAL);
    }
    let mut first = 0;
    for index in 0..bits.div_ceil(64) {
        let mut word: u64 = cx.read_obj(addr.wrapping_add(index * 8))?;
        if (index + 1) * 64 > bits {
            word &= (1 << (bits % 64)) - 1;
        }
        match index {
            0 => first = word,
            _ if index * 64 >= NODES_MAX && word != 0 => return Err(Errno::EINVAL),
            _ => {}
        }
    }
    Ok(first)
}

/// Writes a set of nodes of `max` - 1 bits.
fn write_nodes(cx: &mut Cx<'_, '_>, addr: u64, max: u64, nodes: u64) -> Result<(), Errno> {
    let bytes = max.wrapping_sub(1).div_ceil(64).saturating_mul(8);
    if bytes > PAGE_SIZE {
        return Err(Errno::EINVAL);
    }
    for at in (0..bytes).step_by(8) {
        let word = if at == 0 { nodes } else { 0 };
        cx.write_obj(addr.wrapping_add(at), &word)?;
    }
    Ok(())
}

/// The policy that mode and nodes stand for. `EINVAL`.
fn policy(mode: i32, nodes: u64) -> Result<Policy, Errno> {
    let mode = u16::try_from(mode).map_err(|_| Errno::EINVAL)?;
    let (flags, kind) = (mode & MODE_FLAGS, mode & !MODE_FLAGS);
    let both = STATIC_NODES | RELATIVE_NODES;
    let balanced = matches!(kind, MPOL_BIND | MPOL_PREFERRED_MANY);
    if kind > MPOL_WEIGHTED_INTERLEAVE
        || flags & both == both
        || flags & NUMA_BALANCING != 0 && !balanced
    {
        return Err(Errno::EINVAL);
    }
    let relative = flags & both != 0;
    match kind {
        MPOL_DEFAULT if nodes != 0 => Err(Errno::EINVAL),
        MPOL_DEFAULT => Ok(Policy::default()),
        MPOL_LOCAL if nodes != 0 || relative => Err(Errno::EINVAL),
        MPOL_PREFERRED if nodes == 0 && relative => Err(Errno::EINVAL),
        MPOL_LOCAL => Ok(Policy { mode, nodes: 0 }),
        MPOL_PREFERRED if nodes == 0 => Ok(Policy {
            mode: MPOL_LOCAL,
            nodes: 0,
        }),
        // Relative nodes are counted among those there are; others have to be there.
        _ if nodes == 0 || flags & RELATIVE_NODES == 0 && nodes & ALL_NODES == 0 => {
            Err(Errno::EINVAL)
        }
        _ if relative => Ok(Policy { mode, nodes }),
        _ => Ok(Policy {
            mode,
            nodes: nodes & ALL_NODES,
        }),
    }
}

pub(in super::super) fn set_mempolicy(
    cx: &mut Cx<'_, '_>,
    mode: Int,
    nodemask: Addr,
    maxnode: Ulong,
) -> SysResult {
    // The mode is looked at first.
    policy(mode.0, ALL_NODES).or_else(|_| policy(mode.0, 0))?;
    let nodes = read_nodes(cx, nodemask.0, maxnode.0)?;
    cx.task_mut().policy = policy(mode.0, nodes)?;
    Ok(0)
}

pub(in super::super) fn get_mempolicy(
    cx: &mut Cx<'_, '_>,
    mode: Addr,
    nodemask: Addr,
    maxnode: Ulong,
    addr: Addr,
    flags: PolicyFlags,
) -> SysResult {
    let flags = known(cx, flags)?;
    let by_node = flags.contains(PolicyFlags::NODE);
    let by_addr = flags.contains(PolicyFlags::ADDR);
    if nodemask.0 != 0 && maxnode.0 < ALL_NODES
        || flags.contains(PolicyFlags::MEMS_ALLOWED) && (by_node || by_addr)
        || !by_addr && addr.0 != 0
    {
        return Err(Errno::EINVAL.into());
    }
    let id = cx.space();
    let mut found = match by_addr {
        _ if flags.contains(PolicyFlags::MEMS_ALLOWED) => Policy {
            mode: 0,
            nodes: ALL_NODES,
        },
        true => {
            let (_, vma) = cx.k.mm.space(id).find(addr.0).ok_or(Errno::EFAULT)?;
            vma.policy
        }
        false => cx.task().policy,
    };
    if by_node {
        let interleaved = matches!(
            found.mode & !MODE_FLAGS,
            MPOL_INTERLEAVE | MPOL_WEIGHTED_INTERLEAVE
        );
        if by_addr {
            fault::kernel_access(cx.k, cx.p, id, addr.0, false)?;
        } else if !interleaved {
            return Err(Errno::EINVAL.into());
        }
        // The number of the node that the page is on, or that the next one comes from.
        found.mode = 0;
    }
    if mode.0 != 0 {
        cx.write_obj(mode.0, &i32::from(found.mode))?;
    }
    if nodemask.0 != 0 {
        write_nodes(cx, nodemask.0, maxnode.0, found.nodes)?;
    }
    Ok(0)
}

pub(in super::super) fn mbind(
    cx: &mut Cx<'_, '_>,
    addr: Addr,
    len: Size,
    mode: Int,
    nodemask: Addr,
    maxnode: Ulong,
    flags: MovePolicy,
) -> SysResult {
    policy(mode.0, ALL_NODES).or_else(|_| policy(mode.0, 0))?;
    let nodes = read_nodes(cx, nodemask.0, maxnode.0)?;
    let flags = known(cx, flags)?;
    if flags.contains(MovePolicy::MOVE_ALL) && !cx.creds().capable(g::CAP_SYS_NICE) {
        return Err(Errno::EPERM.into());
    }
    let Some((start, end)) = policy_range(addr.0, len.0)? else {
        return Ok(0);
    };
    let new = policy(mode.0, nodes)?;
    let id = cx.space();
    let space = cx.k.mm.space(id);
    let default = new == Policy::default();
    let present = match default {
        true => space.overlapping(start, end).next().is_some(),
        false => cx.call().progress != 0 || cx.k.mm.space(id).covers(start, end),
    };
    if !present {
        return Err(Errno::EFAULT.into());
    }
    pieces::each(cx, id, Part(1), (start, end), Unit::Areas, |cx, range| {
        let set = |vma: &mut Vma| {
            vma.policy = new;
            Ok(())
        };
        match mapping::change(cx.k, cx.p, id, range, Holes::Pass, set) {
            Err(Errno::ENOMEM) if default => Ok(()),
            result => result,
        }
    })?;
    Ok(0)
}

/// A range of pages; `None` if it is empty. `EINVAL`.
fn policy_range(addr: u64, len: u64) -> Result<Option<(u64, u64)>, Errno> {
    if !addr.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    let len = page_up(len).unwrap_or(0);
    let end = addr.checked_add(len).ok_or(Errno::EINVAL)?;
    Ok((len > 0).then_some((addr, end)))
}

pub(in super::super) fn set_mempolicy_home_node(
    cx: &mut Cx<'_, '_>,
    addr: Addr,
    len: Size,
    home_node: Ulong,
    flags: NoLongFlags,
) -> SysResult {
    if !addr.0.is_multiple_of(PAGE_SIZE) || !flags.is_empty() || home_node.0 != 0 {
        return Err(Errno::EINVAL.into());
    }
    let Some((start, end)) = policy_range(addr.0, len.0)? else {
        return Ok(0);
    };
    // It only matters where a policy names several nodes.
    let mut result = Err(Errno::ENOENT);
    for (_, vma) in cx.k.mm.space(cx.space()).overlapping(start, end) {
        match vma.policy.mode & !MODE_FLAGS {
            MPOL_DEFAULT => {}
            MPOL_BIND | MPOL_PREFERRED_MANY => result = Ok(0),
            _ => return Err(Errno::EOPNOTSUPP.into()),
        }
    }
    Ok(result?)
}

/// The space of a process whose pages the caller may move. `ESRCH`, `EPERM`.
fn space_of(cx: &Cx<'_, '_>, pid: i32) -> Result<SpaceId, Errno> {
    if pid == 0 {
        return Ok(cx.space());
    }
    let tid = u32::try_from(pid).map_err(|_| Errno::ESRCH)?;
    let thread = cx.meant_thread(tid).ok_or(Errno::ESRCH)?;
    let task = cx.k.tasks.get(thread).ok_or(Errno::ESRCH)?;
    match may_look(cx.k, cx.thread, thread) {
        true if task.exited => Err(Errno::EINVAL),
        true => Ok(task.space),
        false => Err(Errno::EPERM),
    }
}

pub(in super::super) fn move_pages(
    cx: &mut Cx<'_, '_>,
    pid: Pid,
    count: Ulong,
    pages: Addr,
    nodes: Addr,
    status: Addr,
    flags: MovePolicy,
) -> SysResult {
    let flags = among(cx, flags, MovePolicy::MOVE | MovePolicy::MOVE_ALL)?;
    if flags.contains(MovePolicy::MOVE_ALL) && !cx.creds().capable(g::CAP_SYS_NICE) {
        return Err(Errno::EPERM.into());
    }
    let id = space_of(cx, pid.0)?;
    for index in cx.call().progress..count.0 {
        if index % AT_ONCE == 0 && index != cx.call().progress {
            return cx.pause(index);
        }
        let at: u64 = cx.read_obj(pages.0.wrapping_add(index.wrapping_mul(8)))?;
        if nodes.0 != 0 {
            let node: i32 = cx.read_obj(nodes.0.wrapping_add(index.wrapping_mul(4)))?;
            if node != 0 {
                return Err(Errno::ENODEV.into());
            }
        }
        let space = cx.k.mm.space(id);
        let found = match space.find(at) {
            None => -i32::from(Errno::EFAULT.number()),
            Some(_) if space.pages.get(at / PAGE_SIZE).is_none() => {
                -i32::from(Errno::ENOENT.number())
            }
            Some(_) => 0,
        };
        cx.write_obj(status.0.wrapping_add(index.wrapping_mul(4)), &found)?;
    }
    Ok(0)
}

pub(in super::super) fn migrate_pages(
    cx: &mut Cx<'_, '_>,
    pid: Pid,
    maxnode: Ulong,
    old: Addr,
    new: Addr,
) -> SysResult {
    read_nodes(cx, old.0, maxnode.0)?;
    let new = read_nodes(cx, new.0, maxnode.0)?;
    space_of(cx, pid.0)?;
    if new & !ALL_NODES != 0 && !cx.creds().capable(g::CAP_SYS_NICE) {
        return Err(Errno::EPERM.into());
    }
    match new & ALL_NODES {
        0 => Err(Errno::EINVAL.into()),
        _ => Ok(0),
    }
}
