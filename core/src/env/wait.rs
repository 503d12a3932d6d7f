//! What a task waits for and what becomes of its call: the keys that it is parked on, and what a handler
//! answers with.

use alloc::collections::BTreeMap;

use smallvec::SmallVec;

use super::ids::*;
use crate::abi::Errno;
use crate::args::{MessageFlags, OpenFlags, RwFlags, SpliceFlags};
use crate::event::OpId;
use crate::machine::{SpaceId, ThreadId};

/// What a parked task waits for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum WaitKey {
    /// A change of a pipe: data, room, or an end closed. The number is the pipe's id.
    Pipe(u64),
    /// A change of a socket: bytes, room, connections.
    Socket(SocketId),
    /// A change of a System V semaphore set, or message queue.
    Semaphores(ObjectId),
    Messages(ObjectId),
    /// A change of a POSIX message queue.
    MessageQueue(QueueId),
    /// Events of an asynchronous input and output context.
    Aio(ContextId),
    /// A change of an open file that is an event itself: a counter, timer or epoll instance.
    File(FileId),
    /// A signal came for a thread of this process or for the process (signalfd(2)).
    Signals(u32),
    /// This process or a thread of it ended, or was waited for (pidfd_open(2)).
    Exit(u32),
    /// A child of this thread group changed its state.
    Child(u32),
    /// The vfork child of this thread executed a program or ended.
    Vfork(ThreadId),
    /// A futex word.
    Futex(FutexKey),
    /// A space is no longer being copied (fork(2)).
    Space(SpaceId),
    /// A host operation ended.
    Op(OpId),
    /// A lock on a file; who gets it is woken alone.
    FileLock(InodeRef),
    /// A lease on a file was given back or changed.
    /// To open a file, for writing or not, of which somebody has a lease.
    Lease(InodeRef, bool),
    /// A change of the mounts, or of the names, of a namespace.
    Mounts(NsId),
    /// A change of mounts that is under way has ended.
    Mounting,
    Uts(NsId),
    /// A FIFO got its other end.
    Fifo(InodeRef),
    /// Threads that ran have come by for the membarrier(2) call of this one.
    Barrier(ThreadId),
    /// Only a signal or the deadline ends this wait.
    Signal(ThreadId),
    /// What one of those who wait takes: they are woken one after the other.
    Turn(Turn),
    /// Anything at all that somebody could wait for: for those that wait for too much to name it.
    Anything,
}

/// What is taken by one of those who wait for it, as exclusive waits of Linux.
///
/// All who wait for the same turn wait for the same: if one of them, run again, has to wait again, there is
/// nothing for any of the others. So one is woken at a time, the first that can run. Whoever leaves the queue
/// in any way but by waiting on hands the turn on to the next one, who finds out whether anything is left: so
/// nothing is lost when one leaves that has not taken anything.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Turn {
    /// Bytes in a pipe, or the end of it.
    PipeBytes(u64),
    /// Room in a pipe.
    PipeRoom(u64),
    /// What is in the queue of a socket, or connections at it.
    Socket(SocketId),
    /// A message in a POSIX message queue.
    Message(QueueId),
    /// Room in one.
    MessageRoom(QueueId),
}

impl WaitKey {
    /// The turns that a change of this may bring.
    pub(crate) fn turns(self) -> [Option<WaitKey>; 2] {
        let turns = match self {
            WaitKey::Pipe(id) => [Some(Turn::PipeBytes(id)), Some(Turn::PipeRoom(id))],
            WaitKey::Socket(id) => [Some(Turn::Socket(id)), None],
            WaitKey::MessageQueue(id) => [Some(Turn::Message(id)), Some(Turn::MessageRoom(id))],
            _ => [None; 2],
        };
        turns.map(|turn| turn.map(WaitKey::Turn))
    }
}

/// What a system call that was interrupted by a signal does afterwards (signal(7)).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Restart {
    /// Restarted if the handler has `SA_RESTART` (`ERESTARTSYS`).
    IfAsked,
    /// Restarted always, after any handler (`ERESTARTNOINTR`).
    Always,
    /// Restarted only if no handler ran (`ERESTARTNOHAND`, `ERESTART_RESTARTBLOCK`); the call keeps its entry
    /// time.
    IfNoHandler,
    /// Always ends with `EINTR`.
    Never,
}

/// What a call does where it would have to wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Blocking {
    #[default]
    Waits,
    /// It fails with `EAGAIN` (`O_NONBLOCK` and its relatives).
    Fails,
}

impl Blocking {
    /// Together with what others say: it waits if both let it.
    pub(crate) fn and(self, other: impl Into<Blocking>) -> Blocking {
        match self {
            Blocking::Waits => other.into(),
            Blocking::Fails => Blocking::Fails,
        }
    }
}

/// Types with a flag that says that a call does not wait.
macro_rules! blocking {
    ($($name:ident: $flag:ident),* $(,)?) => {$(
        impl From<$name> for Blocking {
            fn from(flags: $name) -> Blocking {
                match flags.contains($name::$flag) {
                    true => Blocking::Fails,
                    false => Blocking::Waits,
                }
            }
        }
    )*};
}

blocking! {
    OpenFlags: NONBLOCK,
    SpliceFlags: NONBLOCK,
    RwFlags: NOWAIT,
    MessageFlags: DONTWAIT,
}

/// Why a system call handler did not give a result.
#[derive(Clone, Debug)]
pub(crate) enum Stop {
    /// It failed.
    Errno(Errno),
    /// It has to wait; it is run again later.
    Block(Wait),
    /// Registers were set by the handler (execve, rt_sigreturn) or the task has ended.
    Done,
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Stop {
        Stop::Errno(errno)
    }
}

/// What a blocked system call waits for.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Wait {
    pub keys: SmallVec<[WaitKey; 2]>,
    /// Its place in the queues of these keys, once it is parked.
    pub place: u64,
    /// `CLOCK_MONOTONIC` time after which the handler is run again in any case.
    pub deadline: Option<u64>,
    pub restart: Restart,
    /// Signals do not end this wait, except deadly ones (vfork, exec).
    pub killable: bool,
}

impl Wait {
    /// Waits for one key without a deadline; restarted after a handler with `SA_RESTART`.
    pub(crate) fn on(key: WaitKey) -> Wait {
        Wait {
            keys: SmallVec::from_slice(&[key]),
            place: 0,
            deadline: None,
            restart: Restart::IfAsked,
            killable: false,
        }
    }

    /// Waits for several keys at once, without a deadline.
    pub(crate) fn on_all(keys: SmallVec<[WaitKey; 2]>) -> Wait {
        Wait {
            keys,
            place: 0,
            deadline: None,
            restart: Restart::IfAsked,
            killable: false,
        }
    }

    pub(crate) fn until(mut self, deadline: Option<u64>) -> Wait {
        self.deadline = deadline;
        self
    }

    pub(crate) fn restart(mut self, restart: Restart) -> Wait {
        self.restart = restart;
        self
    }
}

impl<T> From<Wait> for Result<T, Stop> {
    fn from(wait: Wait) -> Self {
        Err(Stop::Block(wait))
    }
}

/// What a system call handler returns: the value for the result register, or why there is none.
pub(crate) type SysResult = Result<u64, Stop>;

/// Who waits for what, in the order in which they came.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Queues {
    /// By key and place, which counts up: who came first is first.
    pub places: BTreeMap<(WaitKey, u64), ThreadId>,
    /// The last place that was given.
    pub last_place: u64,
}

impl Queues {
    pub(crate) fn take_place(&mut self) -> u64 {
        self.last_place += 1;
        self.last_place
    }

    /// How many places there are in all queues.
    pub(crate) fn len(&self) -> u64 {
        self.places.len() as u64
    }

    /// The places in the queue of a key.
    fn queue(&self, key: WaitKey) -> impl Iterator<Item = (u64, ThreadId)> + '_ {
        let range = self.places.range((key, 0)..=(key, u64::MAX));
        range.map(|(&(_, place), &thread)| (place, thread))
    }

    /// The first of the tasks waiting for a key behind a place in its queue (0: of all of them), with its own
    /// place. Making it ready does not take it out.
    pub(crate) fn waiter_after(&self, key: WaitKey, place: u64) -> Option<(u64, ThreadId)> {
        use core::ops::Bound::{Excluded, Included};
        let range = (Excluded((key, place)), Included((key, u64::MAX)));
        let (&(_, place), &thread) = self.places.range(range).next()?;
        Some((place, thread))
    }

    /// The next futex word behind `after` that somebody sleeps on.
    pub(crate) fn next_futex(&self, after: Option<FutexKey>) -> Option<FutexKey> {
        use core::ops::Bound::{Excluded, Unbounded};
        let from = match after {
            Some(key) => Excluded((WaitKey::Futex(key), u64::MAX)),
            None => Unbounded,
        };
        self.places
            .range((from, Unbounded))
            .find_map(|((key, _), _)| match key {
                WaitKey::Futex(key) => Some(*key),
                _ => None,
            })
    }

    /// The place and the task behind a place in the queue of a key.
    pub(crate) fn waiter_behind(&self, key: WaitKey, place: u64) -> Option<(u64, ThreadId)> {
        let from = place.checked_add(1)?;
        let mut range = self.places.range((key, from)..=(key, u64::MAX));
        range.next().map(|(&(_, place), &thread)| (place, thread))
    }

    /// The tasks waiting for a key, longest first.
    pub(crate) fn waiters(&self, key: WaitKey) -> impl Iterator<Item = ThreadId> + '_ {
        self.queue(key).map(|(_, thread)| thread)
    }
}
