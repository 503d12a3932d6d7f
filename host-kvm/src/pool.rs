//! The pool of virtual CPUs: one for each guest thread that runs, fewer than there may be threads.
//!
//! A thread that parks leaves its virtual CPU here with its floating-point state in it and usually finds it
//! again. When none is left, those of parked threads are taken (the state goes into memory), then threads
//! that run are asked to take turns.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use varve_host::PlatformError;

use crate::area::{Block, VCPUS_MAX};
use crate::kick::Kicker;
use crate::vcpu::Vcpu;

/// How long a thread waits before the running ones must take turns.
const TURN: Duration = Duration::from_millis(10);

/// Floating-point state of a thread that is not in its virtual CPU.
pub(crate) type Saved = Arc<Mutex<Option<Vec<u8>>>>;

/// A guest thread, for the pool.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Ticket(u64);

struct Parked {
    vcpu: Vcpu,
    saved: Saved,
}

#[derive(Default)]
struct State {
    next_ticket: u64,
    /// Made so far, also those that were given up: a number is used once in a virtual machine.
    made: u32,
    given_up: u32,
    /// Numbers of those that could not be made.
    failed: Vec<Block>,
    /// With nothing in them that counts.
    free: Vec<Vcpu>,
    parked: BTreeMap<Ticket, Parked>,
    running: BTreeMap<Ticket, Arc<Kicker>>,
    /// Who waits for one, first come first served.
    queue: VecDeque<Ticket>,
    /// The last one that had to make room.
    turned: u64,
}

/// The pool.
pub(crate) struct Pool {
    state: Mutex<State>,
    news: Condvar,
    max: u32,
}

/// A virtual CPU for a thread.
pub(crate) enum Taken {
    /// The thread's floating-point state is in it.
    Own(Vcpu),
    /// It is not.
    Other(Vcpu),
}

impl Pool {
    /// A pool of at most `max` virtual CPUs.
    pub(crate) fn new(max: u32) -> Pool {
        Pool {
            state: Mutex::default(),
            news: Condvar::new(),
            max,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is whole before anything that could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number for a new thread.
    pub(crate) fn ticket(&self) -> Ticket {
        let mut state = self.state();
        state.next_ticket += 1;
        Ticket(state.next_ticket)
    }

    /// Takes a virtual CPU, waiting for one if need be. `None` if the kicker says that the thread should stop
    /// instead.
    ///
    /// # Errors
    /// The first one cannot be made, or the state of a parked thread cannot be saved.
    pub(crate) fn take(
        &self,
        ticket: Ticket,
        kicker: &Arc<Kicker>,
        make: impl FnOnce(Block) -> Result<Vcpu, PlatformError>,
    ) -> Result<Option<Taken>, PlatformError> {
        let mut state = self.state();
        if let Some(parked) = state.parked.remove(&ticket) {
            state.running.insert(ticket, kicker.clone());
            return Ok(Some(Taken::Own(parked.vcpu)));
        }
        if state.queue.is_empty()
            && let Some(vcpu) = state.free.pop()
        {
            state.running.insert(ticket, kicker.clone());
            return Ok(Some(Taken::Other(vcpu)));
        }
        if state.queue.is_empty()
            && state.there() < self.max
            && let Some(block) = state.number()
        {
            drop(state);
            let made = make(block);
            state = self.state();
            match made {
                Ok(vcpu) => {
                    state.running.insert(ticket, kicker.clone());
                    return Ok(Some(Taken::Other(vcpu)));
                }
                // Whatever the host lacks now, those that are there go round; the next thread tries again.
                Err(error) => {
                    state.not_made(block, &error);
                    if state.there() == 0 {
                        return Err(error);
                    }
                }
            }
        }
        state.queue.push_back(ticket);
        loop {
            if kicker.stops() {
                state.queue.retain(|&other| other != ticket);
                self.news.notify_all();
                return Ok(None);
            }
            if state.there() == 0 {
                // Those that were being made when this thread began to wait could not be made either.
                state.queue.retain(|&other| other != ticket);
                return Err(PlatformError::Host("no more can be made".into()));
            }
            if state.queue.front() == Some(&ticket)
                && let Some(vcpu) = available(&mut state)
            {
                state.queue.pop_front();
                if vcpu.is_ok() {
                    state.running.insert(ticket, kicker.clone());
                }
                self.news.notify_all();
                return Ok(Some(Taken::Other(vcpu?)));
            }
            let waited;
            (state, waited) = self
                .news
                .wait_timeout(state, TURN)
                .unwrap_or_else(PoisonError::into_inner);
            if waited.timed_out() && state.queue.front() == Some(&ticket) {
                turn(&mut state);
            }
        }
    }

    /// Whether others wait for a virtual CPU.
    pub(crate) fn is_wanted(&self) -> bool {
        !self.state().queue.is_empty()
    }

    /// Leaves the virtual CPU of a thread that does not run now.
    pub(crate) fn park(&self, ticket: Ticket, vcpu: Vcpu, saved: &Saved) {
        let mut state = self.state();
        state.running.remove(&ticket);
        let saved = saved.clone();
        state.parked.insert(ticket, Parked { vcpu, saved });
        self.news.notify_all();
    }

    /// Looks at the virtual CPU of a parked thread, if it was not taken.
    pub(crate) fn look<T>(&self, ticket: Ticket, look: impl FnOnce(&Vcpu) -> T) -> Option<T> {
        self.state()
            .parked
            .get(&ticket)
            .map(|parked| look(&parked.vcpu))
    }

    /// Gives up the virtual CPUs that are free. Older kernels take long to let another thread run one.
    pub(crate) fn drop_free(&self) {
        let mut state = self.state();
        state.given_up += state.free.len() as u32;
        state.free.clear();
    }

    /// The virtual CPU that the thread has just taken is of no use and is dropped.
    pub(crate) fn lose(&self, ticket: Ticket) {
        let mut state = self.state();
        state.running.remove(&ticket);
        state.given_up += 1;
        self.news.notify_all();
    }

    /// The thread is gone.
    pub(crate) fn forget(&self, ticket: Ticket, vcpu: Option<Vcpu>) {
        let mut state = self.state();
        state.running.remove(&ticket);
        let parked = state.parked.remove(&ticket).map(|parked| parked.vcpu);
        state.free.extend(vcpu.or(parked));
        self.news.notify_all();
    }
}

impl State {
    /// How many virtual CPUs there are, with those that are being made.
    fn there(&self) -> u32 {
        self.made - self.given_up - self.failed.len() as u32
    }

    /// The number of a virtual CPU to be made.
    fn number(&mut self) -> Option<Block> {
        if let Some(block) = self.failed.pop() {
            return Some(block);
        }
        let block = Block(self.made);
        (self.made < VCPUS_MAX).then(|| {
            self.made += 1;
            block
        })
    }

    /// A virtual CPU could not be made.
    fn not_made(&mut self, block: Block, error: &PlatformError) {
        match error.raw_os_error() {
            // KVM has it, but it was not got ready.
            Some(libc::EEXIST) => self.given_up += 1,
            _ => self.failed.push(block),
        }
    }
}

/// A virtual CPU that is free, or of a thread that is parked.
fn available(state: &mut State) -> Option<io::Result<Vcpu>> {
    if let Some(vcpu) = state.free.pop() {
        return Some(Ok(vcpu));
    }
    let (ticket, parked) = state.parked.pop_first()?;
    let saved = match parked.vcpu.xstate() {
        Ok(saved) => saved,
        Err(error) => {
            state.parked.insert(ticket, parked);
            return Some(Err(error));
        }
    };
    // What was written to the thread meanwhile is newer.
    parked
        .saved
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get_or_insert(saved);
    Some(Ok(parked.vcpu))
}

/// Asks the next running thread to make room.
fn turn(state: &mut State) {
    let after = Ticket(state.turned + 1);
    let next = state.running.range(after..).next();
    if let Some((ticket, kicker)) = next.or_else(|| state.running.iter().next()) {
        kicker.ring();
        let Ticket(number) = *ticket;
        state.turned = number;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever the host lacked: the next thread tries again, and there are as many as there may be once it
    /// works.
    #[test]
    fn virtual_cpus_that_could_not_be_made_take_no_room() {
        let pool = Pool::new(2);
        let signal = crate::KickSignal::install().unwrap();
        let kicker = Arc::new(Kicker::new(Arc::default(), signal));
        for attempt in 0..10 {
            let ticket = pool.ticket();
            let mut numbers = Vec::new();
            let taken = pool.take(ticket, &kicker, |Block(number)| {
                numbers.push(number);
                Err(PlatformError::from(io::Error::from_raw_os_error(
                    match attempt {
                        5 => libc::EEXIST,
                        _ => libc::EMFILE,
                    },
                )))
            });
            assert!(taken.is_err());
            // A number that KVM knows already is not tried again.
            assert_eq!(numbers, [u32::from(attempt > 5)]);
            assert_eq!(pool.state().there(), 0);
            assert!(!pool.is_wanted());
        }
    }
}
