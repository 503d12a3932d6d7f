//! Mappings of an address space.

use super::args::*;
use crate::abi::Errno;
use crate::kernel::{Cx, SysResult};

pub(super) fn mmap(
    _cx: &mut Cx<'_, '_>,
    _addr: Addr,
    _length: Size,
    _prot: ProtFlags,
    _flags: MapFlags,
    _fd: Fd,
    _offset: Hex,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn mprotect(
    _cx: &mut Cx<'_, '_>,
    _addr: Addr,
    _len: Size,
    _prot: ProtFlags,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn munmap(_cx: &mut Cx<'_, '_>, _addr: Addr, _length: Size) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn brk(_cx: &mut Cx<'_, '_>, _addr: Addr) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn mremap(
    _cx: &mut Cx<'_, '_>,
    _old_address: Addr,
    _old_size: Size,
    _new_size: Size,
    _flags: Hex,
    _new_address: Addr,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn msync(_cx: &mut Cx<'_, '_>, _addr: Addr, _length: Size, _flags: Hex) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn mincore(_cx: &mut Cx<'_, '_>, _addr: Addr, _length: Size, _vec: Addr) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn madvise(_cx: &mut Cx<'_, '_>, _addr: Addr, _length: Size, _advice: Int) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn mlock(_cx: &mut Cx<'_, '_>, _addr: Addr, _len: Size) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn munlock(_cx: &mut Cx<'_, '_>, _addr: Addr, _len: Size) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn mlockall(_cx: &mut Cx<'_, '_>, _flags: Hex) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn munlockall(_cx: &mut Cx<'_, '_>) -> SysResult {
    Err(Errno::ENOSYS.into())
}
