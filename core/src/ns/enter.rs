//! Coming to be in other namespaces: unshare(2), setns(2), and the flags of clone(2).

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::{change, sweep_all};
use crate::Kernel;
use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::args::CloneFlags;
use crate::cred::Creds;
use crate::cred::ns::{Body, Kind, Net, NsId, Set, pid, user};
use crate::env::wait::Stop;
use crate::file::{FsContextId, fdtable};
use crate::machine::ThreadId;
use crate::port::Ports;
use crate::task::Cx;
use crate::vfs::MountId;
pub(crate) use crate::vfs::mount::job::Made;
use crate::vfs::mount::job::{self, Done, Founding, Job};
use crate::vfs::mount::{PathRef, get_path, put_path, tree};

/// Flags that make namespaces, without time namespaces, which there are none of.
pub(crate) const FLAGS: CloneFlags = CloneFlags::NEWNS
    .union(CloneFlags::NEWCGROUP)
    .union(CloneFlags::NEWUTS)
    .union(CloneFlags::NEWIPC)
    .union(CloneFlags::NEWUSER)
    .union(CloneFlags::NEWPID)
    .union(CloneFlags::NEWNET);

/// What unshare(2) takes besides: what tasks share, and ends to share.
pub(crate) const SHARED: CloneFlags = CloneFlags::THREAD
    .union(CloneFlags::FS)
    .union(CloneFlags::SIGHAND)
    .union(CloneFlags::VM)
    .union(CloneFlags::FILES)
    .union(CloneFlags::SYSVSEM);

/// Begins to make the namespaces that `flags` ask for: the user namespace, and the mount namespace with
/// copies of all mounts of the caller's, which may take several inputs. [`make`] makes the others. `EPERM`,
/// `ENOSPC`.
pub(crate) fn prepare(cx: &mut Cx<'_, '_>, flags: CloneFlags) -> Result<(), Stop> {
    if !flags.contains(CloneFlags::NEWNS) {
        return Ok(());
    }
    job::prepare(cx, |cx, _| {
        let begun = begin(cx, flags).and_then(|made| found(cx, made));
        if begun.is_err() {
            sweep_all(cx.k, cx.p);
        }
        begun.map(Some)
    })
}

/// Makes the namespaces that `flags` ask for; no task is in them yet. `EPERM`, `ENOSPC`.
pub(crate) fn make(cx: &mut Cx<'_, '_>, flags: CloneFlags) -> Result<Made, Errno> {
    let begun = match job::take(cx)? {
        Done::Namespaces(made) => Ok(*made),
        _ => begin(cx, flags),
    };
    let made = begun.and_then(|made| make_others(cx, flags, made));
    if made.is_err() {
        sweep_all(cx.k, cx.p);
    }
    made
}

/// Makes the user namespace, if one is asked for, and looks whether the others may be made.
fn begin(cx: &mut Cx<'_, '_>, flags: CloneFlags) -> Result<Made, Errno> {
    let task = cx.task();
    let mut made = Made {
        set: task.ns,
        creds: (*task.creds).clone(),
        mounts: BTreeMap::new(),
    };
    if flags.contains(CloneFlags::NEWUSER) {
        user::check_room(cx.k, &made.creds)?;
        if is_chrooted(cx) {
            return Err(Errno::EPERM);
        }
        user::create(cx.k, &mut made.creds)?;
    }
    let owner = made.creds.user_ns;
    let others = flags.intersects(FLAGS - CloneFlags::NEWUSER);
    match !others || user::capable(cx.k, &made.creds, owner, g::CAP_SYS_ADMIN) {
        true => Ok(made),
        false => Err(Errno::EPERM),
    }
}

/// Makes the mount namespace. One of another user namespace is less privileged.
fn found(cx: &mut Cx<'_, '_>, mut made: Made) -> Result<Job, Errno> {
    let old = cx.task().ns.mount;
    let root = cx.k.ns.root(old).ok_or(Errno::EINVAL)?;
    let owner = made.creds.user_ns;
    let less = cx.k.ns.owner(old) != owner;
    made.set.mount = cx.k.ns.add(owner, made.creds.euid, Body::Mount(None))?;
    Ok(Job::Namespace(Founding::new(made, root, less).into()))
}

fn make_others(cx: &mut Cx<'_, '_>, flags: CloneFlags, mut made: Made) -> Result<Made, Errno> {
    let has = |kind: Kind| flags.contains(kind.flag());
    let (owner, maker) = (made.creds.user_ns, made.creds.euid);
    if has(Kind::Uts) {
        let uts = cx.k.ns.uts(made.set.uts).clone();
        made.set.uts = cx.k.ns.add(owner, maker, Body::Uts(uts))?;
    }
    if has(Kind::Ipc) {
        made.set.ipc = cx.k.ns.add(owner, maker, Body::Ipc)?;
        cx.k.ipc.begin_namespace(made.set.ipc);
    }
    if has(Kind::Cgroup) {
        made.set.cgroup = cx.k.ns.add(owner, maker, Body::Cgroup)?;
    }
    if has(Kind::Pid) {
        // Children are about to be made in another one already.
        if made.set.pid_for_children != made.set.pid {
            return Err(Errno::EINVAL);
        }
        made.set.pid_for_children = pid::create(cx.k, (owner, maker), made.set.pid_for_children)?;
    }
    if has(Kind::Net) {
        made.set.net = cx.k.ns.add(owner, maker, Body::Net(Net::default()))?;
    }
    Ok(made)
}

/// Whether the root directory of the caller is not that of its mount namespace: what lies on top of its root.
fn is_chrooted(cx: &mut Cx<'_, '_>) -> bool {
    let top = cx.k.ns.root(cx.task().ns.mount);
    let mut place = *cx.k.files.fs_context(cx.task().fs).root;
    let mounts = &cx.k.vfs.mounts;
    if mounts.mounted_on(place).is_some() {
        return true;
    }
    let mut passed = 0;
    let is_top = loop {
        passed += 1;
        let mount = mounts.at(place.mount);
        match mount.on {
            _ if place.dentry != mount.root => break false,
            _ if Some(place.mount) == top => break true,
            Some(on) => place = on,
            None => break false,
        }
    };
    cx.k.env.steps.spend(passed / 16);
    !is_top
}

/// The root directory of a mount namespace.
fn top(k: &Kernel, ns: NsId) -> Option<PathRef> {
    let mount = k.ns.root(ns)?;
    let dentry = k.vfs.mounts.at(mount).root;
    Some(tree::topmost(k, PathRef { mount, dentry }))
}

/// Moves root and working directory of a context, which one task has for itself, over to copies of the mounts
/// they are in.
pub(crate) fn follow(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    context: FsContextId,
    copies: &BTreeMap<MountId, MountId>,
) {
    let old = k.files.fs_context(context);
    let place = |path: PathRef| match copies.get(&path.mount) {
        Some(&mount) => PathRef { mount, ..path },
        None => path,
    };
    let (root, cwd) = (place(*old.root), place(*old.cwd));
    set_places(k, p, context, root, cwd);
}

/// Gives a context another root and working directory.
fn set_places(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    context: FsContextId,
    root: PathRef,
    cwd: PathRef,
) {
    let (root, cwd) = (get_path(k, root), get_path(k, cwd));
    let context = k.files.fs_context_mut(context);
    let old_root = core::mem::replace(&mut context.root, root);
    let old_cwd = core::mem::replace(&mut context.cwd, cwd);
    put_path(k, p, old_root);
    put_path(k, p, old_cwd);
}

/// Progress of a call that has only semaphores left to undo.
const UNDOES: u64 = 1;

/// Undoes what the caller's process asked for in semaphores, unless it shares that with other threads: a part
/// with each input, with what the call did before it done.
fn undo(cx: &mut Cx<'_, '_>) -> Result<(), Stop> {
    // What is to be undone is kept by process, so that one of several threads cannot leave it to the others.
    if cx.group().threads.len() > 1 {
        return Ok(());
    }
    let tgid = cx.task().tgid;
    while crate::ipc::semaphore::undo_one(cx.k, tgid) {
        if cx.is_spent() {
            return Err(cx.give_way(UNDOES));
        }
    }
    Ok(())
}

/// Gives the caller namespaces and other things of its own (unshare(2)), as [`FLAGS`] and [`SHARED`] ask.
pub(crate) fn unshare(cx: &mut Cx<'_, '_>, mut flags: CloneFlags) -> Result<(), Stop> {
    if cx.call().progress == UNDOES {
        return undo(cx);
    }
    for (one, with) in [
        (CloneFlags::NEWUSER, CloneFlags::THREAD | CloneFlags::FS),
        (CloneFlags::VM, CloneFlags::SIGHAND),
        (CloneFlags::SIGHAND, CloneFlags::THREAD),
        (CloneFlags::NEWNS, CloneFlags::FS),
    ] {
        if flags.contains(one) {
            flags |= with;
        }
    }
    let threads = cx.group().threads.len();
    if flags.contains(CloneFlags::THREAD) && threads > 1 {
        return Err(Errno::EINVAL.into());
    }
    let space = cx.space();
    if flags.contains(CloneFlags::VM) && crate::mm::space::users(cx.k, space) > 1 {
        return Err(Errno::EINVAL.into());
    }
    if flags.contains(CloneFlags::FILES) {
        fdtable::prepare_unshare(cx)?;
    }
    prepare(cx, flags)?;
    let made = match flags.intersects(FLAGS) {
        true => Some(make(cx, flags)?),
        false => None,
    };
    if flags.contains(CloneFlags::FS) {
        own_context(cx);
    }
    if flags.contains(CloneFlags::FILES) {
        fdtable::unshare(cx);
    }
    if let Some(made) = made {
        enter(cx, made);
    }
    match flags.intersects(CloneFlags::SYSVSEM | CloneFlags::NEWIPC) {
        true => undo(cx),
        false => Ok(()),
    }
}

/// Gives the caller a context of its own.
fn own_context(cx: &mut Cx<'_, '_>) {
    let old = cx.task().fs;
    if cx.fs_context().users() > 1 {
        let own = fdtable::copy_context(cx.k, old);
        fdtable::release_context(cx.k, cx.p, old);
        cx.task_mut().fs = own;
    }
}

/// Puts the caller into namespaces.
fn enter(cx: &mut Cx<'_, '_>, made: Made) {
    let user = made.creds.user_ns;
    if user != cx.creds().user_ns {
        let old = cx.creds().user_ns;
        let creds = Creds {
            user_ns: old,
            ..made.creds
        };
        cx.k.set_creds(cx.thread, creds);
    }
    let context = cx.task().fs;
    follow(cx.k, cx.p, context, &made.mounts);
    change(cx.k, cx.p, cx.thread, made.set, user);
}

/// What joining namespaces changes, before it is done.
struct Joining {
    set: Set,
    /// With the user namespace that is joined.
    creds: Creds,
    /// Root and working directory in the mount namespace that is joined.
    top: Option<PathRef>,
}

/// Puts the caller into one namespace (setns(2)). `EINVAL`, `EPERM`.
pub(crate) fn join(cx: &mut Cx<'_, '_>, ns: NsId) -> Result<(), Stop> {
    join_all(cx, &[ns])
}

/// Puts the caller into those namespaces of another process that `flags` name. `EPERM`, `EINVAL`.
pub(crate) fn join_process(
    cx: &mut Cx<'_, '_>,
    thread: ThreadId,
    flags: CloneFlags,
) -> Result<(), Stop> {
    if !crate::task::look::may_look(cx.k, cx.thread, thread) {
        return Err(Errno::EPERM.into());
    }
    let task =
        cx.k.tasks
            .get(thread)
            .filter(|task| !task.exited)
            .ok_or(Errno::ESRCH)?;
    let (set, user) = (task.ns, task.creds.user_ns);
    let all = [
        (Kind::User, user),
        (Kind::Mount, set.mount),
        (Kind::Uts, set.uts),
        (Kind::Ipc, set.ipc),
        (Kind::Pid, set.pid),
        (Kind::Cgroup, set.cgroup),
        (Kind::Net, set.net),
    ];
    let named = all
        .into_iter()
        .filter(|(kind, _)| flags.contains(kind.flag()));
    let named: Vec<NsId> = named.map(|(_, ns)| ns).collect();
    join_all(cx, &named)
}

/// Puts the caller into several namespaces, a user namespace first, or into none.
fn join_all(cx: &mut Cx<'_, '_>, all: &[NsId]) -> Result<(), Stop> {
    let mut joining = Joining {
        set: cx.task().ns,
        creds: cx.creds().clone(),
        top: None,
    };
    for &ns in all {
        check_join(cx, &mut joining, ns)?;
    }
    let Joining { set, creds, top } = joining;
    let (old, user) = (cx.creds().clone(), creds.user_ns);
    if user != old.user_ns {
        if !user::is_owned_by(cx.k, user, &old) {
            let space = cx.space();
            crate::mm::space::hide(cx.k, space);
        }
        let user_ns = old.user_ns;
        cx.k.set_creds(cx.thread, Creds { user_ns, ..creds });
    }
    if let Some(top) = top {
        let context = cx.task().fs;
        set_places(cx.k, cx.p, context, top, top);
    }
    let leaves = set.ipc != cx.task().ns.ipc;
    change(cx.k, cx.p, cx.thread, set, user);
    match leaves {
        true => undo(cx),
        false => Ok(()),
    }
}

/// Goes on with a setns(2) that has only semaphores left to undo; `None` if it has not come so far.
pub(crate) fn joined(cx: &mut Cx<'_, '_>) -> Option<Result<(), Stop>> {
    (cx.call().progress == UNDOES).then(|| undo(cx))
}

fn check_join(cx: &mut Cx<'_, '_>, joining: &mut Joining, ns: NsId) -> Result<(), Errno> {
    let kind = cx.k.ns.kind(ns);
    if kind == Kind::User {
        check_join_user(cx, ns)?;
        user::enter(&mut joining.creds, ns);
        return Ok(());
    }
    let user = joining.creds.user_ns;
    if !cx.capable_over(ns, g::CAP_SYS_ADMIN) || !cx.capable_in(user, g::CAP_SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    let set = &mut joining.set;
    match kind {
        Kind::Cgroup => set.cgroup = ns,
        Kind::Ipc => set.ipc = ns,
        Kind::Net => set.net = ns,
        Kind::Uts => set.uts = ns,
        Kind::Pid if pid::is_within(cx.k, ns, set.pid) => set.pid_for_children = ns,
        Kind::Pid => return Err(Errno::EINVAL),
        Kind::Mount => {
            if !cx.capable_in(user, g::CAP_SYS_CHROOT) {
                return Err(Errno::EPERM);
            }
            if cx.fs_context().users() > 1 {
                return Err(Errno::EINVAL);
            }
            joining.top = Some(top(cx.k, ns).ok_or(Errno::EINVAL)?);
            set.mount = ns;
        }
        Kind::User => {}
    }
    Ok(())
}

fn check_join_user(cx: &mut Cx<'_, '_>, ns: NsId) -> Result<(), Errno> {
    if ns == cx.creds().user_ns || cx.group().threads.len() > 1 || cx.fs_context().users() > 1 {
        return Err(Errno::EINVAL);
    }
    match cx.capable_in(ns, g::CAP_SYS_ADMIN) {
        true => Ok(()),
        false => Err(Errno::EPERM),
    }
}
