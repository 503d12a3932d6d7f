//! Futexes (futex(2)).

use super::args::*;
use crate::Kernel;
use crate::abi::layout::Timespec;
use crate::abi::raw::general as g;
use crate::abi::{Errno, PAGE_SIZE};
use crate::kernel::{Cx, Restart, SysResult, Wait, WaitKey};
use crate::machine::{SpaceId, ThreadId};
use crate::vfs::filesystem::Source;

/// States of a wait, kept in `Call::progress`: whether the task already sleeps on its word.
const FIRST: u64 = 0;
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
    if addr % 4 != 0 {
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
        FIRST | _ => {
            let mut word = [0; 4];
            if addr % 4 != 0 {
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

const _: () = assert!(PAGE_SIZE % 4 == 0);
