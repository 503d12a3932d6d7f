//! Signals of open files that can be read or written (`O_ASYNC`, `F_SETOWN`, `F_SETSIG` of fcntl(2);
//! `kill_fasync` of Linux).

use crate::file::caller::FileCallers;
use crate::file::ops;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::args::OpenFlags;
use crate::cred::landlock::Domain;
use crate::env::cx::Cx;
use crate::env::wait::WaitKey;
use crate::file;
use crate::file::pidfd::PidFd;
use crate::file::{FileId, Files};

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
    pub uid: u32,
    pub euid: u32,
    /// What landlock(7) denies whoever named somebody else.
    pub domain: Option<Arc<Domain>>,
}

impl Recipient {
    /// An owner that the calling task names.
    pub(crate) fn named_by<K: FileCallers>(cx: &Cx<'_, '_, K>, owner: Owner) -> Recipient {
        let creds = cx.creds();
        let own = matches!(owner, Owner::Task(task) if task.tgid == cx.caller().tgid);
        Recipient {
            owner,
            uid: creds.uid,
            euid: creds.euid,
            domain: creds.landlock.clone().filter(|_| !own),
        }
    }
}

/// The files with `O_ASYNC` by what their changes are announced as, each with the descriptor it was set
/// through.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Asyncs {
    pub files: BTreeMap<(WaitKey, FileId), i32>,
    /// Announcements of which not all have been told.
    pub under_way: BTreeMap<WaitKey, Telling>,
    /// What owners of single files have not been told yet.
    pub owed: BTreeMap<FileId, Owed>,
    /// What happened in this input, in order: whoever knows tasks tells them (`task/sigio.rs`).
    pub news: Vec<News>,
}

/// What owners of files are to be told.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) enum News {
    /// These poll events came to the files of a key.
    Came(WaitKey, u16),
    /// Something happened to one file: the descriptor, code and band of the signal.
    Happened(FileId, i32, (u32, u32)),
}

/// What the owner of a file is still to be told.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct Owed {
    pub fd: i32,
    /// Code and band of the signal.
    pub reason: (u32, u32),
    /// The next member, if the owner is a process group.
    pub member: u32,
    /// It came once more meanwhile: it goes round again.
    pub again: bool,
}

/// An announcement on its way through the files of a key.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct Telling {
    pub events: u16,
    /// The file that comes next, and if its owner is a process group, the next member.
    pub next: FileId,
    pub member: u32,
    /// Events that came meanwhile: they go round afterwards.
    pub again: u16,
}

impl Telling {
    pub(crate) fn new(events: u16) -> Telling {
        Telling {
            events,
            next: FileId(0),
            member: 0,
            again: 0,
        }
    }
}

/// Whether a file can send signals.
pub(crate) fn is_able(k: &Files, id: FileId) -> bool {
    ops::signal_key(k, id).is_some()
}

/// Sets or clears `O_ASYNC` of a file that is able to; others stay as they are.
pub(crate) fn set(k: &mut Files, id: FileId, fd: i32, on: bool) {
    let Some(key) = ops::signal_key(k, id) else {
        return;
    };
    let file = file::at_mut(k, id);
    if file.flags.contains(OpenFlags::ASYNC) == on {
        return;
    }
    file.flags.toggle(OpenFlags::ASYNC);
    match on {
        true => k.asyncs.files.insert((key, id), fd),
        false => k.asyncs.files.remove(&(key, id)),
    };
}

/// A file is closed: it tells nobody any more.
pub(crate) fn closed(k: &mut Files, id: FileId) {
    k.asyncs.owed.remove(&id);
    if file::at(k, id).flags.contains(OpenFlags::ASYNC) {
        set(k, id, -1, false);
    }
}

/// Something came (poll events, [`ANY`](crate::file::ready::ANY) if it is not known what): owners of files
/// are told, some of many later.
pub(crate) fn announce(k: &mut Files, key: WaitKey, events: u16) {
    let asyncs = &mut k.asyncs;
    if asyncs.files.is_empty() {
        return;
    }
    match asyncs.news.last_mut() {
        Some(News::Came(last, all)) if *last == key => *all |= events,
        _ => asyncs.news.push(News::Came(key, events)),
    }
    k.env.left = true;
}

/// Whether [`sigio::go_on`](crate::task::sigio::go_on) has nothing to do.
pub(crate) fn is_done(k: &Files) -> bool {
    k.asyncs.under_way.is_empty() && k.asyncs.owed.is_empty() && k.asyncs.news.is_empty()
}

/// Something happened to a file: its owner is told, all members of the group that is.
pub(crate) fn tell_all(k: &mut Files, id: FileId, fd: i32, reason: (u32, u32)) {
    k.asyncs.news.push(News::Happened(id, fd, reason));
    k.env.left = true;
}

/// Whether the index holds open files that have `O_ASYNC`, each once; for invariant checks. One that open(2)
/// gave the flag has it without being here, as in Linux.
pub(crate) fn check(k: &Files) -> Result<(), String> {
    if let Some(id) = k.asyncs.owed.keys().find(|&&id| k.file(id).is_none()) {
        return Err(format!("{id:?} has an owner to be told, but is closed"));
    }
    let mut seen = BTreeSet::new();
    for &(at, id) in k.asyncs.files.keys() {
        let file = k.file(id);
        let told = file.is_some_and(|file| file.flags.contains(OpenFlags::ASYNC));
        if !told || ops::signal_key(k, id) != Some(at) || !seen.insert(id) {
            return Err(format!("{id:?} is told of changes, but wants none"));
        }
    }
    Ok(())
}
