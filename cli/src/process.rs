//! What the command does with its own process so that a sandbox can run in it: the library changes nothing
//! there.

use std::io;
use std::thread;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::signal::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::Signals;
use varve_sandbox::Controls;

/// Raises the limit of open files as far as it goes: it bounds how many guest threads there can be.
pub(crate) fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    // Where that is refused, there can be as many as there can be.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
}

/// Signals that are for the first program, from now on.
pub(crate) struct Forwarded(Signals);

impl Forwarded {
    /// Takes them. Those that come before there is a sandbox wait for it.
    ///
    /// # Errors
    /// The signals cannot be taken.
    pub(crate) fn take() -> io::Result<Forwarded> {
        let all = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH];
        Signals::new(all).map(Forwarded)
    }

    /// Hands them to a sandbox until that has ended.
    ///
    /// # Errors
    /// There is no room for a thread.
    pub(crate) fn hand_to(self, sandbox: Controls) -> io::Result<()> {
        let Forwarded(mut signals) = self;
        let forward = move || {
            for signal in signals.forever() {
                let told = match signal {
                    SIGWINCH => match rustix::termios::tcgetwinsize(io::stdin()) {
                        Ok(size) => sandbox.resize(size.ws_row, size.ws_col),
                        Err(_) => Ok(()),
                    },
                    signal => sandbox.signal(signal as u8),
                };
                if told.is_err() {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("signals".into());
        thread.stack_size(128 << 10).spawn(forward).map(drop)
    }
}
