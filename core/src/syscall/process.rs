//! Making, replacing, ending and awaiting processes.

use alloc::format;
use alloc::vec::Vec;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use bitflags::Flags as _;

use super::missing::{known, unsupported};
use crate::abi::raw::general as g;
use crate::abi::{Errno, LINUX_TASK_SIZE, PAGE_SIZE};
use crate::args::*;
use crate::env::wait::{Stop, SysResult};
use crate::file;
use crate::file::FileId;
use crate::kernel::Cx;
use crate::task::PID_MAX;
use crate::task::clone::{self, CloneArgs};
use crate::task::ending::{end_group, end_thread};
use crate::task::process::exited;
use crate::task::signal::{SIGCHLD, SIGNALS, SigInfo};
use crate::task::wait::{Children, Waited, wait};

pub(super) fn getpid(cx: &mut Cx<'_, '_>) -> SysResult {
    Ok(u64::from(cx.shown_pid(cx.task().tgid)))
}

pub(super) fn gettid(cx: &mut Cx<'_, '_>) -> SysResult {
    Ok(u64::from(cx.shown_pid(cx.task().tid)))
}

pub(super) fn getppid(cx: &mut Cx<'_, '_>) -> SysResult {
    Ok(u64::from(cx.shown_pid(cx.group().parent)))
}

/// The signal in the flags of clone(2).
const CSIGNAL: u64 = 0xff;

pub(super) fn clone(
    cx: &mut Cx<'_, '_>,
    flags: CloneFlags,
    stack: Addr,
    parent_tid: Addr,
    child_tid: Addr,
    tls: Hex,
) -> SysResult {
    let args = CloneArgs {
        // Linux takes `unsigned long`, but only the low half has a meaning.
        flags: flags.low_half() - CloneFlags::from_bits_retain(CSIGNAL),
        exit_signal: (flags.bits() & CSIGNAL) as u8,
        stack: stack.0,
        pidfd: parent_tid.0,
        parent_tid: parent_tid.0,
        child_tid: child_tid.0,
        tls: tls.0,
    };
    clone::clone(cx, args)
}

pub(super) fn fork(cx: &mut Cx<'_, '_>) -> SysResult {
    let args = CloneArgs {
        exit_signal: SIGCHLD,
        ..CloneArgs::default()
    };
    clone::clone(cx, args)
}

pub(super) fn vfork(cx: &mut Cx<'_, '_>) -> SysResult {
    let args = CloneArgs {
        flags: CloneFlags::VM | CloneFlags::VFORK,
        exit_signal: SIGCHLD,
        ..CloneArgs::default()
    };
    clone::clone(cx, args)
}

/// `struct clone_args`.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Clone3 {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

pub(super) fn clone3(cx: &mut Cx<'_, '_>, args: Addr, size: Size) -> SysResult {
    const KNOWN: u64 = size_of::<Clone3>() as u64;
    if size.0 > PAGE_SIZE {
        return Err(Errno::E2BIG.into());
    }
    if size.0 < u64::from(g::CLONE_ARGS_SIZE_VER0) {
        return Err(Errno::EINVAL.into());
    }
    for at in KNOWN..size.0 {
        // What this kernel does not know must not be asked for.
        let byte: u8 = cx.read_obj(args.0.wrapping_add(at))?;
        if byte != 0 {
            return Err(Errno::E2BIG.into());
        }
    }
    let mut from = Clone3::default();
    let len = size.0.min(KNOWN) as usize;
    cx.read_user(args.0, &mut from.as_mut_bytes()[..len])?;
    let flags = CloneFlags::from_bits_retain(from.flags);
    let thread_or_sibling = CloneFlags::THREAD | CloneFlags::PARENT;
    let wrong = flags.contains_unknown_bits()
        || flags.contains(CloneFlags::DETACHED)
        || from.exit_signal > u64::from(SIGNALS)
        || (flags.intersects(thread_or_sibling) && from.exit_signal != 0)
        || (from.stack == 0) != (from.stack_size == 0)
        || (from.set_tid == 0) != (from.set_tid_size == 0);
    if wrong {
        return Err(Errno::EINVAL.into());
    }
    if flags.contains(CloneFlags::INTO_CGROUP) {
        let versioned = size.0 >= u64::from(g::CLONE_ARGS_SIZE_VER2);
        if from.cgroup > i32::MAX as u64 || !versioned {
            return Err(Errno::EINVAL.into());
        }
    }
    if from.set_tid_size != 0 {
        check_tids(cx, &from)?;
        // Who chooses numbers needs CAP_CHECKPOINT_RESTORE over the namespace.
        return Err(Errno::EPERM.into());
    }
    if flags.contains(CloneFlags::NEWTIME) {
        unsupported(cx, "CLONE_NEWTIME");
        return Err(Errno::EPERM.into());
    }
    let args = CloneArgs {
        flags,
        exit_signal: from.exit_signal as u8,
        stack: from.stack.wrapping_add(from.stack_size),
        pidfd: from.pidfd,
        parent_tid: from.parent_tid,
        child_tid: from.child_tid,
        tls: from.tls,
    };
    clone::clone(cx, args)
}

/// Checks the thread numbers that a program chooses: one for each process namespace it is in. `EFAULT`,
/// `EINVAL`.
fn check_tids(cx: &mut Cx<'_, '_>, args: &Clone3) -> Result<(), Errno> {
    const NAMESPACES: u64 = 1;
    if args.set_tid_size > NAMESPACES {
        return Err(Errno::EINVAL);
    }
    let tid: i32 = cx.read_obj(args.set_tid)?;
    match u32::try_from(tid) {
        Ok(1..PID_MAX) => Ok(()),
        _ => Err(Errno::EINVAL),
    }
}

pub(super) fn execve(cx: &mut Cx<'_, '_>, path: Path, argv: StrVec, envp: Addr) -> SysResult {
    execute(cx, DirFd(g::AT_FDCWD), path, argv, envp, AtFlags::empty())
}

pub(super) fn execveat(
    cx: &mut Cx<'_, '_>,
    dirfd: DirFd,
    path: Path,
    argv: StrVec,
    envp: Addr,
    flags: AtFlags,
) -> SysResult {
    execute(cx, dirfd, path, argv, envp, flags)
}

/// Only says whether the file could be executed.
const CHECK: AtFlags = AtFlags::EXECVE_CHECK;

fn execute(
    cx: &mut Cx<'_, '_>,
    dirfd: DirFd,
    path: Path,
    argv: StrVec,
    envp: Addr,
    flags: AtFlags,
) -> SysResult {
    /// In the progress: the new program is there, and descriptors from this one on are still to be closed.
    const ENTERED: u64 = 1 << 32;
    let progress = cx.call().progress;
    if progress & ENTERED != 0 {
        return close_on_exec(cx, ENTERED);
    }
    let done = open_and_enter(cx, (dirfd, path), (argv.0, envp.0), flags);
    done.map_err(|stop| crate::task::exec::stopped(cx, stop))?;
    if flags.contains(CHECK) {
        return Ok(0);
    }
    cx.call().progress = ENTERED;
    close_on_exec(cx, ENTERED)
}

/// Opens a program and enters it, or only looks whether it could be.
fn open_and_enter(
    cx: &mut Cx<'_, '_>,
    (dirfd, path): (DirFd, Path),
    strings: (u64, u64),
    flags: AtFlags,
) -> Result<(), Stop> {
    let path = cx.read_path(path.0)?;
    let file = file::open_exec(cx, dirfd, &path, flags - CHECK)?;
    let done = enter(cx, file, (dirfd, &path), strings, flags.contains(CHECK));
    file::close_exec(cx.k, cx.p, file);
    done
}

/// Closes what the new program does not get, from the descriptor on that the progress names above `entered`.
fn close_on_exec(cx: &mut Cx<'_, '_>, entered: u64) -> SysResult {
    let mut next = Some((cx.call().progress & !entered) as u32);
    while let Some(from) = next {
        if cx.is_spent() {
            return Err(cx.give_way(entered | u64::from(from)));
        }
        next = file::fdtable::close_on_exec(cx, from);
    }
    Err(Stop::Done)
}

fn enter(
    cx: &mut Cx<'_, '_>,
    file: FileId,
    (dirfd, path): (DirFd, &[u8]),
    (argv, envp): (u64, u64),
    check: bool,
) -> Result<(), Stop> {
    let mut room = arg_limit(cx);
    let argv = read_strings(cx, argv, &mut room)?;
    let envp = read_strings(cx, envp, &mut room)?;
    if check {
        return Ok(());
    }
    let by_path = path.starts_with(b"/") || dirfd.0 == g::AT_FDCWD;
    let table = cx.k.files.fd_table(cx.task().files);
    let stays = by_path || table.get(dirfd.0).is_some_and(|slot| !slot.cloexec);
    let name = match path {
        path if by_path => path.to_vec(),
        [] => format!("/dev/fd/{}", dirfd.0).into_bytes(),
        _ => [format!("/dev/fd/{}/", dirfd.0).as_bytes(), path].concat(),
    };
    crate::task::exec::execve(cx, file, (&name, stays), argv, envp)
}

/// Bytes that arguments and environment may have with their pointers (execve(2), "Limits on size of arguments
/// and environment").
fn arg_limit(cx: &Cx<'_, '_>) -> u64 {
    const STACK_LIMIT: u64 = 8 << 20;
    const ARG_MAX: u64 = 128 << 10;
    (cx.rlimit(g::RLIMIT_STACK) / 4).clamp(ARG_MAX, STACK_LIMIT / 4 * 3)
}

/// Longest single argument with its NUL (`MAX_ARG_STRLEN`).
const MAX_ARG_STRLEN: u64 = 32 * PAGE_SIZE;

fn read_strings(cx: &mut Cx<'_, '_>, at: u64, room: &mut u64) -> Result<Vec<Vec<u8>>, Errno> {
    const POINTER: u64 = 8;
    let mut strings = Vec::new();
    if at == 0 {
        return Ok(strings);
    }
    let mut at = at;
    loop {
        let addr: u64 = cx.read_obj(at)?;
        if addr == 0 {
            return Ok(strings);
        }
        at = at.wrapping_add(POINTER);
        let max = room.saturating_sub(POINTER).min(MAX_ARG_STRLEN);
        if max == 0 {
            return Err(Errno::E2BIG);
        }
        let string = cx.read_cstr(addr, max as usize)?;
        *room = room
            .checked_sub(POINTER + string.len() as u64 + 1)
            .ok_or(Errno::E2BIG)?;
        strings.push(string);
    }
}

pub(super) fn exit(cx: &mut Cx<'_, '_>, status: Int) -> SysResult {
    end_thread(cx.k, cx.p, cx.thread, exited(status.0));
    Err(Stop::Done)
}

pub(super) fn exit_group(cx: &mut Cx<'_, '_>, status: Int) -> SysResult {
    let tgid = cx.task().tgid;
    end_group(cx.k, cx.p, tgid, exited(status.0));
    Err(Stop::Done)
}

pub(super) fn wait4(
    cx: &mut Cx<'_, '_>,
    pid: Pid,
    wstatus: Addr,
    options: WaitOptions,
    usage: Addr,
) -> SysResult {
    let options = known(cx, options)?;
    if options.intersects(WaitOptions::EXITED | WaitOptions::NOWAIT) {
        return Err(Errno::EINVAL.into());
    }
    let which = match pid.0 {
        i32::MIN => return Err(Errno::ESRCH.into()),
        -1 => Children::All,
        0 => Children::Group(cx.group().pgid),
        pid @ 1.. => Children::Process(cx.meant_pid(pid as u32).unwrap_or(0)),
        group => Children::Group(cx.meant_pid(group.unsigned_abs()).unwrap_or(0)),
    };
    let Some(waited) = wait(cx, which, options | WaitOptions::EXITED)? else {
        return Ok(0);
    };
    if wstatus.0 != 0 {
        cx.write_obj(wstatus.0, &waited.status)?;
    }
    if usage.0 != 0 {
        cx.write_obj(usage.0, &waited.usage.rusage())?;
    }
    Ok(u64::from(waited.pid))
}

pub(super) fn waitid(
    cx: &mut Cx<'_, '_>,
    idtype: IdType,
    id: Pid,
    infop: Addr,
    options: WaitOptions,
    usage: Addr,
) -> SysResult {
    let changes = WaitOptions::EXITED | WaitOptions::STOPPED | WaitOptions::CONTINUED;
    let options = known(cx, options)?;
    if !options.intersects(changes) {
        return Err(Errno::EINVAL.into());
    }
    let mut no_wait = false;
    let which = match (idtype, id.0) {
        (IdType::All, _) => Children::All,
        (IdType::Pid, pid @ 1..) => Children::Process(cx.meant_pid(pid as u32).unwrap_or(0)),
        (IdType::Group, 0) => Children::Group(cx.group().pgid),
        (IdType::Group, group @ 1..) => Children::Group(cx.meant_pid(group as u32).unwrap_or(0)),
        (IdType::PidFd, fd @ 0..) => {
            let (file, pid) = super::pidfd::process_of(cx, fd)?;
            no_wait = file::at(cx.k, file).flags.contains(OpenFlags::NONBLOCK);
            Children::Process(pid.process(cx.k).unwrap_or(0))
        }
        _ => return Err(Errno::EINVAL.into()),
    };
    let waited = match no_wait {
        false => wait(cx, which, options)?,
        true => wait(cx, which, options | WaitOptions::NOHANG)?,
    };
    if waited.is_none() && !options.contains(WaitOptions::NOHANG) {
        return Err(Errno::EAGAIN.into());
    }
    if let Some(waited) = waited
        && usage.0 != 0
    {
        cx.write_obj(usage.0, &waited.usage.rusage())?;
    }
    if infop.0 != 0 {
        write_waited(cx, infop.0, waited)?;
    }
    Ok(0)
}

/// Writes the fields of `siginfo_t` that waitid(2) sets, and no others.
fn write_waited(cx: &mut Cx<'_, '_>, at: u64, waited: Option<Waited>) -> Result<(), Errno> {
    const HEAD: usize = 12;
    const FIELDS: u64 = 16;
    const FIELDS_LEN: usize = 12;
    let bytes = match waited {
        Some(waited) => SigInfo::child(
            SIGCHLD,
            waited.code as i32,
            waited.pid,
            waited.uid,
            waited.si_status() as i32,
            [0, 0],
        )
        .to_bytes(),
        None => [0; 128],
    };
    cx.write_user(at, &bytes[..HEAD])?;
    let fields = &bytes[FIELDS as usize..FIELDS as usize + FIELDS_LEN];
    cx.write_user(at.wrapping_add(FIELDS), fields)
}

/// The process number that an argument of a call on processes means: 0 is the caller.
fn process(cx: &Cx<'_, '_>, pid: Pid) -> Result<u32, Errno> {
    let tid = match pid.0 {
        0 => return Ok(cx.task().tgid),
        pid => u32::try_from(pid).map_err(|_| Errno::ESRCH)?,
    };
    let thread = cx.meant_thread(tid).ok_or(Errno::ESRCH)?;
    cx.k.tasks
        .get(thread)
        .map(|task| task.tgid)
        .ok_or(Errno::ESRCH)
}

pub(super) fn setpgid(cx: &mut Cx<'_, '_>, pid: Pid, pgid: Pid) -> SysResult {
    let own = cx.task().tgid;
    let target = match pid.0 {
        0 => own,
        pid => {
            let pid = u32::try_from(pid).map_err(|_| match pgid.0 {
                ..0 => Errno::EINVAL,
                _ => Errno::ESRCH,
            })?;
            match (cx.meant_pid(pid), pgid.0) {
                (Some(pid), _) => pid,
                (None, ..0) => return Err(Errno::EINVAL.into()),
                (None, _) => return Err(Errno::ESRCH.into()),
            }
        }
    };
    let pgid = match u32::try_from(pgid.0).map_err(|_| Errno::EINVAL)? {
        0 => target,
        // A number that means nothing here is no group.
        pgid => cx.meant_pid(pgid).unwrap_or(0),
    };
    let tasks = &cx.k.tasks;
    let Some(group) = tasks.group(target) else {
        // A thread that leads no group is not a process.
        return Err(match tasks.by_tid(target) {
            Some(_) => Errno::EINVAL,
            None => Errno::ESRCH,
        }
        .into());
    };
    let session = cx.group().sid;
    if group.parent == own {
        if group.sid != session {
            return Err(Errno::EPERM.into());
        }
        if group.executed {
            return Err(Errno::EACCES.into());
        }
    } else if target != own {
        return Err(Errno::ESRCH.into());
    }
    if group.sid == target {
        return Err(Errno::EPERM.into());
    }
    if pgid != target
        && !tasks.group_members(pgid).any(|member| {
            tasks
                .group(member)
                .is_some_and(|group| group.sid == session)
        })
    {
        return Err(Errno::EPERM.into());
    }
    let (left, sid) = (group.pgid, group.sid);
    cx.k.tasks.set_group(target, pgid, sid);
    crate::ns::pids::remove(cx.k, &[left]);
    Ok(0)
}

pub(super) fn getpgrp(cx: &mut Cx<'_, '_>) -> SysResult {
    Ok(u64::from(cx.shown_pid(cx.group().pgid)))
}

pub(super) fn getpgid(cx: &mut Cx<'_, '_>, pid: Pid) -> SysResult {
    let tgid = process(cx, pid)?;
    let group = cx.k.tasks.group(tgid).ok_or(Errno::ESRCH)?;
    Ok(u64::from(cx.shown_pid(group.pgid)))
}

pub(super) fn getsid(cx: &mut Cx<'_, '_>, pid: Pid) -> SysResult {
    let tgid = process(cx, pid)?;
    let group = cx.k.tasks.group(tgid).ok_or(Errno::ESRCH)?;
    Ok(u64::from(cx.shown_pid(group.sid)))
}

pub(super) fn setsid(cx: &mut Cx<'_, '_>) -> SysResult {
    let tgid = cx.task().tgid;
    if cx.group().sid == tgid || cx.k.tasks.group_members(tgid).next().is_some() {
        return Err(Errno::EPERM.into());
    }
    let group = cx.group();
    let left = [group.sid, group.pgid];
    cx.k.tasks.set_group(tgid, tgid, tgid);
    crate::ns::pids::remove(cx.k, &left);
    Ok(u64::from(cx.shown_pid(tgid)))
}

pub(super) fn set_tid_address(cx: &mut Cx<'_, '_>, tidptr: Addr) -> SysResult {
    cx.task_mut().clear_child_tid = tidptr.0;
    Ok(u64::from(cx.shown_pid(cx.task().tid)))
}

pub(super) fn arch_prctl(cx: &mut Cx<'_, '_>, code: ArchCode, addr: Addr) -> SysResult {
    let regs = &mut cx.task_mut().regs;
    match code {
        ArchCode::SetFs | ArchCode::SetGs if addr.0 >= LINUX_TASK_SIZE => Err(Errno::EPERM.into()),
        ArchCode::SetFs => {
            regs.fs_base = addr.0;
            Ok(0)
        }
        ArchCode::SetGs => {
            regs.gs_base = addr.0;
            Ok(0)
        }
        ArchCode::GetFs => {
            let base = regs.fs_base;
            cx.write_obj(addr.0, &base)?;
            Ok(0)
        }
        ArchCode::GetGs => {
            let base = regs.gs_base;
            cx.write_obj(addr.0, &base)?;
            Ok(0)
        }
        // The CPUID instruction works and cannot be made to fault.
        ArchCode::GetCpuid => Ok(1),
        ArchCode::SetCpuid => Err(Errno::ENODEV.into()),
        ArchCode::Other(_) => Err(Errno::EINVAL.into()),
    }
}
