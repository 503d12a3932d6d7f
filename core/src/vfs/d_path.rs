//! The way up: the path of a place, made from its end on (`fs/d_path.c` of Linux).

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::Vfs;
use super::dentry::DentryId;
use super::mount::{HeldPath, PathRef, get_path, put_path};
use crate::abi::{Errno, PATH_MAX};
use crate::fs::anon;
use crate::machine::ThreadId;
use crate::port::Ports;

/// Collects the names of a path from its end on, as long as they are not more than fit into one: trees can be
/// deeper than any path.
#[derive(Clone, Debug, Default, Hash)]
struct Names {
    /// Each with its slash, the bytes of all in reverse.
    text: Vec<u8>,
    count: u64,
}

impl Names {
    /// A step up over a name. `ENAMETOOLONG`.
    fn step(&mut self, k: &Vfs, name: DentryId) -> Result<(), Errno> {
        let name = &k.dentries.at(name).name;
        self.text.extend(name.iter().rev());
        self.text.push(b'/');
        self.count += 1;
        match self.text.len() {
            ..=PATH_MAX => Ok(()),
            _ => Err(Errno::ENAMETOOLONG),
        }
    }

    fn put(&self, text: &mut Vec<u8>) {
        match self.text.is_empty() {
            true => text.push(b'/'),
            false => text.extend(self.text.iter().rev()),
        }
    }
}

/// Where names that are collected upwards end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum UpTo {
    /// At the root directory.
    Root,
    /// At the root of the mount.
    Mount,
    /// At neither: the place was moved out of what its mount shows.
    Lost,
}

/// The names that lead to a place inside its mount.
pub(crate) struct NamesUp {
    pub end: UpTo,
    /// Each behind a slash.
    pub text: Vec<u8>,
    /// How many there are.
    pub levels: u64,
}

/// The names from the root of the mount, or from `root` if that is met first, to a place. `ENAMETOOLONG`.
pub(crate) fn names_up(k: &Vfs, root: PathRef, place: PathRef) -> Result<NamesUp, Errno> {
    let dentries = &k.dentries;
    let top = k.mounts.at(place.mount).root;
    let mut names = Names::default();
    let mut at = place;
    let end = loop {
        let parent = dentries.at(at.dentry).parent;
        if at == root {
            break UpTo::Root;
        } else if at.dentry == top {
            break UpTo::Mount;
        } else if parent == at.dentry {
            break UpTo::Lost;
        }
        names.step(k, at.dentry)?;
        at.dentry = parent;
    };
    let mut text = Vec::new();
    if names.count > 0 {
        names.put(&mut text);
    }
    let levels = names.count;
    Ok(NamesUp { end, text, levels })
}

/// The path of a dentry in its file system, as `/proc/PID/mountinfo` shows the root of a mount.
/// `ENAMETOOLONG`.
pub(crate) fn path_in_filesystem(k: &Vfs, dentry: DentryId) -> Result<Vec<u8>, Errno> {
    let dentries = &k.dentries;
    if dentries.at(dentry).fs == anon::FS {
        let ino = dentries.at(dentry).ino.unwrap_or(anon::ROOT);
        return Ok(anon::name(k, ino));
    }
    let mut names = Names::default();
    let mut at = dentry;
    while dentries.at(at).parent != at {
        names.step(k, at)?;
        at = dentries.at(at).parent;
    }
    let mut text = Vec::new();
    names.put(&mut text);
    if dentries.is_deleted(dentry) {
        text.extend_from_slice(b"//deleted");
    }
    Ok(text)
}

/// Mounts of one step on the way up.
const MOUNTS: u64 = 4;
/// How often a way up begins anew because mounts have changed.
const ANEW_MAX: u32 = 8;

/// A way up from a place to a root directory.
#[derive(Clone, Debug, Hash)]
struct WayUp {
    from: PathRef,
    root: PathRef,
    at: PathRef,
    names: Names,
    /// Mounts on the way.
    mounts: u64,
    /// Changes of mounts that there had been when it began, and how often it has begun anew.
    changes: u64,
    begun_anew: u32,
}

impl WayUp {
    fn new(k: &Vfs, root: PathRef, from: PathRef) -> WayUp {
        WayUp {
            from,
            root,
            at: from,
            names: Names::default(),
            mounts: 0,
            changes: k.mounts.changes_of_all(),
            begun_anew: 0,
        }
    }

    /// Goes on over so many mounts; the path at the end. `ENAMETOOLONG`.
    fn step(&mut self, k: &Vfs, most: u64) -> Result<Option<Vec<u8>>, Errno> {
        let dentries = &k.dentries;
        let end = self.mounts.saturating_add(most);
        let mut reachable = true;
        while self.at != self.root {
            let mount = k.mounts.at(self.at.mount);
            if self.at.dentry == mount.root {
                if self.mounts >= end {
                    return Ok(None);
                }
                self.mounts += 1;
                match mount.on {
                    Some(on) => self.at = on,
                    None => {
                        reachable = mount.is_internal();
                        break;
                    }
                }
                continue;
            }
            let parent = dentries.at(self.at.dentry).parent;
            if parent == self.at.dentry {
                // It was moved out of what its mount shows.
                reachable = false;
                break;
            }
            self.names.step(k, self.at.dentry)?;
            self.at.dentry = parent;
        }
        let mut text = Vec::new();
        if !reachable {
            text.extend_from_slice(b"(unreachable)");
        }
        self.names.put(&mut text);
        if dentries.is_deleted(self.from.dentry) {
            text.extend_from_slice(b" (deleted)");
        }
        Ok(Some(text))
    }
}

/// Ways up that have used up the steps of an input and go on at a later one, by the thread whose call asks
/// for the path, with the place that has been reached.
#[derive(Debug, Default, Hash)]
pub(crate) struct WaysUp(BTreeMap<ThreadId, (WayUp, HeldPath)>);

impl WaysUp {
    /// The places that are held, for invariant checks.
    pub(crate) fn held(&self) -> impl Iterator<Item = PathRef> + '_ {
        self.0.values().map(|(_, at)| **at)
    }
}

/// The name of what has none in a tree: a pipe, a socket.
fn name_of_its_own(k: &Vfs, path: PathRef) -> Option<Vec<u8>> {
    let ino = k.dentries.at(path.dentry).ino.unwrap_or(anon::ROOT);
    (path.mount == anon::MOUNT).then(|| anon::name(k, ino))
}

/// The path of a place as seen from `root` (the kernel's `d_path`): with ` (deleted)` behind it if its name
/// was removed, with `(unreachable)` before it if it is not below `root`. For a call of this thread; `LATER`
/// if there are too many mounts on the way for one input. `ENAMETOOLONG`.
pub(crate) fn path_of(
    k: &mut Vfs,
    p: &mut Ports<'_>,
    thread: ThreadId,
    root: PathRef,
    path: PathRef,
) -> Result<Vec<u8>, Errno> {
    if let Some(name) = name_of_its_own(k, path) {
        return Ok(name);
    }
    let mut way = WayUp::new(k, root, path);
    let left = k.ways_up.0.remove(&thread);
    let (left, held) = left.unzip();
    if let Some(left) = left.filter(|left| (left.root, left.from) == (root, path)) {
        // A way over mounts that are no longer the same is begun anew, but not for ever.
        match left.changes == way.changes || left.begun_anew >= ANEW_MAX {
            true => way = left,
            false => way.begun_anew = left.begun_anew + 1,
        }
    }
    let before = way.mounts;
    let most = k.env.steps.left().max(1) * MOUNTS;
    let found = way.step(k, most);
    k.env.steps.spend((way.mounts - before) / MOUNTS);
    if let Ok(None) = found {
        let at = get_path(k, way.at);
        k.ways_up.0.insert(thread, (way, at));
    }
    if let Some(held) = held {
        put_path(k, p, held);
    }
    found?.ok_or(Errno::LATER)
}

/// The same at once, however many mounts there are on the way, which are counted.
pub(crate) fn path_and_mounts(
    k: &Vfs,
    root: PathRef,
    path: PathRef,
    mounts: &mut u64,
) -> Result<Vec<u8>, Errno> {
    if let Some(name) = name_of_its_own(k, path) {
        return Ok(name);
    }
    let mut way = WayUp::new(k, root, path);
    let found = way.step(k, u64::MAX);
    *mounts += way.mounts;
    found.map(Option::unwrap_or_default)
}

/// A call ends: how far its way up had come is of no use any more.
pub(super) fn forget(k: &mut Vfs, p: &mut Ports<'_>, thread: ThreadId) {
    if let Some((_, at)) = k.ways_up.0.remove(&thread) {
        put_path(k, p, at);
    }
}
