//! Mounts by descriptors (fsopen(2), fsconfig(2), fsmount(2), fspick(2), open_tree(2), move_mount(2),
//! mount_setattr(2)).

use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;

use smallvec::SmallVec;

use super::missing::{among, known, unsupported};
use super::mount::{
    NO_NAMESPACE, Position, is_own, make_filesystem, may_change_type, may_copy, may_mount, move_to,
    named_pids, new_type, own, pids_at, propagation, reveals,
};
use crate::abi::raw::general as g;
use crate::abi::{Errno, PAGE_SIZE};
use crate::args::*;
use crate::cred::ns::Kind;
use crate::env::wait::SysResult;
use crate::file;
use crate::file::{FileId, FileKind, fdtable, open, ready};
use crate::fs::anon::Anon;
use crate::fs::filesystem::{Filesystem, FsId};
use crate::fs::inode;
use crate::kernel::Cx;
use crate::vfs::landlock;
use crate::vfs::mount::attribute::{Change, Setting};
use crate::vfs::mount::config::{Asked, Config, Phase};
use crate::vfs::mount::detached::{self, Anonymous, Detaching};
use crate::vfs::mount::job::{self, Binding, Done, Grouping, Job, Showing};
use crate::vfs::mount::options::{Refused, Value};
use crate::vfs::mount::place::Revealing;
use crate::vfs::mount::tree::Extent;
use crate::vfs::mount::{self, HeldPath, MountFlags, PathRef, put_path};
use crate::vfs::walk::{self, Flags};

/// Most bytes of a key or a text, with the NUL.
const TEXT_MAX: usize = 256;
/// Most bytes of any other value.
const BINARY_MAX: i32 = 1 << 20;

/// A string with its NUL in so many bytes at most. `EFAULT`, `EINVAL` (`strndup_user()`).
fn read_text(cx: &mut Cx<'_, '_>, at: u64, most: usize) -> Result<Vec<u8>, Errno> {
    cx.read_cstr(at, most).map_err(|errno| match errno {
        Errno::E2BIG => Errno::EINVAL,
        errno => errno,
    })
}

/// A descriptor of a configuration.
fn install(cx: &mut Cx<'_, '_>, config: Config, on_exec: OnExec) -> Result<u64, Errno> {
    let place = config.place;
    let kind = FileKind::Config(Box::new(config));
    let opened = ready::open(cx, kind, Anon::Config, OpenFlags::RDWR);
    let id = opened.inspect_err(|_| {
        if let Some((fs, root)) = place {
            mount::leave_filesystem(cx.k, cx.p, fs, root);
        }
    })?;
    Ok(fdtable::install(cx, id, on_exec)? as u64)
}

pub(super) fn fsopen(cx: &mut Cx<'_, '_>, fsname: Str, flags: FsopenFlags) -> SysResult {
    may_mount(cx)?;
    let flags = known(cx, flags)?;
    let name = read_text(cx, fsname.0, PAGE_SIZE as usize)?;
    let (fs_type, asked, owner) = new_type(cx, &name)?;
    // Only who may have it looks at devices of a network at all.
    if asked == Asked::Sysfs && !cx.capable_in(owner, g::CAP_SYS_ADMIN) {
        return Err(Errno::EPERM.into());
    }
    let config = Config::new(fs_type, asked, owner);
    Ok(install(cx, config, flags.on_exec())?)
}

pub(super) fn fspick(
    cx: &mut Cx<'_, '_>,
    dirfd: DirFd,
    path: Path,
    flags: FspickFlags,
) -> SysResult {
    may_mount(cx)?;
    let flags = known(cx, flags)?;
    let path = cx.read_path(path.0)?;
    let mut how = Flags::empty();
    how.set(
        Flags::FOLLOW,
        !flags.contains(FspickFlags::SYMLINK_NOFOLLOW),
    );
    how.set(Flags::EMPTY_PATH, flags.contains(FspickFlags::EMPTY_PATH));
    let target = walk::resolve(cx, dirfd, &path, how)?;
    let mount = cx.k.vfs.mounts.at(target.mount);
    let (fs, root, fs_type) = (mount.fs, mount.root, mount.fs_type);
    if root != target.dentry {
        put_path(cx.k, cx.p, target);
        return Err(Errno::EINVAL.into());
    }
    let config = Config::of_mounted(cx.k, fs, root, fs_type);
    put_path(cx.k, cx.p, target);
    Ok(install(cx, config, flags.on_exec())?)
}

pub(super) fn fsconfig(
    cx: &mut Cx<'_, '_>,
    fd: Fd,
    cmd: FsconfigCmd,
    key: Str,
    value: Addr,
    aux: Int,
) -> SysResult {
    let (has_key, has_value, aux) = (key.0 != 0, value.0 != 0, aux.0);
    let wanted = match cmd {
        _ if fd.0 < 0 => false,
        FsconfigCmd::SetFlag => has_key && !has_value && aux == 0,
        FsconfigCmd::SetString => has_key && has_value && aux == 0,
        FsconfigCmd::SetBinary => has_key && has_value && (1..=BINARY_MAX).contains(&aux),
        FsconfigCmd::SetPath | FsconfigCmd::SetPathEmpty => {
            has_key && has_value && (aux == g::AT_FDCWD || aux >= 0)
        }
        FsconfigCmd::SetFd => has_key && !has_value && aux >= 0,
        FsconfigCmd::Create | FsconfigCmd::CreateExcl | FsconfigCmd::Reconfigure => {
            !has_key && !has_value && aux == 0
        }
        FsconfigCmd::Other(_) => return Err(Errno::EOPNOTSUPP.into()),
    };
    if !wanted {
        return Err(Errno::EINVAL.into());
    }
    let id = fdtable::get(cx, fd.0)?;
    file::config::at(cx.k, id)?;
    match cmd {
        FsconfigCmd::Create | FsconfigCmd::CreateExcl => create(cx, id)?,
        FsconfigCmd::Reconfigure => job::run(cx, |cx, _| reconfigure(cx, id))?,
        cmd => set(cx, id, cmd, key.0, value.0, aux)?,
    }
    Ok(0)
}

/// Takes a parameter.
fn set(
    cx: &mut Cx<'_, '_>,
    id: FileId,
    cmd: FsconfigCmd,
    key: u64,
    value: u64,
    aux: i32,
) -> Result<(), Errno> {
    let key = read_text(cx, key, TEXT_MAX)?;
    let (mut text, mut given) = (None, None);
    match cmd {
        FsconfigCmd::SetString => text = Some(read_text(cx, value, TEXT_MAX)?),
        FsconfigCmd::SetBinary => read_binary(cx, value, aux as u64)?,
        FsconfigCmd::SetPath | FsconfigCmd::SetPathEmpty => {
            let path = cx.read_path(value)?;
            if path.is_empty() && cmd == FsconfigCmd::SetPath {
                return Err(Errno::ENOENT);
            }
        }
        FsconfigCmd::SetFd => given = Some(fdtable::get_any(cx, aux)?),
        _ => {}
    }
    file::config::change(cx.k, id, |config, k| config.renew(k))?;
    let (phase, is_proc) = {
        let config = file::config::at(cx.k, id)?;
        (config.phase, matches!(config.asked, Asked::Proc(..)))
    };
    if !matches!(phase, Phase::Making | Phase::Changing) {
        return Err(Errno::EBUSY);
    }
    if is_proc && key == b"pidns" && (text.is_some() || given.is_some()) {
        return set_pids(cx, id, phase, text.as_deref(), given);
    }
    let ns = cx.creds().user_ns;
    let value = match (&text, cmd) {
        (Some(text), _) => Value::Text(text),
        (None, FsconfigCmd::SetFlag) => Value::Flag,
        (None, _) => Value::Other,
    };
    file::config::change(cx.k, id, |config, k| config.set(k, ns, &key, value))?
}

/// Bytes that nobody looks at must be there all the same. `EFAULT`.
fn read_binary(cx: &mut Cx<'_, '_>, at: u64, len: u64) -> Result<(), Errno> {
    let mut part = [0; 4096];
    let mut done = 0;
    while done < len {
        let count = (len - done).min(part.len() as u64);
        cx.read_user(at.wrapping_add(done), &mut part[..count as usize])?;
        cx.spend(4);
        done += count;
    }
    Ok(())
}

/// Which PID namespace an instance of `proc` is to tell of: `path` names it, or a file is it.
fn set_pids(
    cx: &mut Cx<'_, '_>,
    id: FileId,
    phase: Phase,
    path: Option<&[u8]>,
    given: Option<FileId>,
) -> Result<(), Errno> {
    let found = match (path, given) {
        _ if phase == Phase::Changing && path != Some(b"") => Err(Refused::Told(
            Errno::EBUSY,
            "cannot reconfigure pidns for existing procfs".into(),
        )),
        (Some(path), _) => named_pids(cx, path),
        (None, Some(id)) if !file::at(cx.k, id).flags.contains(OpenFlags::PATH) => {
            pids_at(cx, *file::at(cx.k, id).path)
        }
        (None, Some(_)) => Err(Refused::Told(Errno::EINVAL, NO_NAMESPACE.into())),
        (None, None) => Err(Refused::Bad),
    };
    match found {
        Ok(named) => file::config::change(cx.k, id, |config, k| {
            if let Asked::Proc(_, pids) = &mut config.asked {
                *pids = named;
                config.owner = Some(k.ns.owner(named));
            }
        }),
        // The walk goes on later.
        Err(Refused::Told(Errno::LATER, _)) => Err(Errno::LATER),
        Err(refused) => Err(file::config::change(cx.k, id, |config, _| {
            config.refuse(b"pidns", &refused)
        })?),
    }
}

/// Makes the file system (`vfs_cmd_create()`).
fn create(cx: &mut Cx<'_, '_>, id: FileId) -> Result<(), Errno> {
    file::config::change(cx.k, id, |config, k| config.renew(k))?;
    let config = file::config::at(cx.k, id)?;
    let (Phase::Making, Some(owner)) = (config.phase, config.owner) else {
        return Err(Errno::EBUSY);
    };
    if !cx.capable_in(owner, g::CAP_SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    let asked = config.asked.clone();
    let read_only = config.read_only == Some(true);
    let made =
        make_filesystem(cx, &asked, owner, read_only).and_then(|fs| {
            match mount::take_root(cx.k, cx.p, fs) {
                Ok(root) => Ok((fs, root)),
                Err(errno) => {
                    cx.k.fs.remove_filesystem(fs);
                    Err(errno)
                }
            }
        });
    file::config::change(cx.k, id, |config, _| {
        config.place = made.ok();
        config.phase = match made {
            Ok(_) => Phase::Made,
            Err(_) => Phase::Failed,
        };
    })?;
    made.map(|_| ())
}

/// Changes the file system (`vfs_cmd_reconfigure()`).
fn reconfigure(cx: &mut Cx<'_, '_>, id: FileId) -> Result<Option<Job>, Errno> {
    file::config::change(cx.k, id, |config, k| config.renew(k))?;
    let config = file::config::at(cx.k, id)?.clone();
    let (Phase::Changing, Some((fs, _))) = (config.phase, config.place) else {
        return Err(Errno::EBUSY);
    };
    let changed = change(cx, &config, fs);
    file::config::change(cx.k, id, |config, _| match &changed {
        Ok(_) => config.finish(),
        Err((_, told)) => {
            config.phase = Phase::Failed;
            if let Some(told) = told {
                config.tell(format!("{}: {told}", config.fs_type).into_bytes());
            }
        }
    })?;
    match changed {
        Ok(shown) => Ok(shown.map(|options| Job::Show(Showing::new(fs, options.into())))),
        Err((errno, _)) => Err(errno),
    }
}

/// Makes a file system what a configuration says; gives what mount tables show of it if that changes. On
/// failure, perhaps, a reason.
fn change(
    cx: &mut Cx<'_, '_>,
    config: &Config,
    fs: FsId,
) -> Result<Option<Vec<u8>>, (Errno, Option<&'static str>)> {
    let who = &cx.who();
    if !cx.capable_in(cx.k.fs.filesystem_owner(fs), g::CAP_SYS_ADMIN) {
        return Err((Errno::EPERM, None));
    }
    if config.fixed {
        return Err((Errno::EINVAL, None));
    }
    landlock::check_mounts(cx.k, who).map_err(|errno| (errno, None))?;
    let was = inode::is_read_only(cx.k, fs);
    let read_only = config.read_only.unwrap_or(was);
    if read_only && !was && cx.k.fs.writers_of(fs) > 0 {
        return Err((Errno::EBUSY, None));
    }
    let mut shown = None;
    match cx.k.fs.filesystem_mut(fs) {
        Filesystem::Union(union) => {
            union
                .set_read_only(read_only)
                .map_err(|errno| (errno, None))?;
            if let Asked::Tmpfs(options) = &config.asked {
                let new = options.changed(union.options(), config.given);
                let text = new.show();
                if let Err(told) = union.reconfigure(new) {
                    // It was so before.
                    let _ = union.set_read_only(was);
                    return Err((Errno::EINVAL, Some(told)));
                }
                shown = Some(text);
            }
        }
        Filesystem::Proc(instance) => {
            if let Asked::Proc(options, _) = &config.asked {
                instance.options = options.changed(instance.options, config.given);
                instance.options.read_only = read_only;
            }
        }
        Filesystem::Sys(_) => {
            if let Asked::Cgroup2(_) = config.asked {
                shown = Some(config.asked.show());
            }
        }
        Filesystem::Anon | Filesystem::Gone => {}
    }
    Ok(shown)
}

/// Flags of a mount out of `MOUNT_ATTR_` ones, but for those about access times.
fn plain_flags(attr: MountAttrs) -> MountFlags {
    let mut flags = MountFlags::empty();
    for (bit, flag) in [
        (MountAttrs::RDONLY, MountFlags::READ_ONLY),
        (MountAttrs::NOSUID, MountFlags::NOSUID),
        (MountAttrs::NODEV, MountFlags::NODEV),
        (MountAttrs::NOEXEC, MountFlags::NOEXEC),
        (MountAttrs::NODIRATIME, MountFlags::NODIRATIME),
        (MountAttrs::NOSYMFOLLOW, MountFlags::NOSYMFOLLOW),
    ] {
        flags.set(flag, attr.contains(bit));
    }
    flags
}

/// `MOUNT_ATTR_RELATIME`: no bit of its own.
const RELATIME: MountAttrs = MountAttrs::empty();

/// Those about access times. `EINVAL`.
fn times(attr: MountAttrs) -> Result<MountFlags, Errno> {
    match attr & MountAttrs::ATIME {
        RELATIME => Ok(MountFlags::empty()),
        MountAttrs::NOATIME => Ok(MountFlags::NOATIME),
        MountAttrs::STRICTATIME => Ok(MountFlags::STRICTATIME),
        _ => Err(Errno::EINVAL),
    }
}

pub(super) fn fsmount(
    cx: &mut Cx<'_, '_>,
    fs_fd: Fd,
    flags: FsmountFlags,
    attr_flags: MountAttrs,
) -> SysResult {
    may_mount(cx)?;
    let flags = known(cx, flags)?;
    // Only a mount that is there can map users.
    let attr = among(cx, attr_flags, MountAttrs::all() - MountAttrs::IDMAP)?;
    let mount_flags = plain_flags(attr) | times(attr)?;
    let id = fdtable::get(cx, fs_fd.0)?;
    file::config::at(cx.k, id)?;
    job::prepare(cx, |cx, _| {
        let config = file::config::at(cx.k, id)?;
        let (place, fs_type) = (config.place.ok_or(Errno::EINVAL)?, config.fs_type);
        if config.phase != Phase::Made {
            return Err(Errno::EBUSY);
        }
        let (source, shown) = (config.source().to_vec(), config.asked.show());
        let made = mount::make_at(cx.k, place, mount_flags, &source, fs_type)?;
        cx.k.vfs.mounts.set_options(made, shown);
        // What was asked is done with, whoever waits for the end of this.
        file::config::change(cx.k, id, |config, _| config.phase = Phase::Done)?;
        let own = own(cx);
        let of = Anonymous {
            owner: own.owner,
            origin: None,
        };
        let detaching = Detaching::new(made, of, None);
        Ok(Some(match reveals(cx, fs_type) {
            true => {
                let revealing = Revealing::new(own.ns, (fs_type, mount_flags));
                Job::Reveal(revealing.into(), detaching)
            }
            false => Job::Detach(detaching),
        }))
    })?;
    let done = job::take(cx);
    file::config::change(cx.k, id, |config, _| match &done {
        Ok(_) => config.finish(),
        Err(_) => {
            config.phase = Phase::Made;
            config.tell(b"VFS: Mount too revealing".to_vec());
        }
    })?;
    open_done(cx, done?, flags.on_exec())
}

/// A descriptor of a detached tree that a change has made.
fn open_done(cx: &mut Cx<'_, '_>, done: Done, on_exec: OnExec) -> SysResult {
    match done {
        Done::Tree(top) => Ok(open::open_detached(cx, top, on_exec)? as u64),
        // Nothing else is made for these calls.
        Done::Nothing | Done::Namespaces(_) => Err(Errno::EINVAL.into()),
    }
}

pub(super) fn open_tree(
    cx: &mut Cx<'_, '_>,
    dirfd: DirFd,
    path: Path,
    flags: OpenTreeFlags,
) -> SysResult {
    open_with(cx, dirfd, path, flags, None)
}

pub(super) fn open_tree_attr(
    cx: &mut Cx<'_, '_>,
    dirfd: DirFd,
    path: Path,
    flags: OpenTreeFlags,
    uattr: Addr,
    size: Size,
) -> SysResult {
    if uattr.0 == 0 && size.0 != 0 {
        return Err(Errno::EINVAL.into());
    }
    let attr = (uattr.0 != 0).then_some((uattr, size));
    open_with(cx, dirfd, path, flags, attr)
}

/// A descriptor of a place or of a copy of the mounts there, with other attributes if some are given.
fn open_with(
    cx: &mut Cx<'_, '_>,
    dirfd: DirFd,
    path: Path,
    flags: OpenTreeFlags,
    attr: Option<(Addr, Size)>,
) -> SysResult {
    let flags = known(cx, flags)?;
    let clones = flags.contains(OpenTreeFlags::CLONE);
    let extent = match flags.contains(OpenTreeFlags::RECURSIVE) {
        true => Extent::Tree,
        false => Extent::One,
    };
    if extent == Extent::Tree && !clones {
        return Err(Errno::EINVAL.into());
    }
    if clones {
        may_mount(cx)?;
    }
    let on_exec = flags.on_exec();
    let walk = Flags::from_at(AtFlags::from_bits_truncate(flags.bits()));
    if !clones {
        let name = cx.read_path(path.0)?;
        let Some((uattr, size)) = attr else {
            let place = walk::resolve(cx, dirfd, &name, walk)?;
            return open_place(cx, place, on_exec);
        };
        let place = walk::resolve(cx, dirfd, &name, walk)?;
        let changed = job::run(cx, |cx, places| {
            places.push(mount::get_path(cx.k, *place));
            match read_change(cx, uattr, size, false)? {
                Some(change) => set_attributes(cx, *place, Extent::One, change).map(Some),
                None => Ok(None),
            }
        });
        if let Err(stop) = changed {
            put_path(cx.k, cx.p, place);
            return Err(stop);
        }
        return open_place(cx, place, on_exec);
    }
    job::prepare(cx, |cx, places| {
        let name = cx.read_path(path.0)?;
        let held = walk::resolve(cx, dirfd, &name, walk)?;
        let place = *held;
        places.push(held);
        let namespace = may_copy(cx, place)?;
        let of = Anonymous {
            owner: own(cx).owner,
            origin: detached::origin(cx.k, place.mount),
        };
        let change = match attr {
            Some((uattr, size)) => read_change(cx, uattr, size, true)?,
            None => None,
        };
        tell_of_maps(cx, change.as_ref());
        if namespace.is_some() {
            let made = mount::of_file(cx.k, place, "nsfs")?;
            let detaching = Detaching::new(made, of, change);
            return Ok(Some(Job::Detach(detaching)));
        }
        let binding = Binding::detached(place, extent, of, change);
        Ok(Some(Job::Bind(binding.into())))
    })?;
    let done = job::take(cx)?;
    open_done(cx, done, on_exec)
}

/// A descriptor of a place (`O_PATH`).
fn open_place(cx: &mut Cx<'_, '_>, place: HeldPath, on_exec: OnExec) -> SysResult {
    let opened = open::place_file(cx, *place);
    put_path(cx.k, cx.p, place);
    let id = opened?;
    Ok(fdtable::install(cx, id, on_exec)? as u64)
}

/// A place by a path that may be left out where an empty one may be (`getname_maybe_null()`).
fn place(
    cx: &mut Cx<'_, '_>,
    places: &mut SmallVec<[HeldPath; 2]>,
    dirfd: DirFd,
    path: u64,
    flags: Flags,
) -> Result<PathRef, Errno> {
    let name = match path == 0 && flags.contains(Flags::EMPTY_PATH) {
        true => SmallVec::new(),
        false => cx.read_path(path)?,
    };
    let place = walk::resolve(cx, dirfd, &name, flags)?;
    let found = *place;
    places.push(place);
    Ok(found)
}

pub(super) fn move_mount(
    cx: &mut Cx<'_, '_>,
    from_dirfd: DirFd,
    from_path: Path,
    to_dirfd: DirFd,
    to_path: Path,
    flags: MoveMountFlags,
) -> SysResult {
    let who = &cx.who();
    may_mount(cx)?;
    let flags = known(cx, flags)?;
    if flags.contains(MoveMountFlags::BENEATH | MoveMountFlags::SET_GROUP) {
        return Err(Errno::EINVAL.into());
    }
    let how = |symlinks, empty| {
        let mut how = Flags::empty();
        how.set(Flags::FOLLOW, flags.contains(symlinks));
        how.set(Flags::EMPTY_PATH, flags.contains(empty));
        how
    };
    let to_how = how(MoveMountFlags::T_SYMLINKS, MoveMountFlags::T_EMPTY_PATH);
    let from_how = how(MoveMountFlags::F_SYMLINKS, MoveMountFlags::F_EMPTY_PATH);
    job::run(cx, |cx, places| {
        let to = place(cx, places, to_dirfd, to_path.0, to_how)?;
        let from = place(cx, places, from_dirfd, from_path.0, from_how)?;
        landlock::check_mounts(cx.k, who)?;
        match flags.contains(MoveMountFlags::SET_GROUP) {
            false => {
                let position = match flags.contains(MoveMountFlags::BENEATH) {
                    true => Position::Beneath,
                    false => Position::OnTop,
                };
                move_to(cx, from, to, position).map(Some)
            }
            true => set_group(cx, from, to).map(Some),
        }
    })?;
    Ok(0)
}

/// Puts a private mount into the peer group of another one of the same file system (`do_set_group()`).
fn set_group(cx: &mut Cx<'_, '_>, from: PathRef, to: PathRef) -> Result<Job, Errno> {
    may_change_type(cx, from)?;
    may_change_type(cx, to)?;
    let mounts = &cx.k.vfs.mounts;
    let (wide, narrow) = (mounts.at(from.mount), mounts.at(to.mount));
    if wide.fs != narrow.fs || !cx.k.vfs.dentries.is_below(narrow.root, wide.root) {
        return Err(Errno::EINVAL);
    }
    Ok(Job::Group(Grouping::new(cx.k, from.mount, to.mount)))
}

pub(super) fn mount_setattr(
    cx: &mut Cx<'_, '_>,
    dirfd: DirFd,
    path: Path,
    flags: AtFlags,
    uattr: Addr,
    size: Size,
) -> SysResult {
    let taken = AtFlags::EMPTY_PATH
        | AtFlags::RECURSIVE
        | AtFlags::SYMLINK_NOFOLLOW
        | AtFlags::NO_AUTOMOUNT;
    let flags = among(cx, flags, taken)?;
    job::run(cx, |cx, places| {
        let Some(change) = read_change(cx, uattr, size, false)? else {
            return Ok(None);
        };
        let name = cx.read_path(path.0)?;
        let held = walk::resolve(cx, dirfd, &name, Flags::from_at(flags))?;
        let place = *held;
        places.push(held);
        let extent = match flags.contains(AtFlags::RECURSIVE) {
            true => Extent::Tree,
            false => Extent::One,
        };
        set_attributes(cx, place, extent, change).map(Some)
    })?;
    Ok(0)
}

/// Says in the log that no file system here lets users be mapped.
fn tell_of_maps(cx: &mut Cx<'_, '_>, change: Option<&Change>) {
    if change.is_some_and(|change| change.maps) {
        unsupported(cx, "MOUNT_ATTR_IDMAP");
    }
}

/// The change of the mount at a place. `EINVAL` unless it is one of the caller's namespace, or the top of a
/// detached tree.
fn set_attributes(
    cx: &mut Cx<'_, '_>,
    place: PathRef,
    extent: Extent,
    change: Change,
) -> Result<Job, Errno> {
    tell_of_maps(cx, Some(&change));
    let usable = is_own(cx, place.mount) || detached::is_root(cx.k, place.mount);
    match usable && cx.k.vfs.mounts.at(place.mount).root == place.dentry {
        true => Ok(Job::SetFlags(
            Setting::new(place.mount, extent, change).into(),
        )),
        false => Err(Errno::EINVAL),
    }
}

/// `struct mount_attr` as a change; `None` if nothing is to be changed. `fresh`: nobody has used the mount
/// yet. `E2BIG`, `EINVAL`, `EPERM`, `EFAULT`, `EBADF` (`wants_mount_setattr()`).
fn read_change(
    cx: &mut Cx<'_, '_>,
    at: Addr,
    size: Size,
    fresh: bool,
) -> Result<Option<Change>, Errno> {
    const KNOWN: u64 = g::MOUNT_ATTR_SIZE_VER0 as u64;
    if size.0 > PAGE_SIZE {
        return Err(Errno::E2BIG);
    }
    if size.0 < KNOWN {
        return Err(Errno::EINVAL);
    }
    may_mount(cx)?;
    // Fields of a newer structure must be zero (copy_struct_from_user()).
    let mut rest = [0; PAGE_SIZE as usize];
    let rest = &mut rest[..(size.0 - KNOWN) as usize];
    cx.read_user(at.0.wrapping_add(KNOWN), rest)?;
    if rest.iter().any(|&byte| byte != 0) {
        return Err(Errno::E2BIG);
    }
    let [set, clear, asked, userns]: [u64; 4] = cx.read_obj(at.0)?;
    if set == 0 && clear == 0 && asked == 0 {
        return Ok(None);
    }
    let word = |field| u32::try_from(field).map_err(|_| Errno::EINVAL);
    let to = match word(asked)? {
        0 => None,
        asked => Some(propagation(MsFlags::from_bits_retain(asked))?),
    };
    let set = MountAttrs::from_bits_retain(word(set)?);
    let clear = MountAttrs::from_bits_retain(word(clear)?);
    known(cx, set | clear)?;
    let mut change = Change {
        set: plain_flags(set),
        clear: plain_flags(clear),
        to,
        maps: false,
    };
    // The kinds are no flags: one takes the place of another.
    if clear.contains(MountAttrs::ATIME) {
        change.set |= times(set)?;
        change.clear |= MountFlags::NOATIME | MountFlags::STRICTATIME;
    } else if (set | clear).intersects(MountAttrs::ATIME) {
        return Err(Errno::EINVAL);
    }
    if (set | clear).contains(MountAttrs::IDMAP) {
        let [sets, clears] = [set, clear].map(|attrs| attrs.contains(MountAttrs::IDMAP));
        check_map(cx, sets, clears, userns, fresh)?;
        change.maps = true;
    }
    Ok(Some(change))
}

/// Whether users may be mapped as a user namespace says (`build_mount_idmapped()`). `EINVAL`, `EBADF`,
/// `EPERM`.
fn check_map(
    cx: &mut Cx<'_, '_>,
    sets: bool,
    clears: bool,
    userns: u64,
    fresh: bool,
) -> Result<(), Errno> {
    if clears && !fresh {
        return Err(Errno::EINVAL);
    }
    if !sets {
        return Ok(());
    }
    let fd = i32::try_from(userns).map_err(|_| Errno::EINVAL)?;
    let id = fdtable::get(cx, fd)?;
    let dentry = file::at(cx.k, id).path.dentry;
    let ns = crate::vfs::object::namespace_at(cx.k, dentry).ok_or(Errno::EINVAL)?;
    if cx.k.ns.kind(ns) != Kind::User {
        return Err(Errno::EINVAL);
    }
    match ns != crate::cred::ns::USER && cx.capable_in(ns, g::CAP_SYS_ADMIN) {
        true => Ok(()),
        false => Err(Errno::EPERM),
    }
}
