//! Attributes of files.

use zerocopy::{Immutable, IntoBytes};

use super::missing::among;
use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::args::*;
use crate::cred::Creds;
use crate::cred::ns::user;
use crate::env::wait::SysResult;
use crate::file;
use crate::file::{fdtable, inotify};
use crate::fs::filesystem::{Attr, InodeRef, SetAttr, Time};
use crate::fs::inode::FsKind;
use crate::fs::{FsId, anon, flags, inode};
use crate::kernel::Cx;
use crate::task::creds::zero;
use crate::vfs::mount::{self, MountFlags, PathRef};
use crate::vfs::node;
use crate::vfs::perm::{self, CAP_CHOWN, MAY_EXEC, MAY_WRITE, Who};
use crate::vfs::walk::Flags;

/// Attributes that statx(2) knows of for every file.
const ATTRIBUTES: u32 = g::STATX_ATTR_MOUNT_ROOT | g::STATX_ATTR_AUTOMOUNT | g::STATX_ATTR_DAX;
const CWD: DirFd = DirFd(g::AT_FDCWD);
const NOFOLLOW: AtFlags = AtFlags::SYMLINK_NOFOLLOW;
const EMPTY: AtFlags = AtFlags::EMPTY_PATH;
/// What most calls take.
const PLACE: AtFlags = NOFOLLOW.union(EMPTY);
/// How far attributes may be behind those on a server: there is none.
const SYNC_TYPE: AtFlags = AtFlags::STATX_FORCE_SYNC.union(AtFlags::STATX_DONT_SYNC);
/// What calls take that only look.
const LOOK: AtFlags = PLACE.union(AtFlags::NO_AUTOMOUNT).union(SYNC_TYPE);

/// `struct stat` of x86-64.
#[derive(Clone, Copy, IntoBytes, Immutable)]
#[repr(C)]
struct Stat {
    dev: u64,
    ino: u64,
    nlink: u64,
    mode: u32,
    uid: u32,
    gid: u32,
    pad: u32,
    rdev: u64,
    size: i64,
    block_size: i64,
    blocks: i64,
    atime: [i64; 2],
    mtime: [i64; 2],
    ctime: [i64; 2],
    unused: [i64; 3],
}

/// `struct statx`.
#[derive(Clone, Copy, IntoBytes, Immutable)]
#[repr(C)]
struct Statx {
    mask: u32,
    block_size: u32,
    attributes: u64,
    nlink: u32,
    uid: u32,
    gid: u32,
    mode: u16,
    pad: u16,
    ino: u64,
    size: u64,
    blocks: u64,
    attributes_mask: u64,
    atime: StatxTime,
    btime: StatxTime,
    ctime: StatxTime,
    mtime: StatxTime,
    rdev: [u32; 2],
    dev: [u32; 2],
    mnt_id: u64,
    dio: [u32; 2],
    spare: [u64; 12],
}

#[derive(Clone, Copy, IntoBytes, Immutable)]
#[repr(C)]
struct StatxTime {
    sec: i64,
    nsec: u32,
    pad: u32,
}

/// `struct statfs` of x86-64.
#[derive(Clone, Copy, IntoBytes, Immutable)]
#[repr(C)]
struct Statfs {
    magic: u64,
    block_size: u64,
    blocks: u64,
    free: u64,
    available: u64,
    files: u64,
    files_free: u64,
    id: [u32; 2],
    name_max: u64,
    fragment_size: u64,
    flags: u64,
    spare: [u64; 4],
}

/// Device number of a file system: major 0, minor its number + 1.
fn device(fs: FsId) -> u64 {
    encode_dev(0, fs.0 + 1)
}

/// `new_encode_dev` as 64 bits (`st_dev`).
fn encode_dev(major: u32, minor: u32) -> u64 {
    u64::from(minor & 0xff | major << 8 | (minor & !0xff) << 12)
}

/// Major and minor of `new_encode_dev`.
fn decode_dev(dev: u32) -> [u32; 2] {
    [dev >> 8 & 0xfff, dev & 0xff | dev >> 12 & 0xfff00]
}

/// Preferred size of one read or write.
const BLOCK: i64 = 4096;

fn write_stat(cx: &mut Cx<'_, '_>, addr: u64, inode: InodeRef, attr: &Attr) -> SysResult {
    let time = |time: Time| [time.sec, i64::from(time.nsec)];
    let stat = Stat {
        dev: device(inode.fs),
        ino: inode.ino.0,
        nlink: u64::from(attr.nlink),
        mode: attr.mode,
        uid: user::show_uid(cx.k, cx.creds().user_ns, attr.uid),
        gid: user::show_gid(cx.k, cx.creds().user_ns, attr.gid),
        pad: 0,
        rdev: u64::from(attr.rdev),
        size: attr.size as i64,
        block_size: BLOCK,
        blocks: attr.blocks as i64,
        atime: time(attr.atime),
        mtime: time(attr.mtime),
        ctime: time(attr.ctime),
        unused: [0; 3],
    };
    cx.write_obj(addr, &stat)?;
    Ok(0)
}

/// The inode of a path and its mount; nothing is held.
fn look(
    cx: &mut Cx<'_, '_>,
    at: DirFd,
    path: &[u8],
    flags: Flags,
) -> Result<(PathRef, InodeRef), Errno> {
    let path = if path.is_empty() && flags.contains(Flags::EMPTY_PATH) && at != CWD {
        let id = fdtable::get_any(cx, at.0)?;
        *file::at(cx.k, id).path
    } else {
        let (mut walker, start) = cx.walker(at, path, flags)?;
        walker.resolve_bare(start, path)?
    };
    let inode = cx.k.vfs.dentries.inode(path.dentry).ok_or(Errno::ENOENT)?;
    Ok((path, inode))
}

fn stat_at(cx: &mut Cx<'_, '_>, at: DirFd, path: Path, addr: Addr, flags: Flags) -> SysResult {
    let who = &cx.who();
    let path = cx.read_path(path.0)?;
    let (_, inode) = look(cx, at, &path, flags)?;
    let attr = node::shown_attr(cx.k, cx.p, who, inode)?;
    write_stat(cx, addr.0, inode, &attr)
}

pub(super) fn stat(cx: &mut Cx<'_, '_>, path: Path, statbuf: Addr) -> SysResult {
    stat_at(cx, CWD, path, statbuf, Flags::FOLLOW)
}

pub(super) fn lstat(cx: &mut Cx<'_, '_>, path: Path, statbuf: Addr) -> SysResult {
    stat_at(cx, CWD, path, statbuf, Flags::empty())
}

pub(super) fn fstat(cx: &mut Cx<'_, '_>, fd: Fd, statbuf: Addr) -> SysResult {
    let who = &cx.who();
    let id = fdtable::get_any(cx, fd.0)?;
    let inode = file::inode_of(cx.k, id)?;
    let attr = node::shown_attr(cx.k, cx.p, who, inode)?;
    write_stat(cx, statbuf.0, inode, &attr)
}

pub(super) fn newfstatat(
    cx: &mut Cx<'_, '_>,
    dirfd: DirFd,
    path: Path,
    statbuf: Addr,
    flags: AtFlags,
) -> SysResult {
    let flags = among(cx, flags, LOOK)?;
    // Newer kernels take a null path as an empty one.
    if path.0 == 0 && flags.contains(EMPTY) && dirfd != CWD {
        return fstat(cx, Fd(dirfd.0), statbuf);
    }
    stat_at(cx, dirfd, path, statbuf, Flags::from_at(flags))
}

pub(super) fn statx(
    cx: &mut Cx<'_, '_>,
    dirfd: DirFd,
    path: Path,
    flags: AtFlags,
    mask: StatxMask,
    statxbuf: Addr,
) -> SysResult {
    let who = &cx.who();
    let flags = among(cx, flags, LOOK)?;
    if mask.contains(StatxMask::RESERVED) || flags.contains(SYNC_TYPE) {
        return Err(Errno::EINVAL.into());
    }
    let path = match path.0 == 0 && flags.contains(EMPTY) {
        true => smallvec::SmallVec::new(),
        false => cx.read_path(path.0)?,
    };
    let (path, inode) = look(cx, dirfd, &path, Flags::from_at(flags))?;
    let attr = node::shown_attr(cx.k, cx.p, who, inode)?;
    let time = |time: Time| StatxTime {
        sec: time.sec,
        nsec: time.nsec,
        pad: 0,
    };
    let is_root = cx.k.vfs.mounts.at(path.mount).root == path.dentry;
    // They have the numbers that they have in the inode.
    let attributes = match inode::kind(cx.k, inode.fs) {
        FsKind::Union => flags::IMMUTABLE | flags::APPEND | flags::NODUMP,
        _ => 0,
    };
    let statx = Statx {
        mask: (StatxMask::BASIC_STATS | StatxMask::BTIME | StatxMask::MNT_ID).bits(),
        block_size: BLOCK as u32,
        attributes: match is_root {
            true => u64::from(g::STATX_ATTR_MOUNT_ROOT | attr.flags & attributes),
            false => u64::from(attr.flags & attributes),
        },
        nlink: attr.nlink,
        uid: user::show_uid(cx.k, cx.creds().user_ns, attr.uid),
        gid: user::show_gid(cx.k, cx.creds().user_ns, attr.gid),
        mode: attr.mode as u16,
        pad: 0,
        ino: inode.ino.0,
        size: attr.size,
        blocks: attr.blocks,
        attributes_mask: u64::from(ATTRIBUTES | attributes),
        atime: time(attr.atime),
        btime: time(attr.btime),
        ctime: time(attr.ctime),
        mtime: time(attr.mtime),
        rdev: decode_dev(attr.rdev),
        dev: [0, inode.fs.0 + 1],
        mnt_id: u64::from(path.mount.number()),
        dio: [0; 2],
        spare: [0; 12],
    };
    cx.write_obj(statxbuf.0, &statx)?;
    Ok(0)
}

fn access_at(cx: &mut Cx<'_, '_>, at: DirFd, path: Path, mode: u32, flags: AtFlags) -> SysResult {
    let flags = among(cx, flags, AtFlags::EACCESS | PLACE)?;
    if mode & !7 != 0 {
        return Err(Errno::EINVAL.into());
    }
    let path = cx.read_path(path.0)?;
    if flags.contains(AtFlags::EACCESS) {
        return may_access(cx, at, &path, mode, flags, cx.who());
    }
    // The real user and group count, with the capabilities that they would have: most often what is there.
    let own = cx.creds();
    let effective = match Some(own.uid) == zero(cx) {
        true => own.cap_permitted,
        false => 0,
    };
    if (own.fsuid, own.fsgid, own.cap_effective) == (own.uid, own.gid, effective) {
        return may_access(cx, at, &path, mode, flags, cx.who());
    }
    let creds = Creds {
        fsuid: own.uid,
        fsgid: own.gid,
        cap_effective: effective,
        ..own.clone()
    };
    let thread = cx.thread;
    may_access(
        cx,
        at,
        &path,
        mode,
        flags,
        Who::Creds(creds.into(), Some(thread)),
    )
}

fn may_access(
    cx: &mut Cx<'_, '_>,
    at: DirFd,
    path: &[u8],
    mode: u32,
    flags: AtFlags,
    who: Who,
) -> SysResult {
    let walk = Flags::from_at(flags);
    if path.is_empty() && !walk.contains(Flags::EMPTY_PATH) {
        return Err(Errno::ENOENT.into());
    }
    let (mut walker, start) = cx.walker_as(who.clone(), at, path, walk)?;
    let path = walker.resolve_bare(start, path)?;
    let inode = cx.k.vfs.dentries.inode(path.dentry).ok_or(Errno::ENOENT)?;
    let attr = node::attr(cx.k, cx.p, inode)?;
    let kind = attr.mode & g::S_IFMT;
    let mount = cx.k.vfs.mounts.at(path.mount);
    if mode & MAY_EXEC != 0 && kind == g::S_IFREG && mount.flags.contains(MountFlags::NOEXEC) {
        return Err(Errno::EACCES.into());
    }
    node::check_enter(cx.k, &who, inode)?;
    node::permission(cx.k, &who, inode, &attr, mode)?;
    if mode & MAY_WRITE != 0 && matches!(kind, g::S_IFREG | g::S_IFDIR | g::S_IFLNK) {
        mount::want_write(cx.k, path.mount)?;
    }
    Ok(0)
}

pub(super) fn access(cx: &mut Cx<'_, '_>, path: Path, mode: Mode) -> SysResult {
    access_at(cx, CWD, path, mode.0, AtFlags::empty())
}

pub(super) fn faccessat(cx: &mut Cx<'_, '_>, dirfd: DirFd, path: Path, mode: Mode) -> SysResult {
    access_at(cx, dirfd, path, mode.0, AtFlags::empty())
}

pub(super) fn faccessat2(
    cx: &mut Cx<'_, '_>,
    dirfd: DirFd,
    path: Path,
    mode: Mode,
    flags: AtFlags,
) -> SysResult {
    access_at(cx, dirfd, path, mode.0, flags)
}

pub(super) fn readlink(cx: &mut Cx<'_, '_>, path: Path, buf: OutBuf, bufsiz: Size) -> SysResult {
    readlinkat(cx, CWD, path, buf, bufsiz)
}

pub(super) fn readlinkat(
    cx: &mut Cx<'_, '_>,
    dirfd: DirFd,
    path: Path,
    buf: OutBuf,
    bufsiz: Size,
) -> SysResult {
    let who = &cx.who();
    let size = bufsiz.0 as i32;
    if size <= 0 {
        return Err(Errno::EINVAL.into());
    }
    let path = cx.read_path(path.0)?;
    let empty = path.is_empty();
    let (_, inode) = look(cx, dirfd, &path, Flags::EMPTY_PATH).map_err(|errno| match empty {
        true if errno == Errno::ENOTDIR => Errno::ENOENT,
        _ => errno,
    })?;
    let attr = node::attr(cx.k, cx.p, inode)?;
    if attr.mode & g::S_IFMT != g::S_IFLNK {
        return Err(match empty {
            true => Errno::ENOENT,
            false => Errno::EINVAL,
        }
        .into());
    }
    let mut target = node::read_link(cx.k, cx.p, who, inode)?;
    target.truncate(size as usize);
    cx.write_user(buf.0, &target)?;
    Ok(target.len() as u64)
}

/// Changes attributes after all checks, and keeps the dentry in step.
fn apply(cx: &mut Cx<'_, '_>, path: PathRef, inode: InodeRef, set: &SetAttr) -> SysResult {
    inode::set_attr(cx.k, cx.p, inode, set)?;
    if set.mode.is_some() || set.uid.is_some() || set.gid.is_some() {
        let attr = node::attr(cx.k, cx.p, inode)?;
        cx.k.vfs.dentries.set_perm(path.dentry, &attr);
    }
    let owner = set.mode.is_some() || set.uid.is_some() || set.gid.is_some();
    let event = match (set.atime.is_some(), set.mtime.is_some()) {
        (true, true) => inotify::ATTRIB,
        (true, false) => inotify::ACCESS,
        (false, true) => inotify::MODIFY,
        (false, false) => InotifyMask::empty(),
    };
    let event = match owner {
        true => event | inotify::ATTRIB,
        false => event,
    };
    inotify::happened(cx.k, cx.p, path.dentry, event);
    Ok(0)
}

fn change_mode(cx: &mut Cx<'_, '_>, path: PathRef, inode: InodeRef, mode: u32) -> SysResult {
    mount::want_write(cx.k, path.mount)?;
    let attr = node::attr(cx.k, cx.p, inode)?;
    flags::check_change(&attr)?;
    anon::check_change(inode)?;
    let who = &cx.who();
    if !who.owns(cx.k, &attr) {
        return Err(Errno::EPERM.into());
    }
    if attr.mode & g::S_IFMT == g::S_IFLNK {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let mut mode = mode & 0o7777;
    if mode & g::S_ISGID != 0 && !perm::in_group_or_capable(cx.k, who, &attr) {
        mode &= !g::S_ISGID;
    }
    let attr = node::attr(cx.k, cx.p, inode)?;
    cx.k.fs.seals.check_mode(inode, &attr, mode)?;
    let set = SetAttr {
        mode: Some(mode),
        ..SetAttr::default()
    };
    apply(cx, path, inode, &set)
}

fn chmod_at(cx: &mut Cx<'_, '_>, at: DirFd, path: Path, mode: Mode, flags: AtFlags) -> SysResult {
    let flags = among(cx, flags, PLACE)?;
    let path = cx.read_path(path.0)?;
    let (path, inode) = look(cx, at, &path, Flags::from_at(flags))?;
    change_mode(cx, path, inode, mode.0)
}

pub(super) fn chmod(cx: &mut Cx<'_, '_>, path: Path, mode: Mode) -> SysResult {
    chmod_at(cx, CWD, path, mode, AtFlags::empty())
}

pub(super) fn fchmodat(cx: &mut Cx<'_, '_>, dirfd: DirFd, path: Path, mode: Mode) -> SysResult {
    chmod_at(cx, dirfd, path, mode, AtFlags::empty())
}

pub(super) fn fchmodat2(
    cx: &mut Cx<'_, '_>,
    dirfd: DirFd,
    path: Path,
    mode: Mode,
    flags: AtFlags,
) -> SysResult {
    chmod_at(cx, dirfd, path, mode, flags)
}

pub(super) fn fchmod(cx: &mut Cx<'_, '_>, fd: Fd, mode: Mode) -> SysResult {
    let id = fdtable::get(cx, fd.0)?;
    let path = *file::at(cx.k, id).path;
    let inode = file::inode_of(cx.k, id)?;
    change_mode(cx, path, inode, mode.0)
}

fn change_owner(
    cx: &mut Cx<'_, '_>,
    path: PathRef,
    inode: InodeRef,
    owner: u32,
    group: u32,
) -> SysResult {
    mount::want_write(cx.k, path.mount)?;
    let attr = node::attr(cx.k, cx.p, inode)?;
    flags::check_change(&attr)?;
    anon::check_change(inode)?;
    let who = &cx.who();
    let ns = cx.creds().user_ns;
    let (owner, group) = (
        user::take_uid(cx.k, ns, owner)?,
        user::take_gid(cx.k, ns, group)?,
    );
    let uid = (owner != u32::MAX).then_some(owner);
    let gid = (group != u32::MAX).then_some(group);
    if !who.capable_over(cx.k, &attr, CAP_CHOWN) {
        let creds = cx.creds();
        let owns = creds.fsuid == attr.uid;
        let keeps_uid = uid.is_none_or(|uid| owns && uid == attr.uid);
        let may_gid = gid.is_none_or(|gid| owns && (creds.in_group(gid) || gid == attr.gid));
        if !keeps_uid || !may_gid {
            return Err(Errno::EPERM.into());
        }
    }
    let set = SetAttr {
        uid,
        gid,
        ..perm::after_chown(cx.k, who, &attr)
    };
    // To take set-id bits away is the owner's to do, also along with a change that is allowed.
    if set.mode.is_some() && !who.owns(cx.k, &attr) {
        return Err(Errno::EPERM.into());
    }
    apply(cx, path, inode, &set)
}

fn chown_at(
    cx: &mut Cx<'_, '_>,
    at: DirFd,
    path: Path,
    (owner, group): (Id, Id),
    flags: AtFlags,
) -> SysResult {
    let flags = among(cx, flags, PLACE)?;
    let path = cx.read_path(path.0)?;
    let (path, inode) = look(cx, at, &path, Flags::from_at(flags))?;
    change_owner(cx, path, inode, owner.0, group.0)
}

pub(super) fn chown(cx: &mut Cx<'_, '_>, path: Path, owner: Id, group: Id) -> SysResult {
    chown_at(cx, CWD, path, (owner, group), AtFlags::empty())
}

pub(super) fn lchown(cx: &mut Cx<'_, '_>, path: Path, owner: Id, group: Id) -> SysResult {
    chown_at(cx, CWD, path, (owner, group), NOFOLLOW)
}

pub(super) fn fchownat(
    cx: &mut Cx<'_, '_>,
    dirfd: DirFd,
    path: Path,
    owner: Id,
    group: Id,
    flags: AtFlags,
) -> SysResult {
    chown_at(cx, dirfd, path, (owner, group), flags)
}

pub(super) fn fchown(cx: &mut Cx<'_, '_>, fd: Fd, owner: Id, group: Id) -> SysResult {
    let id = fdtable::get(cx, fd.0)?;
    let path = *file::at(cx.k, id).path;
    let inode = file::inode_of(cx.k, id)?;
    change_owner(cx, path, inode, owner.0, group.0)
}

/// A time to set.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stamp {
    Now,
    Omit,
    At(Time),
}

const UTIME_NOW: i64 = 0x3fff_ffff;
const UTIME_OMIT: i64 = 0x3fff_fffe;

/// Reads two `struct timespec`, or two `struct timeval`, or takes now for a null address.
fn read_stamps(cx: &mut Cx<'_, '_>, addr: u64, micros: bool) -> Result<[Stamp; 2], Errno> {
    if addr == 0 {
        return Ok([Stamp::Now; 2]);
    }
    let words: [i64; 4] = cx.read_obj(addr)?;
    let mut stamps = [Stamp::Now; 2];
    for (stamp, pair) in stamps.iter_mut().zip(words.chunks_exact(2)) {
        let (sec, fraction) = (pair[0], pair[1]);
        *stamp = match (micros, fraction) {
            (false, UTIME_NOW) => Stamp::Now,
            (false, UTIME_OMIT) => Stamp::Omit,
            (false, 0..1_000_000_000) => Stamp::At(Time {
                sec,
                nsec: fraction as u32,
            }),
            (true, 0..1_000_000) => Stamp::At(Time {
                sec,
                nsec: fraction as u32 * 1000,
            }),
            _ => return Err(Errno::EINVAL),
        };
    }
    Ok(stamps)
}

fn change_times(
    cx: &mut Cx<'_, '_>,
    path: PathRef,
    inode: InodeRef,
    stamps: [Stamp; 2],
) -> SysResult {
    mount::want_write(cx.k, path.mount)?;
    let attr = node::attr(cx.k, cx.p, inode)?;
    let who = &cx.who();
    match stamps == [Stamp::Now; 2] {
        true if attr.flags & flags::IMMUTABLE != 0 => return Err(Errno::EPERM.into()),
        true => {}
        false => flags::check_change(&attr)?,
    }
    if !who.owns(cx.k, &attr) {
        // To now may set who may write; all else is the owner's.
        if stamps != [Stamp::Now; 2] {
            return Err(Errno::EPERM.into());
        }
        perm::permission(cx.k, who, &attr, MAY_WRITE)?;
    }
    let now = Time::from_nanos(cx.now().real);
    let time = |stamp| match stamp {
        Stamp::Now => Some(now),
        Stamp::Omit => None,
        Stamp::At(time) => Some(time),
    };
    let set = SetAttr {
        atime: time(stamps[0]),
        mtime: time(stamps[1]),
        ..SetAttr::default()
    };
    apply(cx, path, inode, &set)
}

fn times_at(
    cx: &mut Cx<'_, '_>,
    at: DirFd,
    path: Path,
    stamps: [Stamp; 2],
    flags: AtFlags,
) -> SysResult {
    if stamps == [Stamp::Omit; 2] {
        return Ok(0);
    }
    let flags = among(cx, flags, PLACE)?;
    // A null path stands for the descriptor itself (futimens).
    if path.0 == 0 && at != CWD {
        if !EMPTY.contains(flags) {
            return Err(Errno::EINVAL.into());
        }
        let id = fdtable::get(cx, at.0)?;
        let path = *file::at(cx.k, id).path;
        let inode = file::inode_of(cx.k, id)?;
        return change_times(cx, path, inode, stamps);
    }
    let path = cx.read_path(path.0)?;
    let (path, inode) = look(cx, at, &path, Flags::from_at(flags))?;
    change_times(cx, path, inode, stamps)
}

pub(super) fn utimensat(
    cx: &mut Cx<'_, '_>,
    dirfd: DirFd,
    path: Path,
    times: Addr,
    flags: AtFlags,
) -> SysResult {
    let stamps = read_stamps(cx, times.0, false)?;
    times_at(cx, dirfd, path, stamps, flags)
}

pub(super) fn futimesat(cx: &mut Cx<'_, '_>, dirfd: DirFd, path: Path, times: Addr) -> SysResult {
    let stamps = read_stamps(cx, times.0, true)?;
    times_at(cx, dirfd, path, stamps, AtFlags::empty())
}

pub(super) fn utimes(cx: &mut Cx<'_, '_>, path: Path, times: Addr) -> SysResult {
    futimesat(cx, CWD, path, times)
}

pub(super) fn utime(cx: &mut Cx<'_, '_>, path: Path, times: Addr) -> SysResult {
    let mut stamps = [Stamp::Now; 2];
    if times.0 != 0 {
        let seconds: [i64; 2] = cx.read_obj(times.0)?;
        stamps = seconds.map(|sec| Stamp::At(Time { sec, nsec: 0 }));
    }
    times_at(cx, CWD, path, stamps, AtFlags::empty())
}

fn write_statfs(cx: &mut Cx<'_, '_>, path: PathRef, addr: Addr) -> SysResult {
    let mount = cx.k.vfs.mounts.at(path.mount);
    let fs = mount.fs;
    /// `ST_VALID`, `ST_RELATIME`, `ST_NOSYMFOLLOW`.
    const VALID: u64 = 0x20;
    const RELATIME: u64 = 0x1000;
    const NOSYMFOLLOW: u64 = 0x2000;
    // The other ST_ flags have the values of MS_ flags.
    let plain = !(MountFlags::NOSYMFOLLOW | MountFlags::STRICTATIME);
    let mut flags = u64::from((mount.flags & plain).bits()) | VALID;
    if !mount
        .flags
        .intersects(MountFlags::NOATIME | MountFlags::STRICTATIME)
    {
        flags |= RELATIME;
    }
    if mount.flags.contains(MountFlags::NOSYMFOLLOW) {
        flags |= NOSYMFOLLOW;
    }
    if mount::read_only(cx.k, path.mount) {
        flags |= 1;
    }
    let sizes = inode::statfs(cx.k, fs);
    let statfs = Statfs {
        magic: crate::vfs::object::magic(cx.k, path.dentry).unwrap_or(sizes.magic),
        block_size: sizes.block_size,
        blocks: sizes.blocks,
        free: sizes.free,
        available: sizes.free,
        files: sizes.files,
        files_free: sizes.files_free,
        id: [fs.0 + 1, 0],
        name_max: crate::abi::NAME_MAX as u64,
        fragment_size: sizes.block_size,
        flags,
        spare: [0; 4],
    };
    cx.write_obj(addr.0, &statfs)?;
    Ok(0)
}

pub(super) fn statfs(cx: &mut Cx<'_, '_>, path: Path, buf: Addr) -> SysResult {
    let path = cx.read_path(path.0)?;
    let (path, _) = look(cx, CWD, &path, Flags::FOLLOW)?;
    write_statfs(cx, path, buf)
}

pub(super) fn fstatfs(cx: &mut Cx<'_, '_>, fd: Fd, buf: Addr) -> SysResult {
    let id = fdtable::get_any(cx, fd.0)?;
    let path = *file::at(cx.k, id).path;
    write_statfs(cx, path, buf)
}
