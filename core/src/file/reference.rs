//! Open files that only stand for something: a place, a namespace, a ruleset.

use super::ops::{FileOps, OpenFile};
use super::ready::NVAL;
use super::rw::{How, Iov};
use super::{File, FileId, FileKind, Files};
use crate::abi::Errno;
use crate::env::cx::Cx;
use crate::env::wait::SysResult;
use crate::file::caller::FileCallers;
use crate::machine::ThreadId;
use crate::port::Ports;

/// A place alone (`O_PATH`): nothing else can be done with it.
pub(super) struct Place;

impl OpenFile for Place {
    const POSITION: bool = true;
}

impl<K: FileCallers> FileOps<K> for Place {
    fn read(_cx: &mut Cx<'_, '_, K>, _id: FileId, _iov: &mut Iov, _how: How) -> SysResult {
        Err(Errno::EBADF.into())
    }

    fn write(_cx: &mut Cx<'_, '_, K>, _id: FileId, _iov: &mut Iov, _how: How) -> SysResult {
        Err(Errno::EBADF.into())
    }

    fn seek(_cx: &mut Cx<'_, '_, K>, _id: FileId, _offset: i64, _whence: u32) -> SysResult {
        Err(Errno::EBADF.into())
    }

    fn ready(_k: &K, _thread: ThreadId, _id: FileId, _depth: u32) -> u16 {
        NVAL
    }

    fn can_wait(_k: &K, _file: &File) -> bool {
        false
    }
}

/// The file of a namespace (namespaces(7)): there is nothing in it.
pub(super) struct Namespace;

impl OpenFile for Namespace {
    const POSITION: bool = true;
}

impl<K: FileCallers> FileOps<K> for Namespace {
    fn seek(_cx: &mut Cx<'_, '_, K>, _id: FileId, _offset: i64, _whence: u32) -> SysResult {
        Err(Errno::ESPIPE.into())
    }

    fn can_wait(_k: &K, _file: &File) -> bool {
        false
    }
}

/// A ruleset of landlock(7): nothing can be read from it.
pub(super) struct Ruleset;

impl OpenFile for Ruleset {
    const HOLDS: bool = true;

    fn release(k: &mut Files, _p: &mut Ports<'_>, _id: FileId, kind: FileKind) {
        if let FileKind::Landlock(ruleset) = kind {
            k.landlock.release(ruleset);
        }
    }
}

impl<K: FileCallers> FileOps<K> for Ruleset {
    fn seek(_cx: &mut Cx<'_, '_, K>, _id: FileId, _offset: i64, _whence: u32) -> SysResult {
        Err(Errno::ESPIPE.into())
    }

    fn can_wait(_k: &K, _file: &File) -> bool {
        false
    }
}
