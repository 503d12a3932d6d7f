//! Which platform runs a sandbox.

use std::arch::x86_64::__cpuid;
use std::sync::Arc;
use std::time::Duration;

use varve_core::event::Level;
use varve_host::{AnyPlatform, Backings, PlatformError, Sink, SinkLine, crossing};
use varve_host_kvm::{KickSignal, Kvm, Limits};
use varve_host_ptrace::Ptrace;

/// What runs guest threads.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum PlatformChoice {
    /// The fastest one that works here: KVM with hardware virtualisation, else ptrace.
    #[default]
    Auto,
    /// Virtual CPUs of KVM.
    Kvm,
    /// Traced processes.
    Ptrace,
}

/// Where leaving a guest costs more than this, ptrace is the faster host.
const CROSSING_MAX: Duration = Duration::from_micros(8);

/// Whether the processor virtualises (VMX or SVM). Other kinds of KVM work, but leaving a guest costs more
/// there than under ptrace.
fn has_hardware_virtualisation() -> bool {
    const VMX: u32 = 1 << 5;
    const SVM: u32 = 1 << 2;
    const EXTENDED: u32 = 0x8000_0001;
    let extended = __cpuid(0x8000_0000).eax >= EXTENDED;
    __cpuid(1).ecx & VMX != 0 || extended && __cpuid(EXTENDED).ecx & SVM != 0
}

/// Makes a platform over the files that guests map. What was tried in vain goes into the log.
pub(crate) fn make(
    choice: PlatformChoice,
    signal: Option<KickSignal>,
    backings: Arc<Backings>,
    log: &mut Sink,
) -> Result<AnyPlatform, PlatformError> {
    match choice {
        PlatformChoice::Kvm => kvm(backings, signal).map(AnyPlatform::from),
        PlatformChoice::Ptrace => Ptrace::new(backings).map(AnyPlatform::from),
        PlatformChoice::Auto => best(signal, backings, log),
    }
}

fn kvm(backings: Arc<Backings>, signal: Option<KickSignal>) -> Result<Kvm, PlatformError> {
    let missing = || PlatformError::Config("no signal may be used for it (kick_signal)".into());
    Kvm::new(backings, Limits::default(), signal.ok_or_else(missing)?)
}

fn best(
    signal: Option<KickSignal>,
    backings: Arc<Backings>,
    log: &mut Sink,
) -> Result<AnyPlatform, PlatformError> {
    let mut log = |level, line: String| log(SinkLine::Log(level, &line));
    let mut slow = None;
    if has_hardware_virtualisation() && signal.is_some() {
        match kvm(backings.clone(), signal) {
            Ok(kvm) if kvm.crossing() <= CROSSING_MAX => return Ok(kvm.into()),
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
    let error = match Ptrace::new(backings.clone()) {
        Ok(ptrace) => return Ok(ptrace.into()),
        Err(error) => error,
    };
    log(Level::Warn, format!("ptrace: {error}; kvm is used"));
    let tried = slow.map_or_else(|| kvm(backings, signal), Ok);
    tried.map(AnyPlatform::from).map_err(|second| {
        PlatformError::Host(format!(
            "no platform works here: ptrace: {error}; kvm: {second}"
        ))
    })
}

/// What works on this machine.
#[derive(Debug)]
#[non_exhaustive]
pub struct Survey {
    /// The processor virtualises; leaving a guest of KVM is slow without that.
    pub hardware_virtualisation: bool,
    /// What one system call costs on KVM, or why it does not work.
    pub kvm: Result<Duration, PlatformError>,
    /// What one system call costs on ptrace, or why it does not work.
    pub ptrace: Result<Duration, PlatformError>,
}

impl Survey {
    /// What [`PlatformChoice::Auto`] is here; `None` where nothing works.
    pub fn auto(&self) -> Option<PlatformChoice> {
        let fast =
            matches!(self.kvm, Ok(cost) if self.hardware_virtualisation && cost <= CROSSING_MAX);
        match (fast, self.ptrace.is_ok(), self.kvm.is_ok()) {
            (true, _, _) | (false, false, true) => Some(PlatformChoice::Kvm),
            (false, true, _) => Some(PlatformChoice::Ptrace),
            (false, false, false) => None,
        }
    }
}

/// Tries all platforms.
pub fn survey(signal: KickSignal) -> Survey {
    Survey {
        hardware_virtualisation: has_hardware_virtualisation(),
        kvm: crossing(|backings| kvm(backings, Some(signal))),
        ptrace: crossing(Ptrace::new),
    }
}
