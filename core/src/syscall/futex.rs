//! Futexes.

use super::args::*;
use crate::abi::Errno;
use crate::kernel::{Cx, SysResult};

pub(super) fn futex(
    _cx: &mut Cx<'_, '_>,
    _uaddr: Addr,
    _op: Hex,
    _val: Uint,
    _timeout: Addr,
    _uaddr2: Addr,
    _val3: Uint,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn set_robust_list(_cx: &mut Cx<'_, '_>, _head: Addr, _len: Size) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn get_robust_list(
    _cx: &mut Cx<'_, '_>,
    _pid: Pid,
    _head: Addr,
    _len: Addr,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}
