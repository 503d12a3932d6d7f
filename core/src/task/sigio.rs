//! Signals to the owners of files (`O_ASYNC`, `F_SETOWN` of fcntl(2); `kill_fasync`, `send_sigio` of Linux):
//! what [`fasync`](crate::file::fasync) notes is told here, some of many later.

use crate::Kernel;
use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::cred::landlock::Scopes;
use crate::env::wait::WaitKey;
use crate::file::fasync::{News, Owed, Owner, Recipient, Telling};
use crate::file::ops;
use crate::file::{self, FileId, ready};
use crate::machine::ThreadId;
use crate::task::signal::{self, SigInfo};

/// Tells what happened since the last time.
pub(crate) fn tell_news(k: &mut Kernel) {
    if k.files.asyncs.news.is_empty() {
        return;
    }
    for news in core::mem::take(&mut k.files.asyncs.news) {
        match news {
            News::Came(key, events) => match k.files.asyncs.under_way.get_mut(&key) {
                Some(telling) => telling.again |= events,
                None => tell_some(k, key, Telling::new(events)),
            },
            News::Happened(id, ..) if k.files.file(id).is_none() => {}
            News::Happened(id, fd, reason) => tell_owner(k, id, fd, reason),
        }
    }
}

/// Tells the owner of a file, all members of the group that is: now, as far as steps are left, else by and
/// by.
fn tell_owner(k: &mut Kernel, id: FileId, fd: i32, reason: (u32, u32)) {
    if let Some(owed) = k.files.asyncs.owed.get_mut(&id) {
        owed.again = true;
        return;
    }
    let owed = Owed {
        fd,
        reason,
        member: 0,
        again: false,
    };
    let most = SENT_AT_ONCE.min(u32::try_from(k.env.steps.left() / 8).unwrap_or(u32::MAX));
    tell_members(k, id, owed, most);
}

/// Signals that an announcement sends at once.
const SENT_AT_ONCE: u32 = 64;

/// Goes on with announcements of which not all have been told; `false` if there are none.
pub(crate) fn go_on(k: &mut Kernel) -> bool {
    if let Some((id, owed)) = k.files.asyncs.owed.pop_first() {
        tell_members(k, id, owed, SENT_AT_ONCE);
        return true;
    }
    let Some((key, telling)) = k.files.asyncs.under_way.pop_first() else {
        return false;
    };
    tell_some(k, key, telling);
    true
}

/// Tells some owners of an announcement.
fn tell_some(k: &mut Kernel, key: WaitKey, mut now: Telling) {
    let mut left = SENT_AT_ONCE;
    let next = |k: &Kernel, first: FileId| {
        let range = (key, first)..=(key, FileId(u32::MAX));
        let next = k.files.asyncs.files.range(range).next();
        next.map(|(&(_, id), &fd)| (id, fd))
    };
    while let Some((id, fd)) = next(k, now.next) {
        if left == 0 {
            k.files.asyncs.under_way.insert(key, now);
            return;
        }
        left -= 1;
        k.env.steps.spend(8);
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
        k.files
            .asyncs
            .under_way
            .insert(key, Telling::new(now.again));
    }
}

/// What the owner of a file is told of events, if anything: code and band.
fn reason(k: &Kernel, id: FileId, events: u16) -> Option<(u32, u32)> {
    let concerns = ops::concerns(k.files.file(id)?);
    // What is not known is looked at: then only what can be read counts.
    let now = match events {
        ready::ANY => ops::ready(k, ThreadId(0), id, 0) & !ready::OUT,
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

/// Tells at most so many members of what is owed; the rest stays owed.
fn tell_members(k: &mut Kernel, id: FileId, mut owed: Owed, most: u32) {
    for _ in 0..most {
        k.env.steps.spend(8);
        match tell(k, id, owed.fd, owed.reason, owed.member) {
            Some(member) => owed.member = member,
            None if owed.again => (owed.member, owed.again) = (0, false),
            None => return,
        }
    }
    k.files.asyncs.owed.insert(id, owed);
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
            if let Some(thread) = task
                .task(k)
                .filter(|&thread| may_tell(k, &recipient, thread))
            {
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
            if leader.is_some_and(|thread| may_tell(k, &recipient, thread)) {
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

/// Whether an owner may be sent the signals of a file (`sigio_perm` of Linux).
fn may_tell(k: &Kernel, recipient: &Recipient, thread: ThreadId) -> bool {
    k.tasks.get(thread).is_some_and(|task| {
        let theirs = [task.creds.uid, task.creds.suid];
        let (uid, euid) = (recipient.uid, recipient.euid);
        let allowed = euid == 0 || theirs.contains(&euid) || theirs.contains(&uid);
        let domain = recipient.domain.as_ref();
        let other = task.creds.landlock.as_deref();
        allowed && !domain.is_some_and(|domain| domain.is_scoped(other, Scopes::SIGNAL))
    })
}
