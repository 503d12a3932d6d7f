//! Kinds of files whose work is done on higher floors: of tasks, and of what `proc` and `sysfs` show. What
//! they are for the files themselves stands here; [`FileOps`](super::ops::FileOps) is implemented above.

use alloc::vec::Vec;

use super::ops::OpenFile;
use super::{FileId, FileKind, Files};
use crate::machine::SpaceId;
use crate::port::Ports;

/// A file that the kernel makes (`proc`, `sysfs`). What has been made of it is kept above.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(crate) struct Made {
    /// Its own among all that were ever opened.
    pub number: u64,
    /// The memory that it tells of.
    pub space: Option<SpaceId>,
}

/// Numbers of open files that the kernel makes.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct MadeFiles {
    last: u64,
    /// Those that are closed: what was made of them goes ([`Kernel::take_notices`]).
    ///
    /// [`Kernel::take_notices`]: crate::Kernel::take_notices
    gone: Vec<u64>,
}

impl MadeFiles {
    /// One that is about to be opened.
    pub(crate) fn open(&mut self, space: Option<SpaceId>) -> FileKind {
        self.last += 1;
        FileKind::Made(Made {
            number: self.last,
            space,
        })
    }

    /// Takes the number of one that is closed.
    pub(crate) fn take_gone(&mut self) -> Option<u64> {
        self.gone.pop()
    }

    /// How many are left to be taken.
    pub(crate) fn gone(&self) -> usize {
        self.gone.len()
    }
}

impl OpenFile for Made {
    const POSITION: bool = true;
    const HOLDS: bool = true;

    fn release(k: &mut Files, _p: &mut Ports<'_>, _id: FileId, kind: FileKind) {
        if let FileKind::Made(made) = kind {
            k.made.gone.push(made.number);
            k.env.left = true;
        }
    }
}

/// The memory of a process (`/proc/PID/mem`).
pub(crate) struct Memory;

impl OpenFile for Memory {
    const POSITION: bool = true;
    const ADDRESSES: bool = true;
}

/// What the pages of a process are (`/proc/PID/pagemap`).
pub(crate) struct PageMap;

impl OpenFile for PageMap {
    const POSITION: bool = true;
    const ADDRESSES: bool = true;
}

/// A process or thread (pidfd_open(2)).
pub(crate) struct Process;

impl OpenFile for Process {
    const POSITION: bool = true;
}

/// Signals that are read (signalfd(2)).
pub(crate) struct Signals;

impl OpenFile for Signals {}
