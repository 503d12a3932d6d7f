//! Maps of user namespaces as programs read and write them (user_namespaces(7)), and what the calling task
//! may do in one.

use alloc::string::String;

use crate::Kernel;
use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::cred::ns::map::Map;
use crate::cred::ns::user::*;
use crate::cred::ns::{NsId, USER};
use crate::machine::ThreadId;
use crate::task::Cx;

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
