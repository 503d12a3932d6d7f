//! `/proc/PID/{uid_map,gid_map,projid_map,setgroups,loginuid,sessionid}`: who a process is (user_namespaces(7)).

use alloc::format;
use alloc::vec::Vec;

use super::process::View;
use crate::Kernel;
use crate::abi::Errno;
use crate::machine::ThreadId;
use crate::port::Ports;

/// `loginuid` and `sessionid` of processes that belong to no audit session.
pub(super) fn no_session(
    _: &mut Kernel,
    _: &mut Ports<'_>,
    _: ThreadId,
    view: View,
) -> Result<Vec<u8>, Errno> {
    let _ = view;
    Ok(format!("{}", u32::MAX).into_bytes())
}

/// All numbers stand for themselves.
fn identical() -> Vec<u8> {
    format!("{:>10} {:>10} {:>10}\n", 0, 0, u32::MAX).into_bytes()
}

pub(super) fn uid_map(
    _: &mut Kernel,
    _: &mut Ports<'_>,
    _: ThreadId,
    _: View,
) -> Result<Vec<u8>, Errno> {
    Ok(identical())
}

pub(super) fn gid_map(
    _: &mut Kernel,
    _: &mut Ports<'_>,
    _: ThreadId,
    _: View,
) -> Result<Vec<u8>, Errno> {
    Ok(identical())
}

pub(super) fn projid_map(
    _: &mut Kernel,
    _: &mut Ports<'_>,
    _: ThreadId,
    _: View,
) -> Result<Vec<u8>, Errno> {
    Ok(identical())
}

/// Whether setgroups(2) is allowed.
pub(super) fn setgroups(
    _: &mut Kernel,
    _: &mut Ports<'_>,
    _: ThreadId,
    _: View,
) -> Result<Vec<u8>, Errno> {
    Ok(b"allow\n".to_vec())
}
