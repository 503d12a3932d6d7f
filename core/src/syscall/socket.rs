//! Sockets: their creation. No address family is there yet, so it ends as on a Linux without the family.

use alloc::format;

use super::args::*;
use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::event::Level;
use crate::kernel::{Cx, SysResult};

/// Bits of the socket type proper (`SOCK_TYPE_MASK`), one past the highest type (`SOCK_MAX`), number of families (`NPROTO`).
const TYPE_MASK: u32 = 0xf;
const TYPES: u32 = 11;
const FAMILIES: u32 = 46;

pub(super) fn socket(cx: &mut Cx<'_, '_>, domain: Uint, kind: Uint, _protocol: Int) -> SysResult {
    create(cx, domain.0, kind.0)
}

pub(super) fn socketpair(
    cx: &mut Cx<'_, '_>,
    domain: Uint,
    kind: Uint,
    _protocol: Int,
    _pair: Addr,
) -> SysResult {
    create(cx, domain.0, kind.0)
}

/// Checks as `__sys_socket()` of Linux (net/socket.c) up to the look for the family.
fn create(cx: &mut Cx<'_, '_>, family: u32, kind: u32) -> SysResult {
    let flags = kind & !TYPE_MASK;
    if flags & !(g::O_CLOEXEC | g::O_NONBLOCK) != 0 {
        return Err(Errno::EINVAL.into());
    }
    if family < FAMILIES && kind & TYPE_MASK >= TYPES {
        return Err(Errno::EINVAL.into());
    }
    cx.log(
        Level::Warn,
        format!("sockets of address family {family} are not supported"),
    );
    Err(Errno::EAFNOSUPPORT.into())
}
