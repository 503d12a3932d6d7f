//! `/proc/PID/{io,sched,schedstat,syscall,stack,oom_*,...}`: what a process does and how it is to be treated (proc(5)).

use alloc::format;
use alloc::vec::Vec;

use super::process::{View, check_access, name_of};
use crate::Kernel;
use crate::abi::raw::general as g;
use crate::abi::{Errno, PAGE_SIZE};
use crate::machine::ThreadId;
use crate::mm::space;
use crate::port::Ports;
use crate::task::Task;
use crate::task::process::Process;

/// Range of `oom_score_adj`, and of `oom_adj` below it (`OOM_DISABLE` to `OOM_ADJUST_MAX`).
const OOM_SCORE_ADJ_MAX: i64 = 1000;
const OOM_DISABLE: i64 = -17;
const OOM_ADJUST_MAX: i64 = 15;
/// What a dump of memory would hold by default (core(5)).
pub(crate) const COREDUMP_FILTER: u32 = 0x33;
const COREDUMP_BITS: u32 = 0x1ff;

/// A number as files of `/proc` take it: decimal, octal or hexadecimal, blanks around it. `EINVAL`.
pub(super) fn parse(data: &[u8]) -> Result<i64, Errno> {
    let text = core::str::from_utf8(data)
        .map_err(|_| Errno::EINVAL)?
        .trim();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let value = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => i64::from_str_radix(&digits[2..], 16),
        [b'0', _, ..] => i64::from_str_radix(&digits[1..], 8),
        [b'0'..=b'9', ..] => digits.parse(),
        _ => return Err(Errno::EINVAL),
    };
    let value = value.map_err(|_| Errno::EINVAL)?;
    Ok(if negative { -value } else { value })
}

fn group(k: &Kernel, view: View) -> Result<&Process, Errno> {
    k.tasks.group(view.live(k)?.tgid).ok_or(Errno::ESRCH)
}

fn group_mut(k: &mut Kernel, view: View) -> Result<&mut Process, Errno> {
    let tgid = view.live(k)?.tgid;
    k.tasks.group_mut(tgid).ok_or(Errno::ESRCH)
}

/// The tasks that a view stands for: one thread, or all that live.
fn tasks(k: &Kernel, view: View) -> Result<Vec<&Task>, Errno> {
    let task = view.live(k)?;
    if view.thread || task.exited {
        return Ok(Vec::from([task]));
    }
    let threads = k.tasks.thread_ids(task.tgid);
    Ok(threads.filter_map(|id| k.tasks.get(id)).collect())
}

/// Bytes and calls of reading and writing. Nothing is read from or written to storage: the sandbox has none.
pub(super) fn io(
    k: &mut Kernel,
    _: &mut Ports<'_>,
    _: ThreadId,
    view: View,
) -> Result<Vec<u8>, Errno> {
    let mut sum = match view.thread {
        true => Default::default(),
        false => group(k, view)?.ended_io,
    };
    for task in tasks(k, view)? {
        sum.add(&task.io);
    }
    Ok(format!(
        "rchar: {}\nwchar: {}\nsyscr: {}\nsyscw: {}\nread_bytes: 0\nwrite_bytes: 0\ncancelled_write_bytes: 0\n",
        sum.read_bytes, sum.written_bytes, sum.reads, sum.writes
    )
    .into_bytes())
}

/// How likely the process is to be ended when memory runs out (`oom_badness()` as `proc_oom_score()` scales it).
pub(super) fn oom_score(
    k: &mut Kernel,
    _: &mut Ports<'_>,
    _: ThreadId,
    view: View,
) -> Result<Vec<u8>, Errno> {
    let task = view.live(k)?;
    let adj = i64::from(group(k, view)?.oom_score_adj);
    let (_, total) = k.mm.frames.usage();
    let total = i64::from(total).max(1);
    if adj == -OOM_SCORE_ADJ_MAX || task.exited {
        return Ok(b"0\n".to_vec());
    }
    let pages = (space::usage(k, task.space).rss_bytes() / PAGE_SIZE) as i64;
    let badness = pages + adj * total / 1000;
    let score = (1000 + badness.saturating_mul(1000) / total) * 2 / 3;
    Ok(format!("{score}\n").into_bytes())
}

/// The older form of `oom_score_adj`.
pub(super) fn oom_adj(
    k: &mut Kernel,
    _: &mut Ports<'_>,
    _: ThreadId,
    view: View,
) -> Result<Vec<u8>, Errno> {
    let value = match i64::from(group(k, view)?.oom_score_adj) {
        OOM_SCORE_ADJ_MAX => OOM_ADJUST_MAX,
        value => (value * -OOM_DISABLE / OOM_SCORE_ADJ_MAX).min(OOM_ADJUST_MAX),
    };
    Ok(format!("{value}\n").into_bytes())
}

pub(super) fn set_oom_adj(
    k: &mut Kernel,
    thread: ThreadId,
    view: View,
    data: &[u8],
) -> Result<(), Errno> {
    let value = parse(data)?;
    if !(OOM_DISABLE..=OOM_ADJUST_MAX).contains(&value) {
        return Err(Errno::EINVAL);
    }
    let value = match value {
        OOM_ADJUST_MAX => OOM_SCORE_ADJ_MAX,
        value => value * OOM_SCORE_ADJ_MAX / -OOM_DISABLE,
    };
    let least = i64::from(group(k, view)?.oom_score_adj);
    adjust_oom(k, thread, view, value, least)
}

pub(super) fn set_oom_score_adj(
    k: &mut Kernel,
    thread: ThreadId,
    view: View,
    data: &[u8],
) -> Result<(), Errno> {
    let value = parse(data)?;
    if !(-OOM_SCORE_ADJ_MAX..=OOM_SCORE_ADJ_MAX).contains(&value) {
        return Err(Errno::EINVAL);
    }
    let least = i64::from(group(k, view)?.oom_score_adj_min);
    adjust_oom(k, thread, view, value, least)
}

/// Everybody may make a process more likely to be ended, `CAP_SYS_RESOURCE` less likely than `least`.
fn adjust_oom(
    k: &mut Kernel,
    thread: ThreadId,
    view: View,
    value: i64,
    least: i64,
) -> Result<(), Errno> {
    let capable = k
        .tasks
        .get(thread)
        .is_some_and(|task| task.creds.capable(g::CAP_SYS_RESOURCE));
    let group = group_mut(k, view)?;
    if value < least && !capable {
        return Err(Errno::EACCES);
    }
    group.oom_score_adj = value as i16;
    if capable {
        group.oom_score_adj_min = value as i16;
    }
    Ok(())
}

pub(super) fn personality(
    _: &mut Kernel,
    _: &mut Ports<'_>,
    _: ThreadId,
    _: View,
) -> Result<Vec<u8>, Errno> {
    Ok(b"00000000\n".to_vec())
}

pub(super) fn coredump_filter(
    k: &mut Kernel,
    _: &mut Ports<'_>,
    _: ThreadId,
    view: View,
) -> Result<Vec<u8>, Errno> {
    Ok(match view.live(k)?.exited {
        true => Vec::new(),
        false => format!("{:08x}\n", group(k, view)?.coredump_filter).into_bytes(),
    })
}

pub(super) fn set_coredump_filter(k: &mut Kernel, view: View, data: &[u8]) -> Result<(), Errno> {
    let value = parse(data)?;
    group_mut(k, view)?.coredump_filter = value as u32 & COREDUMP_BITS;
    Ok(())
}

/// Others' need the right to look at them, and `CAP_SYS_NICE`.
fn may_slack(k: &Kernel, thread: ThreadId, view: View) -> Result<(), Errno> {
    let own = k.tasks.get(thread).ok_or(Errno::ESRCH)?;
    match view.live(k)?.id == thread || own.creds.capable(g::CAP_SYS_NICE) {
        true => Ok(()),
        false => Err(Errno::EPERM),
    }
}

pub(super) fn timerslack(
    k: &mut Kernel,
    _: &mut Ports<'_>,
    thread: ThreadId,
    view: View,
) -> Result<Vec<u8>, Errno> {
    may_slack(k, thread, view)?;
    Ok(b"50000\n".to_vec())
}

/// Timers are exact, so there is nothing to set; prctl(2) says the same.
pub(super) fn set_timerslack(
    k: &mut Kernel,
    thread: ThreadId,
    view: View,
    data: &[u8],
) -> Result<(), Errno> {
    parse(data)?;
    may_slack(k, thread, view)
}

/// The time that a thread ran, waited to run (it never does: each has a thread of the host), and how often it was run.
pub(super) fn schedstat(
    k: &mut Kernel,
    _: &mut Ports<'_>,
    _: ThreadId,
    view: View,
) -> Result<Vec<u8>, Errno> {
    let task = view.live(k)?;
    Ok(format!("{} 0 {}\n", task.cpu_time, task.switches + 1).into_bytes())
}

pub(super) fn sched(
    k: &mut Kernel,
    _: &mut Ports<'_>,
    _: ThreadId,
    view: View,
) -> Result<Vec<u8>, Errno> {
    let task = view.live(k)?;
    let threads = k.tasks.threads(task.tgid).count();
    let mut text = name_of(task).to_vec();
    let millis = |nanos: u64| format!("{}.{:06}", nanos / 1_000_000, nanos % 1_000_000);
    let head = format!(" ({}, #threads: {threads})\n{:-<67}\n", task.tid, "");
    text.extend_from_slice(head.as_bytes());
    let priority = 120 + i64::from(task.nice);
    for (name, value) in [
        ("se.exec_start", millis(k.system.now.mono)),
        ("se.vruntime", millis(task.cpu_time)),
        ("se.sum_exec_runtime", millis(task.cpu_time)),
        ("se.nr_migrations", format!("{}", 0)),
        ("nr_switches", format!("{}", task.switches)),
        ("nr_voluntary_switches", format!("{}", task.switches)),
        ("nr_involuntary_switches", format!("{}", 0)),
        ("policy", format!("{}", g::SCHED_NORMAL)),
        ("prio", format!("{priority}")),
    ] {
        text.extend_from_slice(format!("{name:<45}:{value:>21}\n").as_bytes());
    }
    Ok(text)
}

/// The system call a thread waits in, its arguments, stack pointer and program counter.
pub(super) fn syscall(
    k: &mut Kernel,
    _: &mut Ports<'_>,
    _: ThreadId,
    view: View,
) -> Result<Vec<u8>, Errno> {
    let task = view.live(k)?;
    let regs = &task.regs;
    let waits = task.call.as_ref().filter(|call| call.wait.is_some());
    let text = match waits {
        Some(call) => {
            let [a, b, c, d, e, f] = call.args;
            let (sp, pc) = (regs.rsp, regs.rip);
            format!(
                "{} {a:#x} {b:#x} {c:#x} {d:#x} {e:#x} {f:#x} {sp:#x} {pc:#x}\n",
                call.number
            )
        }
        None => "running\n".into(),
    };
    Ok(text.into_bytes())
}

/// The stack inside the kernel: only for who may look at the kernel, and there is none.
pub(super) fn stack(
    k: &mut Kernel,
    _: &mut Ports<'_>,
    thread: ThreadId,
    view: View,
) -> Result<Vec<u8>, Errno> {
    check_access(k, thread, view)?;
    let own = k.tasks.get(thread).ok_or(Errno::ESRCH)?;
    match own.creds.capable(g::CAP_SYS_ADMIN) {
        true => Ok(Vec::new()),
        false => Err(Errno::EACCES),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_in_three_bases() {
        assert_eq!(parse(b" -17\n"), Ok(-17));
        assert_eq!(parse(b"0x33"), Ok(0x33));
        assert_eq!(parse(b"017"), Ok(0o17));
        assert_eq!(parse(b"0"), Ok(0));
        for text in [
            &b""[..],
            b"x",
            b"-",
            b"1 2",
            b"99999999999999999999",
            b"\xff",
        ] {
            assert_eq!(parse(text), Err(Errno::EINVAL));
        }
    }
}
