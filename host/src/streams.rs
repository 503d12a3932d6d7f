//! Host operations on the standard streams, done by the worker of the thread that asked, outside the kernel
//! lock, and given up when its mailbox wakes it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::SeekFrom;
use rustix::io::Errno as HostErrno;
use varve_core::abi::Errno;
use varve_core::boot::Stdio;
use varve_core::event::{HostCall, HostResult};

/// Most bytes that one write to anything but a regular file takes: a pipe that polls writable has room for so
/// many.
const WRITE_MAX: usize = 4096;

/// The standard streams of a sandbox.
pub(crate) struct Streams(pub [Option<OwnedFd>; 3]);

impl Streams {
    fn fd(&self, stream: u8) -> Result<BorrowedFd<'_>, Errno> {
        let fd = self.0.get(usize::from(stream)).and_then(Option::as_ref);
        fd.map(OwnedFd::as_fd).ok_or(Errno::EBADF)
    }

    /// Does one operation. `wakeup` is readable when the operation should be given up, which gives `EINTR`.
    pub(crate) fn perform(
        &self,
        call: &HostCall,
        wakeup: BorrowedFd<'_>,
    ) -> Result<HostResult, Errno> {
        match call {
            HostCall::Read { stream, .. } => {
                transfer(self.fd(*stream)?, PollFlags::IN, call, wakeup)
            }
            HostCall::Write { stream, .. } => {
                transfer(self.fd(*stream)?, PollFlags::OUT, call, wakeup)
            }
            HostCall::Poll { stream, events } => {
                let events = PollFlags::from_bits_truncate(*events);
                transfer(self.fd(*stream)?, events, call, wakeup)
            }
            HostCall::Seek {
                stream,
                offset,
                whence,
            } => seek(self.fd(*stream)?, *offset, *whence),
        }
    }
}

/// What a descriptor is as a standard stream.
pub fn stream_kind(fd: BorrowedFd<'_>) -> Stdio {
    let Ok(stat) = rustix::fs::fstat(fd) else {
        return Stdio::Null;
    };
    if rustix::termios::isatty(fd) {
        let size = rustix::termios::tcgetwinsize(fd);
        let (rows, cols) = size.map_or((24, 80), |size| (size.ws_row, size.ws_col));
        return Stdio::Terminal { rows, cols };
    }
    match rustix::fs::FileType::from_raw_mode(stat.st_mode) {
        rustix::fs::FileType::RegularFile => Stdio::File,
        _ => Stdio::Stream,
    }
}

/// Waits until a stream is ready, then reads or writes.
fn transfer(
    fd: BorrowedFd<'_>,
    events: PollFlags,
    call: &HostCall,
    wakeup: BorrowedFd<'_>,
) -> Result<HostResult, Errno> {
    let ready = wait(fd, events, wakeup)?;
    match call {
        HostCall::Read { len, .. } => {
            let mut data = vec![0; *len as usize];
            let count = rustix::io::read(fd, &mut data).map_err(errno)?;
            data.truncate(count);
            Ok(HostResult::Data(data))
        }
        HostCall::Write { data, .. } => {
            let regular = rustix::fs::fstat(fd)
                .is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file());
            let part = if regular {
                data.len()
            } else {
                data.len().min(WRITE_MAX)
            };
            rustix::io::write(fd, &data[..part])
                .map(|count| HostResult::Count(count as u64))
                .map_err(errno)
        }
        _ => Ok(HostResult::Ready(ready.bits())),
    }
}

fn wait(fd: BorrowedFd<'_>, events: PollFlags, wakeup: BorrowedFd<'_>) -> Result<PollFlags, Errno> {
    let mut fds = [
        PollFd::from_borrowed_fd(fd, events),
        PollFd::from_borrowed_fd(wakeup, PollFlags::IN),
    ];
    loop {
        match poll(&mut fds, None) {
            Ok(_) if !fds[0].revents().is_empty() => return Ok(fds[0].revents()),
            Ok(_) if !fds[1].revents().is_empty() => return Err(Errno::EINTR),
            Ok(_) | Err(HostErrno::INTR) => {}
            Err(error) => return Err(errno(error)),
        }
    }
}

fn seek(fd: BorrowedFd<'_>, offset: i64, whence: u8) -> Result<HostResult, Errno> {
    let to = match whence {
        0 => SeekFrom::Start(u64::try_from(offset).map_err(|_| Errno::EINVAL)?),
        1 => SeekFrom::Current(offset),
        2 => SeekFrom::End(offset),
        _ => return Err(Errno::EINVAL),
    };
    rustix::fs::seek(fd, to)
        .map(HostResult::Count)
        .map_err(errno)
}

pub(crate) fn errno(error: HostErrno) -> Errno {
    Errno::from_number(error.raw_os_error())
}
