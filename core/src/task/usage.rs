//! What threads and processes have used, as getrusage(2) tells it.

use super::cputime::{self, CpuTime};
use crate::Kernel;
use crate::abi::PAGE_SIZE;
use crate::abi::layout::{Rusage, Timeval};
use crate::machine::ThreadId;
use crate::mm::space;

/// Counts that only grow. Nothing is read from or written to storage: the sandbox has none. Threads have
/// processors of the host, so nobody takes one away.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Usage {
    pub cpu: CpuTime,
    /// Most pages that were resident at a time.
    pub peak: u64,
    /// Page faults that were resolved.
    pub faults: u64,
    /// How often it waited.
    pub switches: u64,
}

impl Usage {
    /// Adds what others used.
    pub(crate) fn add(&mut self, other: &Usage) {
        self.cpu.add(other.cpu);
        self.peak = self.peak.max(other.peak);
        self.faults = self.faults.saturating_add(other.faults);
        self.switches = self.switches.saturating_add(other.switches);
    }

    /// As programs get it.
    pub(crate) fn rusage(&self) -> Rusage {
        Rusage {
            utime: Timeval::from_nanos(self.cpu.user),
            stime: Timeval::from_nanos(self.cpu.system),
            maxrss: (self.peak * PAGE_SIZE / 1024) as i64,
            ixrss: 0,
            idrss: 0,
            isrss: 0,
            minflt: self.faults as i64,
            majflt: 0,
            nswap: 0,
            inblock: 0,
            oublock: 0,
            msgsnd: 0,
            msgrcv: 0,
            nsignals: 0,
            nvcsw: self.switches as i64,
            nivcsw: 0,
        }
    }
}

/// What a thread has used; the memory is that of its process.
pub(crate) fn of_thread(k: &Kernel, thread: ThreadId) -> Usage {
    let Some(task) = k.tasks.get(thread) else {
        return Usage::default();
    };
    Usage {
        cpu: cputime::of_thread(k, thread),
        peak: peak(k, task.tgid),
        faults: task.faults,
        switches: task.switches,
    }
}

/// What the threads of a process have used, ended ones included.
pub(crate) fn of_process(k: &Kernel, tgid: u32) -> Usage {
    let Some(group) = k.tasks.group(tgid) else {
        return Usage::default();
    };
    let mut usage = group.ended;
    for task in k.tasks.thread_ids(tgid).filter_map(|id| k.tasks.get(id)) {
        usage.faults = usage.faults.saturating_add(task.faults);
        usage.switches = usage.switches.saturating_add(task.switches);
    }
    usage.cpu = cputime::of_process(k, tgid);
    usage.peak = peak(k, tgid);
    usage
}

/// What the children of a process that were waited for have used, with their own.
pub(crate) fn of_children(k: &Kernel, tgid: u32) -> Usage {
    let group = k.tasks.group(tgid);
    group.map_or(Usage::default(), |group| group.children_usage)
}

/// Most pages that any memory of a process has had.
fn peak(k: &Kernel, tgid: u32) -> u64 {
    let before = k.tasks.group(tgid).map_or(0, |group| group.ended.peak);
    let live = k.tasks.thread_ids(tgid).next();
    let task = live.and_then(|id| k.tasks.get(id));
    let now = task.map_or(0, |task| space::usage_peak(k, task.space));
    before.max(now)
}

/// A thread leaves its memory for good: its process keeps the peak of that.
pub(super) fn leaves_space(k: &mut Kernel, thread: ThreadId) {
    let Some(task) = k.tasks.get(thread) else {
        return;
    };
    let (tgid, pages) = (task.tgid, space::usage_peak(k, task.space));
    if let Some(group) = k.tasks.group_mut(tgid) {
        group.ended.peak = group.ended.peak.max(pages);
    }
}
