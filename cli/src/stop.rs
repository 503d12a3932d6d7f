//! Signals that end varve, while there is something to take away first.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use anyhow::Result;
use signal_hook::consts::signal::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;

/// The signal that told varve to stop, if one did.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop(Arc<AtomicI32>);

impl Stop {
    /// Takes SIGHUP, SIGINT and SIGTERM from now on: the first one is kept for whoever works to find, the
    /// second ends varve as it is. A limit on the size of files is an error of the write, not the end.
    ///
    /// # Errors
    /// The signals cannot be taken.
    pub(crate) fn on_signals() -> Result<Stop> {
        let stop = Stop::default();
        signal_hook::flag::register(SIGXFSZ, Arc::default())?;
        let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
        let told = stop.clone();
        std::thread::spawn(move || {
            for signal in signals.forever() {
                if told.0.swap(signal, Ordering::Relaxed) != 0 {
                    std::process::exit(128 + signal);
                }
            }
        });
        Ok(stop)
    }

    /// The signal that came.
    pub(crate) fn signal(&self) -> Option<u8> {
        u8::try_from(self.0.load(Ordering::Relaxed))
            .ok()
            .filter(|signal| *signal != 0)
    }

    /// Ends the work when a signal came.
    ///
    /// # Errors
    /// One did.
    pub(crate) fn check(&self) -> io::Result<()> {
        match self.signal() {
            None => Ok(()),
            Some(signal) => Err(io::Error::other(format!("stopped by signal {signal}"))),
        }
    }
}
