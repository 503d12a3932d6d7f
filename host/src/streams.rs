//! Host operations on the standard streams, done by the worker of the thread that asked, outside the kernel
//! lock, and given up when its mailbox rings.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::SeekFrom;
use rustix::io::Errno as HostErrno;
use varve_core::abi::Errno;
use varve_core::event::{HostCall, HostResult};

/// Most bytes that one write to anything but a regular file takes: a pipe that polls writable has room for so
/// many.
const WRITE_MAX: usize = 4096;

/// Does one operation. `rings` is readable when the operation should be given up, which gives `EINTR`.
pub(crate) fn perform(call: &HostCall, rings: BorrowedFd<'_>) -> Result<HostResult, Errno> {
    let (stream, events) = match call {
        HostCall::Read { stream, .. } => (*stream, PollFlags::IN),
        HostCall::Write { stream, .. } => (*stream, PollFlags::OUT),
        HostCall::Poll { stream, events } => (*stream, PollFlags::from_bits_truncate(*events)),
        HostCall::Seek {
            stream,
            offset,
            whence,
        } => return seek(*stream, *offset, *whence),
    };
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let fd = match stream {
        0 => stdin.as_fd(),
        1 => stdout.as_fd(),
        2 => stderr.as_fd(),
        _ => return Err(Errno::EBADF),
    };
    let ready = wait(fd, events, rings)?;
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

fn wait(fd: BorrowedFd<'_>, events: PollFlags, rings: BorrowedFd<'_>) -> Result<PollFlags, Errno> {
    let mut fds = [
        PollFd::from_borrowed_fd(fd, events),
        PollFd::from_borrowed_fd(rings, PollFlags::IN),
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

fn seek(stream: u8, offset: i64, whence: u8) -> Result<HostResult, Errno> {
    let to = match whence {
        0 => SeekFrom::Start(u64::try_from(offset).map_err(|_| Errno::EINVAL)?),
        1 => SeekFrom::Current(offset),
        2 => SeekFrom::End(offset),
        _ => return Err(Errno::EINVAL),
    };
    let result = match stream {
        0 => rustix::fs::seek(std::io::stdin(), to),
        1 => rustix::fs::seek(std::io::stdout(), to),
        2 => rustix::fs::seek(std::io::stderr(), to),
        _ => return Err(Errno::EBADF),
    };
    result.map(HostResult::Count).map_err(errno)
}

pub(crate) fn errno(error: HostErrno) -> Errno {
    Errno::from_number(error.raw_os_error())
}
