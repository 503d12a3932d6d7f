//! Signals: what they are, what is pending, who may get them (signal(7)).
//!
//! Sending only queues a signal and wakes or interrupts a thread that takes it; everything else happens when
//! that thread is about to go back to its program ([`deliver()`]). `frame` lays signal frames out, `stop` is
//! job control.

mod deliver;
mod frame;
pub(crate) mod names;
mod paid;
mod send;
mod stop;

use alloc::collections::BTreeMap;

pub(crate) use deliver::{
    deliver, ends, force, force_exception, force_page_fault, interrupts, set_blocked, take,
};
pub(crate) use frame::{StackT, USER_CS, USER_DS, set_altstack, sigreturn};
pub(crate) use paid::Paid;
pub(crate) use send::{
    forget_process, forget_thread, from_outside, is_queued, is_timers, limit, may_signal,
    queue_process, queue_thread, remove_pending, retarget, send_process, send_running, send_thread,
    take_back, user, wake,
};
pub(crate) use stop::{check_stopped, join_stop};

use crate::Kernel;
use crate::abi::raw::general as g;
use crate::machine::ThreadId;

/// Signal numbers go from 1 to this.
pub(crate) const SIGNALS: u8 = 64;
/// Numbers from here on are queued each time they are sent.
pub(crate) const SIGRTMIN: u8 = 32;

pub(crate) const SIGHUP: u8 = g::SIGHUP as u8;
pub(crate) const SIGKILL: u8 = g::SIGKILL as u8;
pub(crate) const SIGSEGV: u8 = g::SIGSEGV as u8;
pub(crate) const SIGCHLD: u8 = g::SIGCHLD as u8;
pub(crate) const SIGCONT: u8 = g::SIGCONT as u8;
pub(crate) const SIGSTOP: u8 = g::SIGSTOP as u8;
pub(crate) const SIGTSTP: u8 = g::SIGTSTP as u8;
pub(crate) const SIGTTIN: u8 = g::SIGTTIN as u8;
pub(crate) const SIGTTOU: u8 = g::SIGTTOU as u8;

/// The bit of a signal in a set.
pub(crate) const fn bit(signal: u8) -> u64 {
    1 << (signal - 1)
}

/// Signals that stop a process by default.
pub(crate) const STOP_SET: u64 = bit(SIGSTOP) | bit(SIGTSTP) | bit(SIGTTIN) | bit(SIGTTOU);
/// Signals that can be neither blocked, ignored nor handled.
pub(crate) const UNBLOCKABLE: u64 = bit(SIGKILL) | bit(SIGSTOP);
/// Signals that do nothing by default.
const IGNORE_SET: u64 = bit(SIGCHLD) | bit(SIGCONT) | bit(g::SIGURG as u8) | bit(g::SIGWINCH as u8);
/// Signals that a thread causes itself; they are delivered first.
const SYNCHRONOUS_SET: u64 = bit(SIGSEGV)
    | bit(g::SIGBUS as u8)
    | bit(g::SIGILL as u8)
    | bit(g::SIGTRAP as u8)
    | bit(g::SIGFPE as u8)
    | bit(g::SIGSYS as u8);

/// What `siginfo_t` says of a signal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct SigInfo {
    /// Signal number, 1..=64.
    pub signo: u8,
    /// Sent from outside the sandbox: acts on the first process as on any other.
    pub outside: bool,
    /// `si_errno`.
    pub errno: i32,
    /// `si_code`.
    pub code: i32,
    /// The union behind the first three fields, 32 bytes as the kernel keeps them.
    pub fields: [u64; 4],
}

impl SigInfo {
    fn new(signo: u8, code: i32, fields: [u64; 4]) -> SigInfo {
        SigInfo {
            signo,
            outside: false,
            errno: 0,
            code,
            fields,
        }
    }

    /// Sent by a process with kill(2) (`SI_USER`), tgkill(2) (`SI_TKILL`).
    pub(crate) fn user(signo: u8, code: i32, pid: u32, uid: u32) -> SigInfo {
        SigInfo::new(
            signo,
            code,
            [u64::from(pid) | u64::from(uid) << 32, 0, 0, 0],
        )
    }

    /// The same signal of kill(2) or its relatives from another sender; others stay as the program made them.
    pub(crate) fn with_sender(mut self, pid: u32, uid: u32) -> SigInfo {
        if matches!(self.code, g::SI_TKILL | 0) {
            self.fields[0] = u64::from(pid) | u64::from(uid) << 32;
        }
        self
    }

    /// Sent by the kernel itself (`SI_KERNEL`).
    pub(crate) fn kernel(signo: u8) -> SigInfo {
        SigInfo::new(signo, g::SI_KERNEL as i32, [0; 4])
    }

    /// A fault at an address.
    pub(crate) fn fault(signo: u8, code: i32, addr: u64) -> SigInfo {
        SigInfo::new(signo, code, [addr, 0, 0, 0])
    }

    /// A seccomp(2) filter trapped a system call made before `addr`; `detail` is its value's.
    pub(crate) fn seccomp(signo: u8, detail: u32, addr: u64, number: u32, arch: u32) -> SigInfo {
        let call = u64::from(number) | u64::from(arch) << 32;
        SigInfo {
            errno: detail as i32,
            ..SigInfo::new(signo, g::SYS_SECCOMP as i32, [addr, call, 0, 0])
        }
    }

    /// A child changed its state; `time` is what it ran, in clock ticks.
    pub(crate) fn child(
        signo: u8,
        code: i32,
        pid: u32,
        uid: u32,
        status: i32,
        [user, system]: [u64; 2],
    ) -> SigInfo {
        let status = u64::from(status as u32);
        SigInfo::new(
            signo,
            code,
            [u64::from(pid) | u64::from(uid) << 32, status, user, system],
        )
    }

    /// An open file can be read or written (`POLL_IN` and its relatives); `band` are poll events.
    pub(crate) fn poll(signo: u8, code: i32, band: u32, fd: i32) -> SigInfo {
        SigInfo::new(signo, code, [u64::from(band), u64::from(fd as u32), 0, 0])
    }

    /// From a program's `siginfo_t` (rt_sigqueueinfo(2)).
    pub(crate) fn from_bytes(signo: u8, bytes: &[u8; 48]) -> SigInfo {
        let int = |at: usize| {
            let mut word = [0; 4];
            word.copy_from_slice(&bytes[at..at + 4]);
            i32::from_le_bytes(word)
        };
        let mut fields = [0; 4];
        for (index, field) in fields.iter_mut().enumerate() {
            let at = 16 + 8 * index;
            *field = u64::from(int(at) as u32) | u64::from(int(at + 4) as u32) << 32;
        }
        SigInfo {
            signo,
            outside: false,
            errno: int(4),
            code: int(8),
            fields,
        }
    }

    /// As `siginfo_t`.
    pub(crate) fn to_bytes(self) -> [u8; 128] {
        let mut bytes = [0; 128];
        bytes[0..4].copy_from_slice(&u32::from(self.signo).to_le_bytes());
        bytes[4..8].copy_from_slice(&self.errno.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.code.to_le_bytes());
        for (index, field) in self.fields.iter().enumerate() {
            bytes[16 + 8 * index..24 + 8 * index].copy_from_slice(&field.to_le_bytes());
        }
        bytes
    }
}

/// A signal that waits, and the user who pays for it ([`Paid`]); nobody does for a timer's, which is paid for
/// as long as it is there.
#[derive(Clone, Copy, Hash, Debug)]
struct Queued {
    info: SigInfo,
    user: Option<u32>,
}

/// Signals that wait to be delivered to a thread or a process. A standard signal waits once, a real-time
/// signal as often as it was sent.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Pending {
    /// By number, oldest first.
    queue: BTreeMap<(u8, u64), Queued>,
    last: u64,
    set: u64,
}

impl Pending {
    /// The signals that are pending.
    pub(crate) fn set(&self) -> u64 {
        self.set
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Queues a signal. A standard one that waits already stays as it is; a timer's is queued beside it.
    fn push(&mut self, paid: &mut Paid, info: SigInfo, user: Option<u32>) {
        let queued = info.signo >= SIGRTMIN || is_timers(&info);
        if queued || self.set & bit(info.signo) == 0 {
            self.last += 1;
            let place = (info.signo, self.last);
            self.queue.insert(place, Queued { info, user });
            self.set |= bit(info.signo);
            if let Some(user) = user {
                paid.add(user);
            }
        }
    }

    /// Those that wait.
    fn iter(&self) -> impl Iterator<Item = &SigInfo> {
        self.queue.values().map(|queued| &queued.info)
    }

    /// Who pays for each of them; for invariant checks.
    pub(super) fn payers(&self) -> impl Iterator<Item = u32> + '_ {
        self.queue.values().filter_map(|queued| queued.user)
    }

    /// Takes the oldest of a number out.
    fn take_oldest(&mut self, paid: &mut Paid, signo: u8) -> Option<SigInfo> {
        let mut waiting = self.queue.range((signo, 0)..=(signo, u64::MAX));
        let (&place, _) = waiting.next()?;
        if waiting.next().is_none() {
            self.set &= !bit(signo);
        }
        let Queued { info, user } = self.queue.remove(&place)?;
        if let Some(user) = user {
            paid.remove(user);
        }
        Some(info)
    }

    /// Takes the next signal out of those in `wanted`: synchronous ones first, then by number, oldest first.
    fn take(&mut self, paid: &mut Paid, wanted: u64) -> Option<SigInfo> {
        let set = match self.set & wanted {
            0 => return None,
            set if set & SYNCHRONOUS_SET != 0 => set & SYNCHRONOUS_SET,
            set => set,
        };
        self.take_oldest(paid, set.trailing_zeros() as u8 + 1)
    }

    /// Forgets the signals of a set.
    pub(crate) fn remove(&mut self, paid: &mut Paid, set: u64) {
        let mut gone = self.set & set;
        while gone != 0 {
            let signo = gone.trailing_zeros() as u8 + 1;
            while self.take_oldest(paid, signo).is_some() {}
            gone &= gone - 1;
        }
    }

    /// Forgets signals like this.
    fn remove_like(&mut self, paid: &mut Paid, like: impl Fn(&SigInfo) -> bool) {
        self.queue.retain(|_, queued| {
            let goes = like(&queued.info);
            if let Some(user) = queued.user.filter(|_| goes) {
                paid.remove(user);
            }
            !goes
        });
        self.set = self.iter().fold(0, |set, info| set | bit(info.signo));
    }

    /// Whether set and queue agree; for invariant checks.
    pub(super) fn consistent(&self) -> bool {
        let set = self.iter().fold(0, |set, info| set | bit(info.signo));
        set == self.set
    }
}

/// What a process does with a signal (sigaction(2)).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Action {
    /// Address of the handler, [`SIG_DFL`] or [`SIG_IGN`].
    pub handler: u64,
    /// `SA_` flags.
    pub flags: u64,
    pub restorer: u64,
    pub mask: u64,
}

pub(crate) const SIG_DFL: u64 = 0;
pub(crate) const SIG_IGN: u64 = 1;

/// The actions for all signals.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Actions([Action; SIGNALS as usize]);

impl Actions {
    pub(crate) fn new() -> Actions {
        Actions([Action::default(); SIGNALS as usize])
    }

    pub(crate) fn get(&self, signal: u8) -> Action {
        match usize::from(signal).checked_sub(1) {
            Some(index) => self.0.get(index).copied().unwrap_or_default(),
            None => Action::default(),
        }
    }

    pub(crate) fn set(&mut self, signal: u8, action: Action) {
        if let Some(slot) = usize::from(signal)
            .checked_sub(1)
            .and_then(|index| self.0.get_mut(index))
        {
            *slot = action;
        }
    }

    /// Handlers go back to the default, ignored signals stay ignored (execve(2), `CLONE_CLEAR_SIGHAND`).
    pub(super) fn reset(&mut self) {
        for action in &mut self.0 {
            let handler = match action.handler {
                SIG_IGN => SIG_IGN,
                _ => SIG_DFL,
            };
            *action = Action {
                handler,
                ..Action::default()
            };
        }
    }

    /// Those of a set that have no handler and are not ignored.
    fn unhandled(&self, set: u64) -> u64 {
        let mut rest = set;
        let mut found = 0;
        while rest != 0 {
            let signal = rest.trailing_zeros() as u8 + 1;
            rest &= rest - 1;
            if self.get(signal).handler == SIG_DFL {
                found |= bit(signal);
            }
        }
        found
    }

    /// The signals whose handler fits.
    fn matching(&self, fits: impl Fn(u64) -> bool) -> u64 {
        (1..=SIGNALS).fold(0, |set, signal| match fits(self.get(signal).handler) {
            true => set | bit(signal),
            false => set,
        })
    }

    /// Whether a signal does nothing: it is ignored, or does nothing by default.
    pub(crate) fn ignores(&self, signal: u8) -> bool {
        match self.get(signal).handler {
            SIG_IGN => true,
            SIG_DFL => IGNORE_SET & bit(signal) != 0,
            _ => false,
        }
    }
}

/// An alternate signal stack (sigaltstack(2)).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct AltStack {
    pub sp: u64,
    pub size: u64,
    /// `SS_DISABLE`, `SS_AUTODISARM`.
    pub flags: u32,
}

impl AltStack {
    pub(crate) const NONE: AltStack = AltStack {
        sp: 0,
        size: 0,
        flags: g::SS_DISABLE,
    };

    /// Whether a stack pointer is on it.
    pub(crate) fn contains(&self, sp: u64) -> bool {
        sp > self.sp && sp - self.sp <= self.size
    }

    /// Whether a thread with this stack pointer counts as running on it.
    pub(crate) fn active(&self, sp: u64) -> bool {
        self.flags & g::SS_AUTODISARM == 0 && self.contains(sp)
    }

    /// `ss_flags` as sigaltstack(2) reports them.
    pub(crate) fn status(&self, sp: u64) -> u32 {
        match self {
            _ if self.size == 0 => g::SS_DISABLE,
            _ if self.active(sp) => g::SS_ONSTACK,
            _ => 0,
        }
    }
}

/// `trapno`, `err` and `cr2` of the machine context.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Fault {
    pub number: u64,
    pub error: u64,
    pub addr: u64,
}

/// Signal sets as proc(5) shows them: pending of the thread, pending of the process, blocked, ignored,
/// caught.
pub(crate) fn sets(k: &Kernel, thread: ThreadId) -> [u64; 5] {
    let Some(task) = k.tasks.get(thread) else {
        return [0; 5];
    };
    let shared = k
        .tasks
        .group(task.tgid)
        .map_or(0, |group| group.pending.set());
    let (ignored, caught) = k.tasks.actions(task.tgid).map_or((0, 0), |actions| {
        (
            actions.matching(|handler| handler == SIG_IGN),
            actions.matching(|handler| handler > SIG_IGN),
        )
    });
    [task.pending.set(), shared, task.blocked, ignored, caught]
}
