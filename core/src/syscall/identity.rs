//! Users, groups and capabilities.

use super::args::*;
use crate::abi::Errno;
use crate::kernel::{Cx, SysResult};

pub(super) fn getuid(_cx: &mut Cx<'_, '_>) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn getgid(_cx: &mut Cx<'_, '_>) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn setuid(_cx: &mut Cx<'_, '_>, _uid: Id) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn setgid(_cx: &mut Cx<'_, '_>, _gid: Id) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn geteuid(_cx: &mut Cx<'_, '_>) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn getegid(_cx: &mut Cx<'_, '_>) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn setreuid(_cx: &mut Cx<'_, '_>, _ruid: Id, _euid: Id) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn setregid(_cx: &mut Cx<'_, '_>, _rgid: Id, _egid: Id) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn getgroups(_cx: &mut Cx<'_, '_>, _size: Int, _list: Addr) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn setgroups(_cx: &mut Cx<'_, '_>, _size: Int, _list: Addr) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn setresuid(_cx: &mut Cx<'_, '_>, _ruid: Id, _euid: Id, _suid: Id) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn getresuid(_cx: &mut Cx<'_, '_>, _ruid: Addr, _euid: Addr, _suid: Addr) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn setresgid(_cx: &mut Cx<'_, '_>, _rgid: Id, _egid: Id, _sgid: Id) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn getresgid(_cx: &mut Cx<'_, '_>, _rgid: Addr, _egid: Addr, _sgid: Addr) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn setfsuid(_cx: &mut Cx<'_, '_>, _uid: Id) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn setfsgid(_cx: &mut Cx<'_, '_>, _gid: Id) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn capget(_cx: &mut Cx<'_, '_>, _header: Addr, _data: Addr) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn capset(_cx: &mut Cx<'_, '_>, _header: Addr, _data: Addr) -> SysResult {
    Err(Errno::ENOSYS.into())
}
