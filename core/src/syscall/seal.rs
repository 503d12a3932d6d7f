//! Seals of open files (`F_GET_SEALS`, `F_ADD_SEALS` of fcntl(2)).

use crate::Kernel;
use crate::abi::Errno;
use crate::abi::raw::general as g;
use crate::file::{self, FileId, FileKind};
use crate::fs::inode;
use crate::fs::seal::{ALL, EXEC, WRITES};
use crate::port::Ports;
use crate::vfs::node;

/// `F_GET_SEALS`. `EINVAL` for files that have none.
pub(crate) fn get(k: &Kernel, id: FileId) -> Result<u32, Errno> {
    let file = file::at(k, id);
    let inode = file.inode.ok_or(Errno::EINVAL)?;
    match k.seals.0.get(&inode) {
        Some(&seals) => Ok(seals),
        // Files of tmpfs can be asked, and can get none.
        None if file.kind == FileKind::Regular && inode::is_tmpfs(k, inode.fs) => {
            Ok(g::F_SEAL_SEAL)
        }
        None => Err(Errno::EINVAL),
    }
}

/// `F_ADD_SEALS`. `EPERM` if the file is not open for writing or takes no more seals, `EBUSY` if it is to be
/// sealed against writes while it is mapped for them.
pub(crate) fn add(k: &mut Kernel, p: &mut Ports<'_>, id: FileId, seals: u32) -> Result<(), Errno> {
    if !file::at(k, id).writable() {
        return Err(Errno::EPERM);
    }
    if seals & !ALL != 0 {
        return Err(Errno::EINVAL);
    }
    let old = get(k, id)?;
    if old & g::F_SEAL_SEAL != 0 {
        return Err(Errno::EPERM);
    }
    let inode = file::at(k, id).inode.ok_or(Errno::EINVAL)?;
    let new = seals & !old;
    if new & g::F_SEAL_WRITE != 0 && crate::mm::mapped::is_writable(k, inode) {
        return Err(Errno::EBUSY);
    }
    let mut seals = old | seals;
    if new & EXEC != 0 && node::attr(k, p, inode)?.mode & 0o111 != 0 {
        // A program that may be run must not change either.
        seals |= g::F_SEAL_SHRINK | g::F_SEAL_GROW | WRITES;
    }
    k.fs.seals.add(inode, seals);
    Ok(())
}
