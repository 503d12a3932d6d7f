//! What becomes of the children and process groups of those who end, and what parents are told.

use smallvec::SmallVec;

use super::ending::{Stage, ends, note_group};
use super::process::{TICK, reap, seen_by_parent};
use super::signal::{self, Action, SIGCHLD, SIGCONT, SIGHUP, SigInfo};
use super::{INIT, cputime};
use crate::Kernel;
use crate::abi::raw::general as g;
use crate::cred::ns::{PID, pid};
use crate::env::wait::WaitKey;
use crate::machine::ThreadId;
use crate::port::Ports;

/// Gives some of the children of a process that ends to the nearest ancestor that wants orphans, at last to
/// the first process. `false` if there are none.
pub(super) fn give_away(k: &mut Kernel, p: &mut Ports<'_>, tgid: u32) -> bool {
    const AT_ONCE: usize = 16;
    let Some(group) = k.tasks.group(tgid).filter(|_| tgid != INIT) else {
        return false;
    };
    let (parent, own) = (group.parent, (group.pgid, group.sid));
    let children: SmallVec<[u32; AT_ONCE]> = group.children.iter().take(AT_ONCE).collect();
    if children.is_empty() {
        // The parent could control this one's group.
        let above = k.tasks.group(parent);
        if above.is_some_and(|above| above.pgid != own.0 && above.sid == own.1) {
            note_group(k, tgid, own.0);
        }
        return false;
    }
    let reaper = find_reaper(k, tgid, parent);
    let thread = k.tasks.thread_ids(reaper).next();
    for child in children {
        k.env.steps.spend(8);
        tell_child(k, tgid, child);
        k.tasks.set_parent(child, reaper, thread);
        let Some(group) = k.tasks.group_mut(child) else {
            continue;
        };
        group.exit_signal = SIGCHLD;
        let (zombie, pgid, sid) = (group.zombie, group.pgid, group.sid);
        if pgid != own.0 && sid == own.1 {
            note_group(k, tgid, pgid);
        }
        if zombie {
            if tell_parent(k, child) {
                reap(k, p, child);
            }
            k.wake(WaitKey::Child(reaper));
        }
    }
    true
}

/// Looks at some members of a process group that may have lost the last parent which could control it, from
/// one on. Whether there are stopped ones so far is `stopped`.
pub(super) fn look_at(k: &mut Kernel, tgid: u32, pgid: u32, from: u32, stopped: bool) -> Stage {
    const AT_ONCE: usize = 64;
    let (mut next, mut stopped) = (None, stopped);
    let mut count = 0;
    let mut controlled = false;
    for member in k.tasks.group_members_from(pgid, from).take(AT_ONCE) {
        count += 1;
        next = Some(member + 1);
        let group = k.tasks.group(member);
        stopped |= group.is_some_and(|group| group.stopped);
        controlled = member != tgid && is_controlled(k, member);
        if controlled {
            break;
        }
    }
    k.env.steps.spend(count);
    if controlled {
        return Stage::Groups;
    }
    match next {
        Some(from) => Stage::Group {
            pgid,
            from,
            stopped,
        },
        None if stopped => Stage::HangUp { pgid, from: 0 },
        None => Stage::Groups,
    }
}

/// Whether a process has a parent in another group of the same session.
fn is_controlled(k: &Kernel, tgid: u32) -> bool {
    let Some(group) = k.tasks.group(tgid).filter(|group| !group.zombie) else {
        return false;
    };
    let parent = k.tasks.group(group.parent);
    parent.is_some_and(|parent| parent.pgid != group.pgid && parent.sid == group.sid)
}

/// Whether no process of a process group has a parent in another group of the same session (setpgid(2)).
pub(crate) fn orphaned(k: &mut Kernel, pgid: u32) -> bool {
    let mut count = 0;
    let mut members = k.tasks.group_members(pgid).inspect(|_| count += 1);
    let controlled = members.any(|member| is_controlled(k, member));
    drop(members);
    k.env.steps.spend(count / 4);
    !controlled
}

/// A process group that holds stopped processes has lost the last parent which could control it: some of it
/// get SIGHUP and SIGCONT (POSIX, _exit(3)).
pub(super) fn hang_up(k: &mut Kernel, pgid: u32, from: u32) -> Stage {
    const AT_ONCE: usize = 16;
    let members = k.tasks.group_members_from(pgid, from).take(AT_ONCE);
    let members: SmallVec<[u32; AT_ONCE]> = members.collect();
    for &member in &members {
        k.env.steps.spend(16);
        signal::send_process(k, member, SigInfo::kernel(SIGHUP));
        signal::send_process(k, member, SigInfo::kernel(SIGCONT));
    }
    match members.last() {
        Some(last) => Stage::HangUp {
            pgid,
            from: last + 1,
        },
        None => Stage::Groups,
    }
}

/// Some of the children that a thread made get its death signal and another thread of the process as parent.
/// `false` if there are none.
pub(super) fn reparent_some(
    k: &mut Kernel,
    tgid: u32,
    thread: ThreadId,
    heir: Option<ThreadId>,
) -> bool {
    const AT_ONCE: usize = 16;
    let Some(group) = k.tasks.group(tgid) else {
        return false;
    };
    let children = group.children.of_thread(thread).take(AT_ONCE);
    let children: SmallVec<[u32; AT_ONCE]> = children.collect();
    for &child in &children {
        k.env.steps.spend(8);
        k.tasks.set_parent(child, tgid, heir);
        tell_child(k, tgid, child);
    }
    !children.is_empty()
}

/// The threads of a child get the signals that they want when their parent's thread ends.
fn tell_child(k: &mut Kernel, tgid: u32, child: u32) {
    let uid = k.tasks.leader(tgid).map_or(0, |task| task.creds.uid);
    let mut next = Some(0);
    while let Some(from) = next {
        let Some(group) = k.tasks.group(child) else {
            return;
        };
        let mut count = 0;
        let found = group.threads.range(from..).find_map(|(&tid, &thread)| {
            count += 1;
            let wanted = k.tasks.get(thread).map_or(0, |task| task.death_signal);
            (wanted != 0).then_some((tid, wanted))
        });
        k.env.steps.spend(count / 4);
        next = found.map(|(tid, _)| tid + 1);
        if let Some((_, wanted)) = found {
            k.env.steps.spend(8);
            let (pid, uid) = seen_by_parent(k, tgid, child, uid);
            let info = SigInfo::user(wanted, g::SI_USER as i32, pid, uid);
            signal::send_process(k, child, info);
        }
    }
}

/// Tells the parent of a zombie. `true` if the parent does not want to wait for it.
pub(super) fn tell_parent(k: &mut Kernel, tgid: u32) -> bool {
    let Some(group) = k.tasks.group(tgid) else {
        return false;
    };
    let (parent, exit_signal, status) = (group.parent, group.exit_signal, group.status());
    // The first process of a PID namespace ends, and everything in it with it.
    if k.tasks.group(parent).is_some_and(|parent| parent.zombie)
        || ends(k, parent) && crate::ns::pids::is_init(k, parent)
    {
        return true;
    }
    let action = match k.tasks.actions(parent) {
        Some(actions) => actions.get(SIGCHLD),
        None => Action::default(),
    };
    let ignored = action.handler == signal::SIG_IGN;
    let unwanted =
        exit_signal == SIGCHLD && (ignored || action.flags & u64::from(g::SA_NOCLDWAIT) != 0);
    let send = (1..=signal::SIGNALS).contains(&exit_signal) && !(exit_signal == SIGCHLD && ignored);
    if send {
        let (code, value) = match status & 0x7f {
            0 => (g::CLD_EXITED, status >> 8),
            signal => (g::CLD_KILLED, signal),
        };
        let uid = k.tasks.leader(tgid).map_or(0, |task| task.creds.uid);
        let time = cputime::of_process(k, tgid);
        let ticks = [time.user / TICK, time.system / TICK];
        let (pid, uid) = seen_by_parent(k, tgid, parent, uid);
        let info = SigInfo::child(exit_signal, code as i32, pid, uid, value as i32, ticks);
        signal::send_process(k, parent, info);
    }
    unwanted
}

/// Who gets the children of a process that ends: the nearest ancestor that wants orphans, or the first
/// process of its PID namespace; of that one, the one above.
fn find_reaper(k: &mut Kernel, tgid: u32, parent: u32) -> u32 {
    let ns = k.tasks.leader(tgid).map_or(PID, |task| task.ns.pid);
    let first = pid::init(k, ns);
    if first == tgid || !k.tasks.group_exists(first) {
        return match k.tasks.group(parent) {
            Some(group) if !group.zombie => parent,
            _ => INIT,
        };
    }
    let (mut reaper, mut levels) = (parent, 0);
    let found = loop {
        let Some(group) = k.tasks.group(reaper) else {
            break first;
        };
        let inside = k.tasks.leader(reaper).is_some_and(|task| task.ns.pid == ns);
        if reaper == first || !inside {
            break first;
        }
        if group.subreaper && !group.zombie && !ends(k, reaper) {
            break reaper;
        }
        reaper = group.parent;
        levels += 1;
    };
    k.env.steps.spend(levels / 4);
    found
}
