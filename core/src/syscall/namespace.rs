//! Namespaces (unshare(2), setns(2), ioctl_nsfs(2)).

use super::missing::among;
use crate::abi::Errno;
use crate::abi::raw::ioctl as i;
use crate::args::*;
use crate::cred::ns::{Kind, NsId, user};
use crate::env::wait::SysResult;
use crate::file;
use crate::file::{File, FileKind, fdtable};
use crate::fs::anon;
use crate::kernel::Cx;
use crate::ns::enter;
use crate::vfs::{PathRef, mount};

pub(super) fn unshare(cx: &mut Cx<'_, '_>, flags: CloneFlags) -> SysResult {
    // Time namespaces: as without CONFIG_TIME_NS.
    let flags = among(cx, flags, enter::FLAGS | enter::SHARED)?;
    enter::unshare(cx, flags)?;
    Ok(0)
}

pub(super) fn setns(cx: &mut Cx<'_, '_>, fd: Fd, nstype: CloneFlags) -> SysResult {
    if let Some(rest) = enter::joined(cx) {
        return rest.map(|()| 0);
    }
    let flags = nstype.low_half();
    let id = fdtable::get(cx, fd.0)?;
    let file = file::at(cx.k, id);
    if let FileKind::PidFd(pid) = file.kind {
        let flags = among(cx, flags, enter::FLAGS)?;
        if flags.is_empty() {
            return Err(Errno::EINVAL.into());
        }
        let thread = pid.task(cx.k).ok_or(Errno::ESRCH)?;
        enter::join_process(cx, thread, flags)?;
        return Ok(0);
    }
    let ns = crate::vfs::object::namespace_at(cx.k, file.path.dentry).ok_or(Errno::EINVAL)?;
    let kind: Kind = cx.k.ns.kind(ns);
    if !flags.is_empty() && flags != kind.flag() {
        return Err(Errno::EINVAL.into());
    }
    enter::join(cx, ns)?;
    Ok(0)
}

/// Requests on the file of a namespace; `None` for others.
pub(super) fn ioctl(cx: &mut Cx<'_, '_>, ns: NsId, request: u32, arg: u64) -> Option<SysResult> {
    Some(match request {
        i::NS_GET_NSTYPE => Ok(cx.k.ns.kind(ns).flag().bits()),
        i::NS_GET_OWNER_UID => owner(cx, ns, arg),
        i::NS_GET_USERNS => related(cx, ns),
        i::NS_GET_PARENT => match cx.k.ns.kind(ns) {
            Kind::User => related(cx, ns),
            Kind::Pid => match crate::cred::ns::pid::parent(cx.k, cx.task().ns.pid, ns) {
                Some(parent) => open(cx, parent),
                None => Err(Errno::EPERM.into()),
            },
            _ => Err(Errno::EINVAL.into()),
        },
        _ => return None,
    })
}

fn owner(cx: &mut Cx<'_, '_>, ns: NsId, at: u64) -> SysResult {
    if cx.k.ns.kind(ns) != Kind::User {
        return Err(Errno::EINVAL.into());
    }
    let owner = cx.k.ns.user(ns).owner;
    let uid = user::show_uid(cx.k, cx.creds().user_ns, owner);
    cx.write_obj(at, &uid)?;
    Ok(0)
}

/// A descriptor of the user namespace above.
fn related(cx: &mut Cx<'_, '_>, ns: NsId) -> SysResult {
    let above = user::above(cx.k, cx.creds().user_ns, ns)?;
    open(cx, above)
}

/// A descriptor of a namespace.
fn open(cx: &mut Cx<'_, '_>, above: NsId) -> SysResult {
    let dentry = crate::ns::dentry_of(cx.k, above).ok_or(Errno::ENOENT)?;
    let path = PathRef {
        mount: anon::MOUNT,
        dentry,
    };
    let path = mount::get_path(cx.k, path);
    let file = File::new(FileKind::Namespace, path, None, OpenFlags::RDONLY);
    let id = file::add(cx.k, cx.p, file)?;
    Ok(fdtable::install(cx, id, OnExec::Close)? as u64)
}
