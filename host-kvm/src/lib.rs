//! Runs guest threads on KVM virtual CPUs.
//!
//! ```no_run
//! use std::sync::Arc;
//! use varve_host::{Backings, MemoryFile};
//! use varve_host_kvm::{KickSignal, Kvm, Limits};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let memory = MemoryFile::new(1 << 18)?;
//! let backings = Arc::new(Backings::new(memory.fd().try_clone_to_owned()?, Vec::new()));
//! // The one thing that it needs of the whole process, so the process has to say so.
//! let signal = KickSignal::install()?;
//! let host = Kvm::new(backings, Limits::default(), signal)?;
//! println!("leaving a guest takes {:?}", host.crossing());
//! # Ok(())
//! # }
//! ```
//!
//! One virtual machine for each sandbox. It has no devices, no interrupts and no kernel: programs run in user
//! mode of a virtual CPU, in page tables that this host writes, and every way out of user mode leads through
//! a one-instruction stub to varve (`area`). Guest-physical memory is the memory file and the image files
//! themselves.
//!
//! * `area` - the fixed pages above the guest's addresses: stubs, descriptor tables, task state
//! * `window` - guest-physical ranges that are ranges of varve's memory
//! * `tables` - guest page tables, and what KVM has to forget when they change
//! * `memory` - all of that behind one lock
//! * `vcpu` - a virtual CPU: a context loaded whole, stored whole
//! * `pool` - virtual CPUs for guest threads
//! * `kick` - getting a thread out of the guest
//! * `trap` - exceptions as Linux reports them
//! * `exits` - how often guests were left, and why
//! * `cpuid` - what guests learn of the processor
//! * `thread` - a guest thread: run until the next trap
//! * `probe` - whether KVM works here, and what leaving the guest costs
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

mod area;
mod cpuid;
mod exits;
mod kick;
mod memory;
mod pool;
mod probe;
mod tables;
mod thread;
mod trap;
mod vcpu;
mod window;

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kvm_bindings::KVM_MAX_CPUID_ENTRIES;
use kvm_ioctls::{Cap, VmFd};
use varve_core::machine::{Backing, Prot, SpaceId};
use varve_host::{Backings, Grace, Platform, PlatformError, failed};

use area::Block;
use cpuid::Features;
use exits::Exits;
pub use kick::KickSignal;
use memory::Memory;
use pool::Pool;
use tables::Table;
pub use thread::Thread;
use vcpu::Vcpu;

/// The one version of KVM's interface that there has been since Linux 2.6.22 (`KVM_GET_API_VERSION`).
const API_VERSION: i32 = 12;

/// What a virtual machine needs of KVM, and what it is called in messages.
const NEEDED: [(Cap, &str); 4] = [
    (Cap::UserMemory, "KVM_CAP_USER_MEMORY"),
    (Cap::ReadonlyMem, "KVM_CAP_READONLY_MEM"),
    (Cap::SyncRegs, "KVM_CAP_SYNC_REGS"),
    (Cap::ImmediateExit, "KVM_CAP_IMMEDIATE_EXIT"),
];

/// The virtual machine of a sandbox.
pub(crate) struct Sandbox {
    // Dropped before the memory that it shows.
    pool: Pool,
    vm: VmFd,
    memory: Mutex<Memory>,
    features: Features,
    grace: Arc<Grace>,
    signal: KickSignal,
    /// Of threads that have ended.
    exits: Mutex<Exits>,
    /// This KVM enters the system call stub in user mode, so that user mode must be let out through its port.
    stub_port: AtomicBool,
}

/// An address space.
pub(crate) struct Space {
    root: Table,
    /// Something was run in it, so KVM may have derived something from its page tables.
    ran: AtomicBool,
}

/// The KVM host.
pub struct Kvm {
    sandbox: Arc<Sandbox>,
    spaces: Mutex<HashMap<SpaceId, Arc<Space>>>,
    crossing: Duration,
    /// Guests read the host's time stamp counter.
    counter: bool,
}

/// How a virtual machine is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Most virtual CPUs; more guest threads than that take turns.
    pub vcpus: u32,
}

impl Default for Limits {
    /// As many as KVM allows.
    fn default() -> Limits {
        Limits {
            vcpus: area::VCPUS_MAX,
        }
    }
}

fn os_error(error: kvm_ioctls::Error) -> io::Error {
    io::Error::from_raw_os_error(error.errno())
}

impl Kvm {
    /// Makes a virtual machine over the files that guests map, and runs a few instructions in it to see that
    /// it works. `signal` gets threads out of it.
    ///
    /// # Errors
    /// There is no KVM, it may not be used, or guests do not run as they should: the error says what was
    /// tried and what came of it.
    pub fn new(
        backings: Arc<Backings>,
        limits: Limits,
        signal: KickSignal,
    ) -> Result<Kvm, PlatformError> {
        let sandbox = Arc::new(Sandbox::new(backings, limits, signal)?);
        let probe::Found { crossing, counter } =
            probe::probe(&sandbox).map_err(|error| error.within("running a guest in KVM"))?;
        Ok(Kvm {
            sandbox,
            spaces: Mutex::new(HashMap::new()),
            crossing,
            counter,
        })
    }

    /// The time that one system call of a guest spends in leaving it and coming back, as measured when the
    /// machine was made.
    pub fn crossing(&self) -> Duration {
        self.crossing
    }

    fn spaces(&self) -> MutexGuard<'_, HashMap<SpaceId, Arc<Space>>> {
        // The map is whole at every point where a panic could happen.
        self.spaces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn space(&self, id: SpaceId) -> Result<Arc<Space>, PlatformError> {
        let found = self.spaces().get(&id).cloned();
        found.ok_or_else(|| PlatformError::Bug(format!("there is no address space {}", id.0)))
    }

    /// Does something with guest memory.
    fn change(
        &self,
        space: SpaceId,
        work: impl FnOnce(&mut Memory, &VmFd, &Space) -> Result<(), PlatformError>,
    ) -> Result<(), PlatformError> {
        let space = self.space(space)?;
        let result = work(&mut self.sandbox.memory(), &self.sandbox.vm, &space);
        result.map_err(failed("guest memory in KVM"))
    }
}

impl Sandbox {
    fn new(
        backings: Arc<Backings>,
        limits: Limits,
        signal: KickSignal,
    ) -> Result<Sandbox, PlatformError> {
        let kvm = kvm_ioctls::Kvm::new()
            .map_err(os_error)
            .map_err(failed("/dev/kvm"))?;
        let version = kvm.get_api_version();
        if version != API_VERSION {
            return Err(PlatformError::Host(format!(
                "/dev/kvm: no KVM that works: its version is {version}, not {API_VERSION}"
            )));
        }
        for (cap, name) in NEEDED {
            if !kvm.check_extension(cap) {
                return Err(PlatformError::Host(format!("/dev/kvm: no {name}")));
            }
        }
        let features = kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(os_error)
            .map_err(failed(
                "features of the processor (KVM_GET_SUPPORTED_CPUID)",
            ))?;
        let features = cpuid::features(features);
        // One is for the probe.
        let most = area::VCPUS_MAX
            .min(kvm.get_max_vcpus() as u32)
            .saturating_sub(1);
        let vcpus = limits.vcpus.clamp(1, most.max(1));
        let slots = kvm.get_nr_memslots() as u32;
        let vm = kvm
            .create_vm()
            .map_err(os_error)
            .map_err(failed("a virtual machine (KVM_CREATE_VM)"))?;
        let bits = features.address_bits;
        let grace = Arc::<Grace>::default();
        let memory = Memory::new(&vm, backings, grace.clone(), slots, bits);
        let memory = memory.map_err(failed("guest memory"))?;
        Ok(Sandbox {
            pool: Pool::new(vcpus),
            vm,
            memory: Mutex::new(memory),
            features,
            grace,
            signal,
            exits: Mutex::default(),
            stub_port: AtomicBool::new(true),
        })
    }

    pub(crate) fn memory(&self) -> MutexGuard<'_, Memory> {
        // Whoever panicked in there has left page tables that nobody should run in: that panic ends the run,
        // and until it has, whoever comes here too.
        self.memory.lock().expect("page tables that are whole") // INVARIANT: poisoned by another panic alone
    }

    pub(crate) fn new_vcpu(&self, block: Block) -> Result<Vcpu, PlatformError> {
        self.memory()
            .set_up_block(block, self.stub_port.load(Ordering::SeqCst));
        Vcpu::new(&self.vm, block, &self.features)
    }

    /// System calls leave the guest from ring 0 here: no port is open to programs.
    pub(crate) fn close_stub_port(&self, thread: &Thread) {
        self.stub_port.store(false, Ordering::SeqCst);
        if let Some(block) = thread.block() {
            self.memory().set_up_block(block, false);
        }
    }

    /// The floating-point state of a fresh program.
    pub(crate) fn fresh_xstate(&self) -> Vec<u8> {
        varve_host::fresh_xstate(self.features.xstate_size)
    }
}

impl Platform for Kvm {
    type Thread = Thread;

    fn name(&self) -> &'static str {
        "kvm"
    }

    fn shares_counter(&self) -> bool {
        self.counter
    }

    /// Guests have page tables of their own.
    fn lowest_address(&self) -> u64 {
        0
    }

    fn grace(&self) -> &Arc<Grace> {
        &self.sandbox.grace
    }

    fn create_space(&self, space: SpaceId) -> Result<(), PlatformError> {
        let root = self.sandbox.memory().create(&self.sandbox.vm);
        let root = root.map_err(failed("an address space in KVM"))?;
        let ran = AtomicBool::new(false);
        self.spaces().insert(space, Arc::new(Space { root, ran }));
        Ok(())
    }

    fn drop_space(&self, space: SpaceId) {
        if let Some(space) = self.spaces().remove(&space) {
            self.sandbox.memory().drop_space(space.root);
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
        self.change(space, |memory, vm, space| {
            let range = (addr, len);
            let mapped = memory.map(vm, space.root, range, backing, prot, &space.ran);
            if mapped.is_err() {
                // Not what was there before, in any case.
                memory.unmap(vm, space.root, range, &space.ran)?;
            }
            mapped
        })
    }

    fn unmap(&self, space: SpaceId, addr: u64, len: u64) -> Result<(), PlatformError> {
        self.change(space, |memory, vm, space| {
            memory.unmap(vm, space.root, (addr, len), &space.ran)
        })
    }

    fn protect(
        &self,
        space: SpaceId,
        addr: u64,
        len: u64,
        prot: Prot,
    ) -> Result<(), PlatformError> {
        self.change(space, |memory, vm, space| {
            memory.protect(vm, space.root, (addr, len), prot, &space.ran)
        })
    }

    fn flush(&self) -> Result<(), PlatformError> {
        let result = self.sandbox.memory().flush(&self.sandbox.vm);
        result.map_err(failed("guest memory in KVM"))
    }

    fn new_thread(&self, space: SpaceId) -> Result<Thread, PlatformError> {
        self.sandbox.signal.unblock();
        Ok(Thread::new(self.sandbox.clone(), self.space(space)?))
    }

    fn prepare_sibling(&self, _: &mut Thread, _: SpaceId) -> Result<(), PlatformError> {
        Ok(())
    }

    fn enter(&self, thread: &mut Thread, space: SpaceId) -> Result<(), PlatformError> {
        thread.enter(self.space(space)?)
    }

    fn report(&self) -> Option<String> {
        let exits = self.sandbox.exits.lock();
        Some(exits.unwrap_or_else(PoisonError::into_inner).report())
    }

    fn xstate_size(&self) -> usize {
        self.sandbox.features.xstate_size
    }
}
