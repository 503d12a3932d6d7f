//! seccomp(2).

use super::missing::known;
use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::args::*;
use crate::env::wait::SysResult;
use crate::kernel::Cx;
use crate::task::seccomp::bpf::{INSNS_MAX, Insn, Program};
use crate::task::seccomp::{self, Seccomp};

/// `struct sock_fprog`: number of instructions, and where they are.
#[derive(
    Clone,
    Copy,
    zerocopy::FromBytes,
    zerocopy::Immutable,
    zerocopy::KnownLayout,
    zerocopy::IntoBytes,
)]
#[repr(C)]
struct Fprog {
    len: u16,
    pad: [u16; 3],
    filter: u64,
}

pub(super) fn seccomp(
    cx: &mut Cx<'_, '_>,
    operation: SeccompOp,
    flags: SeccompFlags,
    args: Addr,
) -> SysResult {
    match operation {
        SeccompOp::SetModeStrict if flags.is_empty() && args.0 == 0 => {
            seccomp::set_strict(cx)?;
            Ok(0)
        }
        SeccompOp::SetModeFilter => set_filter(cx, flags, args.0),
        SeccompOp::GetActionAvail if flags.is_empty() => {
            let action: u32 = cx.read_obj(args.0)?;
            match action {
                seccomp::KILL_PROCESS
                | seccomp::KILL_THREAD
                | seccomp::TRAP
                | seccomp::ERRNO
                | seccomp::TRACE
                | seccomp::LOG
                | seccomp::ALLOW => Ok(0),
                _ => Err(Errno::EOPNOTSUPP.into()),
            }
        }
        // Sizes of notifications too: there are none, as before Linux 5.0.
        _ => Err(Errno::EINVAL.into()),
    }
}

/// `PR_SET_SECCOMP`
pub(super) fn set_mode(cx: &mut Cx<'_, '_>, mode: u64, filter: u64) -> SysResult {
    match mode {
        1 => {
            seccomp::set_strict(cx)?;
            Ok(0)
        }
        2 => set_filter(cx, SeccompFlags::empty(), filter),
        _ => Err(Errno::EINVAL.into()),
    }
}

fn set_filter(cx: &mut Cx<'_, '_>, flags: SeccompFlags, args: u64) -> SysResult {
    let flags = known(cx, flags)?;
    let program: Fprog = cx.read_obj(args)?;
    let len = usize::from(program.len);
    if len == 0 || len > INSNS_MAX {
        return Err(Errno::EINVAL.into());
    }
    if !cx.creds().no_new_privs && !cx.creds().has(g::CAP_SYS_ADMIN) {
        return Err(Errno::EACCES.into());
    }
    let mut insns = alloc::vec::Vec::with_capacity(len);
    for index in 0..len as u64 {
        let at = program
            .filter
            .wrapping_add(index * size_of::<Insn>() as u64);
        insns.push(cx.read_obj(at)?);
    }
    let program = Program::check(&insns)?;
    match seccomp::add_filter(cx, program, flags)? {
        0 => Ok(0),
        _ if flags.contains(SeccompFlags::TSYNC_ESRCH) => Err(Errno::ESRCH.into()),
        tid => Ok(u64::from(tid)),
    }
}

/// `PR_GET_SECCOMP`
pub(super) fn mode(cx: &Cx<'_, '_>) -> u64 {
    let seccomp: Seccomp = cx.task().seccomp;
    seccomp.mode()
}
