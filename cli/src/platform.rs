//! Which host runs guests, chosen when a sandbox starts.

use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use varve_core::event::Level;
use varve_core::machine::{Backing, Prot, Regs, SpaceId, Trap};
use varve_host::{
    Backings, Grace, GuestThread, Interrupter, Platform, PlatformError, Sink, SinkLine,
};
use varve_host_kvm::{Kvm, Limits};
use varve_host_ptrace::Ptrace;

/// What runs guest threads.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PlatformName {
    /// The fastest one that works here: KVM with hardware virtualisation, else ptrace.
    Auto,
    /// Virtual CPUs of KVM.
    Kvm,
    /// Traced processes.
    Ptrace,
}

/// Where leaving a guest costs more than this, ptrace is the faster host.
pub(crate) const CROSSING_MAX: Duration = Duration::from_micros(8);

/// Whether the processor virtualises (VMX or SVM). Other kinds of KVM work, but leaving a guest costs more
/// there than under ptrace.
pub(crate) fn has_hardware_virtualisation() -> bool {
    use std::arch::x86_64::__cpuid;
    const VMX: u32 = 1 << 5;
    const SVM: u32 = 1 << 2;
    const EXTENDED: u32 = 0x8000_0001;
    let extended = __cpuid(0x8000_0000).eax >= EXTENDED;
    __cpuid(1).ecx & VMX != 0 || extended && __cpuid(EXTENDED).ecx & SVM != 0
}

/// A host.
pub(crate) enum Host {
    Kvm(Kvm),
    Ptrace(Ptrace),
}

impl Host {
    /// Makes the host of that name over the files that guests map. What was tried in vain goes into the log.
    ///
    /// # Errors
    /// The host that was asked for does not work here, or none does.
    pub(crate) fn make(
        name: PlatformName,
        backings: Arc<Backings>,
        sink: &mut Sink,
    ) -> Result<Host, PlatformError> {
        match name {
            PlatformName::Kvm => Kvm::new(backings, Limits::default()).map(Host::Kvm),
            PlatformName::Ptrace => Ptrace::new(backings).map(Host::Ptrace),
            PlatformName::Auto => Host::best(backings, sink),
        }
    }

    fn best(backings: Arc<Backings>, sink: &mut Sink) -> Result<Host, PlatformError> {
        let mut log = |level, line: String| sink(SinkLine::Log(level, &line));
        let mut slow = None;
        if has_hardware_virtualisation() {
            match Kvm::new(backings.clone(), Limits::default()) {
                Ok(kvm) if kvm.crossing() <= CROSSING_MAX => return Ok(Host::Kvm(kvm)),
                Ok(kvm) => {
                    let cost = kvm.crossing().as_micros();
                    log(
                        Level::Info,
                        format!("kvm: leaving a guest takes {cost} us here; ptrace is used"),
                    );
                    slow = Some(kvm);
                }
                Err(error) => log(Level::Warn, format!("kvm: {error}; ptrace is used")),
            }
        }
        match Ptrace::new(backings.clone()) {
            Ok(ptrace) => Ok(Host::Ptrace(ptrace)),
            Err(error) => {
                log(Level::Warn, format!("ptrace: {error}; kvm is used"));
                match slow {
                    Some(kvm) => Ok(Host::Kvm(kvm)),
                    None => match Kvm::new(backings, Limits::default()) {
                        Ok(kvm) => Ok(Host::Kvm(kvm)),
                        Err(second) => Err(PlatformError::Host(format!(
                            "no platform works here: ptrace: {error}; kvm: {second}"
                        ))),
                    },
                }
            }
        }
    }
}

/// A guest thread on one of them.
pub(crate) enum HostThread {
    Kvm(varve_host_kvm::Thread),
    Ptrace(varve_host_ptrace::Thread),
}

/// Does the same on whichever host it is.
macro_rules! on {
    ($host:expr, $it:ident => $work:expr) => {
        match $host {
            Host::Kvm($it) => $work,
            Host::Ptrace($it) => $work,
        }
    };
}

macro_rules! on_thread {
    ($thread:expr, $it:ident => $work:expr) => {
        match $thread {
            HostThread::Kvm($it) => $work,
            HostThread::Ptrace($it) => $work,
        }
    };
}

impl Platform for Host {
    type Thread = HostThread;

    fn name(&self) -> &'static str {
        on!(self, host => host.name())
    }

    fn shares_counter(&self) -> bool {
        on!(self, host => host.shares_counter())
    }

    fn lowest_address(&self) -> u64 {
        on!(self, host => host.lowest_address())
    }

    fn grace(&self) -> &Arc<Grace> {
        on!(self, host => host.grace())
    }

    fn create_space(&self, space: SpaceId) -> Result<(), PlatformError> {
        on!(self, host => host.create_space(space))
    }

    fn drop_space(&self, space: SpaceId) {
        on!(self, host => host.drop_space(space));
    }

    fn map(
        &self,
        space: SpaceId,
        addr: u64,
        len: u64,
        backing: Backing,
        prot: Prot,
    ) -> Result<(), PlatformError> {
        on!(self, host => host.map(space, addr, len, backing, prot))
    }

    fn unmap(&self, space: SpaceId, addr: u64, len: u64) -> Result<(), PlatformError> {
        on!(self, host => host.unmap(space, addr, len))
    }

    fn protect(
        &self,
        space: SpaceId,
        addr: u64,
        len: u64,
        prot: Prot,
    ) -> Result<(), PlatformError> {
        on!(self, host => host.protect(space, addr, len, prot))
    }

    fn settle(&self) -> Result<(), PlatformError> {
        on!(self, host => host.settle())
    }

    fn new_thread(&self, space: SpaceId) -> Result<HostThread, PlatformError> {
        match self {
            Host::Kvm(host) => host.new_thread(space).map(HostThread::Kvm),
            Host::Ptrace(host) => host.new_thread(space).map(HostThread::Ptrace),
        }
    }

    fn prepare_sibling(
        &self,
        parent: &mut HostThread,
        space: SpaceId,
    ) -> Result<(), PlatformError> {
        match (self, parent) {
            (Host::Kvm(host), HostThread::Kvm(thread)) => host.prepare_sibling(thread, space),
            (Host::Ptrace(host), HostThread::Ptrace(thread)) => host.prepare_sibling(thread, space),
            _ => Err(foreign()),
        }
    }

    fn enter(&self, thread: &mut HostThread, space: SpaceId) -> Result<(), PlatformError> {
        match (self, thread) {
            (Host::Kvm(host), HostThread::Kvm(thread)) => host.enter(thread, space),
            (Host::Ptrace(host), HostThread::Ptrace(thread)) => host.enter(thread, space),
            _ => Err(foreign()),
        }
    }

    fn report(&self) -> Option<String> {
        on!(self, host => host.report())
    }

    fn xstate_size(&self) -> usize {
        on!(self, host => host.xstate_size())
    }
}

/// A thread of one host was given to the other, which nothing does.
fn foreign() -> PlatformError {
    PlatformError::Bug("a guest thread of another platform".into())
}

impl GuestThread for HostThread {
    fn run(&mut self, regs: &mut Regs) -> Result<Trap, PlatformError> {
        on_thread!(self, thread => thread.run(regs))
    }

    fn read_xstate(&mut self, buf: &mut [u8]) -> Result<(), PlatformError> {
        on_thread!(self, thread => thread.read_xstate(buf))
    }

    fn write_xstate(&mut self, buf: &[u8]) -> Result<bool, PlatformError> {
        on_thread!(self, thread => thread.write_xstate(buf))
    }

    fn reset_xstate(&mut self) -> Result<(), PlatformError> {
        on_thread!(self, thread => thread.reset_xstate())
    }

    fn park(&mut self) {
        on_thread!(self, thread => thread.park());
    }

    fn interrupter(&self) -> Arc<dyn Interrupter> {
        on_thread!(self, thread => thread.interrupter())
    }
}
