//! The file that a run is recorded to.

use std::fs::File;
use std::io::{self, Write};

use varve_core::Kernel;
use varve_core::boot::{BootConfig, BootError};
use varve_core::event::Now;
use varve_core::journal::{Header, ImageNote, Recorder, Sink};
use varve_core::port::Ports;

/// Where and how a run is recorded.
pub struct Recording {
    /// The file, empty.
    pub file: File,
    /// What messages call it.
    pub name: String,
    /// Version of the command that records, for people.
    pub version: String,
    /// Names, lengths and digests of the images, in the order of their numbers.
    pub images: Vec<ImageNote>,
    /// Inputs from one digest of the whole state to the next, at least 1.
    pub digest_every: u32,
}

/// A file that keeps the first error to itself and takes nothing more then.
pub(crate) struct LogFile {
    file: File,
    name: String,
    failed: Option<io::Error>,
}

impl Sink for LogFile {
    fn write(&mut self, bytes: &[u8]) {
        if self.failed.is_none()
            && let Err(error) = self.file.write_all(bytes)
        {
            self.failed = Some(error);
        }
    }
}

/// A run being recorded. After a failure to write nothing more reaches the file; the failure is told at the
/// end of the run.
pub(crate) type RunRecorder = Recorder<LogFile>;

/// Boots a kernel and begins the recording of its run.
pub(crate) fn boot(
    recording: Recording,
    platform: &str,
    config: BootConfig,
    ports: &mut Ports<'_>,
    booted: Now,
) -> (RunRecorder, Result<Kernel, BootError>) {
    let header = Header {
        varve: recording.version,
        platform: platform.to_owned(),
        config,
        booted,
        images: recording.images,
        frames: ports.memory.frames(),
        xstate_size: ports.xstate.size() as u32,
        digest_every: recording.digest_every,
    };
    let sink = LogFile {
        file: recording.file,
        name: recording.name,
        failed: None,
    };
    Recorder::boot(sink, &header, ports)
}

impl LogFile {
    /// The name of the file and what went wrong, if something did.
    pub(crate) fn result(self) -> Result<(), (String, io::Error)> {
        match self.failed {
            Some(error) => Err((self.name, error)),
            None => Ok(()),
        }
    }
}
