//! Flags of inodes by ioctl(2) (ioctl_iflags(2), ioctl_xfs_fsgetxattr(2)), and what else ioctl(2) tells of
//! every file.

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::abi::Errno;
use crate::abi::raw::{general as g, ioctl as i};
use crate::args::*;
use crate::env::wait::SysResult;
use crate::file;
use crate::file::{FileId, FileKind};
use crate::fs::filesystem::{Attr, SetAttr};
use crate::fs::inode::FsKind;
use crate::fs::{InodeRef, flags, inode};
use crate::kernel::Cx;
use crate::vfs::{mount, node};

/// `struct fsxattr`
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct FsXattr {
    xflags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    cow_extent_size: u32,
    pad: [u8; 8],
}

/// What these requests do to an open file; `None` for other requests.
pub(super) fn ioctl(cx: &mut Cx<'_, '_>, id: FileId, request: u32, arg: Addr) -> Option<SysResult> {
    Some(match request {
        i::FS_IOC_GETFLAGS => get_flags(cx, id, arg),
        i::FS_IOC_SETFLAGS => set_flags(cx, id, arg),
        i::FS_IOC_FSGETXATTR => get_xflags(cx, id, arg),
        i::FS_IOC_FSSETXATTR => set_xflags(cx, id, arg),
        i::FIGETBSZ => block_size(cx, id, arg),
        i::FIOQSIZE => bytes(cx, id, arg),
        _ => return None,
    })
}

/// The inode of a file that keeps flags: a regular file or directory of a tree. `ENOTTY`.
fn keeper(cx: &mut Cx<'_, '_>, id: FileId) -> Result<(InodeRef, Attr), Errno> {
    let file = file::at(cx.k, id);
    let inode = match (&file.kind, file.inode) {
        (FileKind::Regular | FileKind::Directory, Some(inode)) => inode,
        _ => return Err(Errno::ENOTTY),
    };
    match inode::kind(cx.k, inode.fs) {
        FsKind::Union => Ok((inode, node::attr(cx.k, cx.p, inode)?)),
        _ => Err(Errno::ENOTTY),
    }
}

fn get_flags(cx: &mut Cx<'_, '_>, id: FileId, arg: Addr) -> SysResult {
    let (_, attr) = keeper(cx, id)?;
    cx.write_obj(arg.0, &attr.flags)?;
    Ok(0)
}

fn get_xflags(cx: &mut Cx<'_, '_>, id: FileId, arg: Addr) -> SysResult {
    let (_, attr) = keeper(cx, id)?;
    let shown = FsXattr {
        xflags: flags::to_xflags(attr.flags),
        extent_size: 0,
        extents: 0,
        project: 0,
        cow_extent_size: 0,
        pad: [0; 8],
    };
    cx.write_obj(arg.0, &shown)?;
    Ok(0)
}

fn set_flags(cx: &mut Cx<'_, '_>, id: FileId, arg: Addr) -> SysResult {
    let asked: u32 = cx.read_obj(arg.0)?;
    set(
        cx,
        id,
        |_| match asked & !flags::ALL {
            0 => Ok(asked),
            _ => Err(Errno::EOPNOTSUPP),
        },
        asked,
    )
}

fn set_xflags(cx: &mut Cx<'_, '_>, id: FileId, arg: Addr) -> SysResult {
    let asked: FsXattr = cx.read_obj(arg.0)?;
    let known = asked.xflags & (g::FS_XFLAG_IMMUTABLE | g::FS_XFLAG_APPEND);
    let privileged = flags::from_xflags(known, false)?;
    set(
        cx,
        id,
        |attr| {
            let directory = attr.mode & g::S_IFMT == g::S_IFDIR;
            flags::from_xflags(asked.xflags, directory)
        },
        privileged,
    )
}

/// Sets flags after all checks; `privileged` are those asked for among which only some may change.
fn set(
    cx: &mut Cx<'_, '_>,
    id: FileId,
    wanted: impl Fn(&Attr) -> Result<u32, Errno>,
    privileged: u32,
) -> SysResult {
    let who = &cx.who();
    let path = *file::at(cx.k, id).path;
    mount::want_write(cx.k, path.mount)?;
    let (inode, attr) = keeper(cx, id)?;
    if !who.owns(cx.k, &attr) {
        return Err(Errno::EPERM.into());
    }
    let changed = (privileged ^ attr.flags) & flags::PRIVILEGED;
    if changed != 0 && !cx.creds().capable(g::CAP_LINUX_IMMUTABLE) {
        return Err(Errno::EPERM.into());
    }
    let set = SetAttr {
        flags: Some(wanted(&attr)?),
        ..SetAttr::default()
    };
    inode::set_attr(cx.k, cx.p, inode, &set)?;
    let attr = node::attr(cx.k, cx.p, inode)?;
    cx.k.vfs.dentries.set_perm(path.dentry, &attr);
    Ok(0)
}

/// `FIGETBSZ`: bytes of a block of the file system.
fn block_size(cx: &mut Cx<'_, '_>, id: FileId, arg: Addr) -> SysResult {
    let fs = file::inode_of(cx.k, id)?.fs;
    let size: u32 = match inode::kind(cx.k, fs) {
        FsKind::Proc => 1024,
        _ => 4096,
    };
    cx.write_obj(arg.0, &size)?;
    Ok(0)
}

/// `FIOQSIZE`: bytes that a file takes.
fn bytes(cx: &mut Cx<'_, '_>, id: FileId, arg: Addr) -> SysResult {
    let file = file::at(cx.k, id);
    let inode = match (&file.kind, file.inode) {
        (FileKind::Regular | FileKind::Directory | FileKind::Made(_), Some(inode)) => inode,
        _ => return Err(Errno::ENOTTY.into()),
    };
    let bytes = node::attr(cx.k, cx.p, inode)?.blocks * 512;
    cx.write_obj(arg.0, &bytes)?;
    Ok(0)
}
