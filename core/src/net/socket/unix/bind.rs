//! Names: giving them to sockets, and finding the socket with a name.

use crate::file::caller::FileCallers;
use alloc::format;
use alloc::sync::Arc;

use super::super::option::Switches;
use super::super::{self as socket, SocketId};
use super::{Name, PATH_LEN, State};
use crate::abi::Errno;
use crate::abi::raw::{general as g, net as n};
use crate::args::DirFd;
use crate::env::cx::Cx;
use crate::file::{Files, inotify};
use crate::vfs::mount::get_path;
use crate::vfs::perm::{self, MAY_WRITE};
use crate::vfs::walk::Flags;
use crate::vfs::{names, node};

/// Bytes of the family before a name.
const FAMILY_LEN: usize = 2;
/// Names that the kernel gives: five hexadecimal digits.
const AUTOMATIC: u32 = 1 << 20;
const CWD: DirFd = DirFd(g::AT_FDCWD);

/// The name in an address that a program gave. `EINVAL`.
fn parse(address: &[u8]) -> Result<&[u8], Errno> {
    let (family, name) = address.split_at_checked(FAMILY_LEN).ok_or(Errno::EINVAL)?;
    if name.is_empty() || name.len() > PATH_LEN || family != (n::AF_UNIX as u16).to_le_bytes() {
        return Err(Errno::EINVAL);
    }
    Ok(name)
}

/// Whether a program may give this as an address. `EINVAL`.
pub(super) fn check(address: &[u8]) -> Result<(), Errno> {
    parse(address).map(|_| ())
}

/// The path in a name, up to its NUL.
fn path(name: &[u8]) -> &[u8] {
    name.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// Gives a socket a name (bind(2)).
pub(crate) fn bind<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    id: SocketId,
    address: &[u8],
) -> Result<(), Errno> {
    if address == (n::AF_UNIX as u16).to_le_bytes() {
        return bind_automatic(cx, id);
    }
    let name = parse(address)?;
    match name[0] {
        0 => bind_abstract(cx, id, name),
        _ => bind_path(cx, id, path(name)),
    }
}

fn is_bound(k: &Files, id: SocketId) -> bool {
    socket::at(k, id).unix().name.is_some()
}

fn bind_path<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    id: SocketId,
    path: &[u8],
) -> Result<(), Errno> {
    let in_use = |errno| match errno {
        Errno::EEXIST => Errno::EADDRINUSE,
        errno => errno,
    };
    if is_bound(cx.k.files(), id) {
        names::check_free(cx, CWD, path).map_err(in_use)?;
        return Err(Errno::EINVAL);
    }
    let (place, change) = names::make_socket(cx, CWD, path, 0o777).map_err(in_use)?;
    inotify::changed(cx.k.files_mut(), cx.p, change);
    let inode =
        cx.k.files()
            .vfs
            .dentries
            .inode(place.dentry)
            .ok_or(Errno::ENOENT)?;
    let place = get_path(cx.k.files_mut(), place);
    let mut name = path.to_vec();
    name.push(0);
    let unix = socket::at_mut(cx.k.files_mut(), id).unix_mut();
    unix.name = Some(Name(Arc::from(name)));
    unix.place = Some((place, inode));
    cx.k.files_mut().sockets.unix.inodes.insert(inode, id);
    Ok(())
}

fn bind_abstract<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    id: SocketId,
    name: &[u8],
) -> Result<(), Errno> {
    if is_bound(cx.k.files(), id) {
        return Err(Errno::EINVAL);
    }
    let socket = socket::at(cx.k.files(), id);
    let (net, kind) = (socket.net, socket.kind);
    let name = Name(Arc::from(name));
    let names = &mut cx.k.files_mut().sockets.unix.names;
    let key = (net, kind, name.clone());
    if names.contains_key(&key) {
        return Err(Errno::EADDRINUSE);
    }
    names.insert(key, id);
    socket::at_mut(cx.k.files_mut(), id).unix_mut().name = Some(name);
    Ok(())
}

/// Gives a socket a name that is free; one that has a name keeps it. `ENOSPC` if none is free.
fn bind_automatic<K: FileCallers>(cx: &mut Cx<'_, '_, K>, id: SocketId) -> Result<(), Errno> {
    if is_bound(cx.k.files(), id) {
        return Ok(());
    }
    for _ in 0..AUTOMATIC {
        let next = &mut cx.k.files_mut().sockets.unix.next;
        let name = format!("\0{next:05x}");
        *next = (*next + 1) % AUTOMATIC;
        match bind_abstract(cx, id, name.as_bytes()) {
            Err(Errno::EADDRINUSE) => {}
            result => return result,
        }
    }
    Err(Errno::ENOSPC)
}

/// A socket that wants to know whom messages come from has a name as soon as it sends.
pub(super) fn bind_if_asked<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    id: SocketId,
) -> Result<(), Errno> {
    let switches = socket::at(cx.k.files(), id).options.switches;
    match switches.contains(Switches::PASS_CREDENTIALS) {
        true => bind_automatic(cx, id),
        false => Ok(()),
    }
}

/// The socket that an address means to a socket of the same type. `ECONNREFUSED`, `EPROTOTYPE`, errors of the
/// walk.
pub(super) fn find<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    from: SocketId,
    address: &[u8],
) -> Result<SocketId, Errno> {
    let who = &cx.who();
    let name = parse(address)?;
    let socket = socket::at(cx.k.files(), from);
    let (net, kind) = (socket.net, socket.kind);
    if name[0] == 0 {
        let key = (net, kind, Name(Arc::from(name)));
        let found = cx.k.files().sockets.unix.names.get(&key);
        return found.copied().ok_or(Errno::ECONNREFUSED);
    }
    let path = path(name);
    let (mut walker, start) = cx.walker(CWD, path, Flags::FOLLOW)?;
    let at = walker.resolve_bare(start, path)?;
    let inode =
        cx.k.files()
            .vfs
            .dentries
            .inode(at.dentry)
            .ok_or(Errno::ENOENT)?;
    let attr = node::attr(cx.k, cx.p, inode)?;
    perm::permission(cx.k.files(), who, &attr, MAY_WRITE)?;
    if attr.mode & g::S_IFMT != g::S_IFSOCK {
        return Err(Errno::ECONNREFUSED);
    }
    let found = cx.k.files().sockets.unix.inodes.get(&inode);
    let found = found.copied().ok_or(Errno::ECONNREFUSED)?;
    match socket::at(cx.k.files(), found).kind == kind {
        true => Ok(found),
        false => Err(Errno::EPROTOTYPE),
    }
}

/// Lets others connect (listen(2)); `backlog` of them may wait, and one more.
pub(crate) fn listen<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    id: SocketId,
    backlog: u32,
) -> Result<(), Errno> {
    let cred = super::own_cred(cx);
    let socket = socket::at_mut(cx.k.files_mut(), id);
    if !socket.kind.has_connections() {
        return Err(Errno::EOPNOTSUPP);
    }
    let unix = socket.unix_mut();
    if unix.name.is_none() || unix.state == State::Connected {
        return Err(Errno::EINVAL);
    }
    unix.backlog = backlog;
    unix.state = State::Listening;
    unix.peer_cred = Some(cred);
    cx.k.files_mut()
        .env
        .wake(crate::env::wait::WaitKey::Socket(id));
    Ok(())
}
