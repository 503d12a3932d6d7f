//! prctl(2): what a thread or process sets for itself.

use alloc::format;

use crate::abi::Errno;
use crate::abi::raw::{general as g, prctl as p};
use crate::args::*;
use crate::cred::{CAP_LAST, SECBIT_KEEP_CAPS, SECBIT_NO_CAP_AMBIENT_RAISE, SECURE_ALL_BITS};
use crate::env::wait::SysResult;
use crate::event::Level;
use crate::kernel::Cx;
use crate::task::signal::SIGNALS;

/// Longest name of a thread without its NUL (`TASK_COMM_LEN`).
const COMM: usize = 15;
/// Words of the auxiliary vector that Linux keeps (`AT_VECTOR_SIZE`).
const AUXV_WORDS: usize = 52;

pub(super) fn prctl(
    cx: &mut Cx<'_, '_>,
    option: PrctlOption,
    arg2: Hex,
    arg3: Hex,
    arg4: Hex,
    arg5: Hex,
) -> SysResult {
    let arg = arg2.0;
    let rest_zero = arg3.0 == 0 && arg4.0 == 0 && arg5.0 == 0;
    let all_zero = arg == 0 && rest_zero;
    match option {
        PrctlOption::SetName => set_name(cx, arg),
        PrctlOption::GetName => {
            let mut name = [0; COMM + 1];
            name[..COMM].copy_from_slice(&cx.task().comm);
            cx.write_user(arg, &name)?;
            Ok(0)
        }
        PrctlOption::SetPdeathsig => {
            let signal = u8::try_from(arg).ok().filter(|&signal| signal <= SIGNALS);
            cx.task_mut().death_signal = signal.ok_or(Errno::EINVAL)?;
            Ok(0)
        }
        PrctlOption::GetPdeathsig => {
            let signal = i32::from(cx.task().death_signal);
            cx.write_obj(arg, &signal)?;
            Ok(0)
        }
        PrctlOption::SetNoNewPrivs if arg == 1 && rest_zero => {
            cx.creds_mut().no_new_privs = true;
            Ok(0)
        }
        PrctlOption::GetNoNewPrivs if all_zero => Ok(u64::from(cx.creds().no_new_privs)),
        PrctlOption::CapbsetRead => {
            let cap = capability(arg)?;
            Ok(cx.creds().cap_bounding >> cap & 1)
        }
        PrctlOption::CapbsetDrop => {
            if !cx.creds().has(g::CAP_SETPCAP) {
                return Err(Errno::EPERM.into());
            }
            cx.creds_mut().cap_bounding &= !(1 << capability(arg)?);
            cx.k.tasks.renew(cx.thread);
            Ok(0)
        }
        PrctlOption::CapAmbient => {
            let done = ambient(cx, arg as u32, arg3.0, arg4.0 == 0 && arg5.0 == 0);
            renewed(cx, done)
        }
        PrctlOption::GetSecurebits => Ok(u64::from(cx.creds().securebits)),
        PrctlOption::SetSecurebits => {
            let done = set_securebits(cx, arg);
            renewed(cx, done)
        }
        PrctlOption::GetKeepcaps => Ok(u64::from(cx.creds().securebits & SECBIT_KEEP_CAPS != 0)),
        PrctlOption::SetKeepcaps => {
            let done = set_keep_caps(cx, arg);
            renewed(cx, done)
        }
        PrctlOption::GetDumpable => Ok(u64::from(cx.k.mm.space(cx.space()).access.dumpable)),
        PrctlOption::SetDumpable if arg <= 1 => {
            let space = cx.space();
            cx.k.mm.space_mut(space).access.dumpable = u8::from(arg == 1);
            Ok(0)
        }
        PrctlOption::GetSeccomp => Ok(super::seccomp::mode(cx)),
        PrctlOption::SetSeccomp => super::seccomp::set_mode(cx, arg, arg3.0),
        PrctlOption::GetTiming => Ok(0),
        PrctlOption::SetTiming if arg == u64::from(p::PR_TIMING_STATISTICAL) => Ok(0),
        PrctlOption::GetTimerslack => Ok(cx.task().timer_slack),
        PrctlOption::SetTimerslack => {
            let task = cx.task_mut();
            task.timer_slack = match arg as i64 {
                ..=0 => task.default_timer_slack,
                slack => slack as u64,
            };
            Ok(0)
        }
        PrctlOption::GetChildSubreaper => {
            let subreaper = u32::from(cx.group().subreaper);
            cx.write_obj(arg, &subreaper)?;
            Ok(0)
        }
        PrctlOption::SetChildSubreaper => {
            cx.group_mut().subreaper = arg != 0;
            Ok(0)
        }
        // Nothing is measured, so there is nothing to switch.
        PrctlOption::TaskPerfEventsDisable | PrctlOption::TaskPerfEventsEnable => Ok(0),
        PrctlOption::MceKill if arg4.0 == 0 && arg5.0 == 0 => set_mce_kill(cx, arg, arg3.0),
        PrctlOption::MceKillGet if all_zero => Ok(u64::from(cx.task().mce_kill)),
        PrctlOption::SetThpDisable if rest_zero => {
            cx.group_mut().thp_disabled = arg != 0;
            Ok(0)
        }
        PrctlOption::GetThpDisable if all_zero => Ok(u64::from(cx.group().thp_disabled)),
        // Capable of CAP_SYS_RESOURCE over the host is nobody.
        PrctlOption::SetIoFlusher | PrctlOption::GetIoFlusher => Err(Errno::EPERM.into()),
        PrctlOption::GetTsc => {
            cx.write_obj(arg, &p::PR_TSC_ENABLE)?;
            Ok(0)
        }
        PrctlOption::SetTsc if arg == u64::from(p::PR_TSC_ENABLE) => Ok(0),
        PrctlOption::GetTidAddress => {
            let at = cx.task().clear_child_tid;
            cx.write_obj(arg, &at)?;
            Ok(0)
        }
        PrctlOption::GetAuxv if arg4.0 == 0 && arg5.0 == 0 => auxv(cx, arg, arg3.0),
        PrctlOption::SetMm => set_mm(cx, arg as u32, arg4.0, arg5.0),
        PrctlOption::SetTsc => not_supported(cx, p::PR_SET_TSC as i32, arg),
        // PR_SET_VMA (names of anonymous mappings) is refused as by a kernel without CONFIG_ANON_VMA_NAME,
        // the control of speculation as by one without mitigations, what other architectures have as by x86.
        _ => Err(Errno::EINVAL.into()),
    }
}

fn not_supported(cx: &mut Cx<'_, '_>, option: i32, arg: u64) -> SysResult {
    cx.log(
        Level::Warn,
        format!("prctl: option {option} with {arg:#x} is not supported"),
    );
    Err(Errno::EINVAL.into())
}

/// `PR_SET_MM`: where a program says its parts lie. Nobody needs it but who may; for them it is missing.
fn set_mm(cx: &mut Cx<'_, '_>, what: u32, arg4: u64, arg5: u64) -> SysResult {
    let whole = [p::PR_SET_MM_MAP, p::PR_SET_MM_MAP_SIZE].contains(&what);
    if arg5 != 0 || arg4 != 0 && what != p::PR_SET_MM_AUXV && !whole {
        return Err(Errno::EINVAL.into());
    }
    if !whole && !cx.creds().capable(g::CAP_SYS_RESOURCE) {
        return Err(Errno::EPERM.into());
    }
    not_supported(cx, p::PR_SET_MM as i32, u64::from(what))
}

fn set_name(cx: &mut Cx<'_, '_>, at: u64) -> SysResult {
    let mut name = [0; COMM];
    for (index, to) in name.iter_mut().enumerate() {
        let byte: u8 = cx.read_obj(at.wrapping_add(index as u64))?;
        if byte == 0 {
            break;
        }
        *to = byte;
    }
    cx.task_mut().comm = name;
    Ok(0)
}

/// The number of a capability that exists. `EINVAL`.
fn capability(number: u64) -> Result<u32, Errno> {
    u32::try_from(number)
        .ok()
        .filter(|&cap| cap <= CAP_LAST)
        .ok_or(Errno::EINVAL)
}

/// `PR_CAP_AMBIENT`
fn ambient(cx: &mut Cx<'_, '_>, what: u32, cap: u64, rest_zero: bool) -> SysResult {
    let creds = cx.creds_mut();
    if what == p::PR_CAP_AMBIENT_CLEAR_ALL {
        if cap != 0 || !rest_zero {
            return Err(Errno::EINVAL.into());
        }
        creds.cap_ambient = 0;
        return Ok(0);
    }
    if !rest_zero {
        return Err(Errno::EINVAL.into());
    }
    let bit = 1 << capability(cap)?;
    match what {
        p::PR_CAP_AMBIENT_IS_SET => Ok(u64::from(creds.cap_ambient & bit != 0)),
        p::PR_CAP_AMBIENT_RAISE => {
            if creds.cap_permitted & creds.cap_inheritable & bit == 0
                || creds.securebits & SECBIT_NO_CAP_AMBIENT_RAISE != 0
            {
                return Err(Errno::EPERM.into());
            }
            creds.cap_ambient |= bit;
            Ok(0)
        }
        p::PR_CAP_AMBIENT_LOWER => {
            creds.cap_ambient &= !bit;
            Ok(0)
        }
        _ => Err(Errno::EINVAL.into()),
    }
}

/// The result of a call that gives the task new credentials unless it fails.
fn renewed(cx: &mut Cx<'_, '_>, done: SysResult) -> SysResult {
    if done.is_ok() {
        cx.k.tasks.renew(cx.thread);
    }
    done
}

fn set_securebits(cx: &mut Cx<'_, '_>, bits: u64) -> SysResult {
    const LOCKS: u64 = (SECURE_ALL_BITS as u64) << 1;
    let creds = cx.creds_mut();
    let old = u64::from(creds.securebits);
    let changes_locked = (old & LOCKS) >> 1 & (old ^ bits) != 0;
    let unlocks = old & LOCKS & !bits != 0;
    let unknown = bits & !(LOCKS | u64::from(SECURE_ALL_BITS)) != 0;
    if changes_locked || unlocks || unknown || !creds.has(g::CAP_SETPCAP) {
        return Err(Errno::EPERM.into());
    }
    creds.securebits = bits as u32;
    Ok(0)
}

fn set_keep_caps(cx: &mut Cx<'_, '_>, keep: u64) -> SysResult {
    let creds = cx.creds_mut();
    match keep {
        0 | 1 if creds.securebits & SECBIT_KEEP_CAPS << 1 != 0 => Err(Errno::EPERM.into()),
        0 => {
            creds.securebits &= !SECBIT_KEEP_CAPS;
            Ok(0)
        }
        1 => {
            creds.securebits |= SECBIT_KEEP_CAPS;
            Ok(0)
        }
        _ => Err(Errno::EINVAL.into()),
    }
}

/// `PR_MCE_KILL`: kept and shown, but memory of the sandbox does not fail.
fn set_mce_kill(cx: &mut Cx<'_, '_>, what: u64, policy: u64) -> SysResult {
    const CLEAR: u64 = p::PR_MCE_KILL_CLEAR as u64;
    const SET: u64 = p::PR_MCE_KILL_SET as u64;
    cx.task_mut().mce_kill = match (what, policy) {
        (CLEAR, 0) => p::PR_MCE_KILL_DEFAULT as u8,
        (SET, 0..=2) => policy as u8,
        _ => return Err(Errno::EINVAL.into()),
    };
    Ok(0)
}

/// `PR_GET_AUXV`: the auxiliary vector and zeros behind it; gives its length whatever fits.
fn auxv(cx: &mut Cx<'_, '_>, at: u64, len: u64) -> SysResult {
    const LEN: usize = AUXV_WORDS * 8;
    let space = cx.space();
    let pairs = &cx.k.mm.space(space).layout.auxv;
    let words = pairs.iter().flat_map(|&(key, value)| [key, value]);
    let mut bytes = [0; LEN];
    for (to, word) in bytes.chunks_exact_mut(8).zip(words) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    let len = len.min(LEN as u64) as usize;
    cx.write_user(at, &bytes[..len])?;
    Ok(LEN as u64)
}
