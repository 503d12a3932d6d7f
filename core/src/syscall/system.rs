//! The system, its limits and its scheduler.

use super::args::*;
use crate::abi::Errno;
use crate::kernel::{Cx, SysResult};

pub(super) fn uname(_cx: &mut Cx<'_, '_>, _buf: Addr) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn getrlimit(_cx: &mut Cx<'_, '_>, _resource: Uint, _rlim: Addr) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn getrusage(_cx: &mut Cx<'_, '_>, _who: Int, _usage: Addr) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn sysinfo(_cx: &mut Cx<'_, '_>, _info: Addr) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn times(_cx: &mut Cx<'_, '_>, _buf: Addr) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn personality(_cx: &mut Cx<'_, '_>, _persona: Hex) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn getpriority(_cx: &mut Cx<'_, '_>, _which: Int, _who: Int) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn setpriority(_cx: &mut Cx<'_, '_>, _which: Int, _who: Int, _prio: Int) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn sched_getparam(_cx: &mut Cx<'_, '_>, _pid: Pid, _param: Addr) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn sched_setscheduler(
    _cx: &mut Cx<'_, '_>,
    _pid: Pid,
    _policy: Int,
    _param: Addr,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn sched_getscheduler(_cx: &mut Cx<'_, '_>, _pid: Pid) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn sched_get_priority_max(_cx: &mut Cx<'_, '_>, _policy: Int) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn sched_get_priority_min(_cx: &mut Cx<'_, '_>, _policy: Int) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn prctl(
    _cx: &mut Cx<'_, '_>,
    _option: Int,
    _arg2: Hex,
    _arg3: Hex,
    _arg4: Hex,
    _arg5: Hex,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn setrlimit(_cx: &mut Cx<'_, '_>, _resource: Uint, _rlim: Addr) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn sethostname(_cx: &mut Cx<'_, '_>, _name: Str, _len: Size) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn sched_setaffinity(
    _cx: &mut Cx<'_, '_>,
    _pid: Pid,
    _len: Size,
    _mask: Addr,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn sched_getaffinity(
    _cx: &mut Cx<'_, '_>,
    _pid: Pid,
    _len: Size,
    _mask: Addr,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn prlimit64(
    _cx: &mut Cx<'_, '_>,
    _pid: Pid,
    _resource: Uint,
    _new: Addr,
    _old: Addr,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn getcpu(_cx: &mut Cx<'_, '_>, _cpu: Addr, _node: Addr) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn getrandom(
    _cx: &mut Cx<'_, '_>,
    _buf: OutBuf,
    _count: Size,
    _flags: Hex,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn membarrier(_cx: &mut Cx<'_, '_>, _cmd: Int, _flags: Hex, _cpu: Int) -> SysResult {
    Err(Errno::ENOSYS.into())
}
