//! What the futexes of a thread see of its end: robust lists (get_robust_list(2)) and the word of
//! set_tid_address(2).

use super::{FutexKey, RETRIES_MAX, Word, key, load, offset, pi, wake_key};
use crate::Kernel;
use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::args::*;
use crate::env::wait::SysResult;
use crate::machine::SpaceId;
use crate::mm::user::WordAddr;
use crate::port::Ports;
use crate::task::Cx;
use crate::task::look::may_look;

/// Bytes of `struct robust_list_head`.
const HEAD_SIZE: u64 = 24;
/// Most entries of a list that are looked at (`ROBUST_LIST_LIMIT`).
const LIST_MAX: u32 = 2048;

/// A thread ends or executes a program: those who wait for what it owns are told that it died. Its memory is
/// still its own.
pub(crate) fn leave(cx: &mut Cx<'_, '_>) {
    walk_list(cx);
    pi::give_up(cx.k, cx.p, cx.thread);
}

/// Tells the sleepers on the robust futexes that their owner died. A list that cannot be read, or is too
/// long, is left where it is.
fn walk_list(cx: &mut Cx<'_, '_>) {
    let head = core::mem::take(&mut cx.task_mut().robust_list);
    if head == 0 {
        return;
    }
    let Ok([first, offset, pending]) = cx.read_obj::<[u64; 3]>(head) else {
        return;
    };
    // The lowest bit of a pointer says that the word has an owner to inherit priority.
    let address = |entry: u64| entry & !1;
    let mut entry = first;
    for _ in 0..LIST_MAX {
        if address(entry) == head {
            break;
        }
        cx.k.env.steps.spend(2);
        // The next entry is read first: another thread may free this one as soon as it is woken.
        let next = cx.read_obj::<u64>(address(entry));
        if address(entry) != address(pending) {
            let word = address(entry).wrapping_add(offset);
            if owner_died(cx, word, entry & 1 != 0, false).is_err() {
                return;
            }
        }
        let Ok(next) = next else { return };
        entry = next;
    }
    if address(pending) != 0 {
        let word = address(pending).wrapping_add(offset);
        // It is the last; Linux does not look at the result either.
        let _ = owner_died(cx, word, pending & 1 != 0, true);
    }
}

/// Marks a word that the current task owns as one whose owner died, and wakes a sleeper. A word that was
/// given free but whose sleeper was not yet woken (`pending`) gets the wake-up. `EINVAL` if it is no word,
/// `EFAULT` if it cannot be read or must be marked and cannot be.
fn owner_died(cx: &mut Cx<'_, '_>, addr: u64, inherits: bool, pending: bool) -> Result<(), Errno> {
    let tid = cx.shown_pid(cx.task().tid);
    let word = Word {
        addr,
        private: false,
    };
    for _ in 0..RETRIES_MAX {
        let old = load(cx, word)?;
        let owner = old & g::FUTEX_TID_MASK;
        if pending && !inherits && owner == 0 {
            wake_shared(cx, word);
            return Ok(());
        }
        if owner != tid {
            return Ok(());
        }
        let new = old & g::FUTEX_WAITERS | g::FUTEX_OWNER_DIED;
        let at = offset(cx, word)?;
        if cx.p.memory.compare_exchange_u32(at, old, new) == old {
            if !inherits && old & g::FUTEX_WAITERS != 0 {
                wake_shared(cx, word);
            }
            return Ok(());
        }
    }
    Ok(())
}

/// Wakes one sleeper on a word.
fn wake_shared(cx: &mut Cx<'_, '_>, word: Word) {
    if let Ok(key) = key(cx, word, true) {
        // Linux does not look at the result either.
        let _ = wake_key(cx.k, key, 1, g::FUTEX_BITSET_MATCH_ANY);
    }
}

/// A thread of this space ends: stores 0 in its `clear_child_tid` word and wakes one sleeper on it
/// (set_tid_address(2)).
pub(crate) fn clear_tid(k: &mut Kernel, p: &mut Ports<'_>, space: SpaceId, addr: u64) {
    // Linux does not look at the results either.
    if crate::mm::user::write_in(k, p, space, addr, &[0; 4]).is_ok()
        && let Ok(word) = WordAddr::new(addr)
    {
        let addr = word.get();
        let key = match crate::mm::user::place(k, space, addr) {
            Some(crate::mm::user::Place::File(inode, offset)) => FutexKey::File(inode, offset),
            _ => FutexKey::Anonymous(space, addr),
        };
        let _ = wake_key(k, key, 1, g::FUTEX_BITSET_MATCH_ANY);
    }
}

pub(crate) fn set_robust_list(cx: &mut Cx<'_, '_>, head: Addr, len: Size) -> SysResult {
    if len.0 != HEAD_SIZE {
        return Err(Errno::EINVAL.into());
    }
    cx.task_mut().robust_list = head.0;
    Ok(0)
}

pub(crate) fn get_robust_list(cx: &mut Cx<'_, '_>, pid: Pid, head: Addr, len: Addr) -> SysResult {
    let thread = match pid.0 {
        0 => cx.thread,
        pid => cx.meant_thread(pid as u32).ok_or(Errno::ESRCH)?,
    };
    if !may_look(cx.k, cx.thread, thread) {
        return Err(Errno::EPERM.into());
    }
    let list = cx.k.tasks.get(thread).ok_or(Errno::ESRCH)?.robust_list;
    cx.write_obj(len.0, &HEAD_SIZE)?;
    cx.write_obj(head.0, &list)?;
    Ok(0)
}
