//! Signals of open files that can be read or written (`O_ASYNC`, `F_SETOWN`, `F_SETSIG` of fcntl(2);
//! `kill_fasync` of Linux).

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::file::pidfd::PidFd;
use crate::file::{FileId, FileKind, ready};
use crate::kernel::{Cx, WaitKey};
use crate::machine::ThreadId;
use crate::task::landlock::{Domain, Scopes};
use crate::task::signal::{self, SigInfo};
use crate::{Kernel, file};

/// Who gets the signals.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Owner {
    /// A process, or with `PidFd::thread` a thread.
    Task(PidFd),
    /// A process group.
    Group(u32),
}

/// Who gets the signals of a file, and by whose leave.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Recipient {
    pub owner: Owner,
    /// Real and effective user of who named the owner.
    uid: u32,
    euid: u32,
    /// What landlock(7) denies whoever named somebody else.
    domain: Option<Arc<Domain>>,
}

impl Recipient {
    /// An owner that the calling task names.
    pub(crate) fn named_by(cx: &Cx<'_, '_>, owner: Owner) -> Recipient {
        let creds = cx.creds();
        let own = matches!(owner, Owner::Task(task) if task.tgid == cx.task().tgid);
        Recipient {
            owner,
            uid: creds.uid,
            euid: creds.euid,
            domain: creds.landlock.clone().filter(|_| !own),
        }
    }

    /// `sigio_perm` of Linux.
    fn may_tell(&self, k: &Kernel, thread: ThreadId) -> bool {
        k.tasks.get(thread).is_some_and(|task| {
            let theirs = [task.creds.uid, task.creds.suid];
            let allowed =
                self.euid == 0 || theirs.contains(&self.euid) || theirs.contains(&self.uid);
            let domain = self.domain.as_ref();
            let other = task.creds.landlock.as_deref();
            allowed && !domain.is_some_and(|domain| domain.is_scoped(other, Scopes::SIGNAL))
        })
    }
}

/// The files with `O_ASYNC` by what their changes are announced as, each with the descriptor it was set
/// through.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Asyncs {
    files: BTreeMap<(WaitKey, FileId), i32>,
    /// Announcements of which not all have been told.
    under_way: BTreeMap<WaitKey, Telling>,
    /// What owners of single files have not been told yet.
    owed: BTreeMap<FileId, Owed>,
}

/// What the owner of a file is still to be told.
#[derive(Clone, Copy, Debug, Hash)]
struct Owed {
    fd: i32,
    /// Code and band of the signal.
    reason: (u32, u32),
    /// The next member, if the owner is a process group.
    member: u32,
    /// It came once more meanwhile: it goes round again.
    again: bool,
}

/// An announcement on its way through the files of a key.
#[derive(Clone, Copy, Debug, Hash)]
struct Telling {
    events: u16,
    /// The file that comes next, and if its owner is a process group, the next member.
    next: FileId,
    member: u32,
    /// Events that came meanwhile: they go round afterwards.
    again: u16,
}

impl Telling {
    fn new(events: u16) -> Telling {
        Telling {
            events,
            next: FileId(0),
            member: 0,
            again: 0,
        }
    }
}

/// Signals that an announcement sends at once.
const SENT_AT_ONCE: u32 = 64;

/// The key of a file that can send signals; `None` for those of kinds without `fasync` in Linux.
fn key(k: &Kernel, id: FileId) -> Option<WaitKey> {
    match file::at(k, id).kind {
        FileKind::Pipe(pipe) => Some(WaitKey::Pipe(pipe.0)),
        FileKind::Socket(socket) => Some(WaitKey::Socket(socket)),
        FileKind::Inotify(_) => Some(WaitKey::File(id)),
        _ => None,
    }
}

/// Whether a file can send signals.
pub(crate) fn is_able(k: &Kernel, id: FileId) -> bool {
    key(k, id).is_some()
}

/// Sets or clears `O_ASYNC` of a file that is able to; others stay as they are.
pub(crate) fn set(k: &mut Kernel, id: FileId, fd: i32, on: bool) {
    let Some(key) = key(k, id) else {
        return;
    };
    let file = file::at_mut(k, id);
    if (file.flags & g::FASYNC != 0) == on {
        return;
    }
    file.flags ^= g::FASYNC;
    match on {
        true => k.vfs.asyncs.files.insert((key, id), fd),
        false => k.vfs.asyncs.files.remove(&(key, id)),
    };
}

/// A file is closed: it tells nobody any more.
pub(crate) fn closed(k: &mut Kernel, id: FileId) {
    k.vfs.asyncs.owed.remove(&id);
    if file::at(k, id).flags & g::FASYNC != 0 {
        set(k, id, -1, false);
    }
}

/// Something came (poll events, [`ready::ANY`] if it is not known what): owners of files are told, some of
/// many later.
pub(crate) fn announce(k: &mut Kernel, key: WaitKey, events: u16) {
    if k.vfs.asyncs.files.is_empty() {
        return;
    }
    match k.vfs.asyncs.under_way.get_mut(&key) {
        Some(telling) => telling.again |= events,
        None => tell_some(k, key, Telling::new(events)),
    }
}

/// Goes on with announcements of which not all have been told; `false` if there are none.
pub(crate) fn go_on(k: &mut Kernel) -> bool {
    if let Some((id, owed)) = k.vfs.asyncs.owed.pop_first() {
        settle(k, id, owed, SENT_AT_ONCE);
        return true;
    }
    let Some((key, telling)) = k.vfs.asyncs.under_way.pop_first() else {
        return false;
    };
    tell_some(k, key, telling);
    true
}

/// Whether [`go_on`] has nothing to do.
pub(crate) fn is_done(k: &Kernel) -> bool {
    k.vfs.asyncs.under_way.is_empty() && k.vfs.asyncs.owed.is_empty()
}

/// Tells some owners of an announcement.
fn tell_some(k: &mut Kernel, key: WaitKey, mut now: Telling) {
    let mut left = SENT_AT_ONCE;
    let next = |k: &Kernel, first: FileId| {
        let range = (key, first)..=(key, FileId(u32::MAX));
        let next = k.vfs.asyncs.files.range(range).next();
        next.map(|(&(_, id), &fd)| (id, fd))
    };
    while let Some((id, fd)) = next(k, now.next) {
        if left == 0 {
            k.vfs.asyncs.under_way.insert(key, now);
            return;
        }
        left -= 1;
        k.steps.spend(8);
        if id != now.next {
            (now.next, now.member) = (id, 0);
        }
        let reason = reason(k, id, now.events);
        let member = reason.and_then(|reason| tell(k, id, fd, reason, now.member));
        match member {
            Some(member) => now.member = member,
            None => (now.next, now.member) = (FileId(id.0 + 1), 0),
        }
    }
    if now.again != 0 {
        k.vfs.asyncs.under_way.insert(key, Telling::new(now.again));
    }
}

/// What the owner of a file is told of events, if anything: code and band.
fn reason(k: &Kernel, id: FileId, events: u16) -> Option<(u32, u32)> {
    let concerns = ready::concerns(k.vfs.file(id)?);
    // What is not known is looked at: then only what can be read counts.
    let now = match events {
        ready::ANY => ready::of(k, ThreadId(0), id, 0) & !ready::OUT,
        events => events & concerns,
    };
    if now & ready::IN != 0 {
        Some((g::POLL_IN, g::POLLIN | g::POLLRDNORM))
    } else if now & ready::HUP != 0 {
        Some((g::POLL_HUP, g::POLLHUP | g::POLLERR))
    } else if now & ready::OUT != 0 {
        Some((g::POLL_OUT, g::POLLOUT | g::POLLWRNORM | g::POLLWRBAND))
    } else {
        None
    }
}

/// Tells the owner of a file, all members of the group that is: now, as far as steps are left, else by and
/// by.
pub(crate) fn tell_all(k: &mut Kernel, id: FileId, fd: i32, reason: (u32, u32)) {
    if let Some(owed) = k.vfs.asyncs.owed.get_mut(&id) {
        owed.again = true;
        return;
    }
    let owed = Owed {
        fd,
        reason,
        member: 0,
        again: false,
    };
    let most = SENT_AT_ONCE.min(u32::try_from(k.steps.left() / 8).unwrap_or(u32::MAX));
    settle(k, id, owed, most);
}

/// Tells at most so many members of what is owed; the rest stays owed.
fn settle(k: &mut Kernel, id: FileId, mut owed: Owed, most: u32) {
    for _ in 0..most {
        k.steps.spend(8);
        match tell(k, id, owed.fd, owed.reason, owed.member) {
            Some(member) => owed.member = member,
            None if owed.again => (owed.member, owed.again) = (0, false),
            None => return,
        }
    }
    k.vfs.asyncs.owed.insert(id, owed);
}

/// Tells the owner of a file, or the next member of the group that is: gives the one behind that.
fn tell(k: &mut Kernel, id: FileId, fd: i32, (code, band): (u32, u32), member: u32) -> Option<u32> {
    let file = file::at(k, id);
    let recipient = file.owner.clone()?;
    let info = match file.signal {
        0 => SigInfo::kernel(g::SIGIO as u8),
        signal => SigInfo::poll(signal as u8, code as i32, band, fd),
    };
    match recipient.owner {
        Owner::Task(task) => {
            if let Some(thread) = task.task(k).filter(|&thread| recipient.may_tell(k, thread)) {
                match task.thread {
                    Some(_) => send(|info| signal::queue_thread(k, thread, info), info),
                    None => send(|info| signal::queue_process(k, task.tgid, info), info),
                }
            }
            None
        }
        Owner::Group(pgid) => {
            let tgid = k.tasks.group_members_from(pgid, member).next()?;
            let leader = k.tasks.leader(tgid).map(|task| task.id);
            if leader.is_some_and(|thread| recipient.may_tell(k, thread)) {
                send(|info| signal::queue_process(k, tgid, info), info);
            }
            Some(tgid + 1)
        }
    }
}

/// Sends a signal; if no more real-time signals can be queued, SIGIO in its place (`send_sigio_to_task` of
/// Linux).
fn send(mut queue: impl FnMut(SigInfo) -> Result<(), Errno>, info: SigInfo) {
    if queue(info).is_err() {
        // SIGIO is not queued more than once, so that it does not fail.
        let _ = queue(SigInfo::kernel(g::SIGIO as u8));
    }
}

/// Whether the index holds open files that have `O_ASYNC`, each once; for invariant checks. One that open(2)
/// gave the flag has it without being here, as in Linux.
pub(crate) fn check(k: &Kernel) -> Result<(), String> {
    if let Some(id) = k
        .vfs
        .asyncs
        .owed
        .keys()
        .find(|&&id| k.vfs.file(id).is_none())
    {
        return Err(format!("{id:?} has an owner to be told, but is closed"));
    }
    let mut seen = BTreeSet::new();
    for &(at, id) in k.vfs.asyncs.files.keys() {
        let file = k.vfs.file(id);
        let told = file.is_some_and(|file| file.flags & g::FASYNC != 0);
        if !told || key(k, id) != Some(at) || !seen.insert(id) {
            return Err(format!("{id:?} is told of changes, but wants none"));
        }
    }
    Ok(())
}
