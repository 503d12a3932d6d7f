//! How often guests were left, and why.

use crate::vcpu::Exit;

/// Counts of one thread, or of all that have ended.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Exits {
    syscalls: u64,
    faults: u64,
    exceptions: u64,
    interruptions: u64,
}

/// The vector of page faults.
const PAGE_FAULT: u8 = 14;

impl Exits {
    /// Counts one.
    pub(crate) fn count(&mut self, exit: &Exit) {
        match exit {
            Exit::Syscall => self.syscalls += 1,
            Exit::Exception(PAGE_FAULT) | Exit::Missing => self.faults += 1,
            Exit::Exception(_) | Exit::Port => self.exceptions += 1,
            Exit::Asked => self.interruptions += 1,
        }
    }

    /// Adds the counts of a thread.
    pub(crate) fn add(&mut self, other: &Exits) {
        self.syscalls += other.syscalls;
        self.faults += other.faults;
        self.exceptions += other.exceptions;
        self.interruptions += other.interruptions;
    }

    /// All of them in one line.
    pub(crate) fn report(&self) -> String {
        let Exits {
            syscalls,
            faults,
            exceptions,
            interruptions,
        } = self;
        let all = syscalls + faults + exceptions + interruptions;
        format!(
            "kvm: {all} exits: {syscalls} system calls, {faults} page faults, {exceptions} other exceptions, {interruptions} interruptions"
        )
    }
}
