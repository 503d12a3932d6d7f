//! What takes long with the record locks of a file goes on in pieces: many locks that are given back or
//! replaced together, and those who wait for them.
//!
//! Each file has a queue of such work. Who asks for record locks of the file lets that go on first
//! ([`clear_way`]), so nobody ever sees a part of a change.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::record::{self, Record};
use super::{FileLocks, LOCKS_MAX, Owner, Place, grant_some_whole};
use crate::env::notice::Notice;
use crate::file::Files;
use crate::fs::InodeRef;
use crate::machine::ThreadId;

/// Locks that are taken away at once.
const LOCKS_AT_ONCE: usize = 64;
/// Locks that are wanted and looked at by themselves; where there are more, all that wait are gone through.
const WANTED_AT_ONCE: usize = 64;
/// Those who wait that are looked at in one piece.
const WAITERS_AT_ONCE: usize = 16;
/// Steps of a lock that is set or taken away, of one that is looked for, and of a look at one who waits.
const LOCK_STEPS: u64 = 4;
const LOOK_STEPS: u64 = 2;
const PASS_STEPS: u64 = 1;
/// Steps after which what has just begun leaves off, also when no steps of the input are left.
const SMALL: u64 = 256;

/// Work on the locks of a file.
#[derive(Clone, Debug, Hash)]
pub(super) enum Work {
    /// The locks of an owner go from a range; then one is set there, if `add`. If `gone`, it is all that the
    /// owner has, who has given the file up.
    Change {
        range: Record,
        add: bool,
        gone: bool,
    },
    /// Those who wait for something in a range get what they can have.
    Grant { first: u64, last: u64 },
    /// The same for these wanted locks; the last comes first.
    Wanted(Vec<record::Wanted>),
    /// The same for all who wait behind a place, if what they wait for is in the range.
    All {
        first: u64,
        last: u64,
        behind: Option<Place>,
    },
    /// Those who wait for the lock of the whole file get it.
    Whole,
}

/// The work on a file, in turn.
pub(super) type Works = VecDeque<Work>;

/// Adds work on the locks of a file, and begins with it.
pub(super) fn add(k: &mut Files, inode: InodeRef, work: Work) {
    k.locks.works.entry(inode).or_default().push_back(work);
    let end = k.env.steps.spent() + k.env.steps.left().max(SMALL);
    while k.env.steps.spent() < end && step(k, inode) {}
}

/// Gets the work on the record locks of a file out of the way, and where there are too many locks all
/// of it; `false` if that goes on later.
pub(crate) fn clear_way(k: &mut Files, inode: InodeRef) -> bool {
    while k.locks.works.contains_key(&inode) {
        if k.env.steps.left() == 0 {
            return false;
        }
        step(k, inode);
    }
    make_room(k)
}

/// The same for what holds too many locks on any file.
pub(crate) fn make_room(k: &mut Files) -> bool {
    while k.locks.count >= LOCKS_MAX && !is_done(k) {
        if k.env.steps.left() == 0 {
            return false;
        }
        go_on(k);
    }
    true
}

/// A part of the work; `false` if there is none.
pub(crate) fn go_on(k: &mut Files) -> bool {
    let first = k.locks.works.first_key_value();
    let Some((&inode, _)) = first else {
        return false;
    };
    step(k, inode)
}

/// Whether [`go_on`] has nothing to do.
pub(crate) fn is_done(k: &Files) -> bool {
    k.locks.works.is_empty()
}

/// Whether an owner has given the file up: its locks are about to go.
pub(super) fn is_gone(k: &Files, inode: InodeRef, owner: Owner) -> bool {
    let mut works = k.locks.works.get(&inode).into_iter().flatten();
    works.any(|work| matches!(work, Work::Change { range, gone: true, .. } if range.owner == owner))
}

/// A part of the work on a file; `false` if there is none.
fn step(k: &mut Files, inode: InodeRef) -> bool {
    let works = k.locks.works.get_mut(&inode);
    let Some(work) = works.and_then(VecDeque::pop_front) else {
        k.locks.works.remove(&inode);
        return false;
    };
    let rest = match work {
        Work::Change { range, add, gone } => match change(k, inode, &range, add) {
            true => Some(Work::Grant {
                first: range.first,
                last: range.last,
            }),
            false => Some(Work::Change { range, add, gone }),
        },
        Work::Grant { first, last } => begin(k, inode, first, last),
        Work::Wanted(wanted) => grant(k, inode, wanted),
        Work::All {
            first,
            last,
            behind,
        } => pass(k, inode, (first, last), behind),
        Work::Whole => grant_some_whole(k, inode).then_some(Work::Whole),
    };
    if let Some(works) = k.locks.works.get_mut(&inode) {
        if let Some(rest) = rest {
            let grants = !matches!(rest, Work::Change { .. });
            let changes = works.iter();
            let changes = changes.take_while(|work| grants && matches!(work, Work::Change { .. }));
            let at = changes.count();
            works.insert(at, rest);
        } else if works.is_empty() {
            k.locks.works.remove(&inode);
        }
    }
    true
}

/// A part of a change; `true` after the last.
fn change(k: &mut Files, inode: InodeRef, range: &Record, add: bool) -> bool {
    if !k.locks.files.contains_key(&inode) {
        return true;
    }
    let (count, done) = k.locks.work(inode, |locks| {
        let records = &mut locks.records;
        let (count, last) = records.count_in(range, LOCKS_AT_ONCE);
        if count < LOCKS_AT_ONCE {
            records.change(range, add);
            return (count, true);
        }
        let last = last.min(range.last);
        records.change(&Record { last, ..*range }, false);
        (count, false)
    });
    k.env.steps.spend(LOCK_STEPS * (1 + count as u64));
    done
}

/// Whether a change is small enough to be made at once.
pub(super) fn is_small(locks: &FileLocks, range: &Record) -> bool {
    locks.records.count_in(range, LOCKS_AT_ONCE).0 < LOCKS_AT_ONCE
}

/// All that an owner has on a file, as one range.
pub(super) fn all_of(k: &Files, inode: InodeRef, owner: Owner) -> Option<Record> {
    let records = &k.locks.files.get(&inode)?.records;
    let (first, last) = records.ends_of(owner)?;
    Some(Record {
        owner,
        first,
        last,
        exclusive: false,
        pid: 0,
    })
}

/// Looks who wants something in a range.
fn begin(k: &mut Files, inode: InodeRef, first: u64, last: u64) -> Option<Work> {
    let waiters = &k.locks.files.get(&inode)?.waiters;
    if waiters.is_empty() {
        return None;
    }
    let work = match waiters.overlapping(first, last, WANTED_AT_ONCE) {
        Some(wanted) if wanted.is_empty() => return None,
        Some(wanted) => Work::Wanted(wanted),
        None => Work::All {
            first,
            last,
            behind: None,
        },
    };
    k.env.steps.spend(LOOK_STEPS);
    Some(work)
}

/// Gives locks to those who want the next of these; what is left.
fn grant(k: &mut Files, inode: InodeRef, mut wanted: Vec<record::Wanted>) -> Option<Work> {
    let next = *wanted.last()?;
    for _ in 0..WAITERS_AT_ONCE {
        if !grant_first(k, inode, next) {
            wanted.pop();
            break;
        }
        if changes_first(k, inode) {
            break;
        }
    }
    (!wanted.is_empty()).then_some(Work::Wanted(wanted))
}

/// Gives locks to some of those who wait; where to go on.
fn pass(
    k: &mut Files,
    inode: InodeRef,
    (first, last): (u64, u64),
    mut behind: Option<Place>,
) -> Option<Work> {
    for _ in 0..WAITERS_AT_ONCE {
        let waiters = &k.locks.files.get(&inode)?.waiters;
        let (place, wanted, is_first) = waiters.behind(behind)?;
        k.env.steps.spend(PASS_STEPS);
        // When the first of those who want the same cannot have it, the others need not be asked.
        let concerns = is_first && wanted.0 <= last && first <= wanted.1;
        match concerns && grant_first(k, inode, wanted) {
            true if changes_first(k, inode) => break,
            true => {}
            false => behind = Some(place),
        }
    }
    Some(Work::All {
        first,
        last,
        behind,
    })
}

/// Whether a change has to be through before anybody gets anything.
fn changes_first(k: &Files, inode: InodeRef) -> bool {
    let works = k.locks.works.get(&inode);
    let next = works.and_then(VecDeque::front);
    matches!(next, Some(Work::Change { .. }))
}

/// Gives a lock to the first of those who want it; if that one cannot have it, to one of the threads of who
/// is in its way. Whether anybody got it.
fn grant_first(k: &mut Files, inode: InodeRef, wanted: record::Wanted) -> bool {
    let waiters = k.locks.files.get(&inode).map(|locks| &locks.waiters);
    let Some(thread) = waiters.and_then(|waiters| waiters.first(wanted)) else {
        return false;
    };
    match try_grant(k, inode, thread) {
        Ok(()) => true,
        Err(None) => false,
        // Another thread of who has it may wait, too.
        Err(Some(holder)) => {
            let thread = k.locks.thread_for(holder, inode, wanted);
            thread.is_some_and(|thread| try_grant(k, inode, thread).is_ok())
        }
    }
}

/// Gives one who waits what it wants; or says who is in the way.
fn try_grant(k: &mut Files, inode: InodeRef, thread: ThreadId) -> Result<(), Option<Owner>> {
    k.env.steps.spend(LOOK_STEPS);
    let rest = k.locks.grant(thread)?;
    k.env.steps.spend(LOCK_STEPS);
    k.env.leave(Notice::Ready(thread));
    let works = k.locks.works.entry(inode).or_default();
    match rest {
        // Before anybody else gets anything.
        Some(work @ Work::Change { .. }) => works.push_front(work),
        // Each time fewer wait.
        Some(work) => works.push_back(work),
        None => {}
    }
    Ok(())
}
