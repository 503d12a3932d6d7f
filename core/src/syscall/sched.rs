//! Scheduling: policies, priorities, processors.
//!
//! The host schedules guest threads. What programs set is checked, kept and shown as under Linux, and has no
//! effect. Real-time policies need a limit or a capability that nobody in a sandbox has.

use alloc::vec::Vec;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::abi::layout::Timespec;
use crate::abi::raw::general as g;
use crate::abi::{Errno, PAGE_SIZE};
use crate::args::*;
use crate::env::wait::SysResult;
use crate::kernel::Cx;
use crate::machine::ThreadId;
use crate::task::Task;
use crate::task::sched::{Scheduling, all_cpus, is_real_time};

/// Highest real-time priority.
const PRIORITY_MAX: u32 = 99;
/// Time slices: of `SCHED_RR`, and of the others that have one, in nanoseconds.
const RR_SLICE: u64 = 100_000_000;
const FAIR_SLICE: u64 = 4_000_000;

/// The thread that a call means: 0 is the caller. `ESRCH`.
fn thread(cx: &Cx<'_, '_>, tid: i32) -> Result<ThreadId, Errno> {
    match u32::try_from(tid).map_err(|_| Errno::ESRCH)? {
        0 => Ok(cx.thread),
        tid => cx.meant_thread(tid).ok_or(Errno::ESRCH),
    }
}

/// The same, where negative numbers are `EINVAL`.
fn scheduled(cx: &Cx<'_, '_>, tid: i32) -> Result<ThreadId, Errno> {
    match tid {
        ..0 => Err(Errno::EINVAL),
        _ => thread(cx, tid),
    }
}

fn task<'c>(cx: &'c Cx<'_, '_>, thread: ThreadId) -> Result<&'c Task, Errno> {
    cx.k.tasks.get(thread).ok_or(Errno::ESRCH)
}

/// Whether the caller may set the scheduling of a task that belongs to its user.
fn owns(cx: &Cx<'_, '_>, task: &Task) -> bool {
    let euid = cx.creds().euid;
    euid == task.creds.euid || euid == task.creds.uid
}

/// Whether the caller has what a task of its user may have got from a program: the capabilities of that task,
/// or `CAP_SYS_NICE` over it (`cap_safe_nice()`).
fn is_safe(cx: &Cx<'_, '_>, task: &Task) -> bool {
    task.creds.cap_permitted & !cx.creds().cap_permitted == 0
        || cx.capable_in(task.creds.user_ns, g::CAP_SYS_NICE)
}

/// Whether `RLIMIT_NICE` of a task lets it have this nice value.
fn nice_allowed(cx: &Cx<'_, '_>, task: &Task, nice: i8) -> bool {
    let limit = cx.k.tasks.rlimit(task.tgid, g::RLIMIT_NICE);
    let wanted = (20 - i64::from(nice)) as u64;
    limit.is_some_and(|(soft, _)| wanted <= soft)
}

/// What a call wants a thread to have.
#[derive(Clone, Copy)]
struct Wanted {
    /// `None` leaves it, and whether children are reset.
    policy: Option<u32>,
    reset_on_fork: bool,
    priority: u32,
    nice: i8,
    deadline: bool,
}

/// Checks what `__sched_setscheduler()` checks and sets it.
fn set(cx: &mut Cx<'_, '_>, thread: ThreadId, wanted: Wanted) -> SysResult {
    let target = task(cx, thread)?;
    let now = target.sched;
    let (policy, reset_on_fork) = match wanted.policy {
        None => (now.policy, now.reset_on_fork),
        Some(policy) => (policy, wanted.reset_on_fork),
    };
    let known = [
        g::SCHED_NORMAL,
        g::SCHED_FIFO,
        g::SCHED_RR,
        g::SCHED_BATCH,
        g::SCHED_IDLE,
        g::SCHED_DEADLINE,
    ];
    let fair = policy == g::SCHED_NORMAL || policy == g::SCHED_BATCH;
    let priority = wanted.priority;
    if !known.contains(&policy)
        || priority > PRIORITY_MAX
        || is_real_time(policy) != (priority != 0)
        || (policy == g::SCHED_DEADLINE && !wanted.deadline)
    {
        return Err(Errno::EINVAL.into());
    }
    let limit = cx.k.tasks.rlimit(target.tgid, g::RLIMIT_RTPRIO);
    let limit = limit.map_or(0, |(soft, _)| soft);
    let privileged = (fair && wanted.nice < target.nice && !nice_allowed(cx, target, wanted.nice))
        || (is_real_time(policy)
            && ((policy != now.policy && limit == 0)
                || (priority > now.priority && u64::from(priority) > limit)))
        || policy == g::SCHED_DEADLINE
        || (now.policy == g::SCHED_IDLE
            && policy != g::SCHED_IDLE
            && !nice_allowed(cx, target, target.nice))
        || !owns(cx, target)
        || (now.reset_on_fork && !reset_on_fork);
    if privileged && !cx.creds().capable(g::CAP_SYS_NICE) || !is_safe(cx, target) {
        return Err(Errno::EPERM.into());
    }
    if policy == g::SCHED_DEADLINE {
        // As on a machine whose processors are all promised already.
        return Err(Errno::EBUSY.into());
    }
    let task = cx.k.tasks.get_mut(thread).ok_or(Errno::ESRCH)?;
    task.sched = Scheduling {
        policy,
        priority,
        reset_on_fork,
        ..now
    };
    if fair {
        task.nice = wanted.nice;
    }
    Ok(0)
}

/// sched_setscheduler(2), and sched_setparam(2) without a policy.
fn set_parameters(cx: &mut Cx<'_, '_>, pid: Pid, policy: Option<u32>, param: Addr) -> SysResult {
    if param.0 == 0 || pid.0 < 0 {
        return Err(Errno::EINVAL.into());
    }
    let priority: u32 = cx.read_obj(param.0)?;
    let thread = thread(cx, pid.0)?;
    let wanted = Wanted {
        policy: policy.map(|policy| policy & !g::SCHED_RESET_ON_FORK),
        reset_on_fork: policy.is_some_and(|policy| policy & g::SCHED_RESET_ON_FORK != 0),
        priority,
        nice: task(cx, thread)?.nice,
        deadline: false,
    };
    set(cx, thread, wanted)
}

pub(super) fn sched_setscheduler(
    cx: &mut Cx<'_, '_>,
    pid: Pid,
    policy: Int,
    param: Addr,
) -> SysResult {
    let policy = u32::try_from(policy.0).map_err(|_| Errno::EINVAL)?;
    set_parameters(cx, pid, Some(policy), param)
}

pub(super) fn sched_setparam(cx: &mut Cx<'_, '_>, pid: Pid, param: Addr) -> SysResult {
    set_parameters(cx, pid, None, param)
}

pub(super) fn sched_getscheduler(cx: &mut Cx<'_, '_>, pid: Pid) -> SysResult {
    let thread = scheduled(cx, pid.0)?;
    let now = task(cx, thread)?.sched;
    let flag = if now.reset_on_fork {
        g::SCHED_RESET_ON_FORK
    } else {
        0
    };
    Ok(u64::from(now.policy | flag))
}

pub(super) fn sched_getparam(cx: &mut Cx<'_, '_>, pid: Pid, param: Addr) -> SysResult {
    if param.0 == 0 {
        return Err(Errno::EINVAL.into());
    }
    let thread = scheduled(cx, pid.0)?;
    let priority = task(cx, thread)?.sched.priority;
    cx.write_obj(param.0, &priority)?;
    Ok(0)
}

pub(super) fn sched_rr_get_interval(cx: &mut Cx<'_, '_>, pid: Pid, interval: Addr) -> SysResult {
    let thread = scheduled(cx, pid.0)?;
    let slice = match task(cx, thread)?.sched.policy {
        g::SCHED_RR => RR_SLICE,
        g::SCHED_FIFO => 0,
        _ => FAIR_SLICE,
    };
    cx.write_obj(interval.0, &Timespec::from_nanos(slice))?;
    Ok(0)
}

/// `struct sched_attr`
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Attr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
    util_min: u32,
    util_max: u32,
}

const ATTR_SIZE: u32 = size_of::<Attr>() as u32;
/// Size of the first version (`SCHED_ATTR_SIZE_VER0`).
const ATTR_SIZE_0: u32 = 48;
// Flags (linux/sched.h).
const RESET_ON_FORK: u64 = 1;
const KEEP_POLICY: u64 = 8;
const KEEP_PARAMS: u64 = 16;
const UTIL_CLAMP: u64 = 0x60;
const FLAGS: u64 = 0x7f;

pub(super) fn sched_setattr(cx: &mut Cx<'_, '_>, pid: Pid, at: Addr, flags: Uint) -> SysResult {
    if at.0 == 0 || pid.0 < 0 || flags.0 != 0 {
        return Err(Errno::EINVAL.into());
    }
    let attr = read_attr(cx, at.0)?;
    if (attr.policy as i32) < 0 {
        return Err(Errno::EINVAL.into());
    }
    let thread = thread(cx, pid.0)?;
    let target = task(cx, thread)?;
    let keep = attr.flags & KEEP_PARAMS != 0;
    let wanted = Wanted {
        policy: (attr.flags & KEEP_POLICY == 0).then_some(attr.policy),
        reset_on_fork: attr.flags & RESET_ON_FORK != 0,
        priority: if keep {
            target.sched.priority
        } else {
            attr.priority
        },
        nice: match keep {
            true => target.nice,
            false => attr.nice.clamp(-20, 19) as i8,
        },
        deadline: attr.runtime > 0 && attr.runtime <= attr.deadline,
    };
    if attr.flags & !FLAGS != 0 {
        return Err(Errno::EINVAL.into());
    }
    if attr.flags & UTIL_CLAMP != 0 {
        return Err(Errno::EOPNOTSUPP.into());
    }
    set(cx, thread, wanted)
}

/// Reads the attributes in the size that the program has them. `E2BIG` with the size that this kernel has.
fn read_attr(cx: &mut Cx<'_, '_>, at: u64) -> Result<Attr, Errno> {
    let size = match cx.read_obj(at)? {
        0 => ATTR_SIZE_0,
        size => size,
    };
    let mut zero = size >= ATTR_SIZE_0 && u64::from(size) <= PAGE_SIZE;
    if zero {
        for offset in ATTR_SIZE..size {
            let byte: u8 = cx.read_obj(at.wrapping_add(u64::from(offset)))?;
            zero &= byte == 0;
        }
    }
    if !zero {
        cx.write_obj(at, &ATTR_SIZE)?;
        return Err(Errno::E2BIG);
    }
    let mut attr = Attr::default();
    let len = size.min(ATTR_SIZE) as usize;
    cx.read_user(at, &mut attr.as_mut_bytes()[..len])?;
    if attr.flags & UTIL_CLAMP != 0 && size < ATTR_SIZE {
        return Err(Errno::EINVAL);
    }
    Ok(attr)
}

pub(super) fn sched_getattr(
    cx: &mut Cx<'_, '_>,
    pid: Pid,
    at: Addr,
    size: Uint,
    flags: Uint,
) -> SysResult {
    let sizes = ATTR_SIZE_0..=PAGE_SIZE as u32;
    if at.0 == 0 || pid.0 < 0 || !sizes.contains(&size.0) || flags.0 != 0 {
        return Err(Errno::EINVAL.into());
    }
    let thread = thread(cx, pid.0)?;
    let target = task(cx, thread)?;
    let len = size.0.min(ATTR_SIZE);
    let real_time = is_real_time(target.sched.policy);
    let attr = Attr {
        size: len,
        policy: target.sched.policy,
        flags: if target.sched.reset_on_fork {
            RESET_ON_FORK
        } else {
            0
        },
        nice: if real_time { 0 } else { i32::from(target.nice) },
        priority: target.sched.priority,
        ..Attr::default()
    };
    cx.write_user(at.0, &attr.as_bytes()[..len as usize])?;
    Ok(0)
}

pub(super) fn sched_get_priority_max(_cx: &mut Cx<'_, '_>, policy: Int) -> SysResult {
    range(policy, u64::from(PRIORITY_MAX))
}

pub(super) fn sched_get_priority_min(_cx: &mut Cx<'_, '_>, policy: Int) -> SysResult {
    range(policy, 1)
}

/// `real_time` for real-time policies, 0 for the others that exist. `EINVAL`.
fn range(policy: Int, real_time: u64) -> SysResult {
    match u32::try_from(policy.0) {
        Ok(g::SCHED_FIFO | g::SCHED_RR) => Ok(real_time),
        Ok(g::SCHED_NORMAL | g::SCHED_BATCH | g::SCHED_IDLE | g::SCHED_DEADLINE) => Ok(0),
        _ => Err(Errno::EINVAL.into()),
    }
}

pub(super) fn sched_getaffinity(cx: &mut Cx<'_, '_>, pid: Pid, len: Size, mask: Addr) -> SysResult {
    const WORD: u64 = 8;
    // Linux wants whole words and room for all processors, and returns the bytes it filled.
    if len.0 < WORD || !len.0.is_multiple_of(WORD) {
        return Err(Errno::EINVAL.into());
    }
    let thread = thread(cx, pid.0)?;
    let affinity = task(cx, thread)?.sched.affinity;
    cx.write_obj(mask.0, &affinity)?;
    Ok(WORD)
}

pub(super) fn sched_setaffinity(cx: &mut Cx<'_, '_>, pid: Pid, len: Size, mask: Addr) -> SysResult {
    let mut word = [0; 8];
    let len = len.0.min(8) as usize;
    cx.read_user(mask.0, &mut word[..len])?;
    let thread = thread(cx, pid.0)?;
    let target = task(cx, thread)?;
    let may = owns(cx, target) || cx.capable_in(target.creds.user_ns, g::CAP_SYS_NICE);
    if !may || !is_safe(cx, target) {
        return Err(Errno::EPERM.into());
    }
    let affinity = u64::from_le_bytes(word) & all_cpus(cx.k.env.cpus);
    if affinity == 0 {
        return Err(Errno::EINVAL.into());
    }
    if let Some(task) = cx.k.tasks.get_mut(thread) {
        task.sched.affinity = affinity;
    }
    Ok(0)
}

pub(super) fn getcpu(cx: &mut Cx<'_, '_>, cpu: Addr, node: Addr) -> SysResult {
    let task = cx.task();
    let number = task.sched.cpu(task.tid);
    for (at, value) in [(cpu.0, number), (node.0, 0)] {
        if at != 0 {
            cx.write_obj(at, &value)?;
        }
    }
    Ok(0)
}

/// What `who` of a call on several threads is the number of.
#[derive(Clone, Copy)]
enum Kind {
    Thread,
    Group,
    User,
}

/// The threads that getpriority(2), ioprio_get(2) and their relatives mean; there may be none.
fn threads(cx: &Cx<'_, '_>, kind: Kind, who: i32) -> Vec<ThreadId> {
    let who = who as u32;
    let tasks = &cx.k.tasks;
    let lives = |id: &ThreadId| tasks.get(*id).is_some_and(|task| !task.exited);
    match kind {
        Kind::Thread if who == 0 => alloc::vec![cx.thread],
        Kind::Thread => cx.meant_thread(who).into_iter().collect(),
        Kind::Group => {
            let pgid = match who {
                0 => Some(cx.group().pgid),
                who => cx.meant_pid(who),
            };
            let members = pgid.into_iter().flat_map(|pgid| tasks.group_members(pgid));
            let mut all: Vec<ThreadId> = members
                .flat_map(|tgid| tasks.thread_ids(tgid))
                .filter(lives)
                .collect();
            all.sort_unstable();
            all
        }
        Kind::User => {
            let uid = match who {
                0 => Ok(cx.creds().uid),
                who => crate::cred::ns::user::take_uid(cx.k, cx.creds().user_ns, who),
            };
            let all = uid.into_iter().flat_map(|uid| tasks.of_user(uid));
            all.filter(lives).collect()
        }
    }
}

/// `PRIO_` values.
fn priority_kind(which: PriorityWho) -> Result<Kind, Errno> {
    match which {
        PriorityWho::Process => Ok(Kind::Thread),
        PriorityWho::Group => Ok(Kind::Group),
        PriorityWho::User => Ok(Kind::User),
        PriorityWho::Other(_) => Err(Errno::EINVAL),
    }
}

pub(super) fn getpriority(cx: &mut Cx<'_, '_>, which: PriorityWho, who: Int) -> SysResult {
    let threads = threads(cx, priority_kind(which)?, who.0);
    let tasks = threads.into_iter().filter_map(|id| cx.k.tasks.get(id));
    // 20 - nice, so that it is never negative; the best of several.
    let best = tasks.map(|task| (20 - i64::from(task.nice)) as u64).max();
    Ok(best.ok_or(Errno::ESRCH)?)
}

pub(super) fn setpriority(
    cx: &mut Cx<'_, '_>,
    which: PriorityWho,
    who: Int,
    prio: Int,
) -> SysResult {
    let nice = prio.0.clamp(-20, 19) as i8;
    let mut result = Err(Errno::ESRCH);
    for thread in threads(cx, priority_kind(which)?, who.0) {
        let Ok(target) = task(cx, thread) else {
            continue;
        };
        let privileged = cx.creds().capable(g::CAP_SYS_NICE);
        if !owns(cx, target) && !cx.capable_in(target.creds.user_ns, g::CAP_SYS_NICE) {
            result = Err(Errno::EPERM);
            continue;
        }
        if nice < target.nice && !nice_allowed(cx, target, nice) && !privileged {
            result = Err(Errno::EACCES);
            continue;
        }
        if !is_safe(cx, target) {
            result = Err(Errno::EPERM);
            continue;
        }
        if result == Err(Errno::ESRCH) {
            result = Ok(0);
        }
        if let Some(task) = cx.k.tasks.get_mut(thread) {
            task.nice = nice;
        }
    }
    Ok(result?)
}

const IO_CLASS_SHIFT: u32 = 13;

/// `IOPRIO_WHO_` values.
fn io_kind(which: IoPriorityWho) -> Result<Kind, Errno> {
    match which {
        IoPriorityWho::Process => Ok(Kind::Thread),
        IoPriorityWho::Group => Ok(Kind::Group),
        IoPriorityWho::User => Ok(Kind::User),
        IoPriorityWho::Other(_) => Err(Errno::EINVAL),
    }
}

pub(super) fn ioprio_set(
    cx: &mut Cx<'_, '_>,
    which: IoPriorityWho,
    who: Int,
    ioprio: Int,
) -> SysResult {
    const NONE: u32 = 0;
    const REAL_TIME: u32 = 1;
    const BEST_EFFORT: u32 = 2;
    const IDLE: u32 = 3;
    const LEVEL: u32 = 7;
    let value = ioprio.0 as u32;
    let nice = cx.creds().capable(g::CAP_SYS_NICE);
    match value >> IO_CLASS_SHIFT & 7 {
        REAL_TIME if !nice && !cx.creds().capable(g::CAP_SYS_ADMIN) => {
            return Err(Errno::EPERM.into());
        }
        REAL_TIME | BEST_EFFORT | IDLE => {}
        NONE if value & LEVEL == 0 => {}
        _ => return Err(Errno::EINVAL.into()),
    }
    let mut result = Err(Errno::ESRCH);
    for thread in threads(cx, io_kind(which)?, who.0) {
        let Ok(target) = task(cx, thread) else {
            continue;
        };
        let own = [cx.creds().uid, cx.creds().euid].contains(&target.creds.uid);
        if !own && !nice || !is_safe(cx, target) {
            return Err(Errno::EPERM.into());
        }
        if let Some(task) = cx.k.tasks.get_mut(thread) {
            task.sched.io_priority = value as u16;
        }
        result = Ok(0);
    }
    Ok(result?)
}

pub(super) fn ioprio_get(cx: &mut Cx<'_, '_>, which: IoPriorityWho, who: Int) -> SysResult {
    let threads = threads(cx, io_kind(which)?, who.0);
    let tasks = threads.into_iter().filter_map(|id| cx.k.tasks.get(id));
    // The best of several is the lowest, and none at all is none.
    let values = tasks.map(|task| task.sched.io_priority);
    Ok(u64::from(values.min().ok_or(Errno::ESRCH)?))
}
