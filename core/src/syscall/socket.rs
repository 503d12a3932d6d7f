//! Sockets: making, naming and connecting them (socket(2), bind(2), connect(2)). Of the address families
//! there is AF_UNIX; others end as on a Linux without them.

use alloc::format;

use super::socket_address::{read_address, write_address};
use crate::abi::Errno;
use crate::abi::raw::net as n;
use crate::args::*;
use crate::env::wait::SysResult;
use crate::event::Level;
use crate::file;
use crate::file::{FileId, FileKind, fdtable};
use crate::kernel::Cx;
use crate::net::socket;
use crate::net::socket::option::BACKLOG_MAX;
use crate::net::socket::{SocketId, unix};
use bitflags::Flags as _;

/// Bits of the socket type proper (`SOCK_TYPE_MASK`), one past the highest type (`SOCK_MAX`), number of
/// families (`NPROTO`).
const TYPE_MASK: u32 = 0xf;
const TYPES: u32 = 11;
const FAMILIES: u32 = 46;

/// The socket behind a descriptor. `ENOTSOCK`.
pub(super) fn find(cx: &mut Cx<'_, '_>, fd: Fd) -> Result<(FileId, SocketId), Errno> {
    let id = fdtable::get(cx, fd.0)?;
    match file::at(cx.k, id).kind {
        FileKind::Socket(socket) => Ok((id, socket)),
        _ => Err(Errno::ENOTSOCK),
    }
}

/// Whether calls on an open file do not wait.
pub(super) fn never_waits(cx: &Cx<'_, '_>, id: FileId) -> bool {
    file::at(cx.k, id).flags.contains(OpenFlags::NONBLOCK)
}

pub(super) fn socket(cx: &mut Cx<'_, '_>, domain: Uint, kind: Uint, protocol: Int) -> SysResult {
    let flags = flags_in(kind)?;
    let id = create(cx, domain.0, kind.0, protocol.0)?;
    let file = socket::open(cx, id, flags.status())?;
    Ok(fdtable::install(cx, file, flags.on_exec())? as u64)
}

/// `SOCK_CLOEXEC` and `SOCK_NONBLOCK` beside a type. `EINVAL`.
fn flags_in(kind: Uint) -> Result<FileFlags, Errno> {
    FileFlags::from_bits(kind.0 & !TYPE_MASK).ok_or(Errno::EINVAL)
}

/// A socket without a file: checks as `__sock_create()` of Linux (net/socket.c).
fn create(cx: &mut Cx<'_, '_>, family: u32, kind: u32, protocol: i32) -> Result<SocketId, Errno> {
    let kind = kind & TYPE_MASK;
    if family < FAMILIES && kind >= TYPES {
        return Err(Errno::EINVAL);
    }
    match family {
        n::AF_UNIX => unix::create(cx, kind, protocol),
        _ => {
            let line = format!("sockets of address family {family} are not supported");
            cx.log(Level::Warn, line);
            Err(Errno::EAFNOSUPPORT)
        }
    }
}

pub(super) fn socketpair(
    cx: &mut Cx<'_, '_>,
    domain: Uint,
    kind: Uint,
    protocol: Int,
    pair: Addr,
) -> SysResult {
    let flags = flags_in(kind)?;
    // Numbers are promised to the program before anything is made, as in Linux.
    let (flags, on_exec) = (flags.status(), flags.on_exec());
    let fds = fdtable::two_free(cx)?;
    cx.write_obj(pair.0, &fds)?;
    let first = create(cx, domain.0, kind.0, protocol.0)?;
    let second = match create(cx, domain.0, kind.0, protocol.0) {
        Ok(second) => second,
        Err(errno) => {
            socket::release(cx.k, cx.p, first);
            return Err(errno.into());
        }
    };
    unix::connect::pair(cx, [first, second]);
    let first = match socket::open(cx, first, flags) {
        Ok(first) => first,
        Err(errno) => {
            socket::release(cx.k, cx.p, second);
            return Err(errno.into());
        }
    };
    let second = match socket::open(cx, second, flags) {
        Ok(second) => second,
        Err(errno) => {
            file::put(cx.k, cx.p, first);
            return Err(errno.into());
        }
    };
    fdtable::install(cx, first, on_exec)?;
    fdtable::install(cx, second, on_exec)?;
    Ok(0)
}

pub(super) fn bind(cx: &mut Cx<'_, '_>, fd: Fd, addr: Addr, addrlen: Int) -> SysResult {
    let (_, id) = find(cx, fd)?;
    let address = read_address(cx, addr.0, addrlen.0)?;
    unix::bind::bind(cx, id, &address)?;
    Ok(0)
}

pub(super) fn listen(cx: &mut Cx<'_, '_>, fd: Fd, backlog: Int) -> SysResult {
    let (_, id) = find(cx, fd)?;
    let most = cx.k.ns.net(socket::at(cx.k, id).net).backlog as u32;
    let backlog = (backlog.0 as u32).min(most).min(BACKLOG_MAX);
    unix::bind::listen(cx, id, backlog)?;
    Ok(0)
}

pub(super) fn connect(cx: &mut Cx<'_, '_>, fd: Fd, addr: Addr, addrlen: Int) -> SysResult {
    let (file, id) = find(cx, fd)?;
    let address = read_address(cx, addr.0, addrlen.0)?;
    let blocking = file::at(cx.k, file).flags.into();
    unix::connect::connect(cx, id, &address, blocking)?;
    Ok(0)
}

pub(super) fn accept(cx: &mut Cx<'_, '_>, fd: Fd, addr: Addr, addrlen: Addr) -> SysResult {
    accept_with(cx, fd, addr, addrlen, FileFlags::empty())
}

pub(super) fn accept4(
    cx: &mut Cx<'_, '_>,
    fd: Fd,
    addr: Addr,
    addrlen: Addr,
    flags: FileFlags,
) -> SysResult {
    accept_with(cx, fd, addr, addrlen, flags)
}

fn accept_with(
    cx: &mut Cx<'_, '_>,
    fd: Fd,
    addr: Addr,
    addrlen: Addr,
    flags: FileFlags,
) -> SysResult {
    let (file, id) = match find(cx, fd) {
        // Linux looks at the descriptor first, and at what it is last.
        Err(Errno::EBADF) => return Err(Errno::EBADF.into()),
        _ if flags.contains_unknown_bits() => return Err(Errno::EINVAL.into()),
        found => found?,
    };
    if fdtable::is_full(cx) {
        return Err(Errno::EMFILE.into());
    }
    file::check_room(cx.k)?;
    let blocking = file::at(cx.k, file).flags.into();
    let accepted = unix::connect::accept(cx, id, blocking)?;
    unix::connect::accepted(cx.k, id);
    let made = socket::open(cx, accepted, flags.status())?;
    if addr.0 != 0 {
        // Linux drops the connection if the program gave no place for the address.
        let written = unix::peer_address(cx.k, accepted)
            .map_err(|_| Errno::ECONNABORTED)
            .and_then(|address| write_address(cx, &address, addr.0, addrlen.0));
        if let Err(errno) = written {
            file::put(cx.k, cx.p, made);
            return Err(errno.into());
        }
    }
    Ok(fdtable::install(cx, made, flags.on_exec())? as u64)
}

pub(super) fn getsockname(cx: &mut Cx<'_, '_>, fd: Fd, addr: Addr, addrlen: Addr) -> SysResult {
    let (_, id) = find(cx, fd)?;
    let address = unix::own_address(cx.k, id);
    write_address(cx, &address, addr.0, addrlen.0)?;
    Ok(0)
}

pub(super) fn getpeername(cx: &mut Cx<'_, '_>, fd: Fd, addr: Addr, addrlen: Addr) -> SysResult {
    let (_, id) = find(cx, fd)?;
    let address = unix::peer_address(cx.k, id)?;
    write_address(cx, &address, addr.0, addrlen.0)?;
    Ok(0)
}

pub(super) fn shutdown(cx: &mut Cx<'_, '_>, fd: Fd, how: ShutdownHow) -> SysResult {
    let (_, id) = find(cx, fd)?;
    let how = match how {
        ShutdownHow::Read => socket::NO_RECEIVE,
        ShutdownHow::Write => socket::NO_SEND,
        ShutdownHow::Both => socket::NEITHER,
        ShutdownHow::Other(_) => return Err(Errno::EINVAL.into()),
    };
    unix::shutdown(cx.k, id, how);
    Ok(0)
}
