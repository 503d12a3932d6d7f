//! POSIX message queues (mq_overview(7)): names, messages by priority, and who is told of the first one.

use crate::env::wait::SysResult;
use crate::file::caller::FileCallers;
use crate::file::ops::{FileOps, OpenFile};
use crate::file::rw::{self, Iov};
use crate::machine::ThreadId;
use crate::port::Ports;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Reverse;

use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::args::OpenFlags;
use crate::cred::ns::{NsId, user};
use crate::env::cx::Cx;
pub(crate) use crate::env::ids::QueueId;
use crate::env::wait::{Turn, WaitKey};
use crate::file;
use crate::file::ready::{IN, OUT};
use crate::file::{File, FileId, FileKind, Files};
use crate::fs::anon;
use crate::fs::filesystem::{Attr, Time};
use crate::ipc::limits;
use crate::vfs::perm::{MAY_READ, MAY_WRITE};
use crate::vfs::{landlock, perm};

/// Limits (`/proc/sys/fs/mqueue/`): queues, messages of a queue, bytes of a message; the latter two also for
/// `CAP_SYS_RESOURCE`.
pub(crate) const QUEUES_MAX: usize = 256;
pub(crate) const MESSAGES_MAX: i64 = 10;
pub(crate) const MESSAGE_SIZE_MAX: i64 = 8192;
const MESSAGES_MAX_PRIVILEGED: i64 = 65536;
const MESSAGE_SIZE_MAX_PRIVILEGED: i64 = 16 << 20;
/// One past the highest priority (`MQ_PRIO_MAX`).
pub(crate) const PRIORITIES: u32 = 32768;
/// Bytes that Linux counts for a message and for a priority beside the data.
const MESSAGE_COST: u64 = 48;
const PRIORITY_COST: u64 = 48;
/// Bytes that a queue itself takes, names and all.
const QUEUE_COST: u64 = 1024;
/// Most bytes that all queues together may be charged.
const CHARGE_MAX: u64 = 256 << 20;
/// Longest name.
const NAME_MAX: usize = 255;

/// Who is told when a message comes to the empty queue (mq_notify(3)).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Notify {
    pub tgid: u32,
    /// The signal, 0 for none, and its value.
    pub signal: u8,
    pub value: u64,
}

/// A queue.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Queue {
    /// The IPC namespace that its name is of.
    ns: NsId,
    name: Vec<u8>,
    /// Its name leads to it.
    linked: bool,
    /// Open files.
    open: u32,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub made: Time,
    pub messages_max: i64,
    pub message_size: i64,
    /// By priority, highest first, and by age.
    messages: BTreeMap<(Reverse<u32>, u64), Vec<u8>>,
    next: u64,
    bytes: u64,
    pub notify: Option<Notify>,
    /// The user that is charged, and how much (`RLIMIT_MSGQUEUE`).
    user: u32,
    charge: u64,
}

impl Queue {
    pub(crate) fn len(&self) -> i64 {
        self.messages.len() as i64
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len() >= self.messages_max
    }

    /// Bytes of its messages, with what is kept beside them.
    fn held(&self) -> u64 {
        self.bytes + self.messages.len() as u64 * MESSAGE_COST
    }
}

/// All queues.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Queues {
    queues: BTreeMap<QueueId, Queue>,
    names: BTreeMap<(NsId, Vec<u8>), QueueId>,
    /// Number of queues of each namespace.
    counts: BTreeMap<NsId, usize>,
    charges: BTreeMap<u32, u64>,
    /// Their sum, and what the queues themselves take.
    charged: u64,
    /// Bytes of the messages that are there.
    held: u64,
    next: u64,
}

impl Queues {
    pub(crate) fn get(&self, id: QueueId) -> Option<&Queue> {
        self.queues.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: QueueId) -> Option<&mut Queue> {
        self.queues.get_mut(&id)
    }

    /// Bytes that the queues themselves take.
    pub(crate) fn objects(&self) -> u64 {
        self.queues.len() as u64 * QUEUE_COST
    }

    /// Bytes that are charged to the memory of the run: the messages that are there.
    pub(crate) fn held(&self) -> u64 {
        self.held
    }
}

/// Messages are there that were not, or the other way round.
fn hold(k: &mut Files, old: u64, new: u64) {
    let held = &mut k.mqueues.held;
    *held = *held + new - old;
    k.frames.charge(old, new);
}

/// How a queue is opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct How {
    pub flags: OpenFlags,
    pub mode: u32,
    /// Most messages and bytes of each, if the program says.
    pub sizes: Option<(i64, i64)>,
}

/// Whether a name can be one. `ENOENT`, `EACCES`, `ENAMETOOLONG`.
fn check_name(name: &[u8]) -> Result<(), Errno> {
    match name {
        b"" => Err(Errno::ENOENT),
        b"." | b".." => Err(Errno::EACCES),
        name if name.contains(&b'/') => Err(Errno::EACCES),
        name if name.len() > NAME_MAX => Err(Errno::ENAMETOOLONG),
        _ => Ok(()),
    }
}

/// Opens a queue, made if need be: an open file with one reference.
pub(crate) fn open<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    name: &[u8],
    how: How,
) -> Result<FileId, Errno> {
    let who = &cx.who();
    check_name(name)?;
    let access = match how.flags.access_mode() {
        OpenFlags::RDONLY => MAY_READ,
        OpenFlags::WRONLY => MAY_WRITE,
        OpenFlags::RDWR => MAY_READ | MAY_WRITE,
        _ => return Err(Errno::EINVAL),
    };
    let found = find(cx, name);
    let id = match found {
        None if !how.flags.contains(OpenFlags::CREAT) => return Err(Errno::ENOENT),
        None => create(cx, name, how)?,
        Some(_) if how.flags.contains(OpenFlags::CREAT | OpenFlags::EXCL) => {
            return Err(Errno::EEXIST);
        }
        Some(id) => {
            let attr = attr(cx.k.files(), id);
            perm::permission(cx.k.files(), who, &attr, access)?;
            id
        }
    };
    landlock::check_queue(cx.k.files(), who, how.flags)?;
    let path = crate::vfs::object::path(cx.k.files_mut(), anon::mqueue_ino(id));
    let flags = how.flags & (OpenFlags::ACCMODE | OpenFlags::NONBLOCK);
    let file = File::new(FileKind::MessageQueue(id), path, None, flags);
    let file = file::add(cx.k.files_mut(), cx.p, file)?;
    if let Some(queue) = cx.k.files_mut().mqueues.get_mut(id) {
        queue.open += 1;
    }
    Ok(file)
}

/// The queue that has a name in the caller's namespace.
fn find<K: FileCallers>(cx: &Cx<'_, '_, K>, name: &[u8]) -> Option<QueueId> {
    let key = (cx.caller().ipc, name.to_vec());
    cx.k.files().mqueues.names.get(&key).copied()
}

fn create<K: FileCallers>(cx: &mut Cx<'_, '_, K>, name: &[u8], how: How) -> Result<QueueId, Errno> {
    let creds = cx.creds();
    let privileged = creds.capable(g::CAP_SYS_RESOURCE);
    let (uid, gid, user) = (creds.fsuid, creds.fsgid, creds.uid);
    let ns = cx.caller().ipc;
    if !user::is_mapped(cx.k.files(), cx.k.files().ns.owner(ns), uid, gid) {
        return Err(Errno::EOVERFLOW);
    }
    let there = cx.k.files().mqueues.counts.get(&ns).copied().unwrap_or(0);
    let limits = &cx.k.files().ipc.objects_of(ns).limits;
    if there as u64 >= limits.get(limits::POSIX_QUEUES) && !privileged {
        return Err(Errno::ENOSPC);
    }
    let limit = |setting| limits.get(setting) as i64;
    let (most, largest) = (limit(limits::POSIX_MESSAGES), limit(limits::POSIX_SIZE));
    let (messages, size) = how.sizes.unwrap_or((
        limit(limits::POSIX_MESSAGES_DEFAULT).min(most),
        limit(limits::POSIX_SIZE_DEFAULT).min(largest),
    ));
    let (messages_max, size_max) = match privileged {
        true => (MESSAGES_MAX_PRIVILEGED, MESSAGE_SIZE_MAX_PRIVILEGED),
        false => (most, largest),
    };
    if !(1..=messages_max).contains(&messages) || !(1..=size_max).contains(&size) {
        return Err(Errno::EINVAL);
    }
    let count = messages as u64;
    let priorities = count.min(u64::from(PRIORITIES));
    let charge = count * (size as u64 + MESSAGE_COST) + priorities * PRIORITY_COST;
    let limit = cx.rlimit(g::RLIMIT_MSGQUEUE);
    let umask = cx.fs_context().umask;
    let made = Time::from_nanos(cx.now().real);
    let queues = &mut cx.k.files_mut().mqueues;
    let charged = queues.charges.get(&user).copied().unwrap_or(0);
    if charged.saturating_add(charge) > limit {
        return Err(Errno::EMFILE);
    }
    if queues.charged.saturating_add(charge + QUEUE_COST) > CHARGE_MAX {
        return Err(Errno::ENOMEM);
    }
    let id = QueueId(queues.next);
    queues.next += 1;
    queues.charges.insert(user, charged + charge);
    queues.charged += charge + QUEUE_COST;
    *queues.counts.entry(ns).or_default() += 1;
    queues.names.insert((ns, name.to_vec()), id);
    let queue = Queue {
        ns,
        name: name.to_vec(),
        linked: true,
        open: 0,
        mode: how.mode & 0o7777 & !umask,
        uid,
        gid,
        made,
        messages_max: messages,
        message_size: size,
        messages: BTreeMap::new(),
        next: 0,
        bytes: 0,
        notify: None,
        user,
        charge,
    };
    queues.queues.insert(id, queue);
    let attr = attr(cx.k.files(), id);
    let ino = anon::mqueue_ino(id);
    cx.k.files_mut().objects.add_named(ino, attr, name.to_vec());
    Ok(id)
}

/// Removes a name (mq_unlink(3)); the queue goes with its last open file. `ENOENT`, `EPERM`: the directory of
/// queues is sticky.
pub(crate) fn unlink<K: FileCallers>(cx: &mut Cx<'_, '_, K>, name: &[u8]) -> Result<(), Errno> {
    let who = &cx.who();
    check_name(name)?;
    let id = find(cx, name).ok_or(Errno::ENOENT)?;
    let (dir, own) = (
        Attr {
            mode: g::S_IFDIR | 0o1777,
            ..Attr::default()
        },
        attr(cx.k.files(), id),
    );
    if perm::sticky(cx.k.files(), who, &dir, &own) {
        return Err(Errno::EPERM);
    }
    let key = (cx.caller().ipc, name.to_vec());
    cx.k.files_mut().mqueues.names.remove(&key);
    unlinked(cx.k.files_mut(), id);
    Ok(())
}

/// The name of a queue is gone.
fn unlinked(k: &mut Files, id: QueueId) {
    if let Some(queue) = k.mqueues.get_mut(id) {
        queue.linked = false;
        k.objects.unlinked(anon::mqueue_ino(id));
    }
    end_unused(k, id);
}

/// An IPC namespace has gone, and its names.
pub(crate) fn end_namespace(k: &mut Files, ns: NsId) {
    let names = &mut k.mqueues.names;
    let gone = names.extract_if(.., |(of, _), _| *of == ns);
    let gone: Vec<QueueId> = gone.map(|(_, id)| id).collect();
    for id in gone {
        unlinked(k, id);
    }
}

/// The last reference on an open file was given back.
pub(crate) fn close(k: &mut Files, id: QueueId) {
    if let Some(queue) = k.mqueues.get_mut(id) {
        queue.open -= 1;
    }
    end_unused(k, id);
}

/// A process has closed a descriptor of a queue: it is not told any more.
pub(crate) fn forget_owner(k: &mut Files, file: FileId, tgid: u32) {
    if let FileKind::MessageQueue(id) = file::at(k, file).kind
        && let Some(queue) = k.mqueues.get_mut(id)
        && queue.notify.is_some_and(|notify| notify.tgid == tgid)
    {
        queue.notify = None;
    }
}

fn end_unused(k: &mut Files, id: QueueId) {
    let queues = &mut k.mqueues;
    let unused = queues
        .get(id)
        .is_some_and(|queue| !queue.linked && queue.open == 0);
    if unused && let Some(queue) = queues.queues.remove(&id) {
        queues.charged -= queue.charge + QUEUE_COST;
        let count = queues.counts.entry(queue.ns).or_default();
        *count -= 1;
        if *count == 0 {
            queues.counts.remove(&queue.ns);
        }
        let charged = queues.charges.entry(queue.user).or_default();
        *charged -= queue.charge.min(*charged);
        if *charged == 0 {
            queues.charges.remove(&queue.user);
        }
        hold(k, queue.held(), 0);
        k.objects.remove(anon::mqueue_ino(id));
    }
}

/// Attributes of a queue's file; its size is that of the text that it reads as.
pub(crate) fn attr(k: &Files, id: QueueId) -> Attr {
    let Some(queue) = k.mqueues.get(id) else {
        return Attr::default();
    };
    Attr {
        mode: g::S_IFREG | queue.mode,
        uid: queue.uid,
        gid: queue.gid,
        nlink: u32::from(queue.linked),
        size: 80,
        atime: queue.made,
        mtime: queue.made,
        ctime: queue.made,
        ..Attr::default()
    }
}

/// What the file of a queue reads as.
fn text<K: FileCallers>(cx: &Cx<'_, '_, K>, id: QueueId) -> String {
    let Some(queue) = cx.k.files().mqueues.get(id) else {
        return String::new();
    };
    let notify = queue.notify;
    let (kind, signal, pid) = notify.map_or((0, 0, 0), |notify| match notify.signal {
        0 => (i32::from(g::SIGEV_NONE as u8), 0, cx.shown_pid(notify.tgid)),
        signal => (0, u32::from(signal), cx.shown_pid(notify.tgid)),
    });
    format!(
        "QSIZE:{:<10} NOTIFY:{kind:<5} SIGNO:{signal:<5} NOTIFY_PID:{pid:<6}\n",
        queue.bytes
    )
}

fn ready(k: &Files, id: QueueId) -> u16 {
    let Some(queue) = k.mqueues.get(id) else {
        return 0;
    };
    let input = if queue.messages.is_empty() { 0 } else { IN };
    input | if queue.is_full() { 0 } else { OUT }
}

/// Adds a message to a queue that has room. Gives who asked to be told of it, if nobody waits for one.
pub(crate) fn push(k: &mut Files, id: QueueId, priority: u32, message: Vec<u8>) -> Option<Notify> {
    let key = WaitKey::MessageQueue(id);
    // A receiver waits only while there is no message.
    let turn = WaitKey::Turn(Turn::Message(id));
    let received = k.env.queues.waiters(turn).next().is_some();
    let queue = k.mqueues.get_mut(id)?;
    let first = queue.messages.is_empty() && !received;
    let len = message.len() as u64;
    queue.bytes += len;
    let number = queue.next;
    queue.next += 1;
    queue.messages.insert((Reverse(priority), number), message);
    let told = if first { queue.notify.take() } else { None };
    hold(k, 0, len + MESSAGE_COST);
    k.notify(key, IN);
    told
}

/// The message that comes first, and its priority.
pub(crate) fn take(k: &mut Files, id: QueueId) -> Option<(u32, Vec<u8>)> {
    let queue = k.mqueues.get_mut(id)?;
    let ((Reverse(priority), _), message) = queue.messages.pop_first()?;
    let len = message.len() as u64;
    queue.bytes -= len;
    hold(k, len + MESSAGE_COST, 0);
    k.notify(WaitKey::MessageQueue(id), OUT);
    Some((priority, message))
}

/// Whether queues are counted rightly; for invariant checks.
pub(crate) fn check(k: &Files) -> Result<(), String> {
    let queues = &k.mqueues;
    for (&id, queue) in &queues.queues {
        let open = k.open.iter();
        let open = open.filter(|(_, file)| file.kind == FileKind::MessageQueue(id));
        let named = queues.names.get(&(queue.ns, queue.name.clone())) == Some(&id);
        if open.count() as u32 != queue.open || queue.linked != named {
            return Err(format!("{id:?} counts {} files", queue.open));
        }
    }
    let held: u64 = queues.queues.values().map(Queue::held).sum();
    if held != queues.held {
        return Err(format!("messages take {held} bytes, not {}", queues.held));
    }
    let charges: u64 = queues.queues.values().map(|queue| queue.charge).sum();
    let mut counts = BTreeMap::new();
    for queue in queues.queues.values() {
        *counts.entry(queue.ns).or_default() += 1;
    }
    if counts != queues.counts {
        return Err(format!("{counts:?} queues, not {:?}", queues.counts));
    }
    let all = charges + queues.queues.len() as u64 * QUEUE_COST;
    match charges == queues.charges.values().sum::<u64>() && all == queues.charged {
        true => Ok(()),
        false => Err(format!("{charges} bytes of message queues are charged")),
    }
}

/// A queue as an open file.
pub(crate) struct Ops;

/// The queue that an open file is. `EBADF` for others.
fn queue_of(k: &Files, id: FileId) -> Result<QueueId, Errno> {
    match file::at(k, id).kind {
        FileKind::MessageQueue(queue) => Ok(queue),
        _ => Err(Errno::EBADF),
    }
}

impl OpenFile for Ops {
    const POSITION: bool = true;
    const HOLDS: bool = true;

    fn release(k: &mut Files, _p: &mut Ports<'_>, _id: FileId, kind: FileKind) {
        if let FileKind::MessageQueue(queue) = kind {
            close(k, queue);
        }
    }
}

impl<K: FileCallers> FileOps<K> for Ops {
    fn read(cx: &mut Cx<'_, '_, K>, id: FileId, iov: &mut Iov, how: rw::How) -> SysResult {
        let queue = queue_of(cx.k.files(), id)?;
        let at = how.at.unwrap_or(file::at(cx.k.files(), id).offset);
        let text = text(cx, queue);
        let rest = text.as_bytes().get(at as usize..);
        let done = iov.put(cx, rest.unwrap_or_default())?;
        rw::was_read(cx.k.files_mut(), cx.p, id, (how, at), done)
    }

    fn seek(cx: &mut Cx<'_, '_, K>, id: FileId, offset: i64, whence: u32) -> SysResult {
        rw::seek_within(cx.k.files_mut(), id, (offset, whence), None)
    }

    fn ready(k: &K, _thread: ThreadId, id: FileId, _depth: u32) -> u16 {
        queue_of(k.files(), id).map_or(0, |queue| ready(k.files(), queue))
    }

    fn key(k: &K, _thread: ThreadId, id: FileId) -> Option<WaitKey> {
        queue_of(k.files(), id).ok().map(WaitKey::MessageQueue)
    }
}
