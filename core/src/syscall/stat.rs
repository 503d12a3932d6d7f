//! Attributes of files.

use super::args::*;
use crate::abi::Errno;
use crate::kernel::{Cx, SysResult};

pub(super) fn stat(_cx: &mut Cx<'_, '_>, _path: Path, _statbuf: Addr) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn fstat(_cx: &mut Cx<'_, '_>, _fd: Fd, _statbuf: Addr) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn lstat(_cx: &mut Cx<'_, '_>, _path: Path, _statbuf: Addr) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn access(_cx: &mut Cx<'_, '_>, _path: Path, _mode: Mode) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn readlink(
    _cx: &mut Cx<'_, '_>,
    _path: Path,
    _buf: OutBuf,
    _bufsiz: Size,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn chmod(_cx: &mut Cx<'_, '_>, _path: Path, _mode: Mode) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn fchmod(_cx: &mut Cx<'_, '_>, _fd: Fd, _mode: Mode) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn chown(_cx: &mut Cx<'_, '_>, _path: Path, _owner: Id, _group: Id) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn fchown(_cx: &mut Cx<'_, '_>, _fd: Fd, _owner: Id, _group: Id) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn lchown(_cx: &mut Cx<'_, '_>, _path: Path, _owner: Id, _group: Id) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn utime(_cx: &mut Cx<'_, '_>, _path: Path, _times: Addr) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn statfs(_cx: &mut Cx<'_, '_>, _path: Path, _buf: Addr) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn fstatfs(_cx: &mut Cx<'_, '_>, _fd: Fd, _buf: Addr) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn utimes(_cx: &mut Cx<'_, '_>, _path: Path, _times: Addr) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn fchownat(
    _cx: &mut Cx<'_, '_>,
    _dirfd: DirFd,
    _path: Path,
    _owner: Id,
    _group: Id,
    _flags: AtFlags,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn futimesat(
    _cx: &mut Cx<'_, '_>,
    _dirfd: DirFd,
    _path: Path,
    _times: Addr,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn newfstatat(
    _cx: &mut Cx<'_, '_>,
    _dirfd: DirFd,
    _path: Path,
    _statbuf: Addr,
    _flags: AtFlags,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn readlinkat(
    _cx: &mut Cx<'_, '_>,
    _dirfd: DirFd,
    _path: Path,
    _buf: OutBuf,
    _bufsiz: Size,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn fchmodat(_cx: &mut Cx<'_, '_>, _dirfd: DirFd, _path: Path, _mode: Mode) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn faccessat(
    _cx: &mut Cx<'_, '_>,
    _dirfd: DirFd,
    _path: Path,
    _mode: Mode,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn utimensat(
    _cx: &mut Cx<'_, '_>,
    _dirfd: DirFd,
    _path: Path,
    _times: Addr,
    _flags: AtFlags,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn statx(
    _cx: &mut Cx<'_, '_>,
    _dirfd: DirFd,
    _path: Path,
    _flags: AtFlags,
    _mask: Hex,
    _statxbuf: Addr,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn faccessat2(
    _cx: &mut Cx<'_, '_>,
    _dirfd: DirFd,
    _path: Path,
    _mode: Mode,
    _flags: AtFlags,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn fchmodat2(
    _cx: &mut Cx<'_, '_>,
    _dirfd: DirFd,
    _path: Path,
    _mode: Mode,
    _flags: AtFlags,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}
