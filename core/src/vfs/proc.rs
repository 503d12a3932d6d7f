//! The `proc` file system (proc(5)).
//!
//! Nothing is kept: an inode number says which task and which file it is, contents are made when they are read. `viewer` is the task
//! that looks (`self`); there is none while booting.

use alloc::vec::Vec;

use super::PathRef;
use super::filesystem::{Attr, Entry, Ino, StatFs};
use crate::Kernel;
use crate::abi::Errno;
use crate::kernel::Cx;
use crate::machine::ThreadId;
use crate::port::Ports;

/// An instance of `proc`.
#[derive(Clone, Debug, Hash)]
pub(crate) struct ProcFs {}

/// The root directory.
pub(crate) const ROOT: Ino = Ino(1);

/// The inode called `name` in `dir`.
pub(crate) fn lookup(
    _k: &mut Kernel,
    _p: &mut Ports<'_>,
    _viewer: Option<ThreadId>,
    _dir: Ino,
    _name: &[u8],
) -> Result<Ino, Errno> {
    Err(Errno::ENOENT)
}

/// Attributes; `ENOENT` when the task has gone.
pub(crate) fn attr(_k: &mut Kernel, _p: &mut Ports<'_>, _ino: Ino) -> Result<Attr, Errno> {
    Err(Errno::ENOENT)
}

/// Text of a symbolic link.
pub(crate) fn read_link(
    _k: &mut Kernel,
    _p: &mut Ports<'_>,
    _viewer: Option<ThreadId>,
    _ino: Ino,
) -> Result<Vec<u8>, Errno> {
    Err(Errno::EINVAL)
}

/// Where a magic link (`exe`, `cwd`, `root`, `fd/N`) leads, without a reference; `None` for a link that is followed by its text.
pub(crate) fn jump(
    _k: &mut Kernel,
    _viewer: Option<ThreadId>,
    _ino: Ino,
) -> Result<Option<PathRef>, Errno> {
    Ok(None)
}

/// Entries of a directory, as [`InodeOps::read_dir`](super::filesystem::InodeOps::read_dir).
pub(crate) fn read_dir(
    _k: &mut Kernel,
    _p: &mut Ports<'_>,
    _viewer: Option<ThreadId>,
    _dir: Ino,
    _cookie: u64,
    _each: &mut dyn FnMut(Entry<'_>) -> bool,
) -> Result<(), Errno> {
    Err(Errno::ENOTDIR)
}

/// The whole content of a regular file as of now; taken when the file is read at offset 0.
pub(crate) fn content(
    _k: &mut Kernel,
    _p: &mut Ports<'_>,
    _viewer: Option<ThreadId>,
    _ino: Ino,
) -> Result<Vec<u8>, Errno> {
    Err(Errno::EIO)
}

/// One write to a file that takes them (`comm`, `oom_score_adj`, `sys/kernel/...`).
pub(crate) fn write(_cx: &mut Cx<'_, '_>, _ino: Ino, _data: &[u8]) -> Result<(), Errno> {
    Err(Errno::EINVAL)
}

/// Sizes.
pub(crate) fn statfs() -> StatFs {
    StatFs {
        magic: 0x9fa0,
        block_size: 4096,
        ..StatFs::default()
    }
}
