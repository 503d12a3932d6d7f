//! Files that are open to be written, and files that run as programs: none is both at a time (`i_writecount`
//! of Linux, `ETXTBSY`).

use crate::file::FileId;
use crate::file::Files;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;

use crate::abi::Errno;
use crate::fs::filesystem::InodeRef;

/// Bytes that an entry takes.
const ENTRY_COST: u64 = 64;

/// How many open files can write to a file, or, below zero, how many programs run it. Others are not in here.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Writers(BTreeMap<InodeRef, i32>);

impl Writers {
    fn add(&mut self, inode: InodeRef, change: i32) {
        let count = self.0.entry(inode).or_default();
        *count += change;
        if *count == 0 {
            self.0.remove(&inode);
        }
    }

    pub(crate) fn count(&self, inode: InodeRef) -> i32 {
        self.0.get(&inode).copied().unwrap_or(0)
    }

    /// Bytes that all entries take.
    pub(crate) fn held(&self) -> u64 {
        self.0.len() as u64 * ENTRY_COST
    }

    /// Whether a file may be written to. `ETXTBSY`.
    pub(crate) fn check_write(&self, inode: InodeRef) -> Result<(), Errno> {
        match self.count(inode) {
            ..0 => Err(Errno::ETXTBSY),
            _ => Ok(()),
        }
    }

    /// A file is opened to be written. `ETXTBSY`.
    pub(crate) fn write(&mut self, inode: InodeRef) -> Result<(), Errno> {
        self.check_write(inode)?;
        self.add(inode, 1);
        Ok(())
    }

    /// One that was opened to be written is closed.
    pub(crate) fn written(&mut self, inode: InodeRef) {
        self.add(inode, -1);
    }

    /// A file is run as a program, or looked at for that. `ETXTBSY`.
    pub(crate) fn run(&mut self, inode: InodeRef) -> Result<(), Errno> {
        match self.count(inode) {
            1.. => Err(Errno::ETXTBSY),
            _ => {
                self.add(inode, -1);
                Ok(())
            }
        }
    }

    /// A program is another one's, too: a process has copied itself, or starts what it has looked at.
    pub(crate) fn run_again(&mut self, inode: InodeRef) {
        self.add(inode, -1);
    }

    /// A program has ended.
    pub(crate) fn ran(&mut self, inode: InodeRef) {
        self.add(inode, 1);
    }
}

/// Whether what is open and what runs is counted rightly; for invariant checks. `programs` are the files that
/// processes run.
pub(crate) fn check(k: &Files, programs: impl Iterator<Item = FileId>) -> Result<(), String> {
    let mut counted = Writers::default();
    for (_, file) in k.open.iter() {
        if let Some(inode) = file.inode.filter(|_| file.counted) {
            counted.add(inode, 1);
        }
    }
    for program in programs {
        if let Some(inode) = k.file(program).and_then(|file| file.inode) {
            counted.add(inode, -1);
        }
    }
    match counted.0 == k.writers.0 {
        true => Ok(()),
        false => Err(format!(
            "{:?} are written or run, not {:?}",
            counted.0, k.writers.0
        )),
    }
}
