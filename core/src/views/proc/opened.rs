//! Files of `proc` and `sysfs` as open files: they show what was so when they were read from the beginning.

use alloc::vec;
use alloc::vec::Vec;

use super::events::{self, Change};
use crate::Kernel;
use crate::abi::Errno;
use crate::env::wait::{SysResult, WaitKey};
use crate::file::above::Made;
use crate::file::ops::FileOps;
use crate::file::ready::{ERR, IN, OUT, PRI};
use crate::file::rw::{self, How, Iov};
use crate::file::{self, File, FileId, FileKind, Files};
use crate::fs::filesystem::{Filesystem, InodeRef};
use crate::fs::inode;
use crate::machine::ThreadId;
use crate::task::Cx;
use crate::views::proc;

/// How much of a content is made for one read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Pace {
    /// What the steps of the input allow; the rest by and by.
    Bounded,
    AtOnce,
}

impl FileOps<Kernel> for Made {
    fn read(cx: &mut Cx<'_, '_>, id: FileId, iov: &mut Iov, how: How) -> SysResult {
        let file = file::at(cx.k, id);
        let inode = file.inode.ok_or(Errno::EBADF)?;
        let at = how.at.unwrap_or(file.offset);
        let pace = match how.at_once {
            true => Pace::AtOnce,
            false => Pace::Bounded,
        };
        let done = match at > 0 && proc::is_numbers(cx.k, inode) {
            // Numbers of settings are read from their beginning or not at all (`proc_dointvec()`).
            true => 0,
            false => read_proc(cx, id, inode, iov, at, pace)?,
        };
        rw::was_read(cx.k, cx.p, id, (how, at), done)
    }

    fn write(cx: &mut Cx<'_, '_>, id: FileId, iov: &mut Iov, how: How) -> SysResult {
        let inode = file::at(cx.k, id).inode.ok_or(Errno::EINVAL)?;
        let mut data = vec![0; iov.left().min(PROC_WRITE_MAX) as usize];
        let len = iov.take(cx, &mut data)?;
        match inode::kind(cx.k, inode.fs) {
            inode::FsKind::Proc => {
                let data = &data[..len as usize];
                Ok(proc::write(cx, id, inode.ino, how.at, data)?)
            }
            _ => Err(Errno::EROFS.into()),
        }
    }

    fn seek(cx: &mut Cx<'_, '_>, id: FileId, offset: i64, whence: u32) -> SysResult {
        rw::seek_within(cx.k, id, (offset, whence), None)
    }

    fn splice_read(cx: &mut Cx<'_, '_>, id: FileId, at: u64, len: u64) -> Result<Vec<u8>, Errno> {
        let inode = file::at(cx.k, id).inode.ok_or(Errno::EINVAL)?;
        with_shown(cx, id, inode, (at, len), Pace::Bounded, |_, bytes| {
            Ok(bytes.to_vec())
        })
    }

    fn ready(k: &Kernel, thread: ThreadId, id: FileId, _depth: u32) -> u16 {
        let file = file::at(k, id);
        match change(k, thread, file) {
            Some(change) => change.ready(file.seen),
            // What has not been read has changed (`kernfs_generic_poll()`).
            None if file.seen == 0 && is_sysfs(k, file) => IN | OUT | ERR | PRI,
            None => IN | OUT,
        }
    }

    fn key(k: &Kernel, thread: ThreadId, id: FileId) -> Option<WaitKey> {
        change(k, thread, k.files.file(id)?)?.key
    }

    fn told(k: &mut Kernel, thread: ThreadId, id: FileId) {
        if let Some(change) = change(k, thread, file::at(k, id)) {
            file::at_mut(k, id).seen = change.number;
        }
    }

    fn can_wait(k: &Kernel, file: &File) -> bool {
        file.inode.is_some_and(|inode| {
            let of_processes = matches!(k.fs.filesystem(inode.fs), Filesystem::Proc(_));
            !of_processes || events::can_wait(inode.ino)
        })
    }
}

/// Whether a file is one of sysfs or cgroup2.
fn is_sysfs(k: &Files, file: &File) -> bool {
    let fs = file.inode.map(|inode| k.fs.filesystem(inode.fs));
    matches!(fs, Some(Filesystem::Sys(_)))
}

/// It has been read.
fn was_read(k: &mut Files, id: FileId) {
    if is_sysfs(k, file::at(k, id)) {
        file::at_mut(k, id).seen = 1;
    }
}

/// The last change of a file that tells of changes.
fn change(k: &Kernel, thread: ThreadId, file: &File) -> Option<Change> {
    let inode = file.inode?;
    match k.fs.filesystem(inode.fs) {
        Filesystem::Proc(_) => events::of(k, thread, inode.ino),
        _ => None,
    }
}

/// Most bytes that one write to a file of `proc` takes.
const PROC_WRITE_MAX: u64 = 4096;

fn read_proc(
    cx: &mut Cx<'_, '_>,
    id: FileId,
    inode: InodeRef,
    iov: &mut Iov,
    at: u64,
    pace: Pace,
) -> Result<u64, Errno> {
    let len = iov.left();
    let put = |cx: &mut Cx<'_, '_>, bytes: &[u8]| iov.put(cx, bytes);
    with_shown(cx, id, inode, (at, len), pace, put)
}

/// What of the content of a file that the kernel makes is there between a position and a length behind it.
/// `LATER` if it is not made yet.
fn with_shown<R>(
    cx: &mut Cx<'_, '_>,
    id: FileId,
    inode: InodeRef,
    (at, len): (u64, u64),
    pace: Pace,
    run: impl FnOnce(&mut Cx<'_, '_>, &[u8]) -> Result<R, Errno>,
) -> Result<R, Errno> {
    let who = &cx.who();
    let going_on = core::mem::take(&mut cx.call().goes_on);
    let FileKind::Made(Made { number, space }) = file::at(cx.k, id).kind else {
        return Err(Errno::EIO);
    };
    let mut shown = cx.k.contents.take(number);
    if shown.is_past(at) && !going_on {
        let there = space.map_or(Ok(true), |space| proc::has_space(cx.k, inode.ino, space));
        let made = match (there, proc::opened(cx.k, cx.thread, id, inode)) {
            (Err(errno), _) => Err(errno),
            (Ok(false), _) => Ok(proc::Shown::default()),
            (Ok(true), Some(text)) => Ok(proc::Shown::whole(text)),
            (Ok(true), None) => crate::views::ops::content(cx.k, cx.p, who, inode),
        };
        match made {
            Ok(made) => *shown = made,
            Err(errno) => {
                cx.k.contents.keep(number, shown);
                return Err(errno);
            }
        }
    }
    let thread = cx.thread;
    let result = match shown.make(cx.k, cx.p, thread, at, len, pace == Pace::Bounded) {
        true => {
            let bytes = shown.from(at);
            run(cx, &bytes[..bytes.len().min(len as usize)])
        }
        false => {
            cx.call().goes_on = true;
            Err(Errno::LATER)
        }
    };
    was_read(cx.k, id);
    cx.k.contents.keep(number, shown);
    result
}
