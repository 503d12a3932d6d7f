//! Page operations of an address space, queued in order until one of its threads is about to run.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use libc::pid_t;
use varve_core::abi::TASK_SIZE;
use varve_core::machine::{Backing, Prot};
use varve_host::Backings;

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

/// What the threads of an address space share.
pub(crate) struct Space {
    inner: Mutex<Inner>,
    /// Held while a thread carries out page operations: they share one page of calls.
    pub flushing: Mutex<()>,
    /// Threads that are in it on the host.
    pub threads: AtomicUsize,
    /// The kernel has dropped it: what is still under way for it need not be done.
    pub dropped: AtomicBool,
}

#[derive(Default)]
struct Inner {
    operations: Vec<Operation>,
    /// A thread has taken operations and not yet carried them all out.
    under_way: bool,
    mapped: Ranges,
    /// Processes that were made for new threads, waiting to be traced by the threads' workers. There may be several: a worker takes its time
    /// to start, and the parent makes more threads meanwhile.
    siblings: Vec<pid_t>,
    /// The page of calls that its processes have mapped.
    slot: Option<u32>,
    /// Running processes, to be stopped when another thread changes pages.
    running: Vec<pid_t>,
}

impl Drop for Inner {
    /// Threads that ended before their workers started leave processes that nobody traces: they would outlive the sandbox.
    fn drop(&mut self) {
        for &pid in &self.siblings {
            crate::tracee::kill(pid);
        }
    }
}

impl Inner {
    fn push(&mut self, operation: Operation) {
        // A guest thread of this space that runs now must not go on with the old pages.
        for &pid in &self.running {
            crate::tracee::kick(pid);
        }
        if let Some(last) = self.operations.last_mut()
            && merge(last, &operation)
        {
            return;
        }
        self.operations.push(operation);
    }
}

/// Which addresses are mapped: disjoint ranges, start to end.
#[derive(Default)]
struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    fn insert(&mut self, start: u64, end: u64) {
        self.remove(start, end);
        let (mut start, mut end) = (start, end);
        if let Some((&before, &stop)) = self.0.range(..start).next_back()
            && stop == start
        {
            self.0.remove(&before);
            start = before;
        }
        if let Some(stop) = self.0.remove(&end) {
            end = stop;
        }
        self.0.insert(start, end);
    }

    fn remove(&mut self, start: u64, end: u64) {
        if let Some((&before, &stop)) = self.0.range(..start).next_back()
            && stop > start
        {
            self.0.insert(before, start);
            if stop > end {
                self.0.insert(end, stop);
                return;
            }
        }
        while let Some((&first, &stop)) = self.0.range(start..end).next() {
            self.0.remove(&first);
            if stop > end {
                self.0.insert(end, stop);
            }
        }
    }

    /// The mapped parts of a range.
    fn parts(&self, start: u64, end: u64) -> Vec<(u64, u64)> {
        let before = self
            .0
            .range(..start)
            .next_back()
            .filter(|&(_, &stop)| stop > start);
        let inside = self.0.range(start..end);
        before
            .into_iter()
            .chain(inside)
            .map(|(&first, &stop)| (first.max(start), stop.min(end)))
            .collect()
    }
}

impl Space {
    pub(crate) fn new() -> Space {
        Space {
            inner: Mutex::default(),
            flushing: Mutex::new(()),
            threads: AtomicUsize::new(0),
            dropped: AtomicBool::new(false),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Every change of it is a single push, take or store.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn queue(&self, operation: Operation) {
        let mut inner = self.inner();
        match operation {
            Operation::Map { addr, len, .. } => inner.mapped.insert(addr, addr + len),
            Operation::Unmap { addr, len } => inner.mapped.remove(addr, addr + len),
            Operation::Protect { addr, len, prot } => {
                // mprotect(2) stops at the first hole, so it is asked for what is mapped only.
                for (addr, end) in inner.mapped.parts(addr, addr + len) {
                    inner.push(Operation::Protect {
                        addr,
                        len: end - addr,
                        prot,
                    });
                }
                return;
            }
        }
        inner.push(operation);
    }

    /// Takes what is queued. The caller holds `flushing` and says [`done`](Self::done) when it has carried it out.
    pub(crate) fn take(&self) -> Vec<Operation> {
        let mut inner = self.inner();
        inner.under_way = true;
        std::mem::take(&mut inner.operations)
    }

    pub(crate) fn done(&self) {
        self.inner().under_way = false;
    }

    /// Whether every operation has been carried out, also those that another thread has taken.
    pub(crate) fn is_clean(&self) -> bool {
        let inner = self.inner();
        inner.operations.is_empty() && !inner.under_way
    }

    /// Notes that a process of the space runs from now on, unless something is queued or under way.
    pub(crate) fn begin_run(&self, pid: pid_t) -> bool {
        let mut inner = self.inner();
        if !inner.operations.is_empty() || inner.under_way {
            return false;
        }
        inner.running.push(pid);
        true
    }

    pub(crate) fn end_run(&self, pid: pid_t) {
        self.inner().running.retain(|&other| other != pid);
    }

    pub(crate) fn put_sibling(&self, pid: pid_t) {
        self.inner().siblings.push(pid);
    }

    pub(crate) fn take_sibling(&self) -> Option<pid_t> {
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

fn follows(first: Backing, len: u64, next: Backing) -> bool {
    match (first, next) {
        (Backing::Memory(a), Backing::Memory(b)) => a.offset() + len == b.offset(),
        (
            Backing::Image {
                image: a,
                offset: x,
            },
            Backing::Image {
                image: b,
                offset: y,
            },
        ) => a == b && x + len == y,
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
                let Some((fd, offset)) = backings.file(backing) else {
                    panic!("{self:?} names no image");
                };
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
    use varve_core::machine::FrameNo;

    #[test]
    fn ranges_join_and_split() {
        let mut ranges = Ranges::default();
        ranges.insert(10, 20);
        ranges.insert(20, 30);
        ranges.insert(40, 50);
        assert_eq!(ranges.parts(0, 100), [(10, 30), (40, 50)]);
        ranges.remove(15, 45);
        assert_eq!(ranges.parts(0, 100), [(10, 15), (45, 50)]);
        assert_eq!(ranges.parts(12, 47), [(12, 15), (45, 47)]);
        ranges.insert(0, 100);
        assert_eq!(ranges.parts(0, 200), [(0, 100)]);
        ranges.remove(20, 30);
        assert_eq!(ranges.parts(0, 200), [(0, 20), (30, 100)]);
    }

    /// A thread whose operation another one has taken must not run before it is carried out.
    #[test]
    fn nobody_runs_while_operations_are_under_way() {
        let space = Space::new();
        space.queue(Operation::Unmap { addr: 0, len: 4096 });
        assert!(!space.is_clean() && !space.begin_run(1));
        assert_eq!(space.take().len(), 1);
        assert!(!space.is_clean() && !space.begin_run(1));
        space.done();
        assert!(space.is_clean() && space.begin_run(1));
    }

    #[test]
    fn neighbouring_maps_become_one() {
        let space = Space::new();
        let map = |page: u64| Operation::Map {
            addr: page * 4096,
            len: 4096,
            backing: Backing::Memory(FrameNo(page as u32 + 7)),
            prot: Prot::READ,
        };
        space.queue(map(1));
        space.queue(map(2));
        space.queue(map(4));
        assert_eq!(space.take().len(), 2);
        space.queue(Operation::Protect {
            addr: 0,
            len: 1 << 20,
            prot: Prot::empty(),
        });
        assert_eq!(space.take().len(), 2);
    }
}
