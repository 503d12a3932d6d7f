//! Extended attributes.

use alloc::vec;
use alloc::vec::Vec;

use super::missing::known;
use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::args::*;
use crate::cred::file_caps;
use crate::env::wait::SysResult;
use crate::file;
use crate::file::{fdtable, inotify};
use crate::fs::filesystem::Attr;
use crate::fs::{InodeRef, flags, inode};
use crate::kernel::Cx;
use crate::vfs::mount::{self, PathRef};
use crate::vfs::node;
use crate::vfs::perm::{self, CAP_SETFCAP, CAP_SYS_ADMIN, MAY_READ, MAY_WRITE};
use crate::vfs::walk::Flags;

/// Longest name (`XATTR_NAME_MAX`), largest value (`XATTR_SIZE_MAX`) and list of names (`XATTR_LIST_MAX`).
const NAME_MAX: usize = 255;
const SIZE_MAX: u64 = 65536;
const LIST_MAX: usize = 65536;

/// Which file a call is about.
enum Target {
    Path(Path, Flags),
    Fd(Fd),
}

impl Target {
    fn find(self, cx: &mut Cx<'_, '_>) -> Result<(InodeRef, PathRef), Errno> {
        let path = match self {
            Target::Path(path, flags) => {
                let path = cx.read_path(path.0)?;
                let (mut walker, start) = cx.walker(DirFd(g::AT_FDCWD), &path, flags)?;
                walker.resolve_bare(start, &path)?
            }
            Target::Fd(fd) => {
                let id = fdtable::get(cx, fd.0)?;
                *file::at(cx.k, id).path
            }
        };
        let inode = cx.k.vfs.dentries.inode(path.dentry).ok_or(Errno::ENOENT)?;
        Ok((inode, path))
    }
}

fn read_name(cx: &mut Cx<'_, '_>, addr: Str) -> Result<Vec<u8>, Errno> {
    match cx.read_cstr(addr.0, NAME_MAX + 1) {
        Ok(name) if name.is_empty() => Err(Errno::ERANGE),
        Err(Errno::E2BIG | Errno::ENAMETOOLONG) => Err(Errno::ERANGE),
        result => result,
    }
}

/// `xattr_permission` and the checks of security modules; also whether there is anything that keeps such
/// names.
fn check(
    cx: &Cx<'_, '_>,
    inode: InodeRef,
    attr: &Attr,
    name: &[u8],
    writes: bool,
) -> Result<(), Errno> {
    let who = &cx.who();
    let (missing, mask) = match writes {
        true => (Errno::EPERM, MAY_WRITE),
        false => (Errno::ENODATA, MAY_READ),
    };
    let kind = attr.mode & g::S_IFMT;
    if writes {
        flags::check_change(attr)?;
    }
    if let Some(name) = name.strip_prefix(b"security.") {
        if name.is_empty() {
            return Err(Errno::EINVAL);
        }
        let needed = match name {
            b"capability" => CAP_SETFCAP,
            _ => CAP_SYS_ADMIN,
        };
        let capable = match needed {
            CAP_SETFCAP => who.capable_over(cx.k, attr, needed),
            _ => cx.capable_in(cx.k.fs.filesystem_owner(inode.fs), needed),
        };
        return match !writes || capable {
            true => Ok(()),
            false => Err(Errno::EPERM),
        };
    }
    if let Some(name) = name.strip_prefix(b"trusted.") {
        if !who.capable(CAP_SYS_ADMIN) {
            return Err(missing);
        }
        return match name {
            b"" => Err(Errno::EINVAL),
            _ => Ok(()),
        };
    }
    let Some(name) = name.strip_prefix(b"user.") else {
        if !name.starts_with(b"system.") {
            perm::permission(cx.k, who, attr, mask)?;
        }
        return Err(Errno::EOPNOTSUPP);
    };
    if !matches!(kind, g::S_IFREG | g::S_IFDIR) {
        return Err(missing);
    }
    if writes && kind == g::S_IFDIR && attr.mode & g::S_ISVTX != 0 && !who.owns(cx.k, attr) {
        return Err(Errno::EPERM);
    }
    perm::permission(cx.k, who, attr, mask)?;
    match name {
        b"" => Err(Errno::EINVAL),
        _ => Ok(()),
    }
}

fn set(
    cx: &mut Cx<'_, '_>,
    target: Target,
    name: Str,
    (value, size): (Addr, Size),
    flags: XattrFlags,
) -> SysResult {
    let flags = known(cx, flags)?;
    let name = read_name(cx, name)?;
    if size.0 > SIZE_MAX {
        return Err(Errno::E2BIG.into());
    }
    let mut bytes = vec![0; size.0 as usize];
    cx.read_user(value.0, &mut bytes)?;
    let (inode, path) = target.find(cx)?;
    mount::want_write(cx.k, path.mount)?;
    let attr = node::attr(cx.k, cx.p, inode)?;
    let caps = name == file_caps::NAME && !bytes.is_empty();
    if caps {
        file_caps::check(&bytes)?;
    }
    check(cx, inode, &attr, &name, true)?;
    if caps {
        let owner = cx.k.fs.filesystem_owner(inode.fs);
        bytes = file_caps::stored(cx.k, cx.creds(), owner, &bytes)?;
    }
    inode::set_xattr(cx.k, cx.p, inode, &name, &bytes, flags)?;
    inotify::happened(cx.k, cx.p, path.dentry, inotify::ATTRIB);
    Ok(0)
}

fn get(cx: &mut Cx<'_, '_>, target: Target, name: Str, (value, size): (Addr, Size)) -> SysResult {
    let name = read_name(cx, name)?;
    let (inode, _) = target.find(cx)?;
    let attr = node::attr(cx.k, cx.p, inode)?;
    check(cx, inode, &attr, &name, false)?;
    let mut bytes = inode::get_xattr(cx.k, cx.p, inode, &name)?;
    if name == file_caps::NAME {
        let owner = cx.k.fs.filesystem_owner(inode.fs);
        bytes = file_caps::shown(cx.k, cx.creds().user_ns, owner, &bytes)?;
    }
    give(cx, &bytes, value, size)
}

/// Copies a result out, or tells its size if the buffer has none.
fn give(cx: &mut Cx<'_, '_>, bytes: &[u8], addr: Addr, size: Size) -> SysResult {
    if size.0 > 0 {
        if (size.0 as usize) < bytes.len() {
            return Err(Errno::ERANGE.into());
        }
        cx.write_user(addr.0, bytes)?;
    }
    Ok(bytes.len() as u64)
}

fn list(cx: &mut Cx<'_, '_>, target: Target, addr: Addr, size: Size) -> SysResult {
    let (inode, _) = target.find(cx)?;
    let admin = cx.creds().capable(CAP_SYS_ADMIN);
    let mut bytes = Vec::new();
    for name in inode::list_xattr(cx.k, cx.p, inode)? {
        if admin || !name.starts_with(b"trusted.") {
            bytes.extend_from_slice(&name);
            bytes.push(0);
        }
    }
    if bytes.len() > LIST_MAX {
        return Err(Errno::E2BIG.into());
    }
    give(cx, &bytes, addr, size)
}

fn remove(cx: &mut Cx<'_, '_>, target: Target, name: Str) -> SysResult {
    let name = read_name(cx, name)?;
    let (inode, path) = target.find(cx)?;
    mount::want_write(cx.k, path.mount)?;
    let attr = node::attr(cx.k, cx.p, inode)?;
    check(cx, inode, &attr, &name, true)?;
    inode::remove_xattr(cx.k, cx.p, inode, &name)?;
    inotify::happened(cx.k, cx.p, path.dentry, inotify::ATTRIB);
    Ok(0)
}

pub(super) fn setxattr(
    cx: &mut Cx<'_, '_>,
    path: Path,
    name: Str,
    value: Addr,
    size: Size,
    flags: XattrFlags,
) -> SysResult {
    let target = Target::Path(path, Flags::FOLLOW);
    set(cx, target, name, (value, size), flags)
}

pub(super) fn lsetxattr(
    cx: &mut Cx<'_, '_>,
    path: Path,
    name: Str,
    value: Addr,
    size: Size,
    flags: XattrFlags,
) -> SysResult {
    let target = Target::Path(path, Flags::empty());
    set(cx, target, name, (value, size), flags)
}

pub(super) fn fsetxattr(
    cx: &mut Cx<'_, '_>,
    fd: Fd,
    name: Str,
    value: Addr,
    size: Size,
    flags: XattrFlags,
) -> SysResult {
    set(cx, Target::Fd(fd), name, (value, size), flags)
}

pub(super) fn getxattr(
    cx: &mut Cx<'_, '_>,
    path: Path,
    name: Str,
    value: Addr,
    size: Size,
) -> SysResult {
    get(cx, Target::Path(path, Flags::FOLLOW), name, (value, size))
}

pub(super) fn lgetxattr(
    cx: &mut Cx<'_, '_>,
    path: Path,
    name: Str,
    value: Addr,
    size: Size,
) -> SysResult {
    get(cx, Target::Path(path, Flags::empty()), name, (value, size))
}

pub(super) fn fgetxattr(
    cx: &mut Cx<'_, '_>,
    fd: Fd,
    name: Str,
    value: Addr,
    size: Size,
) -> SysResult {
    get(cx, Target::Fd(fd), name, (value, size))
}

pub(super) fn listxattr(cx: &mut Cx<'_, '_>, path: Path, addr: Addr, size: Size) -> SysResult {
    list(cx, Target::Path(path, Flags::FOLLOW), addr, size)
}

pub(super) fn llistxattr(cx: &mut Cx<'_, '_>, path: Path, addr: Addr, size: Size) -> SysResult {
    list(cx, Target::Path(path, Flags::empty()), addr, size)
}

pub(super) fn flistxattr(cx: &mut Cx<'_, '_>, fd: Fd, addr: Addr, size: Size) -> SysResult {
    list(cx, Target::Fd(fd), addr, size)
}

pub(super) fn removexattr(cx: &mut Cx<'_, '_>, path: Path, name: Str) -> SysResult {
    remove(cx, Target::Path(path, Flags::FOLLOW), name)
}

pub(super) fn lremovexattr(cx: &mut Cx<'_, '_>, path: Path, name: Str) -> SysResult {
    remove(cx, Target::Path(path, Flags::empty()), name)
}

pub(super) fn fremovexattr(cx: &mut Cx<'_, '_>, fd: Fd, name: Str) -> SysResult {
    remove(cx, Target::Fd(fd), name)
}
