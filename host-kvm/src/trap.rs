//! Exceptions of the processor as Linux reports them to programs (`arch/x86/kernel/traps.c`).

use varve_core::abi::raw::general as g;
use varve_core::machine::{Access, Exception, Trap};

/// `si_code` of a signal that the kernel sends without saying more.
const SI_KERNEL: i32 = 0x80;
/// DR6: one step was made; one of the four breakpoints was hit.
const DR6_STEP: u64 = 1 << 14;
const DR6_BREAKPOINTS: u64 = 0xf;

/// What comes with an exception.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Details {
    pub vector: u8,
    /// What the processor pushed, or 0.
    pub error: u64,
    pub rip: u64,
    pub cr2: u64,
}

/// State that only some exceptions need.
pub(crate) trait Look {
    /// DR6, which is cleared.
    fn debug_status(&mut self) -> u64;
    /// x87 control and status word, and MXCSR.
    fn float_status(&mut self) -> (u16, u16, u32);
}

/// The trap of an exception; `None` for one that no program can cause.
pub(crate) fn trap(details: Details, look: &mut impl Look) -> Option<Trap> {
    let exception = |signal: i32, code: i32, addr: u64| {
        Some(Trap::Exception(Exception {
            signal: signal as u8,
            code,
            addr,
        }))
    };
    let rip = details.rip;
    match details.vector {
        0 => exception(libc::SIGFPE, g::FPE_INTDIV as i32, rip),
        1 => {
            let status = look.debug_status();
            let code = if status & DR6_STEP != 0 {
                g::TRAP_TRACE as i32
            } else if status & DR6_BREAKPOINTS != 0 {
                g::TRAP_HWBKPT as i32
            } else {
                // `int1`
                g::TRAP_BRKPT as i32
            };
            exception(libc::SIGTRAP, code, rip)
        }
        3 => exception(libc::SIGTRAP, SI_KERNEL, 0),
        6 => exception(libc::SIGILL, g::ILL_ILLOPN as i32, rip),
        9 => exception(libc::SIGFPE, SI_KERNEL, 0),
        11 | 12 => exception(libc::SIGBUS, SI_KERNEL, 0),
        4 | 5 | 10 | 13 => exception(libc::SIGSEGV, SI_KERNEL, 0),
        14 => page_fault(details),
        16 | 19 => {
            let (control, status, mxcsr) = look.float_status();
            let pending = match details.vector {
                16 => u32::from(status & !control),
                _ => mxcsr & !(mxcsr >> 7),
            };
            match float_code(pending) {
                Some(code) => exception(libc::SIGFPE, code, rip),
                // Linux goes on: the exception is gone by the time it looks.
                None => exception(libc::SIGFPE, SI_KERNEL, 0),
            }
        }
        17 => exception(libc::SIGBUS, g::BUS_ADRALN as i32, 0),
        _ => None,
    }
}

/// Bits of a page fault's error code.
const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const FETCH: u64 = 1 << 4;

fn page_fault(details: Details) -> Option<Trap> {
    if details.error & USER == 0 {
        return None;
    }
    let access = if details.error & FETCH != 0 {
        Access::Execute
    } else if details.error & WRITE != 0 {
        Access::Write
    } else {
        Access::Read
    };
    Some(Trap::Fault {
        addr: details.cr2,
        access: Some(access),
    })
}

/// `si_code` for the exception bits of the x87 status word or MXCSR (`fpu__exception_code`).
fn float_code(pending: u32) -> Option<i32> {
    const INVALID: u32 = 1;
    const DENORMAL: u32 = 1 << 1;
    const ZERO_DIVIDE: u32 = 1 << 2;
    const OVERFLOW: u32 = 1 << 3;
    const UNDERFLOW: u32 = 1 << 4;
    const PRECISION: u32 = 1 << 5;
    let code = match pending {
        bits if bits & INVALID != 0 => g::FPE_FLTINV as i32,
        bits if bits & ZERO_DIVIDE != 0 => g::FPE_FLTDIV as i32,
        bits if bits & OVERFLOW != 0 => g::FPE_FLTOVF as i32,
        bits if bits & (DENORMAL | UNDERFLOW) != 0 => g::FPE_FLTUND as i32,
        bits if bits & PRECISION != 0 => g::FPE_FLTRES as i32,
        _ => return None,
    };
    Some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct State(u64, (u16, u16, u32));

    impl Look for State {
        fn debug_status(&mut self) -> u64 {
            self.0
        }
        fn float_status(&mut self) -> (u16, u16, u32) {
            self.1
        }
    }

    fn signal(vector: u8, state: State) -> Option<(u8, i32, u64)> {
        let details = Details {
            vector,
            error: 0,
            rip: 0x1234,
            cr2: 0,
        };
        let mut state = state;
        match trap(details, &mut state)? {
            Trap::Exception(it) => Some((it.signal, it.code, it.addr)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn exceptions_become_the_signals_of_linux() {
        let none = || State(0, (0x37f, 0, 0x1f80));
        assert_eq!(signal(0, none()), Some((8, 1, 0x1234)));
        assert_eq!(signal(1, State(DR6_STEP, (0, 0, 0))), Some((5, 2, 0x1234)));
        assert_eq!(signal(1, none()), Some((5, 1, 0x1234)));
        assert_eq!(signal(3, none()), Some((5, 0x80, 0)));
        assert_eq!(signal(6, none()), Some((4, 2, 0x1234)));
        assert_eq!(signal(12, none()), Some((7, 0x80, 0)));
        assert_eq!(signal(13, none()), Some((11, 0x80, 0)));
        assert_eq!(signal(16, State(0, (0x37b, 4, 0))), Some((8, 3, 0x1234)));
        assert_eq!(
            signal(19, State(0, (0, 0, 0x1f00 | 1))),
            Some((8, 7, 0x1234))
        );
        assert_eq!(signal(8, none()), None);
    }

    #[test]
    fn page_faults_name_their_access() {
        let fault = |error| {
            let details = Details {
                vector: 14,
                error,
                rip: 0,
                cr2: 0x5000,
            };
            match trap(details, &mut State(0, (0, 0, 0))) {
                Some(Trap::Fault { addr, access }) => (addr, access),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(fault(4), (0x5000, Some(Access::Read)));
        assert_eq!(fault(7), (0x5000, Some(Access::Write)));
        assert_eq!(fault(0x15), (0x5000, Some(Access::Execute)));
    }
}
