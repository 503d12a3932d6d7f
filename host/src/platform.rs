//! What a host must be able to do with address spaces and guest threads.

use std::io;
use std::sync::Arc;

use varve_core::machine::{Backing, Prot, Regs, SpaceId, Trap};

use crate::grace::Grace;

/// Something that a platform could not do, and whose fault that is. It ends the guest thread, or the run
/// where there is none yet.
///
/// The text of an error has everything that is known; there is no source behind it.
#[derive(Debug, thiserror::Error)]
pub enum PlatformError {
    /// The caller's: what it asks for cannot be done on any host.
    #[error("{0}")]
    Config(String),
    /// The host's: it lacks a feature, a permission or room.
    #[error("{0}")]
    Host(String),
    /// The guest's: what it does cannot be carried out for it.
    #[error("{0}")]
    Guest(String),
    /// Ours: a bug of varve.
    #[error("{0} (a bug of varve)")]
    Bug(String),
    /// The host's kernel refused something that it does elsewhere; the error says why.
    #[error("{}{error}", prefix(.what))]
    Io {
        /// What was tried.
        what: String,
        /// What the host's kernel said.
        error: io::Error,
    },
}

fn prefix(what: &str) -> String {
    match what {
        "" => String::new(),
        what => format!("{what}: "),
    }
}

impl From<io::Error> for PlatformError {
    /// An error of which [`within`](PlatformError::within) has yet to say what was tried.
    fn from(error: io::Error) -> PlatformError {
        let what = String::new();
        PlatformError::Io { what, error }
    }
}

impl PlatformError {
    /// The same error with what was tried when it came up, before what it says already.
    #[must_use]
    pub fn within(self, what: &str) -> PlatformError {
        let behind = |text| format!("{what}: {text}");
        match self {
            PlatformError::Config(text) => PlatformError::Config(behind(text)),
            PlatformError::Host(text) => PlatformError::Host(behind(text)),
            PlatformError::Guest(text) => PlatformError::Guest(behind(text)),
            PlatformError::Bug(text) => PlatformError::Bug(behind(text)),
            PlatformError::Io { what: inner, error } => {
                let what = match inner.is_empty() {
                    true => what.to_owned(),
                    false => behind(inner),
                };
                PlatformError::Io { what, error }
            }
        }
    }

    /// The number of the error (`errno`) where the host's kernel gave one.
    pub fn raw_os_error(&self) -> Option<i32> {
        match self {
            PlatformError::Io { error, .. } => error.raw_os_error(),
            _ => None,
        }
    }
}

/// Says of an error what was tried: for `map_err`.
pub fn failed<E: Into<PlatformError>>(what: &str) -> impl FnOnce(E) -> PlatformError {
    move |error| error.into().within(what)
}

/// An execution host.
///
/// Page operations are asked for under the kernel lock, in order. [`flush`](Self::flush) ends a row of
/// them: they are in force for a guest thread of that space when it is run again, and a thread of the space
/// that runs right now sees them soon. Until it has, the platform [holds](Grace::hold) the batch, as it does
/// for threads that run in a space that is dropped: nobody gets the frames before.
///
/// What a platform has mapped is a cache of what the core knows. It may drop pages if it can tell what an
/// access wants; the next fault brings them back. Where it lacks room for an operation nothing runs in that
/// space any more: [`GuestThread::run`] gives [`Trap::Crowded`], and the core takes all pages away. An
/// operation that fails otherwise takes pages away rather than leave what was there, or the space can no
/// longer be run.
pub trait Platform: Send + Sync + 'static {
    /// A guest thread as its worker holds it.
    type Thread: GuestThread;

    /// A short name, such as `ptrace`.
    fn name(&self) -> &'static str;
    /// Whether guests read the same time stamp counter as the host: only then can they tell the time by
    /// themselves.
    fn shares_counter(&self) -> bool {
        false
    }
    /// The lowest address that guests can have pages at.
    fn lowest_address(&self) -> u64;
    /// Which batches of outputs are in force.
    fn grace(&self) -> &Arc<Grace>;
    /// Makes an empty address space.
    ///
    /// # Errors
    /// The host has no room for it; threads cannot be made in it.
    fn create_space(&self, space: SpaceId) -> Result<(), PlatformError>;
    /// Forgets an address space. Its threads have been ended, but may not have been seen stopped.
    fn drop_space(&self, space: SpaceId);
    /// Maps pages, replacing what was there.
    ///
    /// # Errors
    /// The pages cannot be shown to guests, who will fault on them.
    fn map(
        &self,
        space: SpaceId,
        addr: u64,
        len: u64,
        backing: Backing,
        prot: Prot,
    ) -> Result<(), PlatformError>;
    /// Unmaps pages.
    ///
    /// # Errors
    /// The host refuses something; the pages are gone all the same.
    fn unmap(&self, space: SpaceId, addr: u64, len: u64) -> Result<(), PlatformError>;
    /// Changes the protection of pages that are mapped.
    ///
    /// # Errors
    /// As [`unmap`](Self::unmap).
    fn protect(&self, space: SpaceId, addr: u64, len: u64, prot: Prot)
    -> Result<(), PlatformError>;
    /// Ends a batch of page operations.
    ///
    /// # Errors
    /// They could not be put in force: no guest may run any more.
    fn flush(&self) -> Result<(), PlatformError> {
        Ok(())
    }
    /// Makes a thread in a space. Called on the worker that will run it. Its floating-point state is fresh.
    fn new_thread(&self, space: SpaceId) -> Result<Self::Thread, PlatformError>;
    /// Called on the worker of `parent` before [`new_thread`](Self::new_thread) is called on another one for
    /// the same space: a place where a platform can do what only that worker may.
    fn prepare_sibling(
        &self,
        parent: &mut Self::Thread,
        space: SpaceId,
    ) -> Result<(), PlatformError>;
    /// Moves a thread into another space, on its worker; its floating-point state is fresh afterwards.
    fn enter(&self, thread: &mut Self::Thread, space: SpaceId) -> Result<(), PlatformError>;
    /// What was counted during the run, for the log.
    fn report(&self) -> Option<String> {
        None
    }
    /// Size of the floating-point state in bytes.
    fn xstate_size(&self) -> usize;
}

/// A guest thread. All methods are called on its worker.
pub trait GuestThread {
    /// Lets the thread run with these registers until it traps; they are then those of the trap.
    fn run(&mut self, regs: &mut Regs) -> Result<Trap, PlatformError>;
    /// Reads the floating-point state in `XSAVE` format.
    fn read_xstate(&mut self, buf: &mut [u8]) -> Result<(), PlatformError>;
    /// Replaces the floating-point state; `false` if the processor refuses it.
    fn write_xstate(&mut self, buf: &[u8]) -> Result<bool, PlatformError>;
    /// Sets the floating-point state of a fresh program.
    fn reset_xstate(&mut self) -> Result<(), PlatformError>;
    /// Says that the thread will not run for a while, so that a platform can give what it runs on to others.
    /// Its state is kept.
    fn park(&mut self) {}
    /// What other threads use to stop it.
    fn interrupter(&self) -> Arc<dyn Interrupter>;
}

/// Stops a guest thread from another host thread.
pub trait Interrupter: Send + Sync {
    /// Makes the current or next [`GuestThread::run`] return [`Trap::Interrupted`] soon.
    fn interrupt(&self);
    /// Makes the current and every later [`GuestThread::run`] return [`Trap::Lost`].
    fn kill(&self);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_was_tried_and_whose_fault_it_is() {
        let refused = io::Error::from_raw_os_error(1);
        let text = refused.to_string();
        let error = failed("a process")(refused).within("the first guest");
        assert_eq!(
            error.to_string(),
            format!("the first guest: a process: {text}")
        );
        assert_eq!(error.raw_os_error(), Some(1));
        let error = failed("guest memory")(PlatformError::Config("too much".into()));
        assert_eq!(error.to_string(), "guest memory: too much");
        assert!(matches!(error, PlatformError::Config(_)));
        let bug = PlatformError::Bug("no space 3".into()).within("a thread");
        assert_eq!(bug.to_string(), "a thread: no space 3 (a bug of varve)");
    }
}
