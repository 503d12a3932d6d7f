//! File descriptors, pipes, fcntl, ioctl.

use super::missing::{among, known};
use crate::abi::Errno;
use crate::abi::raw::{general as g, ioctl as i};
use crate::args::*;
use crate::cred::landlock::FsAccess;
use crate::env::ids::PipeId;
use crate::env::wait::{Stop, SysResult, Wait, WaitKey};
use crate::file;
use crate::file::fasync::{Owner, Recipient};
use crate::file::lock::Record;
use crate::file::ops;
use crate::file::pidfd::PidFd;
use crate::file::{File, FileId, FileKind, dnotify, fasync, fdtable, lease, lock, pipe};
use crate::fs::InodeRef;
use crate::kernel::Cx;
use crate::vfs::mount::{PathRef, get_path, put_path};
use crate::vfs::node;

/// Last byte of all files.
const OFFSET_MAX: u64 = i64::MAX as u64;
/// Status flags that `F_SETFL` changes.
const SETFL_FLAGS: OpenFlags = OpenFlags::APPEND
    .union(OpenFlags::NONBLOCK)
    .union(OpenFlags::ASYNC)
    .union(OpenFlags::DIRECT)
    .union(OpenFlags::NOATIME);

pub(super) fn pipe(cx: &mut Cx<'_, '_>, fds: Addr) -> SysResult {
    make_pipe(cx, fds, OpenFlags::empty())
}

pub(super) fn pipe2(cx: &mut Cx<'_, '_>, fds: Addr, flags: OpenFlags) -> SysResult {
    make_pipe(cx, fds, flags)
}

fn make_pipe(cx: &mut Cx<'_, '_>, fds: Addr, flags: OpenFlags) -> SysResult {
    let kept = OpenFlags::NONBLOCK | OpenFlags::DIRECT;
    let flags = among(cx, flags, OpenFlags::CLOEXEC | kept)?;
    let maker = cx.pipe_maker();
    let (id, place) = pipe::create(cx.k, &maker)?;
    let made = open_ends(cx, id, *place, flags);
    put_path(cx.k, cx.p, place);
    let ends = made?;
    if let Err(errno) = cx.write_obj(fds.0, &ends) {
        fdtable::close(cx, ends[0])?;
        fdtable::close(cx, ends[1])?;
        return Err(errno.into());
    }
    Ok(0)
}

/// Descriptors of the two ends of a pipe. `ENFILE`, `EMFILE`: none is left open.
fn open_ends(
    cx: &mut Cx<'_, '_>,
    id: PipeId,
    place: PathRef,
    flags: OpenFlags,
) -> Result<[i32; 2], Stop> {
    let status = flags & (OpenFlags::NONBLOCK | OpenFlags::DIRECT);
    let mut ends = [0; 2];
    for (index, mode) in [OpenFlags::RDONLY, OpenFlags::WRONLY]
        .into_iter()
        .enumerate()
    {
        // Only the end that writes makes packets.
        let status = if mode == OpenFlags::RDONLY {
            status & OpenFlags::NONBLOCK
        } else {
            status
        };
        let path = get_path(cx.k, place);
        let file = File::new(FileKind::Pipe(id), path, None, mode | status);
        let result = file::add(cx.k, cx.p, file).and_then(|file| {
            pipe::open_end(cx.k, id, mode);
            fdtable::install(cx, file, flags.on_exec())
        });
        match result {
            Ok(fd) => ends[index] = fd,
            Err(errno) => {
                if index > 0 {
                    fdtable::close(cx, ends[0])?;
                }
                return Err(errno.into());
            }
        }
    }
    Ok(ends)
}

pub(super) fn dup(cx: &mut Cx<'_, '_>, oldfd: Fd) -> SysResult {
    let id = fdtable::get_any(cx, oldfd.0)?;
    file::get(cx.k, id);
    Ok(fdtable::install(cx, id, OnExec::Keep)? as u64)
}

fn dup_to(cx: &mut Cx<'_, '_>, oldfd: Fd, newfd: Fd, on_exec: OnExec) -> SysResult {
    let target = u32::try_from(newfd.0)
        .ok()
        .filter(|&fd| fd < fdtable::limit(cx))
        .ok_or(Errno::EBADF)?;
    let id = fdtable::get_any(cx, oldfd.0)?;
    file::get(cx.k, id);
    fdtable::replace(cx, target, id, on_exec);
    Ok(u64::from(target))
}

pub(super) fn dup2(cx: &mut Cx<'_, '_>, oldfd: Fd, newfd: Fd) -> SysResult {
    if oldfd == newfd {
        fdtable::get_any(cx, oldfd.0)?;
        return Ok(oldfd.0 as u64);
    }
    dup_to(cx, oldfd, newfd, OnExec::Keep)
}

pub(super) fn dup3(cx: &mut Cx<'_, '_>, oldfd: Fd, newfd: Fd, flags: OpenFlags) -> SysResult {
    let flags = among(cx, flags, OpenFlags::CLOEXEC)?;
    if oldfd == newfd {
        return Err(Errno::EINVAL.into());
    }
    dup_to(cx, oldfd, newfd, flags.on_exec())
}

pub(super) fn close_range(
    cx: &mut Cx<'_, '_>,
    first: Uint,
    last: Uint,
    flags: CloseRangeFlags,
) -> SysResult {
    let flags = known(cx, flags)?;
    if first > last {
        return Err(Errno::EINVAL.into());
    }
    if flags.contains(CloseRangeFlags::UNSHARE) {
        fdtable::prepare_unshare(cx)?;
        fdtable::unshare(cx);
    }
    let mut at = first.0.max(cx.call().progress as u32);
    loop {
        if cx.is_spent() {
            return Err(cx.give_way(u64::from(at)));
        }
        let open = cx.fds().iter_from(at).map(|(fd, _)| fd);
        let fds = open.take_while(|&fd| fd as u32 <= last.0).take(64);
        let fds: smallvec::SmallVec<[i32; 64]> = fds.collect();
        let Some(&end) = fds.last() else {
            return Ok(0);
        };
        cx.spend(4 * fds.len() as u64);
        for fd in fds {
            if !flags.contains(CloseRangeFlags::CLOEXEC) {
                fdtable::close(cx, fd)?;
            } else if let Some(slot) = cx.fds().get_mut(fd) {
                slot.cloexec = true;
            }
        }
        at = end as u32 + 1;
    }
}

pub(super) fn fcntl(cx: &mut Cx<'_, '_>, fd: Fd, cmd: Fcntl, arg: Hex) -> SysResult {
    let id = fdtable::get_any(cx, fd.0)?;
    let path_only = file::at(cx.k, id).flags.contains(OpenFlags::PATH);
    let allowed = matches!(
        cmd,
        Fcntl::DupFd | Fcntl::DupFdCloexec | Fcntl::GetFd | Fcntl::SetFd | Fcntl::GetFl
    );
    if path_only && !allowed {
        return Err(Errno::EBADF.into());
    }
    match cmd {
        Fcntl::DupFd | Fcntl::DupFdCloexec => {
            let min = arg.0 as u32;
            if min >= fdtable::limit(cx) {
                return Err(Errno::EINVAL.into());
            }
            file::get(cx.k, id);
            let on_exec = match cmd {
                Fcntl::DupFdCloexec => OnExec::Close,
                _ => OnExec::Keep,
            };
            Ok(fdtable::install_from(cx, id, min, on_exec)? as u64)
        }
        Fcntl::GetFd => {
            let slot = cx.fds().get(fd.0).ok_or(Errno::EBADF)?;
            Ok(u64::from(slot.cloexec))
        }
        Fcntl::SetFd => {
            let slot = cx.fds().get_mut(fd.0).ok_or(Errno::EBADF)?;
            slot.cloexec = arg.0 & u64::from(g::FD_CLOEXEC) != 0;
            Ok(0)
        }
        Fcntl::GetFl => Ok(file::at(cx.k, id).flags.bits().into()),
        Fcntl::SetFl => {
            let flags = OpenFlags::from_bits_retain(arg.0 as u32);
            set_flags(cx, (fd, id), flags)
        }
        Fcntl::GetLk
        | Fcntl::SetLk
        | Fcntl::SetLkWait
        | Fcntl::OfdGetLk
        | Fcntl::OfdSetLk
        | Fcntl::OfdSetLkWait => record_lock(cx, (fd, id), cmd, arg.0),
        Fcntl::GetOwn => {
            let (kind, number) = owner_of(cx, id);
            let number = i64::from(number);
            Ok(if kind == F_OWNER_PGRP {
                -number
            } else {
                number
            } as u64)
        }
        Fcntl::SetOwn => {
            let (kind, number) = match arg.0 as i32 {
                i32::MIN => return Err(Errno::EINVAL.into()),
                number @ 0.. => (F_OWNER_PID, number),
                number => (F_OWNER_PGRP, -number),
            };
            set_owner(cx, id, kind, number as u32)
        }
        Fcntl::GetOwnEx => {
            let (kind, number) = owner_of(cx, id);
            cx.write_obj(arg.0, &[kind, number])?;
            Ok(0)
        }
        Fcntl::SetOwnEx => {
            let [kind, number]: [u32; 2] = cx.read_obj(arg.0)?;
            set_owner(cx, id, kind, number)
        }
        Fcntl::GetSig => Ok(file::at(cx.k, id).signal as u64),
        Fcntl::SetSig => {
            if arg.0 > 64 {
                return Err(Errno::EINVAL.into());
            }
            file::at_mut(cx.k, id).signal = arg.0 as i32;
            Ok(0)
        }
        Fcntl::SetPipeSize | Fcntl::GetPipeSize => {
            let FileKind::Pipe(pipe) = file::at(cx.k, id).kind else {
                return Err(Errno::EBADF.into());
            };
            if cmd == Fcntl::GetPipeSize {
                let pipe = cx.k.files.pipes.get(pipe).ok_or(Errno::EBADF)?;
                return Ok(pipe.ring.capacity() as u64);
            }
            let by = cx.pipe_maker();
            let asked = arg.0 & 0xffff_ffff;
            Ok(pipe::set_capacity(cx.k, pipe, asked, &by)?)
        }
        Fcntl::Notify => {
            dnotify::set(cx, id, fd.0, DirNotify::from_bits_retain(arg.0 as u32))?;
            Ok(0)
        }
        Fcntl::GetSeals => Ok(u64::from(super::seal::get(cx.k, id)?)),
        Fcntl::AddSeals => {
            super::seal::add(cx.k, cx.p, id, arg.0 as u32)?;
            Ok(0)
        }
        Fcntl::GetLease => Ok(u64::from(lease::get(cx.k, id))),
        Fcntl::SetLease => {
            lease::set(cx, id, fd.0, arg.0 as u32)?;
            Ok(0)
        }
        Fcntl::Other(_) => Err(Errno::EINVAL.into()),
    }
}

/// Kinds of `struct f_owner_ex`.
const F_OWNER_TID: u32 = 0;
const F_OWNER_PID: u32 = 1;
const F_OWNER_PGRP: u32 = 2;

/// Kind and number of who is told of a file's events, 0 if nobody is left of it.
fn owner_of(cx: &Cx<'_, '_>, id: FileId) -> (u32, u32) {
    match file::at(cx.k, id)
        .owner
        .as_ref()
        .map(|recipient| recipient.owner)
    {
        Some(Owner::Task(task)) => {
            let kind = if task.thread.is_some() {
                F_OWNER_TID
            } else {
                F_OWNER_PID
            };
            let number = task
                .process(cx.k)
                .map_or(0, |tgid| task.thread.unwrap_or(tgid));
            (kind, cx.shown_pid(number))
        }
        Some(Owner::Group(pgid)) => (F_OWNER_PGRP, cx.shown_pid(pgid)),
        None => (F_OWNER_PID, 0),
    }
}

/// Says who is told of a file's events: number 0 is nobody. `EINVAL`, `ESRCH`.
fn set_owner(cx: &mut Cx<'_, '_>, id: FileId, kind: u32, number: u32) -> SysResult {
    let owner = match (kind, number) {
        (F_OWNER_TID | F_OWNER_PID | F_OWNER_PGRP, 0) => None,
        (F_OWNER_TID, number) => {
            let tid = cx.meant_pid(number).ok_or(Errno::ESRCH)?;
            Some(Owner::Task(
                PidFd::of_thread(cx.k, tid).ok_or(Errno::ESRCH)?,
            ))
        }
        (F_OWNER_PID, number) => {
            let tid = cx.meant_pid(number).ok_or(Errno::ESRCH)?;
            cx.k.tasks.by_tid(tid).ok_or(Errno::ESRCH)?;
            // A thread that leads no process is no process: nobody is told.
            PidFd::of_process(cx.k, tid).map(Owner::Task)
        }
        (F_OWNER_PGRP, number) => {
            let pgid = cx.meant_pid(number).ok_or(Errno::ESRCH)?;
            let known = cx.k.tasks.group_members(pgid).next().is_some()
                || cx.k.tasks.by_tid(pgid).is_some();
            known
                .then_some(Some(Owner::Group(pgid)))
                .ok_or(Errno::ESRCH)?
        }
        _ => return Err(Errno::EINVAL.into()),
    };
    let recipient = owner.map(|owner| Recipient::named_by(cx, owner));
    file::at_mut(cx.k, id).owner = recipient;
    Ok(0)
}

fn set_flags(cx: &mut Cx<'_, '_>, (fd, id): (Fd, FileId), flags: OpenFlags) -> SysResult {
    let who = &cx.who();
    let file = file::at(cx.k, id);
    if flags.contains(OpenFlags::NOATIME) && !file.flags.contains(OpenFlags::NOATIME) {
        let inode = file::inode_of(cx.k, id)?;
        let attr = node::attr(cx.k, cx.p, inode)?;
        if !who.owns(cx.k, &attr) {
            return Err(Errno::EPERM.into());
        }
    }
    let file = file::at(cx.k, id);
    if (flags ^ file.flags).contains(OpenFlags::APPEND)
        && let (FileKind::Regular, Some(inode)) = (&file.kind, file.inode)
    {
        let attr = node::attr(cx.k, cx.p, inode)?;
        crate::fs::flags::check_append(&attr)?;
    }
    let file = file::at(cx.k, id);
    let settable = SETFL_FLAGS - OpenFlags::ASYNC;
    if flags.contains(OpenFlags::DIRECT)
        && !matches!(file.kind, FileKind::Regular | FileKind::Pipe(_))
    {
        return Err(Errno::EINVAL.into());
    }
    fasync::set(cx.k, id, fd.0, flags.contains(OpenFlags::ASYNC));
    let file = file::at_mut(cx.k, id);
    file.flags = (file.flags - settable) | (flags & settable);
    Ok(0)
}

/// `struct flock` of x86-64.
#[derive(
    Clone,
    Copy,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::Immutable,
    zerocopy::KnownLayout,
)]
#[repr(C)]
struct Flock {
    kind: u16,
    whence: u16,
    pad: u32,
    start: i64,
    len: i64,
    pid: i32,
    end_pad: u32,
}

fn record_lock(cx: &mut Cx<'_, '_>, (fd, id): (Fd, FileId), cmd: Fcntl, addr: u64) -> SysResult {
    let thread = cx.thread;
    if let Some((inode, Some(record))) = lock::granted(cx.k, thread) {
        return record_locked(cx, (fd, id), inode, &record);
    }
    let mut flock: Flock = cx.read_obj(addr)?;
    let of_file = matches!(cmd, Fcntl::OfdGetLk | Fcntl::OfdSetLk | Fcntl::OfdSetLkWait);
    if of_file && flock.pid != 0 {
        return Err(Errno::EINVAL.into());
    }
    let inode = file::inode_of(cx.k, id)?;
    // Locks that are being given back are not in the way.
    if !lock::clear_way(cx.k, inode) {
        return Err(cx.give_way(0));
    }
    let base = match u32::from(flock.whence) {
        g::SEEK_SET => 0,
        g::SEEK_CUR => file::at(cx.k, id).offset as i64,
        g::SEEK_END => node::attr(cx.k, cx.p, inode)?.size as i64,
        _ => return Err(Errno::EINVAL.into()),
    };
    let start = base.checked_add(flock.start).ok_or(Errno::EOVERFLOW)?;
    let (first, last) = match flock.len {
        0 => (start, OFFSET_MAX as i64),
        len if len > 0 => (start, start.checked_add(len - 1).ok_or(Errno::EOVERFLOW)?),
        len => (
            start.checked_add(len).ok_or(Errno::EINVAL)?,
            start.checked_sub(1).ok_or(Errno::EINVAL)?,
        ),
    };
    let first = u64::try_from(first).map_err(|_| Errno::EINVAL)?;
    let last = u64::try_from(last).map_err(|_| Errno::EINVAL)?;
    let (owner, pid) = match of_file {
        true => (lock::Owner::File(id), -1),
        false => (lock::Owner::Process(cx.task().files), cx.task().tgid as i32),
    };
    let wanted = Record {
        owner,
        first,
        last,
        exclusive: u32::from(flock.kind) == g::F_WRLCK,
        pid,
    };
    let kind = u32::from(flock.kind);
    if !matches!(kind, g::F_RDLCK | g::F_WRLCK | g::F_UNLCK) {
        return Err(Errno::EINVAL.into());
    }
    if matches!(cmd, Fcntl::GetLk | Fcntl::OfdGetLk) {
        if kind == g::F_UNLCK {
            return Err(Errno::EINVAL.into());
        }
        match lock::conflict(cx.k, inode, &wanted) {
            None => flock.kind = g::F_UNLCK as u16,
            Some(found) => {
                flock.kind = match found.exclusive {
                    true => g::F_WRLCK as u16,
                    false => g::F_RDLCK as u16,
                };
                flock.whence = g::SEEK_SET as u16;
                flock.start = found.first as i64;
                flock.len = match found.last {
                    OFFSET_MAX => 0,
                    last => (last - found.first + 1) as i64,
                };
                flock.pid = match found.pid {
                    -1 => -1,
                    pid => cx.shown_pid(pid as u32) as i32,
                };
            }
        }
        cx.write_obj(addr, &flock)?;
        return Ok(0);
    }
    if kind == g::F_UNLCK {
        lock::clear(cx.k, inode, &wanted);
        return Ok(0);
    }
    let file = file::at(cx.k, id);
    if !(if wanted.exclusive {
        file.writable()
    } else {
        file.readable()
    }) {
        return Err(Errno::EBADF.into());
    }
    match lock::set(cx.k, inode, wanted) {
        Ok(()) => record_locked(cx, (fd, id), inode, &wanted),
        Err(Errno::EAGAIN) if matches!(cmd, Fcntl::SetLkWait | Fcntl::OfdSetLkWait) => {
            lock::wait(cx.k, cx.thread, inode, &wanted)?;
            Wait::on(WaitKey::FileLock(inode)).into()
        }
        Err(errno) => Err(errno.into()),
    }
}

/// A record lock has been set.
fn record_locked(
    cx: &mut Cx<'_, '_>,
    (fd, id): (Fd, FileId),
    inode: InodeRef,
    record: &Record,
) -> SysResult {
    // Locks of a process go with any descriptor of the file; this one may have been closed while the call
    // waited (`fcntl_setlk` of Linux).
    let open = cx.fds().get(fd.0).is_some_and(|slot| slot.file == id);
    if !open && matches!(record.owner, lock::Owner::Process(_)) {
        lock::clear(cx.k, inode, record);
        return Err(Errno::EBADF.into());
    }
    Ok(0)
}

pub(super) fn flock(cx: &mut Cx<'_, '_>, fd: Fd, operation: FlockOperation) -> SysResult {
    let thread = cx.thread;
    if operation.contains(FlockOperation::MAND) || lock::granted(cx.k, thread).is_some() {
        return Ok(0);
    }
    let wanted = match operation - FlockOperation::NB {
        FlockOperation::SH => Some(lock::Mode::Shared),
        FlockOperation::EX => Some(lock::Mode::Exclusive),
        FlockOperation::UN => None,
        _ => return Err(Errno::EINVAL.into()),
    };
    let id = fdtable::get(cx, fd.0)?;
    let inode = file::inode_of(cx.k, id)?;
    if !lock::make_room(cx.k) {
        return Err(cx.give_way(0));
    }
    match lock::flock(cx.k, inode, id, wanted) {
        Ok(()) => {
            file::at_mut(cx.k, id).locker = cx.task().tgid;
            Ok(0)
        }
        Err(errno) => match wanted {
            Some(mode) if errno == Errno::EAGAIN && !operation.contains(FlockOperation::NB) => {
                let tgid = cx.task().tgid;
                lock::wait_whole(cx.k, thread, inode, id, mode, tgid);
                Wait::on(WaitKey::FileLock(inode)).into()
            }
            _ => Err(errno.into()),
        },
    }
}

pub(super) fn ioctl(cx: &mut Cx<'_, '_>, fd: Fd, request: Hex, arg: Addr) -> SysResult {
    let id = fdtable::get(cx, fd.0)?;
    let done = ioctl_of(cx, (fd, id), request, arg);
    let general = matches!(request.0 as u32, i::FIOQSIZE | i::FIOASYNC);
    match done {
        Err(Stop::Errno(Errno::ENOTTY)) if !general => {
            Err(file::at(cx.k, id).kind.no_request().into())
        }
        done => done,
    }
}

/// Requests that every file takes and that reach no device (`is_masked_device_ioctl()`).
fn is_harmless(request: u32) -> bool {
    /// `_IOR(0x15, 0, struct fsuuid2)` and `_IOR(0x15, 1, struct fs_sysfs_path)`
    const FS_IOC_GETFSUUID: u32 = 0x8011_1500;
    const FS_IOC_GETFSSYSFSPATH: u32 = 0x8081_1501;
    matches!(
        request,
        i::FIOCLEX
            | i::FIONCLEX
            | i::FIONBIO
            | i::FIOASYNC
            | i::FIOQSIZE
            | i::FIFREEZE
            | i::FITHAW
            | i::FS_IOC_FIEMAP
            | i::FIGETBSZ
            | i::FICLONE
            | i::FICLONERANGE
            | i::FIDEDUPERANGE
            | FS_IOC_GETFSUUID
            | FS_IOC_GETFSSYSFSPATH
    )
}

fn ioctl_of(cx: &mut Cx<'_, '_>, (fd, id): (Fd, FileId), request: Hex, arg: Addr) -> SysResult {
    if file::at(cx.k, id).denied.contains(FsAccess::IOCTL_DEV) && !is_harmless(request.0 as u32) {
        return Err(Errno::EACCES.into());
    }
    let dentry = file::at(cx.k, id).path.dentry;
    if let Some(ns) = crate::vfs::object::namespace_at(cx.k, dentry)
        && let Some(done) = super::namespace::ioctl(cx, ns, request.0 as u32, arg.0)
    {
        return done;
    }
    match request.0 as u32 {
        i::FIOCLEX | i::FIONCLEX => {
            let slot = cx.fds().get_mut(fd.0).ok_or(Errno::EBADF)?;
            slot.cloexec = request.0 as u32 == i::FIOCLEX;
            Ok(0)
        }
        i::FIONBIO => {
            let on: i32 = cx.read_obj(arg.0)?;
            let file = file::at_mut(cx.k, id);
            match on {
                0 => file.flags -= OpenFlags::NONBLOCK,
                _ => file.flags |= OpenFlags::NONBLOCK,
            }
            Ok(0)
        }
        i::FIOASYNC => {
            let on: i32 = cx.read_obj(arg.0)?;
            let change = (on != 0) != (file::at(cx.k, id).flags.contains(OpenFlags::ASYNC));
            if change && !fasync::is_able(cx.k, id) {
                return Err(Errno::ENOTTY.into());
            }
            fasync::set(cx.k, id, fd.0, on != 0);
            Ok(0)
        }
        i::FIONREAD => {
            let bytes = ops::available(cx, id)? as i32;
            cx.write_obj(arg.0, &bytes)?;
            Ok(0)
        }
        request => match ops::ioctl(cx, id, request, arg.0) {
            Some(done) => done,
            None => {
                super::fileattr::ioctl(cx, id, request, arg).unwrap_or(Err(Errno::ENOTTY.into()))
            }
        },
    }
}
