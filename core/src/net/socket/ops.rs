//! Sockets as open files.

use crate::file::caller::FileCallers;
use alloc::vec::Vec;

use super::{SocketId, read, ready, release, unix, write, write_bytes};
use crate::abi::Errno;
use crate::abi::raw::ioctl as i;
use crate::env::cx::Cx;
use crate::env::wait::{Stop, SysResult, WaitKey};
use crate::file::ops::{FileOps, OpenFile};
use crate::file::rw::{How, Iov};
use crate::file::{self, File, FileId, FileKind, Files};
use crate::machine::ThreadId;
use crate::net::device;
use crate::port::Ports;

/// A socket.
pub(crate) struct Ops;

/// The socket that an open file is. `ENOTSOCK` for others.
fn socket_of(k: &Files, id: FileId) -> Result<SocketId, Errno> {
    match file::at(k, id).kind {
        FileKind::Socket(socket) => Ok(socket),
        _ => Err(Errno::ENOTSOCK),
    }
}

impl OpenFile for Ops {
    const HOLDS: bool = true;

    fn signal_key(file: &File, _id: FileId) -> Option<WaitKey> {
        match file.kind {
            FileKind::Socket(socket) => Some(WaitKey::Socket(socket)),
            _ => None,
        }
    }

    fn release(k: &mut Files, p: &mut Ports<'_>, _id: FileId, kind: FileKind) {
        if let FileKind::Socket(socket) = kind {
            release(k, p, socket);
        }
    }
}

impl<K: FileCallers> FileOps<K> for Ops {
    fn read(cx: &mut Cx<'_, '_, K>, id: FileId, iov: &mut Iov, how: How) -> SysResult {
        let socket = socket_of(cx.k.files(), id)?;
        read(cx, socket, iov, how.blocking)
    }

    fn write(cx: &mut Cx<'_, '_, K>, id: FileId, iov: &mut Iov, how: How) -> SysResult {
        let socket = socket_of(cx.k.files(), id)?;
        write(cx, socket, iov, how.blocking)
    }

    fn seek(_cx: &mut Cx<'_, '_, K>, _id: FileId, _offset: i64, _whence: u32) -> SysResult {
        Err(Errno::ESPIPE.into())
    }

    fn splice_write(cx: &mut Cx<'_, '_, K>, id: FileId, data: Vec<u8>, how: How) -> SysResult {
        let socket = socket_of(cx.k.files(), id)?;
        write_bytes(cx, socket, &data, how.blocking)
    }

    fn ready(k: &K, _thread: ThreadId, id: FileId, _depth: u32) -> u16 {
        socket_of(k.files(), id).map_or(0, |socket| ready(k.files(), socket))
    }

    fn key(k: &K, _thread: ThreadId, id: FileId) -> Option<WaitKey> {
        Self::signal_key(file::at(k.files(), id), id)
    }

    fn ioctl(cx: &mut Cx<'_, '_, K>, id: FileId, request: u32, arg: u64) -> Option<SysResult> {
        if request != i::TIOCOUTQ {
            return device::ioctl(cx, request, arg);
        }
        let socket = socket_of(cx.k.files(), id).ok()?;
        let bytes = super::at(cx.k.files(), socket).unreceived as i32;
        Some(cx.write_obj(arg, &bytes).map(|()| 0).map_err(Into::into))
    }

    fn available(cx: &mut Cx<'_, '_, K>, id: FileId) -> Result<i64, Stop> {
        let socket = socket_of(cx.k.files(), id)?;
        Ok(unix::input(cx.k.files(), socket)? as i64)
    }
}
