//! Files of `proc` and `sysfs` as open files: they show what was so when they were read from the beginning.

use alloc::vec;
use alloc::vec::Vec;

use super::events::Change;
use crate::Kernel;
use crate::abi::Errno;
use crate::env::wait::{SysResult, WaitKey};
use crate::file::above::Made;
use crate::file::ops::FileOps;
use crate::file::ready::{ERR, IN, OUT, PRI};
use crate::file::rw::{self, How, Iov};
use crate::file::{self, File, FileId, FileKind};
use crate::fs::filesystem::InodeRef;
use crate::machine::ThreadId;
use crate::task::Cx;
use crate::views::ops::{ViewFs, of_view};

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
        let done = match at > 0 && of_view!(cx.k, inode.fs, shows_numbers(inode.ino)) {
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
        let data = &data[..len as usize];
        let (fs, ino) = (inode.fs, inode.ino);
        Ok(of_view!(cx.k, fs, write(cx, id, ino, how.at, data))?)
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
            None if file.seen == 0 && unread_is_new(k, file) => IN | OUT | ERR | PRI,
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
        let inode = file.inode;
        inode.is_some_and(|inode| of_view!(k, inode.fs, can_wait(inode.ino)))
    }
}

/// Whether a file that has not been read counts as changed.
fn unread_is_new(k: &Kernel, file: &File) -> bool {
    let inode = file.inode;
    inode.is_some_and(|inode| of_view!(k, inode.fs, unread_is_new()))
}

/// It has been read.
fn was_read(k: &mut Kernel, id: FileId) {
    if unread_is_new(k, file::at(k, id)) {
        file::at_mut(k, id).seen = 1;
    }
}

/// The last change of a file that tells of changes.
fn change(k: &Kernel, thread: ThreadId, file: &File) -> Option<Change> {
    let inode = file.inode?;
    of_view!(k, inode.fs, change(k, thread, inode.ino))
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
    let going_on = core::mem::take(&mut cx.call().goes_on);
    let FileKind::Made(Made { number, space }) = file::at(cx.k, id).kind else {
        return Err(Errno::EIO);
    };
    let mut shown = cx.k.contents.take(number);
    if shown.is_past(at) && !going_on {
        let made = of_view!(cx.k, inode.fs, content(cx, id, inode.ino, space));
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
