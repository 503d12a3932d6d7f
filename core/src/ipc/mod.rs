//! System V inter-process communication (sysvipc(7)): the objects of three kinds and what they have in
//! common: numbers, keys, owners, permissions.

pub(crate) mod limits;
pub(crate) mod message;
pub(crate) mod mqueue;
pub(crate) mod semaphore;
pub(crate) mod shm;

use crate::file::caller::FileCallers;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use core::ops::Bound::{Excluded, Unbounded};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::args::IpcGetFlags;
use crate::cred::Creds;
use crate::cred::ns::{NsId, user};
use crate::env::cx::Cx;
pub(crate) use crate::env::ids::ObjectId;
use crate::file::{FileId, Files};
use crate::port::Ports;

/// Numbers of one kind are this far apart for two objects in the same place (`IPCMNI`).
const PLACES: u32 = 32768;
/// Sequence numbers go up to this.
const SEQUENCES: u32 = 1 << 16;

pub(crate) const IPC_PRIVATE: i32 = 0;
pub(crate) const IPC_NOWAIT: u32 = 0o4000;
/// What a caller wants to do, as `ipcperms()` of Linux takes it.
pub(crate) const READ: u32 = 0o444;
pub(crate) const WRITE: u32 = 0o222;
const MODE: u32 = 0o777;

/// The objects of a namespace.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Objects {
    pub segments: Table<shm::Segment>,
    pub sets: Table<semaphore::Set>,
    /// How many semaphores all the sets have, and pages all the segments.
    semaphores: usize,
    pages: u64,
    pub queues: Table<message::Queue>,
    pub limits: limits::Limits,
}

impl Objects {
    fn len(&self) -> usize {
        self.segments.len() + self.sets.len() + self.queues.len()
    }
}

/// What is kept of the objects of all namespaces together.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Ipc {
    /// The objects of each namespace.
    namespaces: BTreeMap<NsId, Objects>,
    /// Segments by their files.
    files: BTreeMap<FileId, ObjectId>,
    /// Those whose makers are still there, by process. Others are nobody's.
    made: BTreeSet<(u32, FileId)>,
    undo: semaphore::Undo,
    /// Number of objects, and of semaphores.
    objects: usize,
    semaphores: usize,
    /// Bytes and number of messages.
    message_bytes: u64,
    messages: u64,
}

impl Ipc {
    /// The objects of a namespace.
    pub(crate) fn objects_of(&self, ns: NsId) -> &Objects {
        self.namespaces.get(&ns).expect("IPC namespace is in use") // INVARIANT: tasks name living ones
    }

    /// The objects of a namespace.
    pub(crate) fn objects_mut(&mut self, ns: NsId) -> &mut Objects {
        let objects = self.namespaces.get_mut(&ns);
        objects.expect("IPC namespace is in use") // INVARIANT: as above
    }

    /// The namespaces and what is in them.
    pub(crate) fn namespaces(&self) -> impl Iterator<Item = (NsId, &Objects)> {
        self.namespaces.iter().map(|(&ns, objects)| (ns, objects))
    }

    /// Only the first namespace, which is empty.
    pub(crate) fn new() -> Ipc {
        let mut ipc = Ipc::default();
        ipc.begin_namespace(crate::cred::ns::IPC);
        ipc
    }

    /// A namespace has been made.
    pub(crate) fn begin_namespace(&mut self, ns: NsId) {
        self.namespaces.insert(ns, Objects::default());
    }

    /// What the kernel holds for objects beside messages, by kind, in bytes.
    #[inline]
    pub(crate) fn held(&self) -> [(&'static str, u64); 2] {
        const OBJECT_COST: u64 = 384;
        const SEMAPHORE_COST: u64 = size_of::<semaphore::Semaphore>() as u64;
        let objects = self.objects as u64 * OBJECT_COST;
        [
            (
                "System V objects",
                objects + self.semaphores as u64 * SEMAPHORE_COST,
            ),
            ("adjustments of semaphores", self.undo.held()),
        ]
    }
}

/// Key, owner and permissions of an object.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Perm {
    pub key: i32,
    pub uid: u32,
    pub gid: u32,
    /// Who made it.
    pub cuid: u32,
    pub cgid: u32,
    pub mode: u32,
    pub seq: u32,
}

/// `struct ipc64_perm` of x86-64.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct PermRecord {
    pub key: i32,
    pub uid: u32,
    pub gid: u32,
    pub cuid: u32,
    pub cgid: u32,
    pub mode: u32,
    pub seq: u16,
    pad: [u16; 3],
    unused: [u64; 2],
}

impl Perm {
    pub(crate) fn new(creds: &Creds, key: i32, flags: IpcGetFlags) -> Perm {
        Perm {
            key,
            uid: creds.euid,
            gid: creds.egid,
            cuid: creds.euid,
            cgid: creds.egid,
            mode: flags.bits() & MODE,
            seq: 0,
        }
    }

    /// Whether a caller may do this with an object of its namespace. `EACCES`.
    pub(crate) fn check<K: FileCallers>(
        &self,
        cx: &Cx<'_, '_, K>,
        wanted: u32,
    ) -> Result<(), Errno> {
        let creds = cx.creds();
        let wanted = wanted >> 6 | wanted >> 3 | wanted;
        let granted = if [self.uid, self.cuid].contains(&creds.euid) {
            self.mode >> 6
        } else if creds.in_group(self.cgid) || creds.in_group(self.gid) {
            self.mode >> 3
        } else {
            self.mode
        };
        match wanted & !granted & 7 != 0 && !cx.capable_over(namespace(cx), g::CAP_IPC_OWNER) {
            true => Err(Errno::EACCES),
            false => Ok(()),
        }
    }

    /// Whether a caller may change or remove it. `EPERM`.
    pub(crate) fn check_owner<K: FileCallers>(&self, cx: &Cx<'_, '_, K>) -> Result<(), Errno> {
        let is_owner = [self.uid, self.cuid].contains(&cx.creds().euid);
        match is_owner || cx.capable_over(namespace(cx), g::CAP_SYS_ADMIN) {
            true => Ok(()),
            false => Err(Errno::EPERM),
        }
    }

    /// `IPC_SET`: a new owner and new permissions.
    pub(crate) fn set(&mut self, new: &NewPerm) {
        (self.uid, self.gid) = (new.uid, new.gid);
        self.mode = self.mode & !MODE | new.mode & MODE;
    }

    /// As the caller sees it.
    pub(crate) fn record<K: FileCallers>(&self, cx: &Cx<'_, '_, K>) -> PermRecord {
        let own = cx.creds().user_ns;
        let [uid, cuid] = [self.uid, self.cuid].map(|uid| user::show_uid(cx.k.files(), own, uid));
        let [gid, cgid] = [self.gid, self.cgid].map(|gid| user::show_gid(cx.k.files(), own, gid));
        PermRecord {
            key: self.key,
            uid,
            gid,
            cuid,
            cgid,
            mode: self.mode,
            seq: self.seq as u16,
            pad: [0; 3],
            unused: [0; 2],
        }
    }
}

/// Owner and permissions that a program sets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewPerm {
    uid: u32,
    gid: u32,
    mode: u32,
}

impl PermRecord {
    /// What the caller means by it. `EINVAL`.
    pub(crate) fn meant<K: FileCallers>(&self, cx: &Cx<'_, '_, K>) -> Result<NewPerm, Errno> {
        let own = cx.creds().user_ns;
        if self.uid == u32::MAX || self.gid == u32::MAX {
            return Err(Errno::EINVAL);
        }
        Ok(NewPerm {
            uid: user::take_uid(cx.k.files(), own, self.uid)?,
            gid: user::take_gid(cx.k.files(), own, self.gid)?,
            mode: self.mode,
        })
    }
}

/// An object of one kind.
pub(crate) trait Object {
    fn perm(&self) -> &Perm;
    fn perm_mut(&mut self) -> &mut Perm;
}

/// The objects of one kind, by their place; numbers are given out in order, each one once until all have
/// been.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Table<T> {
    objects: BTreeMap<u32, T>,
    keys: BTreeMap<i32, u32>,
    next: u32,
    seq: u32,
}

impl<T> Default for Table<T> {
    fn default() -> Table<T> {
        Table {
            objects: BTreeMap::new(),
            keys: BTreeMap::new(),
            next: 0,
            seq: 0,
        }
    }
}

impl<T: Object> Table<T> {
    pub(crate) fn len(&self) -> usize {
        self.objects.len()
    }

    /// Highest place that is taken; 0 if none is.
    pub(crate) fn highest(&self) -> u32 {
        self.objects.keys().next_back().copied().unwrap_or(0)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.objects.values()
    }

    /// The objects with their numbers.
    pub(crate) fn numbered(&self) -> impl Iterator<Item = (i32, &T)> {
        let objects = self.objects.iter();
        objects.map(|(&place, object)| (number(object.perm().seq, place), object))
    }

    /// The object behind a place: its own place and number.
    pub(crate) fn behind(&self, last: Option<u32>) -> Option<(u32, i32, &T)> {
        let from = last.map_or(Unbounded, Excluded);
        let (&place, object) = self.objects.range((from, Unbounded)).next()?;
        Some((place, number(object.perm().seq, place), object))
    }

    /// Adds an object: its number. `ENOSPC`.
    pub(crate) fn add(&mut self, mut object: T, most: usize) -> Result<i32, Errno> {
        if self.objects.len() >= most.min(PLACES as usize) {
            return Err(Errno::ENOSPC);
        }
        while self.objects.contains_key(&self.next) {
            self.step();
        }
        let place = self.next;
        object.perm_mut().seq = self.seq;
        if object.perm().key != IPC_PRIVATE {
            self.keys.insert(object.perm().key, place);
        }
        let id = number(self.seq, place);
        self.objects.insert(place, object);
        self.step();
        Ok(id)
    }

    fn step(&mut self) {
        self.next += 1;
        if self.next == PLACES {
            self.next = 0;
            self.seq = (self.seq + 1) % SEQUENCES;
        }
    }

    fn place(&self, id: i32) -> Result<u32, Errno> {
        let place = u32::try_from(id).map_err(|_| Errno::EINVAL)? % PLACES;
        let object = self.objects.get(&place).ok_or(Errno::EINVAL)?;
        match number(object.perm().seq, place) == id {
            true => Ok(place),
            false => Err(Errno::EINVAL),
        }
    }

    /// The object with a number. `EINVAL`.
    pub(crate) fn get(&self, id: i32) -> Result<&T, Errno> {
        let place = self.place(id)?;
        self.objects.get(&place).ok_or(Errno::EINVAL)
    }

    pub(crate) fn get_mut(&mut self, id: i32) -> Result<&mut T, Errno> {
        let place = self.place(id)?;
        self.objects.get_mut(&place).ok_or(Errno::EINVAL)
    }

    /// The object at a place and its number (`SHM_STAT` and its relatives). `EINVAL`.
    pub(crate) fn at(&self, place: i32) -> Result<(i32, &T), Errno> {
        let place = u32::try_from(place).map_err(|_| Errno::EINVAL)?;
        let object = self.objects.get(&place).ok_or(Errno::EINVAL)?;
        Ok((number(object.perm().seq, place), object))
    }

    /// Nobody finds an object by its key any more.
    pub(crate) fn forget_key(&mut self, id: i32) {
        if let Ok(object) = self.get_mut(id) {
            let key = core::mem::replace(&mut object.perm_mut().key, IPC_PRIVATE);
            self.keys.remove(&key);
        }
    }

    pub(crate) fn remove(&mut self, id: i32) -> Result<T, Errno> {
        self.forget_key(id);
        let place = self.place(id)?;
        self.objects.remove(&place).ok_or(Errno::EINVAL)
    }

    /// What a key and flags stand for (`ipcget` of Linux): the number of an object, or `None`: one is to be
    /// made. `EEXIST`, `ENOENT`, `EACCES`, and what `fits` says of the one that is there.
    pub(crate) fn find<K: FileCallers>(
        &self,
        cx: &Cx<'_, '_, K>,
        key: i32,
        flags: IpcGetFlags,
        fits: impl Fn(&T) -> Result<(), Errno>,
    ) -> Result<Option<i32>, Errno> {
        if key == IPC_PRIVATE {
            return Ok(None);
        }
        let Some(&place) = self.keys.get(&key) else {
            return match flags.contains(IpcGetFlags::CREAT) {
                false => Err(Errno::ENOENT),
                true => Ok(None),
            };
        };
        if flags.contains(IpcGetFlags::CREAT | IpcGetFlags::EXCL) {
            return Err(Errno::EEXIST);
        }
        let (id, object) = self.at(place as i32)?;
        fits(object)?;
        object.perm().check(cx, flags.bits())?;
        Ok(Some(id))
    }
}

/// The number of the object at a place.
fn number(seq: u32, place: u32) -> i32 {
    ((seq * PLACES + place) & i32::MAX as u32) as i32
}

/// The caller's namespace.
pub(crate) fn namespace<K: FileCallers>(cx: &Cx<'_, '_, K>) -> NsId {
    cx.caller().ipc
}

/// The object of the caller's namespace with a number.
pub(crate) fn object<K: FileCallers>(cx: &Cx<'_, '_, K>, id: i32) -> ObjectId {
    let ns = namespace(cx);
    ObjectId { ns, id }
}

/// The objects of the caller's namespace.
pub(crate) fn objects<'k, K: FileCallers>(cx: &'k Cx<'_, '_, K>) -> &'k Objects {
    cx.k.files().ipc.objects_of(namespace(cx))
}

pub(crate) fn objects_mut<'k, K: FileCallers>(cx: &'k mut Cx<'_, '_, K>) -> &'k mut Objects {
    let ns = namespace(cx);
    cx.k.files_mut().ipc.objects_mut(ns)
}

/// A namespace has gone: nobody is in it, and none of its segments is attached.
pub(crate) fn end_namespace(k: &mut Files, p: &mut Ports<'_>, ns: NsId) {
    let Some(objects) = k.ipc.namespaces.remove(&ns) else {
        return;
    };
    k.ipc.objects -= objects.len();
    for segment in objects.segments.iter() {
        k.ipc.files.remove(&segment.file);
        k.ipc.made.remove(&(segment.creator, segment.file));
        crate::file::put(k, p, segment.file);
    }
    k.ipc.semaphores -= objects.semaphores;
    k.ipc.undo.forget_namespace(ns);
    for queue in objects.queues.iter() {
        message::forget(k, queue);
    }
    mqueue::end_namespace(k, ns);
}

/// Seconds of `CLOCK_REALTIME`, as the objects keep times.
pub(crate) fn seconds(k: &Files) -> i64 {
    (k.env.now.real / 1_000_000_000) as i64
}

/// The process that calls.
pub(crate) fn caller<K: FileCallers>(cx: &Cx<'_, '_, K>) -> u32 {
    cx.caller().tgid
}

/// Bytes that are charged for what lies between processes: in pipes, sockets and message queues.
pub(crate) fn charged(k: &Files) -> u64 {
    let files = k;
    files.pipes.charged() + files.sockets.charged() + files.mqueues.held() + message::charged(k)
}

/// Whether counts are sums of what is there; for invariant checks. `exists` says whether there is a process.
pub(crate) fn check(k: &Files, exists: impl Fn(u32) -> bool) -> Result<(), String> {
    let (mut semaphores, mut messages, mut bytes) = (0, 0, 0);
    for (ns, objects) in k.ipc.namespaces() {
        let sets = objects.sets.iter();
        let own = sets.map(|set| set.semaphores.len()).sum::<usize>();
        if own != objects.semaphores {
            return Err(format!("{ns:?} has {own} semaphores"));
        }
        let pages = objects.segments.iter().map(shm::Segment::pages);
        if pages.sum::<u64>() != objects.pages {
            return Err(format!("the pages of segments of {ns:?} are counted wrong"));
        }
        semaphores += own;
        messages += objects.queues.iter().map(message::Queue::len).sum::<u64>();
        let queues = objects.queues.iter();
        bytes += queues.map(message::Queue::counted).sum::<u64>();
    }
    let counted = (k.ipc.semaphores, k.ipc.messages, k.ipc.message_bytes);
    if counted != (semaphores, messages, bytes) {
        return Err(format!(
            "{counted:?} semaphores, messages and bytes are counted, not {semaphores}, {messages}, {bytes}"
        ));
    }
    let objects = k.ipc.namespaces().map(|(_, objects)| objects.len());
    if objects.sum::<usize>() != k.ipc.objects {
        return Err(format!("{} objects are counted wrong", k.ipc.objects));
    }
    k.ipc.undo.check()?;
    shm::check(k, exists)
}
