//! Making, replacing, ending and awaiting processes.

use super::args::*;
use crate::abi::Errno;
use crate::kernel::{Cx, SysResult};

pub(super) fn getpid(_cx: &mut Cx<'_, '_>) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn clone(
    _cx: &mut Cx<'_, '_>,
    _flags: CloneFlags,
    _stack: Addr,
    _parent_tid: Addr,
    _child_tid: Addr,
    _tls: Hex,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn fork(_cx: &mut Cx<'_, '_>) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn vfork(_cx: &mut Cx<'_, '_>) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn execve(_cx: &mut Cx<'_, '_>, _path: Path, _argv: StrVec, _envp: Addr) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn exit(_cx: &mut Cx<'_, '_>, _status: Int) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn wait4(
    _cx: &mut Cx<'_, '_>,
    _pid: Pid,
    _wstatus: Addr,
    _options: Hex,
    _rusage: Addr,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn setpgid(_cx: &mut Cx<'_, '_>, _pid: Pid, _pgid: Pid) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn getppid(_cx: &mut Cx<'_, '_>) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn getpgrp(_cx: &mut Cx<'_, '_>) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn setsid(_cx: &mut Cx<'_, '_>) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn getpgid(_cx: &mut Cx<'_, '_>, _pid: Pid) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn getsid(_cx: &mut Cx<'_, '_>, _pid: Pid) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn arch_prctl(_cx: &mut Cx<'_, '_>, _code: Hex, _addr: Addr) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn gettid(_cx: &mut Cx<'_, '_>) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn set_tid_address(_cx: &mut Cx<'_, '_>, _tidptr: Addr) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn exit_group(_cx: &mut Cx<'_, '_>, _status: Int) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn waitid(
    _cx: &mut Cx<'_, '_>,
    _idtype: Int,
    _id: Pid,
    _infop: Addr,
    _options: Hex,
    _rusage: Addr,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn execveat(
    _cx: &mut Cx<'_, '_>,
    _dirfd: DirFd,
    _path: Path,
    _argv: StrVec,
    _envp: Addr,
    _flags: AtFlags,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn clone3(_cx: &mut Cx<'_, '_>, _args: Addr, _size: Size) -> SysResult {
    Err(Errno::ENOSYS.into())
}
