//! Path walk (path_resolution(7), openat2(2)).

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use smallvec::SmallVec;

use super::caller::Callers;
use super::d_path;
use super::dentry::{self, DentryId};
use super::mount::{HeldPath, MountFlags, PathRef, get_path, put_path};
use super::perm::{self, MAY_EXEC, Who};
use super::view::ViewOps;
use crate::abi::raw::general::{AT_FDCWD, S_IFDIR, S_IFLNK, S_ISVTX, S_IWOTH};
use crate::abi::{Errno, NAME_MAX, PATH_MAX};
use crate::args::{AtFlags, DirFd};
use crate::env::cx::Cx;
use crate::env::settings;
use crate::fs::filesystem::{Attr, InodeRef};
use crate::fs::inode::FsKind;
use crate::fs::{anon, inode};
use crate::machine::ThreadId;
use crate::port::Ports;
use crate::vfs::{Vfs, node};

/// So long a directory of the host on the way of a path is taken to be what it was: nanoseconds.
const HOST_NAMES_VALID: u64 = 100_000_000;
/// Most symbolic links in one walk (`MAXSYMLINKS`).
const MAX_LINKS: u32 = 40;
/// Steps that a walk takes at least before it is left off.
const LEAST: u64 = 1024;
/// Steps of asking a file system.
const SLOW: u64 = 16;

bitflags::bitflags! {
    /// How a path is walked.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub(crate) struct Flags: u32 {
        /// Follow a symbolic link that is the last component.
        const FOLLOW = 1;
        /// The result must be a directory.
        const DIRECTORY = 2;
        /// An empty path stands for the start itself (`AT_EMPTY_PATH`).
        const EMPTY_PATH = 4;
        /// `RESOLVE_NO_XDEV`
        const NO_XDEV = 8;
        /// `RESOLVE_NO_MAGICLINKS`
        const NO_MAGICLINKS = 16;
        /// `RESOLVE_NO_SYMLINKS`
        const NO_SYMLINKS = 32;
        /// `RESOLVE_BENEATH`
        const BENEATH = 64;
        /// `RESOLVE_IN_ROOT`
        const IN_ROOT = 128;
        /// `RESOLVE_CACHED`
        const CACHED = 256;
        /// Another place is kept without a reference meanwhile: no dentry may be dropped from the cache.
        const KEEP = 512;
    }
}

impl Flags {
    /// `FOLLOW` unless `AT_SYMLINK_NOFOLLOW` is in `at`, `EMPTY_PATH` if `AT_EMPTY_PATH` is.
    pub(crate) fn from_at(at: AtFlags) -> Flags {
        let mut flags = Flags::empty();
        flags.set(Flags::FOLLOW, !at.contains(AtFlags::SYMLINK_NOFOLLOW));
        flags.set(Flags::EMPTY_PATH, at.contains(AtFlags::EMPTY_PATH));
        flags
    }

    fn scoped(self) -> bool {
        self.intersects(Flags::BENEATH | Flags::IN_ROOT)
    }
}

/// The last component of a path whose directory was resolved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Last {
    Name(SmallVec<[u8; 64]>),
    Dot,
    DotDot,
    /// The path was `/` or nothing but slashes.
    Root,
}

/// Where a name is or is to be: a directory and the last component.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Without a reference of its own; valid until something is put.
    pub dir: PathRef,
    pub last: Last,
    /// Slashes follow the last component.
    pub slash: bool,
}

/// A walk: what stays the same over all its components.
pub(crate) struct Walker<'k, 'p, K> {
    pub k: &'k mut K,
    pub p: &'k mut Ports<'p>,
    pub who: Who,
    pub root: PathRef,
    pub flags: Flags,
    links: u32,
    /// Steps were used up among mounts that lie on each other: the place is not the topmost one yet.
    crossing: bool,
    /// The same on the way up.
    climbing: bool,
    /// The call that walks: it may be run again to go on with a walk that was left off.
    call: Option<ThreadId>,
}

/// Walks that have used up the steps of an input and go on at a later one, when their call runs again: by the
/// calling thread, and which of the walks of its handler it is.
#[derive(Debug, Default, Hash)]
pub(crate) struct Paused(BTreeMap<(ThreadId, u32), Checkpoint>);

/// How far a walk has come.
#[derive(Debug, Hash)]
struct Checkpoint {
    /// Where it began; the call may have been made to walk another path meanwhile.
    start: PathRef,
    path: Vec<u8>,
    at: HeldPath,
    rest: Vec<u8>,
    links: u32,
    crossing: bool,
    climbing: bool,
}

impl Paused {
    /// The places that are held, for invariant checks.
    pub(crate) fn held(&self) -> impl Iterator<Item = PathRef> + '_ {
        self.0.values().map(|checkpoint| *checkpoint.at)
    }
}

/// A call ends, or has done all its walks: how far they had come is of no use any more.
pub(crate) fn forget(k: &mut Vfs, p: &mut Ports<'_>, thread: ThreadId) {
    let own = (thread, 0)..=(thread, u32::MAX);
    while let Some((&key, _)) = k.walks.0.range(own.clone()).next() {
        if let Some(checkpoint) = k.walks.0.remove(&key) {
            put_path(k, p, checkpoint.at);
        }
    }
    d_path::forget(k, p, thread);
}

enum End {
    At(PathRef),
    Parent(Place),
}

/// Where a relative path starts.
fn start<K: Callers>(
    cx: &mut Cx<'_, '_, K>,
    at: DirFd,
    path: &[u8],
    flags: Flags,
) -> Result<PathRef, Errno> {
    if at.0 == AT_FDCWD || path.first() == Some(&b'/') && !flags.scoped() {
        return Ok(cx.start().cwd);
    }
    cx.k.place_of(cx.thread, at)
}

impl<'p, K: Callers> Cx<'_, 'p, K> {
    /// A walker for this task, and where its walk starts.
    pub(crate) fn walker<'k>(
        &'k mut self,
        at: DirFd,
        path: &[u8],
        flags: Flags,
    ) -> Result<(Walker<'k, 'p, K>, PathRef), Errno> {
        if path.is_empty() && !flags.contains(Flags::EMPTY_PATH) {
            return Err(Errno::ENOENT);
        }
        let who = self.who();
        self.walker_as(who, at, path, flags)
    }

    /// The same with other credentials.
    pub(crate) fn walker_as<'k>(
        &'k mut self,
        who: Who,
        at: DirFd,
        path: &[u8],
        flags: Flags,
    ) -> Result<(Walker<'k, 'p, K>, PathRef), Errno> {
        let start = start(self, at, path, flags)?;
        let root = self.start().root;
        if !flags.contains(Flags::KEEP) {
            dentry::trim(self.k.vfs_mut(), self.p);
        }
        let call = self.k.is_in_call(self.thread).then_some(self.thread);
        let walker = Walker::new(self.k, self.p, who, root, start, flags);
        Ok((Walker { call, ..walker }, start))
    }
}

/// What lies on top of a place, for the current task; without a reference.
pub(crate) fn topmost<K: Callers>(
    cx: &mut Cx<'_, '_, K>,
    place: PathRef,
) -> Result<PathRef, Errno> {
    let flags = Flags::EMPTY_PATH | Flags::KEEP;
    let (mut walker, _) = cx.walker(DirFd(AT_FDCWD), b"", flags)?;
    walker.topmost(place)
}

/// Resolves a path for the current task.
pub(crate) fn resolve<K: Callers>(
    cx: &mut Cx<'_, '_, K>,
    at: DirFd,
    path: &[u8],
    flags: Flags,
) -> Result<HeldPath, Errno> {
    let (mut walker, start) = cx.walker(at, path, flags)?;
    walker.resolve(start, path)
}

impl<'k, 'p, K: Callers> Walker<'k, 'p, K> {
    pub(crate) fn new(
        k: &'k mut K,
        p: &'k mut Ports<'p>,
        who: Who,
        root: PathRef,
        start: PathRef,
        flags: Flags,
    ) -> Walker<'k, 'p, K> {
        let root = if flags.scoped() { start } else { root };
        Walker {
            k,
            p,
            who,
            root,
            flags,
            links: 0,
            crossing: false,
            climbing: false,
            call: None,
        }
    }

    /// Resolves a whole path.
    pub(crate) fn resolve(&mut self, start: PathRef, path: &[u8]) -> Result<HeldPath, Errno> {
        let path = self.resolve_bare(start, path)?;
        Ok(get_path(self.k.vfs_mut(), path))
    }

    /// The same without a reference: valid until something is put.
    pub(crate) fn resolve_bare(&mut self, start: PathRef, path: &[u8]) -> Result<PathRef, Errno> {
        match self.run(start, path, false)? {
            End::At(path) => Ok(path),
            End::Parent(place) => Ok(place.dir), // Never given for a whole path.
        }
    }

    /// What lies on top of a place, without a reference.
    pub(crate) fn topmost(&mut self, place: PathRef) -> Result<PathRef, Errno> {
        self.crossing = true;
        self.resolve_bare(place, b"")
    }

    /// Resolves all but the last component. A symbolic link at the end is not looked at.
    pub(crate) fn parent(&mut self, start: PathRef, path: &[u8]) -> Result<Place, Errno> {
        match self.run(start, path, true)? {
            End::Parent(place) => Ok(place),
            End::At(dir) => Ok(Place {
                dir,
                last: Last::Root,
                slash: false,
            }),
        }
    }

    fn run(&mut self, start: PathRef, path: &[u8], parent: bool) -> Result<End, Errno> {
        let mut text = Cow::Borrowed(path);
        let mut at = 0;
        let mut cur = start;
        let own = self.ordinal();
        if let Some((place, rest)) = own.and_then(|key| self.go_on(key, start, path)) {
            (cur, text) = (place, Cow::Owned(rest));
        } else if path.first() == Some(&b'/') {
            cur = self.jump_to_root(start)?;
        }
        if core::mem::take(&mut self.crossing) {
            cur = self.cross_some(cur)?;
        }
        let mut goes_up = core::mem::take(&mut self.climbing);
        let begun = self.k.vfs().env.steps.spent();
        loop {
            if let Some(key) = own
                && (self.crossing
                    || self.climbing
                    || self.k.vfs().env.steps.left() == 0
                        && self.k.vfs().env.steps.spent() - begun >= LEAST)
            {
                self.leave_off(key, start, path, cur, &text[at..]);
                return Err(Errno::LATER);
            }
            self.k.vfs_mut().env.steps.spend(1);
            while text.get(at) == Some(&b'/') {
                at += 1;
            }
            if at == text.len() {
                break;
            }
            let rest = &text[at..];
            let len = rest
                .iter()
                .position(|&byte| byte == b'/')
                .unwrap_or(rest.len());
            let (name, behind) = rest.split_at(len);
            let slashes = behind.iter().take_while(|&&byte| byte == b'/').count();
            let slash = slashes > 0;
            let last = behind.len() == slashes;
            if !core::mem::take(&mut goes_up) {
                self.may_search(cur)?;
            }
            if last && parent {
                let last = match name {
                    b"." => Last::Dot,
                    b".." => Last::DotDot,
                    name => Last::Name(SmallVec::from_slice(name)),
                };
                return Ok(End::Parent(Place {
                    dir: cur,
                    last,
                    slash,
                }));
            }
            match name {
                b"." => {}
                b".." => {
                    cur = self.dot_dot(cur)?;
                    if self.climbing {
                        continue;
                    }
                    if self.crossing {
                        at += len;
                        continue;
                    }
                }
                name => {
                    let next = self.step(cur, name, last)?;
                    if self.crossing {
                        cur = next;
                        at += len;
                        continue;
                    }
                    let kind = self.k.vfs().dentries.at(next.dentry).kind();
                    if kind == S_IFLNK && (!last || slash || self.flags.contains(Flags::FOLLOW)) {
                        match self.follow(cur, next, last)? {
                            Link::Jump(path) => cur = path,
                            Link::Text(target) => {
                                if target.first() == Some(&b'/') {
                                    cur = self.jump_to_root(cur)?;
                                }
                                let mut longer = target;
                                longer.extend_from_slice(behind);
                                text = Cow::Owned(longer);
                                at = 0;
                                continue;
                            }
                        }
                    } else {
                        cur = next;
                    }
                }
            }
            if last {
                if slash && !self.is_dir(cur) {
                    return Err(Errno::ENOTDIR);
                }
                break;
            }
            at += len + slashes;
        }
        if self.flags.contains(Flags::DIRECTORY) && !parent && !self.is_dir(cur) {
            return Err(Errno::ENOTDIR);
        }
        Ok(End::At(cur))
    }

    /// Which walk of its call this is.
    fn ordinal(&mut self) -> Option<(ThreadId, u32)> {
        let thread = self.call?;
        Some((thread, self.k.count_walk(thread)?))
    }

    /// Where a walk that was left off goes on, and what is left of its path.
    fn go_on(
        &mut self,
        key: (ThreadId, u32),
        start: PathRef,
        path: &[u8],
    ) -> Option<(PathRef, Vec<u8>)> {
        let found = self.k.vfs().walks.0.get(&key)?;
        if (found.start, &found.path[..]) != (start, path) {
            return None;
        }
        (self.links, self.crossing) = (found.links, found.crossing);
        self.climbing = found.climbing;
        Some((*found.at, found.rest.clone()))
    }

    fn leave_off(
        &mut self,
        key: (ThreadId, u32),
        start: PathRef,
        path: &[u8],
        at: PathRef,
        rest: &[u8],
    ) {
        let checkpoint = Checkpoint {
            start,
            path: path.to_vec(),
            at: get_path(self.k.vfs_mut(), at),
            rest: rest.to_vec(),
            links: self.links,
            crossing: core::mem::take(&mut self.crossing),
            climbing: core::mem::take(&mut self.climbing),
        };
        if let Some(old) = self.k.vfs_mut().walks.0.insert(key, checkpoint) {
            put_path(self.k.vfs_mut(), self.p, old.at);
        }
    }

    fn is_dir(&self, path: PathRef) -> bool {
        self.k.vfs().dentries.at(path.dentry).kind() == S_IFDIR
    }

    fn jump_to_root(&self, from: PathRef) -> Result<PathRef, Errno> {
        if self.flags.contains(Flags::BENEATH)
            || self.flags.contains(Flags::NO_XDEV) && self.root.mount != from.mount
        {
            return Err(Errno::EXDEV);
        }
        Ok(self.root)
    }

    /// The directory must be one and be searchable.
    fn may_search(&mut self, dir: PathRef) -> Result<(), Errno> {
        let dentry = self.k.vfs().dentries.at(dir.dentry);
        if dentry.kind() != S_IFDIR {
            return Err(Errno::ENOTDIR);
        }
        if let Some(ino) = dentry.ino {
            let inode = InodeRef { fs: dentry.fs, ino };
            node::check_enter(self.k, &self.who, inode)?;
        }
        if dentry.mode & 0o111 == 0o111 && dentry.acl.is_none() {
            return Ok(());
        }
        let attr = dir_attr(self.k, self.p, dir.dentry)?;
        perm::permission(self.k.vfs(), &self.who, &attr, MAY_EXEC)
    }

    /// Goes up one directory, over mounts; or a part of the way if the walk can be left off.
    fn dot_dot(&mut self, mut cur: PathRef) -> Result<PathRef, Errno> {
        let begun = self.k.vfs().env.steps.spent();
        loop {
            if cur == self.root {
                return match self.flags.contains(Flags::BENEATH) {
                    true => Err(Errno::EXDEV),
                    false => Ok(cur),
                };
            }
            let mount = self.k.vfs().mounts.at(cur.mount);
            if cur.dentry != mount.root {
                break;
            }
            match mount.on {
                Some(_) if self.flags.contains(Flags::NO_XDEV) => return Err(Errno::EXDEV),
                Some(on) => cur = on,
                None => return Ok(cur),
            }
            self.k.vfs_mut().env.steps.spend(1);
            if self.is_used_up(begun) {
                self.climbing = true;
                return Ok(cur);
            }
        }
        let top = self.k.vfs().mounts.at(cur.mount).root;
        let dentries = &self.k.vfs().dentries;
        // Somebody may have moved the directory out of what a bind mount shows.
        if dentries.at(top).parent != top {
            let (is_below, levels) = dentries.levels_below(cur.dentry, top);
            self.k.vfs_mut().env.steps.spend(levels / 8);
            if !is_below {
                return Err(Errno::ENOENT);
            }
        }
        cur.dentry = self.k.vfs().dentries.at(cur.dentry).parent;
        self.cross_some(cur)
    }

    /// Goes to the root of what is mounted here.
    pub(crate) fn cross(&mut self, mut path: PathRef) -> Result<PathRef, Errno> {
        loop {
            path = self.cross_some(path)?;
            if !core::mem::take(&mut self.crossing) {
                return Ok(path);
            }
        }
    }

    /// The same, or a part of the way if the walk can be left off.
    fn cross_some(&mut self, mut path: PathRef) -> Result<PathRef, Errno> {
        let begun = self.k.vfs().env.steps.spent();
        while self.k.vfs().dentries.at(path.dentry).mounts > 0 {
            let Some(mount) = self.k.vfs().mounts.mounted_on(path) else {
                break;
            };
            if self.flags.contains(Flags::NO_XDEV) {
                return Err(Errno::EXDEV);
            }
            path = PathRef {
                mount,
                dentry: self.k.vfs().mounts.at(mount).root,
            };
            self.k.vfs_mut().env.steps.spend(1);
            if self.is_used_up(begun) {
                self.crossing = true;
                break;
            }
        }
        Ok(path)
    }

    /// Whether the walk can be left off, and the steps of the input are used up since it began with
    /// something.
    fn is_used_up(&self, begun: u64) -> bool {
        self.call.is_some()
            && self.k.vfs().env.steps.left() == 0
            && self.k.vfs().env.steps.spent() - begun >= LEAST
    }

    /// Goes down to an existing name, the `last` of the path or one on the way.
    fn step(&mut self, dir: PathRef, name: &[u8], last: bool) -> Result<PathRef, Errno> {
        let dentry = self.look_up(dir.dentry, name, last)?;
        if self.k.vfs().dentries.at(dentry).ino.is_none() {
            return Err(Errno::ENOENT);
        }
        self.cross_some(PathRef {
            mount: dir.mount,
            dentry,
        })
    }

    /// The dentry of a name, perhaps a negative one. No permission is checked, no mount crossed.
    pub(crate) fn lookup(&mut self, dir: DentryId, name: &[u8]) -> Result<DentryId, Errno> {
        self.look_up(dir, name, true)
    }

    fn look_up(&mut self, dir: DentryId, name: &[u8], last: bool) -> Result<DentryId, Errno> {
        if name.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let cached = self.k.vfs().dentries.find(dir, name);
        if let Some(id) = cached
            && self.is_valid(id, last)
        {
            return Ok(id);
        }
        if cached.is_none() && self.flags.contains(Flags::CACHED) {
            return Err(Errno::EAGAIN);
        }
        self.k.vfs_mut().env.steps.spend(SLOW);
        lookup_slow(self.k, self.p, &self.who, dir, name, cached)
    }

    /// Whether a cached name is as the file system has it. Directories of the host change without telling:
    /// the last name of a path is asked for each time, those on the way now and then.
    fn is_valid(&self, id: DentryId, last: bool) -> bool {
        let dentry = self.k.vfs().dentries.at(id);
        if dentry.fs == anon::FS || inode::kind(self.k.vfs(), dentry.fs) != FsKind::Union {
            return false;
        }
        let known_for = self.k.vfs().env.now.mono.saturating_sub(dentry.checked);
        !inode::changes_by_itself(self.k.vfs(), dentry.fs) || !last && known_for < HOST_NAMES_VALID
    }

    /// Where a symbolic link in `dir` leads.
    fn follow(&mut self, dir: PathRef, link: PathRef, last: bool) -> Result<Link, Errno> {
        self.links += 1;
        self.k.vfs_mut().env.steps.spend(SLOW);
        let flags = self.k.vfs().mounts.at(link.mount).flags;
        if self.links > MAX_LINKS
            || self.flags.contains(Flags::NO_SYMLINKS)
            || flags.contains(MountFlags::NOSYMFOLLOW)
        {
            return Err(Errno::ELOOP);
        }
        let inode = self
            .k
            .vfs()
            .dentries
            .inode(link.dentry)
            .ok_or(Errno::ENOENT)?;
        if last {
            self.may_follow(dir, inode)?;
        }
        if inode::kind(self.k.vfs(), inode.fs) == FsKind::Proc
            && let Some(path) = self.k.view_jump(&self.who, inode)?
        {
            if self.flags.contains(Flags::NO_MAGICLINKS) {
                return Err(Errno::ELOOP);
            }
            if self.flags.scoped()
                || self.flags.contains(Flags::NO_XDEV) && path.mount != link.mount
            {
                return Err(Errno::EXDEV);
            }
            return Ok(Link::Jump(path));
        }
        let target = node::read_link(self.k, self.p, &self.who, inode)?;
        match target.len() {
            0 => Err(Errno::ENOENT),
            PATH_MAX.. => Err(Errno::ENAMETOOLONG),
            _ => Ok(Link::Text(target)),
        }
    }

    /// `/proc/sys/fs/protected_symlinks`: links of others in sticky directories that all may write are not
    /// followed.
    fn may_follow(&mut self, dir: PathRef, link: InodeRef) -> Result<(), Errno> {
        let dentry = self.k.vfs().dentries.at(dir.dentry);
        let is_open = dentry.mode & (S_ISVTX | S_IWOTH) == S_ISVTX | S_IWOTH;
        if !is_open
            || !self
                .k
                .vfs()
                .env
                .settings
                .is_on(settings::PROTECTED_SYMLINKS)
        {
            return Ok(());
        }
        let owner = dentry.uid;
        let attr = node::attr(self.k, self.p, link)?;
        let own = self.who.creds().is_none_or(|creds| creds.fsuid == attr.uid);
        match own || owner == attr.uid {
            true => Ok(()),
            false => Err(Errno::EACCES),
        }
    }

    /// Follows a symbolic link that the caller found as the last component of a place, as far as the place
    /// that it leads to.
    pub(crate) fn follow_last(
        &mut self,
        place: &Place,
        link: PathRef,
    ) -> Result<FollowedTo, Errno> {
        match self.follow(place.dir, link, true)? {
            Link::Jump(path) => Ok(FollowedTo::Path(path)),
            Link::Text(mut target) => {
                if place.slash {
                    target.push(b'/');
                }
                let place = self.parent(place.dir, &target)?;
                Ok(FollowedTo::Place(place))
            }
        }
    }
}

enum Link {
    Jump(PathRef),
    Text(Vec<u8>),
}

/// What a symbolic link at the end of a path leads to.
pub(crate) enum FollowedTo {
    Path(PathRef),
    Place(Place),
}

/// What permission checks on a directory need. Kept in its dentry except in `proc`.
pub(crate) fn dir_attr<K: ViewOps>(
    k: &mut K,
    p: &mut Ports<'_>,
    dir: DentryId,
) -> Result<Attr, Errno> {
    let dentry = k.vfs().dentries.at(dir);
    if inode::kind(k.vfs(), dentry.fs) == FsKind::Proc {
        let inode = k.vfs().dentries.inode(dir).ok_or(Errno::ENOENT)?;
        return node::attr(k, p, inode);
    }
    Ok(Attr {
        mode: dentry.mode,
        uid: dentry.uid,
        gid: dentry.gid,
        acl: dentry.acl,
        flags: dentry.flags,
        ..Attr::default()
    })
}

/// Asks the file system for a name and caches the answer. `cached` is a dentry that may be stale (`proc`,
/// directories of the host).
fn lookup_slow<K: ViewOps>(
    k: &mut K,
    p: &mut Ports<'_>,
    who: &Who,
    dir: DentryId,
    name: &[u8],
    cached: Option<DentryId>,
) -> Result<DentryId, Errno> {
    let dir_inode = k.vfs().dentries.inode(dir).ok_or(Errno::ENOENT)?;
    if k.vfs().dentries.is_deleted(dir) {
        return Err(Errno::ENOENT);
    }
    let found = node::lookup(k, p, who, dir_inode, name);
    let now = k.vfs().env.now.mono;
    if let Some(id) = cached {
        let fs = dir_inode.fs;
        let union = inode::kind(k.vfs(), fs) == FsKind::Union;
        let same = match (found, k.vfs().dentries.at(id).ino) {
            (Ok(ino), Some(known)) => ino == known,
            (Err(Errno::ENOENT), None) => true,
            _ => false,
        };
        // What something is mounted on stays where it is.
        let held = union && k.vfs().dentries.at(id).mounts > 0;
        if same || held {
            if let (Ok(ino), true) = (found, union) {
                // The cached name has a reference already.
                inode::forget(k.vfs_mut(), p, InodeRef { fs, ino });
                if same && k.vfs().dentries.at(id).kind() == S_IFDIR {
                    let attr = node::attr(k, p, InodeRef { fs, ino })?;
                    k.vfs_mut().dentries.set_perm(id, &attr);
                }
            }
            k.vfs_mut().dentries.set_checked(id, now);
            return Ok(id);
        }
        // A process that is hidden is there all the same, and found once others have looked for it; its
        // directory lets nobody in.
        let inode = k.vfs().dentries.inode(id);
        if found.is_err() && inode.is_some_and(|inode| k.view_exists(inode)) {
            return Ok(id);
        }
        dentry::remove(k.vfs_mut(), p, id);
    }
    match found {
        Ok(ino) => {
            let inode = InodeRef {
                fs: dir_inode.fs,
                ino,
            };
            match node::attr(k, p, inode) {
                Ok(attr) => {
                    let id = k.vfs_mut().dentries.insert(dir, name, Some((ino, &attr)));
                    k.vfs_mut().dentries.set_checked(id, now);
                    Ok(id)
                }
                Err(errno) => {
                    inode::forget(k.vfs_mut(), p, inode);
                    Err(errno)
                }
            }
        }
        // Names that may come up at any time are not remembered as missing, and so cannot be made either.
        Err(Errno::ENOENT) if inode::kind(k.vfs(), dir_inode.fs) != FsKind::Proc => {
            Ok(k.vfs_mut().dentries.insert(dir, name, None))
        }
        Err(errno) => Err(errno),
    }
}
