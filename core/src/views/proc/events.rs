//! Files of `/proc` that can be waited for: mount tables and names of the system change, and poll(2) says so
//! once.

use super::process::FILES;
use super::system::{Kind, PATHS};
use super::{Node, View};
use crate::Kernel;
use crate::env::wait::WaitKey;
use crate::file::ready::{ERR, IN, OUT, PRI};
use crate::fs::filesystem::Ino;
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

/// The last change of a file, as a thread sees it; `None` for files that are always ready.
pub(crate) fn of(k: &Kernel, thread: ThreadId, ino: Ino) -> Option<Change> {
    match Node::parse(ino)? {
        Node::File(view, place) if is_mount_table(place) => mounts(k, view),
        Node::System(place) => {
            let uts = k.tasks.get(thread)?.ns.uts;
            let number = match PATHS[place].0 {
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
        _ => None,
    }
}

fn mounts(k: &Kernel, view: View) -> Option<Change> {
    let ns = view.task(k).filter(|task| !task.exited)?.ns.mount;
    Some(Change {
        key: Some(WaitKey::Mounts(ns)),
        number: k.vfs.mounts.changes(ns),
        plain: IN,
    })
}

fn is_mount_table(place: usize) -> bool {
    matches!(FILES[place].0, "mounts" | "mountinfo")
}

/// Whether a file can be waited for with epoll(7): those of processes are made by other means in Linux.
pub(crate) fn can_wait(ino: Ino) -> bool {
    match Node::parse(ino) {
        Some(Node::System(place)) => !matches!(PATHS[place].1, Kind::Dir),
        Some(Node::File(_, place)) => is_mount_table(place) || FILES[place].0.starts_with("net/"),
        _ => false,
    }
}
