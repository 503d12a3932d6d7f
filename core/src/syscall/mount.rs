//! Mounts (mount(2), umount(2), pivot_root(2)).

use alloc::vec::Vec;

use smallvec::SmallVec;

use super::missing::known;
use crate::abi::raw::general as g;
use crate::abi::{Errno, PAGE_SIZE};
use crate::args::*;
use crate::boot::Tree;
use crate::cred::ns;
use crate::cred::ns::{Kind, NsId};
use crate::env::wait::SysResult;
use crate::fs::filesystem::{Filesystem, FsId, Time};
use crate::fs::union::UnionFs;
use crate::fs::view::{ProcFs, SysFs};
use crate::kernel::Cx;
use crate::vfs::mount::config::Asked;
use crate::vfs::mount::job::{self, Binding, Job, Showing, Typing};
use crate::vfs::mount::options::{self, Parameter, Refused, Tmpfs, Value};
use crate::vfs::mount::place::{Own, Placing};
use crate::vfs::mount::propagation::Type;
use crate::vfs::mount::tree::Extent;
use crate::vfs::mount::unmount::Unmounting;
use crate::vfs::mount::{self, HeldPath, MountFlags, PathRef, detached, put_path, tree};
use crate::vfs::walk::{self, Flags};
use crate::vfs::{MountId, landlock};

const CWD: DirFd = DirFd(g::AT_FDCWD);
/// What old programs put into the upper half of the flags.
const MAGIC: u32 = 0xc0ed_0000;
const MAGIC_MASK: u32 = 0xffff_0000;

/// Whether the caller may change the mounts of its namespace.
pub(super) fn may_mount(cx: &Cx<'_, '_>) -> Result<(), Errno> {
    match cx.capable_over(cx.task().ns.mount, g::CAP_SYS_ADMIN) {
        true => Ok(()),
        false => Err(Errno::EPERM),
    }
}

/// A string that may be left out.
fn read_text(cx: &mut Cx<'_, '_>, at: u64) -> Result<Vec<u8>, Errno> {
    match at {
        0 => Ok(Vec::new()),
        at => cx
            .read_cstr(at, PAGE_SIZE as usize)
            .map_err(|errno| match errno {
                Errno::EFAULT => Errno::EFAULT,
                _ => Errno::EINVAL,
            }),
    }
}

/// Options: at most a page, which need not end.
fn read_data(cx: &mut Cx<'_, '_>, at: u64) -> Result<Vec<u8>, Errno> {
    let mut text = Vec::new();
    while at != 0 && text.len() < PAGE_SIZE as usize - 1 {
        match cx.read_obj::<u8>(at.wrapping_add(text.len() as u64)) {
            Ok(0) => break,
            Ok(byte) => text.push(byte),
            Err(errno) if text.is_empty() => return Err(errno),
            Err(_) => break,
        }
    }
    Ok(text)
}

pub(super) fn is_own(cx: &Cx<'_, '_>, id: MountId) -> bool {
    cx.k.vfs.mounts.at(id).ns == Some(cx.task().ns.mount)
}

/// `EINVAL` unless a path is the root of a mount of the caller's namespace.
fn own_root(cx: &Cx<'_, '_>, path: PathRef) -> Result<(), Errno> {
    match is_own(cx, path.mount) && cx.k.vfs.mounts.at(path.mount).root == path.dentry {
        true => Ok(()),
        false => Err(Errno::EINVAL),
    }
}

pub(super) fn mount(
    cx: &mut Cx<'_, '_>,
    source: Str,
    target: Path,
    fs_type: Str,
    flags: MsFlags,
    data: Addr,
) -> SysResult {
    let who = &cx.who();
    job::run(cx, |cx, places| {
        let name = read_text(cx, fs_type.0)?;
        let source = read_text(cx, source.0)?;
        let data = read_data(cx, data.0)?;
        let target = cx.read_path(target.0)?;
        let held = walk::resolve(cx, CWD, &target, Flags::FOLLOW)?;
        let target = *held;
        places.push(held);
        let flags = match flags.bits() & MAGIC_MASK {
            MAGIC => flags - MsFlags::from_bits_retain(MAGIC_MASK),
            _ => flags,
        };
        may_mount(cx)?;
        landlock::check_mounts(cx.k, who)?;
        match flags {
            _ if flags.contains(MsFlags::REMOUNT) => remount(cx, target, flags, &data),
            _ if flags.contains(MsFlags::BIND) => {
                let source = find_source(cx, places, &source)?;
                bind(cx, target, source, extent(flags)).map(Some)
            }
            _ if flags.intersects(PROPAGATION) => set_propagation(cx, target, flags).map(Some),
            _ if flags.contains(MsFlags::MOVE) => {
                let source = find_source(cx, places, &source)?;
                move_to(cx, source, target, Position::OnTop).map(Some)
            }
            _ => new_mount(cx, target, &source, &name, flags, &data).map(Some),
        }
    })?;
    Ok(0)
}

/// Where a mount comes to stand at a place where others may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Position {
    /// On what is mounted there.
    OnTop,
    /// Below the topmost of them (`MOVE_MOUNT_BENEATH`).
    Beneath,
}

/// Moves what is mounted at a place elsewhere. `EINVAL` for what is no root of a mount.
pub(super) fn move_to(
    cx: &mut Cx<'_, '_>,
    source: PathRef,
    target: PathRef,
    position: Position,
) -> Result<Job, Errno> {
    let is_root = |path: PathRef| cx.k.vfs.mounts.at(path.mount).root == path.dentry;
    let beneath = position == Position::Beneath;
    if !is_root(source) || beneath && !is_root(target) {
        return Err(Errno::EINVAL);
    }
    let root = *cx.k.files.fs_context(cx.task().fs).root;
    let beneath = beneath.then_some(root);
    let placing = Placing::move_to(cx.k, source.mount, target, own(cx), beneath)?;
    Ok(Job::Place(placing.into()))
}

/// The caller's mount namespace.
pub(super) fn own(cx: &Cx<'_, '_>) -> Own {
    Own::new(cx.k, cx.task().ns.mount)
}

/// What is to be mounted elsewhere.
fn find_source(
    cx: &mut Cx<'_, '_>,
    places: &mut SmallVec<[HeldPath; 2]>,
    source: &[u8],
) -> Result<PathRef, Errno> {
    if source.is_empty() {
        return Err(Errno::EINVAL);
    }
    let source = walk::resolve(cx, CWD, source, Flags::FOLLOW)?;
    let found = *source;
    places.push(source);
    Ok(found)
}

const PROPAGATION: MsFlags = MsFlags::SHARED
    .union(MsFlags::PRIVATE)
    .union(MsFlags::SLAVE)
    .union(MsFlags::UNBINDABLE);

/// Which mounts are meant (`MS_REC`).
fn extent(flags: MsFlags) -> Extent {
    match flags.contains(MsFlags::REC) {
        true => Extent::Tree,
        false => Extent::One,
    }
}

/// The type of propagation that is asked for. `EINVAL` for none, and for several.
pub(super) fn propagation(flags: MsFlags) -> Result<Type, Errno> {
    match flags {
        MsFlags::SHARED => Ok(Type::Shared),
        MsFlags::PRIVATE => Ok(Type::Private),
        MsFlags::SLAVE => Ok(Type::Slave),
        MsFlags::UNBINDABLE => Ok(Type::Unbindable),
        _ => Err(Errno::EINVAL),
    }
}

fn set_propagation(cx: &mut Cx<'_, '_>, path: PathRef, flags: MsFlags) -> Result<Job, Errno> {
    let to = propagation(flags - (MsFlags::REC | MsFlags::SILENT))?;
    may_change_type(cx, path)?;
    Ok(Job::SetType(Typing::new(path.mount, extent(flags), to)))
}

/// `EINVAL` unless a path is the root of a mount of a namespace, `EPERM` without rights over that
/// (`may_change_propagation()`).
pub(super) fn may_change_type(cx: &Cx<'_, '_>, path: PathRef) -> Result<(), Errno> {
    let mount = cx.k.vfs.mounts.at(path.mount);
    let ns = mount.ns.filter(|_| mount.root == path.dentry);
    let owner = ns.and_then(|ns| detached::owner(cx.k, ns));
    match cx.capable_in(owner.ok_or(Errno::EINVAL)?, g::CAP_SYS_ADMIN) {
        true => Ok(()),
        false => Err(Errno::EPERM),
    }
}

/// Changes flags of one mount (with `MS_BIND`), or of the file system behind it.
fn remount(
    cx: &mut Cx<'_, '_>,
    path: PathRef,
    flags: MsFlags,
    data: &[u8],
) -> Result<Option<Job>, Errno> {
    own_root(cx, path)?;
    let mount = cx.k.vfs.mounts.at(path.mount);
    let fs = mount.fs;
    let mut new = options::flags(flags);
    // Without a word about access times they stay as they are.
    if !new.intersects(MountFlags::ATIME) && !flags.contains(MsFlags::RELATIME) {
        new |= mount.flags & MountFlags::ATIME;
    }
    if !mount.flags.keep_locked(new, mount.locked_flags) {
        return Err(Errno::EPERM);
    }
    let old = cx.k.vfs.mounts.at(path.mount).flags;
    let locks_out = (new - old).contains(MountFlags::READ_ONLY);
    if locks_out && cx.k.vfs.writers_through(path.mount) > 0 {
        return Err(Errno::EBUSY);
    }
    let mut shown = None;
    if !flags.contains(MsFlags::BIND) {
        let owner = cx.k.fs.filesystem_owner(fs);
        if !cx.capable_in(owner, g::CAP_SYS_ADMIN) {
            return Err(Errno::EPERM);
        }
        let read_only = flags.contains(MsFlags::RDONLY);
        if locks_out && cx.k.fs.writers_of(fs) > 0 {
            return Err(Errno::EBUSY);
        }
        let is_tmpfs = cx.k.vfs.mounts.at(path.mount).fs_type == "tmpfs";
        let new = match cx.k.fs.filesystem(fs) {
            Filesystem::Union(union) if is_tmpfs => {
                let old = union.options();
                Some(old.remount(cx.k, cx.creds().user_ns, data)?)
            }
            _ => None,
        };
        remount_own(cx, path.mount, read_only, data)?;
        shown = new.as_ref().map(Tmpfs::show);
        if let Filesystem::Union(union) = cx.k.fs.filesystem_mut(fs) {
            if let Some(new) = new {
                union.reconfigure(new).map_err(|_| Errno::EINVAL)?;
            }
            union.set_read_only(read_only)?;
        }
    }
    cx.k.vfs.mounts.at_mut(path.mount).flags = new;
    cx.k.vfs.mounts.touch(path.mount);
    let showing = shown.map(|options| Showing::new(fs, options.into()));
    Ok(showing.map(Job::Show))
}

/// Changes the options of a file system of the kernel's own. `EINVAL`.
fn remount_own(
    cx: &mut Cx<'_, '_>,
    id: MountId,
    read_only: bool,
    data: &[u8],
) -> Result<(), Errno> {
    let fs = cx.k.vfs.mounts.at(id).fs;
    match *cx.k.fs.filesystem(fs) {
        Filesystem::Proc(ProcFs { options, .. }) => {
            let options = crate::fs::view::Options {
                read_only,
                ..options
            };
            let options = options.parse(cx.k, cx.creds().user_ns, data)?;
            // An instance stays that of its namespace.
            if pids_parameters(data).next().is_some() {
                return Err(Errno::EBUSY);
            }
            if let Filesystem::Proc(proc) = cx.k.fs.filesystem_mut(fs) {
                proc.options = options;
            }
        }
        Filesystem::Sys(SysFs::Devices) => options::none(data)?,
        Filesystem::Sys(SysFs::Cgroup) => {
            let options = options::cgroup2(data)?;
            cx.k.vfs.mounts.set_options(id, options.show());
        }
        _ => {}
    }
    Ok(())
}

/// Mounts what another place shows. `EINVAL` for what is of another namespace or unbindable.
fn bind(
    cx: &mut Cx<'_, '_>,
    target: PathRef,
    source: PathRef,
    extent: Extent,
) -> Result<Job, Errno> {
    let namespace = may_copy(cx, source)?;
    // A mount namespace that its own mount kept would never end (`mnt_ns_loop()`).
    if namespace.is_some_and(|ns| own(cx).is_kept_by(cx.k, ns)) {
        return Err(Errno::EINVAL);
    }
    may_graft(cx, target)?;
    if namespace.is_some() {
        let made = mount::of_file(cx.k, source, "nsfs")?;
        let placing = Placing::graft(made, target, own(cx));
        return Ok(Job::Place(placing.into()));
    }
    let binding = Binding::new(source, extent, target, own(cx));
    Ok(Job::Bind(binding.into()))
}

/// `EINVAL` unless a place may be shown elsewhere (`may_copy_tree()`); the namespace whose file it is.
pub(super) fn may_copy(cx: &Cx<'_, '_>, source: PathRef) -> Result<Option<NsId>, Errno> {
    let namespace = crate::vfs::object::namespace_at(cx.k, source.dentry);
    let usable = || {
        let own = cx.task().ns.mount;
        is_own(cx, source.mount) || detached::may_use(cx.k, source.mount, own)
    };
    match cx.k.vfs.mounts.at(source.mount).unbindable || namespace.is_none() && !usable() {
        true => Err(Errno::EINVAL),
        false => Ok(namespace),
    }
}

/// `EINVAL` for a place in another namespace.
fn may_graft(cx: &Cx<'_, '_>, target: PathRef) -> Result<(), Errno> {
    let ns = cx.k.vfs.mounts.at(target.mount).ns;
    match ns.is_none() || is_own(cx, target.mount) {
        true => Ok(()),
        false => Err(Errno::EINVAL),
    }
}

/// Paths of the PID namespaces that are given for an instance of `proc`.
fn pids_parameters(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    options::parameters(data).filter_map(|parameter| match parameter {
        Parameter::Other(b"pidns", path) => Some(path.unwrap_or_default()),
        _ => None,
    })
}

pub(super) const NO_NAMESPACE: &str = "pidns argument is not an nsfs file";

/// The PID namespace that `pidns=` names, at or below that of the caller. `EINVAL`, `EPERM`, errors of the
/// walk.
pub(super) fn named_pids(cx: &mut Cx<'_, '_>, path: &[u8]) -> Result<NsId, Refused> {
    if path.is_empty() {
        return Err(Refused::Bad);
    }
    let walked = walk::resolve(cx, CWD, path, Flags::FOLLOW);
    let place = walked.map_err(|errno| {
        let text = "could not get file from pidns argument";
        Refused::Told(errno, text.into())
    })?;
    let found = pids_at(cx, *place);
    put_path(cx.k, cx.p, place);
    found
}

/// The same for the file of a namespace.
pub(super) fn pids_at(cx: &Cx<'_, '_>, place: PathRef) -> Result<NsId, Refused> {
    let told = |errno, text: &str| Refused::Told(errno, text.into());
    let found = crate::vfs::object::namespace_at(cx.k, place.dentry);
    let pids = found.ok_or_else(|| told(Errno::EINVAL, NO_NAMESPACE))?;
    if cx.k.ns.kind(pids) != Kind::Pid {
        return Err(told(Errno::EINVAL, "pidns argument is not a pidns file"));
    }
    if !cx.capable_in(cx.k.ns.owner(pids), g::CAP_SYS_ADMIN) {
        return Err(told(Errno::EPERM, "insufficient permissions to set pidns"));
    }
    match ns::pid::is_within(cx.k, pids, cx.task().ns.pid) {
        true => Ok(pids),
        false => Err(told(
            Errno::EINVAL,
            "cannot set pidns to non-descendant pidns",
        )),
    }
}

/// A file system of a type that programs can make, with nothing asked of it yet: its type, and the user
/// namespace that it will belong to. What a file system tells of belongs to whoever owns that. `ENODEV`.
pub(super) fn new_type(cx: &Cx<'_, '_>, name: &[u8]) -> Result<(&'static str, Asked, NsId), Errno> {
    let ns = cx.task().ns;
    let owner = |ns| cx.k.ns.owner(ns);
    Ok(match name {
        b"tmpfs" => {
            let options = Tmpfs {
                uid: cx.creds().fsuid,
                gid: cx.creds().fsgid,
                ..Tmpfs::default()
            };
            ("tmpfs", Asked::Tmpfs(options), cx.creds().user_ns)
        }
        b"proc" => {
            let asked = Asked::Proc(crate::fs::view::Options::DEFAULT, ns.pid);
            ("proc", asked, owner(ns.pid))
        }
        b"sysfs" => ("sysfs", Asked::Sysfs, owner(ns.net)),
        b"cgroup2" => (
            "cgroup2",
            Asked::Cgroup2(Default::default()),
            owner(ns.cgroup),
        ),
        _ => return Err(Errno::ENODEV),
    })
}

/// Makes a file system. `EPERM` without rights over its owner.
pub(super) fn make_filesystem(
    cx: &mut Cx<'_, '_>,
    asked: &Asked,
    owner: NsId,
    read_only: bool,
) -> Result<FsId, Errno> {
    if !cx.capable_in(owner, g::CAP_SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    let fs = match asked {
        Asked::Tmpfs(options) => {
            let mut fs = tmpfs(cx, options.clone())?;
            fs.set_read_only(read_only)?;
            Filesystem::Union(fs)
        }
        &Asked::Proc(options, pids) => {
            let options = crate::fs::view::Options {
                read_only,
                ..options
            };
            Filesystem::Proc(ProcFs { pids, options })
        }
        Asked::Sysfs => Filesystem::Sys(SysFs::Devices),
        Asked::Cgroup2(_) => Filesystem::Sys(SysFs::Cgroup),
        Asked::Other => return Err(Errno::ENODEV),
    };
    Ok(cx.k.fs.add_filesystem_of(fs, owner))
}

/// Whether a file system may be mounted only where one of its type can be seen already, as it tells of the
/// kernel (`mount_too_revealing()`).
pub(super) fn reveals(cx: &Cx<'_, '_>, fs_type: &str) -> bool {
    matches!(fs_type, "proc" | "sysfs" | "cgroup2") && own(cx).owner != ns::USER
}

fn new_mount(
    cx: &mut Cx<'_, '_>,
    target: PathRef,
    source: &[u8],
    name: &[u8],
    flags: MsFlags,
    data: &[u8],
) -> Result<Job, Errno> {
    if name.is_empty() {
        return Err(Errno::EINVAL);
    }
    let (fs_type, mut asked, mut owner) = new_type(cx, name)?;
    let flags = options::flags(flags);
    for parameter in options::parameters(data) {
        let Parameter::Other(key, value) = parameter else {
            continue;
        };
        let set = match (&mut asked, key, value) {
            (Asked::Proc(_, pids), b"pidns", Some(path)) => named_pids(cx, path).map(|named| {
                *pids = named;
                owner = cx.k.ns.owner(named);
            }),
            (asked, ..) => asked.set(cx.k, cx.creds().user_ns, key, Value::of(value)),
        };
        set.map_err(|refused| refused.errno())?;
    }
    let read_only = options::read_only(data).unwrap_or(flags.contains(MountFlags::READ_ONLY));
    may_graft(cx, target)?;
    let fs = make_filesystem(cx, &asked, owner, read_only)?;
    let source = if source.is_empty() { b"none" } else { source };
    let made = match mount::make(cx.k, cx.p, fs, flags, source, fs_type) {
        Ok(made) => made,
        Err(errno) => {
            cx.k.fs.remove_filesystem(fs);
            return Err(errno);
        }
    };
    cx.k.vfs.mounts.set_options(made, asked.show());
    let placing = match reveals(cx, fs_type) {
        true => Placing::graft_visible(made, target, own(cx), (fs_type, flags)),
        false => Placing::graft(made, target, own(cx)),
    };
    Ok(Job::Place(placing.into()))
}

fn tmpfs(cx: &mut Cx<'_, '_>, options: Tmpfs) -> Result<UnionFs, Errno> {
    let tree = Tree {
        layers: Vec::new(),
        read_only: false,
        upper_limit: options.bytes(cx.k),
        index: None,
    };
    let now = Time::from_nanos(cx.now().real);
    let mut fs = UnionFs::new(cx.p, &tree, options.mode, now).map_err(|_| Errno::EINVAL)?;
    fs.configure(options);
    Ok(fs)
}

pub(super) fn umount2(cx: &mut Cx<'_, '_>, target: Path, flags: UmountFlags) -> SysResult {
    let flags = known(cx, flags)?;
    job::run(cx, |cx, _| {
        let path = cx.read_path(target.0)?;
        let follow = match flags.contains(UmountFlags::NOFOLLOW) {
            false => Flags::FOLLOW,
            true => Flags::empty(),
        };
        let found = walk::resolve(cx, CWD, &path, follow)?;
        // Also what hangs on the working directory.
        let checked = walk::topmost(cx, *found).and_then(|path| {
            let marked = cx.k.vfs.mounts.at(path.mount).expiring;
            check_umount(cx, path, flags)?;
            Ok((path, marked))
        });
        // Holding the path is no use of the mount.
        put_path(cx.k, cx.p, found);
        let (path, marked) = checked?;
        let expire = flags.contains(UmountFlags::EXPIRE).then_some(marked);
        let unmounting = Unmounting::new(path.mount, flags, expire);
        Ok(Some(Job::Unmount(unmounting.into())))
    })?;
    Ok(0)
}

fn check_umount(cx: &Cx<'_, '_>, path: PathRef, flags: UmountFlags) -> Result<(), Errno> {
    let who = &cx.who();
    may_mount(cx)?;
    own_root(cx, path)?;
    let mount = cx.k.vfs.mounts.at(path.mount);
    if mount.locked {
        return Err(Errno::EINVAL);
    }
    if flags.contains(UmountFlags::FORCE) && !cx.creds().capable(g::CAP_SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    landlock::check_mounts(cx.k, who)?;
    let root = *cx.k.files.fs_context(cx.task().fs).root;
    if flags.contains(UmountFlags::EXPIRE)
        && (flags.intersects(UmountFlags::FORCE | UmountFlags::DETACH) || path.mount == root.mount)
    {
        return Err(Errno::EINVAL);
    }
    match mount.on {
        Some(_) => Ok(()),
        // The root of a namespace stays.
        None if flags.contains(UmountFlags::DETACH) => Err(Errno::EINVAL),
        None => Err(Errno::EBUSY),
    }
}

pub(super) fn pivot_root(cx: &mut Cx<'_, '_>, new_root: Path, put_old: Path) -> SysResult {
    let who = &cx.who();
    may_mount(cx)?;
    job::wait_for_others(cx)?;
    let new = cx.read_path(new_root.0)?;
    let flags = Flags::FOLLOW | Flags::DIRECTORY;
    let new = walk::resolve(cx, CWD, &new, flags)?;
    let old = cx
        .read_path(put_old.0)
        .and_then(|path| walk::resolve(cx, CWD, &path, flags));
    let done = match old {
        Ok(old) => {
            let allowed = landlock::check_mounts(cx.k, who);
            let top = allowed.and_then(|()| walk::topmost(cx, *old));
            let done = top.and_then(|top| pivot(cx, *new, top));
            put_path(cx.k, cx.p, old);
            done
        }
        Err(errno) => Err(errno),
    };
    put_path(cx.k, cx.p, new);
    done?;
    Ok(0)
}

fn pivot(cx: &mut Cx<'_, '_>, new: PathRef, old: PathRef) -> Result<(), Errno> {
    let root = *cx.k.files.fs_context(cx.task().fs).root;
    let mounts = &cx.k.vfs.mounts;
    let is_shared = |id: MountId| mounts.at(id).peers.is_some();
    let parent_shared = |id: MountId| mounts.at(id).on.is_some_and(|on| is_shared(on.mount));
    if is_shared(old.mount)
        || parent_shared(new.mount)
        || parent_shared(root.mount)
        || !is_own(cx, root.mount)
        || !is_own(cx, new.mount)
        || !is_own(cx, old.mount)
        || mounts.at(new.mount).locked
    {
        return Err(Errno::EINVAL);
    }
    if cx.k.vfs.dentries.is_deleted(new.dentry) {
        return Err(Errno::ENOENT);
    }
    if new.mount == root.mount || old.mount == root.mount {
        return Err(Errno::EBUSY);
    }
    let is_root = |path: PathRef| mounts.at(path.mount).root == path.dentry;
    if !is_root(root)
        || !is_root(new)
        || mounts.at(new.mount).on.is_none()
        || !reaches(cx, old, new)
        || !reaches(cx, new, root)
    {
        return Err(Errno::EINVAL);
    }
    let ns = cx.task().ns.mount;
    tree::exchange_root(cx.k, cx.p, ns, root.mount, new.mount, old);
    crate::file::fdtable::move_contexts(cx.k, cx.p, root, new);
    Ok(())
}

/// Whether `above` is reached by going up from a path.
fn reaches(cx: &Cx<'_, '_>, mut path: PathRef, above: PathRef) -> bool {
    while path.mount != above.mount {
        match cx.k.vfs.mounts.at(path.mount).on {
            Some(on) => path = on,
            None => return false,
        }
    }
    cx.k.vfs.dentries.is_below(path.dentry, above.dentry)
}
