//! Opening, reading and writing files.

use super::args::*;
use crate::abi::Errno;
use crate::kernel::{Cx, SysResult};

pub(super) fn read(_cx: &mut Cx<'_, '_>, _fd: Fd, _buf: OutBuf, _count: Size) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn write(_cx: &mut Cx<'_, '_>, _fd: Fd, _buf: InBuf, _count: Size) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn open(_cx: &mut Cx<'_, '_>, _path: Path, _flags: OpenFlags, _mode: Mode) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn close(_cx: &mut Cx<'_, '_>, _fd: Fd) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn lseek(_cx: &mut Cx<'_, '_>, _fd: Fd, _offset: Offset, _whence: Whence) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn pread64(
    _cx: &mut Cx<'_, '_>,
    _fd: Fd,
    _buf: OutBuf,
    _count: Size,
    _offset: Offset,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn pwrite64(
    _cx: &mut Cx<'_, '_>,
    _fd: Fd,
    _buf: InBuf,
    _count: Size,
    _offset: Offset,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn readv(_cx: &mut Cx<'_, '_>, _fd: Fd, _iov: Addr, _iovcnt: Ulong) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn writev(_cx: &mut Cx<'_, '_>, _fd: Fd, _iov: Addr, _iovcnt: Ulong) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn fsync(_cx: &mut Cx<'_, '_>, _fd: Fd) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn fdatasync(_cx: &mut Cx<'_, '_>, _fd: Fd) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn truncate(_cx: &mut Cx<'_, '_>, _path: Path, _length: Offset) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn ftruncate(_cx: &mut Cx<'_, '_>, _fd: Fd, _length: Offset) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn creat(_cx: &mut Cx<'_, '_>, _path: Path, _mode: Mode) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn umask(_cx: &mut Cx<'_, '_>, _mask: Mode) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn sync(_cx: &mut Cx<'_, '_>) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn readahead(_cx: &mut Cx<'_, '_>, _fd: Fd, _offset: Offset, _count: Size) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn fadvise64(
    _cx: &mut Cx<'_, '_>,
    _fd: Fd,
    _offset: Offset,
    _len: Size,
    _advice: Int,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn openat(
    _cx: &mut Cx<'_, '_>,
    _dirfd: DirFd,
    _path: Path,
    _flags: OpenFlags,
    _mode: Mode,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn sync_file_range(
    _cx: &mut Cx<'_, '_>,
    _fd: Fd,
    _offset: Offset,
    _nbytes: Offset,
    _flags: Hex,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn fallocate(
    _cx: &mut Cx<'_, '_>,
    _fd: Fd,
    _mode: Hex,
    _offset: Offset,
    _len: Offset,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn preadv(
    _cx: &mut Cx<'_, '_>,
    _fd: Fd,
    _iov: Addr,
    _iovcnt: Ulong,
    _offset: Offset,
    _pos_h: Ulong,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn pwritev(
    _cx: &mut Cx<'_, '_>,
    _fd: Fd,
    _iov: Addr,
    _iovcnt: Ulong,
    _offset: Offset,
    _pos_h: Ulong,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn syncfs(_cx: &mut Cx<'_, '_>, _fd: Fd) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn preadv2(
    _cx: &mut Cx<'_, '_>,
    _fd: Fd,
    _iov: Addr,
    _iovcnt: Ulong,
    _offset: Offset,
    _pos_h: Ulong,
    _flags: Hex,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn pwritev2(
    _cx: &mut Cx<'_, '_>,
    _fd: Fd,
    _iov: Addr,
    _iovcnt: Ulong,
    _offset: Offset,
    _pos_h: Ulong,
    _flags: Hex,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn openat2(
    _cx: &mut Cx<'_, '_>,
    _dirfd: DirFd,
    _path: Path,
    _how: Addr,
    _size: Size,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}
