//! A process of the host that runs a guest, for those who signal it.
//!
//! Signals go through a descriptor of the process, never to its number: that may be another's by then.

use std::io;
use std::os::fd::OwnedFd;

use libc::{c_int, pid_t};
use rustix::process::{Pid, PidfdFlags, Signal};

/// The signal that stops a running process for varve's own ends. It never reaches the guest.
pub(crate) const KICK: c_int = libc::SIGUSR1;

/// A process that varve has made.
#[derive(Debug)]
pub(crate) struct Process {
    /// Its number. It is another's once the process has been waited for, which is the business of the thread
    /// that traces it.
    pub pid: pid_t,
    fd: OwnedFd,
}

impl Process {
    /// The process of a number. It is a child of varve that nobody has waited for.
    pub(crate) fn new(pid: pid_t) -> io::Result<Process> {
        let number = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
        let fd = rustix::process::pidfd_open(number, PidfdFlags::empty())?;
        Ok(Process { pid, fd })
    }

    /// Makes it stop soon if it runs.
    pub(crate) fn kick(&self) {
        self.send(Signal::USR1);
    }

    /// Kills it.
    pub(crate) fn kill(&self) {
        self.send(Signal::KILL);
    }

    fn send(&self, signal: Signal) {
        // One that is gone does not care.
        let _ = rustix::process::pidfd_send_signal(&self.fd, signal);
    }
}
