//! Directories as open files: the position is the `d_off` to go on from.

use super::ops::{FileOps, OpenFile};
use super::rw::{self, How, Iov};
use super::{File, FileId};
use crate::abi::Errno;
use crate::env::cx::Cx;
use crate::env::wait::SysResult;
use crate::file::caller::FileCallers;

/// A directory.
pub(super) struct Ops;

impl OpenFile for Ops {
    const POSITION: bool = true;
}

impl<K: FileCallers> FileOps<K> for Ops {
    fn read(_cx: &mut Cx<'_, '_, K>, _id: FileId, _iov: &mut Iov, _how: How) -> SysResult {
        Err(Errno::EISDIR.into())
    }

    fn write(_cx: &mut Cx<'_, '_, K>, _id: FileId, _iov: &mut Iov, _how: How) -> SysResult {
        Err(Errno::EBADF.into())
    }

    fn seek(cx: &mut Cx<'_, '_, K>, id: FileId, offset: i64, whence: u32) -> SysResult {
        rw::seek_within(cx.k.files_mut(), id, (offset, whence), Some(i64::MAX))
    }

    fn can_wait(_k: &K, _file: &File) -> bool {
        false
    }
}
