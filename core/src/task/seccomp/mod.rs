//! What becomes of the system calls of a task under seccomp(2).
//!
//! Filters form chains, newest first; tasks name the newest of theirs and share chains. The kernel counts the
//! instructions of all filters together, so that guests cannot keep more of them than [`ALL_INSNS_MAX`].

pub(crate) mod bpf;

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bpf::{Data, Program};

use super::signal::{self, SIGKILL, SigInfo};
use super::{Tasks, ending};
use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::args::SeccompFlags;
use crate::machine::ThreadId;
use crate::task::Cx;

/// Most instructions of a chain, each filter but the newest counted with [`PENALTY`] more
/// (`MAX_INSNS_PER_PATH`).
const PATH_INSNS_MAX: usize = 32768;
const PENALTY: usize = 4;
/// Most instructions of all filters in the sandbox.
const ALL_INSNS_MAX: usize = 1 << 22;
/// What a filter takes beside its instructions, in instructions.
const FILTER_COST: usize = 16;
/// `AUDIT_ARCH_X86_64`
const ARCH: u32 = 0xc000_003e;

/// A filter of the kernel's table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct FilterId(u64);

/// How the system calls of a task are restricted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) enum Seccomp {
    #[default]
    Off,
    /// read, write, exit and rt_sigreturn only.
    Strict,
    /// Its filters decide; this one is the newest.
    Filter(FilterId),
}

impl Seccomp {
    /// As prctl(2) and proc(5) tell it.
    pub(crate) fn mode(self) -> u64 {
        match self {
            Seccomp::Off => 0,
            Seccomp::Strict => 1,
            Seccomp::Filter(_) => 2,
        }
    }
}

#[derive(Clone, Debug, Hash)]
struct Filter {
    program: Program,
    older: Option<FilterId>,
    /// Filters of the chain from here on, and their instructions with penalties.
    count: u32,
    insns: usize,
    /// Tasks and newer filters that name it.
    users: u32,
}

/// All filters.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Filters {
    filters: BTreeMap<FilterId, Filter>,
    next: u64,
    insns: usize,
}

impl Filters {
    /// Bytes that all filters take.
    pub(crate) fn held(&self) -> u64 {
        (self.insns * bpf::INSN_SIZE) as u64
    }

    /// Puts a new filter before those of a task; the caller takes it over. `ENOMEM` if there would be too
    /// many instructions.
    fn add(&mut self, program: Program, older: Option<FilterId>) -> Result<FilterId, Errno> {
        let (mut count, mut insns) = (1, program.len());
        if let Some(filter) = older.and_then(|id| self.filters.get(&id)) {
            count += filter.count;
            insns += filter.insns + PENALTY;
        }
        let all = self.insns + program.len() + FILTER_COST;
        if insns > PATH_INSNS_MAX || all > ALL_INSNS_MAX {
            return Err(Errno::ENOMEM);
        }
        self.insns = all;
        let id = FilterId(self.next);
        self.next += 1;
        let filter = Filter {
            program,
            older,
            count,
            insns,
            users: 1,
        };
        self.filters.insert(id, filter);
        Ok(id)
    }

    pub(crate) fn share(&mut self, seccomp: Seccomp) {
        if let Seccomp::Filter(id) = seccomp
            && let Some(filter) = self.filters.get_mut(&id)
        {
            filter.users += 1;
        }
    }

    pub(crate) fn release(&mut self, seccomp: Seccomp) {
        let mut next = match seccomp {
            Seccomp::Filter(id) => Some(id),
            _ => None,
        };
        while let Some(id) = next {
            let Some(filter) = self.filters.get_mut(&id) else {
                return;
            };
            filter.users -= 1;
            if filter.users > 0 {
                return;
            }
            next = filter.older;
            self.insns -= filter.program.len() + FILTER_COST;
            self.filters.remove(&id);
        }
    }

    /// Number of filters that decide about a task.
    pub(crate) fn count(&self, seccomp: Seccomp) -> u32 {
        match seccomp {
            Seccomp::Filter(id) => self.filters.get(&id).map_or(0, |filter| filter.count),
            _ => 0,
        }
    }

    fn chain(&self, newest: FilterId) -> impl Iterator<Item = (FilterId, &Filter)> {
        let mut next = Some(newest);
        core::iter::from_fn(move || {
            let id = next?;
            let filter = self.filters.get(&id)?;
            next = filter.older;
            Some((id, filter))
        })
    }

    /// What the filters return: the least favourable action, of several the newest's.
    fn run(&self, newest: FilterId, data: &Data) -> u32 {
        let action = |value: u32| (value & ACTION) as i32;
        self.chain(newest).fold(ALLOW, |least, (_, filter)| {
            let value = filter.program.run(data);
            match action(value) < action(least) {
                true => value,
                false => least,
            }
        })
    }

    /// Whether users and instructions are counted right; for invariant checks.
    pub(super) fn consistent(&self, tasks: impl Iterator<Item = Seccomp>) -> bool {
        let mut users: BTreeMap<FilterId, u32> = BTreeMap::new();
        let of_tasks = tasks.filter_map(|seccomp| match seccomp {
            Seccomp::Filter(id) => Some(id),
            _ => None,
        });
        for id in of_tasks.chain(self.filters.values().filter_map(|filter| filter.older)) {
            *users.entry(id).or_default() += 1;
        }
        let insns: usize = self
            .filters
            .values()
            .map(|filter| filter.program.len() + FILTER_COST)
            .sum();
        insns == self.insns
            && users.len() == self.filters.len()
            && self
                .filters
                .iter()
                .all(|(id, filter)| users.get(id) == Some(&filter.users))
    }
}

// Actions (linux/seccomp.h).
pub(crate) const KILL_PROCESS: u32 = 0x8000_0000;
pub(crate) const KILL_THREAD: u32 = 0;
pub(crate) const TRAP: u32 = 0x0003_0000;
pub(crate) const ERRNO: u32 = 0x0005_0000;
const USER_NOTIF: u32 = 0x7fc0_0000;
pub(crate) const TRACE: u32 = 0x7ff0_0000;
pub(crate) const LOG: u32 = 0x7ffc_0000;
pub(crate) const ALLOW: u32 = 0x7fff_0000;

/// The part of a filter's value that is the action; the rest is its detail.
const ACTION: u32 = 0xffff_0000;

/// Looks at the system call that the current thread is about to make. `false` if it is not made: registers
/// are set, a signal is forced, or the thread has ended.
pub(crate) fn admit(cx: &mut Cx<'_, '_>) -> bool {
    let regs = cx.task().regs;
    let number = regs.orig_rax as u32;
    let newest = match cx.task().seccomp {
        Seccomp::Off => return true,
        Seccomp::Strict => {
            const ALLOWED: [u32; 4] = [
                g::__NR_read,
                g::__NR_write,
                g::__NR_exit,
                g::__NR_rt_sigreturn,
            ];
            if ALLOWED.contains(&number) {
                return true;
            }
            ending::end_thread(cx.k, cx.p, cx.thread, u32::from(SIGKILL));
            return false;
        }
        Seccomp::Filter(newest) => newest,
    };
    let data = Data {
        number,
        arch: ARCH,
        ip: regs.rip,
        args: regs.args(),
    };
    /// The highest error number (`MAX_ERRNO`).
    const ERRNO_MAX: u32 = 4095;
    const SIGSYS: u8 = g::SIGSYS as u8;
    let value = cx.k.tasks.filters.run(newest, &data);
    let (action, detail) = (value & ACTION, value & 0xffff);
    match action {
        ALLOW | LOG => return true,
        ERRNO => cx.task_mut().regs.rax = i64::from(detail.min(ERRNO_MAX)).wrapping_neg() as u64,
        // Nobody traces, nobody is notified.
        TRACE | USER_NOTIF => cx.task_mut().regs.rax = Errno::ENOSYS.as_result(),
        TRAP => {
            cx.task_mut().regs.rax = regs.orig_rax;
            signal::force(cx, SigInfo::seccomp(SIGSYS, detail, regs.rip, number, ARCH));
        }
        KILL_THREAD if cx.group().threads.len() > 1 => {
            ending::end_thread(cx.k, cx.p, cx.thread, u32::from(SIGSYS));
        }
        _ => {
            let tgid = cx.task().tgid;
            ending::end_group(cx.k, cx.p, tgid, u32::from(SIGSYS));
        }
    }
    false
}

/// Restricts the current thread to the four calls of strict mode. `EINVAL` if it has filters.
pub(crate) fn set_strict(cx: &mut Cx<'_, '_>) -> Result<(), Errno> {
    let seccomp = &mut cx.task_mut().seccomp;
    match seccomp {
        Seccomp::Filter(_) => Err(Errno::EINVAL),
        _ => {
            *seccomp = Seccomp::Strict;
            Ok(())
        }
    }
}

/// Puts a filter before those of the current thread, and with `TSYNC` gives all of them to the other threads
/// of its process.
///
/// # Errors
/// `Ok(tid)` other than 0 names a thread that has filters of its own and cannot follow; nothing was done.
/// `EINVAL` in strict mode, `ENOMEM`.
pub(crate) fn add_filter(
    cx: &mut Cx<'_, '_>,
    program: Program,
    flags: SeccompFlags,
) -> Result<u32, Errno> {
    let thread = cx.thread;
    let older = match cx.task().seccomp {
        Seccomp::Off => None,
        Seccomp::Filter(id) => Some(id),
        Seccomp::Strict => return Err(Errno::EINVAL),
    };
    let tgid = cx.task().tgid;
    let others: Vec<ThreadId> = match flags.contains(SeccompFlags::TSYNC) {
        true => {
            cx.k.tasks
                .thread_ids(tgid)
                .filter(|&id| id != thread)
                .collect()
        }
        false => Vec::new(),
    };
    if let Some(tid) = cannot_follow(&cx.k.tasks, older, &others) {
        return Ok(tid);
    }
    let id = cx.k.tasks.filters.add(program, older)?;
    let new = Seccomp::Filter(id);
    // The new filter has taken the place of the caller's reference to the older one.
    cx.task_mut().seccomp = new;
    let no_new_privs = cx.creds().no_new_privs;
    for other in others {
        cx.k.tasks.filters.share(new);
        let Some(task) = cx.k.tasks.get_mut(other) else {
            continue;
        };
        let old = core::mem::replace(&mut task.seccomp, new);
        if no_new_privs && !task.creds.no_new_privs {
            Arc::make_mut(&mut task.creds).no_new_privs = true;
        }
        cx.k.tasks.filters.release(old);
    }
    Ok(0)
}

/// The first of some threads whose filters are not among these.
fn cannot_follow(tasks: &Tasks, newest: Option<FilterId>, others: &[ThreadId]) -> Option<u32> {
    let others = others.iter().filter_map(|&id| tasks.get(id));
    let mut odd = others.filter(|task| match task.seccomp {
        Seccomp::Off => false,
        Seccomp::Strict => true,
        Seccomp::Filter(own) => {
            let mut chain = newest.into_iter().flat_map(|id| tasks.filters.chain(id));
            !chain.any(|(id, _)| id == own)
        }
    });
    odd.next().map(|task| task.tid)
}
