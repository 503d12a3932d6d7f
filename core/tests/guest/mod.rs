//! Bare guests: names for system calls and small programs made of them.

#![allow(dead_code, reason = "each test binary uses a part")]

pub mod steps;

use varve_core::machine::ThreadId;
use varve_core::memhost::{BARE_ADDR, Machine, MemHost, bare, empty_root};

/// A machine with bare guests.
pub type Guests = Machine;

/// Memory of the guests for data, thread numbers, and structures of signal calls.
pub const DATA: u64 = BARE_ADDR;
pub const TID: u64 = BARE_ADDR + 0x1000;
pub const SIG: u64 = BARE_ADDR + 0x2000;

pub const SIGACTION: u64 = 13;
pub const SIGPROCMASK: u64 = 14;
pub const SIGRETURN: u64 = 15;
pub const PAUSE: u64 = 34;
pub const GETPID: u64 = 39;
pub const CLONE: u64 = 56;
pub const FORK: u64 = 57;
pub const VFORK: u64 = 58;
pub const EXIT: u64 = 60;
pub const WAIT4: u64 = 61;
pub const KILL: u64 = 62;
pub const GETUID: u64 = 102;
pub const SETUID: u64 = 105;
pub const SETGID: u64 = 106;
pub const GETEUID: u64 = 107;
pub const SETPGID: u64 = 109;
pub const GETPPID: u64 = 110;
pub const SETSID: u64 = 112;
pub const SETRESUID: u64 = 117;
pub const GETPGID: u64 = 121;
pub const GETSID: u64 = 124;
pub const SIGPENDING: u64 = 127;
pub const SIGTIMEDWAIT: u64 = 128;
pub const SIGQUEUEINFO: u64 = 129;
pub const SIGSUSPEND: u64 = 130;
pub const SIGALTSTACK: u64 = 131;
pub const GETTID: u64 = 186;
pub const TKILL: u64 = 200;
pub const EXIT_GROUP: u64 = 231;
pub const TGKILL: u64 = 234;
pub const WAITID: u64 = 247;
pub const CLONE3: u64 = 435;

pub const EPERM: i64 = 1;
pub const ESRCH: i64 = 3;
pub const EINTR: i64 = 4;
pub const E2BIG: i64 = 7;
pub const ECHILD: i64 = 10;
pub const EAGAIN: i64 = 11;
pub const EFAULT: i64 = 14;
pub const EINVAL: i64 = 22;

pub const ANY: u64 = u64::MAX;
pub const WNOHANG: u64 = 1;
pub const WUNTRACED: u64 = 2;
pub const WEXITED: u64 = 4;
pub const WCONTINUED: u64 = 8;
pub const WNOWAIT: u64 = 0x0100_0000;
pub const P_ALL: u64 = 0;
pub const P_PID: u64 = 1;
pub const CLD_EXITED: u32 = 1;

pub const SIGCHLD: u32 = 17;
pub const SIG_DFL: u64 = 0;
pub const SIG_IGN: u64 = 1;
pub const SA_NOCLDSTOP: u64 = 1;
pub const SA_NOCLDWAIT: u64 = 2;
pub const SA_SIGINFO: u64 = 4;
pub const SA_RESTORER: u64 = 0x0400_0000;
pub const SA_ONSTACK: u64 = 0x0800_0000;
pub const SA_RESTART: u64 = 0x1000_0000;
pub const SA_NODEFER: u64 = 0x4000_0000;
pub const SA_RESETHAND: u64 = 0x8000_0000;

pub const CLONE_FS: u64 = 0x200;
pub const CLONE_SIGHAND: u64 = 0x800;
pub const CLONE_PARENT: u64 = 0x8000;
pub const CLONE_THREAD: u64 = 0x10000;
pub const CLONE_NEWNS: u64 = 0x20000;
pub const CLONE_NEWUTS: u64 = 0x400_0000;
pub const CLONE_NEWUSER: u64 = 0x1000_0000;
pub const CLONE_NEWPID: u64 = 0x2000_0000;
/// What pthread_create(3) asks for.
pub const THREAD_FLAGS: u64 = 0x003d_0f00 & !0x80000;

pub fn boot() -> Guests {
    Machine::boot(bare(empty_root()), MemHost::new(4096, Vec::new())).expect("the bare task boots")
}

/// A call that returns at once.
#[track_caller]
pub fn call(m: &mut Guests, thread: ThreadId, number: u64, args: &[u64]) -> i64 {
    let result = m.call(thread, number, args).expect("the call returns");
    m.kernel.check().unwrap();
    result
}

/// A call that has to wait.
#[track_caller]
pub fn parks(m: &mut Guests, thread: ThreadId, number: u64, args: &[u64]) {
    assert_eq!(m.call(thread, number, args), None, "the call waits");
    assert!(m.threads.contains_key(&thread), "the thread lives");
    m.kernel.check().unwrap();
}

/// A call that ends the thread.
#[track_caller]
pub fn gone(m: &mut Guests, thread: ThreadId, number: u64, args: &[u64]) {
    m.call(thread, number, args);
    assert!(!m.threads.contains_key(&thread), "the thread has ended");
    m.kernel.check().unwrap();
}

fn newest(m: &Guests) -> ThreadId {
    *m.threads.keys().next_back().expect("a thread is left")
}

/// A child process.
#[track_caller]
pub fn fork(m: &mut Guests, thread: ThreadId) -> ThreadId {
    let pid = call(m, thread, FORK, &[]);
    assert!(pid > 0, "fork: {pid}");
    newest(m)
}

/// A thread whose number is kept at [`TID`].
#[track_caller]
pub fn thread(m: &mut Guests, parent: ThreadId) -> ThreadId {
    let tid = call(m, parent, CLONE, &[THREAD_FLAGS, 0, TID, TID, 0]);
    assert!(tid > 0, "clone: {tid}");
    newest(m)
}

/// A program of one segment, which holds the memory that these tests use.
pub fn program() -> Vec<u8> {
    let mut elf = Vec::new();
    elf.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    elf.extend_from_slice(&[2, 0, 62, 0, 1, 0, 0, 0]);
    for word in [BARE_ADDR, 64, 0] {
        elf.extend_from_slice(&word.to_le_bytes());
    }
    elf.extend_from_slice(&[0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    elf.extend_from_slice(&[1, 0, 0, 0, 7, 0, 0, 0]);
    for word in [0, BARE_ADDR, BARE_ADDR, 0x1000, 0x1_0000, 0x1000] {
        elf.extend_from_slice(&word.to_le_bytes());
    }
    elf.resize(0x1000, 0);
    elf
}

/// A 32-bit word of a guest's memory.
pub fn word(m: &mut Guests, thread: ThreadId, addr: u64) -> u32 {
    u32::from_le_bytes(m.peek(thread, addr, 4).unwrap().try_into().unwrap())
}

/// A 64-bit word of a guest's memory.
pub fn long(m: &mut Guests, thread: ThreadId, addr: u64) -> u64 {
    u64::from_le_bytes(m.peek(thread, addr, 8).unwrap().try_into().unwrap())
}

pub const RESTORER: u64 = 0x7000;

#[track_caller]
pub fn sigaction(
    m: &mut Guests,
    thread: ThreadId,
    signal: u32,
    handler: u64,
    flags: u64,
    mask: u64,
) {
    let words = [handler, flags | SA_RESTORER, RESTORER, mask];
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    m.poke(thread, SIG, &bytes).unwrap();
    assert_eq!(
        call(m, thread, SIGACTION, &[u64::from(signal), SIG, 0, 8]),
        0
    );
}

/// A small generator, equal for equal seeds.
pub struct Rng(pub u64);

impl Rng {
    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        ((self.0 >> 33) as usize) % end.max(1)
    }
}
