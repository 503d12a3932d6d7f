//! Who waits for what: the keys that tasks are parked on, their queues, and waking.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::String;

use super::Cx;
use crate::Kernel;
use crate::env::notice::Notice;
use crate::env::wait::{Wait, WaitKey};
use crate::file::{aio, ready};
use crate::machine::ThreadId;
use crate::port::Ports;
use crate::task::{ending, sigio};

/// Who waits for what, and until when.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Waits {
    pub(super) deadlines: BTreeSet<(u64, ThreadId)>,
    pub(super) ready: VecDeque<ThreadId>,
    /// The place in a queue of turns of the task whose call is being run again.
    turn: Option<(WaitKey, u64)>,
    /// Keys whose wakes go on by and by.
    wakes: BTreeMap<WaitKey, Wakes>,
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
    /// A key whose wakes go on, behind another one.
    fn wakes_after(&self, after: Option<WaitKey>) -> Option<(WaitKey, Wakes)> {
        use core::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        let mut rest = self.wakes.range((from, Unbounded));
        rest.next().map(|(&key, &wakes)| (key, wakes))
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
        self.files.notify(key, events);
        self.take_notices();
    }

    /// Deals with what the floors below have left for those above, in the order in which they did. This is
    /// the one place where something goes up: after each handler, and before whatever looks at what waits.
    #[inline]
    pub(crate) fn take_notices(&mut self) {
        if core::mem::take(&mut self.env.left) {
            self.take_what_is_left();
        }
    }

    fn take_what_is_left(&mut self) {
        crate::mm::follow_files(self);
        crate::file::remove_gone(self);
        while let Some(number) = self.files.made.take_gone() {
            self.contents.forget(number);
        }
        loop {
            while let Some(notice) = self.env.notices.pop_front() {
                match notice {
                    Notice::Woken(key) => self.wake_waiting(key),
                    Notice::Ready(thread) => self.make_ready(thread),
                }
            }
            // Requests that end wake others.
            aio::take_news(self);
            if self.env.notices.is_empty() {
                break;
            }
        }
        sigio::tell_news(self);
    }

    fn wake_waiting(&mut self, key: WaitKey) {
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
    fn requeue(&mut self, thread: ThreadId) {
        let later = self.env.now.mono.saturating_add(1);
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
        task.is_some_and(|task| !task.exited && !task.stopped) && !ending::is_dying(self, thread)
    }

    /// Wakes all that wait for a key now, or the first whose turn it can be. Who begins to wait later has
    /// seen what came.
    fn wake_queue(&mut self, key: WaitKey) {
        let last = self.env.queues.last_place;
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
            && self.env.steps.may_begin()
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
            let next = self.env.queues.waiter_after(key, wakes.after);
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
            self.env.steps.spend(1);
            match key {
                WaitKey::Anything => self.requeue(thread),
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
                self.env.queues.take_place()
            }
        };
        for &key in &wait.keys {
            self.env.queues.places.insert((key, wait.place), thread);
        }
        self.env.steps.spend(wait.keys.len() as u64);
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
            self.env.queues.places.remove(&(key, wait.place));
            if let WaitKey::FileLock(_) = key {
                crate::file::lock::leave(self, thread);
            }
        }
        self.env.steps.spend(wait.keys.len() as u64);
        if let Some(at) = wait.deadline {
            self.waits.deadlines.remove(&(at, thread));
        }
        match wait.keys[..] {
            [key @ WaitKey::Turn(_)] => Some((key, wait.place)),
            _ => None,
        }
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
            let queued = |key| self.env.queues.places.get(&(key, wait.place)) == Some(&thread);
            if let Some(key) = wait.keys.iter().find(|&&key| !queued(key)) {
                return Err(format!("{thread:?} is not in the queue of {key:?}"));
            }
        }
        let queued = self.env.queues.places.len();
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
        let queues = &self.env.queues.places;
        for (&(key, _), &thread) in queues {
            let WaitKey::Turn(turn) = key else {
                continue;
            };
            let is_ready = |thread| self.tasks.get(thread).is_some_and(|task| task.ready);
            let woken = || {
                self.env.queues.waiters(key).any(is_ready) || self.waits.wakes.contains_key(&key)
            };
            if self.can_run(thread) && ready::has_come(self, turn) && !woken() {
                return Err(format!("{thread:?} waits for {turn:?}, which has come"));
            }
        }
        Ok(())
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
        let place = self.mm.env.queues.take_place();
        for key in &mut wait.keys {
            self.mm.env.queues.places.remove(&(*key, wait.place));
            if *key == from {
                *key = to;
            }
            self.mm.env.queues.places.insert((*key, place), thread);
        }
        wait.place = place;
    }
}
