//! Futex words with an owner (`FUTEX_LOCK_PI` and its relatives).
//!
//! The word holds the owner's thread number, `FUTEX_WAITERS` once somebody waits, `FUTEX_OWNER_DIED`. All
//! sleepers on a word remember its owner ([`Sleep::Owner`]); unlocking hands the word to the first of them.
//! There are no priorities here to inherit: the order is that of the calls.

use super::{
    FutexKey, RETRIES_MAX, Sleep, Word, expired, key, load, offset, sleep, sleep_of, wake_waiter,
};
use crate::Kernel;
use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::args::{Arg, FutexCommand, FutexOp};
use crate::cred::ns::{PID, pid};
use crate::env::wait::{Restart, SysResult, Wait, WaitKey};
use crate::machine::ThreadId;
use crate::mm::user::WordAddr;
use crate::port::Ports;
use crate::task::Cx;

/// Longest chain of owners that wait for each other which is followed (`max_lock_depth`).
const CHAIN_MAX: u32 = 1024;

/// `FUTEX_LOCK_PI`, `FUTEX_LOCK_PI2`
pub(super) fn lock(cx: &mut Cx<'_, '_>, word: Word, end: Option<u64>) -> SysResult {
    match sleep(cx) {
        Sleep::Woken(_) => return Ok(0),
        Sleep::Owner(_) if expired(cx, end) => return Err(Errno::ETIMEDOUT.into()),
        _ => {}
    }
    let key = key(cx, word, true)?;
    let thread = cx.thread;
    match acquire(cx, word, key, thread, false)? {
        None => Ok(0),
        Some(owner) => wait_for(cx, key, owner, end, Restart::Always),
    }
}

/// `FUTEX_TRYLOCK_PI`
pub(super) fn try_lock(cx: &mut Cx<'_, '_>, word: Word) -> SysResult {
    let key = key(cx, word, true)?;
    let thread = cx.thread;
    match acquire(cx, word, key, thread, false)? {
        None => Ok(0),
        Some(_) => Err(Errno::EAGAIN.into()),
    }
}

/// Sleeps until the owner of a word hands it over.
fn wait_for(
    cx: &mut Cx<'_, '_>,
    key: FutexKey,
    owner: u32,
    end: Option<u64>,
    restart: Restart,
) -> SysResult {
    check_chain(cx.k, cx.thread, owner)?;
    if expired(cx, end) {
        return Err(Errno::ETIMEDOUT.into());
    }
    cx.call().progress = Sleep::Owner(owner).progress();
    Wait::on(WaitKey::Futex(key))
        .until(end)
        .restart(restart)
        .into()
}

/// `EDEADLK` if the owner of a word waits, perhaps by way of others, for one that the thread owns.
fn check_chain(k: &Kernel, thread: ThreadId, owner: u32) -> Result<(), Errno> {
    let mut owner = owner;
    // Each word has the number that its waiter sees.
    let mut seen_by = thread;
    for _ in 0..CHAIN_MAX {
        let ns = k.tasks.get(seen_by).map_or(PID, |task| task.ns.pid);
        let owning = pid::find(k, ns, owner).and_then(|owner| k.tasks.by_tid(owner));
        let Some(id) = owning else {
            return Ok(());
        };
        seen_by = id;
        if id == thread {
            return Err(Errno::EDEADLK);
        }
        match sleep_of(k, id) {
            Sleep::Owner(next) => owner = next,
            _ => return Ok(()),
        }
    }
    Err(Errno::EDEADLK)
}

/// The first sleeper on a word.
fn first(k: &Kernel, key: FutexKey) -> Option<(ThreadId, Sleep)> {
    k.env
        .queues
        .waiters(WaitKey::Futex(key))
        .map(|thread| (thread, sleep_of(k, thread)))
        .find(|(_, sleep)| !matches!(sleep, Sleep::No | Sleep::Woken(_)))
}

/// Makes a thread the owner of a word: `None`, or gives the one that owns it now after marking the word as
/// waited for. `EDEADLK` if the thread owns it, `ESRCH` if its owner is no thread, `EINVAL` if word and
/// sleepers do not agree.
fn acquire(
    cx: &mut Cx<'_, '_>,
    word: Word,
    key: FutexKey,
    thread: ThreadId,
    waited_for: bool,
) -> Result<Option<u32>, Errno> {
    let tid = cx.k.tasks.get(thread).ok_or(Errno::ESRCH)?.tid;
    let at = offset(cx, word)?;
    for _ in 0..RETRIES_MAX {
        let old = cx.p.memory.load_u32(at);
        let owner = old & g::FUTEX_TID_MASK;
        if owner == tid {
            return Err(Errno::EDEADLK);
        }
        if let Some((_, sleep)) = first(cx.k, key) {
            let Sleep::Owner(known) = sleep else {
                return Err(Errno::EINVAL);
            };
            let died = old & g::FUTEX_OWNER_DIED != 0 && owner == 0;
            return match died || owner == known {
                true => Ok(Some(known)),
                false => Err(Errno::EINVAL),
            };
        }
        let new = match owner {
            0 if waited_for => old & g::FUTEX_OWNER_DIED | g::FUTEX_WAITERS | tid,
            0 => old & g::FUTEX_OWNER_DIED | tid,
            _ => old | g::FUTEX_WAITERS,
        };
        if cx.p.memory.compare_exchange_u32(at, old, new) != old {
            continue;
        }
        if owner == 0 {
            return Ok(None);
        }
        let owning = cx.meant_thread(owner).ok_or(Errno::ESRCH)?;
        let task = cx.k.tasks.get_mut(owning).ok_or(Errno::ESRCH)?;
        if task.exited {
            return Err(Errno::ESRCH);
        }
        task.owns_futexes = true;
        return Ok(Some(owner));
    }
    Err(Errno::EAGAIN)
}

/// `FUTEX_UNLOCK_PI`
pub(super) fn unlock(cx: &mut Cx<'_, '_>, word: Word) -> SysResult {
    let tid = cx.shown_pid(cx.task().tid);
    // As in Linux, whose word it is comes before whether it is one: four bytes at any address are looked at
    // first.
    if cx.read_obj::<u32>(word.addr)? & g::FUTEX_TID_MASK != tid {
        return Err(Errno::EPERM.into());
    }
    let key = key(cx, word, true)?;
    let at = offset(cx, word)?;
    for _ in 0..RETRIES_MAX {
        let old = cx.p.memory.load_u32(at);
        if old & g::FUTEX_TID_MASK != tid {
            return Err(Errno::EPERM.into());
        }
        let heir = match first(cx.k, key) {
            None => None,
            Some((thread, Sleep::Owner(owner))) if owner == tid => Some(thread),
            Some(_) => return Err(Errno::EINVAL.into()),
        };
        let new = match heir.and_then(|thread| cx.k.tasks.get(thread)) {
            Some(task) => g::FUTEX_WAITERS | task.tid,
            None => 0,
        };
        if cx.p.memory.compare_exchange_u32(at, old, new) == old {
            if let Some(thread) = heir {
                pass_ownership(cx.k, key, thread);
            }
            return Ok(0);
        }
    }
    Err(Errno::EAGAIN.into())
}

/// A sleeper becomes the owner of its word, whose value says so already.
fn pass_ownership(k: &mut Kernel, key: FutexKey, heir: ThreadId) {
    let Some(task) = k.tasks.get_mut(heir) else {
        return;
    };
    task.owns_futexes = true;
    let owner = task.tid;
    wake_waiter(k, heir, key);
    let mut place = 0;
    while let Some((at, thread)) = k.env.queues.waiter_after(WaitKey::Futex(key), place) {
        place = at;
        if let Sleep::Owner(_) = sleep_of(k, thread)
            && let Some(call) = k.tasks.get_mut(thread).and_then(|task| task.call.as_mut())
        {
            call.progress = Sleep::Owner(owner).progress();
        }
    }
}

/// A thread ends or executes a program: the words it owns go to those who wait for them, marked.
pub(super) fn give_up(k: &mut Kernel, p: &mut Ports<'_>, thread: ThreadId) {
    let Some(task) = k.tasks.get_mut(thread) else {
        return;
    };
    if !core::mem::take(&mut task.owns_futexes) {
        return;
    }
    let tid = task.tid;
    let mut after = None;
    // Each step goes on behind the key of the last: there are as many as words that are slept on.
    while let Some(key) = k.env.queues.next_futex(after) {
        after = Some(key);
        let Some((heir, Sleep::Owner(owner))) = first(k, key) else {
            continue;
        };
        if owner == tid {
            mark(k, p, heir);
            pass_ownership(k, key, heir);
        }
    }
}

/// Writes into the word that a sleeper waits for that it owns it now and that the last owner died. The word
/// may be gone.
fn mark(k: &mut Kernel, p: &mut Ports<'_>, heir: ThreadId) {
    let Some(task) = k.tasks.get(heir) else {
        return;
    };
    let Some(call) = &task.call else { return };
    let addr = match FutexOp::from_reg(call.args[1]).command() {
        FutexCommand::WaitRequeuePi => call.args[4],
        _ => call.args[0],
    };
    let (space, new) = (
        task.space,
        task.tid | g::FUTEX_WAITERS | g::FUTEX_OWNER_DIED,
    );
    let Ok(at) = WordAddr::new(addr).and_then(|word| word.for_writing(k, p, space)) else {
        return;
    };
    for _ in 0..RETRIES_MAX {
        let old = p.memory.load_u32(at);
        if p.memory.compare_exchange_u32(at, old, new) == old {
            return;
        }
    }
}

/// `FUTEX_WAIT_REQUEUE_PI`: sleeps on an ordinary word until it is moved to one with an owner, and then for
/// that.
pub(super) fn wait_requeue(
    cx: &mut Cx<'_, '_>,
    word: Word,
    word2: Word,
    expected: u32,
    end: Option<u64>,
) -> SysResult {
    match sleep(cx) {
        Sleep::Woken(_) => return Ok(0),
        Sleep::Owner(_) | Sleep::Requeue if expired(cx, end) => {
            return Err(Errno::ETIMEDOUT.into());
        }
        // It was moved already; the word it would look at has changed (futex_wait_requeue_pi() of Linux).
        Sleep::Owner(_) => return Err(Errno::EAGAIN.into()),
        _ => {}
    }
    if word.addr == word2.addr {
        return Err(Errno::EINVAL.into());
    }
    let second = key(cx, word2, true)?;
    let first = key(cx, word, false)?;
    if load(cx, word)? != expected {
        return Err(Errno::EAGAIN.into());
    }
    if first == second {
        return Err(Errno::EINVAL.into());
    }
    if expired(cx, end) {
        return Err(Errno::ETIMEDOUT.into());
    }
    cx.call().progress = Sleep::Requeue.progress();
    Wait::on(WaitKey::Futex(first))
        .until(end)
        .restart(Restart::Always)
        .into()
}

/// `FUTEX_CMP_REQUEUE_PI`: gives the second word to the first sleeper if it is free, and moves others to it.
pub(super) fn requeue(
    cx: &mut Cx<'_, '_>,
    word: Word,
    word2: Word,
    (wake, moved): (i32, i32),
    expected: u32,
) -> SysResult {
    if wake < 0 || moved < 0 || word.addr == word2.addr || wake != 1 {
        return Err(Errno::EINVAL.into());
    }
    let from = key(cx, word, false)?;
    let to = key(cx, word2, true)?;
    if from == to {
        return Err(Errno::EINVAL.into());
    }
    if load(cx, word)? != expected {
        return Err(Errno::EAGAIN.into());
    }
    // The second word is there, even if nobody sleeps who could get it.
    load(cx, word2)?;
    let mut done = 0;
    let mut owner = None;
    if let Some((thread, sleep)) = first(cx.k, from) {
        check_target(cx, thread, sleep, to)?;
        match acquire(cx, word2, to, thread, moved > 0)? {
            None => {
                if let Some(task) = cx.k.tasks.get_mut(thread) {
                    task.owns_futexes = true;
                    let (ns, tid) = (task.ns.pid, task.tid);
                    owner = Some(pid::show(cx.k, ns, tid));
                }
                wake_waiter(cx.k, thread, from);
                done += 1;
            }
            Some(other) => owner = Some(other),
        }
    }
    let mut place = 0;
    while let (Some((at, thread)), Some(owner)) = (
        cx.k.env.queues.waiter_after(WaitKey::Futex(from), place),
        owner,
    ) {
        if done > i64::from(moved) {
            break;
        }
        place = at;
        let sleep = sleep_of(cx.k, thread);
        if let Sleep::No | Sleep::Woken(_) = sleep {
            continue;
        }
        check_target(cx, thread, sleep, to)?;
        check_chain(cx.k, thread, owner)?;
        if let Some(call) =
            cx.k.tasks
                .get_mut(thread)
                .and_then(|task| task.call.as_mut())
        {
            call.progress = Sleep::Owner(owner).progress();
        }
        cx.k.move_waiter(thread, WaitKey::Futex(from), WaitKey::Futex(to));
        done += 1;
    }
    Ok(done as u64)
}

/// `EINVAL` if a sleeper does not want to be moved to this word.
fn check_target(
    cx: &mut Cx<'_, '_>,
    thread: ThreadId,
    sleep: Sleep,
    to: FutexKey,
) -> Result<(), Errno> {
    let call = cx.k.tasks.get(thread).and_then(|task| task.call.as_ref());
    let (Sleep::Requeue, Some(call)) = (sleep, call) else {
        return Err(Errno::EINVAL);
    };
    let word = Word {
        addr: call.args[4],
        private: call.args[1] as u32 & g::FUTEX_PRIVATE_FLAG != 0,
    };
    let wanted = key(
        &mut Cx {
            k: cx.k,
            p: cx.p,
            thread,
        },
        word,
        true,
    )?;
    match wanted == to {
        true => Ok(()),
        false => Err(Errno::EINVAL),
    }
}
