//! Who waits for what: the keys that tasks are parked on, their queues, and waking.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::String;

use smallvec::SmallVec;

use super::Cx;
use crate::Kernel;
use crate::abi::Errno;
use crate::event::OpId;
use crate::file::{FileId, aio, epoll, ready};
use crate::machine::{SpaceId, ThreadId};
use crate::port::Ports;
use crate::syscall::futex::FutexKey;
use crate::task::ending;

/// What a parked task waits for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum WaitKey {
    /// A change of a pipe: data, room, or an end closed. The number is the pipe's id.
    Pipe(u64),
    /// A change of a socket: bytes, room, connections.
    Socket(crate::net::socket::SocketId),
    /// A change of a System V semaphore set, or message queue.
    Semaphores(crate::ipc::ObjectId),
    Messages(crate::ipc::ObjectId),
    /// A change of a POSIX message queue.
    MessageQueue(crate::ipc::mqueue::QueueId),
    /// Events of an asynchronous input and output context.
    Aio(aio::ContextId),
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
    FileLock(crate::fs::InodeRef),
    /// A lease on a file was given back or changed.
    /// To open a file, for writing or not, of which somebody has a lease.
    Lease(crate::fs::InodeRef, bool),
    /// A change of the mounts, or of the names, of a namespace.
    Mounts(crate::ns::NsId),
    /// A change of mounts that is under way has ended.
    Mounting,
    Uts(crate::ns::NsId),
    /// A FIFO got its other end.
    Fifo(crate::fs::InodeRef),
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
    Socket(crate::net::socket::SocketId),
    /// A message in a POSIX message queue.
    Message(crate::ipc::mqueue::QueueId),
    /// Room in one.
    MessageRoom(crate::ipc::mqueue::QueueId),
}

impl WaitKey {
    /// The turns that a change of this may bring.
    fn turns(self) -> [Option<WaitKey>; 2] {
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
    place: u64,
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

/// Who waits for what, and until when.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Waits {
    /// By key and place, which counts up: who came first is first.
    queues: BTreeMap<(WaitKey, u64), ThreadId>,
    next_place: u64,
    pub(super) deadlines: BTreeSet<(u64, ThreadId)>,
    pub(super) ready: VecDeque<ThreadId>,
    /// The place in a queue of turns of the task whose call is being run again.
    turn: Option<(WaitKey, u64)>,
    /// Keys whose wakes go on by and by.
    wakes: BTreeMap<WaitKey, Wakes>,
    /// How often something has changed that somebody could wait for.
    pub(crate) changes: u64,
}

/// Waiters looked at for one wake at once, and in between by those that go on.
const WOKEN_AT_ONCE: usize = 256;
const WOKEN_BETWEEN: usize = 64;

/// Who is still to be woken of those that wait for a key.
#[derive(Clone, Copy, Debug, Hash)]
struct Wakes {
    /// Those behind this place, up to the last that had been given when the key was woken.
    after: u64,
    last: u64,
    /// Then those up to this place: the key was woken again when they had had their turn.
    again: u64,
}

impl Waits {
    fn take_place(&mut self) -> u64 {
        self.next_place += 1;
        self.next_place
    }

    /// How many places there are in all queues.
    pub(super) fn places(&self) -> u64 {
        self.queues.len() as u64
    }

    /// A key whose wakes go on, behind another one.
    fn wakes_after(&self, after: Option<WaitKey>) -> Option<(WaitKey, Wakes)> {
        use core::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        let mut rest = self.wakes.range((from, Unbounded));
        rest.next().map(|(&key, &wakes)| (key, wakes))
    }

    /// The places in the queue of a key.
    fn queue(&self, key: WaitKey) -> impl Iterator<Item = (u64, ThreadId)> + '_ {
        let range = self.queues.range((key, 0)..=(key, u64::MAX));
        range.map(|(&(_, place), &thread)| (place, thread))
    }

    /// Whether everybody is woken who is to be.
    pub(super) fn are_woken(&self) -> bool {
        self.wakes.is_empty()
    }
}

impl Kernel {
    /// Runs the parked tasks waiting for this key again: the first of them with this input, as long as its
    /// steps last, and all of them by and by.
    pub(crate) fn wake(&mut self, key: WaitKey) {
        self.notify(key, ready::ANY);
    }

    /// The same where it is known what came: poll events, which the files' watchers are told of (epoll(7)); 0
    /// tells them nothing.
    pub(crate) fn notify(&mut self, key: WaitKey, events: u16) {
        if let WaitKey::Pipe(id) = key {
            crate::file::pipe::charge(self, id);
        }
        self.wake_threads(key);
        if events != 0 {
            epoll::announce(self, key, events);
            aio::announce(self, key, events);
            crate::file::fasync::announce(self, key, events);
        }
    }

    /// Runs the parked tasks waiting for this key again; tells no watchers.
    pub(crate) fn wake_threads(&mut self, key: WaitKey) {
        self.waits.changes += 1;
        self.wake_queue(key);
        for turn in key.turns().into_iter().flatten() {
            self.wake_queue(turn);
        }
        self.wake_queue(WaitKey::Anything);
    }

    /// A task that may have been woken for its turn cannot run: the next one is.
    pub(super) fn pass_turn(&mut self, thread: ThreadId) {
        let call = self.tasks.get(thread).and_then(|task| task.call.as_ref());
        let wait = call.and_then(|call| call.wait.as_ref());
        if let Some(&[key @ WaitKey::Turn(_)]) = wait.map(|wait| &wait.keys[..]) {
            self.wake_queue(key);
        }
    }

    /// Runs the call of a parked task again. If it does not wait for the same turn again, that is the next
    /// one's.
    pub(super) fn run_parked(&mut self, ports: &mut Ports<'_>, thread: ThreadId) {
        self.waits.turn = self.unpark(thread);
        Cx {
            k: self,
            p: ports,
            thread,
        }
        .run_call();
        if let Some((key, _)) = self.waits.turn.take() {
            self.wake_queue(key);
        }
    }

    /// Takes a task that leaves its call out of all queues it waits in.
    pub(super) fn leave_queues(&mut self, thread: ThreadId) {
        if let Some((key, _)) = self.unpark(thread) {
            self.wake_queue(key);
        }
    }

    /// Lets a parked task run again once others had the kernel.
    fn hasten(&mut self, thread: ThreadId) {
        let later = self.system.now.mono.saturating_add(1);
        let Some(wait) = self
            .tasks
            .get_mut(thread)
            .and_then(|task| task.call.as_mut())
            .and_then(|call| call.wait.as_mut())
        else {
            return;
        };
        if wait.deadline.is_none_or(|at| at > later) {
            let old = wait.deadline.replace(later);
            if let Some(at) = old {
                self.waits.deadlines.remove(&(at, thread));
            }
            self.waits.deadlines.insert((later, thread));
        }
    }

    /// Whether a task can take a turn.
    fn can_run(&self, thread: ThreadId) -> bool {
        let task = self.tasks.get(thread);
        task.is_some_and(|task| !task.exited && !task.stopped) && !ending::is_doomed(self, thread)
    }

    /// Wakes all that wait for a key now, or the first whose turn it can be. Who begins to wait later has
    /// seen what came.
    fn wake_queue(&mut self, key: WaitKey) {
        let last = self.waits.next_place;
        if let Some(wakes) = self.waits.wakes.get_mut(&key) {
            wakes.last = last;
            wakes.again = wakes.after;
            return;
        }
        let all = Wakes {
            after: 0,
            last,
            again: 0,
        };
        if let Some(rest) = self.wake_some(key, all, WOKEN_AT_ONCE) {
            self.waits.wakes.insert(key, rest);
        }
    }

    /// Goes on with wakes that are under way: some waiters of each.
    pub(super) fn wake_more(&mut self) {
        let mut after = None;
        while let Some((key, wakes)) = self.waits.wakes_after(after)
            && self.steps.may_begin()
        {
            match self.wake_some(key, wakes, WOKEN_BETWEEN) {
                Some(rest) => self.waits.wakes.insert(key, rest),
                None => self.waits.wakes.remove(&key),
            };
            after = Some(key);
        }
    }

    /// Wakes some of those that wait for a key; who is left.
    fn wake_some(&mut self, key: WaitKey, mut wakes: Wakes, most: usize) -> Option<Wakes> {
        for _ in 0..most {
            let next = self.waiter_after(key, wakes.after);
            let Some((at, thread)) = next.filter(|&(at, _)| at <= wakes.last) else {
                if wakes.again == 0 {
                    return None;
                }
                wakes = Wakes {
                    after: 0,
                    last: wakes.again,
                    again: 0,
                };
                continue;
            };
            wakes.after = at;
            self.steps.spend(1);
            match key {
                WaitKey::Anything => self.hasten(thread),
                WaitKey::Turn(_) => {
                    if self.can_run(thread) {
                        self.make_ready(thread);
                        return None;
                    }
                }
                _ => self.make_ready(thread),
            }
        }
        Some(wakes)
    }

    /// Puts a task that is not running into the ready queue: its call is run again, its signals are looked
    /// at.
    pub(crate) fn make_ready(&mut self, thread: ThreadId) {
        if let Some(task) = self.tasks.get_mut(thread)
            && !task.running
            && !task.ready
            && !task.exited
        {
            task.ready = true;
            self.waits.ready.push_back(thread);
        }
    }

    pub(super) fn park(&mut self, thread: ThreadId, mut wait: Wait) {
        let turn = self.waits.turn.take();
        wait.place = match turn.filter(|&(key, _)| wait.keys[..] == [key]) {
            Some((_, place)) => place,
            None => {
                self.waits.turn = turn;
                self.waits.take_place()
            }
        };
        for &key in &wait.keys {
            self.waits.queues.insert((key, wait.place), thread);
        }
        self.steps.spend(wait.keys.len() as u64);
        if let Some(at) = wait.deadline {
            self.waits.deadlines.insert((at, thread));
        }
        let Some(task) = self.tasks.get_mut(thread) else {
            return;
        };
        task.switches += 1;
        self.system.switches += 1;
        if let Some(call) = task.call.as_mut() {
            call.wait = Some(wait);
        }
    }

    /// Takes a task out of all queues it waits in; its place, if that was for a turn. Its call stays.
    fn unpark(&mut self, thread: ThreadId) -> Option<(WaitKey, u64)> {
        let wait = self
            .tasks
            .get_mut(thread)
            .and_then(|task| task.call.as_mut())
            .and_then(|call| call.wait.take())?;
        for &key in &wait.keys {
            self.waits.queues.remove(&(key, wait.place));
            if let WaitKey::FileLock(_) = key {
                crate::file::lock::leave(self, thread);
            }
        }
        self.steps.spend(wait.keys.len() as u64);
        if let Some(at) = wait.deadline {
            self.waits.deadlines.remove(&(at, thread));
        }
        match wait.keys[..] {
            [key @ WaitKey::Turn(_)] => Some((key, wait.place)),
            _ => None,
        }
    }

    /// The first of the tasks waiting for a key behind a place in its queue (0: of all of them), with its own
    /// place. Making it ready does not take it out.
    pub(crate) fn waiter_after(&self, key: WaitKey, place: u64) -> Option<(u64, ThreadId)> {
        use core::ops::Bound::{Excluded, Included};
        let range = (Excluded((key, place)), Included((key, u64::MAX)));
        let (&(_, place), &thread) = self.waits.queues.range(range).next()?;
        Some((place, thread))
    }

    /// Whether the queues and deadlines hold exactly what these parked tasks wait for; for invariant checks.
    pub(crate) fn check_waits<'k>(
        &self,
        parked: impl Iterator<Item = (ThreadId, &'k Wait)>,
    ) -> Result<(), String> {
        let mut places = 0;
        let mut deadlines = 0;
        for (thread, wait) in parked {
            // futex_waitv(2) may name a word twice, which is one place.
            places += wait.keys.iter().collect::<BTreeSet<_>>().len();
            deadlines += usize::from(wait.deadline.is_some());
            let queued = |key| self.waits.queues.get(&(key, wait.place)) == Some(&thread);
            if let Some(key) = wait.keys.iter().find(|&&key| !queued(key)) {
                return Err(format!("{thread:?} is not in the queue of {key:?}"));
            }
        }
        let queued = self.waits.queues.len();
        // A deadline that has passed is taken out before its task runs.
        match queued == places && self.waits.deadlines.len() <= deadlines {
            true => Ok(()),
            false => Err(format!(
                "{queued} places in queues, but {places} are waited in"
            )),
        }
    }

    /// Whether nobody waits in vain for a turn; for invariant checks.
    pub(crate) fn check_turns(&self) -> Result<(), String> {
        let queues = &self.waits.queues;
        for (&(key, _), &thread) in queues {
            let WaitKey::Turn(turn) = key else {
                continue;
            };
            let is_ready = |thread| self.tasks.get(thread).is_some_and(|task| task.ready);
            let woken = || self.waiters(key).any(is_ready) || self.waits.wakes.contains_key(&key);
            if self.can_run(thread) && ready::has_come(self, turn) && !woken() {
                return Err(format!("{thread:?} waits for {turn:?}, which has come"));
            }
        }
        Ok(())
    }

    /// The next futex word behind `after` that somebody sleeps on.
    pub(crate) fn next_futex(&self, after: Option<FutexKey>) -> Option<FutexKey> {
        use core::ops::Bound::{Excluded, Unbounded};
        let from = match after {
            Some(key) => Excluded((WaitKey::Futex(key), u64::MAX)),
            None => Unbounded,
        };
        self.waits
            .queues
            .range((from, Unbounded))
            .find_map(|((key, _), _)| match key {
                WaitKey::Futex(key) => Some(*key),
                _ => None,
            })
    }

    /// Lets a parked task wait for another key instead of one of its own, behind all that wait for that.
    pub(crate) fn move_waiter(&mut self, thread: ThreadId, from: WaitKey, to: WaitKey) {
        let Some(wait) = self
            .tasks
            .get_mut(thread)
            .and_then(|task| task.call.as_mut())
            .and_then(|call| call.wait.as_mut())
        else {
            return;
        };
        let place = self.waits.take_place();
        for key in &mut wait.keys {
            self.waits.queues.remove(&(*key, wait.place));
            if *key == from {
                *key = to;
            }
            self.waits.queues.insert((*key, place), thread);
        }
        wait.place = place;
    }

    /// The place and the task behind a place in the queue of a key.
    pub(crate) fn waiter_behind(&self, key: WaitKey, place: u64) -> Option<(u64, ThreadId)> {
        let from = place.checked_add(1)?;
        let mut range = self.waits.queues.range((key, from)..=(key, u64::MAX));
        range.next().map(|(&(_, place), &thread)| (place, thread))
    }

    /// The tasks waiting for a key, longest first.
    pub(crate) fn waiters(&self, key: WaitKey) -> impl Iterator<Item = ThreadId> + '_ {
        self.waits.queue(key).map(|(_, thread)| thread)
    }
}
