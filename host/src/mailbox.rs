//! What the kernel has for one guest thread, from whichever worker took it out: a queue with a bell that can
//! be polled for.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use varve_core::event::{HostCall, OpId};
use varve_core::machine::{Regs, SpaceId};

/// One thing for a worker to do.
#[derive(Debug)]
pub(crate) enum Letter {
    /// Run with these registers.
    Resume(Regs),
    /// Move into another address space.
    Move(SpaceId),
    /// Do a host operation.
    Host(OpId, HostCall),
    /// Give one up.
    Cancel(OpId),
    /// End the thread.
    End,
}

/// The mailbox of a worker.
pub(crate) struct Mailbox {
    letters: Mutex<VecDeque<Letter>>,
    bell: OwnedFd,
}

impl Mailbox {
    pub(crate) fn new() -> io::Result<Mailbox> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Mailbox {
            letters: Mutex::new(VecDeque::with_capacity(4)),
            bell,
        })
    }

    fn letters(&self) -> MutexGuard<'_, VecDeque<Letter>> {
        // A panic elsewhere cannot leave a queue half-changed.
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a letter in. `ring`: its reader is another host thread and may be waiting.
    pub(crate) fn post(&self, letter: Letter, ring: bool) {
        self.letters().push_back(letter);
        if ring {
            let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
        }
    }

    /// Takes the next letter if there is one.
    pub(crate) fn try_take(&self) -> Option<Letter> {
        self.letters().pop_front()
    }

    /// Whether nothing is in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.letters().is_empty()
    }

    /// Takes the next letter, waiting for it.
    pub(crate) fn wait(&self) -> Letter {
        loop {
            if let Some(letter) = self.letters().pop_front() {
                return letter;
            }
            let mut fds = [PollFd::new(&self.bell, PollFlags::IN)];
            let _ = poll(&mut fds, None);
            self.hush();
        }
    }

    /// Silences the bell: what rang it will be looked at now.
    pub(crate) fn hush(&self) {
        let _ = rustix::io::read(&self.bell, &mut [0; 8]);
    }

    /// Whether an operation should be given up: it was cancelled (that letter is taken) or the thread is to
    /// end.
    pub(crate) fn gives_up(&self, op: OpId) -> bool {
        let mut letters = self.letters();
        let cancelled = letters
            .iter()
            .position(|letter| matches!(letter, Letter::Cancel(id) if *id == op));
        if let Some(index) = cancelled {
            letters.remove(index);
            return true;
        }
        letters.iter().any(|letter| matches!(letter, Letter::End))
    }

    /// Readable when something was posted with a ring.
    pub(crate) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}
