//! Opening, reading and writing files.

use super::missing::known;
use crate::abi::raw::general as g;
use crate::abi::{Errno, PAGE_SIZE};
use crate::args::*;
use crate::cred::landlock::FsAccess;
use crate::env::wait::{Blocking, SysResult};
use crate::file;
use crate::file::open::{self, How};
use crate::file::regular;
use crate::file::rw::Iov;
use crate::file::{FileId, FileKind, fdtable, inotify, lease, rw};
use crate::fs::filesystem::SetAttr;
use crate::fs::{flags, inode};
use crate::kernel::Cx;
use crate::vfs::perm::{self, MAY_WRITE};
use crate::vfs::walk::Flags;
use crate::vfs::{landlock, mount, node};
use bitflags::Flags as _;

pub(super) fn read(cx: &mut Cx<'_, '_>, fd: Fd, buf: OutBuf, count: Size) -> SysResult {
    let file = fdtable::get(cx, fd.0)?;
    let mut iov = single(cx, file, buf.0, count.0, false)?;
    rw::read(cx, file, &mut iov, rw::How::default())
}

pub(super) fn write(cx: &mut Cx<'_, '_>, fd: Fd, buf: InBuf, count: Size) -> SysResult {
    let file = fdtable::get(cx, fd.0)?;
    let mut iov = single(cx, file, buf.0, count.0, true)?;
    rw::write(cx, file, &mut iov, rw::How::default())
}

/// A buffer of read(2) or write(2). The access mode is checked before the buffer.
fn single(cx: &Cx<'_, '_>, id: FileId, addr: u64, len: u64, writes: bool) -> Result<Iov, Errno> {
    let file = file::at(cx.k, id);
    match if writes {
        file.writable()
    } else {
        file.readable()
    } {
        true => Iov::single(addr, len),
        false => Err(Errno::EBADF),
    }
}

pub(super) fn pread64(
    cx: &mut Cx<'_, '_>,
    fd: Fd,
    buf: OutBuf,
    count: Size,
    offset: Offset,
) -> SysResult {
    let at = u64::try_from(offset.0).map_err(|_| Errno::EINVAL)?;
    let file = positioned(cx, fd)?;
    let mut iov = single(cx, file, buf.0, count.0, false)?;
    rw::read(cx, file, &mut iov, at_position(at))
}

pub(super) fn pwrite64(
    cx: &mut Cx<'_, '_>,
    fd: Fd,
    buf: InBuf,
    count: Size,
    offset: Offset,
) -> SysResult {
    let at = u64::try_from(offset.0).map_err(|_| Errno::EINVAL)?;
    let file = positioned(cx, fd)?;
    let mut iov = single(cx, file, buf.0, count.0, true)?;
    rw::write(cx, file, &mut iov, at_position(at))
}

fn at_position(at: u64) -> rw::How {
    rw::How {
        at: Some(at),
        ..rw::How::default()
    }
}

/// A file with a position: no pipe, no stream (`ESPIPE`).
fn positioned(cx: &mut Cx<'_, '_>, fd: Fd) -> Result<FileId, Errno> {
    let id = fdtable::get(cx, fd.0)?;
    match file::at(cx.k, id).kind.has_position() {
        true => Ok(id),
        false => Err(Errno::ESPIPE),
    }
}

/// readv(2) and its relatives. `offset` is the position, if the call has one.
fn vector(
    cx: &mut Cx<'_, '_>,
    fd: Fd,
    (addr, count): (Addr, Ulong),
    offset: Option<i64>,
    flags: RwFlags,
    writes: bool,
) -> SysResult {
    let mut how = rw::How::default();
    let file = match offset {
        Some(offset) => {
            how.at = Some(u64::try_from(offset).map_err(|_| Errno::EINVAL)?);
            positioned(cx, fd)?
        }
        None => fdtable::get(cx, fd.0)?,
    };
    let open = file::at(cx.k, file);
    if !(if writes {
        open.writable()
    } else {
        open.readable()
    }) {
        return Err(Errno::EBADF.into());
    }
    let mut iov = Iov::vector(cx, addr.0, count.0)?;
    how = rw::How {
        at: how.at,
        ..how_of(flags)?
    };
    match writes {
        true => rw::write(cx, file, &mut iov, how),
        false => rw::read(cx, file, &mut iov, how),
    }
}

/// What `RWF_` flags say. `EOPNOTSUPP` for unknown ones.
pub(super) fn how_of(flags: RwFlags) -> Result<rw::How, Errno> {
    if flags.contains_unknown_bits() {
        return Err(Errno::EOPNOTSUPP);
    }
    Ok(rw::How {
        at: None,
        blocking: flags.into(),
        append: match (
            flags.contains(RwFlags::APPEND),
            flags.contains(RwFlags::NOAPPEND),
        ) {
            (true, true) => return Err(Errno::EINVAL),
            (true, false) => Some(true),
            (false, true) => Some(false),
            (false, false) => None,
        },
        at_once: false,
    })
}

pub(super) fn readv(cx: &mut Cx<'_, '_>, fd: Fd, iov: Addr, iovcnt: Ulong) -> SysResult {
    vector(cx, fd, (iov, iovcnt), None, RwFlags::empty(), false)
}

pub(super) fn writev(cx: &mut Cx<'_, '_>, fd: Fd, iov: Addr, iovcnt: Ulong) -> SysResult {
    vector(cx, fd, (iov, iovcnt), None, RwFlags::empty(), true)
}

pub(super) fn preadv(
    cx: &mut Cx<'_, '_>,
    fd: Fd,
    iov: Addr,
    iovcnt: Ulong,
    offset: Offset,
    _pos_h: Ulong,
) -> SysResult {
    vector(
        cx,
        fd,
        (iov, iovcnt),
        Some(offset.0),
        RwFlags::empty(),
        false,
    )
}

pub(super) fn pwritev(
    cx: &mut Cx<'_, '_>,
    fd: Fd,
    iov: Addr,
    iovcnt: Ulong,
    offset: Offset,
    _pos_h: Ulong,
) -> SysResult {
    vector(
        cx,
        fd,
        (iov, iovcnt),
        Some(offset.0),
        RwFlags::empty(),
        true,
    )
}

pub(super) fn preadv2(
    cx: &mut Cx<'_, '_>,
    fd: Fd,
    iov: Addr,
    iovcnt: Ulong,
    offset: Offset,
    _pos_h: Ulong,
    flags: RwFlags,
) -> SysResult {
    let offset = (offset.0 != -1).then_some(offset.0);
    vector(cx, fd, (iov, iovcnt), offset, flags, false)
}

pub(super) fn pwritev2(
    cx: &mut Cx<'_, '_>,
    fd: Fd,
    iov: Addr,
    iovcnt: Ulong,
    offset: Offset,
    _pos_h: Ulong,
    flags: RwFlags,
) -> SysResult {
    let offset = (offset.0 != -1).then_some(offset.0);
    vector(cx, fd, (iov, iovcnt), offset, flags, true)
}

fn open_at(cx: &mut Cx<'_, '_>, at: DirFd, path: Path, how: How) -> SysResult {
    let path = cx.read_path(path.0)?;
    if fdtable::is_full(cx) {
        return Err(Errno::EMFILE.into());
    }
    let file = open::open(cx, at, &path, how)?;
    Ok(fdtable::install(cx, file, how.flags.on_exec())? as u64)
}

pub(super) fn open(cx: &mut Cx<'_, '_>, path: Path, flags: OpenFlags, mode: Mode) -> SysResult {
    open_at(cx, DirFd(g::AT_FDCWD), path, How::from_open(flags, mode.0))
}

pub(super) fn creat(cx: &mut Cx<'_, '_>, path: Path, mode: Mode) -> SysResult {
    let flags = OpenFlags::CREAT | OpenFlags::WRONLY | OpenFlags::TRUNC;
    open_at(cx, DirFd(g::AT_FDCWD), path, How::from_open(flags, mode.0))
}

pub(super) fn openat(
    cx: &mut Cx<'_, '_>,
    dirfd: DirFd,
    path: Path,
    flags: OpenFlags,
    mode: Mode,
) -> SysResult {
    open_at(cx, dirfd, path, How::from_open(flags, mode.0))
}

pub(super) fn openat2(
    cx: &mut Cx<'_, '_>,
    dirfd: DirFd,
    path: Path,
    how: Addr,
    size: Size,
) -> SysResult {
    if size.0 < 24 {
        return Err(Errno::EINVAL.into());
    }
    if size.0 > 4096 {
        return Err(Errno::E2BIG.into());
    }
    let [flags, mode, resolve]: [u64; 3] = cx.read_obj(how.0)?;
    // Fields of a newer structure must be zero (copy_struct_from_user).
    let mut rest = [0; 4096 - 24];
    let rest = &mut rest[..size.0 as usize - 24];
    cx.read_user(how.0.wrapping_add(24), rest)?;
    if rest.iter().any(|&byte| byte != 0) {
        return Err(Errno::E2BIG.into());
    }
    open_at(cx, dirfd, path, How::from_openat2(flags, mode, resolve)?)
}

pub(super) fn close(cx: &mut Cx<'_, '_>, fd: Fd) -> SysResult {
    fdtable::close(cx, fd.0)?;
    Ok(0)
}

pub(super) fn lseek(cx: &mut Cx<'_, '_>, fd: Fd, offset: Offset, whence: Whence) -> SysResult {
    let file = fdtable::get(cx, fd.0)?;
    rw::seek(cx, file, offset.0, whence.0)
}

/// A file whose data is to be written out: everything is in memory.
pub(super) fn sync_file(cx: &mut Cx<'_, '_>, fd: Fd) -> SysResult {
    let id = fdtable::get(cx, fd.0)?;
    match file::at(cx.k, id).kind {
        FileKind::Regular | FileKind::Directory => Ok(0),
        _ => Err(Errno::EINVAL.into()),
    }
}

pub(super) fn fsync(cx: &mut Cx<'_, '_>, fd: Fd) -> SysResult {
    sync_file(cx, fd)
}

pub(super) fn fdatasync(cx: &mut Cx<'_, '_>, fd: Fd) -> SysResult {
    sync_file(cx, fd)
}

pub(super) fn sync(_cx: &mut Cx<'_, '_>) -> SysResult {
    Ok(0)
}

pub(super) fn syncfs(cx: &mut Cx<'_, '_>, fd: Fd) -> SysResult {
    fdtable::get(cx, fd.0)?;
    Ok(0)
}

pub(super) fn sync_file_range(
    cx: &mut Cx<'_, '_>,
    fd: Fd,
    offset: Offset,
    nbytes: Offset,
    flags: SyncRangeFlags,
) -> SysResult {
    let id = fdtable::get(cx, fd.0)?;
    let end = offset.0.checked_add(nbytes.0);
    known(cx, flags)?;
    if offset.0 < 0 || end.is_none_or(|end| end < offset.0) {
        return Err(Errno::EINVAL.into());
    }
    match file::at(cx.k, id).kind {
        FileKind::Regular | FileKind::Directory => Ok(0),
        _ => Err(Errno::ESPIPE.into()),
    }
}

pub(super) fn readahead(cx: &mut Cx<'_, '_>, fd: Fd, _offset: Offset, _count: Size) -> SysResult {
    let id = fdtable::get(cx, fd.0)?;
    let file = file::at(cx.k, id);
    if !file.readable() {
        return Err(Errno::EBADF.into());
    }
    match file.kind {
        FileKind::Regular => Ok(0),
        _ => Err(Errno::EINVAL.into()),
    }
}

pub(super) fn fadvise64(
    cx: &mut Cx<'_, '_>,
    fd: Fd,
    _offset: Offset,
    len: Offset,
    advice: Fadvise,
) -> SysResult {
    let id = fdtable::get(cx, fd.0)?;
    if matches!(
        file::at(cx.k, id).kind,
        FileKind::Pipe(_) | FileKind::HostStream(_)
    ) {
        return Err(Errno::ESPIPE.into());
    }
    if len.0 < 0 || matches!(advice, Fadvise::Other(_)) {
        return Err(Errno::EINVAL.into());
    }
    Ok(0)
}

pub(super) fn truncate(cx: &mut Cx<'_, '_>, path: Path, length: Offset) -> SysResult {
    let who = &cx.who();
    let size = u64::try_from(length.0).map_err(|_| Errno::EINVAL)?;
    let path = cx.read_path(path.0)?;
    let (mut walker, start) = cx.walker(DirFd(g::AT_FDCWD), &path, Flags::FOLLOW)?;
    let path = walker.resolve_bare(start, &path)?;
    let inode = cx.k.vfs.dentries.inode(path.dentry).ok_or(Errno::ENOENT)?;
    let attr = node::attr(cx.k, cx.p, inode)?;
    match attr.mode & g::S_IFMT {
        g::S_IFREG => {}
        g::S_IFDIR => return Err(Errno::EISDIR.into()),
        _ => return Err(Errno::EINVAL.into()),
    }
    mount::want_write(cx.k, path.mount)?;
    perm::permission(cx.k, who, &attr, MAY_WRITE)?;
    flags::check_append(&attr)?;
    cx.k.files.writers.check_write(inode)?;
    lease::break_for(cx, inode, true, Blocking::Waits)?;
    landlock::check(cx.k, who, path, FsAccess::TRUNCATE)?;
    set_size(cx, path.dentry, inode, &attr, size)
}

pub(super) fn ftruncate(cx: &mut Cx<'_, '_>, fd: Fd, length: Offset) -> SysResult {
    let size = u64::try_from(length.0).map_err(|_| Errno::EINVAL)?;
    let id = fdtable::get(cx, fd.0)?;
    let file = file::at(cx.k, id);
    match (&file.kind, file.inode) {
        (FileKind::Regular, Some(inode)) if file.writable() => {
            let (dentry, denied) = (file.path.dentry, file.denied);
            let attr = node::attr(cx.k, cx.p, inode)?;
            flags::check_append(&attr)?;
            if denied.contains(FsAccess::TRUNCATE) {
                return Err(Errno::EACCES.into());
            }
            set_size(cx, dentry, inode, &attr, size)
        }
        _ => Err(Errno::EINVAL.into()),
    }
}

fn set_size(
    cx: &mut Cx<'_, '_>,
    dentry: crate::vfs::DentryId,
    inode: crate::fs::InodeRef,
    attr: &crate::fs::filesystem::Attr,
    size: u64,
) -> SysResult {
    regular::check_size(cx, attr, size)?;
    cx.k.fs.seals.check_size(inode, attr, size)?;
    open::truncate(cx, inode, attr, size)?;
    inotify::happened(cx.k, cx.p, dentry, inotify::MODIFY);
    Ok(0)
}

pub(super) fn fallocate(
    cx: &mut Cx<'_, '_>,
    fd: Fd,
    mode: FallocFlags,
    offset: Offset,
    len: Offset,
) -> SysResult {
    let who = &cx.who();
    let id = fdtable::get(cx, fd.0)?;
    if offset.0 < 0 || len.0 <= 0 {
        return Err(Errno::EINVAL.into());
    }
    let mode = known(cx, mode).map_err(|_| Errno::EOPNOTSUPP)?;
    let keep = mode.contains(FallocFlags::KEEP_SIZE);
    let punches = mode.contains(FallocFlags::PUNCH_HOLE);
    let zeroes = mode.contains(FallocFlags::ZERO_RANGE);
    if punches && (zeroes || !keep) {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let file = file::at(cx.k, id);
    if !file.writable() {
        return Err(Errno::EBADF.into());
    }
    if punches && file.flags.contains(OpenFlags::APPEND) {
        return Err(Errno::EPERM.into());
    }
    let inode = match (&file.kind, file.inode) {
        (FileKind::Regular, Some(inode)) => inode,
        (FileKind::Pipe(_) | FileKind::HostStream(_), _) => return Err(Errno::ESPIPE.into()),
        (FileKind::Directory, _) => return Err(Errno::EISDIR.into()),
        _ => return Err(Errno::ENODEV.into()),
    };
    let attr = node::attr(cx.k, cx.p, inode)?;
    if punches || zeroes {
        flags::check_append(&attr)?;
    }
    if attr.flags & flags::IMMUTABLE != 0 {
        return Err(Errno::EPERM.into());
    }
    // As in Linux tmpfs cannot do that, what lies under an overlay can.
    if zeroes && inode::is_tmpfs(cx.k, inode.fs) {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let (offset, len) = (offset.0 as u64, len.0 as u64);
    let end = offset + len;
    if end > i64::MAX as u64 {
        return Err(Errno::EFBIG.into());
    }
    if !keep && end > attr.size {
        regular::check_size(cx, &attr, end)?;
        cx.k.fs.seals.check_size(inode, &attr, end)?;
    }
    if punches || zeroes {
        cx.k.fs.seals.check_punch(inode)?;
    }
    // First the bytes of the hole are counted, then the pages that are made.
    let mut done = cx.call().progress;
    if punches || zeroes {
        if done < len {
            let (at, left) = (offset + done, len - done);
            done += inode::punch_hole(cx.k, cx.p, inode, at, left)?;
            if done < len {
                return cx.pause(done);
            }
        }
        done -= len;
    }
    if !punches {
        /// Pages made before others have the kernel.
        const PIECE: u64 = 2048;
        let first = offset / PAGE_SIZE + done;
        let count = end.div_ceil(PAGE_SIZE).saturating_sub(first);
        let made = inode::allocate(cx.k, cx.p, inode, (first, count), PIECE)?;
        if made < count {
            let hole = if zeroes { len } else { 0 };
            return cx.pause(hole + done + made);
        }
    }
    let grow = !keep && end > attr.size;
    let set = SetAttr {
        size: grow.then_some(end),
        mtime: Some(crate::fs::filesystem::Time::from_nanos(cx.now().real)),
        ..perm::after_write(cx.k, who, &attr)
    };
    inode::set_attr(cx.k, cx.p, inode, &set)?;
    inotify::file_event(cx.k, cx.p, id, inotify::MODIFY);
    Ok(0)
}

pub(super) fn umask(cx: &mut Cx<'_, '_>, mask: Mode) -> SysResult {
    let context = cx.fs_context();
    let old = core::mem::replace(&mut context.umask, mask.0 & 0o777);
    Ok(u64::from(old))
}
