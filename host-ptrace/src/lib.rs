//! Runs guest threads as traced processes.
//!
//! ```no_run
//! use std::sync::Arc;
//! use varve_core::machine::{Backing, FrameNo, Prot, Regs, SpaceId, Trap};
//! use varve_core::port::Memory as _;
//! use varve_host::{Backings, GuestThread as _, MemoryFile, Platform as _};
//! use varve_host_ptrace::Ptrace;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // One page of a guest that makes one system call.
//! let mut memory = MemoryFile::new(1)?;
//! memory.write(0, &[0x0f, 0x05]);
//! let file = memory.fd().try_clone_to_owned()?;
//! let host = Ptrace::new(Arc::new(Backings::new(file, Vec::new())))?;
//! let space = SpaceId(0);
//! host.create_space(space)?;
//! let code = Backing::Memory(FrameNo(0));
//! host.map(space, 0x40_0000, 4096, code, Prot::READ | Prot::EXEC)?;
//! host.flush()?;
//! let mut thread = host.new_thread(space)?;
//! let mut regs = Regs { rip: 0x40_0000, cs: 0x33, ss: 0x2b, eflags: 0x202, ..Regs::default() };
//! assert_eq!(thread.run(&mut regs)?, Trap::Syscall);
//! # Ok(())
//! # }
//! ```
//!
//! A guest address space is the address space of a host process that holds nothing of the host but two pages
//! of stub above [`TASK_SIZE`](varve_core::abi::TASK_SIZE). Guest threads run under `PTRACE_SYSEMU`: a system
//! call stops the process before the host kernel does anything, so no guest system call reaches it. The
//! tracer is the worker thread of the guest thread, on the same core.
//!
//! Guests are child processes that nobody else in the process may wait for.
//!
//! * `stub` - the two pages: a loop that makes the system calls (`mmap` and the like) that page operations
//!   need
//! * `process` - a process as those see it who signal it
//! * `areas` - what the host has mapped, as its kernel counts it
//! * `tracee` - one traced process: making it, stopping it, its registers
//! * `zygote` - the process that the others are copied from
//! * `space` - page operations of an address space, queued until one of its threads runs
//! * `thread` - a guest thread: run until the next trap
#![cfg_attr(
    not(test),
    deny(
        clippy::exit,
        clippy::panic,
        clippy::print_stderr,
        clippy::print_stdout,
        clippy::unwrap_used
    )
)]

mod areas;
mod process;
mod space;
mod stub;
mod thread;
mod tracee;
mod zygote;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use varve_core::machine::{Backing, Prot, SpaceId};
use varve_host::{Backings, Grace, Platform, PlatformError, failed};

use space::{Limit, Operation, Space};
use stub::Batch;
pub use thread::Thread;
use zygote::Zygote;

/// The ptrace host.
pub struct Ptrace {
    backings: Arc<Backings>,
    batch: Arc<Batch>,
    zygote: Arc<Zygote>,
    spaces: Mutex<HashMap<SpaceId, Arc<Space>>>,
    grace: Arc<Grace>,
    areas: Arc<Limit>,
    xstate_size: usize,
    cpus: Vec<usize>,
    next_cpu: std::sync::atomic::AtomicUsize,
    lowest_address: u64,
}

impl Ptrace {
    /// Prepares the host; makes the first traced process, by which it sees that this is allowed and how large
    /// the floating-point state is.
    ///
    /// # Errors
    /// A host that does not permit ptrace: the error says what was refused.
    pub fn new(backings: Arc<Backings>) -> Result<Ptrace, PlatformError> {
        let batch = Arc::new(Batch::new().map_err(failed("stub pages"))?);
        let (zygote, xstate_size) = Zygote::start(&batch)?;
        Ok(Ptrace {
            backings,
            batch,
            zygote: Arc::new(zygote),
            spaces: Mutex::new(HashMap::new()),
            grace: Arc::default(),
            areas: Arc::new(Limit::of_host()),
            xstate_size,
            cpus: tracee::allowed_cpus(),
            next_cpu: std::sync::atomic::AtomicUsize::new(0),
            lowest_address: lowest_address(),
        })
    }

    fn spaces(&self) -> MutexGuard<'_, HashMap<SpaceId, Arc<Space>>> {
        // The map is whole at every point where a panic could happen.
        self.spaces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn space(&self, id: SpaceId) -> Result<Arc<Space>, PlatformError> {
        let found = self.spaces().get(&id).cloned();
        found.ok_or_else(|| PlatformError::Bug(format!("there is no address space {}", id.0)))
    }

    fn queue(&self, id: SpaceId, operation: Operation) -> Result<(), PlatformError> {
        self.space(id)?.queue(operation);
        Ok(())
    }
}

/// The lowest address that processes of the host can map without privileges.
fn lowest_address() -> u64 {
    let setting = std::fs::read_to_string("/proc/sys/vm/mmap_min_addr").ok();
    let setting = setting.and_then(|text| text.trim().parse().ok());
    setting.unwrap_or(varve_core::abi::MMAP_MIN_ADDR)
}

impl Platform for Ptrace {
    type Thread = Thread;

    fn name(&self) -> &'static str {
        "ptrace"
    }

    fn shares_counter(&self) -> bool {
        true
    }

    /// Guests' pages are mappings of the host.
    fn lowest_address(&self) -> u64 {
        self.lowest_address
    }

    fn grace(&self) -> &Arc<Grace> {
        &self.grace
    }

    fn create_space(&self, space: SpaceId) -> Result<(), PlatformError> {
        let made = Arc::new(Space::new(self.grace.clone(), self.areas.clone()));
        self.spaces().insert(space, made);
        Ok(())
    }

    fn drop_space(&self, space: SpaceId) {
        if let Some(space) = self.spaces().remove(&space) {
            space.drop_all();
        }
    }

    fn map(
        &self,
        space: SpaceId,
        addr: u64,
        len: u64,
        backing: Backing,
        prot: Prot,
    ) -> Result<(), PlatformError> {
        self.queue(
            space,
            Operation::Map {
                addr,
                len,
                backing,
                prot,
            },
        )
    }

    fn unmap(&self, space: SpaceId, addr: u64, len: u64) -> Result<(), PlatformError> {
        self.queue(space, Operation::Unmap { addr, len })
    }

    fn protect(
        &self,
        space: SpaceId,
        addr: u64,
        len: u64,
        prot: Prot,
    ) -> Result<(), PlatformError> {
        self.queue(space, Operation::Protect { addr, len, prot })
    }

    fn new_thread(&self, space: SpaceId) -> Result<Thread, PlatformError> {
        use std::sync::atomic::Ordering;
        let cpu = match self.cpus.len() {
            0 => None,
            count => Some(self.cpus[self.next_cpu.fetch_add(1, Ordering::Relaxed) % count]),
        };
        let place = self.space(space)?;
        Thread::new(
            self.backings.clone(),
            self.batch.clone(),
            self.zygote.clone(),
            place,
            self.xstate_size,
            cpu,
        )
    }

    fn prepare_sibling(&self, parent: &mut Thread, space: SpaceId) -> Result<(), PlatformError> {
        parent.leave_sibling(&self.space(space)?)
    }

    fn enter(&self, thread: &mut Thread, space: SpaceId) -> Result<(), PlatformError> {
        thread.enter(self.space(space)?)
    }

    fn xstate_size(&self) -> usize {
        self.xstate_size
    }
}
