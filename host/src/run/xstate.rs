//! The floating-point port: the state of the thread that trapped is in its guest thread, that of others in
//! copies.

use std::collections::HashMap;

use varve_core::abi::Errno;
use varve_core::machine::ThreadId;
use varve_core::port::Xstate;

use crate::platform::GuestThread;
use crate::xstate::fresh_xstate;

/// Floating-point state of a thread whose worker is elsewhere.
pub(super) struct Parked {
    pub state: Vec<u8>,
    /// Differs from what the guest thread holds.
    pub changed: bool,
}

/// The floating-point port during one input: the trapping thread's own state is reached through its worker,
/// that of others through copies.
pub(super) struct XstatePort<'a, T> {
    pub size: usize,
    pub own: Option<(ThreadId, &'a mut T)>,
    pub parked: &'a mut HashMap<ThreadId, Parked>,
}

impl<T: GuestThread> XstatePort<'_, T> {
    fn own(&mut self, thread: ThreadId) -> Option<&mut T> {
        match &mut self.own {
            Some((id, guest)) if *id == thread => Some(guest),
            _ => None,
        }
    }
}

impl<T: GuestThread> Xstate for XstatePort<'_, T> {
    fn size(&self) -> usize {
        self.size
    }

    fn read(&mut self, thread: ThreadId, buf: &mut [u8]) {
        if let Some(guest) = self.own(thread)
            && guest.read_xstate(buf).is_ok()
        {
            return;
        }
        match self.parked.get(&thread) {
            Some(parked) => buf.copy_from_slice(&parked.state),
            None => buf.copy_from_slice(&fresh_xstate(buf.len())),
        }
    }

    fn write(&mut self, thread: ThreadId, buf: &[u8]) -> Result<(), Errno> {
        if let Some(guest) = self.own(thread) {
            return match guest.write_xstate(buf) {
                Ok(true) => Ok(()),
                _ => Err(Errno::EINVAL),
            };
        }
        self.parked.insert(
            thread,
            Parked {
                state: buf.to_vec(),
                changed: true,
            },
        );
        Ok(())
    }

    fn reset(&mut self, thread: ThreadId) {
        match self.own(thread) {
            // A thread that is lost is found out when it is run.
            Some(guest) => drop(guest.reset_xstate()),
            None => {
                let state = fresh_xstate(self.size);
                self.parked.insert(
                    thread,
                    Parked {
                        state,
                        changed: true,
                    },
                );
            }
        }
    }
}
