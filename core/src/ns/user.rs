//! User namespaces (user_namespaces(7)): numbers of users and groups, and what capabilities are about.
//!
//! Credentials, inodes and everything else in the kernel have the numbers of the first user namespace; system
//! calls translate where programs see or say them.

use alloc::string::String;

use super::count::{Account, Counted, Limits};
use super::map::Map;
use super::{Body, Kind, NsId, USER};
use crate::Kernel;
use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::kernel::{Cx, settings};
use crate::machine::ThreadId;
use crate::task::Creds;
use crate::task::creds::CAP_LAST;

/// Deepest nesting below the first one.
const LEVEL_MAX: u32 = 32;
/// All capabilities.
pub(crate) const ALL_CAPS: u64 = (1 << (CAP_LAST + 1)) - 1;

/// A user namespace.
#[derive(Clone, Debug, Hash)]
pub(crate) struct UserNs {
    level: u32,
    /// User and group that made it.
    pub owner: u32,
    group: u32,
    uids: Map,
    gids: Map,
    projects: Map,
    /// setgroups(2) is allowed.
    pub setgroups: bool,
    /// Who made it had `CAP_SETFCAP` in the parent.
    could_setfcap: bool,
    /// How much each user in it may have.
    pub(super) limits: Limits,
}

impl UserNs {
    /// The first one.
    pub(super) fn first() -> UserNs {
        UserNs {
            level: 0,
            owner: 0,
            group: 0,
            uids: Map::identical(),
            gids: Map::identical(),
            projects: Map::identical(),
            setgroups: true,
            could_setfcap: true,
            limits: Limits::first(),
        }
    }
}

/// Which numbers a map is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Numbers {
    Users,
    Groups,
    Projects,
}

impl UserNs {
    /// Lines of its maps.
    pub(super) fn extents(&self) -> u64 {
        let maps = [&self.uids, &self.gids, &self.projects];
        maps.iter().map(|map| map.len() as u64).sum()
    }

    pub(crate) fn map(&self, of: Numbers) -> &Map {
        match of {
            Numbers::Users => &self.uids,
            Numbers::Groups => &self.gids,
            Numbers::Projects => &self.projects,
        }
    }
}

/// A user as a namespace sees it; those without a number there are all the same
/// (`/proc/sys/kernel/overflowuid`).
pub(crate) fn show_uid(k: &Kernel, ns: NsId, uid: u32) -> u32 {
    show(k, ns, Numbers::Users, uid)
}

/// A group as a namespace sees it.
pub(crate) fn show_gid(k: &Kernel, ns: NsId, gid: u32) -> u32 {
    show(k, ns, Numbers::Groups, gid)
}

fn show(k: &Kernel, ns: NsId, of: Numbers, id: u32) -> u32 {
    match ns {
        USER => id,
        ns => k.ns.user(ns).map(of).inward(id).unwrap_or(overflow(k, of)),
    }
}

fn overflow(k: &Kernel, of: Numbers) -> u32 {
    let setting = match of {
        Numbers::Groups => settings::OVERFLOW_GROUP,
        _ => settings::OVERFLOW_USER,
    };
    k.system.settings.get(setting) as u32
}

/// What a group without a number in a namespace looks like.
pub(crate) fn overflow_gid(k: &Kernel) -> u32 {
    overflow(k, Numbers::Groups)
}

/// The user that a namespace means by a number. `u32::MAX` is none (and stays: it stands for "leave it").
/// `EINVAL`.
pub(crate) fn take_uid(k: &Kernel, ns: NsId, uid: u32) -> Result<u32, Errno> {
    take(k, ns, Numbers::Users, uid)
}

/// The group that a namespace means by a number.
pub(crate) fn take_gid(k: &Kernel, ns: NsId, gid: u32) -> Result<u32, Errno> {
    take(k, ns, Numbers::Groups, gid)
}

fn take(k: &Kernel, ns: NsId, of: Numbers, id: u32) -> Result<u32, Errno> {
    match (ns, id) {
        (USER, id) | (_, id @ u32::MAX) => Ok(id),
        (ns, id) => k.ns.user(ns).map(of).outward(id).ok_or(Errno::EINVAL),
    }
}

/// Whether a user and a group have numbers in a namespace.
pub(crate) fn is_mapped(k: &Kernel, ns: NsId, uid: u32, gid: u32) -> bool {
    if ns == USER {
        return true;
    }
    let user = k.ns.user(ns);
    user.uids.inward(uid).is_some() && user.gids.inward(gid).is_some()
}

/// Whether credentials have a capability over what belongs to a user namespace (`cap_capable()`).
pub(crate) fn capable(k: &Kernel, creds: &Creds, target: NsId, cap: u32) -> bool {
    // What may be asked for is kept by whoever has it; in what has gone nobody can do anything.
    if !k.ns.exists(target) {
        return false;
    }
    let level = k.ns.user(creds.user_ns).level;
    let mut at = target;
    loop {
        if at == creds.user_ns {
            return creds.has(cap);
        }
        let ns = k.ns.user(at);
        if ns.level <= level {
            return false;
        }
        let parent = k.ns.owner(at);
        // Who made a namespace has all capabilities in it.
        if parent == creds.user_ns && ns.owner == creds.euid {
            return true;
        }
        at = parent;
    }
}

impl Cx<'_, '_> {
    /// Whether the caller has a capability over what belongs to a user namespace.
    pub(crate) fn capable_in(&self, ns: NsId, cap: u32) -> bool {
        capable(self.k, self.creds(), ns, cap)
    }

    /// Whether the caller has a capability over a namespace: over the user namespace that it belongs to.
    pub(crate) fn capable_over(&self, ns: NsId, cap: u32) -> bool {
        self.capable_in(self.k.ns.owner(ns), cap)
    }
}

/// Whether there is room for a child of the user namespace of `creds`, which is looked at before the right to
/// make it. `ENOSPC`.
pub(super) fn check_room(k: &Kernel, creds: &Creds) -> Result<(), Errno> {
    let (ns, uid) = (creds.user_ns, creds.euid);
    let room =
        k.ns.has_room(Account { ns, uid }, Counted::Namespaces(Kind::User));
    match room && k.ns.user(ns).level <= LEVEL_MAX {
        true => Ok(()),
        false => Err(Errno::ENOSPC),
    }
}

/// Makes a child of the user namespace of `creds` and puts them into it, with all capabilities
/// (`create_user_ns()`). The caller counts the task.
pub(crate) fn create(k: &mut Kernel, creds: &mut Creds) -> Result<NsId, Errno> {
    check_room(k, creds)?;
    let parent = creds.user_ns;
    let user = k.ns.user(parent);
    if !is_mapped(k, parent, creds.euid, creds.egid) {
        return Err(Errno::EPERM);
    }
    let new = UserNs {
        level: user.level + 1,
        owner: creds.euid,
        group: creds.egid,
        uids: Map::default(),
        gids: Map::default(),
        projects: Map::default(),
        setgroups: user.setgroups,
        could_setfcap: creds.has(g::CAP_SETFCAP),
        limits: Limits::default(),
    };
    let id = k.ns.add(parent, new.owner, Body::User(new))?;
    enter(creds, id);
    Ok(id)
}

/// What entering a user namespace does to credentials (`set_cred_user_ns()`).
pub(super) fn enter(creds: &mut Creds, ns: NsId) {
    creds.user_ns = ns;
    creds.cap_permitted = ALL_CAPS;
    creds.cap_effective = ALL_CAPS;
    creds.cap_bounding = ALL_CAPS;
    creds.cap_inheritable = 0;
    creds.cap_ambient = 0;
    creds.securebits = 0;
}

/// Whether a user namespace, or one above it, was made by the user of these credentials in their own one:
/// entering it gives them nothing that they did not have (`cred_cap_issubset()`).
pub(super) fn is_owned_by(k: &Kernel, ns: NsId, creds: &Creds) -> bool {
    let mut at = ns;
    while at != USER {
        let parent = k.ns.owner(at);
        if parent == creds.user_ns && k.ns.user(at).owner == creds.euid {
            return true;
        }
        at = parent;
    }
    false
}

/// A map as a thread sees it (`/proc/PID/uid_map`). A namespace's own members see it from the parent.
pub(crate) fn show_map(k: &Kernel, reader: ThreadId, ns: NsId, of: Numbers) -> String {
    let own = k.tasks.get(reader).map_or(USER, |task| task.creds.user_ns);
    let from = if own == ns { k.ns.owner(ns) } else { own };
    let map = k.ns.user(ns).map(of);
    match ns {
        USER => map.show(&Map::identical()),
        _ => map.show(k.ns.user(from).map(of)),
    }
}

/// Who opened the file of a map: writes need the rights of both (a program with more rights may have been
/// given the file as its output).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Opener {
    pub creds: Creds,
    /// The user namespace whose map it is.
    pub of: NsId,
}

/// Sets a map once (`map_write()`). `EPERM`, `EINVAL`.
pub(crate) fn set_map(
    cx: &mut Cx<'_, '_>,
    opener: &Opener,
    of: Numbers,
    at: u64,
    text: &[u8],
) -> Result<(), Errno> {
    const LENGTH_MAX: usize = 4095;
    let (creds, ns) = (&opener.creds, opener.of);
    // Nobody is in one that has gone.
    if ns == USER || !cx.k.ns.exists(ns) {
        return Err(Errno::EPERM);
    }
    let parent = cx.k.ns.owner(ns);
    if ![ns, parent].contains(&creds.user_ns) {
        return Err(Errno::EPERM);
    }
    if at != 0 || text.len() > LENGTH_MAX {
        return Err(Errno::EINVAL);
    }
    if !cx.k.ns.user(ns).map(of).is_empty() {
        return Err(Errno::EPERM);
    }
    if of != Numbers::Projects && !capable(cx.k, creds, ns, g::CAP_SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    let new = Map::parse(text)?;
    if !is_permitted(cx.k, creds, cx.creds(), ns, of, &new) {
        return Err(Errno::EPERM);
    }
    let new = new.through(cx.k.ns.user(parent).map(of));
    let new = new.ok_or(Errno::EPERM)?;
    // It had none before.
    cx.k.ns.extents += new.len() as u64;
    let user = cx.k.ns.user_mut(ns);
    match of {
        Numbers::Users => user.uids = new,
        Numbers::Groups => user.gids = new,
        Numbers::Projects => user.projects = new,
    }
    Ok(())
}

/// Whether this map may be set (`new_idmap_permitted()`): one's own number alone, or any if opener and writer
/// have `CAP_SETUID` or `CAP_SETGID` in the parent.
fn is_permitted(
    k: &Kernel,
    creds: &Creds,
    writer: &Creds,
    ns: NsId,
    of: Numbers,
    new: &Map,
) -> bool {
    let parent = k.ns.owner(ns);
    let user = k.ns.user(ns);
    let cap = match of {
        Numbers::Users => g::CAP_SETUID,
        Numbers::Groups => g::CAP_SETGID,
        Numbers::Projects => return true,
    };
    let maps_root = new.extents().iter().any(|one| one.outside == 0);
    if of == Numbers::Users && maps_root {
        let may = match creds.user_ns == ns {
            true => user.could_setfcap,
            false => capable(k, creds, parent, g::CAP_SETFCAP),
        };
        if !may {
            return false;
        }
    }
    if let [one] = new.extents()[..]
        && one.count == 1
        && user.owner == creds.euid
    {
        let outside = k.ns.user(parent).map(of).outward(one.outside);
        let own = match of {
            Numbers::Users => outside == Some(creds.euid),
            _ => !user.setgroups && outside == Some(creds.egid),
        };
        if own {
            return true;
        }
    }
    capable(k, creds, parent, cap) && capable(k, writer, parent, cap)
}

/// Writes `/proc/PID/setgroups`: `deny` before groups are mapped, `allow` while it is allowed.
pub(crate) fn set_setgroups(k: &mut Kernel, ns: NsId, text: &[u8]) -> Result<(), Errno> {
    let word = text.trim_ascii_end();
    let user = k.ns.user_mut(ns);
    match word {
        b"allow" if user.setgroups => Ok(()),
        b"deny" if user.gids.is_empty() || !user.setgroups => {
            user.setgroups = false;
            Ok(())
        }
        b"allow" | b"deny" => Err(Errno::EPERM),
        _ => Err(Errno::EINVAL),
    }
}

/// Whether setgroups(2) may be used at all in a namespace.
pub(crate) fn allows_setgroups(k: &Kernel, ns: NsId) -> bool {
    let user = k.ns.user(ns);
    user.setgroups && !user.gids.is_empty()
}

/// The parent of a user namespace, or what another one belongs to, if it is `own` or below it
/// (`NS_GET_PARENT`, `NS_GET_USERNS`). `EPERM`.
pub(crate) fn above(k: &Kernel, own: NsId, ns: NsId) -> Result<NsId, Errno> {
    let above = k.ns.owner(ns);
    if k.ns.kind(ns) == Kind::User && ns == USER {
        return Err(Errno::EPERM);
    }
    let mut at = above;
    loop {
        match at {
            at if at == own => return Ok(above),
            USER => return Err(Errno::EPERM),
            _ => at = k.ns.owner(at),
        }
    }
}
