//! Signal frames of x86-64: `struct rt_sigframe` and the extended processor state above it
//! (`asm/sigcontext.h`, `asm/ucontext.h`).
//!
//! ```text
//! sp -> pretcode 8 | ucontext 304 (flags, link, stack, sigcontext 256, sigmask) | siginfo 128
//! 64-byte aligned above: XSAVE area (software words at 464) | FP_XSTATE_MAGIC2
//! ```

use alloc::vec;
use alloc::vec::Vec;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::deliver::{bad_frame, force, set_blocked};
use super::{Action, AltStack, SigInfo};
use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::machine::Regs;
use crate::task::Cx;

/// Code and stack segment of 64-bit programs (`__USER_CS`, `__USER_DS`).
pub(crate) const USER_CS: u64 = 0x33;
pub(crate) const USER_DS: u64 = 0x2b;

/// `struct sigcontext_64`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct SigContext {
    r8: u64,
    r9: u64,
    r10: u64,
    r11: u64,
    r12: u64,
    r13: u64,
    r14: u64,
    r15: u64,
    rdi: u64,
    rsi: u64,
    rbp: u64,
    rbx: u64,
    rdx: u64,
    rax: u64,
    rcx: u64,
    rsp: u64,
    rip: u64,
    eflags: u64,
    cs: u16,
    gs: u16,
    fs: u16,
    ss: u16,
    err: u64,
    trapno: u64,
    oldmask: u64,
    cr2: u64,
    fpstate: u64,
    reserved: [u64; 8],
}

/// `stack_t`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct StackT {
    pub sp: u64,
    pub flags: u32,
    pub pad: u32,
    pub size: u64,
}

/// `struct rt_sigframe` without its siginfo.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Frame {
    pretcode: u64,
    flags: u64,
    link: u64,
    stack: StackT,
    context: SigContext,
    sigmask: u64,
}

const FRAME_SIZE: u64 = 312 + 128;
const _: () = assert!(size_of::<Frame>() == 312 && size_of::<SigContext>() == 256);

const UC_FP_XSTATE: u64 = 1;
const UC_SIGCONTEXT_SS: u64 = 2;
const UC_STRICT_RESTORE_SS: u64 = 4;

/// Bytes of the FXSAVE area, in whose unused end the software words are.
const FXSAVE_SIZE: usize = 512;
/// Bytes of the FXSAVE area and the XSAVE header.
const XSAVE_MIN: usize = FXSAVE_SIZE + 64;
const SW_BYTES: usize = 464;
const MAGIC1: u32 = 0x4650_5853;
const MAGIC2: u32 = 0x4650_5845;
const MAGIC2_SIZE: usize = 4;

/// Bytes below the stack pointer that a program may use.
const RED_ZONE: u64 = 128;

const FLAG_CF: u64 = 1;
const FLAG_PF: u64 = 1 << 2;
const FLAG_AF: u64 = 1 << 4;
const FLAG_ZF: u64 = 1 << 6;
const FLAG_SF: u64 = 1 << 7;
const FLAG_TF: u64 = 1 << 8;
const FLAG_DF: u64 = 1 << 10;
const FLAG_OF: u64 = 1 << 11;
const FLAG_RF: u64 = 1 << 16;
const FLAG_AC: u64 = 1 << 18;
/// Flags that a signal handler may change (`FIX_EFLAGS`).
const FIX_EFLAGS: u64 = FLAG_AC
    | FLAG_OF
    | FLAG_DF
    | FLAG_TF
    | FLAG_SF
    | FLAG_ZF
    | FLAG_AF
    | FLAG_PF
    | FLAG_CF
    | FLAG_RF;

/// Writes a frame for a handler and makes the thread's registers enter it. `mask` is the signal mask to come
/// back to.
pub(super) fn setup(
    cx: &mut Cx<'_, '_>,
    info: SigInfo,
    action: Action,
    mask: u64,
) -> Result<(), Errno> {
    if action.flags & u64::from(g::SA_RESTORER) == 0 {
        return Err(Errno::EFAULT);
    }
    let task = cx.task();
    let (regs, altstack, fault) = (task.regs, task.altstack, task.fault);
    let mut sp = regs.rsp.wrapping_sub(RED_ZONE);
    let nested = altstack.active(regs.rsp);
    let entering = action.flags & u64::from(g::SA_ONSTACK) != 0
        && altstack.status(sp) == 0
        && altstack.size != 0;
    if entering {
        sp = altstack.sp.wrapping_add(altstack.size);
    }
    let size = cx.p.xstate.size().max(FXSAVE_SIZE);
    let extended = size >= XSAVE_MIN;
    let room = size + if extended { MAGIC2_SIZE } else { 0 };
    let fpstate = sp.wrapping_sub(room as u64) & !63;
    let frame = (fpstate.wrapping_sub(FRAME_SIZE) & !15).wrapping_sub(8);
    if (nested || entering) && !altstack.contains(frame) {
        return Err(Errno::EFAULT);
    }
    let state = save_xstate(cx, size, extended);
    cx.write_user(fpstate, &state)?;
    let flags = UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS;
    let content = Frame {
        pretcode: action.restorer,
        flags: if extended {
            flags | UC_FP_XSTATE
        } else {
            flags
        },
        link: 0,
        stack: StackT {
            sp: altstack.sp,
            flags: altstack.flags,
            pad: 0,
            size: altstack.size,
        },
        context: SigContext {
            r8: regs.r8,
            r9: regs.r9,
            r10: regs.r10,
            r11: regs.r11,
            r12: regs.r12,
            r13: regs.r13,
            r14: regs.r14,
            r15: regs.r15,
            rdi: regs.rdi,
            rsi: regs.rsi,
            rbp: regs.rbp,
            rbx: regs.rbx,
            rdx: regs.rdx,
            rax: regs.rax,
            rcx: regs.rcx,
            rsp: regs.rsp,
            rip: regs.rip,
            eflags: regs.eflags,
            cs: regs.cs as u16,
            gs: 0,
            fs: 0,
            ss: regs.ss as u16,
            err: fault.error,
            trapno: fault.number,
            oldmask: mask,
            cr2: fault.addr,
            fpstate,
            reserved: [0; 8],
        },
        sigmask: mask,
    };
    cx.write_obj(frame, &content)?;
    let info_at = frame + size_of::<Frame>() as u64;
    if action.flags & u64::from(g::SA_SIGINFO) != 0 {
        cx.write_user(info_at, &info.to_bytes())?;
    }
    if altstack.flags & g::SS_AUTODISARM != 0 {
        cx.task_mut().altstack = AltStack::NONE;
    }
    let thread = cx.thread;
    cx.p.xstate.reset(thread);
    let regs = &mut cx.task_mut().regs;
    regs.rdi = u64::from(info.signo);
    regs.rsi = info_at;
    regs.rdx = frame + 8;
    regs.rax = 0;
    regs.rip = action.handler;
    regs.rsp = frame;
    regs.cs = USER_CS;
    regs.ss = USER_DS;
    regs.eflags &= !(FLAG_DF | FLAG_RF | FLAG_TF);
    Ok(())
}

/// The extended state of the current thread with the words that tell a program how long it is.
fn save_xstate(cx: &mut Cx<'_, '_>, size: usize, extended: bool) -> Vec<u8> {
    let mut state = vec![0; size + if extended { MAGIC2_SIZE } else { 0 }];
    let thread = cx.thread;
    let port_size = cx.p.xstate.size();
    cx.p.xstate.read(thread, &mut state[..port_size]);
    if extended {
        let features = features(&state, size);
        let words = &mut state[SW_BYTES..FXSAVE_SIZE];
        words.fill(0);
        words[0..4].copy_from_slice(&MAGIC1.to_le_bytes());
        words[4..8].copy_from_slice(&((size + MAGIC2_SIZE) as u32).to_le_bytes());
        words[8..16].copy_from_slice(&features.to_le_bytes());
        words[16..20].copy_from_slice(&(size as u32).to_le_bytes());
        state[size..].copy_from_slice(&MAGIC2.to_le_bytes());
    }
    state
}

/// The features that the state can hold (XCR0). ptrace(2) leaves them in the first software word; else the
/// size tells.
fn features(state: &[u8], size: usize) -> u64 {
    /// x87, SSE and AVX, which every longer state begins with.
    const AVX: u64 = 7;
    const SSE: u64 = 3;
    match word(state, SW_BYTES) {
        0 if size > XSAVE_MIN => AVX,
        0 => SSE,
        xcr0 => xcr0,
    }
}

/// The features that the processor keeps for the current thread.
fn processor_features(cx: &mut Cx<'_, '_>, size: usize) -> u64 {
    let mut state = vec![0; size];
    let thread = cx.thread;
    cx.p.xstate.read(thread, &mut state);
    features(&state, size)
}

/// Whether the x87 unit has an exception that it has not told the program of (bit ES of its status word).
pub(super) fn x87_exception(cx: &mut Cx<'_, '_>) -> bool {
    const STATUS: usize = 2;
    const ERROR_SUMMARY: u8 = 1 << 7;
    let mut state = vec![0; cx.p.xstate.size()];
    let thread = cx.thread;
    cx.p.xstate.read(thread, &mut state);
    state
        .get(STATUS)
        .is_some_and(|low| low & ERROR_SUMMARY != 0)
}

fn word(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    if let Some(from) = bytes.get(at..at + 8) {
        word.copy_from_slice(from);
    }
    u64::from_le_bytes(word)
}

/// rt_sigreturn(2): comes back from a handler. A frame that cannot be read or would not be accepted by the
/// processor is SIGSEGV.
pub(crate) fn sigreturn(cx: &mut Cx<'_, '_>) {
    if restore(cx).is_err() {
        bad_frame(cx, 0);
    }
}

fn restore(cx: &mut Cx<'_, '_>) -> Result<(), Errno> {
    let at = cx.task().regs.rsp.wrapping_sub(8);
    let frame: Frame = cx.read_obj(at)?;
    let context = frame.context;
    set_blocked(cx.k, cx.thread, frame.sigmask);
    // As if the program had called sigaltstack(2) in its handler; what that refuses is passed over.
    let _ = set_altstack(cx, frame.stack);
    restore_xstate(cx, context.fpstate)?;
    let old = cx.task().regs;
    let (cs, ss) = (u64::from(context.cs) | 3, u64::from(context.ss) | 3);
    cx.task_mut().regs = Regs {
        r15: context.r15,
        r14: context.r14,
        r13: context.r13,
        r12: context.r12,
        rbp: context.rbp,
        rbx: context.rbx,
        r11: context.r11,
        r10: context.r10,
        r9: context.r9,
        r8: context.r8,
        rax: context.rax,
        rcx: context.rcx,
        rdx: context.rdx,
        rsi: context.rsi,
        rdi: context.rdi,
        orig_rax: u64::MAX,
        rip: context.rip,
        eflags: (old.eflags & !FIX_EFLAGS) | (context.eflags & FIX_EFLAGS),
        rsp: context.rsp,
        cs: USER_CS,
        ss: USER_DS,
        ..old
    };
    // Other segments (32-bit code) cannot be run; a return to an address that is not canonical is a
    // protection fault.
    let canonical = (context.rip as i64) << 16 >> 16 == context.rip as i64;
    if cs != USER_CS || ss != USER_DS || !canonical {
        /// Bits of a selector that are its privilege level: an error code has none.
        const PRIVILEGE: u64 = 3;
        let refused = [(cs, USER_CS), (ss, USER_DS)]
            .into_iter()
            .find(|(selector, wanted)| selector != wanted);
        let fault = &mut cx.task_mut().fault;
        fault.number = super::deliver::GENERAL_PROTECTION;
        fault.error = refused.map_or(0, |(selector, _)| selector & !PRIVILEGE);
        force(cx, SigInfo::kernel(super::SIGSEGV));
    }
    Ok(())
}

fn restore_xstate(cx: &mut Cx<'_, '_>, addr: u64) -> Result<(), Errno> {
    let thread = cx.thread;
    if addr == 0 {
        cx.p.xstate.reset(thread);
        return Ok(());
    }
    let size = cx.p.xstate.size();
    let mut state = vec![0; size];
    let fx = FXSAVE_SIZE.min(size);
    cx.read_user(addr, &mut state[..fx])?;
    if size >= XSAVE_MIN {
        const SSE: u64 = 3;
        let magic = word(&state, SW_BYTES) as u32;
        let length = word(&state, SW_BYTES + 16) as u32 as usize;
        let mut wanted = SSE;
        if magic == MAGIC1 && (XSAVE_MIN..=size).contains(&length) {
            let mut end = [0; MAGIC2_SIZE];
            cx.read_user(addr.wrapping_add(length as u64), &mut end)?;
            if u32::from_le_bytes(end) == MAGIC2 {
                wanted = word(&state, SW_BYTES + 8);
                cx.read_user(
                    addr.wrapping_add(FXSAVE_SIZE as u64),
                    &mut state[FXSAVE_SIZE..length],
                )?;
                let header = word(&state, FXSAVE_SIZE);
                // A feature that this processor does not have is refused, as it would refuse it itself.
                if header & !wanted != 0 && header & !processor_features(cx, size) != 0 {
                    return Err(Errno::EINVAL);
                }
                wanted &= header;
            }
        }
        state[FXSAVE_SIZE..FXSAVE_SIZE + 8].copy_from_slice(&wanted.to_le_bytes());
        state[SW_BYTES..FXSAVE_SIZE].fill(0);
    }
    cx.p.xstate.write(thread, &state)
}

/// Sets the alternate signal stack of the current thread. `EPERM` while it runs on it, `EINVAL`, `ENOMEM`.
pub(crate) fn set_altstack(cx: &mut Cx<'_, '_>, stack: StackT) -> Result<(), Errno> {
    const MINSIGSTKSZ: u64 = 2048;
    let task = cx.task_mut();
    if task.altstack.active(task.regs.rsp) && task.altstack.size != 0 {
        return Err(Errno::EPERM);
    }
    let mode = stack.flags & !g::SS_AUTODISARM;
    if ![g::SS_DISABLE, g::SS_ONSTACK, 0].contains(&mode) {
        return Err(Errno::EINVAL);
    }
    if mode == g::SS_DISABLE {
        task.altstack = AltStack {
            sp: 0,
            size: 0,
            flags: stack.flags,
        };
        return Ok(());
    }
    if stack.size < MINSIGSTKSZ {
        return Err(Errno::ENOMEM);
    }
    task.altstack = AltStack {
        sp: stack.sp,
        size: stack.size,
        flags: stack.flags,
    };
    Ok(())
}
