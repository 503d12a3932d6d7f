//! Mounts (mount(2), umount(2), pivot_root(2)).

use alloc::vec::Vec;

use super::args::*;
use crate::abi::raw::general as g;
use crate::abi::{Errno, PAGE_SIZE};
use crate::boot::Tree;
use crate::kernel::{Cx, SysResult};
use crate::ns::{Kind, NsId};
use crate::vfs::MountId;
use crate::vfs::filesystem::{Filesystem, Time};
use crate::vfs::mount::options::{self, Tmpfs};
use crate::vfs::mount::propagation::{self, Type};
use crate::vfs::mount::{self, MountFlags, PathRef, put_path, tree};
use crate::vfs::proc::ProcFs;
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
    let name = read_text(cx, fs_type.0)?;
    let source = read_text(cx, source.0)?;
    let data = read_data(cx, data.0)?;
    let target = cx.read_path(target.0)?;
    let target = walk::resolve(cx, CWD, &target, Flags::FOLLOW)?;
    let mut flags = flags.0 as u32;
    if flags & MAGIC_MASK == MAGIC {
        flags &= !MAGIC_MASK;
    }
    let done = may_mount(cx).and_then(|()| match flags {
        _ if flags & g::MS_REMOUNT != 0 => remount(cx, target, flags, &data),
        _ if flags & g::MS_BIND != 0 => bind(cx, target, &source, flags & g::MS_REC != 0),
        _ if flags & PROPAGATION != 0 => set_propagation(cx, target, flags),
        _ if flags & g::MS_MOVE != 0 => move_mount(cx, target, &source),
        _ => new_mount(cx, target, &source, &name, flags, &data),
    });
    put_path(cx.k, cx.p, target);
    done?;
    Ok(0)
}

const PROPAGATION: u32 = g::MS_SHARED | g::MS_PRIVATE | g::MS_SLAVE | g::MS_UNBINDABLE;

fn set_propagation(cx: &mut Cx<'_, '_>, path: PathRef, flags: u32) -> Result<(), Errno> {
    let to = match flags & !(g::MS_REC | g::MS_SILENT) {
        g::MS_SHARED => Type::Shared,
        g::MS_PRIVATE => Type::Private,
        g::MS_SLAVE => Type::Slave,
        g::MS_UNBINDABLE => Type::Unbindable,
        _ => return Err(Errno::EINVAL),
    };
    own_root(cx, path)?;
    let all = match flags & g::MS_REC {
        0 => Vec::from([path.mount]),
        _ => tree::all(cx.k, path.mount),
    };
    for id in all {
        propagation::set(cx.k, id, to);
    }
    Ok(())
}

/// Changes flags of one mount (with `MS_BIND`), or of the file system behind it.
fn remount(cx: &mut Cx<'_, '_>, path: PathRef, flags: u32, data: &[u8]) -> Result<(), Errno> {
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
    if locks_out && cx.k.vfs.is_written(|mount| mount == path.mount) {
        return Err(Errno::EBUSY);
    }
    if flags & g::MS_BIND == 0 {
        let owner = cx.k.vfs.filesystem_owner(fs);
        if !cx.capable_in(owner, g::CAP_SYS_ADMIN) {
            return Err(Errno::EPERM);
        }
        let read_only = flags & g::MS_RDONLY != 0;
        let mounts = &cx.k.vfs.mounts;
        if locks_out && cx.k.vfs.is_written(|mount| mounts.at(mount).fs == fs) {
            return Err(Errno::EBUSY);
        }
        let tmpfs = match cx.k.vfs.mounts.at(path.mount).fs_type {
            "tmpfs" => Some(Tmpfs::parse(cx.k, cx.creds().user_ns, (0, 0), data)?),
            _ => None,
        };
        if let Filesystem::Union(union) = cx.k.vfs.filesystem_mut(fs) {
            union.set_read_only(read_only)?;
            if let Some(options) =
                tmpfs.filter(|_| names(data, b"size") || names(data, b"nr_blocks"))
            {
                union.set_limit(options.size)?;
            }
        }
    }
    cx.k.vfs.mounts.at_mut(path.mount).flags = new;
    Ok(())
}

fn names(data: &[u8], key: &[u8]) -> bool {
    let mut options = data.split(|&byte| byte == b',');
    options.any(|option| {
        option
            .strip_prefix(key)
            .is_some_and(|rest| rest.first() == Some(&b'='))
    })
}

fn bind(cx: &mut Cx<'_, '_>, target: PathRef, source: &[u8], recurse: bool) -> Result<(), Errno> {
    if source.is_empty() {
        return Err(Errno::EINVAL);
    }
    let source = walk::resolve(cx, CWD, source, Flags::FOLLOW)?;
    let copied = copy_for_bind(cx, source, recurse);
    put_path(cx.k, cx.p, source);
    let copied = copied?;
    graft(cx, copied, target)
}

/// Mounts a tree, whose reference it takes over, in the caller's namespace. `EINVAL` in another one.
fn graft(cx: &mut Cx<'_, '_>, root: MountId, target: PathRef) -> Result<(), Errno> {
    let ns = cx.k.vfs.mounts.at(target.mount).ns;
    if ns.is_some() && !is_own(cx, target.mount) {
        tree::drop_tree(cx.k, cx.p, root);
        return Err(Errno::EINVAL);
    }
    tree::graft(cx.k, cx.p, root, target)
}

fn copy_for_bind(cx: &mut Cx<'_, '_>, source: PathRef, recurse: bool) -> Result<MountId, Errno> {
    let k = &*cx.k;
    let old = k.vfs.mounts.at(source.mount);
    let namespace = crate::vfs::anon::namespace_at(k, source.dentry);
    let is_namespace = namespace.is_some();
    let below = |id: MountId| {
        let child = k.vfs.mounts.at(id);
        child.locked
            && child
                .on
                .is_some_and(|on| k.vfs.dentries.is_below(on.dentry, source.dentry))
    };
    if old.unbindable
        || !is_own(cx, source.mount) && !is_namespace
        || !recurse && k.vfs.mounts.children(source.mount).any(below)
    {
        return Err(Errno::EINVAL);
    }
    // A mount namespace that its own mount kept would never end (`mnt_ns_loop()`).
    let loops = |ns: NsId| k.ns.kind(ns) == Kind::Mount && cx.task().ns.mount >= ns;
    if namespace.is_some_and(loops) {
        return Err(Errno::EINVAL);
    }
    if is_namespace {
        return mount::of_file(cx.k, source, "nsfs");
    }
    let place = (source.mount, source.dentry);
    let (root, _) = tree::copy(cx.k, cx.p, place, recurse, false, tree::Copy::Peer)?;
    cx.k.vfs.mounts.at_mut(root).locked = false;
    Ok(root)
}

fn move_mount(cx: &mut Cx<'_, '_>, target: PathRef, source: &[u8]) -> Result<(), Errno> {
    if source.is_empty() {
        return Err(Errno::EINVAL);
    }
    let source = walk::resolve(cx, CWD, source, Flags::FOLLOW)?;
    // It will hang on top of what hangs there, so that is what must not be below it.
    let target = tree::topmost(cx.k, target);
    let moved = check_move(cx, source, target)
        .and_then(|()| tree::move_to(cx.k, cx.p, source.mount, target));
    put_path(cx.k, cx.p, source);
    moved
}

fn check_move(cx: &Cx<'_, '_>, source: PathRef, target: PathRef) -> Result<(), Errno> {
    own_root(cx, source)?;
    let mounts = &cx.k.vfs.mounts;
    let moved = mounts.at(source.mount);
    let parent = moved.on.ok_or(Errno::EINVAL)?.mount;
    let is_shared = |id| mounts.at(id).peers.is_some();
    let unbindable = || {
        tree::all(cx.k, source.mount)
            .into_iter()
            .any(|id| mounts.at(id).unbindable)
    };
    if !is_own(cx, target.mount)
        || moved.locked
        || is_shared(parent)
        || is_shared(target.mount) && unbindable()
    {
        return Err(Errno::EINVAL);
    }
    let mut at = Some(target.mount);
    while let Some(id) = at {
        if id == source.mount {
            return Err(Errno::ELOOP);
        }
        at = mounts.at(id).on.map(|on| on.mount);
    }
    Ok(())
}

fn new_mount(
    cx: &mut Cx<'_, '_>,
    target: PathRef,
    source: &[u8],
    name: &[u8],
    flags: u32,
    data: &[u8],
) -> Result<(), Errno> {
    if name.is_empty() {
        return Err(Errno::EINVAL);
    }
    // What a file system tells of belongs to whoever owns that.
    let ns = cx.task().ns;
    let owner = match name {
        b"proc" => cx.k.ns.owner(ns.pid),
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
            let options = Tmpfs::parse(cx.k, owner, creds, data)?;
            shown = options.show();
            let mut fs = tmpfs(cx, &options)?;
            fs.set_read_only(flags.contains(MountFlags::READ_ONLY))?;
            (Filesystem::Union(fs), "tmpfs")
        }
        b"proc" => (Filesystem::Proc(ProcFs { pids: ns.pid }), "proc"),
        b"sysfs" => (Filesystem::Sys(SysFs::Devices), "sysfs"),
        b"cgroup2" => (Filesystem::Sys(SysFs::Cgroup), "cgroup2"),
        _ => return Err(Errno::ENODEV),
    };
    let hidden = matches!(fs_type, "proc" | "sysfs" | "cgroup2")
        && cx.creds().user_ns != crate::ns::USER
        && !is_visible(cx, fs_type, flags);
    if hidden {
        return Err(Errno::EPERM);
    }
    let fs = cx.k.vfs.add_filesystem_of(fs, owner);
    let made = match mount::make(cx.k, cx.p, fs, flags, source, fs_type) {
        Ok(made) => made,
        Err(errno) => {
            cx.k.vfs.remove_filesystem(fs, &mut cx.k.mm.frames);
            return Err(errno);
        }
    };
    cx.k.vfs.mounts.at_mut(made).options = shown;
    graft(cx, made, target)
}

fn tmpfs(cx: &mut Cx<'_, '_>, options: &Tmpfs) -> Result<UnionFs, Errno> {
    let tree = Tree {
        layers: Vec::new(),
        read_only: false,
        upper_limit: options.size,
        index: None,
    };
    let now = Time::from_nanos(cx.now().real);
    let mut fs = UnionFs::new(cx.p, &tree, options.mode, now).map_err(|_| Errno::EINVAL)?;
    fs.set_owner(options.uid, options.gid, options.inodes);
    Ok(fs)
}

/// A file system that tells of the kernel is mounted in a less privileged namespace only where it can be seen already, with no part
/// hidden (`mount_too_revealing()`).
fn is_visible(cx: &Cx<'_, '_>, fs_type: &str, flags: MountFlags) -> bool {
    let mounts = &cx.k.vfs.mounts;
    mounts
        .of_namespace(cx.task().ns.mount)
        .into_iter()
        .any(|id| {
            let mount = mounts.at(id);
            let locked = mount.locked_flags & MountFlags::READ_ONLY;
            let whole = cx.k.vfs.dentries.at(mount.root).parent == mount.root;
            // What hangs on places that are made to be mounted on hides nothing.
            let hides =
                |child: MountId| mounts.at(child).locked && mounts.at(child).fs_type != "cgroup2";
            mount.fs_type == fs_type
                && whole
                && flags.contains(locked)
                && !mounts.children(id).any(hides)
        })
}

pub(super) fn umount2(cx: &mut Cx<'_, '_>, target: Path, flags: Hex) -> SysResult {
    const KNOWN: u32 = g::MNT_FORCE | g::MNT_DETACH | g::MNT_EXPIRE | g::UMOUNT_NOFOLLOW;
    let flags = flags.0 as u32;
    if flags & !KNOWN != 0 {
        return Err(Errno::EINVAL.into());
    }
    let path = cx.read_path(target.0)?;
    let follow = match flags & g::UMOUNT_NOFOLLOW {
        0 => Flags::FOLLOW,
        _ => Flags::empty(),
    };
    let found = walk::resolve(cx, CWD, &path, follow)?;
    // Also what hangs on the working directory.
    let path = tree::topmost(cx.k, found);
    let expiring = cx.k.vfs.mounts.at(path.mount).expiring;
    let checked = check_umount(cx, path, flags);
    // Holding the path is no use of the mount.
    put_path(cx.k, cx.p, found);
    checked?;
    let mount = path.mount;
    if flags & g::MNT_EXPIRE != 0 {
        if tree::is_busy(cx.k, mount, 0) {
            return Err(Errno::EBUSY.into());
        }
        if !was_expiring(cx, mount, expiring) {
            return Err(Errno::EAGAIN.into());
        }
    }
    if flags & g::MNT_DETACH == 0 && tree::is_busy(cx.k, mount, 0) {
        return Err(Errno::EBUSY.into());
    }
    tree::unmount(cx.k, cx.p, mount);
    Ok(0)
}

/// Marks a mount as expiring; `true` if it was already, and nobody has used it since.
fn was_expiring(cx: &mut Cx<'_, '_>, mount: MountId, before: bool) -> bool {
    cx.k.vfs.mounts.at_mut(mount).expiring = true;
    before
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
    let new = cx.read_path(new_root.0)?;
    let flags = Flags::FOLLOW | Flags::DIRECTORY;
    let new = walk::resolve(cx, CWD, &new, flags)?;
    let old = cx
        .read_path(put_old.0)
        .and_then(|path| walk::resolve(cx, CWD, &path, flags));
    let done = match old {
        Ok(old) => {
            let done = pivot(cx, new, old);
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
