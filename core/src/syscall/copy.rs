//! Moving data between files inside the kernel.

use super::args::*;
use crate::abi::Errno;
use crate::kernel::{Cx, SysResult};

pub(super) fn sendfile(
    _cx: &mut Cx<'_, '_>,
    _out_fd: Fd,
    _in_fd: Fd,
    _offset: Addr,
    _count: Size,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn splice(
    _cx: &mut Cx<'_, '_>,
    _fd_in: Fd,
    _off_in: Addr,
    _fd_out: Fd,
    _off_out: Addr,
    _len: Size,
    _flags: Hex,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn tee(
    _cx: &mut Cx<'_, '_>,
    _fd_in: Fd,
    _fd_out: Fd,
    _len: Size,
    _flags: Hex,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn copy_file_range(
    _cx: &mut Cx<'_, '_>,
    _fd_in: Fd,
    _off_in: Addr,
    _fd_out: Fd,
    _off_out: Addr,
    _len: Size,
    _flags: Hex,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}
