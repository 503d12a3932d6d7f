//! Futexes (futex(2)).

use super::args::*;
use crate::Kernel;
use crate::abi::layout::Timespec;
use crate::abi::raw::general as g;
use crate::abi::{Errno, PAGE_SIZE};
use crate::kernel::{Cx, Restart, SysResult, Wait, WaitKey};
use crate::machine::{SpaceId, ThreadId};
use crate::port::Ports;
use crate::vfs::filesystem::Source;

/// States of a wait, kept in `Call::progress`: the task sleeps on its word, or was woken. 0 is neither.
const ASLEEP: u64 = 1;
const WOKEN: u64 = 2;

/// Key bit 63: the word is known by its frame, not by its address.
const SHARED: u64 = 1 << 63;

const CMD_MASK: u32 = !(g::FUTEX_PRIVATE_FLAG | g::FUTEX_CLOCK_REALTIME);

pub(super) fn futex(
    cx: &mut Cx<'_, '_>,
    uaddr: Addr,
    op: Hex,
    val: Uint,
    timeout: Addr,
    uaddr2: Addr,
    val3: Uint,
) -> SysResult {
    let op = op.0 as u32;
    let private = op & g::FUTEX_PRIVATE_FLAG != 0;
    let realtime = op & g::FUTEX_CLOCK_REALTIME != 0;
    let count = val.0 as i32 as u32 as usize;
    match op & CMD_MASK {
        g::FUTEX_WAIT if !realtime => {
            let end = match timeout.0 {
                0 => None,
                addr => {
                    let timeout = cx
                        .read_obj::<Timespec>(addr)?
                        .nanos()
                        .ok_or(Errno::EINVAL)?;
                    Some(cx.call().entered.mono.saturating_add(timeout))
                }
            };
            wait(cx, uaddr.0, private, val.0, end, g::FUTEX_BITSET_MATCH_ANY)
        }
        g::FUTEX_WAIT_BITSET => {
            let end = match timeout.0 {
                0 => None,
                addr => {
                    let time = cx
                        .read_obj::<Timespec>(addr)?
                        .nanos()
                        .ok_or(Errno::EINVAL)?;
                    let now = cx.now();
                    let clock = if realtime { now.real } else { now.mono };
                    Some(now.mono.saturating_add(time.saturating_sub(clock)))
                }
            };
            wait(cx, uaddr.0, private, val.0, end, val3.0)
        }
        g::FUTEX_WAKE => wake_matching(cx, uaddr.0, private, count, g::FUTEX_BITSET_MATCH_ANY),
        g::FUTEX_WAKE_BITSET => wake_matching(cx, uaddr.0, private, count, val3.0),
        _ => {
            // Requeue, wake-op and priority inheritance.
            let _ = uaddr2;
            Err(Errno::ENOSYS.into())
        }
    }
}

/// What a futex word is known by: its address in a private mapping's space, or the frame it lies in.
fn key(cx: &mut Cx<'_, '_>, addr: u64, private: bool) -> Result<(WaitKey, u64), Errno> {
    if !addr.is_multiple_of(4) {
        return Err(Errno::EINVAL);
    }
    let run = cx.user_run(addr, 4, false)?;
    let offset = match run.source {
        Source::Memory(offset) => Some(offset),
        // A word in an image or a hole never changes; nobody can wake by it but through the same address.
        Source::Image { .. } | Source::Zero => None,
    };
    let key = match offset {
        Some(offset) if !private => WaitKey::Futex(SHARED, offset),
        _ => WaitKey::Futex(u64::from(cx.space().0), addr),
    };
    Ok((key, offset.unwrap_or(u64::MAX)))
}

fn wait(
    cx: &mut Cx<'_, '_>,
    addr: u64,
    private: bool,
    expected: u32,
    end: Option<u64>,
    bitset: u32,
) -> SysResult {
    if bitset == 0 {
        return Err(Errno::EINVAL.into());
    }
    // The bits a sleeper waits for are found in its arguments; see `bitset_of`.
    match cx.call().progress {
        WOKEN => return Ok(0),
        ASLEEP => {}
        _ => {
            let mut word = [0; 4];
            if !addr.is_multiple_of(4) {
                return Err(Errno::EINVAL.into());
            }
            cx.read_user(addr, &mut word)?;
            let (_, offset) = key(cx, addr, private)?;
            let value = match offset {
                u64::MAX => u32::from_le_bytes(word),
                offset => cx.p.memory.load_u32(offset),
            };
            if value != expected {
                return Err(Errno::EAGAIN.into());
            }
            cx.call().progress = ASLEEP;
        }
    }
    if end.is_some_and(|end| cx.now().mono >= end) {
        return Err(Errno::ETIMEDOUT.into());
    }
    let (key, _) = key(cx, addr, private)?;
    let restart = if end.is_some() {
        Restart::IfNoHandler
    } else {
        Restart::IfAsked
    };
    Wait::on(key).until(end).restart(restart).into()
}

/// The bits a sleeping task waits for.
fn bitset_of(k: &Kernel, thread: ThreadId) -> u32 {
    let call = k.tasks.get(thread).and_then(|task| task.call.as_ref());
    match call {
        Some(call) if call.args[1] as u32 & CMD_MASK == g::FUTEX_WAIT_BITSET => call.args[5] as u32,
        _ => g::FUTEX_BITSET_MATCH_ANY,
    }
}

fn wake_matching(
    cx: &mut Cx<'_, '_>,
    addr: u64,
    private: bool,
    count: usize,
    bitset: u32,
) -> SysResult {
    if bitset == 0 {
        return Err(Errno::EINVAL.into());
    }
    let (key, _) = key(cx, addr, private)?;
    Ok(wake_key(cx.k, key, count, bitset))
}

fn wake_key(k: &mut Kernel, key: WaitKey, count: usize, bitset: u32) -> u64 {
    let mut woken = 0;
    while woken < count {
        let sleeper = k.waiters(key).find(|&thread| {
            let asleep = k.tasks.get(thread).and_then(|task| task.call.as_ref());
            asleep.is_some_and(|call| call.progress == ASLEEP) && bitset_of(k, thread) & bitset != 0
        });
        let Some(thread) = sleeper else { break };
        if let Some(call) = k.tasks.get_mut(thread).and_then(|task| task.call.as_mut()) {
            call.progress = WOKEN;
        }
        k.make_ready(thread);
        woken += 1;
    }
    woken as u64
}

/// Wakes sleepers on a word of a space, private ones and shared ones: a task that ends does so for its `clear_child_tid` word.
pub(crate) fn wake(k: &mut Kernel, space: SpaceId, addr: u64, offset: Option<u64>, count: usize) {
    let any = g::FUTEX_BITSET_MATCH_ANY;
    let woken = wake_key(k, WaitKey::Futex(u64::from(space.0), addr), count, any) as usize;
    if let Some(offset) = offset
        && woken < count
    {
        wake_key(k, WaitKey::Futex(SHARED, offset), count - woken, any);
    }
}

/// A thread of this space ends: stores 0 in its `clear_child_tid` word and wakes one sleeper on it (set_tid_address(2)).
pub(crate) fn clear_tid(k: &mut Kernel, p: &mut Ports<'_>, space: SpaceId, addr: u64) {
    // Linux does not look at the result either.
    if crate::mm::user::write_in(k, p, space, addr, &[0; 4]).is_ok() {
        let offset = offset_of(k, p, space, addr);
        wake(k, space, addr, offset, 1);
    }
}

/// Where a word is in the memory file, ready to be changed.
fn offset_of(k: &mut Kernel, p: &mut Ports<'_>, space: SpaceId, addr: u64) -> Option<u64> {
    if !addr.is_multiple_of(4) {
        return None;
    }
    match crate::mm::user::run(k, p, space, addr, 4, true)
        .ok()?
        .source
    {
        Source::Memory(offset) => Some(offset),
        Source::Image { .. } | Source::Zero => None,
    }
}

/// The current task ends or executes a program: the owners of its robust futexes are told that it died (get_robust_list(2)). A list that
/// cannot be read, or is too long, is left where it is.
pub(crate) fn exit_robust(cx: &mut Cx<'_, '_>) {
    /// Most entries that are looked at (`ROBUST_LIST_LIMIT`).
    const LIMIT: usize = 2048;
    let head = core::mem::take(&mut cx.task_mut().robust_list);
    if head == 0 {
        return;
    }
    let Ok([first, offset, pending]) = cx.read_obj::<[u64; 3]>(head) else {
        return;
    };
    let pending = pending & !1;
    let mut entry = first & !1;
    for _ in 0..LIMIT {
        if entry == head {
            break;
        }
        // The next entry is read first: another thread may free this one as soon as it is woken.
        let next = cx.read_obj::<u64>(entry);
        if entry != pending {
            owner_died(cx, entry.wrapping_add(offset));
        }
        let Ok(next) = next else { return };
        entry = next & !1;
    }
    if pending != 0 {
        owner_died(cx, pending.wrapping_add(offset));
    }
}

/// Marks a futex word that the current task owns as one whose owner died, and wakes a waiter.
fn owner_died(cx: &mut Cx<'_, '_>, addr: u64) {
    let (space, tid) = (cx.space(), cx.task().tid);
    let Some(offset) = offset_of(cx.k, cx.p, space, addr) else {
        return;
    };
    // The guest may change the word meanwhile; it does not do so for ever.
    for _ in 0..8 {
        let old = cx.p.memory.load_u32(offset);
        if old & g::FUTEX_TID_MASK != tid {
            return;
        }
        let new = old & g::FUTEX_WAITERS | g::FUTEX_OWNER_DIED;
        if cx.p.memory.compare_exchange_u32(offset, old, new) == old {
            if old & g::FUTEX_WAITERS != 0 {
                wake(cx.k, space, addr, Some(offset), 1);
            }
            return;
        }
    }
}

pub(super) fn set_robust_list(cx: &mut Cx<'_, '_>, head: Addr, len: Size) -> SysResult {
    const HEAD_SIZE: u64 = 24;
    if len.0 != HEAD_SIZE {
        return Err(Errno::EINVAL.into());
    }
    cx.task_mut().robust_list = head.0;
    Ok(0)
}

pub(super) fn get_robust_list(cx: &mut Cx<'_, '_>, pid: Pid, head: Addr, len: Addr) -> SysResult {
    let thread = match pid.0 {
        0 => cx.thread,
        pid => cx.k.tasks.by_tid(pid as u32).ok_or(Errno::ESRCH)?,
    };
    let list = cx.k.tasks.get(thread).ok_or(Errno::ESRCH)?.robust_list;
    cx.write_obj(len.0, &24u64)?;
    cx.write_obj(head.0, &list)?;
    Ok(0)
}

const _: () = assert!(PAGE_SIZE.is_multiple_of(4));
