//! `/proc/PID/{uid_map,gid_map,projid_map,setgroups,loginuid,sessionid}`: who a process is (user_namespaces(7)).

use alloc::format;
use alloc::vec::Vec;

use super::process::View;
use crate::Kernel;
use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::machine::ThreadId;
use crate::ns::NsId;
use crate::ns::user::{self, Numbers};
use crate::port::Ports;

/// `loginuid` and `sessionid` of processes that belong to no audit session.
pub(super) fn no_session(
    _: &mut Kernel,
    _: &mut Ports<'_>,
    _: ThreadId,
    _: View,
) -> Result<Vec<u8>, Errno> {
    Ok(format!("{}", u32::MAX).into_bytes())
}

/// The user namespace of a process, while it lives.
fn namespace(k: &Kernel, view: View) -> Result<NsId, Errno> {
    let task = view.live(k)?;
    match task.exited {
        true => Err(Errno::EINVAL),
        false => Ok(task.creds.user_ns),
    }
}

fn map(k: &Kernel, thread: ThreadId, view: View, of: Numbers) -> Result<Vec<u8>, Errno> {
    let ns = namespace(k, view)?;
    Ok(user::show_map(k, thread, ns, of).into_bytes())
}

pub(super) fn uid_map(
    k: &mut Kernel,
    _: &mut Ports<'_>,
    thread: ThreadId,
    view: View,
) -> Result<Vec<u8>, Errno> {
    map(k, thread, view, Numbers::Users)
}

pub(super) fn gid_map(
    k: &mut Kernel,
    _: &mut Ports<'_>,
    thread: ThreadId,
    view: View,
) -> Result<Vec<u8>, Errno> {
    map(k, thread, view, Numbers::Groups)
}

pub(super) fn projid_map(
    k: &mut Kernel,
    _: &mut Ports<'_>,
    thread: ThreadId,
    view: View,
) -> Result<Vec<u8>, Errno> {
    map(k, thread, view, Numbers::Projects)
}

/// Writes `uid_map`, `gid_map`, `projid_map`.
pub(super) fn set_map(
    k: &mut Kernel,
    thread: ThreadId,
    view: View,
    name: &str,
    data: &[u8],
) -> Result<(), Errno> {
    let of = match name {
        "uid_map" => Numbers::Users,
        "gid_map" => Numbers::Groups,
        _ => Numbers::Projects,
    };
    let ns = namespace(k, view)?;
    user::set_map(k, thread, ns, of, data)
}

/// Whether setgroups(2) is allowed.
pub(super) fn setgroups(
    k: &mut Kernel,
    _: &mut Ports<'_>,
    _: ThreadId,
    view: View,
) -> Result<Vec<u8>, Errno> {
    let ns = namespace(k, view)?;
    Ok(match k.ns.user(ns).setgroups {
        true => b"allow\n".to_vec(),
        false => b"deny\n".to_vec(),
    })
}

/// `EACCES` unless the thread may change the user namespace of the process.
pub(super) fn check_setgroups(k: &Kernel, thread: ThreadId, view: View) -> Result<(), Errno> {
    let own = k.tasks.get(thread).ok_or(Errno::ESRCH)?;
    let ns = namespace(k, view)?;
    match user::capable(k, &own.creds, ns, g::CAP_SYS_ADMIN) {
        true => Ok(()),
        false => Err(Errno::EACCES),
    }
}

pub(super) fn set_setgroups(k: &mut Kernel, view: View, data: &[u8]) -> Result<(), Errno> {
    let ns = namespace(k, view)?;
    user::set_setgroups(k, ns, data)
}
