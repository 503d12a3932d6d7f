//! What the kernel has for one guest thread, from whichever worker took it out: a queue, and an event counter
//! (eventfd) that wakes its reader and can be polled.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use varve_core::event::{HostCall, OpId};
use varve_core::machine::{Regs, SpaceId};

/// One thing for a worker to do.
#[derive(Debug)]
pub(crate) enum Message {
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
    messages: Mutex<VecDeque<Message>>,
    wakeup: OwnedFd,
}

impl Mailbox {
    pub(crate) fn new() -> io::Result<Mailbox> {
        let wakeup = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Mailbox {
            messages: Mutex::new(VecDeque::with_capacity(4)),
            wakeup,
        })
    }

    fn messages(&self) -> MutexGuard<'_, VecDeque<Message>> {
        // A panic elsewhere cannot leave a queue half-changed.
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a message in. `wakes`: its reader is another host thread and may be waiting.
    pub(crate) fn post(&self, message: Message, wakes: bool) {
        self.messages().push_back(message);
        if wakes {
            let _ = rustix::io::write(&self.wakeup, &1u64.to_ne_bytes());
        }
    }

    /// Takes the next message if there is one.
    pub(crate) fn try_take(&self) -> Option<Message> {
        self.messages().pop_front()
    }

    /// Whether nothing is in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.messages().is_empty()
    }

    /// Takes the next message, waiting for it.
    pub(crate) fn wait(&self) -> Message {
        loop {
            if let Some(message) = self.messages().pop_front() {
                return message;
            }
            let mut fds = [PollFd::new(&self.wakeup, PollFlags::IN)];
            let _ = poll(&mut fds, None);
            self.clear_wakeup();
        }
    }

    /// Clears the counter: what raised it will be looked at now.
    pub(crate) fn clear_wakeup(&self) {
        let _ = rustix::io::read(&self.wakeup, &mut [0; 8]);
    }

    /// Whether an operation should be given up: it was cancelled (that message is taken) or the thread is to
    /// end.
    pub(crate) fn gives_up(&self, op: OpId) -> bool {
        let mut messages = self.messages();
        let cancelled = messages
            .iter()
            .position(|message| matches!(message, Message::Cancel(id) if *id == op));
        if let Some(index) = cancelled {
            messages.remove(index);
            return true;
        }
        messages
            .iter()
            .any(|message| matches!(message, Message::End))
    }

    /// Readable when something was posted that wakes.
    pub(crate) fn wakeup(&self) -> BorrowedFd<'_> {
        self.wakeup.as_fd()
    }
}
