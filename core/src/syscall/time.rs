//! Clocks, sleeping and timers.

use super::args::*;
use crate::abi::Errno;
use crate::kernel::{Cx, SysResult};

pub(super) fn sched_yield(_cx: &mut Cx<'_, '_>) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn nanosleep(_cx: &mut Cx<'_, '_>, _req: Addr, _rem: Addr) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn getitimer(_cx: &mut Cx<'_, '_>, _which: Int, _value: Addr) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn alarm(_cx: &mut Cx<'_, '_>, _seconds: Uint) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn setitimer(_cx: &mut Cx<'_, '_>, _which: Int, _new: Addr, _old: Addr) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn gettimeofday(_cx: &mut Cx<'_, '_>, _tv: Addr, _tz: Addr) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn time(_cx: &mut Cx<'_, '_>, _tloc: Addr) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn clock_settime(_cx: &mut Cx<'_, '_>, _clock: Clock, _tp: Addr) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn clock_gettime(_cx: &mut Cx<'_, '_>, _clock: Clock, _tp: Addr) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn clock_getres(_cx: &mut Cx<'_, '_>, _clock: Clock, _res: Addr) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn clock_nanosleep(
    _cx: &mut Cx<'_, '_>,
    _clock: Clock,
    _flags: Int,
    _req: Addr,
    _rem: Addr,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}
