//! `/proc/sysvipc`: the System V objects of the reader's IPC namespace, with users and processes as the reader sees them.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use crate::Kernel;
use crate::abi::{Errno, PAGE_SIZE};
use crate::ipc::{Objects, Perm, shm};
use crate::machine::ThreadId;
use crate::ns::{NsId, pid, user};
use crate::port::Ports;

/// Who reads.
struct Reader<'k> {
    k: &'k Kernel,
    pids: NsId,
    users: NsId,
    objects: &'k Objects,
}

impl<'k> Reader<'k> {
    fn new(k: &'k Kernel, thread: ThreadId) -> Result<Reader<'k>, Errno> {
        let task = k.tasks.get(thread).ok_or(Errno::ESRCH)?;
        Ok(Reader {
            k,
            pids: task.ns.pid,
            users: task.creds.user_ns,
            objects: k.ns.ipc(task.ns.ipc),
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

/// `/proc/sysvipc/msg`.
pub(super) fn messages(
    k: &mut Kernel,
    _: &mut Ports<'_>,
    thread: ThreadId,
) -> Result<Vec<u8>, Errno> {
    let reader = Reader::new(k, thread)?;
    let mut text = String::from(
        "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      stime      rtime      ctime\n",
    );
    for (id, queue) in reader.objects.queues.numbered() {
        let _ = writeln!(
            text,
            "{}  {:10} {:10} {:5} {:5} {} {:10} {:10} {:10}",
            head(id, &queue.perm),
            queue.bytes,
            queue.len(),
            reader.pid(queue.sender),
            reader.pid(queue.receiver),
            reader.owners(&queue.perm),
            queue.sent,
            queue.received,
            queue.changed,
        );
    }
    Ok(text.into_bytes())
}

/// `/proc/sysvipc/sem`.
pub(super) fn semaphores(
    k: &mut Kernel,
    _: &mut Ports<'_>,
    thread: ThreadId,
) -> Result<Vec<u8>, Errno> {
    let reader = Reader::new(k, thread)?;
    let mut text = String::from(
        "       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n",
    );
    for (id, set) in reader.objects.sets.numbered() {
        let _ = writeln!(
            text,
            "{} {:10} {} {:10} {:10}",
            head(id, &set.perm),
            set.semaphores.len(),
            reader.owners(&set.perm),
            set.operated,
            set.changed,
        );
    }
    Ok(text.into_bytes())
}

/// `/proc/sysvipc/shm`.
pub(super) fn segments(
    k: &mut Kernel,
    p: &mut Ports<'_>,
    thread: ThreadId,
) -> Result<Vec<u8>, Errno> {
    let ns = k.tasks.get(thread).ok_or(Errno::ESRCH)?.ns.ipc;
    let resident = shm::resident(k, p, ns)?;
    let reader = Reader::new(k, thread)?;
    let mut text = String::from(
        "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      dtime      ctime                   rss                  swap\n",
    );
    for ((id, segment), pages) in reader.objects.segments.numbered().zip(resident) {
        let _ = writeln!(
            text,
            "{} {:21} {:5} {:5}  {:5} {} {:10} {:10} {:10} {:21} {:21}",
            head(id, &segment.perm),
            segment.size,
            reader.pid(segment.creator),
            reader.pid(segment.last),
            segment.attaches(reader.k),
            reader.owners(&segment.perm),
            segment.attached,
            segment.detached,
            segment.changed,
            pages * PAGE_SIZE,
            0,
        );
    }
    Ok(text.into_bytes())
}
