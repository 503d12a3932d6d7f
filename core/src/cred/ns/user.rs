//! User namespaces (user_namespaces(7)): numbers of users and groups, and what capabilities are about.
//!
//! Credentials, inodes and everything else in the kernel have the numbers of the first user namespace; system
//! calls translate where programs see or say them.

use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::cred::ns::count::{Account, Counted, Limits};
use crate::cred::ns::map::Map;
use crate::cred::ns::{Body, Kind, NsId, USER};
use crate::cred::{Base, CAP_LAST, Creds};
use crate::env::settings;

/// Deepest nesting below the first one.
const LEVEL_MAX: u32 = 32;
/// All capabilities.
pub(crate) const ALL_CAPS: u64 = (1 << (CAP_LAST + 1)) - 1;

/// A user namespace.
#[derive(Clone, Debug, Hash)]
pub(crate) struct UserNs {
    pub level: u32,
    /// User and group that made it.
    pub owner: u32,
    pub group: u32,
    pub uids: Map,
    pub gids: Map,
    pub projects: Map,
    /// setgroups(2) is allowed.
    pub setgroups: bool,
    /// Who made it had `CAP_SETFCAP` in the parent.
    pub could_setfcap: bool,
    /// How much each user in it may have.
    pub(crate) limits: Limits,
}

impl UserNs {
    /// The first one.
    pub(crate) fn first() -> UserNs {
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
    pub(crate) fn extents(&self) -> u64 {
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
pub(crate) fn show_uid(k: &Base, ns: NsId, uid: u32) -> u32 {
    show(k, ns, Numbers::Users, uid)
}

/// A group as a namespace sees it.
pub(crate) fn show_gid(k: &Base, ns: NsId, gid: u32) -> u32 {
    show(k, ns, Numbers::Groups, gid)
}

fn show(k: &Base, ns: NsId, of: Numbers, id: u32) -> u32 {
    match ns {
        USER => id,
        ns => k.ns.user(ns).map(of).inward(id).unwrap_or(overflow(k, of)),
    }
}

fn overflow(k: &Base, of: Numbers) -> u32 {
    let setting = match of {
        Numbers::Groups => settings::OVERFLOW_GROUP,
        _ => settings::OVERFLOW_USER,
    };
    k.env.settings.get(setting) as u32
}

/// What a group without a number in a namespace looks like.
pub(crate) fn overflow_gid(k: &Base) -> u32 {
    overflow(k, Numbers::Groups)
}

/// The user that a namespace means by a number. `u32::MAX` is none (and stays: it stands for "leave it").
/// `EINVAL`.
pub(crate) fn take_uid(k: &Base, ns: NsId, uid: u32) -> Result<u32, Errno> {
    take(k, ns, Numbers::Users, uid)
}

/// The group that a namespace means by a number.
pub(crate) fn take_gid(k: &Base, ns: NsId, gid: u32) -> Result<u32, Errno> {
    take(k, ns, Numbers::Groups, gid)
}

fn take(k: &Base, ns: NsId, of: Numbers, id: u32) -> Result<u32, Errno> {
    match (ns, id) {
        (USER, id) | (_, id @ u32::MAX) => Ok(id),
        (ns, id) => k.ns.user(ns).map(of).outward(id).ok_or(Errno::EINVAL),
    }
}

/// Whether a user and a group have numbers in a namespace.
pub(crate) fn is_mapped(k: &Base, ns: NsId, uid: u32, gid: u32) -> bool {
    if ns == USER {
        return true;
    }
    let user = k.ns.user(ns);
    user.uids.inward(uid).is_some() && user.gids.inward(gid).is_some()
}

/// Whether credentials have a capability over what belongs to a user namespace (`cap_capable()`).
pub(crate) fn capable(k: &Base, creds: &Creds, target: NsId, cap: u32) -> bool {
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

/// Whether there is room for a child of the user namespace of `creds`, which is looked at before the right to
/// make it. `ENOSPC`.
pub(crate) fn check_room(k: &Base, creds: &Creds) -> Result<(), Errno> {
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
pub(crate) fn create(k: &mut Base, creds: &mut Creds) -> Result<NsId, Errno> {
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
pub(crate) fn enter(creds: &mut Creds, ns: NsId) {
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
pub(crate) fn is_owned_by(k: &Base, ns: NsId, creds: &Creds) -> bool {
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

/// Who opened the file of a map: writes need the rights of both (a program with more rights may have been
/// given the file as its output).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Opener {
    pub creds: Creds,
    /// The user namespace whose map it is.
    pub of: NsId,
}

/// Whether this map may be set (`new_idmap_permitted()`): one's own number alone, or any if opener and writer
/// have `CAP_SETUID` or `CAP_SETGID` in the parent.
pub(crate) fn is_permitted(
    k: &Base,
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
pub(crate) fn set_setgroups(k: &mut Base, ns: NsId, text: &[u8]) -> Result<(), Errno> {
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
pub(crate) fn allows_setgroups(k: &Base, ns: NsId) -> bool {
    let user = k.ns.user(ns);
    user.setgroups && !user.gids.is_empty()
}

/// The parent of a user namespace, or what another one belongs to, if it is `own` or below it
/// (`NS_GET_PARENT`, `NS_GET_USERNS`). `EPERM`.
pub(crate) fn above(k: &Base, own: NsId, ns: NsId) -> Result<NsId, Errno> {
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
