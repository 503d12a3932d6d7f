//! Users, groups and capabilities.

use alloc::vec::Vec;

use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::args::*;
use crate::cred::groups::Groups;
use crate::cred::ns::user;
use crate::cred::{CAP_LAST, Creds};
use crate::env::wait::SysResult;
use crate::kernel::Cx;
use crate::mm::space;
use crate::task::creds;

/// Stands for "leave it" in calls that set several ids, and is no id itself.
const KEEP: u32 = u32::MAX;

/// Most supplementary groups (`NGROUPS_MAX`).
const NGROUPS_MAX: usize = 65536;

pub(super) fn getuid(cx: &mut Cx<'_, '_>) -> SysResult {
    Ok(u64::from(user::show_uid(
        cx.k,
        cx.creds().user_ns,
        cx.creds().uid,
    )))
}

pub(super) fn getgid(cx: &mut Cx<'_, '_>) -> SysResult {
    Ok(u64::from(user::show_gid(
        cx.k,
        cx.creds().user_ns,
        cx.creds().gid,
    )))
}

pub(super) fn geteuid(cx: &mut Cx<'_, '_>) -> SysResult {
    Ok(u64::from(user::show_uid(
        cx.k,
        cx.creds().user_ns,
        cx.creds().euid,
    )))
}

pub(super) fn getegid(cx: &mut Cx<'_, '_>) -> SysResult {
    Ok(u64::from(user::show_gid(
        cx.k,
        cx.creds().user_ns,
        cx.creds().egid,
    )))
}

/// The user that a program means. `EINVAL` if its user namespace has none of that number.
fn taken_uid(cx: &Cx<'_, '_>, uid: Id) -> Result<Id, Errno> {
    user::take_uid(cx.k, cx.creds().user_ns, uid.0).map(Id)
}

/// The group that a program means.
fn taken_gid(cx: &Cx<'_, '_>, gid: Id) -> Result<Id, Errno> {
    user::take_gid(cx.k, cx.creds().user_ns, gid.0).map(Id)
}

/// Gives the current task new credentials (`commit_creds()`).
fn commit(cx: &mut Cx<'_, '_>, new: Creds) {
    let sensitive = cx.creds().is_exceeded_by(&new);
    if *cx.creds() != new {
        cx.k.set_creds(cx.thread, new);
    }
    if sensitive {
        cx.task_mut().death_signal = 0;
        let space = cx.space();
        space::hide(cx.k, space);
    }
}

/// Commits a change of user ids with what it does to capabilities.
fn commit_user(cx: &mut Cx<'_, '_>, mut new: Creds) -> SysResult {
    let zero = creds::zero(cx);
    new.user_changed(cx.creds(), zero);
    commit(cx, new);
    Ok(0)
}

pub(super) fn setuid(cx: &mut Cx<'_, '_>, uid: Id) -> SysResult {
    let uid = taken_uid(cx, uid)?;
    let mut new = cx.creds().clone();
    if uid.0 == KEEP {
        return Err(Errno::EINVAL.into());
    }
    if new.has(g::CAP_SETUID) {
        (new.uid, new.suid) = (uid.0, uid.0);
    } else if uid.0 != new.uid && uid.0 != new.suid {
        return Err(Errno::EPERM.into());
    }
    (new.euid, new.fsuid) = (uid.0, uid.0);
    commit_user(cx, new)
}

pub(super) fn setgid(cx: &mut Cx<'_, '_>, gid: Id) -> SysResult {
    let gid = taken_gid(cx, gid)?;
    let mut new = cx.creds().clone();
    if gid.0 == KEEP {
        return Err(Errno::EINVAL.into());
    }
    if new.has(g::CAP_SETGID) {
        (new.gid, new.sgid) = (gid.0, gid.0);
    } else if gid.0 != new.gid && gid.0 != new.sgid {
        return Err(Errno::EPERM.into());
    }
    (new.egid, new.fsgid) = (gid.0, gid.0);
    commit(cx, new);
    Ok(0)
}

/// Real, effective and saved id after setreuid(2) or setregid(2). `EPERM`.
fn set_two(
    (real, effective, saved): (u32, u32, u32),
    new_real: u32,
    new_effective: u32,
    capable: bool,
) -> Result<(u32, u32, u32), Errno> {
    let mut new = (real, effective, saved);
    if new_real != KEEP {
        if ![real, effective].contains(&new_real) && !capable {
            return Err(Errno::EPERM);
        }
        new.0 = new_real;
    }
    if new_effective != KEEP {
        if ![real, effective, saved].contains(&new_effective) && !capable {
            return Err(Errno::EPERM);
        }
        new.1 = new_effective;
    }
    if new_real != KEEP || (new_effective != KEEP && new_effective != real) {
        new.2 = new.1;
    }
    Ok(new)
}

/// The same after setresuid(2) or setresgid(2).
fn set_three(
    old: (u32, u32, u32),
    wanted: [u32; 3],
    capable: bool,
) -> Result<(u32, u32, u32), Errno> {
    let allowed = |id: u32| id == KEEP || capable || [old.0, old.1, old.2].contains(&id);
    if !wanted.into_iter().all(allowed) {
        return Err(Errno::EPERM);
    }
    let pick = |old: u32, new: u32| if new == KEEP { old } else { new };
    Ok((
        pick(old.0, wanted[0]),
        pick(old.1, wanted[1]),
        pick(old.2, wanted[2]),
    ))
}

pub(super) fn setreuid(cx: &mut Cx<'_, '_>, ruid: Id, euid: Id) -> SysResult {
    let ruid = taken_uid(cx, ruid)?;
    let euid = taken_uid(cx, euid)?;
    let mut new = cx.creds().clone();
    let capable = new.has(g::CAP_SETUID);
    (new.uid, new.euid, new.suid) =
        set_two((new.uid, new.euid, new.suid), ruid.0, euid.0, capable)?;
    new.fsuid = new.euid;
    commit_user(cx, new)
}

pub(super) fn setregid(cx: &mut Cx<'_, '_>, rgid: Id, egid: Id) -> SysResult {
    let rgid = taken_gid(cx, rgid)?;
    let egid = taken_gid(cx, egid)?;
    let mut new = cx.creds().clone();
    let capable = new.has(g::CAP_SETGID);
    (new.gid, new.egid, new.sgid) =
        set_two((new.gid, new.egid, new.sgid), rgid.0, egid.0, capable)?;
    new.fsgid = new.egid;
    commit(cx, new);
    Ok(0)
}

pub(super) fn setresuid(cx: &mut Cx<'_, '_>, ruid: Id, euid: Id, suid: Id) -> SysResult {
    let ruid = taken_uid(cx, ruid)?;
    let euid = taken_uid(cx, euid)?;
    let suid = taken_uid(cx, suid)?;
    let mut new = cx.creds().clone();
    let capable = new.has(g::CAP_SETUID);
    (new.uid, new.euid, new.suid) = set_three(
        (new.uid, new.euid, new.suid),
        [ruid.0, euid.0, suid.0],
        capable,
    )?;
    new.fsuid = new.euid;
    commit_user(cx, new)
}

pub(super) fn setresgid(cx: &mut Cx<'_, '_>, rgid: Id, egid: Id, sgid: Id) -> SysResult {
    let rgid = taken_gid(cx, rgid)?;
    let egid = taken_gid(cx, egid)?;
    let sgid = taken_gid(cx, sgid)?;
    let mut new = cx.creds().clone();
    let capable = new.has(g::CAP_SETGID);
    (new.gid, new.egid, new.sgid) = set_three(
        (new.gid, new.egid, new.sgid),
        [rgid.0, egid.0, sgid.0],
        capable,
    )?;
    new.fsgid = new.egid;
    commit(cx, new);
    Ok(0)
}

pub(super) fn getresuid(cx: &mut Cx<'_, '_>, ruid: Addr, euid: Addr, suid: Addr) -> SysResult {
    let creds = cx.creds();
    let ids = [creds.uid, creds.euid, creds.suid];
    let ids = ids.map(|id| user::show_uid(cx.k, creds.user_ns, id));
    write_ids(cx, [ruid, euid, suid], ids)
}

pub(super) fn getresgid(cx: &mut Cx<'_, '_>, rgid: Addr, egid: Addr, sgid: Addr) -> SysResult {
    let creds = cx.creds();
    let ids = [creds.gid, creds.egid, creds.sgid];
    let ids = ids.map(|id| user::show_gid(cx.k, creds.user_ns, id));
    write_ids(cx, [rgid, egid, sgid], ids)
}

fn write_ids(cx: &mut Cx<'_, '_>, at: [Addr; 3], ids: [u32; 3]) -> SysResult {
    for (at, id) in at.into_iter().zip(ids) {
        cx.write_obj(at.0, &id)?;
    }
    Ok(0)
}

pub(super) fn setfsuid(cx: &mut Cx<'_, '_>, uid: Id) -> SysResult {
    let old = cx.creds().clone();
    let shown = user::show_uid(cx.k, old.user_ns, old.fsuid);
    let Ok(uid) = taken_uid(cx, uid) else {
        return Ok(u64::from(shown));
    };
    let allowed = [old.uid, old.euid, old.suid, old.fsuid].contains(&uid.0);
    if uid.0 != KEEP && uid.0 != old.fsuid && (allowed || old.has(g::CAP_SETUID)) {
        let mut new = old.clone();
        new.fsuid = uid.0;
        new.fs_user_changed(&old, creds::zero(cx));
        commit(cx, new);
    }
    Ok(u64::from(shown))
}

pub(super) fn setfsgid(cx: &mut Cx<'_, '_>, gid: Id) -> SysResult {
    let mut new = cx.creds().clone();
    let old = new.fsgid;
    let shown = user::show_gid(cx.k, new.user_ns, old);
    let Ok(gid) = taken_gid(cx, gid) else {
        return Ok(u64::from(shown));
    };
    let allowed = [new.gid, new.egid, new.sgid, new.fsgid].contains(&gid.0);
    if gid.0 != KEEP && gid.0 != old && (allowed || new.has(g::CAP_SETGID)) {
        new.fsgid = gid.0;
        commit(cx, new);
    }
    Ok(u64::from(shown))
}

pub(super) fn getgroups(cx: &mut Cx<'_, '_>, size: Int, list: Addr) -> SysResult {
    let size = usize::try_from(size.0).map_err(|_| Errno::EINVAL)?;
    let count = cx.creds().groups.len();
    if size != 0 {
        if size < count {
            return Err(Errno::EINVAL.into());
        }
        let bytes: Vec<u8> = cx
            .creds()
            .groups
            .iter()
            .map(|&group| user::show_gid(cx.k, cx.creds().user_ns, group))
            .flat_map(u32::to_le_bytes)
            .collect();
        cx.write_user(list.0, &bytes)?;
    }
    Ok(count as u64)
}

/// Groups that are read from the program at once.
const GROUPS_AT_ONCE: usize = 256;

pub(super) fn setgroups(cx: &mut Cx<'_, '_>, size: Int, list: Addr) -> SysResult {
    let ns = cx.creds().user_ns;
    if !cx.creds().has(g::CAP_SETGID) || !user::allows_setgroups(cx.k, ns) {
        return Err(Errno::EPERM.into());
    }
    let count = usize::try_from(size.0)
        .ok()
        .filter(|&count| count <= NGROUPS_MAX)
        .ok_or(Errno::EINVAL)?;
    let mut groups = Vec::with_capacity(count);
    let mut bytes = [0; GROUPS_AT_ONCE * size_of::<u32>()];
    while groups.len() < count {
        let at = list.0.wrapping_add(4 * groups.len() as u64);
        let bytes = &mut bytes[..4 * GROUPS_AT_ONCE.min(count - groups.len())];
        // What comes before the first byte that cannot be read is judged first.
        let read = match cx.read_user(at, bytes) {
            Ok(()) => bytes.len(),
            Err(_) => {
                cx.read_user(at, &mut bytes[..4])?;
                4
            }
        };
        for group in bytes[..read].chunks_exact(4) {
            let group = u32::from_le_bytes([group[0], group[1], group[2], group[3]]);
            if group == KEEP {
                return Err(Errno::EINVAL.into());
            }
            groups.push(user::take_gid(cx.k, ns, group)?);
        }
    }
    let groups = Groups::new(cx.k.tasks.next_commit(), groups);
    let creds = Creds {
        groups,
        ..cx.creds().clone()
    };
    cx.k.set_creds(cx.thread, creds);
    Ok(0)
}

const CAP_VERSION_1: u32 = 0x1998_0330;
const CAP_VERSION_2: u32 = 0x2007_1026;
const CAP_VERSION_3: u32 = 0x2008_0522;

/// Reads the header of capget(2) and capset(2): how many 32-bit words a set has, and the thread. An unknown
/// version is answered with the newest one.
fn cap_header(cx: &mut Cx<'_, '_>, header: Addr) -> Result<Option<(usize, i32)>, Errno> {
    let [version, pid]: [u32; 2] = cx.read_obj(header.0)?;
    match version {
        CAP_VERSION_1 => Ok(Some((1, pid as i32))),
        CAP_VERSION_2 | CAP_VERSION_3 => Ok(Some((2, pid as i32))),
        _ => {
            cx.write_obj(header.0, &CAP_VERSION_3)?;
            Ok(None)
        }
    }
}

pub(super) fn capget(cx: &mut Cx<'_, '_>, header: Addr, data: Addr) -> SysResult {
    let Some((words, pid)) = cap_header(cx, header)? else {
        return match data.0 {
            0 => Ok(0),
            _ => Err(Errno::EINVAL.into()),
        };
    };
    let thread = match u32::try_from(pid).map_err(|_| Errno::EINVAL)? {
        0 => cx.thread,
        tid => cx.meant_thread(tid).ok_or(Errno::ESRCH)?,
    };
    if data.0 == 0 {
        return Ok(0);
    }
    let creds = &cx.k.tasks.get(thread).ok_or(Errno::ESRCH)?.creds;
    let sets = [
        creds.cap_effective,
        creds.cap_permitted,
        creds.cap_inheritable,
    ];
    let mut bytes = Vec::with_capacity(24);
    for word in 0..words {
        for set in sets {
            bytes.extend_from_slice(&((set >> (32 * word)) as u32).to_le_bytes());
        }
    }
    cx.write_user(data.0, &bytes)?;
    Ok(0)
}

pub(super) fn capset(cx: &mut Cx<'_, '_>, header: Addr, data: Addr) -> SysResult {
    let Some((words, pid)) = cap_header(cx, header)? else {
        return Err(Errno::EINVAL.into());
    };
    if pid != 0 && pid as u32 != cx.shown_pid(cx.task().tid) {
        return Err(Errno::EPERM.into());
    }
    let mut sets = [0u64; 3];
    for word in 0..words {
        for (index, set) in sets.iter_mut().enumerate() {
            let at = data.0.wrapping_add((12 * word + 4 * index) as u64);
            let bits: u32 = cx.read_obj(at)?;
            *set |= u64::from(bits) << (32 * word);
        }
    }
    let valid = (1u64 << (CAP_LAST + 1)) - 1;
    let [effective, permitted, inheritable] = sets.map(|set| set & valid);
    let mut new = cx.creds().clone();
    let within = |set: u64, bound: u64| set & !bound == 0;
    let allowed = (new.has(g::CAP_SETPCAP)
        || within(inheritable, new.cap_inheritable | new.cap_permitted))
        && within(inheritable, new.cap_inheritable | new.cap_bounding)
        && within(permitted, new.cap_permitted)
        && within(effective, permitted);
    if !allowed {
        return Err(Errno::EPERM.into());
    }
    new.cap_effective = effective;
    new.cap_permitted = permitted;
    new.cap_inheritable = inheritable;
    new.cap_ambient &= permitted & inheritable;
    commit(cx, new);
    Ok(0)
}
