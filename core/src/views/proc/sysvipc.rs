//! `/proc/sysvipc`: the System V objects of the reader's IPC namespace, with users and processes as the
//! reader sees them.

use alloc::format;
use alloc::string::String;

use crate::Kernel;
use crate::abi::PAGE_SIZE;
use crate::cred::ns::{NsId, pid, user};
use crate::ipc::{Objects, Perm, shm};
use crate::machine::ThreadId;
use crate::port::Ports;

/// Who reads.
struct Reader<'k> {
    k: &'k Kernel,
    pids: NsId,
    users: NsId,
    objects: &'k Objects,
}

impl<'k> Reader<'k> {
    fn new(k: &'k Kernel, thread: ThreadId) -> Option<Reader<'k>> {
        let task = k.tasks.get(thread)?;
        Some(Reader {
            k,
            pids: task.ns.pid,
            users: task.creds.user_ns,
            objects: k.ipc.objects_of(task.ns.ipc),
        })
    }

    /// The columns that name the owner and who made it.
    fn owners(&self, perm: &Perm) -> String {
        let [uid, cuid] = [perm.uid, perm.cuid].map(|uid| user::show_uid(self.k, self.users, uid));
        let [gid, cgid] = [perm.gid, perm.cgid].map(|gid| user::show_gid(self.k, self.users, gid));
        format!("{uid:5} {gid:5} {cuid:5} {cgid:5}")
    }

    fn pid(&self, number: u32) -> u32 {
        pid::show(self.k, self.pids, number)
    }
}

/// The columns that an object of each kind begins with.
fn head(id: i32, perm: &Perm) -> String {
    format!("{:10} {id:10}  {:4o}", perm.key, perm.mode)
}

/// Which file it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(super) enum Kind {
    Messages,
    Semaphores,
    Segments,
}

impl Kind {
    /// What it begins with.
    pub(super) fn head(self) -> &'static str {
        match self {
            Kind::Messages => {
                "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      stime      rtime      ctime\n"
            }
            Kind::Semaphores => {
                "       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n"
            }
            Kind::Segments => {
                "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      dtime      ctime                   rss                  swap\n"
            }
        }
    }
}

/// The line of the object behind a place, and its own place.
pub(super) fn line(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    thread: ThreadId,
    kind: Kind,
    last: Option<u32>,
) -> Option<(u32, String)> {
    let pages = match kind {
        Kind::Segments => {
            let ns = k.tasks.get(thread)?.ns.ipc;
            let (_, _, segment) = k.ipc.objects_of(ns).segments.behind(last)?;
            let file = segment.file;
            shm::resident(k, p, file)
        }
        _ => 0,
    };
    let reader = Reader::new(k, thread)?;
    match kind {
        Kind::Messages => reader.message_line(last),
        Kind::Semaphores => reader.semaphore_line(last),
        Kind::Segments => reader.segment_line(last, pages),
    }
}

impl Reader<'_> {
    fn message_line(&self, last: Option<u32>) -> Option<(u32, String)> {
        let (place, id, queue) = self.objects.queues.behind(last)?;
        let line = format!(
            "{}  {:10} {:10} {:5} {:5} {} {:10} {:10} {:10}\n",
            head(id, &queue.perm),
            queue.bytes,
            queue.len(),
            self.pid(queue.sender),
            self.pid(queue.receiver),
            self.owners(&queue.perm),
            queue.sent,
            queue.received,
            queue.changed,
        );
        Some((place, line))
    }

    fn semaphore_line(&self, last: Option<u32>) -> Option<(u32, String)> {
        let (place, id, set) = self.objects.sets.behind(last)?;
        let line = format!(
            "{} {:10} {} {:10} {:10}\n",
            head(id, &set.perm),
            set.semaphores.len(),
            self.owners(&set.perm),
            set.operated,
            set.changed,
        );
        Some((place, line))
    }

    fn segment_line(&self, last: Option<u32>, pages: u64) -> Option<(u32, String)> {
        let (place, id, segment) = self.objects.segments.behind(last)?;
        let line = format!(
            "{} {:21} {:5} {:5}  {:5} {} {:10} {:10} {:10} {:21} {:21}\n",
            head(id, &segment.perm),
            segment.size,
            self.pid(segment.creator),
            self.pid(segment.last),
            segment.attaches(self.k),
            self.owners(&segment.perm),
            segment.attached,
            segment.detached,
            segment.changed,
            pages * PAGE_SIZE,
            0,
        );
        Some((place, line))
    }
}
