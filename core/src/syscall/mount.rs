//! Mounts (mount(2), umount(2), pivot_root(2)).

use crate::vfs::landlock;
use crate::vfs::perm::Who;
use alloc::vec::Vec;

use smallvec::SmallVec;

use super::args::*;
use crate::abi::raw::general as g;
use crate::abi::{Errno, PAGE_SIZE};
use crate::boot::Tree;
use crate::kernel::{Cx, SysResult};
use crate::ns::{self, Kind, NsId};
use crate::vfs::MountId;
use crate::vfs::filesystem::{Filesystem, Time};
use crate::vfs::mount::job::{self, Binding, Job, Showing, Typing};
use crate::vfs::mount::options::{self, Parameter, Tmpfs};
use crate::vfs::mount::place::{Own, Placing};
use crate::vfs::mount::propagation::Type;
use crate::vfs::mount::unmount::Unmounting;
use crate::vfs::mount::{self, MountFlags, PathRef, put_path, tree};
use crate::vfs::proc::{self, ProcFs};
use crate::vfs::sysfs::SysFs;
use crate::vfs::union::UnionFs;
use crate::vfs::walk::{self, Flags};

const CWD: DirFd = DirFd(g::AT_FDCWD);
/// What old programs put into the upper half of the flags.
const MAGIC: u32 = 0xc0ed_0000;
const MAGIC_MASK: u32 = 0xffff_0000;

/// Whether the caller may change the mounts of its namespace.
fn may_mount(cx: &Cx<'_, '_>) -> Result<(), Errno> {
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

fn is_own(cx: &Cx<'_, '_>, id: MountId) -> bool {
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
    flags: Hex,
    data: Addr,
) -> SysResult {
    job::run(cx, |cx, places| {
        let name = read_text(cx, fs_type.0)?;
        let source = read_text(cx, source.0)?;
        let data = read_data(cx, data.0)?;
        let target = cx.read_path(target.0)?;
        let target = walk::resolve(cx, CWD, &target, Flags::FOLLOW)?;
        places.push(target);
        let mut flags = flags.0 as u32;
        if flags & MAGIC_MASK == MAGIC {
            flags &= !MAGIC_MASK;
        }
        may_mount(cx)?;
        landlock::check_mounts(cx.k, Who::Task(cx.thread))?;
        match flags {
            _ if flags & g::MS_REMOUNT != 0 => remount(cx, target, flags, &data),
            _ if flags & g::MS_BIND != 0 => {
                let source = find_source(cx, places, &source)?;
                bind(cx, target, source, flags & g::MS_REC != 0).map(Some)
            }
            _ if flags & PROPAGATION != 0 => set_propagation(cx, target, flags).map(Some),
            _ if flags & g::MS_MOVE != 0 => {
                let source = find_source(cx, places, &source)?;
                own_root(cx, source)?;
                let placing = Placing::move_to(source.mount, target, own(cx));
                Ok(Some(Job::Place(placing.into())))
            }
            _ => new_mount(cx, target, &source, &name, flags, &data).map(Some),
        }
    })?;
    Ok(0)
}

/// The caller's mount namespace.
fn own(cx: &Cx<'_, '_>) -> Own {
    Own::new(cx.k, cx.task().ns.mount)
}

/// What is to be mounted elsewhere.
fn find_source(
    cx: &mut Cx<'_, '_>,
    places: &mut SmallVec<[PathRef; 2]>,
    source: &[u8],
) -> Result<PathRef, Errno> {
    if source.is_empty() {
        return Err(Errno::EINVAL);
    }
    let source = walk::resolve(cx, CWD, source, Flags::FOLLOW)?;
    places.push(source);
    Ok(source)
}

const PROPAGATION: u32 = g::MS_SHARED | g::MS_PRIVATE | g::MS_SLAVE | g::MS_UNBINDABLE;

fn set_propagation(cx: &mut Cx<'_, '_>, path: PathRef, flags: u32) -> Result<Job, Errno> {
    let to = match flags & !(g::MS_REC | g::MS_SILENT) {
        g::MS_SHARED => Type::Shared,
        g::MS_PRIVATE => Type::Private,
        g::MS_SLAVE => Type::Slave,
        g::MS_UNBINDABLE => Type::Unbindable,
        _ => return Err(Errno::EINVAL),
    };
    own_root(cx, path)?;
    let recurse = flags & g::MS_REC != 0;
    Ok(Job::SetType(Typing::new(path.mount, recurse, to)))
}

/// Changes flags of one mount (with `MS_BIND`), or of the file system behind it.
fn remount(
    cx: &mut Cx<'_, '_>,
    path: PathRef,
    flags: u32,
    data: &[u8],
) -> Result<Option<Job>, Errno> {
    own_root(cx, path)?;
    let mount = cx.k.vfs.mounts.at(path.mount);
    let fs = mount.fs;
    let mut new = options::flags(flags);
    // Without a word about access times they stay as they are.
    if !new.intersects(MountFlags::ATIME) && flags & g::MS_RELATIME == 0 {
        new |= mount.flags & MountFlags::ATIME;
    }
    let changed = (mount.flags ^ new) & mount.locked_flags;
    if !(changed & MountFlags::ATIME).is_empty() || !(changed - new).is_empty() {
        return Err(Errno::EPERM);
    }
    let old = cx.k.vfs.mounts.at(path.mount).flags;
    let locks_out = (new - old).contains(MountFlags::READ_ONLY);
    if locks_out && cx.k.vfs.writers_through(path.mount) > 0 {
        return Err(Errno::EBUSY);
    }
    let mut shown = None;
    if flags & g::MS_BIND == 0 {
        let owner = cx.k.vfs.filesystem_owner(fs);
        if !cx.capable_in(owner, g::CAP_SYS_ADMIN) {
            return Err(Errno::EPERM);
        }
        let read_only = flags & g::MS_RDONLY != 0;
        if locks_out && cx.k.vfs.writers_of(fs) > 0 {
            return Err(Errno::EBUSY);
        }
        let is_tmpfs = cx.k.vfs.mounts.at(path.mount).fs_type == "tmpfs";
        let new = match cx.k.vfs.filesystem(fs) {
            Filesystem::Union(union) if is_tmpfs => {
                let old = union.options();
                Some(old.parse(cx.k, cx.creds().user_ns, data, true)?)
            }
            _ => None,
        };
        remount_own(cx, path.mount, read_only, data)?;
        shown = new.as_ref().map(Tmpfs::show);
        if let Filesystem::Union(union) = cx.k.vfs.filesystem_mut(fs) {
            if let Some(new) = new {
                union.reconfigure(new)?;
            }
            union.set_read_only(read_only)?;
        }
    }
    cx.k.vfs.mounts.at_mut(path.mount).flags = new;
    cx.k.vfs.mounts.touch(path.mount);
    let showing = shown.map(|options| Showing {
        fs,
        options: options.into(),
        from: 0,
    });
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
    match *cx.k.vfs.filesystem(fs) {
        Filesystem::Proc(ProcFs { options, .. }) => {
            let options = proc::Options {
                read_only,
                ..options
            };
            let options = options.parse(cx.k, cx.creds().user_ns, data)?;
            // An instance stays that of its namespace.
            if pids_parameters(data).next().is_some() {
                return Err(Errno::EBUSY);
            }
            if let Filesystem::Proc(proc) = cx.k.vfs.filesystem_mut(fs) {
                proc.options = options;
            }
        }
        Filesystem::Sys(SysFs::Devices) => options::none(data)?,
        Filesystem::Sys(SysFs::Cgroup) => {
            let shown = options::cgroup2(data)?;
            cx.k.vfs.mounts.set_options(id, shown);
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
    recurse: bool,
) -> Result<Job, Errno> {
    let namespace = crate::vfs::anon::namespace_at(cx.k, source.dentry);
    if cx.k.vfs.mounts.at(source.mount).unbindable
        || !is_own(cx, source.mount) && namespace.is_none()
    {
        return Err(Errno::EINVAL);
    }
    // A mount namespace that its own mount kept would never end (`mnt_ns_loop()`).
    let loops = |ns: NsId| cx.k.ns.kind(ns) == Kind::Mount && cx.task().ns.mount >= ns;
    if namespace.is_some_and(loops) {
        return Err(Errno::EINVAL);
    }
    may_graft(cx, target)?;
    if namespace.is_some() {
        let made = mount::of_file(cx.k, source, "nsfs")?;
        let placing = Placing::graft(made, target, own(cx));
        return Ok(Job::Place(placing.into()));
    }
    let binding = Binding::new(source, recurse, target, own(cx));
    Ok(Job::Bind(binding.into()))
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

/// The PID namespace of a new instance of `proc`: the caller's, or the one at or below it that `pidns=`
/// names. `EINVAL`, `EPERM`, errors of the walk.
fn named_pids(cx: &mut Cx<'_, '_>, data: &[u8], own: NsId) -> Result<NsId, Errno> {
    let mut pids = own;
    for path in pids_parameters(data) {
        if path.is_empty() {
            return Err(Errno::EINVAL);
        }
        let place = walk::resolve(cx, DirFd(g::AT_FDCWD), path, Flags::FOLLOW)?;
        let found = crate::vfs::anon::namespace_at(cx.k, place.dentry);
        put_path(cx.k, cx.p, place);
        let is_pids = |&ns: &NsId| cx.k.ns.kind(ns) == Kind::Pid;
        pids = found.filter(is_pids).ok_or(Errno::EINVAL)?;
        if !cx.capable_in(cx.k.ns.owner(pids), g::CAP_SYS_ADMIN) {
            return Err(Errno::EPERM);
        }
        if !ns::pid::is_within(cx.k, pids, own) {
            return Err(Errno::EINVAL);
        }
    }
    Ok(pids)
}

fn new_mount(
    cx: &mut Cx<'_, '_>,
    target: PathRef,
    source: &[u8],
    name: &[u8],
    flags: u32,
    data: &[u8],
) -> Result<Job, Errno> {
    if name.is_empty() {
        return Err(Errno::EINVAL);
    }
    // What a file system tells of belongs to whoever owns that.
    let ns = cx.task().ns;
    let pids = match name {
        b"proc" => named_pids(cx, data, ns.pid)?,
        _ => ns.pid,
    };
    let owner = match name {
        b"proc" => cx.k.ns.owner(pids),
        b"sysfs" => cx.k.ns.owner(ns.net),
        b"cgroup2" => cx.k.ns.owner(ns.cgroup),
        _ => cx.creds().user_ns,
    };
    if !cx.capable_in(owner, g::CAP_SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    let source = if source.is_empty() { b"none" } else { source };
    let flags = options::flags(flags);
    let mut shown = Vec::new();
    let (fs, fs_type) = match name {
        b"tmpfs" => {
            let creds = (cx.creds().fsuid, cx.creds().fsgid);
            let options = Tmpfs {
                uid: creds.0,
                gid: creds.1,
                ..Tmpfs::default()
            };
            let options = options.parse(cx.k, owner, data, false)?;
            shown = options.show();
            let mut fs = tmpfs(cx, options)?;
            let read_only = flags.contains(MountFlags::READ_ONLY);
            fs.set_read_only(options::read_only(data, read_only))?;
            (Filesystem::Union(fs), "tmpfs")
        }
        b"proc" => {
            let options = proc::Options {
                read_only: flags.contains(MountFlags::READ_ONLY),
                ..proc::Options::DEFAULT
            };
            let options = options.parse(cx.k, cx.creds().user_ns, data)?;
            (Filesystem::Proc(ProcFs { pids, options }), "proc")
        }
        b"sysfs" => {
            options::none(data)?;
            (Filesystem::Sys(SysFs::Devices), "sysfs")
        }
        b"cgroup2" => {
            shown = options::cgroup2(data)?;
            (Filesystem::Sys(SysFs::Cgroup), "cgroup2")
        }
        _ => return Err(Errno::ENODEV),
    };
    may_graft(cx, target)?;
    let fs = cx.k.vfs.add_filesystem_of(fs, owner);
    let made = match mount::make(cx.k, cx.p, fs, flags, source, fs_type) {
        Ok(made) => made,
        Err(errno) => {
            cx.k.vfs.remove_filesystem(fs);
            return Err(errno);
        }
    };
    cx.k.vfs.mounts.set_options(made, shown);
    // What tells of the kernel must be seen already where privileges are less.
    let placing = match matches!(fs_type, "proc" | "sysfs" | "cgroup2")
        && cx.creds().user_ns != crate::ns::USER
    {
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

pub(super) fn umount2(cx: &mut Cx<'_, '_>, target: Path, flags: Hex) -> SysResult {
    const KNOWN: u32 = g::MNT_FORCE | g::MNT_DETACH | g::MNT_EXPIRE | g::UMOUNT_NOFOLLOW;
    let flags = flags.0 as u32;
    if flags & !KNOWN != 0 {
        return Err(Errno::EINVAL.into());
    }
    job::run(cx, |cx, _| {
        let path = cx.read_path(target.0)?;
        let follow = match flags & g::UMOUNT_NOFOLLOW {
            0 => Flags::FOLLOW,
            _ => Flags::empty(),
        };
        let found = walk::resolve(cx, CWD, &path, follow)?;
        // Also what hangs on the working directory.
        let path = tree::topmost(cx.k, found);
        let marked = cx.k.vfs.mounts.at(path.mount).expiring;
        let checked = check_umount(cx, path, flags);
        // Holding the path is no use of the mount.
        put_path(cx.k, cx.p, found);
        checked?;
        let lazy = flags & g::MNT_DETACH != 0;
        let expire = (flags & g::MNT_EXPIRE != 0).then_some(marked);
        let unmounting = Unmounting::new(path.mount, lazy, expire);
        Ok(Some(Job::Unmount(unmounting.into())))
    })?;
    Ok(0)
}

fn check_umount(cx: &Cx<'_, '_>, path: PathRef, flags: u32) -> Result<(), Errno> {
    may_mount(cx)?;
    own_root(cx, path)?;
    let mount = cx.k.vfs.mounts.at(path.mount);
    if mount.locked {
        return Err(Errno::EINVAL);
    }
    if flags & g::MNT_FORCE != 0 && !cx.creds().capable(g::CAP_SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    landlock::check_mounts(cx.k, Who::Task(cx.thread))?;
    let root = cx.k.vfs.fs_context(cx.task().fs).root;
    if flags & g::MNT_EXPIRE != 0
        && (flags & (g::MNT_FORCE | g::MNT_DETACH) != 0 || path.mount == root.mount)
    {
        return Err(Errno::EINVAL);
    }
    match mount.on {
        Some(_) => Ok(()),
        // The root of a namespace stays.
        None if flags & g::MNT_DETACH != 0 => Err(Errno::EINVAL),
        None => Err(Errno::EBUSY),
    }
}

pub(super) fn pivot_root(cx: &mut Cx<'_, '_>, new_root: Path, put_old: Path) -> SysResult {
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
            let allowed = landlock::check_mounts(cx.k, Who::Task(cx.thread));
            let done = allowed.and_then(|()| pivot(cx, new, old));
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
    let root = cx.k.vfs.fs_context(cx.task().fs).root;
    let old = tree::topmost(cx.k, old);
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
    crate::vfs::fdtable::move_contexts(cx.k, cx.p, root, new);
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
