//! Directories and names.

use alloc::vec::Vec;

use super::missing::{among, known};
use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::args::*;
use crate::env::wait::SysResult;
use crate::file;
use crate::file::{FileKind, fdtable, inotify};
use crate::fs::filesystem::Entry;
use crate::kernel::Cx;
use crate::vfs::d_path;
use crate::vfs::mount::{HeldPath, PathRef, get_path, put_path};
use crate::vfs::perm::{self, CAP_SYS_CHROOT, MAY_EXEC};
use crate::vfs::walk::{self, Flags};
use crate::vfs::{names, node};

const CWD: DirFd = DirFd(g::AT_FDCWD);

/// Most bytes of entries given out at once, whatever the buffer holds.
const DENTS_MAX: usize = 1 << 16;

/// Layout of a directory entry.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// `struct linux_dirent`: type in the last byte of the record.
    Old,
    /// `struct linux_dirent64`: type before the name.
    New,
}

impl Layout {
    fn record(self, name: &[u8]) -> usize {
        match self {
            // d_ino, d_off, d_reclen, name, NUL, type
            Layout::Old => (8 + 8 + 2 + name.len() + 2).next_multiple_of(8),
            // d_ino, d_off, d_reclen, type, name, NUL
            Layout::New => (8 + 8 + 2 + 1 + name.len() + 1).next_multiple_of(8),
        }
    }

    /// Adds an entry if it fits into `max` bytes in all.
    fn push(self, buf: &mut Vec<u8>, max: usize, entry: &Entry<'_>) -> bool {
        let len = self.record(entry.name);
        if buf.len() + len > max {
            return false;
        }
        let end = buf.len() + len;
        buf.extend_from_slice(&entry.ino.0.to_le_bytes());
        buf.extend_from_slice(&entry.next.to_le_bytes());
        buf.extend_from_slice(&(len as u16).to_le_bytes());
        if self == Layout::New {
            buf.push(entry.kind);
        }
        buf.extend_from_slice(entry.name);
        buf.resize(end, 0);
        if self == Layout::Old {
            buf[end - 1] = entry.kind;
        }
        true
    }

    /// The bytes of the first entries that `put` takes (an entry, and where it is), and the position behind
    /// the last of them; `None` if there is no such entry. The layouts have position and length in the same
    /// places.
    fn fitting(
        self,
        buf: &[u8],
        mut put: impl FnMut(&[u8], usize) -> bool,
    ) -> Option<(usize, u64)> {
        /// Where the name is in `struct linux_dirent64`.
        const NAME_AT: usize = 19;
        let mut fitting = None;
        let mut at = 0;
        while let Some((head, _)) = buf
            .get(at..)
            .and_then(|rest| rest.split_first_chunk::<18>())
        {
            let mut next = [0; 8];
            next.copy_from_slice(&head[8..16]);
            let len = usize::from(u16::from_le_bytes([head[16], head[17]]));
            let end = at + len;
            // What fills an entry up behind its name need not fit.
            let used = match self {
                Layout::Old => len,
                Layout::New => {
                    let name = buf.get(at + NAME_AT..end).unwrap_or_default();
                    let zero = name.iter().position(|&byte| byte == 0);
                    zero.map_or(len, |zero| NAME_AT + zero + 1)
                }
            };
            if !buf.get(at..at + used).is_some_and(|entry| put(entry, at)) {
                break;
            }
            fitting = Some((end, u64::from_le_bytes(next)));
            at = end;
        }
        fitting
    }
}

fn read_entries(cx: &mut Cx<'_, '_>, fd: Fd, dirp: Addr, count: Uint, layout: Layout) -> SysResult {
    let id = fdtable::get(cx, fd.0)?;
    let open = file::at(cx.k, id);
    let (path, offset) = (*open.path, open.offset);
    if open.kind != FileKind::Directory {
        return Err(Errno::ENOTDIR.into());
    }
    let dir = cx.k.vfs.dentries.inode(path.dentry).ok_or(Errno::ENOENT)?;
    if cx.k.vfs.dentries.is_deleted(path.dentry) {
        return Err(Errno::ENOENT.into());
    }
    // Linux keeps the size as a signed number: into a negative one nothing fits.
    let max = i32::try_from(count.0).map_or(0, |count| (count as usize).min(DENTS_MAX));
    let mut buf = Vec::new();
    let mut next = offset;
    let mut full = false;
    // Positions 0 and 1 are "." and ".."; those of the file system are greater than 2.
    let parent = parent_of(cx, path);
    for (at, name, dentry) in [(0, b".".as_slice(), path), (1, b"..", parent)] {
        if next == at && !full {
            let entry = Entry {
                name,
                ino: cx
                    .k
                    .vfs
                    .dentries
                    .at(dentry.dentry)
                    .ino
                    .ok_or(Errno::ENOENT)?,
                kind: g::DT_DIR as u8,
                next: at + 1,
            };
            match layout.push(&mut buf, max, &entry) {
                true => next = at + 1,
                false => full = true,
            }
        }
    }
    if !full && next < i64::MAX as u64 {
        let cookie = if next <= 2 { 0 } else { next };
        let who = &cx.who();
        node::read_dir(cx.k, cx.p, who, dir, cookie, &mut |entry| {
            full = !layout.push(&mut buf, max, &entry);
            if !full {
                next = entry.next;
            }
            !full
        })?;
    }
    if buf.is_empty() && full {
        return Err(Errno::EINVAL.into());
    }
    let mut given = buf.len();
    if let Err(errno) = cx.write_user(dirp.0, &buf) {
        // As many entries as there is memory for.
        let fitting = layout.fitting(&buf, |entry, at| {
            cx.write_user(dirp.0.wrapping_add(at as u64), entry).is_ok()
        });
        (given, next) = fitting.ok_or(errno)?;
    }
    file::at_mut(cx.k, id).offset = next;
    inotify::file_event(cx.k, cx.p, id, inotify::ACCESS);
    Ok(given as u64)
}

/// What `..` of a directory shows.
fn parent_of(cx: &Cx<'_, '_>, mut path: PathRef) -> PathRef {
    let root = *cx.k.files.fs_context(cx.task().fs).root;
    loop {
        if path == root {
            return path;
        }
        let mount = cx.k.vfs.mounts.at(path.mount);
        match mount.on {
            Some(on) if path.dentry == mount.root => path = on,
            _ => break,
        }
    }
    path.dentry = cx.k.vfs.dentries.at(path.dentry).parent;
    path
}

pub(super) fn getdents(cx: &mut Cx<'_, '_>, fd: Fd, dirp: Addr, count: Uint) -> SysResult {
    read_entries(cx, fd, dirp, count, Layout::Old)
}

pub(super) fn getdents64(cx: &mut Cx<'_, '_>, fd: Fd, dirp: Addr, count: Uint) -> SysResult {
    read_entries(cx, fd, dirp, count, Layout::New)
}

pub(super) fn getcwd(cx: &mut Cx<'_, '_>, buf: Addr, size: Size) -> SysResult {
    let context = cx.fs_context();
    let (root, cwd) = (*context.root, *context.cwd);
    if cx.k.vfs.dentries.is_deleted(cwd.dentry) {
        return Err(Errno::ENOENT.into());
    }
    let mut path = d_path::path_of(cx.k, cx.p, cx.thread, root, cwd)?;
    path.push(0);
    if path.len() > crate::abi::PATH_MAX {
        return Err(Errno::ENAMETOOLONG.into());
    }
    if (size.0 as usize) < path.len() {
        return Err(Errno::ERANGE.into());
    }
    cx.write_user(buf.0, &path)?;
    Ok(path.len() as u64)
}

/// Whether the caller may search a directory.
fn check_search(cx: &mut Cx<'_, '_>, path: PathRef) -> Result<(), Errno> {
    let who = &cx.who();
    if let Some(inode) = cx.k.vfs.dentries.inode(path.dentry) {
        node::check_enter(cx.k, who, inode)?;
    }
    let attr = walk::dir_attr(cx.k, cx.p, path.dentry)?;
    perm::permission(cx.k, who, &attr, MAY_EXEC)
}

/// Makes a place the working directory, if it may be.
fn enter(cx: &mut Cx<'_, '_>, path: HeldPath) -> Result<(), Errno> {
    let checked = check_search(cx, *path);
    let out = match checked {
        Ok(()) => core::mem::replace(&mut cx.fs_context().cwd, path),
        Err(_) => path,
    };
    put_path(cx.k, cx.p, out);
    checked
}

pub(super) fn chdir(cx: &mut Cx<'_, '_>, path: Path) -> SysResult {
    let path = cx.read_path(path.0)?;
    let path = walk::resolve(cx, CWD, &path, Flags::FOLLOW | Flags::DIRECTORY)?;
    enter(cx, path)?;
    Ok(0)
}

pub(super) fn fchdir(cx: &mut Cx<'_, '_>, fd: Fd) -> SysResult {
    let id = fdtable::get_any(cx, fd.0)?;
    let path = *file::at(cx.k, id).path;
    if cx.k.vfs.dentries.at(path.dentry).kind() != g::S_IFDIR {
        return Err(Errno::ENOTDIR.into());
    }
    let path = get_path(cx.k, path);
    enter(cx, path)?;
    Ok(0)
}

pub(super) fn chroot(cx: &mut Cx<'_, '_>, path: Path) -> SysResult {
    let path = cx.read_path(path.0)?;
    let path = walk::resolve(cx, CWD, &path, Flags::FOLLOW | Flags::DIRECTORY)?;
    let checked = check_search(cx, *path).and_then(|()| match cx.creds().has(CAP_SYS_CHROOT) {
        true => Ok(()),
        false => Err(Errno::EPERM),
    });
    let out = match checked {
        Ok(()) => core::mem::replace(&mut cx.fs_context().root, path),
        Err(_) => path,
    };
    put_path(cx.k, cx.p, out);
    checked?;
    Ok(0)
}

pub(super) fn rename(cx: &mut Cx<'_, '_>, oldpath: Path, newpath: Path) -> SysResult {
    renameat2(cx, CWD, oldpath, CWD, newpath, RenameFlags::empty())
}

pub(super) fn renameat(
    cx: &mut Cx<'_, '_>,
    olddirfd: DirFd,
    oldpath: Path,
    newdirfd: DirFd,
    newpath: Path,
) -> SysResult {
    renameat2(
        cx,
        olddirfd,
        oldpath,
        newdirfd,
        newpath,
        RenameFlags::empty(),
    )
}

pub(super) fn renameat2(
    cx: &mut Cx<'_, '_>,
    olddirfd: DirFd,
    oldpath: Path,
    newdirfd: DirFd,
    newpath: Path,
    flags: RenameFlags,
) -> SysResult {
    let old = cx.read_path(oldpath.0)?;
    let new = cx.read_path(newpath.0)?;
    let flags = known(cx, flags)?;
    let change = names::rename(cx, (olddirfd, &old), (newdirfd, &new), flags)?;
    inotify::changed(cx.k, cx.p, change);
    Ok(0)
}

pub(super) fn mkdir(cx: &mut Cx<'_, '_>, path: Path, mode: Mode) -> SysResult {
    mkdirat(cx, CWD, path, mode)
}

pub(super) fn mkdirat(cx: &mut Cx<'_, '_>, dirfd: DirFd, path: Path, mode: Mode) -> SysResult {
    let path = cx.read_path(path.0)?;
    let change = names::mkdir(cx, dirfd, &path, mode.0)?;
    inotify::changed(cx.k, cx.p, change);
    Ok(0)
}

pub(super) fn rmdir(cx: &mut Cx<'_, '_>, path: Path) -> SysResult {
    let path = cx.read_path(path.0)?;
    let change = names::rmdir(cx, CWD, &path)?;
    inotify::changed(cx.k, cx.p, change);
    Ok(0)
}

pub(super) fn unlink(cx: &mut Cx<'_, '_>, path: Path) -> SysResult {
    let path = cx.read_path(path.0)?;
    let change = names::unlink(cx, CWD, &path)?;
    inotify::changed(cx.k, cx.p, change);
    Ok(0)
}

pub(super) fn unlinkat(cx: &mut Cx<'_, '_>, dirfd: DirFd, path: Path, flags: AtFlags) -> SysResult {
    let flags = among(cx, flags, AtFlags::REMOVEDIR)?;
    let path = cx.read_path(path.0)?;
    let change = match flags.contains(AtFlags::REMOVEDIR) {
        true => names::rmdir(cx, dirfd, &path)?,
        false => names::unlink(cx, dirfd, &path)?,
    };
    inotify::changed(cx.k, cx.p, change);
    Ok(0)
}

pub(super) fn link(cx: &mut Cx<'_, '_>, oldpath: Path, newpath: Path) -> SysResult {
    linkat(cx, CWD, oldpath, CWD, newpath, AtFlags::empty())
}

pub(super) fn linkat(
    cx: &mut Cx<'_, '_>,
    olddirfd: DirFd,
    oldpath: Path,
    newdirfd: DirFd,
    newpath: Path,
    flags: AtFlags,
) -> SysResult {
    let old = cx.read_path(oldpath.0)?;
    let new = cx.read_path(newpath.0)?;
    let flags = among(cx, flags, AtFlags::SYMLINK_FOLLOW | AtFlags::EMPTY_PATH)?;
    let change = names::link(cx, (olddirfd, &old), (newdirfd, &new), flags)?;
    inotify::changed(cx.k, cx.p, change);
    Ok(0)
}

pub(super) fn symlink(cx: &mut Cx<'_, '_>, target: Str, linkpath: Path) -> SysResult {
    symlinkat(cx, target, CWD, linkpath)
}

pub(super) fn symlinkat(
    cx: &mut Cx<'_, '_>,
    target: Str,
    newdirfd: DirFd,
    linkpath: Path,
) -> SysResult {
    let target = cx.read_path(target.0)?;
    let path = cx.read_path(linkpath.0)?;
    let change = names::symlink(cx, &target, newdirfd, &path)?;
    inotify::changed(cx.k, cx.p, change);
    Ok(0)
}

pub(super) fn mknod(cx: &mut Cx<'_, '_>, path: Path, mode: Mode, dev: Uint) -> SysResult {
    mknodat(cx, CWD, path, mode, dev)
}

pub(super) fn mknodat(
    cx: &mut Cx<'_, '_>,
    dirfd: DirFd,
    path: Path,
    mode: Mode,
    dev: Uint,
) -> SysResult {
    let path = cx.read_path(path.0)?;
    let change = names::mknod(cx, dirfd, &path, mode.0, dev.0)?;
    inotify::changed(cx.k, cx.p, change);
    Ok(0)
}
