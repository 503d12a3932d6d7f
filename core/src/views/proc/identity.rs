//! `/proc/PID/{uid_map,gid_map,projid_map,setgroups,loginuid,sessionid}`: who a process is
//! (user_namespaces(7)).

use alloc::format;
use alloc::vec::Vec;

use super::view::View;
use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::cred::ns::user::Numbers;
use crate::cred::ns::{NsId, user};
use crate::file::FileId;
use crate::machine::ThreadId;
use crate::port::Ports;
use crate::task::Cx;
use crate::{Kernel, file};

/// `loginuid` and `sessionid` of processes that belong to no audit session.
pub(super) fn no_session(
    _: &mut Kernel,
    _: &mut Ports<'_>,
    _: ThreadId,
    _: View,
) -> Result<Vec<u8>, Errno> {
    Ok(format!("{}", u32::MAX).into_bytes())
}

/// The user namespace of a process.
pub(super) fn namespace(k: &Kernel, view: View) -> Result<NsId, Errno> {
    let ns = view.live(k)?.creds.user_ns;
    // Nothing keeps it for a process that has ended.
    match k.ns.exists(ns) {
        true => Ok(ns),
        false => Err(Errno::EINVAL),
    }
}

fn map(k: &Kernel, thread: ThreadId, view: View, of: Numbers) -> Result<Vec<u8>, Errno> {
    let ns = namespace(k, view)?;
    Ok(crate::ns::users::show_map(k, thread, ns, of).into_bytes())
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

/// The map that an open file shows, whatever became of the process.
pub(crate) fn opened(k: &Kernel, thread: ThreadId, id: FileId, place: usize) -> Option<Vec<u8>> {
    let of = numbers(super::process::FILES[place].0)?;
    let ns = file::at(k, id).opened_by.as_ref()?.of;
    let text =
        k.ns.exists(ns)
            .then(|| crate::ns::users::show_map(k, thread, ns, of))?;
    Some(text.into_bytes())
}

/// What numbers the file of a map is of; `None` of other files.
pub(super) fn numbers(name: &str) -> Option<Numbers> {
    match name {
        "uid_map" => Some(Numbers::Users),
        "gid_map" => Some(Numbers::Groups),
        "projid_map" => Some(Numbers::Projects),
        _ => None,
    }
}

/// Writes `uid_map`, `gid_map`, `projid_map`: in one piece, at the beginning.
pub(super) fn set_map(
    cx: &mut Cx<'_, '_>,
    id: FileId,
    name: &str,
    at: u64,
    data: &[u8],
) -> Result<(), Errno> {
    let of = numbers(name).ok_or(Errno::EINVAL)?;
    let opener = file::at(cx.k, id).opened_by.clone().ok_or(Errno::EINVAL)?;
    crate::ns::users::set_map(cx, &opener, of, at, super::state::before_nul(data))?;
    file::at_mut(cx.k, id).offset = data.len() as u64;
    Ok(())
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
    user::set_setgroups(k, ns, super::state::before_nul(data))
}
