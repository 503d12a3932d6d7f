//! The memory of other processes: process_vm_readv(2) and process_vm_writev(2).

use crate::abi::{Errno, PAGE_SIZE};
use crate::args::*;
use crate::env::wait::SysResult;
use crate::file::rw::{IOV_MAX, Iov, MAX_RW, PIECE};
use crate::kernel::Cx;
use crate::machine::SpaceId;
use crate::mm::user;
use crate::task::look::may_look;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Direction {
    /// From the other process.
    Read,
    /// To the other process.
    Write,
}

pub(in super::super) fn process_vm_readv(
    cx: &mut Cx<'_, '_>,
    pid: Pid,
    local: Addr,
    local_count: Ulong,
    remote: Addr,
    remote_count: Ulong,
    flags: Ulong,
) -> SysResult {
    let lists = [(local.0, local_count.0), (remote.0, remote_count.0)];
    copy(cx, pid, lists, flags, Direction::Read)
}

pub(in super::super) fn process_vm_writev(
    cx: &mut Cx<'_, '_>,
    pid: Pid,
    local: Addr,
    local_count: Ulong,
    remote: Addr,
    remote_count: Ulong,
    flags: Ulong,
) -> SysResult {
    let lists = [(local.0, local_count.0), (remote.0, remote_count.0)];
    copy(cx, pid, lists, flags, Direction::Write)
}

fn copy(
    cx: &mut Cx<'_, '_>,
    pid: Pid,
    [local, remote]: [(u64, u64); 2],
    flags: Ulong,
    direction: Direction,
) -> SysResult {
    if flags.0 != 0 {
        return Err(Errno::EINVAL.into());
    }
    let mut local = Iov::vector(cx, local.0, local.1)?;
    if local.left() == 0 {
        return Ok(0);
    }
    if remote.1 > IOV_MAX {
        return Err(Errno::EINVAL.into());
    }
    let mut parts: smallvec::SmallVec<[(u64, u64); 8]> = smallvec::SmallVec::new();
    let mut sum = 0;
    for index in 0..remote.1 {
        let [base, len]: [u64; 2] = cx.read_obj(remote.0.wrapping_add(index * 16))?;
        if len as i64 <= -1 {
            return Err(Errno::EINVAL.into());
        }
        // Other processes' addresses are not looked at before they are used.
        let len = len.min(MAX_RW - sum);
        sum += len;
        parts.push((base, len));
    }
    if sum == 0 {
        return Ok(0);
    }
    let tid = u32::try_from(pid.0).map_err(|_| Errno::ESRCH)?;
    let before = cx.call().progress;
    let thread = cx.meant_thread(tid);
    let task = thread.and_then(|thread| cx.k.tasks.get(thread));
    let (thread, theirs) = match (thread, task.filter(|task| !task.exited)) {
        (Some(thread), Some(task)) => (thread, task.space),
        // It has ended since the last piece.
        _ if before > 0 => return Ok(before),
        _ => return Err(Errno::ESRCH.into()),
    };
    if !may_look(cx.k, cx.thread, thread) {
        return Err(Errno::EPERM.into());
    }
    let mut done = cx.call().progress;
    let piece = done.saturating_add(PIECE);
    local.advance(done);
    let mut skip = done;
    for (mut at, mut len) in parts {
        let passed = skip.min(len);
        skip -= passed;
        at = at.wrapping_add(passed);
        len -= passed;
        while len > 0
            && let Some((own, own_len)) = local.front()
        {
            if done >= piece {
                cx.call().progress = done;
                let mut wait = cx.others_first();
                wait.killable = true;
                return wait.into();
            }
            let within = |addr: u64| PAGE_SIZE - addr % PAGE_SIZE;
            let step = len.min(own_len).min(within(at)).min(within(own));
            match copy_step(cx, theirs, at, own, step, direction) {
                Ok(()) => {}
                Err(_) if done > 0 => return Ok(done),
                Err(errno) => return Err(errno.into()),
            }
            local.advance(step);
            done += step;
            at = at.wrapping_add(step);
            len -= step;
        }
    }
    Ok(done)
}

/// Copies bytes that lie in one page on either side.
fn copy_step(
    cx: &mut Cx<'_, '_>,
    theirs: SpaceId,
    at: u64,
    own: u64,
    len: u64,
    direction: Direction,
) -> Result<(), Errno> {
    let mine = cx.space();
    let (from, to) = match direction {
        Direction::Read => ((theirs, at), (mine, own)),
        Direction::Write => ((mine, own), (theirs, at)),
    };
    let mut page = [0; PAGE_SIZE as usize];
    let bytes = &mut page[..len as usize];
    user::read_in(cx.k, cx.p, from.0, from.1, bytes)?;
    user::write_in(cx.k, cx.p, to.0, to.1, bytes)
}
