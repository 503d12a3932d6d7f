//! Locks on files: flock(2), and record locks of fcntl(2) that belong to a process (descriptor table) or an open file (`F_OFD_`).

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::fdtable::FdTableId;
use super::file::{self, FileId};
use super::filesystem::InodeRef;
use crate::Kernel;
use crate::abi::Errno;
use crate::kernel::WaitKey;
use crate::machine::ThreadId;
use crate::ns::{NsId, pid};

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

/// A record lock.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Record {
    pub owner: Owner,
    /// First and last byte; `u64::MAX >> 1` is the end of all files.
    pub first: u64,
    pub last: u64,
    pub exclusive: bool,
    /// Who set it (`l_pid`): -1 for an open file.
    pub pid: i32,
}

impl Record {
    fn overlaps(&self, other: &Record) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    fn conflicts(&self, other: &Record) -> bool {
        self.owner != other.owner && (self.exclusive || other.exclusive) && self.overlaps(other)
    }
}

#[derive(Clone, Debug, Default, Hash)]
struct FileLocks {
    /// flock(2): open file, exclusive.
    whole: Vec<(FileId, bool)>,
    records: Vec<Record>,
}

/// All locks.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Locks {
    files: BTreeMap<InodeRef, FileLocks>,
    /// Who waits for a record lock of whom; entries of tasks that no longer wait are passed over and dropped.
    pending: BTreeMap<ThreadId, (InodeRef, Owner, Owner)>,
    count: usize,
}

impl Locks {
    pub(crate) fn new() -> Locks {
        Locks {
            files: BTreeMap::new(),
            pending: BTreeMap::new(),
            count: 0,
        }
    }

    /// Whether no lock is held.
    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    fn recount(&mut self, inode: InodeRef, before: usize) {
        let Some(locks) = self.files.get(&inode) else {
            return;
        };
        let after = locks.whole.len() + locks.records.len();
        self.count = self.count + after - before;
        if after == 0 {
            self.files.remove(&inode);
        }
    }

    fn len(&self, inode: InodeRef) -> usize {
        self.files
            .get(&inode)
            .map_or(0, |locks| locks.whole.len() + locks.records.len())
    }
}

/// flock(2): takes, converts (`Some(exclusive)`) or gives back (`None`) the lock of an open file. `EWOULDBLOCK` if another one is in
/// the way.
pub(crate) fn flock(
    k: &mut Kernel,
    inode: InodeRef,
    file: FileId,
    exclusive: Option<bool>,
) -> Result<(), Errno> {
    let before = k.vfs.locks.len(inode);
    if exclusive.is_some() && k.vfs.locks.count >= LOCKS_MAX {
        return Err(Errno::ENOLCK);
    }
    if exclusive.is_none() && before == 0 {
        return Ok(());
    }
    let locks = k.vfs.locks.files.entry(inode).or_default();
    // A conversion gives the old lock up first, also when the new one cannot be had (flock(2)).
    let held = locks.whole.iter().position(|&(owner, _)| owner == file);
    if held.is_some_and(|index| Some(locks.whole[index].1) == exclusive) {
        return Ok(());
    }
    if let Some(index) = held {
        locks.whole.remove(index);
    }
    let mut result = Ok(());
    if let Some(exclusive) = exclusive {
        let conflict = locks.whole.iter().any(|&(_, other)| exclusive || other);
        match conflict {
            true => result = Err(Errno::EAGAIN),
            false => locks.whole.push((file, exclusive)),
        }
    }
    k.vfs.locks.recount(inode, before);
    if held.is_some() {
        k.wake(WaitKey::FileLock(inode));
    }
    result
}

/// The first lock that is in the way of a record lock (`F_GETLK`).
pub(crate) fn conflict(k: &Kernel, inode: InodeRef, wanted: &Record) -> Option<Record> {
    let locks = k.vfs.locks.files.get(&inode)?;
    locks
        .records
        .iter()
        .filter(|record| record.conflicts(wanted))
        .min_by_key(|record| record.first)
        .copied()
}

/// Sets a record lock. `EAGAIN` if another one is in the way.
pub(crate) fn set(k: &mut Kernel, inode: InodeRef, wanted: Record) -> Result<(), Errno> {
    if conflict(k, inode, &wanted).is_some() {
        return Err(Errno::EAGAIN);
    }
    if k.vfs.locks.count >= LOCKS_MAX {
        return Err(Errno::ENOLCK);
    }
    change(k, inode, &wanted, true);
    Ok(())
}

/// Takes the locks of an owner off a range of bytes.
pub(crate) fn clear(k: &mut Kernel, inode: InodeRef, range: &Record) {
    if k.vfs.locks.len(inode) > 0 {
        change(k, inode, range, false);
    }
}

fn change(k: &mut Kernel, inode: InodeRef, range: &Record, add: bool) {
    let before = k.vfs.locks.len(inode);
    let locks = k.vfs.locks.files.entry(inode).or_default();
    let mut added = *range;
    let mut kept = Vec::with_capacity(locks.records.len() + 2);
    for record in locks.records.drain(..) {
        if record.owner != range.owner {
            kept.push(record);
        } else if add
            && record.exclusive == range.exclusive
            && record.first <= added.last.saturating_add(1)
            && added.first <= record.last.saturating_add(1)
        {
            added.first = added.first.min(record.first);
            added.last = added.last.max(record.last);
        } else if record.overlaps(range) {
            if record.first < range.first {
                kept.push(Record {
                    last: range.first - 1,
                    ..record
                });
            }
            if record.last > range.last {
                kept.push(Record {
                    first: range.last + 1,
                    ..record
                });
            }
        } else {
            kept.push(record);
        }
    }
    if add {
        kept.push(added);
    }
    locks.records = kept;
    k.vfs.locks.recount(inode, before);
    k.wake(WaitKey::FileLock(inode));
}

/// Notes that a task is about to wait for the owner of a record lock. `EDEADLK` if that owner waits, over any number of others, for
/// this one.
pub(crate) fn wait(
    k: &mut Kernel,
    thread: ThreadId,
    inode: InodeRef,
    wanted: &Record,
) -> Result<(), Errno> {
    let Some(blocker) = conflict(k, inode, wanted).map(|record| record.owner) else {
        return Ok(());
    };
    let mut pending = core::mem::take(&mut k.vfs.locks.pending);
    pending.retain(|&thread, &mut (inode, ..)| {
        k.waiters(WaitKey::FileLock(inode)).any(|id| id == thread)
    });
    let mut next = blocker;
    // Each step goes to another owner; a chain longer than all waits goes round.
    for _ in 0..=pending.len() {
        if next == wanted.owner && matches!(wanted.owner, Owner::Process(_)) {
            k.vfs.locks.pending = pending;
            return Err(Errno::EDEADLK);
        }
        match pending.values().find(|&&(_, owner, _)| owner == next) {
            Some(&(_, _, behind)) => next = behind,
            None => break,
        }
    }
    pending.insert(thread, (inode, wanted.owner, blocker));
    k.vfs.locks.pending = pending;
    Ok(())
}

/// A descriptor of a process was closed: its record locks on that file go (fcntl(2)).
pub(crate) fn closed(k: &mut Kernel, file: FileId, table: FdTableId) {
    if !k.vfs.locks.is_empty() {
        release(k, file, Owner::Process(table));
    }
}

/// An open file was closed for good.
pub(crate) fn released(k: &mut Kernel, file: FileId) {
    if !k.vfs.locks.is_empty() {
        release(k, file, Owner::File(file));
    }
}

/// Each lock as a line of `/proc/locks` without its number (proc(5)); with `only`, those that belong to this open file, as its `fdinfo`
/// shows them.
/// Locks of processes that a PID namespace does not see are not shown there.
fn lines(k: &Kernel, only: Option<FileId>, ns: NsId) -> Vec<String> {
    let mut lines = Vec::new();
    for (inode, locks) in &k.vfs.locks.files {
        let place = format!("00:{:02x}:{}", inode.fs.0 + 1, inode.ino.0);
        let mode = |exclusive| if exclusive { "WRITE" } else { "READ" };
        for &(file, exclusive) in &locks.whole {
            if only.is_none_or(|only| only == file) {
                let pid = k.vfs.file(file).map_or(0, |file| file.locker);
                let pid = pid::show(k, ns, pid);
                if pid == 0 {
                    continue;
                }
                lines.push(format!(
                    "FLOCK  ADVISORY  {} {pid} {place} 0 EOF",
                    mode(exclusive)
                ));
            }
        }
        for record in &locks.records {
            let (kind, own) = match record.owner {
                Owner::Process(_) => ("POSIX ", None),
                Owner::File(file) => ("OFDLCK", Some(file)),
            };
            if only.is_some() && only != own {
                continue;
            }
            let last = match record.last {
                END.. => "EOF".into(),
                last => format!("{last}"),
            };
            let pid = match record.owner {
                Owner::Process(_) => pid::show(k, ns, record.pid as u32) as i32,
                Owner::File(_) => record.pid,
            };
            if pid == 0 {
                continue;
            }
            let (first, mode) = (record.first, mode(record.exclusive));
            lines.push(format!(
                "{kind} ADVISORY  {mode} {pid} {place} {first} {last}"
            ));
        }
    }
    lines
}

/// The text of `/proc/locks` as a PID namespace sees it.
pub(crate) fn all(k: &Kernel, ns: NsId) -> String {
    let lines = lines(k, None, ns).into_iter().enumerate();
    lines
        .map(|(index, line)| format!("{}: {line}\n", index + 1))
        .collect()
}

/// The lines that `fdinfo` of an open file has for its locks.
pub(crate) fn of_file(k: &Kernel, file: FileId, ns: NsId) -> String {
    if k.vfs.locks.is_empty() {
        return String::new();
    }
    let lines = lines(k, Some(file), ns).into_iter().enumerate();
    lines
        .map(|(index, line)| format!("lock:\t{}: {line}\n", index + 1))
        .collect()
}

fn release(k: &mut Kernel, file: FileId, owner: Owner) {
    let Ok(inode) = file::inode_of(k, file) else {
        return;
    };
    let before = k.vfs.locks.len(inode);
    let Some(locks) = k.vfs.locks.files.get_mut(&inode) else {
        return;
    };
    locks.records.retain(|record| record.owner != owner);
    if owner == Owner::File(file) {
        locks.whole.retain(|&(owner, _)| owner != file);
    }
    let changed = locks.whole.len() + locks.records.len() != before;
    k.vfs.locks.recount(inode, before);
    if changed {
        k.wake(WaitKey::FileLock(inode));
    }
}
