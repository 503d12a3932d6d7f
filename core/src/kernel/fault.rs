//! Faults of guest threads: memory management resolves them, or its verdict becomes a signal.

use crate::abi::raw::general as g;
use crate::abi::{LINUX_TASK_SIZE, PAGE_SIZE};
use crate::kernel::{Cx, oom};
use crate::machine::{Access, Exception, Prot};
use crate::mm::fault::{self, Bad, Growth, Touch, Verdict};
use crate::task::signal;

/// Resolves a fault of the current thread, or forces SIGSEGV/SIGBUS on it.
pub(crate) fn user_fault(cx: &mut Cx<'_, '_>, addr: u64, access: Option<Access>) {
    let regs = cx.task().regs;
    let locked = match cx.creds().capable(g::CAP_IPC_LOCK) {
        true => u64::MAX,
        false => cx.rlimit(g::RLIMIT_MEMLOCK),
    };
    let touch = Touch {
        space: cx.space(),
        thread: cx.thread,
        addr,
        access,
        rip: regs.rip,
        rsp: regs.rsp,
        limits: Growth {
            stack: cx.rlimit(g::RLIMIT_STACK),
            total: cx.rlimit(g::RLIMIT_AS),
            locked,
        },
    };
    let bad = match fault::touch(cx.k, cx.p, touch) {
        Verdict::Fixed => {
            cx.task_mut().faults += 1;
            return;
        }
        Verdict::Spurious => return,
        Verdict::Bad(bad) => bad,
    };
    let (signal, code) = match bad {
        Bad::Unmapped => (g::SIGSEGV, g::SEGV_MAPERR),
        Bad::Forbidden => (g::SIGSEGV, g::SEGV_ACCERR),
        Bad::Beyond => (g::SIGBUS, g::BUS_ADRERR),
        // Once more when frames that are free can be used.
        Bad::NoMemory if cx.k.frames.is_waiting() => return,
        // Once more when somebody has made room for it.
        Bad::NoMemory if oom::make_room(cx.k, cx.p) => return,
        Bad::NoMemory => (g::SIGKILL, g::SI_KERNEL),
    };
    let exception = Exception {
        signal: signal as u8,
        code: code as i32,
        addr,
    };
    let error = error_code(cx, addr, access, bad);
    signal::force_page_fault(cx, exception, error);
}

/// The processor's error code for a fault. What kind of access it was is guessed where the host does not
/// know: a fetch is at `rip` or, for the rest of an instruction, at the start of the next page; and a mapping
/// that allows reading was not read.
fn error_code(cx: &Cx<'_, '_>, addr: u64, access: Option<Access>, bad: Bad) -> u64 {
    const PRESENT: u64 = 1;
    const WRITE: u64 = 2;
    const USER: u64 = 4;
    const FETCH: u64 = 16;
    /// Longest instruction in bytes.
    const INSTRUCTION_MAX: u64 = 15;
    let space = cx.k.mm.space(cx.space());
    let prot = space.find(addr).map_or(Prot::empty(), |(_, vma)| vma.prot);
    let behind = addr.wrapping_sub(cx.task().regs.rip);
    let fetched = behind == 0 || (behind < INSTRUCTION_MAX && addr.is_multiple_of(PAGE_SIZE));
    let forbidden = matches!(bad, Bad::Forbidden);
    let kind = match access {
        Some(Access::Write) => WRITE,
        Some(Access::Execute) => FETCH,
        Some(Access::Read) => 0,
        None if fetched => FETCH,
        None if forbidden && prot.contains(Prot::READ) => WRITE,
        None => 0,
    };
    let there = forbidden && !prot.is_empty() && space.pages.get(addr / PAGE_SIZE).on_host();
    // Linux does not tell programs what is mapped for the kernel.
    let present = there || addr >= LINUX_TASK_SIZE;
    USER | kind | if present { PRESENT } else { 0 }
}
