//! Page operations of an address space, queued in order until one of its threads is about to run.
//!
//! Nothing runs in a space whose operations are not all in force. What cannot be put in force is never
//! dropped quietly: where the host has no room for another area, all that is queued is void, and the core has
//! to take every page away (which always can be done) and begin anew.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use varve_core::abi::TASK_SIZE;
use varve_core::machine::{Backing, Prot};
use varve_host::{Backings, Grace, Hold};

use crate::areas::{Areas, follows};
use crate::process::Process;
use crate::stub::Call;

/// A change of an address space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Operation {
    Map {
        addr: u64,
        len: u64,
        backing: Backing,
        prot: Prot,
    },
    Unmap {
        addr: u64,
        len: u64,
    },
    Protect {
        addr: u64,
        len: u64,
        prot: Prot,
    },
}

/// Areas that the host keeps back in each process: the stub pages, and what a single operation needs for a
/// moment.
const AREAS_SPARE: usize = 64;
/// Most areas of all spaces together, so that neither they nor what is noted of them here fill the host's
/// memory.
const AREAS_TOTAL: usize = 4 << 16;
/// A space may always have so many.
pub(crate) const AREAS_LEAST: usize = 1024;
/// What the host has where it does not say (`vm.max_map_count`).
const AREAS_USUAL: usize = 65530;

/// How many areas there are in all spaces, and how many there may be.
pub(crate) struct Limit {
    /// In one space.
    most: usize,
    /// In all.
    total: usize,
    used: AtomicUsize,
}

impl Limit {
    /// What the host allows.
    pub(crate) fn of_host() -> Limit {
        let setting = std::fs::read_to_string("/proc/sys/vm/max_map_count").ok();
        let setting = setting.and_then(|text| text.trim().parse().ok());
        let most: usize = setting.unwrap_or(AREAS_USUAL);
        Limit {
            most: most.saturating_sub(AREAS_SPARE).max(1),
            total: AREAS_TOTAL,
            used: AtomicUsize::new(0),
        }
    }

    /// Counts `new` instead of `old` areas of one space; whether they are too many.
    fn count(&self, old: usize, new: usize) -> bool {
        let used = match new >= old {
            true => self.used.fetch_add(new - old, Ordering::Relaxed) + (new - old),
            false => self.used.fetch_sub(old - new, Ordering::Relaxed) - (old - new),
        };
        new > self.most || used > self.total && new > AREAS_LEAST.min(self.most)
    }
}

/// Whether a space can be run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// As soon as its operations are in force.
    Sound,
    /// When all its pages have been taken away.
    Crowded,
    /// Never again: it was dropped, or the host refused an operation for which there is room.
    Gone,
}

/// Whether a thread may run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Begin {
    /// It is noted as running.
    Run,
    /// Operations come first.
    Flush,
}

/// Why page operations were not all carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Failure {
    /// The host may have had no room for another mapping.
    NoRoom,
    /// The process that made them was killed meanwhile.
    Killed,
    /// The host has refused one.
    Refused,
}

/// What the threads of an address space share.
pub(crate) struct Space {
    inner: Mutex<Inner>,
    grace: Arc<Grace>,
    limit: Arc<Limit>,
    /// Held while a thread carries out page operations: they share one page of calls.
    pub flushing: Mutex<()>,
    /// Threads that are in it on the host.
    pub threads: AtomicUsize,
}

struct Inner {
    state: State,
    operations: Vec<Operation>,
    /// A thread has taken operations and not yet carried them all out.
    under_way: bool,
    areas: Areas,
    /// Processes that were made for new threads, waiting to be traced by the threads' workers. There may be
    /// several: a worker takes its time to start, and the parent makes more threads meanwhile.
    siblings: Vec<Arc<Process>>,
    /// The page of calls that its processes have mapped.
    slot: Option<u32>,
    running: Vec<Running>,
}

/// A process that runs guest code, to be stopped when another thread changes pages.
struct Running {
    process: Arc<Process>,
    /// It may not have noticed what has happened since it began to run.
    hold: Option<Hold>,
}

impl Drop for Space {
    /// Threads that ended before their workers started leave processes that nobody traces: they would outlive
    /// the sandbox.
    fn drop(&mut self) {
        let inner = self.inner.get_mut().unwrap_or_else(PoisonError::into_inner);
        for process in &inner.siblings {
            process.kill();
            crate::tracee::reap(process.pid);
        }
        self.limit.count(inner.areas.len(), 0);
    }
}

impl Inner {
    fn push(&mut self, operation: Operation) {
        if let Some(last) = self.operations.last_mut()
            && merge(last, &operation)
        {
            return;
        }
        self.operations.push(operation);
    }

    /// Nobody who runs now may have noticed what happens: they are held, and told to stop.
    fn stop_running(&mut self, grace: &Arc<Grace>) {
        for running in &mut self.running {
            if running.hold.is_none() {
                running.hold = Some(grace.hold());
                running.process.kick();
            }
        }
    }

    /// Nothing of what is queued counts any more.
    fn refuse(&mut self, state: State) {
        if self.state != State::Gone {
            self.state = state;
        }
        self.operations.clear();
    }
}

impl Space {
    pub(crate) fn new(grace: Arc<Grace>, limit: Arc<Limit>) -> Space {
        Space {
            inner: Mutex::new(Inner {
                state: State::Sound,
                operations: Vec::new(),
                under_way: false,
                areas: Areas::default(),
                siblings: Vec::new(),
                slot: None,
                running: Vec::new(),
            }),
            grace,
            limit,
            flushing: Mutex::new(()),
            threads: AtomicUsize::new(0),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Every change of it is whole before anything that could panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn queue(&self, operation: Operation) {
        let inner = &mut *self.inner();
        inner.stop_running(&self.grace);
        let everything = Operation::Unmap {
            addr: 0,
            len: TASK_SIZE,
        };
        if operation == everything && inner.state == State::Crowded {
            inner.state = State::Sound;
        }
        if inner.state != State::Sound {
            return;
        }
        let before = inner.areas.len();
        match operation {
            _ if operation == everything => {
                inner.operations.clear();
                inner.operations.push(operation);
                inner.areas.clear();
            }
            Operation::Map {
                addr,
                len,
                backing,
                prot,
            } => {
                inner.areas.map(addr, addr + len, backing, prot);
                inner.push(operation);
            }
            Operation::Unmap { addr, len } => {
                inner.areas.unmap(addr, addr + len);
                inner.push(operation);
            }
            Operation::Protect { addr, len, prot } => {
                // mprotect(2) stops at the first hole, so it is asked for what is mapped only.
                for (addr, end) in inner.areas.protect(addr, addr + len, prot) {
                    let len = end - addr;
                    inner.push(Operation::Protect { addr, len, prot });
                }
            }
        }
        if self.limit.count(before, inner.areas.len()) {
            inner.refuse(State::Crowded);
        }
    }

    /// The kernel has dropped it: nothing runs in it any more, and those who still do are held.
    pub(crate) fn drop_all(&self) {
        let inner = &mut *self.inner();
        inner.stop_running(&self.grace);
        inner.refuse(State::Gone);
        self.limit.count(inner.areas.len(), 0);
        inner.areas.clear();
    }

    pub(crate) fn state(&self) -> State {
        self.inner().state
    }

    /// Takes what is queued. The caller holds `flushing` and says [`done`](Self::done) when it has carried it
    /// out.
    pub(crate) fn take(&self) -> Vec<Operation> {
        let mut inner = self.inner();
        inner.under_way = true;
        std::mem::take(&mut inner.operations)
    }

    /// What was taken is in force; or it is not, and never will be.
    pub(crate) fn done(&self, carried_out: Result<(), Failure>) {
        let mut inner = self.inner();
        inner.under_way = false;
        match carried_out {
            Ok(()) => {}
            // With few areas there is no point in beginning anew.
            Err(Failure::NoRoom) if inner.areas.len() >= AREAS_LEAST => {
                inner.refuse(State::Crowded);
            }
            // Nobody knows which of them were made: those who share the space begin anew.
            Err(Failure::Killed) => inner.refuse(State::Crowded),
            Err(_) => inner.refuse(State::Gone),
        }
    }

    /// Whether every operation has been carried out, also those that another thread has taken.
    pub(crate) fn is_clean(&self) -> bool {
        let inner = self.inner();
        inner.state == State::Sound && inner.operations.is_empty() && !inner.under_way
    }

    /// Notes that a process of the space runs from now on, unless something is queued or under way.
    pub(crate) fn begin_run(&self, process: &Arc<Process>) -> Begin {
        let mut inner = self.inner();
        if inner.state != State::Sound || !inner.operations.is_empty() || inner.under_way {
            return Begin::Flush;
        }
        let process = process.clone();
        inner.running.push(Running {
            process,
            hold: None,
        });
        Begin::Run
    }

    /// It has been seen stopped.
    pub(crate) fn end_run(&self, process: &Arc<Process>) {
        let running = &mut self.inner().running;
        running.retain(|other| !Arc::ptr_eq(&other.process, process));
    }

    pub(crate) fn put_sibling(&self, process: Arc<Process>) {
        self.inner().siblings.push(process);
    }

    pub(crate) fn take_sibling(&self) -> Option<Arc<Process>> {
        self.inner().siblings.pop()
    }

    pub(crate) fn slot(&self) -> Option<u32> {
        self.inner().slot
    }

    pub(crate) fn set_slot(&self, slot: Option<u32>) {
        self.inner().slot = slot;
    }

    pub(crate) fn thread_count(&self) -> usize {
        self.threads.load(Ordering::SeqCst)
    }
}

/// Joins an operation to the one before it if they are one.
fn merge(last: &mut Operation, next: &Operation) -> bool {
    match (last, next) {
        (
            Operation::Map {
                addr,
                len,
                backing,
                prot,
            },
            Operation::Map {
                addr: addr2,
                len: len2,
                backing: backing2,
                prot: prot2,
            },
        ) if *addr + *len == *addr2 && prot == prot2 && follows(*backing, *len, *backing2) => {
            *len += len2;
            true
        }
        (
            Operation::Unmap { addr, len },
            Operation::Unmap {
                addr: addr2,
                len: len2,
            },
        ) if *addr + *len == *addr2 => {
            *len += len2;
            true
        }
        (
            Operation::Protect { addr, len, prot },
            Operation::Protect {
                addr: addr2,
                len: len2,
                prot: prot2,
            },
        ) if *addr + *len == *addr2 && prot == prot2 => {
            *len += len2;
            true
        }
        _ => false,
    }
}

impl Operation {
    /// The system calls of the traced process that carry it out.
    ///
    /// # Panics
    /// If it leaves the guest's part of the address space: the core never asks for that.
    pub(crate) fn calls(self, backings: &Backings, calls: &mut Vec<Call>) {
        use std::os::fd::AsRawFd;
        let (addr, len) = match self {
            Operation::Map { addr, len, .. }
            | Operation::Unmap { addr, len }
            | Operation::Protect { addr, len, .. } => (addr, len),
        };
        assert!(
            addr.checked_add(len).is_some_and(|end| end <= TASK_SIZE),
            "{self:?} leaves guest addresses"
        );
        match self {
            Operation::Map { backing, prot, .. } => {
                // INVARIANT: the core maps images that it was given.
                let (fd, offset) = backings.file(backing).expect("it names an image");
                let flags = libc::MAP_SHARED | libc::MAP_FIXED | libc::MAP_NORESERVE;
                calls.push(Call {
                    number: libc::SYS_mmap as u64,
                    args: [
                        addr,
                        len,
                        u64::from(prot.bits()),
                        flags as u64,
                        fd.as_raw_fd() as u64,
                        offset,
                    ],
                });
            }
            Operation::Unmap { .. } => {
                calls.push(Call {
                    number: libc::SYS_munmap as u64,
                    args: [addr, len, 0, 0, 0, 0],
                });
            }
            Operation::Protect { prot, .. } => calls.push(Call {
                number: libc::SYS_mprotect as u64,
                args: [addr, len, u64::from(prot.bits()), 0, 0, 0],
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use varve_core::abi::PAGE_SIZE;
    use varve_core::machine::FrameNo;

    fn space(most: usize) -> Space {
        let limit = Limit {
            most,
            total: usize::MAX,
            used: AtomicUsize::new(0),
        };
        Space::new(Arc::default(), Arc::new(limit))
    }

    /// A process that can be signalled.
    fn bystander() -> (std::process::Child, Arc<Process>) {
        let child = std::process::Command::new("sleep").arg("60").spawn();
        let child = child.expect("sleep(1) is there");
        let process = Process::new(child.id() as i32).unwrap();
        (child, Arc::new(process))
    }

    fn map(page: u64, frame: u64) -> Operation {
        Operation::Map {
            addr: page * PAGE_SIZE,
            len: PAGE_SIZE,
            backing: Backing::Memory(FrameNo(frame as u32)),
            prot: Prot::READ,
        }
    }

    const EVERYTHING: Operation = Operation::Unmap {
        addr: 0,
        len: TASK_SIZE,
    };

    /// A thread whose operation another one has taken must not run before it is carried out.
    #[test]
    fn nobody_runs_while_operations_are_under_way() {
        let (mut child, process) = bystander();
        let space = space(10);
        space.queue(Operation::Unmap { addr: 0, len: 4096 });
        assert!(!space.is_clean() && space.begin_run(&process) == Begin::Flush);
        assert_eq!(space.take().len(), 1);
        assert!(!space.is_clean() && space.begin_run(&process) == Begin::Flush);
        space.done(Ok(()));
        assert!(space.is_clean() && space.begin_run(&process) == Begin::Run);
        space.end_run(&process);
        process.kill();
        child.wait().unwrap();
        // Its number may be another's now.
        process.kick();
    }

    /// What a thread that runs could overlook is not in force before it has been seen stopped, be it a page
    /// or the whole space.
    #[test]
    fn who_runs_holds_what_happens() {
        let (mut child, process) = bystander();
        let space = space(10);
        let flushed = || space.grace.flushed();
        space.grace.begin(1);
        assert_eq!(space.begin_run(&process), Begin::Run);
        assert_eq!(flushed(), 2);
        space.queue(map(1, 1));
        space.grace.begin(2);
        space.queue(map(2, 1));
        assert_eq!(flushed(), 1);
        assert!(!child.wait().unwrap().success(), "it was told to stop");
        space.end_run(&process);
        assert_eq!(flushed(), 3);
        space.take();
        space.done(Ok(()));
        assert_eq!(space.begin_run(&process), Begin::Run);
        space.grace.begin(3);
        space.drop_all();
        assert_eq!(flushed(), 3);
        space.end_run(&process);
        assert_eq!(flushed(), 4);
        assert_eq!(space.begin_run(&process), Begin::Flush);
        assert_eq!(space.state(), State::Gone);
    }

    /// Past the host's limit nothing is carried out, and nobody runs until all pages have been taken away.
    #[test]
    fn a_crowded_space_is_emptied_first() {
        let (mut child, process) = bystander();
        let space = space(3);
        for page in [1, 3, 5] {
            space.queue(map(page, page));
        }
        assert_eq!(space.state(), State::Sound);
        // Joins two.
        space.queue(map(4, 4));
        assert_eq!(space.state(), State::Sound);
        space.queue(map(7, 7));
        space.queue(map(9, 7));
        assert_eq!(space.state(), State::Crowded);
        assert!(space.take().is_empty());
        space.done(Ok(()));
        space.queue(Operation::Unmap {
            addr: 0,
            len: 1 << 30,
        });
        assert_eq!(space.begin_run(&process), Begin::Flush);
        space.queue(EVERYTHING);
        space.queue(map(7, 7));
        assert_eq!(space.take(), [EVERYTHING, map(7, 7)]);
        assert_eq!(space.begin_run(&process), Begin::Flush);
        space.done(Ok(()));
        assert_eq!(space.begin_run(&process), Begin::Run);
        space.end_run(&process);
        process.kill();
        child.wait().unwrap();
    }

    /// Where there are so few areas that it cannot be for their number, an operation that the host refuses
    /// ends the space.
    #[test]
    fn what_the_host_refuses_is_not_dropped() {
        let space = space(1 << 20);
        for page in 0..AREAS_LEAST as u64 + 1 {
            space.queue(map(2 * page + 2, 1));
        }
        space.take();
        space.queue(map(1, 1));
        space.done(Err(Failure::NoRoom));
        assert!(space.state() == State::Crowded && space.take().is_empty());
        space.queue(EVERYTHING);
        space.queue(map(1, 1));
        assert_eq!(space.take().len(), 2);
        space.done(Err(Failure::NoRoom));
        assert_eq!(space.state(), State::Gone);
        space.queue(EVERYTHING);
        assert_eq!(space.state(), State::Gone);
    }

    /// Whoever carried operations out was killed: the others begin anew, unless the space is gone.
    #[test]
    fn what_a_killed_thread_has_begun_is_begun_anew() {
        let space = space(1 << 20);
        space.queue(map(1, 1));
        space.take();
        space.done(Err(Failure::Killed));
        assert!(space.state() == State::Crowded && space.take().is_empty());
        space.queue(EVERYTHING);
        space.queue(map(1, 1));
        assert_eq!(space.state(), State::Sound);
        assert_eq!(space.take().len(), 2);
        space.done(Err(Failure::Refused));
        assert_eq!(space.state(), State::Gone);
        space.done(Err(Failure::Killed));
        assert_eq!(space.state(), State::Gone);
    }

    #[test]
    fn all_spaces_together_have_a_limit() {
        let limit = Arc::new(Limit {
            most: 10 * AREAS_LEAST,
            total: 3 * AREAS_LEAST,
            used: AtomicUsize::new(0),
        });
        let fill = |space: &Space, count: usize| {
            for page in 0..count as u64 {
                space.queue(map(2 * page, 1));
            }
            space.state()
        };
        let new = || Space::new(Arc::default(), limit.clone());
        let (large, small) = (new(), new());
        assert_eq!(fill(&large, 3 * AREAS_LEAST), State::Sound);
        assert_eq!(fill(&small, AREAS_LEAST), State::Sound);
        assert_eq!(fill(&small, AREAS_LEAST + 1), State::Crowded);
        large.drop_all();
        small.queue(EVERYTHING);
        assert_eq!(fill(&small, AREAS_LEAST + 1), State::Sound);
        drop((large, small));
        assert_eq!(limit.used.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn neighbouring_maps_become_one() {
        let space = space(10);
        for page in [1, 2, 4] {
            space.queue(map(page, page + 7));
        }
        assert_eq!(space.take().len(), 2);
        space.done(Ok(()));
        space.queue(Operation::Protect {
            addr: 0,
            len: 1 << 20,
            prot: Prot::empty(),
        });
        assert_eq!(space.take().len(), 2);
    }
}
