//! The children of a process.

use alloc::collections::{BTreeMap, BTreeSet};

use super::Tasks;
use crate::machine::ThreadId;

/// The children of a process, by number: all, those of which there is something to wait for, and those that
/// each of its threads made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Children {
    all: BTreeSet<u32>,
    changed: BTreeSet<u32>,
    of_thread: BTreeSet<(ThreadId, u32)>,
}

impl Children {
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.all.iter().copied()
    }

    pub(crate) fn contains(&self, child: u32) -> bool {
        self.all.contains(&child)
    }

    /// Those that have ended, or of which a change is to be told.
    pub(crate) fn changed(&self) -> impl Iterator<Item = u32> + '_ {
        self.changed.iter().copied()
    }

    /// Those whose parent is this thread.
    pub(crate) fn of_thread(&self, thread: ThreadId) -> impl Iterator<Item = u32> + '_ {
        let range = (thread, 0)..=(thread, u32::MAX);
        self.of_thread.range(range).map(|&(_, child)| child)
    }

    fn add(&mut self, child: u32, thread: Option<ThreadId>, changed: bool) {
        self.all.insert(child);
        self.of_thread.extend(thread.map(|thread| (thread, child)));
        if changed {
            self.changed.insert(child);
        }
    }

    fn remove(&mut self, child: u32, thread: Option<ThreadId>) {
        self.all.remove(&child);
        self.changed.remove(&child);
        if let Some(thread) = thread {
            self.of_thread.remove(&(thread, child));
        }
    }
}

impl Tasks {
    /// A process has come to be its parent's child.
    pub(super) fn add_child(&mut self, tgid: u32) {
        if let Some(process) = self.groups.get(&tgid) {
            let (parent, thread) = (process.parent, process.parent_thread);
            let changed = process.zombie || process.report.is_some();
            if let Some(parent) = self.groups.get_mut(&parent) {
                parent.children.add(tgid, thread, changed);
            }
        }
    }

    /// A process is not its parent's child any longer.
    pub(super) fn remove_child(&mut self, tgid: u32) {
        if let Some(process) = self.groups.get(&tgid) {
            let (parent, thread) = (process.parent, process.parent_thread);
            if let Some(parent) = self.groups.get_mut(&parent) {
                parent.children.remove(tgid, thread);
            }
        }
    }

    /// Gives a process another parent.
    pub(super) fn set_parent(&mut self, tgid: u32, parent: u32, thread: Option<ThreadId>) {
        self.remove_child(tgid);
        if let Some(process) = self.groups.get_mut(&tgid) {
            (process.parent, process.parent_thread) = (parent, thread);
        }
        self.add_child(tgid);
    }

    /// What can be told of a process to its parent has changed.
    pub(super) fn changed(&mut self, tgid: u32) {
        self.remove_child(tgid);
        self.add_child(tgid);
    }

    /// The children of all processes as they should be known; for invariant checks.
    pub(super) fn all_children(&self) -> BTreeMap<u32, Children> {
        let mut all: BTreeMap<u32, Children> = BTreeMap::new();
        for process in self.groups.values() {
            let changed = process.zombie || process.report.is_some();
            let children = all.entry(process.parent).or_default();
            children.add(process.tgid, process.parent_thread, changed);
        }
        all
    }
}
