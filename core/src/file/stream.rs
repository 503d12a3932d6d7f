//! Standard streams of the host as open files, and what of a terminal can be asked of them.

use crate::file::caller::FileCallers;
use alloc::vec;
use alloc::vec::Vec;

use super::ops::{FileOps, OpenFile};
use super::rw::{How, Iov};
use super::{FileId, FileKind, Files};
use crate::abi::Errno;
use crate::abi::raw::{general as g, ioctl as i};
use crate::boot::Stdio;
use crate::env::cx::Cx;
use crate::env::wait::{Blocking, Stop, SysResult};
use crate::event::{HostCall, HostResult};
use crate::file;
use crate::machine::ThreadId;

/// A standard stream.
pub(super) struct Ops;

impl OpenFile for Ops {}

/// The stream that an open file is. `EBADF` for others.
fn stream_of(k: &Files, id: FileId) -> Result<u8, Errno> {
    match file::at(k, id).kind {
        FileKind::HostStream(stream) => Ok(stream),
        _ => Err(Errno::EBADF),
    }
}

impl<K: FileCallers> FileOps<K> for Ops {
    fn read(cx: &mut Cx<'_, '_, K>, id: FileId, iov: &mut Iov, how: How) -> SysResult {
        let stream = stream_of(cx.k.files(), id)?;
        read_stream(cx, stream, iov, how.blocking)
    }

    fn write(cx: &mut Cx<'_, '_, K>, id: FileId, iov: &mut Iov, _how: How) -> SysResult {
        let stream = stream_of(cx.k.files(), id)?;
        write_stream(cx, stream, iov)
    }

    fn seek(cx: &mut Cx<'_, '_, K>, id: FileId, offset: i64, whence: u32) -> SysResult {
        let stream = stream_of(cx.k.files(), id)?;
        if cx.k.files().env.stdio.get(usize::from(stream)) != Some(&Stdio::File) {
            return Err(Errno::ESPIPE.into());
        }
        if whence > g::SEEK_END {
            return Err(Errno::EINVAL.into());
        }
        let call = HostCall::Seek {
            stream,
            offset,
            whence: whence as u8,
        };
        match cx.host(call)? {
            HostResult::Count(at) => Ok(at),
            _ => Err(Errno::EIO.into()),
        }
    }

    fn splice_write(cx: &mut Cx<'_, '_, K>, id: FileId, data: Vec<u8>, _how: How) -> SysResult {
        let stream = stream_of(cx.k.files(), id)?;
        match cx.host(HostCall::Write { stream, data }) {
            Ok(HostResult::Count(count)) => Ok(count),
            Ok(_) => Err(Errno::EIO.into()),
            Err(Stop::Errno(Errno::EPIPE)) => {
                cx.k.raise(cx.thread, g::SIGPIPE);
                Err(Errno::EPIPE.into())
            }
            Err(stop) => Err(stop),
        }
    }

    fn ready(_k: &K, _thread: ThreadId, _id: FileId, _depth: u32) -> u16 {
        super::ready::OUT
    }

    fn ioctl(cx: &mut Cx<'_, '_, K>, id: FileId, request: u32, arg: u64) -> Option<SysResult> {
        let (rows, cols) = terminal_of(cx.k.files(), id)?;
        terminal_ioctl(cx, request, arg, rows, cols).transpose()
    }

    fn available(cx: &mut Cx<'_, '_, K>, id: FileId) -> Result<i64, Stop> {
        let stream = stream_of(cx.k.files(), id)?;
        // The host tells only whether there is something.
        let ready = stream_ready(cx, stream, g::POLLIN as u16, STREAM_GRACE)?;
        Ok(i64::from(
            ready.is_some_and(|ready| ready & g::POLLIN as u16 != 0),
        ))
    }
}

/// Most bytes of one host operation.
const HOST_CHUNK: u64 = 65536;

/// How long a call that must not wait gives the host to say whether a stream is ready.
pub(crate) const STREAM_GRACE: u64 = 1_000_000;

/// Asks the host whether a stream is ready without waiting for it. `None`: it is not.
pub(crate) fn stream_ready<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    stream: u8,
    events: u16,
    timeout: u64,
) -> Result<Option<u16>, Stop> {
    let deadline = cx.call_state().entered.mono.saturating_add(timeout);
    match cx.host(HostCall::Poll { stream, events }) {
        Ok(HostResult::Ready(ready)) => Ok(Some(ready)),
        Ok(_) => Err(Errno::EIO.into()),
        Err(Stop::Block(wait)) => match cx.now().mono >= deadline {
            true => Ok(None),
            false => Err(Stop::Block(wait.until(Some(deadline)))),
        },
        Err(stop) => Err(stop),
    }
}

fn read_stream<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    stream: u8,
    iov: &mut Iov,
    blocking: Blocking,
) -> Result<u64, Stop> {
    if iov.left() == 0 {
        return Ok(0);
    }
    // Bytes that the host gave must not be lost to a bad address.
    iov.run(cx, 1, true)?;
    if blocking == Blocking::Fails && cx.call_state().progress == 0 {
        match stream_ready(cx, stream, g::POLLIN as u16, STREAM_GRACE)? {
            Some(_) => cx.call_state().progress = 1,
            None => return Err(Errno::EAGAIN.into()),
        }
    }
    let len = iov.left().min(HOST_CHUNK) as u32;
    match cx.host(HostCall::Read { stream, len })? {
        HostResult::Data(data) => Ok(iov.put(cx, &data)?),
        _ => Err(Errno::EIO.into()),
    }
}

fn write_stream<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    stream: u8,
    iov: &mut Iov,
) -> Result<u64, Stop> {
    if iov.left() == 0 {
        return Ok(0);
    }
    let mut done = cx.call_state().progress;
    iov.advance(done);
    // Where the host takes little at a time, little more than that is copied for it.
    let mut chunk = HOST_CHUNK;
    while iov.left() > 0 {
        let mut data = Vec::new();
        if cx.call_state().op.is_none() {
            data = vec![0; iov.left().min(chunk) as usize];
            match iov.clone().take(cx, &mut data) {
                Ok(len) => data.truncate(len as usize),
                Err(errno) if done == 0 => return Err(errno.into()),
                Err(_) => return Ok(done),
            }
        }
        match cx.host(HostCall::Write { stream, data }) {
            Ok(HostResult::Count(len)) if len > 0 => {
                let len = len.min(iov.left());
                chunk = (2 * len).min(HOST_CHUNK);
                iov.advance(len);
                done += len;
            }
            Ok(_) => return Err(Errno::EIO.into()),
            Err(Stop::Block(wait)) => return cx.block_after(done, wait),
            Err(Stop::Errno(Errno::EPIPE)) => {
                cx.k.raise(cx.thread, g::SIGPIPE);
                return match done {
                    0 => Err(Errno::EPIPE.into()),
                    done => Ok(done),
                };
            }
            Err(_) if done > 0 => return Ok(done),
            Err(stop) => return Err(stop),
        }
    }
    Ok(done)
}

/// Rows and columns, if a file is a terminal.
fn terminal_of(k: &Files, id: FileId) -> Option<(u16, u16)> {
    let FileKind::HostStream(stream) = file::at(k, id).kind else {
        return None;
    };
    match k.env.stdio.get(usize::from(stream))? {
        &Stdio::Terminal { rows, cols } => Some((rows, cols)),
        _ => None,
    }
}

/// `struct termios` of the kernel: c_iflag, c_oflag, c_cflag, c_lflag, c_line and 19 control characters of a
/// terminal in its usual state.
const TERMIOS: [u8; 36] = {
    let mut bytes = [0; 36];
    let words: [u32; 4] = [0x4500, 0x5, 0xbf, 0x8a3b];
    let mut index = 0;
    while index < 4 {
        let word = words[index].to_le_bytes();
        let mut byte = 0;
        while byte < 4 {
            bytes[index * 4 + byte] = word[byte];
            byte += 1;
        }
        index += 1;
    }
    let chars = [
        3, 28, 127, 21, 4, 0, 1, 0, 17, 19, 26, 0, 18, 15, 23, 22, 0, 0, 0,
    ];
    index = 0;
    while index < 19 {
        bytes[17 + index] = chars[index];
        index += 1;
    }
    bytes
};

fn terminal_ioctl<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    request: u32,
    arg: u64,
    rows: u16,
    cols: u16,
) -> Result<Option<u64>, Stop> {
    match request {
        i::TCGETS => {
            let termios = cx.k.files().termios.unwrap_or(TERMIOS);
            cx.write_user(arg, &termios)?;
        }
        i::TCSETS | i::TCSETSW | i::TCSETSF => {
            // Kept for the program to read; the host's terminal stays as it is.
            let mut termios = [0; 36];
            cx.read_user(arg, &mut termios)?;
            cx.k.files_mut().termios = Some(termios);
        }
        i::TIOCGWINSZ => cx.write_obj(arg, &[rows, cols, 0, 0])?,
        i::TIOCSWINSZ => {
            let [rows, cols, _, _]: [u16; 4] = cx.read_obj(arg)?;
            for stdio in &mut cx.k.files_mut().env.stdio {
                if let Stdio::Terminal { .. } = stdio {
                    *stdio = Stdio::Terminal { rows, cols };
                }
            }
        }
        i::TIOCGPGRP => {
            let group = cx.k.terminal_groups().0;
            cx.write_obj(arg, &group)?;
        }
        i::TIOCSPGRP => {
            let group: i32 = cx.read_obj(arg)?;
            cx.k.set_foreground(cx.thread, group)?;
        }
        i::TIOCGSID => {
            let session = cx.k.terminal_groups().1;
            cx.write_obj(arg, &session)?;
        }
        i::TIOCSCTTY | i::TIOCNOTTY | i::TCFLSH | i::TCSBRK | i::TCXONC => {}
        _ => return Ok(None),
    }
    Ok(Some(0))
}
