//! Standard streams of a sandbox.

use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use varve_core::boot;
use varve_host::stream_kind;

/// What a standard stream of the first program is.
#[derive(Debug)]
pub struct Stdio {
    kind: Kind,
    as_pipe: bool,
}

#[derive(Debug)]
enum Kind {
    Inherit,
    Null,
    Piped,
    Fd(OwnedFd),
}

impl Stdio {
    /// The same stream of this process.
    pub fn inherit() -> Stdio {
        Stdio::new(Kind::Inherit)
    }

    /// `/dev/null`, inside the sandbox.
    pub fn null() -> Stdio {
        Stdio::new(Kind::Null)
    }

    /// A new pipe, whose other end the [`Sandbox`](crate::Sandbox) has.
    pub fn piped() -> Stdio {
        Stdio::new(Kind::Piped)
    }

    /// The same stream, which programs take for a pipe whatever it is: they do not find out that it is a
    /// terminal or a file.
    #[must_use]
    pub fn as_pipe(self) -> Stdio {
        let as_pipe = true;
        Stdio { as_pipe, ..self }
    }

    fn new(kind: Kind) -> Stdio {
        let as_pipe = false;
        Stdio { kind, as_pipe }
    }

    fn inherited(own: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
        match own.try_clone_to_owned() {
            Ok(fd) => Ok(Some(fd)),
            // It is closed: the same as nothing.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::BADF.raw_os_error()) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Opens it as a stream to read; `own` is the one of this process.
    pub(crate) fn input(self, own: BorrowedFd<'_>) -> io::Result<Opened<PipeWriter>> {
        self.open(own, |reader, writer| (reader.into(), writer))
    }

    /// Opens it as a stream to write; `own` is the one of this process.
    pub(crate) fn output(self, own: BorrowedFd<'_>) -> io::Result<Opened<PipeReader>> {
        self.open(own, |reader, writer| (writer.into(), reader))
    }

    fn open<E>(
        self,
        own: BorrowedFd<'_>,
        ends: fn(PipeReader, PipeWriter) -> (OwnedFd, E),
    ) -> io::Result<Opened<E>> {
        let (fd, other) = match self.kind {
            Kind::Inherit => (Stdio::inherited(own)?, None),
            Kind::Null => (None, None),
            Kind::Fd(fd) => (Some(fd), None),
            Kind::Piped => {
                let (reader, writer) = io::pipe()?;
                let (fd, other) = ends(reader, writer);
                (Some(fd), Some(other))
            }
        };
        let kind = match &fd {
            None => boot::Stdio::Null,
            Some(_) if self.as_pipe => boot::Stdio::Stream,
            Some(fd) => stream_kind(fd.as_fd()),
        };
        Ok(Opened { fd, kind, other })
    }
}

/// A stream, opened.
pub(crate) struct Opened<E> {
    /// The sandbox's end.
    pub fd: Option<OwnedFd>,
    /// What programs see of it.
    pub kind: boot::Stdio,
    /// The caller's end of a pipe.
    pub other: Option<E>,
}

impl<T: Into<OwnedFd>> From<T> for Stdio {
    /// An open file, pipe, socket or terminal.
    fn from(fd: T) -> Stdio {
        Stdio::new(Kind::Fd(fd.into()))
    }
}
