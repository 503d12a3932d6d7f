//! Getting a thread out of the guest from another one.
//!
//! Whoever wants that sets what it wants first, then `immediate_exit` of the virtual CPU, then sends a
//! signal. A thread that is in the guest is got out by the signal, one that is about to enter finds
//! `immediate_exit`, one that has not yet chosen its virtual CPU looks at what is wanted after it has. So no
//! wish is lost.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};

use varve_host::{Grace, Hold, Interrupter};

use crate::vcpu::RunPage;

/// The signal that ends `KVM_RUN`. Nothing else uses it, and its handler does nothing.
fn signal() -> libc::c_int {
    libc::SIGRTMIN() + 3
}

/// Installs the handler, once for the process.
pub(crate) fn prepare() -> io::Result<()> {
    extern "C" fn nothing(_: libc::c_int) {}
    static ONCE: Once = Once::new();
    let mut result = Ok(());
    ONCE.call_once(|| {
        // SAFETY: `sigaction` is plain data; zeros are an empty mask and no flags. Without SA_RESTART, so
        // that KVM_RUN is interrupted.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
        // SAFETY: the handler touches nothing, so it may run anywhere.
        if unsafe { libc::sigaction(signal(), &action, std::ptr::null_mut()) } != 0 {
            result = Err(io::Error::last_os_error());
        }
    });
    result
}

/// Where a thread can be reached while it has a virtual CPU.
struct Target {
    page: Arc<RunPage>,
    tid: libc::pid_t,
    /// It has been killed, but may not have noticed.
    hold: Option<Hold>,
}

/// What others want of a guest thread.
pub(crate) struct Bell {
    grace: Arc<Grace>,
    interrupted: AtomicBool,
    killed: AtomicBool,
    target: Mutex<Option<Target>>,
}

impl Bell {
    pub(crate) fn new(grace: Arc<Grace>) -> Bell {
        Bell {
            grace,
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
            // SAFETY: sends a signal, touches no memory. The thread cannot be gone: it detaches first.
            unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), target.tid, signal()) };
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

impl Interrupter for Bell {
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
