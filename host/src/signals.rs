//! Signals that varve receives are handed to the first program.

use std::io;
use std::sync::Arc;
use std::thread;

use signal_hook::consts::signal::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::Signals;
use varve_core::event::Input;

use crate::platform::Platform;
use crate::run::Shared;

/// Forwards signals from now on, until varve ends.
pub(crate) fn forward<P: Platform>(shared: &Arc<Shared<P>>) -> io::Result<()> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH])?;
    let shared = Arc::downgrade(shared);
    thread::Builder::new()
        .name("signals".into())
        .stack_size(128 << 10)
        .spawn(move || {
            for signal in signals.forever() {
                let Some(shared) = shared.upgrade() else {
                    return;
                };
                if signal != SIGWINCH {
                    shared.input(Input::Signal {
                        signal: signal as u8,
                    });
                    continue;
                }
                if let Ok(size) = rustix::termios::tcgetwinsize(io::stdin()) {
                    shared.input(Input::Resize {
                        rows: size.ws_row,
                        cols: size.ws_col,
                    });
                }
            }
        })?;
    Ok(())
}
