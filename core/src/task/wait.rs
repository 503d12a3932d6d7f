//! Waiting for children (wait(2)).

use super::cputime;
use super::process::Report;
use super::signal::SIGCHLD;
use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::kernel::{Cx, Stop, Wait, WaitKey};
use crate::ns::user;

/// Which children are waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Children {
    All,
    Process(u32),
    Group(u32),
}

/// What was found out about a child.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Waited {
    pub pid: u32,
    /// Real user of the child.
    pub uid: u32,
    /// `CLD_` code.
    pub code: u32,
    /// Status as wait4(2) encodes it.
    pub status: u32,
    /// Nanoseconds the child and those it waited for have run.
    pub cpu_time: u64,
}

impl Waited {
    /// `si_status`: the exit value or the signal.
    pub(crate) fn si_status(&self) -> u32 {
        match self.code {
            g::CLD_EXITED | g::CLD_STOPPED => self.status >> 8,
            g::CLD_CONTINUED => g::SIGCONT,
            _ => self.status & 0x7f,
        }
    }
}

/// Waits until a child changes its state as `options` (`WEXITED`, `WSTOPPED`, `WCONTINUED`, `WNOHANG`, `WNOWAIT`, `__WALL`, `__WCLONE`,
/// `__WNOTHREAD`) ask. `None` with `WNOHANG`; `ECHILD` if there is no such child.
pub(crate) fn wait(
    cx: &mut Cx<'_, '_>,
    which: Children,
    options: u32,
) -> Result<Option<Waited>, Stop> {
    let tgid = cx.task().tgid;
    let mut some = false;
    let mut found = None;
    for &child in &cx.group().children {
        let Some(group) = cx.k.tasks.group(child) else {
            continue;
        };
        let chosen = match which {
            Children::All => true,
            Children::Process(pid) => pid == child,
            Children::Group(pgid) => pgid == group.pgid,
        };
        let of_clone = group.exit_signal != SIGCHLD;
        let kind = options & g::__WALL != 0 || of_clone == (options & g::__WCLONE != 0);
        let own = options & g::__WNOTHREAD == 0 || group.parent_thread == Some(cx.thread);
        if !chosen || !kind || !own {
            continue;
        }
        some = true;
        let change = if group.zombie {
            let status = group.status();
            let code = match status & 0x7f {
                0 => g::CLD_EXITED,
                _ => g::CLD_KILLED,
            };
            (options & g::WEXITED != 0).then_some((code, status))
        } else {
            match group.report {
                Some(Report::Stopped(signal)) if options & g::WSTOPPED != 0 => {
                    Some((g::CLD_STOPPED, u32::from(signal) << 8 | 0x7f))
                }
                Some(Report::Continued) if options & g::WCONTINUED != 0 => {
                    Some((g::CLD_CONTINUED, 0xffff))
                }
                _ => None,
            }
        };
        if let Some((code, status)) = change {
            found = Some((child, code, status));
            break;
        }
    }
    let Some((pid, code, status)) = found else {
        return match some {
            false => Err(Errno::ECHILD.into()),
            true if options & g::WNOHANG != 0 => Ok(None),
            true => Wait::on(WaitKey::Child(tgid)).into(),
        };
    };
    // Asked before the number is free.
    let shown = cx.shown_pid(pid);
    let cpu_time = cputime::of_process(cx.k, pid).saturating_add(cputime::of_children(cx.k, pid));
    let tasks = &mut cx.k.tasks;
    let uid = tasks.leader(pid).map_or(0, |task| task.creds.uid);
    if options & g::WNOWAIT == 0 {
        match code {
            g::CLD_STOPPED | g::CLD_CONTINUED => {
                if let Some(group) = tasks.group_mut(pid) {
                    group.report = None;
                }
            }
            _ => {
                super::process::reap(cx.k, cx.p, pid);
                cx.k.wake(WaitKey::Exit(pid));
                let group = cx.group_mut();
                group.children_cpu_time = group.children_cpu_time.saturating_add(cpu_time);
            }
        }
    }
    Ok(Some(Waited {
        pid: shown,
        uid: user::show_uid(cx.k, cx.creds().user_ns, uid),
        code,
        status,
        cpu_time,
    }))
}
