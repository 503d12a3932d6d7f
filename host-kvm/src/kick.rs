//! Getting a thread out of the guest from another one.
//!
//! Whoever wants that sets what it wants first, then `immediate_exit` of the virtual CPU, then sends a
//! signal. A thread that is in the guest is got out by the signal, one that is about to enter finds
//! `immediate_exit`, one that has not yet chosen its virtual CPU looks at what is wanted after it has. So no
//! wish is lost.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use varve_host::{Grace, Hold, Interrupter};

use crate::vcpu::RunPage;

/// The signal that gets threads out of guests, as KVM has no other way. Its handler does nothing.
///
/// A handler is the process's, not a sandbox's, so whoever the process belongs to installs it; nothing else
/// does. One signal serves any number of sandboxes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KickSignal(libc::c_int);

impl KickSignal {
    /// Installs the handler for `SIGRTMIN + 3`, for the whole process and for good.
    ///
    /// # Errors
    /// As [`install_as`](KickSignal::install_as).
    pub fn install() -> io::Result<KickSignal> {
        KickSignal::install_as(libc::SIGRTMIN() + 3)
    }

    /// Installs the handler for a real-time signal of the caller's choice.
    ///
    /// # Errors
    /// `EINVAL` if it is no real-time signal; `EBUSY` if the process has another handler for it, which stays.
    pub fn install_as(signal: i32) -> io::Result<KickSignal> {
        extern "C" fn nothing(_: libc::c_int) {}
        /// Looking and installing are one step.
        static ALONE: Mutex<()> = Mutex::new(());
        if !(libc::SIGRTMIN()..=libc::SIGRTMAX()).contains(&signal) {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let ours = nothing as extern "C" fn(libc::c_int) as usize;
        // SAFETY: `sigaction` is plain data; zeros are an empty mask and no flags. Without SA_RESTART, so
        // that KVM_RUN is interrupted.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: as above.
        let mut found: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = ours;
        // SAFETY: only tells what there is, in a live structure.
        if unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut found) } != 0 {
            return Err(io::Error::last_os_error());
        }
        if ![libc::SIG_DFL, libc::SIG_IGN, ours].contains(&found.sa_sigaction) {
            return Err(io::Error::from_raw_os_error(libc::EBUSY));
        }
        // SAFETY: the handler touches nothing, so it may run anywhere.
        match unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) } {
            0 => Ok(KickSignal(signal)),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Lets the signal through to the calling thread, which may have all signals blocked as the thread that
    /// made it had.
    pub(crate) fn unblock(self) {
        // SAFETY: `sigset_t` is plain data, which `sigemptyset` initialises; the calls touch nothing but it
        // and the mask of this thread.
        unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            libc::sigaddset(&raw mut set, self.0);
            libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
        }
    }
}

/// Where a thread can be reached while it has a virtual CPU.
struct Target {
    page: Arc<RunPage>,
    tid: libc::pid_t,
    /// It has been killed, but may not have noticed.
    hold: Option<Hold>,
}

/// What others want of a guest thread.
pub(crate) struct Kicker {
    grace: Arc<Grace>,
    signal: KickSignal,
    interrupted: AtomicBool,
    killed: AtomicBool,
    target: Mutex<Option<Target>>,
}

impl Kicker {
    pub(crate) fn new(grace: Arc<Grace>, signal: KickSignal) -> Kicker {
        Kicker {
            grace,
            signal,
            interrupted: AtomicBool::new(false),
            killed: AtomicBool::new(false),
            target: Mutex::default(),
        }
    }

    fn target(&self) -> MutexGuard<'_, Option<Target>> {
        self.target.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The calling thread is about to enter the guest on this virtual CPU.
    pub(crate) fn attach(&self, page: &Arc<RunPage>) {
        let page = page.clone();
        // SAFETY: no arguments, no memory.
        let tid = unsafe { libc::gettid() };
        let hold = None;
        *self.target() = Some(Target { page, tid, hold });
    }

    /// It no longer uses it, and never enters the guest again before it has attached anew.
    pub(crate) fn detach(&self) {
        *self.target() = None;
    }

    /// Gets the thread out of the guest, if it is there.
    pub(crate) fn ring(&self) {
        if let Some(target) = &*self.target() {
            target.page.exit_soon();
            let KickSignal(signal) = self.signal;
            // SAFETY: sends a signal, touches no memory. The thread cannot be gone: it detaches first.
            unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), target.tid, signal) };
        }
    }

    /// Whether the thread should not run on.
    pub(crate) fn stops(&self) -> bool {
        self.is_killed() || self.interrupted.load(Ordering::SeqCst)
    }

    /// Whether it is to end.
    pub(crate) fn is_killed(&self) -> bool {
        self.killed.load(Ordering::SeqCst)
    }

    /// Takes the wish for an interruption.
    pub(crate) fn take_interruption(&self) -> bool {
        self.interrupted.swap(false, Ordering::SeqCst)
    }
}

impl Interrupter for Kicker {
    fn interrupt(&self) {
        self.interrupted.store(true, Ordering::SeqCst);
        self.ring();
    }

    fn kill(&self) {
        self.killed.store(true, Ordering::SeqCst);
        // Its space may be dropped next: frames and page tables stay what they are until it has come by.
        if let Some(target) = &mut *self.target() {
            target.hold.get_or_insert_with(|| self.grace.hold());
        }
        self.ring();
    }
}
