//! What a host must be able to do with address spaces and guest threads.

use std::sync::Arc;

use varve_core::machine::{Backing, Prot, Regs, SpaceId, Trap};

use crate::grace::Grace;

/// Something that the platform could not do. It ends the guest thread, or the run where there is none yet.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub struct PlatformError {
    /// What was tried.
    pub what: String,
    /// What the host's kernel said.
    pub source: std::io::Error,
}

/// An execution host.
///
/// Page operations are asked for under the kernel lock, in order. [`settle`](Self::settle) ends a row of
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
    fn settle(&self) -> Result<(), PlatformError> {
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
