//! Locks on files: flock(2), and record locks of fcntl(2) that belong to a process (descriptor table) or an
//! open file (`F_OFD_`).

mod record;
mod whole;
mod work;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use core::ops::Bound::{Included, Unbounded};

pub(crate) use record::Record;
use record::{Records, Waiters};
pub(crate) use whole::Mode;
use whole::Whole;
use work::{Work, Works};
pub(crate) use work::{clear_way, go_on, is_done, make_room};

use crate::abi::Errno;
use crate::cred::ns::{NsId, pid};
use crate::env::notice::Notice;
use crate::env::wait::WaitKey;
use crate::file;
use crate::file::fdtable::FdTableId;
use crate::file::{FileId, Files, lease};
use crate::fs::filesystem::{FsId, Ino, InodeRef};
use crate::machine::ThreadId;

/// Last byte of all files: a lock that reaches it ends nowhere.
const END: u64 = u64::MAX >> 1;
/// Most locks there can be.
const LOCKS_MAX: usize = 1 << 16;

/// To whom a record lock belongs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Owner {
    Process(FdTableId),
    File(FileId),
}

/// The order in which tasks began to wait.
type Place = u64;

#[derive(Clone, Debug, Default, Hash)]
struct FileLocks {
    whole: Whole,
    records: Records,
    waiters: Waiters,
}

impl FileLocks {
    fn len(&self) -> usize {
        self.whole.len() + self.records.len()
    }

    fn is_empty(&self) -> bool {
        self.len() == 0 && self.waiters.is_empty() && !self.whole.is_awaited()
    }
}

/// What a task waits for.
#[derive(Clone, Copy, Debug, Hash)]
enum Wanted {
    Record(Record),
    /// For which process.
    Whole(FileId, Mode, u32),
}

#[derive(Clone, Copy, Debug, Hash)]
struct Waiting {
    inode: InodeRef,
    place: Place,
    wanted: Wanted,
}

/// All locks.
///
/// Who gives a lock back gives it to those that can have it now, first come, first served: only they are
/// woken, so that a lock that goes round among many costs each of them one turn.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Locks {
    files: BTreeMap<InodeRef, FileLocks>,
    waiting: BTreeMap<ThreadId, Waiting>,
    /// Those that wait for record locks, by whose these would be.
    of_owner: BTreeSet<(Owner, InodeRef, record::Wanted, ThreadId)>,
    /// What goes on with the locks of files.
    works: BTreeMap<InodeRef, Works>,
    /// Those that have got what they waited for and do not know it yet.
    granted: BTreeMap<ThreadId, (InodeRef, Option<Record>)>,
    count: usize,
    places: Place,
}

impl Locks {
    pub(crate) fn new() -> Locks {
        Locks {
            files: BTreeMap::new(),
            waiting: BTreeMap::new(),
            of_owner: BTreeSet::new(),
            works: BTreeMap::new(),
            granted: BTreeMap::new(),
            count: 0,
            places: 0,
        }
    }

    /// Bytes that all locks take.
    pub(crate) fn held(&self) -> u64 {
        const LOCK_COST: u64 = 256;
        const FILE_COST: u64 = 2048;
        self.count as u64 * LOCK_COST + self.files.len() as u64 * FILE_COST
    }

    /// Whether no lock is held.
    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Works on the locks of a file, which are counted.
    fn work<R>(&mut self, inode: InodeRef, work: impl FnOnce(&mut FileLocks) -> R) -> R {
        let locks = self.files.entry(inode).or_default();
        let before = locks.len();
        let result = work(locks);
        self.count = self.count + locks.len() - before;
        if locks.is_empty() {
            self.files.remove(&inode);
        }
        result
    }

    /// A task begins to wait.
    fn begin(&mut self, thread: ThreadId, inode: InodeRef, wanted: Wanted) {
        self.leave(thread);
        let place = self.places;
        self.places += 1;
        let waiting = Waiting {
            inode,
            place,
            wanted,
        };
        self.waiting.insert(thread, waiting);
        let locks = self.files.entry(inode).or_default();
        match wanted {
            Wanted::Record(record) => {
                self.of_owner
                    .insert((record.owner, inode, record.wanted(), thread));
                locks.waiters.add(&record, place, thread);
            }
            Wanted::Whole(file, mode, _) => locks.whole.wait(file, mode, place, thread),
        }
    }

    /// A task does not wait any longer.
    fn leave(&mut self, thread: ThreadId) -> Option<Waiting> {
        let waiting = self.waiting.remove(&thread)?;
        let place = waiting.place;
        if let Wanted::Record(record) = waiting.wanted {
            self.of_owner
                .remove(&(record.owner, waiting.inode, record.wanted(), thread));
        }
        self.work(waiting.inode, |locks| match waiting.wanted {
            Wanted::Record(record) => locks.waiters.remove(&record, place, thread),
            Wanted::Whole(file, mode, _) => locks.whole.leave(file, mode, place),
        });
        Some(waiting)
    }

    /// Gives a task what it waits for, if nobody is in the way; or says who is. On success, what is to be
    /// done for that beside: the lock takes the place of many others of its owner, or of some of the other
    /// kind, which others may have waited for.
    fn grant(&mut self, thread: ThreadId) -> Result<Option<Work>, Option<Owner>> {
        let Some(&Waiting { inode, wanted, .. }) = self.waiting.get(&thread) else {
            return Err(None);
        };
        let (record, rest) = self.work(inode, |locks| match wanted {
            Wanted::Record(record) => match locks.records.blocker(&record) {
                Some(other) => Err(Some(other)),
                None if !work::is_small(locks, &record) => {
                    let work = Work::Change {
                        range: record,
                        add: true,
                        gone: false,
                    };
                    Ok((Some(record), Some(work)))
                }
                None => {
                    let Record { first, last, .. } = record;
                    let changed = locks.records.change(&record, true);
                    let rest = changed.then_some(Work::Grant { first, last });
                    Ok((Some(record), rest))
                }
            },
            Wanted::Whole(file, mode, _) => match locks.whole.take(file, mode) {
                true => Ok((None, None)),
                false => Err(None),
            },
        })?;
        self.leave(thread);
        self.granted.insert(thread, (inode, record));
        Ok(rest)
    }

    /// A thread of an owner that waits for a lock of a file.
    fn thread_for(
        &self,
        owner: Owner,
        inode: InodeRef,
        wanted: record::Wanted,
    ) -> Option<ThreadId> {
        let [first, last] = [0, u32::MAX].map(|id| (owner, inode, wanted, ThreadId(id)));
        let mut threads = self.of_owner.range(first..=last);
        threads.next().map(|&(.., thread)| thread)
    }

    /// A thread of an owner that waits.
    fn thread_of(&self, owner: Owner) -> Option<ThreadId> {
        const LEAST: InodeRef = InodeRef {
            fs: FsId(0),
            ino: Ino(0),
        };
        let least = (owner, LEAST, (0, 0, false), ThreadId(0));
        let next = self.of_owner.range(least..).next();
        next.filter(|(of, ..)| *of == owner)
            .map(|&(.., thread)| thread)
    }
}

/// A task does not wait any longer for a lock, if it did.
pub(crate) fn leave(k: &mut Files, thread: ThreadId) {
    if !k.locks.waiting.is_empty() {
        k.locks.leave(thread);
    }
}

/// A call ends without looking whether it has got a lock: the lock stays, as its owner's.
pub(crate) fn abandoned(k: &mut Files, thread: ThreadId) {
    k.locks.granted.remove(&thread);
}

/// Whether a task that waited for a lock has got it: on which file, and which, if it is a record lock.
pub(crate) fn granted(k: &mut Files, thread: ThreadId) -> Option<(InodeRef, Option<Record>)> {
    match k.locks.granted.is_empty() {
        true => None,
        false => k.locks.granted.remove(&thread),
    }
}

/// Gives the lock of a whole file to those that can have it now: some at once, many by and by.
fn grant_whole(k: &mut Files, inode: InodeRef) {
    if grant_some_whole(k, inode) {
        work::add(k, inode, Work::Whole);
    }
}

/// Gives it to some of them; whether there may be more.
fn grant_some_whole(k: &mut Files, inode: InodeRef) -> bool {
    const AT_ONCE: usize = 32;
    for _ in 0..AT_ONCE {
        let next = k.locks.files.get(&inode);
        let Some(thread) = next.and_then(|locks| locks.whole.next()) else {
            return false;
        };
        let waiting = k.locks.waiting.get(&thread);
        let wanted = waiting.map(|waiting| waiting.wanted);
        if k.locks.grant(thread).is_err() {
            return false;
        }
        if let Some(Wanted::Whole(file, _, tgid)) = wanted {
            file::at_mut(k, file).locker = tgid;
        }
        k.env.steps.spend(8);
        k.env.leave(Notice::Ready(thread));
    }
    true
}

/// flock(2): takes or converts (`Some`), or gives back (`None`) the lock of an open file.
/// `EWOULDBLOCK` if another one is in the way.
pub(crate) fn flock(
    k: &mut Files,
    inode: InodeRef,
    file: FileId,
    mode: Option<Mode>,
) -> Result<(), Errno> {
    let locks = &mut k.locks;
    if mode.is_some() && locks.count >= LOCKS_MAX {
        return Err(Errno::ENOLCK);
    }
    let held = locks
        .files
        .get(&inode)
        .and_then(|of| of.whole.held_by(file));
    if held == mode {
        return Ok(());
    }
    // A conversion gives the old lock up first, also when the new one cannot be had (flock(2)).
    let taken = locks.work(inode, |locks| {
        locks.whole.release(file);
        mode.is_none_or(|mode| locks.whole.take(file, mode))
    });
    if held.is_some() {
        grant_whole(k, inode);
    }
    match taken {
        true => Ok(()),
        false => Err(Errno::EAGAIN),
    }
}

/// A task is about to wait for the lock of a whole file.
pub(crate) fn wait_whole(
    k: &mut Files,
    thread: ThreadId,
    inode: InodeRef,
    file: FileId,
    mode: Mode,
    tgid: u32,
) {
    let wanted = Wanted::Whole(file, mode, tgid);
    k.locks.begin(thread, inode, wanted);
}

/// The first lock that is in the way of a record lock (`F_GETLK`).
pub(crate) fn conflict(k: &Files, inode: InodeRef, wanted: &Record) -> Option<Record> {
    let locks = k.locks.files.get(&inode)?;
    locks.records.first_conflict(wanted).copied()
}

/// Sets a record lock. `EAGAIN` if another one is in the way.
pub(crate) fn set(k: &mut Files, inode: InodeRef, wanted: Record) -> Result<(), Errno> {
    let locks = &mut k.locks;
    let known = locks.files.get(&inode);
    if known.is_some_and(|locks| locks.records.blocker(&wanted).is_some()) {
        return Err(Errno::EAGAIN);
    }
    if locks.count >= LOCKS_MAX {
        return Err(Errno::ENOLCK);
    }
    change(k, inode, &wanted, true);
    Ok(())
}

/// Takes the locks of an owner off a range of bytes.
pub(crate) fn clear(k: &mut Files, inode: InodeRef, range: &Record) {
    if k.locks.files.contains_key(&inode) {
        change(k, inode, range, false);
    }
}

/// Changes the locks of an owner: at once, if there are not many, else by and by, before anybody looks at
/// them.
fn change(k: &mut Files, inode: InodeRef, range: &Record, add: bool) {
    let locks = &mut k.locks;
    let is_small = |locks: &FileLocks| work::is_small(locks, range);
    if locks.works.contains_key(&inode) || locks.files.get(&inode).is_some_and(|of| !is_small(of)) {
        let work = Work::Change {
            range: *range,
            add,
            gone: false,
        };
        work::add(k, inode, work);
        return;
    }
    let changed = locks.work(inode, |locks| {
        locks.records.change(range, add) && !locks.waiters.is_empty()
    });
    if changed {
        let (first, last) = (range.first, range.last);
        work::add(k, inode, Work::Grant { first, last });
    }
}

/// Most owners that are asked for whom they wait (`MAX_DEADLK_ITERATIONS`).
const CHAIN_MAX: u32 = 11;

/// Notes that a task is about to wait for a record lock. `EDEADLK` if its owner waits, over a few others, for
/// this one.
pub(crate) fn wait(
    k: &mut Files,
    thread: ThreadId,
    inode: InodeRef,
    wanted: &Record,
) -> Result<(), Errno> {
    let blocker = |inode: InodeRef, wanted: &Record| {
        let locks = k.locks.files.get(&inode)?;
        locks.records.blocker(wanted)
    };
    // Whom somebody waits for whose lock is waited for.
    let behind = |owner: Owner| {
        let thread = k.locks.thread_of(owner)?;
        let waiting = k.locks.waiting.get(&thread)?;
        match &waiting.wanted {
            Wanted::Record(record) => blocker(waiting.inode, record),
            Wanted::Whole(..) => None,
        }
    };
    if matches!(wanted.owner, Owner::Process(_)) {
        let mut next = blocker(inode, wanted);
        for _ in 0..CHAIN_MAX {
            next = next.and_then(behind);
            if next == Some(wanted.owner) {
                return Err(Errno::EDEADLK);
            }
        }
    }
    let wanted = Wanted::Record(*wanted);
    k.locks.begin(thread, inode, wanted);
    Ok(())
}

/// A descriptor of a process was closed: its record locks on that file go (fcntl(2)).
pub(crate) fn closed(k: &mut Files, file: FileId, table: FdTableId) {
    if !k.locks.is_empty() {
        release(k, file, Owner::Process(table));
    }
}

/// An open file was closed for good.
pub(crate) fn released(k: &mut Files, file: FileId) {
    if !k.locks.is_empty() {
        release(k, file, Owner::File(file));
    }
}

fn release(k: &mut Files, file: FileId, owner: Owner) {
    let Ok(inode) = file::inode_of(k, file) else {
        return;
    };
    if !k.locks.files.contains_key(&inode) {
        return;
    }
    let whole = k.locks.work(inode, |locks| {
        owner == Owner::File(file) && locks.whole.release(file)
    });
    if let Some(range) = work::all_of(k, inode, owner) {
        let work = Work::Change {
            range,
            add: false,
            gone: true,
        };
        work::add(k, inode, work);
    }
    if whole {
        grant_whole(k, inode);
    }
}

/// Whether the indexes agree with the locks, and nobody waits for what could be had; for invariant checks.
/// `waits` says whether a thread waits for a key.
pub(crate) fn check(k: &Files, waits: impl Fn(ThreadId, WaitKey) -> bool) -> Result<(), String> {
    let locks = &k.locks;
    let (mut count, mut waiting) = (0, 0);
    for (inode, file) in &locks.files {
        count += file.len();
        if file.is_empty() || !file.records.is_indexed() {
            return Err(format!("the locks of {inode:?} are not known rightly"));
        }
        for (place, thread) in file.waiters.iter().chain(file.whole.waiting()) {
            waiting += 1;
            let known = locks.waiting.get(&thread);
            if known.is_none_or(|known| (known.inode, known.place) != (*inode, place)) {
                return Err(format!("{thread:?} waits for a lock of {inode:?}"));
            }
        }
        let goes_on = locks.works.contains_key(inode);
        if !goes_on && file.whole.next().is_some() {
            return Err(format!("somebody can have the lock of {inode:?}"));
        }
    }
    for (&thread, of) in &locks.waiting {
        let free = |record: &Record| {
            let file = locks.files.get(&of.inode);
            let goes_on = locks.works.contains_key(&of.inode);
            !goes_on && file.is_none_or(|file| file.records.blocker(record).is_none())
        };
        let parked = waits(thread, WaitKey::FileLock(of.inode));
        if !parked || matches!(&of.wanted, Wanted::Record(record) if free(record)) {
            return Err(format!("{thread:?} waits for a lock in vain: {of:?}"));
        }
    }
    match (count, waiting) == (locks.count, locks.waiting.len()) {
        true => Ok(()),
        false => Err(format!("{count} locks and {waiting} waiters are not all")),
    }
}

/// A place among all locks: of which file, and behind which of its locks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(crate) struct Position(Option<(InodeRef, Behind)>);

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
enum Behind {
    Whole(FileId),
    Record((Owner, u64)),
}

impl Position {
    pub(crate) const FIRST: Position = Position(None);
}

/// The lock behind a place, as a line of `/proc/locks` without its number (proc(5)), and its place. Locks of
/// processes that a PID namespace does not see are not shown there.
pub(crate) fn next_line(k: &Files, ns: NsId, at: Position) -> Option<(Position, Option<String>)> {
    let (inode, behind) = match at.0 {
        Some((inode, behind)) => (Some(inode), Some(behind)),
        None => (None, None),
    };
    let from = inode.map_or(Unbounded, Included);
    for (found, locks) in k.locks.files.range((from, Unbounded)) {
        let behind = behind.filter(|_| Some(*found) == inode);
        let held = match behind {
            None => locks.whole.behind(None),
            Some(Behind::Whole(file)) => locks.whole.behind(Some(file)),
            Some(Behind::Record(_)) => None,
        };
        if let Some(held) = held {
            let at = Position(Some((*found, Behind::Whole(held.0))));
            return Some((at, flock_line(k, ns, found, held)));
        }
        let last = match behind {
            Some(Behind::Record(last)) => Some(last),
            _ => None,
        };
        if let Some(record) = locks.records.behind(last) {
            let key = (record.owner, record.first);
            let at = Position(Some((*found, Behind::Record(key))));
            let gone = work::is_gone(k, *found, record.owner);
            let line = (!gone).then(|| record_line(k, ns, found, record));
            return Some((at, line.flatten()));
        }
    }
    None
}

/// A place among the locks of an open file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(crate) enum OfFile {
    /// None was shown.
    Begin,
    /// Its lock of the whole file was, and those up to a record.
    Records(Option<u64>),
    /// All were, its lease too.
    End,
}

impl OfFile {
    pub(crate) const FIRST: OfFile = OfFile::Begin;
}

/// The lock of an open file behind a place, as its `fdinfo` shows it, and its place.
pub(crate) fn next_of_file(
    k: &Files,
    file: FileId,
    ns: NsId,
    at: OfFile,
) -> Option<(OfFile, Option<String>)> {
    let inode = file::inode_of(k, file).ok()?;
    let locks = k.locks.files.get(&inode);
    let last = match at {
        OfFile::Begin => {
            let whole = locks.and_then(|locks| locks.whole.held_by(file));
            let line = whole.and_then(|held| flock_line(k, ns, &inode, (file, held)));
            return Some((OfFile::Records(None), line));
        }
        OfFile::Records(last) => last,
        OfFile::End => return None,
    };
    let owner = Owner::File(file);
    let first = last.map_or(Some(0), |last| last.checked_add(1));
    let mut records = locks
        .zip(first)
        .into_iter()
        .flat_map(|(locks, first)| locks.records.of_from(owner, first));
    match records.next() {
        Some(record) => {
            let at = OfFile::Records(Some(record.first));
            Some((at, record_line(k, ns, &inode, record)))
        }
        None => Some((OfFile::End, lease::line_of(k, ns, file))),
    }
}

/// The device and number of a file, as in `/proc/locks`.
pub(crate) fn place(inode: &InodeRef) -> String {
    format!("00:{:02x}:{}", inode.fs.0 + 1, inode.ino.0)
}

fn shown(mode: Mode) -> &'static str {
    match mode {
        Mode::Exclusive => "WRITE",
        Mode::Shared => "READ",
    }
}

fn flock_line(
    k: &Files,
    ns: NsId,
    inode: &InodeRef,
    (file, mode): (FileId, Mode),
) -> Option<String> {
    let pid = k.file(file).map_or(0, |file| file.locker);
    let pid = pid::show(k, ns, pid);
    let (mode, place) = (shown(mode), place(inode));
    (pid != 0).then(|| format!("FLOCK  ADVISORY  {mode} {pid} {place} 0 EOF"))
}

fn record_line(k: &Files, ns: NsId, inode: &InodeRef, record: &Record) -> Option<String> {
    let (kind, pid) = match record.owner {
        Owner::Process(_) => ("POSIX ", pid::show(k, ns, record.pid as u32) as i32),
        Owner::File(_) => ("OFDLCK", record.pid),
    };
    let last = match record.last {
        END.. => "EOF".into(),
        last => format!("{last}"),
    };
    let (first, mode, place) = (record.first, shown(record.mode()), place(inode));
    (pid != 0).then(|| format!("{kind} ADVISORY  {mode} {pid} {place} {first} {last}"))
}
