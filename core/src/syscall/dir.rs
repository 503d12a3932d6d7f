//! Directories and names.

use super::args::*;
use crate::abi::Errno;
use crate::kernel::{Cx, SysResult};

pub(super) fn getdents(_cx: &mut Cx<'_, '_>, _fd: Fd, _dirp: Addr, _count: Uint) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn getcwd(_cx: &mut Cx<'_, '_>, _buf: Addr, _size: Size) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn chdir(_cx: &mut Cx<'_, '_>, _path: Path) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn fchdir(_cx: &mut Cx<'_, '_>, _fd: Fd) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn rename(_cx: &mut Cx<'_, '_>, _oldpath: Path, _newpath: Path) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn mkdir(_cx: &mut Cx<'_, '_>, _path: Path, _mode: Mode) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn rmdir(_cx: &mut Cx<'_, '_>, _path: Path) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn link(_cx: &mut Cx<'_, '_>, _oldpath: Path, _newpath: Path) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn unlink(_cx: &mut Cx<'_, '_>, _path: Path) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn symlink(_cx: &mut Cx<'_, '_>, _target: Str, _linkpath: Path) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn mknod(_cx: &mut Cx<'_, '_>, _path: Path, _mode: Mode, _dev: Uint) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn chroot(_cx: &mut Cx<'_, '_>, _path: Path) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn getdents64(_cx: &mut Cx<'_, '_>, _fd: Fd, _dirp: Addr, _count: Uint) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn mkdirat(_cx: &mut Cx<'_, '_>, _dirfd: DirFd, _path: Path, _mode: Mode) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn mknodat(
    _cx: &mut Cx<'_, '_>,
    _dirfd: DirFd,
    _path: Path,
    _mode: Mode,
    _dev: Uint,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn unlinkat(
    _cx: &mut Cx<'_, '_>,
    _dirfd: DirFd,
    _path: Path,
    _flags: AtFlags,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn renameat(
    _cx: &mut Cx<'_, '_>,
    _olddirfd: DirFd,
    _oldpath: Path,
    _newdirfd: DirFd,
    _newpath: Path,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn linkat(
    _cx: &mut Cx<'_, '_>,
    _olddirfd: DirFd,
    _oldpath: Path,
    _newdirfd: DirFd,
    _newpath: Path,
    _flags: AtFlags,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn symlinkat(
    _cx: &mut Cx<'_, '_>,
    _target: Str,
    _newdirfd: DirFd,
    _linkpath: Path,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn renameat2(
    _cx: &mut Cx<'_, '_>,
    _olddirfd: DirFd,
    _oldpath: Path,
    _newdirfd: DirFd,
    _newpath: Path,
    _flags: Hex,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}
