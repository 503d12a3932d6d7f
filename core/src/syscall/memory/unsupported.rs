//! Calls that Linux has only on some processors or where the administrator allows them: they answer as on a
//! machine without.

use super::protect;
use crate::abi::Errno;
use crate::args::*;
use crate::env::wait::SysResult;
use crate::kernel::Cx;

/// There are no protection keys: `EINVAL`, as on a processor without them.
pub(in super::super) fn pkey_alloc(_: &mut Cx<'_, '_>, _: Ulong, _: Hex) -> SysResult {
    Err(Errno::EINVAL.into())
}

pub(in super::super) fn pkey_free(_: &mut Cx<'_, '_>, _: Int) -> SysResult {
    Err(Errno::EINVAL.into())
}

pub(in super::super) fn pkey_mprotect(
    cx: &mut Cx<'_, '_>,
    addr: Addr,
    len: Size,
    prot: ProtFlags,
    pkey: Int,
) -> SysResult {
    match pkey.0 {
        -1 => protect(cx, addr.0, len.0, prot),
        _ => Err(Errno::EINVAL.into()),
    }
}

/// Refused as for an unprivileged program (`vm.unprivileged_userfaultfd` 0).
pub(in super::super) fn userfaultfd(_: &mut Cx<'_, '_>, flags: Hex) -> SysResult {
    use crate::abi::raw::general::{O_CLOEXEC, O_NONBLOCK};
    const USER_MODE_ONLY: u32 = 1;
    let flags = flags.0 as u32;
    let unknown = flags & !(O_CLOEXEC | O_NONBLOCK | USER_MODE_ONLY) != 0;
    match flags & USER_MODE_ONLY != 0 && unknown {
        true => Err(Errno::EINVAL.into()),
        false => Err(Errno::EPERM.into()),
    }
}

/// As with `secretmem.enable=0`.
pub(in super::super) fn memfd_secret(_: &mut Cx<'_, '_>, _: Hex) -> SysResult {
    Err(Errno::ENOSYS.into())
}

/// As on a processor without shadow stacks.
pub(in super::super) fn map_shadow_stack(
    _: &mut Cx<'_, '_>,
    _: Addr,
    _: Size,
    _: Hex,
) -> SysResult {
    Err(Errno::ENOSYS.into())
}
