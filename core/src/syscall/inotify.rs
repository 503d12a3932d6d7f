//! Watching files and directories (inotify(7)).

use super::missing::known;
use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::args::*;
use crate::cred::ns::count::{Account, Counted};
use crate::env::wait::SysResult;
use crate::file;
use crate::file::inotify::Existing;
use crate::file::{FileId, FileKind, fdtable, inotify, ready};
use crate::fs::anon::Anon;
use crate::kernel::Cx;
use crate::vfs::mount::put_path;
use crate::vfs::node;
use crate::vfs::perm::{self, MAY_READ};
use crate::vfs::walk::{self, Flags};

pub(super) fn inotify_init(cx: &mut Cx<'_, '_>) -> SysResult {
    create(cx, FileFlags::empty())
}

pub(super) fn inotify_init1(cx: &mut Cx<'_, '_>, flags: FileFlags) -> SysResult {
    create(cx, flags)
}

fn create(cx: &mut Cx<'_, '_>, flags: FileFlags) -> SysResult {
    let flags = known(cx, flags)?;
    let account = Account {
        ns: cx.creds().user_ns,
        uid: cx.creds().euid,
    };
    let kind = inotify::create(cx.k, account)?;
    let status = OpenFlags::RDONLY | flags.status();
    let opened = ready::open(cx, kind.clone(), Anon::Inotify, status);
    let id = match (opened, kind) {
        (Err(errno), FileKind::Inotify(instance)) => {
            cx.k.ns
                .uncount(instance.account(), Counted::InotifyInstances);
            return Err(errno.into());
        }
        (opened, _) => opened?,
    };
    Ok(fdtable::install(cx, id, flags.on_exec())? as u64)
}

/// The instance behind a descriptor. `EINVAL` if it is another file.
fn instance_of(cx: &mut Cx<'_, '_>, fd: Fd) -> Result<FileId, Errno> {
    let id = fdtable::get(cx, fd.0)?;
    match file::at(cx.k, id).kind {
        FileKind::Inotify(_) => Ok(id),
        _ => Err(Errno::EINVAL),
    }
}

pub(super) fn inotify_add_watch(
    cx: &mut Cx<'_, '_>,
    fd: Fd,
    pathname: Path,
    mask: InotifyMask,
) -> SysResult {
    // Also what cannot be asked for is valid.
    if !mask.intersects(InotifyMask::all()) {
        return Err(Errno::EINVAL.into());
    }
    fdtable::get(cx, fd.0)?;
    let add_and_create = InotifyMask::MASK_ADD | InotifyMask::MASK_CREATE;
    if mask.contains(add_and_create) {
        return Err(Errno::EINVAL.into());
    }
    let id = instance_of(cx, fd)?;
    let name = cx.read_path(pathname.0)?;
    let mut flags = Flags::empty();
    flags.set(Flags::FOLLOW, !mask.contains(InotifyMask::DONT_FOLLOW));
    flags.set(Flags::DIRECTORY, mask.contains(InotifyMask::ONLYDIR));
    let path = walk::resolve(cx, DirFd(g::AT_FDCWD), &name, flags)?;
    let allowed = may_watch(cx, *path);
    if let Err(errno) = allowed {
        put_path(cx.k, cx.p, path);
        return Err(errno.into());
    }
    let existing = match mask & add_and_create {
        InotifyMask::MASK_ADD => Existing::Add,
        InotifyMask::MASK_CREATE => Existing::Refuse,
        _ => Existing::Replace,
    };
    let mask = mask & (inotify::ALL | inotify::EXCL_UNLINK | inotify::ONESHOT);
    Ok(inotify::add(cx.k, cx.p, id, path, mask, existing)? as u64)
}

/// Who watches a file must be able to read it.
fn may_watch(cx: &mut Cx<'_, '_>, path: crate::vfs::PathRef) -> Result<(), Errno> {
    let who = &cx.who();
    let inode = cx.k.vfs.dentries.inode(path.dentry).ok_or(Errno::ENOENT)?;
    let attr = node::attr(cx.k, cx.p, inode)?;
    node::check_enter(cx.k, who, inode)?;
    perm::permission(cx.k, who, &attr, MAY_READ)
}

pub(super) fn inotify_rm_watch(cx: &mut Cx<'_, '_>, fd: Fd, wd: Int) -> SysResult {
    let id = instance_of(cx, fd)?;
    inotify::remove(cx.k, cx.p, id, wd.0)?;
    Ok(0)
}
