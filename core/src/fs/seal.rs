//! Seals of memory files (memfd_create(2), `F_ADD_SEALS` of fcntl(2)): what can no longer be done to them.

use alloc::collections::BTreeMap;

use crate::abi::raw::general as g;
use crate::abi::{Errno, PAGE_SIZE};
use crate::fs::FileSystems;
use crate::fs::filesystem::{Attr, InodeRef};
use crate::machine::Prot;

/// `F_SEAL_EXEC`: the permission to execute stays as it is.
pub(crate) const EXEC: u32 = 0x20;
pub(crate) const WRITES: u32 = g::F_SEAL_WRITE | g::F_SEAL_FUTURE_WRITE;
pub(crate) const ALL: u32 = g::F_SEAL_SEAL | g::F_SEAL_SHRINK | g::F_SEAL_GROW | WRITES | EXEC;

/// The seals of all memory files; other files have none, and can get none.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Seals(pub BTreeMap<InodeRef, u32>);

impl Seals {
    /// A new memory file.
    pub(crate) fn add(&mut self, inode: InodeRef, seals: u32) {
        self.0.insert(inode, seals);
    }

    /// The file is gone.
    pub(crate) fn forget(&mut self, inode: InodeRef) {
        self.0.remove(&inode);
    }

    fn of(&self, inode: InodeRef) -> u32 {
        self.0.get(&inode).copied().unwrap_or(0)
    }

    /// How many bytes may be written at a position. `EPERM` if none.
    pub(crate) fn check_write(
        &self,
        inode: InodeRef,
        attr: &Attr,
        at: u64,
        len: u64,
    ) -> Result<u64, Errno> {
        let seals = self.of(inode);
        if seals & WRITES != 0 && len > 0 {
            return Err(Errno::EPERM);
        }
        if seals & g::F_SEAL_GROW == 0 || at.saturating_add(len) <= attr.size {
            return Ok(len);
        }
        // Linux writes page by page: the pages before the last of the file are still filled.
        match (attr.size & !(PAGE_SIZE - 1)).saturating_sub(at) {
            0 => Err(Errno::EPERM),
            len => Ok(len),
        }
    }

    /// Whether a file's size may be changed. `EPERM`.
    pub(crate) fn check_size(&self, inode: InodeRef, attr: &Attr, size: u64) -> Result<(), Errno> {
        let seals = self.of(inode);
        let refused = size < attr.size && seals & g::F_SEAL_SHRINK != 0
            || size > attr.size && seals & g::F_SEAL_GROW != 0;
        if refused { Err(Errno::EPERM) } else { Ok(()) }
    }

    /// Whether bytes of a file may be made zeros (fallocate(2)). `EPERM`.
    pub(crate) fn check_punch(&self, inode: InodeRef) -> Result<(), Errno> {
        match self.of(inode) & WRITES {
            0 => Ok(()),
            _ => Err(Errno::EPERM),
        }
    }

    /// Whether a file's permissions may become these. `EPERM`.
    pub(crate) fn check_mode(&self, inode: InodeRef, attr: &Attr, mode: u32) -> Result<(), Errno> {
        match self.of(inode) & EXEC != 0 && (attr.mode ^ mode) & 0o111 != 0 {
            true => Err(Errno::EPERM),
            false => Ok(()),
        }
    }

    /// What a shared mapping may become. `EPERM` if it is to be written at once.
    pub(crate) fn check_map(&self, inode: InodeRef, prot: Prot, max: Prot) -> Result<Prot, Errno> {
        match self.of(inode) & WRITES {
            0 => Ok(max),
            _ if prot.contains(Prot::WRITE) => Err(Errno::EPERM),
            _ => Ok(max - Prot::WRITE),
        }
    }
}

/// The files that have seals, for invariant checks.
pub(crate) fn inodes(k: &FileSystems) -> impl Iterator<Item = InodeRef> + '_ {
    k.seals.0.keys().copied()
}
