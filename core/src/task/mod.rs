//! Tasks, thread groups, credentials, signals, programs.
//!
//! A `Task` is one guest thread; a `Process` is a thread group. Tasks name what they share with others by
//! id: the address space, the descriptor table, the file system context, the signal handlers. An ended thread
//! is gone at once, except the leader of a group: its task stays, marked `exited`, until the group has been
//! waited for.

pub(crate) mod barrier;
pub(crate) mod boot;
pub(crate) mod call;
pub(crate) mod check;
mod children;
pub(crate) mod clone;
pub(crate) mod cputime;
pub(crate) mod creds;
mod elf;
pub(crate) mod ending;
pub(crate) mod exec;
pub(crate) mod futex;
mod index;
mod init;
pub(crate) mod io;
pub(crate) mod load;
pub(crate) mod look;
pub(crate) mod orphans;
pub(crate) mod personality;
mod pidfd;
pub(crate) mod posix_timer;
pub(crate) mod process;
pub(crate) mod sched;
pub(crate) mod seccomp;
pub(crate) mod sigio;
pub(crate) mod signal;
mod signalfd;
pub(crate) mod timer;
pub(crate) mod trace;
pub(crate) mod usage;
pub(crate) mod wait;

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;

use call::Call;
pub(crate) use process::Process;
use signal::{Actions, AltStack, Fault, Pending};

use crate::Kernel;
use crate::abi::Errno;
use crate::cred::Creds;
use crate::env::bounds::THREADS_MAX;
pub(crate) use crate::env::bounds::{INIT, PID_MAX};
use crate::env::timers::CpuClock;
use crate::env::wait::Restart;
use crate::file::{FdTableId, FsContextId};
use crate::machine::{Regs, SpaceId, ThreadId};

/// Numbers below are not given out again once the highest number was reached.
const RESERVED_PIDS: u32 = 300;

/// A set of signal handlers; shared by processes with `CLONE_SIGHAND`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct SighandId(pub u32);

/// A task: one guest thread and what belongs to it alone. What it shares with others it names by id.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Task {
    pub id: ThreadId,
    /// Linux thread number.
    pub tid: u32,
    /// Thread group: the Linux process number.
    pub tgid: u32,
    pub regs: Regs,
    pub space: SpaceId,
    pub files: FdTableId,
    pub fs: FsContextId,
    pub creds: Arc<Creds>,
    /// Number of the change that gave it these credentials; threads that were made with them have the same.
    pub committed: u64,
    /// Namespaces it is in.
    pub ns: crate::cred::ns::Set,
    /// `comm` of prctl(2), without the NUL.
    pub comm: [u8; 15],
    pub nice: i8,
    pub sched: sched::Scheduling,
    /// What it is told of the system, and how programs are placed (personality(2)).
    pub personality: u32,
    /// The host runs it now; its registers here are old.
    pub running: bool,
    /// An interruption of it is under way.
    pub interrupting: bool,
    /// In the ready queue.
    pub ready: bool,
    /// Stopped by a signal (job control).
    pub stopped: bool,
    /// Ended; only its status is left. Its space, files and file system context are no longer its own.
    pub exited: bool,
    /// It has begun to end, with this status.
    pub ending: Option<u32>,
    /// The host does not know it yet: its first resume is a start.
    pub fresh: bool,
    /// The system call it is in.
    pub call: Option<Call>,
    /// A call that a signal took it out of, until the signal is delivered.
    pub interrupted: Option<(Call, Restart)>,
    /// Blocked signals, bit `n - 1` for signal `n`.
    pub blocked: u64,
    /// The signal mask that the next signal frame brings back, or that is set again when no handler is run.
    pub saved_mask: Option<u64>,
    /// Signals sent to this thread alone.
    pub pending: Pending,
    pub altstack: AltStack,
    /// The last fault or exception, as signal frames show it.
    pub fault: Fault,
    /// Where to store 0 and wake a futex when the thread ends (set_tid_address(2)).
    pub clear_child_tid: u64,
    /// Head of the robust futex list (set_robust_list(2)).
    pub robust_list: u64,
    /// Somebody has waited for a futex word that it owned (`FUTEX_LOCK_PI`).
    pub owns_futexes: bool,
    /// The thread that waits in vfork(2) until this one executes a program or ends.
    pub vfork_parent: Option<ThreadId>,
    /// Signal it gets when its parent thread ends (`PR_SET_PDEATHSIG`), 0 for none.
    pub death_signal: u8,
    /// Where its memory should come from (set_mempolicy(2)).
    pub policy: crate::mm::vma::Policy,
    /// How late its timers may be, in nanoseconds, and what 0 sets that to (`PR_SET_TIMERSLACK`). Kept and
    /// shown: timers are exact.
    pub timer_slack: u64,
    pub default_timer_slack: u64,
    pub seccomp: seccomp::Seccomp,
    /// `PR_MCE_KILL_` policy.
    pub mce_kill: u8,
    /// How long it ran, until the last trap.
    pub cpu_time: cputime::CpuTime,
    /// `CLOCK_MONOTONIC` time of the last resume.
    pub resumed: u64,
    /// Nanoseconds of the run since then that are the kernel's.
    pub crossing: u64,
    /// Page faults of it that were resolved.
    pub faults: u64,
    /// What it read and wrote.
    pub io: io::Io,
    /// How often it waited.
    pub switches: u64,
    /// The clock and its time that it sleeps until in clock_nanosleep(2), or slept until last.
    pub cpu_sleep: Option<(CpuClock, u64)>,
}

/// All tasks and thread groups.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Tasks {
    tasks: BTreeMap<ThreadId, Task>,
    groups: BTreeMap<u32, Process>,
    by_tid: BTreeMap<u32, ThreadId>,
    index: index::Index,
    sighands: BTreeMap<SighandId, Sighand>,
    endings: ending::Endings,
    /// Clocks of processor time with timers on them.
    cpu_timers: BTreeMap<CpuClock, cputime::CpuTimers>,
    filters: seccomp::Filters,
    /// Who pays for signals that wait, and for timers.
    paid: signal::Paid,
    /// The supplementary groups of all tasks.
    group_lists: crate::cred::groups::Held,
    /// Number of the last change of credentials.
    commits: u64,
    next_thread: u32,
    next_sighand: u32,
    last_tid: u32,
    /// Most tasks there may be (`/proc/sys/kernel/threads-max`), zombies included.
    pub max: usize,
    /// For how many the host has room.
    room: usize,
    /// Thread numbers have been given out up to the highest: free ones must be searched for.
    wrapped: bool,
}

#[derive(Clone, Debug, Hash)]
struct Sighand {
    users: u32,
    actions: Box<Actions>,
}

impl Tasks {
    pub(crate) fn new(max: u32) -> Tasks {
        Tasks {
            tasks: BTreeMap::new(),
            groups: BTreeMap::new(),
            by_tid: BTreeMap::new(),
            index: index::Index::default(),
            sighands: BTreeMap::new(),
            endings: ending::Endings::default(),
            cpu_timers: BTreeMap::new(),
            filters: seccomp::Filters::default(),
            paid: signal::Paid::default(),
            group_lists: crate::cred::groups::Held::default(),
            commits: 0,
            next_thread: 0,
            next_sighand: 0,
            last_tid: 0,
            max: THREADS_MAX.min(max.max(1) as usize),
            room: THREADS_MAX.min(max.max(1) as usize),
            wrapped: false,
        }
    }

    pub(crate) fn get(&self, id: ThreadId) -> Option<&Task> {
        self.tasks.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: ThreadId) -> Option<&mut Task> {
        self.tasks.get_mut(&id)
    }

    /// The thread with a Linux thread number, also an ended leader.
    pub(crate) fn by_tid(&self, tid: u32) -> Option<ThreadId> {
        self.by_tid.get(&tid).copied()
    }

    /// A thread group by its process number, also a zombie.
    pub(crate) fn group(&self, tgid: u32) -> Option<&Process> {
        self.groups.get(&tgid)
    }

    pub(crate) fn group_mut(&mut self, tgid: u32) -> Option<&mut Process> {
        self.groups.get_mut(&tgid)
    }

    pub(crate) fn group_exists(&self, tgid: u32) -> bool {
        self.groups.contains_key(&tgid)
    }

    /// How many processes there are, zombies included.
    pub(crate) fn group_count(&self) -> usize {
        self.groups.len()
    }

    /// The numbers of the processes from one on, ascending, zombies included.
    pub(crate) fn groups_from(&self, first: u32) -> impl Iterator<Item = u32> + '_ {
        self.groups.range(first..).map(|(&tgid, _)| tgid)
    }

    /// The numbers of all processes, ascending, zombies included.
    pub(crate) fn groups(&self) -> impl Iterator<Item = u32> + '_ {
        self.groups.keys().copied()
    }

    /// The thread numbers of a group's threads that have not ended, ascending.
    pub(crate) fn threads(&self, tgid: u32) -> impl Iterator<Item = u32> + '_ {
        self.group(tgid)
            .into_iter()
            .flat_map(|group| group.threads.keys().copied())
    }

    /// Number of threads of a group, with a leader that has ended and waits for the others or to be waited
    /// for.
    pub(crate) fn thread_count(&self, tgid: u32) -> usize {
        let Some(group) = self.group(tgid) else {
            return 0;
        };
        group.threads.len() + usize::from(!group.threads.contains_key(&tgid))
    }

    /// The threads of a group that have not ended, by thread number.
    pub(crate) fn thread_ids(&self, tgid: u32) -> impl Iterator<Item = ThreadId> + '_ {
        self.group(tgid)
            .into_iter()
            .flat_map(|group| group.threads.values().copied())
    }

    /// The leader's task of a group; also of a zombie.
    pub(crate) fn leader(&self, tgid: u32) -> Option<&Task> {
        self.get(self.group(tgid)?.leader)
    }

    /// The thread number given out last.
    pub(crate) fn last_tid(&self) -> u32 {
        self.last_tid
    }

    /// What the kernel holds for tasks, by kind, in bytes.
    #[inline]
    pub(crate) fn held(&self) -> [(&'static str, u64); 4] {
        /// A task with its kernel stack on the host, as Linux has it.
        const TASK_COST: u64 = 16 << 10;
        [
            ("tasks", self.tasks.len() as u64 * TASK_COST),
            ("supplementary groups", self.group_lists.bytes()),
            ("waiting signals and timers", self.paid.held()),
            ("seccomp filters", self.filters.held()),
        ]
    }

    /// Number of tasks, zombies included.
    pub(crate) fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Soft and hard limit of a process (getrlimit(2)); `None` if there is no such process or resource.
    pub(crate) fn rlimit(&self, tgid: u32, resource: u32) -> Option<(u64, u64)> {
        self.group(tgid)?.rlimits.get(resource as usize).copied()
    }

    /// Sets soft and hard limit; the caller has checked that it may.
    pub(crate) fn set_rlimit(&mut self, tgid: u32, resource: u32, limit: (u64, u64)) {
        if let Some(slot) = self
            .group_mut(tgid)
            .and_then(|group| group.rlimits.get_mut(resource as usize))
        {
            *slot = limit;
        }
    }

    /// Number of seccomp(2) filters that decide about a task's calls.
    pub(crate) fn filter_count(&self, task: &Task) -> u32 {
        self.filters.count(task.seccomp)
    }

    /// All tasks, in the order they were made, zombies' leaders included.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Task> + '_ {
        self.tasks.values()
    }

    /// Adds a task under a new thread ([`Kernel::insert_task`]).
    fn insert(&mut self, task: Task) {
        self.group_lists.add(&task.creds.groups);
        self.by_tid.insert(task.tid, task.id);
        self.index.add_task(&task);
        self.tasks.insert(task.id, task);
    }

    /// Takes a task away ([`Kernel::remove_task`]).
    #[must_use = "its domain of landlock(7) has one user less"]
    fn remove(&mut self, id: ThreadId) -> Option<Task> {
        let task = self.tasks.remove(&id)?;
        self.index.remove_task(&task);
        self.group_lists.remove(&task.creds.groups);
        Some(task)
    }

    /// The credentials of a task have been replaced by equal ones (`commit_creds()`).
    pub(crate) fn renew(&mut self, id: ThreadId) {
        let number = self.next_commit();
        if let Some(task) = self.tasks.get_mut(&id) {
            task.committed = number;
        }
    }

    /// The number of a change of credentials.
    pub(crate) fn next_commit(&mut self) -> u64 {
        self.commits += 1;
        self.commits
    }

    fn new_thread(&mut self) -> ThreadId {
        let id = ThreadId(self.next_thread);
        self.next_thread += 1;
        id
    }

    /// Sets how many tasks there may be, as far as the host has room for them.
    pub(crate) fn set_most(&mut self, most: usize) {
        self.max = self.room.min(most);
    }

    /// A free thread number below `end`, ascending and starting again at [`RESERVED_PIDS`] after the highest.
    /// `EAGAIN`.
    fn new_tid(&mut self, end: u32) -> Result<u32, Errno> {
        if self.tasks.len() >= self.max {
            return Err(Errno::EAGAIN);
        }
        // At most one number for each task, group and session is taken.
        for _ in 0..(3 * THREADS_MAX + 1).min(end as usize) {
            self.last_tid += 1;
            if self.last_tid >= end {
                self.last_tid = RESERVED_PIDS;
                self.wrapped = true;
            }
            let tid = self.last_tid;
            let taken = self.wrapped && (self.by_tid.contains_key(&tid) || self.names_group(tid));
            if !taken {
                return Ok(tid);
            }
        }
        Err(Errno::EAGAIN)
    }

    /// The signal handlers of a process.
    pub(crate) fn actions(&self, tgid: u32) -> Option<&Actions> {
        let id = self.group(tgid)?.sighand;
        self.sighands.get(&id).map(|sighand| &*sighand.actions)
    }

    pub(crate) fn actions_mut(&mut self, tgid: u32) -> Option<&mut Actions> {
        let id = self.group(tgid)?.sighand;
        self.sighands
            .get_mut(&id)
            .map(|sighand| &mut *sighand.actions)
    }

    fn new_sighand(&mut self, actions: Actions) -> SighandId {
        let id = SighandId(self.next_sighand);
        self.next_sighand += 1;
        let actions = Box::new(actions);
        self.sighands.insert(id, Sighand { users: 1, actions });
        id
    }

    fn share_sighand(&mut self, id: SighandId) -> SighandId {
        if let Some(sighand) = self.sighands.get_mut(&id) {
            sighand.users += 1;
        }
        id
    }

    fn release_sighand(&mut self, id: SighandId) {
        if let Some(sighand) = self.sighands.get_mut(&id) {
            sighand.users -= 1;
            if sighand.users == 0 {
                self.sighands.remove(&id);
            }
        }
    }
}

/// What a system call handler works with: the kernel, the ports, and who is calling.
pub(crate) type Cx<'a, 'p> = crate::env::cx::Cx<'a, 'p, Kernel>;

impl Cx<'_, '_> {
    /// The current thread group.
    pub(crate) fn group(&self) -> &Process {
        self.k
            .tasks
            .group(self.task().tgid)
            .expect("a live task has a group") // INVARIANT: a group outlives its tasks
    }

    pub(crate) fn group_mut(&mut self) -> &mut Process {
        let tgid = self.task().tgid;
        self.k
            .tasks
            .group_mut(tgid)
            .expect("a live task has a group") // INVARIANT: a group outlives its tasks
    }
}

impl Kernel {
    /// Adds a task under a new thread; the caller adds it to its group.
    fn insert_task(&mut self, task: Task) {
        self.landlock.add(&task.creds);
        self.tasks.insert(task);
    }

    /// Takes a task away.
    fn remove_task(&mut self, id: ThreadId) {
        if let Some(task) = self.tasks.remove(id) {
            self.landlock.remove(&task.creds);
        }
    }

    /// Replaces the credentials of a task.
    pub(crate) fn set_creds(&mut self, id: ThreadId, creds: Creds) {
        self.landlock.add(&creds);
        if let Some(old) = self.tasks.set_creds(id, Arc::new(creds)) {
            self.landlock.remove(&old);
        }
    }
}
