//! Waiting for file descriptors.

use super::args::*;
use crate::abi::Errno;
use crate::kernel::{Cx, SysResult};

pub(super) fn poll(_cx: &mut Cx<'_, '_>, _fds: Addr, _nfds: Uint, _timeout: Int) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn select(
    _cx: &mut Cx<'_, '_>,
    _nfds: Int,
    _readfds: Addr,
    _writefds: Addr,
    _exceptfds: Addr,
    _timeout: Addr,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn pselect6(
    _cx: &mut Cx<'_, '_>,
    _nfds: Int,
    _readfds: Addr,
    _writefds: Addr,
    _exceptfds: Addr,
    _timeout: Addr,
    _sigmask: Addr,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn ppoll(
    _cx: &mut Cx<'_, '_>,
    _fds: Addr,
    _nfds: Uint,
    _tmo: Addr,
    _sigmask: Addr,
    _sigsetsize: Size,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}
