//! A guest thread on the KVM host.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use varve_core::machine::{Exception, Regs, Trap};
use varve_host::{GuestThread, Interrupter, PlatformError, failed};

use crate::area::Block;
use crate::exits::Exits;
use crate::kick::Kicker;
use crate::pool::{Saved, Taken, Ticket};
use crate::trap::{self, Details};
use crate::vcpu::{Exit, Vcpu, can_run};
use crate::{Sandbox, Space};

/// A guest thread.
pub struct Thread {
    sandbox: Arc<Sandbox>,
    space: Arc<Space>,
    ticket: Ticket,
    vcpu: Option<Vcpu>,
    /// Floating-point state that is to go into the next virtual CPU: of the one that was given to another
    /// thread, or newer.
    saved: Saved,
    kicker: Arc<Kicker>,
    exits: Exits,
    /// Where the program stood when the host last had no page for it, and how often in a row.
    missing: (u64, u32),
}

/// Why a program gets SIGSEGV without an address.
const GENERAL_PROTECTION: Trap = Trap::Exception(Exception {
    signal: libc::SIGSEGV as u8,
    code: 0x80,
    addr: 0,
});

impl Thread {
    pub(crate) fn new(sandbox: Arc<Sandbox>, space: Arc<Space>) -> Thread {
        let ticket = sandbox.pool.ticket();
        let kicker = Arc::new(Kicker::new(sandbox.grace.clone(), sandbox.signal));
        Thread {
            sandbox,
            space,
            ticket,
            vcpu: None,
            saved: Saved::default(),
            kicker,
            exits: Exits::default(),
            missing: (0, 0),
        }
    }

    /// Moves into another space.
    pub(crate) fn enter(&mut self, space: Arc<Space>) -> Result<(), PlatformError> {
        self.space = space;
        self.reset_xstate()
    }

    /// Whether the last system call left the guest from user mode.
    pub(crate) fn entered_stub_in_user_mode(&mut self) -> bool {
        self.vcpu
            .as_mut()
            .is_some_and(|vcpu| vcpu.is_in_user_mode())
    }

    /// The block of the virtual CPU that it holds.
    pub(crate) fn block(&self) -> Option<Block> {
        self.vcpu.as_ref().map(|vcpu| vcpu.block)
    }

    /// Has a virtual CPU with this thread's floating-point state; `false` if the thread should stop instead.
    fn hold(&mut self) -> Result<bool, PlatformError> {
        if self.vcpu.is_some() {
            return Ok(true);
        }
        let sandbox = &self.sandbox;
        let make = |block| sandbox.new_vcpu(block);
        let taken = sandbox.pool.take(self.ticket, &self.kicker, make)?;
        let saved = || self.saved().take();
        let (mut vcpu, state) = match taken {
            None => return Ok(false),
            Some(Taken::Own(vcpu)) => (vcpu, saved()),
            Some(Taken::Other(vcpu)) => {
                let state = saved().unwrap_or_else(|| sandbox.fresh_xstate());
                (vcpu, Some(state))
            }
        };
        let restored = match state {
            None => Ok(true),
            Some(state) => match vcpu.write_xstate(&state) {
                Ok(false) => vcpu.write_xstate(&sandbox.fresh_xstate()),
                result => result,
            },
        };
        if let Err(error) = restored {
            sandbox.pool.lose(self.ticket);
            return Err(error.into());
        }
        self.kicker.attach(vcpu.page());
        self.vcpu = Some(vcpu);
        Ok(true)
    }

    fn saved(&self) -> MutexGuard<'_, Option<Vec<u8>>> {
        self.saved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the virtual CPU to whoever needs one.
    fn release(&mut self) {
        if let Some(vcpu) = self.vcpu.take() {
            self.kicker.detach();
            self.sandbox.pool.park(self.ticket, vcpu, &self.saved);
        }
    }

    /// Runs until something happens that is not varve's own business.
    fn run_guest(&mut self, regs: &mut Regs) -> Result<Option<Trap>, PlatformError> {
        let Some(vcpu) = &mut self.vcpu else {
            return Ok(None);
        };
        let cr3 = self.space.root.address();
        vcpu.load(regs, cr3);
        self.space.ran.store(true, Ordering::SeqCst);
        let mut exit = vcpu.run()?;
        self.exits.count(&exit);
        while exit == Exit::Asked && vcpu.is_on_the_way_out()? {
            exit = vcpu.run()?;
            self.exits.count(&exit);
        }
        let frame = match exit {
            Exit::Exception(_) => self.sandbox.memory().frame(vcpu.block),
            _ => [0; 48],
        };
        let details;
        (*regs, details) = vcpu.leave(&exit, &frame);
        if let Some(details) = details {
            let details = self.as_on_hardware(details);
            let Some(vcpu) = &mut self.vcpu else {
                return Ok(None);
            };
            let Some(trap) = trap::trap(details, vcpu) else {
                return Err(PlatformError::Bug(format!(
                    "exception {} with error code {:#x} at {:#x}, cr2 {:#x}",
                    details.vector, details.error, details.rip, details.cr2
                )));
            };
            return Ok(self.unless_spurious(trap));
        }
        Ok(match exit {
            Exit::Syscall => Some(Trap::Syscall),
            Exit::Port => {
                vcpu.finish()?;
                self.before_port_instruction(regs);
                Some(GENERAL_PROTECTION)
            }
            Exit::Missing => {
                self.ask_again(regs.rip)?;
                None
            }
            Exit::Exception(_) | Exit::Asked => None,
        })
    }

    /// A file of the host that the program maps was cut, and KVM does not say at which address: the core is
    /// asked for all pages again.
    fn ask_again(&mut self, rip: u64) -> Result<(), PlatformError> {
        const TIMES_MAX: u32 = 16;
        let (at, times) = self.missing;
        self.missing = (rip, if at == rip { times + 1 } else { 1 });
        if self.missing.1 > TIMES_MAX {
            return Err(PlatformError::Host(format!(
                "the host does not have a page that the program at {rip:#x} uses"
            )));
        }
        let root = self.space.root;
        self.sandbox.memory().drop_pages(&self.sandbox.vm, root)
    }

    /// What a processor says of an instruction that page-table-based KVM does not know how to carry out:
    /// `int n` is a general protection fault where programs may not use the vector.
    fn as_on_hardware(&self, details: Details) -> Details {
        const INT: u8 = 0xcd;
        const UNDEFINED: u8 = 6;
        const GENERAL_PROTECTION: u8 = 13;
        let mut bytes = [0; 2];
        if details.vector != UNDEFINED {
            return details;
        }
        let memory = self.sandbox.memory();
        for (index, byte) in bytes.iter_mut().enumerate() {
            let addr = details.rip.wrapping_add(index as u64);
            memory.read_guest(self.space.root, addr, std::slice::from_mut(byte));
        }
        match bytes {
            [INT, vector] => Details {
                vector: GENERAL_PROTECTION,
                error: u64::from(vector) << 3 | 2,
                ..details
            },
            _ => details,
        }
    }

    /// A fault on a page that permits the access was on its way when another thread mapped it, or the
    /// processor remembered what was there.
    fn unless_spurious(&self, trap: Trap) -> Option<Trap> {
        if let Trap::Fault {
            addr,
            access: Some(access),
        } = trap
        {
            let memory = self.sandbox.memory();
            if memory
                .tables()
                .translate(self.space.root, addr, access)
                .is_some()
            {
                return None;
            }
        }
        Some(trap)
    }

    /// A port instruction that a program may not use was carried out as far as leaving the guest; some kinds
    /// of KVM then stand behind it.
    fn before_port_instruction(&self, regs: &mut Regs) {
        const LONGEST: u64 = 4;
        let mut bytes = [0; 2 * LONGEST as usize];
        let from = regs.rip.saturating_sub(LONGEST);
        let memory = self.sandbox.memory();
        for (index, byte) in bytes.iter_mut().enumerate() {
            memory.read_guest(
                self.space.root,
                from + index as u64,
                std::slice::from_mut(byte),
            );
        }
        regs.rip -= port_instruction_behind(&bytes[..LONGEST as usize]);
    }
}

/// Length of the port instruction that ends where `before` ends; 0 if none does, so that it is still ahead.
fn port_instruction_behind(before: &[u8]) -> u64 {
    let prefixed = |len: usize| {
        let prefixes = before[..before.len() - len]
            .iter()
            .rev()
            .take_while(|byte| matches!(byte, 0x66 | 0xf2 | 0xf3));
        (len + prefixes.count()) as u64
    };
    match *before {
        [.., 0xe4..=0xe7, _] => prefixed(2),
        [.., 0xec..=0xef | 0x6c..=0x6f] => prefixed(1),
        _ => 0,
    }
}

impl GuestThread for Thread {
    fn run(&mut self, regs: &mut Regs) -> Result<Trap, PlatformError> {
        loop {
            if self.kicker.is_killed() {
                self.kicker.detach();
                return Ok(Trap::Lost);
            }
            if self.kicker.take_interruption() {
                return Ok(Trap::Interrupted);
            }
            if !can_run(regs) {
                return Ok(GENERAL_PROTECTION);
            }
            if !self.hold().map_err(failed("a virtual CPU"))? {
                continue;
            }
            // What was wanted before the kicker was attached.
            if self.kicker.stops() {
                continue;
            }
            let trap = self
                .run_guest(regs)
                .map_err(failed("running a guest thread"))?;
            if let Some(trap) = trap {
                self.kicker.take_interruption();
                return Ok(trap);
            }
            if self.sandbox.pool.is_wanted() {
                self.release();
            }
        }
    }

    fn read_xstate(&mut self, buf: &mut [u8]) -> Result<(), PlatformError> {
        let what = "floating-point state";
        if let Some(vcpu) = &self.vcpu {
            return vcpu.read_xstate(buf).map_err(failed(what));
        }
        // In this order: a virtual CPU that is taken leaves its state in `saved`.
        let pool = &self.sandbox.pool;
        if self.saved().is_none()
            && let Some(result) = pool.look(self.ticket, |vcpu| vcpu.read_xstate(buf))
        {
            return result.map_err(failed(what));
        }
        let fresh = self.sandbox.fresh_xstate();
        let saved = self.saved();
        let state = saved.as_deref().unwrap_or(&fresh);
        let len = buf.len().min(state.len());
        buf[..len].copy_from_slice(&state[..len]);
        Ok(())
    }

    fn write_xstate(&mut self, buf: &[u8]) -> Result<bool, PlatformError> {
        match &mut self.vcpu {
            Some(vcpu) => vcpu
                .write_xstate(buf)
                .map_err(failed("floating-point state")),
            // It goes into the next virtual CPU. Waiting for one here could be waiting for threads that wait
            // for the caller.
            None => {
                *self.saved() = Some(buf.to_vec());
                Ok(true)
            }
        }
    }

    fn reset_xstate(&mut self) -> Result<(), PlatformError> {
        let fresh = self.sandbox.fresh_xstate();
        self.write_xstate(&fresh).map(drop)
    }

    fn park(&mut self) {
        self.release();
    }

    fn interrupter(&self) -> Arc<dyn Interrupter> {
        self.kicker.clone()
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.kicker.detach();
        let mut exits = self
            .sandbox
            .exits
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        exits.add(&self.exits);
        drop(exits);
        self.sandbox.pool.forget(self.ticket, self.vcpu.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_instructions_are_found_behind() {
        assert_eq!(port_instruction_behind(&[0x90, 0x90, 0xe6, 0x10]), 2);
        assert_eq!(port_instruction_behind(&[0x90, 0x90, 0x66, 0xef]), 2);
        assert_eq!(port_instruction_behind(&[0x90, 0x90, 0xf3, 0x6e]), 2);
        assert_eq!(port_instruction_behind(&[0x90, 0x66, 0xe7, 0x10]), 3);
        assert_eq!(port_instruction_behind(&[0x90, 0x90, 0x90, 0x90]), 0);
    }
}
