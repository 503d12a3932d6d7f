//! Signals.

use super::args::*;
use crate::abi::Errno;
use crate::kernel::{Cx, SysResult};

pub(super) fn rt_sigaction(
    _cx: &mut Cx<'_, '_>,
    _signum: Sig,
    _act: Addr,
    _oldact: Addr,
    _sigsetsize: Size,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn rt_sigprocmask(
    _cx: &mut Cx<'_, '_>,
    _how: Int,
    _set: Addr,
    _oldset: Addr,
    _sigsetsize: Size,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn rt_sigreturn(_cx: &mut Cx<'_, '_>) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn pause(_cx: &mut Cx<'_, '_>) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn kill(_cx: &mut Cx<'_, '_>, _pid: Pid, _sig: Sig) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn rt_sigpending(_cx: &mut Cx<'_, '_>, _set: Addr, _sigsetsize: Size) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn rt_sigtimedwait(
    _cx: &mut Cx<'_, '_>,
    _set: Addr,
    _info: Addr,
    _timeout: Addr,
    _sigsetsize: Size,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn rt_sigqueueinfo(
    _cx: &mut Cx<'_, '_>,
    _pid: Pid,
    _sig: Sig,
    _info: Addr,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn rt_sigsuspend(_cx: &mut Cx<'_, '_>, _mask: Addr, _sigsetsize: Size) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn sigaltstack(_cx: &mut Cx<'_, '_>, _ss: Addr, _old_ss: Addr) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn tkill(_cx: &mut Cx<'_, '_>, _tid: Pid, _sig: Sig) -> SysResult {
    Err(Errno::ENOSYS.into())
}

pub(super) fn tgkill(_cx: &mut Cx<'_, '_>, _tgid: Pid, _tid: Pid, _sig: Sig) -> SysResult {
    Err(Errno::ENOSYS.into())
}
