//! Signals for what happens in directories (`F_NOTIFY` of fcntl(2), dnotify of Linux). The older relative of
//! inotify hears of the same events.

use crate::file::caller::FileCallers;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::args::{DirNotify, InotifyMask};
use crate::env::cx::Cx;
use crate::env::settings;
use crate::file;
use crate::file::fasync::{Owner, Recipient};
use crate::file::{FdTableId, FileId, FileKind, Files, fasync, inotify};
use crate::fs::filesystem::InodeRef;

/// Most entries of a directory: an event looks at all of them.
const OF_A_DIRECTORY: usize = 1024;
/// Bytes that an entry takes.
const ENTRY_COST: u64 = 128;
/// What inotify has no event for: a name that another one of the same directory becomes.
const RENAMED: InotifyMask = InotifyMask::from_bits_retain(1 << 31);
/// The events of each `DN_` bit.
const EVENTS: [(DirNotify, InotifyMask); 6] = [
    (DirNotify::ACCESS, inotify::ACCESS),
    (DirNotify::MODIFY, inotify::MODIFY),
    (DirNotify::CREATE, inotify::CREATE.union(inotify::MOVED_TO)),
    (
        DirNotify::DELETE,
        inotify::DELETE.union(inotify::MOVED_FROM),
    ),
    (DirNotify::RENAME, RENAMED),
    (DirNotify::ATTRIB, inotify::ATTRIB),
];

/// What is to be told, and once or (`DN_MULTISHOT`) again and again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Notice {
    fd: i32,
    events: InotifyMask,
    again: bool,
}

/// Directories that signals are sent for: one for each open file and table of descriptors.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Notices(BTreeMap<(InodeRef, FileId, FdTableId), Notice>);

impl Notices {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is to be told of a directory.
    fn of(&self, dir: InodeRef) -> impl Iterator<Item = (FileId, FdTableId, Notice)> + '_ {
        let from = (dir, FileId(0), FdTableId(0));
        let to = (dir, FileId(u32::MAX), FdTableId(u32::MAX));
        let all = self.0.range(from..=to);
        all.map(|(&(_, file, table), &notice)| (file, table, notice))
    }

    /// Bytes that all entries take.
    pub(crate) fn held(&self) -> u64 {
        self.0.len() as u64 * ENTRY_COST
    }
}

/// `F_NOTIFY`: adds to what a descriptor is told of; nothing ends it. `ENOTDIR`, `ENOMEM`; `EINVAL` if
/// that is switched off (`/proc/sys/fs/dir-notify-enable`).
pub(crate) fn set<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    id: FileId,
    fd: i32,
    asked: DirNotify,
) -> Result<(), Errno> {
    if !cx.k.files().env.settings.is_on(settings::DIRECTORY_SIGNALS) {
        return Err(Errno::EINVAL);
    }
    let table = cx.caller().files;
    if DirNotify::MULTISHOT.contains(asked) {
        closed(cx.k.files_mut(), id, table);
        return Ok(());
    }
    let file = file::at(cx.k.files(), id);
    let inode = match (&file.kind, file.inode) {
        (FileKind::Directory, Some(inode)) => inode,
        _ => return Err(Errno::ENOTDIR),
    };
    let owned = file.owner.is_some();
    let known = cx.k.files().notices.0.contains_key(&(inode, id, table));
    if !known && cx.k.files().notices.of(inode).count() >= OF_A_DIRECTORY {
        return Err(Errno::ENOMEM);
    }
    if !owned {
        let process = cx.k.process(cx.caller().tgid);
        let recipient = process.map(|task| Recipient::named_by(cx, Owner::Task(task)));
        file::at_mut(cx.k.files_mut(), id).owner = recipient;
    }
    let bits = EVENTS.iter().filter(|(bit, _)| asked.contains(*bit));
    let events = bits.fold(InotifyMask::empty(), |all, (_, events)| all | *events);
    let again = asked.contains(DirNotify::MULTISHOT);
    let notices = &mut cx.k.files_mut().notices.0;
    let notice = notices.entry((inode, id, table)).or_insert(Notice {
        fd,
        events: InotifyMask::empty(),
        again,
    });
    notice.fd = fd;
    notice.events |= events;
    notice.again |= again;
    Ok(())
}

/// Something happened in a directory or to it (events of inotify).
pub(crate) fn tell(k: &mut Files, dir: InodeRef, events: InotifyMask) {
    let mut count = 0;
    let all = k.notices.of(dir).inspect(|_| count += 1);
    let told: Vec<_> = all
        .filter(|(_, _, notice)| notice.events.intersects(events))
        .collect();
    k.env.steps.spend(count / 4);
    for (file, table, notice) in told {
        if !notice.again {
            k.notices.0.remove(&(dir, file, table));
        }
        let band = g::POLLIN | g::POLLRDNORM | g::POLLMSG;
        fasync::tell_all(k, file, notice.fd, (g::POLL_MSG, band));
    }
}

/// A name became another one of the same directory.
pub(crate) fn renamed(k: &mut Files, dir: InodeRef) {
    tell(k, dir, RENAMED);
}

/// A descriptor of a file was closed: its table is told of nothing any more.
pub(crate) fn closed(k: &mut Files, id: FileId, table: FdTableId) {
    if k.notices.is_empty() {
        return;
    }
    if let Some(inode) = file::at(k, id).inode {
        k.notices.0.remove(&(inode, id, table));
    }
}

/// Whether all entries are of open directories; for invariant checks.
pub(crate) fn check(k: &Files) -> bool {
    let mut all = k.notices.0.keys();
    all.all(|&(inode, id, _)| k.file(id).is_some_and(|file| file.inode == Some(inode)))
}
