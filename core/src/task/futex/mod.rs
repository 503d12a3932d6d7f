//! Futexes (futex(2)): words that threads sleep on.
//!
//! A sleeper is a task parked on its word's [`WaitKey::Futex`]; what it sleeps for stands in `Call::progress`
//! ([`Sleep`]). Whoever wakes it writes [`Sleep::Woken`] there and makes it ready, so that its handler, run
//! again, knows. A sleeper that is run again for another reason starts anew, as Linux restarts the call: it
//! looks at its word once more. `pi` holds the operations with an owner, `robust` what happens when threads
//! end, `many` the later system calls.

mod many;
mod pi;
mod robust;

pub(crate) use many::{futex_requeue, futex_wait, futex_waitv, futex_wake};
pub(crate) use robust::{clear_tid, get_robust_list, leave, set_robust_list};

use crate::Kernel;
use crate::abi::Errno;
use crate::abi::layout::Timespec;
use crate::abi::raw::general as g;
use crate::args::*;
pub(crate) use crate::env::ids::FutexKey;
use crate::env::wait::{Restart, SysResult, Wait, WaitKey};
use crate::machine::{Prot, ThreadId};
use crate::mm::user::{Place, WordAddr};
use crate::port::WordOffset;
use crate::task::Cx;

/// How often a word that the guest changes at the same time is tried again before the call gives up with
/// `EAGAIN`.
const RETRIES_MAX: u32 = 1 << 12;

/// What a task in a futex call sleeps for, as its `Call::progress` keeps it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sleep {
    /// It has not slept yet.
    No,
    /// On an ordinary word, for wake-ups with any of these bits.
    Bits(u32),
    /// It was woken; the index is that of its word in futex_waitv(2).
    Woken(u32),
    /// For a word that the thread with this number owns.
    Owner(u32),
    /// On an ordinary word from which it is to be moved to one with an owner.
    Requeue,
}

impl Sleep {
    fn of(progress: u64) -> Sleep {
        let value = (progress >> 32) as u32;
        match progress as u32 {
            1 => Sleep::Bits(value),
            2 => Sleep::Woken(value),
            3 => Sleep::Owner(value),
            4 => Sleep::Requeue,
            _ => Sleep::No,
        }
    }

    fn progress(self) -> u64 {
        let (kind, value) = match self {
            Sleep::No => (0, 0),
            Sleep::Bits(bits) => (1, bits),
            Sleep::Woken(index) => (2, index),
            Sleep::Owner(owner) => (3, owner),
            Sleep::Requeue => (4, 0),
        };
        u64::from(value) << 32 | kind
    }
}

/// A word as a call names it.
#[derive(Clone, Copy)]
struct Word {
    addr: u64,
    private: bool,
}

impl Word {
    /// Its address, if that is one of a word.
    fn aligned(self) -> Result<WordAddr, Errno> {
        WordAddr::new(self.addr)
    }
}

pub(crate) fn futex(
    cx: &mut Cx<'_, '_>,
    uaddr: Addr,
    op: FutexOp,
    val: Uint,
    timeout: Addr,
    uaddr2: Addr,
    val3: Uint,
) -> SysResult {
    let command = op.command();
    let realtime = op.contains(FutexOp::CLOCK_REALTIME);
    let private = op.contains(FutexOp::PRIVATE);
    let word = Word {
        addr: uaddr.0,
        private,
    };
    let word2 = Word {
        addr: uaddr2.0,
        private,
    };
    let end = match command {
        FutexCommand::Wait => relative(cx, timeout)?,
        FutexCommand::WaitBitset | FutexCommand::WaitRequeuePi | FutexCommand::LockPi2 => {
            absolute(cx, timeout, realtime)?
        }
        FutexCommand::LockPi => absolute(cx, timeout, true)?,
        _ => None,
    };
    let takes_clock = matches!(
        command,
        FutexCommand::WaitBitset | FutexCommand::WaitRequeuePi | FutexCommand::LockPi2
    );
    if realtime && !takes_clock {
        return Err(Errno::ENOSYS.into());
    }
    // These calls take a number in the place of the timeout.
    let (count, count2) = (val.0 as i32, timeout.0 as i32);
    match command {
        FutexCommand::Wait => wait(cx, word, val.0, end, g::FUTEX_BITSET_MATCH_ANY),
        FutexCommand::WaitBitset => wait(cx, word, val.0, end, val3.0),
        FutexCommand::Wake => wake(cx, word, count, g::FUTEX_BITSET_MATCH_ANY),
        FutexCommand::WakeBitset => wake(cx, word, count, val3.0),
        FutexCommand::WakeOp => wake_op(cx, word, word2, (count, count2), val3.0),
        FutexCommand::Requeue => requeue(cx, word, word2, (count, count2), None),
        FutexCommand::CmpRequeue => requeue(cx, word, word2, (count, count2), Some(val3.0)),
        FutexCommand::LockPi | FutexCommand::LockPi2 => pi::lock(cx, word, end),
        FutexCommand::TryLockPi => pi::try_lock(cx, word),
        FutexCommand::UnlockPi => pi::unlock(cx, word),
        FutexCommand::WaitRequeuePi => pi::wait_requeue(cx, word, word2, val.0, end),
        FutexCommand::CmpRequeuePi => pi::requeue(cx, word, word2, (count, count2), val3.0),
        FutexCommand::Fd | FutexCommand::Other(_) => Err(Errno::ENOSYS.into()),
    }
}

fn read_time(cx: &mut Cx<'_, '_>, at: u64) -> Result<u64, Errno> {
    let time: Timespec = cx.read_obj(at)?;
    time.nanos().ok_or(Errno::EINVAL)
}

/// The end of a wait that counts from the call's entry.
fn relative(cx: &mut Cx<'_, '_>, timeout: Addr) -> Result<Option<u64>, Errno> {
    if timeout.0 == 0 {
        return Ok(None);
    }
    let span = read_time(cx, timeout.0)?;
    Ok(Some(cx.call().entered.mono.saturating_add(span)))
}

/// The end of a wait until a time of `CLOCK_MONOTONIC` or `CLOCK_REALTIME`.
fn absolute(cx: &mut Cx<'_, '_>, timeout: Addr, realtime: bool) -> Result<Option<u64>, Errno> {
    if timeout.0 == 0 {
        return Ok(None);
    }
    let time = read_time(cx, timeout.0)?;
    let now = cx.now();
    Ok(Some(match realtime {
        true => now.mono.saturating_add(time.saturating_sub(now.real)),
        false => time,
    }))
}

fn expired(cx: &Cx<'_, '_>, end: Option<u64>) -> bool {
    end.is_some_and(|end| cx.now().mono >= end)
}

fn sleep(cx: &mut Cx<'_, '_>) -> Sleep {
    Sleep::of(cx.call().progress)
}

/// What a task sleeps for, if it is parked in a futex call.
fn sleep_of(k: &Kernel, thread: ThreadId) -> Sleep {
    let call = k.tasks.get(thread).and_then(|task| task.call.as_ref());
    match call {
        Some(call) if call.wait.is_some() => Sleep::of(call.progress),
        _ => Sleep::No,
    }
}

/// What a word is known by. `write`: it is going to be changed. `EINVAL` if it is not aligned, `EFAULT`.
fn key(cx: &mut Cx<'_, '_>, word: Word, write: bool) -> Result<FutexKey, Errno> {
    let (space, addr) = (cx.space(), word.aligned()?.get());
    if word.private {
        return Ok(FutexKey::Private(space, addr));
    }
    // Linux makes the page writable if it can be, so that a word in a private mapping is the space's own.
    let writable =
        crate::mm::user::prot(cx.k, space, addr).is_some_and(|p| p.contains(Prot::WRITE));
    cx.user_run(addr, 4, write || writable)?;
    Ok(match crate::mm::user::place(cx.k, space, addr) {
        Some(Place::File(inode, offset)) => FutexKey::File(inode, offset),
        _ => FutexKey::Anonymous(space, addr),
    })
}

/// The value of a word. `EINVAL` if it is not aligned, `EFAULT`.
fn load(cx: &mut Cx<'_, '_>, word: Word) -> Result<u32, Errno> {
    let space = cx.space();
    word.aligned()?.load(cx.k, cx.p, space)
}

/// Where a word of the thread's space is in the memory file, ready to be changed. `EINVAL` if it is not
/// aligned, `EFAULT`.
fn offset(cx: &mut Cx<'_, '_>, word: Word) -> Result<WordOffset, Errno> {
    let space = cx.space();
    word.aligned()?.for_writing(cx.k, cx.p, space)
}

fn wait(cx: &mut Cx<'_, '_>, word: Word, expected: u32, end: Option<u64>, bits: u32) -> SysResult {
    let restart = match end {
        Some(_) => Restart::IfNoHandler,
        None => Restart::IfAsked,
    };
    wait_bits(cx, word, expected, end, bits, restart)
}

fn wait_bits(
    cx: &mut Cx<'_, '_>,
    word: Word,
    expected: u32,
    end: Option<u64>,
    bits: u32,
    restart: Restart,
) -> SysResult {
    if bits == 0 {
        return Err(Errno::EINVAL.into());
    }
    match sleep(cx) {
        Sleep::Woken(_) => return Ok(0),
        Sleep::Bits(_) if expired(cx, end) => return Err(Errno::ETIMEDOUT.into()),
        _ => {}
    }
    let key = key(cx, word, false)?;
    if load(cx, word)? != expected {
        return Err(Errno::EAGAIN.into());
    }
    if expired(cx, end) {
        return Err(Errno::ETIMEDOUT.into());
    }
    cx.call().progress = Sleep::Bits(bits).progress();
    Wait::on(WaitKey::Futex(key))
        .until(end)
        .restart(restart)
        .into()
}

/// Steps of one sleeper that is woken or moved.
const SLEEPER_STEPS: u64 = 3;

/// How far a call has come that wakes or moves sleepers: as `Call::progress`.
#[derive(Clone, Copy)]
struct Woken {
    /// Place of the last in the queue of its word.
    place: u64,
    /// How many they were: no more than there are tasks.
    count: u64,
}

impl Woken {
    const MOST: u64 = 0xffff;

    fn of(progress: u64) -> Woken {
        Woken {
            place: progress >> 16,
            count: progress & Woken::MOST,
        }
    }

    fn progress(self) -> u64 {
        self.place << 16 | self.count
    }
}

fn wake(cx: &mut Cx<'_, '_>, word: Word, count: i32, bits: u32) -> SysResult {
    if bits == 0 {
        return Err(Errno::EINVAL.into());
    }
    let key = key(cx, word, false)?;
    let mut woken = Woken::of(cx.call().progress);
    let most = u64::try_from(count).unwrap_or(1).clamp(1, Woken::MOST);
    while woken.count < most
        && let Some(place) = wake_next(cx.k, key, woken.place, bits)?
    {
        woken.place = place;
        woken.count += 1;
        if cx.is_spent() {
            return Err(cx.give_way(woken.progress()));
        }
    }
    Ok(woken.count)
}

/// Wakes the next sleeper on a word behind a place that waits for one of these bits; its place. `EINVAL` if
/// one wants to own the word.
fn wake_next(
    k: &mut Kernel,
    key: FutexKey,
    mut place: u64,
    bits: u32,
) -> Result<Option<u64>, Errno> {
    while let Some((at, thread)) = k.env.queues.waiter_after(WaitKey::Futex(key), place) {
        place = at;
        k.env.steps.spend(1);
        match sleep_of(k, thread) {
            Sleep::Owner(_) | Sleep::Requeue => return Err(Errno::EINVAL),
            Sleep::Bits(wanted) if wanted & bits != 0 => {
                k.env.steps.spend(SLEEPER_STEPS - 1);
                wake_waiter(k, thread, key);
                return Ok(Some(at));
            }
            _ => {}
        }
    }
    Ok(None)
}

/// Wakes sleepers on a word: at most `count`, but one in any case, as Linux does. Gives their number;
/// `EINVAL` if they want to own it.
fn wake_key(k: &mut Kernel, key: FutexKey, count: i32, bits: u32) -> Result<u64, Errno> {
    let (mut woken, mut place) = (0, 0);
    while let Some(at) = wake_next(k, key, place, bits)? {
        place = at;
        woken += 1;
        if woken >= i64::from(count) {
            break;
        }
    }
    Ok(woken as u64)
}

/// Ends the sleep of a task on a word.
fn wake_waiter(k: &mut Kernel, thread: ThreadId, key: FutexKey) {
    if let Some(call) = k.tasks.get_mut(thread).and_then(|task| task.call.as_mut()) {
        let keys = call.wait.as_ref().map_or(&[][..], |wait| &wait.keys);
        let index = keys.iter().position(|&other| other == WaitKey::Futex(key));
        call.progress = Sleep::Woken(index.unwrap_or(0) as u32).progress();
    }
    k.make_ready(thread);
}

/// `FUTEX_WAKE_OP`: changes the second word, wakes sleepers on the first, and on the second if its old value
/// compares.
fn wake_op(
    cx: &mut Cx<'_, '_>,
    word: Word,
    word2: Word,
    (count, count2): (i32, i32),
    encoded: u32,
) -> SysResult {
    let first = key(cx, word, false)?;
    let second = key(cx, word2, true)?;
    let compares = change(cx, word2, encoded)?;
    let mut woken = wake_key(cx.k, first, count, g::FUTEX_BITSET_MATCH_ANY)?;
    if compares {
        woken += wake_key(cx.k, second, count2, g::FUTEX_BITSET_MATCH_ANY)?;
    }
    Ok(woken)
}

/// Does the operation that `FUTEX_OP()` encodes on a word. `ENOSYS` for operations and comparisons that do
/// not exist.
fn change(cx: &mut Cx<'_, '_>, word: Word, encoded: u32) -> Result<bool, Errno> {
    let field = |from: u32, len: u32| encoded >> from & ((1 << len) - 1);
    let signed = |value: u32| ((value << 20) as i32) >> 20;
    let mut operand = signed(field(12, 12)) as u32;
    let other = signed(field(0, 12));
    if encoded & g::FUTEX_OP_OPARG_SHIFT << 28 != 0 {
        operand = 1 << (operand & 31);
    }
    let operation = field(28, 3);
    if operation > g::FUTEX_OP_XOR {
        return Err(Errno::ENOSYS);
    }
    let at = offset(cx, word)?;
    for _ in 0..RETRIES_MAX {
        let old = cx.p.memory.load_u32(at);
        let new = match operation {
            g::FUTEX_OP_SET => operand,
            g::FUTEX_OP_ADD => old.wrapping_add(operand),
            g::FUTEX_OP_OR => old | operand,
            g::FUTEX_OP_ANDN => old & !operand,
            _ => old ^ operand,
        };
        if cx.p.memory.compare_exchange_u32(at, old, new) == old {
            let old = old as i32;
            return match field(24, 4) {
                g::FUTEX_OP_CMP_EQ => Ok(old == other),
                g::FUTEX_OP_CMP_NE => Ok(old != other),
                g::FUTEX_OP_CMP_LT => Ok(old < other),
                g::FUTEX_OP_CMP_LE => Ok(old <= other),
                g::FUTEX_OP_CMP_GT => Ok(old > other),
                g::FUTEX_OP_CMP_GE => Ok(old >= other),
                _ => Err(Errno::ENOSYS),
            };
        }
    }
    Err(Errno::EAGAIN)
}

/// Wakes sleepers on a word and moves others to a second one: `counts` of them.
fn requeue(
    cx: &mut Cx<'_, '_>,
    word: Word,
    word2: Word,
    counts: (i32, i32),
    expected: Option<u32>,
) -> SysResult {
    let (Ok(wake), Ok(moved)) = (u32::try_from(counts.0), u32::try_from(counts.1)) else {
        return Err(Errno::EINVAL.into());
    };
    let from = key(cx, word, false)?;
    let to = key(cx, word2, false)?;
    let mut done = Woken::of(cx.call().progress);
    if let Some(expected) = expected
        && done.count == 0
        && load(cx, word)? != expected
    {
        return Err(Errno::EAGAIN.into());
    }
    let most = (u64::from(wake) + u64::from(moved)).min(Woken::MOST);
    while done.count < most
        && let Some((at, thread)) =
            cx.k.env
                .queues
                .waiter_after(WaitKey::Futex(from), done.place)
    {
        done.place = at;
        cx.spend(SLEEPER_STEPS);
        match sleep_of(cx.k, thread) {
            Sleep::Owner(_) | Sleep::Requeue => return Err(Errno::EINVAL.into()),
            Sleep::Bits(_) => {}
            _ => continue,
        }
        done.count += 1;
        if done.count <= u64::from(wake) {
            wake_waiter(cx.k, thread, from);
        } else if from != to {
            cx.k.move_waiter(thread, WaitKey::Futex(from), WaitKey::Futex(to));
        }
        if cx.is_spent() {
            return Err(cx.give_way(done.progress()));
        }
    }
    Ok(done.count)
}
