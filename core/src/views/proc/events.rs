//! Files of `/proc` that can be waited for: mount tables and names of the system change, and poll(2) says so
//! once.

use super::view::View;
use crate::Kernel;
use crate::env::wait::WaitKey;
use crate::file::ready::{ERR, IN, OUT, PRI};
use crate::machine::ThreadId;

/// Where changes of a file are announced, and the number of the last one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Change {
    /// `None`: nothing ever changes.
    pub key: Option<WaitKey>,
    pub number: u64,
    /// What the file is ready for when nothing has changed.
    pub plain: u16,
}

impl Change {
    /// What the file is ready for: `seen` is the number that the program was told of.
    pub(crate) fn ready(&self, seen: u64) -> u16 {
        match self.number == seen {
            true => self.plain,
            false => IN | ERR | PRI,
        }
    }
}

/// The last change of a file that tells of the whole system, as a thread sees it; `None` for files that are
/// always ready.
pub(super) fn of_system(k: &Kernel, thread: ThreadId, path: &str) -> Option<Change> {
    let uts = k.tasks.get(thread)?.ns.uts;
    let number = match path {
        "sys/kernel/hostname" => k.ns.uts(uts).host_changes,
        "sys/kernel/domainname" => k.ns.uts(uts).domain_changes,
        // Nothing is ever swapped to (`swaps_poll()`).
        "swaps" => {
            return Some(Change {
                key: None,
                number: 0,
                plain: IN,
            });
        }
        _ => return None,
    };
    Some(Change {
        key: Some(WaitKey::Uts(uts)),
        number,
        plain: IN | OUT,
    })
}

/// The last change of the mount tables of a process, while it lives.
pub(super) fn of_mounts(k: &Kernel, view: View) -> Option<Change> {
    let ns = view.task(k).filter(|task| !task.exited)?.ns.mount;
    Some(Change {
        key: Some(WaitKey::Mounts(ns)),
        number: k.vfs.mounts.changes(ns),
        plain: IN,
    })
}

/// Whether a file of a process is a mount table that changes are told of.
pub(super) fn is_mount_table(path: &str) -> bool {
    matches!(path, "mounts" | "mountinfo")
}
