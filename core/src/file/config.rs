//! Configurations of file systems as open files (fsopen(2)).

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
