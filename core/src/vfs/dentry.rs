//! Dentries: names in directories and the inodes behind them, cached.
//!
//! A dentry lives while it has references: one for each [`HeldPath`](super::mount::HeldPath) and one for
//! each child dentry. Without references a dentry that can still be found by its name stays in a bounded LRU
//! list; others die at once and give the reference on their inode back. A dentry without an inode says that
//! there is no such name ("negative").

use alloc::boxed::Box;
use core::hash::{Hash, Hasher};

use hashbrown::HashTable;
use smallvec::SmallVec;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::abi::raw::general::S_IFMT;
pub(crate) use crate::env::ids::DentryId;
use crate::fs::acl::AclId;
use crate::fs::filesystem::{Attr, FsId, Ino, InodeRef};
use crate::fs::{anon, inode};
use crate::port::Ports;
use crate::slab::{Key, Keyed};
use crate::vfs::Vfs;

/// Most unreferenced dentries that stay cached.
pub(crate) const DCACHE_MAX: usize = 32768;

const NIL: DentryId = DentryId(Key::MOST);

/// A cached name.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Dentry {
    /// The directory; a root is its own parent. Stays when the name is removed.
    pub parent: DentryId,
    pub name: SmallVec<[u8; 32]>,
    pub fs: FsId,
    /// `None`: there is no such name.
    pub ino: Option<Ino>,
    /// File type and permissions, owner and group. Only the type is kept up to date for anything but
    /// directories.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub acl: Option<AclId>,
    /// Flags of chattr(1).
    pub flags: u32,
    /// When the file system was last asked for the name, where it may change by itself: nanoseconds since the
    /// boot.
    pub checked: u64,
    /// Mounts on top of this dentry.
    pub mounts: u32,
    /// Never gets a name (`O_TMPFILE | O_EXCL`).
    pub nameless: bool,
    refs: u32,
    /// Can be found by its name. Otherwise it is a root or its name was removed.
    hashed: bool,
    first_child: DentryId,
    next_sibling: DentryId,
    prev_sibling: DentryId,
    in_lru: bool,
    lru_next: DentryId,
    lru_prev: DentryId,
}

impl Dentry {
    /// File type (`S_IFMT`); 0 if negative.
    pub(crate) fn kind(&self) -> u32 {
        self.mode & S_IFMT
    }
}

/// Bytes that a name takes outside its dentry.
fn outside(name: &SmallVec<[u8; 32]>) -> u64 {
    match name.spilled() {
        true => name.capacity() as u64,
        false => 0,
    }
}

/// An entry of the index: the hash of the name in its directory, which is kept so that a table that grows
/// looks at nothing else.
#[derive(Clone, Debug)]
struct Slot {
    hash: u32,
    id: DentryId,
}

impl Slot {
    /// The hash for a table, which takes the place from its lower bits and a tag from the upper ones.
    fn wide(hash: u32) -> u64 {
        u64::from(hash) << 32 | u64::from(hash)
    }
}

/// Tables of the index. A table moves all that is in it when it grows: one of a million names would take
/// 20 ms for that. Each grows by itself, in a third of a millisecond where all together have as many.
const PARTS: usize = 256;

/// Dentries by directory and name: derived from them, never iterated. What stands where depends on a seed
/// that guests do not know, so they cannot choose names that come to the same place.
#[derive(Clone, Debug)]
struct Index {
    parts: Box<[HashTable<Slot>; PARTS]>,
    len: usize,
    seed: u64,
}

impl Index {
    fn new(seed: u64) -> Index {
        Index {
            parts: Box::new([const { HashTable::new() }; PARTS]),
            len: 0,
            seed,
        }
    }

    /// Hash of a name in a directory.
    fn hash(&self, parent: DentryId, name: &[u8]) -> u32 {
        let seed = self.seed ^ parent.0.get().wrapping_mul(0x9e37_79b9_7f4a_7c15);
        xxh3_64_with_seed(name, seed) as u32
    }

    /// The number of the table that a hash belongs to: bits that neither tags nor small tables use.
    fn part(hash: u32) -> usize {
        (hash >> 17) as usize % PARTS
    }

    fn find(&self, hash: u32, is_it: impl Fn(DentryId) -> bool) -> Option<DentryId> {
        let same = |slot: &Slot| slot.hash == hash && is_it(slot.id);
        let slot = self.parts[Index::part(hash)].find(Slot::wide(hash), same);
        slot.map(|slot| slot.id)
    }

    fn insert(&mut self, hash: u32, id: DentryId) {
        let part = &mut self.parts[Index::part(hash)];
        let slot = Slot { hash, id };
        part.insert_unique(Slot::wide(hash), slot, |slot| Slot::wide(slot.hash));
        self.len += 1;
    }

    fn remove(&mut self, hash: u32, id: DentryId) {
        let part = &mut self.parts[Index::part(hash)];
        if let Ok(found) = part.find_entry(Slot::wide(hash), |slot| slot.id == id) {
            found.remove();
            self.len -= 1;
        }
    }
}

/// All dentries.
#[derive(Debug)]
pub(crate) struct Dentries {
    slab: Keyed<Dentry>,
    index: Index,
    /// Bytes of the names that do not fit into their dentries.
    name_bytes: u64,
    /// Unreferenced dentries, least recently used first.
    lru_first: DentryId,
    lru_last: DentryId,
    lru_len: usize,
}

impl Hash for Dentries {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.slab.hash(state);
        (self.lru_first, self.lru_last).hash(state);
    }
}

impl Dentries {
    /// None yet. Where names are found depends on the seed; nothing else does.
    pub(crate) fn new(seed: u64) -> Dentries {
        Dentries {
            slab: Keyed::new(),
            index: Index::new(seed),
            name_bytes: 0,
            lru_first: NIL,
            lru_last: NIL,
            lru_len: 0,
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    /// Bytes of the names that do not fit into their dentries.
    pub(crate) fn name_bytes(&self) -> u64 {
        self.name_bytes
    }

    /// A dentry that the caller knows to be alive.
    pub(crate) fn at(&self, id: DentryId) -> &Dentry {
        self.slab.get(id.0).expect("dentry is referenced") // INVARIANT: ids keep a reference
    }

    fn at_mut(&mut self, id: DentryId) -> &mut Dentry {
        self.slab.get_mut(id.0).expect("dentry is referenced") // INVARIANT: ids keep a reference
    }

    pub(crate) fn set_perm(&mut self, id: DentryId, attr: &Attr) {
        let dentry = self.at_mut(id);
        (dentry.mode, dentry.uid, dentry.gid) = (attr.mode, attr.uid, attr.gid);
        (dentry.acl, dentry.flags) = (attr.acl, attr.flags);
    }

    /// The file system has just been asked for the name.
    pub(crate) fn set_checked(&mut self, id: DentryId, now: u64) {
        self.at_mut(id).checked = now;
    }

    /// The file behind this dentry never gets a name.
    pub(crate) fn set_nameless(&mut self, id: DentryId) {
        self.at_mut(id).nameless = true;
    }

    pub(crate) fn change_mounts(&mut self, id: DentryId, by: i32) {
        let dentry = self.at_mut(id);
        dentry.mounts = dentry.mounts.saturating_add_signed(by);
    }

    /// The inode behind a dentry.
    pub(crate) fn inode(&self, id: DentryId) -> Option<InodeRef> {
        let dentry = self.at(id);
        dentry.ino.map(|ino| InodeRef { fs: dentry.fs, ino })
    }

    /// Whether the name was removed (or never was).
    pub(crate) fn is_deleted(&self, id: DentryId) -> bool {
        let dentry = self.at(id);
        !dentry.hashed && dentry.parent != id
    }

    /// Whether `below` is `dir` or lies below it.
    pub(crate) fn is_below(&self, below: DentryId, dir: DentryId) -> bool {
        self.levels_below(below, dir).0
    }

    /// The same, and how many levels were looked at.
    pub(super) fn levels_below(&self, mut below: DentryId, dir: DentryId) -> (bool, u64) {
        let mut levels = 0;
        loop {
            if below == dir {
                return (true, levels);
            }
            let parent = self.at(below).parent;
            if parent == below {
                return (false, levels);
            }
            below = parent;
            levels += 1;
        }
    }

    /// A dentry and all above it.
    pub(super) fn ancestors(&self, id: DentryId) -> alloc::collections::BTreeSet<DentryId> {
        let mut found = alloc::collections::BTreeSet::from([id]);
        let mut at = id;
        while self.at(at).parent != at {
            at = self.at(at).parent;
            found.insert(at);
        }
        found
    }

    /// A root (or a nameless object) with one reference. Takes over a reference on the inode.
    pub(crate) fn new_root(&mut self, fs: FsId, ino: Ino, attr: &Attr) -> DentryId {
        let id = DentryId(self.slab.insert(Dentry {
            parent: NIL,
            name: SmallVec::new(),
            fs,
            ino: Some(ino),
            mode: attr.mode,
            uid: attr.uid,
            gid: attr.gid,
            acl: attr.acl,
            flags: attr.flags,
            checked: 0,
            mounts: 0,
            nameless: false,
            refs: 1,
            hashed: false,
            first_child: NIL,
            next_sibling: NIL,
            prev_sibling: NIL,
            in_lru: false,
            lru_next: NIL,
            lru_prev: NIL,
        }));
        self.at_mut(id).parent = id;
        id
    }

    /// The cached dentry of a name.
    pub(crate) fn find(&self, parent: DentryId, name: &[u8]) -> Option<DentryId> {
        self.index.find(self.index.hash(parent, name), |id| {
            let dentry = self.at(id);
            dentry.parent == parent && dentry.name[..] == *name
        })
    }

    /// Caches a name that is not cached yet, without a reference. Takes over a reference on the inode.
    pub(crate) fn insert(
        &mut self,
        parent: DentryId,
        name: &[u8],
        inode: Option<(Ino, &Attr)>,
    ) -> DentryId {
        let fs = self.at(parent).fs;
        let attr = inode.map(|(_, attr)| *attr).unwrap_or_default();
        let id = self.new_root(fs, Ino(0), &attr);
        let dentry = self.at_mut(id);
        dentry.ino = inode.map(|(ino, _)| ino);
        dentry.refs = 0;
        self.attach(id, parent, name);
        self.lru_push(id);
        id
    }

    /// A dentry that cannot be found by its name (`O_TMPFILE`), with one reference. Takes over a reference on
    /// the inode.
    pub(crate) fn insert_unnamed(
        &mut self,
        parent: DentryId,
        name: &[u8],
        ino: Ino,
        attr: &Attr,
    ) -> DentryId {
        let fs = self.at(parent).fs;
        let id = self.new_root(fs, ino, attr);
        self.attach(id, parent, name);
        self.unhash(id);
        id
    }

    /// Gives a negative dentry an inode. Takes over a reference on it.
    pub(crate) fn set_inode(&mut self, id: DentryId, ino: Ino, attr: &Attr) {
        self.at_mut(id).ino = Some(ino);
        self.set_perm(id, attr);
    }

    /// Takes a name out of the index: it is gone.
    pub(crate) fn unhash(&mut self, id: DentryId) {
        let dentry = self.at_mut(id);
        if core::mem::take(&mut dentry.hashed) {
            let dentry = self.at(id);
            let hash = self.index.hash(dentry.parent, &dentry.name);
            self.index.remove(hash, id);
        }
    }

    /// Moves a dentry to another name. What was cached there has been unhashed.
    pub(crate) fn rename(&mut self, id: DentryId, parent: DentryId, name: &[u8]) -> DentryId {
        self.unhash(id);
        let old = self.detach_from_parent(id);
        self.attach(id, parent, name);
        old
    }

    /// Exchanges the places of two dentries.
    pub(crate) fn exchange(&mut self, a: DentryId, b: DentryId) {
        let place = |dentry: &Dentry| (dentry.parent, dentry.name.clone());
        let (a_parent, a_name) = place(self.at(a));
        let (b_parent, b_name) = place(self.at(b));
        for id in [a, b] {
            self.unhash(id);
            self.detach_from_parent(id);
        }
        // Each directory loses and gets a child: put back what detaching took, as attaching counts again.
        self.attach(a, b_parent, &b_name);
        self.attach(b, a_parent, &a_name);
        for parent in [a_parent, b_parent] {
            self.at_mut(parent).refs -= 1;
        }
    }

    /// Links a dentry into its parent, which gets a reference, and into the index.
    fn attach(&mut self, id: DentryId, parent: DentryId, name: &[u8]) {
        let hash = self.index.hash(parent, name);
        self.index.insert(hash, id);
        let dir = self.at_mut(parent);
        dir.refs += 1;
        let sibling = core::mem::replace(&mut dir.first_child, id);
        if dir.refs == 1 {
            self.lru_remove(parent);
        }
        if sibling != NIL {
            self.at_mut(sibling).prev_sibling = id;
        }
        let dentry = self.at_mut(id);
        dentry.parent = parent;
        let old = core::mem::replace(&mut dentry.name, SmallVec::from_slice(name));
        let bytes = outside(&dentry.name);
        dentry.hashed = true;
        dentry.next_sibling = sibling;
        dentry.prev_sibling = NIL;
        self.name_bytes = self.name_bytes + bytes - outside(&old);
    }

    /// Takes a dentry out of its parent's list of children; the parent's reference is the caller's to put.
    fn detach_from_parent(&mut self, id: DentryId) -> DentryId {
        let dentry = self.at(id);
        let (parent, prev, next) = (dentry.parent, dentry.prev_sibling, dentry.next_sibling);
        match prev {
            NIL => self.at_mut(parent).first_child = next,
            prev => self.at_mut(prev).next_sibling = next,
        }
        if next != NIL {
            self.at_mut(next).prev_sibling = prev;
        }
        parent
    }

    fn lru_push(&mut self, id: DentryId) {
        let last = core::mem::replace(&mut self.lru_last, id);
        let dentry = self.at_mut(id);
        dentry.in_lru = true;
        dentry.lru_prev = last;
        dentry.lru_next = NIL;
        match last {
            NIL => self.lru_first = id,
            last => self.at_mut(last).lru_next = id,
        }
        self.lru_len += 1;
    }

    fn lru_remove(&mut self, id: DentryId) {
        let dentry = self.at_mut(id);
        if !core::mem::take(&mut dentry.in_lru) {
            return;
        }
        let (prev, next) = (dentry.lru_prev, dentry.lru_next);
        match prev {
            NIL => self.lru_first = next,
            prev => self.at_mut(prev).lru_next = next,
        }
        match next {
            NIL => self.lru_last = prev,
            next => self.at_mut(next).lru_prev = prev,
        }
        self.lru_len -= 1;
    }

    /// Takes a reference.
    pub(crate) fn get(&mut self, id: DentryId) {
        let dentry = self.at_mut(id);
        dentry.refs += 1;
        if dentry.in_lru {
            self.lru_remove(id);
        }
    }

    /// The root of a dentry's file system.
    pub(crate) fn top(&self, mut id: DentryId) -> DentryId {
        while self.at(id).parent != id {
            id = self.at(id).parent;
        }
        id
    }

    /// Number of references.
    pub(crate) fn refs(&self, id: DentryId) -> u32 {
        self.at(id).refs
    }

    /// All dentries, for invariant checks.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (DentryId, &Dentry)> {
        self.slab.iter().map(|(id, dentry)| (DentryId(id), dentry))
    }
}

/// Drops a reference. A dentry that nobody can find any more dies with its last one.
pub(crate) fn put(k: &mut Vfs, p: &mut Ports<'_>, mut id: DentryId) {
    loop {
        let dentries = &mut k.dentries;
        let dentry = dentries.at_mut(id);
        dentry.refs -= 1;
        if dentry.refs > 0 {
            // A namespace holds its own file.
            if dentry.refs == 1
                && dentry.fs == anon::FS
                && let Some(ns) = crate::vfs::object::namespace_at(k, id)
            {
                k.ns.let_go(ns);
            }
            return;
        }
        if dentry.hashed {
            dentries.lru_push(id);
            return;
        }
        match kill(k, p, id) {
            Some(parent) => id = parent,
            None => return,
        }
    }
}

/// Removes an unreferenced dentry and gives back its inode. The parent's reference is the caller's to put.
fn kill(k: &mut Vfs, p: &mut Ports<'_>, id: DentryId) -> Option<DentryId> {
    let dentries = &mut k.dentries;
    dentries.lru_remove(id);
    dentries.unhash(id);
    let parent = match dentries.at(id).parent {
        parent if parent == id => None,
        _ => Some(dentries.detach_from_parent(id)),
    };
    let dentry = dentries.slab.remove(id.0)?;
    dentries.name_bytes -= outside(&dentry.name);
    if let Some(ino) = dentry.ino {
        inode::forget(k, p, InodeRef { fs: dentry.fs, ino });
    }
    parent
}

/// Brings the cache back to its bound, or nearer to it: what many closes at once have left over takes several
/// calls. Called where no unreferenced dentry is in use.
pub(crate) fn trim(k: &mut Vfs, p: &mut Ports<'_>) {
    const MOST: usize = 2048;
    let over = k.dentries.lru_len.saturating_sub(DCACHE_MAX);
    let count = over.min(MOST);
    for _ in 0..count {
        let oldest = k.dentries.lru_first;
        if let Some(parent) = kill(k, p, oldest) {
            put(k, p, parent);
        }
    }
    k.env.steps.spend(count as u64);
}

/// Drops the unreferenced children of a directory (all of them, when it was removed: they are negative).
pub(crate) fn drop_children(k: &mut Vfs, p: &mut Ports<'_>, dir: DentryId) {
    let mut child = k.dentries.at(dir).first_child;
    while child != NIL {
        let dentry = k.dentries.at(child);
        let next = dentry.next_sibling;
        // A child without references has no children of its own.
        if dentry.refs == 0 && kill(k, p, child).is_some() {
            // The caller holds a reference on the directory: this is not the last one.
            k.dentries.at_mut(dir).refs -= 1;
        }
        child = next;
    }
}

/// The last mount of a file system has gone: drops a part of what is cached of it below its top, on which the
/// caller holds a reference; `false` if there was nothing.
pub(crate) fn drop_cached(k: &mut Vfs, p: &mut Ports<'_>, top: DentryId) -> bool {
    const MOST: usize = 64;
    let mut at = top;
    let mut dropped = 0;
    // From the leaves up: nobody holds a place in it any more.
    while dropped < MOST {
        let dentry = k.dentries.at(at);
        if dentry.first_child != NIL {
            at = dentry.first_child;
            k.env.steps.spend(1);
        } else if at == top || dentry.refs > 0 {
            break;
        } else if let Some(parent) = kill(k, p, at) {
            k.dentries.at_mut(parent).refs -= 1;
            k.env.steps.spend(4);
            dropped += 1;
            at = parent;
        }
    }
    debug_assert!(
        at == top || dropped > 0,
        "a place in a file system without mounts is held"
    );
    dropped > 0
}

/// Takes a name out of the cache: the dentry dies now or with its last reference.
pub(crate) fn remove(k: &mut Vfs, p: &mut Ports<'_>, id: DentryId) {
    if k.dentries.at(id).refs > 0 {
        k.dentries.unhash(id);
    } else if let Some(parent) = kill(k, p, id) {
        put(k, p, parent);
    }
}

impl Dentries {
    /// Whether index and LRU list agree with the dentries.
    pub(crate) fn check(&self) -> Result<(), alloc::string::String> {
        let mut unreferenced = 0;
        let mut hashed = 0;
        let mut name_bytes = 0;
        for (id, dentry) in self.iter() {
            if dentry.hashed {
                hashed += 1;
                if self.find(dentry.parent, &dentry.name) != Some(id) {
                    return Err(alloc::format!("{id:?} cannot be found by its name"));
                }
            } else if dentry.refs == 0 {
                return Err(alloc::format!("{id:?} has no name and no references"));
            }
            if (dentry.refs == 0) != dentry.in_lru {
                return Err(alloc::format!(
                    "{id:?} has {} references, in LRU: {}",
                    dentry.refs,
                    dentry.in_lru
                ));
            }
            unreferenced += usize::from(dentry.refs == 0);
            name_bytes += outside(&dentry.name);
        }
        if name_bytes != self.name_bytes {
            return Err(alloc::format!(
                "names take {name_bytes} bytes, {} are counted",
                self.name_bytes
            ));
        }
        let mut at = self.lru_first;
        let mut listed = 0;
        while at != NIL && listed <= unreferenced {
            listed += 1;
            at = self.at(at).lru_next;
        }
        if (unreferenced, unreferenced) != (self.lru_len, listed) || hashed != self.index.len {
            return Err(alloc::format!(
                "{unreferenced} unreferenced, {listed} listed, {} counted; {hashed} hashed, {} counted",
                self.lru_len,
                self.index.len
            ));
        }
        Ok(())
    }
}
