//! Leases on files (`F_SETLEASE` of fcntl(2)): who holds one is told by a signal before somebody else opens
//! the file in a way that does not go with it, and that one waits until the lease is given back, or lowered,
//! or was held for too long.

use crate::file::caller::FileCallers;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Bound::{Excluded, Unbounded};

use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::cred::ns::{NsId, pid};
use crate::env::cx::Cx;
use crate::env::settings;
use crate::env::wait::{Blocking, Stop, Wait, WaitKey};
use crate::file;
use crate::file::fasync::{Owner, Recipient};
use crate::file::{File, FileId, FileKind, Files, fasync, lock};
use crate::fs::filesystem::InodeRef;
use crate::machine::ThreadId;
use crate::vfs::node;

/// Most leases of a file: an open looks at all of them.
const OF_A_FILE: usize = 1024;
/// Bytes that a lease takes, and the count of a file's readers.
const LEASE_COST: u64 = 128;
const READERS_COST: u64 = 64;

/// A lease of an open file.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Lease {
    file: FileId,
    /// The descriptor that signals name.
    fd: i32,
    /// The process that took it.
    pid: u32,
    /// Nobody else may even read.
    exclusive: bool,
    /// Until when it is to be given back, or lowered to one that lets others read.
    ends: Option<u64>,
    lowers: Option<u64>,
}

impl Lease {
    fn conflicts(&self, writes: bool) -> bool {
        writes || self.exclusive
    }

    /// What it is, or is to become.
    fn target(&self) -> u32 {
        match (self.ends, self.exclusive && self.lowers.is_none()) {
            (Some(_), _) => g::F_UNLCK,
            (None, true) => g::F_WRLCK,
            (None, false) => g::F_RDLCK,
        }
    }

    /// As `/proc/locks` shows it, without a number; `None` if a PID namespace does not see its process.
    fn line(&self, k: &Files, ns: NsId, inode: InodeRef) -> Option<String> {
        let state = match self.ends.or(self.lowers) {
            Some(_) => "BREAKING ",
            None => "ACTIVE   ",
        };
        let target = match self.target() {
            g::F_UNLCK => "UNLCK",
            g::F_WRLCK => "WRITE",
            _ => "READ",
        };
        line(k, ns, state, target, self.pid, &lock::place(&inode))
    }
}

/// All leases, and how many open files of each file can only be read.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Leases {
    of: BTreeMap<InodeRef, Vec<Lease>>,
    count: usize,
    readers: BTreeMap<InodeRef, u32>,
}

impl Leases {
    /// Bytes that all of them take.
    pub(crate) fn held(&self) -> u64 {
        self.count as u64 * LEASE_COST + self.readers.len() as u64 * READERS_COST
    }

    /// A file was opened.
    pub(crate) fn opened(&mut self, file: &File) {
        if let Some(inode) = only_reads(file) {
            *self.readers.entry(inode).or_default() += 1;
        }
    }

    /// A file was closed.
    pub(crate) fn closed(&mut self, file: &File) {
        if let Some(inode) = only_reads(file)
            && let Some(count) = self.readers.get_mut(&inode)
        {
            *count -= 1;
            if *count == 0 {
                self.readers.remove(&inode);
            }
        }
    }

    /// Works on the leases of a file, which are counted.
    fn work<R>(&mut self, inode: InodeRef, work: impl FnOnce(&mut Vec<Lease>) -> R) -> R {
        let leases = self.of.entry(inode).or_default();
        let before = leases.len();
        let result = work(leases);
        self.count = self.count + leases.len() - before;
        if leases.is_empty() {
            self.of.remove(&inode);
        }
        result
    }
}

/// The inode of a regular file that can be read and not written.
fn only_reads(file: &File) -> Option<InodeRef> {
    let counts = file.kind == FileKind::Regular && file.readable() && !file.writable();
    file.inode.filter(|_| counts)
}

/// `F_GETLEASE`: what a lease is, or is to become.
pub(crate) fn get(k: &mut Files, id: FileId) -> u32 {
    let Some(inode) = file::at(k, id).inode else {
        return g::F_UNLCK;
    };
    expire(k, inode);
    let mut leases = k.leases.of.get(&inode).into_iter().flatten();
    leases
        .find(|lease| lease.file == id)
        .map_or(g::F_UNLCK, Lease::target)
}

/// `F_SETLEASE`: takes a lease, changes it, or gives it back. `EACCES` to whom the file does not belong,
/// `EAGAIN` where somebody has it open in a way that does not go with it or there is nothing to give back,
/// `ENOMEM` where there are too many,
/// `EINVAL` where there are to be no new ones (`/proc/sys/fs/leases-enable`).
pub(crate) fn set<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    id: FileId,
    fd: i32,
    asked: u32,
) -> Result<(), Errno> {
    if !matches!(asked, g::F_RDLCK | g::F_WRLCK | g::F_UNLCK) {
        return Err(Errno::EINVAL);
    }
    let at = file::inode_of(cx.k.files(), id)?;
    let attr = node::attr(cx.k, cx.p, at)?;
    if cx.creds().fsuid != attr.uid && !cx.creds().capable(g::CAP_LEASE) {
        return Err(Errno::EACCES);
    }
    let opened = file::at(cx.k.files(), id);
    let (FileKind::Regular, Some(inode)) = (&opened.kind, opened.inode) else {
        return Err(Errno::EINVAL);
    };
    let writes = opened.writable();
    expire(cx.k.files_mut(), inode);
    let leases =
        cx.k.files()
            .leases
            .of
            .get(&inode)
            .map_or(&[][..], |all| all);
    let own = leases.iter().any(|lease| lease.file == id);
    if asked == g::F_UNLCK {
        return match own {
            true => {
                give_back(cx.k.files_mut(), inode, |lease| lease.file == id);
                Ok(())
            }
            false => Err(Errno::EAGAIN),
        };
    }
    let exclusive = asked == g::F_WRLCK;
    let mut others = leases.iter().filter(|lease| lease.file != id);
    let writers = cx.k.files().writers.count(inode);
    let readers =
        cx.k.files()
            .leases
            .readers
            .get(&inode)
            .copied()
            .unwrap_or(0);
    let open = match exclusive {
        false => writers > 0,
        true => writers != i32::from(writes) || readers != u32::from(!writes),
    };
    if open || others.any(|lease| exclusive || lease.ends.is_some()) {
        return Err(Errno::EAGAIN);
    }
    if !own && leases.len() >= OF_A_FILE {
        return Err(Errno::ENOMEM);
    }
    if !own && !cx.k.files().env.settings.is_on(settings::LEASES) {
        return Err(Errno::EINVAL);
    }
    let pid = cx.caller().tgid;
    let steps = leases.len() as u64 / 4;
    cx.k.files_mut().env.steps.spend(steps);
    cx.k.files_mut().leases.work(inode, |leases| {
        match leases.iter_mut().find(|lease| lease.file == id) {
            Some(lease) => {
                lease.exclusive = exclusive;
                if !exclusive {
                    lease.lowers = None;
                }
            }
            None => leases.push(Lease {
                file: id,
                fd,
                pid,
                exclusive,
                ends: None,
                lowers: None,
            }),
        }
    });
    wake(cx.k.files_mut(), inode);
    if file::at(cx.k.files(), id).owner.is_none() {
        let process = cx.k.process(cx.caller().tgid);
        let recipient = process.map(|task| Recipient::named_by(cx, Owner::Task(task)));
        file::at_mut(cx.k.files_mut(), id).owner = recipient;
    }
    Ok(())
}

/// Somebody opens a file to read or to write it: leases that do not go with that are broken. Waits for them;
/// `EAGAIN` if it must not.
pub(crate) fn break_for<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    inode: InodeRef,
    writes: bool,
    blocking: Blocking,
) -> Result<(), Stop> {
    if !cx.k.files().leases.of.contains_key(&inode) {
        return Ok(());
    }
    tell(cx.k.files_mut(), inode, writes);
    let leases = cx.k.files().leases.of.get(&inode).into_iter().flatten();
    let conflicts = leases.filter(|lease| lease.conflicts(writes));
    let ends = conflicts.map(|lease| match (lease.ends, lease.lowers) {
        (Some(ends), Some(lowers)) if !writes => ends.min(lowers),
        (Some(at), _) | (None, Some(at)) => at,
        (None, None) => u64::MAX,
    });
    match ends.min() {
        None => Ok(()),
        Some(_) if blocking == Blocking::Fails => Err(Errno::EAGAIN.into()),
        Some(at) => {
            let key = WaitKey::Lease(inode, writes);
            Err(Stop::Block(Wait::on(key).until(Some(at))))
        }
    }
}

/// Something has changed for those who wait to open a file.
fn wake(k: &mut Files, inode: InodeRef) {
    for writes in [false, true] {
        k.wake(WaitKey::Lease(inode, writes));
    }
}

fn line(k: &Files, ns: NsId, state: &str, mode: &str, pid: u32, place: &str) -> Option<String> {
    let pid = pid::show(k, ns, pid);
    (pid != 0).then(|| format!("LEASE  {state} {mode} {pid} {place} 0 EOF"))
}

/// A place among all leases: of which file, and behind which one, or who waits for the first one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(crate) struct Position(Option<(InodeRef, Behind)>);

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
enum Behind {
    Lease(FileId),
    /// Who waits to open the file, for writing or not, and its place.
    Waiting(FileId, bool, u64),
}

impl Position {
    pub(crate) const FIRST: Position = Position(None);
}

/// A line of `/proc/locks` about a lease, or about who waits for it, without its number.
pub(crate) struct Line {
    pub text: String,
    /// It has the number of the one before.
    pub waits: bool,
}

/// The lease behind a place, or the next that waits for it, and its place. What a PID namespace does not see
/// is not shown there. Who waits hangs on the first lease of a file, as in Linux. `process` gives the process
/// of a thread.
pub(crate) fn next_line(
    k: &Files,
    ns: NsId,
    at: Position,
    process: impl Fn(ThreadId) -> Option<u32>,
) -> Option<(Position, Option<Line>)> {
    let all = &k.leases.of;
    let mut next = None;
    if let Some((inode, behind)) = at.0 {
        let leases = all.get(&inode).map_or(&[][..], |all| all);
        let (file, waiting) = match behind {
            Behind::Lease(file) => (file, (false, 0)),
            Behind::Waiting(file, writes, place) => (file, (writes, place)),
        };
        let of_first = leases.first().is_some_and(|lease| lease.file == file);
        if of_first && let Some((writes, place, thread)) = waiter(k, inode, waiting) {
            let mode = if writes { "WRITE" } else { "READ" };
            let pid = process(thread).unwrap_or(0);
            // Linux does not know of which file.
            let text = line(k, ns, "BREAKER  ", mode, pid, "<none>:0");
            let text = text.map(|text| Line {
                text: format!("-> {text}"),
                waits: true,
            });
            let at = Position(Some((inode, Behind::Waiting(file, writes, place))));
            return Some((at, text));
        }
        let place = leases.iter().position(|lease| lease.file == file);
        let lease = place.and_then(|place| leases.get(place + 1));
        next = lease.map(|lease| (inode, lease));
    }
    let from = at.0.map_or(Unbounded, |(inode, _)| Excluded(inode));
    let (inode, lease) = next.or_else(|| {
        let (&inode, leases) = all.range((from, Unbounded)).next()?;
        leases.first().map(|lease| (inode, lease))
    })?;
    let text = lease.line(k, ns, inode);
    let text = text.map(|text| Line { text, waits: false });
    Some((Position(Some((inode, Behind::Lease(lease.file)))), text))
}

/// Who waits behind a place to open a file, readers first.
fn waiter(
    k: &Files,
    inode: InodeRef,
    (writes, place): (bool, u64),
) -> Option<(bool, u64, ThreadId)> {
    let behind = |writes, place| {
        let found = k
            .env
            .queues
            .waiter_behind(WaitKey::Lease(inode, writes), place);
        found.map(|(place, thread)| (writes, place, thread))
    };
    match writes {
        false => behind(false, place).or_else(|| behind(true, 0)),
        true => behind(true, place),
    }
}

/// The lease of an open file, as its `fdinfo` shows it.
pub(crate) fn line_of(k: &Files, ns: NsId, file: FileId) -> Option<String> {
    let inode = file::at(k, file).inode?;
    let mut leases = k.leases.of.get(&inode)?.iter();
    let lease = leases.find(|lease| lease.file == file)?;
    lease.line(k, ns, inode)
}

/// Tells those that hold leases which do not go with a use of the file, once.
fn tell(k: &mut Files, inode: InodeRef, writes: bool) {
    expire(k, inode);
    let until = break_end(k);
    let Some(leases) = k.leases.of.get_mut(&inode) else {
        return;
    };
    let mut told = Vec::new();
    for lease in leases.iter_mut().filter(|lease| lease.conflicts(writes)) {
        let ending = lease.ends.is_some();
        match writes {
            true if !ending => lease.ends = Some(until),
            false if !ending && lease.lowers.is_none() => lease.lowers = Some(until),
            _ => continue,
        }
        told.push((lease.file, lease.fd));
    }
    let band = g::POLLIN | g::POLLRDNORM | g::POLLMSG;
    for (id, fd) in told {
        fasync::tell_all(k, id, fd, (g::POLL_MSG, band));
    }
}

/// Until when a lease may be held when somebody waits now (`/proc/sys/fs/lease-break-time`, in seconds; none
/// is for ever).
fn break_end(k: &Files) -> u64 {
    let seconds = k.env.settings.get(settings::LEASE_TIME);
    match u64::try_from(seconds) {
        Ok(0) => u64::MAX,
        Ok(seconds) => {
            let nanos = seconds.saturating_mul(1_000_000_000);
            k.env.now.mono.saturating_add(nanos)
        }
        // A time that has passed already.
        Err(_) => k.env.now.mono,
    }
}

/// Leases that were held for too long are taken back or lowered.
fn expire(k: &mut Files, inode: InodeRef) {
    let now = k.env.now.mono;
    let Some(leases) = k.leases.of.get_mut(&inode) else {
        return;
    };
    let mut over = false;
    for lease in leases.iter_mut() {
        if lease.lowers.is_some_and(|at| at <= now) {
            (lease.exclusive, lease.lowers) = (false, None);
        }
        over |= lease.ends.is_some_and(|at| at <= now);
    }
    if over {
        give_back(k, inode, |lease| lease.ends.is_some_and(|at| at <= now));
    }
}

/// Takes leases away; their files have no owner any more.
fn give_back(k: &mut Files, inode: InodeRef, which: impl Fn(&Lease) -> bool) {
    let gone = k.leases.work(inode, |leases| {
        let gone: Vec<FileId> = leases
            .iter()
            .filter(|it| which(it))
            .map(|it| it.file)
            .collect();
        leases.retain(|lease| !which(lease));
        gone
    });
    for id in gone {
        let file = file::at_mut(k, id);
        (file.owner, file.signal) = (None, 0);
    }
    wake(k, inode);
}

/// An open file is closed for good.
pub(crate) fn released(k: &mut Files, id: FileId) {
    if let Some(inode) = file::at(k, id).inode
        && k.leases.of.contains_key(&inode)
    {
        give_back(k, inode, |lease| lease.file == id);
    }
}

/// Whether readers and leases are counted rightly; for invariant checks.
pub(crate) fn check(k: &Files) -> Result<(), String> {
    let mut counted = Leases::default();
    for (_, file) in k.open.iter() {
        counted.opened(file);
    }
    let leases = &k.leases;
    if counted.readers != leases.readers {
        return Err(format!(
            "{:?} are read, not {:?}",
            counted.readers, leases.readers
        ));
    }
    let all = || {
        leases
            .of
            .iter()
            .flat_map(|(at, all)| all.iter().map(move |it| (at, it)))
    };
    let open = |(&inode, lease): (&InodeRef, &Lease)| {
        k.file(lease.file)
            .is_some_and(|file| file.inode == Some(inode))
    };
    match all().count() == leases.count && all().all(open) {
        true => Ok(()),
        false => Err("leases of files that are not open".into()),
    }
}
