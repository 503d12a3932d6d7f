//! Extended attributes.

use super::args::*;
use crate::abi::Errno;
use crate::kernel::{Cx, SysResult};

pub(super) fn setxattr(
    _cx: &mut Cx<'_, '_>,
    _path: Path,
    _name: Str,
    _value: Addr,
    _size: Size,
    _flags: Hex,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn lsetxattr(
    _cx: &mut Cx<'_, '_>,
    _path: Path,
    _name: Str,
    _value: Addr,
    _size: Size,
    _flags: Hex,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn fsetxattr(
    _cx: &mut Cx<'_, '_>,
    _fd: Fd,
    _name: Str,
    _value: Addr,
    _size: Size,
    _flags: Hex,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn getxattr(
    _cx: &mut Cx<'_, '_>,
    _path: Path,
    _name: Str,
    _value: Addr,
    _size: Size,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn lgetxattr(
    _cx: &mut Cx<'_, '_>,
    _path: Path,
    _name: Str,
    _value: Addr,
    _size: Size,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn fgetxattr(
    _cx: &mut Cx<'_, '_>,
    _fd: Fd,
    _name: Str,
    _value: Addr,
    _size: Size,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn listxattr(_cx: &mut Cx<'_, '_>, _path: Path, _list: Addr, _size: Size) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn llistxattr(_cx: &mut Cx<'_, '_>, _path: Path, _list: Addr, _size: Size) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn flistxattr(_cx: &mut Cx<'_, '_>, _fd: Fd, _list: Addr, _size: Size) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn removexattr(_cx: &mut Cx<'_, '_>, _path: Path, _name: Str) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn lremovexattr(_cx: &mut Cx<'_, '_>, _path: Path, _name: Str) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn fremovexattr(_cx: &mut Cx<'_, '_>, _fd: Fd, _name: Str) -> SysResult {
    Err(Errno::ENOSYS.into())
}
