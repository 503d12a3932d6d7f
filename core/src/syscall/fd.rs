//! File descriptors, pipes, fcntl, ioctl.

use super::args::*;
use crate::abi::Errno;
use crate::kernel::{Cx, SysResult};

pub(super) fn ioctl(_cx: &mut Cx<'_, '_>, _fd: Fd, _request: Hex, _arg: Addr) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn pipe(_cx: &mut Cx<'_, '_>, _fds: Addr) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn dup(_cx: &mut Cx<'_, '_>, _oldfd: Fd) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn dup2(_cx: &mut Cx<'_, '_>, _oldfd: Fd, _newfd: Fd) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn fcntl(_cx: &mut Cx<'_, '_>, _fd: Fd, _cmd: Fcntl, _arg: Hex) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn flock(_cx: &mut Cx<'_, '_>, _fd: Fd, _operation: Hex) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn dup3(_cx: &mut Cx<'_, '_>, _oldfd: Fd, _newfd: Fd, _flags: OpenFlags) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn pipe2(_cx: &mut Cx<'_, '_>, _fds: Addr, _flags: OpenFlags) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn close_range(
    _cx: &mut Cx<'_, '_>,
    _first: Uint,
    _last: Uint,
    _flags: Hex,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}
