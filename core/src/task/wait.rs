//! Waiting for children (wait(2)).

use super::process::Report;
use super::signal::SIGCHLD;
use super::usage::{self, Usage};
use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::args::WaitOptions;
use crate::cred::ns::user;
use crate::env::wait::{Stop, Wait, WaitKey};
use crate::task::Cx;

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
    /// What the child and those it waited for have used.
    pub usage: Usage,
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

/// Waits until a child changes its state as `options` ask. `None` with `NOHANG`; `ECHILD` if there is no such
/// child.
pub(crate) fn wait(
    cx: &mut Cx<'_, '_>,
    which: Children,
    options: WaitOptions,
) -> Result<Option<Waited>, Stop> {
    let tgid = cx.task().tgid;
    let eligible = |child: u32| {
        let Some(group) = cx.k.tasks.group(child) else {
            return false;
        };
        let chosen = match which {
            Children::All => true,
            Children::Process(pid) => pid == child,
            Children::Group(pgid) => pgid == group.pgid,
        };
        let of_clone = group.exit_signal != SIGCHLD;
        let kind =
            options.contains(WaitOptions::ALL) || of_clone == options.contains(WaitOptions::CLONE);
        let own =
            !options.contains(WaitOptions::NOTHREAD) || group.parent_thread == Some(cx.thread);
        // An ended child counts only for those who wait for ends (`wait_task_zombie` of Linux).
        chosen && kind && own && (!group.zombie || options.contains(WaitOptions::EXITED))
    };
    let children = &cx.group().children;
    let mut one = None;
    if let Children::Process(pid) = which {
        one = Some(pid).filter(|&pid| children.contains(pid));
    }
    let found = match which {
        Children::Process(_) => one
            .filter(|&child| eligible(child))
            .and_then(|child| change(cx, child, options)),
        _ => children
            .changed()
            .filter(|&child| eligible(child))
            .find_map(|child| change(cx, child, options)),
    };
    let Some((pid, code, status)) = found else {
        let some = match which {
            Children::Process(_) => one.is_some_and(eligible),
            Children::All => children.iter().any(eligible),
            Children::Group(pgid) => {
                let mut members = cx.k.tasks.group_members(pgid);
                members.any(|member| children.contains(member) && eligible(member))
            }
        };
        return match some {
            false => Err(Errno::ECHILD.into()),
            true if options.contains(WaitOptions::NOHANG) => Ok(None),
            true => Wait::on(WaitKey::Child(tgid)).into(),
        };
    };
    // Asked before the number is free.
    let shown = cx.shown_pid(pid);
    let mut usage = usage::of_process(cx.k, pid);
    usage.add(&usage::of_children(cx.k, pid));
    let tasks = &mut cx.k.tasks;
    let uid = tasks.leader(pid).map_or(0, |task| task.creds.uid);
    if !options.contains(WaitOptions::NOWAIT) {
        match code {
            g::CLD_STOPPED | g::CLD_CONTINUED => {
                if let Some(group) = tasks.group_mut(pid) {
                    group.report = None;
                }
                tasks.changed(pid);
            }
            _ => {
                super::process::reap(cx.k, cx.p, pid);
                cx.k.wake(WaitKey::Exit(pid));
                let group = cx.group_mut();
                group.children_usage.add(&usage);
            }
        }
    }
    Ok(Some(Waited {
        pid: shown,
        uid: user::show_uid(cx.k, cx.creds().user_ns, uid),
        code,
        status,
        usage,
    }))
}

/// What there is to tell of a child to those who ask for this: the child, a `CLD_` code and the status.
fn change(cx: &Cx<'_, '_>, child: u32, options: WaitOptions) -> Option<(u32, u32, u32)> {
    let group = cx.k.tasks.group(child)?;
    if group.zombie {
        let status = group.status();
        let code = match status & 0x7f {
            0 => g::CLD_EXITED,
            _ => g::CLD_KILLED,
        };
        return Some((child, code, status));
    }
    match group.report? {
        Report::Stopped(signal) if options.contains(WaitOptions::STOPPED) => {
            Some((child, g::CLD_STOPPED, u32::from(signal) << 8 | 0x7f))
        }
        Report::Continued if options.contains(WaitOptions::CONTINUED) => {
            Some((child, g::CLD_CONTINUED, 0xffff))
        }
        _ => None,
    }
}
