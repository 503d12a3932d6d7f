//! The system, its limits and its scheduler.

use alloc::vec::Vec;

use super::missing::known;
use crate::abi::layout::{Rlimit, Sysinfo, Tms, Utsname};
use crate::abi::raw::general as g;
use crate::abi::{Errno, PAGE_SIZE};
use crate::args::*;
use crate::env::settings;
use crate::env::uts::{MACHINE, RELEASE, SYSNAME, VERSION};
use crate::env::wait::SysResult;
use crate::kernel::Cx;
use crate::ns::set_uts;
use crate::task::cputime;

/// The release for programs that know only 2.6 (`UNAME26`): 60 and the second number is the third.
const RELEASE_26: &str = "2.6.67-varve";

const CAP_SYS_ADMIN: u32 = 21;
const CAP_SYS_RESOURCE: u32 = 24;
/// Nanoseconds in a clock tick (`sysconf(_SC_CLK_TCK)` is 100).
const TICK: u64 = 10_000_000;
/// Number of resource limits (`RLIM_NLIMITS`).
const RLIM_NLIMITS: u32 = 16;
/// Longest host name (`__NEW_UTS_LEN`).
const NAME_LEN: u64 = 64;

pub(super) fn uname(cx: &mut Cx<'_, '_>, buf: Addr) -> SysResult {
    fn field(text: &[u8]) -> [u8; 65] {
        let mut field = [0; 65];
        for (to, from) in field[..64].iter_mut().zip(text) {
            *to = *from;
        }
        field
    }
    let uts = cx.task().ns.uts;
    let persona = cx.task().personality;
    let name = Utsname {
        sysname: field(SYSNAME.as_bytes()),
        nodename: field(&cx.k.ns.uts(uts).hostname),
        release: match persona & UNAME26 {
            0 => field(RELEASE.as_bytes()),
            _ => field(RELEASE_26.as_bytes()),
        },
        version: field(VERSION.as_bytes()),
        machine: match persona & PER_MASK {
            PER_LINUX32 => field(b"i686"),
            _ => field(MACHINE.as_bytes()),
        },
        domainname: field(&cx.k.ns.uts(uts).domainname),
    };
    cx.write_obj(buf.0, &name)?;
    Ok(0)
}

pub(super) fn sethostname(cx: &mut Cx<'_, '_>, name: Str, len: Size) -> SysResult {
    let text = read_name(cx, name, len)?;
    let uts = cx.task().ns.uts;
    set_uts(cx.k, uts, Some(text), None);
    Ok(0)
}

pub(super) fn setdomainname(cx: &mut Cx<'_, '_>, name: Str, len: Size) -> SysResult {
    let text = read_name(cx, name, len)?;
    let uts = cx.task().ns.uts;
    set_uts(cx.k, uts, None, Some(text));
    Ok(0)
}

/// A name that the caller may give its UTS namespace.
fn read_name(cx: &mut Cx<'_, '_>, name: Str, len: Size) -> Result<Vec<u8>, Errno> {
    if !cx.capable_over(cx.task().ns.uts, CAP_SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    // The length is an int.
    let len = len.0 as u32;
    if u64::from(len) > NAME_LEN {
        return Err(Errno::EINVAL);
    }
    let mut text = [0; NAME_LEN as usize];
    let text = &mut text[..len as usize];
    cx.read_user(name.0, text)?;
    Ok(text.to_vec())
}

pub(super) fn sysinfo(cx: &mut Cx<'_, '_>, info: Addr) -> SysResult {
    let (used, total) = cx.k.frames.usage();
    let info_now = Sysinfo {
        uptime: (cx.now().mono.saturating_sub(cx.k.env.booted.mono) / 1_000_000_000) as i64,
        loads: cx.k.system.load.averages(),
        totalram: u64::from(total) * PAGE_SIZE,
        freeram: u64::from(total.saturating_sub(used)) * PAGE_SIZE,
        sharedram: 0,
        bufferram: 0,
        totalswap: 0,
        freeswap: 0,
        procs: cx.k.tasks.len().min(usize::from(u16::MAX)) as u16,
        pad: 0,
        pad2: 0,
        totalhigh: 0,
        freehigh: 0,
        mem_unit: 1,
        pad3: 0,
    };
    cx.write_obj(info.0, &info_now)?;
    Ok(0)
}

pub(super) fn getrlimit(cx: &mut Cx<'_, '_>, resource: Uint, rlim: Addr) -> SysResult {
    let tgid = cx.task().tgid;
    let (cur, max) = limits(cx, tgid, resource.0)?;
    cx.write_obj(rlim.0, &Rlimit { cur, max })?;
    Ok(0)
}

fn limits(cx: &Cx<'_, '_>, tgid: u32, resource: u32) -> Result<(u64, u64), Errno> {
    if resource >= RLIM_NLIMITS {
        return Err(Errno::EINVAL);
    }
    cx.k.tasks.rlimit(tgid, resource).ok_or(Errno::ESRCH)
}

pub(super) fn setrlimit(cx: &mut Cx<'_, '_>, resource: Uint, rlim: Addr) -> SysResult {
    let new: Rlimit = cx.read_obj(rlim.0)?;
    let tgid = cx.task().tgid;
    set_limits(cx, tgid, resource.0, new)
}

fn set_limits(cx: &mut Cx<'_, '_>, tgid: u32, resource: u32, new: Rlimit) -> SysResult {
    let (_, hard) = limits(cx, tgid, resource)?;
    if new.cur > new.max {
        return Err(Errno::EINVAL.into());
    }
    let most = cx.k.env.settings.get(settings::DESCRIPTORS);
    if resource == g::RLIMIT_NOFILE && i128::from(new.max) > most {
        return Err(Errno::EPERM.into());
    }
    if new.max > hard && !cx.creds().capable(CAP_SYS_RESOURCE) {
        return Err(Errno::EPERM.into());
    }
    cx.k.tasks.set_rlimit(tgid, resource, (new.cur, new.max));
    if resource == g::RLIMIT_CPU {
        cputime::watch_limit(cx.k, tgid);
    }
    Ok(0)
}

pub(super) fn prlimit64(
    cx: &mut Cx<'_, '_>,
    pid: Pid,
    resource: Uint,
    new: Addr,
    old: Addr,
) -> SysResult {
    let tgid = match pid.0 {
        0 => cx.task().tgid,
        pid => {
            let thread = cx.meant_thread(pid as u32).ok_or(Errno::ESRCH)?;
            let target = cx.k.tasks.get(thread).ok_or(Errno::ESRCH)?;
            let (own, other) = (cx.creds(), &target.creds);
            let same = [other.uid, other.euid, other.suid]
                .iter()
                .all(|&id| id == own.uid)
                && [other.gid, other.egid, other.sgid]
                    .iter()
                    .all(|&id| id == own.gid);
            let over = target.creds.user_ns;
            if target.tgid != cx.task().tgid && !same && !cx.capable_in(over, CAP_SYS_RESOURCE) {
                return Err(Errno::EPERM.into());
            }
            target.tgid
        }
    };
    let new: Option<Rlimit> = match new.0 {
        0 => None,
        addr => Some(cx.read_obj(addr)?),
    };
    let (cur, max) = limits(cx, tgid, resource.0)?;
    if let Some(new) = new {
        set_limits(cx, tgid, resource.0, new)?;
    }
    if old.0 != 0 {
        cx.write_obj(old.0, &Rlimit { cur, max })?;
    }
    Ok(0)
}

pub(super) fn getrusage(cx: &mut Cx<'_, '_>, who: RusageWho, usage: Addr) -> SysResult {
    let tgid = cx.task().tgid;
    let used = match who {
        RusageWho::Own => crate::task::usage::of_process(cx.k, tgid),
        RusageWho::Children => crate::task::usage::of_children(cx.k, tgid),
        RusageWho::Thread => crate::task::usage::of_thread(cx.k, cx.thread),
        RusageWho::Other(_) => return Err(Errno::EINVAL.into()),
    };
    cx.write_obj(usage.0, &used.rusage())?;
    Ok(0)
}

pub(super) fn times(cx: &mut Cx<'_, '_>, buf: Addr) -> SysResult {
    let tgid = cx.task().tgid;
    if buf.0 != 0 {
        let own = cputime::of_process(cx.k, tgid);
        let children = crate::task::usage::of_children(cx.k, tgid).cpu;
        let tms = Tms {
            utime: (own.user / TICK) as i64,
            stime: (own.system / TICK) as i64,
            cutime: (children.user / TICK) as i64,
            cstime: (children.system / TICK) as i64,
        };
        cx.write_obj(buf.0, &tms)?;
    }
    Ok(cx.now().mono / TICK)
}

/// Part of a personality that is the kind of system; the rest are flags (personality(2)).
const PER_MASK: u32 = 0xff;
const PER_LINUX32: u32 = 8;
const UNAME26: u32 = 0x0002_0000;

pub(super) fn personality(cx: &mut Cx<'_, '_>, persona: Hex) -> SysResult {
    const QUERY: u32 = 0xffff_ffff;
    let old = cx.task().personality;
    let new = persona.0 as u32;
    if new == QUERY {
        return Ok(u64::from(old));
    }
    // Other bits are kept, and mean nothing to 64-bit programs on x86.
    cx.task_mut().personality = new;
    Ok(u64::from(old))
}

/// Bytes that getrandom(2) makes in one go.
const RANDOM_AT_ONCE: u64 = 1 << 20;

pub(super) fn getrandom(
    cx: &mut Cx<'_, '_>,
    buf: OutBuf,
    count: Size,
    flags: RandomFlags,
) -> SysResult {
    let flags = known(cx, flags)?;
    if flags.contains(RandomFlags::RANDOM | RandomFlags::INSECURE) {
        return Err(Errno::EINVAL.into());
    }
    let count = count.0.min(i32::MAX as u64);
    let mut done = cx.call().progress;
    let stop_at = done + RANDOM_AT_ONCE;
    let mut chunk = [0; 256];
    while done < count {
        if done >= stop_at {
            return cx.pause(done);
        }
        let part = &mut chunk[..(count - done).min(256) as usize];
        cx.k.env.rng.fill(part);
        match cx.write_user(buf.0.wrapping_add(done), part) {
            Ok(()) => done += part.len() as u64,
            Err(errno) if done == 0 => return Err(errno.into()),
            Err(_) => break,
        }
    }
    Ok(done)
}
