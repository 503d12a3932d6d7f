//! Event counters (eventfd(2)).

use crate::file::caller::FileCallers;
use alloc::format;
use alloc::string::String;

use super::File;
use super::ops::{FileOps, OpenFile};
use super::rw::How;
use crate::abi::Errno;
use crate::cred::ns::NsId;
use crate::env::cx::Cx;
use crate::env::wait::{Blocking, SysResult};
use crate::env::wait::{Stop, Wait, WaitKey};
use crate::file;
use crate::file::ready::{ERR, PLAIN_IN, PLAIN_OUT};
use crate::file::rw::Iov;
use crate::file::{FileId, FileKind, Files};
use crate::machine::ThreadId;

/// Bytes of a counter.
const SIZE: usize = 8;

/// A counter.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct EventFd {
    pub count: u64,
    /// Reading takes one (`EFD_SEMAPHORE`).
    pub semaphore: bool,
}

pub(crate) fn ready(event: &EventFd) -> u16 {
    let mut ready = 0;
    ready |= if event.count > 0 { PLAIN_IN } else { 0 };
    ready |= if event.count < u64::MAX - 1 {
        PLAIN_OUT
    } else {
        0
    };
    ready |= if event.count == u64::MAX { ERR } else { 0 };
    ready
}

fn counter<'k, K: FileCallers>(
    cx: &'k mut Cx<'_, '_, K>,
    id: FileId,
) -> Result<&'k mut EventFd, Errno> {
    match &mut file::at_mut(cx.k.files_mut(), id).kind {
        FileKind::EventFd(event) => Ok(event),
        _ => Err(Errno::EBADF),
    }
}

/// Adds one, as long as that can be told.
pub(crate) fn signal(k: &mut Files, id: FileId) {
    if let FileKind::EventFd(event) = &mut file::at_mut(k, id).kind {
        event.count = event.count.saturating_add(1);
        k.notify(WaitKey::File(id), PLAIN_IN);
    }
}

pub(crate) fn read<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    id: FileId,
    iov: &mut Iov,
    blocking: Blocking,
) -> Result<u64, Stop> {
    if iov.left() < SIZE as u64 {
        return Err(Errno::EINVAL.into());
    }
    let event = *counter(cx, id)?;
    if event.count == 0 {
        return match blocking {
            Blocking::Fails => Err(Errno::EAGAIN.into()),
            Blocking::Waits => Wait::on(WaitKey::File(id)).into(),
        };
    }
    let taken = if event.semaphore { 1 } else { event.count };
    counter(cx, id)?.count -= taken;
    cx.k.files_mut().notify(WaitKey::File(id), PLAIN_OUT);
    // As in Linux, what cannot be stored is lost.
    iov.put_all(cx, &taken.to_le_bytes())?;
    Ok(SIZE as u64)
}

pub(crate) fn write<K: FileCallers>(
    cx: &mut Cx<'_, '_, K>,
    id: FileId,
    iov: &mut Iov,
    blocking: Blocking,
) -> Result<u64, Stop> {
    if iov.left() != SIZE as u64 {
        return Err(Errno::EINVAL.into());
    }
    let mut bytes = [0; SIZE];
    if iov.take(cx, &mut bytes)? < SIZE as u64 {
        return Err(Errno::EFAULT.into());
    }
    let added = u64::from_le_bytes(bytes);
    if added == u64::MAX {
        return Err(Errno::EINVAL.into());
    }
    let event = counter(cx, id)?;
    match event.count.checked_add(added) {
        Some(count) if count < u64::MAX => event.count = count,
        _ if blocking == Blocking::Fails => return Err(Errno::EAGAIN.into()),
        _ => return Wait::on(WaitKey::File(id)).into(),
    }
    cx.k.files_mut().notify(WaitKey::File(id), PLAIN_IN);
    Ok(SIZE as u64)
}

/// An event counter.
pub(super) struct Ops;

impl OpenFile for Ops {}

impl<K: FileCallers> FileOps<K> for Ops {
    fn read(cx: &mut Cx<'_, '_, K>, id: FileId, iov: &mut Iov, how: How) -> SysResult {
        read(cx, id, iov, how.blocking)
    }

    fn write(cx: &mut Cx<'_, '_, K>, id: FileId, iov: &mut Iov, how: How) -> SysResult {
        write(cx, id, iov, how.blocking)
    }

    fn ready(k: &K, _thread: ThreadId, id: FileId, _depth: u32) -> u16 {
        match &file::at(k.files(), id).kind {
            FileKind::EventFd(event) => ready(event),
            _ => 0,
        }
    }

    fn key(_k: &K, _thread: ThreadId, id: FileId) -> Option<WaitKey> {
        Some(WaitKey::File(id))
    }

    fn fdinfo(_k: &K, file: &File, _ns: NsId) -> String {
        let FileKind::EventFd(event) = &file.kind else {
            return String::new();
        };
        format!(
            "eventfd-count: {:16x}\neventfd-id: 0\neventfd-semaphore: {}\n",
            event.count,
            u8::from(event.semaphore)
        )
    }
}
