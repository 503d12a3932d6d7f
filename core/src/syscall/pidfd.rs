//! Descriptors of processes (pidfd_open(2) and its relatives).

use super::missing::known;
use super::signal::{Target, number, own_info, read_info, signal_process, signal_thread};
use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::args::*;
use crate::env::wait::SysResult;
use crate::file;
use crate::file::pidfd::PidFd;
use crate::file::{FileId, FileKind, fdtable, ready};
use crate::fs::anon::Anon;
use crate::fs::inode;
use crate::fs::inode::FsKind;
use crate::kernel::Cx;
use crate::task::ending;
use crate::task::look::may_look;
use crate::task::signal::SigInfo;
use crate::views::proc;

/// The process behind a descriptor. `EBADF` if it is another file.
pub(super) fn process_of(cx: &mut Cx<'_, '_>, fd: i32) -> Result<(FileId, PidFd), Errno> {
    let id = fdtable::get(cx, fd)?;
    match file::at(cx.k, id).kind {
        FileKind::PidFd(pid) => Ok((id, pid)),
        _ => Err(Errno::EBADF),
    }
}

/// What a signal can be sent to: also the directory of a process in `/proc`, as it was before there were such
/// descriptors.
fn target_of(cx: &mut Cx<'_, '_>, fd: i32) -> Result<PidFd, Errno> {
    let id = fdtable::get(cx, fd)?;
    let file = file::at(cx.k, id);
    if let (FileKind::Directory, Some(inode)) = (&file.kind, file.inode)
        && inode::kind(cx.k, inode.fs) == FsKind::Proc
        && let Some(tgid) = proc::process_of(inode.ino)
    {
        return PidFd::of_process(cx.k, tgid).ok_or(Errno::ESRCH);
    }
    process_of(cx, fd).map(|(_, pid)| pid)
}

/// `PIDFD_SELF_THREAD`, `PIDFD_SELF_THREAD_GROUP`: no descriptors, but the caller.
const SELF_THREAD: i32 = -10000;
const SELF_THREAD_GROUP: i32 = -10001;

pub(super) fn pidfd_open(cx: &mut Cx<'_, '_>, pid: Pid, flags: PidFdFlags) -> SysResult {
    let flags = known(cx, flags)?;
    if pid.0 <= 0 {
        return Err(Errno::EINVAL.into());
    }
    let tid = pid.0 as u32;
    let tid = cx.meant_pid(tid).ok_or(Errno::ESRCH)?;
    let thread = cx.k.tasks.by_tid(tid).ok_or(Errno::ESRCH)?;
    let tgid = cx.k.tasks.get(thread).ok_or(Errno::ESRCH)?.tgid;
    let pidfd = match flags.contains(PidFdFlags::THREAD) {
        false if tgid != tid => return Err(Errno::ENOENT.into()),
        false => PidFd::of_process(cx.k, tgid),
        true => PidFd::of_thread(cx.k, tid),
    };
    let pidfd = pidfd.ok_or(Errno::ESRCH)?;
    let kind = FileKind::PidFd(pidfd);
    let status = OpenFlags::RDWR | OpenFlags::from_bits_retain(flags.bits());
    Ok(ready::install(cx, kind, Anon::PidFd, status, OnExec::Close)? as u64)
}

pub(super) fn pidfd_send_signal(
    cx: &mut Cx<'_, '_>,
    pidfd: Fd,
    sig: Sig,
    info: Addr,
    flags: PidFdSignalFlags,
) -> SysResult {
    let flags = known(cx, flags)?;
    if flags.iter().count() > 1 {
        return Err(Errno::EINVAL.into());
    }
    let to_group = flags == PidFdSignalFlags::PROCESS_GROUP;
    let (tid, tgid) = (cx.task().tid, cx.task().tgid);
    let pid = match pidfd.0 {
        SELF_THREAD => PidFd::of_thread(cx.k, tid).ok_or(Errno::ESRCH)?,
        SELF_THREAD_GROUP => PidFd::of_process(cx.k, tgid).ok_or(Errno::ESRCH)?,
        fd => target_of(cx, fd)?,
    };
    let to_thread = flags == PidFdSignalFlags::THREAD || flags.is_empty() && pid.thread.is_some();
    let info = match info.0 {
        0 => {
            let code = if to_thread {
                g::SI_TKILL
            } else {
                g::SI_USER as i32
            };
            own_info(cx, number(sig)?, code)
        }
        at => {
            let target = match pid.task(cx.k) == Some(cx.thread) && !to_group {
                true => Target::Caller,
                false => Target::Other,
            };
            let signo: i32 = cx.read_obj(at)?;
            let signal = u8::try_from(sig.0).unwrap_or(u8::MAX);
            let info: SigInfo = read_info(cx, signal, at, target)?;
            if signo != sig.0 {
                return Err(Errno::EINVAL.into());
            }
            (number(sig)? != 0).then_some(info)
        }
    };
    let tgid = pid.process(cx.k).ok_or(Errno::ESRCH)?;
    if to_thread {
        let thread = pid.task(cx.k).ok_or(Errno::ESRCH)?;
        return signal_thread(cx, thread, number(sig)?, info);
    }
    if !to_group {
        signal_process(cx, tgid, info)?;
        return Ok(0);
    }
    let members: alloc::vec::Vec<u32> = cx.k.tasks.group_members(tgid).collect();
    let mut result = Err(Errno::ESRCH);
    for member in members {
        match signal_process(cx, member, info) {
            Ok(()) => result = Ok(0),
            Err(errno) if result.is_err() => result = Err(errno),
            Err(_) => {}
        }
    }
    Ok(result?)
}

pub(super) fn pidfd_getfd(
    cx: &mut Cx<'_, '_>,
    pidfd: Fd,
    targetfd: Fd,
    flags: NoFlags,
) -> SysResult {
    known(cx, flags)?;
    let (_, pid) = process_of(cx, pidfd.0)?;
    let thread = pid.task(cx.k).ok_or(Errno::ESRCH)?;
    if !may_look(cx.k, cx.thread, thread) {
        return Err(Errno::EPERM.into());
    }
    let task = cx.k.tasks.get(thread).filter(|task| !task.exited);
    let files = task.ok_or(Errno::ESRCH)?.files;
    let slot =
        cx.k.files
            .fd_table(files)
            .get(targetfd.0)
            .ok_or(Errno::EBADF)?;
    file::get(cx.k, slot.file);
    Ok(fdtable::install(cx, slot.file, OnExec::Close)? as u64)
}

/// A process that is about to end gives its memory back before it has ended (process_mrelease(2)). That goes
/// on by itself here: the call waits for it.
pub(super) fn process_mrelease(cx: &mut Cx<'_, '_>, pidfd: Fd, flags: NoFlags) -> SysResult {
    known(cx, flags)?;
    let (tid, tgid) = (cx.task().tid, cx.task().tgid);
    let pid = match pidfd.0 {
        SELF_THREAD => PidFd::of_thread(cx.k, tid).ok_or(Errno::ESRCH)?,
        SELF_THREAD_GROUP => PidFd::of_process(cx.k, tgid).ok_or(Errno::ESRCH)?,
        fd => process_of(cx, fd)?.1,
    };
    let waited = cx.call().progress != 0;
    let live = |tgid: u32| {
        let group = cx.k.tasks.group(tgid).filter(|group| !group.zombie)?;
        let thread = group.threads.values().next()?;
        Some((tgid, cx.k.tasks.get(*thread)?.space))
    };
    let Some((tgid, space)) = pid.process(cx.k).and_then(live) else {
        return match waited {
            true => Ok(0),
            false => Err(Errno::ESRCH.into()),
        };
    };
    // Whoever shares the memory must be about to end, too.
    let mut looked = 0;
    let lives = !ending::ends(cx.k, tgid)
        || cx.k.tasks.groups().any(|other| {
            looked += 1;
            let shares = live(other).is_some_and(|(_, of)| of == space);
            shares && !ending::ends(cx.k, other)
        });
    cx.spend(looked / 4);
    match lives {
        true => Err(Errno::EINVAL.into()),
        false => Err(cx.give_way(1)),
    }
}
