//! Configurations of file systems as open files (fsopen(2)).

use super::File;
use super::ops::{FileOps, OpenFile};
use super::rw::{How, Iov};
use crate::env::cx::Cx;
use crate::env::wait::SysResult;
use crate::file::caller::FileCallers;
use alloc::boxed::Box;

use crate::abi::Errno;
use crate::file::{self, FileId, FileKind, Files};
use crate::vfs::mount::config::{Config, discount};

/// The configuration that is an open file. `EINVAL` for others.
pub(crate) fn at(k: &Files, id: FileId) -> Result<&Config, Errno> {
    match &file::at(k, id).kind {
        FileKind::Config(config) => Ok(config),
        _ => Err(Errno::EINVAL),
    }
}

/// Changes the configuration that is an open file. `EINVAL` for others.
pub(crate) fn change<T>(
    k: &mut Files,
    id: FileId,
    change: impl FnOnce(&mut Config, &Files) -> T,
) -> Result<T, Errno> {
    let old = Box::new(at(k, id)?.clone());
    let mut new = old.clone();
    let done = change(&mut new, k);
    // What it keeps now is counted first, so that nothing goes in between.
    k.configs.count(&new);
    discount(k, &old);
    file::at_mut(k, id).kind = FileKind::Config(new);
    Ok(done)
}

/// A file system that is being configured.
pub(super) struct Ops;

impl OpenFile for Ops {}

impl<K: FileCallers> FileOps<K> for Ops {
    /// Takes the next message of what went wrong.
    fn read(cx: &mut Cx<'_, '_, K>, id: FileId, iov: &mut Iov, _how: How) -> SysResult {
        let room = iov.left();
        let line = change(cx.k.files_mut(), id, |config, _| config.take_message(room))??;
        // As in Linux, what cannot be stored is lost.
        iov.put_all(cx, &line)?;
        Ok(line.len() as u64)
    }

    fn seek(_cx: &mut Cx<'_, '_, K>, _id: FileId, _offset: i64, _whence: u32) -> SysResult {
        Err(Errno::ESPIPE.into())
    }

    fn can_wait(_k: &K, _file: &File) -> bool {
        false
    }
}
