//! `/proc/PID/{io,sched,schedstat,syscall,stack,oom_*,...}`: what a process does and how it is to be treated
//! (proc(5)).

use alloc::format;
use alloc::vec::Vec;
use core::num::IntErrorKind;

use super::process::{check_access, name_of};
use super::view::View;
use crate::Kernel;
use crate::abi::raw::general as g;
use crate::abi::{Errno, PAGE_SIZE};
use crate::cred::ns::user;
use crate::machine::ThreadId;
use crate::mm::space;
use crate::port::Ports;
use crate::task::process::Process;
use crate::task::{Task, cputime};

/// Range of `oom_score_adj`, and of `oom_adj` below it (`OOM_DISABLE` to `OOM_ADJUST_MAX`).
const OOM_SCORE_ADJ_MAX: i64 = 1000;
const OOM_DISABLE: i64 = -17;
const OOM_ADJUST_MAX: i64 = 15;

const COREDUMP_BITS: u32 = 0x1ff;

/// A number as `kstrtoint()` reads it, with blanks around it: decimal, octal or hexadecimal. `EINVAL`,
/// `ERANGE`.
pub(super) fn parse_signed(data: &[u8]) -> Result<i64, Errno> {
    let text = before_nul(data).trim_ascii();
    let value = match text.strip_prefix(b"-") {
        Some(digits) => 0i64.checked_sub_unsigned(magnitude(digits)?),
        None => i64::try_from(magnitude(text.strip_prefix(b"+").unwrap_or(text))?).ok(),
    };
    let value = value.and_then(|value| i32::try_from(value).ok());
    value.map(i64::from).ok_or(Errno::ERANGE)
}

/// A number without a sign up to `max`, as `kstrtoull()` reads it: only one newline may follow. `EINVAL`,
/// `ERANGE`.
fn parse_unsigned(data: &[u8], max: u64) -> Result<u64, Errno> {
    let data = before_nul(data);
    let text = data.strip_suffix(b"\n").unwrap_or(data);
    match magnitude(text.strip_prefix(b"+").unwrap_or(text))? {
        value if value <= max => Ok(value),
        _ => Err(Errno::ERANGE),
    }
}

/// What is written as a string ends at a NUL.
pub(super) fn before_nul(data: &[u8]) -> &[u8] {
    data.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// Digits without any sign, which from_str_radix() would take as well.
fn magnitude(text: &[u8]) -> Result<u64, Errno> {
    let (digits, radix) = match text {
        [b'0', b'x' | b'X', rest @ ..] => (rest, 16),
        [b'0', _, ..] => (&text[1..], 8),
        _ => (text, 10),
    };
    let digits = core::str::from_utf8(digits).map_err(|_| Errno::EINVAL)?;
    if digits.starts_with(['+', '-']) {
        return Err(Errno::EINVAL);
    }
    u64::from_str_radix(digits, radix).map_err(|error| match error.kind() {
        IntErrorKind::PosOverflow => Errno::ERANGE,
        _ => Errno::EINVAL,
    })
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

/// How likely the process is to be ended when memory runs out (`oom_badness()` as `proc_oom_score()` scales
/// it).
pub(super) fn oom_score(
    k: &mut Kernel,
    _: &mut Ports<'_>,
    _: ThreadId,
    view: View,
) -> Result<Vec<u8>, Errno> {
    let task = view.live(k)?;
    let adj = i64::from(group(k, view)?.oom_score_adj);
    let (_, total) = k.frames.usage();
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
    let value = parse_signed(data)?;
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
    let value = parse_signed(data)?;
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
    k: &mut Kernel,
    _: &mut Ports<'_>,
    _: ThreadId,
    view: View,
) -> Result<Vec<u8>, Errno> {
    Ok(format!("{:08x}\n", view.live(k)?.personality).into_bytes())
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
    let value = parse_unsigned(data, u32::MAX.into())?;
    group_mut(k, view)?.coredump_filter = value as u32 & COREDUMP_BITS;
    Ok(())
}

/// Others' need the right to look at them, and `CAP_SYS_NICE` over them.
fn may_slack(k: &Kernel, thread: ThreadId, view: View) -> Result<(), Errno> {
    let own = k.tasks.get(thread).ok_or(Errno::ESRCH)?;
    let target = view.live(k)?;
    let over = target.creds.user_ns;
    match target.id == thread || user::capable(k, &own.creds, over, g::CAP_SYS_NICE) {
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
    Ok(format!("{}\n", view.live(k)?.timer_slack).into_bytes())
}

/// It is kept and shown, as by prctl(2): timers are exact. 0 stands for what the thread began with.
pub(super) fn set_timerslack(
    k: &mut Kernel,
    thread: ThreadId,
    view: View,
    data: &[u8],
) -> Result<(), Errno> {
    let slack = parse_unsigned(data, u64::MAX)?;
    may_slack(k, thread, view)?;
    let id = view.live(k)?.id;
    if let Some(task) = k.tasks.get_mut(id) {
        task.timer_slack = match slack {
            0 => task.default_timer_slack,
            slack => slack,
        };
    }
    Ok(())
}

/// The time that a thread ran, waited to run (it never does: each has a thread of the host), and how often it
/// was run.
pub(super) fn schedstat(
    k: &mut Kernel,
    _: &mut Ports<'_>,
    _: ThreadId,
    view: View,
) -> Result<Vec<u8>, Errno> {
    let task = view.live(k)?;
    let ran = cputime::of_thread(k, task.id).total();
    Ok(format!("{ran} 0 {}\n", task.switches + 1).into_bytes())
}

pub(super) fn sched(
    k: &mut Kernel,
    _: &mut Ports<'_>,
    thread: ThreadId,
    view: View,
) -> Result<Vec<u8>, Errno> {
    let task = view.live(k)?;
    let threads = k.tasks.threads(task.tgid).count();
    let mut text = name_of(task).to_vec();
    let millis = |nanos: u64| format!("{}.{:06}", nanos / 1_000_000, nanos % 1_000_000);
    let reader = k.tasks.get(thread).ok_or(Errno::ESRCH)?;
    let tid = crate::cred::ns::pid::show(k, reader.ns.pid, task.tid);
    let head = format!(" ({tid}, #threads: {threads})\n{:-<67}\n", "");
    text.extend_from_slice(head.as_bytes());
    let priority = 120 + i64::from(task.nice);
    let ran = cputime::of_thread(k, task.id).total();
    for (name, value) in [
        ("se.exec_start", millis(k.env.now.mono)),
        ("se.vruntime", millis(ran)),
        ("se.sum_exec_runtime", millis(ran)),
        ("se.nr_migrations", format!("{}", 0)),
        ("nr_switches", format!("{}", task.switches)),
        ("nr_voluntary_switches", format!("{}", task.switches)),
        ("nr_involuntary_switches", format!("{}", 0)),
        ("policy", format!("{}", task.sched.policy)),
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
    let own = k.tasks.get(thread).ok_or(Errno::ESRCH)?;
    if !own.creds.capable(g::CAP_SYS_ADMIN) {
        return Err(Errno::EACCES);
    }
    match check_access(k, thread, view) {
        Err(Errno::EACCES) => Err(Errno::EPERM),
        allowed => allowed.map(|()| Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_in_three_bases() {
        assert_eq!(parse_signed(b" -17\n"), Ok(-17));
        assert_eq!(parse_signed(b"+0x33"), Ok(0x33));
        assert_eq!(parse_signed(b"017"), Ok(0o17));
        assert_eq!(parse_signed(b"0"), Ok(0));
        assert_eq!(parse_signed(b"1\0"), Ok(1));
        assert_eq!(parse_unsigned(b"5\n\0x", 9), Ok(5));
        assert_eq!(parse_signed(b"-0x80000000"), Ok(i32::MIN.into()));
        assert_eq!(parse_unsigned(b"+5\n", 5), Ok(5));
        assert_eq!(parse_unsigned(b"6", 5), Err(Errno::ERANGE));
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in [
            &b""[..],
            b"x",
            b"-",
            b"1 2",
            b"\xff",
            b"0x",
            b"0x-1",
            b"0+7",
            b"--1",
            b"-0x-8000000000000000",
        ] {
            assert_eq!(parse_signed(text), Err(Errno::EINVAL));
            assert_eq!(parse_unsigned(text, u64::MAX), Err(Errno::EINVAL));
        }
        for text in [b" 5", b"5 ", b"-1"] {
            assert_eq!(parse_unsigned(text, u64::MAX), Err(Errno::EINVAL));
        }
        for text in [
            &b"0x80000000"[..],
            b"-0x8000000000000000",
            b"99999999999999999999",
        ] {
            assert_eq!(parse_signed(text), Err(Errno::ERANGE));
        }
    }
}
